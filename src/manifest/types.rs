//! The manifest's types: what each table may hold. Their JSON Schema is generated from here.

use std::borrow::Cow;
use std::fmt;

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use toml::Spanned;

use super::address::address;

/// `[pipeline]`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PipelineSection {
    /// The study's name.
    pub name: String,
    /// What it is about, in a line.
    pub description: Option<String>,
}

/// `{ env = "NAME" }`: a secret, named by the environment variable that holds it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvVar {
    /// The variable's name; its value is read when a call is made and kept nowhere.
    pub env: String,
}

/// A text, or `{ env = "NAME" }` for one that differs from machine to machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Text {
    Plain(String),
    Env(EnvVar),
}

impl Text {
    /// The text, or the name of the variable that is not set.
    pub fn resolve(&self) -> Result<String, String> {
        match self {
            Text::Plain(text) => Ok(text.clone()),
            Text::Env(variable) => std::env::var(&variable.env).map_err(|_| variable.env.clone()),
        }
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a text or { env = \"NAME\" }")
            }

            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text::Plain(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Text, A::Error> {
                EnvVar::deserialize(MapAccessDeserializer::new(map)).map(Text::Env)
            }
        }
        deserializer.deserialize_any(TextVisitor)
    }
}

impl JsonSchema for Text {
    fn schema_name() -> Cow<'static, str> {
        "Text".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let env = generator.subschema_for::<EnvVar>();
        json_schema!({ "anyOf": [{ "type": "string" }, env] })
    }
}

/// A name, or a list of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names(pub Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Names, D::Error> {
        struct NamesVisitor;
        impl<'de> Visitor<'de> for NamesVisitor {
            type Value = Names;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a text or a list of texts")
            }

            fn visit_str<E>(self, name: &str) -> Result<Names, E> {
                Ok(Names(vec![name.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, names: A) -> Result<Names, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(names)).map(Names)
            }
        }
        deserializer.deserialize_any(NamesVisitor)
    }
}

impl JsonSchema for Names {
    fn schema_name() -> Cow<'static, str> {
        "Names".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let names = generator.subschema_for::<Vec<String>>();
        json_schema!({ "anyOf": [{ "type": "string" }, names] })
    }
}

/// `[github]`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GithubSection {
    /// The token; REST works without one (60 requests an hour), GraphQL does not.
    pub token: Option<EnvVar>,
    /// `https://HOST/api/v3` for GitHub Enterprise. The GraphQL address follows from it.
    pub base_url: Text,
    /// The value of `X-GitHub-Api-Version`.
    pub api_version: String,
    /// Requests under way at once.
    #[schemars(range(min = 1))]
    pub concurrency: std::num::NonZeroUsize,
    /// Requests in a minute at the most: 900 where it is not given, as GitHub allows; as many as the
    /// server takes on any other.
    #[schemars(range(min = 1))]
    pub requests_per_minute: Option<std::num::NonZeroU32>,
    /// Seconds after which a request is given up and tried again.
    #[schemars(range(min = 1))]
    pub timeout: std::num::NonZeroU64,
    /// Attempts at a request that fails in passing, the first included.
    #[schemars(range(min = 1))]
    pub attempts: std::num::NonZeroU32,
}

impl GithubSection {
    /// How many requests may leave in a minute.
    pub fn requests_per_minute(&self) -> Option<std::num::NonZeroU32> {
        let public = const { std::num::NonZeroU32::new(900) };
        self.requests_per_minute.or(public.filter(|_| self.is_public()))
    }

    /// Whether this is github.com itself, and not another server that speaks as it does.
    pub fn is_public(&self) -> bool {
        self.base_url.resolve().is_ok_and(|url| address(&url).is_ok_and(|url| url == PUBLIC))
    }
}

const PUBLIC: &str = "https://api.github.com";

impl Default for GithubSection {
    fn default() -> GithubSection {
        GithubSection {
            token: None,
            base_url: Text::Plain(PUBLIC.into()),
            api_version: "2022-11-28".into(),
            concurrency: const { std::num::NonZeroUsize::new(6).unwrap() },
            requests_per_minute: None,
            timeout: const { std::num::NonZeroU64::new(30).unwrap() },
            attempts: const { std::num::NonZeroU32::new(6).unwrap() },
        }
    }
}

