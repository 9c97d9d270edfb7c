//! GitHub's JSON objects as templates: `src/shapes/*.json` with `$name` where a value goes.
//! Filling a template is several times cheaper than building a tree of values.

use serde::Serialize;
use std::sync::LazyLock;

pub struct Shape(Vec<Part>);

enum Part {
    Text(String),
    Name(String),
}

macro_rules! shapes {
    ($($name:ident = $file:literal;)*) => {
        $(pub static $name: LazyLock<Shape> =
            LazyLock::new(|| Shape::new(include_str!(concat!("shapes/", $file))));)*
    };
}

shapes! {
    USER = "user.json";
    VIEWER_MORE = "viewer_more.json";
    REPOSITORY = "repository.json";
    REPOSITORY_MORE = "repository_more.json";
    ISSUE = "issue.json";
    PULL = "pull.json";
    LABEL = "label.json";
    MILESTONE = "milestone.json";
    COMMENT = "comment.json";
    REVIEW = "review.json";
    LINE_COMMENT = "line_comment.json";
    FILE = "file.json";
    COMMIT = "commit.json";
}

impl Shape {
    fn new(source: &str) -> Shape {
        let mut parts = Vec::new();
        let source = compact(source);
        let mut pieces = source.split('$');
        parts.push(Part::Text(pieces.next().unwrap_or_default().to_owned()));
        for piece in pieces {
            let end = piece.find(|c: char| !c.is_ascii_lowercase() && c != '_');
            let (name, text) = piece.split_at(end.unwrap_or(piece.len()));
            parts.push(Part::Name(name.to_owned()));
            parts.push(Part::Text(text.to_owned()));
        }
        Shape(parts)
    }

    /// Writes the object; `value` writes what stands for each name.
    pub fn fill(&self, out: &mut Vec<u8>, mut value: impl FnMut(&str, &mut Vec<u8>)) {
        for part in &self.0 {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Name(name) => value(name, out),
            }
        }
    }
}

/// Without the white space between tokens.
fn compact(source: &str) -> String {
    let mut quoted = false;
    source
        .chars()
        .filter(|c| {
            quoted ^= *c == '"';
            quoted || !c.is_whitespace()
        })
        .collect()
}

/// Writes `value` as JSON.
pub fn json(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    let start = out.len();
    if serde_json::to_writer(&mut *out, value).is_err() {
        out.truncate(start);
        out.extend_from_slice(b"null");
    }
}

pub fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// Writes a JSON array, one element for each of `items`.
pub fn array<T>(
    out: &mut Vec<u8>,
    items: impl IntoIterator<Item = T>,
    mut each: impl FnMut(&mut Vec<u8>, T),
) {
    out.push(b'[');
    for (nth, item) in items.into_iter().enumerate() {
        if nth > 0 {
            out.push(b',');
        }
        each(out, item);
    }
    out.push(b']');
}
