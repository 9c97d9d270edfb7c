//! What the documents say, held against the program: keys and defaults of the manifest, examples,
//! links and commands.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use flow::manifest::{GithubSection, ModelSection, Text};
use serde_json::{Map, Value, json};
use support::{TestSpace, repository};

/// The heading in docs/manifest.md of each part of the schema.
const PARTS: [(&str, &str); 17] = [
    ("pipeline", "## `[pipeline]`"),
    ("github", "## `[github]`"),
    ("models", "## `[models.NAME]`"),
    ("price", "## `[models.NAME]`"),
    ("limits", "## `[models.NAME]`"),
    ("stages", "## `[stages.NAME]`"),
    ("kind github", "## Kind `github`"),
    ("kind llm", "## Kind `llm`"),
    ("kind sql", "## Kind `sql`"),
    ("kind command", "## Kind `command`"),
    ("kind split", "## Kind `split`"),
    ("kind sample", "## Kind `sample`"),
    ("kind agreement", "## Kind `agreement`"),
    ("kind calls", "## Kind `calls`"),
    ("kind report", "## Kind `report`"),
    ("profiles", "## `[profiles.NAME]`"),
    ("env", "# The manifest"),
];
const WHOLE: &str = "# whole manifest";

fn manifest_page() -> String {
    read(&repository().join("docs/manifest.md"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// README.md and every page of docs/.
fn pages() -> Vec<PathBuf> {
    let docs = fs::read_dir(repository().join("docs")).unwrap();
    let docs = docs.map(|entry| entry.unwrap().path());
    let mut pages: Vec<PathBuf> =
        docs.filter(|path| path.extension().is_some_and(|e| e == "md")).collect();
    pages.push(repository().join("README.md"));
    pages.sort();
    pages
}

/// A fenced block of a page.
struct Block {
    language: String,
    text: String,
    /// Named by a line `<!-- file: PATH -->` before the fence.
    file: Option<String>,
    place: String,
}

fn blocks(page: &Path) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    let mut before = String::new();
    for (index, line) in read(page).lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => {
                let file =
                    before.strip_prefix("<!-- file: ").and_then(|rest| rest.strip_suffix(" -->"));
                open = Some(Block {
                    language: language.to_owned(),
                    text: String::new(),
                    file: file.map(str::to_owned),
                    place: format!("{}:{}", page.display(), index + 1),
                });
            }
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(block), None) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
        before = line.to_owned();
    }
    assert!(open.is_none(), "{}: a fence is not closed", page.display());
    found
}

fn all_blocks() -> Vec<Block> {
    pages().iter().flat_map(|page| blocks(page)).collect()
}

/// The text under a heading, up to the next one.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let start = page
        .match_indices(heading)
        .find(|(at, _)| {
            (*at == 0 || page[..*at].ends_with('\n'))
                && page[at + heading.len()..].starts_with('\n')
        })
        .unwrap_or_else(|| panic!("docs/manifest.md has no heading {heading:?}"))
        .0
        + heading.len();
    let rest = &page[start..];
    let end = rest.match_indices("\n#").find(|(at, _)| {
        rest[at + 1..].trim_start_matches('#').starts_with(' ')
            && rest[..*at].matches("\n```").count().is_multiple_of(2)
    });
    &rest[..end.map_or(rest.len(), |(at, _)| at)]
}

/// The rows of the table `| key | type | default | does |`, by key.
fn rows(section: &str) -> BTreeMap<String, [String; 3]> {
    let mut rows = BTreeMap::new();
    let mut lines =
        section.lines().skip_while(|line| *line != "| key | type | default | does |").skip(2);
    for line in lines.by_ref().take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.trim_matches('|').splitn(4, '|').map(str::trim).collect();
        let [key, kind, default, does] = cells[..] else { panic!("a row of four cells: {line}") };
        assert!(!does.is_empty() && !default.is_empty(), "{line}");
        let cells = [kind, default, does].map(str::to_owned);
        assert!(rows.insert(key.trim_matches('`').to_owned(), cells).is_none(), "twice: {line}");
    }
    rows
}

