//! How many questions are under way at once, and which are too many.

use crate::ask::Answer;
use serde_json::{Value, json};
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Default)]
pub struct Crowd(Mutex<Told>);

#[derive(Default)]
struct Told {
    now: u64,
    most: u64,
    refused: u64,
}

/// A question while it is worked on.
pub struct Member<'a> {
    crowd: &'a Crowd,
    too_many: bool,
}

impl Crowd {
    /// A question more; too many where more than `most` are under way with it.
    pub fn enter(&self, most: Option<u64>) -> Member<'_> {
        let mut told = self.lock();
        told.now += 1;
        told.most = told.most.max(told.now);
        let too_many = most.is_some_and(|most| told.now > most);
        told.refused += u64::from(too_many);
        Member { crowd: self, too_many }
    }

    pub fn stats(&self) -> Value {
        let told = self.lock();
        json!({"most": told.most, "refused": told.refused})
    }

    pub fn reset_stats(&self) {
        let mut told = self.lock();
        *told = Told { now: told.now, most: told.now, refused: 0 };
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Member<'_> {
    pub fn refusal(&self) -> Option<Answer> {
        let message = "Too many requests at once. Please try again in 20ms.";
        let code = "rate_limit_exceeded";
        let error = json!({"message": message, "type": "requests", "param": null, "code": code});
        let answer = || Answer::value(429, &json!({"error": error})).with("retry-after-ms", "20");
        self.too_many.then(answer)
    }
}

impl Drop for Member<'_> {
    fn drop(&mut self) {
        self.crowd.lock().now -= 1;
    }
}
