//! Reports: whole in one file, safe whoever wrote what they show, the same bytes whenever they are made,
//! each chart's legend bound to its series, and their numbers as another program computes them.

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use support::chromium::Chromium;
use support::{Simulator, TestSpace, missing, repository};

const HTML: &str = "data/sample/report.html";
const MARKDOWN: &str = "data/sample/report.md";

fn sample() -> TestSpace {
    let mut space = TestSpace::study();
    space.env("NO_COLOR", "1");
    space.run(&["--profile", "sample"]).expect(0);
    space
}

fn chromium() -> Option<Chromium> {
    let found = Chromium::find();
    if found.is_none() {
        missing("Chromium; tests/real/install-chromium.sh installs it");
    }
    found
}

/// Recomputes a report's numbers; what the script said, and whether all are the same.
fn recomputed(data: &Path, labels: &Path) -> Option<(bool, String)> {
    let script = repository().join("tests/support/recompute.py");
    let mut command = Command::new("python3");
    command.arg(script).arg(data).arg(labels).arg(repository().join("schemas"));
    let Ok(output) = command.output() else {
        missing("python3, which recomputes the report's numbers");
        return None;
    };
    let said = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

#[test]
fn the_samples_numbers_are_as_another_program_computes_them() {
    let space = sample();
    let (data, labels) =
        (space.path().join("data/sample"), space.path().join("samples/labels.csv"));
    let Some((same, said)) = recomputed(&data, &labels) else { return };
    assert!(same, "{said}");
    let compared: usize = said.split(' ').next().and_then(|it| it.parse().ok()).expect("a number");
    assert!(compared > 700, "{said}");
    // What is wrong is found.
    let right = space.read(MARKDOWN);
    for (from, to, told) in [
        ("| about a bug | 42 |", "| about a bug | 43 |", "funnel, about a bug"),
        (
            "| krippendorff\\_alpha | 0.880 |",
            "| krippendorff\\_alpha | 0.280 |",
            "krippendorff_alpha",
        ),
        ("Of the 16 fixed bugs", "Of the 61 fixed bugs", "no caption says"),
        ("11 open; 3 pull", "10 open; 4 pull", "funnel: `10 open"),
        ("error is 0.052 over", "error is 0.520 over", "calibration error"),
    ] {
        assert!(right.contains(from), "{from}");
        space.write(MARKDOWN, right.replacen(from, to, 1));
        let (same, said) = recomputed(&data, &labels).expect("it ran before");
        assert!(!same && said.contains(told), "{from}: {said}");
    }
}

/// What a page tells of its charts.
const CHARTS: &str = r#"
[...document.querySelectorAll("figure.chart")].map(figure => {
  const svg = figure.querySelector("svg");
  const colour = mark => {
    const style = getComputedStyle(mark);
    return style.fill === "none" ? style.stroke : style.fill;
  };
  const marks = {};
  for (const mark of svg.querySelectorAll("[data-value]")) {
    const name = mark.dataset.series;
    (marks[name] ??= new Set()).add(colour(mark));
  }
  const legend = [...svg.querySelectorAll("g.legend")].map(entry => {
    const swatch = entry.querySelector("rect, line, circle, path");
    return [entry.dataset.series, colour(swatch), entry.querySelector("text").textContent];
  });
  const box = svg.getBoundingClientRect();
  return {
    id: figure.id,
    heat: svg.querySelectorAll("g.legend").length === 0,
    width: box.width, height: box.height,
    caption: figure.querySelector("figcaption").textContent,
    marks: Object.entries(marks).map(([name, colours]) => [name, [...colours]]),
    values: [...svg.querySelectorAll("[data-value]")].map(mark =>
      [mark.dataset.label, mark.dataset.series, mark.dataset.value]),
    legend,
  };
})
"#;

#[test]
fn each_chart_is_there_and_its_legend_is_bound_to_its_series() {
    let Some(chromium) = chromium() else { return };
    let space = sample();
    let page = chromium.open(&space.path().join(HTML), CHARTS);
    assert_eq!(page.console, [""; 0], "nothing went wrong in the page");
    let charts: Vec<Value> = serde_json::from_str(&page.value).expect("JSON");
    assert_eq!(charts.len(), 6, "{}", page.value);
    let mut with_legend = 0;
    for chart in &charts {
        let caption = chart["caption"].as_str().expect("a caption");
        assert!(chart["width"].as_f64() > Some(200.0) && chart["height"].as_f64() > Some(60.0));
        assert!(caption.contains("Of ") && caption.contains("digest"), "{caption}");
        assert!(!chart["values"].as_array().expect("values").is_empty(), "{caption}");
        if chart["heat"] == true {
            continue;
        }
        with_legend += 1;
        let marks: BTreeMap<String, Vec<String>> =
            serde_json::from_value(json!(pairs(&chart["marks"]))).expect("marks");
        let legend = chart["legend"].as_array().expect("a legend");
        assert_eq!(legend.len(), marks.len(), "{caption}: an entry a series");
        for entry in legend {
            let [name, colour, text] = [0, 1, 2].map(|at| entry[at].as_str().expect("a text"));
            assert_eq!(marks[name], [colour], "{caption}: `{name}` has the colour of its entry");
            let shown = text.trim_end_matches('…');
            assert!(!shown.is_empty() && name.starts_with(shown), "{caption}: {name}, {text}");
        }
        let colours: std::collections::BTreeSet<&Vec<String>> = marks.values().collect();
        assert_eq!(colours.len(), marks.len(), "{caption}: no two series look alike");
    }
    assert_eq!(with_legend, 4);
    // The numbers in the picture are those of the table that it is made from.
    let status = charts[0]["values"].as_array().expect("values");
    let shares: f64 = status
        .iter()
        .filter(|value| value[0] == "llama.cpp")
        .map(|value| value[2].as_str().expect("a number").parse::<f64>().expect("a number"))
        .sum();
    assert!((shares - 1.0).abs() < 1e-6, "{shares}");
    for dark in [false, true] {
        let name = if dark { "dark" } else { "light" };
        let to = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("report-{name}.png"));
        chromium.screenshot(&space.path().join(HTML), 1000, 4000, dark, &to);
        assert!(std::fs::metadata(&to).expect("a picture").len() > 50_000);
    }
}

