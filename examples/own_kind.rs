//! A kind of stage of one's own: `words` counts how often each word stands in a field of its input.
//!
//! ```sh
//! cargo run --example own_kind
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use flow::stages::{
    Columns, Compile, Compiled, Components, Input, Kind, Kinds, Schema, SchemaGenerator, Sink,
    StageError, TableStage, Work, World,
};
use flow::table::Row;
use flow::{Event, LoadOptions, Pipeline, RunOptions};
use futures::StreamExt;
use futures::future::BoxFuture;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

const MANIFEST: &str = r#"
[pipeline]
name = "words"

[[tables.notes]]
id = 1
text = "the model loads and the server starts"

[[tables.notes]]
id = 2
text = "the server stops"

[stages.words]
kind = "words"
inputs = ["notes"]
field = "text"
outputs = ["data/words.csv"]
"#;

struct Words;

/// What `[stages.NAME]` may hold beside what all stages have.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The field whose words are counted.
    #[schemars(with = "String")]
    field: toml::Spanned<String>,
}

struct Stage {
    field: String,
}

impl Kind for Words {
    fn name(&self) -> &'static str {
        "words"
    }

    fn version(&self) -> u32 {
        1
    }

    fn settings(&self, generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<Settings>()
    }

    /// Mistakes go to `cx`, each with its place in the manifest.
    fn compile(&self, cx: &mut Compile<'_>) -> Option<Compiled> {
        let settings: Settings = cx.settings()?;
        let input = cx.driver()?;
        if !cx.input_field(&input, &settings.field, "field") {
            return None;
        }
        let stage = Stage { field: settings.field.into_inner() };
        let columns = Columns::Known(vec!["word".into(), "times".into()]);
        Some(cx.compiled(Work::Table(Arc::new(stage)), columns, vec!["word".into()]))
    }
}

impl TableStage for Stage {
    /// All that the table depends on beside its inputs: whatever changes here makes it stale.
    fn describe(&self, components: &mut dyn Components) {
        components.add("field", &self.field);
    }

    fn make<'a>(
        &'a self,
        inputs: Vec<Input>,
        mut sink: Sink,
        world: &'a World,
    ) -> BoxFuture<'a, Result<Sink, StageError>> {
        Box::pin(async move {
            let mut times: BTreeMap<String, u64> = BTreeMap::new();
            for row in world.store.rows(&inputs[0].artifact) {
                let row = row?;
                let text = row.get(&self.field).and_then(|value| value.as_str()).unwrap_or("");
                for word in text.split_whitespace() {
                    *times.entry(word.to_lowercase()).or_default() += 1;
                }
            }
            for (word, times) in times {
                let row = [("word".to_owned(), json!(word)), ("times".to_owned(), json!(times))];
                sink.push(&Row::from_iter(row))?;
            }
            Ok(sink)
        })
    }
}

#[tokio::main]
pub async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::temp_dir().join("flow-own-kind");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("pipeline.toml"), MANIFEST)?;
    let options = LoadOptions {
        folder: folder.clone(),
        kinds: Kinds::default().with(&Words),
        ..LoadOptions::default()
    };
    let pipeline = match Pipeline::load(&options) {
        Ok(pipeline) => pipeline,
        Err(problems) => return Err(problems.render(false).into()),
    };
    let planned = pipeline.plan(RunOptions::default())?;
    println!("{} calls to make", planned.plan().effort.calls);
    let mut run = planned.run();
    while let Some(event) = run.next().await {
        if let Event::StageEnded(stage) = event {
            println!("{}: {}, {} rows", stage.name, stage.state.as_str(), stage.rows);
        }
    }
    run.summary().await?;
    print!("{}", std::fs::read_to_string(folder.join("data/words.csv"))?);
    Ok(())
}
