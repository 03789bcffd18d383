//! Aligns lines anew where a diff kept blank ones at the price of lines that were edited.
//!
//! A diff of lines sees no likeness between a line and what became of it. Where every line that
//! says something was edited, all it has to keep are the blank ones, and of two of those it may
//! keep the wrong one: then a line looks as if it had been deleted above a blank line and another
//! one written below it, and a merge would hold both. The words that stand once in each text tell.
//!
//! Invariant: only stretches between kept lines that say something are aligned anew, and only those
//! in which a line that says nothing was kept across two lines that resemble each other.

use std::collections::HashMap;
use std::ops::Range;

use super::{Change, Search, Sequence, longest_increasing};
use crate::words::{is_telling, words};

/// Lines, and the lines that became of them.
type Edited = (Range<usize>, Range<usize>);

/// Gives a script of lines to `search` again, as its changes, with what was kept astray set right.
pub(super) fn realign(
    before: &Sequence<'_, '_>,
    after: &Sequence<'_, '_>,
    script: &[Change],
    search: &mut Search<'_>,
) {
    let mut rest = script;
    while !rest.is_empty() {
        let is_told_apart = |pair: &[Change]| {
            let kept = &before.numbers[pair[0].before.end..pair[1].before.start];
            kept.iter().any(|&line| search.telling[line as usize])
        };
        let len = rest.windows(2).position(is_told_apart).map_or(rest.len(), |at| at + 1);
        let (stretch, tail) = rest.split_at(len);
        rest = tail;
        let (first, last) = (&stretch[0], &stretch[len - 1]);
        let mut b = first.before.start..last.before.end;
        let mut a = first.after.start..last.after.end;
        let edited = if len > 1 { edited(before, &b, after, &a) } else { Vec::new() };
        if !crosses(stretch, &edited) {
            stretch.iter().for_each(|c| search.push(c.before.clone(), c.after.clone()));
            continue;
        }
        for (in_before, in_after) in edited {
            search.solve(b.start..in_before.start, a.start..in_after.start, 0);
            (b.start, a.start) = (in_before.end, in_after.end);
            search.push(in_before, in_after);
        }
        search.solve(b, a, 0);
    }
}

/// Tells whether what was kept between two changes stands below an edited line in one text and
/// above it in the other.
fn crosses(stretch: &[Change], edited: &[Edited]) -> bool {
    stretch.windows(2).any(|pair| {
        let (in_before, in_after) = (pair[0].before.end, pair[0].after.end);
        let above = edited.partition_point(|(line, _)| line.start < in_before);
        above != edited.partition_point(|(_, line)| line.start < in_after)
    })
}

/// Finds the lines of two stretches that were edited, in the order of both.
///
/// They are those with the longest run of words that stand once on each side, where such words are
/// half of the line that has fewer words: one word that two lines share by accident says nothing.
/// Linear in both but for a logarithm.
fn edited(
    before: &Sequence<'_, '_>,
    b: &Range<usize>,
    after: &Sequence<'_, '_>,
    a: &Range<usize>,
) -> Vec<Edited> {
    let (of_before, of_after) = (Words::of(before, b), Words::of(after, a));
    let mut seen: HashMap<&str, (Seen, Seen)> = HashMap::new();
    for (at, word) in of_before.list.iter().enumerate() {
        seen.entry(word).or_default().0.count(at);
    }
    for (at, word) in of_after.list.iter().enumerate() {
        seen.entry(word).or_default().1.count(at);
    }
    let once = of_before.list.iter().filter_map(|word| match seen[word] {
        (Seen::Once(b), Seen::Once(a)) => Some((b, a)),
        _ => None,
    });
    let lines = |&(b, a): &(usize, usize)| (of_before.line[b], of_after.line[a]);
    let mut shared: HashMap<(usize, usize), usize> = HashMap::new();
    once.clone().for_each(|pair| *shared.entry(lines(&pair)).or_default() += 1);
    let resemble = |pair: &(usize, usize)| {
        let (b, a) = lines(pair);
        2 * shared[&(b, a)] >= of_before.count[&b].min(of_after.count[&a])
    };
    let mut edited: Vec<Edited> = Vec::new();
    for pair in longest_increasing(once.filter(resemble)) {
        let (b, a) = lines(&pair);
        match edited.last_mut() {
            Some(last) if b < last.0.end || a < last.1.end => {
                (last.0.end, last.1.end) = (b + 1, a + 1);
            }
            _ => edited.push((b..b + 1, a..a + 1)),
        }
    }
    edited
}

/// Where a word stands.
#[derive(Clone, Copy, Default)]
enum Seen {
    #[default]
    Never,
    Once(usize),
    Often,
}

impl Seen {
    fn count(&mut self, at: usize) {
        *self = if matches!(self, Self::Never) { Self::Once(at) } else { Self::Often };
    }
}

/// The words of some lines that say something.
struct Words<'t> {
    list: Vec<&'t str>,
    /// Per word: its line.
    line: Vec<usize>,
    /// Per line that has such words: how many.
    count: HashMap<usize, usize>,
}

impl<'t> Words<'t> {
    fn of(text: &Sequence<'_, 't>, stretch: &Range<usize>) -> Self {
        let mut found = Self { list: Vec::new(), line: Vec::new(), count: HashMap::new() };
        for line in stretch.clone() {
            let first = found.list.len();
            found.list.extend(words(text.list[line]).filter(|word| is_telling(word)));
            found.line.resize(found.list.len(), line);
            found.count.insert(line, found.list.len() - first);
        }
        found
    }
}
