//! The OpenAI-compatible API under `/v1`.

mod answers;
mod chat;
mod conform;
mod hints;
mod numbers;
mod pattern;

use crate::ask::{Answer, Ask};
use answers::Answers;
use serde_json::{Value, json};
use std::io;
use std::path::Path;

/// The one that is listed; a chat is answered under any name.
const MODEL: &str = "simulated";
const BELOW_MODELS: &str = "/v1/models/";

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
            _ if path.starts_with(BELOW_MODELS) => "/v1/models/{model}",
            _ => "(other)",
        }
    }

    pub fn answer(&self, ask: &Ask) -> Answer {
        match (ask.method.as_str(), ask.path.as_str()) {
            ("POST", "/v1/chat/completions") => chat::answer(&self.answers, &ask.body),
            ("GET", "/v1/models") => {
                Answer::value(200, &json!({"object": "list", "data": [the_model()]}))
            }
            ("GET", path) if path.starts_with(BELOW_MODELS) => match &path[BELOW_MODELS.len()..] {
                MODEL => Answer::value(200, &the_model()),
                other => {
                    let message = format!("The model '{other}' does not exist");
                    chat::error(404, &message, Some("model"), Some("model_not_found"))
                }
            },
            _ => {
                let message = format!("Invalid URL ({} {})", ask.method, ask.path);
                chat::error(404, &message, None, Some("unknown_url"))
            }
        }
    }
}

fn the_model() -> Value {
    json!({"id": MODEL, "object": "model", "created": chat::CREATED, "owned_by": "simulator"})
}
