//! JSON Schemas that answers must keep to.

use jsonschema::Validator;
use serde_json::Value;

/// A schema, and the means to check against it.
pub struct AnswerSchema {
    pub value: Value,
    validator: Validator,
}

impl AnswerSchema {
    /// Parses and compiles a schema; the fault comes with its line where it is no JSON.
    pub fn parse(text: &str) -> Result<AnswerSchema, (String, Option<usize>)> {
        let value: Value = serde_json::from_str(text)
            .map_err(|error| (format!("it is no JSON: {error}"), Some(error.line())))?;
        let validator = jsonschema::validator_for(&value)
            .map_err(|error| (format!("it is no JSON Schema: {error}"), None))?;
        if value.get("type") != Some(&"object".into()) {
            return Err(("its root must be `\"type\": \"object\"`".into(), None));
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
