//! Finds the blocks of two texts that are versions of one block, where no base tells.
//!
//! Invariant: the groups are in the order of both texts and do not overlap. Two blocks are kin if
//! they share a line that says something and at least half of the words of the one with fewer; a
//! block that was split in two is kin to both.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::weave::Unit;
use crate::lines::lines;
use crate::text_diff::Interner;
use crate::words::{is_telling, words};

/// Versions of one stretch: units of the winner and of the loser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kin {
    pub(super) winner: Range<usize>,
    pub(super) loser: Range<usize>,
}

/// Groups the units of two texts that are kin. About linear in both, as a diff of their lines.
pub(super) fn kin(winner: &[Unit<'_>], loser: &[Unit<'_>]) -> Vec<Kin> {
    let (winner_lines, loser_lines) = (Lines::of(winner), Lines::of(loser));
    let mut interner = Interner::default();
    let loser_numbers = interner.number(&loser_lines.list);
    let winner_numbers = interner.number(&winner_lines.list);
    let mut pairs = Vec::new();
    let mut pair = |at_w: usize, at_l: usize| {
        let pair = (winner_lines.unit[at_w], loser_lines.unit[at_l]);
        if says_something(winner_lines.list[at_w]) && pairs.last() != Some(&pair) {
            pairs.push(pair);
        }
    };
    let (mut w, mut l) = (0, 0);
    for change in interner.diff(&loser_numbers, &winner_numbers) {
        (w..change.after.start).zip(l..change.before.start).for_each(|(w, l)| pair(w, l));
        (w, l) = (change.after.end, change.before.end);
    }
    (w..winner_numbers.len()).zip(l..loser_numbers.len()).for_each(|(w, l)| pair(w, l));
    let mut resemblance = Resemblance::default();
    let mut groups: Vec<Kin> = Vec::new();
    for (w, l) in pairs {
        let (unit_w, unit_l) = (winner[w].text, loser[l].text);
        if !may_mix(unit_w, unit_l) || !resemblance.between((w, unit_w), (l, unit_l)) {
            continue;
        }
        match groups.last_mut() {
            Some(last) if w < last.winner.end || l < last.loser.end => {
                (last.winner.end, last.loser.end) = (w + 1, l + 1);
            }
            _ => groups.push(Kin { winner: w..w + 1, loser: l..l + 1 }),
        }
    }
    groups
}

/// The lines of some units, and which unit each is of.
struct Lines<'t> {
    list: Vec<&'t str>,
    unit: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn of(units: &[Unit<'t>]) -> Self {
        let all = units.iter().enumerate();
        let all = all.flat_map(|(at, unit)| lines(unit.text).map(move |line| (line, at)));
        let (list, unit) = all.unzip();
        Self { list, unit }
    }
}

/// Tells whether two blocks that share this line share anything: a fence is in many.
fn says_something(line: &str) -> bool {
    line.contains(char::is_alphanumeric) && !is_fence(line)
}

fn is_fence(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("```") || line.starts_with("~~~")
}

/// Tells whether lines of two blocks can stand among each other: fences only if both open and close
/// in the same lines, so that none is torn or left open.
fn may_mix(a: &str, b: &str) -> bool {
    let fences = |text| lines(text).filter(|line| is_fence(line)).collect::<Vec<_>>();
    let (in_a, in_b) = (fences(a), fences(b));
    (in_a.is_empty() && in_b.is_empty())
        || (in_a.len() == 2
            && in_a == in_b
            && [a, b].iter().all(|text| is_fence(text) && lines(text).last() == Some(in_a[1])))
}

/// The telling words of the units seen, each unit read once.
#[derive(Default)]
struct Resemblance<'t> {
    winner: BTreeMap<usize, BTreeSet<&'t str>>,
    loser: BTreeMap<usize, BTreeSet<&'t str>>,
}

impl<'t> Resemblance<'t> {
    /// Tells whether two units share half of the words of the one with fewer.
    fn between(&mut self, (w, winner): (usize, &'t str), (l, loser): (usize, &'t str)) -> bool {
        let telling = |text: &'t str| words(text).filter(|word| is_telling(word)).collect();
        let winner: &BTreeSet<_> = self.winner.entry(w).or_insert_with(|| telling(winner));
        let loser: &BTreeSet<_> = self.loser.entry(l).or_insert_with(|| telling(loser));
        let (fewer, more) =
            if winner.len() <= loser.len() { (winner, loser) } else { (loser, winner) };
        2 * fewer.iter().filter(|word| more.contains(*word)).count() >= fewer.len()
    }
}
