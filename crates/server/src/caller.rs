//! Who asks: from the `Authorization` header to a checked capability.
//!
//! Invariant: a [`Caller`] has a token that was issued here, has not expired and is not revoked
//! at this moment, whichever process revoked it. Tokens are read from two headers
//! and never from an address.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use crucible_core::id::{DeviceId, UserId};
use crucible_store::accounts::Standing;
use crucible_store::error::StoreError;
use crucible_store::server_repo::Origin;
use crucible_trust::capability::{Capability, Token};
use crucible_trust::rights::{Op, Request, Rights};

use crate::config::ClientAddress;
use crate::error::{ApiError, Code};
use crate::state::Server;

/// The other end of the connection, put into every request by the accept loop.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// Somebody with a good token.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Their token, verified.
    pub capability: Arc<Capability>,
    /// Where they are.
    pub address: IpAddr,
}

impl Caller {
    /// The person.
    pub fn user(&self) -> UserId {
        self.capability.subject().user
    }

    /// Their device.
    pub fn device(&self) -> DeviceId {
        self.capability.subject().device
    }

    /// All the token allows.
    pub fn rights(&self) -> &Rights {
        self.capability.rights()
    }

    /// What history keeps about a commit of theirs.
    pub fn origin(&self, now_ms: u64) -> Origin {
        Origin {
            user: self.user(),
            device: self.device(),
            received_ms: now_ms,
            address: self.address.to_string(),
            others: Vec::new(),
        }
    }
}

impl FromRequestParts<Arc<Server>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, server: &Arc<Server>) -> Result<Self, ApiError> {
        let address = address(parts, server);
        let token = token_of(&parts.headers)?;
        let remembered = server.remembered(&token);
        if remembered.is_none() {
            server.admit_stranger(&address)?;
        }
        let caller = server.quick(move |s| identify(s, token, remembered, address)).await;
        let caller = caller.inspect_err(|error| {
            if error.code.status() == StatusCode::UNAUTHORIZED {
                server.metrics().tokens_refused.add(1);
            }
            // One that was good once is cheap to refuse, and no guess.
            if error.code == Code::Unauthenticated {
                server.count_stranger(&address);
            }
        })?;
        let span = tracing::Span::current();
        span.record("user", caller.user().short());
        span.record("device", caller.device().short());
        server.admit_device(&caller.device())?;
        Ok(caller)
    }
}

fn identify(
    server: &Server,
    token: Token,
    remembered: Option<Arc<Capability>>,
    address: IpAddr,
) -> Result<Caller, ApiError> {
    let capability = match remembered {
        Some(capability) => capability,
        None => {
            let capability = Arc::new(Capability::verify(&token, &server.accounts().root())?);
            server.remember(token, Arc::clone(&capability));
            capability
        }
    };
    let caller = Caller { capability, address };
    still_good(server, &caller)?;
    let now_ms = server.now_ms();
    if server.seen_is_due(caller.device(), now_ms) {
        match server.accounts().seen(caller.device(), now_ms) {
            // Who reads is not turned away because nobody can write down that they were here.
            Err(error @ (StoreError::Full { .. } | StoreError::Busy { .. })) => {
                tracing::debug!(%error, "a device was not noted");
            }
            noted => noted?,
        }
    }
    Ok(caller)
}

/// Asks again whether the token has expired or was revoked: for streams that outlive a request.
pub fn still_good(server: &Server, caller: &Caller) -> Result<(), ApiError> {
    let now_ms = server.now_ms();
    let request = Request { op: Op::Identify, vault: None, path: None, now_ms };
    caller.capability.authorize(&request)?;
    let refused = |code, message: &str| {
        ApiError::new(code, message)
            .hint("join again with a pairing code from a device that is in (`cru invite`)")
    };
    match server.accounts().standing(&caller.capability)? {
        Standing::Good => Ok(()),
        Standing::Revoked => Err(refused(Code::Revoked, "this token was revoked")),
        Standing::NoSuchUser => {
            Err(refused(Code::Unauthenticated, "the user of this token is not known here"))
        }
    }
}

/// What a browser's WebSocket offers beside the protocol it speaks: it can send no header.
const OFFERED: &str = "bearer.";

/// The token of a request: of `Authorization`, or of the list of protocols of a WebSocket.
fn token_of(headers: &HeaderMap) -> Result<Token, ApiError> {
    let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let mut offered = offered
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|protocol| protocol.trim().strip_prefix(OFFERED));
    match offered.next() {
        Some(token) if !headers.contains_key(header::AUTHORIZATION) => {
            // The padding of base64 may not stand in the name of a protocol (RFC 6455, 4.1).
            let padding = "=".repeat((4 - token.len() % 4) % 4);
            Ok(Token::parse(&format!("{token}{padding}"))?)
        }
        _ => bearer(headers),
    }
}

/// The token of `Authorization: Bearer`.
fn bearer(headers: &HeaderMap) -> Result<Token, ApiError> {
    let missing = || {
        ApiError::new(Code::Unauthenticated, "a token is needed: Authorization: Bearer …")
            .hint("`cru join` and `cru auth login` get one")
    };
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or_else(missing)?;
    if values.next().is_some() {
        return Err(ApiError::new(Code::BadRequest, "Authorization is given twice"));
    }
    let (scheme, token) =
        value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(missing)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(missing());
    }
    Ok(Token::parse(token.trim())?)
}

/// Where a request comes from.
pub fn address(parts: &Parts, server: &Server) -> IpAddr {
    let peer = parts.extensions.get::<Peer>().map_or(IpAddr::from([0; 4]), |peer| peer.0.ip());
    match server.config().client_address {
        ClientAddress::Peer => peer,
        ClientAddress::Forwarded => forwarded(&parts.headers).unwrap_or(peer),
    }
}

/// The last entry is the one our own proxy wrote; those before it are anybody's.
fn forwarded(headers: &HeaderMap) -> Option<IpAddr> {
    let value = headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
    value.rsplit(',').next()?.trim().parse().ok()
}
