//! GitHub under `/github`: which endpoint a path means, and the headers every answer carries.

pub mod graphql;
mod lists;
mod render;
mod rest;
mod search;

use crate::ask::{Answer, Ask};
use crate::limit::{self, Limits};
use crate::world::{Found, Repo, World};
use serde_json::{Value, json};

/// What GitHub refuses beside its limits, where flags ask for it.
#[derive(clap::Args)]
#[group(skip)]
pub struct Rules {
    /// Rows of a list of issues, pull requests or comments that page numbers lead to
    #[arg(long, value_name = "N")]
    list_wall: Option<usize>,
    /// Whether the links of issues lead past that wall, by cursors, or are page numbers
    #[arg(long, value_enum, default_value_t = Links::Cursor)]
    wall_links: Links,
    /// Patch lines in one answer after which a pull request's files come without their patches
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    patch_lines: usize,
    /// The largest per_page of REST that is answered in time
    #[arg(long, value_name = "N")]
    page_most: Option<u64>,
    /// The most fields of a GraphQL query, and rows of one of its connections, that are answered in
    /// time
    #[arg(long, value_name = "N")]
    batch_most: Option<u64>,
    /// Answers hold fields and events that no client knows
    #[arg(long)]
    pub strange: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Links {
    Cursor,
    Page,
}

pub const DOCS: &str = "https://docs.github.com/rest";

/// The template of the endpoint that `path` (without `/github`) names, for the counts.
pub fn template(path: &str) -> &'static str {
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let rest = match parts.as_slice() {
        ["graphql"] => return "/graphql",
        ["search", "issues"] => return "/search/issues",
        ["rate_limit"] => return "/rate_limit",
        ["user"] => return "/user",
        ["repos", _, _, rest @ ..] | ["repositories", _, rest @ ..] => rest,
        _ => return "(other)",
    };
    match rest {
        [] => "/repos/{owner}/{repo}",
        ["issues"] => "/repos/{owner}/{repo}/issues",
        ["issues", _] => "/repos/{owner}/{repo}/issues/{number}",
        ["issues", _, "comments"] => "/repos/{owner}/{repo}/issues/{number}/comments",
        ["issues", _, "timeline"] => "/repos/{owner}/{repo}/issues/{number}/timeline",
        ["issues", _, "events"] => "/repos/{owner}/{repo}/issues/{number}/events",
        ["pulls"] => "/repos/{owner}/{repo}/pulls",
        ["pulls", _] => "/repos/{owner}/{repo}/pulls/{number}",
        ["pulls", _, "files"] => "/repos/{owner}/{repo}/pulls/{number}/files",
        ["pulls", _, "reviews"] => "/repos/{owner}/{repo}/pulls/{number}/reviews",
        ["pulls", _, "comments"] => "/repos/{owner}/{repo}/pulls/{number}/comments",
        ["pulls", _, "commits"] => "/repos/{owner}/{repo}/pulls/{number}/commits",
        _ => "(other)",
    }
}

/// Whose limit a request counts for.
pub fn resource(path: &str) -> &'static str {
    match path.strip_prefix("/github") {
        Some("/graphql") => "graphql",
        Some(path) if path.starts_with("/search/") => "search",
        _ => "core",
    }
}

pub fn answer(world: &World, limits: &Limits, rules: &Rules, ask: &Ask) -> Answer {
    let path = ask.path.strip_prefix("/github").unwrap_or(&ask.path);
    let api = format!("{}/github", ask.base);
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let (answer, cost) = match (ask.method.as_str(), parts.as_slice()) {
        // What is left may be asked at any time.
        ("GET", ["rate_limit"]) => return finish(limits.tell(), ask),
        ("POST", ["graphql"]) => graphql::answer(world, limits, rules, ask),
        ("GET", _) if rules.page_most.is_some_and(|most| ask.number("per_page", 0) > most) => {
            (problem(502, "Server Error"), 1)
        }
        ("GET", ["search", "issues"]) => (search::answer(world, ask, &api), 1),
        ("GET", parts) => (core(world, rules, parts, ask, &api), 1),
        _ => return finish(not_found(), ask),
    };
    let answer = if rules.strange && ask.method == "GET" { stranger(answer) } else { answer };
    let mut answer = finish(answer, ask);
    let resource = resource(&ask.path);
    let charged = limits.charge(resource, if answer.status == 304 { 0 } else { cost });
    if charged.refused {
        answer = finish(limit::exceeded(resource, limits), ask);
    }
    answer.headers.extend(charged.headers);
    answer
}

fn core(world: &World, rules: &Rules, parts: &[&str], ask: &Ask, api: &str) -> Answer {
    match parts {
        ["user"] => rest::user(api),
        ["repos", owner, name, rest @ ..] => match world.find(&format!("{owner}/{name}")) {
            Found::Here(repo) => rest::answer(world, rules, repo, rest, ask, api),
            Found::Moved(repo) => moved(repo, rest, ask, api),
            Found::Nowhere => not_found(),
        },
        ["repositories", id, rest @ ..] => {
            let repo = id.parse().ok().and_then(|id| world.by_id(id));
            let answer = repo.map(|repo| rest::answer(world, rules, repo, rest, ask, api));
            answer.unwrap_or_else(not_found)
        }
        _ => not_found(),
    }
}

pub fn not_found() -> Answer {
    problem(404, "Not Found")
}

pub fn problem(status: u16, message: &str) -> Answer {
    let status_text = status.to_string();
    let body = json!({"message": message, "documentation_url": DOCS, "status": status_text});
    Answer::value(status, &body)
}

fn moved(repo: &Repo, rest: &[&str], ask: &Ask, api: &str) -> Answer {
    let mut url = format!("{api}/repositories/{}", repo.id);
    for part in rest {
        url = url + "/" + part;
    }
    let pairs: Vec<String> =
        ask.query.iter().map(|(key, value)| format!("{key}={value}")).collect();
    if !pairs.is_empty() {
        url = url + "?" + &pairs.join("&");
    }
    let body = json!({"message": "Moved Permanently", "url": url, "documentation_url": DOCS});
    Answer::value(301, &body).with("location", url)
}

/// Adds a field that no client knows to every object of an answer.
fn stranger(mut answer: Answer) -> Answer {
    fn add(value: &mut Value) {
        match value {
            Value::Array(values) => values.iter_mut().for_each(add),
            Value::Object(fields) => {
                fields.values_mut().for_each(add);
                fields.insert("field_of_tomorrow".to_owned(), json!([{"colour": 9}]));
            }
            _ => {}
        }
    }
    if let Ok(mut body) = serde_json::from_slice(&answer.body) {
        add(&mut body);
        answer.body = body.to_string().into_bytes();
    }
    answer
}

/// Adds the headers that every answer of GitHub carries, and answers a matching ETag with 304.
fn finish(mut answer: Answer, ask: &Ask) -> Answer {
    let tag = blake3::hash(&answer.body).to_hex();
    if answer.status == 200 && ask.method == "GET" {
        let etag = format!("\"{tag}\"");
        let known = ask.if_none_match.as_deref().is_some_and(|tags| {
            tags.split(',').any(|known| known.trim().trim_start_matches("W/") == etag)
        });
        if known {
            answer.status = 304;
            answer.body.clear();
        }
        answer =
            answer.with("etag", etag).with("cache-control", "private, max-age=60, s-maxage=60");
    }
    answer
        .with("x-github-media-type", "github.v3; format=json")
        .with("x-github-request-id", format!("SIM:{}", tag[..24].to_uppercase()))
}
