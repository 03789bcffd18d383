//! What a person asks of a vault apart from a round: deal with a conflict, bring an old version
//! back; `undo` has a file of its own. Each makes ordinary new versions through the same steps as a round,
//! so none of it can lose what somebody is writing meanwhile.

use std::sync::Arc;

use crucible_core::id::{ConflictId, NoteId, VersionId};
use crucible_core::vault_path::VaultPath;
use crucible_core::version::Version;
use crucible_sync::mint::{Change, Found, Minter};
use crucible_sync::replica::{ReplicaBatch, ReplicaStore};
use crucible_sync::repo::ConflictState;
use crucible_sync::staged::{EngineError, Staged};
pub(crate) use crucible_sync::take::Edit;
use crucible_sync::take::{self, TakeError, edit_for};
pub use crucible_sync::take::{FetchBytes, Take};
use crucible_vault::fs::FileSystem;

use crate::error::SyncError;
use crate::replica::{Fallible, Options, Replica, Round};
use crate::report::Report;
use crate::world::World;

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

pub(crate) type Done<T, S> = Result<T, ActionError<<S as crucible_sync::repo::Repo>::Error>>;

impl<E: std::error::Error + Send + Sync + 'static> From<TakeError<E>> for ActionError<E> {
    fn from(error: TakeError<E>) -> Self {
        match error {
            TakeError::Engine(error) => Self::Sync(SyncError::Engine(error)),
            TakeError::EditedSince { path } => Self::EditedSince { path },
            TakeError::Deleted { path } => Self::Deleted { path },
            TakeError::NoBytes(id) => Self::NoBytes(id),
            TakeError::NoVersion(id) => Self::NoVersion(id),
            TakeError::Exists { path } => Self::Exists { path },
        }
    }
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
        let is_free = |path: &VaultPath| self.fs.stat(path.as_str()).is_err();
        let change = edit_for(&self.store, &conflict, take, fetch, &is_free)?;
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

    /// An edit that makes a note what it was: its bytes, and its path unless another has it.
    fn restoration(&self, note: &NoteId, path: &VaultPath, bytes: Vec<u8>) -> Done<Edit, S> {
        let found = Found::of(&bytes, path);
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
        Ok(take::is_taken_by(&self.store, path, counts).map_err(SyncError::Engine)?)
    }

    pub(crate) fn only_head(&self, note: &NoteId) -> Done<Option<VersionId>, S> {
        let heads = self.store.heads(note).map_err(engine)?;
        Ok(match heads.as_slice() {
            [head] => Some(*head),
            _ => None,
        })
    }

    pub(crate) fn version(&self, id: &VersionId) -> Done<Arc<Version>, S> {
        let version = self.store.version(id).map_err(engine)?;
        version.ok_or(ActionError::NoVersion(*id))
    }

    pub(crate) fn bytes_of(&self, id: &VersionId, fetch: FetchBytes<'_>) -> Done<Vec<u8>, S> {
        let version = self.version(id)?;
        let Some(live) = version.live() else { return Err(ActionError::NoBytes(*id)) };
        if let Some(bytes) = self.store.content(&live.content).map_err(engine)? {
            return Ok(bytes.to_vec());
        }
        // A server that gives other bytes gives none.
        let is_that = |bytes: &Vec<u8>| Found::of(bytes, &live.path).content == live.content;
        fetch(id).filter(is_that).ok_or(ActionError::NoBytes(*id))
    }
}

pub(crate) fn engine<E: std::error::Error + Send + Sync + 'static>(error: E) -> SyncError<E> {
    SyncError::Engine(EngineError::Repo(error))
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
