//! Whether an answer is any good: in its form, by its schema, by the stage's check.

use serde_json::{Value, json};

use super::{Answers, Stage};
use crate::clients::Completion;
use crate::stages::NoGood;
use crate::table::Row;

/// What came of one answer.
pub(super) enum Verdict {
    Good(Row),
    /// Worth asking again, with what was wrong.
    Bad {
        said: String,
        faults: Vec<String>,
    },
    /// No use asking again, and why.
    Useless(NoGood, String),
}

impl Stage {
    pub(super) fn judge(&self, row: &Row, completion: &Completion) -> Verdict {
        let useless = |what, why: &str| Verdict::Useless(what, why.to_owned());
        if let Some(refusal) = &completion.refusal {
            let why = format!("the model refused: {}", short(refusal));
            return useless(NoGood::Refusal, &why);
        }
        match completion.finish_reason.as_deref() {
            Some("length") => {
                let why = "the answer was cut at the length limit; let the model say more \
                           (`max_tokens`, `max_completion_tokens`, `max_output_tokens`)";
                return useless(NoGood::Length, why);
            }
            Some("content_filter") => {
                return useless(NoGood::ContentFilter, "the provider's filter withheld the answer");
            }
            _ => {}
        }
        let said = completion.said.as_str();
        if said.trim().is_empty() {
            return useless(NoGood::Empty, "the answer is empty");
        }
        let Some(schema) = &self.schema else {
            return self.checked(row, said, Row::from_iter([("answer".into(), said.into())]));
        };
        let found = match self.answers {
            Answers::Text => first_object(said),
            _ => serde_json::from_str(said.trim()).map_err(|error| error.to_string()),
        };
        let bad = |faults| Verdict::Bad { said: said.to_owned(), faults };
        match found {
            Err(fault) => bad(vec![format!("the answer is no JSON: {fault}")]),
            Ok(answer) => match (schema.faults(&answer), answer) {
                (faults, Value::Object(mut fields)) if faults.is_empty() => {
                    schema.complete(&mut fields);
                    self.checked(row, said, fields)
                }
                (faults, _) => bad(faults),
            },
        }
    }

    fn checked(&self, row: &Row, said: &str, fields: Row) -> Verdict {
        let Some(check) = &self.check else {
            return Verdict::Good(fields);
        };
        let subject = json!({ "row": row, "answer": fields });
        match check.run(&subject) {
            Err(error) => Verdict::Useless(NoGood::Invalid, format!("`check` failed: {error}")),
            Ok(faults) if faults.is_empty() => Verdict::Good(fields),
            Ok(faults) => {
                let text = |fault: Value| match fault {
                    Value::String(text) => text,
                    other => other.to_string(),
                };
                let faults = faults.into_iter().take(10).map(text).collect();
                Verdict::Bad { said: said.to_owned(), faults }
            }
        }
    }
}

/// The first JSON object in a text, as models write it between words or in a code fence.
fn first_object(text: &str) -> Result<Value, String> {
    let mut last = "there is no JSON object in it".to_owned();
    for (start, _) in text.match_indices('{').take(50) {
        let mut values = serde_json::Deserializer::from_str(&text[start..]).into_iter::<Value>();
        match values.next() {
            Some(Ok(value)) => return Ok(value),
            Some(Err(error)) => last = error.to_string(),
            None => {}
        }
    }
    Err(last)
}

fn short(text: &str) -> String {
    text.chars().take(200).collect()
}
