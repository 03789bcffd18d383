//! What recent rounds changed in the folder, so that a person can take one back.
//!
//! One small file a round in `.crucible/rounds`, written after everything else; without it only
//! `undo` is poorer. The first line says when it was; each other one names a note, the version that
//! its file held before, and the one after, `-` for no file.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};

use crucible_core::id::{NoteId, VersionId};
use crucible_sync::replica::ReplicaStore;
use crucible_sync::staged::EngineError;
use crucible_vault::fs::{FileSystem, STATE_DIR, join};

use crate::error::SyncError;
use crate::replica::{Fallible, Replica, Round};
use crate::report::Notice;

const ROUNDS_DIR: &str = ".crucible/rounds";
/// Rounds that can be taken back, one after the other.
const ROUNDS_KEPT: usize = 20;
/// A round that changed more than this is not for `undo`.
const CHANGES_MAX: usize = 100_000;
const BYTES_MAX: u64 = (CHANGES_MAX as u64) * 200;

/// One change that a round made to a note's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Changed {
    /// Which.
    pub(crate) note: NoteId,
    /// What its file held before; `None` when there was no file.
    pub(crate) before: Option<VersionId>,
    /// What its file held then; `None` when it was gone.
    pub(crate) after: Option<VersionId>,
}

/// What one round changed in the folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LoggedRound {
    /// The name of its file.
    pub(crate) name: String,
    /// When it ended.
    pub(crate) at_ms: u64,
    /// In the order in which it was done.
    pub(crate) changes: Vec<Changed>,
}

/// Leaves out what came to nothing, and makes one change of those that follow on each other.
fn shortened(changes: Vec<Changed>) -> Vec<Changed> {
    let mut short: Vec<Changed> = Vec::new();
    let mut last_of: BTreeMap<NoteId, usize> = BTreeMap::new();
    for change in changes.into_iter().filter(|change| change.before != change.after) {
        match last_of.get(&change.note) {
            Some(&at) if short[at].after == change.before => short[at].after = change.after,
            _ => {
                last_of.insert(change.note, short.len());
                short.push(change);
            }
        }
    }
    short.retain(|change| change.before != change.after);
    short
}

fn shown(at_ms: u64, changes: &[Changed]) -> String {
    let id = |id: Option<VersionId>| id.map_or("-".to_owned(), |id| id.to_string());
    let lines = changes
        .iter()
        .map(|change| format!("{} {} {}\n", change.note, id(change.before), id(change.after)));
    std::iter::once(format!("{at_ms}\n")).chain(lines).collect()
}

/// A torn file ends with a line that does not parse; what stands can be taken back.
fn parsed(name: &str, text: &str) -> LoggedRound {
    let id = |word: &str| match word {
        "-" => Some(None),
        id => id.parse().ok().map(Some),
    };
    let change = |line: &str| {
        let mut words = line.split(' ');
        let (note, before, after) = (words.next()?, words.next()?, words.next()?);
        Some(Changed { note: note.parse().ok()?, before: id(before)?, after: id(after)? })
    };
    let mut lines = text.lines();
    let at_ms = lines.next().and_then(|line| line.parse().ok()).unwrap_or(0);
    LoggedRound { name: name.to_owned(), at_ms, changes: lines.map_while(change).collect() }
}

impl<F: FileSystem, S: ReplicaStore> Replica<F, S> {
    /// Writes down what this round changed.
    pub(crate) fn remember_round(&mut self, round: &mut Round<'_>) -> Fallible<(), S> {
        let mut changes = Vec::new();
        for change in shortened(std::mem::take(&mut round.changed)) {
            let row = self.store.file_of(&change.note).map_err(EngineError::Repo)?;
            // What was missing here by accident is no news of the round that brought it back.
            let rescued = row.is_some_and(|row| round.report.brought_back.contains(&row.disk_path));
            if change.before.is_some() || !rescued {
                changes.push(change);
            }
        }
        if changes.is_empty() || changes.len() > CHANGES_MAX {
            return Ok(());
        }
        let name = format!("{:016}", self.meta()?.rounds);
        let text = shown(round.world.now_ms(), &changes);
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

    /// The newest round that changed something.
    pub(crate) fn last_round(&self) -> Fallible<Option<LoggedRound>, S> {
        let names = self.round_names().map_err(SyncError::Folder)?;
        let Some(name) = names.last() else { return Ok(None) };
        let bytes = self.fs.read(&join(ROUNDS_DIR, name), BYTES_MAX).map_err(SyncError::Folder)?;
        Ok(Some(parsed(name, &String::from_utf8_lossy(&bytes))))
    }

    pub(crate) fn forget_round(&self, name: &str) -> io::Result<()> {
        self.fs.remove_file(&join(ROUNDS_DIR, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(note: u8, before: u8, after: u8) -> Changed {
        let id = |number: u8| (number > 0).then(|| VersionId::from_bytes([number; 32]));
        let note = NoteId::from_bytes([note; 32]);
        Changed { note, before: id(before), after: id(after) }
    }

    #[test]
    fn changes_that_follow_on_each_other_are_one_and_an_edit_between_keeps_them_apart() {
        let long = vec![change(1, 0, 1), change(2, 5, 6), change(1, 1, 2), change(2, 7, 8)];
        let short = [change(1, 0, 2), change(2, 5, 6), change(2, 7, 8)];
        assert_eq!(shortened(long), short);
        assert_eq!(shortened(vec![change(1, 3, 4), change(1, 4, 3), change(2, 1, 1)]), []);
    }

    #[test]
    fn a_round_survives_its_file_and_a_torn_one_keeps_its_whole_lines() {
        let changes = vec![change(1, 0, 2), change(2, 5, 0), change(2, 7, 8)];
        let text = shown(17, &changes);
        let round = LoggedRound { name: "n".to_owned(), at_ms: 17, changes };
        assert_eq!(parsed("n", &text), round);
        let torn = parsed("n", &text[..text.len() - 20]);
        assert_eq!((torn.at_ms, torn.changes.len()), (17, 2));
        assert_eq!(parsed("n", "").changes, []);
    }
}
