//! The answer of `POST /v1/chat/completions`.

use super::asked::Asked;
use super::logprobs;
use super::said::{End, Said};
use super::usage::Usage;
use super::{CREATED, FINGERPRINT};
use serde_json::{Value, json};

pub fn shape(id: &str, asked: &Asked, said: &Said, usage: &Usage) -> Value {
    let (content, refusal) = match said.refused {
        true => (None, Some(&said.content)),
        false => (Some(&said.content), None),
    };
    let logprobs = asked.logprobs.map(|top| {
        let tokens = logprobs::of(&said.content, asked.seed, top);
        match said.refused {
            true => json!({"content": null, "refusal": tokens}),
            false => json!({"content": tokens, "refusal": null}),
        }
    });
    let finish_reason = match said.end {
        End::Stop => "stop",
        End::Length => "length",
        End::ContentFilter => "content_filter",
    };
    let mut counts = json!({
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.total(),
        "prompt_tokens_details": {"cached_tokens": usage.cached}
    });
    if let Some(written) = usage.written {
        counts["prompt_tokens_details"]["cache_write_tokens"] = json!(written);
    }
    if asked.effort.is_some() {
        counts["completion_tokens_details"] = json!({"reasoning_tokens": usage.reasoning});
    }
    json!({
        "id": format!("chatcmpl-{}", &id[..29]),
        "object": "chat.completion",
        "created": CREATED,
        "model": format!("{}-sim", asked.model),
        "choices": [{
            "index": 0,
            "message": {"role": "assistant", "content": content, "refusal": refusal},
            "logprobs": logprobs,
            "finish_reason": finish_reason
        }],
        "usage": counts,
        "system_fingerprint": FINGERPRINT
    })
}
