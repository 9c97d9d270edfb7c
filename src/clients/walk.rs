//! How a list is walked: which request comes after which page, so that every element is seen.
//!
//! A list is followed by its `Link`. Where that leads by page numbers over elements that move (sorted
//! by their last update), or ends at a wall that page numbers do not pass, the walk goes on by
//! `since` windows, each beginning with the last element of the page before. A search, of which
//! GitHub shows a thousand results, is split by `created` windows until each shows all of its own.

use std::collections::HashSet;

use jiff::Timestamp;
use reqwest::Url;
use serde_json::Value;

use super::call::{Answer, CallError, Request, is_search};
use super::transport::{is_wall, message, same_server};

/// GitHub shows no more of a search's results.
const MOST_FOUND: u64 = 1000;
/// Nothing on GitHub is older; and a time that no study outlives. Fixed, so that the same search is
/// split in the same way whenever it is asked.
const FIRST: &str = "2007-10-01T00:00:00Z";
const LAST: &str = "2055-10-01T00:00:00Z";

/// One page of a list.
#[derive(Default)]
pub struct Page {
    pub elements: Vec<Value>,
    /// A status that says there is no such list (404, 410, 451).
    pub outcome: Option<u16>,
    /// How many pages are known to follow.
    pub ahead: u64,
    /// Where the list is, where that is not the address that was asked; told once.
    pub moved_to: Option<String>,
}

/// A list that is being walked.
pub(super) struct Walk {
    first: Request,
    next: Option<Request>,
    /// The addresses that were asked.
    asked: HashSet<String>,
    /// How many elements a page has, where a whole one was too much.
    size: Option<u64>,
    /// Whether it goes on by `since` windows, where it can.
    by_time: bool,
    /// The time that the window begins with, and which elements of that time were seen.
    since: Option<(String, HashSet<String>)>,
    search: Option<Search>,
    elements: u64,
}

/// A search: what it shows of the window that is being walked, and the windows that wait.
#[derive(Default)]
struct Search {
    window: Option<(Timestamp, Timestamp)>,
    waiting: Vec<(Timestamp, Timestamp)>,
    /// How many results the window has, as its first page tells.
    total: Option<u64>,
    /// How many of the window have come, each counted once.
    found: u64,
    /// How many results the whole search has, as its first page told.
    whole: Option<u64>,
    /// All that have come.
    seen: HashSet<String>,
}

impl Walk {
    pub fn new(first: Request) -> Walk {
        let url = Url::parse(&first.url).ok();
        let is = |url: &Url, name: &str, wanted: &str| {
            url.query_pairs().any(|(key, value)| key == name && value == wanted)
        };
        let by_time = url.as_ref().is_some_and(|url| {
            takes_since(url) && is(url, "sort", "updated") && is(url, "direction", "asc")
        });
        let is_search = is_search(&first.url);
        Walk {
            next: Some(first.clone()),
            asked: HashSet::from([first.url.clone()]),
            first,
            size: None,
            by_time,
            since: None,
            search: is_search.then(Search::default),
            elements: 0,
        }
    }

    /// What is to be asked next; `None` once the list is walked.
    pub fn next(&self) -> Option<&Request> {
        self.next.as_ref()
    }

    /// The next request with half the elements a page, for a server that takes too long over a whole
    /// one. The pages after it stay so small.
    pub fn smaller(&self) -> Option<Request> {
        self.half(self.next.as_ref()?)
    }

