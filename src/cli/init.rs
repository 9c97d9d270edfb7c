//! `flow init`

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::style::{Style, count, one_line};
use super::{Exit, Shared};
use crate::schema::manifest_schema;

#[derive(Args)]
#[command(after_help = "Examples:
  flow init study
  flow init study --from labels")]
pub(super) struct Arguments {
    /// Where to make it; here where it is not given
    #[arg(value_name = "FOLDER", default_value = ".")]
    place: PathBuf,
    /// What to begin with
    #[arg(long, value_name = "PROJECT", value_enum, default_value = "github-bugs")]
    from: From,
}

/// The projects that can be made.
#[derive(Clone, Copy, ValueEnum)]
enum From {
    /// Issues of GitHub, sorted by a model, with a sample that needs no key and no network
    GithubBugs,
    /// Texts that people label by hand, and how far they agree; no model
    Labels,
    /// One table and one query
    Blank,
}

/// A file of a project: its path in it, and its text.
type Made = (&'static str, &'static str);

/// The files of a project, which stand in a folder of this repository.
macro_rules! files {
    ($folder:literal: $($path:literal),+ $(,)?) => {
        &[$(($path, include_str!(concat!("../../templates/init/", $folder, "/", $path)))),+]
    };
}

const GITHUB_BUGS: &[Made] = files!("github-bugs":
    "pipeline.toml",
    "prompts/classify.md",
    "prompts/classify.system.md",
    "schemas/classify.schema.json",
    "templates/report.md",
    "samples/README.md",
    "samples/cassette.jsonl",
);
const LABELS: &[Made] = files!("labels":
    "pipeline.toml",
    "texts/all.csv",
    "labels/people.csv",
    "templates/report.md",
);
const BLANK: &[Made] = files!("blank": "pipeline.toml");

const MANIFEST: &str = "pipeline.toml";
const SCHEMA: &str = "schemas/pipeline.schema.json";
const IGNORE: &str = ".gitignore";
/// What runs make again, and no repository should hold.
const IGNORED: [&str; 2] = ["/data/", "/cache/"];
/// What stands in the manifests for the name of the study.
const NAME: &str = "\"NAME\"";

impl From {
    fn files(self) -> &'static [Made] {
        match self {
            From::GithubBugs => GITHUB_BUGS,
            From::Labels => LABELS,
            From::Blank => BLANK,
        }
    }

    /// What to type next, and what it is for.
    fn next(self) -> &'static [(&'static str, &'static str)] {
        match self {
            From::GithubBugs => &[
                ("flow run --profile sample", "on recorded answers: no key, no network"),
                ("flow graph", "what depends on what"),
                ("flow check --online", "do the keys work? GITHUB_TOKEN and OPENAI_API_KEY"),
                ("flow run --limit 5", "a trial of the real study"),
            ],
            From::Labels => &[
                ("flow run", "makes data/sheet.csv to fill in, and data/report.html"),
                ("flow graph", "what depends on what"),
            ],
            From::Blank => &[
                ("flow run", "makes data/squares.csv"),
                ("flow check", "finds mistakes in pipeline.toml, where you go on"),
            ],
        }
    }
}

pub(super) fn main(arguments: &Arguments, shared: &Shared, style: &Style) -> Exit {
    if shared.file != Path::new(MANIFEST) {
        style.error(&format!("`flow init` makes `{MANIFEST}`, by no other name; leave `-f` out"));
        return Exit::Wrong;
    }
    let place = &arguments.place;
    match make(place, arguments.from) {
        Ok(files) => {
            // Seen from where the user stands.
            let from_here = shared.folder.as_deref().unwrap_or(Path::new("")).join(place);
            style.say(&told(&from_here, arguments.from, files));
            Exit::Done
        }
        Err(error) => {
            style.error(&error);
            Exit::Wrong
        }
    }
}

/// Makes the project; how many files it has, or why it was not made.
fn make(folder: &Path, from: From) -> Result<u64, String> {
    let shown = folder.display();
    let unusable = |error: io::Error| format!("`{shown}` cannot be used: {error}");
    if folder.exists() && !folder.is_dir() {
        return Err(format!("`{shown}` is a file; name a folder"));
    }
    let whole = real(folder).map_err(unusable)?;
    if let Some(around) = whole.ancestors().skip(1).find(|folder| is_project(folder)) {
        return Err(format!(
            "there is a project around it, in {}: a project within another is not made; \
             name a folder outside of it",
            around.display()
        ));
    }
    let schema = format!("{:#}\n", manifest_schema());
    let name = whole.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = name.filter(|name| !name.contains(char::is_control));
    let name = toml_edit::Value::from(name.as_deref().unwrap_or("study")).to_string();
    let text = |path: &str, text: &str| match path {
        MANIFEST => text.replacen(NAME, &name, 1),
        _ => text.to_owned(),
    };
    let mut files: Vec<(PathBuf, String)> = from
        .files()
        .iter()
        .map(|(path, written)| (folder.join(path), text(path, written)))
        .collect();
    files.push((folder.join(SCHEMA), schema));
    let taken: Vec<&PathBuf> =
        files.iter().map(|(path, _)| path).filter(|path| in_the_way(path, folder)).collect();
    if !taken.is_empty() {
        let shown = |path: &&PathBuf| path.strip_prefix(".").unwrap_or(path).display().to_string();
        let taken: Vec<String> = taken.iter().map(shown).collect();
        return Err(format!(
            "nothing was made, as this is there already: {}; name another folder",
            taken.join(", ")
        ));
    }
    write(&files).map_err(|(path, error)| {
        format!("`{}` cannot be written: {error}; nothing was made", path.display())
    })?;
    let ignore = folder.join(IGNORE);
    add_ignored(&ignore).map_err(|error| {
        let lines = IGNORED.join(" and ");
        let ignore = ignore.display();
        format!("the project is made, but `{ignore}` cannot be written: {error}; add {lines} to it")
    })?;
    Ok(files.len() as u64 + 1)
}

