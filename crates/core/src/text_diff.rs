//! Edit scripts between two texts, over lines and words, at a bounded cost.
//!
//! Invariant: a script's changes are in order, do not touch each other, and outside of them both
//! sequences hold the same tokens; applied to the first text it yields the second. The result is a
//! function of the two texts alone. Start reading at [`edits`] or [`diff_lines`].
//!
//! Method: the common ends are trimmed, tokens that occur once on both sides anchor what is left
//! (patience), and Myers' linear-space algorithm settles the stretches between the anchors. Where a
//! stretch would cost more than [`STEPS_MAX`] allows, it is cut at the furthest point reached so
//! far, as xdiff does, so that no input is quadratic. Then every pure insertion and deletion slides
//! down as far as it can, so that two scripts over one base place equal changes equally. At last
//! lines are aligned anew where blank ones were kept at the price of edited ones (`realign`).

mod realign;

use std::collections::HashMap;
use std::ops::Range;

use crate::lines::lines;
use crate::words::words;
use realign::realign;

/// The steps that one diff aims not to exceed; larger inputs get a coarser search.
pub const STEPS_MAX: usize = 1 << 24;

/// How many diagonals the search may follow before it settles for the furthest point it reached.
const COST_RANGE: Range<usize> = 32..1024;

/// How often stretches between anchors are anchored again before Myers takes over.
const ANCHOR_DEPTH_MAX: usize = 16;

/// One place where two sequences differ: `before` was replaced by `after`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The tokens of the first sequence that are gone, possibly none.
    pub before: Range<usize>,
    /// The tokens of the second sequence that stand in their place, possibly none.
    pub after: Range<usize>,
}

/// One replacement in a text: the bytes at `at` become `text`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit<'t> {
    /// The byte range in the text before, on character boundaries.
    pub at: Range<usize>,
    /// What stands there after.
    pub text: &'t str,
}

/// Numbers tokens so that equal tokens have equal numbers.
#[derive(Debug, Default)]
pub(crate) struct Interner<'t> {
    numbers: HashMap<&'t str, u32>,
    /// Per number: the token has a letter or a digit. Others (blank lines, closing brackets) are in
    /// every text and anchor nothing.
    telling: Vec<bool>,
}

impl<'t> Interner<'t> {
    pub(crate) fn number(&mut self, tokens: &[&'t str]) -> Vec<u32> {
        let mut numbered = Vec::with_capacity(tokens.len());
        for &token in tokens {
            let next =
                u32::try_from(self.numbers.len()).expect("a text has fewer than 2^32 tokens");
            let number = *self.numbers.entry(token).or_insert(next);
            if number == next {
                self.telling.push(token.chars().any(char::is_alphanumeric));
            }
            numbered.push(number);
        }
        numbered
    }

    /// Lists where two sequences of tokens numbered here differ.
    ///
    /// Bounded: about [`STEPS_MAX`] steps for inputs up to a million tokens, linear beyond.
    pub(crate) fn diff(&self, before: &[u32], after: &[u32]) -> Vec<Change> {
        let mut search = self.search(before, after);
        search.solve(0..before.len(), 0..after.len(), 0);
        let mut changes = search.changes;
        slide_down(before, after, &mut changes);
        changes
    }

    /// Lists where two sequences of lines numbered here differ: as [`Self::diff`], but no line that
    /// says nothing is kept at the price of one that was edited.
    pub(crate) fn diff_lines(
        &self,
        before: &Sequence<'_, '_>,
        after: &Sequence<'_, '_>,
    ) -> Vec<Change> {
        let script = self.diff(before.numbers, after.numbers);
        let mut search = self.search(before.numbers, after.numbers);
        realign(before, after, &script, &mut search);
        let mut changes = search.changes;
        slide_down(before.numbers, after.numbers, &mut changes);
        changes
    }

    fn search<'n>(&'n self, before: &'n [u32], after: &'n [u32]) -> Search<'n> {
        let total = before.len() + after.len();
        let cost_max = (STEPS_MAX / total.max(1)).clamp(COST_RANGE.start, COST_RANGE.end);
        Search::new(before, after, &self.telling, cost_max)
    }
}

