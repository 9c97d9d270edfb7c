//! The sample: the whole study with no key and no network, as the README tells it.

mod support;

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;
use support::{TestSpace, repository, simulator_program};

/// The study, run offline in every sense: a proxy that refuses every connection stands in the way.
fn study() -> TestSpace {
    let mut space = TestSpace::study();
    space.env("NO_COLOR", "1");
    space.env("http_proxy", "http://127.0.0.1:9").env("https_proxy", "http://127.0.0.1:9");
    space
}

fn sample(space: &TestSpace) -> support::Ran {
    space.run(&["--profile", "sample"])
}

#[test]
fn it_writes_every_output_without_a_call_and_then_nothing_runs() {
    let space = study();
    let ran = sample(&space).expect(0);
    let json = ran.json();
    assert_eq!(json["calls"], 0);
    assert!(json["calls_cached"].as_u64() > Some(200));
    let states = ran.states();
    assert!(states.iter().all(|state| state.ends_with(" ran")), "{states:?}");
    let outputs = [
        ("llm_bugs", 53),
        ("analysis_cache", 53),
        ("merged_bug_results", 53),
        ("pull_requests", 23),
        ("issue_links", 13),
        ("issue_fix_links", 51),
        ("final_bug_results", 42),
        ("bug_diffs", 15),
        ("final_bug_results_with_root_cause", 13),
        ("root_cause_parts", 4),
        ("final_bug_results_with_root_cause_completed", 15),
        ("final_bug_results_with_root_cause_completed_symptom", 28),
        ("fixed_bug_content", 28),
        ("labels", 82),
        ("bugs", 28),
        ("calls", 4),
    ];
    for (output, rows) in outputs {
        assert_eq!(space.rows(&format!("data/sample/{output}.json")).len(), rows, "{output}");
    }
    let tables = [
        ("labels_to_fill", 53),
        ("people_agreement", 106),
        ("agreement", 165),
        ("scores", 10),
        ("disagreements", 3),
        ("confidence", 12),
        ("funnel", 10),
        ("symptoms_by_engine", 15),
        ("causes_by_symptom", 15),
        ("monthly", 207),
        ("trends", 9),
        ("effort", 6),
        ("coverage", 6),
        ("unread_labels", 4),
    ];
    for (output, rows) in tables {
        let text = space.read(&format!("data/sample/{output}.csv"));
        let records = csv::Reader::from_reader(text.as_bytes()).into_records().count();
        assert_eq!(records, rows, "{output}");
    }
    assert!(ran.stderr.contains("look at: data/sample/"), "{}", ran.stderr);
    let mut found: Vec<String> = std::fs::read_dir(space.path().join("data/sample"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.retain(|name| name != "logs");
    found.sort();
    assert_eq!(
        found.len(),
        outputs.len() + tables.len() + 2,
        "only outputs stand there: {found:?}"
    );

    let again = sample(&space).expect(0);
    assert_eq!(again.json()["calls_cached"], 0, "nothing is even looked up");
    let states = again.states();
    assert!(states.iter().all(|state| state.ends_with(" up_to_date")), "{states:?}");
}

#[test]
fn nobody_takes_an_answer_for_a_models() {
    let space = study();
    sample(&space).expect(0);
    for output in ["analysis_cache", "final_bug_results_with_root_cause", "root_cause_parts"] {
        let rows = space.rows(&format!("data/sample/{output}.json"));
        assert!(rows.iter().all(|row| row["_call"]["source"] == "authored"), "{output}");
    }
}

#[test]
fn issues_are_linked_to_their_fix_with_the_evidence() {
    let space = study();
    sample(&space).expect(0);
    let rows = space.rows("data/sample/final_bug_results.json");
    let fixed: Vec<_> =
        rows.iter().filter(|row| row["is_pr"] == false && row["is_fixed"] == true).collect();
    assert_eq!(fixed.len(), 13);
    // The strongest evidence for each; most were closed by the pull request that was merged.
    let site = "https://simulator.invalid/";
    let other = [
        // By a commit alone, and by one that came in with a pull request.
        ("ggml-org/llama.cpp/issues/1276", "/commit/9c3f1e07d2a84b65", "closing_event"),
        ("ggml-org/llama.cpp/issues/2417", "/pull/2431", "closing_event"),
        // It was merged when the issue was closed already.
        ("vllm-project/vllm/issues/4377", "/pull/4402", "closing_reference"),
        // It was merged into a release branch, where keywords close nothing.
        ("NVIDIA/TensorRT-LLM/issues/256", "/pull/263", "cross_referenced"),
        // The reporter says so, who also names one that was merged before: it broke it.
        ("deepspeedai/DeepSpeed/issues/3562", "/pull/3588", "mention"),
    ];
    for row in &fixed {
        let url = row["url"].as_str().unwrap().strip_prefix(site).unwrap();
        let told = other.iter().find(|(issue, ..)| *issue == url);
        let (_, fix, evidence) = told.unwrap_or(&("", "/pull/", "closing_event"));
        assert!(row["fixed_by"].as_str().unwrap().contains(fix), "{row}");
        assert_eq!(row["fixed_by_evidence"], *evidence, "{url}");
    }
    let statuses = |status: &str| rows.iter().filter(|row| row["pr_status"] == status).count();
    assert_eq!(statuses("Merged"), 15);
    assert!(statuses("Open") > 0 && statuses("Closed") > 0);
    // Labels are arrays again, not texts.
    assert!(rows.iter().all(|row| row["labels"].is_array() && row["merged"].is_boolean()));
}

#[test]
fn every_kind_of_evidence_is_told_in_its_order() {
    let space = study();
    sample(&space).expect(0);
    let rows = space.rows("data/sample/issue_fix_links.json");
    let kinds = [
        "closing_event",
        "closing_reference",
        "connected",
        "cross_referenced",
        "closing_keyword",
        "mention",
    ];
    let found: BTreeSet<(u64, &str)> = rows
        .iter()
        .map(|row| (row["strength"].as_u64().unwrap(), row["evidence"].as_str().unwrap()))
        .collect();
    assert_eq!(found, (1..).zip(kinds).collect());
    let links = |issue: &str, fix: &str| -> Vec<&str> {
        let ends = |row: &Value, name: &str, end| row[name].as_str().unwrap().ends_with(end);
        let rows = rows.iter();
        let rows = rows.filter(|row| ends(row, "issue_url", issue) && ends(row, "fix_url", fix));
        rows.map(|row| row["evidence"].as_str().unwrap()).collect()
    };
    assert_eq!(
        links("/vllm/issues/1127", "/vllm/pull/1140"),
        ["closing_event", "closing_reference", "closing_keyword", "mention"]
    );
    assert_eq!(
        links("/mlc-llm/issues/340", "/pull/347"),
        ["closing_event", "closing_reference", "connected"]
    );
    // A link that was taken away again is none.
    assert!(links("/TensorRT-LLM/issues/390", "/pull/263").is_empty());
    // That repository is not collected.
    let outside = "huggingface/text-generation-inference/pull/1118";
    assert_eq!(links("/vllm/issues/1127", outside), ["cross_referenced"]);
    assert!(rows.iter().all(|row| row["merged_at"].is_null() == row["fix_commit"].is_null()));
    let complete = space.rows("data/sample/issue_links.json");
    assert!(complete.iter().all(|row| row["links_complete"] == true));
}

#[test]
fn bots_are_marked_by_their_type_and_by_the_list() {
    let space = study();
    sample(&space).expect(0);
    let rows = space.rows("data/sample/merged_bug_results.json");
    let bots = rows.iter().filter(|row| row["is_bot"] == true);
    let bots: Vec<&str> = bots.map(|row| row["author"].as_str().unwrap()).collect();
    assert_eq!(bots, ["dependabot[bot]", "tensorrt-cicd"]);
}

#[test]
fn root_causes_occur_in_their_diffs() {
    let space = study();
    sample(&space).expect(0);
    let diffs = space.rows("data/sample/bug_diffs.json");
    let completed = space.rows("data/sample/final_bug_results_with_root_cause_completed.json");
    let in_parts: Vec<&Value> = completed.iter().filter(|row| row["parts"] == 2).collect();
    assert_eq!(in_parts.len(), 2, "two diffs are too long for one look");
    // The most relevant places first, whichever part they stand in.
    assert_eq!(in_parts[0]["root_causes"][1]["function"], "destroy", "{}", in_parts[0]);
    for row in &completed {
        let diff = diffs.iter().find(|diff| diff["id"] == row["id"]).unwrap();
        let diff = diff["diff"].as_str().unwrap();
        let causes = row["root_causes"].as_array().unwrap();
        assert!((1..=3).contains(&causes.len()));
        for cause in causes {
            assert!(diff.contains(cause["file"].as_str().unwrap()));
            assert!(diff.contains(cause["function"].as_str().unwrap()));
        }
    }
}

#[test]
fn the_first_edits_work_without_a_key() {
    let space = study();
    sample(&space).expect(0);
    let first = space.read("data/sample/analysis_cache.json");

    // An engine more.
    let more = "\n[[profiles.sample.tables.engines]]\nengine = \"text-generation-inference\"\n\
                repo = \"huggingface/text-generation-inference\"\n";
    space.write("pipeline.toml", format!("{}{more}", space.read("pipeline.toml")));
    let ran = sample(&space).expect(0);
    assert_eq!(ran.json()["calls"], 0);
    assert_eq!(ran.stage("items")["rows"], 63);
    assert_eq!(
        (&ran.stage("items")["rows_run"], &ran.stage("items")["rows_memo"]),
        (&1.into(), &5.into())
    );
    assert_eq!(
        (&ran.stage("classify")["rows_run"], &ran.stage("classify")["rows_memo"]),
        (&10.into(), &53.into())
    );

    // Another prompt, and the old one back.
    let six = space.read("data/sample/analysis_cache.json");
    assert!(six.len() > first.len());
    space.edit("pipeline.toml", "prompts/classify.md", "prompts/classify.strict.md");
    let ran = sample(&space).expect(0);
    assert_eq!(ran.json()["calls"], 0);
    assert_eq!(ran.stage("classify")["rows_run"], 63);
    assert_ne!(space.read("data/sample/analysis_cache.json"), six);
    space.edit("pipeline.toml", "prompts/classify.strict.md", "prompts/classify.md");
    let ran = sample(&space).expect(0);
    assert_eq!(ran.stage("classify")["state"], "restored");
    assert_eq!(ran.json()["calls_cached"], 0);
    assert_eq!(space.read("data/sample/analysis_cache.json"), six);

    // A stage more, as the README has it.
    let readme = std::fs::read_to_string(repository().join("README.md")).unwrap();
    let start = readme.find("[stages.bugs_per_engine]").expect("the README's stage");
    let stage = &readme[start..start + readme[start..].find("```").unwrap()];
    space.edit(
        "pipeline.toml",
        "# A study of invented",
        &format!("{stage}\n# A study of invented"),
    );
    let ran = sample(&space).expect(0);
    assert_eq!(ran.stage("bugs_per_engine")["state"], "ran");
    assert_eq!(ran.stage("items")["state"], "up_to_date");
    let table = space.read("data/sample/bugs_per_engine.csv");
    assert_eq!(table.lines().count(), 7, "{table}");
    assert!(table.starts_with("engine,bugs,fixed\n"), "{table}");
}

#[test]
fn a_call_that_is_not_in_the_recording_is_named() {
    let space = study();
    let more = "\n[[profiles.sample.tables.engines]]\nengine = \"x\"\nrepo = \"nobody/nothing\"\n";
    space.write("pipeline.toml", format!("{}{more}", space.read("pipeline.toml")));
    let ran = sample(&space).expect(1);
    assert_eq!(ran.json()["calls"], 0);
    let failed = space.rows("data/sample/llm_bugs.json.failed.jsonl");
    let reason = failed[0]["_failed"]["reason"].as_str().unwrap();
    assert!(reason.contains("/repos/nobody/nothing/issues"), "{reason}");
    assert!(ran.stderr.contains("1 row of `items` failed"), "{}", ran.stderr);
}

#[test]
fn the_recording_is_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let fresh = folder.path().join("cassette.jsonl");
    let recorded = Command::new(repository().join("samples/record.sh"))
        .arg(&fresh)
        .env("FLOW", env!("CARGO_BIN_EXE_flow"))
        .env("FLOW_SIMULATOR", simulator_program())
        .output()
        .unwrap();
    assert!(recorded.status.success(), "{}", String::from_utf8_lossy(&recorded.stderr));
    let committed = std::fs::read(repository().join("samples/cassette.jsonl")).unwrap();
    assert!(
        std::fs::read(&fresh).unwrap() == committed,
        "samples/cassette.jsonl is out of date: run samples/record.sh"
    );
}

#[test]
fn the_picture_is_up_to_date() {
    let drawn = study().flow(&["graph", "--format", "svg"]).expect(0).stdout;
    let picture = std::fs::read_to_string(repository().join("docs/graph.svg")).unwrap();
    assert!(drawn == picture, "run `flow graph --format svg > docs/graph.svg`");
}
