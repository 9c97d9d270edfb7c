//! Packs a study: finds what goes in, looks it through, and writes the archive.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};

use super::scan::Scan;
use super::{
    CASSETTE, EXTENSION, FORMAT, Finding, LISTING, Listed, Listing, Measured, PackageError, Role,
    measure, plain,
};
use crate::clients::{recorded_call, write_call};
use crate::engine::{Look, stood_on, unready};
use crate::pipeline::{InputRef, Pipeline};
use crate::store::{CallKey, write_aside};
use crate::table::Format;

/// How hard zstd tries: an archive is written once and read by many.
const LEVEL: i32 = 9;

/// A study that is about to be packed.
pub struct Packing<'a> {
    look: &'a Look<'a>,
    /// The folder that everything stands in.
    top: String,
    bodies: bool,
    calls: Vec<CallKey>,
    listing: Listing,
    /// Where each file stands; the cassette is made as it is read.
    places: BTreeMap<String, PathBuf>,
    findings: Vec<Finding>,
    unset: Vec<String>,
}

impl<'a> Packing<'a> {
    /// Gathers what goes into the package `file`, and looks all of it through for secrets. Nothing is
    /// written.
    pub fn gather(
        look: &'a Look<'a>,
        manifest: &Path,
        file: &Path,
        bodies: bool,
    ) -> Result<Packing<'a>, PackageError> {
        let top = top_folder(file)?;
        let lines = unready(look)?;
        if !lines.is_empty() {
            return Err(PackageError::Unready { lines });
        }
        let pipeline = look.pipeline;
        let calls: Vec<CallKey> = stood_on(pipeline, &look.store)?.into_iter().collect();
        let files = files(pipeline, manifest)?;
        let profile = (!pipeline.profile.name.is_empty()).then(|| pipeline.profile.name.clone());
        let listing = Listing {
            format: FORMAT,
            flow: env!("CARGO_PKG_VERSION").to_owned(),
            profile,
            manifest: file_name(manifest)?,
            bodies,
            addresses: pipeline.addresses.clone(),
            files: Vec::new(),
        };
        let places = files.iter().map(|(path, (_, place))| (path.clone(), place.clone())).collect();
        let (findings, unset) = (Vec::new(), Vec::new());
        let mut packing = Packing { look, top, bodies, calls, listing, places, findings, unset };
        packing.look_through(&files)?;
        Ok(packing)
    }

    /// What looks like a secret in what would be packed.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Variables whose values were not looked for: they are not set here.
    pub fn unset(&self) -> &[String] {
        &self.unset
    }

    /// Outputs that stay although bodies are left out: what they show is for people to look at.
    pub fn kept_outputs(&self) -> impl Iterator<Item = &str> {
        let kept = |listed: &&Listed| listed.role == Role::Output && !listed.left_out;
        self.listing.files.iter().filter(kept).map(|listed| listed.path.as_str())
    }

    /// How many files the package holds beside its list, and how many calls.
    pub fn counts(&self) -> (u64, u64) {
        let files = self.listing.files.iter().filter(|listed| !listed.left_out).count();
        (files as u64, self.calls.len() as u64)
    }

    /// Reads each file once: its size, its digest, and what in it looks like a secret.
    fn look_through(&mut self, files: &Files) -> Result<(), PackageError> {
        let manifest = &self.listing.manifest;
        let place = self.places.get(manifest).cloned().unwrap_or_default();
        let text = std::fs::read_to_string(&place);
        let text = text.map_err(|error| unreadable(manifest, error))?;
        let scan = Scan::new(&text);
        let mut roles: Vec<(&String, Role)> =
            files.iter().map(|(path, (role, _))| (path, *role)).collect();
        let cassette = CASSETTE.to_owned();
        roles.push((&cassette, Role::Cassette));
        roles.sort_by_key(|(path, _)| *path);
        let mut findings = Vec::new();
        for (path, role) in roles {
            let left_out = !self.bodies && role == Role::Output && is_table(path);
            let (size, blake3) = match left_out {
                true => {
                    let place = self.places.get(path).cloned().unwrap_or_default();
                    measure(&place).map_err(|error| unreadable(path, error))?
                }
                false => {
                    let mut file = Measured::new(self.open(path)?);
                    let found = scan.look(path, BufReader::with_capacity(1 << 16, &mut file));
                    findings.extend(found.map_err(|error| unreadable(path, error))?);
                    (file.size, file.blake3())
                }
            };
            self.listing.files.push(Listed { path: path.clone(), role, size, blake3, left_out });
        }
        let listing = self.listing_text();
        let found = scan.look(LISTING, &listing[..]);
        findings.extend(found.map_err(|error| unreadable(LISTING, error))?);
        self.findings = findings;
        self.unset = scan.unset;
        Ok(())
    }

    /// Writes the archive to `file`: whole, or not at all.
    pub fn write(&self, file: &Path) -> Result<(), PackageError> {
        write_aside(file, |out| {
            let mut encoder = zstd::Encoder::new(out, LEVEL).map_err(Fault::Io)?;
            encoder.include_checksum(true)?;
            let mut archive = Builder::new(encoder);
            let listing = self.listing_text();
            let mut paths: Vec<&str> = vec![LISTING];
            let packed = self.listing.files.iter().filter(|listed| !listed.left_out);
            paths.extend(packed.map(|listed| listed.path.as_str()));
            paths.sort_unstable();
            for path in paths {
                match self.listing.files.iter().find(|listed| listed.path == path) {
                    None => {
                        let (size, text) = (listing.len() as u64, &listing[..]);
                        self.append(&mut archive, path, size, false, text)?;
                    }
                    Some(listed) => self.append_listed(&mut archive, listed)?,
                }
            }
            archive.into_inner()?.finish()?.flush()?;
            Ok(())
        })
        .map(drop)
        .map_err(|fault| match fault {
            Fault::Package(error) => error,
            Fault::Io(error) => {
                PackageError::Unwritable { path: file.display().to_string(), error }
            }
        })
    }

    /// A file goes in as it was when it was looked through, or not at all.
    fn append_listed(
        &self,
        archive: &mut Builder<impl Write>,
        listed: &Listed,
    ) -> Result<(), Fault> {
        let Listed { path, size, .. } = listed;
        let runs = self.places.get(path).is_some_and(|place| is_program(place));
        let mut file = Measured::new(self.open(path).map_err(Fault::Package)?);
        self.append(archive, path, *size, runs, (&mut file).take(*size))?;
        let more = file.read(&mut [0])? > 0;
        match more || file.size != *size || file.blake3() != listed.blake3 {
            true => Err(Fault::Package(PackageError::Changed(path.clone()))),
            false => Ok(()),
        }
    }

    /// Of a file only path, size and bytes go in, and whether it is a program.
    fn append(
        &self,
        archive: &mut Builder<impl Write>,
        path: &str,
        size: u64,
        runs: bool,
        bytes: impl Read,
    ) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_size(size);
        header.set_mode(if runs { 0o755 } else { 0o644 });
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        archive.append_data(&mut header, format!("{}/{path}", self.top), bytes)
    }

    fn open(&self, path: &str) -> Result<Box<dyn Read + '_>, PackageError> {
        if path == CASSETTE {
            let (look, calls, line) = (self.look, self.calls.iter(), Cursor::default());
            return Ok(Box::new(Lines { look, calls, bodies: self.bodies, line }));
        }
        let place = self.places.get(path).cloned().unwrap_or_default();
        Ok(Box::new(File::open(place).map_err(|error| unreadable(path, error))?))
    }

    fn listing_text(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(&self.listing).expect("it always serializes");
        text.push(b'\n');
        text
    }
}

