//! What the tables of operations do not show: history beside git's pack, the scan beside a walk,
//! the merge's speed, and a server that came back from an old backup.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::edits::edit;
use super::measure::{Spent, spent, spent_any};
use super::ours::{Ours, collected_bytes, kept_bytes};
use super::peers::{run, settle};
use super::sets::{Dice, sentence};
use super::tool::{Cost, Scene};

/// Sizes of one edit sequence as each keeps it.
#[derive(Clone, Copy, Debug)]
pub struct History {
    /// How many states were written one after another.
    pub steps: usize,
    /// All their texts laid end to end.
    pub plain: u64,
    /// The server's folder after the sequence, less what it was with no note in it.
    pub ours: u64,
    /// The same after `cru server gc`.
    pub ours_gc: u64,
    /// git's pack after `git gc`, without the index.
    pub git: u64,
    /// git's pack after `git gc --aggressive`.
    pub git_aggressive: u64,
}

/// Replays an edit sequence (JSON lines with `path` and `base`, `ours`, `want`) in both.
pub fn history(cru: &Path, scene: &Scene, sequence: &Path) -> Result<History> {
    let steps = read_sequence(sequence)?;
    fs::create_dir_all(&scene.a)?;
    let mut ours = Ours::new(cru, scene)?;
    ours.join_first()?;
    let empty = kept_bytes(&mut ours)?;
    let repository = scene.keep("repository");
    fs::create_dir_all(&repository)?;
    run(git(&repository, &scene.scratch).args(["init", "-q", "-b", "main"]))?;
    let mut plain = 0;
    for (path, text) in &steps {
        plain += text.len() as u64;
        for root in [&scene.a, &repository] {
            let file = root.join(path);
            fs::create_dir_all(file.parent().context("a note lies in a folder")?)?;
            fs::write(file, text)?;
        }
        ours.push()?;
        run(git(&repository, &scene.scratch).args(["add", "-A", "-f"]))?;
        run(git(&repository, &scene.scratch).args([
            "commit",
            "-q",
            "--allow-empty",
            "-m",
            "edit",
        ]))?;
    }
    run(git(&repository, &scene.scratch).args(["gc", "-q"]))?;
    let packed = pack_bytes(&repository)?;
    run(git(&repository, &scene.scratch).args(["gc", "-q", "--aggressive"]))?;
    let (as_written, collected) = (kept_bytes(&mut ours)?, collected_bytes(&mut ours)?);
    Ok(History {
        steps: steps.len(),
        plain,
        ours: as_written.saturating_sub(empty),
        ours_gc: collected.saturating_sub(empty),
        git: packed,
        git_aggressive: pack_bytes(&repository)?,
    })
}

fn git(folder: &Path, home: &Path) -> Command {
    let mut command = Command::new("git");
    command.current_dir(folder);
    settle(&mut command, home);
    command
}

fn pack_bytes(repository: &Path) -> Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(repository.join(".git/objects/pack"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "pack") {
            total += fs::metadata(path)?.len();
        }
    }
    Ok(total)
}

/// The states in the order they were written: of each merge its base, one side, the result.
fn read_sequence(file: &Path) -> Result<Vec<(PathBuf, String)>> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let mut steps: Vec<(PathBuf, String)> = Vec::new();
    for line in text.lines() {
        let merge: Value = serde_json::from_str(line)?;
        let field = |name: &str| merge[name].as_str().unwrap_or("").to_owned();
        let path = PathBuf::from(field("repo")).join(field("path"));
        if path.components().any(|part| !matches!(part, std::path::Component::Normal(_))) {
            bail!("{} is no path inside a folder", path.display());
        }
        for side in ["base", "ours", "want"] {
            let text = field(side);
            if steps.last() != Some(&(path.clone(), text.clone())) {
                steps.push((path.clone(), text));
            }
        }
    }
    Ok(steps)
}

/// What looking at an unchanged folder costs, beside a plain walk that stats every file.
#[derive(Clone, Copy, Debug)]
pub struct Scan {
    /// `cru status`, the best of five.
    pub ours: Spent,
    /// `find -printf %s`, the best of five.
    pub walk: Spent,
}

