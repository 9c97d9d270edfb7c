//! Batches answer what the direct path answers, in another order; they end as is ordered.

mod common;
use common::{Reply, Simulator};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const CHAT: &str = "/v1/chat/completions";

fn body(nth: usize) -> Value {
    json!({"model": "m", "messages": [{"role": "user", "content": format!("row {nth}.")}]})
}

fn lines(count: usize) -> String {
    let line = |nth: usize| {
        let line = json!({"custom_id": format!("id-{nth}"), "method": "POST", "url": CHAT, "body": body(nth)});
        format!("{line}\n")
    };
    (0..count).map(line).collect()
}

fn upload(simulator: &Simulator, text: &str) -> Reply {
    let form = format!(
        "--edge\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--edge\r\n\
         content-disposition: form-data; name=\"file\"; filename=\"in.jsonl\"\r\n\
         content-type: application/jsonl\r\n\r\n{text}\r\n--edge--\r\n"
    );
    let headers = [("content-type", "multipart/form-data; boundary=edge")];
    simulator.send("POST", "/v1/files", &headers, &form)
}

/// A batch of these lines, and its id.
fn submit(simulator: &Simulator, text: &str) -> String {
    let file = upload(simulator, text).json()["id"].clone();
    let order = json!({"input_file_id": file, "endpoint": CHAT, "completion_window": "24h",
        "metadata": {"flow": "x"}});
    let reply = simulator.post("/v1/batches", &order.to_string());
    assert_eq!((reply.status, &reply.json()["status"]), (200, &json!("validating")));
    assert_eq!(reply.json()["metadata"], json!({"flow": "x"}));
    reply.json()["id"].as_str().expect("an id").to_owned()
}

fn look(simulator: &Simulator, id: &str) -> Value {
    simulator.get(&format!("/v1/batches/{id}")).json()
}