/// Lines and their numbers.
pub(crate) struct Sequence<'l, 't> {
    pub(crate) list: &'l [&'t str],
    pub(crate) numbers: &'l [u32],
}

/// Lists the edits that turn `before` into `after`: whole lines first, then words in changed lines.
///
/// Law: `apply(before, &edits(before, after)) == after`. The edits are in order and do not overlap.
pub fn edits<'t>(before: &str, after: &'t str) -> Vec<Edit<'t>> {
    let mut found = Vec::new();
    let old: Vec<&str> = lines(before).collect();
    let new: Vec<&str> = lines(after).collect();
    let (old_at, new_at) = (offsets(&old), offsets(&new));
    for change in diff_listed(&old, &new) {
        let from = old_at[change.before.start];
        let old_words: Vec<&str> = words(&before[from..old_at[change.before.end]]).collect();
        let to = new_at[change.after.start];
        let new_words: Vec<&str> = words(&after[to..new_at[change.after.end]]).collect();
        let (old_word_at, new_word_at) = (offsets(&old_words), offsets(&new_words));
        for word in diff_tokens(&old_words, &new_words) {
            let at = from + old_word_at[word.before.start]..from + old_word_at[word.before.end];
            let text = to + new_word_at[word.after.start]..to + new_word_at[word.after.end];
            found.push(Edit { at, text: &after[text] });
        }
    }
    found
}

/// Applies edits that [`edits`] made from `before`.
///
/// # Panics
/// If an edit lies outside of `before` or the edits are out of order.
pub fn apply(before: &str, edits: &[Edit<'_>]) -> String {
    let mut text = String::with_capacity(before.len());
    let mut at = 0;
    for edit in edits {
        text.push_str(&before[at..edit.at.start]);
        text.push_str(edit.text);
        at = edit.at.end;
    }
    text.push_str(&before[at..]);
    text
}

/// Lists where two texts differ, in lines as [`lines`] counts them.
pub fn diff_lines(before: &str, after: &str) -> Vec<Change> {
    diff_listed(&lines(before).collect::<Vec<_>>(), &lines(after).collect::<Vec<_>>())
}

fn diff_listed(before: &[&str], after: &[&str]) -> Vec<Change> {
    let mut interner = Interner::default();
    let (in_before, in_after) = (interner.number(before), interner.number(after));
    let before = Sequence { list: before, numbers: &in_before };
    interner.diff_lines(&before, &Sequence { list: after, numbers: &in_after })
}

fn diff_tokens(before: &[&str], after: &[&str]) -> Vec<Change> {
    let mut interner = Interner::default();
    let (before, after) = (interner.number(before), interner.number(after));
    interner.diff(&before, &after)
}

/// Returns the byte offset of every token, and the total length as the last entry.
pub(crate) fn offsets(tokens: &[&str]) -> Vec<usize> {
    let mut at = Vec::with_capacity(tokens.len() + 1);
    let mut sum = 0;
    at.push(sum);
    for token in tokens {
        sum += token.len();
        at.push(sum);
    }
    at
}

struct Search<'n> {
    before: &'n [u32],
    after: &'n [u32],
    telling: &'n [bool],
    cost_max: usize,
    changes: Vec<Change>,
    /// Per token: how often it was seen on both sides of the stretch at hand, and where last.
    /// All zero between uses.
    seen: Vec<Seen>,
    forward: Vec<isize>,
    backward: Vec<isize>,
}

#[derive(Clone, Copy, Default)]
struct Seen {
    before: u32,
    after: u32,
    after_at: usize,
}

