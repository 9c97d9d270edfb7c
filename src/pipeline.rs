//! A pipeline: a manifest read, checked and compiled under one profile, with its graph.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;

use crate::clients::Cassette;
use crate::graph::{Cycle, Graph, Node, NodeKind};
use crate::manifest::{
    Elsewhere, INSIDE, Manifest, Problem, Problems, ProfileChoice, Project, SourceText, StageDecl,
    did_you_mean, nearest,
};
use crate::stages::{Columns, Compile, Compiled, Expect, InputInfo, Kind, Kinds};
use crate::store::{FileState, Store, Stretches, input_note};
use crate::table::{Format, ReadError, Row, all_fields, fields_of, read_rows};

/// Where a pipeline is, and under which profile.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// The folder to work from; here where it is empty.
    pub folder: PathBuf,
    /// The manifest, relative to `folder`; `pipeline.toml` where it is empty.
    pub file: PathBuf,
    pub profile: Option<String>,
    /// Recorded calls that stand in the place of any profile's.
    pub cassette: Option<Arc<Cassette>>,
    /// Addresses that the manifest takes from the environment, by their variables: what is here goes
    /// before what is set.
    pub addresses: BTreeMap<String, String>,
    /// Settings of stages that stand in for what the manifest says.
    pub instead: Vec<Instead>,
    /// What a stage's `kind` may be.
    pub kinds: Kinds,
}

/// A setting of a stage that names a file, and the file that it is to name.
#[derive(Clone, Debug)]
pub struct Instead {
    pub stage: String,
    pub setting: &'static str,
    pub path: String,
}

/// A pipeline that can be drawn, planned and run.
pub struct Pipeline {
    pub name: String,
    pub project: Project,
    pub profile: ProfileChoice,
    /// The profile's recorded calls, or those that were given in their place.
    pub cassette: Option<Arc<Cassette>>,
    /// The environment variable of GitHub's token.
    pub github_token: Option<String>,
    /// The names of all profiles.
    pub profiles: Vec<String>,
    /// The environment variables that addresses were taken from, with what they held.
    pub addresses: BTreeMap<String, String>,
    pub params: Row,
    /// In the order of the manifest.
    pub stages: Vec<Stage>,
    /// Places in `stages`, each after all that it reads.
    pub order: Vec<usize>,
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
    /// What it is for, as the manifest says it.
    pub description: Option<String>,
    pub kind: &'static dyn Kind,
    pub inputs: Vec<InputRef>,
    /// Paths relative to the project folder, under the profile's data folder.
    pub outputs: Vec<String>,
    /// Where its failed rows are told, while there are any.
    pub failed_file: String,
    pub compiled: Compiled,
    /// What its table is held to before others read it.
    pub expect: Option<Expect>,
}

/// What a stage reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputRef {
    /// By its place in [`Pipeline::stages`].
    Stage(usize),
    /// By its place in [`Pipeline::tables`].
    Table(usize),
    /// By its path, and what the manifest calls it: the path, or NAME in `[tables.NAME]`.
    File { path: String, name: String },
}

impl Pipeline {
    /// Reads and checks all that can be known without a call or a program run. Every mistake is in
    /// the error.
    pub fn load(options: &LoadOptions) -> Result<Pipeline, Problems> {
        Pipeline::load_edited(options, None)
    }

