//! The law that all of the engine serves: whatever was edited in whatever order, what an incremental
//! run leaves is byte for byte what a run from scratch over the same recorded answers leaves.

mod support;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use support::{Simulator, TestSpace};

/// What a person, or GitHub, may do between two runs.
#[derive(Clone, Debug)]
enum Edit {
    Prompt(u8),
    Include(u8),
    Pick(u8),
    Keep(bool),
    Where(bool),
    Query(u8),
    Schema(bool),
    Temperature(u8),
    Concurrency(u8),
    Repositories(u8),
    Labels(u8),
    StageName(bool),
    OutputName(bool),
    NoData,
    EditedOutput,
    NoObjects,
    Upstream(u64),
    Refresh,
    Force,
    Trial(u8),
    Gc,
}

fn edit() -> impl Strategy<Value = Edit> {
    use Edit::*;
    prop_oneof![
        (0..3u8).prop_map(Prompt),
        (0..2u8).prop_map(Include),
        (0..3u8).prop_map(Pick),
        any::<bool>().prop_map(Keep),
        any::<bool>().prop_map(Where),
        (0..2u8).prop_map(Query),
        any::<bool>().prop_map(Schema),
        (0..2u8).prop_map(Temperature),
        (1..9u8).prop_map(Concurrency),
        (1..4u8).prop_map(Repositories),
        (0..3u8).prop_map(Labels),
        any::<bool>().prop_map(StageName),
        any::<bool>().prop_map(OutputName),
        Just(NoData),
        Just(EditedOutput),
        Just(NoObjects),
        (1..40u64).prop_map(Upstream),
        Just(Refresh),
        Just(Force),
        (1..30u8).prop_map(Trial),
        Just(Gc),
    ]
}

/// The study as the edits have left it.
#[derive(Clone, Debug, Default)]
struct Study {
    prompt: u8,
    include: u8,
    pick: u8,
    keep: bool,
    filter: bool,
    query: u8,
    schema: bool,
    temperature: u8,
    concurrency: u8,
    repositories: u8,
    labels: u8,
    stage: bool,
    output: bool,
}

impl Study {
    fn write(&self, space: &TestSpace, simulator: &Simulator, repos: &[String], cassette: bool) {
        let address = &simulator.address;
        let tables: String = repos[..usize::from(self.repositories)]
            .iter()
            .map(|repo| format!("[[tables.repos]]\nrepo = \"{repo}\"\n"))
            .collect();
        let pick = ["", ", state", ", labels: [.labels[].name]"][usize::from(self.pick)];
        let keep = if self.keep { "keep = [\"number\", \"title\"]" } else { "keep = [\"number\"]" };
        let filter = if self.filter { "where = \"number % 3 != 0\"" } else { "" };
        let query = [
            "SELECT i.*, l.label, l.sure FROM items i JOIN LABEL l USING (id)",
            "SELECT id, label, sure FROM LABEL ORDER BY label, id",
        ][usize::from(self.query)];
        let label = if self.stage { "verdict" } else { "label" };
        let query = query.replace("LABEL", label);
        let output = if self.output { "data/other.json" } else { "data/labels.json" };
        let profile = match cassette {
            true => "[profiles.clean]\ncassette = \"calls.jsonl\"\noffline = true\n",
            false => "",
        };
        let text = format!(
            r#"
[pipeline]
name = "law"
[github]
base_url = "{address}/github"
[models.small]
base_url = "{address}/v1"
model = "tiny"
temperature = 0.{}
limits = {{ concurrency = {} }}
{tables}
[stages.items]
kind = "github"
inputs = ["repos"]
list = "/repos/{{{{ repo }}}}/issues?state=all&per_page=20"
pick = "{{id: .node_id, number, title, body{pick}}}"
key = ["id"]
outputs = ["data/items.jsonl"]
[stages.{label}]
kind = "llm"
inputs = ["items"]
{filter}
model = "small"
prompt = "p.md"
schema = "s.json"
{keep}
outputs = ["{output}", "data/labels.csv"]
[stages.again]
kind = "command"
mode = "rows"
inputs = ["{label}"]
run = ["cat"]
batch = 7
outputs = ["data/again.jsonl"]
[stages.merged]
kind = "sql"
inputs = ["items", "{label}"]
query = "{query}"
key = ["id"]
outputs = ["data/merged.json"]
[stages.people]
kind = "sql"
inputs = ["people.csv", "{label}"]
query = "SELECT p.who, count(*) AS n FROM people p, {label} GROUP BY p.who"
key = ["who"]
outputs = ["data/people.csv"]
{profile}
"#,
            self.temperature,
            self.concurrency.max(1),
        );
        space.write("pipeline.toml", text);
        let prompts =
            ["Label {{ title }}", "Please label {{ title }}: {{ body }}", "Name {{ number }}"];
        let prompt = prompts[usize::from(self.prompt)];
        space.write("p.md", format!("{{% include \"head.md\" %}}\n{prompt}"));
        space.write("head.md", ["Be brief.", "Be exact."][usize::from(self.include)]);
        let more = if self.schema { r#", "c""# } else { "" };
        space.write(
            "s.json",
            format!(
                r#"{{"type": "object", "properties": {{
                     "label": {{"type": "string", "enum": ["a", "b"{more}]}},
                     "sure": {{"type": "boolean"}}}},
                   "required": ["label", "sure"], "additionalProperties": false}}"#
            ),
        );
        let people: String = (0..=self.labels).map(|at| format!("person {at}\n")).collect();
        space.write("people.csv", format!("who\n{people}"));
    }
}

