//! What differs between the tables that two runs left: which rows, in which fields, and from what to
//! what. Chunks that both tables have are passed over without being read.

use std::collections::{BTreeSet, HashMap, HashSet};

use indexmap::IndexMap;
use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

use super::decide::profile_name;
use super::history::{RunRecord, StageRun};
use crate::manifest::did_you_mean;
use crate::pipeline::Pipeline;
use crate::store::{Artifact, Store, StoreError, StoredRun};
use crate::table::{Row, RowKey, key_of};

/// Changed rows that are shown, at the most.
const SHOWN: usize = 20;
/// A field with more values than this among its changes is not told as a matrix.
const LABELS: usize = 12;
/// Longer texts are prose, larger numbers are measures: neither are labels.
const LONGEST_LABEL: usize = 40;
const LARGEST_LABEL: i64 = 1000;
/// What stands behind a row, not what it says.
const CALL: &str = "_call";

/// How the tables of two runs differ.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The numbers of the runs.
    pub from: i64,
    pub to: i64,
    /// In the order of the later run, then those that only the earlier one has.
    pub stages: Vec<StageDiff>,
}

/// A stage's part of it.
#[derive(Clone, Debug, Serialize)]
pub struct StageDiff {
    pub name: String,
    /// Absent where its tables cannot be compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diff: Option<TableDiff>,
    /// Why they cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_compared: Option<String>,
    /// A table was there and is no longer stored.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub gone: bool,
}

/// How two tables differ. A field that a row lacks counts as null.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TableDiff {
    pub rows_from: u64,
    pub rows_to: u64,
    pub added: u64,
    pub removed: u64,
    /// Rows of both in which a field differs other than `_call`.
    pub changed: u64,
    /// Rows of both that stand on another call, and say the same.
    pub recalled: u64,
    /// The fields that differ, the one that does in most rows first.
    pub fields: Vec<FieldDiff>,
    /// The first changed rows.
    pub changes: Vec<RowDiff>,
}

/// A field in the changed rows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FieldDiff {
    pub name: String,
    /// How many rows differ in it.
    pub rows: u64,
    /// From what to what, where it has few values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matrix: Option<Matrix>,
}

/// How often a field changed from each label to each other one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Matrix {
    pub labels: Vec<Value>,
    /// A line for each label that was, with a number for each that is, in the order of `labels`.
    pub counts: Vec<Vec<u64>>,
}

/// A changed row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RowDiff {
    /// The fields that tell it apart.
    pub key: Row,
    pub fields: Vec<FieldChange>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FieldChange {
    pub field: String,
    pub from: Value,
    pub to: Value,
}