impl<'n> Search<'n> {
    fn new(before: &'n [u32], after: &'n [u32], telling: &'n [bool], cost_max: usize) -> Self {
        Self {
            before,
            after,
            telling,
            cost_max,
            changes: Vec::new(),
            seen: vec![Seen::default(); telling.len()],
            forward: Vec::new(),
            backward: Vec::new(),
        }
    }

    /// Appends the changes between two stretches, which follow all earlier ones.
    fn solve(&mut self, mut b: Range<usize>, mut a: Range<usize>, depth: usize) {
        while !b.is_empty() && !a.is_empty() && self.before[b.start] == self.after[a.start] {
            b.start += 1;
            a.start += 1;
        }
        while !b.is_empty() && !a.is_empty() && self.before[b.end - 1] == self.after[a.end - 1] {
            b.end -= 1;
            a.end -= 1;
        }
        if b.is_empty() || a.is_empty() {
            self.push(b, a);
            return;
        }
        let anchors = if depth < ANCHOR_DEPTH_MAX { self.anchors(&b, &a) } else { Vec::new() };
        if anchors.is_empty() {
            self.myers(b, a);
            return;
        }
        for (in_before, in_after) in anchors {
            self.solve(b.start..in_before, a.start..in_after, depth + 1);
            (b.start, a.start) = (in_before + 1, in_after + 1);
        }
        self.solve(b, a, depth + 1);
    }

    fn push(&mut self, before: Range<usize>, after: Range<usize>) {
        if before.is_empty() && after.is_empty() {
            return;
        }
        if let Some(last) = self.changes.last_mut()
            && last.before.end == before.start
            && last.after.end == after.start
        {
            last.before.end = before.end;
            last.after.end = after.end;
            return;
        }
        self.changes.push(Change { before, after });
    }

    /// Finds the longest common run, in order, of tokens that occur once in each stretch.
    fn anchors(&mut self, b: &Range<usize>, a: &Range<usize>) -> Vec<(usize, usize)> {
        for &token in &self.before[b.clone()] {
            self.seen[token as usize].before += 1;
        }
        for at in a.clone() {
            let seen = &mut self.seen[self.after[at] as usize];
            seen.after += 1;
            seen.after_at = at;
        }
        let unique = b.clone().filter_map(|at| {
            let token = self.before[at] as usize;
            let seen = self.seen[token];
            let anchors = self.telling[token] && seen.before == 1 && seen.after == 1;
            anchors.then_some((at, seen.after_at))
        });
        let anchors = longest_increasing(unique);
        for token in self.before[b.clone()].iter().chain(&self.after[a.clone()]) {
            self.seen[*token as usize] = Seen::default();
        }
        anchors
    }

    fn myers(&mut self, b: Range<usize>, a: Range<usize>) {
        // The pieces still to do, the next one on top.
        let mut pieces = vec![(b, a)];
        while let Some((mut b, mut a)) = pieces.pop() {
            while !b.is_empty() && !a.is_empty() && self.before[b.start] == self.after[a.start] {
                b.start += 1;
                a.start += 1;
            }
            while !b.is_empty() && !a.is_empty() && self.before[b.end - 1] == self.after[a.end - 1]
            {
                b.end -= 1;
                a.end -= 1;
            }
            if b.is_empty() || a.is_empty() {
                self.push(b, a);
                continue;
            }
            let (at_b, at_a) = self.middle(&b, &a);
            assert!(b.start + a.start < at_b + at_a && at_b + at_a < b.end + a.end);
            pieces.push((at_b..b.end, at_a..a.end));
            pieces.push((b.start..at_b, a.start..at_a));
        }
    }

