//! Blobs in files: `ab/ab12…` once whole, `partial/ab12…` while they arrive, `damaged/ab12…` when
//! the disk changed them.
//!
//! Invariant: a file under its final name is complete, has its hash and is on the disk: it is
//! written apart, checked, synced, renamed, and its folder is synced.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use crucible_core::hash::{BlobHasher, ContentHash};

use crate::blob_store::{BlobEntry, BlobError, BlobStore, PIECE_BYTES};

/// The folder of what is arriving.
const PARTIAL: &str = "partial";
/// The folder of what was set aside.
const DAMAGED: &str = "damaged";

/// Blobs as files below one folder.
#[derive(Debug, Clone)]
pub struct FileBlobs {
    folder: PathBuf,
}

impl FileBlobs {
    /// Keeps blobs below `folder`, which is made when the first one arrives.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The file of a stored blob.
    pub fn path(&self, hash: &ContentHash) -> PathBuf {
        let name = hash.to_string();
        self.folder.join(&name[..2]).join(name)
    }

    fn damaged(&self, hash: &ContentHash) -> PathBuf {
        self.folder.join(DAMAGED).join(hash.to_string())
    }

    fn partial(&self, hash: &ContentHash) -> PathBuf {
        self.folder.join(PARTIAL).join(hash.to_string())
    }

    /// Opens what has arrived, for this caller alone.
    fn open_partial(&self, hash: &ContentHash, create: bool) -> Result<Option<File>, BlobError> {
        let path = self.partial(hash);
        if create {
            make_folder(path.parent().expect("partials lie in a folder"))?;
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(create).truncate(false);
        let Some(file) = present(&path, options.open(&path))? else { return Ok(None) };
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Err(BlobError::Busy { hash: *hash }),
            Err(TryLockError::Error(error)) => Err(failed(&path)(error)),
        }
    }
}

impl BlobStore for FileBlobs {
    fn entry(&self, hash: &ContentHash) -> Result<Option<BlobEntry>, BlobError> {
        let path = self.path(hash);
        let Some(found) = present(&path, fs::metadata(&path))? else { return Ok(None) };
        let stored_ms = modified_ms(&found).map_err(failed(&path))?;
        Ok(Some(BlobEntry { hash: *hash, bytes: found.len(), stored_ms }))
    }

