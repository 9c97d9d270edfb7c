//! A pipeline: a manifest read, checked and compiled under one profile, with its graph.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use toml::Spanned;

use crate::graph::{Cycle, Graph, Node, NodeKind};
use crate::manifest::{
    Manifest, Problem, Problems, ProfileChoice, Project, StageDecl, did_you_mean,
};
use crate::stages::{self, Columns, Compile, Compiled, InputInfo, Kind};
use crate::table::{Format, Row, read_rows};

/// Where a pipeline is, and under which profile.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// The folder to work from; here where it is empty.
    pub folder: PathBuf,
    /// The manifest, relative to `folder`; `pipeline.toml` where it is empty.
    pub file: PathBuf,
    pub profile: Option<String>,
}

/// A pipeline that can be drawn, planned and run.
pub struct Pipeline {
    pub name: String,
    pub project: Project,
    pub profile: ProfileChoice,
    /// The names of all profiles.
    pub profiles: Vec<String>,
    pub params: Row,
    /// In the order of the manifest.
    pub stages: Vec<Stage>,
    pub tables: Vec<Table>,
    pub graph: Graph,
}

/// An inline table.
pub struct Table {
    pub name: String,
    pub rows: Vec<Row>,
}

/// A stage of a pipeline.
pub struct Stage {
    pub name: String,
    pub kind: &'static dyn Kind,
    pub inputs: Vec<InputRef>,
    /// Paths relative to the project folder, under the profile's data folder.
    pub outputs: Vec<String>,
    pub compiled: Compiled,
}

/// What a stage reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputRef {
    /// By its place in [`Pipeline::stages`].
    Stage(usize),
    /// By its place in [`Pipeline::tables`].
    Table(usize),
    /// By its path.
    File(String),
}

impl Pipeline {
    /// Reads and checks all that can be known without a call or a program run. Every mistake is in
    /// the error.
    pub fn load(options: &LoadOptions) -> Result<Pipeline, Problems> {
        let mut problems = Problems::default();
        let file = match options.file.as_os_str().is_empty() {
            true => Path::new("pipeline.toml"),
            false => &options.file,
        };
        let (project, source) = match Manifest::read(&options.folder.join(file)) {
            Ok(read) => read,
            Err(problem) => {
                problems.add(problem);
                return Err(problems);
            }
        };
        let profile = options.profile.as_deref();
        let manifest = Manifest::parse(&source, &source.text, project, profile, &mut problems);
        let Some(manifest) = manifest else {
            return Err(problems);
        };
        let pipeline = build(&manifest, &mut problems);
        match pipeline {
            Some(pipeline) if problems.is_empty() => Ok(pipeline),
            _ => Err(problems),
        }
    }

    /// The stage of that name.
    pub fn stage(&self, name: &str) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.name == name)
    }

    /// What `input` is called.
    pub fn input_name<'a>(&'a self, input: &'a InputRef) -> &'a str {
        match input {
            InputRef::Stage(index) => &self.stages[*index].name,
            InputRef::Table(index) => &self.tables[*index].name,
            InputRef::File(path) => path,
        }
    }

    /// The folder of the store.
    pub fn cache(&self) -> PathBuf {
        self.project.root.join("cache")
    }

    /// The folder that stands for `data/`.
    pub fn data(&self) -> &str {
        self.profile.data.as_deref().unwrap_or("data")
    }
}