    /// The same of a manifest that is to hold another text than it does.
    pub fn load_edited(options: &LoadOptions, text: Option<&str>) -> Result<Pipeline, Problems> {
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
        let source =
            text.map_or_else(|| source.clone(), |text| SourceText::new(&source.path, text));
        let profile = options.profile.as_deref();
        let addresses = options.addresses.clone();
        let elsewhere = Elsewhere { cassette: options.cassette.is_some(), addresses };
        let manifest =
            Manifest::parse(&source, &source.text, project, profile, &elsewhere, &mut problems);
        let Some(mut manifest) = manifest else {
            return Err(problems);
        };
        for Instead { stage, setting, path } in &options.instead {
            let decls = manifest.stages.iter_mut().filter(|decl| decl.name == *stage);
            decls.for_each(|decl| decl.set(setting, path));
        }
        let pipeline = build(&manifest, &options.kinds, options.cassette.clone(), &mut problems);
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
            InputRef::File { name, .. } => name,
        }
    }

    /// Where an output is written: those of a trial stand apart.
    pub fn placed(&self, output: &str, trial: Option<u64>) -> String {
        let data = self.profile.data.as_deref().unwrap_or("data").trim_end_matches('/');
        let below = output.strip_prefix(data).and_then(|rest| rest.strip_prefix('/'));
        match trial {
            None => output.to_owned(),
            Some(_) => format!("{data}/trial/{}", below.unwrap_or(output)),
        }
    }

    /// The folder of the store.
    pub fn cache(&self) -> PathBuf {
        self.project.cache()
    }
}

