//! Every command that README.md and the pages of docs/ show runs as it stands: each section in a fresh copy
//! of the study.

mod support;

use std::path::Path;
use std::process::{Command, Stdio};

use support::{TestSpace, copy, repository};

/// Blocks that call GitHub and a provider: the commands in them are known, and that is all.
const WITH_KEYS: [&str; 1] = ["export GITHUB_TOKEN=..."];

struct Block {
    page: String,
    section: String,
    line: usize,
    script: String,
}

fn blocks() -> Vec<Block> {
    let docs = std::fs::read_dir(repository().join("docs")).expect("pages");
    let docs = docs.map(|entry| entry.expect("a page").path());
    let mut pages: Vec<_> =
        docs.filter(|path| path.extension().is_some_and(|it| it == "md")).collect();
    pages.push(repository().join("README.md"));
    pages.sort();
    let mut blocks = Vec::new();
    for path in pages {
        let text = std::fs::read_to_string(&path).expect("a page");
        let page = path.file_name().expect("a name").to_string_lossy().into_owned();
        let mut section = String::new();
        let mut open: Option<(usize, String)> = None;
        for (number, line) in (1..).zip(text.lines()) {
            match &mut open {
                Some((start, script)) if line == "```" => {
                    let (line, script) = (*start, std::mem::take(script));
                    blocks.push(Block {
                        page: page.clone(),
                        section: section.clone(),
                        line,
                        script,
                    });
                    open = None;
                }
                Some((_, script)) => script.push_str(&format!("{line}\n")),
                None if line == "```sh" => open = Some((number + 1, String::new())),
                None if line.starts_with("## ") => section = line.to_owned(),
                None => {}
            }
        }
    }
    blocks
}

/// A folder for PATH: `flow`, and a `cargo` that runs it as `cargo run` would, and builds nothing.
fn programs(space: &TestSpace) -> String {
    let flow = env!("CARGO_BIN_EXE_flow");
    space.write("bin/flow", format!("#!/bin/sh\nexec {flow} \"$@\"\n"));
    let cargo = format!(
        "#!/bin/sh\ncase \"$*\" in\n\"run --release -- \"*) shift 3; exec {flow} \"$@\";;\n\
         \"test --workspace\") exit 0;;\nesac\necho \"cargo $*: what is this?\" >&2\nexit 1\n"
    );
    space.write("bin/cargo", cargo);
    for name in ["flow", "cargo"] {
        use std::os::unix::fs::PermissionsExt;
        let path = space.path().join("bin").join(name);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("rights");
    }
    format!("{}:{}", space.path().join("bin").display(), std::env::var("PATH").unwrap_or_default())
}

fn run(block: &Block, path: &str, folder: &Path) {
    // No call leaves: whoever tries one fails.
    let ran = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &block.script])
        .current_dir(folder)
        .env("PATH", path)
        .env("NO_COLOR", "1")
        .env_remove("GITHUB_TOKEN")
        .env_remove("OPENAI_API_KEY")
        .env("OPENAI_API_KEY", "none")
        .env("http_proxy", "http://127.0.0.1:9")
        .env("https_proxy", "http://127.0.0.1:9")
        .stdin(Stdio::null())
        .output()
        .expect("bash");
    assert!(
        ran.status.success(),
        "{}:{}: {}\n{}{}",
        block.page,
        block.line,
        block.script,
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr)
    );
}

#[test]
fn every_command_of_the_pages_runs_as_it_stands() {
    let blocks = blocks();
    assert!(blocks.len() >= 12, "{}", blocks.len());
    let mut exempt = 0;
    for block in &blocks {
        if WITH_KEYS.iter().any(|start| block.script.starts_with(start)) {
            exempt += 1;
            continue;
        }
        let space = TestSpace::study();
        let path = programs(&space);
        // The pages of a package want something to pack.
        if block.script.starts_with("flow export") {
            space.run(&["--profile", "sample"]).expect(0);
        }
        // It stands in a folder of its own: a project is made beside it.
        let outer = TestSpace::new();
        let folder = outer.path().join("repository");
        copy(space.path(), &folder);
        println!("{}:{} {}", block.page, block.line, block.section);
        run(block, &path, &folder);
    }
    assert_eq!(exempt, WITH_KEYS.len());
}
