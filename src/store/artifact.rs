//! Artifacts: tables kept by digest under `objects/`, in chunks cut by content, so that one changed
//! row costs a chunk and not a table.
//!
//! An artifact is a list (JSON) of its columns and chunks; a chunk is JSON lines under zstd. A row
//! ends a chunk when its hash says so, within bounds, so equal stretches of rows give equal chunks.

use std::collections::{HashSet, VecDeque};
use std::fs;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::files::write_object;
use super::{Store, StoreError};
use crate::table::{Column, Digest, Hasher, Row, Types};

const VERSION: u32 = 2;
/// Chunks are cut between these sizes (bytes before compression), at about 64 KiB on average.
const SMALLEST: usize = 16 << 10;
const LARGEST: usize = 1 << 20;
/// One row in this many bytes ends a chunk, once `SMALLEST` is reached.
const CUT_EVERY: u64 = 48 << 10;

/// The list of a stored table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Artifact {
    version: u32,
    pub rows: u64,
    pub columns: Vec<Column>,
    pub chunks: Vec<Chunk>,
    #[serde(skip, default = "no_digest")]
    digest: Digest,
}

/// Some consecutive rows of a table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Chunk {
    digest: String,
    pub rows: u64,
    /// What its rows hold, in the order of first appearance: a column's place in the artifact's
    /// list, and the types that it has here.
    columns: Vec<(usize, Types)>,
}

fn no_digest() -> Digest {
    Digest([0; 32])
}

impl Artifact {
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// What `list` tells, where it is whole and of this version.
    pub(super) fn read(list: &[u8], digest: Digest) -> Option<Artifact> {
        if list_digest(list) != digest {
            return None;
        }
        let artifact: Artifact = serde_json::from_slice(list).ok()?;
        (artifact.version == VERSION).then_some(Artifact { digest, ..artifact })
    }

    /// The objects that hold its rows.
    pub(super) fn parts(&self) -> impl Iterator<Item = Digest> {
        self.chunks.iter().filter_map(|chunk| chunk.digest.parse().ok())
    }
}

impl Chunk {
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

/// Takes rows in order and keeps them as an artifact.
pub struct ArtifactWriter {
    store: Store,
    columns: IndexMap<String, Types>,
    chunks: Vec<Chunk>,
    /// For each chunk, the first row after it.
    ends: Vec<u64>,
    looked: Option<(usize, VecDeque<Row>)>,
    rows: u64,
    buffer: Vec<u8>,
    buffered: u64,
    /// The columns of the rows in the buffer.
    here: IndexMap<usize, Types>,
}

impl ArtifactWriter {
    pub fn push(&mut self, row: &Row) -> Result<(), StoreError> {
        self.push_line(row, &serde_json::to_vec(row).map_err(io::Error::from)?)
    }

    /// Adds a row that has been written as compact JSON already.
    pub fn push_line(&mut self, row: &Row, line: &[u8]) -> Result<(), StoreError> {
        for (name, value) in row {
            let place = match self.columns.get_index_of(name) {
                Some(place) => place,
                None => self.columns.insert_full(name.clone(), Types::default()).0,
            };
            self.columns[place].see(value);
            self.here.entry(place).or_default().see(value);
        }
        let start = self.buffer.len();
        self.buffer.extend_from_slice(line);
        self.buffer.push(b'\n');
        self.buffered += 1;
        self.rows += 1;
        let line = &self.buffer[start..];
        let hash = u64::from_le_bytes(
            Digest::of(line).0[..8].try_into().expect("eight bytes of thirty-two"),
        );
        // The chance to cut grows with the row, so that chunks have like sizes whatever rows have.
        let cut = (hash % CUT_EVERY) < line.len() as u64 && self.buffer.len() >= SMALLEST;
        if cut || self.buffer.len() >= LARGEST {
            self.cut()?;
        }
        Ok(())
    }

