//! The `github` kind: every item once, whatever the pages; outcomes seen in their rows; batches
//! that are only a way of sending.

mod support;

use serde_json::{Value, json};
use support::{Simulator, TestSpace};

/// A manifest whose GitHub is the simulator, with one stage `items` and more.
fn space(simulator: &Simulator, more: &str) -> TestSpace {
    let mut space = TestSpace::new();
    let repos = simulator.get("/_repos");
    let rows: String = repos
        .as_array()
        .expect("repositories")
        .iter()
        .map(|repo| format!("[[tables.repos]]\nrepo = {repo}\n"))
        .collect();
    space.write(
        "pipeline.toml",
        format!(
            r#"
[pipeline]
name = "test"
[github]
base_url = "{}/github"
{rows}
[stages.items]
kind = "github"
inputs = ["repos"]
list = "/repos/{{{{ repo }}}}/issues?state=all&sort=created&direction=asc&per_page=100"
pick = '{{id: .node_id, number, title, body, is_pr: has("pull_request")}}'
key = ["id"]
keep = ["repo"]
outputs = ["data/items.json"]
{more}
"#,
            simulator.address
        ),
    );
    space.env("NO_COLOR", "1");
    space
}

#[test]
fn every_item_is_there_once_however_many_pages() {
    let simulator = Simulator::start(&["--repos", "2", "--items", "250", "--seed", "7"]);
    let space = space(&simulator, "");
    let ran = space.run(&[]).expect(0);
    assert_eq!(ran.stage("items")["rows"], 500);
    assert_eq!(ran.stage("items")["calls"], 6, "three pages of each repository");
    let rows = space.rows("data/items.json");
    let mut ids: Vec<&str> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 500);
    let numbers: Vec<u64> =
        rows.iter().take(250).map(|row| row["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=250).collect::<Vec<_>>(), "in the order of the list");

    let again = space.run(&[]).expect(0);
    assert_eq!(again.states(), ["items up_to_date"]);
    assert_eq!(again.json()["calls"], 0);
    assert_eq!(simulator.total(), 6);
}

#[test]
fn a_renamed_repository_keeps_its_items() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("items.jsonl");
    let item = json!({"repo": "new/name", "number": 5, "title": "It crashes", "body": "b"});
    let rename = json!({"rename": {"from": "old/name", "to": "new/name"}});
    std::fs::write(&data, format!("{item}\n{rename}\n")).unwrap();
    let simulator = Simulator::start(&["--data", data.to_str().unwrap()]);
    let renamed = space(&simulator, "");
    renamed.run(&[]).expect(0);
    let now = renamed.rows("data/items.json")[0]["id"].clone();
    renamed.edit("pipeline.toml", "repo = \"new/name\"", "repo = \"old/name\"");
    let ran = renamed.run(&[]).expect(0);
    assert_eq!(ran.stage("items")["rows"], 1);
    assert_eq!(renamed.rows("data/items.json")[0]["id"], now);
}

const STATUS: &str = r#"
[stages.status]
kind = "github"
inputs = ["items"]
where = "is_pr"
graphql = "q.graphql"
batch = 10
pick = ".node | {state, mergedAt}"
keep = ["number"]
outputs = ["data/status.json"]
"#;
const QUERY: &str = "query($id: ID!) { node(id: $id) { ... on PullRequest { state mergedAt } } }";

#[test]
fn a_batch_is_only_a_way_of_sending() {
    let simulator = Simulator::start(&["--repos", "1", "--items", "90", "--seed", "3"]);
    let space = space(&simulator, STATUS);
    space.write("q.graphql", QUERY);
    let ran = space.run(&[]).expect(0);
    let pulls = space.rows("data/items.json").iter().filter(|row| row["is_pr"] == true).count();
    let rows = space.rows("data/status.json");
    assert_eq!(rows.len(), pulls);
    assert!(rows.iter().all(|row| row["state"].is_string()));
    assert_eq!(ran.stage("status")["calls"], pulls.div_ceil(10));
    // Another batch size changes nothing that a row's result depends on.
    space.edit("pipeline.toml", "batch = 10", "batch = 7");
    assert_eq!(space.run(&[]).expect(0).states(), ["items up_to_date", "status up_to_date"]);
    // Another `pick` is answered by what each row was told, whatever batch it came in.
    space.edit("pipeline.toml", ".node | {state, mergedAt}", ".node | {mergedAt}");
    let ran = space.run(&[]).expect(0);
    assert_eq!(ran.stage("status")["calls"], 0);
    assert_eq!(ran.stage("status")["calls_cached"], pulls);
    let alone: Vec<Value> = space.rows("data/status.json");
    assert!(alone.iter().zip(&rows).all(|(now, then)| now["mergedAt"] == then["mergedAt"]));
}

