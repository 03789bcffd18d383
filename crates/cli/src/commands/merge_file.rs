//! `cru merge-file BASE OURS THEIRS`: the merge of three files, alone or as git's merge driver.

use std::fs;
use std::path::Path;

use crucible_core::conflict::Clash;
use crucible_core::id::{ReplicaId, VersionId};
use crucible_core::note_merge::{NoteSide, merge_note};
use crucible_core::text_merge::{Overlap, Side};
use crucible_core::timestamp::Stamp;
use crucible_core::version::{KeyStamps, TagDots};
use serde_json::json;

use crate::args::{MergeFile, Prefer};
use crate::context::Context;
use crate::exit::{During, Exit, Outcome};
use crate::words::clash_as_json;

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
    if args.write {
        let path = context.path(&args.ours);
        fs::write(&path, &merged.bytes).during(format!("writing {}", path.display()))?;
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

fn merge(base: &[u8], ours: &[u8], theirs: &[u8], prefer: Prefer) -> Merged {
    let whole = |bytes: &[u8]| Merged { bytes: bytes.to_vec(), choices: Vec::new() };
    if ours == theirs || theirs == base {
        return whole(ours);
    }
    if ours == base {
        return whole(theirs);
    }
    let stays = if prefer == Prefer::Ours { Side::Ours } else { Side::Theirs };
    let texts = (std::str::from_utf8(base), std::str::from_utf8(ours), std::str::from_utf8(theirs));
    let (Ok(base), Ok(ours), Ok(theirs)) = texts else {
        let bytes = if stays == Side::Ours { ours } else { theirs };
        return Merged { bytes: bytes.to_vec(), choices: vec![(stays, Clash::Content)] };
    };
    merge_text(base, ours, theirs, prefer)
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
        assert!(merge(b"\xff1", b"\xff1", b"\xff3", Prefer::Ours).choices.is_empty());
    }
}
