use super::*;

fn check(blocks: &[&str]) {
    assert_eq!(split(&blocks.concat()), blocks);
}

#[test]
fn nothing_has_no_blocks() {
    check(&[]);
}

#[test]
fn blank_lines_belong_to_the_block_before_them() {
    check(&["one\nmore\n\n\n", "two\r\n \t\r\n", "three"]);
}

#[test]
fn blank_lines_at_the_start_belong_to_the_first_block() {
    check(&["\n \nfirst\n\n", "second\n"]);
    check(&["\u{feff}\nfirst\n\n", "second\n"]);
    check(&["\n\n"]);
}

#[test]
fn the_head_is_the_first_block() {
    check(&["---\ntags: [a]\n\n# no heading\n---\n\n", "text\n"]);
    check(&["\u{feff}---  \r\na: 1\r\n...\r\n", "# Title\r\n"]);
}

#[test]
fn an_unclosed_head_is_text() {
    check(&["---\ntags: [a]\n\n", "text\n"]);
    assert_eq!(head_len("---\na: 1\n --- \n"), 0);
    assert_eq!(head_len("\n---\na: 1\n---\n"), 0);
}

#[test]
fn a_heading_is_a_block_by_itself() {
    check(&["text\n", "# Title\n", "text\n", "###### six\n", "####### seven\n#not\n", "#\n"]);
}

#[test]
fn a_setext_underline_stays_with_its_text() {
    check(&["Title\n---\ntext\n"]);
}

#[test]
fn a_fence_hides_what_is_in_it() {
    check(&["```rust\n\n# no\n~~~\n``\n```\n", "text\n"]);
    check(&["text\n", "~~~~ a`b\n~~~\n\n~~~~~  \n", "text\n"]);
    check(&["``` a`b\ntext\n"]);
}

#[test]
fn an_unclosed_fence_runs_to_the_end() {
    check(&["text\n\n", "```\n\n# no\n\n- no\n"]);
}

#[test]
fn a_list_goes_on_over_blank_lines_and_indented_text() {
    check(&["- a\n\n- b\n\n  more of b\n\n  ```\n\n# no\n  ```\n- c\nlazy\n\n", "text\n"]);
    check(&["text\n", "1. a\n2) b\n", "# Title\n", "10. c\n"]);
}

#[test]
fn text_is_not_cut_by_what_cannot_interrupt_it() {
    check(&["text\n2. no\n-\n* \n    - no\n    ```\n-no\n1990. no\n"]);
}

#[test]
fn every_kind_of_line_end_is_a_line_end() {
    check(&["a\r\r", "b\r\n\r\n", "c\n\r", "# d\r", "e"]);
}

#[test]
fn a_long_list_is_cut_at_items() {
    let item = format!("- {}\n  more\n", "x".repeat(1000));
    let text = item.repeat(12);
    let blocks = split(&text);
    assert_eq!(blocks.concat(), text);
    assert_eq!(
        blocks.iter().map(|block| block.len()).collect::<Vec<_>>(),
        [item.len() * 5; 2].into_iter().chain([item.len() * 2]).collect::<Vec<_>>()
    );
}

#[test]
fn a_long_table_or_fence_is_cut_at_lines() {
    for first in ["| a |\n", "```\n", "---\n"] {
        let text = format!("{first}{}---\n", "| row |\n\n".repeat(3000));
        let blocks = split(&text);
        assert_eq!(blocks.concat(), text);
        assert!(blocks.iter().all(|block| block.len() < BLOCK_BYTES_CUT + 10), "{first}");
        assert!(first == "| a |\n" || blocks[0].len() >= BLOCK_BYTES_CUT, "{first}");
    }
}

#[test]
fn a_fence_that_was_cut_is_still_a_fence() {
    let text = format!("```\n{}# no\n```\n# yes\n", "code\n".repeat(1000));
    let blocks = split(&text);
    assert_eq!(blocks.concat(), text);
    assert_eq!(blocks[1..].iter().filter(|block| block.starts_with('#')).count(), 1);
}

#[test]
fn no_block_is_larger_than_the_maximum() {
    for unit in ["é", "\n", "x", "- ", "🦀", "```"] {
        let text = unit.repeat(3 * BLOCK_BYTES_MAX / unit.len() + 5);
        let blocks = split(&text);
        assert_eq!(blocks.concat(), text);
        assert!(blocks.iter().all(|block| (1..=BLOCK_BYTES_MAX).contains(&block.len())));
    }
}
