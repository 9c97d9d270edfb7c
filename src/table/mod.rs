//! Tables: ordered sets of rows with a key, their digests, and the file formats they are read from
//! and written to. The lowest room: it knows nothing of stages, calls or the store.

mod digest;
mod format;
mod read;
mod row;

pub use digest::{Digest, Hasher};
pub use format::{Format, write_table};
pub use read::{ReadError, read_rows};
pub use row::{Row, RowKey, all_fields, key_of, show_key};

use serde::{Deserialize, Serialize};

/// What kinds of value a column has been seen to hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Types {
    pub null: bool,
    pub boolean: bool,
    pub number: bool,
    pub text: bool,
    pub nested: bool,
}

impl Types {
    pub fn see(&mut self, value: &serde_json::Value) {
        use serde_json::Value::*;
        match value {
            Null => self.null = true,
            Bool(_) => self.boolean = true,
            Number(_) => self.number = true,
            String(_) => self.text = true,
            Array(_) | Object(_) => self.nested = true,
        }
    }
}

/// A column of a table: its name, in the order of first appearance, and what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    pub types: Types,
}
