//! The memo of row stages: what a row made before, by what it asks and carries over.

use rusqlite::{OptionalExtension, params};

use super::calls::{CallKey, compress};
use super::{Store, StoreError};
use crate::table::{Digest, Row};

/// What a row made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Made {
    Rows(Vec<Row>),
    /// Too many to hold at once: the digest of an artifact.
    Stored(Digest),
}

/// An entry of the memo.
#[derive(Clone, Debug)]
pub struct Memo {
    pub made: Made,
    /// The calls that it stands on.
    pub calls: Vec<CallKey>,
    /// The latest revision of answers that it can stand on.
    pub revision: i64,
    /// The definition of the stage that made it.
    pub definition: Digest,
    /// The run that made it.
    pub run: i64,
    /// Where it depends on who asked: who it was.
    pub asker: Option<String>,
}

impl Store {
    /// What was made for `key` before, where it does not depend on who asked or `asker` asked
    /// (`None`: whoever it was), and no answer that it stands on has been replaced since. A damaged
    /// entry counts as absent.
    pub fn memo(&self, key: Digest, asker: Option<&str>) -> Result<Option<Memo>, StoreError> {
        let found = self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT rows, stored, digest, calls, revision, definition, run, credentials
                     FROM memo WHERE key = ?1
                     AND (credentials IS NULL OR ?2 IS NULL OR credentials = ?2)",
                )?
                .query_row(params![&key.0[..], asker], |row| {
                    let blob = |at| row.get_ref(at)?.as_blob().map_err(rusqlite::Error::from);
                    let (rows, digest) = (blob(0)?, blob(2)?);
                    if Digest::of(rows).0[..] != *digest {
                        return Ok(None);
                    }
                    let made = match row.get(1)? {
                        true => Digest::from_slice(rows).map(Made::Stored),
                        false => read_rows(rows).map(Made::Rows),
                    };
                    let keys = blob(3)?.chunks(32).filter_map(Digest::from_slice).map(CallKey);
                    let definition = Digest::from_slice(blob(5)?);
                    let (Some(made), Some(definition)) = (made, definition) else {
                        return Ok(None);
                    };
                    Ok(Some(Memo {
                        made,
                        calls: keys.collect(),
                        revision: row.get(4)?,
                        definition,
                        run: row.get(6)?,
                        asker: row.get(7)?,
                    }))
                })
                .optional()
        })?;
        Ok(found.flatten().filter(|memo| !self.is_revised(&memo.calls, memo.revision)))
    }

    /// Remembers what was made for `key`; returns once it is committed.
    pub async fn put_memo(&self, key: Digest, memo: Memo) -> Result<(), StoreError> {
        let (rows, stored) = match &memo.made {
            Made::Rows(rows) => {
                (compress(&serde_json::to_vec(rows).expect("rows always serialize"))?, false)
            }
            Made::Stored(digest) => (digest.0.to_vec(), true),
        };
        let calls: Vec<u8> = memo.calls.iter().flat_map(|call| call.0.0).collect();
        self.commit(move |transaction| {
            transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO memo VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                )?
                .execute(params![
                    &key.0[..],
                    rows,
                    stored,
                    &Digest::of(&rows).0[..],
                    calls,
                    memo.revision,
                    &memo.definition.0[..],
                    memo.run,
                    memo.asker,
                ])
                .map(drop)
        })
        .await
    }
}

fn read_rows(bytes: &[u8]) -> Option<Vec<Row>> {
    serde_json::from_slice(&zstd::decode_all(bytes).ok()?).ok()
}
