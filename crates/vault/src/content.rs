//! What a file is: note or asset, its hash and size. The one place that decides it.
//!
//! Invariant: a `.md` file of valid UTF-8 and at most `NOTE_BYTES_MAX` is a note, anything else an
//! asset; the same bytes under the same name give the same [`Identity`] in memory and on disk.

use std::io::{self, Read};

use crucible_core::hash::{BlobHasher, ContentHash};
use crucible_core::limits::NOTE_BYTES_MAX;
use crucible_core::vault_path::VaultPath;
use crucible_core::version::Kind;

use crate::fs::{FileSystem, Stat};

/// How much of an asset is in memory at once.
const PIECE_BYTES: usize = 128 << 10;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Of its bytes, as text or blob.
    pub hash: ContentHash,
    /// Note or asset.
    pub kind: Kind,
    /// Its size.
    pub bytes: u64,
}

/// Whether a file's name lets it be a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Naming {
    /// It ends in `.md`.
    Markdown,
    /// It does not.
    Other,
}

impl Naming {
    /// Of a path in the vault.
    pub fn of(path: &VaultPath) -> Self {
        if path.is_markdown() { Self::Markdown } else { Self::Other }
    }
}

/// Identifies bytes in memory.
pub fn identify(bytes: &[u8], naming: Naming) -> Identity {
    let size = bytes.len() as u64;
    if naming == Naming::Markdown
        && size <= NOTE_BYTES_MAX
        && let Ok(text) = std::str::from_utf8(bytes)
    {
        return Identity { hash: ContentHash::of_text(text), kind: Kind::Note, bytes: size };
    }
    Identity { hash: ContentHash::of_blob(bytes), kind: Kind::Asset, bytes: size }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_markdown_by_name_and_utf8_by_content() {
        let kind = |bytes: &[u8], naming| identify(bytes, naming).kind;
        assert_eq!(kind(b"# x\n", Naming::Markdown), Kind::Note);
        assert_eq!(kind(b"", Naming::Markdown), Kind::Note);
        assert_eq!(kind(b"a\0b", Naming::Markdown), Kind::Note);
        assert_eq!(kind(b"\xff\xfe", Naming::Markdown), Kind::Asset);
        assert_eq!(kind(b"# x\n", Naming::Other), Kind::Asset);
        let large = vec![b'x'; NOTE_BYTES_MAX as usize + 1];
        assert_eq!(kind(&large, Naming::Markdown), Kind::Asset);
        assert_eq!(identify(&large, Naming::Other), identify(&large, Naming::Markdown));
    }
}
