//! The messages of a round.
//!
//! A body is one byte of protocol version and one CBOR value, so that any release can say to any
//! other which versions it speaks.

use crucible_core::conflict::{Clash, Conflict, Hunk, Kept};
use crucible_core::hash::ContentHash;
use crucible_core::id::{ConflictId, NoteId, ReplicaId, RootHash, VersionId};
use crucible_core::limits::PARENTS_MAX;
use crucible_core::merkle::walk::{self, WalkAnswer, WalkAsk};
use crucible_core::timestamp::Stamp;
use crucible_core::vault_path::VaultPath;
use minicbor::Decoder;

use crate::limits::{
    CONFLICTS_MAX, HAVE_MAX, MISSING_MAX, POLICIES_MAX, POLICY_BYTES_MAX, WALK_BYTES_MAX,
};
use crate::parcel::Parcel;
use crate::wire::{
    DecodeError, Sink, Wire, get_array, get_bytes, get_list, get_str, put_array, put_bytes,
    put_list, put_str, rule,
};

/// The protocol this release speaks; the first byte of every body.
pub const PROTOCOL: u8 = 1;

/// Where a paged pull stands. It ends when nothing newer is left, so that the last page ends at
/// the root it names, whatever others pushed meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// Pulled up to here, a position in the answering side's order.
    pub after: u64,
}

/// What the asking side has of a note the two trees differ in (found by a walk).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Have {
    /// The note.
    pub note: NoteId,
    /// Its heads there; none when it is unknown.
    pub heads: Vec<VersionId>,
}

/// What to do with overlapping edits below some paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyRule {
    /// A glob over vault paths.
    pub glob: String,
    /// Whether overlapping hunks are both kept (`both`), instead of the last writer's.
    pub keep_both: bool,
}

/// One round, asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// Who asks.
    pub replica: ReplicaId,
    /// The last root both sides had; `None` before the first round.
    pub common: Option<RootHash>,
    /// Going on with a paged pull.
    pub cursor: Option<Cursor>,
    /// New versions, parents first.
    pub push: Parcel,
    /// More of the push follows: store this, answer without a pull.
    pub more: bool,
    /// After a walk: the notes that differ. The answer then speaks of these alone.
    pub have: Vec<Have>,
    /// Go through with an answer that deletes most of the asking side's notes.
    pub allow_mass_delete: bool,
    /// Relative records could not be resolved before: answer with whole ones.
    pub whole: bool,
    /// The asking side's policies, first match wins.
    pub policies: Vec<PolicyRule>,
    /// Position in the answering side's conflict log that is known.
    pub conflicts_seen: u64,
    /// Conflicts somebody has dealt with here.
    pub closed: Vec<ConflictId>,
    /// The first request of a walk, for the case that `common` is not known there any more.
    pub walk: Option<WalkAsk>,
}

/// A conflict record opened or closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConflictNews {
    /// The record.
    pub conflict: Conflict,
    /// Whether it is closed.
    pub closed: bool,
}

/// A round, answered and stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// The answering side's root, everything stored.
    pub root: Option<RootHash>,
    /// The highest counter it knew of the asking replica before this round.
    pub counter: u64,
    /// Its clock, milliseconds since 1970.
    pub now_ms: u64,
    /// What the asking side lacks.
    pub pull: Parcel,
    /// Where the rest of the pull begins; after a round with `have`, how many of those were told.
    pub next: Option<Cursor>,
    /// Conflict records since `conflicts_seen`.
    pub conflicts: Vec<ConflictNews>,
    /// The position in the conflict log now known.
    pub conflicts_seen: u64,
    /// How many merge versions this round made there.
    pub merged: u32,
}

/// The answer to a round. Everything but `Done` has stored nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Stored.
    Done(Box<Done>),
    /// `common` is not known here: the two have to walk.
    UnknownRoot {
        /// The answer to the round's `walk`, if it had one.
        walk: Option<WalkAnswer>,
    },
    /// Stamps are too far ahead of this clock: mint unsent versions again.
    ClockAhead {
        /// Milliseconds since 1970.
        now_ms: u64,
    },
    /// The replica used counters again that are known here: it is a copy; draw a new id.
    Cloned {
        /// The highest counter known here.
        counter: u64,
    },
    /// The answer would delete most of the asking side's notes.
    Guard {
        /// How many live notes would go.
        deletions: u64,
        /// Of how many.
        of: u64,
    },
    /// These contents must be here first.
    Missing(Vec<ContentHash>),
    /// A relative record names something that is not known here, or the folder derives
    /// otherwise: send the round again with whole records.
    Unresolved,
}

