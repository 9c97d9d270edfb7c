//! `flow add`

use clap::{Args, Subcommand};

use super::style::Style;
use super::{Exit, Shared};
use crate::manifest::{Manifest, add_row, clean, did_you_mean};
use crate::pipeline::{InputRef, Pipeline, Table};
use crate::table::all_fields;

#[derive(Args)]
#[command(after_help = "Example:
  flow add repo ggml-org/llama.cpp")]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Add a repository to the table that a stage of kind `github` reads
    Repo(Repo),
}

#[derive(Args)]
#[command(after_help = "Examples:
  flow add repo ggml-org/llama.cpp
  flow add repo deepspeedai/DeepSpeed --profile sample")]
struct Repo {
    /// The repository, as OWNER/NAME
    #[arg(value_name = "OWNER/NAME")]
    repo: String,
    /// What stands in the column `engine`; the repository's name where it is not given
    #[arg(long, value_name = "NAME")]
    engine: Option<String>,
    /// The inline table, where there are several with a column `repo`
    #[arg(long, value_name = "NAME")]
    table: Option<String>,
}

const REPO: &str = "repo";
const ENGINE: &str = "engine";

pub(super) fn main(arguments: &Arguments, shared: &Shared, style: &Style) -> Exit {
    let What::Repo(repo) = &arguments.what;
    let added = add(repo, shared, style);
    added.unwrap_or_else(|exit| exit)
}

fn add(repo: &Repo, shared: &Shared, style: &Style) -> Result<Exit, Exit> {
    let wrong = |error: String| {
        style.error(&error);
        Exit::Wrong
    };
    let name = repository(&repo.repo).map_err(wrong)?;
    let pipeline = shared.load(style)?;
    let table = table_of(&pipeline, repo.table.as_deref()).map_err(wrong)?;
    let fields = all_fields(&table.rows);
    let row = row(table, &fields, &repo.repo, name, repo.engine.as_deref()).map_err(wrong)?;
    let (_, source) = Manifest::read(&shared.file).map_err(|error| wrong(error.message))?;
    let profile = shared.profile.as_deref();
    let text = add_row(&source.text, profile, &table.name, &row).map_err(|error| {
        // Without a profile the table stands in the text, as it was read from there.
        let help = profile.map_or_else(String::new, |profile| {
            format!("; the profile `{profile}` reads the manifest's own: leave `--profile` out")
        });
        wrong(format!("{error}{help}"))
    })?;
    // Nothing is written that could not be read again.
    let profiles = if profile.is_some() { vec![None, profile] } else { vec![None] };
    for profile in profiles {
        Pipeline::load_edited(&shared.options(profile), Some(&text)).map_err(|problems| {
            style.warn(&problems.render(style.color));
            wrong("with that row the manifest would be wrong; nothing was written".into())
        })?;
    }
    let file = clean(&shared.file.display().to_string());
    shared.rewrite(&text).map_err(|error| wrong(format!("`{file}` cannot be written: {error}")))?;
    style.say(&format!("added {} to `{}` in {file}", repo.repo, clean(&table.name)));
    let others = fields.iter().filter(|field| row.iter().all(|(name, _)| name != *field));
    let others: Vec<String> = others.map(|field| format!("`{}`", clean(field))).collect();
    if !others.is_empty() {
        style.say(&format!("its {} stands empty; fill it in there", others.join(" and ")));
    }
    Ok(Exit::Done)
}

/// The NAME of `OWNER/NAME`; or what is wrong with it.
fn repository(text: &str) -> Result<&str, String> {
    let short = text.trim_end_matches('/');
    let short = short.strip_suffix(".git").unwrap_or(short);
    let mut parts = short.rsplit('/');
    let (name, owner) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if is_owner(owner) && is_repository(name) {
        return match text.len() == owner.len() + 1 + name.len() {
            true => Ok(name),
            false => Err(format!(
                "`{text}` is no repository as OWNER/NAME; did you mean `{owner}/{name}`?"
            )),
        };
    }
    Err(format!("`{text}` is no repository; write OWNER/NAME, such as ggml-org/llama.cpp"))
}

/// As GitHub lets people and organizations be called.
fn is_owner(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    (1..=39).contains(&name.len()) && name.chars().all(allowed) && !name.starts_with('-')
}

fn is_repository(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=100).contains(&name.len()) && name.chars().all(allowed) && name != "." && name != ".."
}

/// The inline table that repositories are read from.
fn table_of<'p>(pipeline: &'p Pipeline, wanted: Option<&str>) -> Result<&'p Table, String> {
    let has_repos = |table: &&Table| table.rows.iter().any(|row| row.contains_key(REPO));
    if let Some(name) = wanted {
        let table = pipeline.tables.iter().find(|table| table.name == name).ok_or_else(|| {
            let known = pipeline.tables.iter().map(|table| table.name.as_str());
            let help = did_you_mean(name, known).map(|help| format!("; {help}"));
            format!("there is no inline table `{name}`{}", help.unwrap_or_default())
        })?;
        let has_none = || format!("the table `{name}` has no column `{REPO}`");
        return Some(table).filter(has_repos).ok_or_else(has_none);
    }
    let mut found: Vec<&Table> = Vec::new();
    for stage in pipeline.stages.iter().filter(|stage| stage.kind.name() == "github") {
        for input in &stage.inputs {
            if let InputRef::Table(at) = input
                && let table = &pipeline.tables[*at]
                && has_repos(&table)
                && !found.iter().any(|other| other.name == table.name)
            {
                found.push(table);
            }
        }
    }
    match &found[..] {
        [table] => Ok(table),
        [] => Err(format!(
            "no stage of kind `github` reads an inline table with a column `{REPO}`; where its \
             repositories stand in a file, add a line there"
        )),
        several => {
            let names: Vec<&str> = several.iter().map(|table| table.name.as_str()).collect();
            Err(format!("several tables hold repositories; say which: --table {}", names.join("|")))
        }
    }
}

/// The new row, its fields in the order of the table's.
fn row(
    table: &Table,
    fields: &[String],
    repo: &str,
    name: &str,
    engine: Option<&str>,
) -> Result<Vec<(String, String)>, String> {
    // GitHub does not tell upper from lower case in names.
    let same = |row: &&crate::table::Row| {
        row.get(REPO).and_then(|it| it.as_str()).is_some_and(|it| it.eq_ignore_ascii_case(repo))
    };
    if table.rows.iter().any(|row| same(&row)) {
        return Err(format!("`{}` has {repo} already", table.name));
    }
    let has_engine = fields.iter().any(|field| field == ENGINE);
    if engine.is_some() && !has_engine {
        return Err(format!(
            "the table `{}` has no column `{ENGINE}`; leave `--engine` out",
            table.name
        ));
    }
    let value = |field: &String| match field.as_str() {
        REPO => Some((field.clone(), repo.to_owned())),
        ENGINE => Some((field.clone(), engine.unwrap_or(name).to_owned())),
        _ => None,
    };
    Ok(fields.iter().filter_map(value).collect())
}
