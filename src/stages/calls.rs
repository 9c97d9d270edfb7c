//! Kind `calls`: by which models, settings and prompts, when and at what cost the answers came that
//! the rows of other stages stand on. All of it is read from the answers themselves, so it is the same
//! whenever and wherever it is told.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use futures::future::BoxFuture;
use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde_json::{Value, json};
use toml::Spanned;

use super::{
    Columns, Compile, Compiled, Components, Input, Kind, Sink, StageError, TableStage, Work, World,
    aside,
};
use crate::clients::{BATCH, Completion, Transport, Usage};
use crate::manifest::{Manifest, Price, StageDecl, address, did_you_mean, with_fallbacks};
use crate::store::{CallKey, CallRecord, Store};
use crate::table::{Digest, Row};

pub struct Calls;

/// What `[stages.NAME]` may hold.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {}

/// The fields of its rows.
const COLUMNS: [&str; 21] = [
    "stage",
    "number",
    "server",
    "model",
    "returned_model",
    "system_fingerprint",
    "source",
    "settings",
    "calls",
    "tokens_in",
    "tokens_in_cached",
    "tokens_out",
    "cost_usd",
    "first",
    "last",
    "prompts",
    "system",
    "prompt",
    "schema",
    "check",
    "unrecorded",
];

#[derive(Clone)]
struct Stage {
    asked: Vec<Asked>,
}

/// A stage that asked, and what it asked by.
#[derive(Clone)]
struct Asked {
    name: String,
    /// The texts of its files, with what they include.
    texts: [Option<String>; 4],
    prices: Vec<Priced>,
}

/// The settings of the stage that name its texts.
const TEXTS: [&str; 4] = ["system", "prompt", "schema", "check"];

/// What a model costs at one of the addresses at which the stage may ask it.
#[derive(Clone)]
struct Priced {
    base_url: String,
    model: String,
    price: Option<Price>,
}

impl Kind for Calls {
    fn name(&self) -> &'static str {
        "calls"
    }

    fn version(&self) -> u32 {
        1
    }

    fn settings(&self, generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<Settings>()
    }

    fn compile(&self, cx: &mut Compile<'_>) -> Option<Compiled> {
        let Settings {} = cx.settings()?;
        let mut sound = cx.no_row_settings("calls");
        let manifest = cx.manifest;
        let mut asked = Vec::new();
        for input in &cx.decl.common.inputs {
            let named = |decl: &&StageDecl<'_>| decl.name == *input.get_ref();
            let is_llm = |decl: &StageDecl<'_>| decl.common.kind.get_ref() == "llm";
            let Some(decl) = manifest.stages.iter().find(named).filter(|decl| is_llm(decl)) else {
                let message = format!("`{}` is no stage that asks a model", input.get_ref());
                let known = manifest.stages.iter().filter(|decl| is_llm(decl));
                let help = did_you_mean(input.get_ref(), known.map(|decl| decl.name.as_str()))
                    .unwrap_or_else(|| "name stages of kind `llm`".into());
                cx.fail(input.span(), message, Some(help));
                sound = false;
                continue;
            };
            let texts = TEXTS.map(|name| {
                let setting = decl.settings.get_ref().get(name)?;
                let setting = Spanned::new(setting.span(), setting.get_ref().as_str()?.to_owned());
                cx.whole_text(&setting, name)
            });
            let prices = models_of(manifest, decl).collect();
            asked.push(Asked { name: decl.name.clone(), texts, prices });
        }
        if cx.decl.common.inputs.is_empty() {
            let help = Some("name stages of kind `llm` in `inputs`".to_owned());
            cx.fail(cx.span(), format!("stage `{}` has no input", cx.decl.name), help);
            sound = false;
        }
        let columns = Columns::Known(COLUMNS.map(str::to_owned).to_vec());
        let key = match cx.decl.common.key {
            Some(_) => cx.own_key(&columns)?,
            None => vec!["stage".to_owned(), "number".to_owned()],
        };
        let stage = Stage { asked };
        sound.then(|| cx.compiled(Work::Table(Arc::new(stage)), columns, key))
    }
}

