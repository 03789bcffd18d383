//! Three-way merge of text: lines first, then words inside what lines cannot settle.
//!
//! Invariant: the result is a function of base, winner and loser alone (never of which of them is
//! "ours"); every token either side added is in the result or in a [`Hunk`]; every line of the
//! result that no word merge touched is a line of one of the three texts; there are no markers.
//! Start reading at [`merge`].

mod chunk;
mod line_ends;
mod weave;

use std::ops::Range;

use crate::conflict::{Hunk, Kept};
use crate::limits::WORD_MERGE_BYTES_MAX;
use crate::lines::{is_blank, lines};
use crate::text_diff::{Change, Interner, diff, offsets};
use crate::words::{is_telling, words, would_glue};
use chunk::{Chunk, Kind, Three, chunks};
pub(crate) use line_ends::LineEnds;
use weave::{Around, weave};

/// Which of two concurrent texts has the larger stamp and wins where a choice must be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The first text.
    Ours,
    /// The second text.
    Theirs,
}

impl Side {
    /// The other side.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Ours => Self::Theirs,
            Self::Theirs => Self::Ours,
        }
    }
}

/// What happens where both sides changed the same words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlap {
    /// The winner's words stand, the loser's go into the hunk.
    Lww,
    /// The lines of both stand, the loser's (older) first.
    Both,
}

/// The merge of two texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextMerge {
    /// The merged text.
    pub text: String,
    /// The places where it had to choose, in order; empty if the merge is clean.
    pub hunks: Vec<Hunk>,
}

/// Merges two texts that were both made from `base`; `prefer` names the winner.
///
/// Laws: `merge(b, x, y, Ours) == merge(b, y, x, Theirs)`; if one side is the base the result is
/// the other; if both are equal the result is either. Cost: about linear, see
/// [`crate::text_diff::STEPS_MAX`].
pub fn merge(base: &str, ours: &str, theirs: &str, prefer: Side, overlap: Overlap) -> TextMerge {
    let (winner, loser) = match prefer {
        Side::Ours => (ours, theirs),
        Side::Theirs => (theirs, ours),
    };
    if winner == loser || loser == base {
        return TextMerge { text: winner.to_owned(), hunks: Vec::new() };
    }
    if winner == base {
        return TextMerge { text: loser.to_owned(), hunks: Vec::new() };
    }
    let ends = LineEnds::of(base, winner, loser);
    let mut merged = merge_opened(&ends.open(base), &ends.open(winner), &ends.open(loser), overlap);
    ends.close(&mut merged.text, merged.hunks.iter_mut());
    merged
}

/// Merges two texts that have no common base: what they share stands once, the rest of both is
/// kept, the older (not preferred) first, and reported.
pub fn merge_unrelated(ours: &str, theirs: &str, prefer: Side) -> TextMerge {
    let (winner, loser) = match prefer {
        Side::Ours => (ours, theirs),
        Side::Theirs => (theirs, ours),
    };
    if winner == loser || loser.is_empty() {
        return TextMerge { text: winner.to_owned(), hunks: Vec::new() };
    }
    if winner.is_empty() {
        return TextMerge { text: loser.to_owned(), hunks: Vec::new() };
    }
    let ends = LineEnds::of("", winner, loser);
    let mut merged = merge_opened_unrelated(&ends.open(winner), &ends.open(loser));
    ends.close(&mut merged.text, merged.hunks.iter_mut());
    merged
}

/// [`merge`] of texts that [`LineEnds`] opened.
pub(crate) fn merge_opened(base: &str, winner: &str, loser: &str, overlap: Overlap) -> TextMerge {
    if winner == loser || loser == base {
        return TextMerge { text: winner.to_owned(), hunks: Vec::new() };
    }
    if winner == base {
        return TextMerge { text: loser.to_owned(), hunks: Vec::new() };
    }
    let mut merger = Merger { overlap, text: String::with_capacity(winner.len()), hunks: vec![] };
    merger.merge_lines(base, winner, loser);
    TextMerge { text: merger.text, hunks: merger.hunks }
}

/// [`merge_unrelated`] of texts that [`LineEnds`] opened.
pub(crate) fn merge_opened_unrelated(winner: &str, loser: &str) -> TextMerge {
    let woven = weave(winner, loser, Around { starts_block: true });
    let hunks = woven.both.into_iter().map(|both| Hunk {
        base: String::new(),
        winner: both.winner,
        loser: both.loser,
        at: both.at.start as u64,
        len: both.at.len() as u64,
        kept: Kept::Both,
    });
    TextMerge { text: woven.text, hunks: hunks.collect() }
}

struct Merger {
    overlap: Overlap,
    text: String,
    hunks: Vec<Hunk>,
}