    /// The next request in smaller and smaller parts.
    pub fn parts(&self) -> impl Iterator<Item = Request> + '_ {
        std::iter::successors(self.smaller(), |request| self.half(request))
    }

    fn half(&self, request: &Request) -> Option<Request> {
        let mut request = request.clone();
        let mut url = Url::parse(&request.url).ok()?;
        let size = number(&url, "per_page").unwrap_or(30);
        let half = size / 2;
        if half == 0 || self.search.is_some() {
            return None;
        }
        // Two halves make a page only where it divides evenly: otherwise begin before it.
        let page = number(&url, "page").filter(|_| !has(&url, "after"));
        set(&mut url, "per_page", Some(&half.to_string()));
        if let Some(page) = page {
            let passed = page.saturating_sub(1) * size;
            set(&mut url, "page", Some(&(passed / half + 1).to_string()));
        }
        request.url = url.into();
        Some(request)
    }

    /// Asks the next request in another way.
    pub fn replace(&mut self, request: Request) {
        self.size = Url::parse(&request.url).ok().and_then(|url| number(&url, "per_page"));
        self.asked.insert(request.url.clone());
        self.next = Some(request);
    }

    /// Takes the answer to the next request, and finds what comes after it.
    pub fn take(&mut self, answer: &Answer) -> Result<Page, CallError> {
        let Some(request) = self.next.take() else { return Ok(Page::default()) };
        let first_page = request.url == self.first.url;
        if answer.status == 422 && is_wall(&message(&answer.body)) {
            self.go_by_time(&request)?;
            return Ok(Page::default());
        }
        if !answer.is_success() {
            return Ok(Page { outcome: Some(answer.status), ..Page::default() });
        }
        let (mut elements, total) = elements_of(answer)?;
        if let Some(search) = &mut self.search {
            search.total = search.total.or(total);
            search.whole = search.whole.or(total);
            if search.total.is_some_and(|total| total > MOST_FOUND) && search.found == 0 {
                self.split(&request)?;
                return Ok(Page::default());
            }
            let new = elements.iter().filter(|it| search.seen.insert(identity(it))).count();
            search.found += new as u64;
        }
        let last = elements.last().and_then(|element| element["updated_at"].as_str());
        let last = last.map(str::to_owned);
        let here: HashSet<String> = elements
            .iter()
            .filter(|element| element["updated_at"].as_str() == last.as_deref())
            .map(identity)
            .collect();
        if let Some((since, seen)) = &self.since {
            let again = |it: &Value| it["updated_at"] == **since && seen.contains(&identity(it));
            elements.retain(|element| !again(element));
        }
        self.elements += elements.len() as u64;
        let link = answer.headers.get("link").map(String::as_str).unwrap_or_default();
        let ahead = pages_ahead(link);
        match address(link, "next") {
            None => self.end_of_window()?,
            Some(next) => {
                let cursor = Url::parse(&next).is_ok_and(|url| has(&url, "after"));
                let later = last.filter(|last| {
                    self.since.as_ref().is_none_or(|(since, _)| since < last) && !cursor
                });
                match later.filter(|_| self.by_time) {
                    Some(later) => self.go_on_since(later, here)?,
                    None => {
                        if let Some((since, seen)) = &mut self.since
                            && elements.last().is_some_and(|it| it["updated_at"] == **since)
                        {
                            seen.extend(here);
                        }
                        self.follow(next)?;
                    }
                }
            }
        }
        let moved_to = answer.moved_to().filter(|_| first_page).map(str::to_owned);
        Ok(Page { elements, outcome: None, ahead, moved_to })
    }

    fn follow(&mut self, url: String) -> Result<(), CallError> {
        if !same_server(&url, &self.first.url) {
            return Err(CallError::Protocol(format!("the list leads to another server: {url}")));
        }
        if !self.asked.insert(url.clone()) {
            return Err(CallError::Protocol(format!("the list leads back to {url}")));
        }
        self.next = Some(Request { url, ..self.first.clone() });
        Ok(())
    }

    /// The list goes on with what was last updated at that time or later.
    fn go_on_since(&mut self, time: String, seen: HashSet<String>) -> Result<(), CallError> {
        let mut url = parsed(&self.first.url)?;
        set(&mut url, "since", Some(&time));
        set(&mut url, "sort", Some("updated"));
        set(&mut url, "direction", Some("asc"));
        set(&mut url, "page", None);
        self.keep_size(&mut url);
        self.since = Some((time, seen));
        self.follow(url.into())
    }

    /// Page numbers lead no further: the list is walked by `since` windows, from its beginning where
    /// it was in another order so far.
    fn go_by_time(&mut self, wall: &Request) -> Result<(), CallError> {
        let mut url = parsed(&self.first.url)?;
        if self.by_time || self.search.is_some() || !takes_since(&url) {
            return Err(CallError::Short { found: self.elements, at: wall.shown() });
        }
        self.by_time = true;
        set(&mut url, "sort", Some("updated"));
        set(&mut url, "direction", Some("asc"));
        set(&mut url, "page", None);
        self.keep_size(&mut url);
        self.follow(url.into())
    }

    /// Pages that begin anew are no larger than those that were answered in time.
    fn keep_size(&self, url: &mut Url) {
        if let Some(size) = self.size {
            set(url, "per_page", Some(&size.to_string()));
        }
    }

    /// A window of a search shows more results than GitHub gives: its two halves are asked.
    fn split(&mut self, request: &Request) -> Result<(), CallError> {
        let search = self.search.get_or_insert_default();
        let time = |text: &str| text.parse::<Timestamp>().expect("it is a time");
        let (from, to) = search.window.unwrap_or_else(|| (time(FIRST), time(LAST)));
        let seconds = to.as_second() - from.as_second();
        let of = window_of(&self.first.url);
        let own = of.is_none_or(|of| query(&self.first.url).contains(&format!("{of}:")));
        if seconds < 2 || own {
            let total = search.total.unwrap_or_default();
            return Err(CallError::TooMany { total, at: request.shown() });
        }
        let half = Timestamp::from_second(from.as_second() + seconds / 2).unwrap_or(from);
        let next = Timestamp::from_second(half.as_second() + 1).unwrap_or(half);
        search.waiting.extend([(next, to), (from, half)]);
        self.next_window()
    }

    /// All that `Link` led to was seen; a search must have shown what it told.
    fn end_of_window(&mut self) -> Result<(), CallError> {
        if let Some(search) = &self.search {
            let missing = |found: u64, total: Option<u64>| {
                let total = total.filter(|total| found < *total)?;
                Some(CallError::Missing { found, total, at: self.first.shown() })
            };
            let all = search.waiting.is_empty().then_some(search.seen.len() as u64);
            let short = missing(search.found, search.total)
                .or_else(|| all.and_then(|all| missing(all, search.whole)));
            if let Some(error) = short {
                return Err(error);
            }
        }
        self.next_window()
    }

    fn next_window(&mut self) -> Result<(), CallError> {
        let Some(search) = &mut self.search else { return Ok(()) };
        let Some(window) = search.waiting.pop() else { return Ok(()) };
        *search = Search { window: Some(window), ..std::mem::take(search) };
        (search.total, search.found) = (None, 0);
        let of = window_of(&self.first.url).unwrap_or("created");
        let asked = format!("{} {of}:{}..{}", query(&self.first.url), window.0, window.1);
        let mut url = parsed(&self.first.url)?;
        set(&mut url, "q", Some(asked.trim()));
        set(&mut url, "page", None);
        self.follow(url.into())
    }
}

