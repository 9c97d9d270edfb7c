//! The answer of `POST /v1/responses`.

use super::CREATED;
use super::asked::{Asked, Format};
use super::logprobs;
use super::said::{End, Said};
use super::usage::Usage;
use serde_json::{Value, json};

pub fn shape(id: &str, asked: &Asked, said: &Said, usage: &Usage) -> Value {
    let id = &id[..48];
    let (status, incomplete) = match said.end {
        End::Stop => ("completed", Value::Null),
        End::Length => ("incomplete", json!({"reason": "max_output_tokens"})),
        End::ContentFilter => ("incomplete", json!({"reason": "content_filter"})),
    };
    let mut input = json!({"cached_tokens": usage.cached});
    if let Some(written) = usage.written {
        input["cache_write_tokens"] = json!(written);
    }
    json!({
        "id": format!("resp_{id}"),
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "background": false,
        "error": null,
        "incomplete_details": incomplete,
        "max_output_tokens": asked.most,
        "model": format!("{}-sim", asked.model),
        "output": output(id, asked, said, status),
        "parallel_tool_calls": true,
        "previous_response_id": null,
        "reasoning": {"effort": asked.effort, "summary": null},
        "text": {"format": format(&asked.format)},
        "tool_choice": "auto",
        "tools": [],
        "truncation": "disabled",
        "usage": {
            "input_tokens": usage.input,
            "input_tokens_details": input,
            "output_tokens": usage.output,
            "output_tokens_details": {"reasoning_tokens": usage.reasoning},
            "total_tokens": usage.total()
        },
        "metadata": {}
    })
}

/// What the model thought, where it was to think, and what it said, where it came to that.
fn output(id: &str, asked: &Asked, said: &Said, status: &str) -> Vec<Value> {
    let mut items = Vec::new();
    if said.reasoning > 0 {
        items.push(json!({"id": format!("rs_{id}"), "type": "reasoning", "summary": []}));
    }
    if said.end == End::Length && said.content.is_empty() {
        return items;
    }
    let content = match said.refused {
        true => json!({"type": "refusal", "refusal": said.content}),
        false => {
            let logprobs = asked.logprobs.map(|top| logprobs::of(&said.content, asked.seed, top));
            let logprobs = logprobs.unwrap_or_else(|| json!([]));
            let (kind, text) = ("output_text", &said.content);
            json!({"type": kind, "annotations": [], "logprobs": logprobs, "text": text})
        }
    };
    items.push(json!({
        "id": format!("msg_{id}"),
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": [content]
    }));
    items
}

fn format(format: &Format) -> Value {
    match format {
        Format::Text => json!({"type": "text"}),
        Format::Object => json!({"type": "json_object"}),
        Format::Schema { name, strict, schema } => {
            json!({"type": "json_schema", "name": name, "strict": strict, "schema": schema})
        }
    }
}
