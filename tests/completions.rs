//! What a provider really answered: recorded chat completions replay through `flow`, whose requests
//! are those that were recorded, and whose rows say what the answers say.
//!
//! They are in the folder that `FLOW_TEST_DATA` names. Where it is missing this test says so; in CI
//! it fails.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use support::{TestSpace, missing};

/// A request that was recorded, and its answer.
struct Exchange {
    id: String,
    request: Value,
    answer: Value,
}

impl Exchange {
    fn message(&self, index: usize) -> &Value {
        &self.request["messages"][index]["content"]
    }

    fn schema(&self) -> &Value {
        &self.request["response_format"]["json_schema"]
    }

    /// The answer's text, as JSON.
    fn fields(&self) -> Value {
        let text = self.answer["choices"][0]["message"]["content"].as_str().expect("a text");
        serde_json::from_str(text).expect("JSON")
    }
}

fn folder() -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("FLOW_TEST_DATA") else {
        missing("FLOW_TEST_DATA names no folder with recorded completions");
        return None;
    };
    let folder = PathBuf::from(folder).join("completions");
    if !folder.is_dir() {
        missing(&format!("{} is not there", folder.display()));
        return None;
    }
    Some(folder)
}

fn lines(path: &Path) -> Vec<Value> {
    let text = Command::new("gzip").arg("-dc").arg(path).output().expect("gzip starts");
    assert!(text.status.success(), "{}", String::from_utf8_lossy(&text.stderr));
    let text = String::from_utf8(text.stdout).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The exchanges of one study, in the order of the requests.
fn recorded(folder: &Path, study: &str) -> Vec<Exchange> {
    let answers = lines(&folder.join(format!("{study}.batch_output.jsonl.gz")));
    let exchange = |mut request: Value| {
        let told = |answer: &&Value| answer["custom_id"] == request["custom_id"];
        let answer = &answers.iter().find(told).expect("an answer")["response"];
        assert_eq!(
            (&request["url"], &answer["status_code"]),
            (&json!("/v1/chat/completions"), &json!(200))
        );
        Exchange {
            id: request["custom_id"].as_str().expect("an id").to_owned(),
            request: request["body"].take(),
            answer: answer["body"].clone(),
        }
    };
    lines(&folder.join(format!("{study}.batch.jsonl.gz"))).into_iter().map(exchange).collect()
}

/// The provider, as far as it was recorded: it answers what it was asked then, and nothing else.
struct Provider {
    address: String,
    /// How many requests it was sent.
    asked: Arc<Mutex<usize>>,
}

impl Provider {
    fn serve(exchanges: &[Exchange]) -> Provider {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let known = exchanges.iter().map(|it| (it.request.clone(), it.answer.to_string()));
        let known: Arc<Vec<(Value, String)>> = Arc::new(known.collect());
        let asked = Arc::<Mutex<usize>>::default();
        let noted = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (known, noted) = (known.clone(), noted.clone());
                std::thread::spawn(move || answer(&stream, &known, &noted));
            }
        });
        Provider { address, asked }
    }

    fn asked(&self) -> usize {
        *self.asked.lock().expect("a number")
    }
}

/// Answers one request.
fn answer(mut stream: &TcpStream, known: &[(Value, String)], asked: &Mutex<usize>) {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    for line in reader.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").unwrap_or_default();
        if name.eq_ignore_ascii_case("content-length") {
            length = value.parse().expect("a length");
        }
    }
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    *asked.lock().expect("a number") += 1;
    let request: Value = serde_json::from_slice(&body).expect("JSON");
    let unknown =
        r#"{"error": {"message": "this was not recorded", "type": "invalid_request_error"}}"#;
    let (status, body) = match known.iter().find(|(recorded, _)| *recorded == request) {
        Some((_, answer)) => ("200 OK", answer.as_str()),
        None => ("400 Bad Request", unknown),
    };
    // A client that has left misses nothing.
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
}

