//! Replication packages: a study with its outputs and the calls that they stand on in one file, from
//! which anyone can make the same bytes again.
//!
//! A package is a tar archive under zstd. Below one folder it holds the manifest, what stages read,
//! the outputs, `cassette.jsonl` and `package.json`, which lists all the others. The same study gives
//! the same bytes, whenever and wherever it is packed.

mod open;
mod pack;
mod scan;
mod verify;

pub use open::{Recorded, Unpacked, recorded};
pub use pack::Packing;
pub use scan::Finding;
pub use verify::{Compared, Comparison, State, compare, replay};

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::engine::{LookError, RunError};
use crate::manifest::Problems;
use crate::stages::StageError;
use crate::store::StoreError;
use crate::table::Digest;

/// How a package's file name ends.
pub const EXTENSION: &str = ".tar.zst";

/// The version of the format. One that is later is refused.
const FORMAT: u64 = 1;

/// The list of all files, and the recorded calls.
const LISTING: &str = "package.json";
const CASSETTE: &str = "cassette.jsonl";

/// What cannot be packed, read or verified.
#[derive(Debug, Error)]
pub enum PackageError {
    #[error("{0}: name the package FILE{EXTENSION}, such as study{EXTENSION}")]
    Name(String),
    /// Not everything is as the manifest makes it.
    #[error("what is packed must be what the manifest makes; bring it up to date with `flow run`")]
    Unready { lines: Vec<String> },
    #[error("`{path}` cannot be packed: {what}")]
    Unpackable { path: String, what: String },
    #[error(
        "the stored answer {0} is damaged: `flow cache verify` drops it, and `flow run STAGE --only \
         --force` asks again, where STAGE is the one that stands on it"
    )]
    NoCall(String),
    #[error("`{0}` changed while it was packed; nothing was written, export again")]
    Changed(String),
    #[error("{path} cannot be read: {error}")]
    Unreadable { path: String, error: io::Error },
    #[error("{path} cannot be written: {error}")]
    Unwritable { path: String, error: io::Error },
    #[error("{path} is no package of flow: {what}")]
    NoPackage { path: String, what: String },
    #[error("{path} is damaged: {what}; get it once more")]
    Damaged { path: String, what: String },
    #[error("{path} is refused: {what}")]
    Unsafe { path: String, what: String },
    #[error(
        "{path} is of format {found}, this flow reads format {FORMAT}; use flow {flow} or a newer one"
    )]
    Later { path: String, found: u64, flow: String },
    #[error(
        "{0} holds no bodies of answers (it was exported with `--without-bodies`): no run can be \
         answered from it. `flow verify` compares it with a project that has the answers"
    )]
    NoBodies(String),
    #[error(
        "the package runs programs of whoever made it, in {stages}; look at them (`tar --zstd -xf`), \
         and verify with `--run-commands` if they may run here"
    )]
    Commands { stages: String },
    #[error("{0} is no cassette: one ends with `.jsonl`, a package with `{EXTENSION}`")]
    NoCassette(String),
    #[error("{0}")]
    Cassette(String),
    #[error("{0}")]
    Manifest(Problems),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Look(#[from] LookError),
    #[error(transparent)]
    Stage(#[from] StageError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PackageError {
    /// Whether the file that was named cannot be used, whatever the project is like.
    pub fn is_of_the_file(&self) -> bool {
        use PackageError::*;
        matches!(
            self,
            Name(_)
                | Unreadable { .. }
                | NoPackage { .. }
                | Damaged { .. }
                | Unsafe { .. }
                | Later { .. }
                | NoBodies(_)
                | Commands { .. }
                | NoCassette(_)
                | Cassette(_)
        )
    }
}

/// `package.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Listing {
    format: u64,
    /// The version of flow that wrote it.
    flow: String,
    /// `null`: without a profile.
    profile: Option<String>,
    /// The manifest's name in the package.
    manifest: String,
    /// Whether the cassette holds the bodies of its calls.
    bodies: bool,
    /// Addresses that the manifest takes from the environment, as they were.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    addresses: BTreeMap<String, String>,
    /// Sorted by their paths.
    files: Vec<Listed>,
}

/// A file of the package, or one that was left out of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Listed {
    path: String,
    role: Role,
    size: u64,
    blake3: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    left_out: bool,
}

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Role {
    Manifest,
    /// Stages read it.
    Source,
    Output,
    Cassette,
}

/// Size and digest of what is read through it.
struct Measured<R> {
    inner: R,
    size: u64,
    hasher: blake3::Hasher,
}

impl<R: Read> Measured<R> {
    fn new(inner: R) -> Measured<R> {
        Measured { inner, size: 0, hasher: blake3::Hasher::new() }
    }

    fn blake3(&self) -> String {
        Digest(*self.hasher.finalize().as_bytes()).hex()
    }
}

impl<R: Read> Read for Measured<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.size += length as u64;
        self.hasher.update(&buffer[..length]);
        Ok(length)
    }
}

/// Size and digest of a file.
fn measure(path: &Path) -> io::Result<(u64, String)> {
    let mut file = Measured::new(std::fs::File::open(path)?);
    io::copy(&mut file, &mut io::sink())?;
    Ok((file.size, file.blake3()))
}

/// A path as it stands in a package: relative, plain, and not in what belongs to the store, from where
/// a run would take tables as made. `Err` says what it is instead.
fn plain(path: &Path) -> Result<String, &'static str> {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::CurDir => {}
            Component::ParentDir => return Err("its path holds `..`"),
            Component::RootDir | Component::Prefix(_) => return Err("its path is absolute"),
        }
    }
    let text = plain.to_str().ok_or("its path is no UTF-8 text")?;
    let first = plain.iter().next().ok_or("its path is empty")?;
    if first.eq_ignore_ascii_case("cache") {
        return Err("`cache/` belongs to the store");
    }
    match text.contains(char::is_control) {
        true => Err("its path holds a control character"),
        false => Ok(text.to_owned()),
    }
}
