//! The one driver of all row stages: asks each row, takes what is known from the memo, runs the
//! rest side by side in whatever order they end, and hands the results on in the order of the input.
//!
//! Whatever is finished is in the memo before it counts, so a row that waits for an earlier one
//! waits on the disk, and a run that is cut off has lost nothing.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use futures::future::{BoxFuture, join_all};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use serde_json::{Value, json};

use super::event::UnderWay;
use super::spans::{Earlier, Span};
use crate::clients::{Again, Asking, CallError, Expected, Request, Seen, Tally};
use crate::stages::{Ask, Instead, RowError, RowWork, Sink, StageError, World};
use crate::store::{Artifact, ArtifactWriter, CallKey, Made, Memo, StoreError};
use crate::table::{Digest, Hasher, Row, show_key};

/// Rows between the first that is not finished and the last that was begun, at the most.
const WINDOW: usize = 4096;
/// What finished rows that wait for an earlier one may take in memory, in bytes. Beyond that they
/// are read again from the memo when it is their turn.
const HELD: usize = 32 << 20;
/// Other stages get a turn after so many rows that need no waiting.
const TURN: u32 = 256;

/// How the rows of a stage are treated in a run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mode {
    /// Whether recorded answers are asked for again.
    pub again: Again,
    /// Rows run whether they are known or not.
    pub force: bool,
    /// Rows whose answers were no good are asked about again.
    pub retry_failed: bool,
    /// A trial with so many rows.
    pub limit: Option<u64>,
}

impl Mode {
    /// Whether what the memo knows from before this run counts.
    pub fn takes_known(&self) -> bool {
        !self.force && self.again == Again::No
    }
}

/// What came of the rows.
pub(super) struct RowsDone {
    pub sink: Sink,
    pub rows_run: u64,
    pub rows_memo: u64,
    pub failed: Failures,
    /// Some rows are as they are because of who asked.
    pub by_asker: bool,
    /// How many rows were answered by somebody else than was asked, by who that was.
    pub stood_in: BTreeMap<String, u64>,
    pub spans: Vec<Span>,
    /// When the oldest answer that was looked at was given.
    pub oldest: Option<i64>,
}

/// Rows that have no result.
pub(super) struct Failures {
    writer: ArtifactWriter,
    /// Why the first of them has none.
    pub first: Option<String>,
    /// Some of them failed in passing.
    pub passing: bool,
}

impl Failures {
    pub fn count(&self) -> u64 {
        self.writer.rows()
    }

    pub fn finish(self) -> Result<Artifact, StoreError> {
        self.writer.finish()
    }
}

/// Tells what happens to each row.
pub(super) trait RowWatch: Sync {
    /// The first rows are about to run.
    fn begin(&self) -> Result<(), StageError>;
    /// Batches are under way that its rows wait for.
    fn waits(&self, under_way: UnderWay);
    fn done(&self, known: bool);
    fn failed(&self, key: String, reason: &RowError);
}

pub(super) struct Driver<'a> {
    pub work: &'a RowWork,
    pub definition: Digest,
    pub mode: Mode,
    pub world: &'a World,
    pub tally: &'a Arc<Tally>,
    pub watch: &'a dyn RowWatch,
    /// The revision of answers when the run began.
    pub revision: i64,
    noted: Mutex<Noted>,
    /// The requests that its rows will make, as far as that is known: for each of a row.
    expected: Mutex<Vec<Expected>>,
}

/// What is noted of rows that ran.
#[derive(Default)]
struct Noted {
    /// Rows that failed ahead of their turn, by memo key.
    failed: HashMap<Digest, RowError>,
    /// Rows that somebody else answered, by memo key: where that is remembered, and who it was.
    stood_in: HashMap<Digest, (Digest, String)>,
    /// Why no row of the stage can succeed.
    fatal: Option<StageError>,
    oldest: Option<i64>,
    stands: Vec<String>,
}

/// A row that is to run.
pub(super) struct Job {
    row: Row,
    ask: Ask,
    carried: Row,
    memo: Digest,
    /// It was known before.
    known: bool,
}

