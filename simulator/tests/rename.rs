//! A renamed repository answers 301 to its id, and keeps its ids.

mod common;
use common::{Simulator, file};
use serde_json::json;

#[test]
fn a_renamed_repository_redirects_and_keeps_its_ids() {
    let item = json!({"repo": "old/name", "number": 1, "title": "t"});
    let rename = json!({"rename": {"from": "old/name", "to": "new/name"}});
    let before = Simulator::start(&["--data", &file("before.jsonl", std::slice::from_ref(&item))]);
    let after = Simulator::start(&["--data", &file("after.jsonl", &[item, rename])]);
    let was = before.get("/github/repos/old/name/issues/1").json();

    let moved = after.get("/github/repos/old/name/issues/1?a=b");
    assert_eq!(moved.status, 301);
    assert_eq!(moved.json()["message"], "Moved Permanently");
    let id = before.get("/github/repos/old/name").json()["id"].clone();
    let location = format!("http://{}/github/repositories/{id}/issues/1?a=b", after.host);
    assert_eq!(moved.header("location"), Some(location.as_str()));

    let now = after.get(&format!("/github/repositories/{id}/issues/1"));
    assert_eq!(now.body, after.get("/github/repos/new/name/issues/1").body);
    let now = now.json();
    assert_eq!((&now["id"], &now["node_id"]), (&was["id"], &was["node_id"]));
    assert!(now["repository_url"].as_str().is_some_and(|url| url.ends_with("/repos/new/name")));
    assert_eq!(after.get("/_repos").json(), json!(["new/name"]));
    let found =
        after.graphql("{repository(owner: \"old\", name: \"name\") {nameWithOwner}}", json!({}));
    assert_eq!(found["data"]["repository"]["nameWithOwner"], "new/name");
}
