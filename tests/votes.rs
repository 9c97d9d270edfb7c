//! Samples and votes: each sample is a call of its own, and cached on its own; a vote takes what most
//! of them say, says how many that are, and takes nothing from a tie.

mod support;

use serde_json::{Value, json};
use support::{Simulator, TestSpace};

const TEXTS: [&str; 4] = ["first", "second", "third", "fourth"];

/// A study of `texts`; `settings` are those of the stage. One request is under way at a time, so that
/// the samples of a row are answered in their order.
fn space(simulator: &Simulator, texts: &[&str], settings: &str) -> TestSpace {
    let mut space = TestSpace::new();
    space.write(
        "pipeline.toml",
        format!(
            r#"
[pipeline]
name = "test"
[models.small]
base_url = "http://small.invalid/v1"
model = "tiny"
attempts = 1
limits = {{ concurrency = 1 }}
[stages.label]
kind = "llm"
inputs = ["texts.jsonl"]
key = ["id"]
model = "small"
prompt = "p.md"
schema = "s.json"
outputs = ["data/labels.json"]
{settings}
"#
        ),
    );
    write_texts(&space, texts);
    space.write("p.md", "Label this: {{ text }}");
    space.write(
        "s.json",
        r#"{"type": "object", "required": ["reason", "label"], "additionalProperties": false,
            "properties": {"reason": {"type": "string"}, "label": {"enum": ["a", "b", "c"]}}}"#,
    );
    // As a proxy, it has the same address whichever process it is.
    space.env("NO_COLOR", "1").env("HTTP_PROXY", &simulator.address);
    space
}

fn write_texts(space: &TestSpace, texts: &[&str]) {
    let line = |(id, text)| format!("{}\n", json!({ "id": id, "text": text }));
    space.write("texts.jsonl", (1..).zip(texts).map(line).collect::<String>());
}

/// Every answer of this simulator is another one, also to the same question.
fn varying() -> Simulator {
    Simulator::start(&["--vary"])
}

/// The next answers give these labels, in this order.
fn say(simulator: &Simulator, labels: &[&str]) {
    for (times, label) in (1..).zip(labels) {
        let content = json!({ "reason": format!("because of {times}"), "label": label });
        let message = json!({ "role": "assistant", "content": content.to_string() });
        let body = json!({
            "model": "tiny-1", "usage": { "prompt_tokens": 10, "completion_tokens": 5 },
            "choices": [{ "index": 0, "message": message, "finish_reason": "stop" }],
        });
        let body = body.to_string();
        // All of them see each request, and the first that is not used up answers it.
        simulator.fault(json!({ "path": "/v1", "status": 200, "body": body, "times": times }));
    }
}

fn column(rows: &[Value], name: &str) -> Vec<Value> {
    rows.iter().map(|row| row[name].clone()).collect()
}

#[test]
fn each_sample_is_a_row_and_a_call_of_its_own() {
    let simulator = varying();
    let space = space(&simulator, &TEXTS[..2], "samples = 3");
    let ran = space.run(&[]).expect(0);
    assert_eq!(ran.json()["calls"], 6);
    assert_eq!(simulator.total(), 6);
    let rows = space.rows("data/labels.json");
    assert_eq!(column(&rows, "id"), [1, 1, 1, 2, 2, 2]);
    assert_eq!(column(&rows, "sample"), [1, 2, 3, 1, 2, 3]);
    let fields: Vec<&String> = rows[0].as_object().unwrap().keys().collect();
    assert_eq!(fields, ["id", "sample", "reason", "label", "_call"]);
    let mut calls: Vec<String> =
        rows.iter().map(|row| row["_call"]["id"].as_str().unwrap().to_owned()).collect();
    calls.sort();
    calls.dedup();
    assert_eq!(calls.len(), 6);
    assert_eq!(space.run(&[]).expect(0).states(), ["label up_to_date"]);
}

