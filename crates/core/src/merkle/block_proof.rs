//! Proofs that a block is in a note, for who knows the note's content hash alone.
//!
//! With a [`Proof`](crate::merkle::proof::Proof) of the note and its head version, which names the
//! content hash, a block is proven to be in a vault.

use crate::hash::{ContentHash, Domain, block_levels, block_node, keyed};
use crate::limits::FANOUT;
use crate::merkle::bytes::{BytesError, Reader, rule};

const FORMAT: u8 = 1;
/// Levels of the tree over the most blocks a note can have: one a byte, 16 MiB.
const LEVELS_MAX: usize = 6;

/// The hashes beside the way from a block to the top of its note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockProof {
    /// From the block up.
    levels: Vec<Level>,
    text_bytes: u64,
}

/// One group of up to sixteen hashes, without the one that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Level {
    /// Where the one that is known belongs.
    at: usize,
    others: Vec<[u8; 32]>,
}

/// Proves that the `index`-th block of `text` is where it is; `None` if there is no such block.
pub fn prove_block(text: &str, index: usize) -> Option<BlockProof> {
    let levels = block_levels(text);
    let (_, below_top) = levels.split_last()?;
    if index >= levels[0].len() {
        return None;
    }
    let mut way = Vec::with_capacity(below_top.len());
    let mut index = index;
    for level in below_top {
        let (group, at) = (index / FANOUT, index % FANOUT);
        let group = level.chunks(FANOUT).nth(group).expect("the index is below the level's size");
        let others = [&group[..at], &group[at + 1..]].concat();
        way.push(Level { at, others });
        index /= FANOUT;
    }
    Some(BlockProof { levels: way, text_bytes: text.len() as u64 })
}

/// The index of `block` in the text that hashes to `content`; `None` if this does not prove that
/// it is a block of it.
pub fn verify_block(content: &ContentHash, block: &str, proof: &BlockProof) -> Option<usize> {
    let mut hash = keyed(Domain::Block, &[block.as_bytes()]);
    let mut index = 0;
    for level in proof.levels.iter().rev() {
        index = index * FANOUT + level.at;
    }
    for level in &proof.levels {
        let (before, after) = level.others.split_at_checked(level.at)?;
        hash = block_node(&[before, &[hash], after].concat());
    }
    (ContentHash::of_block_tree(&hash, proof.text_bytes) == *content).then_some(index)
}

impl BlockProof {
    /// The canonical encoding: format, text length (u64 BE), then for each level from the block
    /// up: where, how many others, the others.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        out.extend_from_slice(&self.text_bytes.to_be_bytes());
        for level in &self.levels {
            out.push(level.at as u8);
            out.push(level.others.len() as u8);
            out.extend_from_slice(level.others.as_flattened());
        }
        out
    }

    /// Reads one canonical encoding that fills `bytes` exactly; nothing is proven by that.
    ///
    /// # Errors
    /// [`BytesError`] for anything [`Self::encode`] would not have written.
    pub fn decode(bytes: &[u8]) -> Result<Self, BytesError> {
        let mut reader = Reader::new(bytes);
        rule(reader.u8()? == FORMAT, "a proof begins with the format")?;
        let text_bytes = reader.u64()?;
        let mut levels = Vec::new();
        while !reader.is_empty() {
            rule(levels.len() < LEVELS_MAX, "a note's tree has at most six levels")?;
            let (at, count) = (usize::from(reader.u8()?), usize::from(reader.u8()?));
            rule(count < FANOUT && at <= count, "a group has at most sixteen hashes")?;
            let others = (0..count).map(|_| reader.array());
            levels.push(Level { at, others: others.collect::<Result<_, _>>()? });
        }
        Ok(Self { levels, text_bytes })
    }
}
