//! What is left after a write or a crash: looked at before it goes.
//!
//! Invariant: nothing leaves the undo folder that was not just seen to be what the caller knows.

use std::io::{self, ErrorKind};

use crucible_core::hash::ContentHash;

use super::{Staged, Touched, WriteError, is_absent};
use crate::content::{Identity, Naming, identify_file};
use crate::fs::{
    FileKind, FileSystem, Stat, TMP_DIR, TMP_PREFIX, UNDO_DIR, UNDO_PREFIX, file_name, join, parent,
};

/// A file of ours from an earlier run that may hold somebody's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Where it lies.
    pub at: String,
    /// The unique name of the write that put it there.
    pub name: String,
    /// How it looks.
    pub stat: Stat,
}

impl Leftover {
    /// The leftover at a path that a scan reported; `None` for temporary and for other files.
    pub fn at(path: &str, stat: Stat) -> Option<Self> {
        let name = file_name(path).strip_prefix(UNDO_PREFIX)?.to_owned();
        Some(Self { at: path.to_owned(), name, stat })
    }
}

/// What became of displaced bytes that were let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retired {
    /// They are gone, and were what the caller knows.
    Done,
    /// Somebody wrote to them since: merge them, then retire them as this.
    Changed(Identity),
}

/// Lets displaced bytes go if they still are `hash`. A file that is gone already is done.
///
/// # Errors
/// [`WriteError`]; they stay then.
pub fn retire<F: FileSystem>(
    fs: &F,
    at: &str,
    hash: ContentHash,
    naming: Naming,
) -> Result<Retired, WriteError> {
    let fail = |error| WriteError::new(at, error);
    match identify_file(fs, at, naming) {
        Ok(identity) if identity.hash == hash => {}
        Ok(identity) => return Ok(Retired::Changed(identity)),
        Err(error) if is_absent(&error) => return Ok(Retired::Done),
        Err(error) => return Err(fail(error)),
    }
    match fs.remove_file(at) {
        Ok(()) => Ok(Retired::Done),
        Err(error) if is_absent(&error) => Ok(Retired::Done),
        Err(error) => Err(fail(error)),
    }
}

/// What lies in the undo folder, in the order of names; a scan reports what lies beside files.
///
/// # Errors
/// When the folder is there and cannot be listed.
pub fn leftovers<F: FileSystem>(fs: &F) -> io::Result<Vec<Leftover>> {
    let entries = match fs.list(UNDO_DIR) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let stat = entry.stat?;
        // Every name in there is of our making, hence UTF-8.
        if let Some(name) = entry.name.to_str() {
            let name = name.to_owned();
            found.push(Leftover { at: join(UNDO_DIR, &name), name, stat });
        }
    }
    Ok(found)
}

/// Empties the tmp folder at the start, when nothing of ours runs; says how much there was.
/// Keeps the names that `keep` wants: unfinished downloads that will go on.
///
/// # Errors
/// The system's; harmless, it is tried again at the next start.
pub fn clean_tmp<F: FileSystem>(fs: &F, keep: impl Fn(&str) -> bool) -> io::Result<usize> {
    let entries = match fs.list(TMP_DIR) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut cleaned = 0;
    for entry in entries {
        let Some(name) = entry.name.to_str() else { continue };
        if keep(name) {
            continue;
        }
        let at = join(TMP_DIR, name);
        if entry.stat?.kind == FileKind::Dir {
            remove_tree(fs, &at)?;
        } else {
            fs.remove_file(&at)?;
        }
        cleaned += 1;
    }
    Ok(cleaned)
}

/// Removes one temporary file; one that a scan reported as well. Anything else is left alone.
pub fn discard_tmp<F: FileSystem>(fs: &F, at: &str) {
    if parent(at) == TMP_DIR || file_name(at).starts_with(TMP_PREFIX) {
        // Whatever stays is cleaned at the next start.
        let _ = fs.remove_file(at);
    }
}

/// Removes the folder `dir` if it is empty and `ours`, then those above it likewise.
///
/// # Errors
/// [`WriteError`]; a folder that is in use is no error.
pub fn prune<F: FileSystem>(
    fs: &F,
    dir: &str,
    ours: impl Fn(&str) -> bool,
    touched: &mut Touched,
) -> Result<(), WriteError> {
    let mut dir = dir;
    while !dir.is_empty() && ours(dir) {
        match fs.remove_dir(dir) {
            Ok(()) => touched.insert(parent(dir)),
            Err(error) if is_absent(&error) => {}
            // Some systems say EEXIST, and a mount point or a working directory is busy.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::DirectoryNotEmpty
                        | ErrorKind::AlreadyExists
                        | ErrorKind::ResourceBusy
                ) =>
            {
                return Ok(());
            }
            Err(error) => return Err(WriteError::new(dir, error)),
        }
        dir = parent(dir);
    }
    Ok(())
}

/// Removes a folder of ours with all that is in it.
pub(crate) fn remove_tree<F: FileSystem>(fs: &F, dir: &str) -> io::Result<()> {
    for entry in fs.list(dir)? {
        let name = entry.name.to_str().ok_or(ErrorKind::InvalidFilename)?;
        let at = join(dir, name);
        if entry.stat?.kind == FileKind::Dir {
            remove_tree(fs, &at)?;
        } else {
            fs.remove_file(&at)?;
        }
    }
    fs.remove_dir(dir)
}

/// Takes a staged file out of the undo folder again, if what lies there is still that file: after
/// an error nobody knows whether a swap was made.
pub(super) fn take_back<F: FileSystem>(fs: &F, staged: &Staged) {
    let Ok(found) = fs.stat(&staged.at) else { return };
    if staged.inode != Some(found.inode) {
        return;
    }
    // Failing either leaves our own bytes as a leftover, which the next start recognises.
    let _ = match &staged.home {
        Some(home) => fs.rename_new(&staged.at, home),
        None => fs.remove_file(&staged.at),
    };
}
