//! Layer 1 as pure machines: the round, its two roles, and what they need of a store.
//!
//! In reading order: [`repo`] is what the engine asks of a vault's store (the same on a server
//! and on a device), [`replica`] what a device's store keeps besides.

pub mod replica;
pub mod repo;
