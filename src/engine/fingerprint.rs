//! What decides whether a stage runs: one walk over the components of its result, hashed for the
//! decision and kept as text for its explanation.

use crate::pipeline::{Pipeline, Stage};
use crate::stages::{Components, Work};
use crate::table::{Digest, Hasher};

/// Raised when the same components would give another fingerprint.
const VERSION: &str = "fingerprint 2";

/// The hasher of components.
struct Hash(Hasher);

impl Components for Hash {
    fn add(&mut self, name: &str, value: &str) {
        self.0.part(name.as_bytes()).part(value.as_bytes());
    }
}

/// The same components as text.
#[derive(Default)]
struct Text(Vec<(String, String)>);

impl Components for Text {
    fn add(&mut self, name: &str, value: &str) {
        self.0.push((name.to_owned(), value.to_owned()));
    }
}

/// The hash of a stage's definition: all that it depends on beside its inputs.
pub(super) fn definition(pipeline: &Pipeline, stage: &Stage) -> Digest {
    let mut hash = Hash(Hasher::new(VERSION));
    describe(pipeline, stage, &mut hash);
    hash.0.finish()
}

/// What a table stands on beside its stage's definition.
#[derive(Clone, Copy)]
pub(super) struct Standing<'a> {
    /// The digests of what it reads.
    pub inputs: &'a [Digest],
    /// The run that last put another answer in the place of a recorded one.
    pub revision: i64,
    /// A trial with so many rows.
    pub limit: Option<u64>,
}

/// The hash of all that a stage's table depends on.
pub(super) fn fingerprint(pipeline: &Pipeline, stage: &Stage, on: Standing<'_>) -> Digest {
    let mut hash = Hash(Hasher::new(VERSION));
    describe(pipeline, stage, &mut hash);
    describe_standing(pipeline, stage, on, &mut hash);
    hash.0.finish()
}

/// The components of the fingerprint, for people.
pub(super) fn explain(
    pipeline: &Pipeline,
    stage: &Stage,
    on: Standing<'_>,
) -> Vec<(String, String)> {
    let mut text = Text::default();
    describe(pipeline, stage, &mut text);
    describe_standing(pipeline, stage, on, &mut text);
    text.0
}

/// The components of its definition, for people.
pub(super) fn settings(pipeline: &Pipeline, stage: &Stage) -> Vec<(String, String)> {
    let mut text = Text::default();
    describe(pipeline, stage, &mut text);
    text.0
}

fn describe(pipeline: &Pipeline, stage: &Stage, components: &mut dyn Components) {
    components.add("kind", &format!("{} {}", stage.kind.name(), stage.kind.version()));
    match &stage.compiled.work {
        Work::Rows(rows) => rows.describe(components),
        Work::Table(table) => {
            components.add("key", &stage.compiled.key.join(","));
            table.describe(components);
        }
    }
    for param in &stage.compiled.params {
        let value = pipeline.params.get(param).cloned().unwrap_or_default();
        components.add(&format!("params.{param}"), &value.to_string());
    }
}

fn describe_standing(
    pipeline: &Pipeline,
    stage: &Stage,
    on: Standing<'_>,
    components: &mut dyn Components,
) {
    for (input, digest) in stage.inputs.iter().zip(on.inputs) {
        // A row stage does not know what its input is called; a whole-table stage does.
        let name = match stage.compiled.work {
            Work::Rows(_) => "input".to_owned(),
            Work::Table(_) => format!("input {}", pipeline.input_name(input)),
        };
        components.add(&name, &digest.hex());
    }
    if let Work::Rows(rows) = &stage.compiled.work {
        if rows.stage.calls() {
            components.add("answers", &format!("as of run {}", on.revision));
        }
        if let Some(limit) = on.limit {
            components.add("limit", &limit.to_string());
        }
    }
}
