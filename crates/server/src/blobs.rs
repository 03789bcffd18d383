//! `/api/sync/{vault}/blobs/{hash}`: the bytes of large assets, ranged and resumable.
//!
//! Invariant: what can be read was verified against its hash, when it came and since this server
//! began; a part that has arrived stays, also
//! when the connection breaks, and `HEAD` says where to go on. Bytes pass through in pieces of
//! `PIECE`: memory does not grow with the blob.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use crucible_core::hash::ContentHash;
use crucible_core::id::VaultId;
use crucible_store::blob_store;
use crucible_trust::rights::Op;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::body::{self, Incoming, JsonBody};
use crate::caller::Caller;
use crate::error::{ApiError, Code};
use crate::state::Server;

/// Bytes written or read at once.
const PIECE: usize = 256 << 10;
/// How much of an unfinished blob is here.
const OFFSET: HeaderName = HeaderName::from_static("upload-offset");

/// Why bytes of a blob are not read or written.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// A piece does not begin where the last one ended.
    #[error("the next piece begins at byte {have}")]
    WrongOffset {
        /// How much is here.
        have: u64,
    },
    /// All bytes are here and they are others; they were thrown away.
    #[error("the bytes do not have the hash they came under")]
    Mismatch,
    /// There is no such blob.
    #[error("there is no such blob")]
    Absent,
    /// It was here, and its bytes are others by now: they are not given out.
    #[error("the server's copy of this file is damaged")]
    Damaged,
    /// The disk, or somebody else who sends the same blob.
    #[error("a blob cannot be stored or read")]
    Store(#[from] blob_store::BlobError),
}

/// The blobs of every vault of a server. A blob that one vault has is not thereby in another.
/// All calls block.
pub trait Blobs: Send + Sync + 'static {
    /// The size of a whole and verified blob; `None` when it is not here.
    ///
    /// # Errors
    /// [`BlobError::Damaged`] until it arrived again; [`BlobError::Store`]
    fn size(&self, vault: &VaultId, hash: &ContentHash) -> Result<Option<u64>, BlobError>;

    /// Up to `len` bytes of a whole blob from `offset`; fewer only at its end.
    ///
    /// # Errors
    /// [`BlobError::Absent`], [`BlobError::Store`]
    fn read(
        &self,
        vault: &VaultId,
        hash: &ContentHash,
        offset: u64,
        len: usize,
    ) -> Result<Vec<u8>, BlobError>;

    /// How much of an unfinished blob is here.
    ///
    /// # Errors
    /// [`BlobError::Store`]
    fn received(&self, vault: &VaultId, hash: &ContentHash) -> Result<u64, BlobError>;

    /// Adds a piece to an unfinished blob.
    ///
    /// # Errors
    /// [`BlobError::WrongOffset`] when `offset` is not what is here, also when somebody else was
    /// quicker; [`BlobError::Store`].
    fn append(
        &self,
        vault: &VaultId,
        hash: &ContentHash,
        offset: u64,
        piece: &[u8],
    ) -> Result<(), BlobError>;

    /// Verifies an unfinished blob of `bytes` bytes and makes it durable and visible.
    ///
    /// # Errors
    /// [`BlobError::Mismatch`] throws the bytes away; [`BlobError::WrongOffset`] when not all of
    /// them are here; [`BlobError::Store`].
    fn finish(&self, vault: &VaultId, hash: &ContentHash, bytes: u64) -> Result<(), BlobError>;
}

/// Which bytes of how many a `PUT` brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    from: u64,
    /// One past the last.
    to: u64,
    of: u64,
}

type Place = Path<(String, String)>;

