//! Reads a unified diff into the files it changes, as `/pulls/{number}/files` lists them.

pub const TOO_MANY_LINES: &str = "Sorry, the diff exceeded the maximum number of lines (20000)";

/// The most lines of a diff, and of a file that has its patch in the list.
const LINES: usize = 20_000;
/// The most bytes of a diff.
const BYTES: usize = 1 << 20;
/// The most bytes of a file that has its patch in the list.
const FILE_BYTES: usize = 500 << 10;
/// The most files that are listed.
const FILES: usize = 3000;

pub struct FileChange<'a> {
    pub path: &'a str,
    pub previous: Option<&'a str>,
    pub status: &'static str,
    pub additions: u64,
    pub deletions: u64,
    /// From the first hunk on; nothing for binary files and pure renames.
    pub patch: Option<&'a str>,
}

/// Why GitHub gives no text for a diff of this size.
pub fn too_large(diff: &str) -> Option<&'static str> {
    if sections(diff).len() > 300 {
        return Some(
            "Sorry, the diff exceeded the maximum number of files (300). Consider using 'List pull \
             requests files' API or locally cloning the repository instead.",
        );
    }
    let large = diff.len() > BYTES || diff.lines().count() > LINES;
    large.then_some(TOO_MANY_LINES)
}

/// The files as GitHub lists them: not all of very many, and not the patch of a very long one.
pub fn listed(diff: &str) -> Vec<FileChange<'_>> {
    let mut files = files(diff);
    files.truncate(FILES);
    for file in &mut files {
        let fits = |patch: &&str| patch.len() <= FILE_BYTES && patch.lines().count() <= LINES;
        file.patch = file.patch.filter(fits);
    }
    files
}

/// GitHub's known fault: after so many lines of patches in one answer the files that follow are
/// told as if nothing changed in them, unmarked.
pub fn empty_after(most: usize, files: &mut [FileChange]) {
    let mut lines = 0;
    for file in files {
        if lines >= most {
            (file.additions, file.deletions, file.patch) = (0, 0, None);
        }
        lines += file.patch.map_or(0, |patch| patch.lines().count());
    }
}

pub fn files(diff: &str) -> Vec<FileChange<'_>> {
    sections(diff).into_iter().filter_map(file).collect()
}

/// One piece of text for each file. Without `diff --git` lines a file begins at its `---` line.
fn sections(diff: &str) -> Vec<&str> {
    let git = diff.starts_with("diff --git ") || diff.contains("\ndiff --git ");
    let mut starts = Vec::new();
    let mut at = 0;
    for line in diff.split_inclusive('\n') {
        let next = &diff[at + line.len()..];
        let begins = match git {
            true => line.starts_with("diff --git "),
            false => line.starts_with("--- ") && next.starts_with("+++ "),
        };
        if begins {
            starts.push(at);
        }
        at += line.len();
    }
    let ends = starts.iter().skip(1).copied().chain([diff.len()]);
    starts.iter().zip(ends).map(|(start, end)| &diff[*start..end]).collect()
}

fn file(section: &str) -> Option<FileChange<'_>> {
    let hunk =
        if section.starts_with("@@") { Some(0) } else { section.find("\n@@").map(|at| at + 1) };
    let (head, patch) = section.split_at(hunk.unwrap_or(section.len()));
    let field = |prefix: &str| head.lines().find_map(|line| line.strip_prefix(prefix));
    let side = |prefix: &str, root: &str| {
        let path = field(prefix)?.split('\t').next()?;
        (path != "/dev/null").then(|| path.strip_prefix(root).unwrap_or(path))
    };
    let (old, new) = (side("--- ", "a/"), side("+++ ", "b/"));
    let named =
        field("diff --git ").and_then(|names| names.split_once(" b/")).map(|(_, path)| path);
    let previous = field("rename from ");
    let status = if previous.is_some() {
        "renamed"
    } else if field("new file mode").is_some() || field("--- /dev/null").is_some() {
        "added"
    } else if field("deleted file mode").is_some() || field("+++ /dev/null").is_some() {
        "removed"
    } else {
        "modified"
    };
    let count = |sign: char| patch.lines().filter(|line| line.starts_with(sign)).count() as u64;
    Some(FileChange {
        path: new.or(field("rename to ")).or(named).or(old)?,
        previous,
        status,
        additions: count('+'),
        deletions: count('-'),
        patch: (!patch.is_empty()).then(|| patch.trim_end_matches('\n')),
    })
}
