//! A model whose provider fails is answered for by its fallback, which says so; what that answered is
//! never taken for the first one's, and the next run asks the first again.

mod support;

use serde_json::{Value, json};
use support::{Simulator, TestSpace};

struct Study {
    space: TestSpace,
    first: Simulator,
    other: Simulator,
}

impl Study {
    /// A study of so many rows. One request is under way at a time.
    fn new(rows: u32) -> Study {
        let (first, other) = (Simulator::start(&[]), Simulator::start(&[]));
        let mut space = TestSpace::new();
        space.write(
            "pipeline.toml",
            format!(
                r#"
[pipeline]
name = "test"
[models.first]
base_url = "{}/v1"
model = "tiny"
attempts = 1
limits = {{ concurrency = 1 }}
fallback = "other"
[models.other]
base_url = "{}/v1"
model = "large"
temperature = 0.5
attempts = 1
limits = {{ concurrency = 1 }}
[stages.label]
kind = "llm"
inputs = ["texts.jsonl"]
key = ["id"]
model = "first"
prompt = "p.md"
schema = "s.json"
outputs = ["data/labels.json"]
[stages.counts]
kind = "sql"
inputs = ["label"]
query = "SELECT label, count(*) AS rows FROM label GROUP BY label ORDER BY label"
key = ["label"]
outputs = ["data/counts.json"]
"#,
                first.address, other.address
            ),
        );
        write_texts(&space, 1..=rows);
        space.write("p.md", "Label this: {{ text }}");
        space.write(
            "s.json",
            r#"{"type": "object", "required": ["label"], "additionalProperties": false,
                "properties": {"label": {"enum": ["x", "y", "z"]}}}"#,
        );
        space.env("NO_COLOR", "1");
        Study { space, first, other }
    }

    fn break_first(&self) {
        self.first.fault(json!({ "path": "/v1", "status": 503 }));
    }

    /// How many requests came to each server since the last time.
    fn asked(&self) -> [u64; 2] {
        [&self.first, &self.other].map(|server| {
            let total = server.total();
            server.reset();
            total
        })
    }

    fn calls(&self) -> Vec<Value> {
        self.space.rows("data/labels.json").iter().map(|row| row["_call"].clone()).collect()
    }
}

fn write_texts(space: &TestSpace, ids: impl Iterator<Item = u32>) {
    let line = |id| format!("{}\n", json!({ "id": id, "text": format!("text {id}") }));
    space.write("texts.jsonl", ids.map(line).collect::<String>());
}

#[test]
fn the_other_answers_and_says_so_and_the_first_is_asked_again() {
    let study = Study::new(3);
    study.break_first();
    let ran = study.space.run(&[]).expect(0);
    assert_eq!(ran.states(), ["label ran", "counts ran"]);
    assert!(ran.stderr.contains("3 rows were answered by `other`"), "{}", ran.stderr);
    assert_eq!(study.asked(), [3, 3]);
    for call in study.calls() {
        assert_eq!((&call["model"], &call["fallback_for"]), (&json!("large"), &json!("first")));
    }
    let answered = study.space.read("data/labels.json");
    assert!(!study.space.exists("data/labels.json.failed.jsonl"));

    // It still fails: what the other said is recorded.
    let plan = study.space.flow(&["plan", "--json"]).expect(0).json();
    assert_eq!(plan["stages"][0]["reason"], "3 rows answered by another model");
    assert_eq!(plan["calls"], 3, "{plan}");
    let ran = study.space.run(&[]).expect(0);
    assert_eq!(ran.states(), ["label ran", "counts up_to_date"]);
    assert_eq!(study.asked(), [3, 0]);
    assert_eq!(study.space.read("data/labels.json"), answered);
    study.space.run(&["--offline"]).expect(0);
    assert_eq!(study.space.read("data/labels.json"), answered, "nor is the first asked offline");
    assert_eq!(study.asked(), [0, 0]);

    // It is back.
    study.first.heal();
    study.space.run(&[]).expect(0);
    assert_eq!(study.asked(), [3, 0]);
    for call in study.calls() {
        assert_eq!((&call["model"], &call["fallback_for"]), (&json!("tiny"), &Value::Null));
    }
    assert_eq!(study.space.run(&[]).expect(0).states(), ["label up_to_date", "counts up_to_date"]);
    assert_eq!(study.asked(), [0, 0]);

    let clean = TestSpace::new();
    for file in ["pipeline.toml", "p.md", "s.json", "texts.jsonl"] {
        clean.write(file, study.space.read(file));
    }
    clean.run(&[]).expect(0);
    for file in ["data/labels.json", "data/counts.json"] {
        assert!(clean.read(file) == study.space.read(file), "{file}: as if it had never failed");
    }
}

#[test]
fn rows_that_the_first_answered_are_not_asked_again() {
    let study = Study::new(4);
    study.first.fault(json!({ "path": "/v1", "status": 500, "match": "text 2" }));
    study.space.run(&[]).expect(0);
    assert_eq!(study.asked(), [4, 1]);
    let by: Vec<Value> = study.calls().iter().map(|call| call["fallback_for"].clone()).collect();
    assert_eq!(by, [Value::Null, json!("first"), Value::Null, Value::Null]);
    study.first.heal();
    let ran = study.space.run(&[]).expect(0);
    assert_eq!(
        (&ran.stage("label")["rows_run"], &ran.stage("label")["rows_memo"]),
        (&json!(1), &json!(3))
    );
    assert_eq!(study.asked(), [1, 0]);
}

