//! The keys that a run will need, looked for before it begins.

use std::collections::{BTreeMap, BTreeSet};

use super::decide::{Before, Choices, settled};
use super::event::Event;
use crate::clients::secret_in;
use crate::pipeline::Pipeline;
use crate::store::{Store, StoreError};

/// The keys that calls will need and that are not set, a line each, for the chosen stages that are
/// not known to be up to date.
pub(super) fn missing_secrets(
    pipeline: &Pipeline,
    store: &Store,
    before: &Before,
    chosen: &BTreeSet<usize>,
    choices: &Choices,
    observer: &dyn Fn(Event),
) -> Result<Vec<String>, StoreError> {
    let unset = |stage: &crate::pipeline::Stage| {
        stage.compiled.secrets.iter().any(|secret| secret_in(&secret.variable).is_none())
    };
    if !chosen.iter().any(|at| unset(&pipeline.stages[*at])) {
        return Ok(Vec::new());
    }
    let settled = settled(pipeline, store, before, choices)?;
    let mut missing: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    let mut without: BTreeMap<&str, &str> = BTreeMap::new();
    for at in chosen.iter().copied().filter(|at| settled[*at].is_none()) {
        let stage = &pipeline.stages[at];
        for secret in &stage.compiled.secrets {
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
            "the environment variable {variable} is not set, or empty; {of} needs it, for {plural} {stages}"
        )
    };
    Ok(missing.iter().map(line).collect())
}
