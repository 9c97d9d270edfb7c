//! GitHub REST below one repository.

use super::lists;
use super::render::Render;
use super::{Rules, moved, not_found, problem};
use crate::ask::{Answer, Ask};
use crate::diff;
use crate::item::Item;
use crate::shapes::{json, text};
use crate::timeline::{self, What};
use crate::world::{Lost, Repo, World};
use serde_json::json;

/// Whom a token belongs to: always the same one.
pub const VIEWER: &str = "simulator-user";

pub fn user(api: &str) -> Answer {
    let mut body = Vec::new();
    Render { api }.viewer(&mut body, VIEWER);
    Answer::json(200, body)
}

/// What a request below a repository is about.
struct Call<'a> {
    world: &'a World,
    rules: &'a Rules,
    repo: &'a Repo,
    ask: &'a Ask,
    render: Render<'a>,
    /// Where the list asked for is found again, for its links.
    url: String,
}

pub fn answer(
    world: &World,
    rules: &Rules,
    repo: &Repo,
    rest: &[&str],
    ask: &Ask,
    api: &str,
) -> Answer {
    let below: String = rest.iter().map(|part| format!("/{part}")).collect();
    let url = format!("{api}/repositories/{}{below}", repo.id);
    let call = Call { world, rules, repo, ask, render: Render { api }, url };
    let number = rest.get(1).and_then(|number| number.parse().ok());
    match (number.and_then(|number| repo.lost(number)), rest) {
        (Some(Lost::Gone(status)), _) => return gone(*status),
        (Some(Lost::Moved(to)), ["issues", _]) => {
            let rest = ["issues", &to.number.to_string()];
            let repo = world.find(&to.repo).anywhere();
            return repo.map_or_else(not_found, |repo| moved(repo, &rest, ask, api));
        }
        _ => {}
    }
    let item = number.and_then(|number| repo.item(number));
    match (rest, item) {
        ([], _) => one(|out| call.render.full_repository(out, repo)),
        (["issues"], _) => {
            let keys = lists::keys(repo, ask, false);
            lists::keyed(rules, ask, &call.url, keys, |out, (_, number)| {
                if let Some(item) = repo.item(*number) {
                    call.render.issue(out, repo, &item, false);
                }
            })
        }
        (["pulls"], _) => {
            let (keys, _) = lists::keys(repo, ask, true);
            call.walled(&keys, |out, (_, number)| {
                if let Some(item) = repo.item(*number) {
                    call.render.pull(out, repo, &item, false);
                }
            })
        }
        (["issues", _], Some(item)) => one(|out| call.render.issue(out, repo, &item, true)),
        (["issues", _, part], Some(item)) => call.below_issue(&item, part),
        (["pulls", _], Some(item)) if item.is_pull() => call.pull(&item),
        (["pulls", _, part], Some(item)) if item.is_pull() => call.below_pull(&item, part),
        _ => not_found(),
    }
}

/// The answer of an item that was deleted, blocked or hidden.
fn gone(status: u16) -> Answer {
    match status {
        410 => problem(410, "This issue was deleted"),
        451 => {
            let notice = "https://simulator.invalid/dmca/2024-01-01.md";
            let block =
                json!({"reason": "dmca", "created_at": "2024-01-01T00:00:00Z", "html_url": notice});
            Answer::value(451, &json!({"message": "Repository access blocked", "block": block}))
        }
        _ => not_found(),
    }
}

fn one(write: impl FnOnce(&mut Vec<u8>)) -> Answer {
    let mut body = Vec::new();
    write(&mut body);
    Answer::json(200, body)
}

impl Call<'_> {
    fn list<T>(&self, items: &[T], each: impl FnMut(&mut Vec<u8>, &T)) -> Answer {
        lists::answer(self.ask, &self.url, items, each)
    }

    fn walled<T>(&self, items: &[T], each: impl FnMut(&mut Vec<u8>, &T)) -> Answer {
        lists::walled(self.rules, self.ask, &self.url, items, each)
    }

    fn below_issue(&self, item: &Item, part: &str) -> Answer {
        let (repo, render) = (self.repo, &self.render);
        let recorded = item.thread.as_ref().and_then(|thread| match part {
            "comments" => Some(&thread.comments),
            "timeline" => Some(&thread.timeline),
            "events" => Some(&thread.events),
            _ => None,
        });
        if let Some(recorded) = recorded {
            return match part {
                "comments" => self.walled(recorded, json),
                _ => self.list(recorded, json),
            };
        }
        match part {
            "comments" => {
                let comments: Vec<_> = item.comments.iter().enumerate().collect();
                self.walled(&comments, |out, (nth, comment)| {
                    render.comment(out, repo, item, *nth, comment)
                })
            }
            "timeline" | "events" => {
                let events = timeline::events(self.world, repo, item).into_iter().enumerate();
                // GitHub's `events` are the changes alone, without what people wrote.
                let told = |what: &What| {
                    part == "timeline"
                        || !matches!(
                            what,
                            What::Commented(_) | What::Reviewed(_) | What::CrossReferenced { .. }
                        )
                };
                let events: Vec<_> = events.filter(|(_, event)| told(&event.what)).collect();
                self.list(&events, |out, (nth, event)| {
                    render.event(out, repo, item, *nth, event);
                    if part == "events" {
                        render.extend(out, |_, out| text(out, "\"performed_via_github_app\":null"));
                    }
                })
            }
            _ => not_found(),
        }
    }

    fn pull(&self, item: &Item) -> Answer {
        let media = &self.ask.accept;
        if !media.contains("application/vnd.github") || !media.contains("diff") {
            return one(|out| self.render.pull(out, self.repo, item, true));
        }
        let ordered = item.diff_too_large.then_some(diff::TOO_MANY_LINES);
        if let Some(message) = ordered.or_else(|| diff::too_large(&item.diff)) {
            let error = json!({"resource": "PullRequest", "field": "diff", "code": "too_large"});
            let body = json!({
                "message": message, "errors": [error],
                "documentation_url": "https://docs.github.com/rest/pulls/pulls#get-a-pull-request",
                "status": "406"
            });
            return Answer::value(406, &body);
        }
        Answer::new(
            200,
            "application/vnd.github.diff; charset=utf-8",
            item.diff.clone().into_bytes(),
        )
    }

    fn below_pull(&self, item: &Item, part: &str) -> Answer {
        let (repo, render) = (self.repo, &self.render);
        match part {
            "files" => {
                let mut files = diff::listed(&item.diff);
                let page = lists::Page::of(self.ask, files.len());
                diff::empty_after(self.rules.patch_lines, &mut files[page.range()]);
                self.list(&files, |out, file| render.file(out, repo, item, file))
            }
            "reviews" => {
                let reviews: Vec<_> = item.reviews.iter().enumerate().collect();
                self.list(&reviews, |out, (nth, review)| {
                    render.review(out, repo, item, *nth, review)
                })
            }
            "comments" => {
                let comments: Vec<_> = (item.reviews.iter().enumerate())
                    .flat_map(|(nth, review)| {
                        review.comments.iter().enumerate().map(move |c| (nth, c))
                    })
                    .collect();
                self.walled(&comments, |out, (review, (nth, comment))| {
                    render.line_comment(out, repo, item, (*review, *nth), comment);
                })
            }
            "commits" => self.list(&[()], |out, ()| render.commit(out, repo, item)),
            _ => not_found(),
        }
    }
}