/// Files by their paths in the package, with what they are for and where they stand.
type Files = BTreeMap<String, (Role, PathBuf)>;

/// The manifest, all that stages read, and the outputs.
fn files(pipeline: &Pipeline, manifest: &Path) -> Result<Files, PackageError> {
    let root = &pipeline.project.root;
    let mut files = Files::new();
    let mut add = |role: Role, path: &Path, place: PathBuf| {
        let wrong = |what: &str| {
            let path = path.display().to_string();
            PackageError::Unpackable { path, what: what.to_owned() }
        };
        let plain = plain(path).map_err(|what| {
            wrong(&format!("{what}; move it, and name it by a plain path from the manifest"))
        })?;
        if [LISTING, CASSETTE].contains(&plain.as_str()) {
            return Err(wrong("the package has a file of its own by that name; give it another"));
        }
        files.entry(plain).or_insert((role, place));
        Ok(())
    };
    add(Role::Manifest, Path::new(&file_name(manifest)?), manifest.to_owned())?;
    for stage in &pipeline.stages {
        for source in &stage.compiled.sources {
            // It is named as the user would, from where they stand.
            let shown = Path::new(&source.path);
            let path = shown.strip_prefix(root).unwrap_or(shown);
            add(Role::Source, path, root.join(path))?;
        }
        for path in &stage.compiled.binaries {
            add(Role::Source, Path::new(path), root.join(path))?;
        }
        for input in &stage.inputs {
            if let InputRef::File { path, .. } = input {
                add(Role::Source, Path::new(path), root.join(path))?;
            }
        }
        for output in &stage.outputs {
            add(Role::Output, Path::new(output), root.join(output))?;
        }
    }
    Ok(files)
}

