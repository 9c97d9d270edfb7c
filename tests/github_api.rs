//! GitHub as it is: the simulator's answers are held against GitHub's own OpenAPI description, and
//! exchanges that were recorded from GitHub replay through `flow`.
//!
//! Both come from npm's packages and are fetched by `tests/real/install-github.sh`. Where they are
//! missing these tests say so; in CI they fail.

mod support;

use std::collections::{BTreeSet, HashMap};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use jsonschema::error::ValidationErrorKind;
use jsonschema::{Draft, ValidationError, Validator};
use serde_json::{Map, Value, json};
use support::{Simulator, TestSpace, missing, repository};

fn fetched(file: &str) -> Option<Value> {
    let path: PathBuf = repository().join("target/real/github").join(file);
    let Ok(text) = std::fs::read(&path) else {
        missing(&format!("GitHub's {file}; tests/real/install-github.sh fetches it"));
        return None;
    };
    Some(serde_json::from_slice(&text).expect("JSON"))
}

/// An answer of the simulator's that is not as GitHub describes it.
struct Deviation {
    /// The endpoint and the status, or `event` and its name.
    of: &'static str,
    /// The place in the body; `*` is any element of a list.
    at: &'static str,
    is: &'static [&'static str],
}

/// All of them. One that is not found any more fails the test, as does one that is not told here.
const DEVIATIONS: &[Deviation] = &[
    // The description does not allow for null here, as it does where the same fields are told
    // elsewhere. GitHub answers null for a label without description and an issue without text.
    Deviation {
        of: "/repos/{owner}/{repo}/pulls 200",
        at: "/*/labels/*/description",
        is: &["is null"],
    },
    Deviation { of: "/search/issues 200", at: "/items/*/body", is: &["is null"] },
    // Nor does it tell of items that are blocked.
    Deviation {
        of: "/repos/{owner}/{repo}/issues/{issue_number} 451",
        at: "",
        is: &["is not described"],
    },
    // What follows is left out, and flow reads none of it. It stays so because the sample is a
    // recording of the simulator, which would have to be made anew.
    Deviation { of: "/repos/{owner}/{repo}/pulls 200", at: "/*/base/repo", is: REPOSITORY },
    Deviation { of: "/repos/{owner}/{repo}/pulls 200", at: "/*/head/repo", is: REPOSITORY },
    Deviation {
        of: "/repos/{owner}/{repo}/pulls/{pull_number} 200",
        at: "/base/repo",
        is: REPOSITORY,
    },
    Deviation {
        of: "/repos/{owner}/{repo}/pulls/{pull_number} 200",
        at: "/head/repo",
        is: REPOSITORY,
    },
    Deviation { of: "event cross-referenced", at: "/source/issue/repository", is: REPOSITORY },
    Deviation {
        of: "/repos/{owner}/{repo}/pulls/{pull_number} 200",
        at: "",
        is: &["lacks maintainer_can_modify"],
    },
    Deviation {
        of: "/repos/{owner}/{repo}/pulls/{pull_number}/comments 200",
        at: "/*",
        is: &["lacks _links"],
    },
    Deviation { of: "event closed", at: "", is: &["lacks performed_via_github_app"] },
    Deviation { of: "event connected", at: "", is: &["lacks performed_via_github_app"] },
    Deviation { of: "event disconnected", at: "", is: &["lacks performed_via_github_app"] },
    Deviation { of: "event labeled", at: "", is: &["lacks performed_via_github_app"] },
    Deviation { of: "event merged", at: "", is: &["lacks performed_via_github_app"] },
];

