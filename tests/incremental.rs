//! Nothing runs twice. Each test is one edit of a study of 1,000 items that is up to date, and holds
//! exactly which stages then run, how many rows of them, and how many requests are sent.

mod support;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use support::{Ran, Simulator, TestSpace};

/// Issues and pull requests of each repository, and the pages that list them.
const EACH: u64 = 500;
const PAGES: u64 = 5;
/// Of the two repositories that the study begins with.
const ITEMS: u64 = 2 * EACH;
/// The rows of `notes`.
const NOTES: u64 = 2 * 50;

/// The simulator is a proxy, so the addresses are the same for every test, whichever process answers
/// it: one cold run serves them all.
const MANIFEST: &str = r#"[pipeline]
name = "engines"

[github]
base_url = "http://simulator.invalid/github"
token = { env = "GITHUB_TOKEN" }
concurrency = 6

[models.small]
base_url = "http://small.invalid/v1"
api_key = { env = "SMALL_KEY" }
model = "tiny"
temperature = 0
limits = { concurrency = 64 }

[models.other]
base_url = "http://other.invalid/v1"
model = "other"
limits = { concurrency = 64 }

[[tables.engines]]
engine = "one"
repo = "acme/engine-1"

[[tables.engines]]
engine = "two"
repo = "acme/engine-2"

[stages.items]
kind = "github"
inputs = ["engines"]
list = "/repos/{{ repo }}/issues?state=all&sort=created&direction=asc&per_page=100"
check_total = false
pick = "{id: .node_id, number, title, body, is_pr: has(\"pull_request\")}"
key = ["id"]
keep = ["engine"]
outputs = ["data/items.jsonl"]

[stages.classify]
kind = "llm"
inputs = ["items"]
model = "small"
prompt = "prompts/classify.md"
schema = "schemas/classify.json"
outputs = ["data/labels.json"]

[stages.notes]
kind = "llm"
inputs = ["items"]
where = "number <= 50"
model = "other"
prompt = "prompts/notes.md"
schema = "schemas/notes.json"
answers = "json_object"
outputs = ["data/notes.jsonl"]

[stages.merged]
kind = "sql"
inputs = ["items", "classify"]
query = "queries/merged.sql"
key = ["id"]
outputs = ["data/merged.json", "data/merged.csv"]

[stages.linked]
kind = "github"
inputs = ["merged"]
where = "is_pr"
graphql = "queries/linked.graphql"
batch = 25
pick = ".node | {pr_state: .state, closes: [.closingIssuesReferences.nodes[].id]}"
outputs = ["data/linked.json"]

[stages.stats]
kind = "sql"
inputs = ["merged", "linked"]
query = "queries/stats.sql"
key = ["engine", "label"]
outputs = ["data/stats.json"]
"#;

const FILES: [(&str, &str); 9] = [
    ("pipeline.toml", MANIFEST),
    (
        "prompts/classify.md",
        "{% include \"prompts/rules.md\" %}\n{{ title }}\n{{ (body or \"\")[:200] }}\n",
    ),
    ("prompts/rules.md", "Is it a bug, a question or a request?"),
    ("prompts/notes.md", "Answer as a JSON object with `answer` and `score`: {{ title }}"),
    (
        "schemas/classify.json",
        r#"{"type": "object", "additionalProperties": false, "required": ["label", "reason"],
            "properties": {"label": {"enum": ["bug", "question", "request"]},
                           "reason": {"type": "string"}}}"#,
    ),
    (
        "schemas/notes.json",
        r#"{"type": "object", "required": ["answer", "score"],
            "properties": {"answer": {"type": "string"}, "score": {"type": "integer"}}}"#,
    ),
    (
        "queries/merged.sql",
        "SELECT i.id, i.engine, i.number, i.is_pr, c.label
         FROM items i JOIN classify c USING (id) ORDER BY i.engine, i.number",
    ),
    (
        "queries/linked.graphql",
        "query ($id: ID!) { node(id: $id) { ... on PullRequest {
         state closingIssuesReferences(first: 50) { nodes { id } } } } }",
    ),
    (
        "queries/stats.sql",
        "SELECT m.engine, m.label, count(*) AS items, sum(l.pr_state IS 'MERGED') AS merged
         FROM merged m LEFT JOIN linked l USING (id) GROUP BY 1, 2 ORDER BY 1, 2",
    ),
];

const OUTPUTS: [&str; 7] = [
    "data/items.jsonl",
    "data/labels.json",
    "data/notes.jsonl",
    "data/merged.json",
    "data/merged.csv",
    "data/linked.json",
    "data/stats.json",
];

