//! `make` for studies that read GitHub and ask language models.
//!
//! A manifest declares a graph of stages; the engine brings their outputs up to date, runs only
//! what changed, and never pays twice for the same GitHub or model call. [`Pipeline::load`] reads
//! and checks a manifest, [`Pipeline::plan`] tells what a run would do, and [`Planned::run`] does it,
//! a stream of [`Event`]s meanwhile.
//!
//! ```no_run
//! use flow::{Event, LoadOptions, Pipeline};
//! use futures::StreamExt;
//!
//! # async fn study() -> Result<(), Box<dyn std::error::Error>> {
//! let options = LoadOptions { profile: Some("sample".into()), ..LoadOptions::default() };
//! let pipeline = Pipeline::load(&options)?;
//! let options = pipeline.options(&["report"])?;
//! let planned = pipeline.plan(options)?;
//! println!("{} calls to make, about ${:.2}", planned.plan().effort.calls, planned.plan().effort.cost_usd);
//! let mut run = planned.run();
//! while let Some(event) = run.next().await {
//!     if let Event::StageEnded(stage) = event {
//!         println!("{}: {}, {} rows", stage.name, stage.state.as_str(), stage.rows);
//!     }
//! }
//! assert!(run.summary().await?.is_complete());
//! # Ok(())
//! # }
//! ```
//!
//! A program may have kinds of stages of its own ([`stages::Kind`], [`stages::Kinds`]):
//! `examples/own_kind.rs` is one.

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
pub mod text;

pub use engine::{
    Event, Planned, RunError, RunHandle, RunOptions, Running, StageState, StageSummary, Summary,
    run,
};
pub use manifest::{Problem, Problems};
pub use pipeline::{LoadOptions, Pipeline};
