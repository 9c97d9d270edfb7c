//! The batch API of a model's provider: many requests in one file, answered within a day for less money.
//! It is only a way of sending: what comes back is judged as if each request had been sent by itself,
//! and stored under its own key.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use super::asking::Asking;
use super::call::{Answer, BATCH, CallError, Method, Request, Service};
use super::limiter::Pace;
use super::transport::{
    Failure, LIMIT_WAITS, Transport, announced_wait, backoff, judge, lost, now, secret,
    unannounced_wait,
};
use super::usage::Usage;
use crate::manifest::Price;
use crate::store::{BatchFault, CallKey, CallRecord, Given, Keep, Source};

/// The addresses whose requests go in batches, from a model's `base_url` on.
const ENDPOINTS: [&str; 2] = ["/chat/completions", "/responses"];
/// Attempts at what fails in passing.
const ATTEMPTS: u32 = 6;
/// Batches that the provider shows on a page of its list, and pages that are looked at: a batch that is
/// looked for there was made a short while ago.
const PAGE: usize = 100;
const PAGES: usize = 20;
const BLOCK: usize = 64 << 10;

/// Whom the requests of a batch go to, and all that their answers are judged by.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Addressee {
    /// The address that each of them would have by itself.
    url: String,
    accept: String,
    auth: Option<String>,
    model: String,
    /// In a batch.
    price: Option<Price>,
    seconds: u64,
}

impl Addressee {
    /// Of a request as it is in a batch.
    pub fn of(request: &Request) -> Addressee {
        Addressee {
            url: request.url.clone(),
            accept: request.accept.clone(),
            auth: request.auth.clone(),
            model: request.pool.clone(),
            price: request.price,
            seconds: request.timeout.as_secs(),
        }
    }

    /// Reads what [`Addressee::to_text`] wrote.
    pub fn read(text: &str) -> Result<Addressee, CallError> {
        let unread = |error| CallError::Protocol(format!("whom a batch went to: {error}"));
        serde_json::from_str(text).map_err(unread)
    }

    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers always serialize")
    }

    /// The model's name, as the server knows it.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The server, as its addresses name it.
    pub fn server(&self) -> &str {
        let rest = self.url.split_once("://").map_or(self.url.as_str(), |(_, rest)| rest);
        rest.split('/').next().unwrap_or(rest)
    }

    /// The line of a request in the file of a batch, and where in it the body begins. The body is the
    /// very bytes that would be sent.
    pub fn line(&self, key: CallKey, request: &Request) -> (Vec<u8>, usize) {
        let head = format!(
            r#"{{"custom_id":"{}","method":"POST","url":"{}","body":"#,
            key.0.hex(),
            self.endpoint()
        );
        let line = [head.as_bytes(), &request.body[..], b"}\n"].concat();
        (line, head.len())
    }

    /// The request that was written with this body.
    pub fn request(&self, body: Bytes, sample: u32) -> Request {
        Request {
            service: Service::Model,
            method: Method::Post,
            url: self.url.clone(),
            accept: self.accept.clone(),
            api_version: None,
            body,
            sample,
            auth: self.auth.clone(),
            pool: self.model.clone(),
            gives_way: false,
            timeout: Duration::from_secs(self.seconds),
            attempts: ATTEMPTS,
            pace: Pace {
                concurrency: NonZeroUsize::MIN,
                requests_per_minute: None,
                tokens_per_minute: None,
                tokens: 0,
                burst: 0.0,
                adaptive: false,
            },
            price: self.price,
            batch: None,
        }
    }

    /// The address of the requests from the server on, as every provider names it.
    fn endpoint(&self) -> String {
        format!("/v1{}", self.split().1)
    }

    fn split(&self) -> (&str, &str) {
        let split = |end: &'static str| Some((self.url.strip_suffix(end)?, end));
        ENDPOINTS.into_iter().find_map(split).unwrap_or((&self.url, ""))
    }
}

/// How a batch stands at the provider.
#[derive(Debug)]
pub struct Remote {
    pub id: String,
    pub state: RemoteState,
    /// Requests that it has answered, well or not.
    pub answered: u64,
    /// Why it failed, with the provider's code for it.
    pub faults: Vec<(String, String)>,
    /// When to look again, where the server says.
    pub again: Option<Duration>,
    input: Option<String>,
    /// The files of answers: those that are good, and the others.
    output: [Option<String>; 2],
}

