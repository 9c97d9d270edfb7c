//! GitHub's limits, where flags ask for them: the primary one, so many requests in a window for each
//! resource, and the secondary ones, so many points in a sliding window and so many requests at once
//! over all resources. Without the flags nothing is announced and nothing enforced, as on a GitHub
//! Enterprise server that has its limits off.

use crate::ask::Answer;
use crate::dates;
use crate::github::problem;
use crate::rate::Rate;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const SECONDARY: &str =
    "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.";
const MINUTE: Duration = Duration::from_secs(60);

#[derive(clap::Args)]
#[group(skip)]
pub struct Flags {
    /// Requests (of GraphQL: points) that GitHub allows in a window, for each of core, search and
    /// graphql: N, N/h, N/m or N/SECONDSs
    #[arg(long, value_name = "N[/WINDOW]")]
    github_limit: Option<Rate>,
    /// How long that window is where the limit does not say it
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    github_window: u64,
    /// Secondary limit: points in a sliding window over all of GitHub, one for each request
    #[arg(long, value_name = "N[/WINDOW]")]
    github_points: Option<Rate>,
    /// Secondary limit: requests of GitHub at once
    #[arg(long, value_name = "N")]
    github_concurrent: Option<u64>,
    /// The status that tells of REST's primary limit: 403 or 429
    #[arg(long, value_name = "STATUS", default_value = "403", value_parser = ["403", "429"])]
    github_primary: String,
    /// The status that tells of a secondary limit: 403 or 429
    #[arg(long, value_name = "STATUS", default_value = "403", value_parser = ["403", "429"])]
    github_secondary: String,
    /// A secondary limit does not say how long to wait
    #[arg(long)]
    github_silent: bool,
}

pub struct Limits {
    flags: Flags,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    windows: BTreeMap<&'static str, Window>,
    /// When those requests came that no secondary limit refused, as far back as it matters.
    times: VecDeque<Instant>,
    at_once: u64,
    told: Told,
}

#[derive(Clone, Copy)]
struct Window {
    used: u64,
    /// When it ends, in seconds since 1970.
    reset: u64,
}

/// What `/_stats` tells.
#[derive(Default)]
struct Told {
    refused_primary: u64,
    refused_secondary: u64,
    most_at_once: u64,
    most_in_a_minute: usize,
}

/// A request while it is worked on.
pub struct Visit<'a> {
    limits: &'a Limits,
    /// Why it is not: in so many seconds there will be room.
    wait: Option<u64>,
}

/// How the primary limit takes a request.
pub struct Charged {
    pub refused: bool,
    pub headers: Vec<(String, String)>,
}

/// GraphQL's `rateLimit`.
pub struct Standing {
    pub cost: u64,
    pub nodes: u64,
    pub limit: u64,
    pub used: u64,
    pub reset: String,
}

impl Limits {
    pub fn new(flags: Flags) -> Limits {
        Limits { flags, state: Mutex::default() }
    }

