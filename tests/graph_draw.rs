//! Graphs drawn in each format: what is read is there, once, in its place, and nothing breaks out.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use flow::graph::{DrawFormat, Graph, Node, NodeKind, draw};
use serde_json::Value;

const STAGES: [(&str, &str, &str); 10] = [
    ("items", "github", "data/llm_bugs.json"),
    ("classify", "llm", "data/analysis_cache.json"),
    ("merged", "sql", "data/merged_bug_results.json"),
    ("pull_requests", "github", "data/pull_requests.json"),
    ("final", "sql", "data/final_bug_results.json"),
    ("diffs", "github", "data/bug_diffs.json"),
    ("root_cause", "llm", "data/root_cause.json"),
    ("symptom", "llm", "data/symptom.json"),
    ("content", "github", "data/content.json"),
    ("agreement", "agreement", "data/agreement.json"),
];

const EDGES: [(&str, &str); 20] = [
    ("engines", "items"),
    ("items", "classify"),
    ("prompts/classify.md", "classify"),
    ("prompts/classify.system.md", "classify"),
    ("schemas/classify.schema.json", "classify"),
    ("items", "merged"),
    ("classify", "merged"),
    ("merged", "pull_requests"),
    ("queries/pull_requests.graphql", "pull_requests"),
    ("merged", "final"),
    ("pull_requests", "final"),
    ("final", "diffs"),
    ("diffs", "root_cause"),
    ("prompts/root_cause.md", "root_cause"),
    ("schemas/root_cause.schema.json", "root_cause"),
    ("final", "symptom"),
    ("prompts/symptom.md", "symptom"),
    ("final", "content"),
    ("labels/human.csv", "agreement"),
    ("classify", "agreement"),
];

fn add(graph: &mut Graph, name: &str, kind: NodeKind, detail: &str, outputs: &[&str]) -> usize {
    graph.add(Node {
        name: name.to_owned(),
        kind,
        detail: detail.to_owned(),
        outputs: outputs.iter().map(|output| (*output).to_owned()).collect(),
    })
}

fn study() -> Graph {
    let mut graph = Graph::default();
    add(&mut graph, "engines", NodeKind::Table, "5 rows", &[]);
    for (name, kind, output) in STAGES {
        add(&mut graph, name, NodeKind::Stage, kind, &[output]);
    }
    for (from, to) in EDGES {
        let kind = match from.starts_with("labels/") {
            true => NodeKind::File,
            false => NodeKind::Source,
        };
        let from = add(&mut graph, from, kind, "", &[]);
        let to = graph.index(to).unwrap();
        graph.connect(from, to);
    }
    graph
}

fn stages(count: usize) -> Graph {
    let mut graph = Graph::default();
    for at in 0..count {
        add(&mut graph, &format!("stage_{at}"), NodeKind::Stage, "sql", &["data/out.json"]);
    }
    graph
}

/// A chain with lines that pass some of its stages.
fn chain(count: usize) -> Graph {
    let mut graph = stages(count);
    for at in 1..count {
        graph.connect(at - 1, at);
        if at % 7 == 0 {
            graph.connect(at - 5, at);
        }
    }
    graph
}

/// One stage that all others read.
fn fan(count: usize) -> Graph {
    let mut graph = stages(count);
    (1..count).for_each(|at| graph.connect(0, at));
    graph
}

/// One stage that reads all others.
fn merge(count: usize) -> Graph {
    let mut graph = stages(count);
    (1..count).for_each(|at| graph.connect(at, 0));
    graph
}

/// Each stage reads some before it, near and far.
fn tangle(count: usize) -> Graph {
    let mut graph = stages(count);
    for at in 1..count {
        graph.connect(at - 1 - (at * 7 % at.min(6)), at);
        if at % 3 == 0 {
            graph.connect(at * 31 % at, at);
            graph.connect(at / 2, at);
        }
    }
    graph
}

#[test]
fn text_shows_each_stage_once_below_what_it_reads() {
    let expected = "\
○ labels/human.csv  file

○ engines           table      5 rows
● items             github     -> data/llm_bugs.json
● classify          llm        -> data/analysis_cache.json
│                   uses: prompts/classify.md, prompts/classify.system.md, \
     schemas/classify.schema.json
├─● agreement       agreement  -> data/agreement.json
│                   also reads: labels/human.csv
● merged            sql        -> data/merged_bug_results.json
│                   also reads: items
● pull_requests     github     -> data/pull_requests.json
│                   uses: queries/pull_requests.graphql
● final             sql        -> data/final_bug_results.json
│                   also reads: merged
├─● symptom         llm        -> data/symptom.json
│                   uses: prompts/symptom.md
├─● content         github     -> data/content.json
● diffs             github     -> data/bug_diffs.json
● root_cause        llm        -> data/root_cause.json
                    uses: prompts/root_cause.md, schemas/root_cause.schema.json
";
    assert_eq!(draw(&study(), DrawFormat::Text), expected);
}

