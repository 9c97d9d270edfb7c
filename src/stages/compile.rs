//! What a kind has at hand while it reads a stage's settings: the manifest, the stage's inputs, and
//! the means to read files and programs with each mistake told at its place.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use minijinja::Environment;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use toml::Spanned;

use super::{Compiled, Components, RowWork, Work};
use crate::manifest::{
    Common, Manifest, Problem, Problems, Project, SourceText, StageDecl, did_you_mean, parse_on,
};
use crate::programs::{AnswerSchema, Condition, Jq, Template, TemplateError};
use crate::table::Row;

/// The fields that rows have, as far as it is known before anything runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Columns {
    Known(Vec<String>),
    Unknown,
}

impl Columns {
    pub fn has(&self, name: &str) -> bool {
        match self {
            Columns::Known(names) => names.iter().any(|known| known == name),
            Columns::Unknown => true,
        }
    }

    /// Those that are known.
    pub fn names(&self) -> &[String] {
        match self {
            Columns::Known(names) => names,
            Columns::Unknown => &[],
        }
    }
}

/// An input as it is known while the manifest is checked.
#[derive(Clone, Debug)]
pub struct InputInfo {
    pub name: String,
    pub columns: Columns,
    /// The fields that tell its rows apart.
    pub key: Vec<String>,
}

/// What a row stage's rows carry over from the input row.
#[derive(Clone, Debug, Default)]
pub struct RowShape {
    /// Key fields of the input row, written first.
    pub key: Vec<String>,
    /// Then the kept ones.
    pub keep: Vec<String>,
}

impl RowShape {
    /// The fields of `row` that go into each of its results.
    pub fn carried(&self, row: &Row) -> Result<Row, String> {
        let mut carried = Row::new();
        for field in self.key.iter().chain(&self.keep) {
            let value = row.get(field).ok_or_else(|| format!("the row has no field `{field}`"))?;
            carried.insert(field.clone(), value.clone());
        }
        Ok(carried)
    }
}

/// A stage's settings and all that they can refer to.
pub struct Compile<'a> {
    pub manifest: &'a Manifest<'a>,
    pub decl: &'a StageDecl<'a>,
    pub inputs: Vec<InputInfo>,
    pub problems: &'a mut Problems,
    /// Files that were read, for the graph and the fingerprint.
    pub sources: Vec<Arc<SourceText>>,
    /// Params that were named.
    pub params: BTreeSet<String>,
    /// Settings of every stage whose value is of no use or whose name is mistyped. That was told;
    /// that they are missing would only echo it.
    told: Vec<String>,
}

