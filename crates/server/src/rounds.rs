//! What the shell asks of the engine: rounds and walks as bytes, and the few things about a
//! vault that are not rounds. Implemented over `sync` and `store`; faked in tests.
//!
//! All calls block. [`Rounds::round`], [`Rounds::restore`] and [`Rounds::write`] are made under the
//! vault's write lock: of one vault, one at a time.

use std::sync::Arc;

use crucible_core::id::{ConflictId, NoteId, RootHash, VaultId, VersionId};
use crucible_core::vault_path::VaultPath;
use crucible_store::server_repo::Origin;
use crucible_sync::mint::{Change, Found};
use crucible_sync::take::Take;
use crucible_trust::rights::Access;

/// Who asks the engine, and what they may do in this vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Party {
    /// Person, device, address and time, as history keeps them.
    pub origin: Origin,
    /// With [`Access::Read`], a body that would store anything is [`EngineError::ReadOnly`].
    pub access: Access,
}

/// A round, answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoundAnswer {
    /// The body to send back.
    pub body: Vec<u8>,
    /// The root after the round; told to those who listen for events when it is another one.
    pub root: Option<RootHash>,
    /// What happened, for the log and the metrics.
    pub tally: Tally,
}

/// Counts of one round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Versions stored.
    pub pushed: u64,
    /// Versions sent back.
    pub pulled: u64,
    /// Merge versions made.
    pub merged: u64,
    /// Conflict records opened.
    pub conflicts: u64,
}

/// Something written on the server itself: by a page, or by a live session for those in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// What becomes of which note. A base is the version that the author had in front of them,
    /// which need not be the head: what came since is merged. Only a deletion must be of the head.
    pub change: Change,
    /// The bytes that the change brings; `None` where it brings none, or they are stored already.
    pub bytes: Option<Arc<[u8]>>,
    /// Conflict records closed in the same commit.
    pub closes: Vec<ConflictId>,
}

impl Write {
    /// A note where none is.
    pub fn create(path: VaultPath, bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes = bytes.into();
        let found = Found::of(&bytes, &path);
        Self::of(Change::Created { path, found }, Some(bytes))
    }

    /// Other bytes, made from those of `base`; `path` is that of `base`, and stays.
    pub fn edit(base: VersionId, path: &VaultPath, bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes = bytes.into();
        let found = Found::of(&bytes, path);
        Self::of(Change::Edited { base, path: None, found }, Some(bytes))
    }

    /// Another path.
    pub fn rename(base: VersionId, path: VaultPath) -> Self {
        Self::of(Change::Moved { base, path }, None)
    }

    /// Gone.
    pub fn delete(base: VersionId) -> Self {
        Self::of(Change::Deleted { base }, None)
    }

    fn of(change: Change, bytes: Option<Arc<[u8]>>) -> Self {
        Self { change, bytes, closes: Vec::new() }
    }
}

/// What a [`Write`] came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Of which note.
    pub note: NoteId,
    /// The version that says what was written; the base itself when that says the same already.
    pub id: VersionId,
    /// The note's head before; `None` when there was no such note.
    pub before: Option<VersionId>,
    /// The note's head now: `id`, or the merge of it with what came since its base.
    pub head: VersionId,
    /// The head's path; `None` when the note is deleted.
    pub path: Option<VaultPath>,
    /// The head's bytes; `None` when the note is deleted or its bytes are a blob.
    pub content: Option<Arc<[u8]>>,
    /// The vault's root after it.
    pub root: Option<RootHash>,
}

