//! Kind `github`: rows from GitHub's REST lists, single objects, diffs, and GraphQL queries.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use indexmap::IndexMap;
use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde_json::{Value, json};
use toml::Spanned;

use super::seen::{Half, Seen, half};
use super::{
    Answered, Ask, Columns, Compile, Compiled, Components, Kind, NoGood, RowError, RowStage,
    RowWork, Secret, Server, StageError, Work, World,
};
use crate::clients::{self, Asking, CallError, Go, Pace, Place, Query, Request, Transport};
use crate::manifest::{address, did_you_mean, parse_age};
use crate::programs::{Jq, Template};
use crate::store::{ArtifactWriter, Made, Store};
use crate::table::{Row, key_of};

pub struct Github;

/// Rows that are sent as one GraphQL request at the most.
const MOST_ROWS: usize = 100;

/// What `[stages.NAME]` may hold. Exactly one of `list`, `lists`, `get`, `graphql` and `diff` says
/// what is asked.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// A template of a list's address (`/repos/{{ repo }}/issues?state=all`): every element of every
    /// page is a row.
    #[schemars(with = "Option<String>")]
    list: Option<Spanned<String>>,
    /// Several lists of one row, by name; `pick` sees them together as one object. An address that
    /// renders to nothing is not asked, and its list is empty.
    #[schemars(with = "Option<IndexMap<String, String>>")]
    lists: Option<IndexMap<String, Spanned<String>>>,
    /// A template of one object's address.
    #[schemars(with = "Option<String>")]
    get: Option<Spanned<String>>,
    /// A file with a GraphQL query for one row; its variables are fields of the row. `pick` sees
    /// the answer's `data`.
    #[schemars(with = "Option<String>")]
    graphql: Option<Spanned<String>>,
    /// A template of a pull request's address. `pick` sees `{diff, complete, from, files}`; a diff
    /// that GitHub will not give as one is put together from the list of files.
    #[schemars(with = "Option<String>")]
    diff: Option<Spanned<String>>,
    /// GraphQL: how many rows are sent as one request (1 where it is not given).
    #[schemars(with = "Option<u32>", range(min = 1, max = 100))]
    batch: Option<Spanned<NonZeroUsize>>,
    /// A jq program, or a `.jq` file, that makes a row of each element of a list or of the one
    /// answer; the object as it is where there is none.
    #[schemars(with = "Option<String>")]
    pick: Option<Spanned<String>>,
    /// A list of issues or pull requests: whether GitHub is asked how many there are, where it can be
    /// (with a token), so that a list that lacks some is not taken for the whole. True where it is
    /// not given.
    #[schemars(with = "Option<bool>")]
    check_total: Option<Spanned<bool>>,
    /// How old an answer may be (`12h`, `7d`) before GitHub is asked whether it still holds; for
    /// ever where it is not given.
    #[schemars(with = "Option<String>")]
    max_age: Option<Spanned<String>>,
}

enum Question {
    List(Template),
    Lists(Vec<(String, Template)>),
    Get(Template),
    Graphql { query: Query, batch: usize },
    Diff(Template),
}

struct Stage {
    client: clients::Github,
    question: Question,
    pick: Option<Jq>,
    /// A list's own key, by which an element that moved while it was paged is known again.
    key: Vec<String>,
    keep: Vec<String>,
    max_age: Option<Duration>,
    check_total: bool,
    concurrency: usize,
}

