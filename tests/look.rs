//! Looking at tables and requests, and asking in passing: `show`, `query`, `render` and `try`.

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use support::{Ran, Simulator, TestSpace};

const SCHEMA: &str = r#"{"type": "object", "properties": {
  "label": {"type": "string", "enum": ["a", "b", "c"]}, "is_bug": {"type": "boolean"}},
  "required": ["label", "is_bug"], "additionalProperties": false}"#;

/// Three rows that people wrote, with text that a terminal would obey, and a label for each.
fn space(simulator: &Simulator) -> TestSpace {
    let mut space = TestSpace::new();
    space.write(
        "pipeline.toml",
        format!(
            r#"
[pipeline]
name = "test"
[models.small]
base_url = "{0}/v1"
model = "tiny"
attempts = 1
price = {{ input = 1.0, output = 2.0 }}
[models.locked]
base_url = "{0}/v1"
model = "tiny"
api_key = {{ env = "NO_SUCH_KEY" }}
[[tables.weights]]
number = 2
weight = 0.5
[stages.items]
kind = "sql"
inputs = ["data-set.jsonl"]
query = 'SELECT * FROM "data-set"'
key = ["number"]
outputs = ["data/items.json"]
[stages.label]
kind = "llm"
inputs = ["items"]
where = "number < 9"
model = "small"
system = "s.md"
prompt = "p.md"
schema = "s.json"
keep = ["title"]
outputs = ["data/labels.json"]
[stages.counts]
kind = "sql"
inputs = ["label", "weights"]
query = "SELECT label, count(*) AS items FROM label LEFT JOIN weights USING (number) GROUP BY label"
key = ["label"]
outputs = ["data/counts.csv"]
[stages.locked]
kind = "llm"
inputs = ["items"]
model = "locked"
prompt = "p.md"
outputs = ["data/locked.json"]
"#,
            simulator.address
        ),
    );
    let rows = [
        json!({"number": 1, "title": "plain", "tags": ["x", {"y": null}], "is_open": true}),
        json!({"number": 2, "title": HOSTILE, "tags": [], "is_open": false}),
        json!({"number": 12, "title": "two\nlines", "tags": null, "is_open": null}),
    ];
    space.write("data-set.jsonl", rows.map(|row| format!("{row}\n")).concat());
    space.write("s.md", "You label.\n");
    space.write("p.md", "Label {{ title|truncate_tokens(4) }} of {{ number }}\n");
    space.write("s.json", SCHEMA);
    space.env("NO_COLOR", "1");
    space
}

const HOSTILE: &str = "\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}\u{7f}\r end";

fn simulator() -> Simulator {
    Simulator::start(&["--repos", "1", "--items", "1", "--seed", "5"])
}

/// The study, its sample made.
fn study() -> TestSpace {
    let mut space = TestSpace::study();
    space.env("NO_COLOR", "1");
    space.run(&["--profile", "sample"]).expect(0);
    space
}

/// Every file below `folder` with what it holds.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => _ = found.insert(path.display().to_string(), std::fs::read(&path).unwrap()),
        }
    }
    found
}

/// That nothing which a terminal would obey is in what was printed.
#[track_caller]
fn is_clean(ran: &Ran) {
    let obeyed = |c: char| (c.is_control() && c != '\n' && c != '\t') || c == '\u{202e}';
    for text in [&ran.stdout, &ran.stderr] {
        assert!(!text.contains(obeyed), "{text:?}");
    }
}

#[track_caller]
fn says(ran: &Ran, parts: &[&str]) {
    for part in parts {
        let is_there = ran.stderr.contains(part) || ran.stdout.contains(part);
        assert!(is_there, "{part:?} is not in\n{}\n{}", ran.stdout, ran.stderr);
    }
}