impl<'a> Compile<'a> {
    pub fn new(
        manifest: &'a Manifest<'a>,
        decl: &'a StageDecl<'a>,
        inputs: Vec<InputInfo>,
        problems: &'a mut Problems,
    ) -> Compile<'a> {
        let (sources, params, told) = (Vec::new(), BTreeSet::new(), decl.aside.clone());
        Compile { manifest, decl, inputs, problems, sources, params, told }
    }

    /// The kind's own settings, read strictly: all mistakes are told. Unknown keys are read past.
    pub fn settings<T: DeserializeOwned + JsonSchema>(&mut self) -> Option<T> {
        let what = format!("stage `{}`", self.decl.name);
        let (decl, source) = (self.decl, &self.manifest.source);
        let reading = parse_on(&decl.settings, &what, &Common::KEYS, source, self.problems);
        self.told.extend(reading.meant);
        reading.value.filter(|_| reading.aside.is_empty())
    }

    /// The stage, with the files and params that were read and named for it.
    pub fn compiled(&mut self, work: Work, columns: Columns, key: Vec<String>) -> Compiled {
        let (sources, params) =
            (std::mem::take(&mut self.sources), std::mem::take(&mut self.params));
        let (binaries, secrets) = (Vec::new(), Vec::new());
        Compiled { work, columns, key, sources, binaries, params, secrets }
    }

    /// A mistake at `span` of the manifest.
    pub fn fail(&mut self, span: Range<usize>, message: impl Into<String>, help: Option<String>) {
        let problem = Problem::new(message).at(&self.manifest.source, span).help_if(help);
        self.problems.add(problem);
    }

    /// Where the stage is named: for mistakes that concern it as a whole.
    pub fn span(&self) -> Range<usize> {
        self.decl.span.clone()
    }

    /// Reads a file that a setting names.
    pub fn read(&mut self, path: &Spanned<String>) -> Option<Arc<SourceText>> {
        match self.manifest.project.read(path.get_ref()) {
            Ok(source) => {
                self.source(&source);
                Some(source)
            }
            Err(problem) => {
                let problem = match problem.place {
                    Some(_) => problem,
                    None => problem.at(&self.manifest.source, path.span()),
                };
                self.problems.add(problem);
                None
            }
        }
    }

    fn source(&mut self, source: &Arc<SourceText>) {
        if !self.sources.iter().any(|known| known.path == source.path) {
            self.sources.push(source.clone());
        }
    }

    /// A text that stands in the manifest, or in a file where it ends with one of `extensions`.
    /// Comes with the source it stands in and, for a text in the manifest, its span there.
    pub fn text_or_file(
        &mut self,
        text: &Spanned<String>,
        extensions: &[&str],
    ) -> Option<(Arc<SourceText>, Option<Range<usize>>)> {
        let named = text.get_ref().trim();
        if !named.contains(char::is_whitespace)
            && extensions.iter().any(|extension| named.ends_with(extension))
        {
            return Some((self.read(text)?, None));
        }
        let source = SourceText::new(self.manifest.source.path.clone(), text.get_ref().clone());
        Some((source, Some(text.span())))
    }

    /// The place of `range` of a text that may stand in the manifest itself: there the whole value
    /// is marked where its characters were escaped, else the very place.
    pub(super) fn place(
        &self,
        source: &Arc<SourceText>,
        range: Range<usize>,
        inline: &Option<Range<usize>>,
    ) -> (Arc<SourceText>, Range<usize>) {
        let Some(value) = inline else {
            return (source.clone(), range);
        };
        let manifest = &self.manifest.source;
        match manifest.text[value.clone()].find(&source.text) {
            Some(start) => {
                let start = value.start + start;
                (manifest.clone(), start + range.start..start + range.end)
            }
            None => (manifest.clone(), value.clone()),
        }
    }

    /// A template in a file; the names that it uses are held against the input's columns.
    pub fn template_file(&mut self, path: &Spanned<String>) -> Option<Template> {
        let source = self.read(path)?;
        self.template(source, None)
    }

    /// A template that stands in the manifest.
    pub fn template_inline(&mut self, text: &Spanned<String>) -> Option<Template> {
        let path = format!("stage `{}` of {}", self.decl.name, self.manifest.source.path);
        self.template(SourceText::new(path, text.get_ref().clone()), Some(text.span()))
    }

    fn template(
        &mut self,
        source: Arc<SourceText>,
        inline: Option<Range<usize>>,
    ) -> Option<Template> {
        let params = &self.manifest.params;
        let project = &self.manifest.project;
        let parsed = Template::parse(source.clone(), params, |path| included(project, path));
        let template = self.parsed(parsed, &source, &inline)?;
        let mut sound = true;
        for (name, (at, range)) in template.names() {
            let inline = inline.clone().filter(|_| at.text == source.text);
            let place = self.place(&at, range, &inline);
            sound &= self.name(&name, place);
        }
        sound.then_some(template)
    }

    /// A template in a file of what is no row: it sees the inputs, by `names`, and the `functions`
    /// that `add` adds.
    pub fn document(
        &mut self,
        path: &Spanned<String>,
        names: &[String],
        functions: &[&str],
        add: impl FnOnce(&mut Environment<'static>),
    ) -> Option<Template> {
        let source = self.read(path)?;
        let params = &self.manifest.params;
        let project = &self.manifest.project;
        let read = |path: &str| included(project, path);
        let parsed = Template::parse_with(source.clone(), params, read, add);
        let template = self.parsed(parsed, &source, &None)?;
        let mut sound = true;
        for (name, (at, range)) in template.names() {
            let first = name.split('.').next().unwrap_or(&name);
            if first == "params" {
                sound &= self.name(&name, (at, range));
            } else if !names.iter().any(|known| known == first) {
                let message = format!("`{first}` is no input of stage `{}`", self.decl.name);
                let known = names.iter().map(String::as_str).chain(functions.iter().copied());
                let help = did_you_mean(first, known);
                self.problems.add(Problem::new(message).at(&at, range).help_if(help));
                sound = false;
            }
        }
        sound.then_some(template)
    }

    /// A template as it was read, what it includes among the stage's files; what is wrong is told.
    fn parsed(
        &mut self,
        parsed: Result<Template, TemplateError>,
        source: &Arc<SourceText>,
        inline: &Option<Range<usize>>,
    ) -> Option<Template> {
        let template = match parsed {
            Ok(template) => template,
            Err(error) => {
                let (at, range) = error.place.unwrap_or((source.clone(), 0..0));
                let inline = inline.clone().filter(|_| at.text == source.text);
                let (at, range) = self.place(&at, range, &inline);
                let message = format!("a template cannot be used: {}", error.message);
                self.problems.add(Problem::new(message).at(&at, range).help_if(error.help));
                return None;
            }
        };
        for included in template.sources.iter().skip(1) {
            self.source(included);
        }
        Some(template)
    }

    /// Holds a name that a template or condition uses against `params` and the input's columns.
    fn name(&mut self, name: &str, (at, range): (Arc<SourceText>, Range<usize>)) -> bool {
        let mut parts = name.split('.');
        let first = parts.next().unwrap_or(name);
        if first == "params" {
            let Some(param) = parts.next() else {
                // The whole of params: all of them count.
                self.params.extend(self.manifest.params.keys().cloned());
                return true;
            };
            self.params.insert(param.to_owned());
            if !self.manifest.params.contains_key(param) {
                let known = self.manifest.params.keys().map(String::as_str);
                let help = did_you_mean(param, known)
                    .unwrap_or_else(|| format!("add `{param} = ...` under `[params]`"));
                let problem = Problem::new(format!("there is no param `{param}`"));
                self.problems.add(problem.at(&at, range).help(help));
                return false;
            }
            return true;
        }
        let Some(input) = self.inputs.first() else {
            return true;
        };
        if input.columns.has(first) {
            return true;
        }
        let message = format!(
            "`{first}` is no field of `{}`, the input of stage `{}`",
            input.name, self.decl.name
        );
        let help = near(first, &input.columns);
        self.problems.add(Problem::new(message).at(&at, range).help_if(help));
        false
    }

    /// A jq program that stands in the manifest or in a `.jq` file.
    pub fn jq(&mut self, text: &Spanned<String>, what: &str) -> Option<Jq> {
        let (source, inline) = self.text_or_file(text, &[".jq"])?;
        match Jq::compile(&source.text) {
            Ok(jq) => Some(jq),
            Err((fault, range)) => {
                let (at, range) = self.place(&source, range, &inline);
                let wrong = match fault.starts_with("there is no ") {
                    true => "cannot be used",
                    false => "does not parse",
                };
                let message = format!("the jq program of `{what}` {wrong}: {fault}");
                let help = Jq::help(&source.text, &fault);
                self.problems.add(Problem::new(message).at(&at, range).help(help));
                None
            }
        }
    }

    /// The text of a file that another stage reads, with what it includes; or of a program in the
    /// manifest. Mistakes in it are told where it is used.
    pub fn whole_text(&mut self, setting: &Spanned<String>, name: &str) -> Option<String> {
        if name == "check" {
            return self.text_or_file(setting, &[".jq"]).map(|(source, _)| source.text.clone());
        }
        let source = self.read(setting)?;
        let project = &self.manifest.project;
        let read = |path: &str| included(project, path);
        let template = Template::parse(source.clone(), &self.manifest.params, read);
        let more = template.map(|template| template.sources).unwrap_or_default();
        let mut text = source.text.clone();
        for included in more.iter().skip(1).filter(|_| name != "schema") {
            self.source(included);
            // As the project has it, wherever one stands.
            let path = std::path::Path::new(&included.path);
            let path = path.strip_prefix(&self.manifest.project.root).unwrap_or(path);
            text.push_str(&format!("\n\n[{}]\n{}", path.display(), included.text));
        }
        Some(text)
    }

    /// A JSON Schema in a file; a strict one must be of a form that providers take.
    pub fn schema(&mut self, path: &Spanned<String>, strict: bool) -> Option<AnswerSchema> {
        let source = self.read(path)?;
        match AnswerSchema::parse(&source.text, strict) {
            Ok(schema) => Some(schema),
            Err(faults) => {
                for fault in faults {
                    let shown = path.get_ref();
                    let message = format!("the schema `{shown}` cannot be used: {}", fault.message);
                    let problem = Problem::new(message).at(&source, fault.range);
                    self.problems.add(problem.help_if(fault.help));
                }
                None
            }
        }
    }

    /// The one input that drives a row stage.
    pub fn driver(&mut self) -> Option<InputInfo> {
        match &self.inputs[..] {
            [input] => Some(input.clone()),
            [] if self.told.iter().any(|key| key == "inputs") => None,
            inputs => {
                let message = format!(
                    "stage `{}` is driven by exactly one table, it has {} inputs",
                    self.decl.name,
                    inputs.len()
                );
                let help = match inputs.len() {
                    0 => "add `inputs = [\"...\"]`",
                    _ => "join them first, in a stage of kind `sql`",
                };
                let span = self.decl.common.inputs.first().map_or(self.span(), Spanned::span);
                self.fail(span, message, Some(help.into()));
                None
            }
        }
    }

    /// What a row stage carries over: its input's key (or the stage's own choice of it) and the
    /// kept fields, all of which the input must have.
    pub fn row_shape(&mut self, input: &InputInfo, carry_key: bool) -> Option<RowShape> {
        let mut sound = true;
        let chosen = self.decl.common.key.as_ref().filter(|_| carry_key);
        if let Some(fields) = chosen {
            if fields.get_ref().is_empty() {
                let help = "name fields of the input, or leave `key` out to take the input's";
                self.fail(fields.span(), "`key` names no field", Some(help.into()));
                sound = false;
            }
            for field in fields.get_ref() {
                sound &= self.input_field(input, field, "key");
            }
        }
        for field in &self.decl.common.keep {
            sound &= self.input_field(input, field, "keep");
        }
        let key = match chosen {
            Some(fields) => names(fields.get_ref()),
            None if carry_key => input.key.clone(),
            None => Vec::new(),
        };
        let keep: Vec<String> = names(&self.decl.common.keep);
        let keep = keep.into_iter().filter(|field| !key.contains(field)).collect();
        sound.then_some(RowShape { key, keep })
    }

    /// Holds a field that the setting `what` names against those that the input's rows have.
    pub fn input_field(&mut self, input: &InputInfo, field: &Spanned<String>, what: &str) -> bool {
        if input.columns.has(field.get_ref()) {
            return true;
        }
        let message = format!("`{what}` names `{}`, no field of `{}`", field.get_ref(), input.name);
        self.fail(field.span(), message, near(field.get_ref(), &input.columns));
        false
    }

    /// The stage's `where`, if it has one; `None` where it has one that cannot be used.
    pub fn filter(&mut self) -> Option<Option<Arc<Condition>>> {
        let Some(text) = self.decl.common.filter.clone() else {
            return Some(None);
        };
        let path = self.manifest.source.path.clone();
        let (source, inline) = (SourceText::new(path, text.get_ref().clone()), Some(text.span()));
        match Condition::parse(text.get_ref(), &self.manifest.params) {
            Ok(condition) => {
                let mut sound = true;
                for (name, range) in condition.names() {
                    let place = self.place(&source, range, &inline);
                    sound &= self.name(&name, place);
                }
                if sound { Some(Some(Arc::new(condition))) } else { None }
            }
            Err(fault) => {
                let (at, range) = self.place(&source, fault.range, &inline);
                let problem = Problem::new(format!("`where` does not parse: {}", fault.message));
                self.problems.add(problem.at(&at, range).help(fault.help));
                None
            }
        }
    }

    /// The stage's own `key`, which a stage must have whose rows are of its own making.
    pub fn own_key(&mut self, columns: &Columns) -> Option<Vec<String>> {
        let Some(fields) = self.decl.common.key.clone() else {
            if self.told.iter().any(|key| key == "key") {
                return None;
            }
            let help = "add `key = [\"...\"]`, the fields that tell its rows apart";
            let message = format!("stage `{}` has no `key`", self.decl.name);
            self.fail(self.span(), message, Some(help.into()));
            return None;
        };
        if fields.get_ref().is_empty() {
            let help = "name the fields that tell its rows apart";
            self.fail(fields.span(), "`key` names no field", Some(help.into()));
            return None;
        }
        let mut sound = true;
        for field in fields.get_ref() {
            if !columns.has(field.get_ref()) {
                let message = format!(
                    "`key` names `{}`, which rows of stage `{}` will not have",
                    field.get_ref(),
                    self.decl.name
                );
                self.fail(field.span(), message, near(field.get_ref(), columns));
                sound = false;
            }
        }
        sound.then(|| names(fields.get_ref()))
    }

    /// Whole-table kinds have no use for what belongs to row stages.
    pub fn no_row_settings(&mut self, kind: &str) -> bool {
        let keep = self.decl.common.keep.first().map(|field| ("keep", field.span()));
        let filter = self.decl.common.filter.as_ref().map(|text| ("where", text.span()));
        let mut sound = true;
        for (name, span) in keep.into_iter().chain(filter) {
            let help = Some("only row stages have it; say it in the stage itself".to_owned());
            self.fail(span, format!("a stage of kind `{kind}` has no `{name}`"), help);
            sound = false;
        }
        sound
    }
}

impl RowWork {
    /// Tells what the driver does for the stage, then the stage itself.
    pub fn describe(&self, components: &mut dyn Components) {
        components.add("key", &self.shape.key.join(","));
        components.add("keep", &self.shape.keep.join(","));
        if let Some(filter) = &self.filter {
            components.add("where", &filter.text);
        }
        self.stage.describe(components);
    }
}

/// A file that a template includes.
fn included(project: &Project, path: &str) -> Result<Arc<SourceText>, Problem> {
    project.read(path)
}

fn names(fields: &[Spanned<String>]) -> Vec<String> {
    fields.iter().map(|field| field.get_ref().clone()).collect()
}

fn near(name: &str, columns: &Columns) -> Option<String> {
    did_you_mean(name, columns.names().iter().map(String::as_str))
}
