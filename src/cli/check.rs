//! `flow check`

use clap::Args;

use super::style::{GREEN, Style, count};
use super::{Exit, Shared};

#[derive(Args)]
pub(super) struct Arguments {}

pub(super) fn main(_: &Arguments, shared: &Shared, style: &Style) -> Exit {
    match shared.load(style) {
        Err(exit) => exit,
        Ok(pipeline) => {
            let stages = count(pipeline.stages.len() as u64, "stage");
            style.say(&format!("{}: {} with {stages}", style.paint("ok", GREEN), pipeline.name));
            Exit::Done
        }
    }
}