pub(crate) async fn put(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Path((vault, hash)): Place,
    request: Request,
) -> Result<Response, ApiError> {
    let hash = parse_hash(&hash)?;
    let vault = server.enter(&caller, &vault, Op::Write).await?.vault.id;
    let part = part(request.headers())?;
    if part.of > server.limits().blob_bytes_max {
        let message = format!("a blob has at most {} bytes", server.limits().blob_bytes_max);
        return Err(ApiError::new(Code::TooLarge, message));
    }
    let known = server.blocking(move |s| whole(s, &vault, &hash)).await?;
    if known.is_some() {
        return Ok((StatusCode::OK, Json(json!({ "bytes": known }))).into_response());
    }
    let offset = receive(&server, vault, hash, part, request.into_body()).await?;
    if offset < part.of {
        let body = Json(json!({ "offset": offset, "bytes": part.of }));
        return Ok((StatusCode::ACCEPTED, body).into_response());
    }
    server.blocking(move |s| Ok(s.blobs().finish(&vault, &hash, part.of)?)).await?;
    Ok((StatusCode::CREATED, Json(json!({ "bytes": part.of }))).into_response())
}

/// The size of a blob that need not be sent: a damaged one has to be.
fn whole(server: &Server, vault: &VaultId, hash: &ContentHash) -> Result<Option<u64>, ApiError> {
    match server.blobs().size(vault, hash) {
        Err(BlobError::Damaged) => Ok(None),
        size => Ok(size?),
    }
}

/// Hashes or versions in one question for what is missing.
pub(crate) const ASKED_MAX: usize = 1000;

#[derive(Deserialize)]
pub(crate) struct Asked {
    hashes: Vec<String>,
}

/// Which of some blobs are not here, so that a device sends those alone.
pub(crate) async fn missing(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Path(vault): Path<String>,
    JsonBody(asked): JsonBody<Asked>,
) -> Result<Json<Value>, ApiError> {
    if asked.hashes.len() > ASKED_MAX {
        let message = format!("at most {ASKED_MAX} hashes in one question");
        return Err(ApiError::new(Code::TooLarge, message));
    }
    let hashes: Vec<ContentHash> =
        asked.hashes.iter().map(|hash| parse_hash(hash)).collect::<Result<_, _>>()?;
    let vault = server.enter(&caller, &vault, Op::Read).await?.vault.id;
    let missing = server
        .blocking(move |s| {
            let mut missing = Vec::new();
            for hash in hashes {
                if whole(s, &vault, &hash)?.is_none() {
                    missing.push(hash.to_string());
                }
            }
            Ok(missing)
        })
        .await?;
    Ok(Json(json!({ "missing": missing })))
}

pub(crate) async fn head(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Path((vault, hash)): Place,
) -> Result<Response, ApiError> {
    let hash = parse_hash(&hash)?;
    let vault = server.enter(&caller, &vault, Op::Read).await?.vault.id;
    let (size, received) = server
        .blocking(move |s| match whole(s, &vault, &hash)? {
            Some(size) => Ok((Some(size), size)),
            None => Ok((None, s.blobs().received(&vault, &hash)?)),
        })
        .await?;
    Ok(match size {
        Some(size) => (blob_headers(hash), [(header::CONTENT_LENGTH, size)]).into_response(),
        None => (StatusCode::NOT_FOUND, [(OFFSET, received)]).into_response(),
    })
}

pub(crate) async fn get(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Path((vault, hash)): Place,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let hash = parse_hash(&hash)?;
    let vault = server.enter(&caller, &vault, Op::Read).await?.vault.id;
    respond(&server, vault, hash, &headers).await
}

/// Answers with a blob or a range of it.
pub(crate) async fn respond(
    server: &Arc<Server>,
    vault: VaultId,
    hash: ContentHash,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let size = server.blocking(move |s| Ok(s.blobs().size(&vault, &hash)?)).await?;
    let size = size.ok_or_else(|| ApiError::not_found("blob"))?;
    let (status, from, to) = match range(headers, size)? {
        None => (StatusCode::OK, 0, size),
        Some((from, to)) => (StatusCode::PARTIAL_CONTENT, from, to),
    };
    let body = Body::from_stream(pieces(Arc::clone(server), vault, hash, from, to));
    let mut response = (status, blob_headers(hash), body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(to - from));
    if status == StatusCode::PARTIAL_CONTENT {
        let shown = format!("bytes {from}-{}/{size}", to - 1);
        let shown = HeaderValue::from_str(&shown).expect("digits are a header value");
        headers.insert(header::CONTENT_RANGE, shown);
    }
    server.metrics().blob_bytes_out.add(to - from);
    Ok(response)
}

