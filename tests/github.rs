//! GitHub's hard sides: lists that end early, that move while they are read, that hold less than they
//! should; what has moved or is gone; limits. Rows and requests are counted.

mod support;

use std::collections::HashSet;

use serde_json::{Value, json};
use support::{Ran, Simulator, TestSpace};

const SORTED: &str = "state=all&sort=created&direction=asc&per_page=100";

/// A study of all repositories that the simulator has, with one list `items`.
fn space(simulator: &Simulator, query: &str, more: &str) -> TestSpace {
    let mut space = TestSpace::new();
    let repos = simulator.get("/_repos");
    let repos = repos.as_array().expect("repositories").iter();
    let rows: String = repos.map(|repo| format!("[[tables.repos]]\nrepo = {repo}\n")).collect();
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
{rows}
[stages.items]
kind = "github"
inputs = ["repos"]
list = "/repos/{{{{ repo }}}}/issues?{query}"
pick = '{{id: .node_id, number, title, is_pr: has("pull_request")}}'
key = ["id"]
keep = ["repo"]
outputs = ["data/items.jsonl"]
{more}
"#
        ),
    );
    space.env("NO_COLOR", "1");
    space
}

/// The numbers of the rows, sorted, with their repository.
fn numbers(space: &TestSpace) -> Vec<(String, u64)> {
    let rows = space.rows("data/items.jsonl");
    let text = |row: &Value| row["repo"].as_str().expect("a repository").to_owned();
    let mut numbers: Vec<(String, u64)> =
        rows.iter().map(|row| (text(row), row["number"].as_u64().expect("a number"))).collect();
    numbers.sort();
    numbers
}

#[track_caller]
fn holds_each_once(space: &TestSpace, repos: &[&str], items: u64) {
    let mut all: Vec<(String, u64)> = Vec::new();
    for repo in repos {
        all.extend((1..=items).map(|number| ((*repo).to_owned(), number)));
    }
    all.sort();
    assert_eq!(numbers(space), all);
}

/// Everything is recorded: the same list, picked otherwise, asks nobody.
#[track_caller]
fn asks_nobody_for_another_pick(space: &TestSpace, simulator: &Simulator) -> Ran {
    simulator.reset();
    space.edit("pipeline.toml", "{id: .node_id, number,", "{id: .node_id, state, number,");
    let ran = space.run(&[]).expect(0);
    assert_eq!((ran.stage("items")["calls"].as_u64(), simulator.total()), (Some(0), 0));
    ran
}

fn statuses(simulator: &Simulator) -> Value {
    simulator.get("/_stats")["by_status"].clone()
}

#[test]
fn cursors_lead_past_the_wall_of_page_numbers() {
    let simulator =
        Simulator::start(&["--repos", "1", "--items", "950", "--seed", "3", "--list-wall", "300"]);
    let space = space(&simulator, SORTED, "");
    space.run(&[]).expect(0);
    holds_each_once(&space, &["acme/engine-1"], 950);
    assert_eq!(statuses(&simulator), json!({ "200": 10 }), "ten pages and no detour");
    asks_nobody_for_another_pick(&space, &simulator);
}

#[test]
fn a_list_whose_page_numbers_end_goes_on_by_time() {
    let wall = ["--list-wall", "300", "--wall-links", "page"];
    let simulator =
        Simulator::start(&[&["--repos", "1", "--items", "950", "--seed", "3"][..], &wall].concat());
    let space = space(&simulator, SORTED, "");
    space.run(&[]).expect(0);
    holds_each_once(&space, &["acme/engine-1"], 950);
    // Three pages, the wall, and windows of at most a hundred with one row in common.
    assert_eq!(statuses(&simulator), json!({ "200": 13, "422": 1 }));
    asks_nobody_for_another_pick(&space, &simulator);
}

#[test]
fn a_list_that_ends_at_the_wall_and_cannot_go_on_is_not_taken_for_the_whole() {
    let wall = ["--list-wall", "300", "--wall-links", "page"];
    let simulator = Simulator::start(
        &[&["--repos", "1", "--items", "1950", "--seed", "3"][..], &wall].concat(),
    );
    let space = space(&simulator, SORTED, "");
    space.edit("pipeline.toml", "/issues?", "/pulls?");
    let ran = space.run(&[]).expect(1);
    let reason = ran.stage("items")["reason"].to_string();
    assert!(reason.contains("ends after 300 elements"), "{reason}");
}

