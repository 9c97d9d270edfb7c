//! The `llm` kind: every answer valid and paid once; a bad one asked again with what was wrong; a
//! useless one never passed off as an answer.

mod support;

use serde_json::{Value, json};
use support::{Simulator, TestSpace};

const SCHEMA: &str = r#"{"type": "object", "properties": {"label": {"type": "string", "enum": ["a", "b"]}},
  "required": ["label"], "additionalProperties": false}"#;

fn space(simulator: &Simulator, settings: &str) -> TestSpace {
    let mut space = TestSpace::new();
    space.write(
        "pipeline.toml",
        format!(
            r#"
[pipeline]
name = "test"
[models.small]
base_url = "{}/v1"
model = "tiny"
price = {{ input = 1.0, output = 2.0 }}
[[tables.texts]]
id = 1
text = "first"
note = "n"
[[tables.texts]]
id = 2
text = "second"
[[tables.texts]]
id = 3
text = "first"
[stages.label]
kind = "llm"
inputs = ["texts"]
key = ["id"]
model = "small"
prompt = "p.md"
schema = "s.json"
outputs = ["data/labels.json"]
{settings}
"#,
            simulator.address
        ),
    );
    space.write("p.md", "Label this: {{ text }}");
    space.write("s.json", SCHEMA);
    space.env("NO_COLOR", "1");
    space
}

/// A chat completion with the given message and reason to end.
fn completion(message: Value, reason: &str) -> String {
    json!({
        "model": "tiny-1", "usage": {"prompt_tokens": 10, "completion_tokens": 5},
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
    })
    .to_string()
}

fn says(text: &str) -> String {
    completion(json!({"role": "assistant", "content": text}), "stop")
}

#[test]
fn answers_are_valid_and_tell_where_they_come_from() {
    let simulator = Simulator::start(&[]);
    let space = space(&simulator, "");
    let ran = space.run(&[]).expect(0);
    let rows = space.rows("data/labels.json");
    assert_eq!(rows.len(), 3);
    for row in &rows {
        assert!(["a", "b"].contains(&row["label"].as_str().unwrap()));
        let call = &row["_call"];
        assert_eq!(call["model"], "tiny");
        assert_eq!(call["returned_model"], "tiny-sim");
        assert_eq!(call["finish_reason"], "stop");
        assert_eq!(call["source"], "simulated");
        assert_eq!(call["truncated"], false);
        assert!(call["tokens_in"].as_u64().unwrap() > 0);
        assert_eq!(call["id"].as_str().unwrap().len(), 64);
    }
    assert_eq!(rows[0]["label"], rows[2]["label"]);
    assert_eq!(rows[0]["_call"]["id"], rows[2]["_call"]["id"], "the same request is one call");
    assert_eq!(simulator.total(), 2);
    let json = ran.json();
    assert_eq!(json["calls"], 2);
    assert_eq!(json["calls_cached"], 1);
    let (input, output) =
        (json["tokens_in"].as_f64().unwrap(), json["tokens_out"].as_f64().unwrap());
    let cost = json["cost_usd"].as_f64().unwrap();
    assert!((cost - (input + 2.0 * output) / 1e6).abs() < 2e-6, "{json}");
    let again = space.run(&[]).expect(0).json();
    assert_eq!(
        (&again["calls"], &again["tokens_in"], &again["cost_usd"]),
        (&json!(0), &json!(0), &json!(0.0))
    );
}

#[test]
fn a_bad_answer_is_asked_again_with_what_was_wrong() {
    let simulator = Simulator::start(&[]);
    let space = space(&simulator, "");
    let order =
        json!({"path": "/v1", "status": 200, "body": says("{\"label\": \"c\"}"), "times": 1});
    simulator.fault(order);
    let ran = space.run(&[]).expect(0);
    let rows = space.rows("data/labels.json");
    assert_eq!(rows.len(), 3);
    let repaired: u64 = rows.iter().map(|row| row["_call"]["repairs"].as_u64().unwrap()).sum();
    assert!(repaired >= 1);
    assert_eq!(ran.json()["calls"], 3, "two texts and one repair");
}

