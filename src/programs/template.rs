//! Templates (minijinja): strict, so a name that is not there is an error; null renders as nothing.
//! They see the row's fields and `params`, and include files of the project alone.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use minijinja::value::Serde;
use minijinja::{Environment, Error, UndefinedBehavior, Value, escape_formatter};
use petgraph::algo::has_path_connecting;
use petgraph::graphmap::DiGraphMap;
use thiserror::Error;

use super::filters;
use crate::manifest::{Problem, SourceText, nearest};
use crate::table::Row;

/// Steps that one rendering may take: far more than any prompt needs, far less than for ever.
const FUEL: u64 = 10_000_000;

/// Conditions are parsed by recursion: a longer one could take more stack than there is.
const LONGEST_CONDITION: usize = 4 << 10;

/// A template, with all that it includes.
pub struct Template {
    name: String,
    environment: Environment<'static>,
    /// The template's own text first, then what it includes, by path.
    pub sources: Vec<Arc<SourceText>>,
    params: Value,
}

/// A rendered template.
pub struct Rendered {
    pub text: String,
    /// How many tokens the filters left out that cut texts to a length.
    pub tokens_cut: u64,
}

/// A template that does not parse or render.
#[derive(Clone, Debug, Error)]
#[error("{message}{}", at.as_ref().map(|at| format!(" ({at})")).unwrap_or_default())]
pub struct TemplateError {
    pub message: String,
    /// What to do, where the template itself is wrong.
    pub help: Option<String>,
    /// `file:line`
    pub at: Option<String>,
    /// Where it is, where that is known.
    pub place: Option<(Arc<SourceText>, Range<usize>)>,
}

impl Template {
    /// Parses `source` and all that it includes; `read` finds an included file of the project.
    pub fn parse(
        source: Arc<SourceText>,
        params: &Row,
        read: impl FnMut(&str) -> Result<Arc<SourceText>, Problem>,
    ) -> Result<Template, TemplateError> {
        Template::parse_in(environment(), source, params, read)
    }

