//! How sure a model was of what it said, by the log probabilities of its tokens.

use std::ops::Range;

use serde_json::Deserializer;

use crate::programs::place_of;
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
    pub fn of(logprobs: &[(Vec<u8>, f64)], said: &'a str) -> Sureness<'a> {
        let mut spelled = Vec::new();
        let tokens = logprobs.iter().map(|(bytes, logprob)| {
            let start = spelled.len();
            spelled.extend_from_slice(bytes);
            (start..spelled.len(), *logprob)
        });
        let tokens = tokens.collect();
        Sureness { said, start: memchr::memmem::find(&spelled, said.as_bytes()), tokens }
    }

    /// The mean log probability of a token; `None` where none was told.
    pub fn mean(&self) -> Option<f64> {
        let sum: f64 = self.tokens.iter().map(|(_, logprob)| logprob).sum();
        (!self.tokens.is_empty()).then(|| sum / self.tokens.len() as f64)
    }

    /// How likely each field's value was, from 0 to 1, given what stands before it: of the outermost
    /// fields that hold a text, a number, a boolean or null, of the object that begins `at`. Empty where
    /// the tokens do not tell.
    pub fn of_fields(&self, at: usize) -> Row {
        let mut values = Deserializer::from_str(&self.said[at..]).into_iter::<Row>();
        let (Some(start), Some(Ok(fields))) = (self.start, values.next()) else {
            return Row::new();
        };
        let plain = fields.into_iter().filter(|(_, value)| !value.is_object() && !value.is_array());
        let sure = plain.map(|(name, _)| {
            let place = place_of(self.said, at, std::slice::from_ref(&name));
            let place = start + place.start..start + place.end;
            let spells = |token: &&(Range<usize>, f64)| {
                token.0.start < place.end && place.start < token.0.end
            };
            let sum: f64 = self.tokens.iter().filter(spells).map(|(_, logprob)| logprob).sum();
            (name, rounded(sum.exp()).into())
        });
        sure.collect()
    }
}

/// To six digits: the last ones of an exponential are not the same on every machine.
fn rounded(probability: f64) -> f64 {
    (probability * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(texts: &[(&str, f64)]) -> Vec<(Vec<u8>, f64)> {
        texts.iter().map(|(text, logprob)| (text.as_bytes().to_vec(), *logprob)).collect()
    }

    #[test]
    fn a_fields_tokens_tell_how_sure_it_is() {
        let texts = [
            ("{\"", -0.1),
            ("label", 0.0),
            ("\": \"", 0.0),
            ("bu", -0.5),
            ("g", -0.25),
            ("\", \"n\":", -0.125),
            (" 7}", -1.0),
        ];
        let said: String = texts.iter().map(|(text, _)| *text).collect();
        let tokens = tokens(&texts);
        let sure = Sureness::of(&tokens, &said);
        assert!((sure.mean().unwrap() + 1.975 / 7.0).abs() < 1e-12);
        let fields = sure.of_fields(0);
        // Its quotes belong to a text; tokens that reach beyond it count whole.
        assert_eq!(fields["label"], 0.416862);
        assert_eq!(fields["n"], 0.367879);
        assert!(Sureness::of(&tokens[1..], &said).of_fields(0).is_empty(), "not the same text");
        let mut more = tokens.clone();
        more.insert(0, (b"```json\n".to_vec(), -3.0));
        more.push((b"\n```".to_vec(), -3.0));
        assert_eq!(
            Sureness::of(&more, &said).of_fields(0),
            fields,
            "only what it was taken out of"
        );
        assert!(Sureness::of(&[], "").mean().is_none());
    }

    #[test]
    fn a_field_is_found_however_the_answer_is_written() {
        let texts = [
            ("Here: ```json\n{ \"why\" :", -9.0),
            (" \"so \\\"label\\\": \\\"bug\\\" \\u2014", -0.5),
            (" it is\"", -0.25),
            (",\n \"in\": {\"label\": \"bug\"},\n \"label\"", -9.0),
            (":", -9.0),
            ("\"bug\"", -0.125),
            ("\n}\n```", -9.0),
            ("<|end|>", -9.0),
        ];
        let said: String = texts[..7].iter().map(|(text, _)| *text).collect();
        let fields = Sureness::of(&tokens(&texts), &said).of_fields(14);
        let names: Vec<&str> = fields.keys().map(String::as_str).collect();
        assert_eq!(names, ["why", "label"]);
        assert_eq!(fields["why"], 0.472367);
        assert_eq!(fields["label"], 0.882497);
    }
}
