//! `flow schema`

use clap::Args;

use super::Exit;
use super::style::Style;
use crate::schema::manifest_schema;

#[derive(Args)]
#[command(after_help = "Example:
  flow schema > schemas/pipeline.schema.json")]
pub(super) struct Arguments {}

pub(super) fn main(_: &Arguments, style: &Style) -> Exit {
    style.result(&format!("{:#}\n", manifest_schema()));
    Exit::Done
}
