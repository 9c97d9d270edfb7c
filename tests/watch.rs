//! `flow watch`: what costs nothing runs whenever a file is saved, and what costs waits for a yes.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use support::{Simulator, TestSpace};

const LONGEST: Duration = Duration::from_secs(60);

fn space(simulator: &Simulator) -> TestSpace {
    let mut space = TestSpace::new();
    space.env("NO_COLOR", "1");
    space.write(
        "pipeline.toml",
        format!(
            r#"
[pipeline]
name = "watched"
[models.small]
base_url = "{}/v1"
model = "tiny"
[stages.long]
kind = "sql"
inputs = ["rows.jsonl"]
query = "long.sql"
key = ["id"]
outputs = ["data/long.jsonl"]
[stages.label]
kind = "llm"
inputs = ["long"]
model = "small"
prompt = "p.md"
outputs = ["data/labels.jsonl"]
"#,
            simulator.address
        ),
    );
    space.write("rows.jsonl", "{\"id\": 1}\n{\"id\": 2}\n{\"id\": 3}\n");
    space.write("long.sql", "SELECT * FROM rows WHERE id < 3");
    space.write("p.md", "Label {{ id }}");
    space
}

/// A watch, as a process that ends with the test, and the lines that it says.
struct Watch {
    child: Child,
    lines: Receiver<String>,
}

impl Watch {
    fn start(space: &TestSpace) -> Watch {
        let mut child = space
            .command(&["watch"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("flow starts");
        let (sender, lines) = channel();
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Watch { child, lines }
    }

    /// Waits for a line that holds this; all that was said until then.
    #[track_caller]
    fn until(&self, text: &str) -> String {
        let mut said = String::new();
        while let Ok(line) = self.lines.recv_timeout(LONGEST) {
            said.push_str(&format!("{line}\n"));
            if line.contains(text) {
                return said;
            }
        }
        panic!("it did not say `{text}`: {said}");
    }

    fn types(&mut self, text: &str) {
        self.child.stdin.as_mut().expect("piped").write_all(text.as_bytes()).expect("typed");
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_costs_nothing_runs_and_what_costs_is_asked_for() {
    let simulator = Simulator::start(&[]);
    let space = space(&simulator);
    let mut watch = Watch::start(&space);
    watch.until("1 stage would run: 2 calls to make");
    assert_eq!((space.rows("data/long.jsonl").len(), simulator.total()), (2, 0));
    watch.until("runs them");
    watch.types("n\ny\n");
    watch.until("nothing is left to run");
    assert_eq!((space.rows("data/labels.jsonl").len(), simulator.total()), (2, 2));

    // Saved: the query runs, and its new row waits.
    space.write("long.sql", "SELECT * FROM rows");
    watch.until("runs them");
    assert_eq!((space.rows("data/long.jsonl").len(), simulator.total()), (3, 2));
    // A mistake is told, and ends nothing.
    space.write("long.sql", "SELEC * FROM rows");
    watch.until("the query cannot be used");
    space.write("long.sql", "SELECT * FROM rows WHERE id < 3");
    watch.until("nothing is left to run");
    assert_eq!((space.rows("data/labels.jsonl").len(), simulator.total()), (2, 2));
}

#[test]
fn ctrl_c_ends_it() {
    let simulator = Simulator::start(&[]);
    let space = space(&simulator);
    let mut watch = Watch::start(&space);
    watch.until("runs them");
    let pid = rustix::process::Pid::from_child(&watch.child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("sent");
    assert_eq!(watch.child.wait().expect("an end").code(), Some(130));
}
