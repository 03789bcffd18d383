//! Reading a git history: commits oldest first, and of each what it changed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use crucible_core::vault_path::VaultPath;

use super::{Place, Tally, commit, put_counted};
use crate::commands::export::{git_command, no_git};
use crate::exit::{During, Failure, Outcome};
use crate::output::plain;
use crate::progress::Bar;
use crate::vault_folder::OpenVault;

/// Larger files of a history are left out.
const BLOB_BYTES_MAX: u64 = 1 << 30;

/// Whether a folder is a repository of its own.
pub fn is_repository(folder: &Path) -> bool {
    folder.join(".git").exists()
        || (folder.join("HEAD").is_file() && folder.join("objects").is_dir())
}

/// A file of the history that stands in the vault now.
struct Standing {
    at: VaultPath,
    /// What this import wrote there last.
    bytes: Vec<u8>,
}

struct Importer<'i> {
    place: &'i Place,
    tally: &'i mut Tally,
    blobs: Blobs,
    /// By path in the repository.
    standing: HashMap<String, Standing>,
    /// Paths that somebody edited meanwhile: theirs from then on.
    left: BTreeSet<String>,
}

/// A commit of the history.
struct Commit<'g> {
    id: &'g str,
    /// When its author made it, in milliseconds since 1970.
    at_ms: u64,
}

impl<'g> Commit<'g> {
    /// Reads a line of its hash and its seconds; before 1970 is 1970. The lines between are none.
    fn parse(line: &'g str) -> Option<Self> {
        let (id, seconds) = line.split_once(' ')?;
        let seconds = u64::try_from(seconds.parse::<i64>().ok()?).unwrap_or(0);
        Some(Self { id, at_ms: seconds.saturating_mul(1000) })
    }
}

/// Brings every commit in, then what the history left in the end.
pub fn import(
    from: &Path,
    place: &Place,
    vault: &mut OpenVault,
    bar: &Bar,
    tally: &mut Tally,
) -> Outcome<()> {
    let listed =
        git_output(from, &["rev-list", "--reverse", "--topo-order", "--format=%H %at", "HEAD"])?;
    let commits: Vec<Commit<'_>> = listed.lines().filter_map(Commit::parse).collect();
    let Some(last) = commits.last() else {
        return Err(Failure::failed(format!("{} has no commits", from.display())));
    };
    let mut importer = Importer {
        place,
        tally,
        blobs: Blobs::open(from)?,
        standing: HashMap::new(),
        left: BTreeSet::new(),
    };
    let of = commits.len() as u64;
    for (done, Commit { id, at_ms }) in commits.iter().enumerate() {
        bar.part("importing commits", done as u64, of);
        let changes = changes_of(from, id)?;
        if importer.apply(&changes)? {
            commit(vault, *at_ms, bar)?;
        }
        importer.tally.commits += 1;
    }
    // Branches that ran beside each other took turns: in the end it is as the last commit says.
    let tree = tree_of(from, last.id)?;
    importer.settle(&tree)
}

impl Importer<'_> {
    /// Whether anything in the vault changed.
    fn apply(&mut self, changes: &BTreeMap<String, Option<String>>) -> Outcome<bool> {
        let mut changed = false;
        for (name, blob) in changes {
            changed |= match blob {
                Some(blob) => self.write(name, blob)?,
                None => self.remove(name)?,
            };
        }
        Ok(changed)
    }

    fn settle(&mut self, tree: &BTreeMap<String, String>) -> Outcome<()> {
        let gone: Vec<String> =
            self.standing.keys().filter(|name| !tree.contains_key(*name)).cloned().collect();
        for name in gone {
            self.remove(&name)?;
        }
        for (name, blob) in tree {
            self.write(name, blob)?;
        }
        Ok(())
    }

    fn write(&mut self, name: &str, blob: &str) -> Outcome<bool> {
        if self.left.contains(name) {
            return Ok(false);
        }
        let Some(bytes) = self.blobs.get(blob)? else {
            self.tally.skipped.push((name.to_owned(), "it is too large, or no file".to_owned()));
            self.left.insert(name.to_owned());
            return Ok(false);
        };
        let Some(standing) = self.standing.get_mut(name) else {
            match put_counted(self.place, name, &bytes, self.tally)? {
                Some(at) => drop(self.standing.insert(name.to_owned(), Standing { at, bytes })),
                None => drop(self.left.insert(name.to_owned())),
            }
            return Ok(true);
        };
        if standing.bytes == bytes {
            return Ok(false);
        }
        let during = format!("writing {}", plain(standing.at.as_str()));
        if fs::read(self.place.file(&standing.at)).ok().as_ref() != Some(&standing.bytes) {
            return Ok(self.leave(name));
        }
        self.place.replace(&standing.at, &bytes).during(during)?;
        standing.bytes = bytes;
        Ok(true)
    }

    fn remove(&mut self, name: &str) -> Outcome<bool> {
        let Some(standing) = self.standing.get(name) else { return Ok(false) };
        let file = self.place.file(&standing.at);
        if fs::read(&file).ok().as_ref() != Some(&standing.bytes) {
            return Ok(self.leave(name));
        }
        fs::remove_file(&file).during(format!("removing {}", file.display()))?;
        self.standing.remove(name);
        Ok(true)
    }

    fn leave(&mut self, name: &str) -> bool {
        self.standing.remove(name);
        self.left.insert(name.to_owned());
        let reason = "somebody edited it while it was imported: it stays as it is";
        self.tally.skipped.push((name.to_owned(), reason.to_owned()));
        false
    }
}

/// What a commit changed against its first parent: blob by path, `None` for what went.
fn changes_of(from: &Path, commit: &str) -> Outcome<BTreeMap<String, Option<String>>> {
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
        let mut parts = about.split(' ').skip(1);
        let (Some(mode), Some(blob)) = (parts.next(), parts.nth(1)) else { continue };
        let name = String::from_utf8_lossy(name).into_owned();
        changes.insert(name, is_file(mode).then(|| blob.to_owned()));
    }
    Ok(changes)
}

fn tree_of(from: &Path, commit: &str) -> Outcome<BTreeMap<String, String>> {
    let listed = git_bytes(from, &["ls-tree", "-r", "-z", commit])?;
    let mut tree = BTreeMap::new();
    for line in listed.split(|byte| *byte == 0) {
        let line = String::from_utf8_lossy(line);
        // MODE TYPE BLOB\tNAME
        let Some((about, name)) = line.split_once('\t') else { continue };
        let mut parts = about.split(' ');
        let (Some(mode), Some(blob)) = (parts.next(), parts.nth(1)) else { continue };
        if is_file(mode) {
            tree.insert(name.to_owned(), blob.to_owned());
        }
    }
    Ok(tree)
}

/// A regular file; neither a link nor another repository.
fn is_file(mode: &str) -> bool {
    matches!(mode, "100644" | "100755" | "100664")
}

fn git_output(from: &Path, arguments: &[&str]) -> Outcome<String> {
    Ok(String::from_utf8_lossy(&git_bytes(from, arguments)?).into_owned())
}

fn git_bytes(from: &Path, arguments: &[&str]) -> Outcome<Vec<u8>> {
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
struct Blobs {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Blobs {
    fn open(from: &Path) -> Outcome<Self> {
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
    fn get(&mut self, id: &str) -> Outcome<Option<Vec<u8>>> {
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
