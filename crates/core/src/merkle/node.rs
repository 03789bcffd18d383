//! Nodes: their shape, their one encoding, and the hash over it.
//!
//! A vault's **root** names the top of its live tree and the top of its tombstones. A folder is a
//! trie over its entries, and an entry that is itself a folder names the top of that folder's
//! trie. An entry's **key** is BLAKE3 of its name (a tombstone's: of its note id); a trie node at
//! depth `d` parts its entries by the `d`-th hex digit of their keys.
//!
//! Invariant, and the reason the shape has no history: a set of entries is a **bucket** if it has
//! at most [`FANOUT`] entries or all of them have one key, and a **branch** otherwise. There are
//! no empty folders, branches or buckets.
//!
//! # Bytes
//!
//! | node | encoding | domain |
//! |---|---|---|
//! | root | `01`, live top, tombstone top (32 bytes each, zeros for none), live notes, tombstones (u64 BE) | `Root` |
//! | branch | `02`, u16 BE bitmap (bit `n` for digit `n`), 32-byte hash of each child present | `TrieNode` |
//! | live bucket | `03`, entries in order of (name, kind, note): `00` name top, or `01` name note leaf | `TrieLeaf` |
//! | tombstone bucket | `04`, entries in order of note: note leaf | `TrieLeaf` |
//!
//! A name is one length byte and UTF-8; hashes and ids are 32 bytes.

use crate::hash::{Domain, keyed};
use crate::id::{LeafHash, NodeHash, NoteId};
use crate::limits::FANOUT;
use crate::merkle::bytes::{self, BytesError, Reader, put_name};

const ROOT: u8 = 1;
const BRANCH: u8 = 2;
const LIVE_BUCKET: u8 = 3;
const TOMBSTONE_BUCKET: u8 = 4;
const DIR: u8 = 0;
const NOTE: u8 = 1;

/// Digits in a key: the depth that no trie reaches.
pub const KEY_DIGITS: usize = 64;

/// Why bytes are no node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a tree node {0}")]
pub struct DecodeNodeError(#[from] pub BytesError);

/// The top of a vault's tree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Root {
    /// The top of the vault's trie, `None` when no note exists.
    pub live: Option<NodeHash>,
    /// The top of the trie of tombstones, `None` when there are none.
    pub tombstones: Option<NodeHash>,
    /// How many leaves are live.
    pub live_count: u64,
    /// How many are tombstones.
    pub tombstone_count: u64,
}

/// One entry of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A folder, by the top node of its trie.
    Dir {
        /// Its name.
        name: Box<str>,
        /// The top of its trie.
        top: NodeHash,
    },
    /// A note that exists.
    Note {
        /// The last component of its path.
        name: Box<str>,
        /// Which note.
        note: NoteId,
        /// The note and its heads.
        leaf: LeafHash,
    },
    /// A note that was deleted.
    Gone {
        /// Which note.
        note: NoteId,
        /// The note and its heads.
        leaf: LeafHash,
    },
}

/// Where an entry belongs in a bucket; no two entries of one folder are equal in it.
pub type EntryOrder<'e> = (&'e str, u8, Option<&'e NoteId>);

impl Entry {
    /// The position in a bucket.
    pub fn order(&self) -> EntryOrder<'_> {
        match self {
            Self::Dir { name, .. } => (name, DIR, None),
            Self::Note { name, note, .. } => (name, NOTE, Some(note)),
            Self::Gone { note, .. } => ("", NOTE, Some(note)),
        }
    }

    /// The place in the trie.
    pub fn key(&self) -> Key {
        match self {
            Self::Dir { name, .. } | Self::Note { name, .. } => Key::of_name(name),
            Self::Gone { note, .. } => Key::of_tombstone(note),
        }
    }
}

/// BLAKE3 of what an entry is found by, read as 64 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key([u8; 32]);

impl Key {
    /// The key of everything called `name`.
    pub fn of_name(name: &str) -> Self {
        Self(*blake3::hash(name.as_bytes()).as_bytes())
    }

