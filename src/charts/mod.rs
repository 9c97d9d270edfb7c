//! Charts for a page: numbers in, one `<svg>` as text out. They need [`STYLE`] once in the page, and
//! no script.
//!
//! A chart is as wide as its page, up to its own size. Inside of an element of the class `chart-box`,
//! it keeps that size on a small screen and scrolls. `id` is to be another one for each chart of a
//! page. Every mark has `data-series`, `data-label` and `data-value`, which is the exact number; the
//! names are cleaned of characters that are not seen or reorder what is read.

mod bars;
mod heat;
mod lines;
mod numbers;
mod sheet;
mod text;

#[cfg(test)]
mod tests;

pub use bars::bars;
pub use heat::heat;
pub use lines::lines;

/// The colours and fonts of all charts, light, dark and printed: CSS that a page holds once.
pub const STYLE: &str = include_str!("style.css");

/// What a chart shows: for each place on the x axis a value of each series.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    pub title: String,
    /// What the values are of: a bar, a place on the line or a column for each label.
    pub x: Axis,
    /// What the values tell. In a heat map: what its rows are.
    pub y: Axis,
    pub series: Vec<Series>,
    pub number: Number,
}

/// An axis: its title may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Axis {
    pub title: String,
    /// Always there for x. For y only in a heat map, where a row without one is called as its
    /// series.
    pub labels: Vec<String>,
}

/// The values of one series, in the order of the x axis's labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    pub name: String,
    /// `None` where there is no value. What is missing at the end is none too, what has no label is
    /// not shown.
    pub values: Vec<Option<f64>>,
}

/// How numbers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// `1,234`
    Count,
    /// `12.3 %` for 0.123
    Share,
    /// `0.123`
    Plain,
}

/// What is further from zero than this is not drawn: sums of it would be no numbers any more.
const FURTHEST: f64 = 1e150;

impl Chart {
    /// The value at a place, where there is one that can be drawn.
    fn value(&self, series: usize, place: usize) -> Option<f64> {
        let value = self.series[series].values.get(place).copied().flatten()?;
        // Zero has no sign here.
        (value.is_finite() && value.abs() <= FURTHEST).then_some(value + 0.0)
    }

    fn places(&self) -> usize {
        self.x.labels.len()
    }

    /// All values that can be drawn.
    fn values(&self) -> impl Iterator<Item = f64> {
        let places = 0..self.places();
        let series = 0..self.series.len();
        series.flat_map(move |nth| places.clone().filter_map(move |at| self.value(nth, at)))
    }

    fn is_empty(&self) -> bool {
        self.values().next().is_none()
    }
}
