//! Looks through a file for what looks like a secret, line by line: the values of the environment
//! variables that the manifest names, and known shapes of keys.
//!
//! A text inside of JSON is escaped, and an answer inside of a cassette twice. So each line is looked
//! at as it stands, and again with its escapes undone, as long as there are any.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::{self, BufRead};

use memchr::memmem;
use toml::{Table, Value};

use crate::clients::secret_in;
use crate::table::Hasher;

/// What looks like a secret. Its text is not kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    pub file: String,
    pub line: u64,
    /// `OpenAI key`, `value of GITHUB_TOKEN`.
    pub kind: String,
    /// The first four characters, and how many there are.
    pub masked: String,
    /// Names the text, so that it can be allowed.
    pub id: String,
}

/// How a sort of keys begins and what follows.
struct Shape {
    kind: &'static str,
    begins: &'static str,
    /// At least so many characters follow, all of them of these.
    least: usize,
    follows: fn(u8) -> bool,
}

const SHAPES: [Shape; 14] = [
    Shape { kind: "OpenAI key", begins: "sk-", least: 20, follows: word_or_dash },
    Shape { kind: "GitHub token", begins: "ghp_", least: 20, follows: alphanumeric },
    Shape { kind: "GitHub token", begins: "gho_", least: 20, follows: alphanumeric },
    Shape { kind: "GitHub token", begins: "ghs_", least: 20, follows: alphanumeric },
    Shape { kind: "GitHub token", begins: "ghu_", least: 20, follows: alphanumeric },
    Shape { kind: "GitHub token", begins: "github_pat_", least: 20, follows: word_or_dash },
    Shape { kind: "AWS key", begins: "AKIA", least: 16, follows: upper_or_digit },
    Shape { kind: "Slack token", begins: "xoxa-", least: 10, follows: word_or_dash },
    Shape { kind: "Slack token", begins: "xoxb-", least: 10, follows: word_or_dash },
    Shape { kind: "Slack token", begins: "xoxp-", least: 10, follows: word_or_dash },
    Shape { kind: "Slack token", begins: "xoxr-", least: 10, follows: word_or_dash },
    Shape { kind: "Slack token", begins: "xoxs-", least: 10, follows: word_or_dash },
    Shape { kind: "Google key", begins: "AIza", least: 35, follows: word_or_dash },
    Shape { kind: "Hugging Face token", begins: "hf_", least: 30, follows: alphanumeric },
];

/// A private key in PEM begins with a line that ends like this, after `-----BEGIN `.
const PEM_BEGINS: &[u8] = b"-----BEGIN ";
const PEM_ENDS: &[u8] = b"PRIVATE KEY-----";
/// So much of a key tells it from all others.
const PEM_NAMES: usize = 256;

/// A value that is shorter is no secret, and would be found everywhere.
const SHORTEST: usize = 8;

/// How often a line's escapes are undone: an answer's JSON holds a text that is JSON, and stands in
/// a line of JSON.
const DEEPEST: usize = 4;

/// What is looked for.
pub struct Scan {
    /// Variables with their values.
    values: Vec<(String, String)>,
    /// Variables that are not set here: their values cannot be looked for.
    pub unset: Vec<String>,
}

impl Scan {
    /// Looks for the values of the variables that `manifest` names, under whatever profile, and for
    /// known shapes.
    pub fn new(manifest: &str) -> Scan {
        let mut names = BTreeSet::new();
        if let Ok(table) = manifest.parse::<Table>() {
            variables(&Value::Table(table), &mut names);
        }
        let (mut values, mut unset) = (Vec::new(), Vec::new());
        for name in names {
            let Some(value) = secret_in(&name) else {
                unset.push(name);
                continue;
            };
            // A secret of many lines is found by any of them.
            let lines =
                value.lines().map(str::trim).filter(|line| line.chars().count() >= SHORTEST);
            values.extend(lines.map(|line| (name.clone(), line.to_owned())));
        }
        Scan { values, unset }
    }

