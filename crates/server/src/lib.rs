//! The server as a thin shell over HTTP: [`router`] and [`serve`] are its whole public behaviour.
//!
//! Invariants: no body is read before its bound is known; every request but `/healthz` and
//! pairing carries a token in `Authorization`; blocking work runs on a bounded number of threads
//! and a vault is written by one of them at a time; what a handler decides is who may ask, never
//! what sync means. In reading order: [`config`], [`state`] (what a server is made of), `caller`
//! (who asks), then one file per endpoint family; [`error`] is the table of everything that can
//! be refused.

pub mod archive;
pub mod blobs;
pub mod config;
pub mod engine;
pub mod error;
pub mod live;
pub mod rounds;
pub mod state;
pub mod vault_blobs;

mod auth;
mod body;
mod caller;
mod conflicts;
mod events;
mod guard;
mod hear_out;
mod history;
mod metrics;
mod notes;
mod openapi;
mod pace;
mod page;
mod rate;
mod routes;
mod serve;
mod sessions;
mod sync;
mod tls;
mod unified;
mod vaults;

pub use routes::router;
pub use serve::{ServeError, serve};
pub use unified::unified_diff;
