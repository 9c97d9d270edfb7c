//! What answers of models take: tokens, and money.

use serde_json::Value;

use super::call::{Request, Service};
use crate::manifest::Price;

/// More tokens than any request takes: a server that says so, as -1 without its sign, says nothing.
const MOST: u64 = 100_000_000;

/// What an answer says that it took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// All tokens in, those that were cached or are from now on among them.
    pub input: u64,
    /// Of them, those that the provider had in its cache.
    pub cached_input: u64,
    /// Of them, those that it put there.
    pub cache_written: u64,
    /// All tokens out.
    pub output: u64,
    /// Of them, those that the model thought with.
    pub reasoning: u64,
}

impl Usage {
    /// As chat completions name it, or responses.
    pub fn of(answer: &Value) -> Usage {
        let usage = &answer["usage"];
        let either = |one: &Value, other: &Value| {
            let tokens = one.as_u64().or(other.as_u64());
            tokens.filter(|tokens| *tokens <= MOST).unwrap_or(0)
        };
        let (prompt, input) = (&usage["prompt_tokens_details"], &usage["input_tokens_details"]);
        let thought = "reasoning_tokens";
        Usage {
            input: either(&usage["prompt_tokens"], &usage["input_tokens"]),
            cached_input: either(&prompt["cached_tokens"], &input["cached_tokens"]),
            cache_written: either(&prompt["cache_write_tokens"], &input["cache_write_tokens"]),
            output: either(&usage["completion_tokens"], &usage["output_tokens"]),
            reasoning: either(
                &usage["completion_tokens_details"][thought],
                &usage["output_tokens_details"][thought],
            ),
        }
    }

    /// Takes what another answer took, too.
    pub fn add(&mut self, other: Usage) {
        self.input += other.input;
        self.cached_input += other.cached_input;
        self.cache_written += other.cache_written;
        self.output += other.output;
        self.reasoning += other.reasoning;
    }

    /// What the body of an answer says; nothing where it is no JSON.
    pub(super) fn of_body(body: &[u8]) -> Usage {
        serde_json::from_slice(body).map(|answer| Usage::of(&answer)).unwrap_or_default()
    }

    /// The most that `request` is thought to take: its tokens and the longest answer that it allows.
    /// All of it may be put into the provider's cache, which may cost more than to be read.
    pub fn most(request: &Request) -> Usage {
        if request.service == Service::Github {
            return Usage::default();
        }
        let input = tokens_of(request.body.len());
        let output = u64::from(request.pace.tokens).saturating_sub(input);
        let price = request.price.as_ref();
        let dearer = price.is_some_and(|it| it.cache_write.is_some_and(|write| write > it.input));
        let cache_written = if dearer { input } else { 0 };
        Usage { input, output, cache_written, ..Usage::default() }
    }

    /// In billionths of a USD, at the request's price; 0 where that is not known.
    pub fn cost(&self, request: &Request) -> u64 {
        request.price.map_or(0, |price| self.cost_at(&price))
    }

    /// In billionths of a USD.
    pub fn cost_at(&self, price: &Price) -> u64 {
        let cached = self.cached_input.min(self.input);
        let written = self.cache_written.min(self.input - cached);
        // USD a million tokens is a millionth of a USD a token.
        let millionths = (self.input - cached - written) as f64 * price.input
            + cached as f64 * price.cached_input.unwrap_or(price.input)
            + written as f64 * price.cache_write.unwrap_or(price.input)
            + self.output as f64 * price.output;
        (millionths * 1e3).round() as u64
    }
}

/// About as many tokens as a text of so many bytes has; three bytes a token errs on the side of
/// more.
pub(super) fn tokens_of(bytes: usize) -> u64 {
    (bytes / 3) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn counts_that_cannot_be_count_for_nothing() {
        let usage = |tokens: u64| {
            Usage::of(&json!({ "usage": { "prompt_tokens": tokens, "completion_tokens": 5 } }))
        };
        assert_eq!((usage(7).input, usage(7).output), (7, 5));
        for absurd in [u64::MAX, MOST + 1] {
            assert_eq!((usage(absurd).input, usage(absurd).output), (0, 5));
        }
    }
}
