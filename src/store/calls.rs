//! The call cache: answers by the hash of their request.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use zstd::bulk::Compressor;

use super::database::readable;
use super::{Store, StoreError};
use crate::table::Digest;

/// The hash of all in a request that can change its answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct CallKey(pub Digest);

/// A request and its answer, as stored and as recorded in a cassette.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallRecord {
    pub method: String,
    pub url: String,
    pub accept: String,
    pub request: Bytes,
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Bytes,
    pub source: Source,
    /// When the server last gave it.
    pub given: Given,
}

/// When an answer was last given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// Milliseconds since 1970; 0 where it is not known.
    pub at: i64,
    /// The run in which it was.
    pub run: i64,
}

/// Who gave an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Source(pub String);

/// Answers that took the place of others.
#[derive(Default)]
pub(super) struct Revised {
    /// With the run in which they did.
    calls: HashMap<CallKey, i64>,
    /// The last such run, also where its answers have been collected since: what stands on older
    /// ones must not count again.
    latest: i64,
}

/// How an answer comes into the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Where there was none.
    First,
    /// In place of another: what stands on that one is to be made again.
    Instead,
}

impl Store {
    /// The stored answer for `key`. A damaged entry counts as absent, so that it is made again.
    pub fn call(&self, key: CallKey) -> Result<Option<CallRecord>, StoreError> {
        let found = self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT method, url, accept, request, status, headers, body, digest, source,
                        checked, run
                 FROM calls WHERE key = ?1",
            )?;
            let found = statement
                .query_row([&key.0.0[..]], |row| {
                    Ok((
                        CallRecord {
                            method: row.get(0)?,
                            url: row.get(1)?,
                            accept: row.get(2)?,
                            request: Bytes::new(),
                            status: row.get(4)?,
                            headers: BTreeMap::new(),
                            body: Bytes::new(),
                            source: Source(row.get(8)?),
                            given: Given { at: row.get(9)?, run: row.get(10)? },
                        },
                        row.get::<_, Vec<u8>>(3)?,
                        row.get::<_, String>(5)?,
                        row.get::<_, Vec<u8>>(6)?,
                        row.get::<_, Vec<u8>>(7)?,
                    ))
                })
                .optional();
            readable(found)
        })?;
        let Some((mut record, request, headers, body, digest)) = found else {
            return Ok(None);
        };
        let Some((request, body, headers)) = unpack(&request, &headers, &body, &digest) else {
            tracing::warn!(url = record.url, "a stored answer is damaged and will be asked again");
            return Ok(None);
        };
        record.request = request;
        record.body = body;
        record.headers = headers;
        Ok(Some(record))
    }

    /// Whether an answer is stored for `key`; does not read it.
    pub fn has_call(&self, key: CallKey) -> Result<bool, StoreError> {
        self.read(|connection| {
            connection.prepare_cached("SELECT 1 FROM calls WHERE key = ?1")?.exists([&key.0.0[..]])
        })
    }

    /// Stores an answer; returns once it is committed. A model's answer that another takes the place
    /// of is kept in the history: it was paid for.
    pub async fn put_call(
        &self,
        key: CallKey,
        record: &CallRecord,
        keep: Keep,
    ) -> Result<(), StoreError> {
        let record = record.clone();
        let request = compress(&record.request)?;
        let body = compress(&record.body)?;
        let digest = Digest::of(&record.body);
        let headers = serde_json::to_string(&record.headers).expect("texts always serialize");
        let run = record.given.run;
        self.commit(move |transaction| {
            if keep == Keep::Instead {
                transaction
                    .prepare_cached(
                        "INSERT INTO replaced
                         SELECT key, at, status, headers, body, digest, source, ?2 FROM calls
                         WHERE key = ?1 AND method = 'POST'",
                    )?
                    .execute(params![&key.0.0[..], run])?;
            }
            transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO calls
                     (key, method, url, accept, request, status, headers, body, digest, source,
                      checked, run, revision)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
                )?
                .execute(params![
                    &key.0.0[..],
                    record.method,
                    record.url,
                    record.accept,
                    request,
                    record.status,
                    headers,
                    body,
                    &digest.0[..],
                    record.source.0,
                    record.given.at,
                    run,
                    if keep == Keep::Instead { run } else { 0 },
                ])
                .map(drop)
        })
        .await?;
        if keep == Keep::Instead {
            self.revised().add(key, run);
        }
        Ok(())
    }

    /// Notes that the stored answer for `key` was given again as it is.
    pub async fn confirm_call(&self, key: CallKey, given: Given) -> Result<(), StoreError> {
        self.commit(move |transaction| {
            transaction
                .prepare_cached("UPDATE calls SET checked = ?2, run = ?3 WHERE key = ?1")?
                .execute(params![&key.0.0[..], given.at, given.run])
                .map(drop)
        })
        .await
    }

    /// The run that last put an answer in the place of another; 0 where none ever did.
    pub fn revision(&self) -> i64 {
        self.revised().latest
    }

    /// Whether `key`'s answer took the place of another.
    pub fn is_replaced(&self, key: CallKey) -> bool {
        self.revised().calls.contains_key(&key)
    }

    /// Whether an answer to one of `calls` has been replaced after `revision`.
    pub(super) fn is_revised(&self, calls: &[CallKey], revision: i64) -> bool {
        let revised = &self.revised().calls;
        !revised.is_empty()
            && calls.iter().any(|call| revised.get(call).is_some_and(|run| *run > revision))
    }

    /// Whether any call is stored.
    pub fn has_calls(&self) -> Result<bool, StoreError> {
        self.read(|connection| connection.prepare("SELECT 1 FROM calls")?.exists([]))
    }

    /// Every stored call, in the order of method, address and body, so that a recording of the same
    /// calls is the same bytes.
    pub fn each_call(
        &self,
        mut each: impl FnMut(CallKey, CallRecord) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let keys = self.read(|connection| {
            connection
                .prepare("SELECT key FROM calls ORDER BY method, url, key")?
                .query_map([], |row| row.get::<_, Vec<u8>>(0))?
                .collect::<Result<Vec<_>, _>>()
        })?;
        for key in keys {
            let Some(key) = Digest::from_slice(&key) else {
                continue;
            };
            if let Some(record) = self.call(CallKey(key))? {
                each(CallKey(key), record)?;
            }
        }
        Ok(())
    }
}

