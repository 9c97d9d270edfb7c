//! A run as a whole: what it prints, how it ends, what it leaves, and that it can be stopped.

mod support;

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use serde_json::json;
use support::{Simulator, TestSpace};

/// Two stages on a generated repository.
fn space(simulator: &Simulator) -> TestSpace {
    let mut space = TestSpace::new();
    let repo = simulator.get("/_repos")[0].as_str().expect("a repository").to_owned();
    space.write(
        "pipeline.toml",
        format!(
            r#"
[pipeline]
name = "test"
[github]
base_url = "{0}/github"
[models.small]
base_url = "{0}/v1"
model = "tiny"
limits = {{ concurrency = 4 }}
[[tables.repos]]
repo = "{repo}"
[stages.items]
kind = "github"
inputs = ["repos"]
list = "/repos/{{{{ repo }}}}/issues?state=all&per_page=100"
pick = "{{id: .node_id, number, title}}"
key = ["id"]
outputs = ["data/items.jsonl"]
[stages.label]
kind = "llm"
inputs = ["items"]
model = "small"
prompt = "p.md"
schema = "s.json"
keep = ["number"]
outputs = ["data/labels.json", "data/labels.csv"]
"#,
            simulator.address
        ),
    );
    space.write("p.md", "Label {{ title }}");
    space.write(
        "s.json",
        r#"{"type": "object", "properties": {"label": {"type": "string", "enum": ["a", "b"]}},
            "required": ["label"], "additionalProperties": false}"#,
    );
    space.env("NO_COLOR", "1");
    space
}

fn simulator(items: &str) -> Simulator {
    Simulator::start(&["--repos", "1", "--items", items, "--seed", "5"])
}

#[test]
fn the_summary_has_the_promised_shape() {
    let simulator = simulator("20");
    let space = space(&simulator);
    let ran = space.run(&[]).expect(0);
    assert_eq!(ran.stdout.lines().count(), 1, "one object on stdout, the rest on stderr");
    let json = ran.json();
    let keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    let spent = ["tokens_in", "tokens_in_cached", "tokens_cache_written", "tokens_out", "cost_usd"];
    let whole = [&["stages", "calls", "calls_cached"][..], &spent, &["seconds"]].concat();
    assert_eq!(keys, whole);
    let stage = ran.stage("label");
    let keys: Vec<&str> = stage.as_object().unwrap().keys().map(String::as_str).collect();
    let each = [
        "name",
        "state",
        "rows",
        "rows_run",
        "rows_memo",
        "calls",
        "calls_cached",
        "failed_rows",
        "seconds",
    ];
    assert_eq!(keys, [&each[..], &spent].concat());
    assert_eq!(stage["rows"], 20);
    assert_eq!(stage["rows_run"], 20);
    // What people read goes to stderr.
    let plain = space.flow(&["run"]).expect(0);
    assert_eq!(plain.stdout, "");
    assert!(plain.stderr.contains("up to date"), "{}", plain.stderr);
    let quiet = space.flow(&["run", "-q"]).expect(0);
    assert_eq!(quiet.stderr, "");
}

#[test]
fn outputs_hold_the_rows_in_their_formats() {
    let simulator = simulator("12");
    let space = space(&simulator);
    space.run(&[]).expect(0);
    let items = space.rows("data/items.jsonl");
    let labels = space.rows("data/labels.json");
    let csv = space.read("data/labels.csv");
    assert_eq!((items.len(), labels.len(), csv.lines().count()), (12, 12, 13));
    assert!(csv.starts_with("id,number,label,_call\n"), "{csv}");
    for (item, label) in items.iter().zip(&labels) {
        assert_eq!(item["id"], label["id"], "rows come out in the order of the input");
    }
}

