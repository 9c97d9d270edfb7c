//! `flow check`

use clap::Args;
use serde_json::json;

use super::plan::duration;
use super::style::{DIM, GREEN, RED, Style, YELLOW, count, grouped, one_line};
use super::{Exit, Shared};
use crate::engine::{Check, CheckState, Left, online};
use crate::manifest::clean;
use crate::pipeline::Pipeline;

/// A line tells no more of a thing.
const LONGEST: usize = 600;
/// So many things are named once more at the end.
const MOST_NAMED: usize = 5;

#[derive(Args)]
#[command(after_help = "Examples:
  flow check
  flow check --online")]
pub(super) struct Arguments {
    /// Ask GitHub and the models, too: who the tokens are, what is left of their quotas, which
    /// repositories and models answer
    #[arg(long)]
    online: bool,
    /// Print what they say as one JSON object
    #[arg(long, requires = "online")]
    json: bool,
}

pub(super) fn main(arguments: &Arguments, shared: &Shared, style: &Style) -> Exit {
    match shared.load(style) {
        Err(exit) => exit,
        Ok(pipeline) => {
            let stages = count(pipeline.stages.len() as u64, "stage");
            style.say(&format!("{}: {} with {stages}", style.paint("ok", GREEN), pipeline.name));
            match arguments.online {
                true => ask(&pipeline, arguments.json, style),
                false => Exit::Done,
            }
        }
    }
}

fn ask(pipeline: &Pipeline, as_json: bool, style: &Style) -> Exit {
    if pipeline.profile.offline {
        let name = &pipeline.profile.name;
        style.error(&format!(
            "the profile `{name}` is offline: nobody is asked; leave `--profile` out"
        ));
        return Exit::Wrong;
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            style.error(&format!("no thread to run on: {error}"));
            return Exit::Fault;
        }
    };
    let mut checks = match runtime.block_on(online(pipeline)) {
        Ok(checks) => checks,
        Err(error) => {
            style.error(&clean(&error.to_string()));
            return Exit::Wrong;
        }
    };
    for check in &mut checks {
        check.name = one_line(&check.name, LONGEST);
        check.text = one_line(&text(check), LONGEST);
    }
    match as_json {
        true => style.result(&format!("{}\n", json!({ "checks": checks }))),
        false => style.result(&told(&checks, style)),
    }
    let failed = checks.iter().filter(|check| check.state == CheckState::Problem);
    let mut failed: Vec<String> = failed.map(what).collect();
    if failed.is_empty() {
        return Exit::Done;
    }
    if let Some(more @ 1..) = failed.len().checked_sub(MOST_NAMED) {
        failed.truncate(MOST_NAMED);
        failed.push(format!("and {more} more"));
    }
    style.error(&format!("this will not work: {}", failed.join(", ")));
    Exit::Incomplete
}

fn told(checks: &[Check], style: &Style) -> String {
    let width = checks.iter().map(|check| what(check).chars().count()).max().unwrap_or(0);
    let line = |check: &Check| {
        let color = match check.state {
            CheckState::Ok => GREEN,
            CheckState::Renamed => YELLOW,
            CheckState::Problem => RED,
            CheckState::Unknown => DIM,
        };
        let state = style.paint(&format!("{:<7}", check.state.as_str()), color);
        let line = format!("  {:<width$}  {state}  {}", what(check), check.text);
        format!("{}\n", line.trim_end())
    };
    match checks {
        [] => "it asks nobody\n".into(),
        checks => checks.iter().map(line).collect(),
    }
}

/// `repository ggml-org/llama.cpp`
fn what(check: &Check) -> String {
    format!("{} {}", check.kind.as_str(), check.name)
}

/// What there is to say, with what is left of the quotas.
fn text(check: &Check) -> String {
    let left = check.limits.iter().map(|(name, left)| left_of(name, left));
    let told = (!check.text.is_empty()).then(|| check.text.clone());
    told.into_iter().chain(left).collect::<Vec<_>>().join("; ")
}

fn left_of(name: &str, left: &Left) -> String {
    let mut text = format!("{name} {} of {}", grouped(left.remaining), grouped(left.limit));
    if left.resets_in > 0 && left.remaining < left.limit {
        text.push_str(&format!(", resets in {}", duration(left.resets_in as f64)));
    }
    text
}
