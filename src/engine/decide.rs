//! What is known before anything runs: the tables that people wrote, and of each stage whether it is
//! up to date. A plan and a run decide by the same words.

use std::time::Duration;

use super::fingerprint::{Standing, definition, fingerprint};
use super::rows::Mode;
use crate::clients::Again;
use crate::pipeline::{InputRef, Pipeline, Stage};
use crate::stages::{StageError, Work};
use crate::store::{Artifact, FileState, StageRecord, Store, StoreError, StoredTable};
use crate::table::{Digest, Row, all_fields, read_rows};

/// Which recorded answers a run asks for again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Refresh {
    #[default]
    None,
    All,
    /// Those of these stages, by their places.
    Stages(Vec<usize>),
}

/// What a run does beside what its pipeline says, as far as it decides what runs.
#[derive(Clone, Debug, Default)]
pub struct Choices {
    pub refresh: Refresh,
    /// Stages whose rows run whether they are known or not, by their places.
    pub force: Vec<usize>,
    pub retry_failed: bool,
    pub limit: Option<u64>,
    /// Milliseconds since 1970.
    pub now: i64,
}

impl Choices {
    /// Nothing but what the pipeline says, now.
    pub(super) fn at_once() -> Choices {
        Choices { now: super::run::now(), ..Choices::default() }
    }
}

/// What a stage is about to do.
pub(super) struct Decision {
    pub fingerprint: Digest,
    pub definition: Digest,
    pub mode: Mode,
    pub last: Option<StageRecord>,
    pub known: Result<Found, Stale>,
}

/// A table that is known.
pub(super) struct Found {
    pub table: StoredTable,
    pub artifact: Artifact,
    pub failed: Option<Artifact>,
    /// It is the one that the stage last had.
    pub same: bool,
}

/// Why a stage runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stale {
    /// It never ended.
    New,
    Forced,
    Refresh,
    /// Its answers are older than its `max_age`.
    Old,
    /// Rows whose answers were no good are asked about again.
    Retry,
    /// Rows of it failed in passing.
    Unfinished(u64),
    /// What it depends on has changed.
    Changed,
    /// Its table was collected or is damaged.
    Gone,
}

impl Stale {
    pub fn as_str(&self) -> String {
        match self {
            Stale::New => "never run".into(),
            Stale::Forced => "forced".into(),
            Stale::Refresh => "to be asked again".into(),
            Stale::Old => "older than `max_age`".into(),
            Stale::Retry => "failed rows to be asked about again".into(),
            Stale::Unfinished(1) => "1 row without a result".into(),
            Stale::Unfinished(rows) => format!("{rows} rows without a result"),
            Stale::Changed => "changed".into(),
            Stale::Gone => "no longer stored".into(),
        }
    }
}

/// Under which name a stage's record is kept: a trial's apart from the real ones.
pub(super) fn record_profile(pipeline: &Pipeline, limit: Option<u64>) -> String {
    match limit {
        Some(_) => format!("{}:trial", pipeline.profile.name),
        None => pipeline.profile.name.clone(),
    }
}

/// How the rows of a stage are treated.
pub(super) fn mode(pipeline: &Pipeline, at: usize, choices: &Choices) -> Mode {
    let asks = match &pipeline.stages[at].compiled.work {
        Work::Rows(rows) if rows.stage.calls() => Some(&rows.stage),
        _ => None,
    };
    let refresh = match &choices.refresh {
        Refresh::None => false,
        Refresh::All => true,
        Refresh::Stages(stages) => stages.contains(&at),
    };
    let again = match asks {
        Some(_) if refresh => Again::Yes,
        Some(stage) => stage.max_age().map_or(Again::No, Again::After),
        None => Again::No,
    };
    Mode {
        again,
        force: choices.force.contains(&at),
        retry_failed: choices.retry_failed,
        limit: choices.limit,
    }
}