fn pairs(value: &Value) -> serde_json::Map<String, Value> {
    let pairs = value.as_array().expect("pairs").iter();
    pairs.map(|pair| (pair[0].as_str().expect("a name").to_owned(), pair[1].clone())).collect()
}

#[test]
fn the_real_issues_make_a_report_too() {
    let Some(folder) = std::env::var_os("FLOW_TEST_DATA") else {
        missing("FLOW_TEST_DATA names no folder with real issues");
        return;
    };
    let Some(chromium) = chromium() else { return };
    let issues = PathBuf::from(folder).join("llm-serving-issues.jsonl.gz").canonicalize();
    let issues = issues.expect("the real issues");
    let simulator = Simulator::start(&["--data", issues.to_str().expect("UTF-8")]);
    let mut space = TestSpace::study();
    space.env("NO_COLOR", "1").env("GITHUB_TOKEN", "t").env("OPENAI_API_KEY", "k");
    let text = space.read("pipeline.toml");
    let (study, _) = text.split_once("# A study of invented items").expect("the sample's profile");
    let address = &simulator.address;
    let real = format!(
        r#"
[profiles.real.github]
base_url = "{address}/github"
[profiles.real.models.small]
base_url = "{address}/v1"
limits = {{ concurrency = 32 }}
[[profiles.real.tables.engines]]
engine = "vLLM"
repo = "vllm-project/vllm"
"#
    );
    space.write("pipeline.toml", format!("{study}{real}"));
    let ran = space.run(&["--profile", "real"]).expect(0);
    assert_eq!(ran.stage("items")["rows"], 1416);
    let (data, labels) = (space.path().join("data"), space.path().join("labels/human.csv"));
    if let Some((same, said)) = recomputed(&data, &labels) {
        assert!(same, "{said}");
    }
    let page = chromium.open(&space.path().join("data/report.html"), CHARTS);
    assert_eq!(page.console, [""; 0]);
    let charts: Vec<Value> = serde_json::from_str(&page.value).expect("JSON");
    assert!(charts.len() >= 4, "{}", page.value);
    let told = space.read("data/report.md");
    assert!(told.contains("1,416 issues and pull requests of 1 engine"), "{told}");
    assert!(told.contains("Nobody has labelled anything yet"), "{told}");
}

