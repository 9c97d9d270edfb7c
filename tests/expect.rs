//! What a table is expected to be is held before anything reads it; a breach shows the first rows.

mod support;

use serde_json::json;
use support::{Simulator, TestSpace};

fn space(expect: &str) -> TestSpace {
    let mut space = TestSpace::new();
    space.env("NO_COLOR", "1");
    space.write(
        "pipeline.toml",
        format!(
            r#"
[pipeline]
name = "test"
[stages.items]
kind = "sql"
inputs = ["t.jsonl"]
query = "SELECT * FROM t"
key = ["id"]
outputs = ["data/items.jsonl"]
[stages.items.expect]
{expect}
[stages.after]
kind = "sql"
inputs = ["items"]
query = "SELECT id FROM items"
key = ["id"]
outputs = ["data/after.jsonl"]
"#
        ),
    );
    let rows = [
        json!({"id": 1, "url": "u1", "state": "open", "n": 5}),
        json!({"id": 2, "url": "u2", "state": "closed", "n": null}),
        json!({"id": 3, "url": "u1", "state": "opened", "n": 7}),
    ];
    space.write("t.jsonl", rows.map(|row| format!("{row}\n")).concat());
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}});
    space.write("row.schema.json", schema.to_string());
    space
}

#[test]
fn each_breach_is_told_with_its_rows_and_nothing_follows() {
    for (expect, says) in [
        ("rows = { min = 4 }", "it has 3 rows, fewer than 4"),
        ("rows = { max = 2 }", "it has 3 rows, more than 2"),
        (r#"unique = ["url"]"#, r#"`url` is not unique: id=3 has "u1", as row 1"#),
        (r#"not_null = ["n"]"#, "`n` is null: id=2"),
        (
            r#"accepted = { state = ["open", "closed"] }"#,
            r#"`state` is none of the accepted values: id=3 has "opened""#,
        ),
        (
            r#"matches_schema = "row.schema.json""#,
            "it does not match its schema: id=2: /n: null is not of type",
        ),
        (r#"sql = "SELECT id, n FROM items WHERE n > 5""#, r#"`sql` returns rows: {"id":3,"n":7}"#),
    ] {
        let space = space(expect);
        let ran = space.run(&[]).expect(1);
        assert_eq!(ran.states(), ["items failed", "after skipped"], "{expect}");
        let reason = ran.stage("items")["reason"].as_str().expect("a reason").to_owned();
        assert!(reason.contains(says), "{expect}: {reason}");
        assert!(!space.exists("data/after.jsonl") && !space.exists("data/items.jsonl"));
        // It stays so, until the table or what is expected is another.
        space.run(&[]).expect(1);
        let manifest = space.read("pipeline.toml").replace(&format!("{expect}\n"), "");
        space.write("pipeline.toml", manifest);
        let ran = space.run(&[]).expect(0);
        assert_eq!(ran.stage("items")["rows_run"], 0, "the table was there: nothing is made again");
    }
}

#[test]
fn what_was_held_is_not_looked_at_again() {
    let space = space(
        r#"rows = { min = 1, max = 3 }
not_null = ["id", "url"]
unique = ["id"]
sql = "SELECT * FROM items WHERE id > 3""#,
    );
    space.run(&[]).expect(0);
    assert_eq!(space.run(&[]).expect(0).states(), ["items up_to_date", "after up_to_date"]);
    // Another expectation makes nothing again, and is held.
    space.edit("pipeline.toml", "id > 3", "id > 2");
    let ran = space.run(&[]).expect(1);
    assert!(ran.stage("items")["reason"].to_string().contains("`sql` returns rows"));
    assert_eq!(ran.stage("items")["rows_run"], 0);
    // What was there before is left as it was.
    assert_eq!(space.rows("data/items.jsonl").len(), 3);
}

#[test]
fn mistakes_are_told_at_their_place() {
    for (expect, says) in [
        (r#"unique = ["ur"]"#, "`unique` names `ur`"),
        (r#"accepted = { stat = ["open"] }"#, "`accepted` names `stat`"),
        (r#"matches_schema = "none.json""#, "none.json"),
        (r#"sql = "SELECT missing FROM items""#, "no such column: missing"),
        ("row = 3", "`row`"),
    ] {
        let space = space(expect);
        let told = space.flow(&["check"]).expect(2).stderr;
        assert!(told.contains(says) && told.contains("pipeline.toml:"), "{expect}: {told}");
        assert!(!space.exists("cache"));
    }
}

#[test]
fn no_model_is_asked_about_rows_that_are_not_as_expected() {
    let simulator = Simulator::start(&["--repos", "1", "--items", "120", "--seed", "3"]);
    let space = space("");
    let address = &simulator.address;
    space.write(
        "pipeline.toml",
        format!(
            r#"
[pipeline]
name = "test"
[github]
base_url = "{address}/github"
[models.small]
base_url = "{address}/v1"
model = "tiny"
[[tables.repos]]
repo = "acme/engine-1"
[stages.items]
kind = "github"
inputs = ["repos"]
list = "/repos/{{{{ repo }}}}/issues?state=all&per_page=100"
pick = "{{id: .node_id, title}}"
key = ["id"]
expect = {{ rows = {{ min = 500 }} }}
[stages.label]
kind = "llm"
inputs = ["items"]
model = "small"
prompt = "p.md"
"#
        ),
    );
    space.write("p.md", "{{ title }}");
    let ran = space.run(&[]).expect(1);
    assert_eq!(ran.states(), ["items failed", "label skipped"]);
    assert!(simulator.get("/_stats")["by_endpoint"].get("POST /v1/chat/completions").is_none());
    // A trial is of some rows only.
    space.run(&["--limit", "3"]).expect(0);
}
