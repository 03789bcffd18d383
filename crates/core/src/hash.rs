//! Domain-separated BLAKE3: a hash of one kind can never be taken for one of another.
//!
//! Every domain is BLAKE3 in keyed mode under a fixed 32-byte ASCII key (BLAKE3 specification
//! §2.3). The keys, and the block rules of [`crate::block`], are part of the format for ever.

use std::fmt;
use std::str::FromStr;

use crate::id::ParseIdError;

/// What a hash is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Domain {
    /// One block of a note.
    Block,
    /// Up to sixteen hashes of the level below, in the tree over a note's blocks.
    BlockNode,
    /// A whole note: the top of its block tree and its length.
    Text,
    /// The bytes of an asset.
    Blob,
    /// The canonical encoding of a version.
    Version,
    /// Vault, generation and path at creation.
    Note,
    /// A Merkle leaf: note id and heads.
    Leaf,
    /// A trie node with entries.
    TrieLeaf,
    /// A trie node with children.
    TrieNode,
    /// The root of a directory.
    Directory,
    /// The root of a vault: live tree and tombstones.
    Root,
    /// A conflict record's id.
    Conflict,
    /// The id of a replica of one event, made where a replica speaks beside its last word.
    Aside,
    /// The digest over the version ids of a batch.
    Batch,
    /// A bearer token's first revocation id, which names it in lists.
    Token,
    /// A pairing code, as it is kept at rest.
    PairingCode,
}

impl Domain {
    const fn key(self) -> &'static [u8; 32] {
        match self {
            Self::Block => b"crucible/1 block                ",
            Self::BlockNode => b"crucible/1 block node           ",
            Self::Text => b"crucible/1 text                 ",
            Self::Blob => b"crucible/1 blob                 ",
            Self::Version => b"crucible/1 version              ",
            Self::Note => b"crucible/1 note                 ",
            Self::Leaf => b"crucible/1 leaf                 ",
            Self::TrieLeaf => b"crucible/1 trie leaf            ",
            Self::TrieNode => b"crucible/1 trie node            ",
            Self::Directory => b"crucible/1 directory            ",
            Self::Root => b"crucible/1 root                 ",
            Self::Conflict => b"crucible/1 conflict             ",
            Self::Aside => b"crucible/1 aside                ",
            Self::Batch => b"crucible/1 batch                ",
            Self::Token => b"crucible/1 token                ",
            Self::PairingCode => b"crucible/1 pairing code         ",
        }
    }
}

/// Hashes the concatenation of `parts`. Callers make the parts unambiguous (fixed sizes first).
pub fn keyed(domain: Domain, parts: &[&[u8]]) -> [u8; 32] {
    if let [only] = parts {
        return *blake3::keyed_hash(domain.key(), only).as_bytes();
    }
    let mut hasher = blake3::Hasher::new_keyed(domain.key());
    for part in parts {
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

/// The hash of a note's text or of an asset's bytes; the two never coincide.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash([u8; 32]);

impl ContentHash {
    /// Wraps raw bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Wraps a slice of exactly 32 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first ten hex digits.
    pub fn short(&self) -> String {
        hex(&self.0[..5])
    }

    /// Hashes the bytes of an asset that is in memory.
    pub fn of_blob(bytes: &[u8]) -> Self {
        Self(keyed(Domain::Blob, &[bytes]))
    }

    /// Hashes a note: the root over its blocks, so that one block can be proven to be in it.
    ///
    /// Leaves are `H(Block, bytes)`; sixteen at a time they become `H(BlockNode, hashes)` until
    /// one is left; the result is `H(Text, top || length as u64 BE)`. No blocks: top is zeros.
    pub fn of_text(text: &str) -> Self {
        let levels = block_levels(text);
        let top = levels.last().and_then(|level| level.first()).copied().unwrap_or([0; 32]);
        Self::of_block_tree(&top, text.len() as u64)
    }

    /// The last step of [`Self::of_text`].
    pub(crate) fn of_block_tree(top: &[u8; 32], bytes: u64) -> Self {
        Self(keyed(Domain::Text, &[top, &bytes.to_be_bytes()]))
    }
}

/// The levels of the tree over the blocks of `text`, the leaves first, the last of one hash; no
/// level for no blocks.
pub(crate) fn block_levels(text: &str) -> Vec<Vec<[u8; 32]>> {
    let leaf = |block: &str| keyed(Domain::Block, &[block.as_bytes()]);
    let mut level: Vec<_> = crate::block::split(text).into_iter().map(leaf).collect();
    let mut levels = Vec::new();
    while level.len() > 1 {
        let groups = level.chunks(crate::limits::FANOUT);
        let above = groups.map(block_node).collect();
        levels.push(std::mem::replace(&mut level, above));
    }
    if !level.is_empty() {
        levels.push(level);
    }
    levels
}

/// The node over up to sixteen hashes of the level below.
pub(crate) fn block_node(group: &[[u8; 32]]) -> [u8; 32] {
    keyed(Domain::BlockNode, &[group.as_flattened()])
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentHash({})", self.short())
    }
}

impl FromStr for ContentHash {
    type Err = ParseIdError;
    fn from_str(s: &str) -> Result<Self, ParseIdError> {
        unhex(s)
            .map(Self)
            .ok_or_else(|| ParseIdError { expected: 64, got: s.chars().take(80).collect() })
    }
}

/// Hashes an asset that comes in pieces; equal to [`ContentHash::of_blob`] of the whole.
pub struct BlobHasher(blake3::Hasher);

impl BlobHasher {
    /// Starts with no bytes.
    pub fn new() -> Self {
        Self(blake3::Hasher::new_keyed(Domain::Blob.key()))
    }

    /// Adds the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// The hash of all pieces.
    pub fn finish(&self) -> ContentHash {
        ContentHash(*self.0.finalize().as_bytes())
    }
}

impl Default for BlobHasher {
    fn default() -> Self {
        Self::new()
    }
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    out
}

/// Parses exactly `N` bytes of hex, in either case.
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = (high * 16 + low) as u8;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_hashes_the_same_in_pieces() {
        let mut hasher = BlobHasher::new();
        hasher.update(b"one ");
        hasher.update(b"two");
        assert_eq!(hasher.finish(), ContentHash::of_blob(b"one two"));
    }

    #[test]
    fn text_and_blob_of_equal_bytes_differ() {
        assert_ne!(ContentHash::of_text("x\n"), ContentHash::of_blob(b"x\n"));
    }

    #[test]
    fn a_text_is_told_apart_by_every_byte() {
        let texts =
            ["", "\n", "a", "a\n", "a\r\n", "a\n\nb\n", "a\n\nb", "a\n\n\nb\n", "\u{feff}a"];
        for (i, one) in texts.iter().enumerate() {
            for (k, other) in texts.iter().enumerate() {
                let same = ContentHash::of_text(one) == ContentHash::of_text(other);
                assert_eq!(same, i == k, "{one:?} {other:?}");
            }
        }
    }
}