/// What a repository lacks inside of another object.
const REPOSITORY: &[&str] = &[
    "lacks archive_url",
    "lacks assignees_url",
    "lacks blobs_url",
    "lacks branches_url",
    "lacks clone_url",
    "lacks collaborators_url",
    "lacks comments_url",
    "lacks compare_url",
    "lacks contents_url",
    "lacks contributors_url",
    "lacks deployments_url",
    "lacks downloads_url",
    "lacks forks_url",
    "lacks git_commits_url",
    "lacks git_refs_url",
    "lacks git_tags_url",
    "lacks git_url",
    "lacks has_downloads",
    "lacks has_pages",
    "lacks hooks_url",
    "lacks issue_events_url",
    "lacks keys_url",
    "lacks languages_url",
    "lacks merges_url",
    "lacks milestones_url",
    "lacks mirror_url",
    "lacks notifications_url",
    "lacks releases_url",
    "lacks ssh_url",
    "lacks stargazers_url",
    "lacks statuses_url",
    "lacks subscribers_url",
    "lacks subscription_url",
    "lacks svn_url",
    "lacks tags_url",
    "lacks teams_url",
    "lacks trees_url",
];

/// The endpoints that the simulator serves, as the description calls them.
const ENDPOINTS: [&str; 15] = [
    "/rate_limit",
    "/repos/{owner}/{repo}",
    "/repos/{owner}/{repo}/issues",
    "/repos/{owner}/{repo}/issues/{issue_number}",
    "/repos/{owner}/{repo}/issues/{issue_number}/comments",
    "/repos/{owner}/{repo}/issues/{issue_number}/events",
    "/repos/{owner}/{repo}/issues/{issue_number}/timeline",
    "/repos/{owner}/{repo}/pulls",
    "/repos/{owner}/{repo}/pulls/{pull_number}",
    "/repos/{owner}/{repo}/pulls/{pull_number}/comments",
    "/repos/{owner}/{repo}/pulls/{pull_number}/commits",
    "/repos/{owner}/{repo}/pulls/{pull_number}/files",
    "/repos/{owner}/{repo}/pulls/{pull_number}/reviews",
    "/search/issues",
    "/user",
];

/// The schema of each event that the simulator tells. The description of a timeline takes any object
/// for an event, since some of its kinds require nothing; so each is held to its own kind as well.
/// Links by hand have none of their own: they have what a change of state has.
const EVENTS: [(&str, &str); 8] = [
    ("closed", "state-change-issue-event"),
    ("commented", "timeline-comment-event"),
    ("connected", "state-change-issue-event"),
    ("cross-referenced", "timeline-cross-referenced-event"),
    ("disconnected", "state-change-issue-event"),
    ("labeled", "labeled-issue-event"),
    ("merged", "state-change-issue-event"),
    ("reviewed", "timeline-reviewed-event"),
];

/// Answers held against the description.
struct Held {
    description: Value,
    validators: HashMap<String, Option<Validator>>,
    /// What was found: of which answer, at which place, what is wrong.
    found: BTreeSet<(String, String, String)>,
    /// The endpoints and events of which there was something to hold.
    seen: BTreeSet<String>,
}

impl Held {
    fn against(description: Value) -> Held {
        let (validators, found, seen) = Default::default();
        Held { description, validators, found, seen }
    }

    #[track_caller]
    fn ask(&mut self, simulator: &Simulator, path: &str, status: u16) -> Value {
        self.ask_with(simulator, path, &[], status)
    }

    /// Asks for `path` with the headers, and holds the answer against what is described of it.
    #[track_caller]
    fn ask_with(
        &mut self,
        simulator: &Simulator,
        path: &str,
        headers: &[(&str, &str)],
        status: u16,
    ) -> Value {
        let reply = simulator.send("GET", &format!("/github{path}"), headers, "");
        assert_eq!(reply.status, status, "{path}: {}", reply.body);
        let endpoint = self.endpoint(path);
        let of = format!("{endpoint} {status}");
        if status == 304 {
            let described = self.response(&endpoint, status).expect("it is described");
            assert_eq!((reply.body.as_str(), described.get("content")), ("", None));
            return Value::Null;
        }
        let body: Value = serde_json::from_str(&reply.body).expect("JSON");
        // Of what most errors hold the description requires nothing.
        assert!(status == 200 || body["message"].is_string(), "{path}: {body}");
        let response = self.response(&endpoint, status);
        let schema = response.map(|it| it["content"]["application/json"]["schema"].clone());
        self.hold(&of, schema, &body);
        let events = body.as_array().into_iter().flatten();
        for event in events.filter(|it| path.contains("/issues/") && it["event"].is_string()) {
            let name = event["event"].as_str().expect("a text");
            let (_, kind) = EVENTS.iter().find(|(event, _)| *event == name).expect(name);
            let schema = json!({ "$ref": format!("#/components/schemas/{kind}") });
            self.hold(&format!("event {name}"), Some(schema), event);
            self.seen.insert(name.to_owned());
        }
        if status == 200 && body.as_array().is_none_or(|list| !list.is_empty()) {
            self.seen.insert(endpoint);
        }
        body
    }