/// A part of the schema: its properties, and those that must be there.
struct Part {
    properties: Map<String, Value>,
    required: BTreeSet<String>,
}

/// The parts of the schema by the names of [`PARTS`].
fn parts(schema: &Value) -> BTreeMap<String, Part> {
    let part = |schema: &Value| Part {
        properties: schema["properties"].as_object().expect("properties").clone(),
        required: schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|name| name.as_str().unwrap().to_owned())
            .collect(),
    };
    let mut parts = BTreeMap::new();
    let sections = &schema["properties"];
    let github = resolve(schema, &sections["github"]);
    let model = resolve(schema, &sections["models"]["additionalProperties"]);
    for (name, part_schema) in [
        ("pipeline", resolve(schema, &sections["pipeline"])),
        ("github", github),
        ("models", model),
        ("price", resolve(schema, &model["properties"]["price"])),
        ("limits", resolve(schema, &model["properties"]["limits"])),
        ("profiles", resolve(schema, &sections["profiles"]["additionalProperties"])),
        ("env", resolve(schema, &github["properties"]["token"])),
    ] {
        parts.insert(name.to_owned(), part(part_schema));
    }
    // What all kinds have is told once; the rest under each kind.
    let kinds = sections["stages"]["additionalProperties"]["oneOf"].as_array().expect("kinds");
    let kinds: Vec<(String, Part)> =
        kinds.iter().map(|kind| (kind["title"].as_str().unwrap().to_owned(), part(kind))).collect();
    let is_common = |name: &str| kinds.iter().all(|(_, kind)| kind.properties.contains_key(name));
    let mut common = Part { properties: Map::new(), required: BTreeSet::new() };
    for (title, kind) in &kinds {
        let mut own = Part { properties: Map::new(), required: BTreeSet::new() };
        for (name, property) in &kind.properties {
            let target = if is_common(name) { &mut common } else { &mut own };
            let property =
                if name == "kind" { json!({"type": "string"}) } else { property.clone() };
            target.properties.insert(name.clone(), property);
            if kind.required.contains(name) {
                target.required.insert(name.clone());
            }
        }
        parts.insert(format!("kind {title}"), own);
    }
    parts.insert("stages".into(), common);
    parts
}

/// What a reference leads to; of an optional one, what it is when it is there.
fn resolve<'a>(schema: &'a Value, reference: &'a Value) -> &'a Value {
    if let Some(options) = reference.get("anyOf").and_then(Value::as_array) {
        let some = options.iter().find(|option| option["type"] != "null").expect("a type");
        if options.iter().any(|option| option["type"] == "null") {
            return resolve(schema, some);
        }
    }
    match reference["$ref"].as_str() {
        Some(path) => resolve(schema, schema.pointer(&path[1..]).expect(path)),
        None => reference,
    }
}

/// A property's type, as docs/manifest.md calls it.
fn type_name(schema: &Value, property: &Value) -> &'static str {
    let property = resolve(schema, property);
    if let Some(options) = property["anyOf"].as_array() {
        let has = |kind: &str| options.iter().any(|option| option["type"] == kind);
        return match (has("array"), has("integer")) {
            (true, _) => "text or list of texts",
            (_, true) => "integer or `\"params.NAME\"`",
            _ => "text or `{ env = \"NAME\" }`",
        };
    }
    if property["properties"].get("env").is_some() {
        return "`{ env = \"NAME\" }`";
    }
    let first = &property["oneOf"][0]["type"];
    let named = [&property["type"], &property["type"][0], first];
    match named.into_iter().find_map(Value::as_str).expect("a type") {
        "string" => "text",
        "integer" => "integer",
        "number" => "number",
        "boolean" => "boolean",
        "object" => "table",
        "array" => "list of texts",
        other => panic!("docs/manifest.md has no word for the type {other}"),
    }
}

