//! Rows for people and for programs: as a table that fits the terminal, field by field, or in the
//! formats of outputs.

use std::fmt::Write as _;
use std::io::{self, BufWriter, IsTerminal, Write};

use serde_json::Value;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::Exit;
use super::style::{Style, count, grouped, one_line};
use crate::engine::LookError;
use crate::manifest::{Problem, Problems, SourceText, clean};
use crate::stages::{QueryError, StageError};
use crate::table::{Column, Format, Row, write_table};

/// How rows are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Shown {
    /// For people: below each other, cut to the terminal's width
    Table,
    /// An array, one row a line
    Json,
    /// One row a line
    Jsonl,
    /// A header line, then one record a row
    Csv,
}

/// So many rows of a table are shown where it is not said.
const SOME: u64 = 20;

impl Shown {
    /// How many rows are wanted.
    pub fn most(self, limit: Option<u64>) -> u64 {
        limit.unwrap_or(if self == Shown::Table { SOME } else { u64::MAX })
    }
}

/// Prints the first rows of `count`, as `rows` gives them.
pub(super) fn print(
    shown: Shown,
    columns: &[Column],
    rows: impl Iterator<Item = Result<Row, StageError>>,
    of: u64,
    style: &Style,
) -> Result<(), StageError> {
    if shown != Shown::Table {
        return write(shown, columns, rows, style);
    }
    let rows: Vec<Row> = rows.collect::<Result<_, _>>()?;
    let names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
    let (text, left_out) = table(&names, &rows, width());
    style.result(&text);
    if !left_out.is_empty() {
        let names: Vec<String> = left_out.iter().map(|name| one_line(name, 40)).collect();
        style.say(&format!("no room for {}; `--format json` has them", names.join(", ")));
    }
    let shown = rows.len() as u64;
    style.say(&match shown < of {
        true => format!("{} of {}; `--limit N` shows more", grouped(shown), count(of, "row")),
        false => count(of, "row"),
    });
    Ok(())
}

/// Writes rows as outputs are written, byte for byte. What a terminal would obey is shown there.
fn write(
    shown: Shown,
    columns: &[Column],
    rows: impl Iterator<Item = Result<Row, StageError>>,
    style: &Style,
) -> Result<(), StageError> {
    let format = match shown {
        Shown::Csv => Format::Csv,
        Shown::Jsonl => Format::Jsonl,
        Shown::Json | Shown::Table => Format::Json,
    };
    if io::stdout().is_terminal() {
        let mut bytes = Vec::new();
        write_table(format, columns, rows, &mut bytes)?;
        style.result(&clean(&String::from_utf8_lossy(&bytes)));
        return Ok(());
    }
    let mut out = BufWriter::new(Pipe(io::stdout().lock()));
    write_table(format, columns, rows, &mut out)?;
    Ok(out.flush()?)
}

/// A reader that has gone (`| head`) is no fault.
struct Pipe<'a>(io::StdoutLock<'a>);

impl Write for Pipe<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.write_all(bytes) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.0.flush() {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok(()),
        }
    }
}

/// One row, field by field and whole.
pub(super) fn fields(row: &Row) -> String {
    let mut text = String::new();
    for (name, value) in row {
        let value = match value {
            Value::String(value) => value.clone(),
            other => serde_json::to_string_pretty(other).expect("JSON values always serialize"),
        };
        let name = one_line(name, usize::MAX);
        let value = clean(&value);
        match value.contains('\n') {
            false => _ = writeln!(text, "{name}: {value}"),
            true => {
                _ = writeln!(text, "{name}:");
                value.lines().for_each(|line| _ = writeln!(text, "  {line}"));
            }
        }
    }
    text
}

/// The columns that stdout has, where it is a terminal.
fn width() -> Option<usize> {
    let stdout = io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let columns = rustix::termios::tcgetwinsize(&stdout).map_or(0, |size| size.ws_col);
    // One that does not tell is as wide as they once were.
    Some(if columns == 0 { 80 } else { columns.into() })
}

/// A column is not made narrower than this, nor filled up further than that.
const NARROW: usize = 12;
const FILLED: usize = 60;
/// Between two columns.
const GAP: usize = 2;

/// Rows below each other, cut to `width` where there is one; and the columns that have no room.
fn table<'n>(names: &'n [String], rows: &[Row], width: Option<usize>) -> (String, &'n [String]) {
    // What is longer than a terminal is wide need not be looked at.
    let most = width.map_or(usize::MAX, |width| width.max(NARROW) + 1);
    let mut lines = vec![names.iter().map(|name| one_line(name, usize::MAX)).collect::<Vec<_>>()];
    let of_row = |row: &Row| names.iter().map(|name| cell(row.get(name), most)).collect();
    lines.extend(rows.iter().map(of_row));
    let widest = |at: usize| lines.iter().map(|line| line[at].width()).max().unwrap_or(0);
    let widest: Vec<usize> = (0..names.len()).map(widest).collect();
    let widths = match width {
        Some(width) => fit(&widest, width),
        None => widest.iter().map(|wide| (*wide).min(FILLED)).collect(),
    };
    let is_number = |name: &String| {
        let mut values = rows.iter().filter_map(|row| row.get(name)).filter(|it| !it.is_null());
        values.clone().next().is_some() && values.all(Value::is_number)
    };
    let right: Vec<bool> = names.iter().map(is_number).collect();
    let mut text = String::new();
    for line in &lines {
        let mut told = String::new();
        for (at, wide) in widths.iter().enumerate() {
            let cell = match width {
                Some(_) => cut(&line[at], *wide),
                None => line[at].clone(),
            };
            let blanks = " ".repeat(wide.saturating_sub(cell.width()));
            let gap = " ".repeat(if at == 0 { 0 } else { GAP });
            told.push_str(&match right[at] {
                true => format!("{gap}{blanks}{cell}"),
                false => format!("{gap}{cell}{blanks}"),
            });
        }
        text.push_str(told.trim_end());
        text.push('\n');
    }
    (text, &names[widths.len()..])
}

