//! Real input: thousands of real issues, and a real model server. The model is far too small to be
//! right, so what is held is the machinery: everything is collected, every answer keeps to its
//! schema, its usage is recorded, what is none is told as what it is, and nothing is asked twice.
//!
//! The issues are in the folder that `FLOW_TEST_DATA` names; the server is installed by
//! `tests/real/install.sh`. Where either is missing these tests say so; in CI they fail.

mod support;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::json;
use support::{Simulator, TestSpace, missing, repository};

fn issues() -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("FLOW_TEST_DATA") else {
        missing("FLOW_TEST_DATA names no folder with real issues");
        return None;
    };
    let file = PathBuf::from(folder).join("llm-serving-issues.jsonl.gz");
    if !file.is_file() {
        missing(&format!("{} is not there", file.display()));
        return None;
    }
    // A relative folder is meant from where the tests are started.
    Some(file.canonicalize().expect("it is there"))
}

fn space(files: &[&str]) -> TestSpace {
    let space = TestSpace::new();
    for file in files {
        let text = std::fs::read(repository().join("tests/real").join(file)).expect(file);
        space.write(file, text);
    }
    space
}

#[test]
fn all_real_issues_are_collected_once() {
    let Some(issues) = issues() else { return };
    let simulator = Simulator::start(&["--data", issues.to_str().expect("UTF-8")]);
    let mut space = space(&["pipeline.toml", "label.md", "label.schema.json"]);
    space.env("FLOW_GITHUB", &format!("{}/github", simulator.address));
    // Nobody listens there: this test is of the issues alone.
    space.env("FLOW_MODEL", "http://127.0.0.1:9/v1");
    let text = space.read("pipeline.toml");
    let (before, _) = text.split_once("[stages.label]").expect("the stage");
    space.write("pipeline.toml", before);
    let ran = space.run(&[]).expect(0);
    assert_eq!(ran.stage("items")["rows"], 2957);
    assert_eq!(ran.stage("items")["calls"], 16 + 15, "pages of a hundred");
    let counts = space.rows("data/counts.json");
    assert_eq!(counts[0]["repo"], "ggml-org/llama.cpp");
    assert_eq!((&counts[0]["items"], &counts[1]["items"]), (&json!(1541), &json!(1416)));
    let without: i64 = counts.iter().map(|row| row["without_body"].as_i64().unwrap()).sum();
    assert_eq!(without, 53);
    let again = space.run(&[]).expect(0);
    assert_eq!(again.states(), ["items up_to_date", "counts up_to_date", "few up_to_date"]);
    assert_eq!(simulator.total(), 31);
}

/// The real server, as a process that ends with the test.
struct ModelServer {
    child: Child,
    address: String,
    _alone: MutexGuard<'static, ()>,
}

/// One server at a time: each takes all processors.
static ALONE: Mutex<()> = Mutex::new(());

impl ModelServer {
    fn start(arguments: &[&str]) -> Option<ModelServer> {
        let python = repository().join("target/real/venv/bin/python");
        if !python.exists() {
            missing("the model server; tests/real/install.sh installs it");
            return None;
        }
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut child = Command::new(python)
            .arg(repository().join("tests/real/model_server.py"))
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let address = stdout
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("listening on ").map(str::to_owned))
            .expect("the server says where it listens");
        Some(ModelServer { child, address, _alone: alone })
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_real_model_answers_by_the_schema_and_is_asked_once() {
    let Some(issues) = issues() else { return };
    let Some(model) = ModelServer::start(&[]) else {
        return;
    };
    let simulator = Simulator::start(&["--data", issues.to_str().expect("UTF-8")]);
    let mut space = space(&["pipeline.toml", "label.md", "label.schema.json"]);
    space.env("FLOW_GITHUB", &format!("{}/github", simulator.address));
    space.env("FLOW_MODEL", &format!("{}/v1", model.address));
    let ran = space.run(&[]).expect(0);
    assert_eq!(ran.stage("label")["rows"], 10);
    let rows = space.rows("data/labels.json");
    for row in &rows {
        assert!(["bug", "feature", "question"].contains(&row["label"].as_str().expect("a label")));
        let call = &row["_call"];
        assert_eq!(call["source"], "model");
        assert_eq!(call["model"], "smollm2-135m");
        assert!(call["returned_model"].is_string(), "{call}");
        assert!(call["tokens_in"].as_u64().expect("usage") > 10, "{call}");
        assert!(call["tokens_out"].as_u64().expect("usage") > 1, "{call}");
    }
    let json = ran.json();
    assert!(json["tokens_in"].as_u64() > Some(100));
    let again = space.run(&[]).expect(0);
    assert_eq!(again.json()["calls"], 0);
    assert!(
        again.states().iter().all(|state| state.ends_with("up_to_date")),
        "{:?}",
        again.states()
    );
    // What was answered is enough: the model may be gone.
    drop(model);
    std::fs::remove_dir_all(space.path().join("data")).expect("outputs");
    let restored = space.run(&[]).expect(0);
    assert_eq!(restored.json()["calls"], 0);
    assert_eq!(space.rows("data/labels.json"), rows);
}

const KEY: &str = "a-key-of-the-test";

/// A project with one stage that asks the real model about some texts.
fn asking(model: &ModelServer, texts: &[&str], settings: &str, of_model: &str) -> TestSpace {
    let mut space = TestSpace::new();
    let rows = texts.iter().map(|text| format!("{}\n", json!({ "text": text })));
    space.write("texts.jsonl", rows.collect::<String>());
    space.write("p.md", "{{ text }}");
    space.write(
        "s.json",
        r#"{ "type": "object", "required": ["label"], "properties": {
            "label": { "enum": ["bug", "feature"] }, "sure": { "type": "boolean" } } }"#,
    );
    space.write(
        "pipeline.toml",
        format!(
            r#"
[pipeline]
name = "asking"
[models.tiny]
base_url = "{}/v1"
api_key = {{ env = "MODEL_KEY" }}
model = "smollm2-135m"
temperature = 0
limits = {{ concurrency = 4 }}
timeout = 300
{of_model}
[stages.label]
kind = "llm"
inputs = ["texts.jsonl"]
model = "tiny"
prompt = "p.md"
outputs = ["data/labels.jsonl"]
{settings}
"#,
            model.address
        ),
    );
    space.env("MODEL_KEY", KEY).env("NO_COLOR", "1");
    space
}

