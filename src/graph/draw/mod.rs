//! A graph drawn: for a terminal, for Markdown, for Graphviz, as a picture, as a page to
//! look through, for programs.

mod dot;
mod json;
mod layout;
mod mermaid;
mod page;
mod svg;
mod text;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{Graph, Node, NodeKind};
use crate::manifest::clean;
pub use page::{Facts, LastRows, PageFacts, State, draw_page};

/// How to draw a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrawFormat {
    /// A tree for a terminal.
    Text,
    /// A Mermaid flowchart, which GitHub shows in Markdown.
    Mermaid,
    /// A Graphviz digraph.
    Dot,
    /// A picture that stands alone.
    Svg,
    /// Nodes and edges, for programs.
    Json,
}

impl DrawFormat {
    pub const NAMES: [&str; 5] = ["text", "mermaid", "dot", "svg", "json"];

    pub fn parse(name: &str) -> Option<DrawFormat> {
        match name {
            "text" => Some(DrawFormat::Text),
            "mermaid" => Some(DrawFormat::Mermaid),
            "dot" => Some(DrawFormat::Dot),
            "svg" => Some(DrawFormat::Svg),
            "json" => Some(DrawFormat::Json),
            _ => None,
        }
    }
}

/// The drawing; it ends with a newline.
pub fn draw(graph: &Graph, format: DrawFormat) -> String {
    let items = arrange(graph);
    match format {
        DrawFormat::Text => text::draw(&fold_sources(items)),
        DrawFormat::Mermaid => mermaid::draw(&items),
        DrawFormat::Dot => dot::draw(&items),
        DrawFormat::Svg => svg::draw(&fold_sources(items)),
        DrawFormat::Json => json::draw(&items),
    }
}

/// A node in its place among the others.
struct Item<'a> {
    node: &'a Node,
    /// The places of the nodes that it reads: all of them before its own.
    inputs: Vec<usize>,
    /// The names of the sources that it reads, where they are folded into it.
    sources: Vec<&'a str>,
}

impl Item<'_> {
    fn is_stage(&self) -> bool {
        self.node.kind == NodeKind::Stage
    }

    /// What to say of it in a word: a stage's kind; `table`, `file` or `source`.
    fn kind(&self) -> String {
        match self.is_stage() {
            true => plain(&self.node.detail),
            false => self.node.kind.as_str().to_owned(),
        }
    }
}

/// Every node after all that it reads, otherwise in the order of the manifest.
fn arrange(graph: &Graph) -> Vec<Item<'_>> {
    let count = graph.nodes().len();
    let readers: Vec<Vec<usize>> = (0..count).map(|node| graph.readers(node)).collect();
    // A file or a source stands where it is first read.
    let place = |node: usize| {
        let first = readers[node].first().copied().unwrap_or(node);
        Reverse((first.min(node), node))
    };

    let mut waits: Vec<usize> = (0..count).map(|node| graph.inputs(node).len()).collect();
    let mut ready: BinaryHeap<_> = (0..count).filter(|node| waits[*node] == 0).map(place).collect();
    let mut order = Vec::with_capacity(count);
    while let Some(Reverse((_, node))) = ready.pop() {
        order.push(node);
        for reader in &readers[node] {
            waits[*reader] -= 1;
            if waits[*reader] == 0 {
                ready.push(place(*reader));
            }
        }
    }
    // Nothing of a cycle is ever ready; it is drawn all the same.
    order.extend((0..count).filter(|node| waits[*node] > 0));

    let mut places = vec![0; count];
    for (at, node) in order.iter().enumerate() {
        places[*node] = at;
    }
    let item = |(at, node): (usize, &usize)| {
        let inputs = graph.inputs(*node).into_iter().map(|input| places[input]);
        let mut inputs: Vec<usize> = inputs.filter(|input| *input < at).collect();
        inputs.sort_unstable();
        Item { node: &graph.nodes()[*node], inputs, sources: Vec::new() }
    };
    order.iter().enumerate().map(item).collect()
}

/// Sources as a property of their readers rather than as nodes.
fn fold_sources<'a>(items: Vec<Item<'a>>) -> Vec<Item<'a>> {
    let is_source: Vec<bool> =
        items.iter().map(|item| item.node.kind == NodeKind::Source).collect();
    let names: Vec<&'a str> = items.iter().map(|item| item.node.name.as_str()).collect();
    let mut places = Vec::with_capacity(items.len());
    let mut kept = 0;
    for source in &is_source {
        places.push(kept);
        kept += usize::from(!source);
    }
    let fold = |item: Item<'a>| {
        let (sources, inputs): (Vec<usize>, Vec<usize>) =
            item.inputs.into_iter().partition(|input| is_source[*input]);
        Item {
            node: item.node,
            inputs: inputs.into_iter().map(|input| places[input]).collect(),
            sources: sources.into_iter().map(|source| names[source]).collect(),
        }
    };
    let shown = items.into_iter().filter(|item| item.node.kind != NodeKind::Source);
    shown.map(fold).collect()
}

/// The other way round than the inputs: who reads each item.
fn readers(items: &[Item]) -> Vec<Vec<usize>> {
    let mut readers = vec![Vec::new(); items.len()];
    for (at, item) in items.iter().enumerate() {
        for input in &item.inputs {
            readers[*input].push(at);
        }
    }
    readers
}

/// Text from outside on one line, without characters that a terminal obeys or that XML forbids.
fn plain(text: &str) -> String {
    let show = |c: char| match c {
        '\n' => '\u{240a}',
        '\t' => '\u{2409}',
        '\u{fffe}' | '\u{ffff}' => '\u{fffd}',
        c => c,
    };
    clean(text).chars().map(show).collect()
}

/// The colours of a kind of node.
struct Tint {
    /// Its name where a format has classes.
    class: &'static str,
    /// On a light ground.
    accent: &'static str,
    /// On a dark ground.
    glow: &'static str,
    /// A ground for dark text.
    pale: &'static str,
}

impl Tint {
    const fn new(
        class: &'static str,
        accent: &'static str,
        glow: &'static str,
        pale: &'static str,
    ) -> Tint {
        Tint { class, accent, glow, pale }
    }

    fn of(node: &Node) -> &'static Tint {
        let class = match node.kind {
            NodeKind::Stage => node.detail.as_str(),
            kind => kind.as_str(),
        };
        TINTS.iter().find(|tint| tint.class == class).unwrap_or(&OTHER)
    }
}

const OTHER: Tint = Tint::new("other", "#59636e", "#9198a1", "#e9ecef");

const TINTS: [Tint; 12] = [
    Tint::new("github", "#8250df", "#bc8cff", "#eee5fc"),
    Tint::new("llm", "#bc4c00", "#f0883e", "#fde7d6"),
    Tint::new("sql", "#0969da", "#58a6ff", "#dcebfb"),
    Tint::new("command", "#4d5a66", "#a5b1bd", "#dfe4e9"),
    Tint::new("sample", "#0f766e", "#39c5bb", "#d3f0ed"),
    Tint::new("agreement", "#1a7f37", "#3fb950", "#d9f2df"),
    Tint::new("report", "#bf3989", "#f778ba", "#fbe0ee"),
    Tint::new("split", "#8a5d00", "#d9a62e", "#f7ebc5"),
    Tint::new("table", "#59636e", "#9198a1", "#f4f6f8"),
    Tint::new("file", "#59636e", "#9198a1", "#f4f6f8"),
    Tint::new("source", "#818b98", "#818b98", "#ffffff"),
    OTHER,
];