impl Revised {
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Revised> {
        let mut revised = Revised::default();
        let mut statement =
            connection.prepare("SELECT key, revision FROM calls WHERE revision > 0")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            if let Some(key) = Digest::from_slice(row.get_ref(0)?.as_blob()?) {
                revised.add(CallKey(key), row.get(1)?);
            }
        }
        let noted = "SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'revision'";
        let noted: Option<i64> = connection.query_row(noted, [], |row| row.get(0)).optional()?;
        revised.latest = revised.latest.max(noted.unwrap_or(0));
        Ok(revised)
    }

    /// Notes the latest revision beside the answers, which are about to be taken away.
    pub(super) fn note(connection: &Connection) -> rusqlite::Result<()> {
        let Revised { latest, .. } = Revised::read(connection)?;
        let note = "INSERT OR REPLACE INTO meta VALUES ('revision', ?1)";
        connection.execute(note, [latest.to_string()]).map(drop)
    }

    fn add(&mut self, key: CallKey, run: i64) {
        self.calls.insert(key, run);
        self.latest = self.latest.max(run);
    }
}

/// A call's request, answer and headers as they were; `None` where they are damaged.
pub(super) fn unpack(
    request: &[u8],
    headers: &str,
    body: &[u8],
    digest: &[u8],
) -> Option<(Bytes, Bytes, BTreeMap<String, String>)> {
    let body = zstd::decode_all(body).ok()?;
    let request = zstd::decode_all(request).ok()?;
    let headers = serde_json::from_str(headers).ok()?;
    (Digest::of(&body).0[..] == *digest).then(|| (request.into(), body.into(), headers))
}

pub(super) fn compress(bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
    // Setting one up costs more than to compress a row.
    thread_local! {
        static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    }
    COMPRESSOR.with_borrow_mut(|kept| {
        let compressor = match kept {
            Some(compressor) => compressor,
            none => none.insert(Compressor::new(LEVEL)?),
        };
        Ok(compressor.compress(bytes)?)
    })
}

/// How hard zstd tries.
const LEVEL: i32 = 3;
