//! The tables as they stand: of each stage the one that it last had, and what people wrote. Looked at row
//! by row, or by a query over all of them.

use super::StageState;
use super::explain::{find_row, reason};
use super::look::{Look, LookError};
use crate::manifest::did_you_mean;
use crate::pipeline::{InputRef, Pipeline};
use crate::stages::{QueryError, StageError, query_by_name, table_name};
use crate::store::Artifact;
use crate::table::{Digest, Row, key_of};

/// What came of a query.
#[derive(Debug, Default)]
pub struct Queried {
    pub columns: Vec<String>,
    /// The first rows, as many as were wanted.
    pub rows: Vec<Row>,
    /// How many there are.
    pub count: u64,
    /// The places of the stages whose tables were read.
    pub stages: Vec<usize>,
}

impl Look<'_> {
    /// The table that stage `at` last had.
    pub fn last_table(&self, at: usize) -> Result<Artifact, LookError> {
        self.table(at)?.ok_or_else(|| LookError::NoTable {
            stage: self.pipeline.stages[at].name.clone(),
            run: run_of(self.pipeline, at),
        })
    }

    /// A table that a stage reads: of another stage the one that it last had.
    pub(super) fn last_input(&self, input: &InputRef) -> Result<Artifact, LookError> {
        let digest = match input {
            InputRef::Stage(at) => return self.last_table(*at),
            other => self.input(other)?,
        };
        let gone = || LookError::NoRow("what it reads cannot be read".into());
        digest.map(|digest| self.store.artifact(digest)).transpose()?.flatten().ok_or_else(gone)
    }

    /// What is to be known of the last table of stage `at`, where a run would leave another one or
    /// where it lacks rows.
    pub fn caveat(&self, at: usize) -> Result<Option<String>, LookError> {
        let stage = &self.pipeline.stages[at];
        let name = &stage.name;
        let (inputs, waits_for) = self.inputs(at)?;
        let digests: Vec<Digest> = inputs.iter().map(|(_, digest)| *digest).collect();
        let decision = self.decide(at, &digests)?;
        let why = reason(&decision, waits_for.as_deref());
        if waits_for.is_some() || decision.known.is_err() {
            let run = run_of(self.pipeline, at);
            return Ok(Some(format!("`{name}` is out of date ({why}); `{run}` makes it anew")));
        }
        let lacks = decision.known.is_ok_and(|found| found.failed.is_some());
        let state = decision.last.map(|last| last.state);
        Ok(match state.as_deref() == Some(StageState::Incomplete.as_str()) {
            _ if lacks => Some(format!("`{name}` is {why}; see {}", stage.failed_file)),
            true => Some(format!("`{name}` is incomplete, as what it reads is")),
            false => None,
        })
    }

    /// The row of the last table of stage `at` that `wanted` names: by the values of its key with
    /// commas between them, or by fields (`number=12`).
    pub fn row(&self, at: usize, table: &Artifact, wanted: &str) -> Result<Row, LookError> {
        let stage = &self.pipeline.stages[at];
        let key = &stage.compiled.key;
        if let Some(row) = find_row(self, table, key, wanted)? {
            return Ok(row);
        }
        let columns = || table.columns.iter().map(|column| column.name.as_str());
        let fields = wanted.split(',').filter_map(|part| part.trim().split_once('='));
        let unknown = fields.map(|(name, _)| name).find(|name| columns().all(|it| it != *name));
        let mut what = format!("`{}` has no row `{wanted}`", stage.name);
        match unknown {
            Some(unknown) => {
                what.push_str(&format!(": it has no column `{unknown}`"));
                let help = did_you_mean(unknown, columns());
                what.extend(help.map(|help| format!("; {help}")));
            }
            None if key.is_empty() => what.push_str("; name one by its fields: `FIELD=VALUE`"),
            None => what.push_str(&format!("; its key is {}", key.join(","))),
        }
        let example = self.store.rows(table).next().transpose()?;
        if let (None, Some(row)) = (unknown, example)
            && let Ok(values) = key_of(&row, key)
        {
            what.push_str(&format!(", as in {}", values.0));
        }
        Err(LookError::NoRow(what))
    }

    /// Asks `query` of the last tables of the stages and of what people wrote, each under its name.
    /// Keeps the first rows, `most` of them.
    pub fn query(&self, query: &str, most: u64) -> Result<Queried, QueryError> {
        let named = named(self.pipeline);
        let names: Vec<String> = named.iter().map(|(name, _)| name.clone()).collect();
        let mut done = Queried::default();
        let (mut stages, mut rows, mut count) = (Vec::new(), Vec::new(), 0);
        let find = |name: &str| {
            // SQLite does not tell upper from lower case.
            let mut found = named.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
            let Some((first, input)) = found.next() else { return Ok(None) };
            if let Some((other, _)) = found.next() {
                let what = format!("`{first}` and `{other}` are one name in a query; rename one");
                return Err(StageError::Failed(what));
            }
            if let InputRef::Stage(at) = input {
                stages.push(*at);
            }
            match self.last_input(input) {
                Ok(table) => Ok(Some(table)),
                Err(LookError::Store(error)) => Err(error.into()),
                Err(error) => Err(StageError::Failed(error.to_string())),
            }
        };
        let take = |row| {
            count += 1;
            if count <= most {
                rows.push(row);
            }
        };
        done.columns = query_by_name(query, &self.store, &names, find, take)?;
        Ok(Queried { rows, count, stages, ..done })
    }
}

/// What a query may read, by its names.
fn named(pipeline: &Pipeline) -> Vec<(String, InputRef)> {
    let stages = pipeline.stages.iter().enumerate();
    let stages = stages.map(|(at, stage)| (stage.name.clone(), InputRef::Stage(at)));
    let tables = pipeline.tables.iter().enumerate();
    let tables = tables.map(|(at, table)| (table.name.clone(), InputRef::Table(at)));
    let mut named: Vec<(String, InputRef)> = stages.chain(tables).collect();
    for input in pipeline.stages.iter().flat_map(|stage| &stage.inputs) {
        let InputRef::File { name, .. } = input else { continue };
        if named.iter().any(|(_, known)| known == input) {
            continue;
        }
        // Where the short name is taken the file goes by the whole one.
        let short = table_name(name);
        let is_taken = named.iter().any(|(known, _)| known.eq_ignore_ascii_case(short));
        named.push(((if is_taken { name } else { short }).to_owned(), input.clone()));
    }
    named
}

/// What to type to bring stage `at` up to date.
pub(super) fn run_of(pipeline: &Pipeline, at: usize) -> String {
    let name = &pipeline.stages[at].name;
    match pipeline.profile.name.as_str() {
        "" => format!("flow run {name}"),
        profile => format!("flow run {name} --profile {profile}"),
    }
}
