//! Chance that is the same every time: the stream of numbers that follows from a seed.

use blake3::OutputReader;

pub struct Dice {
    stream: OutputReader,
    buffer: [u8; 1024],
    used: usize,
}

impl Dice {
    /// `purpose` keeps the streams of one seed apart that are used for different things.
    pub fn new(seed: u64, purpose: &str) -> Dice {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes()).update(purpose.as_bytes());
        Dice { stream: hasher.finalize_xof(), buffer: [0; 1024], used: 1024 }
    }

    pub(super) fn next(&mut self) -> u64 {
        if self.used == self.buffer.len() {
            self.stream.fill(&mut self.buffer);
            self.used = 0;
        }
        let bytes = self.buffer[self.used..self.used + 8].try_into().expect("eight of them");
        self.used += 8;
        u64::from_le_bytes(bytes)
    }

    /// A number below `end`, each as likely as the others; 0 where there is none below it.
    pub fn below(&mut self, end: usize) -> usize {
        let Some(end) = u64::try_from(end).ok().filter(|end| *end > 0) else { return 0 };
        // The last, cut group of numbers would favour small ones.
        let whole = u64::MAX - u64::MAX % end;
        loop {
            let number = self.next();
            if number < whole {
                return (number % end) as usize;
            }
        }
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_and_each_is_as_likely() {
        let throw = |seed| {
            let mut dice = Dice::new(seed, "test");
            (0..60_000).map(|_| dice.below(6)).collect::<Vec<_>>()
        };
        assert_eq!(throw(7), throw(7));
        assert_ne!(throw(7), throw(8));
        for side in 0..6 {
            let count = throw(7).into_iter().filter(|thrown| *thrown == side).count();
            assert!((9_700..10_300).contains(&count), "{side}: {count}");
        }
    }
}
