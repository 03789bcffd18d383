//! crucible-store
