//! Names that lead through one another: a note moved below its own former name, a file where a
//! folder was, and the other way round.
//!
//! Such a file cannot go from name to name in one step: it is lifted into the undo folder, where a
//! crash leaves it to be put back, and lowered as soon as its new name is free. What is lifted is
//! never a file that was not looked at, and what comes down is looked at again.

use std::io::ErrorKind;

use crucible_core::vault_path::VaultPath;

use super::folders::{into_folder, move_to};
use super::{
    Displaced, Known, Look, Renamed, Touched, UniqueName, WriteError, arrived, is_absent,
    is_crossing, look, look_at_displaced, settle,
};
use crate::content::Naming;
use crate::fs::{FileKind, FileSystem, UNDO_DIR, UNDO_PREFIX, join, parent};

/// Begins the names of files on their way.
const LIFT_PREFIX: &str = "lift-";
/// Folders inside one another that are looked through.
const DEPTH_MAX: usize = 128;

/// A file that has no visible name for the moment.
#[derive(Debug)]
#[must_use = "lower it or put it back, or it is nowhere to be seen"]
pub struct Lifted {
    at: String,
    from: VaultPath,
}

impl Lifted {
    /// The file that a crash left lifted from `from` under this name, if it did.
    pub fn left<F: FileSystem>(fs: &F, from: &VaultPath, name: &str) -> Option<Self> {
        let is_there = |at: &String| fs.stat(at).is_ok_and(|stat| stat.kind == FileKind::File);
        let at = [in_undo(name), beside(from, name)].into_iter().find(is_there)?;
        Some(Self { at, from: from.clone() })
    }

    /// Where it lies.
    pub fn at(&self) -> &str {
        &self.at
    }
}

/// What became of a lifting.
#[derive(Debug)]
pub enum Lift {
    /// It is in the undo folder, durably.
    Done(Lifted),
    /// The file has other content than expected; nothing was done.
    Changed,
    /// No file is there; nothing was done.
    Gone,
    /// It could be neither lifted for good nor put back: another file has its name by now.
    Displaced(Displaced),
}

/// Takes a file from its name, if it is what is expected.
///
/// # Errors
/// [`WriteError`]; it is where it was, or a leftover.
pub fn lift<F: FileSystem>(
    fs: &F,
    from: &VaultPath,
    known: &Known,
    name: &UniqueName,
    touched: &mut Touched,
) -> Result<Lift, WriteError> {
    match look(fs, from, known)? {
        Look::AsExpected(_) => {}
        Look::Changed => return Ok(Lift::Changed),
        Look::Gone => return Ok(Lift::Gone),
    }
    let visible = from.as_str();
    let fail = |error| WriteError::new(visible, error);
    let mut at = in_undo(name.as_str());
    let mut moved = move_to(fs, visible, &at);
    if is_crossing(&moved) {
        at = beside(from, name.as_str());
        moved = fs.rename_new(visible, &at);
    }
    let lifted = Lifted { at, from: from.clone() };
    // Folders on the way may be made and removed next: a power cut must not take the file along.
    let durable = moved.and_then(|()| {
        touched.insert(parent(visible));
        fs.sync_dir(parent(&lifted.at))
    });
    match durable {
        Ok(()) => Ok(Lift::Done(lifted)),
        // Over a network, what failed may have been done.
        Err(error) => match put_back(fs, lifted, known, touched) {
            None if is_absent(&error) => Ok(Lift::Gone),
            None => Err(fail(error)),
            Some(displaced) => Ok(Lift::Displaced(displaced)),
        },
    }
}

/// Where a file is lifted to. A step's new bytes and what they displace have its bare name: what
/// has this one is a file on its way, whatever it holds by now.
fn in_undo(name: &str) -> String {
    join(UNDO_DIR, &format!("{LIFT_PREFIX}{name}"))
}

/// The same when the undo folder is on another device.
fn beside(from: &VaultPath, name: &str) -> String {
    join(parent(from.as_str()), &format!("{UNDO_PREFIX}{LIFT_PREFIX}{name}"))
}

/// The name of the step that left something under this one in the undo folder.
pub fn name_of_step(leftover: &str) -> &str {
    leftover.strip_prefix(LIFT_PREFIX).unwrap_or(leftover)
}

/// Gives a lifted file its new name; its old one again when that cannot be had.
///
/// # Errors
/// [`WriteError`]; it has its old name again.
pub fn lower<F: FileSystem>(
    fs: &F,
    lifted: Lifted,
    to: &VaultPath,
    known: &Known,
    touched: &mut Touched,
) -> Result<Renamed, WriteError> {
    let naming = Naming::of(&lifted.from);
    let undo = parent(&lifted.at).to_owned();
    let failed = match move_in(fs, &lifted.at, to, touched) {
        Ok(true) => {
            touched.insert(&undo);
            touched.insert(parent(to.as_str()));
            return arrived(fs, to, naming, known.hash);
        }
        Ok(false) => Ok(Renamed::Occupied),
        Err(error) => Err(error),
    };
    match put_back(fs, lifted, known, touched) {
        None => failed,
        Some(displaced) => Ok(Renamed::Displaced(displaced)),
    }
}