    /// Takes over a chunk of another artifact as it is, without reading it. That is only possible
    /// where its rows would be cut here as they were there: between two chunks, and not with the
    /// last one, which the table's end has cut.
    pub fn take_over(&mut self, from: &Artifact, at: usize) -> bool {
        let chunk = &from.chunks[at];
        let there = chunk.digest.parse().is_ok_and(|digest| self.store.has_object(digest));
        if !self.buffer.is_empty() || at + 1 == from.chunks.len() || !there {
            return false;
        }
        let mut columns = Vec::with_capacity(chunk.columns.len());
        for (place, types) in &chunk.columns {
            let Some(column) = from.columns.get(*place) else { return false };
            let place = match self.columns.get_index_of(&column.name) {
                Some(place) => place,
                None => self.columns.insert_full(column.name.clone(), Types::default()).0,
            };
            self.columns[place].add(*types);
            columns.push((place, *types));
        }
        self.rows += chunk.rows;
        self.ends.push(self.rows);
        self.chunks.push(Chunk { digest: chunk.digest.clone(), rows: chunk.rows, columns });
        true
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// How many chunks were cut so far.
    pub fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// A row of those so far. The chunk that was last looked at is held.
    pub fn row(&mut self, place: u64) -> Result<Option<Row>, StoreError> {
        let chunk = self.ends.partition_point(|end| *end <= place);
        let start = chunk.checked_sub(1).map_or(0, |before| self.ends[before]);
        let row = |rows: &VecDeque<Row>| rows.get(usize::try_from(place - start).ok()?).cloned();
        let Some(found) = self.chunks.get(chunk) else { return Ok(row(&rows_of(&self.buffer)?)) };
        if self.looked.as_ref().is_none_or(|(looked, _)| *looked != chunk) {
            self.looked = Some((chunk, rows_of(&self.store.lines_of(found)?)?));
        }
        Ok(self.looked.as_ref().and_then(|(_, rows)| row(rows)))
    }

    fn cut(&mut self) -> Result<(), StoreError> {
        let digest = Digest::of(&self.buffer);
        if !self.store.has_object(digest) {
            self.store.put_object(digest, &zstd::encode_all(&self.buffer[..], 3)?)?;
        }
        let columns = self.here.drain(..).collect();
        self.ends.push(self.rows);
        self.chunks.push(Chunk { digest: digest.hex(), rows: self.buffered, columns });
        self.buffer.clear();
        self.buffered = 0;
        Ok(())
    }

    pub fn finish(mut self) -> Result<Artifact, StoreError> {
        if !self.buffer.is_empty() {
            self.cut()?;
        }
        let columns =
            self.columns.into_iter().map(|(name, types)| Column { name, types }).collect();
        let mut artifact = Artifact {
            version: VERSION,
            rows: self.rows,
            columns,
            chunks: self.chunks,
            digest: no_digest(),
        };
        let list = serde_json::to_vec(&artifact).map_err(io::Error::from)?;
        artifact.digest = list_digest(&list);
        self.store.put_object(artifact.digest, &list)?;
        Ok(artifact)
    }
}

pub(super) fn list_digest(list: &[u8]) -> Digest {
    Hasher::new("artifact").part(list).finish()
}

impl Store {
    /// Begins an artifact. `columns` are known before there is a row: they come first, in their
    /// order, and are there even where no row has them.
    pub fn write_artifact(&self, columns: &[String]) -> ArtifactWriter {
        let columns = columns.iter().map(|name| (name.clone(), Types::default())).collect();
        ArtifactWriter {
            store: self.clone(),
            columns,
            chunks: Vec::new(),
            ends: Vec::new(),
            looked: None,
            rows: 0,
            buffer: Vec::new(),
            buffered: 0,
            here: IndexMap::new(),
        }
    }

    /// The artifact of that digest, if its list is there. What is damaged is dropped.
    pub fn artifact(&self, digest: Digest) -> Result<Option<Artifact>, StoreError> {
        let Some(list) = self.object(digest)? else { return Ok(None) };
        let artifact = Artifact::read(&list, digest);
        if artifact.is_none() {
            self.drop_object(digest);
        }
        Ok(artifact)
    }

    /// The rows of an artifact, in order, a chunk at a time.
    pub fn rows(&self, artifact: &Artifact) -> ArtifactReader {
        self.rows_of(artifact, 0..artifact.chunks.len())
    }

