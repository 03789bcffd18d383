//! Every bound of the wire, each with its why.

/// Content up to this size travels and is kept in packs; larger assets are blobs of their own.
pub const INLINE_BYTES_MAX: u64 = 128 << 10;
/// Raw bytes gathered into one pack: large enough to compress well (1 MiB frames of real notes
/// take 3 % more than 4 MiB ones), small enough that reading one note back is cheap.
pub const PACK_RAW_AIM: usize = 1 << 20;
/// Largest raw pack: one note of the greatest size, and a pack's worth beside it.
pub const PACK_RAW_MAX: usize = (crucible_core::limits::NOTE_BYTES_MAX as usize) + PACK_RAW_AIM;
/// Raw bytes gathered into one request or answer before it is sent as a page.
pub const PAGE_RAW_AIM: usize = 4 << 20;
/// Notes gathered into one page.
pub const PAGE_NOTES_MAX: usize = 4096;
/// Largest body of a round in either direction.
pub const ROUND_BYTES_MAX: usize = 32 << 20;
