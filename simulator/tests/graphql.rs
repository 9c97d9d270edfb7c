//! GraphQL: aliases, fragments, variables, pages, and GitHub's ways to say what is wrong.

mod common;
use common::{Simulator, file};
use serde_json::{Value, json};

fn pair(name: &str) -> Simulator {
    let issue =
        json!({"repo": "o/n", "number": 1, "title": "broken", "closed_at": "2024-01-03T00:00:00Z"});
    let pull = json!({
        "repo": "o/n", "number": 2, "kind": "pull", "title": "mend", "closes": [1], "user": "ada",
        "created_at": "2024-01-02T00:00:00Z", "merged_at": "2024-01-03T00:00:00Z",
        "diff": "--- a/x.c\n+++ b/x.c\n@@ -1 +1,2 @@\n-a\n+b\n+c\n"
    });
    Simulator::start(&["--data", &file(name, &[issue, pull])])
}

fn node_id(simulator: &Simulator, number: u64) -> Value {
    simulator.get(&format!("/github/repos/o/n/issues/{number}")).json()["node_id"].clone()
}

#[test]
fn links_are_told_from_both_ends() {
    let simulator = pair("links.jsonl");
    let query = "query($issue: ID!, $pull: ID!, $n: Int = 5) {
        a: node(id: $issue) { __typename ...I }
        nodes(ids: [$pull, $issue]) { ... on Node { id } ... on PullRequest {
            state additions deletions changedFiles closingIssuesReferences(first: $n) { nodes { number } }
        } }
      }
      fragment I on Issue {
        closedByPullRequestsReferences(first: 1) { totalCount nodes { number merged author { login } } }
        timelineItems(itemTypes: [CLOSED_EVENT, CROSS_REFERENCED_EVENT], first: 9) { nodes {
          __typename
          ... on ClosedEvent { closer { __typename ... on PullRequest { number } ... on Commit { oid } } }
          ... on CrossReferencedEvent { willCloseTarget source { ... on PullRequest { number } } }
        } }
      }";
    let (issue, pull) = (node_id(&simulator, 1), node_id(&simulator, 2));
    let reply = simulator.graphql(query, json!({"issue": issue, "pull": pull}));
    assert_eq!(reply.get("errors"), None);
    let linked = json!({"totalCount": 1, "nodes": [{"number": 2, "merged": true, "author": {"login": "ada"}}]});
    let timeline = json!({"nodes": [
        {"__typename": "CrossReferencedEvent", "willCloseTarget": true, "source": {"number": 2}},
        {"__typename": "ClosedEvent", "closer": {"__typename": "PullRequest", "number": 2}}
    ]});
    assert_eq!(
        reply["data"],
        json!({
            "a": {"__typename": "Issue", "closedByPullRequestsReferences": linked, "timelineItems": timeline},
            "nodes": [
                {"id": pull, "state": "MERGED", "additions": 2, "deletions": 1, "changedFiles": 1,
                 "closingIssuesReferences": {"nodes": [{"number": 1}]}},
                {"id": issue}
            ]
        })
    );
}

