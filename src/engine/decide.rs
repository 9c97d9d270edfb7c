//! What is known before anything runs: the tables that people wrote, and of each stage whether it is
//! up to date. A plan and a run decide by the same words.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::fingerprint::{Standing, definition, fingerprint};
use super::rows::Mode;
use super::spans::Earlier;
use crate::clients::Again;
use crate::pipeline::{InputRef, Pipeline, Stage};
use crate::stages::{StageError, Work};
use crate::store::{
    Artifact, FileState, KeepError, Notes, StageRecord, Store, StoreError, StoredTable, input_note,
    stretches_note,
};
use crate::table::{Digest, Format, ReadError, Row, all_fields, fields_of, read_rows};

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
        Choices { now: now(), ..Choices::default() }
    }
}

/// What a stage is about to do.
pub(super) struct Decision {
    pub fingerprint: Digest,
    pub definition: Digest,
    pub mode: Mode,
    /// The revision of answers that its table stands on.
    pub revision: i64,
    pub last: Option<StageRecord>,
    pub known: Result<Found, Stale>,
}

impl Decision {
    /// The table that the stage had before under the same definition, standing on the same answers:
    /// what unchanged parts of its input made can be taken from it.
    pub fn earlier(&self, store: &Store) -> Result<Option<Earlier>, StoreError> {
        match &self.last {
            Some(last)
                if self.mode.takes_known()
                    && self.mode.limit.is_none()
                    && last.definition == self.definition.hex()
                    && last.revision == self.revision =>
            {
                Earlier::open(last, store)
            }
            _ => Ok(None),
        }
    }
}

/// A table that is known. It is not opened: most of the time nobody reads it.
pub(super) struct Found {
    pub table: StoredTable,
    pub failed: Option<Artifact>,
    /// It is the one that the stage last had.
    pub same: bool,
}

/// A table with the name that it is read by.
pub(super) type NamedTable = (String, Digest);

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
    /// Rows of it were answered by somebody else than was asked.
    StoodIn(u64),
    /// What it depends on has changed.
    Changed,
    /// Nothing but that some answers were replaced: its rows that stand on them run.
    Answers,
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
            Stale::StoodIn(1) => "1 row answered by another model".into(),
            Stale::StoodIn(rows) => format!("{rows} rows answered by another model"),
            Stale::Changed => "changed".into(),
            Stale::Answers => "answers were replaced; rows that stand on them run".into(),
            Stale::Gone => "no longer stored".into(),
        }
    }
}

/// Under which name a stage's record is kept: a trial's apart from the real ones.
pub(super) fn record_profile(pipeline: &Pipeline, limit: Option<u64>) -> String {
    profile_name(&pipeline.profile.name, limit.is_some())
}

