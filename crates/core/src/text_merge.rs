//! Three-way merge of text: lines first, then words inside what lines cannot settle.
//!
//! Invariant: the result is a function of base, winner and loser alone (never of which of them is
//! "ours"); every token either side added is in the result or in a [`Hunk`]; every line of the
//! result that no word merge touched is a line of one of the three texts; there are no markers.
//! Start reading at [`merge`].

mod chunk;
mod kin;
mod line_ends;
mod moves;
mod weave;

use std::borrow::Cow;
use std::ops::Range;

use crate::conflict::{Hunk, Kept};
use crate::limits::WORD_MERGE_BYTES_MAX;
use crate::lines::{is_blank, lines};
use crate::text_diff::{Change, Interner, Sequence, offsets};
use crate::words::{is_telling, words, would_compound, would_glue};
use chunk::{Chunk, Kind, Three, chunks};
pub(crate) use line_ends::{AsHunk, LineEnds};
use weave::{Around, Blocks, blank_tail, weave};

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
    ends.close(&mut merged.text, &mut merged.hunks);
    merged
}

/// Merges two texts that have no common base: what they share stands once, line by line in two
/// versions of one block, the rest of both is kept, the older (not preferred) first, and reported.
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
    ends.close(&mut merged.text, &mut merged.hunks);
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
    let aligned = Aligned::lines(base, winner, loser);
    let moves = (&aligned.winner, aligned.to_winner.as_slice());
    let edits = (&aligned.loser, aligned.to_loser.as_slice());
    match moves::follow(&aligned.base, moves, edits) {
        Some((w, l)) => {
            merge_loser_moves(&Aligned::lines(base, &w, &l), [base, winner, loser], overlap)
        }
        None => merge_loser_moves(&aligned, [base, winner, loser], overlap),
    }
}

/// Merges texts in which the loser's edits follow the winner's moves already.
fn merge_loser_moves(aligned: &Aligned<'_>, three: [&str; 3], overlap: Overlap) -> TextMerge {
    let moves = (&aligned.loser, aligned.to_loser.as_slice());
    let edits = (&aligned.winner, aligned.to_winner.as_slice());
    match moves::follow(&aligned.base, moves, edits) {
        Some((loser, winner)) => {
            merge_once(&Aligned::lines(aligned.base.text, &winner, &loser), three, overlap)
        }
        None => merge_once(aligned, three, overlap),
    }
}

/// Merges aligned lines, and again without what the first try would have doubled; `three` are the
/// texts as they were before edits followed moves.
fn merge_once(aligned: &Aligned<'_>, three: [&str; 3], overlap: Overlap) -> TextMerge {
    let merged = Merger::new(overlap).merge(aligned);
    let doubled = moves::doubled(aligned, three, &merged.text);
    if doubled.is_empty() {
        return merged;
    }
    let loser = moves::without(aligned, &doubled);
    let again = Aligned::lines(aligned.base.text, aligned.winner.text, &loser);
    let again = Merger::new(overlap).merge(&again);
    let settled = moves::doubled(aligned, three, &again.text).is_empty();
    if settled && moves::keeps_blocks(&merged.text, &again.text) {
        again
    } else {
        moves::keep_one(merged, &doubled)
    }
}

/// [`merge_unrelated`] of texts that [`LineEnds`] opened.
pub(crate) fn merge_opened_unrelated(winner: &str, loser: &str) -> TextMerge {
    let woven = weave(winner, loser, Around { starts_block: true, blocks: Blocks::ByLine });
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
    to_winner: Vec<Change>,
    to_loser: Vec<Change>,
    chunks: Vec<Chunk>,
}

impl<'t> Aligned<'t> {
    fn lines(base: &'t str, winner: &'t str, loser: &'t str) -> Self {
        let cut = |text| Tokens::of(text, lines(text));
        Self::of(cut(base), cut(winner), cut(loser), Unit::Lines)
    }

