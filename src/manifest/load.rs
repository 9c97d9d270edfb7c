//! Reads a manifest: its text, the profile that overrides parts of it, its sections.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::address::address;
use super::capabilities::{Unsupported, unsupported};
use super::problem::{Problem, Problems, SourceText, clean, did_you_mean};
use super::project::Project;
use super::strict::{Reading, parse_on, parse_strict, to_json};
use super::types::{
    Common, GithubSection, ModelSection, PipelineSection, Price, ProfileSection, Text,
};
use crate::table::{Format, Row};

/// What stands in a manifest under one profile.
pub struct Manifest<'t> {
    pub source: Arc<SourceText>,
    pub project: Project,
    pub pipeline: PipelineSection,
    pub params: Row,
    pub github: GithubSection,
    pub models: IndexMap<String, ModelSection>,
    pub tables: IndexMap<String, InlineTable>,
    /// Tables that stand in files, by name: their paths.
    pub files: IndexMap<String, Spanned<String>>,
    pub stages: Vec<StageDecl<'t>>,
    /// Stages and tables that are there but of no use, which was told.
    pub unread: BTreeSet<String>,
    pub profile: ProfileChoice,
    /// Every profile's name, for the user.
    pub profiles: Vec<String>,
    /// The environment variables that addresses were taken from, with what they held.
    pub addresses: BTreeMap<String, String>,
}

/// What is taken from elsewhere and not from where the manifest says.
#[derive(Clone, Debug, Default)]
pub struct Elsewhere {
    /// Recorded calls: cassettes that profiles name need not be there.
    pub cassette: bool,
    /// Addresses that the manifest takes from the environment, by their variables.
    pub addresses: BTreeMap<String, String>,
}

/// The profile in force, and what it says beside overriding sections.
#[derive(Clone, Debug, Default)]
pub struct ProfileChoice {
    /// Empty where none was chosen.
    pub name: String,
    /// The folder that stands for `data/` in outputs.
    pub data: Option<String>,
    pub cassette: Option<PathBuf>,
    pub offline: bool,
}

/// `[[tables.NAME]]`
#[derive(Clone, Debug)]
pub struct InlineTable {
    pub rows: Vec<Row>,
    pub span: Range<usize>,
}

/// `[stages.NAME]`, its kind's own settings still as they stand in the text.
pub struct StageDecl<'t> {
    pub name: String,
    /// Where the name stands.
    pub span: Range<usize>,
    pub common: Common,
    /// Keys of `common` whose values are of no use, which was told.
    pub aside: Vec<String>,
    pub settings: Spanned<DeTable<'t>>,
}

impl StageDecl<'_> {
    /// Lets a text stand in for a setting. Mistakes about it are told where that stands, or the stage.
    pub fn set(&mut self, setting: &'static str, text: &str) {
        let settings = self.settings.get_mut();
        let known = settings.get(setting).map(Spanned::span);
        let span = known.unwrap_or_else(|| self.span.clone());
        let value = DeValue::String(Cow::Owned(text.to_owned()));
        let key = Spanned::new(span.clone(), Cow::Borrowed(setting));
        settings.insert(key, Spanned::new(span, value));
    }
}

const SECTIONS: [&str; 7] =
    ["pipeline", "params", "github", "models", "tables", "stages", "profiles"];
const OVERRIDES: [&str; 4] = ["params", "github", "models", "tables"];

