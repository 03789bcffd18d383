//! Changes to the folder that lose nothing: swap, and look at what was displaced.
//!
//! Check the hash, then rename, is what most tools do; it loses an edit made in between. Here the
//! new bytes are made durable under a name in [`UNDO_DIR`] and *exchanged* with what is visible
//! (or renamed to a free name); then what came out is read. If it is not what the caller merged
//! from, the caller is told so and where it lies, merges it too, and repeats. Invariants:
//! - A visible file is never written in place, never absent, and never anything but whole.
//! - Whatever was visible when a call began or appeared while it ran is, after it ran or stopped
//!   anywhere inside, visible, in [`UNDO_DIR`], or in the trash; `.crucible/tmp` holds no bytes
//!   of anybody's at any time.
//! - After an error, too: what may have been displaced is found by [`leftovers`].
//!
//! One file: [`replace`], [`remove`], [`rename`]; [`lift`] and [`lower`] where names lead through
//! one another. Many: [`stage`] each, [`make_folders`] and [`sync_staged`] once,
//! [`place`] each, [`settle`] once. Displaced bytes stay until [`retire`], which looks again: an
//! editor may still hold the old file open. Journal the unique name with its path beforehand:
//! after a crash it says where a leftover belongs.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};

use crucible_core::hash::ContentHash;
use crucible_core::vault_path::VaultPath;

use crate::content::{Identity, Naming, identify_file};
use crate::fs::{FileKind, FileSystem, Stat, UNDO_DIR, UNDO_PREFIX, join, parent};
use crate::trash::TrashPlace;

mod cleanup;
mod folders;
mod nested;
mod stage;

pub(crate) use cleanup::remove_tree;
pub use cleanup::{Leftover, Retired, clean_tmp, discard_tmp, leftovers, prune, retire};
pub use folders::make_folders;
pub(crate) use folders::make_state_dir;
use folders::{into_folder, move_to};
pub use nested::{Lift, Lifted, is_in_the_way, lift, lower, name_of_step, put_back};
use nested::{is_taken, vacate};
pub(crate) use stage::copy;
use stage::stage_beside;
pub use stage::{Source, Staged, stage, sync_staged};

/// More files than this are made durable all at once.
const SYNC_EACH_MAX: usize = 16;
/// Why a change was not made. The visible file is as it was, or what it was is a leftover.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The file may not be written by its owner.
    #[error("{path} is read-only")]
    ReadOnly {
        /// Which.
        path: String,
    },
    /// The disk or the quota is full.
    #[error("no space left on the disk to write {path}")]
    NoSpace {
        /// Which.
        path: String,
        /// The system's words.
        source: io::Error,
    },
    /// The system does not let us.
    #[error("not allowed to change {path}")]
    NotAllowed {
        /// Which.
        path: String,
        /// The system's words.
        source: io::Error,
    },
    /// A folder, a symlink or a special file is where a file should be.
    #[error("{path} is a {found}, not a file")]
    NotAFile {
        /// Which.
        path: String,
        /// What it is.
        found: FileKind,
    },
    /// Something that is no folder is where a folder should be.
    #[error("{blocker} is a {found}, so {path} cannot be put below it")]
    Blocked {
        /// What should be below.
        path: String,
        /// What is in the way.
        blocker: String,
        /// What that is.
        found: FileKind,
    },
    /// Anything else.
    #[error("cannot change {path}")]
    Io {
        /// Which.
        path: String,
        /// The system's words.
        source: io::Error,
    },
}

impl WriteError {
    /// The error for an operation on `path` that failed with `source`.
    pub(crate) fn new(path: &str, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::NoSpace { path, source },
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                Self::NotAllowed { path, source }
            }
            _ => Self::Io { path, source },
        }
    }

    /// The same, about something to be put below what is in the way.
    fn below(self, path: &str) -> Self {
        match self {
            Self::Blocked { blocker, found, .. } => {
                Self::Blocked { path: path.to_owned(), blocker, found }
            }
            other => other,
        }
    }
}

/// A file name never used before and never used again, from the caller's randomness.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UniqueName(String);

