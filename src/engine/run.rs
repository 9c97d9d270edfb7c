//! A run: every stage waits for what it reads, decides whether it has anything to do, does it, and
//! writes its outputs. Stages that do not depend on each other work side by side.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use thiserror::Error;
use tokio::sync::watch;

use super::event::{Event, StageState, StageSummary, Summary};
use super::fingerprint::{definition, explain, fingerprint};
use super::known::{input_note, keep_rows, missing_secrets};
use super::outputs::{Placed, place, place_failed};
use super::rows::{RowWatch, RowsDone, run_rows};
use crate::clients::{CallError, Tally, Transport, Wait, credentials_in};
use crate::pipeline::{InputRef, Pipeline, Stage};
use crate::stages::{Input, RowError, Sink, StageError, Work, World};
use crate::store::{Artifact, FileState, Lock, StageRecord, Store, StoreError, StoredTable};
use crate::table::{Digest, Row, read_rows};

/// How to run.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// Make no call: what is not recorded fails.
    pub offline: bool,
}

/// A run that could not begin.
#[derive(Debug, Error)]
pub enum RunError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Keys that calls need are not set.
    #[error("{}", missing.join("\n"))]
    Secrets { missing: Vec<String> },
    #[error(transparent)]
    Call(#[from] CallError),
}

type Observer = Arc<dyn Fn(Event) + Send + Sync>;

/// Stops a run from outside.
#[derive(Clone)]
pub struct RunHandle {
    transport: Arc<Transport>,
}

impl RunHandle {
    /// From now on nothing new is asked; what is under way lands and is stored.
    pub fn interrupt(&self) {
        self.transport.interrupt();
    }
}

/// What a stage leaves for those that read it.
#[derive(Clone)]
enum Left {
    /// Still at work.
    Nothing,
    Table {
        artifact: Box<Artifact>,
        complete: bool,
    },
    /// There is none.
    NoTable,
}

struct Run {
    pipeline: Arc<Pipeline>,
    store: Store,
    transport: Arc<Transport>,
    asker: Option<String>,
    observer: Observer,
}