/// `[models.NAME]`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelSection {
    /// Any OpenAI-compatible server: vLLM, llama.cpp, Ollama, OpenRouter.
    #[serde(default = "openai")]
    pub base_url: Text,
    /// The key, where the server wants one.
    pub api_key: Option<EnvVar>,
    /// The model's name, as the server knows it.
    pub model: String,
    /// By which of OpenAI's APIs it is asked.
    #[serde(default)]
    pub api: ModelApi,
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub seed: Option<i64>,
    /// The longest answer, in tokens (`max_tokens`).
    pub max_tokens: Option<u32>,
    /// The longest answer of a reasoning model, in tokens (`max_completion_tokens`).
    pub max_completion_tokens: Option<u32>,
    /// The longest answer by the responses API, in tokens, what it thinks included.
    pub max_output_tokens: Option<u32>,
    /// `minimal`, `low`, `medium`, `high`: how long a reasoning model thinks.
    pub reasoning_effort: Option<String>,
    /// Asks for the log probability of each token, and for so many others in its place.
    #[schemars(range(max = 20))]
    pub logprobs: Option<u8>,
    /// Further fields of the request's body, sent as they are.
    #[serde(default)]
    pub body: IndexMap<String, serde_json::Value>,
    /// What it costs; without it no cost is counted.
    pub price: Option<Price>,
    /// The limits to keep to.
    #[serde(default)]
    pub limits: Limits,
    /// Another model of `[models]`, which answers where this one's provider fails to the end of the
    /// attempts.
    #[schemars(with = "Option<String>")]
    pub fallback: Option<Spanned<String>>,
    /// Seconds after which a request is given up and tried again.
    #[serde(default = "model_timeout")]
    #[schemars(range(min = 1))]
    pub timeout: std::num::NonZeroU64,
    /// Attempts at a request that fails in passing, the first included.
    #[serde(default = "model_attempts")]
    #[schemars(range(min = 1))]
    pub attempts: std::num::NonZeroU32,
}

impl Default for ModelSection {
    /// Every setting as it is where it is not given.
    fn default() -> ModelSection {
        ModelSection {
            base_url: openai(),
            api_key: None,
            model: String::new(),
            api: ModelApi::default(),
            temperature: None,
            top_p: None,
            seed: None,
            max_tokens: None,
            max_completion_tokens: None,
            max_output_tokens: None,
            reasoning_effort: None,
            logprobs: None,
            body: IndexMap::new(),
            price: None,
            limits: Limits::default(),
            fallback: None,
            timeout: model_timeout(),
            attempts: model_attempts(),
        }
    }
}

/// `api` of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModelApi {
    /// `/chat/completions`: what every OpenAI-compatible server has.
    #[default]
    Chat,
    /// `/responses`: OpenAI's newer one.
    Responses,
}

fn openai() -> Text {
    Text::Plain(OPENAI.into())
}

pub(super) const OPENAI: &str = "https://api.openai.com/v1";

fn model_timeout() -> std::num::NonZeroU64 {
    const { std::num::NonZeroU64::new(600).unwrap() }
}

fn model_attempts() -> std::num::NonZeroU32 {
    const { std::num::NonZeroU32::new(6).unwrap() }
}

/// USD per million tokens.
#[derive(PartialEq, Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Price {
    pub input: f64,
    pub output: f64,
    /// Input that the provider had in its cache; the input's price where it is not given.
    pub cached_input: Option<f64>,
    /// Input that it puts into its cache; the input's price where it is not given.
    pub cache_write: Option<f64>,
    /// The share of all this that is paid in a batch; 0.5 where it is not given.
    pub batch: Option<f64>,
}

impl Price {
    /// The share of it that is paid in a batch.
    pub fn batch_share(&self) -> f64 {
        self.batch.unwrap_or(0.5)
    }

    /// What tokens cost in a batch.
    pub fn in_batch(self) -> Price {
        let share = self.batch_share();
        Price {
            input: self.input * share,
            output: self.output * share,
            cached_input: self.cached_input.map(|price| price * share),
            cache_write: self.cache_write.map(|price| price * share),
            batch: self.batch,
        }
    }
}

