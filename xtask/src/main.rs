//! Chores of the repository: `cargo xtask --help` lists them.
//!
//! Only the dispatcher is here; each chore is a file of its own.

mod merges;

use clap::Parser;

/// Chores of the repository.
#[derive(Parser)]
#[command(name = "cargo xtask", version)]
enum Chore {
    /// Scores the text merge against real merges.
    Merges(merges::Args),
}

fn main() -> anyhow::Result<std::process::ExitCode> {
    match Chore::parse() {
        Chore::Merges(args) => merges::run(&args),
    }
}
