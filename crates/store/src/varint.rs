//! Bytes inside rows: LEB128 integers and counted strings.
//!
//! Law: what [`put`] and [`put_str`] wrote, a [`Reader`] reads back; anything else is a fault,
//! never a panic.

use crate::error::{Fault, intact};

/// Appends an integer: 7 bits a byte, lowest first.
pub(crate) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a string with its length before it.
pub(crate) fn put_str(out: &mut Vec<u8>, text: &str) {
    put(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Reads from the front of a row's bytes.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn int(&mut self) -> Result<u64, Fault> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let [byte, rest @ ..] = self.0 else { break };
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if *byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Fault::Damaged("integers in rows are complete"))
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let error = Fault::Damaged("rows are not cut short");
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(error)?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, Fault> {
        let count = usize::try_from(self.int()?).unwrap_or(usize::MAX);
        let bytes = self.bytes(count)?;
        std::str::from_utf8(bytes).map_err(|_| Fault::Damaged("strings in rows are UTF-8"))
    }

    pub(crate) fn end(&self) -> Result<(), Fault> {
        intact(self.0.is_empty(), "rows hold nothing after their end")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_and_strings_survive_writing_and_reading() {
        let mut row = Vec::new();
        let values = [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX];
        for value in values {
            put(&mut row, value);
        }
        put_str(&mut row, "é");
        let mut reader = Reader(&row);
        for value in values {
            assert_eq!(reader.int().unwrap(), value);
        }
        assert_eq!(reader.text().unwrap(), "é");
        reader.end().unwrap();
    }

    #[test]
    fn damaged_rows_are_faults() {
        assert!(Reader(&[]).int().is_err());
        assert!(Reader(&[0x80; 11]).int().is_err());
        assert!(Reader(&[5, b'a']).text().is_err());
        assert!(Reader(&[1, 0xff]).text().is_err());
        assert!(Reader(&[0]).end().is_err());
    }
}
