//! `flow try`

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::rows::{fields, refused};
use super::style::{BOLD, GREEN, RED, Style, grouped};
use super::{Exit, Shared};
use crate::clients::{CallError, Stop};
use crate::engine::{
    Look, Said, TriedRow, TryError, TryOptions, Which, asked_rows, find, try_rows,
};
use crate::manifest::{Problem, Problems, Project, clean};
use crate::pipeline::{Instead, Pipeline};

#[derive(Args)]
#[command(
    after_help = "What is recorded is not paid for again, and what is asked now is kept like any call. No output \
    changes, and no table.

Examples:
  flow try classify -n 3
  flow try classify --row number=12 --prompt prompts/classify.strict.md"
)]
pub(super) struct Arguments {
    /// The stage: one that asks a model
    stage: String,
    /// A row that it reads: the values of its key with commas between them, or `field=value`
    #[arg(long, value_name = "KEY", required_unless_present = "first", conflicts_with = "first")]
    row: Option<String>,
    /// The first N rows that it would ask about
    #[arg(short = 'n', value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    first: Option<u32>,
    /// A template of the project that stands in for the stage's `prompt`
    #[arg(long, value_name = "FILE")]
    prompt: Option<PathBuf>,
    /// A template of the project that stands in for the stage's `system`
    #[arg(long, value_name = "FILE")]
    system: Option<PathBuf>,
    /// Make no call: what is not recorded is an error that names it
    #[arg(long)]
    offline: bool,
    /// Wait for a run in the folder to end
    #[arg(long)]
    wait: bool,
    /// Print the answers as one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn main(arguments: &Arguments, shared: &Shared, style: &Style) -> Exit {
    let (pipeline, at) = match load(arguments, shared, style) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let look = match Look::new(&pipeline) {
        Ok(look) => look,
        Err(error) => return refused(&error, style),
    };
    let which = match (&arguments.row, arguments.first) {
        (Some(wanted), _) => Which::Row(wanted),
        (None, first) => Which::First(first.unwrap_or(1) as usize),
    };
    let rows = match asked_rows(&look, at, which) {
        Ok(rows) => rows,
        Err(error) => return refused(&error, style),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            style.error(&format!("no threads to run on: {error}"));
            return Exit::Fault;
        }
    };
    let options = TryOptions {
        offline: arguments.offline,
        wait: arguments.wait,
        command: std::env::args().skip(1).collect::<Vec<_>>().join(" "),
    };
    let own = *style;
    let say = move |line: &str| own.say(&clean(line));
    let tried = runtime.block_on(try_rows(
        &look,
        at,
        &rows,
        &options,
        |holder| style.say(&clean(&format!("waiting for process {holder}, which works here"))),
        move |wait| say(&format!("{}: {}", wait.server, wait.why)),
        |handle| super::run::listen(handle, say),
    ));
    match tried {
        Ok(tried) => tell(&tried, arguments.json, style),
        Err(error) => not_tried(&error, style),
    }
}

/// The pipeline with the templates that stand in, and the place of the stage.
fn load(arguments: &Arguments, shared: &Shared, style: &Style) -> Result<(Pipeline, usize), Exit> {
    let pipeline = shared.load(style)?;
    let at = find(&pipeline, &arguments.stage).map_err(|error| {
        style.error(&error.to_string());
        Exit::Wrong
    })?;
    let stage = &pipeline.stages[at];
    if !stage.asks_models() {
        let (name, kind) = (&stage.name, stage.kind.name());
        let more = match kind {
            "github" => format!("; `flow render {name} --row ...` shows what it asks GitHub"),
            _ => String::new(),
        };
        style.error(&format!("`{name}` is of kind {kind} and asks no model{more}"));
        return Err(Exit::Wrong);
    }
    let given = [("prompt", &arguments.prompt), ("system", &arguments.system)];
    let mut options = shared.options(shared.profile.as_deref());
    let mut problems = Problems::default();
    for (setting, file) in given.into_iter().filter_map(|(name, file)| Some((name, file.as_ref()?)))
    {
        match of_project(&pipeline.project, file) {
            Ok(path) => options.instead.push(Instead { stage: stage.name.clone(), setting, path }),
            Err(problem) => problems.add(problem),
        }
    }
    if options.instead.is_empty() && problems.is_empty() {
        return Ok((pipeline, at));
    }
    let loaded = match problems.is_empty() {
        true => Pipeline::load(&options),
        false => Err(problems),
    };
    loaded.map(|pipeline| (pipeline, at)).map_err(|problems| {
        style.warn(&problems.render(style.color));
        Exit::Wrong
    })
}