impl Kind for Github {
    fn name(&self) -> &'static str {
        "github"
    }

    fn version(&self) -> u32 {
        2
    }

    fn settings(&self, generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<Settings>()
    }

    fn compile(&self, cx: &mut Compile<'_>) -> Option<Compiled> {
        let settings: Settings = cx.settings()?;
        let driver = cx.driver();
        let filter = cx.filter();
        let question = question(cx, &settings);
        let pick = settings.pick.as_ref().map(|text| cx.jq(text, "pick"));
        let max_age = settings.max_age.as_ref().map(|text| age(cx, text));
        let client = client(cx);
        let is_list = settings.list.is_some();
        let shape = driver.as_ref().and_then(|driver| cx.row_shape(driver, !is_list));
        let pick = match pick {
            Some(None) => return None,
            Some(Some(jq)) => Some(jq),
            None => None,
        };
        let max_age = match max_age {
            Some(age) => Some(age?),
            None => None,
        };
        let (shape, question, client) = (shape?, question?, client?);
        let own = match (&pick, &question) {
            (Some(jq), _) => jq.fields().map(<[String]>::to_vec),
            (None, Question::Graphql { query, .. }) => Some(query.fields.clone()),
            (None, Question::Lists(lists)) => {
                Some(lists.iter().map(|(name, _)| name.clone()).collect())
            }
            (None, Question::Diff(_)) => {
                Some(["diff", "complete", "from", "files"].map(str::to_owned).to_vec())
            }
            (None, _) => None,
        };
        let columns = match own {
            None => Columns::Unknown,
            Some(own) => {
                let mut names = shape.key.clone();
                names.extend(shape.keep.iter().cloned());
                names.extend(own);
                if !is_list {
                    names.push("_outcome".into());
                }
                Columns::Known(names)
            }
        };
        let key = if is_list { cx.own_key(&columns)? } else { shape.key.clone() };
        let required = matches!(question, Question::Graphql { .. });
        let of = if required { "GitHub's GraphQL" } else { "GitHub" };
        let secrets = client.auth.iter().map(|variable| Secret {
            variable: variable.clone(),
            of: of.into(),
            required,
        });
        let secrets = secrets.collect();
        let keep = shape.keep.clone();
        let concurrency = cx.manifest.github.concurrency.get();
        let check_total = settings.check_total.is_none_or(|check| *check.get_ref());
        let stage = Stage {
            client,
            question,
            pick,
            key: key.clone(),
            keep,
            max_age,
            check_total,
            concurrency,
        };
        let work = Work::Rows(RowWork { stage: Arc::new(stage), shape, filter: filter? });
        Some(Compiled { secrets, ..cx.compiled(work, columns, key) })
    }
}

fn question(cx: &mut Compile<'_>, settings: &Settings) -> Option<Question> {
    let given = [
        ("list", settings.list.as_ref().map(Spanned::span)),
        ("lists", settings.lists.as_ref().map(|_| cx.span())),
        ("get", settings.get.as_ref().map(Spanned::span)),
        ("graphql", settings.graphql.as_ref().map(Spanned::span)),
        ("diff", settings.diff.as_ref().map(Spanned::span)),
    ];
    let given: Vec<_> = given.into_iter().filter_map(|(name, span)| Some((name, span?))).collect();
    match &given[..] {
        [] => {
            let message = format!("stage `{}` does not say what to ask GitHub", cx.decl.name);
            let help = "add one of `list`, `lists`, `get`, `graphql`, `diff`";
            cx.fail(cx.span(), message, Some(help.into()));
            return None;
        }
        [_] => {}
        [(first, _), (second, span), ..] => {
            let message = format!("stage `{}` has both `{first}` and `{second}`", cx.decl.name);
            cx.fail(span.clone(), message, Some("a stage asks one thing; make two stages".into()));
            return None;
        }
    }
    if let (Some(batch), None) = (&settings.batch, &settings.graphql) {
        cx.fail(batch.span(), "`batch` belongs to `graphql`", Some("remove it".into()));
        return None;
    }
    if let (Some(check), None) = (&settings.check_total, &settings.list) {
        cx.fail(check.span(), "`check_total` belongs to `list`", Some("remove it".into()));
        return None;
    }
    if let Some(address) = &settings.list {
        return Some(Question::List(path(cx, address)?));
    }
    if let Some(lists) = &settings.lists {
        let parsed: Vec<_> =
            lists.iter().map(|(name, address)| Some((name.clone(), path(cx, address)?))).collect();
        return Some(Question::Lists(parsed.into_iter().collect::<Option<_>>()?));
    }
    if let Some(address) = &settings.get {
        return Some(Question::Get(path(cx, address)?));
    }
    if let Some(address) = &settings.diff {
        return Some(Question::Diff(path(cx, address)?));
    }
    if let Some(batch) = settings.batch.as_ref().filter(|batch| batch.get_ref().get() > MOST_ROWS) {
        let message = format!("`batch` is {}, more than GitHub answers at once", batch.get_ref());
        cx.fail(batch.span(), message, Some(format!("{MOST_ROWS} at the most; 25 serves well")));
        return None;
    }
    let path = settings.graphql.as_ref()?;
    if cx.manifest.github.token.is_none() && cx.manifest.github.is_public() {
        let help = "add `token = { env = \"GITHUB_TOKEN\" }` under `[github]`";
        cx.fail(path.span(), "GitHub's GraphQL answers nobody without a token", Some(help.into()));
        return None;
    }
    let source = cx.read(path)?;
    match Query::parse(&source.text) {
        Ok(query) => {
            let mut sound = true;
            let columns =
                cx.inputs.first().map(|input| (input.name.clone(), input.columns.clone()));
            for variable in &query.variables {
                if let Some((input, columns)) = &columns
                    && !columns.has(variable)
                {
                    let message =
                        format!("the query's variable `${variable}` is no field of `{input}`");
                    let at = source.text.find(&format!("${variable}")).unwrap_or(0);
                    let known = columns.names().iter().map(String::as_str);
                    let problem = crate::manifest::Problem::new(message)
                        .at(&source, at..at + 1 + variable.len())
                        .help_if(did_you_mean(variable, known));
                    cx.problems.add(problem);
                    sound = false;
                }
            }
            let batch = settings.batch.as_ref().map_or(1, |batch| batch.get_ref().get());
            sound.then_some(Question::Graphql { query, batch })
        }
        Err(error) => {
            let line = error.line().map_or(0..0, |line| source.line(line));
            let problem = crate::manifest::Problem::new(format!(
                "the GraphQL query `{}` cannot be used: {error}",
                path.get_ref()
            ));
            cx.problems.add(problem.at(&source, line).help(error.help()));
            None
        }
    }
}

