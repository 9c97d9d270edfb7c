//! The OpenAI-compatible API under `/v1`.

mod answers;
mod api;
mod asked;
mod chat;
mod conform;
mod hints;
mod logprobs;
mod numbers;
mod pattern;
mod problem;
mod responses;
mod said;
mod usage;

use crate::ask::{Answer, Ask};
use answers::Answers;
use api::Api;
use asked::Asked;
use problem::Problem;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use usage::Usage;

/// The one that is listed; a question is answered under any name.
const MODEL: &str = "simulated";
const BELOW_MODELS: &str = "/v1/models/";
/// Every answer was made at the same second, so that the same request gets the same bytes.
const CREATED: u64 = 1_735_689_600;
const FINGERPRINT: &str = "fp_simulator";

#[derive(clap::Args)]
#[group(skip)]
pub struct Flags {
    /// JSONL file of written model answers
    #[arg(long, value_name = "FILE")]
    answers: Option<PathBuf>,
    /// What is asked again, word for word, gets another answer than before
    #[arg(long)]
    vary: bool,
}

pub struct Models {
    answers: Answers,
    flags: Flags,
    /// How often each question was asked, where answers vary.
    asked: Mutex<HashMap<u64, u64>>,
}

impl Models {
    pub fn new(flags: Flags) -> io::Result<Models> {
        let answers =
            flags.answers.as_deref().map_or_else(|| Ok(Answers::default()), Answers::load)?;
        Ok(Models { answers, flags, asked: Mutex::default() })
    }

    /// The template of the endpoint that `path` names, for the counts.
    pub fn template(path: &str) -> &'static str {
        match path {
            "/v1/chat/completions" => "/v1/chat/completions",
            "/v1/responses" => "/v1/responses",
            "/v1/models" => "/v1/models",
            _ if path.starts_with(BELOW_MODELS) => "/v1/models/{model}",
            _ => "(other)",
        }
    }

    pub fn answer(&self, ask: &Ask) -> Answer {
        match (ask.method.as_str(), ask.path.as_str()) {
            ("POST", "/v1/chat/completions") => self.complete(Api::Chat, ask),
            ("POST", "/v1/responses") => self.complete(Api::Responses, ask),
            ("GET", "/v1/models") => {
                Ok(Answer::value(200, &json!({"object": "list", "data": [the_model()]})))
            }
            ("GET", path) if path.starts_with(BELOW_MODELS) => match &path[BELOW_MODELS.len()..] {
                MODEL => Ok(Answer::value(200, &the_model())),
                other => {
                    let problem = Problem::new(format!("The model '{other}' does not exist"));
                    Err(problem.status(404).at("model").code("model_not_found"))
                }
            },
            _ => {
                let problem = Problem::new(format!("Invalid URL ({} {})", ask.method, ask.path));
                Err(problem.status(404).code("unknown_url"))
            }
        }
        .unwrap_or_else(Problem::answer)
    }

    /// A model's answer: a function of the request's bytes, as long as nothing varies.
    fn complete(&self, api: Api, ask: &Ask) -> Result<Answer, Problem> {
        let mut asked = Asked::of(api, &ask.body)?;
        asked.seed = self.vary(asked.seed);
        let said = said::say(&self.answers, &asked, ask.says);
        let usage = Usage {
            input: asked.prompt_tokens(),
            cached: 0,
            written: None,
            output: said.tokens(),
            reasoning: said.reasoning,
        };
        let id = blake3::hash(&ask.body).to_hex();
        let body = match api {
            Api::Chat => chat::shape(&id, &asked, &said, &usage),
            Api::Responses => responses::shape(&id, &asked, &said, &usage),
        };
        Ok(Answer::json(200, body.to_string().into_bytes())
            .with("x-request-id", format!("req_{}", &id[..32]))
            .with("x-flow-source", said.source))
    }

    /// The seed of the answer to a question: another one each time, where answers vary.
    fn vary(&self, seed: u64) -> u64 {
        if !self.flags.vary {
            return seed;
        }
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let times = asked.entry(seed).or_default();
        *times += 1;
        seed.wrapping_add(*times - 1)
    }
}

fn the_model() -> Value {
    json!({"id": MODEL, "object": "model", "created": CREATED, "owned_by": "simulator"})
}
