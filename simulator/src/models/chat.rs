//! `POST /v1/chat/completions`: an answer that is a function of the request's bytes.

use super::answers::Answers;
use super::conform::Maker;
use super::hints::Hints;
use crate::ask::Answer;
use crate::dice::{Dice, hash};
use serde_json::{Map, Value, json};

/// Every answer was made at the same second, so that the same request gets the same bytes.
pub const CREATED: u64 = 1_735_689_600;

const PHRASES: [&str; 4] = [
    "The report describes a crash in the engine.",
    "The change fixes the bounds check.",
    "Not enough is said to decide.",
    "The cause is a missing synchronisation.",
];

pub fn answer(answers: &Answers, body: &[u8]) -> Answer {
    let request: Value = match serde_json::from_slice(body) {
        Ok(request) => request,
        Err(_) => {
            return error(400, "We could not parse the JSON body of your request.", None, None);
        }
    };
    let Some(model) = request["model"].as_str() else {
        return error(400, "you must provide a model parameter", Some("model"), None);
    };
    let Some(messages) = request["messages"].as_array().filter(|messages| !messages.is_empty())
    else {
        let message = "Missing required parameter: 'messages'.";
        return error(400, message, Some("messages"), Some("missing_required_parameter"));
    };
    if request["stream"] == true {
        return error(400, "streaming is not simulated", Some("stream"), Some("unsupported_value"));
    }
    let texts: Vec<(&str, String)> = messages.iter().map(said).collect();
    let (content, source) = match content(answers, &request, &texts, hash(body)) {
        Ok(content) => content,
        Err(message) => return error(400, message, Some("response_format"), None),
    };
    let id = blake3::hash(body).to_hex();
    let answer = complete(model, &id[..29], &texts, &content);
    Answer::json(200, answer.to_string().into_bytes())
        .with("x-request-id", format!("req_{}", &id[..32]))
        .with("x-flow-source", source)
}

pub fn error(status: u16, message: &str, param: Option<&str>, code: Option<&str>) -> Answer {
    let kind = "invalid_request_error";
    let error = json!({"message": message, "type": kind, "param": param, "code": code});
    Answer::value(status, &json!({"error": error}))
        .with("x-request-id", format!("req_{:032x}", hash(message.as_bytes())))
}

fn content(
    answers: &Answers,
    request: &Value,
    texts: &[(&str, String)],
    seed: u64,
) -> Result<(String, &'static str), &'static str> {
    let format = &request["response_format"];
    let mut dice = Dice::new(seed);
    match format["type"].as_str() {
        Some("json_schema") => {
            let named = &format["json_schema"];
            let name =
                named["name"].as_str().ok_or("Missing 'response_format.json_schema.name'.")?;
            let messages: Vec<&str> = texts.iter().map(|(_, text)| text.as_str()).collect();
            let user = texts.iter().rev().find(|(role, _)| *role == "user");
            let user = user.map_or("", |(_, text)| text.as_str());
            if let Some(written) = answers.find(name, user, &messages) {
                return Ok((written.to_string(), "authored"));
            }
            let schema = &named["schema"];
            let hints = Hints::of(texts.iter().map(|(_, text)| text.as_str()));
            Ok((Maker::new(schema, dice, hints).make(schema).to_string(), "simulated"))
        }
        Some("json_object") => {
            let mut object = Map::new();
            object.insert("answer".to_owned(), json!(dice.pick(&PHRASES)));
            object.insert("score".to_owned(), json!(dice.below(100)));
            Ok((Value::Object(object).to_string(), "simulated"))
        }
        _ => Ok((dice.pick(&PHRASES).to_string(), "simulated")),
    }
}

/// Role and text of a message; the text may come in parts.
fn said(message: &Value) -> (&str, String) {
    let text = match &message["content"] {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    };
    (message["role"].as_str().unwrap_or(""), text)
}

fn complete(model: &str, id: &str, texts: &[(&str, String)], content: &str) -> Value {
    // About four characters a token, as everybody estimates.
    let tokens = |chars: usize| chars.div_ceil(4);
    let prompt = tokens(texts.iter().map(|(_, text)| text.chars().count()).sum());
    let completion = tokens(content.chars().count());
    json!({
        "id": format!("chatcmpl-{id}"),
        "object": "chat.completion",
        "created": CREATED,
        "model": format!("{model}-sim"),
        "choices": [{
            "index": 0,
            "message": {"role": "assistant", "content": content, "refusal": null},
            "logprobs": null,
            "finish_reason": "stop"
        }],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": 0}
        },
        "system_fingerprint": "fp_simulator"
    })
}
