//! GitHub: REST requests, lists by their `Link`, diffs, and GraphQL in batches.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};

use super::asking::Asking;
use super::call::{Answer, CallError, Method, Request, Service};
use super::graphql::{Query, combine};
use super::limiter::Pace;
use super::transport::{Transport, noted_credentials, same_server};
use super::walk::{Page, Walk};
use crate::store::{CallKey, CallRecord, Keep, Source};
use crate::table::Row;

const JSON: &str = "application/vnd.github+json";
const DIFF: &str = "application/vnd.github.diff";

/// How to reach GitHub.
#[derive(Clone, Debug)]
pub struct Github {
    /// `https://api.github.com`, or `https://HOST/api/v3`, without a slash at its end.
    pub base_url: String,
    pub api_version: String,
    /// The environment variable that holds the token.
    pub auth: Option<String>,
    pub timeout: Duration,
    pub attempts: u32,
    pub pace: Pace,
}

/// Whether a list is walked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Go {
    On,
    Enough,
}

/// Where something is that was asked for elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    At(String),
    /// Nowhere, with the status that says so.
    Gone(u16),
}

impl Github {
    /// A GET of `path` (with its query), which begins with a slash.
    pub fn get(&self, path: &str) -> Request {
        self.request(Method::Get, format!("{}{path}", self.base_url), JSON)
    }

    /// The diff of a pull request's `path`.
    pub fn diff(&self, path: &str) -> Request {
        self.request(Method::Get, format!("{}{path}", self.base_url), DIFF)
    }

    /// A GraphQL query for one row.
    pub fn query(&self, query: &Query, variables: &Row) -> Request {
        self.post(&json!({ "query": query.text, "variables": variables }))
    }

    fn post(&self, body: &Value) -> Request {
        let mut request = self.request(Method::Post, self.graphql_url(), JSON);
        request.body = serde_json::to_vec(body).expect("JSON values always serialize").into();
        // The version header belongs to REST; GraphQL has none.
        request.api_version = None;
        request
    }

    fn request(&self, method: Method, url: String, accept: &str) -> Request {
        Request {
            service: Service::Github,
            method,
            url,
            accept: accept.to_owned(),
            api_version: Some(self.api_version.clone()),
            body: Default::default(),
            sample: 0,
            auth: self.auth.clone(),
            pool: String::new(),
            gives_way: false,
            timeout: self.timeout,
            attempts: self.attempts,
            pace: self.pace,
            price: None,
            batch: None,
        }
    }

    fn graphql_url(&self) -> String {
        match self.base_url.strip_suffix("/v3") {
            Some(api) if api.ends_with("/api") => format!("{api}/graphql"),
            _ => format!("{}/graphql", self.base_url),
        }
    }

    /// Walks a list page by page; `each` sees every page in order.
    pub async fn list(
        &self,
        asking: &Asking,
        first: &Request,
        mut each: impl FnMut(Page) -> Result<Go, CallError>,
    ) -> Result<(), CallError> {
        let transport = &asking.transport;
        let mut expected = transport.expect(first);
        let mut walk = Walk::new(first.clone());
        while let Some(request) = walk.next() {
            // A page that was too much before was recorded in parts.
            if transport.recorded(request)?.is_none()
                && let Some(part) = recorded_part(&walk, transport)
            {
                walk.replace(part);
                continue;
            }
            let gives_way = walk.smaller().is_some();
            let request = Request { gives_way, ..request.clone() };
            let answer = match transport.call(&request, asking).await {
                Err(CallError::Transient { slow: true, attempts, last }) => match walk.smaller() {
                    Some(smaller) => {
                        walk.replace(smaller);
                        continue;
                    }
                    None => return Err(CallError::Transient { slow: true, attempts, last }),
                },
                answer => answer?,
            };
            let page = walk.take(&answer)?;
            expected.set(page.ahead);
            if each(page)? == Go::Enough {
                break;
            }
        }
        Ok(())
    }

