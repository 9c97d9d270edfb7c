//! Faults strike as ordered, and everything answered is counted.

mod common;
use common::Simulator;
use serde_json::json;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

#[test]
fn faults_strike_their_share_and_are_counted() {
    let simulator = Simulator::start(&["--repos", "1"]);
    let fault =
        json!({"path": "/github", "status": 502, "share": 0.3, "headers": {"retry-after": "1"}});
    assert_eq!(simulator.post("/_faults", &fault.to_string()).status, 200);
    let replies: Vec<_> =
        (0..100).map(|_| simulator.get("/github/repos/acme/engine-1/issues?per_page=1")).collect();
    let failed = replies.iter().filter(|reply| reply.status == 502).count();
    assert!((15..45).contains(&failed), "{failed} of 100");
    assert!(
        replies.iter().all(|reply| (reply.status == 502) == reply.header("retry-after").is_some())
    );
    simulator.send("DELETE", "/_faults", &[], "");
    assert_eq!(simulator.get("/github/user").status, 200);
    assert_eq!(simulator.get("/v1/models").status, 200);
    assert_eq!(
        simulator.get("/_stats").json(),
        json!({
            "total": 102,
            "under_way": 0,
            "by_endpoint": {"GET /repos/{owner}/{repo}/issues": 100, "GET /user": 1, "GET /v1/models": 1},
            "by_status": {"200": 102 - failed, "502": failed},
            "refused": {"primary": 0, "secondary": 0},
            "most_at_once": 1,
            "most_in_a_minute": 101,
            "models": {"batched": 0, "limits": {}, "at_once": {"most": 0, "refused": 0}}
        })
    );
    simulator.send("DELETE", "/_stats", &[], "");
    assert_eq!(simulator.get("/_stats").json()["total"], 0);
}

#[test]
fn a_fault_ends_after_its_times() {
    let simulator = Simulator::start(&[]);
    let fault = json!({"path": "/v1", "status": 429, "times": 2, "body": "{}", "delay_ms": 40});
    simulator.post("/_faults", &fault.to_string());
    let start = Instant::now();
    let statuses: Vec<u16> = (0..4).map(|_| simulator.get("/v1/models").status).collect();
    assert_eq!(statuses, [429, 429, 200, 200]);
    assert!(start.elapsed() >= Duration::from_millis(80));
}

#[test]
fn a_cut_answer_promises_more_than_it_gives() {
    let simulator = Simulator::start(&[]);
    let whole = simulator.get("/v1/models").body;
    simulator.post("/_faults", &json!({"path": "/v1", "cut": true}).to_string());
    let cut = simulator.get("/v1/models");
    let length: usize = cut.header("content-length").expect("a length").parse().expect("a number");
    assert_eq!(length, whole.len());
    assert_eq!(cut.body, whole[..length / 2]);
}

#[test]
fn a_dripping_answer_comes_whole_and_slowly() {
    let simulator = Simulator::start(&[]);
    let whole = simulator.get("/v1/models").body;
    simulator.post("/_faults", &json!({"path": "/v1", "drip_ms": 10}).to_string());
    let start = Instant::now();
    let slow = simulator.get("/v1/models");
    assert_eq!(slow.body, whole);
    assert!(start.elapsed() >= Duration::from_millis(100));
    simulator.post("/_faults", &json!({"path": "/v1", "cut": true}).to_string());
    assert_eq!(simulator.get("/v1/models").body, whole[..whole.len() / 2]);
}

#[test]
fn a_search_that_runs_out_of_time_says_so() {
    let simulator = Simulator::start(&["--repos", "1", "--items", "20"]);
    let search = "/github/search/issues?q=repo:acme/engine-1";
    let found = || {
        let found = simulator.get(search).json();
        let items = found["items"].as_array().expect("items").len();
        (found["incomplete_results"].clone(), found["total_count"].clone(), items)
    };
    let order = json!({"path": "/github/search", "incomplete": true, "times": 1});
    simulator.post("/_faults", &order.to_string());
    assert_eq!(found(), (json!(true), json!(10), 10));
    assert_eq!(found(), (json!(false), json!(20), 20));
}

#[test]
fn an_order_that_makes_no_sense_is_refused() {
    let simulator = Simulator::start(&[]);
    for order in ["", "{}", "{\"path\": \"/\", \"status\": 7}", "{\"path\": \"/\", \"colour\": 1}"]
    {
        assert_eq!(simulator.post("/_faults", order).status, 400, "{order}");
    }
    assert_eq!(simulator.post("/_items", "{}").status, 400);
}

