//! The fields of issues and pull requests that lead on to other objects.

use super::leaves;
use super::objects::{Answer, Changed, Found, Object, Resolver, actor, event_kind, maybe, value};
use super::paging::Paging;
use crate::diff;
use crate::timeline::{self, Handle, What};
use serde_json::Value;
use std::rc::Rc;

impl<'a> Resolver<'a> {
    pub fn item(&self, handle: &Handle<'a>, page: &Paging) -> Answer<'a> {
        let Handle { repo, item } = handle;
        let own = |numbers: &[u64]| -> Vec<Object<'a>> {
            let items = numbers.iter().filter_map(|number| repo.item(*number));
            items.map(|item| Object::Item(Handle { repo, item })).collect()
        };
        match page.name {
            "author" => actor(&item.user),
            "repository" => Ok(Found::Object(Object::Repository(repo))),
            "mergedBy" if item.merged_at.is_some() => actor(timeline::closed_by(item)),
            "mergeCommit" => maybe(item.merged_at.as_ref().map(|at| Object::Commit {
                repo,
                oid: repo.commit("merge", item.number),
                message: item.title.clone(),
                at: at.clone(),
            })),
            "mergedBy" => value(Value::Null),
            "milestone" => {
                let milestone = item.milestone.clone();
                maybe(milestone.map(|title| Object::Milestone(repo, title)))
            }
            "reviewThreads" => {
                let threads = leaves::threads(item).into_iter();
                page.rows(
                    "PullRequestReviewThread",
                    threads.map(|thread| Object::Thread(handle.clone(), thread.into())).collect(),
                )
            }
            "labels" => {
                let labels = item.labels.iter().map(|label| Object::Label(repo, label.clone()));
                page.rows("Label", labels.collect())
            }
            "comments" => {
                let comments = 0..item.comments.len();
                page.rows(
                    "IssueComment",
                    comments.map(|nth| Object::Comment(handle.clone(), nth)).collect(),
                )
            }
            "reviews" => {
                let reviews = 0..item.reviews.len();
                page.rows(
                    "PullRequestReview",
                    reviews.map(|nth| Object::Review(handle.clone(), nth)).collect(),
                )
            }
            "commits" => page.rows("PullRequestCommit", vec![Object::PullCommit(handle.clone())]),
            "files" => {
                let files = diff::files(&item.diff).into_iter().map(|file| Changed {
                    path: file.path.to_owned(),
                    additions: file.additions,
                    deletions: file.deletions,
                    status: file.status,
                });
                page.rows(
                    "PullRequestChangedFile",
                    files.map(|file| Object::File(Rc::new(file))).collect(),
                )
            }
            "closingIssuesReferences" => page.rows("Issue", own(&item.closes)),
            "closedByPullRequestsReferences" => {
                let all = page.arguments.get("includeClosedPrs") == Some(&Value::Bool(true));
                let pulls = repo.closers(item.number).into_iter();
                let pulls =
                    pulls.filter(|pull| all || pull.merged_at.is_some() || !pull.is_closed());
                page.rows(
                    "PullRequest",
                    pulls.map(|item| Object::Item(Handle { repo, item })).collect(),
                )
            }
            "timelineItems" => self.timeline(handle, page),
            name => value(leaves::item(repo, item, name)),
        }
    }

    fn timeline(&self, handle: &Handle<'a>, page: &Paging) -> Answer<'a> {
        let wanted = page.arguments.get("itemTypes").and_then(Value::as_array);
        let since = page.text("since");
        let events =
            timeline::events(self.world, handle.repo, &handle.item).into_iter().enumerate();
        let events = events.filter(|(_, event)| {
            // A recorded link without its other end cannot be told in GraphQL.
            let told = !matches!(event.what, What::Linked { pull: None, .. });
            let name = constant_name(event_kind(&event.what));
            let asked = wanted.is_none_or(|wanted| wanted.iter().any(|kind| *kind == name));
            told && asked && *event.at >= *since
        });
        let events = events.map(|(nth, event)| match event.what {
            What::Commented(at) => Object::Comment(handle.clone(), at),
            What::Reviewed(at) => Object::Review(handle.clone(), at),
            _ => Object::Event(handle.clone(), nth, Rc::new(event)),
        });
        let of =
            if handle.item.is_pull() { "PullRequestTimelineItems" } else { "IssueTimelineItems" };
        page.rows(of, events.collect())
    }
}

/// `ClosedEvent` as the enumeration of timeline items spells it: `CLOSED_EVENT`.
fn constant_name(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(c.to_ascii_uppercase());
    }
    out
}
