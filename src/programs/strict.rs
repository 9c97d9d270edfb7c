//! The strict form of a JSON Schema: what providers take that hold a model's answer to it, made of
//! what a person wrote; and what they would refuse, each at its place.
//!
//! Rules and limits are OpenAI's, the narrowest that are published. What narrows an answer but is
//! not taken is left out, since every answer is checked against the whole schema afterwards. What
//! changes which fields there may be is a fault: it cannot be left out.

use serde_json::{Map, Value, json};

use crate::manifest::{did_you_mean, nearest};

const MAX_PROPERTIES: usize = 5_000;
const MAX_LEVELS: usize = 10;
const MAX_ENUM_VALUES: usize = 1_000;
/// Characters of all names and of the texts in all `enum`s.
const MAX_TEXT: usize = 120_000;
/// One `enum` of more texts than this may hold fewer characters.
const MANY_TEXTS: usize = 250;
const MAX_MANY_TEXTS: usize = 15_000;

/// Keywords that are sent as they are.
const SENT: [&str; 11] = [
    "$ref",
    "title",
    "description",
    "pattern",
    "multipleOf",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "minItems",
    "maxItems",
];

/// Keywords that tell no provider anything.
const NOTES: [&str; 13] = [
    "$schema",
    "$id",
    "$anchor",
    "$comment",
    "$vocabulary",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
];

/// Keywords that narrow an answer and are only checked here.
const CHECKED_HERE: [&str; 8] = [
    "minLength",
    "maxLength",
    "uniqueItems",
    "contains",
    "minContains",
    "maxContains",
    "minProperties",
    "maxProperties",
];

/// Keywords that are read, and what is sent is made of them.
const MADE: [&str; 13] = [
    "type",
    "enum",
    "const",
    "format",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "anyOf",
    "oneOf",
    "allOf",
    "$defs",
    "definitions",
];

/// Keywords that no strict schema can stand in for, and what to write instead.
const REFUSED: [(&str, &str); 17] = [
    ("not", "say in `enum` or `pattern` what it may be, or look for the rest in `check`"),
    ("if", CASES),
    ("then", CASES),
    ("else", CASES),
    ("dependentRequired", CASES),
    ("dependentSchemas", CASES),
    ("dependencies", CASES),
    ("patternProperties", NAMED),
    ("propertyNames", NAMED),
    ("unevaluatedProperties", "leave it out: objects are closed"),
    ("unevaluatedItems", TUPLE),
    ("prefixItems", TUPLE),
    ("additionalItems", TUPLE),
    ("$dynamicRef", "write `$ref` to a schema under `$defs`"),
    ("$dynamicAnchor", "write `$ref` to a schema under `$defs`"),
    ("$recursiveRef", "write `\"$ref\": \"#\"`"),
    ("$recursiveAnchor", "write `\"$ref\": \"#\"`"),
];

const CASES: &str = "write the cases as `anyOf`, or look for them in `check`";
const NAMED: &str = "write a list of objects with a field for the name and one for the value";
const TUPLE: &str = "write an object with a field for each place of the list";

const FORMATS: [&str; 9] =
    ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"];

/// Something in a schema that providers would refuse.
#[derive(Debug)]
pub struct Refused {
    pub message: String,
    pub help: String,
    /// The keys that lead to it.
    pub path: Vec<String>,
}

const NO_TYPE: &str = "a schema has no `type`";

/// A schema in its strict form.
pub fn strict_form(schema: &Value) -> Result<Value, Vec<Refused>> {
    let mut making = Making::default();
    let sent = making.schema(schema, 0);
    if sent.get("type") != Some(&"object".into()) {
        // Whatever else its root lacks, it lacks as something else than an object.
        making.faults.retain(|fault| !fault.path.is_empty());
        making.step("type", |making| {
            let help = "put what it describes into a field of an object";
            making.refuse("its root must be `\"type\": \"object\"`", help);
        });
    }
    // What has no type because of another mistake in it lacks it no more once that one is mended.
    let others: Vec<Vec<String>> = making.faults.iter().map(|fault| fault.path.clone()).collect();
    making.faults.retain(|fault| {
        let inside = |path: &Vec<String>| path.len() > fault.path.len();
        let mut inside = others.iter().filter(|path| inside(path) && path.starts_with(&fault.path));
        fault.message != NO_TYPE || inside.next().is_none()
    });
    if making.faults.is_empty() {
        // The nulls that were added count too.
        making = Making::default();
        making.schema(&sent, 0);
    }
    if making.faults.is_empty() { Ok(sent) } else { Err(making.faults) }
}

