//! What the history tells: the runs there were, and what differs between what two of them left.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::{Value, json};
use support::{Ran, Simulator, TestSpace};

const SCHEMA: &str = r#"{"type": "object", "properties": {
  "label": {"type": "string", "enum": ["a", "b", "c"]}, "is_bug": {"type": "boolean"}},
  "required": ["label", "is_bug"], "additionalProperties": false}"#;

/// Items of a generated repository, a label for each by a model, and how many there are of each.
fn space(simulator: &Simulator) -> TestSpace {
    let mut space = TestSpace::new();
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
attempts = 1
price = {{ input = 1.0, output = 2.0 }}
[[tables.repos]]
repo = "acme/engine-1"
[stages.items]
kind = "github"
inputs = ["repos"]
list = "/repos/{{{{ repo }}}}/issues?state=all&per_page=100"
pick = "{{id: .node_id, number, title, body}}"
key = ["id"]
outputs = ["data/items.json"]
[stages.label]
kind = "llm"
inputs = ["items"]
model = "small"
prompt = "p.md"
schema = "s.json"
keep = ["number"]
outputs = ["data/labels.json"]
[stages.counts]
kind = "sql"
inputs = ["label"]
query = "SELECT label, count(*) AS items FROM label GROUP BY label"
key = ["label"]
outputs = ["data/counts.json"]
[profiles.other]
data = "other"
"#,
            simulator.address
        ),
    );
    space.write("p.md", "Label {{ title }}");
    space.write("s.json", SCHEMA);
    space.env("NO_COLOR", "1");
    space
}

fn simulator(items: &str) -> Simulator {
    Simulator::start(&["--repos", "1", "--items", items, "--seed", "5"])
}

/// `flow diff --json` with more arguments.
fn diff(space: &TestSpace, arguments: &[&str]) -> Ran {
    space.flow(&[&["diff", "--json"], arguments].concat())
}

/// A stage's part of what `flow diff --json` prints.
#[track_caller]
fn stage(ran: &Ran, name: &str) -> Value {
    let json = ran.json();
    let found = json["stages"].as_array().unwrap().iter().find(|stage| stage["name"] == name);
    found.unwrap_or_else(|| panic!("no stage {name} in {json}")).clone()
}

fn logged(space: &TestSpace) -> Vec<Value> {
    space.flow(&["log", "--json"]).expect(0).json()["runs"].as_array().unwrap().clone()
}

/// How each run ended, the latest first.
fn ended(space: &TestSpace) -> Vec<String> {
    let text = |run: &Value| run["ended"].as_str().unwrap().to_owned();
    logged(space).iter().map(text).collect()
}

/// The file of an object.
fn object(space: &TestSpace, digest: &str) -> PathBuf {
    space.path().join("cache/objects").join(&digest[..2]).join(&digest[2..])
}

#[test]
fn the_log_tells_each_run_and_how_it_ended() {
    let simulator = simulator("12");
    let space = space(&simulator);
    space.run(&["--max-calls", "5"]).expect(3);
    simulator.fault(json!({"path": "/v1", "status": 503, "times": 2}));
    space.run(&["--profile", "other"]).expect(1);
    let last = space.run(&[]).expect(0).json();
    space.run(&["--limit", "3"]).expect(0);
    let runs = logged(&space);
    assert_eq!(ended(&space), ["up_to_date", "up_to_date", "incomplete", "stopped"]);
    let numbers: Vec<i64> = runs.iter().map(|run| run["run"].as_i64().unwrap()).collect();
    assert_eq!(numbers, [4, 3, 2, 1]);
    assert_eq!(runs[2]["profile"], "other");
    assert_eq!(runs[0]["trial"], true);
    assert_eq!(runs[3]["command"], "run --json --max-calls 5");
    for field in ["calls", "calls_cached", "tokens_in", "tokens_out", "cost_usd"] {
        assert_eq!(runs[1][field], last[field], "{field}");
    }
    let stages = last["stages"].as_array().unwrap().iter();
    let rows_run: u64 = stages.map(|stage| stage["rows_run"].as_u64().unwrap()).sum();
    assert_eq!(runs[1]["rows_run"], rows_run);
    let began = runs[1]["at"].as_str().unwrap();
    assert_eq!((began.len(), &began[10..11], &began[23..]), (24, "T", "Z"), "{began}");
    // What people read: a line a run, the latest first.
    let plain = space.flow(&["log", "-n", "2"]).expect(0).stdout;
    let lines: Vec<&str> = plain.lines().collect();
    assert_eq!(lines.len(), 3, "{plain}");
    assert!(lines[1].trim_start().starts_with("4 ") && lines[1].contains("trial"), "{plain}");
    assert!(lines[2].trim_start().starts_with("3 ") && lines[2].contains("up to date"), "{plain}");
    assert!(lines[1].ends_with("run --json --limit 3"), "{plain}");
    // The history is told whatever has become of the manifest.
    space.write("pipeline.toml", "[pipeline");
    assert_eq!(logged(&space).len(), 4);
}

