//! crucible-node
