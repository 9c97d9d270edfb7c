//! The store in `cache/`: calls, memo, fingerprints, run history and file digests in one SQLite
//! database, artifacts by digest beside it. One thread writes; anyone reads.

mod artifact;
mod calls;
mod database;
mod files;
mod lock;
mod memo;

pub use artifact::{Artifact, ArtifactReader, ArtifactWriter};
pub use calls::{CallKey, CallRecord, Source};
pub use files::{FileState, write_aside};
pub use lock::Lock;
pub use memo::{StageRecord, StoredTable};

use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use database::{Readers, Writer};

/// A store that cannot be opened, read or written.
#[derive(Debug, Error)]
pub enum StoreError {
    #[error("{path}: {what}")]
    At { path: PathBuf, what: String },
    #[error("the store's database: {0}")]
    Database(#[from] rusqlite::Error),
    #[error("the store: {0}")]
    Io(#[from] std::io::Error),
    #[error(
        "the store holds version {found} of its format, this flow writes version {ours}; use the flow that wrote it, or move the folder away"
    )]
    Version { found: String, ours: u32 },
    #[error("an entry of the store is damaged: {0}")]
    Damaged(String),
    #[error("another run works here (process {holder}); wait for it to end")]
    Locked { holder: String },
}

/// An open store. Clones share it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    root: PathBuf,
    readers: Readers,
    writer: Writer,
}

impl Store {
    /// Opens the store in `root`, making it where there is none.
    pub fn open(root: &Path) -> Result<Store, StoreError> {
        std::fs::create_dir_all(root.join("objects"))
            .map_err(|error| StoreError::At { path: root.into(), what: error.to_string() })?;
        let path = root.join("flow.db");
        let connection = database::open(&path)?;
        let writer = Writer::start(connection)?;
        let readers = Readers::new(path);
        Ok(Store { inner: Arc::new(Inner { root: root.to_owned(), readers, writer }) })
    }

    /// Waits until everything written so far is on the disk.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.inner.writer.sync()
    }

    fn objects(&self) -> PathBuf {
        self.inner.root.join("objects")
    }
}
