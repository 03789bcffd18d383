use super::*;
use crate::id::ReplicaId;

fn stamp(ms: u64) -> Stamp {
    Stamp::new(ms, 0, ReplicaId::from_bytes([1; 16]))
}

fn dot(counter: u64) -> Dot {
    Dot { replica: ReplicaId::from_bytes([2; 16]), counter }
}

/// A version for tests: minted at `ms` from `parent` by the rules of [`restamp`].
#[derive(Clone)]
struct Minted {
    text: String,
    keys: KeyStamps,
    tags: TagDots,
    ms: u64,
}

impl Minted {
    fn first(text: &str) -> Self {
        let (keys, tags) = restamp(None, text, stamp(1), dot(1));
        Self { text: text.to_owned(), keys, tags, ms: 1 }
    }

    fn edit(&self, ms: u64, text: &str) -> Self {
        let parent = (self.text.as_str(), &self.keys, &self.tags);
        let (keys, tags) = restamp(Some(parent), text, stamp(ms), dot(ms));
        Self { text: text.to_owned(), keys, tags, ms }
    }

    fn side(&self) -> NoteSide<'_> {
        let id = VersionId::from_bytes([7; VersionId::LEN]);
        NoteSide {
            text: &self.text,
            keys: &self.keys,
            tags: &self.tags,
            rank: (stamp(self.ms), id),
        }
    }
}

fn merged(base: Option<&Minted>, a: &Minted, b: &Minted) -> NoteMerge {
    let base = base.map(Minted::side);
    let merge = merge_note(base.as_ref(), &a.side(), &b.side(), Overlap::Lww);
    let mut swapped = merge_note(base.as_ref(), &b.side(), &a.side(), Overlap::Lww);
    for (side, _) in &mut swapped.conflicts {
        *side = side.other();
    }
    assert_eq!(merge, swapped, "a merge does not depend on who makes it");
    merge
}

fn note(head: &str, body: &str) -> String {
    format!("---\n{head}---\n{body}")
}

/// Merges two edits of one head, the first the newer, and expects no conflict.
fn clean(base: &str, newer: &str, older: &str, expected: &str) -> NoteMerge {
    let base = Minted::first(&note(base, "body\n"));
    let newer = base.edit(9, &note(newer, "body\n"));
    let older = base.edit(5, &note(older, "body\n"));
    let merge = merged(Some(&base), &newer, &older);
    assert_eq!(
        (merge.text.as_str(), &merge.conflicts),
        (note(expected, "body\n").as_str(), &vec![])
    );
    merge
}

#[test]
fn different_keys_both_change() {
    clean("a: 1\nb: 1\n", "a: 2\nb: 1\n", "a: 1\nb: 3\n", "a: 2\nb: 3\n");
}

#[test]
fn keys_added_on_both_sides_both_stay_the_older_first() {
    clean("a: 1\n", "a: 1\nnew: 1\n", "a: 1\nold: 1\n", "a: 1\nold: 1\nnew: 1\n");
}

#[test]
fn a_key_removed_on_one_side_goes_and_a_comment_goes_with_it() {
    clean("# of a\na: 1\nb: 1\n", "b: 1\n", "# of a\na: 1\nb: 2\n", "b: 2\n");
}

#[test]
fn comments_and_spelling_of_untouched_keys_stay() {
    let base = "# top\na:   'x'  # why\nb: 1\n# end\n";
    clean(
        base,
        &base.replace("b: 1", "b: 2"),
        &format!("{base}c: 1\n"),
        "# top\na:   'x'  # why\nb: 2\n# end\nc: 1\n",
    );
}

#[test]
fn the_order_of_keys_is_that_of_the_side_that_changed_it() {
    clean("a: 1\nb: 1\n", "a: 1\nb: 2\n", "b: 1\na: 1\n", "b: 2\na: 1\n");
}

#[test]
fn one_key_changed_on_both_sides_goes_to_the_newer_stamp() {
    let base = Minted::first(&note("a: 1\n", "x\n\ny\n"));
    // The older version of the two changed the key last.
    let newer = base.edit(3, &note("a: 2\n", "x\n\ny\n")).edit(9, &note("a: 2\n", "X\n\ny\n"));
    let older = base.edit(5, &note("a: 3\n", "x\n\ny\n"));
    let merge = merged(Some(&base), &newer, &older);
    assert_eq!(merge.text, note("a: 3\n", "X\n\ny\n"));
    let [(Side::Theirs, Clash::Key { key, hunk })] = merge.conflicts.as_slice() else {
        panic!("{:?}", merge.conflicts)
    };
    assert_eq!((key.as_str(), hunk.base.as_str()), ("a", "a: 1\n"));
    assert_eq!((hunk.winner.as_str(), hunk.loser.as_str()), ("a: 3\n", "a: 2\n"));
    assert_eq!(&merge.text[hunk.range()], "a: 3\n");
    assert_eq!(merge.keys.get("a"), Some(&stamp(5)));
}

