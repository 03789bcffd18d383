//! The table of everything that can be refused: error → (status, code, message, hint).
//!
//! Codes are stable: clients and scripts match on them. The CLI's exit codes derive from the
//! status: 401 and 403 are 12, 426 is 15, 5xx of storage are 1.

use std::io::ErrorKind;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use crucible_store::blob_store;
use crucible_store::error::{OpenError, StoreError};
use crucible_sync::staged;
use crucible_trust::capability::VerifyError;
use crucible_trust::rights::Denied;
use serde::Serialize;

use crate::archive::ArchiveError;
use crate::blobs::BlobError;
use crate::rounds::EngineError;

/// When to try again what is busy, in milliseconds.
const RETRY_MS: u64 = 1_000;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $status:ident $code:literal;)*) => {
        /// The stable codes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// Every code, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The status it travels with.
            pub fn status(self) -> StatusCode {
                match self {
                    $(Self::$name => StatusCode::$status,)*
                }
            }

            /// The code as clients match it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)*
                }
            }
        }
    };
}

codes! {
    /// A parameter, path or header that cannot be read.
    BadRequest = BAD_REQUEST "bad_request";
    /// No token, or one that is wrong, expired or revoked; `message` says which.
    Unauthenticated = UNAUTHORIZED "unauthenticated";
    /// The token has expired.
    Expired = UNAUTHORIZED "token_expired";
    /// The token or its device was revoked.
    Revoked = UNAUTHORIZED "token_revoked";
    /// The token is good, but not for this.
    Forbidden = FORBIDDEN "forbidden";
    /// A `Host` this server does not answer to.
    ForeignHost = FORBIDDEN "foreign_host";
    /// A request made by a page of another site.
    ForeignOrigin = FORBIDDEN "foreign_origin";
    /// A pairing code that is wrong, used or over.
    CodeRefused = FORBIDDEN "code_refused";
    /// Nothing of this name.
    NotFound = NOT_FOUND "not_found";
    /// The path exists, the method does not.
    MethodNotAllowed = METHOD_NOT_ALLOWED "method_not_allowed";
    /// The client was silent for too long inside its body.
    Timeout = REQUEST_TIMEOUT "timeout";
    /// The name is taken.
    Exists = CONFLICT "exists";
    /// The note was written to since the version that the request names.
    Changed = CONFLICT "changed";
    /// A short id that more than one thing has.
    Ambiguous = CONFLICT "ambiguous";
    /// A part of a blob that does not follow what is here.
    WrongOffset = CONFLICT "wrong_offset";
    /// Longer than the bound.
    TooLarge = PAYLOAD_TOO_LARGE "too_large";
    /// Not the media type or encoding of this endpoint.
    UnsupportedMedia = UNSUPPORTED_MEDIA_TYPE "unsupported_media";
    /// Bytes beyond the end of the blob.
    BadRange = RANGE_NOT_SATISFIABLE "bad_range";
    /// Not what this endpoint takes: undecodable, cut short, against a rule.
    Malformed = UNPROCESSABLE_ENTITY "malformed";
    /// The bytes are not those of the hash.
    HashMismatch = UNPROCESSABLE_ENTITY "hash_mismatch";
    /// The client speaks an older protocol than this server still does.
    ProtocolTooOld = UPGRADE_REQUIRED "protocol_too_old";
    /// The client speaks a newer protocol than this server yet does.
    ProtocolTooNew = UPGRADE_REQUIRED "protocol_too_new";
    /// Too many requests.
    RateLimited = TOO_MANY_REQUESTS "rate_limited";
    /// Something stored is damaged; it is not given out, and the log names the file.
    Integrity = INTERNAL_SERVER_ERROR "integrity";
    /// Our bug, or a failing disk; the log has more.
    Internal = INTERNAL_SERVER_ERROR "internal";
    /// Going down, or everything is busy.
    Unavailable = SERVICE_UNAVAILABLE "unavailable";
    /// The disk is full; nothing was lost and nothing was stored.
    StorageFull = INSUFFICIENT_STORAGE "storage_full";
}

/// A refusal, as the client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// What clients match on.
    pub code: Code,
    /// What happened.
    pub message: String,
    /// What to do about it.
    pub hint: Option<&'static str>,
    /// In how many milliseconds it is worth trying again.
    pub retry_ms: Option<u64>,
}

#[derive(Serialize)]
struct Shape<'a> {
    code: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'static str>,
}