/// The lines of a file that came out of a batch.
fn content(simulator: &Simulator, file: &Value) -> Vec<Value> {
    let Some(id) = file.as_str() else { return Vec::new() };
    let text = simulator.get(&format!("/v1/files/{id}/content")).body;
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn ids(lines: &[Value]) -> Vec<String> {
    lines.iter().map(|line| line["custom_id"].as_str().expect("an id").to_owned()).collect()
}

fn order(simulator: &Simulator, order: Value) {
    assert_eq!(simulator.post("/_batches", &order.to_string()).status, 200);
}

#[test]
fn a_batch_answers_what_is_answered_directly() {
    let simulator = Simulator::start(&["--batch-polls", "3"]);
    let id = submit(&simulator, &lines(30));
    let stats = simulator.get("/_stats").json();
    let states = [(); 3].map(|()| look(&simulator, &id));
    let told = states.each_ref().map(|it| (&it["status"], &it["request_counts"]["completed"]));
    let (ten, all) = (json!(10), json!(30));
    let names = ["in_progress", "finalizing", "completed"].map(|name| json!(name));
    assert_eq!(told, [(&names[0], &ten), (&names[1], &all), (&names[2], &all)]);
    let [.., done] = states;
    assert_eq!((&done["error_file_id"], &done["errors"]), (&Value::Null, &Value::Null));
    let out = content(&simulator, &done["output_file_id"]);
    let by_id: BTreeMap<String, &Value> = ids(&out).into_iter().zip(&out).collect();
    assert_eq!(by_id.len(), 30);
    for nth in 0..30 {
        let line = by_id[&format!("id-{nth}")];
        let direct = simulator.post(CHAT, &body(nth).to_string()).json();
        assert_eq!((&line["response"]["status_code"], &line["error"]), (&json!(200), &Value::Null));
        assert_eq!(line["response"]["body"], direct);
    }
    let in_order: Vec<String> = (0..30).map(|nth| format!("id-{nth}")).collect();
    assert_ne!(ids(&out), in_order, "not in the order of the input");
    assert_eq!(stats["by_endpoint"], json!({"POST /v1/files": 1, "POST /v1/batches": 1}));
    assert_eq!(simulator.get("/_stats").json()["models"]["batched"], 30);
    assert_eq!(look(&simulator, &id)["status"], "completed", "and it stays so");
}

#[test]
fn files_are_kept_shown_and_deleted() {
    let simulator = Simulator::start(&[]);
    let text = lines(2);
    let file = upload(&simulator, &text).json();
    let path = format!("/v1/files/{}", file["id"].as_str().expect("an id"));
    assert_eq!((&file["bytes"], &file["purpose"]), (&json!(text.len()), &json!("batch")));
    assert_eq!(file["filename"], "in.jsonl");
    assert_eq!(simulator.get(&path).json(), file);
    assert_eq!(simulator.get("/v1/files").json()["data"], json!([file]));
    assert_eq!(simulator.get(&format!("{path}/content")).body, text);
    assert_eq!(simulator.send("DELETE", &path, &[], "").json()["deleted"], true);
    assert_eq!(simulator.get(&path).status, 404);
    assert_eq!(simulator.send("DELETE", &path, &[], "").status, 404);
    assert_eq!(simulator.post("/v1/files", "nothing").status, 400);
}

#[test]
fn single_requests_fail_and_the_others_do_not() {
    let simulator = Simulator::start(&["--batch-polls", "1"]);
    let fault = json!({"path": CHAT, "match": "row 3.", "status": 500});
    simulator.post("/_faults", &fault.to_string());
    let refusal = json!({"path": CHAT, "match": "row 4.", "says": "refusal"});
    simulator.post("/_faults", &refusal.to_string());
    let done = look(&simulator, &submit(&simulator, &lines(10)));
    assert_eq!(done["status"], "completed");
    assert_eq!(done["request_counts"], json!({"total": 10, "completed": 9, "failed": 1}));
    let bad = content(&simulator, &done["error_file_id"]);
    assert_eq!((ids(&bad), &bad[0]["response"]["status_code"]), (vec!["id-3".into()], &json!(500)));
    assert_eq!(bad[0]["response"]["body"]["error"]["type"], "server_error");
    let good = content(&simulator, &done["output_file_id"]);
    let refused = good.iter().find(|line| line["custom_id"] == "id-4").expect("it is there");
    let message = &refused["response"]["body"]["choices"][0]["message"];
    assert!(message["content"].is_null() && message["refusal"].is_string(), "{message}");
}

#[test]
fn time_runs_out_for_a_share() {
    let simulator = Simulator::start(&[]);
    order(&simulator, json!({"expire": 0.3, "times": 1}));
    let id = submit(&simulator, &lines(10));
    assert_eq!(look(&simulator, &id)["status"], "in_progress");
    let done = look(&simulator, &id);
    assert_eq!(
        (&done["status"], &done["request_counts"]["completed"]),
        (&json!("expired"), &json!(7))
    );
    let (good, bad) =
        (content(&simulator, &done["output_file_id"]), content(&simulator, &done["error_file_id"]));
    assert_eq!((good.len(), bad.len()), (7, 3));
    for line in &bad {
        assert_eq!(
            (&line["response"], &line["error"]["code"]),
            (&Value::Null, &json!("batch_expired"))
        );
    }
    let next = submit(&simulator, &lines(10));
    look(&simulator, &next);
    assert_eq!(look(&simulator, &next)["status"], "completed", "the next one has time");
}

#[test]
fn a_batch_is_cancelled_with_what_it_has() {
    let simulator = Simulator::start(&["--batch-polls", "4"]);
    let id = submit(&simulator, &lines(8));
    assert_eq!(look(&simulator, &id)["request_counts"]["completed"], 2);
    let cancel = format!("/v1/batches/{id}/cancel");
    assert_eq!(simulator.post(&cancel, "").json()["status"], "cancelling");
    let done = look(&simulator, &id);
    assert_eq!(done["status"], "cancelled");
    assert_eq!(content(&simulator, &done["output_file_id"]).len(), 2);
    let left = content(&simulator, &done["error_file_id"]);
    assert_eq!((left.len(), &left[0]["error"]["code"]), (6, &json!("batch_cancelled")));
    assert_eq!(simulator.post(&cancel, "").status, 409);
}

#[test]
fn a_wrong_file_fails_when_it_is_looked_through() {
    let simulator = Simulator::start(&["--batch-requests", "3"]);
    let with = |name: &str, value: Value| {
        let mut line: Value = serde_json::from_str(&lines(1)).expect("JSON");
        line[name] = value;
        format!("{}{line}\n", lines(2).lines().nth(1).map(|it| format!("{it}\n")).expect("a line"))
    };
    for (text, code, line) in [
        (String::new(), "empty_file", Value::Null),
        (lines(4), "too_many_requests", Value::Null),
        (format!("{}{{\n", lines(1)), "invalid_json_line", json!(2)),
        (with("custom_id", json!("id-1")), "duplicate_custom_id", json!(2)),
        (with("url", json!("/v1/responses")), "mismatched_endpoint", json!(2)),
        (with("method", json!("GET")), "invalid_request", json!(2)),
        (with("body", json!({"model": "other"})), "mismatched_model", json!(2)),
    ] {
        let failed = look(&simulator, &submit(&simulator, &text));
        assert_eq!(failed["status"], "failed", "{code}");
        let error = &failed["errors"]["data"][0];
        assert_eq!((&error["code"], &error["line"]), (&json!(code), &line), "{error}");
        assert_eq!(failed["output_file_id"], Value::Null);
    }
    order(&simulator, json!({"fail": {"code": "odd", "message": "as ordered"}, "times": 1}));
    let failed = look(&simulator, &submit(&simulator, &lines(1)));
    assert_eq!(failed["errors"]["data"][0]["message"], "as ordered");
}

#[test]
fn what_waits_for_a_model_is_limited() {
    // A prompt is of two tokens.
    let simulator = Simulator::start(&["--batch-tokens", "20"]);
    let first = submit(&simulator, &lines(6));
    assert_eq!(look(&simulator, &first)["status"], "in_progress");
    let second = submit(&simulator, &lines(6));
    let failed = look(&simulator, &second);
    let code = failed["errors"]["data"][0]["code"].clone();
    assert_eq!((&failed["status"], code), (&json!("failed"), json!("token_limit_exceeded")));
    let third = submit(&simulator, &lines(4));
    assert_eq!(look(&simulator, &third)["status"], "in_progress");
    assert_eq!(look(&simulator, &first)["status"], "completed");
    let fourth = submit(&simulator, &lines(6));
    assert_eq!(look(&simulator, &fourth)["status"], "in_progress", "there is room again");
}

#[test]
fn batches_are_listed_the_newest_first_and_held_as_long_as_is_ordered() {
    let simulator = Simulator::start(&["--batch-polls", "1000000"]);
    let made = [(); 3].map(|()| submit(&simulator, &lines(2)));
    let list = simulator.get("/v1/batches?limit=2").json();
    let listed = |list: &Value| -> Vec<String> {
        let data = list["data"].as_array().expect("a list").iter();
        data.map(|batch| batch["id"].as_str().expect("an id").to_owned()).collect()
    };
    assert_eq!(listed(&list), [made[2].clone(), made[1].clone()]);
    assert_eq!((&list["has_more"], &list["last_id"]), (&json!(true), &json!(made[1])));
    let rest = simulator.get(&format!("/v1/batches?after={}", made[1])).json();
    assert_eq!((listed(&rest), &rest["has_more"]), (vec![made[0].clone()], &json!(false)));
    for _ in 0..5 {
        assert_eq!(look(&simulator, &made[0])["status"], "in_progress");
    }
    order(&simulator, json!({"polls": 1}));
    assert_eq!(look(&simulator, &made[0])["status"], "completed");
    let told = simulator.get("/_batches").json();
    let states: Vec<&Value> =
        told.as_array().into_iter().flatten().map(|batch| &batch["status"]).collect();
    assert_eq!(states, ["completed", "validating", "validating"]);
    assert_eq!(told[0]["custom_ids"].as_array().map(Vec::len), Some(2));
    assert_eq!(simulator.get("/v1/batches/batch_none").status, 404);
    assert_eq!(simulator.post("/_batches", "{}").status, 400);
}

#[test]
fn a_batch_of_responses_is_answered_by_the_responses_api() {
    let simulator = Simulator::start(&["--batch-polls", "1"]);
    let body = json!({"model": "m", "input": "hello"});
    let line = json!({"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": body});
    let file = upload(&simulator, &line.to_string()).json()["id"].clone();
    let make = |endpoint: &str, window: &str| {
        let order =
            json!({"input_file_id": file, "endpoint": endpoint, "completion_window": window});
        simulator.post("/v1/batches", &order.to_string())
    };
    assert_eq!(make("/v1/embeddings", "24h").status, 400);
    assert_eq!(make("/v1/responses", "1h").status, 400);
    let id = make("/v1/responses", "24h").json()["id"].clone();
    let done = look(&simulator, id.as_str().expect("an id"));
    let out = content(&simulator, &done["output_file_id"]);
    let direct = simulator.post("/v1/responses", &body.to_string()).json();
    assert_eq!(out[0]["response"]["body"], direct);
}
