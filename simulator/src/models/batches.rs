//! Many requests in one file: `/v1/batches`. How far a batch has got is told by how often it was
//! looked at, never by the clock; what shall become of the next ones is ordered by `POST /_batches`.

use super::CREATED;
use super::files::Files;
use super::problem::Problem;
use crate::ask::{Answer, Ask};
use crate::dice::hash;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(clap::Args)]
#[group(skip)]
pub struct Flags {
    /// How often a batch is looked at until it is completed
    #[arg(long, value_name = "N", default_value_t = 2)]
    batch_polls: u64,
    /// The most requests in a batch
    #[arg(long, value_name = "N", default_value_t = 50_000)]
    batch_requests: usize,
    /// The most tokens of prompts in all batches of a model that are under way
    #[arg(long, value_name = "N")]
    batch_tokens: Option<u64>,
}

/// The paths whose requests may come in a batch.
const ENDPOINTS: [&str; 2] = ["/v1/chat/completions", "/v1/responses"];
/// How many batches a list holds where nobody says.
const LISTED: u64 = 20;

/// What answers a request of a batch: its path and its body.
pub type Answering<'a> = &'a dyn Fn(&str, &str) -> Answer;

pub struct Batches {
    flags: Flags,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    batches: Vec<Batch>,
    orders: Vec<Order>,
    /// In place of the flag.
    polls: Option<u64>,
    /// Requests that were answered in batches.
    answered: u64,
}

/// What `POST /_batches` orders: how often batches are looked at from now on, or what becomes of those
/// that are made from now on.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    polls: Option<u64>,
    /// Time runs out for this share of the requests.
    expire: Option<f64>,
    /// It is refused when it is looked at first.
    fail: Option<Fault>,
    /// For so many batches.
    times: Option<u64>,
}

/// Why a batch is refused.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fault {
    code: String,
    message: String,
    /// The line of the file that it is about.
    line: Option<usize>,
}

struct Batch {
    id: String,
    endpoint: String,
    input_file: String,
    window: String,
    metadata: Value,
    model: Option<String>,
    status: Status,
    faults: Vec<Fault>,
    /// In the order in which they are answered, which is not that of the file.
    requests: Vec<Request>,
    /// How many of them are answered before time runs out.
    in_time: usize,
    /// The prompts' tokens.
    tokens: u64,
    polls: u64,
    answered: usize,
    /// The lines of the two files that come out of it.
    good: Vec<String>,
    bad: Vec<String>,
    output_file: Option<String>,
    error_file: Option<String>,
}

struct Request {
    custom_id: String,
    body: String,
}

#[derive(Clone, Copy, PartialEq)]
enum Status {
    Validating,
    InProgress,
    Finalizing,
    Completed,
    Failed,
    Expired,
    Cancelling,
    Cancelled,
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Status::Validating => "validating",
            Status::InProgress => "in_progress",
            Status::Finalizing => "finalizing",
            Status::Completed => "completed",
            Status::Failed => "failed",
            Status::Expired => "expired",
            Status::Cancelling => "cancelling",
            Status::Cancelled => "cancelled",
        }
    }

    fn is_over(self) -> bool {
        matches!(self, Status::Completed | Status::Failed | Status::Expired | Status::Cancelled)
    }
}

impl Batches {
    pub fn new(flags: Flags) -> Batches {
        Batches { flags, state: Mutex::default() }
    }

    /// What `/v1/batches` and below it answers; `rest` is what follows.
    pub fn answer(
        &self,
        ask: &Ask,
        rest: &str,
        files: &Files,
        prompt_tokens: &dyn Fn(&str, &str) -> u64,
        answering: Answering<'_>,
    ) -> Result<Answer, Problem> {
        let mut parts = rest.split('/').filter(|part| !part.is_empty());
        let told = match (ask.method.as_str(), parts.next(), parts.next()) {
            ("POST", None, _) => self.make(ask, files, prompt_tokens)?,
            ("GET", None, _) => self.list(ask)?,
            ("GET", Some(id), None) => {
                let mut state = self.lock();
                let polls = state.polls.unwrap_or(self.flags.batch_polls);
                let batch = state.find(id)?;
                let before = batch.answered;
                batch.look(polls, files, answering);
                let (told, now) = (batch.to_json(), batch.answered);
                state.answered += (now - before) as u64;
                told
            }
            ("POST", Some(id), Some("cancel")) => self.lock().find(id)?.cancel()?,
            _ => return Err(super::unknown_url(ask)),
        };
        Ok(Answer::value(200, &told))
    }

