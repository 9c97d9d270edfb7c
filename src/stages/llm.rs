//! Kind `llm`: a model's answer to each row, held to a JSON Schema.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde_json::{Value, json};
use toml::Spanned;

use super::sureness::Sureness;
use super::{
    Ask, Columns, Compile, Compiled, Components, Kind, NoGood, RowError, RowStage, RowWork, Secret,
    Server, Work, World,
};
use crate::clients::{Answer, Api, Asking, BatchLimits, Chat, Completion, Pace};
use crate::manifest::{ModelSection, did_you_mean};
use crate::programs::{AnswerSchema, Jq, Template};
use crate::store::Made;
use crate::table::Row;

pub struct Llm;

/// What `[stages.NAME]` may hold.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// A model of `[models]`.
    #[schemars(with = "String")]
    model: Spanned<String>,
    /// A template file: what the model is told about its task.
    #[schemars(with = "Option<String>")]
    system: Option<Spanned<String>>,
    /// A template file: what it is asked about the row.
    #[schemars(with = "String")]
    prompt: Spanned<String>,
    /// A file with the JSON Schema of the answer; its fields become the row's. Without one the
    /// answer's text becomes the field `answer`.
    #[schemars(with = "Option<String>")]
    schema: Option<Spanned<String>>,
    /// How the answer's form is asked for; every form is checked against the schema here.
    #[serde(default)]
    answers: Answers,
    /// A jq program, or a `.jq` file, over `{row, answer}`: each text that it yields is something
    /// wrong with the answer.
    #[schemars(with = "Option<String>")]
    check: Option<Spanned<String>>,
    /// How often a bad answer is asked again, with what was wrong.
    #[serde(default = "two")]
    repairs: u32,
    /// Whether what is not answered yet goes in the provider's batches: within a day, for less.
    #[serde(default)]
    batch: bool,
}

fn two() -> u32 {
    2
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Answers {
    /// The server holds the model to the schema.
    #[default]
    JsonSchema,
    /// The server holds it to some JSON object.
    JsonObject,
    /// The server holds it to nothing; the first JSON object of the text counts.
    Text,
}

impl Answers {
    fn as_str(self) -> &'static str {
        match self {
            Answers::JsonSchema => "json_schema",
            Answers::JsonObject => "json_object",
            Answers::Text => "text",
        }
    }
}

struct Stage {
    chat: Chat,
    /// Its name in `[models]`.
    name: String,
    model: ModelSection,
    system: Option<Template>,
    prompt: Template,
    schema: Option<AnswerSchema>,
    schema_name: String,
    answers: Answers,
    check: Option<Jq>,
    repairs: u32,
    concurrency: usize,
}

