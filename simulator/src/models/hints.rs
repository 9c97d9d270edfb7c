//! What a made-up answer may quote from the request: the files and functions of a diff in it.

/// The files of the diffs in a request, each with the identifiers that occur in its part.
#[derive(Default)]
pub struct Hints<'a> {
    files: Vec<(&'a str, Vec<&'a str>)>,
}

impl<'a> Hints<'a> {
    pub fn of(texts: impl Iterator<Item = &'a str>) -> Hints<'a> {
        let mut hints = Hints::default();
        for text in texts.filter(|text| text.contains("+++ b/")) {
            let mut inside = false;
            for line in text.lines() {
                if let Some(path) = line.strip_prefix("+++ b/") {
                    let path = path.split('\t').next().unwrap_or(path).trim_end();
                    hints.files.push((path, Vec::new()));
                    inside = true;
                } else if line.starts_with("diff --git ") {
                    inside = false;
                } else if let (true, Some((_, names))) = (inside, hints.files.last_mut()) {
                    let code = line.strip_prefix(['+', '-', ' ']).or(line.strip_prefix("@@"));
                    names.extend(code.into_iter().flat_map(called));
                }
            }
        }
        hints
    }

    pub fn files(&self) -> Vec<&'a str> {
        self.files.iter().map(|(path, _)| *path).collect()
    }

    /// Functions in the diff of `file`, or of any file where that one names none.
    pub fn functions(&self, file: Option<&str>) -> Vec<&'a str> {
        let of_file = self.files.iter().filter(|(path, _)| Some(*path) == file);
        let names: Vec<&str> = of_file.flat_map(|(_, names)| names.iter().copied()).collect();
        if !names.is_empty() {
            return names;
        }
        self.files.iter().flat_map(|(_, names)| names.iter().copied()).collect()
    }
}

/// The identifiers before an opening bracket; of a line without any, its longest word.
fn called(code: &str) -> Vec<&str> {
    let names = code.match_indices('(').filter_map(|(at, _)| {
        let before = &code[..at];
        let start = before
            .rfind(|c: char| !is_word(c))
            .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
        Some(&before[start..]).filter(|name| is_name(name))
    });
    let names: Vec<&str> = names.collect();
    if !names.is_empty() {
        return names;
    }
    let words = code.split(|c: char| !is_word(c)).filter(|word| is_name(word));
    words.max_by_key(|word| word.len()).into_iter().collect()
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_ascii_alphanumeric()
}

fn is_name(text: &str) -> bool {
    const KEYWORDS: [&str; 7] = ["if", "for", "while", "switch", "return", "def", "sizeof"];
    text.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic()) && !KEYWORDS.contains(&text)
}