    /// The same for a template that knows more than the others do: what `add` adds.
    pub fn parse_with(
        source: Arc<SourceText>,
        params: &Row,
        read: impl FnMut(&str) -> Result<Arc<SourceText>, Problem>,
        add: impl FnOnce(&mut Environment<'static>),
    ) -> Result<Template, TemplateError> {
        let mut environment = environment();
        add(&mut environment);
        Template::parse_in(environment, source, params, read)
    }

    fn parse_in(
        mut environment: Environment<'static>,
        source: Arc<SourceText>,
        params: &Row,
        mut read: impl FnMut(&str) -> Result<Arc<SourceText>, Problem>,
    ) -> Result<Template, TemplateError> {
        let name = source.path.clone();
        let mut sources = vec![source.clone()];
        let mut found: BTreeMap<String, Arc<SourceText>> = BTreeMap::new();
        let mut waiting = vec![source.clone()];
        let mut edges: Vec<(String, String, Range<usize>)> = Vec::new();
        add(&mut environment, &name, &source)?;
        while let Some(from) = waiting.pop() {
            for (included, place) in includes(&from.text) {
                let fault = |problem: Problem| TemplateError {
                    message: problem.message,
                    help: problem.help,
                    at: None,
                    place: Some((from.clone(), place.clone())),
                };
                let Some(included) = included else {
                    let what = "an included file must be named as a text, so that it is known what \
                                the prompt depends on";
                    let help = "write its name in quotes: `{% include \"part.md\" %}`";
                    return Err(fault(Problem::new(what).help(help)));
                };
                edges.push((from.path.clone(), included.clone(), place.clone()));
                if found.contains_key(&included) {
                    continue;
                }
                let text = read(&included).map_err(fault)?;
                add(&mut environment, &included, &text)?;
                found.insert(included, text.clone());
                sources.push(text.clone());
                waiting.push(text);
            }
        }
        let mut reads: DiGraphMap<&str, ()> = DiGraphMap::new();
        for (from, to, place) in &edges {
            // Files are read by the names that the templates give, shown by those of the user.
            let to = found.get(to).map_or(to.as_str(), |source| source.path.as_str());
            reads.add_edge(from, to, ());
            if from == to || has_path_connecting(&reads, to, from, None) {
                let source = sources.iter().find(|source| source.path == *from).cloned();
                let place = source.map(|source| (source, place.clone()));
                let message = match from == to {
                    true => format!("`{from}` includes itself without end"),
                    false => format!("`{from}` and `{to}` include each other without end"),
                };
                return Err(TemplateError {
                    message,
                    help: Some("take the `include` away".into()),
                    at: None,
                    place,
                });
            }
        }
        let params = value(params);
        Ok(Template { name, environment, sources, params })
    }

    /// The names that the template takes from outside, `params.x` among them, with the place of
    /// each.
    pub fn names(&self) -> BTreeMap<String, (Arc<SourceText>, Range<usize>)> {
        let globals: BTreeSet<String> =
            self.environment.globals().map(|(name, _)| name.to_owned()).collect();
        // What one template sets, those that it includes may use.
        let set: BTreeSet<&str> =
            self.sources.iter().flat_map(|source| assigned(&source.text)).collect();
        let mut names = BTreeMap::new();
        for (name, template) in self.environment.templates() {
            let source = self.sources.iter().find(|source| {
                source.text == template.source() && (name == source.path || name != self.name)
            });
            let Some(source) = source else { continue };
            for used in template.undeclared_variables(true) {
                let first = used.split('.').next().unwrap_or(&used).to_owned();
                if globals.contains(&first) || first == "loop" || first == "self" {
                    continue;
                }
                if name != self.name && set.contains(first.as_str()) {
                    continue;
                }
                let place = place_of(&source.text, &used);
                names.entry(used).or_insert((source.clone(), place));
            }
        }
        names
    }

    /// Renders a row.
    pub fn render(&self, row: &Row) -> Result<String, TemplateError> {
        self.render_telling(row).map(|rendered| rendered.text)
    }

    /// Renders a row, and tells what was left out of its text.
    pub fn render_telling(&self, row: &Row) -> Result<Rendered, TemplateError> {
        let template =
            self.environment.get_template(&self.name).map_err(|error| self.told(&error))?;
        let captured = template.render_captured(context(row, &self.params));
        let mut captured = captured.map_err(|error| self.told(&error))?;
        let cut = captured.with_state_mut(|state| filters::cut(state));
        Ok(Rendered { tokens_cut: cut, text: captured.into_output() })
    }

    /// Renders what is no row: names, each with its value.
    pub fn render_with<'a>(
        &self,
        names: impl Iterator<Item = (&'a str, Value)>,
    ) -> Result<String, TemplateError> {
        let template =
            self.environment.get_template(&self.name).map_err(|error| self.told(&error))?;
        let context = Value::from_pairs(names.chain([("params", self.params.clone())]));
        template.render(context).map_err(|error| self.told(&error))
    }

    fn told(&self, error: &Error) -> TemplateError {
        told(error, &self.sources)
    }
}

/// Where the language is described.
const SYNTAX: &str =
    "it is written as for Jinja2: https://docs.rs/minijinja/latest/minijinja/syntax";

/// A condition over a row: what `where` is written in.
pub struct Condition {
    pub text: String,
    environment: Environment<'static>,
    params: Value,
}

impl Condition {
    /// Parses `text`; a fault comes with what to do and its place in it.
    pub fn parse(text: &str, params: &Row) -> Result<Condition, Fault> {
        let environment = environment();
        if text.len() > LONGEST_CONDITION {
            return Err(Fault {
                message: format!("it is longer than {LONGEST_CONDITION} bytes"),
                help: "let a stage of kind `sql` choose the rows".into(),
                range: 0..text.len(),
            });
        }
        environment.compile_expression(text).map_err(|error| {
            let range = error.range().filter(|range| range.end <= text.len());
            let help = match text.trim() {
                "" => "write an expression, such as `stars > 3`, or leave `where` out",
                braces if braces.starts_with('{') => "write it without braces: `stars > 3`",
                equals if equals.contains(" = ") => "two values are compared by `==`",
                _ => SYNTAX,
            };
            let (message, range) = (short(&error), range.unwrap_or(0..text.len()));
            Fault { message, help: help.into(), range }
        })?;
        if let Some(unknown) = unknown(&environment, text) {
            return Err(unknown);
        }
        let params = value(params);
        Ok(Condition { text: text.to_owned(), environment, params })
    }

