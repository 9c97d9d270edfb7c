//! Strict schemas are refused for what OpenAI refuses them for, where a flag asks for it.

mod common;
use common::Simulator;
use serde_json::{Value, json};

fn object(properties: Value) -> Value {
    let names: Vec<String> =
        properties.as_object().into_iter().flat_map(|it| it.keys().cloned()).collect();
    json!({"type": "object", "properties": properties, "required": names, "additionalProperties": false})
}

fn nested(levels: usize) -> Value {
    (0..levels).fold(json!({"type": "string"}), |inside, _| object(json!({"a": inside})))
}

/// What the answer to a request with this schema says of it, in both APIs.
#[track_caller]
fn told(simulator: &Simulator, strict: bool, schema: &Value) -> Option<String> {
    let named = json!({"name": "t", "strict": strict, "schema": schema});
    let chat = json!({"model": "m", "messages": [{"role": "user", "content": "hello"}],
        "response_format": {"type": "json_schema", "json_schema": named}});
    let chat = simulator.post("/v1/chat/completions", &chat.to_string());
    let mut format = named.clone();
    format["type"] = json!("json_schema");
    let body = json!({"model": "m", "input": "hello", "text": {"format": format}});
    let response = simulator.post("/v1/responses", &body.to_string());
    assert_eq!(chat.status, response.status);
    if chat.status == 200 {
        return None;
    }
    let (chat, response) = (chat.json()["error"].clone(), response.json()["error"].clone());
    assert_eq!(
        (&chat["param"], &response["param"], &chat["code"]),
        (&json!("response_format"), &json!("text.format.schema"), &json!("invalid_json_schema"))
    );
    assert_eq!(chat["message"], response["message"]);
    let start = "Invalid schema for response_format 't': ";
    let message = chat["message"].as_str().and_then(|text| text.strip_prefix(start));
    Some(message.expect("a message").to_owned())
}

#[test]
fn what_openai_refuses_is_refused() {
    let simulator = Simulator::start(&["--strict-schemas"]);
    let of = |schema: Value| object(json!({"a": schema}));
    let many = |count: usize| {
        let names = (0..count).map(|nth| (format!("p{nth}"), json!({"type": "null"})));
        object(Value::Object(names.collect()))
    };
    let values = |count: usize, length: usize| {
        let values: Vec<String> = (0..count).map(|nth| format!("{nth:0length$}")).collect();
        of(json!({"type": "string", "enum": values}))
    };
    for (schema, says) in [
        (json!({"type": "array", "items": {"type": "null"}}), "got 'type: \"array\"'"),
        (json!({"anyOf": [object(json!({}))]}), "at the top level"),
        (
            json!({"type": "object", "properties": {}, "required": []}),
            "In context=(), 'additionalProperties' is required to be supplied and to be false.",
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "null"}}, "additionalProperties": false}),
            "Missing 'a'.",
        ),
        (
            of(json!({"type": ["object", "null"], "properties": {}})),
            "In context=('properties', 'a'), 'additionalProperties' is required",
        ),
        (
            of(json!({"type": "array", "items": {"type": "string", "maxLength": 4}})),
            "In context=('properties', 'a', 'items'), 'maxLength' is not permitted.",
        ),
        (of(json!({"oneOf": [{"type": "null"}]})), "'oneOf' is not permitted."),
        (of(json!({"anyOf": [{"type": "null"}, {"not": {}}]})), "'anyOf', '1'), 'not' is not"),
        (nested(11), "deeper than 10 levels"),
        (many(5_001), "5001 object properties"),
        (values(1_001, 4), "1001 enum values"),
        (values(251, 60), "an enum of more than 250 values"),
    ] {
        let told = told(&simulator, true, &schema);
        assert!(told.as_ref().is_some_and(|told| told.contains(says)), "{told:?}: {schema}");
    }
    for fine in [nested(10), many(5_000), values(1_000, 4), values(250, 100)] {
        assert_eq!(told(&simulator, true, &fine), None);
    }
    let recursive = json!({"type": "object", "additionalProperties": false, "required": ["n"],
        "properties": {"n": {"anyOf": [{"$ref": "#/$defs/n"}, {"type": "null"}]}},
        "$defs": {"n": object(json!({"n": {"anyOf": [{"$ref": "#/$defs/n"}, {"type": "null"}]}}))}});
    assert_eq!(told(&simulator, true, &recursive), None);
}

#[test]
fn other_servers_and_other_schemas_are_lax() {
    let lax = json!({"type": "object", "properties": {"a": {"type": "string", "minLength": 3}}});
    assert_eq!(told(&Simulator::start(&["--strict-schemas"]), false, &lax), None);
    assert_eq!(told(&Simulator::start(&[]), true, &lax), None);
}
