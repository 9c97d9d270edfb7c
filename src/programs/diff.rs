//! A diff cut into parts that are diffs themselves: where a hunk or a file begins, else between the
//! lines of a hunk, else inside a line. What a part goes on with has its headers in the part again:
//! the file's, and the hunk's with the numbers of the lines that the part has.

use std::cmp::Ordering;
use std::ops::Range;

use super::tokens;

/// A hunk with its lines; or what stands outside of hunks, as a binary file's patch does.
struct Block<'a> {
    /// The header of its file: from `diff --git` up to `+++`. Empty before the first file.
    file: &'a str,
    /// It is the file's first: the header stands right before it.
    opens: bool,
    /// Where it begins in the text, with the file's header where it is the first.
    start: usize,
    hunk: Option<Hunk<'a>>,
    /// Where its lines stand in the text, each with its end and what is noted of that.
    lines: Vec<Range<usize>>,
}

/// `@@ -OLD +NEW @@ REST`
struct Hunk<'a> {
    head: &'a str,
    old: Numbers,
    new: Numbers,
    rest: &'a str,
}

/// The lines of one side, as a hunk's header has them: where there are none, `start` is the line
/// before.
#[derive(Clone, Copy)]
struct Numbers {
    start: u64,
    count: u64,
}

/// Where the diff may be cut: before a byte of a line of a block. What is the end of one is told as
/// the beginning of the next.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    block: usize,
    line: usize,
    byte: usize,
}

struct Diff<'a> {
    text: &'a str,
    budget: usize,
    blocks: Vec<Block<'a>>,
}

/// The parts of `text`, none with more than `budget` tokens. What fits into one is left as it is. The
/// error says which headers leave no room.
pub fn parts(text: &str, budget: usize) -> Result<Vec<String>, String> {
    if !text.is_empty() && tokens::prefix(text, budget).len() == text.len() {
        return Ok(vec![text.to_owned()]);
    }
    let diff = Diff { text, budget, blocks: blocks(text) };
    diff.hold_headers()?;
    let mut parts = Vec::new();
    let mut from = Place { block: 0, line: 0, byte: 0 };
    while from.block < diff.blocks.len() {
        let to = diff.end_of_part(from);
        parts.push(diff.part(from, to));
        from = to;
    }
    Ok(parts)
}

