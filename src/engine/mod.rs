//! Brings a pipeline's outputs up to date: what a stage's result depends on, what of it is known
//! already, and the run that makes the rest.

mod decide;
mod event;
mod fingerprint;
mod history;
mod outputs;
mod rows;
mod run;
mod secrets;
mod select;
mod spans;

pub use decide::{Choices, Refresh};
pub use event::{Event, StageState, StageSummary, Summary};
pub use history::{RunRecord, StageRun};
pub use run::{RunError, RunHandle, RunOptions, run};
pub use select::{NoTarget, find, select};
