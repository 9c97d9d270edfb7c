//! `flow check --online`: one line for everything that a pipeline asks, and the reason where something
//! will not work.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

use serde_json::{Value, json};
use support::{Ran, Simulator, TestSpace};

const SECRET: &str = "a-secret-that-nobody-sees";
const REPO: &str = "acme/engine-1";

fn simulator() -> Simulator {
    Simulator::start(&["--repos", "2", "--items", "3", "--github-limit", "5000"])
}

/// A list of items, their ids by GraphQL, and a label for each by a model.
fn space(address: &str) -> TestSpace {
    let mut space = TestSpace::new();
    space.write(
        "pipeline.toml",
        format!(
            r#"
[pipeline]
name = "online"
[github]
base_url = "{address}/github"
token = {{ env = "GH" }}
[models.small]
base_url = "{address}/v1"
api_key = {{ env = "KEY" }}
model = "simulated"
[[tables.repos]]
repo = "{REPO}"
[stages.items]
kind = "github"
inputs = ["repos"]
list = "/repos/{{{{ repo }}}}/issues?state=all&per_page=100"
pick = "{{id: .node_id, title}}"
key = ["id"]
[stages.ids]
kind = "github"
inputs = ["items"]
graphql = "id.graphql"
[stages.label]
kind = "llm"
inputs = ["items"]
model = "small"
prompt = "label.md"
[profiles.still]
offline = true
"#
        ),
    );
    space.write("id.graphql", "query($id: ID!) { node(id: $id) { id } }");
    space.write("label.md", "Label {{ title }}");
    space.env("GH", SECRET).env("KEY", SECRET);
    space
}

fn check(space: &TestSpace) -> Ran {
    space.flow(&["check", "--online"])
}