/// Why the one row has no answer; asking again would change nothing, and is not done.
fn no_answer(space: &TestSpace, what: &str) -> String {
    let ran = space.run(&[]).expect(1);
    assert_eq!(ran.states(), ["label incomplete"]);
    let failed = space.rows("data/labels.jsonl.failed.jsonl");
    assert_eq!((failed.len(), &failed[0]["_failed"]["what"]), (1, &json!(what)), "{}", failed[0]);
    assert_eq!(space.run(&[]).expect(1).json()["calls"], 0);
    failed[0]["_failed"]["reason"].as_str().expect("a reason").to_owned()
}

#[test]
fn a_real_server_is_understood_in_all_that_it_says() {
    let Some(model) = ModelServer::start(&["--slots", "4", "--context", "256", "--key", KEY])
    else {
        return;
    };
    let schema = "schema = \"s.json\"";

    // Four at once; what the schema leaves open is asked for in its strict form.
    let texts = ["Bug or feature? Crash.", "Bug or feature? Add it.", "Bug?", "Feature?"];
    let space = asking(&model, &texts, schema, "max_tokens = 64");
    space.run(&[]).expect(0);
    let rows = space.rows("data/labels.jsonl");
    assert_eq!(rows.len(), 4);
    for row in &rows {
        assert!(row["label"] == "bug" || row["label"] == "feature", "{row}");
        assert!(row["sure"].is_boolean() || row["sure"].is_null(), "{row}");
        assert_eq!(row["_call"]["finish_reason"], "stop");
        let tokens = |name: &str| row["_call"][name].as_u64().expect("usage");
        assert!(tokens("tokens_in") > tokens("tokens_in_cached"), "{row}");
        assert!((1..=64).contains(&tokens("tokens_out")), "{row}");
    }
    assert_eq!(space.run(&[]).expect(0).json()["calls"], 0);

    // Log probabilities tell how sure it was, though it takes the answer out of a fence of code.
    let space = asking(&model, &texts[..1], schema, "max_tokens = 64\nlogprobs = 0");
    space.run(&[]).expect(0);
    let call = &space.rows("data/labels.jsonl")[0]["_call"];
    assert!(call["logprob"].as_f64() < Some(0.0), "{call}");
    assert!(call["confidence"]["label"].as_f64() > Some(0.0), "{call}");

    // The other API answers too; of schemas it knows nothing here.
    let of_model = "api = \"responses\"\nmax_output_tokens = 64";
    let space = asking(&model, &["Say hello."], "", of_model);
    space.run(&[]).expect(0);
    let row = &space.rows("data/labels.jsonl")[0];
    assert!(row["answer"].as_str().is_some_and(|text| !text.is_empty()), "{row}");
    assert_eq!(row["_call"]["finish_reason"], "stop");
    assert!(row["_call"]["tokens_in"].as_u64() > Some(1), "{row}");
    assert!(row["_call"]["tokens_out"].as_u64() > Some(1), "{row}");

    // Without a schema on its side it rambles: asked again once, then told, and not paid for again.
    let settings = format!("{schema}\nanswers = \"text\"\nrepairs = 1");
    let space = asking(&model, &["Say hello."], &settings, "max_tokens = 100");
    let why = no_answer(&space, "invalid");
    assert!(why.contains("after 2 attempts"), "{why}");

    // Cut short, an answer is a failure of its own kind.
    no_answer(&asking(&model, &texts[..1], schema, "max_tokens = 3"), "length");

    // A text that does not fit is refused, with what the server says.
    let long = "one more word ".repeat(200);
    let space = asking(&model, &[&long], schema, "max_tokens = 64");
    space.run(&[]).expect(1);
    let failed = &space.rows("data/labels.jsonl.failed.jsonl")[0]["_failed"];
    let why = failed["reason"].as_str().expect("a reason");
    assert!(why.contains("400") && why.contains("context size"), "{failed}");

    // With a wrong key nothing is asked twice.
    let mut space = asking(&model, &texts, schema, "max_tokens = 64");
    space.env("MODEL_KEY", "a-wrong-key");
    let ran = space.run(&[]);
    assert_eq!(ran.states(), ["label failed"]);
    assert!(ran.stderr.contains("401") && !ran.stderr.contains("a-wrong-key"), "{}", ran.stderr);
}
