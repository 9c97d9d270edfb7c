//! The OpenAI-compatible API under `/v1`.

mod answers;
mod chat;
mod conform;
mod hints;
mod numbers;
mod pattern;

use crate::ask::{Answer, Ask};
use answers::Answers;
use serde_json::json;
use std::io;
use std::path::Path;

pub struct Models {
    answers: Answers,
}

impl Models {
    pub fn load(answers: Option<&Path>) -> io::Result<Models> {
        Ok(Models { answers: answers.map_or_else(|| Ok(Answers::default()), Answers::load)? })
    }

    /// The template of the endpoint that `path` names, for the counts.
    pub fn template(path: &str) -> &'static str {
        match path {
            "/v1/chat/completions" => "/v1/chat/completions",
            "/v1/models" => "/v1/models",
            _ => "(other)",
        }
    }

    pub fn answer(&self, ask: &Ask) -> Answer {
        match (ask.method.as_str(), ask.path.as_str()) {
            ("POST", "/v1/chat/completions") => chat::answer(&self.answers, &ask.body),
            ("GET", "/v1/models") => {
                let model = json!({
                    "id": "simulated", "object": "model", "created": chat::CREATED, "owned_by": "simulator"
                });
                Answer::value(200, &json!({"object": "list", "data": [model]}))
            }
            _ => {
                let message = format!("Invalid URL ({} {})", ask.method, ask.path);
                chat::error(404, &message, None, Some("unknown_url"))
            }
        }
    }
}
