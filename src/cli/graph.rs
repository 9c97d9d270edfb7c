//! `flow graph`

use clap::Args;

use super::style::Style;
use super::{Exit, Shared};
use crate::graph::{DrawFormat, NodeKind, draw};
use crate::manifest::did_you_mean;

#[derive(Args)]
#[command(after_help = "Examples:
  flow graph
  flow graph classify --format mermaid")]
pub(super) struct Arguments {
    /// A stage: only it, what it needs, and what needs it
    stage: Option<String>,
    /// How to draw it
    #[arg(long, default_value = "text", value_parser = DrawFormat::NAMES)]
    format: String,
}

pub(super) fn main(arguments: &Arguments, shared: &Shared, style: &Style) -> Exit {
    let pipeline = match shared.load(style) {
        Ok(pipeline) => pipeline,
        Err(exit) => return exit,
    };
    let mut graph = pipeline.graph;
    if let Some(name) = &arguments.stage {
        let Some(index) = graph.index(name) else {
            let stages = graph.nodes().iter().filter(|node| node.kind == NodeKind::Stage);
            let help = did_you_mean(name, stages.map(|node| node.name.as_str()));
            let help = help.map(|help| format!("; {help}")).unwrap_or_default();
            style.error(&format!("there is no stage `{name}`{help}"));
            return Exit::Wrong;
        };
        graph = graph.only(&graph.around(index));
    }
    // The parser lets only known names through.
    let format = DrawFormat::parse(&arguments.format).unwrap_or(DrawFormat::Text);
    style.result(&draw(&graph, format));
    Exit::Done
}
