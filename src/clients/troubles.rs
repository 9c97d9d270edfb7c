//! Which models have failed so often in a run that they are left alone, where another can answer in
//! their place.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

/// Requests in a row that failed to the end of their attempts.
const MOST: u32 = 5;

/// How many of the last requests to each model failed, by its name in `[models]`.
#[derive(Default)]
pub struct Troubles(Mutex<HashMap<String, u32>>);

impl Troubles {
    /// A request to `model` failed; `true` where it is left alone from now on.
    pub fn failed(&self, model: &str) -> bool {
        let mut models = self.lock();
        let failures = models.entry(model.to_owned()).or_default();
        *failures += 1;
        *failures == MOST
    }

    /// `model` answered. What was under way, or waited for its turn, when it was given up is still
    /// asked, and changes nothing.
    pub fn answered(&self, model: &str) {
        if let Some(failures) = self.lock().get_mut(model).filter(|failures| **failures < MOST) {
            *failures = 0;
        }
    }

    /// Whether `model` is not to be asked any more in this run.
    pub fn leaves_alone(&self, model: &str) -> bool {
        self.lock().get(model).is_some_and(|failures| *failures >= MOST)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, u32>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
