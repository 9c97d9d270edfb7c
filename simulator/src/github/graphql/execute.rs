//! Executes a checked query over the objects, by the rules of the GraphQL specification.

use super::Request;
use super::objects::{Fail, Found, Object, Resolver};
use super::schema::SCHEMA;
use crate::limit::Standing;
use crate::world::World;
use graphql_parser::query::{
    Directive, Field, Selection, SelectionSet, TypeCondition, Value as Literal,
};
use serde_json::{Map, Value, json};

struct Run<'r> {
    request: &'r Request<'r>,
    resolver: Resolver<'r>,
    errors: Vec<Value>,
    path: Vec<Value>,
}

/// A field of the answer, and everything that the query asks of it (it may be asked twice).
type Asked<'r> = (&'r str, Vec<&'r Field<'static, String>>);

pub fn execute(world: &World, standing: &Standing, request: &Request) -> (Value, Vec<Value>) {
    let resolver = Resolver { world, standing };
    let mut run = Run { request, resolver, errors: Vec::new(), path: Vec::new() };
    let data = run.object(&Object::Query, &[request.selections]);
    (data.unwrap_or(Value::Null), run.errors)
}

/// The JSON of a literal; a variable nobody gave is null.
pub fn constant(literal: &Literal<String>, variables: &Map<String, Value>) -> Value {
    match literal {
        Literal::Variable(name) => variables.get(name).cloned().unwrap_or(Value::Null),
        Literal::Int(number) => json!(number.as_i64()),
        Literal::Float(number) => json!(number),
        Literal::String(text) | Literal::Enum(text) => json!(text),
        Literal::Boolean(truth) => json!(truth),
        Literal::Null => Value::Null,
        Literal::List(items) => items.iter().map(|item| constant(item, variables)).collect(),
        Literal::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), constant(value, variables))).collect()
        }
    }
}

impl<'r> Run<'r> {
    /// The selected fields of `object`; nothing where a field that must not be null is.
    fn object(
        &mut self,
        object: &Object<'r>,
        sets: &[&'r SelectionSet<'static, String>],
    ) -> Option<Value> {
        let kind = object.kind();
        let mut asked = Vec::new();
        sets.iter().for_each(|set| self.collect(set, &kind, &mut asked));
        let mut out = Map::new();
        for (key, fields) in asked {
            let first = fields[0];
            if first.name == "__typename" {
                out.insert(key.to_owned(), json!(kind));
                continue;
            }
            self.path.push(json!(key));
            let value = self.field(object, &kind, &fields);
            self.path.pop();
            out.insert(key.to_owned(), value?);
        }
        Some(Value::Object(out))
    }

    /// Gathers the fields that a selection set asks of an object of type `kind`.
    fn collect(
        &self,
        set: &'r SelectionSet<'static, String>,
        kind: &str,
        asked: &mut Vec<Asked<'r>>,
    ) {
        for selection in &set.items {
            match selection {
                Selection::Field(field) if self.included(&field.directives) => {
                    let key = field.alias.as_deref().unwrap_or(&field.name);
                    match asked.iter_mut().find(|(have, _)| *have == key) {
                        Some((_, fields)) => fields.push(field),
                        None => asked.push((key, vec![field])),
                    }
                }
                Selection::InlineFragment(fragment) if self.included(&fragment.directives) => {
                    let on = fragment.type_condition.as_ref();
                    if on.is_none_or(|TypeCondition::On(on)| SCHEMA.is(kind, on)) {
                        self.collect(&fragment.selection_set, kind, asked);
                    }
                }
                Selection::FragmentSpread(spread) if self.included(&spread.directives) => {
                    let name = spread.fragment_name.as_str();
                    if let Some(fragment) = self.request.fragments.get(name).copied() {
                        let TypeCondition::On(on) = &fragment.type_condition;
                        if SCHEMA.is(kind, on) {
                            self.collect(&fragment.selection_set, kind, asked);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn included(&self, directives: &[Directive<String>]) -> bool {
        directives.iter().all(|directive| {
            let argument = directive.arguments.iter().find(|(name, _)| name == "if");
            let truth = argument.map(|(_, value)| constant(value, &self.request.variables));
            match directive.name.as_str() {
                "skip" => truth != Some(Value::Bool(true)),
                "include" => truth != Some(Value::Bool(false)),
                _ => true,
            }
        })
    }

    fn field(
        &mut self,
        object: &Object<'r>,
        kind: &str,
        fields: &[&'r Field<'static, String>],
    ) -> Option<Value> {
        let first = fields[0];
        let required = SCHEMA.field(kind, &first.name).is_some_and(|field| field.required);
        let mut arguments = Map::new();
        for (name, value) in &first.arguments {
            let value = constant(value, &self.request.variables);
            if !value.is_null() {
                arguments.insert(name.clone(), value);
            }
        }
        let sets: Vec<&SelectionSet<'static, String>> =
            fields.iter().map(|field| &field.selection_set).collect();
        let rows = sets.iter().flat_map(|set| &set.items).any(|selection| match selection {
            Selection::Field(field) => {
                matches!(field.name.as_str(), "nodes" | "edges" | "pageInfo")
            }
            _ => false,
        });
        let value = match self.resolver.field(object, &first.name, &arguments, rows) {
            Ok(Found::Value(value)) => Some(value).filter(|value| !value.is_null()),
            Ok(Found::Object(object)) => self.object(&object, &sets),
            Ok(Found::List(objects)) => Some(self.list(objects, &sets)),
            Err(fail) => {
                self.fail(fail, first);
                None
            }
        };
        match value {
            None if required => None,
            value => Some(value.unwrap_or(Value::Null)),
        }
    }

    fn list(
        &mut self,
        objects: Vec<Result<Object<'r>, Fail>>,
        sets: &[&'r SelectionSet<'static, String>],
    ) -> Value {
        let mut list = Vec::new();
        for (nth, object) in objects.into_iter().enumerate() {
            self.path.push(json!(nth));
            let value = match object {
                Ok(object) => self.object(&object, sets),
                Err(fail) => {
                    let error =
                        json!({"type": fail.kind, "path": self.path, "message": fail.message});
                    self.errors.push(error);
                    None
                }
            };
            self.path.pop();
            list.push(value.unwrap_or(Value::Null));
        }
        Value::Array(list)
    }

    fn fail(&mut self, fail: Fail, field: &Field<'static, String>) {
        let place = json!({"line": field.position.line, "column": field.position.column});
        self.errors.push(json!({
            "type": fail.kind, "path": self.path, "locations": [place], "message": fail.message
        }));
    }
}
