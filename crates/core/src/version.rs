//! A version: one immutable state of one note, and its canonical encoding.
//!
//! Invariants: parents are sorted and unique; the stamp is greater than every parent's; the id is
//! the hash of the one canonical encoding, a deterministic CBOR array (RFC 8949 §4.2.1), and does
//! not depend on whether the version is signed.

use std::collections::{BTreeMap, BTreeSet};

use minicbor::data::Type;
use minicbor::{Decoder, Encoder};

use crate::hash::{ContentHash, Domain, keyed};
use crate::id::{NoteId, ReplicaId, VersionId};
use crate::limits::{
    CLOCK_ENTRIES_MAX, KEY_BYTES_MAX, PARENTS_MAX, STAMPED_KEYS_MAX, TAG_DOTS_MAX,
};
use crate::timestamp::Stamp;
use crate::vault_path::VaultPath;
use crate::version_vector::{Dot, VersionVector};

/// The stamps of top-level frontmatter keys changed since the note was created.
pub type KeyStamps = BTreeMap<String, Stamp>;
/// The dots of frontmatter tags added since the note was created.
pub type TagDots = BTreeMap<String, BTreeSet<Dot>>;

/// The version of the encoding, its first item.
const ENCODING: u8 = 1;

/// Who made a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Author {
    /// An edit on a replica; its clock entry for that replica is the edit's dot.
    Replica(ReplicaId),
    /// Nobody: the view over its parents, by this version of the merge algorithm.
    Merge(u16),
}

/// How a file's bytes are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A `.md` file of valid UTF-8: merged as text.
    Note,
    /// Any other file: whole, last writer wins.
    Asset,
}

/// A note that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// Where.
    pub path: VaultPath,
    /// Merged as text or not.
    pub kind: Kind,
    /// Of its bytes.
    pub content: ContentHash,
    /// Size in bytes.
    pub bytes: u64,
    /// See [`KeyStamps`]; empty for assets.
    pub keys: KeyStamps,
    /// See [`TagDots`]; empty for assets.
    pub tags: TagDots,
}

/// What a note is in a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// A tombstone.
    Deleted,
    /// There.
    Live(Live),
}

impl State {
    /// The live state, `None` for a tombstone.
    pub fn live(&self) -> Option<&Live> {
        match self {
            Self::Deleted => None,
            Self::Live(live) => Some(live),
        }
    }
}

/// One immutable state of one note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Of which note.
    pub note: NoteId,
    /// The versions this one knew and replaces; sorted, unique.
    pub parents: Vec<VersionId>,
    /// The join of the parents' clocks, with the author's dot on top.
    pub clock: VersionVector,
    /// When; greater than every parent's.
    pub stamp: Stamp,
    /// Who.
    pub author: Author,
    /// What.
    pub state: State,
}

