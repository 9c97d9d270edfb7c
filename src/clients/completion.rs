//! What a model answered, in one shape for both of OpenAI's APIs: chat completions and responses.

use serde_json::Value;

use super::usage::Usage;

pub use crate::manifest::ModelApi as Api;

impl Api {
    /// Its address, from `base_url` on.
    pub fn path(self) -> &'static str {
        match self {
            Api::Chat => "/chat/completions",
            Api::Responses => "/responses",
        }
    }
}

/// A model's answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Completion {
    /// The text that it said; empty where it said none.
    pub said: String,
    /// Why it will not answer, where it says so.
    pub refusal: Option<String>,
    /// Why it ended: `stop`, `length`, `content_filter`, or as the server names it.
    pub finish_reason: Option<String>,
    /// The model that answered, as the server names it.
    pub model: Option<String>,
    pub system_fingerprint: Option<String>,
    pub usage: Usage,
    /// The bytes of each token of the text with its log probability, where that was asked for.
    pub logprobs: Vec<(Vec<u8>, f64)>,
}

impl Completion {
    /// Reads a recorded answer; what is not there is empty.
    pub fn of(answer: &Value) -> Completion {
        let text = |name: &str| answer[name].as_str().map(str::to_owned);
        let common = Completion {
            model: text("model"),
            system_fingerprint: text("system_fingerprint"),
            usage: Usage::of(answer),
            ..Completion::default()
        };
        match is_response(answer) {
            true => common.of_response(answer),
            false => common.of_chat(&answer["choices"][0]),
        }
    }

    fn of_chat(self, choice: &Value) -> Completion {
        let message = &choice["message"];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Completion {
            said: text(&message["content"]).unwrap_or_default(),
            refusal: text(&message["refusal"]).filter(|text| !text.is_empty()),
            finish_reason: text(&choice["finish_reason"]),
            logprobs: logprobs(&choice["logprobs"]["content"]),
            ..self
        }
    }

    /// A response's status in the words of chat completions: those are the older ones.
    fn of_response(mut self, answer: &Value) -> Completion {
        let why = answer["incomplete_details"]["reason"].as_str();
        self.finish_reason = Some(match (answer["status"].as_str(), why) {
            (Some("completed"), _) => "stop".to_owned(),
            (_, Some("max_output_tokens")) => "length".to_owned(),
            (status, why) => why.or(status).unwrap_or_default().to_owned(),
        });
        let items = answer["output"].as_array().into_iter().flatten();
        let messages = items.filter(|item| item["type"] == "message");
        for part in messages.filter_map(|item| item["content"].as_array()).flatten() {
            match part["type"].as_str() {
                Some("output_text") => {
                    self.said.push_str(part["text"].as_str().unwrap_or_default());
                    self.logprobs.extend(logprobs(&part["logprobs"]));
                }
                Some("refusal") => self.refusal = part["refusal"].as_str().map(str::to_owned),
                _ => {}
            }
        }
        self
    }
}

/// Whether it is an answer of the responses API.
pub(super) fn is_response(answer: &Value) -> bool {
    answer["object"] == "response" || answer.get("output").is_some_and(Value::is_array)
}

fn logprobs(tokens: &Value) -> Vec<(Vec<u8>, f64)> {
    let token = |token: &Value| Some((bytes(token)?, token["logprob"].as_f64()?));
    tokens.as_array().into_iter().flatten().filter_map(token).collect()
}

/// A token may end inside of a character: its text is then a makeshift, and only its bytes, which not
/// every server tells, are what the model wrote.
fn bytes(token: &Value) -> Option<Vec<u8>> {
    let byte = |byte: &Value| byte.as_u64().and_then(|byte| u8::try_from(byte).ok());
    match token["bytes"].as_array() {
        Some(bytes) => bytes.iter().map(byte).collect(),
        None => Some(token["token"].as_str()?.as_bytes().to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_apis_say_the_same() {
        let chat = json!({
            "object": "chat.completion", "model": "m-1", "system_fingerprint": "fp",
            "choices": [{
                "message": {"content": "{\"a\": 1}", "refusal": null}, "finish_reason": "stop",
                "logprobs": {"content": [{"token": "{", "logprob": -0.5}]},
            }],
            "usage": {
                "prompt_tokens": 7, "completion_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 3},
                "completion_tokens_details": {"reasoning_tokens": 2},
            },
        });
        let response = json!({
            "object": "response", "model": "m-1", "system_fingerprint": "fp", "status": "completed",
            "output": [
                {"type": "reasoning", "summary": []},
                {"type": "message", "content": [{
                    "type": "output_text", "text": "{\"a\": 1}",
                    "logprobs": [{"token": "{", "logprob": -0.5}],
                }]},
            ],
            "usage": {
                "input_tokens": 7, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 3},
                "output_tokens_details": {"reasoning_tokens": 2},
            },
        });
        let completion = Completion::of(&chat);
        assert_eq!(completion, Completion::of(&response));
        assert_eq!(completion.said, "{\"a\": 1}");
        assert_eq!((completion.usage.input, completion.usage.cached_input), (7, 3));
        assert_eq!((completion.usage.output, completion.usage.reasoning), (5, 2));
    }

    #[test]
    fn a_token_is_its_bytes_where_they_are_told() {
        let content = json!([
            {"token": "\\xe2\\x80", "logprob": -0.5, "bytes": [0xE2, 0x80]},
            {"token": "\\x94", "logprob": -0.25, "bytes": [0x94]},
            {"token": "no", "logprob": -0.125, "bytes": null},
        ]);
        let answer = json!({ "choices": [{ "logprobs": { "content": content } }] });
        let tokens = Completion::of(&answer).logprobs;
        assert_eq!(
            tokens.iter().flat_map(|(bytes, _)| bytes.clone()).collect::<Vec<_>>(),
            "—no".as_bytes()
        );
        assert_eq!(tokens.iter().map(|(_, logprob)| logprob).sum::<f64>(), -0.875);
    }

    #[test]
    fn what_was_cut_or_refused_says_so() {
        let cut = json!({
            "object": "response", "status": "incomplete",
            "incomplete_details": {"reason": "max_output_tokens"}, "output": [],
        });
        assert_eq!(Completion::of(&cut).finish_reason.as_deref(), Some("length"));
        let refused = json!({
            "object": "response", "status": "completed",
            "output": [{"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}],
        });
        assert_eq!(Completion::of(&refused).refusal.as_deref(), Some("no"));
        assert_eq!(Completion::of(&json!("nonsense")), Completion::default());
    }
}