/// The one line about `what`, as `state text`.
#[track_caller]
fn line(ran: &Ran, what: &str) -> String {
    let lines = ran.stdout.lines().filter_map(|line| line.trim().strip_prefix(what));
    let lines: Vec<&str> = lines.collect();
    let [line] = lines[..] else { panic!("{} lines of {what}\n{ran:?}", lines.len()) };
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn everything_that_answers_is_a_line_of_one_table() {
    let simulator = simulator();
    let space = space(&simulator.address);
    // Requests go side by side: one that is counted before.
    simulator.get("/github/user");
    let ran = check(&space).expect(0);
    assert_eq!(ran.stdout.lines().count(), 3, "{}", ran.stdout);
    let token = line(&ran, "token GH");
    assert!(token.starts_with("ok simulator-user (User); core 4,99"), "{token}");
    assert!(token.contains(" of 5,000, resets in ") && token.contains("graphql 5,000 of 5,000"));
    assert!(!token.contains("search"), "nothing searches: {token}");
    assert_eq!(line(&ran, &format!("repository {REPO}")), "ok answers");
    assert!(line(&ran, "model small").starts_with("ok simulated is there"));

    let ran = space.flow(&["check", "--online", "--json"]).expect(0);
    let told = ran.json();
    let kinds: Vec<&str> =
        told["checks"].as_array().unwrap().iter().filter_map(|it| it["kind"].as_str()).collect();
    assert_eq!(kinds, ["token", "repository", "model"]);
    let token = &told["checks"][0];
    assert_eq!((&token["name"], &token["state"]), (&json!("GH"), &json!("ok")));
    assert_eq!(token["limits"]["core"]["limit"], 5000);
    assert!(token["text"].as_str().unwrap().contains("graphql 5,000 of 5,000"), "{token}");

    assert!(!space.exists("cache"), "nothing is kept");
    space.flow(&["check", "--json"]).expect(2);
}

#[test]
fn a_renamed_repository_is_told_with_its_name() {
    let data = TestSpace::new();
    let item = json!({"repo": "old/name", "number": 1, "title": "t"});
    let rename = json!({"rename": {"from": "old/name", "to": "new/name"}});
    data.write("data.jsonl", format!("{item}\n{rename}\n"));
    let data = data.path().join("data.jsonl").to_str().expect("UTF-8").to_owned();
    let simulator = Simulator::start(&["--data", &data]);
    let space = space(&simulator.address);
    space.edit("pipeline.toml", REPO, "old/name");
    let ran = check(&space).expect(0);
    let told = line(&ran, "repository old/name");
    assert_eq!(told, "renamed is now new/name: put this name in `repos`");
    assert_eq!(line(&ran, "token GH"), "ok simulator-user (User); no limit announced");
    space.edit("pipeline.toml", "old/name", "New/Name");
    assert_eq!(line(&check(&space).expect(0), "repository New/Name"), "ok answers");
}

#[test]
fn repositories_are_those_that_rows_name() {
    let simulator = simulator();
    let space = space(&simulator.address);
    let file = "inputs = [\"repos.jsonl\"]\nwhere = \"passed != 'y'\"";
    space.edit("pipeline.toml", "inputs = [\"repos\"]", file);
    let rows = [
        json!({"repo": REPO, "number": 1, "passed": "n"}),
        json!({"repo": REPO, "number": 2, "passed": "n"}),
        json!({"repo": "acme/engine-2", "number": 1}),
        json!({"repo": "acme/none", "number": 1, "passed": "y"}),
    ];
    space.write("repos.jsonl", rows.map(|row| format!("{row}\n")).concat());
    let ran = check(&space).expect(0);
    assert_eq!(line(&ran, &format!("repository {REPO}")), "ok answers");
    assert_eq!(line(&ran, "repository acme/engine-2"), "ok answers");
    assert!(!ran.stdout.contains("acme/none"), "{}", ran.stdout);

    let row = |n: u32| format!("{}\n", json!({"repo": format!("acme/none-{n}"), "passed": "n"}));
    space.write("repos.jsonl", (0..103).map(row).collect::<String>());
    let ran = check(&space).expect(1);
    assert!(line(&ran, "repository (3 more)").starts_with("unknown not asked"));
    assert!(!ran.stdout.contains("acme/none-100"), "{}", ran.stdout);
    assert!(ran.stderr.ends_with("repository acme/none-4, and 95 more\n"), "{}", ran.stderr);
}

#[test]
fn what_will_not_work_has_its_reason() {
    let simulator = simulator();
    let space = space(&simulator.address);
    let repository = format!("repository {REPO}");
    let about = format!("/github/repos/{REPO}");
    let struck = |path: &str, status: u16, what: &str| {
        simulator.heal();
        simulator.fault(json!({"path": path, "status": status}));
        let ran = check(&space).expect(1);
        assert!(ran.stderr.contains(&format!("this will not work: {what}\n")), "{}", ran.stderr);
        line(&ran, what)
    };
    let told = struck("/github/user", 401, "token GH");
    assert!(told.starts_with("problem is refused (401: a fault ordered"), "{told}");
    let told = struck(&about, 404, &repository);
    assert!(told.starts_with("problem not found, or GH may not see it"), "{told}");
    let told = struck(&about, 451, &repository);
    assert!(told.starts_with("problem blocked for legal reasons (451"), "{told}");
    let told = struck(&about, 503, &repository);
    assert!(told.starts_with("problem does not answer (503"), "{told}");
    let told = struck("/v1/models", 401, "model small");
    assert!(told.starts_with("problem KEY is refused (401"), "{told}");

    // What only has to be waited for will work.
    simulator.heal();
    simulator.fault(json!({"path": about, "status": 429}));
    let told = line(&check(&space).expect(0), &repository);
    assert!(told.starts_with("unknown may not be asked now"), "{told}");
}

#[test]
fn what_fails_in_passing_is_asked_once_more() {
    let simulator = simulator();
    let space = space(&simulator.address);
    simulator.fault(json!({"path": "/github/repos", "status": 502, "times": 1}));
    simulator.fault(json!({"path": "/v1/models", "cut": true, "times": 1}));
    check(&space).expect(0);
    assert_eq!(simulator.total(), 4 + 2);
}

#[test]
fn a_model_is_looked_for_in_the_list_where_it_cannot_be_asked_for() {
    let simulator = simulator();
    let space = space(&simulator.address);
    simulator.fault(json!({"path": "/v1/models/", "status": 404}));
    assert!(line(&check(&space).expect(0), "model small").starts_with("ok simulated is there"));
    space.edit("pipeline.toml", "\"simulated\"", "\"simulate/d model\"");
    let told = line(&check(&space).expect(1), "model small");
    assert!(told.contains("has no model simulate/d model; did you mean `simulated`?"), "{told}");

    let lists = |models: Value| {
        simulator.heal();
        simulator.fault(json!({"path": "/v1/models/", "status": 405}));
        let body = json!({"object": "list", "data": models}).to_string();
        simulator.fault(json!({"path": "/v1/models", "status": 200, "body": body}));
        line(&check(&space).expect(0), "model small")
    };
    // It gives its one model any name.
    let told = lists(json!([{"id": "tiny.gguf", "owned_by": "llamacpp"}]));
    assert!(told.starts_with("ok ") && told.contains("with tiny.gguf"), "{told}");
    let told = lists(json!([]));
    assert!(
        told.starts_with("unknown ") && told.ends_with("answers, but lists no models"),
        "{told}"
    );
    simulator.heal();
    simulator.fault(json!({"path": "/v1/models", "status": 404}));
    let told = line(&check(&space).expect(0), "model small");
    assert!(told.ends_with("answers, but lists no models"), "{told}");
}

#[test]
fn keys_that_are_not_set_are_named() {
    let simulator = simulator();
    let mut space = space(&simulator.address);
    space.env("GH", " ").env("KEY", "");
    let ran = check(&space).expect(1);
    let token = line(&ran, "token GH");
    assert!(token.starts_with("problem is not set; GraphQL needs it, for stage `ids`"), "{token}");
    assert_eq!(line(&ran, "key KEY"), "problem is not set; model `small` cannot be asked without");
    assert_eq!(line(&ran, "model small"), "unknown not asked: KEY is not set");
    assert!(ran.stderr.ends_with("this will not work: token GH, key KEY\n"), "{}", ran.stderr);

    // REST goes without a token.
    space.edit("pipeline.toml", "graphql = \"id.graphql\"", "get = \"/repos/a/b/issues/{{ id }}\"");
    space.env("KEY", SECRET);
    let token = line(&check(&space).expect(0), "token GH");
    assert!(token.starts_with("ok is not set; 5000 requests an hour"), "{token}");
    space.edit("pipeline.toml", "token = { env = \"GH\" }", "");
    let ran = check(&space).expect(0);
    assert!(line(&ran, "server 127.0.0.1").contains("ok no token; 5000 requests"), "{ran:?}");
}

#[test]
fn a_server_that_is_not_there_is_a_reason() {
    // A port that is taken and that nobody listens on: the caller's end of a connection.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = TcpStream::connect(listener.local_addr().expect("its address")).expect("a way");
    let address = format!("http://{}", taken.local_addr().expect("its address"));
    let ran = check(&space(&address)).expect(1);
    for what in ["token GH", &format!("repository {REPO}"), "model small"] {
        let told = line(&ran, what);
        assert!(
            told.starts_with("problem 127.0.0.1:") && told.contains("does not answer"),
            "{told}"
        );
    }
}

#[test]
fn the_secrets_go_to_their_servers_alone() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("its address"));
    let server = std::thread::spawn(move || {
        let answer = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        let heads = listener.incoming().take(5).map(|stream| {
            let mut stream = stream.expect("a caller");
            let lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            stream.write_all(answer).expect("sent");
            head.join("\n").to_lowercase()
        });
        heads.collect::<Vec<String>>()
    });
    let ran = check(&space(&address)).expect(1);
    let heads = server.join().expect("five requests");
    assert!(heads.iter().all(|head| head.contains(&format!("authorization: bearer {SECRET}"))));
    assert_eq!(heads.iter().filter(|head| head.contains("x-github-api-version")).count(), 3);
    let token = line(&ran, "token GH");
    assert_eq!(token, "unknown the server names no account; no limit announced");

    let (simulator, other) = (simulator(), simulator());
    let to = format!("{}/github/repos/{REPO}", other.address);
    let sent_on = json!({"path": "/github/repos", "status": 301, "headers": {"location": to}});
    simulator.fault(sent_on);
    let told = line(&check(&space(&simulator.address)).expect(1), &format!("repository {REPO}"));
    assert!(told.starts_with("problem does not answer (301"), "{told}");
    assert_eq!(other.total(), 0);
}