impl UniqueName {
    /// Takes 1 to 64 lower-case letters, digits and hyphens; `None` for anything else.
    pub fn new(name: &str) -> Option<Self> {
        let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        ((1..=64).contains(&name.len()) && name.bytes().all(fine)).then(|| Self(name.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What the caller believes is visible: what its new bytes were made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// No file.
    Nothing,
    /// A file of this content.
    File(Known),
}

/// What the caller knows of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Its content.
    pub hash: ContentHash,
    /// How it looked when it had that content; one that still does is not read beforehand.
    pub stat: Option<Stat>,
}

/// What a swap brought out.
#[derive(Debug)]
pub enum Displaced {
    /// There was no file.
    Nothing,
    /// What was expected.
    Clean(Kept),
    /// Something else: merge it too.
    Edited(Kept),
    /// Something that cannot be read now; to be looked at again like a leftover.
    Unread {
        /// Where it lies.
        at: String,
        /// Why.
        source: io::Error,
    },
}

/// Displaced bytes, kept until [`retire`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Where they lie.
    pub at: String,
    /// What they were when looked at.
    pub identity: Identity,
}

/// What became of new bytes.
#[derive(Debug)]
pub enum Placed {
    /// They are visible.
    Done {
        /// How the file looks; `None` when it is another one already.
        stat: Option<Stat>,
        /// Whether a file that looks so holds the new bytes: what is written to it makes it look
        /// otherwise, but for as many bytes whose time is set back within the clock's grain of
        /// when it got its name.
        tells_edits: bool,
        /// What was visible before.
        displaced: Displaced,
    },
    /// The file has other content than expected; nothing was done.
    Changed,
    /// No file is there, though one was expected; nothing was done.
    Gone,
    /// Something is there, though nothing was expected; nothing was done.
    Occupied,
}

/// What became of a removal.
#[derive(Debug)]
pub enum Removed {
    /// The file is in the trash.
    Done {
        /// Where.
        at: String,
        /// A second copy, to be retired: the trash is on another device.
        kept: Option<Kept>,
    },
    /// The file has other content than expected, and is visible.
    Changed,
    /// No file was there.
    Gone,
    /// The file was edited as it was removed, and another one has its name by now.
    Displaced(Displaced),
}

/// What became of a renaming.
#[derive(Debug)]
pub enum Renamed {
    /// It has the new name.
    Done {
        /// How it looks; `None` when another file is there already.
        stat: Option<Stat>,
        /// What it holds, when that is not what was expected: an edit, found by the next scan.
        edited: Option<Identity>,
        /// A second copy, to be retired: the new name is on another device.
        kept: Option<Kept>,
    },
    /// The file has other content than expected; nothing was done.
    Changed,
    /// No file is there; nothing was done.
    Gone,
    /// The new name is taken; nothing was done.
    Occupied,
    /// The new name is taken, and the old one by now as well.
    Displaced(Displaced),
}

/// Folders whose names changed and are not durable yet.
#[derive(Debug, Default)]
pub struct Touched(BTreeSet<String>);

impl Touched {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that a name in `dir` changed.
    pub fn insert(&mut self, dir: &str) {
        if !self.0.contains(dir) {
            self.0.insert(dir.to_owned());
        }
    }
}

/// Puts new bytes where `expected` was, durably: [`stage`], [`sync_staged`], [`place`], [`settle`].
///
/// # Errors
/// [`WriteError`]; the temporary file is gone unless its removal failed as well.
pub fn replace<F: FileSystem>(
    fs: &F,
    path: &VaultPath,
    expected: &Expected,
    source: Source<'_>,
    name: &UniqueName,
) -> Result<Placed, WriteError> {
    let staged = stage(fs, path, source, name)?;
    let mut staged = [staged];
    if let Err(error) = sync_staged(fs, &mut staged) {
        let [staged] = staged;
        staged.discard(fs);
        return Err(WriteError::new(path.as_str(), error));
    }
    let [staged] = staged;
    let mut touched = Touched::new();
    let placed = place(fs, path, expected, staged, &mut touched)?;
    settle(fs, &mut touched)?;
    Ok(placed)
}

/// Makes placed, removed and renamed names durable. Only then may they be recorded as done.
///
/// # Errors
/// [`WriteError`]; they may or may not survive a crash then.
pub fn settle<F: FileSystem>(fs: &F, touched: &mut Touched) -> Result<(), WriteError> {
    if touched.0.len() > SYNC_EACH_MAX {
        fs.sync_all().map_err(|error| WriteError::new("the vault", error))?;
    } else {
        for dir in &touched.0 {
            match fs.sync_dir(dir) {
                Ok(()) => {}
                // Somebody removed the folder meanwhile: there is nothing to keep in it.
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(WriteError::new(dir, error)),
            }
        }
    }
    touched.0.clear();
    Ok(())
}

/// Puts staged bytes where `expected` was; call [`settle`] before recording it.
///
/// # Errors
/// [`WriteError`]; see the head of the file.
///
/// # Panics
/// When the bytes and their name were not made durable by [`sync_staged`].
pub fn place<F: FileSystem>(
    fs: &F,
    path: &VaultPath,
    expected: &Expected,
    staged: Staged,
    touched: &mut Touched,
) -> Result<Placed, WriteError> {
    assert!(staged.durable, "bytes and their name are durable before they are visible");
    match *expected {
        Expected::Nothing => place_new(fs, path.as_str(), staged, touched),
        Expected::File(known) => {
            let current = match look(fs, path, &known) {
                Ok(Look::AsExpected(current)) => current,
                Ok(Look::Changed) => return Ok(staged.give_up(fs, Placed::Changed)),
                Ok(Look::Gone) => return Ok(staged.give_up(fs, Placed::Gone)),
                Err(error) => {
                    staged.discard(fs);
                    return Err(error);
                }
            };
            swap_in(fs, path, known.hash, &current, staged, touched)
        }
    }
}

/// Moves the file at `path` to the trash if it is what is expected; never unlinks.
///
/// # Errors
/// [`WriteError`]; see the head of the file.
pub fn remove<F: FileSystem>(
    fs: &F,
    path: &VaultPath,
    known: &Known,
    trash: &TrashPlace,
    name: &UniqueName,
    touched: &mut Touched,
) -> Result<Removed, WriteError> {
    match look(fs, path, known)? {
        Look::AsExpected(_) => {}
        Look::Changed => return Ok(Removed::Changed),
        Look::Gone => return Ok(Removed::Gone),
    }
    let visible = path.as_str();
    let fail = |error| WriteError::new(visible, error);
    // First to the undo folder: a crash before the look must not leave an edit in the trash.
    let mut undo = join(UNDO_DIR, name.as_str());
    let mut moved = move_to(fs, visible, &undo);
    let mut crosses = false;
    if is_crossing(&moved) {
        crosses = true;
        undo = join(parent(visible), &format!("{UNDO_PREFIX}{}", name.as_str()));
        moved = fs.rename_new(visible, &undo);
    }
    match moved {
        Ok(()) => {}
        Err(error) if is_absent(&error) => return Ok(Removed::Gone),
        Err(error) => return Err(fail(error)),
    }
    touched.insert(parent(visible));
    touched.insert(parent(&undo));
    let kept = match look_at_displaced(fs, &undo, Naming::of(path), known.hash) {
        Displaced::Clean(kept) => kept,
        other => {
            return match fs.rename_new(&undo, visible) {
                Ok(()) => Ok(Removed::Changed),
                Err(_) => Ok(Removed::Displaced(other)),
            };
        }
    };
    let (at, copied) = trash.keep(fs, &undo, path, crosses).map_err(fail)?;
    touched.insert(parent(&at));
    Ok(Removed::Done { at, kept: copied.then_some(kept) })
}

/// Gives the file at `from` the free name `to`, if it is what is expected.
///
/// # Errors
/// [`WriteError`]; see the head of the file.
pub fn rename<F: FileSystem>(
    fs: &F,
    from: &VaultPath,
    to: &VaultPath,
    known: &Known,
    name: &UniqueName,
    touched: &mut Touched,
) -> Result<Renamed, WriteError> {
    match look(fs, from, known)? {
        Look::AsExpected(_) => {}
        Look::Changed => return Ok(Renamed::Changed),
        Look::Gone => return Ok(Renamed::Gone),
    }
    let (old, new) = (from.as_str(), to.as_str());
    let fail = |error| WriteError::new(new, error);
    let step = || fs.rename_new(old, new);
    let mut moved = into_folder(fs, new, step)?;
    if is_taken(&moved) {
        if is_one_entry(fs, old, new).map_err(fail)? {
            moved = fs.respell(old, new);
        } else if vacate(fs, new, touched)? {
            moved = step();
        }
    }
    match moved {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(Renamed::Occupied),
        Err(error) if error.kind() == ErrorKind::CrossesDevices => {
            return carry(fs, from, to, known.hash, name, touched);
        }
        Err(error) if is_absent(&error) => return Ok(Renamed::Gone),
        Err(error) => return Err(fail(error)),
    }
    touched.insert(parent(old));
    touched.insert(parent(new));
    arrived(fs, to, Naming::of(from), known.hash)
}

/// What a renaming brought to its new name.
fn arrived<F: FileSystem>(
    fs: &F,
    to: &VaultPath,
    naming: Naming,
    hash: ContentHash,
) -> Result<Renamed, WriteError> {
    let identity = match identify_file(fs, to.as_str(), naming) {
        Ok(identity) => identity,
        // Moved or removed again by somebody, which the next scan sees.
        Err(error) if is_absent(&error) => {
            return Ok(Renamed::Done { stat: None, edited: None, kept: None });
        }
        Err(error) => return Err(WriteError::new(to.as_str(), error)),
    };
    let edited = (identity.hash != hash).then_some(identity);
    Ok(Renamed::Done { stat: fs.stat(to.as_str()).ok(), edited, kept: None })
}

/// Lets two visible files change places without either being absent, for renames in a circle.
///
/// # Errors
/// [`WriteError`]; nothing changed then.
pub fn swap<F: FileSystem>(
    fs: &F,
    one: &VaultPath,
    other: &VaultPath,
    touched: &mut Touched,
) -> Result<(), WriteError> {
    fs.exchange(one.as_str(), other.as_str())
        .map_err(|error| WriteError::new(one.as_str(), error))?;
    touched.insert(parent(one.as_str()));
    touched.insert(parent(other.as_str()));
    Ok(())
}

enum Look {
    AsExpected(Stat),
    Changed,
    Gone,
}

/// Looks at the visible file before anything is done: it spares most swaps with an edit, and
/// refuses what must not be written. The look that counts is the one after the swap.
fn look<F: FileSystem>(fs: &F, path: &VaultPath, known: &Known) -> Result<Look, WriteError> {
    let at = path.as_str();
    let current = match fs.stat(at) {
        Ok(current) => current,
        Err(error) if is_absent(&error) => return Ok(Look::Gone),
        Err(error) => return Err(WriteError::new(at, error)),
    };
    if current.kind != FileKind::File {
        return Err(WriteError::NotAFile { path: at.to_owned(), found: current.kind });
    }
    if !current.is_writable() {
        return Err(WriteError::ReadOnly { path: at.to_owned() });
    }
    if known.stat.is_some_and(|stat| current.is_unchanged_since(&stat)) {
        return Ok(Look::AsExpected(current));
    }
    match identify_file(fs, at, Naming::of(path)) {
        Ok(identity) if identity.hash == known.hash => Ok(Look::AsExpected(current)),
        Ok(_) => Ok(Look::Changed),
        Err(error) if is_absent(&error) => Ok(Look::Gone),
        Err(error) if error.kind() == ErrorKind::FileTooLarge => Ok(Look::Changed),
        Err(error) => Err(WriteError::new(at, error)),
    }
}

fn place_new<F: FileSystem>(
    fs: &F,
    path: &str,
    mut staged: Staged,
    touched: &mut Touched,
) -> Result<Placed, WriteError> {
    let into = |staged: &Staged| into_folder(fs, path, || fs.rename_new(&staged.at, path));
    let mut entered = into(&staged);
    if entered.as_ref().is_ok_and(is_taken) {
        entered = match vacate(fs, path, touched) {
            Ok(true) => into(&staged),
            Ok(false) => entered,
            Err(error) => Err(error),
        };
    }
    let moved = match entered {
        Ok(moved) if is_crossing(&moved) => fs
            .stat(&staged.at)
            .and_then(|own| stage_beside(fs, path, &mut staged, own.mode))
            .and_then(|()| fs.rename_new(&staged.at, path)),
        Ok(moved) => moved,
        Err(error) => {
            staged.discard(fs);
            return Err(error);
        }
    };
    match moved {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            return Ok(staged.give_up(fs, Placed::Occupied));
        }
        Err(error) => {
            staged.discard(fs);
            return Err(WriteError::new(path, error));
        }
    }
    touched.insert(parent(path));
    Ok(staged.placed(fs, path, Displaced::Nothing))
}

