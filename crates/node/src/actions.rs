//! What a person asks of a vault apart from a round: deal with a conflict, bring an old version
//! back; `undo` has a file of its own. Each makes ordinary new versions through the same steps as a round,
//! so none of it can lose what somebody is writing meanwhile.

use std::sync::Arc;

use crucible_core::conflict::{Clash, Conflict, Hunk};
use crucible_core::conflict_choice::{Choice, apply_choice};
use crucible_core::id::{ConflictId, NoteId, VersionId};
use crucible_core::vault_path::VaultPath;
use crucible_core::version::Version;
use crucible_sync::mint::{Change, Found, Minter};
use crucible_sync::replica::{ReplicaBatch, ReplicaStore};
use crucible_sync::repo::ConflictState;
use crucible_sync::staged::{EngineError, Staged};
use crucible_vault::content::{Naming, identify};
use crucible_vault::fs::FileSystem;

use crate::error::SyncError;
use crate::replica::{Fallible, Options, Replica, Round};
use crate::report::Report;
use crate::world::World;

/// Gives the bytes of versions whose content is not kept here; asks the server, or says `None`.
pub type FetchBytes<'f> = &'f mut dyn FnMut(&VersionId) -> Option<Vec<u8>>;

/// Why something a person asked for was not done. Nothing was changed then.
#[derive(Debug, thiserror::Error)]
pub enum ActionError<E: std::error::Error + Send + Sync + 'static> {
    /// Something on the way there.
    #[error(transparent)]
    Sync(#[from] SyncError<E>),
    /// No such record.
    #[error("there is no conflict {0}")]
    NoConflict(ConflictId),
    /// Dealt with already.
    #[error("the conflict {0} has been dealt with already")]
    Closed(ConflictId),
    /// The place was edited since, so taking the other side would undo those words.
    #[error("{path} was edited at this very place since; edit it by hand and take `ours`")]
    EditedSince {
        /// Which note.
        path: VaultPath,
    },
    /// The note was deleted since, so there is nothing to put the side into.
    #[error("{path} was deleted since; bring it back first, then take the side")]
    Deleted {
        /// Which note.
        path: VaultPath,
    },
    /// The bytes of a version are neither here nor to be had.
    #[error("the bytes of version {0} are not here")]
    NoBytes(VersionId),
    /// Taking the round back would remove so many notes that a round would ask.
    #[error("taking the last round back removes {lost} of {of} notes")]
    RemovesMost {
        /// So many.
        lost: u64,
        /// Of so many.
        of: u64,
    },
    /// There is no such version here.
    #[error("there is no version {0} here")]
    NoVersion(VersionId),
    /// A live note has the name already.
    #[error("{path} exists; rename or remove it first")]
    Exists {
        /// Which name.
        path: VaultPath,
    },
    /// No round changed anything here that could be undone.
    #[error("there is nothing to undo")]
    NothingToUndo,
}

/// A change, with its bytes where it brings any.
pub(crate) type Edit = (Change, Option<Vec<u8>>);
pub(crate) type Done<T, S> = Result<T, ActionError<<S as crucible_sync::repo::Repo>::Error>>;

/// Which side of a conflict a person wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// What is in the note already.
    Winner,
    /// What was set aside.
    Loser,
    /// Both.
    Both,
}

impl<F: FileSystem, S: ReplicaStore> Replica<F, S> {
    /// Deals with a conflict: writes the wanted side into the note and closes the record.
    ///
    /// # Errors
    /// [`ActionError`].
    pub fn take(
        &mut self,
        id: &ConflictId,
        take: Take,
        world: &mut dyn World,
        fetch: FetchBytes<'_>,
    ) -> Done<Report, S> {
        let mut progress = |_| {};
        let mut round = Round::new(world, Options::default(), &mut progress);
        self.prepare(&mut round)?;
        let found = self.store.conflict(id).map_err(engine)?;
        let (conflict, state) = found.ok_or(ActionError::NoConflict(*id))?;
        if state == ConflictState::Closed {
            return Err(ActionError::Closed(*id));
        }
        let change = match (take, &conflict.clash) {
            (Take::Winner, Clash::Body(_) | Clash::Key { .. }) => None,
            (Take::Winner, Clash::EditOverDelete | Clash::Path { .. } | Clash::Content) => None,
            (Take::Both, Clash::EditOverDelete | Clash::Path { .. }) => None,
            (_, Clash::Body(hunk) | Clash::Key { hunk, .. } | Clash::FirstContact(hunk)) => {
                self.chosen_text(&conflict, hunk, take, fetch)?
            }
            (Take::Loser, Clash::EditOverDelete) => match self.unedited_head(&conflict, fetch) {
                Ok(base) => Some((Change::Deleted { base }, None)),
                // Somebody has deleted it by hand.
                Err(ActionError::Deleted { .. }) => None,
                Err(error) => return Err(error),
            },
            (Take::Loser, Clash::Path { loser }) => {
                let base = self.live_head(&conflict)?;
                Some((Change::Moved { base, path: loser.clone() }, None))
            }
            (Take::Loser, Clash::Content) => {
                self.unedited_head(&conflict, fetch)?;
                let bytes = self.bytes_named(&conflict.loser, fetch)?;
                self.edit_of(&conflict.note, &bytes)?
            }
            (Take::Both, Clash::Content) => {
                let bytes = self.bytes_named(&conflict.loser, fetch)?;
                let path = self.free_name(&conflict.path)?;
                Some((Change::Created { found: found_of(&path, &bytes), path }, Some(bytes)))
            }
        };
        self.change(change.into_iter().collect(), &[*id], &mut round)?;
        self.conclude_action(round)
    }

