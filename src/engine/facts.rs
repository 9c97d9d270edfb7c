//! What a page of the graph tells: how each stage stands, what it reads and asks, its last run and the
//! last rows of its table. Reads alone, so it works where nothing ran and while a run does.

use std::collections::HashMap;

use serde_json::Value;

use super::event::StageState;
use super::fingerprint::settings;
use super::history::{RunRecord, StageRun};
use super::look::{Look, LookError};
use super::status::{StageStatus, Status, status};
use crate::graph::{Facts, LastRows, PageFacts, State};
use crate::manifest::SourceText;
use crate::pipeline::{InputRef, Pipeline, Stage};
use crate::stages::Work;
use crate::store::Artifact;
use crate::table::{Row, all_fields};

/// Of a table, so many rows and columns are shown, and so many characters of a cell.
const ROWS: usize = 10;
const COLUMNS: usize = 40;
const CELL: usize = 300;
/// Of a prompt or a query, so many characters.
const TEXT: usize = 20_000;
/// What is longer is a text of its own, and no setting; so are these, however short.
const SETTING: usize = 100;
const TEXTS: [&str; 6] = ["system", "prompt", "query", "graphql", "pick", "template"];

/// What it is, and what is to be said of it.
type Pairs = Vec<(String, String)>;

/// What there is to tell of a pipeline's graph.
pub fn page_facts(look: &Look<'_>) -> Result<PageFacts, LookError> {
    let pipeline = look.pipeline;
    let status = status(look)?;
    let last_runs = last_runs(look)?;
    let mut nodes = HashMap::new();
    for table in &pipeline.tables {
        let count = table.rows.len() as u64;
        let columns = all_fields(&table.rows);
        let rows = table.rows.iter().skip(table.rows.len().saturating_sub(ROWS));
        let rows = rows.cloned().collect();
        let last_rows = Some(last_rows(columns, rows));
        let told = vec![("rows".to_owned(), count.to_string())];
        nodes.insert(
            table.name.clone(),
            Facts { rows: Some(count), told, last_rows, ..Facts::default() },
        );
    }
    for (at, stage) in pipeline.stages.iter().enumerate() {
        for input in &stage.inputs {
            if let InputRef::File { path, .. } = input
                && !nodes.contains_key(path)
            {
                nodes.insert(path.clone(), file_facts(look, input));
            }
        }
        let facts = stage_facts(look, at, &status.stages[at], last_runs.get(&stage.name));
        nodes.insert(stage.name.clone(), facts);
    }
    Ok(PageFacts { title: pipeline.name.clone(), told: told(&status), nodes })
}

/// What is told of the whole.
fn told(status: &Status) -> Vec<String> {
    let mut parts = Vec::new();
    if !status.profile.is_empty() {
        parts.push(format!("profile {}", status.profile));
    }
    if status.calls > 0 {
        parts.push(format!("{} calls made so far", status.calls));
    }
    if status.cost_usd > 0.0 {
        parts.push(format!("${:.4} spent", status.cost_usd));
    }
    let mut told = Vec::new();
    if !parts.is_empty() {
        told.push(parts.join(" \u{b7} "));
    }
    if let Some(holder) = &status.running {
        told.push(format!(
            "a run works now (process {holder}): this is how things stood meanwhile"
        ));
    }
    told
}

/// A stage's part of a run, with what is told of the run.
struct LastRun {
    run: i64,
    at: String,
    command: String,
    trial: bool,
    stage: StageRun,
}

/// The last run of each stage under this profile.
fn last_runs(look: &Look<'_>) -> Result<HashMap<String, LastRun>, LookError> {
    let mut last = HashMap::new();
    for stored in look.store.runs(u64::from(u32::MAX))? {
        let Some(record) = stored.record.and_then(|record| RunRecord::read(&record)) else {
            continue;
        };
        if record.profile != look.pipeline.profile.name {
            continue;
        }
        let (command, trial) = (record.command, record.trial);
        for stage in record.stages {
            // The latest run comes first.
            last.entry(stage.name.clone()).or_insert_with(|| LastRun {
                run: stored.id,
                at: stored.at.clone(),
                command: command.clone(),
                trial,
                stage,
            });
        }
    }
    Ok(last)
}

