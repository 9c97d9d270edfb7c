//! What a stage asks goes in the provider's batches: each request once, for less money, answered as it
//! would be by itself, whatever cuts the run off while it waits.

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use support::study::settle;
use support::{Simulator, TestSpace};

const ROWS: usize = 30;
const BATCH: &str = "batch = true\n";

/// Without it a batch is looked at every few seconds.
fn hurry(simulator: &Simulator) {
    simulator.fault(json!({"path": "/v1/batches", "headers": {"retry-after": "0.05"}}));
}

/// A label for each of some rows, in batches.
fn space(simulator: &Simulator) -> TestSpace {
    hurry(simulator);
    let mut space = TestSpace::new();
    let rows: String = (0..ROWS).map(|n| format!("{{\"id\": {n}}}\n")).collect();
    space.write("rows.jsonl", rows);
    space.write(
        "pipeline.toml",
        format!(
            r#"
[pipeline]
name = "batch"
[models.small]
base_url = "{}/v1"
api_key = {{ env = "MODEL_KEY" }}
model = "tiny"
max_tokens = 50
price = {{ input = 100.0, output = 400.0 }}
[stages.label]
kind = "llm"
inputs = ["rows.jsonl"]
key = ["id"]
model = "small"
prompt = "p.md"
schema = "s.json"
outputs = ["label.jsonl"]
{BATCH}"#,
            simulator.address
        ),
    );
    space.write("p.md", "Label row {{ id }}.");
    space.write(
        "s.json",
        r#"{"type": "object", "properties": {"label": {"type": "string", "enum": ["bug", "other"]}},
            "required": ["label"], "additionalProperties": false}"#,
    );
    space.env("NO_COLOR", "1").env("MODEL_KEY", "sk-of-the-test");
    space
}

/// How many requests were made to an endpoint since the last reset.
fn asked(simulator: &Simulator, endpoint: &str) -> u64 {
    simulator.get("/_stats")["by_endpoint"][endpoint].as_u64().unwrap_or(0)
}

/// How many requests were answered by themselves.
fn direct(simulator: &Simulator) -> u64 {
    asked(simulator, "POST /v1/chat/completions")
}

/// The requests of each batch that was made, in the order of their making.
fn batches(simulator: &Simulator) -> Vec<Vec<String>> {
    let told = simulator.get("/_batches");
    let ids = |batch: &Value| {
        let ids = batch["custom_ids"].as_array().expect("a list").iter();
        ids.map(|id| id.as_str().expect("a text").to_owned()).collect()
    };
    told.as_array().expect("a list").iter().map(ids).collect()
}

fn sizes(simulator: &Simulator) -> Vec<usize> {
    batches(simulator).iter().map(Vec::len).collect()
}

/// The table, less who says that he answered: the simulator tells that only to who asks directly.
fn table(space: &TestSpace) -> Vec<Value> {
    let mut rows = space.rows("label.jsonl");
    rows.iter_mut().for_each(|row| row["_call"]["source"] = Value::Null);
    rows
}

/// Nothing is left of the batches, here or at the provider.
#[track_caller]
fn assert_tidy(space: &TestSpace, simulator: &Simulator) {
    let files = std::fs::read_dir(space.path().join("cache/batches")).expect("a folder");
    assert_eq!(files.count(), 0, "files of batches that are open no more");
    assert_eq!(simulator.get("/v1/files")["data"], json!([]), "files at the provider");
    let status = space.flow(&["status", "--json"]).expect(0).json();
    assert_eq!(status["batches"], json!([]));
}

/// Starts a run, and hands it over once it waits for a batch.
fn waiting(space: &TestSpace) -> (Child, BufReader<std::process::ChildStderr>) {
    let mut command = space.command(&["run"]);
    let mut run =
        command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("flow starts");
    let mut stderr = BufReader::new(run.stderr.take().expect("piped"));
    let mut line = String::new();
    while !line.contains("waiting for") {
        line.clear();
        assert!(stderr.read_line(&mut line).expect("text") > 0, "it ended before it waited");
    }
    (run, stderr)
}