/// How far a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteState {
    UnderWay,
    Completed,
    /// It was refused as a whole: nothing was answered.
    Failed,
    /// Its time ran out; what was answered by then is there.
    Expired,
    /// Somebody stopped it; what was answered by then is there.
    Cancelled,
}

impl Remote {
    fn read(said: &Said) -> Result<Remote, CallError> {
        Remote::of(&said.json()?, announced_wait(&said.headers))
    }

    fn of(batch: &Value, again: Option<Duration>) -> Result<Remote, CallError> {
        let text = |name: &str| batch[name].as_str().map(str::to_owned);
        let id = text("id").ok_or_else(|| CallError::Protocol("the batch has no id".into()))?;
        let state = match batch["status"].as_str() {
            Some("completed") => RemoteState::Completed,
            Some("failed") => RemoteState::Failed,
            Some("expired") => RemoteState::Expired,
            Some("cancelled") => RemoteState::Cancelled,
            _ => RemoteState::UnderWay,
        };
        let count = |name: &str| batch["request_counts"][name].as_u64().unwrap_or(0);
        let fault = |fault: &Value| {
            let said = |name: &str| fault[name].as_str().unwrap_or_default().to_owned();
            let line = fault["line"].as_u64().map(|line| format!(" (line {line})"));
            (said("code"), said("message") + &line.unwrap_or_default())
        };
        let faults = batch["errors"]["data"].as_array();
        Ok(Remote {
            id,
            state,
            answered: count("completed") + count("failed"),
            faults: faults.into_iter().flatten().map(fault).collect(),
            again,
            input: text("input_file_id"),
            output: [text("output_file_id"), text("error_file_id")],
        })
    }

    /// The files of its answers.
    pub fn answers(&self) -> impl Iterator<Item = &str> {
        self.output.iter().flatten().map(String::as_str)
    }

    /// All of its files.
    fn files(&self) -> impl Iterator<Item = &str> {
        self.input.iter().chain(self.output.iter().flatten()).map(String::as_str)
    }
}

/// Noted in the place of a status where the provider's filter refused a request: no server has it.
const FILTERED: u16 = 0;

/// What came of a request of a batch.
#[derive(Debug)]
pub enum Outcome {
    /// It is answered, for so much more money, in billionths of a USD.
    Answered(u64),
    Fault(BatchFault),
    /// The server will have no request of this kind.
    Denied(CallError),
}

/// A line of a batch's answers.
#[derive(Deserialize)]
struct Line {
    custom_id: String,
    response: Option<Response>,
    error: Option<LineError>,
}

#[derive(Deserialize)]
struct Response {
    status_code: u16,
    request_id: Option<String>,
    body: Value,
}

#[derive(Deserialize)]
struct LineError {
    message: Option<String>,
    code: Option<String>,
}

/// One line of a batch's answers, and the call that it is about.
pub struct BatchAnswer {
    pub key: CallKey,
    line: Line,
}

impl BatchAnswer {
    /// `None` where it is about no call of ours.
    pub fn read(line: &[u8]) -> Option<BatchAnswer> {
        let line: Line = serde_json::from_slice(line).ok()?;
        let key = CallKey(line.custom_id.parse().ok()?);
        Some(BatchAnswer { key, line })
    }
}

