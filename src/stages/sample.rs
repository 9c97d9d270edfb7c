//! Kind `sample`: some rows of a table, drawn by chance from each of its strata. Which ones depends
//! on a seed and on their keys alone, so that a row that was drawn stays so while others come.

use std::collections::{BTreeMap, BinaryHeap, HashSet};
use std::num::NonZeroU64;
use std::sync::Arc;

use futures::future::BoxFuture;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde_json::Value;
use toml::Spanned;

use super::{
    Columns, Compile, Compiled, Components, Input, Kind, Sink, StageError, TableStage, Work, World,
    aside,
};
use crate::stats;
use crate::table::{Row, key_of};

pub struct Sample;

/// What a row that was drawn stands for: so many of its stratum.
const WEIGHT: &str = "sample_weight";

/// What `[stages.NAME]` may hold.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Fields whose values tell the strata apart; without any all rows are one.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    by: Vec<Spanned<String>>,
    /// How many rows of each stratum. Without it as many as `confidence` and `margin` ask for.
    size: Option<NonZeroU64>,
    /// How sure it is to be that a share found in a stratum's sample is off by `margin` at most.
    #[schemars(with = "Option<f64>", range(min = 0.5, max = 0.9999))]
    confidence: Option<Spanned<f64>>,
    /// How far off it may be.
    #[schemars(with = "Option<f64>", range(min = 0.001, max = 0.5))]
    margin: Option<Spanned<f64>>,
    /// Another seed draws other rows.
    #[serde(default = "one")]
    seed: u64,
    /// Fields that are added, empty: for people to fill in.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    blank: Vec<Spanned<String>>,
}

fn one() -> u64 {
    1
}

#[derive(Clone)]
struct Stage {
    by: Vec<String>,
    size: Size,
    seed: u64,
    blank: Vec<String>,
    /// The fields that tell the input's rows apart.
    key: Vec<String>,
}

#[derive(Clone, Copy)]
enum Size {
    Rows(u64),
    Enough { confidence: f64, margin: f64 },
}

impl Size {
    fn of(self, population: u64) -> u64 {
        match self {
            Size::Rows(rows) => rows.min(population),
            Size::Enough { confidence, margin } => {
                stats::sample_size(population, confidence, margin)
            }
        }
    }
}

impl Kind for Sample {
    fn name(&self) -> &'static str {
        "sample"
    }

    fn version(&self) -> u32 {
        1
    }

    fn settings(&self, generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<Settings>()
    }

    fn compile(&self, cx: &mut Compile<'_>) -> Option<Compiled> {
        let settings: Settings = cx.settings()?;
        let mut sound = cx.no_row_settings("sample");
        let input = cx.driver()?;
        for field in &settings.by {
            sound &= cx.input_field(&input, field, "by");
        }
        for field in &settings.blank {
            if input.columns.names().contains(field.get_ref()) {
                let message = format!("`blank` names `{}`, which rows have", field.get_ref());
                cx.fail(field.span(), message, Some("name a field that is to be added".into()));
                sound = false;
            }
        }
        let mut between = |value: &Option<Spanned<f64>>, name, least, most, default| {
            let Some(value) = value else { return Some(default) };
            if (least..=most).contains(value.get_ref()) {
                return Some(*value.get_ref());
            }
            let message = format!("`{name}` is {}", value.get_ref());
            let help = format!("it lies from {least} to {most}");
            cx.fail(value.span(), message, Some(help));
            None
        };
        let confidence = between(&settings.confidence, "confidence", 0.5, 0.9999, 0.95);
        let margin = between(&settings.margin, "margin", 0.001, 0.5, 0.05);
        if let (Some(_), Some(unused)) =
            (settings.size, settings.confidence.as_ref().or(settings.margin.as_ref()))
        {
            let message = "`size` says how many rows, and so do `confidence` and `margin`";
            cx.fail(unused.span(), message, Some("leave out one or the other".into()));
            sound = false;
        }
        let size = match settings.size {
            Some(rows) => Size::Rows(rows.get()),
            None => Size::Enough { confidence: confidence?, margin: margin? },
        };
        let texts = |fields: &[Spanned<String>]| -> Vec<String> {
            fields.iter().map(|field| field.get_ref().clone()).collect()
        };
        let blank = texts(&settings.blank);
        let columns = match &input.columns {
            Columns::Unknown => Columns::Unknown,
            Columns::Known(names) => {
                let own = blank.iter().cloned().chain([WEIGHT.to_owned()]);
                Columns::Known(names.iter().cloned().chain(own).collect())
            }
        };
        let key = match cx.decl.common.key {
            Some(_) => cx.own_key(&columns)?,
            None => input.key.clone(),
        };
        let stage =
            Stage { by: texts(&settings.by), size, seed: settings.seed, blank, key: input.key };
        sound.then(|| cx.compiled(Work::Table(Arc::new(stage)), columns, key))
    }
}

impl TableStage for Stage {
    fn describe(&self, components: &mut dyn Components) {
        components.add("by", &self.by.join(","));
        match self.size {
            Size::Rows(rows) => components.add("size", &rows.to_string()),
            Size::Enough { confidence, margin } => {
                components.add("confidence", &confidence.to_string());
                components.add("margin", &margin.to_string());
            }
        }
        components.add("seed", &self.seed.to_string());
        components.add("blank", &self.blank.join(","));
        components.add("input key", &self.key.join(","));
    }

    fn make<'a>(
        &'a self,
        inputs: Vec<Input>,
        sink: Sink,
        world: &'a World,
    ) -> BoxFuture<'a, Result<Sink, StageError>> {
        let (stage, store) = (self.clone(), world.store.clone());
        Box::pin(async move { aside(move || stage.draw(&inputs[0], &store, sink)).await })
    }
}

impl Stage {
    /// Three passes: how many there are of each stratum, which are drawn, and those.
    fn draw(
        &self,
        input: &Input,
        store: &crate::store::Store,
        mut sink: Sink,
    ) -> Result<Sink, StageError> {
        let mut strata: BTreeMap<String, (u64, BinaryHeap<(u128, u64)>)> = BTreeMap::new();
        for row in store.rows(&input.artifact) {
            strata.entry(self.stratum(&row?)).or_default().0 += 1;
        }
        for (number, row) in (0..).zip(store.rows(&input.artifact)) {
            let row = row?;
            let key = key_of(&row, &self.key).map_err(|field| {
                StageError::Failed(format!("a row of `{}` has no field `{field}`", input.name))
            })?;
            let (population, drawn) = strata.entry(self.stratum(&row)).or_default();
            drawn.push((stats::place(self.seed, &key.0), number));
            if drawn.len() as u64 > self.size.of(*population) {
                drawn.pop();
            }
        }
        let numbers: HashSet<u64> = strata
            .values()
            .flat_map(|(_, drawn)| drawn.iter().map(|(_, number)| *number))
            .collect();
        for (number, row) in (0..).zip(store.rows(&input.artifact)) {
            if numbers.contains(&number) {
                let mut row = row?;
                let (population, drawn) = &strata[&self.stratum(&row)];
                let weight = *population as f64 / drawn.len() as f64;
                row.extend(self.blank.iter().map(|field| (field.clone(), Value::Null)));
                row.insert(WEIGHT.to_owned(), weight.into());
                sink.push(&row)?;
            }
        }
        Ok(sink)
    }

    /// The values that tell its stratum; a field that a row lacks counts as null.
    fn stratum(&self, row: &Row) -> String {
        let values = self.by.iter().map(|field| row.get(field).unwrap_or(&Value::Null).to_string());
        values.collect::<Vec<_>>().join("\u{1f}")
    }
}
