//! The server over real sockets on loopback: everything a client can see, nothing below it.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod auth;
mod blobs;
mod client;
mod conflicts;
mod events;
mod fakes;
mod history;
mod lifecycle;
mod notes;
mod page;
mod real;
mod refusals;
mod rounds;
mod running;
mod search;
mod sessions;
mod vaults;
mod writing;