    /// Makes `version` what its note is now, as a new version; brings deleted notes back.
    ///
    /// # Errors
    /// [`ActionError`].
    pub fn restore(
        &mut self,
        version: &Version,
        bytes: Vec<u8>,
        world: &mut dyn World,
    ) -> Done<Report, S> {
        let mut progress = |_| {};
        let mut round = Round::new(world, Options::default(), &mut progress);
        self.prepare(&mut round)?;
        let Some(path) = version.path() else {
            return Err(ActionError::NoBytes(version.id()));
        };
        let change = self.restoration(&version.note, path, bytes)?;
        self.change(vec![change], &[], &mut round)?;
        self.conclude_action(round)
    }

    /// Versions what changed in the folder, so that an action starts from what is there.
    pub(crate) fn prepare(&mut self, round: &mut Round<'_>) -> Fallible<(), S> {
        self.begin(round)?;
        self.take_in(round)
    }

    pub(crate) fn conclude_action(&mut self, mut round: Round<'_>) -> Done<Report, S> {
        self.settle(None, &mut round)?;
        round.report.root = self.store.root().map_err(engine)?;
        Ok(round.report)
    }

    /// Versions some changes and closes some conflicts in one transaction.
    pub(crate) fn change(
        &mut self,
        changes: Vec<Edit>,
        closed: &[ConflictId],
        round: &mut Round<'_>,
    ) -> Fallible<(), S> {
        let mut meta = self.meta()?;
        let mut staged = Staged::new(&self.store);
        let mut batch = ReplicaBatch::default();
        for (change, bytes) in changes {
            if let (Some(bytes), Some(found)) = (bytes, found_in(&change)) {
                let base = base_of(&change);
                let old = match base {
                    Some(base) => staged.known_version(&base)?.live().map(|live| live.content),
                    None => None,
                };
                staged.put_new_content(found.content, bytes.into(), old.as_ref())?;
            }
            let now_ms = round.world.now_ms();
            batch.unsent.push(Minter::new(&mut meta, now_ms).mint(&mut staged, &change)?);
        }
        staged.close_conflicts(closed.iter().copied());
        batch.repo = staged.finish()?;
        batch.meta = Some(meta);
        batch.closed_unsent = closed.to_vec();
        self.commit(batch)
    }

