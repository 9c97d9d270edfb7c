//! The one way of calls to the network. A request is looked up in the cassette and the cache; only
//! then does it wait for its limits, leave, and be tried again where it failed in passing. What comes
//! back is stored before anyone sees it.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use reqwest::header::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;

use super::asking::{Again, Asking};
use super::bucket::{self, Level};
use super::budget::{Budget, Limits, Reserved};
use super::call::{
    ATTEMPTS, Answer, CallError, MOVED, Method, Request, Service, Stop, TOOK_MS, is_search,
};
use super::cassette::{Cassette, recorded_call};
use super::completion::is_response;
use super::limiter::{Expected, Held, Left, Limiter, Permit};
use super::troubles::Troubles;
use super::usage::Usage;
use crate::store::{CallKey, CallRecord, Given, Keep, Source, Store};
use crate::table::Hasher;

/// Headers that are kept with an answer.
const KEPT_HEADERS: [&str; 6] =
    ["content-type", "etag", "last-modified", "link", "x-github-media-type", "x-request-id"];
/// Headers that are kept with a model's answer, and say nothing of what it says.
const KEPT_OF_MODELS: [&str; 11] = [
    "openai-processing-ms",
    "openai-version",
    "x-ratelimit-limit-project-tokens",
    "x-ratelimit-limit-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-project-tokens",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-project-tokens",
    "x-ratelimit-reset-requests",
    "x-ratelimit-reset-tokens",
];
/// Notes, under a name of ours, which credentials a refusal was given to.
const CREDENTIALS: &str = "flow-credentials";
/// How often a server may take too long over a request that can be asked in smaller parts.
const GIVES_WAY: u32 = 2;
/// How often a request is sent on to another address.
pub(super) const MOST_MOVES: u32 = 5;
/// What asks a server for nothing but news: the header that an answer came with, the one to send.
const CONDITIONS: [(&str, &str); 2] =
    [("etag", "if-none-match"), ("last-modified", "if-modified-since")];
const NOT_MODIFIED: u16 = 304;
/// How often a limit is waited for before the request counts as failed.
pub(super) const LIMIT_WAITS: u32 = 20;
/// No server's word is taken for a longer wait.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// What a stage has asked so far.
#[derive(Debug, Default)]
pub struct Tally {
    pub calls: AtomicU64,
    pub calls_cached: AtomicU64,
    pub tokens_in: AtomicU64,
    pub tokens_in_cached: AtomicU64,
    pub tokens_cache_written: AtomicU64,
    pub tokens_out: AtomicU64,
    /// In billionths of a USD.
    cost: AtomicU64,
    taken: Mutex<BTreeMap<String, Taken>>,
}

/// What the answers of a model took, of which others can be foreseen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Taken {
    pub answers: u64,
    /// Of the bodies of their requests.
    pub bytes: u64,
    pub tokens_in: u64,
    pub tokens_out: u64,
}

impl Tally {
    /// Counts what the answer to `request` took.
    pub(super) fn add(&self, request: &Request, usage: Usage) {
        for (count, more) in [
            (&self.tokens_in, usage.input),
            (&self.tokens_in_cached, usage.cached_input),
            (&self.tokens_cache_written, usage.cache_written),
            (&self.tokens_out, usage.output),
            (&self.cost, usage.cost(request)),
        ] {
            count.fetch_add(more, Ordering::Relaxed);
        }
        if usage.input + usage.output > 0 {
            let mut taken = self.taken.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let taken = taken.entry(request.pool.clone()).or_default();
            taken.answers += 1;
            taken.bytes += request.body.len() as u64;
            taken.tokens_in += usage.input;
            taken.tokens_out += usage.output;
        }
    }

    pub fn cost_usd(&self) -> f64 {
        self.cost.load(Ordering::Relaxed) as f64 / 1e9
    }

