//! Real input: thousands of real issues, and a real model server. The model is far too small to be
//! right, so what is held is the machinery: everything is collected, every answer keeps to its
//! schema, its usage is recorded, and nothing is asked twice.
//!
//! The issues are in the folder that `FLOW_TEST_DATA` names; the server is installed by
//! `tests/real/install.sh`. Where either is missing these tests say so; in CI they fail.

mod support;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

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
}

impl ModelServer {
    fn start() -> Option<ModelServer> {
        let python = repository().join("target/real/venv/bin/python");
        if !python.exists() {
            missing("the model server; tests/real/install.sh installs it");
            return None;
        }
        let mut child = Command::new(python)
            .arg(repository().join("tests/real/model_server.py"))
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
        Some(ModelServer { child, address })
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
    let Some(model) = ModelServer::start() else {
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
