//! `flow run`

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::progress::Progress;
use super::style::{BOLD, DIM, GREEN, RED, Style, YELLOW, count, grouped, one_line};
use super::what::What;
use super::{Exit, Shared, logs};
use crate::clients::Limits;
use crate::engine::{
    Choices, FailedKind, Look, Refresh, RunError, RunHandle, RunOptions, StageState, StageSummary,
    Summary, plan, run,
};
use crate::manifest::clean;
use crate::package::recorded;
use crate::pipeline::{Pipeline, Stage};

#[derive(Args)]
#[command(after_help = "Examples:
  flow run
  flow run report --max-cost 5
  flow run --profile sample --limit 20
  flow run --offline --cassette ../study.tar.zst")]
pub(super) struct Arguments {
    #[command(flatten)]
    what: What,
    /// Print what was done as one JSON object on stdout
    #[arg(long)]
    json: bool,
    /// Make no call: what is not recorded is an error that names it
    #[arg(long, conflicts_with = "refresh")]
    offline: bool,
    /// Answer from the recorded calls of FILE, a `.jsonl` cassette or a `.tar.zst` package, in the place
    /// of the profile's
    #[arg(long, value_name = "FILE")]
    cassette: Option<PathBuf>,
    /// Wait for another run in the folder to end
    #[arg(long)]
    wait: bool,
    /// Go on where a stage fails (as it is without)
    #[arg(long, conflicts_with = "fail_fast")]
    keep_going: bool,
    /// Stop at the first stage that is not complete
    #[arg(long)]
    fail_fast: bool,
    /// Stop before more than this is spent; models need a `price` and a longest answer (`max_tokens`)
    #[arg(long, value_name = "USD", value_parser = dollars, allow_negative_numbers = true)]
    max_cost: Option<f64>,
    /// Stop after so many calls
    #[arg(long, value_name = "N", value_parser = calls, allow_negative_numbers = true)]
    max_calls: Option<u64>,
}

fn dollars(text: &str) -> Result<f64, String> {
    match text.trim_start_matches('$').parse::<f64>() {
        Ok(dollars) if dollars.is_finite() && dollars >= 0.0 => Ok(dollars),
        _ => Err("it is no amount of USD, such as 2.50".into()),
    }
}

fn calls(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "it is no whole number, such as 100".into())
}

