//! `flow watch`

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::style::Style;
use super::{Exit, Shared, run};
use crate::engine::{Choices, Look, Plan, PlanState, RunOptions, plan};
use crate::manifest::clean;
use crate::pipeline::{InputRef, Pipeline};
use crate::stages::Work;
use crate::store::FileState;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_millis(300);

#[derive(Args)]
#[command(after_help = "Examples:
  flow watch
  flow watch --profile sample")]
pub(super) struct Arguments {
    /// Look and run once, and end
    #[arg(long, hide = true)]
    once: bool,
}

/// What is looked at, as it last was; `None` where there is no such file.
type Files = BTreeMap<PathBuf, Option<FileState>>;

pub(super) fn main(arguments: &Arguments, shared: &Shared, style: &Style) -> Exit {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            style.error(&format!("no threads to run on: {error}"));
            return Exit::Fault;
        }
    };
    let mut lines = runtime.block_on(async { typed() });
    let mut interrupts = match runtime.block_on(async { signal(SignalKind::interrupt()) }) {
        Ok(interrupts) => interrupts,
        Err(error) => {
            style.error(&format!("no signals: {error}"));
            return Exit::Fault;
        }
    };
    let mut files = Files::new();
    loop {
        let mut waits = None;
        match shared.load(style) {
            // Its mistakes were told. What was looked at stays so until it can be read again.
            Err(_) => {
                files.extend(state_of([shared.file.clone()]));
                style.say("waiting for a file to be saved (Ctrl-C ends)");
            }
            Ok(pipeline) => {
                let pipeline = Arc::new(pipeline);
                files = state_of(paths(&pipeline, shared));
                match bring_up(&pipeline, style, &runtime) {
                    Ok(left) => waits = left,
                    Err(Exit::Interrupted) => return Exit::Interrupted,
                    Err(_) => {}
                }
            }
        }
        if arguments.once {
            return if waits.is_some() { Exit::Incomplete } else { Exit::Done };
        }
        let happened =
            runtime.block_on(next(&mut files, &mut lines, &mut interrupts, waits.is_some()));
        match (happened, waits) {
            (Happened::Interrupted, _) => return Exit::Interrupted,
            (Happened::Yes, Some((pipeline, options))) => {
                if run::once(pipeline, &options, style, false, &runtime) == Exit::Interrupted {
                    return Exit::Interrupted;
                }
            }
            (Happened::Saved | Happened::Yes, _) => {}
        }
    }
}

/// What ends a wait.
enum Happened {
    /// A file is another.
    Saved,
    /// What costs something is to run.
    Yes,
    Interrupted,
}

/// Waits for a file that was saved, or for a `y`.
async fn next(
    files: &mut Files,
    lines: &mut UnboundedReceiver<String>,
    interrupts: &mut Signal,
    asked: bool,
) -> Happened {
    let mut ticks = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            _ = interrupts.recv() => return Happened::Interrupted,
            Some(line) = lines.recv() => {
                if asked && line.trim().eq_ignore_ascii_case("y") {
                    return Happened::Yes;
                }
            }
            _ = ticks.tick() => {
                let now = state_of(files.keys().cloned());
                if now != *files {
                    *files = now;
                    return Happened::Saved;
                }
            }
        }
    }
}

/// The lines that are typed.
fn typed() -> UnboundedReceiver<String> {
    let (sender, lines) = unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
        // Where nothing can be typed nothing ever comes.
        std::mem::forget(sender);
    });
    lines
}

/// Every file that decides what would run.
fn paths(pipeline: &Pipeline, shared: &Shared) -> Vec<PathBuf> {
    let sources = pipeline.stages.iter().flat_map(|stage| &stage.compiled.sources);
    let mut paths: Vec<PathBuf> = sources.map(|source| PathBuf::from(&source.path)).collect();
    for input in pipeline.stages.iter().flat_map(|stage| &stage.inputs) {
        if let InputRef::File { path, .. } = input {
            paths.push(pipeline.project.root.join(path));
        }
    }
    paths.push(shared.file.clone());
    paths
}

fn state_of(paths: impl IntoIterator<Item = PathBuf>) -> Files {
    paths.into_iter().map(|path| (path.clone(), FileState::of(&path).ok())).collect()
}

/// Runs what costs nothing; what is left where something waits that does.
fn bring_up(
    pipeline: &Arc<Pipeline>,
    style: &Style,
    runtime: &tokio::runtime::Runtime,
) -> Result<Option<(Arc<Pipeline>, RunOptions)>, Exit> {
    let chosen: BTreeSet<usize> = (0..pipeline.stages.len()).collect();
    let planned = || {
        let look = Look::new(pipeline)?;
        plan(&look, &chosen, &Choices::default())
    };
    let told = |error| {
        style.error(&clean(&format!("{error}")));
        Exit::Incomplete
    };
    let free = free(pipeline, &planned().map_err(told)?);
    if !free.is_empty() {
        let options = RunOptions { chosen: free, command: "watch".into(), ..RunOptions::default() };
        let ended = run::once(pipeline.clone(), &options, style, false, runtime);
        if ended != Exit::Done {
            return Err(ended);
        }
    }
    let left = planned().map_err(told)?;
    let waiting = left.stages.iter().filter(|stage| stage.state == PlanState::Stale).count();
    if waiting == 0 {
        style.say("nothing is left to run; waiting for a file to be saved (Ctrl-C ends)");
        return Ok(None);
    }
    let told = super::plan::told(&left, style);
    let sum = told.lines().last().unwrap_or_default();
    let how = match std::io::stdin().is_terminal() {
        _ if pipeline.profile.offline => {
            style.say(&format!("{sum}\nthis profile makes no call, and these are not recorded"));
            return Ok(None);
        }
        true => "y and Enter run them; or save a file (Ctrl-C ends)",
        false => "`flow run` runs them",
    };
    style.say(&format!("{sum}\n{how}"));
    let options = RunOptions { chosen, command: "watch".into(), ..RunOptions::default() };
    Ok(Some((pipeline.clone(), options)))
}

/// The stages that would run without a call, on what is recorded and on what such stages make.
fn free(pipeline: &Pipeline, plan: &Plan) -> BTreeSet<usize> {
    let planned: BTreeMap<&str, _> =
        plan.stages.iter().map(|stage| (stage.name.as_str(), stage)).collect();
    let (mut ready, mut free) = (BTreeSet::new(), BTreeSet::new());
    for at in pipeline.order.iter().copied() {
        let stage = &pipeline.stages[at];
        let Some(plan) = planned.get(stage.name.as_str()) else { continue };
        let needs = |input: &InputRef| !matches!(input, InputRef::Stage(of) if !ready.contains(of));
        if !stage.inputs.iter().all(needs) {
            continue;
        }
        let calls = matches!(&stage.compiled.work, Work::Rows(work) if work.stage.calls());
        match plan.state {
            PlanState::UpToDate | PlanState::Incomplete => drop(ready.insert(at)),
            PlanState::Restored => drop((ready.insert(at), free.insert(at))),
            PlanState::Stale if !calls || (plan.effort.calls == 0 && plan.bound.is_none()) => {
                ready.insert(at);
                free.insert(at);
            }
            PlanState::Stale => {}
        }
    }
    free
}