    /// The rows of some of its chunks.
    pub fn rows_of(&self, artifact: &Artifact, chunks: Range<usize>) -> ArtifactReader {
        let chunks = artifact.chunks[chunks].iter().cloned().collect();
        ArtifactReader { store: self.clone(), chunks, rows: VecDeque::new() }
    }

    /// The rows of `table` in chunks that `other` has not: where the two differ, and around that.
    pub fn rows_apart(&self, table: &Artifact, other: &Artifact) -> ArtifactReader {
        let shared: HashSet<&str> = other.chunks.iter().map(Chunk::digest).collect();
        let own = table.chunks.iter().filter(|chunk| !shared.contains(chunk.digest()));
        let chunks = own.cloned().collect();
        ArtifactReader { store: self.clone(), chunks, rows: VecDeque::new() }
    }

    /// The lines of a chunk, each a row as compact JSON.
    pub fn lines_of(&self, chunk: &Chunk) -> Result<Vec<u8>, StoreError> {
        let damaged = |what: &str| StoreError::Damaged(format!("chunk {} {what}", chunk.digest));
        let digest: Digest = chunk.digest.parse().map_err(|_| damaged("is named wrongly"))?;
        let bytes = self.object(digest).map_err(|error| damaged(&error.to_string()))?;
        let bytes = bytes.ok_or_else(|| damaged("is gone"))?;
        let lines = zstd::decode_all(&bytes[..]).ok().filter(|lines| Digest::of(lines) == digest);
        lines.ok_or_else(|| {
            // Dropped, so that the next run makes it again.
            self.drop_object(digest);
            damaged("does not match its digest; it was dropped, run again to make it anew")
        })
    }

    /// The bytes of an object, unchecked.
    pub(super) fn object(&self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(bytes) = self.aside().get(&digest) {
            return Ok(Some(bytes.to_vec()));
        }
        match fs::read(self.object_path(digest)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether an object is there; it is not read.
    pub fn has_object(&self, digest: Digest) -> bool {
        self.object_path(digest).exists() || self.aside().contains_key(&digest)
    }

    /// Keeps bytes under their digest; those of a store that is only read stay in memory.
    pub fn put_object(&self, digest: Digest, bytes: &[u8]) -> Result<(), StoreError> {
        match self.inner.writer {
            Some(_) => Ok(write_object(&self.object_path(digest), bytes)?),
            None => {
                self.aside().insert(digest, bytes.into());
                Ok(())
            }
        }
    }

    /// The bytes that were kept under `digest`, if they are whole.
    pub fn get_object(&self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.object(digest)?.filter(|bytes| Digest::of(bytes) == digest))
    }

    pub(super) fn drop_object(&self, digest: Digest) {
        if self.inner.writer.is_some() {
            // It is gone already, or stays damaged and is found out again.
            let _ = fs::remove_file(self.object_path(digest));
        }
    }

    pub(super) fn object_path(&self, digest: Digest) -> PathBuf {
        let hex = digest.hex();
        self.objects().join(&hex[..2]).join(&hex[2..])
    }
}

/// Reads an artifact's rows in order; holds one chunk.
pub struct ArtifactReader {
    store: Store,
    chunks: VecDeque<Chunk>,
    rows: VecDeque<Row>,
}

impl Iterator for ArtifactReader {
    type Item = Result<Row, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(row) = self.rows.pop_front() {
                return Some(Ok(row));
            }
            let chunk = self.chunks.pop_front()?;
            match self.store.lines_of(&chunk).and_then(|lines| rows_of(&lines)) {
                Ok(rows) => self.rows = rows,
                Err(error) => {
                    self.chunks.clear();
                    return Some(Err(error));
                }
            }
        }
    }
}

fn rows_of(lines: &[u8]) -> Result<VecDeque<Row>, StoreError> {
    let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let row = |line| {
        let damaged = |_| StoreError::Damaged("a chunk holds what is no row".into());
        serde_json::from_slice(line).map_err(damaged)
    };
    lines.map(row).collect()
}
