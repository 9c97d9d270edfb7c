//! The provider's batches that are open, with where each of their requests lies on the disk; and why
//! requests that went in a batch have no answer.
//!
//! A batch is noted before it is sent and again once the provider has named it, each time for good: what
//! is cut off in between is looked for at the provider.

use std::fs;
use std::path::PathBuf;

use rusqlite::{OptionalExtension, Row, params};

use super::{CallKey, Store, StoreError};
use crate::table::Digest;

/// A batch of requests that are not answered yet.
#[derive(Clone, Debug)]
pub struct OpenBatch {
    pub id: i64,
    /// Tells it apart from all others, here and at the provider; names the file of its requests.
    pub label: String,
    /// Whom its requests go to, as the client writes it.
    pub addressee: String,
    /// Its name at the provider; `None` until it is known to be there.
    pub remote: Option<String>,
    pub requests: u64,
    /// The tokens of its requests, estimated.
    pub tokens: u64,
    /// What was set aside of the run's budget, in millionths of a USD.
    pub set_aside: u64,
    /// The run that made it, and when, in milliseconds since 1970.
    pub run: i64,
    pub at: i64,
}

/// A request of a batch: the call, and where in the batch's file its body stands.
#[derive(Clone, Copy, Debug)]
pub struct BatchItem {
    pub key: CallKey,
    pub sample: u32,
    pub start: u64,
    pub length: u64,
}

/// Why a request that went in a batch has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchFault {
    /// With which status it was refused; `None` where it failed in passing.
    pub refused: Option<u16>,
    pub message: String,
}

