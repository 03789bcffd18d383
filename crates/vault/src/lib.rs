//! crucible-vault