    /// What of `text`, which is read once and a line at a time, looks like a secret.
    pub fn look(&self, file: &str, mut text: impl BufRead) -> io::Result<Vec<Finding>> {
        let mut found = BTreeSet::new();
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            if text.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            self.line(file, number, &line, &mut found);
        }
        Ok(found.into_iter().collect())
    }

    fn line(&self, file: &str, number: u64, line: &[u8], found: &mut BTreeSet<Finding>) {
        let mut add = |hits: Vec<Hit>| {
            let (file, line) = (file.to_owned(), number);
            let finding = |Hit { kind, masked, id }| {
                let file = file.clone();
                Finding { file, line, kind, masked, id }
            };
            found.extend(hits.into_iter().map(finding));
        };
        hex_texts(line).iter().for_each(|bytes| add(self.text(bytes)));
        let mut text = Cow::Borrowed(line);
        for _ in 0..DEEPEST {
            add(self.text(&text));
            match unescaped(&text) {
                Some(plainer) => text = Cow::Owned(plainer),
                None => return add(pem(&text, file, number)),
            }
        }
        add(self.text(&text));
        add(pem(&text, file, number));
    }

    fn text(&self, text: &[u8]) -> Vec<Hit> {
        let mut hits = Vec::new();
        for (name, value) in &self.values {
            if memmem::find(text, value.as_bytes()).is_some() {
                hits.push(Hit::new(format!("value of {name}"), value.as_bytes()));
            }
        }
        for shape in &SHAPES {
            let mut end = 0;
            for at in memmem::find_iter(text, shape.begins.as_bytes()) {
                // What stands inside of one that was found is that one.
                if at < end {
                    continue;
                }
                // Inside of a word it is none: `risk-...`.
                let inside = at.checked_sub(1).is_some_and(|before| alphanumeric(text[before]));
                let rest = &text[at + shape.begins.len()..];
                let follow = rest.iter().take_while(|byte| (shape.follows)(**byte)).count();
                end = at + shape.begins.len() + follow;
                let wordy = ["sk-", "hf_"].contains(&shape.begins);
                let likely = !wordy || is_by_chance(&rest[..follow]);
                if !inside && follow >= shape.least && likely {
                    let secret = &text[at..at + shape.begins.len() + follow];
                    hits.push(Hit::new(shape.kind.to_owned(), secret));
                }
            }
        }
        hits
    }
}

/// Whether it may have come about by chance, as keys do: words of a page's markup and a row of `x` have
/// no digit, or few different characters.
fn is_by_chance(text: &[u8]) -> bool {
    let different: BTreeSet<u8> = text.iter().copied().collect();
    different.len() >= 6 && text.iter().any(u8::is_ascii_digit)
}

/// What was found, wherever it was.
struct Hit {
    kind: String,
    masked: String,
    id: String,
}

impl Hit {
    fn new(kind: String, secret: &[u8]) -> Hit {
        Hit { kind, masked: masked(secret), id: id(secret) }
    }
}

/// Private keys in PEM. They all begin alike: each is named by what follows or, where that is on lines
/// of its own, by its place.
fn pem(text: &[u8], file: &str, line: u64) -> Vec<Hit> {
    let mut hits = Vec::new();
    for at in memmem::find_iter(text, PEM_BEGINS) {
        let rest = &text[at + PEM_BEGINS.len()..];
        let words = rest.iter().take_while(|byte| byte.is_ascii_uppercase() || **byte == b' ');
        // `PRIVATE KEY`, `RSA PRIVATE KEY`: the words end where the dashes begin.
        let end = (words.count() + b"-----".len()).min(rest.len());
        if !rest[..end].ends_with(PEM_ENDS) {
            continue;
        }
        let after = rest[end..].trim_ascii();
        let id = match after.is_empty() {
            true => id(format!("{file}:{line}").as_bytes()),
            false => id(&after[..after.len().min(PEM_NAMES)]),
        };
        let header = &text[at..at + PEM_BEGINS.len() + end];
        hits.push(Hit { kind: "private key".into(), masked: masked(header), id });
    }
    hits
}

