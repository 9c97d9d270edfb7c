//! What a terminal is told, and how: errors and progress on stderr, results on stdout, nothing from
//! outside obeyed as a control sequence.

use std::borrow::Cow;
use std::io::{IsTerminal, Write};

use crate::manifest::clean;
pub(super) use crate::text::grouped;

/// What the terminal can show and the user wants to see.
#[derive(Clone, Copy)]
pub(super) struct Style {
    pub quiet: bool,
    /// Whether texts are painted at all; the colours go where only the other stream shows them.
    pub color: bool,
    pub terminal: bool,
    out: bool,
    err: bool,
}

impl Style {
    pub fn new(quiet: bool) -> Style {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let unwanted = set("NO_COLOR").is_some();
        let forced = set("CLICOLOR_FORCE").is_some_and(|value| value != "0");
        let dumb = set("TERM").is_some_and(|term| term == "dumb");
        let colored = |terminal: bool| !unwanted && (forced || (terminal && !dumb));
        let terminal = std::io::stderr().is_terminal();
        let (out, err) = (colored(std::io::stdout().is_terminal()), colored(terminal));
        Style { quiet, color: out || err, terminal: terminal && !dumb, out, err }
    }

    /// A line for people.
    pub fn say(&self, text: &str) {
        if !self.quiet {
            self.warn(text);
        }
    }

    /// What people must know, also where they want quiet.
    pub fn warn(&self, text: &str) {
        print(&mut std::io::stderr(), &self.shown(&format!("{text}\n"), self.err));
    }

    /// `error: ...`
    pub fn error(&self, text: &str) {
        let head = self.paint("error", RED);
        self.warn(&format!("{head}: {}", clean(text)));
    }

    /// The result of a command.
    pub fn result(&self, text: &str) {
        print(&mut std::io::stdout(), &self.shown(text, self.out));
    }

    /// A text as a stream that has colours, or has none, shows it.
    fn shown<'t>(&self, text: &'t str, colored: bool) -> Cow<'t, str> {
        if colored || !self.color {
            return Cow::Borrowed(text);
        }
        // Nothing else holds such signs: what comes from outside was made clean.
        let mut parts = text.split("\x1b[");
        let mut plain = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            plain.push_str(part.split_once('m').map_or(part, |(_, rest)| rest));
        }
        Cow::Owned(plain)
    }

    pub fn paint(&self, text: &str, color: &str) -> String {
        match self.color {
            true => format!("\x1b[{color}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }
}

pub(super) const RED: &str = "1;31";
pub(super) const GREEN: &str = "32";
pub(super) const YELLOW: &str = "33";
pub(super) const DIM: &str = "2";
pub(super) const BOLD: &str = "1";

/// A reader that has gone (`flow graph | head`) is no fault.
fn print(to: &mut impl Write, text: &str) {
    let _ = to.write_all(text.as_bytes());
    let _ = to.flush();
}

/// `1 row`, `2 rows`, `12,345 rows`, `2 batches`.
pub(super) fn count(number: u64, word: &str) -> String {
    let end = match number {
        1 => "",
        _ if word.ends_with("ch") => "es",
        _ => "s",
    };
    format!("{} {word}{end}", grouped(number))
}

/// `2026-01-31 12:00 UTC`, from milliseconds since 1970.
pub(super) fn minute(at: i64) -> String {
    // A clock that tells no time of this calendar is shown as 1970.
    let at = jiff::Timestamp::from_millisecond(at).unwrap_or_default();
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// `12.3 MB`
pub(super) fn bytes(number: u64) -> String {
    let (unit, size) = match number {
        0..1_000 => return format!("{number} B"),
        1_000..1_000_000 => ("kB", 1e3),
        1_000_000..1_000_000_000 => ("MB", 1e6),
        _ => ("GB", 1e9),
    };
    format!("{:.1} {unit}", number as f64 / size)
}

/// Text from outside on one line, its control characters visible, and not much longer than `most`.
pub(super) fn one_line(text: &str, most: usize) -> String {
    let text = match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    };
    clean(&text).replace('\n', "\u{240a}").replace('\t', "\u{2409}")
}

/// Lines of cells below each other; the columns that `right` names stand to the right.
pub(super) fn columns(lines: &[Vec<String>], right: &[usize]) -> String {
    let wide =
        |at: usize| lines.iter().filter_map(|line| line.get(at)).map(|cell| width(cell)).max();
    let mut text = String::new();
    for line in lines {
        let mut told = String::new();
        for (at, cell) in line.iter().enumerate() {
            let blanks = " ".repeat(wide(at).unwrap_or(0) - width(cell));
            let gap = if at == 0 { "" } else { "  " };
            told.push_str(&match right.contains(&at) {
                true => format!("{gap}{blanks}{cell}"),
                false => format!("{gap}{cell}{blanks}"),
            });
        }
        text.push_str(told.trim_end());
        text.push('\n');
    }
    text
}

fn width(cell: &str) -> usize {
    cell.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_without_colours_shows_none() {
        let style = Style { quiet: false, color: true, terminal: true, out: false, err: true };
        let painted = format!("a {} [m] {}", style.paint("b", RED), style.paint("c", DIM));
        assert_eq!(style.shown(&painted, style.out), "a b [m] c");
        assert_eq!(style.shown(&painted, style.err), painted);
        assert_eq!(style.shown("a", style.out), "a");
    }
}
