//! What a file on the disk is: `core::identity` says it of bytes in memory.
//!
//! Invariant: the same bytes under the same name give the same [`Identity`] in memory and on disk.

use std::io::{self, Read};

use crucible_core::hash::BlobHasher;
pub use crucible_core::identity::{Identity, Naming, identify};
use crucible_core::limits::NOTE_BYTES_MAX;
use crucible_core::version::Kind;

use crate::fs::{FileSystem, Stat};

/// How much of an asset is in memory at once.
const PIECE_BYTES: usize = 128 << 10;

/// Identifies the file at `at`, whose bytes belong to a note or asset named like `naming`.
/// Holds at most a note, or one piece of an asset, in memory.
///
/// # Errors
/// The system's; `FileTooLarge` when a note grew beyond its bound while it was read.
pub fn identify_file<F: FileSystem>(fs: &F, at: &str, naming: Naming) -> io::Result<Identity> {
    let stat = fs.stat(at)?;
    identify_sized(fs, at, naming, &stat)
}

/// Like [`identify_file`] for a file already looked at.
pub(crate) fn identify_sized<F: FileSystem>(
    fs: &F,
    at: &str,
    naming: Naming,
    stat: &Stat,
) -> io::Result<Identity> {
    if naming == Naming::Markdown && stat.size <= NOTE_BYTES_MAX {
        return Ok(identify(&fs.read(at, NOTE_BYTES_MAX)?, naming));
    }
    let mut reader = fs.open(at)?;
    let mut hasher = BlobHasher::new();
    let mut bytes = 0;
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match reader.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => {
                hasher.update(&piece[..count]);
                bytes += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Identity { hash: hasher.finish(), kind: Kind::Asset, bytes })
}
