//! What the shell reads of vaults, their history and their notes as they are now: the calls of
//! `store::server_repo` in a form that can stand behind `dyn`, and their implementation over any
//! [`Vaults`]. All calls block.

use std::sync::Arc;

use crucible_core::conflict::Conflict;
use crucible_core::hash::ContentHash;
use crucible_core::id::{ConflictId, NoteId, RootHash, VaultId, VersionId};
use crucible_core::merkle::{self, Place};
use crucible_core::timestamp::Stamp;
use crucible_core::vault_path::VaultPath;
use crucible_core::version::Version;
use crucible_store::search_index::{self, Found, Hit, IndexError, NoteLinks};
use crucible_store::server_repo::{Gone, History, Revision, RevisionQuery, Vaults};
use crucible_sync::repo::{ConflictState, Repo, Seq};
use crucible_sync::staged::Tree;

/// Why history cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The accounts know the vault, the store does not.
    #[error("there is no such vault")]
    NoVault,
    /// The store failed.
    #[error("the store failed")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A note as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its head; of several that wait for bytes to be merged, the newest, a live one first.
    pub id: VersionId,
    /// The same.
    pub version: Arc<Version>,
}

/// The notes of a vault at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The root then.
    pub root: Option<RootHash>,
    /// The position of the newest version then.
    pub seq: Seq,
    /// Every live note, in the order of paths.
    pub notes: Vec<(VaultPath, NoteId)>,
}

/// Open conflicts looked at in one vault, the oldest first.
pub const OPEN_CONFLICTS_MAX: usize = 10_000;

/// History and notes of all vaults of a server.
pub trait Archive: Send + Sync + 'static {
    /// A page of revisions, newest first.
    ///
    /// # Errors
    /// [`ArchiveError`]
    fn revisions(
        &self,
        vault: &VaultId,
        query: &RevisionQuery,
    ) -> Result<Vec<Revision>, ArchiveError>;

    /// One revision.
    ///
    /// # Errors
    /// [`ArchiveError`]
    fn revision(&self, vault: &VaultId, id: &VersionId) -> Result<Option<Revision>, ArchiveError>;

    /// Which of these versions are not there.
    ///
    /// # Errors
    /// [`ArchiveError`]
    fn missing(
        &self,
        vault: &VaultId,
        versions: &[VersionId],
    ) -> Result<Vec<VersionId>, ArchiveError>;

    /// Versions whose id begins with `prefix` (at least 4 bytes); at most 2.
    ///
    /// # Errors
    /// [`ArchiveError`]
    fn by_prefix(&self, vault: &VaultId, prefix: &[u8]) -> Result<Vec<VersionId>, ArchiveError>;

    /// The bytes of a note's text or of a small asset; `None` for what is a blob, or unknown.
    ///
    /// # Errors
    /// [`ArchiveError`]
    fn content(
        &self,
        vault: &VaultId,
        hash: &ContentHash,
    ) -> Result<Option<Arc<[u8]>>, ArchiveError>;

    /// The root, for asking whether a [`Listing`] is still right.
    ///
    /// # Errors
    /// [`ArchiveError`]
    fn root(&self, vault: &VaultId) -> Result<Option<RootHash>, ArchiveError>;

    /// Every live note; costs as much as there are notes.
    ///
    /// # Errors
    /// [`ArchiveError`]
    fn listing(&self, vault: &VaultId) -> Result<Listing, ArchiveError>;

    /// How some notes are now; `None` for those that are not known.
    ///
    /// # Errors
    /// [`ArchiveError`]
    fn standing(
        &self,
        vault: &VaultId,
        notes: &[NoteId],
    ) -> Result<Vec<Option<Standing>>, ArchiveError>;

    /// The live note at a path; of several that claim it, the one with the smallest id.
    ///
    /// # Errors
    /// [`ArchiveError`]
    fn at(&self, vault: &VaultId, path: &VaultPath) -> Result<Option<Standing>, ArchiveError>;

    /// A version by id.
    ///
    /// # Errors
    /// [`ArchiveError`]
    fn version(
        &self,
        vault: &VaultId,
        id: &VersionId,
    ) -> Result<Option<Arc<Version>>, ArchiveError>;

    /// Deleted notes, see [`History::deleted`].
    ///
    /// # Errors
    /// [`ArchiveError`]
    fn deleted(
        &self,
        vault: &VaultId,
        before: Option<Seq>,
        limit: usize,
    ) -> Result<Vec<Gone>, ArchiveError>;

    /// The open conflicts, at most [`OPEN_CONFLICTS_MAX`].
    ///
    /// # Errors
    /// [`ArchiveError`]
    fn open_conflicts(&self, vault: &VaultId) -> Result<Vec<Conflict>, ArchiveError>;

    /// A conflict, open or closed.
    ///
    /// # Errors
    /// [`ArchiveError`]
    fn conflict(
        &self,
        vault: &VaultId,
        id: &ConflictId,
    ) -> Result<Option<(Conflict, ConflictState)>, ArchiveError>;

    /// Notes that answer a question, see [`search_index::search`].
    ///
    /// # Errors
    /// [`ArchiveError`]
    fn search(
        &self,
        vault: &VaultId,
        question: &str,
        limit: usize,
    ) -> Result<Found<Vec<Hit>>, ArchiveError>;

    /// Links to and from a note, see [`search_index::links`].
    ///
    /// # Errors
    /// [`ArchiveError`]
    fn links(&self, vault: &VaultId, path: &VaultPath) -> Result<Found<NoteLinks>, ArchiveError>;
}

