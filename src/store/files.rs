//! Files of the project as the store sees them: what they were when last read, and how an output is
//! replaced without ever standing torn.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::params;

use super::{Store, StoreError};
use crate::table::Digest;

/// Enough of a file's metadata to tell that it is unchanged; compared by equality, never by order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileState {
    size: i64,
    mtime: i64,
    inode: i64,
}

impl FileState {
    pub fn of(path: &Path) -> io::Result<FileState> {
        fs::metadata(path).map(|metadata| FileState::from(&metadata))
    }
}

impl From<&Metadata> for FileState {
    fn from(metadata: &Metadata) -> FileState {
        use std::os::unix::fs::MetadataExt;
        FileState {
            size: metadata.size() as i64,
            mtime: metadata.mtime().wrapping_mul(1_000_000_000).wrapping_add(metadata.mtime_nsec()),
            inode: metadata.ino() as i64,
        }
    }
}

/// What was noted of files, as it stood at one moment.
#[derive(Debug, Default)]
pub struct Notes(HashMap<String, (FileState, Digest)>);

impl Notes {
    /// The digest that was noted for `path`, if the file has not been touched since.
    pub fn noted(&self, path: &str, state: FileState) -> Option<Digest> {
        self.0.get(path).filter(|(noted, _)| *noted == state).map(|(_, digest)| *digest)
    }

    /// The digest that was last noted for `path`, whatever has become of the file.
    pub fn knows(&self, path: &str) -> Option<Digest> {
        self.0.get(path).map(|(_, digest)| *digest)
    }
}

/// Inputs are noted apart from outputs: one file may be both, in two pipelines of a folder.
pub fn input_note(path: &str) -> String {
    format!("input {path}")
}

impl Store {
    /// All that is noted of files.
    pub fn notes(&self) -> Result<Notes, StoreError> {
        self.read(|connection| {
            let mut statement =
                connection.prepare("SELECT path, size, mtime, inode, digest FROM files")?;
            let mut rows = statement.query([])?;
            let mut notes = HashMap::new();
            while let Some(row) = rows.next()? {
                let (size, mtime, inode) = (row.get(1)?, row.get(2)?, row.get(3)?);
                if let Some(digest) = Digest::from_slice(row.get_ref(4)?.as_blob()?) {
                    notes.insert(row.get(0)?, (FileState { size, mtime, inode }, digest));
                }
            }
            Ok(Notes(notes))
        })
    }

    /// Notes that `path`, in this state, holds what `digest` stands for.
    pub async fn note(
        &self,
        path: &str,
        state: FileState,
        digest: Digest,
    ) -> Result<(), StoreError> {
        let path = path.to_owned();
        self.commit(move |transaction| {
            transaction
                .prepare_cached("INSERT OR REPLACE INTO files VALUES (?1, ?2, ?3, ?4, ?5)")?
                .execute(params![path, state.size, state.mtime, state.inode, &digest.0[..]])
                .map(drop)
        })
        .await
    }
}

/// Writes a file aside, syncs it and renames it into place, so that at any moment the old or the
/// new content stands there, whole.
pub fn write_aside<E: From<io::Error>>(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>,
) -> Result<FileState, E> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // One run works here at a time: what a killed one left half written is written over.
    let aside = folder.join(format!(".{name}.tmp"));
    let written = (|| {
        let mut file = BufWriter::with_capacity(1 << 16, File::create(&aside)?);
        fill(&mut file)?;
        let file = file.into_inner().map_err(|error| E::from(error.into_error()))?;
        file.sync_all()?;
        fs::rename(&aside, path)?;
        File::open(folder)?.sync_all()?;
        Ok(FileState::from(&file.metadata()?))
    })();
    if written.is_err() {
        // What was written so far is of no use; the error that stopped it is what is reported.
        let _ = fs::remove_file(&aside);
    }
    written
}

/// Writes bytes that are named by their digest: where they stand already there is nothing to do.
/// Not synced: what a power cut leaves torn does not match its digest and is made again.
pub(super) fn write_object(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    // Two stages may write the same bytes at once: each has a name of its own.
    static WRITES: AtomicU64 = AtomicU64::new(0);
    let write = WRITES.fetch_add(1, Ordering::Relaxed);
    let aside = path.with_extension(format!("{}.{write}.tmp", std::process::id()));
    fs::write(&aside, bytes)?;
    fs::rename(&aside, path)
}
