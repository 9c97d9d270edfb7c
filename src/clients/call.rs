//! A call: one request with its answer, and the key that it is cached by.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use thiserror::Error;

use super::limiter::Pace;
use crate::manifest::Price;
use crate::store::{CallKey, Given, Source, StoreError};
use crate::table::{Hasher, Row};

/// Raised when the same request would get another key.
const KEY_VERSION: &str = "call 1";

/// Notes, under a name of ours, at which address an answer was given where that is not the one that
/// was asked.
pub(super) const MOVED: &str = "flow-moved-to";

/// Note, under names of ours, how a model's answer was come by: in how many attempts, and how long the
/// last one took.
pub const ATTEMPTS: &str = "flow-attempts";
pub const TOOK_MS: &str = "flow-took-ms";
/// Notes, under a name of ours, in which of the provider's batches an answer came.
pub const BATCH: &str = "flow-batch";

/// Whether a kept header tells of the asking and not of the answer: it differs from one asking to the
/// next, so no recording holds it.
pub fn is_of_asking(header: &str) -> bool {
    [ATTEMPTS, TOOK_MS, BATCH, "openai-processing-ms"].contains(&header)
        || header.starts_with("x-ratelimit-")
}

/// Whether an address of GitHub's is of a search, and not of a repository that is called so.
pub fn is_search(url: &str) -> bool {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    path.contains("/search/") && !path.contains("/repos/")
}

/// Fields of a model request's body that cannot change the answer. Everything else counts.
const DENIED: [&str; 10] = [
    "stream",
    "stream_options",
    "user",
    "metadata",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "service_tier",
    "store",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Post,
}

impl Method {
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
        }
    }
}

/// Whose rules an answer is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    Github,
    Model,
}

/// A request as it will be sent. Its secret is named, never held.
#[derive(Clone, Debug)]
pub struct Request {
    pub service: Service,
    pub method: Method,
    pub url: String,
    pub accept: String,
    /// `X-GitHub-Api-Version`.
    pub api_version: Option<String>,
    /// The exact bytes; empty for a GET.
    pub body: Bytes,
    /// Tells repeated askings of one request apart.
    pub sample: u32,
    /// The environment variable that holds the bearer token.
    pub auth: Option<String>,
    /// With server and key, what limits are shared by: a model's name; empty for GitHub.
    pub pool: String,
    /// It can be asked in smaller parts: where the server takes too long, it is not tried for long.
    pub gives_way: bool,
    pub timeout: Duration,
    pub attempts: u32,
    pub pace: Pace,
    /// What the tokens of its answer cost.
    pub price: Option<Price>,
    /// How many like it go together, where it goes in a batch.
    pub batch: Option<BatchLimits>,
}

/// What the provider takes in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    pub requests: u64,
    /// The tokens of all batches that wait at once.
    pub tokens: Option<u64>,
}

impl Request {
    /// What it is in a batch: at the price there, and under no limit a minute.
    pub fn in_batch(self) -> Request {
        let pace = Pace { requests_per_minute: None, tokens_per_minute: None, ..self.pace };
        let price = self.price.map(Price::in_batch);
        Request { pace, price, ..self }
    }

    /// The hash of all that can change the answer.
    pub fn key(&self) -> CallKey {
        let mut hasher = Hasher::new(KEY_VERSION);
        hasher
            .part(self.method.as_str().as_bytes())
            .part(self.url.as_bytes())
            .part(self.accept.as_bytes())
            .part(self.api_version.as_deref().unwrap_or("").as_bytes())
            .part(&self.meaningful_body())
            .part(&self.sample.to_le_bytes());
        CallKey(hasher.finish())
    }

    /// Fields of the body that are left out of the key.
    pub fn not_in_key(&self) -> Vec<&'static str> {
        let held = |name: &&&str| {
            let name = format!("\"{name}\"");
            memchr::memmem::find(&self.body, name.as_bytes()).is_some()
        };
        let denied = DENIED.iter().filter(|_| self.service == Service::Model);
        let maybe: Vec<&'static str> = denied.filter(held).copied().collect();
        if maybe.is_empty() {
            return maybe;
        }
        // Most of the time it is a word of a prompt.
        let body = serde_json::from_slice::<Row>(&self.body).unwrap_or_default();
        maybe.into_iter().filter(|name| body.contains_key(*name)).collect()
    }

    fn meaningful_body(&self) -> Bytes {
        if self.not_in_key().is_empty() {
            return self.body.clone();
        }
        match serde_json::from_slice::<Value>(&self.body) {
            Ok(Value::Object(mut body)) => {
                body.retain(|name, _| !DENIED.contains(&name.as_str()));
                serde_json::to_vec(&body).expect("JSON values always serialize").into()
            }
            _ => self.body.clone(),
        }
    }

    /// `GET https://...`, for messages.
    pub fn shown(&self) -> String {
        format!("{} {}", self.method.as_str(), self.url)
    }
}