    /// What the answers took, by the model that was asked.
    pub fn taken(&self) -> BTreeMap<String, Taken> {
        self.taken.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}

/// A pause that a server asked for.
#[derive(Clone, Debug)]
pub struct Wait {
    pub server: String,
    pub why: String,
    pub wait: Duration,
}

/// Shared by everything that calls.
pub struct Transport {
    http: reqwest::Client,
    store: Store,
    cassette: Option<Arc<Cassette>>,
    offline: bool,
    limiter: Limiter,
    troubles: Troubles,
    /// Where repositories that have moved are: the beginning of their addresses, then and now.
    moved: Mutex<HashMap<String, String>>,
    flights: Mutex<HashMap<CallKey, Arc<tokio::sync::Mutex<()>>>>,
    /// The number of the run.
    run: i64,
    budget: Budget,
    stopped: AtomicBool,
    stop: watch::Sender<Option<Stop>>,
    on_wait: Box<dyn Fn(Wait) + Send + Sync>,
}

pub(super) enum Failure {
    /// Worth another attempt.
    Passing {
        what: String,
        /// The server took too long over it.
        slow: bool,
    },
    /// A limit: wait, then another attempt.
    Limited {
        why: String,
        wait: Option<Duration>,
        /// The server asks for a slower pace altogether.
        slower: bool,
    },
    /// It is to be asked elsewhere; for good, or this time.
    Moved {
        to: String,
        for_good: bool,
    },
    Final(CallError),
}

impl Transport {
    pub fn new(
        store: Store,
        cassette: Option<Arc<Cassette>>,
        offline: bool,
        run: i64,
        limits: Limits,
        on_wait: impl Fn(Wait) + Send + Sync + 'static,
    ) -> Result<Transport, CallError> {
        Ok(Transport {
            http: http_client()?,
            store,
            cassette,
            offline,
            limiter: Limiter::default(),
            troubles: Troubles::default(),
            moved: Mutex::default(),
            flights: Mutex::new(HashMap::new()),
            run,
            budget: Budget::new(limits),
            stopped: AtomicBool::new(false),
            stop: watch::Sender::new(None),
            on_wait: Box::new(on_wait),
        })
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// The one HTTP client, for what builds requests with it.
    pub(super) fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// From now on no call leaves; those under way land. The first reason stands.
    pub fn stop(&self, why: Stop) {
        self.stop.send_if_modified(|stop| {
            let first = stop.is_none();
            stop.get_or_insert(why);
            first
        });
        self.stopped.store(true, Ordering::Release);
    }

    /// Whether the run is to stop.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Why the run is to stop.
    pub fn stopped(&self) -> Option<Stop> {
        self.stop.borrow().clone()
    }

    /// Whether no call may be made at all.
    pub fn is_offline(&self) -> bool {
        self.offline
    }

    /// Which models have failed too often in this run.
    pub fn troubles(&self) -> &Troubles {
        &self.troubles
    }

    /// The number of the run.
    pub fn run(&self) -> i64 {
        self.run
    }

    /// The recorded answer to `request`, if there is one.
    pub fn recorded(&self, request: &Request) -> Result<Option<Answer>, CallError> {
        let key = request.key();
        let Some(record) = self.record(key)? else { return Ok(None) };
        let noted = record.headers.get(CREDENTIALS).map(String::as_str).unwrap_or("");
        let ours = credentials(request);
        if !self.offline && !noted.is_empty() && noted != ours {
            // Another token may see what that one could not.
            return Ok(None);
        }
        Ok(Some(Answer {
            key,
            status: record.status,
            headers: record.headers,
            body: record.body,
            source: record.source,
            given: record.given,
            cached: true,
        }))
    }

    /// What is recorded under a key, whoever may ask for it.
    pub fn record(&self, key: CallKey) -> Result<Option<CallRecord>, CallError> {
        Ok(recorded_call(self.cassette.as_deref(), &self.store, key)?)
    }

    /// Whether an answer is recorded; reads none that is stored.
    pub fn is_recorded(&self, key: CallKey) -> Result<bool, CallError> {
        let recorded = self.cassette.as_ref().is_some_and(|cassette| cassette.has(key));
        Ok(recorded || self.store.has_call(key)?)
    }

    /// The answer to `request`: recorded, or asked for now and stored. Requests that are the same
    /// share one call.
    pub async fn call(&self, request: &Request, asking: &Asking) -> Result<Answer, CallError> {
        let key = request.key();
        let alone = self.alone(key).await;
        let result = match self.recorded(request) {
            Ok(Some(answer)) if self.is_good(&answer, asking.again(key)) => {
                asking.tally.calls_cached.fetch_add(1, Ordering::Relaxed);
                Ok(answer)
            }
            Ok(Some(answer)) => self.call_again(request, answer, asking).await,
            Ok(None) => match self.send(request, None, asking).await {
                Ok(record) => self.keep(request, record, Keep::First).await,
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        drop(alone);
        if let Ok(answer) = &result {
            asking.saw(answer);
        }
        result
    }

    /// Whether a recorded answer is as new as it is wanted.
    pub fn is_good(&self, answer: &Answer, again: Again) -> bool {
        match again {
            Again::No => true,
            Again::Yes => answer.given.run == self.run,
            Again::After(age) => {
                // An age that cannot be told (the clock was set back) is too old: to ask whether
                // something has changed costs little.
                let age = age.as_millis().try_into().unwrap_or(i64::MAX);
                answer.given.run == self.run || (0..age).contains(&(now() - answer.given.at))
            }
        }
    }

    /// Asks whether a recorded answer still holds. Where that cannot be told it stands.
    async fn call_again(
        &self,
        request: &Request,
        known: Answer,
        asking: &Asking,
    ) -> Result<Answer, CallError> {
        match self.send(request, Some(&known.headers), asking).await {
            Ok(record) => self.renew(request, known, record, asking).await,
            Err(error) if error.stops_the_stage() => Err(error),
            Err(error) => {
                asking.stands(format!("{}: {error}", request.shown()));
                Ok(known)
            }
        }
    }

    /// Holds a new answer against the recorded one: only one that differs takes its place.
    pub(super) async fn renew(
        &self,
        request: &Request,
        known: Answer,
        record: CallRecord,
        asking: &Asking,
    ) -> Result<Answer, CallError> {
        let link = |headers: &BTreeMap<String, String>| headers.get("link").cloned();
        let unchanged = record.status == NOT_MODIFIED;
        let same = unchanged || (record.status == known.status && record.body == known.body);
        let moved = record.headers.contains_key("link") || !unchanged;
        if same && (!moved || link(&record.headers) == link(&known.headers)) {
            let key = request.key();
            // One from a cassette is not in the store; then there is nothing to note.
            self.store.confirm_call(key, record.given).await?;
            return Ok(Answer { given: record.given, ..known });
        }
        let mut record = record;
        if unchanged {
            record.status = known.status;
            record.body = known.body;
            for (name, value) in known.headers {
                record.headers.entry(name).or_insert(value);
            }
        }
        asking.changed();
        self.keep(request, record, Keep::Instead).await
    }

    /// Waits until nobody else asks for `key`; while the guard is held nobody else will.
    pub(super) async fn alone(&self, key: CallKey) -> Flight<'_> {
        let flight = self.flights().entry(key).or_default().clone();
        Flight { transport: self, key, guard: Some(flight.lock_owned().await) }
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<CallKey, Arc<tokio::sync::Mutex<()>>>> {
        self.flights.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Stores an answer under the key of `request`.
    pub(super) async fn keep(
        &self,
        request: &Request,
        record: CallRecord,
        keep: Keep,
    ) -> Result<Answer, CallError> {
        let key = request.key();
        self.store.put_call(key, &record, keep).await?;
        Ok(Answer {
            key,
            status: record.status,
            headers: record.headers,
            body: record.body,
            source: record.source,
            given: record.given,
            cached: false,
        })
    }

    /// Sends without looking anything up and without storing: for what is only a way of sending.
    /// `known` are the headers of an answer that may still hold.
    pub(super) async fn send(
        &self,
        request: &Request,
        known: Option<&BTreeMap<String, String>>,
        asking: &Asking,
    ) -> Result<CallRecord, CallError> {
        if self.offline {
            let key = request.key().0.short();
            return Err(CallError::Offline { shown: request.shown(), key });
        }
        if asking.holds(request.key()) {
            return Err(self.unanswered(request.key())?);
        }
        let tally = &asking.tally;
        let lane = lane(request);
        let resource = resource(request);
        let mut passing = 0;
        let mut slow = 0;
        let mut limited = 0;
        let mut moves = 0;
        let mut url = self.moved_to(&request.url);
        loop {
            let outcome = {
                let tell = |Held { why, wait }| {
                    (self.on_wait)(Wait { server: lane.clone(), why, wait });
                };
                let enter = self.limiter.enter(&lane, resource, request.pace, tell);
                let permit = self.unless_stopped(enter).await?;
                let reserved = match self.budget.reserve(request) {
                    Ok(reserved) => reserved,
                    Err(why) => {
                        self.stop(why.clone());
                        return Err(CallError::Stopped(why));
                    }
                };
                tally.calls.fetch_add(1, Ordering::Relaxed);
                asking.sent();
                // An answer that is no good was paid for like any other.
                let mut usage = Usage::default();
                let outcome = self.attempt(request, &url, known, &permit, &mut usage).await;
                self.budget.settle(reserved, usage.cost(request));
                tally.add(request, usage);
                match &outcome {
                    Ok(_) => permit.answered(usage.input + usage.output),
                    Err(Failure::Limited { slower: true, .. }) => permit.slot().slowed(),
                    Err(Failure::Limited { .. }) => permit.slot().limited(),
                    Err(Failure::Passing { .. }) => permit.slot().troubled(),
                    Err(Failure::Moved { .. } | Failure::Final(_)) => {}
                }
                drop(permit);
                outcome
            };
            match outcome {
                Ok(mut record) => {
                    if request.service == Service::Model {
                        let attempts = (passing + limited + 1).to_string();
                        record.headers.insert(ATTEMPTS.to_owned(), attempts);
                    }
                    if url != request.url {
                        record.headers.insert(MOVED.to_owned(), url);
                    }
                    return Ok(record);
                }
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Moved { to, for_good }) => {
                    moves += 1;
                    if !same_server(&to, &url) || moves > MOST_MOVES {
                        let what = match moves > MOST_MOVES {
                            true => format!("{} is sent on and on, last to {to}", request.shown()),
                            false => {
                                format!("{} is sent on to another server: {to}", request.shown())
                            }
                        };
                        return Err(CallError::Protocol(what));
                    }
                    if for_good {
                        self.remember_move(&url, &to);
                    }
                    url = to;
                }
                Err(Failure::Passing { what: last, slow: took_too_long }) => {
                    passing += 1;
                    slow += u32::from(took_too_long);
                    tracing::debug!(call = request.shown(), passing, last, "failed in passing");
                    if passing >= request.attempts || (request.gives_way && slow >= GIVES_WAY) {
                        let slow = slow > 0;
                        return Err(CallError::Transient { attempts: passing, last, slow });
                    }
                    self.unless_stopped(tokio::time::sleep(backoff(passing, request))).await?;
                }
                Err(Failure::Limited { why, wait, .. }) => {
                    limited += 1;
                    if limited > LIMIT_WAITS {
                        return Err(CallError::Transient {
                            attempts: limited,
                            last: why,
                            slow: false,
                        });
                    }
                    let wait = wait.unwrap_or_else(|| unannounced_wait(request.service, limited));
                    if self.limiter.pause(&lane, request.pace, wait) {
                        (self.on_wait)(Wait { server: lane.clone(), why, wait });
                    }
                }
            }
        }
    }

    /// Whether what is recorded answers `request`, as new as it is wanted.
    pub fn is_answered(&self, request: &Request, again: Again) -> Result<bool, CallError> {
        match again {
            Again::No => self.is_recorded(request.key()),
            again => Ok(self.recorded(request)?.is_some_and(|it| self.is_good(&it, again))),
        }
    }

    /// Sets aside what `request` can cost at the most, and counts it as a call.
    pub fn reserve(&self, request: &Request) -> Result<Reserved, Stop> {
        self.budget.reserve(request)
    }

    /// Settles what was set aside with what was spent, in billionths of a USD.
    pub fn settle(&self, reserved: Reserved, spent: u64) {
        self.budget.settle(reserved, spent);
    }

    /// Gives back calls that were not made after all, with what was set aside for them.
    pub fn give_back(&self, calls: u64, reserved: Reserved) {
        self.budget.give_back(calls, reserved);
    }

    /// Makes known that requests like this one will come, so that they are spread over what a server
    /// says is left.
    pub fn expect(&self, request: &Request) -> Expected {
        self.limiter.expect(&lane(request), resource(request), request.pace)
    }

    /// Where `url` is, as far as it has been told.
    fn moved_to(&self, url: &str) -> String {
        let moved = self.moved.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let found = repository(url).and_then(|end| Some((moved.get(&url[..end])?, &url[end..])));
        found.map_or_else(|| url.to_owned(), |(now, rest)| format!("{now}{rest}"))
    }

    /// A repository that goes by another name now is asked for under that one from now on.
    fn remember_move(&self, from: &str, to: &str) {
        let Some(end) = repository(from) else { return };
        let (old, rest) = from.split_at(end);
        // An issue may have moved alone, and have the same number where it is now.
        let is_issue = rest.strip_prefix("/issues/").is_some_and(|number| {
            !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
        });
        if let Some(new) = to.strip_suffix(rest).filter(|_| !is_issue) {
            let mut moved = self.moved.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            moved.insert(old.to_owned(), new.to_owned());
        }
    }

    /// Does `work` unless the run stops first.
    pub async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, CallError> {
        let mut stop = self.stop.subscribe();
        let stopped = async {
            let why = stop.wait_for(Option::is_some).await.map(|why| why.clone());
            CallError::Stopped(why.ok().flatten().unwrap_or(Stop::Interrupted))
        };
        tokio::select! {
            biased;
            why = stopped => Err(why),
            done = work => Ok(done),
        }
    }

    async fn attempt(
        &self,
        request: &Request,
        url: &str,
        known: Option<&BTreeMap<String, String>>,
        permit: &Permit,
        usage: &mut Usage,
    ) -> Result<CallRecord, Failure> {
        let method = match request.method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
        };
        let mut builder = self
            .http
            .request(method, url)
            .header("accept", &request.accept)
            .timeout(request.timeout);
        if let Some(version) = &request.api_version {
            builder = builder.header("x-github-api-version", version);
        }
        match (&request.auth, secret(request)) {
            (_, Some(secret)) => builder = builder.bearer_auth(secret),
            // REST works without a token; what does not is told before the run.
            (Some(_), None) if request.service == Service::Github => {}
            (Some(variable), None) => {
                return Err(Failure::Final(CallError::NoSecret(variable.clone())));
            }
            (None, None) => {}
        }
        let known = known.filter(|_| request.method == Method::Get);
        for (name, condition) in CONDITIONS {
            if let Some(value) = known.and_then(|headers| headers.get(name)) {
                builder = builder.header(condition, value);
            }
        }
        if request.method == Method::Post {
            builder = builder.header("content-type", "application/json").body(request.body.clone());
        }
        let began = Instant::now();
        let response = builder.send().await.map_err(lost)?;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let body = response.bytes().await.map_err(lost)?;
        if request.service == Service::Github
            && let Some((points, window, reset)) = quota(&headers)
        {
            let cost = point_cost(request, &body);
            permit.told(Left { points, window, reset, cost });
        }
        if request.service == Service::Model {
            permit.levels([level(&headers, "requests"), tokens_level(&headers)]);
            *usage = Usage::of_body(&body);
        }
        if let Some(to) = moved(request, status, &headers, url) {
            return Err(Failure::Moved { to, for_good: matches!(status, 301 | 308) });
        }
        if status != NOT_MODIFIED || known.is_none() {
            judge(request, status, &headers, &body)?;
        }
        let mut kept: BTreeMap<String, String> = KEPT_HEADERS
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), text(&headers, name)?.to_owned())))
            .collect();
        if status == 404 {
            kept.extend([noted_credentials(request)]);
        }
        if request.service == Service::Model {
            let of_model = KEPT_OF_MODELS.iter();
            let found = of_model.filter_map(|name| Some((*name, text(&headers, name)?)));
            kept.extend(found.map(|(name, value)| (name.to_owned(), value.to_owned())));
            kept.insert(TOOK_MS.to_owned(), began.elapsed().as_millis().to_string());
        }
        let source = text(&headers, "x-flow-source").unwrap_or(match request.service {
            Service::Github => "github",
            Service::Model => "model",
        });
        Ok(CallRecord {
            method: request.method.as_str().into(),
            url: request.url.clone(),
            accept: request.accept.clone(),
            request: request.body.clone(),
            status,
            headers: kept,
            body,
            source: Source(source.to_owned()),
            given: Given { at: now(), run: self.run },
        })
    }
}

