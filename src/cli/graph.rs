//! `flow graph`

use std::path::PathBuf;

use clap::Args;

use super::style::Style;
use super::{Exit, Shared};
use crate::engine::{Look, page_facts};
use crate::graph::{DrawFormat, NodeKind, draw, draw_page};
use crate::manifest::{clean, did_you_mean};

#[derive(Args)]
#[command(after_help = "Examples:
  flow graph
  flow graph classify --format mermaid")]
pub(super) struct Arguments {
    /// A stage: only it, what it needs, and what needs it
    stage: Option<String>,
    /// How to draw it; `html` is a page that tells also how each stage stands
    #[arg(long, default_value = "text", value_parser = FORMATS)]
    format: String,
    /// Write it to FILE, not to stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Those that show the graph alone, and the page, which looks into the store too.
const FORMATS: [&str; 6] = ["text", "mermaid", "dot", "svg", "json", "html"];

pub(super) fn main(arguments: &Arguments, shared: &Shared, style: &Style) -> Exit {
    let pipeline = match shared.load(style) {
        Ok(pipeline) => pipeline,
        Err(exit) => return exit,
    };
    let mut graph = pipeline.graph.clone();
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
    let drawing = match DrawFormat::parse(&arguments.format) {
        Some(format) => draw(&graph, format),
        None => match Look::new(&pipeline).and_then(|look| page_facts(&look)) {
            Ok(facts) => draw_page(&graph, &facts),
            Err(error) => {
                style.error(&clean(&error.to_string()));
                return Exit::Incomplete;
            }
        },
    };
    let Some(file) = &arguments.output else {
        style.result(&drawing);
        return Exit::Done;
    };
    match std::fs::write(file, drawing) {
        Ok(()) => {
            style.say(&format!("written to {}", clean(&file.display().to_string())));
            Exit::Done
        }
        Err(error) => {
            style.error(&format!("{} cannot be written: {error}", file.display()));
            Exit::Incomplete
        }
    }
}
