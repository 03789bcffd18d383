//! A conflict record: what a merge had to choose, so that nothing it set aside is lost.
//!
//! Records live in sync state and on the server, never in a note. Their ids derive from the merge
//! version, so that every replica that makes the same merge makes the same records.

use std::ops::Range;

use crate::hash::{Domain, keyed};
use crate::id::{ConflictId, NoteId, VersionId};
use crate::timestamp::Stamp;
use crate::vault_path::VaultPath;

/// What two sides clashed over.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Clash {
    /// Both changed the same words of the body (or of a head that is no YAML).
    Body(Hunk),
    /// Both changed the same frontmatter key; the texts are the whole entries.
    Key {
        /// The key.
        key: String,
        /// Both values.
        hunk: Hunk,
    },
    /// The two had no common base, so both texts were kept where they differ.
    FirstContact(Hunk),
    /// One side deleted what the other edited: the edit stays.
    EditOverDelete,
    /// Both renamed: the losing name.
    Path {
        /// The name that was not taken.
        loser: VaultPath,
    },
    /// Both replaced an asset, or one side made a note an asset: the losing bytes are the losing
    /// version's.
    Content,
}

/// What of a hunk is in the merged text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kept {
    /// Only the winner's text.
    Winner,
    /// Both texts.
    Both,
}

/// One place where two texts clash.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hunk {
    /// What both started from; empty if there was nothing.
    pub base: String,
    /// What the winner made of it.
    pub winner: String,
    /// What the loser made of it.
    pub loser: String,
    /// Byte offset in the merged text of what it holds in this place.
    pub at: u64,
    /// How many bytes that is: the winner's text exactly, or a text with both in it.
    pub len: u64,
    /// What of it is in the merged text.
    pub kept: Kept,
}

impl Hunk {
    /// Where in the merged text the hunk is, in bytes.
    pub fn range(&self) -> Range<usize> {
        let at = usize::try_from(self.at).expect("a text fits into memory");
        at..at + usize::try_from(self.len).expect("a text fits into memory")
    }
}

/// One choice a merge made, with what it set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Derived from the merge version and the place in its list.
    pub id: ConflictId,
    /// Of which note.
    pub note: NoteId,
    /// The note's path in the merge.
    pub path: VaultPath,
    /// The merge version that chose.
    pub merge: VersionId,
    /// What the two sides had in common, if anything.
    pub base: Option<VersionId>,
    /// Whose side is in the result.
    pub winner: VersionId,
    /// Whose side is set aside.
    pub loser: VersionId,
    /// When the merge stands.
    pub stamp: Stamp,
    /// Over what.
    pub clash: Clash,
}

impl Conflict {
    /// The id of the `index`-th record of `merge`.
    pub fn derive_id(merge: &VersionId, index: u32) -> ConflictId {
        let hash = keyed(Domain::Conflict, &[merge.as_bytes(), &index.to_be_bytes()]);
        ConflictId::from_slice(&hash[..ConflictId::LEN]).expect("a hash is longer than the id")
    }
}