#[test]
fn what_is_never_valid_fails_and_is_not_paid_for_again() {
    let simulator = Simulator::start(&[]);
    let space = space(&simulator, "repairs = 1");
    simulator.fault(json!({"path": "/v1", "status": 200, "body": says("no idea")}));
    let ran = space.run(&[]).expect(1);
    assert_eq!(ran.states(), ["label incomplete"]);
    assert_eq!(ran.stage("label")["failed_rows"], 3);
    assert_eq!(ran.stage("label")["rows"], 0);
    let failed = space.rows("data/labels.json.failed.jsonl");
    assert_eq!(failed.len(), 3);
    assert_eq!(failed[0]["_failed"]["kind"], "answer");
    let reason = failed[0]["_failed"]["reason"].as_str().unwrap();
    assert!(reason.contains("after 2 attempts"), "{reason}");
    let asked = simulator.total();
    assert_eq!(asked, 4, "two texts, one repair each");
    simulator.heal();
    space.run(&[]).expect(1);
    assert_eq!(
        simulator.total(),
        asked,
        "the raw answers stand as evidence; nothing is paid again"
    );
}

#[test]
fn refusals_and_cut_answers_are_no_labels() {
    for (body, told) in [
        (
            completion(
                json!({"role": "assistant", "content": null, "refusal": "I cannot"}),
                "stop",
            ),
            "refused",
        ),
        (
            completion(json!({"role": "assistant", "content": "{\"label\": \"a\"}"}), "length"),
            "length limit",
        ),
        (completion(json!({"role": "assistant", "content": ""}), "content_filter"), "filter"),
    ] {
        let simulator = Simulator::start(&[]);
        let space = space(&simulator, "");
        simulator.fault(json!({"path": "/v1", "status": 200, "body": body}));
        space.run(&[]).expect(1);
        assert!(space.rows("data/labels.json").is_empty());
        let failed = space.rows("data/labels.json.failed.jsonl");
        let reason = failed[0]["_failed"]["reason"].as_str().unwrap();
        assert!(reason.contains(told), "{reason}");
        assert_eq!(simulator.total(), 2, "asked once each");
    }
}

