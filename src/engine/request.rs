//! What rows ask, word by word, and one asking in passing: both beside the runs. No output, no table and
//! no memo comes of it; the answers to calls are kept like those of any run.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use futures::future::join_all;
use serde::Serialize;
use thiserror::Error;

use super::Summary;
use super::explain::{driver, find_row};
use super::history::RunRecord;
use super::look::{Look, LookError};
use super::rows::asked;
use super::run::RunHandle;
use crate::clients::{
    Again, Answer, Asking, CallError, Completion, Limits, Request, Tally, Transport, Usage, Wait,
    secret_in,
};
use crate::pipeline::{InputRef, Pipeline, Stage};
use crate::stages::{Ask, RowWork, Server, Work};
use crate::store::{Lock, Store, StoreError};
use crate::table::{Row, show_key};

/// The rows that are meant.
#[derive(Clone, Copy, Debug)]
pub enum Which<'a> {
    /// The one of this key, or of these fields.
    Row(&'a str),
    /// The first ones that are asked about.
    First(usize),
}

/// A row with what it asks.
pub struct AskedRow {
    /// For people.
    pub key: String,
    pub row: Row,
    pub ask: Ask,
}

impl Stage {
    /// How the stage asks about its rows; `None` where it asks nobody.
    fn asks(&self) -> Option<&RowWork> {
        match &self.compiled.work {
            Work::Rows(work) if work.stage.calls() => Some(work),
            _ => None,
        }
    }

    /// Whether the stage asks models.
    pub fn asks_models(&self) -> bool {
        let servers = self.asks().map(|work| work.stage.servers()).unwrap_or_default();
        servers.iter().any(|server| matches!(server, Server::Model { .. }))
    }
}

/// What rows of stage `at` ask, by the table that it reads as it stands. Sends nothing.
pub fn asked_rows(
    look: &Look<'_>,
    at: usize,
    which: Which<'_>,
) -> Result<Vec<AskedRow>, LookError> {
    let stage = &look.pipeline.stages[at];
    let name = &stage.name;
    let (Some(work), [input]) = (stage.asks(), &stage.inputs[..]) else {
        let kind = stage.kind.name();
        return Err(LookError::NoRow(format!("`{name}` is of kind {kind}: its rows ask nobody")));
    };
    let input_name = look.pipeline.input_name(input);
    let table = look.last_input(input)?;
    let key: Vec<String> = match input {
        _ if !work.shape.key.is_empty() => work.shape.key.clone(),
        InputRef::Stage(at) => look.pipeline.stages[*at].compiled.key.clone(),
        // Rows that people wrote are told apart by all of their fields.
        _ => table.columns.iter().map(|column| column.name.clone()).collect(),
    };
    let key = &key;
    let of = |row: Row, ask: Ask| AskedRow { key: show_key(&row, key), row, ask };
    let cannot = |row: &Row, error: String| {
        let key = show_key(row, key);
        LookError::NoRow(format!("`{name}` cannot ask about {key}: {error}"))
    };
    match which {
        Which::Row(wanted) => {
            let made = match look.table(at)? {
                Some(made) => find_row(look, &made, &stage.compiled.key, wanted)?,
                None => None,
            };
            let row = match driver(look, work, &table, made.as_ref(), wanted)? {
                None => find_row(look, &table, key, wanted)?,
                found => found,
            };
            let row = row.ok_or_else(|| {
                let what = format!("`{input_name}`, which `{name}` reads, has no row `{wanted}`");
                let key = match &key[..] {
                    [] => "name one by its fields: `FIELD=VALUE`".to_owned(),
                    key => format!("its key is {}", key.join(",")),
                };
                LookError::NoRow(format!("{what}; {key}"))
            })?;
            match asked(work, &row) {
                Ok(Some((_, ask))) => Ok(vec![of(row, ask)]),
                Ok(None) => Err(cannot(&row, "its `where` passes over it".into())),
                Err(error) => Err(cannot(&row, error.to_string())),
            }
        }
        Which::First(most) => {
            let mut found = Vec::new();
            for row in look.store.rows(&table) {
                if found.len() == most {
                    break;
                }
                let row = row?;
                match asked(work, &row) {
                    Ok(Some((_, ask))) => found.push(of(row, ask)),
                    Ok(None) => {}
                    Err(error) => return Err(cannot(&row, error.to_string())),
                }
            }
            match found.is_empty() {
                true => Err(LookError::NoRow(format!("`{name}` has no row to ask about"))),
                false => Ok(found),
            }
        }
    }
}

