//! Reading and writing the compact bytes of nodes, walk messages and proofs.
//!
//! Invariant: a reader never takes more memory than the bytes it was given, and never panics.

use crate::limits::COMPONENT_BYTES_MAX;

/// Why bytes are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BytesError {
    /// They end too early.
    #[error("ends too early")]
    Short,
    /// A rule of the format is broken; the text names it.
    #[error("breaks the rule: {0}")]
    Rule(&'static str),
}

/// Holds or says which rule does not.
pub(super) fn rule(holds: bool, text: &'static str) -> Result<(), BytesError> {
    if holds { Ok(()) } else { Err(BytesError::Rule(text)) }
}

/// Takes bytes from the front of a slice.
pub(super) struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'b [u8], BytesError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(BytesError::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], BytesError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(BytesError::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, BytesError> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn u16(&mut self) -> Result<u16, BytesError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, BytesError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// A LEB128 number below 2^28 in its shortest form.
    pub(super) fn count(&mut self) -> Result<usize, BytesError> {
        let mut value = 0_usize;
        for shift in [0, 7, 14, 21] {
            let byte = self.u8()?;
            value |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                rule(byte != 0 || shift == 0, "a number is in its shortest form")?;
                return Ok(value);
            }
        }
        Err(BytesError::Rule("a number is below 2^28"))
    }

    /// A count of things of at least `each` bytes: never more than could still follow.
    pub(super) fn count_of(&mut self, each: usize) -> Result<usize, BytesError> {
        let count = self.count()?;
        if count > self.0.len() / each { Err(BytesError::Short) } else { Ok(count) }
    }

    /// One path component: its length in a byte, then UTF-8.
    pub(super) fn name(&mut self) -> Result<&'b str, BytesError> {
        let len = usize::from(self.u8()?);
        let name = std::str::from_utf8(self.take(len)?)
            .map_err(|_| BytesError::Rule("a name is UTF-8"))?;
        rule(!name.is_empty() && !name.contains('/'), "a name is one path component")?;
        Ok(name)
    }
}

/// Writes what [`Reader::count`] reads.
pub(super) fn put_count(out: &mut Vec<u8>, mut value: usize) {
    assert!(value < 1 << 28, "counts are bounded by the size of a message");
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Writes what [`Reader::name`] reads.
pub(super) fn put_name(out: &mut Vec<u8>, name: &str) {
    const { assert!(COMPONENT_BYTES_MAX <= 255) };
    out.push(u8::try_from(name.len()).expect("a path component has at most 255 bytes"));
    out.extend_from_slice(name.as_bytes());
}