#[test]
fn what_is_not_there_is_an_outcome_in_its_row() {
    let simulator = Simulator::start(&["--repos", "1", "--items", "3", "--seed", "3"]);
    let space = space(
        &simulator,
        r#"
[[tables.wanted]]
repo = "acme/engine-1"
number = 2
[[tables.wanted]]
repo = "acme/engine-1"
number = 999
[stages.one]
kind = "github"
inputs = ["wanted"]
get = "/repos/{{ repo }}/issues/{{ number }}"
pick = "{title}"
outputs = ["data/one.json"]
"#,
    );
    let repo = simulator.get("/_repos")[0].as_str().unwrap().to_owned();
    space.edit("pipeline.toml", "acme/engine-1\"\nnumber", &format!("{repo}\"\nnumber"));
    let ran = space.run(&[]).expect(0);
    assert_eq!(ran.stage("one")["state"], "ran", "an outcome leaves the stage complete");
    let rows = space.rows("data/one.json");
    assert!(rows[0]["title"].is_string());
    assert_eq!(rows[1]["_outcome"]["status"], 404);
    let asked = simulator.total();
    std::fs::remove_dir_all(space.path().join("data")).unwrap();
    space.run(&[]).expect(0);
    assert_eq!(simulator.total(), asked, "a final answer is never asked for again");
}

#[test]
fn a_diff_that_is_too_large_is_rebuilt_from_its_files() {
    let simulator = Simulator::sample();
    let space = space(
        &simulator,
        r#"
[stages.diffs]
kind = "github"
inputs = ["items"]
where = "is_pr"
diff = "/repos/{{ repo }}/pulls/{{ number }}"
keep = ["number"]
outputs = ["data/diffs.json"]
"#,
    );
    space.run(&[]).expect(0);
    let rows = space.rows("data/diffs.json");
    let rebuilt: Vec<&Value> = rows.iter().filter(|row| row["from"] == "files").collect();
    assert_eq!(rebuilt.len(), 2, "the sample has two such pull requests");
    for row in rebuilt {
        let diff = row["diff"].as_str().unwrap();
        assert!(diff.starts_with("diff --git a/") && diff.contains("\n+++ b/"), "{diff}");
        assert_eq!(row["complete"], true);
        assert!(!row["files"].as_array().unwrap().is_empty());
    }
}

#[test]
fn what_fails_in_passing_is_tried_again() {
    let simulator = Simulator::start(&["--repos", "1", "--items", "30", "--seed", "3"]);
    let space = space(&simulator, "");
    simulator.fault(json!({"path": "/github", "status": 502, "times": 1}));
    space.run(&[]).expect(0);
    assert_eq!(simulator.get("/_stats")["by_status"], json!({"200": 1, "502": 1}));
}

#[test]
fn a_cut_body_is_no_answer() {
    let simulator = Simulator::start(&["--repos", "1", "--items", "30", "--seed", "3"]);
    let space = space(&simulator, "");
    simulator.fault(json!({"path": "/github", "cut": true, "times": 2}));
    let ran = space.run(&[]).expect(0);
    assert_eq!(ran.stage("items")["rows"], 30);
    assert_eq!(ran.stage("items")["calls"], 3);
}