fn build(manifest: &Manifest<'_>, problems: &mut Problems) -> Option<Pipeline> {
    if manifest.stages.is_empty() && problems.is_empty() {
        let problem = Problem::new("the manifest has no stage").at(&manifest.source, 0..0);
        problems.add(problem.help("add `[stages.NAME]` with a `kind`"));
    }
    let names: HashMap<&str, usize> =
        manifest.stages.iter().enumerate().map(|(at, decl)| (decl.name.as_str(), at)).collect();
    for (name, table) in &manifest.tables {
        if names.contains_key(name.as_str()) {
            let message = format!("both a table and a stage are called `{name}`");
            problems.add(Problem::new(message).at(&manifest.source, table.span.clone()));
        }
    }
    let inputs: Vec<Vec<Option<InputRef>>> =
        manifest.stages.iter().map(|decl| resolve(manifest, decl, &names, problems)).collect();
    let order = order(manifest, &inputs, problems)?;
    let mut compiled: Vec<Option<Compiled>> = manifest.stages.iter().map(|_| None).collect();
    let mut columns: HashMap<usize, InputInfo> = HashMap::new();
    for at in order {
        let decl = &manifest.stages[at];
        let known = inputs[at].iter().flatten().map(|input| match input {
            InputRef::Stage(index) => columns.get(index).cloned().unwrap_or_else(|| InputInfo {
                name: manifest.stages[*index].name.clone(),
                columns: Columns::Unknown,
                key: Vec::new(),
            }),
            InputRef::Table(index) => table_info(manifest, *index),
            InputRef::File(path) => file_info(manifest, path, decl, problems),
        });
        let known: Vec<InputInfo> = known.collect();
        if known.len() < inputs[at].len() {
            // An input that is not there was told already; the rest would only echo it.
            continue;
        }
        let Some(kind) = kind_of(manifest, decl, problems) else {
            continue;
        };
        let done = kind.compile(&mut Compile::new(manifest, decl, known, problems));
        if let Some(done) = done {
            let info = InputInfo {
                name: decl.name.clone(),
                columns: done.columns.clone(),
                key: done.key.clone(),
            };
            columns.insert(at, info);
            compiled[at] = Some(done);
        }
    }
    let outputs = outputs(manifest, problems);
    check_outputs(manifest, &inputs, &compiled, &outputs, problems);
    if !problems.is_empty() {
        return None;
    }
    let mut stages = Vec::new();
    for (at, done) in compiled.into_iter().enumerate() {
        let decl = &manifest.stages[at];
        stages.push(Stage {
            name: decl.name.clone(),
            kind: stages::kind(decl.common.kind.get_ref())?,
            inputs: inputs[at].iter().flatten().cloned().collect(),
            outputs: outputs[at].clone(),
            compiled: done?,
        });
    }
    let tables = manifest.tables.iter();
    let tables: Vec<Table> = tables
        .map(|(name, table)| Table { name: name.clone(), rows: table.rows.clone() })
        .collect();
    let graph = graph(&tables, &stages);
    Some(Pipeline {
        name: manifest.pipeline.name.clone(),
        project: manifest.project.clone(),
        profile: manifest.profile.clone(),
        profiles: manifest.profiles.clone(),
        params: manifest.params.clone(),
        stages,
        tables,
        graph,
    })
}

fn resolve(
    manifest: &Manifest<'_>,
    decl: &StageDecl<'_>,
    names: &HashMap<&str, usize>,
    problems: &mut Problems,
) -> Vec<Option<InputRef>> {
    let mut seen: Vec<&str> = Vec::new();
    let mut one = |input: &'_ Spanned<String>| {
        let name = input.get_ref().as_str();
        let at = |problem: Problem| problem.at(&manifest.source, input.span());
        if let Some(index) = names.get(name) {
            return Some(InputRef::Stage(*index));
        }
        if let Some(index) = manifest.tables.get_index_of(name) {
            return Some(InputRef::Table(index));
        }
        if Format::of(Path::new(name)).is_some() {
            return match manifest.project.resolve(name) {
                Ok(path) if path.is_file() => Some(InputRef::File(name.to_owned())),
                Ok(_) => {
                    let help = "an input is a stage, an inline table or a file that exists";
                    problems.add(at(Problem::new(format!("there is no file `{name}`")).help(help)));
                    None
                }
                Err(what) => {
                    problems.add(at(Problem::new(format!("the input `{name}`: {what}"))));
                    None
                }
            };
        }
        let known = names.keys().copied().chain(manifest.tables.keys().map(String::as_str));
        let mut known: Vec<&str> = known.filter(|known| *known != decl.name).collect();
        known.sort_unstable();
        let message = format!("there is no stage or table `{name}`");
        problems.add(at(Problem::new(message).help_if(did_you_mean(name, known))));
        None
    };
    let found = decl.common.inputs.iter().map(&mut one).collect();
    for input in &decl.common.inputs {
        if seen.contains(&input.get_ref().as_str()) {
            let message = format!("the input `{}` is named twice", input.get_ref());
            problems.add(Problem::new(message).at(&manifest.source, input.span()));
        }
        seen.push(input.get_ref());
    }
    found
}

