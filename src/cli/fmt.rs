//! `flow fmt`

use clap::Args;

use super::style::Style;
use super::{Exit, Shared};
use crate::manifest::{Manifest, Problem, Problems, clean, tidy};

#[derive(Args)]
#[command(after_help = "Examples:
  flow fmt
  flow fmt --check")]
pub(super) struct Arguments {
    /// Only tell whether it would be another text; exit code 1 where it would
    #[arg(long)]
    check: bool,
}

pub(super) fn main(arguments: &Arguments, shared: &Shared, style: &Style) -> Exit {
    let refused = |problem: Problem| {
        let mut problems = Problems::default();
        problems.add(problem);
        style.warn(&problems.render(style.color));
        Exit::Wrong
    };
    let source = match Manifest::read(&shared.file) {
        Ok((_, source)) => source,
        Err(problem) => return refused(problem),
    };
    let text = match tidy(&source) {
        Ok(text) => text,
        Err(problem) => return refused(problem),
    };
    let file = clean(&source.path);
    if text == source.text {
        style.say(&format!("{file} is formatted"));
        return Exit::Done;
    }
    if arguments.check {
        let mut lines = source.text.split('\n').zip(text.split('\n'));
        let same = lines.by_ref().take_while(|(before, after)| before == after).count();
        style.error(&format!(
            "{file} is not formatted, from line {} on; `flow fmt` does that",
            same + 1
        ));
        return Exit::Incomplete;
    }
    match shared.rewrite(&text) {
        Ok(()) => {
            style.say(&format!("{file} formatted"));
            Exit::Done
        }
        Err(error) => {
            style.error(&format!("`{file}` cannot be written: {error}"));
            Exit::Wrong
        }
    }
}
