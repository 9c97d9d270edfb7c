//! JSON objects in a text, as models write them between words, or in a fence of code.

use serde_json::{Deserializer, Value};

/// The objects that stand in `text`, and where each begins; or what is wrong with the text. What is
/// inside of another object, in braces that are no JSON, or between `<think>` and `</think>` is no answer.
pub(super) fn objects(text: &str) -> Result<Vec<(usize, Value)>, String> {
    const THOUGHT: &str = "</think>";
    let mut found = Vec::new();
    let mut fault = "there is no JSON object in it".to_owned();
    let mut at = text.rfind(THOUGHT).map_or(0, |end| end + THOUGHT.len());
    while let Some(start) = text[at..].find('{').map(|next| at + next) {
        let mut values = Deserializer::from_str(&text[start..]).into_iter::<Value>();
        at = start
            + match values.next() {
                Some(Ok(value)) => {
                    found.push((start, value));
                    values.byte_offset()
                }
                Some(Err(error)) => {
                    fault = error.to_string();
                    // Braces that nothing closes may hold anything.
                    let Some(length) = braces(&text[start..]) else { break };
                    length
                }
                None => 1,
            };
    }
    if found.is_empty() { Err(fault) } else { Ok(found) }
}

/// How far it is to the brace that closes the first one.
fn braces(text: &str) -> Option<usize> {
    let mut depth = 0;
    let mut quoted = false;
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\\' if quoted => drop(bytes.next()),
            b'"' => quoted = !quoted,
            b'{' if !quoted => depth += 1,
            b'}' if !quoted => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_whole_objects_are_found() {
        for (text, expected) in [
            (
                "Here: ```json\n{\"a\": {\"b\": \"}\"}}\n``` done",
                Ok(vec![(14, json!({"a": {"b": "}"}}))]),
            ),
            ("fn main() { run() } gives {\"a\": 1}", Ok(vec![(26, json!({"a": 1}))])),
            ("<think>{\"a\": 2}</think>{\"a\": 1}", Ok(vec![(23, json!({"a": 1}))])),
            ("{\"a\": 1} or {\"a\": 2}", Ok(vec![(0, json!({"a": 1})), (12, json!({"a": 2}))])),
        ] {
            assert_eq!(objects(text), expected, "{text}");
        }
        for text in [
            "{\"draft\": {\"a\": 1}, \"a\": 2,}",
            "{\"draft\": {\"a\": 1}, \"a\": ",
            "no object at all",
            "{'a': 1}",
        ] {
            assert!(objects(text).is_err(), "{text}");
        }
        let code = "{ x } ".repeat(100);
        assert_eq!(objects(&format!("{code}{{\"a\": 1}}")).map(|it| it.len()), Ok(1));
    }
}