/// One text cut into tokens.
struct Tokens<'t> {
    text: &'t str,
    list: Vec<&'t str>,
    at: Vec<usize>,
}

impl<'t> Tokens<'t> {
    fn of(text: &'t str, list: impl Iterator<Item = &'t str>) -> Self {
        let list: Vec<_> = list.collect();
        let at = offsets(&list);
        Self { text, list, at }
    }

    fn slice(&self, range: &Range<usize>) -> &'t str {
        &self.text[self.at[range.start]..self.at[range.end]]
    }
}

/// What the tokens of a merge are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Lines,
    Words,
}

/// The three texts of a merge as tokens, and how they relate.
struct Aligned<'t> {
    base: Tokens<'t>,
    winner: Tokens<'t>,
    loser: Tokens<'t>,
    chunks: Vec<Chunk>,
}

impl<'t> Aligned<'t> {
    fn of(base: Tokens<'t>, winner: Tokens<'t>, loser: Tokens<'t>, unit: Unit) -> Self {
        let mut interner = Interner::default();
        let mut number = |tokens: &Tokens<'t>| match unit {
            Unit::Lines => interner.number(&tokens.list),
            Unit::Words => interner.number(&with_soft_breaks(&tokens.list)),
        };
        let (base_numbers, winner_numbers) = (number(&base), number(&winner));
        let loser_numbers = number(&loser);
        let mut to_winner = diff(&base_numbers, &winner_numbers);
        let mut to_loser = diff(&base_numbers, &loser_numbers);
        if unit == Unit::Words {
            to_winner = tidy(&base, &winner, to_winner);
            to_loser = tidy(&base, &loser, to_loser);
        }
        let three = Three { base: &base_numbers, winner: &winner_numbers, loser: &loser_numbers };
        let chunks = chunks(&three, &to_winner, &to_loser);
        Self { base, winner, loser, chunks }
    }

    fn texts(&self, chunk: &Chunk) -> (&'t str, &'t str, &'t str) {
        let base = self.base.slice(&chunk.base);
        (base, self.winner.slice(&chunk.winner), self.loser.slice(&chunk.loser))
    }

    /// Merges the tokens of a stable chunk, which differ in their soft breaks at most.
    fn unchanged(&self, chunk: &Chunk) -> impl Iterator<Item = &'t str> {
        let base = &self.base.list[chunk.base.clone()];
        let winner = &self.winner.list[chunk.winner.clone()];
        let loser = &self.loser.list[chunk.loser.clone()];
        let sides = winner.iter().zip(loser);
        base.iter().zip(sides).map(|(b, (w, l))| if w == b { *l } else { *w })
    }
}

impl Merger {
    fn merge_lines(&mut self, base: &str, winner: &str, loser: &str) {
        let aligned = Aligned::of(
            Tokens::of(base, lines(base)),
            Tokens::of(winner, lines(winner)),
            Tokens::of(loser, lines(loser)),
            Unit::Lines,
        );
        for chunk in &aligned.chunks {
            let (base, winner, loser) = aligned.texts(chunk);
            match chunk.kind {
                Kind::Stable | Kind::Winner | Kind::Same => self.text.push_str(winner),
                Kind::Loser => self.text.push_str(loser),
                Kind::Insert => {
                    let starts_block = lines_end_with_blank(&self.text);
                    self.text.push_str(&weave(winner, loser, Around { starts_block }).text);
                }
                Kind::Clash => self.merge_words(base, winner, loser),
            }
        }
    }

    /// Merges a stretch of whole lines that both sides changed.
    fn merge_words(&mut self, base: &str, winner: &str, loser: &str) {
        if base.len() + winner.len() + loser.len() > WORD_MERGE_BYTES_MAX {
            self.clash(base, winner, loser);
            return;
        }
        let mut aligned = Aligned::of(
            Tokens::of(base, words(base)),
            Tokens::of(winner, words(winner)),
            Tokens::of(loser, words(loser)),
            Unit::Words,
        );
        aligned.chunks = settle(&aligned);
        let clashes = aligned.chunks.iter().any(|chunk| chunk.kind == Kind::Clash);
        if clashes && self.overlap == Overlap::Both {
            self.keep_both(base, winner, loser);
            return;
        }
        for chunk in &aligned.chunks {
            let (base, winner, loser) = aligned.texts(chunk);
            match chunk.kind {
                Kind::Stable => self.text.extend(aligned.unchanged(chunk)),
                Kind::Winner | Kind::Same => self.text.push_str(winner),
                Kind::Loser => self.text.push_str(loser),
                Kind::Insert => {
                    let joined = join_insertions(&aligned, chunk, &self.text)
                        .expect("settle made a clash of what does not join");
                    self.text.push_str(&joined);
                }
                Kind::Clash => self.clash(base, winner, loser),
            }
        }
    }

