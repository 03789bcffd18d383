//! What the shell asks of history: the calls of `store::server_repo` in a form that can stand
//! behind `dyn`, and their implementation over any [`Vaults`]. All calls block.

use std::sync::Arc;

use crucible_core::hash::ContentHash;
use crucible_core::id::{VaultId, VersionId};
use crucible_store::server_repo::{History, Revision, RevisionQuery, Vaults};
use crucible_sync::repo::Repo;

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

/// History of all vaults of a server.
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
}

fn opened<V: Vaults>(vaults: &V, vault: &VaultId) -> Result<V::Vault, ArchiveError> {
    vaults.open(vault).map_err(failed)?.ok_or(ArchiveError::NoVault)
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> ArchiveError {
    ArchiveError::Store(Box::new(error))
}
