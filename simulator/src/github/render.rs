//! GitHub's REST objects: which value stands for which name of a template.

use crate::ask::encode;
use crate::dice::hash;
use crate::diff::FileChange;
use crate::item::{Comment, Item, LineComment, Review};
use crate::shapes::{self, array, json, text};
use crate::timeline::{self, Event, Handle, What};
use crate::world::Repo;

/// Writes objects whose addresses begin with `api`.
pub struct Render<'a> {
    pub api: &'a str,
}

type Out<'o> = &'o mut Vec<u8>;

impl Render<'_> {
    pub fn user(&self, out: Out, login: &str) {
        let bot = login.ends_with("[bot]");
        let name = encode(login);
        shapes::USER.fill(out, |key, out| match key {
            "login" => json(out, login),
            "id" => json(out, &user_id(login)),
            "site" => text(out, "https://simulator.invalid"),
            "api" => text(out, self.api),
            "name" => text(out, &name),
            _ => text(out, if bot { "Bot" } else { "User" }),
        });
    }

    /// The user whose token it is, with what is told of nobody else here.
    pub fn viewer(&self, out: Out, login: &str) {
        self.user(out, login);
        self.extend(out, |_, out| shapes::VIEWER_MORE.fill(out, |_, _| {}));
    }

    pub fn repository(&self, out: Out, repo: &Repo) {
        let open = repo.open();
        shapes::REPOSITORY.fill(out, |key, out| match key {
            "id" => json(out, &repo.id),
            "hex" => text(out, &format!("{:X}", repo.id)),
            "name" => json(out, repo.short_name()),
            "full_name" => json(out, &repo.name),
            "owner" => self.user(out, repo.owner()),
            "page" => text(out, &repo.page()),
            "url" => text(out, &self.repo_url(repo)),
            _ => json(out, &open),
        });
    }

    /// A repository on its own, with what it lacks inside of other objects.
    pub fn full_repository(&self, out: Out, repo: &Repo) {
        self.repository(out, repo);
        let page = repo.page();
        let place = page.split_once("://").map_or(&*page, |(_, place)| place);
        let url = self.repo_url(repo);
        self.extend(out, |_, out| {
            shapes::REPOSITORY_MORE.fill(out, |key, out| match key {
                "page" => text(out, &page),
                "place" => text(out, place),
                _ => text(out, &url),
            });
        });
    }

    /// An issue; `full` adds who closed it, which lists leave out.
    pub fn issue(&self, out: Out, repo: &Repo, item: &Item, full: bool) {
        if let Some(thread) = &item.thread {
            return json(out, &thread.issue);
        }
        let repository = self.repo_url(repo);
        let url = format!("{repository}/issues/{}", item.number);
        shapes::ISSUE.fill(out, |key, out| match key {
            "url" => text(out, &url),
            "repository" => text(out, &repository),
            "id" => json(out, &repo.number_id(item.number, 0)),
            "comments" => json(out, &item.comments.len()),
            "reactions" => match &item.reactions {
                Some(recorded) => json(out, recorded),
                None => self.reactions(out, &url),
            },
            "pull" if item.is_pull() => {
                let pull = format!("{repository}/pulls/{}", item.number);
                text(out, "\"draft\":");
                json(out, &item.draft);
                text(out, ",\"pull_request\":{\"url\":");
                json(out, &pull);
                for part in ["", ".diff", ".patch"] {
                    let kind = if part.is_empty() { "html" } else { &part[1..] };
                    text(out, &format!(",\"{kind}_url\":\"{}{part}\"", item.html_url));
                }
                text(out, ",\"merged_at\":");
                json(out, &item.merged_at);
                text(out, "},");
            }
            "pull" => {}
            "closed_by" if full => {
                text(out, "\"closed_by\":");
                match item.is_closed() {
                    true => self.user(out, timeline::closed_by(item)),
                    false => text(out, "null"),
                }
                text(out, ",");
            }
            "closed_by" => {}
            "reason" => json(out, &item.state_reason),
            key => self.common(out, key, repo, item),
        });
    }

    /// A pull request; `full` adds the counts that lists leave out.
    pub fn pull(&self, out: Out, repo: &Repo, item: &Item, full: bool) {
        let repository = self.repo_url(repo);
        let url = format!("{repository}/pulls/{}", item.number);
        shapes::PULL.fill(out, |key, out| match key {
            "url" => text(out, &url),
            "repository" => text(out, &repository),
            "issue" => text(out, &format!("{repository}/issues/{}", item.number)),
            "id" => json(out, &repo.number_id(item.number, 1)),
            "merged_at" => json(out, &item.merged_at),
            "merge" => {
                let merged = item.merged_at.as_ref();
                json(out, &merged.map(|_| repo.commit("merge", item.number)));
            }
            "draft" => json(out, &item.draft),
            "head" => text(out, &repo.commit("head", item.number)),
            "base" => text(out, &repo.commit("base", item.number)),
            "owner" => text(out, repo.owner()),
            "owner_user" => self.user(out, repo.owner()),
            "repo" => self.repository(out, repo),
            "counts" if full => self.counts(out, item),
            "counts" => {}
            key => self.common(out, key, repo, item),
        });
    }

    fn counts(&self, out: Out, item: &Item) {
        let files = crate::diff::files(&item.diff);
        let merged = item.merged_at.is_some();
        let mergeable = (!item.is_closed()).then_some(true);
        let state = if item.is_closed() { "unknown" } else { "clean" };
        let numbers = [
            ("comments", item.comments.len() as u64),
            (
                "review_comments",
                item.reviews.iter().map(|review| review.comments.len() as u64).sum(),
            ),
            ("commits", 1),
            ("additions", files.iter().map(|file| file.additions).sum()),
            ("deletions", files.iter().map(|file| file.deletions).sum()),
            ("changed_files", files.len() as u64),
        ];
        text(out, &format!(",\"merged\":{merged},\"mergeable\":"));
        json(out, &mergeable);
        text(out, &format!(",\"rebaseable\":null,\"mergeable_state\":\"{state}\",\"merged_by\":"));
        match merged {
            true => self.user(out, timeline::closed_by(item)),
            false => text(out, "null"),
        }
        for (name, number) in numbers {
            text(out, &format!(",\"{name}\":{number}"));
        }
    }

    /// The names that issues and pull requests share.
    fn common(&self, out: Out, key: &str, repo: &Repo, item: &Item) {
        match key {
            "html" => text(out, &item.html_url),
            "node" => text(out, &encode(&repo.node_id(item))),
            "number" => json(out, &item.number),
            "title" => json(out, &item.title),
            "body" => json(out, &item.body),
            "user" => self.user(out, &item.user),
            "labels" => array(out, &item.labels, |out, label| self.label(out, repo, label)),
            "milestone" => match &item.milestone {
                Some(title) => self.milestone(out, repo, title),
                None => text(out, "null"),
            },
            "state" => text(out, &item.state),
            "created_at" => json(out, &item.created_at),
            "updated_at" => json(out, &item.updated_at),
            "closed_at" => json(out, &item.closed_at),
            "association" => text(out, &item.author_association),
            _ => text(out, "null"),
        }
    }

    pub fn label(&self, out: Out, repo: &Repo, label: &str) {
        let id = repo.part_id(0, label, 0);
        shapes::LABEL.fill(out, |key, out| match key {
            "id" => json(out, &id),
            "url" => {
                let url = format!("{}/labels/{}", self.repo_url(repo), encode(label));
                text(out, &url);
            }
            "name" => json(out, label),
            _ => text(out, &format!("{:06x}", hash(label.as_bytes()) & 0xFF_FFFF)),
        });
    }

    fn milestone(&self, out: Out, repo: &Repo, title: &str) {
        let number = repo.milestone(title);
        shapes::MILESTONE.fill(out, |key, out| match key {
            "url" => text(out, &format!("{}/milestones/{number}", self.repo_url(repo))),
            "html" => text(out, &format!("{}/milestone/{number}", repo.page())),
            "id" => json(out, &repo.part_id(0, title, 2)),
            "number" => json(out, &number),
            "title" => json(out, title),
            _ => self.user(out, repo.owner()),
        });
    }

    pub fn comment(&self, out: Out, repo: &Repo, item: &Item, nth: usize, comment: &Comment) {
        let repository = self.repo_url(repo);
        let id = repo.part_id(item.number, "comment", nth);
        shapes::COMMENT.fill(out, |key, out| match key {
            "id" => json(out, &id),
            "repository" => text(out, &repository),
            "issue" => text(out, &format!("{repository}/issues/{}", item.number)),
            "html" => text(out, &item.html_url),
            "user" => self.user(out, &comment.user),
            "created_at" => json(out, &comment.created_at),
            "body" => json(out, &comment.body),
            _ => self.reactions(out, &format!("{repository}/issues/comments/{id}")),
        });
    }

    pub fn review(&self, out: Out, repo: &Repo, item: &Item, nth: usize, review: &Review) {
        shapes::REVIEW.fill(out, |key, out| match key {
            "id" => json(out, &repo.part_id(item.number, "review", nth)),
            "user" => self.user(out, &review.user),
            "body" => json(out, &review.body),
            "state" => json(out, &review.state),
            "html" => text(out, &item.html_url),
            "pull" => text(out, &format!("{}/pulls/{}", self.repo_url(repo), item.number)),
            "submitted_at" => json(out, &review.submitted_at),
            _ => text(out, &repo.commit("head", item.number)),
        });
    }

    /// The inline comment at `place`: which review, which of its comments.
    pub fn line_comment(
        &self,
        out: Out,
        repo: &Repo,
        item: &Item,
        place: (usize, usize),
        comment: &LineComment,
    ) {
        let repository = self.repo_url(repo);
        let id = repo.part_id(item.number, "line", place.0 * 1000 + place.1);
        let files = crate::diff::files(&item.diff);
        let file = files.iter().find(|file| file.path == comment.path);
        shapes::LINE_COMMENT.fill(out, |key, out| match key {
            "id" => json(out, &id),
            "repository" => text(out, &repository),
            "review" => json(out, &repo.part_id(item.number, "review", place.0)),
            "hunk" => json(out, file.and_then(|file| file.patch).unwrap_or("")),
            "path" => json(out, &comment.path),
            "head" => text(out, &repo.commit("head", item.number)),
            "user" => self.user(out, &comment.user),
            "body" => json(out, &comment.body),
            "created_at" => json(out, &comment.created_at),
            "html" => text(out, &item.html_url),
            "pull" => text(out, &format!("{repository}/pulls/{}", item.number)),
            "line" => json(out, &comment.line),
            _ => self.reactions(out, &format!("{repository}/pulls/comments/{id}")),
        });
    }

    pub fn file(&self, out: Out, repo: &Repo, item: &Item, file: &FileChange) {
        let head = repo.commit("head", item.number);
        let path = encode(file.path);
        shapes::FILE.fill(out, |key, out| match key {
            "sha" => text(out, &repo.commit(file.path, item.number)),
            "path" => json(out, file.path),
            "status" => text(out, file.status),
            "additions" => json(out, &file.additions),
            "deletions" => json(out, &file.deletions),
            "changes" => json(out, &(file.additions + file.deletions)),
            "blob" => text(out, &format!("{}/blob/{head}/{path}", repo.page())),
            "raw" => text(out, &format!("{}/raw/{head}/{path}", repo.page())),
            "contents" => {
                text(out, &format!("{}/contents/{path}?ref={head}", self.repo_url(repo)));
            }
            _ => {
                for (name, value) in [("patch", file.patch), ("previous_filename", file.previous)] {
                    if let Some(value) = value {
                        text(out, &format!(",\"{name}\":"));
                        json(out, value);
                    }
                }
            }
        });
    }

    pub fn commit(&self, out: Out, repo: &Repo, item: &Item) {
        shapes::COMMIT.fill(out, |key, out| match key {
            "sha" => text(out, &repo.commit("head", item.number)),
            "base" => text(out, &repo.commit("base", item.number)),
            "tree" => text(out, &repo.commit("tree", item.number)),
            "repository" => text(out, &self.repo_url(repo)),
            "page" => text(out, &repo.page()),
            "login" => json(out, &item.user),
            "date" => json(out, &item.created_at),
            "title" => json(out, &item.title),
            _ => self.user(out, &item.user),
        });
    }

    pub fn event(&self, out: Out, repo: &Repo, item: &Item, nth: usize, event: &Event) {
        match &event.what {
            What::Commented(at) => {
                self.comment(out, repo, item, *at, &item.comments[*at]);
                return self.extend(out, |render, out| render.actor(out, event));
            }
            What::Reviewed(at) => {
                self.review(out, repo, item, *at, &item.reviews[*at]);
                return self.extend(out, |_, out| text(out, "\"event\":\"reviewed\""));
            }
            _ => {}
        }
        text(out, "{");
        if !matches!(event.what, What::CrossReferenced { .. }) {
            let id = repo.part_id(item.number, event.what.name(), nth);
            let url = format!("{}/issues/events/{id}", self.repo_url(repo));
            text(out, &format!("\"id\":{id},\"node_id\":\"EV_kwDO{id}\",\"url\":\"{url}\","));
            let commit = match &event.what {
                What::Closed { commit, .. } => commit.as_deref(),
                What::Merged { commit } => Some(commit.as_str()),
                _ => None,
            };
            let url = commit.map(|commit| format!("{}/commits/{commit}", self.repo_url(repo)));
            text(out, "\"commit_id\":");
            json(out, &commit);
            text(out, ",\"commit_url\":");
            json(out, &url);
            text(out, ",");
        }
        self.actor(out, event);
        text(out, ",\"created_at\":");
        json(out, &event.at);
        match &event.what {
            What::Labeled(label) => {
                text(out, ",\"label\":{\"name\":");
                json(out, label);
                text(out, &format!(",\"color\":\"{:06x}\"}}", hash(label.as_bytes()) & 0xFF_FFFF));
            }
            What::CrossReferenced { source: Handle { repo, item }, .. } => {
                text(out, ",\"updated_at\":");
                json(out, &event.at);
                text(out, ",\"source\":{\"type\":\"issue\",\"issue\":");
                self.issue(out, repo, item, false);
                // The source says which repository it is in; it may be another one.
                self.extend(out, |render, out| {
                    text(out, "\"repository\":");
                    render.repository(out, repo);
                });
                text(out, "}");
            }
            What::Closed { .. } => {
                text(out, ",\"state_reason\":");
                json(out, &item.state_reason);
            }
            _ => {}
        }
        text(out, "}");
    }

    fn actor(&self, out: Out, event: &Event) {
        text(out, &format!("\"event\":\"{}\",\"actor\":", event.what.name()));
        self.user(out, &event.actor);
    }

    /// Adds members to the object just written.
    pub fn extend(&self, out: Out, more: impl FnOnce(&Self, &mut Vec<u8>)) {
        out.pop();
        text(out, ",");
        more(self, out);
        text(out, "}");
    }

    fn reactions(&self, out: Out, url: &str) {
        text(
            out,
            &format!(
                "{{\"url\":\"{url}/reactions\",\"total_count\":0,\"+1\":0,\"-1\":0,\"laugh\":0,\
             \"hooray\":0,\"confused\":0,\"heart\":0,\"rocket\":0,\"eyes\":0}}"
            ),
        );
    }

    pub fn repo_url(&self, repo: &Repo) -> String {
        format!("{}/repos/{}", self.api, repo.name)
    }
}

pub fn user_id(login: &str) -> u64 {
    hash(login.to_lowercase().as_bytes()) % 100_000_000
}