    fn clash(&mut self, base: &str, winner: &str, loser: &str) {
        if self.overlap == Overlap::Both {
            self.keep_both(base, winner, loser);
            return;
        }
        let from = self.text.len();
        self.text.push_str(winner);
        self.report(base, winner, loser, from, Kept::Winner);
    }

    fn keep_both(&mut self, base: &str, winner: &str, loser: &str) {
        let from = self.text.len();
        let starts_block = lines_end_with_blank(&self.text);
        self.text.push_str(&weave(winner, loser, Around { starts_block }).text);
        self.report(base, winner, loser, from, Kept::Both);
    }

    fn report(&mut self, base: &str, winner: &str, loser: &str, from: usize, kept: Kept) {
        self.hunks.push(Hunk {
            base: base.to_owned(),
            winner: winner.to_owned(),
            loser: loser.to_owned(),
            at: from as u64,
            len: (self.text.len() - from) as u64,
            kept,
        });
    }
}

/// Tells whether the last line of `text` is blank, or there is none.
fn lines_end_with_blank(text: &str) -> bool {
    let body = text.strip_suffix("\r\n").or_else(|| text.strip_suffix(['\n', '\r']));
    let Some(body) = body else { return text.is_empty() };
    is_blank(&body[body.rfind(['\n', '\r']).map_or(0, |at| at + 1)..])
}

/// Writes every line end inside a paragraph as a space, so that a paragraph that one side wrapped
/// anew still merges with an edit of the other; which of the two stands is decided gap by gap.
fn with_soft_breaks<'t>(tokens: &[&'t str]) -> Vec<&'t str> {
    let mut keys = tokens.to_vec();
    for at in 1..tokens.len() {
        if tokens[at].ends_with(['\n', '\r']) && is_soft_break(&tokens[at - 1..]) {
            keys[at] = " ";
        }
    }
    keys
}

/// Tells whether the line end at `around[1]` stands between two words of one paragraph.
fn is_soft_break(around: &[&str]) -> bool {
    let [before, _, after @ ..] = around else { return false };
    if before.ends_with(['\n', '\r', ' ', '\t', '\\', '|']) {
        return false;
    }
    match after {
        // A number and a delimiter begin an item of a list.
        [number, ".", ..] | [number, ")", ..] if number.bytes().all(|b| b.is_ascii_digit()) => {
            false
        }
        [word, ..] if is_telling(word) => true,
        ["(" | "[" | "\"" | "'" | "*" | "**" | "_" | "__" | "`" | "“" | "‘", word, ..] => {
            is_telling(word)
        }
        _ => false,
    }
}

/// Joins changes of words between which so little is left that it stayed by accident.
///
/// Two replaced words in a row are one replaced phrase, and a word that survived amid a paragraph
/// written anew means nothing: taking one word of a phrase from each side would say what nobody
/// said.
fn tidy(base: &Tokens<'_>, side: &Tokens<'_>, changes: Vec<Change>) -> Vec<Change> {
    let mut tidied: Vec<Change> = Vec::with_capacity(changes.len());
    for mut change in changes {
        while let Some(last) = tidied.last() {
            if !is_accident(base, side, last, &change) {
                break;
            }
            change.before.start = last.before.start;
            change.after.start = last.after.start;
            tidied.pop();
        }
        tidied.push(change);
    }
    tidied
}

/// Tells whether what two changes left between them is too little to mean anything.
fn is_accident(base: &Tokens<'_>, side: &Tokens<'_>, first: &Change, second: &Change) -> bool {
    let kept = first.before.end..second.before.start;
    let gone = |change: &Change| base.slice(&change.before).len();
    let new = |change: &Change| side.slice(&change.after).len();
    let kept_tokens = &base.list[kept.clone()];
    let kept_bytes = base.slice(&kept).len();
    let replaces = |change: &Change| !change.before.is_empty() && !change.after.is_empty();
    if kept_tokens.iter().all(|token| is_weak(token)) {
        return replaces(first) && replaces(second);
    }
    if kept_bytes <= gone(first).min(gone(second)) {
        return true;
    }
    let telling = kept_tokens.iter().filter(|token| is_telling(token)).count();
    let one_line = !kept_tokens.iter().any(|token| token.ends_with(['\n', '\r']));
    let changed = |change: &Change| gone(change).max(new(change));
    telling <= 2 && one_line && kept_bytes <= changed(first).min(changed(second))
}

/// Tells whether a token neither says anything nor bounds a cell or a line.
fn is_weak(token: &str) -> bool {
    !is_telling(token) && !token.ends_with(['\n', '\r', '|'])
}

