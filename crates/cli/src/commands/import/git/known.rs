//! What came in before: texts that the vault's history has under the names they would get.

use std::collections::{HashMap, HashSet};

use crucible_core::hash::ContentHash;
use crucible_core::vault_path::VaultPath;

use super::super::{ASIDE_MAX, aside};
use crate::exit::Outcome;
use crate::past::Past;

/// Texts that the vault's history has, by path, and the paths that notes have left.
#[derive(Default)]
pub struct Known {
    texts: HashMap<String, HashSet<ContentHash>>,
    left: HashSet<String>,
}

impl Known {
    /// From all that this device and its server remember.
    pub fn of(past: &mut Past<'_>) -> Outcome<Self> {
        let mut known = Self::default();
        for entry in past.list(None, usize::MAX)? {
            if let (Some(path), Some(content)) = (entry.path, entry.content) {
                known.texts.entry(path).or_default().insert(content);
            }
            known.left.extend(entry.from);
        }
        Ok(known)
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// Whether these bytes came in as `path`, or beside what has its name.
    pub fn has(&self, path: &VaultPath, bytes: &[u8]) -> bool {
        let text = std::str::from_utf8(bytes).ok().map(ContentHash::of_text);
        let blob = ContentHash::of_blob(bytes);
        let here = |path: &VaultPath| {
            let texts = self.texts.get(path.as_str());
            texts.map(|texts| texts.contains(&blob) || text.is_some_and(|t| texts.contains(&t)))
        };
        let beside = (1..ASIDE_MAX).map_while(|number| here(&aside(path, number)?));
        here(path).unwrap_or(false) || beside.into_iter().any(|known| known)
    }

    /// Whether something that came in as `path`, or beside it, left that name.
    pub fn has_left(&self, path: &VaultPath) -> bool {
        let beside = (1..ASIDE_MAX).map_while(|number| aside(path, number));
        let beside = beside.take_while(|path| self.texts.contains_key(path.as_str()));
        std::iter::once(path.clone()).chain(beside).any(|path| self.left.contains(path.as_str()))
    }
}
