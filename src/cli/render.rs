//! `flow render`

use std::io::IsTerminal;

use clap::Args;
use serde_json::{Value, json};

use super::rows::refused;
use super::style::{Style, count, grouped};
use super::why::{MESSAGES, messages};
use super::{Exit, Shared};
use crate::clients::{Request, Service};
use crate::engine::{AskedRow, Look, LookError, Which, asked_rows, find, recorded};
use crate::manifest::clean;
use crate::programs::tokens;

#[derive(Args)]
#[command(after_help = "Example:
  flow render classify --row number=12")]
pub(super) struct Arguments {
    /// The stage: one that asks a model, or GitHub
    stage: String,
    /// A row that it reads: the values of its key with commas between them, or `field=value`
    #[arg(long, value_name = "KEY")]
    row: String,
    /// Print the bodies as they are sent, one a line (indented on a terminal)
    #[arg(long)]
    json: bool,
}

pub(super) fn main(arguments: &Arguments, shared: &Shared, style: &Style) -> Exit {
    let pipeline = match shared.load(style) {
        Ok(pipeline) => pipeline,
        Err(exit) => return exit,
    };
    let at = match find(&pipeline, &arguments.stage) {
        Ok(at) => at,
        Err(error) => {
            style.error(&error.to_string());
            return Exit::Wrong;
        }
    };
    let text = Look::new(&pipeline).and_then(|look| {
        let rows = asked_rows(&look, at, Which::Row(&arguments.row))?;
        match arguments.json {
            true => Ok(rows.iter().flat_map(|row| &row.ask.requests).map(body).collect()),
            false => {
                let told: Result<String, _> = rows.iter().map(|row| told(&look, row)).collect();
                Ok(format!("`{}` asks about {}", pipeline.stages[at].name, told?))
            }
        }
    });
    match text {
        Ok(text) => {
            style.result(&text);
            Exit::Done
        }
        Err(error) => refused(&error, style),
    }
}

/// The body's very bytes, or the address where there is none.
fn body(request: &Request) -> String {
    let bytes = match request.body.is_empty() {
        true => {
            let address = json!({ "method": request.method.as_str(), "url": request.url });
            address.to_string().into_bytes()
        }
        false => request.body.to_vec(),
    };
    let text = String::from_utf8_lossy(&bytes);
    if !std::io::stdout().is_terminal() {
        return format!("{text}\n");
    }
    let pretty =
        serde_json::from_str(&text).and_then(|it: Value| serde_json::to_string_pretty(&it));
    format!("{}\n", clean(&pretty.unwrap_or(text.into_owned())))
}

fn told(look: &Look<'_>, row: &AskedRow) -> Result<String, LookError> {
    let mut text = format!("{}\n", clean(&row.key));
    let mut before: Vec<Value> = Vec::new();
    for request in &row.ask.requests {
        text.push_str(&format!("{}\n", clean(&request.shown())));
        let answer = match recorded(look, request)? {
            None => "not answered yet".to_owned(),
            Some(answer) => {
                let source = clean(&answer.source.0);
                match answer.given.run {
                    0 => format!("answered {} by {source}, recorded", answer.status),
                    run => format!("answered {} by {source}, in run {run}", answer.status),
                }
            }
        };
        let key = request.key().0.hex();
        text.push_str(&format!("call {}, sample {}: {answer}\n", &key[..12], request.sample));
        let Ok(body) = serde_json::from_slice::<Value>(&request.body) else { continue };
        match request.service {
            Service::Github => text.push_str(&query(&body)),
            Service::Model => {
                let messages = messages(&body);
                text.push_str(&settings(&body));
                match messages == before {
                    true => text.push_str("--- the same messages\n"),
                    false => text.push_str(&told_messages(&messages, row.ask.tokens_cut)),
                }
                before = messages;
            }
        }
    }
    if row.ask.requests.is_empty() {
        text.push_str("nothing: it has no address to ask\n");
    }
    Ok(text)
}

/// A GraphQL query with what it asks about.
fn query(body: &Value) -> String {
    let query = clean(body["query"].as_str().unwrap_or_default());
    let mut text = format!("--- query\n{}\n", query.trim_end());
    if let Some(variables) = body.get("variables") {
        text.push_str(&format!("--- variables\n{}\n", clean(&variables.to_string())));
    }
    text
}

/// What a request to a model says beside its messages.
fn settings(body: &Value) -> String {
    let fields = body.as_object().into_iter().flatten();
    let others = fields.filter(|(name, _)| !MESSAGES.contains(&name.as_str()));
    let line = |(name, value): (&String, &Value)| clean(&format!("  {name}: {value}\n"));
    others.map(line).collect()
}

/// Messages as they are, with what they take.
fn told_messages(messages: &[Value], tokens_cut: u64) -> String {
    let mut text = String::new();
    let mut all = 0;
    for message in messages {
        let role = match message["role"].as_str().unwrap_or("?") {
            "user" => "prompt",
            role => role,
        };
        let said = message["content"].as_str().unwrap_or_default();
        let tokens = tokens::count(said) as u64;
        all += tokens;
        text.push_str(&format!("--- {}: {}\n", clean(role), count(tokens, "token")));
        text.push_str(&format!("{}\n", clean(said).trim_end_matches('\n')));
    }
    let cut = match tokens_cut {
        0 => "nothing was cut".to_owned(),
        cut => format!("{} of the row's texts were cut", count(cut, "token")),
    };
    let all = grouped(all);
    text + &format!("--- {all} tokens in all, as OpenAI's o200k counts them; {cut}\n")
}
