//! Reads items from `--data`: the project's samples, flat rows of real issues, whole threads.

use crate::ask::encode;
use crate::item::{Comment, Item, Kind, Thread};
use crate::world::{Found, World};
use flate2::read::MultiGzDecoder;
use serde_json::{Map, Value};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One line of a file, understood.
enum Line {
    Rename { from: String, to: String },
    Item(Placed),
}

/// An item, and where it goes.
pub struct Placed {
    repo: String,
    site: Option<String>,
    item: Box<Item>,
}

impl Placed {
    /// Adds or replaces the item.
    pub fn put(self, world: &mut World) {
        world.insert(&self.repo, self.site.as_deref(), *self.item);
    }
}

/// Loads every path into `world`; says how many lines had no known shape.
pub fn load(world: &mut World, paths: &[PathBuf]) -> io::Result<usize> {
    let mut files = Vec::new();
    for path in paths {
        collect(path, &mut files)?;
    }
    let (mut lines, mut unknown) = (Vec::new(), 0);
    for file in files {
        for text in open(&file)?.lines() {
            let text =
                text.map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", file.display())))?;
            if text.trim().is_empty() {
                continue;
            }
            match serde_json::from_str(&text).ok().and_then(understand) {
                Some(line) => lines.push(line),
                None => unknown += 1,
            }
        }
    }
    // Renames first: they decide under which name the items of either name are found.
    for line in &lines {
        if let Line::Rename { from, to } = line {
            world.rename(from, to);
        }
    }
    for line in lines {
        if let Line::Item(placed) = line {
            placed.put(world);
        }
    }
    Ok(unknown)
}

/// One item given as a line of a file would give it.
pub fn placed(line: Value) -> Result<Placed, String> {
    match understand(line) {
        Some(Line::Item(placed)) => Ok(placed),
        _ => Err("not an item: repo, number and title are needed".to_owned()),
    }
}

pub fn insert(world: &mut World, body: &[u8]) -> Result<(), String> {
    let line = serde_json::from_slice(body).map_err(|e| e.to_string())?;
    placed(line)?.put(world);
    Ok(())
}

/// Renames a repository that is served, as `{"from": ..., "to": ...}` says.
pub fn rename(world: &mut World, body: &[u8]) -> Result<(), String> {
    let names: Value = serde_json::from_slice(body).map_err(|e| e.to_string())?;
    let Some(Line::Rename { from, to }) = renaming(&names) else {
        return Err("not a rename: from and to are needed".to_owned());
    };
    match (world.find(&from), world.find(&to)) {
        (Found::Here(_), Found::Nowhere | Found::Moved(_)) => {
            world.rename(&from, &to);
            Ok(())
        }
        (Found::Here(_), Found::Here(_)) => Err(format!("{to} is taken")),
        _ => Err(format!("no repository is called {from}")),
    }
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let blame = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    if !fs::metadata(path).map_err(blame)?.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let entries = fs::read_dir(path).map_err(blame)?;
    let mut entries: Vec<PathBuf> = entries.map(|e| Ok(e?.path())).collect::<io::Result<_>>()?;
    entries.sort();
    for entry in entries {
        let name = entry.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let plain = name.strip_suffix(".gz").unwrap_or(name);
        if entry.is_dir() || plain.ends_with(".jsonl") || plain.ends_with(".ndjson") {
            collect(&entry, files)?;
        }
    }
    Ok(())
}

fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    let blame = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    let file = File::open(path).map_err(blame)?;
    let zipped = path.extension().is_some_and(|extension| extension == "gz");
    let reader: Box<dyn Read> =
        if zipped { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    Ok(Box::new(BufReader::new(reader)))
}

