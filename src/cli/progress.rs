//! What is shown while a run goes on: a line a running stage on a terminal, plain lines elsewhere.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::style::{Style, count, grouped, minute};
use crate::engine::{Event, StageSummary, UnderWay};
use crate::manifest::clean;

/// Without a terminal a stage that works tells so often how far it is.
const TELL_AGAIN: Duration = Duration::from_secs(30);

/// Reads the events of a run. Clones share what is shown.
#[derive(Clone)]
pub(super) struct Progress {
    quiet: bool,
    terminal: bool,
    shown: Arc<Shown>,
}

struct Shown {
    bars: MultiProgress,
    stages: Mutex<HashMap<String, Line>>,
}

/// A stage that works.
struct Line {
    bar: ProgressBar,
    failed: u64,
    known: u64,
    calls: u64,
    calls_cached: u64,
    cost_usd: f64,
    told: Instant,
}

impl Line {
    /// What it has asked, spent and failed at so far.
    fn spent(&self) -> String {
        let mut parts = Vec::new();
        if self.known > 0 {
            parts.push(format!("{} known", grouped(self.known)));
        }
        if self.calls > 0 {
            parts.push(count(self.calls, "call"));
        }
        if self.calls_cached > 0 {
            parts.push(format!("{} recorded", grouped(self.calls_cached)));
        }
        if self.cost_usd > 0.0 {
            parts.push(format!("${:.4}", self.cost_usd));
        }
        if self.failed > 0 {
            parts.push(format!("{} failed", grouped(self.failed)));
        }
        parts.join(", ")
    }

    /// How far it is, where there is no terminal.
    fn plain(&self, stage: &str) -> String {
        let done = self.bar.position();
        let mut line = match self.bar.length() {
            Some(rows) => format!("{stage}: {} of {}", grouped(done), count(rows, "row")),
            None => format!("{stage}: {} so far", count(done, "row")),
        };
        let left = self.bar.eta().as_secs();
        if self.bar.length().is_some() && left > 0 {
            line.push_str(&format!(", about {left} s left"));
        }
        let spent = self.spent();
        if !spent.is_empty() {
            line.push_str(&format!(", {spent}"));
        }
        line
    }
}

impl Progress {
    pub fn new(style: &Style) -> Progress {
        let hidden = style.quiet || !style.terminal;
        // At most ten times a second: drawing must not cost what it measures.
        let target = match hidden {
            true => ProgressDrawTarget::hidden(),
            false => ProgressDrawTarget::stderr_with_hz(10),
        };
        let bars = MultiProgress::with_draw_target(target);
        let shown = Shown { bars, stages: Mutex::default() };
        Progress { quiet: style.quiet, terminal: style.terminal, shown: Arc::new(shown) }
    }

    pub fn see(&self, event: Event) {
        match event {
            Event::WaitingForRun { holder } => {
                self.line(&format!("waiting for another run to end (process {holder})"));
            }
            Event::StageStarted { stage, rows } => {
                tracing::info!(stage, rows, "started");
                self.start(stage, rows);
            }
            Event::RowDone { stage, known, calls, calls_cached, cost_usd } => {
                self.step(&stage, |line| {
                    if known {
                        line.known += 1;
                        // What was there before says nothing of the pace.
                        line.bar.reset_eta();
                    }
                    (line.calls, line.calls_cached, line.cost_usd) =
                        (calls, calls_cached, cost_usd);
                });
            }
            Event::RowFailed { stage, key, reason } => {
                tracing::info!(stage, key = clean(&key), reason = clean(&reason), "row failed");
                self.step(&stage, |line| line.failed += 1);
            }
            Event::Batches { stage, under_way } => self.batches(&stage, under_way),
            Event::Waiting { server, why, wait } => {
                tracing::info!(server, why = clean(&why), seconds = wait.as_secs_f64(), "waiting");
                self.wait(&server, &clean(&why), wait);
            }
            Event::Note { stage, text } => {
                tracing::info!(stage, text = clean(&text), "note");
                self.line(&format!("{stage}: {}", clean(&text)));
            }
            Event::StageEnded(summary) => {
                let StageSummary { name, state, rows, calls, cost_usd, reason, .. } = &summary;
                let reason = clean(reason.as_deref().unwrap_or_default());
                tracing::info!(
                    stage = name,
                    state = state.as_str(),
                    rows,
                    calls,
                    cost_usd,
                    reason,
                    "ended"
                );
                let line = self.stages().remove(&summary.name);
                if let Some(line) = line {
                    line.bar.finish_and_clear();
                }
            }
        }
    }