    fn read(
        &self,
        hash: &ContentHash,
        offset: u64,
        bytes_max: usize,
    ) -> Result<Vec<u8>, BlobError> {
        let path = self.path(hash);
        let file = present(&path, File::open(&path))?;
        let mut file = file.ok_or(BlobError::Missing { hash: *hash })?;
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(offset))
            .and_then(|_| file.take(bytes_max as u64).read_to_end(&mut bytes))
            .map_err(failed(&path))?;
        Ok(bytes)
    }

    fn received(&self, hash: &ContentHash) -> Result<u64, BlobError> {
        let path = self.partial(hash);
        Ok(present(&path, fs::metadata(&path))?.map_or(0, |found| found.len()))
    }

    fn append(&self, hash: &ContentHash, offset: u64, piece: &[u8]) -> Result<u64, BlobError> {
        let path = self.partial(hash);
        let file = self.open_partial(hash, true)?;
        let mut file = file.expect("a file opened to be created is there");
        let received = file.seek(SeekFrom::End(0)).map_err(failed(&path))?;
        if received != offset {
            return Err(BlobError::Offset { hash: *hash, received });
        }
        file.write_all(piece).map_err(failed(&path))?;
        Ok(received + piece.len() as u64)
    }

    fn finish(&self, hash: &ContentHash, bytes: u64) -> Result<(), BlobError> {
        if self.size(hash)?.is_some() {
            return self.abandon(hash);
        }
        let path = self.partial(hash);
        // A blob of no bytes has had no piece.
        let file = self.open_partial(hash, bytes == 0)?;
        let mut file = file.ok_or(BlobError::Offset { hash: *hash, received: 0 })?;
        let received = file.metadata().map_err(failed(&path))?.len();
        if received != bytes {
            return Err(BlobError::Offset { hash: *hash, received });
        }
        if hash_file(&mut file).map_err(failed(&path))? != *hash {
            fs::remove_file(&path).map_err(failed(&path))?;
            return Err(BlobError::Mismatch { hash: *hash });
        }
        file.sync_all().map_err(failed(&path))?;
        let target = self.path(hash);
        let folder = target.parent().expect("blobs lie in a folder");
        make_folder(folder)?;
        fs::rename(&path, &target).map_err(failed(&target))?;
        sync_folder(folder)?;
        let aside = self.damaged(hash);
        present(&aside, fs::remove_file(&aside)).map(|_| ())
    }

    fn abandon(&self, hash: &ContentHash) -> Result<(), BlobError> {
        let path = self.partial(hash);
        present(&path, fs::remove_file(&path)).map(|_| ())
    }

    fn set_aside(&self, hash: &ContentHash) -> Result<(), BlobError> {
        let (path, aside) = (self.path(hash), self.damaged(hash));
        make_folder(aside.parent().expect("what was set aside lies in a folder"))?;
        // Somebody else may have been faster.
        present(&path, fs::rename(&path, &aside)).map(|_| ())
    }

    fn is_aside(&self, hash: &ContentHash) -> Result<bool, BlobError> {
        let aside = self.damaged(hash);
        Ok(present(&aside, fs::metadata(&aside))?.is_some())
    }

    fn remove(&self, hash: &ContentHash) -> Result<(), BlobError> {
        let path = self.path(hash);
        present(&path, fs::remove_file(&path)).map(|_| ())
    }

    fn list(&self, after: Option<&ContentHash>, limit: usize) -> Result<Vec<BlobEntry>, BlobError> {
        let first = after.map_or(0, |hash| hash.as_bytes()[0]);
        let mut entries = Vec::new();
        for fan in first..=u8::MAX {
            let folder = self.folder.join(format!("{fan:02x}"));
            let mut here = Vec::new();
            for (path, hash) in files_in(&folder)? {
                if after.is_none_or(|after| hash > *after)
                    && path == self.path(&hash)
                    && let Some(entry) = self.entry(&hash)?
                {
                    here.push(entry);
                }
            }
            here.sort_unstable();
            entries.extend(here);
            if entries.len() >= limit {
                entries.truncate(limit);
                break;
            }
        }
        Ok(entries)
    }

    fn abandon_older(&self, before_ms: u64) -> Result<u64, BlobError> {
        let mut abandoned = 0;
        for (path, hash) in files_in(&self.folder.join(PARTIAL))? {
            let Some(found) = present(&path, fs::metadata(&path))? else { continue };
            if modified_ms(&found).map_err(failed(&path))? < before_ms {
                self.abandon(&hash)?;
                abandoned += 1;
            }
        }
        Ok(abandoned)
    }
}

/// The files in `folder` whose names are hashes; none when there is no folder.
fn files_in(folder: &Path) -> Result<Vec<(PathBuf, ContentHash)>, BlobError> {
    let Some(entries) = present(folder, fs::read_dir(folder))? else { return Ok(Vec::new()) };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed(folder))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(hash) = name.and_then(|name| name.parse().ok()) {
            files.push((path, hash));
        }
    }
    Ok(files)
}

fn hash_file(file: &mut File) -> io::Result<ContentHash> {
    file.seek(SeekFrom::Start(0))?;
    let mut hasher = BlobHasher::new();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(&piece[..count]),
        }
    }
}

fn modified_ms(found: &fs::Metadata) -> io::Result<u64> {
    let since = found.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Makes `folder` and its parents, each durable in its own parent.
fn make_folder(folder: &Path) -> Result<(), BlobError> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_folder(parent)?;
        match fs::create_dir(folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(failed(folder)(error));
            }
            _ => return sync_folder(parent),
        }
    }
    fs::create_dir_all(folder).map_err(failed(folder))
}

fn sync_folder(folder: &Path) -> Result<(), BlobError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed(folder))
}

