//! What GitHub answers when something is odd: blocked, still being worked out, too long to make, not
//! what was asked for, elsewhere. Nothing of it is taken for an answer that it is not.

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::{Simulator, TestSpace};

const BLOCKED: &str = r#"{"message": "Repository access blocked", "block": {"reason": "tos"}}"#;

fn simulator() -> Simulator {
    Simulator::start(&["--repos", "2", "--items", "30", "--seed", "3"])
}

/// A stage that asks about each of `rows`, with what it asks.
fn space(simulator: &Simulator, rows: &str, asks: &str) -> TestSpace {
    let mut space = TestSpace::new();
    let address = &simulator.address;
    space.write(
        "pipeline.toml",
        format!(
            r#"
[pipeline]
name = "test"
[github]
base_url = "{address}/github"
token = {{ env = "TEST_TOKEN" }}
attempts = 2
{rows}
[stages.found]
kind = "github"
inputs = ["rows"]
key = ["number"]
keep = ["repo"]
outputs = ["data/found.jsonl"]
{asks}
"#
        ),
    );
    space.env("NO_COLOR", "1").env("TEST_TOKEN", "a token");
    space
}

fn rows(numbers: &[u64]) -> String {
    let row =
        |number: &u64| format!("[[tables.rows]]\nrepo = \"acme/engine-1\"\nnumber = {number}\n");
    numbers.iter().map(row).collect()
}

const GET: &str = "get = \"/repos/{{ repo }}/issues/{{ number }}\"\npick = '{title, url}'";

fn pull(diff: &str) -> Value {
    json!({
        "repo": "acme/engine-1", "number": 31, "kind": "pull", "title": "a fix",
        "merged_at": "2025-01-01T00:00:00Z", "diff": diff,
    })
}

const DIFF: &str = "diff = \"/repos/{{ repo }}/pulls/{{ number }}\"";
const PATCH: &str = "diff --git a/a.c b/a.c\n--- a/a.c\n+++ b/a.c\n@@ -1,1 +1,2 @@\n line\n+more\n";

#[test]
fn a_repository_that_github_blocked_is_an_outcome_of_its_rows_alone() {
    let simulator = simulator();
    let path = "/github/repos/acme/engine-1/issues/2";
    simulator.fault(json!({ "path": path, "status": 403, "body": BLOCKED }));
    let space = space(&simulator, &rows(&[1, 2, 3]), GET);
    space.run(&[]).expect(0);
    let found = space.rows("data/found.jsonl");
    assert_eq!(found[1]["_outcome"]["status"], 403, "{}", found[1]);
    assert!(found[0]["_outcome"].is_null() && found[2]["title"].is_string());
    // A 403 for lack of rights stops the stage all the same.
    let denied = r#"{"message": "Resource not accessible by personal access token"}"#;
    simulator.fault(json!({ "path": "/github/repos", "status": 403, "body": denied }));
    space.edit("pipeline.toml", "number = 3", "number = 4");
    assert_eq!(space.run(&[]).expect(1).states(), ["found failed"]);
}

#[test]
fn what_github_is_still_working_out_is_asked_again() {
    let simulator = simulator();
    let path = "/github/repos/acme/engine-1/issues/1";
    simulator.fault(json!({ "path": path, "status": 202, "body": "{}", "times": 1 }));
    let space = space(&simulator, &rows(&[1]), GET);
    space.run(&[]).expect(0);
    assert!(space.rows("data/found.jsonl")[0]["title"].is_string());
    assert_eq!(simulator.total(), 2);
}

#[test]
fn a_diff_that_takes_too_long_to_make_is_rebuilt_and_a_page_is_no_diff() {
    let simulator = simulator();
    simulator.item(pull(PATCH));
    let path = "/github/repos/acme/engine-1/pulls/31";
    simulator.fault(json!({
        "path": path, "status": 200, "body": "<html>Sign in</html>", "times": 1,
        "headers": { "content-type": "text/html" },
    }));
    // Something in between answers first.
    let page = space(&simulator, &rows(&[31]), DIFF);
    page.run(&[]).expect(0);
    let row = &page.rows("data/found.jsonl")[0];
    assert_eq!((&row["from"], &row["diff"]), (&json!("diff"), &json!(PATCH)));
    // GitHub has no diff, and a list of files.
    let space = space(&simulator, &rows(&[31]), DIFF);
    simulator.fault(json!({
        "path": path, "status": 422, "times": 1,
        "body": r#"{"message": "Sorry, this diff is taking too long to generate.",
            "errors": [{"resource": "PullRequest", "field": "diff", "code": "not_available"}]}"#,
    }));
    space.run(&[]).expect(0);
    let row = &space.rows("data/found.jsonl")[0];
    assert_eq!((&row["from"], &row["complete"]), (&json!("files"), &json!(true)), "{row}");
    assert!(row["diff"].as_str().is_some_and(|diff| diff.contains("+more")), "{row}");
}

#[test]
fn an_issue_that_moved_with_its_number_takes_no_other_along() {
    let simulator = simulator();
    let title = |repo: &str, number: u64| {
        simulator.get(&format!("/github/repos/acme/{repo}/issues/{number}"))["title"].clone()
    };
    let wanted = [title("engine-1", 5), title("engine-1", 6)];
    let place = json!({ "repo": "acme/engine-2", "number": 5 });
    simulator.item(json!({ "repo": "acme/engine-1", "number": 5, "moved_to": place }));
    let space = space(&simulator, &rows(&[5, 6]), GET);
    space.edit("pipeline.toml", "attempts = 2", "attempts = 2\nconcurrency = 1");
    space.run(&[]).expect(0);
    let found = space.rows("data/found.jsonl");
    assert_eq!(found[0]["_outcome"]["status"], 301, "{}", found[0]);
    assert_eq!([&found[0]["title"], &found[1]["title"]], [&wanted[0], &wanted[1]]);
    assert!(found[1]["_outcome"].is_null(), "{}", found[1]);
}