#[test]
fn a_batch_answers_what_would_be_answered_directly_and_nothing_is_asked_twice() {
    let simulator = Simulator::start(&[]);
    let (space, other) = (space(&simulator), space(&simulator));
    other.edit("pipeline.toml", BATCH, "");
    other.run(&[]).expect(0);
    simulator.reset();

    let plan = space.flow(&["plan"]).expect(0);
    assert!(plan.stdout.contains("in batches at 0.5 of the price"), "{}", plan.stdout);
    let ran = space.run(&[]).expect(0);
    assert_eq!((direct(&simulator), sizes(&simulator)), (0, vec![ROWS]));
    assert_eq!(table(&space), table(&other));
    assert_eq!(ran.json()["calls"], ROWS);
    assert!(ran.stderr.contains("30 of 30 requests answered"), "{}", ran.stderr);
    assert_tidy(&space, &simulator);

    // How it is sent is in no fingerprint and in no key.
    for stage in [(BATCH, ""), ("[stages.label]", "[stages.label]\nbatch = true")] {
        space.edit("pipeline.toml", stage.0, stage.1);
        assert_eq!(space.run(&[]).expect(0).states(), ["label up_to_date"]);
        let forced = space.run(&["--force"]).expect(0);
        assert_eq!(forced.json()["calls_cached"], ROWS);
    }
    // What was answered directly is not sent either; a new row goes alone.
    other.edit("pipeline.toml", "[stages.label]", "[stages.label]\nbatch = true");
    let rows = other.read("rows.jsonl");
    other.write("rows.jsonl", format!("{rows}{{\"id\": 100}}\n"));
    other.run(&[]).expect(0);
    assert_eq!((direct(&simulator), sizes(&simulator)), (0, vec![ROWS, 1]));
}

#[test]
fn a_killed_run_goes_on_waiting_where_it_was() {
    let simulator = Simulator::start(&["--batch-polls", "1000000"]);
    let space = space(&simulator);
    let (mut run, _stderr) = waiting(&space);
    run.kill().expect("it is our child");
    run.wait().expect("it is our child");

    let files = std::fs::read_dir(space.path().join("cache/batches")).expect("a folder");
    let files: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    assert_eq!(files.len(), 1);
    let text = std::fs::read_to_string(&files[0]).expect("text");
    assert!(text.lines().count() == ROWS && !text.contains("sk-of-the-test"), "no secret in it");
    let status = space.flow(&["status"]).expect(0).stdout;
    assert!(status.contains("(tiny): 30 requests, since "), "{status}");
    let plan = space.flow(&["plan", "--json"]).expect(0).json();
    assert_eq!((&plan["calls"], &plan["stages"][0]["calls_under_way"]), (&json!(0), &json!(ROWS)));
    for command in [&["cache", "gc"][..], &["cache", "verify"], &["cache", "clear", "label"]] {
        space.flow(command).expect(0);
    }
    simulator.post("/_batches", json!({"polls": 1}));
    let ran = space.run(&[]).expect(0);
    assert_eq!((direct(&simulator), sizes(&simulator)), (0, vec![ROWS]));
    assert_eq!(simulator.get("/_stats")["models"]["batched"], ROWS);
    assert_eq!(asked(&simulator, "POST /v1/files"), 1);
    assert_eq!((table(&space).len(), &ran.json()["calls"]), (ROWS, &json!(ROWS)));
    assert_tidy(&space, &simulator);
}

#[test]
fn killed_between_any_two_requests_it_sends_nothing_twice() {
    // An upload, a batch, two looks, the answers, and two files that are deleted.
    for stop in 0..=7 {
        let simulator = Simulator::start(&["--latency-ms", "20"]);
        let space = space(&simulator);
        let mut run = space.command(&["run"]).stderr(Stdio::null()).spawn().expect("flow starts");
        while simulator.total() < stop && run.try_wait().expect("it is our child").is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        run.kill().expect("it is our child");
        run.wait().expect("it is our child");
        settle(&simulator);
        space.run(&[]).expect(0);
        assert_eq!((sizes(&simulator), direct(&simulator)), (vec![ROWS], 0), "killed after {stop}");
        assert_eq!(simulator.get("/_stats")["models"]["batched"], ROWS);
        assert_eq!(table(&space).len(), ROWS);
    }
}