/// Measures both on a folder that is in step.
pub fn scan(cru: &Path, scene: &Scene) -> Result<Scan> {
    let mut status = Command::new(cru);
    status.arg("-C").arg(&scene.a).args(["status", "--json"]);
    status.env("CRU_HOME", scene.keep("home-a"));
    let mut walk = Command::new("find");
    walk.arg(&scene.a).args(["-printf", "%s %T@ %i\\n"]);
    Ok(Scan { ours: best(&mut status, scene)?, walk: best(&mut walk, scene)? })
}

fn best(command: &mut Command, scene: &Scene) -> Result<Spent> {
    let mut best: Option<Spent> = None;
    for _ in 0..5 {
        let (now, _) = spent(command, &scene.scratch)?;
        if best.is_none_or(|best| now.cpu_us < best.cpu_us) {
            best = Some(now);
        }
    }
    best.context("five is more than none")
}

/// One merge, timed.
#[derive(Clone, Debug)]
pub struct MergeTime {
    /// What was merged.
    pub what: &'static str,
    /// Bytes of the base.
    pub bytes: u64,
    /// What it cost.
    pub spent: Spent,
}

impl MergeTime {
    /// MB of the base for each second of processor time: one thread works, and other work on the
    /// machine does not count.
    pub fn speed(&self) -> f64 {
        self.bytes as f64 / self.spent.cpu_us.max(1) as f64
    }
}

/// Times `cru merge-file` on large notes.
pub fn merges(cru: &Path, scratch: &Path) -> Result<Vec<MergeTime>> {
    fs::create_dir_all(scratch)?;
    let mut found = Vec::new();
    let base = long_note(20_000_000, 1);
    let (x, y) = (touched(&base, 7), touched(&base, 11));
    found.push(merge(
        cru,
        scratch,
        "20 MB, a word in every 70th and every 110th line",
        [&base, &x, &y],
    )?);
    let base = long_note(1_000_000, 2);
    let (x, y) = (long_note(1_000_000, 3), long_note(1_000_000, 4));
    found.push(merge(cru, scratch, "1 MB, written anew on both sides", [&base, &x, &y])?);
    let one_line = |text: &str| text.replace('\n', " ");
    let (base, x, y) = (one_line(&base), one_line(&x), one_line(&y));
    found.push(merge(cru, scratch, "1 MB in one line, anew on both sides", [&base, &x, &y])?);
    Ok(found)
}

fn merge(cru: &Path, scratch: &Path, what: &'static str, texts: [&str; 3]) -> Result<MergeTime> {
    let mut command = Command::new(cru);
    command.arg("merge-file").env("CRU_HOME", scratch);
    for (name, text) in ["base.md", "ours.md", "theirs.md"].iter().zip(texts) {
        fs::write(scratch.join(name), text)?;
        command.arg(scratch.join(name));
    }
    let (spent, status, _) = spent_any(&mut command, scratch)?;
    ensure!(matches!(status.code(), Some(0 | 3)), "merge-file ended with {status} on {what}");
    Ok(MergeTime { what, bytes: texts[0].len() as u64, spent })
}

fn long_note(bytes: usize, seed: u64) -> String {
    let mut dice = Dice(seed);
    let mut text = String::with_capacity(bytes + 200);
    while text.len() < bytes {
        writeln!(text, "{}", sentence(&mut dice)).expect("a string can be written to");
        if dice.below(4) == 0 {
            text.push('\n');
        }
    }
    text
}

/// A word at the end of every `step` times tenth line.
fn touched(text: &str, step: usize) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, line) in text.lines().enumerate() {
        out.push_str(line);
        if at % (step * 10) == step && !line.is_empty() {
            out.push_str(" Indeed.");
        }
        out.push('\n');
    }
    out
}

/// One edit carried to a server that was put back to an older state: nothing is shared.
pub fn nothing_shared(ours: &mut Ours, scene: &Scene) -> Result<Cost> {
    let backup = scene.keep("backup");
    ours.back_up_server(&backup)?;
    edit(&scene.a, 1, 4001)?;
    ours.push()?;
    ours.restore_server(&backup)?;
    edit(&scene.a, 1, 4002)?;
    let cost = ours.push()?.cost;
    fs::remove_dir_all(&backup)?;
    Ok(cost)
}