/// Runs that cannot be compared.
#[derive(Debug, Error)]
pub enum CompareError {
    #[error("there is no run {run}; {there}")]
    NoRun { run: i64, there: String },
    #[error("run {0} goes on or was cut off: nothing is noted of what it made")]
    NotEnded(i64),
    #[error("run {run} had no stage `{stage}`{}", help.as_ref().map(|help| format!("; {help}")).unwrap_or_default())]
    NoStage { run: i64, stage: String, help: Option<String> },
    #[error("`{stage}` has no table in run {run}: it {state}")]
    NoTable { run: i64, stage: String, state: String },
    #[error("the table of `{stage}` in run {run} is no longer stored: it was collected or damaged")]
    Gone { run: i64, stage: String },
    #[error("it is not known which fields tell the rows of `{0}` apart: it is no stage any more")]
    NoKey(String),
    #[error("rows of `{stage}` in run {run} have no field `{field}`, which is in its key now")]
    OtherKey { run: i64, stage: String, field: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl CompareError {
    /// Whether what was asked for is wrong, and not what is stored.
    pub fn is_asked_wrongly(&self) -> bool {
        !matches!(self, CompareError::Gone { .. } | CompareError::Store(_))
    }
}

/// A run with what it did.
struct Run {
    id: i64,
    record: RunRecord,
}

/// Compares the tables of two runs: those of one stage, or of every stage that both had.
/// `pipeline` tells what the store does not.
pub fn compare(
    store: &Store,
    pipeline: Option<&Pipeline>,
    runs: [i64; 2],
    stage: Option<&str>,
) -> Result<Comparison, CompareError> {
    let comparer =
        Comparer { store, pipeline, from: run(store, runs[0])?, to: run(store, runs[1])? };
    let stages = match stage {
        Some(name) => {
            let diff = comparer.stage(name)?;
            vec![StageDiff::compared(name, diff)]
        }
        None => comparer.all()?,
    };
    Ok(Comparison { from: runs[0], to: runs[1], stages })
}

/// The last run of the history that was about stages, and not only about a request or two (`flow try`);
/// 0 where there is none.
pub fn last_run(store: &Store) -> Result<i64, StoreError> {
    let is_try = |run: &StoredRun| {
        let record = run.record.as_deref().and_then(RunRecord::read);
        record.is_some_and(|record| record.stages.is_empty())
    };
    let runs = store.runs(u64::from(u32::MAX))?;
    Ok(runs.iter().find(|run| !is_try(run)).map_or(0, |run| run.id))
}

fn run(store: &Store, id: i64) -> Result<Run, CompareError> {
    let Some(found) = store.run(id)? else {
        let there = match store.runs(1)?.first() {
            None => "nothing has run yet".into(),
            Some(last) => format!("the last one is {}", last.id),
        };
        return Err(CompareError::NoRun { run: id, there });
    };
    let record = found.record.and_then(|record| RunRecord::read(&record));
    Ok(Run { id, record: record.ok_or(CompareError::NotEnded(id))? })
}

impl Run {
    fn stage(&self, name: &str) -> Result<&StageRun, CompareError> {
        let found = self.record.stages.iter().find(|stage| stage.name == name);
        found.ok_or_else(|| {
            let known = self.record.stages.iter().map(|stage| stage.name.as_str());
            let help = did_you_mean(name, known);
            CompareError::NoStage { run: self.id, stage: name.into(), help }
        })
    }

    fn table(&self, name: &str, store: &Store) -> Result<Artifact, CompareError> {
        let stage = self.stage(name)?;
        let Some(artifact) = &stage.artifact else {
            let state = match stage.state {
                super::StageState::Skipped => "was skipped".into(),
                state => state.as_str().into(),
            };
            return Err(CompareError::NoTable { run: self.id, stage: name.into(), state });
        };
        let gone = || CompareError::Gone { run: self.id, stage: name.into() };
        let digest = artifact.parse().map_err(|_| gone())?;
        store.artifact(digest)?.ok_or_else(gone)
    }

    /// The profile under which its stages are noted.
    fn profile(&self) -> String {
        profile_name(&self.record.profile, self.record.trial)
    }
}

impl StageDiff {
    fn compared(name: &str, diff: TableDiff) -> StageDiff {
        StageDiff { name: name.into(), diff: Some(diff), not_compared: None, gone: false }
    }

    fn not_compared(name: &str, error: &CompareError) -> StageDiff {
        let gone = matches!(error, CompareError::Gone { .. });
        StageDiff { name: name.into(), diff: None, not_compared: Some(error.to_string()), gone }
    }
}

struct Comparer<'a> {
    store: &'a Store,
    pipeline: Option<&'a Pipeline>,
    from: Run,
    to: Run,
}

impl Comparer<'_> {
    fn all(&self) -> Result<Vec<StageDiff>, CompareError> {
        let stages = self.to.record.stages.iter().chain(&self.from.record.stages);
        let mut seen = HashSet::new();
        let mut diffs = Vec::new();
        for StageRun { name, .. } in stages.filter(|stage| seen.insert(&stage.name)) {
            diffs.push(match self.stage(name) {
                Ok(diff) => StageDiff::compared(name, diff),
                Err(CompareError::Store(error)) => return Err(error.into()),
                Err(CompareError::NoStage { run, .. }) => {
                    let error = CompareError::NoStage { run, stage: name.clone(), help: None };
                    StageDiff::not_compared(name, &error)
                }
                Err(error) => StageDiff::not_compared(name, &error),
            });
        }
        Ok(diffs)
    }

    fn stage(&self, name: &str) -> Result<TableDiff, CompareError> {
        let from = self.from.table(name, self.store)?;
        let to = self.to.table(name, self.store)?;
        let mut diff = TableDiff { rows_from: from.rows, rows_to: to.rows, ..TableDiff::default() };
        if from.digest() == to.digest() {
            return Ok(diff);
        }
        let key = self.key(name)?;
        let mut before: HashMap<RowKey, Row> = HashMap::new();
        let keyless =
            |run: &Run, field| CompareError::OtherKey { run: run.id, stage: name.into(), field };
        for row in self.store.rows_apart(&from, &to) {
            let row = row?;
            let own = key_of(&row, &key).map_err(|field| keyless(&self.from, field))?;
            before.insert(own, row);
        }
        let mut fields: IndexMap<String, Counted> = IndexMap::new();
        for row in self.store.rows_apart(&to, &from) {
            let row = row?;
            let own = key_of(&row, &key).map_err(|field| keyless(&self.to, field))?;
            match before.remove(&own) {
                None => diff.added += 1,
                Some(before) => diff.row(&key, &before, &row, &mut fields),
            }
        }
        diff.removed = before.len() as u64;
        diff.fields = fields.into_iter().map(|(name, counted)| counted.finish(name)).collect();
        diff.fields.sort_by_key(|field| std::cmp::Reverse(field.rows));
        Ok(diff)
    }