/// Why bytes are no version.
#[derive(Debug, thiserror::Error)]
pub enum DecodeVersionError {
    /// Not the CBOR we write.
    #[error("a version is malformed: {0}")]
    Malformed(#[from] minicbor::decode::Error),
    /// A rule of the model is broken; the text names it.
    #[error("a version breaks the rule: {0}")]
    Rule(&'static str),
    /// Written by a newer release.
    #[error("a version is encoded in format {0}, which this release does not know")]
    TooNew(u8),
}

impl Version {
    /// The dot of an authored version; `None` for a merge.
    pub fn dot(&self) -> Option<Dot> {
        match self.author {
            Author::Replica(replica) => Some(Dot { replica, counter: self.clock.get(&replica) }),
            Author::Merge(_) => None,
        }
    }

    /// Whether nobody authored it.
    pub fn is_merge(&self) -> bool {
        matches!(self.author, Author::Merge(_))
    }

    /// The live state, `None` for a tombstone.
    pub fn live(&self) -> Option<&Live> {
        self.state.live()
    }

    /// The path, `None` for a tombstone.
    pub fn path(&self) -> Option<&VaultPath> {
        self.live().map(|live| &live.path)
    }

    /// BLAKE3 of the canonical encoding.
    pub fn id(&self) -> VersionId {
        VersionId::from_bytes(keyed(Domain::Version, &[&self.encode()]))
    }

    /// The canonical encoding; equal versions have equal bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut e = Encoder::new(Vec::with_capacity(256));
        self.write(&mut e).expect("writing to a Vec cannot fail");
        e.into_writer()
    }

    fn write(
        &self,
        e: &mut Encoder<Vec<u8>>,
    ) -> Result<(), minicbor::encode::Error<std::convert::Infallible>> {
        e.array(7)?.u8(ENCODING)?.bytes(self.note.as_bytes())?;
        e.array(self.parents.len() as u64)?;
        for parent in &self.parents {
            e.bytes(parent.as_bytes())?;
        }
        e.map(self.clock.len() as u64)?;
        for dot in self.clock.dots() {
            e.bytes(dot.replica.as_bytes())?.u64(dot.counter)?;
        }
        write_stamp(e, self.stamp)?;
        match self.author {
            Author::Replica(replica) => e.bytes(replica.as_bytes())?,
            Author::Merge(algorithm) => e.u16(algorithm)?,
        };
        let State::Live(live) = &self.state else {
            e.null()?;
            return Ok(());
        };
        e.array(6)?.str(live.path.as_str())?;
        e.u8(match live.kind {
            Kind::Note => 0,
            Kind::Asset => 1,
        })?;
        e.bytes(live.content.as_bytes())?.u64(live.bytes)?;
        // Deterministic CBOR orders keys by their encoding: shorter first, then bytewise.
        e.map(live.keys.len() as u64)?;
        for (key, &stamp) in in_cbor_order(&live.keys) {
            write_stamp(e.str(key)?, stamp)?;
        }
        e.map(live.tags.len() as u64)?;
        for (tag, dots) in in_cbor_order(&live.tags) {
            e.str(tag)?.array(dots.len() as u64)?;
            for dot in dots {
                e.array(2)?.bytes(dot.replica.as_bytes())?.u64(dot.counter)?;
            }
        }
        Ok(())
    }

    /// Reads one canonical encoding that fills `bytes` exactly.
    ///
    /// # Errors
    /// [`DecodeVersionError`] for anything that [`Self::encode`] would not have written.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeVersionError> {
        let mut d = Decoder::new(bytes);
        let version = read(&mut d)?;
        version.check()?;
        rule(d.position() == bytes.len(), "nothing follows a version")?;
        // One encoding per value: ids, signatures and deduplication all rest on it.
        rule(version.encode() == bytes, "the encoding is canonical")?;
        Ok(version)
    }

    /// Whether this is a version that may be stored: all rules that need no other version. One
    /// that was derived from a relative record has to pass as much as one that was read.
    ///
    /// # Errors
    /// [`DecodeVersionError::Rule`] names the first rule that is broken.
    pub fn check(&self) -> Result<(), DecodeVersionError> {
        rule(self.parents.len() <= PARENTS_MAX, "a version has a bounded list of parents")?;
        rule(self.parents.is_sorted_by(|a, b| a < b), "parents are sorted and unique")?;
        rule(self.clock.len() <= CLOCK_ENTRIES_MAX, "a clock is a bounded map")?;
        rule(self.clock.get(&ReplicaId::NOBODY) == 0, "nobody does nothing")?;
        match self.author {
            Author::Replica(replica) => {
                rule(self.clock.get(&replica) > 0, "an author is in the clock")?;
                rule(self.stamp.replica == replica, "an author's stamp is its own")?;
                let first = self.parents.is_empty();
                rule(!first || self.clock.len() == 1, "a first version knows its own event only")?;
            }
            Author::Merge(_) => {
                rule(self.parents.len() >= 2, "a merge has two parents or more")?;
                rule(self.stamp.replica == ReplicaId::NOBODY, "a merge's stamp is nobody's")?;
            }
        }
        let Some(live) = self.live() else { return Ok(()) };
        // A key from the future would win every merge from now on.
        let earlier = live.keys.values().all(|stamp| *stamp <= self.stamp);
        rule(earlier, "no key is stamped after its version")?;
        live.check()
    }
}

impl Live {
    fn check(&self) -> Result<(), DecodeVersionError> {
        let bare = self.keys.is_empty() && self.tags.is_empty();
        rule(self.kind == Kind::Note || bare, "assets have no keys or tags")?;
        rule(self.keys.len() <= STAMPED_KEYS_MAX, "stamped keys are bounded")?;
        rule(self.tags.len() <= STAMPED_KEYS_MAX, "dotted tags are bounded")?;
        rule(self.keys.keys().all(|key| key.len() <= KEY_BYTES_MAX), "keys are bounded")?;
        rule(self.tags.keys().all(|tag| tag.len() <= KEY_BYTES_MAX), "tags are bounded")?;
        rule(self.tags.values().all(|dots| dots.len() <= TAG_DOTS_MAX), "dots are bounded")?;
        let mut dots = self.tags.values().flatten();
        let real = dots.all(|dot| dot.counter > 0 && dot.replica != ReplicaId::NOBODY);
        rule(real, "a dot is somebody's event, counted from 1")
    }
}

