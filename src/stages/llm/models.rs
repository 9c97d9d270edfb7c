//! The models that a stage asks, with those that answer in their place.

use std::time::Duration;

use toml::Spanned;

use super::Settings;
use crate::clients::{BatchLimits, Chat, Pace};
use crate::manifest::{ModelSection, address, did_you_mean, with_fallbacks};
use crate::stages::{Compile, Secret, Server};

/// A model of `[models]`.
pub(super) struct Model {
    /// Its name there.
    pub name: String,
    pub section: ModelSection,
    pub chat: Chat,
}

/// A model that is asked, and then those that answer where the provider of the one before fails;
/// never empty.
pub(super) struct Chain(Vec<Model>);

impl Chain {
    pub fn all(&self) -> &[Model] {
        &self.0
    }

    pub fn first(&self) -> &Model {
        &self.0[0]
    }

    pub fn fallbacks(&self) -> &[Model] {
        &self.0[1..]
    }

    pub fn split_last(&self) -> (&Model, &[Model]) {
        self.0.split_last().expect("a chain has a first model")
    }
}

/// The models that a stage's settings name.
pub(super) fn chains(cx: &mut Compile<'_>, settings: &Settings) -> Option<Vec<Chain>> {
    let names = match (&settings.model, &settings.models) {
        (Some(model), None) => std::slice::from_ref(model),
        (None, Some(models)) if !models.get_ref().is_empty() => &models.get_ref()[..],
        (None, Some(models)) => {
            let help = "name those that are to be compared: `models = [\"a\", \"b\"]`";
            cx.fail(models.span(), "`models` names no model", Some(help.into()));
            return None;
        }
        (Some(_), Some(models)) => {
            let message = format!("stage `{}` has both `model` and `models`", cx.decl.name);
            cx.fail(models.span(), message, Some("name all of them in `models`".into()));
            return None;
        }
        (None, None) => {
            let message = format!("stage `{}` has no `model`", cx.decl.name);
            let help = "add `model = ...`, or `models = [...]` to compare some";
            cx.fail(cx.span(), message, Some(help.into()));
            return None;
        }
    };
    let mut chains = Vec::new();
    for (at, name) in names.iter().enumerate() {
        if names[..at].iter().any(|before| before.get_ref() == name.get_ref()) {
            let message = format!("the model `{}` is named twice", name.get_ref());
            cx.fail(name.span(), message, Some("name it once".into()));
            continue;
        }
        chains.push(chain(cx, name, settings.batch));
    }
    // Those that cannot be asked were told, each of them.
    let sound = chains.len() == names.len();
    chains.into_iter().collect::<Option<_>>().filter(|_| sound)
}

fn chain(cx: &mut Compile<'_>, name: &Spanned<String>, batch: bool) -> Option<Chain> {
    let manifest = cx.manifest;
    if !manifest.models.contains_key(name.get_ref()) {
        let known = manifest.models.keys().map(String::as_str);
        let help = did_you_mean(name.get_ref(), known)
            .unwrap_or_else(|| format!("add `[models.{}]`", name.get_ref()));
        cx.fail(name.span(), format!("there is no model `{}`", name.get_ref()), Some(help));
        return None;
    }
    let names = with_fallbacks(&manifest.models, name.get_ref()).into_iter();
    let models: Vec<_> = names.map(|model| self::model(model, &manifest.models[model])).collect();
    let mut models: Vec<Model> = models.into_iter().collect::<Option<_>>()?;
    // What answers in the place of another is asked at once.
    if let Some(first) = models.first_mut().filter(|_| batch) {
        first.chat.batch = Some(batch_limits(&first.section));
    }
    Some(Chain(models))
}

/// As many as providers take in one batch.
const MOST_IN_BATCH: u64 = 50_000;

fn batch_limits(model: &ModelSection) -> BatchLimits {
    let requests = model.limits.batch_requests.map_or(MOST_IN_BATCH, |most| most.get().into());
    BatchLimits { requests, tokens: model.limits.batch_tokens.map(|most| most.get()) }
}

/// The model `name`, told of where the stage names it, or the one that it answers for.
fn model(name: &str, section: &ModelSection) -> Option<Model> {
    // One that cannot be used was told, and replaced, when the manifest was read.
    let base_url = address(&section.base_url.resolve().ok()?).ok()?;
    let chat = Chat {
        base_url,
        api: section.api,
        auth: section.api_key.as_ref().map(|key| key.env.clone()),
        timeout: Duration::from_secs(section.timeout.get()),
        attempts: section.attempts.get(),
        pace: Pace {
            concurrency: section
                .limits
                .concurrency
                .unwrap_or(const { std::num::NonZeroUsize::new(256).unwrap() }),
            requests_per_minute: section.limits.requests_per_minute,
            tokens_per_minute: section.limits.tokens_per_minute,
            tokens: 0,
            burst: 0.005,
            adaptive: true,
        },
        max_tokens: section
            .max_output_tokens
            .or(section.max_completion_tokens)
            .or(section.max_tokens),
        price: section.price,
        batch: None,
        pool: section.model.clone(),
    };
    Some(Model { name: name.to_owned(), section: section.clone(), chat })
}

impl Model {
    pub fn server(&self) -> Server<'_> {
        Server::Model { name: &self.name, chat: &self.chat }
    }

    pub fn secret(&self) -> Option<Secret> {
        let variable = self.chat.auth.clone()?;
        Some(Secret { variable, of: format!("model `{}`", self.name), required: true })
    }

    /// Whether it is known what a call costs at the most.
    pub fn is_bounded(&self) -> bool {
        self.chat.price.is_some() && self.chat.max_tokens.is_some()
    }
}
