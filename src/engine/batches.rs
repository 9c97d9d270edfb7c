//! Sends what the rows of a stage ask in the provider's batches, ahead of the row driver, and waits for
//! them: what they answer is recorded, and the driver finds it there as it finds every recorded answer.
//!
//! A batch is open from the moment when it is noted in the store until its answers are stored and its
//! files are deleted. Whatever cuts a run off, the next one goes on from what is noted.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::try_join_all;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::decide::{Decision, now};
use super::event::UnderWay;
use super::rows::{Driver, asked, memo_key};
use crate::clients::{
    Addressee, Again, Asking, BatchAnswer, BatchApi, BatchLimits, CallError, Outcome, Remote,
    RemoteState, Request, Reserved, Stop, Usage,
};
use crate::stages::{StageError, World};
use crate::store::{Artifact, BatchFault, BatchItem, CallKey, OpenBatch, Store, StoreError};
use crate::table::{Hasher, Row};

/// How often a request goes in a batch in one run, at the most, where its time runs out there or the
/// server fails.
const ROUNDS: u32 = 3;
/// The most bytes that providers take in a batch.
const BYTES: u64 = 200_000_000;
/// When a batch is looked at first, and how long it is left alone at the most, where the server does
/// not say.
const FIRST_LOOK: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(60);
/// However soon the server says that it may be asked again.
const SHORTEST: Duration = Duration::from_millis(50);
/// What stands around a body in its line, at the most.
const FRAME: u64 = 256;
/// The provider's code where more tokens would wait than it takes.
const TOO_MUCH: &str = "token_limit_exceeded";
/// Other stages get a turn after so many rows.
const TURN: u64 = 256;
/// How often in a row the provider must know nothing of a batch until it is taken for lost.
const LOST: u32 = 3;
/// How often it is told at the most that more is done.
const STEPS: u64 = 20;
/// Answers that are stored together.
const TOGETHER: usize = 256;

/// The batches of a run. One stage at a time collects, sends or takes.
#[derive(Default)]
pub(super) struct Batches {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What earlier runs left was looked through.
    begun: bool,
    /// How many tokens may wait at once, by addressee, where that is known.
    most: HashMap<String, u64>,
    /// When each batch is looked at again.
    looks: HashMap<i64, Look>,
    /// What became of those that ended in this run: more than one stage may wait for a batch.
    ends: HashMap<i64, End>,
    /// Those of earlier runs of which it could not be learnt whether they were made.
    unsure: HashSet<i64>,
}

/// When a batch is looked at, and how it stood the last time.
#[derive(Clone, Copy)]
struct Look {
    next: Instant,
    every: Duration,
    answered: u64,
    /// How often in a row the provider knew nothing of it.
    missing: u32,
}

/// What a look over all rows found.
struct Collected {
    /// The batches that hold what the rows ask.
    awaited: BTreeSet<i64>,
    /// Whether some of them are new.
    sent: bool,
    /// No more may be spent: what the other rows ask is in no batch.
    over: Option<Stop>,
}

/// What became of batches, worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    /// Each request has an answer, or a refusal that is one.
    Answered,
    /// More tokens would have waited than the provider takes: nothing of it was asked.
    TooMuch,
    /// Some requests are to be sent again.
    Undone,
}

impl Batches {
    /// Has answered in batches what `driver`'s rows ask and nothing has answered. What has no answer
    /// after that is not to be asked in this run.
    pub async fn answer(
        &self,
        driver: &Driver<'_>,
        input: &Artifact,
        decision: &Decision,
    ) -> Result<(), StageError> {
        let result = self.rounds(driver, input, decision).await;
        if let Err(StageError::Call(CallError::Stopped(_))) = &result {
            tell_left(driver.world)?;
        }
        result
    }

    async fn rounds(
        &self,
        driver: &Driver<'_>,
        input: &Artifact,
        decision: &Decision,
    ) -> Result<(), StageError> {
        let mut rounds = 0;
        loop {
            let Collected { awaited, sent, over } = {
                let mut state = self.state.lock().await;
                state.begin(driver).await?;
                state.collect(driver, input, decision).await?
            };
            let end = self.wait(driver, &awaited).await?;
            rounds += u32::from(end == End::Undone);
            match over {
                // What was set aside and not spent may do for some of the others.
                Some(_) if sent && rounds < ROUNDS => {}
                Some(why) => {
                    driver.world.transport.stop(why.clone());
                    return Err(CallError::Stopped(why).into());
                }
                None if end == End::Answered || rounds == ROUNDS => return Ok(()),
                None => {}
            }
        }
    }