#[test]
fn outputs_that_are_gone_or_changed_are_restored() {
    let simulator = simulator("5");
    let space = space(&simulator);
    space.run(&[]).expect(0);
    let labels = space.read("data/labels.json");
    let asked = simulator.total();
    std::fs::remove_file(space.path().join("data/labels.csv")).unwrap();
    space.write("data/labels.json", "my notes");
    let ran = space.run(&[]).expect(0);
    assert_eq!(ran.states(), ["items up_to_date", "label up_to_date"]);
    assert_eq!(space.read("data/labels.json"), labels);
    assert_eq!(space.read("data/labels.json.edited"), "my notes", "nothing is lost");
    assert!(ran.stderr.contains("labels.csv was gone and is restored"), "{}", ran.stderr);
    assert!(ran.stderr.contains("labels.json.edited"), "{}", ran.stderr);
    // A second edit does not take the first one's place.
    space.write("data/labels.json", "other notes");
    space.run(&[]).expect(0);
    assert_eq!(space.read("data/labels.json.edited"), "my notes");
    assert_eq!(space.read("data/labels.json.edited.2"), "other notes");
    // The same bytes at another time are no edit.
    space.write("data/labels.json", &labels);
    space.run(&[]).expect(0);
    assert!(!space.exists("data/labels.json.edited.3"));
    assert_eq!(simulator.total(), asked);
}

#[test]
fn the_same_answers_give_the_same_bytes() {
    let simulator = simulator("40");
    let space = space(&simulator);
    space.run(&[]).expect(0);
    let before = (space.read("data/items.jsonl"), space.read("data/labels.json"));
    // From nothing but the recorded calls, and with answers that come in another order.
    space.flow(&["cassette", "calls.jsonl"]).expect(0);
    std::fs::remove_dir_all(space.path().join("cache")).unwrap();
    std::fs::remove_dir_all(space.path().join("data")).unwrap();
    let text = space.read("pipeline.toml");
    let profile = "[profiles.again]\ncassette = \"calls.jsonl\"\noffline = true\n";
    space.write(
        "pipeline.toml",
        format!("{}\n{profile}", text.replace("concurrency = 4", "concurrency = 1")),
    );
    let asked = simulator.total();
    let ran = space.run(&["--profile", "again"]).expect(0);
    assert_eq!(ran.json()["calls"], 0);
    assert_eq!(simulator.total(), asked);
    assert_eq!((space.read("data/items.jsonl"), space.read("data/labels.json")), before);
}

#[test]
fn what_follows_an_incomplete_stage_is_marked() {
    let simulator = simulator("6");
    let space = space(&simulator);
    let more = r#"
[stages.second]
kind = "llm"
inputs = ["label"]
model = "small"
prompt = "q.md"
schema = "s.json"
outputs = ["data/second.json"]
"#;
    space.write("pipeline.toml", format!("{}{more}", space.read("pipeline.toml")));
    space.edit("pipeline.toml", "model = \"tiny\"", "model = \"tiny\"\nattempts = 1");
    space.write("q.md", "Again {{ label }} {{ number }}");
    simulator.fault(json!({"path": "/v1", "status": 503, "times": 2}));
    let ran = space.run(&[]).expect(1);
    assert_eq!(ran.states(), ["items ran", "label incomplete", "second incomplete"]);
    assert_eq!(ran.stage("label")["rows"], 4);
    assert_eq!(ran.stage("second")["rows"], 4, "it runs on the rows there are");
    let again = space.run(&[]).expect(0);
    assert_eq!(again.states(), ["items up_to_date", "label ran", "second ran"]);
    assert_eq!(again.stage("label")["calls"], 2);
    assert_eq!(again.stage("second")["calls"], 2);
}

#[test]
fn a_second_run_in_the_folder_is_refused_with_who_holds_it() {
    let simulator = Simulator::start(&["--repos", "1", "--items", "5", "--latency-ms", "1500"]);
    let space = space(&simulator);
    let mut first = space.command(&["run"]).stderr(Stdio::piped()).spawn().unwrap();
    // The lock is held once the first request has come.
    while simulator.total() == 0 {
        std::thread::yield_now();
    }
    let second = space.run(&[]).expect(1);
    assert!(second.stderr.contains(&format!("process {}", first.id())), "{}", second.stderr);
    space.flow(&["graph"]).expect(0);
    space.flow(&["check"]).expect(0);
    assert!(first.wait().unwrap().success());
}