    fn chosen_text(
        &self,
        conflict: &Conflict,
        hunk: &Hunk,
        take: Take,
        fetch: FetchBytes<'_>,
    ) -> Done<Option<Edit>, S> {
        let path = conflict.path.clone();
        let edited_since = || ActionError::EditedSince { path: path.clone() };
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).ok();
        let head = self.live_head(conflict)?;
        let merged = text(self.bytes_named(&conflict.merge, fetch)?).ok_or_else(edited_since)?;
        let current = text(self.bytes_of(&head, fetch)?).ok_or_else(edited_since)?;
        let choice = match take {
            Take::Winner => Choice::Winner,
            Take::Loser => Choice::Loser,
            Take::Both => Choice::Both,
        };
        let wanted = apply_choice(&merged, &current, hunk, choice).ok_or_else(edited_since)?;
        if wanted == current {
            return Ok(None);
        }
        self.edit_of(&conflict.note, wanted.as_bytes())
    }

    /// An edit of a note's head to these bytes.
    fn edit_of(&self, note: &NoteId, bytes: &[u8]) -> Done<Option<Edit>, S> {
        let Some(base) = self.only_head(note)? else { return Ok(None) };
        let version = self.version(&base)?;
        let Some(path) = version.path() else { return Ok(None) };
        let found = found_of(path, bytes);
        Ok(Some((Change::Edited { base, path: None, found }, Some(bytes.to_vec()))))
    }

    /// An edit that makes a note what it was: its bytes, and its path unless another has it.
    fn restoration(&self, note: &NoteId, path: &VaultPath, bytes: Vec<u8>) -> Done<Edit, S> {
        let found = found_of(path, &bytes);
        let Some(base) = self.only_head(note)? else {
            return Ok((Change::Created { path: path.clone(), found }, Some(bytes)));
        };
        let now = self.version(&base)?;
        let path = match now.path() {
            Some(now) if now == path => None,
            _ if self.is_taken(path, note)? => {
                return Err(ActionError::Exists { path: path.clone() });
            }
            _ => Some(path.clone()),
        };
        Ok((Change::Edited { base, path, found }, Some(bytes)))
    }

    fn is_taken(&self, path: &VaultPath, by_other_than: &NoteId) -> Done<bool, S> {
        self.is_taken_by(path, |note| note != by_other_than)
    }

    /// Whether a folder, or a note that counts, has this path.
    pub(crate) fn is_taken_by(
        &self,
        path: &VaultPath,
        counts: impl Fn(&NoteId) -> bool,
    ) -> Done<bool, S> {
        let Some(root) = self.store.root().map_err(engine)? else { return Ok(false) };
        let tree = crucible_sync::staged::Tree(&self.store);
        let at = crucible_core::merkle::lookup(&tree, &root, path)
            .map_err(|error| SyncError::Engine(EngineError::from(error)))?;
        Ok(at.folder.is_some() || at.notes.iter().any(|(note, _)| counts(note)))
    }

    fn free_name(&self, path: &VaultPath) -> Done<VaultPath, S> {
        let name = path.name();
        let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
        let dot = if extension.is_empty() { "" } else { "." };
        for number in 2..1_000 {
            let Ok(aside) = path.with_name(&format!("{stem} ({number}){dot}{extension}")) else {
                break;
            };
            let nobody = NoteId::from_bytes([0; 32]);
            if !self.is_taken(&aside, &nobody)? && self.fs.stat(aside.as_str()).is_err() {
                return Ok(aside);
            }
        }
        Err(ActionError::Exists { path: path.clone() })
    }

    pub(crate) fn only_head(&self, note: &NoteId) -> Done<Option<VersionId>, S> {
        let heads = self.store.heads(note).map_err(engine)?;
        Ok(match heads.as_slice() {
            [head] => Some(*head),
            _ => None,
        })
    }

    /// The same, if it holds what the merge made of it: nobody has written to it since.
    fn unedited_head(&self, conflict: &Conflict, fetch: FetchBytes<'_>) -> Done<VersionId, S> {
        let head = self.live_head(conflict)?;
        let content = |version: &Version| version.live().map(|live| live.content);
        let then = match self.store.version(&conflict.merge).map_err(engine)? {
            Some(merge) => content(&merge),
            None => {
                let bytes = self.bytes_named(&conflict.merge, fetch)?;
                Some(found_of(&conflict.path, &bytes).content)
            }
        };
        if then == content(&*self.version(&head)?) {
            return Ok(head);
        }
        Err(ActionError::EditedSince { path: conflict.path.clone() })
    }

    /// The head of a conflict's note; there is only one and it is live.
    fn live_head(&self, conflict: &Conflict) -> Done<VersionId, S> {
        let Some(head) = self.only_head(&conflict.note)? else {
            return Err(ActionError::EditedSince { path: conflict.path.clone() });
        };
        match self.version(&head)?.live() {
            Some(_) => Ok(head),
            None => Err(ActionError::Deleted { path: conflict.path.clone() }),
        }
    }

    pub(crate) fn version(&self, id: &VersionId) -> Done<Arc<Version>, S> {
        let version = self.store.version(id).map_err(engine)?;
        version.ok_or(ActionError::NoVersion(*id))
    }

    /// The same for a version that a conflict names: a device that came later than the merge has
    /// the record and the head, but neither the merge nor its sides.
    fn bytes_named(&self, id: &VersionId, fetch: FetchBytes<'_>) -> Done<Vec<u8>, S> {
        match self.store.version(id).map_err(engine)? {
            Some(_) => self.bytes_of(id, fetch),
            None => fetch(id).ok_or(ActionError::NoBytes(*id)),
        }
    }

    pub(crate) fn bytes_of(&self, id: &VersionId, fetch: FetchBytes<'_>) -> Done<Vec<u8>, S> {
        let version = self.version(id)?;
        let Some(live) = version.live() else { return Err(ActionError::NoBytes(*id)) };
        if let Some(bytes) = self.store.content(&live.content).map_err(engine)? {
            return Ok(bytes.to_vec());
        }
        // A server that gives other bytes gives none.
        let is_that = |bytes: &Vec<u8>| found_of(&live.path, bytes).content == live.content;
        fetch(id).filter(is_that).ok_or(ActionError::NoBytes(*id))
    }
}

pub(crate) fn engine<E: std::error::Error + Send + Sync + 'static>(error: E) -> SyncError<E> {
    SyncError::Engine(EngineError::Repo(error))
}

pub(crate) fn found_of(path: &VaultPath, bytes: &[u8]) -> Found {
    let identity = identify(bytes, Naming::of(path));
    Found { kind: identity.kind, content: identity.hash, bytes: identity.bytes }
}

fn found_in(change: &Change) -> Option<Found> {
    match change {
        Change::Created { found, .. } | Change::Edited { found, .. } => Some(*found),
        Change::Moved { .. } | Change::Deleted { .. } => None,
    }
}

fn base_of(change: &Change) -> Option<VersionId> {
    match change {
        Change::Created { .. } => None,
        Change::Edited { base, .. } | Change::Moved { base, .. } | Change::Deleted { base } => {
            Some(*base)
        }
    }
}
