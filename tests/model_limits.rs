//! A provider's limits are used whole and never overrun, whether they are announced or written in the
//! manifest; and what a provider says of its trouble is obeyed. Counted at the server.

mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Simulator, TestSpace};

/// What a stage is to use of a limit.
const GOAL: f64 = 0.98;

/// A study with a stage that asks for each of so many rows.
fn space(simulator: &Simulator, rows: usize, model: &str) -> TestSpace {
    let mut space = TestSpace::new();
    let address = &simulator.address;
    space.write(
        "pipeline.toml",
        format!(
            r#"
[pipeline]
name = "limits"
[models.small]
base_url = "{address}/v1"
model = "tiny"
{model}
[stages.label]
kind = "llm"
inputs = ["rows.jsonl"]
key = ["id"]
model = "small"
prompt = "p.md"
outputs = ["data/labels.jsonl"]
"#
        ),
    );
    space.write("p.md", "Label row {{ id }}");
    let rows: String = (0..rows).map(|id| format!("{}\n", json!({ "id": id }))).collect();
    space.write("rows.jsonl", rows);
    space.env("NO_COLOR", "1");
    space
}

/// What the server counted under its limits: requests, tokens, and the seconds from the first to the
/// last. None was refused.
#[track_caller]
fn counted(simulator: &Simulator) -> [f64; 3] {
    let stats = simulator.get("/_stats");
    assert_eq!(stats["by_status"].as_object().map(|it| it.len()), Some(1), "{stats}");
    let told = &stats["models"]["limits"]["tiny"];
    assert_eq!(told["refused"], 0, "{stats}");
    ["requests", "tokens", "seconds"].map(|name| told[name].as_f64().expect("a number"))
}

/// Runs the study, and gives what is counted once so many requests were made: what a full limit
/// allows at once is spent then.
#[track_caller]
fn counted_after(simulator: &Simulator, space: &TestSpace, spent: u64) -> [f64; 3] {
    let mut run = space.command(&["run", "-q"]).spawn().expect("flow starts");
    let made = || simulator.get("/_stats")["models"]["limits"]["tiny"]["requests"].as_u64();
    while made() < Some(spent) {
        assert!(run.try_wait().expect("a state").is_none(), "it ended too soon");
        std::thread::sleep(Duration::from_millis(5));
    }
    counted(simulator);
    simulator.reset();
    assert!(run.wait().expect("an end").success());
    counted(simulator)
}

/// Holds that what came was as much as is allowed in a second.
#[track_caller]
fn is_used(used: f64, seconds: f64, limit: f64) {
    let share = used / (limit * seconds);
    assert!(share >= GOAL, "{share} of the limit in {seconds} s");
}

#[test]
fn requests_keep_to_a_limit_that_is_only_announced() {
    let simulator = Simulator::start(&["--model-limit", "60/1s", "--latency-ms", "20"]);
    let space = space(&simulator, 300, "limits = { concurrency = 64 }");
    let [requests, _, seconds] = counted_after(&simulator, &space, 80);
    is_used(requests, seconds, 60.0);
    assert_eq!(space.rows("data/labels.jsonl").len(), 300);
}

#[test]
fn tokens_keep_to_a_limit_that_is_only_announced() {
    // A request counts as the hundred tokens that its answer may have.
    let limit = ["--model-limit", "100000,6000/1s", "--latency-ms", "150"];
    let simulator = Simulator::start(&limit);
    let space = space(&simulator, 300, "max_tokens = 100\nlimits = { concurrency = 64 }");
    let [requests, tokens, seconds] = counted_after(&simulator, &space, 80);
    assert_eq!(tokens, 100.0 * requests);
    is_used(tokens, seconds, 6_000.0);
    assert_eq!(space.rows("data/labels.jsonl").len(), 300);
}

#[test]
fn a_small_limit_is_not_overrun_at_the_beginning() {
    let simulator = Simulator::start(&["--model-limit", "6/2s"]);
    let space = space(&simulator, 12, "limits = { concurrency = 16 }");
    space.run(&[]).expect(0);
    assert_eq!(counted(&simulator)[0], 12.0);
}

#[test]
fn requests_leave_evenly_under_a_limit_of_the_manifest() {
    let simulator = Simulator::start(&["--model-limit", "3000", "--latency-ms", "20"]);
    let space = space(&simulator, 200, "limits = { requests_per_minute = 3000 }");
    space.run(&[]).expect(0);
    let [requests, _, seconds] = counted(&simulator);
    assert_eq!(requests, 200.0);
    is_used(requests, seconds, 50.0);
    // Half a percent of a minute's worth leaves at once, and what a busy machine held up.
    assert!(requests <= 25.0 + 50.0 * seconds, "{requests} in {seconds} s");
}

