//! The Responses API gives the answers of chat completions, in its own shape.

mod common;
use common::{Reply, Simulator};
use serde_json::{Value, json};

fn ask(simulator: &Simulator, body: Value) -> Reply {
    simulator.post("/v1/responses", &body.to_string())
}

fn schema() -> Value {
    json!({"type": "object", "required": ["bug"], "additionalProperties": false,
        "properties": {"bug": {"enum": ["yes", "no", "unclear"]}}})
}

fn the_schema() -> Value {
    json!({"format": {"type": "json_schema", "name": "t", "strict": true, "schema": schema()}})
}

/// The parts of the message.
fn message(reply: &Value) -> &Value {
    let output = reply["output"].as_array().expect("an output");
    output.iter().find(|item| item["type"] == "message").expect("a message")
}

fn text(reply: &Value) -> &str {
    message(reply)["content"][0]["text"].as_str().expect("a text")
}

#[test]
fn both_apis_answer_the_same_to_the_same() {
    let simulator = Simulator::start(&[]);
    for nth in 0..20 {
        let user = format!("text {nth}");
        let messages =
            json!([{"role": "system", "content": "s"}, {"role": "user", "content": user}]);
        let chat = json!({"model": "m", "messages": messages, "response_format":
            {"type": "json_schema", "json_schema": {"name": "t", "schema": schema()}}});
        let chat = simulator.post("/v1/chat/completions", &chat.to_string()).json();
        let parts =
            [{ json!({"role": "user", "content": [{"type": "input_text", "text": user}]}) }];
        for body in [
            json!({"model": "m", "input": messages, "text": the_schema()}),
            json!({"model": "m", "instructions": "s", "input": user, "text": the_schema()}),
            json!({"model": "m", "instructions": "s", "input": parts, "text": the_schema()}),
        ] {
            let reply = ask(&simulator, body).json();
            assert_eq!(text(&reply), chat["choices"][0]["message"]["content"]);
            assert_eq!(reply["usage"]["input_tokens"], chat["usage"]["prompt_tokens"]);
            assert_eq!(reply["usage"]["output_tokens"], chat["usage"]["completion_tokens"]);
        }
    }
}

#[test]
fn an_answer_has_the_shape_of_openai() {
    let simulator = Simulator::start(&[]);
    let reply = ask(&simulator, json!({"model": "m", "input": "hello", "text": the_schema()}));
    assert_eq!((reply.status, reply.header("x-flow-source")), (200, Some("simulated")));
    let reply = reply.json();
    assert_eq!(
        (&reply["object"], &reply["status"], &reply["model"]),
        (&json!("response"), &json!("completed"), &json!("m-sim"))
    );
    assert_eq!((&reply["error"], &reply["incomplete_details"]), (&Value::Null, &Value::Null));
    assert_eq!(reply["output"].as_array().map(Vec::len), Some(1));
    let said: Value = serde_json::from_str(text(&reply)).expect("JSON");
    let output = text(&reply).len().div_ceil(4);
    assert!(["yes", "no", "unclear"].iter().any(|label| said["bug"] == *label));
    assert_eq!(message(&reply)["content"][0]["logprobs"], json!([]));
    assert_eq!(
        reply["usage"],
        json!({
            "input_tokens": 2, "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": output, "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 2 + output
        })
    );
}

