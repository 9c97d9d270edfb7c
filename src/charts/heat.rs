//! Numbers in cells that are the darker the larger they are.

use std::fmt::Write;

use super::numbers::{Format, Scale, at};
use super::sheet::{LABEL_SIZE, Sheet, TICK_SIZE, WIDTH, counted, data, listed, tooltip};
use super::text::{clean, width, wrap};
use super::{Chart, Number};

/// A wider map goes on below itself.
const WIDEST: f64 = 900.0;
const NARROWEST: f64 = 420.0;
/// A row's label has at most so much room, and a slanted column's.
const ROW_LABELS: f64 = 190.0;
const COLUMN_LABELS: f64 = 130.0;
const WIDEST_CELL: f64 = 88.0;
/// Steps of the colours on either side of zero.
const STEPS: usize = 10;
const LINE: f64 = 14.0;

/// A row a series, a column a label, the number in every cell.
///
/// The colours go from zero to the largest number; to both sides where numbers are below zero, and
/// from near the least one where other numbers than counts and shares are close to each other.
pub fn heat(chart: &Chart, id: &str) -> String {
    if chart.is_empty() {
        return Sheet::blank(chart, id);
    }
    let shades = Shades::new(chart);
    let rows: Vec<&str> = (0..chart.series.len())
        .map(|row| chart.y.labels.get(row).unwrap_or(&chart.series[row].name).as_str())
        .collect();
    let head = width(&clean(&chart.y.title), TICK_SIZE);
    let widths = rows.iter().map(|row| width(&clean(row), LABEL_SIZE));
    let left = widths.fold(head, f64::max).min(ROW_LABELS) + 10.0;

    let numbers = chart.values().map(|value| width(&shades.format.write(value), LABEL_SIZE));
    let least = numbers.fold(32.0, f64::max) + 10.0;
    let places = chart.places();
    let fitting = (WIDTH - left) / places as f64;
    let cell = if fitting >= least { fitting.min(WIDEST_CELL) } else { least };
    let most = (((WIDEST - left) / cell).floor() as usize).clamp(1, places);
    // As many columns in each part.
    let columns = places.div_ceil(places.div_ceil(most));
    let few = places <= 4 && chart.series.len() <= 4;
    let grid = Grid {
        left,
        cell: cell.floor(),
        height: if few { 44.0 } else { 30.0 },
        slanted: slanted(chart, cell),
    };

    let map = left + grid.cell * columns as f64;
    let over = match grid.slanted {
        true => {
            (0..places).fold(0.0, |over: f64, place| over.max(grid.reach(chart, place, columns)))
        }
        false => map,
    };
    let mut sheet = Sheet::new(chart, id, over.max(map).max(NARROWEST));
    for first in (0..places).step_by(columns) {
        if first > 0 {
            sheet.y += 14.0;
        }
        grid.draw(&mut sheet, chart, &rows, &shades, first..places.min(first + columns));
    }
    shades.legend(&mut sheet, left);
    let told = format!(
        "Numbers from {} to {} in {} ({}) and {} ({}).",
        shades.format.write(shades.least),
        shades.format.write(shades.most),
        counted(rows.len(), "row"),
        listed(rows.iter().copied()),
        counted(places, "column"),
        listed(chart.x.labels.iter().map(String::as_str)),
    );
    sheet.finish(chart, &told)
}

/// Whether a column's label has no room in two lines over its column.
fn slanted(chart: &Chart, cell: f64) -> bool {
    let fits = |label: &String| {
        let lines = wrap(label, TICK_SIZE, cell - 6.0, 3);
        lines.len() <= 2 && lines.iter().all(|line| !line.ends_with('…'))
    };
    !chart.x.labels.iter().all(fits)
}

/// Where the cells are.
struct Grid {
    left: f64,
    cell: f64,
    height: f64,
    slanted: bool,
}

impl Grid {
    /// How far to the right a column's slanted label goes.
    fn reach(&self, chart: &Chart, place: usize, columns: usize) -> f64 {
        let label = width(&clean(&chart.x.labels[place]), TICK_SIZE).min(COLUMN_LABELS);
        let middle = self.left + self.cell * ((place % columns) as f64 + 0.5);
        middle + (label + 8.0) * 40f64.to_radians().cos()
    }

