//! Reads a package, which may be a stranger's: nothing of it is written outside of a folder of its own,
//! and nothing is believed before it was held against the list in `package.json`.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde_json::Value;
use tar::{Archive, EntryType};

use super::{
    CASSETTE, EXTENSION, FORMAT, LISTING, Listed, Listing, Measured, PackageError, Role, plain,
};
use crate::clients::Cassette;

/// What every zstd archive begins with.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Recorded calls that a run is given.
#[derive(Debug)]
pub struct Recorded {
    pub cassette: Cassette,
    /// Addresses that the manifest takes from the environment, as they were when it was recorded.
    pub addresses: BTreeMap<String, String>,
}

/// Reads the recorded calls of a `.jsonl` cassette or of a package.
pub fn recorded(path: &Path) -> Result<Recorded, PackageError> {
    let name = path.to_string_lossy();
    if name.ends_with(".jsonl") {
        let cassette = Cassette::open(path).map_err(PackageError::Cassette)?;
        return Ok(Recorded { cassette, addresses: BTreeMap::new() });
    }
    if !name.ends_with(EXTENSION) {
        return Err(PackageError::NoCassette(shown(path)));
    }
    // Where a call stands in an archive cannot be sought: its cassette is laid beside.
    let folder = TempFolder::new()?;
    let mut listing = None;
    let mut found = BTreeMap::new();
    each_file(path, |name, _, bytes| {
        match name {
            LISTING => listing = Some(read_all(path, bytes)?),
            CASSETTE => drop(found.insert(name.to_owned(), folder.put(path, name, false, bytes)?)),
            _ => {}
        }
        Ok(())
    })?;
    let mut listing = read_listing(path, listing)?;
    if !listing.bodies {
        return Err(PackageError::NoBodies(shown(path)));
    }
    listing.files.retain(|listed| listed.path == CASSETTE);
    check(path, &listing, &found)?;
    // Held open, it is there until the run ends, and gone then, however it ends.
    let file = File::open(folder.path.join(CASSETTE));
    let file = file.map_err(|error| unwritable(&folder.path, error))?;
    let shown = format!("{CASSETTE} of {}", shown(path));
    let cassette = Cassette::read(file, &shown).map_err(PackageError::Cassette)?;
    Ok(Recorded { cassette, addresses: listing.addresses })
}

/// A package in a folder of its own, which goes with it. Every file is what `package.json` lists.
pub struct Unpacked {
    pub(super) folder: TempFolder,
    pub(super) listing: Listing,
    pub(super) shown: String,
}

impl Unpacked {
    pub fn open(path: &Path) -> Result<Unpacked, PackageError> {
        let folder = TempFolder::new()?;
        let mut listing = None;
        let mut found = BTreeMap::new();
        each_file(path, |name, is_program, bytes| {
            match name {
                LISTING => listing = Some(read_all(path, bytes)?),
                _ => {
                    let measured = folder.put(path, name, is_program, bytes)?;
                    found.insert(name.to_owned(), measured);
                }
            }
            Ok(())
        })?;
        let listing = read_listing(path, listing)?;
        check(path, &listing, &found)?;
        let damaged = |what: String| PackageError::Damaged { path: shown(path), what };
        for name in found.keys() {
            if !listing.files.iter().any(|listed| listed.path == *name) {
                return Err(damaged(format!("it holds `{name}`, which {LISTING} does not list")));
            }
        }
        let has = |role, path: &str| {
            let mut files = listing.files.iter();
            files.any(|it| it.role == role && it.path == path && !it.left_out)
        };
        // Further down, `cache/` would be another folder than the one that is refused.
        if !has(Role::Manifest, &listing.manifest) || listing.manifest.contains('/') {
            return Err(damaged("it holds no manifest in its top folder".into()));
        }
        if !has(Role::Cassette, CASSETTE) {
            return Err(damaged(format!("it holds no {CASSETTE}")));
        }
        Ok(Unpacked { folder, listing, shown: shown(path) })
    }

    /// Whether it holds the bodies of its calls, so that it can be run.
    pub fn has_bodies(&self) -> bool {
        self.listing.bodies
    }

    /// The profile that it was exported under.
    pub fn profile(&self) -> Option<&str> {
        self.listing.profile.as_deref()
    }

    /// Addresses that the manifest takes from the environment, as they were.
    pub fn addresses(&self) -> &BTreeMap<String, String> {
        &self.listing.addresses
    }
}

