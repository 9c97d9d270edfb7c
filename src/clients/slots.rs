//! How many requests are under way at once: a fixed number, or, for a server that does not say what
//! it takes, as many as it turns out to take.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Where an adaptive number begins.
const START: usize = 16;
/// How long the others wait for the first answer of a server of which nothing is known.
const ALONE: Duration = Duration::from_secs(5);
/// What is left of it where a limit was met: the first time it had doubled past it. And where the
/// server asks for a slower pace.
const FIRST_CUT: f64 = 0.5;
const CUT: f64 = 0.75;
const SLOWER: f64 = 0.25;
/// How long it does not grow after the server had trouble.
const HOLD: Duration = Duration::from_secs(10);
/// An answer that took so many times as long as the quickest stood in a queue: there is no room for
/// more. Below this time all are quick.
const QUEUED: u32 = 4;
const QUICK: Duration = Duration::from_millis(50);

pub(super) struct Slots {
    semaphore: Arc<Semaphore>,
    size: Mutex<Size>,
}

struct Size {
    now: f64,
    most: f64,
    /// Slots that are to be given up once they are free.
    owed: usize,
    /// Nothing is known of the server: one goes ahead, and what it tells counts for the others.
    blind: bool,
    /// A limit was met: from here on it grows slowly.
    met: bool,
    /// What began before this says nothing about the size that there is now.
    cut_at: Instant,
    held_until: Instant,
    /// The shortest time that an answer took.
    quickest: Duration,
}

/// A request's place among those under way.
pub(super) struct Slot {
    slots: Arc<Slots>,
    permit: Option<OwnedSemaphorePermit>,
    began: Instant,
}

impl Slots {
    pub fn new(most: usize, adaptive: bool, blind: bool) -> Slots {
        let most = most.clamp(1, 4096);
        let start = match (blind, adaptive) {
            (true, _) => 1,
            (false, true) => most.min(START),
            (false, false) => most,
        };
        let now = Instant::now();
        let size = Size {
            now: start as f64,
            most: most as f64,
            owed: 0,
            blind,
            met: false,
            cut_at: now,
            held_until: now,
            quickest: Duration::MAX,
        };
        Slots { semaphore: Arc::new(Semaphore::new(start)), size: Mutex::new(size) }
    }

    pub async fn enter(self: &Arc<Slots>) -> Slot {
        let acquired = self.semaphore.clone().acquire_owned();
        tokio::pin!(acquired);
        if self.size().blind {
            tokio::select! {
                permit = &mut acquired => return self.slot(permit),
                () = tokio::time::sleep(ALONE) => self.open(),
            }
        }
        self.slot(acquired.await)
    }

    fn slot(self: &Arc<Slots>, permit: Result<OwnedSemaphorePermit, AcquireError>) -> Slot {
        let permit = Some(permit.expect("the semaphore is never closed"));
        Slot { slots: self.clone(), permit, began: Instant::now() }
    }

    /// The first was answered, or takes long: from here on as where there is more to go by.
    fn open(&self) {
        let mut size = self.size();
        if std::mem::take(&mut size.blind) {
            let to = size.most.min(START as f64);
            self.set(&mut size, to);
        }
    }

    fn size(&self) -> MutexGuard<'_, Size> {
        self.size.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn set(&self, size: &mut Size, to: f64) {
        let (before, after) = (size.now as usize, to as usize);
        size.now = to;
        if after > before {
            let paid = size.owed.min(after - before);
            size.owed -= paid;
            self.semaphore.add_permits(after - before - paid);
        } else {
            size.owed += before - after - self.semaphore.forget_permits(before - after);
        }
    }
}

impl Slot {
    /// Its request leaves.
    pub fn begin(&mut self) {
        self.began = Instant::now();
    }

    /// It was answered: there may be room for more. Twice as many after each round until a limit is
    /// met, then one more after each.
    pub fn answered(&self) {
        let mut size = self.slots.size();
        let took = self.began.elapsed();
        size.quickest = size.quickest.min(took);
        let queued = took > QUICK.max(size.quickest.saturating_mul(QUEUED));
        let held = size.held_until > Instant::now() || self.began < size.cut_at;
        if size.now < size.most && !held && !queued {
            let step = if size.met { 1.0 / size.now.floor() + 1e-9 } else { 1.0 };
            let to = (size.now + step).min(size.most);
            self.slots.set(&mut size, to);
        }
    }

