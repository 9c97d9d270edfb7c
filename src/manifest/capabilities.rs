//! What a model cannot be asked with: settings that its API does not have, and those that OpenAI's own
//! models refuse. Servers that are not known take whatever the API has; `body` sends anything.

use super::types::{ModelApi, ModelSection, OPENAI, Text};

/// A setting of `[models.NAME]` that is of no use there.
pub struct Unsupported {
    pub setting: &'static str,
    pub why: String,
    pub help: &'static str,
}

/// Models of OpenAI by the beginning of their names, and what they refuse.
struct Family {
    names: &'static [&'static str],
    refuses: fn(&ModelSection) -> Vec<(&'static str, &'static str)>,
}

const FAMILIES: [Family; 2] = [
    Family { names: &["o1", "o3", "o4", "gpt-5"], refuses: reasoning },
    Family { names: &["gpt-4", "gpt-3.5", "chatgpt-4o"], refuses: plain },
];

/// All of what `model` cannot be asked with, of what it is told to be.
pub fn unsupported(model: &ModelSection) -> Vec<Unsupported> {
    let mut found = Vec::new();
    let (api, refused): (_, &[(&str, &str)]) = match model.api {
        ModelApi::Chat => {
            ("chat", &[("max_output_tokens", "write `max_tokens`, or `max_completion_tokens`")])
        }
        ModelApi::Responses => (
            "responses",
            &[
                ("max_tokens", "write `max_output_tokens`"),
                ("max_completion_tokens", "write `max_output_tokens`"),
                ("seed", "leave it out: the API has none"),
            ],
        ),
    };
    for (setting, help) in refused.iter().filter(|(setting, _)| is_set(model, setting)) {
        let why = format!("the API `{api}` has no `{setting}`");
        found.push(Unsupported { setting, why, help });
    }
    // What can be chosen from an alias of a conversation is not told anywhere.
    let named = |family: &&Family| {
        family.names.iter().any(|name| model.model.starts_with(name))
            && !model.model.contains("-chat")
    };
    let openai = model.base_url == Text::Plain(OPENAI.into());
    let family = FAMILIES.iter().find(named).filter(|_| openai);
    let refused = family.map(|family| (family.refuses)(model)).unwrap_or_default();
    for (setting, help) in refused.into_iter().filter(|(setting, _)| is_set(model, setting)) {
        let why = format!("`{}` takes no `{setting}`", model.model);
        found.push(Unsupported { setting, why, help });
    }
    found
}

fn reasoning(model: &ModelSection) -> Vec<(&'static str, &'static str)> {
    let mut refused = Vec::new();
    if model.api == ModelApi::Chat {
        refused.push(("max_tokens", "write `max_completion_tokens`"));
    }
    // The newer ones do not think if they are told so, and are then as the others are.
    if model.reasoning_effort.as_deref() != Some("none") {
        let help = "leave it out; how sure it is, several answers tell (`samples`, `vote`)";
        refused.push(("temperature", "leave it out: a model that thinks chooses it itself"));
        refused.push(("top_p", "leave it out: a model that thinks chooses it itself"));
        refused.push(("logprobs", help));
    }
    refused
}

fn plain(_: &ModelSection) -> Vec<(&'static str, &'static str)> {
    vec![("reasoning_effort", "leave it out: it does not think before it answers")]
}

fn is_set(model: &ModelSection, setting: &str) -> bool {
    match setting {
        "temperature" => model.temperature.is_some(),
        "top_p" => model.top_p.is_some(),
        "seed" => model.seed.is_some(),
        "max_tokens" => model.max_tokens.is_some(),
        "max_completion_tokens" => model.max_completion_tokens.is_some(),
        "max_output_tokens" => model.max_output_tokens.is_some(),
        "reasoning_effort" => model.reasoning_effort.is_some(),
        "logprobs" => model.logprobs.is_some(),
        _ => false,
    }
}