fn understand(line: Value) -> Option<Line> {
    let Value::Object(mut line) = line else {
        return None;
    };
    if let Some(rename) = line.get("rename") {
        return renaming(rename);
    }
    if line.get("issue").is_some_and(Value::is_object) {
        return thread(line);
    }
    if let Some(Value::String(repo)) = line.remove("repo") {
        let item: Item = serde_json::from_value(Value::Object(line)).ok()?;
        let lost = match (&item.moved_to, item.gone) {
            (Some(place), None) => is_name(&place.repo) && place.number > 0,
            (None, gone) => gone.is_some_and(|status| [404, 410, 451].contains(&status)),
            _ => false,
        };
        let stays = item.moved_to.is_none() && item.gone.is_none() && !item.title.is_empty();
        let fits = is_name(&repo) && item.number > 0 && (lost || stays);
        let item = Box::new(item.complete());
        return fits.then_some(Line::Item(Placed { repo, site: None, item }));
    }
    flat(line)
}

fn renaming(names: &Value) -> Option<Line> {
    let name = |key: &str| names[key].as_str().filter(|name| is_name(name)).map(str::to_owned);
    Some(Line::Rename { from: name("from")?, to: name("to")? })
}

/// A real issue as one flat row: the comments are only counted.
fn flat(mut line: Map<String, Value>) -> Option<Line> {
    let (site, repo, kind) = address(line.get("html_url")?.as_str()?)?;
    let count = line.remove("comments").and_then(|count| count.as_u64()).unwrap_or(0);
    let mut item: Item = serde_json::from_value(Value::Object(line)).ok()?;
    if item.number == 0 {
        return None;
    }
    item.kind = kind;
    // As many comments as are counted, so that who compares count and list finds no gap.
    let comments = (1..=count.min(1000)).map(|nth| Comment {
        body: format!("Comment {nth} of {count}; its text was not recorded."),
        ..Comment::default()
    });
    item.comments = comments.collect();
    Some(Line::Item(Placed { repo, site: Some(site), item: Box::new(item.complete()) }))
}

fn thread(mut line: Map<String, Value>) -> Option<Line> {
    let issue = line.remove("issue")?;
    let (site, repo, kind) = address(issue["html_url"].as_str()?)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let maybe = |value: &Value| value.as_str().map(str::to_owned);
    let mut list = |key: &str| match line.remove(key) {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    };
    let (comments, events, timeline) = (list("comments"), list("events"), list("timeline"));
    let labels = issue["labels"].as_array().into_iter().flatten();
    let item = Item {
        number: issue["number"].as_u64()?,
        kind,
        title: text(&issue["title"]),
        body: maybe(&issue["body"]),
        state: text(&issue["state"]),
        state_reason: maybe(&issue["state_reason"]),
        labels: labels.map(|label| text(&label["name"])).collect(),
        user: text(&issue["user"]["login"]),
        author_association: text(&issue["author_association"]),
        created_at: text(&issue["created_at"]),
        updated_at: text(&issue["updated_at"]),
        closed_at: maybe(&issue["closed_at"]),
        merged_at: maybe(&issue["pull_request"]["merged_at"]),
        draft: issue["draft"].as_bool().unwrap_or(false),
        html_url: text(&issue["html_url"]),
        comments: (comments.iter())
            .map(|comment| Comment {
                user: text(&comment["user"]["login"]),
                body: text(&comment["body"]),
                created_at: text(&comment["created_at"]),
            })
            .collect(),
        thread: Some(Arc::new(Thread { issue, comments, events, timeline })),
        ..Item::default()
    };
    Some(Line::Item(Placed { repo, site: Some(site), item: Box::new(item.complete()) }))
}

/// Site, repository and kind of `https://github.com/owner/name/issues/1`.
fn address(url: &str) -> Option<(String, String, Kind)> {
    let (scheme, rest) = url.split_once("://")?;
    let mut parts = rest.split('/');
    let (host, owner, name) = (parts.next()?, parts.next()?, parts.next()?);
    let kind = match parts.next()? {
        "issues" => Kind::Issue,
        "pull" => Kind::Pull,
        _ => return None,
    };
    let repo = format!("{owner}/{name}");
    is_name(&repo).then(|| (encode(&format!("{scheme}://{host}")), repo, kind))
}

/// `owner/name` of letters that GitHub allows.
fn is_name(text: &str) -> bool {
    let fits = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    };
    text.split_once('/').is_some_and(|(owner, name)| fits(owner) && fits(name))
}
