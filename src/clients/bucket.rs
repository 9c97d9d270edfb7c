//! What a provider says that may still be asked, and that fills up again all the time: requests, or
//! tokens.

use tokio::time::{Duration, Instant};

/// What an answer says of a bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Level {
    pub limit: f64,
    pub left: f64,
    /// Until it is full.
    pub reset: Duration,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    limit: f64,
    left: f64,
    /// What comes back in a second.
    rate: f64,
    at: Instant,
}

impl Bucket {
    /// `under_way` is what others that were sent may take, and may not be counted yet.
    pub fn told(before: Option<Bucket>, level: Level, under_way: f64) -> Bucket {
        let (used, reset) = (level.limit - level.left, level.reset.as_secs_f64());
        let rate = match before {
            // It is told in whole milliseconds or seconds: the more is used, the truer.
            _ if used > 0.0 && reset > 0.0 => used / reset,
            Some(before) => before.rate,
            None => level.limit / 60.0,
        };
        let left = level.left - under_way;
        Bucket { limit: level.limit, left, rate, at: Instant::now() }
    }

    /// Until when `cost` has to wait; `None` where it may go at once. More than there ever is waits
    /// until all is there.
    pub fn wait(&mut self, cost: f64, now: Instant) -> Option<Instant> {
        let gone = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + gone * self.rate).min(self.limit);
        self.at = now;
        let missing = cost.min(self.limit) - self.left;
        (missing > 0.0).then(|| {
            let wait = (missing / self.rate.max(1e-6)).min(3600.0);
            now + Duration::from_secs_f64(wait) + Duration::from_millis(1)
        })
    }

    pub fn take(&mut self, cost: f64) {
        self.left -= cost;
    }
}

/// `6m0s`, `1.5s`, `120ms`, `1h2m3s`; a number alone is seconds.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let mut seconds = 0.0;
    let mut rest = text.trim();
    while !rest.is_empty() {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        seconds += number
            * match &rest[..end] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" | "" => 1.0,
                "ms" => 0.001,
                "d" => 86_400.0,
                _ => return None,
            };
        rest = &rest[end..];
    }
    Duration::try_from_secs_f64(seconds).ok().filter(|_| !text.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_providers_write_them() {
        let seconds = |text| duration(text).map(|duration| duration.as_secs_f64());
        assert_eq!(seconds("6m0s"), Some(360.0));
        assert_eq!(seconds("1.5s"), Some(1.5));
        assert_eq!(seconds("120ms"), Some(0.12));
        assert_eq!(seconds("1h2m3s"), Some(3723.0));
        assert_eq!(seconds("7"), Some(7.0));
        for wrong in ["", "soon", "1x", "-1s", "1e999s", "s"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_told_to_be_left_goes_at_once_and_the_rest_as_it_comes_back() {
        // Ten in ten seconds, of which four are used.
        let level = Level { limit: 10.0, left: 6.0, reset: Duration::from_secs(4) };
        let mut bucket = Bucket::told(None, level, 0.0);
        let start = Instant::now();
        for _ in 0..26 {
            while let Some(until) = bucket.wait(1.0, Instant::now()) {
                tokio::time::sleep_until(until).await;
            }
            bucket.take(1.0);
        }
        let took = start.elapsed().as_secs_f64();
        assert!((20.0..20.2).contains(&took), "six at once, twenty at one a second: {took}");
    }
}
