//! A version as a row: everything that repeats is an integer, so that a row takes about as many
//! bytes as its two hashes. `docs/storage.md` §versions is the byte-by-byte description.
//!
//! Law: `decode(encode(v)) == v`; the id beside the row proves it (see `check`).

use crucible_core::id::{ReplicaId, VersionId};
use crucible_core::timestamp::Stamp;
use crucible_core::version::{Author, KeyStamps, Kind, Live, TagDots, Version};
use crucible_core::version_vector::{Dot, VersionVector};

use crate::error::{Fault, intact};
use crate::varint::{Reader, put, put_str};

const MERGE: u8 = 1;
const LIVE: u8 = 2;
const ASSET: u8 = 4;
const COUNT: u8 = 8;
const OTHER_STAMP: u8 = 16;
const UNKNOWN_PARENTS: u8 = 32;

/// The part of a version that is in column `rest`.
pub(crate) struct Rest {
    pub(crate) author: Author,
    pub(crate) stamp: Stamp,
    pub(crate) parents: Vec<VersionId>,
    pub(crate) clock: VersionVector,
    pub(crate) live: Option<(Kind, u64)>,
}

/// Integers of a version's replicas and parents while it is written.
pub(crate) trait Intern {
    /// The integer of `replica`, of which `counter` is known.
    fn replica(&mut self, replica: &ReplicaId, counter: u64) -> Result<u64, Fault>;
}

/// A parent: its position, or its id where it is not known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parent {
    Known(u64),
    Unknown(VersionId),
}

/// Writes column `rest` of the version at `seq`.
pub(crate) fn encode(
    version: &Version,
    seq: u64,
    parents: &[Parent],
    intern: &mut impl Intern,
) -> Result<Vec<u8>, Fault> {
    let mut row = vec![0];
    let mut flags = 0;
    let implied = match version.author {
        Author::Replica(replica) => {
            put(&mut row, intern.replica(&replica, 0)?);
            replica
        }
        Author::Merge(algorithm) => {
            flags |= MERGE;
            put(&mut row, u64::from(algorithm));
            ReplicaId::NOBODY
        }
    };
    put(&mut row, version.stamp.ms());
    if version.stamp.count() != 0 {
        flags |= COUNT;
        put(&mut row, u64::from(version.stamp.count()));
    }
    if version.stamp.replica != implied {
        flags |= OTHER_STAMP;
        put(&mut row, intern.replica(&version.stamp.replica, 0)?);
    }
    if parents.iter().any(|parent| matches!(parent, Parent::Unknown(_))) {
        flags |= UNKNOWN_PARENTS;
    }
    put(&mut row, parents.len() as u64);
    for parent in parents {
        match parent {
            Parent::Known(at) => put(&mut row, seq - at),
            Parent::Unknown(id) => {
                put(&mut row, 0);
                row.extend_from_slice(id.as_bytes());
            }
        }
    }
    put(&mut row, version.clock.len() as u64);
    for dot in version.clock.dots() {
        put(&mut row, intern.replica(&dot.replica, dot.counter)?);
        put(&mut row, dot.counter);
    }
    if let Some(live) = version.live() {
        flags |= LIVE | if live.kind == Kind::Asset { ASSET } else { 0 };
        put(&mut row, live.bytes);
    }
    row[0] = flags;
    Ok(row)
}

