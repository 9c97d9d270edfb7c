//! A file of rows that people edit is read again by parts, and its stages take over what stands
//! still: what comes of it is what a clean run over the same file makes.

mod support;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use support::TestSpace;

/// Enough rows for several chunks.
const ROWS: usize = 500;

#[derive(Clone, Debug)]
enum Edit {
    Change(usize),
    Insert(usize),
    Remove(usize),
    /// The same row again, elsewhere.
    Repeat(usize, usize),
    /// Another row with the key of the first.
    Conflict(usize, usize),
    Move(usize, usize),
    /// A field that the others do not have.
    Field(usize, bool),
    Blank(usize, usize),
    /// The rows are written otherwise, and mean the same.
    Spaced(usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    use Edit::*;
    let at = || 0..ROWS / 2;
    prop_oneof![
        4 => at().prop_map(Change),
        2 => at().prop_map(Insert),
        2 => at().prop_map(Remove),
        3 => (at(), at()).prop_map(|(from, to)| Repeat(from, to)),
        1 => (at(), at()).prop_map(|(from, to)| Conflict(from, to)),
        2 => (at(), at()).prop_map(|(from, to)| Move(from, to)),
        3 => (at(), any::<bool>()).prop_map(|(at, first)| Field(at, first)),
        1 => (at(), 1..50usize).prop_map(|(at, lines)| Blank(at, lines)),
        1 => at().prop_map(Spaced),
    ]
}

fn line(id: usize, text: &str, more: &str) -> String {
    // Texts of different lengths, so that chunks are cut at different places.
    let long = format!("{text} {id} ").repeat(20 + id * 37 % 60);
    format!(r#"{{"id":{id},"text":"{long}"{more}}}"#)
}

fn apply(edit: &Edit, lines: &mut Vec<String>, at: usize) {
    match *edit {
        Edit::Change(row) => lines[row] = line(10_000 + row, &format!("changed {at}"), ""),
        Edit::Insert(row) => lines.insert(row, line(20_000 + 1_000 * at + row, "new", "")),
        Edit::Remove(row) => drop(lines.remove(row)),
        Edit::Repeat(from, to) => lines.insert(to, lines[from].clone()),
        Edit::Conflict(from, to) => {
            let other = lines[from].replace("\"text\":\"", "\"text\":\"another ");
            lines.insert(to, other);
        }
        Edit::Move(from, to) => {
            let moved = lines.remove(from);
            lines.insert(to, moved);
        }
        Edit::Field(row, true) => lines[row] = lines[row].replacen('{', "{\"first\":[1],", 1),
        Edit::Field(row, false) => {
            lines[row] = line(30_000 + row, "more", ",\"more\":{\"a\":null}");
        }
        Edit::Blank(row, many) => drop(lines.splice(row..row, vec!["  ".to_owned(); many])),
        Edit::Spaced(row) => lines[row] = lines[row].replace("\":", "\" : "),
    }
}

const MANIFEST: &str = r#"
[pipeline]
name = "files"
[stages.same]
kind = "command"
mode = "rows"
inputs = ["rows.jsonl"]
key = ["id"]
run = ["cat"]
outputs = ["data/same.jsonl", "data/same.csv"]
[stages.count]
kind = "sql"
inputs = ["rows.jsonl", "same"]
query = "SELECT 1 AS one, (SELECT count(*) FROM rows) AS lines, count(*) AS rows FROM same"
key = ["one"]
outputs = ["data/count.json"]
"#;

/// What a run ended with, and its outputs; where it failed, what it said.
fn made(space: &TestSpace) -> (i32, Vec<String>) {
    let ran = space.run(&[]);
    let outputs = ["data/same.jsonl", "data/same.csv", "data/count.json"];
    match ran.code {
        0 => (0, outputs.iter().map(|path| space.read(path)).collect()),
        code => (code, vec![ran.stage("same")["reason"].to_string()]),
    }
}

fn holds(edits: &[Edit]) {
    let space = TestSpace::new();
    space.write("pipeline.toml", MANIFEST);
    let mut lines: Vec<String> = (0..ROWS).map(|id| line(id, "some words", "")).collect();
    space.write("rows.jsonl", lines.join("\n"));
    space.run(&[]).expect(0);
    for (at, edit) in edits.iter().enumerate() {
        apply(edit, &mut lines, at);
        space.write("rows.jsonl", lines.join("\n") + if at % 2 == 0 { "\n" } else { "" });
        let clean = TestSpace::new();
        clean.write("pipeline.toml", MANIFEST);
        clean.write("rows.jsonl", space.read("rows.jsonl"));
        assert_eq!(made(&space), made(&clean), "after {:?}", &edits[..=at]);
    }
}

#[test]
fn a_file_read_by_parts_equals_the_file_read_whole() {
    let cases = std::env::var("FLOW_CASES").ok().and_then(|cases| cases.parse().ok());
    let config = Config {
        cases: cases.unwrap_or(12),
        failure_persistence: None,
        max_shrink_iters: 60,
        ..Config::default()
    };
    let edits = proptest::collection::vec(edit(), 1..7);
    TestRunner::new(config)
        .run(&edits, |edits| {
            holds(&edits);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_fault_in_a_line_names_that_line_after_stretches_that_were_passed_over() {
    let space = TestSpace::new();
    space.write("pipeline.toml", MANIFEST);
    let mut lines: Vec<String> = (0..ROWS).map(|id| line(id, "some words", "")).collect();
    space.write("rows.jsonl", lines.join("\n"));
    space.run(&[]).expect(0);
    lines[450] = "{\"id\": 450, \"text\"".into();
    space.write("rows.jsonl", lines.join("\n"));
    let ran = space.run(&[]).expect(2);
    assert!(ran.stderr.contains("rows.jsonl:451:"), "{}", ran.stderr);
}

/// A last line without an end may be the beginning of a longer one.
#[test]
fn a_line_that_is_glued_to_the_last_one_is_a_fault_in_its_place() {
    let space = TestSpace::new();
    space.write("pipeline.toml", MANIFEST);
    // So long that it ends a chunk by itself.
    let last = format!(r#"{{"id":3,"text":"{}"}}"#, "x".repeat(1 << 20));
    let text = format!("{}\n{}\n{last}", line(1, "a", ""), line(2, "b", ""));
    space.write("rows.jsonl", &text);
    space.run(&[]).expect(0);
    space.write("rows.jsonl", format!("{text}{}", line(4, "c", "")));
    let ran = space.run(&[]).expect(2);
    assert!(ran.stderr.contains("rows.jsonl:3:"), "{}", ran.stderr);
    space.write("rows.jsonl", format!("{text}\n{}\n{{\"id\":5", line(4, "c", "")));
    let ran = space.run(&[]).expect(2);
    assert!(ran.stderr.contains("rows.jsonl:5:"), "{}", ran.stderr);
}

/// What the stage's record tells of the parts of its table adds up, edit after edit: else nothing
/// could be taken over the next time.
#[test]
fn edit_after_edit_takes_over_what_stands_still() {
    let space = TestSpace::new();
    space.write("pipeline.toml", MANIFEST);
    let mut lines: Vec<String> = (0..ROWS).map(|id| line(id, "some words", "")).collect();
    space.write("rows.jsonl", lines.join("\n"));
    space.run(&[]).expect(0);
    for at in [250, 120, 400] {
        apply(&Edit::Change(at), &mut lines, at);
        space.write("rows.jsonl", lines.join("\n"));
        let ran = space.run(&[]).expect(0);
        assert_eq!(ran.stage("same")["rows_run"], 1);
        assert_eq!(ran.stage("same")["rows_memo"], ROWS - 1);
        let (spans, rows) = spans(&space);
        assert_eq!(spans.iter().map(|(_, rows, _)| rows).sum::<u64>(), rows);
        assert!(spans.len() > 3, "several chunks");
    }
}

/// How the table of `same` came from its input, and how many rows it has.
fn spans(space: &TestSpace) -> (Vec<(u64, u64, u8)>, u64) {
    let cache = space.path().join("cache");
    let store = rusqlite::Connection::open(cache.join("flow.db")).expect("the store");
    let record: String = store
        .query_row("SELECT record FROM stages WHERE name = 'same'", [], |row| row.get(0))
        .expect("its record");
    let record: serde_json::Value = serde_json::from_str(&record).expect("JSON");
    let (spans, rows) = (record["spans"].as_str().expect("spans"), &record["rows"]);
    let rows = rows.as_u64().expect("rows");
    let object = std::fs::read(cache.join("objects").join(&spans[..2]).join(&spans[2..]));
    let object = object.expect("the spans");
    let line = object.split(|byte| *byte == b'\n').next().expect("a line");
    (serde_json::from_slice(line).expect("the spans"), rows)
}