#[test]
fn the_same_inputs_give_the_same_bytes_wherever_and_whenever() {
    let (one, other) = (sample(), sample());
    for file in [HTML, MARKDOWN] {
        assert_eq!(one.read(file), other.read(file), "{file}");
    }
    let again = one.run(&["--profile", "sample"]).expect(0);
    assert_eq!(again.stage("report")["state"], "up_to_date");
    // Another template, and the old one again.
    let made = one.read(MARKDOWN);
    one.edit("templates/report.md", "## Symptoms", "## What is seen");
    let edited = one.run(&["--profile", "sample"]).expect(0);
    assert_eq!(edited.json()["calls"], 0);
    assert_eq!(edited.stage("labels")["state"], "up_to_date");
    assert!(one.read(HTML).contains("What is seen"));
    one.edit("templates/report.md", "## What is seen", "## Symptoms");
    let back = one.run(&["--profile", "sample"]).expect(0);
    assert_eq!(back.stage("report")["state"], "restored");
    assert_eq!(one.read(MARKDOWN), made);
}

#[test]
fn the_page_fetches_nothing() {
    let html = sample().read(HTML);
    for sign in ["src=\"http", "url(http", "<script", "<link", "@import", "<iframe"] {
        assert!(!html.contains(sign), "{sign}");
    }
    assert!(html.contains("default-src 'none'"));
}

/// A report on rows that are written in a file.
fn space(template: &str, rows: &[Value]) -> TestSpace {
    let mut space = TestSpace::new();
    space.env("NO_COLOR", "1");
    space.write(
        "pipeline.toml",
        r#"
[pipeline]
name = "test"
[stages.rows]
kind = "sql"
inputs = ["all.jsonl"]
query = "SELECT * FROM \"all\""
key = ["id"]
outputs = ["data/rows.jsonl"]
[stages.report]
kind = "report"
inputs = ["rows"]
template = "report.md"
outputs = ["data/report.html", "data/report.md"]
"#,
    );
    let rows: String = rows.iter().map(|row| format!("{row}\n")).collect();
    space.write("all.jsonl", rows);
    space.write("report.md", template);
    space
}

#[test]
fn what_strangers_write_is_text_in_the_page_and_in_markdown() {
    let Some(chromium) = chromium() else { return };
    let hostile = [
        "<script>document.title = 'taken'</script>",
        "<img src=x onerror=\"document.title = 'taken'\">",
        "</title></svg><script>document.title = 'taken'</script>",
        "[click](javascript:document.title='taken')",
        "a | b\n\n# heading\n```\ncode",
        "\u{1b}]0;taken\u{7}\u{202e}evil",
    ];
    let rows: Vec<Value> = hostile
        .iter()
        .enumerate()
        .map(|(id, text)| json!({"id": id, "what": text, "n": id + 1, "side": text}))
        .collect();
    let template = r#"# Report {{ rows[0].what }}

{% for row in rows %}
- {{ row.what }}
{% endfor %}

{{ rows[0].what|code }}

{{ table(rows, caption=rows[1].what, of=rows[2].what) }}

{{ bars(rows, x="what", y="n", series="side", caption="b", of="all") }}

{{ heat(rows, x="what", y="n", series="side", caption="h", of="all") }}

{{ lines(rows, x="what", y="n", series="side", caption="l", of="all") }}
"#;
    let space = space(template, &rows);
    space.run(&[]).expect(0);
    let script = r#"[document.title, document.querySelectorAll("script:not(:last-of-type), img, iframe").length,
      document.querySelectorAll("main li").length, document.querySelectorAll("main h1, main h2").length,
      [...document.links].map(link => link.protocol), document.querySelectorAll("td a").length]"#;
    let page = chromium.open(&space.path().join("data/report.html"), script);
    assert_eq!(page.console, [""; 0]);
    let found: Value = serde_json::from_str(&page.value).expect("JSON");
    assert!(found[0].as_str().is_some_and(|title| title.starts_with("Report <script>")), "{found}");
    assert_eq!(found[1], 0, "no element of theirs: {found}");
    assert_eq!((&found[2], &found[3]), (&json!(6), &json!(1)), "{found}");
    assert_eq!(found[4], json!([]), "{found}");
    let markdown = space.read("data/report.md");
    assert!(!markdown.contains('\u{1b}') && !markdown.contains('\u{202e}'));
    let lines: Vec<&str> = markdown.lines().filter(|line| line.starts_with("- ")).collect();
    assert_eq!(lines.len(), 6, "{markdown}");
    assert!(lines.iter().all(|line| !line.contains("](") || line.contains("\\]")), "{markdown}");
}

