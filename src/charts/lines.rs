//! Lines over ordered labels, which are months mostly.

use std::fmt::Write;

use super::numbers::{Format, Scale, at};
use super::sheet::{Shape, Sheet, TICK_SIZE, WIDTH, class, counted, dashes, data, listed, tooltip};
use super::text::{clean, cut, width};
use super::{Chart, Number};

const HEIGHT: f64 = 250.0;
/// A label on the x axis has at most so much room.
const LABELS: f64 = 120.0;
/// Between the axis and the first point.
const INSET: f64 = 10.0;

/// A line a series from label to label, with a point for each value and a gap where there is none.
///
/// Counts and shares are measured from zero; for other numbers, the axis begins near the least one.
pub fn lines(chart: &Chart, id: &str) -> String {
    if chart.is_empty() {
        return Sheet::blank(chart, id);
    }
    let mut sheet = Sheet::new(chart, id, WIDTH);
    sheet.legend(chart, Shape::Line);

    let format = Format::of(chart);
    let low = chart.values().fold(f64::INFINITY, f64::min);
    let high = chart.values().fold(f64::NEG_INFINITY, f64::max);
    let counts = chart.number == Number::Count && chart.values().all(|v| v == v.trunc());
    let scale = match chart.number {
        Number::Plain => Scale::over(low, high, 5.0, false),
        _ => Scale::over(low.min(0.0), high.max(0.0), 5.0, counts),
    };
    let ticks: Vec<String> =
        scale.ticks.iter().map(|tick| scale.write(*tick, chart.number)).collect();
    let left = ticks.iter().map(|tick| width(tick, TICK_SIZE)).fold(0.0, f64::max) + 8.0;
    let last = chart.x.labels.last().map_or(0.0, |label| width(&clean(label), TICK_SIZE));
    let right = sheet.width - (last.min(LABELS) / 2.0 - INSET).max(4.0);

    if !chart.y.title.is_empty() {
        sheet.text("note", 0.0, sheet.y + 9.0, &chart.y.title, sheet.width);
        sheet.y += 18.0;
    }
    let top = sheet.y + 5.0;
    let bottom = top + HEIGHT;
    let up = |value: f64| bottom - scale.part(value).clamp(0.0, 1.0) * HEIGHT;
    for (tick, text) in scale.ticks.iter().zip(&ticks) {
        let y = up(*tick);
        let look = if *tick == 0.0 { "axis" } else { "grid" };
        sheet.line(look, (left, y), (right, y));
        sheet.text("tick end", left - 7.0, y + 4.0, text, f64::INFINITY);
    }

    let places = chart.places();
    let apart = (right - left - 2.0 * INSET) / places.saturating_sub(1).max(1) as f64;
    let along = |place: usize| match places {
        1 => (left + right) / 2.0,
        _ => left + INSET + apart * place as f64,
    };
    let labels: Vec<String> =
        chart.x.labels.iter().map(|label| cut(label, TICK_SIZE, LABELS)).collect();
    let shown = shown_labels(&labels, apart);
    for place in 0..places {
        let x = along(place);
        let long = shown.contains(&place);
        if long || apart >= 4.0 {
            sheet.line("rule", (x, bottom), (x, bottom + if long { 6.0 } else { 3.0 }));
        }
    }
    sheet.line("rule", (left, bottom), (right, bottom));
    for place in shown {
        let label = &chart.x.labels[place];
        sheet.text("tick middle", along(place), bottom + 19.0, label, LABELS);
    }

    let radius = at((apart * 0.22).clamp(1.2, 3.0));
    for nth in 0..chart.series.len() {
        let mut path = String::new();
        let mut pen = 'M';
        for place in 0..places {
            let Some(value) = chart.value(nth, place) else {
                pen = 'M';
                continue;
            };
            let _ = write!(path, "{pen}{} {}", at(along(place)), at(up(value)));
            pen = 'L';
        }
        if path.is_empty() {
            continue;
        }
        let class = class(nth);
        let _ = writeln!(sheet.body, "<path class=\"line {class}\" d=\"{path}\"{}/>", dashes(nth));
        for place in 0..places {
            let Some(value) = chart.value(nth, place) else {
                continue;
            };
            let _ = writeln!(
                sheet.body,
                "<circle class=\"point {class}\" cx=\"{}\" cy=\"{}\" r=\"{radius}\" {}>{}</circle>",
                at(along(place)),
                at(up(value)),
                data(chart, nth, place, value),
                tooltip(chart, nth, place, &format.write(value)),
            );
        }
    }
    sheet.y = bottom + 23.0;
    if !chart.x.title.is_empty() {
        let middle = (left + right) / 2.0;
        sheet.text("note middle", middle, sheet.y + 13.0, &chart.x.title, right - left);
        sheet.y += 18.0;
    }
    let ends = (chart.x.labels.first(), chart.x.labels.last());
    let told = format!(
        "{}{} over {} from {} to {}, from {} to {}: {}.",
        counted(chart.series.len(), "line"),
        if chart.y.title.is_empty() { String::new() } else { format!(" of {}", chart.y.title) },
        counted(places, "label"),
        ends.0.map_or("", String::as_str),
        ends.1.map_or("", String::as_str),
        format.write(low),
        format.write(high),
        listed(chart.series.iter().map(|series| series.name.as_str())),
    );
    sheet.finish(chart, &told)
}

/// The places of the labels that are written, so that none touches the next: of months, those that
/// part a year evenly.
fn shown_labels(labels: &[String], apart: f64) -> Vec<usize> {
    let widest = labels.iter().map(|label| width(label, TICK_SIZE)).fold(0.0, f64::max) + 12.0;
    let fits = |step: &usize| apart * *step as f64 >= widest;
    let months: Option<Vec<usize>> = labels.iter().map(|label| month(label)).collect();
    let in_order = |months: &Vec<usize>| months.windows(2).all(|pair| pair[1] == pair[0] + 1);
    if let Some(months) = months.filter(in_order) {
        let steps = [1, 2, 3, 6, 12, 24, 60, 120, 240, 600, 1200];
        let step = steps.into_iter().find(fits).unwrap_or(2400);
        let shown: Vec<usize> =
            (0..labels.len()).filter(|place| months[*place].is_multiple_of(step)).collect();
        if !shown.is_empty() {
            return shown;
        }
    }
    let steps = (0..9).flat_map(|power| [1, 2, 5].map(|times| times * 10usize.pow(power)));
    let step = steps.into_iter().find(fits).unwrap_or(labels.len().max(1));
    (0..labels.len()).step_by(step).collect()
}

/// The number of the month that `2024-05` names.
fn month(label: &str) -> Option<usize> {
    let (year, month) = label.split_once('-')?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if year.len() != 4 || month.len() != 2 || !digits(year) || !digits(month) {
        return None;
    }
    let (year, month): (usize, usize) = (year.parse().ok()?, month.parse().ok()?);
    (1..=12).contains(&month).then_some(year * 12 + month - 1)
}