pub(super) fn http_client() -> Result<reqwest::Client, CallError> {
    // A second install is refused, and the first one stands: both are fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .user_agent(concat!("flow/", env!("CARGO_PKG_VERSION")))
        // Each address is asked under the limits, and a move is remembered.
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| CallError::Protocol(format!("no HTTP client: {error}")))
}

/// Milliseconds since 1970.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis().try_into().unwrap_or(i64::MAX))
}

/// A call that only its holder makes.
pub(super) struct Flight<'a> {
    transport: &'a Transport,
    key: CallKey,
    guard: Option<tokio::sync::OwnedMutexGuard<()>>,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut flights = self.transport.flights();
        self.guard.take();
        // Nobody but the map holds it: nobody waits for this call.
        if flights.get(&self.key).is_some_and(|flight| Arc::strong_count(flight) == 1) {
            flights.remove(&self.key);
        }
    }
}

/// Which limits a request falls under: its server, its key, and its pool.
fn lane(request: &Request) -> String {
    let rest = request.url.split_once("://").map_or(request.url.as_str(), |(_, rest)| rest);
    let server = rest.split(['/', '?']).next().unwrap_or(rest);
    let names = [request.pool.as_str(), request.auth.as_deref().unwrap_or_default()];
    let names: Vec<&str> = names.into_iter().filter(|name| !name.is_empty()).collect();
    match names.is_empty() {
        true => server.to_owned(),
        false => format!("{server} ({})", names.join(", ")),
    }
}

