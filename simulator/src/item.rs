//! An issue or a pull request as the simulator holds it; also the shape of a sample file's line.

use crate::ask::encode;
use crate::dates;
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    #[default]
    Issue,
    Pull,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Item {
    pub number: u64,
    pub kind: Kind,
    pub title: String,
    pub body: Option<String>,
    pub state: String,
    pub state_reason: Option<String>,
    pub labels: Vec<String>,
    pub user: String,
    pub author_association: String,
    pub created_at: String,
    pub updated_at: String,
    pub closed_at: Option<String>,
    pub merged_at: Option<String>,
    pub draft: bool,
    pub comments: Vec<Comment>,
    pub reviews: Vec<Review>,
    /// Numbers of the issues of the same repository that this pull request closes.
    pub closes: Vec<u64>,
    /// Addresses of the items that name this one and do not close it.
    pub mentioned_by: Vec<String>,
    /// Addresses of the pull requests that somebody linked to this issue by hand.
    pub connected: Vec<String>,
    /// Those of them whose link was taken away again.
    pub disconnected: Vec<String>,
    /// The commit that closed this issue by its message.
    pub closing_commit: Option<String>,
    pub milestone: Option<String>,
    pub diff: String,
    pub diff_too_large: bool,
    pub html_url: String,
    pub reactions: Option<Value>,
    /// The status that its address answers: it is in no list any more.
    pub gone: Option<u16>,
    /// Where it was transferred to.
    pub moved_to: Option<Place>,
    /// What GitHub's own API once said about this item, where a file recorded it.
    #[serde(skip)]
    pub thread: Option<Arc<Thread>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    pub repo: String,
    pub number: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Comment {
    pub user: String,
    pub body: String,
    pub created_at: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Review {
    pub user: String,
    pub state: String,
    pub body: String,
    pub submitted_at: String,
    pub comments: Vec<LineComment>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct LineComment {
    pub user: String,
    pub path: String,
    pub line: u64,
    pub body: String,
    pub created_at: String,
}

/// A recorded thread: full REST objects, served as they are.
#[derive(Debug)]
pub struct Thread {
    pub issue: Value,
    pub comments: Vec<Value>,
    pub events: Vec<Value>,
    pub timeline: Vec<Value>,
}

impl Item {
    pub fn is_pull(&self) -> bool {
        self.kind == Kind::Pull
    }

    pub fn is_closed(&self) -> bool {
        self.state == "closed"
    }

    /// Fills in what a line left out, so that every reader sees a complete item.
    pub fn complete(mut self) -> Item {
        if self.created_at.is_empty() {
            self.created_at = dates::format(crate::generate::created(self.number));
        }
        self.created_at = dates::normal(&self.created_at);
        for date in [&mut self.closed_at, &mut self.merged_at] {
            *date = date.take().map(|text| dates::normal(&text));
        }
        if self.merged_at.is_some() {
            self.closed_at = self.closed_at.take().or_else(|| self.merged_at.clone());
        }
        if self.state.is_empty() {
            let closed = self.closed_at.is_some();
            self.state = if closed { "closed" } else { "open" }.to_owned();
        }
        let closed = self.state.eq_ignore_ascii_case("closed");
        self.state = if closed { "closed" } else { "open" }.to_owned();
        if self.is_closed() && self.closed_at.is_none() {
            self.closed_at = Some(self.created_at.clone());
        }
        if self.is_closed() && !self.is_pull() && self.state_reason.is_none() {
            self.state_reason = Some("completed".to_owned());
        }
        default_to(&mut self.user, "ghost");
        self.author_association.retain(|c| c.is_ascii_uppercase() || c == '_');
        default_to(&mut self.author_association, "NONE");
        self.html_url = encode(&self.html_url);
        self.complete_talk();
        self.complete_updated();
        self
    }

    fn complete_talk(&mut self) {
        for comment in &mut self.comments {
            default_to(&mut comment.user, "ghost");
            default_to(&mut comment.created_at, &self.created_at);
            comment.created_at = dates::normal(&comment.created_at);
        }
        for review in &mut self.reviews {
            default_to(&mut review.user, "ghost");
            default_to(&mut review.state, "COMMENTED");
            default_to(&mut review.submitted_at, &self.created_at);
            review.submitted_at = dates::normal(&review.submitted_at);
            for comment in &mut review.comments {
                default_to(&mut comment.user, &review.user);
                default_to(&mut comment.created_at, &review.submitted_at);
                comment.created_at = dates::normal(&comment.created_at);
            }
        }
    }

    /// Nothing on GitHub happens to an item without moving `updated_at`.
    fn complete_updated(&mut self) {
        if !self.updated_at.is_empty() {
            self.updated_at = dates::normal(&self.updated_at);
            return;
        }
        let comments = self.comments.iter().map(|comment| &comment.created_at);
        let reviews = self.reviews.iter().map(|review| &review.submitted_at);
        let ends = self.closed_at.iter().chain(&self.merged_at);
        let last = comments.chain(reviews).chain(ends).max();
        self.updated_at = last.max(Some(&self.created_at)).cloned().unwrap_or_default();
    }
}

fn default_to(text: &mut String, default: &str) {
    if text.is_empty() {
        text.push_str(default);
    }
}
