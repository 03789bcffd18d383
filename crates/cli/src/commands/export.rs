//! `cru export`: a plain copy, or the whole history as a git repository.
//!
//! The repository has one line of commits, one a version, parents before children: a version that
//! lost a merge is followed by the one that won, so `git log -p` shows every text that ever was. It
//! would show nothing of a merge commit, so a merge version is an ordinary one that names its parents.

mod git_stream;

use std::collections::HashMap;
use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crucible_core::hash::ContentHash;
use crucible_node::replica::Options;
use crucible_sync::replica::ReplicaStore;
use serde_json::json;

use crate::args::Export;
use crate::context::Context;
use crate::exit::{During, Exit, Failure, Outcome};
use crate::nesting;
use crate::output::{count, plain};
use crate::past::{Entry, Past};
use crate::progress::Bar;
use crate::rounds;
use crate::vault_folder::VaultFolder;
use git_stream::{Commit, GitStream, Names};

/// Exports.
pub fn run(args: &Export, context: &Context) -> Outcome {
    let folder = VaultFolder::find(&context.start)?;
    let target = |to: &Path| empty(outside(context.path(to), to)?);
    match (&args.git, &args.to) {
        (Some(to), _) => git(&folder, context, &target(to)?),
        (None, Some(to)) => copy(&folder, context, &target(to)?),
        (None, None) => Err(Failure::new(Exit::Usage, "where to?")
            .hint("`cru export FOLDER` copies the notes, `cru export --git FOLDER` their history")),
    }
}

/// Not inside a vault, this one or another: a copy of the notes there would be synced as more
/// notes. `typed` is the target as a person wrote it.
fn outside(to: PathBuf, typed: &Path) -> Outcome<PathBuf> {
    let Some(around) = nesting::vault_around(&to)? else { return Ok(to) };
    let message = format!(
        "{} is inside the vault {}, and what is there is synced; nothing was written",
        to.display(),
        around.config.vault,
    );
    let hint = match typed.is_relative() {
        true => "a relative name counts from the folder of -C, as in git: give a full path, or ../",
        false => "name a folder outside of it",
    };
    Err(Failure::new(Exit::Refused, message).hint(hint))
}

/// A folder that is not there yet, or has nothing in it.
fn empty(to: PathBuf) -> Outcome<PathBuf> {
    let filled = match fs::read_dir(&to) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => return Err(error).during(format!("reading {}", to.display())),
    };
    if filled {
        let message = format!("{} is not empty; nothing was written", to.display());
        return Err(Failure::new(Exit::Refused, message).hint("name a folder that is not there"));
    }
    fs::create_dir_all(&to).during(format!("making {}", to.display()))?;
    Ok(to)
}

fn copy(folder: &VaultFolder, context: &Context, to: &Path) -> Outcome {
    let mut vault = folder.open()?;
    let bar = Bar::new(&context.output);
    rounds::make(&mut vault, None, Options::default(), &bar)?;
    let files = vault.replica.store().files()?;
    let of = files.len() as u64;
    for (done, file) in files.iter().enumerate() {
        bar.part("copying", done as u64, of);
        let from = folder.root.join(file.disk_path.as_str());
        let target = to.join(file.disk_path.as_str());
        let parent = target.parent().unwrap_or(to);
        fs::create_dir_all(parent).during(format!("making {}", parent.display()))?;
        fs::copy(&from, &target).during(format!("copying {}", from.display()))?;
    }
    bar.clear();
    let to = to.display().to_string();
    context.output.value(&json!({ "type": "exported", "folder": to, "files": of }))?;
    context.output.line(format!("{} copied to {to}", count(of, "file", "files")))?;
    Ok(Exit::Ok)
}

fn git(folder: &VaultFolder, context: &Context, to: &Path) -> Outcome {
    let bar = Bar::new(&context.output);
    bar.say("asking for the history");
    let mut past = Past::open(folder, context)?;
    let mut entries = past.list(None, usize::MAX)?;
    entries.reverse();
    run_git(to, &["init", "-q", "-b", "main"])?;
    run_git(to, &["config", "core.autocrlf", "false"])?;
    let written = write_history(to, &mut past, &entries, &bar)?;
    if written.commits > 0 {
        run_git(to, &["reset", "-q", "--hard", "main"])?;
    }
    bar.clear();
    let output = &context.output;
    for path in &written.missing {
        output.warn(format!("the bytes of a version of {} are nowhere any more", plain(path)));
    }
    output.value(&json!({
        "type": "exported",
        "repository": to.display().to_string(),
        "commits": written.commits,
        "missing": written.missing,
    }))?;
    let commits = count(written.commits, "version", "versions");
    output.line(format!("{commits} written to {} as git commits", to.display()))?;
    Ok(if written.missing.is_empty() { Exit::Ok } else { Exit::Attention })
}

#[derive(Default)]
struct Written {
    commits: u64,
    /// Versions whose bytes nobody has.
    missing: Vec<String>,
}

