//! Backups of a running server: a consistent copy of each vault, taken while it is in use.
//!
//! Invariant: the copy of a database is one moment of it, and every blob it names is in the copy.
//! To restore, stop the server, put the copy in the place of the folder, start it: devices whose
//! last common root it does not know walk the tree and send what it lacks.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::blob_store::BlobStore;
use crate::error::{Fault, StoreError};
use crate::server_vault::{BLOBS, ServerVault, VAULT_DB};

/// Why a backup was not made; what was written of it is left behind, incomplete.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is something at the target already.
    #[error("{} is there already", path.display())]
    Exists {
        /// The target.
        path: PathBuf,
    },
    /// The target cannot be written.
    #[error("{} cannot be written", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a backup holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BackedUp {
    /// Size of the database's copy.
    pub database_bytes: u64,
    /// Blobs copied or linked.
    pub blobs: u64,
}

impl ServerVault {
    /// Copies the vault into `folder`, which must not be there: `vault.db` (compacted) and
    /// `blobs/`. Rounds of other connections go on meanwhile.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn backup(&self, folder: &Path) -> Result<BackedUp, BackupError> {
        if folder.exists() {
            return Err(BackupError::Exists { path: folder.to_owned() });
        }
        fs::create_dir_all(folder).map_err(failed(folder))?;
        let database = folder.join(VAULT_DB);
        copy_database(&self.db.conn, self.path(), &database)?;
        // The database first: a blob is stored before the version that names it, so all that
        // the copy names are there by now.
        let blobs = self.copy_blobs(&folder.join(BLOBS))?;
        sync(folder)?;
        let copy = fs::metadata(&database).map_err(failed(&database))?;
        Ok(BackedUp { database_bytes: copy.len(), blobs })
    }

    fn copy_blobs(&self, folder: &Path) -> Result<u64, BackupError> {
        let source = self.blobs();
        let copy = crate::blob_store::FileBlobs::new(folder);
        let mut after = None;
        let mut count = 0;
        loop {
            let page = source.list(after.as_ref(), 1000).map_err(StoreError::from)?;
            let Some(last) = page.last() else { return Ok(count) };
            after = Some(last.hash);
            for blob in page {
                let mut bytes = BlobReader { source: &**source, hash: blob.hash, offset: 0 };
                copy.put(&blob.hash, &mut bytes).map_err(StoreError::from)?;
                count += 1;
            }
        }
    }
}

/// Copies any of our databases while it is in use: one moment of it, without its free pages.
///
/// # Errors
/// [`BackupError`].
pub fn copy_database(conn: &Connection, from: &Path, to: &Path) -> Result<(), BackupError> {
    if to.exists() {
        return Err(BackupError::Exists { path: to.to_owned() });
    }
    let target = to.to_str().ok_or_else(|| {
        failed(to)(io::Error::new(io::ErrorKind::InvalidInput, "the path is not UTF-8"))
    })?;
    conn.execute("VACUUM INTO ?1", [target]).map_err(|error| Fault::from(error).at(from))?;
    sync(to)
}

fn sync(path: &Path) -> Result<(), BackupError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(failed(path))
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    |source| BackupError::Io { path, source }
}

/// A blob as a stream.
struct BlobReader<'s> {
    source: &'s dyn BlobStore,
    hash: crucible_core::hash::ContentHash,
    offset: u64,
}

impl io::Read for BlobReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let piece = self.source.read(&self.hash, self.offset, into.len());
        let piece = piece.map_err(io::Error::other)?;
        into[..piece.len()].copy_from_slice(&piece);
        self.offset += piece.len() as u64;
        Ok(piece.len())
    }
}