#[test]
fn a_key_removed_here_and_changed_there_stays_and_is_reported() {
    let base = Minted::first(&note("a: 1\nb: 1\n", ""));
    let removed = base.edit(9, &note("b: 1\n", ""));
    let changed = base.edit(5, &note("a: 2\nb: 1\n", ""));
    let merge = merged(Some(&base), &removed, &changed);
    assert_eq!(merge.text, note("a: 2\nb: 1\n", ""));
    assert_eq!(merge.conflicts.len(), 1);
    assert_eq!(merge.conflicts[0].0, Side::Theirs);
}

#[test]
fn a_head_dropped_while_a_key_changed_comes_back_with_that_key() {
    let base = Minted::first(&note("a: 1\nb: 1\n", "body\n"));
    let dropped = base.edit(9, "body\n");
    let changed = base.edit(5, &note("a: 2\nb: 1\n", "body\n"));
    let merge = merged(Some(&base), &dropped, &changed);
    assert_eq!(merge.text, note("a: 2\n", "body\n"));
    let untouched = base.edit(5, &note("a: 1\nb: 1\n", "BODY\n"));
    assert_eq!(merged(Some(&base), &dropped, &untouched).text, "BODY\n");
}

#[test]
fn a_head_that_still_stands_in_the_text_is_merged_there_and_no_second_one_is_made() {
    let head = "title: x\nstatus: open\ntags: [a, b]\n";
    let base = Minted::first(&note(head, "# H\n"));
    let changed = base.edit(5, &note("title: x\nstatus: done\ntags: [a, b, c]\n", "# H\n"));
    let lines = "title: x\nstatus: done\ntags: [a, b, c]\n";
    let cases = [
        // A line pasted above it.
        (format!("pasted\n---\n{head}---\n# H\n"), format!("pasted\n---\n{lines}---\n# H\n")),
        // Its closing or opening line gone while somebody types.
        (format!("---\n{head}# H\n"), format!("---\n{lines}# H\n")),
        (format!("{head}---\n# H\n"), format!("{lines}---\n# H\n")),
        // Another head above it.
        (format!("---\nid: 1\n---\n---\n{head}---\n# H\n"), {
            format!("---\nid: 1\n---\n---\n{lines}---\n# H\n")
        }),
    ];
    for (text, expected) in cases {
        for ms in [3, 9] {
            let broken = base.edit(ms, &text);
            let merge = merged(Some(&base), &broken, &changed);
            assert_eq!((merge.text, merge.conflicts), (expected.clone(), vec![]));
            // Mended here while the text without a head is edited there.
            let (mended, broken) = (broken.edit(ms + 1, &base.text), broken.edit(5, &expected));
            let merge =
                merged(Some(&Minted { text: text.clone(), ..base.clone() }), &mended, &broken);
            assert_eq!((merge.text, merge.conflicts), (changed.text.clone(), vec![]));
        }
    }
}

#[test]
fn a_key_changed_while_its_head_is_typed_is_one_clash() {
    let base = Minted::first("---\nstatus: open\n---\n# H\n");
    let typing = base.edit(9, "---\nstatus: wip\n# H\n");
    let changed = base.edit(5, "---\nstatus: done\n---\n# H\n");
    let merge = merged(Some(&base), &typing, &changed);
    assert_eq!((merge.text.as_str(), merge.conflicts.len()), ("---\nstatus: wip\n# H\n", 1));
}

#[test]
fn lines_of_the_body_that_look_like_keys_are_no_head() {
    let body = "title: a line that was always here\n";
    let base = Minted::first(&note("title: 1\n", body));
    let dropped = base.edit(9, body);
    let changed = base.edit(5, &note("title: 2\n", body));
    assert_eq!(merged(Some(&base), &dropped, &changed).text, note("title: 2\n", body));
    let newer = Minted { ms: 9, ..Minted::first(&note("title: 1\n", "x\n")) };
    let older = Minted::first("Heading\n\ntitle: a line\n");
    let merge = merged(None, &newer, &older);
    assert!(merge.text.starts_with("---\ntitle: 1\n---\n"), "{}", merge.text);
}

#[test]
fn a_head_added_on_both_sides_merges_by_key() {
    let base = Minted::first("body\n");
    let newer = base.edit(9, &note("b: 1\n", "body\n"));
    let older = base.edit(5, &note("a: 1\n", "body\n"));
    assert_eq!(merged(Some(&base), &newer, &older).text, note("a: 1\nb: 1\n", "body\n"));
}

#[test]
fn lists_merge_as_sets_in_the_style_of_the_file() {
    clean("l: [a, b]\n", "l: [a, b, c]\n", "l: [b, d]\n", "l: [b, d, c]\n");
    clean("l:\n  - a\n", "l:\n  - a\n  - b\n", "l:\n- a\n- c\n", "l:\n  - a\n  - c\n  - b\n");
}

#[test]
fn tags_merge_as_a_set() {
    clean("tags: [a, b]\n", "tags: [a, b, n]\n", "tags: [b, o]\n", "tags: [b, o, n]\n");
    clean("tags: [a]\n", "tags: [a, n]\n", "", "tags: [n]\n");
    clean("x: 1\n", "x: 1\ntags: [n]\n", "x: 1\ntags:\n- o\n", "x: 1\ntags: [o, n]\n");
}

