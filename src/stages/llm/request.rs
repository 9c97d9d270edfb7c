//! A request's body: what all rows share, and what a row adds. Either API gets the same parts.

use serde_json::{Value, json};

use super::models::Model;
use super::{Answers, Stage};
use crate::clients::Api;
use crate::programs::Template;
use crate::stages::{Components, RowError};
use crate::table::Row;

/// The body of a row's request.
pub(super) struct Body {
    pub json: Value,
    /// How many tokens the templates left out of texts that are too long.
    pub tokens_cut: u64,
}

impl Stage {
    pub(super) fn describe_model(&self, model: &Model, components: &mut dyn Components) {
        components.add("base_url", &model.chat.base_url);
        components.add("request", &Value::Object(self.frame(model)).to_string());
    }

    /// The request's body without its messages: what every row's request to `model` shares.
    pub(super) fn frame(&self, model: &Model) -> Row {
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
            match (body.get_mut(name), value) {
                // How it talks stands beside the form of its answer.
                (Some(Value::Object(ours)), Value::Object(more)) if name == "text" => {
                    ours.extend(more.clone());
                }
                _ => drop(body.insert(name.clone(), value.clone())),
            }
        }
        body
    }

    pub(super) fn body(&self, model: &Model, row: &Row) -> Result<Body, RowError> {
        let mut tokens_cut = 0;
        let mut render = |template: &Template| {
            let rendered = template.render_telling(row);
            let rendered = rendered.map_err(|error| RowError::Row(error.to_string()))?;
            tokens_cut += rendered.tokens_cut;
            Ok::<_, RowError>(rendered.text)
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
        Ok(Body { json: Value::Object(body), tokens_cut })
    }
}

/// What the list of messages is called in a request.
pub(super) fn messages_of(api: Api) -> &'static str {
    match api {
        Api::Chat => "messages",
        Api::Responses => "input",
    }
}

/// The first request again, with the last bad answer and what was wrong with it; earlier ones are
/// left out, so that repairs do not grow.
pub(super) fn repair(first: &Value, messages: &str, said: &str, faults: &[String]) -> Value {
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
