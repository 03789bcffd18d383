//! `cargo xtask bench-live`: loads on live sessions of the real `cru` and, in the same run, on
//! Hocuspocus, and what each cost; a part of docs/bench.md.
//!
//! In reading order: [`side`] is what the loads ask of a server and of somebody who types,
//! [`ours`] and [`hocuspocus`] are the two, [`load`] the loads, [`falls`] cuts and kills,
//! [`browser`] the page itself, [`report`] the tables and what falls short.

mod browser;
mod falls;
mod hocuspocus;
mod load;
mod ours;
mod report;
mod side;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use tokio::runtime::Runtime;
use tokio::task::LocalSet;

use crate::bench::{self, live_part};
use crate::page;
use crate::workspace::root;
use hocuspocus::Hocuspocus;
use load::{Load, Pace};
use ours::Cru;
use report::Findings;
use side::{Setting, Side};

/// What `cargo xtask bench-live` can be told.
#[derive(Parser)]
pub struct Args {
    /// A `cru` that is already built; otherwise the release build is made first.
    #[arg(long, value_name = "FILE")]
    cru: Option<PathBuf>,
    /// Measures Hocuspocus beside it, in turns, installing it from npm.
    #[arg(long)]
    hocuspocus: bool,
    /// How long each load types, in seconds.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// How often everything is measured.
    #[arg(long, default_value_t = 3)]
    turns: usize,
    /// Only the rows with this in their name (a load's, `idle`, `cut`, `kill`, `page`); nothing is
    /// written then.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Where the report goes.
    #[arg(long, value_name = "FILE", default_value = "docs/bench.md")]
    out: PathBuf,
}

/// The loads; the aims are shares of what Hocuspocus needs.
const LOADS: &[Load] = &[
    Load {
        name: "50 clients, 10 writers × 10/s",
        clients: 50,
        writers: 10,
        per_s: 10,
        pace: Pace::InStep,
        p99_max: Some(0.5),
        cpu_max: Some(1.0 / 3.0),
    },
    Load {
        name: "20 writers × 50/s",
        clients: 20,
        writers: 20,
        per_s: 50,
        pace: Pace::InStep,
        p99_max: Some(0.5),
        cpu_max: Some(1.0 / 3.0),
    },
    Load {
        name: "100 clients, 5 writers × 20/s",
        clients: 100,
        writers: 5,
        per_s: 20,
        pace: Pace::InStep,
        p99_max: Some(1.0),
        cpu_max: Some(0.5),
    },
    Load {
        name: "500 clients, 2 writers × 5/s",
        clients: 500,
        writers: 2,
        per_s: 5,
        pace: Pace::InStep,
        p99_max: None,
        cpu_max: None,
    },
    Load {
        name: "50 clients, 10 writers × 10/s, apart",
        clients: 50,
        writers: 10,
        per_s: 10,
        pace: Pace::Apart,
        p99_max: None,
        cpu_max: None,
    },
];
const IDLE_ROOMS: usize = 1_000;
/// How long people had typed when the server was killed.
const KILLED_AFTER: [Duration; 3] =
    [Duration::from_secs(3), Duration::from_secs(6), Duration::from_secs(9)];

/// The same of both sides, once for each turn.
#[derive(Debug, Clone)]
pub struct Both<T> {
    ours: Vec<T>,
    theirs: Vec<T>,
}

impl<T> Default for Both<T> {
    fn default() -> Self {
        Self { ours: Vec::new(), theirs: Vec::new() }
    }
}

/// Measures and writes the report.
pub fn run(args: &Args) -> Result<()> {
    let cru = match &args.cru {
        Some(cru) => cru.canonicalize().with_context(|| cru.display().to_string())?,
        None => bench::build()?,
    };
    let setting = Setting { cru, hocuspocus: root().join("xtask/bench-live") };
    if args.hocuspocus {
        page::installed(&setting.hocuspocus)?;
    }
    let findings = Bench { args, setting, runtime: runtime()? }.all();
    let part = report::render(&findings);
    println!("{part}");
    if args.only.is_some() {
        return Ok(());
    }
    let out = root().join(&args.out);
    let before = fs::read_to_string(&out).with_context(|| out.display().to_string())?;
    fs::write(&out, live_part::part_anew(&before, &part))?;
    eprintln!("written to {}", out.display());
    Ok(())
}

fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

