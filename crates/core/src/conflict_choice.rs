//! Takes the other side of a hunk, in a text that may have been edited since the merge.
//!
//! Invariant: either the choice is carried out and every edit made since stands, or nothing
//! happens. Nothing is ever looked for by similarity: the merged text is the common base of what
//! the person wants (the merged text with the other side in place) and of what is there now.

use crate::conflict::{Hunk, Kept};
use crate::lines::line_end;
use crate::text_merge::{Overlap, Side, merge, merge_unrelated};

/// What a person wants to stand in a hunk's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The winner's text alone.
    Winner,
    /// The loser's text alone.
    Loser,
    /// Both: the whole lines of both, the loser's (older) first.
    Both,
}

/// Carries out a choice about a hunk of `merged` in `current`, which was made from it.
///
/// `None` if somebody has edited the very place since, so that the choice would undo their words,
/// or if `hunk` is not one of `merged`.
pub fn apply_choice(merged: &str, current: &str, hunk: &Hunk, choice: Choice) -> Option<String> {
    let wanted = with_choice(merged, hunk, choice)?;
    if merged == current {
        return Some(wanted);
    }
    let result = merge(merged, &wanted, current, Side::Ours, Overlap::Lww);
    result.hunks.is_empty().then_some(result.text)
}

fn with_choice(merged: &str, hunk: &Hunk, choice: Choice) -> Option<String> {
    let place = merged.get(hunk.range())?;
    if hunk.kept == Kept::Winner && place != hunk.winner {
        return None;
    }
    let with = match (choice, hunk.kept) {
        (Choice::Winner, Kept::Winner) | (Choice::Both, Kept::Both) => return Some(merged.into()),
        (Choice::Winner, Kept::Both) => &hunk.winner,
        (Choice::Loser, _) => &hunk.loser,
        (Choice::Both, Kept::Winner) => return Some(with_both_lines(merged, hunk)),
    };
    Some(replaced(merged, hunk.range(), with))
}

fn replaced(text: &str, range: std::ops::Range<usize>, with: &str) -> String {
    [&text[..range.start], with, &text[range.end..]].concat()
}

/// Puts the lines that hold the hunk there twice: as they are and with the loser's text.
fn with_both_lines(merged: &str, hunk: &Hunk) -> String {
    let range = hunk.range();
    let start = merged[..range.start].rfind(['\n', '\r']).map_or(0, |at| at + 1);
    let ends_line = range.end > start && merged[..range.end].ends_with(['\n', '\r']);
    let end = if ends_line
        || (range.is_empty() && range.start == start && hunk.loser.ends_with(['\n', '\r']))
    {
        range.end
    } else {
        line_end(merged.as_bytes(), range.end)
    };
    let lines = &merged[start..end];
    let loser = replaced(lines, range.start - start..range.end - start, &hunk.loser);
    let both = merge_unrelated(lines, &loser, Side::Ours).text;
    replaced(merged, start..end, &both)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conflict(base: &str, winner: &str, loser: &str) -> (String, Hunk) {
        let merged = merge(base, winner, loser, Side::Ours, Overlap::Lww);
        let [hunk] = merged.hunks.as_slice() else { panic!("{:?}", merged.hunks) };
        (merged.text, hunk.clone())
    }

    fn meeting() -> (String, Hunk) {
        conflict("# A\n\nAt ten.\n\nEnd\n", "# A\n\nAt noon.\n\nEnd\n", "# A\n\nAt four.\n\nEnd\n")
    }

    #[test]
    fn the_loser_comes_back_in_the_text_as_merged() {
        let (merged, hunk) = meeting();
        let taken = apply_choice(&merged, &merged, &hunk, Choice::Loser);
        assert_eq!(taken.as_deref(), Some("# A\n\nAt four.\n\nEnd\n"));
        assert_eq!(apply_choice(&merged, &merged, &hunk, Choice::Winner), Some(merged));
    }

    #[test]
    fn edits_made_elsewhere_since_the_merge_stand() {
        let (merged, hunk) = meeting();
        let current = "# New title\n\nBefore.\n\nAt noon.\n\nEnd of it\n";
        let taken = apply_choice(&merged, current, &hunk, Choice::Loser);
        assert_eq!(taken.as_deref(), Some("# New title\n\nBefore.\n\nAt four.\n\nEnd of it\n"));
    }

    #[test]
    fn a_place_that_was_edited_since_is_left_alone() {
        let (merged, hunk) = meeting();
        for current in ["# A\n\nAt midnight.\n\nEnd\n", "# A\n\nEnd\n", ""] {
            assert_eq!(apply_choice(&merged, current, &hunk, Choice::Loser), None, "{current}");
        }
    }

    #[test]
    fn both_are_kept_as_whole_lines() {
        let (merged, hunk) = meeting();
        let taken = apply_choice(&merged, &merged, &hunk, Choice::Both);
        assert_eq!(taken.as_deref(), Some("# A\n\nAt four.\n\nAt noon.\n\nEnd\n"));
        let (merged, hunk) = conflict("- a: 1\n- b\n", "- a: 2\n- b\n", "- a: 3\n- b\n");
        let taken = apply_choice(&merged, &merged, &hunk, Choice::Both);
        assert_eq!(taken.as_deref(), Some("- a: 3\n- a: 2\n- b\n"));
    }

    #[test]
    fn what_a_deletion_won_over_comes_back() {
        let (merged, hunk) = conflict("a\n\nold text\n\nb\n", "a\n\nb\n", "a\n\nnew text\n\nb\n");
        assert_eq!(merged, "a\n\nb\n");
        let taken = apply_choice(&merged, &merged, &hunk, Choice::Loser);
        assert_eq!(taken.as_deref(), Some("a\n\nnew text\n\nb\n"));
        let both = apply_choice(&merged, &merged, &hunk, Choice::Both);
        assert_eq!(both.as_deref(), Some("a\n\nnew text\n\nb\n"));
    }

    #[test]
    fn one_of_two_texts_that_were_both_kept_can_go() {
        let merged = merge_unrelated("# Day\n\nnew\n", "# Day\n\nold\n", Side::Ours);
        let hunk = &merged.hunks[0];
        let choose = |choice| apply_choice(&merged.text, &merged.text, hunk, choice).unwrap();
        assert_eq!(choose(Choice::Winner), "# Day\n\nnew\n");
        assert_eq!(choose(Choice::Loser), "# Day\n\nold\n");
        assert_eq!(choose(Choice::Both), merged.text);
    }

    #[test]
    fn a_hunk_of_another_text_is_refused() {
        let (_, hunk) = meeting();
        assert_eq!(apply_choice("short", "short", &hunk, Choice::Loser), None);
        assert_eq!(apply_choice("# A\n\nAt éééé.\n\nEnd\n", "", &hunk, Choice::Loser), None);
    }
}