/// Tells `each` of every file of a package: its path below the top folder, whether it is a program,
/// and its bytes. Refuses whatever is neither a file nor a folder, and paths that lead out.
fn each_file(
    path: &Path,
    mut each: impl FnMut(&str, bool, &mut dyn Read) -> Result<(), PackageError>,
) -> Result<(), PackageError> {
    let no_package = |what: &str| {
        let (path, what) = (shown(path), what.to_owned());
        PackageError::NoPackage { path, what }
    };
    let refused = |what: String| PackageError::Unsafe { path: shown(path), what };
    let unreadable = |error| PackageError::Unreadable { path: shown(path), error };
    let mut file = BufReader::with_capacity(1 << 16, File::open(path).map_err(unreadable)?);
    let mut first = Vec::new();
    (&mut file).take(4).read_to_end(&mut first).map_err(unreadable)?;
    if first != ZSTD {
        return Err(no_package("it is no zstd archive"));
    }
    let bytes = zstd::Decoder::with_buffer(BufReader::new(first.chain(file)));
    let mut archive = Archive::new(bytes.map_err(|error| damaged(path, &error))?);
    let mut top: Option<String> = None;
    let mut is_empty = true;
    for entry in archive.entries().map_err(|error| damaged(path, &error))? {
        let mut entry = match entry {
            Ok(entry) => entry,
            Err(error) if is_empty && error.kind() == io::ErrorKind::Other => {
                return Err(no_package("it holds no tar archive"));
            }
            Err(error) => return Err(damaged(path, &error)),
        };
        is_empty = false;
        let kind = entry.header().entry_type();
        let is_program = entry.header().mode().is_ok_and(|mode| mode & 0o100 != 0);
        let name = entry.path_bytes().into_owned();
        let name = String::from_utf8(name)
            .map_err(|error| refused(format!("`{}`: its path is no UTF-8 text", lossy(&error))))?;
        if !matches!(kind, EntryType::Regular | EntryType::Directory) {
            return Err(refused(format!(
                "`{name}` is neither a file nor a folder, but a link or so"
            )));
        }
        let whole = plain(Path::new(&name)).map_err(|what| refused(format!("`{name}`: {what}")))?;
        let (folder, below) = whole.split_once('/').unwrap_or((&whole, ""));
        if top.get_or_insert_with(|| folder.to_owned()) != folder {
            return Err(refused(format!("`{name}` stands beside its top folder")));
        }
        if kind == EntryType::Directory {
            continue;
        }
        let below = plain(Path::new(below)).map_err(|what| refused(format!("`{name}`: {what}")))?;
        each(&below, is_program, &mut entry)?;
    }
    // Its checksum stands at the very end.
    let mut rest = archive.into_inner();
    io::copy(&mut rest, &mut io::sink()).map_err(|error| damaged(path, &error))?;
    Ok(())
}

/// Holds the files that were found against the list.
fn check(
    path: &Path,
    listing: &Listing,
    found: &BTreeMap<String, (u64, String)>,
) -> Result<(), PackageError> {
    let damaged = |what: String| Err(PackageError::Damaged { path: shown(path), what });
    for Listed { path: name, size, blake3, left_out, .. } in &listing.files {
        if plain(Path::new(name)).as_ref() != Ok(name) {
            let what = format!("{LISTING} lists `{name}`, which is no plain path");
            return Err(PackageError::Unsafe { path: shown(path), what });
        }
        match (found.get(name), left_out) {
            (None, true) => {}
            (Some(_), true) => return damaged(format!("`{name}` is there and listed as left out")),
            (None, false) => return damaged(format!("`{name}` is listed and not there")),
            (Some(it), false) if it.0 != *size || it.1 != *blake3 => {
                return damaged(format!("`{name}` is not the file that {LISTING} lists"));
            }
            (Some(_), false) => {}
        }
    }
    Ok(())
}

fn read_listing(path: &Path, text: Option<Vec<u8>>) -> Result<Listing, PackageError> {
    let no_package = |what: String| PackageError::NoPackage { path: shown(path), what };
    let text = text.ok_or_else(|| no_package(format!("it holds no {LISTING}")))?;
    let unusable = |error: serde_json::Error| no_package(format!("its {LISTING}: {error}"));
    // What a later format holds is not known, but for its number.
    let value: Value = serde_json::from_slice(&text).map_err(unusable)?;
    match value["format"].as_u64() {
        Some(FORMAT) => serde_json::from_value(value).map_err(unusable),
        Some(found) if found > FORMAT => {
            let flow = value["flow"].as_str().unwrap_or("of that time").to_owned();
            Err(PackageError::Later { path: shown(path), found, flow })
        }
        _ => Err(no_package(format!("its {LISTING} names no format that there is"))),
    }
}

fn read_all(path: &Path, bytes: &mut dyn Read) -> Result<Vec<u8>, PackageError> {
    let mut text = Vec::new();
    bytes.read_to_end(&mut text).map_err(|error| damaged(path, &error))?;
    Ok(text)
}

/// A folder that nobody else can enter, removed when it is let go of.
pub(super) struct TempFolder {
    pub path: PathBuf,
}

impl TempFolder {
    fn new() -> Result<TempFolder, PackageError> {
        let within = std::env::temp_dir();
        for number in 0.. {
            let path = within.join(format!("flow-package-{}-{number}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(TempFolder { path }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(unwritable(&path, error)),
            }
        }
        unreachable!("some number is free")
    }

    /// Writes a file of the package at `path`; returns its size and digest.
    fn put(
        &self,
        path: &Path,
        name: &str,
        is_program: bool,
        bytes: &mut dyn Read,
    ) -> Result<(u64, String), PackageError> {
        let to = self.path.join(name);
        if let Some(folder) = to.parent() {
            std::fs::create_dir_all(folder).map_err(|error| unwritable(&to, error))?;
        }
        let mode = if is_program { 0o700 } else { 0o600 };
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&to);
        let mut file = file.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                let what = format!("it holds `{name}` twice");
                PackageError::Damaged { path: shown(path), what }
            }
            _ => unwritable(&to, error),
        })?;
        let mut bytes = Measured::new(bytes);
        let mut buffer = vec![0; 1 << 16];
        loop {
            let length = bytes.read(&mut buffer).map_err(|error| damaged(path, &error))?;
            if length == 0 {
                return Ok((bytes.size, bytes.blake3()));
            }
            file.write_all(&buffer[..length]).map_err(|error| unwritable(&to, error))?;
        }
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        // What cannot be removed lies among the system's temporary files.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

fn damaged(path: &Path, error: &io::Error) -> PackageError {
    PackageError::Damaged { path: shown(path), what: error.to_string() }
}

fn unwritable(path: &Path, error: io::Error) -> PackageError {
    PackageError::Unwritable { path: path.display().to_string(), error }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn lossy(error: &std::string::FromUtf8Error) -> String {
    String::from_utf8_lossy(error.as_bytes()).into_owned()
}
