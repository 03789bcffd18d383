//! Names of things: fixed-size ids with one textual form (lower-case hex), and nothing else.
//!
//! Randomness is an argument everywhere: an id is made from bytes the shell drew.

use std::fmt;
use std::str::FromStr;

use crate::hash::{self, Domain};
use crate::vault_path::VaultPath;

/// A textual id that is not the right number of hex digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} hex digits, got {got:?}")]
pub struct ParseIdError {
    /// How many hex digits this kind of id has.
    pub expected: usize,
    /// What was there instead, cut to 80 characters.
    pub got: String,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Size in bytes.
            pub const LEN: usize = $len;

            /// Wraps raw bytes.
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// Wraps a slice of exactly [`Self::LEN`] bytes; `None` for any other length.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }

            /// The raw bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// The first ten hex digits: what people see.
            pub fn short(&self) -> String {
                hash::hex(&self.0[..5])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hash::hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.short())
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(s: &str) -> Result<Self, ParseIdError> {
                hash::unhex(s).map(Self).ok_or_else(|| ParseIdError {
                    expected: 2 * $len,
                    got: s.chars().take(80).collect(),
                })
            }
        }
    };
}

id!(
    /// A vault, the same on every replica; drawn at random by the side that creates it.
    VaultId,
    16
);
id!(
    /// One folder's copy of a vault; drawn at random when the folder joins. Clocks count these.
    ReplicaId,
    16
);
id!(
    /// A person known to a server.
    UserId,
    16
);
id!(
    /// A device: its Ed25519 public key.
    DeviceId,
    32
);
id!(
    /// A note or an asset through all its versions and renames.
    NoteId,
    32
);
id!(
    /// One version of one note: the hash of its canonical encoding.
    VersionId,
    32
);
id!(
    /// The root of a vault's Merkle tree.
    RootHash,
    32
);
id!(
    /// A node of a vault's Merkle tree.
    NodeHash,
    32
);
id!(
    /// A conflict record: derived from the merge version that made it, see `view`.
    ConflictId,
    16
);

id!(
    /// A Merkle leaf: one note and its heads.
    LeafHash,
    32
);
id!(
    /// The root of one folder; equal in two vaults if and only if they hold the same below it.
    FolderRoot,
    32
);
id!(
    /// The first half of a [`NodeHash`] or [`LeafHash`]: what a walk over the wire compares.
    Tag,
    16
);

impl ReplicaId {
    /// The replica of merge versions, which nobody authored; smaller than every drawn id.
    pub const NOBODY: Self = Self([0; 16]);
}

impl NoteId {
    /// The id of the note created at `path`: two devices that create one path while apart make
    /// the same note. `generation` counts notes born at a path whose earlier note lives elsewhere.
    pub fn derive(vault: &VaultId, path: &VaultPath, generation: u32) -> Self {
        Self(hash::keyed(
            Domain::Note,
            &[vault.as_bytes(), &generation.to_be_bytes(), path.as_str().as_bytes()],
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_printing_and_parsing() {
        let id = NoteId::from_bytes([0xa7; 32]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.short(), "a7a7a7a7a7");
        assert!("a7".parse::<NoteId>().is_err());
        assert!("zz".repeat(32).parse::<NoteId>().is_err());
    }

    #[test]
    fn a_note_born_twice_at_one_path_is_one_note_and_generations_differ() {
        let vault = VaultId::from_bytes([1; 16]);
        let path = VaultPath::new("Daily/2026-11-23.md").unwrap();
        assert_eq!(NoteId::derive(&vault, &path, 0), NoteId::derive(&vault, &path, 0));
        assert_ne!(NoteId::derive(&vault, &path, 0), NoteId::derive(&vault, &path, 1));
        let other = VaultId::from_bytes([2; 16]);
        assert_ne!(NoteId::derive(&vault, &path, 0), NoteId::derive(&other, &path, 0));
    }
}
