//! Whether a package makes the same bytes here: it is run from its own calls, or, where those have no
//! bodies, compared with a project that has them.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

use super::open::Unpacked;
use super::{CASSETTE, LISTING, Listed, PackageError, Role, measure, plain};
use crate::clients::{Body, Cassette, read_bodiless, recorded_call};
use crate::engine::{Event, Look, RunHandle, RunOptions, run, stood_on};
use crate::pipeline::{LoadOptions, Pipeline};

/// How something of a package stands beside what is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Same,
    Differs,
    /// It was to be made here, and was not.
    Missing,
    /// There is none here.
    NotHere,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            State::Same => "same",
            State::Differs => "differs",
            State::Missing => "missing",
            State::NotHere => "not here",
        }
    }
}

/// An output or a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    pub what: String,
    pub state: State,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    pub outputs: Vec<Compared>,
    pub calls: Vec<Compared>,
    /// Stages that did not come to their end, with why.
    pub troubles: Vec<String>,
    pub interrupted: bool,
}

impl Comparison {
    pub fn is_same(&self) -> bool {
        let mut all = self.outputs.iter().chain(&self.calls);
        all.all(|it| it.state == State::Same) && self.troubles.is_empty() && !self.interrupted
    }
}

/// Runs the study in the package's own folder, from its calls alone, and compares what comes out with
/// what was packed. Programs of its manifest run only with `run_commands`.
pub async fn replay(
    package: &Unpacked,
    run_commands: bool,
    observer: impl Fn(Event) + Send + Sync + 'static,
    begun: impl FnOnce(RunHandle),
) -> Result<Comparison, PackageError> {
    let (folder, listing) = (&package.folder.path, &package.listing);
    let outputs: Vec<&Listed> =
        listing.files.iter().filter(|listed| listed.role == Role::Output).collect();
    // They were held against their digests. What stands there after the run, the run made.
    for output in &outputs {
        let path = folder.join(&output.path);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let path = path.display().to_string();
                return Err(PackageError::Unwritable { path, error });
            }
            _ => {}
        }
    }
    let cassette = File::open(folder.join(CASSETTE));
    let cassette = cassette.map_err(|error| unreadable(CASSETTE, error))?;
    let cassette = Cassette::read(cassette, CASSETTE).map_err(PackageError::Cassette)?;
    let pipeline = Pipeline::load(&LoadOptions {
        folder: folder.clone(),
        file: listing.manifest.clone().into(),
        profile: listing.profile.clone(),
        cassette: Some(Arc::new(cassette)),
        addresses: listing.addresses.clone(),
        ..LoadOptions::default()
    });
    let pipeline = Arc::new(pipeline.map_err(PackageError::Manifest)?);
    let commands = pipeline.stages.iter().filter(|stage| stage.kind.name() == "command");
    let commands: Vec<String> = commands.map(|stage| format!("`{}`", stage.name)).collect();
    if !commands.is_empty() && !run_commands {
        let word = if commands.len() == 1 { "stage" } else { "stages" };
        let stages = format!("{word} {}", commands.join(", "));
        return Err(PackageError::Commands { stages });
    }
    for path in pipeline.stages.iter().flat_map(|stage| &stage.outputs) {
        let name = plain(Path::new(path)).unwrap_or_default();
        if !outputs.iter().any(|output| output.path == name) {
            let what = format!("its manifest writes `{path}`, which {LISTING} does not list");
            return Err(PackageError::Damaged { path: package.shown.clone(), what });
        }
    }
    let options = RunOptions {
        chosen: (0..pipeline.stages.len()).collect(),
        offline: true,
        command: "verify".into(),
        ..RunOptions::default()
    };
    let summary = run(pipeline, &options, observer, begun).await?;
    let mut comparison = Comparison { interrupted: summary.interrupted, ..Comparison::default() };
    for stage in summary.stages.iter().filter(|stage| !stage.state.is_complete()) {
        let (name, state) = (&stage.name, stage.state.as_str());
        let reason = stage.reason.as_deref().unwrap_or("it tells no reason");
        comparison.troubles.push(format!("stage `{name}` {state}: {reason}"));
    }
    for output in outputs {
        comparison.outputs.push(compared(output, folder, State::Missing)?);
    }
    Ok(comparison)
}

/// Compares the calls and outputs of a package without bodies with those of a project.
pub fn compare(package: &Unpacked, look: &Look<'_>) -> Result<Comparison, PackageError> {
    let mut comparison = Comparison::default();
    let root = &look.pipeline.project.root;
    let listed = package.listing.files.iter().filter(|listed| listed.role != Role::Cassette);
    for file in listed {
        comparison.outputs.push(compared(file, root, State::NotHere)?);
    }
    // What this project makes and the package does not tell of is another study's.
    for path in look.pipeline.stages.iter().flat_map(|stage| &stage.outputs) {
        let name = plain(Path::new(path)).unwrap_or_default();
        if !package.listing.files.iter().any(|listed| listed.path == name) {
            let what = format!("{path} (not in the package)");
            comparison.outputs.push(Compared { what, state: State::Differs });
        }
    }
    // Where one of them is gone, that is told of the call itself.
    let mut ours = stood_on(look.pipeline, &look.store).unwrap_or_default();
    let file = File::open(package.folder.path.join(CASSETTE));
    let mut lines = BufReader::new(file.map_err(|error| unreadable(CASSETTE, error))?);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let length = lines.read_until(b'\n', &mut line);
        if length.map_err(|error| unreadable(CASSETTE, error))? == 0 {
            break;
        }
        let call = read_bodiless(&line).map_err(|what| PackageError::Damaged {
            path: package.shown.clone(),
            what: format!("{CASSETTE}, line {number}: {what}"),
        })?;
        ours.remove(&call.key);
        let cassette = look.pipeline.cassette.as_deref();
        let state = match recorded_call(cassette, &look.store, call.key)? {
            None => State::NotHere,
            Some(ours)
                if (ours.status, &ours.method, &ours.url)
                    == (call.status, &call.method, &call.url)
                    && Body::of(&ours.body) == call.body =>
            {
                State::Same
            }
            Some(_) => State::Differs,
        };
        let what = format!("{} {} (key {})", call.method, call.url, call.key.0.short());
        comparison.calls.push(Compared { what, state });
    }
    for key in ours {
        let what = format!("key {} (not in the package)", key.0.short());
        comparison.calls.push(Compared { what, state: State::Differs });
    }
    Ok(comparison)
}

/// Holds an output in `folder` against what was packed.
fn compared(output: &Listed, folder: &Path, none: State) -> Result<Compared, PackageError> {
    let state = match measure(&folder.join(&output.path)) {
        Ok(found) if found == (output.size, output.blake3.clone()) => State::Same,
        Ok(_) => State::Differs,
        Err(error) if error.kind() == io::ErrorKind::NotFound => none,
        Err(error) => return Err(unreadable(&output.path, error)),
    };
    Ok(Compared { what: output.path.clone(), state })
}

fn unreadable(path: &str, error: io::Error) -> PackageError {
    PackageError::Unreadable { path: format!("`{path}`"), error }
}