impl<'t> Manifest<'t> {
    /// Reads the file; every way in which it is no text at all is told here.
    pub fn read(path: &Path) -> Result<(Project, Arc<SourceText>), Problem> {
        let shown = path.strip_prefix(".").unwrap_or(path).display().to_string();
        let bytes = std::fs::read(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Problem::new(format!("there is no manifest `{shown}`"))
                .help("stand in a project's folder, or name one: `-C FOLDER` or `-f FILE`"),
            std::io::ErrorKind::IsADirectory => {
                Problem::new(format!("`{shown}` is a folder, a manifest is wanted"))
                    .help(format!("name the file in it: `-f {shown}/pipeline.toml`"))
            }
            _ => Problem::new(format!("the manifest `{shown}` cannot be read: {error}")),
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let project = Project::new(folder).map_err(|error| {
            Problem::new(format!("the folder of `{shown}` cannot be read: {error}"))
        })?;
        if bytes.contains(&0) {
            return Err(Problem::new(format!("`{shown}` is a binary file, not a manifest"))
                .help("a manifest is a TOML text"));
        }
        let source = SourceText::from_bytes(shown, bytes)?;
        if source.text.trim().is_empty() {
            let shown = &source.path;
            return Err(Problem::new(format!("the manifest `{shown}` is empty"))
                .help("the smallest has `[pipeline]` with a `name`, and a stage `[stages.NAME]`"));
        }
        Ok((project, source))
    }

    /// Reads all sections under `profile`. What cannot be read is told and has its default here, so
    /// that the rest can be checked; `None` where the text is no TOML, or there is no such profile.
    pub fn parse(
        source: &Arc<SourceText>,
        text: &'t str,
        project: Project,
        profile: Option<&str>,
        elsewhere: &Elsewhere,
        problems: &mut Problems,
    ) -> Option<Manifest<'t>> {
        let (document, errors) = DeTable::parse_recoverable(text);
        let (mut doubled, mut last_line) = (0..0, None);
        for error in &errors {
            let span = error.span().unwrap_or(0..0);
            let is_double = error.message() == "duplicate key";
            if is_double && doubled.contains(&span.start) {
                continue;
            }
            if is_double && is_header(text, span.start) {
                // Every key below it is taken for a second one too.
                let rest = text[span.end..].find("\n[").map_or(text.len(), |at| span.end + at);
                doubled = span.end..rest;
            }
            // What follows on a line that is not understood only echoes it.
            let line = source.position(span.start).0;
            if last_line.replace(line) == Some(line) {
                continue;
            }
            let (message, help) = no_toml(error.message(), span.is_empty());
            let message = format!("the manifest is no TOML: {message}");
            problems.add(Problem::new(message).at(source, span).help(help));
        }
        if !errors.is_empty() {
            return None;
        }
        let reader = Reader { source, project: &project, elsewhere };
        reader.top_level(&document, problems);
        let profiles = reader.profiles(&document, problems);
        let names: Vec<String> = profiles.keys().cloned().collect();
        // Profiles that are not in force are read too, for their mistakes.
        for (name, table) in &profiles {
            if profile != Some(name) {
                let merged = merge(&document, table.get_ref());
                reader.sections(&merged, problems);
                reader.profile(name, table, problems);
            }
        }
        let (merged, choice) = match profile {
            None => (document.clone(), ProfileChoice::default()),
            Some(name) => match profiles.get(name) {
                Some(table) => {
                    let merged = merge(&document, table.get_ref());
                    (merged, reader.profile(name, table, problems))
                }
                None => {
                    let message = format!("the manifest has no profile `{name}`");
                    let help = did_you_mean(name, names.iter().map(String::as_str))
                        .unwrap_or_else(|| format!("add `[profiles.{name}]`"));
                    problems.add(Problem::new(message).help(help));
                    return None;
                }
            },
        };
        let (pipeline, params, mut github, mut models, (tables, files)) =
            reader.sections(&merged, problems);
        let mut stages = Vec::new();
        let mut unread: BTreeSet<String> = unread_tables(&merged, &tables, &files).collect();
        for (key, table) in reader.tables_of(&document, "stages", "a stage", problems) {
            match reader.stage(&key, &table, problems) {
                Some(stage) => stages.push(stage),
                None => drop(unread.insert(text_of(&key).to_owned())),
            }
        }
        let addresses = reader.addresses(&merged, &stages, &mut github, &mut models, problems);
        Some(Manifest {
            source: source.clone(),
            pipeline,
            params,
            github,
            models,
            tables,
            files,
            stages,
            unread,
            profile: choice,
            profiles: names,
            addresses,
            project,
        })
    }
}

impl Manifest<'_> {
    /// The path of the file that an input names, or is.
    pub fn path_of<'a>(&'a self, input: &'a str) -> Option<&'a str> {
        let is_table = Format::of(Path::new(input)).is_some_and(Format::is_table);
        let file = self.files.get(input).map(|path| path.get_ref().as_str());
        file.or(is_table.then_some(input))
    }
}

type Sections = (PipelineSection, Row, GithubSection, IndexMap<String, ModelSection>, Tables);

type Tables = (IndexMap<String, InlineTable>, IndexMap<String, Spanned<String>>);

