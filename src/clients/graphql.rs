//! GraphQL queries that people write for one row, and how many of them are sent as one.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use graphql_parser::Pos;
use graphql_parser::query::{
    Definition, Document, Field, OperationDefinition, Query as AstQuery, Selection, SelectionSet,
    Value, VariableDefinition, parse_query,
};
use thiserror::Error;

use crate::table::Row;

/// A query for one row.
#[derive(Clone, Debug)]
pub struct Query {
    /// As it was written; what a row's key is made from.
    pub text: String,
    /// Its variables: fields of the input row by the same name.
    pub variables: Vec<String>,
    /// What the answer's `data` holds.
    pub fields: Vec<String>,
    /// For how many rows at once the server answers in time, as far as that was seen.
    pub most: Arc<AtomicUsize>,
}

/// Why a text is no query for one row.
#[derive(Debug, Error)]
pub enum QueryError {
    #[error("the query does not parse: {what}")]
    Parse { line: Option<usize>, what: String },
    #[error("{0}")]
    Shape(&'static str),
}

impl QueryError {
    /// The line of the fault, where the parser tells it.
    pub fn line(&self) -> Option<usize> {
        match self {
            QueryError::Parse { line, .. } => *line,
            QueryError::Shape(_) => None,
        }
    }

    /// What to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            // Where there is nothing, nothing stands before it.
            QueryError::Parse { what, .. } if !what.contains("expected {, query") => {
                "look at what stands before it, too: each `{` wants its `}`"
            }
            _ => "write one query: `query($id: ID!) { node(id: $id) { id } }`",
        }
    }

    /// From what the parser says: a line with the place, then what is there and what is wanted.
    fn parse(text: &str) -> QueryError {
        let (_, told) = text.split_once("Parse error at ").unwrap_or(("", text));
        let line = told.split(':').next().and_then(|line| line.parse().ok());
        let lines = told.lines().skip(usize::from(line.is_some())).map(str::trim);
        let lines: Vec<String> = lines
            .filter(|line| !line.is_empty())
            .map(|line| {
                let mut letters = line.chars();
                let first = letters.next().map(|first| first.to_ascii_lowercase());
                first.into_iter().chain(letters).collect()
            })
            .collect();
        QueryError::Parse { line, what: lines.join(", ") }
    }
}

impl Query {
    pub fn parse(text: &str) -> Result<Query, QueryError> {
        let document: Document<'_, String> =
            parse_query(text).map_err(|error| QueryError::parse(&error.to_string()))?;
        let (variables, selection) = operation(&document)?;
        for definition in &document.definitions {
            // Shared by all rows of a batch, it could take the variables of none of them.
            if let Definition::Fragment(fragment) = definition
                && fragment.to_string().contains('$')
            {
                return Err(QueryError::Shape(
                    "a fragment uses a variable; write out its fields where they are used",
                ));
            }
        }
        let mut fields = Vec::new();
        for item in &selection.items {
            let Selection::Field(field) = item else {
                return Err(QueryError::Shape(
                    "the query's outermost level holds a fragment; name its fields there",
                ));
            };
            fields.push(field.alias.clone().unwrap_or_else(|| field.name.clone()));
        }
        let variables = variables.iter().map(|variable| variable.name.clone()).collect();
        let most = Arc::new(AtomicUsize::new(usize::MAX));
        Ok(Query { text: text.to_owned(), variables, fields, most })
    }
}

type Operation<'a, 'd> = (&'a [VariableDefinition<'d, String>], &'a SelectionSet<'d, String>);

