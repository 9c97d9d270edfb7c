//! What OpenAI refuses of a strict JSON Schema.

use super::api::Api;
use super::asked::Format;
use super::problem::Problem;
use serde_json::{Map, Value};

const DEEPEST: usize = 10;
const MOST_PROPERTIES: usize = 5_000;
const MOST_VALUES: usize = 1_000;
const MOST_CHARS: usize = 120_000;
/// An enum of texts with more values than this may have fewer characters.
const MANY_VALUES: usize = 250;
const MOST_CHARS_OF_MANY: usize = 15_000;

/// Under which keys schemas stand by name.
const BY_NAME: [&str; 3] = ["properties", "$defs", "definitions"];
const REFUSED: [&str; 23] = [
    "allOf",
    "contains",
    "default",
    "dependentRequired",
    "dependentSchemas",
    "else",
    "if",
    "maxContains",
    "maxLength",
    "maxProperties",
    "minContains",
    "minLength",
    "minProperties",
    "not",
    "oneOf",
    "patternProperties",
    "prefixItems",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
    "uniqueItems",
    "dependencies",
];

/// What the walk through a schema has counted.
#[derive(Default)]
struct Counted {
    properties: usize,
    values: usize,
    /// Of all names and enum values.
    chars: usize,
}

pub fn check(api: Api, format: &Format) -> Result<(), Problem> {
    let Format::Schema { name, strict: true, schema } = format else { return Ok(()) };
    let mut counted = Counted::default();
    let fault = root(schema)
        .and_then(|()| counted.walk(schema, &mut Vec::new(), 0))
        .and_then(|()| counted.check())
        .err();
    let Some(fault) = fault else { return Ok(()) };
    let param = match api {
        Api::Chat => "response_format",
        Api::Responses => "text.format.schema",
    };
    let problem = Problem::new(format!("Invalid schema for response_format '{name}': {fault}"));
    Err(problem.at(param).code("invalid_json_schema"))
}

fn root(schema: &Value) -> Result<(), String> {
    let kind = &schema["type"];
    let apart = ["anyOf", "oneOf", "allOf", "enum", "not"];
    if apart.iter().any(|key| schema.get(key).is_some()) {
        return Err("schema must have type 'object' and not have \
             'oneOf'/'anyOf'/'allOf'/'enum'/'not' at the top level."
            .to_owned());
    }
    match kind == "object" {
        true => Ok(()),
        false => {
            let told = kind.as_str().unwrap_or("None");
            Err(format!(
                "schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{told}\"'."
            ))
        }
    }
}

impl Counted {
    fn walk(&mut self, schema: &Value, path: &mut Vec<String>, depth: usize) -> Result<(), String> {
        let Value::Object(keys) = schema else {
            return Err(format!("In context={}, schema must be an object.", context(path)));
        };
        if let Some(refused) = keys.keys().find(|key| REFUSED.contains(&key.as_str())) {
            return Err(format!("In context={}, '{refused}' is not permitted.", context(path)));
        }
        let is_object = keys.get("type").is_some_and(|kind| match kind {
            Value::Array(kinds) => kinds.iter().any(|kind| kind == "object"),
            kind => kind == "object",
        });
        let depth = depth + usize::from(is_object);
        if depth > DEEPEST {
            return Err(format!(
                "In context={}, schema is nested deeper than {DEEPEST} levels.",
                context(path)
            ));
        }
        if is_object {
            closed(keys, path)?;
        }
        if let Some(values) = keys.get("enum").and_then(Value::as_array) {
            self.values(values, path)?;
        }
        for of in BY_NAME {
            for (name, schema) in keys.get(of).and_then(Value::as_object).into_iter().flatten() {
                self.chars += name.chars().count();
                self.properties += usize::from(of == "properties");
                let depth = if of == "properties" { depth } else { 0 };
                self.below(&[of, name], schema, path, depth)?;
            }
        }
        for (nth, schema) in
            keys.get("anyOf").and_then(Value::as_array).into_iter().flatten().enumerate()
        {
            self.below(&["anyOf", &nth.to_string()], schema, path, depth)?;
        }
        match keys.get("items") {
            Some(items) => self.below(&["items"], items, path, depth),
            None => Ok(()),
        }
    }

    fn below(
        &mut self,
        names: &[&str],
        schema: &Value,
        path: &mut Vec<String>,
        depth: usize,
    ) -> Result<(), String> {
        let before = path.len();
        path.extend(names.iter().map(|name| (*name).to_owned()));
        self.walk(schema, path, depth)?;
        path.truncate(before);
        Ok(())
    }

    fn values(&mut self, values: &[Value], path: &[String]) -> Result<(), String> {
        let texts = values.iter().filter_map(Value::as_str);
        let chars: usize = texts.map(|text| text.chars().count()).sum();
        self.values += values.len();
        self.chars += chars;
        match values.len() > MANY_VALUES && chars > MOST_CHARS_OF_MANY {
            true => Err(format!(
                "In context={}, an enum of more than {MANY_VALUES} values has more than \
                 {MOST_CHARS_OF_MANY} characters.",
                context(path)
            )),
            false => Ok(()),
        }
    }

    fn check(&self) -> Result<(), String> {
        for (what, count, most) in [
            ("object properties", self.properties, MOST_PROPERTIES),
            ("enum values", self.values, MOST_VALUES),
            ("characters of names and enum values", self.chars, MOST_CHARS),
        ] {
            if count > most {
                return Err(format!("schema has {count} {what}, the limit is {most}."));
            }
        }
        Ok(())
    }
}

/// An object says all that it has, and that it has nothing else.
fn closed(keys: &Map<String, Value>, path: &[String]) -> Result<(), String> {
    let context = context(path);
    if keys.get("additionalProperties") != Some(&Value::Bool(false)) {
        return Err(format!(
            "In context={context}, 'additionalProperties' is required to be supplied and to be false."
        ));
    }
    let names = keys.get("properties").and_then(Value::as_object).into_iter().flatten();
    let required = keys.get("required").and_then(Value::as_array);
    let required = |name: &str| required.is_some_and(|names| names.iter().any(|it| it == name));
    match names.map(|(name, _)| name).find(|name| !required(name)) {
        Some(missing) => Err(format!(
            "In context={context}, 'required' is required to be supplied and to be an array \
             including every key in properties. Missing '{missing}'."
        )),
        None => Ok(()),
    }
}

/// As Python shows a tuple.
fn context(path: &[String]) -> String {
    let names: Vec<String> = path.iter().map(|name| format!("'{name}'")).collect();
    match names.as_slice() {
        [one] => format!("({one},)"),
        names => format!("({})", names.join(", ")),
    }
}
