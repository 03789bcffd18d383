//! Conflicts, notices and steps in words, and the same as JSON.

use crucible_core::conflict::{Clash, Conflict, Hunk, Kept};
use crucible_node::report::Notice;
use crucible_vault::name::Why;
use crucible_vault::scan::{SkipReason, UnknownReason};
use serde_json::{Value, json};

use crate::output::{plain, span};

/// Most characters of a text in one line of a list.
const EXCERPT_CHARS: usize = 60;

/// What a conflict is about, in a few words.
pub fn clash_in_words(clash: &Clash) -> String {
    match clash {
        Clash::Body(hunk) => match hunk.kept {
            Kept::Winner => format!(
                "both changed the same words: {} stayed, {} was set aside",
                quoted(&hunk.winner),
                quoted(&hunk.loser),
            ),
            Kept::Both => format!(
                "both changed the same words, and both stayed: {} and {}",
                quoted(&hunk.winner),
                quoted(&hunk.loser),
            ),
        },
        Clash::Key { key, hunk } => format!(
            "both changed `{}`: {} stayed, {} was set aside",
            plain(key),
            quoted(&hunk.winner),
            quoted(&hunk.loser),
        ),
        Clash::FirstContact(hunk) => match hunk.kept {
            Kept::Winner => format!(
                "the two sides had nothing in common here: {} stayed, {} was set aside",
                quoted(&hunk.winner),
                quoted(&hunk.loser),
            ),
            Kept::Both => format!(
                "the two sides had nothing in common here, and both texts stand in the note: {} \
                 and {}",
                quoted(&hunk.winner),
                quoted(&hunk.loser),
            ),
        },
        Clash::EditOverDelete => {
            "one side deleted the note, the other edited it: it stays".to_owned()
        }
        Clash::Path { loser } => {
            format!("both renamed it; the other name was {}", plain(loser.as_str()))
        }
        Clash::Content => {
            "both replaced the file: the later one stays, the other is in its history".to_owned()
        }
    }
}

/// What a conflict is about, for scripts.
pub fn clash_as_json(clash: &Clash) -> Value {
    let hunk_of = |hunk: &Hunk| {
        json!({
            "base": hunk.base,
            "winner": hunk.winner,
            "loser": hunk.loser,
            "at": hunk.at,
            "len": hunk.len,
            "kept": match hunk.kept { Kept::Winner => "winner", Kept::Both => "both" },
        })
    };
    match clash {
        Clash::Body(hunk) => json!({ "kind": "body", "hunk": hunk_of(hunk) }),
        Clash::Key { key, hunk } => json!({ "kind": "key", "key": key, "hunk": hunk_of(hunk) }),
        Clash::FirstContact(hunk) => json!({ "kind": "first_contact", "hunk": hunk_of(hunk) }),
        Clash::EditOverDelete => json!({ "kind": "edit_over_delete" }),
        Clash::Path { loser } => json!({ "kind": "path", "loser": loser.as_str() }),
        Clash::Content => json!({ "kind": "content" }),
    }
}

/// A conflict, for scripts.
pub fn conflict_as_json(conflict: &Conflict) -> Value {
    let mut value = clash_as_json(&conflict.clash);
    value["id"] = json!(conflict.id.to_string());
    value["path"] = json!(conflict.path.as_str());
    value["note"] = json!(conflict.note.to_string());
    value["winner"] = json!(conflict.winner.to_string());
    value["loser"] = json!(conflict.loser.to_string());
    value["merge"] = json!(conflict.merge.to_string());
    value["base"] = json!(conflict.base.map(|base| base.to_string()));
    value["stamp_ms"] = json!(conflict.stamp.ms());
    value
}

/// The beginning of a text in quotes, on one line.
pub fn quoted(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() {
        return "nothing".to_owned();
    }
    let mut short: String = line.chars().take(EXCERPT_CHARS).collect();
    if short.len() < line.len() {
        short.push('…');
    }
    format!("“{}”", plain(&short))
}