#[test]
fn links_beside_the_closing_pull_request_are_told() {
    let url = |repo: &str, number: u64| format!("https://simulator.invalid/{repo}/pull/{number}");
    let pull = |repo: &str, number: u64, merged: &str| {
        json!({"repo": repo, "number": number, "kind": "pull", "title": "p",
               "created_at": "2024-01-02T00:00:00Z", "merged_at": merged})
    };
    let by_hand = json!({"repo": "o/n", "number": 1, "title": "a", "closed_at": "2024-01-03T00:00:00Z",
        "connected": [url("o/n", 5)], "disconnected": [url("o/n", 6)], "mentioned_by": [url("p/q", 1)]});
    let mut linked = pull("o/n", 5, "2024-01-04T00:00:00Z");
    linked["closes"] = json!([1]);
    let unlinked = pull("o/n", 6, "2024-01-05T00:00:00Z");
    let other = pull("p/q", 1, "2024-01-06T00:00:00Z");
    let first =
        Simulator::start(&["--data", &file("commit.jsonl", std::slice::from_ref(&unlinked))]);
    let merge = &first.get("/github/repos/o/n/pulls/6").json()["merge_commit_sha"];
    let by_merge = json!({"repo": "o/n", "number": 2, "title": "b", "closed_at": "2024-01-05T00:00:00Z",
        "closing_commit": merge});
    let by_commit = json!({"repo": "o/n", "number": 3, "title": "c", "closed_at": "2024-01-05T00:00:00Z",
        "closing_commit": "abc"});
    let items = [by_hand, by_merge, by_commit, linked, unlinked, other];
    let simulator = Simulator::start(&["--data", &file("beside.jsonl", &items)]);
    let query = "query($id: ID!) { node(id: $id) { ... on Issue { timelineItems(first: 9) { nodes {
        __typename
        ... on ClosedEvent { closer { ... on PullRequest { number } ... on Commit {
            oid committedDate associatedPullRequests(first: 1) { nodes { number } } } } }
        ... on ConnectedEvent { subject { ... on PullRequest { number } } }
        ... on DisconnectedEvent { subject { ... on PullRequest { number } } }
        ... on CrossReferencedEvent { willCloseTarget isCrossRepository source { ... on PullRequest { url } } }
      } } } } }";
    let events = |number: u64| {
        let reply = simulator.graphql(query, json!({"id": node_id(&simulator, number)}));
        assert_eq!(reply.get("errors"), None);
        reply["data"]["node"]["timelineItems"]["nodes"].clone()
    };
    let closed_by = |commit: &Value, pulls: Value| {
        json!({"__typename": "ClosedEvent", "closer": {"oid": commit,
            "committedDate": "2024-01-05T00:00:00Z", "associatedPullRequests": {"nodes": pulls}}})
    };
    assert_eq!(
        events(1),
        json!([
            {"__typename": "CrossReferencedEvent", "willCloseTarget": false, "isCrossRepository": true,
             "source": {"url": url("p/q", 1)}},
            {"__typename": "ConnectedEvent", "subject": {"number": 5}},
            {"__typename": "ConnectedEvent", "subject": {"number": 6}},
            {"__typename": "DisconnectedEvent", "subject": {"number": 6}},
            {"__typename": "ClosedEvent", "closer": null},
        ]),
        "closed before what was linked to it was merged"
    );
    assert_eq!(events(2), json!([closed_by(merge, json!([{"number": 6}]))]));
    assert_eq!(events(3), json!([closed_by(&json!("abc"), json!([]))]));
}

#[test]
fn an_unknown_node_is_null_beside_the_others() {
    let simulator = pair("unknown.jsonl");
    let query = "query($id: ID!) { a: node(id: $id) { id } b: node(id: \"I_none\") { id } }";
    let id = node_id(&simulator, 1);
    let reply = simulator.graphql(query, json!({"id": id}));
    assert_eq!(reply["data"], json!({"a": {"id": id}, "b": null}));
    let error = &reply["errors"][0];
    assert_eq!((&error["type"], &error["path"]), (&json!("NOT_FOUND"), &json!(["b"])));
    assert_eq!(error["message"], "Could not resolve to a node with the global id of 'I_none'.");
}

#[test]
fn a_wrong_query_is_refused_as_a_whole() {
    let simulator = pair("wrong.jsonl");
    let reply = simulator.graphql(
        "{repository(owner: \"o\", name: \"n\") {pullRequest(number: 2) {colour}}}",
        json!({}),
    );
    assert_eq!(reply.get("data"), None);
    assert_eq!(reply["errors"][0]["message"], "Field 'colour' doesn't exist on type 'PullRequest'");
    let reply = simulator
        .graphql("{repository(owner: \"o\", name: \"n\") {issues {nodes {id}}}}", json!({}));
    assert_eq!(reply["errors"][0]["type"], "MISSING_PAGINATION_BOUNDARIES");
    for text in [
        "",
        "{",
        "{a{b{c",
        "fragment A on Query {...A} {...A}",
        "query($a: ID!) {node(id: $a) {id}}",
    ] {
        assert!(simulator.graphql(text, json!({}))["errors"].is_array(), "{text}");
    }
}