/// Prepends the protocol version.
pub fn body<T: Wire>(message: &T) -> Vec<u8> {
    let mut sink = minicbor::Encoder::new(vec![PROTOCOL]);
    message.put(&mut sink);
    sink.into_writer()
}

/// The protocol version of a body, `None` for an empty one.
pub fn protocol_of(body: &[u8]) -> Option<u8> {
    body.first().copied()
}

/// Reads a body of this protocol.
///
/// # Errors
/// [`DecodeError`]; check [`protocol_of`] first to tell a newer peer from garbage.
pub fn parse<T: Wire>(body: &[u8]) -> Result<T, DecodeError> {
    rule(protocol_of(body) == Some(PROTOCOL), "a body begins with the protocol version")?;
    crate::wire::decode(&body[1..])
}

impl Wire for Cursor {
    fn put(&self, sink: &mut Sink) {
        self.after.put(sink);
    }
    fn get(d: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self { after: u64::get(d)? })
    }
}

impl Wire for Have {
    fn put(&self, sink: &mut Sink) {
        put_array(sink, 2);
        self.note.put(sink);
        put_list(sink, &self.heads);
    }
    fn get(d: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        get_array(d, 2)?;
        Ok(Self { note: NoteId::get(d)?, heads: get_list(d, PARENTS_MAX)? })
    }
}

impl Wire for PolicyRule {
    fn put(&self, sink: &mut Sink) {
        put_array(sink, 2);
        put_str(sink, &self.glob);
        self.keep_both.put(sink);
    }
    fn get(d: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        get_array(d, 2)?;
        Ok(Self { glob: get_str(d, POLICY_BYTES_MAX)?.to_owned(), keep_both: bool::get(d)? })
    }
}

impl Wire for Round {
    fn put(&self, sink: &mut Sink) {
        put_array(sink, 12);
        self.replica.put(sink);
        self.common.put(sink);
        self.cursor.put(sink);
        self.push.put(sink);
        self.more.put(sink);
        put_list(sink, &self.have);
        self.allow_mass_delete.put(sink);
        self.whole.put(sink);
        put_list(sink, &self.policies);
        self.conflicts_seen.put(sink);
        put_list(sink, &self.closed);
        self.walk.put(sink);
    }
    fn get(d: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        get_array(d, 12)?;
        Ok(Self {
            replica: ReplicaId::get(d)?,
            common: Option::get(d)?,
            cursor: Option::get(d)?,
            push: Parcel::get(d)?,
            more: bool::get(d)?,
            have: get_list(d, HAVE_MAX)?,
            allow_mass_delete: bool::get(d)?,
            whole: bool::get(d)?,
            policies: get_list(d, POLICIES_MAX)?,
            conflicts_seen: u64::get(d)?,
            closed: get_list(d, CONFLICTS_MAX)?,
            walk: Option::get(d)?,
        })
    }
}

impl Wire for WalkAsk {
    fn put(&self, sink: &mut Sink) {
        put_bytes(sink, &self.encode());
    }
    fn get(d: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let ask = Self::decode(get_bytes(d, WALK_BYTES_MAX)?);
        ask.map_err(|_| DecodeError::Rule("a walk's request is one that a walk makes"))
    }
}

impl Wire for WalkAnswer {
    fn put(&self, sink: &mut Sink) {
        put_bytes(sink, &self.encode());
    }
    fn get(d: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let answer = Self::decode(get_bytes(d, walk::MESSAGE_BYTES_MAX)?);
        answer.map_err(|_| DecodeError::Rule("a walk's answer is one that a walk gets"))
    }
}

impl Wire for Hunk {
    fn put(&self, sink: &mut Sink) {
        put_array(sink, 6);
        self.base.put(sink);
        self.winner.put(sink);
        self.loser.put(sink);
        self.at.put(sink);
        self.len.put(sink);
        (self.kept == Kept::Both).put(sink);
    }
    fn get(d: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        get_array(d, 6)?;
        Ok(Self {
            base: String::get(d)?,
            winner: String::get(d)?,
            loser: String::get(d)?,
            at: u64::get(d)?,
            len: u64::get(d)?,
            kept: if bool::get(d)? { Kept::Both } else { Kept::Winner },
        })
    }
}