#[test]
fn what_moves_while_a_list_is_read_is_there_once() {
    for query in [
        SORTED,
        "state=all&sort=updated&direction=asc&per_page=50",
        "state=all&sort=created&direction=desc&per_page=50",
    ] {
        let simulator = Simulator::start(&["--repos", "1", "--items", "400", "--seed", "5"]);
        let space = space(&simulator, query, "");
        // While pages are read, the issues of the first pages are touched, and one is new.
        let issue = |number: &u64| {
            let item = simulator.get(&format!("/github/repos/acme/engine-1/issues/{number}"));
            item["pull_request"].is_null()
        };
        let touched = (1..=30).filter(issue).map(|number| {
            json!({
                "repo": "acme/engine-1", "number": number, "title": "touched", "body": "again",
                "created_at": "2023-01-02T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
            })
        });
        let new = json!({
            "repo": "acme/engine-1", "number": 401, "title": "new", "body": "new",
            "created_at": "2026-01-02T00:00:00Z", "updated_at": "2026-01-02T00:00:00Z",
        });
        let items: Vec<Value> = touched.chain([new]).collect();
        let path = "/github/repos/acme/engine-1/issues";
        simulator.post("/_later", json!({ "path": path, "after": 2, "items": items }));
        space.run(&[]).expect(0);
        let found: HashSet<u64> = numbers(&space).into_iter().map(|(_, number)| number).collect();
        let rows = space.rows("data/items.jsonl").len();
        assert_eq!(found.len(), rows, "{query}: each once");
        assert!((1..=400).all(|number| found.contains(&number)), "{query}: all that was there");
    }
}

#[test]
fn a_list_with_fewer_elements_than_github_counts_fails_with_numbers() {
    let simulator = Simulator::start(&["--repos", "1", "--items", "250", "--seed", "3"]);
    let mut space = space(&simulator, SORTED, "");
    space.env("TEST_TOKEN", "a token");
    let full = space.run(&[]).expect(0);
    assert_eq!(full.stage("items")["calls"], 4, "three pages, and how many there are");

    // One is deleted while the list is read: the page after it begins one too late.
    let short = self::space(&simulator, SORTED, "");
    let mut short = short;
    short.env("TEST_TOKEN", "a token");
    let path = "/github/repos/acme/engine-1/issues";
    let gone = json!({ "repo": "acme/engine-1", "number": 7, "gone": 410 });
    simulator.post("/_later", json!({ "path": path, "after": 1, "items": [gone] }));
    let ran = short.run(&[]).expect(1);
    let reason = ran.stage("items")["reason"].to_string();
    assert!(reason.contains("249 of 250"), "{reason}");
    assert_eq!(ran.stage("items")["state"], "incomplete");
    // Asked again, it is whole: there are 249 now.
    let again = short.run(&["--retry-failed"]).expect(0);
    assert_eq!(again.stage("items")["rows"], 249);
}

fn search(simulator: &Simulator) -> TestSpace {
    let space = space(simulator, SORTED, "");
    let list = format!("list = \"/repos/{{{{ repo }}}}/issues?{SORTED}\"");
    let search = "list = \"/search/issues?q=repo:{{ repo }}&per_page=100\"";
    space.edit("pipeline.toml", &list, search);
    space
}

#[test]
fn a_search_with_more_than_a_thousand_results_is_split() {
    let simulator = Simulator::start(&["--repos", "1", "--items", "2600", "--seed", "3"]);
    let space = search(&simulator);
    let ran = space.run(&[]).expect(0);
    holds_each_once(&space, &["acme/engine-1"], 2600);
    let calls = ran.stage("items")["calls"].as_u64().expect("calls");
    assert!(calls <= 26 + 24, "{calls} requests where 26 are the least");
    asks_nobody_for_another_pick(&space, &simulator);
}

#[test]
fn a_search_that_github_gave_up_is_no_answer() {
    let simulator = Simulator::start(&["--repos", "1", "--items", "150", "--seed", "3"]);
    simulator.fault(json!({ "path": "/github/search", "incomplete": true, "times": 2 }));
    let space = search(&simulator);
    let ran = space.run(&[]).expect(0);
    holds_each_once(&space, &["acme/engine-1"], 150);
    assert_eq!(ran.stage("items")["calls"], 4, "two pages, two that were given up");
}

