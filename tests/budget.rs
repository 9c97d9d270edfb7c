//! A run that is to keep to a budget, a trial, and the choice of what runs.

mod support;

use serde_json::Value;
use support::{Simulator, TestSpace};

const PRICE: &str = "price = { input = 100.0, output = 400.0 }\n";

fn space(simulator: &Simulator) -> TestSpace {
    let space = TestSpace::new();
    let repo = simulator.get("/_repos")[0].as_str().expect("a repository").to_owned();
    space.write(
        "pipeline.toml",
        format!(
            r#"
[pipeline]
name = "budget"
[github]
base_url = "{0}/github"
[models.small]
base_url = "{0}/v1"
model = "tiny"
max_tokens = 50
{PRICE}limits = {{ concurrency = 4 }}
[[tables.repos]]
repo = "{repo}"
[stages.items]
kind = "github"
inputs = ["repos"]
list = "/repos/{{{{ repo }}}}/issues?state=all&per_page=20"
pick = "{{id: .node_id, number, title}}"
key = ["id"]
outputs = ["data/items.jsonl"]
[stages.label]
kind = "llm"
inputs = ["items"]
model = "small"
prompt = "p.md"
keep = ["number"]
outputs = ["data/labels.json"]
[stages.count]
kind = "sql"
inputs = ["label"]
query = "SELECT count(*) AS n FROM label"
key = ["n"]
outputs = ["data/count.csv"]
[stages.other]
kind = "sql"
inputs = ["items"]
query = "SELECT number FROM items"
key = ["number"]
"#,
            simulator.address
        ),
    );
    space.write("p.md", "Label {{ title }}");
    space
}

fn simulator() -> Simulator {
    Simulator::start(&["--repos", "1", "--items", "60", "--seed", "5"])
}

fn planned(space: &TestSpace, arguments: &[&str]) -> Value {
    let arguments: Vec<&str> = ["plan", "--json"].iter().chain(arguments).copied().collect();
    space.flow(&arguments).expect(0).json()
}

#[test]
fn so_many_calls_and_no_more() {
    let simulator = simulator();
    let space = space(&simulator);
    // What is left can be told exactly once the lists are there.
    space.run(&["items"]).expect(0);
    let ran = space.run(&["--max-calls", "20"]).expect(3);
    assert_eq!((simulator.total(), ran.json()["calls"].as_u64()), (23, Some(20)));
    assert!(ran.stderr.contains("what is left"), "{}", ran.stderr);
    assert_eq!(planned(&space, &[])["calls"], 40);
    let rest = space.run(&["--max-calls", "40"]).expect(0);
    assert_eq!((simulator.total(), rest.json()["calls"].as_u64()), (63, Some(40)));
}

#[test]
fn so_much_money_and_no_more() {
    let simulator = simulator();
    let space = space(&simulator);
    let ran = space.run(&["--max-cost", "0.30"]).expect(3);
    let spent = ran.json()["cost_usd"].as_f64().expect("a number");
    assert!(spent > 0.1 && spent <= 0.30, "{spent}");
    assert!(ran.stderr.contains("$0.3"), "{}", ran.stderr);
    space.edit("pipeline.toml", PRICE, "");
    let ran = space.run(&["--max-cost", "0.30"]).expect(2);
    assert!(ran.stderr.contains("`price`"), "{}", ran.stderr);
}

#[test]
fn what_may_go_into_the_providers_cache_is_set_aside_at_that_price() {
    let simulator = simulator();
    let space = space(&simulator);
    space.run(&["items"]).expect(0);
    let ran = space.run(&["--max-cost", "0.04"]).expect(3);
    // How many fit beside each other depends on what those before them turned out to cost.
    assert!(ran.json()["calls"].as_u64() > Some(0));
    let dear = "price = { input = 100.0, output = 400.0, cache_write = 1000.0 }\n";
    space.edit("pipeline.toml", PRICE, dear);
    let ran = space.run(&["--max-cost", "0.04"]).expect(3);
    assert_eq!(ran.json()["calls"], 0, "one alone might cost more");
}

#[test]
fn a_run_does_what_the_plan_said() {
    let simulator = simulator();
    let space = space(&simulator);
    let plan = planned(&space, &[]);
    assert_eq!(plan["stages"][0]["calls"], 1);
    assert!(plan["stages"][0]["bound"].is_string(), "a list may have more pages: {plan}");
    assert_eq!(simulator.total(), 0, "a plan calls nobody");
    assert!(!space.exists("cache"), "and writes nothing");
    space.run(&[]).expect(0);
    space.write("p.md", "Please label {{ title }}");
    let plan = planned(&space, &[]);
    assert_eq!(plan["stages"][1]["rows_to_run"], 60);
    assert_eq!((&plan["calls"], &plan["exact"]), (&60.into(), &true.into()));
    assert!(plan["cost_usd"].as_f64() > Some(0.0));
    let ran = space.run(&[]).expect(0);
    assert_eq!(ran.json()["calls"], plan["calls"]);
    let plan = planned(&space, &[]);
    let states: Vec<&str> = plan["stages"]
        .as_array()
        .expect("stages")
        .iter()
        .filter_map(|stage| stage["state"].as_str())
        .collect();
    assert_eq!(states, ["up_to_date"; 4]);
}

