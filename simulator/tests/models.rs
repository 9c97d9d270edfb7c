//! Model answers are valid against the schema asked for, and quote the diff they were shown.

mod common;
use common::Simulator;
use serde_json::{Value, json};

fn content(simulator: &Simulator, schema: &Value, text: &str) -> Value {
    let body = json!({
        "model": "small", "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": text}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "t", "strict": true, "schema": schema}}
    });
    let reply = simulator.post("/v1/chat/completions", &body.to_string());
    assert_eq!(
        (reply.status, reply.header("x-flow-source")),
        (200, Some("simulated")),
        "{}",
        reply.body
    );
    let reply = reply.json();
    assert_eq!(reply["model"], "small-sim");
    serde_json::from_str(reply["choices"][0]["message"]["content"].as_str().expect("a text"))
        .expect("JSON")
}

#[test]
fn answers_are_valid_against_their_schemas() {
    let schemas = [
        json!({"type": "object", "required": ["bug", "confidence"], "additionalProperties": false, "properties": {
            "bug": {"enum": ["yes", "no", "unclear"]}, "confidence": {"type": "number", "minimum": 0, "maximum": 1},
            "reason": {"type": ["string", "null"], "maxLength": 12}}}),
        json!({"type": "array", "minItems": 2, "maxItems": 3, "uniqueItems": true, "items": {"enum": ["a", "b", "c"]}}),
        json!({"type": "object", "required": ["tree"], "properties": {"tree": {"$ref": "#/$defs/node"}},
            "$defs": {"node": {"type": "object", "required": ["name", "kids"], "properties": {
                "name": {"type": "string", "minLength": 30}, "kids": {"type": "array", "items": {"$ref": "#/$defs/node"}}}}}}),
        json!({"allOf": [{"required": ["n"], "properties": {"n": {"type": "integer", "exclusiveMinimum": 3, "maximum": 20, "multipleOf": 4}}},
            {"type": "object", "required": ["v"], "properties": {"v": {"const": 7}}}]}),
        json!({"oneOf": [{"type": "string", "pattern": "^(ab|cd)-[0-9]{2,3}[a-f]?$"}, {"type": "null"}]}),
        json!({"anyOf": [{"type": "object", "required": ["kind"], "properties": {"kind": {"const": "x"}}},
            {"type": "boolean"}, {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}]}),
        json!({"type": "object", "minProperties": 3, "additionalProperties": {"type": "integer", "minimum": 5}}),
    ];
    let simulator = Simulator::start(&[]);
    for schema in schemas {
        let validator = jsonschema::validator_for(&schema).expect("a schema");
        for nth in 0..25 {
            let answer = content(&simulator, &schema, &format!("text {nth}"));
            assert!(validator.is_valid(&answer), "{schema}\n{answer}");
        }
    }
}

#[test]
fn file_and_function_come_from_the_diff() {
    let schema = json!({"type": "object", "required": ["root_causes"], "properties": {"root_causes": {
        "type": "array", "minItems": 1, "maxItems": 3, "items": {"type": "object", "required": ["file", "function"],
        "properties": {"file": {"type": "string"}, "function": {"type": "string"}}}}}});
    let diff = "Fix\n\n--- a/src/one.c\n+++ b/src/one.c\n@@ -1,2 +1,2 @@ int first_one(int x)\n-  old_call(x);\n+  new_call(x);\n";
    let simulator = Simulator::start(&[]);
    for nth in 0..10 {
        let answer = content(&simulator, &schema, &format!("{diff}{nth}"));
        for cause in answer["root_causes"].as_array().expect("a list") {
            assert_eq!(cause["file"], "src/one.c");
            let names = ["first_one", "old_call", "new_call"];
            assert!(names.iter().any(|name| cause["function"] == *name), "{cause}");
        }
    }
}

#[test]
fn a_wrong_request_gets_the_error_shape() {
    let simulator = Simulator::start(&[]);
    for body in ["{", "{}", "[]", "{\"model\": \"m\"}", "{\"model\": \"m\", \"messages\": []}"] {
        let reply = simulator.post("/v1/chat/completions", body);
        assert_eq!(reply.status, 400, "{body}");
        assert_eq!(reply.json()["error"]["type"], "invalid_request_error");
    }
    assert_eq!(simulator.get("/v1/none").status, 404);
}

#[test]
fn a_model_is_listed_and_found_by_its_name() {
    let simulator = Simulator::start(&[]);
    let list = simulator.get("/v1/models").json();
    let name = list["data"][0]["id"].as_str().expect("a name");
    assert_eq!(simulator.get(&format!("/v1/models/{name}")).json(), list["data"][0]);
    let none = simulator.get("/v1/models/none");
    assert_eq!((none.status, &none.json()["error"]["code"]), (404, &"model_not_found".into()));
}