impl Arguments {
    fn options(&self, pipeline: &Pipeline) -> Result<RunOptions, String> {
        let (chosen, choices) = self.what.read(pipeline)?;
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
    let pipeline = match load(arguments, shared, style) {
        Ok(pipeline) => Arc::new(pipeline),
        Err(exit) => return exit,
    };
    let options = match arguments.options(&pipeline) {
        Ok(options) => options,
        Err(error) => {
            style.error(&error);
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
    let exit = once(pipeline, &options, style, arguments.json, &runtime);
    // A program or a query that does not end by itself is not waited for.
    runtime.shutdown_background();
    exit
}

/// Runs, and tells how it ended.
pub(super) fn once(
    pipeline: Arc<Pipeline>,
    options: &RunOptions,
    style: &Style,
    json: bool,
    runtime: &tokio::runtime::Runtime,
) -> Exit {
    open_logs(&pipeline);
    let progress = Progress::new(style);
    let watch = progress.clone();
    let result = runtime.block_on(run(
        pipeline.clone(),
        options,
        move |event| watch.see(event),
        |handle| {
            let progress = progress.clone();
            listen(handle, move |line| progress.line(line));
        },
    ));
    progress.end();
    let summary = match result {
        Ok(summary) => summary,
        Err(error) => return refused(&pipeline, &error, style),
    };
    if json {
        let text = serde_json::to_string(&summary).expect("summaries always serialize");
        style.result(&format!("{text}\n"));
    }
    tell(&pipeline, options, &summary, style);
    if summary.stopped.is_some() {
        tell_left(&pipeline, options, style);
    }
    match (summary.interrupted, summary.over_budget, summary.is_complete()) {
        (true, ..) => Exit::Interrupted,
        (false, true, _) => Exit::OverBudget,
        (false, false, true) => Exit::Done,
        (false, false, false) => Exit::Incomplete,
    }
}

/// Reads the pipeline, with the recorded calls that were named.
fn load(arguments: &Arguments, shared: &Shared, style: &Style) -> Result<Pipeline, Exit> {
    let mut options = shared.options(shared.profile.as_deref());
    if let Some(file) = &arguments.cassette {
        let recorded = recorded(file).map_err(|error| {
            style.error(&one_line(&error.to_string(), 2000));
            Exit::Wrong
        })?;
        options.cassette = Some(Arc::new(recorded.cassette));
        // A package may be a stranger's: no call goes to an address of its, and no key with it.
        if arguments.offline {
            options.addresses = recorded.addresses;
        }
    }
    Pipeline::load(&options).map_err(|problems| {
        style.warn(&problems.render(style.color));
        Exit::Wrong
    })
}

/// Opens the run's logs. A folder that cannot be written stops what needs to write there, not this.
fn open_logs(pipeline: &Pipeline) {
    let data = pipeline.profile.data.as_deref().unwrap_or("data");
    let secrets = pipeline.stages.iter().flat_map(|stage| &stage.compiled.secrets);
    let secrets = secrets.filter_map(|secret| std::env::var(&secret.variable).ok());
    let secrets: HashSet<String> = secrets.filter(|value| value.len() >= 8).collect();
    let folder = pipeline.project.root.join(data).join("logs");
    if let Err(error) = logs::open(&folder, secrets.into_iter().collect()) {
        tracing::debug!(%error, "no log is written");
    }
    let command = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    tracing::info!(command, "flow {}", env!("CARGO_PKG_VERSION"));
}

/// What a run that stopped has left to do.
fn tell_left(pipeline: &Pipeline, options: &RunOptions, style: &Style) {
    // What was asked again, was; what was forced would be forced once more.
    let choices = Choices { refresh: Refresh::None, force: Vec::new(), ..options.choices.clone() };
    let left = Look::new(pipeline).and_then(|look| plan(&look, &options.chosen, &choices));
    match left {
        Ok(plan) => style.say(&format!("what is left:\n{}", super::plan::told(&plan, style))),
        Err(error) => style.error(&clean(&error.to_string())),
    }
}

/// The first Ctrl-C (or SIGTERM) lets what is under way land; the second ends the process. Either
/// way every answer that came is stored.
pub(super) fn listen(handle: RunHandle, tell: impl Fn(&str) + Send + 'static) {
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
            tell("stopping: no new calls; those under way are awaited (again to stop now)");
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
        RunError::NoPrice { .. } => {
            style.error(&error.to_string());
            Exit::Wrong
        }
        _ => {
            style.error(&error.to_string());
            Exit::Incomplete
        }
    }
}

/// So many stages that were not reached are named.
const MANY: usize = 5;

fn tell(pipeline: &Pipeline, options: &RunOptions, summary: &Summary, style: &Style) {
    let width = summary.stages.iter().map(|stage| stage.name.chars().count()).max().unwrap_or(0);
    // Of many that were not reached one line is enough.
    let skipped = |stage: &&StageSummary| stage.state == StageState::Skipped;
    let many = summary.stages.iter().filter(skipped).count();
    for stage in &summary.stages {
        match stage.state {
            StageState::Failed | StageState::Incomplete => {
                style.warn(&stage_line(stage, width, style));
            }
            StageState::Skipped if many > MANY => {}
            _ => style.say(&stage_line(stage, width, style)),
        }
    }
    if many > MANY {
        style.say(&format!("  {} were not reached", count(many as u64, "stage")));
    }
    for stage in &summary.stages {
        if let Some(file) = &stage.failed_file {
            let failed = count(stage.failed_rows, "row");
            let reason = clean(stage.reason.as_deref().unwrap_or_default());
            style.warn(&format!("{failed} of `{}` failed, the first: {reason}", stage.name));
            style.warn(&format!("  all of them: {file}"));
            let offline = options.offline || pipeline.profile.offline;
            style.say(&format!("  help: {}", for_rows(stage.failed_kind, offline)));
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
    let known: u64 = summary.stages.iter().map(|stage| stage.rows_memo).sum();
    if known > 0 {
        line.push_str(&format!(", {} known before", count(known, "row")));
    }
    if summary.tokens_in + summary.tokens_out > 0 {
        line.push_str(&format!(
            ", {} tokens in, {} out",
            grouped(summary.tokens_in),
            grouped(summary.tokens_out)
        ));
        if summary.tokens_in_cached > 0 {
            let cached = grouped(summary.tokens_in_cached);
            line.push_str(&format!(" ({cached} in from the provider's cache)"));
        }
    }
    if summary.cost_usd > 0.0 {
        line.push_str(&format!(", ${:.4}", summary.cost_usd));
    }
    style.say(&line);
    if summary.interrupted || summary.stopped.is_some() {
        style.say("what was answered is stored; run again to go on");
    } else {
        what_to_do(summary, style);
        where_to_look(pipeline, options, summary, style);
    }
}

/// What helps after a run in which a stage failed.
fn what_to_do(summary: &Summary, style: &Style) {
    let failed: Vec<String> = summary
        .stages
        .iter()
        .filter(|stage| stage.state == StageState::Failed)
        .map(|stage| format!("`{}`", stage.name))
        .collect();
    if !failed.is_empty() {
        let failed = clean(&failed.join(", "));
        style.say(&format!("help: mend what stopped {failed} and run again; what is done is kept"));
    }
}

/// What helps where rows failed, by how the first of them did.
fn for_rows(kind: Option<FailedKind>, offline: bool) -> &'static str {
    match kind {
        Some(FailedKind::Answer) => {
            "`--retry-failed` asks again; so does another prompt, schema, check, model or address"
        }
        Some(FailedKind::Passing) if offline => {
            "what is not recorded was not asked: this run makes no call (`--offline`, or `offline = true` in \
             its profile)"
        }
        Some(FailedKind::Passing) => "run again: what failed in passing is tried once more",
        _ => "mend the row, or what the stage asks of it, and run again",
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
fn where_to_look(pipeline: &Pipeline, options: &RunOptions, summary: &Summary, style: &Style) {
    let graph = &pipeline.graph;
    let last = pipeline.stages.iter().filter(|stage| {
        graph.index(&stage.name).is_some_and(|index| graph.readers(index).is_empty())
    });
    let made: HashSet<&str> = summary
        .stages
        .iter()
        .filter(|stage| stage.rows > 0)
        .map(|stage| stage.name.as_str())
        .collect();
    let made = |stage: &&Stage| made.contains(stage.name.as_str());
    let outputs = last.filter(made).flat_map(|stage| &stage.outputs);
    let outputs: Vec<String> =
        outputs.map(|output| pipeline.placed(output, options.choices.limit)).collect();
    if !summary.is_complete() {
        let documents = pipeline.stages.iter().filter(|stage| stage.kind.makes_documents());
        let lacking = |stage: &&Stage| {
            let found = summary.stages.iter().find(|summary| summary.name == stage.name);
            found.is_some_and(|summary| summary.state == StageState::Incomplete)
        };
        for stage in documents.filter(lacking) {
            let name = &stage.name;
            style.warn(&format!("`{name}` was made of tables that lack rows: do not rely on it"));
        }
    }
    if !outputs.is_empty() {
        let outputs = clean(&outputs.join("\n         "));
        style.say(&format!("{} {outputs}", style.paint("look at:", BOLD)));
    }
}