impl Wire for Clash {
    fn put(&self, sink: &mut Sink) {
        let head = |sink: &mut Sink, fields, tag: u32| {
            put_array(sink, fields);
            tag.put(sink);
        };
        match self {
            Self::Body(hunk) => {
                head(sink, 2, 0);
                hunk.put(sink);
            }
            Self::Key { key, hunk } => {
                head(sink, 3, 1);
                key.put(sink);
                hunk.put(sink);
            }
            Self::FirstContact(hunk) => {
                head(sink, 2, 2);
                hunk.put(sink);
            }
            Self::EditOverDelete => head(sink, 1, 3),
            Self::Path { loser } => {
                head(sink, 2, 4);
                loser.put(sink);
            }
            Self::Content => head(sink, 1, 5),
        }
    }
    fn get(d: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let fields = d.array()?;
        let tag = u32::get(d)?;
        let known = [2, 3, 2, 1, 2, 1].get(tag as usize).copied();
        rule(known.is_some() && fields == known, "a clash is of a known form")?;
        Ok(match tag {
            0 => Self::Body(Hunk::get(d)?),
            1 => Self::Key { key: String::get(d)?, hunk: Hunk::get(d)? },
            2 => Self::FirstContact(Hunk::get(d)?),
            3 => Self::EditOverDelete,
            4 => Self::Path { loser: VaultPath::get(d)? },
            _ => Self::Content,
        })
    }
}

impl Wire for Conflict {
    fn put(&self, sink: &mut Sink) {
        put_array(sink, 9);
        self.id.put(sink);
        self.note.put(sink);
        self.path.put(sink);
        self.merge.put(sink);
        self.base.put(sink);
        self.winner.put(sink);
        self.loser.put(sink);
        self.stamp.put(sink);
        self.clash.put(sink);
    }
    fn get(d: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        get_array(d, 9)?;
        Ok(Self {
            id: ConflictId::get(d)?,
            note: NoteId::get(d)?,
            path: VaultPath::get(d)?,
            merge: VersionId::get(d)?,
            base: Option::get(d)?,
            winner: VersionId::get(d)?,
            loser: VersionId::get(d)?,
            stamp: Stamp::get(d)?,
            clash: Clash::get(d)?,
        })
    }
}

impl Wire for ConflictNews {
    fn put(&self, sink: &mut Sink) {
        put_array(sink, 2);
        self.conflict.put(sink);
        self.closed.put(sink);
    }
    fn get(d: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        get_array(d, 2)?;
        Ok(Self { conflict: Conflict::get(d)?, closed: bool::get(d)? })
    }
}

impl Wire for Done {
    fn put(&self, sink: &mut Sink) {
        put_array(sink, 8);
        self.root.put(sink);
        self.counter.put(sink);
        self.now_ms.put(sink);
        self.pull.put(sink);
        self.next.put(sink);
        put_list(sink, &self.conflicts);
        self.conflicts_seen.put(sink);
        self.merged.put(sink);
    }
    fn get(d: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        get_array(d, 8)?;
        Ok(Self {
            root: Option::get(d)?,
            counter: u64::get(d)?,
            now_ms: u64::get(d)?,
            pull: Parcel::get(d)?,
            next: Option::get(d)?,
            conflicts: get_list(d, CONFLICTS_MAX)?,
            conflicts_seen: u64::get(d)?,
            merged: u32::get(d)?,
        })
    }
}

impl Wire for Answer {
    fn put(&self, sink: &mut Sink) {
        put_array(sink, 2);
        match self {
            Self::Done(done) => {
                0u32.put(sink);
                done.put(sink);
            }
            Self::UnknownRoot { walk } => {
                1u32.put(sink);
                walk.put(sink);
            }
            Self::ClockAhead { now_ms } => {
                2u32.put(sink);
                now_ms.put(sink);
            }
            Self::Cloned { counter } => {
                3u32.put(sink);
                counter.put(sink);
            }
            Self::Guard { deletions, of } => {
                4u32.put(sink);
                put_list(sink, &[*deletions, *of]);
            }
            Self::Missing(hashes) => {
                5u32.put(sink);
                put_list(sink, hashes);
            }
            Self::Unresolved => {
                6u32.put(sink);
                None::<u32>.put(sink);
            }
        }
    }
    fn get(d: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        get_array(d, 2)?;
        Ok(match u32::get(d)? {
            0 => Self::Done(Box::new(Done::get(d)?)),
            1 => Self::UnknownRoot { walk: Option::get(d)? },
            2 => Self::ClockAhead { now_ms: u64::get(d)? },
            3 => Self::Cloned { counter: u64::get(d)? },
            4 => {
                get_array(d, 2)?;
                Self::Guard { deletions: u64::get(d)?, of: u64::get(d)? }
            }
            5 => Self::Missing(get_list(d, MISSING_MAX)?),
            6 => {
                rule(Option::<u32>::get(d)?.is_none(), "an answer is of a known form")?;
                Self::Unresolved
            }
            _ => return Err(DecodeError::Rule("an answer is of a known form")),
        })
    }
}
