//! What stages made: rows by what a row asked, tables by fingerprint, and each stage's last record.

use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::calls::compress;
use super::{Store, StoreError};
use crate::table::{Digest, Row};

/// A table that a fingerprint stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredTable {
    pub artifact: Digest,
    pub rows: u64,
}

/// What is remembered of a stage's last run, per profile.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StageRecord {
    pub fingerprint: String,
    pub artifact: String,
    pub state: String,
    pub rows: u64,
    pub failed_rows: u64,
    /// The components of the fingerprint, as text, for explanations.
    pub components: Vec<(String, String)>,
}

impl Store {
    /// The rows that were made for `key` before, where they do not depend on who asked or `asker`
    /// asked (`None`: whoever it was). A damaged entry counts as absent.
    pub fn memo(&self, key: Digest, asker: Option<&str>) -> Result<Option<Vec<Row>>, StoreError> {
        let found: Option<Vec<u8>> = self.inner.readers.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT rows FROM memo WHERE key = ?1
                     AND (credentials IS NULL OR ?2 IS NULL OR credentials = ?2)",
                )?
                .query_row(params![&key.0[..], asker], |row| row.get(0))
                .optional()
        })?;
        let read = |bytes: Vec<u8>| -> Option<Vec<Row>> {
            serde_json::from_slice(&zstd::decode_all(&bytes[..]).ok()?).ok()
        };
        Ok(found.and_then(read))
    }

    /// Remembers the rows made for `key`; does not wait for the commit, as they can be made again
    /// from the calls they stand on.
    pub fn put_memo(
        &self,
        key: Digest,
        rows: &[Row],
        asker: Option<String>,
    ) -> Result<(), StoreError> {
        let bytes = compress(&serde_json::to_vec(rows).expect("rows always serialize"))?;
        self.inner.writer.write(
            move |transaction| {
                transaction
                    .prepare_cached("INSERT OR REPLACE INTO memo VALUES (?1, ?2, ?3)")?
                    .execute(params![&key.0[..], bytes, asker])
                    .map(drop)
            },
            |result| {
                if let Err(what) = result {
                    tracing::warn!(what, "a row could not be remembered");
                }
            },
        );
        Ok(())
    }

    /// The table that `fingerprint` stands for, where it does not depend on who asked or `asker`
    /// asked (`None`: whoever it was).
    pub fn table(
        &self,
        fingerprint: Digest,
        asker: Option<&str>,
    ) -> Result<Option<StoredTable>, StoreError> {
        let found: Option<(Vec<u8>, i64)> = self.inner.readers.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT artifact, rows FROM fingerprints WHERE fingerprint = ?1
                     AND (credentials IS NULL OR ?2 IS NULL OR credentials = ?2)",
                )?
                .query_row(params![&fingerprint.0[..], asker], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()
        })?;
        Ok(found.and_then(|(artifact, rows)| {
            Some(StoredTable { artifact: Digest::from_slice(&artifact)?, rows: rows as u64 })
        }))
    }

    pub async fn put_table(
        &self,
        fingerprint: Digest,
        table: StoredTable,
        asker: Option<String>,
    ) -> Result<(), StoreError> {
        self.inner
            .writer
            .commit(move |transaction| {
                transaction
                    .prepare_cached("INSERT OR REPLACE INTO fingerprints VALUES (?1, ?2, ?3, ?4)")?
                    .execute(params![
                        &fingerprint.0[..],
                        &table.artifact.0[..],
                        table.rows as i64,
                        asker
                    ])
                    .map(drop)
            })
            .await
    }

    /// No fingerprint stands for `artifact` any more, so that it is made again.
    pub async fn forget(&self, artifact: Digest) -> Result<(), StoreError> {
        self.inner
            .writer
            .commit(move |transaction| {
                transaction
                    .execute("DELETE FROM fingerprints WHERE artifact = ?1", [&artifact.0[..]])
                    .map(drop)
            })
            .await
    }

    /// What the last run of a stage left.
    pub fn stage(&self, profile: &str, name: &str) -> Result<Option<StageRecord>, StoreError> {
        let found: Option<String> = self.inner.readers.read(|connection| {
            connection
                .prepare_cached("SELECT record FROM stages WHERE profile = ?1 AND name = ?2")?
                .query_row([profile, name], |row| row.get(0))
                .optional()
        })?;
        Ok(found.and_then(|text| serde_json::from_str(&text).ok()))
    }

    pub async fn put_stage(
        &self,
        profile: &str,
        name: &str,
        record: &StageRecord,
    ) -> Result<(), StoreError> {
        let (profile, name) = (profile.to_owned(), name.to_owned());
        let record = serde_json::to_string(record).expect("records always serialize");
        self.inner
            .writer
            .commit(move |transaction| {
                transaction
                    .prepare_cached("INSERT OR REPLACE INTO stages VALUES (?1, ?2, ?3)")?
                    .execute([profile, name, record])
                    .map(drop)
            })
            .await
    }

    /// Adds a run to the history.
    pub async fn put_run(&self, summary: String) -> Result<(), StoreError> {
        self.inner
            .writer
            .commit(move |transaction| {
                transaction.execute("INSERT INTO runs (summary) VALUES (?1)", [summary]).map(drop)
            })
            .await
    }
}