/// A template of an address, which goes on from `base_url`.
fn path(cx: &mut Compile<'_>, address: &Spanned<String>) -> Option<Template> {
    // What it begins with is not known where that is rendered.
    if !address.get_ref().trim_start().starts_with(['/', '{']) {
        let message = "an address begins with `/`";
        let help = "it goes on from `base_url` of `[github]`: `/repos/{{ repo }}/issues`";
        cx.fail(address.span(), message, Some(help.into()));
        return None;
    }
    cx.template_inline(address)
}

/// Under which quota GitHub counts what is asked there.
fn resource(address: &Template) -> &'static str {
    let text = &address.sources[0].text;
    match clients::is_search(text) {
        true if text.contains("/search/code") => "code_search",
        true => "search",
        false => "core",
    }
}

fn age(cx: &mut Compile<'_>, text: &Spanned<String>) -> Option<Duration> {
    match parse_age(text.get_ref()) {
        Some(age) => Some(age),
        None => {
            let message = format!("`{}` is no length of time", text.get_ref());
            let help = "write a number and a unit: `30s`, `15m`, `12h`, `7d`, `2w`";
            cx.fail(text.span(), message, Some(help.into()));
            None
        }
    }
}

fn client(cx: &mut Compile<'_>) -> Option<clients::Github> {
    let github = &cx.manifest.github;
    // One that cannot be used was told, and replaced, when the manifest was read.
    let base_url = address(&github.base_url.resolve().ok()?).ok()?;
    Some(clients::Github {
        base_url,
        api_version: github.api_version.clone(),
        auth: github.token.as_ref().map(|token| token.env.clone()),
        timeout: Duration::from_secs(github.timeout.get()),
        attempts: github.attempts.get(),
        pace: Pace {
            concurrency: github.concurrency,
            requests_per_minute: github.requests_per_minute(),
            tokens_per_minute: None,
            tokens: 0,
            burst: 0.1,
            adaptive: false,
        },
    })
}

