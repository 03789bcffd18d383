//! crucible-trust
