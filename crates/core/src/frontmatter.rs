//! The head of a note as ordered top-level keys, each with its exact bytes.
//!
//! Invariant: `open + (lead + text of every entry) + tail` is the head, byte for byte, so an entry
//! that nobody changed keeps its comments, quotes, indentation and line ends. Start reading at
//! [`Frontmatter::of`].
//!
//! Only the plain shapes of YAML that notes have are understood; what they mean below the top level
//! does not matter here. A head with anything else (anchors, tags, explicit keys, a key twice, tabs
//! as indentation, unclosed quotes or brackets, control characters) is *opaque* and is merged as
//! text. So this never accepts what a YAML parser would read as other top-level keys.

use std::collections::BTreeSet;

use crate::block::head_len;
use crate::lines::{is_blank, lines, without_end};

/// What a note's text begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frontmatter<'t> {
    /// No head.
    Absent,
    /// A head whose top-level keys are known.
    Keys(Head<'t>),
    /// A head that is not understood: text.
    Opaque,
}

/// A head whose top-level keys are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head<'t> {
    /// The byte order mark, if any, and the opening line.
    pub open: &'t str,
    /// The keys in their order; no key is there twice.
    pub entries: Vec<Entry<'t>>,
    /// Blank lines and comments below the last entry, and the closing line.
    pub tail: &'t str,
}

/// One top-level key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'t> {
    /// The key, unquoted.
    pub key: String,
    /// The blank lines and comments above it.
    pub lead: &'t str,
    /// Its lines, from the key to the last line of the value.
    pub text: &'t str,
    /// Where in `text` the value begins: behind the colon.
    pub value_at: usize,
}

impl<'t> Frontmatter<'t> {
    /// Takes the head off a note; returns it and the rest, the body.
    ///
    /// Linear in the head. An opaque head is part of the body returned.
    pub fn of(text: &'t str) -> (Self, &'t str) {
        let len = head_len(text);
        if len == 0 {
            return (Self::Absent, text);
        }
        match read(&text[..len]) {
            Some(head) => (Self::Keys(head), &text[len..]),
            None => (Self::Opaque, text),
        }
    }
}

impl<'t> Head<'t> {
    /// Finds a key's entry.
    pub fn get(&self, key: &str) -> Option<&Entry<'t>> {
        self.entries.iter().find(|entry| entry.key == key)
    }
}

impl<'t> Entry<'t> {
    /// The value's bytes, from behind the colon to the end of its last line.
    pub fn value(&self) -> &'t str {
        &self.text[self.value_at..]
    }
}

fn read(head: &str) -> Option<Head<'_>> {
    if head.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\n' | '\r')) {
        return None;
    }
    let open = lines(head).next()?;
    let close = lines(head).last()?;
    let inner = &head[open.len()..head.len() - close.len()];
    let mut reader = Reader { text: inner, at: 0, pending: 0, entries: Vec::new(), open: None };
    while reader.at < inner.len() {
        reader.take_line()?;
    }
    reader.close_entry();
    let entries = reader.entries;
    let keys: BTreeSet<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
    if keys.len() != entries.len() {
        return None;
    }
    Some(Head { open, tail: &head[open.len() + reader.pending..], entries })
}

/// How the lines below a key can go on with its value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Goes {
    /// The value is complete; only comments may follow.
    Nowhere,
    /// Indented lines, or items of a list at the margin.
    Nested,
    /// Indented lines whatever they hold.
    Literal,
    /// Indented lines of one plain scalar.
    Folded,
}

struct OpenEntry {
    key: String,
    /// Where its lead, its own lines and its value begin.
    lead: usize,
    start: usize,
    value: usize,
    goes: Goes,
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    /// Where the lines begin that belong to no entry yet.
    pending: usize,
    entries: Vec<Entry<'t>>,
    open: Option<OpenEntry>,
}

