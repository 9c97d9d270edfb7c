//! Makes a value that is valid against a JSON Schema.

use super::hints::Hints;
use super::numbers::{integer, number};
use super::pattern::matching;
use crate::dice::Dice;
use serde_json::{Map, Value};

pub struct Maker<'a> {
    root: &'a Value,
    dice: Dice,
    hints: Hints<'a>,
    /// The file named last: a function beside it is one of that file's.
    file: Option<String>,
    /// How many more values may be made.
    left: usize,
}

/// From here on only what is required is made, so that recursive schemas end.
const DEEP: usize = 8;
/// A schema that requires itself has no finite value; here it gets null.
const DEEPEST: usize = 48;

/// A schema that requires itself twice over would fill the memory before it is deep.
const MOST: usize = 50_000;

const WORDS: [&str; 16] = [
    "cache",
    "scheduler",
    "kernel",
    "crash",
    "memory",
    "batch",
    "tokens",
    "stride",
    "loading",
    "wrong",
    "missing",
    "bounds",
    "check",
    "buffer",
    "device",
    "shape",
];

impl<'a> Maker<'a> {
    pub fn new(root: &'a Value, dice: Dice, hints: Hints<'a>) -> Maker<'a> {
        Maker { root, dice, hints, file: None, left: MOST }
    }

    pub fn make(&mut self, schema: &Value) -> Value {
        self.value(schema, "", 0)
    }

    fn value(&mut self, schema: &Value, name: &str, depth: usize) -> Value {
        if depth > DEEPEST || self.left == 0 {
            return Value::Null;
        }
        self.left -= 1;
        let Value::Object(keys) = schema else {
            return if *schema == Value::Bool(true) {
                self.text(&Map::new(), name)
            } else {
                Value::Null
            };
        };
        if let Some(target) = keys.get("$ref").and_then(Value::as_str) {
            let target = target.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
            let mut merged = target.and_then(Value::as_object).cloned().unwrap_or_default();
            merge(&mut merged, without(keys, "$ref"));
            return self.value(&Value::Object(merged), name, depth + 1);
        }
        if let Some(value) = keys.get("const") {
            return value.clone();
        }
        if let Some(options) = keys.get("enum").and_then(Value::as_array).filter(|o| !o.is_empty())
        {
            return self.dice.pick(options).clone();
        }
        for choice in ["anyOf", "oneOf"] {
            if let Some(branches) =
                keys.get(choice).and_then(Value::as_array).filter(|b| !b.is_empty())
            {
                let branch = self.branch(branches, depth);
                let mut merged = without(keys, choice);
                merge(&mut merged, self.resolved(&branch));
                return self.value(&Value::Object(merged), name, depth + 1);
            }
        }
        if let Some(parts) = keys.get("allOf").and_then(Value::as_array) {
            let mut merged = without(keys, "allOf");
            for part in parts {
                merge(&mut merged, self.resolved(part));
            }
            return self.value(&Value::Object(merged), name, depth + 1);
        }
        match self.kind(keys, depth) {
            "object" => self.object(keys, depth),
            "array" => self.array(keys, name, depth),
            "integer" => integer(keys, &mut self.dice),
            "number" => number(keys, &mut self.dice),
            "boolean" => Value::Bool(self.dice.chance(50)),
            "null" => Value::Null,
            _ => self.text(keys, name),
        }
    }

    /// One of the branches; deep down the simplest, which is the way out of a recursion.
    fn branch(&mut self, branches: &[Value], depth: usize) -> Value {
        let nothing = |branch: &&Value| branch["type"] == "null";
        let simple = |branch: &&Value| branch.get("$ref").is_none();
        let out = (depth >= DEEP)
            .then(|| branches.iter().find(nothing).or_else(|| branches.iter().find(simple)))
            .flatten();
        out.unwrap_or_else(|| self.dice.pick(branches)).clone()
    }

    /// The keys of a schema behind its references.
    fn resolved(&self, schema: &Value) -> Map<String, Value> {
        let mut keys = schema.as_object().cloned().unwrap_or_default();
        for _ in 0..DEEP {
            let Some(target) = keys.get("$ref").and_then(Value::as_str) else {
                break;
            };
            let target = target.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
            let mut merged = target.and_then(Value::as_object).cloned().unwrap_or_default();
            merge(&mut merged, without(&keys, "$ref"));
            keys = merged;
        }
        keys
    }

    fn kind<'s>(&mut self, keys: &'s Map<String, Value>, depth: usize) -> &'s str {
        match keys.get("type") {
            Some(Value::String(kind)) => return kind,
            Some(Value::Array(kinds)) if !kinds.is_empty() => {
                let null = kinds.iter().find(|kind| *kind == "null").filter(|_| depth >= DEEP);
                let kind = null.unwrap_or_else(|| self.dice.pick(kinds));
                return kind.as_str().unwrap_or("string");
            }
            _ => {}
        }
        let has = |names: &[&str]| names.iter().any(|name| keys.contains_key(*name));
        if has(&["properties", "required", "additionalProperties", "minProperties"]) {
            "object"
        } else if has(&["items", "prefixItems", "minItems", "maxItems"]) {
            "array"
        } else if has(&["minimum", "maximum", "multipleOf", "exclusiveMinimum", "exclusiveMaximum"])
        {
            "number"
        } else {
            "string"
        }
    }

    fn object(&mut self, keys: &Map<String, Value>, depth: usize) -> Value {
        let required: Vec<&str> = keys
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let least = keys.get("minProperties").and_then(Value::as_u64).unwrap_or(0) as usize;
        let most = keys.get("maxProperties").and_then(Value::as_u64).unwrap_or(u64::MAX) as usize;
        let none = Map::new();
        let properties = keys.get("properties").and_then(Value::as_object).unwrap_or(&none);
        let extra = keys.get("additionalProperties");
        let mut object = Map::new();
        let mut optional = properties.len().saturating_sub(required.len());
        for (name, schema) in properties {
            if !required.contains(&name.as_str()) {
                // As many of the optional ones as the least number still needs, and some more.
                let needed = object.len() + optional <= least;
                let wanted = depth < DEEP && self.dice.chance(60);
                optional = optional.saturating_sub(1);
                let room = required.len() + object.len() < most;
                if *schema == Value::Bool(false) || !(needed || wanted && room) {
                    continue;
                }
            }
            object.insert(name.clone(), self.value(schema, name, depth + 1));
        }
        let any = Value::Bool(true);
        for name in required {
            if !properties.contains_key(name) {
                let schema = extra.filter(|schema| schema.is_object()).unwrap_or(&any);
                object.insert(name.to_owned(), self.value(schema, name, depth + 1));
            }
        }
        if extra != Some(&Value::Bool(false)) {
            let schema = extra.filter(|schema| schema.is_object()).unwrap_or(&any);
            for nth in 0..least.saturating_sub(object.len()).min(1000) {
                let name = format!("{}_{nth}", self.dice.pick(&WORDS));
                object.insert(name, self.value(schema, "", depth + 1));
            }
        }
        Value::Object(object)
    }

    fn array(&mut self, keys: &Map<String, Value>, name: &str, depth: usize) -> Value {
        let count = |key: &str| keys.get(key).and_then(Value::as_u64);
        let least = count("minItems").unwrap_or(0).min(10_000);
        let most = count("maxItems").unwrap_or(least + 2).clamp(least, least + 3);
        let length = if depth >= DEEP { least } else { least + self.dice.below(most - least + 1) };
        let first = keys.get("prefixItems").and_then(Value::as_array);
        let any = Value::Bool(true);
        let rest = keys.get("items").unwrap_or(&any);
        let unique = keys.get("uniqueItems") == Some(&Value::Bool(true));
        let mut items: Vec<Value> = Vec::new();
        for nth in 0..length as usize {
            let schema = first.and_then(|first| first.get(nth)).unwrap_or(rest);
            if *schema == Value::Bool(false) || self.left == 0 {
                break;
            }
            let mut item = self.value(schema, name, depth + 1);
            // A short enumeration runs out of different values sooner than of tries.
            let mut tries = 0;
            while unique && items.contains(&item) && tries < 50 {
                item = self.value(schema, name, depth + 1);
                tries += 1;
            }
            if !unique || !items.contains(&item) {
                items.push(item);
            }
        }
        Value::Array(items)
    }

    fn text(&mut self, keys: &Map<String, Value>, name: &str) -> Value {
        if let Some(pattern) = keys.get("pattern").and_then(Value::as_str) {
            return Value::String(matching(pattern, &mut self.dice));
        }
        let mut text = match (keys.get("format").and_then(Value::as_str), name) {
            (Some("date-time"), _) => "2024-05-01T12:00:00Z".to_owned(),
            (Some("date"), _) => "2024-05-01".to_owned(),
            (Some("time"), _) => "12:00:00Z".to_owned(),
            (Some("email"), _) => "user@simulator.invalid".to_owned(),
            (Some("uri" | "url"), _) => "https://simulator.invalid/page".to_owned(),
            (Some("uuid"), _) => format!("00000000-0000-4000-8000-{:012x}", self.dice.next() >> 16),
            (_, "file" | "path") => self.quoted(self.hints.files()),
            (_, "function") => self.quoted(self.hints.functions(self.file.as_deref())),
            _ => self.words(),
        };
        if matches!(name, "file" | "path") {
            self.file = Some(text.clone());
        }
        let length = |key: &str| {
            keys.get(key).and_then(Value::as_u64).map(|length| length.min(100_000) as usize)
        };
        while text.chars().count() < length("minLength").unwrap_or(0) {
            text.push(' ');
            text += *self.dice.pick(&WORDS);
        }
        if let Some(most) = length("maxLength") {
            text = text.chars().take(most).collect();
        }
        Value::String(text)
    }

    fn quoted(&mut self, choices: Vec<&str>) -> String {
        if choices.is_empty() { self.words() } else { self.dice.pick(&choices).to_string() }
    }

    fn words(&mut self) -> String {
        let words: Vec<&str> =
            (0..2 + self.dice.below(4)).map(|_| *self.dice.pick(&WORDS)).collect();
        words.join(" ")
    }
}

fn without(keys: &Map<String, Value>, name: &str) -> Map<String, Value> {
    keys.iter()
        .filter(|(key, _)| *key != name)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// Adds the demands of `more`: properties and required names come together, the rest is replaced.
fn merge(keys: &mut Map<String, Value>, more: Map<String, Value>) {
    for (key, value) in more {
        match (keys.get_mut(&key), value) {
            (Some(Value::Object(have)), Value::Object(more))
                if key == "properties" || key == "$defs" =>
            {
                have.extend(more);
            }
            (Some(Value::Array(have)), Value::Array(more)) if key == "required" => {
                have.extend(more)
            }
            (Some(have), value) => *have = value,
            (None, value) => {
                keys.insert(key, value);
            }
        }
    }
}
