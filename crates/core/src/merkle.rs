//! One root for a whole vault: a persistent, history-independent Merkle tree.
//!
//! Invariant: the root depends on the set of leaves alone, never on the order they came in, and
//! an update or a comparison touches only the paths to what differs. Read [`node`] for the shape
//! and the bytes, then [`update()`], [`diff()`], [`walk`] (two replicas over a wire), [`proof`] and
//! [`block_proof`].
//!
//! # Why a node is never in one tree twice
//!
//! There are no empty folders, so below every node lies at least one leaf, and a note has one leaf
//! in a tree. Two places with equal nodes would hold the same leaf twice. So a store that keeps
//! only the current tree may delete [`Updated::removed`] without counting references.

use std::collections::HashMap;
use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;

pub mod block_proof;
mod bytes;
mod diff;
pub mod node;
pub mod proof;
mod read;
mod update;
mod view;
pub mod walk;

pub use bytes::BytesError;
pub use diff::{DiffError, diff};
pub use read::{Found, Leaves, ReadError, folder_root, iter_live, iter_tombstones, lookup};
pub use read::{lookup_tombstone, root_of};
pub use update::{Change, UpdateError, Updated, update};

use crate::hash::{Domain, keyed};
use crate::id::{LeafHash, NodeHash, NoteId, Tag, VersionId};
use crate::vault_path::VaultPath;
use node::{DecodeNodeError, Node};

/// Nodes by their hash; the tree itself is a root hash and whatever hangs below it.
pub trait TreeRead {
    /// What reading can fail with.
    type Error: Error + Send + Sync + 'static;

    /// The node with this hash, `None` if the store does not have it.
    ///
    /// # Errors
    /// Whatever the store fails with; a node that does not hash to `hash` must be an error.
    fn node(&self, hash: &NodeHash) -> Result<Option<Arc<Node>>, Self::Error>;
}

/// Where a note is in a tree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the live tree.
    Live(VaultPath),
    /// Deleted.
    Tombstone,
}

/// A note's leaf: where it is and what its heads are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leaf {
    /// Where.
    pub place: Place,
    /// The note and its heads.
    pub hash: LeafHash,
}

impl Leaf {
    /// The leaf of a note that exists.
    pub fn live(path: VaultPath, note: &NoteId, heads: &[VersionId]) -> Self {
        Self { place: Place::Live(path), hash: LeafHash::of(note, heads) }
    }

    /// The leaf of a note that was deleted.
    pub fn tombstone(note: &NoteId, heads: &[VersionId]) -> Self {
        Self { place: Place::Tombstone, hash: LeafHash::of(note, heads) }
    }
}

impl LeafHash {
    /// `H(Leaf, note || heads)`; heads are taken as a set.
    pub fn of(note: &NoteId, heads: &[VersionId]) -> Self {
        let mut sorted: Vec<[u8; 32]> = heads.iter().map(|head| *head.as_bytes()).collect();
        sorted.sort_unstable();
        sorted.dedup();
        Self::from_bytes(keyed(Domain::Leaf, &[note.as_bytes(), sorted.as_flattened()]))
    }

    /// The half of it that a walk compares.
    pub fn tag(&self) -> Tag {
        first_half(self.as_bytes())
    }
}

impl NodeHash {
    /// The half of it that a walk compares.
    pub fn tag(&self) -> Tag {
        first_half(self.as_bytes())
    }
}

fn first_half(bytes: &[u8; 32]) -> Tag {
    Tag::from_slice(&bytes[..Tag::LEN]).expect("half of 32 bytes is 16 bytes")
}

/// A leaf as one side of a comparison saw it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sighting {
    /// Where.
    pub place: Place,
    /// Half of the leaf hash: enough to tell two states of a note apart.
    pub tag: Tag,
}

/// A note whose leaf is not the same on both sides; at least one side has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// Which note.
    pub note: NoteId,
    /// Here, or in the left tree.
    pub mine: Option<Sighting>,
    /// There, or in the right tree.
    pub theirs: Option<Sighting>,
}

/// A tree in memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryTree {
    nodes: HashMap<NodeHash, Arc<Node>>,
}

impl MemoryTree {
    /// A store without nodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in what an update added, and keeps what it removed: every root stays readable.
    ///
    /// # Errors
    /// [`DecodeNodeError`] if an added node is malformed; nodes before it are in.
    pub fn add(&mut self, updated: &Updated) -> Result<(), DecodeNodeError> {
        for (hash, bytes) in &updated.added {
            self.nodes.insert(*hash, Arc::new(Node::decode(bytes)?));
        }
        Ok(())
    }

    /// Takes in what an update added and drops what it removed: only the new root is readable.
    ///
    /// # Errors
    /// [`DecodeNodeError`] if an added node is malformed; nothing is dropped then.
    pub fn replace(&mut self, updated: &Updated) -> Result<(), DecodeNodeError> {
        self.add(updated)?;
        for hash in &updated.removed {
            self.nodes.remove(hash);
        }
        Ok(())
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

impl TreeRead for MemoryTree {
    type Error = Infallible;

    fn node(&self, hash: &NodeHash) -> Result<Option<Arc<Node>>, Infallible> {
        Ok(self.nodes.get(hash).cloned())
    }
}