impl RowStage for Stage {
    fn describe(&self, components: &mut dyn Components) {
        components.add("base_url", &self.client.base_url);
        components.add("api_version", &self.client.api_version);
        let mut template = |name: &str, template: &Template| {
            for source in &template.sources {
                components.add(name, &source.text);
            }
        };
        match &self.question {
            Question::List(address) => template("list", address),
            Question::Lists(lists) => {
                for (name, address) in lists {
                    template(&format!("lists.{name}"), address);
                }
            }
            Question::Get(address) => template("get", address),
            Question::Diff(address) => template("diff", address),
            // The batch is only a way of sending.
            Question::Graphql { query, .. } => components.add("graphql", &query.text),
        }
        if !self.key.is_empty() {
            components.add("list key", &self.key.join(","));
        }
        components.add("pick", self.pick.as_ref().map_or(".", |pick| &pick.text));
    }

    fn ask(&self, row: &Row) -> Result<Ask, RowError> {
        let requests = match &self.question {
            Question::List(address) | Question::Get(address) => {
                vec![self.client.get(&render(address, row)?)]
            }
            Question::Diff(address) => vec![self.client.diff(&render(address, row)?)],
            Question::Lists(lists) => {
                let mut ask = Ask::default();
                for (name, address) in lists {
                    if let Some(path) = optional(address, row)? {
                        ask.requests.push(self.client.get(&path));
                        ask.text.push_str(&format!("{name}\n"));
                    }
                }
                return Ok(ask);
            }
            Question::Graphql { query, .. } => {
                vec![self.client.query(query, &variables(query, row)?)]
            }
        };
        Ok(Ask { requests, ..Ask::default() })
    }

    fn is_list(&self) -> bool {
        matches!(self.question, Question::List(_))
    }

    fn max_age(&self) -> Option<Duration> {
        self.max_age
    }

    fn servers(&self) -> Vec<Server<'_>> {
        let mut resources = match &self.question {
            Question::Graphql { .. } => BTreeSet::from(["graphql"]),
            Question::List(address) | Question::Get(address) | Question::Diff(address) => {
                BTreeSet::from([resource(address)])
            }
            Question::Lists(lists) => lists.iter().map(|(_, address)| resource(address)).collect(),
        };
        if self.check_total && matches!(self.question, Question::List(_)) {
            resources.insert("graphql");
        }
        vec![Server::Github { client: &self.client, resources }]
    }

    fn batch(&self) -> usize {
        match self.question {
            Question::Graphql { batch, .. } => batch,
            _ => 1,
        }
    }

    fn concurrency(&self) -> usize {
        self.concurrency
    }

    fn foresee(&self, ask: &Ask, transport: &Transport) -> (Vec<Request>, bool) {
        match &self.question {
            Question::List(_) | Question::Lists(_) => {
                let totals = ask.requests.iter().filter_map(|first| self.total(first, transport));
                let walks = ask.requests.iter().map(|first| self.client.foresee(transport, first));
                walks.fold((totals.collect(), true), |(mut all, exact), (pages, whole)| {
                    all.extend(pages);
                    (all, exact && whole)
                })
            }
            _ => (ask.requests.clone(), true),
        }
    }

    fn run<'a>(
        &'a self,
        rows: &'a [(Row, Ask)],
        asking: &'a Asking,
        world: &'a World,
    ) -> BoxFuture<'a, Vec<Result<Answered, RowError>>> {
        Box::pin(async move {
            if let Question::Graphql { query, .. } = &self.question {
                let results = self.graphql(query, rows, asking).await;
                let made = results.into_iter().map(|rows| rows.map(Made::Rows));
                return made.map(|made| made.map(Answered::from)).collect();
            }
            let mut results = Vec::with_capacity(rows.len());
            for (row, ask) in rows {
                let made = match &self.question {
                    Question::List(_) => self.list(row, &ask.requests[0], asking, world).await,
                    _ => self.rest(row, ask, asking).await.map(Made::Rows),
                };
                results.push(made.map(Answered::from));
            }
            results
        })
    }
}