#[test]
fn a_rename_is_seen_in_every_sort_of_row() {
    let lists =
        "[stages.found.lists]\ncomments = \"/repos/{{ repo }}/issues/{{ number }}/comments\"";
    for asks in [GET, DIFF, lists] {
        let simulator = simulator();
        simulator.item(pull(PATCH));
        simulator.post("/_renames", json!({ "from": "acme/engine-1", "to": "acme/new" }));
        let space = space(&simulator, &rows(&[31]), asks);
        space.run(&[]).expect(0);
        let row = &space.rows("data/found.jsonl")[0];
        assert_eq!(row["_outcome"]["status"], 301, "{asks}: {row}");
    }
}

#[test]
fn lists_that_are_read_in_parts_hold_each_element_once() {
    let simulator =
        Simulator::start(&["--repos", "1", "--items", "60", "--seed", "3", "--page-most", "12"]);
    // Halves of 25 are of 12, and begin one too early.
    let asks = "pick = '{numbers: [.all[].number]}'\n[stages.found.lists]\n\
                all = \"/repos/{{ repo }}/issues?state=all&per_page=25\"";
    let space = space(&simulator, &rows(&[1]), asks);
    space.run(&[]).expect(0);
    let row = &space.rows("data/found.jsonl")[0];
    let mut numbers: Vec<u64> = row["numbers"]
        .as_array()
        .expect("numbers")
        .iter()
        .map(|number| number.as_u64().expect("a number"))
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=60).collect::<Vec<u64>>());
}

#[test]
fn a_batch_that_github_could_not_answer_whole_leaves_no_row_without_a_word() {
    let simulator = simulator();
    let query =
        "query($id: ID!) { node(id: $id) { ... on Issue { state } ... on PullRequest { state } } }";
    let asks = "graphql = \"q.graphql\"\nbatch = 3\npick = '{state: .node.state}'";
    let list = simulator.get("/github/repos/acme/engine-1/issues?state=all&per_page=3");
    let ids = list.as_array().expect("issues").iter();
    let rows: String = ids
        .map(|issue| {
            format!(
                "[[tables.rows]]\nnumber = {}\nid = {}\nrepo = \"r\"\n",
                issue["number"], issue["node_id"]
            )
        })
        .collect();
    // One row has an error of its own, another is left out without one.
    let troubled = json!({
        "data": { "r0_node": { "state": "OPEN" }, "r1_node": null, "r2_node": null },
        "errors": [{ "message": "Something went wrong", "path": ["r1_node"] }],
    });
    let limited = json!({
        "data": { "r0_node": { "state": "OPEN" }, "r1_node": null, "r2_node": null },
        "errors": [{ "type": "RESOURCE_LIMITS_EXCEEDED", "message": "too much", "path": ["r1_node"] }],
    });
    for body in [troubled, limited] {
        let space = space(&simulator, &rows, asks);
        space.write("q.graphql", query);
        let path = "/github/graphql";
        simulator
            .fault(json!({ "path": path, "status": 200, "body": body.to_string(), "times": 1 }));
        space.run(&[]).expect(0);
        for row in space.rows("data/found.jsonl") {
            assert!(row["state"].is_string(), "{row}");
        }
    }
    // A part that may not be seen is marked, and the rest of the row stands.
    let space = space(&simulator, &rows, asks);
    space.write("q.graphql", query);
    let hidden = json!({
        "data": { "r0_node": { "state": "OPEN" }, "r1_node": { "state": null }, "r2_node": { "state": "OPEN" } },
        "errors": [{ "type": "FORBIDDEN", "message": "not yours", "path": ["r1_node", "state"] }],
    });
    simulator
        .fault(json!({ "path": "/github/graphql", "status": 200, "body": hidden.to_string() }));
    space.run(&[]).expect(0);
    let found = space.rows("data/found.jsonl");
    assert_eq!(found[1]["_outcome"]["status"], 403, "{}", found[1]);
    assert!(found[0]["_outcome"].is_null() && found[0]["state"] == "OPEN");
}

#[test]
fn a_quota_that_is_used_up_is_waited_for_until_it_is_full_again() {
    waits_for_the_quota("403");
    waits_for_the_quota("429");
}

fn waits_for_the_quota(status: &str) {
    // Four requests in five seconds, which nobody announces before the first answer.
    let limit = ["--github-limit", "4/5s", "--github-primary", status];
    let items = ["--repos", "1", "--items", "30", "--seed", "3"];
    let simulator = Simulator::start(&[&items[..], &limit].concat());
    // Others use up what there is.
    for _ in 0..4 {
        simulator.get("/github/repos/acme/engine-1");
    }
    let space = space(&simulator, &rows(&[1, 2]), GET);
    let began = std::time::Instant::now();
    let ran = space.run(&[]).expect(0);
    assert_eq!(ran.stage("found")["rows"], 2);
    assert!(began.elapsed() > Duration::from_millis(500), "{:?}", began.elapsed());
    let stats = simulator.get("/_stats");
    let refused = stats["refused"]["primary"].as_u64().expect("a number");
    assert!((1..=2).contains(&refused), "each is refused once at the most: {stats}");
    assert!(ran.stderr.contains("waiting"), "{}", ran.stderr);
}