/// The models that a stage asks, with those that they fall back on.
fn models_of<'a>(
    manifest: &'a Manifest<'_>,
    decl: &'a StageDecl<'_>,
) -> impl Iterator<Item = Priced> + 'a {
    let settings = decl.settings.get_ref();
    let one = settings.get("model").and_then(|name| name.get_ref().as_str());
    let many = settings.get("models").and_then(|names| names.get_ref().as_array());
    let many = many.into_iter().flat_map(|names| names.iter());
    let names = one.into_iter().chain(many.filter_map(|name| name.get_ref().as_str()));
    let all = names.flat_map(|name| with_fallbacks(&manifest.models, name));
    all.filter_map(|name| {
        let section = &manifest.models[name];
        let base_url = address(&section.base_url.resolve().ok()?).ok()?;
        Some(Priced { base_url, model: section.model.clone(), price: section.price })
    })
}

impl TableStage for Stage {
    fn describe(&self, components: &mut dyn Components) {
        for asked in &self.asked {
            components.add("stage", &asked.name);
            for (name, text) in TEXTS.iter().zip(&asked.texts) {
                components.add(name, text.as_deref().unwrap_or_default());
            }
            for Priced { base_url, model, price } in &asked.prices {
                components
                    .add(&format!("price of {model} at {base_url}"), &json!(price).to_string());
            }
        }
    }

    fn make<'a>(
        &'a self,
        inputs: Vec<Input>,
        sink: Sink,
        world: &'a World,
    ) -> BoxFuture<'a, Result<Sink, StageError>> {
        let (stage, store, transport) =
            (self.clone(), world.store.clone(), world.transport.clone());
        Box::pin(
            async move { aside(move || stage.gather(&inputs, &store, &transport, sink)).await },
        )
    }
}

/// What tells one sort of answer from another: who gave it, by which settings.
#[derive(Default, PartialEq, Eq, PartialOrd, Ord)]
struct Sort {
    server: String,
    model: String,
    returned_model: Option<String>,
    system_fingerprint: Option<String>,
    source: String,
    settings: String,
}

#[derive(Default)]
struct Sum {
    calls: u64,
    usage: Usage,
    /// In billionths of a USD; `None` once one has no price.
    cost: Option<u64>,
    /// When the provider made the first and the last of them, in seconds since 1970.
    made: Option<(i64, i64)>,
}

impl Stage {
    fn gather(
        &self,
        inputs: &[Input],
        store: &Store,
        transport: &Transport,
        mut sink: Sink,
    ) -> Result<Sink, StageError> {
        for (asked, input) in self.asked.iter().zip(inputs) {
            let mut seen: HashSet<Digest> = HashSet::new();
            let mut sums: BTreeMap<Sort, Sum> = BTreeMap::new();
            let mut unrecorded = 0;
            for row in store.rows(&input.artifact) {
                for call in calls_of(&row?) {
                    if !seen.insert(call) {
                        continue;
                    }
                    match transport.record(CallKey(call)).map_err(StageError::Call)? {
                        Some(record) => asked.add(&record, &mut sums),
                        None => unrecorded += 1,
                    }
                }
            }
            // A stage of which nothing is known says so.
            if sums.is_empty() {
                sums.insert(Sort::default(), Sum::default());
            }
            for (number, (sort, sum)) in (1..).zip(sums) {
                let unrecorded = if number == 1 { unrecorded } else { 0 };
                sink.push(&asked.row(number, sort, sum, unrecorded))?;
            }
        }
        Ok(sink)
    }
}

