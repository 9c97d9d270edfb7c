//! Log probabilities come where they are asked for, and settings are refused that a model does not
//! take.

mod common;
use common::Simulator;
use serde_json::{Value, json};

fn chat(simulator: &Simulator, model: &str, more: Value) -> (u16, Value) {
    let messages = json!([{"role": "user", "content": "hello"}]);
    send(simulator, "/v1/chat/completions", json!({"model": model, "messages": messages}), more)
}

fn response(simulator: &Simulator, model: &str, more: Value) -> (u16, Value) {
    send(simulator, "/v1/responses", json!({"model": model, "input": "hello"}), more)
}

fn send(simulator: &Simulator, path: &str, mut body: Value, more: Value) -> (u16, Value) {
    let keys = body.as_object_mut().expect("an object");
    keys.extend(more.as_object().expect("an object").clone());
    let reply = simulator.post(path, &body.to_string());
    (reply.status, reply.json())
}

#[test]
fn tokens_join_to_the_content_and_are_the_same_in_both_apis() {
    let simulator = Simulator::start(&[]);
    let (_, chat) = chat(&simulator, "m", json!({"logprobs": true, "top_logprobs": 3}));
    let choice = &chat["choices"][0];
    let tokens = choice["logprobs"]["content"].as_array().expect("tokens");
    let joined: String =
        tokens.iter().map(|token| token["token"].as_str().expect("a text")).collect();
    assert_eq!(choice["message"]["content"], joined);
    assert_eq!(chat["usage"]["completion_tokens"], tokens.len());
    for token in tokens {
        let logprob = |token: &Value| token["logprob"].as_f64().expect("a number");
        let top = token["top_logprobs"].as_array().expect("tokens");
        assert_eq!((top.len(), &top[0]["token"]), (3, &token["token"]));
        assert!(top.windows(2).all(|pair| logprob(&pair[0]) > logprob(&pair[1])), "{token}");
        let sum: f64 = top.iter().map(|other| logprob(other).exp()).sum();
        assert!((0.5..=1.0).contains(&sum), "{token}");
        let bytes = token["token"].as_str().expect("a text").as_bytes();
        assert_eq!(token["bytes"], json!(bytes));
    }
    let include = json!(["message.output_text.logprobs"]);
    let (_, reply) = response(&simulator, "m", json!({"include": include, "top_logprobs": 3}));
    assert_eq!(reply["output"][0]["content"][0]["logprobs"], json!(tokens));
}

#[test]
fn without_asking_there_are_none() {
    let simulator = Simulator::start(&[]);
    assert_eq!(chat(&simulator, "m", json!({})).1["choices"][0]["logprobs"], Value::Null);
    let (_, bare) = chat(&simulator, "m", json!({"logprobs": true}));
    assert_eq!(bare["choices"][0]["logprobs"]["content"][0]["top_logprobs"], json!([]));
    for more in [json!({"top_logprobs": 2}), json!({"logprobs": true, "top_logprobs": 21})] {
        let (status, reply) = chat(&simulator, "m", more);
        assert_eq!((status, &reply["error"]["param"]), (400, &json!("top_logprobs")));
    }
}

#[test]
fn a_reasoning_model_takes_no_settings_of_sampling() {
    let simulator = Simulator::start(&[]);
    let unsupported = "unsupported_parameter";
    let include = json!(["message.output_text.logprobs"]);
    for model in ["o1-mini", "o3", "o4-mini", "gpt-5-nano"] {
        for (more, param, code) in [
            (json!({"temperature": 0}), "temperature", "unsupported_value"),
            (json!({"top_p": 0.5}), "top_p", unsupported),
            (json!({"logprobs": true}), "logprobs", unsupported),
            (json!({"max_tokens": 5}), "max_tokens", unsupported),
        ] {
            let (status, reply) = chat(&simulator, model, more.clone());
            let error = &reply["error"];
            let told = (status, error["param"].as_str(), error["code"].as_str());
            assert_eq!(told, (400, Some(param), Some(code)), "{model} {more}");
            assert_eq!(chat(&simulator, "gpt-4.1", more).0, 200);
        }
        for (more, param) in [
            (json!({"temperature": 0}), "temperature"),
            (json!({"top_p": 0.5}), "top_p"),
            (json!({"include": include}), "top_logprobs"),
        ] {
            let (status, reply) = response(&simulator, model, more);
            let error = &reply["error"];
            let told = (status, error["param"].as_str(), error["code"].as_str());
            assert_eq!(told, (400, Some(param), Some(unsupported)), "{model}");
        }
        assert_eq!(chat(&simulator, model, json!({"temperature": 1})).0, 200);
    }
    let calm = json!({"temperature": 0, "reasoning_effort": "none"});
    assert_eq!(chat(&simulator, "gpt-5.2", calm).0, 200);
}
