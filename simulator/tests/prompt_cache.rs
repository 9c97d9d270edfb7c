//! Prompts that begin alike are read from a cache in steps of 128 tokens, where a flag asks for it.

mod common;
use common::Simulator;
use serde_json::{Value, json};

fn usage(simulator: &Simulator, key: &str, model: &str, system: &str, user: &str) -> Value {
    let messages =
        json!([{"role": "system", "content": system}, {"role": "user", "content": user}]);
    let key = format!("Bearer {key}");
    let headers = [("authorization", key.as_str())];
    let body = json!({"model": model, "messages": messages}).to_string();
    let reply = simulator.send("POST", "/v1/chat/completions", &headers, &body).json();
    reply["usage"]["prompt_tokens_details"].clone()
}

fn told(read: u64, written: u64) -> Value {
    json!({"cached_tokens": read, "cache_write_tokens": written})
}

#[test]
fn the_beginning_that_prompts_share_is_cached() {
    let simulator = Simulator::start(&["--prompt-cache"]);
    // Of 1,100 and 300 tokens: 1,400 in all, and so 1,280 in whole steps.
    let (system, user) = ("s".repeat(4_400), "u".repeat(1_200));
    assert_eq!(usage(&simulator, "k", "m", &system, &user), told(0, 1_280));
    assert_eq!(usage(&simulator, "k", "m", &system, &user), told(1_280, 0));
    // They share 1,100 tokens, and so 1,024.
    assert_eq!(usage(&simulator, "k", "m", &system, &"v".repeat(1_200)), told(1_024, 256));
    assert_eq!(usage(&simulator, "k", "m", &"t".repeat(4_400), &user), told(0, 1_280));
    assert_eq!(usage(&simulator, "other", "m", &system, &user), told(0, 1_280));
    assert_eq!(usage(&simulator, "k", "other", &system, &user), told(0, 1_280));
    assert_eq!(usage(&simulator, "k", "m", "short", "s"), told(0, 0));
    let body = json!({"model": "m", "instructions": system, "input": user}).to_string();
    let headers = [("authorization", "Bearer k")];
    let reply = simulator.send("POST", "/v1/responses", &headers, &body).json();
    assert_eq!(reply["usage"]["input_tokens_details"], told(1_280, 0), "in both APIs");
}

#[test]
fn without_the_flag_nothing_depends_on_what_was_asked_before() {
    let simulator = Simulator::start(&[]);
    let long = "s".repeat(8_000);
    for _ in 0..2 {
        assert_eq!(usage(&simulator, "k", "m", &long, "u"), json!({"cached_tokens": 0}));
    }
}
