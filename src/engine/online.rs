//! Whether those whom a pipeline asks would answer: who the token is and what is left of its quotas,
//! under which names the repositories are found, whether the models are there. Asks, and keeps
//! nothing of it: neither the store nor its lock is touched.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, StreamExt};
use indexmap::IndexMap;
use serde::Serialize;
use serde_json::Value;

use super::look::LookError;
use super::rows::asked;
use crate::clients::{Chat, Github, Probe, Reply, secret_in};
use crate::manifest::did_you_mean;
use crate::pipeline::{InputRef, Pipeline, Stage};
use crate::stages::{RowWork, Server, StageError, Work};
use crate::table::{Row, all_fields, read_rows};

/// Requests under way at once.
const AT_ONCE: usize = 16;
/// Where a file names more repositories, the first ones stand for all: a look must not use up a
/// quota.
const MOST_REPOSITORIES: usize = 100;

/// What was found out about one thing.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    pub kind: CheckKind,
    pub name: String,
    pub state: CheckState,
    /// What there is to say, and what to do. It may hold what a server said.
    pub text: String,
    /// What is left of each quota that the pipeline uses, by its name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, Left>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckKind {
    /// GitHub, with the token of that variable.
    Token,
    /// GitHub, which is asked without a token.
    Server,
    /// A model's key that is not there.
    Key,
    Repository,
    Model,
}

impl CheckKind {
    pub fn as_str(self) -> &'static str {
        match self {
            CheckKind::Token => "token",
            CheckKind::Server => "server",
            CheckKind::Key => "key",
            CheckKind::Repository => "repository",
            CheckKind::Model => "model",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckState {
    Ok,
    /// It answers under another name.
    Renamed,
    /// A run will fail over it.
    Problem,
    /// It cannot be told from here.
    Unknown,
}

impl CheckState {
    pub fn as_str(self) -> &'static str {
        match self {
            CheckState::Ok => "ok",
            CheckState::Renamed => "renamed",
            CheckState::Problem => "problem",
            CheckState::Unknown => "unknown",
        }
    }
}

/// What is left of a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Left {
    pub limit: u64,
    pub remaining: u64,
    /// Seconds until it is whole again; 0 where that is not known.
    pub resets_in: u64,
}

/// Asks everyone whom the pipeline asks, side by side.
pub async fn online(pipeline: &Pipeline) -> Result<Vec<Check>, LookError> {
    let asks = Asks::of(pipeline)?;
    let probe = Probe::new()?;
    let mut checks: Vec<BoxFuture<'_, Check>> = Vec::new();
    for host in &asks.hosts {
        checks.push(host.check(&probe).boxed());
    }
    for (name, repository) in asks.repositories.iter().take(MOST_REPOSITORIES) {
        checks.push(repository.check(name, &probe).boxed());
    }
    if let Some(more @ 1..) = asks.repositories.len().checked_sub(MOST_REPOSITORIES) {
        let rest = Check::new(CheckKind::Repository, &format!("({more} more)"));
        checks.push(async { rest.unknown("not asked: the first ones stand for all") }.boxed());
    }
    for (variable, models) in &asks.unset {
        let names: Vec<String> = models.iter().map(|name| format!("`{name}`")).collect();
        let plural = if names.len() == 1 { "model" } else { "models" };
        let text = format!("is not set; {plural} {} cannot be asked without", names.join(", "));
        checks.push(async { Check::new(CheckKind::Key, variable).problem(text) }.boxed());
    }
    for (name, chat) in &asks.models {
        checks.push(model(name, chat, &probe).boxed());
    }
    Ok(stream::iter(checks).buffered(AT_ONCE).collect().await)
}

/// Whom a pipeline asks.
#[derive(Default)]
struct Asks<'a> {
    hosts: Vec<Host<'a>>,
    repositories: IndexMap<String, Repository<'a>>,
    models: IndexMap<&'a str, &'a Chat>,
    /// The keys that are not set, with the models that want them.
    unset: IndexMap<&'a str, Vec<&'a str>>,
}

/// A GitHub under one token.
struct Host<'a> {
    client: &'a Github,
    resources: BTreeSet<&'static str>,
    /// Stages that cannot do without a token.
    needed_by: Vec<&'a str>,
}