    /// `POST /_batches`
    pub fn order(&self, body: &[u8]) -> Result<(), String> {
        let order: Order = serde_json::from_slice(body).map_err(|e| e.to_string())?;
        let mut state = self.lock();
        match order.polls {
            Some(polls) => state.polls = Some(polls),
            None if order.expire.is_some() || order.fail.is_some() => state.orders.push(order),
            None => return Err("polls, expire or fail: one of them".to_owned()),
        }
        Ok(())
    }

    /// `GET /_batches`: all that were made, with what they were made of.
    pub fn tell(&self) -> Value {
        let state = self.lock();
        let told = state.batches.iter().map(|batch| {
            let ids: Vec<&str> = batch.requests.iter().map(|it| it.custom_id.as_str()).collect();
            json!({"id": batch.id, "status": batch.status.name(), "custom_ids": ids})
        });
        Value::Array(told.collect())
    }

    /// How many requests were answered in batches.
    pub fn answered(&self) -> u64 {
        self.lock().answered
    }

    pub fn reset_stats(&self) {
        self.lock().answered = 0;
    }

    fn make(
        &self,
        ask: &Ask,
        files: &Files,
        prompt_tokens: &dyn Fn(&str, &str) -> u64,
    ) -> Result<Value, Problem> {
        let order: Value = serde_json::from_slice(&ask.body)
            .map_err(|_| Problem::new("We could not parse the JSON body of your request."))?;
        let text = |name: &str| order[name].as_str().ok_or_else(|| Problem::missing(name));
        let (input_file, endpoint) = (text("input_file_id")?, text("endpoint")?);
        let window = text("completion_window")?;
        if !ENDPOINTS.contains(&endpoint) {
            let message =
                format!("Invalid value: '{endpoint}'. Supported values are: {ENDPOINTS:?}.");
            return Err(Problem::new(message).at("endpoint").code("invalid_value"));
        }
        if window != "24h" {
            let message = format!("Invalid value: '{window}'. Supported values are: '24h'.");
            return Err(Problem::new(message).at("completion_window").code("invalid_value"));
        }
        let bytes = files.input(input_file)?;
        let mut read = Read::of(&String::from_utf8_lossy(&bytes), endpoint);
        read.most(self.flags.batch_requests);
        let tokens = read.requests.iter().map(|it| prompt_tokens(endpoint, &it.body)).sum();
        let mut state = self.lock();
        let ordered = state.ordered();
        let mut faults = read.faults;
        faults.extend(ordered.as_ref().and_then(|order| order.fail.clone()));
        faults.extend(self.over_tokens(&state, read.model.as_deref(), tokens));
        let undone = ordered.and_then(|order| order.expire).map_or(0, |share| {
            (read.requests.len() as f64 * share.clamp(0.0, 1.0)).ceil() as usize
        });
        let batch = Batch {
            id: format!("batch_{:024}", state.batches.len() + 1),
            endpoint: endpoint.to_owned(),
            input_file: input_file.to_owned(),
            window: window.to_owned(),
            metadata: order["metadata"].clone(),
            model: read.model,
            status: Status::Validating,
            faults,
            in_time: read.requests.len() - undone,
            requests: read.requests,
            tokens,
            polls: 0,
            answered: 0,
            good: Vec::new(),
            bad: Vec::new(),
            output_file: None,
            error_file: None,
        };
        let told = batch.to_json();
        state.batches.push(batch);
        Ok(told)
    }

    /// More tokens than may wait for a model at once.
    fn over_tokens(&self, state: &State, model: Option<&str>, tokens: u64) -> Option<Fault> {
        let most = self.flags.batch_tokens?;
        let waiting = state.batches.iter().filter(|batch| {
            !batch.status.is_over() && batch.faults.is_empty() && batch.model.as_deref() == model
        });
        let waiting: u64 = waiting.map(|batch| batch.tokens).sum();
        (waiting + tokens > most).then(|| Fault {
            code: "token_limit_exceeded".to_owned(),
            message: format!(
                "Enqueued token limit reached for {} in organization org-simulator. Limit: {most} \
                 enqueued tokens. Please try again once some in_progress batches have been completed.",
                model.unwrap_or("the model")
            ),
            line: None,
        })
    }

