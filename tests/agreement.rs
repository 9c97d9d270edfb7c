//! Samples that stay as others come, and how far raters agree, held against an independent count.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use support::TestSpace;

fn space(stages: &str) -> TestSpace {
    let mut space = TestSpace::new();
    space.env("NO_COLOR", "1");
    space.write("pipeline.toml", format!("[pipeline]\nname = \"test\"\n{stages}"));
    space
}

fn items(count: usize) -> String {
    let engine = |at: usize| if at.is_multiple_of(3) { "small" } else { "large" };
    (0..count).map(|at| format!("{}\n", json!({"id": at, "engine": engine(at)}))).collect()
}

const SAMPLE: &str = r#"
[stages.drawn]
kind = "sample"
inputs = ["items.jsonl"]
key = ["id"]
by = ["engine"]
blank = ["label", "rater"]
outputs = ["data/drawn.jsonl", "data/drawn.csv"]
"#;

fn ids(rows: &[Value]) -> BTreeSet<u64> {
    rows.iter().map(|row| row["id"].as_u64().expect("a number")).collect()
}

#[test]
fn each_stratum_has_enough_and_each_row_says_what_it_stands_for() {
    let space = space(SAMPLE);
    space.write("items.jsonl", items(1500));
    space.run(&[]).expect(0);
    let rows = space.rows("data/drawn.jsonl");
    let of = |engine: &str| rows.iter().filter(|row| row["engine"] == engine).collect::<Vec<_>>();
    // Cochran with the correction for a finite population, 95 %, 5 %: of 1,000 and of 500.
    assert_eq!((of("large").len(), of("small").len()), (278, 218));
    assert_eq!(of("small")[0]["sample_weight"], json!(500.0 / 218.0));
    assert_eq!(of("small")[0]["label"], Value::Null);
    assert!(
        ids(&rows).into_iter().eq(rows.iter().map(|row| row["id"].as_u64().unwrap())),
        "in order"
    );
    assert!(space.read("data/drawn.csv").starts_with("id,engine,label,rater,sample_weight\n"));
}

#[test]
fn what_was_drawn_stays_drawn_while_rows_come_and_go() {
    let space = space(&SAMPLE.replace("by =", "size = 40\nby ="));
    space.write("items.jsonl", items(300));
    space.run(&[]).expect(0);
    let before = ids(&space.rows("data/drawn.jsonl"));
    assert_eq!(before.len(), 80);
    // In another order, the same.
    let mut lines: Vec<String> = items(300).lines().map(|line| format!("{line}\n")).collect();
    lines.reverse();
    space.write("items.jsonl", lines.concat());
    space.run(&[]).expect(0);
    assert_eq!(ids(&space.rows("data/drawn.jsonl")), before);
    // One in ten more: about as many of those drawn give way, and none else.
    space.write("items.jsonl", items(330));
    space.run(&[]).expect(0);
    let after = ids(&space.rows("data/drawn.jsonl"));
    let (stay, new) = (before.intersection(&after).count(), after.difference(&before).count());
    assert!(stay >= 64 && new <= 16, "{stay} stay, {new} are new");
    assert!(after.difference(&before).all(|id| *id >= 300), "only rows that came are new");
    // Another seed draws others.
    space.edit("pipeline.toml", "size = 40", "size = 40\nseed = 2");
    space.run(&[]).expect(0);
    assert!(ids(&space.rows("data/drawn.jsonl")).intersection(&after).count() < 40);
}

#[test]
fn wrong_settings_are_told_at_their_place() {
    let wrong = SAMPLE.replace("by = [\"engine\"]", "by = [\"engin\"]\nmargin = 0.7\nsize = 3");
    let space = space(&wrong);
    space.write("items.jsonl", items(3));
    let told = space.flow(&["check"]).expect(2).stderr;
    for part in ["`by` names `engin`", "engine", "`margin` is 0.7", "`size` says how many"] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
}

const LABELS: &str = r#"
[stages.agree]
kind = "agreement"
inputs = ["labels.csv"]
item = ["id"]
rater = "rater"
label = "label"
outputs = ["data/agree.jsonl"]
"#;

const A: [&str; 12] = ["x", "x", "y", "y", "z", "z", "x", "y", "z", "x", "y", "y"];
const B: [&str; 12] = ["x", "y", "y", "y", "z", "x", "x", "y", "z", "x", "z", "y"];
const C: [&str; 12] = ["x", "x", "y", "z", "z", "z", "x", "y", "y", "x", "y", "y"];

fn sheet() -> String {
    let mut text = "id,rater,label\n".to_owned();
    for (rater, labels) in [("ann", A), ("ben", B), ("model", C)] {
        for (id, label) in labels.iter().enumerate() {
            text.push_str(&format!("{id},{rater},{label}\n"));
        }
    }
    // A sheet that is not filled in says nothing.
    text + "12,ann,\n12,ben,x\n"
}

fn value(rows: &[Value], part: &str, raters: &str, measure: &str, label: &str) -> Value {
    let is = |row: &&Value| {
        row["part"] == part
            && row["raters"] == raters
            && row["measure"] == measure
            && row["label"] == label
            && row["stratum"] == ""
    };
    let found: Vec<&Value> = rows.iter().filter(is).collect();
    assert_eq!(found.len(), 1, "{part} {raters} {measure} {label}");
    found[0].clone()
}

