//! What the engine asks of the store of one vault, the same on a server and on a device.
//!
//! Reads are methods of [`Repo`]; everything the engine wants written is one [`Batch`], and a
//! store commits a batch in one transaction: all of it or nothing. That is the whole contract a
//! crash can be measured against.

use std::sync::Arc;

use crucible_core::conflict::Conflict;
use crucible_core::hash::ContentHash;
use crucible_core::id::{ConflictId, NodeHash, NoteId, ReplicaId, RootHash, VersionId};
use crucible_core::version::Version;

/// A position in the order in which a store learned its versions; 0 is before the first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

/// The versions, contents, tree and conflicts of one vault.
pub trait Repo {
    /// What reading can fail with.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Runs `read` on one unchanging state. Nothing but speed depends on it: a store that takes a
    /// lock for each read takes one for all of them.
    fn reading<T>(&self, read: impl FnOnce() -> T) -> T {
        read()
    }
    /// The root of the current tree; `None` for the empty one.
    fn root(&self) -> Result<Option<RootHash>, Self::Error>;
    /// The position of the newest version.
    fn seq(&self) -> Result<Seq, Self::Error>;
    /// A version by id.
    fn version(&self, id: &VersionId) -> Result<Option<Arc<Version>>, Self::Error>;
    /// The known versions of `note` that no other known version descends from; sorted.
    fn heads(&self, note: &NoteId) -> Result<Vec<VersionId>, Self::Error>;
    /// Bytes of a note's text or of a small asset, verified against `hash` when they were stored.
    fn content(&self, hash: &ContentHash) -> Result<Option<Arc<[u8]>>, Self::Error>;
    /// Where the bytes of `hash` lie in a pack; `None` when they are kept otherwise.
    fn pack_place(&self, hash: &ContentHash) -> Result<Option<PackPlace>, Self::Error>;
    /// The pack that holds the bytes of `hash`, with the frame verified to be as it was stored, and
    /// where in it they lie by now.
    fn pack_of(&self, hash: &ContentHash) -> Result<Option<(PackPlace, Pack)>, Self::Error>;
    /// Whether the bytes of `hash` are here as content, which those of a note or small asset are.
    fn has_inline(&self, hash: &ContentHash) -> Result<bool, Self::Error>;
    /// Whether the bytes of `hash` are here, as content or as a blob.
    fn has_content(&self, hash: &ContentHash) -> Result<bool, Self::Error>;
    /// The encoded node of the current tree.
    fn node(&self, hash: &NodeHash) -> Result<Option<Vec<u8>>, Self::Error>;
    /// The position at which this store had `root`; `None` when it never had, or has forgotten.
    fn seq_of_root(&self, root: &RootHash) -> Result<Option<Seq>, Self::Error>;
    /// Notes whose newest version came after `after` and not after `until`, oldest change first,
    /// with the position of that newest version; at most `limit`.
    fn changed(
        &self,
        after: Seq,
        until: Seq,
        limit: usize,
    ) -> Result<Vec<(Seq, NoteId)>, Self::Error>;
    /// The newest version of `note` not after `at`: what a side that was in step then has.
    fn newest_at(&self, note: &NoteId, at: Seq) -> Result<Option<VersionId>, Self::Error>;
    /// All known versions of `note`, oldest first.
    fn versions_of(&self, note: &NoteId) -> Result<Vec<VersionId>, Self::Error>;
    /// The versions of `note` with exactly this content, newest first; at most 16.
    fn versions_with_content(
        &self,
        note: &NoteId,
        content: &ContentHash,
    ) -> Result<Vec<VersionId>, Self::Error>;
    /// Versions whose id begins with `prefix` (at least 4 bytes); at most 2 are returned.
    fn versions_by_prefix(&self, prefix: &[u8]) -> Result<Vec<VersionId>, Self::Error>;
    /// The highest counter known of `replica`, 0 for none.
    fn counter(&self, replica: &ReplicaId) -> Result<u64, Self::Error>;
    /// How many notes have a live head.
    fn live_notes(&self) -> Result<u64, Self::Error>;
    /// A conflict record by id, open or closed.
    fn conflict(&self, id: &ConflictId) -> Result<Option<(Conflict, ConflictState)>, Self::Error>;
    /// Conflict records opened or closed after `after`, oldest first; at most `limit`.
    fn conflicts_after(&self, after: u64, limit: usize) -> Result<Vec<ConflictEvent>, Self::Error>;
    /// Open conflict records in the order they were opened; at most `limit`.
    fn open_conflicts(&self, limit: usize) -> Result<Vec<Conflict>, Self::Error>;
}

