//! A look at a pipeline and its store that changes neither: what `plan`, `why` and `status` stand on.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use thiserror::Error;

use super::decide::{Before, Choices, NamedTable, decide, file, keep_rows};
use super::fingerprint::definition;
use crate::clients::{CallError, Limits, Transport, credentials_in};
use crate::pipeline::{InputRef, Pipeline};
use crate::stages::StageError;
use crate::store::{Artifact, Store, StoreError};
use crate::table::Digest;

/// What cannot be looked at.
#[derive(Debug, Error)]
pub enum LookError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("{0}")]
    Input(#[from] StageError),
    #[error("{0}")]
    NoRow(String),
    #[error("`{stage}` has no table: `{run}` makes it")]
    NoTable { stage: String, run: String },
}

/// A pipeline beside what is stored of it. Calls nobody and writes nothing, also while a run works.
pub struct Look<'a> {
    pub pipeline: &'a Pipeline,
    pub store: Store,
    pub(super) transport: Transport,
    pub(super) before: Before,
    tables: Vec<OnceLock<Digest>>,
    /// The tables of the stages that are up to date, by their places.
    settled: Vec<Option<Digest>>,
}

impl<'a> Look<'a> {
    pub fn new(pipeline: &'a Pipeline) -> Result<Look<'a>, LookError> {
        let cache = pipeline.cache();
        let store = Store::open_to_read(&cache)?.unwrap_or_else(|| Store::empty(&cache));
        let offline = pipeline.profile.offline;
        let asker = (!offline).then(|| credentials_in(pipeline.github_token.as_deref()));
        let (cassette, limits) = (pipeline.cassette.clone(), Limits::default());
        let transport = Transport::new(store.clone(), cassette, offline, 0, limits, |_| {})?;
        let before = Before::read(pipeline, &store, asker, None)?;
        let settled = vec![None; pipeline.stages.len()];
        let tables = pipeline.tables.iter().map(|_| OnceLock::new()).collect();
        let mut look = Look { pipeline, store, transport, before, tables, settled };
        look.settle()?;
        Ok(look)
    }

    fn settle(&mut self) -> Result<(), LookError> {
        let choices = Choices::at_once();
        for at in self.pipeline.order.iter().copied() {
            let (inputs, waits_for) = self.inputs(at)?;
            if waits_for.is_some() {
                continue;
            }
            let digests: Vec<Digest> = inputs.iter().map(|(_, table)| *table).collect();
            let (store, before) = (&self.store, &self.before);
            let decision = decide(self.pipeline, store, before, at, &digests, &choices)?;
            self.settled[at] = decision.known.ok().map(|found| found.table.artifact);
        }
        Ok(())
    }

    /// What stage `at` reads, as far as it is up to date, and the first stage of it that is not.
    pub(super) fn inputs(&self, at: usize) -> Result<(Vec<NamedTable>, Option<String>), LookError> {
        let mut inputs = Vec::new();
        let mut waits_for = None;
        for input in &self.pipeline.stages[at].inputs {
            let name = self.pipeline.input_name(input).to_owned();
            match self.input(input)? {
                Some(artifact) => inputs.push((name, artifact)),
                None => waits_for = waits_for.or(Some(name)),
            }
        }
        Ok((inputs, waits_for))
    }

    pub(super) fn input(&self, input: &InputRef) -> Result<Option<Digest>, LookError> {
        Ok(match input {
            InputRef::Stage(index) => self.settled[*index],
            InputRef::Table(index) => Some(self.inline(*index)?),
            InputRef::File { path, .. } => {
                Some(file(self.pipeline, &self.store, &self.before, path)?.0)
            }
        })
    }

    pub(super) fn inline(&self, index: usize) -> Result<Digest, LookError> {
        if let Some(digest) = self.tables[index].get() {
            return Ok(*digest);
        }
        let digest = keep_rows(&self.store, &self.pipeline.tables[index].rows)?.digest();
        Ok(*self.tables[index].get_or_init(|| digest))
    }

    /// The table of stage `at`: the one that is up to date, or else the one that it last had.
    pub(super) fn table(&self, at: usize) -> Result<Option<Artifact>, LookError> {
        if let Some(digest) = self.settled[at] {
            return Ok(self.store.artifact(digest)?);
        }
        let stage = &self.pipeline.stages[at];
        let last = self.before.stages.get(&stage.name);
        match last.and_then(|last| last.artifact()) {
            Some(digest) => Ok(self.store.artifact(digest)?),
            None => Ok(None),
        }
    }

    /// The table of stage `at`, where it is up to date.
    pub(super) fn settled(&self, at: usize) -> Option<Digest> {
        self.settled[at]
    }

    /// The stages that are up to date, by their places.
    pub fn up_to_date(&self) -> BTreeSet<usize> {
        let settled = self.settled.iter().enumerate();
        settled.filter_map(|(at, table)| table.map(|_| at)).collect()
    }

    pub(super) fn definition(&self, at: usize) -> Digest {
        definition(self.pipeline, &self.pipeline.stages[at])
    }
}