/// Stages after what they read; a cycle is told as a path.
fn order(
    manifest: &Manifest<'_>,
    inputs: &[Vec<Option<InputRef>>],
    problems: &mut Problems,
) -> Option<Vec<usize>> {
    let mut graph = Graph::default();
    for decl in &manifest.stages {
        graph.add(Node {
            name: decl.name.clone(),
            kind: NodeKind::Stage,
            detail: String::new(),
            outputs: Vec::new(),
        });
    }
    for (to, inputs) in inputs.iter().enumerate() {
        for input in inputs.iter().flatten() {
            if let InputRef::Stage(from) = input {
                graph.connect(*from, to);
            }
        }
    }
    match graph.order() {
        Ok(order) => Some(order),
        Err(Cycle(path)) => {
            let place = path
                .first()
                .and_then(|first| manifest.stages.iter().find(|decl| decl.name == *first));
            let span = place.map_or(0..0, |decl| decl.span.clone());
            let message = format!("stages depend on each other: {}", path.join(" -> "));
            let help = "take one of the inputs away, so that the data goes one way";
            problems.add(Problem::new(message).at(&manifest.source, span).help(help));
            None
        }
    }
}

fn kind_of(
    manifest: &Manifest<'_>,
    decl: &StageDecl<'_>,
    problems: &mut Problems,
) -> Option<&'static dyn Kind> {
    let name = decl.common.kind.get_ref();
    let found = stages::kind(name);
    if found.is_none() {
        let known = stages::REGISTRY.into_iter().map(|kind| kind.name());
        let problem = Problem::new(format!("there is no kind `{name}`"))
            .at(&manifest.source, decl.common.kind.span())
            .help_if(did_you_mean(name, known));
        problems.add(problem);
    }
    found
}

fn table_info(manifest: &Manifest<'_>, index: usize) -> InputInfo {
    let (name, table) = manifest.tables.get_index(index).expect("found by its place before");
    let columns = all_fields(&table.rows);
    InputInfo { name: name.clone(), columns: Columns::Known(columns.clone()), key: columns }
}

/// A file's columns are read from it. Its rows are told apart by all of them.
fn file_info(
    manifest: &Manifest<'_>,
    path: &str,
    decl: &StageDecl<'_>,
    problems: &mut Problems,
) -> InputInfo {
    let unknown = InputInfo { name: path.into(), columns: Columns::Unknown, key: Vec::new() };
    let Ok(full) = manifest.project.resolve(path) else {
        return unknown;
    };
    match read_rows(&full) {
        Ok(rows) => {
            let columns = all_fields(&rows);
            InputInfo { name: path.into(), columns: Columns::Known(columns.clone()), key: columns }
        }
        Err(error) => {
            let input = decl.common.inputs.iter().find(|input| input.get_ref() == path);
            let span = input.map_or(decl.span.clone(), Spanned::span);
            let problem = Problem::new(format!("the input `{path}` cannot be used: {error}"));
            problems.add(problem.at(&manifest.source, span));
            unknown
        }
    }
}

fn all_fields(rows: &[Row]) -> Vec<String> {
    let mut seen = indexmap::IndexSet::new();
    for row in rows {
        for name in row.keys() {
            if !seen.contains(name) {
                seen.insert(name.clone());
            }
        }
    }
    seen.into_iter().collect()
}

