//! Items from files are served in GitHub's shapes: diffs, files, reviews, flat rows, threads.

mod common;
use common::{Simulator, file};
use serde_json::{Value, json};

const DIFF: &str = "diff --git a/src/a.c b/src/a.c\nindex 1..2 100644\n--- a/src/a.c\n+++ b/src/a.c\n@@ -1,2 +1,3 @@ f\n x\n-y\n+z\n+w\n\
diff --git a/new.md b/new.md\nnew file mode 100644\n--- /dev/null\n+++ b/new.md\n@@ -0,0 +1 @@\n+hello\n\
diff --git a/old.md b/now.md\nsimilarity index 100%\nrename from old.md\nrename to now.md\n";

fn sample(name: &str) -> Simulator {
    let issue = json!({"repo": "o/n", "number": 1, "title": "t", "labels": ["bug"], "state": "closed",
        "created_at": "2024-01-01T00:00:00Z", "closed_at": "2024-01-09T00:00:00Z",
        "comments": [{"user": "bo", "body": "same here", "created_at": "2024-01-02T00:00:00Z"}]});
    let pull = json!({"repo": "o/n", "number": 2, "kind": "pull", "title": "p", "closes": [1], "diff": DIFF,
        "created_at": "2024-01-03T00:00:00Z", "merged_at": "2024-01-09T00:00:00Z",
        "reviews": [{"user": "cy", "state": "APPROVED", "body": "ok", "submitted_at": "2024-01-04T00:00:00Z",
            "comments": [{"user": "cy", "path": "src/a.c", "line": 2, "body": "hm", "created_at": "2024-01-04T00:00:00Z"}]}]});
    let large = json!({"repo": "o/n", "number": 3, "kind": "pull", "title": "l", "diff": DIFF, "diff_too_large": true});
    Simulator::start(&["--data", &file(name, &[issue, pull, large])])
}

#[test]
fn a_diff_is_given_as_text_and_as_files() {
    let simulator = sample("diff.jsonl");
    let accept = [("accept", "application/vnd.github.v3.diff")];
    assert_eq!(simulator.send("GET", "/github/repos/o/n/pulls/2", &accept, "").body, DIFF);
    let large = simulator.send("GET", "/github/repos/o/n/pulls/3", &accept, "");
    assert_eq!((large.status, &large.json()["errors"][0]["code"]), (406, &json!("too_large")));
    for number in [2, 3] {
        let files = simulator.get(&format!("/github/repos/o/n/pulls/{number}/files")).json();
        let told = |file: &Value| {
            json!([file["filename"], file["status"], file["additions"], file["deletions"]])
        };
        let told: Vec<Value> = files.as_array().expect("files").iter().map(told).collect();
        assert_eq!(
            told,
            [
                json!(["src/a.c", "modified", 2, 1]),
                json!(["new.md", "added", 1, 0]),
                json!(["now.md", "renamed", 0, 0])
            ]
        );
        assert_eq!(files[0]["patch"], "@@ -1,2 +1,3 @@ f\n x\n-y\n+z\n+w");
        assert_eq!(
            (files[2].get("patch"), &files[2]["previous_filename"]),
            (None, &json!("old.md"))
        );
    }
}

#[test]
fn a_pull_request_has_its_counts_reviews_and_comments() {
    let simulator = sample("pull.jsonl");
    let pull = simulator.get("/github/repos/o/n/pulls/2").json();
    assert_eq!(
        (&pull["merged"], &pull["changed_files"], &pull["additions"]),
        (&json!(true), &json!(3), &json!(3))
    );
    assert_eq!(pull["html_url"], "https://simulator.invalid/o/n/pull/2");
    assert_eq!(simulator.get("/github/repos/o/n/pulls/2/reviews").json()[0]["state"], "APPROVED");
    assert_eq!(simulator.get("/github/repos/o/n/pulls/2/comments").json()[0]["path"], "src/a.c");
    assert_eq!(
        simulator.get("/github/repos/o/n/pulls/2/commits").json().as_array().map(Vec::len),
        Some(1)
    );
    assert_eq!(simulator.get("/github/repos/o/n/pulls/1").status, 404);
    let events = simulator.get("/github/repos/o/n/issues/1/timeline").json();
    let names: Vec<&str> = events
        .as_array()
        .expect("events")
        .iter()
        .filter_map(|event| event["event"].as_str())
        .collect();
    assert_eq!(names, ["labeled", "commented", "cross-referenced", "closed"]);
    assert_eq!(events[3]["commit_id"], pull["merge_commit_sha"]);
    assert_eq!(events[2]["source"]["issue"]["number"], 2);
}