#[test]
fn a_rename_is_followed_once_and_remembered() {
    let simulator = Simulator::start(&["--repos", "1", "--items", "450", "--seed", "3"]);
    let more = r#"
[stages.comments]
kind = "github"
inputs = ["items"]
where = "number <= 20"
get = "/repos/{{ repo }}/issues/{{ number }}"
pick = '{title, place: .repository_url}'
outputs = ["data/one.jsonl"]
"#;
    let space = space(&simulator, SORTED, more);
    simulator.post("/_renames", json!({ "from": "acme/engine-1", "to": "acme/new-name" }));
    let ran = space.run(&[]).expect(0);
    holds_each_once(&space, &["acme/engine-1"], 450);
    assert!(ran.stderr.contains("is now"), "{}", ran.stderr);
    assert_eq!(statuses(&simulator), json!({ "200": 25, "301": 1 }));
    let row = &space.rows("data/one.jsonl")[0];
    assert!(row["place"].as_str().expect("an address").ends_with("/acme/new-name"), "{row}");
    assert_eq!(row["_outcome"]["reason"], "moved");
}

const PARTS: &str = r#"
[stages.talk]
kind = "github"
inputs = ["items"]
where = "number <= 8"
pick = '{comments: (.comments | length), events: (.timeline | length)}'
outputs = ["data/talk.jsonl"]
[stages.talk.lists]
comments = "/repos/{{ repo }}/issues/{{ number }}/comments?per_page=100"
timeline = "/repos/{{ repo }}/issues/{{ number }}/timeline?per_page=100"
"#;

#[test]
fn what_was_transferred_is_asked_at_its_new_place_and_what_is_gone_is_told() {
    let simulator = Simulator::start(&["--repos", "2", "--items", "30", "--seed", "3"]);
    let mut space = space(&simulator, SORTED, PARTS);
    space.env("TEST_TOKEN", "a token");
    space.edit("pipeline.toml", "[[tables.repos]]\nrepo = \"acme/engine-2\"\n", "");
    let all = space.run(&["items"]).expect(0);
    assert_eq!(all.stage("items")["rows"], 30);
    let before = simulator.get("/github/repos/acme/engine-1/issues/5/timeline?per_page=100");
    let place = json!({ "repo": "acme/engine-2", "number": 77 });
    simulator.item(json!({ "repo": "acme/engine-1", "number": 5, "moved_to": place }));
    simulator.item(json!({ "repo": "acme/engine-1", "number": 6, "gone": 410 }));
    simulator.item(json!({ "repo": "acme/engine-1", "number": 7, "gone": 451 }));
    simulator.item(json!({ "repo": "acme/engine-1", "number": 8, "gone": 404 }));
    space.run(&[]).expect(0);
    let rows = space.rows("data/talk.jsonl");
    let of = |number: usize| &rows[number - 1];
    assert!(of(4)["_outcome"].is_null(), "{}", of(4));
    assert_eq!(of(5)["_outcome"]["status"], 301, "{}", of(5));
    let to = of(5)["_outcome"]["to"].as_str().expect("an address");
    assert!(to.contains("/acme/engine-2/issues/77/"), "{to}");
    let events = before.as_array().expect("events").len();
    assert_eq!(of(5)["events"], events);
    let status = |number: usize| of(number)["_outcome"]["status"].clone();
    assert_eq!([status(6), status(7), status(8)], [json!(410), json!(451), json!(404)]);
    // Never asked again.
    simulator.reset();
    space.edit("pipeline.toml", "{comments: (", "{more: 1, comments: (");
    space.run(&[]).expect(0);
    assert_eq!(simulator.total(), 0);
}

const STATUS: &str = r#"
[stages.status]
kind = "github"
inputs = ["items"]
graphql = "q.graphql"
batch = 40
pick = '{state: .node.state}'
outputs = ["data/status.jsonl"]
"#;
const QUERY: &str =
    "query($id: ID!) { node(id: $id) { ... on Issue { state } ... on PullRequest { state } } }";

#[test]
fn batches_and_pages_that_take_too_long_are_halved_and_that_is_remembered() {
    let most = ["--batch-most", "12", "--page-most", "50"];
    let simulator =
        Simulator::start(&[&["--repos", "1", "--items", "400", "--seed", "3"][..], &most].concat());
    let mut space = space(&simulator, SORTED, STATUS);
    space.edit("pipeline.toml", "key = [\"id\"]", "key = [\"id\"]\ncheck_total = false");
    space.edit("pipeline.toml", "[github]", "[github]\nconcurrency = 1");
    space.write("q.graphql", QUERY);
    space.env("TEST_TOKEN", "a token");
    let ran = space.run(&[]).expect(0);
    assert_eq!(
        (&ran.stage("items")["rows"], &ran.stage("status")["rows"]),
        (&json!(400), &json!(400))
    );
    // A page of a hundred is tried twice, then all are of fifty.
    assert_eq!(ran.stage("items")["calls"], 2 + 8);
    // Batches of forty and of twenty are tried twice each, then ten at a time: forty batches.
    let calls = ran.stage("status")["calls"].as_u64().expect("calls");
    assert!((40..=48).contains(&calls), "{calls} requests for forty batches of ten");
    asks_nobody_for_another_pick(&space, &simulator);
}

