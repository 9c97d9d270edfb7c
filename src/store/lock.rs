//! One run at a time in a folder: a kernel lock, which dies with its process.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use super::StoreError;

/// Held while a run works; released when dropped or when the process ends, however it ends.
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock, or says who holds it.
    pub fn take(root: &Path) -> Result<Lock, StoreError> {
        std::fs::create_dir_all(root)
            .map_err(|error| StoreError::At { path: root.into(), what: error.to_string() })?;
        let path = root.join("lock");
        let at =
            |error: std::io::Error| StoreError::At { path: path.clone(), what: error.to_string() };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(at)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // The name is a courtesy; the lock itself is what counts.
                let _ = file.read_to_string(&mut holder);
                return Err(StoreError::Locked { holder: holder.trim().to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(at(error)),
        }
        file.set_len(0).map_err(at)?;
        file.rewind().map_err(at)?;
        writeln!(file, "{}", std::process::id()).map_err(at)?;
        Ok(Lock { _file: file })
    }
}