/// Makes clashes of what cannot be taken from both sides, and widens clashes over what is so close
/// to them that the two would read as one phrase.
fn settle(aligned: &Aligned<'_>) -> Vec<Chunk> {
    let mut settled: Vec<Chunk> = Vec::with_capacity(aligned.chunks.len());
    for chunk in &aligned.chunks {
        let mut chunk = chunk.clone();
        if chunk.kind == Kind::Insert && join_insertions(aligned, &chunk, "").is_none() {
            chunk.kind = Kind::Clash;
        }
        settled.push(chunk);
        while absorb_last(aligned, &mut settled) {}
    }
    settled
}

/// Joins the last chunk with the changed chunk before it if the two must be decided together.
fn absorb_last(aligned: &Aligned<'_>, chunks: &mut Vec<Chunk>) -> bool {
    let Some(last) = chunks.last() else { return false };
    if matches!(last.kind, Kind::Stable) {
        return glued(aligned, chunks) && absorb(chunks, 2);
    }
    let n = chunks.len();
    if n >= 2 && chunks[n - 2].kind != Kind::Stable {
        let clashes = chunks[n - 2..].iter().any(|chunk| chunk.kind == Kind::Clash);
        return (clashes || glued(aligned, chunks)) && absorb(chunks, 2);
    }
    if n >= 3 && chunks[n - 3].kind != Kind::Stable {
        let clashes = [&chunks[n - 3], last].iter().any(|chunk| chunk.kind == Kind::Clash);
        let between = &aligned.base.list[chunks[n - 2].base.clone()];
        if clashes && between.iter().all(|token| is_weak(token)) {
            return absorb(chunks, 3);
        }
    }
    glued(aligned, chunks) && absorb(chunks, 2)
}

fn absorb(chunks: &mut Vec<Chunk>, count: usize) -> bool {
    let from = chunks.len() - count;
    let tail = chunks.split_off(from + 1);
    for chunk in &tail {
        chunks[from].absorb(chunk);
    }
    true
}

/// Tells whether the last two chunks would join two words that no side has side by side.
fn glued(aligned: &Aligned<'_>, chunks: &[Chunk]) -> bool {
    let [.., before, after] = chunks else { return false };
    let taken = |chunk: &Chunk| match chunk.kind {
        Kind::Loser => aligned.loser.slice(&chunk.loser),
        _ => aligned.winner.slice(&chunk.winner),
    };
    let of_winner = |chunk: &Chunk| chunk.kind != Kind::Loser;
    let of_loser = |chunk: &Chunk| !matches!(chunk.kind, Kind::Winner | Kind::Clash);
    if (of_winner(before) && of_winner(after)) || (of_loser(before) && of_loser(after)) {
        return false;
    }
    let (left, right) = (taken(before).chars().next_back(), taken(after).chars().next());
    left.zip(right).is_some_and(|(left, right)| would_glue(left, right))
}

/// Puts what both sides inserted at one place one after the other, what they share only once.
///
/// `None` if that would glue words together or nest punctuation: then it is a clash.
fn join_insertions(aligned: &Aligned<'_>, chunk: &Chunk, before: &str) -> Option<String> {
    let (_, winner, loser) = aligned.texts(chunk);
    let ended = |text: &str| text.ends_with(['\n', '\r']);
    let at_line_start = chunk.base.start == 0 || ended(aligned.base.list[chunk.base.start - 1]);
    if at_line_start && ended(winner) && ended(loser) {
        let starts_block = lines_end_with_blank(before);
        return Some(weave(winner, loser, Around { starts_block }).text);
    }
    let w = &aligned.winner.list[chunk.winner.clone()];
    let l = &aligned.loser.list[chunk.loser.clone()];
    let same = w.iter().zip(l).take_while(|(w, l)| w == l).count();
    let prefix = w[..same].iter().rposition(|token| is_telling(token)).map_or(0, |at| at + 1);
    let (w, l, shared) = (&w[prefix..], &l[prefix..], &w[..prefix]);
    let same = w.iter().rev().zip(l.iter().rev()).take_while(|(w, l)| w == l).count();
    let tail = &w[w.len() - same..];
    let suffix = tail.iter().position(|token| is_telling(token)).map_or(0, |at| tail.len() - at);
    let (w, l, tail) = (&w[..w.len() - suffix], &l[..l.len() - suffix], &w[w.len() - suffix..]);
    let parts = [shared, l, w, tail];
    let says = |tokens: &[&str]| tokens.iter().any(|token| is_telling(token));
    if !w.is_empty() && !l.is_empty() && !says(w) && !says(l) {
        return None;
    }
    let last = |tokens: &[&str]| tokens.last().and_then(|token| token.chars().next_back());
    let first = |tokens: &[&str]| tokens.first().and_then(|token| token.chars().next());
    let glue = last(l).zip(first(w)).is_some_and(|(left, right)| would_glue(left, right));
    (!glue).then(|| parts.concat().concat())
}

#[cfg(test)]
mod tests;
