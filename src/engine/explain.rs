//! Why a stage would run, component by component; and where a row comes from. Both read what decides:
//! the components of the fingerprint, the memo, the recorded calls.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use serde_json::Value;

use super::decide::{Choices, Decision, decide, open};
use super::delta::{Delta, delta};
use super::fingerprint::{Standing, explain};
use super::look::{Look, LookError};
use super::rows::{asked, memo_key};
use crate::clients::{Completion, Request, Service};
use crate::pipeline::{InputRef, Stage};
use crate::stages::{RowWork, Work};
use crate::store::{Artifact, StageRecord};
use crate::table::{Digest, Row, key_of, show_key};

/// Why a stage would run, or would not.
#[derive(Clone, Debug, Serialize)]
pub struct Why {
    pub name: String,
    /// Whether it would run.
    pub stale: bool,
    /// In words: `changed`, `never run`, `up to date`.
    pub reason: String,
    /// The run that made its table, and the one in which it was last looked at.
    pub made_in_run: Option<i64>,
    pub looked_at_in_run: Option<i64>,
    /// What it depends on that differs from the last time.
    pub changes: Vec<Change>,
    /// The tables it reads that differ.
    pub inputs: Vec<InputChange>,
}

/// A component that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// `prompt`, `request`, `keep`, ...
    pub component: String,
    /// As it was; `None` where it is new.
    pub before: Option<String>,
    /// As it is; `None` where it is gone.
    pub after: Option<String>,
}

/// A table that differs.
#[derive(Clone, Debug, Serialize)]
pub struct InputChange {
    pub name: String,
    /// What differs; `None` where it cannot be told.
    pub rows: Option<Delta>,
    /// Why it cannot be told.
    pub unknown: Option<String>,
}

/// Why stage `at` would run.
pub fn why(look: &Look<'_>, at: usize) -> Result<Why, LookError> {
    let stage = &look.pipeline.stages[at];
    let (inputs, waits_for) = look.inputs(at)?;
    let digests: Vec<Digest> = inputs.iter().map(|(_, digest)| *digest).collect();
    let decision = look.decide(at, &digests)?;
    let mut why = Why {
        name: stage.name.clone(),
        stale: decision.known.is_err() || waits_for.is_some(),
        reason: reason(&decision, waits_for.as_deref()),
        made_in_run: decision.last.as_ref().map(|last| last.made),
        looked_at_in_run: decision.last.as_ref().map(|last| last.run),
        changes: Vec::new(),
        inputs: Vec::new(),
    };
    let revision = decision.revision;
    let Some(last) = decision.last else { return Ok(why) };
    let on = Standing { inputs: &digests, revision, limit: None };
    let now = explain(look.pipeline, stage, on);
    why.changes = changes(&last.components, &now);
    for (name, digest) in &inputs {
        why.inputs.extend(input_change(look, &last, at, name, *digest)?);
    }
    Ok(why)
}

pub(super) fn reason(decision: &Decision, waits_for: Option<&str>) -> String {
    match (&decision.known, waits_for) {
        (_, Some(name)) => format!("`{name}`, which it reads, would run"),
        (Err(why), None) => why.as_str(),
        (Ok(found), None) => match (&found.failed, found.same) {
            (Some(failed), _) if failed.rows == 1 => "incomplete: 1 row has no valid answer".into(),
            (Some(failed), _) => format!("incomplete: {} rows have no valid answer", failed.rows),
            (None, true) => "up to date".into(),
            (None, false) => "its table was made before, under what it depends on now".into(),
        },
    }
}

/// Components that differ. Inputs are told with their rows, elsewhere.
fn changes(before: &[(String, String)], after: &[(String, String)]) -> Vec<Change> {
    // Some components come more than once: a template with what it includes.
    let numbered = |components: &[(String, String)]| {
        let mut counts: HashMap<String, usize> = HashMap::new();
        let mut all = Vec::new();
        for (name, value) in components {
            let count = counts.entry(name.clone()).or_default();
            all.push(((name.clone(), *count), value.clone()));
            *count += 1;
        }
        all
    };
    let (before, after) = (numbered(before), numbered(after));
    let old: HashMap<_, _> = before.iter().cloned().collect();
    let new: HashMap<_, _> = after.iter().cloned().collect();
    let gone = before.iter().filter(|(name, _)| !new.contains_key(name));
    let all = after.iter().chain(gone).map(|(name, _)| name);
    let differ = all.filter(|name| old.get(*name) != new.get(*name));
    let change = |name: &(String, usize)| Change {
        component: name.0.clone(),
        before: old.get(name).cloned(),
        after: new.get(name).cloned(),
    };
    differ.filter(|(name, _)| *name != "input" && !name.starts_with("input ")).map(change).collect()
}

