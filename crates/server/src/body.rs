//! Reading bodies within bounds, and JSON in and out.
//!
//! Invariant: a body whose length is declared too large is refused before a byte of it is read,
//! one that lies about it as soon as the bound is passed; nothing is decompressed here.

use axum::body::{Body, BodyDataStream};
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use tokio::time::Instant;

use crate::error::{ApiError, Code};
use crate::pace::Pace;
use crate::state::Server;

/// The whole body, at most `max` bytes of it, at the pace of [`Incoming`].
pub async fn read(request: Request, max: usize, silence_ms: u64) -> Result<Bytes, ApiError> {
    let too_large =
        || ApiError::new(Code::TooLarge, format!("a body here has at most {max} bytes"));
    plain_encoding(request.headers())?;
    let declared = content_length(request.headers())?;
    if declared.is_some_and(|length| length > max as u64) {
        return Err(too_large());
    }
    let mut body = BytesMut::new();
    let mut stream = Incoming::new(request.into_body(), silence_ms);
    while let Some(piece) = stream.next().await? {
        if body.len() + piece.len() > max {
            return Err(too_large());
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}

/// A body as it comes in, at the pace a client must keep.
pub struct Incoming {
    stream: BodyDataStream,
    pace: Pace,
}

impl Incoming {
    /// From its beginning.
    pub fn new(body: Body, silence_ms: u64) -> Self {
        Self::of(body.into_data_stream(), silence_ms)
    }

    /// What is left of one.
    pub fn of(stream: BodyDataStream, silence_ms: u64) -> Self {
        Self { stream, pace: Pace::new(silence_ms) }
    }

    /// The next bytes, `None` after the last.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        let began = Instant::now();
        match tokio::time::timeout(self.pace.patience(), self.stream.next()).await {
            Ok(Some(Ok(piece))) => {
                self.pace.moved(piece.len() as u64, began.elapsed());
                Ok(Some(piece))
            }
            Ok(Some(Err(_))) => Err(cut_short()),
            Ok(None) => Ok(None),
            Err(_) => Err(too_silent()),
        }
    }
}

/// The connection broke inside a body.
fn cut_short() -> ApiError {
    ApiError::new(Code::Malformed, "the body was cut short")
}

/// The client stopped sending inside a body, or sends next to nothing.
fn too_silent() -> ApiError {
    ApiError::new(Code::Timeout, "the body stopped coming")
}

/// Bodies carry their own compression, with a bound on what comes out: none around it.
pub fn plain_encoding(headers: &HeaderMap) -> Result<(), ApiError> {
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => {
            Err(ApiError::new(Code::UnsupportedMedia, "send the body without Content-Encoding"))
        }
        _ => Ok(()),
    }
}

/// Refuses a body that says it is too long, before anything else is asked about it.
pub fn declared_within(headers: &HeaderMap, max: usize) -> Result<(), ApiError> {
    match content_length(headers)? {
        Some(length) if length > max as u64 => {
            Err(ApiError::new(Code::TooLarge, format!("a body here has at most {max} bytes")))
        }
        _ => Ok(()),
    }
}

/// The declared length of a body.
pub fn content_length(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    let Some(value) = headers.get(header::CONTENT_LENGTH) else {
        return Ok(None);
    };
    let length = value.to_str().ok().and_then(|text| text.parse().ok());
    length.map(Some).ok_or_else(|| ApiError::new(Code::BadRequest, "a wrong Content-Length"))
}

/// Refuses another media type; parameters such as a charset do not matter.
pub fn require_media(headers: &HeaderMap, expected: &str) -> Result<(), ApiError> {
    let value = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    let media = value.split(';').next().unwrap_or("").trim();
    if media.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    Err(ApiError::new(Code::UnsupportedMedia, format!("the body must be {expected}")))
}

/// A JSON body.
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Arc<Server>> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, server: &Arc<Server>) -> Result<Self, ApiError> {
        require_media(request.headers(), "application/json")?;
        let limits = server.limits();
        let body = read(request, limits.json_bytes_max, limits.body_silence_ms).await?;
        serde_json::from_slice(&body)
            .map(Self)
            // serde names the field and the place, never more of the body than a token of it.
            .map_err(|error| ApiError::new(Code::Malformed, error.to_string()))
    }
}

/// A JSON body that carries a text, read once it is known who sends it: as large as a round.
pub async fn text_json<T: DeserializeOwned>(
    server: &Server,
    request: Request,
) -> Result<T, ApiError> {
    require_media(request.headers(), "application/json")?;
    let limits = server.limits();
    let body = read(request, limits.round_bytes_max, limits.body_silence_ms).await?;
    // Of a text nothing is told: what serde says may quote it.
    serde_json::from_slice(&body).map_err(|error| {
        let message = format!("the body is not what is asked for, at byte {}", error.column());
        ApiError::new(Code::Malformed, message)
    })
}

/// The query string.
pub struct Params<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Arc<Server>> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut Parts,
        _server: &Arc<Server>,
    ) -> Result<Self, ApiError> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(params)) => Ok(Self(params)),
            Err(error) => Err(ApiError::new(Code::BadRequest, error.body_text())),
        }
    }
}