/// A file as the manifest would name it. It is named as seen from where the user stands, or from the
/// project's folder.
fn of_project(project: &Project, file: &Path) -> Result<String, Problem> {
    let shown = file.display();
    let named = || file.to_str().unwrap_or_default().to_owned();
    let (Ok(full), Ok(root)) = (file.canonicalize(), project.root.canonicalize()) else {
        return project.read(&named()).map(|_| named());
    };
    match full.strip_prefix(&root) {
        Ok(path) => Ok(path.to_str().unwrap_or_default().to_owned()),
        Err(_) => Err(Problem::new(format!("`{shown}` is outside of the project's folder"))
            .help("templates are files of the project; put it there")),
    }
}

fn not_tried(error: &TryError, style: &Style) -> Exit {
    match error {
        TryError::Look(error) => refused(error, style),
        TryError::Secret { .. } => {
            style.error(&error.to_string());
            style.say("help: set it, or use `--offline`, which takes what is recorded");
            Exit::Wrong
        }
        TryError::Store(_) | TryError::Call(_) => {
            style.error(&error.to_string());
            Exit::Incomplete
        }
    }
}

fn tell(tried: &[TriedRow], as_json: bool, style: &Style) -> Exit {
    if as_json {
        style
            .result(&format!("{}\n", json!({ "rows": tried.iter().map(row).collect::<Vec<_>>() })));
    } else {
        tried.iter().for_each(|row| style.result(&told(row, style)));
    }
    let answers = || tried.iter().flat_map(|row| &row.answers);
    let is_stopped =
        |it: &Result<Said, CallError>| matches!(it, Err(CallError::Stopped(Stop::Interrupted)));
    let is_good = |it: &Result<Said, CallError>| matches!(it, Ok(said) if said.fields.is_some());
    match (answers().any(is_stopped), answers().all(is_good)) {
        (true, _) => Exit::Interrupted,
        (false, true) => Exit::Done,
        (false, false) => Exit::Incomplete,
    }
}

fn row(tried: &TriedRow) -> Value {
    let answer = |answer: &Result<Said, CallError>| match answer {
        Ok(said) => json!(said),
        Err(error) => json!({ "error": error.to_string() }),
    };
    json!({ "key": tried.key, "answers": tried.answers.iter().map(answer).collect::<Vec<_>>() })
}

fn told(tried: &TriedRow, style: &Style) -> String {
    let mut text = String::new();
    for answer in &tried.answers {
        let key = style.paint(&clean(&tried.key), BOLD);
        match answer {
            Err(error) => {
                let head = style.paint("no answer", RED);
                text.push_str(&format!("{key}\n{head}: {}\n", clean(&error.to_string())));
            }
            Ok(said) => text.push_str(&format!("{key}\n{}", told_answer(said, style))),
        }
    }
    text
}

fn told_answer(said: &Said, style: &Style) -> String {
    let model = clean(&said.model);
    let from = match (said.asked_now, said.given_in_run) {
        (true, _) => "asked now".to_owned(),
        (false, 0) => "recorded".to_owned(),
        (false, run) => format!("recorded in run {run}"),
    };
    let (call, source) = (&said.call[..12], clean(&said.source));
    let mut text = format!(
        "{model}, sample {}: {from}, by {source} (call {call})\n--- the answer\n{}\n",
        said.sample,
        clean(&said.text).trim_end_matches('\n')
    );
    match &said.fields {
        Some(row) => {
            text.push_str(&format!("--- {}\n{}", style.paint("good", GREEN), fields(row)));
        }
        None => {
            text.push_str(&format!("--- {}\n", style.paint("no good", RED)));
            said.faults.iter().for_each(|fault| text.push_str(&format!("- {}\n", clean(fault))));
        }
    }
    let cost = match (said.cost_usd, said.asked_now) {
        (None, _) => "no price is known".to_owned(),
        (Some(cost), true) => format!("${cost:.6}"),
        (Some(cost), false) => format!("${cost:.6} when it was asked, nothing now"),
    };
    text + &format!(
        "--- {} tokens in ({} cached), {} out; {cost}\n",
        grouped(said.tokens_in),
        grouped(said.tokens_in_cached),
        grouped(said.tokens_out)
    )
}