fn rewrite(simulator: &Simulator, repo: &str, number: u64, text: &str) {
    let issue = simulator.get(&format!("/github/repos/{repo}/issues/{number}"));
    if issue["pull_request"].is_object() {
        return;
    }
    let labels = issue["labels"].as_array().expect("labels").iter();
    let labels: Vec<&Value> = labels.map(|label| &label["name"]).collect();
    simulator.item(json!({
        "repo": repo, "number": number, "title": text, "body": text, "labels": labels,
        "state": issue["state"], "state_reason": issue["state_reason"],
        "user": issue["user"]["login"], "author_association": issue["author_association"],
        "created_at": issue["created_at"], "updated_at": issue["updated_at"],
        "closed_at": issue["closed_at"],
    }));
}

/// Every output, by its path.
fn outputs(space: &TestSpace) -> Vec<(String, String)> {
    let names = ["items.jsonl", "labels.json", "other.json", "labels.csv", "again.jsonl"];
    let names = names.into_iter().chain(["merged.json", "people.csv"]);
    let paths = names.map(|name| format!("data/{name}")).filter(|path| space.exists(path));
    paths.map(|path| (path.clone(), space.read(&path))).collect()
}

fn holds(edits: &[Edit]) {
    let simulator = Simulator::start(&["--repos", "3", "--items", "40", "--seed", "11"]);
    let repos = simulator.get("/_repos");
    let repos: Vec<String> = serde_json::from_value(repos).expect("names");
    let space = TestSpace::new();
    let mut study = Study { repositories: 2, concurrency: 4, ..Study::default() };
    study.write(&space, &simulator, &repos, false);
    space.run(&[]).expect(0);
    for (at, edit) in edits.iter().enumerate() {
        let mut arguments: Vec<String> = Vec::new();
        match edit.clone() {
            Edit::Prompt(prompt) => study.prompt = prompt,
            Edit::Include(include) => study.include = include,
            Edit::Pick(pick) => study.pick = pick,
            Edit::Keep(keep) => study.keep = keep,
            Edit::Where(filter) => study.filter = filter,
            Edit::Query(query) => study.query = query,
            Edit::Schema(schema) => study.schema = schema,
            Edit::Temperature(temperature) => study.temperature = temperature,
            Edit::Concurrency(concurrency) => study.concurrency = concurrency,
            Edit::Repositories(repositories) => study.repositories = repositories,
            Edit::Labels(labels) => study.labels = labels,
            Edit::StageName(stage) => study.stage = stage,
            Edit::OutputName(output) => study.output = output,
            Edit::NoData => std::fs::remove_dir_all(space.path().join("data")).expect("removed"),
            Edit::EditedOutput => space.write("data/merged.json", "notes of mine"),
            Edit::NoObjects => {
                std::fs::remove_dir_all(space.path().join("cache/objects")).expect("removed");
            }
            Edit::Upstream(number) => {
                rewrite(&simulator, &repos[0], number, &format!("rewritten {at}"));
            }
            Edit::Refresh => arguments.extend(["--refresh".into(), "items".into()]),
            Edit::Force => arguments.push("--force".into()),
            Edit::Trial(rows) => arguments.extend(["--limit".into(), rows.to_string()]),
            Edit::Gc => drop(space.flow(&["cache", "gc", "--keep-last", "1"]).expect(0)),
        }
        study.write(&space, &simulator, &repos, false);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        space.run(&arguments).expect(0);
    }
    space.run(&[]).expect(0);
    // An output that goes by another name now is still there under the old one.
    let old = if study.output { "data/labels.json" } else { "data/other.json" };
    let left: Vec<_> = outputs(&space).into_iter().filter(|(path, _)| path != old).collect();

    space.flow(&["cassette", "calls.jsonl"]).expect(0);
    let clean = TestSpace::new();
    clean.write("calls.jsonl", space.read("calls.jsonl"));
    study.write(&clean, &simulator, &repos, true);
    simulator.reset();
    clean.run(&["--profile", "clean"]).expect(0);
    assert_eq!(simulator.total(), 0);
    for ((path, incremental), (_, scratch)) in left.iter().zip(&outputs(&clean)) {
        assert_eq!(incremental, scratch, "{path} after {edits:?}");
    }
    assert_eq!(left.len(), outputs(&clean).len(), "{edits:?}");
    // And there is nothing left to do.
    let again = space.run(&[]).expect(0);
    assert!(again.states().iter().all(|state| state.ends_with("up_to_date")), "{edits:?}");
}

#[test]
fn incremental_equals_clean() {
    let cases = std::env::var("FLOW_CASES").ok().and_then(|cases| cases.parse().ok());
    let config = Config {
        cases: cases.unwrap_or(16),
        failure_persistence: None,
        max_shrink_iters: 40,
        ..Config::default()
    };
    let edits = proptest::collection::vec(edit(), 1..8);
    TestRunner::new(config)
        .run(&edits, |edits| {
            holds(&edits);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}