#[test]
fn a_check_finds_what_a_schema_cannot() {
    let simulator = Simulator::start(&[]);
    let check = r#"check = 'if .row.id == 2 then "row \(.row.id) cannot be \(.answer.label)" else empty end'"#;
    let space = space(&simulator, check);
    // So many labels that no answer is given twice: what was asked before is not sent again.
    space.write("s.json", SCHEMA.replace(r#""enum": ["a", "b"]"#, r#""pattern": "^[a-z]{12}$""#));
    let ran = space.run(&[]).expect(1);
    assert_eq!(ran.stage("label")["rows"], 2);
    let failed = space.rows("data/labels.json.failed.jsonl");
    assert!(failed[0]["_failed"]["reason"].as_str().unwrap().contains("row 2 cannot be"));
    assert_eq!(simulator.total(), 1 + 3, "a first answer, and one with two repairs");
}

#[test]
fn failures_in_passing_are_never_stored() {
    let simulator = Simulator::start(&[]);
    let space = space(&simulator, "");
    space.edit("pipeline.toml", "model = \"tiny\"", "model = \"tiny\"\nattempts = 1");
    simulator.fault(json!({"path": "/v1", "status": 500, "times": 1}));
    let ran = space.run(&[]).expect(1);
    assert_eq!(ran.states(), ["label incomplete"]);
    let failed = space.rows("data/labels.json.failed.jsonl");
    assert!(failed.iter().all(|row| row["_failed"]["kind"] == "passing"));
    let again = space.run(&[]).expect(0);
    assert_eq!(again.stage("label")["rows"], 3);
    assert_eq!(again.stage("label")["rows_run"], failed.len());
    assert_eq!(again.stage("label")["rows_memo"], 3 - failed.len());
    assert!(!space.exists("data/labels.json.failed.jsonl"));
}

#[test]
fn an_answer_that_ended_in_an_error_is_none() {
    let simulator = Simulator::start(&[]);
    let space = space(&simulator, "");
    let body = completion(json!({"role": "assistant", "content": "{\"label\": \"a\"}"}), "error");
    simulator.fault(json!({"path": "/v1", "status": 200, "body": body, "times": 1}));
    space.run(&[]).expect(0);
    assert_eq!(simulator.total(), 3, "two texts, one of them asked again");
    let rows = space.rows("data/labels.json");
    assert!(rows.iter().all(|row| row["_call"]["finish_reason"] == "stop"), "{rows:?}");
}

#[test]
fn a_field_that_no_prompt_reads_changes_nothing() {
    let simulator = Simulator::start(&[]);
    let space = space(&simulator, "");
    space.run(&[]).expect(0);
    space.edit("pipeline.toml", "note = \"n\"", "note = \"another\"");
    let ran = space.run(&[]).expect(0);
    assert_eq!(ran.stage("label")["rows_run"], 0);
    assert_eq!(ran.stage("label")["rows_memo"], 3);
    assert_eq!(ran.json()["calls"], 0);
}

#[test]
fn an_old_prompt_put_back_is_restored() {
    let simulator = Simulator::start(&[]);
    let space = space(&simulator, "");
    space.run(&[]).expect(0);
    let before = space.read("data/labels.json");
    space.edit("p.md", "Label this", "Classify this");
    assert_eq!(space.run(&[]).expect(0).stage("label")["calls"], 2);
    assert_ne!(space.read("data/labels.json"), before);
    space.edit("p.md", "Classify this", "Label this");
    let ran = space.run(&[]).expect(0);
    assert_eq!(ran.states(), ["label restored"]);
    assert_eq!(ran.json()["calls"], 0);
    assert_eq!(space.read("data/labels.json"), before);
}

#[test]
fn other_forms_of_answers_are_checked_here() {
    let simulator = Simulator::start(&[]);
    let space = space(&simulator, "answers = \"text\"");
    let body = says("Sure! Here it is:\n```json\n{\"label\": \"b\"}\n```\nAnything else?");
    simulator.fault(json!({"path": "/v1", "status": 200, "body": body}));
    space.run(&[]).expect(0);
    assert!(space.rows("data/labels.json").iter().all(|row| row["label"] == "b"));
}

#[test]
fn fields_that_may_be_absent_are_null_in_the_row() {
    let simulator = Simulator::start(&[]);
    let space = space(&simulator, "");
    let schema = r##"{"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
        "properties": {"label": {"enum": ["a", "b"]}, "why": {"type": "string", "minLength": 3},
            "at": {"properties": {"line": {"type": "integer"}, "file": {"type": "string"}}, "required": ["file"]}},
        "required": ["label", "at"]}"##;
    space.write("s.json", schema);
    let answer = json!({"label": "a", "at": {"file": "x.c", "line": null}, "why": null});
    simulator.fault(json!({"path": "/v1", "status": 200, "body": says(&answer.to_string())}));
    space.run(&[]).expect(0);
    for row in space.rows("data/labels.json") {
        assert_eq!((&row["why"], &row["at"]), (&Value::Null, &answer["at"]));
    }
    let sent = sent_schema(&space);
    assert_eq!(sent["required"], json!(["label", "at", "why"]));
    assert_eq!(sent["properties"]["why"], json!({"type": ["string", "null"]}));
    assert_eq!(sent["properties"]["at"]["additionalProperties"], false);
    assert_eq!(sent.get("$schema"), None);

    // What is not sent is checked all the same; and nothing that was not asked for comes in.
    for bad in [
        r#"{"label": "a", "at": {"file": "x.c"}, "why": "no"}"#,
        r#"{"label": "a", "at": {"file": "x.c"}, "more": 1}"#,
    ] {
        space.write("p.md", format!("{bad}: {{{{ text }}}}"));
        simulator.heal();
        simulator.fault(json!({"path": "/v1", "status": 200, "body": says(bad)}));
        assert_eq!(space.run(&[]).expect(1).stage("label")["failed_rows"], 3);
    }

    // A server that is not told may leave out what may be absent, but not say null.
    space.edit("pipeline.toml", "schema =", "answers = \"text\"\nschema =");
    for (at, code) in [(r#"{"file": "x.c"}"#, 0), (r#"{"file": "x.c", "line": null}"#, 1)] {
        let said = format!("{{\"label\": \"a\", \"at\": {at}}}");
        space.write("p.md", format!("{said}: {{{{ text }}}}"));
        simulator.heal();
        simulator.fault(json!({"path": "/v1", "status": 200, "body": says(&said)}));
        space.run(&[]).expect(code);
        for row in space.rows("data/labels.json") {
            assert_eq!(row.get("why"), Some(&Value::Null), "{row}");
        }
    }
}

/// The schema of a request, as it was sent.
fn sent_schema(space: &TestSpace) -> Value {
    space.flow(&["cassette", "calls.jsonl"]).expect(0);
    let call = &space.rows("calls.jsonl")[0];
    let request: Value = serde_json::from_str(call["request"].as_str().unwrap()).unwrap();
    request["response_format"]["json_schema"]["schema"].clone()
}

#[test]
fn what_is_made_of_a_schema_is_what_providers_take() {
    let simulator = Simulator::start(&["--strict-schemas"]);
    let space = space(&simulator, "");
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://labels.invalid/one",
        "type": "object",
        "properties": {
            "label": { "oneOf": [{ "const": "a" }, { "const": "b" }], "default": "a" },
            "why": { "type": "string", "maxLength": 10_000 },
            "place": { "allOf": [{ "$ref": "#/$defs/place" }], "description": "where" },
            "parts": { "items": { "$ref": "#/$defs/part" }, "maxItems": 2 },
            "level": { "enum": [1, 2, 3] },
        },
        "required": ["label"],
        "$defs": {
            "place": { "properties": { "file": { "type": "string" } } },
            "part": { "properties": { "name": { "type": "string" }, "place": { "$ref": "#/$defs/place" } } },
        },
    });
    space.write("s.json", schema.to_string());
    space.run(&[]).expect(0);
    let fields = ["id", "label", "why", "place", "parts", "level", "_call"];
    for row in space.rows("data/labels.json") {
        assert!(row["label"] == "a" || row["label"] == "b", "{row}");
        assert!(row.as_object().unwrap().keys().eq(fields.iter()), "in the schema's order: {row}");
    }
}

