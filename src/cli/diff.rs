//! `flow diff`

use std::str::FromStr;

use clap::Args;
use serde_json::Value;

use super::style::{BOLD, Style, columns, count, grouped, one_line};
use super::{Exit, Shared};
use crate::engine::{
    CompareError, Comparison, Matrix, RowDiff, StageDiff, TableDiff, compare, last_run,
};
use crate::pipeline::Pipeline;
use crate::store::Store;

#[derive(Args)]
#[command(after_help = "Examples:
  flow diff 1 last
  flow diff 1 last classify")]
pub(super) struct Arguments {
    /// The earlier run: its number in `flow log`, or `last`
    #[arg(value_name = "RUN")]
    from: WhichRun,
    /// The later one
    #[arg(value_name = "RUN")]
    to: WhichRun,
    /// Only this stage
    stage: Option<String>,
    /// Print the differences as one JSON object
    #[arg(long)]
    json: bool,
}

/// A run of the history.
#[derive(Clone, Copy, Debug)]
enum WhichRun {
    Last,
    Number(i64),
}

impl FromStr for WhichRun {
    type Err = String;

    fn from_str(text: &str) -> Result<WhichRun, String> {
        match text.parse() {
            _ if text == "last" => Ok(WhichRun::Last),
            Ok(number) if number > 0 => Ok(WhichRun::Number(number)),
            _ => Err("a run is a number that `flow log` shows, or `last`".into()),
        }
    }
}

/// How much of a value is shown.
const SHORT: usize = 60;

pub(super) fn main(arguments: &Arguments, shared: &Shared, style: &Style) -> Exit {
    let cache = match shared.cache(style) {
        Ok(cache) => cache,
        Err(exit) => return exit,
    };
    let found = match Store::open_to_read(&cache) {
        Ok(Some(store)) => differences(arguments, shared, &store),
        Ok(None) => {
            style.error("nothing has run yet: there are no runs to compare; `flow run` makes one");
            return Exit::Wrong;
        }
        Err(error) => Err(error.into()),
    };
    let comparison = match found {
        Ok(comparison) => comparison,
        Err(error) => {
            style.error(&error.to_string());
            return if error.is_asked_wrongly() { Exit::Wrong } else { Exit::Incomplete };
        }
    };
    if arguments.json {
        let text = serde_json::to_string(&comparison).expect("comparisons always serialize");
        style.result(&format!("{text}\n"));
    } else {
        style.result(&told(&comparison, style));
    }
    match comparison.stages.iter().any(|stage| stage.gone) {
        true => Exit::Incomplete,
        false => Exit::Done,
    }
}

fn differences(
    arguments: &Arguments,
    shared: &Shared,
    store: &Store,
) -> Result<Comparison, CompareError> {
    let last = last_run(store)?;
    let number = |run: WhichRun| match run {
        WhichRun::Last => last,
        WhichRun::Number(number) => number,
    };
    let runs = [number(arguments.from), number(arguments.to)];
    // What the manifest says helps where the store does not say it; its mistakes are not asked for.
    let pipeline = Pipeline::load(&shared.options(shared.profile.as_deref())).ok();
    compare(store, pipeline.as_ref(), runs, arguments.stage.as_deref())
}

fn told(comparison: &Comparison, style: &Style) -> String {
    let mut text = format!("run {} -> run {}\n", comparison.from, comparison.to);
    for stage in &comparison.stages {
        text.push_str(&told_stage(stage, style));
    }
    text
}

fn told_stage(stage: &StageDiff, style: &Style) -> String {
    let name = style.paint(&one_line(&stage.name, SHORT), BOLD);
    let Some(diff) = &stage.diff else {
        let why = stage.not_compared.as_deref().unwrap_or_default();
        return format!("{name}: not compared: {}\n", one_line(why, usize::MAX));
    };
    let mut text = format!("{name}: {}\n", told_rows(diff));
    for field in &diff.fields {
        let rows = count(field.rows, "row");
        text.push_str(&format!("  {}: {rows} differ\n", one_line(&field.name, SHORT)));
        if let Some(matrix) = &field.matrix {
            text.push_str(&told_matrix(matrix));
        }
    }
    if !diff.changes.is_empty() {
        let shown = diff.changes.len() as u64;
        let which = if shown < diff.changed { "the first" } else { "all" };
        text.push_str(&format!("  changed rows, {which} {}:\n", grouped(shown)));
    }
    diff.changes.iter().for_each(|row| text.push_str(&told_row(row)));
    text
}

fn told_rows(diff: &TableDiff) -> String {
    let TableDiff { rows_from, rows_to, added, removed, changed, recalled, .. } = diff;
    let mut parts = Vec::new();
    for (number, what) in [(changed, "changed"), (added, "added"), (removed, "removed")] {
        if *number > 0 {
            parts.push(format!("{} {what}", grouped(*number)));
        }
    }
    if parts.is_empty() {
        parts.push("the same".into());
    }
    if *recalled > 0 {
        parts.push(format!("{} the same by another call", grouped(*recalled)));
    }
    let rows = match rows_from == rows_to {
        true => count(*rows_to, "row"),
        false => format!("{} -> {}", grouped(*rows_from), count(*rows_to, "row")),
    };
    format!("{rows}, {}", parts.join(", "))
}

fn told_matrix(matrix: &Matrix) -> String {
    let labels: Vec<String> = matrix.labels.iter().map(short).collect();
    let mut lines = vec![vec!["    from \\ to".to_owned()]];
    lines[0].extend(labels.iter().cloned());
    for (label, counts) in labels.iter().zip(&matrix.counts) {
        let mut line = vec![format!("    {label}")];
        line.extend(counts.iter().map(|count| match count {
            0 => ".".into(),
            count => grouped(*count),
        }));
        lines.push(line);
    }
    let right: Vec<usize> = (1..=labels.len()).collect();
    columns(&lines, &right)
}

fn told_row(row: &RowDiff) -> String {
    let key: Vec<String> =
        row.key.iter().map(|(name, value)| format!("{name}={}", short(value))).collect();
    let mut text = format!("    {}\n", one_line(&key.join(", "), usize::MAX));
    for change in &row.fields {
        let (field, from, to) =
            (one_line(&change.field, SHORT), short(&change.from), short(&change.to));
        text.push_str(&format!("      {field}: {from} -> {to}\n"));
    }
    text
}

fn short(value: &Value) -> String {
    match value {
        Value::String(text) => one_line(text, SHORT),
        other => one_line(&other.to_string(), SHORT),
    }
}