    /// Sends what is not sent as far as there is room, and looks at the others, until none of `awaited`
    /// is open.
    async fn wait(&self, driver: &Driver<'_>, awaited: &BTreeSet<i64>) -> Result<End, StageError> {
        let transport = &driver.world.transport;
        let mut waiting = Waiting::new(awaited, &driver.world.store)?;
        loop {
            let next = {
                let mut state = self.state.lock().await;
                state.step(driver, awaited).await?;
                let open = waiting.open(&driver.world.store)?;
                waiting.tell(driver, &state, &open);
                if open.is_empty() {
                    let ends = awaited.iter().filter_map(|batch| state.ends.get(batch));
                    return Ok(ends.copied().max().unwrap_or(End::Answered));
                }
                open.iter().filter_map(|batch| Some(state.looks.get(&batch.id)?.next)).min()
            };
            // Where none is sent yet, another stage's are in the way.
            let next = next.unwrap_or_else(|| Instant::now() + FIRST_LOOK);
            transport.unless_stopped(tokio::time::sleep_until(next)).await?;
        }
    }
}

/// What a stage waits for, and what of it was told.
struct Waiting<'a> {
    awaited: &'a BTreeSet<i64>,
    requests: u64,
    since: i64,
    told: Option<(u64, u64)>,
}

impl<'a> Waiting<'a> {
    fn new(awaited: &'a BTreeSet<i64>, store: &Store) -> Result<Waiting<'a>, StoreError> {
        let mut waiting = Waiting { awaited, requests: 0, since: now(), told: None };
        for batch in waiting.open(store)? {
            waiting.requests += batch.requests;
            waiting.since = waiting.since.min(batch.at);
        }
        Ok(waiting)
    }

    fn open(&self, store: &Store) -> Result<Vec<OpenBatch>, StoreError> {
        let mut open = store.open_batches()?;
        open.retain(|batch| self.awaited.contains(&batch.id));
        Ok(open)
    }

    fn tell(&mut self, driver: &Driver<'_>, state: &State, open: &[OpenBatch]) {
        let look = |batch: &OpenBatch| state.looks.get(&batch.id).map_or(0, |look| look.answered);
        let left: u64 = open.iter().map(|it| it.requests.saturating_sub(look(it))).sum();
        let (batches, done) = (open.len() as u64, self.requests - left.min(self.requests));
        let news = match self.told {
            None => true,
            Some((open, before)) => {
                open != batches || done >= before + self.requests.div_ceil(STEPS)
            }
        };
        if self.requests > 0 && news {
            self.told = Some((batches, done));
            let (requests, since) = (self.requests, self.since);
            driver.watch.waits(UnderWay { batches, done, requests, since });
        }
    }
}

impl State {
    /// Finds out, once in a run, what has become of batches that earlier runs left: one that was not
    /// known to be sent is looked for at the provider, one that has ended is taken.
    async fn begin(&mut self, driver: &Driver<'_>) -> Result<(), StageError> {
        if self.begun {
            return Ok(());
        }
        let World { transport, store, note, .. } = driver.world;
        store.forget_batch_faults(transport.run()).await?;
        for batch in store.open_batches()? {
            let addressee = Addressee::read(&batch.addressee)?;
            let api = BatchApi::new(transport, &addressee);
            let Some(remote) = &batch.remote else {
                match api.find(&batch.label).await {
                    Ok(Some(remote)) => store.name_batch(batch.id, &remote.id).await?,
                    Ok(None) => store.end_batch(batch.id, transport.run(), Vec::new()).await?,
                    Err(error @ (CallError::Stopped(_) | CallError::Store(_))) => {
                        return Err(error.into());
                    }
                    // It may be another stage's, at a server that is gone.
                    Err(error) => {
                        note(format!("a batch of an earlier run could not be looked for: {error}"));
                        self.unsure.insert(batch.id);
                    }
                }
                continue;
            };
            let seen = match api.look(remote).await {
                Ok(Some(remote)) => self.see(driver, &batch, &addressee, remote).await,
                Ok(None) => Ok(()),
                Err(error) => Err(error.into()),
            };
            match seen {
                Err(error @ StageError::Call(CallError::Stopped(_))) => return Err(error),
                // Nobody may wait for it; who does looks again.
                Err(error) => note(error.to_string()),
                Ok(()) => {}
            }
        }
        store.tidy_batch_files()?;
        self.begun = true;
        Ok(())
    }

