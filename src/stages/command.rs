//! Kind `command`: any program; rows in as JSON lines, rows out as JSON lines.

use std::collections::HashSet;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Child;
use toml::Spanned;

use super::{
    Answered, Ask, Columns, Compile, Compiled, Components, Input, InputInfo, Kind, RowError,
    RowShape, RowStage, RowWork, Sink, StageError, TableStage, Work, World,
};
use crate::clients::{Asking, CallError, Stop};
use crate::manifest::INSIDE;
use crate::store::Made;
use crate::table::{Digest, Format, Row, write_table};

pub struct Command;

/// What `[stages.NAME]` may hold.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The program and its arguments; no shell. It runs in the project folder.
    #[schemars(with = "Vec<String>", length(min = 1))]
    run: Spanned<Vec<String>>,
    #[serde(default)]
    mode: Mode,
    /// Seconds after which it is ended.
    #[serde(default = "an_hour")]
    #[schemars(range(min = 1))]
    timeout: NonZeroU64,
    /// Environment variables that it sees beside PATH and HOME; their values count as part of what
    /// it depends on.
    #[serde(default)]
    env: Vec<String>,
    /// The files that it depends on: the script itself, what it reads.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    files: Vec<Spanned<String>>,
    /// `mode = "rows"`: how many rows one process is given.
    #[serde(default = "hundred")]
    #[schemars(range(min = 1))]
    batch: NonZeroUsize,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Mode {
    /// Runs once. Each input is a JSONL file, named by `FLOW_INPUT_<NAME>`; a single input is also
    /// on stdin. Each line of stdout is a row.
    #[default]
    Table,
    /// Runs for the rows that are not known yet. For each line on stdin there is one line on
    /// stdout: an object (one row) or an array of objects, told apart by fields of their own that
    /// `key` names beside the input's.
    Rows,
}

fn an_hour() -> NonZeroU64 {
    const { NonZeroU64::new(3600).unwrap() }
}

fn hundred() -> NonZeroUsize {
    const { NonZeroUsize::new(100).unwrap() }
}

/// What is kept of stderr for an error.
const STDERR_KEPT: usize = 4 << 10;

struct Stage {
    run: Vec<String>,
    mode: Mode,
    timeout: Duration,
    env: Vec<String>,
    files: Vec<File>,
    batch: usize,
    /// The fields that tell its rows apart.
    key: Vec<String>,
}

/// A file that it depends on, with the digest of what it holds.
struct File {
    path: String,
    digest: Digest,
    is_text: bool,
}

impl Kind for Command {
    fn name(&self) -> &'static str {
        "command"
    }

    fn version(&self) -> u32 {
        1
    }

    fn settings(&self, generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<Settings>()
    }

    fn compile(&self, cx: &mut Compile<'_>) -> Option<Compiled> {
        let settings: Settings = cx.settings()?;
        if settings.run.get_ref().first().is_none_or(String::is_empty) {
            let help = Some("name a program: `run = [\"python3\", \"script.py\"]`".into());
            cx.fail(settings.run.span(), "`run` names no program", help);
            return None;
        }
        let files: Vec<_> = settings.files.iter().map(|path| file(cx, path)).collect();
        let files: Option<Vec<File>> = files.into_iter().collect();
        let binaries = files.iter().flatten().filter(|file| !file.is_text);
        let binaries = binaries.map(|file| file.path.clone()).collect();
        let mode = settings.mode;
        let stage = |files, key: &[String]| Stage {
            run: settings.run.into_inner(),
            mode,
            timeout: Duration::from_secs(settings.timeout.get()),
            env: settings.env,
            files,
            batch: settings.batch.get(),
            key: key.to_vec(),
        };
        let (work, key) = match mode {
            Mode::Rows => {
                let driver = cx.driver();
                let filter = cx.filter();
                let (shape, key) = shape(cx, &driver?)?;
                let stage = Arc::new(stage(files?, &key));
                (Work::Rows(RowWork { stage, shape, filter: filter? }), key)
            }
            Mode::Table => {
                let plain = cx.no_row_settings("command");
                let key = cx.own_key(&Columns::Unknown)?;
                let apart = told_apart(cx);
                let stage = Arc::new(stage(files?, &key));
                (plain && apart).then_some((Work::Table(stage), key))?
            }
        };
        Some(Compiled { binaries, ..cx.compiled(work, Columns::Unknown, key) })
    }
}