impl Store {
    /// Notes a batch that is about to be sent, for good; gives it its number. What it has of `id` and
    /// `remote` does not count.
    pub async fn put_batch(
        &self,
        batch: &OpenBatch,
        items: Vec<BatchItem>,
    ) -> Result<i64, StoreError> {
        let batch = batch.clone();
        let (tell, told) = std::sync::mpsc::channel();
        self.commit(move |transaction| {
            transaction.execute(
                "INSERT INTO batches (label, addressee, requests, tokens, set_aside, run, at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    batch.label,
                    batch.addressee,
                    batch.requests,
                    batch.tokens,
                    batch.set_aside,
                    batch.run,
                    batch.at
                ],
            )?;
            let id = transaction.last_insert_rowid();
            let mut insert =
                transaction.prepare("INSERT INTO batch_items VALUES (?1, ?2, ?3, ?4, ?5)")?;
            for item in items {
                let BatchItem { key, sample, start, length } = item;
                insert.execute(params![&key.0.0[..], id, sample, start, length])?;
            }
            // It is waited for, below.
            let _ = tell.send(id);
            Ok(())
        })
        .await?;
        self.sync()?;
        told.recv().map_err(|_| std::io::Error::other("the batch has no number").into())
    }

    /// Notes for good how the provider names a batch.
    pub async fn name_batch(&self, id: i64, remote: &str) -> Result<(), StoreError> {
        let remote = remote.to_owned();
        self.commit(move |transaction| {
            let update = "UPDATE batches SET remote = ?2 WHERE id = ?1";
            transaction.execute(update, params![id, remote]).map(drop)
        })
        .await?;
        self.sync()
    }

    /// Forgets a batch that is open no more, and notes in which of its requests it left without an
    /// answer.
    pub async fn end_batch(
        &self,
        id: i64,
        run: i64,
        faults: Vec<(CallKey, BatchFault)>,
    ) -> Result<(), StoreError> {
        self.commit(move |transaction| {
            transaction.execute("DELETE FROM batch_items WHERE batch = ?1", [id])?;
            transaction.execute("DELETE FROM batches WHERE id = ?1", [id])?;
            let mut insert = transaction
                .prepare("INSERT OR REPLACE INTO batch_faults VALUES (?1, ?2, ?3, ?4)")?;
            for (key, fault) in faults {
                insert.execute(params![&key.0.0[..], run, fault.refused, fault.message])?;
            }
            Ok(())
        })
        .await
    }

    /// The batches that are open, the oldest first.
    pub fn open_batches(&self) -> Result<Vec<OpenBatch>, StoreError> {
        self.read(|connection| {
            // A store that was only read since an older flow wrote it has no such table.
            if !connection.table_exists(None, "batches")? {
                return Ok(Vec::new());
            }
            connection
                .prepare(
                    "SELECT id, label, addressee, remote, requests, tokens, set_aside, run, at
                     FROM batches ORDER BY id",
                )?
                .query_map([], open)?
                .collect()
        })
    }

    /// The open batch that the request of this call went in, with its place there.
    pub fn batch_item(&self, key: CallKey) -> Result<Option<(i64, BatchItem)>, StoreError> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT batch, sample, start, length FROM batch_items WHERE key = ?1",
                )?
                .query_row([&key.0.0[..]], |row| {
                    let item = BatchItem {
                        key,
                        sample: row.get(1)?,
                        start: row.get(2)?,
                        length: row.get(3)?,
                    };
                    Ok((row.get(0)?, item))
                })
                .optional()
        })
    }

    /// The calls whose requests went in a batch.
    pub fn batch_calls(&self, id: i64) -> Result<Vec<CallKey>, StoreError> {
        self.read(|connection| {
            let mut statement =
                connection.prepare("SELECT key FROM batch_items WHERE batch = ?1")?;
            let mut rows = statement.query([id])?;
            let mut calls = Vec::new();
            while let Some(row) = rows.next()? {
                calls.extend(Digest::from_slice(row.get_ref(0)?.as_blob()?).map(CallKey));
            }
            Ok(calls)
        })
    }

    /// Why the last batch that the request of this call went in left it without an answer.
    pub fn batch_fault(&self, key: CallKey) -> Result<Option<BatchFault>, StoreError> {
        self.read(|connection| {
            connection
                .prepare_cached("SELECT refused, message FROM batch_faults WHERE key = ?1")?
                .query_row([&key.0.0[..]], |row| {
                    Ok(BatchFault { refused: row.get(0)?, message: row.get(1)? })
                })
                .optional()
        })
    }

    /// Forgets what other runs noted of requests without an answer: they are sent again.
    pub async fn forget_batch_faults(&self, run: i64) -> Result<(), StoreError> {
        self.commit(move |transaction| {
            transaction.execute("DELETE FROM batch_faults WHERE run <> ?1", [run]).map(drop)
        })
        .await
    }

    /// A file beside those of the batches' requests, in a folder that is there.
    pub fn batch_file(&self, name: &str) -> Result<PathBuf, StoreError> {
        let folder = self.inner.root.join("batches");
        fs::create_dir_all(&folder).map_err(|error| StoreError::at(&folder, &error))?;
        Ok(folder.join(name))
    }

    /// Removes the files that belong to no open batch: what a run left that was cut off.
    pub fn tidy_batch_files(&self) -> Result<(), StoreError> {
        let open = self.open_batches()?;
        let names: Vec<String> = open.iter().map(OpenBatch::file_name).collect();
        for entry in fs::read_dir(self.batch_file("")?)? {
            let entry = entry?;
            if !names.iter().any(|name| entry.file_name() == name.as_str()) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

impl OpenBatch {
    /// The file that holds its requests.
    pub fn file_name(&self) -> String {
        format!("{}.jsonl", self.label)
    }
}

fn open(row: &Row<'_>) -> rusqlite::Result<OpenBatch> {
    Ok(OpenBatch {
        id: row.get(0)?,
        label: row.get(1)?,
        addressee: row.get(2)?,
        remote: row.get(3)?,
        requests: row.get(4)?,
        tokens: row.get(5)?,
        set_aside: row.get(6)?,
        run: row.get(7)?,
        at: row.get(8)?,
    })
}
