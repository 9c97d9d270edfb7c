//! A text that matches a regular expression, for the expressions schemas use: classes, groups,
//! alternatives, counts, anchors. Look-arounds and back-references are passed over.

use crate::dice::Dice;

pub struct Pattern<'a> {
    chars: std::iter::Peekable<std::str::Chars<'a>>,
    dice: &'a mut Dice,
}

/// One text that should match `pattern`.
pub fn matching(pattern: &str, dice: &mut Dice) -> String {
    Pattern { chars: pattern.chars().peekable(), dice }.alternatives(0)
}

/// Longer texts are left unfinished: counts of counts would fill the memory.
const LONGEST: usize = 100_000;

/// Deeper groups are left empty: nobody writes them, and the stack is finite.
const DEEPEST: usize = 50;

impl Pattern<'_> {
    fn alternatives(&mut self, depth: usize) -> String {
        let mut options = vec![self.sequence(depth)];
        while self.chars.next_if_eq(&'|').is_some() {
            options.push(self.sequence(depth));
        }
        self.dice.pick(&options).clone()
    }

    fn sequence(&mut self, depth: usize) -> String {
        let mut out = String::new();
        while let Some(c) = self.chars.next_if(|c| *c != '|' && *c != ')') {
            let set: Vec<char> = match c {
                '^' | '$' => continue,
                '(' => {
                    let group = self.group(depth);
                    for _ in 0..self.count().min(room(&out, group.len())) {
                        out += &group;
                    }
                    continue;
                }
                '[' => self.class(),
                '\\' => match self.chars.next() {
                    Some('b' | 'B' | 'A' | 'z' | 'Z') => continue,
                    Some(c) => escaped(c),
                    None => vec!['\\'],
                },
                '.' => ('a'..='z').collect(),
                c => vec![c],
            };
            for _ in 0..self.count() {
                if !set.is_empty() {
                    out.push(*self.dice.pick(&set));
                }
            }
        }
        out
    }

    fn group(&mut self, depth: usize) -> String {
        if self.chars.next_if_eq(&'?').is_some() {
            // `?:`, or `?<name>`.
            if self.chars.next_if_eq(&':').is_none() {
                while self.chars.next_if(|c| *c != '>' && *c != ')').is_some() {}
                self.chars.next_if_eq(&'>');
            }
        }
        let text = if depth < DEEPEST { self.alternatives(depth + 1) } else { String::new() };
        self.chars.next_if_eq(&')');
        text
    }

    fn class(&mut self) -> Vec<char> {
        let negated = self.chars.next_if_eq(&'^').is_some();
        let mut set = Vec::new();
        let mut first = true;
        while let Some(c) = self.chars.next() {
            let chars = match c {
                ']' if !first => break,
                '\\' => self.chars.next().map(escaped).unwrap_or_default(),
                c => vec![c],
            };
            first = false;
            let from = chars[..].first().copied().filter(|_| chars.len() == 1);
            let mut ahead = self.chars.clone();
            let range = (from, ahead.next(), ahead.next());
            if let (Some(from), Some('-'), Some(to)) = range
                && to != ']'
            {
                self.chars.next();
                self.chars.next();
                set.extend((from..=to).take(256));
            } else {
                set.extend(chars);
            }
        }
        if negated { (' '..='~').filter(|c| !set.contains(c)).collect() } else { set }
    }

    /// How often the piece before is repeated.
    fn count(&mut self) -> u64 {
        let (least, most) = match self.chars.peek() {
            Some('*') => (0, 4),
            Some('+') => (1, 4),
            Some('?') => (0, 1),
            Some('{') => return self.braces(),
            _ => return 1,
        };
        self.chars.next();
        self.chars.next_if_eq(&'?');
        least + self.dice.below(most - least + 1)
    }

    fn braces(&mut self) -> u64 {
        self.chars.next();
        let mut text = String::new();
        while let Some(c) = self.chars.next_if(|c| *c != '}') {
            text.push(c);
        }
        self.chars.next();
        let (least, most) = text.split_once(',').unwrap_or((&text, &text));
        let least: u64 = least.trim().parse().unwrap_or(0).min(10_000);
        let most: u64 = most.trim().parse().unwrap_or(least + 3).clamp(least, least + 10_000);
        least + self.dice.below(most - least + 1)
    }
}

/// How many more pieces of a length a text may take.
fn room(text: &str, piece: usize) -> u64 {
    (LONGEST.saturating_sub(text.len()) / piece.max(1)) as u64
}

fn escaped(c: char) -> Vec<char> {
    match c {
        'd' => ('0'..='9').collect(),
        'w' => ('a'..='z').chain('0'..='9').collect(),
        's' => vec![' '],
        'D' | 'S' => ('a'..='z').collect(),
        'W' => vec!['-', '.'],
        'n' => vec!['\n'],
        't' => vec!['\t'],
        'r' => vec!['\r'],
        c => vec![c],
    }
}
