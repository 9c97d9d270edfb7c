//! The history: every run, in its order.

use rusqlite::OptionalExtension;

use super::{Store, StoreError};

/// A run as it stands in the history.
#[derive(Clone, Debug)]
pub struct StoredRun {
    pub id: i64,
    /// When it began, UTC: `2026-01-31T12:00:00.000Z`.
    pub at: String,
    /// What it did, JSON; `None` while it goes on, or where it was cut off.
    pub record: Option<String>,
}

impl Store {
    /// Notes that a run begins; gives it its number.
    pub async fn begin_run(&self) -> Result<i64, StoreError> {
        let (tell, told) = std::sync::mpsc::channel();
        self.commit(move |transaction| {
            transaction.execute("INSERT INTO runs (record) VALUES (NULL)", [])?;
            // It is waited for, below.
            let _ = tell.send(transaction.last_insert_rowid());
            Ok(())
        })
        .await?;
        told.recv().map_err(|_| std::io::Error::other("the run has no number").into())
    }

    /// Notes what a run did.
    pub async fn end_run(&self, id: i64, record: String) -> Result<(), StoreError> {
        self.commit(move |transaction| {
            let update = "UPDATE runs SET record = ?2 WHERE id = ?1";
            transaction.execute(update, rusqlite::params![id, record]).map(drop)
        })
        .await
    }

    /// The last runs, the latest first.
    pub fn runs(&self, most: u64) -> Result<Vec<StoredRun>, StoreError> {
        self.read(|connection| {
            connection
                .prepare("SELECT id, at, record FROM runs ORDER BY id DESC LIMIT ?1")?
                .query_map([most], stored)?
                .collect()
        })
    }

    /// How many of the stored answers were given in a run.
    pub fn answered_in(&self, run: i64) -> Result<u64, StoreError> {
        let count = "SELECT count(*) FROM calls WHERE run = ?1";
        self.read(|connection| connection.query_row(count, [run], |row| row.get(0)))
    }

    pub fn run(&self, id: i64) -> Result<Option<StoredRun>, StoreError> {
        self.read(|connection| {
            connection
                .prepare("SELECT id, at, record FROM runs WHERE id = ?1")?
                .query_row([id], stored)
                .optional()
        })
    }
}

fn stored(row: &rusqlite::Row<'_>) -> rusqlite::Result<StoredRun> {
    Ok(StoredRun { id: row.get(0)?, at: row.get(1)?, record: row.get(2)? })
}
