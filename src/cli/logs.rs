//! The logs of runs: in `data/logs/`, one readable and one for programs, with no secret in them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use tracing_subscriber::fmt::MakeWriter;

/// The logs of so many runs are kept.
const KEPT: usize = 20;

/// A log that is not open before it is known where the run's outputs are; what is told before is told
/// on stderr alone.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<OnceLock<Open>>);

struct Open {
    file: Mutex<File>,
    /// What never may stand in it.
    secrets: Vec<String>,
}

static READABLE: OnceLock<Log> = OnceLock::new();
static JSON: OnceLock<Log> = OnceLock::new();

/// The readable log, and the one for programs.
pub(super) fn both() -> [&'static Log; 2] {
    [&READABLE, &JSON].map(|log| log.get_or_init(Log::default))
}

/// Opens both in `folder`, for a run that begins now. A run goes on without where they cannot be.
pub(super) fn open(folder: &Path, secrets: Vec<String>) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let begun = jiff::Timestamp::now().strftime("%Y-%m-%dT%H-%M-%SZ").to_string();
    let name = format!("{begun}-{}", std::process::id());
    for (log, extension) in both().into_iter().zip(["log", "jsonl"]) {
        let file = Mutex::new(File::create(folder.join(format!("{name}.{extension}")))?);
        let _ = log.0.set(Open { file, secrets: secrets.clone() });
    }
    clear(folder)
}

/// Takes away the oldest. Their names begin with their time.
fn clear(folder: &Path) -> io::Result<()> {
    let mut logs = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_log = path.extension().is_some_and(|it| it == "log" || it == "jsonl");
        logs.extend(is_log.then_some(path));
    }
    logs.sort();
    let old = logs.len().saturating_sub(2 * KEPT);
    logs.iter().take(old).try_for_each(fs::remove_file)
}

/// Writes one event.
pub(super) struct Writer<'a>(Option<(MutexGuard<'a, File>, &'a [String])>);

impl<'a> MakeWriter<'a> for Log {
    type Writer = Writer<'a>;

    fn make_writer(&'a self) -> Writer<'a> {
        Writer(self.0.get().map(|open| {
            let file = open.file.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            (file, open.secrets.as_slice())
        }))
    }
}

impl Write for Writer<'_> {
    /// An event comes as a whole.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some((file, secrets)) = &mut self.0 {
            let mut text = String::from_utf8_lossy(bytes).into_owned();
            for secret in *secrets {
                text = text.replace(secret, "(secret)");
            }
            file.write_all(text.as_bytes())?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.as_mut().map_or(Ok(()), |(file, _)| file.flush())
    }
}