#[test]
fn no_request_is_refused_by_a_quota_that_is_announced() {
    let limit = ["--github-limit", "15/4s"];
    let simulator = Simulator::start(
        &[&["--repos", "2", "--items", "300", "--seed", "3"][..], &limit].concat(),
    );
    let mut space = space(&simulator, SORTED, STATUS);
    space.edit("pipeline.toml", "batch = 40", "batch = 25");
    space.write("q.graphql", QUERY);
    space.env("TEST_TOKEN", "a token");
    let ran = space.run(&[]).expect(0);
    assert_eq!(ran.stage("status")["rows"], 600);
    let stats = simulator.get("/_stats");
    assert_eq!(stats["refused"], json!({ "primary": 0, "secondary": 0 }), "{stats}");
}

#[test]
fn a_secondary_limit_is_waited_for_as_long_as_it_says() {
    for status in ["403", "429"] {
        let limit = ["--github-points", "20/2s", "--github-secondary", status];
        let simulator = Simulator::start(
            &[&["--repos", "1", "--items", "40", "--seed", "3"][..], &limit].concat(),
        );
        let more = STATUS.replace("batch = 40", "batch = 1");
        let mut space = space(&simulator, SORTED, &more);
        space.write("q.graphql", QUERY);
        space.env("TEST_TOKEN", "a token");
        let ran = space.run(&[]).expect(0);
        assert_eq!(ran.stage("status")["rows"], 40);
        let stats = simulator.get("/_stats");
        assert!(stats["refused"]["secondary"].as_u64() > Some(0), "{stats}");
        // All that was asked and refused was asked once more, and nothing else.
        let refused = stats["refused"]["secondary"].as_u64().expect("a number");
        let least = 2 + 40;
        assert!((least..=least + refused).contains(&stats["total"].as_u64().unwrap()), "{stats}");
        let waits = ran.stderr.matches("waiting").count();
        assert!(waits > 0 && ran.stderr.contains("secondary rate limit"), "{}", ran.stderr);
        assert!(ran.stderr.contains(", until "), "when it is over: {}", ran.stderr);
    }
}

const DIFFS: &str = r#"
[stages.diffs]
kind = "github"
inputs = ["items"]
where = "number == 31"
diff = "/repos/{{ repo }}/pulls/{{ number }}"
outputs = ["data/diffs.jsonl"]
"#;

/// A pull request with so many files, each of so many added lines.
fn large(files: usize, lines: usize) -> Value {
    let file = |at: usize| {
        let added: String = (0..lines).map(|line| format!("+line {line} of {at}\n")).collect();
        format!(
            "diff --git a/f{at}.c b/f{at}.c\n--- a/f{at}.c\n+++ b/f{at}.c\n@@ -1,0 +1,{lines} @@\n{added}"
        )
    };
    let diff: String = (0..files).map(file).collect();
    json!({
        "repo": "acme/engine-1", "number": 31, "kind": "pull", "title": "large", "diff": diff,
        "merged_at": "2025-01-01T00:00:00Z", "diff_too_large": true,
    })
}

#[test]
fn a_diff_whose_patches_are_left_out_of_large_pages_is_read_in_small_ones() {
    let simulator = Simulator::start(&["--repos", "1", "--items", "30", "--seed", "3"]);
    simulator.item(large(40, 1500));
    let space = space(&simulator, SORTED, DIFFS);
    space.run(&[]).expect(0);
    let row = &space.rows("data/diffs.jsonl")[0];
    assert_eq!((&row["complete"], &row["from"]), (&json!(true), &json!("files")));
    assert_eq!(row["diff"].as_str().expect("a diff").matches("\n+line").count(), 40 * 1500);
}

#[test]
fn what_stays_incomplete_is_marked_at_its_file() {
    let simulator = Simulator::start(&["--repos", "1", "--items", "30", "--seed", "3"]);
    // The second is so large that GitHub gives no patch of it, even by itself.
    let mut item = large(1, 13_000);
    let diff = item["diff"].as_str().expect("a diff").to_owned();
    let other = large(1, 20_001)["diff"].as_str().expect("a diff").replace("f0.c", "g0.c");
    item["diff"] = json!(diff + &other);
    simulator.item(item);
    let space = space(&simulator, SORTED, DIFFS);
    space.run(&[]).expect(0);
    let row = &space.rows("data/diffs.jsonl")[0];
    assert_eq!(row["files"].as_array().expect("files").len(), 2);
    let complete = row["files"].as_array().expect("files").iter();
    let complete: Vec<bool> =
        complete.map(|file| file["complete"].as_bool().expect("known")).collect();
    assert_eq!(complete, [true, false]);
    assert_eq!(row["complete"], false);
}

