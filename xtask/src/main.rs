//! The workshop: what builds, judges and measures Crucible, and is never shipped.
//!
//! Only the dispatcher is here. In reading order: [`ci`] is the one command before a change is
//! sent, [`edges`] and [`purity`] hold the architecture, [`licences`] what we may link, [`merges`]
//! scores the text merge, [`mod@bench`] makes the figures of docs/bench.md and [`bench_live`] those
//! of live sessions in it.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool for terminals")]

mod bench;
mod bench_live;
mod ci;
mod debian;
mod edges;
mod licences;
mod merges;
mod page;
mod purity;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

/// Builds, judges and measures Crucible.
#[derive(Parser)]
#[command(name = "cargo xtask", version)]
enum Task {
    /// Runs everything a change must pass, and ends with a table.
    Ci(ci::Args),
    /// Checks the direction of dependencies, the purity of the pure crates and the licences.
    Deps,
    /// Scores the text merge against real merges.
    Merges(merges::Args),
    /// Measures `cru` beside other tools and writes docs/bench.md.
    Bench(bench::Args),
    /// Loads live sessions of `cru` beside Hocuspocus and writes their part of docs/bench.md.
    BenchLive(bench_live::Args),
    /// Runs a command and writes what it cost to a file (used by `bench`).
    #[command(hide = true)]
    Measure(bench::measure::MeasureArgs),
    /// Stands in for ssh, counting what passes (used by `bench`).
    #[command(hide = true)]
    Rsh(bench::measure::RshArgs),
}

fn main() -> ExitCode {
    run(Task::parse()).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(task: Task) -> Result<ExitCode> {
    let done = match task {
        Task::Merges(args) => return merges::run(&args),
        Task::Ci(args) => ci::run(&args),
        Task::Deps => ci::deps(),
        Task::Bench(args) => bench::run(&args),
        Task::BenchLive(args) => bench_live::run(&args),
        Task::Measure(args) => bench::measure::measure(&args),
        Task::Rsh(args) => bench::measure::rsh(&args),
    };
    done.map(|()| ExitCode::SUCCESS)
}
