//! Frames of the Loro sync protocol v1, with bounds: what the published crate encodes, and what
//! may not reach its decoder.
//!
//! Invariants: no frame is longer than [`FRAME_BYTES_MAX`] in either direction; a client has at
//! most one update in fragments at a time, of at most [`UPDATE_BYTES_MAX`].

use std::collections::BTreeMap;
use std::sync::Arc;

use loro_protocol::bytes::BytesReader;
pub use loro_protocol::{
    BatchId, CrdtType, JoinErrorCode, Permission, ProtocolMessage as Message, RoomErrorCode,
    UpdateStatusCode as Status,
};

use crate::limits::{FRAGMENTS_MAX, FRAGMENTS_MS, FRAME_BYTES_MAX, UPDATE_BYTES_MAX};

/// An encoded frame, shared by all who get it.
pub type Frame = Arc<[u8]>;

/// What a fragment or an update takes beside its own bytes, at most: magic, room, type, batch,
/// numbers.
const HEAD_BYTES: usize = 256;

/// The type byte of an update.
const DOC_UPDATE: u8 = 0x03;

/// A frame that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the frame cannot be read: {0}")]
pub struct Malformed(String);

/// Reads a frame.
///
/// # Errors
/// [`Malformed`]; nothing is allocated beyond the frame's own length.
pub fn decode(frame: &[u8]) -> Result<Message, Malformed> {
    if frame.len() > FRAME_BYTES_MAX {
        return Err(Malformed(format!("it is longer than {FRAME_BYTES_MAX} bytes")));
    }
    counts_what_it_holds(frame).map_err(Malformed)?;
    loro_protocol::decode(frame).map_err(Malformed)
}

/// The published decoder allocates for as many updates as a frame claims to have: 2^40 of them end
/// the process. Each takes at least the byte of its length.
fn counts_what_it_holds(frame: &[u8]) -> Result<(), String> {
    let mut reader = BytesReader::new(frame);
    reader.read_bytes(4)?;
    reader.read_var_bytes()?;
    if reader.read_byte()? == DOC_UPDATE {
        let count = reader.read_uleb128()?;
        if count > reader.remaining() as u64 {
            return Err("it claims more updates than it has bytes".to_owned());
        }
    }
    Ok(())
}

/// The bytes of a message that is known to fit in a frame.
pub fn encode(message: &Message) -> Frame {
    loro_protocol::encode(message).expect("it is built within the bounds").into()
}

/// An update in as many frames as it takes.
pub fn update(crdt: CrdtType, room_id: &str, update: Vec<u8>, batch_id: BatchId) -> Vec<Frame> {
    let room = || room_id.to_owned();
    let piece = FRAME_BYTES_MAX - HEAD_BYTES;
    if update.len() <= piece {
        let updates = vec![update];
        return vec![encode(&Message::DocUpdate { crdt, room_id: room(), updates, batch_id })];
    }
    let header = Message::DocUpdateFragmentHeader {
        crdt,
        room_id: room(),
        batch_id,
        fragment_count: update.len().div_ceil(piece) as u64,
        total_size_bytes: update.len() as u64,
    };
    let fragments = update.chunks(piece).zip(0..).map(|(fragment, index)| {
        let fragment = fragment.to_vec();
        Message::DocUpdateFragment { crdt, room_id: room(), batch_id, index, fragment }
    });
    std::iter::once(header).chain(fragments).map(|message| encode(&message)).collect()
}

/// An update that arrives in fragments.
#[derive(Debug)]
pub struct Assembly {
    batch: BatchId,
    count: u64,
    bytes: u64,
    have: u64,
    fragments: BTreeMap<u64, Vec<u8>>,
    began_ms: u64,
}

impl Assembly {
    /// Begins with a header.
    ///
    /// # Errors
    /// The status for the sender.
    pub fn begin(batch: BatchId, count: u64, bytes: u64, now_ms: u64) -> Result<Self, Status> {
        if bytes > UPDATE_BYTES_MAX as u64 || count > FRAGMENTS_MAX {
            return Err(Status::PayloadTooLarge);
        }
        if count == 0 {
            return Err(Status::InvalidUpdate);
        }
        Ok(Self { batch, count, bytes, have: 0, fragments: BTreeMap::new(), began_ms: now_ms })
    }

