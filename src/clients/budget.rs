//! How many calls a run may make, and how much it may spend.

use std::sync::{Mutex, MutexGuard};

use super::call::{Request, Stop};
use super::usage::Usage;

/// What a run may use; `None`: as much as it takes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    pub calls: Option<u64>,
    /// In USD.
    pub cost: Option<f64>,
}

/// What has been used of it. A call is paid for before it leaves with the most that it is thought to
/// cost, and what it did cost is settled when its answer is there, so that calls side by side do not
/// overrun the limit together.
pub(super) struct Budget {
    limits: Limits,
    used: Mutex<Used>,
}

#[derive(Default)]
struct Used {
    calls: u64,
    /// Spent, and set aside for calls under way; in billionths of a USD.
    spent: u64,
}

/// What was set aside for a call, in billionths of a USD.
pub struct Reserved(pub u64);

impl Budget {
    pub fn new(limits: Limits) -> Budget {
        Budget { limits, used: Mutex::default() }
    }

    pub fn reserve(&self, request: &Request) -> Result<Reserved, Stop> {
        let most = Usage::most(request).cost(request);
        let mut used = self.used();
        if let Some(calls) = self.limits.calls.filter(|calls| used.calls >= *calls) {
            return Err(Stop::Calls(calls));
        }
        if let Some(cost) = self.limits.cost
            && used.spent.saturating_add(most) as f64 > cost * 1e9
            && most > 0
        {
            return Err(Stop::Cost(cost));
        }
        used.calls += 1;
        used.spent = used.spent.saturating_add(most);
        Ok(Reserved(most))
    }

    pub fn settle(&self, Reserved(most): Reserved, spent: u64) {
        let mut used = self.used();
        used.spent = used.spent.saturating_sub(most).saturating_add(spent);
    }

    /// Gives back calls that were not made after all, with what was set aside for them.
    pub fn give_back(&self, calls: u64, Reserved(most): Reserved) {
        let mut used = self.used();
        used.calls -= calls;
        used.spent = used.spent.saturating_sub(most);
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
