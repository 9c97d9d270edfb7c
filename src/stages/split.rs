//! Kind `split`: one row becomes several, each with a part of a text that is too long for one request.

use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use toml::Spanned;

use super::{
    Answered, Ask, Columns, Compile, Compiled, Components, Kind, RowError, RowStage, RowWork,
    StageError, Work, World,
};
use crate::clients::Asking;
use crate::manifest::did_you_mean;
use crate::programs::{cut, diff, tokens};
use crate::store::Made;
use crate::table::Row;

pub struct Split;

/// Smaller parts would hold little but headers.
const LEAST: usize = 16;
/// How many rows are cut at once: it is work for a processor.
const AT_ONCE: usize = 2;
/// What a part is numbered by, and how many there are.
const ADDED: [&str; 3] = ["part", "parts", "tokens"];

/// What `[stages.NAME]` may hold.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The field whose text is cut.
    #[schemars(with = "String")]
    text: Spanned<String>,
    /// How many tokens a part may have: a number, or the name of a param that holds one,
    /// `"params.NAME"`.
    #[schemars(with = "Budget")]
    tokens: Spanned<Budget>,
    /// Where it is cut.
    #[serde(default)]
    at: At,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum At {
    /// Between paragraphs or lines.
    #[default]
    Lines,
    /// Between the files and hunks of a diff.
    Diff,
}

/// A number, or a param that holds one.
enum Budget {
    Number(u64),
    Param(String),
}

impl<'de> Deserialize<'de> for Budget {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Budget, D::Error> {
        struct BudgetVisitor;
        impl Visitor<'_> for BudgetVisitor {
            type Value = Budget;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a number or \"params.NAME\"")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Budget, E> {
                Ok(Budget::Number(u64::try_from(number).unwrap_or(0)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Budget, E> {
                let name = text.strip_prefix("params.").ok_or_else(|| {
                    E::invalid_value(serde::de::Unexpected::Str(text), &BudgetVisitor)
                })?;
                Ok(Budget::Param(name.to_owned()))
            }
        }
        deserializer.deserialize_any(BudgetVisitor)
    }
}

impl JsonSchema for Budget {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Budget".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "integer", "minimum": LEAST },
            { "type": "string", "pattern": "^params\\." },
        ] })
    }
}

struct Stage {
    text: String,
    tokens: usize,
    at: At,
}

impl Kind for Split {
    fn name(&self) -> &'static str {
        "split"
    }

    fn version(&self) -> u32 {
        2
    }

    fn settings(&self, generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<Settings>()
    }

    fn compile(&self, cx: &mut Compile<'_>) -> Option<Compiled> {
        let settings: Settings = cx.settings()?;
        let input = cx.driver()?;
        let shape = cx.row_shape(&input, true);
        let filter = cx.filter();
        let mut sound = cx.input_field(&input, &settings.text, "text");
        let tokens = budget(cx, &settings.tokens);
        let shape = shape?;
        let carried = || shape.key.iter().chain(&shape.keep);
        let made = ADDED.iter().copied().chain([settings.text.get_ref().as_str()]);
        for clash in made.filter(|made| carried().any(|field| field == made)) {
            let message = format!(
                "stage `{}` makes the field `{clash}`, and carries one of that name over",
                cx.decl.name
            );
            let help = "name the fields that tell its rows apart in `key`, and no other in `keep`";
            cx.fail(settings.text.span(), message, Some(help.into()));
            sound = false;
        }
        if ADDED.contains(&settings.text.get_ref().as_str()) {
            let message = format!(
                "stage `{}` makes a field `{}` beside the text",
                cx.decl.name,
                settings.text.get_ref()
            );
            let help = "give the text another name in the stage before";
            cx.fail(settings.text.span(), message, Some(help.into()));
            sound = false;
        }
        let text = settings.text.into_inner();
        let own = ["part", "parts", text.as_str(), "tokens"].map(str::to_owned);
        let columns = Columns::Known(carried().cloned().chain(own).collect());
        let key = shape.key.iter().cloned().chain(["part".to_owned()]).collect();
        let stage = Stage { text, tokens: tokens?, at: settings.at };
        sound.then_some(())?;
        let work = Work::Rows(RowWork { stage: Arc::new(stage), shape, filter: filter? });
        Some(cx.compiled(work, columns, key))
    }
}