/// What GitHub counts apart: searches, GraphQL, and the rest.
fn resource(request: &Request) -> &'static str {
    let path = request.url.split(['?', '#']).next().unwrap_or_default();
    match (request.service, request.method) {
        (Service::Model, _) => "",
        (Service::Github, Method::Post) => "graphql",
        (Service::Github, _) if is_search(path) && path.ends_with("/code") => "code_search",
        (Service::Github, _) if is_search(path) => "search",
        (Service::Github, _) => "core",
    }
}

/// Where the part of an address ends that names its repository.
fn repository(url: &str) -> Option<usize> {
    let start = url.find("/repos/")? + "/repos/".len();
    let owner = start + url[start..].find('/')? + 1;
    let rest = &url[owner..];
    Some(owner + rest.find(['/', '?']).unwrap_or(rest.len()))
}

/// Whether a token for `base` may be shown to the server of `url`.
pub(super) fn same_server(url: &str, base: &str) -> bool {
    let server = |url: &str| {
        let (scheme, rest) = url.split_once("://")?;
        Some((scheme.to_lowercase(), rest.split(['/', '?']).next()?.to_lowercase()))
    };
    match (server(url), server(base)) {
        // The same server, asked in a safer way.
        (Some((_, url)), Some((base_scheme, base))) if base_scheme == "http" => {
            url.split(':').next() == base.split(':').next() && (url == base || !url.contains(':'))
        }
        (Some(url), Some(base)) => url == base,
        _ => false,
    }
}

