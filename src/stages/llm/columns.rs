//! The columns that a stage's rows have beside the answer's fields, and what would clash with them.

use std::ops::Range;

use toml::Spanned;

use super::{Settings, votes};
use crate::manifest::{Names, did_you_mean};
use crate::stages::{Compile, RowShape};

/// A column that a setting adds.
pub(super) struct Added {
    pub column: &'static str,
    pub joins_key: bool,
    setting: &'static str,
    span: Range<usize>,
}

/// What `settings` add to rows that carry `shape` and hold the fields `own` of an answer, where
/// those are known. A name that would be there twice is told.
pub(super) fn added(
    cx: &mut Compile<'_>,
    settings: &Settings,
    shape: &RowShape,
    own: Option<&[String]>,
) -> Option<Vec<Added>> {
    let mut added = Vec::new();
    if let Some(models) = &settings.models {
        let span = models.span();
        added.push(Added { column: "model", joins_key: true, setting: "models", span });
    }
    if let Some(vote) = &settings.vote {
        let column =
            |column| Added { column, joins_key: false, setting: "vote", span: vote.span() };
        added.extend(votes::COLUMNS.map(column));
    } else if let Some(samples) = &settings.samples {
        let span = samples.span();
        added.push(Added { column: "sample", joins_key: true, setting: "samples", span });
    }
    let Some(Added { setting, span, .. }) = added.first() else { return Some(added) };
    let Some(own) = own else {
        let path = settings.schema.as_ref().map_or("", |path| path.get_ref());
        let message = format!("the schema `{path}` does not say which fields an answer can have");
        let help = format!("`{setting}` adds columns: close it, `\"additionalProperties\": false`");
        cx.fail(span.clone(), message, Some(help));
        return None;
    };
    let mut sound = true;
    for Added { column, setting, span, .. } in &added {
        let is_in = |fields: &[String]| fields.iter().any(|field| field == column);
        let whose = match (is_in(own), is_in(&shape.key)) {
            (true, _) => "the answer",
            (false, true) => "the input's key",
            (false, false) => continue,
        };
        let message =
            format!("`{setting}` adds the column `{column}`, and {whose} has a field of that name");
        cx.fail(span.clone(), message, Some("give that field another name".into()));
        sound = false;
    }
    if let Some(vote) = &settings.vote {
        sound &= can_vote(cx, settings, vote, own);
    }
    sound.then_some(added)
}

/// Whether there is something to vote on, and more than one vote.
fn can_vote(
    cx: &mut Compile<'_>,
    settings: &Settings,
    vote: &Spanned<Names>,
    own: &[String],
) -> bool {
    if settings.samples.as_ref().is_none_or(|samples| samples.get_ref().get() < 2) {
        let help = "add `samples = 3`, or more; an odd number has fewer ties";
        cx.fail(vote.span(), "`vote` needs two samples or more", Some(help.into()));
        return false;
    }
    let Names(fields) = vote.get_ref();
    if fields.is_empty() {
        let help = "name a field of the answer: `vote = \"label\"`";
        cx.fail(vote.span(), "`vote` names no field", Some(help.into()));
        return false;
    }
    let unknown: Vec<&String> = fields.iter().filter(|field| !own.contains(field)).collect();
    for field in &unknown {
        let message = format!("`vote` names `{field}`, no field of the answer");
        let help = did_you_mean(field, own.iter().map(String::as_str));
        cx.fail(vote.span(), message, help);
    }
    unknown.is_empty()
}
