//! `flow export`

use std::path::PathBuf;

use clap::Args;

use super::style::{Style, bytes, count, one_line};
use super::{Exit, Shared};
use crate::engine::{Look, LookError};
use crate::manifest::clean;
use crate::package::{Finding, PackageError, Packing};
use crate::store::Lock;

const EXAMPLE: &str = "\
The package holds the manifest, what stages read, the outputs, and the calls that they stand on.
Nothing is written where a stage is not up to date, where an output was edited, or where something
looks like a secret and is not allowed.

Examples:
  flow export study.tar.zst
  flow export study.tar.zst --profile sample --without-bodies";

#[derive(Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Arguments {
    /// The package to write: NAME.tar.zst
    #[arg(value_name = "FILE")]
    package: PathBuf,
    /// Leave out what may not be handed on: the bodies of requests and answers, and the tables that
    /// outputs hold. Their sizes and digests stay, for `flow verify` to compare
    #[arg(long)]
    without_bodies: bool,
    /// Pack what looks like a secret and has this ID, as it was listed
    #[arg(long, value_name = "ID")]
    allow: Vec<String>,
}

pub(super) fn main(arguments: &Arguments, shared: &Shared, style: &Style) -> Exit {
    match export(arguments, shared, style) {
        Ok(exit) | Err(exit) => exit,
    }
}

fn export(arguments: &Arguments, shared: &Shared, style: &Style) -> Result<Exit, Exit> {
    let pipeline = shared.load(style)?;
    let failed = |error: PackageError| told(&error, style);
    // No run changes anything meanwhile. Where nothing is stored there is nothing to hold still.
    let cache = pipeline.cache();
    let lock = cache.join("flow.db").exists().then(|| Lock::take(&cache)).transpose();
    let _lock = lock.map_err(|error| failed(error.into()))?;
    let look = Look::new(&pipeline).map_err(|error: LookError| failed(error.into()))?;
    let bodies = !arguments.without_bodies;
    let packing =
        Packing::gather(&look, &shared.file, &arguments.package, bodies).map_err(failed)?;
    let is_allowed = |finding: &&Finding| arguments.allow.contains(&finding.id);
    let (allowed, found): (Vec<&Finding>, Vec<&Finding>) =
        packing.findings().iter().partition(is_allowed);
    if !found.is_empty() {
        for Finding { file, line, kind, masked, id } in &found {
            let line = format!("{file}, line {line}: {kind}, {masked}, ID {id}");
            style.warn(&clean(&line));
        }
        style.error(&format!(
            "{} like a secret: nothing was written. Take them away, or pack them all the same: \
             `--allow ID` for each",
            match found.len() {
                1 => "1 text looks".to_owned(),
                number => format!("{number} texts look"),
            }
        ));
        return Ok(Exit::Incomplete);
    }
    if !allowed.is_empty() {
        let texts = count(allowed.len() as u64, "text");
        style.say(&format!("packed as allowed: {texts} that look like a secret"));
    }
    if !packing.unset().is_empty() {
        let names = packing.unset().join(", ");
        style.say(&format!("not looked for, as they are not set here: the values of {names}"));
    }
    if !bodies {
        for output in packing.kept_outputs() {
            style.say(&clean(&format!("{output} stays: see that it shows no text of others")));
        }
    }
    packing.write(&arguments.package).map_err(failed)?;
    let (files, calls) = packing.counts();
    let size = arguments.package.metadata().map_or(0, |metadata| metadata.len());
    let without = if bodies { "" } else { " without their bodies" };
    style.say(&clean(&format!(
        "{} written, {}: {}, {} in the cassette{without}",
        arguments.package.display(),
        bytes(size),
        count(files, "file"),
        count(calls, "call"),
    )));
    Ok(Exit::Done)
}

/// Tells why there is no package, or none that can be used.
pub(super) fn told(error: &PackageError, style: &Style) -> Exit {
    match error {
        PackageError::Unready { lines } => {
            lines.iter().for_each(|line| style.warn(&clean(line)));
            style.error(&error.to_string());
            Exit::Incomplete
        }
        PackageError::Manifest(problems) => {
            style.warn(&problems.render(style.color));
            Exit::Wrong
        }
        error => {
            // A stranger's names stay on one line, so that none passes for a line of ours.
            style.error(&one_line(&error.to_string(), 2000));
            if error.is_of_the_file() { Exit::Wrong } else { Exit::Incomplete }
        }
    }
}