impl Kind for Llm {
    fn name(&self) -> &'static str {
        "llm"
    }

    fn version(&self) -> u32 {
        2
    }

    fn settings(&self, generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<Settings>()
    }

    fn compile(&self, cx: &mut Compile<'_>) -> Option<Compiled> {
        let settings: Settings = cx.settings()?;
        let driver = cx.driver();
        let shape = driver.as_ref().and_then(|driver| cx.row_shape(driver, true));
        let filter = cx.filter();
        let system = settings.system.as_ref().map(|path| cx.template_file(path));
        let prompt = cx.template_file(&settings.prompt);
        let schema = settings.schema.as_ref().map(|path| cx.schema(path));
        let check = settings.check.as_ref().map(|text| cx.jq(text, "check"));
        let model = model(cx, &settings.model);
        if let (Some(path), Some(Some(schema)), Answers::JsonSchema) =
            (&settings.schema, &schema, settings.answers)
        {
            let faults = schema.unlike_strict();
            if !faults.is_empty() {
                let faults = faults.join(", ");
                let message = format!("the schema `{}` is not strict: {faults}", path.get_ref());
                let help = "providers take only schemas whose objects are closed and whose fields \
                            are all required (`[\"string\", \"null\"]` for one that may be absent)";
                cx.fail(path.span(), message, Some(help.into()));
                return None;
            }
        }
        let (model, mut chat) = model?;
        chat.batch = settings.batch.then(|| batch_limits(&model));
        // `None` inside is a setting that could not be read; outside, one that was not given.
        let (system, schema, check) = (given(system)?, given(schema)?, given(check)?);
        let shape = shape?;
        let own = match &schema {
            None => Some(vec!["answer".to_owned()]),
            Some(schema) => schema.fields(),
        };
        let columns = match own {
            None => Columns::Unknown,
            Some(own) => {
                let carried = shape.key.iter().chain(&shape.keep).cloned();
                Columns::Known(carried.chain(own).chain(["_call".to_owned()]).collect())
            }
        };
        let secrets = chat.auth.iter().map(|variable| Secret {
            variable: variable.clone(),
            of: format!("model `{}`", settings.model.get_ref()),
            required: true,
        });
        let secrets = secrets.collect();
        let schema_name = settings.schema.as_ref().map_or("answer", |path| stem(path.get_ref()));
        let key = shape.key.clone();
        let stage = Stage {
            concurrency: chat.pace.concurrency.get(),
            name: settings.model.get_ref().clone(),
            model,
            chat,
            system,
            prompt: prompt?,
            schema,
            schema_name: schema_name.to_owned(),
            answers: settings.answers,
            check,
            repairs: settings.repairs,
        };
        Some(Compiled {
            work: Work::Rows(RowWork { stage: Arc::new(stage), shape, filter: filter? }),
            columns,
            key,
            sources: std::mem::take(&mut cx.sources),
            params: std::mem::take(&mut cx.params),
            secrets,
        })
    }
}

/// Tells a setting that was not given from one that could not be read.
fn given<T>(setting: Option<Option<T>>) -> Option<Option<T>> {
    match setting {
        None => Some(None),
        Some(read) => read.map(Some),
    }
}

/// `prompts/classify.schema.json` -> `classify`; what providers take as a schema's name.
fn stem(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    let name = name.split('.').next().unwrap_or(name);
    let sound = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.len() <= 64 && name.chars().all(sound) { name } else { "answer" }
}

fn model(cx: &mut Compile<'_>, name: &Spanned<String>) -> Option<(ModelSection, Chat)> {
    let manifest = cx.manifest;
    let Some(model) = manifest.models.get(name.get_ref()) else {
        let known = manifest.models.keys().map(String::as_str);
        let help = did_you_mean(name.get_ref(), known)
            .unwrap_or_else(|| format!("add `[models.{}]`", name.get_ref()));
        cx.fail(name.span(), format!("there is no model `{}`", name.get_ref()), Some(help));
        return None;
    };
    let price = model.price.iter();
    let price = price.flat_map(|price| {
        let shares = [price.cached_input, price.cache_write, price.batch];
        [Some(price.input), Some(price.output)].into_iter().chain(shares)
    });
    let numbers = price.flatten().chain(model.temperature).chain(model.top_p);
    for number in numbers {
        if !number.is_finite() || number < 0.0 {
            let message = format!("model `{}` has the number {number}", name.get_ref());
            let help = "prices and temperatures are 0 or more";
            cx.fail(name.span(), message, Some(help.into()));
            return None;
        }
    }
    // One that cannot be used was told, and replaced, when the manifest was read.
    let base_url = model.base_url.resolve().ok()?.trim_end_matches('/').to_owned();
    let chat = Chat {
        base_url,
        api: model.api,
        auth: model.api_key.as_ref().map(|key| key.env.clone()),
        timeout: Duration::from_secs(model.timeout.get()),
        attempts: model.attempts.get(),
        pace: Pace {
            concurrency: model
                .limits
                .concurrency
                .unwrap_or(const { std::num::NonZeroUsize::new(16).unwrap() }),
            requests_per_minute: model.limits.requests_per_minute,
            tokens_per_minute: model.limits.tokens_per_minute,
            tokens: 0,
            burst: 0.005,
            adaptive: true,
        },
        max_tokens: model.max_output_tokens.or(model.max_completion_tokens).or(model.max_tokens),
        price: model.price,
        batch: None,
        pool: model.model.clone(),
    };
    Some((model.clone(), chat))
}

