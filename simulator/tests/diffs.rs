//! Large diffs: refused as text, and listed with GitHub's known fault.

mod common;
use common::Simulator;
use serde_json::{Value, json};

const PULL: &str = "/github/repos/o/n/pulls/1";

/// A pull request that adds `lines` to each of `files`.
fn pull(simulator: &Simulator, files: usize, lines: usize) {
    let file = |nth: usize| {
        let added = "+x\n".repeat(lines);
        format!(
            "diff --git a/f{nth} b/f{nth}\n--- a/f{nth}\n+++ b/f{nth}\n@@ -0,0 +1,{lines} @@\n{added}"
        )
    };
    let diff: String = (0..files).map(file).collect();
    let item = json!({"repo": "o/n", "number": 1, "kind": "pull", "title": "t", "diff": diff});
    assert_eq!(simulator.post("/_items", &item.to_string()).status, 200);
}

fn diff(simulator: &Simulator) -> (u16, String) {
    let accept = [("accept", "application/vnd.github.diff")];
    let reply = simulator.send("GET", PULL, &accept, "");
    (reply.status, reply.body)
}

/// Additions, and whether there is a patch, of each file on a page.
fn files(simulator: &Simulator, query: &str) -> Vec<(u64, bool)> {
    let page = simulator.get(&format!("{PULL}/files?{query}")).json();
    let told = |file: &Value| {
        assert_eq!(file["changes"], file["additions"]);
        (file["additions"].as_u64().expect("a number"), file.get("patch").is_some())
    };
    page.as_array().expect("files").iter().map(told).collect()
}

#[test]
fn after_so_many_lines_files_come_empty_and_smaller_pages_are_whole() {
    let simulator = Simulator::start(&["--patch-lines", "30"]);
    pull(&simulator, 5, 9);
    let counts = simulator.get(PULL).json();
    assert_eq!((&counts["changed_files"], &counts["additions"]), (&json!(5), &json!(45)));
    let (whole, empty) = ((9, true), (0, false));
    assert_eq!(files(&simulator, ""), [whole, whole, whole, empty, empty]);
    assert_eq!(files(&simulator, "per_page=2&page=2"), [whole, whole]);
    assert_eq!(files(&simulator, "per_page=3&page=2"), [whole, whole]);
}

#[test]
fn the_fault_is_there_without_being_ordered() {
    let simulator = Simulator::start(&[]);
    pull(&simulator, 5, 7000);
    let told: Vec<u64> = files(&simulator, "").iter().map(|(added, _)| *added).collect();
    assert_eq!(told, [7000, 7000, 7000, 0, 0]);
}

#[test]
fn a_diff_that_is_too_large_is_refused() {
    let simulator = Simulator::start(&[]);
    // With four lines of its head, each file's section: 20,000 lines, and one more.
    for (files, lines, status) in [(1, 19_996, 200), (1, 19_997, 406), (300, 1, 200), (301, 1, 406)]
    {
        pull(&simulator, files, lines);
        let (told, body) = diff(&simulator);
        assert_eq!(told, status, "{files} files of {lines} lines");
        if told == 406 {
            let body: Value = serde_json::from_str(&body).expect("JSON");
            assert_eq!(body["errors"][0]["code"], "too_large");
            let maximum = if files > 300 { "files (300)" } else { "lines (20000)" };
            assert!(body["message"].as_str().is_some_and(|it| it.contains(maximum)), "{body}");
        }
    }
    let long = format!("--- a/f\n+++ b/f\n@@ -0,0 +1 @@\n+{}\n", "x".repeat(1 << 20));
    let item = json!({"repo": "o/n", "number": 1, "kind": "pull", "title": "t", "diff": long});
    simulator.post("/_items", &item.to_string());
    assert_eq!(diff(&simulator).0, 406);
}

#[test]
fn a_file_that_is_too_long_is_counted_without_its_patch() {
    let simulator = Simulator::start(&[]);
    pull(&simulator, 2, 20_001);
    assert_eq!(files(&simulator, ""), [(20_001, false), (20_001, false)]);
}

#[test]
fn no_more_than_three_thousand_files_are_listed() {
    let simulator = Simulator::start(&[]);
    pull(&simulator, 3_010, 1);
    assert_eq!(simulator.get(PULL).json()["changed_files"], 3_010);
    assert_eq!(files(&simulator, "per_page=100&page=30").len(), 100);
    assert_eq!(files(&simulator, "per_page=100&page=31"), []);
}
