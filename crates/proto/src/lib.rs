//! The wire: every message of the protocol, and nothing that decides anything.
//!
//! Invariant: nothing is allocated, decompressed or believed beyond [`limits`]. In reading order:
//! [`limits`], [`wire`] (single values), [`zip`] (frames and deltas), [`parcel`] (versions on
//! their way), [`message`] (the round).

pub mod limits;
pub mod message;
pub mod parcel;
pub mod wire;
pub mod zip;