/// By which time a search can be split: not every sort of search has one.
fn window_of(url: &str) -> Option<&'static str> {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    match path.rsplit('/').next()? {
        "issues" | "repositories" | "users" => Some("created"),
        "commits" => Some("committer-date"),
        _ => None,
    }
}

fn parsed(url: &str) -> Result<Url, CallError> {
    Url::parse(url).map_err(|error| CallError::Protocol(format!("{url} is no address: {error}")))
}

fn query(url: &str) -> String {
    let url = Url::parse(url).ok();
    let q = url.as_ref().and_then(|url| url.query_pairs().find(|(key, _)| key == "q"));
    q.map(|(_, value)| value.into_owned()).unwrap_or_default()
}

/// Lists that GitHub gives from a time on.
fn takes_since(url: &Url) -> bool {
    url.path().ends_with("/issues") || url.path().ends_with("/issues/comments")
}

fn number(url: &Url, name: &str) -> Option<u64> {
    url.query_pairs().find(|(key, _)| key == name)?.1.parse().ok()
}

fn has(url: &Url, name: &str) -> bool {
    url.query_pairs().any(|(key, _)| key == name)
}

/// Sets a parameter, in its place where it is there.
fn set(url: &mut Url, name: &str, value: Option<&str>) {
    let mut pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    match (pairs.iter().position(|(key, _)| key == name), value) {
        (Some(at), Some(value)) => pairs[at].1 = value.to_owned(),
        (None, Some(value)) => pairs.push((name.to_owned(), value.to_owned())),
        (Some(at), None) => drop(pairs.remove(at)),
        (None, None) => {}
    }
    url.query_pairs_mut().clear().extend_pairs(pairs);
}

/// The elements of a page; of a search also how many results it has.
fn elements_of(answer: &Answer) -> Result<(Vec<Value>, Option<u64>), CallError> {
    let no_list = || CallError::Protocol("the answer is no list".into());
    match answer.json()? {
        Value::Array(elements) => Ok((elements, None)),
        Value::Object(mut object) => match object.remove("items") {
            Some(Value::Array(elements)) => {
                Ok((elements, object.get("total_count").and_then(Value::as_u64)))
            }
            _ => Err(no_list()),
        },
        _ => Err(no_list()),
    }
}