    /// The key of a note's tombstone.
    pub fn of_tombstone(note: &NoteId) -> Self {
        Self(*blake3::hash(note.as_bytes()).as_bytes())
    }

    /// The `depth`-th digit, `depth` below [`KEY_DIGITS`].
    pub fn digit(&self, depth: usize) -> usize {
        let byte = self.0[depth / 2];
        usize::from(if depth.is_multiple_of(2) { byte >> 4 } else { byte & 15 })
    }

    /// Whether the first digits are these.
    pub fn starts_with(&self, digits: &[u8]) -> bool {
        digits.len() <= KEY_DIGITS
            && digits.iter().enumerate().all(|(depth, &d)| self.digit(depth) == usize::from(d))
    }
}

/// Whether entries with these keys form a bucket, not a branch.
pub(super) fn is_bucket(count: usize, keys: impl IntoIterator<Item = Key>) -> bool {
    if count <= FANOUT {
        return true;
    }
    let mut keys = keys.into_iter();
    let first = keys.next();
    keys.all(|key| Some(key) == first)
}

/// A node of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// The top of a vault.
    Root(Root),
    /// Children by the next digit of their keys; at least one.
    Branch(Box<[Option<NodeHash>; FANOUT]>),
    /// Entries in [`Entry::order`], unique; all tombstones, or none; at least one.
    Bucket(Vec<Entry>),
}

impl Node {
    /// The canonical encoding.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Root(root) => encode_root(root),
            Self::Branch(children) => encode_branch(children),
            Self::Bucket(entries) => encode_bucket(entries),
        }
    }

    /// The hash of the encoding.
    pub fn hash(&self) -> NodeHash {
        hash_encoded(&self.encode())
    }

    /// Reads one canonical encoding that fills `bytes` exactly.
    ///
    /// # Errors
    /// [`DecodeNodeError`] for anything [`Self::encode`] would not have written. That a name is
    /// one a vault can hold, and that keys are where they belong, is checked where it matters.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeNodeError> {
        let mut reader = Reader::new(bytes);
        let node = match reader.u8()? {
            ROOT => Self::Root(read_root(&mut reader)?),
            BRANCH => Self::Branch(read_branch(&mut reader)?),
            LIVE_BUCKET => Self::Bucket(read_bucket(&mut reader, read_live_entry)?),
            TOMBSTONE_BUCKET => Self::Bucket(read_bucket(&mut reader, read_gone)?),
            _ => return Err(BytesError::Rule("a node is of a known kind").into()),
        };
        bytes::rule(reader.is_empty(), "nothing follows a node")?;
        Ok(node)
    }
}

/// The hash of a node's encoding: the first byte picks the domain.
pub(super) fn hash_encoded(bytes: &[u8]) -> NodeHash {
    let domain = match bytes.first() {
        Some(&ROOT) => Domain::Root,
        Some(&BRANCH) => Domain::TrieNode,
        _ => Domain::TrieLeaf,
    };
    NodeHash::from_bytes(keyed(domain, &[bytes]))
}

fn encode_root(root: &Root) -> Vec<u8> {
    let mut out = Vec::with_capacity(81);
    out.push(ROOT);
    for top in [root.live, root.tombstones] {
        out.extend_from_slice(top.map_or([0; 32], |hash| *hash.as_bytes()).as_slice());
    }
    out.extend_from_slice(&root.live_count.to_be_bytes());
    out.extend_from_slice(&root.tombstone_count.to_be_bytes());
    out
}

fn encode_branch(children: &[Option<NodeHash>; FANOUT]) -> Vec<u8> {
    let mut out = Vec::with_capacity(3 + 32 * FANOUT);
    out.push(BRANCH);
    out.extend_from_slice(&bitmap(children).to_be_bytes());
    for child in children.iter().flatten() {
        out.extend_from_slice(child.as_bytes());
    }
    out
}

/// Bit `n` says whether child `n` is there.
pub(super) fn bitmap<T>(children: &[Option<T>; FANOUT]) -> u16 {
    let bits = children.iter().enumerate().filter(|(_, child)| child.is_some());
    bits.fold(0, |map, (digit, _)| map | 1 << digit)
}

