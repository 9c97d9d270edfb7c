//! The log probability of each token of an answer, and of those that might have stood there.

use crate::dice::Dice;
use serde_json::{Value, json};

const OTHERS: [&str; 8] = [" the", "\"", " a", "no", "yes", " not", "\n", " crash"];

/// As both APIs tell them. The tokens are four characters each, and join to the content.
pub fn of(content: &str, seed: u64, top: u64) -> Value {
    let chars: Vec<char> = content.chars().collect();
    let mut dice = Dice::of(&[seed, 0x10C]);
    chars
        .chunks(4)
        .map(|token| token.iter().collect())
        .map(|token: String| {
            let sure = 0.5 + dice.share() / 2.0;
            let mut listed = Vec::new();
            if top > 0 {
                listed.push(told(&token, sure));
            }
            let mut left = 1.0 - sure;
            for _ in 1..top {
                // Each of the others takes half of what is left.
                left /= 2.0;
                let other: &&str = dice.pick(&OTHERS);
                listed.push(told(other, left));
            }
            let mut told = told(&token, sure);
            told["top_logprobs"] = json!(listed);
            told
        })
        .collect()
}

fn told(token: &str, probability: f64) -> Value {
    // Rounded: the last digits of a logarithm are not the same on every machine.
    let logprob = (probability.ln() * 1e6).round() / 1e6;
    json!({"token": token, "logprob": logprob, "bytes": token.as_bytes()})
}
