//! What a server asks of the store of one vault beyond [`Repo`]: commits that remember who sent
//! them, and history.
//!
//! Nothing here names a file or a database: PostgreSQL can stand behind these traits.

use std::path::PathBuf;
use std::sync::Arc;

use crucible_core::id::{DeviceId, NoteId, UserId, VaultId, VersionId};
use crucible_core::vault_path::VaultPath;
use crucible_core::version::{State, Version};
use crucible_sync::repo::{Batch, Repo, Seq};

/// Who sent what a commit holds, from where, and when it arrived.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The person whose token it was.
    pub user: UserId,
    /// The device that sent it.
    pub device: DeviceId,
    /// Milliseconds since 1970 by the server's clock.
    pub received_ms: u64,
    /// The peer's address as text, or the live session it was written in ([`Origin::in_session`]);
    /// cut to [`ADDRESS_BYTES_MAX`].
    pub address: String,
    /// Who else wrote it, where several did in a live session.
    pub others: Vec<(UserId, DeviceId)>,
}

/// Begins the address of what was written in a live session; no address of a peer has it.
const SESSION: &str = "session ";

impl Origin {
    /// The address of what a live session stores.
    pub fn in_session(id: &str) -> String {
        format!("{SESSION}{id}")
    }

    /// The live session it was written in.
    pub fn session(&self) -> Option<&str> {
        self.address.strip_prefix(SESSION)
    }

    /// The peer's address, if it came from one.
    pub fn peer(&self) -> Option<&str> {
        self.session().is_none().then_some(self.address.as_str())
    }
}

/// Longest address kept, in bytes: an IPv6 address with a zone and a port fits.
pub const ADDRESS_BYTES_MAX: usize = 96;

/// The store of one vault on a server.
pub trait ServerRepo: Repo {
    /// Writes heads, history, blob references and who sent them: everything or nothing, durable
    /// when it returns.
    ///
    /// # Errors
    /// Refuses a batch whose live heads name content that is stored neither here nor as a blob.
    fn commit_from(&mut self, batch: &Batch, origin: &Origin) -> Result<(), Self::Error>;
}

/// The vaults of a server.
pub trait Vaults: Send + Sync {
    /// The store of one vault.
    type Vault: ServerRepo + History;
    /// What opening can fail with.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Creates the vault, or opens it when it is there already.
    fn create(&self, vault: &VaultId) -> Result<Self::Vault, Self::Error>;
    /// Opens the vault; `None` when there is none.
    fn open(&self, vault: &VaultId) -> Result<Option<Self::Vault>, Self::Error>;
    /// Where a derived index of the vault may be kept between requests; `None` for nowhere.
    fn index_place(&self, _vault: &VaultId) -> Option<PathBuf> {
        None
    }
    /// All vaults, sorted.
    fn list(&self) -> Result<Vec<VaultId>, Self::Error>;
}

/// Which revisions to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All of the vault.
    Vault,
    /// Those of one note, through all its names.
    Note(NoteId),
    /// Those of every note that is, was, or before its deletion had been at exactly this path.
    Path(VaultPath),
}

/// A page of revisions, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevisionQuery {
    /// Which.
    pub scope: Scope,
    /// Only those before this position; `None` begins with the newest.
    pub before: Option<Seq>,
    /// At most so many; cut to [`REVISIONS_MAX`].
    pub limit: usize,
}

/// Most revisions in one page.
pub const REVISIONS_MAX: usize = 1000;

/// What a revision did, seen from its parents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    /// The note's first version.
    Create,
    /// The content changed (and perhaps the path, see [`Revision::from`]).
    Edit,
    /// Only the path changed.
    Rename,
    /// The note was deleted.
    Delete,
    /// Nobody's: the view over several heads.
    Merge,
    /// A deleted note came back, or content that the note had before its parents had it.
    Restore,
}

/// One entry of history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// Its position; the next page's `before`.
    pub seq: Seq,
    /// Which version.
    pub id: VersionId,
    /// The version: note, parents, stamp, author, path, content hash.
    pub version: Arc<Version>,
    /// What it did.
    pub op: Op,
    /// The first parent's path when it differs: the former name, or the name a deleted note had.
    pub from: Option<VaultPath>,
    /// Who sent it and when; `None` on a device.
    pub origin: Option<Origin>,
}

/// A note that is deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// The position of its newest version; the next page's `before`.
    pub seq: Seq,
    /// Which note.
    pub note: NoteId,
    /// The newest version of it that was live; `None` when that was forgotten.
    pub last: Option<(VersionId, Arc<Version>)>,
    /// Who deleted it and when; `None` on a device.
    pub origin: Option<Origin>,
}

/// Append-only history of one vault.
pub trait History: Repo {
    /// A page of revisions, newest first.
    fn revisions(&self, query: &RevisionQuery) -> Result<Vec<Revision>, Self::Error>;
    /// One revision.
    fn revision(&self, id: &VersionId) -> Result<Option<Revision>, Self::Error>;
    /// The notes that are, were, or before their deletion had been at exactly this path; sorted.
    fn notes_at(&self, path: &VaultPath) -> Result<Vec<NoteId>, Self::Error>;
    /// Notes that are deleted, the last one first, of those whose newest version is before
    /// `before`; at most `limit`, cut to [`REVISIONS_MAX`].
    fn deleted(&self, before: Option<Seq>, limit: usize) -> Result<Vec<Gone>, Self::Error>;
}

/// What `version` did, seen from those of its `parents` that are known, in order.
/// `had_before` tells whether the note had the version's content earlier; asked at most once.
pub fn derive_op(
    version: &Version,
    parents: &[Arc<Version>],
    had_before: impl FnOnce() -> bool,
) -> (Op, Option<VaultPath>) {
    let former = parents.first().and_then(|parent| parent.path());
    let from = former.filter(|&path| version.path() != Some(path)).cloned();
    let op = match &version.state {
        State::Deleted => Op::Delete,
        _ if version.is_merge() => Op::Merge,
        _ if version.parents.is_empty() => Op::Create,
        State::Live(_) if !parents.is_empty() && parents.iter().all(|p| p.live().is_none()) => {
            Op::Restore
        }
        State::Live(live) => {
            let kept = |p: &Arc<Version>| p.live().is_some_and(|l| l.content == live.content);
            match (parents.iter().any(kept), from.is_some()) {
                (true, true) => Op::Rename,
                (false, _) if had_before() => Op::Restore,
                _ => Op::Edit,
            }
        }
    };
    (op, from)
}