/// Why the engine refuses. Nothing was stored.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The body would change a vault that the caller may only read.
    #[error("this token may only read, and the round brings changes")]
    ReadOnly,
    /// The body is no message, or one that breaks a rule.
    #[error("the body is malformed")]
    Malformed(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Bytes are not those that their version names.
    #[error("the bytes of {0} do not have the hash its version names")]
    Mismatch(VaultPath),
    /// Something inside is larger than its bound, for instance once decompressed.
    #[error("something in the body is larger than allowed")]
    TooLarge,
    /// The body begins with an older protocol version than is spoken here.
    #[error("the body speaks protocol {theirs}, this server {ours}")]
    TooOld {
        /// The version of the body.
        theirs: u8,
        /// The version of this server.
        ours: u8,
    },
    /// The body begins with a newer protocol version than is spoken here.
    #[error("the body speaks protocol {theirs}, this server {ours}")]
    TooNew {
        /// The version of the body.
        theirs: u8,
        /// The version of this server.
        ours: u8,
    },
    /// There is no such version in this vault.
    #[error("there is no such version")]
    NoSuchVersion,
    /// Another note, or a folder, has the path.
    #[error("{0} exists already")]
    Exists(VaultPath),
    /// The note was written to since the version that the caller names.
    #[error("the note has changed since that version")]
    Changed,
    /// There is no such conflict in this vault.
    #[error("there is no such conflict")]
    NoSuchConflict,
    /// Somebody has dealt with the conflict.
    #[error("the conflict has been dealt with already")]
    Settled,
    /// The place was edited since, so taking the side would undo those words.
    #[error("{0} was edited at this very place since")]
    EditedSince(VaultPath),
    /// The note of the conflict was deleted since.
    #[error("{0} was deleted since")]
    DeletedSince(VaultPath),
    /// The store failed; a full disk is recognised inside.
    #[error("the store failed")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The engine of a server, over all its vaults.
pub trait Rounds: Send + Sync + 'static {
    /// Makes the store of a vault that the accounts just learned of; again is harmless.
    ///
    /// # Errors
    /// [`EngineError::Store`]
    fn create(&self, vault: &VaultId) -> Result<(), EngineError>;

    /// The vault's root; `None` before its first version.
    ///
    /// # Errors
    /// [`EngineError::Store`]
    fn root(&self, vault: &VaultId) -> Result<Option<RootHash>, EngineError>;

    /// One round: the body of a request in, the body of the answer out, everything stored.
    ///
    /// # Errors
    /// [`EngineError`]
    fn round(
        &self,
        vault: &VaultId,
        party: &Party,
        body: &[u8],
    ) -> Result<RoundAnswer, EngineError>;

    /// One step of a walk over the vault's tree; changes nothing.
    ///
    /// # Errors
    /// [`EngineError`]
    fn walk(&self, vault: &VaultId, body: &[u8]) -> Result<Vec<u8>, EngineError>;

    /// Makes a version of old the newest of its note, as a new version by `party`. Returns the
    /// new version's id and the root after it.
    ///
    /// # Errors
    /// [`EngineError::Exists`] where it was deleted and another note has its name by now, and the
    /// rest of [`EngineError`].
    fn restore(
        &self,
        vault: &VaultId,
        party: &Party,
        version: &VersionId,
    ) -> Result<(VersionId, Option<RootHash>), EngineError>;

    /// Mints the version that `write` says, as one by `party`, and merges it with what came since
    /// its base.
    ///
    /// # Errors
    /// [`EngineError::NoSuchVersion`] for an unknown base, [`EngineError::Exists`] for a new path
    /// that is taken, [`EngineError::Changed`] for a deletion of what is not the head,
    /// [`EngineError::TooLarge`] for bytes that are neither a note's nor a small asset's, and the
    /// rest of [`EngineError`].
    fn write(&self, vault: &VaultId, party: &Party, write: &Write) -> Result<Written, EngineError>;

    /// Writes a side of a conflict into its note and closes the record, in one commit.
    ///
    /// # Errors
    /// [`EngineError::NoSuchConflict`], [`EngineError::Settled`], [`EngineError::EditedSince`],
    /// [`EngineError::DeletedSince`], and those of [`Self::write`].
    fn take(
        &self,
        vault: &VaultId,
        party: &Party,
        conflict: &ConflictId,
        side: Take,
    ) -> Result<Written, EngineError>;
}