impl Stage {
    async fn rest(&self, row: &Row, ask: &Ask, asking: &Asking) -> Result<Vec<Row>, RowError> {
        match &self.question {
            Question::Lists(lists) => self.lists(lists, row, asking).await,
            Question::Diff(_) => self.diff(&ask.requests[0], asking).await,
            _ => {
                let mut answer = asking.transport.call(&ask.requests[0], asking).await?;
                let mut place = answer.moved_to().map(str::to_owned);
                if answer.status == 404 {
                    match self.client.place(asking, &ask.requests[0].url).await? {
                        Some(Place::At(there)) => {
                            answer = asking.transport.call(&self.client.at(&there), asking).await?;
                            place = Some(there);
                        }
                        Some(Place::Gone(status)) => return Ok(vec![outcome(status)]),
                        None => {}
                    }
                }
                if !answer.is_success() {
                    return Ok(vec![outcome(answer.status)]);
                }
                let mut rows = self.pick(&answer.json()?)?;
                if let Some(place) = place {
                    rows.iter_mut().for_each(|row| row.extend(moved(&place)));
                }
                Ok(rows)
            }
        }
    }

    /// How GitHub is asked how many elements a list has, where it can be.
    fn total(&self, first: &Request, transport: &Transport) -> Option<Request> {
        let may = self.check_total && matches!(self.question, Question::List(_));
        let total = self.client.total(first).filter(|_| may)?;
        let asks = !transport.is_offline() && clients::secret_in(total.auth.as_deref()?).is_some();
        (asks || transport.is_recorded(total.key()).unwrap_or(false)).then_some(total)
    }

    /// Every element of every page, once: one that moved while the list was paged stands where it
    /// was first seen, as it was last seen. Rows are handed on page by page, and written down as
    /// they come: a list may be longer than what can be held at once.
    async fn list(
        &self,
        row: &Row,
        first: &Request,
        asking: &Asking,
        world: &World,
    ) -> Result<Made, RowError> {
        let mut list = List {
            kept: self.kept(row),
            key: &self.key,
            seen: Seen::new(&world.scratch),
            writer: world.store.write_artifact(&[]),
            moved: HashMap::new(),
            offer: &*world.offer,
        };
        let mut fault = None;
        let mut missing = None;
        let mut enough = false;
        // Asked before the list, which may grow meanwhile.
        let total = match self.total(first, &asking.transport) {
            Some(total) if world.limit.is_none() => self.client.count(asking, &total).await?,
            _ => None,
        };
        let mut elements: HashSet<Half> = HashSet::new();
        let walk = self.client.list(asking, first, |page| {
            missing = missing.or(page.outcome);
            if let Some(to) = &page.moved_to {
                (world.note)(format!("{} is now {to}", first.shown()));
            }
            for element in &page.elements {
                if total.is_some_and(|(_, at)| was_there(element, at)) {
                    elements.insert(half(clients::identity(element).as_bytes()));
                }
                let picked = self.pick(element);
                let added = picked.and_then(|rows| {
                    for row in rows {
                        enough |= world.limit.is_some_and(|most| list.writer.rows() >= most);
                        if !enough {
                            list.add(row)?;
                        }
                    }
                    Ok(())
                });
                if let Err(error) = added {
                    fault = Some(error);
                    break;
                }
            }
            enough |= world.limit.is_some_and(|most| list.writer.rows() >= most);
            match (&fault, enough) {
                (None, false) => Ok(Go::On),
                _ => Ok(Go::Enough),
            }
        });
        let walked = walk.await;
        match (fault, walked, missing) {
            (Some(fault), _, _) => Err(fault),
            (None, Err(error), _) => Err(error.into()),
            (None, Ok(()), Some(status)) => {
                let why = format!("{} answers {status} ({})", first.shown(), meaning(status));
                Err(RowError::Answer(NoGood::Missing, why))
            }
            (None, Ok(()), None) => match total {
                Some((total, _)) if (elements.len() as u64) < total => {
                    let (found, at) = (elements.len() as u64, first.shown());
                    Err(CallError::Missing { found, total, at }.into())
                }
                _ => list.finish(&world.store),
            },
        }
    }

    fn kept(&self, row: &Row) -> Row {
        let field = |field: &String| Some((field.clone(), row.get(field)?.clone()));
        self.keep.iter().filter_map(field).collect()
    }

