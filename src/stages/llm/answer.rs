//! One answer of one model: asked for, judged, and asked for again with what was wrong.

use serde_json::{Value, json};

use super::Stage;
use super::judge::Verdict;
use super::models::Model;
use super::request::{Body, messages_of, repair};
use super::sureness::Sureness;
use super::votes::Sample;
use crate::clients::{Answer, Asking, CallError, Completion};
use crate::stages::{NoGood, RowError};
use crate::table::Row;

/// Why a model gave no answer.
pub(super) enum NoAnswer {
    /// Its provider failed to the end of the attempts, or no call may be made: another may answer.
    Provider(String),
    Row(RowError),
}

impl From<RowError> for NoAnswer {
    fn from(error: RowError) -> NoAnswer {
        NoAnswer::Row(error)
    }
}

impl From<CallError> for NoAnswer {
    fn from(error: CallError) -> NoAnswer {
        match error {
            CallError::Transient { .. } | CallError::Offline { .. } => {
                NoAnswer::Provider(error.to_string())
            }
            error => NoAnswer::Row(error.into()),
        }
    }
}

impl Stage {
    /// Asks `model`, and asks again with what was wrong, at most `repairs` times.
    pub(super) async fn answer(
        &self,
        model: &Model,
        sample: u32,
        row: &Row,
        asking: &Asking,
    ) -> Result<Sample, NoAnswer> {
        let Body { json: first, tokens_cut } = self.body(model, row)?;
        let mut body = first.clone();
        let mut calls = Vec::new();
        loop {
            let (answer, completion) = model.chat.ask(asking, body.clone(), sample).await?;
            if !answer.cached {
                asking.transport.troubles().answered(&model.name);
            }
            let call = answer.key.0.short();
            let attempt = calls.len() as u32;
            calls.push(answer.key);
            match self.judge(row, &completion) {
                Verdict::Good { fields, at } => {
                    asking.good(calls);
                    let mut call = self.call(model, &answer, &completion, at, attempt);
                    call["tokens_cut"] = tokens_cut.into();
                    return Ok(Sample { fields, call });
                }
                Verdict::Useless(what, why) => {
                    return Err(RowError::Answer(what, format!("{why} (call {call})")).into());
                }
                Verdict::Bad { faults, .. } if attempt >= self.repairs => {
                    let why = format!(
                        "no valid answer after {} attempts: {} (call {call})",
                        attempt + 1,
                        faults.join("; ")
                    );
                    return Err(RowError::Answer(NoGood::Invalid, why).into());
                }
                Verdict::Bad { said, faults } => {
                    body = repair(&first, messages_of(model.chat.api), &said, &faults);
                }
            }
        }
    }

    /// Where an answer came from: the same however often, and whenever, it was asked.
    /// `at`: where it begins in what was said.
    fn call(
        &self,
        model: &Model,
        answer: &Answer,
        completion: &Completion,
        at: usize,
        repairs: u32,
    ) -> Value {
        let usage = completion.usage;
        let mut call = json!({
            "id": answer.key.0.hex(),
            "model": model.section.model,
            "returned_model": completion.model,
            "system_fingerprint": completion.system_fingerprint,
            "finish_reason": completion.finish_reason,
            "tokens_in": usage.input,
            "tokens_in_cached": usage.cached_input,
            "tokens_cache_written": usage.cache_written,
            "tokens_out": usage.output,
            "tokens_reasoning": usage.reasoning,
            "truncated": completion.finish_reason.as_deref() == Some("length"),
            "repairs": repairs,
            "source": answer.source,
        });
        if model.section.logprobs.is_some() {
            let sure = Sureness::of(&completion.logprobs, &completion.said);
            call["logprob"] = sure.mean().into();
            call["confidence"] = sure.of_fields(at).into();
        }
        call
    }
}
