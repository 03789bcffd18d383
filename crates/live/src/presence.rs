//! Who is where in the note: entries that are passed on and never stored.
//!
//! The encoding is that of the CRDT library's `EphemeralStore` (postcard of a list of key, optional
//! value, time), read here without it: only keys matter to a room, values go on as they came.
//!
//! A key that is a number is a peer: the one in whose name the connection will write.
//!
//! Invariants: an entry belongs to the connection that set it first, and goes with it; a connection
//! has at most [`PRESENCE_KEYS_MAX`] of them; nothing is allocated by what a length claims.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::document::{Peer, Sender};
use crate::limits::{PRESENCE_BYTES_MAX, PRESENCE_KEYS_MAX};
use crate::room::ClientId;

/// How deep a value may nest.
const DEPTH_MAX: u32 = 16;

/// Why presence is not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not the encoding, or too long.
    #[error("the presence cannot be read")]
    Malformed,
    /// The key is another connection's, or one too many.
    #[error("the key of the presence is not this connection's")]
    Foreign,
}

/// Everybody's entries.
#[derive(Debug, Default)]
pub struct Presence {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    of: ClientId,
    /// Key, value and time as they came.
    encoded: Vec<u8>,
    /// Milliseconds since 1970 by the sender's clock.
    time: i64,
}

impl Presence {
    /// Takes what a connection says of itself; gives the peers that it says for the first time.
    ///
    /// # Errors
    /// [`Refused`]; nothing of it was taken.
    pub fn apply(&mut self, of: ClientId, bytes: &[u8]) -> Result<Vec<Peer>, Refused> {
        if bytes.len() > PRESENCE_BYTES_MAX {
            return Err(Refused::Malformed);
        }
        let said = parse(bytes).ok_or(Refused::Malformed)?;
        let mut keys = self.entries.iter().filter(|(_, entry)| entry.of == of).count();
        for one in &said {
            match self.entries.get(one.key) {
                Some(entry) if entry.of != of => return Err(Refused::Foreign),
                Some(_) => {}
                None => keys += 1,
            }
        }
        if keys > PRESENCE_KEYS_MAX {
            return Err(Refused::Foreign);
        }
        let mut peers = Vec::new();
        for one in said {
            let encoded = bytes[one.range].to_vec();
            let entry = Entry { of, encoded, time: one.time };
            if self.entries.insert(one.key.to_owned(), entry).is_none() {
                peers.extend(peer(one.key));
            }
        }
        Ok(peers)
    }

    /// Whose every peer is.
    pub fn claims(&self) -> Vec<(Peer, Sender)> {
        let claim = |(key, entry): (&String, &Entry)| Some((peer(key)?, entry.of.0));
        self.entries.iter().filter_map(claim).collect()
    }

    /// The peers of a connection.
    pub fn peers_of(&self, of: ClientId) -> impl Iterator<Item = Peer> {
        let theirs = self.entries.iter().filter(move |(_, entry)| entry.of == of);
        theirs.filter_map(|(key, _)| peer(key))
    }

    /// Everybody's entries, for somebody new; `None` when there are none.
    pub fn all(&self) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        put_varint(&mut bytes, self.entries.len() as u64);
        self.entries.values().for_each(|entry| bytes.extend(&entry.encoded));
        (!self.entries.is_empty()).then_some(bytes)
    }

    /// Forgets a connection's entries, and says so in the encoding; `None` when it had none.
    pub fn drop_of(&mut self, of: ClientId, now_ms: u64) -> Option<Vec<u8>> {
        let mut dropped = Vec::new();
        self.entries.retain(|key, entry| {
            if entry.of == of {
                dropped.push((key.clone(), entry.time));
            }
            entry.of != of
        });
        let mut bytes = Vec::new();
        put_varint(&mut bytes, dropped.len() as u64);
        for (key, time) in &dropped {
            put_varint(&mut bytes, key.len() as u64);
            bytes.extend(key.as_bytes());
            bytes.push(0);
            // Receivers keep the newer of two, by the clock that wrote the entry.
            let after = time.saturating_add(1).max(i64::try_from(now_ms).unwrap_or(i64::MAX));
            put_varint(&mut bytes, zigzag(after));
        }
        (!dropped.is_empty()).then_some(bytes)
    }
}

/// The peer that a key names.
fn peer(key: &str) -> Option<Peer> {
    key.parse().ok()
}

struct Said<'a> {
    key: &'a str,
    time: i64,
    range: Range<usize>,
}

