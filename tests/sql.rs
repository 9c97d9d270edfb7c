//! Kind `sql`: what goes through a query and what comes out of it, which queries are refused, and
//! when one runs again.

mod support;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Ran, TestSpace};

fn space(manifest: &str) -> TestSpace {
    let mut space = TestSpace::new();
    space.env("NO_COLOR", "1");
    space.write("pipeline.toml", format!("[pipeline]\nname = \"test\"\n{manifest}"));
    space
}

/// One stage `q` that asks `query` of `t.jsonl`, a file of `rows`.
fn asking(rows: &[Value], query: &str, key: &str) -> TestSpace {
    let space = space(&format!(
        "[stages.q]\nkind = \"sql\"\ninputs = [\"t.jsonl\"]\nquery = \"q.sql\"\nkey = {key}\n\
         outputs = [\"data/q.jsonl\"]\n"
    ));
    space.write("t.jsonl", lines(rows));
    space.write("q.sql", query);
    space
}

fn lines(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

/// What `query` makes of `rows`, all of which have an `id`.
#[track_caller]
fn answer(rows: &[Value], query: &str) -> Vec<Value> {
    let space = asking(rows, query, r#"["id"]"#);
    space.run(&[]).expect(0);
    space.rows("data/q.jsonl")
}

/// The reason of a stage that fails, which leaves no output.
#[track_caller]
fn reason(space: &TestSpace) -> String {
    let ran = space.run(&[]).expect(1);
    assert_eq!(ran.states(), ["q failed"]);
    assert!(!space.exists("data/q.jsonl"));
    let reason = ran.stage("q")["reason"].as_str().expect("a reason").to_owned();
    // A terminal is shown it with its control characters made visible.
    has(&ran.stderr, &[&reason.replace('\u{1b}', "\u{241b}")]);
    reason
}

#[track_caller]
fn refused(space: &TestSpace) -> Ran {
    let ran = space.flow(&["check"]).expect(2);
    space.run(&[]).expect(2);
    assert!(!space.exists("cache"), "nothing has run");
    ran
}

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

/// A row for each value, under `id` and `value`.
fn column(values: &[Value]) -> Vec<Value> {
    values.iter().enumerate().map(|(id, value)| json!({"id": id, "value": value})).collect()
}

#[test]
fn every_type_survives() {
    let integers = [json!(0), json!(1), json!(-1), json!(i64::MIN), json!(i64::MAX), Value::Null];
    let large = [json!(u64::MAX), json!(i64::MAX as u64 + 1), json!(7), json!(0.5), Value::Null];
    let floats = [
        json!(0.1),
        json!(1.0),
        json!(-0.0),
        json!(1e300),
        json!(5e-324),
        json!(31.245270191439438),
        json!(9007199254740993.0),
        json!(1),
    ];
    let texts = [
        "",
        " ",
        "1",
        "1.0",
        "1e5",
        "-0",
        "0x10",
        "18446744073709551615",
        "null",
        "true",
        "[1]",
        r#"{"a": 1}"#,
        "\"",
        "'",
        "naïve 漢字 🦀",
        "a\0b",
        "\0",
        "a\r\nb\t",
        "\u{feff}x",
        "\u{2028}",
    ];
    let texts: Vec<Value> = texts.into_iter().map(Value::from).collect();
    let nested = [
        json!([]),
        json!({}),
        json!([1, 1.0, "1", null, true, [u64::MAX, {"b": 1, "a": [1e300]}]]),
        json!({"": "", "漢": "a\u{0}b"}),
        Value::Null,
    ];
    let booleans = [json!(true), json!(false), Value::Null];
    let mixed = [
        vec![json!(true), json!("true"), json!("1"), json!(false)],
        vec![json!(1), json!("1"), json!(1.0), json!("1.0")],
        vec![json!(true), json!([true]), json!({"a": 0}), json!(false)],
        vec![json!([1]), json!("text"), json!(""), json!({"a": []})],
        vec![json!([1]), json!(1), json!(u64::MAX)],
        vec![Value::Null, Value::Null],
    ];
    let mut columns: Vec<Vec<Value>> = mixed.into();
    columns.extend([&integers[..], &large, &floats, &texts, &nested, &booleans].map(Vec::from));
    for values in columns {
        let rows = column(&values);
        let space = asking(&rows, "SELECT * FROM t ORDER BY id", r#"["id"]"#);
        let ran = space.run(&[]).expect(0);
        assert_eq!(space.read("data/q.jsonl"), lines(&rows));
        assert!(!ran.stderr.contains("holds JSON as text"), "it is told to be text: {values:?}");
    }
}

#[test]
fn a_field_that_a_row_lacks_is_null() {
    let rows = [json!({"id": 1}), json!({"id": 2, "a": true}), json!({"id": 3, "b": [1]})];
    let wanted = [
        json!({"id": 1, "a": null, "b": null}),
        json!({"id": 2, "a": true, "b": null}),
        json!({"id": 3, "a": null, "b": [1]}),
    ];
    assert_eq!(answer(&rows, "SELECT * FROM t ORDER BY id"), wanted);
}

#[test]
fn booleans_and_nested_values_survive_what_a_query_does() {
    let rows = [
        json!({"id": 1, "flag": true, "list": ["a", {"b": false}], "text": "[1]"}),
        json!({"id": 2, "flag": false, "list": [], "text": "2"}),
        json!({"id": 3, "flag": null, "list": null, "text": null}),
    ];
    for query in [
        "SELECT * FROM t ORDER BY id",
        "SELECT id, flag, list, text FROM t ORDER BY id",
        "WITH c AS (SELECT * FROM t) SELECT * FROM c ORDER BY id",
        "WITH c AS MATERIALIZED (SELECT * FROM t), d AS (SELECT * FROM c)
         SELECT * FROM d ORDER BY 1",
        "SELECT * FROM (SELECT id, flag, list, text FROM (SELECT * FROM t)) ORDER BY id",
        "SELECT * FROM t WHERE id < 2 UNION ALL SELECT * FROM t WHERE id >= 2 ORDER BY id",
        "SELECT * FROM t UNION SELECT * FROM t ORDER BY id",
        "SELECT a.id, b.flag, b.list, b.text FROM t a JOIN t b USING (id) ORDER BY a.id",
        "SELECT a.id, b.flag, b.list, b.text FROM t a LEFT JOIN t b ON a.id = b.id AND b.id < 3 \
         ORDER BY a.id",
        "SELECT id, flag, list, text FROM t GROUP BY id ORDER BY id",
        "SELECT DISTINCT id, flag, list, text FROM t ORDER BY id",
    ] {
        assert_eq!(answer(&rows, query), rows, "{query}");
    }
    // A name of one's own changes nothing.
    let renamed = answer(&rows[..1], "SELECT id, flag AS is_so, list AS all_of FROM t");
    assert_eq!(renamed, [json!({"id": 1, "is_so": true, "all_of": ["a", {"b": false}]})]);
    // The first part of a UNION names the types; what does not fit it is told.
    let space =
        asking(&rows, "SELECT id, flag FROM t UNION ALL SELECT id + 3, id FROM t", r#"["id"]"#);
    has(&reason(&space), &["row 5, column `flag`", "2 is no boolean"]);
}

#[test]
fn nested_values_are_json_to_the_query() {
    let rows = [
        json!({"id": 1, "labels": ["bug", "naïve"], "who": {"login": "a", "site": {"n": 1}}}),
        json!({"id": 2, "labels": [], "who": null}),
    ];
    let found = answer(
        &rows,
        "SELECT t.id || '/' || e.key AS id, e.value AS label FROM t, json_each(t.labels) e",
    );
    assert_eq!(
        found,
        [json!({"id": "1/0", "label": "bug"}), json!({"id": "1/1", "label": "naïve"})]
    );
    let found = answer(
        &rows,
        "SELECT id, json_extract(who, '$.login') AS login, who ->> '$.site.n' AS n,
                json_extract(who, '$.site') AS \"site: json\", json_array_length(labels) AS labels
         FROM t ORDER BY id",
    );
    let wanted = [
        json!({"id": 1, "login": "a", "n": 1, "site": {"n": 1}, "labels": 2}),
        json!({"id": 2, "login": null, "n": null, "site": null, "labels": 0}),
    ];
    assert_eq!(found, wanted);
    let found = answer(
        &rows,
        "SELECT min(id) AS id, json_group_array(json_object('id', id, 'labels', json(labels)))
                AS \"all: json\" FROM t",
    );
    let wanted = json!([{"id": 1, "labels": ["bug", "naïve"]}, {"id": 2, "labels": []}]);
    assert_eq!(found, [json!({"id": 1, "all": wanted})]);
}

#[test]
fn computed_columns_are_what_their_name_tells() {
    let rows = [json!({"id": 1, "n": 3}), json!({"id": 2, "n": 0}), json!({"id": 3, "n": null})];
    let found = answer(
        &rows,
        "SELECT id, n > 1 AS \"many: bool\", n > 1 AS plain, n > 1 AS \"spaced : bool \",
                iif(n > 1, '[1, {\"a\": 1e300}]', 'null') AS \"list: json\",
                n AS \"number: json\", '\"t\"' AS \"text: json\", n / 2.0 AS half
         FROM t ORDER BY id",
    );
    let wanted = [
        json!({"id": 1, "many": true, "plain": 1, "spaced": true, "list": [1, {"a": 1e300}],
               "number": 3, "text": "t", "half": 1.5}),
        json!({"id": 2, "many": false, "plain": 0, "spaced": false, "list": null,
               "number": 0, "text": "t", "half": 0.0}),
        json!({"id": 3, "many": null, "plain": null, "spaced": null, "list": null,
               "number": null, "text": "t", "half": null}),
    ];
    assert_eq!(found, wanted);
    // The name without what it tells is the column's: to a key, and to a stage that follows.
    let space = asking(&rows, "SELECT id AS \"number: json\" FROM t", r#"["number"]"#);
    space.run(&[]).expect(0);
}

#[test]
fn values_that_are_not_what_they_are_told_to_be_name_row_and_column() {
    let rows = [json!({"id": 1, "text": "{}"}), json!({"id": 2, "text": "no \u{1b}[31m JSON"})];
    let of = |query: &str| reason(&asking(&rows, query, r#"["id"]"#));
    let why = of("SELECT id, text AS \"text: json\" FROM t ORDER BY id");
    has(&why, &["row 2, column `text`", "told to be JSON", "no ", "JSON\""]);
    let why = of("SELECT id, id AS \"flag: bool\" FROM t ORDER BY id");
    has(&why, &["row 2, column `flag`", "2 is no boolean"]);
    let why = of("SELECT id, 'yes' AS \"flag: bool\" FROM t ORDER BY id");
    has(&why, &["row 1, column `flag`", "\"yes\" is no boolean"]);
    let why = of("SELECT id, CAST('a' AS BLOB) AS bytes FROM t ORDER BY id");
    has(&why, &["row 1, column `bytes`", "blob"]);
    let why = of("SELECT id, 1e308 * 10 AS much FROM t ORDER BY id");
    has(&why, &["row 1, column `much`", "inf has no form in JSON"]);
}

#[test]
fn json_in_a_computed_text_is_pointed_out() {
    let rows = [json!({"id": 1, "list": [1]}), json!({"id": 2, "list": [2]})];
    let said = |query: &str| {
        let space = asking(&rows, query, r#"["id"]"#);
        let ran = space.run(&[]).expect(0);
        (ran.stderr.contains("`all`") && ran.stderr.contains("\"all: json\""), space)
    };
    let (pointed_out, space) = said("SELECT id, json_array(id) AS \"all\" FROM t");
    assert!(pointed_out);
    assert_eq!(space.rows("data/q.jsonl")[0]["all"], "[1]", "it is text until it is told");
    // It is said when the query runs, not again.
    let again = space.run(&[]).expect(0);
    assert_eq!(again.states(), ["q up_to_date"]);
    assert!(!again.stderr.contains("`all`"), "{}", again.stderr);
    for query in [
        "SELECT id, json_array(id) AS \"all: json\" FROM t",
        "SELECT id, list AS \"all\" FROM t",
        "SELECT id, iif(id = 1, '[1]', 'a') AS \"all\" FROM t",
        "SELECT id, '[Bug] ' || id AS \"all\" FROM t",
        "SELECT id, NULL AS \"all\" FROM t",
    ] {
        assert!(!said(query).0, "{query}");
    }
}

#[test]
fn outputs_hold_the_rows_in_their_formats() {
    let space = space(
        r#"
[[tables.t]]
id = 2
flag = true
text = "a,\"b\"\nc"
list = ["x", 1.5]
[[tables.t]]
id = 10
flag = false
text = ""
[stages.q]
kind = "sql"
inputs = ["t"]
query = "SELECT * FROM t ORDER BY id DESC"
key = ["id"]
outputs = ["data/q.json", "data/q.jsonl", "data/q.csv"]
"#,
    );
    space.run(&[]).expect(0);
    let (first, second) = (
        r#"{"id":10,"flag":false,"text":"","list":null}"#,
        r#"{"id":2,"flag":true,"text":"a,\"b\"\nc","list":["x",1.5]}"#,
    );
    assert_eq!(space.read("data/q.json"), format!("[\n{first},\n{second}\n]\n"));
    assert_eq!(space.read("data/q.jsonl"), format!("{first}\n{second}\n"));
    let csv = "id,flag,text,list\n10,false,,\n2,true,\"a,\"\"b\"\"\nc\",\"[\"\"x\"\",1.5]\"\n";
    assert_eq!(space.read("data/q.csv"), csv);
}

#[test]
fn rows_are_in_the_order_of_the_query() {
    let rows: Vec<Value> = (0..50).map(|n| json!({"id": n, "by": (n * 37) % 50})).collect();
    for (query, wanted) in [
        ("SELECT * FROM t ORDER BY \"by\"", (0..50).collect::<Vec<i64>>()),
        ("SELECT * FROM t ORDER BY \"by\" DESC", (0..50).rev().collect()),
        ("SELECT * FROM t", (0..50).map(|n| (n * 37) % 50).collect()),
    ] {
        let by: Vec<i64> =
            answer(&rows, query).iter().map(|row| row["by"].as_i64().unwrap()).collect();
        assert_eq!(by, wanted, "{query}");
    }
}

#[test]
fn two_columns_of_one_name_are_refused() {
    let rows = [json!({"id": 1, "a": 1})];
    for query in [
        "SELECT * FROM t x JOIN t y USING (id)",
        "SELECT id, a, id AS a FROM t",
        "SELECT id, a, 1 AS \"a: bool\" FROM t",
    ] {
        let ran = refused(&asking(&rows, query, r#"["id"]"#));
        has(&ran.stderr, &["two columns of the result are called `a`", "AS"]);
    }
}

#[test]
fn rows_are_held_to_their_key() {
    let rows = [
        json!({"id": 1, "of": "x", "n": 1}),
        json!({"id": 1, "of": "x", "n": 1}),
        json!({"id": 1, "of": "y", "n": 1}),
    ];
    // The same row twice counts once.
    let space = asking(&rows, "SELECT * FROM t", r#"["id", "of"]"#);
    assert_eq!(space.run(&[]).expect(0).stage("q")["rows"], 2);
    assert_eq!(space.rows("data/q.jsonl"), [&rows[1], &rows[2]].map(Clone::clone));
    // Two different ones do not.
    let space = asking(&rows, "SELECT * FROM t", r#"["id"]"#);
    has(&reason(&space), &["two different rows have the key id=1", r#""of":"y""#, "`key`"]);
    // A key that no row will have.
    let ran = refused(&asking(&rows, "SELECT id AS number FROM t", r#"["nmber"]"#));
    has(&ran.stderr, &["`key` names `nmber`", "pipeline.toml:7", "did you mean `number`"]);
    let ran = refused(&asking(&rows, "SELECT * FROM t", "[]"));
    has(&ran.stderr, &["`key` names no field"]);
}

#[test]
fn a_key_that_turns_out_to_be_missing_is_told() {
    let space = space(
        r#"
[stages.made]
kind = "command"
run = ["echo", '{"n": 1}']
key = ["n"]
[stages.q]
kind = "sql"
inputs = ["made"]
query = "SELECT * FROM made"
key = ["id"]
outputs = ["data/q.jsonl"]
"#,
    );
    let ran = space.run(&[]).expect(1);
    assert_eq!(ran.states(), ["made ran", "q failed"]);
    has(ran.stage("q")["reason"].as_str().unwrap(), &["no key field `id`", "it has: n"]);
}

#[test]
fn a_table_without_rows_has_its_columns() {
    let space = space(
        r#"
[[tables.t]]
id = 1
list = [1]
[stages.none]
kind = "sql"
inputs = ["t"]
query = "SELECT id, list, id > 0 AS \"flag: bool\" FROM t WHERE false"
key = ["id"]
outputs = ["data/none.json", "data/none.jsonl", "data/none.csv"]
[stages.all]
kind = "sql"
inputs = ["t", "none"]
query = """SELECT t.id, none.flag, none.list, (SELECT count(*) FROM none) AS n
           FROM t LEFT JOIN none USING (id)"""
key = ["id"]
outputs = ["data/all.jsonl"]
[stages.nothing]
kind = "sql"
inputs = ["none"]
query = "SELECT * FROM none"
key = ["id"]
outputs = ["data/nothing.csv"]
"#,
    );
    space.run(&[]).expect(0);
    assert_eq!(
        space.rows("data/all.jsonl"),
        [json!({"id": 1, "flag": null, "list": null, "n": 0})]
    );
    assert_eq!(space.read("data/none.json"), "[]\n");
    assert_eq!(space.read("data/none.jsonl"), "");
    // The columns are known without a row.
    let header = "id,list,flag\n";
    assert_eq!((&*space.read("data/none.csv"), &*space.read("data/nothing.csv")), (header, header));
}

#[test]
fn a_table_without_rows_or_known_columns_is_told() {
    let space = space(
        r#"
[stages.made]
kind = "command"
run = ["true"]
key = ["id"]
[stages.counted]
kind = "sql"
inputs = ["made"]
query = "SELECT count(*) AS n FROM made"
key = ["n"]
outputs = ["data/counted.jsonl"]
[stages.q]
kind = "sql"
inputs = ["made"]
query = "SELECT id FROM made"
key = ["id"]
"#,
    );
    let ran = space.run(&[]).expect(1);
    assert_eq!(ran.states(), ["made ran", "counted ran", "q failed"]);
    assert_eq!(space.rows("data/counted.jsonl"), [json!({"n": 0})]);
    let reason = ran.stage("q")["reason"].as_str().unwrap().to_owned();
    has(&reason, &["no such column: id", "no columns are known of `made`"]);
}

#[test]
fn inputs_are_tables_by_their_names() {
    let space = space(
        r#"
[[tables.root-cause]]
id = "1"
why = "race"
[stages.over-all]
kind = "sql"
inputs = ["root-cause"]
query = 'SELECT * FROM "root-cause"'
key = ["id"]
[stages.q]
kind = "sql"
inputs = ["over-all", "in/a-b.csv", "in/select.json", "in/rows.v2.jsonl"]
query = '''
  -- A comment is no statement.
  SELECT o.why, c.n, s.n AS m, r.n AS r
  FROM "over-all" o JOIN "a-b" c USING (id) JOIN "select" s USING (id)
  JOIN "rows.v2" r USING (id); -- Nor is one at the end.
'''
key = ["why"]
outputs = ["data/q.jsonl"]
"#,
    );
    space.write("in/a-b.csv", "\u{feff}id,n\n1,2\n");
    space.write("in/select.json", r#"[{"id": "1", "n": 3}]"#);
    space.write("in/rows.v2.jsonl", "{\"id\": \"1\", \"n\": [4]}\n\n");
    space.run(&[]).expect(0);
    let wanted = json!({"why": "race", "n": "2", "m": 3, "r": [4]});
    assert_eq!(space.rows("data/q.jsonl"), [wanted], "what CSV holds is text");
    // Two inputs cannot be one table.
    space.write("other/A-B.json", "[]");
    space.edit("pipeline.toml", "\"in/select.json\"", "\"other/A-B.json\"");
    let ran = space.flow(&["check"]).expect(2);
    has(&ran.stderr, &["two inputs of stage `q`", "A-B"]);
}

#[test]
fn names_that_differ_in_case_only() {
    let rows = [json!({"id": 1, "Name": "a", "name": "b"})];
    let ran = refused(&asking(&rows, "SELECT * FROM t", r#"["id"]"#));
    has(&ran.stderr, &["`t` cannot be a table", "duplicate column name: name", "upper from lower"]);
    // Of a result they are two columns.
    let rows = [json!({"id": 1, "name": "a"})];
    let found = answer(&rows, "SELECT id, NAME AS Name, t.name FROM T");
    assert_eq!(found, [json!({"id": 1, "Name": "a", "name": "a"})]);
}

#[test]
fn mistakes_are_told_at_their_place() {
    let rows = [json!({"id": 1, "title": "a"})];
    for (query, wanted) in [
        ("SELECT id,\n  titel FROM t", &["q.sql:2", "no such column: titel", "`title`"][..]),
        ("SELECT id, \"titel\" FROM t", &["q.sql:1", "no such column", "did you mean `title`"]),
        ("SELECT id FROM tt", &["no such table: tt", "did you mean `t`"]),
        ("SELECT id FRM t", &["syntax error"]),
        ("SELECT nofunction(id) AS id FROM t", &["no such function"]),
        ("SELECT id FROM t; SELECT id FROM t", &["more than one statement"]),
        ("-- nothing", &["it is empty"]),
        ("", &["it is empty"]),
        ("SELECT id FROM t WHERE id = :id", &["parameter"]),
    ] {
        has(&refused(&asking(&rows, query, r#"["id"]"#)).stderr, wanted);
    }
    let space = asking(&rows, "", r#"["id"]"#);
    std::fs::remove_file(space.path().join("q.sql")).unwrap();
    has(&refused(&space).stderr, &["there is no file `q.sql`"]);
    space.edit("pipeline.toml", "[\"t.jsonl\"]", "[]");
    has(&refused(&space).stderr, &["no input to query"]);
}

#[test]
fn a_query_reads_its_inputs_and_nothing_else() {
    let rows = [json!({"id": 1})];
    for query in [
        "ATTACH 'other.db' AS other",
        "DETACH main",
        "PRAGMA table_info(t)",
        "PRAGMA writable_schema = 1",
        "SELECT name AS id FROM pragma_table_info('t')",
        "SELECT file AS id FROM pragma_database_list",
        "SELECT sql AS id FROM sqlite_schema",
        "SELECT sql AS id FROM sqlite_master",
        "SELECT load_extension('x.so') AS id",
        "SELECT readfile('q.sql') AS id",
        "SELECT writefile('made', 'x') AS id",
        "SELECT id FROM t WHERE id > random()",
        "SELECT id FROM t ORDER BY RANDOM()",
        "SELECT hex(randomblob(8)) AS id",
        "SELECT CURRENT_TIMESTAMP AS id",
        "SELECT current_date AS id",
        "INSERT INTO t VALUES (2)",
        "INSERT INTO t VALUES (2) RETURNING id",
        "UPDATE t SET id = 2 RETURNING id",
        "DELETE FROM t RETURNING id",
        "WITH x AS (SELECT 1) DELETE FROM t",
        "CREATE TABLE made (id)",
        "CREATE TEMP TABLE made AS SELECT 1 AS id",
        "CREATE VIRTUAL TABLE made USING fts5(id)",
        "CREATE VIEW made AS SELECT 1 AS id",
        "DROP TABLE t",
        "ALTER TABLE t ADD COLUMN x",
        "VACUUM",
        "VACUUM INTO 'made.db'",
        "ANALYZE",
        "REINDEX",
        "BEGIN",
        "SAVEPOINT x",
    ] {
        let space = asking(&rows, query, r#"["id"]"#);
        let ran = refused(&space);
        has(&ran.stderr, &["the query cannot be used"]);
        let mut left: Vec<String> = std::fs::read_dir(space.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["pipeline.toml", "q.sql", "t.jsonl"], "{query}");
    }
    // Also where the columns of what it reads are not known.
    let space = space(
        r#"
[stages.made]
kind = "command"
run = ["echo", '{"id": 1}']
key = ["id"]
[stages.q]
kind = "sql"
inputs = ["made"]
query = "VACUUM INTO 'made.db'"
key = ["id"]
"#,
    );
    refused(&space);
    // Dates of the data are data.
    let found = answer(&rows, "SELECT id, date('2024-02-30') AS day FROM t");
    assert_eq!(found, [json!({"id": 1, "day": "2024-03-01"})]);
}

#[test]
fn ctrl_c_ends_a_query_that_does_not_end() {
    let query = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
                 SELECT count(*) AS id FROM n, t";
    let space = asking(&[json!({"id": 1})], query, r#"["id"]"#);
    let run = space.command(&["run"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while !space.exists("cache/tmp/q/query.db") {
        assert!(begun.elapsed() < Duration::from_secs(60), "it does not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
    let asked = Instant::now();
    let sent = Command::new("kill").args(["-INT", &run.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let output = run.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{told}");
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    has(&told, &["interrupted", "run again"]);
    assert!(!space.exists("data/q.jsonl") && !space.exists("cache/tmp/q"));
    // Nothing of it is in the way.
    space.write("q.sql", "SELECT * FROM t");
    space.run(&[]).expect(0);
}

#[test]
fn a_query_that_fails_leaves_no_output() {
    let rows = [json!({"id": 1, "text": "{}"}), json!({"id": 2, "text": "{"})];
    let query = "SELECT id, json_extract(text, '$.a') AS a FROM t ORDER BY id";
    let space = asking(&rows, query, r#"["id"]"#);
    has(&reason(&space), &["the query failed: malformed JSON"]);
    assert!(!space.exists("cache/tmp/q"));
    // Mended, it runs; broken again, what it made before stays.
    space.write("t.jsonl", lines(&rows[..1]));
    space.run(&[]).expect(0);
    let made = space.read("data/q.jsonl");
    space.write("t.jsonl", lines(&rows));
    space.run(&[]).expect(1);
    assert_eq!(space.read("data/q.jsonl"), made);
}

#[test]
fn it_runs_when_what_it_depends_on_has_changed() {
    let space = space(
        r#"
[stages.some]
kind = "sql"
inputs = ["t.csv"]
query = "some.sql"
key = ["id"]
outputs = ["data/some.jsonl"]
[stages.next]
kind = "sql"
inputs = ["some"]
query = "SELECT id, n * 2 AS twice FROM some"
key = ["id"]
outputs = ["data/next.jsonl"]
"#,
    );
    space.write("some.sql", "SELECT id, n FROM t WHERE n > '1' ORDER BY id");
    space.write("t.csv", "id,n\na,1\nb,2\n");
    let run = || space.run(&[]).expect(0).states();
    assert_eq!(run(), ["some ran", "next ran"]);
    assert_eq!(run(), ["some up_to_date", "next up_to_date"]);
    // Touched, not changed.
    space.write("t.csv", "id,n\na,1\nb,2\n");
    assert_eq!(run(), ["some up_to_date", "next up_to_date"]);
    // Changed, but not what comes out.
    space.write("t.csv", "id,n\na,0\nb,2\n");
    assert_eq!(run(), ["some ran", "next up_to_date"]);
    space.write("some.sql", "SELECT id, n FROM t WHERE n >= '2' ORDER BY id");
    assert_eq!(run(), ["some ran", "next up_to_date"]);
    space.write("t.csv", "id,n\na,0\nb,3\n");
    assert_eq!(run(), ["some ran", "next ran"]);
    assert_eq!(space.rows("data/next.jsonl"), [json!({"id": "b", "twice": 6})]);
    // As it was before.
    space.write("t.csv", "id,n\na,0\nb,2\n");
    assert_eq!(run(), ["some restored", "next restored"]);
    assert_eq!(space.rows("data/next.jsonl"), [json!({"id": "b", "twice": 4})]);
    // Another key is another table.
    space.edit(
        "pipeline.toml",
        "key = [\"id\"]\noutputs = [\"data/next",
        "key = [\"twice\"]\noutputs = [\"data/next",
    );
    assert_eq!(run(), ["some up_to_date", "next ran"]);
}

#[test]
fn many_rows_go_through() {
    let rows = 200_000u64;
    let space = asking(
        &[],
        "SELECT id, text, id % 2 = 0 AS \"even: bool\" FROM t ORDER BY id DESC",
        r#"["id"]"#,
    );
    let text: String =
        (0..rows).map(|id| format!("{{\"id\":{id},\"text\":\"row {id}\"}}\n")).collect();
    space.write("t.jsonl", text);
    assert_eq!(space.run(&[]).expect(0).stage("q")["rows"], rows);
    let made = space.read("data/q.jsonl");
    assert_eq!(made.lines().count() as u64, rows);
    assert_eq!(made.lines().next(), Some(r#"{"id":199999,"text":"row 199999","even":false}"#));
}
