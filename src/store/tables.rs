//! What stages made: tables by fingerprint, and the record of how each stage last ended.

use std::collections::HashMap;

use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::{Store, StoreError};
use crate::table::Digest;

/// A table that a fingerprint stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredTable {
    pub artifact: Digest,
    pub rows: u64,
    /// The rows that have no result and will have none unless they are asked about again.
    pub failed: Option<Digest>,
    pub definition: Digest,
    pub run: i64,
}

/// How a stage last ended, per profile.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StageRecord {
    pub fingerprint: String,
    pub definition: String,
    pub artifact: String,
    /// The digests of what it read, by name.
    pub inputs: Vec<(String, String)>,
    /// The fields that tell its rows apart.
    pub key: Vec<String>,
    pub state: String,
    pub rows: u64,
    pub failed_rows: u64,
    /// Rows that were answered by somebody else than was asked.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub stood_in: u64,
    /// The run in which it was last looked at, and the last one in which rows of it were made.
    pub run: i64,
    pub made: i64,
    /// When the oldest answer that it stands on was last given, ms since 1970; 0: not known.
    pub checked: i64,
    /// The revision of answers that it stands on.
    pub revision: i64,
    /// For each chunk of its input, where its rows stand: an object.
    pub spans: Option<String>,
    /// Taken as up to date because somebody said so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub accepted: bool,
    /// What stands for the table being as it is expected, where it was found to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// The components of the fingerprint, as text, for explanations.
    pub components: Vec<(String, String)>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl StageRecord {
    pub fn artifact(&self) -> Option<Digest> {
        self.artifact.parse().ok()
    }
}

impl Store {
    /// The table that `fingerprint` stands for, where it does not depend on who asked or `asker`
    /// asked (`None`: whoever it was).
    pub fn table(
        &self,
        fingerprint: Digest,
        asker: Option<&str>,
    ) -> Result<Option<StoredTable>, StoreError> {
        type Found = (Vec<u8>, u64, Option<Vec<u8>>, Vec<u8>, i64);
        let found: Option<Found> = self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT artifact, rows, failed, definition, run FROM fingerprints
                     WHERE fingerprint = ?1
                     AND (credentials IS NULL OR ?2 IS NULL OR credentials = ?2)",
                )?
                .query_row(params![&fingerprint.0[..], asker], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
                })
                .optional()
        })?;
        Ok(found.and_then(|(artifact, rows, failed, definition, run)| {
            let failed = match failed {
                Some(failed) => Some(Digest::from_slice(&failed)?),
                None => None,
            };
            let definition = Digest::from_slice(&definition)?;
            let artifact = Digest::from_slice(&artifact)?;
            Some(StoredTable { artifact, rows, failed, definition, run })
        }))
    }

    pub async fn put_table(
        &self,
        fingerprint: Digest,
        table: StoredTable,
        asker: Option<String>,
    ) -> Result<(), StoreError> {
        self.commit(move |transaction| {
            transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO fingerprints VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )?
                .execute(params![
                    &fingerprint.0[..],
                    &table.artifact.0[..],
                    table.rows,
                    table.failed.map(|failed| failed.0),
                    &table.definition.0[..],
                    table.run,
                    asker,
                ])
                .map(drop)
        })
        .await
    }

    /// `artifact`, a part of which is damaged, is a table no more: it is made again, and nothing of it
    /// is taken over.
    pub async fn forget(&self, artifact: Digest) -> Result<(), StoreError> {
        self.drop_object(artifact);
        self.commit(move |transaction| {
            transaction
                .prepare_cached("DELETE FROM fingerprints WHERE artifact = ?1 OR failed = ?1")?
                .execute([&artifact.0[..]])?;
            transaction
                .prepare_cached("DELETE FROM memo WHERE stored AND rows = ?1")?
                .execute([&artifact.0[..]])
                .map(drop)
        })
        .await
    }

    /// What is remembered of a stage.
    pub fn stage(&self, profile: &str, name: &str) -> Result<Option<StageRecord>, StoreError> {
        let found: Option<String> = self.read(|connection| {
            connection
                .prepare_cached("SELECT record FROM stages WHERE profile = ?1 AND name = ?2")?
                .query_row([profile, name], |row| row.get(0))
                .optional()
        })?;
        Ok(found.and_then(|record| serde_json::from_str(&record).ok()))
    }

    /// What is remembered of all stages under a profile, by their names.
    pub fn stages_of(&self, profile: &str) -> Result<HashMap<String, StageRecord>, StoreError> {
        self.read(|connection| {
            let mut statement =
                connection.prepare("SELECT name, record FROM stages WHERE profile = ?1")?;
            let mut rows = statement.query([profile])?;
            let mut found = HashMap::new();
            while let Some(row) = rows.next()? {
                if let Ok(record) = serde_json::from_str(row.get_ref(1)?.as_str()?) {
                    found.insert(row.get(0)?, record);
                }
            }
            Ok(found)
        })
    }

    /// Every stage's record under every profile: `(profile, name, record)`.
    pub fn stage_records(&self) -> Result<Vec<(String, String, StageRecord)>, StoreError> {
        self.read(|connection| {
            let mut statement =
                connection.prepare("SELECT profile, name, record FROM stages ORDER BY 1, 2")?;
            let mut rows = statement.query([])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                if let Ok(record) = serde_json::from_str(row.get_ref(2)?.as_str()?) {
                    found.push((row.get(0)?, row.get(1)?, record));
                }
            }
            Ok(found)
        })
    }

    pub async fn put_stage(
        &self,
        profile: &str,
        name: &str,
        record: &StageRecord,
    ) -> Result<(), StoreError> {
        let (profile, name) = (profile.to_owned(), name.to_owned());
        let record = serde_json::to_string(record).expect("records always serialize");
        self.commit(move |transaction| {
            transaction
                .prepare_cached("INSERT OR REPLACE INTO stages VALUES (?1, ?2, ?3)")?
                .execute([profile, name, record])
                .map(drop)
        })
        .await
    }
}