fn stage_facts(
    look: &Look<'_>,
    at: usize,
    status: &StageStatus,
    last_run: Option<&LastRun>,
) -> Facts {
    let stage = &look.pipeline.stages[at];
    // A table that is gone or damaged is made again by the next run; here it is only not shown.
    let table = look.table(at).ok().flatten();
    let rows = table.as_ref().map(|table| table.rows);
    let mut told = Vec::new();
    let mut tell = |name: &str, value: String| told.push((name.to_owned(), value));
    if let Some(rows) = rows {
        tell("rows", rows.to_string());
    }
    if status.failed_rows > 0 {
        tell("failed rows", format!("{}, told in {}", status.failed_rows, stage.failed_file));
    }
    let calls = matches!(&stage.compiled.work, Work::Rows(rows) if rows.stage.calls());
    if calls || status.calls > 0 {
        tell("calls so far", status.calls.to_string());
        tell("cost so far", format!("${:.4}", status.cost_usd));
    }
    if let (Some(run), Some(at)) = (status.run, &status.at) {
        let word = if status.accepted { "accepted; made in" } else { "made in" };
        tell(word, format!("run {run}, {}", minute(at)));
    }
    let (settings, texts) = settings_and_texts(look.pipeline, stage);
    let state = state(status, last_run);
    let failure = last_run.and_then(|last| last.stage.reason.clone());
    let reason = match state {
        State::Failed => failure.or(status.reason.clone()),
        State::NeverRan => None,
        _ => status.reason.clone(),
    };
    Facts {
        description: stage.description.clone(),
        state: Some(state),
        reason,
        rows,
        cost_usd: status.cost_usd,
        told,
        last_run: last_run.map(tell_last_run).unwrap_or_default(),
        settings,
        texts,
        last_rows: table.and_then(|table| last_rows_of(look, &table)),
    }
}

/// As `flow status` says it; a stage that never ran, and one whose last run failed, have words of
/// their own.
fn state(status: &StageStatus, last_run: Option<&LastRun>) -> State {
    let failed = last_run.is_some_and(|last| last.stage.state == StageState::Failed);
    match (status.stale, failed, &status.last) {
        (true, true, _) => State::Failed,
        (true, false, None) => State::NeverRan,
        (true, false, Some(_)) => State::Stale,
        (false, ..) if status.failed_rows > 0 => State::Incomplete,
        (false, ..) => State::UpToDate,
    }
}

fn tell_last_run(last: &LastRun) -> Pairs {
    let LastRun { run, at, command, trial, stage } = last;
    let mut told = Vec::new();
    let mut tell = |name: &str, value: String| told.push((name.to_owned(), value));
    let word = if *trial { " (a trial)" } else { "" };
    tell("run", format!("{run}, {}{word}", minute(at)));
    tell("command", command.clone());
    tell("ended", stage.state.as_str().to_owned());
    if let Some(reason) = &stage.reason {
        tell("because", reason.clone());
    }
    tell(
        "rows",
        format!("{} made, {} known, {} failed", stage.rows_run, stage.rows_memo, stage.failed_rows),
    );
    if stage.calls + stage.calls_cached > 0 {
        tell(
            "calls",
            format!("{} made, {} answered from what is recorded", stage.calls, stage.calls_cached),
        );
    }
    if stage.tokens_in + stage.tokens_out > 0 {
        tell("tokens", format!("{} in, {} out", stage.tokens_in, stage.tokens_out));
    }
    if stage.cost_usd > 0.0 {
        tell("cost", format!("${:.4}", stage.cost_usd));
    }
    tell("took", format!("{:.1} s", stage.seconds));
    told
}

