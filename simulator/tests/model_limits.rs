//! A provider's limits are announced with every answer, and refuse what is over them.

mod common;
use common::{Reply, Simulator};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn ask(simulator: &Simulator, key: &str, model: &str, more: Value) -> Reply {
    let mut body =
        json!({"model": model, "messages": [{"role": "user", "content": "x".repeat(40)}]});
    let keys = body.as_object_mut().expect("an object");
    keys.extend(more.as_object().expect("an object").clone());
    let headers = [("authorization", key)];
    simulator.send("POST", "/v1/chat/completions", &headers, &body.to_string())
}

fn left(reply: &Reply) -> [Option<&str>; 2] {
    ["requests", "tokens"].map(|of| reply.header(&format!("x-ratelimit-remaining-{of}")))
}

fn limits(simulator: &Simulator) -> Value {
    simulator.get("/_stats").json()["models"]["limits"].clone()
}

#[test]
fn what_is_left_is_told_for_each_key_and_model() {
    let simulator = Simulator::start(&["--model-limit", "2/h,1000/h"]);
    let first = ask(&simulator, "k", "m", json!({"max_tokens": 300}));
    assert_eq!((first.status, left(&first)), (200, [Some("1"), Some("700")]));
    assert_eq!(first.header("x-ratelimit-limit-requests"), Some("2"));
    assert_eq!(first.header("x-ratelimit-limit-tokens"), Some("1000"));
    assert_eq!(first.header("x-ratelimit-reset-requests"), Some("30m0s"));
    assert_eq!(first.header("x-ratelimit-reset-tokens"), Some("18m0s"));
    // The prompt is of ten tokens, which is more than an answer of five.
    assert_eq!(left(&ask(&simulator, "other", "m", json!({"max_tokens": 5})))[1], Some("990"));
    assert_eq!(left(&ask(&simulator, "k", "other", json!({})))[1], Some("990"));
    assert_eq!(ask(&simulator, "k", "m", json!({})).status, 200);
    let over = ask(&simulator, "k", "m", json!({}));
    let error = over.json()["error"].clone();
    assert_eq!(
        (over.status, &error["type"], &error["code"]),
        (429, &json!("requests"), &json!("rate_limit_exceeded"))
    );
    let message = error["message"].as_str().expect("a text");
    let start = "Rate limit reached for m on requests per min (RPM): Limit 2, Used 2, Requested 1.";
    assert!(message.starts_with(start), "{message}");
    let wait: u64 = over.header("retry-after").expect("a wait").parse().expect("seconds");
    assert!((1_700..=1_800).contains(&wait), "{wait}");
    assert_eq!(left(&over)[0], Some("0"));
    let body = json!({"model": "m", "input": "hello"}).to_string();
    let headers = [("authorization", "k")];
    let both = simulator.send("POST", "/v1/responses", &headers, &body);
    assert_eq!(both.status, 429, "both APIs have one limit");
    assert_eq!(simulator.get("/v1/models").header("x-ratelimit-limit-requests"), None);
}

#[test]
fn tokens_are_counted_and_refused() {
    let simulator = Simulator::start(&["--model-limit", "100,100/h"]);
    assert_eq!(ask(&simulator, "k", "m", json!({"max_tokens": 60})).status, 200);
    let over = ask(&simulator, "k", "m", json!({"max_tokens": 60}));
    let error = over.json()["error"].clone();
    assert_eq!((over.status, &error["type"]), (429, &json!("tokens")));
    let never = ask(&simulator, "k", "m", json!({"max_tokens": 101})).json();
    let message = never["error"]["message"].as_str().expect("a text").to_owned();
    assert!(message.starts_with("Request too large for m on tokens per min"), "{message}");
    assert_eq!(ask(&simulator, "k", "m", json!({})).status, 200);
    let told = limits(&simulator)["m"].clone();
    let told = ["requests", "tokens", "refused"].map(|name| told[name].clone());
    assert_eq!(told, [json!(2), json!(70), json!(2)]);
    simulator.send("DELETE", "/_stats", &[], "");
    assert_eq!(limits(&simulator)["m"]["requests"], 0);
    assert_eq!(ask(&simulator, "k", "m", json!({"max_tokens": 60})).status, 429, "none came back");
}

#[test]
fn a_bucket_fills_up_again_all_the_time() {
    let simulator = Simulator::start(&["--model-limit", "20/2s"]);
    let start = Instant::now();
    let mut answered = 0;
    while start.elapsed() < Duration::from_secs(1) {
        answered += u64::from(ask(&simulator, "k", "m", json!({})).status == 200);
    }
    // Twenty at once, and ten more in the second.
    assert!((28..=31).contains(&answered), "{answered}");
    let refused = std::iter::repeat_with(|| ask(&simulator, "k", "m", json!({})))
        .find(|reply| reply.status == 429)
        .expect("they come without end");
    let wait = refused.header("retry-after-ms").expect("a wait").parse().expect("a number");
    std::thread::sleep(Duration::from_millis(wait));
    assert_eq!(ask(&simulator, "k", "m", json!({})).status, 200);
    let told = limits(&simulator)["m"]["seconds"].as_f64().expect("a number");
    assert!((0.9..2.0).contains(&told), "{told}");
}

#[test]
fn without_the_flag_there_are_none() {
    let simulator = Simulator::start(&[]);
    let reply = ask(&simulator, "k", "m", json!({}));
    assert!(reply.headers.iter().all(|(name, _)| !name.starts_with("x-ratelimit")));
}
