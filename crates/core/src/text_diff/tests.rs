use super::*;

/// Lists the differences of two texts, letter by letter.
fn diff(before: &str, after: &str) -> Vec<Change> {
    let letters = |text| str::split(text, "").filter(|l| !l.is_empty()).collect::<Vec<_>>();
    diff_tokens(&letters(before), &letters(after))
}

/// Writes a script as the kept letters with `[gone|new]` where the texts differ.
fn script(before: &str, after: &str) -> String {
    let (b, a): (Vec<char>, Vec<char>) = (before.chars().collect(), after.chars().collect());
    let mut shown = String::new();
    let (mut at_b, mut at_a) = (0, 0);
    for change in diff(before, after) {
        assert_eq!(b[at_b..change.before.start], a[at_a..change.after.start]);
        shown.extend(&b[at_b..change.before.start]);
        shown.push('[');
        shown.extend(&b[change.before.clone()]);
        shown.push('|');
        shown.extend(&a[change.after.clone()]);
        shown.push(']');
        (at_b, at_a) = (change.before.end, change.after.end);
    }
    assert_eq!(b[at_b..], a[at_a..]);
    shown.extend(&b[at_b..]);
    shown
}

#[test]
fn equal_sequences_have_no_changes() {
    assert_eq!(script("abc", "abc"), "abc");
    assert_eq!(script("", ""), "");
}

#[test]
fn everything_from_nothing_is_one_change() {
    assert_eq!(script("", "abc"), "[|abc]");
    assert_eq!(script("abc", ""), "[abc|]");
    assert_eq!(script("abc", "xyz"), "[abc|xyz]");
}

#[test]
fn a_change_in_the_middle_is_found() {
    assert_eq!(script("abcdef", "abXdef"), "ab[c|X]def");
    assert_eq!(script("abcabba", "cbabac"), "[ab|]c[a|]b[|a]ba[|c]");
}

#[test]
fn tokens_that_occur_once_anchor_the_rest() {
    assert_eq!(script("xxAxxBxx", "xAxxxBx"), "x[x|]Axx[|x]Bx[x|]");
}

#[test]
fn insertions_and_deletions_slide_down() {
    assert_eq!(script("a_b", "a_x_b"), "a_[|x_]b");
    assert_eq!(script("aaab", "aaaab"), "aaa[|a]b");
    assert_eq!(script("a_x_b", "a_b"), "a_[x_|]b");
}

#[test]
fn changes_that_slide_together_become_one() {
    let changes = diff("abab", "ababXab");
    assert_eq!(changes.len(), 1);
}

#[test]
fn lines_that_were_edited_outweigh_a_blank_one_between_them() {
    let changes = |before, after| {
        let list = diff_lines(before, after).into_iter();
        list.map(|change| (change.before, change.after)).collect::<Vec<_>>()
    };
    // The blank line below `one` is kept, not the one above what became of it.
    assert_eq!(changes("one\n\n", "new\n\n1. one\n\nx\n"), [(0..1, 0..3), (2..2, 4..5)]);
    assert_eq!(changes("one\n\n", "new\n\n1. one\n"), [(0..2, 0..3)]);
    // Words that two lines share by accident do not count.
    let rewritten =
        changes("we had a day off\n\nto rest\n", "all is new here\n\nnow we take our time\n");
    assert_eq!(rewritten, [(0..1, 0..1), (2..3, 2..3)]);
}

#[test]
fn sequences_without_anchors_stay_cheap() {
    let mix = |by: u32| move |n: u32| ["a", "b", "c", "d"][(n.wrapping_mul(by) >> 30) as usize];
    let before: Vec<&str> = (0..200_000u32).map(mix(2_654_435_761)).collect();
    let after: Vec<&str> = (0..200_000u32).map(mix(2_246_822_519)).collect();
    let mut kept = before.len();
    let mut rebuilt = Vec::new();
    let mut at = 0;
    for change in diff_tokens(&before, &after) {
        rebuilt.extend_from_slice(&before[at..change.before.start]);
        rebuilt.extend_from_slice(&after[change.after.clone()]);
        kept -= change.before.len();
        at = change.before.end;
    }
    rebuilt.extend_from_slice(&before[at..]);
    assert_eq!(rebuilt, after);
    assert!(kept > 20_000, "a coarse script still finds much in common, here {kept}");
}

#[test]
fn edits_touch_only_the_words_that_changed() {
    let before = "# Title\n\nThe cat sat.\nEnd\n";
    let after = "# Title\n\nThe black cat sat!\nEnd\nMore\n";
    let found = edits(before, after);
    assert_eq!(apply(before, &found), after);
    let texts: Vec<_> = found.iter().map(|edit| edit.text).collect();
    assert_eq!(texts, ["black ", "!", "More\n"]);
}
