//! The fields of the smaller objects: users, comments, reviews, events, and an item's plain fields.

use super::objects::{Answer, Found, Object, actor, event_kind, maybe, value};
use super::paging::Paging;
use crate::diff;
use crate::github::render::user_id;
use crate::item::{Item, LineComment};
use crate::timeline::{Event, Handle, What};
use crate::world::Repo;
use serde_json::{Value, json};

pub fn user(login: &str, name: &str) -> Value {
    // A bot's `[bot]` is written in REST only.
    let short = login.strip_suffix("[bot]").unwrap_or(login);
    let id = user_id(login);
    match name {
        "id" => json!(format!("U_kgDO{id}")),
        "databaseId" => json!(id),
        "url" => json!(format!("https://simulator.invalid/{short}")),
        "avatarUrl" => json!(format!("https://simulator.invalid/avatars/u/{id}?v=4")),
        "name" => Value::Null,
        _ => json!(short),
    }
}

/// The fields of an item that are no objects themselves.
pub fn item(repo: &Repo, item: &Item, name: &str) -> Value {
    let recorded = item.thread.as_ref().and_then(|thread| thread.issue["id"].as_u64());
    let id = recorded.unwrap_or_else(|| repo.number_id(item.number, u64::from(item.is_pull())));
    let sum = |count: fn(&diff::FileChange) -> u64| -> u64 {
        diff::files(&item.diff).iter().map(count).sum()
    };
    match name {
        "id" => json!(repo.node_id(item)),
        // Too large for GraphQL's Int these days, which is why GitHub has the full one.
        "databaseId" => json!(id),
        "fullDatabaseId" => json!(id.to_string()),
        "number" => json!(item.number),
        "title" => json!(item.title),
        "body" | "bodyText" => json!(item.body.as_deref().unwrap_or("")),
        "url" => json!(item.html_url),
        "state" if item.merged_at.is_some() => json!("MERGED"),
        "state" => json!(item.state.to_uppercase()),
        "stateReason" => json!(item.state_reason.as_ref().map(|reason| reason.to_uppercase())),
        "closed" => json!(item.is_closed()),
        "locked" => json!(false),
        "isDraft" => json!(item.draft),
        "merged" => json!(item.merged_at.is_some()),
        "mergedAt" => json!(item.merged_at),
        "createdAt" => json!(item.created_at),
        "updatedAt" => json!(item.updated_at),
        "closedAt" => json!(item.closed_at),
        "authorAssociation" => json!(item.author_association),
        "additions" => json!(sum(|file| file.additions)),
        "deletions" => json!(sum(|file| file.deletions)),
        "changedFiles" => json!(sum(|_| 1)),
        "baseRefName" => json!("main"),
        "baseRefOid" => json!(repo.commit("base", item.number)),
        "headRefName" => json!(format!("change-{}", item.number)),
        "headRefOid" => json!(repo.commit("head", item.number)),
        _ => Value::Null,
    }
}

pub fn comment<'a>(handle: &Handle<'a>, nth: usize, name: &str) -> Answer<'a> {
    let Handle { repo, item } = handle;
    let comment = &item.comments[nth];
    let id = repo.part_id(item.number, "comment", nth);
    match name {
        "id" => value(format!("IC_kwDO{id}")),
        "databaseId" => value(id),
        "author" => actor(&comment.user),
        "body" => value(comment.body.as_str()),
        "url" => value(format!("{}#issuecomment-{id}", item.html_url)),
        _ => value(comment.created_at.as_str()),
    }
}

pub fn review<'a>(handle: &Handle<'a>, nth: usize, page: &Paging) -> Answer<'a> {
    let Handle { repo, item } = handle;
    let review = &item.reviews[nth];
    let id = repo.part_id(item.number, "review", nth);
    match page.name {
        "id" => value(format!("PRR_kwDO{id}")),
        "databaseId" => value(id),
        "author" => actor(&review.user),
        "state" => value(review.state.as_str()),
        "body" => value(review.body.as_str()),
        "url" => value(format!("{}#pullrequestreview-{id}", item.html_url)),
        "comments" => {
            let comments = 0..review.comments.len();
            let comments = comments.map(|line| Object::LineComment(handle.clone(), nth, line));
            page.rows("PullRequestReviewComment", comments.collect())
        }
        _ => value(review.submitted_at.as_str()),
    }
}