fn swap_in<F: FileSystem>(
    fs: &F,
    path: &VaultPath,
    hash: ContentHash,
    current: &Stat,
    mut staged: Staged,
    touched: &mut Touched,
) -> Result<Placed, WriteError> {
    let visible = path.as_str();
    let mut swapped = fs
        .stat(&staged.at)
        .and_then(|own| match own.mode == current.mode {
            true => Ok(()),
            false => fs.set_mode(&staged.at, current.mode),
        })
        .and_then(|()| fs.exchange(&staged.at, visible));
    if is_crossing(&swapped) {
        swapped = stage_beside(fs, visible, &mut staged, current.mode)
            .and_then(|()| fs.exchange(&staged.at, visible));
    }
    match swapped {
        Ok(()) => {}
        Err(error) if is_absent(&error) && fs.stat(&staged.at).is_ok() => {
            return Ok(staged.give_up(fs, Placed::Gone));
        }
        Err(error) => {
            staged.discard(fs);
            return Err(WriteError::new(visible, error));
        }
    }
    let undo = &staged.at;
    touched.insert(parent(visible));
    touched.insert(parent(undo));
    let displaced = look_at_displaced(fs, undo, Naming::of(path), hash);
    if let Displaced::Unread { .. } = displaced
        && let Ok(found) = fs.stat(undo)
        && found.kind != FileKind::File
    {
        // A folder or a symlink took the name in the last moment: it gets it back.
        let back = fs.exchange(undo, visible).or_else(|_| fs.rename_new(undo, visible));
        if back.is_ok() {
            staged.discard(fs);
            return Err(WriteError::NotAFile { path: visible.to_owned(), found: found.kind });
        }
    }
    Ok(staged.placed(fs, visible, displaced))
}

