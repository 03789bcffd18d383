//! Which contents of a parcel travel in which pack.
//!
//! A stored pack of which the parcel needs nearly all goes as it lies in the store, so that bytes
//! are compressed once on their whole way; everything else is gathered into new packs. Law:
//! whatever is chosen, each record's source leads to its content.

use std::collections::{HashMap, HashSet};

use crucible_core::hash::ContentHash;
use crucible_proto::limits::{PACK_RAW_AIM, PACKS_MAX};
use crucible_proto::parcel::{Bytes, PackFrame};
use crucible_proto::zip;

use crate::repo::{PackPlace, Repo};
use crate::staged::{EngineError, Staged};

/// Raw bytes of stored packs that one parcel may carry though no record needs them.
const UNUSED_MAX: u64 = PACK_RAW_AIM as u64;
/// Raw bytes below which a stored pack is gathered with others: together they become smaller.
const STORED_BYTES_MIN: u64 = 64 << 10;
/// Stored packs in one parcel; the other half is for new ones.
const STORED_MAX: usize = PACKS_MAX / 2;

/// A content that is to travel in a pack.
pub(crate) struct Loose {
    pub(crate) hash: ContentHash,
    pub(crate) bytes: u64,
    /// Where it lies in the store, when that is a pack.
    pub(crate) stored: Option<PackPlace>,
}

/// The packs of one parcel, being filled in the order of its records.
pub(crate) struct Packs<'p, 'r, R: Repo> {
    staged: &'p Staged<'r, R>,
    frames: Vec<PackFrame>,
    /// Stored packs that go as they are.
    chosen: HashSet<u64>,
    sent: HashMap<u64, Sent>,
    open: Option<Open>,
}

/// A stored pack in the parcel: its number, and where the next content is looked for.
struct Sent {
    number: u32,
    next: u64,
}

/// A new pack: its number, and what it holds so far.
struct Open {
    number: u32,
    raw: Vec<u8>,
}

type Fallible<T, R> = Result<T, EngineError<<R as Repo>::Error>>;

impl<'p, 'r, R: Repo> Packs<'p, 'r, R> {
    /// For these contents, which are then put in this order.
    pub(crate) fn new(staged: &'p Staged<'r, R>, loose: &[Loose]) -> Self {
        let (frames, sent, open) = (Vec::new(), HashMap::new(), None);
        Self { staged, frames, chosen: chosen(loose), sent, open }
    }

    /// Puts the next content into a pack; its source.
    pub(crate) fn put(&mut self, content: &Loose) -> Fallible<Bytes, R> {
        match content.stored.filter(|place| self.chosen.contains(&place.pack)) {
            Some(place) => self.put_stored(content, place),
            None => self.put_new(content),
        }
    }

    fn put_stored(&mut self, content: &Loose, place: PackPlace) -> Fallible<Bytes, R> {
        if !self.sent.contains_key(&place.pack) {
            let found = self.staged.repo().pack_of(&content.hash).map_err(EngineError::Repo)?;
            // Another process may have moved the bytes meanwhile; what a number names stays as it is.
            let Some((_, pack)) = found.filter(|(now, _)| now.pack == place.pack) else {
                return self.put_new(content);
            };
            let number = self.add(PackFrame { raw_bytes: pack.raw_bytes, frame: pack.frame });
            self.sent.insert(place.pack, Sent { number, next: 0 });
        }
        let sent = self.sent.get_mut(&place.pack).expect("it was just made sure of");
        let follows = sent.next == u64::from(place.offset);
        sent.next = u64::from(place.offset) + content.bytes;
        Ok(match follows {
            true => Bytes::Packed(sent.number),
            false => Bytes::PackedAt(sent.number, place.offset),
        })
    }

    fn put_new(&mut self, content: &Loose) -> Fallible<Bytes, R> {
        let raw = self.staged.content(&content.hash)?;
        let raw = raw.ok_or(EngineError::Bytes(content.hash))?;
        if self.open.as_ref().is_some_and(|open| open.raw.len() + raw.len() > PACK_RAW_AIM) {
            self.close();
        }
        if self.open.is_none() {
            let number = self.add(PackFrame { raw_bytes: 0, frame: Vec::new() });
            self.open = Some(Open { number, raw: Vec::new() });
        }
        let open = self.open.as_mut().expect("it was just made sure of");
        open.raw.extend_from_slice(&raw);
        Ok(Bytes::Packed(open.number))
    }

    fn add(&mut self, frame: PackFrame) -> u32 {
        self.frames.push(frame);
        (self.frames.len() - 1) as u32
    }

    fn close(&mut self) {
        let Some(Open { number, raw }) = self.open.take() else { return };
        let frame = zip::zip(&raw);
        self.frames[number as usize] = PackFrame { raw_bytes: raw.len() as u32, frame };
    }

    /// The packs, in the order of their numbers.
    pub(crate) fn finish(mut self) -> Vec<PackFrame> {
        self.close();
        self.frames
    }
}

/// The stored packs that are worth it of which at least seven eighths are needed, as long as what
/// is not needed of them stays little and a parcel may hold them all.
fn chosen(loose: &[Loose]) -> HashSet<u64> {
    let mut order = Vec::new();
    let mut used: HashMap<u64, (u64, u64)> = HashMap::new();
    for (place, bytes) in loose.iter().filter_map(|one| Some((one.stored?, one.bytes))) {
        let entry = used.entry(place.pack).or_insert_with(|| {
            order.push(place.pack);
            (0, u64::from(place.raw_bytes))
        });
        entry.0 += bytes;
    }
    let mut unused = 0;
    let mut chosen = HashSet::new();
    for pack in order {
        let (used, raw_bytes) = used[&pack];
        let spare = raw_bytes.saturating_sub(used);
        let is_worth_it = raw_bytes >= STORED_BYTES_MIN && spare * 8 <= raw_bytes;
        if is_worth_it && unused + spare <= UNUSED_MAX && chosen.len() < STORED_MAX {
            unused += spare;
            chosen.insert(pack);
        }
    }
    chosen
}