#[test]
fn every_number_says_of_what_it_is_and_where_it_comes_from() {
    let rows: Vec<Value> = (0..3).map(|id| json!({"id": id, "n": id})).collect();
    let space = space("# R\n\n{{ table(rows, caption=\"All\", of=\"three\") }}\n", &rows);
    space.run(&[]).expect(0);
    let digest = blake3_of(&space.path().join("data/rows.jsonl"));
    let told = space.read("data/report.md");
    assert!(told.contains("*Of three. From `rows`, digest `"), "{told}");
    assert!(told.contains(&digest[..16]), "{told} {digest}");
    // As the report of the study tells people to look.
    let shown = space.flow(&["show", "rows", "--format", "jsonl"]).expect(0).stdout;
    assert_eq!(blake3::hash(shown.as_bytes()).to_hex().to_string(), digest);

    for (template, says) in [
        ("{{ table(rows, caption=\"All\") }}", "missing keyword argument 'of'"),
        ("{{ table(rows, caption=\"All\", of=\" \") }}", "`of` says what the numbers are"),
        ("{{ table(rows, colums=[\"n\"], caption=\"All\", of=\"x\") }}", "colums"),
        ("{{ table(rows, columns=[\"m\"], caption=\"A\", of=\"x\") }}", "no column `m`"),
        ("{{ table(5, caption=\"All\", of=\"x\") }}", "one of the inputs"),
        ("{{ bars(rows, x=\"id\", y=\"nn\", caption=\"A\", of=\"x\") }}", "did you mean `n`"),
        (
            "{{ bars(rows, x=\"n\", y=\"n\", series=\"id\", number=\"%\", caption=\"A\", of=\"x\") }}",
            "count, share or plain",
        ),
    ] {
        space.write("report.md", format!("# R\n\n{template}\n"));
        let ran = space.run(&[]).expect(1);
        let reason = ran.stage("report")["reason"].to_string();
        assert!(reason.contains(says), "{template}: {reason}");
        assert!(reason.contains("report.md:3"), "{template}: {reason}");
    }
}

/// As `b3sum` tells it.
fn blake3_of(file: &Path) -> String {
    let bytes = std::fs::read(file).expect("an output");
    blake3::hash(&bytes).to_hex().to_string()
}

#[test]
fn mistakes_are_told_before_anything_runs() {
    let space = space("# R\n\n{{ row|length }}\n", &[json!({"id": 1})]);
    let told = space.flow(&["check"]).expect(2).stderr;
    assert!(told.contains("`row` is no input of stage `report`"), "{told}");
    assert!(told.contains("did you mean `rows`?") && told.contains("report.md:3"), "{told}");
    space.write("report.md", "# R\n\n{{ table(rows }}\n");
    let told = space.flow(&["check"]).expect(2).stderr;
    assert!(told.contains("report.md:3"), "{told}");
    space.write("report.md", "# R\n");
    space.edit("pipeline.toml", "data/rows.jsonl", "data/rows.html");
    let told = space.flow(&["check"]).expect(2).stderr;
    assert!(told.contains("rows go into .json, .jsonl or .csv"), "{told}");
    space.edit("pipeline.toml", "data/rows.html", "data/rows.jsonl");
    space.edit("pipeline.toml", "data/report.md", "data/report.pdf");
    let told = space.flow(&["check"]).expect(2).stderr;
    assert!(told.contains("none of .html, .md, "), "{told}");
}

#[test]
fn a_table_that_nobody_would_read_is_not_shown() {
    let rows: Vec<Value> = (0..5001).map(|id| json!({"id": id})).collect();
    let space = space("# R\n\n{{ rows.count }} rows\n", &rows);
    space.run(&[]).expect(0);
    assert!(space.read("data/report.md").contains("5,001 rows"));
    space.write("report.md", "# R\n\n{{ table(rows, caption=\"All\", of=\"all\") }}\n");
    let reason = space.run(&[]).expect(1).stage("report")["reason"].to_string();
    assert!(reason.contains("5001 rows") && reason.contains("kind `sql`"), "{reason}");
    // It can be gone through all the same.
    space.write("report.md", "# R\n\n{{ rows|length }} {{ rows|sum(attribute=\"id\") }}\n");
    space.run(&[]).expect(0);
    assert!(space.read("data/report.md").contains("5,001 12,502,500"));
}

