//! Models compared: each of them is asked about each row, by its own settings, at its own server, and
//! the rows say which. One more model costs its own calls and no others.

mod support;

use serde_json::{Value, json};
use support::{Simulator, TestSpace};

/// The two models have a server each; the address is the same whichever process that is.
struct Study {
    space: TestSpace,
    a: Simulator,
    b: Simulator,
}

impl Study {
    fn new(settings: &str) -> Study {
        let (a, b) = (Simulator::start(&[]), Simulator::start(&[]));
        let mut space = TestSpace::new();
        space.write(
            "pipeline.toml",
            format!(
                r#"
[pipeline]
name = "test"
[models.a]
base_url = "{}/v1"
model = "tiny"
temperature = 0
attempts = 1
[models.b]
base_url = "{}/v1"
model = "large"
max_completion_tokens = 500
attempts = 1
[stages.label]
kind = "llm"
inputs = ["texts.jsonl"]
key = ["id"]
{settings}
prompt = "p.md"
schema = "s.json"
outputs = ["data/labels.json"]
"#,
                a.address, b.address
            ),
        );
        write_texts(&space, &["first", "second", "third"]);
        space.write("p.md", "Label this: {{ text }}");
        space.write(
            "s.json",
            r#"{"type": "object", "required": ["label"], "additionalProperties": false,
                "properties": {"label": {"enum": ["x", "y", "z"]}}}"#,
        );
        space.env("NO_COLOR", "1");
        Study { space, a, b }
    }

    /// How many requests came to each server since the last time.
    fn asked(&self) -> [u64; 2] {
        [&self.a, &self.b].map(|server| {
            let total = server.total();
            server.reset();
            total
        })
    }

    fn column(&self, name: &str) -> Vec<Value> {
        self.space.rows("data/labels.json").iter().map(|row| row[name].clone()).collect()
    }
}

fn write_texts(space: &TestSpace, texts: &[&str]) {
    let line = |(id, text)| format!("{}\n", json!({ "id": id, "text": text }));
    space.write("texts.jsonl", (1..).zip(texts).map(line).collect::<String>());
}

#[test]
fn each_row_is_asked_of_each_model() {
    let study = Study::new("models = [\"b\", \"a\"]");
    study.space.run(&[]).expect(0);
    assert_eq!(study.asked(), [3, 3]);
    assert_eq!(study.column("id"), [1, 1, 2, 2, 3, 3]);
    assert_eq!(study.column("model"), ["b", "a", "b", "a", "b", "a"], "as the manifest has them");
    let called: Vec<Value> =
        study.column("_call").iter().map(|call| call["model"].clone()).collect();
    assert_eq!(called, ["large", "tiny", "large", "tiny", "large", "tiny"]);
    assert_eq!(study.space.run(&[]).expect(0).states(), ["label up_to_date"]);
    assert_eq!(study.asked(), [0, 0]);
}

#[test]
fn one_more_model_is_asked_alone() {
    let study = Study::new("model = \"a\"");
    study.space.run(&[]).expect(0);
    let before = study.column("label");
    assert_eq!(study.asked(), [3, 0]);
    study.space.edit("pipeline.toml", "model = \"a\"\nprompt", "models = [\"a\", \"b\"]\nprompt");
    let plan = study.space.flow(&["plan", "--json"]).expect(0).json();
    assert_eq!(plan["calls"], 3, "{plan}");
    assert_eq!(plan["stages"][0]["calls_cached"], 3);
    study.space.run(&[]).expect(0);
    assert_eq!(study.asked(), [0, 3]);
    let first: Vec<Value> = study.column("label").into_iter().step_by(2).collect();
    assert_eq!(first, before);
}

#[test]
fn a_plan_counts_rows_times_models_times_samples() {
    let study = Study::new("models = [\"a\", \"b\"]\nsamples = 4");
    let plan = study.space.flow(&["plan", "--json"]).expect(0).json();
    assert_eq!((&plan["calls"], &plan["exact"]), (&json!(24), &json!(true)), "{plan}");
    assert_eq!(study.space.run(&[]).expect(0).json()["calls"], 24);
    assert_eq!(study.asked(), [12, 12]);
    let keys: Vec<(Value, Value)> =
        study.column("model").into_iter().zip(study.column("sample")).take(8).collect();
    let expected =
        ["a", "b"].iter().flat_map(|model| (1..=4).map(move |it| (json!(model), json!(it))));
    assert_eq!(keys, expected.collect::<Vec<_>>());
}