    /// Of which batch.
    pub fn batch(&self) -> BatchId {
        self.batch
    }

    /// Whether it has taken too long.
    pub fn is_late(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.began_ms) > FRAGMENTS_MS
    }

    /// Takes a fragment; the whole update once the last is here.
    ///
    /// # Errors
    /// The status for the sender; what was there is of no use any more.
    pub fn take(&mut self, index: u64, fragment: Vec<u8>) -> Result<Option<Vec<u8>>, Status> {
        self.have += fragment.len() as u64;
        let fits = index < self.count && self.have <= self.bytes;
        if !fits || self.fragments.insert(index, fragment).is_some() {
            return Err(Status::InvalidUpdate);
        }
        if (self.fragments.len() as u64) < self.count {
            return Ok(None);
        }
        if self.have != self.bytes {
            return Err(Status::InvalidUpdate);
        }
        Ok(Some(std::mem::take(&mut self.fragments).into_values().flatten().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: BatchId = BatchId([7; 8]);

    #[test]
    fn a_frame_that_claims_more_than_it_holds_is_refused() {
        let mut frame = b"%LOR\x01r\x03".to_vec();
        // 2^40 updates.
        frame.extend([0x80, 0x80, 0x80, 0x80, 0x80, 0x20]);
        frame.extend([0; 8]);
        assert!(decode(&frame).is_err());
        for end in 0..frame.len() {
            assert!(decode(&frame[..end]).is_err());
        }
        assert!(decode(&vec![0; FRAME_BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn an_update_of_any_length_arrives_whole() {
        for length in [0, 1, FRAME_BYTES_MAX - HEAD_BYTES, FRAME_BYTES_MAX, UPDATE_BYTES_MAX] {
            let bytes: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            let frames = update(CrdtType::Loro, &"r".repeat(128), bytes.clone(), BATCH);
            let mut assembly = None;
            let mut whole = None;
            for frame in frames {
                assert!(frame.len() <= FRAME_BYTES_MAX);
                match decode(&frame).unwrap() {
                    Message::DocUpdate { updates, .. } => whole = updates.into_iter().next(),
                    Message::DocUpdateFragmentHeader {
                        batch_id,
                        fragment_count,
                        total_size_bytes,
                        ..
                    } => {
                        let begun = Assembly::begin(batch_id, fragment_count, total_size_bytes, 0);
                        assembly = Some(begun.unwrap());
                    }
                    Message::DocUpdateFragment { index, fragment, .. } => {
                        whole = assembly.as_mut().unwrap().take(index, fragment).unwrap();
                    }
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(whole.unwrap(), bytes);
        }
    }

    #[test]
    fn fragments_that_do_not_fit_are_refused() {
        let begin = |count, bytes| Assembly::begin(BATCH, count, bytes, 0);
        assert_eq!(begin(1, 2 << 20).unwrap_err(), Status::PayloadTooLarge);
        assert_eq!(begin(5_000, 10).unwrap_err(), Status::PayloadTooLarge);
        assert_eq!(begin(0, 0).unwrap_err(), Status::InvalidUpdate);
        let mut twice = begin(2, 2).unwrap();
        assert_eq!(twice.take(0, vec![1]), Ok(None));
        assert!(twice.take(0, vec![1]).is_err());
        assert!(begin(2, 2).unwrap().take(2, vec![1]).is_err());
        assert!(begin(2, 2).unwrap().take(0, vec![1, 2, 3]).is_err());
        assert!(begin(1, 2).unwrap().take(0, vec![1]).is_err());
        let slow = begin(2, 2).unwrap();
        assert!(!slow.is_late(FRAGMENTS_MS) && slow.is_late(FRAGMENTS_MS + 1));
    }
}
