//! A full disk, a folder that cannot be written, a damaged store, a second run, a clock set back:
//! each is told clearly, and nothing that was paid for is lost or paid for again.

mod support;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, params};
use support::study::{CONCURRENCY, assert_same, outputs, pages, requests, simulator, study};
use support::{Ran, Simulator, TestSpace};

const ITEMS: u64 = 90;
/// More than the study takes on a disk.
const ROOM: u64 = 32 << 20;

/// A simulator and a space in which the study has run.
fn done() -> (Simulator, TestSpace) {
    let simulator = simulator(ITEMS, 0);
    let space = study(&simulator);
    space.run(&[]).expect(0);
    (simulator, space)
}

/// Runs a shell script in the folder, with mounts of its own that end with it; `$FLOW` is `flow`.
/// `None` where this machine does not let us mount: nothing is tested then, and outside CI that is
/// only told.
fn with_mounts(space: &TestSpace, script: &str) -> Option<Ran> {
    let unshare = || {
        let mut command = Command::new("unshare");
        command.arg("--mount").current_dir(space.path()).env_clear().env("NO_COLOR", "1");
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("FLOW", env!("CARGO_BIN_EXE_flow"));
        command
    };
    let probe = unshare().args(["sh", "-c", "mount -t tmpfs tmpfs ."]).output();
    if !probe.as_ref().is_ok_and(|probe| probe.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "cannot mount here: {probe:?}");
        eprintln!("NOT TESTED: this machine does not let us mount: {probe:?}");
        return None;
    }
    let output = unshare().args(["sh", "-euc", script]).output().expect("unshare starts");
    Some(Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// A run in a mount namespace left its exit code and what it printed in files.
fn left(space: &TestSpace, name: &str) -> Ran {
    let read = |part: &str| space.read(&format!("{name}.{part}"));
    let code = read("code").trim().parse().expect("an exit code");
    Ran { code, stdout: read("out"), stderr: read("err") }
}

/// `flow run` where a file system of its own at `folder` has `bytes` left; then once more, when there
/// is room again.
fn run_when_full(space: &TestSpace, folder: &str, bytes: u64) -> Option<(Ran, Ran)> {
    let script = format!(
        r#"
mkdir -p {folder}
mount -t tmpfs -o size=$(({bytes} + {ROOM})) tmpfs {folder}
head -c {ROOM} /dev/zero >{folder}/ballast
run() {{
  code=0
  "$FLOW" run --json >$1.out 2>$1.err || code=$?
  echo $code >$1.code
}}
run full
rm {folder}/ballast
run again
cp -a {folder} kept
"#
    );
    with_mounts(space, &script)?.expect(0);
    fs::remove_dir_all(space.path().join(folder)).expect("it was empty under the mount");
    fs::rename(space.path().join("kept"), space.path().join(folder)).expect("kept");
    Some((left(space, "full"), left(space, "again")))
}

#[test]
fn a_full_disk_stops_the_run_and_loses_nothing() {
    let (simulator, undisturbed) = done();
    let size: u64 = files(&undisturbed.path().join("cache")).iter().map(|path| length(path)).sum();
    // Full at once, and later and later.
    for eighth in [0, 1, 2, 4, 6] {
        let space = study(&simulator);
        simulator.reset();
        let bytes = 40_000.max(size * eighth / 8);
        let Some((full, again)) = run_when_full(&space, "cache", bytes) else { return };
        let full = full.expect(1);
        let told = format!("{}{}", full.stdout, full.stderr);
        let why = told.contains("disk is full") || told.contains("No space left");
        assert!(why && told.contains("make room and run again"), "{bytes} bytes: {told}");
        again.expect(0);
        assert_same(&space, &undisturbed);
        // What was under way when the disk was full could not be stored: those that were just
        // answered, and those that had just left.
        let asked = simulator.total();
        let most = requests(ITEMS) + 2 * CONCURRENCY;
        assert!(asked <= most, "{bytes} bytes: {asked} requests, {most} may be");
        space.flow(&["cache", "verify"]).expect(0);
    }
}

#[test]
fn outputs_that_find_no_room_are_written_when_there_is() {
    let (simulator, undisturbed) = done();
    let space = study(&simulator);
    simulator.reset();
    let Some((full, again)) = run_when_full(&space, "data", 20_000) else { return };
    let full = full.expect(1);
    let told = format!("{}{}", full.stdout, full.stderr);
    assert!(told.contains("`data/items.jsonl` cannot be written: No space left"), "{told}");
    again.expect(0);
    assert_same(&space, &undisturbed);
    assert_eq!(simulator.total(), requests(ITEMS), "nothing is asked twice");
    assert_eq!(names(&space.path().join("data")).len(), 5, "nothing else is left in data/");
}

#[test]
fn a_folder_that_cannot_be_written_can_still_be_looked_at() {
    let (simulator, kept) = done();
    let bare = study(&simulator);
    let read_only = |space: &TestSpace, arguments: &str| {
        let enter = "mount --bind . . && mount -o remount,bind,ro . && cd \"$PWD\"";
        with_mounts(space, &format!("{enter} && exec \"$FLOW\" {arguments}"))
    };
    simulator.reset();
    for space in [&bare, &kept] {
        let Some(ran) = read_only(space, "run --json") else { return };
        let told = ran.expect(1).stderr;
        assert!(told.contains("cache") && told.contains("writable"), "{told}");
        for command in ["check", "graph", "graph --format html", "status", "plan", "log"] {
            read_only(space, command).expect("as above").expect(0);
        }
    }
    let status = read_only(&kept, "status --json").expect("as above").expect(0);
    let plan = read_only(&kept, "plan --json").expect("as above").expect(0);
    assert_eq!(plan.states(), ["items up_to_date", "classify up_to_date", "merged up_to_date"]);
    assert_eq!(status.stage("merged")["rows"], ITEMS);
    assert_eq!(simulator.total(), 0, "nothing is asked");
    bare.run(&[]).expect(0);
    assert_same(&bare, &kept);
}

/// Every file below `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("one").path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// But for the logs, of which each run leaves its own.
fn names(folder: &Path) -> Vec<String> {
    let name = |path: PathBuf| path.file_name().expect("a name").display().to_string();
    let files = files(folder).into_iter();
    files.filter(|path| !path.starts_with(folder.join("logs"))).map(name).collect()
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).expect("a file").len()
}

