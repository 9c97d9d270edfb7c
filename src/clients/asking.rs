//! What is asked on behalf of a row, or of a few rows that are asked about together: with what
//! patience for recorded answers, and what came of it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::call::Answer;
use super::transport::{Tally, Transport};
use crate::store::CallKey;

/// Whether what is recorded is asked for again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Again {
    #[default]
    No,
    /// Once in this run.
    Yes,
    /// Where it was last given longer ago than this.
    After(Duration),
}

/// Calls go by way of one of these. Clones share what was seen.
#[derive(Clone)]
pub struct Asking {
    pub transport: Arc<Transport>,
    pub tally: Arc<Tally>,
    again: Again,
    /// Answers that are good, and not asked for again whatever `again` says.
    good: Arc<HashSet<CallKey>>,
    /// Calls whose requests go in batches alone: none of them is sent by itself.
    held: Arc<HashSet<CallKey>>,
    seen: Arc<Mutex<Seen>>,
}

/// What was seen of the calls.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The calls that were answered, in their order.
    pub calls: Vec<CallKey>,
    /// How many requests were sent.
    pub sent: u64,
    /// Whether an answer was new, or took the place of another.
    pub changed: bool,
    /// When the oldest of the answers was last given, ms since 1970.
    pub oldest: Option<i64>,
    /// Answers that could not be asked for again, with why: the recorded ones stand.
    pub stands: Vec<String>,
    /// The calls whose answers turned out to be good, where others of the row did not.
    pub good: Vec<CallKey>,
}

impl Asking {
    pub fn new(transport: Arc<Transport>, tally: Arc<Tally>, again: Again) -> Asking {
        let (good, held, seen) = (Arc::default(), Arc::default(), Arc::default());
        Asking { transport, tally, again, good, held, seen }
    }

    /// Asks once more for everything but `good`.
    pub fn but(self, good: Vec<CallKey>) -> Asking {
        Asking { good: Arc::new(good.into_iter().collect()), ..self }
    }

    /// Whether what is recorded for `call` is asked for again.
    pub(super) fn again(&self, call: CallKey) -> Again {
        if self.good.contains(&call) { Again::No } else { self.again }
    }

    /// These calls were answered well: whatever else their row lacks, they need not be made again.
    pub fn good(&self, calls: impl IntoIterator<Item = CallKey>) {
        self.lock().good.extend(calls);
    }

    /// Sends none of `calls`: their requests go in batches.
    pub fn holding(self, calls: impl IntoIterator<Item = CallKey>) -> Asking {
        Asking { held: Arc::new(calls.into_iter().collect()), ..self }
    }

    pub(super) fn holds(&self, call: CallKey) -> bool {
        !self.held.is_empty() && self.held.contains(&call)
    }

    /// What was seen so far.
    pub fn seen(&self) -> Seen {
        self.lock().clone()
    }

    pub(super) fn saw(&self, answer: &Answer) {
        let mut seen = self.lock();
        seen.calls.push(answer.key);
        seen.changed |= !answer.cached;
        let at = answer.given.at;
        seen.oldest = Some(seen.oldest.map_or(at, |oldest| oldest.min(at)));
    }

    pub(super) fn sent(&self) {
        self.lock().sent += 1;
    }

    pub(super) fn changed(&self) {
        self.lock().changed = true;
    }

    pub(super) fn stands(&self, why: String) {
        self.lock().stands.push(why);
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
