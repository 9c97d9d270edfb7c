//! What a provider says that may still be asked, and that fills up again all the time: requests, or
//! tokens.

use tokio::time::{Duration, Instant};

/// In which steps a time is told, in seconds.
const GRAIN: f64 = 0.001;

/// What an answer says of a bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Level {
    pub limit: f64,
    pub left: f64,
    /// Until it is full.
    pub reset: Duration,
}

/// What was sent after a request whose answer says how a bucket stands, so that it may be missing in
/// what it says. Requests that leave together come in any order, so it is only known to lie in
/// between.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct After {
    /// How long ago that request left.
    pub since: Duration,
    pub least: f64,
    pub most: f64,
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
    /// What an answer tells, of the bucket that was known `before`.
    pub fn told(before: Option<Bucket>, level: Level, after: After) -> Bucket {
        let (used, reset) = (level.limit - level.left, level.reset.as_secs_f64());
        // Both are told in whole numbers, so the rate is only known to lie in between: the closer,
        // the more is used. A minute's limit is the usual one.
        let least = (used - 1.0).max(0.0) / (reset + GRAIN);
        let most = used.max(1.0) / (reset - GRAIN).max(GRAIN);
        let rate = before.map_or(level.limit / 60.0, |before| before.rate).clamp(least, most);
        // What came back since then may be counted in the level, as what was sent since then may be.
        let came_back = rate * after.since.as_secs_f64();
        let [least, most] =
            [after.most, after.least].map(|sent| level.left - (sent - came_back).max(0.0));
        let now = Instant::now();
        let left = before.map_or(least, |mut before| before.fill(now).clamp(least, most));
        Bucket { limit: level.limit, left, rate, at: now }
    }

    /// Until when `cost` has to wait; `None` where it may go at once. More than there ever is waits
    /// until all is there.
    pub fn wait(&mut self, cost: f64, now: Instant) -> Option<Instant> {
        let missing = cost.min(self.limit) - self.fill(now);
        (missing > 0.0).then(|| {
            let wait = (missing / self.rate.max(1e-6)).min(3600.0);
            now + Duration::from_secs_f64(wait) + Duration::from_millis(1)
        })
    }

    /// What is left now.
    fn fill(&mut self, now: Instant) -> f64 {
        let gone = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + gone * self.rate).min(self.limit);
        self.at = now;
        self.left
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
        // A hundred in a minute, of which forty are used.
        let level = Level { limit: 100.0, left: 60.0, reset: Duration::from_secs(24) };
        let mut bucket = Bucket::told(None, level, After::default());
        let start = Instant::now();
        for _ in 0..110 {
            while let Some(until) = bucket.wait(1.0, Instant::now()) {
                tokio::time::sleep_until(until).await;
            }
            bucket.take(1.0);
        }
        let took = start.elapsed().as_secs_f64();
        assert!((30.0..30.2).contains(&took), "sixty at once, fifty at 100 a minute: {took}");
    }

    #[tokio::test(start_paused = true)]
    async fn how_fast_it_fills_is_known_better_with_each_answer() {
        // Fifty in a second, told in whole requests and milliseconds.
        let mut bucket = None;
        let told = |used: f64| Level {
            limit: 50.0,
            left: (50.0 - used).floor(),
            reset: Duration::from_millis((used * 20.0).ceil() as u64),
        };
        let mut rates = Vec::new();
        for used in [0.2, 3.0, 20.5, 49.9] {
            let now = Bucket::told(bucket, told(used), After::default());
            rates.push(now.rate);
            bucket = Some(now);
        }
        assert!(rates.is_sorted() && rates[3] <= 50.0 && rates[3] > 48.0, "{rates:?}");
        // Two in an hour.
        let slow = Level { limit: 2.0, left: 1.0, reset: Duration::from_secs(1800) };
        let rate = Bucket::told(None, slow, After::default()).rate * 3600.0;
        assert!((1.99..2.01).contains(&rate), "{rate}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_left_later_is_missing_as_far_as_it_has_not_come_back() {
        let level = Level { limit: 60.0, left: 30.0, reset: Duration::from_secs(30) };
        let left = |before: Option<Bucket>, since: u64, least: f64, most: f64| {
            let since = Duration::from_secs(since);
            Bucket::told(before, level, After { since, least, most }).left.round()
        };
        let first = [(0, 0.0), (0, 5.0), (3, 5.0), (60, 5.0)];
        let first = first.map(|(since, sent)| left(None, since, 0.0, sent));
        assert_eq!(first, [30.0, 25.0, 28.0, 30.0]);
        // What is known already stands, as long as it can be so.
        let known = |left| Some(Bucket { limit: 60.0, left, rate: 1.0, at: Instant::now() });
        let again = [10.0, 27.0, 50.0].map(|before| left(known(before), 0, 2.0, 5.0));
        assert_eq!(again, [25.0, 27.0, 28.0]);
    }
}
