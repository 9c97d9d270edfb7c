//! The call cache: answers by the hash of their request.

use std::collections::BTreeMap;

use bytes::Bytes;
use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};

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
}

/// Who gave an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Source(pub String);

impl Store {
    /// The stored answer for `key`. A damaged entry counts as absent, so that it is made again.
    pub fn call(&self, key: CallKey) -> Result<Option<CallRecord>, StoreError> {
        let found = self.inner.readers.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT method, url, accept, request, status, headers, body, digest, source
                     FROM calls WHERE key = ?1",
                )?
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
                        },
                        row.get::<_, Vec<u8>>(3)?,
                        row.get::<_, String>(5)?,
                        row.get::<_, Vec<u8>>(6)?,
                        row.get::<_, Vec<u8>>(7)?,
                    ))
                })
                .optional()
        })?;
        let Some((mut record, request, headers, body, digest)) = found else {
            return Ok(None);
        };
        let read = || {
            let body = zstd::decode_all(&body[..]).ok()?;
            let request = zstd::decode_all(&request[..]).ok()?;
            let headers: BTreeMap<String, String> = serde_json::from_str(&headers).ok()?;
            (Digest::of(&body).0[..] == digest[..]).then_some((request, body, headers))
        };
        let Some((request, body, headers)) = read() else {
            tracing::warn!(url = record.url, "a stored answer is damaged and will be asked again");
            return Ok(None);
        };
        record.request = request.into();
        record.body = body.into();
        record.headers = headers;
        Ok(Some(record))
    }

    /// Stores an answer; returns once it is committed.
    pub async fn put_call(&self, key: CallKey, record: &CallRecord) -> Result<(), StoreError> {
        let record = record.clone();
        let request = compress(&record.request)?;
        let body = compress(&record.body)?;
        let digest = Digest::of(&record.body);
        let headers = serde_json::to_string(&record.headers).expect("texts always serialize");
        self.inner
            .writer
            .commit(move |transaction| {
                transaction
                    .prepare_cached(
                        "INSERT OR REPLACE INTO calls
                         (key, method, url, accept, request, status, headers, body, digest, source)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
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
                    ])
                    .map(drop)
            })
            .await
    }

    /// Whether any call is stored.
    pub fn has_calls(&self) -> Result<bool, StoreError> {
        self.inner.readers.read(|connection| connection.prepare("SELECT 1 FROM calls")?.exists([]))
    }

    /// Every stored call, in the order of method, address and body, so that a recording of the same
    /// calls is the same bytes.
    pub fn each_call(
        &self,
        mut each: impl FnMut(CallKey, CallRecord) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let keys = self.inner.readers.read(|connection| {
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

pub(super) fn compress(bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
    Ok(zstd::encode_all(bytes, 3)?)
}