struct Reader<'a> {
    source: &'a Arc<SourceText>,
    project: &'a Project,
    elsewhere: &'a Elsewhere,
}

impl Reader<'_> {
    fn top_level(&self, document: &Spanned<DeTable<'_>>, problems: &mut Problems) {
        for (key, _) in document.get_ref() {
            if !SECTIONS.contains(&text_of(key)) {
                problems.add(
                    Problem::new(format!("the manifest has no section `{}`", text_of(key)))
                        .at(self.source, key.span())
                        .help_if(did_you_mean(text_of(key), SECTIONS)),
                );
            }
        }
        if !document.get_ref().contains_key("pipeline") {
            problems.add(
                Problem::new("the manifest has no `[pipeline]` section")
                    .at(self.source, 0..0)
                    .help("add `[pipeline]` with `name = \"...\"`"),
            );
        }
    }

    fn profiles<'t>(
        &self,
        document: &Spanned<DeTable<'t>>,
        problems: &mut Problems,
    ) -> IndexMap<String, Spanned<DeTable<'t>>> {
        self.tables_of(document, "profiles", "a profile", problems)
            .into_iter()
            .map(|(key, table)| (text_of(&key).to_owned(), table))
            .collect()
    }

    /// What a profile says beside the sections that it overrides.
    fn profile(
        &self,
        name: &str,
        table: &Spanned<DeTable<'_>>,
        problems: &mut Problems,
    ) -> ProfileChoice {
        let own = only(table, |key| !OVERRIDES.contains(&key));
        for (key, value) in table.get_ref() {
            if OVERRIDES.contains(&text_of(key)) && !value.get_ref().is_table() {
                problems.add(
                    Problem::new(format!(
                        "`{}` of profile `{name}` is of the wrong type",
                        text_of(key)
                    ))
                    .at(self.source, value.span())
                    .label(format!("expected a table, found {}", type_of(value.get_ref())))
                    .help(format!("write it as `[profiles.{name}.{}]`", text_of(key))),
                );
            }
        }
        let what = format!("profile `{name}`");
        let section: ProfileSection =
            parse_strict(&own, &what, self.source, problems).unwrap_or_default();
        let named = section.cassette.as_ref().filter(|_| !self.elsewhere.cassette);
        let cassette = named.and_then(|path| {
            let resolved = self.project.resolve(path.get_ref()).and_then(|full| {
                if full.is_file() { Ok(full) } else { Err("there is no such file".into()) }
            });
            match resolved {
                Ok(full) => Some(full),
                Err(what) => {
                    let message =
                        format!("the cassette `{}` cannot be read: {what}", path.get_ref());
                    let problem = Problem::new(message).at(self.source, path.span());
                    // Another file than one of recorded calls was not meant.
                    let near = self.project.near(path.get_ref());
                    let near = near.filter(|near| near.contains(".jsonl"));
                    problems.add(problem.help(near.unwrap_or_else(|| {
                        format!("`flow cassette {}` writes one", path.get_ref())
                    })));
                    None
                }
            }
        });
        if let Some(data) = &section.data
            && let Err(what) = self.project.resolve(data.get_ref())
        {
            let message = format!("`data` of profile `{name}`: {what}");
            let problem = Problem::new(message).at(self.source, data.span());
            problems.add(problem.help("name a folder in that of the manifest"));
        }
        ProfileChoice {
            name: name.to_owned(),
            data: section.data.map(|data| data.into_inner()),
            cassette,
            offline: section.offline,
        }
    }

    fn sections(&self, document: &Spanned<DeTable<'_>>, problems: &mut Problems) -> Sections {
        let pipeline = self.section(document, "pipeline", problems).unwrap_or_default();
        self.pipeline_name(document, problems);
        let params = self.table_of(document, "params", problems).map(|table| {
            let param = |(key, value): (&Spanned<_>, _)| {
                (text_of(key).to_owned(), to_json(value, self.source, problems))
            };
            table.get_ref().iter().map(param).collect()
        });
        let github = self.section(document, "github", problems).unwrap_or_default();
        let mut models = IndexMap::new();
        for (key, table) in self.tables_of(document, "models", "a model", problems) {
            let what = format!("model `{}`", text_of(&key));
            let reading: Reading<ModelSection> =
                parse_on(&table, &what, &[], self.source, problems);
            let model = reading.value.unwrap_or_default();
            self.capabilities(&what, &model, &table, problems);
            models.insert(text_of(&key).to_owned(), model);
        }
        self.fallbacks(&mut models, problems);
        let tables = self.tables(document, problems);
        (pipeline, params.unwrap_or_default(), github, models, tables)
    }

    /// Tells settings that a model cannot be asked with: sent, they would be refused at the first call.
    fn capabilities(
        &self,
        what: &str,
        model: &ModelSection,
        table: &Spanned<DeTable<'_>>,
        problems: &mut Problems,
    ) {
        let place = |setting: &str| {
            let found = table.get_ref().iter().find(|(key, _)| text_of(key) == setting);
            found.map_or_else(|| table.span(), |(key, value)| key.span().start..value.span().end)
        };
        for Unsupported { setting, why, help } in unsupported(model) {
            let problem = Problem::new(format!("{what}: {why}"));
            problems.add(problem.at(self.source, place(setting)).help(help));
        }
        if let Some(most) = model.logprobs.filter(|most| *most > 20) {
            let problem = Problem::new(format!("{what}: `logprobs` is {most}, 20 at the most"));
            problems.add(problem.at(self.source, place("logprobs")).help("write 0 to 20"));
        }
        let price = model.price.as_ref();
        let of_price = |number: fn(&Price) -> Option<f64>| price.and_then(number);
        for (setting, name, number, most) in [
            ("temperature", "temperature", model.temperature, f64::MAX),
            ("top_p", "top_p", model.top_p, f64::MAX),
            ("price", "price.input", of_price(|it| Some(it.input)), f64::MAX),
            ("price", "price.output", of_price(|it| Some(it.output)), f64::MAX),
            ("price", "price.cached_input", of_price(|it| it.cached_input), f64::MAX),
            ("price", "price.cache_write", of_price(|it| it.cache_write), f64::MAX),
            ("price", "price.batch", of_price(|it| it.batch), 1.0),
        ] {
            let Some(number) = number.filter(|it| !(0.0..=most).contains(it)) else { continue };
            let help = match most {
                1.0 => "it is a share, from 0 to 1: 0.5 for half the price",
                _ => "it is 0 or more",
            };
            let problem = Problem::new(format!("{what}: `{name}` is {number}"));
            problems.add(problem.at(self.source, place(setting)).help(help));
        }
    }

    /// A fallback is a model that there is, and never leads back. One that does is told, and taken
    /// away.
    fn fallbacks(&self, models: &mut IndexMap<String, ModelSection>, problems: &mut Problems) {
        let names: Vec<String> = models.keys().cloned().collect();
        for name in &names {
            let Some(other) = models[name].fallback.clone() else { continue };
            let path = with_fallbacks(models, name);
            let last = path.last().and_then(|last| models[*last].fallback.as_ref());
            let (message, help) = if !models.contains_key(other.get_ref()) {
                let known = names.iter().map(String::as_str).filter(|known| known != name);
                let help = did_you_mean(other.get_ref(), known)
                    .unwrap_or_else(|| format!("add `[models.{}]`", other.get_ref()));
                (format!("there is no model `{}`", other.get_ref()), help)
            } else if last.is_some_and(|last| last.get_ref() == name) {
                let message =
                    format!("models fall back on each other: {} -> {name}", path.join(" -> "));
                (message, "take one `fallback` away, so that the last has none".to_owned())
            } else {
                continue;
            };
            problems.add(Problem::new(message).at(self.source, other.span()).help(help));
            models[name].fallback = None;
        }
    }

    /// A study's name is shown wherever one is; it must not do anything there.
    fn pipeline_name(&self, document: &Spanned<DeTable<'_>>, problems: &mut Problems) {
        let section = document.get_ref().get("pipeline").and_then(|it| it.get_ref().as_table());
        let Some(name) = section.and_then(|section| section.get("name")) else { return };
        if name.get_ref().as_str().is_some_and(|text| text.contains('\n') || clean(text) != text) {
            let problem = Problem::new("`name` of `[pipeline]` holds a control character");
            problems.add(problem.at(self.source, name.span()).help("take it out"));
        }
    }

    fn section<T: DeserializeOwned + JsonSchema>(
        &self,
        document: &Spanned<DeTable<'_>>,
        name: &str,
        problems: &mut Problems,
    ) -> Option<T> {
        let table = self.table_of(document, name, problems)?;
        parse_on(&table, &format!("`[{name}]`"), &[], self.source, problems).value
    }

    /// Those whose rows stand here, and those that stand in files.
    fn tables(&self, document: &Spanned<DeTable<'_>>, problems: &mut Problems) -> Tables {
        let (mut tables, mut files) = Tables::default();
        let Some(section) = self.table_of(document, "tables", problems) else {
            return (tables, files);
        };
        for (key, value) in section.get_ref() {
            let name = text_of(key);
            if let Some(path) = file_of(value) {
                files.insert(name.to_owned(), path);
                continue;
            }
            let Some(array) = value.get_ref().as_array() else {
                problems.add(
                    Problem::new(format!("table `{name}` is of the wrong type"))
                        .at(self.source, value.span())
                        .label(format!("expected rows, found {}", type_of(value.get_ref())))
                        .help(format!(
                            "write each row under `[[tables.{name}]]`, or `file = \"...\"` alone under \
                             `[tables.{name}]`"
                        )),
                );
                continue;
            };
            let mut rows: Vec<Row> = Vec::new();
            for element in array.iter() {
                match to_json(element, self.source, problems) {
                    Value::Object(row) if rows.contains(&row) => problems.add(
                        Problem::new(format!("table `{name}` holds the same row twice"))
                            .at(self.source, first_line(self.source, element.span()))
                            .help("take one away, or add a field that tells them apart"),
                    ),
                    Value::Object(row) => rows.push(row),
                    _ => problems.add(
                        Problem::new(format!("a row of table `{name}` is no table"))
                            .at(self.source, element.span())
                            .help(format!("write each row under `[[tables.{name}]]`")),
                    ),
                }
            }
            tables.insert(name.to_owned(), InlineTable { rows, span: key.span() });
        }
        (tables, files)
    }

    fn stage<'t>(
        &self,
        key: &Spanned<Cow<'t, str>>,
        table: &Spanned<DeTable<'t>>,
        problems: &mut Problems,
    ) -> Option<StageDecl<'t>> {
        let name = text_of(key);
        if !is_name(name) {
            problems.add(
                Problem::new(format!("`{name}` cannot be a stage's name"))
                    .at(self.source, key.span())
                    .help("a name has letters, digits, `_` and `-`, and begins with a letter"),
            );
        }
        let common = only(table, |key| Common::KEYS.contains(&key));
        let settings = only(table, |key| !Common::KEYS.contains(&key));
        let what = format!("stage `{name}`");
        let reading: Reading<Common> = parse_on(&common, &what, &[], self.source, problems);
        let (span, aside) = (key.span(), reading.aside);
        let common = reading.value?;
        Some(StageDecl { name: name.to_owned(), span, common, aside, settings })
    }

    /// Addresses are looked at where they stand, if a stage asks there; one that cannot be used is
    /// replaced, so that it is told once. Returns what the environment gave.
    fn addresses(
        &self,
        document: &Spanned<DeTable<'_>>,
        stages: &[StageDecl<'_>],
        github: &mut GithubSection,
        models: &mut IndexMap<String, ModelSection>,
        problems: &mut Problems,
    ) -> BTreeMap<String, String> {
        let mut taken = BTreeMap::new();
        let section = |name: &str| document.get_ref().get(name)?.get_ref().as_table();
        let mut look = |table: Option<&DeTable<'_>>, what: &str, base_url: &mut Text| {
            let variable = match &*base_url {
                Text::Plain(_) => None,
                Text::Env(variable) => Some(variable.env.clone()),
            };
            let given = variable.as_ref().and_then(|it| self.elsewhere.addresses.get(it));
            if let Some(given) = given {
                *base_url = Text::Plain(given.clone());
            }
            let wrong = match base_url.resolve() {
                Ok(text) => match address(&text) {
                    Ok(_) => {
                        taken.extend(variable.map(|variable| (variable, text)));
                        return;
                    }
                    // It may hold a secret, and is not shown.
                    Err((why, help)) => {
                        Problem::new(format!("`base_url` of {what} {why}")).help(help)
                    }
                },
                Err(variable) => Problem::new(format!(
                    "`base_url` of {what}: the environment variable {variable} is not set"
                ))
                .help(format!("set it: export {variable}=https://...")),
            };
            if let Some(value) = table.and_then(|table| table.get("base_url")) {
                let secret = secret_part(self.source, value.span());
                problems.add(wrong.at(self.source, value.span()).hiding(secret));
                *base_url = GithubSection::default().base_url;
            }
        };
        if stages.iter().any(|stage| stage.common.kind.get_ref() == "github") {
            look(section("github"), "`[github]`", &mut github.base_url);
        }
        let named = stages.iter().flat_map(|stage| {
            let named = ["model", "models"].map(|key| stage.settings.get_ref().get(key));
            named.into_iter().flatten().flat_map(|value| match value.get_ref() {
                DeValue::Array(names) => names.iter().map(Spanned::get_ref).collect(),
                name => vec![name],
            })
        });
        let named = named.filter_map(|name| name.as_str());
        let asked: BTreeSet<String> =
            named.flat_map(|name| with_fallbacks(models, name)).map(str::to_owned).collect();
        for (name, model) in models.iter_mut().filter(|(name, _)| asked.contains(*name)) {
            let table = section("models").and_then(|models| models.get(name.as_str()));
            let table = table.and_then(|model| model.get_ref().as_table());
            look(table, &format!("model `{name}`"), &mut model.base_url);
        }
        taken
    }

    fn table_of<'t>(
        &self,
        document: &Spanned<DeTable<'t>>,
        name: &str,
        problems: &mut Problems,
    ) -> Option<Spanned<DeTable<'t>>> {
        let value = document.get_ref().get(name)?;
        match value.get_ref() {
            DeValue::Table(table) => Some(Spanned::new(value.span(), table.clone())),
            other => {
                problems.add(
                    Problem::new(format!("`{name}` is of the wrong type"))
                        .at(self.source, value.span())
                        .label(format!("expected a table, found {}", type_of(other)))
                        .help(format!("write it as `[{name}]`")),
                );
                None
            }
        }
    }

    /// The tables in a section of tables.
    fn tables_of<'t>(
        &self,
        document: &Spanned<DeTable<'t>>,
        section: &str,
        what: &str,
        problems: &mut Problems,
    ) -> Vec<(Spanned<Cow<'t, str>>, Spanned<DeTable<'t>>)> {
        let Some(table) = self.table_of(document, section, problems) else {
            return Vec::new();
        };
        let mut tables = Vec::new();
        for (key, value) in table.into_inner() {
            let span = value.span();
            match value.into_inner() {
                DeValue::Table(table) => tables.push((key, Spanned::new(span, table))),
                other => {
                    let name = text_of(&key);
                    problems.add(
                        Problem::new(format!("`{name}` in `{section}` is of the wrong type"))
                            .at(self.source, span)
                            .label(format!("expected {what}, found {}", type_of(&other)))
                            .help(format!("write it as `[{section}.{name}]`")),
                    );
                }
            }
        }
        tables
    }
}

