//! Tables: ordered sets of rows with a key, their digests, and the file formats they are read from
//! and written to. The lowest room: it knows nothing of stages, calls or the store.

mod digest;
mod format;
mod read;
mod row;

pub use digest::{Digest, Hasher};
pub use format::{FORMAT, Format, TEXT, write_lines, write_table};
pub use read::{ReadError, fields_of, read_line, read_rows};
pub use row::{Row, RowKey, all_fields, key_of, show_key};

use serde::{Deserialize, Serialize};

/// What kinds of value a column has been seen to hold. Written as the sum of 1 (null), 2 (boolean),
/// 4 (number), 8 (text) and 16 (nested).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "u8", into = "u8")]
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

    /// Holds what `other` holds, too.
    pub fn add(&mut self, other: Types) {
        *self = Types::from(u8::from(*self) | u8::from(other));
    }
}

impl From<Types> for u8 {
    fn from(types: Types) -> u8 {
        let Types { null, boolean, number, text, nested } = types;
        let bits = [null, boolean, number, text, nested].into_iter().enumerate();
        bits.map(|(place, held)| u8::from(held) << place).sum()
    }
}

impl From<u8> for Types {
    fn from(bits: u8) -> Types {
        let held = |place: u8| bits & (1 << place) != 0;
        Types { null: held(0), boolean: held(1), number: held(2), text: held(3), nested: held(4) }
    }
}

/// A column of a table: its name, in the order of first appearance, and what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    pub types: Types,
}
