//! Where a stage's rows go: into the store, each key once.

use std::path::Path;

use super::StageError;
use super::seen::{Seen, half};
use crate::store::{Artifact, ArtifactWriter};
use crate::table::{Row, key_of, show_key};

/// Takes a table's rows in order, and holds them to their key.
pub struct Sink {
    writer: ArtifactWriter,
    key: Vec<String>,
    /// `None` where rows are told apart by the key of the table that they are made from.
    seen: Option<Seen>,
}

impl Sink {
    /// `scratch` is a folder of the stage's own.
    pub fn new(writer: ArtifactWriter, key: Vec<String>, scratch: &Path) -> Sink {
        Sink { writer, key, seen: Some(Seen::new(scratch)) }
    }

    /// For rows whose keys are known to be unique.
    pub fn unique(writer: ArtifactWriter, key: Vec<String>) -> Sink {
        Sink { writer, key, seen: None }
    }

    /// Whether its rows are known to have keys of their own.
    pub fn is_unique(&self) -> bool {
        self.seen.is_none()
    }

    /// Adds a row. The same row again is passed over; another row with its key is an error that
    /// shows it.
    pub fn push(&mut self, row: &Row) -> Result<(), StageError> {
        let Some(seen) = &mut self.seen else {
            return Ok(self.writer.push(row)?);
        };
        let key = key_of(row, &self.key).map_err(|field| {
            let fields: Vec<&str> = row.keys().map(String::as_str).collect();
            StageError::Failed(format!(
                "row {} has no key field `{field}`; it has: {}",
                self.writer.rows() + 1,
                fields.join(", ")
            ))
        })?;
        let text = serde_json::to_vec(row).expect("rows always serialize");
        match seen.see(key.0.as_bytes(), self.writer.rows(), half(&text))? {
            None => Ok(self.writer.push(row)?),
            Some((_, before)) if before == half(&text) => Ok(()),
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

    /// Takes over a chunk of an earlier table of the stage, where that is possible.
    pub fn take_over(&mut self, from: &Artifact, chunk: usize) -> bool {
        self.seen.is_none() && self.writer.take_over(from, chunk)
    }

    pub fn rows(&self) -> u64 {
        self.writer.rows()
    }

    pub fn finish(self) -> Result<Artifact, StageError> {
        Ok(self.writer.finish()?)
    }
}

fn short(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    match text.char_indices().nth(300) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.into_owned(),
    }
}
