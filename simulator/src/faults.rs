//! Faults that tests order: answers replaced, delayed, cut, dripped, or no answers to what was asked;
//! for a share of the requests, so many times, or for those that hold a certain text.

use crate::ask::Answer;
use crate::dice::Dice;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

#[derive(Default)]
pub struct Faults(Mutex<Vec<Active>>);

/// A fault as it is ordered by `POST /_faults`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    path: String,
    /// Only requests whose body holds this, as it stands there.
    #[serde(rename = "match")]
    part: Option<String>,
    status: Option<u16>,
    delay_ms: Option<u64>,
    #[serde(default = "always")]
    share: f64,
    times: Option<u64>,
    #[serde(default)]
    cut: bool,
    drip_ms: Option<u64>,
    /// A search says that it ran out of time, and finds half.
    #[serde(default)]
    incomplete: bool,
    /// A model says this.
    says: Option<Says>,
    body: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

/// What a model says where it does not answer what it was asked.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Says {
    /// The answer, with words around it.
    WrongJson,
    Refusal,
    /// Half of the answer, and then it was long enough.
    Length,
    /// Half of the answer, and then it was not to be said.
    ContentFilter,
    Empty,
}

struct Active {
    order: Order,
    /// Attempts seen: each one is a new draw of the dice.
    attempts: u64,
    struck: u64,
}

/// What the faults do to one request.
#[derive(Default)]
pub struct Strike {
    pub delay: Duration,
    /// The answer to give instead of the real one.
    answer: Option<Answer>,
    cut: bool,
    drip: Duration,
    pub incomplete: bool,
    pub says: Option<Says>,
    headers: BTreeMap<String, String>,
}

fn always() -> f64 {
    1.0
}

impl Faults {
    pub fn add(&self, body: &[u8]) -> Result<(), String> {
        let order: Order = serde_json::from_slice(body).map_err(|e| e.to_string())?;
        if order.status.is_some_and(|status| !(200..=599).contains(&status)) {
            return Err("status: not between 200 and 599".to_owned());
        }
        self.lock().push(Active { order, attempts: 0, struck: 0 });
        Ok(())
    }

    pub fn clear(&self) {
        self.lock().clear();
    }

    pub fn strike(&self, path: &str, body: &[u8]) -> Strike {
        let mut strike = Strike::default();
        for (place, active) in self.lock().iter_mut().enumerate() {
            let order = &active.order;
            if !path.starts_with(&order.path)
                || !order.means(body)
                || order.times.is_some_and(|times| active.struck >= times)
            {
                continue;
            }
            active.attempts += 1;
            if Dice::of(&[place as u64, active.attempts]).share() >= order.share {
                continue;
            }
            active.struck += 1;
            strike.delay += Duration::from_millis(order.delay_ms.unwrap_or(0));
            strike.cut |= order.cut;
            strike.drip += Duration::from_millis(order.drip_ms.unwrap_or(0));
            strike.incomplete |= order.incomplete;
            strike.says = strike.says.or(order.says);
            match order.status {
                Some(status) if strike.answer.is_none() => {
                    strike.answer = Some(order.answer(status))
                }
                Some(_) => {}
                None => strike.headers.extend(order.headers.clone()),
            }
        }
        strike
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Active>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Order {
    fn means(&self, body: &[u8]) -> bool {
        let Some(part) = &self.part else { return true };
        String::from_utf8_lossy(body).contains(part)
    }

    fn answer(&self, status: u16) -> Answer {
        let body = self.body.clone().unwrap_or_else(|| {
            let message = "a fault ordered of the simulator";
            serde_json::json!({"message": message, "error": {"message": message, "type": "server_error"}})
                .to_string()
        });
        let mut answer = Answer::json(status, body.into_bytes());
        for (name, value) in &self.headers {
            if name.eq_ignore_ascii_case("content-type") {
                answer.headers.clear();
            }
            answer = answer.with(name, value);
        }
        answer
    }
}

impl Strike {
    /// The answer after the faults: the ordered one, or the real one with what was added to it.
    pub fn apply(self, real: impl FnOnce() -> Answer) -> Answer {
        let mut answer = self.answer.unwrap_or_else(real);
        answer.headers.extend(self.headers);
        answer.cut = self.cut;
        answer.drip = self.drip;
        answer
    }
}