fn build(
    manifest: &Manifest<'_>,
    kinds: &Kinds,
    cassette: Option<Arc<Cassette>>,
    problems: &mut Problems,
) -> Option<Pipeline> {
    if manifest.stages.is_empty() && manifest.unread.is_empty() {
        let problem = Problem::new("the manifest has no stage").at(&manifest.source, 0..0);
        problems.add(problem.help("add `[stages.NAME]` with a `kind`"));
    }
    let names: HashMap<&str, usize> =
        manifest.stages.iter().enumerate().map(|(at, decl)| (decl.name.as_str(), at)).collect();
    let tables = manifest.tables.iter().map(|(name, table)| (name, table.span.clone()));
    let files = manifest.files.iter().map(|(name, path)| (name, path.span()));
    for (name, span) in tables.chain(files).filter(|(name, _)| names.contains_key(name.as_str())) {
        let message = format!("both a table and a stage are called `{name}`");
        let help = "give one of them another name: inputs name both";
        problems.add(Problem::new(message).at(&manifest.source, span).help(help));
    }
    let inputs: Vec<Vec<Source>> =
        manifest.stages.iter().map(|decl| resolve(manifest, decl, &names, problems)).collect();
    let order = order(manifest, &inputs, problems);
    let mut compiled: Vec<Option<Compiled>> = manifest.stages.iter().map(|_| None).collect();
    let mut expected: Vec<Option<Expect>> = manifest.stages.iter().map(|_| None).collect();
    let mut columns: HashMap<usize, InputInfo> = HashMap::new();
    for at in order.iter().copied() {
        let decl = &manifest.stages[at];
        let unknown =
            |name: &str| InputInfo { name: name.into(), columns: Columns::Unknown, key: vec![] };
        let known = inputs[at].iter().map(|input| match &input.found {
            None => unknown(&input.name),
            Some(InputRef::Stage(index)) => {
                columns.get(index).cloned().unwrap_or_else(|| unknown(&input.name))
            }
            Some(InputRef::Table(index)) => table_info(manifest, *index),
            Some(InputRef::File { path, name }) => file_info(manifest, path, name, decl, problems),
        });
        let known: Vec<InputInfo> = known.collect();
        let Some(kind) = kind_of(manifest, kinds, decl, problems) else {
            continue;
        };
        if decl.aside.iter().any(|key| key == "inputs") {
            // What it reads is not known; the rest would only echo that.
            continue;
        }
        let done = kind.compile(&mut Compile::new(manifest, decl, known, problems));
        if let Some(mut done) = done {
            let info = InputInfo {
                name: decl.name.clone(),
                columns: done.columns.clone(),
                key: done.key.clone(),
            };
            if let Some(section) = &decl.common.expect {
                let mut cx = Compile::new(manifest, decl, vec![info.clone()], problems);
                expected[at] = Expect::compile(&mut cx, section);
                done.sources.extend(cx.sources);
            }
            columns.insert(at, info);
            compiled[at] = Some(done);
        }
    }
    let outputs = outputs(manifest, kinds, problems);
    check_outputs(manifest, &inputs, &compiled, &outputs, problems);
    let cassette = match (cassette, &manifest.profile.cassette) {
        (Some(given), _) => Some(given),
        (None, None) => None,
        (None, Some(path)) => match Cassette::open(path) {
            Ok(cassette) => Some(Arc::new(cassette)),
            Err(what) => {
                let help = "take that line away, or write the file anew: `flow cassette FILE`";
                problems.add(Problem::new(what).help(help));
                None
            }
        },
    };
    if !problems.is_empty() {
        return None;
    }
    let mut stages = Vec::new();
    for (at, done) in compiled.into_iter().enumerate() {
        let decl = &manifest.stages[at];
        stages.push(Stage {
            name: decl.name.clone(),
            description: decl.common.description.clone(),
            kind: kinds.find(decl.common.kind.get_ref())?,
            inputs: inputs[at].iter().filter_map(|input| input.found.clone()).collect(),
            outputs: outputs[at].clone(),
            failed_file: failed_file(manifest, decl, &outputs[at]),
            compiled: done?,
            expect: expected[at].take(),
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
        cassette,
        github_token: manifest.github.token.as_ref().map(|token| token.env.clone()),
        profiles: manifest.profiles.clone(),
        addresses: manifest.addresses.clone(),
        params: manifest.params.clone(),
        stages,
        order,
        tables,
        graph,
    })
}

/// An input as it was written, or as it was probably meant.
struct Source {
    name: String,
    /// `None` where it is not there or cannot be read, which was told.
    found: Option<InputRef>,
}

fn resolve(
    manifest: &Manifest<'_>,
    decl: &StageDecl<'_>,
    names: &HashMap<&str, usize>,
    problems: &mut Problems,
) -> Vec<Source> {
    let find = |name: &str| {
        let table = || manifest.tables.get_index_of(name).map(InputRef::Table);
        // Where both have that name, which was told, nothing more is to follow from it.
        table().or_else(|| names.get(name).copied().map(InputRef::Stage))
    };
    let mut seen: Vec<&str> = Vec::new();
    let mut found = Vec::new();
    for input in &decl.common.inputs {
        let name = input.get_ref().as_str();
        let mut wrong = |message: String, help: Option<String>| {
            problems.add(Problem::new(message).at(&manifest.source, input.span()).help_if(help));
        };
        if seen.contains(&name) {
            wrong(format!("the input `{name}` is named twice"), Some("name it once".into()));
            continue;
        }
        seen.push(name);
        let source = |found| Source { name: name.to_owned(), found };
        if let Some(input) = find(name) {
            found.push(source(Some(input)));
        } else if manifest.unread.contains(name) {
            found.push(source(None));
        } else if let Some(path) = manifest.path_of(name) {
            let full = manifest.project.resolve(path);
            match &full {
                Ok(path) if path.is_file() => {}
                Ok(full) if full.is_dir() => {
                    let message = format!("`{path}` is a folder, a file is wanted");
                    wrong(message, Some("name a file in it".into()));
                }
                Ok(_) => {
                    // A table's file is named where the table is.
                    let named = manifest.files.get(name).map_or(input.span(), Spanned::span);
                    let problem = Problem::new(format!("there is no file `{path}`"));
                    let help = no_file(manifest, path);
                    problems.add(problem.at(&manifest.source, named).help(help));
                }
                Err(what) => {
                    let message = format!("the input `{path}` cannot be read: {what}");
                    wrong(message, Some(INSIDE.into()));
                }
            }
            let is_file = full.is_ok_and(|path| path.is_file());
            let file = || InputRef::File { path: path.to_owned(), name: name.to_owned() };
            found.push(source(is_file.then(file)));
        } else if manifest.project.resolve(name).is_ok_and(|path| path.is_file()) {
            let message = format!("the input `{name}` {}", ReadError::Extension);
            wrong(message, Some("write its rows to such a file".into()));
            found.push(source(None));
        } else {
            let tables = manifest.tables.keys().chain(manifest.files.keys());
            let known = names.keys().copied().chain(tables.map(String::as_str));
            let mut known: Vec<&str> = known.filter(|known| *known != decl.name).collect();
            known.sort_unstable();
            let near = nearest(name, known.iter().copied());
            let help = did_you_mean(name, known)
                .unwrap_or_else(|| format!("add its rows, each under `[[tables.{name}]]`"));
            wrong(format!("there is no stage or table `{name}`"), Some(help));
            // The stage is read on as if that had been written; the order of stages is as it is.
            found.push(match near.and_then(|near| Some((near, find(near)?))) {
                Some((near, InputRef::Table(table))) => {
                    Source { name: near.to_owned(), found: Some(InputRef::Table(table)) }
                }
                Some((near, _)) => Source { name: near.to_owned(), found: None },
                None => source(None),
            });
        }
    }
    found
}

/// What helps where an input's file is not there.
fn no_file(manifest: &Manifest<'_>, path: &str) -> String {
    let plain = manifest.project.plain(Path::new(path));
    let writer = manifest.stages.iter().find(|decl| {
        let mut outputs = decl.common.outputs.iter();
        outputs.any(|output| manifest.project.plain(Path::new(output.get_ref())) == plain)
    });
    match writer {
        Some(decl) => format!("stage `{0}` writes it; name the stage: `{0}`", decl.name),
        None => manifest.project.near(path).unwrap_or_else(|| {
            "an input is a stage, an inline table or a file that exists".to_owned()
        }),
    }
}

/// Stages after what they read. A cycle is told as a path, then taken as cut where it comes round.
fn order(manifest: &Manifest<'_>, inputs: &[Vec<Source>], problems: &mut Problems) -> Vec<usize> {
    let mut edges: Vec<(usize, usize)> = Vec::new();
    for (to, inputs) in inputs.iter().enumerate() {
        edges.extend(inputs.iter().filter_map(|input| match input.found {
            Some(InputRef::Stage(from)) => Some((from, to)),
            _ => None,
        }));
    }
    loop {
        let mut graph = Graph::default();
        for decl in &manifest.stages {
            graph.add(Node {
                name: decl.name.clone(),
                kind: NodeKind::Stage,
                detail: String::new(),
                outputs: Vec::new(),
            });
        }
        for (from, to) in &edges {
            graph.connect(*from, *to);
        }
        let path = match graph.order() {
            Ok(order) => return order,
            Err(Cycle(path)) => path,
        };
        let at = |name: Option<&String>| name.and_then(|name| graph.index(name)).unwrap_or(0);
        let (last, first) = (at(path.iter().rev().nth(1)), at(path.first()));
        let message = format!("stages depend on each other: {}", path.join(" -> "));
        let help = "take one of the inputs away, so that the data goes one way";
        let span = manifest.stages[first].span.clone();
        problems.add(Problem::new(message).at(&manifest.source, span).help(help));
        edges.retain(|edge| *edge != (last, first));
    }
}

fn kind_of(
    manifest: &Manifest<'_>,
    kinds: &Kinds,
    decl: &StageDecl<'_>,
    problems: &mut Problems,
) -> Option<&'static dyn Kind> {
    let name = decl.common.kind.get_ref();
    let found = kinds.find(name);
    if found.is_none() {
        let known = kinds.names();
        let problem = Problem::new(format!("there is no kind `{name}`"))
            .at(&manifest.source, decl.common.kind.span())
            .help_if(did_you_mean(name, known));
        problems.add(problem);
    }
    found
}

