//! A provider's limits, where a flag asks for them: requests and tokens, for each key and model, from
//! buckets that fill up again all the time. Every answer announces them.

use crate::ask::Answer;
use crate::rate::Rate;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Requests, tokens: the second may be left out.
#[derive(Clone, Copy)]
pub struct Allowed {
    requests: Rate,
    tokens: Option<Rate>,
}

impl FromStr for Allowed {
    type Err = String;

    fn from_str(text: &str) -> Result<Allowed, String> {
        Ok(match text.split_once(',') {
            Some((requests, tokens)) => {
                Allowed { requests: requests.parse()?, tokens: Some(tokens.parse()?) }
            }
            None => Allowed { requests: text.parse()?, tokens: None },
        })
    }
}

/// By key and model.
#[derive(Default)]
pub struct Limits(Mutex<BTreeMap<(String, String), Lane>>);

struct Lane {
    buckets: Vec<Bucket>,
    told: Told,
}

struct Bucket {
    /// What it is of: `requests` or `tokens`.
    of: &'static str,
    limit: f64,
    left: f64,
    /// What comes back in a second.
    rate: f64,
    at: Instant,
}

/// What `/_stats` tells of a lane.
#[derive(Clone, Copy, Default)]
struct Told {
    requests: u64,
    tokens: u64,
    refused: u64,
    /// When the first and the last were let in.
    first: Option<Instant>,
    last: Option<Instant>,
}

/// How a request is taken.
#[derive(Default)]
pub struct Admission {
    /// The answer where there is no room for it.
    pub refusal: Option<Answer>,
    pub headers: Vec<(String, String)>,
}

impl Limits {
    /// Lets a request in that may cost so many tokens, or refuses it.
    pub fn admit(&self, allowed: Allowed, key: &str, model: &str, tokens: u64) -> Admission {
        let mut lanes = self.lock();
        let now = Instant::now();
        let lane = lanes.entry((key.to_owned(), model.to_owned())).or_insert_with(|| {
            let buckets = [("requests", Some(allowed.requests)), ("tokens", allowed.tokens)];
            let buckets = buckets.into_iter().filter_map(|(of, rate)| Some((of, rate?)));
            let buckets = buckets.map(|(of, rate)| Bucket::new(of, rate, now)).collect();
            Lane { buckets, told: Told::default() }
        });
        lane.buckets.iter_mut().for_each(|bucket| bucket.fill(now));
        let refusal = lane.buckets.iter().find_map(|bucket| bucket.refusal(tokens, model));
        if refusal.is_some() {
            lane.told.refused += 1;
        } else {
            lane.buckets.iter_mut().for_each(|bucket| bucket.left -= bucket.cost(tokens));
            let told = &mut lane.told;
            told.requests += 1;
            told.tokens += tokens;
            told.first.get_or_insert(now);
            told.last = Some(now);
        }
        Admission { refusal, headers: lane.buckets.iter().flat_map(Bucket::announce).collect() }
    }

    /// What came under limits: by model, over all keys.
    pub fn stats(&self) -> Value {
        let mut models: BTreeMap<String, Told> = BTreeMap::new();
        for ((_, model), lane) in self.lock().iter() {
            let sum = models.entry(model.clone()).or_default();
            sum.requests += lane.told.requests;
            sum.tokens += lane.told.tokens;
            sum.refused += lane.told.refused;
            sum.first = [sum.first, lane.told.first].into_iter().flatten().min();
            sum.last = sum.last.max(lane.told.last);
        }
        let told = models.into_iter().map(|(model, told)| {
            let between = told.first.zip(told.last).map(|(first, last)| last - first);
            let seconds = between.unwrap_or_default().as_secs_f64();
            let Told { requests, tokens, refused, .. } = told;
            let told = json!({
                "requests": requests, "tokens": tokens, "refused": refused, "seconds": seconds
            });
            (model, told)
        });
        Value::Object(told.collect())
    }

    /// Forgets what was counted; what is left stays.
    pub fn reset_stats(&self) {
        self.lock().values_mut().for_each(|lane| lane.told = Told::default());
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, String), Lane>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bucket {
    fn new(of: &'static str, rate: Rate, now: Instant) -> Bucket {
        let limit = rate.count as f64;
        Bucket { of, limit, left: limit, rate: limit / rate.seconds.unwrap_or(60) as f64, at: now }
    }

    /// What a request of so many tokens takes of it.
    fn cost(&self, tokens: u64) -> f64 {
        if self.of == "tokens" { tokens as f64 } else { 1.0 }
    }

    fn fill(&mut self, now: Instant) {
        let gone = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + gone * self.rate).min(self.limit);
        self.at = now;
    }

    /// The answer where there is not enough left.
    fn refusal(&self, tokens: u64, model: &str) -> Option<Answer> {
        let (of, cost) = (self.of, self.cost(tokens));
        if self.left >= cost {
            return None;
        }
        let wait = Duration::from_secs_f64((cost - self.left) / self.rate);
        let short = if of == "requests" { "RPM" } else { "TPM" };
        let (limit, used) = (self.limit, (self.limit - self.left).ceil());
        let message = match cost > self.limit {
            true => format!(
                "Request too large for {model} on {of} per min ({short}): \
                 Limit {limit}, Requested {cost}."
            ),
            false => format!(
                "Rate limit reached for {model} on {of} per min ({short}): \
                 Limit {limit}, Used {used}, Requested {cost}. Please try again in {}.",
                written(wait)
            ),
        };
        let code = "rate_limit_exceeded";
        let error = json!({"message": message, "type": of, "param": null, "code": code});
        let answer = Answer::value(429, &json!({"error": error}))
            .with("retry-after", wait.as_secs_f64().ceil().to_string())
            .with("retry-after-ms", (wait.as_secs_f64() * 1e3).ceil().to_string());
        Some(answer)
    }

    fn announce(&self) -> Vec<(String, String)> {
        let full = Duration::from_secs_f64((self.limit - self.left) / self.rate);
        let headers = [
            ("limit", self.limit.to_string()),
            ("remaining", self.left.floor().to_string()),
            ("reset", written(full)),
        ];
        headers.map(|(name, value)| (format!("x-ratelimit-{name}-{}", self.of), value)).into()
    }
}

/// `6m0s`, `1.5s`, `120ms`.
fn written(duration: Duration) -> String {
    let ms = duration.as_secs_f64() * 1e3;
    let ms = ms.ceil() as u64;
    let (minutes, seconds) = (ms / 60_000, (ms % 60_000) as f64 / 1e3);
    match (minutes, ms) {
        (0, 0) => "0s".to_owned(),
        (0, 1..1000) => format!("{ms}ms"),
        (0, _) => format!("{seconds}s"),
        _ => format!("{minutes}m{seconds}s"),
    }
}