/// How wide columns become that would like to be so wide: as many from the left as there is room for,
/// those that want more than others are narrowed first.
fn fit(widest: &[usize], width: usize) -> Vec<usize> {
    let mut taken = 0;
    let has_room = |wide: &&usize| {
        taken += (**wide).min(NARROW) + GAP;
        taken <= width + GAP
    };
    let shown = widest.iter().take_while(has_room).count().max(1).min(widest.len());
    let room = width.saturating_sub(GAP * shown.saturating_sub(1));
    let with = |most: usize| widest[..shown].iter().map(move |wide| (*wide).min(most));
    let most = (1..=room.max(1)).rev().find(|most| with(*most).sum::<usize>() <= room);
    with(most.unwrap_or(1)).collect()
}

/// A field on one line; no more of it than `most` characters are looked at.
fn cell(value: Option<&Value>, most: usize) -> String {
    let text = match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.chars().take(most).collect(),
        Some(other) => other.to_string(),
    };
    one_line(&text, usize::MAX)
}

/// The beginning of a text that is too wide, with a mark that it goes on.
fn cut(text: &str, wide: usize) -> String {
    if text.width() <= wide {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut left = wide.saturating_sub(1);
    for c in text.chars() {
        let needs = c.width().unwrap_or(0);
        if needs > left {
            break;
        }
        left -= needs;
        kept.push(c);
    }
    kept + "…"
}

/// Tells why there is nothing to look at.
pub(super) fn refused(error: &LookError, style: &Style) -> Exit {
    style.error(&error.to_string());
    match error {
        LookError::NoRow(_) => Exit::Wrong,
        _ => Exit::Incomplete,
    }
}

/// Tells why a query gives nothing: in `text`, which stands in it at `start` and is called `name`.
pub(super) fn refused_query(
    error: QueryError,
    (name, text, start): (&str, &str, usize),
    style: &Style,
) -> Exit {
    match error {
        QueryError::Text { message, range, help } => {
            let source = SourceText::new(name, text);
            let range = range.start.saturating_sub(start)..range.end.saturating_sub(start);
            let problem = Problem::new(format!("{name} cannot be used: {message}"));
            let mut problems = Problems::default();
            problems.add(problem.at(&source, range).help_if(help));
            style.warn(&problems.render(style.color));
            Exit::Wrong
        }
        QueryError::Stage(error) => {
            style.error(&error.to_string());
            Exit::Incomplete
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(rows: Value, width: Option<usize>) -> (String, Vec<String>) {
        let rows: Vec<Row> = serde_json::from_value(rows).expect("rows");
        let names: Vec<String> = rows[0].keys().cloned().collect();
        let (text, left_out) = table(&names, &rows, width);
        (text, left_out.to_vec())
    }

    #[test]
    fn a_table_fits_the_width() {
        let long = "a long text that says much of little\nand more ".repeat(50);
        let rows = json!([
            {"id": "I_1", "number": 7, "title": long, "labels": [{"name": "bug"}]},
            {"id": "I_22", "number": 1234, "title": "短い文字列はここに".repeat(9), "labels": null},
        ]);
        for width in [40, 41, 60, 80, 200] {
            let (text, left_out) = shown(rows.clone(), Some(width));
            assert!(text.lines().all(|line| line.width() <= width), "{width}\n{text}");
            assert_eq!(text.lines().count(), 3, "{text}");
            assert!(text.contains('…') && left_out.is_empty(), "{text}");
        }
        let (text, _) = shown(rows.clone(), Some(60));
        assert!(text.lines().nth(1).unwrap().starts_with("I_1        7  a long"), "{text}");
        // Without a terminal nothing is cut.
        let (text, _) = shown(rows, None);
        assert!(text.contains(&"短い文字列はここに".repeat(9)) && !text.contains('…'), "{text}");
    }

    #[test]
    fn columns_without_room_are_named() {
        let row: Row = (0..30).map(|at| (format!("column_{at}"), json!("value"))).collect();
        for width in [1, 2, 20, 80] {
            let (text, left_out) = shown(json!([row]), Some(width));
            assert!(text.lines().all(|line| line.width() <= width), "{width}\n{text}");
            assert!(left_out.len() > 20 && left_out.last().unwrap() == "column_29");
        }
    }

    #[test]
    fn what_would_be_obeyed_is_shown() {
        let hostile = json!({"\u{1b}[2Jname": "\u{1b}]0;title\u{7}\u{9b}31m\r\u{202e}", "n": [1]});
        let row: Row = serde_json::from_value(hostile.clone()).expect("a row");
        for text in [shown(json!([hostile]), None).0, fields(&row)] {
            let is_obeyed = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
            assert!(!text.contains(is_obeyed), "{text:?}");
        }
    }
}