impl<V: Vaults + 'static> Archive for V {
    fn revisions(
        &self,
        vault: &VaultId,
        query: &RevisionQuery,
    ) -> Result<Vec<Revision>, ArchiveError> {
        opened(self, vault)?.revisions(query).map_err(failed)
    }

    fn revision(&self, vault: &VaultId, id: &VersionId) -> Result<Option<Revision>, ArchiveError> {
        opened(self, vault)?.revision(id).map_err(failed)
    }

    fn missing(
        &self,
        vault: &VaultId,
        versions: &[VersionId],
    ) -> Result<Vec<VersionId>, ArchiveError> {
        // The accounts know it: it was created, and nothing was ever stored in it.
        let Some(store) = self.open(vault).map_err(failed)? else { return Ok(versions.to_vec()) };
        let mut missing = Vec::new();
        for id in versions {
            if store.version(id).map_err(failed)?.is_none() {
                missing.push(*id);
            }
        }
        Ok(missing)
    }

    fn by_prefix(&self, vault: &VaultId, prefix: &[u8]) -> Result<Vec<VersionId>, ArchiveError> {
        opened(self, vault)?.versions_by_prefix(prefix).map_err(failed)
    }

    fn content(
        &self,
        vault: &VaultId,
        hash: &ContentHash,
    ) -> Result<Option<Arc<[u8]>>, ArchiveError> {
        opened(self, vault)?.content(hash).map_err(failed)
    }

    fn root(&self, vault: &VaultId) -> Result<Option<RootHash>, ArchiveError> {
        match self.open(vault).map_err(failed)? {
            Some(store) => store.root().map_err(failed),
            None => Ok(None),
        }
    }

    fn listing(&self, vault: &VaultId) -> Result<Listing, ArchiveError> {
        let Some(store) = self.open(vault).map_err(failed)? else { return Ok(Listing::default()) };
        store.reading(|| listing(&store))
    }

    fn standing(
        &self,
        vault: &VaultId,
        notes: &[NoteId],
    ) -> Result<Vec<Option<Standing>>, ArchiveError> {
        let Some(store) = self.open(vault).map_err(failed)? else {
            return Ok(vec![None; notes.len()]);
        };
        store.reading(|| notes.iter().map(|note| standing(&store, note)).collect())
    }

    fn at(&self, vault: &VaultId, path: &VaultPath) -> Result<Option<Standing>, ArchiveError> {
        let Some(store) = self.open(vault).map_err(failed)? else { return Ok(None) };
        store.reading(|| {
            let Some(root) = store.root().map_err(failed)? else { return Ok(None) };
            let at = merkle::lookup(&Tree(&store), &root, path).map_err(failed)?;
            match at.notes.first() {
                Some((note, _)) => standing(&store, note),
                None => Ok(None),
            }
        })
    }

    fn version(
        &self,
        vault: &VaultId,
        id: &VersionId,
    ) -> Result<Option<Arc<Version>>, ArchiveError> {
        match self.open(vault).map_err(failed)? {
            Some(store) => store.version(id).map_err(failed),
            None => Ok(None),
        }
    }

    fn deleted(
        &self,
        vault: &VaultId,
        before: Option<Seq>,
        limit: usize,
    ) -> Result<Vec<Gone>, ArchiveError> {
        match self.open(vault).map_err(failed)? {
            Some(store) => store.deleted(before, limit).map_err(failed),
            None => Ok(Vec::new()),
        }
    }

    fn open_conflicts(&self, vault: &VaultId) -> Result<Vec<Conflict>, ArchiveError> {
        match self.open(vault).map_err(failed)? {
            Some(store) => store.open_conflicts(OPEN_CONFLICTS_MAX).map_err(failed),
            None => Ok(Vec::new()),
        }
    }

    fn conflict(
        &self,
        vault: &VaultId,
        id: &ConflictId,
    ) -> Result<Option<(Conflict, ConflictState)>, ArchiveError> {
        match self.open(vault).map_err(failed)? {
            Some(store) => store.conflict(id).map_err(failed),
            None => Ok(None),
        }
    }

    fn search(
        &self,
        vault: &VaultId,
        question: &str,
        limit: usize,
    ) -> Result<Found<Vec<Hit>>, ArchiveError> {
        let Some(store) = self.open(vault).map_err(failed)? else {
            return Ok(Found { answer: Vec::new(), is_behind: false });
        };
        let place = self.index_place(vault);
        search_index::search(place.as_deref(), &store, question, limit).map_err(unanswered)
    }

    fn links(&self, vault: &VaultId, path: &VaultPath) -> Result<Found<NoteLinks>, ArchiveError> {
        let Some(store) = self.open(vault).map_err(failed)? else {
            return Ok(Found { answer: NoteLinks::default(), is_behind: false });
        };
        let place = self.index_place(vault);
        search_index::links(place.as_deref(), &store, path).map_err(unanswered)
    }
}

