//! The project folder: what the manifest's paths stand for, and that they stay inside.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::problem::{Problem, SourceText, nearest};

/// What helps where a path leads out of the project.
pub const INSIDE: &str = "name a file in the manifest's folder, by its path from there";

/// The folder of a manifest.
#[derive(Clone, Debug)]
pub struct Project {
    /// As the user named it; shown in messages.
    pub root: PathBuf,
    /// With links resolved; what "inside" is measured against.
    real: PathBuf,
    /// Folders whose links were followed, with where they lead.
    folders: Arc<Mutex<HashMap<PathBuf, PathBuf>>>,
}

impl Project {
    pub fn new(root: &Path) -> std::io::Result<Project> {
        let root = if root.as_os_str().is_empty() { Path::new(".") } else { root };
        let folders = Arc::default();
        Ok(Project { root: root.to_owned(), real: root.canonicalize()?, folders })
    }

    /// The folder of the store.
    pub fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// The place of a relative path, or why it cannot be used.
    pub fn resolve(&self, path: &str) -> Result<PathBuf, String> {
        if path.is_empty() {
            return Err("the path is empty".into());
        }
        if path.contains(char::is_control) {
            return Err("the path holds a control character".into());
        }
        let relative = Path::new(path);
        if relative.is_absolute() {
            return Err("the path is absolute; paths are relative to the manifest's folder".into());
        }
        let mut depth = 0;
        for part in relative.components() {
            match part {
                Component::Normal(_) => depth += 1,
                Component::ParentDir => depth -= 1,
                _ => {}
            }
            if depth < 0 {
                return Err("the path leaves the project folder".into());
            }
        }
        let full = self.root.join(relative);
        // A link inside the project may lead out of it: what exists of the path is followed.
        let existing = full.ancestors().find_map(|ancestor| self.real_path(ancestor));
        match existing {
            Some(existing) if existing.starts_with(&self.real) => Ok(full),
            _ => Err("the path leads out of the project folder through a link".into()),
        }
    }

    /// A path with its links followed; `None` where it does not exist. Folders are looked at once: a
    /// manifest may name thousands of files in a few of them.
    fn real_path(&self, path: &Path) -> Option<PathBuf> {
        let kind = path.symlink_metadata().ok()?.file_type();
        let (parent, name) = (path.parent(), path.file_name());
        if let (true, Some(parent), Some(name)) = (kind.is_file(), parent, name) {
            return Some(self.real_folder(parent)?.join(name));
        }
        match kind.is_dir() {
            true => self.real_folder(path),
            false => path.canonicalize().ok(),
        }
    }

    fn real_folder(&self, folder: &Path) -> Option<PathBuf> {
        let mut known = self.folders.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(real) = known.get(folder) {
            return Some(real.clone());
        }
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let real = folder.canonicalize().ok()?;
        known.insert(folder.to_owned(), real.clone());
        Some(real)
    }

    /// Reads a text file that the manifest names.
    pub fn read(&self, path: &str) -> Result<Arc<SourceText>, Problem> {
        let full = self.resolve(path).map_err(|what| {
            Problem::new(format!("`{path}` cannot be read: {what}")).help(INSIDE)
        })?;
        let bytes = std::fs::read(&full).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                let near = self.near(path);
                Problem::new(format!("there is no file `{path}`"))
                    .help(near.unwrap_or_else(|| "write it, or name one that is there".into()))
            }
            std::io::ErrorKind::IsADirectory => {
                Problem::new(format!("`{path}` is a folder, a file is wanted"))
                    .help("name a file in it")
            }
            _ => Problem::new(format!("`{path}` cannot be read: {error}"))
                .help("see who may read it: `ls -l`"),
        })?;
        SourceText::from_bytes(self.shown(path), bytes)
    }

    /// The same for all ways to write the path of one file: relative to the project folder, links
    /// followed as far as there are any.
    pub fn plain(&self, path: &Path) -> PathBuf {
        let full = self.root.join(path);
        let existing = full
            .ancestors()
            .find_map(|ancestor| Some((ancestor, self.real_path(ancestor)?)))
            .filter(|(_, real)| real.starts_with(&self.real));
        let Some((existing, mut plain)) = existing else {
            return path.to_owned();
        };
        for part in full.strip_prefix(existing).unwrap_or(Path::new("")).components() {
            match part {
                Component::Normal(name) => plain.push(name),
                Component::ParentDir => drop(plain.pop()),
                _ => {}
            }
        }
        plain.strip_prefix(&self.real).map(Path::to_owned).unwrap_or(plain)
    }

    /// A path as the user would name it from where they stand.
    pub fn shown(&self, path: &str) -> String {
        let full = self.root.join(path);
        full.strip_prefix(".").unwrap_or(&full).display().to_string()
    }

    /// `did you mean` for a file that is not there.
    pub fn near(&self, path: &str) -> Option<String> {
        self.resolve(path).ok()?;
        let near = self.closest(Path::new(path))?;
        Some(format!("did you mean `{}`?", near.display()))
    }

    /// What is there by the name that is most like that of `path`, in the folder most like its own.
    fn closest(&self, path: &Path) -> Option<PathBuf> {
        let folder = path.parent()?;
        let folder = match self.root.join(folder).is_dir() {
            true => folder.to_owned(),
            false => self.closest(folder)?,
        };
        let entries = std::fs::read_dir(self.root.join(&folder)).ok()?;
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort();
        let name = nearest(path.file_name()?.to_str()?, names.iter().map(String::as_str))?;
        Some(folder.join(name))
    }
}
