//! The types of `github.graphql`, looked up by name.

use graphql_parser::schema::{Definition, Field, Type, TypeDefinition, parse_schema};
use std::collections::HashMap;
use std::sync::LazyLock;

pub static SCHEMA: LazyLock<Schema> =
    LazyLock::new(|| Schema::read(include_str!("../../shapes/github.graphql")));

#[derive(Default)]
pub struct Schema {
    /// The fields of every object type and interface.
    types: HashMap<String, HashMap<String, FieldType>>,
    unions: HashMap<String, Vec<String>>,
    interfaces: HashMap<String, Vec<String>>,
}

pub struct FieldType {
    /// The named type behind lists and exclamation marks.
    pub name: String,
    pub required: bool,
    pub arguments: Vec<String>,
    pub required_arguments: Vec<String>,
}

impl Schema {
    fn read(text: &'static str) -> Schema {
        let mut schema = Schema::default();
        // The text is part of this program; a mistake in it shows in the first test.
        let document = parse_schema::<String>(text).expect("github.graphql is a GraphQL schema");
        for definition in document.definitions {
            let Definition::TypeDefinition(definition) = definition else {
                continue;
            };
            match definition {
                TypeDefinition::Object(object) => {
                    for interface in object.implements_interfaces {
                        schema.interfaces.entry(interface).or_default().push(object.name.clone());
                    }
                    schema
                        .types
                        .insert(object.name, object.fields.into_iter().map(field).collect());
                }
                TypeDefinition::Interface(interface) => {
                    let fields = interface.fields.into_iter().map(field).collect();
                    schema.types.insert(interface.name, fields);
                }
                TypeDefinition::Union(union) => {
                    schema.unions.insert(union.name, union.types);
                }
                _ => {}
            }
        }
        schema
    }

    pub fn field(&self, on: &str, name: &str) -> Option<&FieldType> {
        self.types.get(on)?.get(name)
    }

    /// Whether the type is an object, interface or union: it has selections.
    pub fn is_composite(&self, name: &str) -> bool {
        self.types.contains_key(name) || self.unions.contains_key(name)
    }

    /// Whether a value of type `concrete` is also a `wider`.
    pub fn is(&self, concrete: &str, wider: &str) -> bool {
        let among = |types: Option<&Vec<String>>| {
            types.is_some_and(|types| types.iter().any(|name| name == concrete))
        };
        concrete == wider || among(self.unions.get(wider)) || among(self.interfaces.get(wider))
    }
}

fn field(field: Field<'_, String>) -> (String, FieldType) {
    let is_required = |kind: &Type<'_, String>| matches!(kind, Type::NonNullType(_));
    let required = field.arguments.iter().filter(|argument| is_required(&argument.value_type));
    let field_type = FieldType {
        required: is_required(&field.field_type),
        required_arguments: required.map(|argument| argument.name.clone()).collect(),
        arguments: field.arguments.iter().map(|argument| argument.name.clone()).collect(),
        name: named(&field.field_type).to_owned(),
    };
    (field.name, field_type)
}

fn named<'a>(kind: &'a Type<'_, String>) -> &'a str {
    match kind {
        Type::NamedType(name) => name,
        Type::ListType(inner) | Type::NonNullType(inner) => named(inner),
    }
}
