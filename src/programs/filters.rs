//! The filters that templates have beside minijinja's: for long texts, and for texts of strangers.

use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State};

use super::tokens;
use crate::table::Digest;

/// Where a rendering counts what was left out.
const CUT: &str = "tokens cut";

/// The filters that a misspelled name is held against.
pub(super) const NAMES: [&str; 49] = [
    "abs",
    "attr",
    "batch",
    "bool",
    "capitalize",
    "chain",
    "count",
    "default",
    "dictsort",
    "escape",
    "first",
    "float",
    "format",
    "groupby",
    "head_tail",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "lines",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "select",
    "selectattr",
    "slice",
    "sort",
    "split",
    "string",
    "sum",
    "title",
    "tojson",
    "tokens",
    "trim",
    "truncate_tokens",
    "unique",
    "untrusted",
    "upper",
    "urlencode",
    "within_tokens",
];

pub(super) fn add(environment: &mut Environment<'static>) {
    environment.add_filter("tokens", |value: Value| text(&value).map(|text| tokens::count(&text)));
    environment.add_filter("within_tokens", within_tokens);
    environment.add_filter("truncate_tokens", truncate_tokens);
    environment.add_filter("head_tail", head_tail);
    environment.add_filter("untrusted", |value: Value| text(&value).map(|text| untrusted(&text)));
}

/// How many tokens a rendering has left out.
pub(super) fn cut(state: &State<'_, '_>) -> u64 {
    state.get_temp(CUT).and_then(|value| u64::try_from(value).ok()).unwrap_or(0)
}

/// Whether a text has at most so many tokens. A short one is not counted, nor a long one to its end.
fn within_tokens(value: Value, most: usize) -> Result<bool, Error> {
    let text = text(&value)?;
    Ok(tokens::prefix(&text, most).len() == text.len())
}

/// The beginning of a text, with at most so many tokens.
fn truncate_tokens(state: &mut State<'_, '_>, value: Value, most: usize) -> Result<String, Error> {
    let text = text(&value)?;
    let head = tokens::prefix(&text, most);
    if head.len() == text.len() {
        return Ok(text);
    }
    let left_out = note(state, &text[head.len()..]);
    Ok(format!("{head}\n(cut here: {left_out} more tokens)"))
}

/// The beginning and the end of a text, with at most so many tokens together.
fn head_tail(state: &mut State<'_, '_>, value: Value, most: usize) -> Result<String, Error> {
    let text = text(&value)?;
    if tokens::prefix(&text, most).len() == text.len() {
        return Ok(text);
    }
    let head = tokens::prefix(&text, most.div_ceil(2));
    let tail = tokens::suffix(&text[head.len()..], most / 2);
    let left_out = note(state, &text[head.len()..text.len() - tail.len()]);
    Ok(format!("{head}\n(cut here: {left_out} tokens left out)\n{tail}"))
}

fn note(state: &mut State<'_, '_>, left_out: &str) -> usize {
    let tokens = tokens::count(left_out);
    let so_far = cut(state);
    state.set_temp(CUT, Value::from(so_far + tokens as u64));
    tokens
}

/// A text between two lines that nobody who writes it can write: they name its own hash. The same text
/// has the same lines, so that the request stays the same.
fn untrusted(text: &str) -> String {
    let name = format!("untrusted-{}", &Digest::of(text.as_bytes()).hex()[..16]);
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    format!("<{name}>\n{text}{end}</{name}>")
}

/// What a value says; null says nothing.
fn text(value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::None => Ok(String::new()),
        ValueKind::String | ValueKind::Number | ValueKind::Bool => Ok(value.to_string()),
        ValueKind::Undefined => Err(ErrorKind::UndefinedError.into()),
        other => {
            let why = format!("a text is wanted, not a {other}; write `|tojson` before it");
            Err(Error::new(ErrorKind::InvalidOperation, why))
        }
    }
}