#[test]
fn where_nothing_has_run_the_log_says_so_and_makes_nothing() {
    let simulator = simulator("3");
    let space = space(&simulator);
    let ran = space.flow(&["log"]).expect(0);
    assert!(ran.stderr.contains("nothing has run yet"), "{}", ran.stderr);
    assert_eq!(space.flow(&["log", "--json"]).expect(0).json(), json!({"runs": []}));
    let ran = space.flow(&["diff", "1", "2"]).expect(2);
    assert!(ran.stderr.contains("nothing has run yet"), "{}", ran.stderr);
    assert!(!space.exists("cache"));
    std::fs::remove_file(space.path().join("pipeline.toml")).unwrap();
    let ran = space.flow(&["log"]).expect(2);
    assert!(ran.stderr.contains("there is no manifest"), "{}", ran.stderr);
}

#[test]
fn a_run_that_works_goes_on_and_a_killed_one_did_not_end() {
    let simulator = Simulator::start(&["--repos", "1", "--items", "5", "--latency-ms", "60000"]);
    let space = space(&simulator);
    let mut run = space.command(&["run"]).stderr(Stdio::null()).spawn().unwrap();
    while !space.exists("cache/flow.db") || logged(&space).is_empty() {
        assert!(run.try_wait().unwrap().is_none(), "it has ended");
        std::thread::yield_now();
    }
    assert_eq!(ended(&space), ["goes_on"]);
    run.kill().unwrap();
    run.wait().unwrap();
    assert_eq!(ended(&space), ["did_not_end"]);
    let told = space.flow(&["log"]).expect(0).stdout;
    assert!(told.contains("did not end"), "{told}");
    let ran = space.flow(&["diff", "1", "last"]).expect(2);
    assert!(ran.stderr.contains("run 1 goes on or was cut off"), "{}", ran.stderr);
}

