//! The SQLite database: its tables, the one thread that writes, the connections that read.
//!
//! Writes that wait are committed together, at once when the thread is free (so within a few
//! milliseconds: that survives a killed process), and a commit is synced to the disk at least every
//! 100 ms (that survives a power cut).

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction};

use super::StoreError;

/// Raised when a table changes its meaning; an older store is then refused with a clear message.
pub(super) const VERSION: &str = "2";

const CALLS: &str = "
CREATE TABLE IF NOT EXISTS calls (
  key BLOB PRIMARY KEY,       -- blake3 of the request
  method TEXT NOT NULL, url TEXT NOT NULL, accept TEXT NOT NULL,
  request BLOB NOT NULL,      -- the body as sent, zstd
  status INTEGER NOT NULL,
  headers TEXT NOT NULL,      -- JSON object, the headers that matter
  body BLOB NOT NULL,         -- the answer's body, zstd
  digest BLOB NOT NULL,       -- blake3 of the answer's body
  source TEXT NOT NULL,       -- 'model', 'github', 'authored', ...
  at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  checked INTEGER NOT NULL DEFAULT 0,  -- when the server last gave it, ms since 1970
  run INTEGER NOT NULL DEFAULT 0,      -- the run in which it did
  revision INTEGER NOT NULL DEFAULT 0  -- the run in which another answer took its place, 0: none has
);
";

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS revised ON calls (revision) WHERE revision > 0;
CREATE TABLE IF NOT EXISTS replaced (   -- answers of models that were asked for again
  key BLOB NOT NULL, at TEXT NOT NULL, status INTEGER NOT NULL, headers TEXT NOT NULL,
  body BLOB NOT NULL, digest BLOB NOT NULL, source TEXT NOT NULL,
  run INTEGER NOT NULL        -- the run that replaced it
);
CREATE TABLE IF NOT EXISTS memo (
  key BLOB PRIMARY KEY,       -- stage definition, requests, row key, kept fields
  rows BLOB NOT NULL,         -- the rows made, JSON array, zstd; or the digest of an artifact
  stored INTEGER NOT NULL,    -- 1: an artifact
  digest BLOB NOT NULL,       -- blake3 of `rows`
  calls BLOB NOT NULL,        -- the keys of the calls that they stand on, 32 bytes each
  revision INTEGER NOT NULL,  -- the latest revision of answers that they can stand on
  definition BLOB NOT NULL,
  run INTEGER NOT NULL,       -- the run that made them
  credentials TEXT            -- where they depend on who asked: who it was
);
CREATE TABLE IF NOT EXISTS fingerprints (
  fingerprint BLOB PRIMARY KEY, artifact BLOB NOT NULL, rows INTEGER NOT NULL,
  failed BLOB,                -- the artifact of the rows that have no result, where there are any
  definition BLOB NOT NULL,
  run INTEGER NOT NULL,
  credentials TEXT            -- where the table depends on who asked: who it was
);
CREATE TABLE IF NOT EXISTS stages (
  profile TEXT NOT NULL, name TEXT NOT NULL, record TEXT NOT NULL,
  PRIMARY KEY (profile, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS files (
  path TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime INTEGER NOT NULL, inode INTEGER NOT NULL,
  digest BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batches (   -- the provider's batches that are open
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  label TEXT NOT NULL,        -- names it to the provider, and the file of its requests
  addressee TEXT NOT NULL,    -- whom its requests go to, JSON
  remote TEXT,                -- its name at the provider; null until it is known to be there
  requests INTEGER NOT NULL, tokens INTEGER NOT NULL,
  set_aside INTEGER NOT NULL, -- of the budget of the run that made it, millionths of a USD
  run INTEGER NOT NULL, at INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS batch_items (
  key BLOB PRIMARY KEY,       -- the call
  batch INTEGER NOT NULL, sample INTEGER NOT NULL,
  start INTEGER NOT NULL, length INTEGER NOT NULL  -- of the request's body in the batch's file
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS items_of_batch ON batch_items (batch);
CREATE TABLE IF NOT EXISTS batch_faults (  -- requests that a batch left without an answer
  key BLOB PRIMARY KEY, run INTEGER NOT NULL,
  refused INTEGER,            -- with which status; null where it failed in passing
  message TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS runs (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  record TEXT                 -- what it did, JSON; null while it goes on, or where it was cut off
);
";

/// What a store of version 1 keeps: its answers, and what it noted of files. The rest is made again
/// from them.
const FROM_1: &str = "
DROP TABLE memo; DROP TABLE fingerprints; DROP TABLE stages; DROP TABLE runs;
ALTER TABLE calls ADD COLUMN checked INTEGER NOT NULL DEFAULT 0;
ALTER TABLE calls ADD COLUMN run INTEGER NOT NULL DEFAULT 0;
ALTER TABLE calls ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;
UPDATE meta SET value = '2' WHERE name = 'version';
";

const SYNC_EVERY: Duration = Duration::from_millis(100);

/// Writes that may wait for the thread; beyond that the writers wait.
const QUEUE: usize = 4096;

/// Opens the database for writing and makes its tables.
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    let at = |error: rusqlite::Error| unusable(path, &error);
    let mut connection = Connection::open(path).map_err(at)?;
    connection.busy_timeout(Duration::from_secs(10)).map_err(at)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(at)?;
    connection.pragma_update(None, "synchronous", "NORMAL").map_err(at)?;
    let transaction = connection.transaction().map_err(at)?;
    match version(&transaction).map_err(at)? {
        None => {
            transaction.execute_batch(CALLS).map_err(at)?;
            transaction.execute_batch(TABLES).map_err(at)?;
            let insert = "INSERT INTO meta VALUES ('version', ?1)";
            transaction.execute(insert, [VERSION]).map_err(at)?;
        }
        // Tables that came since are added; none has changed its meaning.
        Some(found) if found == VERSION => transaction.execute_batch(TABLES).map_err(at)?,
        Some(found) if found == "1" => {
            transaction.execute_batch(FROM_1).map_err(at)?;
            transaction.execute_batch(TABLES).map_err(at)?;
        }
        Some(found) => return Err(StoreError::Version { found, ours: VERSION }),
    }
    transaction.commit().map_err(at)?;
    Ok(connection)
}

/// The version of the format that the database holds; `None` where it is new.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<Option<String>> {
    if !connection.table_exists(None, "meta")? {
        return Ok(None);
    }
    connection
        .query_row("SELECT value FROM meta WHERE name = 'version'", [], |row| row.get(0))
        .optional()
}

pub(super) fn unusable(path: &Path, error: &rusqlite::Error) -> StoreError {
    StoreError::At { path: path.to_owned(), what: told(error) }
}

/// What happened, and what to do.
fn told(error: &rusqlite::Error) -> String {
    use rusqlite::ErrorCode::*;
    let help = match error.sqlite_error_code() {
        Some(DatabaseCorrupt | NotADatabase) => {
            "; it is damaged: move it away and run again, what can be read of it with \
             `sqlite3 flow.db .recover` can be put in its place"
        }
        Some(ReadOnly | CannotOpen | PermissionDenied) => "; the folder must be writable for a run",
        Some(DiskFull) => "; make room and run again: nothing that was answered is lost",
        _ => "",
    };
    format!("{error}{help}")
}

type Job = Box<dyn FnOnce(&Transaction<'_>) -> rusqlite::Result<()> + Send>;
type Ack = Box<dyn FnOnce(Result<(), Failed>) + Send>;

/// Why a write could not be committed: where, and what to do.
#[derive(Clone)]
struct Failed {
    path: PathBuf,
    what: String,
}

impl From<Failed> for StoreError {
    fn from(Failed { path, what }: Failed) -> StoreError {
        StoreError::At { path, what }
    }
}

enum Message {
    Write(Job, Ack),
    Sync(Ack),
}

/// The one thread that writes.
pub(super) struct Writer {
    path: PathBuf,
    sender: Option<SyncSender<Message>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(connection: Connection, path: &Path) -> Result<Writer, StoreError> {
        let (sender, receiver) = mpsc::sync_channel(QUEUE);
        let thread = std::thread::Builder::new().name("store".into()).spawn({
            let path = path.to_owned();
            move || write_loop(connection, &path, receiver)
        })?;
        Ok(Writer { path: path.to_owned(), sender: Some(sender), thread: Some(thread) })
    }

    /// Hands a write to the thread; `ack` is called once it is committed, or could not be.
    fn write(
        &self,
        job: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()> + Send + 'static,
        ack: impl FnOnce(Result<(), Failed>) + Send + 'static,
    ) {
        self.send(Message::Write(Box::new(job), Box::new(ack)));
    }

    /// Writes and waits for the commit without holding a thread of the async runtime.
    pub(super) async fn commit(
        &self,
        job: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()> + Send + 'static,
    ) -> Result<(), StoreError> {
        let (done, committed) = tokio::sync::oneshot::channel();
        self.write(job, move |result| {
            // The reader is gone only where its run was cut short; the write stands all the same.
            let _ = done.send(result);
        });
        Ok(committed.await.unwrap_or_else(|_| Err(self.ended()))?)
    }

    pub(super) fn sync(&self) -> Result<(), StoreError> {
        let (done, synced) = mpsc::channel();
        self.send(Message::Sync(Box::new(move |result| {
            let _ = done.send(result);
        })));
        Ok(synced.recv().unwrap_or_else(|_| Err(self.ended()))?)
    }

    fn send(&self, message: Message) {
        let sender = self.sender.as_ref().expect("taken only when dropped");
        if let Err(mpsc::SendError(Message::Write(_, ack) | Message::Sync(ack))) =
            sender.send(message)
        {
            ack(Err(self.ended()));
        }
    }

    fn ended(&self) -> Failed {
        Failed { path: self.path.clone(), what: "the thread that writes has ended".into() }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.sender.take();
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has already been printed by the panic hook.
            let _ = thread.join();
        }
    }
}

fn write_loop(mut connection: Connection, path: &Path, receiver: Receiver<Message>) {
    let mut unsynced_since: Option<Instant> = None;
    loop {
        let message = match unsynced_since {
            None => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(since) => receiver.recv_timeout(SYNC_EVERY.saturating_sub(since.elapsed())),
        };
        let mut writes = Vec::new();
        let mut syncs = Vec::new();
        let ended = matches!(message, Err(RecvTimeoutError::Disconnected));
        for message in message.into_iter().chain(receiver.try_iter().take(4096)) {
            match message {
                Message::Write(job, ack) => writes.push((job, ack)),
                Message::Sync(ack) => syncs.push(ack),
            }
        }
        let due = unsynced_since.is_some_and(|since| since.elapsed() >= SYNC_EVERY);
        let sync = due || !syncs.is_empty() || (ended && unsynced_since.is_some());
        let result = commit(&mut connection, path, writes, sync);
        if !syncs.is_empty() && result.is_ok() {
            // Somebody waits until all is safe: then it is so in one file, too. Where a reader stands
            // in the way, the log holds the rest.
            let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        }
        if sync {
            unsynced_since = None;
            for ack in syncs {
                ack(result.clone());
            }
        } else {
            unsynced_since = unsynced_since.or_else(|| Some(Instant::now()));
        }
        if ended {
            return;
        }
    }
}

/// Commits a batch. With `synchronous = FULL` a commit syncs the whole log file, earlier commits
/// included, so one such commit makes everything before it durable.
fn commit(
    connection: &mut Connection,
    path: &Path,
    writes: Vec<(Job, Ack)>,
    sync: bool,
) -> Result<(), Failed> {
    let (jobs, acks): (Vec<_>, Vec<_>) = writes.into_iter().unzip();
    let result = (|| {
        connection.pragma_update(None, "synchronous", if sync { "FULL" } else { "NORMAL" })?;
        let transaction = connection.transaction()?;
        for job in jobs {
            job(&transaction)?;
        }
        if sync {
            // A commit without a change writes nothing, and so would sync nothing.
            let touch = "INSERT OR REPLACE INTO meta VALUES ('synced', strftime('%s', 'now'))";
            transaction.execute(touch, [])?;
        }
        transaction.commit()
    })()
    .map_err(|error: rusqlite::Error| Failed { path: path.to_owned(), what: told(&error) });
    for ack in acks {
        ack(result.clone());
    }
    result
}

/// Read connections, opened as they are needed and kept.
pub(super) struct Readers {
    /// `None`: there is no database, and every connection sees an empty one.
    path: Option<PathBuf>,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn new(path: Option<PathBuf>) -> Readers {
        Readers { path, idle: Mutex::new(Vec::new()) }
    }

    fn open(&self) -> rusqlite::Result<Connection> {
        match &self.path {
            Some(path) => open_to_read(path),
            None => {
                let connection = Connection::open_in_memory()?;
                connection.execute_batch(CALLS)?;
                connection.execute_batch(TABLES)?;
                Ok(connection)
            }
        }
    }

    pub(super) fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let idle = self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.open().map_err(|error| self.unusable(&error))?,
        };
        let result = work(&connection).map_err(|error| self.unusable(&error))?;
        self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(connection);
        Ok(result)
    }

    fn unusable(&self, error: &rusqlite::Error) -> StoreError {
        unusable(self.path.as_deref().unwrap_or(Path::new("the empty store")), error)
    }
}

/// A connection that writes nothing. Where the folder itself cannot be written, not even the index
/// of the write-ahead log, nobody else writes there either: the file stands still and is read as it
/// is.
fn open_to_read(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let works = |connection: Connection| {
        connection.busy_timeout(Duration::from_secs(10))?;
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        Ok(connection)
    };
    match Connection::open_with_flags(path, flags).and_then(works) {
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::CannotOpen) => {
            let path = path.to_string_lossy().replace('%', "%25").replace('?', "%3f");
            let uri = format!("file:{}?immutable=1", path.replace('#', "%23"));
            Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI).and_then(works)
        }
        opened => opened,
    }
}

/// What was found; `None` also where it does not read as what it should be: that is damaged, and
/// counts as absent.
pub(super) fn readable<T>(found: rusqlite::Result<Option<T>>) -> rusqlite::Result<Option<T>> {
    use rusqlite::Error::*;
    match found {
        Err(
            error @ (FromSqlConversionFailure(..)
            | IntegralValueOutOfRange(..)
            | InvalidColumnType(..)
            | Utf8Error(..)),
        ) => {
            tracing::warn!(%error, "a stored answer is damaged and will be asked again");
            Ok(None)
        }
        found => found,
    }
}