#[test]
fn a_table_that_cannot_be_read_whole_is_not_taken_for_an_empty_one() {
    let space = space("# R\n\n{{ rows|length }}\n", &[json!({"id": 0})]);
    let many = "WITH RECURSIVE n(id) AS (SELECT 0 UNION ALL SELECT id + 1 FROM n WHERE id < 200000) SELECT n.id FROM n, \\\"all\\\" LIMIT 200001";
    space.edit("pipeline.toml", "SELECT * FROM \\\"all\\\"", many);
    let reason = space.run(&[]).expect(1).stage("report")["reason"].to_string();
    assert!(reason.contains("report.md:3"), "{reason}");
}

#[test]
fn the_calls_are_told_as_the_rows_stand_on_them() {
    let space = sample();
    let calls = space.rows("data/sample/calls.json");
    let rows = space.rows("data/sample/analysis_cache.json");
    let told = calls.iter().find(|row| row["stage"] == "classify").expect("classify");
    let sum = |name: &str| rows.iter().map(|row| row["_call"][name].as_u64().unwrap()).sum::<u64>();
    assert_eq!(told["calls"], rows.len());
    assert_eq!(told["tokens_in"], sum("tokens_in"));
    assert_eq!(told["tokens_out"], sum("tokens_out"));
    // 0.40 USD a million tokens in, 1.60 out.
    let cost = (sum("tokens_in") as f64 * 0.40 + sum("tokens_out") as f64 * 1.60) / 1e6;
    assert!((told["cost_usd"].as_f64().expect("a cost") - cost).abs() < 1e-8);
    assert_eq!(told["settings"], json!({"temperature": 0.0, "max_tokens": 1000}));
    assert_eq!(told["prompt"], space.read("prompts/classify.md"));
    assert_eq!((&told["first"], &told["unrecorded"]), (&json!("2025-01-01"), &json!(0)));
    // A stage that asks no model is no input of it.
    space.edit(
        "pipeline.toml",
        "inputs = [\"classify\", \"root_cause\",",
        "inputs = [\"items\", \"root_cause\",",
    );
    let told = space.flow(&["check", "--profile", "sample"]).expect(2).stderr;
    assert!(told.contains("`items` is no stage that asks a model"), "{told}");
}

/// A line of people's labels as two people would write it.
fn two(url: &str, is_bug: &str, symptom: &str) -> String {
    format!("{url},Ann,{is_bug},{symptom}\n{url},Bob,{is_bug},{symptom}\n")
}

#[test]
fn people_win_and_nothing_is_overwritten() {
    let space = sample();
    let find = |space: &TestSpace, variable: &str, url: &str| {
        let labels = space.rows("data/sample/labels.json");
        let mut found = labels.into_iter();
        let is = |row: &Value| row["variable"] == variable && row["url"] == url;
        found.find(is).unwrap_or(Value::Null)
    };
    let labels = space.rows("data/sample/labels.json");
    let disagree = labels.iter().find(|row| row["label_by"] == "model, people disagree");
    let disagree = disagree.expect("people disagree on one");
    assert_eq!(disagree["label"], disagree["model"]);
    let [variable, url] = ["variable", "url"].map(|name| disagree[name].as_str().expect("a text"));
    // A third record decides; the two stay.
    let label = if variable == "is_bug_related" { "false," } else { ",runtime crash" };
    let text = space.read("samples/labels.csv");
    space.write("samples/labels.csv", format!("{text}{url},Adjudicated,{label}\n"));
    let ran = space.run(&["--profile", "sample"]).expect(0);
    assert_eq!(ran.json()["calls"], 0);
    let decided = find(&space, variable, url);
    assert_eq!((&decided["label_by"], &decided["opinions"]), (&json!("adjudicated"), &json!(2)));
    assert_eq!((&decided["model"], &decided["label"]), (&disagree["model"], &decided["people"]));
    let listed = space.read("data/sample/disagreements.csv");
    assert!(listed.contains(url), "what was settled stays listed: {listed}");
}

