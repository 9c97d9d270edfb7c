//! A list followed by its `Link` headers gives every item once.

mod common;
use common::Simulator;
use std::collections::HashSet;

fn collect(simulator: &Simulator, first: &str) -> Vec<serde_json::Value> {
    let (mut items, mut path) = (Vec::new(), Some(first.to_owned()));
    while let Some(next) = path {
        let reply = simulator.get(&next);
        assert_eq!(reply.status, 200, "{next}");
        items.extend(reply.json().as_array().expect("a list").clone());
        path = reply.next();
    }
    items
}

#[test]
fn items_are_exactly_as_many_as_ordered() {
    let simulator = Simulator::start(&["--repos", "2", "--items", "250", "--seed", "7"]);
    let mut ids = HashSet::new();
    for repo in ["acme/engine-1", "acme/engine-2"] {
        let items =
            collect(&simulator, &format!("/github/repos/{repo}/issues?state=all&per_page=100"));
        let numbers: Vec<u64> = items.iter().filter_map(|item| item["number"].as_u64()).collect();
        assert_eq!(numbers, (1..=250).rev().collect::<Vec<_>>());
        let titles: HashSet<&str> =
            items.iter().filter_map(|item| item["title"].as_str()).collect();
        let bodies: Vec<&str> = items.iter().filter_map(|item| item["body"].as_str()).collect();
        assert_eq!(titles.len(), 250);
        assert_eq!(bodies.iter().collect::<HashSet<_>>().len(), bodies.len());
        assert!(bodies.len() < 250, "some bodies are null");
        let pulls = items.iter().filter(|item| item.get("pull_request").is_some()).count();
        assert!((50..120).contains(&pulls), "{pulls} pull requests");
        ids.extend(items.iter().filter_map(|item| item["id"].as_u64()));
        let listed =
            collect(&simulator, &format!("/github/repos/{repo}/pulls?state=all&per_page=40"));
        assert_eq!(listed.len(), pulls);
    }
    assert_eq!(ids.len(), 500);
}

#[test]
fn states_and_since_narrow_the_list() {
    let simulator = Simulator::start(&["--repos", "1", "--items", "200"]);
    let list = "/github/repos/acme/engine-1/issues?per_page=100";
    let open = collect(&simulator, list).len();
    let closed = collect(&simulator, &format!("{list}&state=closed")).len();
    assert_eq!(open + closed, 200);
    let by_update = collect(&simulator, &format!("{list}&state=all&sort=updated&direction=asc"));
    let dates: Vec<&str> =
        by_update.iter().filter_map(|item| item["updated_at"].as_str()).collect();
    assert!(dates.is_sorted());
    let since = format!("{list}&state=all&sort=updated&direction=asc&since={}", dates[150]);
    assert_eq!(collect(&simulator, &since), by_update[150..]);
}

#[test]
fn an_item_does_not_depend_on_how_many_there_are() {
    let few = Simulator::start(&["--repos", "1", "--items", "50"]);
    let many = Simulator::start(&["--repos", "1", "--items", "60"]);
    for number in 1..=50 {
        let path = format!("http://simulator.invalid/github/repos/acme/engine-1/issues/{number}");
        assert_eq!(few.get(&path).body, many.get(&path).body);
    }
}

#[test]
fn search_shows_a_thousand_hits_and_counts_all() {
    let simulator = Simulator::start(&["--repos", "1", "--items", "1500"]);
    let search = "/github/search/issues?q=repo:acme/engine-1&per_page=100";
    let last = simulator.get(&format!("{search}&page=10"));
    assert_eq!(last.json()["total_count"], 1500);
    assert_eq!(last.json()["items"].as_array().map(Vec::len), Some(100));
    assert_eq!(last.next(), None);
    assert_eq!(simulator.get(&format!("{search}&page=11")).status, 422);
    let narrow =
        simulator.get("/github/search/issues?q=repo:acme/engine-1+created:2023-01-02..2023-01-03");
    assert_eq!(narrow.json()["total_count"], 4);
    assert_eq!(simulator.get("/github/search/issues?q=repo:no/body").status, 422);
}

#[test]
fn a_page_that_is_too_large_is_not_answered_in_time() {
    let simulator = Simulator::start(&["--repos", "1", "--page-most", "50"]);
    for path in ["repos/acme/engine-1/issues?", "search/issues?q=repo:acme/engine-1&"] {
        let status = |size: u64| simulator.get(&format!("/github/{path}per_page={size}")).status;
        assert_eq!((status(50), status(51)), (200, 502), "{path}");
    }
}
