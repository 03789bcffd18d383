//! crucible-server
