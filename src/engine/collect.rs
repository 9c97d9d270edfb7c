//! What of the store the manifest and the last runs can reach: the rest may be collected. And what a
//! stage has left there, to be forgotten.

use std::collections::{BTreeSet, HashSet};
use std::ops::ControlFlow;
use std::time::SystemTime;

use super::decide::{Before, Choices, as_it_was, file, keep_rows, record_profile, settled};
use super::fingerprint::definition;
use super::history::RunRecord;
use super::rows::{asked, memo_key};
use crate::clients::{Limits, Request, Service, Transport, Usage};
use crate::pipeline::{InputRef, Pipeline};
use crate::stages::{Ask, RowWork, StageError, Work};
use crate::store::{
    Artifact, CallKey, Cleared, Collected, Gc, Lock, Store, StoreError, stretches_note,
};
use crate::table::{Digest, Row};

/// What was forgotten of a stage, and what it took to get the answers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Forgotten {
    pub cleared: Cleared,
    pub tokens_in: u64,
    pub tokens_out: u64,
    /// 0 where no price is known.
    pub cost_usd: f64,
}

/// How much is kept beside what the manifest can reach.
#[derive(Clone, Copy, Debug)]
pub struct Spare {
    /// What so many of the last runs made and left.
    pub keep_last: u32,
    /// What is newer than this.
    pub before: Option<SystemTime>,
    /// Everything: only tell.
    pub dry_run: bool,
}

/// Collects what neither `pipelines`, one manifest under each of its profiles, nor the last runs can
/// reach.
pub fn collect(
    pipelines: &[Pipeline],
    store: &Store,
    spare: Spare,
    lock: &Lock,
) -> Result<Collected, StageError> {
    let Some(first) = pipelines.first() else { return Ok(Collected::default()) };
    // What is reached is found without writing anything down.
    let cache = first.cache();
    let reader = Store::open_to_read(&cache)?.unwrap_or_else(|| Store::empty(&cache));
    let Spare { keep_last, before, dry_run } = spare;
    let gc = Gc { before, dry_run, ..reached(pipelines, &reader, keep_last.into())? };
    Ok(store.collect(&gc, lock)?)
}

fn reached(pipelines: &[Pipeline], store: &Store, keep_last: u64) -> Result<Gc, StageError> {
    let mut gc = Gc { since_run: i64::MAX, ..Gc::default() };
    for run in store.runs(keep_last)? {
        gc.since_run = run.id;
        let Some(record) = run.record.and_then(|record| RunRecord::read(&record)) else { continue };
        for stage in record.stages {
            gc.tables.extend(stage.artifact.and_then(|digest| digest.parse::<Digest>().ok()));
            gc.definitions.extend(stage.definition.and_then(|it| it.parse::<Digest>().ok()));
        }
    }
    for pipeline in pipelines {
        reach(pipeline, store, &mut gc)?;
    }
    Ok(gc)
}

fn reach(pipeline: &Pipeline, store: &Store, gc: &mut Gc) -> Result<(), StageError> {
    let looked = Looked::new(pipeline, store)?;
    let profiles = [None, Some(0)].map(|limit| record_profile(pipeline, limit));
    for (at, stage) in pipeline.stages.iter().enumerate() {
        let definition = definition(pipeline, stage);
        gc.definitions.insert(definition);
        match looked.settled[at] {
            Some(table) => drop(gc.tables.insert(table)),
            // What it reads is yet to be made, and may come out as it once was.
            None => drop(gc.unsettled.insert(definition)),
        }
        for profile in &profiles {
            let Some(record) = store.stage(profile, &stage.name)? else { continue };
            gc.tables.extend(record.artifact());
            gc.tables.extend(record.inputs.iter().filter_map(|(_, it)| it.parse::<Digest>().ok()));
            gc.objects.extend(record.spans.and_then(|spans| spans.parse::<Digest>().ok()));
            gc.definitions.extend(record.definition.parse::<Digest>());
        }
        for input in &stage.inputs {
            if let InputRef::File { path, .. } = input {
                gc.objects.extend(looked.before.files.knows(&stretches_note(path)));
            }
        }
        // Rows without a result stand on answers, too: pages of a list that was interrupted, answers
        // that could not be picked from. Those of models are kept anyway.
        looked.each_request(at, |request| match request.service {
            Service::Model => ControlFlow::Break(()),
            Service::Github => {
                gc.calls.insert(request.key());
                ControlFlow::Continue(())
            }
        })?;
    }
    Ok(())
}

/// Forgets what stage `at` made, under whatever definition it had, so that it runs again; with
/// `answers` also what it was answered, so that it asks again.
pub fn clear(
    pipeline: &Pipeline,
    at: usize,
    store: &Store,
    answers: bool,
    lock: &Lock,
) -> Result<Forgotten, StageError> {
    let stage = &pipeline.stages[at];
    let mut definitions = HashSet::from([definition(pipeline, stage)]);
    for (_, name, record) in store.stage_records()? {
        if name == stage.name {
            definitions.extend(record.definition.parse::<Digest>());
        }
    }
    for run in store.runs(u64::from(u32::MAX))? {
        let record = run.record.and_then(|record| RunRecord::read(&record));
        let stages = record.into_iter().flat_map(|record| record.stages);
        let made = stages.filter(|made| made.name == stage.name);
        let made = made.filter_map(|made| made.definition?.parse::<Digest>().ok());
        definitions.extend(made);
    }
    let mut forgotten = Forgotten::default();
    let mut calls = HashSet::new();
    if answers {
        calls = store.calls_of(&definitions)?;
        let mut first = None;
        Looked::new(pipeline, store)?.each_request(at, |request| {
            calls.insert(request.key());
            first.get_or_insert(request);
            ControlFlow::Continue(())
        })?;
        if let Some(request) = first.filter(|request| request.service == Service::Model) {
            forgotten.add_up(store, &calls, &request)?;
        }
    }
    forgotten.cleared = store.clear(&stage.name, &definitions, &calls, lock)?;
    Ok(forgotten)
}

