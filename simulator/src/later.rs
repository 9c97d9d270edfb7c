//! Items that change while a client is at work: ordered ahead, applied after so many answers.

use crate::load::{self, Placed};
use serde::Deserialize;
use serde_json::Value;
use std::sync::{Mutex, PoisonError};

#[derive(Default)]
pub struct Later(Mutex<Vec<Pending>>);

/// As it is ordered by `POST /_later`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    path: String,
    after: u64,
    items: Vec<Value>,
}

struct Pending {
    path: String,
    left: u64,
    items: Vec<Placed>,
}

impl Later {
    pub fn add(&self, body: &[u8]) -> Result<(), String> {
        let order: Order = serde_json::from_slice(body).map_err(|e| e.to_string())?;
        if order.after == 0 {
            return Err("after: at least 1".to_owned());
        }
        let items = order.items.into_iter().map(load::placed).collect::<Result<_, _>>()?;
        let pending = Pending { path: order.path, left: order.after, items };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(pending);
        Ok(())
    }

    /// A request was answered whose path, under one name or another, is each of `paths`: what is
    /// due now.
    pub fn due(&self, paths: [&str; 2]) -> Vec<Placed> {
        let mut due = Vec::new();
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for order in pending.iter_mut() {
            if paths.iter().any(|path| path.starts_with(&order.path)) {
                order.left -= 1;
                if order.left == 0 {
                    due.append(&mut order.items);
                }
            }
        }
        pending.retain(|order| order.left > 0);
        due
    }
}