impl Diff<'_> {
    /// Headers, which parts repeat, must leave room for what they head.
    fn hold_headers(&self) -> Result<(), String> {
        for block in &self.blocks {
            let hunk = block.hunk.as_ref().map_or("", |hunk| hunk.head);
            let count = tokens::count(block.file) + tokens::count(hunk);
            if count > self.budget / 2 {
                let name = block.file.lines().next().unwrap_or(hunk.trim_end());
                let name: String = name.chars().take(200).collect();
                return Err(format!(
                    "the headers of a hunk have {count} tokens, more than half of the {} of a part; \
                     raise `tokens`: {name}",
                    self.budget
                ));
            }
        }
        Ok(())
    }

    /// Where the part that begins at `from` ends: after as many blocks as fit. Where the next is too
    /// long for any part, it is cut between lines, and a line for which there is no room inside.
    fn end_of_part(&self, from: Place) -> Place {
        let longest = self.longest(from);
        let boundary = Place { line: 0, byte: 0, ..longest };
        let next = Place { block: boundary.block + 1, ..boundary };
        let mut to = match boundary > from && (boundary == longest || self.fits(boundary, next)) {
            true => boundary,
            false => longest,
        };
        // Other numbers in a header, and a text that is cut off, may have more tokens.
        while to > from && !self.fits(from, to) {
            to = self.line_before(to);
        }
        if to > from { to } else { self.inside(from) }
    }

    /// After the last line for which there is room, as far as that can be told from the text as it
    /// stands.
    fn longest(&self, from: Place) -> Place {
        let block = &self.blocks[from.block];
        let repeated = match (from.line, from.byte) {
            (0, 0) if block.opens => 0,
            (0, 0) => tokens::count(block.file),
            _ => tokens::count(&self.part(from, from)),
        };
        let start = self.start(from);
        let room = self.budget.saturating_sub(repeated);
        let end = start + tokens::prefix(&self.text[start..], room).len();
        let mut to = from;
        while to.block < self.blocks.len() && self.start(self.line_after(to)) <= end {
            to = self.line_after(to);
        }
        to
    }

    /// The place inside of its line up to which a part fits that begins at `from`. It has a character
    /// at least: for that the headers leave room.
    fn inside(&self, from: Place) -> Place {
        let line = &self.text[self.blocks[from.block].lines[from.line].clone()];
        let room = self.budget.saturating_sub(tokens::count(&self.part(from, from)));
        let least = line.ceil_char_boundary(from.byte + 1);
        let most = from.byte + tokens::prefix(&line[from.byte..], room).len();
        let place = |byte| match byte < line.len() {
            true => Place { byte, ..from },
            false => self.line_after(from),
        };
        let mut byte = most;
        while byte > least && !self.fits(from, place(byte)) {
            byte = line.floor_char_boundary(byte - 1);
        }
        place(byte.max(least))
    }

    fn fits(&self, from: Place, to: Place) -> bool {
        let part = self.part(from, to);
        tokens::prefix(&part, self.budget).len() == part.len()
    }

    /// Where a place is in the text.
    fn start(&self, place: Place) -> usize {
        let Some(block) = self.blocks.get(place.block) else {
            return self.text.len();
        };
        match (place.line, place.byte) {
            (0, 0) => block.start,
            (line, byte) => block.lines[line].start + byte,
        }
    }

    fn line_after(&self, Place { block, line, .. }: Place) -> Place {
        match line + 1 < self.blocks[block].lines.len() {
            true => Place { block, line: line + 1, byte: 0 },
            false => Place { block: block + 1, line: 0, byte: 0 },
        }
    }

    /// The beginning of the line that ends at `place`, which is not the first of all.
    fn line_before(&self, Place { block, line, .. }: Place) -> Place {
        match line {
            0 => {
                let lines = self.blocks[block - 1].lines.len();
                Place { block: block - 1, line: lines.saturating_sub(1), byte: 0 }
            }
            _ => Place { block, line: line - 1, byte: 0 },
        }
    }

    /// What stands between two places, under its headers.
    fn part(&self, from: Place, to: Place) -> String {
        let mut part = String::new();
        for (at, block) in self.blocks.iter().enumerate().skip(from.block) {
            let start = if at == from.block { (from.line, from.byte) } else { (0, 0) };
            let end = match at.cmp(&to.block) {
                Ordering::Less => (block.lines.len(), 0),
                Ordering::Equal if at == from.block || (to.line, to.byte) > (0, 0) => {
                    (to.line, to.byte)
                }
                _ => break,
            };
            if at == from.block || block.opens {
                part.push_str(block.file);
            }
            self.add_lines(&mut part, block, start, end);
        }
        part
    }

    /// Adds what stands in `block` between a byte of one line and a byte of another.
    fn add_lines(
        &self,
        part: &mut String,
        block: &Block<'_>,
        (first, begin): (usize, usize),
        (last, end): (usize, usize),
    ) {
        // A line of which there is a piece is one of the part's lines.
        let lines = first..last + usize::from(end > 0);
        if let Some(hunk) = &block.hunk {
            part.push_str(&self.head(hunk, &block.lines, lines.clone()));
            // A piece of a line says, as its beginning did, on which side the line is.
            let line = &self.text[block.lines.get(first).cloned().unwrap_or_default()];
            if begin > 0 && line.starts_with([' ', '+', '-']) {
                part.push_str(&line[..1]);
            }
        }
        for at in lines {
            let line = &self.text[block.lines[at].clone()];
            let begin = if at == first { begin } else { 0 };
            let end = if at == last { end } else { line.len() };
            part.push_str(&line[begin..end]);
        }
    }

    /// A hunk's header where only some of its lines follow.
    fn head(&self, hunk: &Hunk<'_>, all: &[Range<usize>], lines: Range<usize>) -> String {
        if lines == (0..all.len()) {
            return hunk.head.to_owned();
        }
        let count = |lines: Range<usize>| {
            let sides = all[lines].iter().map(|line| sides(&self.text[line.clone()]));
            sides.fold((0, 0), |(old, new), (is_old, is_new)| {
                (old + u64::from(is_old), new + u64::from(is_new))
            })
        };
        let (before, these) = (count(0..lines.start), count(lines));
        let old = hunk.old.after(before.0, these.0);
        let new = hunk.new.after(before.1, these.1);
        let Numbers { start, count } = old;
        format!("@@ -{start},{count} +{},{} @@{}", new.start, new.count, hunk.rest)
    }
}