#[test]
fn tokens_are_used_evenly_under_a_limit_of_the_manifest() {
    // An answer may have many more tokens than it has.
    let simulator = Simulator::start(&["--model-limit", "100000", "--latency-ms", "300"]);
    let model = "max_tokens = 1000\nlimits = { tokens_per_minute = 60_000, concurrency = 64 }";
    let space = space(&simulator, 400, model);
    space.run(&[]).expect(0);
    let [requests, _, seconds] = counted(&simulator);
    assert_eq!(requests, 400.0);
    let tokens = |row: &Value, name: &str| row["_call"][name].as_f64().expect("a number");
    let rows = space.rows("data/labels.jsonl");
    let used: f64 =
        rows.iter().map(|row| tokens(row, "tokens_in") + tokens(row, "tokens_out")).sum();
    // Where nothing is known yet, the first is waited for.
    is_used(used, seconds - 0.3, 1_000.0);
    assert!(used <= 300.0 + 1_000.0 * seconds * 1.01, "{used} in {seconds} s");
}

#[test]
fn two_stages_that_ask_one_model_share_its_limits() {
    let simulator = Simulator::start(&["--model-limit", "60/1s", "--latency-ms", "20"]);
    let space = space(&simulator, 100, "limits = { requests_per_minute = 3000 }");
    let text = space.read("pipeline.toml");
    let (_, stage) = text.split_once("[stages.label]").expect("a stage");
    let other = stage.replace("p.md", "q.md").replace("labels", "others");
    space.write("pipeline.toml", format!("{text}[stages.other]{other}"));
    space.write("q.md", "Judge row {{ id }}");
    let ran = space.run(&[]).expect(0);
    assert_eq!(
        (ran.stage("label")["rows"].as_u64(), ran.stage("other")["rows"].as_u64()),
        (Some(100), Some(100))
    );
    let [requests, _, seconds] = counted(&simulator);
    assert_eq!(requests, 200.0);
    is_used(requests, seconds, 50.0);
    assert!(requests <= 25.0 + 50.0 * seconds, "{requests} in {seconds} s");
}

/// What the server counted of requests that were under way together: the most, and how many it refused.
fn at_once(simulator: &Simulator) -> [u64; 2] {
    let told = &simulator.get("/_stats")["models"]["at_once"];
    ["most", "refused"].map(|name| told[name].as_u64().expect("a number"))
}

#[test]
fn ever_more_are_under_way_where_a_server_takes_them() {
    let simulator = Simulator::start(&["--latency-ms", "300"]);
    let space = space(&simulator, 600, "");
    space.run(&[]).expect(0);
    let [most, _] = at_once(&simulator);
    assert!((65..=256).contains(&most), "{most} at once");
}

#[test]
fn as_many_are_under_way_as_the_server_turns_out_to_take() {
    let simulator = Simulator::start(&["--model-concurrent", "40", "--latency-ms", "100"]);
    let space = space(&simulator, 2000, "");
    let ran = space.run(&[]).expect(0);
    assert_eq!(ran.stage("label")["rows"], 2000);
    let [most, refused] = at_once(&simulator);
    // Refusals are told at the end of a round: it may have doubled once more by then.
    assert!((41..=128).contains(&most), "doubled past what there was room for: {most}");
    // Cut at the first refusal, and then one more after each round.
    assert!((1..=300).contains(&refused), "{refused} were refused");
}

fn failure(status: u16, message: &str, code: &str, more: Value) -> Value {
    let error = json!({"error": {"message": message, "type": code, "param": null, "code": code}});
    let mut order = json!({"path": "/v1", "status": status, "body": error.to_string()});
    let keys = order.as_object_mut().expect("an object");
    keys.extend(more.as_object().expect("an object").clone());
    order
}

#[test]
fn a_spent_quota_ends_the_stage_with_its_reason() {
    let simulator = Simulator::start(&[]);
    let space = space(&simulator, 100, "limits = { concurrency = 16 }");
    let said = "You exceeded your current quota, please check your plan and billing details.";
    simulator.fault(failure(429, said, "insufficient_quota", json!({"match": "row 9"})));
    let ran = space.run(&[]).expect(1);
    let stage = ran.stage("label");
    assert_eq!(stage["state"], "failed");
    assert!(stage["reason"].as_str().is_some_and(|why| why.contains(said)), "{stage}");
    let asked = simulator.total();
    assert!(asked < 100, "{asked} were asked, and no more once it was known");
    // What was answered stays, and only the rest is asked for once there is money again.
    simulator.heal();
    simulator.reset();
    let again = space.run(&[]).expect(0);
    assert_eq!(again.stage("label")["rows"], 100);
    let spent = asked + simulator.total() - 100;
    assert!((1..=16).contains(&spent), "{spent} were refused and asked again");
}

