//! What a run would do: which stages, which rows, which calls, and what they would cost. Calls nobody
//! and writes nothing.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde::Serialize;

use super::decide::{Before, Choices, Decision, as_it_was, decide, now, open};
use super::history::RunRecord;
use super::look::{Look, LookError};
use super::rows::{asked, memo_key};
use crate::clients::{Again, Request, Taken, Usage};
use crate::pipeline::{InputRef, Stage};
use crate::stages::{RowWork, Work};
use crate::store::{Artifact, CallKey, Store, StoreError};
use crate::table::Digest;

/// What a run would do.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Plan {
    /// In the order of the manifest.
    pub stages: Vec<StagePlan>,
    #[serde(flatten)]
    pub effort: Effort,
    /// Nothing but what is told here will be done; otherwise there may be more.
    pub exact: bool,
}

/// Calls, and what they take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Effort {
    /// Requests to be sent; the same request of several rows is one.
    pub calls: u64,
    /// Tokens, by the length of the requests and by what answers took before.
    pub tokens_in: u64,
    pub tokens_out: u64,
    /// 0 where no price is known.
    pub cost_usd: f64,
    /// At the limits that are known: at least so long.
    pub seconds: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanState {
    UpToDate,
    /// Its table was made before, and is taken as it is.
    Restored,
    /// It would run.
    Stale,
    /// It would not run, and rows of it have no result.
    Incomplete,
}

impl PlanState {
    pub fn as_str(self) -> &'static str {
        match self {
            PlanState::UpToDate => "up to date",
            PlanState::Restored => "restored",
            PlanState::Stale => "stale",
            PlanState::Incomplete => "incomplete",
        }
    }
}

/// A stage's part of a plan.
#[derive(Clone, Debug, Serialize)]
pub struct StagePlan {
    pub name: String,
    pub state: PlanState,
    /// Why it would run.
    pub reason: Option<String>,
    /// Rows of its table, where that is known before it runs.
    pub rows: Option<u64>,
    /// Input rows whose results are known, and those that would run.
    pub rows_known: Option<u64>,
    pub rows_to_run: Option<u64>,
    /// Of the calls that they stand on: those that are recorded.
    pub calls_cached: Option<u64>,
    /// And those that are on their way in the provider's batches, where it goes in batches.
    pub calls_under_way: Option<u64>,
    /// The share of the price that is paid for the others there, where there is a price.
    pub batch_share: Option<f64>,
    #[serde(flatten)]
    pub effort: Effort,
    /// What is not known before other stages have run, and how much it can be at the most.
    pub bound: Option<String>,
}

/// What is known of a table before anything runs.
enum Table {
    /// With whether every row of it has its result.
    Known(Digest, bool),
    /// It is made by the run; at most so many rows, where that can be told.
    ToCome { most: Option<u64>, last: Option<u64> },
}

/// What `chosen` stages would do.
pub fn plan(
    look: &Look<'_>,
    chosen: &BTreeSet<usize>,
    choices: &Choices,
) -> Result<Plan, LookError> {
    let mut choices = choices.clone();
    choices.now = now();
    let before =
        Before::read(look.pipeline, &look.store, look.before.asker.clone(), choices.limit)?;
    Planner { look, before, choices: &choices, earlier: Earlier::read(&look.store)? }.plan(chosen)
}

/// What answers took in the last runs that called.
#[derive(Default)]
struct Earlier {
    of_stage: HashMap<(String, String), Taken>,
    of_model: HashMap<String, Taken>,
}

impl Earlier {
    fn read(store: &Store) -> Result<Earlier, StoreError> {
        let mut earlier = Earlier::default();
        for run in store.runs(50)? {
            let record = run.record.and_then(|record| RunRecord::read(&record));
            for stage in record.into_iter().flat_map(|record| record.stages) {
                for (model, taken) in stage.taken {
                    earlier.of_model.entry(model.clone()).or_insert(taken);
                    earlier.of_stage.entry((stage.name.clone(), model)).or_insert(taken);
                }
            }
        }
        Ok(earlier)
    }

    /// What the answer to a request of `stage` is thought to take.
    fn foresee(&self, stage: &str, request: &Request) -> Usage {
        let most = Usage::most(request);
        let of_stage = self.of_stage.get(&(stage.to_owned(), request.pool.clone()));
        let of_model = of_stage.or_else(|| self.of_model.get(&request.pool));
        let input = match of_model {
            Some(taken) if taken.bytes > 0 => {
                request.body.len() as f64 * taken.tokens_in as f64 / taken.bytes as f64
            }
            // Four bytes a token, as English has it; what is set aside before a call is more careful.
            _ => most.input as f64 * 0.75,
        };
        let output = match of_stage {
            Some(taken) if taken.answers > 0 => taken.tokens_out as f64 / taken.answers as f64,
            _ => most.output as f64,
        };
        Usage { input: input.round() as u64, output: output.round() as u64, ..Usage::default() }
    }
}