    /// The names that it takes from outside, with the place of each.
    pub fn names(&self) -> Vec<(String, Range<usize>)> {
        let expression = self.environment.compile_expression(&self.text);
        let mut names: Vec<String> = expression
            .map(|expression| expression.undeclared_variables(true).into_iter().collect())
            .unwrap_or_default();
        names.retain(|name| self.environment.globals().all(|(global, _)| global != name));
        names.sort();
        let place = |name: &String| {
            let found = words(&self.text, name).next();
            found.unwrap_or(0..self.text.len())
        };
        names.into_iter().map(|name| (name.clone(), place(&name))).collect()
    }

    pub fn holds(&self, row: &Row) -> Result<bool, String> {
        let expression =
            self.environment.compile_expression(&self.text).map_err(|error| short(&error))?;
        let value = expression.eval(context(row, &self.params)).map_err(|error| short(&error))?;
        if value.is_undefined() {
            return Err(format!("`{}` names a field that the row does not have", self.text));
        }
        Ok(value.is_true())
    }
}

fn value(params: &Row) -> Value {
    Value::from(Serde(params))
}

fn context(row: &Row, params: &Value) -> Value {
    let fields = row.iter().map(|(name, value)| (name.as_str(), Value::from(Serde(value))));
    let own = [("params", params.clone())];
    Value::from_pairs(fields.chain(own))
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.set_debug(true);
    filters::add(&mut environment);
    environment.set_formatter(|out, state, value| {
        if value.is_none() { Ok(()) } else { escape_formatter(out, state, value) }
    });
    environment
}

fn add(
    environment: &mut Environment<'static>,
    name: &str,
    source: &Arc<SourceText>,
) -> Result<(), TemplateError> {
    environment
        .add_template_owned(name.to_owned(), source.text.clone())
        .map_err(|error| told(&error, std::slice::from_ref(source)))?;
    for expression in expressions(&source.text) {
        let start = expression.start;
        let expression = &source.text[expression];
        let wrong = unknown(environment, expression).or_else(|| after_fence(expression));
        if let Some(Fault { message, help, range }) = wrong {
            let place = Some((source.clone(), range.start + start..range.end + start));
            return Err(TemplateError { message, help: Some(help), at: None, place });
        }
    }
    Ok(())
}

/// What is wrong with a piece of a template that minijinja itself would tell only when the first row
/// is rendered.
pub struct Fault {
    pub message: String,
    pub help: String,
    /// Where, in that piece.
    pub range: Range<usize>,
}

/// The first filter or test of `expression` that does not exist.
fn unknown(environment: &Environment<'static>, expression: &str) -> Option<Fault> {
    let mut state = environment.empty_state();
    let mut exists =
        |of: &str, name: &str| state.perform_test(of, &[Value::from(name)]).unwrap_or(true);
    for (of, places) in [("filter", filters_of(expression)), ("test", tests_of(expression))] {
        let place = places.into_iter().find(|at| !exists(of, &expression[at.clone()]));
        let Some(range) = place else { continue };
        let name = &expression[range.clone()];
        let names: &[&str] = if of == "filter" { &filters::NAMES } else { &TESTS };
        let known: Vec<&str> = names.iter().copied().filter(|name| exists(of, name)).collect();
        let help = match nearest(name, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("see docs/manifest.md, and minijinja's documentation for each {of}"),
        };
        return Some(Fault { message: format!("there is no {of} `{name}`"), help, range });
    }
    None
}

/// The tests that a misspelled name is held against: what stands after `is`.
const TESTS: [&str; 20] = [
    "boolean",
    "defined",
    "divisibleby",
    "endingwith",
    "eq",
    "even",
    "false",
    "float",
    "in",
    "integer",
    "iterable",
    "lower",
    "mapping",
    "none",
    "number",
    "odd",
    "sequence",
    "startingwith",
    "string",
    "undefined",
];

/// The tests that an expression names.
fn tests_of(expression: &str) -> Vec<Range<usize>> {
    let mut words: Vec<Range<usize>> = Vec::new();
    for (at, c) in outside_quotes(expression).filter(|(_, c)| is_word(*c)) {
        match words.last_mut().filter(|word| word.end == at) {
            Some(word) => word.end = at + c.len_utf8(),
            None => words.push(at..at + c.len_utf8()),
        }
    }
    let text = |word: &Range<usize>| &expression[word.clone()];
    let follows = |pair: &[Range<usize>]| {
        expression[pair[0].end..pair[1].start].chars().all(char::is_whitespace)
    };
    let mut found = Vec::new();
    for (at, pair) in words.windows(2).enumerate() {
        let is_test = text(&pair[0]) == "is"
            && !expression[..pair[0].start].trim_end().ends_with(['.', '|'])
            && follows(pair);
        match (is_test, words.get(at + 2)) {
            (false, _) => {}
            (true, Some(next)) if text(&pair[1]) == "not" => {
                if follows(&[pair[1].clone(), next.clone()]) {
                    found.push(next.clone());
                }
            }
            (true, _) => found.push(pair[1].clone()),
        }
    }
    found
}

/// A filter that takes a text which is fenced already, and where: it could take the fence apart.
fn after_fence(expression: &str) -> Option<Fault> {
    let filters = filters_of(expression);
    let fenced = |pair: &&[Range<usize>]| {
        let between = &expression[pair[0].end..pair[1].start];
        expression[pair[0].clone()] == *"untrusted" && between.trim() == "|"
    };
    let place = filters.windows(2).find(fenced)?[1].clone();
    let name = &expression[place.clone()];
    Some(Fault {
        message: format!("`{name}` could take apart what `untrusted` fences"),
        help: format!("write `untrusted` last: `|{name}(...)|untrusted`"),
        range: place,
    })
}

fn told(error: &Error, sources: &[Arc<SourceText>]) -> TemplateError {
    let name = error.name().unwrap_or_default();
    let source = sources
        .iter()
        .find(|source| source.path == name || source.path.ends_with(&format!("/{name}")))
        .or_else(|| sources.first().filter(|_| sources.len() == 1));
    let place = source.and_then(|source| {
        let line = source.line(error.line()?);
        let range = error.range().filter(|range| !range.is_empty()).unwrap_or(line);
        Some((source.clone(), range))
    });
    let at = match (source, error.line()) {
        // A template that stands in the manifest is named by its stage.
        (Some(source), _) if source.path.starts_with("stage `") => Some(source.path.clone()),
        (Some(source), Some(line)) => Some(format!("{}:{line}", source.path)),
        _ => None,
    };
    let message = short(error);
    let help = match () {
        () if message.contains("expected end of variable block") => "close it with `}}`",
        () if message.contains("expected end of block") => {
            "close each `{%` with `%}`, each `if` with `{% endif %}`, each `for` with `{% endfor %}`"
        }
        () => SYNTAX,
    };
    TemplateError { message, help: Some(help.into()), at, place }
}

fn short(error: &Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None if error.kind() == minijinja::ErrorKind::UndefinedError => {
            "it names a field that the row does not have".into()
        }
        None => error.kind().to_string(),
    }
}