fn input_change(
    look: &Look<'_>,
    last: &StageRecord,
    at: usize,
    name: &str,
    now: Digest,
) -> Result<Option<InputChange>, LookError> {
    let stage = &look.pipeline.stages[at];
    let before = match last.inputs.iter().find(|(other, _)| other == name) {
        Some((_, digest)) if *digest == now.hex() => return Ok(None),
        // A row stage does not know what its input is called.
        None => match (&stage.compiled.work, &last.inputs[..]) {
            (Work::Rows(_), [(_, digest)]) if *digest == now.hex() => return Ok(None),
            (Work::Rows(_), [(_, digest)]) => Some(digest),
            _ => None,
        },
        Some((_, digest)) => Some(digest),
    };
    let name = name.to_owned();
    let unknown = |why: &str| {
        Ok(Some(InputChange { name: name.clone(), rows: None, unknown: Some(why.to_owned()) }))
    };
    let Some(before) = before else { return unknown("it was not read the last time") };
    let before = before.parse().ok().map(|digest| look.store.artifact(digest)).transpose()?;
    let Some(before) = before.flatten() else {
        return unknown("the table that it read the last time is no longer stored");
    };
    let now = &open(&look.store, &name, now)?;
    let input = stage.inputs.iter().find(|input| look.pipeline.input_name(input) == name);
    let key = match input {
        Some(InputRef::Stage(index)) => look.pipeline.stages[*index].compiled.key.clone(),
        _ => now.columns.iter().map(|column| column.name.clone()).collect(),
    };
    let rows = Some(delta(&look.store, &before, now, &key)?);
    Ok(Some(InputChange { name, rows, unknown: None }))
}

/// Where a row of a stage comes from.
#[derive(Clone, Debug, Serialize)]
pub struct WhyRow {
    pub stage: String,
    pub key: String,
    /// The row of the stage's table, where it has one.
    pub row: Option<Row>,
    /// How it came about: `known`, `would run`, `passed over by where`, ...
    pub state: String,
    /// The run that made it.
    pub made_in_run: Option<i64>,
    /// What it asks, and what was answered.
    pub calls: Vec<WhyCall>,
    /// The rows that it was made from, one stage after the other.
    pub comes_from: Vec<Above>,
}

/// A request with the answer that is recorded for it.
#[derive(Clone, Debug, Serialize)]
pub struct WhyCall {
    pub id: String,
    pub method: String,
    pub url: String,
    pub accept: String,
    pub api_version: Option<String>,
    /// The request's body, as it is sent.
    pub request: Option<Value>,
    /// Fields of the body that are not in the key: they cannot change the answer.
    pub not_in_key: Vec<&'static str>,
    /// Which of several answers to the same request.
    pub sample: u32,
    pub recorded: bool,
    pub status: Option<u16>,
    pub source: Option<String>,
    /// The run in which it was last given; 0 for what a cassette holds.
    pub given_in_run: Option<i64>,
    pub answer: Option<String>,
    /// What a model's answer tells of itself, and what was noted of how it was come by.
    pub completion: Option<WhyCompletion>,
    pub headers: Option<BTreeMap<String, String>>,
}

#[derive(Clone, Debug, Serialize)]
pub struct WhyCompletion {
    pub model: Option<String>,
    pub system_fingerprint: Option<String>,
    pub finish_reason: Option<String>,
    pub tokens_in: u64,
    pub tokens_in_cached: u64,
    pub tokens_out: u64,
}

/// A row further up.
#[derive(Clone, Debug, Serialize)]
pub struct Above {
    /// A stage, an inline table or a file.
    pub table: String,
    pub row: Row,
}