/// What rows carry over, and their key. Of the stage's own `key`, the input has some fields and the
/// program makes the others: a row that becomes many needs one.
fn shape(cx: &mut Compile<'_>, input: &InputInfo) -> Option<(RowShape, Vec<String>)> {
    if cx.decl.common.key.is_none() {
        let shape = cx.row_shape(input, true)?;
        let key = shape.key.clone();
        return Some((shape, key));
    }
    let key = cx.own_key(&Columns::Unknown)?;
    let mut shape = cx.row_shape(input, false)?;
    let of_input = |field: &&String| match &input.columns {
        Columns::Known(_) => input.columns.has(field),
        Columns::Unknown => input.key.contains(field),
    };
    shape.key = key.iter().filter(of_input).cloned().collect();
    shape.keep.retain(|field| !shape.key.contains(field));
    Some((shape, key))
}

/// Whether each input has a variable of its own.
fn told_apart(cx: &mut Compile<'_>) -> bool {
    let mut seen = HashSet::new();
    for InputInfo { name, .. } in cx.inputs.clone() {
        let variable = variable(&name);
        if !seen.insert(variable.clone()) {
            let message = format!("two inputs of stage `{}` become `{variable}`", cx.decl.name);
            cx.fail(cx.span(), message, Some("rename one".into()));
            return false;
        }
    }
    true
}

/// The environment variable that names an input's file.
fn variable(input: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    format!("FLOW_INPUT_{}", input.chars().map(plain).collect::<String>())
}

/// A file that the program depends on. One that is text is shown in the graph.
fn file(cx: &mut Compile<'_>, path: &Spanned<String>) -> Option<File> {
    let name = path.get_ref();
    let bytes = cx.manifest.project.resolve(name).map(std::fs::read);
    match bytes {
        Ok(Ok(bytes)) => {
            let is_text = std::str::from_utf8(&bytes).is_ok();
            if is_text {
                cx.read(path)?;
            }
            Some(File { path: name.clone(), digest: Digest::of(&bytes), is_text })
        }
        // Told with what was probably meant.
        Ok(Err(_)) => {
            cx.read(path)?;
            Some(File { path: name.clone(), digest: Digest::of(b""), is_text: true })
        }
        Err(what) => {
            let message = format!("`{name}` cannot be read: {what}");
            cx.fail(path.span(), message, Some(INSIDE.into()));
            None
        }
    }
}

impl Stage {
    fn describe(&self, components: &mut dyn Components) {
        components.add("run", &serde_json::json!(self.run).to_string());
        components.add("mode", if self.mode == Mode::Rows { "rows" } else { "table" });
        components.add("rows are told apart by", &self.key.join(","));
        for name in &self.env {
            // A value may be a secret: only enough of its digest goes on to tell that it changed.
            let value = std::env::var_os(name);
            let digest = value.map(|value| Digest::of(value.as_encoded_bytes()).short());
            components.add(&format!("env {name}"), digest.as_deref().unwrap_or("not set"));
        }
        for File { path, digest, .. } in &self.files {
            components.add(&format!("file {path}"), &digest.hex());
        }
    }

