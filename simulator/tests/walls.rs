//! The wall of page numbers: met with 422, and passed by cursors or by windows of `since`.

mod common;
use common::Simulator;
use serde_json::{Value, json};

const LIST: &str = "/github/repos/acme/engine-1/issues?state=all&per_page=50";

fn start(flags: &[&str]) -> Simulator {
    let items = ["--repos", "1", "--items", "230", "--list-wall", "100"];
    Simulator::start(&[&items[..], flags].concat())
}

fn numbers(page: &Value) -> Vec<u64> {
    page.as_array()
        .expect("a list")
        .iter()
        .map(|it| it["number"].as_u64().expect("a number"))
        .collect()
}

#[test]
fn a_page_beyond_the_wall_is_refused() {
    let simulator = start(&[]);
    assert_eq!(simulator.get(&format!("{LIST}&page=2")).status, 200);
    let pull = &simulator.get("/github/repos/acme/engine-1/pulls?state=all").json()[0]["number"];
    for list in ["issues", "pulls", "issues/1/comments", &format!("pulls/{pull}/comments")] {
        let path = format!("/github/repos/acme/engine-1/{list}?state=all&per_page=50");
        assert_eq!(simulator.get(&path).status, 200, "{list}");
        let beyond = simulator.get(&format!("{path}&page=3"));
        assert_eq!(beyond.status, 422, "{list}");
        let message = beyond.json()["message"].clone();
        assert!(message.as_str().is_some_and(|it| it.contains("use cursor based pagination")));
    }
    assert_eq!(simulator.get("/github/repos/acme/engine-1/issues/1/timeline?page=9").status, 200);
}

#[test]
fn cursors_lead_past_the_wall_while_items_move() {
    for order in
        ["sort=created", "sort=created&direction=asc", "sort=updated", "sort=updated&direction=asc"]
    {
        let simulator = start(&[]);
        let (mut found, mut pages) = (Vec::new(), 0);
        let mut path = Some(format!("{LIST}&{order}"));
        while let Some(next) = path {
            let reply = simulator.get(&next);
            assert_eq!(reply.status, 200, "{next}");
            found.extend(numbers(&reply.json()));
            path = reply.next();
            pages += 1;
            assert!(
                path.iter().all(|it| it.contains("after=") && it.contains("page=")),
                "{path:?}"
            );
            if pages == 1 {
                // The page's first item and its last are touched, and leave it where updates sort.
                for number in [found[0], found[49]] {
                    let now = json!({"repo": "acme/engine-1", "number": number, "title": "moved",
                        "created_at": if order.contains("updated") { "2023-01-01T00:00:00Z" } else { "" },
                        "updated_at": "2025-01-01T00:00:00Z"});
                    simulator.post("/_items", &now.to_string());
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        assert_eq!(found, (1..=230).collect::<Vec<_>>(), "{order}");
        assert!(pages >= 5);
    }
}

#[test]
fn where_links_are_page_numbers_a_window_of_since_leads_on() {
    let simulator = start(&["--wall-links", "page"]);
    let list = format!("{LIST}&sort=updated&direction=asc");
    let second = simulator.get(&simulator.get(&list).next().expect("a second page"));
    let beyond = second.next().expect("a third page");
    assert!(!beyond.contains("after="), "{beyond}");
    assert_eq!(simulator.get(&beyond).status, 422);
    let last = second.json()[49].clone();
    let since = last["updated_at"].as_str().expect("a time");
    let window = simulator.get(&format!("{list}&since={since}"));
    assert_eq!((window.status, &window.json()[0]), (200, &last));
}

#[test]
fn a_cursor_of_no_list_is_refused() {
    assert_eq!(start(&[]).get(&format!("{LIST}&after=nonsense")).status, 422);
}