#[test]
fn a_denial_stops_the_stage_with_its_reason() {
    let simulator = Simulator::start(&["--repos", "1", "--items", "3", "--seed", "3"]);
    let space = space(&simulator, STATUS);
    space.write("q.graphql", QUERY);
    let body = r#"{"message": "Bad credentials"}"#;
    simulator.fault(json!({"path": "/github", "status": 401, "body": body}));
    let ran = space.run(&[]).expect(1);
    assert_eq!(ran.states(), ["items failed", "status skipped"]);
    let reason = ran.stage("items")["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("401") && reason.contains("Bad credentials"), "{reason}");
    assert_eq!(simulator.total(), 1, "a denial is not asked about again");
    simulator.heal();
    space.run(&[]).expect(0);
}

/// Errors as GitHub's GraphQL gives them, with status 200.
#[test]
fn graphql_failures_in_passing_are_asked_again() {
    for error in [
        r#"{"data": null, "errors": [{"message": "Something went wrong while executing your query."}]}"#,
        r#"{"errors": [{"type": "RATE_LIMIT", "code": "graphql_rate_limit", "message": "exceeded"}]}"#,
        r#"{"errors": [{"type": "RATE_LIMITED", "message": "API rate limit exceeded"}]}"#,
    ] {
        let simulator = Simulator::start(&["--repos", "1", "--items", "12", "--seed", "3"]);
        let space = space(&simulator, STATUS);
        space.write("q.graphql", QUERY);
        let headers = json!({"retry-after": "1"});
        let order = json!({"path": "/github/graphql", "status": 200, "body": error,
            "headers": headers, "times": 1});
        simulator.fault(order);
        let ran = space.run(&[]).expect(0);
        assert_eq!(ran.stage("status")["calls"], 2, "{error}");
        assert!(space.rows("data/status.json").iter().all(|row| row["state"].is_string()));
    }
}

#[test]
fn a_query_that_github_will_not_have_stops_the_stage() {
    let simulator = Simulator::start(&["--repos", "1", "--items", "12", "--seed", "3"]);
    let space = space(&simulator, STATUS);
    let query = "query($id: ID!) { node(id: $id) { ... on PullRequest { sate mergedAt } } }";
    space.write("q.graphql", query);
    let ran = space.run(&[]).expect(1);
    let reason = ran.stage("status")["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("'sate' doesn't exist"), "{reason}");
    assert_eq!(ran.stage("status")["calls"], 1);
}

#[test]
fn the_same_question_in_a_batch_is_asked_once() {
    let simulator = Simulator::start(&["--repos", "1", "--items", "3", "--seed", "3"]);
    let more = r#"
[stages.twice]
kind = "sql"
inputs = ["items"]
query = "SELECT i.id, i.number, n.value AS place FROM items i, json_each('[1,2,3]') n WHERE number = 3"
key = ["place"]
[stages.status]
kind = "github"
inputs = ["twice"]
graphql = "q.graphql"
batch = 10
pick = ".node | {title}"
outputs = ["data/status.json"]
"#;
    let space = space(&simulator, more);
    space.write(
        "q.graphql",
        "query($id: ID!) { node(id: $id) { ... on Issue { title } ... on PullRequest { title } } }",
    );
    space.run(&[]).expect(0);
    let rows = space.rows("data/status.json");
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().all(|row| row["title"].is_string() && row["title"] == rows[0]["title"]));
    space.flow(&["cassette", "calls.jsonl"]).expect(0);
    let asked = space.rows("calls.jsonl").iter().filter(|call| call["method"] == "POST").count();
    assert_eq!(asked, 1);
}

#[test]
fn what_is_not_found_is_asked_again_with_another_token() {
    let simulator = Simulator::start(&["--repos", "1", "--items", "3", "--seed", "3"]);
    let more = r#"
[[tables.wanted]]
repo = "acme/nothing"
number = 7
id = "I_none"
[stages.one]
kind = "github"
inputs = ["wanted"]
get = "/repos/{{ repo }}/issues/{{ number }}"
pick = "{title}"
outputs = ["data/one.json"]
[stages.two]
kind = "github"
inputs = ["wanted"]
graphql = "q.graphql"
pick = ".node | {title}"
outputs = ["data/two.json"]
"#;
    let mut space = space(&simulator, more);
    space.edit("pipeline.toml", "[github]", "[github]\ntoken = { env = \"TEST_TOKEN\" }");
    space.write("q.graphql", "query($id: ID!) { node(id: $id) { ... on Issue { title } } }");
    space.env("TEST_TOKEN", "one");
    space.run(&[]).expect(0);
    assert_eq!(space.rows("data/one.json")[0]["_outcome"]["status"], 404);
    assert_eq!(space.rows("data/two.json")[0]["_outcome"]["status"], 404);
    let again = space.run(&[]).expect(0);
    assert_eq!(again.states(), ["items up_to_date", "one up_to_date", "two up_to_date"]);
    space.env("TEST_TOKEN", "two");
    let other = space.run(&[]).expect(0);
    assert_eq!(other.stage("items")["calls"], 0, "what was found is found");
    assert_eq!(
        (&other.stage("one")["calls"], &other.stage("two")["calls"]),
        (&json!(1), &json!(1))
    );
    // Nobody is asked offline, so it does not matter who would be.
    space.env("TEST_TOKEN", "three");
    let offline = space.run(&["--offline"]).expect(0);
    assert_eq!(offline.states(), ["items up_to_date", "one up_to_date", "two up_to_date"]);
}

#[test]
fn a_quota_is_kept_to() {
    let limit = ["--github-limit", "4", "--github-window", "2"];
    let simulator = Simulator::start(
        &[&["--repos", "2", "--items", "250", "--seed", "7"][..], &limit].concat(),
    );
    let space = space(&simulator, "");
    let ran = space.run(&[]).expect(0);
    assert_eq!(ran.stage("items")["rows"], 500);
    assert_eq!(simulator.get("/_stats")["by_status"], json!({ "200": 6 }), "none was refused");
}