    fn of(base: Tokens<'t>, winner: Tokens<'t>, loser: Tokens<'t>, unit: Unit) -> Self {
        let mut interner = Interner::default();
        let mut number = |tokens: &Tokens<'t>| match unit {
            Unit::Lines => interner.number(&tokens.list),
            Unit::Words => interner.number(&with_soft_breaks(&tokens.list)),
        };
        let (base_numbers, winner_numbers) = (number(&base), number(&winner));
        let loser_numbers = number(&loser);
        let diff = |side: &Tokens<'t>, numbers: &[u32]| match unit {
            Unit::Lines => {
                let before = Sequence { list: &base.list, numbers: &base_numbers };
                interner.diff_lines(&before, &Sequence { list: &side.list, numbers })
            }
            Unit::Words => tidy(&base, side, interner.diff(&base_numbers, numbers)),
        };
        let to_winner = diff(&winner, &winner_numbers);
        let to_loser = diff(&loser, &loser_numbers);
        let three = Three { base: &base_numbers, winner: &winner_numbers, loser: &loser_numbers };
        let chunks = chunks(&three, &to_winner, &to_loser);
        Self { base, winner, loser, to_winner, to_loser, chunks }
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
    fn new(overlap: Overlap) -> Self {
        Self { overlap, text: String::new(), hunks: Vec::new() }
    }

    /// Merges lines, chunk by chunk.
    fn merge(mut self, aligned: &Aligned<'_>) -> TextMerge {
        self.text.reserve(aligned.winner.text.len());
        for chunk in &aligned.chunks {
            let (base, winner, loser) = aligned.texts(chunk);
            match chunk.kind {
                Kind::Stable | Kind::Winner | Kind::Same => self.text.push_str(winner),
                Kind::Loser => self.text.push_str(loser),
                Kind::Insert => {
                    let starts_block = lines_end_with_blank(&self.text);
                    self.text.push_str(&weave(winner, loser, Around::new(starts_block)).text);
                }
                Kind::Clash => self.merge_words(base, winner, loser),
            }
        }
        TextMerge { text: self.text, hunks: self.hunks }
    }

    /// Merges a stretch of whole lines that both sides changed.
    fn merge_words(&mut self, base: &str, winner: &str, loser: &str) {
        if let Some(inserted) = beside_deletion(base, winner, loser) {
            self.text.push_str(inserted);
            return;
        }
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
        let left = aligned.chunks.iter().rev().map(|chunk| taken(&aligned, chunk));
        let unended = left.filter(|text| !text.is_empty()).take(1).any(|text| !is_ended(&text));
        if unended {
            self.clash(base, winner, loser);
            return;
        }
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
        self.text.push_str(&weave(winner, loser, Around::new(starts_block)).text);
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

fn is_ended(text: &str) -> bool {
    text.ends_with(['\n', '\r'])
}

/// Finds what one side inserted where the other deleted everything, if nothing but blank lines was
/// deleted on one side of it: then it stands beside the deletion, not inside.
fn beside_deletion<'t>(base: &str, winner: &'t str, loser: &'t str) -> Option<&'t str> {
    let grown = match (winner, loser) {
        ("", grown) | (grown, "") => grown,
        _ => return None,
    };
    let blank: usize = lines(base).take_while(|line| is_blank(line)).map(str::len).sum();
    if let Some(inserted) =
        grown.strip_prefix(&base[..blank]).and_then(|rest| rest.strip_suffix(&base[blank..]))
        && blank > 0
        && is_ended(inserted)
    {
        return Some(&grown[..blank + inserted.len() - blank_tail(inserted)]);
    }
    let blank = blank_tail(base);
    let text = &base[..base.len() - blank];
    let after = grown.strip_prefix(text)?;
    let inserted = after.strip_suffix(&base[text.len()..])?;
    (blank > 0 && is_ended(inserted)).then_some(after)
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

/// Joins the last chunk with those before it that must be decided together with it.
fn absorb_last(aligned: &Aligned<'_>, chunks: &mut Vec<Chunk>) -> bool {
    let count = match chunks.as_slice() {
        [.., before, last] if before.kind != Kind::Stable && last.kind != Kind::Stable => {
            let together = is_clash(before) || is_clash(last) || tears_line(aligned, before, last);
            usize::from(together) * 2
        }
        [.., before, between, last]
            if last.kind != Kind::Stable && (is_clash(before) || is_clash(last)) =>
        {
            let tokens = &aligned.base.list[between.base.clone()];
            usize::from(tokens.iter().all(|token| is_weak(token))) * 3
        }
        _ => 0,
    };
    let count = count.max(glued(aligned, chunks));
    if count == 0 {
        return false;
    }
    let from = chunks.len() - count;
    let tail = chunks.split_off(from + 1);
    for chunk in &tail {
        chunks[from].absorb(chunk);
    }
    true
}

/// Tells whether words were put before a line that is gone with its end, and would now stand at the
/// start of the next one.
fn tears_line(aligned: &Aligned<'_>, before: &Chunk, last: &Chunk) -> bool {
    let has_end = |text: &str| text.contains(['\n', '\r']);
    before.base.is_empty()
        && !taken(aligned, before).ends_with(['\n', '\r'])
        && has_end(aligned.base.slice(&last.base))
        && !has_end(&taken(aligned, last))
}

fn is_clash(chunk: &Chunk) -> bool {
    chunk.kind == Kind::Clash
}

/// Tells how many of the last chunks would put two words together that no side has side by side.
fn glued(aligned: &Aligned<'_>, chunks: &[Chunk]) -> usize {
    let Some((last, earlier)) = chunks.split_last() else { return 0 };
    let right = taken(aligned, last);
    if right.is_empty() {
        return 0;
    }
    let found = earlier.iter().enumerate().rev().find_map(|(at, chunk)| {
        let left = taken(aligned, chunk);
        (!left.is_empty()).then_some((at, chunk, left))
    });
    let Some((at, before, left)) = found else { return 0 };
    let of_winner = |chunk: &Chunk| chunk.kind != Kind::Loser && chunk.kind != Kind::Insert;
    let of_loser = |chunk: &Chunk| matches!(chunk.kind, Kind::Stable | Kind::Loser | Kind::Same);
    let in_winner = of_winner(before) && of_winner(last) && before.winner.end == last.winner.start;
    let in_loser = of_loser(before) && of_loser(last) && before.loser.end == last.loser.start;
    if in_winner || in_loser {
        return 0;
    }
    let ends = left.chars().next_back().zip(right.chars().next());
    let glues = ends.is_some_and(|(left, right)| would_glue(left, right));
    if glues { chunks.len() - at } else { 0 }
}

/// What a chunk puts into the result.
fn taken<'t>(aligned: &Aligned<'t>, chunk: &Chunk) -> Cow<'t, str> {
    match chunk.kind {
        Kind::Loser => aligned.loser.slice(&chunk.loser).into(),
        Kind::Insert => join_insertions(aligned, chunk, "").unwrap_or_default().into(),
        Kind::Stable | Kind::Winner | Kind::Same | Kind::Clash => {
            aligned.winner.slice(&chunk.winner).into()
        }
    }
}

