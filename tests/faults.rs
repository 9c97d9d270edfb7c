//! A run in which one request in ten fails, in every way there is, ends complete or names every row
//! that is missing; healed, one more run makes what an undisturbed one does.

mod support;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use support::study::{assert_same, pages, settle, simulator, study};
use support::{Simulator, TestSpace};

const ITEMS: u64 = 180;

/// The study, and an object of each item from GitHub.
fn space(simulator: &Simulator, attempts: u32) -> TestSpace {
    let space = study(simulator);
    let stage = r#"
[stages.details]
kind = "github"
inputs = ["items"]
get = "/repos/{{ repo }}/issues/{{ number }}"
pick = "{state, labels: [.labels[].name]}"
keep = ["number"]
outputs = ["data/details.json"]
"#;
    let manifest = space.read("pipeline.toml");
    space.write("pipeline.toml", format!("{manifest}{stage}"));
    let ways = format!("timeout = 1\nattempts = {attempts}");
    space.edit("pipeline.toml", "concurrency = 1", &format!("concurrency = 4\n{ways}"));
    space.edit("pipeline.toml", "model = \"tiny\"", &format!("model = \"tiny\"\n{ways}"));
    space.edit(
        "pipeline.toml",
        "key = [\"id\"]\noutputs = [\"data/items.jsonl\"]",
        "key = [\"id\"]\nkeep = [\"repo\"]\noutputs = [\"data/items.jsonl\"]",
    );
    space
}

/// Requests of the study with details.
fn requests() -> u64 {
    pages(ITEMS) + 2 * ITEMS
}

/// Every way in which a request fails in passing.
fn faults(path: &str) -> Vec<Value> {
    let mut faults = vec![
        json!({"status": 500}),
        json!({"status": 502, "body": "<html>Bad Gateway</html>", "headers": {"content-type": "text/html"}}),
        json!({"status": 503}),
        json!({"status": 503, "headers": {"retry-after": "0"}}),
        json!({"status": 503, "headers": {"retry-after": "1"}}),
        json!({"status": 429, "headers": {"retry-after": "0"}}),
        json!({"status": 429, "headers": {"retry-after": "1"}}),
        json!({"cut": true}),
        json!({"status": 200, "body": "{\"choices\": [{\"index\": 0, "}),
        json!({"status": 200, "body": ""}),
        json!({"delay_ms": 1500}),
    ];
    if path == "/github" {
        let secondary = r#"{"message": "You have exceeded a secondary rate limit."}"#;
        let primary = r#"{"message": "API rate limit exceeded for 192.0.2.1."}"#;
        let spent = json!({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "0"});
        faults.push(json!({"status": 403, "body": secondary, "headers": {"retry-after": "1"}}));
        faults.push(json!({"status": 403, "body": primary, "headers": spent}));
    }
    let share = 0.1 / faults.len() as f64;
    for fault in &mut faults {
        fault["path"] = path.into();
        fault["share"] = share.into();
    }
    faults
}

/// The keys in an output.
fn ids(space: &TestSpace, path: &str) -> BTreeSet<String> {
    let id = |row: &Value| row["id"].as_str().expect("a key").to_owned();
    match space.exists(path) {
        true => space.rows(path).iter().map(id).collect(),
        false => BTreeSet::new(),
    }
}

/// Each of the items is in the stage's output or among its failed rows, and none in both. Returns how
/// many failed.
fn every_row_is_named(space: &TestSpace, output: &str) -> usize {
    let all = ids(space, "data/items.jsonl");
    assert_eq!(all.len() as u64, ITEMS);
    let (made, failed) = (ids(space, output), ids(space, &format!("{output}.failed.jsonl")));
    assert!(made.is_disjoint(&failed), "{output}");
    assert!(made.union(&failed).eq(&all), "{output}: rows are missing without a word");
    if !failed.is_empty() {
        for row in space.rows(&format!("{output}.failed.jsonl")) {
            assert_eq!(row["_failed"]["kind"], "passing", "{row}");
            assert!(row["_failed"]["reason"].as_str().is_some_and(|why| !why.is_empty()), "{row}");
        }
    }
    failed.len()
}

fn details(space: &TestSpace) -> String {
    space.read("data/details.json")
}

#[test]
fn one_request_in_ten_fails() {
    let simulator = simulator(ITEMS, 0);
    let undisturbed = space(&simulator, 6);
    undisturbed.run(&[]).expect(0);
    assert_eq!(simulator.total(), requests());

    let space = space(&simulator, 6);
    simulator.reset();
    for fault in faults("/github").into_iter().chain(faults("/v1")) {
        simulator.fault(fault);
    }
    let ran = space.run(&[]);
    let asked = simulator.total();
    assert!(asked > requests() * 21 / 20, "{asked} requests: too few have failed to tell");
    let failed = every_row_is_named(&space, "data/details.json")
        + every_row_is_named(&space, "data/classify.json");
    let ran = ran.expect(if failed == 0 { 0 } else { 1 });
    eprintln!("{asked} requests, {failed} failed rows, {} s", ran.json()["seconds"]);

    simulator.heal();
    settle(&simulator);
    simulator.reset();
    let healed = space.run(&[]).expect(0);
    assert_eq!(simulator.total(), failed as u64, "only what is missing: {}", healed.stdout);
    assert_same(&space, &undisturbed);
    assert_eq!(details(&space), details(&undisturbed));
}

#[test]
fn without_another_attempt_every_failed_row_is_named() {
    let simulator = simulator(ITEMS, 0);
    let undisturbed = space(&simulator, 6);
    undisturbed.run(&[]).expect(0);

    let space = space(&simulator, 1);
    space.run(&["items"]).expect(0);
    simulator.reset();
    for fault in faults("/github").into_iter().chain(faults("/v1")) {
        simulator.fault(fault);
    }
    let ran = space.run(&[]).expect(1);
    let failed = ["details", "classify"].map(|stage| {
        let failed = every_row_is_named(&space, &format!("data/{stage}.json"));
        assert!(failed > 0, "{stage}: too few have failed to tell");
        let told = ran.stage(stage);
        assert_eq!(told["state"], "incomplete");
        assert_eq!(told["failed_rows"], failed, "{told}");
        assert_eq!(told["failed_file"], format!("data/{stage}.json.failed.jsonl"));
        failed as u64
    });
    assert_eq!(ran.stage("merged")["rows"], ITEMS - failed[1], "it runs on the rows there are");
    assert_eq!(ran.stage("merged")["state"], "incomplete");

    simulator.heal();
    settle(&simulator);
    simulator.reset();
    let healed = space.run(&[]).expect(0);
    assert_eq!(simulator.total(), failed[0] + failed[1], "only what is missing");
    assert_eq!(healed.stage("classify")["rows_run"], failed[1]);
    assert_same(&space, &undisturbed);
    assert_eq!(details(&space), details(&undisturbed));
    assert!(!space.exists("data/details.json.failed.jsonl"));
}
