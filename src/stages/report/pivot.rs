//! The rows of a table as the numbers of a chart: a value for each place and each series.

use indexmap::IndexMap;
use minijinja::Error;
use serde_json::Value;

use super::document::{Table, wrong};
use crate::charts::{Axis, Chart, Number, Series};
use crate::table::Row;
use crate::text;

/// Which columns hold what.
pub(super) struct Fields {
    pub x: String,
    pub y: String,
    /// Without it there is one series.
    pub series: Option<String>,
}

/// A chart of `rows` of `table`, whose places and series stand in the order of their first rows. `down`: its
/// series are rows, and not what the numbers are of.
pub(super) fn chart(
    table: &Table,
    rows: &[&Row],
    fields: &Fields,
    number: Number,
    down: bool,
) -> Result<Chart, Error> {
    let used = [Some(&fields.x), Some(&fields.y), fields.series.as_ref()];
    for field in used.into_iter().flatten() {
        if !rows.is_empty() && !table.columns.contains(field) {
            return Err(no_column(table, field));
        }
    }
    let mut places: IndexMap<String, ()> = IndexMap::new();
    let mut series: IndexMap<String, IndexMap<usize, Option<f64>>> = IndexMap::new();
    for row in rows {
        let text = |field: &str| shown(row.get(field).unwrap_or(&Value::Null));
        let name = fields.series.as_deref().map_or_else(|| fields.y.clone(), text);
        let x = text(&fields.x);
        let place = places.insert_full(x.clone(), ()).0;
        let value = match row.get(&fields.y) {
            None | Some(Value::Null) => None,
            Some(value) => Some(value.as_f64().ok_or_else(|| {
                wrong(&format!("`{}` of `{}` holds {value}, no number", fields.y, table.name))
            })?),
        };
        if series.entry(name.clone()).or_default().insert(place, value).is_some() {
            return Err(wrong(&format!(
                "`{}` has two rows for `{x}` and `{name}`: sum them up in its stage",
                table.name
            )));
        }
    }
    let count = places.len();
    let series = series.into_iter().map(|(name, values)| Series {
        name,
        values: (0..count).map(|place| values.get(&place).copied().flatten()).collect(),
    });
    let axis = |title: &str, labels: Vec<String>| Axis { title: spoken(title), labels };
    let y = match down {
        true => fields.series.as_ref().unwrap_or(&fields.y),
        false => &fields.y,
    };
    Ok(Chart {
        // The caption stands above it.
        title: String::new(),
        x: axis(&fields.x, places.into_keys().collect()),
        y: axis(y, Vec::new()),
        series: series.collect(),
        number,
    })
}

/// Each place's values as shares of their sum.
pub(super) fn to_shares(chart: &mut Chart) -> Result<(), Error> {
    let negative = |value: &Option<f64>| value.is_some_and(|value| value < 0.0);
    if chart.series.iter().any(|series| series.values.iter().any(negative)) {
        return Err(wrong("`share` is of what adds up, and one of the numbers is negative"));
    }
    for place in 0..chart.x.labels.len() {
        let values = chart.series.iter().filter_map(|series| series.values[place]);
        let sum: f64 = values.sum();
        for series in &mut chart.series {
            let share = series.values[place].filter(|_| sum > 0.0).map(|value| value / sum);
            series.values[place] = share;
        }
    }
    chart.number = Number::Share;
    Ok(())
}

pub(super) fn no_column(table: &Table, name: &str) -> Error {
    let help = crate::manifest::did_you_mean(name, table.columns.iter().map(String::as_str));
    let help = help.map(|help| format!(": {help}")).unwrap_or_default();
    wrong(&format!("`{}` has no column `{name}`{help}", table.name))
}

/// A value as a person reads it.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "(none)".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => self::number(number),
        other => other.to_string(),
    }
}

/// Whole numbers in groups, others to three digits.
fn number(number: &serde_json::Number) -> String {
    match (number.as_i64(), number.as_f64()) {
        (Some(whole), _) => grouped(whole),
        (None, Some(real)) if real.fract() == 0.0 && real.abs() < 1e15 => grouped(real as i64),
        (None, Some(real)) => digits(real),
        (None, None) => number.to_string(),
    }
}

/// Three digits behind the point; of what is smaller, how small it is. What no more than rounding left
/// over is nothing.
pub(super) fn digits(real: f64) -> String {
    match real.abs() {
        size if size < 1e-9 => "0.000".to_owned(),
        size if size < 0.001 => format!("{real:.1e}"),
        size if size >= 1e4 => grouped(real.round() as i64),
        _ => format!("{real:.3}"),
    }
}

/// `-12707` -> `-12,707`
fn grouped(whole: i64) -> String {
    let sign = if whole < 0 { "-" } else { "" };
    format!("{sign}{}", text::grouped(whole.unsigned_abs()))
}

/// A share as a percentage.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// `bugs_per_engine` -> `bugs per engine`
pub(super) fn spoken(name: &str) -> String {
    name.replace('_', " ")
}
