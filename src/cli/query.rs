//! `flow query`

use clap::Args;

use super::rows::{Shown, print, refused, refused_query};
use super::style::Style;
use super::{Exit, Shared};
use crate::engine::{Look, Queried};
use crate::manifest::clean;
use crate::table::{Column, Types};

#[derive(Args)]
#[command(
    after_help = "Every stage, inline table and file is a table by its name; one with `-` in its name is quoted: \
    \"root-cause\". The functions are those of stages of kind `sql`. Nothing is written.

Example:
  flow query 'SELECT symptom, count(*) AS bugs FROM symptom GROUP BY symptom ORDER BY bugs DESC'"
)]
pub(super) struct Arguments {
    /// One SQLite query
    #[arg(value_name = "SELECT")]
    query: String,
    /// How to show its rows
    #[arg(long, value_enum, default_value = "table")]
    format: Shown,
    /// The first N rows (a table shows 20 where it is not said, the other formats all)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

pub(super) fn main(arguments: &Arguments, shared: &Shared, style: &Style) -> Exit {
    let pipeline = match shared.load(style) {
        Ok(pipeline) => pipeline,
        Err(exit) => return exit,
    };
    let look = match Look::new(&pipeline) {
        Ok(look) => look,
        Err(error) => return refused(&error, style),
    };
    let query = &arguments.query;
    match look.query(query, arguments.format.most(arguments.limit)) {
        Ok(queried) => tell(&look, &queried, arguments.format, style),
        Err(error) => refused_query(error, ("the query", query, 0), style),
    }
}

/// What came of a query, and what is to be known of the tables that it read.
pub(super) fn tell(look: &Look<'_>, queried: &Queried, shown: Shown, style: &Style) -> Exit {
    for at in &queried.stages {
        match look.caveat(*at) {
            Ok(caveat) => caveat.iter().for_each(|caveat| style.say(&clean(caveat))),
            Err(error) => return refused(&error, style),
        }
    }
    let column = |name: &String| Column { name: name.clone(), types: Types::default() };
    let columns: Vec<Column> = queried.columns.iter().map(column).collect();
    let rows = queried.rows.iter().cloned().map(Ok);
    match print(shown, &columns, rows, queried.count, style) {
        Ok(()) => Exit::Done,
        Err(error) => {
            style.error(&error.to_string());
            Exit::Incomplete
        }
    }
}