#[test]
fn an_interrupted_run_leaves_its_batch_and_says_so() {
    let simulator = Simulator::start(&["--batch-polls", "1000000"]);
    let space = space(&simulator);
    let (mut run, mut stderr) = waiting(&space);
    kill_process(Pid::from_child(&run), Signal::INT).expect("it is our child");
    let mut told = String::new();
    std::io::Read::read_to_string(&mut stderr, &mut told).expect("text");
    assert_eq!(run.wait().expect("it is our child").code(), Some(130), "{told}");
    assert!(told.contains("1 batch goes on at the provider (30 requests); run again"), "{told}");

    // Nothing is asked offline, and the batch stays.
    let offline = space.run(&["--offline"]).expect(1);
    assert!(offline.stderr.contains("calls are off"), "{}", offline.stderr);
    simulator.post("/_batches", json!({"polls": 1}));
    space.run(&[]).expect(0);
    assert_eq!((direct(&simulator), sizes(&simulator)), (0, vec![ROWS]));
    assert_tidy(&space, &simulator);
}

#[test]
fn a_batch_that_was_made_and_not_noted_is_found_again() {
    let simulator = Simulator::start(&[]);
    let space = space(&simulator);
    // The server makes it, and the run is gone before it hears of it.
    simulator.fault(json!({"path": "/v1/batches", "delay_ms": 500, "times": 1}));
    let mut run = space.command(&["run"]).stderr(Stdio::null()).spawn().expect("flow starts");
    let stats = || simulator.get("/_stats");
    while stats()["by_endpoint"]["POST /v1/files"] != 1 || stats()["under_way"] != 1 {
        std::thread::sleep(Duration::from_millis(1));
    }
    run.kill().expect("it is our child");
    run.wait().expect("it is our child");
    settle(&simulator);
    assert_eq!(sizes(&simulator), [ROWS], "it was made");
    space.run(&[]).expect(0);
    assert_eq!((sizes(&simulator), direct(&simulator)), (vec![ROWS], 0));
    assert_tidy(&space, &simulator);

    // Nor is it made again where only the answer was lost.
    space.write("p.md", "Please label row {{ id }}.");
    simulator.fault(json!({"path": "/v1/batches", "cut": true, "times": 1}));
    space.run(&[]).expect(0);
    assert_eq!((sizes(&simulator), direct(&simulator)), (vec![ROWS; 2], 0));
}

#[test]
fn what_expires_is_sent_again_and_nothing_else() {
    let simulator = Simulator::start(&[]);
    let space = space(&simulator);
    simulator.post("/_batches", json!({"expire": 0.3, "times": 1}));
    let ran = space.run(&[]).expect(0);
    let sent = batches(&simulator);
    assert_eq!(sizes(&simulator), [ROWS, 9]);
    assert!(sent[1].iter().all(|id| sent[0].contains(id)));
    assert_eq!((direct(&simulator), &ran.json()["calls"]), (0, &json!(ROWS)));
    assert_eq!(simulator.get("/_stats")["models"]["batched"], ROWS);
    assert_tidy(&space, &simulator);
}

#[test]
fn what_no_batch_answers_is_not_asked_directly() {
    let simulator = Simulator::start(&[]);
    let space = space(&simulator);
    simulator.post("/_batches", json!({"expire": 0.1, "times": 3}));
    let path = "/v1/chat/completions";
    simulator.fault(json!({"path": path, "match": "row 7.", "status": 500}));
    let ran = space.run(&[]).expect(1);
    assert_eq!(ran.stage("label")["state"], "incomplete");
    assert_eq!((direct(&simulator), batches(&simulator).len()), (0, 3), "three rounds");
    let failed = space.rows("label.jsonl.failed.jsonl");
    let left = batches(&simulator).pop().expect("the last round").len();
    assert!(!failed.is_empty() && failed.len() <= left, "{failed:?}");
    for row in &failed {
        assert_eq!(row["_failed"]["kind"], "passing");
        let reason = row["_failed"]["reason"].as_str().expect("a text");
        assert!(reason.contains("no batch has answered it: "), "{reason}");
    }
    simulator.heal();
    hurry(&simulator);
    space.run(&[]).expect(0);
    assert_eq!(sizes(&simulator)[3..], [failed.len()], "the next run sends them again");
    assert_eq!((direct(&simulator), table(&space).len()), (0, ROWS));
}

