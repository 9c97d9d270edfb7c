//! What depends on what: stages, the tables and files that they start from, the sources that they
//! read. Building it finds cycles; selecting walks it; drawing shows it.

mod draw;

pub use draw::{DrawFormat, Facts, LastRows, PageFacts, State, draw, draw_page};

use std::collections::{BTreeSet, HashMap};

use petgraph::Direction;
use petgraph::algo::{tarjan_scc, toposort};
use petgraph::graphmap::DiGraphMap;

/// What a node stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeKind {
    /// An inline table of the manifest.
    Table,
    /// A table in a file that people wrote.
    File,
    /// A prompt, schema, query or program that a stage reads.
    Source,
    Stage,
}

impl NodeKind {
    pub fn as_str(self) -> &'static str {
        match self {
            NodeKind::Table => "table",
            NodeKind::File => "file",
            NodeKind::Source => "source",
            NodeKind::Stage => "stage",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// A stage's name, a table's name, a file's path; unique in the graph.
    pub name: String,
    pub kind: NodeKind,
    /// A stage's kind (`github`, `sql`, ...); `5 rows` for an inline table; else empty.
    pub detail: String,
    /// The files that a stage writes.
    pub outputs: Vec<String>,
}

/// A directed graph without cycles; edges go the way the data goes.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    places: HashMap<String, usize>,
    edges: DiGraphMap<usize, ()>,
}

/// Nodes that depend on each other: `a -> b -> a`, by name.
#[derive(Debug, PartialEq, Eq)]
pub struct Cycle(pub Vec<String>);

impl Graph {
    /// Adds a node, or finds the one of that name. The index is good for this graph alone.
    pub fn add(&mut self, node: Node) -> usize {
        if let Some(index) = self.index(&node.name) {
            return index;
        }
        self.places.insert(node.name.clone(), self.nodes.len());
        self.nodes.push(node);
        self.edges.add_node(self.nodes.len() - 1)
    }

    pub fn connect(&mut self, from: usize, to: usize) {
        self.edges.add_edge(from, to, ());
    }

    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub fn index(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }

    /// The nodes that `index` reads, in the order of the nodes.
    pub fn inputs(&self, index: usize) -> Vec<usize> {
        self.neighbors(index, Direction::Incoming)
    }

    /// The nodes that read `index`, in the order of the nodes.
    pub fn readers(&self, index: usize) -> Vec<usize> {
        self.neighbors(index, Direction::Outgoing)
    }

    fn neighbors(&self, index: usize, direction: Direction) -> Vec<usize> {
        let mut found: Vec<usize> = self.edges.neighbors_directed(index, direction).collect();
        found.sort_unstable();
        found
    }

    /// Every node after all that it reads; or a cycle, as a path that ends where it began.
    pub fn order(&self) -> Result<Vec<usize>, Cycle> {
        if let Ok(order) = toposort(&self.edges, None) {
            return Ok(order);
        }
        let knot = tarjan_scc(&self.edges)
            .into_iter()
            .find(|nodes| nodes.len() > 1 || self.edges.contains_edge(nodes[0], nodes[0]));
        let knot: BTreeSet<usize> = knot.into_iter().flatten().collect();
        // Within a knot every node leads on to another of it, so this walk comes round.
        let mut path = Vec::new();
        let mut next = knot.first().copied();
        while let Some(node) = next {
            if let Some(start) = path.iter().position(|seen| *seen == node) {
                path.drain(..start);
                path.push(node);
                break;
            }
            path.push(node);
            next = self.readers(node).into_iter().find(|reader| knot.contains(reader));
        }
        Err(Cycle(path.into_iter().map(|node| self.nodes[node].name.clone()).collect()))
    }

    /// `index` with all that it needs and all that needs it.
    pub fn around(&self, index: usize) -> BTreeSet<usize> {
        let mut found = BTreeSet::from([index]);
        for direction in [Direction::Incoming, Direction::Outgoing] {
            let mut waiting = vec![index];
            while let Some(node) = waiting.pop() {
                for next in self.edges.neighbors_directed(node, direction) {
                    if found.insert(next) {
                        waiting.push(next);
                    }
                }
            }
        }
        found
    }

    /// The graph of some of the nodes and the edges between them.
    pub fn only(&self, wanted: &BTreeSet<usize>) -> Graph {
        let mut part = Graph::default();
        for index in wanted {
            part.add(self.nodes[*index].clone());
        }
        for (from, to, ()) in self.edges.all_edges() {
            let ends = (part.index(&self.nodes[from].name), part.index(&self.nodes[to].name));
            if let (Some(from), Some(to)) = ends {
                part.connect(from, to);
            }
        }
        part
    }
}