enum Prepared {
    /// `where` passes it over.
    Passed,
    Known {
        memo: Memo,
        key: Digest,
        holds: Holds,
    },
    ToRun(Job),
    Failed(Row, RowError),
}

/// What came of a row that ran.
pub(super) struct Ran {
    row: Row,
    memo: Digest,
    result: Result<Kept, RowError>,
}

/// What a row made, and under which key that is remembered.
struct Kept {
    made: Made,
    key: Digest,
    /// It was not known before.
    new: bool,
    holds: Holds,
}

/// For whom, and for how long, the result of a row holds.
#[derive(Clone, Debug)]
enum Holds {
    /// For everyone, until something changes that it depends on.
    Always,
    /// For who asked.
    ForAsker,
    /// For this run: who is named here answered in the place of who was asked.
    ForNow(String),
}

/// Rows that run ahead of their turn.
#[derive(Default)]
pub(super) struct Flying<'d> {
    running: FuturesUnordered<BoxFuture<'d, Vec<Ran>>>,
    /// By memo key: their place in the table, once that is known.
    places: HashMap<Digest, Option<u64>>,
}

/// A place in the table that is being made.
enum Slot {
    Running,
    Done {
        made: Option<Made>,
        key: Digest,
        new: bool,
        announced: bool,
        holds: Holds,
    },
    Failed(Row, RowError),
    /// Rows that stand in the stage's earlier table.
    Span {
        known: u64,
        rows: std::ops::Range<u64>,
    },
}

impl<'a> Driver<'a> {
    pub fn new(
        work: &'a RowWork,
        definition: Digest,
        mode: Mode,
        world: &'a World,
        tally: &'a Arc<Tally>,
        watch: &'a dyn RowWatch,
        revision: i64,
    ) -> Driver<'a> {
        let (noted, expected) = (Mutex::default(), Mutex::default());
        Driver { work, definition, mode, world, tally, watch, revision, noted, expected }
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Makes known that so many rows, or fewer, will ask what this one asks.
    fn expect(&self, ask: &Ask, rows: u64) {
        let mut expected = self.expected.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let batch = self.work.stage.batch().max(1) as u64;
        expected.truncate(ask.requests.len());
        for (at, request) in ask.requests.iter().enumerate() {
            if at == expected.len() {
                expected.push(self.world.transport.expect(request));
            }
            expected[at].set(rows.div_ceil(batch));
        }
    }

    /// No row of the stage can succeed. The first reason is the one that is told.
    fn fail(&self, error: StageError) {
        self.noted().fatal.get_or_insert(error);
    }

    /// Asks a row and looks up what is known of it.
    fn prepare(&self, row: Row) -> Result<Prepared, StoreError> {
        let (carried, ask) = match asked(self.work, &row) {
            Ok(Some(asked)) => asked,
            Ok(None) => return Ok(Prepared::Passed),
            Err(error) => return Ok(Prepared::Failed(row, error)),
        };
        let memo = memo_key(self.definition, &carried, &ask);
        let (failed, stood_in) = {
            let mut noted = self.noted();
            (noted.failed.remove(&memo), noted.stood_in.get(&memo).cloned())
        };
        if let Some(error) = failed {
            return Ok(Prepared::Failed(row, error));
        }
        let (key, by) = stood_in.map_or((memo, None), |(key, by)| (key, Some(by)));
        let found = self.world.store.memo(key, self.world.asker.as_deref())?;
        let found = found.filter(|memo| match memo.made {
            Made::Rows(_) => true,
            Made::Stored(digest) => matches!(self.world.store.artifact(digest), Ok(Some(_))),
        });
        let known = found.is_some();
        match found {
            Some(memo) if self.mode.takes_known() || memo.run == self.world.transport.run() => {
                let holds = match (by, &memo.asker) {
                    (Some(by), _) => Holds::ForNow(by),
                    (None, Some(_)) => Holds::ForAsker,
                    (None, None) => Holds::Always,
                };
                Ok(Prepared::Known { memo, key, holds })
            }
            _ => Ok(Prepared::ToRun(Job { row, ask, carried, memo, known })),
        }
    }