fn may_be_absent(property: &Value) -> bool {
    let is_null = |value: &Value| value == "null";
    property["type"].as_array().is_some_and(|types| types.iter().any(is_null))
        || property["anyOf"].as_array().is_some_and(|of| of.iter().any(|one| one["type"] == "null"))
}

/// Defaults that the schema does not tell.
fn untold_default(part: &str, key: &str) -> Option<String> {
    let shown = |text: Text| match text {
        Text::Plain(text) => json!(text).to_string(),
        Text::Env(_) => panic!("a default from the environment"),
    };
    match (part, key) {
        ("github", "base_url") => Some(shown(GithubSection::default().base_url)),
        ("models", "base_url") => {
            let model: ModelSection = serde_json::from_value(json!({"model": "m"})).unwrap();
            Some(shown(model.base_url))
        }
        _ => None,
    }
}

/// Whether a part is told in the table of another.
fn inner(part: &str) -> bool {
    ["price", "limits"].contains(&part)
}

/// A key as the table has it.
fn shown(part: &str, key: &str) -> String {
    if inner(part) { format!("{part}.{key}") } else { key.to_owned() }
}

#[test]
fn every_key_of_the_manifest_is_told_with_its_type_and_default() {
    let schema = flow::schema::manifest_schema();
    let page = manifest_page();
    let parts = parts(&schema);
    let known: BTreeSet<&str> = PARTS.iter().map(|(part, _)| *part).collect();
    let found: BTreeSet<&str> = parts.keys().map(String::as_str).collect();
    assert_eq!(found, known, "parts of the schema, and those that docs/manifest.md has");
    let mut wrong = Vec::new();
    for (name, heading) in PARTS {
        let part = &parts[name];
        let section = section(&page, heading);
        if name == "env" {
            assert!(section.contains("`env`"), "`env`");
            continue;
        }
        let mut rows = rows(section);
        // `price.input` is the key `input` of the part `price`.
        rows.retain(|key, _| key.split_once('.').map_or(!inner(name), |(outer, _)| outer == name));
        for (key, property) in &part.properties {
            let Some([kind, default, _]) = rows.remove(&shown(name, key)) else {
                wrong.push(format!("{heading}: there is no row `{key}`"));
                continue;
            };
            let expected = type_name(&schema, property);
            if kind != expected {
                wrong.push(format!("{heading}: `{key}` is {expected}, not {kind}"));
            }
            let told = property.get("default").filter(|value| !value.is_null());
            let told = told.map(Value::to_string).or_else(|| untold_default(name, key));
            if part.required.contains(key) || told.is_some() {
                let right = told.map_or("required".to_owned(), |value| format!("`{value}`"));
                if default != right {
                    wrong.push(format!(
                        "{heading}: the default of `{key}` is {right}, not {default}"
                    ));
                }
            } else if default == "required" {
                wrong.push(format!("{heading}: `{key}` is not required"));
            } else if default == "none" && !may_be_absent(property) && name != "profiles" {
                wrong.push(format!("{heading}: `{key}` has some default"));
            }
            for one in resolve(&schema, property)["oneOf"].as_array().into_iter().flatten() {
                let value = one["const"].as_str().expect("a text");
                if !section.contains(&format!("`{value}`")) {
                    wrong.push(format!("{heading}: `{value}` of `{key}` is not told"));
                }
            }
        }
        wrong.extend(rows.into_keys().map(|key| format!("{heading}: there is no key `{key}`")));
    }
    for (name, _) in schema["properties"].as_object().unwrap() {
        if !section(&page, "# The manifest").contains(&format!("`{name}`")) {
            wrong.push(format!("the section `{name}` is not told"));
        }
    }
    assert!(wrong.is_empty(), "docs/manifest.md:\n{}", wrong.join("\n"));
}

#[test]
fn examples_are_toml() {
    let mut count = 0;
    for block in all_blocks().iter().filter(|block| block.language == "toml") {
        if let Err(error) = toml::from_str::<toml::Table>(&block.text) {
            panic!("{}: {error}", block.place);
        }
        count += 1;
    }
    assert!(count >= 4, "{count} examples were found");
}