/// Turns "not found" into `None`.
fn present<T>(path: &Path, result: io::Result<T>) -> Result<Option<T>, BlobError> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path)(error)),
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> BlobError {
    let place = path.display().to_string();
    |source| match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => BlobError::Full { place },
        _ => BlobError::Io { place, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, FileBlobs) {
        let folder = tempfile::tempdir().unwrap();
        let blobs = FileBlobs::new(folder.path().join("blobs"));
        (folder, blobs)
    }

    #[test]
    fn a_blob_arrives_in_pieces_and_is_visible_only_when_whole() {
        let (_folder, blobs) = store();
        let hash = ContentHash::of_blob(b"one two");
        assert_eq!(blobs.append(&hash, 0, b"one ").unwrap(), 4);
        assert_eq!(blobs.received(&hash).unwrap(), 4);
        assert_eq!(blobs.size(&hash).unwrap(), None);
        let early = blobs.finish(&hash, 7);
        assert!(matches!(early, Err(BlobError::Offset { received: 4, .. })), "{early:?}");
        let gap = blobs.append(&hash, 5, b"wo");
        assert!(matches!(gap, Err(BlobError::Offset { received: 4, .. })), "{gap:?}");
        blobs.append(&hash, 4, b"two").unwrap();
        blobs.finish(&hash, 7).unwrap();
        assert_eq!(blobs.size(&hash).unwrap(), Some(7));
        assert_eq!(blobs.received(&hash).unwrap(), 0);
        assert_eq!(blobs.read(&hash, 4, 2).unwrap(), b"tw");
        assert_eq!(blobs.read(&hash, 7, 2).unwrap(), b"");
        assert!(blobs.verify(&hash).unwrap());
    }

    #[test]
    fn bytes_with_another_hash_never_become_a_blob() {
        let (_folder, blobs) = store();
        let hash = ContentHash::of_blob(b"right");
        blobs.append(&hash, 0, b"wrong").unwrap();
        assert!(matches!(blobs.finish(&hash, 5), Err(BlobError::Mismatch { .. })));
        assert_eq!(blobs.size(&hash).unwrap(), None);
        assert_eq!(blobs.received(&hash).unwrap(), 0);
        blobs.put(&hash, &mut &b"right"[..]).unwrap();
        assert_eq!(blobs.read(&hash, 0, 99).unwrap(), b"right");
    }

    #[test]
    fn what_was_set_aside_is_no_blob_and_can_arrive_again() {
        let (folder, blobs) = store();
        let hash = ContentHash::of_blob(b"right");
        blobs.put(&hash, &mut &b"right"[..]).unwrap();
        fs::write(blobs.path(&hash), b"rotten").unwrap();
        assert!(!blobs.verify(&hash).unwrap());
        blobs.set_aside(&hash).unwrap();
        blobs.set_aside(&hash).unwrap();
        assert_eq!((blobs.size(&hash).unwrap(), blobs.is_aside(&hash).unwrap()), (None, true));
        assert_eq!(blobs.list(None, 9).unwrap(), []);
        let aside = folder.path().join("blobs/damaged").join(hash.to_string());
        assert_eq!(fs::read(aside).unwrap(), b"rotten");
        blobs.put(&hash, &mut &b"right"[..]).unwrap();
        assert!(blobs.verify(&hash).unwrap() && !blobs.is_aside(&hash).unwrap());
    }

    #[test]
    fn two_senders_of_one_blob_do_not_mix() {
        let (_folder, blobs) = store();
        let hash = ContentHash::of_blob(b"x");
        let _held = blobs.open_partial(&hash, true).unwrap().unwrap();
        assert!(matches!(blobs.append(&hash, 0, b"x"), Err(BlobError::Busy { .. })));
    }

    #[test]
    fn blobs_are_listed_in_order_page_by_page_and_removed() {
        let (_folder, blobs) = store();
        let mut hashes: Vec<_> = (0..40u8)
            .map(|byte| {
                let hash = ContentHash::of_blob(&[byte]);
                blobs.put(&hash, &mut &[byte][..]).unwrap();
                hash
            })
            .collect();
        hashes.sort_unstable();
        let mut listed: Vec<ContentHash> = Vec::new();
        loop {
            let page = blobs.list(listed.last(), 7).unwrap();
            if page.is_empty() {
                break;
            }
            listed.extend(page.iter().map(|entry| entry.hash));
        }
        assert_eq!(listed, hashes);
        blobs.remove(&hashes[0]).unwrap();
        blobs.remove(&hashes[0]).unwrap();
        assert!(matches!(blobs.read(&hashes[0], 0, 1), Err(BlobError::Missing { .. })));
    }

    #[test]
    fn an_empty_blob_is_a_blob_and_old_leftovers_go() {
        let (_folder, blobs) = store();
        let empty = ContentHash::of_blob(b"");
        blobs.put(&empty, &mut io::empty()).unwrap();
        assert_eq!(blobs.size(&empty).unwrap(), Some(0));
        let left = ContentHash::of_blob(b"left");
        blobs.append(&left, 0, b"le").unwrap();
        assert_eq!(blobs.abandon_older(0).unwrap(), 0);
        assert_eq!(blobs.abandon_older(u64::MAX).unwrap(), 1);
        assert_eq!(blobs.received(&left).unwrap(), 0);
    }
}