/// A repository that rows name.
struct Repository<'a> {
    client: &'a Github,
    /// The table or file that they stand in.
    named_in: &'a str,
}

impl<'a> Asks<'a> {
    fn of(pipeline: &'a Pipeline) -> Result<Asks<'a>, LookError> {
        let mut asks = Asks::default();
        for stage in &pipeline.stages {
            let Work::Rows(work) = &stage.compiled.work else { continue };
            for server in work.stage.servers() {
                match server {
                    Server::Model { name, chat } => asks.model(name, chat),
                    Server::Github { client, resources } => {
                        asks.host(stage, client, resources);
                        let input = &stage.inputs[0];
                        let named_in = pipeline.input_name(input);
                        for name in named(work, client, &written(pipeline, input)?) {
                            let repository = Repository { client, named_in };
                            asks.repositories.entry(name).or_insert(repository);
                        }
                    }
                }
            }
        }
        Ok(asks)
    }

    fn model(&mut self, name: &'a str, chat: &'a Chat) {
        if self.models.insert(name, chat).is_none()
            && let Some(variable) = &chat.auth
            && secret_in(variable).is_none()
        {
            self.unset.entry(variable).or_default().push(name);
        }
    }

    fn host(&mut self, stage: &'a Stage, client: &'a Github, resources: BTreeSet<&'static str>) {
        let same = |host: &&mut Host<'_>| {
            (&host.client.base_url, &host.client.auth) == (&client.base_url, &client.auth)
        };
        let needs = stage.compiled.secrets.iter().any(|secret| secret.required);
        let needed_by = needs.then_some(stage.name.as_str());
        match self.hosts.iter_mut().find(same) {
            Some(host) => {
                host.resources.extend(resources);
                host.needed_by.extend(needed_by);
            }
            None => {
                let needed_by = needed_by.into_iter().collect();
                self.hosts.push(Host { client, resources, needed_by });
            }
        }
    }
}

/// The rows that people wrote; none where a stage is to make them.
fn written(pipeline: &Pipeline, input: &InputRef) -> Result<Vec<Row>, LookError> {
    let mut rows = match input {
        InputRef::Stage(_) => return Ok(Vec::new()),
        InputRef::Table(index) => pipeline.tables[*index].rows.clone(),
        InputRef::File { path, .. } => {
            let wrong = |error| StageError::Failed(format!("the input `{path}` {error}"));
            read_rows(&pipeline.project.root.join(path)).map_err(wrong)?
        }
    };
    // As in a run: a field that only some of them have is null in the rest.
    let fields = all_fields(&rows);
    for row in &mut rows {
        for field in &fields {
            row.entry(field.clone()).or_insert(Value::Null);
        }
    }
    Ok(rows)
}

/// The repositories (`owner/name`) that the addresses of the rows begin with.
fn named(work: &RowWork, client: &Github, rows: &[Row]) -> Vec<String> {
    // A row that cannot be asked about has no address; a run tells it.
    let asks = rows.iter().filter_map(|row| asked(work, row).ok().flatten());
    let requests = asks.flat_map(|(_, ask)| ask.requests);
    let name = |url: &str| {
        let path = url.strip_prefix(&client.base_url)?.strip_prefix("/repos/")?;
        let mut parts = path.split(['/', '?']).map(str::to_owned);
        let (owner, name) = (parts.next()?, parts.next()?);
        (!owner.is_empty() && !name.is_empty()).then(|| format!("{owner}/{name}"))
    };
    requests.filter_map(|request| name(&request.url)).collect()
}