#[test]
fn the_sample_is_shown_row_by_row() {
    let space = study();
    let show = |more: &[&str]| space.flow(&[&["--profile", "sample", "show"], more].concat());
    let all = show(&["classify"]).expect(0);
    assert_eq!(all.stdout.lines().count(), 21, "{}", all.stdout);
    says(&all, &["20 of 53 rows; `--limit N` shows more"]);
    assert!(all.stdout.starts_with("id "), "{}", all.stdout);
    // Where there is no terminal nothing is cut.
    assert!(!all.stdout.contains('…'));
    // What programs read is what the output holds.
    let json = show(&["classify", "--format", "json"]).expect(0);
    assert_eq!(json.stdout, space.read("data/sample/analysis_cache.json"));
    let csv = show(&["scores", "--format", "csv"]).expect(0);
    assert_eq!(csv.stdout, space.read("data/sample/scores.csv"));
    assert_eq!((json.stderr, csv.stderr), (String::new(), String::new()));
    // A stage is known by its output, too, and a row by its key or by a field.
    let first = &space.rows("data/sample/analysis_cache.json")[0];
    let (id, url) = (first["id"].as_str().unwrap(), first["url"].as_str().unwrap());
    let by_key = show(&["data/sample/analysis_cache.json", id]).expect(0);
    assert_eq!(by_key.stdout, show(&["classify", &format!("url={url}")]).expect(0).stdout);
    says(&by_key, &[&format!("id: {id}\n"), first["reasoning"].as_str().unwrap(), "  {\n"]);
    let one: Value = show(&["classify", id, "--format", "json"]).expect(0).json();
    assert_eq!(one, json!([first]));
    // Some of them.
    let some = show(&["classify", "--where", "confidence > 0.9", "--format", "json"]).expect(0);
    let sure = space.rows("data/sample/analysis_cache.json").into_iter();
    let sure: Vec<Value> = sure.filter(|row| row["confidence"].as_f64() > Some(0.9)).collect();
    assert_eq!(some.json(), json!(sure));
    let two = show(&["classify", "--where", "confidence > 0.9", "--limit", "2"]).expect(0);
    says(&two, &[&format!("2 of {} rows", sure.len())]);
}

#[test]
fn hostile_text_reaches_no_terminal() {
    let simulator = simulator();
    let space = space(&simulator);
    space.run(&["counts"]).expect(0);
    let commands: [&[&str]; 9] = [
        &["show", "items"],
        &["show", "items", "2"],
        &["show", "items", "--where", "number = 2"],
        &["show", "items", HOSTILE],
        &["show", HOSTILE],
        &["query", "SELECT title, title AS \"a\u{1b}[31m\" FROM items"],
        &["query", "SELECT \u{1b}[31m FROM items"],
        &["render", "label", "--row", "2"],
        &["try", "label", "-n", "2"],
    ];
    for arguments in commands {
        is_clean(&space.flow(arguments));
    }
    // As outputs are written: its bytes say the same, and escape what they can.
    let json = space.flow(&["show", "items", "--format", "json"]).expect(0);
    assert_eq!(json.stdout, space.read("data/items.json"));
    assert!(!json.stdout.contains('\u{1b}'));
}