#[test]
fn the_first_sample_is_the_answer_that_there_was() {
    let simulator = varying();
    let space = space(&simulator, &TEXTS, "");
    space.run(&[]).expect(0);
    let before = space.rows("data/labels.json");
    space.edit("pipeline.toml", "model = \"small\"", "model = \"small\"\nsamples = 3");
    assert_eq!(space.run(&[]).expect(0).json()["calls"], 8, "two more of each");
    let first = space.rows("data/labels.json").into_iter().step_by(3);
    for (row, before) in first.zip(before) {
        assert_eq!((&row["reason"], &row["_call"]), (&before["reason"], &before["_call"]));
    }
}

#[test]
fn more_samples_ask_only_for_what_is_new() {
    let simulator = varying();
    let space = space(&simulator, &TEXTS, "samples = 3\nvote = \"label\"");
    space.run(&[]).expect(0);
    let three = space.read("data/labels.json");
    assert_eq!(simulator.total(), 12);
    space.edit("pipeline.toml", "samples = 3", "samples = 5");
    let plan = space.flow(&["plan", "--json"]).expect(0).json();
    assert_eq!((&plan["calls"], &plan["exact"]), (&json!(8), &json!(true)), "{plan}");
    assert_eq!(plan["stages"][0]["calls_cached"], 12);
    assert_eq!(space.run(&[]).expect(0).json()["calls"], 8);
    assert_eq!(simulator.total(), 20);
    space.edit("pipeline.toml", "samples = 5", "samples = 3");
    assert_eq!(space.run(&[]).expect(0).states(), ["label restored"]);
    assert_eq!(space.read("data/labels.json"), three);
    assert_eq!(simulator.total(), 20);
}

#[test]
fn a_vote_takes_what_most_samples_say() {
    let simulator = Simulator::start(&[]);
    let space = space(&simulator, &TEXTS[..1], "samples = 3\nvote = \"label\"");
    say(&simulator, &["a", "b", "b"]);
    space.run(&[]).expect(0);
    let rows = space.rows("data/labels.json");
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    let fields: Vec<&String> = row.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["id", "reason", "label", "agreement", "votes", "tie", "_call"]);
    assert_eq!((&row["label"], &row["reason"]), (&json!("b"), &json!("because of 2")));
    assert_eq!((&row["agreement"], &row["tie"]), (&json!(2.0 / 3.0), &json!(false)));
    assert_eq!(
        row["votes"],
        json!([
            { "answer": { "label": "b" }, "count": 2 },
            { "answer": { "label": "a" }, "count": 1 },
        ])
    );
    assert_eq!(row["_call"]["samples"].as_array().unwrap().len(), 3);
    assert_eq!(row["_call"]["samples"][1], row["_call"]["id"], "the first that says so");
}

#[test]
fn a_tie_is_no_answer() {
    let simulator = Simulator::start(&[]);
    let space = space(&simulator, &TEXTS[..1], "samples = 4\nvote = [\"label\"]");
    say(&simulator, &["c", "a", "a", "c"]);
    space.run(&[]).expect(0);
    let row = space.rows("data/labels.json").remove(0);
    assert_eq!((&row["label"], &row["reason"]), (&Value::Null, &Value::Null));
    assert_eq!((&row["agreement"], &row["tie"]), (&json!(0.5), &json!(true)));
    assert_eq!(
        row["votes"],
        json!([
            { "answer": { "label": "c" }, "count": 2 },
            { "answer": { "label": "a" }, "count": 2 },
        ])
    );
}

#[test]
fn a_row_that_lacks_a_sample_fails_and_the_others_are_not_paid_for_again() {
    let simulator = varying();
    let space = space(&simulator, &TEXTS[..1], "samples = 3\nvote = \"label\"");
    simulator.fault(json!({ "path": "/v1", "status": 500, "times": 1 }));
    space.run(&[]).expect(1);
    assert!(space.rows("data/labels.json").is_empty());
    let failed = space.rows("data/labels.json.failed.jsonl");
    assert_eq!(failed[0]["_failed"]["kind"], "passing");
    let reason = failed[0]["_failed"]["reason"].as_str().unwrap();
    assert!(reason.starts_with("sample 1: no answer after 1 attempt"), "{reason}");
    assert_eq!(simulator.total(), 3);
    space.run(&[]).expect(0);
    assert_eq!(simulator.total(), 4);
}