/// What the parser of TOML says, and what helps; `nothing` stands at the place that it tells.
fn no_toml(message: &str, nothing: bool) -> (String, String) {
    let (what, expected) = message.split_once(", expected ").unwrap_or((message, ""));
    let (what, help) = match what {
        "duplicate key" => (what, "it stands further up already; take one away"),
        "string values must be quoted" if nothing => {
            ("a key has no value", "write one: a text in quotes, a number, `true`, a list, a table")
        }
        "string values must be quoted" => ("a text has no quotes", "write it as `\"...\"`"),
        "missing comma between array elements" => {
            ("a list goes on without a comma", "write `,` between its elements, `]` after the last")
        }
        "unclosed table" => ("a section's name is not closed", "write `]` after it"),
        "unclosed array" => ("a list is not closed", "write `]` after its last element"),
        "unclosed inline table" => ("a table is not closed", "write `}` after its last key"),
        "key with no value" => ("a key has no value", "write `key = value`"),
        _ if what.contains("string") && expected.contains('"') => {
            ("a text is not closed", "write `\"` after it")
        }
        _ => {
            return (
                message.to_owned(),
                "lines are `key = value` or `[section]`: https://toml.io".into(),
            );
        }
    };
    (what.to_owned(), help.to_owned())
}

/// What a value is, in plain words.
fn type_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The part of an address that may be a secret: a name and a password, and a query.
fn secret_part(source: &SourceText, span: Range<usize>) -> Range<usize> {
    let text = &source.text[span.clone()];
    let start = text.find("//").map_or(0, |at| at + 2);
    let query = text.find(['?', '#']).unwrap_or(text.len());
    let part = match (text.rfind('@').filter(|at| *at >= start), query < text.len()) {
        (Some(at), _) => start..at,
        (None, true) => query + 1..text.trim_end_matches(['"', '\'']).len().max(query + 1),
        (None, false) => return span.start..span.start,
    };
    span.start + part.start..span.start + part.end
}

