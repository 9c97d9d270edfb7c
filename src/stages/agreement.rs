//! Kind `agreement`: how far people, models and repeated answers agree on the labels of the same
//! items. What it makes is one long table, a number a row, each with how many items it counts.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use indexmap::{IndexMap, IndexSet};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde_json::{Value, json};
use toml::Spanned;

use super::{
    Columns, Compile, Compiled, Components, Input, Kind, Sink, StageError, TableStage, Work, World,
    aside,
};
use crate::manifest::did_you_mean;
use crate::stats::{self, Ratings, Score};
use crate::store::Store;
use crate::table::{Row, show_key};

pub struct Agreement;

/// What `[stages.NAME]` may hold.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The columns of the one input that hold a rater's labels each. Without it, the rows of every
    /// input are labels: `item`, `label` and perhaps `rater` tell of what, which and whose.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    raters: Vec<Spanned<String>>,
    /// The fields that tell items apart; the key of the first input where they are not given.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    item: Vec<Spanned<String>>,
    /// The field that holds the label.
    #[schemars(with = "Option<String>")]
    label: Option<Spanned<String>>,
    /// The field that says whose it is; the input's name where it is not given.
    #[schemars(with = "Option<String>")]
    rater: Option<Spanned<String>>,
    /// The rater that the others are scored against; the first where it is not given.
    #[schemars(with = "Option<String>")]
    truth: Option<Spanned<String>>,
    /// Fields of the first input whose values tell strata apart: all is counted for each, too.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    by: Vec<Spanned<String>>,
    /// With `raters`: the column that says how sure a rater is, from 0 to 1, by rater.
    #[serde(default)]
    #[schemars(with = "std::collections::BTreeMap<String, String>")]
    confidence: IndexMap<String, Spanned<String>>,
    /// How often items are drawn anew for an interval of 95 %; 0 leaves the intervals out.
    #[serde(default = "thousand")]
    #[schemars(range(max = 100_000))]
    bootstrap: u32,
    #[serde(default = "one")]
    seed: u64,
}

fn thousand() -> u32 {
    1000
}

fn one() -> u64 {
    1
}

const CERTAINTY: f64 = 0.95;
const BINS: usize = 10;
const MOST_BOOTSTRAPS: u32 = 100_000;

/// The fields of its rows.
const FIELDS: [&str; 11] =
    ["part", "stratum", "raters", "measure", "label", "said", "item", "value", "low", "high", "n"];
/// Those that tell its rows apart.
const KEY: [&str; 7] = ["part", "stratum", "raters", "measure", "label", "said", "item"];

#[derive(Clone)]
struct Stage {
    raters: Vec<String>,
    item: Vec<String>,
    label: String,
    rater: Option<String>,
    truth: Option<String>,
    by: Vec<String>,
    confidence: IndexMap<String, String>,
    bootstrap: u32,
    seed: u64,
}