/// What stands between the marks of a template, `{{ }}` and `{% %}`; comments and what is raw are
/// none of it.
fn expressions(text: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut at = 0;
    let mut raw = false;
    while let Some(open) = text[at..].find('{').map(|next| at + next) {
        let start = open + 2;
        let close = match text.as_bytes().get(open + 1) {
            Some(b'{') => "}}",
            Some(b'%') => "%}",
            Some(b'#') => "#}",
            _ => {
                at = open + 1;
                continue;
            }
        };
        let end = match close {
            "#}" => text[start..].find(close).map(|end| start + end),
            close => outside_quotes(&text[start..])
                .find(|(place, _)| text[start + place..].starts_with(close))
                .map(|(place, _)| start + place),
        };
        let end = end.unwrap_or(text.len());
        let word = text[start..end].trim_matches(['-', '+']).trim();
        match (close, word) {
            ("%}", "endraw") => raw = false,
            // What looks like a mark in there is none.
            _ if raw => {
                at = open + 1;
                continue;
            }
            ("%}", "raw") => raw = true,
            ("#}", _) => {}
            _ => found.push(start..end),
        }
        at = end;
    }
    found
}

/// The characters of an expression that are in none of its texts, each with its place.
fn outside_quotes(expression: &str) -> impl Iterator<Item = (usize, char)> {
    let mut quote = None;
    let mut escaped = false;
    expression.char_indices().filter(move |(_, c)| {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if *c == '\\' => escaped = true,
            Some(open) if open == *c => quote = None,
            Some(_) => {}
            None if matches!(c, '"' | '\'') => quote = Some(*c),
            None => return true,
        }
        false
    })
}