#[test]
fn what_is_not_there_is_told_with_what_is() {
    let simulator = simulator();
    let space = space(&simulator);
    let no_table = space.flow(&["show", "items"]).expect(1);
    says(&no_table, &["`items` has no table: `flow run items` makes it"]);
    says(&space.flow(&["query", "SELECT * FROM items"]).expect(1), &["flow run items"]);
    says(&space.flow(&["show", "items", "--where", "1"]).expect(1), &["flow run items"]);
    says(&space.flow(&["render", "label", "--row", "1"]).expect(1), &["flow run items"]);
    assert!(!space.exists("cache/flow.db") && !space.exists("data"));
    space.run(&["items"]).expect(0);
    let wrong: [(&[&str], &[&str]); 12] = [
        (&["show", "itmes"], &["no stage or output `itmes`", "did you mean `items`?"]),
        (&["show", "items", "7"], &["no row `7`; its key is number, as in [1]"]),
        (&["show", "items", "nmber=1"], &["no column `nmber`", "did you mean `number`?"]),
        (
            &["show", "items", "--where", "number = 1\n  AND titel = ''"],
            &["the condition:2:7", "no such column: titel", "did you mean `title`?"],
        ),
        (
            &["query", "SELECT n.number FROM items AS n JOIN itmes"],
            &["the query:1:38", "no such table: itmes", "did you mean `items`?"],
        ),
        (&["query", "SELECT numbr FROM items"], &["the query:1:8", "did you mean `number`?"]),
        (&["query", "SELECT FROM items"], &["the query:1:8", "syntax error"]),
        (&["query", ""], &["it is empty"]),
        (&["query", "SELECT ?"], &["it has a parameter"]),
        (&["render", "items", "--row", "1"], &["is of kind sql: its rows ask nobody"]),
        (&["try", "items", "--row", "1"], &["is of kind sql and asks no model"]),
        (&["render", "label", "--row", "7"], &["`items`, which `label` reads, has no row `7`"]),
    ];
    for (arguments, parts) in wrong {
        says(&space.flow(arguments).expect(2), parts);
    }
    let passed_over = space.flow(&["try", "label", "--row", "12"]).expect(2);
    says(&passed_over, &["cannot ask about number=12: its `where` passes over it"]);
}

#[test]
fn what_is_out_of_date_or_incomplete_says_so() {
    let simulator = simulator();
    let space = space(&simulator);
    simulator.fault(json!({"path": "/v1", "status": 503, "times": 1}));
    space.run(&["label"]).expect(1);
    let stands = space.flow(&["show", "label"]).expect(0);
    says(&stands, &["`label` is out of date (1 row without a result); `flow run label`"]);
    space.run(&["counts"]).expect(0);
    assert_eq!(space.flow(&["show", "label"]).expect(0).stderr, "2 rows\n");
    space.write("s.md", "You label well.\n");
    says(&space.flow(&["show", "label"]).expect(0), &["`label` is out of date (changed)"]);
    let query = space.flow(&["query", "SELECT count(*) FROM counts, items"]).expect(0);
    says(&query, &["`counts` is out of date (`label`, which it reads, would run)"]);
    assert!(!query.stderr.contains("`items`"), "{}", query.stderr);
    // Answers that were no good: the table stands, and lacks them.
    simulator.fault(json!({"path": "/v1", "says": "refusal", "times": 1}));
    space.run(&["label"]).expect(1);
    let stands = space.flow(&["show", "label"]).expect(0);
    let file = "see data/labels.json.failed.jsonl";
    says(&stands, &["`label` is incomplete: 1 row has no valid answer", file]);
}

