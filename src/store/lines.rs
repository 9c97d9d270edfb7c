//! Files of JSON lines that people wrote, as tables. A file that was read before is read again by
//! stretches: the lines that made a chunk of its table make it again, without being parsed, wherever
//! they still stand as they were.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use indexmap::IndexSet;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use super::{Artifact, Notes, Store, StoreError};
use crate::table::{Digest, ReadError, Row, read_line};

/// How much of a file is read at once, in bytes.
const BLOCK: usize = 1 << 20;

/// A file that cannot be kept as a table.
#[derive(Debug, Error)]
pub enum KeepError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is noted of a file under this name: its stretches.
pub fn stretches_note(path: &str) -> String {
    format!("lines {path}")
}

/// What a file was when it was last read.
#[derive(Serialize, Deserialize)]
struct Noted {
    table: String,
    /// The fields of its rows, in the order of first appearance.
    fields: Vec<String>,
    stretches: Vec<Stretch>,
}

/// The lines of a chunk of the table.
#[derive(Clone, Serialize, Deserialize)]
struct Stretch {
    /// The digests of its first line, by which it is found, and of all of it.
    first: String,
    digest: String,
    bytes: usize,
    lines: u64,
    /// The fields that its rows have, by their place in the list, in the order of first appearance.
    fields: Vec<usize>,
    chunk: usize,
}

/// A file as it was when it was last read, to be read again.
pub struct Stretches {
    table: Artifact,
    fields: Vec<String>,
    by_first: HashMap<Digest, Stretch>,
}

impl Stretches {
    /// Every field that some row of the file has now, in the order of first appearance.
    pub fn fields(known: Option<&Stretches>, path: &Path) -> Result<Vec<String>, ReadError> {
        let mut lines = Lines::open(path)?;
        let mut fields = IndexSet::new();
        while let Some(first) = lines.next()? {
            match known.and_then(|known| Some((known, known.find(&mut lines, first).transpose()?)))
            {
                Some((known, stretch)) => {
                    let stretch = stretch?;
                    fields.extend(stretch.fields.iter().map(|at| known.fields[*at].clone()));
                    lines.pass(stretch.bytes, stretch.lines);
                }
                None => {
                    if let Some(row) = read_line(lines.line(first), lines.number)? {
                        fields.extend(row.into_iter().map(|(name, _)| name));
                    }
                    lines.pass(first, 1);
                }
            }
        }
        Ok(fields.into_iter().collect())
    }

    /// The stretch that begins with the next line (`first` bytes) and still stands there whole. One
    /// that does not is not looked for again in what was looked at, however often its first line
    /// comes.
    fn find(&self, lines: &mut Lines, first: usize) -> io::Result<Option<&Stretch>> {
        let digest = Digest::of(lines.line(first));
        let Some(stretch) = self.by_first.get(&digest) else { return Ok(None) };
        if lines.not_before.get(&digest).is_some_and(|place| lines.passed < *place) {
            return Ok(None);
        }
        let whole = lines.fill(stretch.bytes)?
            && Digest::of(lines.line(stretch.bytes)).hex() == stretch.digest;
        if !whole {
            lines.not_before.insert(digest, lines.passed + stretch.bytes as u64);
        }
        Ok(whole.then_some(stretch))
    }
}

impl Store {
    /// What is noted of the lines of the file `path` (from the project's folder).
    pub fn stretches(&self, notes: &Notes, path: &str) -> Result<Option<Stretches>, StoreError> {
        let Some(digest) = notes.knows(&stretches_note(path)) else { return Ok(None) };
        let Some(bytes) = self.get_object(digest)? else { return Ok(None) };
        let Ok(noted) = serde_json::from_slice::<Noted>(&bytes) else { return Ok(None) };
        let Some(table) = noted.table.parse().ok().map(|table| self.artifact(table)).transpose()?
        else {
            return Ok(None);
        };
        let known = |it: &Stretch| it.fields.iter().all(|at| *at < noted.fields.len());
        let Some(table) = table.filter(|_| noted.stretches.iter().all(known)) else {
            return Ok(None);
        };
        let first = |it: Stretch| Some((it.first.parse().ok()?, it));
        let by_first = noted.stretches.into_iter().filter_map(first).collect();
        Ok(Some(Stretches { table, fields: noted.fields, by_first }))
    }

    /// Keeps the rows of a file as a table. A field that only some of them have is null in the rest.
    /// Comes with the digest of what is to be noted of its lines.
    pub fn keep_lines(
        &self,
        path: &Path,
        known: Option<&Stretches>,
    ) -> Result<(Artifact, Digest), KeepError> {
        if let Some(known) = known
            && let Some(kept) = self.keep_under(path, &known.fields, Some(known))?
        {
            return Ok(kept);
        }
        let fields = Stretches::fields(known, path)?;
        let kept = self.keep_under(path, &fields, known)?;
        kept.ok_or_else(|| {
            let changed = io::Error::other("it was changed while it was read; run again");
            ReadError::from(changed).into()
        })
    }