    /// Runs some rows together, and remembers what they made.
    async fn run(&self, jobs: Vec<Job>) -> Vec<Ran> {
        if let Err(error) = self.watch.begin() {
            self.fail(error);
            return Vec::new();
        }
        let mut kept = Vec::with_capacity(jobs.len());
        let mut asked = Vec::with_capacity(jobs.len());
        for Job { row, ask, carried, memo, known } in jobs {
            kept.push((carried, memo, known));
            asked.push((row, ask));
        }
        let asking = self.asking(self.mode.again).holding(self.held(&asked));
        let mut results = self.work.stage.run(&asked, &asking, self.world).await;
        let mut seen = asking.seen();
        let mut again = self.mode.again;
        if self.mode.retry_failed && seen.sent == 0 {
            // What was no good was read from the record: now it is asked for again.
            let is_bad = |error: &RowError| matches!(error, RowError::Answer(..));
            if results.iter().filter_map(|result| result.as_ref().err()).any(is_bad) {
                again = Again::Yes;
                let asking = self.asking(again).but(seen.good);
                results = self.work.stage.run(&asked, &asking, self.world).await;
                seen = asking.seen();
            }
        }
        self.note(&seen);
        if results.len() != asked.len() {
            let why = "a stage answered fewer rows than it was asked".to_owned();
            self.fail(StageError::Failed(why));
        }
        let alone = asked.len() == 1;
        // All that they stand on was asked for again in this run, or was found to be good.
        let renewed = again == Again::Yes && seen.stands.is_empty();
        let rows = asked.into_iter().zip(kept).zip(results);
        // Remembered side by side: the rows of a batch share a commit.
        let remembered = rows.map(|(((row, ask), (carried, memo, known)), result)| {
            let new = !known || self.mode.force || seen.changed;
            let calls = match alone {
                true => seen.calls.clone(),
                // Of rows that are sent together each has its own call.
                false => ask.requests.iter().map(|request| request.key()).collect(),
            };
            async move {
                let answered = match result {
                    Ok(answered) => answered,
                    Err(error) => return Ran { row, memo, result: Err(error) },
                };
                let made = match answered.made {
                    Made::Rows(rows) => Made::Rows(self.with_carried(&carried, rows)),
                    stored => stored,
                };
                let rows = match &made {
                    Made::Rows(rows) => &rows[..],
                    Made::Stored(_) => &[],
                };
                if !self.work.stage.is_list() {
                    rows.iter().for_each(|row| (self.world.offer)(row));
                }
                let (key, holds) = match answered.instead {
                    Some(Instead { by, ask }) => {
                        (memo_key(self.definition, &carried, &ask), Holds::ForNow(by))
                    }
                    None if rows.iter().any(is_by_asker) => (memo, Holds::ForAsker),
                    None => (memo, Holds::Always),
                };
                let run = self.world.transport.run();
                let entry = Memo {
                    made: made.clone(),
                    calls,
                    revision: if renewed { run } else { self.revision },
                    definition: self.definition,
                    run,
                    asker: match holds {
                        Holds::ForAsker => self.world.asker.clone(),
                        Holds::Always | Holds::ForNow(_) => None,
                    },
                };
                if let Holds::ForNow(by) = &holds {
                    self.noted().stood_in.insert(memo, (key, by.clone()));
                }
                // A list that a trial cut short is never taken for the whole.
                let cut = self.mode.limit.is_some() && self.work.stage.is_list();
                let kept = match new && !cut {
                    true => self.world.store.put_memo(key, entry).await,
                    false => Ok(()),
                };
                let kept = kept.map(|()| Kept { made, key, new, holds });
                Ran { row, memo, result: kept.map_err(|error| StageError::from(error).into()) }
            }
        });
        join_all(remembered).await
    }

    /// The calls of rows whose requests go in batches alone.
    fn held(&self, rows: &[(Row, Ask)]) -> Vec<CallKey> {
        if !self.in_batches() {
            return Vec::new();
        }
        let requests = rows.iter().flat_map(|(_, ask)| &ask.requests);
        requests.filter(|it| it.batch.is_some()).map(Request::key).collect()
    }