fn operation<'a, 'd>(document: &'a Document<'d, String>) -> Result<Operation<'a, 'd>, QueryError> {
    let mut found = None;
    for definition in &document.definitions {
        let Definition::Operation(operation) = definition else {
            continue;
        };
        let this = match operation {
            OperationDefinition::Query(query) if !query.directives.is_empty() => {
                return Err(QueryError::Shape(
                    "a directive on the query itself has no meaning here",
                ));
            }
            OperationDefinition::Query(query) => {
                (&query.variable_definitions[..], &query.selection_set)
            }
            OperationDefinition::SelectionSet(selection) => (&[][..], selection),
            _ => return Err(QueryError::Shape("only a `query` can be asked")),
        };
        if found.replace(this).is_some() {
            return Err(QueryError::Shape("the file holds more than one query"));
        }
    }
    found.ok_or(QueryError::Shape("the file holds no query"))
}

/// One document that asks `query` for each of `rows`: its fields and variables renamed `r0_...`,
/// `r1_...`. `query` was parsed before, so it parses.
pub(super) fn combine(query: &Query, rows: &[&Row]) -> (String, Row) {
    let document: Document<'_, String> = parse_query(&query.text).expect("it was parsed before");
    let (definitions, selection) = operation(&document).expect("its shape was checked before");
    let mut variables = Row::new();
    let mut together = AstQuery {
        position: selection.span.0,
        name: None,
        variable_definitions: Vec::new(),
        directives: Vec::new(),
        selection_set: SelectionSet { span: selection.span, items: Vec::new() },
    };
    for (place, row) in rows.iter().enumerate() {
        let prefix = format!("r{place}_");
        for definition in definitions {
            let mut definition = definition.clone();
            let value = row.get(&definition.name).cloned().unwrap_or_default();
            definition.name = format!("{prefix}{}", definition.name);
            variables.insert(definition.name.clone(), value);
            together.variable_definitions.push(definition);
        }
        for item in &selection.items {
            let Selection::Field(field) = item else {
                continue;
            };
            let mut field = field.clone();
            let name = field.alias.take().unwrap_or_else(|| field.name.clone());
            field.alias = Some(format!("{prefix}{name}"));
            rename(&mut field, &prefix);
            together.selection_set.items.push(Selection::Field(field));
        }
    }
    together.selection_set.items.push(Selection::Field(cost(selection.span.0)));
    let fragments = document
        .definitions
        .iter()
        .filter(|definition| matches!(definition, Definition::Fragment(_)));
    let mut definitions = vec![Definition::Operation(OperationDefinition::Query(together))];
    definitions.extend(fragments.cloned());
    (Document { definitions }.to_string(), variables)
}

/// What the request takes of the quota: GitHub tells it for nothing.
fn cost<'d>(position: Pos) -> Field<'d, String> {
    let field = |name: &str, items| Field {
        position,
        alias: None,
        name: name.to_owned(),
        arguments: Vec::new(),
        directives: Vec::new(),
        selection_set: SelectionSet { span: (position, position), items },
    };
    field("rateLimit", vec![Selection::Field(field("cost", Vec::new()))])
}

fn rename(field: &mut Field<'_, String>, prefix: &str) {
    for (_, value) in &mut field.arguments {
        rename_value(value, prefix);
    }
    for directive in &mut field.directives {
        for (_, value) in &mut directive.arguments {
            rename_value(value, prefix);
        }
    }
    rename_set(&mut field.selection_set, prefix);
}

fn rename_set(selection: &mut SelectionSet<'_, String>, prefix: &str) {
    for item in &mut selection.items {
        match item {
            Selection::Field(field) => rename(field, prefix),
            Selection::InlineFragment(fragment) => rename_set(&mut fragment.selection_set, prefix),
            Selection::FragmentSpread(_) => {}
        }
    }
}

fn rename_value(value: &mut Value<'_, String>, prefix: &str) {
    match value {
        Value::Variable(name) => *name = format!("{prefix}{name}"),
        Value::List(values) => values.iter_mut().for_each(|value| rename_value(value, prefix)),
        Value::Object(fields) => {
            fields.values_mut().for_each(|value| rename_value(value, prefix));
        }
        _ => {}
    }
}