/// A final answer: a success, or an outcome that will not change by asking again.
#[derive(Clone, Debug)]
pub struct Answer {
    pub key: CallKey,
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Bytes,
    pub source: Source,
    pub given: Given,
    /// It was there already; nothing was sent.
    pub cached: bool,
}

impl Answer {
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The address where it was given, where that is not the one that was asked.
    pub fn moved_to(&self) -> Option<&str> {
        self.headers.get(MOVED).map(String::as_str)
    }

    pub fn json(&self) -> Result<Value, CallError> {
        serde_json::from_slice(&self.body).map_err(|error| CallError::Transient {
            attempts: 1,
            last: format!("the answer is no JSON: {error}"),
            slow: false,
        })
    }
}

/// Why there is no answer. None of these is ever stored as one.
#[derive(Debug, Error)]
pub enum CallError {
    /// No call may be made, and no recording has this one.
    #[error("the call is not recorded and calls are off: {shown} (key {key})")]
    Offline { shown: String, key: String },
    /// It failed in passing, as often as may be tried; a later run asks again.
    #[error("no answer after {attempts} attempt{}: {last}", if *.attempts == 1 { "" } else { "s" })]
    Transient {
        attempts: u32,
        last: String,
        /// The server took too long over it: less may do.
        slow: bool,
    },
    /// The server will not have this one request.
    #[error("refused with status {status}: {message}")]
    Refused { status: u16, message: String },
    /// The provider lets this one request, or its answer, not through.
    #[error("the provider's filter withheld the answer: {0}")]
    Filtered(String),
    /// The server will have no request of this kind: it stops the stage.
    #[error("{shown} was denied with status {status}: {message}{}", help_denied(*.status))]
    Denied { shown: String, status: u16, message: String },
    /// A list that page numbers do not lead to the end of, and that is in no order to go on in.
    #[error(
        "the list ends after {found} elements, at {at}: GitHub counts its pages no further. An \
         `/issues` list sorted by `updated` (`sort=updated&direction=asc`) is read whole"
    )]
    Short { found: u64, at: String },
    /// A search of which GitHub shows only the first thousand results.
    #[error("GitHub shows 1,000 of {total} results of {at}; narrow its `created:` range")]
    TooMany { total: u64, at: String },
    /// A list that has fewer elements than it should.
    #[error("{found} of {total} came of {at}; ask again with `--retry-failed`")]
    Missing { found: u64, total: u64, at: String },
    /// It goes in batches alone, and none has answered it; a later run sends it again.
    #[error("no batch has answered it: {0}")]
    NotInBatch(String),
    #[error("the environment variable {0} is not set; export it and run again")]
    NoSecret(String),
    /// An answer that the protocol does not allow.
    #[error("{0}")]
    Protocol(String),
    /// The run stops: no call may leave any more.
    #[error("{0}")]
    Stopped(Stop),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What to do where a server denies what is asked.
fn help_denied(status: u16) -> &'static str {
    match status {
        401 => "; see whether the key in the environment is the right one",
        403 => "; the key, or whose it is, lacks the right to it",
        404 => "; look at `model` and `base_url`",
        402 | 429 => "; look at the account with the provider, then run again",
        _ => "",
    }
}

impl CallError {
    /// Whether nothing else of this stage can succeed either.
    pub fn stops_the_stage(&self) -> bool {
        matches!(
            self,
            CallError::Denied { .. }
                | CallError::NoSecret(_)
                | CallError::Stopped(_)
                | CallError::Store(_)
        )
    }
}

/// Why a run stops before it is done.
#[derive(Clone, Debug, PartialEq)]
pub enum Stop {
    /// Ctrl-C.
    Interrupted,
    /// As many calls were made as may be.
    Calls(u64),
    /// The next call could take the cost, in USD, beyond what may be spent.
    Cost(f64),
    /// A stage failed, and the run was told to stop then.
    Failed(String),
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Stop::Interrupted => f.write_str("interrupted"),
            Stop::Calls(1) => f.write_str("1 call was made, as many as may be"),
            Stop::Calls(most) => write!(f, "{most} calls were made, as many as may be"),
            Stop::Cost(most) => {
                write!(f, "the next call could cost more than the ${most} that may be spent")
            }
            Stop::Failed(stage) => {
                write!(f, "stage `{stage}` failed, and the run stops at the first failure")
            }
        }
    }
}
