//! How single values stand on the wire: CBOR (RFC 8949), definite lengths, fixed-size arrays for
//! structures, byte strings for ids and frames. Reading is strict and bounded: every list names
//! its greatest length before the first item is read.

use crucible_core::hash::ContentHash;
use crucible_core::id::{ConflictId, NodeHash, NoteId, ReplicaId, RootHash, VaultId, VersionId};
use crucible_core::timestamp::Stamp;
use crucible_core::vault_path::VaultPath;
use minicbor::data::Type;
use minicbor::{Decoder, Encoder};

/// Where bytes are written to.
pub type Sink = Encoder<Vec<u8>>;

/// Bytes that are no message of this protocol.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not the CBOR that the message is made of.
    #[error("a message is malformed: {0}")]
    Malformed(#[from] minicbor::decode::Error),
    /// Well-formed, but against a rule; the text names it.
    #[error("a message breaks the rule: {0}")]
    Rule(&'static str),
}

/// A value that can be written and read back.
pub trait Wire: Sized {
    /// Appends the value.
    fn put(&self, sink: &mut Sink);
    /// Reads one value.
    ///
    /// # Errors
    /// [`DecodeError`] for anything [`Wire::put`] would not have written.
    fn get(d: &mut Decoder<'_>) -> Result<Self, DecodeError>;
}

/// Items of a list that memory is set aside for before the first is read.
const LIST_AHEAD: usize = 16;

const WRITES: &str = "writing to a Vec cannot fail";

/// Opens a structure of `fields` fields.
pub fn put_array(sink: &mut Sink, fields: usize) {
    sink.array(fields as u64).expect(WRITES);
}

/// Reads the head of a structure that must have `fields` fields.
///
/// # Errors
/// [`DecodeError`] when there is another number of fields, or no array.
pub fn get_array(d: &mut Decoder<'_>, fields: usize) -> Result<(), DecodeError> {
    rule(d.array()? == Some(fields as u64), "a structure has its fixed number of fields")
}

/// Fails with `text` unless `holds`.
///
/// # Errors
/// [`DecodeError::Rule`].
pub fn rule(holds: bool, text: &'static str) -> Result<(), DecodeError> {
    if holds { Ok(()) } else { Err(DecodeError::Rule(text)) }
}

/// Writes a list.
pub fn put_list<T: Wire>(sink: &mut Sink, list: &[T]) {
    put_array(sink, list.len());
    for item in list {
        item.put(sink);
    }
}

/// Reads a list of at most `max` items.
///
/// # Errors
/// [`DecodeError`], among others for a longer list.
pub fn get_list<T: Wire>(d: &mut Decoder<'_>, max: usize) -> Result<Vec<T>, DecodeError> {
    get_list_with(d, max, T::get)
}

/// Reads a list of at most `max` items, each with `get`.
///
/// # Errors
/// [`DecodeError`], among others for a longer list.
pub fn get_list_with<'b, T>(
    d: &mut Decoder<'b>,
    max: usize,
    mut get: impl FnMut(&mut Decoder<'b>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let length = d.array()?.and_then(|n| usize::try_from(n).ok()).filter(|n| *n <= max);
    let length = length.ok_or(DecodeError::Rule("a list is within its bound"))?;
    // Items announced but absent must not make us allocate for them.
    let mut list = Vec::with_capacity(length.min(LIST_AHEAD));
    for _ in 0..length {
        list.push(get(d)?);
    }
    Ok(list)
}

/// Writes bytes.
pub fn put_bytes(sink: &mut Sink, bytes: &[u8]) {
    sink.bytes(bytes).expect(WRITES);
}

/// Reads at most `max` bytes.
///
/// # Errors
/// [`DecodeError`], among others for more.
pub fn get_bytes<'b>(d: &mut Decoder<'b>, max: usize) -> Result<&'b [u8], DecodeError> {
    let bytes = d.bytes()?;
    rule(bytes.len() <= max, "a byte string is within its bound")?;
    Ok(bytes)
}

/// Writes text.
pub fn put_str(sink: &mut Sink, text: &str) {
    sink.str(text).expect(WRITES);
}

/// Reads at most `max` bytes of text.
///
/// # Errors
/// [`DecodeError`], among others for more.
pub fn get_str<'b>(d: &mut Decoder<'b>, max: usize) -> Result<&'b str, DecodeError> {
    let text = d.str()?;
    rule(text.len() <= max, "a text is within its bound")?;
    Ok(text)
}

/// Encodes one value.
pub fn encode<T: Wire>(value: &T) -> Vec<u8> {
    let mut sink = Encoder::new(Vec::new());
    value.put(&mut sink);
    sink.into_writer()
}

/// Decodes one value that fills `bytes` exactly.
///
/// # Errors
/// [`DecodeError`].
pub fn decode<T: Wire>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut d = Decoder::new(bytes);
    let value = T::get(&mut d)?;
    rule(d.position() == bytes.len(), "nothing follows a message")?;
    Ok(value)
}

macro_rules! wire_ids {
    ($($id:ty),*) => {$(
        impl Wire for $id {
            fn put(&self, sink: &mut Sink) {
                put_bytes(sink, self.as_bytes());
            }
            fn get(d: &mut Decoder<'_>) -> Result<Self, DecodeError> {
                Self::from_slice(d.bytes()?).ok_or(DecodeError::Rule("an id has its fixed size"))
            }
        }
    )*};
}

wire_ids!(ContentHash, ConflictId, NodeHash, NoteId, ReplicaId, RootHash, VaultId, VersionId);

impl Wire for u64 {
    fn put(&self, sink: &mut Sink) {
        sink.u64(*self).expect(WRITES);
    }
    fn get(d: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(d.u64()?)
    }
}

impl Wire for u32 {
    fn put(&self, sink: &mut Sink) {
        sink.u32(*self).expect(WRITES);
    }
    fn get(d: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(d.u32()?)
    }
}

impl Wire for bool {
    fn put(&self, sink: &mut Sink) {
        sink.bool(*self).expect(WRITES);
    }
    fn get(d: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(d.bool()?)
    }
}

impl Wire for String {
    fn put(&self, sink: &mut Sink) {
        put_str(sink, self);
    }
    fn get(d: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        // A hunk of a conflict record can be a whole note; the body bounds the rest.
        Ok(get_str(d, crate::limits::ROUND_BYTES_MAX)?.to_owned())
    }
}

impl Wire for VaultPath {
    fn put(&self, sink: &mut Sink) {
        put_str(sink, self.as_str());
    }
    fn get(d: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Self::new(d.str()?).map_err(|_| DecodeError::Rule("a path is a vault path"))
    }
}

impl Wire for Stamp {
    fn put(&self, sink: &mut Sink) {
        put_array(sink, 2);
        self.ticks().put(sink);
        self.replica.put(sink);
    }
    fn get(d: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        get_array(d, 2)?;
        let ticks = u64::get(d)?;
        Ok(Self::from_ticks(ticks, ReplicaId::get(d)?))
    }
}

impl<T: Wire> Wire for Option<T> {
    fn put(&self, sink: &mut Sink) {
        match self {
            Some(value) => value.put(sink),
            None => {
                sink.null().expect(WRITES);
            }
        }
    }
    fn get(d: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        if d.datatype()? == Type::Null {
            d.null()?;
            return Ok(None);
        }
        T::get(d).map(Some)
    }
}
