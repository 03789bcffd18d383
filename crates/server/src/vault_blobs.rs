//! The blobs of every vault, each in the folder of its vault: `store`'s files behind the shell.
//!
//! Invariant: a blob is read only if its file was found to have its hash since this server began
//! and has not been written since; one that has not is set aside, and can arrive again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crucible_core::hash::ContentHash;
use crucible_core::id::VaultId;
use crucible_store::blob_store::{self, BlobEntry, BlobStore, FileBlobs};
use crucible_store::server_vault::{BLOBS, ServerVaults};

use crate::blobs::{BlobError, Blobs};

/// Blobs remembered to be sound; one more, and all are looked at again.
const SOUND_MAX: usize = 65_536;

/// Blobs beside the databases of the vaults.
#[derive(Debug)]
pub struct VaultBlobs {
    vaults: ServerVaults,
    /// As they were when they were found to be sound.
    sound: Mutex<HashMap<(VaultId, ContentHash), BlobEntry>>,
}

impl VaultBlobs {
    /// Of these vaults.
    pub fn new(vaults: ServerVaults) -> Self {
        Self { vaults, sound: Mutex::default() }
    }

    fn of(&self, vault: &VaultId) -> FileBlobs {
        FileBlobs::new(self.vaults.folder(vault).join(BLOBS))
    }

    fn sound(&self) -> MutexGuard<'_, HashMap<(VaultId, ContentHash), BlobEntry>> {
        // A map of plain values is whole after any panic.
        self.sound.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn found_sound(&self, vault: &VaultId, entry: BlobEntry) {
        let mut sound = self.sound();
        if sound.len() >= SOUND_MAX {
            sound.clear();
        }
        sound.insert((*vault, entry.hash), entry);
    }
}

impl Blobs for VaultBlobs {
    fn size(&self, vault: &VaultId, hash: &ContentHash) -> Result<Option<u64>, BlobError> {
        let blobs = self.of(vault);
        let Some(entry) = blobs.entry(hash)? else {
            return if blobs.is_aside(hash)? { Err(BlobError::Damaged) } else { Ok(None) };
        };
        if self.sound().get(&(*vault, *hash)) == Some(&entry) {
            return Ok(Some(entry.bytes));
        }
        if blobs.verify(hash)? {
            self.found_sound(vault, entry);
            return Ok(Some(entry.bytes));
        }
        let file = blobs.path(hash);
        tracing::error!(file = %file.display(), "a stored file is damaged and was set aside");
        blobs.set_aside(hash)?;
        Err(BlobError::Damaged)
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
        let blobs = self.of(vault);
        blobs.finish(hash, bytes).map_err(shown)?;
        // It was hashed just now.
        if let Some(entry) = blobs.entry(hash)? {
            self.found_sound(vault, entry);
        }
        Ok(())
    }
}

fn shown(error: blob_store::BlobError) -> BlobError {
    use blob_store::BlobError as Stored;
    match error {
        Stored::Missing { .. } => BlobError::Absent,
        Stored::Offset { received, .. } => BlobError::WrongOffset { have: received },
        Stored::Mismatch { .. } => BlobError::Mismatch,
        error @ (Stored::Busy { .. } | Stored::Full { .. } | Stored::Io { .. }) => {
            BlobError::Store(error)
        }
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

    #[test]
    fn a_blob_that_the_disk_changed_is_not_given_out_and_can_arrive_again() {
        let folder = tempfile::tempdir().unwrap();
        let vaults = ServerVaults::new(folder.path());
        let vault = VaultId::from_bytes([1; 16]);
        let (bytes, hash) = (b"a picture", ContentHash::of_blob(b"a picture"));
        let file = FileBlobs::new(vaults.folder(&vault).join(BLOBS)).path(&hash);
        for damage in [&b"a picturf"[..], b"a pic", b""] {
            let blobs = VaultBlobs::new(vaults.clone());
            blobs.append(&vault, &hash, 0, bytes).unwrap();
            blobs.finish(&vault, &hash, 9).unwrap();
            assert_eq!(blobs.size(&vault, &hash).unwrap(), Some(9));
            std::fs::write(&file, damage).unwrap();
            let later = VaultBlobs::new(vaults.clone());
            for _ in 0..2 {
                let refused = later.size(&vault, &hash);
                assert!(matches!(refused, Err(BlobError::Damaged)), "{refused:?}");
            }
            let read = later.read(&vault, &hash, 0, 9);
            assert!(matches!(read, Err(BlobError::Absent)), "{read:?}");
        }
    }
}
