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

fn chosen(base: &str, winner: &str, loser: &str, expected: &str, record: (&str, &str, &str)) {
    let merged = lww(base, winner, loser);
    assert_eq!(merged.text, expected);
    let [hunk] = merged.hunks.as_slice() else { panic!("{:#?}", merged.hunks) };
    assert_eq!((hunk.base.as_str(), hunk.winner.as_str(), hunk.loser.as_str()), record);
    assert_eq!(&merged.text[hunk.range()], hunk.winner);
}

#[test]
fn different_sentences_of_a_paragraph_both_change() {
    clean(
        "The cat sat. The dog ran. The end.\n",
        "The black cat sat. The dog ran. The end.\n",
        "The cat sat. The dog ran. The very end!\n",
        "The black cat sat. The dog ran. The very end!\n",
    );
}

#[test]
fn the_same_words_go_to_the_winner_and_the_loser_is_recorded() {
    chosen(
        "We meet at ten in room A.\n",
        "We meet at noon in room A.\n",
        "We meet at four in room A.\n",
        "We meet at noon in room A.\n",
        ("ten", "noon", "four"),
    );
}

#[test]
fn the_rest_of_a_line_with_a_clash_still_merges() {
    chosen(
        "We meet at ten with the whole team in room A.\n",
        "We meet at noon with the whole team in room A.\n",
        "We meet at four with the whole team in room B.\n",
        "We meet at noon with the whole team in room B.\n",
        ("ten", "noon", "four"),
    );
}

#[test]
fn what_one_side_rewrote_while_the_other_changed_a_word_is_one_hunk() {
    let merged =
        lww("one two three four\n", "completely different words here\n", "one 2 three four\n");
    assert_eq!(merged.text, "completely different words here\n");
    assert_eq!(merged.hunks.len(), 1);
    assert!(merged.hunks[0].loser.contains('2'));
}

#[test]
fn a_word_that_survived_a_rewriting_by_accident_takes_no_edit() {
    let base = "Alpha beta gamma, the 2018 word, delta epsilon zeta eta.\n";
    let edited = "Alpha beta gamma, the old 2018 word, delta epsilon zeta eta.\n";
    let merged = lww(base, "See 2018 now.\n", edited);
    assert_eq!((merged.text.as_str(), merged.hunks.len()), ("See 2018 now.\n", 1));
    let merged = lww("A red apple.\n", "A green pear.\n", "A red big apple.\n");
    assert_eq!((merged.text.as_str(), merged.hunks.len()), ("A green pear.\n", 1));
}

#[test]
fn a_paragraph_deleted_here_and_edited_there_goes_to_the_winner() {
    let base = "a\n\nsome old words\n\nb\n";
    let (deleted, edited) = ("a\n\nb\n", "a\n\nsome new words\n\nb\n");
    let merged = lww(base, deleted, edited);
    assert_eq!((merged.text.as_str(), merged.hunks.len()), (deleted, 1));
    assert!(merged.hunks[0].loser.contains("new"));
    let merged = lww(base, edited, deleted);
    assert_eq!((merged.text.as_str(), merged.hunks.len()), (edited, 1));
}

#[test]
fn adjacent_lines_of_lists_and_tables_are_no_clash() {
    clean("- a\n- b\n- c\n", "- A\n- b\n- c\n", "- a\n- B\n- c\n", "- A\n- B\n- c\n");
    clean("|a|1|\n|b|2|\n", "|a|1|\n|b|3|\n", "|a|0|\n|b|2|\n", "|a|0|\n|b|3|\n");
    clean("- a\n- b\n", "- a\n- new\n- b\n", "- A\n- b\n", "- A\n- new\n- b\n");
    clean("- [ ] a\n- [ ] b\n", "- [x] a\n- [ ] b\n", "- [ ] a\n- [x] b\n", "- [x] a\n- [x] b\n");
}

#[test]
fn cells_of_one_row_merge() {
    clean("| a | 1 | x |\n", "| b | 1 | x |\n", "| a | 1 | y |\n", "| b | 1 | y |\n");
}

