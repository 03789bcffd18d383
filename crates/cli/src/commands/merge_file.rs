//! `cru merge-file BASE OURS THEIRS`: the merge of three files, alone or as git's merge driver.

use std::path::{Path, PathBuf};
use std::{fs, io};

use crucible_core::conflict::{Clash, Kept};
use crucible_core::id::{ReplicaId, VersionId};
use crucible_core::note_merge::{NoteSide, merge_note};
use crucible_core::text_merge::{Overlap, Side};
use crucible_core::timestamp::Stamp;
use crucible_core::version::{KeyStamps, TagDots};
use serde_json::json;

use crate::args::{MergeFile, Prefer};
use crate::context::Context;
use crate::exit::{During, Exit, Failure, Outcome};
use crate::output::plain;
use crate::words::{clash_as_json, clash_in_words};

/// Three files merged.
struct Merged {
    bytes: Vec<u8>,
    /// Where a choice had to be made, and whose text stayed.
    choices: Vec<(Side, Clash)>,
}

/// Merges and prints, or writes over OURS.
pub fn run(args: &MergeFile, context: &Context) -> Outcome {
    let read = |path: &Path| {
        let path = context.path(path);
        fs::read(&path).during(format!("reading {}", path.display()))
    };
    let merged = merge(&read(&args.base)?, &read(&args.ours)?, &read(&args.theirs)?, args.prefer);
    let clean = merged.choices.is_empty();
    let mut kept = None;
    if args.write {
        let path = context.path(&args.ours);
        if merged.sets_aside(Side::Ours) && !is_for_git(args) {
            kept = Some(keep_original(&path)?);
        }
        fs::write(&path, &merged.bytes).during(format!("writing {}", path.display()))?;
    }
    if !clean && !context.output.json {
        context.output.warn(told(args, &merged, kept.as_deref()));
    }
    if context.output.json {
        let conflicts: Vec<_> = merged
            .choices
            .iter()
            .map(|(side, clash)| {
                let mut value = clash_as_json(clash);
                value["stayed"] = json!(match side {
                    Side::Ours => "ours",
                    Side::Theirs => "theirs",
                });
                value
            })
            .collect();
        context.output.value(&json!({
            "type": "merged",
            "clean": clean,
            "text": String::from_utf8_lossy(&merged.bytes),
            "conflicts": conflicts,
        }))?;
    } else if !args.write {
        context.output.bytes(&merged.bytes)?;
    }
    Ok(if clean { Exit::Ok } else { Exit::Attention })
}

impl Merged {
    /// Whether text of this side is not in the result.
    fn sets_aside(&self, side: Side) -> bool {
        self.choices.iter().any(|(stayed, clash)| *stayed != side && !keeps_both(clash))
    }
}

fn keeps_both(clash: &Clash) -> bool {
    match clash {
        Clash::Body(hunk) | Clash::Key { hunk, .. } | Clash::FirstContact(hunk) => {
            hunk.kept == Kept::Both
        }
        Clash::EditOverDelete | Clash::Path { .. } | Clash::Content => false,
    }
}

/// Git gives its driver files of this name, deletes them afterwards, and has what was in them.
fn is_for_git(args: &MergeFile) -> bool {
    let name = args.ours.file_name().map(|name| name.to_string_lossy());
    args.label.is_some() || name.is_some_and(|name| name.starts_with(".merge_file_"))
}

/// Keeps OURS as it was beside what is written over it; under which name.
fn keep_original(ours: &Path) -> Outcome<PathBuf> {
    let base = format!("{}.orig", ours.display());
    let names = std::iter::once(base.clone()).chain((2..).map(|number| format!("{base}.{number}")));
    for name in names {
        let kept = PathBuf::from(name);
        match copy_new(ours, &kept) {
            Ok(()) => return Ok(kept),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).during(format!("keeping {}", kept.display())),
        }
    }
    Err(Failure::failed("there is no free name for the original"))
}

fn copy_new(from: &Path, to: &Path) -> io::Result<()> {
    let mut from = fs::File::open(from)?;
    let mut to = fs::File::create_new(to)?;
    io::copy(&mut from, &mut to).map(drop)
}