    async fn lists(
        &self,
        lists: &[(String, Template)],
        row: &Row,
        asking: &Asking,
    ) -> Result<Vec<Row>, RowError> {
        let mut gathered = Row::new();
        let mut missing = None;
        let mut moved_to = None;
        for (name, address) in lists {
            let mut elements = Vec::new();
            let mut seen = HashSet::new();
            if let Some(path) = optional(address, row)? {
                let mut first = self.client.get(&path);
                let mut place = None;
                loop {
                    let mut absent = None;
                    let mut renamed = None;
                    let walk = self.client.list(asking, &first, |page| {
                        absent = absent.or(page.outcome);
                        renamed = renamed.take().or(page.moved_to);
                        // One may come twice, where a page was read in parts.
                        let new = |it: &Value| seen.insert(half(clients::identity(it).as_bytes()));
                        elements.extend(page.elements.into_iter().filter(new));
                        Ok(Go::On)
                    });
                    walk.await?;
                    moved_to = moved_to.or(renamed);
                    // What was transferred has its parts at its new place.
                    if absent == Some(404) {
                        match self.client.place(asking, &first.url).await? {
                            Some(Place::At(there)) => {
                                first = self.client.at(&there);
                                // A second place is not looked for.
                                if place.replace(there).is_none() {
                                    elements.clear();
                                    seen.clear();
                                    continue;
                                }
                            }
                            Some(Place::Gone(status)) => absent = Some(status),
                            None => {}
                        }
                    }
                    missing = missing.or(absent);
                    break;
                }
                moved_to = moved_to.or(place);
            }
            gathered.insert(name.clone(), elements.into());
        }
        let mut rows = self.pick(&Value::Object(gathered))?;
        if let Some(status) = missing {
            rows.iter_mut().for_each(|row| row.extend(outcome(status)));
        } else if let Some(place) = moved_to {
            rows.iter_mut().for_each(|row| row.extend(moved(&place)));
        }
        Ok(rows)
    }

    /// A diff; where GitHub has none to give as one (406: more than 20,000 lines, 300 files or
    /// 1 MB), what its files' own patches hold, each file that lacks one marked.
    async fn diff(&self, request: &Request, asking: &Asking) -> Result<Vec<Row>, RowError> {
        let answer = asking.transport.call(request, asking).await?;
        let place = answer.moved_to().map(moved).unwrap_or_default();
        let with_place = |mut rows: Vec<Row>| {
            rows.iter_mut().for_each(|row| row.extend(place.clone()));
            rows
        };
        if answer.is_success() {
            let diff = String::from_utf8_lossy(&answer.body).into_owned();
            let whole = json!({ "diff": diff, "complete": true, "from": "diff", "files": [] });
            return self.pick(&whole).map(with_place);
        }
        // Too large, or too long in the making.
        if !matches!(answer.status, 406 | 422) {
            return Ok(vec![outcome(answer.status)]);
        }
        let path = request.url.strip_prefix(&self.client.base_url).unwrap_or(&request.url);
        let pull = asking.transport.call(&self.client.get(path), asking).await?;
        if !pull.is_success() {
            return Ok(vec![outcome(pull.status)]);
        }
        let pull = pull.json()?;
        let counts = |files: &[Value]| {
            let sum = |name: &str| files.iter().filter_map(|file| file[name].as_u64()).sum::<u64>();
            // What GitHub lists must be what it counts.
            pull["changed_files"] == files.len()
                && ["additions", "deletions"].iter().all(|name| pull[*name] == sum(name))
        };
        let (mut diff, mut files) = (String::new(), Vec::new());
        // In large pages GitHub leaves patches out without saying so: then in smaller ones.
        for size in [30, 5, 1] {
            let first = self.client.get(&format!("{path}/files?per_page={size}"));
            (diff, files) = (String::new(), Vec::new());
            let (mut missing, mut cut) = (None, false);
            let walk = self.client.list(asking, &first, |page| {
                missing = missing.or(page.outcome);
                let mut lines = 0;
                for file in &page.elements {
                    let patch = file["patch"].as_str();
                    lines += patch.map_or(0, |patch| patch.lines().count());
                    cut |= patch.is_none() && file["changes"] == 0 && lines >= CUT_LINES;
                    files.push(add_file(&mut diff, file));
                }
                Ok(Go::On)
            });
            walk.await?;
            if let Some(status) = missing {
                return Ok(vec![outcome(status)]);
            }
            // Of more files GitHub lists only so many, however small the pages.
            if (!cut && counts(&files)) || files.len() >= MOST_FILES {
                break;
            }
        }
        let complete = counts(&files) && files.iter().all(|file| file["complete"] == json!(true));
        let rebuilt = json!({
            "diff": diff, "complete": complete, "from": "files", "files": files,
        });
        self.pick(&rebuilt).map(with_place)
    }