impl Host<'_> {
    async fn check(&self, probe: &Probe) -> Check {
        let client = self.client;
        let server = host_of(&client.base_url);
        let variable = client.auth.as_deref();
        let is_set = variable.is_some_and(|variable| secret_in(variable).is_some());
        let (user, limit) = (client.get("/user"), client.get("/rate_limit"));
        let user = async { if is_set { Some(probe.ask(&user).await) } else { None } };
        let (user, limit) = futures::join!(user, probe.ask(&limit));
        let check = match variable {
            Some(variable) => Check::new(CheckKind::Token, variable),
            None => Check::new(CheckKind::Server, server),
        };
        let check = match (user, &limit) {
            (Some(Err(why)), _) => return check.unreachable(server, &why),
            (None, Err(why)) => {
                let told = self.without(check).and(&format!("{server} does not answer: {why}"));
                return Check { state: CheckState::Problem, ..told };
            }
            (Some(Ok(reply)), _) => account(check, &reply),
            (None, Ok(reply)) if reply.status == 401 => {
                check.problem(format!("{server} answers nobody without a token (401)"))
            }
            (None, Ok(_)) => self.without(check),
        };
        match limit {
            Ok(reply) if reply.is_success() => self.limits(check, is_set, &reply.json()),
            Ok(reply) if reply.status == 404 => check.and("no limit announced"),
            _ => check,
        }
    }

    /// No token is set, or none is named.
    fn without(&self, check: Check) -> Check {
        if check.kind == CheckKind::Server {
            return check.ok("no token");
        }
        if self.needed_by.is_empty() {
            return check.ok("is not set");
        }
        let stages: Vec<String> = self.needed_by.iter().map(|name| format!("`{name}`")).collect();
        let plural = if stages.len() == 1 { "stage" } else { "stages" };
        check.problem(format!("is not set; GraphQL needs it, for {plural} {}", stages.join(", ")))
    }

    fn limits(&self, mut check: Check, is_set: bool, told: &Value) -> Check {
        if let (false, Some(limit)) = (is_set, told["resources"]["core"]["limit"].as_u64()) {
            check = check.and(&format!("{limit} requests an hour without a token"));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        for resource in &self.resources {
            let left = &told["resources"][*resource];
            let number = |name: &str| left[name].as_u64();
            // Without a token, GraphQL's is 0.
            let limit = number("limit").filter(|limit| *limit > 0);
            if let (Some(limit), Some(remaining)) = (limit, number("remaining")) {
                let resets_in = number("reset").unwrap_or(0).saturating_sub(now);
                check.limits.insert((*resource).into(), Left { limit, remaining, resets_in });
            }
        }
        check
    }
}

/// Whose token it is.
fn account(check: Check, reply: &Reply) -> Check {
    let said = reply.message();
    match reply.status {
        200..=299 => {
            let account = reply.json();
            let Some(login) = account["login"].as_str() else {
                return check.unknown("the server names no account");
            };
            let kind = account["type"].as_str().unwrap_or("account");
            let check = check.ok(format!("{login} ({kind})"));
            match reply.header("github-authentication-token-expiration") {
                Some(when) => check.and(&format!("the token expires {when}")),
                None => check,
            }
        }
        401 => check.problem(format!("is refused (401: {said}); make a new token and set it")),
        _ if reply.is_limit() => check.unknown(format!("may not ask now: {said}")),
        403 if said.contains("by integration") => check.ok("an app's token, which has no user"),
        404 => check.unknown("the server names no account"),
        status => check.problem(format!("no account is told ({status}: {said})")),
    }
}

impl Repository<'_> {
    async fn check(&self, name: &str, probe: &Probe) -> Check {
        let check = Check::new(CheckKind::Repository, name);
        let reply = match probe.ask(&self.client.get(&format!("/repos/{name}"))).await {
            Ok(reply) => reply,
            Err(why) => return check.unreachable(host_of(&self.client.base_url), &why),
        };
        let said = reply.message();
        let variable = self.client.auth.as_deref();
        let variable = variable.filter(|variable| secret_in(variable).is_some());
        match reply.status {
            200..=299 => self.found(check, &reply.json()),
            404 => check.problem(match variable {
                Some(variable) => format!("not found, or {variable} may not see it"),
                None => "not found, or not to be seen without a token".into(),
            }),
            451 => check.problem(format!("blocked for legal reasons (451: {said})")),
            401 => check.problem(format!("the token is refused (401: {said})")),
            _ if reply.is_limit() => check.unknown(format!("may not be asked now: {said}")),
            status => check.problem(format!("does not answer ({status}: {said})")),
        }
    }

    fn found(&self, check: Check, repository: &Value) -> Check {
        let Some(now) = repository["full_name"].as_str() else {
            return check.unknown("the answer names no repository");
        };
        let mut check = match now.eq_ignore_ascii_case(&check.name) {
            true => check.ok("answers"),
            false => {
                let text = format!("is now {now}: put this name in `{}`", self.named_in);
                check.with(CheckState::Renamed, text)
            }
        };
        for mark in ["archived", "private", "disabled"] {
            if repository[mark] == true {
                check = check.and(mark);
            }
        }
        check
    }
}

