//! The three-way merge of text: symmetric, loses nothing, invents nothing.

use std::collections::BTreeSet;

use crucible_core::conflict::Kept;
use crucible_core::text_merge::{Overlap, Side, TextMerge, merge, merge_unrelated};
use proptest::prelude::*;
use proptest::sample::Index;

use super::world::{edited, edits, text, three, words};

fn kept_words(merged: &TextMerge) -> BTreeSet<&str> {
    let losers = merged.hunks.iter().flat_map(|hunk| words(&hunk.loser));
    words(&merged.text).chain(losers).collect()
}

/// Moves, removes, edits and inserts paragraphs, none of them twice.
fn reshaped(mut blocks: Vec<String>, edits: &[(u8, Index, Index)], mark: &str) -> Vec<String> {
    for (kind, at, to) in edits {
        if blocks.is_empty() {
            break;
        }
        let from = at.index(blocks.len());
        let new = match kind {
            0 => {
                let block = blocks.remove(from);
                blocks.insert(to.index(blocks.len() + 1), block);
                continue;
            }
            1 => {
                blocks.remove(from);
                continue;
            }
            2 => {
                blocks[from].push_str(&format!(" With {mark}{} more.", to.index(100)));
                continue;
            }
            // The same new paragraph may come from both sides, anywhere.
            3 => format!("A shared paragraph, number {}.", to.index(3)),
            _ => format!("Written by {mark} as {}.", to.index(1 << 30)),
        };
        if !blocks.contains(&new) {
            blocks.insert(from, new);
        }
    }
    blocks
}

/// Writes words into lines, new lines and blank ones, and takes nothing away.
fn added_to(lines: &[Vec<String>], edits: &[(u8, Index, Index)], mark: &str) -> String {
    let mut lines = lines.to_vec();
    for (number, (kind, at, within)) in edits.iter().enumerate() {
        let word = format!("{mark}{number}");
        let here = at.index(lines.len() + 1);
        match kind {
            0 => lines.insert(here, vec![word]),
            1 => drop(lines.splice(here..here, [vec![word], Vec::new()])),
            _ => {
                let line = at.index(lines.len());
                let within = within.index(lines[line].len() + 1);
                lines[line].insert(within, word);
            }
        }
    }
    lines.iter().map(|line| line.join(" ") + "\n").collect()
}