fn table_info(manifest: &Manifest<'_>, index: usize) -> InputInfo {
    let (name, table) = manifest.tables.get_index(index).expect("found by its place before");
    info(name, all_fields(&table.rows))
}

/// Rows that stand in a text are told apart by all of their fields. Where there is none, it is not
/// known which it would have.
fn info(name: &str, key: Vec<String>) -> InputInfo {
    let columns = if key.is_empty() { Columns::Unknown } else { Columns::Known(key.clone()) };
    InputInfo { name: name.to_owned(), columns, key }
}

/// A file's columns are read from it.
fn file_info(
    manifest: &Manifest<'_>,
    path: &str,
    name: &str,
    decl: &StageDecl<'_>,
    problems: &mut Problems,
) -> InputInfo {
    let unknown = InputInfo { name: name.into(), columns: Columns::Unknown, key: Vec::new() };
    let Ok(full) = manifest.project.resolve(path) else {
        return unknown;
    };
    let error = match columns_of(manifest, path, &full) {
        Ok(fields) => return info(name, fields),
        Err(error) => error,
    };
    let problem = match (&error, manifest.project.read(path)) {
        (ReadError::Line { line, what }, Ok(source)) => {
            let range = source.line(usize::try_from(*line).unwrap_or(1));
            let problem = Problem::new(format!("the input `{path}` cannot be used: {what}"));
            problem.at(&source, range).help(error.help(Path::new(path)))
        }
        (_, Err(problem)) if problem.place.is_some() => problem,
        _ => {
            let input = decl.common.inputs.iter().find(|input| input.get_ref() == name);
            let span = input.map_or(decl.span.clone(), Spanned::span);
            let problem = Problem::new(format!("the input `{path}` {error}"));
            problem.at(&manifest.source, span).help(error.help(Path::new(path)))
        }
    };
    problems.add(problem);
    unknown
}

