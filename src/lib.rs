//! `make` for studies that read GitHub and ask language models.
//!
//! A manifest declares a graph of stages; the engine brings their outputs up to date, runs only
//! what changed, and never pays twice for the same GitHub or model call. [`Pipeline::load`] reads
//! and checks a manifest, [`run`] brings it up to date, [`Event`]s tell what happens meanwhile.

pub mod charts;
pub mod cli;
pub mod clients;
pub mod engine;
pub mod graph;
pub mod manifest;
pub mod package;
pub mod pipeline;
pub mod programs;
pub mod schema;
pub mod stages;
pub mod stats;
pub mod store;
pub mod table;

pub use engine::{Event, RunError, RunHandle, RunOptions, StageState, StageSummary, Summary, run};
pub use manifest::{Problem, Problems};
pub use pipeline::{LoadOptions, Pipeline};
