//! What happened to an item, in order: the common source of REST timelines and GraphQL's.

use crate::item::Item;
use crate::world::{Repo, World};
use serde_json::Value;
use std::sync::Arc;

pub struct Event<'a> {
    pub at: String,
    pub actor: String,
    pub what: What<'a>,
}

pub enum What<'a> {
    Labeled(String),
    /// The item's comment at this place.
    Commented(usize),
    /// The item's review at this place.
    Reviewed(usize),
    CrossReferenced {
        source: Handle<'a>,
        closes: bool,
    },
    /// By hand, or no longer; a recorded event does not say with which pull request.
    Linked {
        pull: Option<Handle<'a>>,
        undone: bool,
    },
    Closed {
        by: Option<Handle<'a>>,
        commit: Option<String>,
    },
    Reopened,
    /// Of a kind that is still to come.
    Strange,
    Merged {
        commit: String,
    },
}

/// An item and the repository it is in.
#[derive(Clone)]
pub struct Handle<'a> {
    pub repo: &'a Repo,
    pub item: Arc<Item>,
}

impl What<'_> {
    /// GitHub's name of the event in REST.
    pub fn name(&self) -> &'static str {
        match self {
            What::Labeled(_) => "labeled",
            What::Commented(_) => "commented",
            What::Reviewed(_) => "reviewed",
            What::CrossReferenced { .. } => "cross-referenced",
            What::Linked { undone: false, .. } => "connected",
            What::Linked { undone: true, .. } => "disconnected",
            What::Closed { .. } => "closed",
            What::Reopened => "reopened",
            What::Strange => "added_to_project_v9",
            What::Merged { .. } => "merged",
        }
    }
}

pub fn events<'a>(world: &'a World, repo: &'a Repo, item: &Item) -> Vec<Event<'a>> {
    if let Some(thread) = &item.thread {
        return thread.timeline.iter().filter_map(|event| recorded(world, event)).collect();
    }
    let mut events = Vec::new();
    let mut add = |at: &str, actor: &str, what| {
        events.push(Event { at: at.to_owned(), actor: actor.to_owned(), what });
    };
    if world.strange {
        add(&item.created_at, &item.user, What::Strange);
    }
    for label in &item.labels {
        add(&item.created_at, &item.user, What::Labeled(label.clone()));
    }
    for (nth, comment) in item.comments.iter().enumerate() {
        add(&comment.created_at, &comment.user, What::Commented(nth));
    }
    for (nth, review) in item.reviews.iter().enumerate() {
        add(&review.submitted_at, &review.user, What::Reviewed(nth));
    }
    let closers = if item.is_pull() { Vec::new() } else { repo.closers(item.number) };
    // Who links by hand does so because no text did.
    for pull in closers.iter().filter(|pull| !item.connected.contains(&pull.html_url)) {
        let source = Handle { repo, item: pull.clone() };
        add(&pull.created_at, &pull.user, What::CrossReferenced { source, closes: true });
    }
    for source in item.mentioned_by.iter().filter_map(|url| by_address(world, url)) {
        let Item { created_at, user, .. } = &*source.item.clone();
        add(created_at, user, What::CrossReferenced { source, closes: false });
    }
    for url in item.connected.iter().chain(&item.disconnected) {
        let pull = by_address(world, url);
        let own = &item.created_at;
        let at = pull.as_ref().map_or(own, |pull| own.max(&pull.item.created_at)).clone();
        add(&at, &item.user, What::Linked { pull: pull.clone(), undone: false });
        if item.disconnected.contains(url) {
            add(&at, &item.user, What::Linked { pull, undone: true });
        }
    }
    let actor = closed_by(item);
    if let Some(at) = &item.merged_at {
        add(at, actor, What::Merged { commit: repo.commit("merge", item.number) });
    }
    if let Some(at) = item.closed_at.as_ref().filter(|_| item.is_closed()) {
        // What was merged later did not close it, and a commit that did is no pull request.
        let merged = |pull: &&Arc<Item>| pull.merged_at.as_ref().is_some_and(|merged| merged <= at);
        let by = closers.iter().find(merged).filter(|_| item.closing_commit.is_none());
        let by = by.map(|pull| Handle { repo, item: pull.clone() });
        let commit = by.as_ref().map(|by| repo.commit("merge", by.item.number));
        let commit = commit.or_else(|| item.closing_commit.clone());
        add(at, actor, What::Closed { by, commit });
    }
    events.sort_by(|one, other| one.at.cmp(&other.at));
    events
}

/// Who closed or merged an item: nobody recorded it, so the author did.
pub fn closed_by(item: &Item) -> &str {
    &item.user
}

/// An event of a recorded timeline, if it is of a kind known here.
fn recorded<'a>(world: &'a World, event: &Value) -> Option<Event<'a>> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let what = match event["event"].as_str()? {
        "labeled" => What::Labeled(text(&event["label"]["name"])?),
        "cross-referenced" => {
            let source = by_address(world, event["source"]["issue"]["html_url"].as_str()?)?;
            What::CrossReferenced { source, closes: false }
        }
        name @ ("connected" | "disconnected") => {
            What::Linked { pull: None, undone: name == "disconnected" }
        }
        "closed" => What::Closed { by: None, commit: text(&event["commit_id"]) },
        "reopened" => What::Reopened,
        "merged" => What::Merged { commit: text(&event["commit_id"])? },
        _ => return None,
    };
    let actor = text(&event["actor"]["login"]).unwrap_or_else(|| "ghost".to_owned());
    Some(Event { at: text(&event["created_at"])?, actor, what })
}

fn by_address<'a>(world: &'a World, url: &str) -> Option<Handle<'a>> {
    let mut parts = url.rsplit('/');
    let number = parts.next()?.parse().ok()?;
    let (_, name, owner) = (parts.next()?, parts.next()?, parts.next()?);
    let repo = world.find(&format!("{owner}/{name}")).anywhere()?;
    Some(Handle { repo, item: repo.item(number)? })
}
