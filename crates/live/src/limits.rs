//! Every bound of a live session, with its why.

/// Longest text of a session, in bytes of UTF-8: what a browser's editor still edits smoothly.
pub const DOCUMENT_BYTES_MAX: usize = 4 << 20;

/// Largest update after reassembly, in bytes: a pasted chapter fits.
pub const UPDATE_BYTES_MAX: usize = 1 << 20;

/// Imports after which the document is loaded afresh: each keeps about 160 bytes in memory
/// (measured: 42 MB after 250 000 keystrokes, 0.6 MB loaded afresh).
pub const IMPORTS_MAX: usize = 20_000;