/// Reads column `rest` of the version at `seq`.
pub(crate) fn decode(
    row: &[u8],
    seq: u64,
    mut replica: impl FnMut(u64) -> Result<ReplicaId, Fault>,
    mut parent: impl FnMut(u64) -> Result<VersionId, Fault>,
) -> Result<Rest, Fault> {
    let mut row = Reader(row);
    let flags = row.bytes(1)?[0];
    let (author, implied) = if flags & MERGE == 0 {
        let author = replica(row.int()?)?;
        (Author::Replica(author), author)
    } else {
        let algorithm = u16::try_from(row.int()?);
        let algorithm = algorithm.map_err(|_| Fault::Damaged("merge algorithms are small"))?;
        (Author::Merge(algorithm), ReplicaId::NOBODY)
    };
    let ms = row.int()?;
    let count = if flags & COUNT == 0 { 0 } else { row.int()? };
    let count = u16::try_from(count).map_err(|_| Fault::Damaged("stamps count to 65535"))?;
    let by = if flags & OTHER_STAMP == 0 { implied } else { replica(row.int()?)? };
    let mut parents = Vec::new();
    for known in read_parents(&mut row, seq, flags)? {
        parents.push(match known {
            Parent::Known(at) => parent(at)?,
            Parent::Unknown(id) => id,
        });
    }
    // Positions were written in the order of ids, but ids are what must be in order.
    parents.sort_unstable();
    let mut clock = VersionVector::new();
    for _ in 0..row.int()? {
        clock.observe(Dot { replica: replica(row.int()?)?, counter: row.int()? });
    }
    let live = if flags & LIVE == 0 {
        None
    } else {
        Some((if flags & ASSET == 0 { Kind::Note } else { Kind::Asset }, row.int()?))
    };
    row.end()?;
    Ok(Rest { author, stamp: Stamp::new(ms, count, by), parents, clock, live })
}

/// The parents in column `rest`, without reading the whole.
pub(crate) fn parents(row: &[u8], seq: u64) -> Result<Vec<Parent>, Fault> {
    let mut row = Reader(row);
    let flags = row.bytes(1)?[0];
    row.int()?;
    row.int()?;
    for flag in [COUNT, OTHER_STAMP] {
        if flags & flag != 0 {
            row.int()?;
        }
    }
    read_parents(&mut row, seq, flags)
}

fn read_parents(row: &mut Reader<'_>, seq: u64, flags: u8) -> Result<Vec<Parent>, Fault> {
    let count = row.int()?;
    intact(count <= row.0.len() as u64, "rows are not cut short")?;
    let mut parents = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let back = row.int()?;
        parents.push(if back == 0 && flags & UNKNOWN_PARENTS != 0 {
            let id = VersionId::from_slice(row.bytes(VersionId::LEN)?);
            Parent::Unknown(id.expect("exactly as many bytes were read"))
        } else {
            intact(0 < back && back < seq, "a parent is older than its child")?;
            Parent::Known(seq - back)
        });
    }
    Ok(parents)
}

/// Writes the stamps and dots of a live state; `None` when it has neither.
pub(crate) fn encode_front(
    live: &Live,
    intern: &mut impl Intern,
) -> Result<Option<Vec<u8>>, Fault> {
    if live.keys.is_empty() && live.tags.is_empty() {
        return Ok(None);
    }
    let mut row = Vec::new();
    put(&mut row, live.keys.len() as u64);
    for (key, stamp) in &live.keys {
        put_str(&mut row, key);
        put(&mut row, stamp.ticks());
        put(&mut row, intern.replica(&stamp.replica, 0)?);
    }
    put(&mut row, live.tags.len() as u64);
    for (tag, dots) in &live.tags {
        put_str(&mut row, tag);
        put(&mut row, dots.len() as u64);
        for dot in dots {
            put(&mut row, intern.replica(&dot.replica, 0)?);
            put(&mut row, dot.counter);
        }
    }
    Ok(Some(row))
}

/// Reads what [`encode_front`] wrote.
pub(crate) fn decode_front(
    row: &[u8],
    mut replica: impl FnMut(u64) -> Result<ReplicaId, Fault>,
) -> Result<(KeyStamps, TagDots), Fault> {
    let mut row = Reader(row);
    let mut keys = KeyStamps::new();
    for _ in 0..row.int()? {
        let key = row.text()?.to_owned();
        let ticks = row.int()?;
        keys.insert(key, Stamp::from_ticks(ticks, replica(row.int()?)?));
    }
    let mut tags = TagDots::new();
    for _ in 0..row.int()? {
        let tag = row.text()?.to_owned();
        let mut dots = std::collections::BTreeSet::new();
        for _ in 0..row.int()? {
            dots.insert(Dot { replica: replica(row.int()?)?, counter: row.int()? });
        }
        tags.insert(tag, dots);
    }
    row.end()?;
    Ok((keys, tags))
}
