//! Live sessions: several people write in one note at the same time.
//!
//! Pure: no socket, clock or disk. [`document`] is the shared text and the one file that names the
//! CRDT library; [`limits`] are its bounds.

pub mod document;
pub mod limits;