struct Planner<'a> {
    look: &'a Look<'a>,
    /// How everything stood, or, for a trial, how the last one left it.
    before: Before,
    choices: &'a Choices,
    earlier: Earlier,
}

impl Planner<'_> {
    fn plan(&self, chosen: &BTreeSet<usize>) -> Result<Plan, LookError> {
        let pipeline = self.look.pipeline;
        let mut tables: HashMap<usize, Table> = HashMap::new();
        let mut plans: HashMap<usize, StagePlan> = HashMap::new();
        let mut to_make: HashSet<CallKey> = HashSet::new();
        for at in pipeline.order.iter().copied() {
            let stage = &pipeline.stages[at];
            if !chosen.contains(&at) {
                let last = as_it_was(&self.look.store, &self.before, stage);
                let table = match last {
                    Some((digest, whole)) => Table::Known(digest, whole),
                    None => Table::ToCome { most: Some(0), last: None },
                };
                tables.insert(at, table);
                continue;
            }
            let (plan, table) = self.stage(at, &tables, &mut to_make)?;
            tables.insert(at, table);
            plans.insert(at, plan);
        }
        let mut plan = Plan { exact: true, ..Plan::default() };
        for at in chosen {
            if let Some(stage) = plans.remove(at) {
                plan.effort.add(&stage.effort);
                // What is not known of a stage that calls nobody makes no call more.
                let calls = match &pipeline.stages[*at].compiled.work {
                    Work::Rows(work) => work.stage.calls(),
                    Work::Table(_) => false,
                };
                plan.exact &= stage.bound.is_none() || !calls;
                plan.stages.push(stage);
            }
        }
        Ok(plan)
    }

    fn stage(
        &self,
        at: usize,
        tables: &HashMap<usize, Table>,
        to_make: &mut HashSet<CallKey>,
    ) -> Result<(StagePlan, Table), LookError> {
        let stage = &self.look.pipeline.stages[at];
        let mut inputs = Vec::new();
        let mut waits_for = None;
        let mut whole = true;
        for input in &stage.inputs {
            match input {
                InputRef::Stage(index) => match &tables[index] {
                    Table::Known(digest, known) => {
                        inputs.push(*digest);
                        whole &= known;
                    }
                    Table::ToCome { most, last } => waits_for = Some((*index, *most, *last)),
                },
                input => inputs.extend(self.look.input(input)?),
            }
        }
        let (look, choices) = (self.look, self.choices);
        let decision = decide(look.pipeline, &look.store, &self.before, at, &inputs, choices)?;
        let mut plan = StagePlan::new(&stage.name);
        let last = decision.last.as_ref().map(|last| last.rows);
        if let Some((from, most, before)) = waits_for {
            let name = &self.look.pipeline.stages[from].name;
            plan.reason = Some(format!("`{name}` would run"));
            plan.bound = Some(bound(name, most, before));
            let most = most.filter(|_| one_of_each(stage));
            return Ok((plan, Table::ToCome { most, last }));
        }
        if let Ok(found) = decision.known {
            plan.rows = Some(found.table.rows);
            let complete = whole && found.failed.is_none();
            plan.state = match (complete, found.same) {
                (false, _) => PlanState::Incomplete,
                (true, true) => PlanState::UpToDate,
                (true, false) => PlanState::Restored,
            };
            plan.reason = match found.failed.map(|failed| failed.rows) {
                Some(1) => Some("1 row has no valid answer".into()),
                Some(rows) => Some(format!("{rows} rows have no valid answer")),
                None if !whole => Some("what it reads is incomplete".into()),
                None => None,
            };
            return Ok((plan, Table::Known(found.table.artifact, complete)));
        }
        plan.reason = decision.known.as_ref().err().map(|why| why.as_str());
        let most = match (&stage.compiled.work, &inputs[..]) {
            (Work::Rows(work), [input]) => {
                let input = &open(&look.store, &stage.name, *input)?;
                self.rows(stage, work, input, &decision, &mut plan, to_make)?;
                let rows = plan.rows_known.unwrap_or(0) + plan.rows_to_run.unwrap_or(0);
                one_of_each(stage).then_some(rows)
            }
            _ => None,
        };
        Ok((plan, Table::ToCome { most, last }))
    }

    /// Asks every row, and looks up what is known of it.
    fn rows(
        &self,
        stage: &Stage,
        work: &RowWork,
        input: &Artifact,
        decision: &Decision,
        plan: &mut StagePlan,
        to_make: &mut HashSet<CallKey>,
    ) -> Result<(), LookError> {
        let mode = decision.mode;
        let mut earlier = decision.earlier(&self.look.store)?;
        let mut left = mode.limit.filter(|_| !work.stage.is_list()).unwrap_or(u64::MAX);
        let in_batches = work.stage.in_batches() && mode.limit.is_none();
        let some_open = in_batches && !self.look.store.open_batches()?.is_empty();
        let (mut known, mut to_run, mut cached, mut under_way) = (0, 0, 0, 0);
        let mut retried = false;
        let mut exact = true;
        for (at, chunk) in input.chunks.iter().enumerate() {
            if let Some((rows, _)) = earlier.as_mut().and_then(|it| it.take(chunk.digest())) {
                known += rows;
                continue;
            }
            for row in self.look.store.rows_of(input, at..at + 1) {
                // A row that cannot be asked fails without a call.
                let Ok(Some((carried, ask))) = asked(work, &row?) else { continue };
                if left == 0 {
                    break;
                }
                left -= 1;
                let key = memo_key(decision.definition, &carried, &ask);
                let is_known = self.look.store.memo(key, self.before.asker.as_deref())?.is_some();
                if is_known && mode.takes_known() {
                    known += 1;
                    continue;
                }
                let (requests, whole) = work.stage.foresee(&ask, &self.look.transport);
                exact &= whole;
                match is_known && !mode.force {
                    true => known += 1,
                    false => to_run += 1,
                }
                // An answer that is recorded for a row without a result may be no good.
                let retry = mode.retry_failed && !is_known;
                for request in requests {
                    let answered = self.look.transport.is_answered(&request, mode.again)?;
                    if answered && !retry {
                        cached += 1;
                    } else if some_open && self.look.store.batch_item(request.key())?.is_some() {
                        under_way += 1;
                    } else if to_make.insert(request.key()) {
                        retried |= retry;
                        // What was no good is asked for again directly.
                        let request = match in_batches && !answered {
                            true => {
                                plan.batch_share = request.price.map(|price| price.batch_share());
                                request.in_batch()
                            }
                            false => request,
                        };
                        let usage = self.earlier.foresee(&stage.name, &request);
                        plan.effort.call(&request, usage);
                    }
                }
            }
        }
        // Rows that are sent together are one request, as far as they fill one.
        let batch = work.stage.batch().max(1) as u64;
        if work.stage.calls() && batch > 1 {
            plan.effort.calls = plan.effort.calls.div_ceil(batch);
        }
        plan.rows_known = Some(known);
        plan.rows_to_run = Some(to_run);
        plan.calls_cached = Some(cached);
        plan.calls_under_way = in_batches.then_some(under_way);
        plan.bound = match (exact, mode.again) {
            _ if retried => {
                Some("at most so many calls: what turns out to be good is not asked again".into())
            }
            (_, Again::Yes) => Some("rows whose answers turn out to have changed run, too".into()),
            (false, _) => Some("at least so many calls: a list may have more pages".into()),
            (true, _) => None,
        };
        Ok(())
    }
}

