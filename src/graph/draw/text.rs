//! A tree for a terminal: the data's way from top to bottom, each stage once.
//!
//! A node stands under the last of its inputs to be drawn, so what else it reads is above it. The
//! longest way on from a node goes straight down and the others branch off, so that depth costs
//! lines, not columns.

use super::{Item, NodeKind, plain, readers};

/// Lists are broken to stay within it.
const WIDTH: usize = 110;
/// A longer name pushes only its own line.
const NAME_WIDTH: usize = 44;
const KIND_WIDTH: usize = 16;
/// However far to the right a list begins, it has room for a path.
const LIST_WIDTH: usize = 40;

pub(super) fn draw(items: &[Item]) -> String {
    if items.is_empty() {
        return "no stages\n".to_owned();
    }
    let rows = rows(items, &Tree::grow(items));
    let names = rows.iter().map(|row| length(&row.name)).filter(|name| *name <= NAME_WIDTH).max();
    let kinds = rows.iter().map(|row| length(&row.kind)).filter(|kind| *kind <= KIND_WIDTH).max();
    let mut drawing = String::new();
    for row in &rows {
        if row.root && !drawing.is_empty() {
            drawing.push('\n');
        }
        row.write(&mut drawing, names.unwrap_or(0), kinds.unwrap_or(0));
    }
    drawing
}

/// Each item under one of its inputs.
struct Tree {
    roots: Vec<usize>,
    children: Vec<Vec<usize>>,
}

impl Tree {
    fn grow(items: &[Item]) -> Tree {
        let readers = readers(items);
        let mut heights = vec![0; items.len()];
        for at in (0..items.len()).rev() {
            heights[at] = readers[at].iter().map(|reader| heights[*reader] + 1).max().unwrap_or(0);
        }
        // Short branches before long ones: the longest comes last and goes on straight down.
        let sort = |branches: &mut Vec<usize>| branches.sort_by_key(|at| (heights[*at], *at));

        let mut waits: Vec<usize> = items.iter().map(|item| item.inputs.len()).collect();
        let mut children = vec![Vec::new(); items.len()];
        let mut roots: Vec<usize> = (0..items.len()).filter(|at| waits[*at] == 0).collect();
        sort(&mut roots);
        let mut stack: Vec<usize> = roots.iter().rev().copied().collect();
        while let Some(at) = stack.pop() {
            for reader in &readers[at] {
                waits[*reader] -= 1;
                if waits[*reader] == 0 {
                    children[at].push(*reader);
                }
            }
            sort(&mut children[at]);
            stack.extend(children[at].iter().rev());
        }
        Tree { roots, children }
    }
}

/// An item as it is drawn.
struct Row {
    /// The tree's lines, a mark and the name.
    name: String,
    /// The tree's lines below the name.
    below: String,
    root: bool,
    kind: String,
    /// What it makes: lines beside the kind.
    makes: List,
    /// What it reads that the tree does not show: lines below the kind.
    reads: Vec<List>,
}

/// Names after a word.
struct List {
    word: &'static str,
    names: Vec<String>,
}

fn rows(items: &[Item], tree: &Tree) -> Vec<Row> {
    /// An item that waits for its turn, and the tree's lines before its name and below it.
    struct Branch {
        at: usize,
        parent: Option<usize>,
        before: String,
        below: String,
    }

    let mut rows = Vec::with_capacity(items.len());
    let root =
        |at: &usize| Branch { at: *at, parent: None, before: String::new(), below: String::new() };
    let mut stack: Vec<Branch> = tree.roots.iter().rev().map(root).collect();
    while let Some(Branch { at, parent, before, below }) = stack.pop() {
        let children = &tree.children[at];
        rows.push(row(items, at, parent, before, &below, !children.is_empty()));
        let ends_here = |child: usize| children.len() > 1 && tree.children[child].is_empty();
        for (nth, child) in children.iter().enumerate().rev() {
            let (turn, line) = match nth + 1 == children.len() {
                false => ("├─", "│ "),
                true if ends_here(*child) => ("└─", "  "),
                true => ("", ""),
            };
            stack.push(Branch {
                at: *child,
                parent: Some(at),
                before: format!("{below}{turn}"),
                below: format!("{below}{line}"),
            });
        }
    }
    rows
}

fn row(
    items: &[Item],
    at: usize,
    parent: Option<usize>,
    before: String,
    below: &str,
    goes_on: bool,
) -> Row {
    let item = &items[at];
    let others = item.inputs.iter().filter(|input| Some(**input) != parent);
    let others = others.map(|input| plain(&items[*input].node.name)).collect();
    let sources = item.sources.iter().map(|source| plain(source)).collect();
    let makes = match item.node.kind {
        NodeKind::Stage => List {
            word: "-> ",
            names: item.node.outputs.iter().map(|output| plain(output)).collect(),
        },
        _ => List { word: "", names: vec![plain(&item.node.detail)] },
    };
    let mark = if item.is_stage() { "●" } else { "○" };
    Row {
        name: format!("{before}{mark} {}", plain(&item.node.name)),
        below: format!("{below}{}", if goes_on { "│" } else { "" }),
        root: parent.is_none(),
        kind: item.kind(),
        makes,
        reads: vec![
            List { word: "also reads: ", names: others },
            List { word: "uses: ", names: sources },
        ],
    }
}

impl Row {
    fn write(&self, drawing: &mut String, name_width: usize, kind_width: usize) {
        let name = pad(&self.name, name_width);
        let kind = pad(&self.kind, kind_width);
        let mut makes = self.makes.lines(name_width + kind_width + 4).into_iter();
        push_line(drawing, &format!("{name}  {kind}  {}", makes.next().unwrap_or_default()));
        let below = pad(&self.below, name_width);
        for line in makes {
            push_line(drawing, &format!("{below}  {:kind_width$}  {line}", ""));
        }
        for line in self.reads.iter().flat_map(|list| list.lines(name_width + 2)) {
            push_line(drawing, &format!("{below}  {line}"));
        }
    }
}

impl List {
    /// The names in lines that end within the width where they begin at column `from`.
    fn lines(&self, from: usize) -> Vec<String> {
        let indent = length(self.word);
        let room = WIDTH.saturating_sub(from + indent).max(LIST_WIDTH);
        let mut lines: Vec<String> = Vec::new();
        let mut used = room;
        for (nth, name) in self.names.iter().enumerate() {
            let comma = if nth + 1 < self.names.len() { "," } else { "" };
            let needed = length(name) + comma.len();
            match lines.last_mut() {
                Some(line) if used + 1 + needed <= room => {
                    line.push_str(&format!(" {name}{comma}"));
                    used += 1 + needed;
                }
                _ => {
                    let word = if nth == 0 { self.word } else { "" };
                    lines.push(format!("{word:indent$}{name}{comma}"));
                    used = needed;
                }
            }
        }
        lines
    }
}

fn push_line(drawing: &mut String, line: &str) {
    drawing.push_str(line.trim_end());
    drawing.push('\n');
}

fn pad(text: &str, width: usize) -> String {
    format!("{text:width$}")
}

fn length(text: &str) -> usize {
    text.chars().count()
}