    /// Asks every row, and writes what nothing has answered and no open batch holds to new batches.
    async fn collect(
        &mut self,
        driver: &Driver<'_>,
        input: &Artifact,
        decision: &Decision,
    ) -> Result<Collected, StageError> {
        let World { store, .. } = driver.world;
        let mut drafts = Drafts::new(driver, &mut self.most);
        let mut earlier = decision.earlier(store)?;
        let mut over = None;
        let mut turn = 0;
        'rows: for (at, chunk) in input.chunks.iter().enumerate() {
            if earlier.as_mut().is_some_and(|it| it.take(chunk.digest()).is_some()) {
                continue;
            }
            for row in store.rows_of(input, at..at + 1) {
                for (request, limits) in unanswered(driver, &row?)? {
                    over = drafts.add(request, limits).await?;
                    if over.is_some() {
                        break 'rows;
                    }
                }
                turn += 1;
                if turn % TURN == 0 {
                    tokio::task::yield_now().await;
                }
            }
        }
        let (awaited, sent) = drafts.close().await?;
        Ok(Collected { awaited, sent, over })
    }

    /// Looks at the batches of `awaited` whose time has come, and then sends those for which there is
    /// room.
    async fn step(
        &mut self,
        driver: &Driver<'_>,
        awaited: &BTreeSet<i64>,
    ) -> Result<(), StageError> {
        let World { transport, store, note, .. } = driver.world;
        for batch in store.open_batches()?.iter().filter(|batch| awaited.contains(&batch.id)) {
            let due = self.looks.get(&batch.id).is_none_or(|look| look.next <= Instant::now());
            let Some(remote) = batch.remote.as_ref().filter(|_| due) else { continue };
            let addressee = Addressee::read(&batch.addressee)?;
            match BatchApi::new(transport, &addressee).look(remote).await {
                Ok(Some(remote)) => self.see(driver, batch, &addressee, remote).await?,
                Ok(None) => self.miss(driver, batch).await?,
                Err(error @ CallError::Transient { .. }) => {
                    note(format!("batch {remote} could not be looked at: {error}"));
                    self.look_later(batch.id, None);
                }
                Err(error) => return Err(error.into()),
            }
        }
        let open = store.open_batches()?;
        let mut sent: Vec<&OpenBatch> = open.iter().filter(|it| it.remote.is_some()).collect();
        for batch in open.iter().filter(|it| it.remote.is_none() && awaited.contains(&it.id)) {
            if !self.has_room(batch, &sent) {
                continue;
            }
            let addressee = Addressee::read(&batch.addressee)?;
            let file = store.batch_file(&batch.file_name())?;
            let api = BatchApi::new(transport, &addressee);
            if self.unsure.contains(&batch.id) {
                let found = api.find(&batch.label).await?;
                self.unsure.remove(&batch.id);
                match found {
                    Some(remote) => store.name_batch(batch.id, &remote.id).await?,
                    None => self.close(driver, batch, End::Undone, Vec::new()).await?,
                }
                continue;
            }
            match api.submit(&batch.label, &file).await {
                Ok(remote) => {
                    store.name_batch(batch.id, &remote.id).await?;
                    self.look_later(batch.id, remote.again);
                    sent.push(batch);
                }
                Err(error) => {
                    // Other errors leave open whether it was made.
                    if let CallError::Denied { .. } | CallError::Refused { .. } = &error {
                        transport.give_back(batch.requests, set_aside(driver, batch));
                        self.close(driver, batch, End::Answered, Vec::new()).await?;
                    }
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }

    /// Whether a batch can wait beside those that are sent.
    fn has_room(&self, batch: &OpenBatch, sent: &[&OpenBatch]) -> bool {
        let waiting = tokens_beside(batch, sent.iter().copied());
        let most = self.most.get(&batch.addressee).copied().unwrap_or(u64::MAX);
        waiting.is_none_or(|tokens| tokens + batch.tokens <= most)
    }

    /// Sets when a batch is looked at next: when the server says, or after a while that grows.
    fn look_later(&mut self, id: i64, again: Option<Duration>) -> &mut Look {
        let now = Instant::now();
        let first = Look { next: now, every: FIRST_LOOK * 2 / 3, answered: 0, missing: 0 };
        let look = self.looks.entry(id).or_insert(first);
        look.every = (look.every * 3 / 2).min(LONGEST);
        look.next = now + again.map_or(look.every, |wait| wait.max(SHORTEST));
        look
    }

    /// Whether what the provider does not have, a batch or its answers, may yet be there.
    fn looks_again(&mut self, batch: &OpenBatch) -> bool {
        let look = self.look_later(batch.id, None);
        look.missing += 1;
        look.missing < LOST
    }

    /// The provider knows nothing of a batch that it made. It may yet; or the batch is lost, and what
    /// it was asked is asked again.
    async fn miss(&mut self, driver: &Driver<'_>, batch: &OpenBatch) -> Result<(), StageError> {
        let World { transport, note, .. } = driver.world;
        if self.looks_again(batch) {
            return Ok(());
        }
        let name = batch.remote.as_deref().unwrap_or_default();
        note(format!("the provider knows no batch {name} any more; it is sent again"));
        transport.settle(set_aside(driver, batch), 0);
        self.close(driver, batch, End::Undone, Vec::new()).await
    }

    /// Does what a batch's state at the provider asks for.
    async fn see(
        &mut self,
        driver: &Driver<'_>,
        batch: &OpenBatch,
        addressee: &Addressee,
        remote: Remote,
    ) -> Result<(), StageError> {
        let World { transport, note, .. } = driver.world;
        let api = BatchApi::new(transport, addressee);
        match remote.state {
            RemoteState::UnderWay => {
                let look = self.look_later(batch.id, remote.again);
                (look.answered, look.missing) = (remote.answered, 0);
                Ok(())
            }
            RemoteState::Failed => {
                api.delete_all(&remote).await?;
                if batch.run == transport.run() {
                    transport.give_back(batch.requests, set_aside(driver, batch));
                }
                self.close(driver, batch, End::TooMuch, Vec::new()).await?;
                self.refused(driver.world, batch, &remote)
            }
            RemoteState::Completed | RemoteState::Expired | RemoteState::Cancelled => {
                let took = Taking::new(driver, batch, addressee, &remote).all(&api).await?;
                if took.missing && self.looks_again(batch) {
                    return Ok(());
                }
                api.delete_all(&remote).await?;
                transport.settle(set_aside(driver, batch), took.spent);
                let undone = took.undone();
                let goes_again = undone > 0 && remote.state != RemoteState::Cancelled;
                let end = if goes_again { End::Undone } else { End::Answered };
                self.close(driver, batch, end, took.faults).await?;
                let (name, requests) = (&remote.id, batch.requests);
                match took.denied {
                    Some(denied) => Err(StageError::Call(denied)),
                    None if undone == 0 => Ok(()),
                    None if goes_again => {
                        note(format!("batch {name} left {undone} of {requests} without an answer"));
                        Ok(())
                    }
                    None => Err(StageError::Failed(format!(
                        "batch {name} was cancelled at the provider, and {undone} of its \
                         {requests} requests were not answered; run again to send them again"
                    ))),
                }
            }
        }
    }

    /// A batch was refused as a whole. Where too much waits already, less is sent at once from now on.
    fn refused(
        &mut self,
        world: &World,
        batch: &OpenBatch,
        remote: &Remote,
    ) -> Result<(), StageError> {
        let reasons: Vec<&str> = remote.faults.iter().take(3).map(|(_, said)| &said[..]).collect();
        let reasons = reasons.join("; ");
        let open = world.store.open_batches()?;
        let beside = tokens_beside(batch, open.iter().filter(|it| it.remote.is_some()));
        let too_much = remote.faults.iter().any(|(code, _)| code == TOO_MUCH);
        if too_much && (batch.requests > 1 || beside.is_some()) {
            let most = self.most.entry(batch.addressee.clone()).or_insert(u64::MAX);
            *most = (*most).min((beside.unwrap_or(0) + batch.tokens) / 2);
            (world.note)(format!("less is sent at once from now on: {reasons}"));
            return Ok(());
        }
        Err(StageError::Failed(format!("the provider refused batch {}: {reasons}", remote.id)))
    }

    /// A batch is open no more.
    async fn close(
        &mut self,
        driver: &Driver<'_>,
        batch: &OpenBatch,
        end: End,
        faults: Vec<(CallKey, BatchFault)>,
    ) -> Result<(), StageError> {
        let World { transport, store, .. } = driver.world;
        store.end_batch(batch.id, transport.run(), faults).await?;
        self.ends.insert(batch.id, end);
        self.looks.remove(&batch.id);
        // What cannot be removed now is removed by a later run.
        let _ = fs::remove_file(store.batch_file(&batch.file_name())?);
        Ok(())
    }
}

/// What this run set aside for a batch; what another one did was of its own budget.
fn set_aside(driver: &Driver<'_>, batch: &OpenBatch) -> Reserved {
    Reserved(if batch.run == driver.world.transport.run() { batch.set_aside } else { 0 })
}

/// The tokens of the batches with the addressee of `batch` that are there beside it; `None` where it is
/// alone.
fn tokens_beside<'a>(
    batch: &OpenBatch,
    others: impl Iterator<Item = &'a OpenBatch>,
) -> Option<u64> {
    let others = others.filter(|it| it.id != batch.id && it.addressee == batch.addressee);
    others.map(|it| it.tokens).reduce(|one, other| one + other)
}

/// What `row` asks that nothing has answered, as far as it goes in batches.
fn unanswered(driver: &Driver<'_>, row: &Row) -> Result<Vec<(Request, BatchLimits)>, StageError> {
    let World { transport, store, asker, .. } = driver.world;
    // A row that cannot be asked fails without a call.
    let Ok(Some((carried, ask))) = asked(driver.work, row) else { return Ok(Vec::new()) };
    let memo = memo_key(driver.definition, &carried, &ask);
    if driver.mode.takes_known() && store.memo(memo, asker.as_deref())?.is_some() {
        return Ok(Vec::new());
    }
    let mut left = Vec::new();
    for request in ask.requests {
        if let Some(limits) = request.batch
            && !transport.is_answered(&request, driver.mode.again)?
        {
            left.push((request, limits));
        }
    }
    Ok(left)
}

/// The batches that are being written, and those that hold what the rows ask.
struct Drafts<'a> {
    driver: &'a Driver<'a>,
    most: &'a mut HashMap<String, u64>,
    /// By addressee.
    open: HashMap<String, Draft>,
    awaited: BTreeSet<i64>,
    sent: bool,
}

impl<'a> Drafts<'a> {
    fn new(driver: &'a Driver<'a>, most: &'a mut HashMap<String, u64>) -> Drafts<'a> {
        Drafts { driver, most, open: HashMap::new(), awaited: BTreeSet::new(), sent: false }
    }

    /// Finds the batch that `request` is in, or writes it to one. Where no more may be spent it goes
    /// in none, and the reason comes back.
    async fn add(
        &mut self,
        request: Request,
        limits: BatchLimits,
    ) -> Result<Option<Stop>, StageError> {
        let World { transport, store, .. } = self.driver.world;
        let key = request.key();
        if let Some((batch, _)) = store.batch_item(key)? {
            self.awaited.insert(batch);
            return Ok(None);
        }
        // It was refused for what it is: it would be again.
        if store.batch_fault(key)?.is_some_and(|fault| fault.refused.is_some()) {
            return Ok(None);
        }
        let request = request.in_batch();
        let addressee = Addressee::of(&request);
        let to = addressee.to_text();
        if self.open.get(&to).is_some_and(|draft| draft.keys.contains(&key)) {
            return Ok(None);
        }
        let Reserved(set_aside) = match transport.reserve(&request) {
            Ok(reserved) => reserved,
            Err(why) => return Ok(Some(why)),
        };
        if let Some(tokens) = limits.tokens {
            self.most.entry(to.clone()).or_insert(tokens);
        }
        let most = self.most.get(&to).copied().unwrap_or(u64::MAX);
        let full = |draft: &Draft| !draft.takes(&request, limits.requests, most);
        if self.open.get(&to).is_some_and(full)
            && let Some(draft) = self.open.remove(&to)
        {
            self.put(draft).await?;
        }
        let draft = match self.open.entry(to) {
            Entry::Occupied(draft) => draft.into_mut(),
            Entry::Vacant(place) => place.insert(Draft::new(addressee, store)?),
        };
        draft.push(key, &request, set_aside)?;
        Ok(None)
    }

    async fn put(&mut self, draft: Draft) -> Result<(), StageError> {
        let World { transport, store, .. } = self.driver.world;
        self.awaited.insert(draft.put(store, transport.run()).await?);
        self.sent = true;
        Ok(())
    }

    /// The batches that hold what the rows ask, and whether some of them are new.
    async fn close(mut self) -> Result<(BTreeSet<i64>, bool), StageError> {
        for draft in std::mem::take(&mut self.open).into_values() {
            self.put(draft).await?;
        }
        Ok((self.awaited, self.sent))
    }
}

/// A batch that is being written.
struct Draft {
    addressee: Addressee,
    path: PathBuf,
    file: BufWriter<File>,
    items: Vec<BatchItem>,
    keys: HashSet<CallKey>,
    bytes: u64,
    tokens: u64,
    set_aside: u64,
}

impl Draft {
    fn new(addressee: Addressee, store: &Store) -> Result<Draft, StageError> {
        let name = Hasher::new("draft 1").part(addressee.to_text().as_bytes()).finish().hex();
        let path = store.batch_file(&format!("{name}.draft"))?;
        let file = BufWriter::new(File::create(&path)?);
        let (items, keys) = (Vec::new(), HashSet::new());
        Ok(Draft { addressee, path, file, items, keys, bytes: 0, tokens: 0, set_aside: 0 })
    }