/// Brings `pipeline` up to date. `observer` sees every event; `begun` is handed the means to stop.
pub async fn run(
    pipeline: Arc<Pipeline>,
    options: &RunOptions,
    observer: impl Fn(Event) + Send + Sync + 'static,
    begun: impl FnOnce(RunHandle),
) -> Result<Summary, RunError> {
    let start = Instant::now();
    let observer: Observer = Arc::new(observer);
    let _lock = Lock::take(&pipeline.cache())?;
    let store = Store::open(&pipeline.cache())?;
    let offline = options.offline || pipeline.profile.offline;
    let token = pipeline.github_token.as_deref();
    let asker = (!offline).then(|| credentials_in(token));
    if !offline {
        let missing = missing_secrets(&pipeline, &store, asker.as_deref(), &*observer)?;
        if !missing.is_empty() {
            return Err(RunError::Secrets { missing });
        }
    }
    let on_wait = {
        let observer = observer.clone();
        move |Wait { server, why, wait }| observer(Event::Waiting { server, why, wait })
    };
    let transport =
        Arc::new(Transport::new(store.clone(), pipeline.cassette.clone(), offline, on_wait)?);
    begun(RunHandle { transport: transport.clone() });
    let run = Arc::new(Run { pipeline, store, transport, asker, observer });

    let (senders, receivers): (Vec<_>, Vec<_>) =
        run.pipeline.stages.iter().map(|_| watch::channel(Left::Nothing)).unzip();
    let receivers: Arc<[_]> = receivers.into();
    let tasks: Vec<_> = senders
        .into_iter()
        .enumerate()
        .map(|(at, left)| {
            let (run, receivers) = (run.clone(), receivers.clone());
            tokio::spawn(async move {
                let stage = &run.pipeline.stages[at];
                let inputs = run.await_inputs(stage, &receivers).await;
                let (summary, result) = run.stage(stage, inputs).await;
                (run.observer)(Event::StageEnded(summary.clone()));
                left.send_replace(result);
                summary
            })
        })
        .collect();
    let mut summary = Summary::default();
    for task in tasks {
        match task.await {
            Ok(stage) => summary.stages.push(stage),
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }
    for stage in &summary.stages {
        summary.calls += stage.calls;
        summary.calls_cached += stage.calls_cached;
        summary.tokens_in += stage.tokens_in;
        summary.tokens_out += stage.tokens_out;
        summary.cost_usd += stage.cost_usd;
    }
    summary.interrupted = run.transport.is_interrupted();
    summary.seconds = seconds(start);
    let record = serde_json::to_string(&summary).expect("summaries always serialize");
    run.store.put_run(record).await?;
    run.store.sync()?;
    Ok(summary)
}

/// How a stage came to its table.
struct Made {
    artifact: Artifact,
    state: StageState,
    rows_run: u64,
    rows_memo: u64,
    failed: Vec<Row>,
}

impl Run {
    async fn await_inputs(
        &self,
        stage: &Stage,
        receivers: &[watch::Receiver<Left>],
    ) -> Result<(Vec<Input>, bool), String> {
        let mut inputs = Vec::new();
        let mut complete = true;
        for input in &stage.inputs {
            let name = self.pipeline.input_name(input).to_owned();
            let artifact = match input {
                InputRef::Stage(index) => {
                    let mut receiver = receivers[*index].clone();
                    let left = receiver
                        .wait_for(|left| !matches!(left, Left::Nothing))
                        .await
                        .map(|left| left.clone());
                    match left {
                        Ok(Left::Table { artifact, complete: whole }) => {
                            complete &= whole;
                            *artifact
                        }
                        _ => return Err(format!("`{name}` has no table")),
                    }
                }
                InputRef::Table(index) => {
                    keep_rows(&self.store, &self.pipeline.tables[*index].rows)
                        .map_err(|error| error.to_string())?
                }
                InputRef::File(path) => self.file(path).await.map_err(|error| error.to_string())?,
            };
            inputs.push(Input { name, artifact });
        }
        Ok((inputs, complete))
    }

    /// A file that people wrote, as a table; read again only where the file has been touched.
    async fn file(&self, path: &str) -> Result<Artifact, StageError> {
        let full = self.pipeline.project.root.join(path);
        let state = FileState::of(&full)?;
        let note = input_note(path);
        if let Some(digest) = self.store.noted(&note, state)?
            && let Some(artifact) = self.store.artifact(digest)?
        {
            return Ok(artifact);
        }
        let rows = read_rows(&full)
            .map_err(|error| StageError::Failed(format!("the input `{path}` {error}")))?;
        let artifact = keep_rows(&self.store, &rows)?;
        self.store.note(&note, state, artifact.digest()).await?;
        Ok(artifact)
    }

    async fn stage(
        &self,
        stage: &Stage,
        inputs: Result<(Vec<Input>, bool), String>,
    ) -> (StageSummary, Left) {
        let start = Instant::now();
        let tally = Arc::new(Tally::default());
        let mut summary = StageSummary {
            name: stage.name.clone(),
            state: StageState::Skipped,
            rows: 0,
            rows_run: 0,
            rows_memo: 0,
            calls: 0,
            calls_cached: 0,
            failed_rows: 0,
            seconds: 0.0,
            tokens_in: 0,
            tokens_out: 0,
            cost_usd: 0.0,
            reason: None,
            failed_file: None,
        };
        let left = match inputs {
            Err(why) => {
                summary.reason = Some(why);
                Left::NoTable
            }
            Ok((inputs, whole)) => match self.bring(stage, inputs.clone(), whole, &tally).await {
                Ok(made) => {
                    summary.state = made.state;
                    summary.rows = made.artifact.rows;
                    summary.rows_run = made.rows_run;
                    summary.rows_memo = made.rows_memo;
                    summary.failed_rows = made.failed.len() as u64;
                    if let Some(first) = made.failed.first() {
                        summary.failed_file = Some(stage.failed_file.clone());
                        let reason = first["_failed"]["reason"].as_str();
                        summary.reason = reason.map(str::to_owned);
                    } else if made.state == StageState::Incomplete {
                        summary.reason = Some("what it reads is incomplete".into());
                    }
                    let complete = made.state != StageState::Incomplete;
                    Left::Table { artifact: Box::new(made.artifact), complete }
                }
                Err(error) => {
                    summary.state = StageState::Failed;
                    summary.reason = Some(error.to_string());
                    if matches!(error, StageError::Store(StoreError::Damaged(_))) {
                        self.forget_damaged(stage, &inputs).await;
                    }
                    Left::NoTable
                }
            },
        };
        summary.calls = tally.calls.load(Ordering::Relaxed);
        summary.calls_cached = tally.calls_cached.load(Ordering::Relaxed);
        summary.tokens_in = tally.tokens_in.load(Ordering::Relaxed);
        summary.tokens_out = tally.tokens_out.load(Ordering::Relaxed);
        summary.cost_usd = tally.cost_micros.load(Ordering::Relaxed) as f64 / 1e6;
        summary.seconds = seconds(start);
        (summary, left)
    }

    /// Finds or makes the stage's table and writes its outputs.
    async fn bring(
        &self,
        stage: &Stage,
        inputs: Vec<Input>,
        whole: bool,
        tally: &Arc<Tally>,
    ) -> Result<Made, StageError> {
        let pipeline = &self.pipeline;
        let digests: Vec<Digest> = inputs.iter().map(|input| input.artifact.digest()).collect();
        let print = fingerprint(pipeline, stage, &digests);
        let last = self.store.stage(&pipeline.profile.name, &stage.name)?;
        let known = match self.store.table(print, self.asker.as_deref())? {
            Some(table) => self.store.artifact(table.artifact)?,
            None => None,
        };
        let mut made = match known {
            Some(artifact) => {
                let same = last.as_ref().is_some_and(|last| last.fingerprint == print.hex());
                let state = if same { StageState::UpToDate } else { StageState::Restored };
                Made { artifact, state, rows_run: 0, rows_memo: 0, failed: Vec::new() }
            }
            None => self.make(stage, inputs, print, tally).await?,
        };
        if !whole {
            made.state = StageState::Incomplete;
        }
        for output in &stage.outputs {
            let placed = place(&self.store, &pipeline.project.root, output, &made.artifact).await?;
            let text = match placed {
                Placed::Restored => format!("{output} was gone and is restored"),
                Placed::SetAside(aside) => {
                    let aside =
                        aside.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    format!("{output} had been changed by hand; the changed file is now {aside}")
                }
                Placed::Untouched | Placed::Written => continue,
            };
            self.note(stage, text);
        }
        place_failed(&pipeline.project.root, &stage.failed_file, &made.failed)?;
        let record = StageRecord {
            fingerprint: print.hex(),
            artifact: made.artifact.digest().hex(),
            state: made.state.as_str().to_owned(),
            rows: made.artifact.rows,
            failed_rows: made.failed.len() as u64,
            components: explain(pipeline, stage, &digests),
        };
        self.store.put_stage(&pipeline.profile.name, &stage.name, &record).await?;
        Ok(made)
    }

    async fn make(
        &self,
        stage: &Stage,
        inputs: Vec<Input>,
        print: Digest,
        tally: &Arc<Tally>,
    ) -> Result<Made, StageError> {
        let rows_in = match (&stage.compiled.work, &inputs[..]) {
            (Work::Rows(_), [input]) => Some(input.artifact.rows),
            _ => None,
        };
        (self.observer)(Event::StageStarted { stage: stage.name.clone(), rows: rows_in });
        let scratch = Scratch::new(self.pipeline.cache().join("tmp").join(&stage.name))?;
        let world = World {
            transport: self.transport.clone(),
            tally: tally.clone(),
            store: self.store.clone(),
            project: self.pipeline.project.clone(),
            asker: self.asker.clone(),
            scratch: scratch.path.clone(),
            note: {
                let (observer, name) = (self.observer.clone(), stage.name.clone());
                Arc::new(move |text| observer(Event::Note { stage: name.clone(), text }))
            },
        };
        let columns = stage.compiled.columns.names();
        let sink = Sink::new(self.store.write_artifact(columns), stage.compiled.key.clone());
        let (made, by_asker) = match (&stage.compiled.work, &inputs[..]) {
            (Work::Rows(work), [input]) => {
                let watch = Watch { observer: &self.observer, stage: &stage.name };
                let definition = definition(&self.pipeline, stage);
                let RowsDone { sink, rows_run, rows_memo, failed, by_asker } =
                    run_rows(work, definition, input, sink, &world, &watch).await?;
                let state = match failed.is_empty() {
                    true => StageState::Ran,
                    false => StageState::Incomplete,
                };
                let artifact = sink.finish()?;
                (Made { artifact, state, rows_run, rows_memo, failed }, by_asker)
            }
            (Work::Rows(_), inputs) => {
                let what = format!("a row stage has one input, not {}", inputs.len());
                return Err(StageError::Failed(what));
            }
            (Work::Table(table), _) => {
                let sink = table.make(inputs, sink, &world).await?;
                let rows_run = sink.rows();
                let artifact = sink.finish()?;
                let state = StageState::Ran;
                (Made { artifact, state, rows_run, rows_memo: 0, failed: Vec::new() }, false)
            }
        };
        // A table that lacks rows stands for nothing: the next run takes its rows up again.
        if made.failed.is_empty() {
            let table = StoredTable { artifact: made.artifact.digest(), rows: made.artifact.rows };
            let asker = self.asker.clone().filter(|_| by_asker);
            self.store.put_table(print, table, asker).await?;
        }
        Ok(made)
    }

    /// Tables that cannot be read whole stand for nothing from now on: the next run makes them again.
    async fn forget_damaged(&self, stage: &Stage, inputs: &[Input]) {
        let profile = &self.pipeline.profile.name;
        let own = self.store.stage(profile, &stage.name).ok().flatten();
        let own = own.and_then(|record| record.artifact.parse().ok());
        let own = own.and_then(|digest| self.store.artifact(digest).ok().flatten());
        for artifact in inputs.iter().map(|input| &input.artifact).chain(&own) {
            if self.store.rows(artifact).any(|row| row.is_err())
                && let Err(error) = self.store.forget(artifact.digest()).await
            {
                tracing::warn!(%error, "a damaged table could not be forgotten");
            }
        }
    }

    fn note(&self, stage: &Stage, text: String) {
        (self.observer)(Event::Note { stage: stage.name.clone(), text });
    }
}

struct Watch<'a> {
    observer: &'a Observer,
    stage: &'a str,
}

impl RowWatch for Watch<'_> {
    fn done(&self, known: bool) {
        (self.observer)(Event::RowDone { stage: self.stage.to_owned(), known });
    }

    fn failed(&self, key: String, reason: &RowError) {
        let reason = reason.to_string();
        (self.observer)(Event::RowFailed { stage: self.stage.to_owned(), key, reason });
    }
}

/// A stage's own empty folder.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new(path: PathBuf) -> Result<Scratch, StageError> {
        // What a killed run left behind.
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        std::fs::create_dir_all(&path)?;
        Ok(Scratch { path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now is removed when the stage runs again.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

fn seconds(start: Instant) -> f64 {
    (start.elapsed().as_secs_f64() * 1000.0).round() / 1000.0
}
