//! `Link`: the other side of a round, whatever carries it. Rounds, walks and blobs go over it;
//! what they say is decided by `sync`, how often they are tried again by the link itself.

use std::io::{self, Read};

use crucible_core::hash::ContentHash;
use crucible_core::id::VersionId;

/// What went over a link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Requests, walks and blobs included.
    pub requests: u64,
    /// Body bytes sent.
    pub bytes_up: u64,
    /// Body bytes received.
    pub bytes_down: u64,
}

/// Why the other side did not answer as asked.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No connection, or cut before the answer was whole.
    #[error("{place} cannot be reached: {reason}")]
    Unreachable {
        /// Which server or peer.
        place: String,
        /// The system's or the library's words.
        reason: String,
    },
    /// No token, or one that is wrong, expired or revoked.
    #[error("{place} does not accept this device's token: {message}")]
    Unauthorized {
        /// Which server.
        place: String,
        /// Its words.
        message: String,
    },
    /// The token does not allow this.
    #[error("{place} does not allow this: {message}")]
    Forbidden {
        /// Which server.
        place: String,
        /// Its words.
        message: String,
    },
    /// The two speak no common protocol version.
    #[error("{place} speaks another protocol version: {message}")]
    Protocol {
        /// Which server.
        place: String,
        /// Its words.
        message: String,
    },
    /// Any other refusal with a stable code.
    #[error("{place} refused: {message} ({code})")]
    Refused {
        /// Which server.
        place: String,
        /// Stable, see docs/protocol.md.
        code: String,
        /// Its words.
        message: String,
        /// What to do next, in its words.
        hint: String,
    },
    /// An answer that is none.
    #[error("{place} answered something that is no answer: {reason}")]
    Malformed {
        /// Which server.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// This side's disk, while a blob was read or written.
    #[error("a file could not be read or written on the way: {0}")]
    Disk(#[from] io::Error),
}

/// Opens the bytes of a blob from an offset on.
pub type OpenBlob<'b> = &'b mut dyn FnMut(u64) -> io::Result<Box<dyn Read>>;
/// Takes the next bytes of a blob.
pub type BlobSink<'b> = &'b mut dyn FnMut(&[u8]) -> io::Result<()>;

/// An ordered way to one other side.
pub trait Link {
    /// Sends a round's body, gives back the answer's (`proto::message`).
    ///
    /// # Errors
    /// [`LinkError`]; the round may have been stored all the same, so it is repeated as it was.
    fn round(&mut self, body: &[u8]) -> Result<Vec<u8>, LinkError>;

    /// Sends one step of a walk, gives back the other side's (`core::merkle::walk`).
    ///
    /// # Errors
    /// [`LinkError`].
    fn walk(&mut self, body: &[u8]) -> Result<Vec<u8>, LinkError>;

    /// Which of these blobs the other side has not.
    ///
    /// # Errors
    /// [`LinkError`].
    fn missing_blobs(&mut self, hashes: &[ContentHash]) -> Result<Vec<ContentHash>, LinkError>;

    /// Which of these versions the other side does not know.
    ///
    /// # Errors
    /// [`LinkError`].
    fn missing_versions(&mut self, versions: &[VersionId]) -> Result<Vec<VersionId>, LinkError>;

    /// Sends a blob, going on where an earlier attempt was cut.
    ///
    /// # Errors
    /// [`LinkError`].
    fn put_blob(
        &mut self,
        hash: &ContentHash,
        bytes: u64,
        open: OpenBlob<'_>,
    ) -> Result<(), LinkError>;

    /// Fetches a blob from `offset` on. The caller verifies the hash.
    ///
    /// # Errors
    /// [`LinkError`]; what arrived before stays with the caller.
    fn get_blob(
        &mut self,
        hash: &ContentHash,
        offset: u64,
        sink: BlobSink<'_>,
    ) -> Result<(), LinkError>;

    /// What went over it so far.
    fn traffic(&self) -> Traffic;
}
