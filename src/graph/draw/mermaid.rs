//! A Mermaid flowchart, which GitHub shows in Markdown.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{Item, NodeKind, Tint, plain};

pub(super) fn draw(items: &[Item]) -> String {
    let mut drawing = "flowchart TD\n".to_owned();
    let mut tints = BTreeMap::new();
    for (at, item) in items.iter().enumerate() {
        let tint = Tint::of(item.node);
        tints.insert(tint.class, tint);
        let _ = writeln!(drawing, "  n{at}{}:::{}", shape(item), tint.class);
    }
    for (at, item) in items.iter().enumerate() {
        for input in &item.inputs {
            let arrow = match items[*input].node.kind {
                NodeKind::Source => "-.->",
                _ => "-->",
            };
            let _ = writeln!(drawing, "  n{input} {arrow} n{at}");
        }
    }
    // Ground and ink together are legible whatever the page's theme is.
    for Tint { class, accent, pale, .. } in tints.values() {
        let _ = writeln!(drawing, "  classDef {class} fill:{pale},stroke:{accent},color:#1f2328");
    }
    drawing
}

fn shape(item: &Item) -> String {
    let name = escape(&item.node.name);
    let detail = escape(&item.node.detail);
    match item.node.kind {
        NodeKind::Stage => format!("[\"{name}<br/><small>{detail}</small>\"]"),
        NodeKind::Table => format!("[(\"{name}<br/><small>{detail}</small>\")]"),
        NodeKind::File | NodeKind::Source => format!(">\"{name}\"]"),
    }
}

/// Mermaid reads quotes, tags, Markdown and entities in labels; a code for a character is only it.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for c in plain(text).chars() {
        match c {
            ' ' | '/' | '.' | '-' | '_' => escaped.push(c),
            c if c.is_ascii_punctuation() => {
                let _ = write!(escaped, "#{};", u32::from(c));
            }
            c => escaped.push(c),
        }
    }
    escaped
}