    /// Starts the program, confined to what the manifest names of the environment. It leads a
    /// process group of its own, so that what it starts can be ended with it.
    fn start(
        &self,
        world: &World,
        inputs: &[(String, PathBuf)],
        stdin: Stdio,
    ) -> Result<Child, StageError> {
        let mut command = tokio::process::Command::new(found(&self.run[0]));
        command
            .arg0(&self.run[0])
            .args(&self.run[1..])
            .current_dir(&world.project.root)
            .env_clear()
            .env("FLOW_SCRATCH", absolute(&world.scratch))
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        for name in ["PATH", "HOME"].into_iter().chain(self.env.iter().map(String::as_str)) {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        for (name, path) in inputs {
            command.env(variable(name), absolute(path));
        }
        command.spawn().map_err(|error| {
            let program = &self.run[0];
            let help = match error.kind() {
                std::io::ErrorKind::NotFound => {
                    "; install it, or write where it is in `run`".to_owned()
                }
                std::io::ErrorKind::PermissionDenied => {
                    format!("; `chmod +x {program}` lets it run")
                }
                _ => String::new(),
            };
            StageError::Failed(format!("`{program}` cannot be started: {error}{help}"))
        })
    }

    /// Runs the program to its end: `rows_in` go to its stdin, each line of its stdout to `line`.
    async fn to_end(
        &self,
        world: &World,
        mut child: Child,
        rows_in: impl Iterator<Item = Result<Row, StageError>> + Send,
        mut line: impl FnMut(u64, &str) -> Result<(), StageError> + Send,
    ) -> Result<(), StageError> {
        let group = Group(child.id());
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or_else(|| lost("stdout"))?;
        let mut stderr = child.stderr.take().ok_or_else(|| lost("stderr"))?;
        let feed = async {
            let Some(mut stdin) = stdin else {
                return Ok(());
            };
            for row in rows_in {
                let mut text = serde_json::to_vec(&row?).map_err(std::io::Error::from)?;
                text.push(b'\n');
                match stdin.write_all(&text).await {
                    // A program need not read all that it is given.
                    Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => break,
                    written => written?,
                }
            }
            Ok::<_, StageError>(())
        };
        let line = &mut line;
        let collect = async {
            let mut lines = BufReader::new(stdout);
            let mut text = Vec::new();
            for number in 1.. {
                text.clear();
                if lines.read_until(b'\n', &mut text).await? == 0 {
                    break;
                }
                if text.last() != Some(&b'\n') {
                    // Whether it was cut short is known once the program has ended.
                    return Ok(Some((number, text)));
                }
                take_line(number, &text, line)?;
            }
            Ok::<_, StageError>(None)
        };
        let listen = async {
            let mut kept = Vec::new();
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = stderr.read(&mut piece).await {
                kept.extend_from_slice(&piece[..length]);
                let over = kept.len().saturating_sub(STDERR_KEPT);
                kept.drain(..over);
            }
            String::from_utf8_lossy(&kept).trim().to_owned()
        };
        let stopped = async {
            while !world.transport.is_stopped() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let whole = async {
            let talk = async {
                let told = tokio::try_join!(feed, collect);
                if told.is_err() {
                    // It is not waited for: what it makes cannot be used.
                    group.end();
                }
                told
            };
            let ended = async {
                let status = child.wait().await;
                // What it left behind may hold its output open for ever.
                group.end();
                status
            };
            tokio::join!(talk, listen, ended)
        };
        let (told, said, status) = tokio::select! {
            done = whole => done,
            () = tokio::time::sleep(self.timeout) => {
                let seconds = self.timeout.as_secs();
                return Err(StageError::Failed(format!(
                    "`{}` did not end within {seconds} s; raise `timeout`", self.run[0]
                )));
            }
            () = stopped => {
                let why = world.transport.stopped().unwrap_or(Stop::Interrupted);
                return Err(StageError::Call(CallError::Stopped(why)));
            }
        };
        let ((), unfinished) = told?;
        let status = status?;
        if !status.success() {
            let said = if said.is_empty() { String::new() } else { format!(": {said}") };
            return Err(StageError::Failed(format!("`{}` ended with {status}{said}", self.run[0])));
        }
        unfinished.map_or(Ok(()), |(number, text)| take_line(number, &text, line))
    }
}

/// Hands on a line of the output that is not blank.
fn take_line(
    number: u64,
    bytes: &[u8],
    line: &mut impl FnMut(u64, &str) -> Result<(), StageError>,
) -> Result<(), StageError> {
    let text = std::str::from_utf8(bytes).map_err(|_| {
        StageError::Failed(format!("line {number} of its output is not UTF-8 text"))
    })?;
    match text.trim() {
        "" => Ok(()),
        text => line(number, text),
    }
}

/// The file of a program that is named without its folder, as PATH has it. Looked for here, it is
/// started without a copy of this process being made first, which takes long where that is large.
fn found(program: &str) -> PathBuf {
    let plain = PathBuf::from(program);
    if program.contains('/') {
        return plain;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let runs = |file: &PathBuf| {
        use std::os::unix::fs::PermissionsExt;
        file.metadata().is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
    };
    // Where it is not found, starting it says so.
    let folders = std::env::split_paths(&path).filter(|folder| folder.is_absolute());
    folders.map(|folder| folder.join(program)).find(runs).unwrap_or(plain)
}

fn lost(what: &str) -> StageError {
    StageError::Failed(format!("the program has no {what}"))
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// A program with all that it started; none of it outlives the stage.
struct Group(Option<u32>);

impl Group {
    fn end(&self) {
        let pid = self.0.and_then(|id| rustix::process::Pid::from_raw(id as i32));
        if let Some(pid) = pid {
            // It may have ended by itself by now.
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
    }
}

fn object(number: u64, text: &str) -> Result<Row, StageError> {
    match serde_json::from_str(text) {
        Ok(Value::Object(row)) => Ok(row),
        _ => Err(no_row(number, text)),
    }
}

fn no_row(number: u64, text: &str) -> StageError {
    let shown: String = text.chars().take(200).collect();
    StageError::Failed(format!(
        "line {number} of its output is no JSON object: {shown}; a row is a line like {{\"id\": 1}}"
    ))
}

impl TableStage for Stage {
    fn describe(&self, components: &mut dyn Components) {
        self.describe(components);
    }

    fn make<'a>(
        &'a self,
        inputs: Vec<Input>,
        mut sink: Sink,
        world: &'a World,
    ) -> BoxFuture<'a, Result<Sink, StageError>> {
        Box::pin(async move {
            let mut files = Vec::new();
            for (at, input) in inputs.iter().enumerate() {
                let path = world.scratch.join(format!("input-{at}.jsonl"));
                let mut file = std::io::BufWriter::new(std::fs::File::create(&path)?);
                let rows =
                    world.store.rows(&input.artifact).map(|row| row.map_err(StageError::from));
                write_table(Format::Jsonl, &[], rows, &mut file)?;
                std::io::Write::flush(&mut file)?;
                files.push((input.name.clone(), path));
            }
            let stdin = match &files[..] {
                [(_, path)] => Stdio::from(std::fs::File::open(path)?),
                _ => Stdio::null(),
            };
            let child = self.start(world, &files, stdin)?;
            let line = |number, text: &str| sink.push(&object(number, text)?);
            self.to_end(world, child, std::iter::empty(), line).await?;
            Ok(sink)
        })
    }
}

impl RowStage for Stage {
    fn describe(&self, components: &mut dyn Components) {
        self.describe(components);
    }

    fn ask(&self, row: &Row) -> Result<Ask, RowError> {
        let text = serde_json::to_string(row).expect("rows always serialize");
        Ok(Ask { text, ..Ask::default() })
    }

    fn batch(&self) -> usize {
        self.batch
    }

    fn concurrency(&self) -> usize {
        std::thread::available_parallelism().map_or(1, usize::from)
    }

    fn calls(&self) -> bool {
        false
    }

    fn run<'a>(
        &'a self,
        rows: &'a [(Row, Ask)],
        _asking: &'a Asking,
        world: &'a World,
    ) -> BoxFuture<'a, Vec<Result<Answered, RowError>>> {
        Box::pin(async move {
            match self.batch_of(rows, world).await {
                Ok(results) => {
                    let made = results.into_iter().map(Made::Rows);
                    made.map(|made| Ok(made.into())).collect()
                }
                Err(RowError::Stage(error)) => {
                    // The first row carries the reason that stops the stage; the rest follow it.
                    let mut error = Some(error);
                    rows.iter()
                        .map(|_| match error.take() {
                            Some(error) => Err(RowError::Stage(error)),
                            None => Err(RowError::Passing("its batch did not end".into())),
                        })
                        .collect()
                }
                Err(error) => {
                    let why = error.to_string();
                    rows.iter().map(|_| Err(RowError::Passing(why.clone()))).collect()
                }
            }
        })
    }
}

impl Stage {
    async fn batch_of(
        &self,
        rows: &[(Row, Ask)],
        world: &World,
    ) -> Result<Vec<Vec<Row>>, RowError> {
        // What cannot be started for these rows cannot be started for any.
        let child = self.start(world, &[], Stdio::piped())?;
        let mut results: Vec<Vec<Row>> = Vec::new();
        let wrong_count = |lines: String| {
            StageError::Failed(format!(
                "`{}` was given {} rows and wrote {lines} lines; one line a row is wanted",
                self.run[0],
                rows.len(),
            ))
        };
        let rows_in = rows.iter().map(|(row, _)| Ok(row.clone()));
        let ended = self.to_end(world, child, rows_in, |number, text| {
            if results.len() == rows.len() {
                return Err(wrong_count("more".into()));
            }
            let made = match serde_json::from_str(text) {
                Ok(Value::Object(row)) => vec![row],
                Ok(Value::Array(values)) => {
                    let row = |value| match value {
                        Value::Object(row) => Ok(row),
                        _ => Err(no_row(number, text)),
                    };
                    values.into_iter().map(row).collect::<Result<_, _>>()?
                }
                _ => return Err(no_row(number, text)),
            };
            results.push(made);
            Ok(())
        });
        ended.await.map_err(|error| match error {
            StageError::Failed(why) => RowError::Passing(why),
            error => RowError::Stage(error),
        })?;
        match results.len() == rows.len() {
            true => Ok(results),
            false => Err(RowError::Passing(wrong_count(results.len().to_string()).to_string())),
        }
    }
}