/// The filters that an expression, or a `filter` tag, names.
fn filters_of(expression: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut add = |from: usize| {
        let rest = &expression[from..];
        let start = expression.len() - rest.trim_start().len();
        let rest = &expression[start..];
        let end = start + rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        if end > start {
            found.push(start..end);
        }
    };
    let tag = expression.trim_start_matches(['-', '+']).trim_start();
    if let Some(rest) = after(tag, "filter") {
        add(expression.len() - rest.len());
    }
    outside_quotes(expression).filter(|(_, c)| *c == '|').for_each(|(at, _)| add(at + 1));
    found
}

/// The block tags of a template: what each holds from its first word on, and where.
fn tags(text: &str) -> impl Iterator<Item = (&str, Range<usize>)> {
    let mut rest = 0;
    std::iter::from_fn(move || {
        let mut open = rest + text[rest..].find("{%")?;
        // A comment before it may reach beyond it.
        while let Some(comment) = text[rest..open].find("{#").map(|at| rest + at) {
            rest = comment + text[comment..].find("#}")?;
            open = rest + text[rest..].find("{%")?;
        }
        let close = text[open..].find("%}").map_or(text.len(), |at| open + at);
        rest = close;
        let inside = text[open + 2..close].trim_start_matches(['-', '+']).trim_start();
        Some((inside, close - inside.len()..close))
    })
}

/// What follows `word` in a tag that begins with it.
fn after<'t>(inside: &'t str, word: &str) -> Option<&'t str> {
    inside.strip_prefix(word).filter(|rest| rest.starts_with(char::is_whitespace))
}

/// The files that a template names in `include`, `import`, `from` and `extends`, each with its
/// place; `None` where the name is computed.
fn includes(text: &str) -> Vec<(Option<String>, Range<usize>)> {
    let mut found = Vec::new();
    for (inside, place) in tags(text) {
        let words = ["include", "import", "from", "extends"];
        let Some(argument) = words.into_iter().find_map(|word| after(inside, word)) else {
            continue;
        };
        let argument = argument.trim_start();
        let quote = argument.chars().next().filter(|c| *c == '"' || *c == '\'');
        let name = quote.and_then(|quote| {
            let (name, rest) = argument[1..].split_once(quote)?;
            let rest = rest.trim_start().trim_end_matches(['-', '+']);
            let known = ["as ", "ignore missing", "import ", "with", "without"];
            let fixed = rest.is_empty() || known.iter().any(|word| rest.starts_with(word));
            fixed.then(|| name.to_owned())
        });
        let inside = inside.trim_end_matches(['-', '+']).trim_end();
        found.push((name, place.start..place.start + inside.len()));
    }
    found
}

