//! What a device's store keeps besides the vault's versions: where its files stand.
//!
//! Invariant: `files` says for every placed note which version its file was last in step with.
//! That version and its content are never forgotten while the row stands: it is the base of the
//! next edit.

use crucible_core::hash::ContentHash;
use crucible_core::id::{NoteId, ReplicaId, RootHash, VaultId, VersionId};
use crucible_core::vault_path::VaultPath;
use crucible_core::version::Kind;

use crate::repo::{Batch, Repo};

/// A file's identity and change marks, as the file system told them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileStat {
    /// Size in bytes.
    pub bytes: u64,
    /// Modification time, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Change time, nanoseconds since 1970; 0 where there is none.
    pub ctime_ns: i64,
    /// Inode or file id.
    pub inode: u64,
    /// Device of the file system.
    pub device: u64,
}

/// A file of the vault folder that holds a note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRow {
    /// Where it is on this disk (not always the note's path: clashes and reserved names).
    pub disk_path: VaultPath,
    /// What it holds.
    pub note: NoteId,
    /// The version its bytes were last in step with.
    pub version: VersionId,
    /// The hash of those bytes.
    pub content: ContentHash,
    /// Note or asset.
    pub kind: Kind,
    /// Its stat when it was last known to hold them.
    pub stat: FileStat,
    /// The clock of the file system when `stat` was taken, nanoseconds since 1970.
    pub seen_ns: i64,
}

/// An intention written down before the file system is touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placing {
    /// The file about to change.
    pub disk_path: VaultPath,
    /// What it will hold.
    pub note: NoteId,
    /// In which version; `None` when the file is about to go.
    pub version: Option<VersionId>,
    /// Where the file comes from when it is a rename.
    pub from: Option<VaultPath>,
    /// The name under `.crucible/undo` or `.crucible/trash` that receives what was there.
    pub undo: String,
}

/// Displaced bytes that are still watched: an editor may hold the old file open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Displaced {
    /// Where they lie: under `.crucible/undo`, beside their file, or in the trash.
    pub undo: String,
    /// Whose bytes.
    pub note: NoteId,
    /// The version they were in step with.
    pub version: VersionId,
    /// Their hash when last read.
    pub content: ContentHash,
    /// The number of the round that displaced them.
    pub round: u64,
}

/// Facts about this replica, one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaMeta {
    /// Which vault.
    pub vault: VaultId,
    /// Which copy.
    pub replica: ReplicaId,
    /// The last counter this replica used.
    pub counter: u64,
    /// The last counter the other side has acknowledged.
    pub acked_counter: u64,
    /// The hybrid logical clock's last ticks.
    pub ticks: u64,
    /// Milliseconds to add to the wall clock, once the other side has shown it to be wrong.
    pub clock_correction_ms: i64,
    /// The last root both sides had.
    pub common_root: Option<RootHash>,
    /// Where a paged pull stands: a position in the other side's order.
    pub pulled: Option<u64>,
    /// The position in the other side's conflict log up to which we know it.
    pub conflicts_seen: u64,
    /// Rounds begun; names of temporary files are made from it.
    pub rounds: u64,
    /// Temporary names handed out; never goes back.
    pub names: u64,
    /// Whether the first contact with the other side is complete.
    pub joined: bool,
}

impl ReplicaMeta {
    /// A replica that has done nothing and met nobody yet.
    pub fn new(vault: VaultId, replica: ReplicaId) -> Self {
        Self {
            vault,
            replica,
            counter: 0,
            acked_counter: 0,
            ticks: 0,
            clock_correction_ms: 0,
            common_root: None,
            pulled: None,
            conflicts_seen: 0,
            rounds: 0,
            names: 0,
            joined: false,
        }
    }
}

/// A device's store.
pub trait ReplicaStore: Repo {
    /// This replica's facts.
    fn meta(&self) -> Result<ReplicaMeta, Self::Error>;
    /// All files, by disk path.
    fn files(&self) -> Result<Vec<FileRow>, Self::Error>;
    /// The file that holds `note`.
    fn file_of(&self, note: &NoteId) -> Result<Option<FileRow>, Self::Error>;
    /// Versions the other side has not acknowledged, oldest first.
    fn unsent(&self) -> Result<Vec<VersionId>, Self::Error>;
    /// Notes whose heads changed since their file was last looked at, see [`ReplicaBatch::settled`],
    /// in the order in which they became so: texts that came in one pack are placed one after
    /// another.
    fn unsettled(&self) -> Result<Vec<NoteId>, Self::Error>;
    /// Intentions not yet recorded as done.
    fn placing(&self) -> Result<Vec<Placing>, Self::Error>;
    /// Displaced bytes still watched.
    fn displaced(&self) -> Result<Vec<Displaced>, Self::Error>;
    /// Conflict closings the other side has not been told.
    fn closed_unsent(&self) -> Result<Vec<crucible_core::id::ConflictId>, Self::Error>;
    /// Writes everything or nothing; durable when it returns.
    fn commit(&mut self, batch: &ReplicaBatch) -> Result<(), Self::Error>;
}

/// What one transaction of a device writes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplicaBatch {
    /// The vault's part. Every note in `repo.heads` becomes unsettled.
    pub repo: Batch,
    /// The new facts.
    pub meta: Option<ReplicaMeta>,
    /// Versions that still have to be sent.
    pub unsent: Vec<VersionId>,
    /// Versions the other side has.
    pub acked: Vec<VersionId>,
    /// Files that now hold something; replaces the rows of the same disk path and note.
    pub files: Vec<FileRow>,
    /// Disk paths that hold nothing any more.
    pub files_gone: Vec<VaultPath>,
    /// Notes whose file has to be looked at again though their heads stay (a missing file that is
    /// to come back).
    pub unsettled: Vec<NoteId>,
    /// Notes whose file now is as their heads want it; wins over becoming unsettled by `repo`.
    pub settled: Vec<NoteId>,
    /// Intentions; one a disk path.
    pub placing: Vec<Placing>,
    /// Disk paths whose intention is done or given up.
    pub placed: Vec<VaultPath>,
    /// Displaced bytes to watch, or to watch with another hash.
    pub displaced: Vec<Displaced>,
    /// Undo names that need no watching any more.
    pub retired: Vec<String>,
    /// Conflict closings to tell the other side.
    pub closed_unsent: Vec<crucible_core::id::ConflictId>,
    /// Conflict closings the other side knows.
    pub closed_acked: Vec<crucible_core::id::ConflictId>,
}