#[test]
fn cursors_lead_through_every_item_once() {
    let simulator = Simulator::start(&["--repos", "1", "--items", "60"]);
    let query = "query($after: String) { repository(owner: \"acme\", name: \"engine-1\") {
        issues(first: 7, after: $after) { totalCount edges { cursor node { number } } pageInfo { hasNextPage endCursor } }
        pullRequests { totalCount }
    } }";
    let (mut numbers, mut after) = (Vec::new(), Value::Null);
    let total = loop {
        let reply = simulator.graphql(query, json!({"after": after}));
        let issues = &reply["data"]["repository"]["issues"];
        let edges = issues["edges"].as_array().expect("edges");
        numbers.extend(edges.iter().filter_map(|edge| edge["node"]["number"].as_u64()));
        after = issues["pageInfo"]["endCursor"].clone();
        if issues["pageInfo"]["hasNextPage"] == false {
            let pulls = reply["data"]["repository"]["pullRequests"]["totalCount"].as_u64();
            assert_eq!(issues["totalCount"], numbers.len());
            break numbers.len() as u64 + pulls.expect("a count");
        }
    };
    assert!(numbers.is_sorted_by(|one, other| one < other));
    assert_eq!(total, 60);
}

#[test]
fn a_query_that_is_too_large_is_not_answered_in_time() {
    let simulator = Simulator::start(&["--repos", "1", "--batch-most", "3"]);
    let status = |query: &str| {
        let reply = simulator.post("/github/graphql", &json!({"query": query}).to_string());
        assert_eq!(reply.status == 502, reply.body.contains("Unicorn!"), "{}", reply.body);
        reply.status
    };
    let viewers = |count: usize| -> String {
        let fields: String = (0..count).map(|nth| format!("v{nth}: viewer {{ login }} ")).collect();
        format!("{{ {fields} }}")
    };
    let issues = |first: u64| {
        format!(
            "{{ repository(owner: \"acme\", name: \"engine-1\") {{ issues(first: {first}) {{ nodes {{ id }} }} }} }}"
        )
    };
    assert_eq!((status(&viewers(3)), status(&viewers(4))), (200, 502));
    assert_eq!((status(&issues(3)), status(&issues(4))), (200, 502));
}

#[test]
fn comments_on_one_line_are_a_thread() {
    let comment = |line: u64, body: &str| json!({"path": "x.c", "line": line, "body": body});
    let review = |comments: &[Value]| json!({"user": "cy", "comments": comments});
    let pull = json!({"repo": "o/n", "number": 1, "kind": "pull", "title": "t", "reviews": [
        review(&[comment(4, "why?"), comment(9, "hm")]), review(&[comment(4, "done")])]});
    let simulator = Simulator::start(&["--data", &file("threads.jsonl", &[pull])]);
    let query = "{ repository(owner: \"o\", name: \"n\") { pullRequest(number: 1) {
        milestone { title } reviewThreads(first: 1) { totalCount pageInfo { hasNextPage }
          nodes { isResolved path line comments(first: 5) { nodes { body } } } } } } }";
    let reply = simulator.graphql(query, json!({}));
    let thread = json!({"isResolved": false, "path": "x.c", "line": 4,
        "comments": {"nodes": [{"body": "why?"}, {"body": "done"}]}});
    assert_eq!(
        reply["data"]["repository"]["pullRequest"],
        json!({"milestone": null, "reviewThreads":
            {"totalCount": 2, "pageInfo": {"hasNextPage": true}, "nodes": [thread]}})
    );
}