fn listing<R: Repo>(store: &R) -> Result<Listing, ArchiveError> {
    let (root, seq) = (store.root().map_err(failed)?, store.seq().map_err(failed)?);
    let mut notes = Vec::new();
    if let Some(root) = &root {
        for leaf in merkle::iter_live(&Tree(store), root, None).map_err(failed)? {
            let (note, leaf) = leaf.map_err(failed)?;
            if let Place::Live(path) = leaf.place {
                notes.push((path, note));
            }
        }
    }
    notes.sort_unstable();
    Ok(Listing { root, seq, notes })
}

fn standing<R: Repo>(store: &R, note: &NoteId) -> Result<Option<Standing>, ArchiveError> {
    let mut newest: Option<((bool, Stamp, VersionId), Arc<Version>)> = None;
    for id in store.heads(note).map_err(failed)? {
        let Some(version) = store.version(&id).map_err(failed)? else { continue };
        let rank = (version.live().is_some(), version.stamp, id);
        if newest.as_ref().is_none_or(|(best, _)| rank > *best) {
            newest = Some((rank, version));
        }
    }
    Ok(newest.map(|((_, _, id), version)| Standing { id, version }))
}

fn opened<V: Vaults>(vaults: &V, vault: &VaultId) -> Result<V::Vault, ArchiveError> {
    vaults.open(vault).map_err(failed)?.ok_or(ArchiveError::NoVault)
}

fn unanswered<E: std::error::Error + Send + Sync + 'static>(error: IndexError<E>) -> ArchiveError {
    match error {
        IndexError::Repo(error) => failed(error),
        IndexError::Index(error) => failed(error),
    }
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> ArchiveError {
    ArchiveError::Store(Box::new(error))
}