/// As many as providers take in one batch.
const MOST_IN_BATCH: u64 = 50_000;

fn batch_limits(model: &ModelSection) -> BatchLimits {
    let requests = model.limits.batch_requests.map_or(MOST_IN_BATCH, |most| most.get().into());
    BatchLimits { requests, tokens: model.limits.batch_tokens.map(|most| most.get()) }
}

/// What came of one answer.
enum Verdict {
    Good(Row),
    /// Worth asking again, with what was wrong.
    Bad {
        said: String,
        faults: Vec<String>,
    },
    /// No use asking again, and why.
    Useless(NoGood, String),
}

impl RowStage for Stage {
    fn describe(&self, components: &mut dyn Components) {
        components.add("base_url", &self.chat.base_url);
        components.add("request", &Value::Object(self.frame()).to_string());
        for (name, template) in [("system", self.system.as_ref()), ("prompt", Some(&self.prompt))] {
            for source in template.into_iter().flat_map(|template| &template.sources) {
                components.add(name, &source.text);
            }
        }
        if let Some(schema) = &self.schema {
            components.add("schema", &schema.value.to_string());
        }
        if let Some(check) = &self.check {
            components.add("check", &check.text);
        }
        components.add("answers", self.answers.as_str());
        components.add("repairs", &self.repairs.to_string());
    }

    fn ask(&self, row: &Row) -> Result<Ask, RowError> {
        let body = self.body(row)?;
        // A check sees the whole row, so the whole row decides.
        let text = match &self.check {
            Some(_) => serde_json::to_string(row).expect("rows always serialize"),
            None => String::new(),
        };
        Ok(Ask { requests: vec![self.chat.request(&body, 0)], text })
    }

    fn is_bounded(&self) -> bool {
        self.chat.price.is_some() && self.chat.max_tokens.is_some()
    }

    fn server(&self) -> Option<Server<'_>> {
        Some(Server::Model { name: &self.name, chat: &self.chat })
    }

    fn in_batches(&self) -> bool {
        self.chat.batch.is_some()
    }

    fn concurrency(&self) -> usize {
        self.concurrency
    }

    fn run<'a>(
        &'a self,
        rows: &'a [(Row, Ask)],
        asking: &'a Asking,
        _world: &'a World,
    ) -> BoxFuture<'a, Vec<Result<Made, RowError>>> {
        Box::pin(async move {
            let mut results = Vec::with_capacity(rows.len());
            for (row, _) in rows {
                results.push(self.answer(row, asking).await.map(|row| Made::Rows(vec![row])));
            }
            results
        })
    }
}