/// What somebody should hear of, in words.
pub fn notice_in_words(notice: &Notice) -> String {
    match notice {
        Notice::Skipped { path, reason } => {
            format!("{} is not synced: {}", plain(path), skipped(reason))
        }
        Notice::Unknown { path, reason } => format!(
            "{} {}; nothing there counts as deleted",
            if path.is_empty() { "the folder".to_owned() } else { plain(path) },
            unknown(reason),
        ),
        Notice::Renamed { path, disk_path, why } => {
            format!("{} stands here as {}: {}", plain(path), plain(disk_path), renamed(*why),)
        }
        Notice::ForeignCopy { path } => format!(
            "{} looks like a conflict copy of another tool; it is synced like any file",
            plain(path),
        ),
        Notice::BadRule { file, line } => {
            format!("{}, line {line}, is no rule and is left out", plain(file))
        }
        Notice::Cloned => "this folder is a copy of another one; from now on it counts as a \
                           device of its own"
            .to_owned(),
        Notice::ClockCorrected { by_ms } => format!(
            "the clock of this machine is {} {}; its stamps are corrected",
            span(by_ms.unsigned_abs()),
            if *by_ms < 0 { "ahead" } else { "behind" },
        ),
        Notice::NotPlaced { path, reason } => {
            format!("{} could not be written: {reason}", plain(path))
        }
        Notice::ReadOnly { unsent } => format!(
            "this device may read only: {unsent} {} here",
            if *unsent == 1 { "change stays" } else { "changes stay" },
        ),
        Notice::Unclaimed { at } => format!(
            "{} holds bytes that belong to nothing known; look at them, then delete them",
            plain(at),
        ),
    }
}

/// What somebody should hear of, for scripts.
pub fn notice_as_json(notice: &Notice) -> Value {
    let (kind, path) = match notice {
        Notice::Skipped { path, .. } => ("skipped", Some(path.as_str())),
        Notice::Unknown { path, .. } => ("unknown", Some(path.as_str())),
        Notice::Renamed { path, .. } => ("renamed", Some(path.as_str())),
        Notice::ForeignCopy { path } => ("foreign_copy", Some(path.as_str())),
        Notice::BadRule { file, .. } => ("bad_rule", Some(file.as_str())),
        Notice::Cloned => ("cloned", None),
        Notice::ClockCorrected { .. } => ("clock_corrected", None),
        Notice::NotPlaced { path, .. } => ("not_placed", Some(path.as_str())),
        Notice::ReadOnly { .. } => ("read_only", None),
        Notice::Unclaimed { at } => ("unclaimed", Some(at.as_str())),
    };
    json!({ "type": "notice", "kind": kind, "path": path, "message": notice_in_words(notice) })
}

fn skipped(reason: &SkipReason) -> String {
    match reason {
        SkipReason::Symlink => "it is a symbolic link (links are not followed)".to_owned(),
        SkipReason::Special => "it is a pipe, a socket or a device".to_owned(),
        SkipReason::NotUtf8 => "its name is not UTF-8; rename it".to_owned(),
        SkipReason::Path(error) => format!("its path {error}; rename it"),
    }
}

fn unknown(reason: &UnknownReason) -> String {
    match reason {
        UnknownReason::Unreadable(kind) => format!("cannot be read ({kind})"),
        UnknownReason::ChangedWhileRead => "is being written right now".to_owned(),
        UnknownReason::RulesUnreadable => "has rules (.cruignore) that cannot be read".to_owned(),
        UnknownReason::MountGone => {
            "was on a disk that is not mounted now (mount it again, or `cru sync \
             --restore-missing` puts its files here)"
                .to_owned()
        }
        UnknownReason::Covered => {
            "is hidden by a disk that was mounted over it (unmount it, or `cru sync \
             --restore-missing` puts the files there)"
                .to_owned()
        }
        UnknownReason::NotTheVault => "is not the vault any more".to_owned(),
    }
}

fn renamed(why: Why) -> &'static str {
    match why {
        Why::AsIs => "it is where it wants to be",
        Why::Escaped => "this disk cannot hold its name",
        Why::Conflict => {
            "something else has its name here; move that away, and the next sync gives it its name"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_short_and_on_one_line() {
        assert_eq!(quoted("one\n two\t three"), "“one two three”");
        assert_eq!(quoted(" \n"), "nothing");
        let long = quoted(&"ab ".repeat(100));
        assert!(long.ends_with("…”") && long.chars().count() <= EXCERPT_CHARS + 3, "{long}");
    }
}
