//! Killed or interrupted at any moment, a run loses nothing that is stored, leaves no torn file, and
//! goes on where it was.
//!
//! `FLOW_KILLS` says how often a run is killed (30), `FLOW_SEED` at which moments (1).

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use support::study::{CONCURRENCY, OUTPUTS, outputs, pages, requests, settle, simulator, study};
use support::{Simulator, TestSpace};

const ITEMS: u64 = 300;
/// Kills before a run is let go on to the end.
const KILLS_IN_A_ROUND: u64 = 10;
/// An answer that came longer ago than this is stored.
const COMMITTED_WITHIN_US: u64 = 20_000;

/// When a run is killed, in the order in which it comes by: once so many requests are answered since
/// the round began, or once this output is written anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Until {
    Answered(u64),
    Written(&'static str),
}

/// SplitMix64: the same moments for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    /// Before the first call, in the list, among the answers, or while outputs are written.
    fn until(&mut self) -> Until {
        match self.below(20) {
            0..2 => Until::Answered(0),
            2..6 => Until::Answered(1 + self.below(pages(ITEMS))),
            6..14 => Until::Answered(pages(ITEMS) + self.below(ITEMS)),
            _ => Until::Written(OUTPUTS[self.below(OUTPUTS.len() as u64) as usize]),
        }
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect(variable))
}

fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("after 1970").as_micros() as u64
}

/// When each output was written.
type Times = BTreeMap<&'static str, Option<SystemTime>>;

fn times(space: &TestSpace) -> Times {
    let modified = |output| std::fs::metadata(space.path().join(output)).ok()?.modified().ok();
    OUTPUTS.into_iter().map(|output| (output, modified(output))).collect()
}

