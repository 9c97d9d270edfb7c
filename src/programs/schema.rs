//! JSON Schemas that answers must keep to.

use std::ops::Range;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{ValidationError, Validator};
use serde::de::IgnoredAny;
use serde_json::Value;

use super::strict::{Refused, checked_form, strict_form};
use crate::manifest::did_you_mean;
use crate::table::Row;

/// A schema, and the means to check against it.
pub struct AnswerSchema {
    /// As it was written.
    pub value: Value,
    sent: Value,
    validator: Validator,
}

/// What is wrong with a schema, and where in its text.
pub struct SchemaFault {
    pub message: String,
    pub help: Option<String>,
    pub range: Range<usize>,
}

impl AnswerSchema {
    /// Parses and compiles a schema. One that a provider is to hold its model to must have a strict
    /// form.
    pub fn parse(text: &str, strict: bool) -> Result<AnswerSchema, Vec<SchemaFault>> {
        let fault =
            |message, help: String, range| vec![SchemaFault { message, help: Some(help), range }];
        let value: Value = serde_json::from_str(text).map_err(|error| {
            let lines = text.split_inclusive('\n').take(error.line().saturating_sub(1));
            let at = lines.map(str::len).sum::<usize>() + error.column().saturating_sub(1);
            let at = text.floor_char_boundary(at);
            let end = text[at..].chars().next().map_or(at, |c| at + c.len_utf8());
            let told = error.to_string();
            let (what, help) = match text.trim() {
                "" => ("it is empty", "write `{ \"type\": \"object\", \"properties\": { ... } }`"),
                _ if error.is_eof() => ("it ends too early", "close what is open: `}`, `]`, `\"`"),
                // The place is told beside it.
                _ => (
                    told.split(" at line ").next().unwrap_or(&told),
                    "names and texts stand in double quotes, with `,` between and none at the end",
                ),
            };
            fault(format!("it is no JSON: {what}"), help.into(), at..end)
        })?;
        let no_schema = |error: ValidationError<'_>| {
            if let ValidationErrorKind::Referencing(_) = error.kind() {
                let path = loose_reference(&value, &value).unwrap_or_default();
                let message = "a `$ref` leads nowhere in it; other files are not read".into();
                let help = "define it under `$defs`: `{ \"$ref\": \"#/$defs/NAME\" }`";
                return fault(message, help.into(), place_of(text, 0, &path));
            }
            let path = error.instance_path().to_string();
            let steps = path.split('/').skip(1).map(|step| step.replace("~1", "/"));
            let steps: Vec<String> = steps.map(|step| step.replace("~0", "~")).collect();
            let (what, help) = no_schema(&error, steps.last().map_or("", String::as_str));
            fault(format!("it is no JSON Schema: {what}"), help, place_of(text, 0, &steps))
        };
        let validator = validator(&value).map_err(no_schema)?;
        if !strict {
            return Ok(AnswerSchema { sent: value.clone(), value, validator });
        }
        let sent = strict_form(&value).map_err(|refused| {
            let fault = |refused: Refused| SchemaFault {
                message: refused.message,
                help: Some(refused.help),
                range: place_of(text, 0, &refused.path),
            };
            refused.into_iter().map(fault).collect::<Vec<_>>()
        })?;
        let validator = self::validator(&checked_form(&value)).map_err(no_schema)?;
        Ok(AnswerSchema { value, sent, validator })
    }

    /// What is wrong with an answer, a line each; empty where it keeps to the schema.
    pub fn faults(&self, answer: &Value) -> Vec<String> {
        let errors = self.validator.iter_errors(answer).take(10).map(|error| {
            let place = error.instance_path().to_string();
            let place = if place.is_empty() { "the answer".to_owned() } else { place };
            format!("{place}: {error}")
        });
        let errors = errors.collect::<Vec<_>>();
        match answer {
            Value::Object(_) => errors,
            _ if errors.is_empty() => vec!["the answer is no object".into()],
            _ => errors,
        }
    }

    /// Puts null where the schema tells of a field that the answer left out.
    pub fn complete(&self, fields: &mut Row) {
        let properties = self.value.get("properties").and_then(Value::as_object);
        for name in properties.into_iter().flat_map(|properties| properties.keys()) {
            fields.entry(name.clone()).or_insert(Value::Null);
        }
    }

    /// The fields that an answer can have, where the list is closed.
    pub fn fields(&self) -> Option<Vec<String>> {
        let properties = self.sent.get("properties")?.as_object()?;
        let closed = self.sent.get("additionalProperties") == Some(&Value::Bool(false));
        closed.then(|| properties.keys().cloned().collect())
    }

    /// The schema as a provider gets it.
    pub fn sent(&self) -> &Value {
        &self.sent
    }
}

/// Why a value is not one that a keyword takes, and what helps.
fn no_schema(error: &ValidationError<'_>, keyword: &str) -> (String, String) {
    const TYPES: [&str; 7] = ["string", "number", "integer", "boolean", "object", "array", "null"];
    match (keyword, &**error.instance()) {
        ("type", Value::String(name)) => {
            let help = did_you_mean(name, TYPES).unwrap_or_default();
            (format!("`{name}` is no type"), help)
        }
        ("enum", _) => (error.to_string(), "write a list: `\"enum\": [\"a\", \"b\"]`".into()),
        ("pattern", _) => {
            let help = "write a regular expression; `\\\\` stands before a sign meant as such";
            (error.to_string(), help.into())
        }
        _ => {
            let help =
                "see what the keyword takes: https://json-schema.org/understanding-json-schema";
            (error.to_string(), help.into())
        }
    }
}

fn validator(schema: &Value) -> Result<Validator, ValidationError<'static>> {
    jsonschema::options().should_validate_formats(true).build(schema)
}

/// The keys that lead to the first `$ref` in `value` that leads nowhere in `root`.
fn loose_reference(root: &Value, value: &Value) -> Option<Vec<String>> {
    let inside = |key: String, inner: &Value| {
        let leads = inner.as_str().and_then(|to| root.pointer(to.strip_prefix('#')?)).is_some();
        if key == "$ref" && inner.is_string() && !leads {
            return Some(vec![key]);
        }
        let mut path = loose_reference(root, inner)?;
        path.insert(0, key);
        Some(path)
    };
    match value {
        Value::Object(object) => object.iter().find_map(|(key, inner)| inside(key.clone(), inner)),
        Value::Array(values) => {
            values.iter().enumerate().find_map(|(index, inner)| inside(index.to_string(), inner))
        }
        _ => None,
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
