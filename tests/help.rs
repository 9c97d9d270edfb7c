//! What a person sees who does not know the commands: help with examples, guesses at what was meant,
//! completions, colours.

mod support;

use std::process::Command;

use support::{Ran, TestSpace, missing, repository};

/// Every command with those below it, as they are typed.
fn commands() -> Vec<Vec<String>> {
    fn below(command: &clap::Command, path: &[String], found: &mut Vec<Vec<String>>) {
        found.push(path.to_vec());
        for command in command.get_subcommands().filter(|command| command.get_name() != "help") {
            let mut path = path.to_vec();
            path.push(command.get_name().to_owned());
            below(command, &path, found);
        }
    }
    let mut found = Vec::new();
    below(&flow::cli::command(), &[], &mut found);
    found
}

/// The words of a command line; what stands in single quotes is one.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().expect("a word").push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The examples at the end of a help.
fn examples(help: &str) -> Vec<String> {
    let lines = help.trim_end().lines().rev();
    let mut examples: Vec<String> = lines
        .take_while(|line| line.starts_with("  "))
        .map(|line| line.split(" #").next().unwrap_or_default().trim().to_owned())
        .collect();
    examples.reverse();
    let head = if examples.len() == 1 { "\nExample:\n" } else { "\nExamples:\n" };
    assert!(help.contains(head), "it does not end with {head:?}: {help}");
    examples
}

#[test]
fn every_help_ends_with_examples_that_parse() {
    let space = TestSpace::new();
    let commands = commands();
    assert!(commands.len() > 20, "{commands:?}");
    for path in commands {
        let mut arguments: Vec<&str> = path.iter().map(String::as_str).collect();
        arguments.push("--help");
        let help = space.flow(&arguments).expect(0).stdout;
        arguments.pop();
        arguments.insert(0, "help");
        assert_eq!(space.flow(&arguments).expect(0).stdout, help, "{path:?}");
        let examples = examples(&help);
        assert!(!examples.is_empty(), "{path:?}");
        for example in examples {
            let typed = example.split(" > ").next().unwrap();
            let start = format!("flow {}", path.join(" "));
            assert!(typed.starts_with(start.trim()), "{example} is no example of {start}");
            let parsed = flow::cli::command().try_get_matches_from(words(typed));
            // To show the help is what `flow help run` is for.
            if let Err(error) = parsed
                && error.kind() != clap::error::ErrorKind::DisplayHelp
            {
                panic!("{example}: {error}");
            }
        }
    }
}

#[test]
fn arguments_have_names_of_their_own() {
    // Two arguments of one name are one to clap, wherever they stand: the shared ones are in every
    // command.
    let command = flow::cli::command();
    let shared: Vec<&str> =
        command.get_arguments().map(|argument| argument.get_id().as_str()).collect();
    for command in command.get_subcommands() {
        for argument in command.get_arguments() {
            let name = argument.get_id().as_str();
            assert!(!shared.contains(&name), "`{name}` of `{}`", command.get_name());
        }
    }
}

#[track_caller]
fn says(ran: Ran, what: &str) {
    let ran = ran.expect(2);
    assert!(ran.stderr.contains(what), "{what:?} is not in: {}", ran.stderr);
}

#[test]
fn what_was_meant_is_guessed() {
    let space = TestSpace::new();
    space.flow(&["init"]).expect(0);
    space.flow(&["run", "--profile", "sample"]).expect(0);
    says(space.flow(&["runn"]), "a similar subcommand exists: 'run'");
    says(space.flow(&["run", "--profil", "sample"]), "a similar argument exists: '--profile'");
    says(space.flow(&["run", "--max-cots", "2"]), "a similar argument exists: '--max-cost'");
    says(space.flow(&["init", "x", "--from", "label"]), "a similar value exists: 'labels'");
    let stage = "did you mean `classify`?";
    for arguments in [
        &["run", "clasify"][..],
        &["run", "+clasify+", "--only"],
        &["run", "--refresh", "clasify"],
        &["plan", "clasify"],
        &["why", "clasify"],
        &["graph", "clasify"],
        &["accept", "clasify"],
        &["cache", "clear", "clasify"],
        &["diff", "1", "last", "clasify"],
    ] {
        says(space.flow(arguments), stage);
    }
    let profile = "did you mean `sample`?";
    for arguments in [
        &["run"][..],
        &["plan"],
        &["why", "classify"],
        &["status"],
        &["check"],
        &["graph"],
        &["log"],
        &["diff", "1", "1"],
        &["cache", "stats"],
        &["cache", "verify"],
        &["cache", "clear", "classify"],
        &["cache", "gc"],
        &["accept", "classify"],
        &["cassette", "all.jsonl"],
        &["add", "repo", "a/b"],
    ] {
        let mut arguments = arguments.to_vec();
        arguments.extend(["--profile", "smaple"]);
        says(space.flow(&arguments), profile);
    }
    says(space.flow(&["add", "repo", "a/b", "--table", "repo"]), "did you mean `repos`?");
}

