//! What the history keeps of a run, and how it is told.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::event::{StageState, Summary};
use crate::clients::Taken;
use crate::store::{Lock, Store, StoreError, StoredTable};

/// A run as the history tells it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunRecord {
    /// What was asked for: `flow run items --force`.
    pub command: String,
    pub profile: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub trial: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub interrupted: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    pub calls: u64,
    pub calls_cached: u64,
    pub tokens_in: u64,
    #[serde(default)]
    pub tokens_in_cached: u64,
    #[serde(default)]
    pub tokens_cache_written: u64,
    pub tokens_out: u64,
    pub cost_usd: f64,
    pub seconds: f64,
    pub stages: Vec<StageRun>,
}

/// A stage's part of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StageRun {
    pub name: String,
    pub state: StageState,
    pub rows: u64,
    pub rows_run: u64,
    pub rows_memo: u64,
    pub failed_rows: u64,
    pub calls: u64,
    pub calls_cached: u64,
    pub tokens_in: u64,
    #[serde(default)]
    pub tokens_in_cached: u64,
    #[serde(default)]
    pub tokens_cache_written: u64,
    pub tokens_out: u64,
    pub cost_usd: f64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub taken: BTreeMap<String, Taken>,
    pub seconds: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The digests of its table and of the definition that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<String>,
    /// Somebody said that it is up to date.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub accepted: bool,
}

impl StageRun {
    /// A stage that was taken as it is.
    pub(super) fn accepted(name: &str, state: StageState, table: &StoredTable) -> StageRun {
        StageRun {
            name: name.to_owned(),
            state,
            rows: table.rows,
            rows_run: 0,
            rows_memo: 0,
            failed_rows: 0,
            calls: 0,
            calls_cached: 0,
            tokens_in: 0,
            tokens_in_cached: 0,
            tokens_cache_written: 0,
            tokens_out: 0,
            cost_usd: 0.0,
            taken: BTreeMap::new(),
            seconds: 0.0,
            reason: None,
            artifact: Some(table.artifact.hex()),
            definition: Some(table.definition.hex()),
            accepted: true,
        }
    }
}

impl RunRecord {
    pub(super) fn new(summary: &Summary, command: &str, profile: &str, trial: bool) -> RunRecord {
        let stages = summary.stages.iter().map(|stage| StageRun {
            name: stage.name.clone(),
            state: stage.state,
            rows: stage.rows,
            rows_run: stage.rows_run,
            rows_memo: stage.rows_memo,
            failed_rows: stage.failed_rows,
            calls: stage.calls,
            calls_cached: stage.calls_cached,
            tokens_in: stage.tokens_in,
            tokens_in_cached: stage.tokens_in_cached,
            tokens_cache_written: stage.tokens_cache_written,
            tokens_out: stage.tokens_out,
            cost_usd: stage.cost_usd,
            taken: stage.taken.clone(),
            seconds: stage.seconds,
            reason: stage.reason.clone(),
            artifact: stage.artifact.map(|digest| digest.hex()),
            definition: stage.definition.map(|digest| digest.hex()),
            accepted: false,
        });
        RunRecord {
            command: command.to_owned(),
            profile: profile.to_owned(),
            trial,
            interrupted: summary.interrupted,
            stopped: summary.stopped.clone(),
            calls: summary.calls,
            calls_cached: summary.calls_cached,
            tokens_in: summary.tokens_in,
            tokens_in_cached: summary.tokens_in_cached,
            tokens_cache_written: summary.tokens_cache_written,
            tokens_out: summary.tokens_out,
            cost_usd: summary.cost_usd,
            seconds: summary.seconds,
            stages: stages.collect(),
        }
    }

    /// A record as it is stored; `None` where it cannot be read.
    pub(super) fn read(json: &str) -> Option<RunRecord> {
        serde_json::from_str(json).ok()
    }

    fn ended(&self) -> RunEnd {
        use StageState::{Ran, Restored, UpToDate};
        let whole = |stage: &StageRun| matches!(stage.state, UpToDate | Restored | Ran);
        match (self.interrupted, &self.stopped) {
            (true, _) => RunEnd::Interrupted,
            (false, Some(_)) => RunEnd::Stopped,
            (false, None) if self.stages.iter().all(whole) => RunEnd::UpToDate,
            (false, None) => RunEnd::Incomplete,
        }
    }

    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("records always serialize")
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunEnd {
    /// Every stage has its whole table.
    UpToDate,
    /// Rows or stages have no result.
    Incomplete,
    /// At a budget, or at the first failure where it was told to.
    Stopped,
    /// By Ctrl-C.
    Interrupted,
    /// It has not: it works now.
    GoesOn,
    /// It was cut off.
    DidNotEnd,
}

impl RunEnd {
    pub fn as_str(self) -> &'static str {
        match self {
            RunEnd::UpToDate => "up to date",
            RunEnd::Incomplete => "incomplete",
            RunEnd::Stopped => "stopped",
            RunEnd::Interrupted => "interrupted",
            RunEnd::GoesOn => "goes on",
            RunEnd::DidNotEnd => "did not end",
        }
    }
}

/// A run of the history.
#[derive(Clone, Debug, Serialize)]
pub struct Logged {
    pub run: i64,
    /// When it began, UTC: `2026-01-31T12:00:00.000Z`.
    pub at: String,
    pub ended: RunEnd,
    /// Rows whose results were made in it, of all stages.
    pub rows_run: u64,
    /// What it did; nothing where it goes on or was cut off.
    #[serde(flatten)]
    pub record: Option<RunRecord>,
}

/// The last runs of the store in `cache`, the latest first.
pub fn log(store: &Store, cache: &Path, most: u64) -> Result<Vec<Logged>, StoreError> {
    // Looked for before the runs are read: one that ends in between is told as ended.
    let working = Lock::holder(cache).is_some();
    let mut runs = Vec::new();
    for stored in store.runs(most)? {
        let record = stored.record.and_then(|record| RunRecord::read(&record));
        let ended = match &record {
            Some(record) => record.ended(),
            None if working && runs.is_empty() => RunEnd::GoesOn,
            None => RunEnd::DidNotEnd,
        };
        let stages = record.iter().flat_map(|record| &record.stages);
        let rows_run = stages.map(|stage| stage.rows_run).sum();
        runs.push(Logged { run: stored.id, at: stored.at, ended, rows_run, record });
    }
    Ok(runs)
}
