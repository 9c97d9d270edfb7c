//! One run at a time in a folder: a kernel lock, which dies with its process.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

use super::StoreError;

/// Held while a run works; released when dropped or when the process ends, however it ends.
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock, or says who holds it.
    pub fn take(root: &Path) -> Result<Lock, StoreError> {
        // Somebody who only looks whether it is held holds it for a moment, too.
        for _ in 0..5 {
            match Lock::take_file(root, |file| file.try_lock()) {
                Err(StoreError::Locked { .. }) => std::thread::sleep(Duration::from_millis(20)),
                taken => return taken,
            }
        }
        Lock::take_file(root, |file| file.try_lock())
    }

    /// Takes the lock once nobody else holds it; `waiting` is told who does.
    pub fn wait(root: &Path, waiting: impl FnOnce(&str)) -> Result<Lock, StoreError> {
        match Lock::take(root) {
            Err(StoreError::Locked { holder }) => waiting(&holder),
            taken => return taken,
        }
        Lock::take_file(root, |file| file.lock().map_err(TryLockError::Error))
    }

    /// Who holds the lock, if anyone does. Waits for nothing and writes nothing.
    pub fn holder(root: &Path) -> Option<String> {
        let mut file = File::open(root.join("lock")).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Some(named(&mut file)),
            _ => None,
        }
    }

    fn take_file(
        root: &Path,
        lock: impl FnOnce(&File) -> Result<(), TryLockError>,
    ) -> Result<Lock, StoreError> {
        let path = root.join("lock");
        let at = |error: std::io::Error| StoreError::at(&path, &error);
        std::fs::create_dir_all(root).map_err(|error| StoreError::at(root, &error))?;
        let options =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = options.map_err(at)?;
        match lock(&file) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Locked { holder: named(&mut file) });
            }
            Err(TryLockError::Error(error)) => return Err(at(error)),
        }
        file.set_len(0).map_err(at)?;
        file.rewind().map_err(at)?;
        writeln!(file, "{}", std::process::id()).map_err(at)?;
        Ok(Lock { _file: file })
    }
}

/// The process that took the lock. A courtesy; the lock itself is what counts.
fn named(file: &mut File) -> String {
    let mut holder = String::new();
    let _ = file.read_to_string(&mut holder);
    holder.trim().to_owned()
}
