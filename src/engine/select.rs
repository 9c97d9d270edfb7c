//! Which stages a command is about: `x` and what it needs, `x+` also what follows it.

use std::collections::BTreeSet;

use thiserror::Error;

use crate::manifest::did_you_mean;
use crate::pipeline::{InputRef, Pipeline};

/// A target that is not there.
#[derive(Debug, Error)]
#[error("there is no stage or output `{name}`{}", help.as_ref().map(|help| format!("; {help}")).unwrap_or_default())]
pub struct NoTarget {
    pub name: String,
    pub help: Option<String>,
}

/// The places of the stages that `targets` choose: all of them where there is none. A target is a
/// stage or one of its outputs, with all that it needs; `x+` is also all that follows it, with what
/// that needs. With `only` nothing is added but what `+x` and `x+` ask for.
pub fn select(
    pipeline: &Pipeline,
    targets: &[String],
    only: bool,
) -> Result<BTreeSet<usize>, NoTarget> {
    if targets.is_empty() {
        return Ok((0..pipeline.stages.len()).collect());
    }
    let mut chosen = BTreeSet::new();
    for target in targets {
        let (name, needs) = match target.strip_prefix('+') {
            Some(name) => (name, true),
            None => (target.as_str(), !only),
        };
        let (name, follows) = match name.strip_suffix('+') {
            Some(name) => (name, true),
            None => (name, false),
        };
        let mut found = BTreeSet::from([find(pipeline, name)?]);
        if follows {
            add_readers(pipeline, &mut found);
        }
        if needs {
            add_needs(pipeline, &mut found);
        }
        chosen.extend(found);
    }
    Ok(chosen)
}

/// The place of a stage, by its name or by one of its outputs.
pub fn find(pipeline: &Pipeline, name: &str) -> Result<usize, NoTarget> {
    let path = name.strip_prefix("./").unwrap_or(name);
    let named = pipeline.stages.iter().position(|stage| stage.name == name);
    let writes =
        || pipeline.stages.iter().position(|stage| stage.outputs.iter().any(|it| it == path));
    named.or_else(writes).ok_or_else(|| {
        let known = pipeline.stages.iter().map(|stage| stage.name.as_str());
        NoTarget { name: name.to_owned(), help: did_you_mean(name, known) }
    })
}

fn add_needs(pipeline: &Pipeline, found: &mut BTreeSet<usize>) {
    for at in pipeline.order.iter().rev() {
        if found.contains(at) {
            for input in &pipeline.stages[*at].inputs {
                if let InputRef::Stage(index) = input {
                    found.insert(*index);
                }
            }
        }
    }
}

fn add_readers(pipeline: &Pipeline, found: &mut BTreeSet<usize>) {
    for at in &pipeline.order {
        let reads =
            |input: &InputRef| matches!(input, InputRef::Stage(index) if found.contains(index));
        if pipeline.stages[*at].inputs.iter().any(reads) {
            found.insert(*at);
        }
    }
}
