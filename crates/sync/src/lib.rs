//! Layer 1 as pure machines: the round in both its roles, and what they need of a store.
//!
//! Invariant: nothing here touches a file, a socket or a clock; every function takes a store to
//! read and gives back a batch to commit. In reading order: [`repo`] is what the engine asks of a
//! vault's store (the same on a server and on a device), [`replica`] what a device keeps besides,
//! [`staged`] a store with a batch on top, [`mint`] makes versions, [`pack`] and [`unpack`] bring
//! them over the wire, [`take`] which change takes a conflict's
//! side, [`ask`] and [`serve`] are the two roles, [`guard`] and [`policy`] what a
//! person has a say in, [`ahead`] which clocks are believed.

pub mod ahead;
pub mod ask;
pub mod guard;
pub mod mint;
pub mod pack;
mod packs;
pub mod policy;
pub mod replica;
pub mod repo;
pub mod serve;
pub mod staged;
pub mod take;
pub mod unpack;
