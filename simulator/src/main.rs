//! `flow-simulator`: GitHub and an OpenAI-compatible model server in one loopback process.

mod ask;
mod dates;
mod dice;
mod diff;
mod faults;
mod generate;
mod github;
mod item;
mod later;
mod limit;
mod load;
mod models;
mod phrases;
mod rate;
mod server;
mod shapes;
mod stats;
mod timeline;
mod world;

use clap::Parser;
use generate::Generator;
use limit::Limits;
use models::Models;
use server::Server;
use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, RwLock};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use world::World;

/// Serves GitHub and an OpenAI-compatible model API on 127.0.0.1, for tests and samples.
#[derive(Parser)]
struct Flags {
    /// Port to listen on; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Number of generated repositories
    #[arg(long, value_name = "N", default_value_t = 0)]
    repos: u64,
    /// Number of items in each generated repository
    #[arg(long, value_name = "M", default_value_t = 100)]
    items: u64,
    /// Seed of the generated repositories
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// File, or folder of .jsonl and .ndjson files (also .gz), with items to serve; repeatable
    #[arg(long, value_name = "PATH")]
    data: Vec<PathBuf>,
    /// Delay of every answer
    #[arg(long, value_name = "MS", default_value_t = 0)]
    latency_ms: u64,
    #[command(flatten)]
    limits: limit::Flags,
    #[command(flatten)]
    rules: github::Rules,
    #[command(flatten)]
    models: models::Flags,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Flags::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flow-simulator: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(flags: Flags) -> Result<(), Box<dyn Error>> {
    let server = Arc::new(Server {
        world: RwLock::new(world(&flags)?),
        models: Models::new(flags.models)?,
        latency: Duration::from_millis(flags.latency_ms),
        stats: Default::default(),
        faults: Default::default(),
        later: Default::default(),
        limits: Limits::new(flags.limits),
        rules: flags.rules,
    });
    let listener = TcpListener::bind(("127.0.0.1", flags.port)).await?;
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    println!("listening on http://{}", listener.local_addr()?);
    std::io::stdout().flush()?;
    tokio::select! {
        () = server.serve(listener) => {}
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(())
}

fn world(flags: &Flags) -> std::io::Result<World> {
    let mut world = World::default();
    world.strange = flags.rules.strange;
    let unknown = load::load(&mut world, &flags.data)?;
    if unknown > 0 {
        eprintln!("warning: {unknown} lines of --data have no known shape and were skipped");
    }
    for number in 1..=flags.repos {
        let name = format!("acme/engine-{number}");
        world.add_generated(&name, Generator::new(&name, flags.seed, flags.items));
    }
    Ok(world)
}
