//! Kind `llm`: the answers of a model, or of several, to each row, held to a JSON Schema.

mod answer;
mod columns;
mod found;
mod judge;
mod models;
mod request;
mod sureness;
mod turns;
mod votes;

use std::num::NonZeroU32;
use std::sync::Arc;

use futures::future::BoxFuture;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use toml::Spanned;

use self::judge::Verdict;
use self::models::{Chain, Model};
use self::request::Body;
use super::{
    Answered, Ask, Columns, Compile, Compiled, Components, Kind, RowError, RowStage, RowWork,
    Secret, Server, Work, World,
};
use crate::clients::{Asking, Completion};
use crate::manifest::{Names, takes_schemas};
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
    /// The server holds it to nothing; the JSON object in the text counts.
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
        let strict = settings.answers == Answers::JsonSchema;
        let schema = settings.schema.as_ref().map(|path| cx.schema(path, strict));
        let check = settings.check.as_ref().map(|text| cx.jq(text, "check"));
        let models = models::chains(cx, &settings);
        if let (Some(path), Some(chains), true) = (&settings.schema, &models, strict) {
            without_schemas(cx, path, chains);
        }
        // `None` inside is a setting that could not be read; outside, one that was not given.
        let (system, schema, check) = (given(system)?, given(schema)?, given(check)?);
        let (shape, models) = (shape?, models?);
        let own = match &schema {
            None => Some(vec!["answer".to_owned()]),
            Some(schema) => schema.fields(),
        };
        let added = columns::added(cx, &settings, &shape, own.as_deref())?;
        let added_to = |key: bool| {
            let columns = added.iter().filter(move |added| added.joins_key == key);
            columns.map(|added| added.column.to_owned())
        };
        let columns = match own {
            None => Columns::Unknown,
            Some(own) => {
                let (first, last) = (added_to(true), added_to(false));
                let carried = shape.key.iter().chain(&shape.keep).cloned().chain(first);
                let made = own.into_iter().chain(last).chain(["_call".to_owned()]);
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
        let key = shape.key.iter().cloned().chain(added_to(true)).collect();
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
        let work = Work::Rows(RowWork { stage: Arc::new(stage), shape, filter: filter? });
        Some(Compiled { secrets, ..cx.compiled(work, columns, key) })
    }
}

/// Tells of models that hold their answers to no schema.
fn without_schemas(cx: &mut Compile<'_>, schema: &Spanned<String>, chains: &[Chain]) {
    let models = chains.iter().flat_map(Chain::all);
    for model in models.filter(|model| !takes_schemas(&model.section)) {
        let message = format!("`{}` holds its answers to no schema", model.section.model);
        let help = "write `answers = \"json_object\"`, or `\"text\"`: the answer is held to the schema here";
        cx.fail(schema.span(), message, Some(help.into()));
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
        let (mut requests, mut tokens_cut) = (Vec::new(), 0);
        for chain in &self.models {
            let model = chain.first();
            let Body { json: body, tokens_cut: cut } = self.body(model, row)?;
            // All models read the same texts.
            tokens_cut = cut;
            requests.extend((0..self.samples()).map(|sample| model.chat.request(&body, sample)));
        }
        Ok(Ask { requests, text, tokens_cut })
    }

    fn is_bounded(&self) -> bool {
        self.models.iter().flat_map(Chain::all).all(Model::is_bounded)
    }

    fn servers(&self) -> Vec<Server<'_>> {
        self.models.iter().flat_map(Chain::all).map(Model::server).collect()
    }

    fn in_batches(&self) -> bool {
        self.models.iter().any(|chain| chain.first().chat.batch.is_some())
    }

    fn judged(&self, row: &Row, answer: &Completion) -> Option<Result<Row, Vec<String>>> {
        Some(match self.judge(row, answer) {
            Verdict::Good { fields, .. } => Ok(fields),
            Verdict::Bad { faults, .. } => Err(faults),
            Verdict::Useless(_, why) => Err(vec![why]),
        })
    }

    /// As many again as may be asked at once: while answers are written down others are asked for.
    fn concurrency(&self) -> usize {
        self.concurrency.saturating_mul(2)
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