fn file_facts(look: &Look<'_>, input: &InputRef) -> Facts {
    let digest = look.input(input).ok().flatten();
    let table = digest.and_then(|digest| look.store.artifact(digest).ok().flatten());
    let rows = table.as_ref().map(|table| table.rows);
    let told = rows.map(|rows| ("rows".to_owned(), rows.to_string()));
    let last_rows = table.and_then(|table| last_rows_of(look, &table));
    Facts { rows, told: told.into_iter().collect(), last_rows, ..Facts::default() }
}

/// What the stage's result depends on beside its inputs, as `flow why` tells it, and the files that it
/// reads. No value of the environment is among them, nor a digest of one.
fn settings_and_texts(pipeline: &Pipeline, stage: &Stage) -> (Pairs, Pairs) {
    let sources = &stage.compiled.sources;
    let (mut short, mut texts) = (Pairs::new(), Pairs::new());
    // What a source is to the stage: its prompt, its query.
    let mut roles: HashMap<&str, String> = HashMap::new();
    for (name, value) in settings(pipeline, stage) {
        let told = name == "kind" || name.starts_with("env ") || name.starts_with("file ");
        if told || value.is_empty() {
            continue;
        }
        if let Some(source) = sources.iter().find(|source| same(source, &value)) {
            roles.entry(&source.path).or_insert(name);
        } else if TEXTS.contains(&name.as_str())
            || value.contains('\n')
            || value.chars().count() > SETTING
        {
            texts.push((name, cut(&spread(&value), TEXT)));
        } else {
            short.push((name, value));
        }
    }
    let files = sources.iter().map(|source| {
        let name = match roles.get(source.path.as_str()) {
            Some(role) => format!("{role}: {}", source.path),
            None => source.path.clone(),
        };
        (name, cut(&source.text, TEXT))
    });
    texts.splice(0..0, files);
    (short, texts)
}

/// Whether `value` is what stands in the file, be it that JSON is written in another way.
fn same(source: &SourceText, value: &str) -> bool {
    if source.text.trim() == value.trim() {
        return true;
    }
    let read = |text: &str| serde_json::from_str::<Value>(text).ok();
    source.path.ends_with(".json")
        && read(value).is_some_and(|value| read(&source.text) == Some(value))
}

/// JSON over several lines, for people; other texts as they are.
fn spread(text: &str) -> String {
    match serde_json::from_str::<Value>(text) {
        Ok(value) => format!("{value:#}"),
        Err(_) => text.to_owned(),
    }
}

fn last_rows_of(look: &Look<'_>, table: &Artifact) -> Option<LastRows> {
    let columns = table.columns.iter().map(|column| column.name.clone()).collect();
    // Only the chunks that they are in are read.
    let (mut start, mut held) = (table.chunks.len(), 0);
    while start > 0 && held < ROWS as u64 {
        start -= 1;
        held += table.chunks[start].rows;
    }
    let rows = look.store.rows_of(table, start..table.chunks.len());
    let mut rows: Vec<Row> = rows.collect::<Result<_, _>>().ok()?;
    rows.drain(..rows.len().saturating_sub(ROWS));
    Some(last_rows(columns, rows))
}

fn last_rows(mut columns: Vec<String>, rows: Vec<Row>) -> LastRows {
    columns.truncate(COLUMNS);
    let cells = |row: &Row| columns.iter().map(|column| row.get(column).and_then(cell)).collect();
    LastRows { rows: rows.iter().map(cells).collect(), columns }
}

fn cell(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(cut(text, CELL)),
        value => Some(cut(&value.to_string(), CELL)),
    }
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => {
            let more = text[end..].chars().count();
            format!("{}\u{2026} ({more} more characters)", &text[..end])
        }
        None => text.to_owned(),
    }
}

/// `2026-01-31 12:00 UTC`, of what the history keeps.
fn minute(at: &str) -> String {
    format!("{} UTC", at.get(..16).unwrap_or(at).replace('T', " "))
}
