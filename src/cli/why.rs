//! `flow why`

use clap::Args;
use similar::{ChangeTag, TextDiff};

use super::style::{BOLD, GREEN, RED, Style, count};
use super::{Exit, Shared};
use crate::clients::{ATTEMPTS, BATCH, TOOK_MS};
use crate::engine::{
    Change, InputChange, Look, LookError, Why, WhyCall, WhyRow, find, why, why_row,
};
use crate::manifest::clean;
use crate::table::Row;

#[derive(Args)]
#[command(after_help = "Examples:
  flow why classify
  flow why classify --row I_kwDO1")]
pub(super) struct Arguments {
    /// The stage
    stage: String,
    /// A row of it: the values of its key with commas between them, or `field=value`
    #[arg(long, value_name = "KEY")]
    row: Option<String>,
    /// Print it as one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn main(arguments: &Arguments, shared: &Shared, style: &Style) -> Exit {
    let pipeline = match shared.load(style) {
        Ok(pipeline) => pipeline,
        Err(exit) => return exit,
    };
    let at = match find(&pipeline, &arguments.stage) {
        Ok(at) => at,
        Err(error) => {
            style.error(&error.to_string());
            return Exit::Wrong;
        }
    };
    let json = |text: serde_json::Result<String>| {
        format!("{}\n", text.expect("explanations always serialize"))
    };
    let text = Look::new(&pipeline).and_then(|look| match &arguments.row {
        None => {
            let why = why(&look, at)?;
            Ok(match arguments.json {
                true => json(serde_json::to_string(&why)),
                false => told(&why, style),
            })
        }
        Some(wanted) => {
            let why = why_row(&look, at, wanted)?;
            Ok(match arguments.json {
                true => json(serde_json::to_string(&why)),
                false => told_row(&why, style),
            })
        }
    });
    match text {
        Ok(text) => {
            style.result(&text);
            Exit::Done
        }
        Err(error) => {
            style.error(&clean(&error.to_string()));
            match error {
                LookError::NoRow(_) => Exit::Wrong,
                _ => Exit::Incomplete,
            }
        }
    }
}

fn told(why: &Why, style: &Style) -> String {
    let would = if why.stale { "would run" } else { "would not run" };
    let mut text = format!("{} {would}: {}\n", style.paint(&why.name, BOLD), clean(&why.reason));
    if let Some(run) = why.made_in_run {
        text.push_str(&format!("its table was made in run {run}\n"));
    }
    for change in &why.changes {
        text.push_str(&told_change(change, style));
    }
    for input in &why.inputs {
        text.push_str(&told_input(input));
    }
    text
}

fn told_change(change: &Change, style: &Style) -> String {
    let name = style.paint(&clean(&change.component), BOLD);
    let object = |text: &Option<String>| serde_json::from_str::<Row>(text.as_deref()?).ok();
    if let (Some(before), Some(after)) = (object(&change.before), object(&change.after)) {
        return told_settings(&name, &before, &after);
    }
    match (&change.before, &change.after) {
        (Some(before), Some(after)) if before.contains('\n') || after.contains('\n') => {
            format!("{name} changed:\n{}", difference(before, after, style))
        }
        (Some(before), Some(after)) => {
            format!("{name}: {} -> {}\n", clean(before), clean(after))
        }
        (None, Some(after)) => format!("{name} is new: {}\n", clean(&short(after))),
        (Some(before), None) => format!("{name} is gone: {}\n", clean(&short(before))),
        (None, None) => String::new(),
    }
}

/// The settings that differ.
fn told_settings(of: &str, before: &Row, after: &Row) -> String {
    let gone = before.keys().filter(|name| !after.contains_key(*name));
    let names = after.keys().chain(gone).filter(|name| before.get(*name) != after.get(*name));
    let shown = |value: Option<&serde_json::Value>| match value {
        Some(value) => clean(&short(&value.to_string())),
        None => "(none)".to_owned(),
    };
    let line = |name: &String| {
        let (before, after) = (shown(before.get(name)), shown(after.get(name)));
        format!("{of} {}: {before} -> {after}\n", clean(name))
    };
    names.map(line).collect()
}

/// The lines that differ, with three lines around them.
fn difference(before: &str, after: &str, style: &Style) -> String {
    let diff = TextDiff::from_lines(before, after);
    let mut text = String::new();
    for (at, group) in diff.grouped_ops(3).iter().enumerate() {
        if at > 0 {
            text.push_str("    ...\n");
        }
        for change in group.iter().flat_map(|operation| diff.iter_changes(operation)) {
            let line = clean(change.value().trim_end_matches('\n'));
            let line = match change.tag() {
                ChangeTag::Delete => style.paint(&format!("  - {line}"), RED),
                ChangeTag::Insert => style.paint(&format!("  + {line}"), GREEN),
                ChangeTag::Equal => format!("    {line}"),
            };
            text.push_str(&line);
            text.push('\n');
        }
    }
    text
}