    /// The described endpoint that a path means. Paths by a repository's number are not described;
    /// they mean what those by its name do.
    fn endpoint(&self, path: &str) -> String {
        let path = path.split('?').next().unwrap_or_default();
        let path = match path.strip_prefix("/repositories/") {
            Some(rest) => format!("/repos/owner/{rest}"),
            None => path.to_owned(),
        };
        let fits = |endpoint: &&String| {
            let (parts, names) = (path.split('/'), endpoint.split('/'));
            parts.clone().count() == names.clone().count()
                && parts.zip(names).all(|(part, name)| name.starts_with('{') || part == name)
        };
        let endpoints = self.description["paths"].as_object().expect("paths").keys();
        // Of those that fit, the one that leaves the least open.
        let found = endpoints.filter(fits).min_by_key(|endpoint| endpoint.matches('{').count());
        found.unwrap_or_else(|| panic!("{path} is not described")).clone()
    }

    fn response(&self, endpoint: &str, status: u16) -> Option<&Value> {
        let responses = &self.description["paths"][endpoint]["get"]["responses"];
        let response = responses.get(status.to_string())?;
        match response["$ref"].as_str() {
            Some(address) => self.description.pointer(address.strip_prefix('#')?),
            None => Some(response),
        }
    }

    /// Notes what is wrong with a body; that there is no schema is wrong, too.
    fn hold(&mut self, of: &str, schema: Option<Value>, body: &Value) {
        if !self.validators.contains_key(of) {
            let validator = schema.map(|schema| validator(&self.description, schema));
            self.validators.insert(of.to_owned(), validator);
        }
        let faults = match &self.validators[of] {
            Some(validator) => validator.iter_errors(body).flat_map(|it| faults(&it)).collect(),
            None => vec![(String::new(), "is not described".to_owned())],
        };
        self.found.extend(faults.into_iter().map(|(at, is)| (of.to_owned(), at, is)));
    }

    /// Nothing was left out, and nothing is wrong but what is known.
    #[track_caller]
    fn finish(self) {
        let all: BTreeSet<&str> =
            ENDPOINTS.into_iter().chain(EVENTS.map(|(event, _)| event)).collect();
        let seen: BTreeSet<&str> = self.seen.iter().map(String::as_str).collect();
        assert_eq!(seen, all);
        let known: BTreeSet<(String, String, String)> = (DEVIATIONS.iter())
            .flat_map(|it| it.is.iter().map(|is| (it.of.into(), it.at.into(), (*is).into())))
            .collect();
        let told = |these: Vec<&(String, String, String)>| {
            these.iter().map(|(of, at, is)| format!("\n{of}: {at} {is}")).collect::<String>()
        };
        let new = told(self.found.difference(&known).collect());
        let gone = told(known.difference(&self.found).collect());
        assert!(new.is_empty(), "the simulator is not as GitHub describes it: {new}");
        assert!(gone.is_empty(), "known deviations that are there no more: {gone}");
    }
}

/// A validator of a schema with all that it refers to.
fn validator(description: &Value, mut schema: Value) -> Validator {
    let (mut parts, mut waiting) = (Map::new(), Vec::new());
    plain(&mut schema, &mut waiting);
    while let Some(address) = waiting.pop() {
        let name = address.strip_prefix("#/components/schemas/").expect("a schema").to_owned();
        if !parts.contains_key(&name) {
            let mut part = description.pointer(&address[1..]).expect("it is there").clone();
            plain(&mut part, &mut waiting);
            parts.insert(name, part);
        }
    }
    let whole = json!({ "allOf": [schema], "components": { "schemas": parts } });
    let options = jsonschema::options().with_draft(Draft::Draft4).should_validate_formats(true);
    options.build(&whole).expect("a schema")
}