/// Lets `run` work until then and `moment` longer, and kills it. Returns when, or `None` where it had
/// ended by itself.
fn kill(
    mut run: Child,
    until: Until,
    moment: Duration,
    space: &TestSpace,
    began: &Times,
    simulator: &Simulator,
) -> Option<u64> {
    let reached = || match until {
        Until::Answered(requests) => simulator.total() >= requests,
        Until::Written(output) => times(space)[output] != began[output],
    };
    while run.try_wait().expect("it is our child").is_none() {
        if reached() {
            std::thread::sleep(moment);
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let at = now_us();
    run.kill().expect("it is our child");
    let status = run.wait().expect("it is our child");
    if status.signal().is_none() {
        assert!(status.success(), "what was not killed ends well: {status}");
        return None;
    }
    Some(at)
}

#[test]
fn a_killed_run_goes_on_where_it_was() {
    let (kills, seed) = (number("FLOW_KILLS", 30), number("FLOW_SEED", 1));
    eprintln!("FLOW_KILLS={kills} FLOW_SEED={seed}");
    let mut dice = Dice(seed);
    let simulator = simulator(ITEMS, 10);

    // What is made without being disturbed: from nothing, then by another prompt.
    let versions = versions(&simulator);
    let all = [requests(ITEMS), ITEMS];
    let mut killed = 0;
    let mut space = study(&simulator);
    for version in [0, 1].into_iter().cycle() {
        if killed == kills {
            break;
        }
        match version {
            0 => space = study(&simulator),
            _ => other_prompt(&space),
        }
        simulator.reset();
        let began = times(&space);
        // Each kill may cost what is under way then, and what was answered just before.
        let mut may_cost = 0;
        let kills_left = KILLS_IN_A_ROUND.min(kills - killed);
        let mut stops: Vec<Until> = (0..kills_left).map(|_| dice.until()).collect();
        stops.sort();
        for until in stops {
            let moment = Duration::from_micros(dice.below(20_000));
            let run = space.command(&["run", "-q"]).spawn().expect("flow starts");
            let Some(at) = kill(run, until, moment, &space, &began, &simulator) else { continue };
            killed += 1;
            settle(&simulator);
            let since = |time: u64| {
                let stats = simulator.get(&format!("/_stats?since_us={time}"));
                stats["since"].as_u64().expect("a number")
            };
            let just_before = since(at - COMMITTED_WITHIN_US) - since(at);
            may_cost += CONCURRENCY + just_before;
            eprintln!(
                "killed {killed} at {until:?} + {moment:?}: {} answered, {just_before} just before",
                simulator.total()
            );
            for (output, bytes) in outputs(&space) {
                let whole = versions[..=version].iter().any(|version| version[output] == bytes);
                assert!(whole, "{output} is torn: {} bytes", bytes.len());
            }
            space.flow(&["status"]).expect(0);
        }
        space.run(&[]).expect(0);
        assert!(outputs(&space) == versions[version], "outputs are others than undisturbed");
        let asked = simulator.total() - all[version];
        eprintln!("asked twice: {asked} of {may_cost}");
        assert!(asked <= may_cost, "{asked} requests were made again, {may_cost} may be");
        let again = space.run(&[]).expect(0);
        assert_eq!(again.json()["calls"], 0);
        assert_eq!(files_in(&space), files_of_outputs(), "nothing is left in data/");
        space.flow(&["cache", "verify"]).expect(0);
    }
}

/// The outputs of two undisturbed runs in one folder, the second with the other prompt.
fn versions(simulator: &Simulator) -> [BTreeMap<&'static str, Vec<u8>>; 2] {
    let space = study(simulator);
    space.run(&[]).expect(0);
    assert_eq!(simulator.total(), requests(ITEMS));
    for output in OUTPUTS {
        let rows = match output.ends_with(".csv") {
            true => {
                csv::Reader::from_path(space.path().join(output)).expect(output).records().count()
            }
            false => space.rows(output).len(),
        };
        assert_eq!(rows as u64, ITEMS, "{output}");
    }
    let first = outputs(&space);
    other_prompt(&space);
    space.run(&[]).expect(0);
    assert_eq!(simulator.total(), requests(ITEMS) + ITEMS);
    let second = outputs(&space);
    assert!(first["data/merged.csv"] != second["data/merged.csv"]);
    [first, second]
}

fn other_prompt(space: &TestSpace) {
    space.edit("classify.md", "Classify", "Judge");
}

fn files_in(space: &TestSpace) -> Vec<String> {
    let entries = std::fs::read_dir(space.path().join("data")).expect("outputs");
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        format!("data/{}", entry.expect("an entry").file_name().display())
    };
    let mut files: Vec<String> = entries.map(name).filter(|name| name != "data/logs").collect();
    files.sort();
    files
}

fn files_of_outputs() -> Vec<String> {
    let mut files = OUTPUTS.map(str::to_owned).to_vec();
    files.sort();
    files
}

fn interrupt(run: &Child) {
    kill_process(Pid::from_child(run), Signal::INT).expect("it is our child");
}

/// How many answers are in the store.
fn stored(space: &TestSpace) -> u64 {
    let database = rusqlite::Connection::open(space.path().join("cache/flow.db")).expect("a store");
    database.query_row("SELECT count(*) FROM calls", [], |row| row.get(0)).expect("a table")
}

/// Waits until `run` has ended; its exit code, and what it told.
fn ended(mut run: Child) -> (Option<i32>, String) {
    let mut told = String::new();
    run.stderr.take().expect("piped").read_to_string(&mut told).expect("text");
    (run.wait().expect("it is our child").code(), told)
}

#[test]
fn one_ctrl_c_drains_and_a_second_ends_at_once() {
    let simulator = simulator(90, 20);
    let space = study(&simulator);
    let start = || space.command(&["run"]).stderr(Stdio::piped()).spawn().expect("flow starts");

    let run = start();
    while simulator.total() < pages(90) + 20 {
        std::thread::yield_now();
    }
    interrupt(&run);
    let (code, told) = ended(run);
    assert_eq!(code, Some(130), "{told}");
    let answered = simulator.total();
    assert!(answered < requests(90), "it was interrupted");
    assert_eq!(simulator.get("/_stats")["under_way"], 0, "it awaited what was under way");
    assert_eq!(stored(&space), answered, "and stored it");

    simulator.fault(json!({"path": "/v1", "delay_ms": 3_600_000}));
    let mut run = start();
    while simulator.get("/_stats")["under_way"] != 4 {
        std::thread::yield_now();
    }
    interrupt(&run);
    let mut line = String::new();
    let stderr = BufReader::with_capacity(1, run.stderr.as_mut().expect("piped"));
    stderr.take(4096).read_line(&mut line).expect("a line");
    assert!(line.contains("again to stop now"), "{line}");
    assert!(run.try_wait().expect("it is our child").is_none(), "it awaits what is under way");
    interrupt(&run);
    let (code, told) = ended(run);
    assert_eq!(code, Some(130), "{told}");
    assert_eq!(simulator.get("/_stats")["under_way"], 4, "it did not wait for the answers");

    simulator.heal();
    let ran = space.run(&[]).expect(0);
    assert_eq!(ran.json()["calls"], requests(90) - answered, "only what is missing is asked");
    assert_eq!(ran.stage("merged")["rows"], 90);
}

#[test]
fn ctrl_c_does_not_wait_for_a_limit_to_pass() {
    let simulator = simulator(30, 0);
    let space = study(&simulator);
    let headers = json!({"retry-after": "3600"});
    simulator.fault(json!({"path": "/v1", "status": 429, "headers": headers}));
    let mut run = space.command(&["run", "-q"]).spawn().expect("flow starts");
    while simulator.get("/_stats")["by_status"]["429"].is_null() {
        std::thread::yield_now();
    }
    interrupt(&run);
    assert_eq!(run.wait().expect("it is our child").code(), Some(130));
    simulator.heal();
    let ran = space.run(&[]).expect(0);
    assert_eq!(ran.json()["calls"], 30, "the list was kept");
}