pub(super) fn profile_name(profile: &str, trial: bool) -> String {
    match trial {
        true => format!("{profile}:trial"),
        false => profile.to_owned(),
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

/// What was noted of a pipeline when it was last run, read in one go, and who asks now.
#[derive(Default)]
pub(super) struct Before {
    /// How each stage last ended.
    pub stages: HashMap<String, StageRecord>,
    /// What each file held.
    pub files: Notes,
    /// The revision of answers.
    pub revision: i64,
    pub asker: Option<String>,
}

impl Before {
    pub fn read(
        pipeline: &Pipeline,
        store: &Store,
        asker: Option<String>,
        limit: Option<u64>,
    ) -> Result<Before, StoreError> {
        let stages = store.stages_of(&record_profile(pipeline, limit))?;
        Ok(Before { stages, files: store.notes()?, revision: store.revision(), asker })
    }
}

pub(super) fn decide(
    pipeline: &Pipeline,
    store: &Store,
    before: &Before,
    at: usize,
    inputs: &[Digest],
    choices: &Choices,
) -> Result<Decision, StoreError> {
    let stage = &pipeline.stages[at];
    let limit = choices.limit;
    let last = before.stages.get(&stage.name).cloned();
    let revision = match &last {
        // What was taken as it is stays so, whatever is asked again elsewhere.
        Some(last) if last.accepted => last.revision,
        _ => before.revision,
    };
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
    let known = match (store.table(fingerprint, before.asker.as_deref())?, why) {
        (_, Some(why)) => Err(why),
        (Some(table), None) => found(store, table, &last, fingerprint, choices.retry_failed)?,
        (None, None) => Err(match &last {
            None => Stale::New,
            Some(last) if last.fingerprint == fingerprint.hex() && last.failed_rows > 0 => {
                Stale::Unfinished(last.failed_rows)
            }
            Some(last) if last.fingerprint == fingerprint.hex() && last.stood_in > 0 => {
                Stale::StoodIn(last.stood_in)
            }
            Some(last) if last.fingerprint == fingerprint.hex() => Stale::Gone,
            Some(last) => {
                let then = Standing { inputs, revision: last.revision, limit };
                let same = super::fingerprint::fingerprint(pipeline, stage, then).hex();
                if last.fingerprint == same { Stale::Answers } else { Stale::Changed }
            }
        }),
    };
    Ok(Decision { fingerprint, definition, mode, revision, last, known })
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
    if !store.has_object(table.artifact) {
        return Ok(Err(Stale::Gone));
    }
    let same = last.as_ref().is_some_and(|last| last.fingerprint == fingerprint.hex());
    Ok(Ok(Found { table, failed, same }))
}

/// An age that cannot be told, as the clock was set back, is too old: asking costs little.
fn is_old(last: &StageRecord, age: Duration, now: i64) -> bool {
    let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
    !(0..age).contains(&(now - last.checked))
}

/// For each stage, the table that it is known to have before anything runs.
pub(super) fn settled(
    pipeline: &Pipeline,
    store: &Store,
    before: &Before,
    choices: &Choices,
) -> Result<Vec<Option<Digest>>, StoreError> {
    let mut known: Vec<Option<Digest>> = vec![None; pipeline.stages.len()];
    let tables = pipeline.tables.iter().map(|table| keep_rows(store, &table.rows));
    let tables: Vec<Artifact> = tables.collect::<Result<_, _>>()?;
    for at in pipeline.order.iter().copied() {
        let mut inputs = Vec::new();
        for input in &pipeline.stages[at].inputs {
            inputs.push(match input {
                InputRef::Stage(index) => known[*index],
                InputRef::Table(index) => Some(tables[*index].digest()),
                InputRef::File { path, .. } => {
                    match FileState::of(&pipeline.project.root.join(path)) {
                        Ok(state) => before.files.noted(&input_note(path), state),
                        Err(_) => None,
                    }
                }
            });
        }
        let inputs: Option<Vec<Digest>> = inputs.into_iter().collect();
        if let Some(inputs) = inputs {
            let decision = decide(pipeline, store, before, at, &inputs, choices)?;
            known[at] = decision.known.ok().map(|found| found.table.artifact);
        }
    }
    Ok(known)
}

/// What is to be noted of a file.
pub(super) type FileNote = (String, FileState, Digest);

/// A file that people wrote, as a table; read again only where the file has been touched. What is to
/// be noted of it comes with it.
pub(super) fn file(
    pipeline: &Pipeline,
    store: &Store,
    before: &Before,
    path: &str,
) -> Result<(Digest, Vec<FileNote>), StageError> {
    let full = pipeline.project.root.join(path);
    let state = FileState::of(&full)?;
    let note = input_note(path);
    if let Some(digest) = before.files.noted(&note, state).filter(|it| store.has_object(*it)) {
        return Ok((digest, Vec::new()));
    }
    let wrong = |error: ReadError| StageError::Failed(format!("the input `{path}` {error}"));
    if Format::of(&full) != Some(Format::Jsonl) {
        let rows = read_rows(&full).map_err(wrong)?;
        let digest = keep(store, &fields_of(&full, &rows).map_err(wrong)?, &rows)?.digest();
        return Ok((digest, vec![(note, state, digest)]));
    }
    let known = store.stretches(&before.files, path)?;
    let kept = store.keep_lines(&full, known.as_ref());
    let (table, lines) = kept.map_err(|error| match error {
        KeepError::Read(error) => wrong(error),
        KeepError::Store(error) => error.into(),
    })?;
    let digest = table.digest();
    Ok((digest, vec![(note, state, digest), (stretches_note(path), state, lines)]))
}

/// Rows that people wrote, as an artifact. A field that only some of them have is null in the rest.
pub(super) fn keep_rows(store: &Store, rows: &[Row]) -> Result<Artifact, StoreError> {
    keep(store, &all_fields(rows), rows)
}

fn keep(store: &Store, fields: &[String], rows: &[Row]) -> Result<Artifact, StoreError> {
    let mut writer = store.write_artifact(fields);
    for row in rows {
        let field = |name: &String| (name.clone(), row.get(name).cloned().unwrap_or_default());
        writer.push(&fields.iter().map(field).collect())?;
    }
    writer.finish()
}

/// The table of a stage that is not brought up to date, as it last was, and whether it is complete.
pub(super) fn as_it_was(store: &Store, before: &Before, stage: &Stage) -> Option<(Digest, bool)> {
    let record = before.stages.get(&stage.name)?;
    let whole = record.state != super::StageState::Incomplete.as_str();
    record.artifact().filter(|digest| store.has_object(*digest)).map(|digest| (digest, whole))
}

/// Opens a table that something is to be made of.
pub(super) fn open(store: &Store, name: &str, digest: Digest) -> Result<Artifact, StoreError> {
    let gone = || StoreError::Damaged(format!("the table of `{name}` is damaged"));
    store.artifact(digest)?.ok_or_else(gone)
}

/// Milliseconds since 1970.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis().try_into().unwrap_or(i64::MAX))
}
