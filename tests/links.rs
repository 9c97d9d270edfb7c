//! The study's links from issue to fix, on items made for the purpose: what counts as named, and
//! what is seen of a list that GitHub cuts off.

mod support;

use serde_json::{Value, json};
use support::{Simulator, TestSpace};

const REPO: &str = "o/n";

fn item(number: u64, more: Value) -> Value {
    let mut item = json!({"repo": REPO, "number": number, "title": "t",
        "created_at": "2024-01-01T00:00:00Z"});
    item.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    item
}

/// The study over these items; every one is a bug.
fn study(items: &[Value]) -> (Simulator, TestSpace) {
    let mut space = TestSpace::study();
    let answer = |item: &Value| {
        let kind = if item["kind"] == "pull" { "pull" } else { "issues" };
        let url = format!("https://simulator.invalid/{REPO}/{kind}/{}", item["number"]);
        json!({"schema": "classify", "match": url, "answer": {"reasoning": "It fails.",
            "is_bug_related": true, "status": "fixed", "confidence": 1}})
    };
    let lines = |lines: Vec<Value>| -> String { lines.iter().map(|l| format!("{l}\n")).collect() };
    space.write("items.jsonl", lines(items.to_vec()));
    space.write("answers.jsonl", lines(items.iter().map(answer).collect()));
    let path = |name: &str| space.path().join(name).to_str().unwrap().to_owned();
    let simulator =
        Simulator::start(&["--data", &path("items.jsonl"), "--answers", &path("answers.jsonl")]);
    let manifest = space.read("pipeline.toml");
    let (manifest, _) = manifest.split_once("[[profiles.sample.tables.engines]]").unwrap();
    let manifest = manifest
        .replace("http://simulator.invalid", &simulator.address)
        .replace("cassette = \"samples/cassette.jsonl\"\noffline = true\n", "");
    let engine = format!("[[profiles.sample.tables.engines]]\nengine = \"e\"\nrepo = \"{REPO}\"\n");
    space.write("pipeline.toml", manifest + &engine);
    space.env("NO_COLOR", "1").env("GITHUB_TOKEN", "x").env("OPENAI_API_KEY", "x");
    (simulator, space)
}

#[test]
fn what_a_text_names_is_found_and_code_names_nothing() {
    let none: [&str; 0] = [];
    let table: [(&str, &[&str], &[&str]); 11] = [
        ("Fixes #1, see #2.", &["o/n#1"], &["o/n#1", "o/n#2"]),
        (
            "closes: P/q#3; GH#4, resolved\nhttps://x.example/o/n/issues/5#issuecomment-9",
            &["o/n#5", "p/q#3"],
            &["o/n#5", "p/q#3"],
        ),
        (
            "[#1](https://x.example/O/N/pull/2/files) (#3) **#4**",
            &none,
            &["o/n#1", "o/n#2", "o/n#3", "o/n#4"],
        ),
        ("- #1\n- #2\n#3 is the same", &none, &["o/n#1", "o/n#2", "o/n#3"]),
        ("#1#2", &none, &["o/n#1"]),
        ("a#1 &#39; #7x prefixes #", &none, &none),
        ("```c\n// fixes #1\n#define A 1\n```\nand `#2`, then #3", &none, &["o/n#3"]),
        ("#define A\n# 12\n#if 0", &none, &none),
        ("#0 0x55 in f\n    #12  0x56 in main", &none, &none),
        ("<!-- an example:\nfixes #123 -->\nfixes #9", &["o/n#9"], &["o/n#9"]),
        ("", &none, &none),
    ];
    let items: Vec<Value> =
        (1..).zip(&table).map(|(nth, (body, ..))| item(nth, json!({"body": body}))).collect();
    let (_simulator, space) = study(&items);
    space.run(&["--profile", "sample", "items"]).expect(0);
    let rows = space.rows("data/sample/llm_bugs.json");
    assert_eq!(rows.len(), table.len());
    for (row, (body, closing, named)) in rows.iter().zip(&table) {
        assert_eq!(row["closing_keywords"], json!(closing), "{body}");
        assert_eq!(row["mentions"], json!(named), "{body}");
    }
}

#[test]
fn a_list_of_links_that_is_cut_off_is_seen() {
    let merged = "2024-01-03T00:00:00Z";
    let mentions = vec![format!("https://simulator.invalid/{REPO}/pull/4"); 101];
    let mut items = vec![
        item(1, json!({"closed_at": merged})),
        item(2, json!({"closed_at": merged, "mentioned_by": mentions})),
        item(3, json!({"closed_at": merged, "state_reason": "not_planned"})),
    ];
    items.extend((4..16).map(|number| {
        item(number, json!({"kind": "pull", "closes": [1], "body": "Like #3, but later."}))
    }));
    items[14]["merged_at"] = json!(merged);
    let (_simulator, space) = study(&items);
    let ran = space.run(&["--profile", "sample", "final"]).expect(0);
    assert_eq!(ran.stage("issue_links")["calls"], 1, "all in one batch");
    let rows = space.rows("data/sample/issue_links.json");
    let told: Vec<&Value> = rows.iter().map(|row| &row["links_complete"]).collect();
    assert_eq!(told, [false, false, true]);
    let references = |row: &&Value| row["evidence"] == "closing_reference";
    let links = rows[0]["links"].as_array().unwrap();
    assert_eq!(links.iter().filter(references).count(), 12, "ten listed, the others named it");
    let rows = space.rows("data/sample/final_bug_results.json");
    let told = |row: &Value| json!([row["is_fixed"], row["fixed_by_evidence"]]);
    assert_eq!(told(&rows[0]), json!([true, "closing_event"]), "the closing is not cut off");
    assert_eq!(told(&rows[1]), json!([false, null]), "none of those that name it was merged");
    assert_eq!(told(&rows[2]), json!([false, "mention"]), "nobody planned to mend it");
}