    /// Finds a point on a shortest path from one corner to the other, or, when that would cost more
    /// than `cost_max` diagonals, the point furthest from the corner it was reached from.
    ///
    /// Both stretches are not empty and differ at both ends, hence the point is neither corner.
    fn middle(&mut self, b: &Range<usize>, a: &Range<usize>) -> (usize, usize) {
        let (rows, columns) = (b.len() as isize, a.len() as isize);
        let origin = columns + 1;
        let size = (rows + columns + 3) as usize;
        if self.forward.len() < size {
            self.forward.resize(size, 0);
            self.backward.resize(size, 0);
        }
        let mut search = Middle {
            before: &self.before[b.clone()],
            after: &self.after[a.clone()],
            origin,
            forward: Front { reach: &mut self.forward, low: 0, high: 0 },
            backward: Front { reach: &mut self.backward, low: 0, high: 0 },
        };
        let (x, y) = search.run(self.cost_max);
        (b.start + x as usize, a.start + y as usize)
    }
}

/// The furthest point reached on each diagonal `x - y` from one corner.
struct Front<'v> {
    reach: &'v mut Vec<isize>,
    low: isize,
    high: isize,
}

impl Front<'_> {
    /// Widens the front by one diagonal on each side, as far as the rectangle allows.
    fn widen(&mut self, lowest: isize, highest: isize, origin: isize, unreached: isize) {
        if self.low > lowest {
            self.low -= 1;
            self.reach[(origin + self.low - 1) as usize] = unreached;
        } else {
            self.low += 1;
        }
        if self.high < highest {
            self.high += 1;
            self.reach[(origin + self.high + 1) as usize] = unreached;
        } else {
            self.high -= 1;
        }
    }

    fn diagonals(&self) -> impl Iterator<Item = isize> + use<> {
        (self.low..=self.high).rev().step_by(2)
    }
}

struct Middle<'s, 'v> {
    before: &'s [u32],
    after: &'s [u32],
    /// Where diagonal 0 is kept in `reach`; diagonals run from `-after.len()` to `before.len()`.
    origin: isize,
    forward: Front<'v>,
    backward: Front<'v>,
}

impl Middle<'_, '_> {
    fn run(&mut self, cost_max: usize) -> (isize, isize) {
        let (rows, columns) = (self.before.len() as isize, self.after.len() as isize);
        let start = rows - columns;
        let odd = start & 1 != 0;
        for side in [-1, 0, 1] {
            self.forward.reach[(self.origin + side) as usize] = -1;
        }
        self.forward.reach[self.origin as usize] = 0;
        self.backward.low = start;
        self.backward.high = start;
        for side in [-1, 1] {
            self.backward.reach[(self.origin + start + side) as usize] = isize::MAX;
        }
        self.backward.reach[(self.origin + start) as usize] = rows;
        for _ in 0..cost_max {
            if let Some(point) = self.step_forward(odd).or_else(|| self.step_backward(odd)) {
                return point;
            }
        }
        self.furthest()
    }

    fn step_forward(&mut self, odd: bool) -> Option<(isize, isize)> {
        let (rows, columns) = (self.before.len() as isize, self.after.len() as isize);
        self.forward.widen(-columns, rows, self.origin, -1);
        for diagonal in self.forward.diagonals() {
            let at = (self.origin + diagonal) as usize;
            let reach = &mut self.forward.reach;
            let mut x =
                if reach[at - 1] >= reach[at + 1] { reach[at - 1] + 1 } else { reach[at + 1] };
            let mut y = x - diagonal;
            while x < rows && y < columns && self.before[x as usize] == self.after[y as usize] {
                x += 1;
                y += 1;
            }
            reach[at] = x;
            let meets = (self.backward.low..=self.backward.high).contains(&diagonal);
            if odd && meets && self.backward.reach[at] <= x {
                return Some((x, y));
            }
        }
        None
    }

