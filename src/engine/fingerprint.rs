//! What decides whether a stage runs: one walk over the components of its result, hashed for the
//! decision and kept as text for its explanation.

use crate::pipeline::{Pipeline, Stage};
use crate::stages::{Components, Work};
use crate::table::{Digest, Hasher};

/// Raised when the same components would give another fingerprint.
const VERSION: &str = "fingerprint 1";

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

/// The hash of all that a stage's table depends on; `inputs` are the digests of what it reads.
pub(super) fn fingerprint(pipeline: &Pipeline, stage: &Stage, inputs: &[Digest]) -> Digest {
    let mut hash = Hash(Hasher::new(VERSION));
    describe(pipeline, stage, &mut hash);
    describe_inputs(pipeline, stage, inputs, &mut hash);
    hash.0.finish()
}

/// The components of the fingerprint, for people.
pub(super) fn explain(
    pipeline: &Pipeline,
    stage: &Stage,
    inputs: &[Digest],
) -> Vec<(String, String)> {
    let mut text = Text::default();
    describe(pipeline, stage, &mut text);
    describe_inputs(pipeline, stage, inputs, &mut text);
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

fn describe_inputs(
    pipeline: &Pipeline,
    stage: &Stage,
    inputs: &[Digest],
    components: &mut dyn Components,
) {
    for (input, digest) in stage.inputs.iter().zip(inputs) {
        // A row stage does not know what its input is called; a whole-table stage does.
        let name = match stage.compiled.work {
            Work::Rows(_) => "input".to_owned(),
            Work::Table(_) => format!("input {}", pipeline.input_name(input)),
        };
        components.add(&name, &digest.hex());
    }
}
