//! The JSON Schema of the manifest, generated from the types that it is read into. Editors complete
//! and check `pipeline.toml` by it.

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::manifest::{Common, GithubSection, ModelSection, PipelineSection, ProfileSection};
use crate::stages;

/// The schema of a whole manifest.
pub fn manifest_schema() -> Value {
    let mut generator = schemars::generate::SchemaSettings::draft2020_12().into_generator();
    let pipeline = of::<PipelineSection>(&mut generator);
    let github = of::<GithubSection>(&mut generator);
    let model = of::<ModelSection>(&mut generator);
    let stage = stage(&mut generator);
    let mut profile = inline::<ProfileSection>(&mut generator);
    let rows = json!({ "type": "array", "items": { "type": "object" } });
    let file = json!({
        "type": "object",
        "properties": { "file": { "type": "string" } },
        "required": ["file"],
        "additionalProperties": false,
    });
    let tables = json!({
        "description": "Tables: each row under `[[tables.NAME]]`, or `file` under `[tables.NAME]`.",
        "type": "object",
        "additionalProperties": { "anyOf": [rows, file] },
    });
    let params = json!({
        "description": "Values that templates see as `params.NAME`.",
        "type": "object",
    });
    // In a profile a section names only what differs, so nothing of it is required.
    let mut over = inline::<GithubSection>(&mut generator);
    over.remove("required");
    let mut over_model = inline::<ModelSection>(&mut generator);
    over_model.remove("required");
    if let Some(Value::Object(properties)) = profile.get_mut("properties") {
        properties.insert("params".into(), params.clone());
        properties.insert("tables".into(), tables.clone());
        properties.insert("github".into(), over.into());
        let models = json!({ "type": "object", "additionalProperties": over_model });
        properties.insert("models".into(), models);
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "flow manifest",
        "type": "object",
        "properties": {
            "pipeline": pipeline,
            "params": params,
            "github": github,
            "models": { "type": "object", "additionalProperties": model },
            "tables": tables,
            "stages": { "type": "object", "additionalProperties": stage },
            "profiles": { "type": "object", "additionalProperties": profile },
        },
        "required": ["pipeline"],
        "additionalProperties": false,
        "$defs": generator.take_definitions(true),
    })
}

/// A stage is what all stages have and what its kind adds; `kind` chooses among them.
fn stage(generator: &mut SchemaGenerator) -> Value {
    let common = inline::<Common>(generator);
    let kinds: Vec<Value> = stages::REGISTRY
        .into_iter()
        .map(|kind| {
            let reference = Value::from(kind.settings(generator));
            let mut settings = resolve(generator, reference);
            let mut properties = fields(&common);
            properties.extend(fields(&settings));
            let is_kind = json!({ "const": kind.name() });
            properties.insert("kind".into(), is_kind);
            let mut required = vec![json!("kind")];
            if let Some(Value::Array(more)) = settings.remove("required") {
                required.extend(more);
            }
            json!({
                "title": kind.name(),
                "type": "object",
                "properties": properties,
                "required": required,
                "additionalProperties": false,
            })
        })
        .collect();
    json!({ "oneOf": kinds })
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().into()
}

fn inline<T: JsonSchema>(generator: &mut SchemaGenerator) -> Map<String, Value> {
    let reference = of::<T>(generator);
    resolve(generator, reference)
}

/// The definition that a reference names, as it stands.
fn resolve(generator: &SchemaGenerator, schema: Value) -> Map<String, Value> {
    let name = schema.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next());
    let found = match name {
        Some(name) => generator.definitions().get(name).cloned().unwrap_or(schema.clone()),
        None => schema,
    };
    match found {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

fn fields(schema: &Map<String, Value>) -> Map<String, Value> {
    match schema.get("properties") {
        Some(Value::Object(properties)) => properties.clone(),
        _ => Map::new(),
    }
}
