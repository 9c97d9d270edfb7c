//! A page to look through a graph: the picture, and a panel with what is known of each node.
//!
//! The page stands alone and fetches nothing. What strangers wrote (rows, prompts, names) goes into it
//! as JSON in which nothing can end the script that holds it; the page's own script shows it as text.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::svg::{self, Badge};
use super::{Item, arrange, fold_sources, plain, readers};
use crate::graph::{Graph, NodeKind};
use crate::text::{escape, grouped};

/// What the page tells beside the graph.
#[derive(Clone, Debug, Default)]
pub struct PageFacts {
    pub title: String,
    /// Of the whole, a line each: the profile, what was spent.
    pub told: Vec<String>,
    /// By the names of nodes.
    pub nodes: HashMap<String, Facts>,
}

/// What is known of a node.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub description: Option<String>,
    /// Only stages have one.
    pub state: Option<State>,
    /// Why it is in that state.
    pub reason: Option<String>,
    /// Of its table, where there is one.
    pub rows: Option<u64>,
    pub cost_usd: f64,
    /// Other facts: what it is, and what is to be said of it.
    pub told: Vec<(String, String)>,
    /// Of its last run, likewise.
    pub last_run: Vec<(String, String)>,
    /// Short settings, by name.
    pub settings: Vec<(String, String)>,
    /// Prompts, queries, templates: what it is called, and the text.
    pub texts: Vec<(String, String)>,
    pub last_rows: Option<LastRows>,
}

/// The beginning of a table, as text.
#[derive(Clone, Debug, Default)]
pub struct LastRows {
    pub columns: Vec<String>,
    /// A cell for each column; `None` where there is nothing.
    pub rows: Vec<Vec<Option<String>>>,
}

/// How a stage stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    UpToDate,
    /// It would run.
    Stale,
    /// Rows of it have no result.
    Incomplete,
    /// Its last run gave no table.
    Failed,
    NeverRan,
}

impl State {
    const ALL: [State; 5] =
        [State::UpToDate, State::Stale, State::Incomplete, State::Failed, State::NeverRan];

    pub fn as_str(self) -> &'static str {
        match self {
            State::UpToDate => "up to date",
            State::Stale => "stale",
            State::Incomplete => "incomplete",
            State::Failed => "failed",
            State::NeverRan => "never ran",
        }
    }

    pub(super) fn class(self) -> &'static str {
        match self {
            State::UpToDate => "is-up",
            State::Stale => "is-stale",
            State::Incomplete => "is-part",
            State::Failed => "is-failed",
            State::NeverRan => "is-new",
        }
    }

    /// A mark of 10 by 10, which differs by its shape and not by its colour alone: a tick, a diamond,
    /// a triangle, a cross, a ring.
    pub(super) fn mark(self) -> &'static str {
        match self {
            State::UpToDate => "M0.6 5.4 2 4 4 6 8 1.8 9.4 3.2 4 8.8Z",
            State::Stale => "M5 0 10 5 5 10 0 5Z",
            State::Incomplete => "M5 0.6 10 9.4H0Z",
            State::Failed => {
                "M1 2.4 2.4 1 5 3.6 7.6 1 9 2.4 6.4 5 9 7.6 7.6 9 5 6.4 2.4 9 1 7.6 3.6 5Z"
            }
            State::NeverRan => "M5 0.5a4.5 4.5 0 1 0 .01 0ZM5 2.1a2.9 2.9 0 1 1-.01 0Z",
        }
    }
}

/// The page; the same of the same.
pub fn draw_page(graph: &Graph, facts: &PageFacts) -> String {
    let items = fold_sources(arrange(graph));
    let nothing = Facts::default();
    let known: Vec<&Facts> =
        items.iter().map(|item| facts.nodes.get(&item.node.name).unwrap_or(&nothing)).collect();
    let badges: Vec<Option<Badge>> = known.iter().map(|facts| badge(facts)).collect();
    let title = tame(&facts.title);

    let mut style = STYLE.to_owned();
    // Paper is white.
    style.push_str(&svg::style("@media screen and (prefers-color-scheme: dark)"));
    let mut body = format!("<body>\n<header>\n<h1>{}</h1>\n{}", escape(&title), legend(&known));
    for line in &facts.told {
        body.push_str(&format!("<p>{}</p>\n", escape(&tame(line))));
    }
    body.push_str(TOOLS);
    body.push_str("</header>\n<div id=\"work\">\n<main id=\"view\">\n");
    body.push_str(&svg::draw_in_page(&items, &badges));
    body.push_str("</main>\n<aside id=\"panel\" aria-label=\"Details\" hidden></aside>\n</div>\n");
    body.push_str("<script type=\"application/json\" id=\"facts\">");
    body.push_str(&harmless(&data(&items, &known).to_string()));
    body.push_str("</script>\n");

    // The one script that may run is the page's own: it has the word that the policy asks for.
    let mut hasher = blake3::Hasher::new();
    for part in [&title, &style, &body, SCRIPT] {
        hasher.update(part.as_bytes()).update(&[0]);
    }
    let nonce = &hasher.finalize().to_hex()[..32];
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         style-src 'unsafe-inline'; script-src 'nonce-{nonce}'; base-uri 'none'; \
         form-action 'none'\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{}</title>\n\
         <style>\n{style}</style>\n</head>\n{body}\
         <script nonce=\"{nonce}\">\n{SCRIPT}</script>\n</body>\n</html>\n",
        escape(&title),
    )
}

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

