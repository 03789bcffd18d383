//! The real `cru`, judged from outside: only what scripts and people can see is asked here, so
//! these tests hold whatever the inside looks like. One binary, because linking is what costs.
//!
//! Read [`kit`] first: a server, devices, a proxy that cuts, all on the loopback, each with a
//! home of its own, nothing shared between tests. No test sleeps; each waits for a condition.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its hands as well")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "shown when a test fails")]

mod kit;

mod bytes;
mod cables;
mod conflicts;
mod contract;
mod copies;
mod crash;
mod damage;
mod denied;
mod disk;
mod exit_codes;
mod export;
mod guard;
mod history;
mod http;
mod import;
mod in_step;
mod live_crash;
mod merge_file;
mod merging;
mod mutants;
mod names;
mod nesting;
mod pairing;
mod placing;
mod repair;
mod status;
mod tls;
mod tokens;
mod watching;
