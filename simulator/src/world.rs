//! The repositories served: what is in them, under which names and ids they are found.

use crate::dates;
use crate::dice::hash;
use crate::generate::Generator;
use crate::item::{Item, Place};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};

#[derive(Default)]
pub struct World {
    pub repos: Vec<Repo>,
    by_name: HashMap<String, usize>,
    /// Old name to new name, both in lower case.
    moved: HashMap<String, String>,
    /// Node ids of recorded threads, which say nothing about the item's place here.
    recorded: HashMap<String, (usize, u64)>,
    /// Timelines hold an event of a kind that no client knows.
    pub strange: bool,
}

pub struct Repo {
    pub id: u64,
    pub name: String,
    /// Where its web pages would be: the part of an `html_url` before the owner.
    site: String,
    generator: Option<Generator>,
    items: BTreeMap<u64, Arc<Item>>,
    /// What became of the items that are not here any more.
    lost: BTreeMap<u64, Lost>,
    /// Which pull requests from files close an issue.
    closers: HashMap<u64, BTreeSet<u64>>,
    rows: OnceLock<Vec<Row>>,
    open: OnceLock<usize>,
}

pub enum Lost {
    /// Answered with this status.
    Gone(u16),
    Moved(Place),
}

/// What lists and searches sort and filter by, held for every item.
#[derive(Clone, Copy)]
pub struct Row {
    pub number: u64,
    pub created: i64,
    pub updated: i64,
    pub closed: bool,
    pub pull: bool,
    pub merged: bool,
}

/// The answer to "is there a repository of this name?".
pub enum Found<'a> {
    Here(&'a Repo),
    Moved(&'a Repo),
    Nowhere,
}

impl<'a> Found<'a> {
    /// The repository, under its name of today or an old one.
    pub fn anywhere(self) -> Option<&'a Repo> {
        match self {
            Found::Here(repo) | Found::Moved(repo) => Some(repo),
            Found::Nowhere => None,
        }
    }
}

impl World {
    /// Declares that `from` is now called `to`, whether it is served already or not.
    pub fn rename(&mut self, from: &str, to: &str) {
        let (old, new) = (from.to_lowercase(), to.to_lowercase());
        if old == new {
            return;
        }
        if let Some(place) = self.by_name.remove(&old) {
            self.repos[place].rename(to);
            self.moved.remove(&new);
            self.by_name.insert(new.clone(), place);
        }
        self.moved.insert(old, new);
        self.make(to);
    }

    pub fn add_generated(&mut self, name: &str, generator: Generator) {
        let repo = self.make(name);
        let repo = &mut self.repos[repo];
        repo.generator = Some(generator);
        repo.site = "https://github.example".to_owned();
    }

    /// Adds or replaces an item of `name`, or takes it from there; an item that says nothing of its
    /// own address keeps the one it had.
    pub fn insert(&mut self, name: &str, site: Option<&str>, mut item: Item) {
        let place = self.make(name);
        let repo = &mut self.repos[place];
        if let Some(status) = item.gone {
            repo.lose(item.number, Lost::Gone(status));
            return;
        }
        if let Some(to) = item.moved_to.take() {
            // One that says nothing but its new place is moved as it is.
            let old = repo.item(item.number).filter(|_| item.title.is_empty());
            repo.lose(item.number, Lost::Moved(to.clone()));
            let item = old.map_or(item, Arc::unwrap_or_clone);
            let (thread, closes, html_url) = Default::default();
            let item = Item { number: to.number, thread, closes, html_url, ..item };
            return self.insert(&to.repo, None, item);
        }
        repo.lost.remove(&item.number);
        if let Some(site) = site {
            repo.site = site.to_owned();
        }
        let old = repo.item(item.number);
        if item.html_url.is_empty() {
            item.html_url = match &old {
                Some(old) if old.kind == item.kind => old.html_url.clone(),
                _ => repo.page_of(item.is_pull(), item.number),
            };
        }
        repo.forget(item.number);
        for issue in &item.closes {
            repo.closers.entry(*issue).or_default().insert(item.number);
        }
        let node_id = item.thread.as_ref().and_then(|thread| thread.issue["node_id"].as_str());
        if let Some(node_id) = node_id {
            self.recorded.insert(node_id.to_owned(), (place, item.number));
        }
        repo.items.insert(item.number, Arc::new(item));
    }

