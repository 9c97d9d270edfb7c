//! Cutting a text into parts of so many tokens: between its lines, or a diff between its files and hunks.

use super::tokens::{count, prefix};

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

/// Parts of a diff, each of at most so many tokens and each a diff of its own: a hunk stands below the
/// header of its file, in every part. A hunk that is too long is cut between its lines, with right
/// numbers in its headers; a line that is longer than a part becomes several. The error says which
/// header leaves no room.
pub fn diff(text: &str, tokens: usize) -> Result<Vec<String>, String> {
    let mut parts = Parts { tokens, done: Vec::new(), part: String::new(), used: 0, header: "" };
    for file in starting(text, "diff --git ") {
        let hunks_at = starts(file, "@@ ").next().unwrap_or(file.len());
        let (header, hunks) = file.split_at(hunks_at);
        if !file.starts_with("diff --git ") || hunks.is_empty() {
            // What stands before the first file, and a file without lines.
            lines(file, tokens).into_iter().for_each(|block| parts.add("", block));
            continue;
        }
        if count(header) > tokens / 2 {
            let name = header.lines().next().unwrap_or_default();
            return Err(format!("the header of a file takes more than half of a part: {name}"));
        }
        for hunk in starting(hunks, "@@ ") {
            match cost(header) + cost(hunk) <= tokens {
                true => parts.add(header, hunk),
                false => parts.add_long(header, hunk),
            }
        }
    }
    parts.close();
    Ok(parts.done)
}

/// Parts on their way.
struct Parts<'a> {
    tokens: usize,
    done: Vec<String>,
    part: String,
    used: usize,
    /// The header under which the part ends.
    header: &'a str,
}

impl<'a> Parts<'a> {
    fn add(&mut self, header: &'a str, block: &str) {
        let mut own = if self.header == header { "" } else { header };
        if self.used + cost(own) + cost(block) > self.tokens && !self.part.is_empty() {
            self.close();
            own = header;
        }
        self.used += cost(own) + cost(block);
        self.part.push_str(own);
        self.part.push_str(block);
        self.header = header;
    }

    fn close(&mut self) {
        if !self.part.is_empty() {
            self.done.push(std::mem::take(&mut self.part));
        }
        (self.used, self.header) = (0, "");
    }

    /// A hunk that fills more than a part with its header alone.
    fn add_long(&mut self, header: &'a str, hunk: &str) {
        let (first, body) = hunk.split_at(hunk.find('\n').map_or(hunk.len(), |at| at + 1));
        let mut place = Place::of(first);
        // A hunk's header is at most as long as the longest numbers make it.
        let room = self.tokens.saturating_sub(cost(header) + cost(first) + 16).max(1);
        let mut taken = String::new();
        let mut used = 0;
        let flush = |parts: &mut Parts<'a>, taken: &mut String, place: &mut Place| {
            if !taken.is_empty() {
                let head = place.header(taken);
                parts.add(header, &format!("{head}{taken}"));
                taken.clear();
            }
        };
        for line in body.split_inclusive('\n') {
            for piece in pieces(line, room) {
                if used + cost(&piece) > room {
                    flush(self, &mut taken, &mut place);
                    used = 0;
                }
                used += cost(&piece);
                taken.push_str(&piece);
            }
        }
        flush(self, &mut taken, &mut place);
    }
}

/// What a block adds to a part. Where two blocks meet, one token more may come of it.
fn cost(text: &str) -> usize {
    if text.is_empty() { 0 } else { count(text) + 1 }
}

/// A line, or where that is too long several with its sign.
fn pieces(line: &str, room: usize) -> Vec<String> {
    if cost(line) <= room {
        return vec![line.to_owned()];
    }
    let sign = line.chars().next().filter(|sign| matches!(sign, '+' | '-' | ' ')).unwrap_or(' ');
    let text = line.strip_prefix(sign).unwrap_or(line);
    let parts = lines(text, room.saturating_sub(4).max(1)).into_iter();
    parts.map(|part| format!("{sign}{}\n", part.trim_end_matches('\n'))).collect()
}

/// Where a hunk stands in the file before and after.
struct Place<'a> {
    numbers: Option<[u64; 2]>,
    /// What stands behind the second `@@`.
    context: &'a str,
    whole: &'a str,
}