#[test]
fn one_that_fails_again_and_again_is_left_alone() {
    let study = Study::new(3);
    study.space.run(&[]).expect(0);
    assert_eq!(study.asked(), [3, 0]);
    study.break_first();
    write_texts(&study.space, (4..=12).chain(1..=3));
    // Every row runs; what is recorded is taken from the record.
    let ran = study.space.run(&["--force", "label"]).expect(0);
    // One request is under way at a time, and one more row may wait for its turn by then.
    let [first, other] = study.asked();
    assert!((5..=6).contains(&first), "after five failures it is left alone: {first}");
    assert_eq!(other, 9);
    assert_eq!(ran.stderr.matches("`first` failed too often").count(), 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("9 rows were answered by `other`"), "{}", ran.stderr);
    let by: Vec<Value> = study.calls().iter().map(|call| call["model"].clone()).collect();
    assert_eq!(by[..9], ["large"; 9]);
    assert_eq!(by[9..], ["tiny"; 3], "what it had answered is its own");
    study.first.heal();
    study.space.run(&[]).expect(0);
    assert_eq!(study.asked(), [9, 0]);
}

#[test]
fn answers_that_are_no_good_stay_its_own() {
    let study = Study::new(2);
    study.first.fault(json!({ "path": "/v1", "says": "refusal" }));
    study.space.run(&[]).expect(1);
    assert_eq!(study.asked(), [2, 0]);
    let failed = study.space.rows("data/labels.json.failed.jsonl");
    assert_eq!(failed[0]["_failed"]["kind"], "answer");
    study.first.heal();
    study.first.fault(json!({ "path": "/v1", "status": 401 }));
    write_texts(&study.space, 3..=4);
    study.space.run(&[]).expect(1);
    assert_eq!(study.asked()[1], 0, "a key that is refused is no failure in passing");
}

#[test]
fn where_the_other_has_no_answer_either_the_next_run_asks_both() {
    let study = Study::new(1);
    study.break_first();
    study.other.fault(json!({ "path": "/v1", "says": "refusal" }));
    study.space.run(&[]).expect(1);
    let failed = study.space.rows("data/labels.json.failed.jsonl");
    assert_eq!(failed[0]["_failed"]["kind"], "passing", "the first may be back the next time");
    let reason = failed[0]["_failed"]["reason"].as_str().unwrap();
    for told in ["`first`: no answer after 1 attempt", "`other`: the model refused"] {
        assert!(reason.contains(told), "{reason}");
    }
    assert_eq!(study.asked(), [1, 1]);
    study.first.heal();
    study.space.run(&[]).expect(0);
    assert_eq!(study.asked(), [1, 0]);
}

#[test]
fn a_chain_goes_on_and_the_samples_of_a_row_go_their_own_ways() {
    let study = Study::new(1);
    let last = "[models.last]\nbase_url = \"http://127.0.0.1:9/v1\"\nmodel = \"last\"\n";
    let text = study.space.read("pipeline.toml");
    let text = text.replace(
        "[models.other]",
        &format!("{last}fallback = \"other\"\nattempts = 1\n[models.other]"),
    );
    let text =
        text.replace("fallback = \"other\"\n[models.last]", "fallback = \"last\"\n[models.last]");
    let text =
        text.replace("model = \"first\"\nprompt", "models = [\"first\"]\nsamples = 3\nprompt");
    study.space.write("pipeline.toml", text);
    study.first.fault(json!({ "path": "/v1", "status": 500, "times": 1 }));
    let ran = study.space.run(&[]).expect(0);
    assert!(ran.stderr.contains("1 row was answered by `other`"), "{}", ran.stderr);
    assert_eq!(study.asked(), [3, 1]);
    let rows = study.space.rows("data/labels.json");
    let told: Vec<(&Value, &Value)> =
        rows.iter().map(|row| (&row["model"], &row["_call"]["fallback_for"])).collect();
    let (first, none) = (json!("first"), Value::Null);
    assert_eq!(told, [(&first, &first), (&first, &none), (&first, &none)]);
    study.space.run(&[]).expect(0);
    assert_eq!(study.asked(), [1, 0], "the samples that it answered are recorded");
}

#[test]
fn a_vote_says_that_a_fallback_had_a_part_in_it() {
    let study = Study::new(1);
    let vote = "model = \"first\"\nsamples = 3\nvote = \"label\"\nprompt";
    study.space.edit("pipeline.toml", "model = \"first\"\nprompt", vote);
    study.first.fault(json!({ "path": "/v1", "status": 500, "times": 1 }));
    study.space.run(&[]).expect(0);
    assert_eq!(study.asked(), [3, 1]);
    assert_eq!(study.calls()[0]["fallback_for"], "first");
}

#[test]
fn rows_that_ran_ahead_of_their_table_are_not_asked_twice() {
    let study = Study::new(4);
    study.space.edit("pipeline.toml", "inputs = [\"texts.jsonl\"]", "inputs = [\"texts\"]");
    let texts = "[stages.texts]\nkind = \"command\"\nmode = \"rows\"\nbatch = 1\nrun = [\"cat\"]\n\
                 inputs = [\"texts.jsonl\"]\nkey = [\"id\"]\n[stages.label]";
    study.space.edit("pipeline.toml", "[stages.label]", texts);
    study.break_first();
    let ran = study.space.run(&[]).expect(0);
    assert_eq!(study.asked(), [4, 4]);
    assert_eq!(ran.stage("label")["rows_run"], 4);
    assert!(ran.stderr.contains("4 rows were answered by `other`"), "{}", ran.stderr);
}

#[test]
fn another_fallback_is_another_definition() {
    let study = Study::new(1);
    study.space.run(&[]).expect(0);
    study.space.edit("pipeline.toml", "temperature = 0.5", "temperature = 0.7");
    let why = study.space.flow(&["why", "label"]).expect(0);
    assert!(why.stdout.contains("changed"), "{}", why.stdout);
    assert_eq!(study.space.run(&[]).expect(0).stage("label")["calls"], 0);
}
