//! The provider's cache of prompts: what a prompt has in common with the beginning of an earlier one
//! costs less.

use super::asked::Asked;
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// Shorter prompts are not kept.
const SHORTEST: u64 = 1_024;
/// Prompts are kept in steps of so many tokens.
const STEP: u64 = 128;
const CHARS: u64 = 4;

/// The beginnings of prompts that were seen, by their hash.
#[derive(Default)]
pub struct Prefixes(Mutex<HashSet<blake3::Hash>>);

/// What of a prompt came from the cache, and what was put there, in tokens.
pub struct Cached {
    pub read: u64,
    pub written: u64,
}

impl Prefixes {
    /// Each key has a cache of its own for each model.
    pub fn see(&self, key: &str, asked: &Asked) -> Cached {
        if asked.prompt_tokens() < SHORTEST {
            return Cached { read: 0, written: 0 };
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(format!("{key}\n{}\n", asked.model).as_bytes());
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut chars, mut read, mut kept) = (0, 0, 0);
        for c in asked.texts.iter().flat_map(|(_, text)| text.chars()) {
            hasher.update(c.encode_utf8(&mut [0; 4]).as_bytes());
            chars += 1;
            let tokens = chars / CHARS;
            if chars % (CHARS * STEP) != 0 || tokens < SHORTEST {
                continue;
            }
            kept = tokens;
            if !seen.insert(hasher.finalize()) {
                read = tokens;
            }
        }
        Cached { read, written: kept - read }
    }
}