#[test]
fn a_request_that_is_refused_fails_its_row_alone() {
    let simulator = Simulator::start(&[]);
    let (space, other) = (space(&simulator), space(&simulator));
    other.edit("pipeline.toml", BATCH, "");
    let path = "/v1/chat/completions";
    simulator.fault(json!({"path": path, "match": "row 3.", "status": 400}));
    simulator.fault(json!({"path": path, "match": "row 4.", "says": "refusal"}));
    other.run(&[]).expect(1);
    simulator.reset();
    simulator.fault(json!({"path": path, "match": "row 5.", "status": 429, "times": 1}));
    space.run(&[]).expect(1);
    assert_eq!((direct(&simulator), sizes(&simulator)), (0, vec![ROWS, 1]));
    assert_eq!(space.rows("label.jsonl.failed.jsonl"), other.rows("label.jsonl.failed.jsonl"));
    assert_eq!(table(&space), table(&other));
    // A row that was refused stands like that, and costs no batch more.
    space.run(&[]).expect(1);
    assert_eq!(sizes(&simulator), [ROWS, 1]);
}

#[test]
fn a_bad_answer_is_repaired_directly() {
    let simulator = Simulator::start(&[]);
    let space = space(&simulator);
    let path = "/v1/chat/completions";
    simulator.fault(json!({"path": path, "match": "row 3.", "says": "wrong_json", "times": 1}));
    let ran = space.run(&[]).expect(0);
    assert_eq!((direct(&simulator), sizes(&simulator)), (1, vec![ROWS]));
    assert_eq!(ran.json()["calls"], ROWS + 1);
    assert_eq!(table(&space)[3]["_call"]["repairs"], 1);
}

#[test]
fn no_batch_is_longer_than_the_provider_takes() {
    let simulator = Simulator::start(&["--batch-requests", "12"]);
    let space = space(&simulator);
    let price = "price = {";
    space.edit("pipeline.toml", price, &format!("limits = {{ batch_requests = 12 }}\n{price}"));
    space.run(&[]).expect(0);
    let mut sizes = sizes(&simulator);
    sizes.sort();
    assert_eq!((sizes, direct(&simulator)), (vec![6, 12, 12], 0));
    assert_tidy(&space, &simulator);
}

#[test]
fn where_too_many_tokens_wait_less_is_sent_at_once() {
    let most = ["--batch-tokens", "60"];
    for limit in ["", "limits = { batch_tokens = 400 }\n"] {
        let simulator = Simulator::start(&most);
        let space = space(&simulator);
        space.edit("pipeline.toml", "price = {", &format!("{limit}price = {{"));
        space.run(&[]).expect(0);
        assert_eq!((table(&space).len(), direct(&simulator)), (ROWS, 0));
        let refused = simulator.get("/_batches");
        let refused = refused.as_array().expect("a list").iter();
        let refused = refused.filter(|batch| batch["status"] == "failed").count();
        assert_eq!(refused > 0, limit.is_empty(), "{refused} refused with {limit:?}");
        assert_eq!(simulator.get("/_stats")["models"]["batched"], ROWS, "and each asked once");
        assert_tidy(&space, &simulator);
    }
}

#[test]
fn a_batch_that_is_refused_stops_the_stage_with_the_reason() {
    let simulator = Simulator::start(&[]);
    let space = space(&simulator);
    let fault = json!({"code": "odd", "message": "not today", "line": 3});
    simulator.post("/_batches", json!({"fail": fault, "times": 1}));
    let ran = space.run(&[]).expect(1);
    let reason = ran.stage("label")["reason"].clone();
    assert!(reason.as_str().expect("a text").contains("not today (line 3)"), "{reason}");
    assert_tidy(&space, &simulator);
    // So does a server that has none.
    simulator.fault(json!({"path": "/v1/files", "status": 404, "times": 1}));
    let ran = space.run(&[]).expect(1);
    let reason = ran.stage("label")["reason"].clone();
    assert!(reason.as_str().expect("a text").contains("takes no batches"), "{reason}");
    assert_tidy(&space, &simulator);
    // Nor is a secret told that a server repeats.
    let said = json!({"error": {"message": "no such key: sk-of-the-test"}}).to_string();
    simulator.fault(json!({"path": "/v1/files", "status": 401, "body": said, "times": 1}));
    let ran = space.run(&[]).expect(1);
    let reason = ran.stage("label")["reason"].clone();
    assert!(reason.as_str().expect("a text").contains("no such key: (secret)"), "{reason}");
    space.run(&[]).expect(0);
    assert_eq!(direct(&simulator), 0);
}