    /// Whether `request` fits in beside what is in it.
    fn takes(&self, request: &Request, requests: u64, tokens: u64) -> bool {
        (self.items.len() as u64) < requests
            && self.tokens + tokens_of(request) <= tokens
            && self.bytes + request.body.len() as u64 + FRAME <= BYTES
    }

    fn push(&mut self, key: CallKey, request: &Request, set_aside: u64) -> Result<(), StageError> {
        let (line, body) = self.addressee.line(key, request);
        self.file.write_all(&line)?;
        self.items.push(BatchItem {
            key,
            sample: request.sample,
            start: self.bytes + body as u64,
            length: request.body.len() as u64,
        });
        self.keys.insert(key);
        self.bytes += line.len() as u64;
        self.tokens += tokens_of(request);
        self.set_aside += set_aside;
        Ok(())
    }

    /// Notes the batch in the store, to be sent; gives its number there.
    async fn put(self, store: &Store, run: i64) -> Result<i64, StageError> {
        let file = self.file.into_inner().map_err(|error| error.into_error())?;
        file.sync_all()?;
        let at = now();
        // The same requests may be sent more than once: when they are is part of the name.
        let mut label = Hasher::new("batch 1");
        label.part(&run.to_le_bytes()).part(&at.to_le_bytes());
        for item in &self.items {
            label.part(&item.key.0.0);
        }
        let batch = OpenBatch {
            id: 0,
            label: label.finish().hex(),
            addressee: self.addressee.to_text(),
            remote: None,
            requests: self.items.len() as u64,
            tokens: self.tokens,
            set_aside: self.set_aside,
            run,
            at,
        };
        fs::rename(&self.path, store.batch_file(&batch.file_name())?)?;
        Ok(store.put_batch(&batch, self.items).await?)
    }
}

/// The tokens of a request, estimated.
fn tokens_of(request: &Request) -> u64 {
    Usage::most(request).input
}

/// Takes the answers of a batch that has ended.
struct Taking<'a> {
    driver: &'a Driver<'a>,
    batch: &'a OpenBatch,
    addressee: &'a Addressee,
    remote: &'a Remote,
    asking: Asking,
}

/// What came of a batch.
#[derive(Default)]
struct Took {
    answered: HashSet<CallKey>,
    faults: Vec<(CallKey, BatchFault)>,
    /// In billionths of a USD.
    spent: u64,
    /// The server will have no request of this kind.
    denied: Option<CallError>,
    /// A file of answers was not there, and some of its answers are nowhere else.
    missing: bool,
}

impl Took {
    /// How many requests have neither an answer nor a refusal that is one.
    fn undone(&self) -> usize {
        self.faults.iter().filter(|(_, fault)| fault.refused.is_none()).count()
    }

