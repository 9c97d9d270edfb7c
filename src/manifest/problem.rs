//! Mistakes and how they are shown: what happened, where, what was probably meant.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// A file that can be pointed into.
#[derive(Debug, PartialEq, Eq)]
pub struct SourceText {
    /// As the user would name it: relative to where they stand.
    pub path: String,
    pub text: String,
}

impl SourceText {
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> Arc<SourceText> {
        Arc::new(SourceText { path: path.into(), text: text.into() })
    }

    /// A file's bytes as text; where they are none, the place of the first that is not.
    pub fn from_bytes(path: String, bytes: Vec<u8>) -> Result<Arc<SourceText>, Problem> {
        String::from_utf8(bytes).map(|text| SourceText::new(path.clone(), text)).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            let source = SourceText::new(&path, String::from_utf8_lossy(error.as_bytes()));
            Problem::new(format!("`{path}` is not UTF-8 text"))
                .at(&source, valid..valid + 1)
                .help("save it as UTF-8")
        })
    }

    /// The byte range of a line (counted from 1) without its end.
    pub fn line(&self, number: usize) -> Range<usize> {
        let mut start = 0;
        for (index, line) in self.text.split_inclusive('\n').enumerate() {
            if index + 1 == number {
                return start..start + line.trim_end().len();
            }
            start += line.len();
        }
        self.text.len()..self.text.len()
    }

    /// Line and column of an offset, counted from 1; the column in characters.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let before = &self.text[..self.text.floor_char_boundary(offset)];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        (line, column)
    }
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub message: String,
    pub place: Option<(Arc<SourceText>, Range<usize>)>,
    pub label: Option<String>,
    pub help: Option<String>,
}

impl Problem {
    pub fn new(message: impl Into<String>) -> Problem {
        Problem { message: message.into(), place: None, label: None, help: None }
    }

    pub fn at(mut self, source: &Arc<SourceText>, span: Range<usize>) -> Problem {
        self.place = Some((source.clone(), span));
        self
    }

    /// The same, with this part of its text not to be read: it may be a secret. All places stay.
    pub fn hiding(mut self, part: Range<usize>) -> Problem {
        if let Some((source, _)) = &mut self.place {
            let (before, after) = (&source.text[..part.start], &source.text[part.end..]);
            let text = format!("{before}{}{after}", "*".repeat(part.len()));
            *source = SourceText::new(source.path.clone(), text);
        }
        self
    }

    pub fn label(mut self, label: impl Into<String>) -> Problem {
        self.label = Some(label.into());
        self
    }

    pub fn help(mut self, help: impl Into<String>) -> Problem {
        self.help = Some(help.into());
        self
    }

    pub fn help_if(self, help: Option<String>) -> Problem {
        match help {
            Some(help) => self.help(help),
            None => self,
        }
    }
}

/// All mistakes found so far.
#[derive(Debug, Default)]
pub struct Problems {
    list: Vec<Problem>,
}

impl Problems {
    /// Adds a mistake; the same one at the same place counts once.
    pub fn add(&mut self, problem: Problem) {
        if !self.list.contains(&problem) {
            self.list.push(problem);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }

    /// All of them for a person, in the order of their places.
    pub fn render(&self, color: bool) -> String {
        let mut sorted: Vec<&Problem> = self.list.iter().collect();
        sorted.sort_by_key(|problem| {
            problem.place.as_ref().map(|(source, span)| (source.path.clone(), span.start))
        });
        let mut out = String::new();
        for problem in sorted {
            let _ = writeln!(out, "{}\n", render(problem, color));
        }
        let count = self.list.len();
        let _ = write!(out, "{count} problem{} found", if count == 1 { "" } else { "s" });
        out
    }
}

impl std::fmt::Display for Problems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Problems {}

fn render(problem: &Problem, color: bool) -> String {
    let message = clean(&problem.message);
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let mut group = match &problem.place {
        None => {
            // Without an excerpt the help has no frame to stand in.
            let help = problem.help.as_deref().map(clean);
            let help = help.iter().map(|help| {
                let title = Level::HELP.secondary_title(help);
                Group::with_title(title)
            });
            let title = Group::with_title(Level::ERROR.primary_title(&message));
            let groups: Vec<Group<'_>> = std::iter::once(title).chain(help).collect();
            return groups
                .into_iter()
                .map(|group| renderer.render(&[group]))
                .collect::<Vec<_>>()
                .join("\n");
        }
        Some((source, span)) => {
            let end = source.text.len();
            let start = source.text.floor_char_boundary(span.start.min(end));
            let stop = source.text.ceil_char_boundary(span.end.clamp(start, end));
            // A span over many lines is shown by its first one.
            let first = source.text[start..stop].find('\n').map_or(stop, |line| start + line);
            let annotation = AnnotationKind::Primary
                .span(start..first)
                .label(problem.label.as_deref().map(clean));
            Level::ERROR.primary_title(&message).element(
                Snippet::source(clean_excerpt(&source.text))
                    .path(clean(&source.path))
                    .annotation(annotation),
            )
        }
    };
    if let Some(help) = &problem.help {
        group = group.element(Level::HELP.message(clean(help)));
    }
    renderer.render(&[group])
}

/// Text from outside made safe for a terminal: control characters are shown, not obeyed.
pub fn clean(text: &str) -> String {
    let show = |c: char| match c {
        '\n' | '\t' => c,
        '\u{7f}' => '\u{2421}',
        c if c < ' ' => char::from_u32(0x2400 + c as u32).unwrap_or('\u{fffd}'),
        // C1 controls, and marks that reorder what is read.
        '\u{80}'..='\u{9f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c => c,
    };
    text.chars().map(show).collect()
}

/// An excerpt's text; the renderer shows all control characters but these. Every place in it stays.
fn clean_excerpt(text: &str) -> String {
    text.replace(|c| matches!(c, '\u{80}'..='\u{9f}'), "\u{a4}")
}

/// The one of `known` that `name` was probably meant as.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// `did you mean ...?` for a name that is near one of `known`; else what there is.
pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let known: Vec<&str> = known.into_iter().collect();
    match nearest(name, known.iter().copied()) {
        Some(candidate) => Some(format!("did you mean `{candidate}`?")),
        None if known.is_empty() => None,
        None if known.len() <= 12 => Some(format!("there is: {}", known.join(", "))),
        None => Some(format!("there is: {}, ...", known[..12].join(", "))),
    }
}