pub(super) fn decide(
    pipeline: &Pipeline,
    store: &Store,
    at: usize,
    inputs: &[Digest],
    revision: i64,
    asker: Option<&str>,
    choices: &Choices,
) -> Result<Decision, StoreError> {
    let stage = &pipeline.stages[at];
    let limit = choices.limit;
    let last = store.stage(&record_profile(pipeline, limit), &stage.name)?;
    let mode = mode(pipeline, at, choices);
    let why = match mode.again {
        _ if mode.force => Some(Stale::Forced),
        Again::Yes => Some(Stale::Refresh),
        Again::After(age) => {
            last.as_ref().filter(|last| is_old(last, age, choices.now)).map(|_| Stale::Old)
        }
        Again::No => None,
    };
    let on = Standing { inputs, revision, limit };
    let fingerprint = fingerprint(pipeline, stage, on);
    let definition = definition(pipeline, stage);
    let known = match (store.table(fingerprint, asker)?, why) {
        (_, Some(why)) => Err(why),
        (Some(table), None) => found(store, table, &last, fingerprint, choices.retry_failed)?,
        (None, None) => Err(match &last {
            None => Stale::New,
            Some(last) if last.fingerprint == fingerprint.hex() && last.failed_rows > 0 => {
                Stale::Unfinished(last.failed_rows)
            }
            Some(last) if last.fingerprint == fingerprint.hex() => Stale::Gone,
            Some(_) => Stale::Changed,
        }),
    };
    Ok(Decision { fingerprint, definition, mode, last, known })
}

fn found(
    store: &Store,
    table: StoredTable,
    last: &Option<StageRecord>,
    fingerprint: Digest,
    retry_failed: bool,
) -> Result<Result<Found, Stale>, StoreError> {
    if retry_failed && table.failed.is_some() {
        return Ok(Err(Stale::Retry));
    }
    let failed = match table.failed {
        None => None,
        Some(digest) => match store.artifact(digest)? {
            None => return Ok(Err(Stale::Gone)),
            failed => failed,
        },
    };
    let same = last.as_ref().is_some_and(|last| last.fingerprint == fingerprint.hex());
    let artifact = store.artifact(table.artifact)?;
    Ok(artifact.map(|artifact| Found { table, artifact, failed, same }).ok_or(Stale::Gone))
}

/// An age that cannot be told, as the clock was set back, is too old: asking costs little.
fn is_old(last: &StageRecord, age: Duration, now: i64) -> bool {
    let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
    !(0..age).contains(&(now - last.checked))
}

/// For each stage, the artifact that it is known to have before anything runs.
pub(super) fn settled(
    pipeline: &Pipeline,
    store: &Store,
    asker: Option<&str>,
    choices: &Choices,
) -> Result<Vec<Option<Digest>>, StoreError> {
    let revision = store.revision();
    let mut known: Vec<Option<Digest>> = vec![None; pipeline.stages.len()];
    for at in pipeline.order.iter().copied() {
        let mut inputs = Vec::new();
        for input in &pipeline.stages[at].inputs {
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
            let decision = decide(pipeline, store, at, &inputs, revision, asker, choices)?;
            known[at] = decision.known.ok().map(|found| found.table.artifact);
        }
    }
    Ok(known)
}

/// Inputs are noted apart from outputs: one file may be both, in two pipelines of a folder.
fn input_note(path: &str) -> String {
    format!("input {path}")
}

/// A file that people wrote, as a table; read again only where the file has been touched. What is to
/// be noted of it comes with it.
pub(super) fn file(
    pipeline: &Pipeline,
    store: &Store,
    path: &str,
) -> Result<(Artifact, Option<(String, FileState)>), StageError> {
    let full = pipeline.project.root.join(path);
    let state = FileState::of(&full)?;
    let note = input_note(path);
    if let Some(digest) = store.noted(&note, state)?
        && let Some(artifact) = store.artifact(digest)?
    {
        return Ok((artifact, None));
    }
    let rows = read_rows(&full)
        .map_err(|error| StageError::Failed(format!("the input `{path}` {error}")))?;
    Ok((keep_rows(store, &rows)?, Some((note, state))))
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

/// The table of a stage that is not brought up to date, as it last was.
pub(super) fn as_it_was(
    pipeline: &Pipeline,
    store: &Store,
    stage: &Stage,
    limit: Option<u64>,
) -> Result<Option<(Artifact, bool)>, StoreError> {
    let Some(record) = store.stage(&record_profile(pipeline, limit), &stage.name)? else {
        return Ok(None);
    };
    let Some(digest) = record.artifact() else { return Ok(None) };
    let whole = record.state != super::StageState::Incomplete.as_str();
    Ok(store.artifact(digest)?.map(|artifact| (artifact, whole)))
}