/// Makes a schema of OpenAPI 3.0 one of JSON Schema, and tells what it refers to.
fn plain(schema: &mut Value, refers: &mut Vec<String>) {
    match schema {
        Value::Array(schemas) => schemas.iter_mut().for_each(|schema| plain(schema, refers)),
        Value::Object(object) => {
            if let Some(address) = object.get("$ref").and_then(Value::as_str) {
                refers.push(address.to_owned());
            }
            let values = |name: &str| ["enum", "example", "examples", "default"].contains(&name);
            let inner = object.iter_mut().filter(|(name, _)| !values(name));
            inner.for_each(|(_, schema)| plain(schema, refers));
            if object.remove("nullable") == Some(Value::Bool(true)) {
                *schema = json!({ "anyOf": [{ "type": "null" }, object] });
            }
        }
        _ => {}
    }
}

/// What is wrong, and where: of several schemas that could fit, by the one that fits best.
fn faults(error: &ValidationError<'_>) -> Vec<(String, String)> {
    use ValidationErrorKind::{AnyOf, OneOfNotValid, Required, Type};
    let at = error.instance_path();
    if let AnyOf { context } | OneOfNotValid { context } = error.kind() {
        let wrong_type =
            |it: &ValidationError<'_>| matches!(it.kind(), Type { .. }) && it.instance_path() == at;
        let meant = context.iter().filter(|errors| !errors.iter().any(wrong_type));
        let faults = meant.map(|errors| errors.iter().flat_map(faults).collect::<Vec<_>>());
        if let Some(fewest) = faults.min_by_key(Vec::len) {
            return fewest;
        }
    }
    let place = at.to_string();
    let parts = place.split('/').map(|part| if part.parse::<u64>().is_ok() { "*" } else { part });
    let is = match error.kind() {
        Required { property } => format!("lacks {}", property.as_str().unwrap_or_default()),
        Type { .. } => format!("is {}", error.instance()),
        _ => error.to_string(),
    };
    vec![(parts.collect::<Vec<_>>().join("/"), is)]
}

/// All that can be asked about what the simulator has.
fn ask_everything(held: &mut Held, simulator: &Simulator) {
    held.ask(simulator, "/user", 200);
    for name in simulator.get("/_repos").as_array().expect("names") {
        let repo = format!("/repos/{}", name.as_str().expect("a name"));
        let told = held.ask(simulator, &repo, 200);
        held.ask(simulator, &format!("/repositories/{}", told["id"]), 200);
        held.ask(simulator, &format!("/search/issues?q=repo:{}", &repo[7..]), 200);
        held.ask(simulator, &format!("{repo}/pulls?state=all&per_page=100"), 200);
        let items = held.ask(simulator, &format!("{repo}/issues?state=all&per_page=100"), 200);
        for item in items.as_array().expect("a list") {
            let issue = format!("{repo}/issues/{}", item["number"]);
            for part in ["", "/comments", "/events", "/timeline"] {
                held.ask(simulator, &format!("{issue}{part}"), 200);
            }
            if item.get("pull_request").is_some() {
                for part in ["", "/comments", "/commits", "/files", "/reviews"] {
                    let pull = issue.replace("/issues/", "/pulls/");
                    held.ask(simulator, &format!("{pull}{part}"), 200);
                }
            }
        }
    }
}