/// What an answer to the strict form is checked against: all that the schema says, but that objects
/// are closed, and that null may stand where a field could have been left out. The strict form
/// leaves a model no other way to leave it out.
pub fn checked_form(schema: &Value) -> Value {
    let Value::Object(object) = schema else {
        return schema.clone();
    };
    let each = |value: &Value| match value {
        Value::Object(schemas) => Value::Object(
            schemas.iter().map(|(name, schema)| (name.clone(), checked_form(schema))).collect(),
        ),
        Value::Array(schemas) => schemas.iter().map(checked_form).collect(),
        other => other.clone(),
    };
    let mut checked = Map::new();
    for (keyword, value) in object {
        let mut value = match keyword.as_str() {
            "items" => checked_form(value),
            "properties" | "anyOf" | "oneOf" | "allOf" | "$defs" | "definitions" => each(value),
            _ => value.clone(),
        };
        if let ("properties", Value::Object(properties)) = (keyword.as_str(), &mut value) {
            leave_out_as_null(object, properties);
            checked.insert("additionalProperties".into(), false.into());
        }
        checked.insert(keyword.clone(), value);
    }
    Value::Object(checked)
}

/// Lets null stand for each property that `object` does not require.
fn leave_out_as_null(object: &Map<String, Value>, properties: &mut Map<String, Value>) {
    for (name, property) in properties {
        if !is_required(object, name) {
            *property = or_null(property.take());
        }
    }
}

/// The schema, taking null too.
fn or_null(mut schema: Value) -> Value {
    let combined =
        ["$ref", "allOf", "oneOf", "const"].iter().any(|name| schema.get(name).is_some());
    if let Some(Value::Array(cases)) = schema.get_mut("anyOf") {
        let null = json!({ "type": "null" });
        if !cases.contains(&null) {
            cases.push(null);
        }
        return schema;
    }
    if combined || schema.get("type").is_none() {
        return json!({ "anyOf": [schema, { "type": "null" }] });
    }
    let one = schema["type"].take();
    let mut types = match one {
        Value::Array(types) => types,
        one => vec![one],
    };
    if !types.contains(&"null".into()) {
        types.push("null".into());
    }
    schema["type"] = types.into();
    if let Some(Value::Array(values)) = schema.get_mut("enum")
        && !values.contains(&Value::Null)
    {
        values.push(Value::Null);
    }
    schema
}

fn is_required(object: &Map<String, Value>, name: &str) -> bool {
    let required = object.get("required").and_then(Value::as_array);
    required.is_some_and(|names| names.iter().any(|known| known == name))
}