/// What tells an element of a list from all others: its ids, which a renamed repository does not change,
/// else its address.
pub fn identity(element: &Value) -> String {
    let told = |names: &[&str]| {
        let values = names.iter().filter_map(|name| element.get(*name));
        let told: Vec<String> =
            values.filter(|value| !value.is_null()).map(Value::to_string).collect();
        (!told.is_empty()).then(|| told.join(" "))
    };
    told(&["node_id", "id"]).or_else(|| told(&["url"])).unwrap_or_else(|| element.to_string())
}

/// The address that a `Link` header gives for `rel`.
fn address(link: &str, rel: &str) -> Option<String> {
    link.split(',').find_map(|part| {
        let (address, rest) = part.trim().strip_prefix('<')?.split_once('>')?;
        let named =
            |it: &str| it.trim().strip_prefix("rel=").is_some_and(|it| it.trim_matches('"') == rel);
        rest.split(';').any(named).then(|| address.to_owned())
    })
}

/// How many pages follow, where `Link` counts them.
fn pages_ahead(link: &str) -> u64 {
    let number = |rel: &str| {
        let url = Url::parse(&address(link, rel)?).ok()?;
        let page = url.query_pairs().find(|(key, _)| key == "page")?.1.parse::<u64>().ok()?;
        Some(page)
    };
    match (number("next"), number("last")) {
        (Some(next), Some(last)) => (last + 1).saturating_sub(next),
        (Some(_), None) => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use serde_json::json;

    use super::*;
    use crate::clients::{Method, Pace, Service};
    use crate::store::{CallKey, Given, Source};
    use crate::table::Digest;

    fn search(what: &str) -> Walk {
        let one = std::num::NonZeroUsize::MIN;
        Walk::new(Request {
            service: Service::Github,
            method: Method::Get,
            url: format!("https://api.github.com/search/{what}?q=crash&per_page=100"),
            accept: String::new(),
            api_version: None,
            body: Bytes::new(),
            sample: 0,
            auth: None,
            pool: String::new(),
            gives_way: false,
            timeout: std::time::Duration::from_secs(1),
            attempts: 1,
            pace: Pace {
                concurrency: one,
                requests_per_minute: None,
                tokens_per_minute: None,
                tokens: 0,
                burst: 0.1,
                adaptive: false,
            },
            price: None,
            batch: None,
        })
    }

    fn page(total: u64, ids: &[u64]) -> Answer {
        let items: Vec<Value> = ids.iter().map(|id| json!({ "id": id })).collect();
        let body = json!({ "total_count": total, "incomplete_results": false, "items": items });
        Answer {
            key: CallKey(Digest::of(b"")),
            status: 200,
            headers: BTreeMap::new(),
            body: body.to_string().into(),
            source: Source("github".into()),
            given: Given::default(),
            cached: false,
        }
    }

    #[test]
    fn a_result_that_comes_twice_stands_for_no_other() {
        let found = search("issues").take(&page(3, &[1, 2, 2])).err().map(|it| it.to_string());
        assert!(found.is_some_and(|it| it.starts_with("2 of 3 came")));
        assert!(search("issues").take(&page(2, &[1, 2, 2])).is_ok());
    }

    #[test]
    fn a_search_is_split_by_the_time_that_it_has_and_all_parts_make_the_whole() {
        let mut commits = search("commits");
        assert!(commits.take(&page(1500, &[1])).unwrap().elements.is_empty());
        let url = &commits.next().expect("the first half").url;
        assert!(url.contains("committer-date%3A2007-10-01"), "{url}");
        commits.take(&page(1, &[1])).unwrap();
        // Windows that show nothing where the whole had something: it is not taken for all there is.
        let short = commits.take(&page(0, &[])).err().map(|it| it.to_string());
        assert!(short.is_some_and(|it| it.starts_with("1 of 1500 came")));
        let code = search("code").take(&page(1500, &[1])).err().map(|it| it.to_string());
        assert!(code.is_some_and(|it| it.contains("shows 1,000 of 1500")));
    }

    #[test]
    fn a_repository_may_be_called_search() {
        assert!(is_search("https://api.github.com/search/issues?q=x"));
        assert!(!is_search("https://api.github.com/repos/o/search/issues"));
    }
}