/// The answer that is recorded for a request.
pub fn recorded(look: &Look<'_>, request: &Request) -> Result<Option<Answer>, LookError> {
    Ok(look.transport.recorded(request)?)
}

/// How to ask in passing.
#[derive(Clone, Debug, Default)]
pub struct TryOptions {
    /// Make no call.
    pub offline: bool,
    /// Wait for a run in the folder to end.
    pub wait: bool,
    /// What was asked for, for the history.
    pub command: String,
}

/// What a model said to one request of a row.
#[derive(Clone, Debug, Serialize)]
pub struct Said {
    /// The model's name at its server, and which of several answers it is, from 0 on.
    pub model: String,
    pub sample: u32,
    /// The call's key.
    pub call: String,
    /// Whether it was asked for now, or recorded before.
    pub asked_now: bool,
    /// Who gave it, and in which run; 0 for what a cassette holds.
    pub source: String,
    pub given_in_run: i64,
    pub text: String,
    /// The answer's fields, where it is good.
    pub fields: Option<Row>,
    /// What is wrong with it.
    pub faults: Vec<String>,
    pub tokens_in: u64,
    pub tokens_in_cached: u64,
    pub tokens_out: u64,
    /// What it cost when it was given, where the price is known.
    pub cost_usd: Option<f64>,
}

/// What came of a row's requests: an answer to each, or why there is none.
pub struct TriedRow {
    pub key: String,
    pub answers: Vec<Result<Said, CallError>>,
}

