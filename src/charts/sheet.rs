//! What all charts have: the `<svg>`, a title, a legend, texts and marks.

use std::fmt::Write;

use super::Chart;
use super::numbers::{at, exact};
use super::text::{as_id, clean, cut, escape, width, wrap};

/// As wide as most charts are.
pub(super) const WIDTH: f64 = 660.0;
const TITLE_SIZE: f64 = 15.0;
pub(super) const LABEL_SIZE: f64 = 12.0;
pub(super) const TICK_SIZE: f64 = 11.0;
const LEGEND_HEIGHT: f64 = 19.0;
const SWATCH: f64 = 12.0;

/// So many colours there are; then they repeat with another pattern.
const COLOURS: usize = 12;
/// Colours with patterns that [`super::STYLE`] knows.
const LOOKS: usize = 60;

/// A drawing that grows from its top to its bottom.
pub(super) struct Sheet {
    id: String,
    pub width: f64,
    /// Above this, all is drawn.
    pub y: f64,
    pub body: String,
}

/// How a series is drawn: as areas or as lines.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Area,
    Line,
}

impl Sheet {
    /// A sheet with the chart's title on it.
    pub fn new(chart: &Chart, id: &str, width: f64) -> Sheet {
        let width = width.ceil();
        let mut sheet = Sheet { id: as_id(id), width, y: 2.0, body: String::new() };
        // Bold is wider.
        let lines = wrap(&chart.title, TITLE_SIZE * 1.08, width, 3);
        for line in &lines {
            sheet.y += TITLE_SIZE * 1.3;
            sheet.text("title", 0.0, sheet.y - 4.0, line, f64::INFINITY);
        }
        sheet.y += if lines.is_empty() { 0.0 } else { 8.0 };
        sheet
    }

    /// What stands for nothing to show: the title and that there is no data.
    pub fn blank(chart: &Chart, id: &str) -> String {
        let mut sheet = Sheet::new(chart, id, WIDTH);
        let (middle, top) = (sheet.width / 2.0, at(sheet.y));
        let _ = writeln!(
            sheet.body,
            "<rect class=\"blank\" x=\"0.5\" y=\"{top}\" width=\"{}\" height=\"72\" rx=\"4\"/>",
            sheet.width - 1.0
        );
        sheet.text("note middle", middle, top + 40.0, "no data", f64::INFINITY);
        sheet.y += 74.0;
        sheet.finish(chart, "No data.")
    }

    /// An entry for each series, where there are several.
    pub fn legend(&mut self, chart: &Chart, shape: Shape) {
        let count = chart.series.len();
        if count < 2 {
            return;
        }
        let patterned = COLOURS.min(count)..LOOKS.min(count);
        if shape == Shape::Area && !patterned.is_empty() {
            self.body.push_str("<defs>\n");
            patterned.for_each(|nth| self.pattern(nth));
            self.body.push_str("</defs>\n");
        }
        let longest = self.width - SWATCH - 6.0;
        let (mut x, mut top) = (0.0, self.y);
        for (nth, series) in chart.series.iter().enumerate() {
            let name = cut(&series.name, LABEL_SIZE, longest.min(260.0));
            let wide = SWATCH + 6.0 + width(&name, LABEL_SIZE);
            if x > 0.0 && x + wide > self.width {
                (x, top) = (0.0, top + LEGEND_HEIGHT);
            }
            let _ = write!(
                self.body,
                "<g class=\"legend\" data-series=\"{0}\"><title>{0}</title>",
                escape(&series.name)
            );
            let (left, middle) = (at(x), at(top + LEGEND_HEIGHT / 2.0));
            let _ = match shape {
                Shape::Area => write!(
                    self.body,
                    "<rect class=\"swatch {}\" x=\"{left}\" y=\"{}\" width=\"{SWATCH}\" \
                     height=\"{SWATCH}\" rx=\"2\" {}/>",
                    class(nth),
                    at(middle - SWATCH / 2.0),
                    self.fill(nth),
                ),
                Shape::Line => write!(
                    self.body,
                    "<path class=\"swatch line {}\" d=\"M{} {middle}h{}\"{}/>",
                    class(nth),
                    at(x - 1.0),
                    SWATCH + 2.0,
                    dashes(nth),
                ),
            };
            let _ = writeln!(
                self.body,
                "<text class=\"label\" x=\"{}\" y=\"{}\">{}</text></g>",
                at(x + SWATCH + 6.0),
                at(middle + 4.0),
                escape(&name),
            );
            x += wide + 18.0;
        }
        self.y = top + LEGEND_HEIGHT + 8.0;
    }

    /// The colour with lines through it, in another direction each time that it comes back.
    fn pattern(&mut self, nth: usize) {
        let lines = match nth / COLOURS {
            1 => "M-2 2 2 -2M0 8 8 0M6 10 10 6",
            2 => "M-2 6 2 10M0 0 8 8M6 -2 10 2",
            3 => "M0 2H8M0 6H8",
            _ => "M4 0V8M0 4H8",
        };
        let _ = writeln!(
            self.body,
            "<pattern id=\"{}-{class}\" class=\"{class}\" width=\"8\" height=\"8\" \
             patternUnits=\"userSpaceOnUse\"><rect width=\"8\" height=\"8\" \
             fill=\"currentColor\"/><path class=\"hatch\" d=\"{lines}\"/></pattern>",
            self.id,
            class = class(nth),
        );
    }