/// Whether a value is of a type that a schema names.
fn is_of(value: &Value, name: &Value) -> bool {
    match name.as_str() {
        Some("string") => value.is_string(),
        Some("number") => value.is_number(),
        Some("integer") => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        Some("boolean") => value.is_boolean(),
        Some("null") => value.is_null(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        // What is no type is told elsewhere.
        _ => true,
    }
}

/// A strict schema being made: what was refused so far, and the sums that have limits.
#[derive(Default)]
struct Making {
    faults: Vec<Refused>,
    path: Vec<String>,
    properties: usize,
    enum_values: usize,
    text: usize,
}

impl Making {
    fn refuse(&mut self, message: impl Into<String>, help: impl Into<String>) {
        let (message, help) = (message.into(), help.into());
        self.faults.push(Refused { message, help, path: self.path.clone() });
    }

    fn step<T>(&mut self, key: &str, inside: impl FnOnce(&mut Making) -> T) -> T {
        self.path.push(key.to_owned());
        let made = inside(self);
        self.path.pop();
        made
    }

    /// The strict form of a schema that stands inside `levels` objects.
    fn schema(&mut self, schema: &Value, levels: usize) -> Value {
        let Value::Object(object) = schema else {
            let help = "write what it may be, beginning with its `type`";
            self.refuse(format!("providers do not take `{schema}` as a schema"), help);
            return Value::Null;
        };
        let types = types(object);
        let is_object = types.contains(&"object".into());
        let levels = levels + usize::from(is_object);
        if is_object && levels == MAX_LEVELS + 1 {
            let message = format!("its objects are nested more than {MAX_LEVELS} levels deep");
            self.refuse(message, "make what is inside flatter");
        }
        let mut sent = Map::new();
        for (keyword, value) in object {
            self.step(keyword, |making| making.keyword(keyword, value, levels, &mut sent));
        }
        if !sent.contains_key("anyOf") && !sent.contains_key("$ref") {
            self.typed(object, types, &mut sent);
            return Value::Object(sent);
        }
        let main = if sent.contains_key("anyOf") { "anyOf" } else { "$ref" };
        let beside = |name: &&String| {
            let notes = ["title", "description", "$defs", "definitions"];
            *name != main && !notes.contains(&name.as_str())
        };
        if let Some(beside) = sent.keys().find(beside).cloned() {
            let help = "write it into each of the cases, or into what is referred to";
            let message = format!("`{beside}` stands beside `{main}`");
            self.step(&beside, |making| making.refuse(message, help));
        }
        // A reference stands alone.
        if main == "$ref" && sent.len() > 1 {
            let reference = sent.shift_remove(main);
            sent.insert("anyOf".into(), json!([{ "$ref": reference }]));
        }
        Value::Object(sent)
    }

    fn keyword(
        &mut self,
        keyword: &str,
        value: &Value,
        levels: usize,
        sent: &mut Map<String, Value>,
    ) {
        let made = match keyword {
            "$ref" => {
                self.reference(value);
                value.clone()
            }
            "properties" => self.named(value, levels, true),
            "$defs" | "definitions" => {
                if self.path.len() > 1 {
                    let help = format!("write it at the root, and `\"$ref\": \"#/{keyword}/...\"`");
                    self.refuse(format!("`{keyword}` stands inside another schema"), help);
                }
                self.named(value, 0, false)
            }
            "items" => self.schema(value, levels),
            "anyOf" | "oneOf" | "allOf" => {
                self.cases(keyword, value, levels, sent);
                return;
            }
            // A constant wins over the values that it is one of.
            "enum" if sent.contains_key("enum") => return,
            "enum" => {
                self.enumeration(value.as_array().map_or(&[], Vec::as_slice));
                value.clone()
            }
            "const" => {
                self.enumeration(std::slice::from_ref(value));
                sent.insert("enum".into(), json!([value]));
                return;
            }
            "format" if FORMATS.iter().any(|known| value == known) => value.clone(),
            "format" => return,
            "additionalProperties" => {
                match value {
                    Value::Bool(false) => {}
                    Value::Bool(true) => self.refuse(
                        "an object is open, and providers take only closed ones",
                        "write `false`, or leave it out: what says nothing is closed",
                    ),
                    _ => self.refuse("an object has fields whose names are not told", NAMED),
                }
                value.clone()
            }
            _ if SENT.contains(&keyword) || MADE.contains(&keyword) => value.clone(),
            _ if NOTES.contains(&keyword) || CHECKED_HERE.contains(&keyword) => return,
            _ if keyword.starts_with("x-") => return,
            _ => {
                self.unknown(keyword);
                return;
            }
        };
        sent.insert(keyword.to_owned(), made);
    }

    fn unknown(&mut self, keyword: &str) {
        if let Some((_, help)) = REFUSED.iter().find(|(refused, _)| *refused == keyword) {
            self.refuse(format!("providers do not take `{keyword}`"), *help);
            return;
        }
        let known = MADE.iter().chain(&SENT).chain(&NOTES).chain(&CHECKED_HERE).copied();
        let help = nearest(keyword, known).map(|known| format!("did you mean `{known}`?"));
        let help = help.unwrap_or_else(|| "leave it out".into());
        self.refuse(format!("`{keyword}` is no keyword of JSON Schema"), help);
    }

    fn reference(&mut self, reference: &Value) {
        let to = reference.as_str().unwrap_or_default();
        let name = to.strip_prefix("#/$defs/").or_else(|| to.strip_prefix("#/definitions/"));
        let whole = |name: &str| !name.is_empty() && !name.contains('/');
        if to != "#" && !name.is_some_and(whole) {
            let help = "move what it refers to under `$defs` at the root: `\"#/$defs/NAME\"`";
            self.refuse(format!("a `$ref` leads to `{to}`, where providers do not look"), help);
        }
    }

    /// Schemas by name: properties, or definitions.
    fn named(&mut self, schemas: &Value, levels: usize, are_properties: bool) -> Value {
        let mut made = Map::new();
        for (name, schema) in schemas.as_object().into_iter().flatten() {
            self.step(name, |making| {
                if are_properties && over(&mut making.properties, 1, MAX_PROPERTIES) {
                    let message = format!("it has more than {MAX_PROPERTIES} properties in all");
                    making.refuse(message, "ask in several stages");
                }
                making.text(name);
                made.insert(name.clone(), making.schema(schema, levels));
            });
        }
        Value::Object(made)
    }

    /// `anyOf`, and what can be said as one.
    fn cases(
        &mut self,
        keyword: &str,
        cases: &Value,
        levels: usize,
        sent: &mut Map<String, Value>,
    ) {
        let cases = cases.as_array().map_or(&[][..], Vec::as_slice);
        if keyword == "allOf" && cases.len() != 1 {
            self.refuse("providers do not take `allOf`", "write its parts as one schema");
            return;
        }
        if sent.contains_key("anyOf") {
            let help = "write all cases as one `anyOf`";
            self.refuse(format!("`{keyword}` stands beside other cases"), help);
            return;
        }
        let mut made = Vec::with_capacity(cases.len());
        for (index, case) in cases.iter().enumerate() {
            made.push(self.step(&index.to_string(), |making| making.schema(case, levels)));
        }
        sent.insert("anyOf".into(), made.into());
    }

    fn enumeration(&mut self, values: &[Value]) {
        if over(&mut self.enum_values, values.len(), MAX_ENUM_VALUES) {
            let message = format!("its `enum`s have more than {MAX_ENUM_VALUES} values in all");
            self.refuse(
                message,
                "write fewer, or name a `type` and look for the values in `check`",
            );
        }
        let texts: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
        let long: usize = texts.iter().map(|text| text.chars().count()).sum();
        if texts.len() > MANY_TEXTS && long > MAX_MANY_TEXTS {
            let message = format!(
                "an `enum` of more than {MANY_TEXTS} texts has {long} characters, {MAX_MANY_TEXTS} \
                 is the limit"
            );
            self.refuse(message, "write shorter ones");
        }
        for text in texts {
            self.text(text);
        }
    }

    fn text(&mut self, text: &str) {
        if over(&mut self.text, text.chars().count(), MAX_TEXT) {
            let message = format!(
                "its names and the texts in its `enum`s have more than {MAX_TEXT} characters in all"
            );
            self.refuse(message, "write shorter ones");
        }
    }

    /// Completes a schema that has a type: what it leaves unsaid is said.
    fn typed(
        &mut self,
        object: &Map<String, Value>,
        types: Vec<Value>,
        sent: &mut Map<String, Value>,
    ) {
        if types.is_empty() {
            self.refuse(NO_TYPE, "add it: `\"type\": \"string\"`");
        }
        if types.contains(&"array".into()) && !sent.contains_key("items") {
            self.refuse("a list has no `items`", "add what its elements are");
        }
        if types.contains(&"object".into()) {
            self.closed(object, sent);
        }
        if !sent.contains_key("type") {
            let types = match &types[..] {
                [one] => one.clone(),
                _ => types.clone().into(),
            };
            sent.insert("type".into(), types);
        }
        if let Some(Value::Array(values)) = sent.get("enum") {
            let wrong = values.iter().find(|value| !types.iter().any(|of| is_of(value, of)));
            let message = match (values.is_empty(), wrong) {
                (true, _) => "an `enum` has no value, so there is no answer".to_owned(),
                (false, Some(value)) => {
                    format!("an `enum` has `{value}`, which is not of its type")
                }
                (false, None) => return,
            };
            self.step("enum", |making| making.refuse(message, "write values of the `type`"));
        }
    }

    /// Closes an object, and requires all of its fields.
    fn closed(&mut self, object: &Map<String, Value>, sent: &mut Map<String, Value>) {
        let Some(Value::Object(properties)) = sent.get_mut("properties") else {
            return self.refuse("an object has no `properties`", "add the fields that it has");
        };
        if properties.is_empty() {
            let help = "add the fields that it has";
            return self.step("properties", |making| making.refuse("an object has no field", help));
        }
        leave_out_as_null(object, properties);
        let names: Vec<String> = properties.keys().cloned().collect();
        let Value::Array(required) = sent.entry("required").or_insert_with(|| json!([])) else {
            return;
        };
        for (index, name) in required.iter().filter_map(Value::as_str).enumerate() {
            if !names.iter().any(|known| known == name) {
                let help = did_you_mean(name, names.iter().map(String::as_str));
                let message = format!("`required` names `{name}`, which is no property");
                let index = index.to_string();
                self.step("required", |making| {
                    making.step(&index, |making| making.refuse(message, help.unwrap_or_default()));
                });
            }
        }
        for name in names.iter().filter(|name| !is_required(object, name)) {
            required.push(name.as_str().into());
        }
        sent.entry("additionalProperties").or_insert(false.into());
    }
}

/// The types that a schema names, or that its other keywords leave.
fn types(object: &Map<String, Value>) -> Vec<Value> {
    match object.get("type") {
        Some(Value::Array(types)) => return types.clone(),
        Some(one) => return vec![one.clone()],
        None => {}
    }
    let constant = object.get("const").map(std::slice::from_ref);
    let values = constant.or_else(|| Some(object.get("enum")?.as_array()?.as_slice()));
    let mut types: Vec<Value> = Vec::new();
    for value in values.unwrap_or_default() {
        let name = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        if !types.contains(&name.into()) {
            types.push(name.into());
        }
    }
    if values.is_none() && object.contains_key("properties") {
        types.push("object".into());
    }
    if values.is_none() && object.contains_key("items") {
        types.push("array".into());
    }
    types
}

/// Adds to a sum; whether that takes it over its limit.
fn over(sum: &mut usize, more: usize, limit: usize) -> bool {
    let before = *sum;
    *sum += more;
    before <= limit && *sum > limit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::programs::AnswerSchema;
    use proptest::prelude::*;
    use proptest::sample::Index;

    fn sent(schema: Value) -> Value {
        strict_form(&schema).expect("it has a strict form")
    }

    #[test]
    fn what_is_strict_already_is_sent_as_it_is() {
        let strict = json!({
            "additionalProperties": false,
            "type": "object",
            "properties": {
                "why": { "type": "string", "pattern": "^.", "description": "first" },
                "label": { "type": ["string", "null"], "enum": ["a", "b", null] },
                "places": {
                    "type": "array", "minItems": 1, "maxItems": 3, "items": {
                        "type": "object",
                        "properties": { "line": { "type": "integer", "minimum": 1 } },
                        "required": ["line"],
                        "additionalProperties": false,
                    },
                },
                "next": { "anyOf": [{ "$ref": "#" }, { "type": "null" }] },
                "part": { "$ref": "#/$defs/part" },
            },
            "required": ["places", "why", "label", "next", "part"],
            "$defs": { "part": { "type": "string", "format": "date" } },
        });
        assert_eq!(sent(strict.clone()).to_string(), strict.to_string());
    }

    #[test]
    fn objects_are_closed_and_fields_that_may_be_absent_may_be_null() {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {
                "z": { "type": "string", "minLength": 1, "default": "x" },
                "a": { "enum": ["x", "y"] },
                "c": { "const": 3 },
                "r": { "$ref": "#/$defs/d", "description": "one" },
                "o": { "oneOf": [{ "type": "string" }, { "type": "number" }] },
                "d": { "allOf": [{ "$ref": "#/$defs/d" }], "title": "D" },
                "f": { "type": "string", "format": "uri" },
            },
            "required": ["z", "r", "f"],
            "$defs": { "d": { "properties": { "n": { "type": "integer" } } } },
        });
        let expected = json!({
            "type": "object",
            "properties": {
                "z": { "type": "string" },
                "a": { "enum": ["x", "y", null], "type": ["string", "null"] },
                "c": { "enum": [3, null], "type": ["integer", "null"] },
                "r": { "description": "one", "anyOf": [{ "$ref": "#/$defs/d" }] },
                "o": { "anyOf": [{ "type": "string" }, { "type": "number" }, { "type": "null" }] },
                "d": { "anyOf": [{ "$ref": "#/$defs/d" }, { "type": "null" }], "title": "D" },
                "f": { "type": "string" },
            },
            "required": ["z", "r", "f", "a", "c", "o", "d"],
            "$defs": { "d": {
                "properties": { "n": { "type": ["integer", "null"] } },
                "required": ["n"],
                "additionalProperties": false,
                "type": "object",
            } },
            "additionalProperties": false,
        });
        assert_eq!(sent(schema).to_string(), expected.to_string());
    }

    /// Where the one fault is, what it says, and what helps.
    fn refused(schema: &Value) -> (String, Refused) {
        let mut refused = strict_form(schema).expect_err("it is refused");
        assert_eq!(refused.len(), 1, "{refused:?}");
        let refused = refused.remove(0);
        (refused.path.join("/"), refused)
    }

    fn root(properties: Value) -> Value {
        json!({ "type": "object", "properties": properties })
    }

    #[test]
    fn what_is_over_a_limit_is_told_where_it_goes_over() {
        let text = json!({ "type": "string" });
        let many = |count: usize| (0..count).map(|n| format!("{n:05}"));
        let fields = |count| -> Value { many(count).map(|name| (name, text.clone())).collect() };
        let texts = |count, long: usize| -> Value {
            json!({ "enum": many(count).map(|text| text.repeat(long)).collect::<Vec<_>>() })
        };
        let nested = |levels| {
            (1..levels).fold(root(json!({ "x": text })), |inner, _| {
                root(json!({ "x": { "type": "array", "items": inner } }))
            })
        };
        let wide = json!({ "a": texts(200, 100), "b": texts(99, 40) });
        for fine in [
            root(fields(5_000)),
            nested(10),
            root(json!({ "a": texts(499, 1), "b": texts(499, 1) })),
            root(json!({ "a": texts(250, 20) })),
            root(json!({ "a": texts(300, 10) })),
            root(wide.clone()),
        ] {
            sent(fine);
        }
        let mut wider = wide;
        wider["c"] = texts(2, 20);
        let levels = ["properties", "x", "items"].repeat(10).join("/");
        for (schema, at, says) in [
            (root(fields(5_001)), "properties/05000", "more than 5000 properties"),
            (nested(11), levels.as_str(), "nested more than 10 levels deep"),
            (
                root(json!({ "a": texts(499, 1), "b": texts(500, 1) })),
                "properties/b/enum",
                "more than 1000 values",
            ),
            (root(json!({ "a": texts(251, 12) })), "properties/a/enum", "has 15060 characters"),
            (root(wider), "properties/c/enum", "more than 120000 characters"),
        ] {
            let (path, refused) = refused(&schema);
            assert_eq!(path, at, "{refused:?}");
            assert!(refused.message.contains(says), "{refused:?}");
        }
    }

    /// A schema whose every part can be converted; the cases of an `anyOf` are told apart by their
    /// types.
    fn convertible() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(json!({ "type": "string", "description": "a text", "default": "" })),
            Just(json!({ "type": "integer", "minimum": 0, "maximum": 9 })),
            Just(json!({ "type": ["boolean", "null"] })),
            Just(json!({ "type": "string", "enum": ["a", "b"] })),
            Just(json!({ "enum": [1, 2, "three"] })),
            Just(json!({ "const": "only" })),
            Just(json!({ "type": "null" })),
            Just(json!({ "$ref": "#/$defs/part" })),
            Just(json!({ "$ref": "#/$defs/part", "description": "a part" })),
            Just(json!({ "allOf": [{ "$ref": "#/$defs/part" }], "title": "P" })),
            Just(json!({ "$ref": "#/$defs/tree" })),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let list = |items: Value| json!({ "type": "array", "items": items, "maxItems": 3 });
            let cases = move |name: &str, schema: Value| {
                let holds_fields = schema.get("properties").or(schema.get("items")).is_some();
                let first = if holds_fields { schema } else { list(schema) };
                json!({ name: [first, { "type": "number", "exclusiveMinimum": 100 }] })
            };
            prop_oneof![
                3 => object(inner.clone()),
                2 => inner.clone().prop_map(list),
                1 => inner.clone().prop_map(move |schema| cases("anyOf", schema)),
                1 => inner.prop_map(move |schema| cases("oneOf", schema)),
            ]
        })
    }

    fn object(fields: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
        (prop::collection::vec((fields, any::<bool>()), 1..4), any::<bool>()).prop_map(
            |(fields, says_closed)| {
                let names = (0..).map(|n| format!("f{n}"));
                let (mut properties, mut required) = (Map::new(), Vec::new());
                for (name, (field, is_required)) in names.zip(fields) {
                    if is_required {
                        required.push(name.clone());
                    }
                    properties.insert(name, field);
                }
                let mut schema = root(properties.into());
                schema["required"] = required.into();
                if says_closed {
                    schema["additionalProperties"] = false.into();
                }
                schema
            },
        )
    }

    fn whole() -> impl Strategy<Value = Value> {
        object(convertible()).prop_map(|mut schema| {
            schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
            schema["$defs"] = json!({
                "part": { "properties": { "name": { "type": "string" }, "at": { "type": "integer" } } },
                "tree": {
                    "type": "object",
                    "properties": {
                        "leaf": { "type": "string" },
                        "more": { "type": "array", "items": { "$ref": "#/$defs/tree" } },
                    },
                    "required": ["leaf"],
                },
            });
            schema
        })
    }

    /// A valid answer to a strict schema; `picks` choose where there is a choice.
    fn answer(root: &Value, schema: &Value, picks: &mut dyn Iterator<Item = Index>) -> Value {
        let mut pick = |of: usize| picks.next().map_or(of - 1, |pick| pick.index(of));
        if let Some(reference) = schema["$ref"].as_str() {
            let to = root.pointer(&reference[1..]).expect("it leads somewhere");
            return answer(root, to, picks);
        }
        if let Some(cases) = schema["anyOf"].as_array() {
            let case = &cases[pick(cases.len())];
            return answer(root, case, picks);
        }
        if let Some(values) = schema["enum"].as_array() {
            return values[pick(values.len())].clone();
        }
        let types = match &schema["type"] {
            Value::Array(types) => types.clone(),
            one => vec![one.clone()],
        };

        match types[pick(types.len())].as_str().expect("a type") {
            "null" => Value::Null,
            "boolean" => (pick(2) == 0).into(),
            "string" => ["", "x", "a longer text"][pick(3)].into(),
            "integer" => pick(10).into(),
            "number" => (101.5 + pick(10) as f64).into(),
            "array" => {
                let most = schema["maxItems"].as_u64().map_or(2, |most| most as usize);
                // Where no picks are left, lists are empty: a tree ends.
                let length = most - pick(most + 1);
                (0..length).map(|_| answer(root, &schema["items"], picks)).collect()
            }
            _ => {
                let mut fields = Map::new();
                for (name, property) in schema["properties"].as_object().expect("fields") {
                    fields.insert(name.clone(), answer(root, property, picks));
                }
                fields.into()
            }
        }
    }

    /// The answer without the nulls that stand for what could have been left out.
    fn without_nulls(root: &Value, schema: &Value, answer: &Value) -> Value {
        if let Some(reference) = schema["$ref"].as_str() {
            let to = root.pointer(&reference[1..]).expect("it leads somewhere");
            return without_nulls(root, to, answer);
        }
        for name in ["allOf", "anyOf", "oneOf"] {
            if let Some(cases) = schema[name].as_array() {
                // The first case is the one that holds fields.
                return if answer.is_number() {
                    answer.clone()
                } else {
                    without_nulls(root, &cases[0], answer)
                };
            }
        }
        match answer {
            Value::Array(items) => {
                items.iter().map(|item| without_nulls(root, &schema["items"], item)).collect()
            }
            Value::Object(fields) => {
                let object = schema.as_object().expect("a schema");
                let mut left = Map::new();
                for (name, value) in fields {
                    if !value.is_null() || is_required(object, name) {
                        let property = &schema["properties"][name];
                        left.insert(name.clone(), without_nulls(root, property, value));
                    }
                }
                left.into()
            }
            other => other.clone(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

        #[test]
        fn an_answer_to_the_strict_form_answers_what_was_written(
            schema in whole(),
            picks in prop::collection::vec(any::<Index>(), 0..60),
        ) {
            let strict = strict_form(&schema).expect("only what can be converted was used");
            prop_assert_eq!(strict_form(&strict).expect("it is strict").to_string(), strict.to_string());
            let answer = answer(&strict, &strict, &mut picks.into_iter());
            let compiled = |schema: &Value, is_strict| {
                AnswerSchema::parse(&schema.to_string(), is_strict).ok().expect("a schema")
            };
            let none: Vec<String> = Vec::new();
            prop_assert_eq!(compiled(&strict, false).faults(&answer), none.clone(), "{}", answer);
            prop_assert_eq!(compiled(&schema, true).faults(&answer), none.clone(), "{}", answer);
            let without = without_nulls(&schema, &schema, &answer);
            prop_assert_eq!(compiled(&schema, false).faults(&without), none, "{}", without);
        }
    }
}
