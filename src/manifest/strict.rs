//! Strict reading of a piece of the manifest into a type, one mistake after another.

use std::ops::Range;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::problem::{Problem, Problems, SourceText, did_you_mean, nearest};

/// What came of reading a table.
pub struct Reading<T> {
    /// `None` where something is missing that it cannot do without.
    pub value: Option<T>,
    /// Keys whose values are of no use; the value was read without them.
    pub aside: Vec<String>,
    /// Names of `also` that unknown keys were probably meant as.
    pub meant: Vec<String>,
}

/// Reads `table` as a `T`; `None` where a value in it is wrong or missing. A value that is there
/// may have been read past unknown keys, which are in `problems`.
pub fn parse_strict<T: DeserializeOwned + JsonSchema>(
    table: &Spanned<DeTable<'_>>,
    what: &str,
    source: &Arc<SourceText>,
    problems: &mut Problems,
) -> Option<T> {
    let reading = parse_on(table, what, &[], source, problems);
    reading.value.filter(|_| reading.aside.is_empty())
}

/// Reads `table` as a `T` and goes on after a mistake, so that all of one table are told at once: a
/// key that is wrong is put aside, an unknown one is taken for what was probably meant. `also` are
/// names that may be meant beside the fields of `T`.
pub fn parse_on<T: DeserializeOwned + JsonSchema>(
    table: &Spanned<DeTable<'_>>,
    what: &str,
    also: &[&str],
    source: &Arc<SourceText>,
    problems: &mut Problems,
) -> Reading<T> {
    let required = required::<T>();
    let (mut aside, mut meant): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    let mut rest = table.clone();
    loop {
        let error = match T::deserialize(Deserializer::from(rest.clone())) {
            Ok(value) => return Reading { value: Some(value), aside, meant },
            Err(error) => error,
        };
        let message = error.message().to_owned();
        let missing = quoted(&message).filter(|_| message.starts_with("missing field"));
        let lacks = |field: &String| !rest.get_ref().contains_key(field.as_str());
        if missing.as_ref().is_some_and(|field| required.contains(field) && lacks(field)) {
            for field in required.iter().filter(|field| lacks(field) && !aside.contains(field)) {
                let problem = Problem::new(format!("{what} has no `{field}`"))
                    .at(source, header(source, table.span()))
                    .help(format!("add `{field} = ...`"));
                problems.add(problem);
            }
            return Reading { value: None, aside, meant };
        }
        let span = error.span().unwrap_or_else(|| table.span());
        let path = path_to(rest.get_ref(), &span);
        let Some(key) = path.last() else {
            problems.add(Problem::new(format!("{what}: {message}")).at(source, span));
            return Reading { value: None, aside, meant };
        };
        // What is wrong inside a value is told as that of its key.
        let owner = |path: &[String]| match path {
            [] => what.to_owned(),
            path => format!("`{}` of {what}", path.join(".")),
        };
        let inner = &path[..path.len() - 1];
        if message.starts_with("unknown field") {
            let fields = all_quoted(&message);
            let mut known: Vec<&str> = fields.iter().skip(1).map(String::as_str).collect();
            if inner.is_empty() {
                known.extend(also);
            }
            let problem = Problem::new(format!("{} has no key `{key}`", owner(inner)));
            let help = did_you_mean(key, known.iter().copied());
            problems.add(problem.at(source, span).help_if(help));
            let near = nearest(key, known.iter().copied());
            match near {
                Some(near) if inner.is_empty() && also.contains(&near) => {
                    meant.push(near.to_owned());
                    take(rest.get_mut(), &path, None);
                }
                near => take(rest.get_mut(), &path, near),
            }
            continue;
        }
        // A value that lost a part before lacks it now; that was told.
        if missing.is_none() || !aside.contains(&path[0]) {
            problems.add(explain(&message, &owner(&path), span, source));
        }
        take(rest.get_mut(), &path, None);
        aside.push(path[0].clone());
    }
}

/// The fields that a `T` cannot do without.
fn required<T: JsonSchema>() -> Vec<String> {
    let schema = schemars::schema_for!(T);
    let names = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    names.filter_map(|name| Some(name.as_str()?.to_owned())).collect()
}

