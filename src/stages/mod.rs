//! The stage kinds: one file a kind, the traits they share, and the registry that names them all.
//!
//! A kind compiles what a user wrote into a stage, telling every mistake; a stage then asks and
//! answers row by row, or makes a whole table at once. What its result depends on it tells through
//! [`Components`], the one source of both the fingerprint and its explanation.

mod agreement;
mod calls;
mod command;
mod compile;
mod expect;
mod functions;
mod github;
mod llm;
mod report;
mod sample;
mod seen;
mod sink;
mod split;
mod sql;

pub use compile::{Columns, Compile, InputInfo, RowShape};
pub use expect::Expect;
pub use seen::Half;
pub use sink::Sink;
pub use sql::{QueryError, query_by_name, rows_where, table_name};

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
pub use schemars::{Schema, SchemaGenerator};
use thiserror::Error;

use crate::clients::{Asking, CallError, Chat, Completion, Github, Request, Transport};
use crate::manifest::{Project, SourceText};
use crate::programs::Condition;
use crate::store::{Artifact, Made, Store, StoreError};
use crate::table::Row;

/// Every kind there is here.
pub const REGISTRY: [&dyn Kind; 9] = [
    &github::Github,
    &llm::Llm,
    &sql::Sql,
    &command::Command,
    &split::Split,
    &sample::Sample,
    &agreement::Agreement,
    &calls::Calls,
    &report::ReportKind,
];

/// The kinds that a manifest may name: those that there are, and a program's own.
#[derive(Clone)]
pub struct Kinds(Vec<&'static dyn Kind>);

impl Default for Kinds {
    fn default() -> Kinds {
        Kinds(REGISTRY.to_vec())
    }
}

impl std::fmt::Debug for Kinds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

impl Kinds {
    /// With one more. It goes before one of the same name.
    pub fn with(mut self, kind: &'static dyn Kind) -> Kinds {
        self.0.insert(0, kind);
        self
    }

    /// The kind of that name.
    pub fn find(&self, name: &str) -> Option<&'static dyn Kind> {
        self.0.iter().copied().find(|kind| kind.name() == name)
    }

    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|kind| kind.name())
    }
}

/// A kind of stage.
pub trait Kind: Sync {
    /// As it stands after `kind =`.
    fn name(&self) -> &'static str;

    /// Raised when the same definition would make other rows: what was made before is then made
    /// again.
    fn version(&self) -> u32;

    /// What `[stages.NAME]` may hold beside what all stages have, for editors.
    fn settings(&self, generator: &mut SchemaGenerator) -> Schema;

    /// Whether its rows are documents, each to be written as a file of its own.
    fn makes_documents(&self) -> bool {
        false
    }

    /// Reads the stage's settings. Mistakes go to `cx`; with any there is no stage.
    fn compile(&self, cx: &mut Compile<'_>) -> Option<Compiled>;
}

/// A stage, ready to run.
pub struct Compiled {
    pub work: Work,
    /// What is known of the rows that it will make.
    pub columns: Columns,
    /// The fields that tell its rows apart.
    pub key: Vec<String>,
    /// The files that it reads: nodes of the graph beside the stages.
    pub sources: Vec<Arc<SourceText>>,
    /// Files that it reads and that are no text, by their paths.
    pub binaries: Vec<String>,
    /// The params that it names.
    pub params: BTreeSet<String>,
    /// The secrets that its calls use.
    pub secrets: Vec<Secret>,
}

/// An environment variable that a stage's calls need, and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    pub variable: String,
    /// `model \`small\``, `GitHub's GraphQL`.
    pub of: String,
    /// Without it no call can succeed.
    pub required: bool,
}

/// How a stage works.
#[derive(Clone)]
pub enum Work {
    /// Row by row, driven by its one input.
    Rows(RowWork),
    /// Once, from all of its inputs.
    Table(Arc<dyn TableStage>),
}