/// The calls that the tables of `pipeline` stand on, which is up to date: those of each row of its
/// stages, and no others that the store may hold.
pub fn stood_on(pipeline: &Pipeline, store: &Store) -> Result<BTreeSet<CallKey>, StageError> {
    let looked = Looked::new(pipeline, store)?;
    let mut calls = BTreeSet::new();
    for (at, stage) in pipeline.stages.iter().enumerate() {
        let definition = definition(pipeline, stage);
        looked.each_asked(at, |_, carried, ask| {
            let key = memo_key(definition, &carried, &ask);
            let again = |what: &str| {
                let name = &stage.name;
                let what = format!("{what}; `flow run {name} --only --force` makes its rows again");
                Err(StageError::Failed(what))
            };
            let Some(memo) = store.memo(key, None)? else {
                return again(&format!("what a row of `{}` stands on is not known", stage.name));
            };
            for call in &memo.calls {
                if !looked.transport.is_recorded(*call)? {
                    let stage = &stage.name;
                    return again(&format!("an answer that `{stage}` stands on is not stored"));
                }
            }
            calls.extend(memo.calls);
            Ok(ControlFlow::Continue(()))
        })?;
    }
    Ok(calls)
}

impl Forgotten {
    /// What the answers to `calls` took, at the price of one request of the stage.
    fn add_up(
        &mut self,
        store: &Store,
        calls: &HashSet<CallKey>,
        request: &Request,
    ) -> Result<(), StoreError> {
        for call in calls {
            let Some(record) = store.call(*call)? else { continue };
            let usage = Usage::of(&serde_json::from_slice(&record.body).unwrap_or_default());
            self.tokens_in += usage.input;
            self.tokens_out += usage.output;
            self.cost_usd += usage.cost(request) as f64 / 1e9;
        }
        Ok(())
    }
}

/// A pipeline beside what is stored of it.
struct Looked<'a> {
    pipeline: &'a Pipeline,
    store: &'a Store,
    transport: Transport,
    before: Before,
    settled: Vec<Option<Digest>>,
}

impl<'a> Looked<'a> {
    fn new(pipeline: &'a Pipeline, store: &'a Store) -> Result<Looked<'a>, StageError> {
        // Offline: whoever asked, what is recorded counts.
        let (cassette, limits) = (pipeline.cassette.clone(), Limits::default());
        let transport = Transport::new(store.clone(), cassette, true, 0, limits, |_| {});
        let transport = transport.map_err(StageError::Call)?;
        let before = Before::read(pipeline, store, None, None)?;
        let settled = settled(pipeline, store, &before, &Choices::default())?;
        Ok(Looked { pipeline, store, transport, before, settled })
    }

    /// Tells `each` of the requests of stage `at`'s rows, as far as recorded answers tell them.
    fn each_request(
        &self,
        at: usize,
        mut each: impl FnMut(Request) -> ControlFlow<()>,
    ) -> Result<(), StageError> {
        self.each_asked(at, |work, _, ask| {
            let (requests, _) = work.stage.foresee(&ask, &self.transport);
            Ok(requests.into_iter().try_for_each(&mut each))
        })
    }

    /// Tells `each` what stage `at`'s rows carry over and ask, where it calls.
    fn each_asked(
        &self,
        at: usize,
        mut each: impl FnMut(&RowWork, Row, Ask) -> Result<ControlFlow<()>, StageError>,
    ) -> Result<(), StageError> {
        let stage = &self.pipeline.stages[at];
        let (Work::Rows(work), [input]) = (&stage.compiled.work, &stage.inputs[..]) else {
            return Ok(());
        };
        let Some(input) = self.input(input)?.filter(|_| work.stage.calls()) else {
            return Ok(());
        };
        for row in self.store.rows(&input) {
            // A row that cannot be asked about stands on nothing.
            let Ok(Some((carried, ask))) = asked(work, &row?) else { continue };
            if each(work, carried, ask)?.is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// A table that a stage reads, as it is or as it last was.
    fn input(&self, input: &InputRef) -> Result<Option<Artifact>, StageError> {
        let (pipeline, store, before) = (self.pipeline, self.store, &self.before);
        let digest = match input {
            InputRef::Stage(index) => self.settled[*index].or_else(|| {
                as_it_was(store, before, &pipeline.stages[*index]).map(|(digest, _)| digest)
            }),
            InputRef::Table(index) => {
                Some(keep_rows(store, &pipeline.tables[*index].rows)?.digest())
            }
            InputRef::File { path, .. } => Some(file(pipeline, store, before, path)?.0),
        };
        Ok(match digest {
            Some(digest) => store.artifact(digest)?,
            None => None,
        })
    }
}