impl Stage {
    /// The request's body without its messages: what every row's request shares.
    fn frame(&self) -> Row {
        let mut body = Row::new();
        body.insert("model".into(), self.model.model.clone().into());
        let mut add = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                body.insert(name.into(), value);
            }
        };
        add("temperature", self.model.temperature.map(Value::from));
        add("top_p", self.model.top_p.map(Value::from));
        add("seed", self.model.seed.map(Value::from));
        add("max_tokens", self.model.max_tokens.map(Value::from));
        add("max_completion_tokens", self.model.max_completion_tokens.map(Value::from));
        add("max_output_tokens", self.model.max_output_tokens.map(Value::from));
        let effort = self.model.reasoning_effort.clone();
        let format = match (&self.schema, self.answers) {
            (Some(schema), Answers::JsonSchema) => Some(json!({
                "name": self.schema_name, "strict": true, "schema": schema.sent(),
            })),
            _ => None,
        };
        let is_json = self.schema.is_some() && self.answers == Answers::JsonObject;
        let plain = is_json.then(|| json!({ "type": "json_object" }));
        match self.chat.api {
            Api::Chat => {
                add("reasoning_effort", effort.map(Value::from));
                add("logprobs", self.model.logprobs.map(|_| true.into()));
                add("top_logprobs", self.model.logprobs.filter(|most| *most > 0).map(Value::from));
                let schema = format.map(|it| json!({ "type": "json_schema", "json_schema": it }));
                add("response_format", schema.or(plain));
            }
            Api::Responses => {
                add("reasoning", effort.map(|effort| json!({ "effort": effort })));
                let include = json!(["message.output_text.logprobs"]);
                add("include", self.model.logprobs.map(|_| include));
                add("top_logprobs", self.model.logprobs.map(Value::from));
                let schema = format.map(|mut it| {
                    it["type"] = "json_schema".into();
                    it
                });
                add("text", schema.or(plain).map(|format| json!({ "format": format })));
                // Nobody comes back to it; the answer is kept here.
                add("store", Some(false.into()));
            }
        }
        for (name, value) in &self.model.body {
            add(name, Some(value.clone()));
        }
        body
    }

    fn body(&self, row: &Row) -> Result<Value, RowError> {
        let render = |template: &Template| {
            template.render(row).map_err(|error| RowError::Row(error.to_string()))
        };
        let mut messages = Vec::new();
        if let Some(system) = &self.system {
            messages.push(json!({ "role": "system", "content": render(system)? }));
        }
        messages.push(json!({ "role": "user", "content": render(&self.prompt)? }));
        let mut body = Row::new();
        for (name, value) in self.frame() {
            body.insert(name.clone(), value);
            if name == "model" {
                body.insert(messages_of(self.chat.api).into(), Value::Null);
            }
        }
        body.insert(messages_of(self.chat.api).into(), messages.into());
        Ok(Value::Object(body))
    }

    /// Asks, and asks again with what was wrong, at most `repairs` times.
    async fn answer(&self, row: &Row, asking: &Asking) -> Result<Row, RowError> {
        let first = self.body(row)?;
        let mut body = first.clone();
        let mut attempt = 0;
        loop {
            let (answer, completion) = self.chat.ask(asking, body.clone(), 0).await?;
            let call = answer.key.0.short();
            match self.judge(row, &completion) {
                Verdict::Good(mut fields) => {
                    fields.insert("_call".into(), self.call(&answer, &completion, attempt));
                    return Ok(fields);
                }
                Verdict::Useless(what, why) => {
                    return Err(RowError::Answer(what, format!("{why} (call {call})")));
                }
                Verdict::Bad { faults, .. } if attempt >= self.repairs => {
                    let why = format!(
                        "no valid answer after {} attempts: {} (call {call})",
                        attempt + 1,
                        faults.join("; ")
                    );
                    return Err(RowError::Answer(NoGood::Invalid, why));
                }
                Verdict::Bad { said, faults } => {
                    attempt += 1;
                    body = repair(&first, messages_of(self.chat.api), &said, &faults);
                }
            }
        }
    }

    fn judge(&self, row: &Row, completion: &Completion) -> Verdict {
        let useless = |what, why: &str| Verdict::Useless(what, why.to_owned());
        if let Some(refusal) = &completion.refusal {
            let why = format!("the model refused: {}", short(refusal));
            return useless(NoGood::Refusal, &why);
        }
        match completion.finish_reason.as_deref() {
            Some("length") => {
                let why = "the answer was cut at the length limit; let the model say more \
                           (`max_tokens`, `max_completion_tokens`, `max_output_tokens`)";
                return useless(NoGood::Length, why);
            }
            Some("content_filter") => {
                return useless(NoGood::ContentFilter, "the provider's filter withheld the answer");
            }
            _ => {}
        }
        let said = completion.said.as_str();
        if said.trim().is_empty() {
            return useless(NoGood::Empty, "the answer is empty");
        }
        let Some(schema) = &self.schema else {
            return self.checked(row, said, Row::from_iter([("answer".into(), said.into())]));
        };
        let found = match self.answers {
            Answers::Text => first_object(said),
            _ => serde_json::from_str(said.trim()).map_err(|error| error.to_string()),
        };
        let bad = |faults| Verdict::Bad { said: said.to_owned(), faults };
        match found {
            Err(fault) => bad(vec![format!("the answer is no JSON: {fault}")]),
            Ok(answer) => match (schema.faults(&answer), answer) {
                (faults, Value::Object(fields)) if faults.is_empty() => {
                    self.checked(row, said, fields)
                }
                (faults, _) => bad(faults),
            },
        }
    }

    fn checked(&self, row: &Row, said: &str, fields: Row) -> Verdict {
        let Some(check) = &self.check else {
            return Verdict::Good(fields);
        };
        let subject = json!({ "row": row, "answer": fields });
        match check.run(&subject) {
            Err(error) => Verdict::Useless(NoGood::Invalid, format!("`check` failed: {error}")),
            Ok(faults) if faults.is_empty() => Verdict::Good(fields),
            Ok(faults) => {
                let text = |fault: Value| match fault {
                    Value::String(text) => text,
                    other => other.to_string(),
                };
                let faults = faults.into_iter().take(10).map(text).collect();
                Verdict::Bad { said: said.to_owned(), faults }
            }
        }
    }

    /// Where an answer came from: the same however often, and whenever, it was asked.
    fn call(&self, answer: &Answer, completion: &Completion, repairs: u32) -> Value {
        let usage = completion.usage;
        let mut call = json!({
            "id": answer.key.0.hex(),
            "model": self.model.model,
            "returned_model": completion.model,
            "system_fingerprint": completion.system_fingerprint,
            "finish_reason": completion.finish_reason,
            "tokens_in": usage.input,
            "tokens_in_cached": usage.cached_input,
            "tokens_cache_written": usage.cache_written,
            "tokens_out": usage.output,
            "tokens_reasoning": usage.reasoning,
            "truncated": completion.finish_reason.as_deref() == Some("length"),
            "repairs": repairs,
            "source": answer.source,
        });
        if self.model.logprobs.is_some() {
            let sure = Sureness::of(&completion.logprobs, &completion.said);
            call["logprob"] = sure.mean().into();
            call["confidence"] = sure.of_fields().into();
        }
        call
    }
}