impl Kind for Agreement {
    fn name(&self) -> &'static str {
        "agreement"
    }

    fn version(&self) -> u32 {
        3
    }

    fn settings(&self, generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<Settings>()
    }

    fn compile(&self, cx: &mut Compile<'_>) -> Option<Compiled> {
        let settings: Settings = cx.settings()?;
        let mut sound = cx.no_row_settings("agreement");
        let span = cx.span();
        let Some(first) = cx.inputs.first().cloned() else {
            let message = format!("stage `{}` has no input with labels", cx.decl.name);
            cx.fail(span, message, Some("add `inputs = [\"...\"]`".into()));
            return None;
        };
        let by_row = settings.raters.is_empty();
        if by_row && settings.label.is_none() {
            let message = format!("stage `{}` says nowhere where the labels are", cx.decl.name);
            let help = "add `raters = [\"human\", \"model\"]`, columns of one input, or `label = \
                        \"...\"`, a field of every input";
            cx.fail(span.clone(), message, Some(help.into()));
            sound = false;
        }
        if !by_row && (settings.raters.len() < 2 || cx.inputs.len() > 1) {
            let message = "`raters` names two or more columns of exactly one input";
            let help = "with one input for each rater, leave `raters` out and name `label`";
            cx.fail(settings.raters[0].span(), message, Some(help.into()));
            sound = false;
        }
        let of_first = [("by", &settings.by), ("raters", &settings.raters)];
        for (what, field) in
            of_first.iter().flat_map(|(what, fields)| fields.iter().map(|it| (*what, it)))
        {
            sound &= cx.input_field(&first, field, what);
        }
        for (rater, field) in &settings.confidence {
            sound &= cx.input_field(&first, field, "confidence");
            if !settings.raters.iter().any(|known| known.get_ref() == rater) {
                let message = format!("`confidence` names `{rater}`, none of the `raters`");
                let known = settings.raters.iter().map(|rater| rater.get_ref().as_str());
                cx.fail(field.span(), message, did_you_mean(rater, known));
                sound = false;
            }
        }
        if let Some(truth) = settings.truth.as_ref().filter(|_| !by_row) {
            let mut raters = settings.raters.iter().map(|rater| rater.get_ref().as_str());
            if !raters.any(|rater| rater == truth.get_ref()) {
                let message = format!("`truth` names `{}`, none of the `raters`", truth.get_ref());
                let known = settings.raters.iter().map(|rater| rater.get_ref().as_str());
                cx.fail(truth.span(), message, did_you_mean(truth.get_ref(), known));
                sound = false;
            }
        }
        for input in cx.inputs.clone() {
            let named = settings.item.iter().map(|field| ("item", field));
            let named = named.chain(settings.label.iter().map(|field| ("label", field)));
            for (what, field) in named.chain(settings.rater.iter().map(|field| ("rater", field))) {
                sound &= cx.input_field(&input, field, what);
            }
        }
        if settings.bootstrap > MOST_BOOTSTRAPS {
            let message =
                format!("`bootstrap` is {}, {MOST_BOOTSTRAPS} at the most", settings.bootstrap);
            cx.fail(span, message, Some("1000 serve well".into()));
            sound = false;
        }
        let texts = |fields: &[Spanned<String>]| -> Vec<String> {
            fields.iter().map(|field| field.get_ref().clone()).collect()
        };
        let text = |field: &Option<Spanned<String>>| field.as_ref().map(|it| it.get_ref().clone());
        let item = match settings.item.is_empty() {
            true => first.key.clone(),
            false => texts(&settings.item),
        };
        let confidence = settings.confidence.iter();
        let stage = Stage {
            raters: texts(&settings.raters),
            item,
            label: text(&settings.label).unwrap_or_default(),
            rater: text(&settings.rater),
            truth: text(&settings.truth),
            by: texts(&settings.by),
            confidence: confidence
                .map(|(rater, it)| (rater.clone(), it.get_ref().clone()))
                .collect(),
            bootstrap: settings.bootstrap,
            seed: settings.seed,
        };
        let columns = Columns::Known(FIELDS.map(String::from).into());
        let key = match cx.decl.common.key {
            Some(_) => cx.own_key(&columns)?,
            None => KEY.map(String::from).into(),
        };
        sound.then(|| cx.compiled(Work::Table(Arc::new(stage)), columns, key))
    }
}

impl TableStage for Stage {
    fn describe(&self, components: &mut dyn Components) {
        components.add("raters", &self.raters.join(","));
        components.add("item", &self.item.join(","));
        components.add("label", &self.label);
        components.add("rater", self.rater.as_deref().unwrap_or_default());
        components.add("truth", self.truth.as_deref().unwrap_or_default());
        components.add("by", &self.by.join(","));
        let confidence = serde_json::to_string(&self.confidence).expect("texts always serialize");
        components.add("confidence", &confidence);
        components.add("bootstrap", &format!("{} {}", self.bootstrap, self.seed));
    }

    fn make<'a>(
        &'a self,
        inputs: Vec<Input>,
        sink: Sink,
        world: &'a World,
    ) -> BoxFuture<'a, Result<Sink, StageError>> {
        let (stage, store) = (self.clone(), world.store.clone());
        Box::pin(async move { aside(move || stage.count(&inputs, &store, sink)).await })
    }
}