    /// A request has come: it counts for the secondary limits until it is answered.
    pub fn enter(&self) -> Visit<'_> {
        let points = self.flags.github_points.unwrap_or(Rate { count: u64::MAX, seconds: None });
        let window = points.seconds.map_or(MINUTE, Duration::from_secs);
        let mut state = self.lock();
        let now = Instant::now();
        let age = |time: &Instant| now.duration_since(*time);
        while state.times.front().is_some_and(|time| age(time) >= window.max(MINUTE)) {
            state.times.pop_front();
        }
        let first = state.times.partition_point(|time| age(time) >= window);
        let spent = (state.times.len() - first) as u64;
        state.at_once += 1;
        state.told.most_at_once = state.told.most_at_once.max(state.at_once);
        let wait = if self.flags.github_concurrent.is_some_and(|most| state.at_once > most) {
            Some(1)
        } else if spent >= points.count {
            let left = state.times.get(first).map_or(window, |time| window - age(time));
            Some(left.as_secs_f64().ceil().max(1.0) as u64)
        } else {
            state.times.push_back(now);
            let minute = state.times.partition_point(|time| age(time) >= MINUTE);
            let minute = state.times.len() - minute;
            state.told.most_in_a_minute = state.told.most_in_a_minute.max(minute);
            None
        };
        state.told.refused_secondary += u64::from(wait.is_some());
        Visit { limits: self, wait }
    }

    /// Takes `cost` of a resource, or refuses, and announces what is left.
    pub fn charge(&self, resource: &'static str, cost: u64) -> Charged {
        let Some(limit) = self.flags.github_limit else {
            return Charged { refused: false, headers: Vec::new() };
        };
        let mut state = self.lock();
        let mut window = self.window(&state, resource);
        let refused = window.used >= limit.count;
        if refused {
            state.told.refused_primary += 1;
        } else {
            window.used = (window.used + cost).min(limit.count);
            state.windows.insert(resource, window);
        }
        Charged { refused, headers: announce(limit.count, window, resource) }
    }

    /// How a resource stands once `cost` is taken; without a limit, as if it were the first request.
    pub fn standing(&self, resource: &str, cost: u64, nodes: u64) -> Standing {
        let Some(limit) = self.flags.github_limit else {
            let reset = "2100-01-01T00:00:00Z".to_owned();
            return Standing { cost: 1, nodes: 0, limit: 5000, used: 1, reset };
        };
        let window = self.window(&self.lock(), resource);
        let used = (window.used + cost).min(limit.count);
        let reset = dates::format(window.reset as i64);
        Standing { cost, nodes, limit: limit.count, used, reset }
    }

    /// `GET /rate_limit`
    pub fn tell(&self) -> Answer {
        let Some(limit) = self.flags.github_limit else {
            return problem(404, "Rate limiting is not enabled.");
        };
        let state = self.lock();
        let of = |resource: &str| -> Value {
            let Window { used, reset } = self.window(&state, resource);
            let left = limit.count - used;
            json!({"limit": limit.count, "used": used, "remaining": left, "reset": reset})
        };
        let resources =
            json!({"core": of("core"), "search": of("search"), "graphql": of("graphql")});
        Answer::value(200, &json!({"resources": resources, "rate": of("core")}))
    }

    /// Adds to `/_stats` what was refused, and how close together requests came.
    pub fn stats(&self, stats: &mut Value) {
        let told = &self.lock().told;
        let (primary, secondary) = (told.refused_primary, told.refused_secondary);
        stats["refused"] = json!({"primary": primary, "secondary": secondary});
        stats["most_at_once"] = json!(told.most_at_once);
        stats["most_in_a_minute"] = json!(told.most_in_a_minute);
    }

    pub fn reset_stats(&self) {
        self.lock().told = Told::default();
    }

    /// The window of now, which may be a new one.
    fn window(&self, state: &State, resource: &str) -> Window {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = since.map_or(0, |since| since.as_secs());
        let length = self.flags.github_limit.and_then(|limit| limit.seconds);
        let fresh = Window { used: 0, reset: now + length.unwrap_or(self.flags.github_window) };
        state.windows.get(resource).copied().filter(|window| window.reset > now).unwrap_or(fresh)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Visit<'_> {
    /// The answer of the secondary limit that refuses this request, if one does.
    pub fn refusal(&self, resource: &'static str) -> Option<Answer> {
        let (wait, flags) = (self.wait?, &self.limits.flags);
        let mut answer = match resource {
            "graphql" => Answer::value(200, &json!({"errors": [{"message": SECONDARY}]})),
            _ => problem(if flags.github_secondary == "429" { 429 } else { 403 }, SECONDARY),
        };
        if let Some(limit) = flags.github_limit {
            let window = self.limits.window(&self.limits.lock(), resource);
            answer.headers.extend(announce(limit.count, window, resource));
        }
        Some(match flags.github_silent {
            true => answer,
            false => answer.with("retry-after", wait.to_string()),
        })
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.limits.lock().at_once -= 1;
    }
}

/// The answer of the primary limit once it is reached.
pub fn exceeded(resource: &str, limits: &Limits) -> Answer {
    let message = "API rate limit exceeded for the simulator.";
    match resource {
        "graphql" => {
            let error = json!({"type": "RATE_LIMITED", "message": message});
            Answer::value(200, &json!({"errors": [error]}))
        }
        _ => problem(if limits.flags.github_primary == "429" { 429 } else { 403 }, message),
    }
}

fn announce(limit: u64, window: Window, resource: &str) -> Vec<(String, String)> {
    let headers = [
        ("limit", limit.to_string()),
        ("remaining", (limit - window.used).to_string()),
        ("used", window.used.to_string()),
        ("reset", window.reset.to_string()),
        ("resource", resource.to_owned()),
    ];
    headers.map(|(name, value)| (format!("x-ratelimit-{name}"), value)).into()
}
