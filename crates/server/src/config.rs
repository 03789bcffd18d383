//! What a server is told: where to listen, what to accept, and every bound with its why.
//!
//! Built once by the binary from defaults, file, environment and flags.

use std::net::SocketAddr;
use std::path::PathBuf;

pub use crate::rate::Rate;

/// Certificate and key of a server that speaks TLS itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM, the server's own certificate first.
    pub certificates: PathBuf,
    /// PEM: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

/// Whose word is taken for a client's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAddress {
    /// The other end of the connection.
    Peer,
    /// The last entry of `X-Forwarded-For`: right behind exactly one proxy of one's own.
    Forwarded,
}

/// How a server behaves.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The address of the listener; a loopback one accepts loopback host names alone.
    pub listen: SocketAddr,
    /// The address at which other machines reach it, as `http://HOST:PORT`, where that is known.
    pub url_for_others: Option<String>,
    /// TLS, if the server is to speak it itself.
    pub tls: Option<TlsFiles>,
    /// Host names (with or without port) this server is known by besides its addresses. On a
    /// loopback listener they are added to the loopback names; on another one, an empty list
    /// accepts every name.
    pub hosts: Vec<String>,
    /// Where a client's address is taken from.
    pub client_address: ClientAddress,
    /// All bounds.
    pub limits: Limits,
}

/// Every bound of the shell. Bounds of the wire are `proto::limits`.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at a time; more wait in the kernel's queue.
    pub connections_max: usize,
    /// Threads that do blocking work at a time; more requests wait for one.
    pub blocking_max: usize,
    /// Streams of events at a time.
    pub events_max: usize,
    /// Largest JSON body in bytes: people and scripts send names and codes.
    pub json_bytes_max: usize,
    /// Largest body of a round or a walk in bytes.
    pub round_bytes_max: usize,
    /// Largest blob in bytes.
    pub blob_bytes_max: u64,
    /// Longest time until a request's head is complete, in milliseconds; idle connections too.
    pub head_ms: u64,
    /// Longest silence inside a body, in milliseconds, and longest time that nothing of an answer is
    /// taken. Beyond it, a byte a millisecond on average is the least.
    pub body_silence_ms: u64,
    /// Longest TLS handshake, in milliseconds.
    pub handshake_ms: u64,
    /// Longest time that requests in flight get to finish on shutdown, in milliseconds.
    pub shutdown_ms: u64,
    /// Between two signs of life on a stream of events, in milliseconds: below the idle timeout
    /// of common proxies (60 s). A revoked token's stream ends within this time.
    pub heartbeat_ms: u64,
    /// Requests of one device.
    pub device_rate: Rate,
    /// Requests with a wrong token from one address.
    pub stranger_rate: Rate,
    /// Pairing codes tried from one address.
    pub pairing_rate: Rate,
    /// Pairing codes tried from anywhere: at this rate 40 bits last for millennia.
    pub pairing_rate_all: Rate,
    /// Pairing codes that one user may have open at a time.
    pub invitations_max: u32,
    /// Items in one page of a list.
    pub page_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            blocking_max: 32,
            events_max: 512,
            json_bytes_max: 64 << 10,
            round_bytes_max: crucible_proto::limits::ROUND_BYTES_MAX,
            blob_bytes_max: 16 << 30,
            head_ms: 60_000,
            body_silence_ms: 30_000,
            handshake_ms: 10_000,
            shutdown_ms: 30_000,
            heartbeat_ms: 25_000,
            device_rate: Rate { burst: 600, refill_ms: 20 },
            stranger_rate: Rate { burst: 30, refill_ms: 2_000 },
            pairing_rate: Rate { burst: 5, refill_ms: 15_000 },
            pairing_rate_all: Rate { burst: 60, refill_ms: 1_000 },
            invitations_max: 32,
            page_max: 1000,
        }
    }
}
