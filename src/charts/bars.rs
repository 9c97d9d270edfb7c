//! Stacked bars that lie, so that long labels have room.

use std::fmt::Write;

use super::numbers::{Format, Scale, at, exact};
use super::sheet::{
    LABEL_SIZE, Shape, Sheet, TICK_SIZE, WIDTH, class, counted, data, listed, tooltip,
};
use super::text::width;
use super::{Chart, Number};

/// A label has at most so much room.
const LABELS: f64 = 220.0;
/// With more bars than this, they are thinner.
const MANY: usize = 40;

/// Bars, one a label from top to bottom, of one piece a series.
///
/// With [`Number::Share`] and several series, each bar is the whole and fills the same width: a piece
/// is drawn and written as its share of the bar's sum. Of numbers below zero, such a bar has no
/// piece; in other bars they lie on the other side of zero.
pub fn bars(chart: &Chart, id: &str) -> String {
    if chart.is_empty() {
        return Sheet::blank(chart, id);
    }
    let format = Format::of(chart);
    let whole = chart.number == Number::Share && chart.series.len() > 1;
    let stacks: Vec<Stack> =
        (0..chart.places()).map(|place| Stack::new(chart, place, whole)).collect();

    let mut sheet = Sheet::new(chart, id, WIDTH);
    sheet.legend(chart, Shape::Area);

    let widths = chart.x.labels.iter().map(|label| width(label, LABEL_SIZE));
    let left = widths.fold(0.0, f64::max).min(LABELS) + 10.0;
    let ends = stacks.iter().filter_map(|stack| stack.end(chart, whole, format));
    let ends = ends.map(|end| width(&end, TICK_SIZE) + 8.0).fold(0.0, f64::max);
    let low = stacks.iter().map(|stack| stack.low).fold(0.0, f64::min);
    let high = stacks.iter().map(|stack| stack.high).fold(0.0, f64::max);
    let counts = chart.number == Number::Count && chart.values().all(|v| v == v.trunc());
    let scale = match whole {
        true => Scale::over(0.0, 1.0, 5.0, false),
        false => Scale::over(low, high, 6.0, counts),
    };
    let right = sheet.width - ends.max(18.0);
    let across = |value: f64| left + scale.part(value).clamp(0.0, 1.0) * (right - left);

    if !chart.x.title.is_empty() {
        sheet.text("note end", left - 10.0, sheet.y + 9.0, &chart.x.title, LABELS);
        sheet.y += 16.0;
    }
    let (pitch, thick) = if chart.places() > MANY { (19.0, 14.0) } else { (28.0, 21.0) };
    let top = sheet.y;
    let bottom = top + pitch * chart.places() as f64 + 2.0;

    for tick in &scale.ticks {
        let x = across(*tick);
        let look = if *tick == 0.0 { "axis" } else { "grid" };
        sheet.line(look, (x, top), (x, bottom + 4.0));
        let text = scale.write(*tick, chart.number);
        sheet.text("tick middle", x, bottom + 17.0, &text, f64::INFINITY);
    }
    for (place, stack) in stacks.iter().enumerate() {
        let y = top + pitch * place as f64 + (pitch - thick) / 2.0 + 1.0;
        let base = y + thick / 2.0 + 4.0;
        sheet.text("label end", left - 10.0, base, &chart.x.labels[place], LABELS);
        for piece in &stack.pieces {
            let (from, to) = (across(piece.from), across(piece.to));
            let (x, wide) = (at(from.min(to)), at((to - from).abs()));
            // The line around it would cover a thin one.
            let look = if wide < 3.0 { "thin" } else { "bar" };
            let _ = writeln!(
                sheet.body,
                "<rect class=\"{look} {}\" x=\"{x}\" y=\"{}\" width=\"{wide}\" height=\"{thick}\" \
                 {} {}>{}</rect>",
                class(piece.series),
                at(y),
                sheet.fill(piece.series),
                data(chart, piece.series, place, piece.value),
                tooltip(chart, piece.series, place, &piece.told(whole, format)),
            );
            let inside = piece.inside(whole, format);
            let plain = !sheet.fill(piece.series).contains("url");
            if chart.series.len() > 1 && plain && width(&inside, TICK_SIZE) + 6.0 <= wide {
                let look = format!("on middle {}", class(piece.series));
                sheet.text(&look, x + wide / 2.0, base, &inside, f64::INFINITY);
            }
        }
        match stack.end(chart, whole, format) {
            _ if stack.pieces.is_empty() => {
                sheet.text("note", across(0.0) + 6.0, base, "no data", f64::INFINITY);
            }
            Some(end) => {
                let x = across(stack.high) + 6.0;
                sheet.text("tick", x, base, &end, f64::INFINITY);
            }
            None => {}
        }
    }
    sheet.y = bottom + 21.0;
    if !chart.y.title.is_empty() {
        let middle = (left + right) / 2.0;
        sheet.text("note middle", middle, sheet.y + 13.0, &chart.y.title, right - left);
        sheet.y += 18.0;
    }
    let told = format!(
        "{}{}: {}. {}: {}.",
        counted(chart.places(), "bar"),
        if chart.y.title.is_empty() { String::new() } else { format!(" of {}", chart.y.title) },
        listed(chart.x.labels.iter().map(String::as_str)),
        counted(chart.series.len(), "series"),
        listed(chart.series.iter().map(|series| series.name.as_str())),
    );
    sheet.finish(chart, &told)
}

/// A bar.
struct Stack {
    pieces: Vec<Piece>,
    low: f64,
    high: f64,
}

/// A series' part of a bar.
struct Piece {
    series: usize,
    value: f64,
    from: f64,
    to: f64,
}

impl Stack {
    fn new(chart: &Chart, place: usize, whole: bool) -> Stack {
        let values: Vec<(usize, f64)> = (0..chart.series.len())
            .filter_map(|series| Some((series, chart.value(series, place)?)))
            .filter(|(_, value)| !whole || *value >= 0.0)
            .collect();
        let sum: f64 = values.iter().map(|(_, value)| value).sum();
        let all = if whole && sum > 0.0 { sum } else { 1.0 };
        let mut stack = Stack { pieces: Vec::new(), low: 0.0, high: 0.0 };
        for (series, value) in values {
            let end = if value < 0.0 { &mut stack.low } else { &mut stack.high };
            let from = *end;
            *end += value / all;
            stack.pieces.push(Piece { series, value, from, to: *end });
        }
        stack
    }

    /// What is written behind the bar: its sum, where there is one to tell.
    fn end(&self, chart: &Chart, whole: bool, format: Format) -> Option<String> {
        let mixed = self.low < 0.0 && chart.series.len() > 1;
        match self.pieces.is_empty() || whole || mixed {
            true => None,
            false => Some(format.write(self.low + self.high)),
        }
    }
}

impl Piece {
    /// The number for the tooltip; with the value where that is another number than the share that
    /// is drawn.
    fn told(&self, whole: bool, format: Format) -> String {
        let share = self.to - self.from;
        match whole {
            true if (share - self.value).abs() >= 0.0005 => {
                format!("{} ({})", format.write(share), exact(self.value))
            }
            true => format.write(share),
            false => format.write(self.value),
        }
    }

    /// The number that stands in the piece, where it fits: shares without decimals.
    fn inside(&self, whole: bool, format: Format) -> String {
        match whole {
            true => format!("{:.0} %", (self.to - self.from) * 100.0),
            false => format.write(self.value),
        }
    }
}
