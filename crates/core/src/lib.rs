//! crucible-core
pub mod block;
pub mod lines;
