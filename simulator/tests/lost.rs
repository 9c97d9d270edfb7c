//! Items that are deleted, blocked or transferred, and what changes while a client is at work.

mod common;
use common::{Simulator, file};
use serde_json::{Value, json};

fn start() -> Simulator {
    Simulator::start(&["--repos", "2", "--items", "9"])
}

fn post(simulator: &Simulator, path: &str, body: Value) -> u16 {
    simulator.post(path, &body.to_string()).status
}

fn listed(simulator: &Simulator, path: &str) -> Vec<u64> {
    let page = simulator.get(path).json();
    page.as_array().expect("a list").iter().filter_map(|item| item["number"].as_u64()).collect()
}

fn node_of(simulator: &Simulator, id: &Value) -> Value {
    let query = "query($id: ID!) { node(id: $id) { ... on Issue { number } } }";
    simulator.graphql(query, json!({"id": id}))
}

#[test]
fn what_is_gone_says_how_and_is_in_no_list() {
    let simulator = start();
    let repo = "/github/repos/acme/engine-1";
    for (number, status) in [(2, 404), (3, 410), (4, 451)] {
        let id = simulator.get(&format!("{repo}/issues/{number}")).json()["node_id"].clone();
        let gone = json!({"repo": "acme/engine-1", "number": number, "gone": status});
        assert_eq!(post(&simulator, "/_items", gone), 200);
        for part in [
            format!("issues/{number}"),
            format!("issues/{number}/comments"),
            format!("pulls/{number}"),
        ] {
            assert_eq!(simulator.get(&format!("{repo}/{part}")).status, status, "{part}");
        }
        assert_eq!(node_of(&simulator, &id)["errors"][0]["type"], "NOT_FOUND");
    }
    let message = |number: u64| simulator.get(&format!("{repo}/issues/{number}")).json();
    assert_eq!(message(3)["message"], "This issue was deleted");
    assert_eq!(message(4)["block"]["reason"], "dmca");
    let all = listed(&simulator, &format!("{repo}/issues?state=all&direction=asc"));
    assert_eq!(all, [1, 5, 6, 7, 8, 9]);
    let found = simulator.get("/github/search/issues?q=repo:acme/engine-1").json();
    assert_eq!(found["total_count"], 6);
    let wrong = json!({"repo": "acme/engine-1", "number": 5, "gone": 500});
    assert_eq!(post(&simulator, "/_items", wrong), 400);
    post(&simulator, "/_items", json!({"repo": "acme/engine-1", "number": 3, "title": "back"}));
    assert_eq!(message(3)["title"], "back");
}

#[test]
fn a_transferred_issue_redirects_and_its_parts_do_not() {
    let simulator = start();
    let old = "/github/repos/acme/engine-1/issues/5";
    let comment = json!({"user": "bo", "body": "same here"});
    let item = json!({"repo": "acme/engine-1", "number": 5, "title": "t", "comments": [comment]});
    post(&simulator, "/_items", item);
    let was = simulator.get(old).json();
    let place = json!({"repo": "acme/engine-2", "number": 40});
    let order = json!({"repo": "acme/engine-1", "number": 5, "moved_to": place});
    assert_eq!(post(&simulator, "/_items", order), 200);

    let redirect = simulator.get(old);
    assert_eq!(redirect.status, 301);
    let location = redirect.header("location").expect("a place").to_owned();
    let now = simulator
        .get(location.strip_prefix(&format!("http://{}", simulator.host)).expect("here"))
        .json();
    assert_eq!((&now["title"], &now["number"]), (&json!("t"), &json!(40)));
    assert!(now["repository_url"].as_str().is_some_and(|url| url.ends_with("acme/engine-2")));
    assert!(now["html_url"].as_str().is_some_and(|url| url.ends_with("acme/engine-2/issues/40")));
    assert_ne!(now["node_id"], was["node_id"]);
    for part in ["comments", "timeline", "events"] {
        assert_eq!(simulator.get(&format!("{old}/{part}")).status, 404, "{part}");
    }
    let comments = simulator.get("/github/repos/acme/engine-2/issues/40/comments").json();
    assert_eq!(comments[0]["body"], "same here");
    assert!(!listed(&simulator, "/github/repos/acme/engine-1/issues?state=all").contains(&5));
    assert!(listed(&simulator, "/github/repos/acme/engine-2/issues?state=all").contains(&40));
    assert_eq!(node_of(&simulator, &was["node_id"])["data"]["node"], Value::Null);
    assert_eq!(node_of(&simulator, &now["node_id"])["data"]["node"]["number"], 40);
}

#[test]
fn items_move_while_a_list_is_paged() {
    let simulator = start();
    let list = "/github/repos/acme/engine-1/issues";
    let first = format!("{list}?state=all&direction=asc&per_page=3");
    let gone = json!({"repo": "acme/engine-1", "number": 1, "gone": 410});
    let new = json!({"repo": "acme/engine-1", "number": 10, "title": "new"});
    let later = json!({"path": list, "after": 2, "items": [gone, new]});
    assert_eq!(post(&simulator, "/_later", later), 200);
    let page = simulator.get(&first);
    assert_eq!(listed(&simulator, &page.next().expect("more")), [4, 5, 6]);
    // The second page was asked for by the repository's id, and counts all the same.
    assert_eq!(listed(&simulator, &first), [2, 3, 4]);
    let all = listed(&simulator, &format!("{list}?state=all&direction=asc"));
    assert_eq!(all, [2, 3, 4, 5, 6, 7, 8, 9, 10]);
    assert_eq!(post(&simulator, "/_later", json!({"path": list, "after": 0, "items": []})), 400);
    assert_eq!(post(&simulator, "/_later", json!({"path": list, "after": 1, "items": [{}]})), 400);
}

#[test]
fn a_repository_is_renamed_while_it_is_served() {
    let item = json!({"repo": "old/name", "number": 1, "title": "t"});
    let simulator = Simulator::start(&["--data", &file("renamed.jsonl", &[item])]);
    let rename =
        |from: &str, to: &str| post(&simulator, "/_renames", json!({"from": from, "to": to}));
    let was = simulator.get("/github/repos/old/name/issues/1").json();
    assert_eq!(rename("old/name", "new/name"), 200);
    let moved = simulator.get("/github/repos/old/name/issues/1");
    assert_eq!(moved.status, 301);
    let now = simulator.get("/github/repos/new/name/issues/1").json();
    assert_eq!((&now["id"], &now["node_id"]), (&was["id"], &was["node_id"]));
    assert_eq!(now["html_url"], "https://simulator.invalid/new/name/issues/1");
    assert_eq!(simulator.get("/_repos").json(), json!(["new/name"]));
    assert_eq!(rename("old/name", "other/name"), 400);
    assert_eq!(rename("new/name", "old/name"), 200);
    assert_eq!(simulator.get("/github/repos/old/name/issues/1").json(), was);
    assert_eq!(simulator.get("/github/repos/new/name/issues/1").status, 301);
}
