//! `POST /graphql`: a document is parsed, checked against the schema as a whole, then executed.

mod check;
mod cost;
mod execute;
mod items;
mod leaves;
mod objects;
mod paging;
mod schema;

use super::Rules;
use crate::ask::{Answer, Ask};
use crate::limit::Limits;
use crate::world::World;
use cost::Cost;
use graphql_parser::query::{
    Definition, FragmentDefinition, OperationDefinition, SelectionSet, VariableDefinition,
    parse_query,
};
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// GitHub's page for a request that took too long.
const UNICORN: &str = "<!DOCTYPE html>\n<html>\n  <head><title>Unicorn! &middot; GitHub</title></head>\n  \
    <body><p><strong>We couldn't respond to your request in time.</strong></p></body>\n</html>\n";

/// The parts of a document that executing it takes.
pub struct Request<'a> {
    selections: &'a SelectionSet<'static, String>,
    fragments: HashMap<&'a str, &'a FragmentDefinition<'static, String>>,
    variables: Map<String, Value>,
    declared: &'a [VariableDefinition<'static, String>],
}

/// The answer, and the points that it costs.
pub fn answer(world: &World, limits: &Limits, rules: &Rules, ask: &Ask) -> (Answer, u64) {
    let mut cost = Cost::default();
    let answer = answered(world, limits, rules, ask, &mut cost);
    (answer, cost.points())
}

fn answered(world: &World, limits: &Limits, rules: &Rules, ask: &Ask, cost: &mut Cost) -> Answer {
    let Ok(body) = serde_json::from_slice::<Value>(&ask.body) else {
        return super::problem(400, "Problems parsing JSON");
    };
    let Some(text) = body["query"].as_str() else {
        return failed(
            json!({"message": "A query attribute must be specified and must be a string."}),
        );
    };
    let document = match parse_query::<String>(text) {
        Ok(document) => document.into_static(),
        Err(error) => return failed(json!({"message": format!("Parse error on query: {error}")})),
    };
    let mut fragments = HashMap::new();
    let mut operation = None;
    for definition in &document.definitions {
        match definition {
            Definition::Fragment(fragment) => {
                fragments.insert(fragment.name.as_str(), fragment);
            }
            Definition::Operation(found) => {
                let name = match found {
                    OperationDefinition::Query(query) => query.name.as_deref(),
                    _ => None,
                };
                let wanted = body["operationName"].as_str();
                if operation.is_none() || wanted.is_some() && wanted == name {
                    operation = Some(found);
                }
            }
        }
    }
    let (selections, declared): (_, &[_]) = match operation {
        Some(OperationDefinition::Query(query)) => {
            (&query.selection_set, &query.variable_definitions)
        }
        Some(OperationDefinition::SelectionSet(selections)) => (selections, &[]),
        Some(_) => return failed(json!({"message": "Only queries are simulated"})),
        None => return failed(json!({"message": "No query document supplied"})),
    };
    let variables = body["variables"].as_object().cloned().unwrap_or_default();
    let mut request = Request { selections, fragments, variables, declared };
    let errors = check::check(&mut request);
    if !errors.is_empty() {
        return Answer::value(200, &json!({"errors": errors}));
    }
    *cost = Cost::of(&request);
    let width = cost.widest.max(selections.items.len() as u64);
    if rules.batch_most.is_some_and(|most| width > most) {
        return Answer::new(502, "text/html; charset=utf-8", UNICORN.into());
    }
    let standing = limits.standing("graphql", cost.points(), cost.nodes);
    let (data, errors) = execute::execute(world, &standing, &request);
    let answer = match errors.is_empty() {
        true => json!({"data": data}),
        false => json!({"data": data, "errors": errors}),
    };
    Answer::value(200, &answer)
}

fn failed(error: Value) -> Answer {
    Answer::value(200, &json!({"errors": [error]}))
}
