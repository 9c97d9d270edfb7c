//! `flow init`: every project that it makes runs at once, with no key and no network.

mod support;

use std::process::Command;

use support::{TestSpace, repository, simulator_program};

const PROJECTS: [&str; 3] = ["github-bugs", "labels", "blank"];

/// A project in the folder `study`, and how it is run without a key.
fn made(from: &str) -> (TestSpace, Vec<&'static str>) {
    let space = TestSpace::new();
    space.flow(&["init", "study", "--from", from]).expect(0);
    let mut run = vec!["-C", "study", "run", "--json"];
    if from == "github-bugs" {
        run.extend(["--profile", "sample"]);
    }
    (space, run)
}

#[test]
fn each_project_runs_at_once_and_nothing_runs_twice() {
    for from in PROJECTS {
        let (space, run) = made(from);
        let first = space.flow(&run).expect(0);
        assert_eq!(first.json()["calls"], 0, "{from}");
        assert!(first.states().iter().all(|state| state.ends_with(" ran")), "{:?}", first.states());
        let outputs: &[&str] = match from {
            "github-bugs" => &["study/data/sample/report.html", "study/data/sample/report.md"],
            "labels" => &["study/data/report.html", "study/data/report.md", "study/data/sheet.csv"],
            _ => &["study/data/squares.csv"],
        };
        for output in outputs {
            assert!(space.exists(output), "{output}");
        }
        let again = space.flow(&run).expect(0);
        let stands = |state: &String| state.ends_with(" up_to_date");
        assert!(again.states().iter().all(stands), "{from}: {:?}", again.states());
    }
}

#[test]
fn each_project_passes_the_check_is_formatted_and_keeps_to_its_schema() {
    for from in PROJECTS {
        let (space, _) = made(from);
        space.flow(&["-C", "study", "check"]).expect(0);
        space.flow(&["-C", "study", "fmt", "--check"]).expect(0);
        let manifest = space.read("study/pipeline.toml");
        let first = manifest.lines().next();
        assert_eq!(first, Some("#:schema ./schemas/pipeline.schema.json"), "{from}");
        assert!(manifest.contains("\nname = \"study\"\n"), "{from}: its name is the folder's");
        let schema = space.read("study/schemas/pipeline.schema.json");
        assert_eq!(schema, space.flow(&["schema"]).expect(0).stdout);
        let schema = jsonschema::validator_for(&serde_json::from_str(&schema).unwrap()).unwrap();
        let value: serde_json::Value = toml::from_str(&manifest).unwrap();
        let faults: Vec<String> =
            schema.iter_errors(&value).map(|error| error.to_string()).collect();
        assert!(faults.is_empty(), "{from}: {faults:?}");
    }
    let (space, _) = made("github-bugs");
    space.flow(&["-C", "study", "--profile", "sample", "check"]).expect(0);
}

#[test]
fn what_it_says_to_type_next_works() {
    for from in PROJECTS {
        let space = TestSpace::new();
        let said = space.flow(&["init", "study", "--from", from]).expect(0).stderr;
        let (cd, commands): (Vec<&str>, Vec<&str>) = said
            .lines()
            .filter_map(|line| line.strip_prefix("  "))
            .partition(|line| line.starts_with("cd "));
        assert_eq!(cd, ["cd study"], "{said}");
        assert!(!commands.is_empty(), "{said}");
        // What asks GitHub or a model wants a key; the others run.
        let asks = |line: &&str| line.contains("--online") || line.contains("--limit");
        for command in commands.into_iter().filter(|line| !asks(line)) {
            let typed = command.split(" #").next().unwrap();
            let mut arguments = vec!["-C", "study"];
            arguments.extend(typed.split_whitespace().skip(1));
            space.flow(&arguments).expect(0);
        }
    }
    let space = TestSpace::new();
    let said = space.flow(&["init"]).expect(0).stderr;
    assert!(said.starts_with("made 9 files here; next:\n  flow run "), "{said}");
}

#[test]
fn the_sample_knows_one_repository_more() {
    let (space, run) = made("github-bugs");
    space.flow(&run).expect(0);
    let add = ["-C", "study", "add", "repo", "deepspeedai/DeepSpeed", "--profile", "sample"];
    space.flow(&add).expect(0);
    let ran = space.flow(&run).expect(0);
    assert_eq!(ran.json()["calls"], 0);
    assert_eq!(ran.stage("issues")["rows"], 13);
}