/// The path of `[tables.NAME]` with `file = "..."` and nothing else.
fn file_of(table: &Spanned<DeValue<'_>>) -> Option<Spanned<String>> {
    let table = table.get_ref().as_table().filter(|table| table.len() == 1)?;
    let path = table.get("file")?;
    Some(Spanned::new(path.span(), path.get_ref().as_str()?.to_owned()))
}

/// The tables that are there and were not read.
fn unread_tables<'a>(
    document: &'a Spanned<DeTable<'_>>,
    read: &'a IndexMap<String, InlineTable>,
    files: &'a IndexMap<String, Spanned<String>>,
) -> impl Iterator<Item = String> + 'a {
    let tables = document.get_ref().get("tables").and_then(|tables| tables.get_ref().as_table());
    let names = tables.into_iter().flat_map(|tables| tables.keys().map(text_of));
    let unread = |name: &&str| !read.contains_key(*name) && !files.contains_key(*name);
    names.filter(unread).map(str::to_owned)
}

/// A model's name, and then those that it falls back on, each once.
pub fn with_fallbacks<'a>(models: &'a IndexMap<String, ModelSection>, name: &str) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    let mut next = Some(name);
    while let Some((name, model)) = next.and_then(|name| models.get_key_value(name))
        && !names.contains(&name.as_str())
    {
        names.push(name);
        next = model.fallback.as_ref().map(|other| other.get_ref().as_str());
    }
    names
}

