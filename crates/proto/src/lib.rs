//! crucible-proto