#[test]
fn the_simulator_answers_as_github_describes_itself() {
    let Some(description) = fetched("api.github.com.json") else { return };
    assert_eq!(description["openapi"], "3.0.3", "`plain` knows how this version writes schemas");
    let mut held = Held::against(description);

    ask_everything(&mut held, &Simulator::start(&["--repos", "1", "--items", "40"]));
    ask_everything(&mut held, &Simulator::sample());

    // The sample has no diff that is too large, no address but its own, and nothing that is gone.
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("items.jsonl");
    let renamed = "diff --git a/old.md b/now.md\nsimilarity index 100%\nrename from old.md\nrename to now.md\n";
    let pull = "https://simulator.invalid/o/n/pull/2";
    let lines = [
        json!({"rename": {"from": "was/n", "to": "o/n"}}),
        json!({"repo": "o/n", "number": 1, "title": "t", "user": "helper[bot]", "labels": ["a b"],
            "connected": [pull], "disconnected": [pull]}),
        json!({"repo": "o/n", "number": 2, "title": "p", "kind": "pull", "diff": renamed,
            "body": "b"}),
        json!({"repo": "o/n", "number": 3, "title": "l", "kind": "pull", "diff": renamed,
            "diff_too_large": true}),
        json!({"repo": "o/n", "number": 4, "gone": 410}),
        json!({"repo": "o/n", "number": 5, "gone": 451}),
        json!({"repo": "o/n", "number": 6, "title": "m", "moved_to": {"repo": "o/m", "number": 1}}),
        json!({"number": 7, "title": "flat", "comments": 2, "state": "closed",
            "created_at": "2023-03-10T21:33:07+00:00", "closed_at": "2023-03-12T06:22:47+00:00",
            "html_url": "https://simulator.invalid/o/n/issues/7"}),
    ];
    std::fs::write(&data, lines.map(|line| line.to_string() + "\n").concat()).expect("written");
    let data = ["--data", data.to_str().expect("UTF-8")];
    let simulator = Simulator::start(&data);
    ask_everything(&mut held, &simulator);

    for path in ["/repos/none/none", "/repos/o/n/issues/99", "/repos/o/n/pulls/99", "/rate_limit"] {
        held.ask(&simulator, path, 404);
    }
    for path in ["/repos/was/n", "/repos/was/n/issues", "/repos/o/n/issues/6"] {
        held.ask(&simulator, path, 301);
    }
    for path in ["/repos/o/n/issues/4", "/repos/o/n/issues/4/comments"] {
        held.ask(&simulator, path, 410);
    }
    held.ask(&simulator, "/repos/o/n/issues/5", 451);
    let diff = [("accept", "application/vnd.github.diff")];
    held.ask_with(&simulator, "/repos/o/n/pulls/3", &diff, 406);
    let first = simulator.send("GET", "/github/repos/o/n/issues/1", &[], "");
    let etag = [("if-none-match", first.headers["etag"].as_str())];
    held.ask_with(&simulator, "/repos/o/n/issues/1", &etag, 304);
    for query in ["q=", "q=repo:none/none", "q=repo:o/n&per_page=100&page=11"] {
        held.ask(&simulator, &format!("/search/issues?{query}"), 422);
    }

    let walled = Simulator::start(&[&data[..], &["--list-wall", "1"]].concat());
    held.ask(&walled, "/repos/o/n/issues?state=all&per_page=1&page=2", 422);
    held.ask(&walled, "/repos/o/n/pulls?state=all&per_page=1&page=2", 422);

    let limited = Simulator::start(&[&data[..], &["--github-limit", "1/h"]].concat());
    held.ask(&limited, "/rate_limit", 200);
    for status in [200, 403] {
        held.ask(&limited, "/repos/o/n", status);
        held.ask(&limited, "/search/issues?q=repo:o/n", status);
    }

    held.finish();
}

const GITHUB: &str = "https://api.github.com";

/// A server that answers as GitHub once did, and remembers what it was asked.
struct Recorded {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Recorded {
    /// Serves for as long as the tests run.
    fn serve(exchanges: Vec<Value>) -> Recorded {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let (here, noted, exchanges) = (address.clone(), asked.clone(), Arc::new(exchanges));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (here, noted, exchanges) = (here.clone(), noted.clone(), exchanges.clone());
                std::thread::spawn(move || answer(&stream, &exchanges, &here, &noted));
            }
        });
        Recorded { address, asked }
    }

    /// What it was asked, in whatever order that came.
    fn asked(&self) -> Vec<String> {
        let mut asked = self.asked.lock().expect("the list").clone();
        asked.sort();
        asked
    }
}

