//! What bytes under a name are: note or asset, their hash and size. The one place that decides it.
//!
//! Invariant: a `.md` file of valid UTF-8 and at most `NOTE_BYTES_MAX` is a note, anything else an
//! asset; the same bytes under the same name are the same [`Identity`] everywhere.

use crate::hash::ContentHash;
use crate::limits::NOTE_BYTES_MAX;
use crate::vault_path::VaultPath;
use crate::version::Kind;

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
