//! Written answers: what `--answers` says a model replies about certain items.

use serde::Deserialize;
use serde_json::Value;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;

#[derive(Deserialize)]
struct Entry {
    schema: String,
    #[serde(rename = "match")]
    part: String,
    /// A text that stands somewhere in the messages: which of several prompts this answers.
    prompt: Option<String>,
    answer: Value,
}

/// Entries by the name of the schema they answer.
#[derive(Default)]
pub struct Answers(HashMap<String, Vec<Entry>>);

impl Answers {
    pub fn load(path: &Path) -> io::Result<Answers> {
        let blame = |line: usize, message: String| {
            let place = if line > 0 { format!(":{line}") } else { String::new() };
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{}{place}: {message}", path.display()),
            )
        };
        let text = fs::read_to_string(path).map_err(|e| blame(0, e.to_string()))?;
        let mut answers = Answers::default();
        for (nth, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let entry: Entry =
                serde_json::from_str(line).map_err(|e| blame(nth + 1, e.to_string()))?;
            answers.0.entry(entry.schema.clone()).or_default().push(entry);
        }
        Ok(answers)
    }

    /// The answer for a request, given its messages and the last of the user's; an entry that asks
    /// for a certain prompt beats one that does not.
    pub fn find(&self, schema: &str, user: &str, messages: &[&str]) -> Option<&Value> {
        let entries = self.0.get(schema)?;
        let prompted = |entry: &&Entry| {
            let said = |part: &String| messages.iter().any(|text| text.contains(part));
            entry.prompt.as_ref().is_none_or(said)
        };
        let fitting = entries.iter().filter(|entry| mentions(user, &entry.part)).filter(prompted);
        let best = fitting.reduce(|best, entry| match (&best.prompt, &entry.prompt) {
            (None, Some(_)) => entry,
            _ => best,
        })?;
        Some(&best.answer)
    }
}

/// Whether `part` occurs in `text` and no digit follows: `.../issues/1` is not in `.../issues/12`.
fn mentions(text: &str, part: &str) -> bool {
    let ends = text.match_indices(part).map(|(at, part)| at + part.len());
    ends.into_iter().any(|end| !text[end..].starts_with(|c: char| c.is_ascii_digit()))
}
