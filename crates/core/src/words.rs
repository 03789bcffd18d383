//! Cuts text into words, the unit inside lines that the line merge could not settle.
//!
//! Invariant: the words of a text, concatenated, are the text, and no word is empty or splits a
//! character from the marks that combine with it.
//!
//! A token is one of: a line end; a run of spaces and tabs; a run of one punctuation character; a
//! single ideograph or kana; or a word: letters, digits and whatever else is not ASCII, where one
//! `.`, `,`, `:`, `/` or `-` between two digits and one `'`, `’` or `_` between two word characters
//! belong to the word, so that `10:30`, `1.2.3`, `2026-11-23` and `don't` are never torn.

/// Iterates over the tokens of `text`.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (word, tail) = rest.split_at(word_len(rest));
        rest = tail;
        Some(word)
    })
}

/// What a character is in a word's eyes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    LineEnd,
    Space,
    Punctuation,
    Ideograph,
    Word,
    /// Belongs to whatever character it follows.
    Mark,
}

/// Tells whether two characters, put side by side, would read as one word.
pub(crate) fn would_glue(left: char, right: char) -> bool {
    matches!(
        (class(left), class(right)),
        (_, Class::Mark)
            | (Class::Word | Class::Mark, Class::Word | Class::Ideograph)
            | (Class::Ideograph, Class::Word)
    )
}

/// Tells whether two texts, put side by side, would read as one compound: `old-` and `new-`, `.2` and
/// `.3`. A comma or a cell's bar parts what it stands between; these join it.
pub(crate) fn would_compound(left: &str, right: &str) -> bool {
    let is_word = |c: char| matches!(class(c), Class::Word | Class::Ideograph | Class::Mark);
    let joins = |c: char| matches!(c, '-' | '_' | '/' | '.' | ':' | '@' | '+' | '\'' | '\u{2019}');
    let mut right = right.chars();
    match (left.chars().next_back(), right.next(), right.next()) {
        (Some(end), Some(start), _) if joins(end) => is_word(start) || joins(start),
        (Some(end), Some(start), Some(then)) => is_word(end) && joins(start) && is_word(then),
        _ => false,
    }
}

/// Tells whether a token has a letter, a digit or an ideograph: whether it says something.
pub(crate) fn is_telling(token: &str) -> bool {
    token.chars().next().is_some_and(|c| matches!(class(c), Class::Word | Class::Ideograph))
}

fn class(c: char) -> Class {
    match c {
        '\n' | '\r' => Class::LineEnd,
        ' ' | '\t' => Class::Space,
        'a'..='z' | 'A'..='Z' | '0'..='9' => Class::Word,
        '\0'..='\u{7f}' => Class::Punctuation,
        '\u{300}'..='\u{36f}'
        | '\u{200c}'
        | '\u{200d}'
        | '\u{3099}'
        | '\u{309a}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{1f3fb}'..='\u{1f3ff}'
        | '\u{e0100}'..='\u{e01ef}' => Class::Mark,
        '\u{80}'..='\u{a9}'
        | '\u{ab}'..='\u{b1}'
        | '\u{b4}'
        | '\u{b6}'..='\u{b8}'
        | '\u{bb}'
        | '\u{bf}'
        | '\u{d7}'
        | '\u{f7}'
        | '\u{2000}'..='\u{206f}'
        | '\u{3000}'..='\u{303f}'
        | '\u{feff}'
        | '\u{ff01}'..='\u{ff0f}'
        | '\u{ff1a}'..='\u{ff20}' => Class::Punctuation,
        '\u{2e80}'..='\u{2fff}'
        | '\u{3040}'..='\u{30ff}'
        | '\u{3400}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{3ffff}' => Class::Ideograph,
        _ => Class::Word,
    }
}

fn word_len(text: &str) -> usize {
    let mut chars = text.char_indices().peekable();
    let (_, first) = chars.next().expect("only asked of text that is left");
    let kind = class(first);
    if first == '\r' && text[1..].starts_with('\n') {
        return 2;
    }
    let mut last = first;
    while let Some((at, c)) = chars.next() {
        let goes_on = match (kind, class(c)) {
            (Class::LineEnd, _) => false,
            (_, Class::Mark) => true,
            (Class::Space, Class::Space) | (Class::Word | Class::Mark, Class::Word) => true,
            (Class::Punctuation, Class::Punctuation) => c == first && c != '\u{feff}',
            (Class::Word, Class::Punctuation) => {
                chars.peek().is_some_and(|(_, next)| joins(last, c, *next))
            }
            _ => false,
        };
        if !goes_on {
            return at;
        }
        last = c;
    }
    text.len()
}

fn joins(left: char, c: char, right: char) -> bool {
    match c {
        '.' | ',' | ':' | '/' | '-' => left.is_ascii_digit() && right.is_ascii_digit(),
        '\'' | '’' | '_' => class(left) == Class::Word && class(right) == Class::Word,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expected: &[&str]) {
        let text = expected.concat();
        assert_eq!(words(&text).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn words_spaces_and_punctuation_come_apart() {
        check(&["The", " ", "**", "big", "**", " \t", "cat", "...", "\r\n", "\n", "-", " ", "x"]);
    }

    #[test]
    fn numbers_dates_and_contractions_hold_together() {
        check(&["1.2.3", " ", "10:30", ",", " ", "2026-11-23", ".", " ", "don't", " ", "a_b", "_"]);
    }

    #[test]
    fn ideographs_stand_alone_and_marks_stay_with_their_character() {
        check(&[
            "日",
            "本",
            "e\u{301}te",
            " ",
            "葛\u{e0100}",
            "👩\u{200d}👩\u{200d}👧",
            "—",
            "“",
            "a",
        ]);
    }

    #[test]
    fn a_byte_order_mark_is_a_token_by_itself() {
        check(&["\u{feff}", "Title"]);
    }
}