#[test]
fn what_a_client_left_is_answered_and_counted() {
    let simulator = Simulator::start(&["--latency-ms", "100"]);
    let stats = |name: &str| simulator.get("/_stats").json()[name].clone();
    let mut stream = TcpStream::connect(&simulator.host).expect("the simulator accepts");
    write!(stream, "GET /v1/models HTTP/1.1\r\nhost: h\r\n\r\n").expect("sent");
    while stats("under_way") == 0 && stats("total") == 0 {}
    drop(stream);
    while stats("under_way") == 1 {}
    assert_eq!(stats("total"), 1);
}

#[test]
fn answers_are_counted_by_the_time_they_were_sent() {
    let simulator = Simulator::start(&[]);
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_micros();
    let since = |time| simulator.get(&format!("/_stats?since_us={time}")).json()["since"].clone();
    let start = now();
    simulator.get("/v1/models");
    let between = now();
    simulator.get("/v1/models");
    assert_eq!((since(start), since(between), since(now())), (json!(2), json!(1), json!(0)));
}

#[test]
fn a_model_may_say_what_is_no_answer() {
    let simulator = Simulator::start(&[]);
    let schema = json!({"type": "object", "required": ["a"], "properties": {"a": {"enum": ["x"]}}});
    let named = json!({"name": "t", "schema": schema});
    let chat = |row: &str| {
        let body = json!({"model": "m", "messages": [{"role": "user", "content": row}],
            "response_format": {"type": "json_schema", "json_schema": named}});
        let choice = simulator.post("/v1/chat/completions", &body.to_string()).json();
        let choice = &choice["choices"][0];
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        let (message, end) = (&choice["message"], &choice["finish_reason"]);
        (text(&message["content"]), text(&message["refusal"]), text(end).expect("a reason"))
    };
    let response = |row: &str| {
        let format = json!({"type": "json_schema", "name": "t", "schema": schema});
        let body = json!({"model": "m", "input": row, "text": {"format": format}});
        let reply = simulator.post("/v1/responses", &body.to_string()).json();
        let content = reply["output"][0]["content"][0].clone();
        (content, reply["incomplete_details"]["reason"].clone())
    };
    let whole = "{\"a\":\"x\"}".to_owned();
    let refusal = "I'm sorry, I can't assist with that.".to_owned();
    let wrong = format!("Here is the answer: {whole}");
    let half = whole[..4].to_owned();
    for (says, content, refused, end, incomplete) in [
        ("wrong_json", Some(wrong), None, "stop", None),
        ("refusal", None, Some(refusal), "stop", None),
        ("length", Some(half.clone()), None, "length", Some("max_output_tokens")),
        ("content_filter", Some(half), None, "content_filter", Some("content_filter")),
        ("empty", Some(String::new()), None, "stop", None),
    ] {
        let order = json!({"path": "/v1/", "says": says, "match": "row 2"});
        simulator.post("/_faults", &order.to_string());
        assert_eq!(chat("row 1"), (Some(whole.clone()), None, "stop".to_owned()));
        assert_eq!(chat("row 2"), (content.clone(), refused.clone(), end.to_owned()));
        assert_eq!(response("row 1").0["text"], whole);
        let (said, reason) = response("row 2");
        let key = if refused.is_some() { "refusal" } else { "text" };
        assert_eq!((&said[key], reason), (&json!(content.or(refused)), json!(incomplete)));
        simulator.send("DELETE", "/_faults", &[], "");
    }
}

#[test]
fn what_a_client_does_between_two_requests_is_timed() {
    let simulator = Simulator::start(&[]);
    let mut stream = TcpStream::connect(&simulator.host).expect("the simulator accepts");
    let mut answers = BufReader::new(stream.try_clone().expect("a handle"));
    for pause in [0, 30, 0] {
        std::thread::sleep(Duration::from_millis(pause));
        write!(stream, "GET /v1/none HTTP/1.1\r\nhost: h\r\n\r\n").expect("sent");
        let mut line = String::new();
        // The length is the last of the headers.
        while !line.contains("content-length") {
            line.clear();
            answers.read_line(&mut line).expect("a line");
        }
        let length = line.trim().rsplit(' ').next().and_then(|length| length.parse().ok());
        let mut rest = vec![0; 2 + length.unwrap_or(0)];
        answers.read_exact(&mut rest).expect("the body");
    }
    let gaps = simulator.get("/_stats?gaps=1").json()["gaps_us"].clone();
    assert_eq!(gaps["count"], 2, "{gaps}");
    assert!(gaps["p99"].as_u64() >= Some(30_000), "{gaps}");
}
