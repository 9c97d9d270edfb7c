//! The command line: one file a subcommand, and what they share.

mod accept;
mod add;
mod cache;
mod cassette;
mod check;
mod completions;
mod diff;
mod export;
mod fmt;
mod graph;
mod init;
mod log;
mod logs;
mod plan;
mod progress;
mod query;
mod render;
mod rows;
mod run;
mod schema;
mod show;
mod status;
mod style;
mod try_;
mod verify;
mod watch;
mod what;
mod why;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand};

use crate::manifest::{Manifest, Problem, Problems, SourceText, did_you_mean};
use crate::pipeline::{LoadOptions, Pipeline};
use crate::store::write_aside;
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
#[command(after_help = "Examples:
  flow init study
  flow -C study run --profile sample
  flow help run")]
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
    /// Make a small project that runs at once
    Init(init::Arguments),
    /// Bring the outputs up to date
    Run(run::Arguments),
    /// Run what costs nothing whenever a file is saved, and ask before what costs
    Watch(watch::Arguments),
    /// Tell what a run would do, and what it would cost; calls nobody
    Plan(plan::Arguments),
    /// Tell what changed since a stage last ran, or where a row comes from
    Why(why::Arguments),
    /// Look at the rows of a stage's table as it stands
    Show(show::Arguments),
    /// Ask one SQL query of all tables as they stand
    Query(query::Arguments),
    /// Show the exact request that a row makes; calls nobody
    Render(render::Arguments),
    /// Ask a model about a row or a few, by the stage's prompt or another; changes no output
    Try(try_::Arguments),
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
    /// Pack the study, its outputs and the calls that they stand on into one file, for others
    Export(export::Arguments),
    /// Tell whether a package makes the same bytes here
    Verify(verify::Arguments),
    /// Add a row to the manifest; all else in it stays as it is
    Add(add::Arguments),
    /// Format the manifest; it means the same afterwards
    Fmt(fmt::Arguments),
    /// Print the JSON Schema of the manifest, for editors
    Schema(schema::Arguments),
    /// Print a script that completes commands, options and stages in a shell
    Completions(completions::Arguments),
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
        let found = Manifest::read(&self.file).and_then(|(project, source)| {
            self.profile_is_there(&source)?;
            Ok(project.cache())
        });
        found.map_err(|problem| {
            let mut problems = Problems::default();
            problems.add(problem);
            style.warn(&problems.render(style.color));
            Exit::Wrong
        })
    }

    /// Finds a profile's name that was mistyped, where the rest of the manifest is not looked at.
    fn profile_is_there(&self, source: &SourceText) -> Result<(), Problem> {
        let (Some(name), Ok(manifest)) = (&self.profile, source.text.parse::<toml::Table>()) else {
            return Ok(());
        };
        let profiles = manifest.get("profiles").and_then(|profiles| profiles.as_table());
        if profiles.is_some_and(|profiles| profiles.contains_key(name)) {
            return Ok(());
        }
        let known = profiles.into_iter().flat_map(|profiles| profiles.keys().map(String::as_str));
        let problem = Problem::new(format!("the manifest has no profile `{name}`"));
        Err(problem.help_if(did_you_mean(name, known)))
    }

    /// Puts another text in the place of the manifest's: where a link leads, and with the same
    /// rights.
    fn rewrite(&self, text: &str) -> io::Result<()> {
        let path = self.file.canonicalize()?;
        let rights = path.metadata()?.permissions();
        if rights.readonly() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is read-only"));
        }
        let fill = |file: &mut io::BufWriter<std::fs::File>| {
            file.get_ref().set_permissions(rights)?;
            file.write_all(text.as_bytes())
        };
        write_aside::<io::Error>(&path, fill).map(drop)
    }
}

/// What there is to type, for completions and for tests.
pub fn command() -> clap::Command {
    Cli::command()
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
        Command::Init(arguments) => init::main(arguments, &cli.shared, &style),
        Command::Run(arguments) => run::main(arguments, &cli.shared, &style),
        Command::Watch(arguments) => watch::main(arguments, &cli.shared, &style),
        Command::Plan(arguments) => plan::main(arguments, &cli.shared, &style),
        Command::Why(arguments) => why::main(arguments, &cli.shared, &style),
        Command::Show(arguments) => show::main(arguments, &cli.shared, &style),
        Command::Query(arguments) => query::main(arguments, &cli.shared, &style),
        Command::Render(arguments) => render::main(arguments, &cli.shared, &style),
        Command::Try(arguments) => try_::main(arguments, &cli.shared, &style),
        Command::Status(arguments) => status::main(arguments, &cli.shared, &style),
        Command::Accept(arguments) => accept::main(arguments, &cli.shared, &style),
        Command::Check(arguments) => check::main(arguments, &cli.shared, &style),
        Command::Graph(arguments) => graph::main(arguments, &cli.shared, &style),
        Command::Log(arguments) => log::main(arguments, &cli.shared, &style),
        Command::Diff(arguments) => diff::main(arguments, &cli.shared, &style),
        Command::Cache(arguments) => cache::main(arguments, &cli.shared, &style),
        Command::Cassette(arguments) => cassette::main(arguments, &cli.shared, &style),
        Command::Export(arguments) => export::main(arguments, &cli.shared, &style),
        Command::Verify(arguments) => verify::main(arguments, &cli.shared, &style),
        Command::Add(arguments) => add::main(arguments, &cli.shared, &style),
        Command::Fmt(arguments) => fmt::main(arguments, &cli.shared, &style),
        Command::Schema(arguments) => schema::main(arguments, &style),
        Command::Completions(arguments) => completions::main(arguments, &cli.shared, &style),
    });
    let exit = std::panic::catch_unwind(work).unwrap_or_else(|_| {
        style.error("this is a fault of flow itself; what was stored is kept, run again to go on");
        Exit::Fault
    });
    exit.into()
}

/// Logs go to stderr, where `FLOW_LOG` chooses in detail what (`flow=trace`), and those of a run to files.
fn start_log(verbose: u8) {
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::util::SubscriberInitExt;
    use tracing_subscriber::{EnvFilter, Layer, fmt};
    let level = match verbose {
        0 => "flow=warn",
        1 => "flow=info",
        _ => "flow=debug",
    };
    let filter = EnvFilter::try_from_env("FLOW_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let shown = fmt::layer().with_writer(std::io::stderr).with_target(false).with_filter(filter);
    // What a run does is written down whatever is shown of it.
    let written = || EnvFilter::new("flow=debug");
    let [readable, json] = logs::both();
    let readable = fmt::layer().with_writer(readable.clone()).with_ansi(false).with_target(false);
    let json = fmt::layer().json().flatten_event(true).with_target(false).with_writer(json.clone());
    tracing_subscriber::registry()
        .with(shown)
        .with(readable.with_filter(written()))
        .with(json.with_filter(written()))
        .init();
}