fn text_of<'a>(key: &'a Spanned<Cow<'_, str>>) -> &'a str {
    key.get_ref()
}

/// The entries of a table whose key is wanted.
fn only<'t>(table: &Spanned<DeTable<'t>>, wanted: impl Fn(&str) -> bool) -> Spanned<DeTable<'t>> {
    let entries = table.get_ref().iter().filter(|(key, _)| wanted(text_of(key)));
    let entries = entries.map(|(key, value)| (key.clone(), value.clone())).collect();
    Spanned::new(table.span(), entries)
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

/// Whether what stands at `at` is the name of a table: `[stages.NAME]`.
fn is_header(text: &str, at: usize) -> bool {
    text[..at].rsplit('\n').next().is_some_and(|line| line.trim_start().starts_with('['))
}

fn first_line(source: &SourceText, span: Range<usize>) -> Range<usize> {
    let text = &source.text[span.clone()];
    span.start..span.start + text.find('\n').unwrap_or(text.len())
}

/// The document with a profile's sections laid over it: single keys of `params`, `github` and each
/// model, whole inline tables.
fn merge<'t>(document: &Spanned<DeTable<'t>>, profile: &DeTable<'t>) -> Spanned<DeTable<'t>> {
    let mut merged = document.clone();
    for section in OVERRIDES {
        let Some(over) = profile.get(section) else {
            continue;
        };
        let DeValue::Table(over_table) = over.get_ref() else {
            continue;
        };
        let key = Spanned::new(over.span(), Cow::Borrowed(section));
        let value = merged
            .get_mut()
            .entry(key)
            .or_insert_with(|| Spanned::new(over.span(), DeValue::Table(DeTable::new())));
        let depth = if section == "models" { 2 } else { 1 };
        if let DeValue::Table(base) = value.get_mut() {
            lay_over(base, over_table, depth);
        }
    }
    merged
}

fn lay_over<'t>(base: &mut DeTable<'t>, over: &DeTable<'t>, depth: u8) {
    for (key, value) in over {
        match (base.get_mut(text_of(key)).map(Spanned::get_mut), value.get_ref()) {
            (Some(DeValue::Table(base)), DeValue::Table(over)) if depth > 1 => {
                lay_over(base, over, depth - 1);
            }
            _ => {
                base.insert(key.clone(), value.clone());
            }
        }
    }
}