#[test]
fn ctrl_c_lets_what_is_under_way_land() {
    let simulator = Simulator::start(&["--repos", "1", "--items", "60", "--latency-ms", "300"]);
    let space = space(&simulator);
    let mut run = space
        .command(&["run", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while simulator.get("/_stats")["by_endpoint"]["POST /v1/chat/completions"].is_null() {
        std::thread::yield_now();
    }
    let signal = |child: &std::process::Child| {
        let id = child.id().to_string();
        let sent = std::process::Command::new("kill").args(["-INT", &id]).status().unwrap();
        assert!(sent.success());
    };
    signal(&run);
    let mut stderr = BufReader::new(run.stderr.take().unwrap());
    let mut told = String::new();
    stderr.read_line(&mut told).unwrap();
    stderr.read_to_string(&mut told).unwrap();
    let status = run.wait().unwrap();
    assert_eq!(status.code(), Some(130), "{told}");
    assert!(told.contains("no new calls") && told.contains("run again"), "{told}");
    let asked =
        simulator.get("/_stats")["by_endpoint"]["POST /v1/chat/completions"].as_u64().unwrap();
    assert!(asked < 60, "{asked}");
    let ran = space.run(&[]).expect(0);
    assert_eq!(ran.stage("label")["rows"], 60);
    let all =
        simulator.get("/_stats")["by_endpoint"]["POST /v1/chat/completions"].as_u64().unwrap();
    assert_eq!(all, 60, "what landed was stored and is not asked again");
}

#[test]
fn wrong_command_lines_are_exit_code_2() {
    let space = TestSpace::new();
    for arguments in [&["rum"][..], &["run", "--jsn"], &["graph", "--format", "gif"], &[]] {
        space.flow(arguments).expect(2);
    }
    let ran = space.flow(&["rum"]).expect(2);
    assert!(ran.stderr.contains("run"), "did you mean: {}", ran.stderr);
    let none = space.flow(&["run"]).expect(2);
    assert!(none.stderr.contains("there is no manifest"), "{}", none.stderr);
}

#[test]
fn rows_that_ask_the_same_ahead_of_their_table_lose_none() {
    // Slow enough that rows still run when their table is there.
    let simulator =
        Simulator::start(&["--repos", "2", "--items", "60", "--seed", "5", "--latency-ms", "150"]);
    let space = space(&simulator);
    let other = simulator.get("/_repos")[1].as_str().expect("a repository").to_owned();
    space.edit(
        "pipeline.toml",
        "[stages.items]",
        &format!("[[tables.repos]]\nrepo = \"{other}\"\n[stages.items]"),
    );
    space.edit("pipeline.toml", "number, title}", "number, title, g: (.number / 2 | floor)}");
    space.edit("pipeline.toml", "per_page=100", "per_page=30");
    space.edit("pipeline.toml", "keep = [\"number\"]", "key = [\"g\"]");
    space.write("p.md", "Label {{ g }}");
    let ran = space.run(&[]).expect(0);
    assert_eq!(ran.stage("label")["rows"], 31);
    let labels = space.read("data/labels.json");
    assert_eq!(space.run(&["--force"]).expect(0).stage("label")["rows"], 31);
    assert_eq!(space.read("data/labels.json"), labels);
}

/// Every file below `folder`.
fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn what_is_damaged_in_the_store_is_made_again() {
    let simulator = simulator("30");
    let space = space(&simulator);
    space.run(&[]).expect(0);
    let labels = space.read("data/labels.json");
    let asked = simulator.total();
    for damage in [&b"no chunk at all"[..], &b""[..]] {
        for object in files(&space.path().join("cache/objects")) {
            std::fs::write(object, damage).unwrap();
        }
        std::fs::remove_dir_all(space.path().join("data")).unwrap();
        // A run may find it out while it works; the next one has made it anew.
        let runs = (0..4).map(|_| space.run(&[])).take_while(|ran| ran.code != 0).count();
        assert!(runs < 4, "it never heals");
        assert_eq!(space.read("data/labels.json"), labels);
    }
    assert_eq!(simulator.total(), asked, "from what was answered, without a call");
}

#[test]
fn an_empty_store_does_not_replace_a_cassette() {
    let simulator = simulator("3");
    let space = space(&simulator);
    space.write("calls.jsonl", "{}\n");
    let ran = space.flow(&["cassette", "calls.jsonl"]).expect(1);
    assert!(ran.stderr.contains("no call is stored"), "{}", ran.stderr);
    assert_eq!(space.read("calls.jsonl"), "{}\n");
    // One that holds something else is told before anything runs.
    space.write(
        "pipeline.toml",
        format!("{}[profiles.p]\ncassette = \"calls.jsonl\"\n", space.read("pipeline.toml")),
    );
    let ran = space.flow(&["check", "--profile", "p"]).expect(2);
    assert!(ran.stderr.contains("calls.jsonl, line 1"), "{}", ran.stderr);
}