fn parse(bytes: &[u8]) -> Option<Vec<Said<'_>>> {
    let mut reader = Reader { bytes, at: 0 };
    let count = reader.varint()?;
    let mut said = Vec::new();
    for _ in 0..count {
        if said.len() >= PRESENCE_KEYS_MAX {
            return None;
        }
        let start = reader.at;
        let key = std::str::from_utf8(reader.block()?).ok()?;
        match reader.byte()? {
            0 => {}
            1 => reader.value(0)?,
            _ => return None,
        }
        let time = unzigzag(reader.varint()?);
        said.push(Said { key, time, range: start..reader.at });
    }
    (reader.at == bytes.len()).then_some(said)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn skip(&mut self, count: u64) -> Option<&'a [u8]> {
        let end = self.at.checked_add(usize::try_from(count).ok()?)?;
        let block = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(block)
    }

    fn block(&mut self) -> Option<&'a [u8]> {
        let length = self.varint()?;
        self.skip(length)
    }

    /// Skips one value: the variants of the library's `LoroValue`, in their order.
    fn value(&mut self, depth: u32) -> Option<()> {
        if depth > DEPTH_MAX {
            return None;
        }
        match self.varint()? {
            0 => Some(()),
            1 => self.byte().map(drop),
            2 => self.skip(8).map(drop),
            3 => self.varint().map(drop),
            4 | 8 => self.block().map(drop),
            5 => {
                let count = self.varint()?;
                (0..count).try_for_each(|_| self.value(depth + 1))
            }
            6 => {
                let count = self.varint()?;
                (0..count).try_for_each(|_| {
                    self.block()?;
                    self.value(depth + 1)
                })
            }
            // Containers have no place in presence.
            _ => None,
        }
    }
}

fn put_varint(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push((value as u8) | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn unzigzag(value: u64) -> i64 {
    ((value >> 1) as i64) ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use loro::LoroValue;
    use loro::awareness::EphemeralStore;
    use proptest::prelude::*;

    use super::*;

    const A: ClientId = ClientId(1);
    const B: ClientId = ClientId(2);

    /// A cursor as the page has it.
    fn said(store: &EphemeralStore, key: &str) -> Vec<u8> {
        let value = LoroValue::Map(
            [
                ("name".to_owned(), LoroValue::from("Anna")),
                ("anchor".to_owned(), LoroValue::from(vec![1_u8, 2, 3])),
                ("n".to_owned(), LoroValue::from(-4_i64)),
                ("d".to_owned(), LoroValue::from(0.5_f64)),
                ("l".to_owned(), LoroValue::List(vec![true.into(), LoroValue::Null].into())),
            ]
            .into_iter()
            .collect::<std::collections::HashMap<_, _>>()
            .into(),
        );
        store.set(key, value);
        store.encode(key)
    }

    #[test]
    fn what_the_library_says_is_passed_on_and_ends_with_its_connection() {
        let (ours, theirs) = (EphemeralStore::new(30_000), EphemeralStore::new(30_000));
        let mut presence = Presence::default();
        let bytes = said(&ours, "7");
        presence.apply(A, &bytes).unwrap();
        theirs.apply(&presence.all().unwrap()).unwrap();
        assert_eq!(theirs.get("7"), ours.get("7"));
        let gone = presence.drop_of(A, 0).unwrap();
        theirs.apply(&gone).unwrap();
        assert!(theirs.get("7").is_none() && presence.all().is_none());
        assert!(presence.drop_of(A, 0).is_none());
    }

    #[test]
    fn an_entry_is_its_connections_alone_and_few() {
        let store = EphemeralStore::new(30_000);
        let mut presence = Presence::default();
        presence.apply(A, &said(&store, "7")).unwrap();
        assert_eq!(presence.apply(B, &said(&store, "7")), Err(Refused::Foreign));
        for key in 0..PRESENCE_KEYS_MAX {
            presence.apply(B, &said(&store, &format!("b{key}"))).unwrap();
        }
        assert_eq!(presence.apply(B, &said(&store, "one more")), Err(Refused::Foreign));
        presence.apply(B, &said(&store, "b0")).unwrap();
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            tail in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut bytes = said(&EphemeralStore::new(30_000), "key");
            for (at, byte) in flips {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.extend(tail);
            let mut presence = Presence::default();
            if presence.apply(A, &bytes).is_ok() {
                prop_assert!(presence.all().is_none_or(|all| parse(&all).is_some()));
            }
        }
    }
}