#[test]
fn a_trial_is_paid_for_once_and_never_taken_for_the_whole() {
    let simulator = simulator();
    let space = space(&simulator);
    let ran = space.run(&["--limit", "5"]).expect(0);
    assert_eq!(ran.stage("items")["rows"], 5);
    assert_eq!(ran.json()["calls"], 6, "a page, and five rows");
    assert_eq!(space.rows("data/trial/labels.json").len(), 5);
    assert!(!space.exists("data/labels.json"));
    let ran = space.run(&[]).expect(0);
    assert_eq!(ran.stage("items")["rows"], 60);
    assert_eq!(ran.json()["calls"], 2 + 55, "only the rest");
    assert_eq!(space.rows("data/labels.json").len(), 60);
    assert_eq!(simulator.total(), 63);
}

#[test]
fn a_trial_asks_about_no_row_more() {
    let simulator = Simulator::start(&["--repos", "2", "--items", "60", "--seed", "5"]);
    let space = space(&simulator);
    let other = simulator.get("/_repos")[1].as_str().expect("a repository").to_owned();
    let row = format!("[[tables.repos]]\nrepo = \"{other}\"\n[stages.items]");
    space.edit("pipeline.toml", "[stages.items]", &row);
    space.edit("pipeline.toml", "per_page=20", "per_page=1");
    let ran = space.run(&["--limit", "5"]).expect(0);
    assert_eq!(ran.stage("items")["rows"], 10);
    assert_eq!((&ran.stage("label")["rows"], &ran.stage("label")["calls"]), (&5.into(), &5.into()));
}

#[test]
fn what_was_accepted_stays_so() {
    let simulator = simulator();
    let space = space(&simulator);
    let text = space.read("pipeline.toml");
    let second = text[text.find("[stages.label]").unwrap()..text.find("[stages.count]").unwrap()]
        .replace("stages.label", "stages.second")
        .replace("labels.json", "second.json")
        .replace("p.md", "q.md");
    space.write("pipeline.toml", format!("{text}{second}"));
    space.write("q.md", "Other {{ title }}");
    space.run(&[]).expect(0);
    space.write("p.md", "Label, please: {{ title }}");
    space.flow(&["accept", "label"]).expect(0);
    // The list is asked again while the accepted stage waits for it; another stage has new answers.
    space.run(&["--refresh", "items"]).expect(0);
    simulator.fault(serde_json::json!({
        "path": "/v1", "times": 1, "status": 200,
        "body": r#"{"choices": [{"message": {"content": "another"}, "finish_reason": "stop"}]}"#,
    }));
    space.run(&["--refresh", "second"]).expect(0);
    let asked = simulator.total();
    let ran = space.run(&[]).expect(0);
    assert!(ran.states().contains(&"label up_to_date".to_owned()), "{:?}", ran.states());
    assert_eq!(simulator.total(), asked);
    let wrong = space.run(&["--refresh", "count"]).expect(2);
    assert!(wrong.stderr.contains("asks nobody"), "{}", wrong.stderr);
}

#[test]
fn targets_choose_what_runs() {
    let simulator = simulator();
    let space = space(&simulator);
    let names = |ran: &support::Ran| -> Vec<String> {
        ran.states()
            .iter()
            .map(|state| state.split(' ').next().unwrap_or_default().into())
            .collect()
    };
    let ran = space.run(&["label", "--only"]).expect(1);
    assert!(ran.stage("label")["reason"].as_str().unwrap().contains("run it, too"));
    assert_eq!(names(&space.run(&["label"]).expect(0)), ["items", "label"]);
    assert_eq!(names(&space.run(&["data/count.csv"]).expect(0)), ["items", "label", "count"]);
    assert_eq!(names(&space.run(&["count", "--only"]).expect(0)), ["count"]);
    assert_eq!(names(&space.run(&["label+", "--only"]).expect(0)), ["label", "count"]);
    let all = ["items", "label", "count", "other"];
    assert_eq!(names(&space.run(&["items+"]).expect(0)), all);
    let asked = simulator.total();
    let forced = space.run(&["label", "--force"]).expect(0);
    assert_eq!(forced.states(), ["items up_to_date", "label ran"]);
    assert_eq!(forced.stage("label")["rows_run"], 60);
    assert_eq!(simulator.total(), asked, "never past the recorded answers");
    let wrong = space.run(&["labl"]).expect(2);
    assert!(wrong.stderr.contains("label"), "{}", wrong.stderr);
}

