//! Files that a client sends up or takes down: `/v1/files`, in memory.

use super::CREATED;
use super::problem::Problem;
use crate::ask::{Answer, Ask};
use hyper::body::Bytes;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The largest file that a batch may come from, in bytes.
const LARGEST: usize = 200 * 1024 * 1024;

#[derive(Default)]
pub struct Files(Mutex<State>);

#[derive(Default)]
struct State {
    files: BTreeMap<String, File>,
    made: u64,
}

struct File {
    name: String,
    purpose: String,
    bytes: Bytes,
}

impl Files {
    /// What `/v1/files` and below it answers; `rest` is what follows.
    pub fn answer(&self, ask: &Ask, rest: &str) -> Result<Answer, Problem> {
        let mut parts = rest.split('/').filter(|part| !part.is_empty());
        match (ask.method.as_str(), parts.next(), parts.next()) {
            ("POST", None, _) => self.upload(ask),
            ("GET", None, _) => {
                let state = self.lock();
                let files: Vec<Value> =
                    state.files.iter().map(|(id, file)| file.to_json(id)).collect();
                Ok(Answer::value(200, &json!({"object": "list", "data": files, "has_more": false})))
            }
            ("GET", Some(id), None) => self.with(id, |file| Answer::value(200, &file.to_json(id))),
            ("GET", Some(id), Some("content")) => self
                .with(id, |file| Answer::new(200, "application/octet-stream", file.bytes.to_vec())),
            ("DELETE", Some(id), None) => {
                self.lock().files.remove(id).ok_or_else(|| missing(id))?;
                Ok(Answer::value(200, &json!({"id": id, "object": "file", "deleted": true})))
            }
            _ => Err(super::unknown_url(ask)),
        }
    }

    /// What a file holds that is for batches.
    pub fn input(&self, id: &str) -> Result<Bytes, Problem> {
        let state = self.lock();
        let file = state.files.get(id).ok_or_else(|| missing(id))?;
        match file.purpose.as_str() {
            "batch" => Ok(file.bytes.clone()),
            other => {
                Err(Problem::new(format!("Invalid file purpose: {other}")).at("input_file_id"))
            }
        }
    }

    /// Keeps a file and gives its id.
    pub fn keep(&self, name: &str, purpose: &str, bytes: Bytes) -> String {
        let mut state = self.lock();
        state.made += 1;
        let id = format!("file-{:024}", state.made);
        let file = File { name: name.to_owned(), purpose: purpose.to_owned(), bytes };
        state.files.insert(id.clone(), file);
        id
    }

    fn upload(&self, ask: &Ask) -> Result<Answer, Problem> {
        let mut file = None;
        let mut purpose = None;
        for part in parts(ask)? {
            match part.name.as_str() {
                "purpose" => purpose = Some(String::from_utf8_lossy(&part.bytes).into_owned()),
                "file" => file = Some((part.file_name.unwrap_or_default(), part.bytes)),
                _ => {}
            }
        }
        let (name, bytes) = file.ok_or_else(|| Problem::missing("file"))?;
        let purpose = purpose.ok_or_else(|| Problem::missing("purpose"))?;
        if purpose == "batch" && bytes.len() > LARGEST {
            let message =
                format!("File is too large: {} bytes, the limit is {LARGEST}.", bytes.len());
            return Err(Problem::new(message).status(413).at("file"));
        }
        let id = self.keep(&name, &purpose, bytes);
        self.with(&id, |file| Answer::value(200, &file.to_json(&id)))
    }

    fn with(&self, id: &str, show: impl FnOnce(&File) -> Answer) -> Result<Answer, Problem> {
        self.lock().files.get(id).map(show).ok_or_else(|| missing(id))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl File {
    fn to_json(&self, id: &str) -> Value {
        json!({
            "id": id,
            "object": "file",
            "bytes": self.bytes.len(),
            "created_at": CREATED,
            "filename": self.name,
            "purpose": self.purpose,
            "status": "processed"
        })
    }
}

fn missing(id: &str) -> Problem {
    Problem::new(format!("No such File object: {id}")).status(404).at("id")
}

/// A part of a form.
struct Part {
    name: String,
    file_name: Option<String>,
    bytes: Bytes,
}

/// The parts of a body of the type `multipart/form-data`.
fn parts(ask: &Ask) -> Result<Vec<Part>, Problem> {
    let wrong = |what: &str| Problem::new(format!("Could not parse multipart form: {what}"));
    let boundary = ask.content_type.split(';').find_map(|it| it.trim().strip_prefix("boundary="));
    let boundary = boundary.ok_or_else(|| wrong("no boundary"))?.trim_matches('"');
    let (first, next) = (format!("--{boundary}"), format!("\r\n--{boundary}"));
    let mut at = first.len();
    if !ask.body.starts_with(first.as_bytes()) {
        return Err(wrong("it does not begin with its boundary"));
    }
    let mut parts = Vec::new();
    while ask.body[at..].starts_with(b"\r\n") {
        at += 2;
        let head_end =
            find(&ask.body[at..], b"\r\n\r\n").ok_or_else(|| wrong("a part without end"))?;
        let head = String::from_utf8_lossy(&ask.body[at..at + head_end]).into_owned();
        at += head_end + 4;
        let end =
            find(&ask.body[at..], next.as_bytes()).ok_or_else(|| wrong("a part without end"))?;
        let quoted = |name: &str| {
            let (_, rest) = head.split_once(&format!(" {name}=\""))?;
            Some(rest.split('"').next().unwrap_or(rest).to_owned())
        };
        let name = quoted("name").ok_or_else(|| wrong("a part without a name"))?;
        let bytes = ask.body.slice(at..at + end);
        parts.push(Part { name, file_name: quoted("filename"), bytes });
        at += end + next.len();
    }
    Ok(parts)
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}
