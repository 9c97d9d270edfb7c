//! Cassettes: files of recorded calls, one JSON object a line, read before the cache.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::call::{BATCH, is_of_asking};
use crate::store::{CallKey, CallRecord, Given, Source, Store, StoreError, write_aside};
use crate::table::Digest;

/// A recorded call, as it stands in the file. Bodies are texts; one that is no UTF-8 is written in
/// hexadecimal digits under `body_hex`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    key: String,
    method: String,
    url: String,
    accept: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    request: String,
    status: u16,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body_hex: Option<String>,
    /// Of the bodies only this is here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    left_out: Option<LeftOut>,
    source: String,
}

/// What stands in the place of a call's bodies where they may not be handed on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeftOut {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Body>,
    pub body: Body,
}

/// Enough of a body to know it by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Body {
    pub size: u64,
    pub blake3: String,
}

impl Body {
    pub fn of(bytes: &[u8]) -> Body {
        Body { size: bytes.len() as u64, blake3: Digest::of(bytes).hex() }
    }
}

/// A call of a cassette whose bodies were left out.
#[derive(Debug)]
pub struct Bodiless {
    pub key: CallKey,
    pub method: String,
    pub url: String,
    pub status: u16,
    pub body: Body,
}

/// Why a line is no recorded call.
fn no_call(error: &serde_json::Error) -> String {
    let told = error.to_string();
    let what = told.split(" at line ").next().unwrap_or(&told);
    match (error.is_data(), what.strip_prefix("missing field ")) {
        (true, Some(field)) => format!("it is no recorded call: it lacks {field}"),
        (true, None) => format!("it is no recorded call: {what}"),
        (false, _) => format!("it is no JSON: {what}"),
    }
}

/// An open cassette: where each recorded call stands in the file.
#[derive(Debug)]
pub struct Cassette {
    file: File,
    places: HashMap<CallKey, (u64, usize)>,
}

impl Cassette {
    /// Reads the whole file once; a line that is no recorded call is named in the error.
    pub fn open(path: &Path) -> Result<Cassette, String> {
        let shown = path.strip_prefix(".").unwrap_or(path).display().to_string();
        let file = File::open(path).map_err(|error| format!("the cassette {shown}: {error}"))?;
        Cassette::read(file, &shown)
    }

    /// Reads a file that is called `shown` in errors.
    pub fn read(file: File, shown: &str) -> Result<Cassette, String> {
        let failed = |error: std::io::Error| format!("the cassette {shown}: {error}");
        let mut reader = BufReader::new(file);
        let mut places = HashMap::new();
        let mut offset = 0;
        let mut text = Vec::new();
        for number in 1.. {
            text.clear();
            let length = reader.read_until(b'\n', &mut text).map_err(failed)?;
            if length == 0 {
                break;
            }
            if !text.trim_ascii().is_empty() {
                let wrong = |what: String| format!("the cassette {shown}, line {number}: {what}");
                let line = Line::read(&text).map_err(wrong)?;
                if line.left_out.is_some() {
                    return Err(wrong(
                        "the bodies of its calls were left out: it answers none".into(),
                    ));
                }
                places.insert(line.key().map_err(wrong)?, (offset, length));
            }
            offset += length as u64;
        }
        Ok(Cassette { file: reader.into_inner(), places })
    }

    pub fn has(&self, key: CallKey) -> bool {
        self.places.contains_key(&key)
    }

    pub fn get(&self, key: CallKey) -> Option<CallRecord> {
        let &(offset, length) = self.places.get(&key)?;
        let mut text = vec![0; length];
        self.file.read_exact_at(&mut text, offset).ok()?;
        let line: Line = serde_json::from_slice(&text).ok()?;
        let body = match line.body_hex {
            Some(hex) => from_hex(&hex)?,
            None => line.body.unwrap_or_default().into(),
        };
        Some(CallRecord {
            method: line.method,
            url: line.url,
            accept: line.accept,
            request: line.request.into(),
            status: line.status,
            headers: line.headers,
            body,
            source: Source(line.source),
            given: Given::default(),
        })
    }
}

/// The recorded answer for `key`: from the cassette, where none has taken its place, or from the store.
pub fn recorded_call(
    cassette: Option<&Cassette>,
    store: &Store,
    key: CallKey,
) -> Result<Option<CallRecord>, StoreError> {
    let cassette = cassette.filter(|_| !store.is_replaced(key));
    match cassette.and_then(|cassette| cassette.get(key)) {
        Some(record) => Ok(Some(record)),
        None => store.call(key),
    }
}

/// Writes one call as a line; without `bodies` only what tells them from others.
pub fn write_call(
    key: CallKey,
    record: CallRecord,
    bodies: bool,
    out: &mut impl Write,
) -> std::io::Result<()> {
    let mut line = Line {
        key: key.0.hex(),
        method: record.method,
        url: record.url,
        accept: record.accept,
        request: String::new(),
        status: record.status,
        headers: lasting(record.headers),
        body: None,
        body_hex: None,
        left_out: None,
        source: record.source.0,
    };
    if bodies {
        line.request = String::from_utf8_lossy(&record.request).into_owned();
        match String::from_utf8(record.body.to_vec()) {
            Ok(text) => line.body = Some(text),
            Err(error) => line.body_hex = Some(to_hex(error.as_bytes())),
        }
    } else {
        let request = (!record.request.is_empty()).then(|| Body::of(&record.request));
        line.left_out = Some(LeftOut { request, body: Body::of(&record.body) });
    }
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}

/// Reads a line that `write_call` wrote without bodies.
pub fn read_bodiless(text: &[u8]) -> Result<Bodiless, String> {
    let line = Line::read(text)?;
    let key = line.key()?;
    let Some(left_out) = line.left_out else {
        return Err("it holds its bodies, which were to be left out".into());
    };
    let Line { method, url, status, .. } = line;
    Ok(Bodiless { key, method, url, status, body: left_out.body })
}

impl Line {
    fn read(text: &[u8]) -> Result<Line, String> {
        serde_json::from_slice(text).map_err(|error| no_call(&error))
    }

    fn key(&self) -> Result<CallKey, String> {
        self.key.parse().map(CallKey).map_err(|error| format!("key: {error}"))
    }
}

/// Writes every call of a store to a cassette, in an order that depends on the calls alone; returns
/// how many there are.
pub fn write_cassette(store: &Store, path: &Path) -> Result<u64, StoreError> {
    if !store.has_calls()? {
        let what = "no call is stored, so there is nothing to write; run first".to_owned();
        return Err(StoreError::At { path: path.to_owned(), what });
    }
    let mut count = 0;
    write_aside(path, |file| {
        store.each_call(|key, record| {
            write_call(key, record, true, file)?;
            count += 1;
            Ok(())
        })
    })?;
    Ok(count)
}

/// What tells of the asking differs each time; a recording of the same calls is the same. That an answer
/// came in a batch stays: it decides what was paid for it.
fn lasting(mut headers: BTreeMap<String, String>) -> BTreeMap<String, String> {
    if headers.remove(BATCH).is_some() {
        headers.retain(|name, _| !is_of_asking(name));
        headers.insert(BATCH.to_owned(), "yes".to_owned());
        return headers;
    }
    headers.retain(|name, _| !is_of_asking(name));
    headers
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Bytes> {
    let digits = text.as_bytes();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.chunks(2).map(pair).collect::<Option<Vec<u8>>>().map(Bytes::from)
}
