//! Kind `report`: a page and a Markdown file from one template. What it shows are its inputs, and the
//! stages of the manifest; so the same inputs give the same bytes, whenever it is made.

mod document;
mod figure;
mod markdown;
mod page;
mod pivot;

use std::path::Path;
use std::sync::Arc;

use futures::future::BoxFuture;
use minijinja::Value;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde_json::json;
use toml::Spanned;

use self::document::{Form, Report, Table};
use super::{
    Columns, Compile, Compiled, Components, Input, Kind, Sink, StageError, TableStage, Work, World,
    aside,
};
use crate::graph::{DrawFormat, Graph, Node, NodeKind, draw};
use crate::programs::Template;
use crate::store::Store;
use crate::table::{FORMAT, Row, TEXT};

pub struct ReportKind;

/// The name by which a template knows which flow makes its report.
const VERSION: &str = "flow_version";

/// What `[stages.NAME]` may hold.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// A Markdown file that is a template: its inputs are tables in it, by their names.
    #[schemars(with = "String")]
    template: Spanned<String>,
}

#[derive(Clone)]
struct Stage {
    template: Arc<Template>,
    /// The names by which the template knows the inputs.
    names: Vec<String>,
    /// The stages as a picture, and as Mermaid has it.
    graph: Arc<[String; 2]>,
}

impl Kind for ReportKind {
    fn name(&self) -> &'static str {
        "report"
    }

    fn version(&self) -> u32 {
        1
    }

    fn makes_documents(&self) -> bool {
        true
    }

    fn settings(&self, generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<Settings>()
    }

    fn compile(&self, cx: &mut Compile<'_>) -> Option<Compiled> {
        let settings: Settings = cx.settings()?;
        let mut sound = cx.no_row_settings("report");
        let mut names: Vec<String> = Vec::new();
        for (input, written) in cx.inputs.clone().iter().zip(&cx.decl.common.inputs) {
            let name = name_of(&input.name);
            let wrong = match () {
                () if !is_name(&name) => Some(format!("`{name}` is no name in a template")),
                () if figure::NAMES.contains(&name.as_str())
                    || ["params", VERSION].contains(&&*name) =>
                {
                    Some(format!("`{name}` means something else in a report"))
                }
                () if names.contains(&name) => Some(format!("two inputs are called `{name}`")),
                () => None,
            };
            if let Some(message) = wrong {
                cx.fail(written.span(), message, Some("give it another name".into()));
                sound = false;
            }
            names.push(name);
        }
        let known: Vec<String> = names.iter().cloned().chain([VERSION.to_owned()]).collect();
        let template = cx.document(&settings.template, &known, &figure::NAMES, figure::add)?;
        let columns = Columns::Known(vec![FORMAT.into(), TEXT.into()]);
        let graph = graph(cx);
        let graph = [draw(&graph, DrawFormat::Svg), draw(&graph, DrawFormat::Mermaid)];
        let stage = Stage { template: Arc::new(template), names, graph: Arc::new(graph) };
        let key = vec![FORMAT.to_owned()];
        sound.then(|| cx.compiled(Work::Table(Arc::new(stage)), columns, key))
    }
}

/// A file goes by its name without folder and extension.
fn name_of(input: &str) -> String {
    let path = Path::new(input);
    let stem = path.extension().and(path.file_stem()).and_then(|stem| stem.to_str());
    stem.unwrap_or(input).replace('-', "_")
}

fn is_name(name: &str) -> bool {
    let mut characters = name.chars();
    characters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && characters.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// What all stages of the manifest read.
fn graph(cx: &Compile<'_>) -> Graph {
    let mut graph = Graph::default();
    let node = |name: &str, kind, detail: &str| Node {
        name: name.to_owned(),
        kind,
        detail: detail.to_owned(),
        outputs: Vec::new(),
    };
    let manifest = cx.manifest;
    for decl in &manifest.stages {
        graph.add(node(&decl.name, NodeKind::Stage, decl.common.kind.get_ref()));
    }
    for decl in &manifest.stages {
        let Some(to) = graph.index(&decl.name) else { continue };
        for input in &decl.common.inputs {
            let name = input.get_ref();
            let kind = match manifest.path_of(name) {
                Some(_) => NodeKind::File,
                None => NodeKind::Table,
            };
            let from = graph.add(node(manifest.path_of(name).unwrap_or(name), kind, ""));
            graph.connect(from, to);
        }
    }
    graph
}

impl TableStage for Stage {
    fn describe(&self, components: &mut dyn Components) {
        for source in &self.template.sources {
            components.add("template", &source.text);
        }
        components.add("inputs", &self.names.join(","));
        components.add("graph", &self.graph[1]);
        components.add(VERSION, env!("CARGO_PKG_VERSION"));
    }

    fn make<'a>(
        &'a self,
        inputs: Vec<Input>,
        sink: Sink,
        world: &'a World,
    ) -> BoxFuture<'a, Result<Sink, StageError>> {
        let (stage, store) = (self.clone(), world.store.clone());
        Box::pin(async move { aside(move || stage.write(&inputs, &store, sink)).await })
    }
}

impl Stage {
    fn write(&self, inputs: &[Input], store: &Store, mut sink: Sink) -> Result<Sink, StageError> {
        let mut tables = Vec::with_capacity(inputs.len());
        for (name, input) in self.names.iter().zip(inputs) {
            tables.push((name.as_str(), Value::from_object(Table::read(name, input, store)?)));
        }
        for form in [Form::Html, Form::Markdown] {
            let report = Arc::new(Report::new(form, self.graph.clone()));
            let own = (document::REPORT, Value::from_dyn_object(report.clone()));
            let version = (VERSION, Value::from(env!("CARGO_PKG_VERSION")));
            let context = tables.iter().cloned().chain([own, version]);
            let text = self.template.render_with(context);
            let text = text.map_err(|error| StageError::Failed(error.to_string()))?;
            let text = match form {
                Form::Html => page::page(&markdown::to_html(&text, &report.blocks())),
                Form::Markdown => markdown::tidy(&text),
            };
            let row = [(FORMAT.to_owned(), json!(form.as_str())), (TEXT.to_owned(), json!(text))];
            sink.push(&Row::from_iter(row))?;
        }
        Ok(sink)
    }
}
