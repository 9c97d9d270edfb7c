//! `flow run`

use std::sync::Arc;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::progress::Progress;
use super::style::{BOLD, DIM, GREEN, RED, Style, YELLOW, count, grouped};
use super::{Exit, Shared};
use crate::clients::Limits;
use crate::engine::{
    Choices, NoTarget, Refresh, RunError, RunHandle, RunOptions, StageState, StageSummary, Summary,
    find, run, select,
};
use crate::manifest::clean;
use crate::pipeline::Pipeline;

#[derive(Args)]
pub(super) struct Arguments {
    /// Stages or outputs, with all that they need; `x+` also all that follows x
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// Print what was done as one JSON object on stdout
    #[arg(long)]
    json: bool,
    /// Make no call: what is not recorded is an error that names it
    #[arg(long, conflicts_with = "refresh")]
    offline: bool,
    /// Run only the targets (`+x` with what x needs, `x+` with what follows), on what the others last
    /// made
    #[arg(long, requires = "targets")]
    only: bool,
    /// Run the rows of the targets again, on recorded answers
    #[arg(long)]
    force: bool,
    /// Ask again what these stages have asked, or all of them; what is unchanged changes nothing
    #[arg(long, value_name = "STAGE,...|all", value_delimiter = ',')]
    refresh: Vec<String>,
    /// Ask again about rows whose answers were no good
    #[arg(long)]
    retry_failed: bool,
    /// Wait for another run in the folder to end
    #[arg(long)]
    wait: bool,
    /// A trial: the first N rows of each stage and list, outputs under `data/trial/`
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Go on where a stage fails (as it is without)
    #[arg(long, conflicts_with = "fail_fast")]
    keep_going: bool,
    /// Stop at the first stage that is not complete
    #[arg(long)]
    fail_fast: bool,
    /// Stop before more than this is spent
    #[arg(long, value_name = "USD", value_parser = dollars)]
    max_cost: Option<f64>,
    /// Stop after so many calls
    #[arg(long, value_name = "N")]
    max_calls: Option<u64>,
}

fn dollars(text: &str) -> Result<f64, String> {
    match text.trim_start_matches('$').parse::<f64>() {
        Ok(dollars) if dollars.is_finite() && dollars >= 0.0 => Ok(dollars),
        _ => Err("it is no amount of USD, such as 2.50".into()),
    }
}

impl Arguments {
    fn options(&self, pipeline: &Pipeline) -> Result<RunOptions, NoTarget> {
        let chosen = select(pipeline, &self.targets, self.only)?;
        let refresh = match &self.refresh[..] {
            [] => Refresh::None,
            [all] if all == "all" => Refresh::All,
            names => {
                let found: Result<_, _> = names.iter().map(|name| find(pipeline, name)).collect();
                Refresh::Stages(found?)
            }
        };
        let force = match self.force {
            false => Vec::new(),
            true => select(pipeline, &self.targets, true)?.into_iter().collect(),
        };
        let choices = Choices {
            refresh,
            force,
            retry_failed: self.retry_failed,
            limit: self.limit,
            ..Choices::default()
        };
        // As it was typed, less the program.
        let command = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
        Ok(RunOptions {
            chosen,
            choices,
            offline: self.offline,
            wait: self.wait,
            fail_fast: self.fail_fast,
            limits: Limits { calls: self.max_calls, cost: self.max_cost },
            command,
        })
    }
}

pub(super) fn main(arguments: &Arguments, shared: &Shared, style: &Style) -> Exit {
    let pipeline = match shared.load(style) {
        Ok(pipeline) => Arc::new(pipeline),
        Err(exit) => return exit,
    };
    let options = match arguments.options(&pipeline) {
        Ok(options) => options,
        Err(error) => {
            style.error(&error.to_string());
            return Exit::Wrong;
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            style.error(&format!("no threads to run on: {error}"));
            return Exit::Fault;
        }
    };
    let progress = Progress::new(style);
    let watch = progress.clone();
    let result = runtime.block_on(run(
        pipeline.clone(),
        &options,
        move |event| watch.see(event),
        |handle| listen(handle, progress.clone()),
    ));
    progress.end();
    // A program or a query that does not end by itself is not waited for.
    runtime.shutdown_background();
    let summary = match result {
        Ok(summary) => summary,
        Err(error) => return refused(&pipeline, &error, style),
    };
    if arguments.json {
        let text = serde_json::to_string(&summary).expect("summaries always serialize");
        style.result(&format!("{text}\n"));
    }
    tell(&pipeline, &summary, style);
    match (summary.interrupted, summary.over_budget, summary.is_complete()) {
        (true, ..) => Exit::Interrupted,
        (false, true, _) => Exit::OverBudget,
        (false, false, true) => Exit::Done,
        (false, false, false) => Exit::Incomplete,
    }
}

/// The first Ctrl-C (or SIGTERM) lets what is under way land; the second ends the process. Either
/// way every answer that came is stored.
fn listen(handle: RunHandle, progress: Progress) {
    tokio::spawn(async move {
        let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
        let (Ok(mut interrupt), Ok(mut terminate)) = signals else { return };
        for again in [false, true] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if again {
                std::process::exit(Exit::Interrupted as i32);
            }
            progress
                .line("stopping: no new calls; those under way are awaited (again to stop now)");
            handle.interrupt();
        }
    });
}

