//! Edit scripts lead from one text to the other.

use crucible_core::lines::lines;
use crucible_core::text_diff::{apply, diff_lines, edits};
use proptest::prelude::*;

use super::world::{text, three};

proptest! {
    #[test]
    fn edits_applied_give_the_other_text((before, after, other) in three()) {
        prop_assert_eq!(apply(&before, &edits(&before, &after)), after);
        prop_assert_eq!(apply(&other, &edits(&other, &before)), before);
    }

    #[test]
    fn unrelated_texts_have_a_script_too(before in text(), after in text()) {
        prop_assert_eq!(apply(&before, &edits(&before, &after)), after);
    }

    #[test]
    fn between_two_changes_the_lines_are_equal((before, after, _) in three()) {
        let (old, new): (Vec<_>, Vec<_>) = (lines(&before).collect(), lines(&after).collect());
        let (mut b, mut a) = (0, 0);
        for change in diff_lines(&before, &after) {
            prop_assert_eq!(&old[b..change.before.start], &new[a..change.after.start]);
            prop_assert!(!change.before.is_empty() || !change.after.is_empty());
            (b, a) = (change.before.end, change.after.end);
        }
        prop_assert_eq!(&old[b..], &new[a..]);
    }

    #[test]
    fn long_sequences_over_few_lines_stay_exact(
        before in prop::collection::vec(0..4u8, 0..600),
        after in prop::collection::vec(0..4u8, 0..600),
    ) {
        let write = |lines: &[u8]| lines.iter().map(|n| format!("{n}\n")).collect::<String>();
        let (before, after) = (write(&before), write(&after));
        prop_assert_eq!(apply(&before, &edits(&before, &after)), after);
    }

    #[test]
    fn no_pure_change_could_stand_further_down(
        before in prop::collection::vec(0..3u8, 0..40),
        after in prop::collection::vec(0..3u8, 0..40),
    ) {
        let write = |lines: &[u8]| lines.iter().map(|n| format!("{n}\n")).collect::<String>();
        let changes = diff_lines(&write(&before), &write(&after));
        for change in &changes {
            let inserts = change.before.is_empty()
                && after.get(change.after.start) == after.get(change.after.end);
            let deletes = change.after.is_empty()
                && before.get(change.before.start) == before.get(change.before.end);
            prop_assert!(!inserts && !deletes, "{change:?} in {changes:?}");
        }
    }
}