/// The keys that lead to the innermost entry around `span`.
fn path_to(table: &DeTable<'_>, span: &Range<usize>) -> Vec<String> {
    let contains = |outer: Range<usize>| outer.start <= span.start && span.end <= outer.end;
    for (key, value) in table {
        let whole = key.span().start..value.span().end.max(key.span().end);
        let mut path = vec![key.get_ref().to_string()];
        // The span of a table with a header of its own is its header; its keys stand below.
        if let DeValue::Table(inner) = value.get_ref() {
            path.extend(path_to(inner, span));
        }
        if path.len() > 1 || contains(whole) || contains(value.span()) {
            return path;
        }
    }
    Vec::new()
}

/// Takes the entry at `path` away, or gives it another name where that one is free.
fn take(table: &mut DeTable<'_>, path: &[String], name: Option<&str>) {
    match path {
        [] => {}
        [key] => {
            let Some((key, value)) = table.remove_entry(key.as_str()) else { return };
            if let Some(name) = name.filter(|name| !table.contains_key(*name)) {
                table.insert(Spanned::new(key.span(), name.to_owned().into()), value);
            }
        }
        [key, rest @ ..] => {
            let inner = table.get_mut(key.as_str()).map(Spanned::get_mut);
            if let Some(DeValue::Table(inner)) = inner {
                take(inner, rest, name);
            }
        }
    }
}

/// A table's span may run over all its lines; its first line is what names it.
fn header(source: &SourceText, span: Range<usize>) -> Range<usize> {
    let text = &source.text[span.clone()];
    let end = text.find('\n').unwrap_or(text.len());
    span.start..span.start + text[..end].trim_end().len()
}

fn explain(message: &str, named: &str, span: Range<usize>, source: &Arc<SourceText>) -> Problem {
    if let Some(field) = quoted(message).filter(|_| message.starts_with("missing field")) {
        return Problem::new(format!("{named} has no `{field}`"))
            .at(source, header(source, span))
            .help(format!("add `{field} = ...`"));
    }
    if let Some(variant) = quoted(message).filter(|_| message.starts_with("unknown variant")) {
        let known = all_quoted(message);
        let known = known.iter().skip(1).map(String::as_str);
        return Problem::new(format!("{named} cannot be `{variant}`"))
            .at(source, span)
            .help_if(did_you_mean(&variant, known));
    }
    if let Some((found, expected)) = message.split_once(", expected ") {
        let (what, found) = found.split_once(": ").unwrap_or(("", found));
        let message = match what {
            "invalid value" => format!("{named} cannot have this value"),
            _ => format!("{named} is of the wrong type"),
        };
        let span = header(source, span);
        if expected == "struct EnvVar" {
            // A secret, most likely: it is not shown.
            return Problem::new(message)
                .at(source, span.clone())
                .hiding(span)
                .label("expected `{ env = \"NAME\" }`")
                .help("export it as an environment variable, and name that one here");
        }
        return Problem::new(message).at(source, span).label(format!(
            "expected {}, found {}",
            plain_type(expected),
            plain_found(found)
        ));
    }
    Problem::new(format!("{named}: {message}")).at(source, span)
}

/// What serde expects, in words for those who do not write Rust.
fn plain_type(expected: &str) -> &str {
    match expected {
        "a string" => "a text",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a table",
        "f64" => "a number",
        "i64" => "a whole number",
        "u32" | "u64" | "usize" => "a whole number that is not negative",
        nonzero if nonzero.starts_with("a nonzero ") => "a whole number from 1 on",
        structure if structure.starts_with("struct ") => "a table",
        other => other,
    }
}

fn plain_found(found: &str) -> String {
    let words = [
        ("integer ", "the number "),
        ("floating point ", "the number "),
        ("boolean ", ""),
        ("string ", "the text "),
        ("sequence", "a list"),
        ("map", "a table"),
    ];
    let word = words.into_iter().find_map(|(word, plain)| Some((plain, found.strip_prefix(word)?)));
    word.map_or_else(|| found.to_owned(), |(plain, rest)| format!("{plain}{rest}"))
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
        let help = "write it as a text, in quotes, or leave it out";
        problems.add(Problem::new(message).at(source, value.span()).help(help));
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