/// What a stage did: its name, the rows that it ran, the requests that it sent.
type Work<'a> = (&'a str, u64, u64);

/// A study that is up to date, and a simulator of its own.
struct Study {
    space: TestSpace,
    simulator: Simulator,
}

/// Every file of the study after its first run.
static WARM: OnceLock<Vec<(PathBuf, Vec<u8>)>> = OnceLock::new();

impl Study {
    /// In a folder with nothing in it.
    fn cold() -> Study {
        let each = EACH.to_string();
        let simulator = Simulator::start(&["--repos", "3", "--items", &each, "--seed", "11"]);
        let mut space = TestSpace::new();
        space
            .env("NO_COLOR", "1")
            .env("HTTP_PROXY", &simulator.address)
            .env("GITHUB_TOKEN", "a token")
            .env("SMALL_KEY", "a key");
        Study { space, simulator }
    }

    fn warm() -> Study {
        let files = WARM.get_or_init(|| {
            let study = Study::cold();
            FILES.iter().for_each(|(path, text)| study.space.write(path, text));
            let ran = study.space.run(&[]).expect(0);
            let pulls = study.pulls("one") + study.pulls("two");
            let all = [
                ("items", 2, 2 * PAGES),
                ("classify", ITEMS, ITEMS),
                ("notes", NOTES, NOTES),
                ("merged", ITEMS, 0),
                ("linked", pulls, pulls.div_ceil(25)),
                ("stats", study.groups(), 0),
            ];
            did(&ran, &all);
            let root = study.space.path();
            let name = |path: PathBuf| path.strip_prefix(root).expect("it is below").to_owned();
            let read = |path: PathBuf| (name(path.clone()), fs::read(&path).expect("it is read"));
            files(root).into_iter().map(read).collect()
        });
        let study = Study::cold();
        for (path, bytes) in files {
            study.space.write(path.to_str().expect("UTF-8"), bytes);
        }
        study
    }

    /// Runs, and holds that exactly `expected` was done, and that the simulator saw no more.
    #[track_caller]
    fn run(&self, more: &[&str], code: i32, expected: &[Work<'_>]) -> Ran {
        self.simulator.reset();
        let ran = self.space.run(more).expect(code);
        did(&ran, expected);
        let calls: u64 = expected.iter().map(|(_, _, calls)| calls).sum();
        assert_eq!(ran.json()["calls"], calls);
        assert_eq!(self.simulator.total(), calls, "what the simulator was asked");
        ran
    }

    /// Runs, and holds that everything is as it was.
    #[track_caller]
    fn nothing(&self, more: &[&str]) -> Ran {
        let ran = self.run(more, 0, &[]);
        let states = ran.states();
        assert_eq!(states.len(), 6);
        assert!(states.iter().all(|state| state.ends_with(" up_to_date")), "{states:?}");
        ran
    }

    fn edit(&self, path: &str, from: &str, to: &str) {
        self.space.edit(path, from, to);
    }

    /// The bytes of every output.
    fn outputs(&self) -> BTreeMap<&'static str, String> {
        OUTPUTS.into_iter().map(|path| (path, self.space.read(path))).collect()
    }

    /// The pull requests of an engine.
    fn pulls(&self, engine: &str) -> u64 {
        let items = self.space.rows("data/items.jsonl").into_iter();
        items.filter(|item| item["engine"] == engine && item["is_pr"] == true).count() as u64
    }

    /// The rows of `stats`.
    fn groups(&self) -> u64 {
        self.space.rows("data/stats.json").len() as u64
    }

    /// Issues of the first engine that no note is about.
    fn issues(&self) -> Vec<u64> {
        let items = self.space.rows("data/items.jsonl").into_iter();
        let issues = items.filter(|item| item["engine"] == "one" && item["is_pr"] == false);
        let numbers = issues.filter_map(|item| item["number"].as_u64());
        numbers.filter(|number| *number > 50).collect()
    }

    /// Gives an issue another title and body upstream; all else of it stays.
    fn rewrite(&self, number: u64, title: &str, body: &str) {
        let repo = "acme/engine-1";
        let issue = self.simulator.get(&format!("/github/repos/{repo}/issues/{number}"));
        let labels = issue["labels"].as_array().expect("labels").iter();
        let labels: Vec<&Value> = labels.map(|label| &label["name"]).collect();
        self.simulator.item(json!({
            "repo": repo, "number": number, "title": title, "body": body, "labels": labels,
            "state": issue["state"], "state_reason": issue["state_reason"],
            "user": issue["user"]["login"], "author_association": issue["author_association"],
            "created_at": issue["created_at"], "updated_at": issue["updated_at"],
            "closed_at": issue["closed_at"],
        }));
    }