impl Asked {
    fn add(&self, record: &CallRecord, sums: &mut BTreeMap<Sort, Sum>) {
        let request: Row = serde_json::from_slice(&record.request).unwrap_or_default();
        let answer: Value = serde_json::from_slice(&record.body).unwrap_or_default();
        let completion = Completion::of(&answer);
        let model = request.get("model").and_then(Value::as_str).unwrap_or_default().to_owned();
        let priced = |it: &&Priced| it.model == model && record.url.starts_with(&it.base_url);
        let mut prices = self.prices.iter().filter(priced).map(|it| it.price);
        let price = prices.next().flatten();
        // Where two are to be had, it is not known which was paid.
        let price = price.filter(|price| prices.all(|other| other == Some(*price)));
        let price = match record.headers.contains_key(BATCH) {
            true => price.map(Price::in_batch),
            false => price,
        };
        let sort = Sort {
            server: server(&record.url),
            model,
            returned_model: completion.model,
            system_fingerprint: completion.system_fingerprint,
            source: record.source.0.clone(),
            settings: Value::Object(settings(request)).to_string(),
        };
        let sum = sums.entry(sort).or_insert_with(|| Sum { cost: Some(0), ..Sum::default() });
        sum.calls += 1;
        sum.usage.add(completion.usage);
        let cost = price.map(|price| completion.usage.cost_at(&price));
        sum.cost = sum.cost.zip(cost).map(|(sum, cost)| sum.saturating_add(cost));
        if let Some(made) = answer["created"].as_i64().or(answer["created_at"].as_i64()) {
            let (first, last) = sum.made.unwrap_or((made, made));
            sum.made = Some((first.min(made), last.max(made)));
        }
    }

    fn row(&self, number: u64, sort: Sort, sum: Sum, unrecorded: u64) -> Row {
        let day = |seconds: i64| {
            let time = Timestamp::from_second(seconds).ok()?;
            Some(time.strftime("%Y-%m-%d").to_string())
        };
        let texts: Vec<&str> = self.texts.iter().map(|it| it.as_deref().unwrap_or("")).collect();
        let prompts = Digest::of(texts.join("\u{0}").as_bytes()).short();
        let settings: Value = serde_json::from_str(&sort.settings).unwrap_or_default();
        let values = [
            json!(self.name),
            json!(number),
            json!(sort.server),
            json!(sort.model),
            json!(sort.returned_model),
            json!(sort.system_fingerprint),
            json!(sort.source),
            settings,
            json!(sum.calls),
            json!(sum.usage.input),
            json!(sum.usage.cached_input),
            json!(sum.usage.output),
            json!(sum.cost.map(|cost| cost as f64 / 1e9)),
            json!(sum.made.and_then(|(first, _)| day(first))),
            json!(sum.made.and_then(|(_, last)| day(last))),
            json!(prompts),
            json!(self.texts[0]),
            json!(self.texts[1]),
            json!(self.texts[2]),
            json!(self.texts[3]),
            json!(unrecorded),
        ];
        COLUMNS.iter().map(|name| (*name).to_owned()).zip(values).collect()
    }
}

/// `https://api.openai.com/v1/chat/completions` -> `https://api.openai.com`
fn server(url: &str) -> String {
    let host = url.split_once("://").map_or(0, |(scheme, _)| scheme.len() + 3);
    let end = url[host..].find('/').map_or(url.len(), |end| host + end);
    url[..end].to_owned()
}

/// The calls that a row stands on.
fn calls_of(row: &Row) -> impl Iterator<Item = Digest> {
    let call = row.get("_call").cloned().unwrap_or_default();
    let ids = match &call["samples"] {
        Value::Array(samples) => samples.clone(),
        _ => vec![call["id"].clone()],
    };
    ids.into_iter().filter_map(|id| id.as_str()?.parse().ok())
}

/// What a request asks for beside its text and the form of its answer, which stand elsewhere.
fn settings(mut request: Row) -> Row {
    for name in ["model", "messages", "input", "response_format"] {
        request.shift_remove(name);
    }
    if let Some(Value::Object(text)) = request.get_mut("text") {
        text.shift_remove("format");
        if text.is_empty() {
            request.shift_remove("text");
        }
    }
    request
}