    /// Whether what its rows ask goes in batches. A trial does not wait for them.
    pub fn in_batches(&self) -> bool {
        self.work.stage.in_batches() && self.mode.limit.is_none()
    }

    pub fn asking(&self, again: Again) -> Asking {
        Asking::new(self.world.transport.clone(), self.tally.clone(), again)
    }

    fn note(&self, seen: &Seen) {
        let mut noted = self.noted();
        noted.oldest = match (noted.oldest, seen.oldest) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        noted.stands.extend(seen.stands.iter().cloned());
    }

    /// Runs rows as they come from the stage that makes them, until `input` is there: then all of
    /// them are, and [`Driver::gather`] takes them in their order. What cannot be taken at once is
    /// passed over here.
    pub async fn run_ahead<'d, T>(
        &'d self,
        mut rows: tokio::sync::mpsc::Receiver<Row>,
        input: impl Future<Output = T>,
    ) -> (T, Flying<'d>) {
        let mut input = std::pin::pin!(input);
        let mut flying = Flying::default();
        let mut batch: Vec<Job> = Vec::new();
        let size = self.work.stage.batch().max(1);
        let most = self.work.stage.concurrency().max(1);
        let ready = loop {
            let fatal = self.noted().fatal.is_some() || self.world.transport.is_stopped();
            tokio::select! {
                biased;
                ready = &mut input => break ready,
                Some(ran) = flying.running.next() => self.land(&mut flying, ran, &mut |_, _| {}),
                Some(row) = rows.recv(), if flying.running.len() < most && !fatal => {
                    match self.prepare(row) {
                        Ok(Prepared::ToRun(job)) if flying.places.contains_key(&job.memo) => {}
                        Ok(Prepared::ToRun(job)) => batch.push(job),
                        Ok(Prepared::Known { .. } | Prepared::Passed | Prepared::Failed(..)) => {}
                        Err(error) => {
                            self.fail(error.into());
                        }
                    }
                    if batch.len() == size {
                        flying.places.extend(batch.iter().map(|job| (job.memo, None)));
                        flying.running.push(self.run(std::mem::take(&mut batch)).boxed());
                    }
                }
            }
        };
        (ready, flying)
    }

    /// Lets rows that run ahead land that no table waits for: what they are answered is kept.
    pub async fn let_land(&self, flying: &mut Flying<'_>) {
        while let Some(ran) = flying.running.next().await {
            self.land(flying, ran, &mut |_, _| {});
        }
    }

    /// Takes rows that ran ahead of their turn: `settle` those that have a place in the table by now.
    fn land(&self, flying: &mut Flying<'_>, ran: Vec<Ran>, settle: &mut dyn FnMut(u64, Ran)) {
        for ran in ran {
            if let Some(place) = flying.places.remove(&ran.memo).flatten() {
                settle(place, ran);
                continue;
            }
            match ran.result {
                Ok(_) => self.watch.done(false),
                Err(RowError::Stage(error)) => self.fail(error),
                Err(error) => {
                    self.noted().failed.insert(ran.memo, error);
                }
            }
        }
    }

    /// Makes the stage's table from `input`, in its order.
    pub async fn gather(
        &self,
        input: &Artifact,
        sink: Sink,
        earlier: Option<Earlier>,
        flying: &mut Flying<'_>,
    ) -> Result<RowsDone, StageError> {
        let is_list = self.work.stage.is_list();
        let mut table = Table {
            driver: self,
            done: RowsDone {
                sink,
                rows_run: 0,
                rows_memo: 0,
                failed: Failures {
                    writer: self.world.store.write_artifact(&[]),
                    first: None,
                    passing: false,
                },
                by_asker: false,
                stood_in: BTreeMap::new(),
                spans: Vec::with_capacity(input.chunks.len()),
                oldest: None,
            },
            slots: VecDeque::new(),
            first: 0,
            held: 0,
            waiting: None,
            earlier,
        };
        let mut chunks = 0..input.chunks.len();
        let mut rows = self.world.store.rows_of(input, 0..0);
        let mut left = self.mode.limit.filter(|_| !is_list).unwrap_or(u64::MAX);
        let mut all = false;
        let mut running = FuturesUnordered::new();
        let mut batch: Vec<(u64, Job)> = Vec::new();
        let size = self.work.stage.batch().max(1);
        let most = self.work.stage.concurrency().max(1);
        let window = WINDOW.max(size);
        let run = |batch: Vec<(u64, Job)>| async {
            let (places, jobs): (Vec<u64>, Vec<Job>) = batch.into_iter().unzip();
            (places, self.run(jobs).await)
        };
        let mut turn = 0;
        // Rows of the input that were looked at.
        let mut taken = 0;
        let mut to_run = 0_u64;
        loop {
            let stop = self.noted().fatal.is_some() || self.world.transport.is_stopped();
            while !all
                && !stop
                && running.len() + flying.running.len() < most
                && table.slots.len() < window
            {
                let row = match rows.next() {
                    Some(Ok(row)) => row,
                    Some(Err(error)) => {
                        self.fail(error.into());
                        break;
                    }
                    None => match chunks.next().filter(|_| left > 0) {
                        None => {
                            all = true;
                            break;
                        }
                        Some(chunk) => {
                            table.done.spans.push(Span::default());
                            if table.reuse(input.chunks[chunk].digest()) {
                                taken += input.chunks[chunk].rows;
                            } else {
                                rows = self.world.store.rows_of(input, chunk..chunk + 1);
                            }
                            table.drain();
                            continue;
                        }
                    },
                };
                taken += 1;
                let place = table.end();
                let chunk = table.done.spans.len() - 1;
                match self.prepare(row) {
                    Err(error) => {
                        self.fail(error.into());
                        break;
                    }
                    Ok(prepared) => match prepared {
                        Prepared::Passed => continue,
                        Prepared::Known { memo, key, holds } => {
                            table.add(chunk, known(memo, key, holds, self));
                        }
                        Prepared::Failed(row, error) => table.add(chunk, Slot::Failed(row, error)),
                        // Another row that asks the same has a place already: this one runs by itself, and
                        // shares the call.
                        Prepared::ToRun(job) if flying.places.get(&job.memo) == Some(&None) => {
                            flying.places.insert(job.memo, Some(place));
                            table.add(chunk, Slot::Running);
                        }
                        Prepared::ToRun(job) => {
                            // As many of those to come run as have so far.
                            to_run += 1;
                            let to_come = input.rows.saturating_sub(taken).min(left);
                            let share = (to_run as f64 / taken.max(1) as f64).min(1.0);
                            self.expect(&job.ask, (to_come as f64 * share).ceil() as u64);
                            batch.push((place, job));
                            table.add(chunk, Slot::Running);
                            if batch.len() == size {
                                running.push(run(std::mem::take(&mut batch)));
                            }
                        }
                    },
                }
                left -= 1;
                if left == 0 {
                    rows = self.world.store.rows_of(input, 0..0);
                }
                table.drain();
                turn += 1;
                if turn % TURN == 0 {
                    tokio::task::yield_now().await;
                }
            }
            if !batch.is_empty() && !stop && running.len() < most {
                running.push(run(std::mem::take(&mut batch)));
            }
            let landed = tokio::select! {
                Some(landed) = running.next() => Some(landed),
                Some(ran) = flying.running.next() => {
                    let mut settle = |place, ran| table.settle(place, ran);
                    self.land(flying, ran, &mut settle);
                    Some((Vec::new(), Vec::new()))
                }
                else => None,
            };
            match landed {
                Some((places, ran)) => {
                    for (place, ran) in places.into_iter().zip(ran) {
                        table.settle(place, ran);
                    }
                    table.drain();
                }
                None if all && batch.is_empty() => break,
                None if self.noted().fatal.is_some() || self.world.transport.is_stopped() => break,
                None => {}
            }
        }
        drop(running);
        drop(self.expected.lock().map(|mut expected| expected.clear()));
        // The first reason is the one that is told; what follows from it is not.
        if let Some(error) = self.noted().fatal.take() {
            return Err(error);
        }
        if let Some(why) = self.world.transport.stopped() {
            return Err(StageError::Call(CallError::Stopped(why)));
        }
        table.finish()
    }

    /// Key and kept fields first, then what the stage made. A field that it made wins over a kept
    /// one; the key stays.
    fn with_carried(&self, carried: &Row, rows: Vec<Row>) -> Vec<Row> {
        let whole = rows.into_iter().map(|made| {
            let mut whole = carried.clone();
            for (name, value) in made {
                if !self.work.shape.key.contains(&name) {
                    whole.insert(name, value);
                }
            }
            whole
        });
        whole.collect()
    }

    /// A row's name for people; all of its fields where its results have keys of their own.
    fn shown(&self, row: &Row) -> String {
        match self.work.shape.key.is_empty() {
            true => show_key(row, &row.keys().cloned().collect::<Vec<_>>()),
            false => show_key(row, &self.work.shape.key),
        }
    }

    /// What `.failed.jsonl` says of a row.
    fn failed_row(&self, row: &Row, error: &RowError) -> Row {
        let (kind, what) = match error {
            RowError::Passing(_) => ("passing", None),
            RowError::Answer(what, _) => ("answer", Some(what.as_str())),
            RowError::Row(_) => ("row", None),
            RowError::Stage(_) => ("stage", None),
        };
        // A stage whose rows have no key of their own before they are asked shows its whole input
        // row.
        let mut failed = match self.work.shape.key.is_empty() {
            true => row.clone(),
            false => self.work.shape.carried(row).unwrap_or_else(|_| row.clone()),
        };
        let told = match what {
            Some(what) => json!({ "kind": kind, "what": what, "reason": error.to_string() }),
            None => json!({ "kind": kind, "reason": error.to_string() }),
        };
        failed.insert("_failed".into(), told);
        failed
    }
}

