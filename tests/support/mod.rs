//! What the tests share: a project folder of their own, the simulator as a real server, and `flow`
//! as a real program.
#![allow(dead_code, reason = "each test file is a program of its own and uses a part of this")]

pub mod chromium;
pub mod study;

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A project in a folder of its own.
pub struct TestSpace {
    folder: TempDir,
    env: Vec<(String, String)>,
}

/// What a run of `flow` left.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Holds the exit code, showing everything where it is another one.
    #[track_caller]
    pub fn expect(self, code: i32) -> Ran {
        let Ran { stdout, stderr, .. } = &self;
        assert_eq!(self.code, code, "exit code\n--- stdout\n{stdout}\n--- stderr\n{stderr}");
        self
    }

    /// The JSON object that `--json` prints.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| {
            panic!("stdout is no JSON ({error}): {}\n{}", self.stdout, self.stderr)
        })
    }

    /// A stage's part of the JSON summary.
    #[track_caller]
    pub fn stage(&self, name: &str) -> Value {
        let json = self.json();
        let stages = json["stages"].as_array().expect("stages");
        let found = stages.iter().find(|stage| stage["name"] == name);
        found.unwrap_or_else(|| panic!("no stage {name} in {json}")).clone()
    }

    /// `name state` of every stage, in order.
    pub fn states(&self) -> Vec<String> {
        let json = self.json();
        let stages = json["stages"].as_array().expect("stages").iter();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        stages.map(|stage| format!("{} {}", text(&stage["name"]), text(&stage["state"]))).collect()
    }
}

impl TestSpace {
    pub fn new() -> TestSpace {
        TestSpace { folder: tempfile::tempdir().expect("a temporary folder"), env: Vec::new() }
    }

    /// A space with a copy of the study: its manifest, prompts, queries, schemas and samples.
    pub fn study() -> TestSpace {
        let space = TestSpace::new();
        for part in
            ["pipeline.toml", "prompts", "queries", "schemas", "templates", "labels", "samples"]
        {
            copy(&repository().join(part), &space.path().join(part));
        }
        space
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Sets a variable for the programs that are run here.
    pub fn env(&mut self, name: &str, value: &str) -> &mut TestSpace {
        self.env.push((name.into(), value.into()));
        self
    }

    #[track_caller]
    pub fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let full = self.path().join(path);
        std::fs::create_dir_all(full.parent().expect("a folder")).expect("folders");
        std::fs::write(full, text).expect("written");
    }

    #[track_caller]
    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path().join(path))
            .unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Replaces a text that must be there.
    #[track_caller]
    pub fn edit(&self, path: &str, from: &str, to: &str) {
        let text = self.read(path);
        assert!(text.contains(from), "{path} does not hold {from:?}");
        self.write(path, text.replace(from, to));
    }

    /// The rows of a `.json` or `.jsonl` output.
    #[track_caller]
    pub fn rows(&self, path: &str) -> Vec<Value> {
        let text = self.read(path);
        match path.ends_with(".jsonl") {
            true => text.lines().map(|line| serde_json::from_str(line).expect(line)).collect(),
            false => serde_json::from_str(&text).expect("a JSON array"),
        }
    }

    pub fn exists(&self, path: &str) -> bool {
        self.path().join(path).exists()
    }

    /// `flow` with the arguments, in this folder, with nothing of this process's environment but
    /// what a shell needs.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_flow"));
        command.args(arguments).current_dir(self.path()).env_clear();
        for name in ["PATH", "HOME", "TMPDIR", "LLVM_PROFILE_FILE"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    pub fn flow(&self, arguments: &[&str]) -> Ran {
        let output = self.command(arguments).stdin(Stdio::null()).output().expect("flow starts");
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// `flow run --json` with more arguments.
    pub fn run(&self, more: &[&str]) -> Ran {
        let mut arguments = vec!["run", "--json"];
        arguments.extend(more);
        self.flow(&arguments)
    }
}

/// Says that a part is missing which only some machines have. In CI it must be there.
#[track_caller]
pub fn missing(part: &str) {
    assert!(std::env::var_os("CI").is_none(), "missing in CI: {part}");
    eprintln!("\n==== NOT TESTED: {part} ====\n");
}

/// The repository that is tested.
pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        std::fs::create_dir_all(to).expect("a folder");
        for entry in std::fs::read_dir(from).expect("a folder") {
            let entry = entry.expect("an entry");
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        std::fs::copy(from, to).expect("copied");
    }
}

/// The simulator, as a process that ends with the test.
pub struct Simulator {
    child: Child,
    /// `http://127.0.0.1:PORT`
    pub address: String,
}

impl Simulator {
    #[track_caller]
    pub fn start(arguments: &[&str]) -> Simulator {
        let program = simulator_program();
        let mut child = Command::new(&program)
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let address = line.trim().strip_prefix("listening on ").expect("its address").to_owned();
        Simulator { child, address }
    }

    /// The sample's items and answers.
    pub fn sample() -> Simulator {
        let samples = repository().join("samples");
        let (data, answers) = (samples.join("upstream"), samples.join("answers.jsonl"));
        Simulator::start(&[
            "--data",
            data.to_str().expect("UTF-8"),
            "--answers",
            answers.to_str().expect("UTF-8"),
        ])
    }

    /// `GET path` as JSON.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        self.request("GET", path, "")
    }

    /// How many requests were made since the last reset.
    #[track_caller]
    pub fn total(&self) -> u64 {
        self.get("/_stats")["total"].as_u64().expect("a number")
    }

    #[track_caller]
    pub fn reset(&self) {
        self.request("DELETE", "/_stats", "");
    }

    #[track_caller]
    pub fn fault(&self, order: Value) {
        self.request("POST", "/_faults", &order.to_string());
    }

    #[track_caller]
    pub fn heal(&self) {
        self.request("DELETE", "/_faults", "");
    }

    /// Adds or replaces an item.
    #[track_caller]
    pub fn item(&self, item: Value) {
        self.request("POST", "/_items", &item.to_string());
    }

    /// One of the orders that tests give: `/_later`, `/_renames`.
    #[track_caller]
    pub fn post(&self, path: &str, order: Value) {
        self.request("POST", path, &order.to_string());
    }

    #[track_caller]
    fn request(&self, method: &str, path: &str, body: &str) -> Value {
        let reply = self.send(method, path, &[], body);
        assert!((200..300).contains(&reply.status), "{method} {path}: {reply:?}");
        serde_json::from_str(&reply.body).unwrap_or(Value::Null)
    }

    /// Asks, whatever the answer.
    #[track_caller]
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        use std::io::{Read, Write};
        let headers: String =
            headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let host = self.address.strip_prefix("http://").expect("an address");
        let mut stream = std::net::TcpStream::connect(host).expect("a connection");
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\
             content-length: {length}\r\n{headers}\r\n{body}"
        )
        .expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        let (head, body) = text.split_once("\r\n\r\n").expect("a whole answer");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let fields = head.lines().skip(1).filter_map(|line| line.split_once(": "));
        Reply {
            status: status.expect("a status"),
            headers: fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            body: body.to_owned(),
        }
    }
}

/// An answer of the simulator.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub body: String,
}

impl Drop for Simulator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `cargo test --workspace` builds it beside `flow`.
pub fn simulator_program() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_flow")).with_file_name("flow-simulator");
    assert!(
        program.exists(),
        "{} is not built: run `cargo test --workspace`, or `cargo build -p flow-simulator`",
        program.display()
    );
    program
}
