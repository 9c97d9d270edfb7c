//! What is seen of a run. Progress, logs, the run's record and the tests all read this one stream.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clients::Taken;
use crate::table::Digest;

/// How a stage ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageState {
    /// Nothing it depends on has changed; nothing ran.
    UpToDate,
    /// Its table was made before, under what it depends on now; nothing ran.
    Restored,
    /// It ran, and every row has its result.
    Ran,
    /// Rows of it, or of what it reads, have no result.
    Incomplete,
    /// It has no table.
    Failed,
    /// What it reads has no table.
    Skipped,
}

impl StageState {
    pub fn as_str(self) -> &'static str {
        match self {
            StageState::UpToDate => "up to date",
            StageState::Restored => "restored",
            StageState::Ran => "ran",
            StageState::Incomplete => "incomplete",
            StageState::Failed => "failed",
            StageState::Skipped => "skipped",
        }
    }

    /// Whether every row has its result.
    pub fn is_complete(self) -> bool {
        matches!(self, StageState::UpToDate | StageState::Restored | StageState::Ran)
    }
}

/// A stage's part of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageSummary {
    pub name: String,
    pub state: StageState,
    /// Rows of its table.
    pub rows: u64,
    /// Input rows whose results were made in this run; for a whole-table stage, its rows.
    pub rows_run: u64,
    /// Input rows whose results were known.
    pub rows_memo: u64,
    /// Requests sent.
    pub calls: u64,
    /// Requests that were answered by what is recorded.
    pub calls_cached: u64,
    pub failed_rows: u64,
    pub seconds: f64,
    /// Tokens paid for; of those that went in, some were in the provider's cache, and some came there.
    #[serde(default)]
    pub tokens_in: u64,
    #[serde(default)]
    pub tokens_in_cached: u64,
    #[serde(default)]
    pub tokens_cache_written: u64,
    #[serde(default)]
    pub tokens_out: u64,
    #[serde(default)]
    pub cost_usd: f64,
    /// What the answers took, by the model that was asked.
    #[serde(skip)]
    pub taken: BTreeMap<String, Taken>,
    /// Why it failed, was skipped or is incomplete: for failed rows the reason of the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How the first of its failed rows failed: the `kind` that its file tells.
    #[serde(skip)]
    pub failed_kind: Option<FailedKind>,
    /// Where its failed rows are told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_file: Option<String>,
    /// Its table, and the definition that made it.
    #[serde(skip)]
    pub artifact: Option<Digest>,
    #[serde(skip)]
    pub definition: Option<Digest>,
}

/// How a row failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailedKind {
    /// In passing: the next run tries again.
    Passing,
    /// An answer came, and is no good.
    Answer,
    /// It cannot be asked about, or its answer not picked.
    Row,
}

impl StageSummary {
    /// Of a stage that has not begun.
    pub(super) fn new(name: &str) -> StageSummary {
        StageSummary {
            name: name.to_owned(),
            state: StageState::Skipped,
            rows: 0,
            rows_run: 0,
            rows_memo: 0,
            calls: 0,
            calls_cached: 0,
            failed_rows: 0,
            seconds: 0.0,
            tokens_in: 0,
            tokens_in_cached: 0,
            tokens_cache_written: 0,
            tokens_out: 0,
            cost_usd: 0.0,
            taken: BTreeMap::new(),
            reason: None,
            failed_kind: None,
            failed_file: None,
            artifact: None,
            definition: None,
        }
    }
}

/// A whole run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// In the order of the manifest.
    pub stages: Vec<StageSummary>,
    pub calls: u64,
    pub calls_cached: u64,
    /// Tokens paid for in this run.
    pub tokens_in: u64,
    #[serde(default)]
    pub tokens_in_cached: u64,
    #[serde(default)]
    pub tokens_cache_written: u64,
    pub tokens_out: u64,
    pub cost_usd: f64,
    pub seconds: f64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub interrupted: bool,
    /// Why the run stopped before it was done, where it was not interrupted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// A budget was reached.
    #[serde(skip)]
    pub over_budget: bool,
}

impl Summary {
    /// Whether every stage has its whole table.
    pub fn is_complete(&self) -> bool {
        self.stages.iter().all(|stage| stage.state.is_complete())
    }
}

/// The batches that a stage waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnderWay {
    /// Those that are open.
    pub batches: u64,
    /// Of so many requests, those that are done, as far as the provider tells.
    pub done: u64,
    pub requests: u64,
    /// When the oldest was made, in milliseconds since 1970.
    pub since: i64,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A run waits for another one to end.
    WaitingForRun { holder: String },
    /// A stage begins to work; `rows` go in, where that is known. Where rows ran ahead of their
    /// table it is told again once all are there.
    StageStarted { stage: String, rows: Option<u64> },
    /// A row of a row stage has its result; `known` if it was there before. With what the stage has
    /// asked and spent so far.
    RowDone { stage: String, known: bool, calls: u64, calls_cached: u64, cost_usd: f64 },
    /// A row of a row stage has none.
    RowFailed { stage: String, key: String, reason: String },
    /// A stage waits for the provider's batches.
    Batches { stage: String, under_way: UnderWay },
    /// A server asked to wait.
    Waiting { server: String, why: String, wait: Duration },
    /// Worth saying, stops nothing.
    Note { stage: String, text: String },
    /// A stage has ended, however it did.
    StageEnded(StageSummary),
}
