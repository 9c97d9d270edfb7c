//! A small study on a generated repository, for tests of what can go wrong: a list, an answer to each
//! item, and a table of both in every format.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Simulator, TestSpace};

/// Its outputs, in the order in which they are written.
pub const OUTPUTS: [&str; 5] = [
    "data/items.jsonl",
    "data/classify.json",
    "data/merged.jsonl",
    "data/merged.json",
    "data/merged.csv",
];

/// Requests that it has under way at once, at the most.
pub const CONCURRENCY: u64 = 5;

/// Items on a page of its list.
const PAGE: u64 = 30;

/// A simulator with a repository of `items`.
pub fn simulator(items: u64, latency_ms: u64) -> Simulator {
    let (items, latency) = (items.to_string(), latency_ms.to_string());
    Simulator::start(&["--repos", "1", "--items", &items, "--seed", "5", "--latency-ms", &latency])
}

/// The requests that the study makes of it in all.
pub fn requests(items: u64) -> u64 {
    items + pages(items)
}

pub fn pages(items: u64) -> u64 {
    items.div_ceil(PAGE)
}

pub fn study(simulator: &Simulator) -> TestSpace {
    let mut space = TestSpace::new();
    let repo = simulator.get("/_repos")[0].clone();
    space.write(
        "pipeline.toml",
        format!(
            r#"
[pipeline]
name = "study"
[github]
base_url = "{0}/github"
concurrency = 1
[models.small]
base_url = "{0}/v1"
model = "tiny"
limits = {{ concurrency = 4 }}
[[tables.repos]]
repo = {repo}
[stages.items]
kind = "github"
inputs = ["repos"]
list = "/repos/{{{{ repo }}}}/issues?state=all&sort=created&direction=asc&per_page={PAGE}"
pick = "{{id: .node_id, number, title, body}}"
key = ["id"]
outputs = ["data/items.jsonl"]
[stages.classify]
kind = "llm"
inputs = ["items"]
model = "small"
prompt = "classify.md"
schema = "classify.schema.json"
outputs = ["data/classify.json"]
[stages.merged]
kind = "sql"
inputs = ["items", "classify"]
query = "SELECT i.*, c.label, c._call FROM items i JOIN classify c USING (id) ORDER BY i.number"
key = ["id"]
outputs = ["data/merged.jsonl", "data/merged.json", "data/merged.csv"]
"#,
            simulator.address
        ),
    );
    space.write("classify.md", "Classify {{ number }}: {{ title }}\n{{ body }}");
    space.write(
        "classify.schema.json",
        r#"{"type": "object", "properties": {"label": {"type": "string", "enum": ["bug", "other"]}},
            "required": ["label"], "additionalProperties": false}"#,
    );
    space.env("NO_COLOR", "1");
    space
}

/// The bytes of the outputs that are there.
pub fn outputs(space: &TestSpace) -> BTreeMap<&'static str, Vec<u8>> {
    let read = |path| Some((path, std::fs::read(space.path().join(path)).ok()?));
    OUTPUTS.into_iter().filter_map(read).collect()
}

/// Holds the outputs against those of an undisturbed run, byte for byte.
#[track_caller]
pub fn assert_same(space: &TestSpace, undisturbed: &TestSpace) {
    let (found, wanted) = (outputs(space), outputs(undisturbed));
    for output in OUTPUTS {
        assert!(wanted.contains_key(output), "{output} is made by an undisturbed run");
        assert!(found.get(output) == wanted.get(output), "{output} is another than undisturbed");
    }
}

/// Waits until nothing that was asked is still to be answered, by a server that does not know who has
/// left.
pub fn settle(simulator: &Simulator) {
    while simulator.get("/_stats")["under_way"] != 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
}