#[test]
fn no_server_is_obeyed_and_no_secret_repeated() {
    let simulator = simulator();
    let space = space(&simulator.address);
    let said = format!("\u{1b}[2J\u{9b}31m{SECRET}\u{202e}\nline");
    let body = json!({"message": said, "login": said, "id": said, "full_name": said}).to_string();
    for status in [200, 401] {
        simulator.heal();
        for path in ["/github/user", "/github/repos", "/v1/models"] {
            simulator.fault(json!({"path": path, "status": status, "body": body}));
        }
        for arguments in [&["check", "--online"][..], &["check", "--online", "--json"]] {
            let ran = space.flow(arguments);
            let told = format!("{}{}", ran.stdout, ran.stderr);
            assert!(told.contains("(secret)"), "it was said: {told}");
            assert!(!told.contains(SECRET), "{told}");
            assert!(!told.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{told:?}");
            assert!(!told.contains("\\u001b"), "{told}");
            assert!(!told.lines().any(|it| it.starts_with("line")), "{told}");
        }
    }
}

#[test]
fn a_profile_that_is_offline_asks_nobody() {
    let simulator = simulator();
    let space = space(&simulator.address);
    let ran = space.flow(&["check", "--online", "--profile", "still"]).expect(2);
    assert!(ran.stderr.contains("the profile `still` is offline: nobody is asked"), "{ran:?}");
    space.edit("pipeline.toml", "kind = \"llm\"", "kind = \"lm\"");
    check(&space).expect(2);
    assert_eq!(simulator.total(), 0);
}

#[test]
fn it_asks_while_a_run_works() {
    let simulator = simulator();
    let space = space(&simulator.address);
    let list = format!("/github/repos/{REPO}/issues");
    simulator.fault(json!({"path": list, "delay_ms": 600_000}));
    let mut run = space.command(&["run", "-q"]).spawn().expect("flow starts");
    while simulator.get("/_stats")["under_way"] != 1 {
        std::thread::yield_now();
    }
    let refused = space.run(&[]).expect(1);
    assert!(refused.stderr.contains("process"), "the store is held: {}", refused.stderr);
    let asked = check(&space);
    run.kill().and_then(|()| run.wait()).expect("it is our child");
    asked.expect(0);
}
