//! Puts two texts that are new at one place one after the other, what they share only once.
//!
//! Invariant: every line of both texts that is not blank is in the result; two units that follow
//! each other in one text and are both kept still do unless something of the other text came
//! between them. The older text (the loser's) comes first wherever they differ, which is the order
//! in which a journal would have been written.
//!
//! Units are single lines in lists and tables and whole blocks elsewhere, so that a fence or a
//! paragraph is never torn because both texts happen to share a line of it. Blank lines are not
//! units but the gaps between them. Texts without a common base may hold two versions of one
//! block: such are found by [`kin`] and woven line by line.

use std::ops::Range;

use super::kin::{Kin, kin};
use crate::block::{Look, split};
use crate::lines::{end_of, is_blank, lines};
use crate::text_diff::{Interner, diff_lines, offsets};

/// What stands around the place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Around {
    /// A block ends right before: there is a blank line, or nothing at all.
    pub(super) starts_block: bool,
    /// What the two texts may be to each other.
    pub(super) blocks: Blocks,
}

/// What becomes of two different blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blocks {
    /// Both stand as they are: each was written for itself.
    Whole,
    /// If they are two versions of one, the lines they share stand once.
    ByLine,
}

impl Around {
    /// Around what was written for itself on each side.
    pub(super) fn new(starts_block: bool) -> Self {
        Self { starts_block, blocks: Blocks::Whole }
    }
}

/// A stretch of the woven text where both sides had something of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Both {
    pub(super) at: Range<usize>,
    pub(super) winner: String,
    pub(super) loser: String,
}

pub(super) struct Woven {
    pub(super) text: String,
    pub(super) both: Vec<Both>,
}

pub(super) struct Unit<'t> {
    pub(super) text: &'t str,
    gap: &'t str,
    /// A line of a list or table, which needs no blank line to stand apart.
    tight: bool,
}

struct Units<'t> {
    list: Vec<Unit<'t>>,
    /// Blank lines after the last unit.
    tail: &'t str,
}

/// Weaves two texts that consist of whole lines.
pub(super) fn weave(winner: &str, loser: &str, around: Around) -> Woven {
    let (winner, loser) = (units(winner), units(loser));
    let mut interner = Interner::default();
    let numbers_loser = interner.number(&loser.list.iter().map(|u| u.text).collect::<Vec<_>>());
    let numbers_winner = interner.number(&winner.list.iter().map(|u| u.text).collect::<Vec<_>>());
    let mut woven = Weaver::new(&winner, &loser, around);
    let (mut w, mut l) = (0, 0);
    for change in interner.diff(&numbers_loser, &numbers_winner) {
        while l < change.before.start {
            woven.push(Some(w), Some(l));
            (w, l) = (w + 1, l + 1);
        }
        woven.push_differing(change.after.clone(), change.before.clone());
        (w, l) = (change.after.end, change.before.end);
    }
    while l < loser.list.len() {
        woven.push(Some(w), Some(l));
        (w, l) = (w + 1, l + 1);
    }
    woven.finish()
}

struct Weaver<'u, 't> {
    winner: &'u Units<'t>,
    loser: &'u Units<'t>,
    around: Around,
    /// The unit pushed last, by its index on each side that has it.
    last: Option<(Option<usize>, Option<usize>)>,
    woven: Woven,
}

impl<'u, 't> Weaver<'u, 't> {
    fn new(winner: &'u Units<'t>, loser: &'u Units<'t>, around: Around) -> Self {
        let woven = Woven { text: String::new(), both: Vec::new() };
        Self { winner, loser, around, last: None, woven }
    }

    /// Appends what differs: versions of one block line by line, everything else one after the
    /// other.
    fn push_differing(&mut self, winner: Range<usize>, loser: Range<usize>) {
        let (mut w, mut l) = (winner.start, loser.start);
        if self.around.blocks == Blocks::ByLine && !winner.is_empty() && !loser.is_empty() {
            let (units_w, units_l) =
                (&self.winner.list[winner.clone()], &self.loser.list[loser.clone()]);
            for Kin { winner: of_w, loser: of_l } in kin(units_w, units_l) {
                let of_w = winner.start + of_w.start..winner.start + of_w.end;
                let of_l = loser.start + of_l.start..loser.start + of_l.end;
                self.push_both(w..of_w.start, l..of_l.start);
                (w, l) = (of_w.end, of_l.end);
                self.push_lines(of_w, of_l);
            }
        }
        self.push_both(w..winner.end, l..loser.end);
    }

    /// Appends two versions of one block, what both share once.
    fn push_lines(&mut self, w: Range<usize>, l: Range<usize>) {
        let gap = self.gap(&self.winner.list[w.start], Some(w.start), Some(l.start));
        self.woven.text.push_str(&gap);
        self.last = Some((Some(w.end - 1), Some(l.end - 1)));
        let (winner, loser) = (self.winner.text(w), self.loser.text(l));
        let cut = |text| offsets(&lines(text).collect::<Vec<_>>());
        let (winner_at, loser_at) = (cut(&winner), cut(&loser));
        let mut at = 0;
        for change in diff_lines(&loser, &winner) {
            let of_l = loser_at[change.before.start]..loser_at[change.before.end];
            let of_w = winner_at[change.after.start]..winner_at[change.after.end];
            self.woven.text.push_str(&loser[at..of_l.start]);
            at = of_l.end;
            let from = self.woven.text.len();
            self.woven.text.push_str(&loser[of_l.clone()]);
            self.woven.text.push_str(&winner[of_w.clone()]);
            if !of_l.is_empty() && !of_w.is_empty() {
                self.woven.both.push(Both {
                    at: from..self.woven.text.len(),
                    winner: winner[of_w].to_owned(),
                    loser: loser[of_l].to_owned(),
                });
            }
        }
        self.woven.text.push_str(&loser[at..]);
    }

