//! Which keys a table has had so far, in bounded memory: what is too much for it lies in a database
//! in the stage's own folder.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::{Connection, OptionalExtension, params};

use super::StageError;
use crate::table::Digest;

/// Keys that are held in memory at the most.
const MOST: usize = if cfg!(test) { 1_000 } else { 400_000 };

/// Half a digest: enough to tell rows apart, small enough for millions.
pub type Half = [u8; 16];

pub(super) fn half(bytes: &[u8]) -> Half {
    Digest::of(bytes).0[..16].try_into().expect("sixteen bytes of thirty-two")
}

/// Where a key was first seen, and what its row was where that is known.
pub(super) type Place = (u64, Option<Half>);

/// Where each key was first seen.
pub(super) struct Seen {
    memory: HashMap<Half, Place>,
    disk: Option<Connection>,
    path: PathBuf,
}

impl Seen {
    /// `folder` is where a database may lie; its owner removes it.
    pub fn new(folder: &Path) -> Seen {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("seen-{number}.db"));
        Seen { memory: HashMap::new(), disk: None, path }
    }

    /// Where `key` was first seen; noted now where it is new.
    pub fn see(&mut self, key: Half, here: Place) -> Result<Option<Place>, StageError> {
        let found = self.find(key)?;
        if found.is_none() {
            self.note(key, here)?;
        }
        Ok(found)
    }

    /// Notes where a new key was seen.
    pub fn note(&mut self, key: Half, here: Place) -> Result<(), StageError> {
        if self.memory.len() >= MOST {
            self.spill().map_err(failed)?;
        }
        self.memory.insert(key, here);
        Ok(())
    }

    pub fn find(&self, key: Half) -> Result<Option<Place>, StageError> {
        let found = self.memory.get(&key).copied();
        let (None, Some(disk)) = (found, &self.disk) else { return Ok(found) };
        disk.prepare_cached("SELECT place, row FROM seen WHERE key = ?1")
            .and_then(|mut statement| {
                let read = |found: &rusqlite::Row<'_>| Ok((found.get(0)?, found.get(1)?));
                statement.query_row([&key[..]], read).optional()
            })
            .map_err(failed)
    }

    fn spill(&mut self) -> rusqlite::Result<()> {
        let disk = match &mut self.disk {
            Some(disk) => disk,
            none => {
                let disk = Connection::open(&self.path)?;
                disk.execute_batch(
                    "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;
                     CREATE TABLE seen (key BLOB PRIMARY KEY, place INTEGER, row BLOB)
                     WITHOUT ROWID;",
                )?;
                none.insert(disk)
            }
        };
        // In the order of the keys, so that each page is touched once.
        let mut noted: Vec<_> = self.memory.drain().collect();
        noted.sort_unstable();
        let transaction = disk.transaction()?;
        {
            let mut insert = transaction.prepare_cached("INSERT INTO seen VALUES (?1, ?2, ?3)")?;
            for (key, (place, row)) in noted {
                insert.execute(params![&key[..], place, row])?;
            }
        }
        transaction.commit()
    }
}

fn failed(error: rusqlite::Error) -> StageError {
    StageError::Failed(format!("the keys of its rows cannot be kept: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_known_again_from_memory_and_from_disk() {
        let folder = tempfile::tempdir().unwrap();
        let mut seen = Seen::new(folder.path());
        let many = 2 * MOST as u64 + 10;
        for place in 0..many {
            let key = half(&place.to_le_bytes());
            assert_eq!(seen.see(key, (place, Some(half(b"row")))).unwrap(), None);
        }
        for place in (0..many).step_by(97) {
            let found = seen.see(half(&place.to_le_bytes()), (0, None)).unwrap();
            assert_eq!(found, Some((place, Some(half(b"row")))));
        }
    }
}