/// How many tokens a part may have.
fn budget(cx: &mut Compile<'_>, budget: &Spanned<Budget>) -> Option<usize> {
    let number = match budget.get_ref() {
        Budget::Number(number) => Some(*number),
        Budget::Param(name) => {
            let params = &cx.manifest.params;
            let Some(value) = params.get(name) else {
                let help = did_you_mean(name, params.keys().map(String::as_str));
                cx.fail(budget.span(), format!("there is no param `{name}`"), help);
                return None;
            };
            let number = value.as_u64();
            cx.params.insert(name.clone());
            number
        }
    };
    let number = number.and_then(|number| usize::try_from(number).ok());
    if number.is_none_or(|number| number < LEAST) {
        let message = format!("`tokens` is a number of {LEAST} or more");
        let help = "write how many tokens a part may have: `4000`, or `\"params.NAME\"`";
        cx.fail(budget.span(), message, Some(help.into()));
        return None;
    }
    number
}

impl RowStage for Stage {
    fn describe(&self, components: &mut dyn Components) {
        components.add("text", &self.text);
        components.add("tokens", &self.tokens.to_string());
        components.add("at", if self.at == At::Diff { "diff" } else { "lines" });
    }

    fn ask(&self, row: &Row) -> Result<Ask, RowError> {
        let text = match row.get(&self.text) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Null) => String::new(),
            Some(other) => {
                let shown: String = other.to_string().chars().take(80).collect();
                return Err(RowError::Row(format!("`{}` is no text: {shown}", self.text)));
            }
            None => return Err(RowError::Row(format!("the row has no field `{}`", self.text))),
        };
        Ok(Ask { text, ..Ask::default() })
    }

    fn calls(&self) -> bool {
        false
    }

    fn concurrency(&self) -> usize {
        AT_ONCE
    }

    fn run<'a>(
        &'a self,
        rows: &'a [(Row, Ask)],
        _asking: &'a Asking,
        _world: &'a World,
    ) -> BoxFuture<'a, Vec<Result<Answered, RowError>>> {
        Box::pin(async move {
            let mut made = Vec::with_capacity(rows.len());
            for (_, ask) in rows {
                let parts = self.parts(ask.text.clone()).await;
                made.push(parts.map(|rows| Made::Rows(rows).into()));
            }
            made
        })
    }
}

impl Stage {
    /// A row for each part of `text`.
    async fn parts(&self, text: String) -> Result<Vec<Row>, RowError> {
        let (budget, at) = (self.tokens, self.at);
        let cut = move || {
            let parts = match at {
                At::Lines => cut::lines(&text, budget).into_iter().map(str::to_owned).collect(),
                At::Diff => diff::parts(&text, budget)?,
            };
            Ok(parts.into_iter().map(|part| (tokens::count(&part), part)).collect())
        };
        // Meanwhile other stages read their answers.
        let cut: Result<Vec<(usize, String)>, String> = tokio::task::spawn_blocking(cut)
            .await
            .map_err(|error| StageError::Failed(format!("a text was not cut: {error}")))?;
        let parts = cut.map_err(RowError::Row)?;
        let count = parts.len();
        let row = |(at, (tokens, part)): (usize, (usize, String))| {
            Row::from_iter([
                ("part".to_owned(), (at + 1).into()),
                ("parts".to_owned(), count.into()),
                (self.text.clone(), part.into()),
                ("tokens".to_owned(), tokens.into()),
            ])
        };
        Ok(parts.into_iter().enumerate().map(row).collect())
    }
}
