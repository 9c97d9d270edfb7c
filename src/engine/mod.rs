//! Brings a pipeline's outputs up to date: what a stage's result depends on, what of it is known
//! already, and the run that makes the rest.

mod accept;
mod batches;
mod collect;
mod compare;
mod decide;
mod delta;
mod event;
mod explain;
mod facts;
mod fingerprint;
mod history;
mod look;
mod online;
mod outputs;
mod plan;
mod planned;
mod ready;
mod request;
mod rows;
mod run;
mod secrets;
mod select;
mod spans;
mod status;
mod tables;

pub use accept::{AcceptError, accept};
pub use collect::{Forgotten, Spare, clear, collect, stood_on};
pub use compare::{
    CompareError, Comparison, FieldDiff, Matrix, RowDiff, StageDiff, TableDiff, compare, last_run,
};
pub use decide::{Choices, Refresh};
pub use delta::Delta;
pub use event::{Event, FailedKind, StageState, StageSummary, Summary, UnderWay};
pub use explain::{Above, Change, InputChange, Why, WhyCall, WhyRow, why, why_row};
pub use facts::page_facts;
pub use history::{Logged, RunEnd, RunRecord, StageRun, log};
pub use look::{Look, LookError};
pub use online::{Check, CheckKind, CheckState, Left, online};
pub use plan::{Effort, Plan, PlanState, StagePlan, plan};
pub use planned::{Planned, Running};
pub use ready::unready;
pub use request::{
    AskedRow, Said, TriedRow, TryError, TryOptions, Which, asked_rows, recorded, try_rows,
};
pub use run::{RunError, RunHandle, RunOptions, run};
pub use select::{NoTarget, find, select};
pub use status::{BatchStatus, StageStatus, Status, status};
pub use tables::Queried;
