//! Kind `command`: what a program is given, what is taken from it, how it is ended, and when it
//! runs again.

mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use support::{Ran, TestSpace};

fn space(manifest: &str) -> TestSpace {
    let mut space = TestSpace::new();
    space.env("NO_COLOR", "1");
    space.write("pipeline.toml", format!("[pipeline]\nname = \"test\"\n{manifest}"));
    space
}

/// One stage `c` that runs `script.sh` once; `t.jsonl` is its input.
fn once(script: &str) -> TestSpace {
    with(script, "key = [\"id\"]")
}

/// One stage `c` that runs `script.sh` for the rows of `t.jsonl`, told apart by their `id`.
fn by_rows(script: &str) -> TestSpace {
    with(script, "mode = \"rows\"\nkey = [\"id\"]")
}

fn with(script: &str, settings: &str) -> TestSpace {
    let space = space(&format!(
        r#"
[stages.c]
kind = "command"
inputs = ["t.jsonl"]
run = ["sh", "script.sh"]
files = ["script.sh"]
outputs = ["data/c.jsonl"]
{settings}
"#
    ));
    space.write("script.sh", script);
    space.write("t.jsonl", numbered(3));
    space
}

/// `{"id":0}`, `{"id":1}` and so on.
fn numbered(rows: usize) -> String {
    (0..rows).map(|id| format!("{{\"id\":{id}}}\n")).collect()
}

/// The reason of a stage that fails, which leaves no output. A terminal is shown it unarmed.
#[track_caller]
fn reason(space: &TestSpace) -> String {
    let ran = space.run(&[]).expect(1);
    assert_eq!(ran.states(), ["c failed"]);
    assert!(!space.exists("data/c.jsonl") && !space.exists("cache/tmp/c"));
    assert!(!ran.stderr.contains('\u{1b}'), "{:?}", ran.stderr);
    ran.stage("c")["reason"].as_str().expect("a reason").to_owned()
}

/// Why rows failed, one by one, where the others have their results.
#[track_caller]
fn reasons(space: &TestSpace) -> Vec<String> {
    let ran = space.run(&[]).expect(1);
    assert_eq!(ran.states(), ["c incomplete"]);
    assert!(!ran.stderr.contains('\u{1b}'), "{:?}", ran.stderr);
    let failed = space.rows("data/c.jsonl.failed.jsonl");
    failed.iter().map(|row| row["_failed"]["reason"].as_str().unwrap().to_owned()).collect()
}

#[track_caller]
fn refused(space: &TestSpace) -> Ran {
    let ran = space.flow(&["check"]).expect(2);
    space.run(&[]).expect(2);
    assert!(!space.exists("cache"), "nothing has run");
    ran
}

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

fn counts(ran: &Ran) -> (u64, u64) {
    let stage = ran.stage("c");
    (stage["rows_run"].as_u64().unwrap(), stage["rows_memo"].as_u64().unwrap())
}

/// A `sleep` that no other test has, and whether it is there.
struct Sleep(String);

impl Sleep {
    fn new(test: u32) -> Sleep {
        Sleep(format!("sleep 1000.{}{test:02}", std::process::id()))
    }

    fn runs(&self) -> bool {
        let pattern = self.0.replace('.', "\\.");
        let found = Command::new("pgrep").args(["-f", &pattern]).stdout(Stdio::null()).status();
        found.expect("pgrep").success()
    }

