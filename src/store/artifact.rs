//! Artifacts: tables kept by digest under `objects/`, in chunks cut by content, so that one changed
//! row costs a chunk and not a table.
//!
//! An artifact is a list (JSON) of its columns and chunks; a chunk is JSON lines under zstd. A row
//! ends a chunk when its hash says so, within bounds, so equal stretches of rows give equal chunks.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::files::write_object;
use super::{Store, StoreError};
use crate::table::{Column, Digest, Hasher, Row, Types};

const VERSION: u32 = 1;
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
    chunks: Vec<Chunk>,
    #[serde(skip, default = "no_digest")]
    digest: Digest,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Chunk {
    digest: String,
    rows: u64,
}

fn no_digest() -> Digest {
    Digest([0; 32])
}

impl Artifact {
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

/// Takes rows in order and keeps them as an artifact.
pub struct ArtifactWriter {
    objects: PathBuf,
    buffer: Vec<u8>,
    buffered: u64,
    columns: IndexMap<String, Types>,
    chunks: Vec<Chunk>,
    rows: u64,
}

impl ArtifactWriter {
    pub fn push(&mut self, row: &Row) -> Result<(), StoreError> {
        for (name, value) in row {
            match self.columns.get_mut(name) {
                Some(types) => types.see(value),
                None => self.columns.entry(name.clone()).or_default().see(value),
            }
        }
        let start = self.buffer.len();
        serde_json::to_writer(&mut self.buffer, row).map_err(io::Error::from)?;
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

    /// The first row so far that is `wanted`. Reads all that was written: for errors.
    pub fn find(&self, wanted: impl Fn(&Row) -> bool) -> Option<Row> {
        let stored = self.chunks.iter().filter_map(|chunk| read_chunk(&self.objects, chunk).ok());
        let waiting = self.buffer.split(|byte| *byte == b'\n');
        let waiting = waiting.filter_map(|line| serde_json::from_slice(line).ok());
        stored.flatten().chain(waiting).find(|row| wanted(row))
    }

    fn cut(&mut self) -> Result<(), StoreError> {
        let digest = Digest::of(&self.buffer);
        let path = object(&self.objects, digest);
        if !path.exists() {
            write_object(&path, &zstd::encode_all(&self.buffer[..], 3)?)?;
        }
        self.chunks.push(Chunk { digest: digest.hex(), rows: self.buffered });
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
        artifact.digest = Hasher::new("artifact").part(&list).finish();
        write_object(&object(&self.objects, artifact.digest), &list)?;
        Ok(artifact)
    }
}

impl Store {
    /// Begins an artifact. `columns` are known before there is a row: they come first, in their
    /// order, and are there even where no row has them.
    pub fn write_artifact(&self, columns: &[String]) -> ArtifactWriter {
        let columns = columns.iter().map(|name| (name.clone(), Types::default())).collect();
        ArtifactWriter {
            objects: self.objects(),
            buffer: Vec::new(),
            buffered: 0,
            columns,
            chunks: Vec::new(),
            rows: 0,
        }
    }

    /// The artifact of that digest, if all of it is there. What is damaged is dropped.
    pub fn artifact(&self, digest: Digest) -> Result<Option<Artifact>, StoreError> {
        let path = object(&self.objects(), digest);
        let list = match fs::read(&path) {
            Ok(list) => list,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let whole = Hasher::new("artifact").part(&list).finish() == digest;
        let parsed = whole.then(|| serde_json::from_slice::<Artifact>(&list).ok()).flatten();
        let Some(mut artifact) = parsed.filter(|artifact| artifact.version == VERSION) else {
            fs::remove_file(&path)?;
            return Ok(None);
        };
        artifact.digest = digest;
        Ok(Some(artifact))
    }

    /// The rows of an artifact, in order, a chunk at a time.
    pub fn rows(&self, artifact: &Artifact) -> ArtifactReader {
        ArtifactReader {
            objects: self.objects(),
            chunks: artifact.chunks.clone().into(),
            rows: VecDeque::new(),
        }
    }
}

/// Reads an artifact's rows in order; holds one chunk.
pub struct ArtifactReader {
    objects: PathBuf,
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
            match read_chunk(&self.objects, &chunk) {
                Ok(rows) => self.rows = rows,
                Err(error) => {
                    self.chunks.clear();
                    return Some(Err(error));
                }
            }
        }
    }
}

fn read_chunk(objects: &Path, chunk: &Chunk) -> Result<VecDeque<Row>, StoreError> {
    let damaged = |what: &str| StoreError::Damaged(format!("chunk {} {what}", chunk.digest));
    let digest: Digest = chunk.digest.parse().map_err(|_| damaged("is named wrongly"))?;
    let path = object(objects, digest);
    let bytes = fs::read(&path).map_err(|error| damaged(&format!("cannot be read: {error}")))?;
    let lines = zstd::decode_all(&bytes[..]).ok().filter(|lines| Digest::of(lines) == digest);
    let Some(lines) = lines else {
        // Dropped, so that the next run makes it again.
        let _ = fs::remove_file(&path);
        return Err(damaged(
            "does not match its digest; it was dropped, run again to make it anew",
        ));
    };
    lines
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).map_err(|_| damaged("holds no rows")))
        .collect()
}

fn object(objects: &Path, digest: Digest) -> PathBuf {
    let hex = digest.hex();
    objects.join(&hex[..2]).join(&hex[2..])
}