impl<'a> Place<'a> {
    fn of(header: &'a str) -> Place<'a> {
        let mut words = header.split(' ');
        let number = |word: Option<&str>, sign| -> Option<u64> {
            word?.strip_prefix(sign)?.split(',').next()?.trim_end().parse().ok()
        };
        words.next();
        let numbers = number(words.next(), '-').zip(number(words.next(), '+'));
        let context =
            header.get(2..).and_then(|rest| rest.split_once("@@")).map_or("\n", |it| it.1);
        Place { numbers: numbers.map(|(one, other)| [one, other]), context, whole: header }
    }

    /// The header of the hunk's next lines, which are `taken`; the place moves on behind them.
    fn header(&mut self, taken: &str) -> String {
        let Some([before, after]) = &mut self.numbers else { return self.whole.to_owned() };
        let of = |signs: [char; 2]| {
            taken.lines().filter(|line| line.is_empty() || line.starts_with(signs)).count() as u64
        };
        let (old, new) = (of(['-', ' ']), of(['+', ' ']));
        let header = format!("@@ -{before},{old} +{after},{new} @@{}", self.context);
        (*before, *after) = (*before + old, *after + new);
        header
    }
}

/// Where lines begin with `mark`.
fn starts<'a>(text: &'a str, mark: &'a str) -> impl Iterator<Item = usize> + 'a {
    let at_line = |at: &usize| *at == 0 || text.as_bytes()[at - 1] == b'\n';
    text.match_indices(mark).map(|(at, _)| at).filter(at_line)
}

/// The parts of a text that begin with such a line, and what stands before the first.
fn starting<'a>(text: &'a str, mark: &'a str) -> Vec<&'a str> {
    let mut ends: Vec<usize> = starts(text, mark).filter(|at| *at > 0).collect();
    ends.push(text.len());
    let mut from = 0;
    let parts = ends.into_iter().map(|end| &text[std::mem::replace(&mut from, end)..end]);
    parts.filter(|part| !part.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(name: &str, hunks: &[(u64, &[String])]) -> String {
        let mut text = format!("diff --git a/{name} b/{name}\n--- a/{name}\n+++ b/{name}\n");
        for (at, lines) in hunks {
            let of = |signs: [char; 2]| lines.iter().filter(|line| line.starts_with(signs)).count();
            let (old, new) = (of(['-', ' ']), of(['+', ' ']));
            text.push_str(&format!("@@ -{at},{old} +{at},{new} @@ fn f()\n"));
            lines.iter().for_each(|line| text.push_str(&format!("{line}\n")));
        }
        text
    }

    /// The lines of all hunks, without headers.
    fn changed(parts: &[String]) -> Vec<String> {
        let is_header = |line: &&str| {
            ["diff --git", "--- a/", "+++ b/", "@@ "].iter().any(|mark| line.starts_with(mark))
        };
        let lines = parts.iter().flat_map(|part| part.lines()).filter(|line| !is_header(line));
        lines.map(str::to_owned).collect()
    }

    #[test]
    fn a_long_hunk_goes_on_with_right_numbers() {
        let lines: Vec<String> = (0..40).map(|at| format!("+line number {at}")).collect();
        let text = file("a.c", &[(7, &lines)]);
        let parts = diff(&text, 120).unwrap();
        assert!(parts.len() > 2, "{}", parts.len());
        let mut next = 7;
        for part in &parts {
            assert!(part.starts_with("diff --git a/a.c b/a.c\n--- a/a.c\n+++ b/a.c\n@@ -7,0 +"));
            let added = part.lines().filter(|line| line.starts_with("+line")).count();
            assert!(part.contains(&format!("@@ -7,0 +{next},{added} @@ fn f()\n")), "{part}");
            next += added;
            assert!(count(part) <= 120);
        }
        assert_eq!(changed(&parts), lines);
    }

    #[test]
    fn files_and_hunks_stay_whole_where_they_fit() {
        let line = |text: &str| vec![format!(" {text}"), "+more".to_owned()];
        let (one, other) = (line("one"), line("other"));
        let text = file("a.c", &[(1, &one), (90, &other)]) + &file("b.c", &[(3, &one)]);
        assert_eq!(diff(&text, 1000).unwrap(), std::slice::from_ref(&text));
        let parts = diff(&text, 60).unwrap();
        assert_eq!(changed(&parts), changed(std::slice::from_ref(&text)));
        for part in &parts {
            assert!(part.starts_with("diff --git "), "{part}");
        }
        assert!(diff("", 60).unwrap().is_empty());
        let long =
            format!("diff --git a/{0} b/{0}\n--- a\n+++ b\n@@ -1 +1 @@\n+x\n", "name/".repeat(40));
        assert!(diff(&long, 60).unwrap_err().contains("more than half of a part"));
        // No diff at all is cut as any text.
        assert_eq!(diff("a\nb\n", 60).unwrap(), ["a\nb\n"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn parts_make_the_text_and_none_is_too_long(text in "([a-zü💥 ]{0,30}\n{0,3}){0,30}", tokens in 16..80_usize) {
            let parts = lines(&text, tokens);
            prop_assert_eq!(&parts.concat(), &text);
            prop_assert!(parts.iter().all(|part| count(part) <= tokens));
        }

        #[test]
        fn parts_of_a_diff_hold_every_line_once(
            files in prop::collection::vec(prop::collection::vec("[-+ ][a-z ]{0,40}", 1..30), 1..5),
            tokens in 80..200_usize,
        ) {
            let text: String = files.iter().enumerate()
                .map(|(at, lines)| file(&format!("f{at}.c"), &[(1, lines)]))
                .collect();
            let parts = diff(&text, tokens).unwrap();
            prop_assert!(parts.iter().all(|part| count(part) <= tokens));
            prop_assert_eq!(changed(&parts), changed(std::slice::from_ref(&text)));
            prop_assert_eq!(diff(&text, tokens).unwrap(), parts);
        }
    }
}
