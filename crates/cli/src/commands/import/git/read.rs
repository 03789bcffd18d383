//! Reading a repository with `git`: its commits, what each changed, what it has not committed.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use crate::commands::export::{git_command, no_git};
use crate::exit::{During, Failure, Outcome};
use crate::output::plain;

/// Larger files of a history are left out.
const BLOB_BYTES_MAX: u64 = 1 << 30;

/// Whether a folder is a repository of its own.
pub fn is_repository(folder: &Path) -> bool {
    folder.join(".git").exists()
        || (folder.join("HEAD").is_file() && folder.join("objects").is_dir())
}

/// A commit of the history.
pub struct Commit<'g> {
    /// Its hash.
    pub id: &'g str,
    /// When its author made it, in milliseconds since 1970.
    pub at_ms: u64,
}

impl<'g> Commit<'g> {
    /// Reads a line of its hash and its seconds; before 1970 is 1970. The lines between are none.
    pub fn parse(line: &'g str) -> Option<Self> {
        let (id, seconds) = line.split_once(' ')?;
        let seconds = u64::try_from(seconds.parse::<i64>().ok()?).unwrap_or(0);
        Some(Self { id, at_ms: seconds.saturating_mul(1000) })
    }
}

/// What a commit changed against its first parent: blob by path, `None` for what went.
pub fn changes_of(from: &Path, commit: &str) -> Outcome<BTreeMap<String, Option<String>>> {
    let arguments = [
        "diff-tree",
        "-r",
        "-z",
        "--root",
        "--no-renames",
        "--no-commit-id",
        "-m",
        "--first-parent",
        commit,
    ];
    let listed = git_bytes(from, &arguments)?;
    let mut fields = listed.split(|byte| *byte == 0);
    let mut changes = BTreeMap::new();
    while let (Some(about), Some(name)) = (fields.next(), fields.next()) {
        let about = String::from_utf8_lossy(about);
        // :MODE MODE BLOB BLOB STATUS
        let mut parts = about.trim_start_matches(':').split(' ');
        let (Some(before), Some(after), Some(blob)) = (parts.next(), parts.next(), parts.nth(1))
        else {
            continue;
        };
        // What never came in does not go; the tree of the last commit tells of it.
        let Ok(name) = std::str::from_utf8(name) else { continue };
        if is_file(before) || is_file(after) {
            changes.insert(name.to_owned(), is_file(after).then(|| blob.to_owned()));
        }
    }
    Ok(changes)
}

/// What a commit has.
#[derive(Default)]
pub struct Tree {
    /// Blob by path.
    pub files: BTreeMap<String, String>,
    /// What is no file that can come in, and what it is.
    pub others: Vec<(String, &'static str)>,
}

impl Tree {
    /// Of a commit.
    pub fn of(from: &Path, commit: &str) -> Outcome<Self> {
        let listed = git_bytes(from, &["ls-tree", "-r", "-z", commit])?;
        let mut tree = Self::default();
        for line in listed.split(|byte| *byte == 0) {
            // MODE TYPE BLOB\tNAME
            let Some(end) = line.iter().position(|byte| *byte == b'\t') else { continue };
            let (about, name) = (String::from_utf8_lossy(&line[..end]), &line[end + 1..]);
            let mut parts = about.split(' ');
            let (Some(mode), Some(blob)) = (parts.next(), parts.nth(1)) else { continue };
            let shown = || String::from_utf8_lossy(name).into_owned();
            match (std::str::from_utf8(name), mode) {
                (Err(_), _) => tree.others.push((shown(), "its name is not UTF-8")),
                (Ok(name), mode) if is_file(mode) => {
                    tree.files.insert(name.to_owned(), blob.to_owned());
                }
                (_, "120000") => tree.others.push((shown(), "links are not followed")),
                _ => tree.others.push((shown(), "it is a repository of its own (a submodule)")),
            }
        }
        Ok(tree)
    }
}

/// Files of the working tree that differ from the last commit; none where there is no such tree.
pub fn uncommitted_in(from: &Path) -> Outcome<Vec<String>> {
    if git_output(from, &["rev-parse", "--is-inside-work-tree"])?.trim() != "true" {
        return Ok(Vec::new());
    }
    let arguments = [
        "--no-optional-locks",
        "status",
        "--porcelain",
        "-z",
        "--untracked-files=all",
        "--no-renames",
    ];
    let listed = git_bytes(from, &arguments)?;
    let entries = listed.split(|byte| *byte == 0).filter_map(|entry| entry.get(3..));
    Ok(entries.map(|name| String::from_utf8_lossy(name).into_owned()).collect())
}

/// A regular file; neither a link nor another repository.
fn is_file(mode: &str) -> bool {
    matches!(mode, "100644" | "100755" | "100664")
}

/// What git says to `arguments`.
pub fn git_output(from: &Path, arguments: &[&str]) -> Outcome<String> {
    Ok(String::from_utf8_lossy(&git_bytes(from, arguments)?).into_owned())
}

/// The same, as bytes.
pub fn git_bytes(from: &Path, arguments: &[&str]) -> Outcome<Vec<u8>> {
    let output = git_command(from, arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| no_git(&error))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let line = plain(said.lines().next().unwrap_or("no reason given"));
    Err(Failure::failed(format!("git cannot read {}: {line}", from.display())))
}

/// One `git cat-file --batch` for all blobs.
pub struct Blobs {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Blobs {
    /// Starts it.
    pub fn open(from: &Path) -> Outcome<Self> {
        let spawned = git_command(from, &["cat-file", "--batch"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child = spawned.map_err(|error| no_git(&error))?;
        let ask = child.stdin.take().expect("the input is piped");
        let answers = BufReader::new(child.stdout.take().expect("the output is piped"));
        Ok(Self { child, ask, answers })
    }

    /// The bytes of a blob; `None` when it is missing or too large.
    pub fn get(&mut self, id: &str) -> Outcome<Option<Vec<u8>>> {
        const READING: &str = "reading from git";
        writeln!(self.ask, "{id}").and_then(|()| self.ask.flush()).during(READING)?;
        let mut head = String::new();
        self.answers.read_line(&mut head).during(READING)?;
        let mut parts = head.trim_end().split(' ').skip(1);
        let (Some("blob"), Some(size)) = (parts.next(), parts.next()) else { return Ok(None) };
        let size: u64 = size.parse().during(READING)?;
        let mut bytes = Vec::new();
        let mut body = (&mut self.answers).take(size);
        let kept = size <= BLOB_BYTES_MAX;
        if kept {
            body.read_to_end(&mut bytes).during(READING)?;
        } else {
            std::io::copy(&mut body, &mut std::io::sink()).during(READING)?;
        }
        let mut end = [0];
        self.answers.read_exact(&mut end).during(READING)?;
        let whole = bytes.len() as u64 == size;
        if kept && !whole {
            return Err(Failure::failed("git ended in the middle of a file"));
        }
        Ok(kept.then_some(bytes))
    }
}

impl Drop for Blobs {
    fn drop(&mut self) {
        // Its input ends with us, and with that it ends; a kill only hastens it, and fails when it
        // has ended already. What it was to give has been read, or an error was told: how it ended
        // says nothing more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
