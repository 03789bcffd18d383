//! A device's side of sync: the shell around `sync` that owns a folder and a store.
//!
//! Invariant: no decision about whose words win is taken here. In reading order: [`link`] is the
//! other side, as far as this side can see it.

pub mod link;