#[test]
fn a_budget_holds_and_a_batch_costs_its_share() {
    let simulator = Simulator::start(&[]);
    let (space, other) = (space(&simulator), space(&simulator));
    other.edit("pipeline.toml", BATCH, "");
    let full = other.run(&[]).expect(0).json()["cost_usd"].as_f64().expect("a number");
    simulator.reset();

    let ran = space.run(&["--max-calls", "20"]).expect(3);
    assert_eq!((sizes(&simulator), &ran.json()["calls"]), (vec![20], &json!(20)));
    let spent = ran.json()["cost_usd"].as_f64().expect("a number");
    let ran = space.run(&["--max-calls", "10"]).expect(0);
    assert_eq!((sizes(&simulator), direct(&simulator)), (vec![20, 10], 0));
    let spent = spent + ran.json()["cost_usd"].as_f64().expect("a number");
    assert!((spent - full / 2.0).abs() < 1e-4, "{spent} of {full}");

    space.write("p.md", "Please label row {{ id }}.");
    space.edit("pipeline.toml", "output = 400.0", "output = 400.0, batch = 0.25");
    let plan = space.flow(&["plan", "--json"]).expect(0).json();
    assert_eq!(plan["stages"][0]["batch_share"], 0.25);
    let ran = space.run(&["--max-cost", "0.016"]).expect(3);
    let spent = ran.json()["cost_usd"].as_f64().expect("a number");
    assert!(spent > 0.008 && spent <= 0.016, "{spent}");
    assert!(sizes(&simulator).len() > 3, "what was set aside and not spent was there for more");
    assert_eq!(direct(&simulator), 0);
}

#[test]
fn a_trial_does_not_wait_for_batches() {
    let simulator = Simulator::start(&[]);
    let space = space(&simulator);
    space.run(&["--limit", "5"]).expect(0);
    assert_eq!((direct(&simulator), sizes(&simulator)), (5, vec![]));
    space.run(&[]).expect(0);
    assert_eq!((direct(&simulator), sizes(&simulator)), (5, vec![ROWS - 5]));
}

#[test]
fn answers_are_asked_for_again_in_batches_too() {
    let simulator = Simulator::start(&["--vary"]);
    let space = space(&simulator);
    space.run(&[]).expect(0);
    let first = table(&space);
    space.run(&["--refresh", "label"]).expect(0);
    assert_eq!((direct(&simulator), sizes(&simulator)), (0, vec![ROWS; 2]));
    assert_ne!(table(&space), first, "the server says something else");
    assert_eq!(space.run(&[]).expect(0).states(), ["label up_to_date"]);
}

#[test]
fn stages_side_by_side_share_a_batch_s_answers() {
    let simulator = Simulator::start(&["--batch-polls", "4"]);
    let space = space(&simulator);
    let text = space.read("pipeline.toml");
    let stage = &text[text.find("[stages.label]").expect("a stage")..];
    let second =
        stage.replace("stages.label", "stages.second").replace("label.jsonl", "second.jsonl");
    space.write("pipeline.toml", format!("{text}{second}"));
    space.run(&[]).expect(0);
    assert_eq!((direct(&simulator), sizes(&simulator)), (0, vec![ROWS]));
    assert_eq!(space.read("label.jsonl"), space.read("second.jsonl"));
    assert_tidy(&space, &simulator);
}

#[test]
fn the_other_api_goes_in_batches_of_its_own() {
    let simulator = Simulator::start(&[]);
    let (space, other) = (space(&simulator), space(&simulator));
    for space in [&space, &other] {
        let responses = "api = \"responses\"\nmax_output_tokens = 50";
        space.edit("pipeline.toml", "max_tokens = 50", responses);
    }
    other.edit("pipeline.toml", BATCH, "");
    other.run(&[]).expect(0);
    simulator.reset();
    space.run(&[]).expect(0);
    assert_eq!((asked(&simulator, "POST /v1/responses"), sizes(&simulator)), (0, vec![ROWS]));
    assert_eq!(table(&space), table(&other));
    let why = space.flow(&["why", "label", "--row", "id=3"]).expect(0).stdout;
    assert!(why.contains("in batch batch_"), "{why}");
}

#[test]
fn a_batch_that_the_provider_does_not_know_yet_is_waited_for() {
    let simulator = Simulator::start(&[]);
    let space = space(&simulator);
    simulator.fault(json!({"path": "/v1/batches/", "status": 404, "times": 1}));
    // Nor does an answer that is lost bring another batch.
    simulator.fault(json!({"path": "/v1/files/", "cut": true, "times": 1}));
    space.run(&[]).expect(0);
    assert_eq!((sizes(&simulator), direct(&simulator)), (vec![ROWS], 0));
    assert_tidy(&space, &simulator);
}

