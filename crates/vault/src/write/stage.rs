//! New bytes on disk that nobody sees yet.
//!
//! They are written and made durable in the tmp folder, which is swept unread at every start, and
//! then get the name in the undo folder from which they are placed. That name is durable before
//! anybody can see them: a power cut that takes the placing back, of a new file as of a replaced
//! one, leaves them, with what somebody added meanwhile, where leftovers are looked at.
//!
//! Invariant: a staged file is ours alone until it is placed; it is discarded only while its name
//! still means that very file.

use std::io::{self, ErrorKind, Read};

use crucible_core::vault_path::VaultPath;

use super::cleanup::{self, discard_tmp};
use super::folders::{make_state_dir, move_to};
use super::{Displaced, Placed, SYNC_EACH_MAX, UniqueName, WriteError};
use crate::fs::{
    Facts, FileSystem, STATE_DIR, TMP_DIR, TMP_PREFIX, UNDO_DIR, UNDO_PREFIX, file_name, is_within,
    join, parent,
};

/// How much of a copied file is in memory at once.
const PIECE_BYTES: usize = 1 << 20;

/// Where new bytes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source<'a> {
    /// Memory.
    Bytes(&'a [u8]),
    /// A file in [`STATE_DIR`] that is moved into place, and stays where it is if nothing is.
    Move(&'a str),
    /// A file that stays.
    Copy(&'a str),
}

/// New bytes on disk, not visible yet.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "place or discard it, or its file stays until the next start"]
pub struct Staged {
    pub(super) at: String,
    pub(super) name: UniqueName,
    /// Where it goes back to when it is not placed; `None` for our own temporary file.
    pub(super) home: Option<String>,
    /// Its number, once it has a name that could come to hold other bytes.
    pub(super) inode: Option<u64>,
    /// When its bytes were written, as the file system tells it.
    pub(super) written_ns: Option<i64>,
    pub(super) durable: bool,
}

impl Staged {
    /// Takes back what will not be placed: a temporary file goes, a moved one goes home.
    pub fn discard<F: FileSystem>(self, fs: &F) {
        if file_name(&self.at).starts_with(UNDO_PREFIX) || is_within(&self.at, UNDO_DIR) {
            cleanup::take_back(fs, &self);
        } else if self.home.is_none() {
            discard_tmp(fs, &self.at);
        }
    }

    /// How it looks where it was placed. Bytes that were written well before they got their name,
    /// and whose time of content is still that, are ours; a later write has a later time. Who
    /// writes as many bytes and sets that time back shows by the time of change alone, so a clock
    /// of whole seconds or two tells nothing here.
    pub(super) fn placed<F: FileSystem>(&self, fs: &F, path: &str, displaced: Displaced) -> Placed {
        let stat = fs.stat(path).ok().filter(|stat| self.inode == Some(stat.inode));
        let grain_ns = fs.facts().time_grain_ns;
        let is_fine = grain_ns <= Facts::LINUX.time_grain_ns;
        let tells_edits = is_fine
            && stat.is_some_and(|stat| {
                self.written_ns == Some(stat.mtime_ns)
                    && stat.mtime_ns.saturating_add(grain_ns) < stat.ctime_ns
            });
        Placed::Done { stat, tells_edits, displaced }
    }

    pub(super) fn give_up<F: FileSystem, T>(self, fs: &F, outcome: T) -> T {
        self.discard(fs);
        outcome
    }
}

/// Writes new bytes for `path` where nobody sees them.
///
/// # Errors
/// [`WriteError`]; nothing is left then.
pub fn stage<F: FileSystem>(
    fs: &F,
    path: &VaultPath,
    source: Source<'_>,
    name: &UniqueName,
) -> Result<Staged, WriteError> {
    let at = join(TMP_DIR, name.as_str());
    let staged = |at, home| {
        let (inode, written_ns) = (None, None);
        Staged { at, name: name.clone(), home, inode, written_ns, durable: false }
    };
    let written = match source {
        Source::Move(home) => {
            assert!(is_within(home, STATE_DIR), "only our own files are moved into place");
            return Ok(staged(home.to_owned(), Some(home.to_owned())));
        }
        Source::Bytes(bytes) => create_in(fs, &at, bytes),
        Source::Copy(from) => copy(fs, from, &at),
    };
    match written {
        Ok(()) => Ok(staged(at, None)),
        Err(error) => {
            // A taken name is somebody else's file: the caller broke the rule, not the disk.
            if error.kind() != ErrorKind::AlreadyExists {
                discard_tmp(fs, &at);
            }
            Err(WriteError::new(path.as_str(), error))
        }
    }
}

/// Makes staged bytes durable, one by one, or all of the disk when they are many; then gives them
/// the names they are placed from, and makes those durable with one call for all.
///
/// # Errors
/// The system's; none of them may be placed then.
pub fn sync_staged<F: FileSystem>(fs: &F, staged: &mut [Staged]) -> io::Result<()> {
    if staged.is_empty() {
        return Ok(());
    }
    if staged.len() > SYNC_EACH_MAX {
        fs.sync_all()?;
    } else {
        for one in staged.iter() {
            fs.sync_file(&one.at)?;
        }
    }
    for one in staged.iter_mut() {
        let undo = join(UNDO_DIR, one.name.as_str());
        let stat = fs.stat(&one.at)?;
        (one.inode, one.written_ns) = (Some(stat.inode), Some(stat.mtime_ns));
        move_to(fs, &one.at, &undo)?;
        one.at = undo;
    }
    fs.sync_dir(UNDO_DIR)?;
    for one in staged {
        one.durable = true;
    }
    Ok(())
}

/// Copies a staged file to the device of its target, under a name beside it, likewise durable.
pub(super) fn stage_beside<F: FileSystem>(
    fs: &F,
    visible: &str,
    staged: &mut Staged,
    mode: u32,
) -> io::Result<()> {
    let dir = parent(visible);
    let beside = join(dir, &format!("{TMP_PREFIX}{}", staged.name.as_str()));
    let undo = join(dir, &format!("{UNDO_PREFIX}{}", staged.name.as_str()));
    let copied = copy(fs, &staged.at, &beside).and_then(|()| {
        fs.set_mode(&beside, mode)?;
        fs.sync_file(&beside)?;
        let stat = fs.stat(&beside)?;
        fs.rename_new(&beside, &undo)?;
        Ok(stat)
    });
    let stat = match copied {
        Ok(stat) => stat,
        Err(error) => {
            discard_tmp(fs, &beside);
            return Err(error);
        }
    };
    // The first copy is ours, so nothing of anybody's goes; a moved file goes home.
    let first = Staged {
        at: std::mem::replace(&mut staged.at, undo),
        name: staged.name.clone(),
        home: staged.home.take(),
        inode: staged.inode.replace(stat.inode),
        written_ns: staged.written_ns.replace(stat.mtime_ns),
        durable: true,
    };
    first.discard(fs);
    fs.sync_dir(dir)
}

fn create_in<F: FileSystem>(fs: &F, at: &str, bytes: &[u8]) -> io::Result<()> {
    match fs.create(at, bytes) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        done => return done,
    }
    make_state_dir(fs, parent(at))?;
    fs.create(at, bytes)
}

/// Copies a file's bytes to a free name.
pub(crate) fn copy<F: FileSystem>(fs: &F, from: &str, to: &str) -> io::Result<()> {
    let mut reader = fs.open(from)?;
    create_in(fs, to, b"")?;
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match reader.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(count) => fs.append(to, &piece[..count])?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
