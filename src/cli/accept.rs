//! `flow accept`

use clap::Args;

use super::style::{Style, count};
use super::{Exit, Shared};
use crate::engine::{accept, find};
use crate::manifest::clean;

#[derive(Args)]
#[command(after_help = "Example:
  flow accept classify")]
pub(super) struct Arguments {
    /// The stage whose table is to count as up to date
    stage: String,
}

pub(super) fn main(arguments: &Arguments, shared: &Shared, style: &Style) -> Exit {
    let pipeline = match shared.load(style) {
        Ok(pipeline) => pipeline,
        Err(exit) => return exit,
    };
    let at = match find(&pipeline, &arguments.stage) {
        Ok(at) => at,
        Err(error) => {
            style.error(&error.to_string());
            return Exit::Wrong;
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            style.error(&format!("no thread to run on: {error}"));
            return Exit::Fault;
        }
    };
    let command = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    match runtime.block_on(accept(&pipeline, at, &command)) {
        Ok(rows) => {
            let name = &pipeline.stages[at].name;
            let rows = count(rows, "row");
            style.say(&format!("`{name}` counts as up to date, with the {rows} that it has"));
            Exit::Done
        }
        Err(error) => {
            style.error(&clean(&error.to_string()));
            Exit::Incomplete
        }
    }
}
