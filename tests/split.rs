//! A text that is too long becomes rows of its own: nothing lost, nothing twice, and one that changed is
//! cut alone.

mod support;

use serde_json::{Value, json};
use support::TestSpace;

fn space(settings: &str) -> TestSpace {
    let mut space = TestSpace::new();
    space.env("NO_COLOR", "1");
    space.write(
        "pipeline.toml",
        format!(
            r#"
[pipeline]
name = "test"
[params]
most = 60
[stages.parts]
kind = "split"
inputs = ["texts.jsonl"]
key = ["id"]
keep = ["name"]
text = "body"
outputs = ["data/parts.jsonl"]
{settings}
"#
        ),
    );
    space
}

fn rows(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

fn body(of: usize) -> String {
    (0..of).map(|line| format!("line {line} of {of}\n")).collect()
}

#[test]
fn parts_make_the_text_and_a_row_that_changed_is_cut_alone() {
    let space = space("tokens = \"params.most\"");
    let row = |id: usize, body: Value| json!({"id": id, "name": format!("n{id}"), "body": body});
    let mut texts: Vec<Value> = (0..20).map(|id| row(id, json!(body(id)))).collect();
    texts.push(row(20, Value::Null));
    space.write("texts.jsonl", rows(&texts));
    let ran = space.run(&[]).expect(0);
    assert_eq!(
        (ran.stage("parts")["rows_run"].as_u64(), ran.json()["calls"].as_u64()),
        (Some(21), Some(0))
    );
    let parts = space.rows("data/parts.jsonl");
    for id in 0..20 {
        let of: Vec<&Value> = parts.iter().filter(|part| part["id"] == id).collect();
        let text: String = of.iter().map(|part| part["body"].as_str().expect("a text")).collect();
        assert_eq!(text, body(id));
        for (at, part) in of.iter().enumerate() {
            assert_eq!((&part["part"], &part["parts"]), (&json!(at + 1), &json!(of.len())));
            assert!(part["tokens"].as_u64().is_some_and(|tokens| tokens <= 60), "{part}");
            assert_eq!(part["name"], format!("n{id}"));
        }
    }
    assert!(parts.iter().all(|part| part["id"] != 20), "nothing to cut makes no row");
    let names: Vec<&String> = parts[0].as_object().expect("a row").keys().collect();
    assert_eq!(names, ["id", "name", "part", "parts", "body", "tokens"]);

    texts[7]["body"] = json!("short\n");
    space.write("texts.jsonl", rows(&texts));
    let ran = space.run(&[]).expect(0);
    assert_eq!(ran.stage("parts")["rows_run"], 1);
    assert_eq!(space.run(&[]).expect(0).states(), ["parts up_to_date"]);
    // As from scratch.
    let incremental = space.read("data/parts.jsonl");
    std::fs::remove_dir_all(space.path().join("cache")).expect("removed");
    std::fs::remove_dir_all(space.path().join("data")).expect("removed");
    space.run(&[]).expect(0);
    assert_eq!(space.read("data/parts.jsonl"), incremental);
}

#[test]
fn parts_of_a_diff_are_diffs() {
    let space = space("tokens = 80\nat = \"diff\"");
    let added: String = (0..30).map(|line| format!("+added line {line}\n")).collect();
    let file = |name: &str| {
        format!(
            "diff --git a/{name} b/{name}\n--- a/{name}\n+++ b/{name}\n@@ -1,0 +1,30 @@\n{added}"
        )
    };
    let diff = file("a.c") + &file("b.c");
    space.write("texts.jsonl", rows(&[json!({"id": 1, "name": "n", "body": diff})]));
    space.run(&[]).expect(0);
    let parts = space.rows("data/parts.jsonl");
    let texts: Vec<&str> =
        parts.iter().map(|part| part["body"].as_str().expect("a text")).collect();
    assert!(texts.len() > 4, "{}", texts.len());
    assert!(texts.iter().all(|text| text.starts_with("diff --git a/")));
    let lines =
        texts.iter().flat_map(|text| text.lines()).filter(|line| line.starts_with("+added"));
    assert_eq!(lines.count(), 60);
}

#[test]
fn hunks_stay_whole_and_what_is_cut_of_one_has_its_numbers() {
    let space = space("tokens = 90\nat = \"diff\"");
    let header = "diff --git a/a.c b/a.c\n--- a/a.c\n+++ b/a.c\n";
    let line = |sign: char, at: usize| format!("{sign}    total += weights[{at}];\n");
    let lines = |sign, of| (0..of).map(|at| line(sign, at)).collect::<String>();
    let short = format!("@@ -2 +2 @@\n{}{}", line('-', 1), line('+', 2));
    let long = format!("@@ -40,4 +40,8 @@ fn f()\n{}{}", lines('+', 8), lines('-', 4));
    let diff = format!("{header}{short}{long}");
    space.write("texts.jsonl", rows(&[json!({"id": 1, "name": "n", "body": diff})]));
    space.run(&[]).expect(0);
    let parts = space.rows("data/parts.jsonl");
    let (mut old, mut new, mut changed) = (40, 40, String::new());
    for part in &parts {
        let text = part["body"].as_str().expect("a text");
        let hunks = text.strip_prefix(header).expect("the file's header");
        let hunks = hunks.strip_prefix(&short).unwrap_or(hunks);
        let (head, lines) = hunks.split_once('\n').expect("a hunk's header");
        let count = |sign| lines.lines().filter(|line| line.starts_with(sign)).count();
        let (of_old, of_new) = (count('-'), count('+'));
        // A side without lines names the line before.
        let place = |start: usize, count| format!("{},{count}", start - usize::from(count == 0));
        assert_eq!(head, format!("@@ -{} +{} @@ fn f()", place(old, of_old), place(new, of_new)));
        (old, new) = (old + of_old, new + of_new);
        changed.push_str(lines);
    }
    assert!(parts.len() > 2, "{}", parts.len());
    assert_eq!(changed, lines('+', 8) + &lines('-', 4));
}

#[test]
fn mistakes_are_told_at_their_place() {
    for (settings, says) in [
        ("tokens = 5", "`tokens` is a number of 16 or more"),
        ("tokens = \"params.least\"", "there is no param `least`"),
        ("tokens = \"sixty\"", "params.NAME"),
        ("tokens = 60\nat = \"words\"", "`at`"),
        ("", "`tokens`"),
    ] {
        let space = space(settings);
        space.write("texts.jsonl", rows(&[json!({"id": 1, "name": "n", "body": "b"})]));
        let told = space.flow(&["check"]).expect(2).stderr;
        assert!(told.contains(says) && told.contains("pipeline.toml:"), "{settings}: {told}");
    }
    let space = space("tokens = 60");
    space.write("texts.jsonl", rows(&[json!({"id": 1, "name": "n", "body": "b"})]));
    space.edit("pipeline.toml", "keep = [\"name\"]", "keep = [\"body\"]");
    let told = space.flow(&["check"]).expect(2).stderr;
    assert!(told.contains("makes the field `body`, and carries one of that name over"), "{told}");
    space.edit("pipeline.toml", "keep = [\"body\"]", "keep = [\"name\"]");
    space.edit("pipeline.toml", "text = \"body\"", "text = \"part\"");
    space.write("texts.jsonl", rows(&[json!({"id": 1, "name": "n", "part": "b"})]));
    let told = space.flow(&["check"]).expect(2).stderr;
    assert!(told.contains("makes a field `part` beside the text"), "{told}");
    space.edit("pipeline.toml", "text = \"part\"", "text = \"body\"");
    space.write("texts.jsonl", rows(&[json!({"id": 1, "name": "n", "body": 7})]));
    space.run(&[]).expect(1);
    let failed = space.rows("data/parts.jsonl.failed.jsonl");
    assert_eq!(failed[0]["_failed"]["reason"], "`body` is no text: 7");
}

#[test]
fn a_diff_of_which_a_part_has_no_answer_has_no_root_cause() {
    let study = TestSpace::study();
    let query = study.read("queries/root_cause_completed.sql");
    let mut space = TestSpace::new();
    space.env("NO_COLOR", "1");
    space.write("q.sql", query);
    space.write(
        "pipeline.toml",
        r#"
[pipeline]
name = "test"
[stages.root_cause_completed]
kind = "sql"
inputs = ["root_cause.jsonl", "root_cause_parts.jsonl"]
query = "q.sql"
key = ["id"]
outputs = ["data/completed.jsonl"]
"#,
    );
    let row = json!({
        "id": "whole", "url": "u", "engine": "e", "title": "t", "reasoning": "r",
        "root_causes": [{"file": "a.c", "function": "f"}], "category": "c",
    });
    space.write("root_cause.jsonl", rows(&[row]));
    let part = |id: &str, part: usize| {
        json!({
            "id": id, "url": "u", "engine": "e", "title": "t", "part": part, "parts": 2,
            "reasoning": "r", "category": format!("c{part}"),
            "root_causes": [{"file": "a.c", "function": "f", "relevance": 0.5 * part as f64}],
        })
    };
    space
        .write("root_cause_parts.jsonl", rows(&[part("both", 1), part("both", 2), part("one", 1)]));
    space.run(&[]).expect(0);
    let made = space.rows("data/completed.jsonl");
    let ids: Vec<&Value> = made.iter().map(|row| &row["id"]).collect();
    assert_eq!(ids, ["both", "whole"]);
    assert_eq!(made[0]["category"], "c2");
}