    /// A line above the bars.
    pub fn line(&self, text: &str) {
        if self.quiet {
            return;
        }
        match self.terminal {
            // A terminal that is gone cannot be told, and nobody is there to tell.
            true => drop(self.shown.bars.println(text)),
            false => {
                use std::io::Write;
                let _ = writeln!(std::io::stderr(), "{text}");
            }
        }
    }

    pub fn end(&self) {
        for (_, line) in self.stages().drain() {
            line.bar.finish_and_clear();
        }
    }

    fn start(&self, stage: String, rows: Option<u64>) {
        let template = match rows {
            Some(_) => "  {prefix:<16} {bar:12} {pos}/{len}  {pace}  {wide_msg}",
            None => "  {prefix:<16} {spinner} {pos} rows so far  {elapsed}  {wide_msg}",
        };
        let rate = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            let seconds = state.eta().as_secs();
            // What cannot be drawn is not drawn. Before the first row is done nobody knows the pace.
            let _ = match (state.pos(), state.per_sec()) {
                (0, _) => write!(out, "{} s so far", state.elapsed().as_secs()),
                (_, pace) if seconds < 120 => write!(out, "{pace:.1}/s  {seconds} s left"),
                (_, pace) => write!(out, "{pace:.1}/s  {} min left", seconds / 60),
            };
        };
        let style = ProgressStyle::with_template(template)
            .expect("the templates are well formed")
            .with_key("pace", rate);
        if let Some(line) = self.stages().get(&stage) {
            // Its rows ran ahead; now it is known how many there are.
            line.bar.set_style(style);
            rows.into_iter().for_each(|rows| line.bar.set_length(rows));
            return;
        }
        let bar = match rows {
            Some(rows) => ProgressBar::new(rows),
            None => ProgressBar::new_spinner(),
        };
        let bar = self.shown.bars.add(bar.with_style(style).with_prefix(stage.clone()));
        if self.terminal && !self.quiet {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        let (calls, calls_cached, cost_usd) = (0, 0, 0.0);
        let told = Instant::now();
        self.stages()
            .insert(stage, Line { bar, failed: 0, known: 0, calls, calls_cached, cost_usd, told });
    }

    /// Tells how long a pause takes and when it is over, and counts it down.
    fn wait(&self, server: &str, why: &str, wait: Duration) {
        let seconds = wait.as_secs_f64().ceil();
        let over = jiff::Timestamp::now() + jiff::SignedDuration::from_secs_f64(seconds);
        let over = over.strftime("%H:%M:%S UTC");
        self.line(&format!("{server}: waiting {seconds} s, until {over} ({why})"));
        let end = Instant::now() + wait;
        let left = move |_: &ProgressState, out: &mut dyn std::fmt::Write| {
            let left = end.saturating_duration_since(Instant::now()).as_secs_f64().ceil();
            let _ = write!(out, "{left} s");
        };
        if let (true, false, Ok(runtime)) =
            (self.terminal, self.quiet, tokio::runtime::Handle::try_current())
        {
            let style = ProgressStyle::with_template("  {prefix:<24} goes on in {left}")
                .expect("the template is well formed")
                .with_key("left", left);
            let bar = ProgressBar::new_spinner().with_style(style).with_prefix(server.to_owned());
            let bar = self.shown.bars.add(bar);
            bar.enable_steady_tick(Duration::from_millis(200));
            runtime.spawn(async move {
                tokio::time::sleep(wait).await;
                bar.finish_and_clear();
            });
        }
    }

    /// Tells how far the batches are that a stage waits for.
    fn batches(&self, stage: &str, under_way: UnderWay) {
        let UnderWay { batches, done, requests, since } = under_way;
        let done = format!("{} of {} answered", grouped(done), count(requests, "request"));
        match batches {
            0 => self.line(&format!("{stage}: {done} in batches")),
            _ => self.line(&format!(
                "{stage}: waiting for {} since {}, {done}",
                count(batches, "batch"),
                minute(since)
            )),
        }
    }

    /// A row of a stage is done, or failed.
    fn step(&self, stage: &str, note: impl FnOnce(&mut Line)) {
        let told = {
            let mut stages = self.stages();
            let Some(line) = stages.get_mut(stage) else { return };
            note(line);
            line.bar.inc(1);
            match self.terminal {
                true => {
                    line.bar.set_message(line.spent());
                    None
                }
                false if line.told.elapsed() >= TELL_AGAIN => {
                    line.told = Instant::now();
                    Some(line.plain(stage))
                }
                false => None,
            }
        };
        told.into_iter().for_each(|text| self.line(&text));
    }

    fn stages(&self) -> std::sync::MutexGuard<'_, HashMap<String, Line>> {
        self.shown.stages.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