    /// Keeps the rows if they have exactly these fields, first appearing in this order.
    fn keep_under(
        &self,
        path: &Path,
        fields: &[String],
        known: Option<&Stretches>,
    ) -> Result<Option<(Artifact, Digest)>, KeepError> {
        // Chunks hold what fields are null there: they stand for lines under the same fields alone.
        let known = known.filter(|known| known.fields == fields);
        let mut writer = self.write_artifact(fields);
        let places: HashMap<&str, usize> =
            fields.iter().enumerate().map(|(at, name)| (name.as_str(), at)).collect();
        let mut lines = Lines::open(path).map_err(ReadError::from)?;
        let mut seen: IndexSet<usize> = IndexSet::new();
        let mut stretches: Vec<Stretch> = Vec::new();
        // The stretch that is being read: its first line, its digest and the rest.
        let mut open: Option<(Digest, blake3::Hasher, usize, u64, IndexSet<usize>)> = None;
        while let Some(first) = lines.next().map_err(ReadError::from)? {
            if open.is_none()
                && let Some(known) = known
                && let Some(stretch) = known.find(&mut lines, first).map_err(ReadError::from)?
                && writer.take_over(&known.table, stretch.chunk)
            {
                seen.extend(&stretch.fields);
                stretches.push(Stretch { chunk: writer.chunks() - 1, ..stretch.clone() });
                lines.pass(stretch.bytes, stretch.lines);
                continue;
            }
            let chunks = writer.chunks();
            let line = lines.line(first);
            // The last line of a file may be the beginning of one, the next time.
            let whole = line.ends_with(b"\n");
            if open.is_none() && line.trim_ascii().is_empty() {
                lines.pass(first, 1);
                continue;
            }
            let (_, hasher, bytes, count, here) = open.get_or_insert_with(|| {
                (Digest::of(line), blake3::Hasher::new(), 0, 0, IndexSet::new())
            });
            hasher.update(line);
            *bytes += first;
            *count += 1;
            if let Some(mut row) = read_line(line, lines.number)? {
                for name in row.keys() {
                    let Some(place) = places.get(name.as_str()) else { return Ok(None) };
                    here.insert(*place);
                }
                let field = |name: &String| {
                    (name.clone(), row.get_mut(name).map(Value::take).unwrap_or_default())
                };
                let row: Row = fields.iter().map(field).collect();
                writer.push(&row)?;
            }
            lines.pass(first, 1);
            if let Some((first, hasher, bytes, lines, here)) =
                open.take_if(|_| writer.chunks() > chunks && whole)
            {
                seen.extend(&here);
                stretches.push(Stretch {
                    first: first.hex(),
                    digest: hasher.finalize().to_hex().to_string(),
                    bytes,
                    lines,
                    fields: here.into_iter().collect(),
                    chunk: writer.chunks() - 1,
                });
            }
        }
        seen.extend(open.into_iter().flat_map(|(.., here)| here));
        if !seen.iter().copied().eq(0..fields.len()) {
            return Ok(None);
        }
        let table = writer.finish()?;
        let noted = Noted { table: table.digest().hex(), fields: fields.to_vec(), stretches };
        let noted =
            serde_json::to_vec(&noted).map_err(|error| StoreError::from(io::Error::from(error)))?;
        let digest = Digest::of(&noted);
        self.put_object(digest, &noted)?;
        Ok(Some((table, digest)))
    }
}

/// A file's lines, each with its end, and whatever follows them as it is needed.
struct Lines {
    file: File,
    buffer: Vec<u8>,
    start: usize,
    /// The number of the next line.
    number: u64,
    /// Bytes before the next line.
    passed: u64,
    /// Where stretches that did not stand whole may be looked for again, by their first line.
    not_before: HashMap<Digest, u64>,
}

impl Lines {
    fn open(path: &Path) -> io::Result<Lines> {
        let (buffer, not_before) = (Vec::new(), HashMap::new());
        Ok(Lines { file: File::open(path)?, buffer, start: 0, number: 1, passed: 0, not_before })
    }

    /// How many bytes the next line has; `None` at the end of the file.
    fn next(&mut self) -> io::Result<Option<usize>> {
        let mut looked = 0;
        loop {
            let rest = &self.buffer[self.start..];
            if let Some(at) = rest[looked..].iter().position(|byte| *byte == b'\n') {
                return Ok(Some(looked + at + 1));
            }
            looked = rest.len();
            if !self.fill(looked + 1)? {
                return Ok(Some(looked).filter(|bytes| *bytes > 0));
            }
        }
    }

    /// Reads until so many bytes are there; `false` where the file ends before.
    fn fill(&mut self, bytes: usize) -> io::Result<bool> {
        while self.buffer.len() - self.start < bytes {
            self.buffer.drain(..self.start);
            self.start = 0;
            let most = BLOCK.max(bytes - self.buffer.len()) as u64;
            if (&self.file).take(most).read_to_end(&mut self.buffer)? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The next bytes; they have been read.
    fn line(&self, bytes: usize) -> &[u8] {
        &self.buffer[self.start..self.start + bytes]
    }

    fn pass(&mut self, bytes: usize, lines: u64) {
        self.start += bytes;
        self.passed += bytes as u64;
        self.number += lines;
    }
}
