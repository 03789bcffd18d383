//! crucible-testkit