    async fn graphql(
        &self,
        query: &Query,
        rows: &[(Row, Ask)],
        asking: &Asking,
    ) -> Vec<Result<Vec<Row>, RowError>> {
        let mut asked = Vec::new();
        for (row, _) in rows {
            // `ask` took the same fields before.
            asked.push(variables(query, row).unwrap_or_default());
        }
        let answers = self.client.batch(asking, query, &asked).await;
        answers
            .into_iter()
            .map(|answer| {
                let value = answer?.json()?;
                let data = value.get("data").cloned().unwrap_or_default();
                let hidden = value["errors"].as_array().into_iter().flatten();
                let hidden = hidden.filter(|error| error["type"] == "FORBIDDEN").count();
                let nothing = query.fields.iter().all(|field| data[field.as_str()].is_null());
                if nothing && value.get("errors").is_some() {
                    return Ok(vec![outcome(404)]);
                }
                let mut rows = self.pick(&data)?;
                if hidden > 0 {
                    rows.iter_mut().for_each(|row| row.extend(outcome(403)));
                }
                Ok(rows)
            })
            .collect()
    }

    fn pick(&self, value: &Value) -> Result<Vec<Row>, RowError> {
        let picked = match &self.pick {
            None => vec![value.clone()],
            Some(jq) => {
                jq.run(value).map_err(|error| RowError::Row(format!("`pick` failed: {error}")))?
            }
        };
        picked
            .into_iter()
            .map(|value| match value {
                Value::Object(row) => Ok(row),
                other => {
                    let shown: String = other.to_string().chars().take(100).collect();
                    Err(RowError::Row(format!("`pick` yields {shown}, an object is wanted")))
                }
            })
            .collect()
    }
}

/// Rows of one list on their way into the store.
struct List<'a> {
    kept: Row,
    key: &'a [String],
    seen: Seen,
    writer: ArtifactWriter,
    /// Elements that were seen again and had changed, by the place where they were first seen.
    moved: HashMap<u64, Row>,
    offer: &'a (dyn Fn(&Row) + Send + Sync),
}

/// After about so many lines of patches in one answer GitHub leaves the rest of them out.
const CUT_LINES: usize = 10_000;
/// Lists of up to so many rows are remembered as rows, longer ones as an artifact.
const SHORT: u64 = 500;

impl List<'_> {
    fn add(&mut self, picked: Row) -> Result<(), RowError> {
        let mut row = self.kept.clone();
        row.extend(picked);
        let key = key_of(&row, self.key).map_err(|field| {
            RowError::Row(format!("`pick` makes a row without the key field `{field}`"))
        })?;
        let text = serde_json::to_vec(&row).expect("rows always serialize");
        match self.seen.see(half(key.0.as_bytes()), (self.writer.rows(), Some(half(&text))))? {
            None => {
                (self.offer)(&row);
                self.writer.push(&row).map_err(StageError::from)?;
            }
            Some((_, before)) if before == Some(half(&text)) => {}
            Some((place, _)) => {
                self.moved.insert(place, row);
            }
        }
        Ok(())
    }

    fn finish(mut self, store: &Store) -> Result<Made, RowError> {
        let mut artifact = self.writer.finish().map_err(StageError::from)?;
        if !self.moved.is_empty() {
            let mut writer = store.write_artifact(&[]);
            for (place, row) in (0..).zip(store.rows(&artifact)) {
                let row = row.map_err(StageError::from)?;
                let row = self.moved.remove(&place).unwrap_or(row);
                writer.push(&row).map_err(StageError::from)?;
            }
            artifact = writer.finish().map_err(StageError::from)?;
        }
        if artifact.rows > SHORT {
            return Ok(Made::Stored(artifact.digest()));
        }
        let rows: Result<Vec<Row>, _> = store.rows(&artifact).collect();
        Ok(Made::Rows(rows.map_err(StageError::from)?))
    }
}