/// Answers one request; the recorded answers close their connections.
fn answer(mut stream: &TcpStream, exchanges: &[Value], here: &str, asked: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    lines.take_while(|line| !line.is_empty()).for_each(drop);
    let request = request.trim_end_matches(" HTTP/1.1").to_owned();
    let unknown = json!({ "status": 404, "headers": {}, "response": {} });
    let exchange = exchanges.iter().find(|it| told(it) == request).unwrap_or(&unknown);
    let body = exchange["response"].to_string().replace(GITHUB, here);
    let mut head = format!("HTTP/1.1 {} recorded\r\n", exchange["status"]);
    for (name, value) in exchange["headers"].as_object().expect("headers") {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if name != "content-length" {
            head += &format!("{name}: {}\r\n", value.replace(GITHUB, here));
        }
    }
    asked.lock().expect("the list").push(request);
    // A client that has left misses nothing.
    let _ = write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len());
}

/// The request of an exchange.
fn told(exchange: &Value) -> String {
    let text = |name: &str| exchange[name].as_str().expect("a text");
    format!("{} {}", text("method").to_uppercase(), text("path"))
}

#[test]
fn what_github_once_answered_replays_through_flow() {
    let scenarios = ["paginate-issues", "rename-repository", "search-issues"];
    let scenarios = scenarios.map(|name| fetched(&format!("{name}.json")));
    let [Some(pages), Some(rename), Some(search)] = scenarios else { return };
    let exchanges = [pages, rename, search].map(|it| it.as_array().expect("exchanges").clone());
    let mut exchanges = exchanges.concat();
    // Those that rename the repository and describe it anew are PATCH: flow changes nothing on
    // GitHub, and asks what comes after.
    exchanges.retain(|exchange| exchange["method"] == "get");
    let mut recorded: Vec<String> = exchanges.iter().map(told).collect();
    recorded.sort();
    assert_eq!(recorded.len(), 5 + 2 + 1);

    let github = Recorded::serve(exchanges);
    let space = TestSpace::new();
    let manifest = r#"
[pipeline]
name = "recorded"
[github]
base_url = "ADDRESS"
[[tables.orgs]]
org = "octokit-fixture-org"
[stages.pages]
kind = "github"
inputs = ["orgs"]
list = "/repos/{{ org }}/paginate-issues/issues?per_page=3"
pick = "{number, title, repository_url}"
key = ["number"]
outputs = ["data/pages.json"]
[stages.renamed]
kind = "github"
inputs = ["orgs"]
get = "/repos/{{ org }}/rename-repository"
pick = "{id, full_name}"
outputs = ["data/renamed.json"]
[stages.found]
kind = "github"
inputs = ["orgs"]
list = "/search/issues?q=sesame%20repo%3A{{ org }}%2Fsearch-issues"
pick = "{number, title}"
key = ["number"]
outputs = ["data/found.json"]
"#;
    space.write("pipeline.toml", manifest.replace("ADDRESS", &github.address));
    space.run(&[]).expect(0);

    let pages = space.rows("data/pages.json");
    let numbers: Vec<u64> = pages.iter().map(|row| row["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=13).rev().collect::<Vec<_>>(), "all five pages, in their order");
    assert_eq!(pages[12]["title"], "Test issue 1");
    let to = format!("{}/repositories/1000", github.address);
    let moved = json!({"status": 301, "reason": "moved", "to": to});
    let now = "octokit-fixture-org/rename-repository-newname";
    assert_eq!(
        space.rows("data/renamed.json"),
        [json!({"org": "octokit-fixture-org", "id": 1000, "full_name": now, "_outcome": moved})]
    );
    assert_eq!(
        space.rows("data/found.json"),
        [
            json!({"number": 2, "title": "Sesame seeds split without a pop!"}),
            json!({"number": 1, "title": "The doors don’t open"}),
        ]
    );
    assert_eq!(github.asked(), recorded, "all of it, each once");

    let again = space.run(&[]).expect(0);
    assert_eq!(again.states(), ["pages up_to_date", "renamed up_to_date", "found up_to_date"]);
    assert_eq!(github.asked(), recorded);
}
