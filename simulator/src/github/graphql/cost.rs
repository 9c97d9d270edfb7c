//! What a query costs by GitHub's rule: the requests that it takes to fill each connection, once for
//! every object that it may hang below, over a hundred.

use super::Request;
use super::execute::constant;
use super::schema::SCHEMA;
use graphql_parser::query::{Field, Selection, SelectionSet, TypeCondition};
use serde_json::Value;

#[derive(Default)]
pub struct Cost {
    requests: u64,
    /// Objects that the connections may hold, all in all.
    pub nodes: u64,
    /// The most rows that are asked of one connection.
    pub widest: u64,
}

impl Cost {
    /// Of a query that was checked.
    pub fn of(request: &Request) -> Cost {
        let mut cost = Cost::default();
        cost.add(request, request.selections, "Query", 1);
        cost
    }

    pub fn points(&self) -> u64 {
        (self.requests.saturating_add(50) / 100).max(1)
    }

    /// Adds what a selection on `times` objects of type `on` costs.
    fn add(
        &mut self,
        request: &Request,
        set: &SelectionSet<'static, String>,
        on: &str,
        times: u64,
    ) {
        for selection in &set.items {
            match selection {
                Selection::Field(field) => {
                    // `__typename` is in no type, and costs nothing.
                    let Some(known) = SCHEMA.field(on, &field.name) else { continue };
                    let times = self.rows(request, field, &known.name, times);
                    self.add(request, &field.selection_set, &known.name, times);
                }
                Selection::InlineFragment(fragment) => {
                    let to = fragment.type_condition.as_ref();
                    let to = to.map_or(on, |TypeCondition::On(to)| to.as_str());
                    self.add(request, &fragment.selection_set, to, times);
                }
                Selection::FragmentSpread(spread) => {
                    if let Some(fragment) = request.fragments.get(spread.fragment_name.as_str()) {
                        let TypeCondition::On(to) = &fragment.type_condition;
                        self.add(request, &fragment.selection_set, to, times);
                    }
                }
            }
        }
    }

    /// How many objects a field may lead to from each of `times`.
    fn rows(
        &mut self,
        request: &Request,
        field: &Field<'static, String>,
        kind: &str,
        times: u64,
    ) -> u64 {
        let argument = |wanted: &str| {
            let found = field.arguments.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| constant(value, &request.variables))
        };
        if kind.ends_with("Connection") {
            let bound = argument("first").or_else(|| argument("last"));
            let rows = bound.and_then(|bound| bound.as_u64()).unwrap_or(0);
            self.widest = self.widest.max(rows);
            let rows = times.saturating_mul(rows);
            self.requests = self.requests.saturating_add(times);
            self.nodes = self.nodes.saturating_add(rows);
            return rows;
        }
        match argument("ids") {
            Some(Value::Array(ids)) => times.saturating_mul(ids.len() as u64),
            _ => times,
        }
    }
}
