//! `cargo xtask ci`: everything a change must pass, in one command, with a table at the end.
//!
//! Every step runs even when an earlier one failed, so that one run tells everything. A step that
//! cannot run here says why and is counted as skipped, never as passed.

use std::env;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;

use crate::workspace::{Depth, metadata, root};
use crate::{debian, edges, licences, page, purity};

/// The test runner's version; its lists and profiles are in .config/nextest.toml.
const NEXTEST_VERSION: &str = "0.9.143";

/// Where the property tests' dice begin, unless the environment says otherwise: a change is judged
/// by the same cases twice. Other cases are for people: `PROPTEST_RNG_SEED=7 cargo nextest run`.
const PROPERTY_SEED: (&str, &str) = ("PROPTEST_RNG_SEED", "20261123");

/// What `cargo xtask ci` can be told.
#[derive(Parser)]
pub struct Args {
    /// How many simulated worlds are run, from the first seed on: about a minute's worth.
    #[arg(long, default_value_t = 20_000)]
    sim_seeds: u64,
    /// Recorded merges (JSON lines) to score as well; skipped when none are named.
    #[arg(long, value_name = "FILE")]
    merges: Option<PathBuf>,
    /// Runs only the steps whose name contains this.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

enum Outcome {
    Passed,
    Failed(String),
    Skipped(String),
}

struct Step {
    name: &'static str,
    run: Box<dyn Fn() -> Result<Outcome>>,
}

struct Finished {
    name: &'static str,
    outcome: Outcome,
    took: Duration,
}

/// Runs the steps and fails if any of them did.
pub fn run(args: &Args) -> Result<()> {
    let wanted = |name: &str| args.only.as_deref().is_none_or(|only| name.contains(only));
    let mut finished = Vec::new();
    for step in steps(args).into_iter().filter(|step| wanted(step.name)) {
        headline(step.name);
        let begun = Instant::now();
        let outcome = (step.run)().unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")));
        finished.push(Finished { name: step.name, outcome, took: begun.elapsed() });
    }
    report(&finished)
}

/// The three static checks alone.
pub fn deps() -> Result<()> {
    let mut found = edges::violations(&metadata(Depth::Ours)?);
    found.extend(purity::violations()?);
    found.extend(licences::violations()?);
    if found.is_empty() {
        println!("dependencies, purity and licences are as they should be");
        return Ok(());
    }
    bail!("{}", found.join("\n"));
}

fn steps(args: &Args) -> Vec<Step> {
    let seeds = args.sim_seeds;
    let merges = args.merges.clone();
    vec![
        step("programs", programs),
        step("format", || cargo(&["fmt", "--all", "--check"])),
        step("dependencies", || deps().map(|()| Outcome::Passed)),
        step("clippy", || {
            cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])
        }),
        step("tests", tests),
        step("page", || page::checks().map(|()| Outcome::Passed)),
        step("browser", || page::browser().map(|()| Outcome::Passed)),
        step("first command", || cargo(&["run", "--quiet", "--locked", "--", "demo"])),
        step("doc tests", || cargo(&["test", "--doc", "--workspace", "--locked"])),
        step("documentation", documentation),
        step("simulation", move || simulation(seeds)),
        step("merges", move || score(merges.as_ref())),
        step("cargo deny", deny),
    ]
}

fn step(name: &'static str, run: impl Fn() -> Result<Outcome> + 'static) -> Step {
    Step { name, run: Box::new(run) }
}

/// What the tests start: git for exports, strace to kill at a chosen system call.
fn programs() -> Result<Outcome> {
    debian::ensure("git", "git")?;
    debian::ensure("strace", "strace")?;
    Ok(Outcome::Passed)
}

fn tests() -> Result<Outcome> {
    if !debian::have("cargo-nextest") {
        let version = NEXTEST_VERSION;
        eprintln!("cargo-nextest is missing: building {version}");
        let built = cargo(&["install", "--locked", "cargo-nextest", "--version", version])?;
        if !matches!(built, Outcome::Passed) {
            eprintln!("cargo-nextest could not be built: falling back to `cargo test`");
            return cargo(&["test", "--workspace", "--all-targets", "--locked"]);
        }
    }
    cargo(&["nextest", "run", "--workspace", "--locked", "--no-fail-fast"])
}

fn documentation() -> Result<Outcome> {
    let mut command = Command::new("cargo");
    command
        .args(["doc", "--workspace", "--no-deps", "--locked"])
        .env("RUSTDOCFLAGS", "-D warnings");
    outcome(&mut command)
}

fn simulation(seeds: u64) -> Result<Outcome> {
    let package = "crucible-testkit";
    let known = metadata(Depth::Ours)?.packages.into_iter().find(|found| found.name == package);
    if known.is_none_or(|_| !root().join("crates/testkit/src/bin/sim.rs").exists()) {
        return Ok(Outcome::Skipped("there is no simulator yet".to_owned()));
    }
    let seeds = format!("0..{seeds}");
    cargo(&["run", "--release", "--locked", "-p", package, "--bin", "sim", "--", "--seeds", &seeds])
}

fn score(file: Option<&PathBuf>) -> Result<Outcome> {
    let Some(file) = file else {
        return Ok(Outcome::Skipped("no file named with --merges".to_owned()));
    };
    let file = file.to_str().context("the file of merges has a name that is not UTF-8")?;
    cargo(&["run", "--release", "--locked", "-p", "xtask", "--", "merges", file])
}

fn deny() -> Result<Outcome> {
    if !debian::have("cargo-deny") {
        let said = "cargo-deny is not installed (licences were checked under `dependencies`)";
        return Ok(Outcome::Skipped(said.to_owned()));
    }
    cargo(&["deny", "--offline", "check", "licenses", "bans", "sources"])
}

fn cargo(arguments: &[&str]) -> Result<Outcome> {
    outcome(Command::new("cargo").args(arguments))
}

fn outcome(command: &mut Command) -> Result<Outcome> {
    // Half the disk and a quicker cold build; nothing here is built twice.
    if env::var_os("CI").is_some() {
        command.env("CARGO_INCREMENTAL", "0");
    }
    if env::var_os(PROPERTY_SEED.0).is_none() {
        command.env(PROPERTY_SEED.0, PROPERTY_SEED.1);
    }
    let status = command.current_dir(root()).status().context("cargo could not be started")?;
    Ok(if status.success() {
        Outcome::Passed
    } else {
        Outcome::Failed(format!("ended with {status}"))
    })
}

fn headline(name: &str) {
    if std::io::stderr().is_terminal() {
        eprintln!("\n\u{1b}[1m{name}\u{1b}[0m");
    } else {
        eprintln!("\n== {name}");
    }
}

fn report(finished: &[Finished]) -> Result<()> {
    println!("\n{:<16} {:>8}  outcome", "step", "seconds");
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for Finished { name, outcome, took } in finished {
        let said = match outcome {
            Outcome::Passed => {
                passed += 1;
                "passed".to_owned()
            }
            Outcome::Failed(why) => {
                failed += 1;
                format!("FAILED: {why}")
            }
            Outcome::Skipped(why) => {
                skipped += 1;
                format!("skipped: {why}")
            }
        };
        println!("{name:<16} {:>8.1}  {said}", took.as_secs_f64());
    }
    let total: Duration = finished.iter().map(|step| step.took).sum();
    println!("{:<16} {:>8.1}\n", "all", total.as_secs_f64());
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    if failed > 0 {
        bail!("{failed} of {} steps failed", finished.len());
    }
    Ok(())
}
