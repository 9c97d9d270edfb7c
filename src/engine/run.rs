//! A run: every stage waits for what it reads, decides whether it has anything to do, does it, and
//! writes its outputs. Stages that do not depend on each other work side by side; rows of a row stage
//! run ahead while the stage that makes them still works.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use thiserror::Error;
use tokio::sync::{mpsc, watch};

use super::batches::Batches;
use super::decide::{
    Before, Choices, Decision, Found, NamedTable, as_it_was, decide, file, keep_rows, mode, now,
    open, record_profile,
};
use super::event::{Event, FailedKind, StageState, StageSummary, Summary, UnderWay};
use super::fingerprint::{Standing, definition, explain, fingerprint};
use super::history::RunRecord;
use super::outputs::{Placed, place, place_failed};
use super::rows::{Driver, Flying, RowWatch, RowsDone};
use super::secrets::missing_secrets;
use super::spans;
use crate::clients::{Again, CallError, Limits, Stop, Tally, Transport, Wait, credentials_in};
use crate::pipeline::{InputRef, Pipeline, Stage};
use crate::stages::{Input, RowError, RowWork, Sink, StageError, Work, World};
use crate::store::{Artifact, Lock, StageRecord, Store, StoreError, StoredTable};
use crate::table::{Digest, Row};

/// How to run.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// The places of the stages to bring up to date; the others are taken as they last were.
    pub chosen: BTreeSet<usize>,
    pub choices: Choices,
    /// Make no call: what is not recorded fails.
    pub offline: bool,
    /// Wait for another run in the folder to end.
    pub wait: bool,
    /// Stop at the first stage that is not complete.
    pub fail_fast: bool,
    /// How much the run may call and spend.
    pub limits: Limits,
    /// What was asked for, for the history: `flow run items --force`.
    pub command: String,
}

/// A run that could not begin.
#[derive(Debug, Error)]
pub enum RunError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Keys that calls need are not set.
    #[error("{}", missing.join("\n"))]
    Secrets { missing: Vec<String> },
    /// What a stage's calls cost is not known, and a run was to keep to a cost.
    #[error(
        "what stage `{stage}` costs is not known; give its model a `price` and a longest answer \
         (`max_tokens`, `max_completion_tokens`, `max_output_tokens`), or leave `--max-cost` out"
    )]
    NoPrice { stage: String },
    #[error(transparent)]
    Call(#[from] CallError),
}

type Observer = Arc<dyn Fn(Event) + Send + Sync>;

/// Rows on their way to a stage that can run them before their table is there, at the most.
const QUEUE: usize = 1024;

/// Stops a run from outside.
#[derive(Clone)]
pub struct RunHandle {
    pub(super) transport: Arc<Transport>,
}

impl RunHandle {
    /// From now on nothing new is asked; what is under way lands and is stored.
    pub fn interrupt(&self) {
        self.transport.stop(Stop::Interrupted);
    }
}

