//! Who may do what, as pure checks: keys, capabilities, pairing codes. Randomness and the clock
//! are arguments; nothing here does I/O. Read in this order:
//!
//! - [`key`]: Ed25519 identities of devices and servers
//! - [`name`]: what a vault may be called
//! - [`rights`]: what a token allows, a lattice in which [`rights::Rights::meet`] only narrows
//! - [`capability`]: the token that carries rights, verifiable and attenuable offline
//! - [`pairing`]: the short code that a new device exchanges for its first token

pub mod capability;
pub mod key;
pub mod name;
pub mod pairing;
pub mod rights;