/// What a swap brought out, if it can be told.
fn look_at_displaced<F: FileSystem>(
    fs: &F,
    undo: &str,
    naming: Naming,
    hash: ContentHash,
) -> Displaced {
    let at = undo.to_owned();
    match identify_file(fs, undo, naming) {
        Ok(identity) if identity.hash == hash => Displaced::Clean(Kept { at, identity }),
        Ok(identity) => Displaced::Edited(Kept { at, identity }),
        Err(source) => Displaced::Unread { at, source },
    }
}

/// A rename between devices: copied and placed, then the old one goes the way of a removal.
fn carry<F: FileSystem>(
    fs: &F,
    from: &VaultPath,
    to: &VaultPath,
    hash: ContentHash,
    name: &UniqueName,
    touched: &mut Touched,
) -> Result<Renamed, WriteError> {
    let fail = |error| WriteError::new(to.as_str(), error);
    let mut staged = [stage(fs, to, Source::Copy(from.as_str()), name)?];
    let same = sync_staged(fs, &mut staged)
        .and_then(|()| identify_file(fs, &staged[0].at, Naming::of(from)));
    let [staged] = staged;
    match same {
        Ok(identity) if identity.hash == hash => {}
        Ok(_) => return Ok(staged.give_up(fs, Renamed::Changed)),
        Err(error) => {
            staged.discard(fs);
            return Err(fail(error));
        }
    }
    let stat = match place(fs, to, &Expected::Nothing, staged, touched)? {
        Placed::Done { stat, .. } => stat,
        Placed::Occupied | Placed::Changed | Placed::Gone => return Ok(Renamed::Occupied),
    };
    // Whichever folder has the old file's device takes it; the copy in place is durable.
    settle(fs, touched)?;
    let old = from.as_str();
    let mut undo = join(UNDO_DIR, name.as_str());
    let mut moved = move_to(fs, old, &undo);
    if is_crossing(&moved) {
        undo = join(parent(old), &format!("{UNDO_PREFIX}{}", name.as_str()));
        moved = fs.rename_new(old, &undo);
    }
    match moved {
        Ok(()) => {}
        Err(error) if is_absent(&error) => {
            return Ok(Renamed::Done { stat, edited: None, kept: None });
        }
        Err(error) => return Err(fail(error)),
    }
    touched.insert(parent(old));
    touched.insert(parent(&undo));
    match look_at_displaced(fs, &undo, Naming::of(from), hash) {
        Displaced::Clean(kept) => Ok(Renamed::Done { stat, edited: None, kept: Some(kept) }),
        Displaced::Edited(kept) => {
            // The edit keeps the old name; the new one is a copy of what it was made from.
            let edited = Some(kept.identity);
            match fs.rename_new(&undo, old) {
                Ok(()) => Ok(Renamed::Done { stat, edited, kept: None }),
                Err(_) => Ok(Renamed::Done { stat, edited, kept: Some(kept) }),
            }
        }
        Displaced::Unread { source, .. } => Err(fail(source)),
        Displaced::Nothing => unreachable!("a look at a file finds one or fails"),
    }
}

/// Whether two spellings are one entry of a folder on a disk that folds names.
fn is_one_entry<F: FileSystem>(fs: &F, one: &str, other: &str) -> io::Result<bool> {
    let facts = fs.facts();
    if !(facts.folds_case || facts.normalises) {
        return Ok(false);
    }
    let same_key = crucible_core::vault_path::FoldKey::new(one)
        == crucible_core::vault_path::FoldKey::new(other);
    Ok(same_key && fs.stat(one)?.inode == fs.stat(other)?.inode)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn is_crossing<T>(result: &io::Result<T>) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == ErrorKind::CrossesDevices)
}
