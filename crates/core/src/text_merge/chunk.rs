//! Lays two edit scripts over one base side by side: the classical diff3, over numbered tokens.
//!
//! Invariant: the chunks cover base, winner and loser completely and in order, and a chunk that is
//! not a [`Kind::Clash`] or [`Kind::Insert`] was changed by at most one side, or by both equally.

use std::ops::Range;

use crate::text_diff::Change;

/// Who changed a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nobody: the same tokens on all three.
    Stable,
    /// Only the winner.
    Winner,
    /// Only the loser.
    Loser,
    /// Both, to the same tokens.
    Same,
    /// Both put something new at one place, and took nothing away.
    Insert,
    /// Both, to different tokens.
    Clash,
}

/// A stretch of the base and what became of it on both sides, as token ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) kind: Kind,
    pub(super) base: Range<usize>,
    pub(super) winner: Range<usize>,
    pub(super) loser: Range<usize>,
}

impl Chunk {
    /// Extends this chunk over the `next` one as a clash.
    pub(super) fn absorb(&mut self, next: &Self) {
        debug_assert_eq!(self.base.end, next.base.start);
        self.kind = Kind::Clash;
        self.base.end = next.base.end;
        self.winner.end = next.winner.end;
        self.loser.end = next.loser.end;
    }
}

/// The numbered tokens of the three texts.
pub(super) struct Three<'n> {
    pub(super) base: &'n [u32],
    pub(super) winner: &'n [u32],
    pub(super) loser: &'n [u32],
}

/// Combines two edit scripts over one base.
///
/// Changes clash if their base ranges overlap. Ranges that only touch do not: each side's change is
/// taken, in the order of the base. Two insertions at one place are told apart as [`Kind::Insert`].
///
/// Where one side's change begins or ends with the whole of the other's, the two agree about that
/// part: it is taken once, and what the longer one did beyond it stands alone.
pub(super) fn chunks(three: &Three<'_>, winner: &[Change], loser: &[Change]) -> Vec<Chunk> {
    let split_winner = split_where_agreed(winner, three.winner, loser, three.loser);
    let split_loser = split_where_agreed(loser, three.loser, winner, three.winner);
    combine(three, &split_winner, &split_loser)
}

fn combine(three: &Three<'_>, winner: &[Change], loser: &[Change]) -> Vec<Chunk> {
    let mut found = Chunks { three, list: Vec::new() };
    let (mut w, mut l) = (0, 0);
    while w < winner.len() || l < loser.len() {
        let (first_w, first_l) = (w, l);
        let takes_winner = match (winner.get(w), loser.get(l)) {
            (Some(a), Some(b)) => key(a) <= key(b),
            (a, _) => a.is_some(),
        };
        let mut span = if takes_winner {
            w += 1;
            winner[w - 1].before.clone()
        } else {
            l += 1;
            loser[l - 1].before.clone()
        };
        loop {
            if let Some(change) = winner.get(w).filter(|change| overlap(&span, &change.before)) {
                span.end = span.end.max(change.before.end);
                w += 1;
            } else if let Some(change) =
                loser.get(l).filter(|change| overlap(&span, &change.before))
            {
                span.end = span.end.max(change.before.end);
                l += 1;
            } else {
                break;
            }
        }
        found.push(span, &winner[first_w..w], &loser[first_l..l]);
    }
    found.push_stable(three.base.len());
    found.list
}

/// Splits each change that begins, or ends, with a whole change of the other side.
fn split_where_agreed(
    changes: &[Change],
    tokens: &[u32],
    others: &[Change],
    other_tokens: &[u32],
) -> Vec<Change> {
    let mut split = Vec::with_capacity(changes.len());
    for change in changes {
        let mut rest = change.clone();
        let first = others.partition_point(|other| other.before.start < rest.before.start);
        if let Some(other) = others.get(first)
            && other.before.start == rest.before.start
            && other.before.end < rest.before.end
            && !other.after.is_empty()
            && tokens[rest.after.clone()].starts_with(&other_tokens[other.after.clone()])
        {
            let middle = rest.after.start + other.after.len();
            let after = rest.after.start..middle;
            split.push(Change { before: other.before.clone(), after });
            rest =
                Change { before: other.before.end..rest.before.end, after: middle..rest.after.end };
        }
        let last = others.partition_point(|other| other.before.end < rest.before.end);
        if let Some(other) = others.get(last)
            && other.before.end == rest.before.end
            && other.before.start > rest.before.start
            && !other.after.is_empty()
            && tokens[rest.after.clone()].ends_with(&other_tokens[other.after.clone()])
        {
            let middle = rest.after.end - other.after.len();
            let before = rest.before.start..other.before.start;
            split.push(Change { before, after: rest.after.start..middle });
            rest = Change { before: other.before.clone(), after: middle..rest.after.end };
        }
        split.push(rest);
    }
    split
}

fn key(change: &Change) -> (usize, usize) {
    (change.before.start, change.before.end)
}

/// Tells whether a change of the base at `next`, which sorts after `span`, collides with it.
fn overlap(span: &Range<usize>, next: &Range<usize>) -> bool {
    if span.is_empty() || next.is_empty() {
        // An insertion collides inside a replaced stretch, and with another one at its place.
        return (span.start < next.start && next.end < span.end)
            || (span.is_empty() && next.is_empty() && span.start == next.start);
    }
    next.start < span.end
}

struct Chunks<'n> {
    three: &'n Three<'n>,
    list: Vec<Chunk>,
}

impl Chunks<'_> {
    fn ends(&self) -> (usize, usize, usize) {
        self.list.last().map_or((0, 0, 0), |last| (last.base.end, last.winner.end, last.loser.end))
    }

    fn push_stable(&mut self, until: usize) {
        let (base, winner, loser) = self.ends();
        let len = until - base;
        if len > 0 {
            self.list.push(Chunk {
                kind: Kind::Stable,
                base: base..until,
                winner: winner..winner + len,
                loser: loser..loser + len,
            });
        }
    }

    fn push(&mut self, span: Range<usize>, winner: &[Change], loser: &[Change]) {
        self.push_stable(span.start);
        let (_, winner_at, loser_at) = self.ends();
        let winner_range = winner_at..winner_at + len_after(&span, winner);
        let loser_range = loser_at..loser_at + len_after(&span, loser);
        let kind = if loser.is_empty() {
            Kind::Winner
        } else if winner.is_empty() {
            Kind::Loser
        } else if self.three.winner[winner_range.clone()] == self.three.loser[loser_range.clone()] {
            Kind::Same
        } else if span.is_empty() {
            Kind::Insert
        } else {
            Kind::Clash
        };
        self.list.push(Chunk { kind, base: span, winner: winner_range, loser: loser_range });
    }
}

fn len_after(span: &Range<usize>, changes: &[Change]) -> usize {
    let gone: usize = changes.iter().map(|change| change.before.len()).sum();
    let new: usize = changes.iter().map(|change| change.after.len()).sum();
    span.len() - gone + new
}