impl ApiError {
    /// A refusal with its message.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None, retry_ms: None }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(self, hint: &'static str) -> Self {
        Self { hint: Some(hint), ..self }
    }

    /// Nothing of this name.
    pub fn not_found(what: &str) -> Self {
        Self::new(Code::NotFound, format!("there is no such {what} here"))
    }

    /// Too many of something.
    pub fn rate_limited(retry_ms: u64) -> Self {
        Self {
            retry_ms: Some(retry_ms),
            ..Self::new(Code::RateLimited, "too many requests; wait a little")
        }
    }

    /// Our bug or a failing disk: the whole story goes to the log, none of it to the client. What
    /// has a name of its own below (full, busy) is told by it.
    pub fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        match chain(error).find_map(condition) {
            Some(Code::StorageFull) => {
                tracing::error!(error = story(error), "the disk is full");
                let message = "the server's disk is full; nothing was stored";
                Self::new(Code::StorageFull, message)
                    .hint("free space on the server and sync again")
            }
            Some(Code::Integrity) => {
                tracing::error!(error = story(error), "what is stored is damaged");
                let message = "something this server keeps for the vault is damaged";
                Self::new(Code::Integrity, message).hint(
                    "the notes here are safe; `cru server check` on the server says what it is",
                )
            }
            Some(code) => Self {
                retry_ms: Some(RETRY_MS),
                ..Self::new(code, "the server is busy with this; try again in a moment")
            },
            None => {
                tracing::error!(error = story(error), "a request failed");
                Self::new(Code::Internal, "the server failed; its log says why")
            }
        }
    }
}

type Cause = dyn std::error::Error + 'static;

/// An error and what it came from.
fn chain(error: &Cause) -> impl Iterator<Item = &Cause> {
    std::iter::successors(Some(error), |error| error.source())
}

fn story(error: &Cause) -> String {
    chain(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// What an error is, if it is neither a bug nor a broken disk. Transparent errors hide what they
/// wrap from [`source`](std::error::Error::source), so they are looked into by name.
fn condition(error: &(dyn std::error::Error + 'static)) -> Option<Code> {
    if let Some(error) = error.downcast_ref::<StoreError>() {
        return match error {
            StoreError::Full { .. } => Some(Code::StorageFull),
            StoreError::Busy { .. } => Some(Code::Unavailable),
            StoreError::Damaged { .. } => Some(Code::Integrity),
            StoreError::Blob(error) => condition(error),
            StoreError::Rule(_) | StoreError::Sqlite { .. } => None,
        };
    }
    if let Some(error) = error.downcast_ref::<blob_store::BlobError>() {
        use blob_store::BlobError as Stored;
        return match error {
            Stored::Full { .. } => Some(Code::StorageFull),
            Stored::Busy { .. } => Some(Code::Unavailable),
            Stored::Missing { .. } | Stored::Offset { .. } | Stored::Mismatch { .. } => None,
            Stored::Io { source, .. } => condition(source),
        };
    }
    if let Some(error) = error.downcast_ref::<staged::EngineError<StoreError>>() {
        return match error {
            staged::EngineError::Repo(error) => condition(error),
            // What is stored names what is not.
            _ => Some(Code::Integrity),
        };
    }
    if let Some(error) = error.downcast_ref::<OpenError>() {
        return match error {
            OpenError::Store(error) => condition(error),
            OpenError::NotOurs { .. } | OpenError::OtherVault { .. } => Some(Code::Integrity),
            OpenError::Missing { .. } | OpenError::TooNew { .. } | OpenError::Io { .. } => None,
        };
    }
    let io = error.downcast_ref::<std::io::Error>()?;
    let full = matches!(io.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
    full.then_some(Code::StorageFull)
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = Shape { code: self.code.as_str(), message: &self.message, hint: self.hint };
        let mut response = (self.code.status(), Json(body)).into_response();
        let headers = response.headers_mut();
        if self.code.status() == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(ms) = self.retry_ms {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(ms.div_ceil(1000)));
        }
        response.extensions_mut().insert(self.code);
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::internal(&error)
    }
}

impl From<VerifyError> for ApiError {
    fn from(error: VerifyError) -> Self {
        let hint = match error {
            VerifyError::Vocabulary => "it may come from a newer release; update the server",
            _ => "join again with a pairing code from a device that is in (`cru invite`)",
        };
        Self::new(Code::Unauthenticated, error.to_string()).hint(hint)
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Expired => Self::new(Code::Expired, denied.to_string())
                .hint("join again with a pairing code from a device that is in (`cru invite`)"),
            Denied::Vault | Denied::Folder | Denied::Access | Denied::Caveat => {
                Self::new(Code::Forbidden, denied.to_string())
                    .hint("ask for an invitation that covers it")
            }
        }
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::ReadOnly => Self::new(Code::Forbidden, error.to_string())
                .hint("ask for an invitation without --read-only"),
            EngineError::Malformed(_) => Self::new(Code::Malformed, story(&error)),
            EngineError::Mismatch(_) => Self::new(Code::HashMismatch, error.to_string()),
            EngineError::TooLarge => Self::new(Code::TooLarge, error.to_string()),
            EngineError::TooOld { .. } => {
                Self::new(Code::ProtocolTooOld, error.to_string()).hint("update the client")
            }
            EngineError::TooNew { .. } => {
                Self::new(Code::ProtocolTooNew, error.to_string()).hint("update the server")
            }
            EngineError::NoSuchVersion => Self::not_found("version"),
            EngineError::Exists(_) => Self::new(Code::Exists, error.to_string())
                .hint("take another name, or move what is there"),
            EngineError::Changed => Self::new(Code::Changed, error.to_string())
                .hint("load the note again, look at what came, and repeat it"),
            EngineError::NoSuchConflict => Self::not_found("conflict"),
            EngineError::Settled => {
                Self::new(Code::Changed, error.to_string()).hint("load the list of conflicts again")
            }
            EngineError::EditedSince(_) => Self::new(Code::Changed, error.to_string())
                .hint("edit it by hand, and keep what is there"),
            EngineError::DeletedSince(_) => Self::new(Code::Changed, error.to_string())
                .hint("bring the note back first, then take the side"),
            EngineError::Store(source) => Self::internal(&*source),
        }
    }
}

