//! A device's side of sync: the shell around `sync` that owns a folder and a store.
//!
//! Invariant: no decision about whose words win is taken here. In reading order: [`world`] and
//! [`link`] are what it needs from outside, [`replica`] is the round, which goes through
//! `recover` (what a crash left), `take_in` (the folder into the store), `exchange` (the store and
//! the other side) and `settle` (the store into the folder); [`actions`] is what a person asks for
//! besides, [`undo`] taking a round back, [`outlook`] what would happen; [`report`] and [`error`] say what came of it. [`config`]
//! is what a vault's folder knows about itself. [`http`] speaks to a server, [`http_link`] makes a
//! link of that, and [`api`] asks it everything else.

pub mod actions;
pub mod api;
pub mod config;
pub mod error;
mod exchange;
pub mod http;
pub mod http_link;
pub mod link;
mod mounts;
pub mod outlook;
mod recover;
mod renames;
pub mod replica;
pub mod report;
mod round_log;
pub mod sessions;
mod settle;
mod take_in;
pub mod undo;
pub mod world;