    fn draw(
        &self,
        sheet: &mut Sheet,
        chart: &Chart,
        rows: &[&str],
        shades: &Shades,
        places: std::ops::Range<usize>,
    ) {
        let Grid { left, cell, height, .. } = *self;
        let right = left + cell * places.len() as f64;
        if !chart.x.title.is_empty() {
            let room = sheet.width - left;
            let wide = width(&clean(&chart.x.title), TICK_SIZE);
            // In the middle of the columns, where it does not reach out of the sheet there.
            let middle = (left + right) / 2.0;
            match self.slanted || wide > right - left {
                true => sheet.text("note", left, sheet.y + 9.0, &chart.x.title, room),
                false => sheet.text("note middle", middle, sheet.y + 9.0, &chart.x.title, room),
            }
            sheet.y += 16.0;
        }
        self.column_labels(sheet, chart, &places);
        sheet.text("note end", left - 10.0, sheet.y - 6.0, &chart.y.title, ROW_LABELS);
        for (row, name) in rows.iter().enumerate() {
            let base = sheet.y + height / 2.0 + 4.0;
            sheet.text("label end", left - 10.0, base, name, ROW_LABELS);
            for place in places.clone() {
                let x = left + cell * (place - places.start) as f64;
                let value = chart.value(row, place);
                let look = value.map_or("none".to_owned(), |value| shades.class(value));
                let told = value.map_or("no data".to_owned(), |value| shades.format.write(value));
                let data = value.map(|value| data(chart, row, place, value)).unwrap_or_default();
                let _ = writeln!(
                    sheet.body,
                    "<rect class=\"cell {look}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" \
                     rx=\"2\" {data}>{}</rect>",
                    at(x + 1.0),
                    at(sheet.y + 1.0),
                    at(cell - 2.0),
                    at(height - 2.0),
                    tooltip(chart, row, place, &told),
                );
                let shown = if value.is_some() { told.as_str() } else { "–" };
                let look = format!("label middle in {look}");
                sheet.text(&look, x + cell / 2.0, base, shown, f64::INFINITY);
            }
            sheet.y += height;
        }
    }

    fn column_labels(&self, sheet: &mut Sheet, chart: &Chart, places: &std::ops::Range<usize>) {
        let labels = &chart.x.labels[places.clone()];
        let middle = |nth: usize| self.left + self.cell * (nth as f64 + 0.5);
        if self.slanted {
            let widths = labels.iter().map(|label| width(&clean(label), TICK_SIZE));
            let longest = widths.fold(0.0, f64::max).min(COLUMN_LABELS);
            sheet.y += longest * 40f64.to_radians().sin() + 14.0;
            for (nth, label) in labels.iter().enumerate() {
                sheet.slanted("tick", middle(nth) - 2.0, sheet.y - 5.0, label, COLUMN_LABELS);
            }
            return;
        }
        let lines = |label: &String| wrap(label, TICK_SIZE, self.cell - 6.0, 2);
        let most = labels.iter().map(|label| lines(label).len()).max().unwrap_or(0);
        sheet.y += LINE * most as f64 + 6.0;
        for (nth, label) in labels.iter().enumerate() {
            let lines = lines(label);
            for (line, text) in lines.iter().enumerate() {
                let y = sheet.y - 6.0 - LINE * (lines.len() - 1 - line) as f64;
                sheet.text("tick middle", middle(nth), y, text, f64::INFINITY);
            }
        }
    }
}

/// Which colour a number has.
struct Shades {
    format: Format,
    least: f64,
    most: f64,
    /// Where the colours begin: zero, where they go to both sides.
    low: f64,
    high: f64,
}

impl Shades {
    fn new(chart: &Chart) -> Shades {
        let least = chart.values().fold(f64::INFINITY, f64::min);
        let most = chart.values().fold(f64::NEG_INFINITY, f64::max);
        let close = chart.number == Number::Plain && least > most / 2.0 && least < most;
        let (low, high) = match close {
            true => {
                let scale = Scale::over(least, most, 5.0, false);
                (scale.low, scale.high)
            }
            false => (0.0, most.abs().max(-least)),
        };
        Shades { format: Format::of(chart), least, most, low, high }
    }

    fn class(&self, value: f64) -> String {
        if self.high <= self.low {
            return "h0".to_owned();
        }
        let part = (value - self.low) / (self.high - self.low);
        let step = (part.abs() * STEPS as f64).round().min(STEPS as f64);
        match part < 0.0 && step > 0.0 {
            true => format!("n{step}"),
            false => format!("h{step}"),
        }
    }

    /// All colours in a row, between the numbers that they stand for.
    fn legend(&self, sheet: &mut Sheet, left: f64) {
        if self.high <= self.low || self.least == self.most {
            return;
        }
        let below = if self.least < 0.0 { STEPS } else { 0 };
        let start = if below > 0 { -self.high } else { self.low };
        let low = self.format.write(start);
        let high = self.format.write(self.high);
        let wide = if below > 0 { 8.0 } else { 12.0 };
        let before = width(&low, TICK_SIZE) + 4.0;
        let after = width(&high, TICK_SIZE) + 6.0;
        let colours = wide * (below + STEPS + 1) as f64;
        // Under the first column, where it has room there.
        let mut x = (left + 1.0).min(sheet.width - before - colours - after).max(0.0);
        let y = sheet.y + 12.0;
        sheet.text("tick", x, y + 9.0, &low, f64::INFINITY);
        x += before;
        let classes = (1..=below).rev().map(|step| format!("n{step}"));
        for class in classes.chain((0..=STEPS).map(|step| format!("h{step}"))) {
            let _ = writeln!(
                sheet.body,
                "<rect class=\"cell {class}\" x=\"{}\" y=\"{}\" width=\"{wide}\" height=\"10\"/>",
                at(x),
                at(y)
            );
            x += wide;
        }
        sheet.text("tick", x + 6.0, y + 9.0, &high, f64::INFINITY);
        sheet.y = y + 14.0;
    }
}