/// Puts what both sides inserted at one place one after the other, what they share only once.
///
/// `None` if that would glue words together, nest punctuation or tear lines: then it is a clash.
fn join_insertions(aligned: &Aligned<'_>, chunk: &Chunk, before: &str) -> Option<String> {
    let (_, winner, loser) = aligned.texts(chunk);
    let ended = is_ended;
    let at_line_start = chunk.base.start == 0 || ended(aligned.base.list[chunk.base.start - 1]);
    if at_line_start && ended(winner) && ended(loser) {
        let starts_block = lines_end_with_blank(before);
        return Some(weave(winner, loser, Around::new(starts_block)).text);
    }
    let fills_line = aligned.base.list.get(chunk.base.start).is_none_or(|next| ended(next));
    if at_line_start && fills_line && !ended(winner) && !ended(loser) {
        // Both filled the same empty line: each gets a line of its own.
        let end = aligned.base.list.get(chunk.base.start).unwrap_or(&"\n");
        let starts_block = lines_end_with_blank(before);
        let around = Around::new(starts_block);
        let mut text = weave(&[winner, end].concat(), &[loser, end].concat(), around).text;
        text.truncate(text.len() - end.len());
        return Some(text);
    }
    let w = &aligned.winner.list[chunk.winner.clone()];
    let l = &aligned.loser.list[chunk.loser.clone()];
    let (longer, shorter) = if w.len() >= l.len() { (w, l) } else { (l, w) };
    if longer.starts_with(shorter) || longer.ends_with(shorter) {
        return Some(longer.concat());
    }
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
    let (left, right) = (l.concat(), w.concat());
    let ends = left.chars().next_back().zip(right.chars().next());
    let glue =
        ends.is_some_and(|(left, right)| would_glue(left, right)) || would_compound(&left, &right);
    let lines = |tokens: &[&str]| tokens.iter().any(|token| ended(token));
    let apart = [l.last(), w.first()].into_iter().flatten().any(|token| ended(token));
    let tears = (lines(l) || lines(w)) && !apart;
    (!glue && !tears).then(|| parts.concat().concat())
}

#[cfg(test)]
mod tests;
