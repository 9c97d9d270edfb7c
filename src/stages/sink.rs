//! Where a stage's rows go: into the store, each key once.

use std::path::Path;

use super::StageError;
use super::seen::{Half, Seen, half};
use crate::store::{Artifact, ArtifactWriter};
use crate::table::{Row, key_of, show_key};

/// Takes a table's rows in order, and holds them to their key.
pub struct Sink {
    writer: ArtifactWriter,
    key: Vec<String>,
    /// `None` where rows are told apart by the key of the table that they are made from.
    keys: Option<Keys>,
}

/// The keys of the rows so far.
struct Keys {
    seen: Seen,
    /// In the order of the rows, where they are kept.
    kept: Option<Vec<Half>>,
    repeated: u64,
}

impl Sink {
    /// `scratch` is a folder of the stage's own.
    pub fn new(writer: ArtifactWriter, key: Vec<String>, scratch: &Path) -> Sink {
        let keys = Keys { seen: Seen::new(scratch), kept: None, repeated: 0 };
        Sink { writer, key, keys: Some(keys) }
    }

    /// Keeps the keys of its rows, so that parts of the table can be taken over later.
    pub fn keeping_keys(mut self) -> Sink {
        self.keys.iter_mut().for_each(|keys| keys.kept = Some(Vec::new()));
        self
    }

    /// For rows whose keys are known to be unique.
    pub fn unique(writer: ArtifactWriter, key: Vec<String>) -> Sink {
        Sink { writer, key, keys: None }
    }

    /// Whether its rows are known to have keys of their own.
    pub fn is_unique(&self) -> bool {
        self.keys.is_none()
    }

    /// Adds a row. The same row again is passed over; another row with its key is an error that
    /// shows it.
    pub fn push(&mut self, row: &Row) -> Result<(), StageError> {
        let Some(Keys { seen, kept, repeated }) = &mut self.keys else {
            return Ok(self.writer.push(row)?);
        };
        let key = key_of(row, &self.key).map_err(|field| {
            let fields: Vec<&str> = row.keys().map(String::as_str).collect();
            let has = match fields.is_empty() {
                true => "it has none".to_owned(),
                false => format!("it has: {}", fields.join(", ")),
            };
            let number = self.writer.rows() + 1;
            StageError::Failed(format!("row {number} has no key field `{field}`; {has}"))
        })?;
        let text = serde_json::to_vec(row).expect("rows always serialize");
        let (key, this) = (half(key.0.as_bytes()), half(&text));
        let Some((place, first)) = seen.see(key, (self.writer.rows(), Some(this)))? else {
            kept.iter_mut().for_each(|kept| kept.push(key));
            return Ok(self.writer.push_line(row, &text)?);
        };
        *repeated += 1;
        if first == Some(this) {
            return Ok(());
        }
        let first = self.writer.row(place)?.unwrap_or_default();
        if first == *row {
            return Ok(());
        }
        Err(StageError::Failed(format!(
            "two different rows have the key {}: {} and {}. Name more fields in `key`, or make the \
             rows agree",
            show_key(row, &self.key),
            short(&serde_json::to_vec(&first).expect("rows always serialize")),
            short(&text),
        )))
    }

    /// Takes over a chunk of an earlier table of the stage, whose rows have these `keys`, where that
    /// is possible.
    pub fn take_over(
        &mut self,
        from: &Artifact,
        chunk: usize,
        keys: Option<&[Half]>,
    ) -> Result<bool, StageError> {
        let start = self.writer.rows();
        match (&mut self.keys, keys) {
            (None, _) => Ok(self.writer.take_over(from, chunk)),
            (Some(Keys { seen, kept: Some(kept), .. }), Some(keys)) => {
                for key in keys {
                    if seen.find(*key)?.is_some() {
                        return Ok(false);
                    }
                }
                if !self.writer.take_over(from, chunk) {
                    return Ok(false);
                }
                for (place, key) in (start..).zip(keys) {
                    seen.note(*key, (place, None))?;
                }
                kept.extend(keys);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// How many rows were there already when they came.
    pub fn repeated(&self) -> u64 {
        self.keys.as_ref().map_or(0, |keys| keys.repeated)
    }

    /// The keys of its rows, where they were kept.
    pub fn keys(&self) -> Option<&[Half]> {
        self.keys.as_ref()?.kept.as_deref()
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
