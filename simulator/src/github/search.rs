//! `GET /search/issues`, and the query language that GraphQL's search shares with it.

use super::lists::Page;
use super::problem;
use super::render::Render;
use crate::ask::{Answer, Ask};
use crate::dates;
use crate::shapes::{array, text};
use crate::timeline::Handle;
use crate::world::{Repo, Row, World};
use serde_json::json;
use std::ops::RangeInclusive;

/// Of any query GitHub shows the first thousand hits only.
pub const SHOWN: usize = 1000;

/// A query taken apart.
#[derive(Default)]
struct Query {
    repos: Vec<String>,
    pull: Option<bool>,
    closed: Option<bool>,
    merged: Option<bool>,
    created: Option<RangeInclusive<i64>>,
    updated: Option<RangeInclusive<i64>>,
    labels: Vec<String>,
    without_labels: Vec<String>,
    author: Option<String>,
    words: Vec<String>,
}

pub enum Problem {
    Empty,
    UnknownRepo,
}

pub fn answer(world: &World, ask: &Ask, api: &str) -> Answer {
    let by_update = ask.param("sort").as_deref() == Some("updated");
    let up = ask.param("order").as_deref() == Some("asc");
    let mut hits = match hits(world, &ask.param("q").unwrap_or_default(), by_update, up) {
        Ok(hits) => hits,
        Err(problem) => return invalid(problem),
    };
    // A search that runs out of time counts what it found till then.
    if ask.incomplete {
        hits.truncate(hits.len() / 2);
    }
    let page = Page::of(ask, hits.len().min(SHOWN));
    // The page that holds hit 1000 is the last one there is.
    if page.last_row() >= SHOWN + ask.number("per_page", 30).clamp(1, 100) as usize {
        return problem(422, "Only the first 1000 search results are available");
    }
    let mut body = Vec::new();
    text(
        &mut body,
        &format!(
            "{{\"total_count\":{},\"incomplete_results\":{},\"items\":",
            hits.len(),
            ask.incomplete
        ),
    );
    array(&mut body, &hits[page.range()], |out, (repo, number)| {
        if let Some(item) = repo.item(*number) {
            let render = Render { api };
            render.issue(out, repo, &item, false);
            render.extend(out, |_, out| text(out, "\"score\":1.0"));
        }
    });
    text(&mut body, ",\"search_type\":\"lexical\"}");
    let answer = Answer::json(200, body);
    match page.link(ask, &format!("{api}/search/issues")) {
        Some(link) => answer.with("link", link),
        None => answer,
    }
}

fn invalid(problem: Problem) -> Answer {
    let error = match problem {
        Problem::Empty => json!({"resource": "Search", "field": "q", "code": "missing"}),
        Problem::UnknownRepo => json!({
            "message": "The listed users and repositories cannot be searched either because the \
                        resources do not exist or you do not have permission to view them.",
            "resource": "Search", "field": "q", "code": "invalid"
        }),
    };
    let docs = "https://docs.github.com/v3/search/";
    let body = json!({
        "message": "Validation Failed", "errors": [error], "documentation_url": docs, "status": "422"
    });
    Answer::value(422, &body)
}

/// What a query finds: in every repository, newest first unless said otherwise.
pub fn hits<'a>(
    world: &'a World,
    query: &str,
    by_update: bool,
    up: bool,
) -> Result<Vec<(&'a Repo, u64)>, Problem> {
    let query = Query::parse(query);
    let repos: Vec<&Repo> = if query.repos.is_empty() {
        world.repos.iter().collect()
    } else {
        let named = query.repos.iter().map(|name| world.find(name).anywhere());
        named.collect::<Option<_>>().ok_or(Problem::UnknownRepo)?
    };
    if query.is_empty() {
        return Err(Problem::Empty);
    }
    let mut found = Vec::new();
    for repo in repos {
        let rows =
            repo.rows().iter().filter(|row| query.fits(row) && query.reads(repo, row.number));
        found.extend(
            rows.map(|row| (if by_update { row.updated } else { row.created }, repo, row.number)),
        );
    }
    found.sort_by_key(|(at, repo, number)| (*at, repo.id, *number));
    if !up {
        found.reverse();
    }
    Ok(found.into_iter().map(|(_, repo, number)| (repo, number)).collect())
}

/// The hits as GraphQL takes them.
pub fn handles<'a>(world: &'a World, query: &str) -> Result<(usize, Vec<Handle<'a>>), Problem> {
    let hits = hits(world, query, false, false)?;
    let total = hits.len();
    let shown = hits.into_iter().take(SHOWN);
    let handles =
        shown.filter_map(|(repo, number)| Some(Handle { repo, item: repo.item(number)? }));
    Ok((total, handles.collect()))
}