/// The name that git gives to a file without content.
const EMPTY_FILE: &str = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391";
/// GitHub lists no more of a pull request's files.
const MOST_FILES: usize = 3000;

/// How many lines a patch adds, and how many it takes away.
fn changes(patch: &str) -> [u64; 2] {
    ['+', '-'].map(|sign| patch.lines().filter(|line| line.starts_with(sign)).count() as u64)
}

/// Whether an element of a list was there already at a time, in ms since 1970.
fn was_there(element: &Value, at: i64) -> bool {
    let created = element["created_at"].as_str().and_then(|text| text.parse().ok());
    created.is_none_or(|created: Timestamp| at == 0 || created.as_millisecond() <= at)
}

/// Adds a file's patch to a diff, with the header that git would write, and tells what there was.
fn add_file(diff: &mut String, file: &Value) -> Value {
    let text = |name: &str| file.get(name).and_then(Value::as_str);
    let number = |name: &str| file.get(name).and_then(Value::as_u64).unwrap_or(0);
    let path = text("filename").unwrap_or_default();
    let before = text("previous_filename").unwrap_or(path);
    let status = text("status").unwrap_or_default();
    let patch = text("patch");
    diff.push_str(&format!("diff --git a/{before} b/{path}\n"));
    let old = if status == "added" { "/dev/null".to_owned() } else { format!("a/{before}") };
    let new = if status == "removed" { "/dev/null".to_owned() } else { format!("b/{path}") };
    if let Some(patch) = patch {
        diff.push_str(&format!("--- {old}\n+++ {new}\n{patch}"));
        if !patch.ends_with('\n') {
            diff.push('\n');
        }
    }
    // A rename changes no line and has no patch, nor has an empty file; a binary file has none either,
    // and says so by counting no change while it is neither.
    let unchanged = status == "renamed" || text("sha") == Some(EMPTY_FILE);
    let complete = match patch {
        Some(patch) => changes(patch) == [number("additions"), number("deletions")],
        None => number("changes") == 0 && unchanged,
    };
    json!({
        "path": path, "status": status, "additions": number("additions"),
        "deletions": number("deletions"), "complete": complete,
    })
}

fn variables(query: &Query, row: &Row) -> Result<Row, RowError> {
    let variable = |name: &String| {
        let value = row.get(name).ok_or_else(|| {
            RowError::Row(format!("the row has no field `{name}` for the query's variable"))
        })?;
        Ok((name.clone(), value.clone()))
    };
    query.variables.iter().map(variable).collect()
}

/// A rendered address; it begins with a slash, so that it stays on the server.
fn render(address: &Template, row: &Row) -> Result<String, RowError> {
    let path = address.render(row).map_err(|error| RowError::Row(error.to_string()))?;
    let path = path.trim();
    if !path.starts_with('/') || path.contains(char::is_control) {
        return Err(RowError::Row(format!("the address `{path}` does not begin with a slash")));
    }
    Ok(path.to_owned())
}

fn optional(address: &Template, row: &Row) -> Result<Option<String>, RowError> {
    let path = address.render(row).map_err(|error| RowError::Row(error.to_string()))?;
    if path.trim().is_empty() { Ok(None) } else { render(address, row).map(Some) }
}

/// What a row holds in place of an answer that there will never be.
fn outcome(status: u16) -> Row {
    let outcome = json!({ "status": status, "reason": meaning(status) });
    Row::from_iter([("_outcome".to_owned(), outcome)])
}

/// What a row holds beside an answer that was found elsewhere.
fn moved(to: &str) -> Row {
    let outcome = json!({ "status": 301, "reason": "moved", "to": to });
    Row::from_iter([("_outcome".to_owned(), outcome)])
}

fn meaning(status: u16) -> &'static str {
    match status {
        403 => "blocked by GitHub, or in part not to be seen with these credentials",
        404 => "not found, or not to be seen with these credentials",
        406 => "too large",
        410 => "deleted",
        451 => "blocked for legal reasons",
        _ => "no answer",
    }
}
