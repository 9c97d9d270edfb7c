//! `flow status`

use clap::Args;

use super::style::{GREEN, RED, Style, YELLOW, count, grouped, minute};
use super::{Exit, Shared};
use crate::engine::{BatchStatus, Look, StageStatus, Status, status};
use crate::manifest::clean;

#[derive(Args)]
#[command(after_help = "Example:
  flow status")]
pub(super) struct Arguments {
    /// Print it as one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn main(arguments: &Arguments, shared: &Shared, style: &Style) -> Exit {
    let pipeline = match shared.load(style) {
        Ok(pipeline) => pipeline,
        Err(exit) => return exit,
    };
    let status = match Look::new(&pipeline).and_then(|look| status(&look)) {
        Ok(status) => status,
        Err(error) => {
            style.error(&clean(&error.to_string()));
            return Exit::Incomplete;
        }
    };
    match arguments.json {
        true => {
            let text = serde_json::to_string(&status).expect("it always serializes");
            style.result(&format!("{text}\n"));
        }
        false => style.result(&told(&status, style)),
    }
    Exit::Done
}

fn told(status: &Status, style: &Style) -> String {
    let width = status.stages.iter().map(|stage| stage.name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for stage in &status.stages {
        text.push_str(&line(stage, width, style));
        text.push('\n');
    }
    let stale = status.stages.iter().filter(|stage| stage.stale).count() as u64;
    let mut last = match stale {
        0 => "all is up to date".to_owned(),
        _ => format!("{} would run", count(stale, "stage")),
    };
    if status.calls > 0 {
        last.push_str(&format!("; {} made so far", count(status.calls, "call")));
    }
    if status.cost_usd > 0.0 {
        last.push_str(&format!(", ${:.4} spent", status.cost_usd));
    }
    let cut_off = status.cut_off - u64::from(status.running.is_some()).min(status.cut_off);
    if cut_off > 0 {
        let runs = count(cut_off, "run");
        last.push_str(&format!(" ({runs} cut off: what was spent there is not counted)"));
    }
    text.push_str(&last);
    text.push('\n');
    for batch in &status.batches {
        let BatchStatus { name, server, model, requests, since } = batch;
        let name = name.as_deref().map_or_else(|| "a batch".to_owned(), |it| format!("batch {it}"));
        text.push_str(&clean(&format!(
            "{name} is open at {server} ({model}): {}, since {}; a run takes its answers\n",
            count(*requests, "request"),
            minute(*since)
        )));
    }
    if let Some(holder) = &status.running {
        text.push_str(&format!("a run works now (process {holder})\n"));
    }
    text
}

fn line(stage: &StageStatus, width: usize, style: &Style) -> String {
    let (state, color) = match (stage.stale, stage.failed_rows > 0) {
        (true, _) => ("stale", YELLOW),
        (false, true) => ("incomplete", RED),
        (false, false) => ("up to date", GREEN),
    };
    let state = style.paint(&format!("{state:<10}"), color);
    let mut line = format!("  {:<width$}  {state}  {:>12}", stage.name, count(stage.rows, "row"));
    let mut details = Vec::new();
    if stage.failed_rows > 0 {
        details.push(format!("{} failed", grouped(stage.failed_rows)));
    }
    details.extend(stage.reason.as_deref().map(clean));
    if let (Some(run), Some(at)) = (stage.run, &stage.at) {
        let at = at.get(..16).unwrap_or(at).replace('T', " ");
        let word = if stage.accepted { "accepted, made" } else { "made" };
        details.push(format!("{word} in run {run}, {at}"));
    }
    if stage.calls > 0 {
        details.push(count(stage.calls, "call"));
    }
    if stage.cost_usd > 0.0 {
        details.push(format!("${:.4}", stage.cost_usd));
    }
    if !details.is_empty() {
        line.push_str(&format!("  {}", details.join(", ")));
    }
    line
}