    /// The only row of an output in which `field` is `value`.
    #[track_caller]
    fn row(&self, path: &str, field: &str, value: &Value) -> Value {
        let rows: Vec<Value> =
            self.space.rows(path).into_iter().filter(|row| row[field] == *value).collect();
        assert_eq!(rows.len(), 1, "{path}: {field} {value}");
        rows[0].clone()
    }
}

/// Holds that a run did exactly this: stages that are not named did nothing.
#[track_caller]
fn did(ran: &Ran, expected: &[Work<'_>]) {
    let expected: Vec<_> =
        expected.iter().map(|(name, rows, calls)| (name.to_string(), *rows, *calls)).collect();
    assert_eq!(work(ran), expected, "{}\n{}", ran.stdout, ran.stderr);
}

/// What each stage did, of those that did anything.
fn work(ran: &Ran) -> Vec<(String, u64, u64)> {
    let json = ran.json();
    let number = |value: &Value| value.as_u64().expect("a number");
    let stages = json["stages"].as_array().expect("stages").iter();
    stages
        .map(|stage| {
            let name = stage["name"].as_str().expect("a name").to_owned();
            (name, number(&stage["rows_run"]), number(&stage["calls"]))
        })
        .filter(|(_, rows, calls)| *rows > 0 || *calls > 0)
        .collect()
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("it").path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// A chat completion, as `/_faults` takes it.
fn completion(content: Value, refusal: Value, reason: &str) -> String {
    let message = json!({"role": "assistant", "content": content, "refusal": refusal});
    json!({
        "model": "tiny-1", "usage": {"prompt_tokens": 10, "completion_tokens": 5},
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
    })
    .to_string()
}

// Nothing that an answer depends on.

#[test]
fn nothing_changed() {
    let study = Study::warm();
    let outputs = study.outputs();
    study.nothing(&[]);
    assert_eq!(study.outputs(), outputs);
}

#[test]
fn every_file_touched() {
    let study = Study::warm();
    let cache = study.space.path().join("cache");
    // Times are compared, never ordered: neither a new nor an old one means anything.
    let now = SystemTime::now();
    for time in [SystemTime::UNIX_EPOCH, now + Duration::from_secs(3600)] {
        for path in files(study.space.path()) {
            if !path.starts_with(&cache) {
                let file = fs::File::options().write(true).open(&path).expect("it opens");
                file.set_modified(time).expect("it is touched");
            }
        }
        let ran = study.nothing(&[]);
        assert!(!ran.stderr.contains("edited"), "{}", ran.stderr);
    }
}

#[test]
fn the_manifest_reformatted_and_commented() {
    let study = Study::warm();
    let loose = |line: &str| match line.split_once(" = ") {
        Some((key, value)) => format!("  {key}   =  {value}   # as before"),
        None => format!("\n{line}\n# a remark"),
    };
    let lines: Vec<String> = MANIFEST.lines().map(loose).collect();
    let text = lines.join("\n").replace("\"data/labels.json\"", "'data/labels.json'");
    study.space.write("pipeline.toml", text);
    study.nothing(&[]);
}

#[test]
fn the_stages_in_another_order() {
    let study = Study::warm();
    let (head, stages) = MANIFEST.split_once("[stages.").expect("stages");
    let mut blocks: Vec<&str> = stages.split("[stages.").collect();
    blocks.reverse();
    study.space.write("pipeline.toml", format!("{head}[stages.{}", blocks.join("\n[stages.")));
    let ran = study.nothing(&[]);
    assert_eq!(ran.states()[0], "stats up_to_date", "the order of the manifest");
}

#[test]
fn prices_limits_and_keys_changed() {
    let mut study = Study::warm();
    let edits = [
        ("concurrency = 6\n", "concurrency = 3\ntimeout = 9\nattempts = 2\n"),
        ("\"GITHUB_TOKEN\"", "\"ANOTHER_TOKEN\""),
        ("\"SMALL_KEY\"", "\"ANOTHER_KEY\""),
        ("model = \"tiny\"", "model = \"tiny\"\ntimeout = 9\nattempts = 2"),
        (
            "temperature = 0\nlimits = { concurrency = 64 }",
            "temperature = 0\nprice = { input = 0.4, output = 1.6, cached_input = 0.1 }\n\
             limits = { concurrency = 2, requests_per_minute = 9, tokens_per_minute = 900 }",
        ),
    ];
    edits.into_iter().for_each(|(from, to)| study.edit("pipeline.toml", from, to));
    study.space.env("ANOTHER_TOKEN", "another token").env("ANOTHER_KEY", "another key");
    study.nothing(&[]);
    study.nothing(&["-v"]);
    study.space.env("FLOW_LOG", "flow=debug");
    study.nothing(&[]);
}

// The rows of an inline table.

#[test]
fn an_engine_added() {
    let study = Study::warm();
    let (before, last) = (study.outputs(), "engine = \"two\"\nrepo = \"acme/engine-2\"\n");
    let third = "\n[[tables.engines]]\nengine = \"three\"\nrepo = \"acme/engine-3\"\n";
    study.edit("pipeline.toml", last, &format!("{last}{third}"));
    study.simulator.reset();
    let ran = study.space.run(&[]).expect(0);
    let pulls = study.pulls("three");
    let new = [
        ("items", 1, PAGES),
        ("classify", EACH, EACH),
        ("notes", 50, 50),
        ("merged", ITEMS + EACH, 0),
        ("linked", pulls, pulls.div_ceil(25)),
        ("stats", study.groups(), 0),
    ];
    did(&ran, &new);
    assert_eq!(study.simulator.total(), PAGES + EACH + 50 + pulls.div_ceil(25));
    // What there was stands as it stood.
    assert!(study.space.read("data/items.jsonl").starts_with(&before["data/items.jsonl"]));
    assert!(study.space.read("data/notes.jsonl").starts_with(&before["data/notes.jsonl"]));
}

#[test]
fn an_engine_removed() {
    let study = Study::warm();
    study.edit(
        "pipeline.toml",
        "[[tables.engines]]\nengine = \"two\"\nrepo = \"acme/engine-2\"\n",
        "",
    );
    let groups = study.space.rows("data/stats.json");
    let left = groups.iter().filter(|row| row["engine"] == "one").count() as u64;
    study.run(&[], 0, &[("merged", EACH, 0), ("stats", left, 0)]);
    let rows = |path| study.space.rows(path);
    let ids: HashSet<String> =
        rows("data/items.jsonl").iter().map(|row| row["id"].to_string()).collect();
    assert_eq!(ids.len() as u64, EACH);
    let counts = [
        ("data/labels.json", EACH),
        ("data/notes.jsonl", 50),
        ("data/merged.json", EACH),
        ("data/linked.json", study.pulls("one")),
    ];
    for (path, count) in counts {
        assert_eq!(rows(path).len() as u64, count, "{path}");
        assert!(rows(path).iter().all(|row| ids.contains(&row["id"].to_string())), "{path}");
    }
}

// What a stage asks, and how it reads the answer.

#[test]
fn a_prompt_edited() {
    let study = Study::warm();
    study.edit("prompts/classify.md", "{{ title }}", "Its title: {{ title }}");
    let all = [("classify", ITEMS, ITEMS), ("merged", ITEMS, 0), ("stats", study.groups(), 0)];
    study.run(&[], 0, &all);
    study.nothing(&[]);
}

#[test]
fn a_prompt_edited_for_some_rows() {
    let study = Study::warm();
    let of_pulls = "{% if is_pr %}It is a pull request.{% endif %}{{ title }}";
    study.edit("prompts/classify.md", "{{ title }}", of_pulls);
    let pulls = study.pulls("one") + study.pulls("two");
    let all = [("classify", ITEMS, pulls), ("merged", ITEMS, 0), ("stats", study.groups(), 0)];
    let ran = study.run(&[], 0, &all);
    assert_eq!(ran.stage("classify")["calls_cached"], ITEMS - pulls);
}

#[test]
fn the_old_prompt_put_back() {
    let study = Study::warm();
    let (outputs, prompt) = (study.outputs(), study.space.read("prompts/classify.md"));
    study.edit("prompts/classify.md", "{{ title }}", "{% if is_pr %}Now: {% endif %}{{ title }}");
    let ran = study.space.run(&[]).expect(0);
    assert_eq!(ran.stage("classify")["rows_run"], ITEMS);
    assert_ne!(study.outputs(), outputs);
    study.space.write("prompts/classify.md", prompt);
    let ran = study.run(&[], 0, &[]);
    let states = [
        "items up_to_date",
        "classify restored",
        "notes up_to_date",
        "merged restored",
        "linked restored",
        "stats restored",
    ];
    assert_eq!(ran.states(), states);
    assert_eq!(study.outputs(), outputs);
}

#[test]
fn an_included_template_edited() {
    let study = Study::warm();
    study.edit("prompts/rules.md", "Is it", "Say whether it is");
    let all = [("classify", ITEMS, ITEMS), ("merged", ITEMS, 0), ("stats", study.groups(), 0)];
    study.run(&[], 0, &all);
}

#[test]
fn a_schema_edited_that_is_sent() {
    let study = Study::warm();
    study.edit("schemas/classify.json", "\"string\"", "\"string\", \"description\": \"Why?\"");
    let all = [("classify", ITEMS, ITEMS), ("merged", ITEMS, 0), ("stats", study.groups(), 0)];
    study.run(&[], 0, &all);
}

#[test]
fn a_schema_edited_that_is_not_sent() {
    for answers in ["json_object", "text"] {
        let study = Study::warm();
        if answers == "text" {
            // The simulator's own texts hold no JSON.
            let said = "Certainly: {\"answer\": \"yes\", \"score\": 7}. Anything else?";
            let body = completion(said.into(), Value::Null, "stop");
            study.simulator.fault(json!({"path": "/v1", "status": 200, "body": body}));
            study.edit("pipeline.toml", "\"json_object\"", "\"text\"");
            study.run(&[], 0, &[("notes", NOTES, NOTES)]);
        }
        let notes = study.space.read("data/notes.jsonl");
        study.edit("schemas/notes.json", "\"integer\"", "\"integer\", \"maximum\": 100");
        let ran = study.run(&[], 0, &[("notes", NOTES, 0)]);
        assert_eq!(ran.stage("notes")["calls_cached"], NOTES, "the stored answers are read again");
        assert_eq!(study.space.read("data/notes.jsonl"), notes);
    }
}

#[test]
fn a_query_edited() {
    let study = Study::warm();
    study.edit("queries/merged.sql", "ORDER BY", "WHERE c.label <> 'request' ORDER BY");
    let merged = study.space.rows("data/merged.json");
    let left = merged.iter().filter(|row| row["label"] != "request").count() as u64;
    study.simulator.reset();
    let ran = study.space.run(&[]).expect(0);
    did(&ran, &[("merged", left, 0), ("stats", study.groups(), 0)]);
    assert_eq!(study.simulator.total(), 0);
}

#[test]
fn a_graphql_query_edited() {
    let study = Study::warm();
    let pulls = study.pulls("one") + study.pulls("two");
    study.edit("queries/linked.graphql", "state closing", "state isDraft closing");
    // The new field is not picked: the table is the same.
    study.run(&[], 0, &[("linked", pulls, pulls.div_ceil(25))]);
}

const PICK_A: &str = "{id: .node_id, number,";
/// With a field that no prompt reads and nothing keeps.
const PICK_B: &str = "{id: .node_id, state, number,";

#[test]
fn a_field_picked_that_nothing_reads() {
    let study = Study::warm();
    let before = study.outputs();
    study.edit("pipeline.toml", PICK_A, PICK_B);
    study.run(&[], 0, &[("items", 2, 0), ("merged", ITEMS, 0)]);
    assert!(study.space.rows("data/items.jsonl").iter().all(|row| row["state"].is_string()));
    let mut after = study.outputs();
    after.insert("data/items.jsonl", before["data/items.jsonl"].clone());
    assert_eq!(after, before);
}

#[test]
fn another_pick_a_refresh_and_the_old_pick_again() {
    let study = Study::warm();
    let number = study.issues()[0];
    study.edit("pipeline.toml", PICK_A, PICK_B);
    study.run(&[], 0, &[("items", 2, 0), ("merged", ITEMS, 0)]);
    study.rewrite(number, "It crashes", "A new body");
    study.space.run(&["--refresh", "items"]).expect(0);
    let refreshed = study.outputs();
    study.edit("pipeline.toml", PICK_B, PICK_A);
    // Only the first engine has an answer that was replaced.
    study.run(&[], 0, &[("items", 1, 0), ("merged", ITEMS, 0)]);
    let row = study.row("data/items.jsonl", "body", &json!("A new body"));
    assert_eq!((&row["number"], &row["engine"]), (&json!(number), &json!("one")));
    let fields: Vec<&String> = row.as_object().expect("a row").keys().collect();
    assert!(!fields.contains(&&"state".to_owned()), "{fields:?}");
    let mut after = study.outputs();
    after.insert("data/items.jsonl", refreshed["data/items.jsonl"].clone());
    assert_eq!(after, refreshed);
    study.nothing(&[]);
}

// Where it is written.

#[test]
fn stages_renamed() {
    let study = Study::warm();
    let outputs = study.outputs();
    study.edit("pipeline.toml", "[stages.notes]", "[stages.remarks]");
    study.run(&[], 0, &[]);
    assert_eq!(study.outputs(), outputs);
    // SQL names what it reads, so another name is another query.
    study.edit("pipeline.toml", "[stages.classify]", "[stages.labelled]");
    study.edit("pipeline.toml", "[\"items\", \"classify\"]", "[\"items\", \"labelled\"]");
    study.edit("queries/merged.sql", "JOIN classify", "JOIN labelled");
    study.run(&[], 0, &[("merged", ITEMS, 0)]);
    assert_eq!(study.outputs(), outputs);
    study.nothing(&[]);
}

#[test]
fn output_paths_renamed() {
    let study = Study::warm();
    let outputs = study.outputs();
    let renamed = [
        ("data/items.jsonl", "data/all/items.jsonl"),
        ("data/labels.json", "data/classified.json"),
        ("data/merged.csv", "data/joined.csv"),
    ];
    for (old, new) in renamed {
        study.edit("pipeline.toml", old, new);
    }
    study.run(&[], 0, &[]);
    for (old, new) in renamed {
        assert_eq!(study.space.read(new), outputs[old]);
    }
    study.nothing(&[]);
}

#[test]
fn the_data_folder_deleted() {
    let study = Study::warm();
    let outputs = study.outputs();
    fs::remove_dir_all(study.space.path().join("data")).expect("it is removed");
    let ran = study.run(&[], 0, &[]);
    assert_eq!(study.outputs(), outputs);
    for path in OUTPUTS {
        let told = |line: &str| line.contains(path) && line.contains("restored");
        assert!(ran.stderr.lines().any(told), "{path}: {}", ran.stderr);
    }
    study.nothing(&[]);
}

#[test]
fn an_output_edited_by_hand() {
    let study = Study::warm();
    let outputs = study.outputs();
    for path in ["data/labels.json", "data/merged.csv"] {
        study.space.write(path, format!("{}my notes\n", outputs[path]));
    }
    let ran = study.run(&[], 0, &[]);
    assert_eq!(study.outputs(), outputs);
    for path in ["data/labels.json", "data/merged.csv"] {
        let aside = format!("{path}.edited");
        assert!(study.space.read(&aside).ends_with("my notes\n"), "nothing is lost");
        let name = aside.strip_prefix("data/").expect("its folder");
        let told = |line: &str| line.contains(path) && line.contains(name);
        assert!(ran.stderr.lines().any(told), "{path}: {}", ran.stderr);
    }
}

// What is asked of the world.

#[test]
fn an_issue_changed_upstream() {
    let study = Study::warm();
    let number = study.issues()[0];
    let label = |of: &Value| study.row("data/merged.json", "id", of)["label"].clone();
    let mut merged = study.space.rows("data/merged.json").into_iter();
    let row = merged.find(|row| row["engine"] == "one" && row["number"] == number);
    let id = row.expect("it is there")["id"].clone();
    let before = label(&id);
    study.rewrite(number, "It crashes", "Another body");
    // What was answered stands until it is asked for again.
    study.nothing(&[]);
    study.simulator.reset();
    let ran = study.space.run(&["--refresh", "items"]).expect(0);
    let asked = study.simulator.get("/_stats");
    // Every page but the one that holds the issue is as it was; the other 200 is the model's.
    assert_eq!(asked["by_status"], json!({"200": 2, "304": 2 * PAGES - 1}));
    assert_eq!(
        asked["by_endpoint"],
        json!({"GET /repos/{owner}/{repo}/issues": 2 * PAGES, "POST /v1/chat/completions": 1})
    );
    assert_ne!(label(&id), before, "another body is needed: this one changes no count");
    let of_issue = [
        ("items", 1, 2 * PAGES),
        ("classify", 1, 1),
        ("merged", ITEMS, 0),
        ("stats", study.groups(), 0),
    ];
    did(&ran, &of_issue);
    assert_eq!(ran.json()["calls"], 2 * PAGES + 1);
    assert_eq!(study.row("data/items.jsonl", "body", &json!("Another body"))["id"], id);
}

#[test]
fn nothing_changed_upstream() {
    let study = Study::warm();
    let outputs = study.outputs();
    study.run(&["--refresh", "items"], 0, &[("items", 0, 2 * PAGES)]);
    assert_eq!(study.simulator.get("/_stats")["by_status"], json!({"304": 2 * PAGES}));
    assert_eq!(study.outputs(), outputs);
    study.nothing(&[]);
}

#[test]
fn nothing_is_left_after_a_refresh() {
    let study = Study::warm();
    study.rewrite(study.issues()[0], "It crashes", "A new body");
    study.space.run(&["--refresh", "items"]).expect(0);
    study.nothing(&[]);
}

#[test]
fn the_model_changed() {
    let study = Study::warm();
    let all = [("classify", ITEMS, ITEMS), ("merged", ITEMS, 0), ("stats", study.groups(), 0)];
    study.edit("pipeline.toml", "temperature = 0\n", "temperature = 0.5\n");
    study.run(&[], 0, &all);
    study.edit("pipeline.toml", "model = \"tiny\"", "model = \"tinier\"");
    study.run(&[], 0, &all);
    // The simulator answers the same wherever it is asked: what `merged` makes is the same.
    study.edit("pipeline.toml", "http://small.invalid/v1", "http://large.invalid/v1");
    study.run(&[], 0, &all[..2]);
}

#[test]
fn two_rows_that_ask_the_same() {
    let study = Study::warm();
    let issues = study.issues();
    let twins = [issues[0], issues[1]];
    for number in twins {
        study.rewrite(number, "It crashes", "The same body");
    }
    study.simulator.reset();
    let ran = study.space.run(&["--refresh", "items"]).expect(0);
    let asked = study.simulator.get("/_stats");
    assert_eq!(asked["by_endpoint"]["POST /v1/chat/completions"], 1);
    let classify = ran.stage("classify");
    assert_eq!((&classify["rows_run"], &classify["calls"]), (&json!(2), &json!(1)));
    let items = study.space.rows("data/items.jsonl").into_iter();
    let same: Vec<Value> = items.filter(|row| row["body"] == "The same body").collect();
    assert_eq!(same.len(), 2);
    let of = |item: &Value| study.row("data/labels.json", "id", &item["id"]);
    assert_eq!(of(&same[0])["_call"], of(&same[1])["_call"]);
}

// What failed.

/// The rows that `few_ask` makes ask anew.
const FEW: u64 = 2 * 20;

/// An edit of the prompt of `classify` that changes what only few rows ask.
fn few_ask(study: &Study, words: &str) {
    let prompt = FILES[1].1.replace(
        "{{ title }}",
        &format!("{{% if number <= 20 %}}{words}{{% endif %}}{{{{ title }}}}"),
    );
    study.space.write("prompts/classify.md", prompt);
}

/// Holds that `classify` lacks five rows for reasons of `kind`, and that what follows says so.
#[track_caller]
fn lacks_five(study: &Study, ran: &Ran, kind: &str) {
    let states = [
        "items up_to_date",
        "classify incomplete",
        "notes up_to_date",
        "merged incomplete",
        "linked incomplete",
        "stats incomplete",
    ];
    assert_eq!(ran.states(), states);
    let classify = ran.stage("classify");
    assert_eq!((&classify["failed_rows"], &classify["rows"]), (&json!(5), &json!(ITEMS - 5)));
    assert!(classify["reason"].is_string(), "{classify}");
    let failed = study.space.rows("data/labels.json.failed.jsonl");
    assert_eq!(failed.len(), 5);
    assert!(failed.iter().all(|row| row["_failed"]["kind"] == kind), "{failed:?}");
    assert_eq!(study.space.rows("data/merged.json").len() as u64, ITEMS - 5);
}

#[test]
fn five_rows_failed_in_passing() {
    let orders = [
        (json!({"path": "/v1", "times": 5, "status": 500}), FEW),
        (json!({"path": "/v1", "times": 5, "cut": true}), FEW),
        // Nobody waits for so long, and what nobody waits for is not counted.
        (json!({"path": "/v1", "times": 5, "delay_ms": 600_000}), FEW - 5),
    ];
    for (order, answered) in orders {
        let study = Study::warm();
        let once = "model = \"tiny\"\nattempts = 1\ntimeout = 2";
        study.edit("pipeline.toml", "model = \"tiny\"", once);
        few_ask(&study, "Think.");
        study.simulator.fault(order);
        study.simulator.reset();
        let ran = study.space.run(&[]).expect(1);
        lacks_five(&study, &ran, "passing");
        assert_eq!(ran.stage("classify")["calls"], FEW);
        assert_eq!(ran.json()["calls"], FEW);
        assert_eq!(study.simulator.total(), answered);
        let left = [("classify", 5, 5), ("merged", ITEMS, 0), ("stats", study.groups(), 0)];
        study.run(&[], 0, &left);
        assert!(!study.space.exists("data/labels.json.failed.jsonl"));
        study.nothing(&[]);
    }
}

/// Answers that are none: refused, cut at the length limit, not valid.
fn useless() -> [String; 3] {
    let answer = |label: &str| json!({"label": label, "reason": "so"}).to_string();
    [
        completion(Value::Null, "I will not".into(), "stop"),
        completion(answer("bug").into(), Value::Null, "length"),
        completion(answer("none of them").into(), Value::Null, "stop"),
    ]
}

/// A study in which five rows of `classify` have such an answer.
fn with_useless(body: &str) -> Study {
    let study = Study::warm();
    let schema = "schema = \"schemas/classify.json\"";
    study.edit("pipeline.toml", schema, &format!("{schema}\nrepairs = 0"));
    few_ask(&study, "Think.");
    study.simulator.fault(json!({"path": "/v1", "times": 5, "status": 200, "body": body}));
    study.simulator.reset();
    let ran = study.space.run(&[]).expect(1);
    lacks_five(&study, &ran, "answer");
    assert_eq!(ran.stage("classify")["calls"], FEW);
    assert_eq!(study.simulator.total(), FEW);
    study
}

#[test]
fn five_rows_have_no_good_answer() {
    for body in useless() {
        let study = with_useless(&body);
        let ran = study.run(&[], 1, &[]);
        lacks_five(&study, &ran, "answer");
        let left = [("classify", 5, 5), ("merged", ITEMS, 0), ("stats", study.groups(), 0)];
        study.run(&["--retry-failed"], 0, &left);
        assert!(!study.space.exists("data/labels.json.failed.jsonl"));
        study.run(&["--retry-failed"], 0, &[]);
    }
}

#[test]
fn nothing_is_left_after_failed_rows_were_asked_again() {
    let study = with_useless(&useless()[0]);
    study.space.run(&["--retry-failed"]).expect(0);
    study.nothing(&[]);
}

#[test]
fn five_rows_without_a_good_answer_ask_something_else() {
    let study = with_useless(&useless()[0]);
    few_ask(&study, "Think again.");
    let all = [("classify", ITEMS, FEW), ("merged", ITEMS, 0), ("stats", study.groups(), 0)];
    study.run(&[], 0, &all);
}

#[test]
fn a_batch_asks_what_is_missing() {
    for batch in [25, 7, 1] {
        let study = Study::warm();
        let query = study.space.read("queries/merged.sql");
        study.edit("queries/linked.graphql", "state closing", "state isDraft closing");
        study.edit("queries/merged.sql", "ORDER BY", "WHERE i.number % 3 = 0 ORDER BY");
        study.space.run(&[]).expect(0);
        let asked = study.space.rows("data/linked.json").len() as u64;
        // Between any two that are known there are others that are missing.
        study.space.write("queries/merged.sql", query);
        study.edit("pipeline.toml", "batch = 25", &format!("batch = {batch}"));
        let missing = study.pulls("one") + study.pulls("two") - asked;
        let ran = study.run(&[], 0, &[("linked", missing, missing.div_ceil(batch))]);
        assert_eq!(ran.stage("merged")["state"], "restored", "it is as it was before");
        let rows = study.space.rows("data/linked.json");
        assert_eq!(rows.len() as u64, asked + missing);
        assert!(rows.iter().all(|row| row["pr_state"].is_string()));
    }
}

#[test]
fn another_batch_size() {
    let study = Study::warm();
    study.edit("pipeline.toml", "batch = 25", "batch = 10");
    study.nothing(&[]);
}

// What comes out the same.

#[test]
fn a_stage_that_makes_the_same_table_ends_there() {
    let study = Study::warm();
    let outputs = study.outputs();
    study.edit("queries/merged.sql", "SELECT", "-- every item\nSELECT");
    study.run(&[], 0, &[("merged", ITEMS, 0)]);
    study.edit("pipeline.toml", PICK_A, "{id: .node_id, number: .number,");
    study.run(&[], 0, &[("items", 2, 0)]);
    study.edit("prompts/classify.md", "{{ title }}", "{{title}}");
    study.run(&[], 0, &[("classify", ITEMS, 0)]);
    assert_eq!(study.outputs(), outputs);
}