#[test]
fn what_people_say_decides_what_is_counted() {
    let space = sample();
    let step = |space: &TestSpace, name: &str| {
        let text = space.read(MARKDOWN);
        let line = text.lines().find(|line| line.starts_with(&format!("| {name} |"))).expect(name);
        line.split('|').nth(2).expect("a number").trim().parse::<u64>().expect("a number")
    };
    let bugs = space.rows("data/sample/bugs.json");
    let told = |name: &str| {
        bugs.iter().filter(|row| row["left_out"] == Value::Null && row["symptom"] == name).count()
    };
    let (before, crashes) = (step(&space, "about a bug"), told("Runtime Crash"));
    assert_eq!(
        step(&space, "bugs that are told of") as usize,
        bugs.iter().filter(|it| it["left_out"] == Value::Null).count()
    );
    let taken: Vec<String> = space
        .read("samples/labels.csv")
        .lines()
        .map(|line| line.split(',').next().unwrap().to_owned())
        .collect();
    let crash = bugs.iter().find(|row| {
        row["symptom"] == "Runtime Crash"
            && row["is_pr"] == true
            && !taken.contains(&row["url"].as_str().unwrap().to_owned())
    });
    let crash = crash.expect("a crash that nobody labelled")["url"].as_str().unwrap();
    assert!(crashes > 0);
    // Two people say that it is none, in words and an address of their own.
    let text = space.read("samples/labels.csv");
    space.write(
        "samples/labels.csv",
        text.clone() + &two(&format!("{}/", crash.to_uppercase()), "No", ""),
    );
    let ran = space.run(&["--profile", "sample"]).expect(0);
    assert_eq!(ran.json()["calls"], 0);
    assert_eq!(step(&space, "about a bug"), before - 1);
    // And that another is no bug by its symptom.
    let other = bugs.iter().find(|row| {
        row["is_pr"] == true
            && row["url"] != *crash
            && !taken.contains(&row["url"].as_str().unwrap().to_owned())
    });
    let other = other.expect("another")["url"].as_str().unwrap();
    space.write("samples/labels.csv", text.clone() + &two(other, "", "feature request"));
    space.run(&["--profile", "sample"]).expect(0);
    assert!(!space.read("data/sample/trends.csv").contains("Feature Request"));
    let data = space.path().join("data/sample");
    if let Some((same, said)) = recomputed(&data, &space.path().join("samples/labels.csv")) {
        assert!(same, "{said}");
    }
    // What cannot be read is told, with its line.
    let lines = text.lines().count();
    let odd = [
        "https://simulator.invalid/none/none/issues/1,Ann,true,".to_owned(),
        format!("{crash},Ann,perhaps,"),
        format!("{crash},,true,"),
        format!("{crash},Cid,,Rumtime Crash"),
    ];
    space.write("samples/labels.csv", text + &odd.join("\n"));
    space.run(&["--profile", "sample"]).expect(0);
    let unread = space.read("data/sample/unread_labels.csv");
    for (at, says) in [
        "no such item was collected",
        "`perhaps` is neither true nor false",
        "it does not say who",
        "`Rumtime Crash` is none of the symptoms",
    ]
    .iter()
    .enumerate()
    {
        let line = unread.lines().find(|line| line.starts_with(&format!("{},", lines + 1 + at)));
        assert!(line.is_some_and(|line| line.contains(says)), "{says}: {unread}");
    }
    assert!(space.read(MARKDOWN).contains("is none of the symptoms"));
}

#[test]
fn the_sample_counts_each_bug_once() {
    let bugs = sample().rows("data/sample/bugs.json");
    let left_out = bugs.iter().filter(|row| row["left_out"] == "its fix is counted");
    assert!(left_out.clone().count() > 5);
    assert!(left_out.clone().all(|row| row["is_pr"] == false));
}

#[test]
fn what_is_included_is_told_by_its_path_in_the_project_wherever_one_stands() {
    let space = sample();
    space.write("prompts/inner.md", "Look twice.\n");
    let text = space.read("prompts/symptom.md");
    space.write(
        "prompts/symptom.md",
        format!("{{% if false %}}{{% include \"prompts/inner.md\" %}}{{% endif %}}{text}"),
    );
    space.run(&["--profile", "sample", "calls"]).expect(0);
    let here = space.read("data/sample/calls.json");
    assert!(here.contains("[prompts/inner.md]\\nLook twice."), "{here}");
    let path = space.path().to_str().expect("UTF-8").to_owned();
    std::fs::remove_file(space.path().join("data/sample/calls.json")).expect("removed");
    let elsewhere = TestSpace::new();
    let manifest = format!("{path}/pipeline.toml");
    elsewhere.run(&["-f", &manifest, "--profile", "sample", "calls"]).expect(0);
    assert_eq!(space.read("data/sample/calls.json"), here);
}
