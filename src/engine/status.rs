//! How each stage stands: its rows, whether it is up to date, when it last ran and what it has cost.

use std::collections::HashMap;

use serde::Serialize;

use super::explain::why;
use super::history::RunRecord;
use super::look::{Look, LookError};
use crate::clients::{Addressee, CallError};
use crate::store::Lock;

/// A pipeline as it stands.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    pub profile: String,
    /// The process of the run that works now.
    pub running: Option<String>,
    /// In the order of the manifest.
    pub stages: Vec<StageStatus>,
    /// Runs that were cut off, or go on. What they spent is not known.
    pub cut_off: u64,
    /// Of all runs that are in the history, under every profile; of those that were cut off, as many
    /// as their answers that are stored.
    pub calls: u64,
    pub cost_usd: f64,
    /// The provider's batches that are open, the oldest first.
    pub batches: Vec<BatchStatus>,
}

/// A batch that is open.
#[derive(Clone, Debug, Serialize)]
pub struct BatchStatus {
    /// Its name at the provider; `None` until it is known to be there.
    pub name: Option<String>,
    pub server: String,
    pub model: String,
    pub requests: u64,
    /// When it was made, in milliseconds since 1970.
    pub since: i64,
}

/// A stage as it stands.
#[derive(Clone, Debug, Serialize)]
pub struct StageStatus {
    pub name: String,
    /// How it last ended: `ran`, `incomplete`, ...; `None` where it never has.
    pub last: Option<String>,
    pub rows: u64,
    pub failed_rows: u64,
    /// Whether it would run.
    pub stale: bool,
    /// Why it would.
    pub reason: Option<String>,
    /// The run that made its table, and when that began, UTC.
    pub run: Option<i64>,
    pub at: Option<String>,
    /// Calls made and USD spent for it so far under this profile, trials included.
    pub calls: u64,
    pub cost_usd: f64,
    pub accepted: bool,
}

/// How the pipeline stands. Works while a run does.
pub fn status(look: &Look<'_>) -> Result<Status, LookError> {
    let profile = &look.pipeline.profile.name;
    let mut began = HashMap::new();
    let mut spent: HashMap<String, (u64, f64)> = HashMap::new();
    let (mut calls, mut cost_usd, mut cut_off) = (0, 0.0, 0);
    for run in look.store.runs(u64::from(u32::MAX))? {
        let id = run.id;
        began.insert(id, run.at);
        let record = run.record.and_then(|record| RunRecord::read(&record));
        let Some(record) = record else {
            cut_off += 1;
            calls += look.store.answered_in(id)?;
            continue;
        };
        calls += record.calls;
        cost_usd += record.cost_usd;
        for stage in record.stages.into_iter().filter(|_| record.profile == *profile) {
            let spent = spent.entry(stage.name).or_default();
            spent.0 += stage.calls;
            spent.1 += stage.cost_usd;
        }
    }
    let mut stages = Vec::new();
    for (at, stage) in look.pipeline.stages.iter().enumerate() {
        let last = look.before.stages.get(&stage.name);
        let why = why(look, at)?;
        let (calls, cost_usd) = spent.get(&stage.name).copied().unwrap_or_default();
        let run = last.map(|last| last.made);
        stages.push(StageStatus {
            name: stage.name.clone(),
            last: last.map(|last| last.state.clone()),
            rows: last.map_or(0, |last| last.rows),
            failed_rows: last.map_or(0, |last| last.failed_rows),
            stale: why.stale,
            reason: why.stale.then_some(why.reason),
            run,
            at: run.and_then(|run| began.get(&run).cloned()),
            calls,
            cost_usd,
            accepted: last.is_some_and(|last| last.accepted),
        });
    }
    let batches = look.store.open_batches()?.into_iter().map(|batch| {
        let addressee = Addressee::read(&batch.addressee)?;
        Ok(BatchStatus {
            name: batch.remote,
            server: addressee.server().to_owned(),
            model: addressee.model().to_owned(),
            requests: batch.requests,
            since: batch.at,
        })
    });
    let batches = batches.collect::<Result<_, CallError>>()?;
    let running = Lock::holder(&look.pipeline.cache());
    Ok(Status { profile: profile.clone(), running, stages, cut_off, calls, cost_usd, batches })
}