#[test]
fn a_query_reads_tables_of_every_sort_and_writes_nothing() {
    let simulator = simulator();
    let space = space(&simulator);
    space.run(&["counts"]).expect(0);
    let before = files(space.path());
    let rows = |query: &str| space.flow(&["query", query, "--format", "json"]).expect(0).json();
    let all = "SELECT i.number, weight, d.title IS l.title AS \"same: bool\", l.is_bug
        FROM ITEMS i JOIN main.label AS l USING (number) JOIN \"data-set\" d USING (number)
        LEFT JOIN weights w ON w.number = i.number ORDER BY 1";
    let found = rows(all);
    assert_eq!(found[1]["number"], 2);
    assert_eq!((&found[1]["weight"], &found[1]["same"]), (&json!(0.5), &json!(true)));
    assert!(found[0]["is_bug"].is_boolean(), "{found}");
    // Types of columns that come straight from a table, and the functions of stages.
    assert_eq!(rows("SELECT tags, is_open FROM items LIMIT 1")[0]["tags"][1], json!({"y": null}));
    assert_eq!(rows("SELECT median(number) AS m FROM items"), json!([{"m": 2.0}]));
    // In a sub-query, and in a table that the query makes for itself.
    let nested = "WITH t AS (SELECT number FROM items) SELECT count(*) AS n FROM t
        WHERE number NOT IN (SELECT number FROM weights)";
    assert_eq!(rows(nested), json!([{"n": 2}]));
    assert_eq!(rows("SELECT 1 AS one"), json!([{"one": 1}]));
    assert_eq!(rows("SELECT number FROM items WHERE 0"), json!([]));
    let csv = space.flow(&["query", "SELECT number AS n FROM items WHERE 0", "--format", "csv"]);
    assert_eq!(csv.expect(0).stdout, "n\n");
    for write in [
        "DELETE FROM items",
        "INSERT INTO items (number) VALUES (1)",
        "UPDATE items SET number = 1",
        "DROP TABLE items",
        "CREATE TABLE more (a)",
        "ATTACH 'x.db' AS x",
        "VACUUM INTO 'x.db'",
        "PRAGMA journal_mode = WAL",
        "SELECT * FROM sqlite_master",
        "SELECT random() FROM items",
        "SELECT 1; SELECT 2",
        "SELECT load_extension('x')",
    ] {
        says(&space.flow(&["query", write]).expect(2), &["the query cannot be used"]);
    }
    let stacked = space.flow(&["show", "items", "--where", "1; DELETE FROM items"]).expect(2);
    says(&stacked, &["the condition cannot be used: it does more than read"]);
    let after = files(space.path());
    let differs = |name: &&String| before.get(*name) != after.get(*name);
    let differ: Vec<&String> = before.keys().chain(after.keys()).filter(differs).collect();
    // Who reads SQLite's log keeps a file of its places, and puts an old log in its place.
    let own = |name: &&&String| name.ends_with("-shm") || name.ends_with("-wal");
    let written: Vec<_> = differ.iter().filter(|name| !own(name)).collect();
    assert!(written.is_empty(), "a query wrote {written:?}");
}

#[test]
fn render_shows_the_very_request() {
    let simulator = simulator();
    let space = space(&simulator);
    space.run(&["items"]).expect(0);
    simulator.reset();
    let told = space.flow(&["render", "label", "--row", "1"]).expect(0);
    let prompt = "Label plain of 1";
    says(&told, &["--- system: ", "You label.", prompt, "not answered yet", "nothing was cut"]);
    let cut = space.flow(&["render", "label", "--row", "number=2"]).expect(0);
    says(&cut, &["of the row's texts were cut"]);
    let bytes = space.flow(&["render", "label", "--row", "1", "--json"]).expect(0);
    assert_eq!(simulator.total(), 0, "it called");
    space.run(&["label"]).expect(0);
    let stored = space.flow(&["why", "label", "--row", "1", "--json"]).expect(0).json();
    assert_eq!(stored["calls"][0]["request"], bytes.json());
    let id = &stored["calls"][0]["id"].as_str().unwrap()[..12];
    let told = space.flow(&["render", "label", "--row", "1"]).expect(0);
    says(&told, &[&format!("call {id}, sample 0: answered 200 by simulated, in run 2")]);
}

#[test]
fn render_shows_what_github_is_asked() {
    let space = study();
    let render = |stage: &str, row: &str| {
        space.flow(&["--profile", "sample", "render", stage, "--row", row])
    };
    let list = render("items", "engine=vLLM").expect(0);
    says(&list, &["GET http", "/repos/vllm-project/vllm/issues?state=all", "recorded"]);
    let id = space.rows("data/sample/issue_links.json")[0]["id"].as_str().unwrap().to_owned();
    let query = render("issue_links", &id).expect(0);
    says(&query, &["/graphql", "--- query\n", "closings: timelineItems", "--- variables\n", &id]);
    let one = ["--profile", "sample", "render", "items", "--row", "engine=vLLM", "--json"];
    assert_eq!(space.flow(&one).expect(0).json()["method"], "GET");
}