/// What a row carries over and what it asks; `None` where `where` passes it over.
pub(super) fn asked(work: &RowWork, row: &Row) -> Result<Option<(Row, Ask)>, RowError> {
    if let Some(filter) = &work.filter
        && !filter.holds(row).map_err(|why| RowError::Row(format!("`where`: {why}")))?
    {
        return Ok(None);
    }
    let carried = work.shape.carried(row).map_err(RowError::Row)?;
    let ask = work.stage.ask(row)?;
    Ok(Some((carried, ask)))
}

/// What decides whether a row's result is known: the stage's definition, what the row asks, and
/// what it carries over.
pub(super) fn memo_key(definition: Digest, carried: &Row, ask: &Ask) -> Digest {
    let mut hasher = Hasher::new("memo 2");
    hasher.part(&definition.0);
    for request in &ask.requests {
        hasher.part(&request.key().0.0);
    }
    hasher.part(ask.text.as_bytes());
    hasher.part(&serde_json::to_vec(carried).expect("rows always serialize"));
    hasher.finish()
}

fn known(memo: Memo, key: Digest, holds: Holds, driver: &Driver<'_>) -> Slot {
    // What ran in this run, ahead of its turn, was told then.
    let new = memo.run == driver.world.transport.run();
    Slot::Done { made: Some(memo.made), key, new, announced: new, holds }
}