/// Where the row `wanted` of stage `at` comes from. A row is named by the values of its key, with
/// commas between them, or by fields: `number=12`.
pub fn why_row(look: &Look<'_>, at: usize, wanted: &str) -> Result<WhyRow, LookError> {
    let stage = &look.pipeline.stages[at];
    let key = &stage.compiled.key;
    let made = look.table(at)?;
    let made = match &made {
        Some(table) => find_row(look, table, key, wanted)?,
        None => None,
    };
    let mut why = WhyRow {
        stage: stage.name.clone(),
        key: wanted.to_owned(),
        row: None,
        state: "in its table".into(),
        made_in_run: None,
        calls: Vec::new(),
        comes_from: Vec::new(),
    };
    let (inputs, waits_for) = look.inputs(at)?;
    if let (Work::Rows(work), [(name, input)]) = (&stage.compiled.work, &inputs[..]) {
        let input = &open(&look.store, name, *input)?;
        // A row that was made is found again among its inputs by what it carries over.
        let driver = driver(look, work, input, made.as_ref(), wanted)?;
        if let Some(driver) = driver {
            why.key =
                show_key(&driver, if work.shape.key.is_empty() { key } else { &work.shape.key });
            ask(look, at, work, &driver, &mut why)?;
            why.comes_from = comes_from(look, at, &driver)?;
        }
    } else if let Some(row) = &made {
        why.comes_from = comes_from(look, at, row)?;
    }
    if made.is_none() && why.comes_from.is_empty() {
        let more = waits_for.map(|name| format!("; `{name}` would run first")).unwrap_or_default();
        let fields: Vec<String> = key.iter().map(|field| format!("{field}=...")).collect();
        let help = match fields.is_empty() {
            true => String::new(),
            false => format!("; rows are named by their key: `--row '{}'`", fields.join(",")),
        };
        let what = format!("`{}` has no row `{wanted}`, and reads none{more}{help}", stage.name);
        return Err(LookError::NoRow(what));
    }
    if let Some(row) = &made {
        why.key = show_key(row, key);
    }
    why.row = made;
    Ok(why)
}

/// The row of `input` that `wanted` names; one that was `made` of it already is found again by what it
/// carries over.
pub(super) fn driver(
    look: &Look<'_>,
    work: &RowWork,
    input: &Artifact,
    made: Option<&Row>,
    wanted: &str,
) -> Result<Option<Row>, LookError> {
    let shape: Vec<String> = work.shape.key.iter().chain(&work.shape.keep).cloned().collect();
    // Rows that carry nothing over come from the only row that there is, or from any.
    let is_told = !shape.is_empty() || input.rows == 1;
    let found = match made.filter(|_| is_told) {
        Some(row) => find_like(look, input, row, &shape)?,
        None => None,
    };
    match found {
        Some(row) => Ok(Some(row)),
        None => find_row(look, input, &work.shape.key, wanted),
    }
}

/// What a row asks, and what is known of it.
fn ask(
    look: &Look<'_>,
    at: usize,
    work: &RowWork,
    row: &Row,
    why: &mut WhyRow,
) -> Result<(), LookError> {
    let (carried, ask) = match asked(work, row) {
        Ok(Some(asked)) => asked,
        Ok(None) => {
            why.state = "passed over by `where`".into();
            return Ok(());
        }
        Err(error) => {
            why.state = format!("it cannot be asked: {error}");
            return Ok(());
        }
    };
    let key = memo_key(look.definition(at), &carried, &ask);
    match look.store.memo(key, look.before.asker.as_deref())? {
        Some(memo) => {
            why.state = "known: taken from the memo".into();
            why.made_in_run = Some(memo.run);
        }
        None => why.state = "not known: it would run".into(),
    }
    let (requests, _) = work.stage.foresee(&ask, &look.transport);
    for request in requests {
        why.calls.push(call(look, &request)?);
    }
    Ok(())
}