#[test]
fn a_try_pays_once_and_changes_nothing() {
    let simulator = simulator();
    let space = space(&simulator);
    space.run(&["counts"]).expect(0);
    let outputs = files(&space.path().join("data"));
    let objects = files(&space.path().join("cache/objects"));
    simulator.reset();
    // What the stage has asked is recorded.
    let known = space.flow(&["try", "label", "--row", "1"]).expect(0);
    says(&known, &["recorded in run 1, by simulated", "--- good", "label: ", "nothing now"]);
    assert_eq!(simulator.total(), 0);
    // Another prompt is paid for once.
    space.write("other.md", "Name {{ title }}\n");
    let other = ["try", "label", "--row", "1", "--prompt", "other.md"];
    says(&space.flow(&[&other[..], &["--offline"]].concat()).expect(1), &["calls are off"]);
    assert_eq!(simulator.total(), 0);
    says(&space.flow(&other).expect(0), &["asked now", "--- good", " tokens in (", "$0.0000"]);
    assert_eq!(simulator.total(), 1);
    says(&space.flow(&other).expect(0), &["recorded in run 2", "nothing now"]);
    says(&space.flow(&[&other[..], &["--offline"]].concat()).expect(0), &["recorded in run 2"]);
    let json = space.flow(&[&other[..], &["--json"]].concat()).expect(0).json();
    let answer = &json["rows"][0]["answers"][0];
    assert_eq!(
        (&json["rows"][0]["key"], &answer["asked_now"]),
        (&json!("number=1"), &json!(false))
    );
    assert!(answer["fields"]["is_bug"].is_boolean() && answer["cost_usd"].as_f64() > Some(0.0));
    // The first rows: one of them is answered already.
    let first = ["try", "label", "-n", "5", "--prompt", "other.md", "--json"];
    let rows = space.flow(&first).expect(0).json();
    assert_eq!(rows["rows"].as_array().unwrap().len(), 2, "{rows}");
    assert_eq!(simulator.total(), 2);
    let system = ["try", "label", "--row", "1", "--system", "other.md"];
    says(&space.flow(&system).expect(0), &["asked now"]);
    assert_eq!(simulator.total(), 3);
    // Nothing but calls has come of it: no output, no table, no memo; the run has nothing to do.
    assert!(outputs == files(&space.path().join("data")), "an output changed");
    assert!(objects == files(&space.path().join("cache/objects")), "a table was written");
    let again = space.run(&["counts"]).expect(0);
    assert!(again.states().iter().all(|state| state.ends_with("up_to_date")));
    space.edit("pipeline.toml", "prompt = \"p.md\"\nschema", "prompt = \"other.md\"\nschema");
    let plan = space.flow(&["plan", "label", "--json"]).expect(0).json();
    let label = &plan["stages"][1];
    assert_eq!((&label["rows_known"], &label["rows_to_run"]), (&json!(0), &json!(2)), "{plan}");
    // What was tried need not be paid for again.
    assert_eq!((&plan["calls"], &label["calls_cached"]), (&json!(0), &json!(2)), "{plan}");
}

#[test]
fn the_history_tells_what_was_tried() {
    let simulator = simulator();
    let space = space(&simulator);
    space.run(&["counts"]).expect(0);
    let spent = space.flow(&["status", "--json"]).expect(0).json();
    space.write("other.md", "Name {{ title }}\n");
    space.flow(&["try", "label", "-n", "2", "--prompt", "other.md"]).expect(0);
    let runs = space.flow(&["log", "--json"]).expect(0).json();
    let tried = &runs["runs"][0];
    assert_eq!((&tried["calls"], &tried["ended"]), (&json!(2), &json!("up_to_date")));
    assert_eq!(tried["command"], "try label -n 2 --prompt other.md");
    let now = space.flow(&["status", "--json"]).expect(0).json();
    assert_eq!(now["calls"].as_u64(), spent["calls"].as_u64().map(|calls| calls + 2));
    assert!(now["cost_usd"].as_f64() > spent["cost_usd"].as_f64());
    // It left no table to compare with: `last` is the run before it.
    let diff = space.flow(&["diff", "1", "last", "--json"]).expect(0).json();
    assert_eq!(diff["to"], 1);
}

