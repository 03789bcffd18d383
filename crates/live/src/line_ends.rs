//! What a session does not edit: a byte order mark, and carriage returns before line feeds.
//!
//! Law: `Ends::of(text).restore(&lf(text)) == text` where all line ends of `text` are alike. A text
//! with both kinds gets the kind that most of its lines have, as most editors do on saving.

/// The byte order mark of UTF-8.
const BOM: char = '\u{feff}';

/// How a note's file begins and how its lines end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ends {
    /// It begins with a byte order mark.
    pub bom: bool,
    /// Its lines end with carriage return and line feed.
    pub crlf: bool,
}

impl Ends {
    /// Of this text.
    pub fn of(text: &str) -> Self {
        let lines = text.matches('\n').count();
        let crlf = text.matches("\r\n").count();
        Self { bom: text.starts_with(BOM), crlf: crlf * 2 > lines }
    }

    /// A session's text as the file has it.
    pub fn restore(self, text: &str) -> String {
        let mut file = String::with_capacity(text.len() + 3);
        if self.bom {
            file.push(BOM);
        }
        match self.crlf {
            true => file.push_str(&text.replace('\n', "\r\n")),
            false => file.push_str(text),
        }
        file
    }
}

/// A file's text as a session has it: lines end with a line feed and nothing else. A carriage
/// return alone counts as one, because every browser's editor breaks the line there.
pub fn lf(text: &str) -> String {
    let text = text.strip_prefix(BOM).unwrap_or(text);
    match text.contains('\r') {
        true => text.replace("\r\n", "\n").replace('\r', "\n"),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_comes_back_as_it_was() {
        for text in ["", "a", "a\nb\n", "a\r\nb\r\n", "\u{feff}a\r\nb", "\u{feff}", "\u{feff}a\n"] {
            assert_eq!(Ends::of(text).restore(&lf(text)), text, "{text:?}");
            assert!(!lf(text).contains(['\r', BOM]));
        }
    }

    #[test]
    fn most_lines_decide() {
        assert_eq!(Ends::of("a\r\nb\r\nc\n").restore(&lf("a\r\nb\r\nc\n")), "a\r\nb\r\nc\r\n");
        assert_eq!(Ends::of("a\r\nb\nc\n").restore(&lf("a\r\nb\nc\n")), "a\nb\nc\n");
        assert_eq!(lf("a\rb"), "a\nb");
    }
}