/// Where a request is sent on to.
pub(super) fn moved(
    request: &Request,
    status: u16,
    headers: &HeaderMap,
    url: &str,
) -> Option<String> {
    let follows = match request.method {
        Method::Get => matches!(status, 301 | 302 | 303 | 307 | 308),
        Method::Post => matches!(status, 307 | 308),
    };
    let to = text(headers, "location").filter(|_| follows)?;
    Some(reqwest::Url::parse(url).ok()?.join(to).ok()?.into())
}

/// What a server says is left of its quota, until when, and how long that is.
fn quota(headers: &HeaderMap) -> Option<(u64, u64, Duration)> {
    let number = |name: &str| text(headers, name)?.parse::<u64>().ok();
    // Some that stand between write it in milliseconds.
    let seconds = |time: u64| if time > 100_000_000_000 { time / 1000 } else { time };
    let points = number("x-ratelimit-remaining")?;
    // By the server's own clock, where it tells it: ours may be wrong.
    let there = text(headers, "date").and_then(|date| httpdate::parse_http_date(date).ok());
    let now = there.unwrap_or_else(SystemTime::now).duration_since(UNIX_EPOCH).ok()?.as_secs();
    let end = seconds(number("x-ratelimit-reset")?);
    let reset = end.saturating_sub(now).saturating_add(1);
    Some((points, end, LONGEST_WAIT.min(Duration::from_secs(reset))))
}

