//! What is known before anything runs: the tables that people wrote, the stages that are up to date
//! already, and the keys that the others will need.

use std::collections::BTreeMap;

use super::event::Event;
use super::fingerprint::fingerprint;
use crate::clients::secret_in;
use crate::pipeline::{InputRef, Pipeline};
use crate::store::{Artifact, FileState, Store, StoreError};
use crate::table::{Digest, Row, all_fields};

/// The keys that calls will need and that are not set, a line each, for the stages that are not known
/// to be up to date.
pub(super) fn missing_secrets(
    pipeline: &Pipeline,
    store: &Store,
    asker: Option<&str>,
    observer: &dyn Fn(Event),
) -> Result<Vec<String>, StoreError> {
    let settled = settled(pipeline, store, asker)?;
    let mut missing: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    let mut without: BTreeMap<&str, &str> = BTreeMap::new();
    for (stage, settled) in pipeline.stages.iter().zip(settled) {
        for secret in stage.compiled.secrets.iter().filter(|_| settled.is_none()) {
            if secret_in(&secret.variable).is_some() {
                continue;
            }
            if secret.required {
                let key = (secret.variable.as_str(), secret.of.as_str());
                missing.entry(key).or_default().push(format!("`{}`", stage.name));
            } else {
                without.insert(&secret.variable, &stage.name);
            }
        }
    }
    if missing.is_empty() {
        for (variable, stage) in without {
            let text = format!("{variable} is not set: GitHub allows 60 requests an hour without");
            observer(Event::Note { stage: stage.to_owned(), text });
        }
        return Ok(Vec::new());
    }
    let line = |((variable, of), stages): (&(&str, &str), &Vec<String>)| {
        let plural = if stages.len() == 1 { "stage" } else { "stages" };
        let stages = stages.join(", ");
        format!(
            "the environment variable {variable} is not set; {of} needs it, for {plural} {stages}"
        )
    };
    Ok(missing.iter().map(line).collect())
}

/// For each stage, the artifact that it is known to have before anything runs.
fn settled(
    pipeline: &Pipeline,
    store: &Store,
    asker: Option<&str>,
) -> Result<Vec<Option<Digest>>, StoreError> {
    let mut known: Vec<Option<Digest>> = vec![None; pipeline.stages.len()];
    for at in pipeline.order.iter().copied() {
        let stage = &pipeline.stages[at];
        let mut inputs = Vec::new();
        for input in &stage.inputs {
            inputs.push(match input {
                InputRef::Stage(index) => known[*index],
                InputRef::Table(index) => {
                    Some(keep_rows(store, &pipeline.tables[*index].rows)?.digest())
                }
                InputRef::File(path) => match FileState::of(&pipeline.project.root.join(path)) {
                    Ok(state) => store.noted(&input_note(path), state)?,
                    Err(_) => None,
                },
            });
        }
        let inputs: Option<Vec<Digest>> = inputs.into_iter().collect();
        if let Some(inputs) = inputs {
            let table = store.table(fingerprint(pipeline, stage, &inputs), asker)?;
            known[at] = table.map(|table| table.artifact);
        }
    }
    Ok(known)
}

/// Inputs are noted apart from outputs: one file may be both, in two pipelines of a folder.
pub(super) fn input_note(path: &str) -> String {
    format!("input {path}")
}

/// Rows that people wrote, as an artifact. A field that only some of them have is null in the rest.
pub(super) fn keep_rows(store: &Store, rows: &[Row]) -> Result<Artifact, StoreError> {
    let fields = all_fields(rows);
    let mut writer = store.write_artifact(&fields);
    for row in rows {
        let field = |name: &String| (name.clone(), row.get(name).cloned().unwrap_or_default());
        writer.push(&fields.iter().map(field).collect())?;
    }
    writer.finish()
}
