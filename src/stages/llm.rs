//! Kind `llm`: the answers of a model, or of several, to each row, held to a JSON Schema.

mod columns;
mod models;
mod turns;
mod votes;

use std::num::NonZeroU32;
use std::sync::Arc;

use futures::future::BoxFuture;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde_json::{Value, json};
use toml::Spanned;

use self::models::{Chain, Model};
use self::votes::Sample;
use super::sureness::Sureness;
use super::{
    Answered, Ask, Columns, Compile, Compiled, Components, Kind, NoGood, RowError, RowStage,
    RowWork, Secret, Server, Work, World,
};
use crate::clients::{Answer, Api, Asking, CallError, Completion};
use crate::manifest::Names;
use crate::programs::{AnswerSchema, Jq, Template};
use crate::table::Row;

pub struct Llm;

/// What `[stages.NAME]` may hold.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// A model of `[models]`.
    #[schemars(with = "Option<String>")]
    model: Option<Spanned<String>>,
    /// Models of `[models]`, in place of `model`: each of them is asked about each row, and the
    /// column `model` says which.
    #[schemars(with = "Option<Vec<String>>")]
    models: Option<Spanned<Vec<Spanned<String>>>>,
    /// How often each row is asked; the column `sample` tells the answers apart.
    #[schemars(with = "Option<u32>", range(min = 1))]
    samples: Option<Spanned<NonZeroU32>>,
    /// Fields of the answer: the samples become one row, with what most of them say there.
    #[schemars(with = "Option<Names>")]
    vote: Option<Spanned<Names>>,
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
    models: Vec<Chain>,
    /// Its rows say which model was asked.
    compares: bool,
    /// How often each model is asked, where the settings say it.
    samples: Option<NonZeroU32>,
    /// What the samples vote on.
    vote: Option<Vec<String>>,
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
        let models = models::chains(cx, &settings);
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
        // `None` inside is a setting that could not be read; outside, one that was not given.
        let (system, schema, check) = (given(system)?, given(schema)?, given(check)?);
        let (shape, models) = (shape?, models?);
        let own = match &schema {
            None => Some(vec!["answer".to_owned()]),
            Some(schema) => schema.fields(),
        };
        let added = columns::added(cx, &settings, &shape, own.as_deref())?;
        let columns = match own {
            None => Columns::Unknown,
            Some(own) => {
                let carried = shape.key.iter().chain(&shape.keep).chain(&added.key).cloned();
                let made = own.into_iter().chain(added.others).chain(["_call".to_owned()]);
                Columns::Known(carried.chain(made).collect())
            }
        };
        let mut secrets: Vec<Secret> = Vec::new();
        for secret in models.iter().flat_map(Chain::all).filter_map(Model::secret) {
            if !secrets.contains(&secret) {
                secrets.push(secret);
            }
        }
        let at_once = models.iter().flat_map(Chain::all).map(|it| it.chat.pace.concurrency.get());
        let schema_name = settings.schema.as_ref().map_or("answer", |path| stem(path.get_ref()));
        let key = shape.key.iter().chain(&added.key).cloned().collect();
        let stage = Stage {
            concurrency: at_once.max().unwrap_or(1),
            models,
            compares: settings.models.is_some(),
            samples: settings.samples.map(Spanned::into_inner),
            vote: settings.vote.map(|fields| fields.into_inner().0),
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

/// Why a model gave no answer.
enum NoAnswer {
    /// Its provider failed to the end of the attempts, or no call may be made: another may answer.
    Provider(String),
    Row(RowError),
}

impl From<RowError> for NoAnswer {
    fn from(error: RowError) -> NoAnswer {
        NoAnswer::Row(error)
    }
}

impl From<CallError> for NoAnswer {
    fn from(error: CallError) -> NoAnswer {
        match error {
            CallError::Transient { .. } | CallError::Offline { .. } => {
                NoAnswer::Provider(error.to_string())
            }
            error => NoAnswer::Row(error.into()),
        }
    }
}

impl RowStage for Stage {
    fn describe(&self, components: &mut dyn Components) {
        for chain in &self.models {
            let (first, fallbacks) = (chain.first(), chain.fallbacks());
            // Rows name it; what a model is called changes no answer.
            if self.compares || !fallbacks.is_empty() {
                components.add("model", &first.name);
            }
            self.describe_model(first, components);
            for model in fallbacks {
                components.add("fallback", &model.name);
                self.describe_model(model, components);
            }
        }
        if let Some(samples) = self.samples {
            components.add("samples", &samples.to_string());
        }
        if let Some(fields) = &self.vote {
            components.add("vote", &fields.join(","));
        }
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
        // A check sees the whole row, so the whole row decides.
        let text = match &self.check {
            Some(_) => serde_json::to_string(row).expect("rows always serialize"),
            None => String::new(),
        };
        let mut requests = Vec::new();
        for chain in &self.models {
            let model = chain.first();
            let body = self.body(model, row)?;
            requests.extend((0..self.samples()).map(|sample| model.chat.request(&body, sample)));
        }
        Ok(Ask { requests, text })
    }

    fn is_bounded(&self) -> bool {
        self.models.iter().flat_map(Chain::all).all(Model::is_bounded)
    }

    fn servers(&self) -> Vec<Server<'_>> {
        self.models.iter().flat_map(Chain::all).map(Model::server).collect()
    }

    fn concurrency(&self) -> usize {
        self.concurrency
    }

    fn run<'a>(
        &'a self,
        rows: &'a [(Row, Ask)],
        asking: &'a Asking,
        world: &'a World,
    ) -> BoxFuture<'a, Vec<Result<Answered, RowError>>> {
        Box::pin(async move {
            let mut results = Vec::with_capacity(rows.len());
            for (row, ask) in rows {
                results.push(self.take_turns(row, ask, asking, world).await);
            }
            results
        })
    }
}