fn blob_headers(hash: ContentHash) -> [(HeaderName, HeaderValue); 4] {
    let tag = format!("\"{hash}\"");
    [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (header::ACCEPT_RANGES, HeaderValue::from_static("bytes")),
        (header::ETAG, HeaderValue::from_str(&tag).expect("hex is a header value")),
        (header::CACHE_CONTROL, HeaderValue::from_static("private, immutable, max-age=31536000")),
    ]
}

fn pieces(
    server: Arc<Server>,
    vault: VaultId,
    hash: ContentHash,
    from: u64,
    to: u64,
) -> impl futures_util::Stream<Item = Result<Bytes, ApiErrorInBody>> {
    futures_util::stream::unfold(from, move |at| {
        let server = Arc::clone(&server);
        async move {
            let len = usize::try_from(to - at).unwrap_or(usize::MAX).min(PIECE);
            if len == 0 {
                return None;
            }
            let read = move |s: &Server| Ok(s.blobs().read(&vault, &hash, at, len)?);
            match server.blocking(read).await {
                Ok(piece) if piece.len() == len => Some((Ok(piece.into()), at + len as u64)),
                Ok(_) => Some((Err(ApiErrorInBody), to)),
                // Logged where it was made; the connection breaks, so the client will know.
                Err(_) => Some((Err(ApiErrorInBody), to)),
            }
        }
    })
}

/// A body that cannot be finished: the connection is cut, which no client takes for the end.
#[derive(Debug, thiserror::Error)]
#[error("a blob became unreadable while it was sent")]
struct ApiErrorInBody;

/// Stores what arrives; returns how much of the blob is here.
async fn receive(
    server: &Arc<Server>,
    vault: VaultId,
    hash: ContentHash,
    part: Part,
    body: Body,
) -> Result<u64, ApiError> {
    let have = server.blocking(move |s| Ok(s.blobs().received(&vault, &hash)?)).await?;
    if have != part.from {
        return Err(BlobError::WrongOffset { have }.into());
    }
    let mut stream = Incoming::new(body, server.limits().body_silence_ms);
    let mut at = part.from;
    loop {
        let (piece, end) = gather(&mut stream).await;
        if at + piece.len() as u64 > part.to {
            return Err(ApiError::new(Code::Malformed, "the body is longer than it said"));
        }
        if !piece.is_empty() {
            let (from, len) = (at, piece.len() as u64);
            server.blocking(move |s| Ok(s.blobs().append(&vault, &hash, from, &piece)?)).await?;
            at += len;
            server.metrics().blob_bytes_in.add(len);
        }
        match end {
            None => {}
            // What came before the end is stored: the next attempt goes on from there.
            Some(Err(error)) => return Err(error),
            Some(Ok(())) if at == part.to => return Ok(at),
            Some(Ok(())) => {
                return Err(ApiError::new(Code::Malformed, "the body is shorter than it said"));
            }
        }
    }
}

/// Up to [`PIECE`] bytes of a body, and its end if it ended.
async fn gather(stream: &mut Incoming) -> (Bytes, Option<Result<(), ApiError>>) {
    let mut piece = BytesMut::new();
    while piece.len() < PIECE {
        match stream.next().await {
            Ok(Some(bytes)) => piece.extend_from_slice(&bytes),
            Ok(None) => return (piece.freeze(), Some(Ok(()))),
            Err(error) => return (piece.freeze(), Some(Err(error))),
        }
    }
    (piece.freeze(), None)
}

fn parse_hash(text: &str) -> Result<ContentHash, ApiError> {
    text.parse().map_err(|_| ApiError::new(Code::BadRequest, "a blob's name is 64 hex digits"))
}

