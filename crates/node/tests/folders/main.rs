//! Two folders and a server, end to end but for sockets and real disks.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod crash;
mod kit;
mod placing;
mod rounds;