async fn model(name: &str, chat: &Chat, probe: &Probe) -> Check {
    let check = Check::new(CheckKind::Model, name);
    let server = host_of(&chat.base_url);
    if let Some(variable) = chat.auth.as_deref().filter(|it| secret_in(it).is_none()) {
        return check.unknown(format!("not asked: {variable} is not set"));
    }
    let model = chat.pool.as_str();
    let one = match probe.ask(&chat.get(&format!("/models/{}", encoded(model)))).await {
        Ok(reply) => reply,
        Err(why) => return check.unreachable(server, &why),
    };
    if let (true, Some(known)) = (one.is_success(), one.json()["id"].as_str()) {
        return check.ok(match known == model {
            true => format!("{model} is there, at {server}"),
            false => format!("{model} is there, at {server}, as {known}"),
        });
    }
    if !one.is_success() && !matches!(one.status, 404 | 405 | 501) {
        return refused(check, chat, &one);
    }
    let list = match probe.ask(&chat.get("/models")).await {
        Ok(reply) => reply,
        Err(why) => return check.unreachable(server, &why),
    };
    if !list.is_success() && !matches!(list.status, 404 | 405 | 501) {
        return refused(check, chat, &list);
    }
    let list = list.json();
    let list = list["data"].as_array().or(list.as_array()).map_or(&[][..], Vec::as_slice);
    let names: Vec<&str> = list.iter().filter_map(|model| model["id"].as_str()).collect();
    match &names[..] {
        [] => check.unknown(format!("{server} answers, but lists no models")),
        _ if names.contains(&model) => check.ok(format!("{model} is there, at {server}")),
        // It has one model and gives it every name.
        [one] if list[0]["owned_by"] == "llamacpp" => {
            check.ok(format!("{server} answers under any name, with {one}"))
        }
        _ => {
            let near = did_you_mean(model, names).unwrap_or_default();
            check.problem(format!("{server} has no model {model}; {near}"))
        }
    }
}

/// A model's server will not tell.
fn refused(check: Check, chat: &Chat, reply: &Reply) -> Check {
    let said = reply.message();
    match (reply.status, &chat.auth) {
        // Such a key may chat all the same.
        (401 | 403, _) if said.contains("api.model.read") => {
            check.unknown(format!("the key may not list models: {said}"))
        }
        (401, Some(variable)) => check.problem(format!("{variable} is refused (401: {said})")),
        (401, None) => {
            let section = format!("`[models.{}]`", check.name);
            check.problem(format!("wants a key (401: {said}): add `api_key` to {section}"))
        }
        (status @ (403 | 429), _) => check.unknown(format!("will not tell ({status}: {said})")),
        (status, _) => check.problem(format!("does not answer ({status}: {said})")),
    }
}

impl Check {
    fn new(kind: CheckKind, name: &str) -> Check {
        let (name, text) = (name.to_owned(), String::new());
        Check { kind, name, state: CheckState::Unknown, text, limits: BTreeMap::new() }
    }

    fn with(self, state: CheckState, text: impl Into<String>) -> Check {
        Check { state, text: text.into(), ..self }
    }

    fn ok(self, text: impl Into<String>) -> Check {
        self.with(CheckState::Ok, text)
    }

    fn problem(self, text: impl Into<String>) -> Check {
        self.with(CheckState::Problem, text)
    }

    fn unknown(self, text: impl Into<String>) -> Check {
        self.with(CheckState::Unknown, text)
    }

    fn unreachable(self, server: &str, why: &str) -> Check {
        self.problem(format!("{server} does not answer: {why}"))
    }

    /// Says one thing more.
    fn and(mut self, text: &str) -> Check {
        if !self.text.is_empty() {
            self.text.push_str("; ");
        }
        self.text.push_str(text);
        self
    }
}

/// `api.github.com`: an address may hold a password, and a server's name does not.
fn host_of(base_url: &str) -> &str {
    let rest = base_url.split_once("://").map_or(base_url, |(_, rest)| rest);
    let server = rest.split(['/', '?']).next().unwrap_or(rest);
    server.rsplit('@').next().unwrap_or(server)
}

/// A model's name as a part of an address; slashes in it stay.
fn encoded(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/@".contains(&byte);
    let one = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    name.bytes().map(one).collect()
}