/// A project whose stage asks what was recorded.
fn space(exchanges: &[Exchange], provider: &Provider) -> TestSpace {
    let space = TestSpace::new();
    let first = &exchanges[0];
    let schema = format!("{}.schema.json", first.schema()["name"].as_str().expect("a name"));
    space.write(&schema, first.schema()["schema"].to_string());
    let rows = exchanges.iter().map(|it| {
        let row = json!({ "id": it.id, "system": it.message(0), "user": it.message(1) });
        format!("{row}\n")
    });
    space.write("requests.jsonl", rows.collect::<String>());
    space.write("system.md", "{{ system }}");
    space.write("user.md", "{{ user }}");
    space.write(
        "pipeline.toml",
        format!(
            r#"
[pipeline]
name = "recorded"
[models.then]
base_url = "{}/v1"
model = {}
body = {{ temperature = {} }}
[stages.classify]
kind = "llm"
inputs = ["requests.jsonl"]
key = ["id"]
model = "then"
system = "system.md"
prompt = "user.md"
schema = "{schema}"
outputs = ["data/classified.jsonl"]
"#,
            provider.address, first.request["model"], first.request["temperature"]
        ),
    );
    space
}

#[test]
fn what_a_provider_once_answered_replays_through_flow() {
    let Some(folder) = folder() else { return };
    for (study, answers) in
        [("dlclark_regexp2", 69), ("fancy-regex_fancy-regex", 60), ("openresty_sregex", 23)]
    {
        let exchanges = recorded(&folder, study);
        assert_eq!(exchanges.len(), answers);
        let provider = Provider::serve(&exchanges);
        let space = space(&exchanges, &provider);
        let ran = space.run(&[]).expect(0).json();
        assert_eq!(provider.asked(), answers);

        let rows = space.rows("data/classified.jsonl");
        let sum = |name: &str| -> u64 {
            exchanges.iter().map(|it| it.answer["usage"][name].as_u64().expect("a number")).sum()
        };
        assert_eq!(ran["tokens_in"], sum("prompt_tokens"));
        assert_eq!(ran["tokens_out"], sum("completion_tokens"));
        assert_eq!(rows.len(), answers);
        for (row, exchange) in rows.iter().zip(&exchanges) {
            let mut fields = row.as_object().expect("a row").clone();
            assert_eq!(fields.shift_remove("id"), Some(json!(exchange.id)));
            let call = fields.shift_remove("_call").expect("where it came from");
            assert_eq!(Value::from(fields), exchange.fields(), "{}", exchange.id);
            let answer = &exchange.answer;
            let usage = &answer["usage"];
            for (told, then) in [
                ("model", &exchange.request["model"]),
                ("returned_model", &answer["model"]),
                ("system_fingerprint", &answer["system_fingerprint"]),
                ("finish_reason", &answer["choices"][0]["finish_reason"]),
                ("tokens_in", &usage["prompt_tokens"]),
                ("tokens_in_cached", &usage["prompt_tokens_details"]["cached_tokens"]),
                ("tokens_out", &usage["completion_tokens"]),
                ("tokens_reasoning", &usage["completion_tokens_details"]["reasoning_tokens"]),
                ("truncated", &json!(false)),
                ("repairs", &json!(0)),
                ("source", &json!("model")),
            ] {
                assert_eq!(call[told], *then, "{told} of {}", exchange.id);
            }
        }

        // The calls alone, in a cassette, make the same rows.
        space.flow(&["cassette", "calls.jsonl"]).expect(0);
        let profile = "[profiles.replay]\ncassette = \"calls.jsonl\"\n";
        space.write("pipeline.toml", space.read("pipeline.toml") + profile);
        let first = space.read("data/classified.jsonl");
        std::fs::remove_dir_all(space.path().join("cache")).expect("the store");
        std::fs::remove_dir_all(space.path().join("data")).expect("the outputs");
        space.run(&["--profile", "replay", "--offline"]).expect(0);
        assert!(space.read("data/classified.jsonl") == first, "{study}: other bytes");
        assert_eq!(provider.asked(), answers);
    }
}

#[test]
fn what_was_not_recorded_is_not_answered() {
    let Some(folder) = folder() else { return };
    let exchanges = recorded(&folder, "openresty_sregex");
    let provider = Provider::serve(&exchanges);
    let space = space(&exchanges, &provider);
    space.write("user.md", "{{ user }} ");
    let ran = space.run(&[]);
    assert_ne!(ran.code, 0, "{}", ran.stdout);
    assert!(ran.stderr.contains("this was not recorded"), "{}", ran.stderr);
}