/// What a stage leaves for those that read it.
#[derive(Clone)]
enum Left {
    /// Still at work.
    Nothing,
    Table {
        digest: Digest,
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
    options: RunOptions,
    /// How everything stood when the run began.
    before: Before,
    /// The inline tables, as they are needed.
    tables: Vec<OnceLock<Digest>>,
    batches: Batches,
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
    let unpriced =
        options.chosen.iter().map(|at| &pipeline.stages[*at]).find(
            |stage| matches!(&stage.compiled.work, Work::Rows(work) if !work.stage.is_bounded()),
        );
    if let (Some(stage), Some(_)) = (unpriced, options.limits.cost) {
        return Err(RunError::NoPrice { stage: stage.name.clone() });
    }
    let cache = pipeline.cache();
    let _lock = match options.wait {
        false => Lock::take(&cache)?,
        true => Lock::wait(&cache, |holder| {
            observer(Event::WaitingForRun { holder: holder.to_owned() });
        })?,
    };
    let store = Store::open(&cache)?;
    let mut options = options.clone();
    options.choices.now = now();
    let offline = options.offline || pipeline.profile.offline;
    let token = pipeline.github_token.as_deref();
    let asker = (!offline).then(|| credentials_in(token));
    let before = Before::read(&pipeline, &store, asker.clone(), options.choices.limit)?;
    if !offline {
        let missing = missing_secrets(
            &pipeline,
            &store,
            &before,
            &options.chosen,
            &options.choices,
            &*observer,
        )?;
        if !missing.is_empty() {
            return Err(RunError::Secrets { missing });
        }
    }
    let on_wait = {
        let observer = observer.clone();
        move |Wait { server, why, wait }| observer(Event::Waiting { server, why, wait })
    };
    let id = store.begin_run().await?;
    let (cassette, limits) = (pipeline.cassette.clone(), options.limits);
    let transport =
        Arc::new(Transport::new(store.clone(), cassette, offline, id, limits, on_wait)?);
    begun(RunHandle { transport: transport.clone() });
    let tables = pipeline.tables.iter().map(|_| OnceLock::new()).collect();
    let batches = Batches::default();
    let run = Run { pipeline, store, transport, asker, observer, options, before, tables, batches };
    let mut summary = Arc::new(run).all(start).await?;
    summary.seconds = seconds(start);
    Ok(summary)
}

/// A chosen stage at work.
struct Post {
    at: usize,
    left: watch::Sender<Left>,
    /// Rows that come before their table does.
    ahead: Option<mpsc::Receiver<Row>>,
    /// Those that read this one, and can run rows before its table is there.
    readers: Vec<mpsc::Sender<Row>>,
}

/// A driver whose rows run ahead already, and those rows.
type Driven<'a, 'd> = (&'d Driver<'d>, &'a mut Flying<'d>);

/// How a stage came to its table.
struct Made {
    /// Its table.
    digest: Digest,
    rows: u64,
    state: StageState,
    rows_run: u64,
    rows_memo: u64,
    /// The rows that have no result.
    failed: Option<Artifact>,
    failed_file: String,
    /// Rows that were answered by somebody else than was asked.
    stood_in: u64,
    fingerprint: Digest,
    definition: Digest,
    spans: Option<String>,
    /// When the oldest answer that it stands on was last given; 0 where that is not known.
    checked: i64,
    /// The run that made it, and the revision of answers that it stands on.
    run: i64,
    revision: i64,
    /// It is the one that the stage last had.
    settled: bool,
}

impl Run {
    async fn all(self: Arc<Run>, start: Instant) -> Result<Summary, RunError> {
        let (posts, receivers) = self.posts();
        let receivers: Arc<[_]> = receivers.into();
        let tasks: Vec<_> = posts
            .into_iter()
            .map(|post| {
                let (run, receivers) = (self.clone(), receivers.clone());
                tokio::spawn(async move {
                    let Post { at, left, ahead, readers } = post;
                    let stage = &run.pipeline.stages[at];
                    let (summary, result) = run.stage(at, &receivers, ahead, readers).await;
                    (run.observer)(Event::StageEnded(summary.clone()));
                    let complete = matches!(&result, Left::Table { complete: true, .. });
                    if run.options.fail_fast && !complete {
                        run.transport.stop(Stop::Failed(stage.name.clone()));
                    }
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
            summary.tokens_in_cached += stage.tokens_in_cached;
            summary.tokens_cache_written += stage.tokens_cache_written;
            summary.tokens_out += stage.tokens_out;
            summary.cost_usd += stage.cost_usd;
        }
        match self.transport.stopped() {
            None => {}
            Some(Stop::Interrupted) => summary.interrupted = true,
            Some(why) => {
                summary.over_budget = matches!(why, Stop::Calls(_) | Stop::Cost(_));
                summary.stopped = Some(why.to_string());
            }
        }
        summary.seconds = seconds(start);
        let trial = self.options.choices.limit.is_some();
        let record =
            RunRecord::new(&summary, &self.options.command, &self.pipeline.profile.name, trial);
        self.store.end_run(self.transport.run(), record.to_json()).await?;
        self.store.sync()?;
        Ok(summary)
    }

    /// The chosen stages in the order of the manifest, with the queues between them; and what each
    /// stage leaves, by its place.
    fn posts(&self) -> (Vec<Post>, Vec<watch::Receiver<Left>>) {
        let stages = &self.pipeline.stages;
        let chosen = &self.options.chosen;
        let mut receivers = Vec::with_capacity(stages.len());
        let mut posts: Vec<Option<Post>> = Vec::with_capacity(stages.len());
        for at in 0..stages.len() {
            let (left, receiver) = watch::channel(Left::Nothing);
            receivers.push(receiver);
            let post = Post { at, left, ahead: None, readers: Vec::new() };
            posts.push(chosen.contains(&at).then_some(post));
        }
        let is_rows = |at: usize| matches!(stages[at].compiled.work, Work::Rows(_));
        for at in chosen.iter().copied().filter(|at| is_rows(*at)) {
            if let [InputRef::Stage(from)] = stages[at].inputs[..]
                && is_rows(from)
                // What is held to something is not read before it was.
                && stages[from].expect.is_none()
                && let Some(writer) = &mut posts[from]
            {
                let (sender, receiver) = mpsc::channel(QUEUE);
                writer.readers.push(sender);
                if let Some(reader) = &mut posts[at] {
                    reader.ahead = Some(receiver);
                }
            }
        }
        (posts.into_iter().flatten().collect(), receivers)
    }

    /// What the stage reads, and whether all of that is complete.
    async fn inputs(
        &self,
        stage: &Stage,
        receivers: &[watch::Receiver<Left>],
    ) -> Result<(Vec<NamedTable>, bool), String> {
        let mut inputs = Vec::new();
        let mut complete = true;
        for input in &stage.inputs {
            let name = self.pipeline.input_name(input).to_owned();
            let digest = match input {
                InputRef::Stage(index) if self.options.chosen.contains(index) => {
                    let mut receiver = receivers[*index].clone();
                    let left = receiver
                        .wait_for(|left| !matches!(left, Left::Nothing))
                        .await
                        .map(|left| left.clone());
                    match left {
                        Ok(Left::Table { digest, complete: whole }) => {
                            complete &= whole;
                            digest
                        }
                        _ => return Err(format!("`{name}` has no table")),
                    }
                }
                InputRef::Stage(index) => {
                    let other = &self.pipeline.stages[*index];
                    let Some((digest, whole)) = as_it_was(&self.store, &self.before, other) else {
                        return Err(format!("`{name}` has no table yet; run it, too"));
                    };
                    complete &= whole;
                    digest
                }
                InputRef::Table(index) => self.table(*index).map_err(|error| error.to_string())?,
                InputRef::File { path, .. } => {
                    self.file(path).await.map_err(|error| error.to_string())?
                }
            };
            inputs.push((name, digest));
        }
        Ok((inputs, complete))
    }

    fn table(&self, index: usize) -> Result<Digest, StoreError> {
        let kept = &self.tables[index];
        if let Some(digest) = kept.get() {
            return Ok(*digest);
        }
        let digest = keep_rows(&self.store, &self.pipeline.tables[index].rows)?.digest();
        Ok(*kept.get_or_init(|| digest))
    }

    async fn file(&self, path: &str) -> Result<Digest, StageError> {
        let (digest, notes) = file(&self.pipeline, &self.store, &self.before, path)?;
        for (note, state, digest) in notes {
            self.store.note(&note, state, digest).await?;
        }
        Ok(digest)
    }

    async fn stage(
        &self,
        at: usize,
        receivers: &[watch::Receiver<Left>],
        ahead: Option<mpsc::Receiver<Row>>,
        readers: Vec<mpsc::Sender<Row>>,
    ) -> (StageSummary, Left) {
        let start = Instant::now();
        let stage = &self.pipeline.stages[at];
        let tally = Arc::new(Tally::default());
        let mut summary = StageSummary::new(&stage.name);
        let (inputs, result) = self.bring_in(at, receivers, ahead, readers, &tally).await;
        let left = match result {
            None => {
                summary.reason = inputs.err();
                Left::NoTable
            }
            Some(Ok(made)) => {
                summary.state = made.state;
                summary.rows = made.rows;
                summary.rows_run = made.rows_run;
                summary.rows_memo = made.rows_memo;
                summary.artifact = Some(made.digest);
                summary.definition = Some(made.definition);
                if let Some(failed) = made.failed.filter(|failed| failed.rows > 0) {
                    summary.failed_rows = failed.rows;
                    summary.failed_file = Some(made.failed_file);
                    let first = self.store.rows(&failed).next();
                    let first = first.and_then(Result::ok);
                    let told = |name: &str| {
                        let told = first.as_ref()?.get("_failed")?.get(name)?;
                        Some(told.as_str()?.to_owned())
                    };
                    summary.reason = told("reason");
                    summary.failed_kind = told("kind").map(|kind| match kind.as_str() {
                        "passing" => FailedKind::Passing,
                        "answer" => FailedKind::Answer,
                        _ => FailedKind::Row,
                    });
                } else if made.state == StageState::Incomplete {
                    summary.reason = Some("what it reads is incomplete".into());
                }
                let complete = made.state != StageState::Incomplete;
                Left::Table { digest: made.digest, complete }
            }
            Some(Err(error)) => {
                summary.state = StageState::Failed;
                summary.reason = Some(error.to_string());
                Left::NoTable
            }
        };
        let so_far = |count: &AtomicU64| count.load(Ordering::Relaxed);
        summary.calls = so_far(&tally.calls);
        summary.calls_cached = so_far(&tally.calls_cached);
        summary.tokens_in = so_far(&tally.tokens_in);
        summary.tokens_in_cached = so_far(&tally.tokens_in_cached);
        summary.tokens_cache_written = so_far(&tally.tokens_cache_written);
        summary.tokens_out = so_far(&tally.tokens_out);
        summary.cost_usd = tally.cost_usd();
        summary.taken = tally.taken();
        summary.seconds = seconds(start);
        (summary, left)
    }

    /// Waits for the stage's inputs, running rows ahead meanwhile, and brings it up to date.
    async fn bring_in(
        &self,
        at: usize,
        receivers: &[watch::Receiver<Left>],
        ahead: Option<mpsc::Receiver<Row>>,
        readers: Vec<mpsc::Sender<Row>>,
        tally: &Arc<Tally>,
    ) -> (Result<(Vec<NamedTable>, bool), String>, Option<Result<Made, StageError>>) {
        let stage = &self.pipeline.stages[at];
        let desk = Desk::new(self, stage, readers, tally.clone());
        let waited = self.inputs(stage, receivers);
        let mode = mode(&self.pipeline, at, &self.options.choices);
        let last = self.before.stages.get(&stage.name);
        // Not where rows would be asked that no table needs: the first of a trial are known once the
        // table is, and an accepted stage may have none to run.
        let early =
            mode.takes_known() && mode.limit.is_none() && !last.is_some_and(|last| last.accepted);
        let driver = match &stage.compiled.work {
            // What goes in batches goes once all rows are there.
            Work::Rows(work) if ahead.is_some() && early && !work.stage.in_batches() => {
                Some(self.driver(work, at, &desk, tally))
            }
            _ => None,
        };
        let (inputs, mut flying) = match (&driver, ahead) {
            (Some(driver), Some(ahead)) => driver.run_ahead(ahead, waited).await,
            _ => (waited.await, Flying::default()),
        };
        let result = match &inputs {
            Ok((tables, whole)) => {
                let driven = driver.as_ref().map(|driver| (driver, &mut flying));
                Some(self.bring_or_heal(at, tables, *whole, tally, &desk, driven).await)
            }
            Err(_) => None,
        };
        if let Some(driver) = &driver {
            driver.let_land(&mut flying).await;
        }
        (inputs, result)
    }

    /// Brings the stage up to date; where a part of a table is damaged, that is made again first.
    async fn bring_or_heal(
        &self,
        at: usize,
        tables: &[NamedTable],
        whole: bool,
        tally: &Arc<Tally>,
        desk: &Desk<'_>,
        driven: Option<Driven<'_, '_>>,
    ) -> Result<Made, StageError> {
        match self.bring(at, tables.to_vec(), whole, tally, desk, driven).await {
            Err(StageError::Store(StoreError::Damaged(what))) => {
                self.note(&self.pipeline.stages[at], format!("{what}; it is made again"));
                self.forget_damaged(at, tables).await;
                self.keep_again(at).await?;
                self.bring(at, tables.to_vec(), whole, tally, desk, None).await
            }
            result => result,
        }
    }

    /// Keeps once more what people wrote and the stage reads.
    async fn keep_again(&self, at: usize) -> Result<(), StageError> {
        for input in &self.pipeline.stages[at].inputs {
            match input {
                InputRef::Stage(_) => {}
                InputRef::Table(index) => {
                    keep_rows(&self.store, &self.pipeline.tables[*index].rows)?;
                }
                InputRef::File { path, .. } => {
                    file(&self.pipeline, &self.store, &Before::default(), path)?;
                }
            }
        }
        Ok(())
    }

    fn driver<'a>(
        &'a self,
        work: &'a RowWork,
        at: usize,
        desk: &'a Desk<'a>,
        tally: &'a Arc<Tally>,
    ) -> Driver<'a> {
        let stage = &self.pipeline.stages[at];
        let (definition, mode) =
            (definition(&self.pipeline, stage), mode(&self.pipeline, at, &self.options.choices));
        Driver::new(work, definition, mode, &desk.world, tally, desk, self.before.revision)
    }

    fn decide(&self, at: usize, inputs: &[Digest]) -> Result<Decision, StoreError> {
        decide(&self.pipeline, &self.store, &self.before, at, inputs, &self.options.choices)
    }

    /// Finds or makes the stage's table and writes its outputs.
    async fn bring(
        &self,
        at: usize,
        inputs: Vec<NamedTable>,
        whole: bool,
        tally: &Arc<Tally>,
        desk: &Desk<'_>,
        driven: Option<Driven<'_, '_>>,
    ) -> Result<Made, StageError> {
        let pipeline = &self.pipeline;
        let stage = &pipeline.stages[at];
        let digests: Vec<Digest> = inputs.iter().map(|(_, digest)| *digest).collect();
        let decision = self.decide(at, &digests)?;
        let last = decision.last.clone();
        let print = decision.fingerprint;
        let failed_file = pipeline.placed(&stage.failed_file, self.options.choices.limit);
        let mut made = match decision.known {
            Ok(Found { table, failed, same }) => {
                let state = match (&failed, same) {
                    (Some(_), _) => StageState::Incomplete,
                    (None, true) => StageState::UpToDate,
                    (None, false) => StageState::Restored,
                };
                let checked = last.as_ref().filter(|_| same).map_or(0, |last| last.checked);
                Made {
                    digest: table.artifact,
                    rows: table.rows,
                    state,
                    rows_run: 0,
                    rows_memo: 0,
                    failed,
                    failed_file,
                    stood_in: 0,
                    definition: table.definition,
                    spans: last.as_ref().filter(|_| same).and_then(|last| last.spans.clone()),
                    checked,
                    run: table.run,
                    revision: decision.revision,
                    fingerprint: print,
                    settled: same,
                }
            }
            Err(ref why) => {
                tracing::info!(stage = stage.name, why = why.as_str(), "runs");
                let open = |(name, digest): (String, Digest)| {
                    let artifact = open(&self.store, &name, digest)?;
                    Ok(Input { name, artifact })
                };
                let inputs = inputs.into_iter().map(open).collect::<Result<_, StoreError>>()?;
                self.make(at, inputs, decision, failed_file, tally, desk, driven).await?
            }
        };
        if !whole {
            made.state = StageState::Incomplete;
        }
        let held = self.hold(stage, made.digest, last.as_ref(), desk)?;
        let root = &pipeline.project.root;
        for output in &stage.outputs {
            let output = pipeline.placed(output, self.options.choices.limit);
            let placed = place(&self.store, &self.before.files, root, &output, made.digest).await?;
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
        place_failed(&self.store, root, &made.failed_file, made.failed.as_ref())?;
        self.record(stage, &made, &digests, last, held).await?;
        Ok(made)
    }

    /// Holds the stage's table to what it is expected to be, where that was not done before; tells what
    /// stands for it. A part of a table, as a trial makes it, is held to nothing.
    fn hold(
        &self,
        stage: &Stage,
        table: Digest,
        last: Option<&StageRecord>,
        desk: &Desk<'_>,
    ) -> Result<Option<String>, StageError> {
        let Some(expect) = stage.expect.as_ref().filter(|_| desk.world.limit.is_none()) else {
            return Ok(None);
        };
        let held = Some(expect.digest(table).hex());
        if last.is_some_and(|last| last.held == held) {
            return Ok(held);
        }
        desk.scratch()?;
        let table = open(&self.store, &stage.name, table)?;
        let breaches = expect.breaches(&table, &self.store, &desk.world.scratch)?;
        match breaches.is_empty() {
            true => Ok(held),
            false => Err(StageError::Failed(format!(
                "its table is not as it is expected to be: {}",
                breaches.join(". ")
            ))),
        }
    }

    /// Notes how the stage ended, where that is not noted already.
    async fn record(
        &self,
        stage: &Stage,
        made: &Made,
        inputs: &[Digest],
        last: Option<StageRecord>,
        held: Option<String>,
    ) -> Result<(), StageError> {
        let pipeline = &self.pipeline;
        let limit = self.options.choices.limit;
        let state = made.state.as_str();
        let accepted = last.as_ref().is_some_and(|last| {
            last.accepted && last.fingerprint == made.fingerprint.hex() && made.settled
        });
        if let Some(last) = &last
            && made.settled
            && last.state == state
            && last.artifact == made.digest.hex()
            && last.held == held
        {
            return Ok(());
        }
        let names = stage.inputs.iter().map(|input| pipeline.input_name(input).to_owned());
        let digests = inputs.iter().map(Digest::hex);
        let on = Standing { inputs, revision: made.revision, limit };
        let record = StageRecord {
            fingerprint: made.fingerprint.hex(),
            definition: made.definition.hex(),
            artifact: made.digest.hex(),
            inputs: names.zip(digests).collect(),
            key: stage.compiled.key.clone(),
            state: state.to_owned(),
            rows: made.rows,
            failed_rows: made.failed.as_ref().map_or(0, |failed| failed.rows),
            stood_in: made.stood_in,
            run: self.transport.run(),
            made: made.run,
            checked: made.checked,
            revision: made.revision,
            spans: made.spans.clone(),
            accepted,
            held,
            components: explain(pipeline, stage, on),
        };
        let profile = record_profile(pipeline, limit);
        Ok(self.store.put_stage(&profile, &stage.name, &record).await?)
    }

    #[allow(clippy::too_many_arguments, reason = "each is a thing of its own")]
    async fn make(
        &self,
        at: usize,
        inputs: Vec<Input>,
        decision: Decision,
        failed_file: String,
        tally: &Arc<Tally>,
        desk: &Desk<'_>,
        driven: Option<Driven<'_, '_>>,
    ) -> Result<Made, StageError> {
        let stage = &self.pipeline.stages[at];
        let rows_in = match (&stage.compiled.work, &inputs[..]) {
            (Work::Rows(_), [input]) => Some(input.artifact.rows),
            _ => None,
        };
        desk.scratch()?;
        desk.start(rows_in);
        let digests: Vec<Digest> = inputs.iter().map(|input| input.artifact.digest()).collect();
        let columns = stage.compiled.columns.names();
        let writer = self.store.write_artifact(columns);
        let key = stage.compiled.key.clone();
        let run = self.transport.run();
        match (&stage.compiled.work, &inputs[..]) {
            (Work::Rows(work), [input]) => {
                let scratch = &desk.world.scratch;
                let sink = match self.keeps_keys(stage) {
                    true => Sink::unique(writer, key),
                    false if work.stage.is_list() => Sink::new(writer, key, scratch),
                    false => Sink::new(writer, key, scratch).keeping_keys(),
                };
                let by_parts = !work.stage.is_list();
                let mut own;
                let (driver, flying) = match driven {
                    Some(driven) => driven,
                    None => {
                        own = (self.driver(work, at, desk, tally), Flying::default());
                        (&own.0, &mut own.1)
                    }
                };
                let earlier = match by_parts {
                    true => decision.earlier(&self.store)?,
                    false => None,
                };
                if driver.in_batches() && !self.transport.is_offline() {
                    self.batches.answer(driver, &input.artifact, &decision).await?;
                }
                let done = driver.gather(&input.artifact, sink, earlier, flying).await?;
                let RowsDone {
                    sink,
                    rows_run,
                    rows_memo,
                    failed,
                    by_asker,
                    stood_in,
                    spans,
                    oldest,
                } = done;
                let stood_in = stood_in.values().sum();
                let passing = failed.passing;
                let failed = match failed.count() {
                    0 => None,
                    _ => Some(failed.finish()?),
                };
                let spans = match by_parts && decision.mode.limit.is_none() {
                    true => Some(spans::keep(&spans, sink.keys(), &self.store)?.hex()),
                    false => None,
                };
                let artifact = sink.finish()?;
                let again = decision.mode.again != Again::No;
                // What came of asking again is what the table stands on.
                let revision = if again { self.store.revision() } else { self.before.revision };
                let on = Standing { inputs: &digests, revision, limit: decision.mode.limit };
                let fingerprint = fingerprint(&self.pipeline, stage, on);
                // A table that lacks rows only in passing, or has some of them from who was not asked,
                // stands for nothing: the next run takes these rows up again.
                if !passing && stood_in == 0 {
                    let table = StoredTable {
                        artifact: artifact.digest(),
                        rows: artifact.rows,
                        failed: failed.as_ref().map(Artifact::digest),
                        definition: decision.definition,
                        run,
                    };
                    let asker = self.asker.clone().filter(|_| by_asker);
                    self.store.put_table(fingerprint, table, asker).await?;
                }
                // Other answers were replaced, none that it stands on: nothing of it has changed.
                let same = decision.last.as_ref().is_some_and(|last| {
                    last.definition == decision.definition.hex()
                        && last.artifact == artifact.digest().hex()
                        && last.inputs.iter().map(|(_, it)| it).eq(&[input.artifact.digest().hex()])
                });
                let state = match failed.is_some() {
                    true => StageState::Incomplete,
                    false if rows_run == 0 && same && !decision.mode.force => StageState::UpToDate,
                    false => StageState::Ran,
                };
                // Rows from the memo may stand on answers that are as old as the last time.
                let before = match (rows_memo > 0 && !again, &decision.last) {
                    (false, _) => i64::MAX,
                    (true, Some(last)) => last.checked,
                    (true, None) => 0,
                };
                let checked = oldest.unwrap_or(self.options.choices.now).min(before);
                Ok(Made {
                    digest: artifact.digest(),
                    rows: artifact.rows,
                    state,
                    rows_run,
                    rows_memo,
                    failed,
                    failed_file,
                    stood_in,
                    definition: decision.definition,
                    spans,
                    checked,
                    run,
                    revision,
                    fingerprint,
                    settled: false,
                })
            }
            (Work::Rows(_), inputs) => {
                let what = format!("a row stage has one input, not {}", inputs.len());
                Err(StageError::Failed(what))
            }
            (Work::Table(table), _) => {
                let sink = Sink::new(writer, key, &desk.world.scratch);
                let sink = table.make(inputs, sink, &desk.world).await?;
                let rows_run = sink.rows();
                let artifact = sink.finish()?;
                let (digest, rows) = (artifact.digest(), artifact.rows);
                let definition = decision.definition;
                let table = StoredTable { artifact: digest, rows, failed: None, definition, run };
                self.store.put_table(decision.fingerprint, table, None).await?;
                Ok(Made {
                    digest,
                    rows,
                    state: StageState::Ran,
                    rows_run,
                    rows_memo: 0,
                    failed: None,
                    failed_file,
                    stood_in: 0,
                    definition,
                    spans: None,
                    checked: 0,
                    run,
                    revision: self.before.revision,
                    fingerprint: decision.fingerprint,
                    settled: false,
                })
            }
        }
    }

    /// Whether the stage's rows are told apart by the key of the stage that it reads, so that theirs
    /// are unique because those are.
    fn keeps_keys(&self, stage: &Stage) -> bool {
        let (Work::Rows(work), [InputRef::Stage(from)]) = (&stage.compiled.work, &stage.inputs[..])
        else {
            return false;
        };
        let own = &stage.compiled.key;
        let theirs = &self.pipeline.stages[*from].compiled.key;
        !work.stage.is_list()
            && own.iter().all(|field| work.shape.key.contains(field))
            && theirs.iter().all(|field| own.contains(field))
    }

    /// Tables that cannot be read whole stand for nothing from now on: they are made again. A part may
    /// have come from the stage's last table into the one that it has now.
    async fn forget_damaged(&self, at: usize, inputs: &[NamedTable]) {
        let stage = &self.pipeline.stages[at];
        let profile = record_profile(&self.pipeline, self.options.choices.limit);
        let last = self.store.stage(&profile, &stage.name).ok().flatten();
        let last = last.and_then(|record| record.artifact());
        let inputs: Vec<Digest> = inputs.iter().map(|(_, digest)| *digest).collect();
        let known = self.decide(at, &inputs).ok().and_then(|decision| decision.known.ok());
        let known = known.map(|found| (found.table.artifact, found.table.failed));
        let (now, failed) = known.unzip();
        for digest in inputs.into_iter().chain(last).chain(now).chain(failed.flatten()) {
            let artifact = self.store.artifact(digest).ok().flatten();
            let whole = artifact.is_some_and(|it| self.store.rows(&it).all(|row| row.is_ok()));
            if !whole && let Err(error) = self.store.forget(digest).await {
                tracing::warn!(%error, "a damaged table could not be forgotten");
            }
        }
    }

    fn note(&self, stage: &Stage, text: String) {
        (self.observer)(Event::Note { stage: stage.name.clone(), text });
    }
}

/// Where a stage works: what it may use, and who is told of its rows.
struct Desk<'a> {
    run: &'a Run,
    stage: &'a str,
    world: World,
    tally: Arc<Tally>,
    started: AtomicBool,
    scratch: OnceLock<Option<Scratch>>,
}

impl<'a> Desk<'a> {
    fn new(
        run: &'a Run,
        stage: &'a Stage,
        readers: Vec<mpsc::Sender<Row>>,
        tally: Arc<Tally>,
    ) -> Desk<'a> {
        let (observer, name) = (run.observer.clone(), stage.name.clone());
        let world = World {
            transport: run.transport.clone(),
            store: run.store.clone(),
            project: run.pipeline.project.clone(),
            asker: run.asker.clone(),
            scratch: run.pipeline.cache().join("tmp").join(&stage.name),
            limit: run.options.choices.limit,
            note: Arc::new(move |text| observer(Event::Note { stage: name.clone(), text })),
            // A reader that has enough to do meets the row again in the table.
            offer: Arc::new(move |row| {
                for reader in &readers {
                    if let Ok(place) = reader.try_reserve() {
                        place.send(row.clone());
                    }
                }
            }),
        };
        let (started, scratch) = (AtomicBool::new(false), OnceLock::new());
        Desk { run, stage: &stage.name, world, tally, started, scratch }
    }