fn database(space: &TestSpace) -> Connection {
    Connection::open(space.path().join("cache/flow.db")).expect("a database")
}

/// Flips the bits of the byte in the middle of a column of one row.
fn flip(space: &TestSpace, table: &str, column: &str, filter: &str) {
    let database = database(space);
    let select = format!(
        "SELECT rowid, typeof({column}), CAST({column} AS BLOB) FROM {table}
         WHERE {filter} ORDER BY key LIMIT 1"
    );
    let (row, kind, mut bytes): (i64, String, Vec<u8>) = database
        .query_row(&select, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .expect("an entry of the store");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    let update = format!("UPDATE {table} SET {column} = CAST(?2 AS {kind}) WHERE rowid = ?1");
    database.execute(&update, params![row, bytes]).expect("damaged");
}

#[test]
fn a_damaged_answer_is_asked_for_again_and_no_other() {
    let (simulator, space) = done();
    let whole = outputs(&space);
    let damages = [
        ("body", "GET"),
        ("body", "POST"),
        ("digest", "POST"),
        ("headers", "GET"),
        ("url", "POST"),
    ];
    for (column, method) in damages {
        flip(&space, "calls", column, &format!("method = '{method}'"));
        simulator.reset();
        // Every row again, on the recorded answers.
        let ran = space.run(&["--force"]).expect(0);
        assert_eq!(ran.json()["calls"], 1, "{column} of a {method}");
        assert_eq!(simulator.total(), 1);
        assert!(ran.stderr.contains("damaged"), "{}", ran.stderr);
        assert!(outputs(&space) == whole);
        space.flow(&["cache", "verify"]).expect(0);
    }
}

#[test]
fn a_damaged_memo_is_made_again_from_the_answers() {
    let (simulator, space) = done();
    let whole = outputs(&space);
    for column in ["rows", "digest"] {
        // Of a row of `classify`: it stands on one call, the list on several.
        flip(&space, "memo", column, "NOT stored AND length(calls) = 32");
        // Without its tables the store looks rows up in the memo.
        let forget = "DELETE FROM fingerprints; DELETE FROM stages";
        database(&space).execute_batch(forget).expect("forgotten");
        simulator.reset();
        let ran = space.run(&[]).expect(0);
        assert_eq!(ran.stage("classify")["rows_run"], 1, "{column}: {}", ran.stdout);
        assert_eq!(simulator.total(), 0, "{column}: from the answers");
        assert!(outputs(&space) == whole);
        space.flow(&["cache", "verify"]).expect(0);
    }
}

#[test]
fn a_damaged_object_is_made_again_without_a_call() {
    let (simulator, space) = done();
    let whole = outputs(&space);
    simulator.reset();
    for object in files(&space.path().join("cache/objects")) {
        if !object.exists() {
            continue; // It was dropped with another one and is not needed any more.
        }
        let mut bytes = fs::read(&object).expect("an object");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0xff;
        fs::write(&object, bytes).expect("damaged");
        fs::remove_dir_all(space.path().join("data")).expect("removed");
        let ran = space.run(&[]).expect(0);
        assert_eq!(simulator.total(), 0, "{}", ran.stderr);
        assert!(outputs(&space) == whole, "{}", ran.stderr);
    }
    // What no run has read since may still be damaged: this drops it, and the next run does without.
    space.flow(&["cache", "verify"]);
    space.run(&[]).expect(0);
    space.flow(&["cache", "verify"]).expect(0);
    assert!(outputs(&space) == whole);
    assert_eq!(simulator.total(), 0);
}

/// What `verify` finds it names, and a run makes it again.
#[test]
fn verify_finds_what_is_damaged() {
    let (simulator, space) = done();
    let ran = space.flow(&["cache", "verify"]).expect(0);
    assert!(format!("{}{}", ran.stdout, ran.stderr).contains("none of"), "{ran:?}");
    flip(&space, "calls", "body", "method = 'POST'");
    let ran = space.flow(&["cache", "verify"]).expect(1);
    assert!(format!("{}{}", ran.stdout, ran.stderr).contains("damaged"), "{ran:?}");
    simulator.reset();
    let ran = space.run(&["--force"]).expect(0);
    assert_eq!(ran.json()["calls"], 1);
    space.flow(&["cache", "verify"]).expect(0);
}

#[test]
fn a_run_that_ends_leaves_its_database_in_one_file() {
    let (_simulator, space) = done();
    let log = space.path().join("cache/flow.db-wal");
    assert!(!log.exists() || length(&log) == 0, "{} bytes are in the log", length(&log));
}

type Damage = fn(&Path);

fn cut(path: &Path, length: u64) {
    File::options().write(true).open(path).and_then(|file| file.set_len(length)).expect("cut");
}

/// After the damage a command says what to do, or does its work; it never fails by a fault of ours.
fn assert_clear(ran: &Ran, what: &str) {
    assert!([0, 1].contains(&ran.code), "{what}: exit code {}: {}", ran.code, ran.stderr);
    assert!(!ran.stderr.contains("panicked"), "{what}: {}", ran.stderr);
    if ran.code == 1 {
        for told in ["flow.db", "damaged", "move it away and run again"] {
            assert!(ran.stderr.contains(told), "{what}: no {told:?} in {}", ran.stderr);
        }
    }
}

/// Runs where the database is damaged, also so that everything in it is read; where a run tells that
/// it is, does what it says, and runs again.
fn heals(space: &TestSpace, what: &str) {
    space.flow(&["check"]).expect(0);
    space.flow(&["graph"]).expect(0);
    for command in ["status", "plan", "log"] {
        assert_clear(&space.flow(&[command]), what);
    }
    for more in [&[][..], &["--force"]] {
        let before = outputs(space);
        let ran = space.run(more);
        assert_clear(&ran, what);
        if ran.code == 1 {
            assert!(outputs(space) == before, "{what}: outputs are left alone");
            let cache = space.path().join("cache");
            fs::rename(cache.join("flow.db"), cache.join("flow.db.damaged")).expect("moved");
            space.run(&[]).expect(0);
        }
    }
    space.flow(&["cache", "verify"]).expect(0);
    let again = space.run(&[]).expect(0);
    assert_eq!(again.json()["calls"], 0, "{what}");
}

#[test]
fn a_damaged_database_is_told_and_costs_no_output() {
    let damages: [(&str, Damage); 4] = [
        ("cut to half", |path| cut(path, length(path) / 2)),
        ("cut to nothing", |path| cut(path, 0)),
        ("garbage at its beginning", |path| {
            let mut bytes = fs::read(path).expect("a database");
            bytes[..4096].fill(0xa5);
            fs::write(path, bytes).expect("damaged");
        }),
        ("garbage in its middle", |path| {
            let mut bytes = fs::read(path).expect("a database");
            let middle = bytes.len() / 2 / 4096 * 4096;
            bytes[middle..middle + 8192].fill(0xa5);
            fs::write(path, bytes).expect("damaged");
        }),
    ];
    for (what, damage) in damages {
        let (_simulator, space) = done();
        let whole = outputs(&space);
        let calls = "SELECT count(*) FROM calls";
        // The last one to close a database puts its log in its place.
        database(&space).query_row(calls, [], |_| Ok(())).expect("calls");
        damage(&space.path().join("cache/flow.db"));
        heals(&space, what);
        assert!(outputs(&space) == whole, "{what}");
        let left = names(&space.path().join("data"));
        assert_eq!(left.len(), whole.len(), "{what}: no output is set aside: {left:?}");
    }
}

#[test]
fn a_log_that_is_lost_costs_only_what_it_held() {
    let damages: [(&str, Damage); 2] = [
        ("the log is gone", |log| fs::remove_file(log).expect("removed")),
        ("the log is cut to half", |log| cut(log, length(log) / 2)),
    ];
    for (what, damage) in damages {
        let simulator = simulator(ITEMS, 20);
        let undisturbed = study(&simulator);
        undisturbed.run(&[]).expect(0);
        let space = study(&simulator);
        simulator.reset();
        // Only a run that is killed leaves a log behind.
        let mut run = space.command(&["run", "-q"]).spawn().expect("flow starts");
        while simulator.total() < pages(ITEMS) + 20 {
            std::thread::yield_now();
        }
        run.kill().expect("it is our child");
        run.wait().expect("it is our child");
        damage(&space.path().join("cache/flow.db-wal"));
        heals(&space, what);
        assert_same(&space, &undisturbed);
    }
}

#[test]
fn a_second_run_is_refused_or_waits() {
    let simulator = simulator(ITEMS, 20);
    let space = study(&simulator);
    let mut first = space.command(&["run", "-q"]).spawn().expect("flow starts");
    while simulator.total() == 0 {
        std::thread::yield_now();
    }
    let holder = format!("process {}", first.id());
    let refused = space.run(&[]).expect(1);
    assert!(refused.stderr.contains(&holder) && refused.stderr.contains("--wait"), "{refused:?}");
    let mut waiting = space
        .command(&["run", "--wait", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("flow starts");
    let mut told = String::new();
    let mut stderr = BufReader::new(waiting.stderr.take().expect("piped"));
    stderr.read_line(&mut told).expect("a line");
    assert!(told.contains(&holder), "{told}");
    space.flow(&["status"]).expect(0);
    assert!(first.wait().expect("it is our child").success());
    stderr.read_to_string(&mut told).expect("text");
    let mut stdout = String::new();
    waiting.stdout.take().expect("piped").read_to_string(&mut stdout).expect("text");
    let code = waiting.wait().expect("it is our child").code().unwrap_or(-1);
    let ran = Ran { code, stdout, stderr: told }.expect(0);
    assert_eq!(ran.states(), ["items up_to_date", "classify up_to_date", "merged up_to_date"]);
    assert_eq!(simulator.total(), requests(ITEMS));
    // A lock dies with its process, whatever the file says.
    space.write("cache/lock", "1\n");
    space.run(&[]).expect(0);
}

/// To a store whose times lie ahead, the clock was set back.
#[test]
fn a_clock_set_back_changes_nothing() {
    let simulator = simulator(ITEMS, 0);
    let space = study(&simulator);
    space.edit(
        "pipeline.toml",
        "key = [\"id\"]\noutputs = [\"data/items.jsonl\"]",
        "key = [\"id\"]\nmax_age = \"7d\"\noutputs = [\"data/items.jsonl\"]",
    );
    space.run(&[]).expect(0);
    let whole = outputs(&space);
    let ten_years: i64 = 10 * 365 * 24 * 60 * 60 * 1000;
    let database = database(&space);
    let later = "strftime('%Y-%m-%dT%H:%M:%fZ', at, '+10 years')";
    database
        .execute(&format!("UPDATE calls SET at = {later}, checked = checked + ?1"), [ten_years])
        .expect("set");
    database.execute(&format!("UPDATE runs SET at = {later}"), []).expect("set");
    drop(database);
    let ahead = SystemTime::now() + Duration::from_millis(ten_years as u64);
    for file in ["pipeline.toml", "classify.md", "classify.schema.json", "data/merged.csv"] {
        let file = File::options().append(true).open(space.path().join(file)).expect(file);
        file.set_modified(ahead).expect("set");
    }

    simulator.reset();
    for _ in 0..2 {
        let ran = space.run(&[]).expect(0);
        let states = ["items up_to_date", "classify up_to_date", "merged up_to_date"];
        assert_eq!(ran.states(), states);
        assert_eq!(simulator.total(), 0);
    }
    for command in ["status", "plan", "log"] {
        space.flow(&[command]).expect(0);
    }
    space.run(&["--refresh", "items"]).expect(0);
    let by_status = simulator.get("/_stats")["by_status"].clone();
    assert_eq!(by_status, serde_json::json!({"304": pages(ITEMS)}), "it is asked, and unchanged");
    assert!(outputs(&space) == whole);
}