/// "Not found" may be found with other credentials.
fn is_by_asker(row: &Row) -> bool {
    row.get("_outcome").is_some_and(|outcome| outcome["status"] == 404)
}

/// The table as far as it is made: what is finished is pushed as soon as everything before it is.
struct Table<'a> {
    driver: &'a Driver<'a>,
    done: RowsDone,
    /// Rows that are not pushed yet, each with the chunk of the input that it came from.
    slots: VecDeque<(usize, Slot)>,
    /// The place of the first slot.
    first: u64,
    /// About how many bytes the slots hold.
    held: usize,
    /// Rows of the earlier table that are next, not pushed yet.
    waiting: Option<std::ops::Range<u64>>,
    earlier: Option<Earlier>,
}

impl Table<'_> {
    fn end(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    /// Takes what a chunk of the input made from the earlier table, where it stands there.
    fn reuse(&mut self, chunk: &str) -> bool {
        let Some((known, rows)) = self.earlier.as_mut().and_then(|earlier| earlier.take(chunk))
        else {
            return false;
        };
        let at = self.done.spans.len() - 1;
        self.slots.push_back((at, Slot::Span { known, rows }));
        true
    }

    fn add(&mut self, chunk: usize, mut slot: Slot) {
        if !self.slots.is_empty()
            && let Slot::Done { made, .. } = &mut slot
        {
            self.hold(made);
        }
        self.slots.push_back((chunk, slot));
    }

    fn settle(&mut self, place: u64, ran: Ran) {
        let Ran { row, result, .. } = ran;
        let slot = match result {
            Ok(Kept { made, key, new, holds }) => {
                let mut made = Some(made);
                if place != self.first {
                    self.hold(&mut made);
                }
                Slot::Done { made, key, new, announced: false, holds }
            }
            Err(RowError::Stage(error)) => {
                self.driver.fail(error);
                return;
            }
            Err(error) => Slot::Failed(row, error),
        };
        let index = usize::try_from(place - self.first).expect("no longer than the window");
        self.slots[index].1 = slot;
    }

    /// Lets go of rows where too many are held: they are read again from the memo. What a trial cut
    /// short is in no memo.
    fn hold(&mut self, made: &mut Option<Made>) {
        let weight = made.as_ref().map_or(0, weight);
        if self.held + weight > HELD && self.driver.mode.limit.is_none() {
            *made = None;
        } else {
            self.held += weight;
        }
    }

    /// Pushes what is finished and next. Where that fails, no row of the stage can succeed; what is
    /// under way still lands.
    fn drain(&mut self) {
        if let Err(error) = self.push_finished() {
            self.driver.fail(error);
        }
    }

    fn push_finished(&mut self) -> Result<(), StageError> {
        while let Some((_, slot)) = self.slots.front() {
            if matches!(slot, Slot::Running) {
                return Ok(());
            }
            let (chunk, slot) = self.slots.pop_front().expect("it was seen");
            self.first += 1;
            if self.slots.is_empty() {
                self.held = 0;
            }
            match slot {
                Slot::Running => {}
                Slot::Span { known, rows } => {
                    self.done.rows_memo += known;
                    self.done.spans[chunk].known += known;
                    self.done.spans[chunk].rows += rows.end - rows.start;
                    self.wait(rows)?;
                }
                Slot::Failed(row, error) => {
                    self.done.spans[chunk].whole = false;
                    self.driver.watch.failed(self.driver.shown(&row), &error);
                    let failed = &mut self.done.failed;
                    failed.passing |= matches!(error, RowError::Passing(_));
                    failed.first.get_or_insert_with(|| error.to_string());
                    failed.writer.push(&self.driver.failed_row(&row, &error))?;
                }
                Slot::Done { made, key, new, announced, holds } => {
                    if let Some(made) = &made {
                        self.held = self.held.saturating_sub(weight(made));
                    }
                    let made = match made {
                        Some(made) => made,
                        None => self.remembered(key)?,
                    };
                    self.flush()?;
                    let (before, repeated) = (self.done.sink.rows(), self.done.sink.repeated());
                    self.push(&made)?;
                    let span = &mut self.done.spans[chunk];
                    span.rows += self.done.sink.rows() - before;
                    span.known += 1;
                    // What was there already may not be, the next time.
                    span.whole &=
                        matches!(holds, Holds::Always) && self.done.sink.repeated() == repeated;
                    match holds {
                        Holds::Always => {}
                        Holds::ForAsker => self.done.by_asker = true,
                        Holds::ForNow(by) => *self.done.stood_in.entry(by).or_default() += 1,
                    }
                    match new {
                        true => self.done.rows_run += 1,
                        false => self.done.rows_memo += 1,
                    }
                    if !announced {
                        self.driver.watch.done(!new);
                    }
                }
            }
        }
        Ok(())
    }

    fn remembered(&self, key: Digest) -> Result<Made, StageError> {
        let world = self.driver.world;
        let found = world.store.memo(key, world.asker.as_deref())?;
        found.map(|memo| memo.made).ok_or_else(|| {
            StoreError::Damaged("a row that was just remembered is gone; run again".into()).into()
        })
    }

    fn push(&mut self, made: &Made) -> Result<(), StageError> {
        let sink = &mut self.done.sink;
        match made {
            Made::Rows(rows) if sink.is_unique() => {
                let mut rows = rows.iter();
                let Some(first) = rows.next() else { return Ok(()) };
                if let Some(other) = rows.find(|row| *row != first) {
                    let show =
                        |row: &Row| serde_json::to_string(row).expect("rows always serialize");
                    return Err(StageError::Failed(format!(
                        "two different rows have the key {}: {} and {}. A stage of this kind makes \
                         one row of each",
                        self.driver.shown(first),
                        show(first),
                        show(other),
                    )));
                }
                sink.push(first)
            }
            Made::Rows(rows) => {
                let most = self.driver.list_limit();
                rows.iter().take(most).try_for_each(|row| sink.push(row))
            }
            Made::Stored(digest) => {
                let store = &self.driver.world.store;
                let gone = || StoreError::Damaged(format!("the list {} is gone", digest.short()));
                let artifact = store.artifact(*digest)?.ok_or_else(gone)?;
                let most = self.driver.list_limit();
                for row in store.rows(&artifact).take(most) {
                    sink.push(&row?)?;
                }
                Ok(())
            }
        }
    }

    /// Rows of the earlier table are next. Those that follow each other are taken together.
    fn wait(&mut self, rows: std::ops::Range<u64>) -> Result<(), StageError> {
        match &mut self.waiting {
            Some(waiting) if waiting.end == rows.start => waiting.end = rows.end,
            _ => {
                self.flush()?;
                self.waiting = Some(rows);
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StageError> {
        let Some(rows) = self.waiting.take() else { return Ok(()) };
        let Some(earlier) = &mut self.earlier else { return Ok(()) };
        earlier.push(rows, &self.driver.world.store, &mut self.done.sink)
    }

    fn finish(mut self) -> Result<RowsDone, StageError> {
        if !self.slots.is_empty() {
            let what = "rows of it were lost on their way; this is a fault of flow".to_owned();
            return Err(StageError::Failed(what));
        }
        self.flush()?;
        let mut noted = self.driver.noted();
        self.done.oldest = noted.oldest;
        let stands = std::mem::take(&mut noted.stands);
        if let Some(first) = stands.first() {
            let count = stands.len();
            let plural = if count == 1 { "" } else { "s" };
            (self.driver.world.note)(format!(
                "{count} recorded answer{plural} could not be asked for again and stand, the \
                 first: {first}"
            ));
        }
        drop(noted);
        for (by, rows) in &self.done.stood_in {
            let were =
                if *rows == 1 { "1 row was".to_owned() } else { format!("{rows} rows were") };
            (self.driver.world.note)(format!(
                "{were} answered by {by}; the next run asks again whoever was to answer"
            ));
        }
        Ok(self.done)
    }
}

impl Driver<'_> {
    /// How many rows a list may have.
    fn list_limit(&self) -> usize {
        self.mode.limit.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX))
    }
}

/// About how many bytes rows take in memory.
fn weight(made: &Made) -> usize {
    fn of(value: &Value) -> usize {
        match value {
            Value::String(text) => 32 + text.len(),
            Value::Array(values) => 32 + values.iter().map(of).sum::<usize>(),
            Value::Object(fields) => row(fields),
            _ => 32,
        }
    }
    fn row(fields: &Row) -> usize {
        fields.iter().map(|(name, value)| 64 + name.len() + of(value)).sum()
    }
    match made {
        Made::Rows(rows) => rows.iter().map(row).sum(),
        Made::Stored(_) => 0,
    }
}