#[test]
fn answers_that_are_not_there_yet_are_not_paid_for_twice() {
    let simulator = Simulator::start(&[]);
    let space = space(&simulator);
    simulator.fault(json!({"path": "/v1/files/", "status": 404, "times": 1}));
    let ran = space.run(&[]).expect(0);
    assert_eq!((sizes(&simulator), direct(&simulator)), (vec![ROWS], 0));
    assert_eq!(ran.json()["calls"], ROWS);
    assert_tidy(&space, &simulator);
}

#[test]
fn a_batch_that_cannot_be_looked_for_holds_up_no_other() {
    let (simulator, other) = (Simulator::start(&[]), Simulator::start(&[]));
    let space = space(&simulator);
    hurry(&other);
    space.edit("pipeline.toml", "max_tokens = 50", "max_tokens = 50\nattempts = 1");
    simulator.fault(json!({"path": "/v1/batches", "status": 500}));
    space.run(&[]).expect(1);
    space.edit("pipeline.toml", &simulator.address, &other.address);
    let ran = space.run(&[]).expect(0);
    assert!(ran.stderr.contains("could not be looked for"), "{}", ran.stderr);
    assert_eq!((sizes(&other), direct(&other)), (vec![ROWS], 0));
    // Who waits for it is told, and finds it when the server is back.
    space.edit("pipeline.toml", &other.address, &simulator.address);
    space.run(&["--force"]).expect(1);
    simulator.heal();
    space.run(&["--force"]).expect(0);
    assert_eq!((sizes(&simulator), direct(&simulator)), (vec![ROWS], 0));
}

#[test]
fn each_model_has_a_batch_with_each_sample() {
    let simulator = Simulator::start(&["--vary"]);
    let (space, other) = (space(&simulator), space(&simulator));
    for space in [&space, &other] {
        let text = space.read("pipeline.toml");
        let models = &text[text.find("[models.small]").expect("a model")..];
        let models = &models[..models.find("[stages").expect("a stage")];
        let large = models.replace("small", "large").replace("tiny", "huge");
        space.edit("pipeline.toml", "[stages.label]", &format!("{large}[stages.label]"));
        let asks = "models = [\"small\", \"large\"]\nsamples = 2\nprompt";
        space.edit("pipeline.toml", "model = \"small\"\nprompt", asks);
    }
    other.edit("pipeline.toml", BATCH, "");
    space.run(&[]).expect(0);
    assert_eq!((direct(&simulator), sizes(&simulator)), (0, vec![2 * ROWS; 2]));
    assert_eq!(table(&space).len(), 4 * ROWS);
    assert_tidy(&space, &simulator);
    // What the batches answered is what the same requests find that are sent directly.
    space.edit("pipeline.toml", BATCH, "");
    let forced = space.run(&["--force"]).expect(0);
    assert_eq!(forced.json()["calls_cached"], 4 * ROWS);
    assert_eq!((direct(&simulator), forced.json()["calls"].clone()), (0, json!(0)));
    other.run(&[]).expect(0);
    assert_eq!(direct(&simulator), 4 * ROWS as u64, "as many as are asked directly");
}

#[test]
fn a_store_that_knew_no_batches_takes_them() {
    let simulator = Simulator::start(&[]);
    let space = space(&simulator);
    space.run(&["--limit", "3"]).expect(0);
    let store = rusqlite::Connection::open(space.path().join("cache/flow.db")).expect("a database");
    let drop = "DROP TABLE batches; DROP TABLE batch_items; DROP TABLE batch_faults";
    store.execute_batch(drop).expect("dropped");
    store.close().expect("closed");
    space.flow(&["plan"]).expect(0);
    space.flow(&["status"]).expect(0);
    space.run(&[]).expect(0);
    assert_eq!((direct(&simulator), sizes(&simulator)), (3, vec![ROWS - 3]));
}

#[test]
fn an_address_in_another_spelling_is_the_same_address() {
    let simulator = Simulator::start(&[]);
    let space = space(&simulator);
    let port = simulator.address.rsplit(':').next().expect("a port");
    space.edit("pipeline.toml", &simulator.address, &format!("http://LOCALHOST:{port}"));
    let ran = space.run(&[]).expect(0);
    assert_eq!(ran.stage("label")["calls"], ROWS, "in a batch, and not once more");
    assert_eq!(simulator.get("/_stats")["by_endpoint"]["POST /v1/chat/completions"], Value::Null);
}