/// The labels of an item.
#[derive(Default)]
struct Item {
    stratum: Option<String>,
    /// By rater.
    labels: IndexMap<String, String>,
    confidence: IndexMap<String, f64>,
}

/// All items that were labelled, by their key.
type Items = IndexMap<String, Item>;

impl Stage {
    fn count(&self, inputs: &[Input], store: &Store, sink: Sink) -> Result<Sink, StageError> {
        let (raters, items) = self.gather(inputs, store)?;
        let truth = match &self.truth {
            Some(truth) => raters.get_index_of(truth).ok_or_else(|| {
                let known: Vec<&str> = raters.iter().map(String::as_str).collect();
                let known = known.join(", ");
                StageError::Failed(format!(
                    "`truth` is `{truth}`, who labelled nothing; there is: {known}"
                ))
            })?,
            None => 0,
        };
        let mut strata: IndexSet<&str> = IndexSet::from([""]);
        strata.extend(items.values().filter_map(|item| item.stratum.as_deref()));
        let mut tables = Tables { stage: self, raters: &raters, truth, sink };
        for stratum in &strata {
            let of = |item: &Item| stratum.is_empty() || item.stratum.as_deref() == Some(stratum);
            let of: Vec<&Item> = items.values().filter(|item| of(item)).collect();
            tables.of(stratum, &of)?;
        }
        tables.disagreements(&items)?;
        Ok(tables.sink)
    }

    fn gather(
        &self,
        inputs: &[Input],
        store: &Store,
    ) -> Result<(IndexSet<String>, Items), StageError> {
        let mut raters: IndexSet<String> = self.raters.iter().cloned().collect();
        let mut items = Items::new();
        for (at, input) in inputs.iter().enumerate() {
            for row in store.rows(&input.artifact) {
                let row = row?;
                let key = show_key(&row, &self.item);
                let item = items.entry(key.clone()).or_default();
                if at == 0 && !self.by.is_empty() {
                    let value = |field: &String| text(row.get(field)).unwrap_or_default();
                    let values: Vec<String> = self.by.iter().map(value).collect();
                    item.stratum = Some(values.join(", "));
                }
                if !self.raters.is_empty() {
                    self.take_columns(&row, item)?;
                    continue;
                }
                let Some(label) = text(row.get(&self.label)) else { continue };
                let rater = match &self.rater {
                    Some(field) => text(row.get(field)).unwrap_or_default(),
                    None => input.name.clone(),
                };
                raters.insert(rater.clone());
                if let Some(other) = item.labels.insert(rater.clone(), label.clone())
                    && other != label
                {
                    return Err(StageError::Failed(format!(
                        "`{rater}` gives {key} two labels: `{other}` and `{label}`"
                    )));
                }
            }
        }
        Ok((raters, items))
    }

    fn take_columns(&self, row: &Row, item: &mut Item) -> Result<(), StageError> {
        for rater in &self.raters {
            let label = text(row.get(rater)).map(|label| (rater.clone(), label));
            item.labels.extend(label);
        }
        for (rater, field) in &self.confidence {
            let Some(said) = text(row.get(field)) else { continue };
            let sure = said.parse().ok().filter(|sure| (0.0..=1.0).contains(sure));
            let sure: f64 = sure.ok_or_else(|| {
                let key = show_key(row, &self.item);
                StageError::Failed(format!("{key}: `{field}` is `{said}`, no number from 0 to 1"))
            })?;
            item.confidence.insert(rater.clone(), sure);
        }
        Ok(())
    }
}

/// A label as a text; nothing where there is none, as in a sheet that is not filled in.
fn text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::Null => None,
        Value::String(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        other => Some(other.to_string()),
    }
}

/// What is counted, on its way out.
struct Tables<'a> {
    stage: &'a Stage,
    raters: &'a IndexSet<String>,
    truth: usize,
    sink: Sink,
}