    /// The newest first.
    fn list(&self, ask: &Ask) -> Result<Value, Problem> {
        let mut state = self.lock();
        let end = match ask.param("after") {
            Some(id) => {
                state.find(&id)?;
                state.batches.iter().position(|batch| batch.id == id).unwrap_or(0)
            }
            None => state.batches.len(),
        };
        let limit = ask.number("limit", LISTED).clamp(1, 100) as usize;
        let page: Vec<&Batch> = state.batches[..end].iter().rev().take(limit).collect();
        let id = |batch: Option<&&Batch>| batch.map(|batch| batch.id.clone());
        Ok(json!({
            "object": "list",
            "data": page.iter().map(|batch| batch.to_json()).collect::<Vec<_>>(),
            "first_id": id(page.first()),
            "last_id": id(page.last()),
            "has_more": page.len() < end
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn find(&mut self, id: &str) -> Result<&mut Batch, Problem> {
        let found = self.batches.iter_mut().find(|batch| batch.id == id);
        found.ok_or_else(|| {
            Problem::new(format!("No batch found with id '{id}'.")).status(404).at("batch_id")
        })
    }

    /// What was ordered first for the batch that is made now.
    fn ordered(&mut self) -> Option<Order> {
        let order = self.orders.first_mut()?;
        let ordered = order.clone();
        if let Some(times) = order.times.as_mut() {
            *times = times.saturating_sub(1);
            if *times == 0 {
                self.orders.remove(0);
            }
        }
        Some(ordered)
    }
}

impl Batch {
    /// It is looked at, and has got on since: the only way in which it changes.
    fn look(&mut self, polls: u64, files: &Files, answering: Answering<'_>) {
        self.polls += 1;
        let share = |polls_done: u64| {
            (self.requests.len() as u64 * polls_done.min(polls) / polls.max(1)) as usize
        };
        let due = share(self.polls).min(self.in_time);
        match self.status {
            Status::Completed | Status::Failed | Status::Expired | Status::Cancelled => {}
            Status::Cancelling => self.end(Status::Cancelled, files),
            _ if !self.faults.is_empty() => self.status = Status::Failed,
            _ if self.polls >= polls && self.in_time < self.requests.len() => {
                self.work(self.in_time, answering);
                self.end(Status::Expired, files);
            }
            _ if self.polls >= polls => {
                self.work(self.requests.len(), answering);
                self.end(Status::Completed, files);
            }
            _ if self.polls > 1 && self.polls + 1 == polls => {
                self.work(self.in_time, answering);
                self.status = Status::Finalizing;
            }
            _ => {
                self.work(due, answering);
                self.status = Status::InProgress;
            }
        }
    }

    /// Answers requests until so many are.
    fn work(&mut self, until: usize, answering: Answering<'_>) {
        while self.answered < until {
            let request = &self.requests[self.answered];
            let answer = answering(&self.endpoint, &request.body);
            // What is no JSON cannot stand in a line as it is.
            let body = match serde_json::from_slice::<Value>(&answer.body) {
                Ok(body) => body,
                Err(_) => json!(String::from_utf8_lossy(&answer.body)),
            };
            let header = |name: &str| answer.headers.iter().find(|(key, _)| key == name);
            let request_id = header("x-request-id").map(|(_, value)| value);
            let response =
                json!({"status_code": answer.status, "request_id": request_id, "body": body});
            let line = self.line(request, response, Value::Null);
            match answer.status {
                200..=299 => self.good.push(line),
                _ => self.bad.push(line),
            }
            self.answered += 1;
        }
    }

    /// What was not answered by now never is.
    fn end(&mut self, status: Status, files: &Files) {
        let error = match status {
            Status::Cancelled => json!({
                "code": "batch_cancelled",
                "message": "This request could not be executed before the batch was cancelled."
            }),
            _ => json!({
                "code": "batch_expired",
                "message":
                    "This request could not be executed before the completion window expired."
            }),
        };
        let left = self.requests[self.answered..].iter();
        let left: Vec<String> =
            left.map(|request| self.line(request, Value::Null, error.clone())).collect();
        let (good, bad) = (self.good.concat(), self.bad.concat() + &left.concat());
        let keep = |name: &str, lines: String| {
            let name = format!("{}_{name}.jsonl", self.id);
            (!lines.is_empty()).then(|| files.keep(&name, "batch_output", lines.into()))
        };
        (self.output_file, self.error_file) = (keep("output", good), keep("error", bad));
        self.status = status;
    }

    fn line(&self, request: &Request, response: Value, error: Value) -> String {
        let custom_id = &request.custom_id;
        let id = format!("batch_req_{:016x}", hash(format!("{} {custom_id}", self.id).as_bytes()));
        let line = json!({"id": id, "custom_id": custom_id, "response": response, "error": error});
        format!("{line}\n")
    }

    fn cancel(&mut self) -> Result<Value, Problem> {
        if self.status.is_over() {
            let message = format!("Cannot cancel a batch with status '{}'.", self.status.name());
            return Err(Problem::new(message).status(409));
        }
        self.status = Status::Cancelling;
        Ok(self.to_json())
    }

    fn to_json(&self) -> Value {
        let at = |statuses: &[Status]| statuses.contains(&self.status).then_some(CREATED);
        let faults: Vec<Value> = match self.status {
            Status::Failed => self.faults.iter().map(Fault::to_json).collect(),
            _ => Vec::new(),
        };
        let errors = (!faults.is_empty()).then(|| json!({"object": "list", "data": faults}));
        // Nothing is counted before it is looked through.
        let total = match self.status {
            Status::Validating | Status::Failed => 0,
            _ => self.requests.len(),
        };
        json!({
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "model": self.model,
            "errors": errors,
            "input_file_id": self.input_file,
            "completion_window": self.window,
            "status": self.status.name(),
            "output_file_id": self.output_file,
            "error_file_id": self.error_file,
            "created_at": CREATED,
            "in_progress_at": (self.polls > 0 && self.status != Status::Failed).then_some(CREATED),
            "expires_at": CREATED + 24 * 60 * 60,
            "finalizing_at": at(&[Status::Finalizing, Status::Completed]),
            "completed_at": at(&[Status::Completed]),
            "failed_at": at(&[Status::Failed]),
            "expired_at": at(&[Status::Expired]),
            "cancelling_at": at(&[Status::Cancelling, Status::Cancelled]),
            "cancelled_at": at(&[Status::Cancelled]),
            "request_counts":
                {"total": total, "completed": self.good.len(), "failed": self.bad.len()},
            "metadata": self.metadata
        })
    }
}

impl Fault {
    fn new(code: &str, message: impl Into<String>, line: Option<usize>) -> Fault {
        Fault { code: code.to_owned(), message: message.into(), line }
    }

    fn to_json(&self) -> Value {
        let Fault { code, message, line } = self;
        json!({"code": code, "message": message, "param": null, "line": line})
    }
}

/// What a file of requests holds.
#[derive(Default)]
struct Read {
    model: Option<String>,
    requests: Vec<Request>,
    faults: Vec<Fault>,
}

impl Read {
    fn of(text: &str, endpoint: &str) -> Read {
        let mut read = Read::default();
        let mut ids = HashSet::new();
        for (nth, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            match read.line(line, endpoint, &mut ids) {
                Ok(request) => read.requests.push(request),
                Err((code, message)) => read.faults.push(Fault::new(code, message, Some(nth + 1))),
            }
        }
        if read.requests.is_empty() && read.faults.is_empty() {
            read.faults.push(Fault::new("empty_file", "The batch input file is empty.", None));
        }
        read.requests.sort_by_key(|request| hash(request.custom_id.as_bytes()));
        read
    }

    fn line(
        &mut self,
        line: &str,
        endpoint: &str,
        ids: &mut HashSet<String>,
    ) -> Result<Request, (&'static str, String)> {
        let wrong = |message: &str| ("invalid_request", message.to_owned());
        let line: Value = serde_json::from_str(line).map_err(|_| {
            ("invalid_json_line", "This line is not parseable as valid JSON.".to_owned())
        })?;
        let custom_id = line["custom_id"].as_str().ok_or_else(|| wrong("No custom_id."))?;
        if !ids.insert(custom_id.to_owned()) {
            let message = format!("The custom_id '{custom_id}' is used more than once.");
            return Err(("duplicate_custom_id", message));
        }
        if line["method"] != "POST" {
            return Err(wrong("The method must be POST."));
        }
        if line["url"] != endpoint {
            let message = format!("The URL must be that of the batch, {endpoint}.");
            return Err(("mismatched_endpoint", message));
        }
        let model =
            line["body"]["model"].as_str().ok_or_else(|| wrong("The body has no model."))?;
        if self.model.get_or_insert_with(|| model.to_owned()) != model {
            let message = "All requests of a batch must be for the same model.";
            return Err(("mismatched_model", message.to_owned()));
        }
        Ok(Request { custom_id: custom_id.to_owned(), body: line["body"].to_string() })
    }

    fn most(&mut self, most: usize) {
        if self.requests.len() > most {
            let message = format!(
                "The batch input file holds {} requests, the limit is {most}.",
                self.requests.len()
            );
            self.faults.push(Fault::new("too_many_requests", message, None));
        }
    }
}