impl<'t> Reader<'t> {
    fn line(&self) -> &'t str {
        lines(&self.text[self.at..]).next().unwrap_or("")
    }

    /// Reads one line, or all lines of a quoted or bracketed value; `None` if not understood.
    fn take_line(&mut self) -> Option<()> {
        let line = self.line();
        let content = without_end(line);
        let indented = content.starts_with(' ');
        if content.starts_with('\t') && !is_blank(line) {
            return None;
        }
        let literal = self.open.as_ref().is_some_and(|open| open.goes == Goes::Literal);
        let comment = content.trim_start_matches(' ').starts_with('#');
        if is_blank(line) || (comment && !(literal && indented)) {
            self.at += line.len();
            return Some(());
        }
        let item = content == "-" || content.starts_with("- ");
        if indented || item {
            self.open.as_ref().filter(|open| match open.goes {
                Goes::Nowhere => false,
                Goes::Nested => true,
                Goes::Literal => indented,
                Goes::Folded => indented && is_plain_rest(content),
            })?;
            self.at += line.len();
            self.pending = self.at;
            return Some(());
        }
        self.take_key(content)
    }

    fn take_key(&mut self, content: &str) -> Option<()> {
        self.close_entry();
        let (key, colon) = read_key(content)?;
        let value = self.at + colon + 1;
        let (goes, end) = self.read_value(value)?;
        self.open = Some(OpenEntry { key, lead: self.pending, start: self.at, value, goes });
        self.at = end;
        self.pending = end;
        Some(())
    }

    fn close_entry(&mut self) {
        if let Some(open) = self.open.take() {
            // What is pending now follows the entry; its own lines end where that begins.
            self.entries.push(Entry {
                key: open.key,
                lead: &self.text[open.lead..open.start],
                text: &self.text[open.start..self.pending],
                value_at: open.value - open.start,
            });
        }
    }

    /// Reads what follows a colon; returns how it goes on and where the lines read so far end.
    fn read_value(&self, at: usize) -> Option<(Goes, usize)> {
        let rest = &self.text[at..];
        let line = lines(rest).next().unwrap_or("");
        let value = line.trim_start_matches([' ', '\t']);
        let value_at = at + (line.len() - value.len());
        let line_end = at + line.len();
        let content = without_end(value);
        if is_comment_or_nothing(&line[..line.len() - value.len()], content) {
            return Some((Goes::Nested, line_end));
        }
        match content.as_bytes()[0] {
            b'|' | b'>' => is_block_header(content).then_some((Goes::Literal, line_end)),
            b'[' | b'{' => self.closed_line(value_at, flow_len(&self.text[value_at..])?),
            b'"' | b'\'' => self.closed_line(value_at, quoted_len(&self.text[value_at..])?),
            b'&' | b'*' | b'!' | b'%' | b'@' | b'`' | b'#' | b',' | b']' | b'}' => None,
            b'-' | b'?' | b':' if matches!(content.as_bytes().get(1), None | Some(b' ')) => None,
            _ => is_plain_rest(content).then_some((Goes::Folded, line_end)),
        }
    }

    /// Checks that nothing but a comment follows a closed value and finds the end of its line.
    fn closed_line(&self, at: usize, len: usize) -> Option<(Goes, usize)> {
        let rest = lines(&self.text[at + len..]).next().unwrap_or("");
        let content = without_end(rest);
        let value = content.trim_start_matches([' ', '\t']);
        let space = &content[..content.len() - value.len()];
        is_comment_or_nothing(space, value).then_some((Goes::Nowhere, at + len + rest.len()))
    }
}

fn is_comment_or_nothing(space: &str, content: &str) -> bool {
    content.is_empty() || (content.starts_with('#') && !space.is_empty())
}

fn is_block_header(content: &str) -> bool {
    let header = &content[1..];
    let marks = header.find([' ', '\t']).map_or(header, |at| &header[..at]);
    let rest = &header[marks.len()..];
    let comment = rest.trim_start_matches([' ', '\t']);
    matches!(marks, "" | "-" | "+") && is_comment_or_nothing(rest, comment)
}

/// Tells whether a line can be (part of) a plain scalar: no key in it.
fn is_plain_rest(content: &str) -> bool {
    let text = content.find(" #").map_or(content, |at| &content[..at]);
    let text = text.trim_end_matches([' ', '\t']);
    !text.contains(": ") && !text.contains(":\t") && !text.ends_with(':')
}

