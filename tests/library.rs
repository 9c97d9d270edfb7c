//! The library as a program sees it: load, plan, run, a stream of events; and kinds of its own.

#[path = "../examples/own_kind.rs"]
mod own_kind;
mod support;

use flow::{Event, LoadOptions, Pipeline, RunOptions, StageState};
use futures::StreamExt;
use serde_json::json;
use support::{Simulator, TestSpace};

fn space(simulator: &Simulator) -> TestSpace {
    let space = TestSpace::new();
    space.write(
        "pipeline.toml",
        format!(
            r#"
[pipeline]
name = "library"
[models.small]
base_url = "{}/v1"
model = "tiny"
[[tables.texts]]
id = 1
[[tables.texts]]
id = 2
[stages.label]
kind = "llm"
inputs = ["texts"]
key = ["id"]
model = "small"
prompt = "p.md"
outputs = ["data/labels.jsonl"]
[stages.other]
kind = "sql"
inputs = ["texts"]
query = "SELECT * FROM texts"
key = ["id"]
"#,
            simulator.address
        ),
    );
    space.write("p.md", "Label {{ id }}");
    space
}

fn load(space: &TestSpace) -> Pipeline {
    let options = LoadOptions { folder: space.path().to_owned(), ..LoadOptions::default() };
    Pipeline::load(&options).unwrap_or_else(|problems| panic!("{}", problems.render(false)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_is_planned_and_run_with_its_events_as_a_stream() {
    let simulator = Simulator::start(&[]);
    let space = space(&simulator);
    let pipeline = load(&space);
    let options = pipeline.options(&["label"]).expect("a stage");
    let planned = pipeline.plan(options).expect("a plan");
    assert_eq!((planned.plan().effort.calls, planned.plan().stages.len()), (2, 1));
    assert_eq!(simulator.total(), 0, "a plan calls nobody");
    let mut run = planned.run();
    let (mut rows, mut ended) = (0, Vec::new());
    while let Some(event) = run.next().await {
        match event {
            Event::RowDone { .. } => rows += 1,
            Event::StageEnded(stage) => ended.push((stage.name, stage.state)),
            _ => {}
        }
    }
    let summary = run.summary().await.expect("a run");
    assert!(summary.is_complete());
    assert_eq!((rows, summary.calls), (2, 2));
    assert_eq!(ended, [("label".to_owned(), StageState::Ran)]);
    assert_eq!(space.rows("data/labels.jsonl")[1]["id"], json!(2));

    // All of it, and nothing is asked twice; nobody need listen.
    let planned = load(&space).plan(RunOptions::default()).expect("a plan");
    assert_eq!(planned.plan().effort.calls, 0);
    let summary = planned.run().summary().await.expect("a run");
    assert_eq!((summary.calls, summary.stages.len()), (0, 2));
    assert!(
        load(&space)
            .options(&["lable"])
            .expect_err("no such stage")
            .to_string()
            .contains("`label`")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_can_be_stopped_and_goes_on() {
    let simulator = Simulator::start(&["--latency-ms", "50"]);
    let space = space(&simulator);
    let mut run = load(&space).plan(RunOptions::default()).expect("a plan").run();
    while let Some(event) = run.next().await {
        if matches!(event, Event::StageStarted { .. }) {
            run.interrupt();
        }
    }
    let summary = run.summary().await.expect("a run");
    assert!(summary.interrupted || summary.is_complete());
    let again = load(&space).plan(RunOptions::default()).expect("a plan").run();
    assert!(again.summary().await.expect("a run").is_complete());
    assert_eq!(simulator.total(), 2, "each is paid for once");
}

#[test]
fn a_program_has_kinds_of_its_own() {
    own_kind::main().expect("the example");
    let folder = std::env::temp_dir().join("flow-own-kind");
    let words = std::fs::read_to_string(folder.join("data/words.csv")).expect("its output");
    assert!(words.lines().any(|line| line == "server,2"), "{words}");
    std::fs::remove_dir_all(folder).expect("its folder");
}
