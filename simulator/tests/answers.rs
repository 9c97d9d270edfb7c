//! Written answers: the right one for the item, the schema and the prompt, and said to be written.

mod common;
use common::{Simulator, file};
use serde_json::{Value, json};

#[test]
fn a_written_answer_is_given_for_its_item() {
    let entry = |number: u64, system: Option<&str>, answer: &str| {
        let mut entry = json!({
            "schema": "classify", "match": format!("https://simulator.invalid/o/n/issues/{number}"),
            "answer": {"class": answer}
        });
        if let Some(system) = system {
            entry["prompt"] = json!(system);
        }
        entry
    };
    let entries =
        [entry(1, None, "one"), entry(12, None, "twelve"), entry(12, Some("strict"), "special")];
    let simulator = Simulator::start(&["--answers", &file("answers.jsonl", &entries)]);
    let ask = |schema: &str, system: &str, user: &str| -> (String, Value) {
        let named = json!({"name": schema, "schema": {"type": "object"}});
        let body = json!({
            "model": "m", "response_format": {"type": "json_schema", "json_schema": named},
            "messages": [{"role": "system", "content": system}, {"role": "user", "content": user}]
        });
        let reply = simulator.post("/v1/chat/completions", &body.to_string());
        let source = reply.header("x-flow-source").expect("a source").to_owned();
        let reply = reply.json();
        let content = reply["choices"][0]["message"]["content"].as_str().expect("a text");
        (source, serde_json::from_str(content).expect("JSON"))
    };
    let twelve = "See https://simulator.invalid/o/n/issues/12.";
    let authored = |class: &str| ("authored".to_owned(), json!({"class": class}));
    assert_eq!(ask("classify", "be lax", twelve), authored("twelve"));
    assert_eq!(ask("classify", "be strict", twelve), authored("special"));
    assert_eq!(ask("classify", "", "https://simulator.invalid/o/n/issues/1"), authored("one"));
    assert_eq!(ask("other", "", twelve).0, "simulated");
    assert_eq!(ask("classify", "", "https://simulator.invalid/o/n/issues/123").0, "simulated");
}
