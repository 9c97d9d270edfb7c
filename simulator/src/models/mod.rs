//! The OpenAI-compatible API under `/v1`.

mod answers;
mod api;
mod asked;
mod batches;
mod chat;
mod conform;
mod crowd;
mod files;
mod hints;
mod limit;
mod logprobs;
mod numbers;
mod pattern;
mod prefix;
mod problem;
mod responses;
mod said;
mod strict;
mod usage;

use crate::ask::{Answer, Ask};
use crate::faults::Faults;
use answers::Answers;
use api::Api;
use asked::Asked;
use batches::Batches;
use crowd::{Crowd, Member};
use files::Files;
use limit::{Admission, Allowed, Limits};
use prefix::Prefixes;
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
const FILES: &str = "/v1/files";
const BATCHES: &str = "/v1/batches";
/// Every answer was made at the same second, so that the same request gets the same bytes.
const CREATED: u64 = 1_735_689_600;
const FINGERPRINT: &str = "fp_simulator";

#[derive(clap::Args)]
#[group(skip)]
pub struct Flags {
    /// JSONL file of written model answers
    #[arg(long, value_name = "FILE")]
    answers: Option<PathBuf>,
    #[command(flatten)]
    rules: Rules,
    #[command(flatten)]
    batches: batches::Flags,
}

/// How a question is answered.
#[derive(clap::Args)]
#[group(skip)]
struct Rules {
    /// What is asked again, word for word, gets another answer than before
    #[arg(long)]
    vary: bool,
    /// Strict schemas are refused that OpenAI refuses
    #[arg(long)]
    strict_schemas: bool,
    /// Prompts that begin alike are read from a cache, as providers have one
    #[arg(long)]
    prompt_cache: bool,
    /// Requests and tokens a minute, for each key and model: N[/WINDOW][,N[/WINDOW]], where a window
    /// is h, m or SECONDSs
    #[arg(long, value_name = "RPM[,TPM]")]
    model_limit: Option<Allowed>,
    /// Questions at once; those that are too many are refused
    #[arg(long, value_name = "N")]
    model_concurrent: Option<u64>,
}

pub struct Models {
    answers: Answers,
    rules: Rules,
    limits: Limits,
    crowd: Crowd,
    prefixes: Prefixes,
    files: Files,
    pub batches: Batches,
    /// How often each question was asked, where answers vary.
    asked: Mutex<HashMap<u64, u64>>,
}

impl Models {
    pub fn new(flags: Flags) -> io::Result<Models> {
        let answers =
            flags.answers.as_deref().map_or_else(|| Ok(Answers::default()), Answers::load)?;
        Ok(Models {
            answers,
            rules: flags.rules,
            limits: Limits::default(),
            crowd: Crowd::default(),
            prefixes: Prefixes::default(),
            files: Files::default(),
            batches: Batches::new(flags.batches),
            asked: Mutex::default(),
        })
    }

    /// The template of the endpoint that `path` names, for the counts.
    pub fn template(path: &str) -> &'static str {
        match path {
            "/v1/chat/completions" => "/v1/chat/completions",
            "/v1/responses" => "/v1/responses",
            "/v1/models" => "/v1/models",
            _ if path.starts_with(BELOW_MODELS) => "/v1/models/{model}",
            FILES => FILES,
            BATCHES => BATCHES,
            _ if below(path, FILES).is_some() => match path.ends_with("/content") {
                true => "/v1/files/{file}/content",
                false => "/v1/files/{file}",
            },
            _ if below(path, BATCHES).is_some() => match path.ends_with("/cancel") {
                true => "/v1/batches/{batch}/cancel",
                false => "/v1/batches/{batch}",
            },
            _ => "(other)",
        }
    }

    /// A request has come: where it is a question, it is under way until this is dropped.
    pub fn enter(&self, ask: &Ask) -> Option<Member<'_>> {
        Api::at(&ask.path).map(|_| self.crowd.enter(self.rules.model_concurrent))
    }

    /// Takes a question under the limits, where there are any.
    pub fn admit(&self, ask: &Ask) -> Admission {
        let limited = self.rules.model_limit.zip(Api::at(&ask.path));
        // What is no question costs nothing.
        let asked =
            limited.and_then(|(allowed, api)| Some((allowed, Asked::of(api, &ask.body).ok()?)));
        let Some((allowed, asked)) = asked else { return Admission::default() };
        let tokens = asked.prompt_tokens().max(asked.most.unwrap_or(0));
        self.limits.admit(allowed, &ask.key, &asked.model, tokens)
    }

    /// The part of `/_stats` that is of models.
    pub fn stats(&self) -> Value {
        json!({
            "batched": self.batches.answered(),
            "limits": self.limits.stats(),
            "at_once": self.crowd.stats(),
        })
    }

    pub fn reset_stats(&self) {
        self.batches.reset_stats();
        self.limits.reset_stats();
        self.crowd.reset_stats();
    }

    /// `faults` strike the requests of a batch as they strike those that come alone.
    pub fn answer(&self, ask: &Ask, faults: &Faults) -> Answer {
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
            (_, path) => match (below(path, FILES), below(path, BATCHES)) {
                (Some(rest), _) => self.files.answer(ask, rest),
                (_, Some(rest)) => self.batch(ask, rest, faults),
                _ => Err(unknown_url(ask)),
            },
        }
        .unwrap_or_else(Problem::answer)
    }

    fn batch(&self, ask: &Ask, rest: &str, faults: &Faults) -> Result<Answer, Problem> {
        let tokens = |path: &str, body: &str| {
            let asked = Api::at(path).map(|api| Asked::of(api, body.as_bytes()));
            asked.and_then(Result::ok).map_or(0, |asked| asked.prompt_tokens())
        };
        let answering = |path: &str, body: &str| {
            let mut ask = ask.with("POST", path, body.to_owned().into());
            let strike = faults.strike(&ask.path, &ask.body);
            ask.says = strike.says;
            strike.apply(|| self.answer(&ask, faults))
        };
        self.batches.answer(ask, rest, &self.files, &tokens, &answering)
    }

    /// A model's answer: a function of the request's bytes, as long as nothing varies.
    fn complete(&self, api: Api, ask: &Ask) -> Result<Answer, Problem> {
        let mut asked = Asked::of(api, &ask.body)?;
        if self.rules.strict_schemas {
            strict::check(api, &asked.format)?;
        }
        asked.seed = self.vary(asked.seed);
        let said = said::say(&self.answers, &asked, ask.says);
        let cached = self.rules.prompt_cache.then(|| self.prefixes.see(&ask.key, &asked));
        let usage = Usage {
            input: asked.prompt_tokens(),
            cached: cached.as_ref().map_or(0, |cached| cached.read),
            written: cached.map(|cached| cached.written),
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
        if !self.rules.vary {
            return seed;
        }
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let times = asked.entry(seed).or_default();
        *times += 1;
        seed.wrapping_add(*times - 1)
    }
}

/// What follows `start` in `path`, where anything does or nothing more.
fn below<'a>(path: &'a str, start: &str) -> Option<&'a str> {
    path.strip_prefix(start).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn unknown_url(ask: &Ask) -> Problem {
    let problem = Problem::new(format!("Invalid URL ({} {})", ask.method, ask.path));
    problem.status(404).code("unknown_url")
}

fn the_model() -> Value {
    json!({"id": MODEL, "object": "model", "created": CREATED, "owned_by": "simulator"})
}