#[test]
fn the_models_of_a_vote_vote_apart() {
    let study = Study::new("models = [\"a\", \"b\"]\nsamples = 3\nvote = \"label\"");
    study.space.run(&[]).expect(0);
    assert_eq!(study.asked(), [9, 9]);
    assert_eq!(study.column("model"), ["a", "b", "a", "b", "a", "b"]);
    assert_eq!(study.column("agreement"), [1.0; 6], "a server that does not vary agrees");
    let row = &study.space.rows("data/labels.json")[0];
    let fields: Vec<&String> = row.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["id", "model", "label", "agreement", "votes", "tie", "_call"]);
}

#[test]
fn a_failure_names_its_model_and_only_that_is_asked_again() {
    let study = Study::new("models = [\"a\", \"b\"]");
    study.b.fault(json!({ "path": "/v1", "status": 500 }));
    study.space.run(&[]).expect(1);
    assert_eq!(study.asked(), [3, 3]);
    let failed = study.space.rows("data/labels.json.failed.jsonl");
    assert_eq!(failed.len(), 3);
    let reason = failed[0]["_failed"]["reason"].as_str().unwrap();
    assert!(reason.starts_with("model `b`: no answer after 1 attempt"), "{reason}");
    study.b.heal();
    study.space.run(&[]).expect(0);
    assert_eq!(study.asked(), [0, 3]);
}

#[test]
fn the_keys_and_servers_of_all_models_are_looked_at() {
    let study = Study::new("models = [\"a\", \"b\"]");
    let key = |name: &str| format!("attempts = 1\napi_key = {{ env = \"{name}\" }}\n");
    let text = study.space.read("pipeline.toml");
    let text = text.replacen("attempts = 1\n", &key("KEY_A"), 1);
    let (before, after) = text.rsplit_once("attempts = 1\n").expect("the second model");
    study.space.write("pipeline.toml", format!("{before}{}{after}", key("KEY_B")));
    let ran = study.space.run(&[]).expect(2);
    for told in [
        "KEY_A is not set, or empty; model `a` needs",
        "KEY_B is not set, or empty; model `b` needs",
    ] {
        assert!(ran.stderr.contains(told), "{told}: {}", ran.stderr);
    }
    study.space.write("pipeline.toml", text.replace(&key("KEY_A"), ""));
    let checked = study.space.flow(&["check", "--online", "--json"]);
    let told = checked.stdout + &checked.stderr;
    for name in ["\"a\"", "\"b\""] {
        assert!(told.contains(name), "{told}");
    }
}

#[test]
fn runs_after_edits_make_what_a_run_from_scratch_makes() {
    let settings = "models = [\"a\", \"b\"]\nsamples = 2";
    let edited = Study::new("models = [\"a\"]\nsamples = 2");
    edited.space.run(&[]).expect(0);
    let texts = ["third", "another", "first", "fourth"];
    write_texts(&edited.space, &texts);
    edited.space.run(&[]).expect(0);
    edited.space.edit("pipeline.toml", "models = [\"a\"]", "models = [\"a\", \"b\"]");
    edited.space.run(&[]).expect(0);
    assert_eq!(edited.asked(), [10, 8]);
    // Another folder, the same servers.
    let clean = TestSpace::new();
    for file in ["pipeline.toml", "p.md", "s.json", "texts.jsonl"] {
        clean.write(file, edited.space.read(file));
    }
    assert!(clean.read("pipeline.toml").contains(settings));
    clean.run(&[]).expect(0);
    assert_eq!(edited.asked(), [8, 8]);
    let file = "data/labels.json";
    assert!(edited.space.read(file) == clean.read(file));
    assert_eq!(clean.rows(file).len(), 16);
}

#[test]
fn columns_that_would_be_there_twice_are_told() {
    let study = Study::new("models = [\"a\", \"b\"]");
    study.space.edit("s.json", "label", "model");
    let ran = study.space.flow(&["check"]).expect(2);
    let told = "`models` adds the column `model`, and the answer has a field of that name";
    assert!(ran.stderr.contains(told), "{}", ran.stderr);
    study.space.edit("s.json", "model", "label");
    // The rows of one comparison are the input of another.
    study.space.edit(
        "pipeline.toml",
        "[stages.label]",
        "[stages.again]\nkind = \"llm\"\ninputs = [\"label\"]\nmodels = [\"a\"]\nprompt = \"q.md\"\n\
         [stages.label]",
    );
    study.space.write("q.md", "Is {{ label }} right?");
    let ran = study.space.flow(&["check"]).expect(2);
    let told = "`models` adds the column `model`, and the input's key has a field of that name";
    assert!(ran.stderr.contains(told), "{}", ran.stderr);
}
