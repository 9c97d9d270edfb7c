//! How sure a model was of what it said, by the log probabilities of its tokens.

use std::ops::Range;

use serde_json::Value;

use crate::table::Row;

/// An answer's tokens, each with the place of its text and its log probability.
pub(super) struct Sureness<'a> {
    said: &'a str,
    /// Where the answer stands in what the tokens spell. A server may take it out of more: a fence
    /// of code, the mark of its end.
    start: Option<usize>,
    tokens: Vec<(Range<usize>, f64)>,
}

impl<'a> Sureness<'a> {
    pub fn of(logprobs: &[(String, f64)], said: &'a str) -> Sureness<'a> {
        let mut spelled = String::new();
        let tokens = logprobs.iter().map(|(text, logprob)| {
            let start = spelled.len();
            spelled.push_str(text);
            (start..spelled.len(), *logprob)
        });
        let tokens = tokens.collect();
        Sureness { said, start: spelled.find(said), tokens }
    }

    /// The mean log probability of a token; `None` where none was told.
    pub fn mean(&self) -> Option<f64> {
        let sum: f64 = self.tokens.iter().map(|(_, logprob)| logprob).sum();
        (!self.tokens.is_empty()).then(|| sum / self.tokens.len() as f64)
    }

    /// How likely each field's value was, from 0 to 1, given what stands before it: of the outermost
    /// fields that hold a text, a number, a boolean or null. What the tokens do not spell is left out.
    pub fn of_fields(&self) -> Row {
        let (Some(start), Ok(Value::Object(fields))) =
            (self.start, serde_json::from_str(self.said))
        else {
            return Row::new();
        };
        let mut from = 0;
        let mut found = Row::new();
        for (name, value) in fields {
            let Some(place) = self.place(from, &name, &value) else { continue };
            from = place.end;
            let place = start + place.start..start + place.end;
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
        let mut more = tokens.clone();
        more.insert(0, ("```json\n".to_owned(), -3.0));
        more.push(("\n```".to_owned(), -3.0));
        assert_eq!(Sureness::of(&more, &said).of_fields(), fields, "only what it was taken out of");
        assert!(Sureness::of(&[], "").mean().is_none());
    }
}
