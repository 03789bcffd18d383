//! `split` loses nothing.

use crucible_core::block::{BLOCK_BYTES_MAX, split};
use proptest::prelude::*;

use super::world::text;

proptest! {
    #[test]
    fn blocks_joined_are_the_text(text in text()) {
        prop_assert_eq!(split(&text).concat(), text);
    }

    #[test]
    fn no_block_is_empty_or_too_large(text in text(), times in 1..3000usize) {
        let text = text.repeat(times);
        let blocks = split(&text);
        let fits = |block: &&str| (1..=BLOCK_BYTES_MAX).contains(&block.len());
        prop_assert!(blocks.iter().all(fits));
        prop_assert_eq!(blocks.concat(), text);
    }

    #[test]
    fn whatever_the_characters(text in "\\PC*|[\r\n`~#\\-> ]*") {
        prop_assert_eq!(split(&text).concat(), text);
    }

    #[test]
    fn an_edit_leaves_the_blocks_above_it_alone(text in text(), more in text()) {
        let text = text + "\n";
        let before = split(&text);
        let after = format!("{text}{more}");
        let after = split(&after);
        // The last block may go on, and an unclosed head may close.
        let same = before.iter().zip(&after).take_while(|(a, b)| a == b).count();
        let may_have_a_head = text.starts_with(['-', '\u{feff}']);
        prop_assert!(same + 1 >= before.len() || may_have_a_head);
    }
}
