//! The formats that output files are written in, chosen by their extension.

use std::io::{self, Write};
use std::path::Path;

use serde_json::Value;

use super::{Column, Row};

/// The format of an output or input file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// An array, one row a line.
    Json,
    /// One row a line.
    Jsonl,
    /// A header line, then one record a row; nested values as JSON text, null as an empty field.
    Csv,
    /// No table: the text of the row whose [`FORMAT`] is `html`, or `md`.
    Html,
    Markdown,
}

/// The fields of a table of documents: what sort a row's document is of, and the document.
pub const FORMAT: &str = "format";
pub const TEXT: &str = "text";

impl Format {
    /// Of tables.
    pub const EXTENSIONS: &'static str = ".json, .jsonl or .csv";

    pub fn of(path: &Path) -> Option<Format> {
        match path.extension()?.to_str()? {
            "json" => Some(Format::Json),
            "jsonl" => Some(Format::Jsonl),
            "csv" => Some(Format::Csv),
            "html" => Some(Format::Html),
            "md" => Some(Format::Markdown),
            _ => None,
        }
    }

    /// Whether it holds rows, and not one document.
    pub fn is_table(self) -> bool {
        self.document().is_none()
    }

    /// What sort of document it is.
    fn document(self) -> Option<&'static str> {
        match self {
            Format::Html => Some("html"),
            Format::Markdown => Some("md"),
            Format::Json | Format::Jsonl | Format::Csv => None,
        }
    }
}

/// Writes rows as they come. `columns` is the header of a CSV file and unused elsewhere.
pub fn write_table<E: From<io::Error>>(
    format: Format,
    columns: &[Column],
    rows: impl Iterator<Item = Result<Row, E>>,
    out: &mut impl Write,
) -> Result<(), E> {
    match format {
        Format::Json => {
            out.write_all(b"[")?;
            let mut first = true;
            for row in rows {
                out.write_all(if first { b"\n" } else { b",\n" })?;
                first = false;
                write_row(&row?, out)?;
            }
            out.write_all(if first { b"]\n" } else { b"\n]\n" })?;
        }
        Format::Jsonl => {
            for row in rows {
                write_row(&row?, out)?;
                out.write_all(b"\n")?;
            }
        }
        Format::Html | Format::Markdown => {
            for row in rows {
                let row = row?;
                if row.get(FORMAT).and_then(Value::as_str) == format.document() {
                    out.write_all(
                        row.get(TEXT).and_then(Value::as_str).unwrap_or_default().as_bytes(),
                    )?;
                }
            }
        }
        // A table without a row has no column to head it.
        Format::Csv if columns.is_empty() => {}
        Format::Csv => {
            let mut csv = csv::Writer::from_writer(out);
            let failed = |error: csv::Error| E::from(io::Error::other(error));
            csv.write_record(columns.iter().map(|column| column.name.as_str())).map_err(failed)?;
            for row in rows {
                let row = row?;
                let record = columns.iter().map(|column| cell(row.get(&column.name)));
                csv.write_record(record).map_err(failed)?;
            }
            csv.flush()?;
        }
    }
    Ok(())
}

/// Writes rows that are lines of compact JSON already, many at a time, as [`write_table`] writes them
/// (not CSV).
pub fn write_lines<E: From<io::Error>>(
    format: Format,
    lines: impl Iterator<Item = Result<Vec<u8>, E>>,
    out: &mut impl Write,
) -> Result<(), E> {
    let mut first = true;
    for lines in lines {
        let lines = lines?;
        if format == Format::Jsonl {
            out.write_all(&lines)?;
            continue;
        }
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            out.write_all(if first { b"[\n" } else { b",\n" })?;
            first = false;
            out.write_all(line)?;
        }
    }
    if format == Format::Json {
        out.write_all(if first { b"[]\n" } else { b"\n]\n" })?;
    }
    Ok(())
}

fn write_row(row: &Row, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer(out, row).map_err(io::Error::from)
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}
