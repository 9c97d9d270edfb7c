//! Limits refuse what is over them in GitHub's ways, say how long to wait, and are counted.

mod common;
use common::{Reply, Simulator};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const ISSUE: &str = "/github/repos/acme/engine-1/issues/5";
const SECONDARY: &str =
    "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.";

fn start(flags: &[&str]) -> Simulator {
    Simulator::start(&[&["--repos", "1"], flags].concat())
}

fn query(simulator: &Simulator, query: &str) -> Reply {
    simulator.post("/github/graphql", &json!({"query": query}).to_string())
}

fn refused(simulator: &Simulator) -> Value {
    simulator.get("/_stats").json()["refused"].clone()
}

#[test]
fn the_primary_limit_is_told_and_kept_for_each_resource() {
    let simulator = start(&["--github-limit", "2/h"]);
    let statuses: Vec<u16> = (0..3).map(|_| simulator.get(ISSUE).status).collect();
    assert_eq!(statuses, [200, 200, 403]);
    let over = simulator.get(ISSUE);
    assert_eq!(
        (over.header("x-ratelimit-remaining"), over.header("x-ratelimit-resource")),
        (Some("0"), Some("core"))
    );
    assert!(over.json()["message"].as_str().is_some_and(|it| it.contains("rate limit exceeded")));
    let search = simulator.get("/github/search/issues?q=repo:acme/engine-1");
    assert_eq!((search.status, search.header("x-ratelimit-remaining")), (200, Some("1")));
    let left = simulator.get("/github/rate_limit").json()["resources"].clone();
    let told = ["core", "search", "graphql"].map(|name| left[name]["remaining"].clone());
    assert_eq!(told, [json!(0), json!(1), json!(2)]);
    assert_eq!(refused(&simulator), json!({"primary": 2, "secondary": 0}));
}

#[test]
fn a_304_costs_nothing() {
    let simulator = start(&["--github-limit", "2"]);
    let etag = simulator.get(ISSUE).header("etag").expect("an ETag").to_owned();
    for _ in 0..5 {
        let again = simulator.send("GET", ISSUE, &[("if-none-match", &etag)], "");
        assert_eq!((again.status, again.header("x-ratelimit-remaining")), (304, Some("1")));
    }
    assert_eq!(simulator.get(ISSUE).status, 200);
}

#[test]
fn a_window_ends() {
    let simulator = start(&["--github-limit", "1/1s"]);
    assert_eq!(simulator.get(ISSUE).status, 200);
    let start = Instant::now();
    while simulator.get(ISSUE).status != 200 {
        assert!(start.elapsed() < Duration::from_secs(5), "the window never ends");
    }
}

#[test]
fn a_query_costs_points_and_is_refused_with_200() {
    let simulator = start(&["--github-limit", "5"]);
    let asked = |first: u64| {
        format!(
            "{{ rateLimit {{ cost remaining used limit nodeCount }}
               repository(owner: \"acme\", name: \"engine-1\") {{
                 issues(first: {first}) {{ nodes {{ comments(first: 1) {{ totalCount }}
                   ...Labels }} }} }} }}
             fragment Labels on Issue {{ labels(last: 2) {{ totalCount }} }}"
        )
    };
    // One request for the issues, and two for each of them.
    let told = query(&simulator, &asked(100)).json()["data"]["rateLimit"].clone();
    let (cost, nodes) = (2, 100 + 100 + 200);
    assert_eq!(
        told,
        json!({"cost": cost, "remaining": 3, "used": 2, "limit": 5, "nodeCount": nodes})
    );
    let cheap = query(&simulator, &asked(10));
    assert_eq!(cheap.json()["data"]["rateLimit"]["cost"], 1);
    assert_eq!(cheap.header("x-ratelimit-remaining"), Some("2"));
    assert_eq!(query(&simulator, &asked(100)).header("x-ratelimit-remaining"), Some("0"));
    let over = query(&simulator, &asked(1));
    assert_eq!((over.status, over.header("x-ratelimit-remaining")), (200, Some("0")));
    assert_eq!(over.json().get("data"), None);
    assert_eq!(over.json()["errors"][0]["type"], "RATE_LIMITED");
    assert_eq!(simulator.get(ISSUE).status, 200);
}

#[test]
fn a_secondary_limit_counts_rest_and_graphql_and_says_how_long() {
    let simulator = start(&["--github-points", "2/2s", "--github-limit", "100"]);
    assert_eq!(simulator.get("/github/rate_limit").status, 200);
    assert_eq!(query(&simulator, "{ viewer { login } }").status, 200);
    let over = simulator.get(ISSUE);
    assert_eq!((over.status, over.json()["message"].as_str()), (403, Some(SECONDARY)));
    assert_eq!(over.header("x-ratelimit-remaining"), Some("100"), "it costs nothing besides");
    let wait: u64 = over.header("retry-after").expect("a wait").parse().expect("seconds");
    assert!((1..=2).contains(&wait), "{wait}");
    let over = query(&simulator, "{ viewer { login } }");
    assert_eq!((over.status, &over.json()["errors"][0]["message"]), (200, &json!(SECONDARY)));
    std::thread::sleep(Duration::from_secs(wait));
    assert_eq!(simulator.get(ISSUE).status, 200);
    let stats = simulator.get("/_stats").json();
    assert_eq!(stats["refused"], json!({"primary": 0, "secondary": 2}));
    assert_eq!(stats["most_in_a_minute"], 3);
    simulator.send("DELETE", "/_stats", &[], "");
    assert_eq!(refused(&simulator), json!({"primary": 0, "secondary": 0}));
}

#[test]
fn a_secondary_limit_may_be_a_429_and_silent() {
    let flags = ["--github-points", "1/m", "--github-secondary", "429", "--github-silent"];
    let simulator = start(&flags);
    assert_eq!(simulator.get(ISSUE).status, 200);
    let over = simulator.get(ISSUE);
    assert_eq!((over.status, over.header("retry-after")), (429, None));
    assert_ne!(over.header("x-ratelimit-remaining"), Some("0"));
    assert_eq!(over.json()["message"], SECONDARY);
}

#[test]
fn more_at_once_than_allowed_are_refused() {
    let simulator = start(&["--github-concurrent", "1"]);
    let slow = json!({"path": ISSUE, "delay_ms": 400, "times": 1});
    simulator.post("/_faults", &slow.to_string());
    let mut first = TcpStream::connect(&simulator.host).expect("the simulator accepts");
    write!(first, "GET {ISSUE} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").expect("sent");
    while simulator.get("/_stats").json()["under_way"] == 0 {}
    let second = simulator.get(ISSUE);
    assert_eq!((second.status, second.json()["message"].as_str()), (403, Some(SECONDARY)));
    let mut answer = String::new();
    first.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(simulator.get(ISSUE).status, 200);
    assert_eq!(simulator.get("/_stats").json()["most_at_once"], 2);
}
