//! What is asked of a model: one form for both APIs, in which the same question is the same.

use super::api::Api;
use super::problem::Problem;
use crate::dice::hash;
use serde_json::{Value, json};

pub struct Asked {
    pub model: String,
    /// Role and text of each message.
    pub texts: Vec<(String, String)>,
    pub format: Format,
    /// The most tokens that the answer may have, its reasoning among them.
    pub most: Option<u64>,
    pub effort: Option<String>,
    /// Where the log probability of each token is to be told: with so many others beside it.
    pub logprobs: Option<u64>,
    /// What the answer is made from: the same for the same question, in either API.
    pub seed: u64,
}

/// What the answer has to be.
pub enum Format {
    Text,
    Object,
    Schema { name: String, strict: bool, schema: Value },
}

/// Models that think before they answer take none of the settings of sampling.
const REASONING: [&str; 4] = ["o1", "o3", "o4", "gpt-5"];
const MOST_LOGPROBS: u64 = 20;
/// The fewest tokens that the Responses API takes for an answer.
const FEWEST: u64 = 16;
/// What the Responses API knows; anything else it refuses.
const RESPONSES: [&str; 29] = [
    "background",
    "conversation",
    "include",
    "input",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "model",
    "parallel_tool_calls",
    "previous_response_id",
    "prompt",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
];

impl Asked {
    pub fn of(api: Api, body: &[u8]) -> Result<Asked, Problem> {
        let request: Value = serde_json::from_slice(body)
            .map_err(|_| Problem::new("We could not parse the JSON body of your request."))?;
        let Some(model) = request["model"].as_str() else {
            return Err(Problem::new("you must provide a model parameter").at("model"));
        };
        if request["stream"] == true {
            let problem = Problem::new("streaming is not simulated").at("stream");
            return Err(problem.code("unsupported_value"));
        }
        let mut asked = match api {
            Api::Chat => chat(model, &request)?,
            Api::Responses => responses(model, &request)?,
        };
        takes(api, &asked, &request)?;
        asked.seed = asked.seed(&request);
        Ok(asked)
    }

    pub fn prompt_tokens(&self) -> u64 {
        tokens(self.texts.iter().map(|(_, text)| text.chars().count()).sum())
    }

    fn seed(&self, request: &Value) -> u64 {
        let format = match &self.format {
            Format::Text => json!("text"),
            Format::Object => json!("object"),
            Format::Schema { name, schema, .. } => json!([name, schema]),
        };
        let Asked { model, texts, effort, .. } = self;
        let sampling = [&request["temperature"], &request["top_p"], &request["seed"]];
        hash(json!([model, texts, format, effort, sampling]).to_string().as_bytes())
    }
}

/// About four characters a token, as everybody estimates.
pub fn tokens(chars: usize) -> u64 {
    chars.div_ceil(4) as u64
}

fn chat(model: &str, request: &Value) -> Result<Asked, Problem> {
    let messages = request["messages"].as_array().filter(|messages| !messages.is_empty());
    let messages = messages.ok_or_else(|| Problem::missing("messages"))?;
    let format = &request["response_format"];
    let most = [&request["max_completion_tokens"], &request["max_tokens"]];
    let logprobs = match request["logprobs"] == true {
        true => Some(request["top_logprobs"].as_u64().unwrap_or(0)),
        false if request["top_logprobs"].is_null() => None,
        false => {
            let message = "'logprobs' must be set to true if 'top_logprobs' is used.";
            return Err(Problem::new(message).at("top_logprobs"));
        }
    };
    Ok(Asked {
        model: model.to_owned(),
        texts: messages.iter().map(said).collect(),
        format: self::format(format, &format["json_schema"], "response_format.json_schema")?,
        most: most.into_iter().find_map(Value::as_u64),
        effort: request["reasoning_effort"].as_str().map(str::to_owned),
        logprobs,
        seed: 0,
    })
}

