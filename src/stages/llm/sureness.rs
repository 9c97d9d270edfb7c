//! How sure a model was of what it said, by the log probabilities of its tokens.

use std::ops::Range;

use serde_json::Value;

use crate::table::Row;

/// An answer's tokens, each with the place of its text and its log probability.
pub(super) struct Sureness<'a> {
    said: &'a str,
    tokens: Vec<(Range<usize>, f64)>,
}

impl<'a> Sureness<'a> {
    pub fn of(logprobs: &[(String, f64)], said: &'a str) -> Sureness<'a> {
        let mut end = 0;
        let tokens = logprobs.iter().map(|(text, logprob)| {
            let start = end;
            end += text.len();
            (start..end, *logprob)
        });
        Sureness { said, tokens: tokens.collect() }
    }

    /// The mean log probability of a token; `None` where none was told.
    pub fn mean(&self) -> Option<f64> {
        let sum: f64 = self.tokens.iter().map(|(_, logprob)| logprob).sum();
        (!self.tokens.is_empty()).then(|| sum / self.tokens.len() as f64)
    }

    /// How likely each field's value was, from 0 to 1, given what stands before it: of the outermost
    /// fields that hold a text, a number, a boolean or null. What the tokens do not spell is left out.
    pub fn of_fields(&self) -> Row {
        let end = self.tokens.last().map_or(0, |(place, _)| place.end);
        let Ok(Value::Object(fields)) = serde_json::from_str(self.said) else { return Row::new() };
        if end != self.said.len() {
            return Row::new();
        }
        let mut from = 0;
        let mut found = Row::new();
        for (name, value) in fields {
            let Some(place) = self.place(from, &name, &value) else { continue };
            from = place.end;
            let spells = |token: &&(Range<usize>, f64)| {
                token.0.start < place.end && place.start < token.0.end
            };
            let sum: f64 = self.tokens.iter().filter(spells).map(|(_, logprob)| logprob).sum();
            if !value.is_object() && !value.is_array() {
                found.insert(name, sum.exp().into());
            }
        }
        found
    }

    /// Where a field's value stands, at `from` or after it. A model writes JSON as it likes: only
    /// what is written as it would be here is found.
    fn place(&self, from: usize, name: &str, value: &Value) -> Option<Range<usize>> {
        let name = serde_json::to_string(name).ok()?;
        let value = value.to_string();
        let at = from + self.said[from..].find(&name)? + name.len();
        let rest = self.said[at..].trim_start().strip_prefix(':')?.trim_start();
        let start = self.said.len() - rest.len();
        rest.starts_with(&value).then(|| start..start + value.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fields_tokens_tell_how_sure_it_is() {
        let tokens = [("{\"", -0.1), ("label", 0.0), ("\": \"", 0.0), ("bu", -0.5), ("g", -0.25)];
        let rest = [("\", \"n\":", -0.125), (" 7}", -1.0)];
        let tokens: Vec<(String, f64)> =
            tokens.iter().chain(&rest).map(|(text, it)| ((*text).to_owned(), *it)).collect();
        let said: String = tokens.iter().map(|(text, _)| text.as_str()).collect();
        let sure = Sureness::of(&tokens, &said);
        assert!((sure.mean().unwrap() + 1.975 / 7.0).abs() < 1e-12);
        let fields = sure.of_fields();
        // Its quotes belong to a text; tokens that reach beyond it count whole.
        assert_eq!(fields["label"], (-0.5_f64 - 0.25 - 0.125).exp());
        assert_eq!(fields["n"], (-1.0_f64).exp());
        assert!(Sureness::of(&tokens[1..], &said).of_fields().is_empty(), "not the same text");
        assert!(Sureness::of(&[], "").mean().is_none());
    }
}
