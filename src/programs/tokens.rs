//! Tokens of a text, as models count them: those of OpenAI's `o200k_base`, whatever the model is. Others
//! count a little differently; what is cut by these fits them too with some room to spare.
//!
//! What a text says of special tokens (`<|endoftext|>`) is ordinary text here.

use tiktoken_rs::o200k_base_singleton;

/// A text is counted in pieces of at most so many bytes: the time that a long run of the same sign takes
/// grows with its square.
const PIECE: usize = 4096;
/// No token is of more bytes.
const LONGEST: usize = 128;

/// How many tokens `text` has.
pub fn count(text: &str) -> usize {
    pieces(text).map(|piece| o200k_base_singleton().encode_ordinary(piece).len()).sum()
}

/// The longest beginning of `text` with at most so many tokens, to a whole character.
pub fn prefix(text: &str, tokens: usize) -> &str {
    // A token is a byte at least.
    if text.len() <= tokens {
        return text;
    }
    let most = text.floor_char_boundary(tokens.saturating_mul(LONGEST));
    let (mut left, mut end) = (tokens, 0);
    for piece in pieces(&text[..most]) {
        let lengths = lengths(piece);
        end += lengths.iter().take(left).sum::<usize>();
        if lengths.len() >= left {
            break;
        }
        left -= lengths.len();
    }
    let mut end = text.floor_char_boundary(end);
    // Cut off, a text may be told apart into other tokens than before.
    while end > 0 && count(&text[..end]) > tokens {
        end = text.floor_char_boundary(end - 1);
    }
    &text[..end]
}

/// The longest end of `text` with at most so many tokens, to a whole character.
pub fn suffix(text: &str, tokens: usize) -> &str {
    if text.len() <= tokens {
        return text;
    }
    let lengths: Vec<usize> = pieces(text).flat_map(lengths).collect();
    let kept: usize = lengths.iter().rev().take(tokens).sum();
    let mut start = text.ceil_char_boundary(text.len() - kept);
    while start < text.len() && count(&text[start..]) > tokens {
        start = text.ceil_char_boundary(start + 1);
    }
    &text[start..]
}

/// How many bytes each token has.
fn lengths(piece: &str) -> Vec<usize> {
    let bpe = o200k_base_singleton();
    let length = |token| bpe.decode_bytes(&[token]).map_or(0, |bytes| bytes.len());
    bpe.encode_ordinary(piece).into_iter().map(length).collect()
}

/// Pieces that make the text together, cut after a line where there is one.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let most = rest.floor_char_boundary(PIECE);
        let line = rest[..most].rfind('\n').map(|at| at + 1);
        let end = if rest.len() <= PIECE { rest.len() } else { line.unwrap_or(most) };
        let (piece, after) = rest.split_at(end);
        rest = after;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tokens_are_those_of_the_encoding() {
        // `len(tiktoken.get_encoding("o200k_base").encode(text, disallowed_special=()))`
        for (text, tokens) in [
            ("", 0),
            ("hello world", 2),
            ("The quick brown fox jumps over the lazy dog.", 10),
            ("<|endoftext|>", 7),
            ("    fn main() {}\n", 5),
        ] {
            assert_eq!(count(text), tokens, "{text:?}");
        }
    }

    #[test]
    fn no_text_takes_for_ever() {
        let began = std::time::Instant::now();
        for text in [" ", "a", "\n", "💥", "<|endoftext|>"] {
            assert!(count(&text.repeat(200_000)) > 0);
        }
        assert!(began.elapsed().as_secs() < 30, "{:?}", began.elapsed());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn cut_texts_are_within_their_tokens(text in "(\\PC|\n| ){0,200}", tokens in 0..60_usize) {
            let (first, last) = (prefix(&text, tokens), suffix(&text, tokens));
            prop_assert!(text.starts_with(first) && text.ends_with(last));
            prop_assert!(count(first) <= tokens && count(last) <= tokens);
            if count(&text) <= tokens {
                prop_assert_eq!((first, last), (text.as_str(), text.as_str()));
            }
        }
    }
}