    fn add(&mut self, key: CallKey, taken: Outcome) {
        match taken {
            Outcome::Answered(cost) => {
                self.answered.insert(key);
                self.spent += cost;
            }
            Outcome::Fault(fault) => self.faults.push((key, fault)),
            Outcome::Denied(error) => {
                let message = error.to_string();
                self.faults.push((key, BatchFault { refused: None, message }));
                self.denied.get_or_insert(error);
            }
        }
    }
}

impl<'a> Taking<'a> {
    fn new(
        driver: &'a Driver<'a>,
        batch: &'a OpenBatch,
        addressee: &'a Addressee,
        remote: &'a Remote,
    ) -> Taking<'a> {
        Taking { driver, batch, addressee, remote, asking: driver.asking(Again::No) }
    }

    /// Stores every answer, and tells what has none.
    async fn all(&self, api: &BatchApi<'_>) -> Result<Took, StageError> {
        let store = &self.driver.world.store;
        let mut took = Took::default();
        for file in self.remote.answers() {
            let path = store.batch_file(&format!("{}.answers", self.batch.label))?;
            if api.fetch(file, &path).await? {
                self.file(&path, &mut took).await?;
                fs::remove_file(&path)?;
            } else {
                took.missing = true;
            }
        }
        let mut nowhere = false;
        let told: HashSet<CallKey> = took.faults.iter().map(|(key, _)| *key).collect();
        for call in store.batch_calls(self.batch.id)? {
            if !took.answered.contains(&call) && !told.contains(&call) {
                nowhere |= !self.driver.world.transport.is_recorded(call)?;
                let message = "the batch said nothing of it".to_owned();
                took.faults.push((call, BatchFault { refused: None, message }));
            }
        }
        // A file may be gone because a run that was cut off had taken it.
        took.missing &= nowhere;
        // Before the provider's copy goes.
        store.sync()?;
        Ok(took)
    }

