//! Lists: which items a query asks for, one page of them, and the `Link` header to the next.

use crate::ask::{Answer, Ask};
use crate::dates;
use crate::shapes::array;
use crate::world::Repo;
use std::ops::Range;

/// The numbers of the issues (or only the pull requests) that the query asks for, in its order.
pub fn numbers(repo: &Repo, ask: &Ask, only_pulls: bool) -> Vec<u64> {
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
    let mut keys: Vec<(i64, u64)> =
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
    let numbers = keys.into_iter().map(|(_, number)| number);
    if labels.is_empty() || only_pulls {
        return numbers.collect();
    }
    let wanted = |number: &u64| {
        let have = repo.labels(*number);
        labels.iter().all(|label| have.iter().any(|have| have.eq_ignore_ascii_case(label)))
    };
    numbers.filter(wanted).collect()
}

/// One page of a list.
pub struct Page {
    number: usize,
    size: usize,
    total: usize,
}

impl Page {
    pub fn of(ask: &Ask, total: usize) -> Page {
        Page {
            number: ask.number("page", 1).clamp(1, 1 << 32) as usize,
            size: ask.number("per_page", 30).clamp(1, 100) as usize,
            total,
        }
    }

    pub fn range(&self) -> Range<usize> {
        let end = (self.number * self.size).min(self.total);
        ((self.number - 1) * self.size).min(end)..end
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
pub fn answer<T>(
    ask: &Ask,
    url: &str,
    items: &[T],
    mut each: impl FnMut(&mut Vec<u8>, &T),
) -> Answer {
    let page = Page::of(ask, items.len());
    let mut body = Vec::new();
    array(&mut body, &items[page.range()], |out, item| each(out, item));
    let answer = Answer::json(200, body);
    match page.link(ask, url) {
        Some(link) => answer.with("link", link),
        None => answer,
    }
}
