//! What a template of a report works with: tables, and the report that is being written.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use minijinja::value::{Enumerator, Object, ObjectRepr, Serde};
use minijinja::{Error, ErrorKind, State, Value};

use crate::stages::{Input, StageError};
use crate::store::{Artifact, Store};
use crate::table::{Column, Digest, Row};

/// Where a rendering finds the report that it writes.
pub(super) const REPORT: &str = "_report";

/// Nobody reads a table of more rows.
const MOST_SHOWN: u64 = 5_000;
/// More rows than a template can go through.
const MOST_READ: u64 = 200_000;

/// What a report is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Html,
    Markdown,
}

impl Form {
    pub fn as_str(self) -> &'static str {
        match self {
            Form::Html => "html",
            Form::Markdown => "md",
        }
    }
}

/// A report that is being written.
#[derive(Debug)]
pub(super) struct Report {
    pub form: Form,
    /// The stages as a picture, and as Mermaid has it.
    pub graph: Arc<[String; 2]>,
    state: Mutex<Written>,
}

#[derive(Debug, Default)]
struct Written {
    tables: usize,
    figures: usize,
    /// Parts of the page that are no Markdown.
    blocks: Vec<String>,
}

impl Object for Report {}

impl Report {
    pub fn new(form: Form, graph: Arc<[String; 2]>) -> Report {
        Report { form, graph, state: Mutex::default() }
    }

    /// The report that `state` writes.
    pub fn of(state: &State<'_, '_>) -> Result<Arc<Report>, Error> {
        let report = state.lookup(REPORT).and_then(|value| value.downcast_object::<Report>());
        report.ok_or_else(|| wrong("it is for reports alone"))
    }

    /// The number of the next table.
    pub fn table(&self) -> usize {
        let mut state = self.state();
        state.tables += 1;
        state.tables
    }

    /// The number of the next figure.
    pub fn figure(&self) -> usize {
        let mut state = self.state();
        state.figures += 1;
        state.figures
    }

    /// Puts a part of the page aside; what stands for it in the text.
    pub fn block(&self, html: String) -> String {
        let mut state = self.state();
        state.blocks.push(html);
        format!("\n\n```{} {}\n```\n\n", super::markdown::BLOCK, state.blocks.len() - 1)
    }

    pub fn blocks(&self) -> Vec<String> {
        self.state().blocks.clone()
    }

    fn state(&self) -> MutexGuard<'_, Written> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// An input: its rows one after the other, and `count`, `digest`, `name`.
pub(super) struct Table {
    pub name: String,
    /// Of its rows as lines of JSON: what `b3sum` tells of a `.jsonl` output of the same table.
    pub digest: Digest,
    pub count: u64,
    pub columns: Vec<String>,
    artifact: Artifact,
    store: Store,
    /// Read once somebody wants them: a template may ask of a table no more than how long it is.
    rows: OnceLock<Result<Vec<Row>, String>>,
}

impl Table {
    pub fn read(name: &str, input: &Input, store: &Store) -> Result<Table, StageError> {
        let artifact = &input.artifact;
        let mut hasher = blake3::Hasher::new();
        for chunk in &artifact.chunks {
            hasher.update(&store.lines_of(chunk)?);
        }
        let columns = artifact.columns.iter().map(|Column { name, .. }| name.clone()).collect();
        let digest = Digest(hasher.finalize().into());
        let (name, count) = (name.to_owned(), artifact.rows);
        let (artifact, store) = (artifact.clone(), store.clone());
        Ok(Table { name, digest, count, columns, artifact, store, rows: OnceLock::new() })
    }

    /// Its rows; or why they cannot be gone through.
    fn rows(&self) -> Result<&[Row], &str> {
        let read = || {
            if self.count > MOST_READ {
                return Err(format!("it has more than {MOST_READ} rows"));
            }
            let rows: Result<_, _> = self.store.rows(&self.artifact).collect();
            rows.map_err(|error| error.to_string())
        };
        self.rows.get_or_init(read).as_deref().map_err(String::as_str)
    }

    /// Its rows, where they are few enough to be shown.
    pub fn shown(&self) -> Result<&[Row], Error> {
        if self.count <= MOST_SHOWN {
            let rows = self.rows();
            return rows.map_err(|why| wrong(&format!("`{}` cannot be read: {why}", self.name)));
        }
        Err(wrong(&format!(
            "`{}` has {} rows, and a report shows {MOST_SHOWN} at the most: sum them up in a stage of \
             kind `sql`",
            self.name, self.count
        )))
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({} rows)", self.name, self.count)
    }
}

impl Object for Table {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match key.as_str() {
            Some("count") => Some(self.count.into()),
            Some("digest") => Some(self.digest.hex().into()),
            Some("name") => Some(self.name.clone().into()),
            Some(_) => None,
            None => self.rows().ok()?.get(key.as_usize()?).map(|row| Value::from(Serde(row))),
        }
    }

    /// A table that was not read is not passed off as one without rows: going through it is an error.
    fn enumerate(self: &Arc<Self>) -> Enumerator {
        match self.rows() {
            Ok(rows) => Enumerator::Seq(rows.len()),
            Err(_) => Enumerator::NonEnumerable,
        }
    }
}

pub(super) fn wrong(message: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.to_owned())
}