#[test]
fn two_prompts_are_compared_by_what_their_answers_say() {
    let simulator = simulator("60");
    let space = space(&simulator);
    space.run(&[]).expect(0);
    let before = space.rows("data/labels.json");
    space.write("p.md", "Label with great care: {{ title }}");
    space.run(&[]).expect(0);
    let after = space.rows("data/labels.json");
    let ran = diff(&space, &["1", "2"]).expect(0);
    // What is to be told, from the outputs.
    let mut pairs: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut changed = Vec::new();
    let mut bugs = 0;
    for (from, to) in before.iter().zip(&after) {
        let label = |row: &Value| row["label"].as_str().unwrap().to_owned();
        if from["label"] != to["label"] {
            *pairs.entry((label(from), label(to))).or_default() += 1;
        }
        bugs += u64::from(from["is_bug"] != to["is_bug"]);
        if from["label"] != to["label"] || from["is_bug"] != to["is_bug"] {
            changed.push((from, to));
        }
    }
    assert!(changed.len() > 20 && changed.len() < 60, "{} changed", changed.len());
    let found = &stage(&ran, "label")["diff"];
    assert_eq!(found["changed"], changed.len());
    assert_eq!(found["recalled"], 60 - changed.len(), "another call, the same answer");
    assert_eq!((&found["added"], &found["removed"]), (&json!(0), &json!(0)));
    let fields: BTreeMap<&str, &Value> = found["fields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|field| (field["name"].as_str().unwrap(), field))
        .collect();
    assert_eq!(fields.keys().copied().collect::<Vec<_>>(), ["is_bug", "label"], "no `_call`");
    assert_eq!(fields["label"]["rows"], pairs.values().sum::<u64>());
    assert_eq!(fields["is_bug"]["rows"], bugs);
    let matrix = &fields["label"]["matrix"];
    let labels: Vec<&str> =
        matrix["labels"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    for (row, from) in labels.iter().enumerate() {
        for (column, to) in labels.iter().enumerate() {
            let count = pairs.get(&(from.to_string(), to.to_string())).copied().unwrap_or(0);
            assert_eq!(matrix["counts"][row][column], count, "{from} -> {to}");
        }
    }
    assert_eq!(fields["is_bug"]["matrix"]["labels"], json!([false, true]));
    // The first twenty of them, whole.
    let shown = found["changes"].as_array().unwrap();
    assert_eq!(shown.len(), 20);
    for (shown, (from, to)) in shown.iter().zip(&changed) {
        assert_eq!(shown["key"], json!({"id": from["id"]}));
        for field in shown["fields"].as_array().unwrap() {
            let name = field["field"].as_str().unwrap();
            assert_eq!((&field["from"], &field["to"]), (&from[name], &to[name]));
        }
    }
    // Of a run with itself, and the other way round.
    let same = stage(&diff(&space, &["last", "2", "label"]).expect(0), "label");
    assert_eq!((&same["diff"]["changed"], &same["diff"]["rows_to"]), (&json!(0), &json!(60)));
    let back = stage(&diff(&space, &["2", "1", "label"]).expect(0), "label");
    assert_eq!(back["diff"]["changed"], found["changed"]);
    assert_eq!(back["diff"]["changes"][0]["fields"][0]["from"], shown[0]["fields"][0]["to"]);
    // For people.
    let told = space.flow(&["diff", "1", "2", "label"]).expect(0).stdout;
    assert!(told.starts_with("run 1 -> run 2\nlabel: 60 rows, "), "{told}");
    assert!(told.contains("from \\ to"), "{told}");
    let (from, to) = changed.iter().find(|(from, to)| from["label"] != to["label"]).unwrap();
    let change = format!("label: {} -> {}", from["label"], to["label"]).replace('"', "");
    assert!(told.contains(&change), "{told}");
    let items = stage(&ran, "items");
    assert_eq!((&items["diff"]["changed"], &items["diff"]["rows_from"]), (&json!(0), &json!(60)));
}

#[test]
fn chunks_that_both_tables_have_are_not_read() {
    let simulator = simulator("900");
    let space = space(&simulator);
    space.run(&["items"]).expect(0);
    let before = space.rows("data/items.json");
    let number = before.last().unwrap()["number"].as_u64().unwrap();
    // One is edited, one is new.
    let item = |number: u64, title: &str| json!({"repo": "acme/engine-1", "number": number, "title": title});
    simulator.item(item(number, "Edited \u{1b}[31mred"));
    simulator.item(item(9001, "New"));
    space.run(&["items", "--refresh", "items"]).expect(0);
    let after = space.rows("data/items.json");
    assert_eq!((before.len(), after.len()), (900, 901));
    let table = |run: &Value| run["stages"][0]["artifact"].as_str().unwrap().to_owned();
    let runs = logged(&space);
    let chunks = |run: &Value| -> BTreeSet<String> {
        let list = std::fs::read(object(&space, &table(run))).unwrap();
        let list: Value = serde_json::from_slice(&list).unwrap();
        let chunks = list["chunks"].as_array().unwrap().iter();
        chunks.map(|chunk| chunk["digest"].as_str().unwrap().to_owned()).collect()
    };
    let shared: Vec<String> = chunks(&runs[0]).intersection(&chunks(&runs[1])).cloned().collect();
    assert!(shared.len() > 2, "{shared:?}");
    for chunk in &shared {
        std::fs::write(object(&space, chunk), "not to be read").unwrap();
    }
    let ran = diff(&space, &["1", "2", "items"]).expect(0);
    let found = stage(&ran, "items")["diff"].clone();
    let counts =
        ["rows_from", "rows_to", "added", "removed", "changed"].map(|it| found[it].clone());
    assert_eq!(counts, [900, 901, 1, 0, 1].map(Value::from));
    let change = &found["changes"][0];
    assert_eq!(change["key"]["id"], before.last().unwrap()["id"]);
    let title = &change["fields"].as_array().unwrap().iter().find(|it| it["field"] == "title");
    assert_eq!(title.unwrap()["to"], "Edited \u{1b}[31mred");
    // What comes from outside is shown, not obeyed, and long texts are cut.
    let told = space.flow(&["diff", "1", "2", "items"]).expect(0).stdout;
    assert!(told.contains("Edited \u{241b}[31mred") && !told.contains('\u{1b}'), "{told}");
    assert!(told.contains("900 -> 901 rows, 1 changed, 1 added"), "{told}");
    assert!(told.lines().all(|line| line.chars().count() < 200), "{told}");
    // Removed, seen from the other side.
    let back = stage(&diff(&space, &["2", "1"]).expect(0), "items")["diff"].clone();
    assert_eq!((&back["added"], &back["removed"]), (&json!(0), &json!(1)));
}

#[test]
fn what_cannot_be_compared_is_told() {
    let simulator = simulator("8");
    let space = space(&simulator);
    space.run(&["label"]).expect(0);
    space.write("p.md", "Label now {{ title }}");
    space.run(&[]).expect(0);
    let wrong = |arguments: &[&str], told: &str| {
        let ran = space.flow(&[&["diff"], arguments].concat()).expect(2);
        assert!(ran.stderr.contains(told), "{arguments:?}: {}", ran.stderr);
        assert_eq!(ran.stdout, "");
    };
    wrong(&["1", "7"], "there is no run 7; the last one is 2");
    wrong(&["1", "first"], "a run is a number that `flow log` shows, or `last`");
    wrong(&["0", "1"], "a run is a number");
    wrong(&["1", "2", "lable"], "did you mean `label`?");
    wrong(&["1", "2", "counts"], "run 1 had no stage `counts`");
    wrong(&["1"], "RUN");
    // Without a stage that is no mistake, only told.
    let ran = diff(&space, &["1", "2"]).expect(0);
    let counts = stage(&ran, "counts");
    assert_eq!(counts["not_compared"], "run 1 had no stage `counts`");
    assert!(counts.get("diff").is_none());
    // A renamed stage is still compared with what it was before; the store knows its key.
    space.edit("pipeline.toml", "[stages.label]", "[stages.tag]");
    space.edit("pipeline.toml", "inputs = [\"label\"]", "inputs = [\"tag\"]");
    space.edit("pipeline.toml", "FROM label", "FROM tag");
    assert!(stage(&diff(&space, &["1", "2", "label"]).expect(0), "label")["diff"].is_object());
    // A table that is no longer there is no mistake of whoever asks.
    let table = &logged(&space)[1]["stages"][1]["artifact"];
    std::fs::remove_file(object(&space, table.as_str().unwrap())).unwrap();
    let ran = space.flow(&["diff", "1", "2", "label"]).expect(1);
    assert!(ran.stderr.contains("`label` in run 1 is no longer stored"), "{}", ran.stderr);
    let ran = diff(&space, &["1", "2"]).expect(1);
    assert_eq!(stage(&ran, "label")["gone"], true);
    assert!(stage(&ran, "items")["diff"].is_object(), "the others are compared");
}
