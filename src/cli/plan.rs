//! `flow plan`

use clap::Args;

use super::style::{DIM, GREEN, Style, YELLOW, count, grouped};
use super::what::What;
use super::{Exit, Shared};
use crate::engine::{Effort, Look, Plan, PlanState, StagePlan, plan};
use crate::manifest::clean;

#[derive(Args)]
#[command(after_help = "Examples:
  flow plan
  flow plan classify+ --json")]
pub(super) struct Arguments {
    #[command(flatten)]
    what: What,
    /// Print the plan as one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn main(arguments: &Arguments, shared: &Shared, style: &Style) -> Exit {
    let pipeline = match shared.load(style) {
        Ok(pipeline) => pipeline,
        Err(exit) => return exit,
    };
    let (chosen, choices) = match arguments.what.read(&pipeline) {
        Ok(what) => what,
        Err(error) => {
            style.error(&error);
            return Exit::Wrong;
        }
    };
    let plan = match Look::new(&pipeline).and_then(|look| plan(&look, &chosen, &choices)) {
        Ok(plan) => plan,
        Err(error) => {
            style.error(&clean(&error.to_string()));
            return Exit::Incomplete;
        }
    };
    if arguments.json {
        let text = serde_json::to_string(&plan).expect("plans always serialize");
        style.result(&format!("{text}\n"));
    } else {
        style.result(&told(&plan, style));
        if pipeline.profile.offline && plan.effort.calls > 0 {
            style.warn("this profile makes no call (`offline = true`): rows whose calls are not recorded fail");
        }
    }
    Exit::Done
}

/// The plan for people.
pub(super) fn told(plan: &Plan, style: &Style) -> String {
    let width = plan.stages.iter().map(|stage| stage.name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for stage in &plan.stages {
        text.push_str(&line(stage, width, style));
        text.push('\n');
    }
    let runs = plan.stages.iter().filter(|stage| stage.state == PlanState::Stale).count();
    let more = if plan.exact { "" } else { "at least " };
    match runs {
        0 => text.push_str("nothing would run\n"),
        _ => {
            let runs = count(runs as u64, "stage");
            text.push_str(&format!("{runs} would run: {more}{}\n", effort(&plan.effort)));
        }
    }
    text
}

fn line(stage: &StagePlan, width: usize, style: &Style) -> String {
    let color = match stage.state {
        PlanState::UpToDate => DIM,
        PlanState::Restored => GREEN,
        PlanState::Stale | PlanState::Incomplete => YELLOW,
    };
    let state = style.paint(&format!("{:<10}", stage.state.as_str()), color);
    let mut details = Vec::new();
    if let Some(rows) = stage.rows {
        details.push(count(rows, "row"));
    }
    details.extend(stage.reason.as_deref().map(clean));
    if let (Some(run), Some(known)) = (stage.rows_to_run, stage.rows_known) {
        details.push(format!("{} to run, {} known", count(run, "row"), grouped(known)));
    }
    if stage.effort.calls > 0 {
        details.push(effort(&stage.effort));
        match (stage.calls_under_way, stage.batch_share) {
            (Some(_), Some(share)) => {
                details.push(format!("in batches at {share} of the price"));
            }
            (Some(_), None) => details.push("in batches".to_owned()),
            (None, _) => {}
        }
    }
    if let Some(calls) = stage.calls_under_way.filter(|calls| *calls > 0) {
        details.push(format!("{} on their way in batches", count(calls, "call")));
    }
    if let Some(cached) = stage.calls_cached.filter(|cached| *cached > 0) {
        details.push(format!("{} recorded", count(cached, "call")));
    }
    details.extend(stage.bound.as_deref().map(clean));
    format!("  {:<width$}  {state}  {}", stage.name, details.join(", ")).trim_end().to_owned()
}

fn effort(effort: &Effort) -> String {
    let mut parts = vec![format!("{} to make", count(effort.calls, "call"))];
    if effort.tokens_in > 0 {
        let (tokens_in, tokens_out) = (grouped(effort.tokens_in), grouped(effort.tokens_out));
        parts.push(format!("about {tokens_in} tokens in, {tokens_out} out"));
    }
    if effort.cost_usd > 0.0 {
        parts.push(format!("about ${:.2}", effort.cost_usd));
    }
    if effort.seconds >= 1.0 {
        parts.push(format!("{} at the limits", duration(effort.seconds)));
    }
    parts.join(", ")
}

pub(super) fn duration(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{:.1} h", seconds as f64 / 3600.0),
    }
}
