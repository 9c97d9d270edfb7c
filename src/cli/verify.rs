//! `flow verify`

use std::path::PathBuf;

use clap::Args;

use super::export::told;
use super::progress::Progress;
use super::run::listen;
use super::style::{Style, count, one_line};
use super::{Exit, Shared};
use crate::engine::Look;
use crate::package::{Compared, Comparison, PackageError, State, Unpacked, compare, replay};
use crate::pipeline::Pipeline;

const EXAMPLE: &str = "\
The package is unpacked into a temporary folder and run there from its own calls: nothing is asked,
and no key is needed. A package without bodies is compared with the project in this folder (or that of
`-C`) instead.

Example:
  flow verify study.tar.zst";

#[derive(Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Arguments {
    /// The package: NAME.tar.zst
    #[arg(value_name = "FILE")]
    package: PathBuf,
    /// Let its `command` stages run their programs: look at them first
    #[arg(long)]
    run_commands: bool,
}

pub(super) fn main(arguments: &Arguments, shared: &Shared, style: &Style) -> Exit {
    match verify(arguments, shared, style) {
        Ok(exit) | Err(exit) => exit,
    }
}

fn verify(arguments: &Arguments, shared: &Shared, style: &Style) -> Result<Exit, Exit> {
    let package = Unpacked::open(&arguments.package).map_err(|error| told(&error, style))?;
    if shared.profile.is_some() && shared.profile.as_deref() != package.profile() {
        let profile = match package.profile() {
            Some(profile) => format!("under the profile `{}`", one_line(profile, 100)),
            None => "without a profile".to_owned(),
        };
        style.error(&format!("the package was exported {profile}; leave `--profile` out"));
        return Err(Exit::Wrong);
    }
    match package.has_bodies() {
        true => replayed(&package, arguments.run_commands, style),
        false => compared(&package, shared, style),
    }
}

fn replayed(package: &Unpacked, run_commands: bool, style: &Style) -> Result<Exit, Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        style.error(&format!("no threads to run on: {error}"));
        Exit::Fault
    })?;
    let progress = Progress::new(style);
    let watch = progress.clone();
    let comparison = runtime.block_on(replay(
        package,
        run_commands,
        move |event| watch.see(event),
        |handle| {
            let progress = progress.clone();
            listen(handle, move |line| progress.line(line));
        },
    ));
    progress.end();
    // A program that does not end by itself is not waited for.
    runtime.shutdown_background();
    let comparison = comparison.map_err(|error| told(&error, style))?;
    for trouble in &comparison.troubles {
        style.warn(&one_line(trouble, 2000));
    }
    lines(&comparison.outputs, style);
    let outputs = &comparison.outputs;
    let last = match (comparison.interrupted, comparison.is_same(), differ(outputs)) {
        (true, ..) => "interrupted: it is not known what it makes".to_owned(),
        (false, true, _) => format!("it makes the same bytes here: {}", outputs_of(outputs)),
        (false, false, 0) => "its outputs are the same, but not all of its stages ended".to_owned(),
        (false, false, number) => {
            format!("it does not make the same bytes here: {number} of {}", outputs_of(outputs))
        }
    };
    style.result(&format!("{last}\n"));
    Ok(match comparison.interrupted {
        true => Exit::Interrupted,
        false => ended(&comparison),
    })
}

fn compared(package: &Unpacked, shared: &Shared, style: &Style) -> Result<Exit, Exit> {
    let mut options = shared.options(package.profile());
    options.addresses = package.addresses().clone();
    let pipeline = Pipeline::load(&options).map_err(|problems| {
        style.error(
            "the package holds no bodies, so it can only be compared with a project that has them, \
             and there is none to read here:",
        );
        style.warn(&problems.render(style.color));
        Exit::Wrong
    })?;
    let look = Look::new(&pipeline).map_err(PackageError::from);
    let comparison = look.and_then(|look| compare(package, &look));
    let comparison = comparison.map_err(|error| told(&error, style))?;
    style.result(
        "the package holds no bodies and was not run: its manifest, what stages read, its outputs and \
         its calls are compared with those of this project\n",
    );
    lines(&comparison.outputs, style);
    let calls = &comparison.calls;
    let other: Vec<Compared> =
        calls.iter().filter(|call| call.state != State::Same).cloned().collect();
    lines(&other, style);
    let same = count((calls.len() - other.len()) as u64, "call");
    style.result(&format!("same      {same} of {}\n", calls.len()));
    let last = match comparison.is_same() {
        true => format!(
            "the same is here: {}, {}",
            count(comparison.outputs.len() as u64, "file"),
            same
        ),
        false => format!(
            "not the same is here: {} of {} and {} of {} differ or are missing",
            differ(&comparison.outputs),
            count(comparison.outputs.len() as u64, "file"),
            other.len(),
            count(calls.len() as u64, "call"),
        ),
    };
    style.result(&format!("{last}\n"));
    Ok(ended(&comparison))
}

fn lines(compared: &[Compared], style: &Style) {
    for Compared { what, state } in compared {
        style.result(&format!("{:<8}  {}\n", state.as_str(), one_line(what, 300)));
    }
}

fn differ(outputs: &[Compared]) -> usize {
    outputs.iter().filter(|output| output.state != State::Same).count()
}

fn outputs_of(outputs: &[Compared]) -> String {
    count(outputs.len() as u64, "output")
}

fn ended(comparison: &Comparison) -> Exit {
    match comparison.is_same() {
        true => Exit::Done,
        false => Exit::Incomplete,
    }
}
