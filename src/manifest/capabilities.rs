//! What a model cannot be asked with: settings that its API does not have, and those that OpenAI's own
//! models refuse. Servers that are not known take whatever the API has; `body` sends what else there is.

use super::address::address;
use super::problem::did_you_mean;
use super::types::{ModelApi, ModelSection, OPENAI, Text};

/// A setting of `[models.NAME]` that is of no use there.
pub struct Unsupported {
    pub setting: &'static str,
    pub why: String,
    pub help: String,
}

/// Models of OpenAI by the beginning of their names, and what they refuse.
struct Family {
    names: &'static [&'static str],
    refuses: fn(&ModelSection) -> Vec<(&'static str, &'static str)>,
}

/// The least that OpenAI's API `responses` takes as `max_output_tokens`.
const FEWEST_OUTPUT_TOKENS: u32 = 16;

/// How much a model of OpenAI can be told to think.
const EFFORTS: [&str; 7] = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];

/// The first that fits counts.
const FAMILIES: [Family; 3] = [
    Family { names: &["gpt-5.", "gpt-6"], refuses: willing },
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
        found.push(Unsupported { setting, why, help: (*help).into() });
    }
    if model.max_tokens.is_some() && model.max_completion_tokens.is_some() {
        let why = "`max_tokens` and `max_completion_tokens` are one limit".into();
        found.push(Unsupported { setting: "max_tokens", why, help: "keep one of the two".into() });
    }
    let few = model.max_output_tokens.is_some_and(|most| most < FEWEST_OUTPUT_TOKENS);
    if few && model.api == ModelApi::Responses && is_openai(&model.base_url) {
        let why = format!("the API `responses` takes no fewer than {FEWEST_OUTPUT_TOKENS}");
        let help = "write a larger one".into();
        found.push(Unsupported { setting: "max_output_tokens", why, help });
    }
    found.extend(in_body(model));
    found.extend(out_of_range(model));
    // One that was tuned takes what the one that it was made of takes.
    let name = model.model.strip_prefix("ft:").unwrap_or(&model.model);
    // What can be chosen from an alias of a conversation is not told anywhere.
    let named = |family: &&Family| {
        family.names.iter().any(|beginning| name.starts_with(beginning)) && !name.contains("-chat")
    };
    let family = FAMILIES.iter().find(named).filter(|_| is_openai(&model.base_url));
    let refused = family.map(|family| (family.refuses)(model)).unwrap_or_default();
    for (setting, help) in refused.into_iter().filter(|(setting, _)| is_set(model, setting)) {
        let why = format!("`{}` takes no `{setting}`", model.model);
        found.push(Unsupported { setting, why, help: help.into() });
    }
    found
}

fn is_openai(base_url: &Text) -> bool {
    base_url.resolve().is_ok_and(|url| address(&url).is_ok_and(|url| url == OPENAI))
}

/// What `body` cannot hold: what a request is made of, and what decides how an answer is read and what
/// it can cost.
fn in_body(model: &ModelSection) -> Vec<Unsupported> {
    let limit = "it bounds what a call costs: write it beside `model`";
    let refused = [
        ("model", "write it as the model's `model`"),
        ("messages", "it is made of the stage's `system` and `prompt`"),
        ("input", "it is made of the stage's `system` and `prompt`"),
        ("n", "write `samples` at the stage: each is asked, kept and paid for by itself"),
        ("stream", "answers are taken whole"),
        ("stream_options", "answers are taken whole"),
        ("response_format", "it is made of the stage's `schema` and `answers`"),
        ("max_tokens", limit),
        ("max_completion_tokens", limit),
        ("max_output_tokens", limit),
    ];
    let held = refused.into_iter().filter(|(name, _)| model.body.contains_key(*name));
    let mut found: Vec<Unsupported> = held
        .map(|(name, help)| Unsupported {
            setting: "body",
            why: format!("`body` cannot hold `{name}`"),
            help: help.into(),
        })
        .collect();
    if model.body.get("text").is_some_and(|text| text.get("format").is_some()) {
        let help = "it is made of the stage's `schema` and `answers`".into();
        let why = "`body` cannot hold `text.format`".into();
        found.push(Unsupported { setting: "body", why, help });
    }
    found
}

