//! Cuts text into lines that keep their ends; the one definition of "line" in the crate.
//!
//! Invariant: the lines of a text, concatenated, are the text, and no line is empty. A line ends
//! after `\n`, after `\r\n`, after a `\r` that no `\n` follows, or with the text.

/// Returns the offset just past the line that starts at `start`.
pub fn line_end(text: &[u8], start: usize) -> usize {
    let mut at = start;
    while at < text.len() {
        let byte = text[at];
        at += 1;
        if byte > b'\r' {
            continue;
        }
        if byte == b'\n' {
            return at;
        }
        if byte == b'\r' {
            return if text.get(at) == Some(&b'\n') { at + 1 } else { at };
        }
    }
    at
}

/// Iterates over the lines of `text`, each with its line end.
pub fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at == text.len() {
            return None;
        }
        let end = line_end(text.as_bytes(), at);
        let line = &text[at..end];
        at = end;
        Some(line)
    })
}

/// Strips the line end (`\n`, `\r\n` or `\r`) from one line.
pub fn without_end(line: &str) -> &str {
    line.strip_suffix("\r\n").or_else(|| line.strip_suffix(['\n', '\r'])).unwrap_or(line)
}

/// Returns the line end of one line: `\n`, `\r\n`, `\r`, or nothing.
pub fn end_of(line: &str) -> &str {
    &line[without_end(line).len()..]
}

/// Tells whether a line holds nothing but spaces and tabs.
pub fn is_blank(line: &str) -> bool {
    line.bytes().all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_line_end_stays_with_its_line() {
        let cut: Vec<_> = lines("a\nb\r\nc\rd\r\r\n\ne").collect();
        assert_eq!(cut, ["a\n", "b\r\n", "c\r", "d\r", "\r\n", "\n", "e"]);
        assert_eq!(lines("").count(), 0);
        assert_eq!(cut.iter().map(|line| end_of(line)).collect::<String>(), "\n\r\n\r\r\r\n\n");
    }
}