/// Whether somebody has dealt with a conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConflictState {
    /// Nobody has.
    Open,
    /// Taken, kept both, or dismissed.
    Closed,
}

/// A conflict record that was opened or closed, at a position of its own log (from 1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConflictEvent {
    /// Position in the conflict log; a record moves to the end when it is closed.
    pub position: u64,
    /// The record.
    pub conflict: Conflict,
    /// Open or closed now.
    pub state: ConflictState,
}

/// How content came and is kept. The store may keep it otherwise, never as other bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// `bytes` of the pack number `pack` of the same batch, from `offset` of its raw bytes.
    Packed {
        /// Index into [`Batch::packs`].
        pack: usize,
        /// Where it begins in the decompressed pack.
        offset: u32,
    },
    /// A zstd frame with the bytes of `base` as its prefix (`proto::zip::undelta`).
    Delta {
        /// Content that is already here, or earlier in the same batch.
        base: ContentHash,
        /// The frame.
        frame: Vec<u8>,
    },
    /// A zstd frame of its own (`proto::zip::unzip`).
    Whole(Vec<u8>),
}

/// Bytes to keep. The engine has verified `hash` before it puts them into a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewContent {
    /// Of the raw bytes.
    pub hash: ContentHash,
    /// Raw size.
    pub bytes: u32,
    /// How they come.
    pub body: Body,
}

/// A zstd frame over the concatenation of many contents, kept as it travelled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pack {
    /// Raw size; at most `proto::limits::PACK_RAW_MAX`.
    pub raw_bytes: u32,
    /// The frame.
    pub frame: Vec<u8>,
}

/// Where a content lies in a stored pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackPlace {
    /// Which pack: the same number for all that lie in it, and never another pack's.
    pub pack: u64,
    /// Where the content begins in the raw bytes.
    pub offset: u32,
    /// All raw bytes of the pack.
    pub raw_bytes: u32,
}

/// What one transaction writes. Order within is by need: packs, contents, versions, heads, tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Frames that `contents` point into.
    pub packs: Vec<Pack>,
    /// Bytes of notes and small assets.
    pub contents: Vec<NewContent>,
    /// New versions in the order they get their positions; parents first.
    pub versions: Vec<(VersionId, Arc<Version>)>,
    /// Versions to drop: never acknowledged by anybody, and minted again (clone, clock).
    pub dropped: Vec<VersionId>,
    /// The new heads of the notes that changed; sorted; empty forgets the note (only with
    /// `dropped`).
    pub heads: Vec<(NoteId, Vec<VersionId>)>,
    /// Encoded nodes of the new tree that the old one had not.
    pub nodes_added: Vec<(NodeHash, Vec<u8>)>,
    /// Nodes of the old tree that the new one has not.
    pub nodes_removed: Vec<NodeHash>,
    /// The new root; recorded with the position of the newest version (see `seq_of_root`).
    pub root: Option<RootHash>,
    /// Records to open; one that is known already stays as it is.
    pub conflicts: Vec<Conflict>,
    /// Records to close; unknown ones are ignored.
    pub closed: Vec<ConflictId>,
}

impl Batch {
    /// Whether committing it would change nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
