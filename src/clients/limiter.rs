//! Limits per server and key: how many requests at once, how many a minute, what a server says is
//! left of its quota, and pauses that it asks for.

use std::collections::{HashMap, VecDeque};
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::bucket::{After, Bucket, Level};
use super::slots::{Slot, Slots};

/// Requests leave a little more slowly than they may, so that what the network does to the time
/// between two of them does not bring one too many into a minute.
const MARGIN: f64 = 1.005;
/// Requests that leave within such a time may reach the server in any order.
const JITTER: Duration = Duration::from_millis(150);
/// How much the last answer counts in what requests turn out to take.
const NEWEST: f64 = 0.1;
/// How long to wait for what is under way to tell what is left.
const SOON: Duration = Duration::from_millis(20);
/// Shorter waits are told to nobody.
const TOLD: Duration = Duration::from_secs(2);

/// The limits that a request keeps to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    pub concurrency: NonZeroUsize,
    pub requests_per_minute: Option<NonZeroU32>,
    pub tokens_per_minute: Option<NonZeroU32>,
    /// What this request is thought to cost in tokens.
    pub tokens: u32,
    /// The share of a minute's requests that may leave at once after a silence.
    pub burst: f64,
    /// Whether fewer are under way at once where the server does not take so many.
    pub adaptive: bool,
}

impl Pace {
    /// The time that one such request takes up under the limits per minute.
    pub fn seconds(&self) -> f64 {
        let [requests, tokens] = self.spacing(f64::from(self.tokens));
        requests.max(tokens).as_secs_f64()
    }

    /// The time that a request of so many tokens takes up of the requests, and of the tokens. What
    /// leaves at once and what leaves evenly make no more than a minute's worth together, whichever
    /// minute is looked at.
    fn spacing(&self, tokens: f64) -> [Duration; 2] {
        let minute = |per: Option<NonZeroU32>, amount: f64| {
            let even = f64::from(per?.get()) * (1.0 - self.burst);
            Some(Duration::from_secs_f64(60.0 * MARGIN * amount / even))
        };
        let both = [(self.requests_per_minute, 1.0), (self.tokens_per_minute, tokens)];
        both.map(|(per, amount)| minute(per, amount).unwrap_or(Duration::ZERO))
    }

    /// Whether a server is met of which nothing is known.
    fn is_blind(&self) -> bool {
        self.adaptive && self.requests_per_minute.is_none() && self.tokens_per_minute.is_none()
    }

    /// How far ahead of its even pace a lane may run.
    fn ahead(&self) -> Duration {
        Duration::from_secs_f64(60.0 * self.burst / (1.0 - self.burst))
    }
}

/// What a server says is left of its quota.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left {
    pub points: u64,
    /// Which window the quota is of: the server's own time at which it ends.
    pub window: u64,
    /// Until there are more.
    pub reset: Duration,
    /// What the request took of it; 1 where that is not told.
    pub cost: u64,
}

/// Why and until when requests are held back.
pub(super) struct Held {
    pub why: String,
    pub wait: Duration,
}

/// All limits, by server and key.
#[derive(Default)]
pub(super) struct Limiter {
    lanes: Mutex<HashMap<String, Arc<Lane>>>,
}

struct Lane {
    slots: Arc<Slots>,
    clock: Mutex<Clock>,
    /// An answer said something: whoever waits may go sooner.
    told: Notify,
}

struct Clock {
    /// When the next request would leave at an even pace, by requests and by tokens.
    next: [Instant; 2],
    /// What requests turn out to take of the tokens that they are thought to.
    used: Option<f64>,
    paused_until: Instant,
    /// What a provider says is left of requests and of tokens.
    buckets: [Option<Bucket>; 2],
    /// What has been sent of them, and what it was before each that left just now.
    sent: [f64; 2],
    just_sent: VecDeque<(Instant, [f64; 2])>,
    /// By resource (GitHub's `core`, `search`, `graphql`).
    quotas: HashMap<&'static str, Quota>,
}

/// A server's quota of a resource.
#[derive(Default)]
struct Quota {
    /// The fewest points that were told to be left in a window, and when it ends.
    left: Option<(u64, Window)>,
    /// What a request takes, as the last one did.
    cost: u64,
    under_way: u64,
    /// Requests that are known to come.
    expected: u64,
    /// Where not all that is expected fits: when the next may leave.
    next: Option<Instant>,
    told_until: Option<Instant>,
    /// Those that wait go one after the other.
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Clone, Copy)]
struct Window {
    id: u64,
    end: Instant,
}