/// A folder's path with links followed, as far as it is there.
fn real(folder: &Path) -> io::Result<PathBuf> {
    let whole = std::path::absolute(folder)?;
    for existing in whole.ancestors() {
        if let (Ok(real), Ok(rest)) = (existing.canonicalize(), whole.strip_prefix(existing)) {
            return Ok(if rest.as_os_str().is_empty() { real } else { real.join(rest) });
        }
    }
    Ok(whole)
}

/// Whether a manifest of ours is there; other programs have a `pipeline.toml`, too. What lies in a
/// folder where everybody may write, such as `/tmp`, makes no project of all that is below it.
fn is_project(folder: &Path) -> bool {
    if folder.metadata().is_ok_and(|it| it.permissions().mode() & 0o002 != 0) {
        return false;
    }
    let text = fs::read_to_string(folder.join(MANIFEST)).unwrap_or_default();
    text.lines().any(|line| {
        let line = line.trim_start();
        line.starts_with("[pipeline]") || line.starts_with("[stages.")
    })
}

/// Whether something is at the path, be it a link that leads nowhere, or a file where one of its
/// folders is to be.
fn in_the_way(path: &Path, folder: &Path) -> bool {
    let above = path.ancestors().skip(1).take_while(|above| *above != folder);
    path.symlink_metadata().is_ok()
        || above.into_iter().any(|above| above.symlink_metadata().is_ok() && !above.is_dir())
}

/// Writes all files or, where one of them cannot be, none.
fn write(files: &[(PathBuf, String)]) -> Result<(), (PathBuf, io::Error)> {
    for (at, (path, text)) in files.iter().enumerate() {
        let written = (|| {
            fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
            let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
            file.write_all(text.as_bytes())
        })();
        if let Err(error) = written {
            for (made, _) in &files[..at] {
                // What cannot be removed stays; the next try names it.
                let _ = fs::remove_file(made);
            }
            return Err((path.clone(), error));
        }
    }
    Ok(())
}

/// Sees to the lines of what is not to be kept; a repository's own lines stay.
fn add_ignored(path: &Path) -> io::Result<()> {
    let before = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        before => before?,
    };
    let there = |wanted: &str| {
        before.lines().any(|line| line.trim().trim_matches('/') == wanted.trim_matches('/'))
    };
    let mut more = String::new();
    for line in IGNORED.into_iter().filter(|line| !there(line)) {
        more.push_str(line);
        more.push('\n');
    }
    if !before.is_empty() && !before.ends_with('\n') {
        more.insert(0, '\n');
    }
    OpenOptions::new().append(true).create(true).open(path)?.write_all(more.as_bytes())
}

fn told(folder: &Path, from: From, files: u64) -> String {
    let is_here = folder.components().all(|part| part == std::path::Component::CurDir);
    let folder = one_line(&folder.display().to_string(), usize::MAX);
    let mut next: Vec<(String, &str)> = Vec::new();
    if !is_here {
        next.push((format!("cd {}", quoted(&folder)), ""));
    }
    next.extend(from.next().iter().map(|(command, what)| ((*command).to_owned(), *what)));
    let width = next.iter().map(|(command, _)| command.chars().count()).max().unwrap_or(0);
    let place = if is_here { "here".to_owned() } else { format!("in {folder}") };
    let mut text = format!("made {} {place}; next:", count(files, "file"));
    for (command, what) in next {
        let comment = if what.is_empty() { String::new() } else { format!("  # {what}") };
        text.push_str(&format!("\n  {}", format!("{command:<width$}{comment}").trim_end()));
    }
    text
}

/// A path as a shell takes it.
fn quoted(path: &str) -> String {
    match path.chars().all(|c| c.is_alphanumeric() || "/._-".contains(c)) {
        true => path.to_owned(),
        false => format!("'{}'", path.replace('\'', "'\\''")),
    }
}