    fn push_both(&mut self, winner: Range<usize>, loser: Range<usize>) {
        let mut from = None;
        for l in loser.clone() {
            from = from.or(Some(self.push(None, Some(l))));
        }
        for w in winner.clone() {
            from = from.or(Some(self.push(Some(w), None)));
        }
        if let Some(from) = from.filter(|_| !winner.is_empty() && !loser.is_empty()) {
            let at = from..self.woven.text.len();
            let (winner, loser) = (self.winner.text(winner), self.loser.text(loser));
            self.woven.both.push(Both { at, winner, loser });
        }
    }

    /// Appends a unit and the gap before it; returns where the unit begins.
    fn push(&mut self, w: Option<usize>, l: Option<usize>) -> usize {
        let unit = w.map_or_else(
            || &self.loser.list[l.expect("a unit is of one side at least")],
            |w| &self.winner.list[w],
        );
        let gap = self.gap(unit, w, l);
        self.woven.text.push_str(&gap);
        let at = self.woven.text.len();
        self.woven.text.push_str(unit.text);
        self.last = Some((w, l));
        at
    }

    fn gap(&self, unit: &Unit<'t>, w: Option<usize>, l: Option<usize>) -> String {
        let Some((last_w, last_l)) = self.last else {
            return unit.gap.to_owned();
        };
        let follows = |last: Option<usize>, next: Option<usize>| {
            last.zip(next).is_some_and(|(last, next)| last + 1 == next)
        };
        if follows(last_w, w) {
            return self.winner.list[w.expect("it follows")].gap.to_owned();
        }
        if follows(last_l, l) {
            return self.loser.list[l.expect("it follows")].gap.to_owned();
        }
        let candidates = [
            last_w.map(|last| self.winner.gap_after(last)),
            last_l.map(|last| self.loser.gap_after(last)),
            w.map(|w| self.winner.list[w].gap),
            l.map(|l| self.loser.list[l].gap),
        ];
        let candidates = candidates.into_iter().flatten();
        let last = last_w.map_or_else(
            || &self.loser.list[last_l.expect("a unit is of one side at least")],
            |last| &self.winner.list[last],
        );
        if last.tight && unit.tight {
            return candidates.min_by_key(|gap| gap.len()).unwrap_or("").to_owned();
        }
        let widest = candidates.max_by_key(|gap| gap.len()).unwrap_or("");
        if widest.is_empty() && self.around.starts_block {
            return end_of(last.text).to_owned();
        }
        widest.to_owned()
    }

    fn finish(mut self) -> Woven {
        let tail = match (self.last, self.winner.tail, self.loser.tail) {
            (_, winner, loser) if winner.len() >= loser.len() => winner,
            (_, _, loser) => loser,
        };
        self.woven.text.push_str(tail);
        self.woven
    }
}

impl<'t> Units<'t> {
    fn gap_after(&self, at: usize) -> &'t str {
        self.list.get(at + 1).map_or(self.tail, |next| next.gap)
    }

    fn text(&self, range: Range<usize>) -> String {
        let mut text = String::new();
        for (nth, unit) in self.list[range].iter().enumerate() {
            if nth > 0 {
                text.push_str(unit.gap);
            }
            text.push_str(unit.text);
        }
        text
    }
}

fn units(text: &str) -> Units<'_> {
    let mut list = Vec::new();
    // Where the gap before the next unit begins.
    let mut gap = 0;
    let mut at = 0;
    for block in split(text) {
        let mut add = |unit: &str, at: usize, tight: bool| {
            if is_blank(unit) {
                return;
            }
            let lead: usize = lines(unit).take_while(|line| is_blank(line)).map(str::len).sum();
            let tail = blank_tail(unit);
            list.push(Unit {
                text: &text[at + lead..at + unit.len() - tail],
                gap: &text[gap..at + lead],
                tight,
            });
            gap = at + unit.len() - tail;
        };
        if is_tight(block) {
            let mut line_at = at;
            for line in lines(block) {
                add(line, line_at, true);
                line_at += line.len();
            }
        } else {
            add(block, at, false);
        }
        at += block.len();
    }
    Units { list, tail: &text[gap..] }
}

/// Tells whether a block is a list without fences or a table: something that is made of lines.
pub(super) fn is_tight(block: &str) -> bool {
    let Some(first) = lines(block).find(|line| !is_blank(line)) else { return false };
    if is_row(first) {
        return lines(block).all(|line| is_blank(line) || is_row(line));
    }
    let look = Look::at(first);
    look.item && look.indent <= 3 && !block.contains("```") && !block.contains("~~~")
}

pub(super) fn is_row(line: &str) -> bool {
    line.trim_start_matches([' ', '\t']).starts_with('|')
}

/// The length of the blank lines at the end of a text.
pub(super) fn blank_tail(unit: &str) -> usize {
    let tail = |tail: usize, line: &str| if is_blank(line) { tail + line.len() } else { 0 };
    lines(unit).fold(0, tail)
}