impl Numbers {
    /// The numbers of `count` lines, where `before` lines of the hunk come before them.
    fn after(self, before: u64, count: u64) -> Numbers {
        let first = self.start + u64::from(self.count == 0) + before;
        Numbers { start: if count == 0 { first.saturating_sub(1) } else { first }, count }
    }

    fn read(text: &str) -> Option<Numbers> {
        let (start, count) = text.split_once(',').unwrap_or((text, "1"));
        let number = |text: &str| text.parse::<u32>().ok().map(u64::from);
        Some(Numbers { start: number(start)?, count: number(count)? })
    }
}

impl<'a> Hunk<'a> {
    fn read(head: &'a str) -> Option<Hunk<'a>> {
        let (numbers, rest) = head.strip_prefix("@@ -")?.split_once(" @@")?;
        let (old, new) = numbers.split_once(" +")?;
        Some(Hunk { head, old: Numbers::read(old)?, new: Numbers::read(new)?, rest })
    }
}

/// Whether a hunk's line is one of the old text, and one of the new.
fn sides(line: &str) -> (bool, bool) {
    (!line.starts_with('+'), !line.starts_with('-'))
}

/// The diff's blocks, in order. Together, with their headers, they are the whole text.
fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut lines = Lines { text, at: 0 };
    let mut blocks = Vec::new();
    while lines.peek().is_some() {
        let start = lines.at;
        let file = lines.file_header();
        let mut opens = true;
        // A file may have no hunk: it was renamed, or is empty.
        while opens || !(lines.peek().is_none() || lines.begins_file()) {
            let start = if opens { start } else { lines.at };
            let hunk = lines.peek().and_then(Hunk::read);
            let lines = match &hunk {
                Some(hunk) => lines.hunk(hunk),
                None => lines.loose(),
            };
            blocks.push(Block { file, opens, start, hunk, lines });
            opens = false;
        }
    }
    blocks
}