    /// What fills a series' areas; its colour is its class's.
    pub fn fill(&self, nth: usize) -> String {
        match nth % LOOKS < COLOURS {
            true => "fill=\"currentColor\"".to_owned(),
            false => format!("fill=\"url(#{}-{})\"", self.id, class(nth)),
        }
    }

    /// Text that is cut where there is no room for it; then it tells the whole when it is pointed at.
    pub fn text(&mut self, class: &str, x: f64, y: f64, text: &str, room: f64) {
        self.text_with(class, x, y, text, room, "");
    }

    /// Text upwards to the right, from its place on.
    pub fn slanted(&mut self, class: &str, x: f64, y: f64, text: &str, room: f64) {
        let turned = format!(" transform=\"rotate(-40 {} {})\"", at(x), at(y));
        self.text_with(class, x, y, text, room, &turned);
    }

    fn text_with(&mut self, class: &str, x: f64, y: f64, text: &str, room: f64, more: &str) {
        let size = if class.starts_with("label") { LABEL_SIZE } else { TICK_SIZE };
        let whole = clean(text);
        if whole.is_empty() {
            return;
        }
        let shown = cut(&whole, size, room);
        let _ = write!(self.body, "<text class=\"{class}\" x=\"{}\" y=\"{}\"{more}>", at(x), at(y));
        if shown != whole {
            let _ = write!(self.body, "<title>{}</title>", escape(&whole));
        }
        let _ = writeln!(self.body, "{}</text>", escape(&shown));
    }

    pub fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let _ = writeln!(
            self.body,
            "<path class=\"{class}\" d=\"M{} {}L{} {}\"/>",
            at(from.0),
            at(from.1),
            at(to.0),
            at(to.1)
        );
    }

    /// The whole `<svg>`. `told` says what is seen to whom does not see it.
    pub fn finish(self, chart: &Chart, told: &str) -> String {
        let Sheet { id, width, y, body } = self;
        let title = match clean(&chart.title).trim() {
            "" => "Chart".to_owned(),
            title => title.to_owned(),
        };
        // Letters may reach a little over every side.
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" id=\"{id}\" class=\"chart\" \
             width=\"{wide}\" height=\"{high}\" viewBox=\"-2 0 {wide} {high}\" role=\"img\" \
             aria-labelledby=\"{id}-title {id}-desc\">\n\
             <title id=\"{id}-title\">{}</title>\n<desc id=\"{id}-desc\">{}</desc>\n\
             {body}</svg>\n",
            escape(&title),
            escape(told),
            wide = width + 4.0,
            high = (y + 2.0).ceil(),
        )
    }
}

/// The class that gives the swatch and the marks of a series their colour.
pub(super) fn class(nth: usize) -> String {
    format!("s{}", nth % LOOKS)
}

/// What patterns are to areas, these are to lines.
pub(super) fn dashes(nth: usize) -> &'static str {
    match nth % LOOKS / COLOURS {
        0 => "",
        1 => " stroke-dasharray=\"6 3\"",
        2 => " stroke-dasharray=\"2 2\"",
        3 => " stroke-dasharray=\"8 2 2 2\"",
        _ => " stroke-dasharray=\"3 5\"",
    }
}

/// What every mark carries: the names and the exact number of what it shows.
pub(super) fn data(chart: &Chart, series: usize, place: usize, value: f64) -> String {
    format!(
        "data-series=\"{}\" data-label=\"{}\" data-value=\"{}\"",
        escape(&chart.series[series].name),
        escape(&chart.x.labels[place]),
        exact(value)
    )
}

/// What a mark tells when it is pointed at; `value` is the number as it is written.
pub(super) fn tooltip(chart: &Chart, series: usize, place: usize, value: &str) -> String {
    let (name, label) = (clean(&chart.series[series].name), clean(&chart.x.labels[place]));
    let names = match chart.series.len() > 1 && !name.is_empty() {
        true => format!("{label}, {name}"),
        false => label,
    };
    format!("<title>{}: {}</title>", escape(&names), escape(value))
}

/// `3 bars`, `1 bar`
pub(super) fn counted(count: usize, thing: &str) -> String {
    match (count, thing) {
        (1, _) | (_, "series") => format!("{count} {thing}"),
        _ => format!("{count} {thing}s"),
    }
}

/// The first names of a list, for a description.
pub(super) fn listed<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = names.len().saturating_sub(12);
    let mut shown: Vec<String> = names.take(12).map(|name| cut(name, 1.0, 40.0)).collect();
    if more > 0 {
        shown.push(format!("and {more} more"));
    }
    shown.join(", ")
}