struct Bench<'a> {
    args: &'a Args,
    setting: Setting,
    runtime: Runtime,
}

impl Bench<'_> {
    fn all(&self) -> Findings {
        let mut findings = Findings::default();
        let typing = Duration::from_secs(self.args.seconds);
        for load in LOADS.iter().filter(|load| self.wanted(load.name)) {
            let mut costs = Both::default();
            for _ in 0..self.args.turns {
                self.both(
                    load.name,
                    &mut costs,
                    &mut findings.troubles,
                    async |folder| load::measured::<Cru>(&self.setting, folder, load, typing).await,
                    async |folder| {
                        load::measured::<Hocuspocus>(&self.setting, folder, load, typing).await
                    },
                );
            }
            findings.loads.push((load, costs));
        }
        if self.wanted("idle rooms") {
            let trouble = &mut findings.troubles;
            self.both(
                "idle rooms",
                &mut findings.idle,
                trouble,
                async |folder| occupied::<Cru>(&self.setting, folder).await,
                async |folder| occupied::<Hocuspocus>(&self.setting, folder).await,
            );
            findings.empty = self.one("empty rooms", trouble, async |folder| {
                let server = Cru::start(&self.setting, folder, IDLE_ROOMS).await?;
                for note in 0..IDLE_ROOMS {
                    server.open(note).await?;
                }
                server.rss_kib()
            });
        }
        if self.wanted("cut") {
            for _ in 0..self.args.turns {
                self.both(
                    "1 s cut",
                    &mut findings.cut,
                    &mut findings.troubles,
                    async |folder| falls::cut::<Cru>(&self.setting, folder).await,
                    async |folder| falls::cut::<Hocuspocus>(&self.setting, folder).await,
                );
            }
        }
        if self.wanted("kill") {
            let mut losses = Both::default();
            self.both(
                "kill -9",
                &mut losses,
                &mut findings.troubles,
                async |folder| falls::kill::<Cru>(&self.setting, folder, &KILLED_AFTER).await,
                async |folder| {
                    falls::kill::<Hocuspocus>(&self.setting, folder, &KILLED_AFTER).await
                },
            );
            findings.kill.ours = losses.ours.into_iter().flatten().collect();
            findings.kill.theirs = losses.theirs.into_iter().flatten().collect();
        }
        if self.wanted("page") {
            eprintln!("the page");
            match browser::measured(&self.setting.cru) {
                Ok(page) => findings.page = Some(page),
                Err(error) => findings.troubles.push(format!("the page: {error:#}")),
            }
        }
        findings
    }

    fn wanted(&self, name: &str) -> bool {
        self.args.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    }

    /// Measures one turn of ours, then of theirs.
    fn both<T: std::fmt::Debug>(
        &self,
        what: &str,
        found: &mut Both<T>,
        troubles: &mut Vec<String>,
        ours: impl AsyncFnOnce(&Path) -> Result<T>,
        theirs: impl AsyncFnOnce(&Path) -> Result<T>,
    ) {
        found.ours.extend(self.one(&format!("{what}, {}", Cru::NAME), troubles, ours));
        if self.args.hocuspocus {
            let what = format!("{what}, {}", Hocuspocus::NAME);
            found.theirs.extend(self.one(&what, troubles, theirs));
        }
    }

    fn one<T: std::fmt::Debug>(
        &self,
        what: &str,
        troubles: &mut Vec<String>,
        measure: impl AsyncFnOnce(&Path) -> Result<T>,
    ) -> Option<T> {
        let measured = tempfile::Builder::new()
            .prefix("cru-bench-live-")
            .tempdir()
            .context("no folder")
            .and_then(|folder| LocalSet::new().block_on(&self.runtime, measure(folder.path())));
        match measured {
            Ok(found) => {
                eprintln!("{what}: {found:?}");
                Some(found)
            }
            Err(error) => {
                eprintln!("{what}: {error:#}");
                troubles.push(format!("{what}: {error:#}"));
                None
            }
        }
    }
}

/// Memory of a server with a reader in each of its rooms.
async fn occupied<S: Side>(setting: &Setting, folder: &Path) -> Result<u64> {
    let server = S::start(setting, folder, IDLE_ROOMS).await?;
    let mut readers = Vec::new();
    for note in 0..IDLE_ROOMS {
        readers.push(server.join(note).await?);
    }
    server.rss_kib()
}