    /// It met a limit.
    pub fn limited(&self) {
        let to = if self.slots.size().met { CUT } else { FIRST_CUT };
        self.cut(to, true);
    }

    /// The server asks for a slower pace: from there on as at the beginning.
    pub fn slowed(&self) {
        self.cut(SLOWER, false);
    }

    /// The server had trouble.
    pub fn troubled(&self) {
        self.slots.size().held_until = Instant::now() + HOLD;
    }

    fn cut(&self, to: f64, met: bool) {
        let mut size = self.slots.size();
        // Those that were under way together are cut for once.
        if self.began >= size.cut_at {
            let to = (size.now * to).max(1.0);
            self.slots.set(&mut size, to);
            size.met = met;
            size.blind = false;
            size.cut_at = Instant::now();
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.open();
        let mut size = self.slots.size();
        if size.owed > 0
            && let Some(permit) = self.permit.take()
        {
            size.owed -= 1;
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn round(slots: &Arc<Slots>, end: impl Fn(&Slot)) -> usize {
        let mut all = Vec::new();
        while slots.semaphore.available_permits() > 0 {
            all.push(slots.enter().await);
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        all.iter().for_each(end);
        all.len()
    }

    #[tokio::test(start_paused = true)]
    async fn it_doubles_to_the_first_limit_is_cut_once_and_then_grows_slowly() {
        let slots = Arc::new(Slots::new(256, true, false));
        assert_eq!(round(&slots, Slot::answered).await, 16);
        assert_eq!(round(&slots, Slot::answered).await, 32);
        assert_eq!(round(&slots, Slot::limited).await, 64);
        assert_eq!(round(&slots, Slot::answered).await, 32, "half, cut once");
        assert_eq!(round(&slots, Slot::limited).await, 33);
        assert_eq!(round(&slots, Slot::answered).await, 24, "three quarters");
        assert_eq!(round(&slots, Slot::troubled).await, 25);
        assert_eq!(round(&slots, Slot::answered).await, 25, "no more while there is trouble");
        tokio::time::advance(HOLD).await;
        assert_eq!(round(&slots, Slot::slowed).await, 25);
        assert_eq!(round(&slots, Slot::answered).await, 6);
        assert_eq!(round(&slots, Slot::answered).await, 12, "as at the beginning");
    }

    #[tokio::test(start_paused = true)]
    async fn it_does_not_grow_while_answers_wait_for_each_other() {
        let slots = Arc::new(Slots::new(256, true, false));
        assert_eq!(round(&slots, Slot::answered).await, 16);
        let mut all = Vec::new();
        while slots.semaphore.available_permits() > 0 {
            all.push(slots.enter().await);
        }
        assert_eq!(all.len(), 32);
        tokio::time::advance(Duration::from_secs(5)).await;
        all.iter().for_each(Slot::answered);
        drop(all);
        assert_eq!(round(&slots, Slot::answered).await, 32);
    }

    #[tokio::test(start_paused = true)]
    async fn one_goes_ahead_where_nothing_is_known_and_is_not_waited_for_too_long() {
        let slots = Arc::new(Slots::new(256, true, true));
        assert_eq!(round(&slots, Slot::answered).await, 1);
        assert_eq!(round(&slots, Slot::answered).await, 16);
        let slots = Arc::new(Slots::new(256, true, true));
        assert_eq!(round(&slots, Slot::limited).await, 1);
        assert_eq!(round(&slots, Slot::answered).await, 1, "it takes no more");
        let slots = Arc::new(Slots::new(256, true, true));
        let start = Instant::now();
        let first = slots.enter().await;
        let second = slots.enter().await;
        assert_eq!(start.elapsed().as_secs(), ALONE.as_secs());
        assert_eq!(slots.semaphore.available_permits(), 14);
        drop((first, second));
    }

    #[tokio::test(start_paused = true)]
    async fn a_fixed_number_stays_and_a_cut_takes_what_is_free_later() {
        let slots = Arc::new(Slots::new(6, false, false));
        assert_eq!(round(&slots, Slot::answered).await, 6);
        assert_eq!(round(&slots, Slot::answered).await, 6);
        let held =
            [slots.enter().await, slots.enter().await, slots.enter().await, slots.enter().await];
        held[0].slowed();
        drop(held);
        assert_eq!(round(&slots, Slot::answered).await, 1);
    }
}
