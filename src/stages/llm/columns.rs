//! The columns that a stage's rows have beside the answer's fields, and what would clash with them.

use std::ops::Range;

use super::{Settings, votes};
use crate::manifest::did_you_mean;
use crate::stages::{Compile, RowShape};

/// Columns that the settings add.
#[derive(Default)]
pub(super) struct Added {
    /// Those that join the key.
    pub key: Vec<String>,
    /// Those that stand after the answer's fields.
    pub others: Vec<String>,
}

/// What `settings` add to rows that carry `shape` and hold the fields `own` of an answer, where
/// those are known. Names that would be there twice are told.
pub(super) fn added(
    cx: &mut Compile<'_>,
    settings: &Settings,
    shape: &RowShape,
    own: Option<&[String]>,
) -> Option<Added> {
    let mut added = Added::default();
    let mut because: Vec<(&str, &str, Range<usize>)> = Vec::new();
    if let Some(models) = &settings.models {
        added.key.push("model".into());
        because.push(("model", "models", models.span()));
    }
    match (&settings.samples, &settings.vote) {
        (None, None) => {}
        (Some(samples), None) => {
            added.key.push("sample".into());
            because.push(("sample", "samples", samples.span()));
        }
        (samples, Some(vote)) => {
            if samples.as_ref().is_none_or(|samples| samples.get_ref().get() < 2) {
                let help = "add `samples = 3`, or more; an odd number has fewer ties";
                cx.fail(vote.span(), "`vote` needs two samples or more", Some(help.into()));
                return None;
            }
            added.others.extend(votes::COLUMNS.map(str::to_owned));
            because.extend(votes::COLUMNS.map(|column| (column, "vote", vote.span())));
        }
    }
    let Some((_, setting, span)) = because.first() else { return Some(added) };
    let Some(own) = own else {
        let path = settings.schema.as_ref().map_or("", |path| path.get_ref());
        let message = format!("the schema `{path}` does not say which fields an answer can have");
        let help = format!("`{setting}` adds columns: close it, `\"additionalProperties\": false`");
        cx.fail(span.clone(), message, Some(help));
        return None;
    };
    let mut sound = true;
    for (column, setting, span) in &because {
        let clash = match () {
            () if own.iter().any(|field| field == column) => "the answer has a field",
            () if shape.key.iter().any(|field| field == column) => "the input's key has a field",
            () => continue,
        };
        let message = format!("`{setting}` adds the column `{column}`, and {clash} of that name");
        let help = "give that field another name";
        cx.fail(span.clone(), message, Some(help.into()));
        sound = false;
    }
    let vote = settings.vote.as_ref();
    sound &= vote.is_none_or(|vote| fields(cx, vote.get_ref().0.as_slice(), vote.span(), own));
    sound.then_some(added)
}

/// Whether a vote is on fields of the answer.
fn fields(cx: &mut Compile<'_>, fields: &[String], span: Range<usize>, own: &[String]) -> bool {
    if fields.is_empty() {
        let help = "name a field of the answer: `vote = \"label\"`";
        cx.fail(span, "`vote` names no field", Some(help.into()));
        return false;
    }
    let mut sound = true;
    for field in fields.iter().filter(|field| !own.contains(field)) {
        let message = format!("`vote` names `{field}`, no field of the answer");
        let help = did_you_mean(field, own.iter().map(String::as_str));
        cx.fail(span.clone(), message, help);
        sound = false;
    }
    sound
}
