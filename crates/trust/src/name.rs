//! `VaultName`: what a vault is called on a server, in links and in tokens.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

/// Longest name in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// First path segments that a server answers itself, so that `http://host/NAME` is never one.
const RESERVED: [&str; 4] = ["api", "assets", "healthz", "metrics"];

/// A string that cannot name a vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty, or longer than [`NAME_BYTES_MAX`].
    #[error("a vault name has 1 to 64 characters")]
    Length,
    /// Something else than ASCII letters, digits, `-`, `_` and `.`, or an odd beginning.
    #[error("a vault name begins with a letter or digit; then `-`, `_` and `.` may follow too")]
    Character,
    /// `api` and the like.
    #[error("this name is reserved for the server itself")]
    Reserved,
}

/// A vault's name: needs no escaping in a URL, a shell or a token. Shown as spelled; names that
/// differ only in case are equal.
#[derive(Clone)]
pub struct VaultName(Arc<str>);

impl VaultName {
    /// Checks and keeps `name` as spelled.
    ///
    /// # Errors
    /// [`NameError`] says which rule it breaks.
    pub fn new(name: &str) -> Result<Self, NameError> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(NameError::Length);
        }
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if !name.bytes().all(allowed) || !name.as_bytes()[0].is_ascii_alphanumeric() {
            return Err(NameError::Character);
        }
        if RESERVED.contains(&name.to_ascii_lowercase().as_str()) {
            return Err(NameError::Reserved);
        }
        Ok(Self(name.into()))
    }

    /// The name as spelled.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// In lower case: equal for equal names, for tokens and database keys.
    pub fn folded(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

impl PartialEq for VaultName {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for VaultName {}

impl Ord for VaultName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.folded().cmp(&other.folded())
    }
}

impl PartialOrd for VaultName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for VaultName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.folded().hash(state);
    }
}

impl fmt::Display for VaultName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for VaultName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl FromStr for VaultName {
    type Err = NameError;
    fn from_str(name: &str) -> Result<Self, NameError> {
        Self::new(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_bounded() {
        assert_eq!(VaultName::new("Notes"), VaultName::new("nOTES"));
        for good in ["Notes", "n", "2026.work_notes-b", &"x".repeat(64)] {
            assert_eq!(VaultName::new(good).unwrap().as_str(), good);
        }
        for (bad, why) in [
            ("", NameError::Length),
            (&*"x".repeat(65), NameError::Length),
            (".hidden", NameError::Character),
            ("..", NameError::Character),
            ("-flag", NameError::Character),
            ("a/b", NameError::Character),
            ("a b", NameError::Character),
            ("é", NameError::Character),
            ("a\"b", NameError::Character),
            ("API", NameError::Reserved),
        ] {
            assert_eq!(VaultName::new(bad), Err(why), "{bad:?}");
        }
    }
}
