//! Whether an answer is any good: in its form, by its schema, by the stage's check.

use serde_json::{Value, json};

use super::found::objects;
use super::{Answers, Stage};
use crate::clients::Completion;
use crate::programs::AnswerSchema;
use crate::stages::NoGood;
use crate::table::Row;

/// What came of one answer.
pub(super) enum Verdict {
    /// With where the answer begins in what was said.
    Good { fields: Row, at: usize },
    /// Worth asking again, with what was wrong.
    Bad { said: String, faults: Vec<String> },
    /// No use asking again, and why.
    Useless(NoGood, String),
}

/// How an answer ended.
enum End<'a> {
    Whole,
    Length,
    Filter,
    Incomplete,
    /// A reason that is not known: whether it is whole, the answer itself must show.
    Unknown(&'a str),
}

impl End<'_> {
    /// Servers have their own words beside OpenAI's.
    fn of(reason: Option<&str>) -> End<'_> {
        let Some(reason) = reason.filter(|reason| !reason.is_empty()) else { return End::Whole };
        match reason.to_ascii_lowercase().as_str() {
            "stop" | "eos" | "eos_token" | "end_turn" | "stop_sequence" | "completed" => End::Whole,
            "length" | "max_tokens" | "max_output_tokens" | "model_length" => End::Length,
            "incomplete" => End::Incomplete,
            other if other.starts_with("content_filter") || other == "safety" => End::Filter,
            _ => End::Unknown(reason),
        }
    }
}

impl Stage {
    pub(super) fn judge(&self, row: &Row, completion: &Completion) -> Verdict {
        let useless = |what, why: &str| Verdict::Useless(what, why.to_owned());
        if let Some(refusal) = &completion.refusal {
            let why = format!("the model refused: {}", short(refusal));
            return useless(NoGood::Refusal, &why);
        }
        let end = End::of(completion.finish_reason.as_deref());
        match end {
            End::Length => {
                let why = "the answer was cut at the length limit; let the model say more \
                           (`max_tokens`, `max_completion_tokens`, `max_output_tokens`)";
                return useless(NoGood::Length, why);
            }
            End::Filter => {
                return useless(NoGood::ContentFilter, "the provider's filter withheld the answer");
            }
            End::Incomplete => {
                return useless(NoGood::Invalid, "the server says that the answer is incomplete");
            }
            End::Whole | End::Unknown(_) => {}
        }
        let said = completion.said.as_str();
        if said.trim().is_empty() {
            return useless(NoGood::Empty, "the answer is empty");
        }
        let Some(schema) = &self.schema else {
            // A text does not show that it is whole.
            if let End::Unknown(reason) = end {
                let why = format!("the answer ended with `{}`, not `stop`", short(reason));
                return useless(NoGood::Invalid, &why);
            }
            return self.checked(row, said, 0, Row::from_iter([("answer".into(), said.into())]));
        };
        let found = match self.answers {
            Answers::Text => the_answer(said, schema),
            _ => match serde_json::from_str(said.trim()) {
                Ok(answer) => Ok((said.len() - said.trim_start().len(), answer)),
                Err(fault) => Err(vec![format!("the answer is no JSON: {fault}")]),
            },
        };
        let bad = |faults| Verdict::Bad { said: said.to_owned(), faults };
        match found {
            Err(faults) => bad(faults),
            Ok((at, answer)) => match (schema.faults(&answer), answer) {
                (faults, Value::Object(mut fields)) if faults.is_empty() => {
                    schema.complete(&mut fields);
                    self.checked(row, said, at, fields)
                }
                (faults, _) => bad(faults),
            },
        }
    }

    fn checked(&self, row: &Row, said: &str, at: usize, fields: Row) -> Verdict {
        let Some(check) = &self.check else {
            return Verdict::Good { fields, at };
        };
        let subject = json!({ "row": row, "answer": fields });
        match check.run(&subject) {
            Err(error) => Verdict::Useless(NoGood::Invalid, format!("`check` failed: {error}")),
            Ok(mut faults) => {
                faults.retain(|fault| !fault.is_null());
                if let Some(other) = faults.iter().find(|fault| !fault.is_string()) {
                    // The program is at fault, and no other answer would mend it.
                    let other = short(&other.to_string());
                    let why = format!("`check` gave {other}, where what is wrong is a text");
                    return Verdict::Useless(NoGood::Invalid, why);
                }
                if faults.is_empty() {
                    return Verdict::Good { fields, at };
                }
                let texts = faults.iter().filter_map(Value::as_str);
                let faults = texts.take(10).map(str::to_owned).collect();
                Verdict::Bad { said: said.to_owned(), faults }
            }
        }
    }
}

/// Of the objects in a text, the one that is the answer: where it begins, and it.
fn the_answer(text: &str, schema: &AnswerSchema) -> Result<(usize, Value), Vec<String>> {
    let no_json = |fault| vec![format!("the answer is no JSON: {fault}")];
    let mut found = objects(text).map_err(no_json)?;
    if found.iter().any(|(_, object)| schema.faults(object).is_empty()) {
        found.retain(|(_, object)| schema.faults(object).is_empty());
    }
    let (at, first) = found.remove(0);
    match found.iter().all(|(_, other)| *other == first) {
        true => Ok((at, first)),
        false => Err(vec!["there are several JSON objects in it; give one".to_owned()]),
    }
}

fn short(text: &str) -> String {
    text.chars().take(200).collect()
}
