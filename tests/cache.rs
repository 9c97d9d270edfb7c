//! The store looked after: how much it holds, that what is damaged is found, that a stage can be
//! forgotten, and that collecting loses nothing that anything can reach.

mod support;

use std::path::{Path, PathBuf};
use std::process::Stdio;

use rusqlite::Connection;
use serde_json::{Value, json};
use support::{Ran, Simulator, TestSpace};

/// Items of a generated repository, a label for each by a model, how many there are of each, and a
/// note of somebody's.
fn space(simulator: &Simulator) -> TestSpace {
    let mut space = TestSpace::new();
    space.write(
        "pipeline.toml",
        format!(
            r#"
[pipeline]
name = "test"
[params]
word = "plain"
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
list = "/repos/{{{{ repo }}}}/issues?state=all&per_page=10"
pick = "{{id: .node_id, number, title}}"
key = ["id"]
outputs = ["data/items.json"]
[stages.label]
kind = "llm"
inputs = ["items"]
model = "small"
prompt = "p.md"
schema = "s.json"
keep = ["number"]
repairs = 0
outputs = ["data/labels.json"]
[stages.counts]
kind = "sql"
inputs = ["label", "notes.csv"]
query = "SELECT label, count(*) AS items, (SELECT count(*) FROM notes) AS notes FROM label GROUP BY label"
key = ["label"]
outputs = ["data/counts.json"]
[profiles.other]
data = "other"
params = {{ word = "other" }}
"#,
            simulator.address
        ),
    );
    space.write("p.md", "Label, {{ params.word }}: {{ title }}");
    space.write("notes.csv", "note\none\ntwo\n");
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

const PROFILES: [&[&str]; 2] = [&[], &["--profile", "other"]];

fn outputs(space: &TestSpace) -> Vec<String> {
    let names = ["items", "labels", "counts"];
    let folders = ["data", "other"].iter();
    let paths = folders.flat_map(|folder| names.map(|name| format!("{folder}/{name}.json")));
    paths.filter(|path| space.exists(path)).map(|path| space.read(&path)).collect()
}

/// `flow cache ... --json`.
fn cache(space: &TestSpace, arguments: &[&str]) -> Ran {
    space.flow(&[&["cache"], arguments, &["--json"]].concat())
}

fn stats(space: &TestSpace) -> Value {
    cache(space, &["stats"]).expect(0).json()
}

fn database(space: &TestSpace) -> Connection {
    Connection::open(space.path().join("cache/flow.db")).unwrap()
}

/// Every file below `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The file of an object.
fn object(space: &TestSpace, digest: &str) -> PathBuf {
    space.path().join("cache/objects").join(&digest[..2]).join(&digest[2..])
}

/// How a stage last ended.
fn record(space: &TestSpace, profile: &str, stage: &str) -> Value {
    let query = "SELECT record FROM stages WHERE profile = ?1 AND name = ?2";
    let record: String =
        database(space).query_row(query, [profile, stage], |row| row.get(0)).unwrap();
    serde_json::from_str(&record).unwrap()
}

/// The file of the first chunk of an artifact.
fn chunk_of(space: &TestSpace, artifact: &Value) -> PathBuf {
    let list = std::fs::read(object(space, artifact.as_str().unwrap())).unwrap();
    let list: Value = serde_json::from_slice(&list).unwrap();
    object(space, list["chunks"][0]["digest"].as_str().unwrap())
}

/// Holds that a run of everything makes no call and runs no row.
#[track_caller]
fn expect_nothing_to_do(space: &TestSpace, more: &[&str]) {
    let ran = space.run(more).expect(0);
    let json = ran.json();
    assert_eq!((&json["calls"], &json["calls_cached"]), (&json!(0), &json!(0)), "{json}");
    for stage in json["stages"].as_array().unwrap() {
        assert_eq!((&stage["rows_run"], &stage["state"]), (&json!(0), &json!("up_to_date")));
    }
}

#[test]
fn stats_count_what_is_there() {
    let simulator = simulator("25");
    let space = space(&simulator);
    assert_eq!(stats(&space)["runs"], 0);
    assert!(!space.exists("cache"), "only looked at");
    space.run(&[]).expect(0);
    let asked = simulator.get("/_stats")["by_endpoint"]["POST /v1/chat/completions"].clone();
    let found = stats(&space);
    assert_eq!(found["model_calls"], asked);
    assert_eq!(found["github_calls"], simulator.total() - asked.as_u64().unwrap());
    assert_eq!(found["memo_rows"], 26, "a list and its labels");
    assert_eq!((&found["tables"], &found["runs"]), (&json!(3), &json!(1)));
    let objects = files(&space.path().join("cache/objects"));
    let bytes: u64 = objects.iter().map(|file| file.metadata().unwrap().len()).sum();
    assert_eq!((&found["objects"], &found["object_bytes"]), (&json!(objects.len()), &json!(bytes)));
    assert!(found["model_bytes"].as_u64().unwrap() > 0);
    // An answer that is asked for again is kept, as it was paid for.
    space.run(&["label", "--refresh", "label"]).expect(0);
    let again = stats(&space);
    assert_eq!(again["model_calls"], asked);
    let told = space.flow(&["cache", "stats"]).expect(0).stdout;
    assert!(told.contains("answers of models") && told.lines().count() == 8, "{told}");
}

#[test]
fn verify_finds_nothing_where_nothing_is_damaged() {
    let simulator = simulator("25");
    let space = space(&simulator);
    let none = space.flow(&["cache", "verify"]).expect(0);
    assert!(none.stderr.contains("nothing is stored yet"), "{}", none.stderr);
    space.run(&[]).expect(0);
    let found = cache(&space, &["verify"]).expect(0).json();
    let sizes = stats(&space);
    let entries = ["github_calls", "model_calls", "memo_rows", "objects"];
    let entries: u64 = entries.iter().map(|name| sizes[name].as_u64().unwrap()).sum();
    assert_eq!(found, json!({"entries": entries, "damaged": [], "tables": 0}));
    expect_nothing_to_do(&space, &[]);
}

#[test]
fn verify_drops_what_is_damaged_and_it_is_made_again() {
    let simulator = simulator("25");
    let space = space(&simulator);
    space.run(&[]).expect(0);
    let before = outputs(&space);
    let asked = simulator.total();
    let notes = record(&space, "", "counts")["inputs"][1][1].clone();
    for artifact in [&record(&space, "", "label")["artifact"], &notes] {
        std::fs::write(chunk_of(&space, artifact), "damaged").unwrap();
    }
    std::fs::remove_file(chunk_of(&space, &record(&space, "", "items")["artifact"])).unwrap();
    let rows = |sql: &str| assert_eq!(database(&space).execute(sql, []).unwrap(), 1, "{sql}");
    rows(
        "UPDATE calls SET body = x'00' WHERE key = (SELECT min(key) FROM calls WHERE method = 'POST')",
    );
    rows("UPDATE memo SET rows = x'00' WHERE key = (SELECT min(key) FROM memo WHERE NOT stored)");
    let ran = cache(&space, &["verify"]).expect(1);
    let found = ran.json();
    let damaged: Vec<&str> =
        found["damaged"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    let starts = |with: &str| damaged.iter().filter(|what| what.starts_with(with)).count();
    assert_eq!(starts("the answer to POST http://"), 1, "{damaged:?}");
    assert_eq!(starts("what is remembered of a row"), 1, "{damaged:?}");
    assert_eq!(starts("the object"), 2, "{damaged:?}");
    assert_eq!(starts("the table"), 3, "{damaged:?}");
    for what in &damaged {
        assert!(ran.stderr.contains(&format!("damaged and dropped: {what}")), "{}", ran.stderr);
    }
    cache(&space, &["verify"]).expect(0);
    // Only what is needed is asked again: the row whose memo is gone may be that of the lost answer.
    let ran = space.run(&[]).expect(0);
    assert_eq!(outputs(&space), before);
    assert!(simulator.total() - asked <= 1, "{}", ran.stdout);
    cache(&space, &["verify"]).expect(0);
    expect_nothing_to_do(&space, &[]);
}

#[test]
fn a_damaged_part_of_the_table_before_does_not_stop_a_run() {
    let simulator = simulator("600");
    let space = space(&simulator);
    space.edit("pipeline.toml", "number, title}\"\n", "number, title, body}\"\n");
    space.edit("pipeline.toml", "keep = [\"number\"]", "keep = [\"number\", \"body\"]");
    space.run(&["label"]).expect(0);
    // Rows of the last table are taken over, chunk by chunk; the first one is damaged.
    std::fs::write(chunk_of(&space, &record(&space, "", "label")["artifact"]), "damaged").unwrap();
    let number = space.rows("data/items.json")[599]["number"].clone();
    simulator.item(json!({"repo": "acme/engine-1", "number": number, "title": "Edited"}));
    let ran = space.run(&["label", "--refresh", "items"]).expect(0);
    assert_eq!(ran.stage("label")["rows_run"], 1);
    assert!(ran.stderr.contains("it is made again"), "{}", ran.stderr);
    assert_eq!(space.rows("data/labels.json").len(), 600);
}

#[test]
fn an_answer_that_was_replaced_does_not_come_back_when_the_new_one_is_lost() {
    let simulator = simulator("5");
    let space = space(&simulator);
    let pick = |from: &str, to: &str| space.edit("pipeline.toml", from, to);
    let (plain, more) = ("{id: .node_id, number, title}", "{id: .node_id, number, title, state}");
    space.run(&["items"]).expect(0);
    pick(plain, more);
    space.run(&["items"]).expect(0);
    let number = space.rows("data/items.json")[0]["number"].clone();
    simulator.item(json!({"repo": "acme/engine-1", "number": number, "title": "Edited"}));
    space.run(&["items", "--refresh", "items"]).expect(0);
    let damage = "UPDATE calls SET body = x'00' WHERE revision > 0";
    assert_eq!(database(&space).execute(damage, []).unwrap(), 1);
    cache(&space, &["verify"]).expect(1);
    // The first rows stand on the answer from before the refresh.
    pick(more, plain);
    space.run(&["items"]).expect(0);
    assert_eq!(space.rows("data/items.json")[0]["title"], "Edited");
    expect_nothing_to_do(&space, &["items"]);
}

#[test]
fn a_cleared_stage_runs_again_on_its_answers() {
    let simulator = simulator("25");
    let space = space(&simulator);
    space.run(&[]).expect(0);
    let before = outputs(&space);
    let asked = simulator.total();
    let ran = space.flow(&["cache", "clear", "label"]).expect(0);
    assert!(ran.stderr.contains("25 remembered rows and 1 table forgotten"), "{}", ran.stderr);
    let ran = space.run(&[]).expect(0);
    assert_eq!(ran.states(), ["items up_to_date", "label ran", "counts up_to_date"]);
    assert_eq!(ran.stage("label")["rows_run"], 25);
    assert_eq!(ran.stage("label")["calls_cached"], 25);
    assert_eq!(simulator.total(), asked);
    assert_eq!(outputs(&space), before);
    // By an output, and a stage that calls nobody.
    space.flow(&["cache", "clear", "data/counts.json"]).expect(0);
    let ran = space.run(&[]).expect(0);
    assert_eq!(ran.states(), ["items up_to_date", "label up_to_date", "counts ran"]);
    let ran = space.flow(&["cache", "clear", "lable"]).expect(2);
    assert!(ran.stderr.contains("did you mean `label`?"), "{}", ran.stderr);
}

#[test]
fn cleared_answers_are_asked_for_again_good_and_bad() {
    let simulator = simulator("25");
    let space = space(&simulator);
    let order = json!({"path": "/v1", "status": 200, "times": 3, "body": json!({
        "model": "tiny-1", "usage": {"prompt_tokens": 10, "completion_tokens": 5},
        "choices": [{"index": 0, "finish_reason": "stop",
                     "message": {"role": "assistant", "content": "no idea"}}],
    }).to_string()});
    simulator.fault(order);
    let first = space.run(&[]).expect(1).json();
    let (github, labels) = (&first["stages"][0]["calls"], &first["stages"][1]["calls"]);
    // An answer that is no good is not asked for again by itself, nor when its row is forgotten.
    space.flow(&["cache", "clear", "label"]).expect(0);
    assert_eq!(space.run(&[]).expect(1).json()["calls"], 0);
    let ran = space.flow(&["cache", "clear", "label", "--answers"]).expect(0);
    let told = format!(
        "{labels} answers forgotten; to ask again takes as much as it took: {labels} calls"
    );
    assert!(ran.stderr.contains(&told), "{}", ran.stderr);
    let cost = format!("${:.4}", first["cost_usd"].as_f64().unwrap());
    assert!(ran.stderr.contains(&cost), "{} {}", ran.stderr, cost);
    assert_eq!(stats(&space)["model_calls"], 0);
    assert_eq!(&stats(&space)["github_calls"], github, "those of other stages stay");
    let again = space.run(&[]).expect(0);
    assert_eq!(&again.stage("label")["calls"], labels);
    assert_eq!(again.stage("label")["failed_rows"], 0);
    // What was answered under a prompt of before goes with it.
    space.write("p.md", "Label now: {{ title }}");
    space.run(&[]).expect(0);
    let ran = space.flow(&["cache", "clear", "label", "--answers"]).expect(0);
    assert!(ran.stderr.contains("50 remembered rows"), "{}", ran.stderr);
    assert_eq!(stats(&space)["model_calls"], 0);
}

/// A study with a past: prompts that were tried, a stage that is gone, a refresh, a trial.
fn with_a_past(simulator: &Simulator) -> TestSpace {
    let space = space(simulator);
    let manifest = space.read("pipeline.toml");
    let gone = r#"
[stages.gone]
kind = "github"
inputs = ["items"]
get = "/repos/acme/engine-1/issues/{{ number }}"
pick = "{state}"
"#;
    space.write("pipeline.toml", format!("{manifest}{gone}"));
    space.run(&[]).expect(0);
    space.write("pipeline.toml", manifest);
    for prompt in 1..4 {
        space.write("p.md", format!("Label {prompt}, {{{{ params.word }}}}: {{{{ title }}}}"));
        space.run(&[]).expect(0);
    }
    let number = space.rows("data/items.json")[0]["number"].clone();
    simulator.item(json!({"repo": "acme/engine-1", "number": number, "title": "Edited"}));
    space.run(&["--refresh", "items"]).expect(0);
    space.run(&["--limit", "3"]).expect(0);
    space.run(&["--profile", "other"]).expect(0);
    space.run(&[]).expect(0);
    space
}

#[test]
fn after_a_collection_nothing_is_to_do_under_any_profile() {
    let simulator = simulator("25");
    let space = with_a_past(&simulator);
    let before = outputs(&space);
    let models = stats(&space)["model_calls"].clone();
    let asked = simulator.total();
    let would = cache(&space, &["gc", "--keep-last", "0", "--dry-run"]).expect(0).json();
    let untouched = stats(&space);
    let collected = cache(&space, &["gc", "--keep-last", "0"]).expect(0).json();
    assert_eq!(would, collected, "a dry run tells what would be collected");
    let left = stats(&space);
    for (what, size) in [
        ("memo_rows", "memo_rows"),
        ("tables", "tables"),
        ("github_calls", "github_calls"),
        ("objects", "objects"),
        ("object_bytes", "object_bytes"),
    ] {
        let number = |value: &Value| value.as_u64().unwrap();
        assert!(number(&collected[what]) > 0, "{what}: {collected}");
        assert_eq!(number(&untouched[size]) - number(&collected[what]), number(&left[size]));
    }
    assert!(left["database_bytes"].as_u64() < untouched["database_bytes"].as_u64());
    assert_eq!(left["model_calls"], models, "what was paid for stays");
    for profile in PROFILES {
        expect_nothing_to_do(&space, profile);
    }
    let trial = space.run(&["--limit", "3"]).expect(0);
    assert_eq!((&trial.json()["calls"], &trial.stage("label")["rows_run"]), (&json!(0), &json!(0)));
    assert_eq!(outputs(&space), before);
    // One row changes, one row runs: what the last table was made of is still known.
    let spans = record(&space, "", "label")["spans"].clone();
    assert!(object(&space, spans.as_str().unwrap()).exists());
    cache(&space, &["verify"]).expect(0);
    let nothing = cache(&space, &["gc", "--keep-last", "0"]).expect(0).json();
    assert_eq!((&nothing["memo_rows"], &nothing["objects"]), (&json!(0), &json!(0)), "{nothing}");
    assert_eq!(simulator.total(), asked);
    // An answer that was paid for is not paid for again, though its row is.
    space.write("p.md", "Label 1, {{ params.word }}: {{ title }}");
    let back = space.run(&["label"]).expect(0);
    assert_eq!(back.json()["calls"], 1, "the edited title was never asked about with that prompt");
    assert_eq!(back.stage("label")["rows_run"], 25);
}

#[test]
fn what_may_come_out_as_it_was_is_kept() {
    let simulator = simulator("25");
    let space = space(&simulator);
    let first = space.read("p.md");
    space.run(&[]).expect(0);
    space.write("p.md", "Label otherwise: {{ title }}");
    space.run(&[]).expect(0);
    // An answer is replaced, in a field that nothing reads: what stands on answers is made anew, and
    // comes out the same.
    let item = &space.rows("data/items.json")[0];
    let (number, title) = (item["number"].clone(), item["title"].clone());
    let item = json!({"repo": "acme/engine-1", "number": number, "title": title, "body": "Edited"});
    simulator.item(item);
    space.run(&["--refresh", "items"]).expect(0);
    space.write("p.md", first);
    cache(&space, &["gc", "--keep-last", "0"]).expect(0);
    let ran = space.run(&[]).expect(0);
    assert_eq!(ran.states(), ["items up_to_date", "label ran", "counts restored"]);
    assert_eq!((&ran.json()["calls"], &ran.stage("label")["rows_run"]), (&json!(0), &json!(0)));
}

#[test]
fn the_last_runs_can_still_be_compared() {
    let simulator = simulator("25");
    let space = space(&simulator);
    // The last two take what earlier ones made.
    for prompt in [1, 2, 3, 4, 5, 1, 5] {
        space.write("p.md", format!("Label {prompt}: {{{{ title }}}}"));
        space.run(&[]).expect(0);
    }
    let diff = |from: &str| space.flow(&["diff", from, "7", "label", "--json"]);
    let (fifth, sixth) = (diff("5").expect(0).stdout, diff("6").expect(0).stdout);
    assert_ne!(diff("6").json()["stages"][0]["diff"]["changed"], 0);
    cache(&space, &["gc", "--keep-last", "3"]).expect(0);
    assert_eq!((diff("5").expect(0).stdout, diff("6").expect(0).stdout), (fifth, sixth));
    let ran = diff("2").expect(1);
    assert!(ran.stderr.contains("no longer stored"), "{}", ran.stderr);
    assert_eq!(diff("1").expect(0).stdout.replace("\"from\":1,", ""), {
        // It is the table that the sixth run restored.
        diff("6").stdout.replace("\"from\":6,", "")
    });
    assert_eq!(stats(&space)["runs"], 7, "every run stays in the history");
    assert_eq!(stats(&space)["memo_rows"], 51, "a list, and the labels of two prompts");
    // What those runs left is restored without a row; the others run again, on recorded answers.
    space.write("p.md", "Label 1: {{ title }}");
    assert_eq!(space.run(&[]).expect(0).states()[1], "label restored");
    space.write("p.md", "Label 2: {{ title }}");
    let ran = space.run(&[]).expect(0);
    assert_eq!((&ran.stage("label")["rows_run"], &ran.json()["calls"]), (&json!(25), &json!(0)));
}

#[test]
fn what_an_interrupted_list_was_told_is_kept() {
    let simulator = simulator("45");
    let space = space(&simulator);
    space.run(&["items", "--max-calls", "3"]).expect(3);
    assert_eq!(stats(&space)["github_calls"], 3);
    let collected = cache(&space, &["gc", "--keep-last", "0"]).expect(0).json();
    assert_eq!(collected["github_calls"], 0);
    let ran = space.run(&["items"]).expect(0);
    assert_eq!((&ran.json()["calls"], &ran.json()["calls_cached"]), (&json!(2), &json!(3)));
}

#[test]
fn only_what_is_older_is_collected() {
    let simulator = simulator("25");
    let space = with_a_past(&simulator);
    let collect = |age: &str| cache(&space, &["gc", "--keep-last", "0", "--older-than", age]);
    let before = stats(&space);
    collect("90d").expect(0);
    let mut after = stats(&space);
    after["database_bytes"] = before["database_bytes"].clone();
    assert_eq!(after, before);
    // Runs, answers and files of a year ago.
    let old = "2020-01-01T00:00:00.000Z";
    let connection = database(&space);
    connection.execute("UPDATE runs SET at = ?1", [old]).unwrap();
    connection.execute("UPDATE calls SET at = ?1, checked = 0", [old]).unwrap();
    drop(connection);
    for object in files(&space.path().join("cache/objects")) {
        let file = std::fs::File::options().write(true).open(object).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    }
    let collected = collect("90d").expect(0).json();
    for what in ["memo_rows", "tables", "github_calls", "objects"] {
        assert!(collected[what].as_u64().unwrap() > 0, "{what}: {collected}");
    }
    for profile in PROFILES {
        expect_nothing_to_do(&space, profile);
    }
    let ran = space.flow(&["cache", "gc", "--older-than", "long"]).expect(2);
    assert!(ran.stderr.contains("90d"), "{}", ran.stderr);
}

#[test]
fn nothing_is_collected_where_it_is_not_known_what_is_reached() {
    let simulator = simulator("25");
    let space = with_a_past(&simulator);
    let before = stats(&space);
    let manifest = space.read("pipeline.toml");
    space.write(
        "pipeline.toml",
        format!("{manifest}[profiles.wrong]\nparms = {{ word = \"x\" }}\n"),
    );
    let ran = space.flow(&["cache", "gc", "--keep-last", "0"]).expect(2);
    assert!(ran.stderr.contains("parms"), "{}", ran.stderr);
    assert_eq!(stats(&space), before);
}

#[test]
fn what_a_killed_run_left_half_written_goes_but_not_in_a_dry_run() {
    let simulator = simulator("5");
    let space = space(&simulator);
    space.run(&[]).expect(0);
    let left = space.path().join("cache/objects/ab");
    std::fs::create_dir_all(&left).unwrap();
    let left = left.join("cdef.77.0.tmp");
    std::fs::write(&left, "half").unwrap();
    stats(&space);
    cache(&space, &["verify"]).expect(0);
    let would = cache(&space, &["gc", "--dry-run"]).expect(0).json();
    assert!(left.exists(), "only looked at");
    assert_eq!((&would["objects"], &would["object_bytes"]), (&json!(1), &json!(4)));
    cache(&space, &["gc"]).expect(0);
    assert!(!left.exists());
}

#[test]
fn a_run_that_works_is_not_collected_from() {
    let simulator = Simulator::start(&["--repos", "1", "--items", "5", "--latency-ms", "60000"]);
    let space = space(&simulator);
    let mut run = space.command(&["run"]).stderr(Stdio::null()).spawn().unwrap();
    // A run is in the history once it holds the lock.
    while !space.exists("cache/flow.db") || stats(&space)["runs"] == 0 {
        assert!(run.try_wait().unwrap().is_none(), "it has ended");
        std::thread::yield_now();
    }
    for command in [&["gc"][..], &["verify"], &["clear", "label"]] {
        let ran = space.flow(&[&["cache"], command].concat()).expect(1);
        let holder = format!("a run works here (process {})", run.id());
        assert!(ran.stderr.contains(&holder), "{}", ran.stderr);
    }
    run.kill().unwrap();
    run.wait().unwrap();
}
