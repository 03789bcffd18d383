//! Clients of live sessions as a load on the real `cru`: for the tests that kill it and for the
//! bench. Never shipped.
//!
//! In reading order: [`running`] starts and kills `cru up`, [`http`] is the few requests a page
//! makes, [`connection`] is a WebSocket into a session, [`writer`] is somebody who types, comes
//! again after every fall and knows which of their words were acknowledged.

pub mod connection;
pub mod http;
pub mod running;
pub mod writer;
