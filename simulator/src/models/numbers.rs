//! Numbers within the bounds of a JSON Schema.

use crate::dice::Dice;
use serde_json::{Map, Number, Value, json};

pub fn integer(keys: &Map<String, Value>, dice: &mut Dice) -> Value {
    let (low, high) = bounds(keys, 1.0);
    let low = low.map(f64::ceil).or(high.map(|high| (high - 100.0).floor())).unwrap_or(0.0);
    let high = high.map_or(low + 100.0, f64::floor);
    let step =
        keys.get("multipleOf").and_then(Value::as_f64).filter(|step| *step >= 1.0).unwrap_or(1.0);
    let first = (low / step).ceil() * step;
    let steps = ((high - first) / step).floor().clamp(0.0, 1e15) as u64;
    let value = first + step * dice.below(steps + 1) as f64;
    json!(value as i64)
}

pub fn number(keys: &Map<String, Value>, dice: &mut Dice) -> Value {
    let (low, high) = bounds(keys, 0.0);
    let open = |key: &str| keys.get(key).and_then(Value::as_f64).is_some();
    let base = low.or(high.map(|high| high - 1.0)).unwrap_or(0.0);
    let width = high.map_or(1.0, |high| high - base).max(0.0);
    if let Some(step) = keys.get("multipleOf").and_then(Value::as_f64).filter(|step| *step > 0.0) {
        let first = (base / step).ceil() + f64::from(u8::from(open("exclusiveMinimum")));
        let steps = ((base + width) / step - first).floor().clamp(0.0, 1e9) as u64;
        let steps = steps - u64::from(open("exclusiveMaximum") && steps > 0);
        return exact((first + dice.below(steps + 1) as f64) * step);
    }
    // Hundredths, the ends among them where they count.
    let from = u64::from(open("exclusiveMinimum"));
    let to = 100 - u64::from(open("exclusiveMaximum"));
    let share = (from + dice.below(to - from + 1)) as f64 / 100.0;
    let value = base + width * share;
    let rounded = (value * 100.0).round() / 100.0;
    let inside = rounded > base && rounded < base + width;
    exact(if inside { rounded } else { value.clamp(base, base + width) })
}

/// The least and the greatest value; `step` is what an exclusive bound keeps away.
fn bounds(keys: &Map<String, Value>, step: f64) -> (Option<f64>, Option<f64>) {
    let bound = |key: &str| keys.get(key).and_then(Value::as_f64);
    let above =
        bound("exclusiveMinimum").map(|low| if step > 0.0 { (low + step).floor() } else { low });
    let below =
        bound("exclusiveMaximum").map(|high| if step > 0.0 { (high - step).ceil() } else { high });
    let low = bound("minimum").into_iter().chain(above).reduce(f64::max);
    let high = bound("maximum").into_iter().chain(below).reduce(f64::min);
    (low, high)
}

fn exact(value: f64) -> Value {
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}
