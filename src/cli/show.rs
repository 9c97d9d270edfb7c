//! `flow show`

use clap::Args;

use super::query::tell;
use super::rows::{Shown, fields, print, refused, refused_query};
use super::style::Style;
use super::{Exit, Shared};
use crate::engine::{Look, LookError, find};
use crate::manifest::clean;
use crate::stages::{StageError, rows_where};

#[derive(Args)]
#[command(after_help = "Examples:
  flow show classify
  flow show classify --where 'is_bug_related AND confidence > 0.9' --limit 5
  flow show labels --format jsonl")]
pub(super) struct Arguments {
    /// The stage, or one of its outputs
    stage: String,
    /// One row, whole: the values of its key with commas between them, or `field=value`
    #[arg(value_name = "KEY")]
    row: Option<String>,
    /// Only rows for which this condition is true: SQL, as after WHERE
    #[arg(long = "where", value_name = "SQL", conflicts_with = "row")]
    condition: Option<String>,
    /// How to show them
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
    let at = match find(&pipeline, &arguments.stage) {
        Ok(at) => at,
        Err(error) => {
            style.error(&error.to_string());
            return Exit::Wrong;
        }
    };
    let look = match Look::new(&pipeline) {
        Ok(look) => look,
        Err(error) => return refused(&error, style),
    };
    match &arguments.condition {
        Some(condition) => found(&look, at, condition, arguments, style),
        None => all(&look, at, arguments, style).unwrap_or_else(|error| refused(&error, style)),
    }
}

/// All rows, or the one that is meant.
fn all(
    look: &Look<'_>,
    at: usize,
    arguments: &Arguments,
    style: &Style,
) -> Result<Exit, LookError> {
    let table = look.last_table(at)?;
    if let Some(caveat) = look.caveat(at)? {
        style.say(&clean(&caveat));
    }
    if let Some(wanted) = &arguments.row {
        let row = look.row(at, &table, wanted)?;
        match arguments.format {
            Shown::Table => style.result(&fields(&row)),
            shown => print(shown, &table.columns, [Ok(row)].into_iter(), 1, style)?,
        }
        return Ok(Exit::Done);
    }
    let most = arguments.format.most(arguments.limit);
    let rows = look.store.rows(&table).map(|row| row.map_err(StageError::from));
    let rows = rows.take(usize::try_from(most).unwrap_or(usize::MAX));
    print(arguments.format, &table.columns, rows, table.rows, style)?;
    Ok(Exit::Done)
}

/// The rows for which a condition is true.
fn found(
    look: &Look<'_>,
    at: usize,
    condition: &str,
    arguments: &Arguments,
    style: &Style,
) -> Exit {
    if let Err(error) = look.last_table(at) {
        return refused(&error, style);
    }
    let (query, start) = rows_where(&look.pipeline.stages[at].name, condition);
    let most = arguments.format.most(arguments.limit);
    match look.query(&query, most) {
        Ok(queried) => tell(look, &queried, arguments.format, style),
        Err(error) => refused_query(error, ("the condition", condition, start), style),
    }
}
