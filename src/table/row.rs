//! Rows and their keys.

use indexmap::IndexSet;
use serde_json::Value;

/// A row: a JSON object whose fields keep their order.
pub type Row = serde_json::Map<String, Value>;

/// The values of a row's key fields, as compact JSON: `["I_kwDO","llama.cpp"]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowKey(pub String);

/// The key of `row`, or the name of the key field that it lacks.
pub fn key_of(row: &Row, fields: &[String]) -> Result<RowKey, String> {
    let mut values = Vec::with_capacity(fields.len());
    for field in fields {
        values.push(row.get(field).ok_or_else(|| field.clone())?);
    }
    let text = serde_json::to_string(&values).expect("JSON values always serialize");
    Ok(RowKey(text))
}

/// A key for people: `id=I_kwDO, engine=llama.cpp`.
pub fn show_key(row: &Row, fields: &[String]) -> String {
    let show = |field: &String| {
        let value = match row.get(field) {
            None => "(missing)".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        format!("{field}={value}")
    };
    fields.iter().map(show).collect::<Vec<_>>().join(", ")
}

/// Every field that some row has, in the order of first appearance.
pub fn all_fields(rows: &[Row]) -> Vec<String> {
    let fields: IndexSet<&String> = rows.iter().flat_map(Row::keys).collect();
    fields.into_iter().cloned().collect()
}
