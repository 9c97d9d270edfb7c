//! Lists: which items a query asks for, one page of them, and the `Link` header to the next.

use super::{Links, Rules, problem};
use crate::ask::{Answer, Ask};
use crate::dates;
use crate::shapes::array;
use crate::world::Repo;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use std::ops::Range;

/// What a list is sorted by, and the item's number.
pub type Key = (i64, u64);

/// The keys of the issues (or only the pull requests) that the query asks for, in its order, and
/// whether that is downwards.
pub fn keys(repo: &Repo, ask: &Ask, only_pulls: bool) -> (Vec<Key>, bool) {
    let param = |name: &str| ask.param(name).unwrap_or_default();
    let state = param("state");
    let since = ask.param("since").and_then(|since| dates::parse(&since)).unwrap_or(i64::MIN);
    let by_update = param("sort") == "updated";
    // GitHub sorts pulls upwards as soon as they are not sorted by creation.
    let down = match param("direction").as_str() {
        "asc" => false,
        "desc" => true,
        _ => !(only_pulls && by_update),
    };
    let rows = repo.rows().iter().filter(|row| {
        let fits = match state.as_str() {
            "all" => true,
            "closed" => row.closed,
            _ => !row.closed,
        };
        fits && row.updated >= since && (row.pull || !only_pulls)
    });
    let mut keys: Vec<Key> =
        rows.map(|row| (if by_update { row.updated } else { row.created }, row.number)).collect();
    if by_update {
        keys.sort_unstable();
    }
    if down {
        keys.reverse();
    }
    let labels = param("labels");
    let labels: Vec<&str> =
        labels.split(',').map(str::trim).filter(|label| !label.is_empty()).collect();
    if !only_pulls && !labels.is_empty() {
        keys.retain(|(_, number)| {
            let have = repo.labels(*number);
            labels.iter().all(|label| have.iter().any(|have| have.eq_ignore_ascii_case(label)))
        });
    }
    (keys, down)
}

/// A place in a list that stays where it is while items move.
fn cursor((value, number): Key) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(format!("{value} {number}"))
}

fn key(cursor: &str) -> Option<Key> {
    let text = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    let (value, number) = text.split_once(' ')?;
    Some((value.parse().ok()?, number.parse().ok()?))
}

/// One page of a list.
pub struct Page {
    number: usize,
    /// How many rows stand before it.
    start: usize,
    size: usize,
    total: usize,
}

impl Page {
    pub fn of(ask: &Ask, total: usize) -> Page {
        let number = ask.number("page", 1).clamp(1, 1 << 32) as usize;
        let size = ask.number("per_page", 30).clamp(1, 100) as usize;
        Page { number, start: (number - 1) * size, size, total }
    }

    pub fn range(&self) -> Range<usize> {
        let end = (self.start + self.size).min(self.total);
        self.start.min(end)..end
    }

    pub fn last_row(&self) -> usize {
        self.number * self.size
    }

    /// GitHub's `Link` header with addresses under `url`; none where everything is on this page.
    pub fn link(&self, ask: &Ask, url: &str) -> Option<String> {
        let last = self.total.div_ceil(self.size).max(1);
        let page = |number: usize, rel: &str| {
            let kept = ask.query.iter().filter(|(key, _)| key != "page");
            let kept: String = kept.map(|(key, value)| format!("{key}={value}&")).collect();
            format!("<{url}?{kept}page={number}>; rel=\"{rel}\"")
        };
        let mut links = Vec::new();
        if self.number > 1 {
            links.push(page((self.number - 1).min(last), "prev"));
        }
        if self.number < last {
            links.push(page(self.number + 1, "next"));
            links.push(page(last, "last"));
        }
        if self.number > 1 {
            links.push(page(1, "first"));
        }
        (!links.is_empty()).then(|| links.join(", "))
    }
}

/// The page of `items` that the request asks for, with links under `url`.
pub fn answer<T>(ask: &Ask, url: &str, items: &[T], each: impl FnMut(&mut Vec<u8>, &T)) -> Answer {
    let page = Page::of(ask, items.len());
    paged(&page, page.link(ask, url), items, each)
}

/// The same for a list that is large at GitHub: page numbers lead as far as the wall, if one is
/// ordered.
pub fn walled<T>(
    rules: &Rules,
    ask: &Ask,
    url: &str,
    items: &[T],
    each: impl FnMut(&mut Vec<u8>, &T),
) -> Answer {
    if rules.list_wall.is_some_and(|wall| Page::of(ask, items.len()).start >= wall) {
        return beyond_the_wall();
    }
    answer(ask, url, items, each)
}

fn beyond_the_wall() -> Answer {
    problem(
        422,
        "Pagination with the page parameter is not supported for large datasets, please use cursor \
         based pagination (after/before)",
    )
}

/// The same for a list whose links lead past the wall.
pub fn keyed(
    rules: &Rules,
    ask: &Ask,
    url: &str,
    (keys, down): (Vec<Key>, bool),
    each: impl FnMut(&mut Vec<u8>, &Key),
) -> Answer {
    let (Some(wall), Links::Cursor) = (rules.list_wall, rules.wall_links) else {
        return walled(rules, ask, url, &keys, each);
    };
    let mut page = Page::of(ask, keys.len());
    match ask.param("after") {
        Some(after) => {
            let Some(at) = key(&after) else { return problem(422, "The cursor is not valid") };
            page.start = keys.partition_point(|key| if down { *key >= at } else { *key <= at });
        }
        None if page.start >= wall => return beyond_the_wall(),
        None => {}
    }
    let range = page.range();
    let link = (!range.is_empty() && range.end < keys.len()).then(|| {
        let kept = ask.query.iter().filter(|(key, _)| key != "page" && key != "after");
        let kept: String = kept.map(|(key, value)| format!("{key}={value}&")).collect();
        let (after, next) = (cursor(keys[range.end - 1]), page.number + 1);
        format!("<{url}?{kept}after={after}&page={next}>; rel=\"next\"")
    });
    paged(&page, link, &keys, each)
}

fn paged<T>(
    page: &Page,
    link: Option<String>,
    items: &[T],
    mut each: impl FnMut(&mut Vec<u8>, &T),
) -> Answer {
    let mut body = Vec::new();
    array(&mut body, &items[page.range()], |out, item| each(out, item));
    let answer = Answer::json(200, body);
    match link {
        Some(link) => answer.with("link", link),
        None => answer,
    }
}
