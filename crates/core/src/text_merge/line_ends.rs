//! How three texts end their lines, and how their merge does.
//!
//! Invariant: the merge sees texts whose last line is ended and which agree on the line end, if
//! each of them has only one; so neither a missing final newline nor a conversion to CRLF on one
//! side is a change of lines. Whoever changed the line ends or the final newline wins.

use std::borrow::Cow;
use std::ops::Range;

use crate::conflict::Hunk;
use crate::lines::{end_of, lines};

/// The decision about line ends for one merge.
pub(crate) struct LineEnds {
    convert_to: Option<&'static str>,
    /// What ends a last line that has no end.
    end: &'static str,
    ends_last: bool,
}

impl LineEnds {
    /// Decides for one merge; the base is empty if there is none.
    pub(crate) fn of(base: &str, winner: &str, loser: &str) -> Self {
        let styles = [style(base), style(winner), style(loser)];
        let [base_style, winner_style, loser_style] = styles;
        let convert_to = match base_style {
            Style::One(base) => {
                [winner_style, loser_style].into_iter().find_map(|side| match side {
                    Style::One(end) if end != base => Some(end),
                    _ => None,
                })
            }
            // Nothing tells who converted: the same text on two systems.
            Style::None => match (winner_style, loser_style) {
                (Style::One(winner), Style::One(loser)) if winner != loser => Some(winner),
                _ => None,
            },
            Style::Mixed => None,
        };
        let first = [winner_style, loser_style, base_style]
            .into_iter()
            .find_map(|style| if let Style::One(end) = style { Some(end) } else { None });
        Self {
            convert_to,
            end: convert_to.or(first).unwrap_or("\n"),
            ends_last: ends_last(base, winner, loser),
        }
    }

    /// Writes a text the way the merge wants it.
    pub(crate) fn open<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let unended = !text.is_empty() && !text.ends_with(['\n', '\r']);
        let Some(to) = self.convert_to else {
            return if unended { Cow::Owned(format!("{text}{}", self.end)) } else { text.into() };
        };
        let mut converted = String::with_capacity(text.len() + text.len() / 16);
        for line in lines(text) {
            converted.push_str(&line[..line.len() - end_of(line).len()]);
            converted.push_str(to);
        }
        Cow::Owned(converted)
    }

    /// Takes the final line end off the merged text if that was decided; `hunks` are those in it.
    ///
    /// A hunk in which the sides differed by that line end alone is none any more.
    pub(crate) fn close<H: AsHunk>(&self, text: &mut String, hunks: &mut Vec<H>) {
        if self.ends_last {
            return;
        }
        let Some(last) = lines(text).last() else { return };
        let end = end_of(last).to_owned();
        let len = text.len() - end.len();
        text.truncate(len);
        for hunk in hunks.iter_mut().filter_map(AsHunk::as_hunk) {
            let Range { start, end: hunk_end } = hunk.range();
            if hunk_end <= len {
                continue;
            }
            let strip = |side: &mut String| {
                let stripped = side.strip_suffix(end.as_str()).map(str::len);
                side.truncate(stripped.unwrap_or(side.len()));
            };
            strip(&mut hunk.base);
            strip(&mut hunk.loser);
            strip(&mut hunk.winner);
            if start > len {
                // The winner has nothing below the last line: what others have there begins with
                // the line end that was just taken off.
                for side in [&mut hunk.base, &mut hunk.loser] {
                    if !side.is_empty() {
                        side.insert_str(0, &end);
                    }
                }
            }
            hunk.at = start.min(len) as u64;
            hunk.len = len as u64 - hunk.at;
        }
        hunks.retain_mut(|hunk| hunk.as_hunk().is_none_or(|hunk| hunk.winner != hunk.loser));
    }
}

/// What may hold a place in the merged text.
pub(crate) trait AsHunk {
    /// The hunk, if it is one.
    fn as_hunk(&mut self) -> Option<&mut Hunk>;
}

impl AsHunk for Hunk {
    fn as_hunk(&mut self) -> Option<&mut Hunk> {
        Some(self)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    None,
    One(&'static str),
    Mixed,
}

fn style(text: &str) -> Style {
    if !text.contains('\r') {
        return if text.contains('\n') { Style::One("\n") } else { Style::None };
    }
    let mut found = Style::None;
    for line in lines(text) {
        let end = match end_of(line) {
            "" => continue,
            "\n" => "\n",
            "\r\n" => "\r\n",
            _ => "\r",
        };
        match found {
            Style::None => found = Style::One(end),
            Style::One(other) if other == end => {}
            _ => return Style::Mixed,
        }
    }
    found
}

/// Merges whether the last line is ended; a side without text has no say.
fn ends_last(base: &str, winner: &str, loser: &str) -> bool {
    let ended = |text: &str| (!text.is_empty()).then(|| text.ends_with(['\n', '\r']));
    match (ended(base), ended(winner), ended(loser)) {
        (_, Some(winner), Some(loser)) if winner == loser => winner,
        (Some(base), Some(_), Some(_)) => !base,
        (_, Some(side), None) | (_, None, Some(side)) => side,
        _ => true,
    }
}
