//! Connections: which rows `first`, `after`, `last` and `before` mean, and their cursors.

use super::objects::{Fail, Found, Object, Rows};
use crate::item::Item;
use crate::timeline::Handle;
use crate::world::{Repo, Row};
use serde_json::{Map, Value, json};
use std::ops::Range;
use std::rc::Rc;

/// A field with its arguments, of which some say what to page to.
pub struct Paging<'p> {
    pub name: &'p str,
    pub arguments: &'p Map<String, Value>,
    /// Whether the rows are asked for, and not their number alone.
    pub rows: bool,
}

const CURSOR: &str = "Y3Vyc29yOnYyOp";

pub fn cursor(place: usize) -> String {
    format!("{CURSOR}{place:08X}")
}

impl Paging<'_> {
    pub fn text(&self, name: &str) -> &str {
        self.arguments.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    pub fn rows<'a>(&self, of: &'static str, all: Vec<Object<'a>>) -> Result<Found<'a>, Fail> {
        let span = self.span(all.len())?;
        Ok(self.connection(of, all.len(), span.clone(), all[span].to_vec()))
    }

    /// The issues or pull requests of a repository. Only the rows of the page are made.
    pub fn items<'a>(&self, repo: &'a Repo, pulls: bool) -> Result<Found<'a>, Fail> {
        let texts = |value: Option<&Value>| -> Option<Vec<String>> {
            match value? {
                Value::Array(items) => {
                    Some(items.iter().filter_map(Value::as_str).map(str::to_owned).collect())
                }
                one => Some(vec![one.as_str()?.to_owned()]),
            }
        };
        let states = texts(self.arguments.get("states"));
        let labels = texts(self.arguments.get("labels"));
        let order = self.arguments.get("orderBy").unwrap_or(&Value::Null);
        let by_update = order["field"] == "UPDATED_AT";
        let filter = self.arguments.get("filterBy").unwrap_or(&Value::Null);
        let since = filter["since"].as_str().and_then(crate::dates::parse).unwrap_or(i64::MIN);
        let wanted = |row: &&Row| {
            let state = match (row.merged, row.closed) {
                (true, _) => "MERGED",
                (false, true) => "CLOSED",
                (false, false) => "OPEN",
            };
            let labelled = |labels: &Vec<String>| {
                let have = repo.labels(row.number);
                labels.iter().any(|label| have.contains(label))
            };
            row.pull == pulls
                && row.updated >= since
                && states.as_ref().is_none_or(|states| states.iter().any(|wanted| wanted == state))
                && labels.as_ref().is_none_or(labelled)
        };
        let rows = repo.rows().iter().filter(wanted);
        let mut keys: Vec<(i64, u64)> = rows
            .map(|row| (if by_update { row.updated } else { row.created }, row.number))
            .collect();
        keys.sort_unstable();
        if order["direction"] == "DESC" {
            keys.reverse();
        }
        let span = self.span(keys.len())?;
        let items = keys[span.clone()].iter().filter_map(|(_, number)| repo.item(*number));
        let nodes =
            items.map(|item: std::sync::Arc<Item>| Object::Item(Handle { repo, item })).collect();
        Ok(self.connection(if pulls { "PullRequest" } else { "Issue" }, keys.len(), span, nodes))
    }

    fn connection<'a>(
        &self,
        of: &'static str,
        total: usize,
        span: Range<usize>,
        nodes: Vec<Object<'a>>,
    ) -> Found<'a> {
        let rows = Rows { of, total, start: span.start, reach: total, nodes };
        Found::Object(Object::Rows(Rc::new(rows)))
    }

    /// The places of the rows asked for among `total`.
    pub fn span(&self, total: usize) -> Result<Range<usize>, Fail> {
        if !self.rows {
            return Ok(0..0);
        }
        let name = self.name;
        let (first, last) = (self.count("first")?, self.count("last")?);
        let (mut start, mut end) = (0, total);
        if let Some(after) = self.place("after")? {
            start = after.saturating_add(1).min(total);
        }
        if let Some(before) = self.place("before")? {
            end = before.clamp(start, total);
        }
        match (first, last) {
            (None, None) => {
                return Err(Fail {
                    kind: "MISSING_PAGINATION_BOUNDARIES",
                    message: format!(
                        "You must provide a `first` or `last` value to properly paginate the `{name}` connection."
                    ),
                });
            }
            (Some(first), _) => end = end.min(start + first),
            (None, Some(last)) => start = start.max(end.saturating_sub(last)),
        }
        Ok(start..end)
    }

    fn count(&self, side: &str) -> Result<Option<usize>, Fail> {
        let (name, Some(count)) = (self.name, self.arguments.get(side)) else {
            return Ok(None);
        };
        match count.as_u64() {
            Some(count) if count <= 100 => Ok(Some(count as usize)),
            Some(count) => Err(Fail {
                kind: "EXCESSIVE_PAGINATION",
                message: format!(
                    "Requesting {count} records on the `{name}` connection exceeds the `{side}` limit of 100 records."
                ),
            }),
            None => Err(Fail {
                kind: "INVALID_PAGINATION",
                message: format!(
                    "`{side}` on the `{name}` connection must be a number of 0 to 100."
                ),
            }),
        }
    }

    fn place(&self, side: &str) -> Result<Option<usize>, Fail> {
        let Some(text) = self.arguments.get(side).and_then(Value::as_str) else {
            return Ok(None);
        };
        let place = text.strip_prefix(CURSOR).and_then(|hex| usize::from_str_radix(hex, 16).ok());
        let message = || format!("`{text}` does not appear to be a valid cursor.");
        let fail = || Fail { kind: "INVALID_CURSOR_ARGUMENTS", message: message() };
        place.map(Some).ok_or_else(fail)
    }
}

/// A field of a connection.
pub fn field<'a>(rows: &Rc<Rows<'a>>, name: &str) -> Found<'a> {
    match name {
        "pageInfo" => Found::Object(Object::PageInfo(rows.clone())),
        "nodes" => Found::List(rows.nodes.iter().cloned().map(Ok).collect()),
        "edges" => {
            let places = rows.start..;
            let nodes = rows.nodes.iter().cloned().map(Box::new);
            let edges =
                places.zip(nodes).map(|(place, node)| Ok(Object::Edge(rows.of, place, node)));
            Found::List(edges.collect())
        }
        _ => Found::Value(json!(rows.total)),
    }
}

/// A field of a connection's `pageInfo`.
pub fn info(rows: &Rows, name: &str) -> Value {
    let end = rows.start + rows.nodes.len();
    let place = match name {
        "hasNextPage" => return json!(end < rows.reach),
        "hasPreviousPage" => return json!(rows.start > 0),
        "endCursor" => end.checked_sub(1),
        _ => Some(rows.start),
    };
    place.filter(|_| !rows.nodes.is_empty()).map_or(Value::Null, |place| json!(cursor(place)))
}