impl Transport {
    /// Takes what a batch of the run `made` answered to `request`. An answer that was given otherwise
    /// since then stands.
    pub async fn take(
        &self,
        request: &Request,
        answer: BatchAnswer,
        batch: &str,
        made: i64,
        asking: &Asking,
    ) -> Result<Outcome, CallError> {
        let fault = |refused, message| Ok(Outcome::Fault(BatchFault { refused, message }));
        let Some(response) = answer.line.response else {
            let error = answer.line.error;
            let message = error.and_then(|error| error.message.or(error.code));
            return fault(None, message.unwrap_or_else(|| "the batch has no answer to it".into()));
        };
        let status = response.status_code;
        let body: Bytes =
            serde_json::to_vec(&response.body).expect("JSON values always serialize").into();
        let known = self.recorded(request)?;
        let usage = Usage::of(&response.body);
        // A run that was cut off while it took the answers has counted those that it stored.
        let counted = |known: &Answer| known.headers.get(BATCH).is_some_and(|by| by == batch);
        let mut cost = 0;
        if !known.as_ref().is_some_and(counted) {
            asking.tally.calls.fetch_add(1, Ordering::Relaxed);
            asking.tally.add(request, usage);
            cost = usage.cost(request);
        }
        match judge(request, status, &HeaderMap::new(), &body) {
            Ok(()) => {}
            Err(Failure::Passing { what, .. } | Failure::Limited { why: what, .. }) => {
                return fault(None, what);
            }
            Err(Failure::Final(CallError::Refused { status, message })) => {
                return fault(Some(status), message);
            }
            Err(Failure::Final(CallError::Filtered(message))) => {
                return fault(Some(FILTERED), message);
            }
            Err(Failure::Final(error)) => return Ok(Outcome::Denied(error)),
            Err(Failure::Moved { to, .. }) => return fault(None, format!("it has moved to {to}")),
        }
        let id = response.request_id.map(|id| ("x-request-id".to_owned(), id));
        let batch = (BATCH.to_owned(), batch.to_owned());
        let record = CallRecord {
            method: request.method.as_str().into(),
            url: request.url.clone(),
            accept: request.accept.clone(),
            request: request.body.clone(),
            status,
            headers: BTreeMap::from_iter(id.into_iter().chain([batch])),
            body,
            source: Source("model".into()),
            given: Given { at: now(), run: self.run() },
        };
        match known {
            None => drop(self.keep(request, record, Keep::First).await?),
            Some(known) if known.given.run >= made => {}
            Some(known) => drop(self.renew(request, known, record, asking).await?),
        }
        Ok(Outcome::Answered(cost))
    }

    /// Why a request that goes in batches alone has no answer.
    pub(super) fn unanswered(&self, call: CallKey) -> Result<CallError, CallError> {
        Ok(match self.store().batch_fault(call)? {
            Some(BatchFault { refused: Some(FILTERED), message }) => CallError::Filtered(message),
            Some(BatchFault { refused: Some(status), message }) => {
                CallError::Refused { status, message }
            }
            Some(BatchFault { refused: None, message }) => CallError::NotInBatch(message),
            None => CallError::NotInBatch("it went in none".into()),
        })
    }
}

/// The batches and files of a provider.
pub struct BatchApi<'a> {
    transport: &'a Transport,
    addressee: &'a Addressee,
    /// Whose secret, patience and rules hold.
    request: Request,
}

/// What a request carries.
#[derive(Clone, Copy)]
enum Content<'a> {
    Nothing,
    Json(&'a Value),
    /// A file of requests, and its name at the provider.
    File(&'a Path, &'a str),
}

/// What the provider said.
struct Said {
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Said {
    fn json(&self) -> Result<Value, CallError> {
        serde_json::from_slice(&self.body)
            .map_err(|error| CallError::Protocol(format!("the provider's answer: {error}")))
    }
}

impl<'a> BatchApi<'a> {
    pub fn new(transport: &'a Transport, addressee: &'a Addressee) -> BatchApi<'a> {
        BatchApi { transport, addressee, request: addressee.request(Bytes::new(), 0) }
    }

    /// Sends the requests in `file` as a batch. One that was made although its answer was lost is not
    /// made again.
    pub async fn submit(&self, label: &str, file: &Path) -> Result<Remote, CallError> {
        let name = format!("{label}.jsonl");
        let said = self.ask("POST", "/files", Content::File(file, &name), None).await?;
        let input = self.there("/files", said)?.json()?["id"].clone();
        let order = json!({
            "input_file_id": input,
            "endpoint": self.addressee.endpoint(),
            "completion_window": "24h",
            "metadata": { "flow": label },
        });
        let mut patience = Patience::default();
        loop {
            let made = self.attempt("POST", "/batches", Content::Json(&order), None);
            let failure = match self.transport.unless_stopped(made).await? {
                Ok(said) => return Remote::read(&self.there("/batches", said)?),
                Err(failure) => failure,
            };
            let may_be_made = matches!(failure, Failure::Passing { .. });
            patience.wait(self, failure).await?;
            if may_be_made && let Some(found) = self.find(label).await? {
                return Ok(found);
            }
        }
    }