/// A field of the inline comment at `place`: which review, which of its comments.
pub fn line_comment<'a>(handle: &Handle<'a>, place: (usize, usize), name: &str) -> Answer<'a> {
    let Handle { repo, item } = handle;
    let comment = &item.reviews[place.0].comments[place.1];
    let id = repo.part_id(item.number, "line", place.0 * 1000 + place.1);
    match name {
        "id" => value(format!("PRRC_kwDO{id}")),
        "databaseId" => value(id),
        "author" => actor(&comment.user),
        "path" => value(comment.path.as_str()),
        "line" => value(comment.line),
        "body" => value(comment.body.as_str()),
        "url" => value(format!("{}#discussion_r{id}", item.html_url)),
        "diffHunk" => {
            let files = diff::files(&item.diff);
            let file = files.iter().find(|file| file.path == comment.path);
            value(file.and_then(|file| file.patch).unwrap_or(""))
        }
        _ => value(comment.created_at.as_str()),
    }
}

/// Inline comments on one line are one thread: the places of each, review and comment.
pub fn threads(item: &Item) -> Vec<Vec<(usize, usize)>> {
    let mut threads: Vec<Vec<(usize, usize)>> = Vec::new();
    let line = |(review, nth): (usize, usize)| {
        let comment: &LineComment = &item.reviews[review].comments[nth];
        (comment.path.as_str(), comment.line)
    };
    for (review, written) in item.reviews.iter().enumerate() {
        for place in (0..written.comments.len()).map(|nth| (review, nth)) {
            match threads.iter_mut().find(|thread| line(thread[0]) == line(place)) {
                Some(thread) => thread.push(place),
                None => threads.push(vec![place]),
            }
        }
    }
    threads
}

pub fn thread<'a>(handle: &Handle<'a>, thread: &[(usize, usize)], page: &Paging) -> Answer<'a> {
    let Handle { repo, item } = handle;
    let (review, nth) = thread[0];
    let first = &item.reviews[review].comments[nth];
    match page.name {
        "id" => {
            let id = repo.part_id(item.number, "thread", review * 1000 + nth);
            value(format!("PRRT_kwDO{id}"))
        }
        "path" => value(first.path.as_str()),
        "line" => value(first.line),
        "comments" => {
            let comments = thread.iter();
            let comments =
                comments.map(|(review, nth)| Object::LineComment(handle.clone(), *review, *nth));
            page.rows("PullRequestReviewComment", comments.collect())
        }
        _ => value(false),
    }
}

pub fn milestone(repo: &Repo, title: &str, name: &str) -> Value {
    match name {
        "id" => json!(format!("MI_kwDO{}", repo.part_id(0, title, 2))),
        "number" => json!(repo.milestone(title)),
        "title" => json!(title),
        "url" => json!(format!("{}/milestone/{}", repo.page(), repo.milestone(title))),
        "state" => json!("OPEN"),
        _ => json!(false),
    }
}

pub fn event<'a>(handle: &Handle<'a>, nth: usize, event: &Event<'a>, name: &str) -> Answer<'a> {
    let repo = handle.repo;
    let commit = |oid: &str| {
        let message = format!("Merged into {}", repo.name);
        Object::Commit { repo, oid: oid.to_owned(), message, at: event.at.clone() }
    };
    match (name, &event.what) {
        ("id", what) => {
            let id = repo.part_id(handle.item.number, what.name(), nth);
            value(format!("{}_kwDO{id}", event_kind(what)))
        }
        ("actor", _) => actor(&event.actor),
        ("closer", What::Closed { by: Some(by), .. }) => {
            Ok(Found::Object(Object::Item(by.clone())))
        }
        ("closer", What::Closed { commit: oid, .. }) => maybe(oid.as_deref().map(commit)),
        ("stateReason", _) => {
            let reason = handle.item.state_reason.as_ref();
            value(json!(reason.map(|reason| reason.to_uppercase())))
        }
        ("commit", What::Merged { commit: oid }) => maybe(Some(commit(oid))),
        ("label", What::Labeled(label)) => maybe(Some(Object::Label(repo, label.clone()))),
        ("source", What::CrossReferenced { source, .. }) => {
            maybe(Some(Object::Item(source.clone())))
        }
        ("source", _) => maybe(Some(Object::Item(handle.clone()))),
        ("subject", What::Linked { pull, .. }) => maybe(pull.clone().map(Object::Item)),
        (
            "isCrossRepository",
            What::CrossReferenced { source: other, .. } | What::Linked { pull: Some(other), .. },
        ) => value(other.repo.id != repo.id),
        ("isCrossRepository", _) => value(false),
        ("willCloseTarget", What::CrossReferenced { closes, .. }) => value(*closes),
        _ => value(event.at.as_str()),
    }
}
