//! Models: chat completions of any OpenAI-compatible server, through async-openai, whose requests
//! leave by way of the transport. The body sent is the body that was built here, so the body that
//! is hashed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_openai::Client;
use async_openai::config::OpenAIConfig;
use async_openai::error::OpenAIError;
use async_openai::middleware::HttpRequestFactory;
use serde_json::Value;

use super::asking::Asking;
use super::call::{Answer, CallError, Method, Request, Service};
use super::limiter::Pace;
use crate::manifest::Price;
use crate::store::CallRecord;

/// How to reach a model.
#[derive(Clone, Debug)]
pub struct Chat {
    /// `https://api.openai.com/v1`, without a slash at its end.
    pub base_url: String,
    /// The environment variable that holds the key.
    pub auth: Option<String>,
    pub timeout: Duration,
    pub attempts: u32,
    pub pace: Pace,
    /// Requests of one pool share their limits: the model's name.
    pub pool: String,
    /// The longest answer that is asked for, where one is named.
    pub max_tokens: Option<u32>,
    pub price: Option<Price>,
}

/// What an answer says that it took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub input: u64,
    pub cached_input: u64,
    pub output: u64,
}

impl Usage {
    pub fn of(answer: &Value) -> Usage {
        let number = |pointer| answer.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
        Usage {
            input: number("/usage/prompt_tokens"),
            cached_input: number("/usage/prompt_tokens_details/cached_tokens"),
            output: number("/usage/completion_tokens"),
        }
    }

    /// What the answer to a model's request took.
    pub(super) fn of_answer(request: &Request, record: &CallRecord) -> Usage {
        match request.service {
            Service::Github => Usage::default(),
            Service::Model => {
                Usage::of(&serde_json::from_slice(&record.body).unwrap_or(Value::Null))
            }
        }
    }

    /// The most that `request` is thought to take: its tokens and the longest answer that it allows.
    pub fn most(request: &Request) -> Usage {
        if request.service == Service::Github {
            return Usage::default();
        }
        let input = tokens_of(request.body.len());
        let output = u64::from(request.pace.tokens).saturating_sub(input);
        Usage { input, cached_input: 0, output }
    }

    /// In millionths of a USD, at the request's price; 0 where that is not known.
    pub fn cost(&self, request: &Request) -> u64 {
        let Some(price) = request.price else { return 0 };
        let cached = self.cached_input.min(self.input);
        // USD a million tokens is a millionth of a USD a token.
        let micros = (self.input - cached) as f64 * price.input
            + cached as f64 * price.cached_input.unwrap_or(price.input)
            + self.output as f64 * price.output;
        micros.round() as u64
    }
}

/// About as many tokens as a text of so many bytes has; three bytes a token errs on the side of
/// more.
fn tokens_of(bytes: usize) -> u64 {
    (bytes / 3) as u64
}

impl Chat {
    /// The request that `ask` will send for `body`.
    pub fn request(&self, body: &Value) -> Request {
        let bytes = serde_json::to_vec(body).expect("JSON values always serialize");
        let url = format!("{}/chat/completions", self.base_url);
        self.to_request(url, bytes.into())
    }

    /// The answer to `body`: from the cassette or the cache, or asked for now.
    pub async fn ask(&self, asking: &Asking, body: Value) -> Result<(Answer, Value), CallError> {
        let seen: Arc<Mutex<Option<Result<Answer, CallError>>>> = Arc::default();
        let service = {
            let (chat, seen, asking) = (self.clone(), seen.clone(), asking.clone());
            tower::service_fn(move |factory: HttpRequestFactory| {
                let (chat, seen, asking) = (chat.clone(), seen.clone(), asking.clone());
                async move {
                    let built = factory.build().await?;
                    let bytes = built.body().and_then(|body| body.as_bytes()).unwrap_or_default();
                    let bytes = bytes::Bytes::copy_from_slice(bytes);
                    let request = chat.to_request(built.url().to_string(), bytes);
                    let result = asking.transport.call(&request, &asking).await;
                    let response = http::Response::builder();
                    let response = match &result {
                        Ok(answer) => response.status(answer.status).body(answer.body.clone()),
                        // Its reason is handed over below; this only ends the exchange.
                        Err(_) => response.status(500).body(bytes::Bytes::from_static(b"{}")),
                    };
                    *seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(result);
                    let response = response
                        .map_err(|error| OpenAIError::InvalidArgument(error.to_string()))?;
                    Ok::<_, OpenAIError>(reqwest::Response::from(response))
                }
            })
        };
        let config = OpenAIConfig::new().with_api_base(&self.base_url).with_api_key("");
        // Built around the one HTTP client that there is: making another takes milliseconds.
        let client =
            Client::build(asking.transport.http().clone(), config).with_http_service(service);
        let parsed: Result<Value, OpenAIError> = client.chat().create_byot(body).await;
        let seen = seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        match (seen, parsed) {
            (Some(Ok(answer)), Ok(value)) => Ok((answer, value)),
            (Some(Err(error)), _) => Err(error),
            (_, Err(error)) => Err(CallError::Protocol(error.to_string())),
            (None, Ok(_)) => Err(CallError::Protocol("the request never left".into())),
        }
    }

    fn to_request(&self, url: String, body: bytes::Bytes) -> Request {
        let mut pace = self.pace;
        let sent = u32::try_from(tokens_of(body.len())).unwrap_or(u32::MAX);
        pace.tokens = sent.saturating_add(self.max_tokens.unwrap_or(256));
        Request {
            service: Service::Model,
            method: Method::Post,
            url,
            accept: "application/json".into(),
            api_version: None,
            body,
            sample: 0,
            auth: self.auth.clone(),
            pool: self.pool.clone(),
            timeout: self.timeout,
            attempts: self.attempts,
            pace,
            price: self.price,
        }
    }
}
