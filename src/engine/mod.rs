//! Brings a pipeline's outputs up to date: what a stage's result depends on, what of it is known
//! already, and the run that makes the rest.

mod event;
mod fingerprint;
mod known;
mod outputs;
mod rows;
mod run;

pub use event::{Event, StageState, StageSummary, Summary};
pub use run::{RunError, RunHandle, RunOptions, run};
