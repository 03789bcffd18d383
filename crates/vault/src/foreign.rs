//! Conflict copies that other sync tools leave: synced as ordinary files, and pointed out. Pure.
//!
//! Invariant: what Crucible itself names `… (conflict 1a2b3c)` is never taken for one.

use crate::name;

/// Which tool leaves copies named so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tool {
    /// `note.sync-conflict-20261123-101010-ABCDEFG.md`.
    Syncthing,
    /// `note (Ann's conflicted copy 2026-11-23).md`: Dropbox, Nextcloud, Obsidian Sync.
    ConflictedCopy,
    /// `note_conflict-20261123-101010.md`.
    OwnCloud,
    /// `note (SFConflict ann@example.org 2026-11-23-10-10-10).md`.
    Seafile,
    /// `note (conflict …).md` of some other tool.
    Other,
}

/// Which tool left a file of this name as a conflict copy, if any.
pub fn conflict_copy(file_name: &str) -> Option<Tool> {
    // The one word all of them have; most names end here.
    let mut words = file_name.as_bytes().windows("conflict".len());
    if !words.any(|word| word.eq_ignore_ascii_case(b"conflict")) {
        return None;
    }
    let lower = file_name.to_lowercase();
    if has_digits_after(&lower, ".sync-conflict-") {
        return Some(Tool::Syncthing);
    }
    if has_digits_after(&lower, "_conflict-") {
        return Some(Tool::OwnCloud);
    }
    let words = in_brackets(&lower)?;
    if words.contains("conflicted copy") {
        return Some(Tool::ConflictedCopy);
    }
    if words.starts_with("sfconflict") {
        return Some(Tool::Seafile);
    }
    if words.starts_with("conflict") && name::conflict_of(file_name).is_none() {
        return Some(Tool::Other);
    }
    None
}

fn has_digits_after(name: &str, marker: &str) -> bool {
    name.split(marker).skip(1).any(|rest| {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        digits == 8 && rest.as_bytes().get(8) == Some(&b'-')
    })
}

/// The words in the last brackets of a name.
fn in_brackets(name: &str) -> Option<&str> {
    let (_, rest) = name.rsplit_once('(')?;
    rest.split_once(')').map(|(words, _)| words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_other_tools_are_told_from_notes_and_from_ours() {
        let cases = [
            ("a.sync-conflict-20261123-101010-ABCDEFG.md", Some(Tool::Syncthing)),
            ("a (Ann's conflicted copy 2026-11-23).md", Some(Tool::ConflictedCopy)),
            ("a (Conflicted copy laptop 202611231010).md", Some(Tool::ConflictedCopy)),
            ("a_conflict-20261123-101010.md", Some(Tool::OwnCloud)),
            ("a (SFConflict a@b.c 2026-11-23-10-10-10).md", Some(Tool::Seafile)),
            ("a (conflict 2).md", Some(Tool::Other)),
            ("a (conflict 1a2b3c).md", None),
            ("a (conflict 1a2b3c4d5e6f).md", None),
            ("sync-conflict-handling.md", None),
            ("On (armed) conflict.md", None),
            ("a.md", None),
        ];
        for (name, tool) in cases {
            assert_eq!(conflict_copy(name), tool, "{name}");
        }
    }
}
