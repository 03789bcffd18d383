//! `cargo xtask bench`: what `cru` costs, beside what people use today, in one run on one machine.
//!
//! Never a timed test: it prints tables, writes docs/bench.md and says plainly what falls short.
//! In reading order: [`mod@sets`] and [`edits`] are what is measured on, [`tool`] what is asked of
//! every tool, [`ours`], [`peers`] and [`syncthing`] the tools, [`extras`] the rest.

mod edits;
mod extras;
pub mod live_part;
pub mod measure;
mod ours;
mod peers;
mod proxy;
pub mod report;
mod sets;
mod syncthing;
mod tool;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;

use crate::debian;
use crate::workspace::root;
use edits::Operation;
use extras::{History, MergeTime, Scan};
use sets::{Set, Shape};
use tool::{Cost, Row, Scene, Tool};

/// What `cargo xtask bench` can be told.
#[derive(Parser)]
pub struct Args {
    /// A folder of real notes to measure on as well.
    #[arg(long, value_name = "DIR")]
    corpus: Option<PathBuf>,
    /// An edit sequence (JSON lines with repo, path, base, ours, want) for the size of history.
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// Measures rsync, unison, git and syncthing too, installing them from Debian.
    #[arg(long)]
    peers: bool,
    /// The others are not measured on sets of more files: some of them need an hour for 100 000.
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    peers_max: usize,
    /// Only the folder of real notes (or 1 000 generated ones), for a first look.
    #[arg(long)]
    quick: bool,
    /// Only the sets with this in their name (`flat-1000`, `deep`, …).
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Where the report goes.
    #[arg(long, value_name = "FILE", default_value = "docs/bench.md")]
    out: PathBuf,
    /// A `cru` that is already built; otherwise the release build is made first.
    #[arg(long, value_name = "FILE")]
    cru: Option<PathBuf>,
}

/// Everything that was measured.
#[derive(Default)]
pub struct Findings {
    /// How each set looks: name, files, bytes, files in the renamed folder.
    pub sets: Vec<(String, usize, u64, Option<usize>)>,
    /// One line for each set, tool, operation and leg.
    pub rows: Vec<Row>,
    /// One edit to a server that lost what it shared, for each set.
    pub nothing_shared: Vec<(String, Cost)>,
    /// The scan of each set.
    pub scans: Vec<(String, Scan)>,
    /// The size of history, where a sequence was named.
    pub history: Option<History>,
    /// Large merges.
    pub merges: Vec<MergeTime>,
    /// What could not be measured, and why.
    pub troubles: Vec<String>,
}

/// The tools, in the order of the tables.
const TOOLS: &[&str] = &["cru", "rsync", "rsync -z", "unison", "git", "syncthing"];

/// Measures and writes the report.
pub fn run(args: &Args) -> Result<()> {
    let cru = match &args.cru {
        Some(cru) => cru.canonicalize().with_context(|| cru.display().to_string())?,
        None => build()?,
    };
    if args.peers {
        for (program, package) in
            [("rsync", "rsync"), ("unison", "unison"), ("git", "git"), ("syncthing", "syncthing")]
        {
            debian::ensure(program, package)?;
        }
    }
    debian::ensure("find", "findutils")?;
    // Nothing in it is removed before the end: ext4 does not hand out inodes that were freed in the
    // last minutes and looks at each of them for every file it makes, which had cost whoever came
    // after a removal (rsync: 3.8 s of CPU instead of 0.8).
    let scratch = tempfile::Builder::new().prefix("cru-bench-").tempdir()?;
    let mut findings = Findings::default();
    for set in sets(args)? {
        measure_set(&set, args, &cru, scratch.path(), &mut findings)?;
    }
    measure_extras(args, &cru, scratch.path(), &mut findings);
    let text = report::render(&findings, args.peers);
    println!("{text}");
    let out = root().join(&args.out);
    fs::create_dir_all(out.parent().context("the report lies in a folder")?)?;
    let text = match fs::read_to_string(&out) {
        Ok(page) => live_part::before_anew(&page, &text),
        // There is no page yet, or none that anybody could read.
        Err(_) => text,
    };
    fs::write(&out, text).with_context(|| out.display().to_string())?;
    eprintln!("written to {}", out.display());
    Ok(())
}

/// Builds `cru` for release; gives the binary.
pub fn build() -> Result<PathBuf> {
    let status = Command::new("cargo")
        .args(["build", "--release", "--locked", "-p", "crucible-cli", "--bin", "cru"])
        .current_dir(root())
        .status()?;
    ensure!(status.success(), "the release build failed");
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root().join("target"), |target| root().join(target));
    Ok(target.join("release/cru"))
}