impl StagePlan {
    fn new(name: &str) -> StagePlan {
        StagePlan {
            name: name.to_owned(),
            state: PlanState::Stale,
            reason: None,
            rows: None,
            rows_known: None,
            rows_to_run: None,
            calls_cached: None,
            calls_under_way: None,
            batch_share: None,
            effort: Effort::default(),
            bound: None,
        }
    }
}

impl Effort {
    /// One call more.
    fn call(&mut self, request: &Request, usage: Usage) {
        self.calls += 1;
        self.tokens_in += usage.input;
        self.tokens_out += usage.output;
        self.cost_usd += usage.cost(request) as f64 / 1e9;
        self.seconds += request.pace.seconds();
    }

    fn add(&mut self, other: &Effort) {
        self.calls += other.calls;
        self.tokens_in += other.tokens_in;
        self.tokens_out += other.tokens_out;
        self.cost_usd += other.cost_usd;
        // Stages that ask different servers do so side by side.
        self.seconds = self.seconds.max(other.seconds);
    }
}

/// Whether the stage makes at most one row of each that it reads.
fn one_of_each(stage: &Stage) -> bool {
    match &stage.compiled.work {
        Work::Rows(work) => {
            let key = &stage.compiled.key;
            !key.is_empty() && key.iter().all(|field| work.shape.key.contains(field))
        }
        Work::Table(_) => false,
    }
}

fn bound(name: &str, most: Option<u64>, last: Option<u64>) -> String {
    match (most, last) {
        (Some(0), _) => format!("`{name}` has no table, and is not among the targets"),
        (Some(most), _) => format!("not known before `{name}` has run; at most {most} rows"),
        (None, Some(last)) => {
            let rows = if last == 1 { "row" } else { "rows" };
            format!("not known before `{name}` has run; it had {last} {rows} the last time")
        }
        (None, None) => format!("not known before `{name}` has run"),
    }
}