    /// Makes the stage's own folder, once there is something to do.
    fn scratch(&self) -> Result<(), StageError> {
        if self.scratch.get().is_none() {
            let scratch = Scratch::new(self.world.scratch.clone())?;
            self.scratch.get_or_init(|| Some(scratch));
        }
        Ok(())
    }

    fn start(&self, rows: Option<u64>) {
        self.started.store(true, Ordering::Relaxed);
        (self.run.observer)(Event::StageStarted { stage: self.stage.to_owned(), rows });
    }
}

impl RowWatch for Desk<'_> {
    fn begin(&self) -> Result<(), StageError> {
        self.scratch()?;
        if !self.started.swap(true, Ordering::Relaxed) {
            self.start(None);
        }
        Ok(())
    }

    fn waits(&self, under_way: UnderWay) {
        (self.run.observer)(Event::Batches { stage: self.stage.to_owned(), under_way });
    }

    fn done(&self, known: bool) {
        let calls = self.tally.calls.load(Ordering::Relaxed);
        let calls_cached = self.tally.calls_cached.load(Ordering::Relaxed);
        let (stage, cost_usd) = (self.stage.to_owned(), self.tally.cost_usd());
        (self.run.observer)(Event::RowDone { stage, known, calls, calls_cached, cost_usd });
    }

    fn failed(&self, key: String, reason: &RowError) {
        let (stage, reason) = (self.stage.to_owned(), reason.to_string());
        (self.run.observer)(Event::RowFailed { stage, key, reason });
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