/// Values that the API does not have.
fn out_of_range(model: &ModelSection) -> Vec<Unsupported> {
    let mut found = Vec::new();
    for (setting, value, most) in
        [("temperature", model.temperature, 2.0), ("top_p", model.top_p, 1.0)]
    {
        // What cannot be a number of that sort at all is told where it is used.
        if let Some(value) = value.filter(|value| *value > most) {
            let why = format!("`{setting}` is {value}");
            found.push(Unsupported { setting, why, help: format!("it is {most} at the most") });
        }
    }
    let effort = model.reasoning_effort.as_deref().filter(|_| is_openai(&model.base_url));
    if let Some(effort) = effort.filter(|effort| !EFFORTS.contains(effort)) {
        let why = format!("there is no `reasoning_effort` `{effort}`");
        let help = did_you_mean(effort, EFFORTS).unwrap_or_default();
        found.push(Unsupported { setting: "reasoning_effort", why, help });
    }
    found
}

/// Whether `model`'s server holds an answer to a strict schema, as far as it is known.
pub fn takes_schemas(model: &ModelSection) -> bool {
    // Each and its dated versions.
    const WITHOUT: [&str; 6] =
        ["gpt-3.5", "gpt-4", "gpt-4-turbo", "o1-mini", "o1-preview", "gpt-4o-2024-05-13"];
    let name = model.model.strip_prefix("ft:").unwrap_or(&model.model);
    let is = |one: &str| {
        name.strip_prefix(one).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', ':']))
    };
    !(is_openai(&model.base_url) && WITHOUT.iter().any(|one| is(one)))
}

/// Those that think, whatever they are told.
fn reasoning(model: &ModelSection) -> Vec<(&'static str, &'static str)> {
    let help = "leave it out: a model that thinks chooses it itself";
    let votes = "leave it out; how sure it is, several answers tell (`samples`, `vote`)";
    let mut refused = vec![("temperature", help), ("top_p", help), ("logprobs", votes)];
    refused.extend(limit(model));
    refused
}

/// Those that think unless they are told not to, and are then as the others are.
fn willing(model: &ModelSection) -> Vec<(&'static str, &'static str)> {
    let help = "leave it out, or let it not think (`reasoning_effort = \"none\"`)";
    let thinks = model.reasoning_effort.as_deref() != Some("none");
    let settings = ["temperature", "top_p", "logprobs"].into_iter().filter(|_| thinks);
    settings.map(|setting| (setting, help)).chain(limit(model)).collect()
}

/// The API for chats has two names for the longest answer, and models that think know the newer one.
fn limit(model: &ModelSection) -> Option<(&'static str, &'static str)> {
    (model.api == ModelApi::Chat).then_some(("max_tokens", "write `max_completion_tokens`"))
}