/// Rows that cannot be asked about in passing.
#[derive(Debug, Error)]
pub enum TryError {
    #[error(transparent)]
    Look(#[from] LookError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("the environment variable {variable} is not set; {of} needs it")]
    Secret { variable: String, of: String },
}

/// Asks stage `at` about each of `rows` once: what is recorded is taken, the rest is asked for. That
/// writes to the store, so it is a run of its own in the history, and no other run may work meanwhile.
/// `begun` is handed the means to stop.
pub async fn try_rows(
    look: &Look<'_>,
    at: usize,
    rows: &[AskedRow],
    options: &TryOptions,
    waiting: impl FnOnce(&str),
    on_wait: impl Fn(Wait) + Send + Sync + 'static,
    begun: impl FnOnce(RunHandle),
) -> Result<Vec<TriedRow>, TryError> {
    let stage = &look.pipeline.stages[at];
    let offline = options.offline || look.pipeline.profile.offline;
    let known = |request: &Request| Ok::<_, CallError>(look.transport.recorded(request)?.is_some());
    let requests = || rows.iter().flat_map(|row| &row.ask.requests);
    let is_known = requests().map(known).collect::<Result<Vec<bool>, _>>()?;
    // Nothing is sent and nothing written: a run that works now is not in the way.
    if offline || is_known.iter().all(|known| *known) {
        let transport = offline_transport(look)?;
        let asking = Asking::new(Arc::new(transport), Arc::default(), Again::No);
        return Ok(ask_all(stage, rows, &look.store, &asking).await);
    }
    let mut secrets = stage.compiled.secrets.iter().filter(|secret| secret.required);
    if let Some(secret) = secrets.find(|secret| secret_in(&secret.variable).is_none()) {
        let (variable, of) = (secret.variable.clone(), secret.of.clone());
        return Err(TryError::Secret { variable, of });
    }
    let cache = look.pipeline.cache();
    let _lock = take_lock(&cache, options.wait, waiting)?;
    let store = Store::open(&cache)?;
    let start = Instant::now();
    let run = store.begin_run().await?;
    let cassette = look.pipeline.cassette.clone();
    let transport = Transport::new(store.clone(), cassette, false, run, Limits::default(), on_wait);
    let transport = Arc::new(transport?);
    begun(RunHandle { transport: transport.clone() });
    let tally = Arc::new(Tally::default());
    let asking = Asking::new(transport.clone(), tally.clone(), Again::No);
    let tried = ask_all(stage, rows, &store, &asking).await;
    let mut record = record(look.pipeline, &tally, options);
    record.seconds = start.elapsed().as_secs_f64();
    record.interrupted = transport.is_stopped();
    store.end_run(run, record.to_json()).await?;
    store.sync()?;
    Ok(tried)
}

fn take_lock(cache: &Path, wait: bool, waiting: impl FnOnce(&str)) -> Result<Lock, StoreError> {
    match wait {
        false => Lock::take(cache),
        true => Lock::wait(cache, waiting),
    }
}

/// What sends nothing: the answers that the look sees.
fn offline_transport(look: &Look<'_>) -> Result<Transport, CallError> {
    let (store, cassette) = (look.store.clone(), look.pipeline.cassette.clone());
    Transport::new(store, cassette, true, 0, Limits::default(), |_| {})
}

/// What the history keeps: what was called and spent, and no stage, as none has another table.
fn record(pipeline: &Pipeline, tally: &Tally, options: &TryOptions) -> RunRecord {
    use std::sync::atomic::Ordering::Relaxed;
    let summary = Summary {
        calls: tally.calls.load(Relaxed),
        calls_cached: tally.calls_cached.load(Relaxed),
        tokens_in: tally.tokens_in.load(Relaxed),
        tokens_in_cached: tally.tokens_in_cached.load(Relaxed),
        tokens_cache_written: tally.tokens_cache_written.load(Relaxed),
        tokens_out: tally.tokens_out.load(Relaxed),
        cost_usd: tally.cost_usd(),
        ..Summary::default()
    };
    RunRecord::new(&summary, &options.command, &pipeline.profile.name, true)
}

/// All side by side: what holds them back are the limits of their models.
async fn ask_all(
    stage: &Stage,
    rows: &[AskedRow],
    store: &Store,
    asking: &Asking,
) -> Vec<TriedRow> {
    let tried = rows.iter().map(|row| async move {
        let requests = row.ask.requests.iter();
        let asked = requests.map(|request| ask_once(stage, row, request, store, asking));
        TriedRow { key: row.key.clone(), answers: join_all(asked).await }
    });
    join_all(tried).await
}

async fn ask_once(
    stage: &Stage,
    row: &AskedRow,
    request: &Request,
    store: &Store,
    asking: &Asking,
) -> Result<Said, CallError> {
    let is_recorded = asking.transport.is_recorded(request.key())?;
    if !is_recorded && store.batch_item(request.key())?.is_some() {
        let what = "it is on its way in one, and the next run takes its answer";
        return Err(CallError::NotInBatch(what.into()));
    }
    let answer = asking.transport.call(request, asking).await?;
    let completion = Completion::of(&answer.json()?);
    let judged = stage.asks().and_then(|work| work.stage.judged(&row.row, &completion));
    let (fields, faults) = match judged {
        Some(Ok(fields)) => (Some(fields), Vec::new()),
        Some(Err(faults)) => (None, faults),
        None => (None, Vec::new()),
    };
    let usage: Usage = completion.usage;
    Ok(Said {
        model: request.pool.clone(),
        sample: request.sample,
        call: answer.key.0.hex(),
        asked_now: !answer.cached,
        source: answer.source.0,
        given_in_run: answer.given.run,
        text: completion.refusal.unwrap_or(completion.said),
        fields,
        faults,
        tokens_in: usage.input,
        tokens_in_cached: usage.cached_input,
        tokens_out: usage.output,
        cost_usd: request.price.map(|price| usage.cost_at(&price) as f64 / 1e9),
    })
}
