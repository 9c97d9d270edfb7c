//! Where a stage's rows go: into the store, each key once.

use std::collections::HashMap;

use super::StageError;
use crate::store::{Artifact, ArtifactWriter};
use crate::table::{Digest, Row, key_of, show_key};

/// Takes a table's rows in order, and holds them to their key.
pub struct Sink {
    writer: ArtifactWriter,
    key: Vec<String>,
    /// Half a digest each of key and row: enough to tell, small enough for millions.
    seen: HashMap<[u8; 16], [u8; 16]>,
    rows: u64,
}

impl Sink {
    pub fn new(writer: ArtifactWriter, key: Vec<String>) -> Sink {
        Sink { writer, key, seen: HashMap::new(), rows: 0 }
    }

    /// Adds a row. The same row again is passed over; another row with its key is an error that
    /// shows it.
    pub fn push(&mut self, row: &Row) -> Result<(), StageError> {
        let key = key_of(row, &self.key).map_err(|field| {
            let fields: Vec<&str> = row.keys().map(String::as_str).collect();
            StageError::Failed(format!(
                "row {} has no key field `{field}`; it has: {}",
                self.rows + 1,
                fields.join(", ")
            ))
        })?;
        let text = serde_json::to_vec(row).expect("rows always serialize");
        let (key_half, row_half) = (half(key.0.as_bytes()), half(&text));
        match self.seen.insert(key_half, row_half) {
            None => {
                self.writer.push(row)?;
                self.rows += 1;
                Ok(())
            }
            Some(before) if before == row_half => Ok(()),
            Some(_) => {
                let first = self.writer.find(|first| key_of(first, &self.key).as_ref() == Ok(&key));
                let first = first.and_then(|row| serde_json::to_vec(&row).ok()).unwrap_or_default();
                Err(StageError::Failed(format!(
                    "two different rows have the key {}: {} and {}. Name more fields in `key`, or \
                     make the rows agree",
                    show_key(row, &self.key),
                    short(&first),
                    short(&text),
                )))
            }
        }
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    pub fn finish(self) -> Result<Artifact, StageError> {
        Ok(self.writer.finish()?)
    }
}

fn half(bytes: &[u8]) -> [u8; 16] {
    Digest::of(bytes).0[..16].try_into().expect("sixteen bytes of thirty-two")
}

fn short(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    match text.char_indices().nth(300) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.into_owned(),
    }
}