#[test]
fn flat_rows_and_threads_keep_their_addresses() {
    let flat = json!({"number": 4, "title": "f", "body": null, "labels": ["bug"], "state": "closed",
        "created_at": "2023-03-10T21:33:07+00:00", "closed_at": "2023-03-12T06:22:47+00:00", "comments": 2,
        "html_url": "https://github.com/a/b/issues/4"});
    let issue = json!({"number": 5, "id": 77, "node_id": "MDU6", "title": "t", "state": "open", "body": "b",
        "html_url": "https://github.com/a/b/issues/5", "url": "https://api.github.com/repos/a/b/issues/5",
        "created_at": "2023-04-01T00:00:00Z", "updated_at": "2023-04-02T00:00:00Z", "user": {"login": "x"}, "labels": []});
    let events = json!([{"event": "closed", "created_at": "2023-04-02T00:00:00Z", "commit_id": "abc", "actor": {"login": "x"}}]);
    let thread = json!({"issue": issue, "comments": [{"id": 1, "body": "c"}], "events": [], "timeline": events});
    let simulator = Simulator::start(&["--data", &file("real.jsonl", &[flat, thread])]);
    let flat = simulator.get("/github/repos/a/b/issues/4").json();
    assert_eq!(
        (&flat["created_at"], &flat["comments"]),
        (&json!("2023-03-10T21:33:07Z"), &json!(2))
    );
    assert_eq!(flat["html_url"], "https://github.com/a/b/issues/4");
    assert_eq!(
        simulator.get("/github/repos/a/b/issues/4/comments").json().as_array().map(Vec::len),
        Some(2)
    );
    assert_eq!(simulator.get("/github/repos/a/b/issues/5").json(), issue);
    assert_eq!(simulator.get("/github/repos/a/b/issues/5/timeline").json(), events);
    let query = "{node(id: \"MDU6\") {... on Issue {number timelineItems(first: 5) {nodes {... on ClosedEvent {closer {... on Commit {oid}}}}}}}}";
    let node = &simulator.graphql(query, json!({}))["data"]["node"];
    assert_eq!(
        *node,
        json!({"number": 5, "timelineItems": {"nodes": [{"closer": {"oid": "abc"}}]}})
    );
}

#[test]
fn an_issue_tells_its_milestone_and_who_closed_it() {
    let item = |number: u64, state: &str| json!({"repo": "o/n", "number": number, "title": "t", "user": "ada", "state": state, "milestone": "v1"});
    let lines = [item(1, "open"), item(2, "closed")];
    let simulator = Simulator::start(&["--data", &file("milestones.jsonl", &lines)]);
    let issue = |number: u64| simulator.get(&format!("/github/repos/o/n/issues/{number}")).json();
    assert_eq!(
        (&issue(1)["closed_by"], &issue(2)["closed_by"]["login"]),
        (&Value::Null, &json!("ada"))
    );
    assert_eq!(issue(1)["milestone"]["title"], "v1");
    let listed = simulator.get("/github/repos/o/n/issues?state=all").json();
    assert_eq!(listed[0]["milestone"], issue(1)["milestone"]);
    assert_eq!(listed[0].get("closed_by"), None);
    let query = "{ repository(owner: \"o\", name: \"n\") { issue(number: 1) { milestone { id number title } } } }";
    let told = &simulator.graphql(query, json!({}))["data"]["repository"]["issue"]["milestone"];
    let milestone = &issue(1)["milestone"];
    assert_eq!(
        *told,
        json!({"id": milestone["node_id"], "number": milestone["number"], "title": "v1"})
    );
}

#[test]
fn what_no_client_knows_is_there_where_it_is_ordered() {
    let strange = Simulator::start(&["--repos", "1", "--strange"]);
    let plain = Simulator::start(&["--repos", "1"]);
    let list = "/github/repos/acme/engine-1/issues?state=all";
    let issue = &strange.get(list).json()[0];
    assert!(issue["field_of_tomorrow"].is_array() && issue["user"]["field_of_tomorrow"].is_array());
    assert_eq!(plain.get(list).json()[0].get("field_of_tomorrow"), None);
    let timeline = "/github/repos/acme/engine-1/issues/1/timeline";
    assert_eq!(strange.get(timeline).json()[0]["event"], "added_to_project_v9");
    let query =
        "{ repository(owner: \"acme\", name: \"engine-1\") { issueOrPullRequest(number: 1) {
        ... on Issue { timelineItems(first: 1) { nodes { __typename ... on ClosedEvent { id } } } }
        ... on PullRequest { timelineItems(first: 1) { nodes { __typename } } } } } }";
    let item = &strange.graphql(query, json!({}))["data"]["repository"]["issueOrPullRequest"];
    let nodes = &item["timelineItems"]["nodes"];
    assert_eq!(*nodes, json!([{"__typename": "AddedToProjectV9Event"}]));
}

/// Real data, where this machine has some: every item of it can be asked for.
#[test]
fn real_data_is_served() {
    let Ok(path) = std::env::var("FLOW_TEST_DATA") else {
        return;
    };
    let simulator = Simulator::start(&["--data", &path]);
    for repo in simulator.get("/_repos").json().as_array().expect("names") {
        let repo = repo.as_str().expect("a name");
        let mut next = Some(format!("/github/repos/{repo}/issues?state=all&per_page=100"));
        while let Some(path) = next {
            let reply = simulator.get(&path);
            let list = reply.json();
            for item in list.as_array().expect("a list").iter().step_by(20) {
                let item = &item["number"];
                for part in ["", "/comments", "/timeline"] {
                    assert_eq!(
                        simulator.get(&format!("/github/repos/{repo}/issues/{item}{part}")).status,
                        200
                    );
                }
            }
            next = reply.next();
        }
    }
}