#[test]
fn a_server_that_asks_for_a_slower_pace_gets_it_and_every_row_is_answered() {
    let simulator = Simulator::start(&[]);
    let space = space(&simulator, 200, "limits = { concurrency = 64 }");
    let more = json!({"match": "row 150", "times": 1, "headers": {"retry-after": "2"}});
    simulator.fault(failure(503, "Slow Down", "slow_down", more));
    let start = Instant::now();
    let ran = space.run(&[]).expect(0);
    assert_eq!((ran.stage("label")["rows"].as_u64(), simulator.total()), (Some(200), 201));
    assert!(start.elapsed() >= Duration::from_secs(2));
    assert!(ran.stderr.contains("Slow Down"), "it says for what it waits: {}", ran.stderr);
}

#[test]
fn a_wait_that_is_asked_for_is_kept_by_all() {
    for wait in
        [json!({"retry-after": "2"}), json!({"retry-after-ms": "2000", "retry-after": "60"})]
    {
        let simulator = Simulator::start(&[]);
        let space = space(&simulator, 200, "limits = { concurrency = 8 }");
        let more = json!({"match": "row 30", "times": 1, "headers": wait});
        simulator.fault(failure(429, "Rate limit reached", "rate_limit_exceeded", more));
        let mut run = space.command(&["run", "-q"]).spawn().expect("flow starts");
        let refused = || simulator.get("/_stats")["by_status"]["429"] == 1;
        while !refused() {
            assert!(run.try_wait().expect("a state").is_none(), "it ended too soon");
            std::thread::sleep(Duration::from_millis(5));
        }
        let start = Instant::now();
        // Those that were under way with it.
        std::thread::sleep(Duration::from_millis(500));
        let before = simulator.total();
        assert!(before < 200, "{before}");
        while start.elapsed() < Duration::from_millis(1500) {
            assert_eq!(simulator.total(), before, "nothing leaves meanwhile");
            std::thread::sleep(Duration::from_millis(100));
        }
        assert!(run.wait().expect("an end").success());
        assert!(start.elapsed() < Duration::from_secs(30));
        assert_eq!(simulator.total(), 201);
    }
}

#[test]
fn after_a_request_for_a_slower_pace_few_are_under_way() {
    let simulator = Simulator::start(&["--latency-ms", "200"]);
    let space = space(&simulator, 300, "limits = { concurrency = 64 }");
    let more = json!({"match": "row 150", "times": 1, "headers": {"retry-after": "2"}});
    simulator.fault(failure(503, "Slow Down", "slow_down", more));
    let mut run = space.command(&["run", "-q"]).spawn().expect("flow starts");
    while simulator.get("/_stats")["by_status"]["503"] != 1 {
        assert!(run.try_wait().expect("a state").is_none(), "it ended too soon");
        std::thread::sleep(Duration::from_millis(5));
    }
    let [before, _] = at_once(&simulator);
    assert!(before > 32, "{before}");
    std::thread::sleep(Duration::from_millis(1000));
    let waited = simulator.total();
    simulator.reset();
    // It goes on with a quarter, and has doubled less than once when as many more are answered.
    while simulator.total() < before / 4 {
        assert!(run.try_wait().expect("a state").is_none(), "it ended too soon: {waited}");
        std::thread::sleep(Duration::from_millis(5));
    }
    let [after, _] = at_once(&simulator);
    assert!(after <= before / 2, "{before}, then {after}");
    assert!(run.wait().expect("an end").success());
}

#[test]
fn trouble_at_the_server_costs_attempts_and_no_rows() {
    let simulator = Simulator::start(&[]);
    let space = space(&simulator, 50, "");
    for status in [500, 502, 504] {
        let more = json!({"times": 1, "match": format!("row {}", status - 480)});
        simulator.fault(failure(status, "bad gateway", "server_error", more));
    }
    let ran = space.run(&[]).expect(0);
    assert_eq!((ran.stage("label")["rows"].as_u64(), simulator.total()), (Some(50), 53));
}
