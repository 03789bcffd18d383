//! What recent rounds changed in the folder, so that a person can take one back.
//!
//! One small file a round in `.crucible/rounds`, written after everything else; without it only
//! `undo` is poorer. A line is a note's id and the version its file held before, or `-`.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};

use crucible_core::id::{NoteId, VersionId};
use crucible_sync::replica::ReplicaStore;
use crucible_vault::fs::{FileSystem, STATE_DIR, join};

use crate::replica::{Fallible, Replica, Round};
use crate::report::Notice;

const ROUNDS_DIR: &str = ".crucible/rounds";
/// Rounds that can be taken back, one after the other.
const ROUNDS_KEPT: usize = 20;
/// A round that changed more than this is not for `undo`.
const NOTES_MAX: usize = 100_000;
const BYTES_MAX: u64 = (NOTES_MAX as u64) * 130;

/// A note whose file a round changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Changed {
    /// Which.
    pub(crate) note: NoteId,
    /// What its file held before; `None` when there was no file.
    pub(crate) before: Option<VersionId>,
}

impl<F: FileSystem, S: ReplicaStore> Replica<F, S> {
    /// Writes down what this round changed.
    pub(crate) fn remember_round(&mut self, round: &mut Round<'_>) -> Fallible<(), S> {
        let mut first: BTreeMap<NoteId, Option<VersionId>> = BTreeMap::new();
        for changed in std::mem::take(&mut round.changed) {
            first.entry(changed.note).or_insert(changed.before);
        }
        if first.is_empty() || first.len() > NOTES_MAX {
            return Ok(());
        }
        let name = format!("{:016}", self.meta()?.rounds);
        let line = |(note, before): (NoteId, Option<VersionId>)| match before {
            Some(before) => format!("{note} {before}\n"),
            None => format!("{note} -\n"),
        };
        let text: String = first.into_iter().map(line).collect();
        if let Err(error) = self.write_round(&name, text.as_bytes()) {
            let reason = format!("this round cannot be undone later: {error}");
            round.report.notice(Notice::NotPlaced { path: ROUNDS_DIR.to_owned(), reason });
        }
        Ok(())
    }

    fn write_round(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        for dir in [STATE_DIR, ROUNDS_DIR] {
            match self.fs.make_dir(dir) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        let names = self.round_names()?;
        for old in names.iter().take(names.len().saturating_sub(ROUNDS_KEPT - 1)) {
            self.forget_round(old)?;
        }
        self.fs.create(&join(ROUNDS_DIR, name), bytes)
    }

    /// The names of the rounds that can be taken back, oldest first.
    fn round_names(&self) -> io::Result<Vec<String>> {
        let entries = match self.fs.list(ROUNDS_DIR) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        Ok(entries.into_iter().filter_map(|entry| entry.name.into_string().ok()).collect())
    }

    /// The newest round that changed something, and what.
    pub(crate) fn last_round(&self) -> Fallible<Option<(String, Vec<Changed>)>, S> {
        let names = self.round_names().map_err(crate::error::SyncError::Folder)?;
        let Some(name) = names.last() else { return Ok(None) };
        let bytes = self
            .fs
            .read(&join(ROUNDS_DIR, name), BYTES_MAX)
            .map_err(crate::error::SyncError::Folder)?;
        let text = String::from_utf8_lossy(&bytes);
        let parse = |line: &str| {
            let (note, before) = line.split_once(' ')?;
            let before = match before {
                "-" => None,
                id => Some(id.parse().ok()?),
            };
            Some(Changed { note: note.parse().ok()?, before })
        };
        // A torn file ends with a line that does not parse; what stands can be taken back.
        Ok(Some((name.clone(), text.lines().map_while(parse).collect())))
    }

    pub(crate) fn forget_round(&self, name: &str) -> io::Result<()> {
        self.fs.remove_file(&join(ROUNDS_DIR, name))
    }
}