#[test]
fn a_bad_sample_is_asked_again_by_itself() {
    let simulator = varying();
    let space = space(&simulator, &TEXTS[..2], "samples = 3\nvote = \"label\"");
    simulator.fault(json!({ "path": "/v1", "says": "refusal", "times": 1 }));
    let ran = space.run(&[]).expect(1);
    assert_eq!(
        (&ran.stage("label")["rows"], &ran.stage("label")["failed_rows"]),
        (&json!(1), &json!(1))
    );
    let failed = space.rows("data/labels.json.failed.jsonl");
    assert_eq!(failed[0]["_failed"]["kind"], "answer");
    let reason = failed[0]["_failed"]["reason"].as_str().unwrap();
    assert!(reason.starts_with("sample 1: the model refused"), "{reason}");
    let asked = simulator.total();
    space.run(&[]).expect(1);
    assert_eq!(simulator.total(), asked, "nothing is paid for again unasked");
    assert_eq!(space.run(&["--retry-failed"]).expect(0).json()["calls"], 1);
    assert_eq!(simulator.total(), asked + 1);
    assert_eq!(space.rows("data/labels.json").len(), 2);
}

#[test]
fn runs_after_edits_make_what_a_run_from_scratch_makes() {
    for settings in ["samples = 3", "samples = 3\nvote = \"label\""] {
        let simulator = varying();
        let edited = space(&simulator, &TEXTS, settings);
        edited.run(&[]).expect(0);
        // The third text comes first, the second is another one, one is new; then more samples.
        let texts = ["third", "first", "another", "fourth", "fifth"];
        write_texts(&edited, &texts);
        let ran = edited.run(&[]).expect(0);
        assert_eq!(ran.json()["calls"], 6, "two texts are new");
        let settings = settings.replace('3', "5");
        edited.edit("pipeline.toml", "samples = 3", "samples = 5");
        let ran = edited.run(&[]).expect(0);
        assert_eq!(ran.json()["calls"], 10);

        let simulator = varying();
        let clean = space(&simulator, &texts, &settings);
        clean.run(&[]).expect(0);
        assert_eq!(simulator.total(), 25);
        let file = "data/labels.json";
        assert!(edited.read(file) == clean.read(file), "{settings}");
        let rows = clean.rows(file);
        assert!(rows.iter().any(|row| row["label"] != rows[0]["label"]), "labels differ");
    }
}

#[test]
fn what_cannot_be_voted_on_is_told_at_its_place() {
    let simulator = Simulator::start(&[]);
    for (settings, schema, told) in [
        ("vote = \"label\"", "", "`vote` needs two samples or more"),
        ("vote = \"label\"\nsamples = 1", "", "`vote` needs two samples or more"),
        ("vote = []\nsamples = 3", "", "`vote` names no field"),
        ("vote = \"lable\"\nsamples = 3", "", "did you mean `label`?"),
        ("vote = 5\nsamples = 3", "", "expected a text or a list of texts, found the number `5`"),
        ("samples = 0", "", "`samples` of stage `label`"),
        ("samples = 3", "sample", "`samples` adds the column `sample`, and the answer has a field"),
        ("vote = \"label\"\nsamples = 3", "tie", "`vote` adds the column `tie`"),
    ] {
        let space = space(&simulator, &TEXTS, settings);
        if !schema.is_empty() {
            space.edit("s.json", "reason", schema);
        }
        let ran = space.flow(&["check"]).expect(2);
        assert!(ran.stderr.contains(told), "{settings}: {}", ran.stderr);
        assert!(ran.stderr.contains("pipeline.toml:"), "{}", ran.stderr);
    }
}