/// The variables that a manifest names for secrets: `{ env = "NAME" }`, and those that commands see.
fn variables(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Table(table) => {
            for (key, value) in table {
                match (key.as_str(), value) {
                    // An address stands in every call that was made there.
                    ("base_url", _) => {}
                    ("env", Value::String(name)) => drop(names.insert(name.clone())),
                    ("env", Value::Array(list)) => {
                        names.extend(list.iter().filter_map(Value::as_str).map(str::to_owned));
                    }
                    _ => variables(value, names),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| variables(value, names)),
        _ => {}
    }
}

/// The text with one level of JSON's escapes undone; `None` where there is none.
fn unescaped(text: &[u8]) -> Option<Vec<u8>> {
    let first = memchr::memchr(b'\\', text)?;
    let mut plain = text[..first].to_vec();
    let mut rest = &text[first..];
    while let Some((&byte, after)) = rest.split_first() {
        if byte != b'\\' {
            plain.push(byte);
            rest = after;
            continue;
        }
        let Some((&escaped, after)) = after.split_first() else { break };
        rest = after;
        match escaped {
            b'n' => plain.push(b'\n'),
            b't' => plain.push(b'\t'),
            b'r' => plain.push(b'\r'),
            b'b' => plain.push(8),
            b'f' => plain.push(12),
            b'u' => {
                let (c, length) = code_point(after);
                let mut bytes = [0; 4];
                plain.extend(c.encode_utf8(&mut bytes).bytes());
                rest = &after[length..];
            }
            // `\"`, `\\`, `\/`, and what is no escape of JSON.
            other => plain.push(other),
        }
    }
    Some(plain)
}

/// The character that `\u` stands for, and how many bytes after it say so.
fn code_point(digits: &[u8]) -> (char, usize) {
    let four = |digits: &[u8]| {
        let digits = std::str::from_utf8(digits.get(..4)?).ok()?;
        u32::from_str_radix(digits, 16).ok()
    };
    let Some(first) = four(digits) else { return ('u', 0) };
    if let Some(c) = char::from_u32(first) {
        return (c, 4);
    }
    // Half of a pair: the other half follows.
    let second = digits.get(4..6).filter(|it| *it == b"\\u").and_then(|_| four(&digits[6..]));
    let pair = second.and_then(|second| char::decode_utf16([first as u16, second as u16]).next());
    match pair {
        Some(Ok(c)) => (c, 10),
        _ => (char::REPLACEMENT_CHARACTER, 4),
    }
}

/// Answers that are no UTF-8 stand in a cassette in hexadecimal digits.
fn hex_texts(text: &[u8]) -> Vec<Vec<u8>> {
    const FIELD: &[u8] = b"\"body_hex\":\"";
    let decoded = memmem::find_iter(text, FIELD).map(|at| {
        let digits = text[at + FIELD.len()..].chunks_exact(2);
        digits.map_while(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
    });
    decoded.map(Iterator::collect).collect()
}

fn masked(secret: &[u8]) -> String {
    let text = String::from_utf8_lossy(secret);
    let first: String = text.chars().take(4).collect();
    format!("{first}... ({} characters)", text.chars().count())
}

fn id(text: &[u8]) -> String {
    Hasher::new("secret 1").part(text).finish().short()
}

fn alphanumeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

fn upper_or_digit(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit()
}

fn word_or_dash(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<String> {
        let values = vec![("KEY".into(), "pass/\"word\"é".into())];
        let scan = Scan { values, unset: Vec::new() };
        let found = scan.look("f", text.as_bytes()).unwrap();
        found.into_iter().map(|it| format!("{} {} {}", it.line, it.kind, it.masked)).collect()
    }

    #[test]
    fn known_shapes_are_found_where_they_stand() {
        let twenty = "a1b2c3d4e5f6g7h8i9j0";
        let found = |text: String| kinds(&format!("first\n{text}\n"));
        assert_eq!(found(format!("sk-{twenty}")), ["2 OpenAI key sk-a... (23 characters)"]);
        assert_eq!(found(format!("sk-proj-{twenty}")).len(), 1);
        assert_eq!(found(format!("\"ghp_{twenty}{twenty}\"")).len(), 1);
        assert_eq!(found(format!("github_pat_{twenty}")).len(), 1);
        assert_eq!(found("id=AKIAABCDEFGHIJKLMNOP;".into()), ["2 AWS key AKIA... (20 characters)"]);
        assert_eq!(found("xoxb-123456789012-abc".into()).len(), 1);
        assert_eq!(found(format!("AIza{}", "b".repeat(35))).len(), 1);
        assert_eq!(found(format!("hf_{twenty}{twenty}")).len(), 1);
        assert_eq!(found("-----BEGIN RSA PRIVATE KEY-----".into()).len(), 1);
        assert_eq!(found("-----BEGIN PRIVATE KEY-----".into()).len(), 1);
    }

    #[test]
    fn what_only_resembles_them_is_not() {
        for text in [
            "a risk-abcdefghijklmnopqrstuvwxyz",
            "sk-toggleable__content-arrow-link",
            "sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "hf_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "sk-too-short",
            "-----BEGIN PUBLIC KEY-----",
            "-----BEGIN CERTIFICATE-----",
            "AKIAabcdefghijklmnop",
            "-----BEGIN ",
        ] {
            assert_eq!(kinds(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn escapes_of_json_hide_nothing() {
        let plain = "say:\nsk-abcdefghij0123456789\nand pass/\"word\"é";
        let once = serde_json::to_string(&serde_json::json!({ "text": plain })).unwrap();
        let twice = serde_json::to_string(&serde_json::json!({ "body": once })).unwrap();
        for text in [once, twice.clone(), serde_json::to_string(&twice).unwrap()] {
            assert_eq!(
                kinds(&text),
                ["1 OpenAI key sk-a... (23 characters)", "1 value of KEY pass... (12 characters)"],
                "{text}"
            );
        }
        assert_eq!(kinds(r#"{"k":"\u0073k-abcdefghij\u00301234567\u00389"}"#).len(), 1);
        assert_eq!(
            kinds(r"pass\/\u0022word\u0022\u00e9"),
            ["1 value of KEY pass... (12 characters)"]
        );
        let hex: String =
            b"\xffsk-abcdefghij0123456789".iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(kinds(&format!("{{\"body_hex\":\"{hex}\"}}")).len(), 1);
    }

    #[test]
    fn odd_escapes_are_read_past() {
        for text in ["\\", "\\u", "\\u12", "\\ud83d", "\\ud83d\\u0041", "\\ud83d\\ude00", "\\x"] {
            assert_eq!(kinds(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn the_manifest_names_what_to_look_for() {
        let text = "a = {env = 'A'}\n[x]\nenv = ['B', 'C']\n[[y.z]]\napi_key = {env = 'D'}";
        let mut names = BTreeSet::new();
        variables(&Value::Table(text.parse().unwrap()), &mut names);
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["A", "B", "C", "D"]);
    }
}