/// The columns of a file. One that a run has read and nobody has touched since is not read again only
/// to know them, and of one that was touched only what is new.
fn columns_of(manifest: &Manifest<'_>, path: &str, full: &Path) -> Result<Vec<String>, ReadError> {
    let state = FileState::of(full)?;
    let store = Store::open_to_read(&manifest.project.root.join("cache")).ok().flatten();
    let noted = store.and_then(|store| Some((store.notes().ok()?, store)));
    let before = noted.as_ref().and_then(|(notes, store)| {
        store.artifact(notes.noted(&input_note(path), state)?).ok().flatten()
    });
    if let Some(table) = before {
        return Ok(table.columns.into_iter().map(|column| column.name).collect());
    }
    if Format::of(full) != Some(Format::Jsonl) {
        return fields_of(full, &read_rows(full)?);
    }
    let known = noted.and_then(|(notes, store)| store.stretches(&notes, path).ok().flatten());
    Stretches::fields(known.as_ref(), full)
}

/// Each stage's outputs, with the profile's folder in place of `data/`.
fn outputs(manifest: &Manifest<'_>, kinds: &Kinds, problems: &mut Problems) -> Vec<Vec<String>> {
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
                Err(what) => Some((what, below_data(kinds, decl))),
                Ok(_) if !may_hold(&path, kinds, decl) => Some(no_format(&path, kinds, decl)),
                Ok(full) if full.is_dir() => {
                    Some(("it is a folder".into(), "give the output another name".into()))
                }
                Ok(_) if manifest.project.plain(Path::new(&path)).starts_with("cache") => {
                    Some(("`cache/` belongs to the store".into(), below_data(kinds, decl)))
                }
                Ok(_) => None,
            };
            if let Some((what, help)) = wrong {
                let message = format!("the output `{path}` cannot be written: {what}");
                let problem = Problem::new(message).at(&manifest.source, output.span());
                problems.add(problem.help(help));
            }
            own.push(path);
        }
        all.push(own);
    }
    all
}

/// What helps where an output leads somewhere else.
fn below_data(kinds: &Kinds, decl: &StageDecl<'_>) -> String {
    let extension = if makes_documents(kinds, decl) { "html" } else { "json" };
    format!("write it in the project: `data/{}.{extension}`", decl.name)
}

/// Why a file of that name cannot hold what a stage makes, and what helps.
fn no_format(path: &str, kinds: &Kinds, decl: &StageDecl<'_>) -> (String, String) {
    let is_document = Format::of(Path::new(path)).is_some_and(|format| !format.is_table());
    match (makes_documents(kinds, decl), is_document) {
        (true, _) => {
            let what = "its extension is none of .html, .md, .json, .jsonl or .csv";
            (what.into(), format!("name a page: `data/{}.html`", decl.name))
        }
        (false, true) => {
            let what = format!("rows go into {}", Format::EXTENSIONS);
            (what, "a stage of kind `report` makes pages of them".into())
        }
        (false, false) => {
            let what = format!("its extension is none of {}", Format::EXTENSIONS);
            (what, format!("name a file with one of them: `data/{}.json`", decl.name))
        }
    }
}

