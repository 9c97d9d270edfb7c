//! Text from outside: made harmless, measured, cut to its place.

/// Text on one line, without characters that XML forbids, that are not seen, or that reorder what is
/// read.
pub(super) fn clean(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}' => Some(' '),
        c if c.is_control() => None,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' => None,
        '\u{2060}'..='\u{206f}' | '\u{200b}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' => None,
        '\u{fffe}' | '\u{ffff}' | '\u{e0000}'..='\u{e007f}' => None,
        c => Some(c),
    };
    text.chars().filter_map(shown).collect()
}

/// Text as an attribute's or an element's content.
pub(super) fn escape(text: &str) -> String {
    crate::text::escape(&clean(text))
}

/// Another name for each other text, of characters that an id in a page and a reference to it may
/// have.
pub(super) fn as_id(text: &str) -> String {
    let mut id = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' => id.push(c),
            c => id.push_str(&format!(".{:x}.", c as u32)),
        }
    }
    id
}

/// About as wide as the wider of the usual fonts draw it.
pub(super) fn width(text: &str, size: f64) -> f64 {
    text.chars().map(em).sum::<f64>() * size
}

fn em(c: char) -> f64 {
    match c {
        'i' | 'j' | 'l' | 'I' | '.' | ',' | '\'' | ' ' | '|' | ':' | ';' | '!' => 0.34,
        'f' | 'r' | 't' | '-' | '/' | '(' | ')' | '[' | ']' => 0.42,
        'm' | 'w' | 'M' | 'W' | '@' | '%' | '…' => 1.0,
        'A'..='Z' => 0.75,
        // Marks that stand on the letter before them: not quite nothing, for none to have thousands.
        '\u{300}'..='\u{36f}' | '\u{200c}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}' => 0.05,
        '−' => 0.84,
        c if c < '\u{1100}' => 0.64,
        '\u{2000}'..='\u{206f}' => 0.64,
        '\u{1f000}'.. => 1.35,
        _ => 1.05,
    }
}

/// The text where there is room for it, else as much of its beginning as there is with `…`.
pub(super) fn cut(text: &str, size: f64, room: f64) -> String {
    let text = clean(text);
    if width(&text, size) <= room {
        return text;
    }
    let mut left = room - width("…", size);
    let mut kept = String::new();
    for c in text.chars() {
        left -= em(c) * size;
        if left < 0.0 {
            break;
        }
        kept.push(c);
    }
    format!("{}…", kept.trim_end())
}

/// The text in at most so many lines, broken between words; the last one is cut.
pub(super) fn wrap(text: &str, size: f64, room: f64, most: usize) -> Vec<String> {
    let text = clean(text);
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let full = lines.len() == most;
        match lines.last_mut() {
            // What the last line has no room for is added too: so cutting it shows that it goes on.
            Some(line)
                if full || width(line, size) + width(" ", size) + width(word, size) <= room =>
            {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.iter().map(|line| cut(line, size, room)).collect()
}