    /// The batch that was made with `label`, if there is one.
    pub async fn find(&self, label: &str) -> Result<Option<Remote>, CallError> {
        let mut path = format!("/batches?limit={PAGE}");
        for _ in 0..PAGES {
            let said = self.ask("GET", &path, Content::Nothing, None).await?;
            let list = self.there("/batches", said)?.json()?;
            let batches = list["data"].as_array().map(Vec::as_slice).unwrap_or_default();
            if let Some(found) = batches.iter().find(|batch| batch["metadata"]["flow"] == label) {
                return Remote::of(found, None).map(Some);
            }
            let last = batches.last().and_then(|batch| batch["id"].as_str());
            match (last, list["has_more"] == true) {
                (Some(last), true) => path = format!("/batches?limit={PAGE}&after={last}"),
                _ => break,
            }
        }
        Ok(None)
    }

    /// How a batch stands; `None` where the provider knows none of that name.
    pub async fn look(&self, id: &str) -> Result<Option<Remote>, CallError> {
        let said = self.ask("GET", &format!("/batches/{id}"), Content::Nothing, None).await?;
        said.map(|said| Remote::read(&said)).transpose()
    }

    /// Writes what a file holds to `into`; `false` where the file is gone.
    pub async fn fetch(&self, id: &str, into: &Path) -> Result<bool, CallError> {
        let path = format!("/files/{id}/content");
        Ok(self.ask("GET", &path, Content::Nothing, Some(into)).await?.is_some())
    }