fn overlaps() -> impl Strategy<Value = Overlap> {
    prop_oneof![Just(Overlap::Lww), Just(Overlap::Both)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn who_merges_does_not_matter((base, x, y) in three(), overlap in overlaps()) {
        let ours = merge(&base, &x, &y, Side::Ours, overlap);
        let theirs = merge(&base, &y, &x, Side::Theirs, overlap);
        prop_assert_eq!(ours, theirs);
    }

    #[test]
    fn what_only_one_side_changed_is_taken((base, x, _) in three(), overlap in overlaps()) {
        for (a, b) in [(&base, &x), (&x, &base), (&x, &x)] {
            for prefer in [Side::Ours, Side::Theirs] {
                let merged = merge(&base, a, b, prefer, overlap);
                prop_assert_eq!(&merged.text, &x);
                prop_assert!(merged.hunks.is_empty());
            }
        }
    }

    #[test]
    fn no_word_that_a_side_added_is_missing((base, x, y) in three(), overlap in overlaps()) {
        let merged = merge(&base, &x, &y, Side::Ours, overlap);
        let kept = kept_words(&merged);
        let had: BTreeSet<&str> = words(&base).collect();
        for word in words(&x).chain(words(&y)).filter(|word| !had.contains(word)) {
            prop_assert!(kept.contains(word), "{word} is gone from {merged:#?}");
        }
    }

    #[test]
    fn nothing_is_invented((base, x, y) in three(), overlap in overlaps()) {
        let merged = merge(&base, &x, &y, Side::Ours, overlap);
        let known: BTreeSet<&str> = words(&base).chain(words(&x)).chain(words(&y)).collect();
        for word in words(&merged.text) {
            prop_assert!(known.contains(word), "nobody wrote {word:?} in {merged:#?}");
        }
    }

    #[test]
    fn texts_with_nothing_in_common_merge_too(b in text(), x in text(), y in text()) {
        let merged = merge(&b, &x, &y, Side::Ours, Overlap::Lww);
        prop_assert_eq!(&merged, &merge(&b, &y, &x, Side::Theirs, Overlap::Lww));
        let kept = kept_words(&merged);
        let had: BTreeSet<&str> = words(&b).collect();
        let mut added = words(&x).chain(words(&y)).filter(|word| !had.contains(word));
        prop_assert!(added.all(|word| kept.contains(word)));
    }

    #[test]
    fn hunks_say_where_they_are_in_order((base, x, y) in three(), overlap in overlaps()) {
        let merged = merge(&base, &x, &y, Side::Ours, overlap);
        let mut end = 0;
        for hunk in &merged.hunks {
            let range = hunk.range();
            prop_assert!(end <= range.start);
            end = range.end;
            let place = merged.text.get(range);
            prop_assert!(place.is_some());
            prop_assert!(hunk.winner != hunk.loser);
            if hunk.kept == Kept::Winner {
                prop_assert_eq!(place, Some(hunk.winner.as_str()));
            }
        }
    }

    #[test]
    fn unrelated_texts_keep_every_line_of_both(x in text(), y in text()) {
        let merged = merge_unrelated(&x, &y, Side::Ours);
        prop_assert_eq!(&merged, &merge_unrelated(&y, &x, Side::Theirs));
        let lines: BTreeSet<&str> = merged.text.split(['\n', '\r']).collect();
        for line in x.split(['\n', '\r']).chain(y.split(['\n', '\r'])) {
            prop_assert!(line.trim().is_empty() || lines.contains(line), "{line:?} is gone");
        }
    }

    #[test]
    fn edits_of_different_paragraphs_are_both_made(
        sides in prop::collection::vec(0..3u8, 1..12),
        kinds in prop::collection::vec(0..4u8, 12),
    ) {
        let paragraph = |n: usize| format!("Paragraph {n} says this{n} and that{n}.\n\n");
        let edit = |n: usize, kind: u8| match kind {
            0 => format!("Paragraph {n} says this{n}, more{n} and that{n}.\n\n"),
            1 => String::new(),
            2 => format!("All new{n}.\n\n"),
            _ => format!("{}Added{n} below.\n\n", paragraph(n)),
        };
        let write = |who: &dyn Fn(u8) -> bool| {
            let texts = sides.iter().zip(&kinds).enumerate().map(|(n, (side, kind))| {
                // A paragraph that nobody touches keeps the edits apart.
                let between = format!("Quiet line {n} stays.\n\n");
                let text = if who(*side) { edit(n, *kind) } else { paragraph(n) };
                text + &between
            });
            texts.collect::<String>()
        };
        let (base, x, y) = (write(&|_| false), write(&|s| s == 1), write(&|s| s == 2));
        let merged = merge(&base, &x, &y, Side::Ours, Overlap::Lww);
        prop_assert_eq!(merged.text, write(&|side| side > 0));
        prop_assert!(merged.hunks.is_empty());
    }

    #[test]
    fn edits_of_different_sentences_are_both_made(sides in prop::collection::vec(0..3u8, 1..8)) {
        let write = |who: &dyn Fn(u8) -> bool| {
            let sentences = sides.iter().enumerate().map(|(n, side)| {
                let word = if who(*side) { "new" } else { "old" };
                format!("Here sentence{n} has its {word}{n} word in it, and goes on as far{n}.")
            });
            sentences.collect::<Vec<_>>().join(" ") + "\n"
        };
        let (base, x, y) = (write(&|_| false), write(&|s| s == 1), write(&|s| s == 2));
        let merged = merge(&base, &x, &y, Side::Ours, Overlap::Lww);
        prop_assert_eq!(merged.text, write(&|side| side > 0));
        prop_assert!(merged.hunks.is_empty());
    }

    #[test]
    fn no_block_is_doubled(
        count in 2..8usize,
        x in prop::collection::vec((0..5u8, any::<Index>(), any::<Index>()), 0..4),
        y in prop::collection::vec((0..5u8, any::<Index>(), any::<Index>()), 0..4),
    ) {
        let base: Vec<String> =
            (0..count).map(|n| format!("Paragraph number {n} has a few words.")).collect();
        let shape = |edits: &[_], mark| reshaped(base.clone(), edits, mark).join("\n\n") + "\n";
        let (ours, theirs) = (shape(&x, "ours"), shape(&y, "theirs"));
        let base = base.join("\n\n") + "\n";
        let merged = merge(&base, &ours, &theirs, Side::Ours, Overlap::Lww);
        let mut seen = BTreeSet::new();
        for block in merged.text.split("\n\n").map(str::trim_end).filter(|b| !b.is_empty()) {
            prop_assert!(seen.insert(block), "{block:?} twice in {}", merged.text);
        }
    }

    #[test]
    fn what_nobody_took_away_stands_once(
        base in prop::collection::vec(0..5usize, 1..12),
        x in prop::collection::vec((0..8u8, any::<Index>(), any::<Index>()), 0..16),
        y in prop::collection::vec((0..8u8, any::<Index>(), any::<Index>()), 0..16),
    ) {
        // Every word is another one, but blank lines are all alike.
        let line = |(at, count): (usize, &usize)| (0..*count).map(|n| format!("line{at}n{n}")).collect();
        let base: Vec<Vec<String>> = base.iter().enumerate().map(line).collect();
        let (ours, theirs) = (added_to(&base, &x, "ours"), added_to(&base, &y, "theirs"));
        let merged = merge(&added_to(&base, &[], ""), &ours, &theirs, Side::Ours, Overlap::Lww);
        let mut seen = BTreeSet::new();
        for word in words(&merged.text) {
            prop_assert!(seen.insert(word), "{word} twice in {merged:#?}");
        }
        for word in base.iter().flatten() {
            prop_assert!(seen.contains(word.as_str()), "{word} is gone from {merged:#?}");
        }
    }

    #[test]
    fn a_merge_that_meets_one_of_its_sides_again_is_done(base in text(), x in edits("ours"), y in edits("theirs")) {
        let (x, y) = (edited(&base, &x), edited(&base, &y));
        let merged = merge(&base, &x, &y, Side::Ours, Overlap::Lww).text;
        // The side is what the merge was made from: nothing is left to merge.
        prop_assert_eq!(&merge(&x, &x, &merged, Side::Ours, Overlap::Lww).text, &merged);
        prop_assert_eq!(&merge(&y, &merged, &y, Side::Ours, Overlap::Lww).text, &merged);
    }
}