/// The cassette, made a call at a time as it is read.
struct Lines<'a> {
    look: &'a Look<'a>,
    calls: std::slice::Iter<'a, CallKey>,
    bodies: bool,
    line: Cursor<Vec<u8>>,
}

impl Read for Lines<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let length = self.line.read(buffer)?;
            if length > 0 || buffer.is_empty() {
                return Ok(length);
            }
            let Some(key) = self.calls.next() else { return Ok(0) };
            let cassette = self.look.pipeline.cassette.as_deref();
            let record = recorded_call(cassette, &self.look.store, *key);
            let record = record.map_err(|error| io::Error::other(PackageError::from(error)))?;
            let gone = || io::Error::other(PackageError::NoCall(key.0.hex()));
            let line = self.line.get_mut();
            line.clear();
            write_call(*key, record.ok_or_else(gone)?, self.bodies, line)?;
            self.line.set_position(0);
        }
    }
}

/// Why an archive is not written.
enum Fault {
    Io(io::Error),
    Package(PackageError),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        match error.downcast::<PackageError>() {
            Ok(own) => Fault::Package(own),
            Err(error) => Fault::Io(error),
        }
    }
}

/// `study.tar.zst` unpacks into `study/`.
fn top_folder(file: &Path) -> Result<String, PackageError> {
    let name = file.file_name().and_then(|name| name.to_str());
    let top = name.and_then(|name| name.strip_suffix(EXTENSION));
    let usable = |top: &&str| !top.is_empty() && *top != "." && *top != "..";
    match top.filter(usable).filter(|top| !top.contains(char::is_control)) {
        Some(top) => Ok(top.to_owned()),
        None => Err(PackageError::Name(file.display().to_string())),
    }
}

fn file_name(manifest: &Path) -> Result<String, PackageError> {
    match manifest.file_name().and_then(|name| name.to_str()) {
        Some(name) => Ok(name.to_owned()),
        None => {
            let (path, what) = (manifest.display().to_string(), "its name is no UTF-8 text".into());
            Err(PackageError::Unpackable { path, what })
        }
    }
}

/// Whether an output holds rows, and with them what was answered.
fn is_table(path: &str) -> bool {
    matches!(Format::of(Path::new(path)), Some(Format::Json | Format::Jsonl | Format::Csv))
}

/// A script that is started by its name must stay one.
fn is_program(place: &Path) -> bool {
    place.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o100 != 0)
}

fn unreadable(path: &str, error: io::Error) -> PackageError {
    let error = match error.downcast::<PackageError>() {
        Ok(own) => return own,
        Err(error) => error,
    };
    PackageError::Unreadable { path: format!("`{path}`"), error }
}