#[test]
fn insertions_at_one_place_both_stand_the_older_first() {
    clean("- a\n", "- a\n- new\n", "- a\n- old\n", "- a\n- old\n- new\n");
    clean("a\n\nz\n", "a\n\nnew\n\nz\n", "a\n\nold\n\nz\n", "a\n\nold\n\nnew\n\nz\n");
    clean("a\n", "a\n\nnew\n", "a\n\nold\n", "a\n\nold\n\nnew\n");
    clean("a\n\n", "a\n\nnew\n", "a\n\nold\n", "a\n\nold\n\nnew\n");
    clean("A cat.\n", "A cat. New.\n", "A cat. Old.\n", "A cat. Old. New.\n");
}

#[test]
fn what_both_inserted_stands_once() {
    clean("- a\n", "- a\n- b\n- c\n", "- a\n- b\n- d\n", "- a\n- b\n- d\n- c\n");
    clean(
        "x\n",
        "x\n\n## Day\n\n- new\n",
        "x\n\n## Day\n\n- old\n",
        "x\n\n## Day\n\n- old\n- new\n",
    );
    clean(
        "x\n",
        "x\n\n```\nnew\n```\n",
        "x\n\n```\nold\n```\n",
        "x\n\n```\nold\n```\n\n```\nnew\n```\n",
    );
    clean("", "one\n", "two\n", "two\n\none\n");
    clean("A cat\n", "A black and white cat\n", "A black cat\n", "A black and white cat\n");
}

#[test]
fn words_are_never_glued_together() {
    let merged = lww("()\n", "(new)\n", "(old)\n");
    assert_eq!((merged.text.as_str(), merged.hunks.len()), ("(new)\n", 1));
    clean("a c\n", "a new c\n", "a old c\n", "a old new c\n");
}

#[test]
fn parts_of_a_compound_are_never_put_together() {
    for (base, winner, loser) in [
        ("in Rust now\n", "in new-Rust now\n", "in old-Rust now\n"),
        ("in Rust now\n", "in Rust-new now\n", "in Rust-old now\n"),
        ("version 1 is out\n", "version 1.2 is out\n", "version 1.3 is out\n"),
        ("see docs\n", "see docs/new.md\n", "see docs/old.md\n"),
    ] {
        let merged = lww(base, winner, loser);
        assert_eq!((merged.text.as_str(), merged.hunks.len()), (winner, 1));
    }
    clean("[a]\n", "[a,new]\n", "[a,old]\n", "[a,old,new]\n");
    clean("One.\n", "One. New.\n", "One. Old.\n", "One. Old. New.\n");
}

#[test]
fn a_paragraph_wrapped_anew_merges_with_an_edit() {
    clean(
        "The quick brown fox\njumps over the lazy dog\nand runs.\n",
        "The quick brown\nfox jumps over\nthe lazy dog and\nruns.\n",
        "The quick brown fox\njumps over the sleeping dog\nand runs.\n",
        "The quick brown\nfox jumps over\nthe sleeping dog and\nruns.\n",
    );
    clean(
        "one two\nthree four\n",
        "one\ntwo three\nfour\n",
        "one 2\n3 four\n",
        "one\n2\n3\nfour\n",
    );
}

#[test]
fn line_ends_converted_on_one_side_are_no_change_of_lines() {
    clean("a\nb\nc\n", "a\r\nb\r\nc\r\n", "a\nB\nc\n", "a\r\nB\r\nc\r\n");
    clean("a\nb\nc\n", "A\nb\nc\n", "a\r\nb\r\nc\r\n", "A\r\nb\r\nc\r\n");
    clean("a\nb\n", "a\nb\nc\n", "A\nb", "A\nb\nc");
    clean("a\nb", "a\nb\nnew", "a\nb\nold\n", "a\nb\nold\nnew\n");
}

#[test]
fn edits_follow_a_block_that_was_moved() {
    let base = "# A\n\nFirst paragraph here.\n\nSecond one.\n\nThird one.\n";
    let moved = "# A\n\nSecond one.\n\nThird one.\n\nFirst paragraph here.\n";
    let edited = "# A\n\nFirst long paragraph here.\n\nSecond one.\n\nThird one.\n";
    let expected = "# A\n\nSecond one.\n\nThird one.\n\nFirst long paragraph here.\n";
    clean(base, moved, edited, expected);
    clean(base, edited, moved, expected);
    clean(
        "- [ ] task one\n- [ ] task two\n- [ ] task three\n",
        "- [ ] task two\n- [ ] task three\n- [ ] task one\n",
        "- [x] task one\n- [ ] task two\n- [ ] task three\n",
        "- [ ] task two\n- [ ] task three\n- [x] task one\n",
    );
}