fn told_input(input: &InputChange) -> String {
    let name = clean(&input.name);
    let Some(rows) = &input.rows else {
        let unknown = input.unknown.as_deref().unwrap_or("it is not known how");
        return format!("the input {name} differs; {unknown}\n");
    };
    let fields: Vec<String> =
        rows.fields.iter().map(|(field, rows)| format!("{} ({rows})", clean(field))).collect();
    let mut text = format!(
        "the input {name}: {} added, {} removed, {} changed",
        count(rows.added, "row"),
        rows.removed,
        rows.changed
    );
    if !fields.is_empty() {
        text.push_str(&format!(", in {}", fields.join(", ")));
    }
    text.push('\n');
    for example in &rows.examples {
        text.push_str(&format!("  {}\n", clean(example)));
    }
    text
}

fn told_row(why: &WhyRow, style: &Style) -> String {
    let head = format!("{} {}", style.paint(&why.stage, BOLD), clean(&why.key));
    let mut text = format!("{head}: {}", clean(&why.state));
    if let Some(run) = why.made_in_run {
        text.push_str(&format!(", made in run {run}"));
    }
    text.push('\n');
    if let Some(row) = &why.row {
        text.push_str(&told_fields("its row", row, style));
    }
    for call in &why.calls {
        text.push_str(&told_call(call, style));
    }
    for from in &why.comes_from {
        text.push_str(&told_fields(&format!("from `{}`", clean(&from.table)), &from.row, style));
    }
    text
}

/// The messages of a request to a model.
pub(super) fn messages(body: &serde_json::Value) -> Vec<serde_json::Value> {
    MESSAGES.iter().find_map(|name| body[*name].as_array().cloned()).unwrap_or_default()
}

/// What requests call their messages.
pub(super) const MESSAGES: [&str; 2] = ["messages", "input"];

fn told_call(call: &WhyCall, style: &Style) -> String {
    let method = style.paint(&call.method, BOLD);
    let mut text = format!("{method} {} (call {})\n", clean(&call.url), &call.id[..12]);
    let mut key = format!("  its key: method, address, accept {}", clean(&call.accept));
    if let Some(version) = &call.api_version {
        key.push_str(&format!(", API version {}", clean(version)));
    }
    if call.request.is_some() {
        key.push_str(", body");
    }
    if !call.not_in_key.is_empty() {
        key.push_str(&format!(" without {}", call.not_in_key.join(", ")));
    }
    text.push_str(&format!("{key}, sample {}\n", call.sample));
    for message in call.request.iter().flat_map(messages) {
        let role = message["role"].as_str().unwrap_or("?");
        text.push_str(&format!("  {}:\n", clean(role)));
        for line in message["content"].as_str().unwrap_or_default().lines() {
            text.push_str(&format!("    {}\n", clean(line)));
        }
    }
    if let Some(body) = call.request.as_ref().and_then(|body| body.as_object()) {
        let others = body.iter().filter(|(name, _)| !MESSAGES.contains(&name.as_str()));
        for (name, value) in others {
            text.push_str(&format!("  {}: {}\n", clean(name), clean(&short(&value.to_string()))));
        }
    }
    match (&call.status, &call.answer) {
        (Some(status), Some(answer)) => {
            let source = clean(call.source.as_deref().unwrap_or_default());
            let run = match call.given_in_run {
                Some(0) | None => "recorded".to_owned(),
                Some(run) => format!("given in run {run}"),
            };
            text.push_str(&format!("  answered {status} by {source}, {run}:\n"));
            text.push_str(&format!("    {}\n", clean(&short(answer))));
            text.push_str(&told_completion(call));
        }
        _ => text.push_str("  not answered yet\n"),
    }
    text
}

/// What a model's answer tells of itself, and how it was come by.
fn told_completion(call: &WhyCall) -> String {
    let Some(of) = &call.completion else { return String::new() };
    let said = |text: &Option<String>| clean(text.as_deref().unwrap_or("(not told)"));
    let mut text = format!(
        "    by {}, {}, ended by {}; {} tokens in, {} of them cached, {} out",
        said(&of.model),
        said(&of.system_fingerprint),
        said(&of.finish_reason),
        of.tokens_in,
        of.tokens_in_cached,
        of.tokens_out
    );
    let noted = |name: &str| call.headers.as_ref().and_then(|headers| headers.get(name));
    if let (Some(ms), Some(attempts)) = (noted(TOOK_MS), noted(ATTEMPTS)) {
        text.push_str(&format!("; {} ms, attempt {}", clean(ms), clean(attempts)));
    }
    if let Some(batch) = noted(BATCH) {
        text.push_str(&format!("; in batch {}", clean(batch)));
    }
    text + "\n"
}

fn told_fields(head: &str, row: &Row, style: &Style) -> String {
    let mut text = format!("{}:\n", style.paint(head, BOLD));
    for (name, value) in row {
        let value = match value {
            serde_json::Value::String(value) => value.clone(),
            other => other.to_string(),
        };
        let value = short(&value).replace('\n', "\n    ");
        text.push_str(&format!("  {}: {}\n", clean(name), clean(&value)));
    }
    text
}

fn short(text: &str) -> String {
    let text = text.trim();
    match text.char_indices().nth(300) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