#[test]
fn a_model_that_thinks_says_how_much() {
    let simulator = Simulator::start(&[]);
    let body = json!({"model": "gpt-5-mini", "input": "hello", "reasoning": {"effort": "low"}});
    let reply = ask(&simulator, body).json();
    assert_eq!(reply["output"][0]["type"], "reasoning");
    let thought = reply["usage"]["output_tokens_details"]["reasoning_tokens"].as_u64();
    assert!(thought >= Some(32), "{reply}");
    assert!(reply["usage"]["output_tokens"].as_u64() > thought);
    let messages = json!([{"role": "user", "content": "hello"}]);
    let chat = json!({"model": "gpt-5-mini", "messages": messages, "reasoning_effort": "low"});
    let chat = simulator.post("/v1/chat/completions", &chat.to_string()).json();
    assert_eq!(chat["usage"]["completion_tokens_details"]["reasoning_tokens"].as_u64(), thought);
    assert_eq!(chat["choices"][0]["message"]["content"], text(&reply));
    // It may think so long that there is no room for an answer.
    let body = json!({"model": "o3", "input": "hello", "reasoning": {"effort": "high"},
        "max_output_tokens": 100});
    let cut = ask(&simulator, body).json();
    assert_eq!(cut["status"], "incomplete");
    assert_eq!(cut["incomplete_details"], json!({"reason": "max_output_tokens"}));
    assert_eq!(cut["output"].as_array().map(Vec::len), Some(1), "{cut}");
    assert_eq!(cut["usage"]["output_tokens"], 100);
}

#[test]
fn an_answer_is_cut_where_it_may_not_be_longer() {
    let simulator = Simulator::start(&[]);
    let schema = json!({"type": "object", "required": ["a"], "properties": {
        "a": {"type": "string", "minLength": 200}}});
    let format = json!({"type": "json_schema", "name": "t", "schema": schema});
    let body = json!({"model": "m", "input": "hello", "text": {"format": format},
        "max_output_tokens": 16});
    let cut = ask(&simulator, body).json();
    assert_eq!((&cut["status"], text(&cut).len()), (&json!("incomplete"), 64));
    assert_eq!(message(&cut)["status"], "incomplete");
    let named = json!({"name": "t", "schema": schema});
    for most in ["max_tokens", "max_completion_tokens"] {
        let body = json!({"model": "m", "messages": [{"role": "user", "content": "hello"}],
            "response_format": {"type": "json_schema", "json_schema": named}, most: 16});
        let chat = simulator.post("/v1/chat/completions", &body.to_string()).json();
        assert_eq!(chat["choices"][0]["finish_reason"], "length");
        assert_eq!(chat["choices"][0]["message"]["content"], text(&cut));
        assert_eq!(chat["usage"]["completion_tokens"], 16);
    }
}

#[test]
fn what_the_api_does_not_know_is_refused() {
    let simulator = Simulator::start(&[]);
    for (more, param, code) in [
        (json!({"max_tokens": 20}), "max_tokens", "unknown_parameter"),
        (json!({"seed": 1}), "seed", "unknown_parameter"),
        (json!({"max_output_tokens": 3}), "max_output_tokens", "integer_below_min_value"),
        (json!({"input": null}), "input", "missing_required_parameter"),
        (
            json!({"text": {"format": {"type": "json_schema"}}}),
            "text.format.name",
            "missing_required_parameter",
        ),
    ] {
        let mut body = json!({"model": "m", "input": "hello"});
        let keys = body.as_object_mut().expect("an object");
        keys.extend(more.as_object().expect("an object").clone());
        let reply = ask(&simulator, body);
        let error = reply.json()["error"].clone();
        assert_eq!(
            (reply.status, &error["param"], &error["code"]),
            (400, &json!(param), &json!(code)),
            "{more}"
        );
    }
}

#[test]
fn the_same_question_may_get_another_answer_each_time() {
    let schema = json!({"type": "object", "required": ["n"], "properties": {
        "n": {"type": "integer", "minimum": 0, "maximum": 1_000_000}}});
    let format = json!({"type": "json_schema", "name": "t", "schema": schema});
    let body = json!({"model": "m", "input": "hello", "text": {"format": format}});
    let answers = |flags: &[&str]| {
        let simulator = Simulator::start(flags);
        [(); 3].map(|()| text(&ask(&simulator, body.clone()).json()).to_owned())
    };
    let [first, second, third] = answers(&["--vary"]);
    assert!(first != second && second != third && third != first, "{first} {second} {third}");
    assert_eq!(answers(&["--vary"]), [first.clone(), second, third], "the same ones each time");
    assert_eq!(answers(&[]), [first.clone(), first.clone(), first]);
}