/// What the list of messages is called in a request.
fn messages_of(api: Api) -> &'static str {
    match api {
        Api::Chat => "messages",
        Api::Responses => "input",
    }
}

/// The first request again, with the last bad answer and what was wrong with it; earlier ones are
/// left out, so that repairs do not grow.
fn repair(first: &Value, messages: &str, said: &str, faults: &[String]) -> Value {
    let mut body = first.clone();
    if let Some(messages) = body[messages].as_array_mut() {
        messages.push(json!({ "role": "assistant", "content": said }));
        let faults: String = faults.iter().map(|fault| format!("- {fault}\n")).collect();
        messages.push(json!({
            "role": "user",
            "content": format!(
                "That answer cannot be used:\n{faults}Answer again, with the whole answer, in the \
                 form that was asked for and nothing else."
            ),
        }));
    }
    body
}

/// The first JSON object in a text, as models write it between words or in a code fence.
fn first_object(text: &str) -> Result<Value, String> {
    let mut last = "there is no JSON object in it".to_owned();
    for (start, _) in text.match_indices('{').take(50) {
        let mut values = serde_json::Deserializer::from_str(&text[start..]).into_iter::<Value>();
        match values.next() {
            Some(Ok(value)) => return Ok(value),
            Some(Err(error)) => last = error.to_string(),
            None => {}
        }
    }
    Err(last)
}

fn short(text: &str) -> String {
    text.chars().take(200).collect()
}