    pub fn find(&self, name: &str) -> Found<'_> {
        let name = name.to_lowercase();
        let now = self.current(&name);
        match self.by_name.get(&now) {
            Some(place) if now == name => Found::Here(&self.repos[*place]),
            Some(place) => Found::Moved(&self.repos[*place]),
            None => Found::Nowhere,
        }
    }

    /// `/repositories/{id}` spelled as `/repos/{owner}/{name}`.
    pub fn named(&self, path: &str) -> String {
        let below = path.strip_prefix("/github/repositories/").unwrap_or_default();
        let (id, rest) = below.split_at(below.find('/').unwrap_or(below.len()));
        match id.parse().ok().and_then(|id| self.by_id(id)) {
            Some(repo) => format!("/github/repos/{}{rest}", repo.name),
            None => path.to_owned(),
        }
    }

    pub fn by_id(&self, id: u64) -> Option<&Repo> {
        self.repos.iter().find(|repo| repo.id == id)
    }

    /// The item with this node id: one of our own making, or a recorded one.
    pub fn by_node(&self, node_id: &str) -> Option<(&Repo, Arc<Item>)> {
        if let Some((place, number)) = self.recorded.get(node_id) {
            let repo = &self.repos[*place];
            return Some((repo, repo.item(*number)?));
        }
        let digits = node_id.split_once("_kwDO")?.1;
        let repo = self.by_id(u64::from_str_radix(digits.get(..8)?, 16).ok()?)?;
        let item = repo.item(u64::from_str_radix(digits.get(8..)?, 16).ok()?)?;
        (repo.node_id(&item) == node_id).then_some((repo, item))
    }

    /// The name a repository has today; a circle of renames ends where it began.
    fn current(&self, name: &str) -> String {
        let mut now = name;
        for _ in 0..self.moved.len() {
            match self.moved.get(now) {
                Some(next) => now = next,
                None => break,
            }
        }
        now.to_owned()
    }

    /// The first name a repository had: its ids come from it, so that a rename changes none.
    fn original<'a>(&'a self, name: &'a str) -> &'a str {
        let mut first = name;
        for _ in 0..self.moved.len() {
            match self.moved.iter().filter(|(_, new)| *new == first).map(|(old, _)| old).min() {
                Some(old) => first = old,
                None => break,
            }
        }
        first
    }

    fn make(&mut self, name: &str) -> usize {
        let key = self.current(&name.to_lowercase());
        if let Some(place) = self.by_name.get(&key) {
            return *place;
        }
        // Room for 10^6 items, ten ids each, under the 2^53 that JSON readers keep exact.
        let mut id = 100_000_000 + hash(self.original(&key).as_bytes()) % 700_000_000;
        while self.by_id(id).is_some() {
            id += 1;
        }
        let place = self.repos.len();
        self.by_name.insert(key, place);
        self.repos.push(Repo {
            id,
            name: name.to_owned(),
            site: "https://simulator.invalid".to_owned(),
            generator: None,
            items: BTreeMap::new(),
            lost: BTreeMap::new(),
            closers: HashMap::new(),
            rows: OnceLock::new(),
            open: OnceLock::new(),
        });
        place
    }
}

impl Repo {
    pub fn owner(&self) -> &str {
        self.name.split('/').next().unwrap_or_default()
    }

    pub fn short_name(&self) -> &str {
        self.name.split('/').nth(1).unwrap_or_default()
    }

    /// The repository's own web page.
    pub fn page(&self) -> String {
        format!("{}/{}", self.site, self.name)
    }

    fn page_of(&self, pull: bool, number: u64) -> String {
        let kind = if pull { "pull" } else { "issues" };
        format!("{}/{kind}/{number}", self.page())
    }

    fn rename(&mut self, name: &str) {
        let old = self.page();
        self.name = name.to_owned();
        let new = self.page();
        for item in self.items.values_mut() {
            if let Some(below) = item.html_url.strip_prefix(&format!("{old}/")) {
                let html_url = format!("{new}/{below}");
                Arc::make_mut(item).html_url = html_url;
            }
        }
    }

    fn lose(&mut self, number: u64, how: Lost) {
        self.forget(number);
        self.lost.insert(number, how);
    }