/// Limits of a model's provider.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    #[schemars(range(min = 1))]
    pub requests_per_minute: Option<std::num::NonZeroU32>,
    /// Tokens a minute, estimated before a request leaves.
    #[schemars(range(min = 1))]
    pub tokens_per_minute: Option<std::num::NonZeroU32>,
    /// The most requests under way at once; 256 where it is not given.
    #[schemars(range(min = 1))]
    pub concurrency: Option<std::num::NonZeroUsize>,
    /// Requests in one batch; 50,000 where it is not given, as providers allow.
    #[schemars(range(min = 1))]
    pub batch_requests: Option<std::num::NonZeroU32>,
    /// Tokens of requests that wait in batches at once, estimated; the provider tells where there are
    /// too many.
    #[schemars(range(min = 1))]
    pub batch_tokens: Option<std::num::NonZeroU64>,
}

/// `[profiles.NAME]`: what differs from the rest of the manifest under `--profile NAME`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProfileSection {
    /// The folder that stands for `data/` in outputs.
    #[schemars(with = "Option<String>")]
    pub data: Option<Spanned<String>>,
    /// A file of recorded calls, read before the cache.
    #[schemars(with = "Option<String>")]
    pub cassette: Option<Spanned<String>>,
    /// Make no call: what is neither in the cassette nor in the cache is an error that names it.
    #[serde(default)]
    pub offline: bool,
}

/// What every stage has, whatever its kind.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Common {
    /// What the stage does: `github`, `llm`, `sql`, `command`, ...
    #[schemars(with = "String")]
    pub kind: Spanned<String>,
    /// Stages, inline tables or files (`.csv`, `.json`, `.jsonl`). A row stage has exactly one.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub inputs: Vec<Spanned<String>>,
    /// Files to write; their format follows from the extension: `.json`, `.jsonl` or `.csv`.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub outputs: Vec<Spanned<String>>,
    /// The fields that tell its rows apart.
    #[schemars(with = "Option<Vec<String>>")]
    pub key: Option<Spanned<Vec<Spanned<String>>>>,
    /// Fields of the input row that are carried over (row stages).
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub keep: Vec<Spanned<String>>,
    /// An expression over the input row; rows for which it is false are passed over (row stages).
    #[serde(rename = "where")]
    #[schemars(with = "Option<String>")]
    pub filter: Option<Spanned<String>>,
    /// What its table is expected to be; a breach stops what follows.
    #[serde(default)]
    pub expect: Option<ExpectSection>,
    /// What the stage is for, in a line.
    pub description: Option<String>,
}

impl Common {
    pub const KEYS: [&str; 8] =
        ["kind", "inputs", "outputs", "key", "keep", "where", "expect", "description"];
}

/// `[stages.NAME.expect]`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ExpectSection {
    /// How many rows there are.
    #[schemars(with = "Option<RowCount>")]
    pub rows: Option<Spanned<RowCount>>,
    /// Fields of which no two rows have the same value; null is none.
    #[schemars(with = "Vec<String>")]
    pub unique: Vec<Spanned<String>>,
    /// Fields that no row lacks.
    #[schemars(with = "Vec<String>")]
    pub not_null: Vec<Spanned<String>>,
    /// Fields with the values that they may have.
    #[schemars(with = "std::collections::BTreeMap<String, Vec<serde_json::Value>>")]
    pub accepted: IndexMap<String, Spanned<Vec<serde_json::Value>>>,
    /// A file with a JSON Schema that every row matches.
    #[schemars(with = "Option<String>")]
    pub matches_schema: Option<Spanned<String>>,
    /// A query of the stage's table, or a `.sql` file with one, that returns nothing.
    #[schemars(with = "Option<String>")]
    pub sql: Option<Spanned<String>>,
}

/// How many rows a table has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RowCount {
    pub min: Option<u64>,
    pub max: Option<u64>,
}

/// A length of time as people write it: a number and `s`, `m`, `h`, `d` or `w`.
pub fn parse_age(text: &str) -> Option<std::time::Duration> {
    let text = text.trim();
    let unit = text.chars().last()?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        'w' => 7 * 24 * 60 * 60,
        _ => return None,
    };
    let digits = &text[..text.len() - 1];
    let number: u64 = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())??;
    number.checked_mul(seconds).map(std::time::Duration::from_secs)
}
