//! A vote: what most of a row's samples say, and how many of them.

use serde_json::{Value, json};

use crate::table::Row;

/// The columns that a vote adds to the answer's fields.
pub(super) const COLUMNS: [&str; 3] = ["agreement", "votes", "tie"];

/// An answer to one of a row's samples: its fields, and the call that it came from.
pub(super) struct Sample {
    pub fields: Row,
    pub call: Value,
}

/// What was voted for, with the places of the samples that did.
struct Candidate {
    answer: Row,
    samples: Vec<usize>,
}

/// The row that `samples` make by a vote over the fields `of`: the answer of the first that says
/// what most of them say. Where no answer has the most votes, none is taken: its fields are null.
pub(super) fn count(mut samples: Vec<Sample>, of: &[String]) -> Row {
    let candidates = candidates(&samples, of);
    let most = candidates[0].samples.len();
    let tie = candidates.get(1).is_some_and(|second| second.samples.len() == most);
    let agreement = most as f64 / samples.len() as f64;
    let calls: Vec<Value> = samples.iter().map(|sample| sample.call["id"].clone()).collect();
    let votes = candidates
        .iter()
        .map(|candidate| json!({ "answer": candidate.answer, "count": candidate.samples.len() }));
    let votes: Vec<Value> = votes.collect();
    let fallback = samples.iter().find_map(|sample| sample.call.get("fallback_for")).cloned();
    let Sample { mut fields, mut call } = samples.swap_remove(candidates[0].samples[0]);
    if tie {
        fields.values_mut().for_each(|value| *value = Value::Null);
    }
    call["samples"] = calls.into();
    if let Some(first) = fallback {
        call["fallback_for"] = first;
    }
    for (name, value) in COLUMNS.into_iter().zip([agreement.into(), votes.into(), tie.into()]) {
        fields.insert(name.to_owned(), value);
    }
    fields.insert("_call".into(), call);
    fields
}

/// What was voted for: what has more votes first, else what came first.
fn candidates(samples: &[Sample], of: &[String]) -> Vec<Candidate> {
    let mut candidates: Vec<Candidate> = Vec::new();
    for (at, sample) in samples.iter().enumerate() {
        let field =
            |name: &String| (name.clone(), sample.fields.get(name).cloned().unwrap_or_default());
        let answer: Row = of.iter().map(field).collect();
        let same = |other: &Row| {
            answer.iter().zip(other.values()).all(|((_, one), other)| is_same(one, other))
        };
        match candidates.iter_mut().find(|candidate| same(&candidate.answer)) {
            Some(candidate) => candidate.samples.push(at),
            None => candidates.push(Candidate { answer, samples: vec![at] }),
        }
    }
    candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.samples.len()));
    candidates
}

/// Whether two values are the same as JSON Schema has it: 5 and 5.0 are.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            one == other || (one.is_f64() != other.is_f64() && one.as_f64() == other.as_f64())
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(a, b)| is_same(a, b))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .all(|(name, value)| other.get(name).is_some_and(|other| is_same(value, other)))
        }
        _ => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote(labels: &[&str]) -> Row {
        let sample = |(at, label): (usize, &&str)| Sample {
            fields: Row::from_iter([
                ("reason".to_owned(), json!(format!("reason {at}"))),
                ("label".to_owned(), json!(label)),
            ]),
            call: json!({ "id": at }),
        };
        count(labels.iter().enumerate().map(sample).collect(), &["label".to_owned()])
    }

    #[test]
    fn the_first_sample_of_the_majority_gives_the_answer() {
        let row = vote(&["a", "b", "b", "c", "b"]);
        assert_eq!(row["label"], "b");
        assert_eq!(row["reason"], "reason 1");
        assert_eq!(row["agreement"], 0.6);
        assert_eq!(row["tie"], false);
        assert_eq!(
            row["votes"],
            json!([
                { "answer": { "label": "b" }, "count": 3 },
                { "answer": { "label": "a" }, "count": 1 },
                { "answer": { "label": "c" }, "count": 1 },
            ])
        );
        assert_eq!(row["_call"], json!({ "id": 1, "samples": [0, 1, 2, 3, 4] }));
    }

    #[test]
    fn numbers_are_the_same_however_they_are_written() {
        let sample = |score: Value| Sample {
            fields: Row::from_iter([("score".to_owned(), score)]),
            call: json!({}),
        };
        let samples = [json!(4), json!(5), json!(5.0)].map(sample).into();
        let row = count(samples, &["score".to_owned()]);
        assert_eq!((&row["score"], &row["tie"]), (&json!(5), &json!(false)));
        assert!(is_same(&json!({"a": [1, {"b": 2}]}), &json!({"a": [1.0, {"b": 2.0}]})));
        assert!(!is_same(&json!([5]), &json!([5.5])));
        assert!(!is_same(&json!("5"), &json!(5)));
    }

    #[test]
    fn a_tie_has_no_answer() {
        let row = vote(&["c", "a", "b", "a", "b"]);
        assert_eq!(row["tie"], true);
        assert_eq!((&row["label"], &row["reason"]), (&Value::Null, &Value::Null));
        assert_eq!(row["agreement"], 0.4);
        assert_eq!(row["votes"][0], json!({ "answer": { "label": "a" }, "count": 2 }));
        assert_eq!(row["_call"]["id"], 1);
    }
}
