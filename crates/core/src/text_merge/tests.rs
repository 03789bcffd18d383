use super::*;

fn lww(base: &str, winner: &str, loser: &str) -> TextMerge {
    let merged = merge(base, winner, loser, Side::Ours, Overlap::Lww);
    assert_eq!(merged, merge(base, loser, winner, Side::Theirs, Overlap::Lww));
    merged
}

fn clean(base: &str, winner: &str, loser: &str, expected: &str) {
    let merged = lww(base, winner, loser);
    assert_eq!((merged.text.as_str(), merged.hunks.as_slice()), (expected, &[][..]));
}

#[test]
fn edits_in_different_paragraphs_both_stand() {
    clean("a\n\nb\n\nc\n", "A\n\nb\n\nc\n", "a\n\nb\n\nC\n", "A\n\nb\n\nC\n");
}