#[test]
fn nothing_is_overwritten() {
    let space = TestSpace::new();
    space.write("study/prompts/classify.md", "mine");
    space.write("study/notes.txt", "mine too");
    let ran = space.flow(&["init", "study"]).expect(2);
    let named = "nothing was made, as this is there already: study/prompts/classify.md;";
    assert!(ran.stderr.contains(named), "{}", ran.stderr);
    assert!(!space.exists("study/pipeline.toml"));
    assert_eq!(space.read("study/prompts/classify.md"), "mine");
    // A file where a folder is to be, and a link that leads nowhere.
    space.write("other/samples", "a file");
    std::os::unix::fs::symlink("nowhere", space.path().join("other/pipeline.toml")).unwrap();
    let ran = space.flow(&["init", "other"]).expect(2);
    for named in ["other/pipeline.toml", "other/samples/cassette.jsonl"] {
        assert!(ran.stderr.contains(named), "{}", ran.stderr);
    }
    assert!(!space.exists("other/prompts"));
    let ran = space.flow(&["init", "study/notes.txt"]).expect(2);
    assert!(ran.stderr.contains("is a file; name a folder"), "{}", ran.stderr);
}

#[test]
fn a_repository_may_be_there() {
    let space = TestSpace::new();
    space.write("study/.git/HEAD", "ref: refs/heads/main\n");
    space.write("study/.gitignore", "*.log\n/cache/");
    space.flow(&["init", "study", "--from", "blank"]).expect(0);
    assert_eq!(space.read("study/.gitignore"), "*.log\n/cache/\n/data/\n");
    let fresh = TestSpace::new();
    fresh.flow(&["init", "--from", "blank"]).expect(0);
    assert_eq!(fresh.read(".gitignore"), "/data/\n/cache/\n");
}

#[test]
fn a_project_within_another_is_refused() {
    let (space, _) = made("blank");
    let ran = space.flow(&["-C", "study", "init", "more/inside"]).expect(2);
    assert!(ran.stderr.contains("there is a project around it"), "{}", ran.stderr);
    assert!(!space.exists("study/more"));
    let ran = space.flow(&["-C", "study", "init"]).expect(2);
    assert!(ran.stderr.contains("this is there already: pipeline.toml"), "{}", ran.stderr);
    // Another program's file of that name makes no project.
    let space = TestSpace::new();
    space.write("pipeline.toml", "[build]\nsteps = 3\n");
    space.flow(&["init", "study", "--from", "blank"]).expect(0);
    let ran = space.flow(&["init", "--file", "other.toml"]).expect(2);
    assert!(ran.stderr.contains("leave `-f` out"), "{}", ran.stderr);
}

#[test]
fn odd_folder_names_are_names_of_studies() {
    let space = TestSpace::new();
    let said = space.flow(&["init", "it's \"mine\" #1", "--from", "blank"]).expect(0).stderr;
    assert!(said.contains(r#"  cd 'it'\''s "mine" #1'"#), "{said}");
    space.flow(&["-C", "it's \"mine\" #1", "run"]).expect(0);
    let manifest: toml::Table = space.read("it's \"mine\" #1/pipeline.toml").parse().unwrap();
    assert_eq!(manifest["pipeline"]["name"].as_str(), Some("it's \"mine\" #1"));
}

#[test]
fn the_recording_is_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let fresh = folder.path().join("cassette.jsonl");
    let recorded = Command::new(repository().join("samples/record_init.sh"))
        .arg(&fresh)
        .env("FLOW", env!("CARGO_BIN_EXE_flow"))
        .env("FLOW_SIMULATOR", simulator_program())
        .output()
        .unwrap();
    assert!(recorded.status.success(), "{}", String::from_utf8_lossy(&recorded.stderr));
    let committed = repository().join("templates/init/github-bugs/samples/cassette.jsonl");
    assert!(
        std::fs::read(&fresh).unwrap() == std::fs::read(committed).unwrap(),
        "the recording of `flow init` is out of date: run samples/record_init.sh"
    );
}