/// One line: which file, what clashed, and where the text is that was set aside.
fn told(args: &MergeFile, merged: &Merged, kept: Option<&Path>) -> String {
    let file = args.label.clone().unwrap_or_else(|| match is_for_git(args) {
        true => "a file".to_owned(),
        false => args.ours.display().to_string(),
    });
    let what = match merged.choices.as_slice() {
        [(_, clash)] => clash_in_words(clash),
        several => format!("both changed the same words in {} places", several.len()),
    };
    let stage = |number: u8| {
        let path = args.label.as_deref().unwrap_or("PATH");
        format!("`git show ':{number}:{path}'`")
    };
    let mut places = Vec::new();
    if merged.sets_aside(Side::Ours) {
        places.push(match kept {
            _ if is_for_git(args) => stage(2),
            Some(kept) => kept.display().to_string(),
            None => args.ours.display().to_string(),
        });
    }
    if merged.sets_aside(Side::Theirs) {
        places.push(match is_for_git(args) {
            true => stage(3),
            false => args.theirs.display().to_string(),
        });
    }
    let file = plain(&file);
    match places.is_empty() {
        true => format!("{file}: {what}"),
        false => {
            format!("{file}: {what}; the whole text set aside: {}", plain(&places.join(", ")))
        }
    }
}

fn merge(base: &[u8], ours: &[u8], theirs: &[u8], prefer: Prefer) -> Merged {
    let whole = |bytes: &[u8]| Merged { bytes: bytes.to_vec(), choices: Vec::new() };
    if ours == theirs || theirs == base {
        return whole(ours);
    }
    if ours == base {
        return whole(theirs);
    }
    let stays = if prefer == Prefer::Ours { Side::Ours } else { Side::Theirs };
    let (Some(base), Some(ours), Some(theirs)) = (text(base), text(ours), text(theirs)) else {
        let bytes = if stays == Side::Ours { ours } else { theirs };
        return Merged { bytes: bytes.to_vec(), choices: vec![(stays, Clash::Content)] };
    };
    merge_text(base, ours, theirs, prefer)
}

/// The bytes as text. A vault knows its notes by their names; here any file may be given, and one
/// with a NUL is most likely a binary one that is valid UTF-8 by chance, as git thinks too.
fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

fn merge_text(base: &str, ours: &str, theirs: &str, prefer: Prefer) -> Merged {
    let (keys, tags) = (KeyStamps::new(), TagDots::new());
    let side = |text, ms| NoteSide {
        text,
        keys: &keys,
        tags: &tags,
        rank: (Stamp::new(ms, 0, ReplicaId::NOBODY), VersionId::from_bytes([0; 32])),
    };
    let (rank_ours, rank_theirs) = if prefer == Prefer::Ours { (2, 1) } else { (1, 2) };
    let overlap = if prefer == Prefer::Both { Overlap::Both } else { Overlap::Lww };
    let merge = merge_note(
        Some(&side(base, 0)),
        &side(ours, rank_ours),
        &side(theirs, rank_theirs),
        overlap,
    );
    Merged { bytes: merge.text.into_bytes(), choices: merge.conflicts }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(texts: [&str; 3], prefer: Prefer, merged: &str, choices: usize) {
        let [base, ours, theirs] = texts.map(str::as_bytes);
        let found = merge(base, ours, theirs, prefer);
        assert_eq!(String::from_utf8(found.bytes).unwrap(), merged);
        assert_eq!(found.choices.len(), choices, "{:?}", found.choices);
    }

    #[test]
    fn words_of_both_sides_merge_and_the_same_words_are_chosen() {
        check(["one two three\n", "one 2 three\n", "one two 3\n"], Prefer::Theirs, "one 2 3\n", 0);
        let clash = ["one two three\n", "one zwei three\n", "one deux three\n"];
        check(clash, Prefer::Ours, "one zwei three\n", 1);
        check(clash, Prefer::Theirs, "one deux three\n", 1);
    }

    #[test]
    fn both_keeps_both() {
        let clash = ["one two three\n", "one zwei three\n", "one deux three\n"];
        let [base, ours, theirs] = clash.map(str::as_bytes);
        let text = String::from_utf8(merge(base, ours, theirs, Prefer::Both).bytes).unwrap();
        assert!(text.contains("zwei") && text.contains("deux"), "{text}");
    }

    #[test]
    fn bytes_that_are_no_text_are_chosen_whole() {
        let found = merge(b"\xff1", b"\xff2", b"\xff3", Prefer::Theirs);
        assert_eq!(found.bytes, b"\xff3");
        assert_eq!(found.choices, [(Side::Theirs, Clash::Content)]);
        let found = merge(b"a\0b c d", b"a\0b 2 d", b"a\0b c 3", Prefer::Ours);
        assert_eq!((found.bytes.as_slice(), found.choices.len()), (&b"a\0b 2 d"[..], 1));
        assert!(merge(b"\xff1", b"\xff1", b"\xff3", Prefer::Ours).choices.is_empty());
    }
}
