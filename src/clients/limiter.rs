//! Limits per server and key: how many requests at once, how many a minute, and pauses that the
//! server asks for.

use std::collections::HashMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// How far ahead of its even pace a lane may run.
const BURST: Duration = Duration::from_secs(30);

/// The limits that a request keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    pub concurrency: NonZeroUsize,
    pub requests_per_minute: Option<NonZeroU32>,
    pub tokens_per_minute: Option<NonZeroU32>,
    /// What this request is thought to cost in tokens.
    pub tokens: u32,
}

impl Pace {
    /// The time that one such request takes up under the limits per minute.
    pub fn seconds(&self) -> f64 {
        spacing(*self).as_secs_f64()
    }
}

/// All limits, by server and key.
#[derive(Default)]
pub(super) struct Limiter {
    lanes: Mutex<HashMap<String, Arc<Lane>>>,
}

struct Lane {
    slots: Arc<Semaphore>,
    clock: Mutex<Clock>,
}

struct Clock {
    /// When the next request may leave.
    next: Instant,
    paused_until: Instant,
}

impl Limiter {
    /// Waits for a place in `lane`; the place is held until the permit is dropped.
    pub(super) async fn enter(&self, lane: &str, pace: Pace) -> OwnedSemaphorePermit {
        let lane = self.lane(lane, pace);
        let permit =
            lane.slots.clone().acquire_owned().await.expect("the semaphore is never closed");
        let turn = {
            let mut clock = lane.clock();
            let now = Instant::now();
            // Half a minute's worth may leave at once, as providers' own buckets allow.
            let turn = clock.next.checked_sub(BURST).unwrap_or(now);
            clock.next = clock.next.max(now) + spacing(pace);
            turn
        };
        tokio::time::sleep_until(turn).await;
        // A pause may have begun, or have been made longer, meanwhile.
        loop {
            let paused_until = lane.clock().paused_until;
            if paused_until <= Instant::now() {
                return permit;
            }
            tokio::time::sleep_until(paused_until).await;
        }
    }

    /// Holds back every request of `lane` for `wait`.
    pub(super) fn pause(&self, lane: &str, pace: Pace, wait: Duration) {
        let lane = self.lane(lane, pace);
        let mut clock = lane.clock();
        clock.paused_until = clock.paused_until.max(Instant::now() + wait);
    }

    fn lane(&self, name: &str, pace: Pace) -> Arc<Lane> {
        let mut lanes = self.lanes.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let lane = lanes.entry(name.to_owned()).or_insert_with(|| {
            let now = Instant::now();
            Arc::new(Lane {
                slots: Arc::new(Semaphore::new(pace.concurrency.get().min(4096))),
                clock: Mutex::new(Clock { next: now, paused_until: now }),
            })
        });
        lane.clone()
    }
}

impl Lane {
    fn clock(&self) -> MutexGuard<'_, Clock> {
        self.clock.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// The time that one request takes up under the limits per minute.
fn spacing(pace: Pace) -> Duration {
    let minute = |per: NonZeroU32, amount: u32| {
        Duration::from_secs_f64(60.0 * f64::from(amount) / f64::from(per.get()))
    };
    let requests = pace.requests_per_minute.map(|per| minute(per, 1));
    let tokens = pace.tokens_per_minute.map(|per| minute(per, pace.tokens));
    requests.max(tokens).unwrap_or(Duration::ZERO)
}