/// What a provider says is left of its requests, or of its tokens.
fn level(headers: &HeaderMap, of: &str) -> Option<Level> {
    let header = |what: &str| text(headers, &format!("x-ratelimit-{what}-{of}"));
    let number = |what: &str| header(what)?.parse::<f64>().ok().filter(|it| it.is_finite());
    let (limit, left) = (number("limit")?, number("remaining")?);
    let reset = bucket::duration(header("reset")?)?;
    (limit >= 1.0 && left >= 0.0).then_some(Level { limit, left: left.min(limit), reset })
}

/// What is left of the tokens: a project may have a limit of its own beside the organisation's, and
/// what has less left is what refuses the next request.
fn tokens_level(headers: &HeaderMap) -> Option<Level> {
    let levels = ["tokens", "project-tokens"].into_iter().filter_map(|of| level(headers, of));
    levels.min_by(|one, other| one.left.total_cmp(&other.left))
}

/// What a request took of the quota: a GraphQL answer may tell.
fn point_cost(request: &Request, body: &Bytes) -> u64 {
    if request.service != Service::Github || request.method != Method::Post {
        return 1;
    }
    let value: Option<Value> = serde_json::from_slice(body).ok();
    let cost = value.as_ref().and_then(|value| value.pointer("/data/rateLimit/cost"));
    cost.and_then(Value::as_u64).unwrap_or(1).max(1)
}

pub(super) fn secret(request: &Request) -> Option<String> {
    request.auth.as_deref().and_then(secret_in)
}

/// The secret that an environment variable holds; one that is empty holds none.
pub fn secret_in(variable: &str) -> Option<String> {
    let secret = std::env::var(variable).ok()?.trim().to_owned();
    (!secret.is_empty()).then_some(secret)
}

fn credentials(request: &Request) -> String {
    credentials_in(request.auth.as_deref())
}

/// Tells the secrets of two environment variables apart without keeping either.
pub fn credentials_in(variable: Option<&str>) -> String {
    match variable.and_then(secret_in) {
        Some(secret) => {
            Hasher::new("credentials").part(secret.as_bytes()).finish().hex()[..8].to_owned()
        }
        None => "none".to_owned(),
    }
}

/// The header under which an answer that depends on the credentials notes them.
pub(super) fn noted_credentials(request: &Request) -> (String, String) {
    (CREDENTIALS.to_owned(), credentials(request))
}

/// Whether an answer is final; if not, what to do.
pub(super) fn judge(
    request: &Request,
    status: u16,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<(), Failure> {
    let said = || match secret(request) {
        // A server may repeat the key that it will not have.
        Some(secret) => message(body).replace(&secret, "(secret)"),
        None => message(body),
    };
    let denied = || {
        let shown = request.shown();
        Failure::Final(CallError::Denied { shown, status, message: said() })
    };
    let refused = || Failure::Final(CallError::Refused { status, message: said() });
    match (request.service, status) {
        // It is still being worked out.
        (Service::Github, 202) => Err(passing("GitHub is still working the answer out")),
        (_, 200..=299) => whole(request, headers, body),
        (Service::Github, 404 | 406 | 410 | 451) => Ok(()),
        (Service::Github, 403) if is_blocked(body) => Ok(()),
        (Service::Github, 422) if is_too_long(request, body) => Ok(()),
        // There are more pages than can be asked for by number: an answer about the list.
        (Service::Github, 422) if is_wall(&message(body)) => Ok(()),
        (Service::Github, 422) => Err(refused()),
        (_, 429) if is_quota(body) => Err(denied()),
        (Service::Github, 403 | 429) if status == 429 || is_limit(headers, body) => {
            Err(limited(said(), headers, false))
        }
        (_, 429) => Err(limited(said(), headers, false)),
        (Service::Model, 503) if said().to_lowercase().contains("slow down") => {
            Err(limited(said(), headers, true))
        }
        (Service::Model, 409 | 425) => Err(passing(format!("status {status}: {}", said()))),
        (_, 408 | 500..=599) => Err(Failure::Passing {
            what: format!("status {status}: {}", said()),
            slow: matches!(status, 408 | 502 | 504),
        }),
        (Service::Model, 401..=404) => Err(denied()),
        (Service::Model, _) if is_filtered(body) => {
            Err(Failure::Final(CallError::Filtered(said())))
        }
        (Service::Model, _) => Err(refused()),
        (Service::Github, _) => Err(denied()),
    }
}

/// A request, or its answer, that was lost on its way.
pub(super) fn lost(error: reqwest::Error) -> Failure {
    // The address stands in the message beside it, without a query that could hold text from outside.
    let server = error.url().map(|url| match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (host, _) => host.unwrap_or_default().to_owned(),
    });
    let error = error.without_url();
    if error.is_connect() {
        // The innermost cause is the one that means something to people.
        let mut last: &dyn std::error::Error = &error;
        while let Some(cause) = last.source() {
            last = cause;
        }
        let server = server.unwrap_or_default();
        let what = format!("no connection to {server}: {last}");
        return Failure::Passing { what, slow: error.is_timeout() };
    }
    let mut what = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        what = format!("{what}: {error}");
        cause = error.source();
    }
    Failure::Passing { what, slow: error.is_timeout() }
}