fn in_cbor_order<V>(map: &BTreeMap<String, V>) -> Vec<(&String, &V)> {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_by_key(|(key, _)| (key.len(), key.as_bytes()));
    entries
}

fn write_stamp(
    e: &mut Encoder<Vec<u8>>,
    stamp: Stamp,
) -> Result<&mut Encoder<Vec<u8>>, minicbor::encode::Error<std::convert::Infallible>> {
    e.array(2)?.u64(stamp.ticks())?.bytes(stamp.replica.as_bytes())
}

fn rule(holds: bool, rule: &'static str) -> Result<(), DecodeVersionError> {
    if holds { Ok(()) } else { Err(DecodeVersionError::Rule(rule)) }
}

fn read(d: &mut Decoder<'_>) -> Result<Version, DecodeVersionError> {
    let fields = d.array()?;
    let encoding = d.u8()?;
    // Before the shape is looked at: a newer format may have another.
    if encoding > ENCODING {
        return Err(DecodeVersionError::TooNew(encoding));
    }
    rule(encoding == ENCODING, "the first item is the format")?;
    rule(fields == Some(7), "a version is an array of seven")?;
    let note = NoteId::from_bytes(fixed(d)?);
    let count = length(d.array()?, PARENTS_MAX, "a version has a bounded list of parents")?;
    let mut parents = Vec::with_capacity(count);
    for _ in 0..count {
        parents.push(VersionId::from_bytes(fixed(d)?));
    }
    let count = length(d.map()?, CLOCK_ENTRIES_MAX, "a clock is a bounded map")?;
    let mut clock = VersionVector::new();
    for _ in 0..count {
        clock.observe(read_dot(d)?);
    }
    let stamp = read_stamp(d)?;
    let author = match d.datatype()? {
        Type::Bytes => Author::Replica(ReplicaId::from_bytes(fixed(d)?)),
        _ => Author::Merge(d.u16()?),
    };
    let state = if d.datatype()? == Type::Null {
        d.null()?;
        State::Deleted
    } else {
        State::Live(read_live(d)?)
    };
    Ok(Version { note, parents, clock, stamp, author, state })
}

fn read_live(d: &mut Decoder<'_>) -> Result<Live, DecodeVersionError> {
    rule(d.array()? == Some(6), "a live state is an array of six")?;
    let path =
        VaultPath::new(d.str()?).map_err(|_| DecodeVersionError::Rule("a path is a vault path"))?;
    let kind = match d.u8()? {
        0 => Kind::Note,
        1 => Kind::Asset,
        _ => return Err(DecodeVersionError::Rule("a kind is 0 or 1")),
    };
    let content = ContentHash::from_bytes(fixed(d)?);
    let bytes = d.u64()?;
    let count = length(d.map()?, STAMPED_KEYS_MAX, "stamped keys are bounded")?;
    let mut keys = KeyStamps::new();
    for _ in 0..count {
        keys.insert(d.str()?.to_owned(), read_stamp(d)?);
    }
    let count = length(d.map()?, STAMPED_KEYS_MAX, "dotted tags are bounded")?;
    let mut tags = TagDots::new();
    for _ in 0..count {
        let tag = d.str()?;
        let dots = length(d.array()?, TAG_DOTS_MAX, "dots are bounded")?;
        let mut set = BTreeSet::new();
        for _ in 0..dots {
            rule(d.array()? == Some(2), "a dot is an array of two")?;
            set.insert(read_dot(d)?);
        }
        tags.insert(tag.to_owned(), set);
    }
    Ok(Live { path, kind, content, bytes, keys, tags })
}

fn read_dot(d: &mut Decoder<'_>) -> Result<Dot, DecodeVersionError> {
    Ok(Dot { replica: ReplicaId::from_bytes(fixed(d)?), counter: d.u64()? })
}

fn read_stamp(d: &mut Decoder<'_>) -> Result<Stamp, DecodeVersionError> {
    rule(d.array()? == Some(2), "a stamp is an array of two")?;
    let ticks = d.u64()?;
    Ok(Stamp::from_ticks(ticks, ReplicaId::from_bytes(fixed(d)?)))
}

fn fixed<const N: usize>(d: &mut Decoder<'_>) -> Result<[u8; N], DecodeVersionError> {
    d.bytes()?.try_into().map_err(|_| DecodeVersionError::Rule("an id has its fixed size"))
}

fn length(found: Option<u64>, max: usize, text: &'static str) -> Result<usize, DecodeVersionError> {
    match found.and_then(|n| usize::try_from(n).ok()) {
        Some(count) if count <= max => Ok(count),
        _ => Err(DecodeVersionError::Rule(text)),
    }
}