fn refused(pipeline: &Pipeline, error: &RunError, style: &Style) -> Exit {
    match error {
        RunError::Secrets { missing } => {
            for line in missing {
                style.error(line);
            }
            let mut help =
                "help: set it, or run without: `--offline` uses what is recorded".to_owned();
            if pipeline.profiles.iter().any(|profile| profile == "sample") {
                help.push_str(", `--profile sample` runs the sample");
            }
            style.say(&help);
            Exit::Wrong
        }
        _ => {
            style.error(&error.to_string());
            Exit::Incomplete
        }
    }
}

fn tell(pipeline: &Pipeline, summary: &Summary, style: &Style) {
    let width = summary.stages.iter().map(|stage| stage.name.chars().count()).max().unwrap_or(0);
    for stage in &summary.stages {
        match stage.state {
            StageState::Failed | StageState::Incomplete => {
                style.warn(&stage_line(stage, width, style));
            }
            _ => style.say(&stage_line(stage, width, style)),
        }
    }
    for stage in &summary.stages {
        if let Some(file) = &stage.failed_file {
            let failed = count(stage.failed_rows, "row");
            let reason = clean(stage.reason.as_deref().unwrap_or_default());
            style.warn(&format!("{failed} of `{}` failed, the first: {reason}", stage.name));
            style.warn(&format!("  all of them: {file}"));
        }
    }
    if let Some(why) = &summary.stopped {
        style.warn(&format!("stopped: {}", clean(why)));
    }
    let ended = match (summary.interrupted, &summary.stopped, summary.is_complete()) {
        (true, ..) => style.paint("interrupted", YELLOW),
        (false, Some(_), _) => style.paint("stopped", YELLOW),
        (false, None, true) => style.paint("up to date", GREEN),
        (false, None, false) => style.paint("incomplete", RED),
    };
    let mut line = format!(
        "{ended} in {:.1} s: {} made, {} answered from what is recorded",
        summary.seconds,
        count(summary.calls, "call"),
        grouped(summary.calls_cached),
    );
    if summary.tokens_in + summary.tokens_out > 0 {
        line.push_str(&format!(
            ", {} tokens in, {} out",
            grouped(summary.tokens_in),
            grouped(summary.tokens_out)
        ));
    }
    if summary.cost_usd > 0.0 {
        line.push_str(&format!(", ${:.4}", summary.cost_usd));
    }
    style.say(&line);
    if summary.interrupted || summary.stopped.is_some() {
        style.say("what was answered is stored; run again to go on");
    } else {
        where_to_look(pipeline, summary, style);
    }
}

fn stage_line(stage: &StageSummary, width: usize, style: &Style) -> String {
    let color = match stage.state {
        StageState::UpToDate => DIM,
        StageState::Ran | StageState::Restored => GREEN,
        StageState::Incomplete => YELLOW,
        StageState::Failed | StageState::Skipped => RED,
    };
    let state = style.paint(&format!("{:<10}", stage.state.as_str()), color);
    let mut line = format!("  {:<width$}  {state}  {:>12}", stage.name, count(stage.rows, "row"));
    let mut details = Vec::new();
    if stage.rows_run > 0 && stage.rows_memo > 0 {
        details.push(format!(
            "{} run, {} known",
            grouped(stage.rows_run),
            grouped(stage.rows_memo)
        ));
    }
    if stage.calls > 0 {
        details.push(count(stage.calls, "call"));
    }
    if stage.calls_cached > 0 {
        details.push(format!("{} recorded", grouped(stage.calls_cached)));
    }
    if stage.failed_rows > 0 {
        details.push(format!("{} failed", grouped(stage.failed_rows)));
    }
    if let Some(reason) = stage.reason.as_ref().filter(|_| stage.failed_rows == 0) {
        details.push(clean(reason));
    }
    if !details.is_empty() {
        line.push_str(&format!("  {}", details.join(", ")));
    }
    line
}

/// The outputs of the stages that nothing reads: what the study is for.
fn where_to_look(pipeline: &Pipeline, summary: &Summary, style: &Style) {
    let graph = &pipeline.graph;
    let last = pipeline.stages.iter().filter(|stage| {
        graph.index(&stage.name).is_some_and(|index| graph.readers(index).is_empty())
    });
    let mut outputs: Vec<&str> =
        last.flat_map(|stage| &stage.outputs).map(String::as_str).collect();
    let made = |output: &&str| {
        let name = |stage: &&StageSummary| {
            pipeline
                .stage(&stage.name)
                .is_some_and(|stage| stage.outputs.iter().any(|own| own == output))
        };
        summary.stages.iter().find(name).is_some_and(|stage| stage.rows > 0)
    };
    outputs.retain(made);
    if !outputs.is_empty() {
        let outputs = clean(&outputs.join("\n         "));
        style.say(&format!("{} {outputs}", style.paint("look at:", BOLD)));
    }
}
