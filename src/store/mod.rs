//! The store in `cache/`: calls, memo, fingerprints, run history and file digests in one SQLite
//! database, artifacts by digest beside it. One thread writes; anyone reads.

mod artifact;
mod batches;
mod calls;
mod database;
mod files;
mod gc;
mod lines;
mod lock;
mod memo;
mod runs;
mod tables;

pub use artifact::{Artifact, ArtifactReader, ArtifactWriter, Chunk};
pub use batches::{BatchFault, BatchItem, OpenBatch};
pub use calls::{CallKey, CallRecord, Given, Keep, Source};
pub use files::{FileState, Notes, input_note, write_aside};
pub use gc::{Cleared, Collected, Gc, Sizes, Verified};
pub use lines::{KeepError, Stretches, stretches_note};
pub use lock::Lock;
pub use memo::{Made, Memo};
pub use runs::StoredRun;
pub use tables::{StageRecord, StoredTable};

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use rusqlite::{Connection, Transaction};
use thiserror::Error;

use crate::table::Digest;
use calls::Revised;
use database::{Readers, Writer};

/// A store that cannot be opened, read or written.
#[derive(Debug, Error)]
pub enum StoreError {
    #[error("{path}: {what}")]
    At { path: PathBuf, what: String },
    #[error("the store: {0}{help}", help = help(.0))]
    Io(#[from] std::io::Error),
    #[error(
        "the store holds version {found} of its format, this flow writes version {ours}; use the flow that wrote it, or move the folder away"
    )]
    Version { found: String, ours: &'static str },
    #[error("an entry of the store is damaged: {0}")]
    Damaged(String),
    #[error("another run works here (process {holder}); wait for it to end, or let `--wait` do so")]
    Locked { holder: String },
    #[error("the store was opened only to be read")]
    ReadOnly,
}

impl StoreError {
    /// A file or folder that cannot be used, with what to do.
    pub(crate) fn at(path: &Path, error: &std::io::Error) -> StoreError {
        StoreError::At { path: path.to_owned(), what: format!("{error}{}", help(error)) }
    }
}

/// What to do about a file that cannot be used.
pub fn help(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind::*;
    match error.kind() {
        StorageFull | QuotaExceeded | FileTooLarge => {
            "; make room and run again: nothing that was answered is lost"
        }
        ReadOnlyFilesystem | PermissionDenied => "; the folder must be writable for a run",
        AlreadyExists | NotADirectory => "; a file stands where a folder is wanted: move it away",
        NotFound => "; make the folder that it is to stand in",
        _ => "",
    }
}

/// An open store. Clones share it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    root: PathBuf,
    readers: Readers,
    /// `None` where it is only read.
    writer: Option<Writer>,
    revised: Mutex<Revised>,
    /// Objects of a store that is only read: they are never written down.
    aside: Mutex<HashMap<Digest, Arc<[u8]>>>,
}

impl Store {
    /// Opens the store in `root`, making it where there is none.
    pub fn open(root: &Path) -> Result<Store, StoreError> {
        std::fs::create_dir_all(root.join("objects"))
            .map_err(|error| StoreError::at(root, &error))?;
        let path = root.join("flow.db");
        let connection = database::open(&path)?;
        let revised = Revised::read(&connection);
        let revised = revised.map_err(|error| database::unusable(&path, &error))?;
        let writer = Writer::start(connection, &path)?;
        Ok(Store::new(root, Readers::new(Some(path)), Some(writer), revised))
    }

    /// Opens the store in `root` to read it, also while a run works; `None` where there is none.
    /// Nothing is written, wherever it is.
    pub fn open_to_read(root: &Path) -> Result<Option<Store>, StoreError> {
        let path = root.join("flow.db");
        if !path.exists() {
            return Ok(None);
        }
        let readers = Readers::new(Some(path));
        match readers.read(database::version)? {
            Some(version) if version == database::VERSION => {}
            Some(found) => return Err(StoreError::Version { found, ours: database::VERSION }),
            // The first run is just making it.
            None => return Ok(None),
        }
        let revised = readers.read(Revised::read)?;
        Ok(Some(Store::new(root, readers, None, revised)))
    }

    /// A store that holds nothing and takes nothing: for where there is none yet.
    pub fn empty(root: &Path) -> Store {
        Store::new(root, Readers::new(None), None, Revised::default())
    }

    fn new(root: &Path, readers: Readers, writer: Option<Writer>, revised: Revised) -> Store {
        let (root, revised) = (root.to_owned(), Mutex::new(revised));
        Store { inner: Arc::new(Inner { root, readers, writer, revised, aside: Mutex::default() }) }
    }

    /// Waits until everything written so far is on the disk.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.inner.writer.as_ref().map_or(Ok(()), Writer::sync)
    }

    fn database(&self) -> PathBuf {
        self.inner.root.join("flow.db")
    }

    fn objects(&self) -> PathBuf {
        self.inner.root.join("objects")
    }

    fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        self.inner.readers.read(work)
    }

    /// Writes; returns once it is committed.
    async fn commit(
        &self,
        job: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()> + Send + 'static,
    ) -> Result<(), StoreError> {
        match &self.inner.writer {
            Some(writer) => writer.commit(job).await,
            None => Err(StoreError::ReadOnly),
        }
    }

    fn aside(&self) -> MutexGuard<'_, HashMap<Digest, Arc<[u8]>>> {
        self.inner.aside.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn revised(&self) -> MutexGuard<'_, Revised> {
        self.inner.revised.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
