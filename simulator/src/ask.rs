//! A request as the handlers see it, and the answer they give back.

use crate::faults::Says;
use hyper::body::Bytes;
use serde_json::Value;
use std::time::Duration;

pub struct Ask {
    pub method: String,
    pub path: String,
    /// The query's pairs as they were sent, still encoded.
    pub query: Vec<(String, String)>,
    /// Scheme and host of the request: what addresses in an answer begin with.
    pub base: String,
    pub accept: String,
    pub if_none_match: Option<String>,
    pub content_type: String,
    /// The key that it came with.
    pub key: String,
    pub body: Bytes,
    /// A search shall run out of time.
    pub incomplete: bool,
    /// What a model shall say instead of an answer.
    pub says: Option<Says>,
}

impl Ask {
    /// Another request of the same client.
    pub fn with(&self, method: &str, path: &str, body: Bytes) -> Ask {
        Ask {
            method: method.to_owned(),
            path: path.to_owned(),
            query: Vec::new(),
            base: self.base.clone(),
            accept: self.accept.clone(),
            if_none_match: None,
            content_type: "application/json".to_owned(),
            key: self.key.clone(),
            body,
            incomplete: false,
            says: None,
        }
    }

    /// The decoded value of a query parameter; an empty one counts as absent.
    pub fn param(&self, name: &str) -> Option<String> {
        let found = self.query.iter().find(|(key, value)| key == name && !value.is_empty());
        found.map(|(_, value)| decode(value))
    }

    pub fn number(&self, name: &str, default: u64) -> u64 {
        self.param(name).and_then(|text| text.parse().ok()).unwrap_or(default)
    }
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Send half of the body, then hang up.
    pub cut: bool,
    /// Send the body in pieces, and wait so long before each.
    pub drip: Duration,
}

impl Answer {
    pub fn new(status: u16, content_type: &str, body: Vec<u8>) -> Answer {
        let headers = vec![("content-type".to_owned(), content_type.to_owned())];
        Answer { status, headers, body, cut: false, drip: Duration::ZERO }
    }

    pub fn json(status: u16, body: Vec<u8>) -> Answer {
        Answer::new(status, "application/json; charset=utf-8", body)
    }

    pub fn value(status: u16, value: &Value) -> Answer {
        Answer::json(status, value.to_string().into_bytes())
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Answer {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

pub fn pairs(query: &str) -> Vec<(String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

pub fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |at: usize| bytes.get(at).and_then(|byte| (*byte as char).to_digit(16));
        match (bytes[at], hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 2;
            }
            (b'+', ..) => out.push(b' '),
            (byte, ..) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// `text` as it may stand in an address, and so in the middle of any JSON text.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'!' | b'#'..=b';' | b'=' | b'?'..=b'Z' | b'_' | b'a'..=b'z' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out += &format!("%{byte:02X}"),
        }
    }
    out
}
