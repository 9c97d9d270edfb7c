//! `flow cassette`

use std::path::PathBuf;

use clap::Args;

use super::style::{Style, count};
use super::{Exit, Shared};
use crate::clients::write_cassette;
use crate::store::Store;

#[derive(Args)]
#[command(after_help = "Example:
  flow cassette samples/cassette.jsonl")]
pub(super) struct Arguments {
    /// The file to write
    to: PathBuf,
}

pub(super) fn main(arguments: &Arguments, shared: &Shared, style: &Style) -> Exit {
    let pipeline = match shared.load(style) {
        Ok(pipeline) => pipeline,
        Err(exit) => return exit,
    };
    let written =
        Store::open(&pipeline.cache()).and_then(|store| write_cassette(&store, &arguments.to));
    match written {
        Ok(calls) => {
            style.say(&format!("{} written to {}", count(calls, "call"), arguments.to.display()));
            Exit::Done
        }
        Err(error) => {
            // Most of these errors begin with the path themselves.
            let (path, error) = (arguments.to.display().to_string(), error.to_string());
            let what = error.strip_prefix(&format!("{path}: ")).unwrap_or(&error);
            style.error(&format!("{path} cannot be written: {what}"));
            Exit::Incomplete
        }
    }
}