impl From<ArchiveError> for ApiError {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::NoVault => Self::not_found("vault"),
            ArchiveError::Store(source) => Self::internal(&*source),
        }
    }
}

impl From<BlobError> for ApiError {
    fn from(error: BlobError) -> Self {
        match error {
            BlobError::WrongOffset { .. } => Self::new(Code::WrongOffset, error.to_string())
                .hint("ask with HEAD how much is here and go on from there"),
            BlobError::Mismatch => Self::new(Code::HashMismatch, error.to_string())
                .hint("the file may have changed while it was sent; send it again"),
            BlobError::Absent => Self::not_found("blob"),
            BlobError::Damaged => Self::new(Code::Integrity, error.to_string())
                .hint("`cru doctor` on a device that has the file sends it again"),
            BlobError::Store(error) => Self::internal(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crucible_core::hash::ContentHash;

    fn blob_io(kind: ErrorKind) -> blob_store::BlobError {
        blob_store::BlobError::Io { place: "/home/anna".into(), source: kind.into() }
    }

    #[test]
    fn codes_are_unique_and_refusals_are_refusals() {
        let codes: BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(codes.len(), Code::ALL.len());
        for code in Code::ALL {
            let status = code.status();
            assert!(status.is_client_error() || status.is_server_error(), "{code:?}");
        }
    }

    #[test]
    fn the_protocol_page_lists_every_code() {
        let page = include_str!("../../../docs/protocol.md");
        for code in Code::ALL {
            assert!(page.contains(&format!("`{}`", code.as_str())), "{code:?} is not described");
        }
    }

    #[test]
    fn a_full_disk_is_told_from_a_bug_however_deep_it_lies() {
        let path = || std::path::PathBuf::from("/home/anna");
        let full = || StoreError::Full { path: path() };
        let below = |error| ApiError::from(EngineError::Store(error));
        for refused in [
            ApiError::from(BlobError::from(blob_io(ErrorKind::StorageFull))),
            ApiError::from(full()),
            below(Box::new(full())),
            below(Box::new(OpenError::Store(full()))),
            below(Box::new(OpenError::Io { path: path(), source: ErrorKind::StorageFull.into() })),
            below(Box::new(staged::EngineError::Repo(full()))),
            below(Box::new(StoreError::Blob(blob_store::BlobError::Full {
                place: "/home/anna".into(),
            }))),
        ] {
            assert_eq!(refused.code, Code::StorageFull);
            assert!(!refused.message.contains("anna"));
        }
        let busy = below(Box::new(StoreError::Busy { path: path() }));
        assert_eq!((busy.code, busy.retry_ms), (Code::Unavailable, Some(RETRY_MS)));
        let busy = blob_store::BlobError::Busy { hash: ContentHash::of_blob(b"x") };
        assert_eq!(ApiError::from(BlobError::from(busy)).code, Code::Unavailable);
        let broken = ApiError::from(BlobError::from(blob_io(ErrorKind::Other)));
        assert_eq!(broken.code, Code::Internal);
        assert!(!broken.message.contains("anna"));
        let damaged = StoreError::Damaged { path: path(), what: "pages are in order" };
        for refused in [
            below(Box::new(staged::EngineError::Repo(damaged))),
            below(Box::new(OpenError::NotOurs { path: path() })),
        ] {
            assert_eq!(refused.code, Code::Integrity);
            assert!(!refused.message.contains("anna"));
        }
    }
}