fn sets(args: &Args) -> Result<Vec<Set>> {
    let mut sets = Vec::new();
    if let Some(corpus) = &args.corpus {
        sets.push(Set::Corpus(
            corpus.canonicalize().with_context(|| corpus.display().to_string())?,
        ));
    }
    let counts: &[usize] = match (args.quick, sets.is_empty()) {
        (true, true) => &[1_000],
        (true, false) => &[],
        (false, _) => &[1_000, 10_000, 100_000],
    };
    for count in counts {
        sets.push(Set::Generated(*count, Shape::Flat));
        sets.push(Set::Generated(*count, Shape::Deep));
    }
    if let Some(only) = &args.only {
        sets.retain(|set| set.name().contains(only.as_str()));
    }
    Ok(sets)
}

fn measure_set(
    set: &Set,
    args: &Args,
    cru: &Path,
    scratch: &Path,
    findings: &mut Findings,
) -> Result<()> {
    let name = set.name();
    eprintln!("{name}: laying it out");
    let original = scratch.join(&name);
    set.lay(&original)?;
    let files = sets::files(&original)?;
    let bytes = files.values().sum();
    findings.sets.push((name.clone(), files.len(), bytes, edits::renamed_files(&original)?));
    let peers = args.peers && files.len() <= args.peers_max;
    if args.peers && !peers {
        let most = args.peers_max;
        findings.troubles.push(format!("{name}, others than cru: more than {most} files"));
    }
    let tools = if peers { TOOLS } else { &TOOLS[..1] };
    for tool in tools {
        let folder = scratch.join(format!("{name}-{}", tool.replace(' ', "")));
        if let Err(error) = measure_tool(&name, tool, &original, &folder, cru, findings) {
            findings.troubles.push(format!("{name}, {tool}: {error:#}"));
            eprintln!("{name}: {tool}: {error:#}");
        }
    }
    Ok(())
}

fn measure_tool(
    set: &str,
    name: &'static str,
    original: &Path,
    folder: &Path,
    cru: &Path,
    findings: &mut Findings,
) -> Result<()> {
    let scene = scene(folder)?;
    sets::copy_tree(original, &scene.a)?;
    if name == "cru" {
        let mut ours = ours::Ours::new(cru, &scene)?;
        operations(set, name, &scene, &mut ours, findings)?;
        findings.scans.push((set.to_owned(), extras::scan(cru, &scene)?));
        let cost = extras::nothing_shared(&mut ours, &scene)?;
        findings.nothing_shared.push((set.to_owned(), cost));
        return Ok(());
    }
    let mut tool: Box<dyn Tool> = match name {
        "rsync" => Box::new(peers::Rsync::new(&scene, false)?),
        "rsync -z" => Box::new(peers::Rsync::new(&scene, true)?),
        "unison" => Box::new(peers::Unison::new(&scene)?),
        "git" => Box::new(peers::Git::new(&scene)?),
        "syncthing" => Box::new(syncthing::Syncthing::new(&scene)?),
        other => bail!("no tool is called {other}"),
    };
    operations(set, name, &scene, tool.as_mut(), findings)
}

fn scene(folder: &Path) -> Result<Scene> {
    let scene = Scene { a: folder.join("a"), b: folder.join("b"), scratch: folder.join("scratch") };
    fs::create_dir_all(&scene.scratch)?;
    Ok(scene)
}

fn operations(
    set: &str,
    tool_name: &'static str,
    scene: &Scene,
    tool: &mut dyn Tool,
    findings: &mut Findings,
) -> Result<()> {
    for operation in Operation::ALL {
        eprintln!("{set}: {tool_name}: {}", operation.name());
        let mut turns = Vec::new();
        for turn in 0..operation.repeats() {
            if !operation.apply(&scene.a, turn)? {
                break;
            }
            turns.push(tool.carry()?);
            let equal = sets::fingerprint(&scene.a)? == sets::fingerprint(&scene.b)?;
            ensure!(equal, "the two folders differ after `{}`", operation.name());
        }
        let Some(first) = turns.first() else { continue };
        for (at, leg) in first.iter().enumerate() {
            let costs: Vec<Cost> = turns.iter().map(|legs| legs[at].cost).collect();
            findings.rows.push(Row {
                set: set.to_owned(),
                tool: tool_name,
                operation: *operation,
                leg: leg.name,
                cost: Cost::mean(&costs),
            });
        }
    }
    Ok(())
}

fn measure_extras(args: &Args, cru: &Path, scratch: &Path, findings: &mut Findings) {
    eprintln!("large merges");
    match extras::merges(cru, &scratch.join("merges")) {
        Ok(merges) => findings.merges = merges,
        Err(error) => findings.troubles.push(format!("large merges: {error:#}")),
    }
    let Some(sequence) = &args.history else { return };
    eprintln!("history");
    let measured =
        scene(&scratch.join("history")).and_then(|scene| extras::history(cru, &scene, sequence));
    match measured {
        Ok(history) => findings.history = Some(history),
        Err(error) => findings.troubles.push(format!("history: {error:#}")),
    }
}