#[test]
fn what_is_no_object_is_no_answer() {
    let simulator = Simulator::start(&[]);
    let space = space(&simulator, "answers = \"json_object\"\nrepairs = 0");
    space.write("s.json", r#"{"anyOf": [{"type": "object"}, {"type": "array"}]}"#);
    simulator.fault(json!({"path": "/v1", "status": 200, "body": says("[]")}));
    space.run(&[]).expect(1);
    let failed = space.rows("data/labels.json.failed.jsonl");
    let reason = failed[0]["_failed"]["reason"].as_str().unwrap();
    assert!(reason.contains("the answer is no object"), "{reason}");
}

#[test]
fn a_missing_key_is_told_before_anything_runs() {
    let simulator = Simulator::start(&[]);
    let mut space = space(&simulator, "");
    space.edit(
        "pipeline.toml",
        "model = \"tiny\"",
        "model = \"tiny\"\napi_key = { env = \"TEST_KEY\" }",
    );
    space.edit("pipeline.toml", "[pipeline]", "[profiles.sample]\n[pipeline]");
    let ran = space.run(&[]).expect(2);
    for told in ["TEST_KEY", "model `small`", "`label`", "--offline", "--profile sample"] {
        assert!(ran.stderr.contains(told), "{told}: {}", ran.stderr);
    }
    assert_eq!(simulator.total(), 0);
    space.env("TEST_KEY", "sk-very-secret-value");
    space.run(&[]).expect(0);
    let found = find_in(space.path(), b"sk-very-secret-value");
    assert!(found.is_none(), "the key stands in {found:?}");
}

/// The first file below `folder` that holds `bytes`.
fn find_in(folder: &std::path::Path, bytes: &[u8]) -> Option<std::path::PathBuf> {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let found = match path.is_dir() {
            true => find_in(&path, bytes),
            false => {
                let held = std::fs::read(&path).unwrap();
                held.windows(bytes.len()).any(|window| window == bytes).then_some(path)
            }
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

#[test]
fn offline_names_the_call_that_is_not_recorded() {
    let simulator = Simulator::start(&[]);
    let space = space(&simulator, "");
    let ran = space.run(&["--offline"]).expect(1);
    assert_eq!(ran.states(), ["label incomplete"]);
    let failed = space.rows("data/labels.json.failed.jsonl");
    let reason = failed[0]["_failed"]["reason"].as_str().unwrap();
    assert!(reason.contains("/v1/chat/completions"), "{reason}");
    assert_eq!(simulator.total(), 0);
    space.run(&[]).expect(0);
    let offline = space.run(&["--offline"]).expect(0);
    assert_eq!(offline.states(), ["label up_to_date"]);
}

#[test]
fn what_a_check_reads_decides_too() {
    let simulator = Simulator::start(&[]);
    let check = r#"check = 'if .row.note == "bad" then "the note is bad" else empty end'"#;
    let space = space(&simulator, check);
    space.run(&[]).expect(0);
    // No prompt reads the note, but the check does.
    space.edit("pipeline.toml", "note = \"n\"", "note = \"bad\"");
    let ran = space.run(&[]).expect(1);
    assert_eq!(ran.stage("label")["failed_rows"], 1);
}

#[test]
fn a_key_that_a_server_repeats_is_told_to_nobody() {
    let simulator = Simulator::start(&[]);
    let mut space = space(&simulator, "");
    let model = "model = \"tiny\"\napi_key = { env = \"TEST_KEY\" }";
    space.edit("pipeline.toml", "model = \"tiny\"", model);
    space.env("TEST_KEY", "sk-very-secret-value");
    let body = r#"{"error": {"message": "Incorrect API key provided: sk-very-secret-value"}}"#;
    simulator.fault(json!({"path": "/v1", "status": 401, "body": body}));
    let ran = space.run(&[]).expect(1);
    assert!(ran.stdout.contains("Incorrect API key"), "{}", ran.stdout);
    for told in [&ran.stdout, &ran.stderr] {
        assert!(!told.contains("sk-very"), "{told}");
    }
    assert!(find_in(space.path(), b"sk-very").is_none());
}

#[test]
fn quiet_still_tells_what_failed() {
    let simulator = Simulator::start(&[]);
    let space = space(&simulator, "repairs = 0");
    simulator.fault(json!({"path": "/v1", "status": 200, "body": says("no idea")}));
    let ran = space.flow(&["run", "-q"]).expect(1);
    assert!(ran.stderr.contains("3 rows of `label` failed"), "{}", ran.stderr);
    // And nothing else speaks: no library's warnings either.
    let ran = space.flow(&["run", "-q", "--offline"]).expect(1);
    assert!(!ran.stderr.contains("WARN"), "{}", ran.stderr);
}

#[test]
fn how_an_answer_ended_is_read_in_the_words_of_every_server() {
    let simulator = Simulator::start(&[]);
    let good = || json!({"role": "assistant", "content": "{\"label\": \"a\"}"});
    for (reason, what) in [
        ("model_length", Some("length")),
        ("max_tokens", Some("length")),
        ("content_filter: PROHIBITED_CONTENT", Some("content_filter")),
        ("STOP", None),
        // A whole object shows that it is whole.
        ("something_else", None),
    ] {
        let space = space(&simulator, "");
        simulator.heal();
        simulator.fault(json!({"path": "/v1", "status": 200, "body": completion(good(), reason)}));
        let ran = space.run(&[]).expect(i32::from(what.is_some()));
        assert_eq!(ran.stage("label")["calls"], 2, "{reason}: paid for once");
        match what {
            None => assert_eq!(space.rows("data/labels.json").len(), 3, "{reason}"),
            Some(what) => {
                let failed = space.rows("data/labels.json.failed.jsonl");
                assert_eq!(failed[0]["_failed"]["what"], what, "{reason}: {}", failed[0]);
            }
        }
    }
    // A text does not.
    let plain = space(&simulator, "");
    plain.edit("pipeline.toml", "schema = \"s.json\"\n", "");
    let cut = json!({"role": "assistant", "content": "The cause is that the"});
    simulator.heal();
    simulator
        .fault(json!({"path": "/v1", "status": 200, "body": completion(cut, "something_else")}));
    plain.run(&[]).expect(1);
    let failed = plain.rows("data/labels.json.failed.jsonl");
    let reason = failed[0]["_failed"]["reason"].as_str().expect("a reason");
    assert!(reason.contains("ended with `something_else`"), "{reason}");
    // One that was broken off is asked again.
    let broken = space(&simulator, "");
    simulator.heal();
    let abort = json!({
        "path": "/v1", "status": 200, "times": 1, "body": completion(good(), "abort"),
    });
    simulator.fault(abort);
    let ran = broken.run(&[]).expect(0);
    assert_eq!(ran.stage("label")["calls"], 3);
    // What the broken one took is paid for.
    assert!(ran.stage("label")["tokens_in"].as_u64() > Some(10), "{}", ran.stage("label"));
}

#[test]
fn of_several_objects_in_a_text_none_is_taken_for_the_answer() {
    let simulator = Simulator::start(&[]);
    for (said, label) in [
        ("<think>Perhaps {\"label\": \"b\"}?</think>\n{\"label\": \"a\"}", Some("a")),
        ("It says {\"other\": 1}, so {\"label\": \"a\"}", Some("a")),
        ("{\"label\": \"a\"} As said: {\"label\": \"a\"}", Some("a")),
        ("They write {\"label\": \"b\"}. My answer: {\"label\": \"a\"}", None),
        ("{\"draft\": {\"label\": \"b\"}, \"label\": \"a\",}", None),
    ] {
        let space = space(&simulator, "answers = \"text\"\nrepairs = 0");
        simulator.heal();
        simulator.fault(json!({"path": "/v1", "status": 200, "body": says(said)}));
        space.run(&[]).expect(i32::from(label.is_none()));
        match label {
            Some(label) => assert_eq!(space.rows("data/labels.json")[0]["label"], label, "{said}"),
            None => {
                let failed = space.rows("data/labels.json.failed.jsonl");
                assert_eq!(failed[0]["_failed"]["what"], "invalid", "{said}");
            }
        }
    }
}

#[test]
fn what_a_provider_will_not_let_through_is_told_as_that_and_asked_once() {
    let simulator = Simulator::start(&[]);
    let error =
        json!({"error": {"message": "Your prompt was filtered.", "code": "content_filter"}});
    let space = space(&simulator, "");
    simulator
        .fault(json!({"path": "/v1", "status": 400, "match": "first", "body": error.to_string()}));
    let ran = space.run(&[]).expect(1);
    assert_eq!(ran.stage("label")["rows"], 1);
    let failed = space.rows("data/labels.json.failed.jsonl");
    assert_eq!((&failed[0]["_failed"]["what"], failed.len()), (&json!("content_filter"), 2));
    let asked = simulator.total();
    space.run(&[]).expect(1);
    assert_eq!(simulator.total(), asked, "nothing changed, so it is not asked again");
}

#[test]
fn no_credit_ends_the_stage() {
    let simulator = Simulator::start(&[]);
    let space = space(&simulator, "");
    let error = json!({"error": {"message": "Insufficient credits", "code": 402}});
    simulator.fault(json!({"path": "/v1", "status": 402, "body": error.to_string()}));
    let ran = space.run(&[]).expect(1);
    assert_eq!(ran.stage("label")["state"], "failed");
}

#[test]
fn a_check_that_yields_no_text_is_at_fault_and_costs_no_repairs() {
    let simulator = Simulator::start(&[]);
    let good = space(&simulator, "check = 'if .answer.label == \"c\" then \"bad\" else null end'");
    good.run(&[]).expect(0);
    let wrong = space(&simulator, "check = '.answer.label == \"c\"'");
    wrong.run(&[]).expect(1);
    let failed = wrong.rows("data/labels.json.failed.jsonl");
    let reason = failed[0]["_failed"]["reason"].as_str().expect("a reason");
    assert!(reason.contains("`check` gave false"), "{reason}");
    assert_eq!(simulator.total(), 4, "two texts, asked twice");
}