fn responses(model: &str, request: &Value) -> Result<Asked, Problem> {
    let keys = request.as_object().into_iter().flat_map(|request| request.keys());
    if let Some(unknown) = keys.into_iter().find(|key| !RESPONSES.contains(&key.as_str())) {
        let problem = Problem::new(format!("Unknown parameter: '{unknown}'."));
        return Err(problem.at(unknown).code("unknown_parameter"));
    }
    let mut texts = Vec::new();
    if let Some(instructions) = request["instructions"].as_str() {
        texts.push(("system".to_owned(), instructions.to_owned()));
    }
    match &request["input"] {
        Value::String(text) => texts.push(("user".to_owned(), text.clone())),
        Value::Array(messages) if !messages.is_empty() => texts.extend(messages.iter().map(said)),
        _ => return Err(Problem::missing("input")),
    }
    let most = request["max_output_tokens"].as_u64();
    if let Some(few) = most.filter(|most| *most < FEWEST) {
        let message = format!(
            "Invalid 'max_output_tokens': integer below minimum value. \
             Expected a value >= {FEWEST}, but got {few} instead."
        );
        let problem = Problem::new(message).at("max_output_tokens");
        return Err(problem.code("integer_below_min_value"));
    }
    let included = request["include"].as_array().into_iter().flatten();
    let logprobs = included.into_iter().any(|name| name == "message.output_text.logprobs");
    let format = &request["text"]["format"];
    Ok(Asked {
        model: model.to_owned(),
        texts,
        format: self::format(format, format, "text.format")?,
        most,
        effort: request["reasoning"]["effort"].as_str().map(str::to_owned),
        logprobs: logprobs.then(|| request["top_logprobs"].as_u64().unwrap_or(0)),
        seed: 0,
    })
}

/// `named` holds what belongs to a schema, and is called `at` in messages.
fn format(format: &Value, named: &Value, at: &str) -> Result<Format, Problem> {
    match format["type"].as_str() {
        Some("json_schema") => match named["name"].as_str() {
            Some(name) => {
                let (name, strict) = (name.to_owned(), named["strict"] == true);
                Ok(Format::Schema { name, strict, schema: named["schema"].clone() })
            }
            None => Err(Problem::missing(&format!("{at}.name"))),
        },
        Some("json_object") => Ok(Format::Object),
        _ => Ok(Format::Text),
    }
}

/// Role and text of a message; the text may come in parts.
fn said(message: &Value) -> (String, String) {
    let text = match &message["content"] {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    };
    (message["role"].as_str().unwrap_or("").to_owned(), text)
}

/// Refuses the settings that the model does not take.
fn takes(api: Api, asked: &Asked, request: &Value) -> Result<(), Problem> {
    if asked.logprobs.is_some_and(|most| most > MOST_LOGPROBS) {
        let message = format!(
            "Invalid value for 'top_logprobs': must be less than or equal to {MOST_LOGPROBS}."
        );
        return Err(Problem::new(message).at("top_logprobs"));
    }
    if !REASONING.iter().any(|start| asked.model.starts_with(start)) {
        return Ok(());
    }
    let unsupported = |param: &str, more: &str| {
        let message =
            format!("Unsupported parameter: '{param}' is not supported with this model.{more}");
        Err(Problem::new(message).at(param).code("unsupported_parameter"))
    };
    let given = |param: &str| !request[param].is_null();
    if api == Api::Chat && given("max_tokens") {
        return unsupported("max_tokens", " Use 'max_completion_tokens' instead.");
    }
    // The later ones of the family sample like any other where they are told not to think.
    if asked.model.starts_with("gpt-5.") && asked.effort.as_deref() == Some("none") {
        return Ok(());
    }
    if let Some(temperature) = request["temperature"].as_f64().filter(|it| *it != 1.0) {
        if api == Api::Responses {
            return unsupported("temperature", "");
        }
        let message = format!(
            "Unsupported value: 'temperature' does not support {temperature} with this model. \
             Only the default (1) value is supported."
        );
        return Err(Problem::new(message).at("temperature").code("unsupported_value"));
    }
    if given("top_p") {
        return unsupported("top_p", "");
    }
    match asked.logprobs {
        Some(_) => unsupported(if api == Api::Chat { "logprobs" } else { "top_logprobs" }, ""),
        None => Ok(()),
    }
}