/// The names that a template gives a value itself, in `set`, `for` and `with`.
fn assigned(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (inside, _) in tags(text) {
        let heads: Vec<&str> = if let Some(rest) = after(inside, "for") {
            rest.split(" in ").take(1).collect()
        } else if let Some(rest) = after(inside, "set") {
            rest.split('=').take(1).collect()
        } else if let Some(rest) = after(inside, "with") {
            rest.split(',').filter_map(|part| part.split('=').next()).collect()
        } else {
            continue;
        };
        let names = heads.into_iter().flat_map(|head| head.split(|c: char| !is_word(c)));
        found.extend(names.filter(|name| !name.is_empty()));
    }
    found
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where a name stands on its own.
fn words<'t>(text: &'t str, name: &'t str) -> impl Iterator<Item = Range<usize>> + 't {
    text.match_indices(name).map(|(start, _)| start..start + name.len()).filter(|place| {
        !text[..place.start].ends_with(|c| is_word(c) || c == '.')
            && !text[place.end..].starts_with(is_word)
    })
}

/// Where a name stands inside the tags of a template.
fn place_of(text: &str, name: &str) -> Range<usize> {
    let in_tag = |place: &Range<usize>| {
        let before = &text[..place.start];
        let opened = before.rfind("{{").max(before.rfind("{%"));
        let closed = before.rfind("}}").max(before.rfind("%}"));
        opened.is_some() && opened > closed
    };
    words(text, name).find(in_tag).unwrap_or(0..text.find('\n').unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(text: &str) -> Result<Template, TemplateError> {
        let params = json!({"since": "2023"});
        let read = |name: &str| match name {
            "part.md" => Ok(SourceText::new("part.md", "[{{ title }}]")),
            "round.md" => Ok(SourceText::new("round.md", "{% include 'p.md' %}")),
            "p.md" => Ok(SourceText::new("p.md", "{% include 'round.md' %}")),
            _ => Err(Problem::new(format!("there is no file `{name}`"))),
        };
        Template::parse(SourceText::new("p.md", text), params.as_object().unwrap(), read)
    }

    fn render(text: &str, row: serde_json::Value) -> Result<String, String> {
        let template = parse(text).map_err(|error| error.to_string())?;
        template.render(row.as_object().unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn null_is_empty_and_the_unknown_is_an_error_with_its_line() {
        let row = json!({"title": "<T>", "body": null});
        assert_eq!(
            render("{{ title }}-{{ body }}-{{ params.since }}", row.clone()).unwrap(),
            "<T>--2023"
        );
        let error = render("a\n{{ titel }}", row).unwrap_err();
        assert!(error.contains("p.md:2"), "{error}");
    }

    #[test]
    fn what_a_template_includes_is_known_before_it_is_rendered() {
        let template = parse("{% include 'part.md' %} {{ body }}").unwrap();
        assert_eq!(template.sources.len(), 2);
        let names: Vec<_> = template.names().into_keys().collect();
        assert_eq!(names, ["body", "title"]);
        let row = json!({"title": "t", "body": "b"});
        assert_eq!(template.render(row.as_object().unwrap()).unwrap(), "[t] b");
        assert!(parse("{% include which %}").is_err());
        assert!(parse("{% include 'part.md' if body else 'none.md' %}").is_err());
        assert!(parse("{# {% include 'none.md' %} #}{% include 'part.md' -%}").is_ok());
        assert!(parse("{% include 'none.md' %}").is_err());
        assert!(parse("{% include 'round.md' %}").err().unwrap().message.contains("without end"));
    }

    #[test]
    fn a_filter_that_does_not_exist_is_told_before_anything_is_rendered() {
        let wrong = [
            ("a\n{{ body | untrustd }}", "untrustd", "did you mean `untrusted`?"),
            ("{% if body|trimm %}{% endif %}", "trimm", "did you mean `trim`?"),
            ("{% filter uper %}{{ body }}{% endfilter %}", "uper", "did you mean `upper`?"),
            ("{{ '}}' ~ body|trim|xyzzy(5) }}", "xyzzy", "docs/manifest.md"),
            ("{% raw %}{{ a|plugh }}{% endraw %}{{ a|plugh }}", "plugh", "docs/manifest.md"),
        ];
        for (text, name, help) in wrong {
            let error = parse(text).err().unwrap_or_else(|| panic!("{text}"));
            let told = error.help.as_deref().unwrap_or_default();
            assert!(told.contains(help), "{told}");
            let (source, place) = error.place.unwrap();
            assert_eq!(&source.text[place.clone()], name);
            assert_eq!(place.start, text.rfind(name).unwrap());
        }
        for text in [
            "{{ 'a | b' }} {# {{ body | nothing }} #} a | b { body | nothing }",
            "{{ body | default('x|y') | head_tail(5) | untrusted }}",
            "{% raw %}{{ body | nothing }} {% x | y %}{% endraw -%}",
        ] {
            assert!(parse(text).is_ok(), "{text}");
        }
        let row = serde_json::Map::new();
        for (text, help, range) in [
            ("body|lenght > 3", "did you mean `length`?", 5..11),
            ("a.is and body is not strng", "did you mean `string`?", 21..26),
        ] {
            let fault = Condition::parse(text, &row).err().unwrap();
            assert_eq!((fault.help.as_str(), fault.range), (help, range));
        }
        for text in ["body is not defined or 'x is y' == body", "title is in(['is no'])"] {
            assert!(Condition::parse(text, &row).is_ok(), "{text}");
        }
    }

    #[test]
    fn an_endless_template_ends() {
        let text =
            "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}";
        assert!(render(text, json!({})).is_err());
    }
}
