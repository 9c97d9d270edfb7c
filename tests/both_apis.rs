//! Chat completions and responses: the same rows from either, each failure by its name, what a call was
//! like kept beside its answer.

mod support;

use serde_json::{Value, json};
use support::{Simulator, TestSpace};

const SCHEMA: &str = r#"{"type": "object", "additionalProperties": false,
  "required": ["reasoning", "label"],
  "properties": {"reasoning": {"type": "string"}, "label": {"enum": ["bug", "question"]}}}"#;

fn space(simulator: &Simulator, model: &str) -> TestSpace {
    let mut space = TestSpace::new();
    let address = &simulator.address;
    space.write(
        "pipeline.toml",
        format!(
            r#"
[pipeline]
name = "test"
[models.small]
base_url = "{address}/v1"
model = "tiny"
price = {{ input = 1.0, output = 2.0, cached_input = 0.1, cache_write = 1.25 }}
{model}
[[tables.texts]]
id = 1
text = "crash on load"
[[tables.texts]]
id = 2
text = "how do I start"
[stages.label]
kind = "llm"
inputs = ["texts"]
key = ["id"]
model = "small"
system = "s.md"
prompt = "p.md"
schema = "s.json"
outputs = ["data/labels.json"]
"#
        ),
    );
    space.write("s.md", "Label issues.");
    space.write("p.md", "{{ text }}");
    space.write("s.json", SCHEMA);
    space.env("NO_COLOR", "1");
    space
}

/// The rows without what tells one call from another.
fn fields(space: &TestSpace) -> Vec<Value> {
    let mut rows = space.rows("data/labels.json");
    for row in &mut rows {
        for name in ["id", "system_fingerprint"] {
            row["_call"][name] = Value::Null;
        }
    }
    rows
}

#[test]
fn either_api_makes_the_same_rows() {
    let simulator = Simulator::start(&[]);
    let chat = space(&simulator, "max_tokens = 500");
    let ran = chat.run(&[]).expect(0);
    let responses = space(&simulator, "api = \"responses\"\nmax_output_tokens = 500");
    let other = responses.run(&[]).expect(0);
    assert_eq!(fields(&chat), fields(&responses));
    for what in ["calls", "tokens_in", "tokens_out", "cost_usd"] {
        assert_eq!(ran.stage("label")[what], other.stage("label")[what], "{what}");
    }
    let asked = simulator.get("/_stats")["by_endpoint"].clone();
    assert_eq!(asked["POST /v1/chat/completions"], 2);
    assert_eq!(asked["POST /v1/responses"], 2);
    // Each is paid for once.
    simulator.reset();
    responses.edit("p.md", "{{ text }}", "{{ text }}.");
    responses.run(&[]).expect(0);
    responses.edit("p.md", "{{ text }}.", "{{ text }}");
    assert_eq!(responses.run(&[]).expect(0).states(), ["label restored"]);
    assert_eq!(simulator.total(), 2);
}

#[test]
fn each_failure_has_its_name_and_is_not_paid_for_again() {
    for api in ["chat", "responses"] {
        for (says, what) in [
            ("refusal", "refusal"),
            ("length", "length"),
            ("content_filter", "content_filter"),
            ("empty", "empty"),
            ("wrong_json", "invalid"),
        ] {
            let simulator = Simulator::start(&[]);
            simulator.fault(json!({"path": "/v1", "says": says, "match": "crash"}));
            let space = space(&simulator, &format!("api = \"{api}\""));
            space.run(&[]).expect(1);
            let failed = space.rows("data/labels.json.failed.jsonl");
            assert_eq!(failed.len(), 1, "{api} {says}");
            assert_eq!(failed[0]["_failed"]["kind"], "answer");
            assert_eq!(failed[0]["_failed"]["what"], what, "{api}: {}", failed[0]);
            let rows = space.rows("data/labels.json");
            assert_eq!(rows.len(), 1, "no label is made up");
            let repairs = if what == "invalid" { 2 } else { 0 };
            assert_eq!(simulator.total(), 2 + repairs, "{api} {says}: only what a repair can mend");
            simulator.heal();
            space.run(&[]).expect(1);
            assert_eq!(simulator.total(), 2 + repairs, "not paid for again unasked");
            space.run(&["--retry-failed"]).expect(0);
            assert_eq!(space.rows("data/labels.json").len(), 2);
        }
    }
}

#[test]
fn what_ends_in_no_answer_is_asked_again() {
    for body in [
        json!({"object": "response", "status": "failed", "output": [],
            "error": {"code": "server_error", "message": "try again"}}),
        json!({"object": "response", "status": "in_progress", "output": []}),
        json!({"choices": []}),
    ] {
        let simulator = Simulator::start(&[]);
        let fault = json!({"path": "/v1", "status": 200, "body": body.to_string(), "times": 1});
        simulator.fault(fault);
        let space = space(&simulator, "api = \"responses\"");
        space.run(&[]).expect(0);
        assert_eq!(simulator.total(), 3, "{body}");
    }
}

