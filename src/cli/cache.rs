//! `flow cache`

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};

use super::style::{Style, bytes, columns, count, grouped};
use super::{Exit, Shared};
use crate::engine::{Forgotten, Spare, clear, collect, find};
use crate::manifest::{clean, parse_age};
use crate::pipeline::Pipeline;
use crate::stages::StageError;
use crate::store::{Collected, Lock, Sizes, Store, StoreError, Verified};

#[derive(Args)]
#[command(after_help = "Examples:
  flow cache stats
  flow cache gc --dry-run")]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Tell how much the store holds of what
    #[command(after_help = "Example:
  flow cache stats --json")]
    Stats {
        /// Print it as one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Read everything that is stored, and drop what is damaged, so that it is made again
    #[command(after_help = "Example:
  flow cache verify")]
    Verify {
        /// Print it as one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Forget what a stage made, so that it runs again on recorded answers
    #[command(after_help = "Example:
  flow cache clear classify")]
    Clear {
        stage: String,
        /// Forget its answers, too: they are asked for, and paid for, again
        #[arg(long)]
        answers: bool,
    },
    /// Collect what neither the manifest under any profile nor the last runs can reach; answers of
    /// models are kept
    #[command(after_help = "Example:
  flow cache gc --older-than 90d --dry-run")]
    Gc {
        /// Keep what the last N runs made and left
        #[arg(long, value_name = "N", default_value_t = 10)]
        keep_last: u32,
        /// Collect only what is older: 12h, 90d, 4w
        #[arg(long, value_name = "AGE", value_parser = age)]
        older_than: Option<Duration>,
        /// Only tell what would be collected
        #[arg(long)]
        dry_run: bool,
        /// Print it as one JSON object
        #[arg(long)]
        json: bool,
    },
}

fn age(text: &str) -> Result<Duration, String> {
    parse_age(text).ok_or_else(|| "it is no length of time, such as 12h, 90d or 4w".into())
}

pub(super) fn main(arguments: &Arguments, shared: &Shared, style: &Style) -> Exit {
    let done = match &arguments.what {
        What::Stats { json } => stats(*json, shared, style),
        What::Verify { json } => verify(*json, shared, style),
        What::Clear { stage, answers } => forget(stage, *answers, shared, style),
        What::Gc { keep_last, older_than, dry_run, json } => {
            let before = |age| SystemTime::now().checked_sub(age).unwrap_or(UNIX_EPOCH);
            let before = older_than.map(before);
            let spare = Spare { keep_last: *keep_last, before, dry_run: *dry_run };
            gc(spare, *json, shared, style)
        }
    };
    done.unwrap_or_else(|exit| exit)
}

/// What a fault of the store is told as.
fn failed(error: StageError, style: &Style) -> Exit {
    match error {
        StageError::Store(StoreError::Locked { holder }) => style.error(&format!(
            "a run works here (process {holder}); wait for it to end, and try again"
        )),
        error => style.error(&error.to_string()),
    }
    Exit::Incomplete
}

/// The store in `cache` with its lock; `None` where there is none yet, which is told.
fn opened(cache: &Path, style: &Style) -> Result<Option<(Lock, Store)>, Exit> {
    if !cache.join("flow.db").exists() {
        style.say("nothing is stored yet");
        return Ok(None);
    }
    let locked = Lock::take(cache).and_then(|lock| Ok((lock, Store::open(cache)?)));
    locked.map(Some).map_err(|error| failed(error.into(), style))
}

fn json_line(value: &impl serde::Serialize) -> String {
    format!("{}\n", serde_json::to_string(value).expect("it always serializes"))
}

fn stats(json: bool, shared: &Shared, style: &Style) -> Result<Exit, Exit> {
    let cache = shared.cache(style)?;
    let sizes = Store::open_to_read(&cache).and_then(|store| match store {
        Some(store) => store.sizes(),
        None => Ok(Sizes::default()),
    });
    let sizes = sizes.map_err(|error| failed(error.into(), style))?;
    match json {
        true => style.result(&json_line(&sizes)),
        false => style.result(&told_sizes(&sizes)),
    }
    Ok(Exit::Done)
}

fn told_sizes(sizes: &Sizes) -> String {
    let line = |what: &str, number: u64, size: Option<u64>| {
        vec![what.to_owned(), grouped(number), size.map(bytes).unwrap_or_default()]
    };
    let mut lines = vec![
        line("answers of GitHub", sizes.github_calls, Some(sizes.github_bytes)),
        line("answers of models", sizes.model_calls, Some(sizes.model_bytes)),
        line("  asked for again since", sizes.replaced_calls, Some(sizes.replaced_bytes)),
        line("rows remembered", sizes.memo_rows, Some(sizes.memo_bytes)),
        line("tables", sizes.tables, None),
        line("runs", sizes.runs, None),
        line("objects", sizes.objects, Some(sizes.object_bytes)),
    ];
    lines.push(vec!["the database".into(), String::new(), bytes(sizes.database_bytes)]);
    columns(&lines, &[1, 2])
}

fn verify(json: bool, shared: &Shared, style: &Style) -> Result<Exit, Exit> {
    let cache = shared.cache(style)?;
    let verified = match opened(&cache, style)? {
        None => Verified::default(),
        Some((lock, store)) => store.verify(&lock).map_err(|error| failed(error.into(), style))?,
    };
    if json {
        style.result(&json_line(&verified));
    }
    for what in &verified.damaged {
        style.warn(&format!("damaged and dropped: {}", clean(what)));
    }
    let read = grouped(verified.entries);
    if verified.damaged.is_empty() {
        style.say(&format!("none of {read} entries is damaged"));
        return Ok(Exit::Done);
    }
    let (dropped, tables) =
        (grouped(verified.damaged.len() as u64), count(verified.tables, "table"));
    style.warn(&format!(
        "{dropped} of {read} entries dropped, {tables} to be made again: `flow run` does that, and \
         asks again for dropped answers that it needs"
    ));
    Ok(Exit::Incomplete)
}

fn forget(name: &str, answers: bool, shared: &Shared, style: &Style) -> Result<Exit, Exit> {
    let pipeline = shared.load(style)?;
    let at = find(&pipeline, name).map_err(|error| {
        style.error(&error.to_string());
        Exit::Wrong
    })?;
    let Some((lock, store)) = opened(&pipeline.cache(), style)? else { return Ok(Exit::Done) };
    let forgotten = clear(&pipeline, at, &store, answers, &lock);
    let forgotten = forgotten.map_err(|error| failed(error, style))?;
    style.say(&told_forgotten(&pipeline.stages[at].name, answers, &forgotten));
    Ok(Exit::Done)
}

fn told_forgotten(stage: &str, answers: bool, forgotten: &Forgotten) -> String {
    let Forgotten { cleared, tokens_in, tokens_out, cost_usd } = forgotten;
    let rows = count(cleared.memo_rows, "remembered row");
    let tables = count(cleared.tables, "table");
    if !answers {
        return format!(
            "`{stage}`: {rows} and {tables} forgotten; it runs again on recorded answers"
        );
    }
    let calls = count(cleared.calls, "answer");
    let mut text = format!("`{stage}`: {rows}, {tables} and {calls} forgotten");
    if cleared.calls > 0 {
        text.push_str("; to ask again takes as much as it took: ");
        text.push_str(&count(cleared.calls, "call"));
    }
    if tokens_in + tokens_out > 0 {
        let (tokens_in, tokens_out) = (grouped(*tokens_in), grouped(*tokens_out));
        text.push_str(&format!(", {tokens_in} tokens in, {tokens_out} out"));
    }
    if *cost_usd > 0.0 {
        text.push_str(&format!(", ${cost_usd:.4}"));
    }
    text
}

fn gc(spare: Spare, json: bool, shared: &Shared, style: &Style) -> Result<Exit, Exit> {
    let pipelines = under_each_profile(shared, style)?;
    let collected = match opened(&shared.cache(style)?, style)? {
        None => Ok(Collected::default()),
        Some((lock, store)) => collect(&pipelines, &store, spare, &lock),
    };
    let collected = collected.map_err(|error| failed(error, style))?;
    match json {
        true => style.result(&json_line(&collected)),
        false => style.result(&told_collected(&collected, spare.dry_run)),
    }
    Ok(Exit::Done)
}

/// The pipeline as it is without a profile and under each one: with a mistake in any of them it is
/// not known what is reached.
fn under_each_profile(shared: &Shared, style: &Style) -> Result<Vec<Pipeline>, Exit> {
    let plain = shared.load_under(None, style)?;
    let profiles = plain.profiles.clone();
    let mut pipelines = vec![plain];
    for profile in profiles {
        pipelines.push(shared.load_under(Some(&profile), style)?);
    }
    Ok(pipelines)
}

fn told_collected(collected: &Collected, dry_run: bool) -> String {
    let Collected { memo_rows, tables, github_calls, objects, object_bytes, database_bytes } =
        collected;
    let word = if dry_run { "would be collected" } else { "collected" };
    format!(
        "{word}: {}, {}, {}, {} ({}), and {} of the database\n",
        count(*memo_rows, "remembered row"),
        count(*tables, "table"),
        count(*github_calls, "GitHub answer"),
        count(*objects, "object"),
        bytes(*object_bytes),
        bytes(*database_bytes),
    )
}
