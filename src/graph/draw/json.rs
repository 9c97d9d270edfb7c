//! Nodes and edges as JSON, for programs.

use serde_json::{Value, json};

use super::Item;

pub(super) fn draw(items: &[Item]) -> String {
    let node = |item: &Item| {
        json!({
            "name": item.node.name,
            "type": item.node.kind.as_str(),
            "kind": item.is_stage().then_some(&item.node.detail),
            "outputs": item.node.outputs,
        })
    };
    let edges = |item: &Item| -> Vec<Value> {
        let edge = |input: &usize| json!({ "from": items[*input].node.name, "to": item.node.name });
        item.inputs.iter().map(edge).collect()
    };
    let nodes: Vec<Value> = items.iter().map(node).collect();
    let edges: Vec<Value> = items.iter().flat_map(edges).collect();
    format!("{:#}\n", json!({ "nodes": nodes, "edges": edges }))
}
