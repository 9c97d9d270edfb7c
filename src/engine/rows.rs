//! The one driver of all row stages: asks each row, takes what is known from the memo, runs the
//! rest in batches side by side, and hands the results on in the order of the input.

use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt;
use serde_json::json;

use crate::clients::CallError;
use crate::stages::{Ask, Input, RowError, RowWork, Sink, StageError, World};
use crate::store::StoreError;
use crate::table::{Digest, Hasher, Row, show_key};

/// Rows that are known are passed on in stretches of at most this many.
const STRETCH: usize = 256;

/// What came of the rows.
pub(super) struct RowsDone {
    pub sink: Sink,
    pub rows_run: u64,
    pub rows_memo: u64,
    pub failed: Vec<Row>,
    /// Some rows are as they are because of who asked.
    pub by_asker: bool,
}

/// Tells what happens to each row.
pub(super) trait RowWatch: Sync {
    fn done(&self, known: bool);
    fn failed(&self, key: String, reason: &RowError);
}

/// A row on its way.
enum Prepared {
    Known(Vec<Row>),
    ToRun { memo: Digest },
    Failed(Row, RowError),
}

/// Consecutive rows, those to run beside their places.
#[derive(Default)]
struct Stretch {
    prepared: Vec<Prepared>,
    to_run: Vec<(Row, Ask)>,
}

pub(super) async fn run_rows(
    work: &RowWork,
    definition: Digest,
    input: &Input,
    sink: Sink,
    world: &World,
    watch: &dyn RowWatch,
) -> Result<RowsDone, StageError> {
    let stop = AtomicBool::new(false);
    let batch = work.stage.batch().max(1);
    let mut rows = world.store.rows(&input.artifact);
    let mut broken: Option<StoreError> = None;
    // Once stopped, nothing new is begun; what is under way lands.
    let stopped = || stop.load(Ordering::Relaxed) || world.transport.is_interrupted();
    let stretches = std::iter::from_fn(|| {
        let mut stretch = Stretch::default();
        while stretch.to_run.len() < batch && stretch.prepared.len() < STRETCH.max(batch) {
            if stopped() {
                break;
            }
            let row = match rows.next() {
                None => break,
                Some(Ok(row)) => row,
                Some(Err(error)) => {
                    broken = Some(error);
                    break;
                }
            };
            match prepare(work, definition, row, world, &mut stretch) {
                Ok(()) => {}
                Err(error) => {
                    broken = Some(error);
                    break;
                }
            }
        }
        (!stretch.prepared.is_empty()).then_some(stretch)
    });
    let mut done =
        RowsDone { sink, rows_run: 0, rows_memo: 0, failed: Vec::new(), by_asker: false };
    let mut fatal: Option<StageError> = None;
    {
        let run = |stretch: Stretch| async {
            let results = match stretch.to_run.is_empty() {
                true => Vec::new(),
                false => work.stage.run(&stretch.to_run, world).await,
            };
            (stretch, results)
        };
        let mut results = std::pin::pin!(
            futures::stream::iter(stretches).map(run).buffered(work.stage.concurrency().max(1))
        );
        while let Some((stretch, results)) = results.next().await {
            if let Err(error) = settle(work, stretch, results, world, watch, &mut done) {
                stop.store(true, Ordering::Relaxed);
                // The first reason is the one that is told; what follows from it is not.
                fatal.get_or_insert(error);
            }
        }
    }
    if let Some(error) = fatal {
        return Err(error);
    }
    if let Some(error) = broken {
        return Err(error.into());
    }
    if world.transport.is_interrupted() {
        return Err(StageError::Call(CallError::Interrupted));
    }
    Ok(done)
}

/// Asks a row and looks up what is known of it; a row that `where` passes over leaves no trace.
fn prepare(
    work: &RowWork,
    definition: Digest,
    row: Row,
    world: &World,
    stretch: &mut Stretch,
) -> Result<(), StoreError> {
    let asked = (|| {
        if let Some(filter) = &work.filter
            && !filter.holds(&row).map_err(|why| RowError::Row(format!("`where`: {why}")))?
        {
            return Ok(None);
        }
        let carried = work.shape.carried(&row).map_err(RowError::Row)?;
        let ask = work.stage.ask(&row)?;
        Ok(Some((memo_key(definition, &carried, &ask), ask)))
    })();
    match asked {
        Ok(None) => {}
        Err(error) => stretch.prepared.push(Prepared::Failed(row, error)),
        Ok(Some((memo, ask))) => match world.store.memo(memo, world.asker.as_deref())? {
            Some(rows) => stretch.prepared.push(Prepared::Known(rows)),
            None => {
                stretch.prepared.push(Prepared::ToRun { memo });
                stretch.to_run.push((row, ask));
            }
        },
    }
    Ok(())
}