fn limited(why: String, headers: &HeaderMap, slower: bool) -> Failure {
    Failure::Limited { why, wait: announced_wait(headers), slower }
}

fn passing(what: impl Into<String>) -> Failure {
    Failure::Passing { what: what.into(), slow: false }
}

/// A success must be whole: JSON where JSON was asked for, and ended where a model was.
fn whole(request: &Request, headers: &HeaderMap, body: &Bytes) -> Result<(), Failure> {
    if !request.accept.contains("json") {
        // What stands between may answer with a page of its own.
        let is_other = text(headers, "content-type").is_some_and(|it| !it.contains("diff"));
        return match is_other && request.accept.contains("diff") {
            true => Err(passing("the answer is no diff")),
            false => Ok(()),
        };
    }
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| passing(format!("the answer is no JSON ({error})")))?;
    if request.service == Service::Github && request.method == Method::Post {
        return graphql(headers, &value);
    }
    if request.service == Service::Github && value.get("incomplete_results") == Some(&true.into()) {
        let why = "GitHub's search gave up before it had looked at everything";
        return Err(passing(why));
    }
    if request.service == Service::Model {
        return completed(&value);
    }
    Ok(())
}

/// A model's answer has ended, well or not.
fn completed(value: &Value) -> Result<(), Failure> {
    if !is_response(value) {
        let choice = value.get("choices").and_then(|choices| choices.get(0));
        let choice = choice.ok_or_else(|| passing("the answer holds no choices"))?;
        // A server that stands between may have begun to answer when the one behind it failed.
        let ended = choice["finish_reason"].as_str().unwrap_or_default();
        if ["error", "abort", "insufficient_system_resource"].contains(&ended) {
            let why = choice["error"]["message"].as_str().unwrap_or("without a reason");
            return Err(passing(format!("the answer ended in `{ended}`: {why}")));
        }
        return Ok(());
    }
    match value["status"].as_str() {
        Some("completed" | "incomplete") => Ok(()),
        status => {
            let why = value["error"]["message"].as_str().unwrap_or("without a reason");
            if FILTERED.iter().any(|code| value["error"]["code"] == *code) {
                return Err(Failure::Final(CallError::Filtered(why.to_owned())));
            }
            Err(passing(format!("the response is {}: {why}", status.unwrap_or("without a status"))))
        }
    }
}

/// GraphQL answers 200 also where it has nothing to say. Errors beside data belong to single rows;
/// without any data they concern the whole request.
fn graphql(headers: &HeaderMap, value: &Value) -> Result<(), Failure> {
    let errors = value.get("errors").and_then(Value::as_array);
    let Some(error) = errors.and_then(|errors| errors.first()) else {
        return match value.get("data").is_none_or(Value::is_null) {
            true => Err(passing("the answer holds no data")),
            false => Ok(()),
        };
    };
    let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
    let why = text("message").to_owned();
    let slow = |why: String| Failure::Passing { what: why, slow: true };
    // Whatever data stands beside it may lack what the error does not name.
    if text("type").starts_with("RESOURCE_LIMIT") || text("type") == "MAX_NODE_LIMIT_EXCEEDED" {
        return Err(slow(why));
    }
    let is_limit = text("type").starts_with("RATE_LIMIT")
        || text("code") == "graphql_rate_limit"
        || why.to_lowercase().contains("rate limit");
    if is_limit {
        return Err(limited(why, headers, false));
    }
    let placed =
        || errors.is_some_and(|errors| errors.iter().all(|error| error.get("path").is_some()));
    if let Some(data) = value.get("data").and_then(Value::as_object)
        && (data.values().any(|value| !value.is_null()) || placed())
    {
        return Ok(());
    }
    // What is wrong with the query will be wrong again.
    let wrong = ["Field '", "Parse error", "Variable $", "Argument '", "Fragment", "Unknown "];
    if error.get("extensions").is_some() || wrong.iter().any(|start| why.starts_with(start)) {
        let shown = "the GraphQL query".to_owned();
        return Err(Failure::Final(CallError::Denied { shown, status: 200, message: why }));
    }
    let said = why.to_lowercase();
    match said.contains("timeout") || said.contains("timed out") || said.contains("went wrong") {
        true => Err(slow(why)),
        false => Err(passing(why)),
    }
}

