//! Counts of what was answered: by endpoint, by status and by time.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[derive(Default)]
pub struct Stats(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    total: u64,
    /// Requests that have come and are not answered yet.
    under_way: u64,
    by_endpoint: BTreeMap<String, u64>,
    by_status: BTreeMap<u16, u64>,
    /// When each answer was sent, in microseconds since 1970: another process can compare them with
    /// its own clock.
    times: Vec<u64>,
    /// How long each connection lay still between an answer and the next request, in microseconds:
    /// what a client does meanwhile.
    gaps: Vec<u64>,
}

impl Stats {
    /// A request has come.
    pub fn begin(&self) {
        self.lock().under_way += 1;
    }

    /// A connection lay still for so long.
    pub fn gap(&self, gap: Duration) {
        self.lock().gaps.push(gap.as_micros() as u64);
    }

    /// It is answered.
    pub fn count(&self, endpoint: String, status: u16) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut counts = self.lock();
        counts.total += 1;
        counts.under_way -= 1;
        *counts.by_endpoint.entry(endpoint).or_default() += 1;
        *counts.by_status.entry(status).or_default() += 1;
        counts.times.push(now.as_micros() as u64);
    }

    /// What is under way goes on, and is counted when it is answered.
    pub fn reset(&self) {
        let mut counts = self.lock();
        *counts = Counts { under_way: counts.under_way, ..Counts::default() };
    }

    /// With `since`, also how many were answered at that time or later.
    pub fn to_json(&self, since: Option<u64>) -> Value {
        let counts = self.lock();
        let by_status: serde_json::Map<String, Value> = counts
            .by_status
            .iter()
            .map(|(status, count)| (status.to_string(), json!(count)))
            .collect();
        let mut stats = json!({
            "total": counts.total,
            "under_way": counts.under_way,
            "by_endpoint": counts.by_endpoint,
            "by_status": by_status,
        });
        if let Some(since) = since {
            stats["since"] = json!(counts.times.iter().filter(|time| **time >= since).count());
        }
        stats
    }

    /// How long connections lay still: the longest of half of the times, and of 99 in 100.
    pub fn gaps(&self) -> Value {
        let mut gaps = self.lock().gaps.clone();
        gaps.sort_unstable();
        let at = |percent: usize| gaps.get(gaps.len() * percent / 100);
        json!({"count": gaps.len(), "p50": at(50), "p99": at(99)})
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
