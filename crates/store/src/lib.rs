//! Durable state: the SQLite databases and the blob files of a device and of a server.
//!
//! Invariant: what a commit returned `Ok` for survives a power cut, and what it did not is not
//! half there. Blocking, no async. In reading order: [`server_repo`] says what the server asks
//! beyond `sync::repo`, [`accounts`] who may ask.

pub mod accounts;
pub mod server_repo;