/// Whether GitHub has blocked the repository for everybody.
fn is_blocked(body: &Bytes) -> bool {
    let value: Option<Value> = serde_json::from_slice(body).ok();
    value.is_some_and(|value| value.get("block").is_some_and(Value::is_object))
}

/// Whether GitHub says that it has no such diff, as it takes too long to make.
fn is_too_long(request: &Request, body: &Bytes) -> bool {
    let said = String::from_utf8_lossy(body).to_lowercase();
    request.accept.contains("diff") && (said.contains("not_available") || said.contains("too long"))
}

/// Whether GitHub says that a list goes on where page numbers do not lead.
pub(super) fn is_wall(said: &str) -> bool {
    let said = said.to_lowercase();
    said.contains("pagination") || said.contains("first 1000 search results")
}

pub(super) fn is_limit(headers: &HeaderMap, body: &Bytes) -> bool {
    headers.contains_key("retry-after")
        || text(headers, "x-ratelimit-remaining") == Some("0")
        || message(body).to_lowercase().contains("rate limit")
}

/// How providers name what they refuse for what it says.
const FILTERED: [&str; 3] = ["content_filter", "content_policy_violation", "invalid_prompt"];

fn is_filtered(body: &Bytes) -> bool {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    FILTERED.iter().any(|code| value["error"]["code"] == *code)
}

/// A quota that is spent is announced like a limit, but waiting does not help.
fn is_quota(body: &Bytes) -> bool {
    let value: Option<Value> = serde_json::from_slice(body).ok();
    let error = value.as_ref().and_then(|value| value.get("error"));
    let is =
        |name: &str| error.and_then(|error| error.get(name)) == Some(&"insufficient_quota".into());
    is("code") || is("type")
}

pub(super) fn announced_wait(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| text(headers, name)?.parse().ok().filter(|it: &f64| *it >= 0.0);
    let ms = number("retry-after-ms").map(|ms| ms / 1000.0);
    let date = || {
        let until = httpdate::parse_http_date(text(headers, "retry-after")?).ok()?;
        Some(until.duration_since(SystemTime::now()).unwrap_or_default().as_secs_f64())
    };
    if let Some(seconds) = ms.or(number("retry-after")).or_else(date) {
        return Some(
            Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT),
        );
    }
    if text(headers, "x-ratelimit-remaining") != Some("0") {
        return None;
    }
    quota(headers).map(|(.., reset)| reset)
}

/// GitHub asks for at least a minute, and longer each time; a model's provider for less.
pub(super) fn unannounced_wait(service: Service, times: u32) -> Duration {
    let first: u64 = match service {
        Service::Github => 60,
        Service::Model => 1,
    };
    Duration::from_secs((first << (times - 1).min(6)).min(900))
}

/// Half a second, doubling to half a minute, up to a quarter more by what the request is, so that
/// many that failed together do not come back together.
pub(super) fn backoff(times: u32, request: &Request) -> Duration {
    let wait = Duration::from_millis((500 << (times - 1).min(6)).min(30_000));
    let spread = u32::from(request.key().0.0[times as usize % 32]);
    wait + wait * spread / 1024
}

pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// What a server says of its refusal, short.
pub(super) fn message(body: &Bytes) -> String {
    let value: Option<Value> = serde_json::from_slice(body).ok();
    let said = value.as_ref().and_then(|value| {
        let error = value.get("error");
        let inner = error.and_then(|error| error.get("message").or(Some(error)));
        inner.or(value.get("message"))?.as_str().map(str::to_owned)
    });
    let said = said.unwrap_or_else(|| String::from_utf8_lossy(body).trim().to_owned());
    let mut short: String = said.chars().take(300).collect();
    if short.len() < said.len() {
        short.push_str("...");
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_says_nothing_is_waited_for_longer_each_time() {
        let waits: Vec<u64> =
            (1..7).map(|times| unannounced_wait(Service::Github, times).as_secs()).collect();
        assert_eq!(waits, [60, 120, 240, 480, 900, 900]);
    }
    #[test]
    fn of_two_limits_of_tokens_the_one_with_less_left_counts() {
        let left = |said: &[(&str, &str, &str)]| {
            let mut headers = HeaderMap::new();
            for (of, limit, left) in said {
                for (what, value) in [("limit", *limit), ("remaining", *left), ("reset", "6m0s")] {
                    let name = format!("x-ratelimit-{what}-{of}");
                    let name = reqwest::header::HeaderName::try_from(name).unwrap();
                    headers.insert(name, value.parse().unwrap());
                }
            }
            tokens_level(&headers).map(|level| (level.limit, level.left))
        };
        let whole = ("tokens", "1000", "900");
        assert_eq!(left(&[]), None);
        assert_eq!(left(&[whole]), Some((1000.0, 900.0)));
        assert_eq!(left(&[whole, ("project-tokens", "500", "400")]), Some((500.0, 400.0)));
        assert_eq!(left(&[whole, ("project-tokens", "5000", "4000")]), Some((1000.0, 900.0)));
        assert_eq!(left(&[("project-tokens", "500", "400")]), Some((500.0, 400.0)));
    }
}