#[test]
fn text_forks_where_nothing_goes_on() {
    let mut graph = stages(4);
    (1..4).for_each(|at| graph.connect(0, at));
    let expected = "\
● stage_0    sql  -> data/out.json
├─● stage_1  sql  -> data/out.json
├─● stage_2  sql  -> data/out.json
└─● stage_3  sql  -> data/out.json
";
    assert_eq!(draw(&graph, DrawFormat::Text), expected);
}

#[test]
fn text_breaks_long_lists_and_stays_narrow() {
    for graph in [chain(300), fan(300), merge(300), tangle(300)] {
        let text = draw(&graph, DrawFormat::Text);
        for at in 0..300 {
            let name = format!("● stage_{at} ");
            assert_eq!(text.matches(&name).count(), 1, "{name}");
        }
        let longest = text.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(longest <= 110, "{longest} characters");
        assert!(text.lines().all(|line| line.trim_end() == line));
    }
}

/// Whatever is read beside the tree's own line is above.
#[test]
fn text_never_points_down() {
    let text = draw(&tangle(60), DrawFormat::Text);
    let mut above = BTreeSet::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split([' ', ',']).filter(|word| !word.is_empty()).collect();
        let names = words.iter().filter(|word| word.starts_with("stage_"));
        if line.contains('●') {
            above.extend(names.copied());
        } else {
            names.for_each(|name| assert!(above.contains(name), "{name} in {line}"));
        }
    }
}

