//! A seeded stream of choices (SplitMix64): everything made up here comes from one of these.

pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// An independent stream for each combination of `parts`.
    pub fn of(parts: &[u64]) -> Dice {
        let mut state = 0x9E37_79B9_7F4A_7C15;
        for part in parts {
            state = mix(state ^ part.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        }
        Dice(state)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A number in `0..bound`; 0 where there is no choice.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound < 2 { 0 } else { self.next() % bound }
    }

    /// True in `percent` of 100 draws.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A number in `0.0..1.0`.
    pub fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// One of `choices`, which is never empty where this is called with a table.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// 64 bits of the hash of `text`.
pub fn hash(text: &[u8]) -> u64 {
    let bytes = blake3::hash(text);
    let mut first = [0; 8];
    first.copy_from_slice(&bytes.as_bytes()[..8]);
    u64::from_le_bytes(first)
}
