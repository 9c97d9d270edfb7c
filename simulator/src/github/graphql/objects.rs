//! GitHub's GraphQL objects: what each field of each type is.

use super::leaves;
use super::paging::{self, Paging, cursor};
use crate::github::{rest::VIEWER, search};
use crate::limit::Standing;
use crate::timeline::{Event, Handle, What};
use crate::world::{Repo, World};
use serde_json::{Map, Value, json};
use std::rc::Rc;

#[derive(Clone)]
pub enum Object<'a> {
    Query,
    RateLimit,
    Repository(&'a Repo),
    Item(Handle<'a>),
    Actor(String),
    Label(&'a Repo, String),
    Milestone(&'a Repo, String),
    Commit {
        repo: &'a Repo,
        oid: String,
        message: String,
        at: String,
    },
    PullCommit(Handle<'a>),
    File(Rc<Changed>),
    Comment(Handle<'a>, usize),
    Review(Handle<'a>, usize),
    LineComment(Handle<'a>, usize, usize),
    /// The places of its comments: which review, which of its comments.
    Thread(Handle<'a>, Rc<[(usize, usize)]>),
    Event(Handle<'a>, usize, Rc<Event<'a>>),
    Rows(Rc<Rows<'a>>),
    Edge(&'static str, usize, Box<Object<'a>>),
    PageInfo(Rc<Rows<'a>>),
}

pub struct Changed {
    pub path: String,
    pub additions: u64,
    pub deletions: u64,
    pub status: &'static str,
}

/// The rows of a connection that were asked for.
pub struct Rows<'a> {
    /// The type's name without `Connection`.
    pub of: &'static str,
    pub total: usize,
    pub start: usize,
    /// How many can be reached by paging: search counts more than it shows.
    pub reach: usize,
    pub nodes: Vec<Object<'a>>,
}

pub enum Found<'a> {
    Value(Value),
    Object(Object<'a>),
    List(Vec<Result<Object<'a>, Fail>>),
}

pub struct Fail {
    pub kind: &'static str,
    pub message: String,
}

type Arguments = Map<String, Value>;
pub type Answer<'a> = Result<Found<'a>, Fail>;

pub struct Resolver<'a> {
    pub world: &'a World,
    pub standing: &'a Standing,
}

impl Object<'_> {
    pub fn kind(&self) -> String {
        match self {
            Object::Query => "Query",
            Object::RateLimit => "RateLimit",
            Object::Repository(_) => "Repository",
            Object::Item(handle) => {
                if handle.item.is_pull() {
                    "PullRequest"
                } else {
                    "Issue"
                }
            }
            Object::Actor(login) => {
                if login.ends_with("[bot]") {
                    "Bot"
                } else {
                    "User"
                }
            }
            Object::Label(..) => "Label",
            Object::Milestone(..) => "Milestone",
            Object::Commit { .. } => "Commit",
            Object::PullCommit(_) => "PullRequestCommit",
            Object::File(_) => "PullRequestChangedFile",
            Object::Comment(..) => "IssueComment",
            Object::Review(..) => "PullRequestReview",
            Object::LineComment(..) => "PullRequestReviewComment",
            Object::Thread(..) => "PullRequestReviewThread",
            Object::Event(_, _, event) => event_kind(&event.what),
            Object::Rows(rows) => return format!("{}Connection", rows.of),
            Object::Edge(of, ..) => return format!("{of}Edge"),
            Object::PageInfo(_) => "PageInfo",
        }
        .to_owned()
    }
}

pub fn event_kind(what: &What) -> &'static str {
    match what {
        What::Labeled(_) => "LabeledEvent",
        What::Commented(_) => "IssueComment",
        What::Reviewed(_) => "PullRequestReview",
        What::CrossReferenced { .. } => "CrossReferencedEvent",
        What::Linked { undone: false, .. } => "ConnectedEvent",
        What::Linked { undone: true, .. } => "DisconnectedEvent",
        What::Closed { .. } => "ClosedEvent",
        What::Reopened => "ReopenedEvent",
        What::Strange => "AddedToProjectV9Event",
        What::Merged { .. } => "MergedEvent",
    }
}

pub fn value<'a>(value: impl Into<Value>) -> Answer<'a> {
    Ok(Found::Value(value.into()))
}

pub fn maybe<'a>(object: Option<Object<'a>>) -> Answer<'a> {
    Ok(object.map_or(Found::Value(Value::Null), Found::Object))
}

/// GitHub forgets who wrote something once the account is gone.
pub fn actor<'a>(login: &str) -> Answer<'a> {
    maybe((login != "ghost").then(|| Object::Actor(login.to_owned())))
}

fn not_found(message: String) -> Fail {
    Fail { kind: "NOT_FOUND", message }
}

impl<'a> Resolver<'a> {
    /// The field `name` of `object`; `rows` says whether more than a connection's count is asked.
    pub fn field(
        &self,
        object: &Object<'a>,
        name: &str,
        arguments: &Arguments,
        rows: bool,
    ) -> Answer<'a> {
        let page = Paging { name, arguments, rows };
        match object {
            Object::Query => self.query(&page),
            Object::RateLimit => value(match name {
                "limit" => json!(self.standing.limit),
                "remaining" => json!(self.standing.limit - self.standing.used),
                "resetAt" => json!(self.standing.reset),
                "nodeCount" => json!(self.standing.nodes),
                "used" => json!(self.standing.used),
                _ => json!(self.standing.cost),
            }),
            Object::Repository(repo) => self.repository(repo, &page),
            Object::Item(handle) => self.item(handle, &page),
            Object::Actor(login) => value(leaves::user(login, name)),
            Object::Label(repo, label) => value(match name {
                "id" => json!(format!("LA_kwDO{}", repo.part_id(0, label, 0))),
                "name" => json!(label),
                "color" => {
                    json!(format!("{:06x}", crate::dice::hash(label.as_bytes()) & 0xFF_FFFF))
                }
                _ => Value::Null,
            }),
            Object::Milestone(repo, title) => value(leaves::milestone(repo, title, name)),
            Object::Commit { repo, oid, .. } if name == "associatedPullRequests" => {
                let made = |number: &u64| repo.commit("merge", *number) == *oid;
                let merged = repo.rows().iter().filter(|row| row.merged).map(|row| row.number);
                let pulls = merged.filter(made).filter_map(|number| repo.item(number));
                let pulls = pulls.map(|item| Object::Item(Handle { repo, item }));
                page.rows("PullRequest", pulls.collect())
            }
            Object::Commit { repo, oid, message, at } => value(match name {
                "id" => format!("C_kwDO{oid}"),
                "oid" => oid.clone(),
                "abbreviatedOid" => oid.chars().take(7).collect(),
                "message" => message.clone(),
                "committedDate" => at.clone(),
                _ => format!("{}/commit/{oid}", repo.page()),
            }),
            Object::PullCommit(Handle { repo, item }) => Ok(Found::Object(Object::Commit {
                repo,
                oid: repo.commit("head", item.number),
                message: item.title.clone(),
                at: item.created_at.clone(),
            })),
            Object::File(file) => value(match name {
                "path" => json!(file.path),
                "additions" => json!(file.additions),
                "deletions" => json!(file.deletions),
                _ => json!(match file.status {
                    "removed" => "DELETED".to_owned(),
                    status => status.to_uppercase(),
                }),
            }),
            Object::Comment(handle, nth) => leaves::comment(handle, *nth, name),
            Object::Review(handle, nth) => leaves::review(handle, *nth, &page),
            Object::LineComment(handle, review, nth) => {
                leaves::line_comment(handle, (*review, *nth), name)
            }
            Object::Thread(handle, thread) => leaves::thread(handle, thread, &page),
            Object::Event(handle, nth, event) => leaves::event(handle, *nth, event, name),
            Object::Rows(rows) => Ok(paging::field(rows, name)),
            Object::Edge(_, place, node) => match name {
                "cursor" => value(cursor(*place)),
                _ => Ok(Found::Object((**node).clone())),
            },
            Object::PageInfo(rows) => value(paging::info(rows, name)),
        }
    }

    fn query(&self, page: &Paging) -> Answer<'a> {
        match page.name {
            "node" => self.node(page.text("id")).map(Found::Object),
            "nodes" => {
                // One id instead of a list is a list of one.
                let ids = match page.arguments.get("ids") {
                    Some(Value::Array(ids)) => ids.as_slice(),
                    Some(one) => std::slice::from_ref(one),
                    None => &[],
                };
                let nodes = ids.iter().map(|id| self.node(id.as_str().unwrap_or_default()));
                Ok(Found::List(nodes.collect()))
            }
            "repository" => {
                let name = format!("{}/{}", page.text("owner"), page.text("name"));
                let repo = self.world.find(&name).anywhere();
                let message =
                    || format!("Could not resolve to a Repository with the name '{name}'.");
                let repo = repo.ok_or_else(|| not_found(message()))?;
                Ok(Found::Object(Object::Repository(repo)))
            }
            "rateLimit" => Ok(Found::Object(Object::RateLimit)),
            "viewer" => Ok(Found::Object(Object::Actor(VIEWER.to_owned()))),
            _ => {
                let found = search::handles(self.world, page.text("query"));
                let (total, handles) = found.unwrap_or_default();
                let reach = handles.len();
                let span = page.span(reach)?;
                let nodes = handles[span.clone()].iter().cloned().map(Object::Item).collect();
                let start = span.start;
                let rows = Rows { of: "SearchResultItem", total, start, reach, nodes };
                Ok(Found::Object(Object::Rows(Rc::new(rows))))
            }
        }
    }

    fn node(&self, id: &str) -> Result<Object<'a>, Fail> {
        if let Some((repo, item)) = self.world.by_node(id) {
            return Ok(Object::Item(Handle { repo, item }));
        }
        let repo = id.strip_prefix("R_kgDO").and_then(|hex| u64::from_str_radix(hex, 16).ok());
        let repo = repo.and_then(|id| self.world.by_id(id)).map(Object::Repository);
        let message = || format!("Could not resolve to a node with the global id of '{id}'.");
        repo.ok_or_else(|| not_found(message()))
    }

    fn repository(&self, repo: &'a Repo, page: &Paging) -> Answer<'a> {
        match page.name {
            "id" => value(format!("R_kgDO{:X}", repo.id)),
            "databaseId" => value(repo.id),
            "name" => value(repo.short_name()),
            "nameWithOwner" => value(repo.name.as_str()),
            "owner" => Ok(Found::Object(Object::Actor(repo.owner().to_owned()))),
            "url" => value(repo.page()),
            "issues" => page.items(repo, false),
            "pullRequests" => page.items(repo, true),
            "issue" | "pullRequest" | "issueOrPullRequest" => {
                let number = page.arguments.get("number").and_then(Value::as_u64).unwrap_or(0);
                let item = repo.item(number).filter(|item| match page.name {
                    "issue" => !item.is_pull(),
                    "pullRequest" => item.is_pull(),
                    _ => true,
                });
                let what = match page.name {
                    "issue" => "an Issue",
                    "pullRequest" => "a PullRequest",
                    _ => "an issue or pull request",
                };
                let message =
                    || format!("Could not resolve to {what} with the number of {number}.");
                let item = item.ok_or_else(|| not_found(message()))?;
                Ok(Found::Object(Object::Item(Handle { repo, item })))
            }
            _ => value(false),
        }
    }
}