#[test]
fn json_has_each_node_and_edge_once() {
    let json: Value = serde_json::from_str(&draw(&study(), DrawFormat::Json)).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let edges = json["edges"].as_array().unwrap();
    let found: BTreeSet<(String, String)> =
        edges.iter().map(|edge| (text(&edge["from"]), text(&edge["to"]))).collect();
    let expected: BTreeSet<(String, String)> =
        EDGES.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect();
    assert_eq!(found, expected);
    assert_eq!(edges.len(), EDGES.len());

    let nodes = json["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), study().nodes().len());
    assert_eq!(nodes[0]["name"], "engines");
    assert_eq!(nodes[0]["type"], "table");
    assert_eq!(nodes[0]["kind"], Value::Null);
    let items = &nodes[1];
    assert_eq!((&items["type"], &items["kind"]), (&"stage".into(), &"github".into()));
    assert_eq!(items["outputs"], Value::from(vec!["data/llm_bugs.json"]));
}

#[test]
fn dot_has_each_node_and_edge() {
    let dot = draw(&study(), DrawFormat::Dot);
    assert!(dot.starts_with("digraph flow {\n") && dot.ends_with("}\n"));
    for node in study().nodes() {
        assert_eq!(dot.matches(&format!("  \"{}\" [label=", node.name)).count(), 1);
    }
    for (from, to) in EDGES {
        assert_eq!(dot.matches(&format!("  \"{from}\" -> \"{to}\"")).count(), 1);
    }
    assert!(dot.contains("\"prompts/symptom.md\" -> \"symptom\" [style=dashed];"));
}

#[test]
fn mermaid_has_each_node_and_edge() {
    let mermaid = draw(&study(), DrawFormat::Mermaid);
    let json: Value = serde_json::from_str(&draw(&study(), DrawFormat::Json)).unwrap();
    let nodes = json["nodes"].as_array().unwrap();
    // Both formats have the nodes in the same order.
    let id = |name: &str| nodes.iter().position(|node| node["name"] == name).unwrap();
    assert!(mermaid.starts_with("flowchart TD\n"));
    assert!(mermaid.contains("  n0[(\"engines<br/><small>5 rows</small>\")]:::table\n"));
    assert!(mermaid.contains("  n1[\"items<br/><small>github</small>\"]:::github\n"));
    for node in study().nodes() {
        let line = mermaid.lines().find(|line| line.contains(&format!("\"{}", node.name)));
        assert!(line.unwrap().trim_start().starts_with(&format!("n{}", id(&node.name))));
    }
    for (from, to) in EDGES {
        let arrow = match from.contains('/') && !from.starts_with("labels/") {
            true => "-.->",
            false => "-->",
        };
        let line = format!("  n{} {arrow} n{}\n", id(from), id(to));
        assert_eq!(mermaid.matches(&line).count(), 1, "{from} to {to}");
    }
    assert!(mermaid.contains("  classDef llm fill:#"));
}

#[test]
fn svg_is_well_formed_and_its_boxes_are_apart() {
    let graphs = [
        (11 + 1, study()),
        (0, Graph::default()),
        (1, chain(1)),
        (10, tangle(10)),
        (60, tangle(60)),
        (300, tangle(300)),
        (300, chain(300)),
        (300, fan(300)),
        (300, merge(300)),
    ];
    for (count, graph) in graphs {
        let picture = Picture::read(&draw(&graph, DrawFormat::Svg));
        assert_eq!(picture.boxes.len(), count);
        assert!(picture.lines.len() + 1 >= count, "a line for each box but the first");
        picture.check();
    }
}

#[test]
fn svg_tells_what_it_does_not_show() {
    let svg = draw(&study(), DrawFormat::Svg);
    assert!(svg.contains("<g class=\"node llm\" data-name=\"classify\""));
    assert!(svg.contains(">classify.md, classify.system.md +1</text>"));
    assert!(svg.contains(
        "<title>classify: llm\nwrites data/analysis_cache.json\nuses prompts/classify.md\n\
         uses prompts/classify.system.md\nuses schemas/classify.schema.json</title>"
    ));
    assert!(svg.contains("@media (prefers-color-scheme: dark)"));
    assert!(!svg.contains("<script") && !svg.contains("href"));
}

#[test]
fn hostile_names_stay_names() {
    let names = [
        "\"><script>alert(1)</script>",
        "a\"]; evil[label=\"",
        "back\\slash\\",
        "new\nline\ttab",
        "\u{1b}[31mred\u{7}\u{9b}2J\u{202e}",
        "&amp; `code` #35; <b>",
        "]]>\u{ffff}\u{0}",
    ];
    let mut graph = Graph::default();
    let mut last = None;
    for name in names {
        let stage = add(&mut graph, name, NodeKind::Stage, name, &[name]);
        let source = add(&mut graph, &format!("{name}/"), NodeKind::Source, "", &[]);
        graph.connect(source, stage);
        if let Some(last) = last.replace(stage) {
            graph.connect(last, stage);
        }
    }

    for format in DrawFormat::NAMES {
        let drawing = draw(&graph, DrawFormat::parse(format).unwrap());
        let controls = drawing.chars().filter(|c| *c != '\n' && *c < ' ').count();
        assert_eq!(controls, 0, "{format}");
        assert!(drawing.ends_with('\n'));
    }
    let text = draw(&graph, DrawFormat::Text);
    assert!(!text.contains(['\u{9b}', '\u{202e}']));
    // Each stage has a line, and one for its source.
    assert_eq!(text.lines().count(), 2 * names.len());

    let json: Value = serde_json::from_str(&draw(&graph, DrawFormat::Json)).unwrap();
    assert!(names.iter().all(|name| {
        json["nodes"].as_array().unwrap().iter().any(|node| node["name"] == *name)
    }));

    let picture = Picture::read(&draw(&graph, DrawFormat::Svg));
    assert_eq!(picture.boxes.len(), names.len());

    // Without what is quoted, only the format's own words are left.
    let dot = draw(&graph, DrawFormat::Dot).replace("\\\\", "").replace("\\\"", "");
    for line in dot.lines() {
        assert_eq!(line.matches('"').count() % 2, 0, "{line}");
        let bare: String = line.split('"').step_by(2).collect();
        assert!(!bare.contains("evil") && !bare.contains("script"), "{line}");
    }
    let mermaid = draw(&graph, DrawFormat::Mermaid);
    for line in mermaid.lines().filter(|line| line.contains('"')) {
        assert_eq!(line.matches('"').count(), 2, "{line}");
        assert!(!line.contains("<script") && !line.contains('`'), "{line}");
    }
}

#[test]
fn large_graphs_are_drawn_at_once() {
    for graph in [chain(300), fan(300), merge(300), tangle(300)] {
        for format in DrawFormat::NAMES {
            let start = Instant::now();
            draw(&graph, DrawFormat::parse(format).unwrap());
            assert!(start.elapsed() < Duration::from_secs(1), "{format}: {:?}", start.elapsed());
        }
    }
}

#[test]
fn drawings_are_the_same_each_time_and_a_cycle_is_no_trap() {
    let mut cycle = chain(10);
    cycle.connect(7, 3);
    cycle.connect(5, 5);
    for format in DrawFormat::NAMES {
        let format = DrawFormat::parse(format).unwrap();
        assert_eq!(draw(&study(), format), draw(&study(), format));
        assert!(draw(&cycle, format).contains("stage_9"));
    }
    assert_eq!(DrawFormat::parse("png"), None);
    assert_eq!(draw(&Graph::default(), DrawFormat::Text), "no stages\n");
}

/// What is in an SVG: enough of XML to see that it is well-formed, and where the boxes are.
#[derive(Default)]
struct Picture {
    size: (f64, f64),
    /// Left, top, right, bottom.
    boxes: Vec<[f64; 4]>,
    lines: Vec<Vec<f64>>,
}

impl Picture {
    fn read(svg: &str) -> Picture {
        let mut picture = Picture::default();
        let mut open: Vec<&str> = Vec::new();
        let mut corner = (0.0, 0.0);
        let mut rest = svg;
        while let Some((text, after)) = rest.split_once('<') {
            check_text(text);
            let (tag, after) = after.split_once('>').expect("a tag ends");
            rest = after;
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name));
                continue;
            }
            let (tag, closed) = match tag.strip_suffix('/') {
                Some(tag) => (tag, true),
                None => (tag, false),
            };
            let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
            let known = ["svg", "style", "defs", "marker", "g", "rect", "path", "text", "title"];
            assert!(known.contains(&name), "<{name}>");
            if !closed {
                open.push(name);
            }
            let attributes = read_attributes(attributes);
            let get = |key: &str| attributes.iter().find(|(name, _)| *name == key).map(|at| at.1);
            let number = |key: &str| get(key).unwrap().parse::<f64>().unwrap();
            match (name, get("class").unwrap_or_default()) {
                ("svg", _) => picture.size = (number("width"), number("height")),
                ("g", _) => {
                    let places = numbers(get("transform").unwrap());
                    corner = (places[0], places[1]);
                }
                ("rect", class) if class.starts_with("box") => {
                    let (left, top) = corner;
                    let (right, bottom) = (left + number("width"), top + number("height"));
                    picture.boxes.push([left, top, right, bottom]);
                }
                ("path", "line") => picture.lines.push(numbers(get("d").unwrap())),
                _ => {}
            }
        }
        assert!(open.is_empty() && rest.trim().is_empty());
        picture
    }

    fn check(&self) {
        for (at, [left, top, right, bottom]) in self.boxes.iter().enumerate() {
            assert!(*left >= 0.0 && *top >= 0.0);
            assert!(*right <= self.size.0 && *bottom <= self.size.1);
            for [other_left, other_top, other_right, other_bottom] in &self.boxes[..at] {
                let beside = right <= other_left || other_right <= left;
                assert!(beside || bottom <= other_top || other_bottom <= top, "boxes overlap");
            }
        }
        for line in &self.lines {
            let &[x, y, floor, x1, y1, x2, y2, end, bottom] = line.as_slice() else {
                panic!("a line of {} numbers", line.len());
            };
            assert!(x == x1 && x2 == end && y1 == y2);
            for step in 0..=20 {
                let t = f64::from(step) / 20.0;
                let bend = |a: f64, b: f64, c: f64, d: f64| {
                    let s = 1.0 - t;
                    s * s * s * a + 3.0 * s * s * t * b + 3.0 * s * t * t * c + t * t * t * d
                };
                self.check_free(bend(x, x1, x2, end), bend(floor, y1, y2, bottom));
                self.check_free(x, y + t * (floor - y));
            }
        }
    }

    fn check_free(&self, x: f64, y: f64) {
        // Places are rounded to a tenth.
        let inside = |[left, top, right, bottom]: &[f64; 4]| {
            left + 0.2 < x && x < right - 0.2 && top + 0.2 < y && y < bottom - 0.2
        };
        assert!(!self.boxes.iter().any(inside), "a line runs through a box at {x} {y}");
    }
}

fn read_attributes(mut rest: &str) -> Vec<(&str, &str)> {
    let mut attributes = Vec::new();
    while let Some((name, after)) = rest.split_once("=\"") {
        let (value, after) = after.split_once('"').expect("a value ends");
        check_text(value);
        let name = name.trim_start();
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{name}");
        attributes.push((name, value));
        rest = after;
    }
    assert!(rest.trim().is_empty(), "{rest}");
    attributes
}

/// Text without tags, in which every `&` begins an entity, and of characters that XML allows.
fn check_text(text: &str) {
    assert!(!text.contains(['<', '\u{fffe}', '\u{ffff}']));
    assert!(text.chars().all(|c| c >= ' ' || c == '\n'));
    for entity in text.split('&').skip(1) {
        let known = ["amp;", "lt;", "gt;", "quot;", "#39;"];
        assert!(known.iter().any(|known| entity.starts_with(known)), "&{entity}");
    }
}

fn numbers(text: &str) -> Vec<f64> {
    let parts = text.split(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-'));
    parts.filter(|part| !part.is_empty()).map(|part| part.parse().unwrap()).collect()
}
