//! A picture that stands alone: no script, no font of its own, light and dark.

use std::fmt::Write;

use super::layout::{Layout, Line, Shape, lay_out};
use super::page::State;
use super::{Item, NodeKind, TINTS, Tint, plain};
use crate::text::escape;

const MARGIN: f64 = 24.0;
/// Between a box's sides and its text, and above and below that.
const PADDING: f64 = 14.0;
const HEADROOM: f64 = 9.0;
/// The coloured edge of a stage's box.
const BAR: f64 = 5.0;
const NAME_HEIGHT: f64 = 20.0;
const NOTE_HEIGHT: f64 = 16.0;
const NAME_SIZE: f64 = 13.0;
const NOTE_SIZE: f64 = 11.0;
/// The room of a state's mark, before its word.
const MARK: f64 = 15.0;
/// Longer lines are cut; the whole of them is in the tooltip.
const LONGEST: usize = 40;
/// Of a list, so many names are shown.
const SHOWN: usize = 2;

/// What a page tells on a card below what a picture does.
pub(super) struct Badge {
    pub state: State,
    /// To the right of the state: rows and cost.
    pub numbers: String,
}

pub(super) fn draw(items: &[Item]) -> String {
    let Picture { wide, high, body } = Picture::of(items, None);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{wide}\" height=\"{high}\" \
         viewBox=\"0 0 {wide} {high}\" role=\"img\" aria-label=\"Stages and what they read\">\n\
         <style>\n{}</style>\n{}<rect class=\"ground\" width=\"{wide}\" height=\"{high}\"/>\n\
         {body}</svg>\n",
        style("@media (prefers-color-scheme: dark)"),
        arrow("arrow"),
    )
}

/// The same drawing as a part of a page, with a badge for each item that has one. Every card can be
/// reached with the keyboard, and every line says by number whence it comes and where it leads.
pub(super) fn draw_in_page(items: &[Item], badges: &[Option<Badge>]) -> String {
    let Picture { wide, high, body } = Picture::of(items, Some(badges));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{wide}\" height=\"{high}\" \
         viewBox=\"0 0 {wide} {high}\" role=\"group\" aria-label=\"Stages and what they read\">\n\
         {}{}{body}</svg>\n",
        arrow("arrow"),
        arrow("arrow-on"),
    )
}

struct Picture {
    wide: f64,
    high: f64,
    /// The lines and the cards.
    body: String,
}

impl Picture {
    fn of(items: &[Item], badges: Option<&[Option<Badge>]>) -> Picture {
        let badge = |at: usize| badges.and_then(|badges| badges.get(at)?.as_ref());
        let card = |(at, item): (usize, &Item)| Card::new(item, badge(at));
        let cards: Vec<Card> = items.iter().enumerate().map(card).collect();
        let shape = |(item, card): (&Item, &Card)| Shape {
            width: card.width,
            height: card.height,
            inputs: item.inputs.clone(),
        };
        let shapes: Vec<Shape> = items.iter().zip(&cards).map(shape).collect();
        let Layout { width, height, corners, lines } = lay_out(&shapes);

        let mut body = format!("<g transform=\"translate({MARGIN} {MARGIN})\">\n");
        for line in &lines {
            push_line(&mut body, line, badges.is_some());
        }
        for ((item, card), corner) in items.iter().zip(&cards).zip(corners) {
            let button = match badges {
                Some(_) => format!(
                    " tabindex=\"0\" role=\"button\" aria-label=\"{}\"",
                    escape(&card.label)
                ),
                None => String::new(),
            };
            let _ = writeln!(
                body,
                "<g class=\"node {}\" data-name=\"{}\"{button} transform=\"translate({:.1} {:.1})\">",
                Tint::of(item.node).class,
                escape(&plain(&item.node.name)),
                corner.x,
                corner.y,
            );
            card.write(&mut body);
            body.push_str("</g>\n");
        }
        body.push_str("</g>\n");
        let (wide, high) = ((width + 2.0 * MARGIN).ceil(), (height + 2.0 * MARGIN).ceil());
        Picture { wide, high, body }
    }
}

