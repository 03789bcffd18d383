//! Folders on the way to a file: made when they are missing, taken away when made for nothing.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};

use crucible_core::vault_path::VaultPath;

use super::{Touched, WriteError, is_absent, settle};
use crate::fs::{FileKind, FileSystem, parent};

/// How often a folder that others keep removing is made again.
const PARENT_TRIES: usize = 3;

/// Makes the folders that are missing for files about to be placed, durably: a power cut that
/// kept a file's new name and took its folder back would take what somebody wrote to it along.
/// Those that cannot be made are told when the file is placed. What it made.
///
/// # Errors
/// [`WriteError`]; the folders stay.
pub fn make_folders<'p, F: FileSystem>(
    fs: &F,
    paths: impl IntoIterator<Item = &'p VaultPath>,
) -> Result<BTreeSet<String>, WriteError> {
    let (mut made, mut touched) = (Vec::new(), Touched::new());
    let parents: BTreeSet<&str> = paths.into_iter().map(|path| parent(path.as_str())).collect();
    for dir in parents {
        // Placing meets it again.
        let _ = make_missing(fs, dir, &mut made);
    }
    for dir in &made {
        touched.insert(parent(dir));
    }
    settle(fs, &mut touched)?;
    Ok(made.into_iter().collect())
}

/// Runs `step`, which needs the folder of `path`; makes it when it is missing, again when
/// somebody removes it in between. It is durable before anything is moved into it.
pub(super) fn into_folder<F: FileSystem>(
    fs: &F,
    path: &str,
    step: impl Fn() -> io::Result<()>,
) -> Result<io::Result<()>, WriteError> {
    let mut made = Vec::new();
    let mut done = step();
    for _ in 0..PARENT_TRIES {
        if !done.as_ref().is_err_and(is_absent) {
            break;
        }
        match make_missing(fs, parent(path), &mut made) {
            Ok(()) => {}
            Err(error) => {
                unmake(fs, made);
                return Err(error.below(path));
            }
        }
        for dir in &made {
            fs.sync_dir(parent(dir)).map_err(|error| WriteError::new(path, error))?;
        }
        done = step();
    }
    if done.is_err() {
        unmake(fs, made);
        return Ok(done);
    }
    Ok(done)
}

/// Makes `dir` and what is missing above it, and notes what it made, outermost first.
fn make_missing<F: FileSystem>(
    fs: &F,
    dir: &str,
    made: &mut Vec<String>,
) -> Result<(), WriteError> {
    if dir.is_empty() {
        return Ok(());
    }
    match fs.stat(dir) {
        Ok(stat) if stat.kind == FileKind::Dir => return Ok(()),
        Ok(stat) => {
            let (path, blocker) = (dir.to_owned(), dir.to_owned());
            return Err(WriteError::Blocked { path, blocker, found: stat.kind });
        }
        Err(error) if is_absent(&error) => {}
        Err(error) => return Err(WriteError::new(dir, error)),
    }
    make_missing(fs, parent(dir), made)?;
    match fs.make_dir(dir) {
        Ok(()) => made.push(dir.to_owned()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(WriteError::new(dir, error)),
    }
    Ok(())
}

/// Takes folders away that were made for nothing; one that is in use by now stays.
fn unmake<F: FileSystem>(fs: &F, made: Vec<String>) {
    for dir in made.iter().rev() {
        if fs.remove_dir(dir).is_err() {
            break;
        }
    }
}

/// Moves something to a free name in one of our folders, which is made when it is missing.
pub(super) fn move_to<F: FileSystem>(fs: &F, from: &str, to: &str) -> io::Result<()> {
    match fs.rename_new(from, to) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        done => return done,
    }
    make_state_dir(fs, parent(to))?;
    fs.rename_new(from, to)
}

/// Makes one of our folders and those above it.
pub(crate) fn make_state_dir<F: FileSystem>(fs: &F, dir: &str) -> io::Result<()> {
    if !dir.is_empty() {
        match fs.make_dir(dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                make_state_dir(fs, parent(dir))?;
                return make_state_dir(fs, dir);
            }
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            Ok(()) => fs.sync_dir(parent(dir))?,
            Err(_) => {}
        }
    }
    Ok(())
}
