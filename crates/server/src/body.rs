//! Reading bodies within bounds, and JSON in and out.
//!
//! Invariant: a body whose length is declared too large is refused before a byte of it is read,
//! one that lies about it as soon as the bound is passed; nothing is decompressed here.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;

use crate::error::{ApiError, Code};
use crate::state::Server;

/// The whole body, at most `max` bytes of it, without a silence longer than `silence_ms`.
pub async fn read(request: Request, max: usize, silence_ms: u64) -> Result<Bytes, ApiError> {
    let too_large =
        || ApiError::new(Code::TooLarge, format!("a body here has at most {max} bytes"));
    plain_encoding(request.headers())?;
    let declared = content_length(request.headers())?;
    if declared.is_some_and(|length| length > max as u64) {
        return Err(too_large());
    }
    let mut body = BytesMut::new();
    let mut stream = request.into_body().into_data_stream();
    let silence = Duration::from_millis(silence_ms);
    loop {
        match tokio::time::timeout(silence, stream.next()).await {
            Ok(None) => return Ok(body.freeze()),
            Ok(Some(Ok(piece))) if body.len() + piece.len() <= max => {
                body.extend_from_slice(&piece);
            }
            Ok(Some(Ok(_))) => return Err(too_large()),
            Ok(Some(Err(_))) => return Err(cut_short()),
            Err(_) => return Err(too_silent()),
        }
    }
}

/// The connection broke inside a body.
pub fn cut_short() -> ApiError {
    ApiError::new(Code::Malformed, "the body was cut short")
}

/// The client stopped sending inside a body.
pub fn too_silent() -> ApiError {
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