/// Gives a lifted file its old name again. When another file has that by now, what was lifted
/// stays where it is and is told.
pub fn put_back<F: FileSystem>(
    fs: &F,
    lifted: Lifted,
    known: &Known,
    touched: &mut Touched,
) -> Option<Displaced> {
    let Lifted { at, from } = lifted;
    let is_back = match move_in(fs, &at, &from, touched) {
        Ok(is_back) => is_back,
        Err(_) => fs.stat(&at).is_err_and(|error| is_absent(&error)),
    };
    if !is_back {
        return Some(look_at_displaced(fs, &at, Naming::of(&from), known.hash));
    }
    touched.insert(parent(&at));
    touched.insert(parent(from.as_str()));
    None
}

/// Moves a lifted file to a name, from which empty folders give way; `false` when it is taken.
fn move_in<F: FileSystem>(
    fs: &F,
    at: &str,
    to: &VaultPath,
    touched: &mut Touched,
) -> Result<bool, WriteError> {
    let visible = to.as_str();
    let step = || fs.rename_new(at, visible);
    let mut moved = into_folder(fs, visible, step)?;
    if is_taken(&moved) && vacate(fs, visible, touched)? {
        moved = step();
    }
    match moved {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(WriteError::new(visible, error)),
    }
}

pub(super) fn is_taken(moved: &std::io::Result<()>) -> bool {
    moved.as_ref().is_err_and(|error| error.kind() == ErrorKind::AlreadyExists)
}

/// Removes the folder at `path` when there is no file in it, however deep: that loses nothing.
/// Whether the name is free now.
pub(super) fn vacate<F: FileSystem>(
    fs: &F,
    path: &str,
    touched: &mut Touched,
) -> Result<bool, WriteError> {
    let is_folder = fs.stat(path).is_ok_and(|stat| stat.kind == FileKind::Dir);
    if !is_folder || is_in_the_way(fs, path, &mut |_| false) {
        return Ok(false);
    }
    // What was moved out of it must not come back into a folder that is gone.
    settle(fs, touched)?;
    if !remove_folders(fs, path, 0)? {
        return Ok(false);
    }
    touched.insert(parent(path));
    Ok(true)
}

/// Removes a folder and those in it while they are empty.
fn remove_folders<F: FileSystem>(fs: &F, dir: &str, depth: usize) -> Result<bool, WriteError> {
    let fail = |error| WriteError::new(dir, error);
    let entries = match fs.list(dir) {
        Ok(entries) => entries,
        Err(error) if is_absent(&error) => return Ok(true),
        Err(error) => return Err(fail(error)),
    };
    for entry in entries {
        let Some(name) = entry.name.to_str() else { return Ok(false) };
        let is_folder = entry.stat.is_ok_and(|stat| stat.kind == FileKind::Dir);
        if !is_folder || depth >= DEPTH_MAX || !remove_folders(fs, &join(dir, name), depth + 1)? {
            return Ok(false);
        }
    }
    match fs.remove_dir(dir) {
        Ok(()) => Ok(true),
        Err(error) if is_absent(&error) => Ok(true),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists | ErrorKind::ResourceBusy
            ) =>
        {
            Ok(false)
        }
        Err(error) => Err(fail(error)),
    }
}

/// Whether something at `path` keeps a file from ever being placed there: a link, a special file,
/// a mount, a file that stays, or a folder that holds such. `leaves` says of a file that it will
/// not stay; empty folders do not.
pub fn is_in_the_way<F: FileSystem>(
    fs: &F,
    path: &str,
    leaves: &mut dyn FnMut(&str) -> bool,
) -> bool {
    // What cannot be looked at is told when it is written to.
    let Ok(stat) = fs.stat(path) else { return false };
    match stat.kind {
        FileKind::File => !leaves(path),
        FileKind::Symlink | FileKind::Other => true,
        FileKind::Dir => {
            let above = fs.stat(parent(path)).map(|above| above.dev);
            above.is_ok_and(|dev| dev != stat.dev) || holds_some(fs, path, leaves, 0)
        }
    }
}

fn holds_some<F: FileSystem>(
    fs: &F,
    dir: &str,
    leaves: &mut dyn FnMut(&str) -> bool,
    depth: usize,
) -> bool {
    let Ok(entries) = fs.list(dir) else { return true };
    entries.into_iter().any(|entry| {
        let (Some(name), Ok(stat)) = (entry.name.to_str(), &entry.stat) else { return true };
        let path = join(dir, name);
        match stat.kind {
            FileKind::File => !leaves(&path),
            FileKind::Dir => depth >= DEPTH_MAX || holds_some(fs, &path, leaves, depth + 1),
            FileKind::Symlink | FileKind::Other => true,
        }
    })
}
