//! Whether everything stands as the manifest makes it: what must be so before a study is handed on.

use super::decide::open;
use super::event::StageState;
use super::explain::why;
use super::look::{Look, LookError};
use super::outputs::holds;
use crate::stages::StageError;
use crate::store::StageRecord;
use crate::table::{Digest, Format};

/// What does not stand as the manifest makes it, a line each: stages that would run, that failed or
/// lack rows, and outputs that do not hold their tables.
pub fn unready(look: &Look<'_>) -> Result<Vec<String>, LookError> {
    let mut found = Vec::new();
    for at in look.pipeline.order.iter().copied() {
        let stage = &look.pipeline.stages[at];
        let why = why(look, at)?;
        let last = look.before.stages.get(&stage.name);
        let (Some(table), Some(last), false) = (look.settled(at), last, why.stale) else {
            found.push(format!("stage `{}` is stale: {}", stage.name, why.reason));
            continue;
        };
        if let Some(what) = not_as_made(look, at, table, last) {
            found.push(format!("stage `{}` {what}", stage.name));
            continue;
        }
        let table = open(&look.store, &stage.name, table)?;
        for output in &stage.outputs {
            let full = look.pipeline.project.root.join(output);
            let Some(format) = Format::of(&full) else { continue };
            match holds(&look.store, &full, format, &table) {
                Ok(true) => {}
                Ok(false) => found.push(format!(
                    "output `{output}` was edited: it is not what stage `{}` made",
                    stage.name
                )),
                Err(StageError::Store(error)) if !full.is_file() => {
                    tracing::debug!(output, %error, "an output cannot be read");
                    found.push(format!("output `{output}` is missing"));
                }
                Err(error) => found.push(format!("output `{output}` cannot be read: {error}")),
            }
        }
    }
    Ok(found)
}

/// What is the matter with a stage whose table is known.
fn not_as_made(look: &Look<'_>, at: usize, table: Digest, last: &StageRecord) -> Option<String> {
    let whole = [StageState::UpToDate, StageState::Restored, StageState::Ran];
    if last.failed_rows > 0 {
        return Some(format!("is incomplete: {} of its rows have no result", last.failed_rows));
    }
    if !whole.iter().any(|state| state.as_str() == last.state) {
        return Some(format!("last ended as {}", last.state));
    }
    if last.artifact() != Some(table) {
        return Some("has a table from before, which its outputs do not show".into());
    }
    if last.accepted {
        return Some(
            "was accepted: its table is not what the manifest makes (`--force` makes it)".into(),
        );
    }
    let expect = look.pipeline.stages[at].expect.as_ref();
    match expect.is_some_and(|expect| last.held != Some(expect.digest(table).hex())) {
        true => Some("is not known to be as it is expected to be".into()),
        false => None,
    }
}