/// Reads a bitmap and the children it announces.
pub(super) fn read_children<'b, T: Copy>(
    reader: &mut Reader<'b>,
    child: impl Fn(&mut Reader<'b>) -> Result<T, BytesError>,
) -> Result<Box<[Option<T>; FANOUT]>, BytesError> {
    let map = reader.u16()?;
    bytes::rule(map != 0, "a branch has children")?;
    let mut children = Box::new([None; FANOUT]);
    for (digit, slot) in children.iter_mut().enumerate() {
        if map & 1 << digit != 0 {
            *slot = Some(child(reader)?);
        }
    }
    Ok(children)
}

fn encode_bucket(entries: &[Entry]) -> Vec<u8> {
    let gone = matches!(entries.first(), Some(Entry::Gone { .. }));
    let mut out = Vec::with_capacity(1 + entries.len() * 96);
    out.push(if gone { TOMBSTONE_BUCKET } else { LIVE_BUCKET });
    for entry in entries {
        match entry {
            Entry::Dir { name, top } => {
                out.push(DIR);
                put_name(&mut out, name);
                out.extend_from_slice(top.as_bytes());
            }
            Entry::Note { name, note, leaf } => {
                out.push(NOTE);
                put_name(&mut out, name);
                out.extend_from_slice(note.as_bytes());
                out.extend_from_slice(leaf.as_bytes());
            }
            Entry::Gone { note, leaf } => {
                out.extend_from_slice(note.as_bytes());
                out.extend_from_slice(leaf.as_bytes());
            }
        }
    }
    out
}

fn read_root(reader: &mut Reader<'_>) -> Result<Root, BytesError> {
    let top = |bytes: [u8; 32]| (bytes != [0; 32]).then(|| NodeHash::from_bytes(bytes));
    let root = Root {
        live: top(reader.array()?),
        tombstones: top(reader.array()?),
        live_count: reader.u64()?,
        tombstone_count: reader.u64()?,
    };
    bytes::rule(root.live.is_some() == (root.live_count > 0), "no tree without notes")?;
    let gone = root.tombstones.is_some() == (root.tombstone_count > 0);
    bytes::rule(gone, "no tombstone trie without tombstones")?;
    Ok(root)
}

fn read_branch(reader: &mut Reader<'_>) -> Result<Box<[Option<NodeHash>; FANOUT]>, BytesError> {
    read_children(reader, |reader| reader.array().map(NodeHash::from_bytes))
}

fn read_bucket<'b>(
    reader: &mut Reader<'b>,
    entry: impl Fn(&mut Reader<'b>) -> Result<Entry, BytesError>,
) -> Result<Vec<Entry>, BytesError> {
    let mut entries: Vec<Entry> = Vec::new();
    while !reader.is_empty() {
        entries.push(entry(reader)?);
    }
    bytes::rule(!entries.is_empty(), "a bucket has entries")?;
    let sorted = entries.is_sorted_by(|a, b| a.order() < b.order());
    bytes::rule(sorted, "entries are sorted and unique")?;
    let fits = is_bucket(entries.len(), entries.iter().map(Entry::key));
    bytes::rule(fits, "more entries than the fanout have one key")?;
    Ok(entries)
}

fn read_live_entry(reader: &mut Reader<'_>) -> Result<Entry, BytesError> {
    match reader.u8()? {
        DIR => Ok(Entry::Dir {
            name: reader.name()?.into(),
            top: NodeHash::from_bytes(reader.array()?),
        }),
        NOTE => Ok(Entry::Note {
            name: reader.name()?.into(),
            note: NoteId::from_bytes(reader.array()?),
            leaf: LeafHash::from_bytes(reader.array()?),
        }),
        _ => Err(BytesError::Rule("an entry is of a known kind")),
    }
}

fn read_gone(reader: &mut Reader<'_>) -> Result<Entry, BytesError> {
    Ok(Entry::Gone {
        note: NoteId::from_bytes(reader.array()?),
        leaf: LeafHash::from_bytes(reader.array()?),
    })
}