/// The lines of a text that are still to be read.
struct Lines<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lines<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.text[self.at..].split_inclusive('\n').next()
    }

    fn take(&mut self) -> Range<usize> {
        let start = self.at;
        self.at += self.peek().map_or(0, str::len);
        start..self.at
    }

    fn begins_file(&self) -> bool {
        let mut next = self.text[self.at..].split_inclusive('\n');
        let mut next_begins = |with: &str| next.next().is_some_and(|line| line.starts_with(with));
        self.text[self.at..].starts_with("diff --git ")
            || (next_begins("--- ") && next_begins("+++ "))
    }

    /// The header of a file, where one begins.
    fn file_header(&mut self) -> &'a str {
        const WITHIN: [&str; 12] = [
            "old mode ",
            "new mode ",
            "deleted file mode ",
            "new file mode ",
            "copy from ",
            "copy to ",
            "rename from ",
            "rename to ",
            "similarity index ",
            "dissimilarity index ",
            "index ",
            "--- ",
        ];
        let start = self.at;
        if self.begins_file() {
            self.take();
            let within = |line: &str| WITHIN.iter().any(|begin| line.starts_with(begin));
            while self.peek().is_some_and(within) {
                self.take();
            }
            if self.peek().is_some_and(|line| line.starts_with("+++ ")) {
                self.take();
            }
        }
        &self.text[start..self.at]
    }

    /// The lines of a hunk, whose header comes first: as many as that says, or fewer where it was cut.
    fn hunk(&mut self, hunk: &Hunk<'_>) -> Vec<Range<usize>> {
        self.take();
        let (mut old, mut new) = (hunk.old.count, hunk.new.count);
        let mut lines = Vec::new();
        while let Some(line) = self.peek() {
            match line.as_bytes()[0] {
                b'\\' => self.note(&mut lines),
                b' ' | b'+' | b'-' | b'\n' | b'\r' if old + new > 0 => {
                    let (is_old, is_new) = sides(line);
                    old = old.saturating_sub(u64::from(is_old));
                    new = new.saturating_sub(u64::from(is_new));
                    lines.push(self.take());
                }
                _ => break,
            }
        }
        lines
    }

    /// Lines up to the next file or hunk.
    fn loose(&mut self) -> Vec<Range<usize>> {
        let mut lines = Vec::new();
        while let Some(line) = self.peek() {
            if self.begins_file() || Hunk::read(line).is_some() {
                break;
            }
            lines.push(self.take());
        }
        lines
    }

    /// A note on the line before, as that it has no end, stays with it.
    fn note(&mut self, lines: &mut Vec<Range<usize>>) {
        let note = self.take();
        match lines.last_mut() {
            Some(line) => line.end = note.end,
            None => lines.push(note),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::Config;

    use super::*;

    const DIFF: &str = "diff --git a/one.c b/one.c
index 1..2 100644
--- a/one.c
+++ b/one.c
@@ -1,2 +1,3 @@
 one
+two
 three
@@ -10 +11,2 @@ int main()
-ten
+ten!
+eleven
\\ No newline at end of file
diff --git a/two b/three
similarity index 100%
rename from two
rename to three
diff --git a/new.c b/new.c
new file mode 100644
--- /dev/null
+++ b/new.c
@@ -0,0 +1,4 @@
+one line of a new file, and it is a rather long one
+two lines of a new file, and it is a rather long one
+three lines of a new file, and it is a rather long one
+four lines of a new file, and it is a rather long one
";

    #[test]
    fn files_and_hunks_are_where_a_diff_is_cut() {
        let tokens = tokens::count(DIFF);
        let first = DIFF.find("diff --git a/new.c").unwrap();
        assert_eq!(parts(DIFF, tokens - 1).unwrap(), [&DIFF[..first], &DIFF[first..]]);
    }

    #[test]
    fn a_hunk_that_is_too_long_is_cut_between_lines() {
        let start = DIFF.find("diff --git a/new.c").unwrap();
        let new = &DIFF[start..];
        let (header, lines) = new.split_at(new.find("@@").unwrap());
        let lines: Vec<&str> = lines.lines().skip(1).collect();
        let made = parts(new, tokens::count(new) - 3).unwrap();
        assert_eq!(
            made,
            [
                format!("{header}@@ -0,0 +1,3 @@\n{}\n", lines[..3].join("\n")),
                format!("{header}@@ -0,0 +4,1 @@\n{}\n", lines[3]),
            ]
        );
    }

    #[test]
    fn a_line_that_is_too_long_keeps_its_sign() {
        let header = "diff --git a/a b/a\n--- a/a\n+++ b/a\n";
        let long = "a b c d e f g h i j k l m n o p q r s t u v w x y z".repeat(4);
        let text = format!("{header}@@ -7 +7 @@\n-{long}\n+{long}\n");
        let made = parts(&text, 100).unwrap();
        let first = format!("{header}@@ -7,1 +6,0 @@\n-a b");
        assert!(made[0].starts_with(&first), "{made:?}");
        assert!(
            made.last().unwrap().starts_with(&format!("{header}@@ -7,0 +7,1 @@\n+")),
            "{made:?}"
        );
    }

    #[test]
    fn headers_leave_room() {
        let why = parts(DIFF, 60).unwrap_err();
        assert!(why.contains("of the 60 of a part; raise `tokens`: diff --git a/one.c"), "{why}");
    }

    /// A hunk's lines with their numbers in the old and the new text, under their file's header. What
    /// is cut inside of a line is put together again.
    fn numbered(parts: &[&str]) -> Vec<(String, u64, u64, String)> {
        let mut all: Vec<(String, u64, u64, String)> = Vec::new();
        for text in parts {
            for (at, block) in blocks(text).iter().enumerate() {
                let from = |numbers: Numbers| numbers.after(0, 1).start;
                let hunk = block.hunk.as_ref();
                let (mut old, mut new) = hunk.map_or((0, 0), |it| (from(it.old), from(it.new)));
                if block.lines.is_empty() {
                    all.push((block.file.to_owned(), 0, 0, String::new()));
                }
                for (line, place) in block.lines.iter().enumerate() {
                    let line_text = &text[place.clone()];
                    let goes_on = |last: &(String, u64, u64, String)| !last.3.ends_with('\n');
                    match all.last_mut() {
                        Some(last)
                            if (at, line) == (0, 0) && !last.3.is_empty() && goes_on(last) =>
                        {
                            assert_eq!((&*last.0, last.1, last.2), (block.file, old, new));
                            last.3.push_str(if hunk.is_some() {
                                &line_text[1..]
                            } else {
                                line_text
                            });
                        }
                        _ => all.push((block.file.to_owned(), old, new, line_text.to_owned())),
                    }
                    if hunk.is_some() {
                        let (is_old, is_new) = sides(line_text);
                        (old, new) = (old + u64::from(is_old), new + u64::from(is_new));
                    }
                }
            }
        }
        all
    }

    fn hunk() -> impl Strategy<Value = String> {
        let line = ("[ +-]", "([a-z]{1,6} |\\PC){0,40}", prop::bool::weighted(0.1));
        (1..5000_u32, prop::collection::vec(line, 1..12)).prop_map(|(start, lines)| {
            let count = |other| lines.iter().filter(|(sign, ..)| sign != other).count() as u32;
            let (old, new) = (count("+"), count("-"));
            let place = |count: u32| format!("{},{count}", start - u32::from(count == 0));
            let head = format!("@@ -{} +{} @@ fn x()\n", place(old), place(new));
            let line = |(sign, text, long): &(String, String, bool)| {
                format!("{sign}{}\n", text.repeat(if *long { 20 } else { 1 }))
            };
            head + &lines.iter().map(line).collect::<String>()
        })
    }

    fn file() -> impl Strategy<Value = String> {
        ("[a-z]{1,8}", prop::collection::vec(hunk(), 0..4)).prop_map(|(name, hunks)| {
            let header = format!("diff --git a/{name} b/{name}\n");
            match hunks.is_empty() {
                true => format!("{header}old mode 100644\nnew mode 100755\n"),
                false => format!("{header}--- a/{name}\n+++ b/{name}\n{}", hunks.concat()),
            }
        })
    }

    proptest! {
        #![proptest_config(Config { cases: 64, failure_persistence: None, ..Config::default() })]

        #[test]
        fn every_line_is_there_once_with_its_numbers(
            files in prop::collection::vec(file(), 1..5),
            budget in 120..400_usize,
        ) {
            let text = files.concat();
            let made = parts(&text, budget).unwrap();
            for part in &made {
                prop_assert!(tokens::count(part) <= budget, "{part}");
            }
            let made: Vec<&str> = made.iter().map(String::as_str).collect();
            prop_assert_eq!(numbered(&made), numbered(&[&text]));
        }

        #[test]
        fn what_is_no_diff_is_cut_too(
            lines in prop::collection::vec(
                "diff --git a b|--- a|\\+\\+\\+ b|@@ -[0-9]{1,3}(,[0-9])? \\+[0-9](,[0-9])? @@|[ +-]\\PC{0,60}|\\\\|\\PC{0,20}|",
                0..40,
            ),
            budget in 100..200_usize,
        ) {
            let text = lines.join("\n");
            let made = parts(&text, budget).unwrap();
            for part in &made {
                prop_assert!(!part.is_empty() && tokens::count(part) <= budget, "{part}");
            }
            let letters = |text: &str| text.chars().filter(|c| c.is_alphabetic()).count();
            prop_assert!(made.iter().map(|part| letters(part)).sum::<usize>() >= letters(&text));
        }
    }
}
