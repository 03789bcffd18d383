//! Proofs that something is in a vault, or is not, for who knows the root alone.
//!
//! A proof is the nodes on the way from the root, and checking it is looking the thing up in a
//! tree of just these nodes: there is one lookup, and what it reads is what a proof holds.
//!
//! Invariant: a proof that is accepted says what a lookup in the whole tree says. It shows the
//! names beside the one asked about (at most fifteen, see [`crate::merkle::node`]) on every level.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use crate::id::{FolderRoot, LeafHash, NodeHash, NoteId, RootHash, VersionId};
use crate::merkle::bytes::{BytesError, Reader, put_count, rule};
use crate::merkle::node::{DecodeNodeError, Node, hash_encoded};
use crate::merkle::read::{Found, Read, ReadError, lookup, lookup_tombstone};
use crate::merkle::{TreeRead, walk};
use crate::vault_path::VaultPath;

const FORMAT: u8 = 1;
/// The smallest node is a branch with one child.
const NODE_BYTES_MIN: usize = 35;

/// Nodes from the root down to what is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    nodes: Vec<Vec<u8>>,
}

/// Why a proof is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Its bytes are malformed.
    #[error("the proof {0}")]
    Malformed(#[from] BytesError),
    /// One of its nodes is malformed.
    #[error("the proof holds what is no node: {0}")]
    Node(#[from] DecodeNodeError),
    /// A node is missing, or another is in its place.
    #[error("the proof does not lead from the root to what it is about")]
    Broken,
    /// It holds nodes that prove nothing.
    #[error("the proof holds more than it needs")]
    Surplus,
}

/// Proves what is at `path`: notes, a folder, or nothing.
///
/// # Errors
/// [`ReadError`].
pub fn prove_path<S: TreeRead>(tree: &S, root: &RootHash, path: &VaultPath) -> Read<Proof, S> {
    let recorder = Recorder { tree, nodes: RefCell::default() };
    lookup(&recorder, root, path)?;
    Ok(recorder.into_proof())
}

/// Proves that there is a tombstone of `note`, or that there is none.
///
/// # Errors
/// [`ReadError`].
pub fn prove_tombstone<S: TreeRead>(tree: &S, root: &RootHash, note: &NoteId) -> Read<Proof, S> {
    let recorder = Recorder { tree, nodes: RefCell::default() };
    lookup_tombstone(&recorder, root, note)?;
    Ok(recorder.into_proof())
}

impl Proof {
    /// What is at `path` in the vault with this root; nothing found is proven absent.
    ///
    /// # Errors
    /// [`ProofError`] for anything but the proof of this path under this root.
    pub fn verify_path(&self, root: &RootHash, path: &VaultPath) -> Result<Found, ProofError> {
        self.replay(|nodes| lookup(nodes, root, path))
    }

    /// The leaf of the tombstone of `note` in the vault with this root; `None` is proven absent.
    ///
    /// # Errors
    /// [`ProofError`] for anything but the proof of this tombstone under this root.
    pub fn verify_tombstone(
        &self,
        root: &RootHash,
        note: &NoteId,
    ) -> Result<Option<LeafHash>, ProofError> {
        self.replay(|nodes| lookup_tombstone(nodes, root, note))
    }

    fn replay<T>(
        &self,
        look: impl FnOnce(&Replay<'_>) -> Result<T, ReadError<ProofError>>,
    ) -> Result<T, ProofError> {
        let replay = Replay { nodes: Cell::new(&self.nodes) };
        let found = look(&replay).map_err(|error| match error {
            ReadError::Store(error) => error,
            ReadError::Missing(_)
            | ReadError::Misplaced(_)
            | ReadError::Twice(_)
            | ReadError::Path(_) => ProofError::Broken,
        })?;
        if replay.nodes.get().is_empty() { Ok(found) } else { Err(ProofError::Surplus) }
    }

    /// The canonical encoding.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        put_count(&mut out, self.nodes.len());
        for node in &self.nodes {
            put_count(&mut out, node.len());
            out.extend_from_slice(node);
        }
        out
    }

    /// Reads one canonical encoding that fills `bytes` exactly; nothing is proven by that.
    ///
    /// # Errors
    /// [`ProofError::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ProofError> {
        rule(bytes.len() <= walk::MESSAGE_BYTES_MAX, "is of bounded size")?;
        let mut reader = Reader::new(bytes);
        rule(reader.u8()? == FORMAT, "begins with the format")?;
        let count = reader.count_of(NODE_BYTES_MIN)?;
        let mut nodes = Vec::with_capacity(count);
        for _ in 0..count {
            let len = reader.count()?;
            rule(len >= NODE_BYTES_MIN, "has no node that is too small")?;
            nodes.push(reader.take(len)?.to_vec());
        }
        rule(reader.is_empty(), "ends with its last node")?;
        Ok(Self { nodes })
    }
}

impl Found {
    /// Whether `note` is here with exactly these heads.
    pub fn has(&self, note: &NoteId, heads: &[VersionId]) -> bool {
        self.notes.contains(&(*note, LeafHash::of(note, heads)))
    }

    /// Whether nothing is here.
    pub fn is_absent(&self) -> bool {
        self.notes.is_empty() && self.folder.is_none()
    }

    /// Whether the folder here is the one with this root.
    pub fn is_folder(&self, root: &FolderRoot) -> bool {
        self.folder.as_ref() == Some(root)
    }
}

/// Keeps what is read, in order.
struct Recorder<'t, S> {
    tree: &'t S,
    nodes: RefCell<Vec<Vec<u8>>>,
}

impl<S> Recorder<'_, S> {
    fn into_proof(self) -> Proof {
        Proof { nodes: self.nodes.into_inner() }
    }
}

impl<S: TreeRead> TreeRead for Recorder<'_, S> {
    type Error = S::Error;

    fn node(&self, hash: &NodeHash) -> Result<Option<Arc<Node>>, S::Error> {
        let node = self.tree.node(hash)?;
        if let Some(node) = &node {
            self.nodes.borrow_mut().push(node.encode());
        }
        Ok(node)
    }
}

/// Gives back what was kept, in the same order, and nothing else.
struct Replay<'p> {
    nodes: Cell<&'p [Vec<u8>]>,
}

impl TreeRead for Replay<'_> {
    type Error = ProofError;

    fn node(&self, hash: &NodeHash) -> Result<Option<Arc<Node>>, ProofError> {
        let (first, rest) = self.nodes.get().split_first().ok_or(ProofError::Broken)?;
        self.nodes.set(rest);
        if hash_encoded(first) != *hash {
            return Err(ProofError::Broken);
        }
        Ok(Some(Arc::new(Node::decode(first)?)))
    }
}
