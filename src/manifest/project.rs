//! The project folder: what the manifest's paths stand for, and that they stay inside.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::problem::{Problem, SourceText, did_you_mean};

/// The folder of a manifest.
#[derive(Clone, Debug)]
pub struct Project {
    /// As the user named it; shown in messages.
    pub root: PathBuf,
    /// With links resolved; what "inside" is measured against.
    real: PathBuf,
}

impl Project {
    pub fn new(root: &Path) -> std::io::Result<Project> {
        let root = if root.as_os_str().is_empty() { Path::new(".") } else { root };
        Ok(Project { root: root.to_owned(), real: root.canonicalize()? })
    }

    /// The place of a relative path, or why it cannot be used.
    pub fn resolve(&self, path: &str) -> Result<PathBuf, String> {
        if path.is_empty() {
            return Err("the path is empty".into());
        }
        if path.contains('\0') {
            return Err("the path holds a NUL character".into());
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
        let existing = full.ancestors().find_map(|ancestor| ancestor.canonicalize().ok());
        match existing {
            Some(existing) if existing.starts_with(&self.real) => Ok(full),
            _ => Err("the path leads out of the project folder through a link".into()),
        }
    }

    /// Reads a text file that the manifest names.
    pub fn read(&self, path: &str) -> Result<Arc<SourceText>, Problem> {
        let full = self
            .resolve(path)
            .map_err(|what| Problem::new(format!("`{path}` cannot be read: {what}")))?;
        let bytes = std::fs::read(&full).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                Problem::new(format!("there is no file `{path}`")).help_if(self.near(path))
            }
            std::io::ErrorKind::IsADirectory => {
                Problem::new(format!("`{path}` is a folder, a file is wanted"))
            }
            _ => Problem::new(format!("`{path}` cannot be read: {error}")),
        })?;
        let shown = self.shown(path);
        match String::from_utf8(bytes) {
            Ok(text) => Ok(SourceText::new(shown, text)),
            Err(error) => {
                let line = 1 + error.as_bytes()[..error.utf8_error().valid_up_to()]
                    .iter()
                    .filter(|byte| **byte == b'\n')
                    .count();
                Err(Problem::new(format!("`{path}` is not UTF-8 text (line {line})"))
                    .help("save it as UTF-8"))
            }
        }
    }

    /// A path as the user would name it from where they stand.
    pub fn shown(&self, path: &str) -> String {
        let full = self.root.join(path);
        full.strip_prefix(".").unwrap_or(&full).display().to_string()
    }

    fn near(&self, path: &str) -> Option<String> {
        let path = Path::new(path);
        let folder = path.parent().unwrap_or(Path::new(""));
        let entries = std::fs::read_dir(self.root.join(folder)).ok()?;
        let mut names: Vec<String> = entries
            .filter_map(|entry| Some(folder.join(entry.ok()?.file_name()).display().to_string()))
            .collect();
        names.sort();
        did_you_mean(&path.display().to_string(), names.iter().map(String::as_str))
            .filter(|help| help.starts_with("did you mean"))
    }
}