    async fn file(&self, path: &Path, took: &mut Took) -> Result<(), StageError> {
        // What is not there any more cannot be held against its answer: it is asked again.
        let requests =
            File::open(self.driver.world.store.batch_file(&self.batch.file_name())?).ok();
        let mut lines = BufReader::new(File::open(path)?).split(b'\n');
        loop {
            let block = lines.by_ref().take(TOGETHER).collect::<Result<Vec<_>, _>>()?;
            if block.is_empty() {
                return Ok(());
            }
            let taken = block.iter().map(|line| self.line(line, requests.as_ref()));
            for (key, taken) in try_join_all(taken).await?.into_iter().flatten() {
                took.add(key, taken);
            }
        }
    }

    /// Takes a line; `None` where it is about no request of the batch.
    async fn line(
        &self,
        line: &[u8],
        requests: Option<&File>,
    ) -> Result<Option<(CallKey, Outcome)>, StageError> {
        let World { transport, store, .. } = self.driver.world;
        let Some(answer) = BatchAnswer::read(line) else { return Ok(None) };
        let key = answer.key;
        let item = store.batch_item(key)?.filter(|(batch, _)| *batch == self.batch.id);
        let Some((_, item)) = item else { return Ok(None) };
        let Some(request) = self.request(&item, requests) else {
            let message = "the file of the batch's requests is damaged".to_owned();
            return Ok(Some((key, Outcome::Fault(BatchFault { refused: None, message }))));
        };
        let (name, made) = (&self.remote.id, self.batch.run);
        let taken = transport.take(&request, answer, name, made, &self.asking).await;
        Ok(Some((key, taken?)))
    }

    /// A request as it was sent; `None` where it cannot be read any more.
    fn request(&self, item: &BatchItem, requests: Option<&File>) -> Option<Request> {
        let mut body = vec![0; usize::try_from(item.length).ok()?];
        requests?.read_exact_at(&mut body, item.start).ok()?;
        let request = self.addressee.request(body.into(), item.sample);
        (request.key() == item.key).then_some(request)
    }
}

/// Tells how what is under way goes on without this run.
fn tell_left(world: &World) -> Result<(), StoreError> {
    let open = world.store.open_batches()?;
    let sent = open.iter().filter(|batch| batch.remote.is_some());
    let (batches, requests) =
        sent.fold((0, 0), |(batches, requests), it| (batches + 1, requests + it.requests));
    if batches > 0 {
        let plural = if batches == 1 { "batch goes" } else { "batches go" };
        (world.note)(format!(
            "{batches} {plural} on at the provider ({requests} requests); run again to take the \
             answers, nothing is sent twice"
        ));
    }
    Ok(())
}
