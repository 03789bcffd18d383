//! Zstandard frames (RFC 8878) without magic, checksum or content size: what they hold is always
//! verified by hash, and their raw size travels beside them and bounds the decoder.
//!
//! Law: `unzip(zip(x), x.len()) == x` and `undelta(base, delta(base, x), x.len()) == x`.

use zstd::zstd_safe::{CCtx, CParameter, DCtx, DParameter, FrameFormat};

/// The frame is damaged, was made over another base, or holds more than was announced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a compressed frame does not decode to the {expected} bytes it announces")]
pub struct UnzipError {
    /// The announced raw size.
    pub expected: usize,
}

/// Level of packs: of the levels that cost no more than rsync's work, the smallest result.
const LEVEL: i32 = 3;
/// Level of deltas: a median delta is 61-82 bytes at any level, larger edits gain from more.
const DELTA_LEVEL: i32 = 6;
/// Level of [`zip_tight`]: beyond it twice the work gains one per cent.
const TIGHT_LEVEL: i32 = 9;
/// Windows beyond this would let a peer ask for that much memory.
const WINDOW_LOG_MAX: u32 = 27;

/// Compresses `raw` into a frame of its own.
pub fn zip(raw: &[u8]) -> Vec<u8> {
    compress(&[], raw, LEVEL)
}

/// Like [`zip`], an eighth smaller at six times the work: for what is kept for years.
pub fn zip_tight(raw: &[u8]) -> Vec<u8> {
    compress(&[], raw, TIGHT_LEVEL)
}

/// Decompresses a frame that must hold exactly `raw_bytes`; the caller has bounded that number.
///
/// # Errors
/// [`UnzipError`] for anything else.
pub fn unzip(frame: &[u8], raw_bytes: usize) -> Result<Vec<u8>, UnzipError> {
    decompress(&[], frame, raw_bytes)
}

/// More bytes than any sensible frame of `raw_bytes` has.
pub fn bound(raw_bytes: usize) -> usize {
    zstd::zstd_safe::compress_bound(raw_bytes)
}

/// Compresses `raw` against `base`: 61-82 bytes for the median real edit of a note.
pub fn delta(base: &[u8], raw: &[u8]) -> Vec<u8> {
    compress(base, raw, DELTA_LEVEL)
}

/// Rebuilds what [`delta`] was made of.
///
/// # Errors
/// [`UnzipError`] for a damaged frame; a wrong base may also give wrong bytes, so callers verify
/// the hash.
pub fn undelta(base: &[u8], frame: &[u8], raw_bytes: usize) -> Result<Vec<u8>, UnzipError> {
    decompress(base, frame, raw_bytes)
}

fn compress(base: &[u8], raw: &[u8], level: i32) -> Vec<u8> {
    let mut context = CCtx::create();
    let span = (base.len() + raw.len()).max(1);
    let window_log = (usize::BITS - (span - 1).leading_zeros()).clamp(10, WINDOW_LOG_MAX);
    let parameters = [
        CParameter::CompressionLevel(level),
        CParameter::Format(FrameFormat::Magicless),
        CParameter::ChecksumFlag(false),
        CParameter::ContentSizeFlag(false),
        CParameter::DictIdFlag(false),
        CParameter::WindowLog(window_log),
        // A delta of a large note must find its matches a whole note away.
        CParameter::EnableLongDistanceMatching(!base.is_empty() && span > (1 << 20)),
    ];
    for parameter in parameters {
        context.set_parameter(parameter).expect("each parameter is within zstd's bounds");
    }
    if !base.is_empty() {
        context.ref_prefix(base).expect("a fresh context takes a prefix");
    }
    let mut frame = Vec::with_capacity(zstd::zstd_safe::compress_bound(raw.len()));
    context.compress2(&mut frame, raw).expect("the buffer holds zstd's own bound");
    frame
}

fn decompress(base: &[u8], frame: &[u8], raw_bytes: usize) -> Result<Vec<u8>, UnzipError> {
    let error = UnzipError { expected: raw_bytes };
    let mut context = DCtx::create();
    context
        .set_parameter(DParameter::Format(FrameFormat::Magicless))
        .expect("magicless frames are a format of zstd");
    if !base.is_empty() {
        context.ref_prefix(base).expect("a fresh context takes a prefix");
    }
    let mut raw = Vec::with_capacity(raw_bytes);
    context.decompress(&mut raw, frame).map_err(|_| error.clone())?;
    if raw.len() == raw_bytes { Ok(raw) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_gives_back_what_it_was_made_of() {
        for raw in [&b""[..], b"a", &[7; 100_000]] {
            assert_eq!(unzip(&zip(raw), raw.len()).as_deref(), Ok(raw));
            assert_eq!(unzip(&zip_tight(raw), raw.len()).as_deref(), Ok(raw));
            assert_eq!(undelta(b"base", &delta(b"base", raw), raw.len()).as_deref(), Ok(raw));
        }
    }

    #[test]
    fn a_small_edit_of_a_note_is_a_small_delta() {
        let base: String =
            (0..200).map(|i| format!("Line {i} of a note, {}.\n", i * 7919)).collect();
        let edited = base.replace("Line 100 of", "The hundredth line of");
        let frame = delta(base.as_bytes(), edited.as_bytes());
        assert!(frame.len() < 64, "{} bytes", frame.len());
        let back = undelta(base.as_bytes(), &frame, edited.len());
        assert_eq!(back.as_deref(), Ok(edited.as_bytes()));
    }

    #[test]
    fn a_frame_never_decodes_to_more_than_announced() {
        let bomb = zip(&vec![0; 10 << 20]);
        assert!(bomb.len() < 2_000);
        assert_eq!(unzip(&bomb, 1_000), Err(UnzipError { expected: 1_000 }));
        assert!(unzip(&bomb[..bomb.len() / 2], 10 << 20).is_err());
        assert!(unzip(b"garbage", 7).is_err());
    }
}