impl Stage {
    fn describe_model(&self, model: &Model, components: &mut dyn Components) {
        components.add("base_url", &model.chat.base_url);
        components.add("request", &Value::Object(self.frame(model)).to_string());
    }

    /// The request's body without its messages: what every row's request to `model` shares.
    fn frame(&self, model: &Model) -> Row {
        let section = &model.section;
        let mut body = Row::new();
        body.insert("model".into(), section.model.clone().into());
        let mut add = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                body.insert(name.into(), value);
            }
        };
        add("temperature", section.temperature.map(Value::from));
        add("top_p", section.top_p.map(Value::from));
        add("seed", section.seed.map(Value::from));
        add("max_tokens", section.max_tokens.map(Value::from));
        add("max_completion_tokens", section.max_completion_tokens.map(Value::from));
        add("max_output_tokens", section.max_output_tokens.map(Value::from));
        let effort = section.reasoning_effort.clone();
        let format = match (&self.schema, self.answers) {
            (Some(schema), Answers::JsonSchema) => Some(json!({
                "name": self.schema_name, "strict": true, "schema": schema.sent(),
            })),
            _ => None,
        };
        let is_json = self.schema.is_some() && self.answers == Answers::JsonObject;
        let plain = is_json.then(|| json!({ "type": "json_object" }));
        match model.chat.api {
            Api::Chat => {
                add("reasoning_effort", effort.map(Value::from));
                add("logprobs", section.logprobs.map(|_| true.into()));
                add("top_logprobs", section.logprobs.filter(|most| *most > 0).map(Value::from));
                let schema = format.map(|it| json!({ "type": "json_schema", "json_schema": it }));
                add("response_format", schema.or(plain));
            }
            Api::Responses => {
                add("reasoning", effort.map(|effort| json!({ "effort": effort })));
                let include = json!(["message.output_text.logprobs"]);
                add("include", section.logprobs.map(|_| include));
                add("top_logprobs", section.logprobs.map(Value::from));
                let schema = format.map(|mut it| {
                    it["type"] = "json_schema".into();
                    it
                });
                add("text", schema.or(plain).map(|format| json!({ "format": format })));
                // Nobody comes back to it; the answer is kept here.
                add("store", Some(false.into()));
            }
        }
        for (name, value) in &section.body {
            add(name, Some(value.clone()));
        }
        body
    }

    fn body(&self, model: &Model, row: &Row) -> Result<Value, RowError> {
        let render = |template: &Template| {
            template.render(row).map_err(|error| RowError::Row(error.to_string()))
        };
        let mut messages = Vec::new();
        if let Some(system) = &self.system {
            messages.push(json!({ "role": "system", "content": render(system)? }));
        }
        messages.push(json!({ "role": "user", "content": render(&self.prompt)? }));
        let mut body = Row::new();
        for (name, value) in self.frame(model) {
            body.insert(name.clone(), value);
            if name == "model" {
                body.insert(messages_of(model.chat.api).into(), Value::Null);
            }
        }
        body.insert(messages_of(model.chat.api).into(), messages.into());
        Ok(Value::Object(body))
    }

    /// Asks `model`, and asks again with what was wrong, at most `repairs` times.
    async fn answer(
        &self,
        model: &Model,
        sample: u32,
        row: &Row,
        asking: &Asking,
    ) -> Result<Sample, NoAnswer> {
        let first = self.body(model, row)?;
        let mut body = first.clone();
        let mut calls = Vec::new();
        loop {
            let (answer, completion) = model.chat.ask(asking, body.clone(), sample).await?;
            if !answer.cached {
                asking.transport.troubles().answered(&model.name);
            }
            let call = answer.key.0.short();
            let attempt = calls.len() as u32;
            calls.push(answer.key);
            match self.judge(row, &completion) {
                Verdict::Good(fields) => {
                    asking.good(calls);
                    let call = self.call(model, &answer, &completion, attempt);
                    return Ok(Sample { fields, call });
                }
                Verdict::Useless(what, why) => {
                    return Err(RowError::Answer(what, format!("{why} (call {call})")).into());
                }
                Verdict::Bad { faults, .. } if attempt >= self.repairs => {
                    let why = format!(
                        "no valid answer after {} attempts: {} (call {call})",
                        attempt + 1,
                        faults.join("; ")
                    );
                    return Err(RowError::Answer(NoGood::Invalid, why).into());
                }
                Verdict::Bad { said, faults } => {
                    body = repair(&first, messages_of(model.chat.api), &said, &faults);
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
    fn call(&self, model: &Model, answer: &Answer, completion: &Completion, repairs: u32) -> Value {
        let usage = completion.usage;
        let mut call = json!({
            "id": answer.key.0.hex(),
            "model": model.section.model,
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
        if model.section.logprobs.is_some() {
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
