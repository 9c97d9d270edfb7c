//! Strict reading of a piece of the manifest into a type, one mistake after another.

use std::ops::Range;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::problem::{Problem, Problems, SourceText, did_you_mean};

/// Reads `table` as a `T`. Each key that is wrong is reported and put aside, and reading starts
/// again without it, so that all mistakes of one table are told at once.
pub fn parse_strict<T: DeserializeOwned>(
    table: &Spanned<DeTable<'_>>,
    what: &str,
    source: &Arc<SourceText>,
    problems: &mut Problems,
) -> Option<T> {
    let mut rest = table.clone();
    let mut wrong: Vec<String> = Vec::new();
    loop {
        let error = match T::deserialize(Deserializer::from(rest.clone())) {
            Ok(value) if wrong.is_empty() => return Some(value),
            Ok(_) => return None,
            Err(error) => error,
        };
        let message = error.message().to_owned();
        if let Some(field) = quoted(&message).filter(|_| message.starts_with("missing field")) {
            if !wrong.contains(&field) {
                let problem = Problem::new(format!("{what} has no `{field}`"))
                    .at(source, header(source, table.span()))
                    .help(format!("add `{field} = ...`"));
                problems.add(problem);
            }
            return None;
        }
        let span = error.span().unwrap_or_else(|| table.span());
        let key = rest.get_ref().iter().find_map(|(key, value)| {
            let (key_span, value_span) = (key.span(), value.span());
            let whole = key_span.start..value_span.end.max(key_span.end);
            let inside = contains(&whole, &span) || contains(&value_span, &span);
            inside.then(|| key.get_ref().to_string())
        });
        problems.add(explain(&message, what, key.as_deref(), span, source));
        let key = key?;
        rest.get_mut().remove(key.as_str());
        wrong.push(key);
    }
}

fn contains(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

/// A table's span may run over all its lines; its first line is what names it.
fn header(source: &SourceText, span: Range<usize>) -> Range<usize> {
    let text = &source.text[span.clone()];
    let end = text.find('\n').unwrap_or(text.len());
    span.start..span.start + end
}

fn explain(
    message: &str,
    what: &str,
    key: Option<&str>,
    span: Range<usize>,
    source: &Arc<SourceText>,
) -> Problem {
    if let Some(field) = quoted(message).filter(|_| message.starts_with("unknown field")) {
        let known = all_quoted(message);
        let known = known.iter().skip(1).map(String::as_str);
        return Problem::new(format!("{what} has no key `{field}`"))
            .at(source, span)
            .help_if(did_you_mean(&field, known));
    }
    let named = key.map_or_else(|| what.to_owned(), |key| format!("`{key}` of {what}"));
    if let Some(variant) = quoted(message).filter(|_| message.starts_with("unknown variant")) {
        let known = all_quoted(message);
        let known = known.iter().skip(1).map(String::as_str);
        return Problem::new(format!("{named} cannot be `{variant}`"))
            .at(source, span)
            .help_if(did_you_mean(&variant, known));
    }
    if let Some((found, expected)) = message.split_once(", expected ") {
        let found = found
            .trim_start_matches("invalid type: ")
            .trim_start_matches("invalid value: ")
            .trim_start_matches("invalid length ");
        return Problem::new(format!("{named} is of the wrong type"))
            .at(source, span)
            .label(format!("expected {expected}, found {found}"));
    }
    Problem::new(format!("{named}: {message}")).at(source, span)
}

fn quoted(message: &str) -> Option<String> {
    all_quoted(message).into_iter().next()
}

fn all_quoted(message: &str) -> Vec<String> {
    message.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// A TOML value as JSON; dates become their text.
pub fn to_json(
    value: &Spanned<DeValue<'_>>,
    source: &Arc<SourceText>,
    problems: &mut Problems,
) -> Value {
    let mut wrong = |message: &str| {
        problems.add(Problem::new(message).at(source, value.span()));
        Value::Null
    };
    match value.get_ref() {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Boolean(truth) => Value::Bool(*truth),
        DeValue::Integer(number) => {
            match i64::from_str_radix(&number.as_str().replace('_', ""), number.radix()) {
                Ok(number) => Value::from(number),
                Err(_) => wrong("the number does not fit in 64 bits"),
            }
        }
        DeValue::Float(number) => {
            let parsed = number.as_str().replace('_', "").parse::<f64>().ok();
            match parsed.and_then(serde_json::Number::from_f64) {
                Some(number) => Value::Number(number),
                None => wrong("a table cannot hold this number: JSON has no infinity and no NaN"),
            }
        }
        DeValue::Datetime(date) => Value::String(date.to_string()),
        DeValue::Array(values) => {
            Value::Array(values.iter().map(|value| to_json(value, source, problems)).collect())
        }
        DeValue::Table(table) => {
            let field = |(key, value): (&Spanned<_>, _)| {
                (
                    AsRef::<std::borrow::Cow<'_, str>>::as_ref(key).to_string(),
                    to_json(value, source, problems),
                )
            };
            Value::Object(table.iter().map(field).collect())
        }
    }
}