#[test]
fn colours_are_shown_where_they_are_wanted() {
    let colored = |env: &[(&str, &str)]| {
        let mut space = TestSpace::new();
        space.write("pipeline.toml", "[pipeline]\nname = 1\n");
        for (name, value) in env {
            space.env(name, value);
        }
        space.flow(&["check"]).expect(2).stderr.contains("\x1b[")
    };
    // No terminal reads what the tests read.
    assert!(!colored(&[]));
    assert!(colored(&[("CLICOLOR_FORCE", "1")]));
    assert!(colored(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "")]));
    assert!(!colored(&[("CLICOLOR_FORCE", "0")]));
    assert!(!colored(&[("CLICOLOR_FORCE", "")]));
    assert!(!colored(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
}

#[test]
fn results_are_coloured_by_where_they_go() {
    let mut space = TestSpace::new();
    space.flow(&["init", "--from", "blank"]).expect(0);
    assert!(!space.flow(&["status"]).expect(0).stdout.contains('\x1b'));
    space.env("CLICOLOR_FORCE", "1");
    assert!(space.flow(&["status"]).expect(0).stdout.contains("\x1b["));
    for arguments in [&["status", "--json"][..], &["schema"], &["graph"], &["completions", "bash"]]
    {
        let ran = space.flow(arguments).expect(0);
        assert!(!ran.stdout.contains('\x1b'), "{arguments:?}");
    }
}

/// A shell with `flow` on its path, in the space's folder.
fn shell(space: &TestSpace, program: &str, arguments: &[&str]) -> Option<String> {
    let folder = std::path::Path::new(env!("CARGO_BIN_EXE_flow")).parent().unwrap();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
    let output = Command::new(program)
        .args(arguments)
        .current_dir(space.path())
        .env("PATH", path)
        .output()
        .ok()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {stderr}");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn bash_loads_the_completions_and_knows_the_stages() {
    let space = TestSpace::new();
    space.flow(&["init"]).expect(0);
    space.write("flow.bash", space.flow(&["completions", "bash"]).expect(0).stdout);
    if shell(&space, "bash", &["-n", "flow.bash"]).is_none() {
        return missing("bash");
    }
    let loaded = shell(&space, "bash", &["-c", "source ./flow.bash; complete -p flow"]).unwrap();
    assert!(loaded.contains("-F _flow_or_stage flow"), "{loaded}");
    let completed = |words: &str| {
        let script = "source ./flow.bash; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); \
                      _flow_or_stage flow \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD-1]}\"; \
                      echo \"${COMPREPLY[@]}\"";
        let mut arguments = vec!["-c", script, "bash"];
        arguments.extend(words.split(' '));
        shell(&space, "bash", &arguments).unwrap().trim().to_owned()
    };
    assert_eq!(completed("flow comp"), "completions");
    assert_eq!(completed("flow run cl"), "classify");
    assert_eq!(completed("flow run issues "), "issues classify bugs by_repo calls report");
    assert_eq!(completed("flow run --refresh is"), "issues");
    assert_eq!(completed("flow run --max-ca"), "--max-calls");
    assert_eq!(completed("flow why re"), "report");
    assert_eq!(completed("flow init --from la"), "labels");
}

#[test]
fn other_shells_load_the_completions() {
    let space = TestSpace::new();
    space.flow(&["init"]).expect(0);
    for (program, name) in [("zsh", "_flow"), ("fish", "flow.fish")] {
        let script = space.flow(&["completions", program]).expect(0).stdout;
        assert!(script.contains("flow completions --stages"), "{program}");
        space.write(name, script);
        // Machines mostly have one shell of the three.
        if shell(&space, program, &["-n", name]).is_none() {
            missing(&format!("{program}; tests/real/install-shells.sh installs it"));
        }
    }
    let script = "source ./flow.fish; complete -C 'flow why cl'";
    if let Some(completed) = shell(&space, "fish", &["--no-config", "-c", script]) {
        assert!(completed.lines().any(|line| line.starts_with("classify")), "{completed}");
    }
    says(space.flow(&["completions"]), "<SHELL>");
    says(space.flow(&["completions", "basch"]), "a similar value exists: 'bash'");
}

#[test]
fn stages_are_told_wherever_one_stands() {
    let space = TestSpace::new();
    assert_eq!(space.flow(&["completions", "--stages"]).expect(0).stdout, "");
    space.write("pipeline.toml", "[stages.a");
    assert_eq!(space.flow(&["completions", "--stages"]).expect(0).stdout, "");
    // Also while something else in it is wrong.
    space.write("pipeline.toml", "[stages.a]\nkind = \"sql\"\n[stages.b]\nkind = \"sq\"\n");
    assert_eq!(space.flow(&["completions", "--stages"]).expect(0).stdout, "a\nb\n");
}

#[test]
fn the_repositorys_manifest_is_formatted() {
    let manifest = repository().join("pipeline.toml");
    TestSpace::new().flow(&["fmt", "--check", "-f", manifest.to_str().unwrap()]).expect(0);
}
