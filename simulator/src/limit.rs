//! GitHub's primary limit, where a flag asks for one: so many requests in a window, for each
//! resource. Without the flag nothing is announced and nothing enforced, as on a GitHub Enterprise
//! server that has its limits off.

use crate::ask::Answer;
use crate::github::problem;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

pub struct Limit {
    requests: Option<u64>,
    /// Seconds.
    window: u64,
    spent: Mutex<BTreeMap<&'static str, Window>>,
}

#[derive(Clone, Copy)]
struct Window {
    used: u64,
    /// When it ends, in seconds since 1970.
    reset: u64,
}

impl Limit {
    pub fn new(requests: Option<u64>, window: u64) -> Limit {
        Limit { requests, window, spent: Mutex::default() }
    }

    /// Counts a request, refuses it where the limit is reached, and announces what is left.
    pub fn apply(&self, resource: &'static str, answer: impl FnOnce() -> Answer) -> Answer {
        let Some(requests) = self.requests else { return answer() };
        let window = self.take(resource);
        let answer = match window.used > requests {
            true => problem(403, "API rate limit exceeded for the simulator."),
            false => answer(),
        };
        answer
            .with("x-ratelimit-limit", requests.to_string())
            .with("x-ratelimit-remaining", requests.saturating_sub(window.used).to_string())
            .with("x-ratelimit-used", window.used.min(requests).to_string())
            .with("x-ratelimit-reset", window.reset.to_string())
            .with("x-ratelimit-resource", resource)
    }

    fn take(&self, resource: &'static str) -> Window {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = since.map_or(0, |since| since.as_secs());
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let window = spent.entry(resource).or_insert(Window { used: 0, reset: now + self.window });
        if window.reset <= now {
            *window = Window { used: 0, reset: now + self.window };
        }
        window.used += 1;
        *window
    }

    /// `GET /rate_limit`
    pub fn tell(&self) -> Answer {
        let Some(requests) = self.requests else {
            return problem(404, "Rate limiting is not enabled.");
        };
        let spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |resource: &str| -> Value {
            let (used, reset) = spent.get(resource).map_or((0, 0), |it| (it.used, it.reset));
            let used = used.min(requests);
            json!({"limit": requests, "used": used, "remaining": requests - used, "reset": reset})
        };
        let resources =
            json!({"core": of("core"), "search": of("search"), "graphql": of("graphql")});
        Answer::value(200, &json!({"resources": resources, "rate": of("core")}))
    }
}