    /// Drops what was kept of an item, and what was worked out with it.
    fn forget(&mut self, number: u64) {
        let old = self.items.remove(&number);
        for issue in old.iter().flat_map(|old| &old.closes) {
            if let Some(pulls) = self.closers.get_mut(issue) {
                pulls.remove(&number);
            }
        }
        self.rows = OnceLock::new();
        self.open = OnceLock::new();
    }

    pub fn lost(&self, number: u64) -> Option<&Lost> {
        self.lost.get(&number)
    }

    pub fn item(&self, number: u64) -> Option<Arc<Item>> {
        if self.lost.contains_key(&number) {
            return None;
        }
        if let Some(item) = self.items.get(&number) {
            return Some(item.clone());
        }
        let mut item = self.generator.as_ref()?.item(number)?;
        item.html_url = self.page_of(item.is_pull(), number);
        Some(Arc::new(item))
    }

    pub fn labels(&self, number: u64) -> Vec<String> {
        match (self.items.get(&number), &self.generator) {
            (Some(item), _) => item.labels.clone(),
            (None, Some(generator)) => generator.labels(number),
            (None, None) => Vec::new(),
        }
    }

    /// The pull requests that close issue `number`, merged or not, in ascending order.
    pub fn closers(&self, number: u64) -> Vec<Arc<Item>> {
        let mut pulls = self.closers.get(&number).cloned().unwrap_or_default();
        if let Some(generator) = &self.generator {
            let made = generator.closers(number);
            pulls.extend(made.filter(|pull| !self.items.contains_key(pull)));
        }
        pulls.into_iter().filter_map(|pull| self.item(pull)).collect()
    }

    /// Every item, in the order of creation. Worked out at the first question, then kept.
    pub fn rows(&self) -> &[Row] {
        self.rows.get_or_init(|| {
            let made = self.generator.as_ref().map_or(0, |generator| generator.items);
            let made = (1..=made).filter(|number| {
                !self.items.contains_key(number) && !self.lost.contains_key(number)
            });
            let made = made.filter_map(|number| Some(self.generator.as_ref()?.row(number)));
            let mut rows: Vec<Row> =
                made.chain(self.items.values().map(|item| row(item))).collect();
            rows.sort_by_key(|row| (row.created, row.number));
            rows
        })
    }

    /// How many items are open: every pull request's JSON says it, twice.
    pub fn open(&self) -> usize {
        *self.open.get_or_init(|| self.rows().iter().filter(|row| !row.closed).count())
    }

    pub fn node_id(&self, item: &Item) -> String {
        let recorded = item.thread.as_ref().and_then(|thread| thread.issue["node_id"].as_str());
        match recorded {
            Some(recorded) => recorded.to_owned(),
            None => {
                let kind = if item.is_pull() { "PR" } else { "I" };
                format!("{kind}_kwDO{:08X}{:06X}", self.id, item.number)
            }
        }
    }

    /// The id of the `nth` thing of a kind (`what`) that belongs to item `number`.
    pub fn part_id(&self, number: u64, what: &str, nth: usize) -> u64 {
        hash(format!("{} {number} {what} {nth}", self.id).as_bytes()) >> 11
    }

    /// The numeric id of item `number`: in slot 0 as an issue, in slot 1 as a pull request.
    pub fn number_id(&self, number: u64, slot: u64) -> u64 {
        self.id * 10_000_000 + number % 1_000_000 * 10 + slot % 10
    }

    /// The number of a milestone, which only its title tells.
    pub fn milestone(&self, title: &str) -> u64 {
        self.part_id(0, title, 1) % 1000 + 1
    }

    /// A commit of this repository: `what` and `number` say which.
    pub fn commit(&self, what: &str, number: u64) -> String {
        let text = format!("{} {what} {number}", self.id);
        blake3::hash(text.as_bytes()).to_hex()[..40].to_owned()
    }
}

fn row(item: &Item) -> Row {
    Row {
        number: item.number,
        created: dates::parse(&item.created_at).unwrap_or(0),
        updated: dates::parse(&item.updated_at).unwrap_or(0),
        closed: item.is_closed(),
        pull: item.is_pull(),
        merged: item.merged_at.is_some(),
    }
}