/// What decides whether a row's result is known: the stage's definition, what the row asks, and
/// what it carries over.
fn memo_key(definition: Digest, carried: &Row, ask: &Ask) -> Digest {
    let mut hasher = Hasher::new("memo 1");
    hasher.part(&definition.0);
    for request in &ask.requests {
        hasher.part(&request.key().0.0);
    }
    hasher.part(ask.text.as_bytes());
    hasher.part(&serde_json::to_vec(carried).expect("rows always serialize"));
    hasher.finish()
}

/// Takes the results of a stretch in order. An error means that no row of the stage can succeed.
fn settle(
    work: &RowWork,
    stretch: Stretch,
    results: Vec<Result<Vec<Row>, RowError>>,
    world: &World,
    watch: &dyn RowWatch,
    done: &mut RowsDone,
) -> Result<(), StageError> {
    let mut ran = stretch.to_run.into_iter().zip(results);
    let mut fatal = Ok(());
    for prepared in stretch.prepared {
        let (row, result) = match prepared {
            Prepared::Known(rows) => {
                rows.iter().try_for_each(|row| done.sink.push(row))?;
                done.by_asker |= rows.iter().any(is_by_asker);
                done.rows_memo += 1;
                watch.done(true);
                continue;
            }
            Prepared::Failed(row, error) => (row, Err(error)),
            Prepared::ToRun { memo } => {
                let Some(((row, _), result)) = ran.next() else {
                    let what = "a stage answered fewer rows than it was asked".to_owned();
                    return Err(StageError::Failed(what));
                };
                let result = result.and_then(|rows| {
                    let rows = with_carried(work, &row, rows)?;
                    let asker = world.asker.clone().filter(|_| rows.iter().any(is_by_asker));
                    world.store.put_memo(memo, &rows, asker).map_err(StageError::from)?;
                    Ok(rows)
                });
                (row, result)
            }
        };
        match result {
            Ok(rows) => {
                rows.iter().try_for_each(|row| done.sink.push(row))?;
                done.by_asker |= rows.iter().any(is_by_asker);
                done.rows_run += 1;
                watch.done(false);
            }
            Err(RowError::Stage(error)) => fatal = Err(error),
            Err(error) => {
                watch.failed(shown(work, &row), &error);
                done.failed.push(failed_row(work, &row, &error));
            }
        }
    }
    fatal
}

/// What is "not found" may be found with other credentials.
fn is_by_asker(row: &Row) -> bool {
    row.get("_outcome").is_some_and(|outcome| outcome["status"] == 404)
}

/// Key and kept fields first, then what the stage made. A field that it made wins over a kept one;
/// the key stays.
fn with_carried(work: &RowWork, row: &Row, rows: Vec<Row>) -> Result<Vec<Row>, RowError> {
    let carried = work.shape.carried(row).map_err(RowError::Row)?;
    let whole = rows.into_iter().map(|made| {
        let mut whole = carried.clone();
        for (name, value) in made {
            if !work.shape.key.contains(&name) {
                whole.insert(name, value);
            }
        }
        whole
    });
    Ok(whole.collect())
}

/// A row's name for people; all of its fields where its results have keys of their own.
fn shown(work: &RowWork, row: &Row) -> String {
    match work.shape.key.is_empty() {
        true => show_key(row, &row.keys().cloned().collect::<Vec<_>>()),
        false => show_key(row, &work.shape.key),
    }
}

/// What `.failed.jsonl` says of a row.
fn failed_row(work: &RowWork, row: &Row, error: &RowError) -> Row {
    let kind = match error {
        RowError::Passing(_) => "passing",
        RowError::Answer(_) => "answer",
        RowError::Row(_) => "row",
        RowError::Stage(_) => "stage",
    };
    // A stage whose rows have no key of their own before they are asked shows its whole input row.
    let mut failed = match work.shape.key.is_empty() {
        true => row.clone(),
        false => work.shape.carried(row).unwrap_or_else(|_| row.clone()),
    };
    failed.insert("_failed".into(), json!({ "kind": kind, "reason": error.to_string() }));
    failed
}