/// Reads `Content-Range: bytes 0-99/1000`; without it the body is the whole blob.
fn part(headers: &HeaderMap) -> Result<Part, ApiError> {
    body::plain_encoding(headers)?;
    let length = body::content_length(headers)?
        .ok_or_else(|| ApiError::new(Code::BadRequest, "a blob is sent with a Content-Length"))?;
    let part = match headers.get(header::CONTENT_RANGE) {
        None => Some(Part { from: 0, to: length, of: length }),
        Some(value) => value.to_str().ok().and_then(parse_part),
    };
    part.filter(|part| part.to <= part.of && part.to.checked_sub(part.from) == Some(length))
        .ok_or_else(|| {
            ApiError::new(Code::BadRequest, "Content-Range and Content-Length do not agree")
        })
}

fn parse_part(value: &str) -> Option<Part> {
    let (range, of) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (from, last) = range.split_once('-')?;
    let to = last.parse::<u64>().ok()?.checked_add(1)?;
    Some(Part { from: from.parse().ok()?, to, of: of.parse().ok()? })
}

/// Reads `Range`: one range of bytes as `from..to`. Forms of other units are ignored, as HTTP
/// asks; several ranges get the whole.
pub(crate) fn range(headers: &HeaderMap, size: u64) -> Result<Option<(u64, u64)>, ApiError> {
    let value = headers.get(header::RANGE).and_then(|v| v.to_str().ok());
    let Some(range) = value.and_then(|v| v.strip_prefix("bytes=")) else {
        return Ok(None);
    };
    let Some((first, last)) = range.split_once('-').filter(|_| !range.contains(',')) else {
        return Ok(None);
    };
    let (from, to) = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(from), Ok(last)) => (from, last.saturating_add(1).min(size)),
        (Ok(from), Err(_)) if last.is_empty() => (from, size),
        (Err(_), Ok(tail)) if first.is_empty() => (size.saturating_sub(tail), size),
        _ => return Ok(None),
    };
    if from >= to {
        let message = format!("the blob has {size} bytes");
        return Err(ApiError::new(Code::BadRange, message));
    }
    Ok(Some((from, to)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header_of(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn ranges_are_read_as_http_says() {
        for (value, expected) in [
            ("bytes=0-", Some((0, 10))),
            ("bytes=3-5", Some((3, 6))),
            ("bytes=3-99", Some((3, 10))),
            ("bytes=-4", Some((6, 10))),
            ("bytes=-99", Some((0, 10))),
            ("bytes=0-1,4-5", None),
            ("lines=1-2", None),
            ("bytes=x-y", None),
        ] {
            assert_eq!(range(&header_of(header::RANGE, value), 10), Ok(expected), "{value}");
        }
        for value in ["bytes=10-", "bytes=5-4", "bytes=-0", "bytes=99-100"] {
            let refused = range(&header_of(header::RANGE, value), 10).unwrap_err();
            assert_eq!(refused.code, Code::BadRange, "{value}");
        }
    }

    #[test]
    fn a_part_says_what_it_brings_and_cannot_contradict_itself() {
        let read = |range: Option<&str>, length: &str| {
            let mut headers = header_of(header::CONTENT_LENGTH, length);
            if let Some(range) = range {
                headers.insert(header::CONTENT_RANGE, HeaderValue::from_str(range).unwrap());
            }
            part(&headers).ok().map(|p| (p.from, p.to, p.of))
        };
        assert_eq!(read(None, "10"), Some((0, 10, 10)));
        assert_eq!(read(Some("bytes 5-9/20"), "5"), Some((5, 10, 20)));
        for (range, length) in [
            ("bytes 5-9/20", "6"),
            ("bytes 5-9/8", "5"),
            ("bytes 9-5/20", "5"),
            ("bytes 0-18446744073709551615/1", "1"),
            ("bytes */20", "5"),
            ("5-9/20", "5"),
        ] {
            assert_eq!(read(Some(range), length), None, "{range} {length}");
        }
    }
}