/// A request that is under way. The place is free again once it is dropped.
pub(super) struct Permit {
    lane: Arc<Lane>,
    resource: &'static str,
    pace: Pace,
    slot: Slot,
    left: Sent,
}

/// How things stood when a request left.
#[derive(Clone, Copy)]
struct Sent {
    at: Instant,
    /// What had been sent by then, and what of it is sure to have come to the server before it.
    before: [f64; 2],
    surely: [f64; 2],
    /// The tokens that were set aside for it of those that leave evenly.
    aside: f64,
}

/// Requests that are known to come; taken back when it is dropped.
pub struct Expected {
    lane: Arc<Lane>,
    resource: &'static str,
    requests: u64,
}

impl Limiter {
    /// Waits for a place in `lane`. `tell` hears of waits that take long, one for all that wait.
    pub(super) async fn enter(
        &self,
        lane: &str,
        resource: &'static str,
        pace: Pace,
        tell: impl Fn(Held),
    ) -> Permit {
        let lane = self.lane(lane, pace);
        let mut slot = lane.slots.enter().await;
        let turn = lane.clock().quotas.entry(resource).or_default().turn.clone();
        let turn = turn.lock_owned().await;
        let left = loop {
            // From here on nothing that is told goes unheard.
            let told = lane.told.notified();
            let taken = lane.clock().take(resource, pace, Instant::now(), &tell);
            match taken {
                Ok(left) => break left,
                Err(until) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(until) => {}
                        () = told => {}
                    }
                }
            }
        };
        drop(turn);
        slot.begin();
        Permit { lane, resource, pace, slot, left }
    }

    /// Holds back every request of `lane` for `wait`; `false` where one as long is under way.
    pub(super) fn pause(&self, lane: &str, pace: Pace, wait: Duration) -> bool {
        let lane = self.lane(lane, pace);
        let mut clock = lane.clock();
        let until = Instant::now() + wait;
        let longer = until > clock.paused_until + TOLD;
        clock.paused_until = clock.paused_until.max(until);
        longer
    }

    /// Makes known that requests will come; how many is set later.
    pub(super) fn expect(&self, lane: &str, resource: &'static str, pace: Pace) -> Expected {
        Expected { lane: self.lane(lane, pace), resource, requests: 0 }
    }

    fn lane(&self, name: &str, pace: Pace) -> Arc<Lane> {
        let mut lanes = self.lanes.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let lane = lanes.entry(name.to_owned()).or_insert_with(|| {
            let now = Instant::now();
            Arc::new(Lane {
                slots: Arc::new(Slots::new(pace.concurrency.get(), pace.adaptive, pace.is_blind())),
                told: Notify::new(),
                clock: Mutex::new(Clock {
                    next: [now; 2],
                    used: None,
                    paused_until: now,
                    buckets: [None; 2],
                    sent: [0.0; 2],
                    just_sent: VecDeque::new(),
                    quotas: HashMap::new(),
                }),
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

impl Clock {
    /// Takes a request from all that limits it; or tells until when to wait.
    fn take(
        &mut self,
        resource: &'static str,
        pace: Pace,
        now: Instant,
        tell: &impl Fn(Held),
    ) -> Result<Sent, Instant> {
        let cost = cost(pace);
        let turn = self.next[0].max(self.next[1]).checked_sub(pace.ahead()).unwrap_or(now);
        let mut until = turn.max(self.paused_until);
        for (bucket, cost) in self.buckets.iter_mut().zip(cost) {
            let filled = bucket.as_mut().and_then(|bucket| bucket.wait(cost, now));
            until = until.max(filled.unwrap_or(now));
        }
        if until > now {
            return Err(until);
        }
        if let Some(until) = self.quotas.entry(resource).or_default().take(now, tell) {
            return Err(until);
        }
        // The longest answer that it allows is seldom the one that it gets.
        let aside = f64::from(pace.tokens) * self.used.unwrap_or(1.0);
        for (next, spacing) in self.next.iter_mut().zip(pace.spacing(aside)) {
            *next = (*next).max(now) + spacing;
        }
        for (bucket, cost) in self.buckets.iter_mut().zip(cost) {
            bucket.iter_mut().for_each(|bucket| bucket.take(cost));
        }
        Ok(self.send(cost, aside, now))
    }

    /// Notes what a request takes that leaves now.
    fn send(&mut self, cost: [f64; 2], aside: f64, now: Instant) -> Sent {
        let is_past = |at: Instant| now.saturating_duration_since(at) >= JITTER;
        while self.just_sent.front().is_some_and(|(at, _)| is_past(*at)) {
            self.just_sent.pop_front();
        }
        self.just_sent.push_back((now, self.sent));
        let before = self.sent;
        let surely = self.just_sent.front().map_or(before, |(_, before)| *before);
        self.sent = [before[0] + cost[0], before[1] + cost[1]];
        Sent { at: now, before, surely, aside }
    }
}

/// What a request is thought to take: requests, tokens.
fn cost(pace: Pace) -> [f64; 2] {
    [1.0, f64::from(pace.tokens)]
}

impl Quota {
    /// Takes one request from what is left; or tells until when to wait.
    fn take(&mut self, now: Instant, tell: &impl Fn(Held)) -> Option<Instant> {
        self.left = self.left.filter(|(_, window)| window.end > now);
        let cost = self.cost.max(1);
        if let Some((left, Window { end: reset, .. })) = self.left {
            // Those under way may be counted in it, or not yet.
            let requests = left.saturating_sub(self.under_way * cost) / cost;
            let (until, why) = match requests {
                // What is under way will tell.
                0 if left >= cost => (now + SOON.min(reset - now), String::new()),
                0 => (reset, "the quota is used up".to_owned()),
                // What comes does not fit: evenly up to the reset, rather than all and then nothing.
                some if self.expected > some => {
                    let until = self.next.filter(|next| *next > now).unwrap_or(now);
                    (until, format!("{some} requests are left for {} or more", self.expected))
                }
                _ => (now, String::new()),
            };
            if until > now {
                let wait = until - now;
                if wait >= TOLD && self.told_until.is_none_or(|told| told < until) {
                    self.told_until = Some(reset);
                    tell(Held { why, wait });
                }
                return Some(until);
            }
            let even = reset.saturating_duration_since(now);
            self.next = Some(now + even / u32::try_from(requests).unwrap_or(u32::MAX));
        }
        self.under_way += 1;
        None
    }
}

impl Permit {
    /// What the answer says of the quota. Answers come in any order: of a window the lowest counts.
    pub(super) fn told(&self, left: Left) {
        let mut clock = self.lane.clock();
        let quota = clock.quotas.entry(self.resource).or_default();
        quota.cost = left.cost;
        let window = Window { id: left.window, end: Instant::now() + left.reset };
        quota.left = match quota.left {
            Some((_, known)) if known.id > window.id => quota.left,
            Some((points, known)) if known.id == window.id => {
                Some((points.min(left.points), known))
            }
            _ => Some((left.points, window)),
        };
    }
}

impl Permit {
    /// What the answer says of the provider's buckets of requests and of tokens.
    pub(super) fn levels(&self, levels: [Option<Level>; 2]) {
        let mut clock = self.lane.clock();
        for (at, level) in levels.into_iter().enumerate() {
            if let Some(level) = level {
                let others = clock.sent[at] - cost(self.pace)[at];
                let after = After {
                    since: self.left.at.elapsed(),
                    least: others - self.left.before[at],
                    most: others - self.left.surely[at],
                };
                clock.buckets[at] = Some(Bucket::told(clock.buckets[at], level, after));
            }
        }
        self.lane.told.notify_waiters();
    }

    /// It was answered, and took so many tokens.
    pub(super) fn answered(&self, tokens: u64) {
        self.slot.answered();
        if tokens == 0 {
            return;
        }
        let tokens = tokens as f64;
        let mut clock = self.lane.clock();
        let used = tokens / f64::from(self.pace.tokens.max(1));
        clock.used = Some(clock.used.map_or(used, |before| before + (used - before) * NEWEST));
        // What was set aside and not used is there for the next; what was used beyond it is not.
        let [_, aside] = self.pace.spacing(self.left.aside);
        let [_, taken] = self.pace.spacing(tokens);
        let next = clock.next[1] + taken;
        clock.next[1] = next.checked_sub(aside).unwrap_or(next);
        self.lane.told.notify_waiters();
    }

    /// How it failed, where that says something about how much the server takes.
    pub(super) fn slot(&self) -> &Slot {
        &self.slot
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut clock = self.lane.clock();
        if let Some(quota) = clock.quotas.get_mut(self.resource) {
            quota.under_way = quota.under_way.saturating_sub(1);
        }
    }
}

impl Expected {
    /// So many requests are to come.
    pub fn set(&mut self, requests: u64) {
        let before = std::mem::replace(&mut self.requests, requests);
        let mut clock = self.lane.clock();
        let quota = clock.quotas.entry(self.resource).or_default();
        quota.expected = (quota.expected + requests).saturating_sub(before);
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When each of `count` requests leaves that all wait from the beginning.
    async fn leave(pace: Pace, count: usize) -> Vec<f64> {
        let limiter = Limiter::default();
        let start = Instant::now();
        let mut left = Vec::new();
        for _ in 0..count {
            drop(limiter.enter("server", "core", pace, |_| {}).await);
            left.push(start.elapsed().as_secs_f64());
        }
        left
    }

    #[tokio::test(start_paused = true)]
    async fn no_minute_has_more_than_it_may_and_little_is_left_unused() {
        let per = |number| NonZeroU32::new(number);
        for (requests, burst, least) in [(60, 0.005, 0.98), (500, 0.005, 0.98), (900, 0.1, 0.89)] {
            let pace = Pace {
                concurrency: NonZeroUsize::MIN,
                requests_per_minute: per(requests),
                tokens_per_minute: None,
                tokens: 0,
                burst,
                adaptive: false,
            };
            let left = leave(pace, 5 * requests as usize).await;
            for (at, first) in left.iter().enumerate() {
                let minute = left[at..].iter().take_while(|time| **time < first + 60.0).count();
                assert!(minute <= requests as usize, "{minute} of {requests}");
            }
            let used = left.len() as f64 / (left[left.len() - 1] / 60.0 * f64::from(requests));
            assert!(used >= least, "{used} of {requests}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_that_are_not_used_are_there_for_others() {
        let pace = Pace {
            concurrency: NonZeroUsize::new(64).expect("above 0"),
            requests_per_minute: None,
            tokens_per_minute: NonZeroU32::new(60_000),
            tokens: 1_000,
            burst: 0.005,
            adaptive: true,
        };
        // Each is thought to take a second's worth, and takes a tenth of it.
        for latency in [20, 3_000].map(Duration::from_millis) {
            let limiter = Arc::new(Limiter::default());
            let start = Instant::now();
            let all = (0..1_000).map(|_| {
                let limiter = limiter.clone();
                tokio::spawn(async move {
                    let permit = limiter.enter("server", "", pace, |_| {}).await;
                    tokio::time::sleep(latency).await;
                    permit.answered(100);
                })
            });
            for one in all.collect::<Vec<_>>() {
                one.await.expect("it ends");
            }
            // Before the first answer it is not known, and the last one takes its time.
            let took = start.elapsed() - 2 * latency;
            let used = 1_000.0 * 100.0 / (took.as_secs_f64() * 1_000.0);
            assert!((0.98..1.01).contains(&used), "{used} of the limit, answered in {latency:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_fit_is_spread_and_what_fits_is_not() {
        let pace = Pace {
            concurrency: NonZeroUsize::MIN,
            requests_per_minute: None,
            tokens_per_minute: None,
            tokens: 0,
            burst: 0.1,
            adaptive: false,
        };
        for (expected, spread) in [(100, false), (200, true)] {
            let limiter = Limiter::default();
            let mut known = limiter.expect("server", "core", pace);
            let hour = Duration::from_secs(3600);
            let start = Instant::now();
            for points in (0..100).rev() {
                known.set(expected - (100 - points));
                let permit = limiter.enter("server", "core", pace, |_| {}).await;
                let reset = hour.saturating_sub(start.elapsed());
                permit.told(Left { points, window: 1, reset, cost: 1 });
            }
            let took = start.elapsed();
            assert_eq!(took > hour / 2, spread, "{took:?}");
            assert!(took < hour);
            // All is used up: the next waits for the window's end.
            drop(limiter.enter("server", "core", pace, |_| {}).await);
            assert!(start.elapsed() >= hour);
        }
    }
}
