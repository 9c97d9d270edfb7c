//! The same request gets the same bytes, and a known ETag gets 304 until the item changes.

mod common;
use common::Simulator;
use serde_json::json;

#[test]
fn the_same_request_gets_the_same_bytes() {
    let paths = [
        "http://simulator.invalid/github/repos/acme/engine-1/issues?state=all",
        "http://simulator.invalid/github/repos/acme/engine-1/issues/3/timeline",
        "http://simulator.invalid/github/rate_limit",
    ];
    let chat =
        json!({"model": "m", "messages": [{"role": "user", "content": "hello"}]}).to_string();
    let answers = |simulator: &Simulator| {
        let mut answers: Vec<_> = paths.iter().map(|path| simulator.get(path)).collect();
        answers.push(simulator.post("/v1/chat/completions", &chat));
        answers
            .into_iter()
            .map(|reply| (reply.status, reply.headers, reply.body))
            .collect::<Vec<_>>()
    };
    let first = Simulator::start(&["--repos", "1"]);
    assert_eq!(answers(&first), answers(&first));
    assert_eq!(answers(&first), answers(&Simulator::start(&["--repos", "1"])));
}

#[test]
fn a_known_etag_gets_304() {
    let simulator = Simulator::start(&["--repos", "1"]);
    let path = "/github/repos/acme/engine-1/issues/5";
    let first = simulator.get(path);
    let etag = first.header("etag").expect("an ETag").to_owned();
    let known = [("if-none-match", etag.as_str())];
    let again = simulator.send("GET", path, &known, "");
    assert_eq!(
        (again.status, again.body.as_str(), again.header("etag")),
        (304, "", Some(etag.as_str()))
    );
    let edited = json!({"repo": "acme/engine-1", "number": 5, "title": "edited", "body": "new"});
    assert_eq!(simulator.post("/_items", &edited.to_string()).status, 200);
    let changed = simulator.send("GET", path, &known, "");
    assert_eq!(changed.status, 200);
    assert_eq!(changed.json()["title"], "edited");
    assert_ne!(changed.header("etag"), Some(etag.as_str()));
}

#[test]
fn the_host_of_an_absolute_request_is_in_the_addresses() {
    let simulator = Simulator::start(&["--repos", "1"]);
    let reply =
        simulator.get("http://simulator.invalid/github/repos/acme/engine-1/issues?per_page=1");
    assert_eq!(reply.status, 200);
    let url = "http://simulator.invalid/github/repos/acme/engine-1";
    assert_eq!(reply.json()[0]["repository_url"], url);
    assert!(
        reply
            .header("link")
            .is_some_and(|link| link.starts_with("<http://simulator.invalid/github/"))
    );
}
