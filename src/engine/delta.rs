//! Which rows two tables do not share. Chunks that both have are passed over without being read.

use std::collections::{BTreeMap, HashSet};

use indexmap::IndexMap;
use serde::Serialize;

use crate::store::{Artifact, Store, StoreError};
use crate::table::{Row, RowKey, key_of, show_key};

/// Examples that are shown, at the most.
const EXAMPLES: usize = 5;

/// How two tables differ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Delta {
    pub added: u64,
    pub removed: u64,
    pub changed: u64,
    /// Of the changed rows: how many changed in each field.
    pub fields: BTreeMap<String, u64>,
    /// The keys of some of the rows that were added, removed or changed.
    pub examples: Vec<String>,
}

impl Delta {
    fn example(&mut self, sign: char, row: &Row, key: &[String]) {
        if self.examples.len() < EXAMPLES {
            self.examples.push(format!("{sign} {}", show_key(row, key)));
        }
    }
}

/// How `after` differs from `before`; rows are told apart by `key`.
pub(super) fn delta(
    store: &Store,
    before: &Artifact,
    after: &Artifact,
    key: &[String],
) -> Result<Delta, StoreError> {
    // A row that lacks a field of the key is told apart by all of it.
    let own = |row: &Row| key_of(row, key).unwrap_or_else(|_| RowKey(show_key(row, key)));
    let mut delta = Delta::default();
    let mut old: IndexMap<RowKey, Row> = IndexMap::new();
    for row in store.rows_apart(before, after) {
        let row = row?;
        old.insert(own(&row), row);
    }
    for row in store.rows_apart(after, before) {
        let row = row?;
        match old.swap_remove(&own(&row)) {
            None => {
                delta.example('+', &row, key);
                delta.added += 1;
            }
            Some(before) if before == row => {}
            Some(before) => {
                delta.example('~', &row, key);
                delta.changed += 1;
                let names: HashSet<&String> = before.keys().chain(row.keys()).collect();
                for name in names.into_iter().filter(|name| before.get(*name) != row.get(*name)) {
                    *delta.fields.entry(name.clone()).or_default() += 1;
                }
            }
        }
    }
    old.values().for_each(|row| delta.example('-', row, key));
    delta.removed = old.len() as u64;
    Ok(delta)
}
