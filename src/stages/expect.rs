//! What a stage's table is expected to be: `[stages.NAME.expect]`. It decides nothing about how the table
//! is made, only whether what follows may read it.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde_json::{Value, json};
use toml::Spanned;

use super::seen::{Seen, half};
use super::sql::OwnQuery;
use super::{Compile, StageError};
use crate::manifest::{ExpectSection, RowCount};
use crate::programs::AnswerSchema;
use crate::store::{Artifact, Store};
use crate::table::{Digest, Hasher, Row, show_key};

/// Rows that are shown of what should not be there.
const SHOWN: usize = 5;

/// Compiled expectations.
pub struct Expect {
    key: Vec<String>,
    rows: Option<RowCount>,
    unique: Vec<String>,
    not_null: Vec<String>,
    accepted: BTreeMap<String, Vec<Value>>,
    schema: Option<AnswerSchema>,
    sql: Option<OwnQuery>,
}

impl Expect {
    /// Reads what the manifest says; the one input of `cx` is the stage's own table.
    pub fn compile(cx: &mut Compile<'_>, section: &ExpectSection) -> Option<Expect> {
        let own = cx.driver()?;
        let mut sound = true;
        let fields = [("unique", &section.unique), ("not_null", &section.not_null)];
        for (what, fields) in fields {
            for field in fields {
                sound &= cx.input_field(&own, field, what);
            }
        }
        for (field, values) in &section.accepted {
            let field = Spanned::new(values.span(), field.clone());
            sound &= cx.input_field(&own, &field, "accepted");
        }
        if let Some(rows) = &section.rows
            && let RowCount { min: Some(min), max: Some(max) } = *rows.get_ref()
            && min > max
        {
            let message = format!("`rows` of `expect` wants {min} rows or more, and {max} at most");
            let help = "no table has both; write the smaller number as `min`";
            cx.fail(rows.span(), message, Some(help.into()));
            sound = false;
        }
        let schema = match &section.matches_schema {
            Some(path) => Some(cx.schema(path, false)?),
            None => None,
        };
        let sql = match &section.sql {
            Some(query) => Some(OwnQuery::compile(cx, query)?),
            None => None,
        };
        let texts = |fields: &[Spanned<String>]| {
            fields.iter().map(|field| field.get_ref().clone()).collect::<Vec<_>>()
        };
        let accepted = section.accepted.iter();
        sound.then(|| Expect {
            key: own.key,
            rows: section.rows.as_ref().map(|rows| *rows.get_ref()),
            unique: texts(&section.unique),
            not_null: texts(&section.not_null),
            accepted: accepted.map(|(field, it)| (field.clone(), it.get_ref().clone())).collect(),
            schema,
            sql,
        })
    }

    /// Stands for a table that was held to this; another one of either is held anew.
    pub fn digest(&self, table: Digest) -> Digest {
        let told = json!([
            self.rows.map(|rows| (rows.min, rows.max)),
            self.unique,
            self.not_null,
            self.accepted,
            self.schema.as_ref().map(|schema| &schema.value),
            self.sql.as_ref().map(|sql| &sql.text),
        ]);
        Hasher::new("expect 1").part(told.to_string().as_bytes()).part(&table.0).finish()
    }

    /// What is not as it is expected, each with the first rows that show it; empty where all is.
    pub fn breaches<'s>(
        &'s self,
        table: &Artifact,
        store: &Store,
        scratch: &Path,
    ) -> Result<Vec<String>, StageError> {
        let mut found = Breaches { expect: self, of: Vec::new() };
        if let Some(RowCount { min, max }) = self.rows {
            if min.is_some_and(|min| table.rows < min) {
                let min = min.unwrap_or_default();
                found.of.push((format!("it has {} rows, fewer than {min}", table.rows), vec![]));
            }
            if max.is_some_and(|max| table.rows > max) {
                let max = max.unwrap_or_default();
                found.of.push((format!("it has {} rows, more than {max}", table.rows), vec![]));
            }
        }
        let mut seen: HashMap<&str, Seen> = HashMap::new();
        let new = |name: &'s String| (name.as_str(), Seen::new(scratch));
        seen.extend(self.unique.iter().map(new));
        if !(self.unique.is_empty()
            && self.not_null.is_empty()
            && self.accepted.is_empty()
            && self.schema.is_none())
        {
            for (number, row) in (1..).zip(store.rows(table)) {
                found.row(number, &row?, &mut seen)?;
            }
        }
        if let Some(sql) = &self.sql {
            let rows = sql.rows(table, store, &scratch.join("expect.db"), SHOWN)?;
            if !rows.is_empty() {
                let shown = rows.iter().map(shown).collect();
                found.of.push(("`sql` returns rows".to_owned(), shown));
            }
        }
        let line = |(what, rows): (String, Vec<String>)| match rows.is_empty() {
            true => what,
            false => format!("{what}: {}", rows.join("; ")),
        };
        Ok(found.of.into_iter().map(line).collect())
    }
}

struct Breaches<'a> {
    expect: &'a Expect,
    /// Each with the first rows that show it.
    of: Vec<(String, Vec<String>)>,
}

impl<'a> Breaches<'a> {
    fn row(
        &mut self,
        number: u64,
        row: &Row,
        seen: &mut HashMap<&'a str, Seen>,
    ) -> Result<(), StageError> {
        let expect = self.expect;
        let field = |name: &String| row.get(name).unwrap_or(&Value::Null);
        for name in expect.not_null.iter().filter(|name| field(name).is_null()) {
            self.add(format!("`{name}` is null"), row, "");
        }
        for (name, values) in &expect.accepted {
            if !values.contains(field(name)) {
                let told = format!(" has {}", field(name));
                self.add(format!("`{name}` is none of the accepted values"), row, &told);
            }
        }
        for name in expect.unique.iter().filter(|name| !field(name).is_null()) {
            let text = field(name).to_string();
            let Some(seen) = seen.get_mut(name.as_str()) else { continue };
            if let Some((before, _)) = seen.see(half(text.as_bytes()), (number, None))? {
                let told = format!(" has {text}, as row {before}");
                self.add(format!("`{name}` is not unique"), row, &told);
            }
        }
        if let Some(schema) = &expect.schema {
            let faults = schema.faults(&Value::Object(row.clone()));
            if let Some(first) = faults.first() {
                // Schemas are mostly of answers; this is a row.
                let first = first.strip_prefix("the answer: ").unwrap_or(first);
                self.add("it does not match its schema".to_owned(), row, &format!(": {first}"));
            }
        }
        Ok(())
    }

    fn add(&mut self, what: String, row: &Row, told: &str) {
        let shown = || format!("{}{told}", show_key(row, &self.expect.key));
        match self.of.iter_mut().find(|(known, _)| *known == what) {
            Some((_, rows)) if rows.len() >= SHOWN => {}
            Some((_, rows)) => rows.push(shown()),
            None => {
                let rows = vec![shown()];
                self.of.push((what, rows));
            }
        }
    }
}

fn shown(row: &Row) -> String {
    let text = Value::Object(row.clone()).to_string();
    match text.char_indices().nth(300) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
