//! Output files: views of a stage's table, written whole or not at all. What a person changed in one
//! is set aside before it is replaced.

use std::fs;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use super::decide::open;
use crate::stages::StageError;
use crate::store::{Artifact, FileState, Notes, Store, StoreError, help, write_aside};
use crate::table::{Digest, Format, write_lines, write_table};

/// What was done to an output.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Placed {
    /// It stood there as it should.
    Untouched,
    Written,
    /// It was gone, and was written again.
    Restored,
    /// It had been changed by hand; the changed file now has this name.
    SetAside(PathBuf),
}

/// Makes `path` (relative to `root`) hold the table `digest`, which is opened only where it must be.
pub(super) async fn place(
    store: &Store,
    notes: &Notes,
    root: &Path,
    path: &str,
    digest: Digest,
) -> Result<Placed, StageError> {
    let full = root.join(path);
    let format = Format::of(&full).ok_or_else(|| {
        StageError::Failed(format!("`{path}` has none of the extensions {}", Format::EXTENSIONS))
    })?;
    let known = notes.knows(path);
    let state = match FileState::of(&full) {
        Ok(state) => Some(state),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(unwritable(path, &error)),
    };
    let noted = state.and_then(|state| notes.noted(path, state));
    if noted == Some(digest) {
        return Ok(Placed::Untouched);
    }
    let artifact = &open(store, path, digest)?;
    let placed = match (state, noted) {
        (Some(_), Some(_)) => Placed::Written,
        (None, _) if known == Some(digest) => Placed::Restored,
        (None, _) => Placed::Written,
        (Some(state), None) => {
            if holds(store, &full, format, artifact)? {
                store.note(path, state, digest).await?;
                return Ok(Placed::Untouched);
            }
            match known.filter(|digest| holds_digest(store, &full, format, *digest)) {
                // As it was written, only touched.
                Some(_) => Placed::Written,
                None => {
                    Placed::SetAside(set_aside(&full).map_err(|error| unwritable(path, &error))?)
                }
            }
        }
    };
    let written = write_aside(&full, |file| write(store, format, artifact, file));
    let state = written.map_err(|error| match error {
        StageError::Store(StoreError::Io(error)) => unwritable(path, &error),
        other => other,
    })?;
    store.note(path, state, digest).await?;
    Ok(placed)
}

/// Writes the rows that failed beside an output, or takes the file away where there are none.
pub(super) fn place_failed(
    store: &Store,
    root: &Path,
    path: &str,
    failed: Option<&Artifact>,
) -> Result<(), StageError> {
    let full = root.join(path);
    let Some(failed) = failed.filter(|failed| failed.rows > 0) else {
        return match fs::remove_file(&full) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unwritable(path, &error)),
            _ => Ok(()),
        };
    };
    // Written each time: it is small beside the table, and tells what is so now.
    write_aside(&full, |file| write(store, Format::Jsonl, failed, file)).map(drop).map_err(
        |error| match error {
            StageError::Store(StoreError::Io(error)) => unwritable(path, &error),
            other => other,
        },
    )
}

fn unwritable(path: &str, error: &io::Error) -> StageError {
    StageError::Failed(format!("`{path}` cannot be written: {error}{}", help(error)))
}

fn write(
    store: &Store,
    format: Format,
    artifact: &Artifact,
    out: &mut impl Write,
) -> Result<(), StageError> {
    if format == Format::Csv || !format.is_table() {
        let rows = store.rows(artifact).map(|row| row.map_err(StageError::from));
        return write_table(format, &artifact.columns, rows, out);
    }
    // A chunk's lines are its rows as they are written.
    let lines = artifact.chunks.iter().map(|chunk| store.lines_of(chunk).map_err(StageError::from));
    write_lines(format, lines, out)
}

/// Whether a file holds exactly what would be written for `artifact`.
pub(super) fn holds(
    store: &Store,
    path: &Path,
    format: Format,
    artifact: &Artifact,
) -> Result<bool, StageError> {
    let mut same = Compare { file: BufReader::new(fs::File::open(path)?), same: true };
    write(store, format, artifact, &mut same)?;
    Ok(same.same && same.file.read(&mut [0])? == 0)
}

fn holds_digest(store: &Store, path: &Path, format: Format, digest: Digest) -> bool {
    let artifact = store.artifact(digest).ok().flatten();
    artifact.is_some_and(|artifact| holds(store, path, format, &artifact).unwrap_or(false))
}

/// Takes bytes and compares them with a file's.
struct Compare {
    file: BufReader<fs::File>,
    same: bool,
}

impl Write for Compare {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.same {
            let mut found = vec![0; bytes.len()];
            self.same = match self.file.read_exact(&mut found) {
                Ok(()) => found == bytes,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => false,
                Err(error) => return Err(error),
            };
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `bugs.json` -> `bugs.json.edited`, or `.edited.2` and so on where there is one already.
fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    for number in 1.. {
        let ending = if number == 1 { String::new() } else { format!(".{number}") };
        let aside = path.with_file_name(format!("{name}.edited{ending}"));
        if !aside.exists() {
            fs::rename(path, &aside)?;
            return Ok(aside);
        }
    }
    unreachable!("some number is free")
}