#[test]
fn a_block_moved_to_two_places_stands_where_the_winner_put_it() {
    let [a, b, c, d] =
        ["Alpha paragraph.\n", "Beta paragraph.\n", "Gamma paragraph.\n", "Delta paragraph.\n"];
    let text = |blocks: [&str; 4]| blocks.join("\n");
    clean(&text([a, b, c, d]), &text([b, c, a, d]), &text([b, c, d, a]), &text([b, c, a, d]));
}

#[test]
fn a_block_inserted_in_two_places_stands_where_the_winner_put_it() {
    let new = "A whole new paragraph.\n";
    clean(
        "a\n\nb\n\nc\n",
        &format!("a\n\n{new}\nb\n\nc\n"),
        &format!("a\n\nb\n\n{new}\nc\n\nd\n"),
        &format!("a\n\n{new}\nb\n\nc\n\nd\n"),
    );
}

#[test]
fn both_lines_of_a_clash_stand_under_the_policy_both() {
    let merged = merge("- ten\n- b\n", "- noon\n- b\n", "- four\n- b\n", Side::Ours, Overlap::Both);
    assert_eq!(merged.text, "- four\n- noon\n- b\n");
    let [hunk] = merged.hunks.as_slice() else { panic!("{:?}", merged.hunks) };
    assert_eq!((hunk.kept, &merged.text[hunk.range()]), (Kept::Both, "- four\n- noon\n"));
}

#[test]
fn texts_without_a_common_past_keep_everything_of_both() {
    let merged =
        merge_unrelated("# T\n\nnew\n\nshared\n", "# T\n\nold\n\nshared\n\nlast\n", Side::Ours);
    assert_eq!(merged.text, "# T\n\nold\n\nnew\n\nshared\n\nlast\n");
    assert_eq!(merged.hunks.len(), 1);
    assert_eq!(
        merged,
        merge_unrelated("# T\n\nold\n\nshared\n\nlast\n", "# T\n\nnew\n\nshared\n", Side::Theirs)
    );
}

fn unrelated(winner: &str, loser: &str, expected: &str, reported: &[(&str, &str)]) {
    let merged = merge_unrelated(winner, loser, Side::Ours);
    assert_eq!(merged, merge_unrelated(loser, winner, Side::Theirs));
    assert_eq!(merged.text, expected);
    let both = merged.hunks.iter().map(|hunk| (hunk.winner.as_str(), hunk.loser.as_str()));
    assert_eq!(both.collect::<Vec<_>>(), reported);
}

#[test]
fn lines_that_two_versions_of_a_block_share_stand_once_without_a_common_past() {
    unrelated(
        "# T\n\nFirst line one.\nline two B.\nline three.\n\n- i1\n- i3\n- i4B\n\nEnd.\n",
        "# T\n\nFirst line one.\nline two.\nline three A.\n\n- i0A\n- i1\n- i3\n\nEnd.\n",
        "# T\n\nFirst line one.\nline two.\nline three A.\nline two B.\nline three.\n\n\
         - i0A\n- i1\n- i3\n- i4B\n\nEnd.\n",
        &[("line two B.\nline three.\n", "line two.\nline three A.\n")],
    );
    // The whole text is one paragraph: no blank line is added.
    unrelated(
        "one and\ntwo new\nthree and four\n",
        "one and\ntwo\nthree and four\nfive\n",
        "one and\ntwo\ntwo new\nthree and four\nfive\n",
        &[("two new\n", "two\n")],
    );
    unrelated("a b\nc d\n\ne f\n", "a b\nc d\ne f\n", "a b\nc d\n\ne f\n", &[]);
    unrelated(
        "```\na b\nx\n```\n",
        "```\na b\ny\n```\n",
        "```\na b\ny\nx\n```\n",
        &[("x\n", "y\n")],
    );
    unrelated("a b\r\nc d\r\n", "a b\nc d\nmore\n", "a b\r\nc d\r\nmore\r\n", &[]);
}

