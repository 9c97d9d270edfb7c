//! Taking a stage's table as up to date because somebody says so.

use thiserror::Error;

use super::decide::{Choices, decide};
use super::fingerprint::{Standing, explain};
use super::history::{RunRecord, StageRun};
use super::look::{Look, LookError};
use super::{StageState, Summary};
use crate::pipeline::Pipeline;
use crate::store::{Lock, StageRecord, Store, StoreError, StoredTable};
use crate::table::Digest;

/// A stage that cannot be accepted.
#[derive(Debug, Error)]
pub enum AcceptError {
    #[error(transparent)]
    Look(#[from] LookError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("`{0}` is up to date already; there is nothing to accept")]
    UpToDate(String),
    #[error("`{0}` has no table that could be accepted; run it first")]
    NoTable(String),
    #[error("`{stage}` reads `{reads}`, which is not up to date; run or accept that first")]
    Waits { stage: String, reads: String },
    #[error("`{stage}` lacks {rows} rows, which no word can replace; run it, or `--retry-failed`")]
    Incomplete { stage: String, rows: u64 },
}

/// Marks stage `at` as up to date without running it: the table that it last had stands for all that
/// it depends on now. The history says so. Returns how many rows it has.
pub async fn accept(pipeline: &Pipeline, at: usize, command: &str) -> Result<u64, AcceptError> {
    let _lock = Lock::take(&pipeline.cache())?;
    let store = Store::open(&pipeline.cache())?;
    let stage = &pipeline.stages[at];
    let name = || stage.name.clone();
    let look = Look::new(pipeline)?;
    let (inputs, waits_for) = look.inputs(at)?;
    if let Some(reads) = waits_for {
        return Err(AcceptError::Waits { stage: name(), reads });
    }
    let digests: Vec<Digest> = inputs.iter().map(|(_, table)| *table).collect();
    let decision = decide(pipeline, &store, &look.before, at, &digests, &Choices::at_once())?;
    if decision.known.is_ok_and(|found| found.same && found.failed.is_none()) {
        return Err(AcceptError::UpToDate(name()));
    }
    let last = decision.last.ok_or_else(|| AcceptError::NoTable(name()))?;
    if last.failed_rows > 0 {
        return Err(AcceptError::Incomplete { stage: name(), rows: last.failed_rows });
    }
    let artifact = last.artifact().map(|digest| store.artifact(digest)).transpose()?.flatten();
    let artifact = artifact.ok_or_else(|| AcceptError::NoTable(name()))?;
    let run = store.begin_run().await?;
    let table = StoredTable {
        artifact: artifact.digest(),
        rows: artifact.rows,
        failed: None,
        definition: decision.definition,
        run,
    };
    store.put_table(decision.fingerprint, table, None).await?;
    let on = Standing { inputs: &digests, revision: look.before.revision, limit: None };
    let record = StageRecord {
        fingerprint: decision.fingerprint.hex(),
        definition: decision.definition.hex(),
        inputs: inputs.iter().map(|(name, it)| (name.clone(), it.hex())).collect(),
        run,
        stood_in: 0,
        revision: look.before.revision,
        // Its rows came of another definition, or of other rows: none of them is taken for these.
        spans: None,
        accepted: true,
        held: None,
        components: explain(pipeline, stage, on),
        ..last
    };
    store.put_stage(&pipeline.profile.name, &stage.name, &record).await?;
    let mut history = RunRecord::new(&Summary::default(), command, &pipeline.profile.name, false);
    history.stages.push(StageRun::accepted(&stage.name, StageState::UpToDate, &table));
    store.end_run(run, history.to_json()).await?;
    store.sync()?;
    Ok(artifact.rows)
}