#[test]
fn log_probabilities_tell_how_sure_a_model_is() {
    let simulator = Simulator::start(&[]);
    let chat = space(&simulator, "logprobs = 2");
    chat.run(&[]).expect(0);
    let responses = space(&simulator, "api = \"responses\"\nlogprobs = 0");
    responses.run(&[]).expect(0);
    for space in [&chat, &responses] {
        for row in space.rows("data/labels.json") {
            let call = &row["_call"];
            let mean = call["logprob"].as_f64().unwrap_or_else(|| panic!("{row}"));
            assert!(mean <= 0.0 && mean > -20.0, "{row}");
            let sure = call["confidence"]["label"].as_f64().unwrap_or_else(|| panic!("{row}"));
            assert!(sure > 0.0 && sure <= 1.0, "{row}");
        }
    }
    // Without them there is nothing of it.
    let plain = space(&simulator, "");
    plain.run(&[]).expect(0);
    assert!(plain.rows("data/labels.json")[0]["_call"].get("logprob").is_none());
}

#[test]
fn tokens_into_and_from_a_providers_cache_have_prices_of_their_own() {
    let simulator = Simulator::start(&[]);
    let answer = json!({
        "model": "tiny-1", "choices": [{
            "message": {"role": "assistant", "content": r#"{"reasoning": "r", "label": "bug"}"#},
            "finish_reason": "stop",
        }],
        "usage": {
            "prompt_tokens": 3000, "completion_tokens": 100,
            "prompt_tokens_details": {"cached_tokens": 1000, "cache_write_tokens": 1500},
            "completion_tokens_details": {"reasoning_tokens": 60},
        },
    });
    simulator.fault(json!({"path": "/v1", "status": 200, "body": answer.to_string()}));
    let space = space(&simulator, "");
    let ran = space.run(&[]).expect(0);
    let call = space.rows("data/labels.json")[0]["_call"].clone();
    let counts = ["tokens_in", "tokens_in_cached", "tokens_cache_written", "tokens_out"];
    assert_eq!(counts.map(|name| call[name].as_u64()), [3000, 1000, 1500, 100].map(Some));
    assert_eq!(call["tokens_reasoning"], 60);
    // 500 at 1, 1000 at 0.1, 1500 at 1.25, 100 at 2, a million; two rows.
    let cost = ran.stage("label")["cost_usd"].as_f64().expect("a number");
    assert!((cost - 2.0 * (500.0 + 100.0 + 1875.0 + 200.0) / 1e6).abs() < 1e-9, "{cost}");
}

#[test]
fn a_call_is_told_with_all_that_decides_and_how_it_was_come_by() {
    let simulator = Simulator::start(&[]);
    simulator.fault(json!({"path": "/v1", "status": 503, "times": 1, "match": "crash"}));
    let space = space(&simulator, "body = { user = \"me\", metadata = { study = \"s\" } }");
    space.run(&[]).expect(0);
    let why = space.flow(&["why", "label", "--row", "id=1", "--json"]).expect(0).json();
    let call = &why["calls"][0];
    assert_eq!(call["not_in_key"], json!(["user", "metadata"]));
    assert_eq!((&call["sample"], &call["accept"]), (&json!(0), &json!("application/json")));
    assert_eq!(call["completion"]["finish_reason"], "stop");
    assert_eq!(call["headers"]["flow-attempts"], "2", "{}", call["headers"]);
    assert!(call["headers"]["flow-took-ms"].as_str().is_some());
    assert!(call["headers"]["x-request-id"].as_str().is_some());
    let told = space.flow(&["why", "label", "--row", "id=1"]).expect(0).stdout;
    for part in
        ["its key: method, address", "body without user, metadata", "ended by stop", "attempt 2"]
    {
        assert!(told.contains(part), "{part}: {told}");
    }
    // None of it is in a row or in a recording.
    let row = space.read("data/labels.json");
    space.flow(&["cassette", "calls.jsonl"]).expect(0);
    let recorded = space.read("calls.jsonl");
    for text in [row, recorded] {
        assert!(!text.contains("flow-attempts") && !text.contains("flow-took"), "{text}");
    }
}

#[test]
fn what_cannot_change_an_answer_is_in_no_key() {
    let simulator = Simulator::start(&[]);
    for api in ["chat", "responses"] {
        let space =
            space(&simulator, &format!("api = \"{api}\"\nbody = {{ service_tier = \"auto\" }}"));
        space.run(&[]).expect(0);
        let rows = space.read("data/labels.json");
        let asked = simulator.total();
        let cached = "prompt_cache_key = \"a\", prompt_cache_options = { mode = \"explicit\" }";
        space.edit("pipeline.toml", "service_tier = \"auto\"", cached);
        let ran = space.run(&[]).expect(0);
        assert_eq!((ran.json()["calls"].as_u64(), simulator.total()), (Some(0), asked), "{api}");
        assert_eq!(space.read("data/labels.json"), rows);
    }
}