    /// The requests that a walk of the list would make, as far as its recorded pages tell; `false`
    /// where there may be more.
    pub fn foresee(&self, transport: &Transport, first: &Request) -> (Vec<Request>, bool) {
        let mut pages = Vec::new();
        let mut walk = Walk::new(first.clone());
        while let Some(request) = walk.next() {
            let answer = match transport.recorded(request) {
                Ok(Some(answer)) => answer,
                _ => match recorded_part(&walk, transport) {
                    Some(part) => {
                        walk.replace(part);
                        continue;
                    }
                    None => {
                        pages.push(request.clone());
                        return (pages, false);
                    }
                },
            };
            pages.push(request.clone());
            if walk.take(&answer).is_err() {
                break;
            }
        }
        (pages, true)
    }

    /// A GET of an address as it was told.
    pub fn at(&self, url: &str) -> Request {
        self.request(Method::Get, url.to_owned(), JSON)
    }

    /// Asks how many elements a list of a repository's issues or pull requests has; `None` where that
    /// cannot be told: where it is filtered by more than their state.
    pub fn total(&self, list: &Request) -> Option<Request> {
        let path = list.url.strip_prefix(&self.base_url)?;
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let ["", "repos", owner, name, what] = path.split('/').collect::<Vec<_>>()[..] else {
            return None;
        };
        let mut state = "open";
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=')? {
                ("state", wanted) => state = wanted,
                ("sort" | "direction" | "per_page", _) => {}
                _ => return None,
            }
        }
        let states = |closed: &str| match state {
            "all" => Some(String::new()),
            "open" => Some("(states: [OPEN])".to_owned()),
            "closed" => Some(format!("(states: [{closed}])")),
            _ => None,
        };
        let pulls = format!("pullRequests{} {{ totalCount }}", states("CLOSED, MERGED")?);
        let counts = match what {
            "issues" => format!("issues{} {{ totalCount }} {pulls}", states("CLOSED")?),
            "pulls" => pulls,
            _ => return None,
        };
        let text = format!(
            "query($owner: String!, $name: String!) {{ repository(owner: $owner, name: $name) \
             {{ {counts} }} }}"
        );
        let variables = json!({ "owner": owner, "name": name });
        Some(self.post(&json!({ "query": text, "variables": variables })))
    }

    /// How many elements a list has, as [`Github::total`] asks, and when it had them, in ms since 1970;
    /// 0 where that is not known.
    pub async fn count(
        &self,
        asking: &Asking,
        total: &Request,
    ) -> Result<Option<(u64, i64)>, CallError> {
        let answer = asking.transport.call(total, asking).await?;
        let value = answer.json()?;
        let counts = value.pointer("/data/repository").and_then(Value::as_object);
        let count = |of: &Value| of["totalCount"].as_u64();
        let total: Option<u64> = counts.and_then(|counts| counts.values().map(count).sum());
        Ok(total.map(|total| (total, answer.given.at)))
    }

    /// Where the issue or pull request is whose part `url` asks for and is not found: GitHub sends on
    /// who asks for the issue itself, and nobody who asks for its comments.
    pub async fn place(&self, asking: &Asking, url: &str) -> Result<Option<Place>, CallError> {
        let Some(path) = url.strip_prefix(&self.base_url) else { return Ok(None) };
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let parts: Vec<&str> = path.split('/').collect();
        let ["", "repos", owner, name, kind @ ("issues" | "pulls"), number, rest @ ..] = &parts[..]
        else {
            return Ok(None);
        };
        if rest.is_empty() && *kind == "issues" {
            return Ok(None);
        }
        let issue = self.get(&format!("/repos/{owner}/{name}/issues/{number}"));
        let answer = asking.transport.call(&issue, asking).await?;
        if matches!(answer.status, 410 | 451) {
            return Ok(Some(Place::Gone(answer.status)));
        }
        if !answer.is_success() {
            return Ok(None);
        }
        let found = answer.json()?;
        let Some(now) = found["url"].as_str().filter(|now| same_server(now, &self.base_url)) else {
            return Ok(None);
        };
        let mut now = match *kind {
            "pulls" => now.replacen("/issues/", "/pulls/", 1),
            _ => now.to_owned(),
        };
        for part in rest {
            now.push('/');
            now.push_str(part);
        }
        if !query.is_empty() {
            now = format!("{now}?{query}");
        }
        Ok((now != url).then_some(Place::At(now)))
    }

    /// Asks one query for many rows at once. Each row's answer is looked up and stored under the
    /// row's own request; what goes over the wire together is in no key.
    pub async fn batch(
        &self,
        asking: &Asking,
        query: &Query,
        rows: &[Row],
    ) -> Vec<Result<Answer, CallError>> {
        let transport = &asking.transport;
        let requests: Vec<Request> = rows.iter().map(|row| self.query(query, row)).collect();
        let keys: Vec<CallKey> = requests.iter().map(Request::key).collect();
        // In one order, so that two batches never wait for each other.
        let mut flights = Vec::new();
        for key in keys.iter().collect::<BTreeSet<_>>() {
            flights.push(transport.alone(*key).await);
        }
        let mut answers: Vec<Option<Result<Answer, CallError>>> = Vec::new();
        // Answers that are asked for again: they stand where no other comes.
        let mut known: HashMap<usize, Answer> = HashMap::new();
        let mut missing: Vec<usize> = Vec::new();
        for (index, request) in requests.iter().enumerate() {
            let recorded = transport.recorded(request).transpose();
            let recorded = match recorded {
                Some(Ok(answer)) if !transport.is_good(&answer, asking.again(answer.key)) => {
                    known.insert(index, answer);
                    None
                }
                recorded => recorded,
            };
            // Rows that ask the same share one answer.
            if recorded.is_none() && !missing.iter().any(|before| keys[*before] == keys[index]) {
                missing.push(index);
            }
            if let Some(Ok(answer)) = &recorded {
                asking.tally.calls_cached.fetch_add(1, Ordering::Relaxed);
                asking.saw(answer);
            }
            answers.push(recorded);
        }
        // What fails in passing is sent again in smaller batches, down to single rows.
        let mut waiting = vec![missing];
        while let Some(mut indices) = waiting.pop() {
            let most = query.most.load(Ordering::Relaxed);
            if indices.len() > most {
                waiting.push(indices.split_off(most));
            }
            if indices.is_empty() {
                continue;
            }
            let variables: Vec<&Row> = indices.iter().map(|index| &rows[*index]).collect();
            let (text, variables) = combine(query, &variables);
            let mut together = self.post(&json!({ "query": text, "variables": variables }));
            together.gives_way = indices.len() > 1;
            let mut again = Vec::new();
            match transport.send(&together, None, asking).await {
                Ok(record) => {
                    for (place, index) in indices.iter().copied().enumerate() {
                        let request = &requests[index];
                        // Judged before it is kept: what is no answer is never stored as one.
                        match split(query, &record, place, request) {
                            Ok(part) => {
                                let kept = match known.remove(&index) {
                                    Some(known) => {
                                        transport.renew(request, known, part, asking).await
                                    }
                                    None => transport.keep(request, part, Keep::First).await,
                                };
                                if let Ok(answer) = &kept {
                                    asking.saw(answer);
                                }
                                answers[index] = Some(kept);
                            }
                            Err(CallError::Transient { .. }) if indices.len() > 1 => {
                                again.push(index);
                            }
                            Err(error) => answers[index] = Some(Err(error)),
                        }
                    }
                }
                Err(CallError::Transient { slow, .. }) if indices.len() > 1 => {
                    if slow {
                        query.most.fetch_min(indices.len() / 2, Ordering::Relaxed);
                    }
                    again = indices.clone();
                }
                // One refusal holds for each row that was asked about.
                Err(error) => {
                    for index in &indices {
                        answers[*index] = Some(Err(repeated(&error)));
                    }
                }
            }
            let half = if again.len() < indices.len() { again.len() } else { again.len() / 2 };
            let (left, right) = again.split_at(half);
            waiting.extend(
                [right, left].into_iter().filter(|part| !part.is_empty()).map(<[_]>::to_vec),
            );
        }
        for (index, known) in known {
            if let Some(Err(error)) = &answers[index]
                && !error.stops_the_stage()
            {
                asking.stands(format!("{}: {error}", requests[index].shown()));
                answers[index] = Some(Ok(known));
            }
        }
        for index in 0..answers.len() {
            if answers[index].is_none() {
                let first = keys.iter().position(|key| *key == keys[index]).unwrap_or(index);
                answers[index] = answers[first].as_ref().map(|answer| match answer {
                    Ok(answer) => Ok(answer.clone()),
                    Err(error) => Err(repeated(error)),
                });
            }
        }
        answers.into_iter().map(|answer| answer.expect("every row was answered")).collect()
    }
}

