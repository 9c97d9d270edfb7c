//! A pipeline planned and run in two lines, for programs: [`Pipeline::plan`], then [`Planned::run`],
//! whose events come as a stream.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::task::{Context, Poll};

use futures::Stream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;

use super::event::{Event, Summary};
use super::look::{Look, LookError};
use super::plan::{Plan, plan};
use super::run::{RunError, RunHandle, RunOptions, run};
use super::select::{NoTarget, select};
use crate::pipeline::Pipeline;

/// A pipeline, and what a run of it would do.
pub struct Planned {
    pipeline: Arc<Pipeline>,
    options: RunOptions,
    plan: Plan,
}

impl Pipeline {
    /// What a run with `options` would do. It calls nobody and writes nothing. Options that choose no
    /// stage mean all of them.
    pub fn plan(self, mut options: RunOptions) -> Result<Planned, LookError> {
        if options.chosen.is_empty() {
            options.chosen = (0..self.stages.len()).collect();
        }
        let plan = plan(&Look::new(&self)?, &options.chosen, &options.choices)?;
        Ok(Planned { pipeline: Arc::new(self), options, plan })
    }

    /// Options for a run of `targets` and what they need: stages or outputs, as after `flow run`.
    pub fn options(&self, targets: &[&str]) -> Result<RunOptions, NoTarget> {
        let targets: Vec<String> = targets.iter().map(|target| (*target).to_owned()).collect();
        Ok(RunOptions { chosen: select(self, &targets, false)?, ..RunOptions::default() })
    }
}

impl Planned {
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// A part for each stage, and the sum of what they would ask and spend.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Begins the run, on the tokio runtime that this is called on.
    pub fn run(self) -> Running {
        let (sender, events) = unbounded_channel();
        let handle: Arc<OnceLock<RunHandle>> = Arc::default();
        let begun = handle.clone();
        let (pipeline, options) = (self.pipeline, self.options);
        let task = tokio::spawn(async move {
            // The means to stop the run outlive it, and what tells of events with them: the stream is
            // closed when the run ends, not when nobody is left who could tell.
            let sender = Arc::new(Mutex::new(Some(sender)));
            let open = sender.clone();
            let tell = move |event| {
                if let Some(sender) = &*lock(&open) {
                    // Whether somebody listens changes nothing.
                    let _ = sender.send(event);
                }
            };
            let ended = run(pipeline, &options, tell, |handle| drop(begun.set(handle))).await;
            lock(&sender).take();
            ended
        });
        Running { events, handle, task }
    }
}

/// A run that goes on: a stream of its events, which ends when it does.
pub struct Running {
    events: UnboundedReceiver<Event>,
    handle: Arc<OnceLock<RunHandle>>,
    task: JoinHandle<Result<Summary, RunError>>,
}

impl Running {
    /// From now on nothing new is asked; what is under way lands and is stored.
    pub fn interrupt(&self) {
        if let Some(handle) = self.handle.get() {
            handle.interrupt();
        }
    }

    /// Waits for the end of the run.
    ///
    /// # Panics
    ///
    /// Where the run itself did.
    pub async fn summary(self) -> Result<Summary, RunError> {
        self.task.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Stream for Running {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.events.poll_recv(context)
    }
}
