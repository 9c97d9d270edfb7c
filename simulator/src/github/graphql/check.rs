//! Checks a query against the schema before anything is executed, with GitHub's messages.

use super::Request;
use super::execute::constant;
use super::schema::SCHEMA;
use graphql_parser::Pos;
use graphql_parser::query::{
    Field, Selection, SelectionSet, Type, TypeCondition, Value as Literal,
};
use serde_json::{Value, json};

/// Deeper queries are refused: fragments that contain themselves would never end.
const DEEPEST: usize = 40;

struct Check<'r> {
    request: &'r Request<'r>,
    errors: Vec<Value>,
    /// Names from the operation down to the selection looked at.
    path: Vec<String>,
}

/// What is wrong with the request; variables left out get their defaults on the way.
pub fn check(request: &mut Request) -> Vec<Value> {
    let mut errors = Vec::new();
    for variable in request.declared {
        let given = request.variables.get(&variable.name).is_some_and(|value| !value.is_null());
        if given {
            continue;
        }
        if let Some(default) = &variable.default_value {
            request.variables.insert(variable.name.clone(), constant(default, &request.variables));
        } else if let Type::NonNullType(_) = variable.var_type {
            let message = format!(
                "Variable ${} of type {} was provided invalid value",
                variable.name, variable.var_type
            );
            errors.push(json!({"message": message, "locations": [place(variable.position)]}));
        }
    }
    let mut check = Check { request, errors, path: vec!["query".to_owned()] };
    check.selections(request.selections, "Query");
    check.errors
}

fn place(position: Pos) -> Value {
    json!({"line": position.line, "column": position.column})
}

impl Check<'_> {
    fn error(&mut self, position: Pos, code: &str, message: String) {
        self.errors.push(json!({
            "path": self.path, "extensions": {"code": code},
            "locations": [place(position)], "message": message
        }));
    }

    fn selections(&mut self, set: &SelectionSet<'static, String>, on: &str) {
        if self.path.len() > DEEPEST {
            return self.error(set.span.0, "tooDeep", "Query is too deep".to_owned());
        }
        for selection in &set.items {
            match selection {
                Selection::Field(field) => self.field(field, on),
                Selection::InlineFragment(fragment) => {
                    let to = fragment.type_condition.as_ref();
                    let to = to.map_or(on, |TypeCondition::On(name)| name.as_str());
                    self.fragment(
                        fragment.position,
                        &format!("... on {to}"),
                        to,
                        &fragment.selection_set,
                    );
                }
                Selection::FragmentSpread(spread) => {
                    let name = spread.fragment_name.as_str();
                    match self.request.fragments.get(name).copied() {
                        Some(fragment) => {
                            let TypeCondition::On(to) = &fragment.type_condition;
                            let step = format!("fragment {name}");
                            self.fragment(spread.position, &step, to, &fragment.selection_set);
                        }
                        None => {
                            let message = format!("Fragment {name} was used, but not defined");
                            self.error(spread.position, "useAndDefineFragment", message);
                        }
                    }
                }
            }
        }
    }

    fn fragment(
        &mut self,
        position: Pos,
        step: &str,
        to: &str,
        set: &SelectionSet<'static, String>,
    ) {
        if !SCHEMA.is_composite(to) {
            let message = format!("No such type {to}, so it can't be a fragment condition");
            return self.error(position, "undefinedType", message);
        }
        self.path.push(step.to_owned());
        self.selections(set, to);
        self.path.pop();
    }

    fn field(&mut self, field: &Field<'static, String>, on: &str) {
        let name = field.name.as_str();
        self.path.push(field.alias.as_deref().unwrap_or(name).to_owned());
        for directive in &field.directives {
            directive.arguments.iter().for_each(|(_, value)| self.variables(field.position, value));
        }
        match SCHEMA.field(on, name) {
            _ if name == "__typename" => {}
            None => {
                let message = format!("Field '{name}' doesn't exist on type '{on}'");
                self.error(field.position, "undefinedField", message);
            }
            Some(known) => {
                for (argument, value) in &field.arguments {
                    if !known.arguments.contains(argument) {
                        let message =
                            format!("Field '{name}' doesn't accept argument '{argument}'");
                        self.error(field.position, "argumentNotAccepted", message);
                    }
                    self.variables(field.position, value);
                }
                let given =
                    |wanted: &&String| field.arguments.iter().any(|(name, _)| name == *wanted);
                let missing = known.required_arguments.iter().filter(|wanted| !given(wanted));
                let missing: Vec<&str> = missing.map(String::as_str).collect();
                if !missing.is_empty() {
                    let missing = missing.join(", ");
                    let message =
                        format!("Field '{name}' is missing required arguments: {missing}");
                    self.error(field.position, "missingRequiredArguments", message);
                }
                self.below(field, &known.name);
            }
        }
        self.path.pop();
    }

    /// The selections of a field whose type is `kind`.
    fn below(&mut self, field: &Field<'static, String>, kind: &str) {
        let name = field.name.as_str();
        let message = match (SCHEMA.is_composite(kind), field.selection_set.items.is_empty()) {
            (true, false) => return self.selections(&field.selection_set, kind),
            (false, true) => return,
            (true, true) => format!(
                "Field must have selections (field '{name}' returns {kind} but has no selections. \
                 Did you mean '{name} {{ ... }}'?)"
            ),
            (false, false) => format!(
                "Selections can't be made on scalars (field '{name}' returns {kind} but has \
                 selections)"
            ),
        };
        self.error(field.position, "selectionMismatch", message);
    }

    /// Whether the variables in an argument are declared.
    fn variables(&mut self, position: Pos, value: &Literal<String>) {
        let declared = self.request.declared;
        match value {
            Literal::Variable(name) if !declared.iter().any(|known| known.name == *name) => {
                let message =
                    format!("Variable ${name} is used by anonymous query but not declared");
                self.error(position, "variableNotDefined", message);
            }
            Literal::List(values) => {
                values.iter().for_each(|value| self.variables(position, value));
            }
            Literal::Object(values) => {
                values.values().for_each(|value| self.variables(position, value));
            }
            _ => {}
        }
    }
}