/// The largest recorded part of the page that is next.
fn recorded_part(walk: &Walk, transport: &Transport) -> Option<Request> {
    walk.parts().find(|part| transport.is_recorded(part.key()).unwrap_or(false))
}

/// A row's own errors: only "not found" is an answer, and that a part of it may not be seen. What
/// concerns the whole request was judged before.
fn judge<'a>(errors: impl Iterator<Item = &'a Value>) -> Result<(), CallError> {
    for error in errors {
        let message = error["message"].as_str().unwrap_or("an error").to_owned();
        let is_part = error["path"].as_array().is_some_and(|path| path.len() > 1);
        match error["type"].as_str() {
            Some("NOT_FOUND") => {}
            Some("FORBIDDEN") if is_part => {}
            Some("FORBIDDEN") => return Err(CallError::Refused { status: 403, message }),
            _ => return Err(CallError::Transient { attempts: 1, last: message, slow: false }),
        }
    }
    Ok(())
}

/// One row's part of a batch's answer, as if it had been asked alone.
fn split(
    query: &Query,
    record: &CallRecord,
    place: usize,
    request: &Request,
) -> Result<CallRecord, CallError> {
    let value: Value = serde_json::from_slice(&record.body)
        .map_err(|error| CallError::Protocol(format!("the answer is no JSON: {error}")))?;
    let prefix = format!("r{place}_");
    let ours = |error: &Value| match error.pointer("/path/0").and_then(Value::as_str) {
        Some(first) => first.starts_with(&prefix),
        None => true,
    };
    let all = value.get("errors").and_then(Value::as_array);
    let errors: Vec<&Value> = all.into_iter().flatten().filter(|error| ours(error)).collect();
    judge(errors.iter().copied())?;
    let mut data = Row::new();
    for field in &query.fields {
        let found = value.pointer(&format!("/data/{prefix}{field}"));
        data.insert(field.clone(), found.cloned().unwrap_or(Value::Null));
    }
    // Where GitHub could not answer all of a batch, what it left out without a word is no answer.
    let told = |error: &Value| matches!(error["type"].as_str(), Some("NOT_FOUND" | "FORBIDDEN"));
    let troubled = all.into_iter().flatten().find(|error| !told(error));
    if let Some(error) = troubled.filter(|_| errors.is_empty() && data.values().any(Value::is_null))
    {
        let last = error["message"].as_str().unwrap_or("an error").to_owned();
        return Err(CallError::Transient { attempts: 1, last, slow: false });
    }
    let mut own = json!({ "data": data });
    // Who may not see it decides that it is not found.
    let headers = if errors.is_empty() { None } else { Some(noted_credentials(request)) };
    let errors: Vec<Value> = errors
        .into_iter()
        .cloned()
        .map(|mut error| {
            if let Some(first) = error.pointer_mut("/path/0") {
                let text = first.as_str().and_then(|text| text.strip_prefix(&prefix));
                *first = text.unwrap_or_default().into();
            }
            // Where it stood in the batch is nothing of the row's.
            if let Some(error) = error.as_object_mut() {
                error.remove("locations");
            }
            error
        })
        .collect();
    if !errors.is_empty() {
        own["errors"] = errors.into();
    }
    Ok(CallRecord {
        method: request.method.as_str().into(),
        url: request.url.clone(),
        accept: request.accept.clone(),
        request: request.body.clone(),
        status: 200,
        headers: headers.into_iter().collect(),
        body: serde_json::to_vec(&own).expect("JSON values always serialize").into(),
        source: Source(record.source.0.clone()),
        given: record.given,
    })
}

fn repeated(error: &CallError) -> CallError {
    match error {
        CallError::Denied { shown, status, message } => {
            CallError::Denied { shown: shown.clone(), status: *status, message: message.clone() }
        }
        CallError::NoSecret(variable) => CallError::NoSecret(variable.clone()),
        CallError::Stopped(why) => CallError::Stopped(why.clone()),
        CallError::Transient { attempts, last, slow } => {
            CallError::Transient { attempts: *attempts, last: last.clone(), slow: *slow }
        }
        CallError::Offline { shown, key } => {
            CallError::Offline { shown: shown.clone(), key: key.clone() }
        }
        other => CallError::Protocol(other.to_string()),
    }
}