#[test]
fn bodies_that_drip_are_waited_for_and_late_ones_given_up() {
    let simulator = Simulator::start(&["--repos", "1", "--items", "120", "--seed", "3"]);
    simulator.fault(json!({ "path": "/github/repos", "drip_ms": 1, "times": 1 }));
    simulator.fault(json!({ "path": "/github/repos", "delay_ms": 5000, "times": 1 }));
    let space = space(&simulator, SORTED, "");
    space.edit("pipeline.toml", "[github]", "[github]\ntimeout = 2");
    space.run(&[]).expect(0);
    holds_each_once(&space, &["acme/engine-1"], 120);
}

#[test]
fn an_enterprise_server_has_its_graphql_beside_its_rest() {
    let simulator = Simulator::start(&["--repos", "1", "--items", "10", "--seed", "3"]);
    let mut space = space(&simulator, SORTED, STATUS);
    space.edit("pipeline.toml", "/github\"", "/api/v3\"\nattempts = 1");
    space.write("q.graphql", QUERY);
    space.env("TEST_TOKEN", "a token");
    // `/api/v3/graphql` is nowhere.
    let ran = space.run(&[]).expect(0);
    assert_eq!(ran.stage("status")["rows"], 10);
    assert_eq!(statuses(&simulator), json!({ "200": 3 }), "a page, how many there are, a batch");
}

#[test]
fn what_github_will_add_tomorrow_breaks_nothing() {
    let simulator =
        Simulator::start(&["--repos", "1", "--items", "60", "--seed", "3", "--strange"]);
    let mut space = space(&simulator, SORTED, PARTS);
    let status = STATUS.replace("'{state: .node.state}'", "'{state: .node.state, more: .node}'");
    let text = space.read("pipeline.toml");
    space.write("pipeline.toml", text + &status);
    space.write("q.graphql", QUERY);
    space.env("TEST_TOKEN", "a token");
    space.run(&[]).expect(0);
    holds_each_once(&space, &["acme/engine-1"], 60);
    let talk = space.rows("data/talk.jsonl");
    assert!(talk.iter().all(|row| row["events"].as_u64() > Some(0)), "the strange event at least");
}

/// Six repositories, fifty thousand items, limits of both sorts, and every fiftieth request failing in
/// one of five ways.
#[test]
fn fifty_thousand_items_are_collected_each_once_within_every_limit() {
    let items: u64 = 8_400;
    let each = items.to_string();
    let limits =
        ["--github-limit", "300/4s", "--github-points", "6000/m", "--github-concurrent", "8"];
    let simulator = Simulator::start(
        &[&["--repos", "6", "--items", &each, "--seed", "9"][..], &limits].concat(),
    );
    let share = 0.02 / 5.0;
    for fault in [
        json!({ "status": 500 }),
        json!({ "status": 502 }),
        json!({ "cut": true }),
        json!({ "status": 503, "headers": { "retry-after": "1" } }),
        json!({ "status": 200, "body": "<html>Unicorn!</html>" }),
    ] {
        let mut fault = fault;
        fault["path"] = json!("/github/");
        fault["share"] = json!(share);
        simulator.fault(fault);
    }
    let mut space = space(&simulator, SORTED, "");
    space.env("TEST_TOKEN", "a token");
    let ran = space.run(&[]).expect(0);
    assert_eq!(ran.stage("items")["rows"], 6 * items);
    let rows = space.rows("data/items.jsonl");
    let ids: HashSet<&str> = rows.iter().map(|row| row["id"].as_str().expect("an id")).collect();
    assert_eq!(ids.len() as u64, 6 * items, "each once");
    let stats = simulator.get("/_stats");
    assert_eq!(stats["refused"], json!({ "primary": 0, "secondary": 0 }), "{stats}");
    // The pages and the totals, and what failed once more.
    let least = 6 * (items / 100 + 1);
    let asked = stats["total"].as_u64().expect("a number");
    assert!(
        asked > least && asked < least * 11 / 10,
        "{asked} requests where {least} are the least"
    );
    let again = space.run(&[]).expect(0);
    assert_eq!(again.json()["calls"], 0);
}