/// A row stage with what the driver does for it.
#[derive(Clone)]
pub struct RowWork {
    pub stage: Arc<dyn RowStage>,
    pub shape: RowShape,
    /// Rows for which it is false are passed over.
    pub filter: Option<Arc<Condition>>,
}

/// Takes the parts of what a result depends on, one by one. Implemented once as a hasher and once
/// as readable text, so that an explanation cannot drift from what decides.
pub trait Components {
    /// A part with its name: `("prompt", "prompts/classify.md", text)` is told as
    /// `add("prompt", text)`.
    fn add(&mut self, name: &str, value: &str);
}

/// What a row asks: requests that are known before anything is sent. Together with the row's key
/// and its kept fields they decide whether its result is known already.
#[derive(Debug, Default)]
pub struct Ask {
    pub requests: Vec<Request>,
    /// For what asks nobody: the text that the result follows from.
    pub text: String,
    /// How many tokens templates left out of texts that are too long.
    pub tokens_cut: u64,
}

/// Whom a stage asks.
pub enum Server<'a> {
    Github {
        client: &'a Github,
        /// Which of its quotas are used: `core`, `search`, `graphql`.
        resources: BTreeSet<&'static str>,
    },
    Model {
        /// As `[models]` has it.
        name: &'a str,
        chat: &'a Chat,
    },
}

/// A stage that works row by row.
pub trait RowStage: Send + Sync {
    /// Tells all that its rows depend on, beside the rows that go in.
    fn describe(&self, components: &mut dyn Components);

    /// What `row` asks. Sends nothing.
    fn ask(&self, row: &Row) -> Result<Ask, RowError>;

    /// Whether its rows stand on answers to calls.
    fn calls(&self) -> bool {
        true
    }

    /// Whether it is known what a call costs at the most.
    fn is_bounded(&self) -> bool {
        true
    }

    /// Whether each row becomes a list: as many rows as there turn out to be.
    fn is_list(&self) -> bool {
        false
    }

    /// Whether what its rows ask goes in the provider's batches.
    fn in_batches(&self) -> bool {
        false
    }

    /// How old an answer may be before it is asked for again.
    fn max_age(&self) -> Option<Duration> {
        None
    }

    /// Whom it asks.
    fn servers(&self) -> Vec<Server<'_>> {
        Vec::new()
    }

    /// How many rows `run` takes at once, at the most.
    fn batch(&self) -> usize {
        1
    }

    /// How many batches may be under way at once.
    fn concurrency(&self) -> usize;

    /// The requests that `row`, which asks `ask`, will make, as far as recorded answers tell;
    /// `false` where there may be more.
    fn foresee(&self, ask: &Ask, _transport: &Transport) -> (Vec<Request>, bool) {
        (ask.requests.clone(), true)
    }

    /// What the answer of a model to `row` holds: its fields, or what is wrong with it; `None` where
    /// no model is asked.
    fn judged(&self, _row: &Row, _answer: &Completion) -> Option<Result<Row, Vec<String>>> {
        None
    }

    /// What each of `rows`, which `ask` accepted, makes, in the order of `rows`. The driver writes
    /// the carried fields ([`RowShape`]) before those that come out. Calls go by way of `asking`.
    fn run<'a>(
        &'a self,
        rows: &'a [(Row, Ask)],
        asking: &'a Asking,
        world: &'a World,
    ) -> BoxFuture<'a, Vec<Result<Answered, RowError>>>;
}

/// What a row made.
pub struct Answered {
    pub made: Made,
    /// Where somebody else answered than was asked. The result is then that of what was asked
    /// instead, and of nothing else: whoever was to answer is asked again in the next run.
    pub instead: Option<Instead>,
}

/// What was asked in the place of a row's own requests.
pub struct Instead {
    /// Who answered.
    pub by: String,
    pub ask: Ask,
}

impl From<Made> for Answered {
    fn from(made: Made) -> Answered {
        Answered { made, instead: None }
    }
}