/// Reads a key at the start of a line; returns it unquoted, and where its colon is.
fn read_key(content: &str) -> Option<(String, usize)> {
    let first = *content.as_bytes().first()?;
    let (key, colon) = match first {
        b'"' | b'\'' => {
            let len = quoted_len(content)?;
            (scalar(&content[..len])?, len)
        }
        b'?' | b':' | b'-' if matches!(content.as_bytes().get(1), None | Some(b' ')) => {
            return None;
        }
        b',' | b'[' | b']' | b'{' | b'}' | b'#' | b'&' | b'*' | b'!' | b'|' | b'>' | b'%'
        | b'@' | b'`' => return None,
        _ => {
            let ends =
                |at: &usize| matches!(content.as_bytes().get(at + 1), None | Some(b' ' | b'\t'));
            let colon = content.match_indices(':').map(|(at, _)| at).find(ends)?;
            let key = &content[..colon];
            if key.contains(" #") || key.ends_with([' ', '\t']) {
                return None;
            }
            (key.to_owned(), colon)
        }
    };
    let behind = content.as_bytes().get(colon + 1);
    (content.as_bytes().get(colon) == Some(&b':') && matches!(behind, None | Some(b' ' | b'\t')))
        .then_some((key, colon))
}

/// The length of a quoted scalar at the start of `text`, which may run over indented lines.
fn quoted_len(text: &str) -> Option<usize> {
    let quote = text.as_bytes()[0];
    let bytes = text.as_bytes();
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if quote == b'"' => at += 1,
            b'\n' | b'\r' if !matches!(bytes.get(at + 1), Some(b' ' | b'\n' | b'\r')) => {
                return None;
            }
            byte if byte == quote => {
                if quote == b'\'' && bytes.get(at + 1) == Some(&b'\'') {
                    at += 1;
                } else {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// The length of a bracketed value at the start of `text`, brackets balanced, quotes closed.
fn flow_len(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut closers = Vec::new();
    let mut at = 0;
    // A quote opens a scalar only where a scalar can begin.
    let mut fresh = true;
    while at < bytes.len() {
        match bytes[at] {
            b'[' => closers.push(b']'),
            b'{' => closers.push(b'}'),
            byte @ (b']' | b'}') => {
                if closers.pop() != Some(byte) {
                    return None;
                }
                if closers.is_empty() {
                    return Some(at + 1);
                }
            }
            b'"' | b'\'' if fresh => at += quoted_len(&text[at..])? - 1,
            b'#' if at > 0 && matches!(bytes[at - 1], b' ' | b'\t' | b'\n' | b'\r') => return None,
            b'&' | b'*' | b'!' | b'|' | b'>' | b'%' | b'@' | b'`' if fresh => return None,
            _ => {}
        }
        fresh = match bytes[at] {
            b'[' | b'{' | b',' => true,
            b':' => true,
            b' ' | b'\t' | b'\n' | b'\r' => fresh,
            _ => false,
        };
        at += 1;
    }
    None
}

/// The key that a line would begin an entry with, if it were in a head.
pub(crate) fn key_of_line(line: &str) -> Option<String> {
    let (key, _) = read_key(without_end(line.strip_prefix('\u{feff}').unwrap_or(line)))?;
    Some(key)
}

/// Tells whether a line could open a head.
pub(crate) fn is_opening(line: &str) -> bool {
    line.strip_prefix('\u{feff}').unwrap_or(line).strip_prefix("---").is_some_and(is_blank)
}

/// Reads one plain or quoted scalar on one line; `None` if it is anything else.
pub(crate) fn scalar(raw: &str) -> Option<String> {
    if raw.contains(['\n', '\r']) {
        return None;
    }
    if let Some(inner) = raw.strip_prefix('\'') {
        return Some(inner.strip_suffix('\'')?.replace("''", "'"));
    }
    if let Some(inner) = raw.strip_prefix('"') {
        return unescape(inner.strip_suffix('"')?);
    }
    Some(raw.to_owned())
}

fn unescape(inner: &str) -> Option<String> {
    let mut text = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            text.push(c);
            continue;
        }
        let digits = match chars.next()? {
            c @ ('"' | '\\' | '/' | ' ') => {
                text.push(c);
                continue;
            }
            't' => {
                text.push('\t');
                continue;
            }
            'n' => {
                text.push('\n');
                continue;
            }
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => return None,
        };
        let mut code = 0u32;
        for _ in 0..digits {
            code = code.checked_mul(16)?.checked_add(chars.next()?.to_digit(16)?)?;
        }
        text.push(char::from_u32(code)?);
    }
    Some(text)
}

#[cfg(test)]
mod tests;
