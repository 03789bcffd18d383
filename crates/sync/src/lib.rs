//! crucible-sync