/// A stage that makes its table at once.
pub trait TableStage: Send + Sync {
    /// Tells all that its table depends on, beside its inputs.
    fn describe(&self, components: &mut dyn Components);

    /// Makes the table: pushes every row to `sink`, in order, and gives it back.
    fn make<'a>(
        &'a self,
        inputs: Vec<Input>,
        sink: Sink,
        world: &'a World,
    ) -> BoxFuture<'a, Result<Sink, StageError>>;
}

/// Does what keeps a processor busy, so that other stages go on meanwhile.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StageError> + Send + 'static,
) -> Result<T, StageError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| StageError::Failed(format!("its work ended badly: {error}")))?
}

/// A table that a stage reads.
#[derive(Clone)]
pub struct Input {
    pub name: String,
    pub artifact: Artifact,
}

/// What a running stage may use.
pub struct World {
    pub transport: Arc<Transport>,
    pub store: Store,
    pub project: Project,
    /// Who asks GitHub, for results that depend on it; `None` where nobody is asked.
    pub asker: Option<String>,
    /// An empty folder of its own, removed when the stage ends.
    pub scratch: PathBuf,
    /// A trial: no list is read beyond so many rows.
    pub limit: Option<u64>,
    /// For what is worth saying but stops nothing.
    pub note: Arc<dyn Fn(String) + Send + Sync>,
    /// Hands a row on to the stages that read this one, before the table is there.
    pub offer: Arc<dyn Fn(&Row) + Send + Sync>,
}

/// Why a row has no result.
#[derive(Debug, Error)]
pub enum RowError {
    /// It failed in passing; the next run asks again.
    #[error("{0}")]
    Passing(String),
    /// An answer came and is no good; asked again only when told to, or when the request changes.
    #[error("{1}")]
    Answer(NoGood, String),
    /// The row itself cannot be asked about.
    #[error("{0}")]
    Row(String),
    /// No row of this stage can succeed.
    #[error(transparent)]
    Stage(#[from] StageError),
}

/// What is the matter with an answer that is no good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoGood {
    /// The model will not answer.
    Refusal,
    /// It was cut at its length limit.
    Length,
    /// The provider withheld it.
    ContentFilter,
    /// It says nothing.
    Empty,
    /// It never became what was asked for.
    Invalid,
    /// A list with fewer elements than it should have.
    Short,
    /// There is no such list.
    Missing,
}

impl NoGood {
    pub fn as_str(self) -> &'static str {
        match self {
            NoGood::Refusal => "refusal",
            NoGood::Length => "length",
            NoGood::ContentFilter => "content_filter",
            NoGood::Empty => "empty",
            NoGood::Invalid => "invalid",
            NoGood::Short => "short",
            NoGood::Missing => "missing",
        }
    }
}

impl RowError {
    /// The same, told with the part of the row that it is about.
    pub fn of_part(self, part: &str) -> RowError {
        match self {
            RowError::Passing(why) => RowError::Passing(format!("{part}{why}")),
            RowError::Answer(what, why) => RowError::Answer(what, format!("{part}{why}")),
            RowError::Row(why) => RowError::Row(format!("{part}{why}")),
            RowError::Stage(error) => RowError::Stage(error),
        }
    }
}

impl From<CallError> for RowError {
    fn from(error: CallError) -> RowError {
        match error {
            error if error.stops_the_stage() => RowError::Stage(StageError::Call(error)),
            CallError::Refused { .. } => RowError::Row(error.to_string()),
            CallError::Filtered(_) => RowError::Answer(NoGood::ContentFilter, error.to_string()),
            CallError::Short { .. } | CallError::TooMany { .. } | CallError::Missing { .. } => {
                RowError::Answer(NoGood::Short, error.to_string())
            }
            error => RowError::Passing(error.to_string()),
        }
    }
}

/// Why a stage ends without a table.
#[derive(Debug, Error)]
pub enum StageError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Failed(String),
}

impl From<std::io::Error> for StageError {
    fn from(error: std::io::Error) -> StageError {
        StageError::Store(error.into())
    }
}