/// Each stage's outputs, with the profile's folder in place of `data/`.
fn outputs(manifest: &Manifest<'_>, problems: &mut Problems) -> Vec<Vec<String>> {
    let data = manifest.profile.data.as_deref().map(|data| data.trim_end_matches('/'));
    let place = |path: &str| match (data, path.strip_prefix("data/")) {
        (Some(data), Some(rest)) => format!("{data}/{rest}"),
        _ => path.to_owned(),
    };
    let mut all = Vec::new();
    for decl in &manifest.stages {
        let mut own = Vec::new();
        for output in &decl.common.outputs {
            let path = place(output.get_ref());
            let wrong = match manifest.project.resolve(&path) {
                Err(what) => Some(what),
                Ok(_) if Format::of(Path::new(&path)).is_none() => {
                    Some(format!("its extension is none of {}", Format::EXTENSIONS))
                }
                Ok(full) if full.is_dir() => Some("it is a folder".into()),
                Ok(_) if Path::new(&path).starts_with("cache") => {
                    Some("`cache/` belongs to the store".into())
                }
                Ok(_) => None,
            };
            if let Some(what) = wrong {
                let message = format!("the output `{path}` cannot be written: {what}");
                problems.add(Problem::new(message).at(&manifest.source, output.span()));
            }
            own.push(path);
        }
        all.push(own);
    }
    all
}

/// No file is written twice, and none is written that is read.
fn check_outputs(
    manifest: &Manifest<'_>,
    inputs: &[Vec<Option<InputRef>>],
    compiled: &[Option<Compiled>],
    outputs: &[Vec<String>],
    problems: &mut Problems,
) {
    let plain = |path: &str| -> PathBuf { Path::new(path).components().collect() };
    let mut read: HashMap<PathBuf, String> = HashMap::new();
    for input in inputs.iter().flatten().flatten() {
        if let InputRef::File(path) = input {
            read.insert(plain(path), format!("`{path}` is an input"));
        }
    }
    let root = &manifest.project.root;
    let root = root.strip_prefix(".").unwrap_or(root);
    for source in compiled.iter().flatten().flat_map(|done| &done.sources) {
        let path = Path::new(&source.path);
        let path = path.strip_prefix(root).unwrap_or(path);
        read.insert(path.components().collect(), format!("stages read `{}`", path.display()));
    }
    let mut written: HashMap<PathBuf, &str> = HashMap::new();
    for (decl, paths) in manifest.stages.iter().zip(outputs) {
        for (output, path) in decl.common.outputs.iter().zip(paths) {
            let mut wrong = |message: String, help: &str| {
                let problem = Problem::new(message).at(&manifest.source, output.span());
                problems.add(problem.help(help));
            };
            if let Some(other) = written.insert(plain(path), &decl.name) {
                let message = match other == decl.name {
                    true => format!("stage `{other}` writes `{path}` twice"),
                    false => format!("both `{other}` and `{}` write `{path}`", decl.name),
                };
                wrong(message, "give each output a name of its own");
            }
            if let Some(why) = read.get(&plain(path)) {
                let message = format!("stage `{}` would overwrite what is read: {why}", decl.name);
                wrong(message, "give the output another name");
            }
        }
    }
}

fn graph(tables: &[Table], stages: &[Stage]) -> Graph {
    let mut graph = Graph::default();
    let node = |name: &str, kind, detail: String| Node {
        name: name.to_owned(),
        kind,
        detail,
        outputs: Vec::new(),
    };
    let used = |at: usize| stages.iter().any(|stage| stage.inputs.contains(&InputRef::Table(at)));
    let table_nodes: Vec<Option<usize>> = tables
        .iter()
        .enumerate()
        .map(|(at, table)| {
            let rows = table.rows.len();
            let detail = format!("{rows} row{}", if rows == 1 { "" } else { "s" });
            used(at).then(|| graph.add(node(&table.name, NodeKind::Table, detail)))
        })
        .collect();
    let stage_nodes: Vec<usize> = stages
        .iter()
        .map(|stage| {
            let mut new = node(&stage.name, NodeKind::Stage, stage.kind.name().to_owned());
            new.outputs = stage.outputs.clone();
            graph.add(new)
        })
        .collect();
    for (at, stage) in stages.iter().enumerate() {
        for input in &stage.inputs {
            let from = match input {
                InputRef::Stage(index) => Some(stage_nodes[*index]),
                InputRef::Table(index) => table_nodes[*index],
                InputRef::File(path) => Some(graph.add(node(path, NodeKind::File, String::new()))),
            };
            if let Some(from) = from {
                graph.connect(from, stage_nodes[at]);
            }
        }
        for source in &stage.compiled.sources {
            let from = graph.add(node(&source.path, NodeKind::Source, String::new()));
            graph.connect(from, stage_nodes[at]);
        }
    }
    graph
}
