//! The logs of runs: what was done, for people and for programs, whatever was shown; never a secret.

mod support;

use std::path::PathBuf;

use serde_json::{Value, json};
use support::{Simulator, TestSpace};

const SECRET: &str = "sk-a-key-that-nobody-may-see";

fn space(simulator: &Simulator) -> TestSpace {
    let mut space = TestSpace::new();
    space.env("NO_COLOR", "1").env("MODEL_KEY", SECRET);
    space.write(
        "pipeline.toml",
        format!(
            r#"
[pipeline]
name = "logs"
[models.small]
base_url = "{}/v1"
api_key = {{ env = "MODEL_KEY" }}
model = "tiny"
[[tables.texts]]
id = 1
text = "first"
[[tables.texts]]
id = 2
text = "second"
[stages.label]
kind = "llm"
inputs = ["texts"]
key = ["id"]
model = "small"
prompt = "p.md"
outputs = ["data/labels.json"]
"#,
            simulator.address
        ),
    );
    space.write("p.md", "Label {{ text }}");
    space
}

/// The logs with this extension, the oldest first.
fn logs(space: &TestSpace, extension: &str) -> Vec<PathBuf> {
    let files = std::fs::read_dir(space.path().join("data/logs")).expect("a folder");
    let mut files: Vec<PathBuf> = files.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|file| file.extension().is_some_and(|found| found == extension));
    files.sort();
    files
}

#[test]
fn a_run_is_written_down_twice_and_names_no_secret() {
    let simulator = Simulator::start(&[]);
    let space = space(&simulator);
    // A server that repeats the key, in an answer that fails the row.
    let said = format!("no such key: {SECRET}");
    let body = json!({"error": {"message": said, "type": "x"}}).to_string();
    simulator.fault(json!({"path": "/v1", "status": 400, "match": "first", "body": body}));
    space.flow(&["run", "-q"]).expect(1);
    let [readable, lines] = ["log", "jsonl"].map(|extension| {
        let files = logs(&space, extension);
        assert_eq!(files.len(), 1);
        std::fs::read_to_string(&files[0]).expect("a log")
    });
    for text in [&readable, &lines] {
        assert!(!text.contains(SECRET) && text.contains("(secret)"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }
    assert!(readable.contains("command=\"run -q\""), "{readable}");
    let events: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let told = |what: &str| events.iter().find(|event| event["message"] == what);
    assert_eq!(told("started").expect("a start")["stage"], "label");
    let failed = told("row failed").expect("a failure");
    assert_eq!((&failed["stage"], &failed["key"]), (&json!("label"), &json!("id=1")));
    let ended = told("ended").expect("an end");
    assert_eq!((&ended["state"], &ended["rows"]), (&json!("incomplete"), &json!(1)));
}

#[test]
fn the_last_twenty_are_kept() {
    let simulator = Simulator::start(&[]);
    let space = space(&simulator);
    for number in 0..25 {
        for extension in ["log", "jsonl"] {
            space.write(&format!("data/logs/2020-01-01T00-00-{number:02}Z-1.{extension}"), "old");
        }
    }
    space.write("data/logs/notes.txt", "mine");
    space.run(&[]).expect(0);
    for extension in ["log", "jsonl"] {
        let files = logs(&space, extension);
        assert_eq!(files.len(), 20);
        let first = files[0].file_name().expect("a name").to_string_lossy().into_owned();
        assert!(first.starts_with("2020-01-01T00-00-06Z"), "{first}");
    }
    assert!(space.exists("data/logs/notes.txt"), "what is no log is nobody's business");
}

#[test]
fn a_folder_that_cannot_be_written_stops_no_run() {
    let simulator = Simulator::start(&[]);
    let space = space(&simulator);
    space.write("data/logs", "a file in its place");
    space.run(&[]).expect(0);
    assert_eq!(space.read("data/logs"), "a file in its place");
}