fn write_history(to: &Path, past: &mut Past<'_>, entries: &[Entry], bar: &Bar) -> Outcome<Written> {
    let mut import = git_command(to, &["fast-import", "--quiet", "--done"]);
    let spawned = import.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|error| no_git(&error))?;
    let pipe = child.stdin.take().expect("the input is piped");
    let mut history = History {
        past,
        names: Names::default(),
        marks: HashMap::new(),
        written: Written::default(),
    };
    let mut stream = GitStream::new(BufWriter::new(pipe));
    let outcome = history.write(&mut stream, entries, bar);
    let closed = stream.finish();
    let ended = finish(child);
    outcome?;
    ended?;
    closed.during("writing to git")?;
    Ok(history.written)
}

/// What is written so far.
struct History<'h, 'c> {
    past: &'h mut Past<'c>,
    names: Names,
    marks: HashMap<ContentHash, u64>,
    written: Written,
}

impl History<'_, '_> {
    fn write<W: Write>(
        &mut self,
        stream: &mut GitStream<W>,
        entries: &[Entry],
        bar: &Bar,
    ) -> Outcome<()> {
        let of = entries.len() as u64;
        for (done, entry) in entries.iter().enumerate() {
            bar.part("writing versions", done as u64, of);
            self.write_one(stream, entry)?;
        }
        Ok(())
    }

    fn write_one<W: Write>(&mut self, stream: &mut GitStream<W>, entry: &Entry) -> Outcome<()> {
        let blob = match (&entry.path, entry.content) {
            (Some(path), Some(content)) => match self.blob(stream, entry, &content)? {
                Some(mark) => Some((path.clone(), mark)),
                None => {
                    self.written.missing.push(path.clone());
                    return Ok(());
                }
            },
            _ => None,
        };
        let changes = self.names.place(&entry.note, blob);
        let commit = Commit { entry, changes };
        stream.commit(&commit).during("writing to git")?;
        self.written.commits += 1;
        Ok(())
    }

    /// The mark of a content, written when it is new; `None` when nobody has its bytes.
    fn blob<W: Write>(
        &mut self,
        stream: &mut GitStream<W>,
        entry: &Entry,
        content: &ContentHash,
    ) -> Outcome<Option<u64>> {
        if let Some(mark) = self.marks.get(content) {
            return Ok(Some(*mark));
        }
        let bytes = match self.past.bytes(entry) {
            Ok(bytes) => bytes,
            // Replaced before it was ever stored elsewhere.
            Err(failure) if failure.exit == Exit::Failed => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let mark = stream.blob(&bytes).during("writing to git")?;
        self.marks.insert(*content, mark);
        Ok(Some(mark))
    }
}

/// Waits for git, and says what it said when it failed.
fn finish(child: Child) -> Outcome<()> {
    let output = child.wait_with_output().during("running git")?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().find(|line| !line.is_empty()).unwrap_or("no reason given");
    Err(Failure::failed(format!("git could not take the history: {}", plain(line))))
}

fn run_git(folder: &Path, arguments: &[&str]) -> Outcome<()> {
    let spawned = git_command(folder, arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .stdin(Stdio::null())
        .spawn();
    finish(spawned.map_err(|error| no_git(&error))?)
}

/// Git in a folder, and in no other repository that the environment names.
pub fn git_command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("git");
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"] {
        command.env_remove(variable);
    }
    command.env("LC_ALL", "C").arg("-C").arg(folder).args(arguments);
    command
}

/// Why git cannot be started.
pub fn no_git(error: &std::io::Error) -> Failure {
    match error.kind() {
        std::io::ErrorKind::NotFound => Failure::failed("there is no `git` on this machine")
            .hint("install it; `cru` itself needs it for nothing else"),
        _ => Failure::failed(format!("git cannot be started: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use crucible_node::config::{Config, Mode};

    use super::*;

    #[test]
    fn a_vault_is_not_exported_into_itself() {
        let there = tempfile::tempdir().unwrap();
        let root = there.path().join("vault");
        let config = Config {
            vault_id: crucible_core::id::VaultId::from_bytes([1; 16]),
            vault: "vault".to_owned(),
            mode: Mode::Local,
            policies: Vec::new(),
        };
        crate::attach::make_folder(&root, &config).unwrap();
        for inside in ["", "copy", "deep/er/copy", "../vault/copy"] {
            let refused = outside(root.join(inside), Path::new(inside)).unwrap_err();
            assert_eq!(refused.exit, Exit::Refused, "{inside}");
            assert!(refused.hint.contains("-C"), "{refused:?}");
        }
        let full = root.join("copy");
        assert!(outside(full.clone(), &full).unwrap_err().hint.contains("outside"));
        assert!(outside(root.join("../copy"), Path::new("../copy")).is_ok());
    }

    #[test]
    fn nothing_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        assert!(empty(folder.path().join("new")).is_ok());
        fs::write(folder.path().join("precious"), "x").unwrap();
        assert_eq!(empty(folder.path().to_owned()).unwrap_err().exit, Exit::Refused);
    }
}
