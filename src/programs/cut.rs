//! Cutting a text into parts of so many tokens, between its lines.

use super::tokens::prefix;

/// Parts that make `text` together, each of at most so many tokens: between paragraphs where one ends in
/// the second half of a part, else between lines; a line that is longer than a part is cut inside.
pub fn lines(text: &str, tokens: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let most = prefix(rest, tokens);
        let after =
            |mark: &str, from: usize| most[from..].rfind(mark).map(|at| from + at + mark.len());
        let end = match most.len() == rest.len() {
            true => most.len(),
            false => after("\n\n", most.floor_char_boundary(most.len() / 2))
                .or_else(|| after("\n", 0))
                .unwrap_or(most.len()),
        };
        // A part of less than a character would never end.
        let first = rest.chars().next().map_or(0, char::len_utf8);
        let (part, after) = rest.split_at(prefix(&rest[..end], tokens).len().max(first));
        parts.push(part);
        rest = after;
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tokens::count;
    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn parts_make_the_text_and_none_is_too_long(text in "([a-zü💥 ]{0,30}\n{0,3}){0,30}", tokens in 16..80_usize) {
            let parts = lines(&text, tokens);
            prop_assert_eq!(&parts.concat(), &text);
            prop_assert!(parts.iter().all(|part| count(part) <= tokens));
        }
    }
}