#[test]
fn a_tag_added_again_survives_a_concurrent_remove() {
    let base = Minted::first(&note("tags: [a, b]\n", ""));
    let again = base.edit(3, &note("tags: [b]\n", "")).edit(4, &note("tags: [a, b]\n", ""));
    let removed = base.edit(9, &note("tags: [b]\n", ""));
    let merge = merged(Some(&base), &again, &removed);
    assert_eq!(merge.text, note("tags: [a, b]\n", ""));
    assert_eq!(merge.tags.get("a"), Some(&BTreeSet::from([dot(4)])));
    assert!(merge.conflicts.is_empty());
    let gone = base.edit(9, "");
    assert_eq!(merged(Some(&base), &again, &gone).text, note("tags: [a]\n", ""));
}

#[test]
fn a_removed_tag_stays_removed() {
    let base = Minted::first(&note("tags: [a, b]\n", "x\n"));
    let removed = base.edit(3, &note("tags: [b]\n", "x\n"));
    let other = base.edit(9, &note("tags: [a, b]\n", "y\n"));
    assert_eq!(merged(Some(&base), &removed, &other).text, note("tags: [b]\n", "y\n"));
}

#[test]
fn a_head_that_is_no_yaml_merges_as_text() {
    let base = Minted::first(&note("a: [1\nb: 2\nc: 3\n", "body\n"));
    let newer = base.edit(9, &note("a: [1\nb: 2\nc: 4\n", "body\n"));
    let older = base.edit(5, &note("a: [0\nb: 2\nc: 3\n", "body\n"));
    let merge = merged(Some(&base), &newer, &older);
    assert_eq!(merge.text, note("a: [0\nb: 2\nc: 4\n", "body\n"));
    assert!(merge.conflicts.is_empty());
}

#[test]
fn conversion_to_crlf_clashes_with_nothing() {
    let base = Minted::first(&note("a: 1\nb: 1\n", "x\ny\n"));
    let converted = base.edit(9, &base.text.replace('\n', "\r\n"));
    let edited = base.edit(5, &note("a: 2\nb: 1\n", "x\nY\n"));
    let merge = merged(Some(&base), &converted, &edited);
    assert_eq!(merge.text, note("a: 2\nb: 1\n", "x\nY\n").replace('\n', "\r\n"));
    assert!(merge.conflicts.is_empty());
    assert!(converted.keys.is_empty(), "a line end is no change of a key");
}

#[test]
fn two_notes_without_a_common_past_keep_both_bodies_and_all_keys() {
    let newer = Minted::first(&note("a: 1\ntags: [x]\n", "# Day\n\nnew\n"));
    let older = Minted::first(&note("b: 2\ntags: [y]\n", "# Day\n\nold\n"));
    let newer = Minted { ms: 9, ..newer };
    let merge = merged(None, &newer, &older);
    assert_eq!(merge.text, note("b: 2\na: 1\ntags: [y, x]\n", "# Day\n\nold\n\nnew\n"));
    let [(Side::Ours, Clash::FirstContact(hunk))] = merge.conflicts.as_slice() else {
        panic!("{:?}", merge.conflicts)
    };
    assert_eq!((hunk.winner.as_str(), hunk.loser.as_str()), ("new\n", "old\n"));
    assert_eq!((&merge.text[hunk.range()], hunk.kept), ("old\n\nnew\n", Kept::Both));
}

#[test]
fn hunks_of_the_body_are_found_behind_the_head() {
    let base = Minted::first(&note("a: 1\n", "at ten"));
    let newer = base.edit(9, &note("a: 2\n", "at noon"));
    let older = base.edit(5, &note("a: 1\n", "at four"));
    let merge = merged(Some(&base), &newer, &older);
    assert_eq!(merge.text, note("a: 2\n", "at noon"));
    let [(Side::Ours, Clash::Body(hunk))] = merge.conflicts.as_slice() else {
        panic!("{:?}", merge.conflicts)
    };
    assert_eq!((&merge.text[hunk.range()], hunk.loser.as_str()), ("noon", "four"));
}

#[test]
fn restamp_marks_only_what_changed() {
    let base = Minted::first(&note("a: 1\nb: 1\ntags: [x]\n", "body\n"));
    assert_eq!((base.keys.len(), base.tags.len()), (0, 0));
    let edited = base.edit(5, &note("b: 1\na: 2\ntags: [x, y]\n", "other\n"));
    assert_eq!(edited.keys.keys().collect::<Vec<_>>(), ["a", "tags"]);
    assert_eq!(edited.tags, TagDots::from([("y".to_owned(), BTreeSet::from([dot(5)]))]));
    let again = edited.edit(8, &note("b: 1\na: 2\n", "other\n"));
    assert_eq!((again.keys.get("a"), again.keys.len()), (Some(&stamp(5)), 1));
    assert!(again.tags.is_empty());
}
