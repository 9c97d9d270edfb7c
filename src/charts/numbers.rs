//! Numbers: as they are written, and round ones for an axis.

use super::{Chart, Number};

/// From here on a number is written as `1.50e15`.
const LONGEST: f64 = 1e15;

/// A coordinate: at most two decimals.
pub(super) fn at(value: f64) -> f64 {
    (value * 100.0).round() / 100.0 + 0.0
}

/// The number itself, for programs.
pub(super) fn exact(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if (1e-6..LONGEST).contains(&size) => format!("{value}"),
        _ => format!("{value:e}"),
    }
}

/// How the numbers of a chart are written for people: all with as many decimals.
#[derive(Clone, Copy)]
pub(super) struct Format {
    number: Number,
    decimals: usize,
}

impl Format {
    pub fn of(chart: &Chart) -> Format {
        let most = chart.values().fold(0.0, |most: f64, value| most.max(value.abs()));
        let decimals = match chart.number {
            Number::Share => 1,
            _ if chart.values().all(|value| value == value.trunc()) => 0,
            Number::Count if most >= 100.0 => 1,
            Number::Count => 2,
            Number::Plain if most >= 1000.0 => 1,
            Number::Plain if most >= 100.0 => 2,
            Number::Plain => 3,
        };
        Format { number: chart.number, decimals }
    }

    /// `1,234`, `12.3 %`, `0.123`; a number too near to zero for that as `<0.001`.
    pub fn write(self, value: f64) -> String {
        let (times, unit) = if self.number == Number::Share { (100.0, " %") } else { (1.0, "") };
        let (value, least) = (value * times, 10f64.powi(-(self.decimals as i32)));
        if value.abs() >= LONGEST {
            return format!("{value:.2e}{unit}").replace('-', "−");
        }
        if value != 0.0 && value.abs() < least / 2.0 {
            let sign = if value < 0.0 { ">−" } else { "<" };
            return format!("{sign}{least:.0$}{unit}", self.decimals);
        }
        // None and all are so exactly.
        let exact = self.number == Number::Share && (value == 0.0 || value == 100.0);
        decimals(value, if exact { 0 } else { self.decimals }) + unit
    }
}

/// `−1,234.50`
fn decimals(value: f64, count: usize) -> String {
    let digits = format!("{:.count$}", value.abs());
    let (whole, rest) = digits.split_at(digits.find('.').unwrap_or(digits.len()));
    let mut text = String::new();
    if value < 0.0 && digits.contains(|c: char| ('1'..='9').contains(&c)) {
        text.push('−');
    }
    for (nth, digit) in whole.chars().enumerate() {
        if nth > 0 && (whole.len() - nth).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text + rest
}

/// A stretch of an axis from one round number to another.
pub(super) struct Scale {
    pub low: f64,
    pub high: f64,
    step: f64,
    pub ticks: Vec<f64>,
}

impl Scale {
    /// The shortest that holds both numbers and has about so many ticks; between whole numbers where
    /// only those make sense.
    pub fn over(low: f64, high: f64, ticks: f64, whole: bool) -> Scale {
        let (mut low, mut high) = (low.min(high), low.max(high));
        let size = low.abs().max(high.abs());
        // What is the same but for how floats are rounded is drawn as one number.
        if high - low <= size * 1e-9 || high - low < 1e-200 {
            let around = if size < 1e-200 { 1.0 } else { size * 0.1 };
            (low, high) = if size < 1e-200 { (0.0, 1.0) } else { (low - around, high + around) };
        }
        let rough = (high - low) / ticks;
        let power = 10f64.powf(rough.log10().floor());
        let round = [1.0, 2.0, 5.0].into_iter().find(|times| times * power >= rough * 0.999);
        let mut step = round.unwrap_or(10.0) * power;
        if whole {
            step = step.max(1.0);
        }
        let (first, last) = ((low / step + 1e-6).floor(), (high / step - 1e-6).ceil());
        let count = (last - first).clamp(1.0, 100.0) as usize;
        let tick = |nth: usize| (first + nth as f64) * step + 0.0;
        let ticks: Vec<f64> = (0..=count).map(tick).collect();
        Scale { low: tick(0), high: tick(count), step, ticks }
    }

    /// How far along the scale a number is: from 0 to 1.
    pub fn part(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    /// A tick's number, with as many decimals as tell it from the next one.
    pub fn write(&self, tick: f64, number: Number) -> String {
        let size = self.low.abs().max(self.high.abs());
        if !(1e-5..LONGEST).contains(&size) {
            return match tick {
                0.0 => "0".to_owned(),
                tick => format!("{tick:.1e}").replace('-', "−"),
            };
        }
        let (times, unit) = if number == Number::Share { (100.0, " %") } else { (1.0, "") };
        let count = -(self.step * times * 1.0001).log10().floor();
        decimals(tick * times, count.clamp(0.0, 9.0) as usize) + unit
    }
}
