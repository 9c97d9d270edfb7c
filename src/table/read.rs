//! Reads rows from a `.json`, `.jsonl` or `.csv` file that people wrote. Each fault names its line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use serde::de::IgnoredAny;
use serde_json::Value;
use thiserror::Error;

use super::{Format, Row, all_fields};

/// A file that cannot be read as a table.
#[derive(Debug, Error)]
pub enum ReadError {
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("line {line}: {what}")]
    Line { line: u64, what: String },
    #[error("has no known extension; a table is read from {}", Format::EXTENSIONS)]
    Extension,
}

impl ReadError {
    /// What to do about it, for a file of that name.
    pub fn help(&self, path: &Path) -> String {
        match (self, Format::of(path)) {
            (ReadError::Io(_), _) => "see who may read it: `ls -l`".into(),
            (ReadError::Extension, _) => "write its rows to such a file".into(),
            (ReadError::Line { what, .. }, Some(Format::Csv)) if what.contains("twice") => {
                "give each column a name of its own".into()
            }
            (_, Some(Format::Csv)) => {
                "each record has a cell for each column; one that holds commas \
                                       or line ends stands in double quotes"
                    .into()
            }
            (_, Some(Format::Jsonl)) => "write an object a line: `{\"id\": 1}`".into(),
            _ => "write an array of objects: `[{\"id\": 1}, {\"id\": 2}]`".into(),
        }
    }

    fn at(line: u64, what: impl Into<String>) -> ReadError {
        ReadError::Line { line, what: what.into() }
    }
}

const NOT_TEXT: &str = "is not UTF-8 text";

/// The rows of a file, in its order. CSV cells are text, as CSV has no other type.
pub fn read_rows(path: &Path) -> Result<Vec<Row>, ReadError> {
    let format = Format::of(path).ok_or(ReadError::Extension)?;
    let mut file = BufReader::new(File::open(path)?);
    match format {
        Format::Html | Format::Markdown => Err(ReadError::Extension),
        Format::Csv => read_csv(file),
        Format::Jsonl => read_jsonl(file),
        Format::Json => {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            let text = String::from_utf8(bytes).map_err(|error| {
                let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
                let ends = before.iter().filter(|byte| **byte == b'\n').count() as u64;
                ReadError::at(ends + 1, NOT_TEXT)
            })?;
            let value: Value = serde_json::from_str(text.trim_start_matches('\u{feff}'))
                .map_err(|error| ReadError::at(error.line() as u64, no_json(&error, &text)))?;
            let Value::Array(values) = value else {
                return Err(ReadError::at(1, "expected an array of objects"));
            };
            let object = |(index, value)| match value {
                Value::Object(row) => Ok(row),
                other => Err(ReadError::at(
                    line_of(&text, index),
                    format!("element {} is {}, expected an object", index + 1, type_name(&other)),
                )),
            };
            values.into_iter().enumerate().map(object).collect()
        }
    }
}

/// The fields that the rows of a file have; without a row, those that it has columns for.
pub fn fields_of(path: &Path, rows: &[Row]) -> Result<Vec<String>, ReadError> {
    match Format::of(path) {
        Some(Format::Csv) if rows.is_empty() => header(&mut csv_reader(File::open(path)?)),
        _ => Ok(all_fields(rows)),
    }
}

fn read_jsonl(mut file: impl BufRead) -> Result<Vec<Row>, ReadError> {
    let mut rows = Vec::new();
    let mut line = Vec::new();
    let mut number = 0;
    while file.read_until(b'\n', &mut line)? > 0 {
        number += 1;
        rows.extend(read_line(&line, number)?);
        line.clear();
    }
    Ok(rows)
}

/// The row that stands in a line of a `.jsonl` file; `None` where it is empty.
pub fn read_line(line: &[u8], number: u64) -> Result<Option<Row>, ReadError> {
    let text = std::str::from_utf8(line).map_err(|_| ReadError::at(number, NOT_TEXT))?;
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.is_empty() {
        return Ok(None);
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(row)) => Ok(Some(row)),
        Ok(other) => {
            let what = format!("expected an object, found {}", type_name(&other));
            Err(ReadError::at(number, what))
        }
        Err(error) => Err(ReadError::at(number, no_json(&error, text))),
    }
}

fn csv_reader<R: Read>(file: R) -> csv::Reader<R> {
    csv::ReaderBuilder::new().from_reader(file)
}

fn csv_fault(error: csv::Error) -> ReadError {
    let line = error.position().map_or(1, |position| position.line());
    let what = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            let cells = if *len == 1 { "cell" } else { "cells" };
            format!("the record has {len} {cells}, the header {expected_len}")
        }
        _ => error.to_string(),
    };
    ReadError::at(line, what)
}

/// Why a text is no JSON; its line is told beside it.
fn no_json(error: &serde_json::Error, text: &str) -> String {
    let message = error.to_string();
    let what = message.split(" at line ").next().unwrap_or(&message);
    match error.is_eof() {
        true if text.trim().is_empty() => "it is empty".into(),
        true => "it is no JSON: it ends too early".into(),
        false => format!("it is no JSON: {what}"),
    }
}

/// The line on which an element of an array begins; `text` is JSON.
fn line_of(text: &str, index: usize) -> u64 {
    let mut at = text.find('[').map_or(0, |open| open + 1);
    for number in 0.. {
        let rest = &text[at..];
        at = text.len()
            - rest.trim_start_matches(|c: char| c == ',' || c.is_ascii_whitespace()).len();
        let mut values = serde_json::Deserializer::from_str(&text[at..]).into_iter::<IgnoredAny>();
        if number == index || values.next().is_none_or(|value| value.is_err()) {
            break;
        }
        at += values.byte_offset();
    }
    1 + text[..at].matches('\n').count() as u64
}

/// The names in the first line.
fn header(reader: &mut csv::Reader<impl Read>) -> Result<Vec<String>, ReadError> {
    let mut header: Vec<String> =
        reader.headers().map_err(csv_fault)?.iter().map(str::to_owned).collect();
    if let Some(first) = header.first_mut() {
        *first = first.trim_start_matches('\u{feff}').to_owned();
    }
    for (index, name) in header.iter().enumerate() {
        if header[..index].contains(name) {
            return Err(ReadError::at(1, format!("the column `{name}` is named twice")));
        }
    }
    Ok(header)
}

fn read_csv(file: impl Read) -> Result<Vec<Row>, ReadError> {
    let mut reader = csv_reader(file);
    let header = header(&mut reader)?;
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(csv_fault)?;
        let cells = record.iter().map(|cell| Value::String(cell.to_owned()));
        rows.push(header.iter().cloned().zip(cells).collect());
    }
    Ok(rows)
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
