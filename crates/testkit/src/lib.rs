//! Fakes and generators for tests: real small implementations, never mocks.
//!
//! Used from `tests/` of the other crates only. [`memory_store`] is the store the simulator runs
//! on and the oracle the SQLite store is compared with; [`fake_fs`] is a folder on a disk that
//! fails in stated ways, with people editing between any two calls; [`scribe`] writes batches for
//! any store.

pub mod dice;
pub mod fake_fs;
pub mod memory_store;
pub mod scribe;
pub mod server_link;
pub mod simulation;
