//! What answers of models take: tokens, and money.

use serde_json::Value;

use super::call::{Request, Service};
use crate::store::CallRecord;

/// What an answer says that it took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub input: u64,
    pub cached_input: u64,
    pub output: u64,
}

impl Usage {
    pub fn of(answer: &Value) -> Usage {
        let number = |pointer| answer.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
        Usage {
            input: number("/usage/prompt_tokens"),
            cached_input: number("/usage/prompt_tokens_details/cached_tokens"),
            output: number("/usage/completion_tokens"),
        }
    }

    /// What the answer to a model's request took.
    pub(super) fn of_answer(request: &Request, record: &CallRecord) -> Usage {
        match request.service {
            Service::Github => Usage::default(),
            Service::Model => {
                Usage::of(&serde_json::from_slice(&record.body).unwrap_or(Value::Null))
            }
        }
    }

    /// The most that `request` is thought to take: its tokens and the longest answer that it allows.
    pub fn most(request: &Request) -> Usage {
        if request.service == Service::Github {
            return Usage::default();
        }
        let input = tokens_of(request.body.len());
        let output = u64::from(request.pace.tokens).saturating_sub(input);
        Usage { input, cached_input: 0, output }
    }

    /// In millionths of a USD, at the request's price; 0 where that is not known.
    pub fn cost(&self, request: &Request) -> u64 {
        let Some(price) = request.price else { return 0 };
        let cached = self.cached_input.min(self.input);
        // USD a million tokens is a millionth of a USD a token.
        let micros = (self.input - cached) as f64 * price.input
            + cached as f64 * price.cached_input.unwrap_or(price.input)
            + self.output as f64 * price.output;
        micros.round() as u64
    }
}

/// About as many tokens as a text of so many bytes has; three bytes a token errs on the side of
/// more.
pub(super) fn tokens_of(bytes: usize) -> u64 {
    (bytes / 3) as u64
}
