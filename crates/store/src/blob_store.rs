//! Large assets by hash, behind a trait that an object store can implement too.
//!
//! Invariant: a blob is there as a whole and under its own hash, or not there; what arrives is
//! collected apart and becomes visible at once, after its hash was checked. [`FileBlobs`] keeps
//! them in files.

use std::io;

use crucible_core::hash::ContentHash;

pub use crate::file_blobs::FileBlobs;

/// Why a blob could not be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// There is none with this hash.
    #[error("blob {} is not stored", hash.short())]
    Missing {
        /// Which.
        hash: ContentHash,
    },
    /// A piece does not continue what has arrived; the sender goes on from `received`.
    #[error("blob {} has {received} bytes so far", hash.short())]
    Offset {
        /// Which.
        hash: ContentHash,
        /// How many bytes have arrived.
        received: u64,
    },
    /// The bytes have another hash; they are thrown away and the sender begins again.
    #[error("the bytes of blob {} have another hash", hash.short())]
    Mismatch {
        /// What they should have had.
        hash: ContentHash,
    },
    /// Another sender is sending the same blob at this moment.
    #[error("blob {} is being received already", hash.short())]
    Busy {
        /// Which.
        hash: ContentHash,
    },
    /// No room left.
    #[error("the disk that holds {place} is full")]
    Full {
        /// A file, or what stands for it elsewhere.
        place: String,
    },
    /// The storage fails.
    #[error("{place} cannot be read or written")]
    Io {
        /// A file, or what stands for it elsewhere.
        place: String,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
}

/// A stored blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlobEntry {
    /// Of its bytes.
    pub hash: ContentHash,
    /// Its size.
    pub bytes: u64,
    /// When it became visible, milliseconds since 1970.
    pub stored_ms: u64,
}

/// Whole blobs, and blobs that are arriving. Calls on different blobs never wait for each other.
pub trait BlobStore: Send + Sync {
    /// What is stored under a hash, `None` when nothing is.
    fn entry(&self, hash: &ContentHash) -> Result<Option<BlobEntry>, BlobError>;

    /// The size of a stored blob, `None` when it is not there.
    fn size(&self, hash: &ContentHash) -> Result<Option<u64>, BlobError> {
        Ok(self.entry(hash)?.map(|entry| entry.bytes))
    }

    /// At most `bytes_max` bytes from `offset`; none at or beyond the end.
    ///
    /// # Errors
    /// [`BlobError::Missing`].
    fn read(&self, hash: &ContentHash, offset: u64, bytes_max: usize)
    -> Result<Vec<u8>, BlobError>;

    /// How many bytes of a blob that is arriving are here: where its sender goes on.
    fn received(&self, hash: &ContentHash) -> Result<u64, BlobError>;

    /// Adds a piece at `offset`, which must be [`Self::received`]; tells the new number. Not
    /// durable before [`Self::finish`].
    ///
    /// # Errors
    /// [`BlobError::Offset`], [`BlobError::Busy`], [`BlobError::Full`].
    fn append(&self, hash: &ContentHash, offset: u64, piece: &[u8]) -> Result<u64, BlobError>;

    /// Checks that all `bytes` have arrived and have the hash, and makes the blob visible and
    /// durable, in that order. A blob that is there already stays.
    ///
    /// # Errors
    /// [`BlobError::Offset`], [`BlobError::Mismatch`].
    fn finish(&self, hash: &ContentHash, bytes: u64) -> Result<(), BlobError>;

    /// Throws away what has arrived of a blob.
    fn abandon(&self, hash: &ContentHash) -> Result<(), BlobError>;

    /// Takes a stored blob whose bytes are no longer its own out of the way, so that it can arrive
    /// again; what is left of it is kept aside for a person.
    fn set_aside(&self, hash: &ContentHash) -> Result<(), BlobError>;

    /// Whether a blob was set aside and has not arrived again.
    fn is_aside(&self, hash: &ContentHash) -> Result<bool, BlobError>;

    /// Deletes a stored blob; one that is not there is no error.
    fn remove(&self, hash: &ContentHash) -> Result<(), BlobError>;

    /// Stored blobs in order of their hash, those after `after`; at most `limit`.
    fn list(&self, after: Option<&ContentHash>, limit: usize) -> Result<Vec<BlobEntry>, BlobError>;

    /// Throws away what arrived before `before_ms` and was never finished; tells how many blobs.
    fn abandon_older(&self, before_ms: u64) -> Result<u64, BlobError>;

    /// Whether the stored bytes still have their hash.
    ///
    /// # Errors
    /// [`BlobError::Missing`].
    fn verify(&self, hash: &ContentHash) -> Result<bool, BlobError> {
        let mut hasher = crucible_core::hash::BlobHasher::new();
        let mut offset = 0;
        loop {
            let piece = self.read(hash, offset, PIECE_BYTES)?;
            if piece.is_empty() {
                return Ok(hasher.finish() == *hash);
            }
            hasher.update(&piece);
            offset += piece.len() as u64;
        }
    }

    /// Stores a blob that is in memory or in a file, unless it is there.
    ///
    /// # Errors
    /// [`BlobError::Mismatch`] when it has another hash; [`BlobError::Io`] of `source`.
    fn put(&self, hash: &ContentHash, source: &mut dyn io::Read) -> Result<(), BlobError> {
        if self.size(hash)?.is_some() {
            return Ok(());
        }
        self.abandon(hash)?;
        let mut piece = vec![0; PIECE_BYTES];
        let mut offset = 0;
        loop {
            let count = source.read(&mut piece).map_err(|source| BlobError::Io {
                place: format!("the source of blob {}", hash.short()),
                source,
            })?;
            if count == 0 {
                return self.finish(hash, offset);
            }
            offset = self.append(hash, offset, &piece[..count])?;
        }
    }
}

/// What is read or hashed at a time.
pub const PIECE_BYTES: usize = 256 << 10;