    /// The fields that tell the stage's rows apart.
    fn key(&self, name: &str) -> Result<Vec<String>, CompareError> {
        for run in [&self.to, &self.from] {
            if let Some(record) = self.store.stage(&run.profile(), name)? {
                return Ok(record.key);
            }
        }
        let stage = self.pipeline.and_then(|pipeline| pipeline.stage(name));
        let key = stage.map(|stage| stage.compiled.key.clone());
        key.ok_or_else(|| CompareError::NoKey(name.into()))
    }
}

impl TableDiff {
    /// Takes a row of both tables in.
    fn row(
        &mut self,
        key: &[String],
        before: &Row,
        after: &Row,
        counted: &mut IndexMap<String, Counted>,
    ) {
        let value = |row: &Row, name: &str| row.get(name).cloned().unwrap_or_default();
        let new = after.keys().filter(|name| !before.contains_key(*name));
        let mut changes = Vec::new();
        for name in before.keys().chain(new).filter(|name| !key.contains(name)) {
            let (from, to) = (value(before, name), value(after, name));
            if name != CALL && from != to {
                counted.entry(name.clone()).or_default().see(&from, &to);
                changes.push(FieldChange { field: name.clone(), from, to });
            }
        }
        if changes.is_empty() {
            self.recalled += u64::from(value(before, CALL) != value(after, CALL));
            return;
        }
        self.changed += 1;
        if self.changes.len() < SHOWN {
            let key = key.iter().map(|name| (name.clone(), value(after, name))).collect();
            self.changes.push(RowDiff { key, fields: changes });
        }
    }
}

/// The changes of a field.
#[derive(Default)]
struct Counted {
    rows: u64,
    pairs: HashMap<(Label, Label), u64>,
    labels: BTreeSet<Label>,
    /// It has values that are no labels, or too many.
    wide: bool,
}

impl Counted {
    fn see(&mut self, from: &Value, to: &Value) {
        self.rows += 1;
        let (Some(from), Some(to), false) = (Label::of(from), Label::of(to), self.wide) else {
            self.widen();
            return;
        };
        self.labels.extend([from.clone(), to.clone()]);
        *self.pairs.entry((from, to)).or_default() += 1;
        if self.labels.len() > LABELS {
            self.widen();
        }
    }

    fn widen(&mut self) {
        *self = Counted { rows: self.rows, wide: true, ..Counted::default() };
    }

    fn finish(self, name: String) -> FieldDiff {
        let count = |from: &Label, to: &Label| {
            self.pairs.get(&(from.clone(), to.clone())).copied().unwrap_or(0)
        };
        let line = |from| self.labels.iter().map(|to| count(from, to)).collect();
        let matrix = Matrix {
            labels: self.labels.iter().map(Label::value).collect(),
            counts: self.labels.iter().map(line).collect(),
        };
        FieldDiff { name, rows: self.rows, matrix: (!self.wide).then_some(matrix) }
    }
}

/// One of a few values that a field has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Label {
    Null,
    Bool(bool),
    Number(i64),
    Text(String),
}

impl Label {
    fn of(value: &Value) -> Option<Label> {
        match value {
            Value::Null => Some(Label::Null),
            Value::Bool(value) => Some(Label::Bool(*value)),
            Value::Number(number) => {
                let small = -LARGEST_LABEL..=LARGEST_LABEL;
                let small = number.as_i64().filter(|number| small.contains(number));
                small.map(Label::Number)
            }
            Value::String(text) => {
                (text.chars().count() <= LONGEST_LABEL).then(|| Label::Text(text.clone()))
            }
            Value::Array(_) | Value::Object(_) => None,
        }
    }

    fn value(&self) -> Value {
        match self {
            Label::Null => Value::Null,
            Label::Bool(value) => (*value).into(),
            Label::Number(number) => (*number).into(),
            Label::Text(text) => text.as_str().into(),
        }
    }
}
