//! `VaultPath`: a path inside a vault that cannot leave it.
//!
//! Invariant: relative, `/`-separated, UTF-8, spelled as first seen; no empty, `.` or `..`
//! component, no control character, nothing any system could take for `.crucible` or `.git`.
//! What this OS cannot hold is still a path here: `vault::name` escapes it when it is placed.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use unicode_normalization::UnicodeNormalization;

use crate::limits::{COMPONENT_BYTES_MAX, PATH_BYTES_MAX, PATH_DEPTH_MAX};

/// Why a string is no vault path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Nothing there, or nothing between two slashes.
    #[error("has an empty component")]
    Empty,
    /// Longer than [`PATH_BYTES_MAX`], or a component longer than [`COMPONENT_BYTES_MAX`].
    #[error("is too long")]
    TooLong,
    /// More than [`PATH_DEPTH_MAX`] components.
    #[error("is too deep")]
    TooDeep,
    /// A `.` or `..` component.
    #[error("has a `.` or `..` component")]
    Dots,
    /// A control character, or a Unicode line or paragraph separator.
    #[error("has a control character")]
    Control,
    /// A component that some system takes for `.crucible` or `.git`.
    #[error("has a component reserved for sync state or git")]
    Reserved,
}

/// A path inside a vault; cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VaultPath(Arc<str>);

impl VaultPath {
    /// Checks and keeps `path` exactly as spelled.
    ///
    /// # Errors
    /// [`PathError`] says which rule it breaks.
    pub fn new(path: &str) -> Result<Self, PathError> {
        if path.len() > PATH_BYTES_MAX {
            return Err(PathError::TooLong);
        }
        let mut depth = 0;
        for component in path.split('/') {
            check_component(component)?;
            depth += 1;
        }
        if depth > PATH_DEPTH_MAX {
            return Err(PathError::TooDeep);
        }
        Ok(Self(path.into()))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The components, outermost first; never empty.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// The last component.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().expect("split yields at least one item")
    }

    /// The folder this is in, `None` at the top of the vault.
    pub fn parent(&self) -> Option<Self> {
        self.0.rsplit_once('/').map(|(folder, _)| Self(folder.into()))
    }

    /// The path of `name` inside this folder.
    ///
    /// # Errors
    /// [`PathError`] when the longer path breaks a rule.
    pub fn join(&self, name: &str) -> Result<Self, PathError> {
        // Only what is new is checked: a walk over a deep vault joins once for every note.
        let path = format!("{}/{name}", self.0);
        if path.len() > PATH_BYTES_MAX {
            return Err(PathError::TooLong);
        }
        name.split('/').try_for_each(check_component)?;
        if path.split('/').count() > PATH_DEPTH_MAX {
            return Err(PathError::TooDeep);
        }
        Ok(Self(path.into()))
    }

    /// This path with another last component.
    ///
    /// # Errors
    /// [`PathError`] when the new name breaks a rule.
    pub fn with_name(&self, name: &str) -> Result<Self, PathError> {
        match self.parent() {
            Some(folder) => folder.join(name),
            None => Self::new(name),
        }
    }

    /// Whether this path is `folder` or lies below it.
    pub fn starts_with(&self, folder: &Self) -> bool {
        self.below(folder).is_some() || self == folder
    }

    /// What follows `folder/` in this path; `None` when it is not below.
    pub fn below(&self, folder: &Self) -> Option<&str> {
        self.0.strip_prefix(folder.as_str())?.strip_prefix('/')
    }

    /// Whether the name ends in `.md`, in any case: a note if its bytes are UTF-8.
    pub fn is_markdown(&self) -> bool {
        let name = self.name().as_bytes();
        name.len() > 3 && name[name.len() - 3..].eq_ignore_ascii_case(b".md")
    }

    /// Equal for names that are one on a system that folds case or normalises Unicode.
    pub fn fold_key(&self) -> FoldKey {
        FoldKey::new(&self.0)
    }
}

impl fmt::Display for VaultPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for VaultPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl Borrow<str> for VaultPath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// NFC + full case folding of a path or name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FoldKey(Box<str>);

impl FoldKey {
    /// Folds any text.
    pub fn new(text: &str) -> Self {
        if text.is_ascii() {
            return Self(text.to_ascii_lowercase().into());
        }
        let composed: String = text.nfc().collect();
        let folded = caseless::default_case_fold_str(&composed);
        Self(folded.nfc().collect::<String>().into())
    }

    /// The folded text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check_component(component: &str) -> Result<(), PathError> {
    if component.is_empty() {
        return Err(PathError::Empty);
    }
    if component.len() > COMPONENT_BYTES_MAX {
        return Err(PathError::TooLong);
    }
    if component == "." || component == ".." {
        return Err(PathError::Dots);
    }
    if component.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')) {
        return Err(PathError::Control);
    }
    if is_reserved(component) {
        return Err(PathError::Reserved);
    }
    Ok(())
}

