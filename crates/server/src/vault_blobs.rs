//! The blobs of every vault, each in the folder of its vault: `store`'s files behind the shell.

use std::io;

use crucible_core::hash::ContentHash;
use crucible_core::id::VaultId;
use crucible_store::blob_store::{self, BlobStore, FileBlobs};
use crucible_store::server_vault::{BLOBS, ServerVaults};

use crate::blobs::{BlobError, Blobs};

/// Blobs beside the databases of the vaults.
#[derive(Debug, Clone)]
pub struct VaultBlobs {
    vaults: ServerVaults,
}

impl VaultBlobs {
    /// Of these vaults.
    pub fn new(vaults: ServerVaults) -> Self {
        Self { vaults }
    }

    fn of(&self, vault: &VaultId) -> FileBlobs {
        FileBlobs::new(self.vaults.folder(vault).join(BLOBS))
    }
}

impl Blobs for VaultBlobs {
    fn size(&self, vault: &VaultId, hash: &ContentHash) -> Result<Option<u64>, BlobError> {
        self.of(vault).size(hash).map_err(shown)
    }

    fn read(
        &self,
        vault: &VaultId,
        hash: &ContentHash,
        offset: u64,
        len: usize,
    ) -> Result<Vec<u8>, BlobError> {
        let mut bytes = self.of(vault).read(hash, offset, len).map_err(shown)?;
        // A store may give less at a time; fewer bytes here mean the end.
        while bytes.len() < len {
            let at = offset + bytes.len() as u64;
            let more = self.of(vault).read(hash, at, len - bytes.len()).map_err(shown)?;
            if more.is_empty() {
                break;
            }
            bytes.extend_from_slice(&more);
        }
        Ok(bytes)
    }

    fn received(&self, vault: &VaultId, hash: &ContentHash) -> Result<u64, BlobError> {
        self.of(vault).received(hash).map_err(shown)
    }

    fn append(
        &self,
        vault: &VaultId,
        hash: &ContentHash,
        offset: u64,
        piece: &[u8],
    ) -> Result<(), BlobError> {
        let blobs = self.of(vault);
        blobs.append(hash, offset, piece).map(drop).map_err(|error| match error {
            blob_store::BlobError::Busy { .. } => match blobs.received(hash) {
                Ok(have) => BlobError::WrongOffset { have },
                Err(error) => shown(error),
            },
            other => shown(other),
        })
    }

    fn finish(&self, vault: &VaultId, hash: &ContentHash, bytes: u64) -> Result<(), BlobError> {
        self.of(vault).finish(hash, bytes).map_err(shown)
    }
}

fn shown(error: blob_store::BlobError) -> BlobError {
    use blob_store::BlobError as Stored;
    match error {
        Stored::Missing { .. } => BlobError::Absent,
        Stored::Offset { received, .. } => BlobError::WrongOffset { have: received },
        Stored::Mismatch { .. } => BlobError::Mismatch,
        Stored::Full { .. } => BlobError::Io(io::ErrorKind::StorageFull.into()),
        error @ Stored::Busy { .. } => BlobError::Io(io::Error::other(error)),
        Stored::Io { source, .. } => BlobError::Io(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_of_one_vault_is_not_in_another_and_parts_are_checked() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = VaultBlobs::new(ServerVaults::new(folder.path()));
        let (here, there) = (VaultId::from_bytes([1; 16]), VaultId::from_bytes([2; 16]));
        let bytes: Vec<u8> = (0..600_000_u32).map(|n| (n % 251) as u8).collect();
        let hash = ContentHash::of_blob(&bytes);
        assert!(matches!(blobs.read(&here, &hash, 0, 9), Err(BlobError::Absent)));
        blobs.append(&here, &hash, 0, &bytes[..1000]).unwrap();
        let wrong = blobs.append(&here, &hash, 7, &bytes[7..]);
        assert!(matches!(wrong, Err(BlobError::WrongOffset { have: 1000 })));
        blobs.append(&here, &hash, 1000, &bytes[1000..]).unwrap();
        assert_eq!(blobs.size(&here, &hash).unwrap(), None, "not visible before it is verified");
        blobs.finish(&here, &hash, bytes.len() as u64).unwrap();
        assert_eq!(blobs.size(&here, &hash).unwrap(), Some(600_000));
        assert_eq!(blobs.read(&here, &hash, 10, 500_000).unwrap(), bytes[10..500_010]);
        assert_eq!(blobs.read(&here, &hash, 599_990, 100).unwrap(), bytes[599_990..]);
        assert_eq!(blobs.size(&there, &hash).unwrap(), None);
    }
}