#[test]
fn blocks_that_are_no_versions_of_one_stay_whole_without_a_common_past() {
    let (poem, list) =
        ("And so on.\nRoses are red, violets are blue.\n", "And so on.\nBuy bread, milk, eggs.\n");
    let both = [list, "\n", poem].concat();
    unrelated(
        &["x\n\n", poem].concat(),
        &["x\n\n", list].concat(),
        &["x\n\n", &both].concat(),
        &[(poem, list)],
    );
    let (rust, tilde) = ("```rust\na b\nx\n```\n", "~~~rust\na b\ny\n~~~\n");
    let both = [tilde, "\n", rust].concat();
    unrelated(
        &["x\n\n", rust].concat(),
        &["x\n\n", tilde].concat(),
        &["x\n\n", &both].concat(),
        &[(rust, tilde)],
    );
}

#[test]
fn the_final_newline_is_as_the_side_that_changed_it_has_it() {
    clean("a\n\nb\n", "A\n\nb\n", "a\n\nb", "A\n\nb");
    clean("a\n\nb", "A\n\nb", "a\n\nb\n", "A\n\nb\n");
    clean("a\n\nb\n", "a\n\nB\n", "a\n\nb", "a\n\nB");
}

#[test]
fn an_insertion_beside_a_deletion_stands_and_the_deletion_too() {
    clean("a\n\nb\n", "a\n\nnew\n\nb\n", "a\n", "a\n\nnew\n");
    clean("a\n\nb\n", "a\n", "a\n\nnew\n\nb\n", "a\n\nnew\n");
}

#[test]
fn an_edit_that_both_made_counts_once_though_one_went_on_beside_it() {
    let cases = [
        (
            "He came.\nShe left.\n",
            "He came. It rained.\nThey left.\n",
            "He came. It rained.\nShe left.\n",
            "He came. It rained.\nThey left.\n",
        ),
        (
            "Buy milk today\n\nCall Ann.\n",
            "Buy milk today and bread\nand eggs\nCall Ann.\n",
            "Buy milk today and bread\n\nCall Ann.\n",
            "Buy milk today and bread\nand eggs\nCall Ann.\n",
        ),
        ("one two\nthree\n", "one two four\n", "one two four\nthree\n", "one two four\n"),
        (
            "# T\n\nHe came.\nShe left.\n",
            "# T\n\nHe came home.\n",
            "# T\n\nHe came home.\nShe left.\n",
            "# T\n\nHe came home.\n",
        ),
        ("a\nb\nc\n", "x\nb2\nc\n", "a\nb2\nc\n", "x\nb2\nc\n"),
    ];
    for (base, ours, theirs, want) in cases {
        for (one, other) in [(ours, theirs), (theirs, ours)] {
            let merged = merge(base, one, other, Side::Ours, Overlap::Lww);
            assert_eq!((merged.text.as_str(), merged.hunks.len()), (want, 0), "{base:?}");
        }
    }
}

#[test]
fn lines_inserted_below_one_that_was_edited_both_stand() {
    let base = "xx one\n# yy two\n";
    let inserted = "xx one\nnew\n# yy two\n";
    let edited = "14 xx one\n15\n# 12 yy two\n";
    clean(base, inserted, edited, "14 xx one\n15\nnew\n# 12 yy two\n");
    clean(base, edited, inserted, "14 xx one\nnew\n15\n# 12 yy two\n");
}

#[test]
fn a_blank_line_is_not_kept_at_the_price_of_lines_that_were_edited() {
    let base = "a\n\nxx one\n# yy two\n\nlast line\n";
    let inserted = "a\n\nxx one\nnew\n# yy two\n\nlast line\n";
    let edited = "8 a\n\n14 xx one\n15\n# 12 yy two\n13 \n16 last line\n";
    let want = |lines| format!("8 a\n\n14 xx one\n{lines}# 12 yy two\n13 \n16 last line\n");
    clean(base, inserted, edited, &want("15\nnew\n"));
    clean(base, edited, inserted, &want("new\n15\n"));
    let (base, inserted, edited) = ("one\n\n", "one two\n\n", "new\n\n1. one\n2.\n");
    clean(base, inserted, edited, "new\n\n1. one two\n2.\n");
    clean(base, edited, inserted, "new\n\n1. one two\n2.\n");
}
