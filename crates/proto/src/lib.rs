//! The wire: every message of the protocol, and nothing that decides anything.
//!
//! Invariant: nothing is allocated, decompressed or believed beyond [`limits`]. In reading order:
//! [`limits`], [`zip`] (frames and deltas).

pub mod limits;
pub mod zip;