const TOOLS: &str = "\
<div id=\"tools\">
<input id=\"search\" type=\"search\" placeholder=\"Find by name ( / )\" aria-label=\"Find by name\" \
autocomplete=\"off\" spellcheck=\"false\">
<output id=\"found\" for=\"search\"></output>
<span role=\"group\" aria-label=\"Zoom\">
<button id=\"out\" type=\"button\" aria-label=\"Zoom out\">\u{2212}</button>
<button id=\"in\" type=\"button\" aria-label=\"Zoom in\">+</button>
<button id=\"fit\" type=\"button\">fit</button>
</span>
</div>
";

/// How many stages are in each state; it tells what the marks mean.
fn legend(known: &[&Facts]) -> String {
    let mut legend = String::new();
    for state in State::ALL {
        let count = known.iter().filter(|facts| facts.state == Some(state)).count();
        if count > 0 {
            legend.push_str(&format!(
                "<li class=\"state {}\"><svg viewBox=\"0 0 10 10\" aria-hidden=\"true\">\
                 <path d=\"{}\"/></svg> {} {}</li>\n",
                state.class(),
                state.mark(),
                grouped(count as u64),
                state.as_str(),
            ));
        }
    }
    format!("<ul id=\"legend\" aria-label=\"Stages by state\">\n{legend}</ul>\n")
}

fn badge(facts: &Facts) -> Option<Badge> {
    let mut numbers = Vec::new();
    match facts.rows {
        Some(1) => numbers.push("1 row".to_owned()),
        Some(rows) => numbers.push(format!("{} rows", grouped(rows))),
        None => {}
    }
    if facts.cost_usd > 0.0 {
        numbers.push(format!("${:.4}", facts.cost_usd));
    }
    facts.state.map(|state| Badge { state, numbers: numbers.join(" \u{b7} ") })
}

/// What the script reads: each node by its place, as the cards and the ends of lines are numbered. A
/// text that many stages read is there once.
fn data(items: &[Item], known: &[&Facts]) -> Value {
    let mut texts: Vec<String> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut keep = |text: &str| -> usize {
        *places.entry(tame(text)).or_insert_with_key(|text| {
            texts.push(text.clone());
            texts.len() - 1
        })
    };
    let readers = readers(items);
    let mut nodes = Vec::with_capacity(items.len());
    for (at, (item, facts)) in items.iter().zip(known).enumerate() {
        let outputs = item.node.outputs.iter().map(|output| tame(output));
        let sources = item.sources.iter().map(|source| tame(source));
        let kept = facts.texts.iter().map(|(name, text)| json!([tame(name), keep(text)]));
        let state = |state: State| json!({ "word": state.as_str(), "class": state.class(), "mark": state.mark() });
        nodes.push(json!({
            "name": plain(&item.node.name),
            "kind": item.kind(),
            "stage": item.node.kind == NodeKind::Stage,
            "tint": super::Tint::of(item.node).class,
            "description": facts.description.as_deref().map(tame),
            "state": facts.state.map(state),
            "reason": facts.reason.as_deref().map(tame),
            "rows": facts.rows,
            "told": pairs(&facts.told),
            "last_run": pairs(&facts.last_run),
            "settings": pairs(&facts.settings),
            "inputs": item.inputs,
            "readers": readers[at],
            "outputs": outputs.collect::<Vec<_>>(),
            "sources": sources.collect::<Vec<_>>(),
            "texts": kept.collect::<Vec<_>>(),
            "table": facts.last_rows.as_ref().map(table),
        }));
    }
    json!({ "nodes": nodes, "texts": texts })
}

fn pairs(pairs: &[(String, String)]) -> Vec<[String; 2]> {
    pairs.iter().map(|(name, value)| [tame(name), tame(value)]).collect()
}

fn table(last: &LastRows) -> Value {
    let columns: Vec<String> = last.columns.iter().map(|column| tame(column)).collect();
    let cells = |row: &Vec<Option<String>>| -> Vec<Option<String>> {
        row.iter().map(|cell| cell.as_deref().map(tame)).collect()
    };
    json!({ "columns": columns, "rows": last.rows.iter().map(cells).collect::<Vec<_>>() })
}

/// Text from outside without control characters, and without marks that reorder what is read.
fn tame(text: &str) -> String {
    let harmful = |c: char| match c {
        '\n' | '\t' => false,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => true,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        c => c.is_control(),
    };
    text.chars().filter(|c| !harmful(*c)).collect()
}

/// JSON that can stand in a page: what HTML or JavaScript could read as a mark is escaped. All of it
/// stands in strings, where JSON takes the escapes for the characters themselves.
fn harmless(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                safe.push_str(&format!("\\u{:04x}", c as u32));
            }
            c => safe.push(c),
        }
    }
    safe
}
