//! A manifest's text as `flow fmt` writes it: spaces and empty lines only. Not a sign of its keys,
//! values and comments is another one, and lists stay broken where they were broken.

use std::ops::Range;
use std::sync::Arc;

use toml_parser::Source;
use toml_parser::lexer::TokenKind;

use super::problem::{Problem, SourceText};

/// A manifest's bytes may begin with this, which is no part of its text.
const BOM: char = '\u{feff}';

/// How far what stands in a list that is broken over lines is moved to the right, for each level.
const STEP: usize = 4;

/// The text, formatted; its own mistake where it is no TOML.
pub fn tidy(source: &Arc<SourceText>) -> Result<String, Problem> {
    let meaning = |text: &str| toml::from_str::<toml::Table>(text);
    let before = meaning(&source.text).map_err(|error| {
        let problem = Problem::new(format!("the manifest is no TOML: {}", error.message()));
        problem.at(source, error.span().unwrap_or(0..0))
    })?;
    let text = formatted(&source.text);
    // A number that is none (`nan`) is the same written out, and no other way.
    let same = meaning(&text).is_ok_and(|after| format!("{before:?}") == format!("{after:?}"))
        && comments(&source.text) == comments(&text);
    match same {
        true => Ok(text),
        false => Err(Problem::new(format!("`{}` cannot be formatted", source.path)).help(
            "it would mean something else then, which is a fault of flow itself; nothing was written",
        )),
    }
}

/// What a line of the text is; a value that goes over several lines is one of them.
enum Line {
    Empty,
    Comment(String),
    Header(String),
    Pair(String),
}

/// A token, and where it stands.
type Token = (TokenKind, Range<usize>);

fn tokens(text: &str) -> Vec<Token> {
    let range = |span: toml_parser::Span| span.start()..span.end();
    Source::new(text).lex().map(|token| (token.kind(), range(token.span()))).collect()
}

fn comments(text: &str) -> Vec<&str> {
    let tokens = tokens(text).into_iter().filter(|(kind, _)| *kind == TokenKind::Comment);
    tokens.map(|(_, range)| text[range].trim_end()).collect()
}

fn formatted(text: &str) -> String {
    let end = match text.split_once('\n') {
        Some((first, _)) if first.ends_with('\r') => "\r\n",
        _ => "\n",
    };
    let mut lines: Vec<Line> = Vec::new();
    for line in lines_of(text, end) {
        match (&line, lines.last()) {
            // One empty line says as much as many.
            (Line::Empty, None | Some(Line::Empty)) => continue,
            (Line::Header(_), _) => part(&mut lines),
            _ => {}
        }
        lines.push(line);
    }
    if let Some(Line::Empty) = lines.last() {
        lines.pop();
    }
    let mut out = String::new();
    out.extend(text.starts_with(BOM).then_some(BOM));
    for line in &lines {
        match line {
            Line::Empty => {}
            Line::Comment(text) | Line::Header(text) | Line::Pair(text) => out.push_str(text),
        }
        out.push_str(end);
    }
    out
}

/// Sees to an empty line before the header that comes, and before the comments right above it.
fn part(lines: &mut Vec<Line>) {
    let own = lines.iter().rev().take_while(|line| matches!(line, Line::Comment(_))).count();
    let at = lines.len() - own;
    if at > 0 && !matches!(lines[at - 1], Line::Empty) {
        lines.insert(at, Line::Empty);
    }
}

fn lines_of(text: &str, end: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut line: Vec<Token> = Vec::new();
    let mut depth = 0_usize;
    for (kind, range) in tokens(text) {
        match kind {
            TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket => depth += 1,
            TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket => {
                depth = depth.saturating_sub(1);
            }
            TokenKind::Eof if line.is_empty() => break,
            TokenKind::Newline | TokenKind::Eof if depth == 0 => {
                lines.push(told(text, &line, end));
                line.clear();
                continue;
            }
            _ => {}
        }
        line.push((kind, range));
    }
    lines
}

/// One line of its tokens.
fn told(text: &str, line: &[Token], end: &str) -> Line {
    let first = line.iter().position(|(kind, _)| *kind != TokenKind::Whitespace);
    let Some(line) = first.map(|first| &line[first..]) else { return Line::Empty };
    match line[0].0 {
        TokenKind::Comment => Line::Comment(text[line[0].1.clone()].trim_end().to_owned()),
        TokenKind::LeftSquareBracket => {
            // Nothing of a header is apart from the rest but its comment.
            let is_comment = |token: &Token| token.0 == TokenKind::Comment;
            let (header, comment) =
                line.split_at(line.iter().position(is_comment).unwrap_or(line.len()));
            let mut written = String::new();
            for (kind, range) in header {
                if *kind != TokenKind::Whitespace {
                    written.push_str(&text[range.clone()]);
                }
            }
            if let Some((_, range)) = comment.first() {
                let before = header.last().filter(|(kind, _)| *kind == TokenKind::Whitespace);
                written.push_str(before.map_or(" ", |(_, range)| &text[range.clone()]));
                written.push_str(text[range.clone()].trim_end());
            }
            Line::Header(written)
        }
        _ => Line::Pair(pair(text, line, end)),
    }
}

/// `key = value`, also over several lines.
fn pair(text: &str, line: &[Token], end: &str) -> String {
    use TokenKind::*;
    let mut written = String::new();
    let mut depth = 0_usize;
    let mut last: Option<TokenKind> = None;
    let mut blanks = "";
    let mut line_ends = 0_usize;
    for (kind, range) in line {
        let token = &text[range.clone()];
        match kind {
            Whitespace => {
                blanks = token;
                continue;
            }
            Newline => {
                (blanks, line_ends) = ("", line_ends + 1);
                continue;
            }
            Eof => continue,
            _ => {}
        }
        let opens = matches!(kind, LeftSquareBracket | LeftCurlyBracket);
        let closes = matches!(kind, RightSquareBracket | RightCurlyBracket);
        depth = depth.saturating_sub(usize::from(closes));
        if line_ends > 0 {
            let opened = matches!(last, Some(LeftSquareBracket | LeftCurlyBracket));
            let empty = line_ends > 1 && !opened && !closes;
            written.push_str(&end.repeat(1 + usize::from(empty)));
            written.push_str(&" ".repeat(STEP * depth));
        } else {
            written.push_str(gap(last, *kind, blanks));
        }
        // A comment takes blanks at its end as its own.
        written.push_str(if *kind == Comment { token.trim_end() } else { token });
        depth += usize::from(opens);
        (last, blanks, line_ends) = (Some(*kind), "", 0);
    }
    written
}

/// What stands between two tokens of a line, which had `blanks` between them.
fn gap(last: Option<TokenKind>, next: TokenKind, blanks: &str) -> &str {
    use TokenKind::*;
    match (last, next) {
        (None, _) => "",
        // How far comments are set off is up to who wrote them.
        (_, Comment) if !blanks.is_empty() => blanks,
        (_, Comment) => " ",
        (_, Comma | Dot) | (Some(Dot | LeftSquareBracket), _) | (_, RightSquareBracket) => "",
        (Some(LeftCurlyBracket), RightCurlyBracket) => "",
        (Some(LeftCurlyBracket | Comma | Equals), _) | (_, RightCurlyBracket | Equals) => " ",
        // A date and its time.
        _ if !blanks.is_empty() => " ",
        _ => "",
    }
}