    fn step_backward(&mut self, odd: bool) -> Option<(isize, isize)> {
        let (rows, columns) = (self.before.len() as isize, self.after.len() as isize);
        self.backward.widen(-columns, rows, self.origin, isize::MAX);
        for diagonal in self.backward.diagonals() {
            let at = (self.origin + diagonal) as usize;
            let reach = &mut self.backward.reach;
            let mut x =
                if reach[at - 1] < reach[at + 1] { reach[at - 1] } else { reach[at + 1] - 1 };
            let mut y = x - diagonal;
            while x > 0 && y > 0 && self.before[x as usize - 1] == self.after[y as usize - 1] {
                x -= 1;
                y -= 1;
            }
            reach[at] = x;
            let meets = (self.forward.low..=self.forward.high).contains(&diagonal);
            if !odd && meets && x <= self.forward.reach[at] {
                return Some((x, y));
            }
        }
        None
    }

    fn furthest(&self) -> (isize, isize) {
        let (rows, columns) = (self.before.len() as isize, self.after.len() as isize);
        let forward = self
            .forward
            .diagonals()
            .map(|diagonal| {
                let x = self.forward.reach[(self.origin + diagonal) as usize];
                let x = x.min(rows).min(columns + diagonal);
                (x, x - diagonal)
            })
            .max_by_key(|(x, y)| x + y)
            .expect("a front has a diagonal");
        let backward = self
            .backward
            .diagonals()
            .map(|diagonal| {
                let x = self.backward.reach[(self.origin + diagonal) as usize];
                let x = x.max(0).max(diagonal);
                (x, x - diagonal)
            })
            .min_by_key(|(x, y)| x + y)
            .expect("a front has a diagonal");
        let walked_back = rows + columns - (backward.0 + backward.1);
        if forward.0 + forward.1 >= walked_back { forward } else { backward }
    }
}

/// Picks the longest subsequence of pairs, ordered by the first, whose second increases too.
fn longest_increasing(pairs: impl Iterator<Item = (usize, usize)>) -> Vec<(usize, usize)> {
    let mut kept: Vec<((usize, usize), Option<usize>)> = Vec::new();
    // The pair that ends the best run of each length, as an index into `kept`.
    let mut ends: Vec<usize> = Vec::new();
    for pair in pairs {
        let len = ends.partition_point(|&end| kept[end].0.1 < pair.1);
        kept.push((pair, len.checked_sub(1).map(|last| ends[last])));
        if len == ends.len() {
            ends.push(kept.len() - 1);
        } else {
            ends[len] = kept.len() - 1;
        }
    }
    let mut run = Vec::with_capacity(ends.len());
    let mut next = ends.last().copied();
    while let Some(at) = next {
        run.push(kept[at].0);
        next = kept[at].1;
    }
    run.reverse();
    run
}

/// Moves every pure insertion and deletion as far down as it can go without changing its meaning.
fn slide_down(before: &[u32], after: &[u32], changes: &mut Vec<Change>) {
    let mut slid: Vec<Change> = Vec::with_capacity(changes.len());
    // From the last to the first: what slides into the change below becomes part of it, and the
    // whole may slide on.
    for mut change in changes.drain(..).rev() {
        loop {
            let stop = slid.last().map_or(before.len(), |next| next.before.start);
            let (tokens, range) = if change.before.is_empty() {
                (after, change.after.clone())
            } else if change.after.is_empty() {
                (before, change.before.clone())
            } else {
                (after, 0..0)
            };
            let room = stop - change.before.end;
            let slide = (0..room)
                .take_while(|by| {
                    !range.is_empty() && tokens[range.start + by] == tokens[range.end + by]
                })
                .count();
            change.before = change.before.start + slide..change.before.end + slide;
            change.after = change.after.start + slide..change.after.end + slide;
            match slid.last() {
                Some(next) if change.before.end == next.before.start => {
                    let next = slid.pop().expect("it was just there");
                    change = Change {
                        before: change.before.start..next.before.end,
                        after: change.after.start..next.after.end,
                    };
                }
                _ => break,
            }
        }
        slid.push(change);
    }
    slid.reverse();
    *changes = slid;
}

#[cfg(test)]
mod tests;