/// Every whole manifest of the pages, in a space with the files that the pages show.
fn whole_manifests() -> Vec<(Block, TestSpace)> {
    let (files, others): (Vec<Block>, _) =
        all_blocks().into_iter().partition(|block| block.file.is_some());
    let whole = others.into_iter().filter(|block| block.text.lines().next() == Some(WHOLE));
    let space = |block: Block| {
        let mut space = TestSpace::new();
        space.env("NO_COLOR", "1");
        for file in &files {
            space.write(file.file.as_deref().unwrap(), &file.text);
        }
        space.write("pipeline.toml", &block.text);
        (block, space)
    };
    whole.map(space).collect()
}

#[test]
fn whole_examples_pass_the_check() {
    let schema = jsonschema::validator_for(&flow::schema::manifest_schema()).unwrap();
    let whole = whole_manifests();
    assert!(whole.len() >= 2, "{} whole manifests were found", whole.len());
    for (block, space) in whole {
        let ran = space.flow(&["check"]);
        assert_eq!(ran.code, 0, "{}\n{}", block.place, ran.stderr);
        let value: Value = toml::from_str(&block.text).unwrap();
        let faults: Vec<String> =
            schema.iter_errors(&value).map(|error| error.to_string()).collect();
        assert!(faults.is_empty(), "{}: {faults:?}", block.place);
    }
}

#[test]
fn whole_examples_that_ask_nobody_run() {
    let calls = |text: &str| text.contains("kind = \"github\"") || text.contains("kind = \"llm\"");
    let whole = whole_manifests().into_iter().filter(|(block, _)| !calls(&block.text));
    let mut count = 0;
    for (block, space) in whole {
        let ran = space.run(&[]);
        assert_eq!(ran.code, 0, "{}\n{}", block.place, ran.stderr);
        assert!(space.exists("data"), "{}: it writes nothing", block.place);
        count += 1;
    }
    assert!(count >= 1);
}

/// What a page says outside its fences.
fn prose(page: &Path) -> String {
    let text = read(page);
    let parts = text.split("\n```").enumerate();
    parts.filter(|(index, _)| index % 2 == 0).map(|(_, part)| part).collect()
}

/// The name that GitHub gives a heading in links.
fn anchor(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut count = 0;
    for page in pages() {
        let text = prose(&page);
        for link in text.split("](").skip(1) {
            let link = link.split(')').next().unwrap_or_default();
            if link.contains("://") {
                continue;
            }
            let shown = format!("{}: {link}", page.display());
            let (path, place) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => page.clone(),
                path => page.parent().unwrap().join(path),
            };
            assert!(target.exists(), "{shown}");
            if !place.is_empty() {
                let headings = prose(&target);
                let mut headings = headings.lines().filter(|line| line.starts_with('#'));
                assert!(headings.any(|heading| anchor(heading) == place), "{shown}");
            }
            count += 1;
        }
    }
    assert!(count >= 4, "{count} links were found");
}

#[test]
fn the_readme_names_the_commands_that_there_are() {
    let space = TestSpace::new();
    let help = space.flow(&["help"]).expect(0).stdout;
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| line.starts_with("  "));
    let listed: BTreeSet<&str> = listed
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    let readme = read(&repository().join("README.md"));
    let mut told = BTreeSet::new();
    for row in readme.lines().filter(|line| line.starts_with("| `flow ")) {
        let name = row.trim_start_matches("| `flow ").split([' ', '`']).next().unwrap();
        told.insert(name);
        let help = space.flow(&["help", name]).expect(0).stdout;
        for option in row.split('`').filter(|text| text.starts_with("--")) {
            let option = option.split(' ').next().unwrap();
            assert!(help.contains(option), "`flow {name}` has no {option}");
        }
    }
    assert_eq!(told, listed, "the README's commands, and those of `flow help`");
}