impl Query {
    fn parse(text: &str) -> Query {
        let mut query = Query::default();
        for token in tokens(text) {
            let (key, value) = token.split_once(':').unwrap_or(("", &token));
            match (key, value) {
                ("repo", name) => query.repos.push(name.to_owned()),
                ("is" | "type", "issue") => query.pull = Some(false),
                ("is" | "type", "pr") => query.pull = Some(true),
                ("is" | "state", "open") => query.closed = Some(false),
                ("is" | "state", "closed") => query.closed = Some(true),
                ("is", "merged") => query.merged = Some(true),
                ("is", "unmerged") => query.merged = Some(false),
                ("label", labels) => {
                    query.labels.extend(labels.split(',').take(1).map(str::to_owned))
                }
                ("-label", label) => query.without_labels.push(label.to_owned()),
                ("created", dates) => query.created = span(dates),
                ("updated", dates) => query.updated = span(dates),
                ("author", login) => query.author = Some(login.to_owned()),
                ("", "AND" | "OR" | "NOT" | "") => {}
                ("", word) => query.words.push(word.to_lowercase()),
                // Qualifiers this server does not know narrow nothing.
                _ => {}
            }
        }
        query
    }

    fn is_empty(&self) -> bool {
        let facts = self.pull.is_none() && self.closed.is_none() && self.merged.is_none();
        let dates = self.created.is_none() && self.updated.is_none();
        let texts = self.repos.is_empty() && self.labels.is_empty() && self.words.is_empty();
        facts && dates && texts && self.author.is_none() && self.without_labels.is_empty()
    }

    fn fits(&self, row: &Row) -> bool {
        let same = |wanted: Option<bool>, is: bool| wanted.is_none_or(|wanted| wanted == is);
        let within = |span: &Option<RangeInclusive<i64>>, at: i64| {
            span.as_ref().is_none_or(|span| span.contains(&at))
        };
        same(self.pull, row.pull)
            && same(self.closed, row.closed)
            && (self.merged.is_none() || (row.pull && same(self.merged, row.merged)))
            && within(&self.created, row.created)
            && within(&self.updated, row.updated)
    }

    /// The questions that need more than the row.
    fn reads(&self, repo: &Repo, number: u64) -> bool {
        if !self.labels.is_empty() || !self.without_labels.is_empty() {
            let have = repo.labels(number);
            let has = |label: &String| have.iter().any(|have| have.eq_ignore_ascii_case(label));
            if !self.labels.iter().all(has) || self.without_labels.iter().any(has) {
                return false;
            }
        }
        if self.words.is_empty() && self.author.is_none() {
            return true;
        }
        let Some(item) = repo.item(number) else {
            return false;
        };
        let text = format!("{}\n{}", item.title, item.body.as_deref().unwrap_or("")).to_lowercase();
        self.words.iter().all(|word| text.contains(word))
            && self.author.as_ref().is_none_or(|author| item.user.eq_ignore_ascii_case(author))
    }
}

/// The words of a query; quotes hold words together and are dropped.
fn tokens(text: &str) -> Vec<String> {
    let (mut tokens, mut token, mut quoted) = (Vec::new(), String::new(), false);
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            c if c.is_whitespace() && !quoted => tokens.push(std::mem::take(&mut token)),
            c => token.push(c),
        }
    }
    tokens.push(token);
    tokens.retain(|token| !token.is_empty());
    tokens
}

/// `A..B`, `>=A`, `>A`, `<=B`, `<B` or one day; a bare date spans its whole day.
fn span(text: &str) -> Option<RangeInclusive<i64>> {
    let from = |text: &str| {
        if text == "*" { Some(i64::MIN) } else { dates::parse(text) }
    };
    let to = |text: &str| match text {
        "*" => Some(i64::MAX),
        date if date.len() == 10 => Some(dates::parse(date)? + 86_399),
        time => dates::parse(time),
    };
    if let Some((start, end)) = text.split_once("..") {
        Some(from(start)?..=to(end)?)
    } else if let Some(start) = text.strip_prefix(">=") {
        Some(from(start)?..=i64::MAX)
    } else if let Some(start) = text.strip_prefix('>') {
        Some(to(start)?.saturating_add(1)..=i64::MAX)
    } else if let Some(end) = text.strip_prefix("<=") {
        Some(i64::MIN..=to(end)?)
    } else if let Some(end) = text.strip_prefix('<') {
        Some(i64::MIN..=from(end)?.saturating_sub(1))
    } else {
        Some(from(text)?..=to(text)?)
    }
}