#[test]
fn the_first_failure_stops_the_run_where_it_is_told_to() {
    let simulator = simulator();
    let space = space(&simulator);
    space.edit(
        "pipeline.toml",
        "SELECT number FROM items",
        "SELECT 1 / 0 AS number, json('{') AS x",
    );
    let ran = space.run(&["--fail-fast"]).expect(1);
    assert!(ran.stderr.contains("stops at the first failure"), "{}", ran.stderr);
    let ran = space.run(&["--keep-going"]).expect(1);
    assert_eq!(ran.stage("count")["state"], "ran");
}

#[test]
fn a_stage_is_accepted_as_it_is() {
    let simulator = simulator();
    let space = space(&simulator);
    space.flow(&["accept", "label"]).expect(1);
    space.run(&[]).expect(0);
    let asked = simulator.total();
    space.write("p.md", "Label, please: {{ title }}");
    let why = space.flow(&["why", "label"]).expect(0);
    assert!(why.stdout.contains("would run: changed"), "{}", why.stdout);
    assert!(why.stdout.contains("Label, please"), "{}", why.stdout);
    space.flow(&["accept", "label"]).expect(0);
    let ran = space.run(&[]).expect(0);
    assert!(ran.states().iter().all(|state| state.ends_with("up_to_date")), "{ran:?}");
    assert_eq!(simulator.total(), asked);
    let log = space.flow(&["log"]).expect(0);
    assert!(log.stdout.contains("accept label"), "{}", log.stdout);
    let status = space.flow(&["status", "--json"]).expect(0).json();
    assert_eq!(status["stages"][1]["accepted"], true);
}

#[test]
fn a_row_is_told_with_all_that_it_came_from() {
    let simulator = simulator();
    let space = space(&simulator);
    space.run(&[]).expect(0);
    let why = space.flow(&["why", "label", "--row", "number=12", "--json"]).expect(0).json();
    assert_eq!(why["row"]["number"], 12);
    assert_eq!(why["comes_from"][0]["table"], "items");
    let call = &why["calls"][0];
    assert_eq!(call["id"], why["row"]["_call"]["id"]);
    let said = call["request"]["messages"][0]["content"].as_str().expect("a text");
    assert!(said.starts_with("Label "), "{said}");
    space.flow(&["why", "label", "--row", "number=1000"]).expect(2);
}

#[test]
fn answers_older_than_they_may_be_are_asked_for_again() {
    let simulator = simulator();
    let space = space(&simulator);
    let pick = "pick = \"{id: .node_id, number, title}\"";
    space.edit("pipeline.toml", pick, &format!("{pick}\nmax_age = \"1d\""));
    space.run(&[]).expect(0);
    let asked = simulator.total();
    space.run(&[]).expect(0);
    assert_eq!(simulator.total(), asked, "they are new");
    space.edit("pipeline.toml", "max_age = \"1d\"", "max_age = \"0s\"");
    let ran = space.run(&[]).expect(0);
    assert_eq!(ran.json()["calls"], 3, "the pages, with conditions");
    let items = ran.stage("items");
    assert_eq!((&items["state"], &items["rows_run"]), (&"up_to_date".into(), &0.into()));
}

#[test]
fn an_estimate_goes_by_what_answers_took_before() {
    let simulator = simulator();
    let space = space(&simulator);
    space.run(&["items"]).expect(0);
    let label = |plan: &Value| plan["stages"][1].clone();
    let before = label(&planned(&space, &["label"]));
    assert_eq!((&before["calls"], &before["tokens_out"]), (&60.into(), &(60 * 50).into()));
    space.run(&[]).expect(0);
    // Another prompt: as long an answer as before, and so many tokens for so many bytes.
    space.write("p.md", "Judge {{ title }}");
    let plan = label(&planned(&space, &["label"]));
    let ran = space.run(&["label"]).expect(0).stage("label");
    assert_eq!(plan["calls"], ran["calls"]);
    for what in ["tokens_in", "tokens_out", "cost_usd"] {
        let [foreseen, took] = [&plan, &ran].map(|of| of[what].as_f64().expect("a number"));
        assert!((foreseen / took - 1.0).abs() < 0.15, "{what}: {foreseen} foreseen, {took} it was");
    }
    // Of another model nothing is known.
    space.edit("pipeline.toml", "model = \"tiny\"", "model = \"huge\"");
    assert_eq!(label(&planned(&space, &["label"]))["tokens_out"], 60 * 50);
}
