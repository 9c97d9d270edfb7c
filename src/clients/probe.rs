//! Single questions to a server that are no calls: nothing is looked up, kept, counted or waited for.

use std::time::Duration;

use reqwest::header::HeaderMap;
use serde_json::Value;

use super::call::{CallError, Request};
use super::transport::{
    MOST_MOVES, http_client, is_limit, message, moved, same_server, secret, text,
};

/// How long one attempt may take, whatever the manifest says of calls.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Before the second and last attempt.
const PAUSE: Duration = Duration::from_millis(500);
/// No more of an answer is read: lists of models have some hundred thousand bytes.
const LONGEST: usize = 16 << 20;

/// Asks servers how they stand.
pub struct Probe {
    http: reqwest::Client,
}

/// What a server said. A secret that it repeated is not in it.
pub struct Reply {
    pub status: u16,
    headers: HeaderMap,
    body: bytes::Bytes,
}

const SHORTEST_SECRET: usize = 8;

impl Probe {
    pub fn new() -> Result<Probe, CallError> {
        Ok(Probe { http: http_client()? })
    }

    /// Sends a GET, and once more where it failed in passing. The error is why there is no answer.
    pub async fn ask(&self, request: &Request) -> Result<Reply, String> {
        match self.attempt(request).await {
            Ok(reply) if !matches!(reply.status, 408 | 500 | 502..=504) => Ok(reply),
            _ => {
                tokio::time::sleep(PAUSE).await;
                self.attempt(request).await
            }
        }
    }

    /// What has moved is asked for at its new place, as the transport does.
    async fn attempt(&self, request: &Request) -> Result<Reply, String> {
        let mut url = request.url.clone();
        let mut moves = 0;
        loop {
            let reply = self.get(request, &url).await.map_err(cause)?;
            match moved(request, reply.status, &reply.headers, &url) {
                Some(to) if moves < MOST_MOVES && same_server(&to, &url) => url = to,
                _ => return Ok(reply),
            }
            moves += 1;
        }
    }

    async fn get(&self, request: &Request, url: &str) -> Result<Reply, reqwest::Error> {
        let builder = self.http.get(url).header("accept", &request.accept).timeout(TIMEOUT);
        let builder = match &request.api_version {
            Some(version) => builder.header("x-github-api-version", version),
            None => builder,
        };
        let secret = secret(request);
        let builder = match &secret {
            Some(secret) => builder.bearer_auth(secret),
            None => builder,
        };
        let mut response = builder.send().await?;
        let mut body = Vec::new();
        while body.len() < LONGEST
            && let Some(chunk) = response.chunk().await?
        {
            body.extend_from_slice(&chunk);
        }
        // One so short is no secret, and may stand in any answer.
        if let Some(secret) = secret.filter(|secret| secret.len() >= SHORTEST_SECRET) {
            body = String::from_utf8_lossy(&body).replace(&secret, "(secret)").into_bytes();
        }
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Reply { status, headers, body: body.into() })
    }
}

/// Why there is no answer: what lies under all that is said about it.
fn cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut deepest: &dyn std::error::Error = &error;
    while let Some(error) = deepest.source() {
        deepest = error;
    }
    deepest.to_string()
}

impl Reply {
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Null where it is no JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        text(&self.headers, name)
    }

    /// Whether it asks for patience, and refuses nothing for good.
    pub fn is_limit(&self) -> bool {
        self.status == 429 || (self.status == 403 && is_limit(&self.headers, &self.body))
    }

    /// What the server says of a refusal, short.
    pub fn message(&self) -> String {
        message(&self.body)
    }
}