#[test]
fn an_answer_that_is_no_good_says_what_is_wrong() {
    let simulator = simulator();
    let space = space(&simulator);
    space.run(&["items"]).expect(0);
    simulator.reset();
    let mut told = String::new();
    for (row, says_this) in [("1", "wrong_json"), ("2", "refusal")] {
        simulator.fault(json!({"path": "/v1", "says": says_this, "times": 1}));
        // It is asked once, and what came is not paid for again.
        for _ in 0..2 {
            let bad = space.flow(&["try", "label", "--row", row]).expect(1);
            says(&bad, &["--- the answer\n", "--- no good\n- "]);
            told += &bad.stdout;
        }
    }
    assert_eq!(simulator.total(), 2);
    for part in ["- the answer is no JSON", "- the model refused"] {
        assert_eq!(told.matches(part).count(), 2, "{told}");
    }
    // A check of the stage's own.
    space.edit("pipeline.toml", "where =", "check = '\"too short\"'\nwhere =");
    space.write("q.md", "Say {{ title }}\n");
    let short = space.flow(&["try", "label", "--row", "1", "--prompt", "q.md"]).expect(1);
    says(&short, &["--- no good\n- too short\n"]);
    // A provider that fails.
    simulator.fault(json!({"path": "/v1", "status": 503, "times": 1}));
    space.write("other.md", "Name {{ title }}\n");
    let failed = space.flow(&["try", "label", "--row", "1", "--prompt", "other.md"]).expect(1);
    says(&failed, &["no answer: no answer after 1 attempt", "503"]);
}

#[test]
fn a_try_that_cannot_be_is_told_before_anything_is_asked() {
    let simulator = simulator();
    let space = space(&simulator);
    space.run(&["items"]).expect(0);
    space.write("bad.md", "Name {{ titel }}\n");
    let outside = tempfile::NamedTempFile::new().expect("a file");
    let outside = outside.path().to_str().expect("UTF-8");
    let wrong: [(&[&str], &[&str]); 6] = [
        (&["label", "--row", "1", "--prompt", "othr.md"], &["there is no file `othr.md`"]),
        (&["label", "--row", "1", "--prompt", outside], &["outside of the project's folder"]),
        (
            &["label", "--row", "1", "--prompt", "bad.md"],
            &["bad.md:1:9", "`titel` is no field of `items`", "did you mean `title`?"],
        ),
        (&["locked", "--row", "1"], &["NO_SUCH_KEY is not set; model `locked` needs it"]),
        (&["label"], &["--row"]),
        (&["label", "--row", "1", "-n", "1"], &["cannot be used with"]),
    ];
    for (arguments, parts) in wrong {
        says(&space.flow(&[&["try"], arguments].concat()).expect(2), parts);
    }
    // Templates are found from where one stands, and from the project's folder.
    space.write("prompts/x.md", "Name {{ title }}\n");
    let folder = space.path().file_name().unwrap().to_str().unwrap().to_owned();
    for path in ["prompts/x.md".to_owned(), format!("{folder}/prompts/x.md")] {
        let manifest = format!("{folder}/pipeline.toml");
        let arguments =
            ["-C", "..", "-f", &manifest, "try", "label", "--row", "1", "--prompt", &path];
        space.flow(&arguments).expect(0);
    }
    assert_eq!(simulator.get("/_stats")["total"], 1);
    // No other run may work meanwhile, where something is to be asked.
    let lock = std::fs::File::open(space.path().join("cache/lock")).expect("the lock");
    lock.lock().expect("locked");
    let refused = space.flow(&["try", "label", "--row", "2"]).expect(1);
    says(&refused, &["another run works here", "`--wait`"]);
    space.flow(&["try", "label", "--row", "1", "--prompt", "prompts/x.md"]).expect(0);
}