    #[track_caller]
    fn await_that(&self, runs: bool) {
        let begun = Instant::now();
        while self.runs() != runs {
            assert!(begun.elapsed() < Duration::from_secs(60), "`{}`: not {runs}", self.0);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn a_single_input_is_on_stdin_and_in_a_file() {
    let space = once(
        "while read -r line; do echo \"$line\"; done\n\
         echo '{\"id\": \"file\", \"same\": '\"$(cat \"$FLOW_INPUT_T_JSONL\" | wc -l)\"'}'\n",
    );
    space.write("t.jsonl", "{\"id\": 2, \"text\": \"naïve 漢字\"}\n{\"id\": 1}\n");
    let ran = space.run(&[]).expect(0);
    assert_eq!(ran.states(), ["c ran"]);
    let wanted = [
        json!({"id": 2, "text": "naïve 漢字"}),
        json!({"id": 1, "text": null}),
        json!({"id": "file", "same": 2}),
    ];
    assert_eq!(space.rows("data/c.jsonl"), wanted);
    assert!(!space.exists("cache/tmp/c"));
    assert_eq!(space.run(&[]).expect(0).states(), ["c up_to_date"]);
}

#[test]
fn several_inputs_are_in_files() {
    let space = space(
        r#"
[[tables.left-one]]
id = 1
[[tables.left-one]]
id = 2
[stages.right]
kind = "command"
run = ["echo", '{"id": 3}']
key = ["id"]
[stages.c]
kind = "command"
inputs = ["left-one", "right", "in/more.csv"]
run = ["sh", "-c", 'cat "$FLOW_INPUT_IN_MORE_CSV" "$FLOW_INPUT_RIGHT" "$FLOW_INPUT_LEFT_ONE" -']
key = ["id"]
outputs = ["data/c.json", "data/c.csv"]
"#,
    );
    space.write("in/more.csv", "id,of\n4,x\n");
    space.run(&[]).expect(0);
    let wanted =
        [json!({"id": "4", "of": "x"}), json!({"id": 3}), json!({"id": 1}), json!({"id": 2})];
    assert_eq!(space.rows("data/c.json"), wanted);
    assert_eq!(space.read("data/c.csv"), "id,of\n4,x\n3,\n1,\n2,\n");
    // Two inputs cannot have one variable.
    space.edit("pipeline.toml", "\"in/more.csv\"]", "\"in-more.csv\", \"in/more.csv\"]");
    space.write("in-more.csv", "id\n");
    let ran = space.flow(&["check"]).expect(2);
    has(&ran.stderr, &["two inputs of stage `c` become `FLOW_INPUT_IN_MORE_CSV`"]);
}

#[test]
fn a_stage_without_inputs_makes_its_rows() {
    let space = space(
        r#"
[stages.c]
kind = "command"
run = ["./made.sh", "a b", "$HOME", "*"]
files = ["made.sh"]
key = ["id"]
outputs = ["data/c.jsonl"]
"#,
    );
    // In the project folder, without a shell between, with nothing on stdin, and a place to write.
    space.write(
        "made.sh",
        "#!/bin/sh\ncat\nfor id; do printf '{\"id\": \"%s\"}\\n\\n' \"$id\"; done\n\
         cd \"$FLOW_SCRATCH\" && echo '{\"id\": \"kept\"}' > x && cat x\n\
         printf '{\"id\": \"end\"}'",
    );
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(space.path().join("made.sh"), mode).unwrap();
    let wanted = ["a b", "$HOME", "*", "kept", "end"].map(|id| json!({"id": id}));
    space.run(&[]).expect(0);
    assert_eq!(space.rows("data/c.jsonl"), wanted, "blank lines and a missing last end are fine");
    // The folder is that of the manifest, wherever one stands.
    std::fs::remove_dir_all(space.path().join("cache")).unwrap();
    std::fs::remove_dir_all(space.path().join("data")).unwrap();
    let folder = space.path().to_str().unwrap();
    let mut from_elsewhere = space.command(&["run", "-q", "-C", folder]);
    assert!(from_elsewhere.current_dir("/").status().unwrap().success());
    assert_eq!(space.rows("data/c.jsonl"), wanted);
}

#[test]
fn rows_go_in_and_their_results_come_out() {
    // A row, none, many: what the input has of the key is carried over, the program makes the rest.
    let space = with(
        r#"
import json, sys
for line in sys.stdin:
    row = json.loads(line)
    n = row["id"]
    made = [{"part": part, "id": "not mine", "text": "é"} for part in range(n)]
    print(json.dumps(made[0] if n == 1 else made))
"#,
        "mode = \"rows\"\nkey = [\"id\", \"part\"]\nkeep = [\"name\"]\nwhere = \"id != 3\"",
    );
    space.edit("pipeline.toml", "[\"sh\", \"script.sh\"]", "[\"python3\", \"script.sh\"]");
    let row = |id: u64| format!("{{\"id\": {id}, \"name\": \"n{id}\", \"other\": true}}\n");
    space.write("t.jsonl", [2, 0, 3, 1].map(row).concat());
    let ran = space.run(&[]).expect(0);
    assert_eq!(counts(&ran), (3, 0));
    let made =
        |id: u64, part: u64| json!({"id": id, "name": format!("n{id}"), "part": part, "text": "é"});
    assert_eq!(space.rows("data/c.jsonl"), [made(2, 0), made(2, 1), made(1, 0)]);
    // Without a key that tells them apart, many rows are a mistake that is told.
    space.edit("pipeline.toml", "[\"id\", \"part\"]", "[\"id\"]");
    let ran = space.run(&[]).expect(1);
    has(ran.stage("c")["reason"].as_str().unwrap(), &["two different rows have the key id=2"]);
    // A key that nobody makes is told too.
    space.edit("pipeline.toml", "key = [\"id\"]", "key = [\"id\", \"prt\"]");
    let ran = space.run(&[]).expect(1);
    has(ran.stage("c")["reason"].as_str().unwrap(), &["no key field `prt`", "part"]);
}

/// Writes down each row that it is given, and answers it.
const COUNTING: &str = "while read -r line; do echo \"$line\" >> seen; echo \"$line\"; done\n\
                        echo batch >> batches\n";

#[test]
fn only_rows_that_changed_run_again() {
    let space = by_rows(COUNTING);
    let row = |id: u64, text: &str| format!("{{\"id\":{id},\"text\":\"{text}\"}}\n");
    space.write("t.jsonl", [row(1, "a"), row(2, "b"), row(3, "c")].concat());
    assert_eq!(counts(&space.run(&[]).expect(0)), (3, 0));
    assert_eq!(space.run(&[]).expect(0).states(), ["c up_to_date"]);
    space.write("t.jsonl", [row(1, "a"), row(2, "other"), row(3, "c"), row(4, "d")].concat());
    let ran = space.run(&[]).expect(0);
    assert_eq!((ran.states(), counts(&ran)), (vec!["c ran".to_owned()], (2, 2)));
    let seen = ["a", "b", "c", "other", "d"].iter().zip([1, 2, 3, 2, 4]);
    assert_eq!(space.read("seen"), seen.map(|(text, id)| row(id, text)).collect::<String>());
    let rows = space.rows("data/c.jsonl");
    let texts: Vec<&str> = rows.iter().map(|row| row["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["a", "other", "c", "d"], "in the order of the input");
    // Rows in another order, or fewer of them, run nothing.
    space.write("t.jsonl", [row(4, "d"), row(1, "a")].concat());
    assert_eq!(counts(&space.run(&[]).expect(0)), (0, 2));
    assert_eq!(space.read("data/c.jsonl"), [row(4, "d"), row(1, "a")].concat());
    // How many go in at once changes nothing that is known.
    space.edit("pipeline.toml", "mode = \"rows\"", "mode = \"rows\"\nbatch = 1\ntimeout = 60");
    assert_eq!(space.run(&[]).expect(0).states(), ["c up_to_date"]);
}

#[test]
fn rows_go_in_batches() {
    let space = by_rows(COUNTING);
    space.edit("pipeline.toml", "mode = \"rows\"", "mode = \"rows\"\nbatch = 4");
    space.write("t.jsonl", numbered(10));
    assert_eq!(counts(&space.run(&[]).expect(0)), (10, 0));
    assert_eq!(space.read("batches").lines().count(), 3);
    assert_eq!(space.read("data/c.jsonl"), numbered(10));
}

#[test]
fn a_batch_that_fails_leaves_the_others() {
    // The rows of one batch fail; those of the others are stored and not run again.
    let space = by_rows(
        "while read -r line; do\n\
         case $line in *5*) [ -e mended ] || { echo 'not 5' >&2; exit 3; };; esac\n\
         echo \"$line\" >> seen; echo \"$line\"; done\n",
    );
    space.edit("pipeline.toml", "mode = \"rows\"", "mode = \"rows\"\nbatch = 2");
    space.write("t.jsonl", numbered(8));
    let why = reasons(&space);
    assert_eq!(why.len(), 2);
    has(&why[0], &["`sh` ended with exit status: 3", "not 5"]);
    assert_eq!(space.rows("data/c.jsonl").len(), 6);
    space.write("mended", "");
    assert_eq!(counts(&space.run(&[]).expect(0)), (2, 6));
    assert_eq!(space.read("data/c.jsonl"), numbered(8));
    assert!(!space.exists("data/c.jsonl.failed.jsonl"));
}

#[test]
fn an_answer_that_is_no_row_is_told() {
    let once = |script: &str| reason(&once(script));
    has(&once("echo '{\"id\": 1}'; echo; echo 'Loading...'"), &["line 3", "object: Loading"]);
    has(&once("echo '[{\"id\": 1}]'"), &["line 1", "no JSON object", "[{\"id\": 1}]"]);
    has(&once("echo '{\"id\": 1'"), &["line 1", "no JSON object"]);
    has(&once("printf '{\"id\": 1}\\n{\"id\"'"), &["line 2", "no JSON object"]);
    has(&once("echo '{\"n\": 1}'"), &["no key field `id`", "it has: n"]);
    has(&once("printf '{\"id\": \"\\377\"}\\n'"), &["line 1 of its output is not UTF-8"]);
    has(
        &once("echo '{\"id\": 1, \"n\": 1}'; echo '{\"id\": 1, \"n\": 2}'"),
        &["two different rows have the key id=1", "\"n\":2"],
    );
    let rows = |script: &str| {
        let why = reasons(&by_rows(script));
        assert_eq!(why.len(), 3, "{why:?}");
        why[0].clone()
    };
    has(&rows("cat >/dev/null; echo '{}'"), &["given 3 rows and wrote 1 lines"]);
    has(&rows("cat; cat t.jsonl"), &["given 3 rows and wrote more lines"]);
    has(&rows("yes '{}'"), &["given 3 rows and wrote more lines"]);
    has(&rows("true"), &["given 3 rows and wrote 0 lines"]);
    has(&rows("cat >/dev/null; echo '[{}, 1]'; echo '{}'; echo '{}'"), &["line 1", "[{}, 1]"]);
    has(&rows("cat >/dev/null; echo null; echo '{}'; echo '{}'"), &["line 1", "null"]);
    has(&rows("echo '{}'; printf '\\377\\n'; echo '{}'"), &["line 2", "not UTF-8"]);
}

#[test]
fn a_wrong_line_is_told_at_once() {
    // Rather than when the program ends, or by the broken pipe that it then meets.
    let space = once("echo 'no row'; yes '{\"id\": 1}'");
    has(&reason(&space), &["line 1", "no row"]);
    let sleep = Sleep::new(1);
    let space = once(&format!("echo 'no row'; {}", sleep.0));
    has(&reason(&space), &["line 1", "no row"]);
    sleep.await_that(false);
}

#[test]
fn a_program_that_fails_is_told_with_what_it_said() {
    let why = reason(&once("echo '{\"id\": 1}'; echo 'no model' >&2; echo 'line two' >&2; exit 3"));
    has(&why, &["`sh` ended with exit status: 3", "no model\nline two"]);
    assert_eq!(reason(&once("exit 1")), "`sh` ended with exit status: 1");
    // The end of what it said is what tells.
    let why = reason(&once("yes 'on and on' | head -c 1000000 >&2; echo 'the end' >&2; exit 1"));
    assert!(why.ends_with("the end") && why.len() < 8000, "{why}");
    // A line that it could not end is its own fault, not the line's.
    has(&reason(&once("printf '{\"id\": 1, \"te'; kill -9 $$")), &["signal: 9"]);
    // Nothing of it is kept.
    let space = once("echo '{\"id\": 1}'; [ -e mended ]");
    reason(&space);
    space.write("mended", "");
    assert_eq!(space.run(&[]).expect(0).states(), ["c ran"]);
}

#[test]
fn what_a_program_said_cannot_steer_the_terminal() {
    // `reason` and `reasons` look at all that a terminal is shown.
    let armed = r"\033[31mred\033]0;title\007\r\b\177 end";
    let why = reason(&once(&format!("printf '{armed}' >&2; exit 3")));
    has(&why, &["red", "end"]);
    has(&reason(&once(&format!("printf '{armed}\\n'"))), &["line 1", "red", "end"]);
    let space = by_rows(&format!("printf '{armed}' >&2; exit 3"));
    has(&reasons(&space)[0], &["red", "end"]);
    let told = space.flow(&["run", "-vv"]).expect(1).stderr;
    assert!(told.contains("red") && !told.contains('\u{1b}'), "{told:?}");
}

#[test]
fn a_program_that_is_not_there_is_told() {
    for mode in ["table", "rows"] {
        let space = with("", &format!("mode = \"{mode}\"\nkey = [\"id\"]\nbatch = 1"));
        space.edit("pipeline.toml", "[\"sh\", \"script.sh\"]", "[\"no-such-program\"]");
        has(&reason(&space), &["`no-such-program` cannot be started", "No such file"]);
        space.edit("pipeline.toml", "[\"no-such-program\"]", "[\"./script.sh\"]");
        has(&reason(&space), &["`./script.sh` cannot be started", "Permission denied"]);
    }
    for run in ["[]", "[\"\"]"] {
        let space = once("");
        space.edit("pipeline.toml", "[\"sh\", \"script.sh\"]", run);
        has(&refused(&space).stderr, &["`run` names no program"]);
    }
}

#[test]
fn a_program_that_takes_too_long_is_ended_with_all_that_it_started() {
    for (test, mode) in [(2, "table"), (3, "rows")] {
        let sleep = Sleep::new(test);
        // It does not listen, and its child has a child that keeps the output open.
        let script = format!("trap '' INT TERM HUP\n(sh -c '{} & wait') &\nwait\n", sleep.0);
        let space = with(&script, &format!("mode = \"{mode}\"\nkey = [\"id\"]\ntimeout = 1"));
        let begun = Instant::now();
        let why = match mode {
            "table" => reason(&space),
            _ => reasons(&space)[0].clone(),
        };
        has(&why, &["`sh` did not end within 1 s", "`timeout`"]);
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
        sleep.await_that(false);
    }
}

#[test]
fn ctrl_c_ends_a_program_with_all_that_it_started() {
    for (test, mode) in [(4, "table"), (5, "rows")] {
        let sleep = Sleep::new(test);
        let script = format!("trap '' INT TERM HUP\n(sh -c '{} & wait') &\nwait\n", sleep.0);
        let space = with(&script, &format!("mode = \"{mode}\"\nkey = [\"id\"]"));
        let run = space
            .command(&["run", "--json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        sleep.await_that(true);
        let asked = Instant::now();
        let sent = Command::new("kill").args(["-INT", &run.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let output = run.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(130), "{told}");
        assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
        has(&told, &["stopping", "interrupted"]);
        sleep.await_that(false);
        assert!(!space.exists("data/c.jsonl") && !space.exists("cache/tmp/c"));
        // The next run begins anew.
        space.write("script.sh", "cat");
        space.run(&[]).expect(0);
    }
}

#[test]
fn what_a_program_leaves_running_ends_with_it() {
    let sleep = Sleep::new(6);
    let space = once(&format!("{} >/dev/null 2>&1 &\necho '{{\"id\": 1}}'", sleep.0));
    space.run(&[]).expect(0);
    assert_eq!(space.rows("data/c.jsonl"), [json!({"id": 1})]);
    sleep.await_that(false);
}

#[test]
fn much_goes_in_and_out_at_once() {
    let rows = 50_000;
    let whole = "mode = \"rows\"\nkey = [\"id\"]\nbatch = 50000";
    // All that it writes, before it reads: either side would wait for the other.
    let space = with(&format!("cat answers; cat >/dev/null; seq {rows} >&2\n"), whole);
    space.write("t.jsonl", numbered(rows));
    space.write("answers", "{\"text\":\"some text for each\"}\n".repeat(rows));
    assert_eq!(counts(&space.run(&[]).expect(0)), (rows as u64, 0));
    let made = space.read("data/c.jsonl");
    assert_eq!(made.lines().count(), rows);
    assert_eq!(made.lines().last(), Some(r#"{"id":49999,"text":"some text for each"}"#));
    // Once, as a table.
    let space = once("cat \"$FLOW_INPUT_T_JSONL\"; cat >/dev/null\n");
    space.write("t.jsonl", numbered(rows));
    space.run(&[]).expect(0);
    assert_eq!(space.read("data/c.jsonl"), numbered(rows));
    // And a program that wants none of it.
    let space = once("exit 0");
    space.write("t.jsonl", numbered(rows));
    assert_eq!(space.run(&[]).expect(0).stage("c")["rows"], 0);
    assert_eq!(space.read("data/c.jsonl"), "");
    let space = with("cat answers\n", whole);
    space.write("t.jsonl", numbered(rows));
    space.write("answers", "{}\n".repeat(rows));
    assert_eq!(space.run(&[]).expect(0).stage("c")["rows"], rows as u64);
}

#[test]
fn a_program_sees_what_is_named_of_the_environment() {
    let mut space = with(
        "env | sed -n 's/^\\([A-Za-z0-9_]*\\)=.*/{\"id\":\"\\1\"}/p' | sort",
        "key = [\"id\"]\nenv = [\"NAMED\", \"NOT_SET\"]",
    );
    space.env("NAMED", "a value").env("OTHER", "another").env("GITHUB_TOKEN", "secret");
    space.run(&[]).expect(0);
    let rows = space.rows("data/c.jsonl");
    let names = rows.iter().map(|row| row["id"].as_str().unwrap());
    // Some shells set these by themselves.
    let names: Vec<&str> =
        names.filter(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name)).collect();
    let mut wanted = vec!["FLOW_INPUT_T_JSONL", "FLOW_SCRATCH", "HOME", "NAMED", "PATH"];
    wanted.retain(|name| *name != "HOME" || std::env::var_os("HOME").is_some());
    assert_eq!(names, wanted);
}

/// Whether a file below a folder holds these bytes.
fn holds(folder: &Path, needle: &[u8]) -> bool {
    std::fs::read_dir(folder).unwrap().map(Result::unwrap).any(|entry| {
        let path = entry.path();
        match path.is_dir() {
            true => holds(&path, needle),
            false => {
                let bytes = std::fs::read(&path).unwrap();
                bytes.windows(needle.len()).any(|window| window == needle)
            }
        }
    })
}

#[test]
fn a_variable_counts_and_its_value_is_kept_nowhere() {
    let mut space = with(
        "echo \"{\\\"id\\\": 1, \\\"is\\\": \\\"${NAMED-unset}\\\"}\" | tr a-z n-za-m\n",
        "key = [\"vq\"]\nenv = [\"NAMED\"]",
    );
    let run = |space: &TestSpace| space.run(&[]).expect(0).states();
    assert_eq!(run(&space), ["c ran"]);
    assert_eq!(run(&space), ["c up_to_date"]);
    space.env("NAMED", "hunter-first");
    assert_eq!(run(&space), ["c ran"]);
    assert_eq!(run(&space), ["c up_to_date"]);
    assert_eq!(space.rows("data/c.jsonl"), [json!({"vq": 1, "vf": "uhagre-svefg"})]);
    space.env("NAMED", "hunter-second").env("OTHER", "x");
    assert_eq!(run(&space), ["c ran"]);
    assert_eq!(space.rows("data/c.jsonl"), [json!({"vq": 1, "vf": "uhagre-frpbaq"})]);
    space.env("NAMED", "hunter-first");
    assert_eq!(run(&space), ["c restored"]);
    // Empty is not the same as not set.
    space.env("NAMED", "");
    assert_eq!(run(&space), ["c ran"]);
    for folder in ["cache", "data"] {
        let folder = space.path().join(folder);
        for value in ["hunter-first", "hunter-second"] {
            assert!(!holds(&folder, value.as_bytes()), "{value} is below {}", folder.display());
        }
    }
    assert!(holds(&space.path().join("data"), b"vq"), "it looks into files");
}

#[test]
fn files_count_as_part_of_the_program() {
    for settings in ["key = [\"id\"]", "key = [\"id\"]\nmode = \"rows\""] {
        let space = with("sed 's/}/,\"n\":1}/'", settings);
        space.edit("pipeline.toml", "[\"script.sh\"]", "[\"script.sh\", \"model.bin\"]");
        space.write("model.bin", [0xff, 0x00, 0x01]);
        let run = || space.run(&[]).expect(0).states();
        assert_eq!(run(), ["c ran"]);
        assert_eq!(run(), ["c up_to_date"]);
        space.write("script.sh", "sed 's/}/,\"n\":2}/'");
        assert_eq!(run(), ["c ran"]);
        assert_eq!(space.rows("data/c.jsonl")[0], json!({"id": 0, "n": 2}));
        space.write("model.bin", [0xff, 0x00, 0x02]);
        assert_eq!(run(), ["c ran"]);
        // The same text written again is no change; the text of before is known.
        space.write("model.bin", [0xff, 0x00, 0x02]);
        assert_eq!(run(), ["c up_to_date"]);
        space.write("model.bin", [0xff, 0x00, 0x01]);
        assert_eq!(run(), ["c restored"]);
        space.edit("pipeline.toml", "\"script.sh\"]\nfiles", "\"script.sh\", \"more\"]\nfiles");
        assert_eq!(run(), ["c ran"]);
    }
}

#[test]
fn files_that_cannot_be_read_are_refused() {
    for (name, wanted) in [
        ("skript.sh", &["there is no file `skript.sh`", "did you mean `script.sh`"][..]),
        ("folder", &["`folder` is a folder"]),
        ("../script.sh", &["`../script.sh` cannot be read", "leaves the project folder"]),
    ] {
        let space = once("");
        space.write("folder/x", "");
        space.edit("pipeline.toml", "[\"script.sh\"]", &format!("[\"{name}\"]"));
        let ran = refused(&space);
        has(&ran.stderr, &["pipeline.toml:8"]);
        has(&ran.stderr, wanted);
    }
}

#[test]
fn settings_that_cannot_be_are_refused() {
    for (settings, wanted) in [
        ("", "stage `c` has no `key`"),
        ("key = [\"id\"]\nwhere = \"id > 1\"", "has no `where`"),
        ("key = [\"id\"]\nkeep = [\"id\"]", "has no `keep`"),
        ("key = [\"id\"]\ntimeout = 0", "timeout"),
        ("key = [\"id\"]\nmode = \"rows\"\nbatch = 0", "batch"),
        ("key = [\"id\"]\nmode = \"row\"", "mode"),
        ("key = []\nmode = \"rows\"", "`key` names no field"),
        ("mode = \"rows\"\nkeep = [\"name\"]", "`keep` names `name`"),
    ] {
        has(&refused(&with("cat", settings)).stderr, &[wanted]);
    }
}
