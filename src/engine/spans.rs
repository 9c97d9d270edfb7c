//! Which rows of a stage's table came from which chunk of its input, so that chunks that are still
//! the same are taken over without looking at their rows.

use std::collections::HashMap;
use std::ops::Range;

use crate::stages::{Half, Sink, StageError};
use crate::store::{Artifact, StageRecord, Store, StoreError};
use crate::table::{Digest, Row};

/// What came of a chunk of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// Rows of the input that have a result.
    pub known: u64,
    /// Rows of the table that they made.
    pub rows: u64,
    /// Every row has its result, whoever asks.
    pub whole: bool,
}

impl Default for Span {
    fn default() -> Span {
        Span { known: 0, rows: 0, whole: true }
    }
}

/// Keeps spans, and the keys of the rows where those are needed, as an object: a line of JSON, then
/// sixteen bytes a key.
pub(super) fn keep(
    spans: &[Span],
    keys: Option<&[Half]>,
    store: &Store,
) -> Result<Digest, StoreError> {
    let plain: Vec<(u64, u64, u8)> =
        spans.iter().map(|span| (span.known, span.rows, span.whole.into())).collect();
    let mut bytes = serde_json::to_vec(&plain).expect("numbers always serialize");
    bytes.push(b'\n');
    bytes.extend(keys.unwrap_or_default().as_flattened());
    let digest = Digest::of(&bytes);
    store.put_object(digest, &bytes)?;
    Ok(digest)
}

type Plain = Vec<(u64, u64, u8)>;

fn read(bytes: &[u8]) -> Option<(Plain, Vec<Half>)> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let (keys, rest) = bytes[end + 1..].as_chunks();
    Some((serde_json::from_slice(&bytes[..end]).ok()?, keys.to_vec())).filter(|_| rest.is_empty())
}

/// A table that the stage made before, under the same definition.
pub(super) struct Earlier {
    table: Artifact,
    /// The keys of its rows; none where they are told apart by the input's.
    keys: Vec<Half>,
    /// By the digest of a chunk of the input: how many rows it had, and the rows that they made.
    spans: HashMap<String, (u64, Range<u64>)>,
    /// For each chunk of the table, the first row after it.
    ends: Vec<u64>,
    /// The rows of the chunk that was last read.
    read: Option<(usize, Vec<Row>)>,
}

impl Earlier {
    /// What `record` tells; `None` where it tells nothing that can be used.
    pub fn open(record: &StageRecord, store: &Store) -> Result<Option<Earlier>, StoreError> {
        let digest = |text: Option<&String>| text.and_then(|text| text.parse::<Digest>().ok());
        let input = digest(record.inputs.first().map(|(_, digest)| digest));
        let (Some(input), Some(spans), Some(table)) =
            (input, digest(record.spans.as_ref()), record.artifact())
        else {
            return Ok(None);
        };
        let (Some(input), Some(table), Some(spans)) =
            (store.artifact(input)?, store.artifact(table)?, store.get_object(spans)?)
        else {
            return Ok(None);
        };
        let Some((plain, keys)) = read(&spans) else { return Ok(None) };
        let mut spans = HashMap::new();
        let mut start = 0;
        for (chunk, (known, rows, whole)) in input.chunks.iter().zip(plain) {
            let end = start + rows;
            if whole == 1 {
                spans.insert(chunk.digest().to_owned(), (known, start..end));
            }
            start = end;
        }
        if start != table.rows || !(keys.is_empty() || keys.len() as u64 == table.rows) {
            return Ok(None);
        }
        let ends = table.chunks.iter().scan(0, |end, chunk| {
            *end += chunk.rows;
            Some(*end)
        });
        let ends = ends.collect();
        Ok(Some(Earlier { table, keys, spans, ends, read: None }))
    }

    /// How many rows of the input a chunk had that have a result, and the rows that they made. They
    /// are taken once: the same chunk again repeats them.
    pub fn take(&mut self, chunk: &str) -> Option<(u64, Range<u64>)> {
        self.spans.remove(chunk)
    }

    /// Pushes some rows of the table: whole chunks as they are, the others row by row.
    pub fn push(
        &mut self,
        rows: Range<u64>,
        store: &Store,
        sink: &mut Sink,
    ) -> Result<(), StageError> {
        let mut at = rows.start;
        while at < rows.end {
            let chunk = self.ends.partition_point(|end| *end <= at);
            let start = chunk.checked_sub(1).map_or(0, |before| self.ends[before]);
            let end = self.ends[chunk].min(rows.end);
            let whole = at == start && end == self.ends[chunk];
            let keys = self.keys.get(start as usize..end as usize);
            if !(whole && sink.take_over(&self.table, chunk, keys)?) {
                if self.read.as_ref().is_none_or(|(read, _)| *read != chunk) {
                    let rows = store.rows_of(&self.table, chunk..chunk + 1);
                    self.read = Some((chunk, rows.collect::<Result<_, _>>()?));
                }
                let (_, read) = self.read.as_ref().expect("it was read");
                for row in &read[(at - start) as usize..(end - start) as usize] {
                    sink.push(row)?;
                }
            }
            at = end;
        }
        Ok(())
    }
}
