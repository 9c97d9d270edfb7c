//! Reads a unified diff into the files it changes, as `/pulls/{number}/files` lists them.

pub struct FileChange<'a> {
    pub path: &'a str,
    pub previous: Option<&'a str>,
    pub status: &'static str,
    pub additions: u64,
    pub deletions: u64,
    /// From the first hunk on; nothing for binary files and pure renames.
    pub patch: Option<&'a str>,
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
