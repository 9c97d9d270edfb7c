//! The tokens of a question and its answer, as both APIs count them.

pub struct Usage {
    pub input: u64,
    /// Of the input: read from the provider's cache of prompts.
    pub cached: u64,
    /// Of the input: put there; told only where there is such a cache.
    pub written: Option<u64>,
    /// The reasoning among them.
    pub output: u64,
    pub reasoning: u64,
}

impl Usage {
    pub fn total(&self) -> u64 {
        self.input + self.output
    }
}
