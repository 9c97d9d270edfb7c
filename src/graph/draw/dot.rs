//! A Graphviz digraph.

use std::fmt::Write;

use super::{Item, NodeKind, Tint, plain};

const HEAD: &str = r##"digraph flow {
  rankdir=TB;
  bgcolor="transparent";
  node [fontname="Helvetica,Arial,sans-serif", fontsize=11, fontcolor="#1f2328"];
  edge [color="#818b98", arrowsize=0.7];

"##;

pub(super) fn draw(items: &[Item]) -> String {
    let mut drawing = HEAD.to_owned();
    for item in items {
        let (shape, style) = match item.node.kind {
            NodeKind::Stage => ("box", "rounded,filled"),
            NodeKind::Table => ("cylinder", "filled"),
            NodeKind::File => ("note", "filled"),
            NodeKind::Source => ("note", "dashed,filled"),
        };
        let Tint { accent, pale, .. } = Tint::of(item.node);
        let _ = writeln!(
            drawing,
            "  {} [label=\"{}\", shape={shape}, style=\"{style}\", \
             color=\"{accent}\", fillcolor=\"{pale}\"];",
            id(item),
            label(item),
        );
    }
    drawing.push('\n');
    for item in items {
        for input in &item.inputs {
            let dashed = match items[*input].node.kind {
                NodeKind::Source => " [style=dashed]",
                _ => "",
            };
            let _ = writeln!(drawing, "  {} -> {}{dashed};", id(&items[*input]), id(item));
        }
    }
    drawing.push_str("}\n");
    drawing
}

fn id(item: &Item) -> String {
    format!("\"{}\"", escape(&item.node.name))
}

/// The name over what it is; a source is seen to be one.
fn label(item: &Item) -> String {
    let name = escape_label(&item.node.name);
    match item.node.kind {
        NodeKind::Stage | NodeKind::Table => {
            format!("{name}\\n{}", escape_label(&item.node.detail))
        }
        NodeKind::File | NodeKind::Source => name,
    }
}

/// Labels know entities too.
fn escape_label(text: &str) -> String {
    escape(text).replace('&', "&amp;")
}

fn escape(text: &str) -> String {
    plain(text).replace('\\', "\\\\").replace('"', "\\\"")
}
