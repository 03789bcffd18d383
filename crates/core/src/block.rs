//! Lossless split of Markdown into top-level blocks.
//!
//! Invariant: `split(text).concat() == text` for every text, and every block is between 1 and
//! [`BLOCK_BYTES_MAX`] bytes. The content hash of a note is computed over these blocks, so the
//! rules below are part of the format: they never change without a new hash domain.
//!
//! # The rules
//!
//! All bytes named here are ASCII. A **line** ends after LF, after CR LF, after a CR that no LF
//! follows, or with the text; its end belongs to it. A line is **blank** if it holds nothing but
//! spaces, tabs and its end. The **indent** of a line is the number of columns its leading spaces
//! and tabs fill (a space fills one, a tab goes to the next multiple of four); its **content** is
//! what follows them, without the line end. A U+FEFF at the very start of the text belongs to the
//! first line and is skipped when that line is looked at.
//!
//! Looking at one line that is not blank:
//!
//! * **heading**: indent ≤ 3, content is 1 to 6 `#`, then a space, a tab or the end of content.
//! * **fence**: content starts with three or more backticks with no other backtick anywhere later
//!   in the content, or with three or more `~`. Indent ≤ 3, any indent while in a list.
//! * **item**: content is `-`, `+` or `*`, or 1 to 9 digits and then `.` or `)`; then a space, a
//!   tab or the end of content.
//! * **interrupting item**: an item whose marker is `-`, `+`, `*`, `1.` or `1)`, followed by at
//!   least one byte other than spaces and tabs.
//!
//! The text is cut before a line **L** as follows, reading from the top:
//!
//! 1. If the first line is `---` (after the BOM, spaces and tabs may follow) and a later line is
//!    `---` or `...` (spaces and tabs may follow, nothing may precede), the first block is the
//!    **head**: it runs to the first such later line, and L after it starts a block.
//! 2. A blank line outside a fence never starts a block: blank lines belong to the block before
//!    them, those at the very start of the text to the first block.
//! 3. A fence runs from its opening line to the first line, at any indent, whose content is at
//!    least as many of the same character and then only spaces and tabs; without one, to the end
//!    of the text. The text is not cut by rules 4 to 7 inside it.
//! 4. The first line that is not blank starts the first block. A line after a heading, or after
//!    a fence that is not in a list, starts a block.
//! 5. In a list (a block whose first non-blank line is an item with indent ≤ 3): a line with
//!    indent ≥ 2 continues it; otherwise a heading or a fence starts a block, an item continues the
//!    list, and any other line starts a block if a blank line precedes it and continues the list if
//!    not. A fence that continues a list ends without ending the list.
//! 6. In any other block, L starts a block if a blank line precedes it, or if it is a heading or
//!    a fence, or if it is an interrupting item with indent ≤ 3.
//! 7. A block's kind is that of its first non-blank line, tried in this order: heading, fence,
//!    item (with indent ≤ 3), other.
//! 8. A block that grew long is cut further. Once it holds [`BLOCK_BYTES_CUT`] bytes or more, the
//!    next line starts a new block if it is not blank and, when the block is a list and the line
//!    is not inside a fence, only if the line is an item with indent ≤ 3. The new block goes on
//!    with the kind (and the open fence) of the one it was cut from; the rest of the rules see no
//!    difference.
//! 9. A line, blank or not, that would bring the block above [`BLOCK_BYTES_MAX`] bytes starts a new
//!    block, as in rule 8. A line that is longer than that by itself is cut at the last character
//!    boundary that leaves the piece no longer than the maximum, again and again; what is left goes
//!    on as a line.

use crate::lines::{is_blank, line_end, without_end};

/// The size in bytes from which a block is cut at the next item or line.
pub const BLOCK_BYTES_CUT: usize = 4 * 1024;

/// The size in bytes that no block exceeds, whatever the text holds.
pub const BLOCK_BYTES_MAX: usize = 64 * 1024;

/// Cuts `text` into its top-level blocks; joined in order they are the text, byte for byte.
///
/// Linear in the length of the text. The empty text has no blocks.
pub fn split(text: &str) -> Vec<&str> {
    let mut splitter = Splitter { text, start: 0, cuts: Vec::new(), state: State::Empty };
    let mut at = splitter.take_head();
    let mut after_blank = false;
    while at < text.len() {
        let end = line_end(text.as_bytes(), at);
        let line = &text[at..end];
        let line = if at == 0 { line.strip_prefix('\u{feff}').unwrap_or(line) } else { line };
        let blank = is_blank(line);
        splitter.take_line(at, line, blank, after_blank);
        splitter.bound_line(at, end);
        after_blank = blank;
        at = end;
    }
    splitter.cut(text.len());
    splitter.cuts
}

/// Returns the length in bytes of the head (BOM, opening line to closing line), 0 if there is none.
pub(crate) fn head_len(text: &str) -> usize {
    let skip = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let bytes = text.as_bytes();
    let mut at = line_end(bytes, skip);
    if !is_delimiter(&text[skip..at], "---") {
        return 0;
    }
    while at < bytes.len() {
        let end = line_end(bytes, at);
        let line = &text[at..end];
        if is_delimiter(line, "---") || is_delimiter(line, "...") {
            return end;
        }
        at = end;
    }
    0
}

fn is_delimiter(line: &str, delimiter: &str) -> bool {
    line.strip_prefix(delimiter).is_some_and(is_blank)
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Fence {
    mark: u8,
    len: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing but blank lines so far.
    Empty,
    /// The block is complete: the next line that is not blank starts another.
    Closed,
    List {
        fence: Option<Fence>,
    },
    Fenced(Fence),
    Other,
}

struct Splitter<'t> {
    text: &'t str,
    start: usize,
    cuts: Vec<&'t str>,
    state: State,
}

