//! Models: both APIs of any OpenAI-compatible server, through async-openai, whose requests leave by
//! way of the transport. The body sent is the body that was built here, so the body that
//! is hashed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_openai::Client;
use async_openai::config::OpenAIConfig;
use async_openai::error::OpenAIError;
use async_openai::middleware::HttpRequestFactory;
use async_openai::traits::RequestOptionsBuilder;
use serde_json::Value;

use super::asking::Asking;
use super::call::{Answer, BatchLimits, CallError, Method, Request, Service};
use super::completion::{Api, Completion};
use super::limiter::Pace;
use super::usage::tokens_of;
use crate::manifest::Price;

/// How to reach a model.
#[derive(Clone, Debug)]
pub struct Chat {
    /// `https://api.openai.com/v1`, without a slash at its end.
    pub base_url: String,
    pub api: Api,
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
    /// How many requests go together, where they go in batches.
    pub batch: Option<BatchLimits>,
}

impl Chat {
    /// The request that `ask` will send for `body`.
    pub fn request(&self, body: &Value, sample: u32) -> Request {
        let bytes = serde_json::to_vec(body).expect("JSON values always serialize");
        let url = format!("{}{}", self.base_url, self.api.path());
        self.to_request(url, bytes.into(), sample)
    }

    /// A GET of `path`, from `base_url` on.
    pub fn get(&self, path: &str) -> Request {
        let url = format!("{}{path}", self.base_url);
        Request { method: Method::Get, ..self.to_request(url, Default::default(), 0) }
    }

    /// The answer to `body`: from the cassette or the cache, or asked for now. `sample` tells several
    /// answers to the same body apart.
    pub async fn ask(
        &self,
        asking: &Asking,
        body: Value,
        sample: u32,
    ) -> Result<(Answer, Completion), CallError> {
        let seen: Arc<Mutex<Option<Result<Answer, CallError>>>> = Arc::default();
        let service = {
            let (chat, seen, asking) = (self.clone(), seen.clone(), asking.clone());
            tower::service_fn(move |factory: HttpRequestFactory| {
                let (chat, seen, asking) = (chat.clone(), seen.clone(), asking.clone());
                async move {
                    let built = factory.build().await?;
                    let bytes = built.body().and_then(|body| body.as_bytes()).unwrap_or_default();
                    let bytes = bytes::Bytes::copy_from_slice(bytes);
                    let request = chat.to_request(built.url().to_string(), bytes, sample);
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
        // The types of its other API, which nothing here uses, would take long to compile.
        let group = client.chat().path(self.api.path());
        let parsed: Result<Value, OpenAIError> = match group {
            Ok(group) => group.create_byot(body).await,
            Err(error) => Err(error),
        };
        let seen = seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        match (seen, parsed) {
            (Some(Ok(answer)), Ok(value)) => Ok((answer, Completion::of(&value))),
            (Some(Err(error)), _) => Err(error),
            (_, Err(error)) => Err(CallError::Protocol(error.to_string())),
            (None, Ok(_)) => Err(CallError::Protocol("the request never left".into())),
        }
    }

    fn to_request(&self, url: String, body: bytes::Bytes, sample: u32) -> Request {
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
            sample,
            auth: self.auth.clone(),
            pool: self.pool.clone(),
            gives_way: false,
            timeout: self.timeout,
            attempts: self.attempts,
            pace,
            price: self.price,
            batch: self.batch,
        }
    }
}