/// A number with what it is of.
struct Number<'a> {
    part: &'a str,
    stratum: &'a str,
    raters: &'a str,
    measure: &'a str,
    label: &'a str,
    said: &'a str,
    value: Option<f64>,
    interval: Option<(f64, f64)>,
    n: usize,
}

impl Tables<'_> {
    fn push(&mut self, number: Number<'_>) -> Result<(), StageError> {
        let Number { part, stratum, raters, measure, label, said, value, interval, n } = number;
        let (low, high) = interval.unzip();
        let values = [
            json!(part),
            json!(stratum),
            json!(raters),
            json!(measure),
            json!(label),
            json!(said),
            json!(""),
            json!(value),
            json!(low),
            json!(high),
            json!(n),
        ];
        let row = FIELDS.map(String::from).into_iter().zip(values).collect();
        self.sink.push(&row)
    }

    fn of(&mut self, stratum: &str, items: &[&Item]) -> Result<(), StageError> {
        let labels: IndexSet<&str> =
            items.iter().flat_map(|item| item.labels.values().map(String::as_str)).collect();
        let mut labels: Vec<String> = labels.into_iter().map(str::to_owned).collect();
        labels.sort();
        let number = |label: &String| labels.binary_search(label).ok();
        let of_item = |item: &&Item| {
            let of_rater = |rater: &String| item.labels.get(rater).and_then(number);
            self.raters.iter().map(of_rater).collect()
        };
        let items_by_number = items.iter().map(of_item).collect();
        let ratings = Ratings { items: items_by_number, labels };
        self.together(stratum, &ratings)?;
        for one in 0..self.raters.len() {
            for other in one + 1..self.raters.len() {
                self.pair(stratum, &ratings, one, other)?;
            }
        }
        for other in 0..self.raters.len() {
            if other != self.truth {
                self.scores(stratum, &ratings, other)?;
            }
        }
        self.calibration(stratum, items)
    }

    fn interval<T: Clone>(
        &self,
        items: &[T],
        measure: impl Fn(&[T]) -> Option<f64>,
    ) -> Option<(f64, f64)> {
        let Stage { bootstrap, seed, .. } = *self.stage;
        stats::bootstrap(items, bootstrap, CERTAINTY, seed, measure).filter(|_| bootstrap > 0)
    }

    /// Measures of all raters together.
    fn together(&mut self, stratum: &str, ratings: &Ratings) -> Result<(), StageError> {
        type Measure = fn(&Ratings) -> Option<f64>;
        let measures: [(&str, Measure); 2] =
            [("krippendorff_alpha", stats::krippendorff), ("fleiss_kappa", stats::fleiss)];
        // Whoever labelled nothing here is no rater here.
        let labels = |rater: &usize| ratings.items.iter().any(|item| item[*rater].is_some());
        let present: Vec<usize> = (0..self.raters.len()).filter(labels).collect();
        let of_present =
            |item: &Vec<Option<usize>>| present.iter().map(|rater| item[*rater]).collect();
        let all: Vec<Vec<Option<usize>>> = ratings.items.iter().map(of_present).collect();
        for (measure, of) in measures {
            let needed = if measure == "fleiss_kappa" { present.len().max(2) } else { 2 };
            let enough = |item: &&Vec<Option<usize>>| item.iter().flatten().count() >= needed;
            let items: Vec<_> = all.iter().filter(enough).cloned().collect();
            let with = |items: &[Vec<Option<usize>>]| {
                of(&Ratings { labels: ratings.labels.clone(), items: items.to_vec() })
            };
            let number = Number {
                part: "agreement",
                stratum,
                raters: "all",
                measure,
                label: "",
                said: "",
                value: with(&items),
                interval: self.interval(&items, with),
                n: items.len(),
            };
            self.push(number)?;
        }
        Ok(())
    }

    fn pair(
        &mut self,
        stratum: &str,
        ratings: &Ratings,
        one: usize,
        other: usize,
    ) -> Result<(), StageError> {
        let raters = format!("{}, {}", self.raters[one], self.raters[other]);
        let pairs = ratings.pair(one, other);
        let labels = ratings.labels.len();
        let kappa = |pairs: &[(usize, usize)]| stats::cohen(pairs, labels);
        for (measure, value, interval) in [
            ("percent_agreement", stats::observed(&pairs), self.interval(&pairs, stats::observed)),
            ("cohen_kappa", kappa(&pairs), self.interval(&pairs, kappa)),
        ] {
            let number = Number {
                part: "agreement",
                stratum,
                raters: &raters,
                measure,
                label: "",
                said: "",
                value,
                interval,
                n: pairs.len(),
            };
            self.push(number)?;
        }
        Ok(())
    }

    /// How one rater finds the labels of the other that is held for true.
    fn scores(&mut self, stratum: &str, ratings: &Ratings, other: usize) -> Result<(), StageError> {
        let raters = format!("{}, {}", self.raters[self.truth], self.raters[other]);
        let pairs = ratings.pair(self.truth, other);
        let plain = Number {
            part: "class",
            stratum,
            raters: &raters,
            measure: "",
            label: "",
            said: "",
            value: None,
            interval: None,
            n: 0,
        };
        for (number, label) in ratings.labels.iter().enumerate() {
            let score = Score::of(number, &pairs);
            for (measure, value) in
                [("precision", score.precision), ("recall", score.recall), ("f1", score.f1)]
            {
                self.push(Number { measure, label, value, n: score.support, ..plain })?;
            }
        }
        // What never comes together is left out.
        let counts = pairs.iter().fold(BTreeMap::new(), |mut counts, pair| {
            *counts.entry(*pair).or_insert(0_usize) += 1;
            counts
        });
        for ((one, two), n) in counts {
            let (label, said) = (&ratings.labels[one], &ratings.labels[two]);
            self.push(Number {
                part: "confusion",
                measure: "count",
                label,
                said,
                value: Some(n as f64),
                n: pairs.len(),
                ..plain
            })?;
        }
        Ok(())
    }

    /// Whether what a rater is sure of is what the one held for true says.
    fn calibration(&mut self, stratum: &str, items: &[&Item]) -> Result<(), StageError> {
        let truth = self.raters.get_index(self.truth).cloned().unwrap_or_default();
        for rater in self.stage.confidence.keys().filter(|rater| **rater != truth) {
            let said: Vec<(f64, bool)> = items
                .iter()
                .filter_map(|item| {
                    let (is, said) = (item.labels.get(&truth)?, item.labels.get(rater)?);
                    Some((*item.confidence.get(rater)?, is == said))
                })
                .collect();
            let (bins, error) = stats::calibrate(&said, BINS);
            let raters = format!("{truth}, {rater}");
            let plain = Number {
                part: "calibration",
                stratum,
                raters: &raters,
                measure: "",
                label: "",
                said: "",
                value: None,
                interval: None,
                n: said.len(),
            };
            let measure = "expected_calibration_error";
            self.push(Number { measure, value: error, ..plain })?;
            for bin in bins {
                let label = format!("{:.1}-{:.1}", bin.from, bin.to);
                for (measure, value) in [("confidence", bin.confidence), ("accuracy", bin.accuracy)]
                {
                    self.push(Number { measure, label: &label, value, n: bin.count, ..plain })?;
                }
            }
        }
        Ok(())
    }

    /// The items that not all raters give the same label, with what each gives.
    fn disagreements(&mut self, items: &Items) -> Result<(), StageError> {
        for (key, item) in items {
            let different: IndexSet<&String> = item.labels.values().collect();
            if different.len() < 2 {
                continue;
            }
            for (rater, label) in &item.labels {
                let stratum = item.stratum.as_deref().unwrap_or_default();
                let values = [
                    json!("disagreement"),
                    json!(stratum),
                    json!(rater),
                    json!(""),
                    json!(label),
                    json!(""),
                    json!(key),
                    Value::Null,
                    Value::Null,
                    Value::Null,
                    json!(item.labels.len()),
                ];
                self.sink.push(&FIELDS.map(String::from).into_iter().zip(values).collect())?;
            }
        }
        Ok(())
    }
}