impl<'t> Splitter<'t> {
    fn take_head(&mut self) -> usize {
        let end = head_len(self.text);
        if end == 0 {
            return 0;
        }
        let mut at = 0;
        while at < end {
            let line = line_end(self.text.as_bytes(), at);
            self.cut_when_long(at, !is_blank(&self.text[at..line]));
            self.bound_line(at, line);
            at = line;
        }
        self.state = State::Closed;
        end
    }

    /// Applies rules 2 to 8 to the line at `at`.
    fn take_line(&mut self, at: usize, line: &str, blank: bool, after_blank: bool) {
        let fence = match self.state {
            State::Fenced(fence) | State::List { fence: Some(fence) } => Some(fence),
            _ => None,
        };
        if let Some(fence) = fence {
            self.cut_when_long(at, !blank);
            if !blank && closes(line, fence) {
                self.state = match self.state {
                    State::List { .. } => State::List { fence: None },
                    _ => State::Closed,
                };
            }
            return;
        }
        if blank {
            return;
        }
        let look = Look::at(line);
        if self.starts_block(&look, after_blank) {
            if self.state != State::Empty {
                self.cut(at);
            }
            self.state = look.opens();
            return;
        }
        if let State::List { fence } = &mut self.state {
            let item = look.item && look.indent <= 3;
            *fence = look.fence;
            self.cut_when_long(at, item);
        } else {
            self.cut_when_long(at, true);
        }
    }

    fn starts_block(&self, look: &Look, after_blank: bool) -> bool {
        match self.state {
            State::Empty | State::Closed => true,
            State::List { .. } if look.indent >= 2 => false,
            State::List { .. } => {
                look.heading || look.fence.is_some() || (after_blank && !look.item)
            }
            State::Fenced(_) => false,
            State::Other => {
                after_blank
                    || look.heading
                    || (look.indent <= 3 && (look.fence.is_some() || look.interrupts))
            }
        }
    }

    fn cut_when_long(&mut self, at: usize, allowed: bool) {
        if allowed && at - self.start >= BLOCK_BYTES_CUT {
            self.cut(at);
        }
    }

    /// Applies rule 9 to the line `at..end`, which is now part of the block.
    fn bound_line(&mut self, at: usize, end: usize) {
        if end - self.start <= BLOCK_BYTES_MAX {
            return;
        }
        self.cut(at);
        while end - self.start > BLOCK_BYTES_MAX {
            let mut piece = self.start + BLOCK_BYTES_MAX;
            while !self.text.is_char_boundary(piece) {
                piece -= 1;
            }
            self.cut(piece);
        }
    }

    fn cut(&mut self, at: usize) {
        if at > self.start {
            self.cuts.push(&self.text[self.start..at]);
            self.start = at;
        }
    }
}

fn closes(line: &str, fence: Fence) -> bool {
    let content = line.trim_start_matches([' ', '\t']).as_bytes();
    let run = content.iter().take_while(|&&byte| byte == fence.mark).count();
    run >= fence.len && is_blank(&line[line.len() - (content.len() - run)..])
}

/// What one line that is not blank looks like by itself.
pub(crate) struct Look {
    pub(crate) indent: usize,
    pub(crate) heading: bool,
    pub(crate) item: bool,
    interrupts: bool,
    fence: Option<Fence>,
}

impl Look {
    pub(crate) fn at(line: &str) -> Self {
        let line = without_end(line);
        let mut indent = 0;
        let mut skip = 0;
        for byte in line.bytes() {
            match byte {
                b' ' => indent += 1,
                b'\t' => indent += 4 - indent % 4,
                _ => break,
            }
            skip += 1;
        }
        let content = &line.as_bytes()[skip..];
        let marker = item_marker(content);
        Self {
            indent,
            heading: indent <= 3 && is_heading(content),
            item: marker.is_some(),
            interrupts: marker.is_some_and(|len| {
                let one = len == 1 || (len == 2 && content[0] == b'1');
                one && content[len..].iter().any(|byte| !matches!(byte, b' ' | b'\t'))
            }),
            fence: fence(content),
        }
    }

    fn opens(&self) -> State {
        if self.heading {
            return State::Closed;
        }
        match self.fence {
            Some(fence) if self.indent <= 3 => State::Fenced(fence),
            _ if self.item && self.indent <= 3 => State::List { fence: None },
            _ => State::Other,
        }
    }
}

fn ends_marker(content: &[u8], len: usize) -> bool {
    matches!(content.get(len), None | Some(b' ' | b'\t'))
}

fn is_heading(content: &[u8]) -> bool {
    let hashes = content.iter().take(7).take_while(|&&byte| byte == b'#').count();
    (1..=6).contains(&hashes) && ends_marker(content, hashes)
}

fn item_marker(content: &[u8]) -> Option<usize> {
    let len = match content.first()? {
        b'-' | b'+' | b'*' => 1,
        b'0'..=b'9' => {
            let digits = content.iter().take(10).take_while(|byte| byte.is_ascii_digit()).count();
            if digits > 9 || !matches!(content.get(digits), Some(b'.' | b')')) {
                return None;
            }
            digits + 1
        }
        _ => return None,
    };
    ends_marker(content, len).then_some(len)
}

fn fence(content: &[u8]) -> Option<Fence> {
    let mark = *content.first()?;
    if !matches!(mark, b'`' | b'~') {
        return None;
    }
    let len = content.iter().take_while(|&&byte| byte == mark).count();
    let valid = len >= 3 && (mark == b'~' || !content[len..].contains(&b'`'));
    valid.then_some(Fence { mark, len })
}

#[cfg(test)]
mod tests;
