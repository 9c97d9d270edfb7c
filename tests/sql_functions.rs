//! What queries count beside SQLite's own functions, and counts of a published study recomputed.

mod support;

use serde_json::{Value, json};
use support::{Ran, TestSpace};

fn space(rows: &[Value], query: &str) -> TestSpace {
    let mut space = TestSpace::new();
    space.env("NO_COLOR", "1");
    let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
    space.write("t.jsonl", text);
    space.write("q.sql", query);
    space.write(
        "pipeline.toml",
        "[pipeline]\nname = \"test\"\n[stages.q]\nkind = \"sql\"\ninputs = [\"t.jsonl\"]\n\
         query = \"q.sql\"\nkey = [\"k\"]\noutputs = [\"data/q.jsonl\"]\n",
    );
    space
}

/// The one row that `query` makes of `rows`.
#[track_caller]
fn one(rows: &[Value], query: &str) -> Value {
    let space = space(rows, query);
    space.run(&[]).expect(0);
    space.rows("data/q.jsonl").remove(0)
}

#[track_caller]
fn near(row: &Value, name: &str, wanted: f64, digits: i32) {
    let found = row[name].as_f64().unwrap_or_else(|| panic!("{name} in {row}"));
    assert!((found - wanted).abs() < 0.5 * 10f64.powi(-digits), "{name}: {found}, not {wanted}");
}

#[test]
fn quantiles_shares_and_correlations_are_those_of_well_kept_packages() {
    let ys = [2.5, 1.0, 4.0, 4.0, 3.0, 6.5, 6.5, 9.0, 8.0, 7.0];
    let rows: Vec<Value> = (1..).zip(ys).map(|(x, y)| json!({"x": x, "y": y})).collect();
    let row = one(
        &rows,
        "SELECT 1 AS k, quantile(x, 0.9) AS p90, median(y) AS middle, top_share(x, 0.2) AS top,
                spearman(x, y) AS rho, spearman_p(x, y, 20000, 2026) AS p, slope(x, y) AS slope
         FROM t",
    );
    // numpy.quantile, numpy.median, scipy.stats.spearmanr, numpy.polyfit
    near(&row, "p90", 9.1, 9);
    near(&row, "middle", 5.25, 9);
    near(&row, "top", 19.0 / 55.0, 9);
    near(&row, "rho", 0.8963581269790831, 9);
    near(&row, "slope", 0.7606060606060606, 9);
    let p = row["p"].as_f64().expect("a number");
    assert!(p > 0.0 && p < 0.002, "{p}");
}

#[test]
fn nothing_and_null_count_as_nothing() {
    let rows = [json!({"x": null, "y": 1}), json!({"x": 2, "y": null}), json!({"x": 4, "y": 1})];
    let row = one(
        &rows,
        "SELECT 1 AS k, median(x) AS middle, spearman(x, y) AS rho, quantile(x, 2) AS off,
                (SELECT median(x) FROM t WHERE x > 9) AS none FROM t",
    );
    assert_eq!(row, json!({"k": 1, "middle": 3.0, "rho": null, "off": null, "none": null}));
    let ran: Ran = space(&[json!({"x": "many"})], "SELECT 1 AS k, median(x) AS m FROM t").run(&[]);
    let ran = ran.expect(1);
    let reason = ran.stage("q")["reason"].to_string();
    assert!(reason.contains("median: the text 'many' is no number"), "{reason}");
}

#[test]
fn probabilities_of_several_tests_are_adjusted() {
    let rows: Vec<Value> = [0.01, 0.04, 0.03, 0.005, 0.5].iter().map(|p| json!({"p": p})).collect();
    let query = "SELECT p AS k, adjusted_p(p, json_group_array(p) OVER ()) AS q FROM t ORDER BY p";
    let space = space(&rows, query);
    space.run(&[]).expect(0);
    let found = space.rows("data/q.jsonl");
    // statsmodels: multipletests(method="fdr_bh")
    for (row, wanted) in found.iter().zip([0.025, 0.025, 0.05, 0.05, 0.5]) {
        near(row, "q", wanted, 9);
    }
}

/// Figures of the study that this one follows, from its published counts: weights of 1/k for k labels,
/// and how much more often a symptom comes with a layer than with any.
#[test]
fn published_lifts_come_out() {
    let rows = [
        json!({"k": "build", "both": 344.0, "layer": 399.0 + 1.0 / 3.0, "symptom": 1837}),
        json!({"k": "api", "both": 677.0, "layer": 1276.33, "symptom": 2845}),
        json!({"k": "hardware", "both": 411.83, "layer": 2123.0, "symptom": 1239}),
    ];
    let query = "SELECT k, (both / layer) / (symptom / 12707.0) AS lift FROM t ORDER BY k";
    let space = space(&rows, query);
    space.run(&[]).expect(0);
    let found = space.rows("data/q.jsonl");
    for (row, wanted) in found.iter().zip([2.3691, 5.9588, 1.9895]) {
        near(row, "lift", wanted, 4);
    }
}

#[test]
fn a_weight_is_split_among_several_labels() {
    // Four files, of which three are the cause: 0.8 of the weight on those, 0.2 on the rest.
    let rows = [
        json!({"bug": 1, "files": ["a", "b", "c", "d"], "roots": ["a", "b", "c"]}),
        json!({"bug": 2, "files": ["a"], "roots": ["a"]}),
    ];
    let query = "
        WITH f AS (
          SELECT bug, file.value AS file, json_array_length(files) AS n,
                 json_array_length(roots) AS r,
                 EXISTS (SELECT 1 FROM json_each(roots) root WHERE root.value = file.value) AS is_root
          FROM t, json_each(files) file)
        SELECT bug || file AS k,
               CASE WHEN n = r THEN 1.0 / n WHEN is_root THEN 0.8 / r ELSE 0.2 / (n - r) END AS weight
        FROM f ORDER BY k";
    let space = space(&rows, query);
    space.run(&[]).expect(0);
    let found = space.rows("data/q.jsonl");
    let wanted = [0.8 / 3.0, 0.8 / 3.0, 0.8 / 3.0, 0.2, 1.0];
    for (row, wanted) in found.iter().zip(wanted) {
        near(row, "weight", wanted, 9);
    }
}
