//! crucible-core