/// Whether some system takes `component` for `.git` or `.crucible`: any case, with code points
/// that HFS+ ignores, as an NTFS stream, with trailing dots or spaces, or as its 8.3 alias
/// (the list git checks in `is_hfs_dotgit` and `is_ntfs_dotgit`).
fn is_reserved(component: &str) -> bool {
    // Everything reserved begins with a dot, `g`, `c` or an ignorable code point, which is not ASCII.
    if component.is_ascii() && !component.starts_with(['.', 'g', 'G', 'c', 'C']) {
        return false;
    }
    let seen: String = component.chars().filter(|&c| !is_ignorable(c)).collect();
    let stem = seen.split([':', '\\']).next().unwrap_or_default();
    let folded = FoldKey::new(stem.trim_end_matches(['.', ' ']));
    match folded.as_str() {
        ".git" | ".crucible" => true,
        name => is_short_alias(name, "git") || is_short_alias(name, "crucib"),
    }
}

/// `git~1`, and the longer and hashed forms Windows makes of further names.
fn is_short_alias(name: &str, stem: &str) -> bool {
    name.split_once('~').is_some_and(|(head, digits)| {
        head == stem && !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
    })
}

/// Code points HFS+ drops when it compares names (Apple TN1150, as listed in git's utf8.c).
fn is_ignorable(c: char) -> bool {
    matches!(c,
        '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}'
        | '\u{200b}' | '\u{00ad}' | '\u{2060}'..='\u{2064}' | '\u{fe00}'..='\u{fe0f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_pass_unchanged() {
        for path in [
            "a.md",
            "Daily/2026-11-23.md",
            "é/ü.md",
            "e\u{301}.md",
            ".obsidian/app.json",
            ".github/x",
            "a b/c  d.md",
            "git/x.md",
            "a\\b.md",
            "CON",
            "x:y.md",
            ".gitignore",
            "...",
            "a.",
        ] {
            assert_eq!(VaultPath::new(path).unwrap().as_str(), path);
        }
    }

    #[test]
    fn what_could_leave_the_vault_or_touch_its_state_is_refused() {
        let cases = [
            ("", PathError::Empty),
            ("/etc/passwd", PathError::Empty),
            ("a//b", PathError::Empty),
            ("a/", PathError::Empty),
            ("../x", PathError::Dots),
            ("a/./b", PathError::Dots),
            ("a\0b", PathError::Control),
            ("a\nb", PathError::Control),
            ("a\u{85}b", PathError::Control),
            (".git/config", PathError::Reserved),
            ("x/.GIT/hooks", PathError::Reserved),
            (".g\u{200c}it/x", PathError::Reserved),
            ("GIT~1/x", PathError::Reserved),
            (".git::$INDEX_ALLOCATION/x", PathError::Reserved),
            (".git. /x", PathError::Reserved),
            (".git\\config", PathError::Reserved),
            (".crucible/sync.db", PathError::Reserved),
            (".Crucible", PathError::Reserved),
            ("crucib~1", PathError::Reserved),
            (".crucible:x", PathError::Reserved),
        ];
        for (path, error) in cases {
            assert_eq!(VaultPath::new(path), Err(error), "{path:?}");
        }
        assert_eq!(VaultPath::new(&"x".repeat(256)), Err(PathError::TooLong));
        assert_eq!(VaultPath::new(&vec!["x"; 97].join("/")), Err(PathError::TooDeep));
    }

    #[test]
    fn a_joined_path_keeps_the_rules_of_a_whole_one() {
        let deep = VaultPath::new(&vec!["x"; 96].join("/")).unwrap();
        let long = VaultPath::new(&vec!["x".repeat(255); 8].join("/")).unwrap();
        let short = VaultPath::new("a").unwrap();
        for folder in [&deep, &long, &short] {
            for name in ["b", "", "..", ".git", "b/c", "b//c", "/", "b/.crucible"] {
                assert_eq!(folder.join(name), VaultPath::new(&format!("{folder}/{name}")));
            }
        }
    }

    #[test]
    fn names_that_are_one_elsewhere_share_a_fold_key() {
        for (one, other) in [("Ä.md", "ä.md"), ("e\u{301}.md", "é.md"), ("STRASSE", "straße")] {
            assert_eq!(FoldKey::new(one), FoldKey::new(other));
        }
        assert_ne!(FoldKey::new("a.md"), FoldKey::new("b.md"));
    }

    #[test]
    fn a_path_below_a_folder_is_told_from_a_longer_name() {
        let path = |p| VaultPath::new(p).unwrap();
        assert_eq!(path("a/b/c").below(&path("a")), Some("b/c"));
        assert_eq!(path("ab/c").below(&path("a")), None);
        assert!(path("a").starts_with(&path("a")));
        assert!(path("x/README.MD").is_markdown());
        assert!(!path("x/.md").is_markdown());
    }
}