/// Whether a file of that name can hold what a stage makes.
fn may_hold(path: &str, kinds: &Kinds, decl: &StageDecl<'_>) -> bool {
    Format::of(Path::new(path))
        .is_some_and(|format| format.is_table() || makes_documents(kinds, decl))
}

fn makes_documents(kinds: &Kinds, decl: &StageDecl<'_>) -> bool {
    kinds.find(decl.common.kind.get_ref()).is_some_and(|kind| kind.makes_documents())
}

/// Where a stage tells of its failed rows: beside its first output, or under its own name.
fn failed_file(manifest: &Manifest<'_>, decl: &StageDecl<'_>, outputs: &[String]) -> String {
    let data = manifest.profile.data.as_deref().unwrap_or("data").trim_end_matches('/');
    match outputs.first() {
        Some(output) => format!("{output}.failed.jsonl"),
        None => format!("{data}/{}.failed.jsonl", decl.name),
    }
}

/// No file is written twice, and none is written that is read.
fn check_outputs(
    manifest: &Manifest<'_>,
    inputs: &[Vec<Source>],
    compiled: &[Option<Compiled>],
    outputs: &[Vec<String>],
    problems: &mut Problems,
) {
    let plain = |path: &str| manifest.project.plain(Path::new(path));
    let mut read: HashMap<PathBuf, String> = HashMap::new();
    for input in inputs.iter().flatten() {
        if let Some(InputRef::File { path, .. }) = &input.found {
            read.insert(plain(path), format!("`{path}` is an input"));
        }
    }
    // Shown as seen from where the user stands.
    let root = &manifest.project.root;
    let root = root.strip_prefix(".").unwrap_or(root);
    let own = |path: &Path| path.strip_prefix(root).unwrap_or(path).display().to_string();
    for source in compiled.iter().flatten().flat_map(|done| &done.sources) {
        let path = own(Path::new(&source.path));
        read.insert(plain(&path), format!("stages read `{path}`"));
    }
    if let Some(cassette) = &manifest.profile.cassette {
        let path = own(cassette.strip_prefix(".").unwrap_or(cassette));
        read.insert(plain(&path), format!("`{path}` is the profile's cassette"));
    }
    let mut written: HashMap<PathBuf, &str> = HashMap::new();
    // Beside its first output a stage tells of its failed rows, or takes that file away. All of these
    // names are taken before any output is held against them.
    for (decl, paths) in manifest.stages.iter().zip(outputs) {
        let failed = plain(&failed_file(manifest, decl, paths));
        if let Some(why) = read.get(&failed) {
            let span = decl.common.outputs.first().map_or(decl.span.clone(), Spanned::span);
            let message = format!("stage `{}` keeps its failed rows there: {why}", decl.name);
            let problem = Problem::new(message).at(&manifest.source, span);
            problems.add(problem.help("read a copy of it, by another name"));
        }
        written.insert(failed, &decl.name);
    }
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
    // One output cannot be the folder of another.
    for (decl, paths) in manifest.stages.iter().zip(outputs) {
        for (output, path) in decl.common.outputs.iter().zip(paths) {
            let above = plain(path);
            let above = above.ancestors().skip(1).find_map(|folder| written.get_key_value(folder));
            if let Some((folder, other)) = above {
                let folder = folder.display();
                let message =
                    format!("`{path}` cannot stand below `{folder}`, a file of `{other}`");
                let problem = Problem::new(message).at(&manifest.source, output.span());
                problems.add(problem.help("give one of them another name"));
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
                InputRef::File { path, .. } => {
                    Some(graph.add(node(path, NodeKind::File, String::new())))
                }
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
