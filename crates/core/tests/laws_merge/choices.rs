//! What a merge set aside can be brought back, and nothing is destroyed by it.

use std::collections::BTreeSet;

use crucible_core::conflict_choice::{Choice, apply_choice};
use crucible_core::text_merge::{Overlap, Side, merge};
use proptest::prelude::*;

use super::world::{edited, edits, three, words};

proptest! {
    #[test]
    fn the_loser_of_every_hunk_comes_back_in_the_merged_text((base, x, y) in three()) {
        let merged = merge(&base, &x, &y, Side::Ours, Overlap::Lww);
        for hunk in &merged.hunks {
            for choice in [Choice::Loser, Choice::Both] {
                let taken = apply_choice(&merged.text, &merged.text, hunk, choice);
                let taken = taken.expect("the text is as it was merged");
                let there: BTreeSet<&str> = words(&taken).collect();
                prop_assert!(words(&hunk.loser).all(|word| there.contains(word)));
                if choice == Choice::Both {
                    prop_assert!(words(&hunk.winner).all(|word| there.contains(word)));
                }
            }
        }
    }

    #[test]
    fn what_was_written_since_is_never_destroyed((base, x, y) in three(), later in edits("later")) {
        let merged = merge(&base, &x, &y, Side::Ours, Overlap::Lww);
        let current = edited(&merged.text, &later);
        let had: BTreeSet<&str> = words(&merged.text).collect();
        for hunk in &merged.hunks {
            let taken = apply_choice(&merged.text, &current, hunk, Choice::Loser);
            let Some(taken) = taken else { continue };
            let there: BTreeSet<&str> = words(&taken).collect();
            for word in words(&current).filter(|word| !had.contains(word)) {
                prop_assert!(there.contains(word), "{word} was written since and is gone");
            }
        }
    }
}
