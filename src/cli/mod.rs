//! The command line: one file a subcommand, and what they share.

mod accept;
mod cache;
mod cassette;
mod check;
mod diff;
mod graph;
mod log;
mod plan;
mod progress;
mod run;
mod schema;
mod status;
mod style;
mod what;
mod why;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgAction, Args, Parser, Subcommand};

use crate::manifest::{Manifest, Problems};
use crate::pipeline::{LoadOptions, Pipeline};
use style::Style;

/// How a command ended; its number is the process's exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All is up to date, or what was asked is done.
    Done = 0,
    /// Rows or stages failed.
    Incomplete = 1,
    /// The manifest, a file that it names, or the command line is wrong.
    Wrong = 2,
    /// A budget was reached: so many calls, so much money.
    OverBudget = 3,
    /// A fault of ours.
    Fault = 70,
    /// Ended by Ctrl-C.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// `make` for studies that read GitHub and ask language models.
#[derive(Parser)]
#[command(name = "flow", version, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    shared: Shared,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Args)]
struct Shared {
    /// Use the settings of `[profiles.NAME]`
    #[arg(long, global = true, value_name = "NAME")]
    profile: Option<String>,
    /// Say nothing but errors
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Say more (-v: what is done, -vv: what is sent)
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
    /// The manifest
    #[arg(short, long, global = true, value_name = "FILE", default_value = "pipeline.toml")]
    file: PathBuf,
    /// Work as if started in FOLDER
    #[arg(short = 'C', long = "directory", global = true, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Bring the outputs up to date
    Run(run::Arguments),
    /// Tell what a run would do, and what it would cost; calls nobody
    Plan(plan::Arguments),
    /// Tell what changed since a stage last ran, or where a row comes from
    Why(why::Arguments),
    /// Tell how each stage stands; also while a run works
    Status(status::Arguments),
    /// Find every mistake that can be known without a call or a program run
    Check(check::Arguments),
    /// Show what depends on what
    Graph(graph::Arguments),
    /// List the runs so far
    Log(log::Arguments),
    /// Show which rows differ between what two runs left, and from what to what
    Diff(diff::Arguments),
    /// Tell what the store holds, check it, forget a stage, collect what nothing needs
    Cache(cache::Arguments),
    /// Take a stage's table as up to date without running it
    Accept(accept::Arguments),
    /// Write every stored call to a file that a profile's `cassette` can name
    Cassette(cassette::Arguments),
    /// Print the JSON Schema of the manifest, for editors
    Schema(schema::Arguments),
}

impl Shared {
    /// Reads the pipeline; its mistakes go to stderr.
    fn load(&self, style: &Style) -> Result<Pipeline, Exit> {
        self.load_under(self.profile.as_deref(), style)
    }

    /// Reads the pipeline under a profile, whichever was chosen.
    fn load_under(&self, profile: Option<&str>, style: &Style) -> Result<Pipeline, Exit> {
        Pipeline::load(&self.options(profile)).map_err(|problems| {
            style.warn(&problems.render(style.color));
            Exit::Wrong
        })
    }

    fn options(&self, profile: Option<&str>) -> LoadOptions {
        let profile = profile.map(str::to_owned);
        LoadOptions { file: self.file.clone(), profile, ..LoadOptions::default() }
    }

    /// The folder of the store, also where the manifest has mistakes: the history is told whatever
    /// stands in it now.
    fn cache(&self, style: &Style) -> Result<PathBuf, Exit> {
        match Manifest::read(&self.file) {
            Ok((project, _)) => Ok(project.cache()),
            Err(problem) => {
                let mut problems = Problems::default();
                problems.add(problem);
                style.warn(&problems.render(style.color));
                Err(Exit::Wrong)
            }
        }
    }
}

/// An argument that counts something: 1 or more.
fn from_one(text: &str) -> Result<u64, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or("it is no whole number from 1 on".into())
}

/// The whole program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let style = Style::new(cli.shared.quiet);
    start_log(cli.shared.verbose);
    if let Some(folder) = &cli.shared.folder
        && let Err(error) = std::env::set_current_dir(folder)
    {
        let folder = folder.display();
        style.error(&format!("cannot work in `{folder}`: {error}; name a folder with `-C`"));
        return Exit::Wrong.into();
    }
    let work = std::panic::AssertUnwindSafe(|| match &cli.command {
        Command::Run(arguments) => run::main(arguments, &cli.shared, &style),
        Command::Plan(arguments) => plan::main(arguments, &cli.shared, &style),
        Command::Why(arguments) => why::main(arguments, &cli.shared, &style),
        Command::Status(arguments) => status::main(arguments, &cli.shared, &style),
        Command::Accept(arguments) => accept::main(arguments, &cli.shared, &style),
        Command::Check(arguments) => check::main(arguments, &cli.shared, &style),
        Command::Graph(arguments) => graph::main(arguments, &cli.shared, &style),
        Command::Log(arguments) => log::main(arguments, &cli.shared, &style),
        Command::Diff(arguments) => diff::main(arguments, &cli.shared, &style),
        Command::Cache(arguments) => cache::main(arguments, &cli.shared, &style),
        Command::Cassette(arguments) => cassette::main(arguments, &cli.shared, &style),
        Command::Schema(arguments) => schema::main(arguments, &style),
    });
    let exit = std::panic::catch_unwind(work).unwrap_or_else(|_| {
        style.error("this is a fault of flow itself; what was stored is kept, run again to go on");
        Exit::Fault
    });
    exit.into()
}

/// Logs go to stderr; `FLOW_LOG` chooses in detail what (`flow=trace`).
fn start_log(verbose: u8) {
    use tracing_subscriber::EnvFilter;
    let level = match verbose {
        0 => "flow=warn",
        1 => "flow=info",
        _ => "flow=debug",
    };
    let filter = EnvFilter::try_from_env("FLOW_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .init();
}