/// The heads of lines; in a page, those of lines that are marked are another.
fn arrow(id: &str) -> String {
    format!(
        "<defs><marker id=\"{id}\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" \
         markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\">\
         <path class=\"tip\" d=\"M0 0.5 8 4 0 7.5Z\"/></marker></defs>\n"
    )
}

/// Each colour twice instead of a variable: not every viewer of SVG knows those.
pub(super) fn style(when_dark: &str) -> String {
    let mut light = "\
text { font-family: system-ui, -apple-system, 'Segoe UI', sans-serif; font-size: 11px; }
.name { font-size: 13px; font-weight: 600; }
.kind { text-anchor: end; }
.line { fill: none; stroke-width: 1.4; }
.box { stroke-width: 1; }
.bar, .kind { fill: currentColor; }
.ground { fill: #ffffff; }
.line { stroke: #a3acb6; }
.tip { fill: #a3acb6; }
.box { fill: #ffffff; stroke: #cdd4db; }
.light { fill: #f4f6f8; stroke: #dde2e7; }
.name { fill: #1f2328; }
.note { fill: #636c76; }
"
    .to_owned();
    let mut dark = "\
.ground { fill: #0d1117; }
.line { stroke: #59636e; }
.tip { fill: #59636e; }
.box { fill: #161b22; stroke: #3d444d; }
.light { fill: #11161d; stroke: #2a313a; }
.name { fill: #f0f6fc; }
.note { fill: #9198a1; }
"
    .to_owned();
    for Tint { class, accent, glow, .. } in &TINTS {
        let _ = writeln!(light, ".{class} {{ color: {accent}; }}");
        let _ = writeln!(dark, ".{class} {{ color: {glow}; }}");
    }
    format!("{light}{when_dark} {{\n{dark}}}\n")
}

fn push_line(drawing: &mut String, line: &Line, with_ends: bool) {
    let Line { start, floor, end, arrives, from, to } = line;
    let bend = (floor + end.y) / 2.0;
    let tip = if *arrives { " marker-end=\"url(#arrow)\"" } else { "" };
    let ends = match with_ends {
        true => {
            let to: Vec<String> = to.iter().map(usize::to_string).collect();
            format!(" data-from=\"{from}\" data-to=\"{}\"", to.join(" "))
        }
        false => String::new(),
    };
    let _ = writeln!(
        drawing,
        "<path class=\"line\"{ends} d=\"M{:.1} {:.1}V{floor:.1}C{:.1} {bend:.1} {:.1} {bend:.1} \
         {:.1} {:.1}\"{tip}/>",
        start.x, start.y, start.x, end.x, end.x, end.y,
    );
}

/// What is in a box, and its size.
struct Card {
    stage: bool,
    name: String,
    kind: String,
    notes: Vec<String>,
    /// A mark, the state's word, and numbers to the right.
    state: Option<(State, String)>,
    tooltip: String,
    /// The card in a line, for those who do not see it.
    label: String,
    width: f64,
    height: f64,
}

impl Card {
    fn new(item: &Item, badge: Option<&Badge>) -> Card {
        let outputs: Vec<&str> = item.node.outputs.iter().map(String::as_str).collect();
        let name = cut(&plain(&item.node.name));
        let kind = match item.node.kind {
            NodeKind::Table => plain(&item.node.detail),
            _ => item.kind(),
        };
        let kind = cut(&kind);
        let mut notes = Vec::new();
        let mut tooltip = format!("{}: {}", plain(&item.node.name), item.kind());
        for (mark, word, names) in [("→ ", "writes", &outputs), ("", "uses", &item.sources)] {
            if !names.is_empty() {
                notes.push(format!("{mark}{}", brief(names)));
            }
            for name in names {
                let _ = write!(tooltip, "\n{word} {}", plain(name));
            }
        }

        let head = text_width(&name, NAME_SIZE) * 1.08 + 18.0 + text_width(&kind, NOTE_SIZE);
        let mut label = format!("{name}, {kind}");
        let mut widths: Vec<f64> = notes.iter().map(|note| text_width(note, NOTE_SIZE)).collect();
        let state = badge.map(|Badge { state, numbers }| {
            let _ = write!(label, ", {}", state.as_str());
            let _ = write!(tooltip, "\n{}", state.as_str());
            if !numbers.is_empty() {
                let _ = write!(label, ", {numbers}");
            }
            let told = text_width(state.as_str(), NOTE_SIZE) + text_width(numbers, NOTE_SIZE);
            widths.push(MARK + told + 18.0);
            (*state, numbers.clone())
        });
        let width = (widths.into_iter().fold(head, f64::max) + 2.0 * PADDING).ceil();
        let lines = (notes.len() + usize::from(state.is_some())) as f64;
        let height = 2.0 * HEADROOM + NAME_HEIGHT + NOTE_HEIGHT * lines;
        let stage = item.is_stage();
        Card { stage, name, kind, notes, state, tooltip, label, width, height }
    }

    fn write(&self, drawing: &mut String) {
        let Card { width, height, .. } = self;
        let (look, corner) = if self.stage { ("box", 6.0) } else { ("box light", height / 2.0) };
        let base = HEADROOM + 0.7 * NAME_HEIGHT;
        let right = width - PADDING;
        let _ = write!(
            drawing,
            "<title>{}</title>\n\
             <rect class=\"{look}\" width=\"{width}\" height=\"{height}\" rx=\"{corner}\"/>\n\
             <text class=\"name\" x=\"{PADDING}\" y=\"{base}\">{}</text>\n\
             <text class=\"kind\" x=\"{right}\" y=\"{base}\">{}</text>\n",
            escape(&self.tooltip),
            escape(&self.name),
            escape(&self.kind),
        );
        if self.stage {
            let _ = writeln!(
                drawing,
                "<path class=\"bar\" d=\"M6 0H{BAR}V{height}H6a6 6 0 0 1-6-6V6a6 6 0 0 1 6-6Z\"/>"
            );
        }
        for (nth, note) in self.notes.iter().enumerate() {
            let y = base + NOTE_HEIGHT * (nth as f64 + 1.0) + 2.0;
            let _ = writeln!(
                drawing,
                "<text class=\"note\" x=\"{PADDING}\" y=\"{y}\">{}</text>",
                escape(note)
            );
        }
        if let Some((state, numbers)) = &self.state {
            let y = base + NOTE_HEIGHT * (self.notes.len() as f64 + 1.0) + 2.0;
            let _ = writeln!(
                drawing,
                "<g class=\"state {}\"><path transform=\"translate({PADDING} {})\" d=\"{}\"/>\
                 <text x=\"{}\" y=\"{y}\">{}</text></g>\n\
                 <text class=\"note numbers\" x=\"{right}\" y=\"{y}\">{}</text>",
                state.class(),
                y - 9.0,
                state.mark(),
                PADDING + MARK,
                state.as_str(),
                escape(numbers),
            );
        }
    }
}

/// The first file names of a list, without their folders: `a.md, b.md +3`.
fn brief(names: &[&str]) -> String {
    let file = |name: &&str| plain(name.rsplit('/').next().unwrap_or(name));
    let shown: Vec<String> = names.iter().take(SHOWN).map(file).collect();
    let shown = cut(&shown.join(", "));
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} +{more}"),
    }
}

fn cut(text: &str) -> String {
    match text.chars().count() > LONGEST {
        true => text.chars().take(LONGEST - 1).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

/// About as wide as the wider of the usual fonts draw it.
fn text_width(text: &str, size: f64) -> f64 {
    let em = |c: char| match c {
        'i' | 'j' | 'l' | 'I' | '.' | ',' | '\'' | ' ' | '|' | ':' | ';' | '!' => 0.34,
        'f' | 'r' | 't' | '-' | '/' | '(' | ')' | '[' | ']' => 0.43,
        'm' | 'w' | 'M' | 'W' | '@' | '%' | '→' | '…' => 0.95,
        'A'..='Z' => 0.72,
        c if c < '\u{1100}' => 0.62,
        _ => 1.05,
    };
    text.chars().map(em).sum::<f64>() * size
}