    /// Deletes a file. Whether one that is not needed any more can be deleted stops nothing.
    async fn delete(&self, id: &str) -> Result<(), CallError> {
        match self.ask("DELETE", &format!("/files/{id}"), Content::Nothing, None).await {
            Err(error @ CallError::Stopped(_)) => Err(error),
            Err(error) => {
                tracing::warn!(%error, id, "a file stays at the provider");
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }

    /// Deletes all files of a batch.
    pub async fn delete_all(&self, batch: &Remote) -> Result<(), CallError> {
        for file in batch.files() {
            self.delete(file).await?;
        }
        Ok(())
    }

    /// What must be there.
    fn there(&self, path: &str, said: Option<Said>) -> Result<Said, CallError> {
        said.ok_or_else(|| CallError::Denied {
            shown: self.shown(path),
            status: 404,
            message: "the server takes no batches; leave `batch` out".into(),
        })
    }

    fn shown(&self, path: &str) -> String {
        format!("{}{path}", self.addressee.split().0)
    }

    /// Asks until it is answered, or has failed too often; `None`: there is no such thing.
    async fn ask(
        &self,
        method: &str,
        path: &str,
        content: Content<'_>,
        into: Option<&Path>,
    ) -> Result<Option<Said>, CallError> {
        let mut patience = Patience::default();
        loop {
            let attempt = self.attempt(method, path, content, into);
            match self.transport.unless_stopped(attempt).await? {
                Ok(said) => return Ok(said),
                Err(failure) => patience.wait(self, failure).await?,
            }
        }
    }

    /// Asks once. What is said goes to `into`, where that is given.
    async fn attempt(
        &self,
        method: &str,
        path: &str,
        content: Content<'_>,
        into: Option<&Path>,
    ) -> Result<Option<Said>, Failure> {
        let broken =
            |error: std::io::Error| Failure::Final(CallError::Store(std::io::Error::into(error)));
        let url = self.shown(path);
        let method: reqwest::Method = method.parse().expect("methods are written here");
        let http = self.transport.http();
        let mut builder = http.request(method, &url).timeout(self.request.timeout);
        match (&self.request.auth, secret(&self.request)) {
            (_, Some(secret)) => builder = builder.bearer_auth(secret),
            (Some(variable), None) => {
                return Err(Failure::Final(CallError::NoSecret(variable.clone())));
            }
            (None, None) => {}
        }
        builder = match content {
            Content::Nothing => builder,
            Content::Json(value) => builder.json(value),
            Content::File(path, name) => form(builder, path, name).await.map_err(broken)?,
        };
        let mut response = builder.send().await.map_err(lost)?;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let mut body = Vec::new();
        if let (Some(into), 200..=299) = (into, status) {
            let mut file = BufWriter::new(File::create(into).map_err(broken)?);
            while let Some(block) = response.chunk().await.map_err(lost)? {
                file.write_all(&block).map_err(broken)?;
            }
            file.flush().map_err(broken)?;
        } else {
            body = response.bytes().await.map_err(lost)?.to_vec();
        }
        match status {
            200..=299 => Ok(Some(Said { headers, body })),
            404 => Ok(None),
            _ => {
                let request = Request { url, ..self.request.clone() };
                judge(&request, status, &headers, &body.into()).map(|()| None)
            }
        }
    }
}

/// A file of requests as the form in which it is uploaded, read from the disk as it is sent.
async fn form(
    builder: reqwest::RequestBuilder,
    path: &Path,
    name: &str,
) -> std::io::Result<reqwest::RequestBuilder> {
    // It ends a line, and the lines of the file are JSON: none of them can hold it.
    const EDGE: &str = "flow-batch-requests";
    let head = format!(
        "--{EDGE}\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n\
         --{EDGE}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
         Content-Type: application/jsonl\r\n\r\n"
    );
    let tail = format!("\r\n--{EDGE}--\r\n");
    let file = tokio::fs::File::open(path).await?;
    let length = head.len() as u64 + file.metadata().await?.len() + tail.len() as u64;
    let read = file.chain(std::io::Cursor::new(tail));
    let read = std::io::Cursor::new(head).chain(read);
    let blocks = futures::stream::try_unfold(read, |mut read| async move {
        let mut block = vec![0; BLOCK];
        let length = read.read(&mut block).await?;
        block.truncate(length);
        Ok::<_, std::io::Error>((length > 0).then_some((block, read)))
    });
    Ok(builder
        .header("content-type", format!("multipart/form-data; boundary={EDGE}"))
        .header("content-length", length)
        .body(reqwest::Body::wrap_stream(blocks)))
}

/// How often something failed so far.
#[derive(Default)]
struct Patience {
    passing: u32,
    limited: u32,
}

impl Patience {
    /// Waits before the next attempt; an error where there is to be none.
    async fn wait(&mut self, api: &BatchApi<'_>, failure: Failure) -> Result<(), CallError> {
        let wait = match failure {
            Failure::Final(error) => return Err(error),
            Failure::Moved { to, .. } => {
                return Err(CallError::Protocol(format!(
                    "the server's batches have moved to {to}"
                )));
            }
            Failure::Passing { what: last, slow } => {
                self.passing += 1;
                if self.passing >= ATTEMPTS {
                    return Err(CallError::Transient { attempts: self.passing, last, slow });
                }
                backoff(self.passing, &api.request)
            }
            Failure::Limited { why: last, wait, .. } => {
                self.limited += 1;
                if self.limited > LIMIT_WAITS {
                    let attempts = self.limited;
                    return Err(CallError::Transient { attempts, last, slow: false });
                }
                wait.unwrap_or_else(|| unannounced_wait(Service::Model, self.limited))
            }
        };
        api.transport.unless_stopped(tokio::time::sleep(wait)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Digest;

    fn addressee(url: &str) -> Addressee {
        Addressee {
            url: url.into(),
            accept: "application/json".into(),
            auth: None,
            model: "m".into(),
            price: None,
            seconds: 1,
        }
    }

    #[test]
    fn a_line_holds_the_very_bytes_of_its_request() {
        for (url, endpoint) in [
            ("https://api.openai.com/v1/chat/completions", "/v1/chat/completions"),
            ("https://host/some/where/responses", "/v1/responses"),
        ] {
            let addressee = addressee(url);
            let body = Bytes::from_static(br#"{"model":"m","temperature":0.10}"#);
            let request = addressee.request(body.clone(), 3);
            let (line, start) = addressee.line(CallKey(Digest([7; 32])), &request);
            assert_eq!(line[start..start + body.len()], body);
            let line: Value = serde_json::from_slice(&line).expect("JSON");
            assert_eq!(line["custom_id"], "07".repeat(32));
            assert_eq!((&line["url"], &line["body"]["model"]), (&endpoint.into(), &"m".into()));
        }
    }
}
