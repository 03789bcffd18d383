//! Fakes and generators for tests: real small implementations, never mocks.
//!
//! Used from `tests/` of the other crates only. [`memory_store`] is the store the simulator runs
//! on and the oracle the SQLite store is compared with.

pub mod memory_store;