#[track_caller]
fn near(row: &Value, wanted: f64) {
    let found = row["value"].as_f64().unwrap_or_else(|| panic!("{row}"));
    assert!((found - wanted).abs() < 1e-9, "{found}, not {wanted}");
}

#[test]
fn agreement_is_that_of_well_kept_packages() {
    let space = space(LABELS);
    space.write("labels.csv", sheet());
    space.run(&[]).expect(0);
    let rows = space.rows("data/agree.jsonl");
    // sklearn cohen_kappa_score; statsmodels fleiss_kappa; sklearn precision_recall_fscore_support
    let kappa = value(&rows, "agreement", "ann, ben", "cohen_kappa", "");
    near(&kappa, 0.6170212765957447);
    assert_eq!(kappa["n"], 12);
    let (low, high) = (kappa["low"].as_f64().unwrap(), kappa["high"].as_f64().unwrap());
    assert!(low < 0.617 && 0.617 < high && high <= 1.0, "{kappa}");
    near(&value(&rows, "agreement", "all", "fleiss_kappa", ""), 0.5744680851063829);
    near(&value(&rows, "agreement", "ann, ben", "percent_agreement", ""), 0.75);
    near(&value(&rows, "class", "ann, ben", "precision", "y"), 0.8);
    near(&value(&rows, "class", "ann, ben", "f1", "z"), 2.0 / 3.0);
    // The confusion matrix adds up to what both labelled.
    let of = |row: &&Value| row["part"] == "confusion" && row["raters"] == "ann, ben";
    assert_eq!(rows.iter().filter(of).map(|row| row["value"].as_f64().unwrap()).sum::<f64>(), 12.0);
    // Who disagrees about what.
    let mut said: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row["part"] == "disagreement") {
        let text = |name: &str| row[name].as_str().expect("a text");
        said.entry(text("item")).or_default().push(text("label"));
    }
    assert_eq!(said.keys().copied().collect::<Vec<_>>(), ["id=1", "id=10", "id=3", "id=5", "id=8"]);
    assert_eq!(said["id=3"], ["y", "y", "z"]);
}

#[test]
fn columns_of_one_table_and_files_of_their_own_agree_alike() {
    let space = space(
        r#"
[stages.wide]
kind = "agreement"
inputs = ["wide.csv"]
item = ["id"]
raters = ["ann", "model"]
by = ["engine"]
confidence = { model = "sure" }
outputs = ["data/wide.jsonl"]

[stages.files]
kind = "agreement"
inputs = ["ann.csv", "model.csv"]
item = ["id"]
label = "label"
truth = "model.csv"
outputs = ["data/files.jsonl"]
"#,
    );
    let mut wide = "id,engine,ann,model,sure\n".to_owned();
    let (mut ann, mut model) = ("id,label\n".to_owned(), "id,label\n".to_owned());
    for at in 0..12 {
        let engine = if at < 6 { "e1" } else { "e2" };
        wide.push_str(&format!("{at},{engine},{},{},0.9\n", A[at], C[at]));
        ann.push_str(&format!("{at},{}\n", A[at]));
        model.push_str(&format!("{at},{}\n", C[at]));
    }
    space.write("wide.csv", wide);
    space.write("ann.csv", ann);
    space.write("model.csv", model);
    space.run(&[]).expect(0);
    let (wide, files) = (space.rows("data/wide.jsonl"), space.rows("data/files.jsonl"));
    let kappa = |rows: &[Value], raters| {
        value(rows, "agreement", raters, "cohen_kappa", "")["value"].clone()
    };
    assert_eq!(kappa(&wide, "ann, model"), kappa(&files, "ann.csv, model.csv"));
    // The other way round, precision is recall.
    assert_eq!(
        value(&wide, "class", "ann, model", "precision", "y")["value"],
        value(&files, "class", "model.csv, ann.csv", "recall", "y")["value"],
    );
    // Ten of twelve are right, said with 0.9.
    let error = value(&wide, "calibration", "ann, model", "expected_calibration_error", "");
    near(&error, 0.9 - 10.0 / 12.0);
    let strata: BTreeSet<&str> = wide.iter().map(|row| row["stratum"].as_str().unwrap()).collect();
    assert_eq!(strata, BTreeSet::from(["", "e1", "e2"]));
    let runs = space.run(&[]).expect(0);
    assert_eq!(runs.states(), ["wide up_to_date", "files up_to_date"]);
}

#[test]
fn two_labels_of_one_rater_and_a_truth_that_is_nobody_are_told() {
    let space = space(LABELS);
    space.write("labels.csv", sheet() + "3,ben,z\n");
    let reason = space.run(&[]).expect(1).stage("agree")["reason"].to_string();
    assert!(reason.contains("`ben` gives id=3 two labels: `y` and `z`"), "{reason}");
    space.write("labels.csv", sheet());
    space.edit("pipeline.toml", "rater = \"rater\"", "rater = \"rater\"\ntruth = \"anne\"");
    let reason = space.run(&[]).expect(1).stage("agree")["reason"].to_string();
    assert!(reason.contains("`truth` is `anne`, who labelled nothing"), "{reason}");
}