/// Those that do not think.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The settings of `model` that are refused.
    fn refused(model: ModelSection) -> Vec<&'static str> {
        unsupported(&model).into_iter().map(|it| it.setting).collect()
    }

    fn warm(name: &str, effort: Option<&str>) -> ModelSection {
        ModelSection {
            model: name.into(),
            temperature: Some(0.0),
            reasoning_effort: effort.map(str::to_owned),
            ..ModelSection::default()
        }
    }

    #[test]
    fn what_thinks_takes_no_temperature() {
        for name in ["o1", "o3-mini", "o4-mini", "gpt-5", "gpt-5-nano", "ft:gpt-5-mini:us"] {
            assert_eq!(refused(warm(name, None)), ["temperature"], "{name}");
            assert_eq!(refused(warm(name, Some("none"))), ["temperature"], "{name}");
        }
        for name in ["gpt-5.1", "gpt-5.2-2025-12-11", "gpt-6-luna"] {
            assert_eq!(refused(warm(name, None)), ["temperature"], "{name}");
            assert_eq!(refused(warm(name, Some("low"))), ["temperature"], "{name}");
            assert_eq!(refused(warm(name, Some("none"))), [""; 0], "{name}");
        }
        for name in ["gpt-4.1", "ft:gpt-4o-mini:us", "gpt-5-chat-latest", "another"] {
            assert_eq!(refused(warm(name, None)), [""; 0], "{name}");
        }
    }

    #[test]
    fn a_limit_is_said_once_and_is_one_that_the_api_takes() {
        let both = ModelSection {
            model: "gpt-4.1".into(),
            max_tokens: Some(50),
            max_completion_tokens: Some(50),
            ..ModelSection::default()
        };
        assert_eq!(refused(both), ["max_tokens"]);
        for (most, told) in [(15, &["max_output_tokens"][..]), (16, &[])] {
            let few = ModelSection {
                model: "gpt-4.1".into(),
                api: ModelApi::Responses,
                max_output_tokens: Some(most),
                ..ModelSection::default()
            };
            assert_eq!(refused(few), told);
        }
    }

    #[test]
    fn only_what_openai_serves_is_known() {
        let at = |base_url: &str| ModelSection {
            base_url: Text::Plain(base_url.into()),
            ..warm("gpt-5", None)
        };
        assert_eq!(refused(at("https://api.openai.com/v1/")), ["temperature"]);
        assert_eq!(refused(at("http://localhost:8000/v1")), [""; 0]);
    }

    #[test]
    fn what_thinks_knows_the_newer_name_of_the_longest_answer() {
        let limited = |model: &str, api| {
            let (max_tokens, model) = (Some(5), model.into());
            refused(ModelSection { model, api, max_tokens, ..ModelSection::default() })
        };
        assert_eq!(limited("gpt-5", ModelApi::Chat), ["max_tokens"]);
        assert_eq!(limited("gpt-5.1", ModelApi::Chat), ["max_tokens"]);
        assert_eq!(limited("gpt-4.1", ModelApi::Chat), [""; 0]);
        assert_eq!(limited("gpt-5", ModelApi::Responses), ["max_tokens"], "it has neither");
    }

    #[test]
    fn what_a_request_is_made_of_is_not_set_beside_it() {
        let body = |json: serde_json::Value| {
            let body = serde_json::from_value(json).expect("an object");
            refused(ModelSection { model: "m".into(), body, ..ModelSection::default() })
        };
        for name in ["n", "stream", "messages", "max_completion_tokens", "response_format"] {
            assert_eq!(body(serde_json::json!({ name: 1 })), ["body"], "{name}");
        }
        assert_eq!(body(serde_json::json!({"text": {"format": {}}})), ["body"]);
        assert_eq!(body(serde_json::json!({"top_k": 1, "text": {"verbosity": "low"}})), [""; 0]);
    }

    #[test]
    fn values_that_the_api_does_not_have_are_told() {
        let hot =
            ModelSection { temperature: Some(7.5), top_p: Some(3.0), ..warm("gpt-4.1", None) };
        assert_eq!(refused(hot), ["temperature", "top_p"]);
        let told = unsupported(&warm("gpt-5", Some("hgih")));
        assert!(told.iter().any(|it| it.help.contains("`high`")));
    }

    #[test]
    fn old_models_hold_to_no_schema() {
        let takes = |name: &str| takes_schemas(&warm(name, None));
        for name in ["gpt-3.5-turbo", "gpt-4", "gpt-4-0613", "gpt-4-turbo", "o1-mini-2024-09-12"] {
            assert!(!takes(name), "{name}");
        }
        for name in ["gpt-4o", "gpt-4.1-mini", "gpt-4o-2024-08-06", "o1", "gpt-5", "another"] {
            assert!(takes(name), "{name}");
        }
    }
}
