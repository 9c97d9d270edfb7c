//! `flow log`

use clap::Args;
use serde_json::json;

use super::style::{Style, columns, grouped, one_line};
use super::{Exit, Shared};
use crate::engine::{Logged, log};
use crate::store::Store;

#[derive(Args)]
#[command(after_help = "Example:
  flow log --number 5")]
pub(super) struct Arguments {
    /// Print the runs as one JSON object
    #[arg(long)]
    json: bool,
    /// How many runs, the latest first
    #[arg(short, long, value_name = "N", default_value_t = 20)]
    #[arg(value_parser = super::from_one)]
    number: u64,
}

pub(super) fn main(arguments: &Arguments, shared: &Shared, style: &Style) -> Exit {
    let cache = match shared.cache(style) {
        Ok(cache) => cache,
        Err(exit) => return exit,
    };
    let runs = Store::open_to_read(&cache).and_then(|store| match store {
        Some(store) => log(&store, &cache, arguments.number),
        None => Ok(Vec::new()),
    });
    let runs = match runs {
        Ok(runs) => runs,
        Err(error) => {
            style.error(&error.to_string());
            return Exit::Incomplete;
        }
    };
    match arguments.json {
        true => style.result(&format!("{}\n", json!({ "runs": runs }))),
        false if runs.is_empty() => style.say("nothing has run yet"),
        false => style.result(&told(&runs)),
    }
    Exit::Done
}

const HEAD: [&str; 10] = [
    "run",
    "began (UTC)",
    "profile",
    "ended",
    "rows run",
    "calls",
    "tokens",
    "cost",
    "took",
    "asked",
];
/// The columns of numbers.
const NUMBERS: [usize; 6] = [0, 4, 5, 6, 7, 8];

fn told(runs: &[Logged]) -> String {
    let mut lines = vec![HEAD.map(str::to_owned).to_vec()];
    lines.extend(runs.iter().map(line));
    columns(&lines, &NUMBERS)
}

fn line(run: &Logged) -> Vec<String> {
    let began = run.at.get(..19).unwrap_or(&run.at).replace('T', " ");
    let ended = run.ended.as_str().to_owned();
    let mut line = vec![run.run.to_string(), began];
    let Some(record) = &run.record else {
        line.extend([String::new(), ended]);
        return line;
    };
    let profile = match (record.profile.as_str(), record.trial) {
        ("", true) => "trial".to_owned(),
        ("", false) => "-".to_owned(),
        (profile, true) => format!("{profile}, trial"),
        (profile, false) => profile.to_owned(),
    };
    let tokens = record.tokens_in + record.tokens_out;
    let cost = match record.cost_usd {
        0.0 => "-".into(),
        cost => format!("${cost:.4}"),
    };
    line.extend([
        one_line(&profile, 40),
        ended,
        grouped(run.rows_run),
        grouped(record.calls),
        grouped(tokens),
        cost,
        format!("{:.1} s", record.seconds),
        one_line(&record.command, 200),
    ]);
    line
}
