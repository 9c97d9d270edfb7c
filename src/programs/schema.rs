//! JSON Schemas that answers must keep to.

use std::ops::Range;

use jsonschema::Validator;
use serde::de::IgnoredAny;
use serde_json::Value;

/// A schema, and the means to check against it.
pub struct AnswerSchema {
    pub value: Value,
    validator: Validator,
}

impl AnswerSchema {
    /// Parses and compiles a schema; the fault comes with its place in the text.
    pub fn parse(text: &str) -> Result<AnswerSchema, (String, Range<usize>)> {
        let value: Value = serde_json::from_str(text).map_err(|error| {
            let lines = text.split_inclusive('\n').take(error.line().saturating_sub(1));
            let at = lines.map(str::len).sum::<usize>() + error.column().saturating_sub(1);
            let at = text.floor_char_boundary(at);
            let end = text[at..].chars().next().map_or(at, |c| at + c.len_utf8());
            (format!("it is no JSON: {error}"), at..end)
        })?;
        let validator = jsonschema::validator_for(&value).map_err(|error| {
            let path = error.instance_path().to_string();
            let steps = path.split('/').skip(1).map(|step| step.replace("~1", "/"));
            let steps: Vec<String> = steps.map(|step| step.replace("~0", "~")).collect();
            (format!("it is no JSON Schema: {error}"), place_of(text, 0, &steps))
        })?;
        if value.get("type") != Some(&"object".into()) {
            let place = place_of(text, 0, &["type".to_owned()]);
            return Err(("its root must be `\"type\": \"object\"`".into(), place));
        }
        Ok(AnswerSchema { value, validator })
    }

    /// What is wrong with an answer, a line each; empty where it keeps to the schema.
    pub fn faults(&self, answer: &Value) -> Vec<String> {
        self.validator
            .iter_errors(answer)
            .take(10)
            .map(|error| {
                let place = error.instance_path().to_string();
                let place = if place.is_empty() { "the answer".to_owned() } else { place };
                format!("{place}: {error}")
            })
            .collect()
    }

    /// The fields that an answer can have, where the schema closes the list.
    pub fn fields(&self) -> Option<Vec<String>> {
        let properties = self.value.get("properties")?.as_object()?;
        let closed = self.value.get("additionalProperties") == Some(&Value::Bool(false));
        closed.then(|| properties.keys().cloned().collect())
    }

    /// The schema as it is sent: without what only editors and validators read.
    pub fn sent(&self) -> Value {
        let mut value = self.value.clone();
        if let Some(object) = value.as_object_mut() {
            object.remove("$schema");
            object.remove("$id");
        }
        value
    }

    /// What providers of strict schemas would refuse: objects that are open, fields that are not
    /// required.
    pub fn unlike_strict(&self) -> Vec<String> {
        let mut faults = Vec::new();
        strict(&self.value, "", &mut faults);
        faults
    }
}

/// Where the value at the end of `steps` stands, from the value at `at` on; `text` is valid JSON.
/// Where a step leads nowhere, the last value that there is.
pub fn place_of(text: &str, at: usize, steps: &[String]) -> Range<usize> {
    let is_gap = |c: char| c.is_ascii_whitespace() || c == ',' || c == ':';
    let skip = |at: usize| text.len() - text[at..].trim_start_matches(is_gap).len();
    let end = |at: usize| {
        let mut values = serde_json::Deserializer::from_str(&text[at..]).into_iter::<IgnoredAny>();
        let _ = values.next();
        at + values.byte_offset()
    };
    let start = skip(at);
    let whole = start..end(start);
    let Some((step, rest)) = steps.split_first() else {
        return whole;
    };
    let in_object = text[start..].starts_with('{');
    let mut at = skip(start + 1);
    for index in 0.. {
        if at >= whole.end || text[at..].starts_with(['}', ']']) {
            break;
        }
        let mut name = index.to_string();
        if in_object {
            let stop = end(at);
            name = serde_json::from_str(&text[at..stop]).unwrap_or_default();
            at = skip(stop);
        }
        if name == *step {
            return place_of(text, at, rest);
        }
        at = skip(end(at).max(at + 1));
    }
    whole
}

fn strict(schema: &Value, place: &str, faults: &mut Vec<String>) {
    let shown = if place.is_empty() { "its root" } else { place };
    match schema {
        Value::Object(object) => {
            if let Some(Value::Object(properties)) = object.get("properties") {
                if object.get("additionalProperties") != Some(&Value::Bool(false)) {
                    faults.push(format!("{shown} lacks `\"additionalProperties\": false`"));
                }
                let required = object.get("required").and_then(Value::as_array);
                let is_required = |name: &str| {
                    required.is_some_and(|names| names.iter().any(|known| known == name))
                };
                for name in properties.keys().filter(|name| !is_required(name)) {
                    faults.push(format!("{shown} does not require `{name}`"));
                }
            }
            for (name, inner) in object {
                if !matches!(name.as_str(), "enum" | "const" | "default" | "examples") {
                    strict(inner, &format!("{place}/{name}"), faults);
                }
            }
        }
        Value::Array(values) => {
            for (index, inner) in values.iter().enumerate() {
                strict(inner, &format!("{place}/{index}"), faults);
            }
        }
        _ => {}
    }
}