fn call(look: &Look<'_>, request: &Request) -> Result<WhyCall, LookError> {
    let answer = look.transport.recorded(request)?;
    let completion = answer.as_ref().filter(|_| request.service == Service::Model).map(|answer| {
        let said = Completion::of(&serde_json::from_slice(&answer.body).unwrap_or_default());
        WhyCompletion {
            model: said.model,
            system_fingerprint: said.system_fingerprint,
            finish_reason: said.finish_reason,
            tokens_in: said.usage.input,
            tokens_in_cached: said.usage.cached_input,
            tokens_out: said.usage.output,
        }
    });
    Ok(WhyCall {
        id: request.key().0.hex(),
        method: request.method.as_str().to_owned(),
        url: request.url.clone(),
        accept: request.accept.clone(),
        api_version: request.api_version.clone(),
        request: serde_json::from_slice(&request.body).ok(),
        not_in_key: request.not_in_key(),
        sample: request.sample,
        completion,
        headers: answer.as_ref().map(|answer| answer.headers.clone()),
        recorded: answer.is_some(),
        status: answer.as_ref().map(|answer| answer.status),
        source: answer.as_ref().map(|answer| answer.source.0.clone()),
        given_in_run: answer.as_ref().map(|answer| answer.given.run),
        answer: answer.map(|answer| String::from_utf8_lossy(&answer.body).into_owned()),
    })
}

/// The rows that `row` was made from, nearest first, as far up as they can be told by their keys.
fn comes_from(look: &Look<'_>, at: usize, row: &Row) -> Result<Vec<Above>, LookError> {
    let mut found = Vec::new();
    let stage: &Stage = &look.pipeline.stages[at];
    for input in &stage.inputs {
        let name = look.pipeline.input_name(input).to_owned();
        let Some(table) = look.input(input)? else { continue };
        let table = open(&look.store, &name, table)?;
        let key: Vec<String> = match input {
            InputRef::Stage(index) => look.pipeline.stages[*index].compiled.key.clone(),
            // Rows that people wrote are told apart by what of them was carried over.
            _ => table.columns.iter().map(|column| column.name.clone()).collect(),
        };
        let shared: Vec<String> =
            key.iter().filter(|field| row.contains_key(*field)).cloned().collect();
        if shared.is_empty() || (matches!(input, InputRef::Stage(_)) && shared.len() < key.len()) {
            continue;
        }
        if let Some(above) = find_like(look, &table, row, &shared)? {
            let further = match input {
                InputRef::Stage(index) => comes_from(look, *index, &above)?,
                _ => Vec::new(),
            };
            found.push(Above { table: name, row: above });
            found.extend(further);
        }
    }
    let mut seen = Vec::new();
    found.retain(|from| {
        let new = !seen.contains(&from.table);
        seen.push(from.table.clone());
        new
    });
    Ok(found)
}

/// The first row that agrees with `like` in `fields`.
fn find_like(
    look: &Look<'_>,
    table: &Artifact,
    like: &Row,
    fields: &[String],
) -> Result<Option<Row>, LookError> {
    for row in look.store.rows(table) {
        let row = row?;
        if fields.iter().all(|field| row.get(field) == like.get(field)) {
            return Ok(Some(row));
        }
    }
    Ok(None)
}

/// The row that a person means.
pub(super) fn find_row(
    look: &Look<'_>,
    table: &Artifact,
    key: &[String],
    wanted: &str,
) -> Result<Option<Row>, LookError> {
    let plain = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let fields: Vec<(&str, &str)> =
        wanted.split(',').filter_map(|part| part.trim().split_once('=')).collect();
    for row in look.store.rows(table) {
        let row = row?;
        let joined =
            || key.iter().filter_map(|field| row.get(field)).map(plain).collect::<Vec<_>>();
        let is =
            |(name, value): &(&str, &str)| row.get(*name).is_some_and(|it| plain(it) == *value);
        let named = !fields.is_empty() && fields.iter().all(is);
        let keyed = key_of(&row, key).is_ok_and(|key| key.0 == wanted);
        if named || keyed || (!key.is_empty() && joined().join(",") == wanted) {
            return Ok(Some(row));
        }
    }
    Ok(None)
}

impl Look<'_> {
    pub(super) fn decide(&self, at: usize, inputs: &[Digest]) -> Result<Decision, LookError> {
        let choices = Choices::at_once();
        Ok(decide(self.pipeline, &self.store, &self.before, at, inputs, &choices)?)
    }
}
