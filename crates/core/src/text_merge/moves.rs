//! Blocks that one side moved: edits follow them, and none ends up in two places.
//!
//! Invariant: only texts that a move touched are rewritten, and only so that the ordinary merge of
//! the rewritten texts holds every line that either side added. A move is a deletion and an
//! insertion of the same lines (blank ones around them aside) that occur once on each side.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use super::weave::{blank_tail, is_tight};
use super::{Aligned, TextMerge, Tokens};
use crate::block::{Look, split};
use crate::conflict::Hunk;
use crate::lines::is_blank;
use crate::text_diff::Change;
use crate::words::{is_telling, words};

/// The fewest bytes of lines that make a move: `}` or `- a` come and go by themselves.
const MOVED_BYTES_MIN: usize = 8;

/// The fewest bytes of a block that must not be doubled.
const DOUBLED_BYTES_MIN: usize = 16;

/// Lets the edits of one side follow a block that the other moved.
///
/// Where `mover` moved lines that `editor` changed in place, the edited lines are put where the
/// mover wants them, and the editor's text gets the unchanged ones back: then the move alone is
/// left for the merge. Returns the two texts, mover first, or `None` if there is no such place.
pub(super) fn follow(
    base: &Tokens<'_>,
    (mover, moves): (&Tokens<'_>, &[Change]),
    (editor, edits): (&Tokens<'_>, &[Change]),
) -> Option<(String, String)> {
    let mut in_mover = Vec::new();
    let mut in_editor = Vec::new();
    for (from, to) in moved(base, mover, moves) {
        let edited =
            image(&from, edits).filter(|edited| resembles(base.slice(&from), editor.slice(edited)));
        if let Some(edited) = edited {
            in_mover.push((to, editor.slice(&edited)));
            in_editor.push((edited, base.slice(&from)));
        }
    }
    if in_mover.is_empty() {
        return None;
    }
    in_mover.sort_by_key(|(range, _)| range.start);
    Some((rewrite(mover, &in_mover), rewrite(editor, &in_editor)))
}

/// Finds what a side moved: the lines in the base and where they are now, in the order of the base.
fn moved(
    base: &Tokens<'_>,
    side: &Tokens<'_>,
    changes: &[Change],
) -> Vec<(Range<usize>, Range<usize>)> {
    let mut gone: HashMap<&[&str], Vec<Range<usize>>> = HashMap::new();
    for change in changes.iter().filter(|change| change.after.is_empty()) {
        let core = core(base, &change.before);
        if base.slice(&core).len() >= MOVED_BYTES_MIN {
            gone.entry(&base.list[core.clone()]).or_default().push(core);
        }
    }
    if gone.is_empty() {
        return Vec::new();
    }
    let mut came: BTreeMap<usize, (Range<usize>, Vec<Range<usize>>)> = BTreeMap::new();
    for change in changes.iter().filter(|change| change.before.is_empty()) {
        let core = core(side, &change.after);
        if let Some([from]) = gone.get(&side.list[core.clone()]).map(Vec::as_slice) {
            came.entry(from.start).or_insert_with(|| (from.clone(), vec![])).1.push(core);
        }
    }
    let once = came.into_values().filter_map(|(from, to)| match to.as_slice() {
        [to] => Some((from, to.clone())),
        _ => None,
    });
    once.collect()
}

/// Takes the blank lines off both ends of a range of lines.
fn core(tokens: &Tokens<'_>, range: &Range<usize>) -> Range<usize> {
    let blank = |at: &usize| is_blank(tokens.list[*at]);
    let start = range.clone().find(|at| !blank(at)).unwrap_or(range.end);
    let end = range.clone().rfind(|at| !blank(at)).map_or(start, |at| at + 1);
    start..end
}

/// Finds what became of the lines `of` the base if a script changed them, only inside of them, and
/// left something.
fn image(of: &Range<usize>, changes: &[Change]) -> Option<Range<usize>> {
    let (mut before, mut inside) = (0isize, 0isize);
    let mut touched = false;
    for change in changes {
        let grows = change.after.len() as isize - change.before.len() as isize;
        let within = of.start <= change.before.start && change.before.end <= of.end;
        let at_border = change.before.is_empty()
            && (change.before.start == of.start || change.before.start == of.end);
        if change.before.end <= of.start && (!within || at_border) {
            before += grows;
        } else if change.before.start >= of.end {
            break;
        } else if within && !at_border {
            inside += grows;
            touched = true;
        } else {
            return None;
        }
    }
    let start = usize::try_from(of.start as isize + before).ok()?;
    let end = usize::try_from(of.end as isize + before + inside).ok()?;
    (touched && start < end).then_some(start..end)
}

/// Tells whether at least half of the words of a text are in another: then it was edited, not
/// replaced.
fn resembles(text: &str, other: &str) -> bool {
    let kept: BTreeSet<&str> = words(other).collect();
    let telling: Vec<&str> = words(text).filter(|word| is_telling(word)).collect();
    2 * telling.iter().filter(|word| kept.contains(**word)).count() >= telling.len()
}

fn rewrite(tokens: &Tokens<'_>, replacements: &[(Range<usize>, &str)]) -> String {
    let mut text = String::with_capacity(tokens.text.len());
    let mut at = 0;
    for (range, with) in replacements {
        text.push_str(tokens.slice(&(at..range.start)));
        text.push_str(with);
        at = range.end;
    }
    text.push_str(tokens.slice(&(at..tokens.list.len())));
    text
}

/// Finds the blocks that the loser inserted and that the merge holds more often than any of the
/// three texts, because the winner has them in another place.
pub(super) fn doubled(aligned: &Aligned<'_>, three: [&str; 3], merged: &str) -> BTreeSet<String> {
    let inserted = inserted(aligned);
    let own = blocks(aligned.loser.text);
    let candidates: BTreeSet<&str> = own
        .iter()
        .filter(|(at, block)| is_within(*at, block, &inserted))
        .map(|(_, block)| block.trim_end())
        .filter(|core| is_worth(core))
        .collect();
    if candidates.is_empty() {
        return BTreeSet::new();
    }
    let count = |text| {
        let mut count: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, block) in blocks(text) {
            if let Some(core) = candidates.get(block.trim_end()) {
                *count.entry(core).or_default() += 1;
            }
        }
        count
    };
    let then = three.map(count);
    let now = count(merged).into_iter();
    let more = |core: &str, times| then.iter().all(|count| *count.get(core).unwrap_or(&0) < times);
    now.filter(|(core, times)| more(core, *times)).map(|(core, _)| core.to_owned()).collect()
}

/// Takes the blocks that [`doubled`] found, where the loser inserted them, off the loser's text.
pub(super) fn without(aligned: &Aligned<'_>, doubled: &BTreeSet<String>) -> String {
    let inserted = inserted(aligned);
    let stays = |at: usize, block: &str| {
        !(doubled.contains(block.trim_end()) && is_within(at, block, &inserted))
    };
    let own = blocks(aligned.loser.text).into_iter();
    let mut text: String =
        own.filter(|(at, block)| stays(*at, block)).map(|(_, block)| block).collect();
    if blank_tail(aligned.loser.text) == 0 {
        // The blank line above a block that was the last goes with it.
        text.truncate(text.len() - blank_tail(&text));
    }
    text
}

/// Takes every copy but one of the blocks that [`doubled`] found off a merge: the copies in hunks
/// stay, or else the first.
pub(super) fn keep_one(mut merge: TextMerge, doubled: &BTreeSet<String>) -> TextMerge {
    let hunks: Vec<Range<usize>> = merge.hunks.iter().map(Hunk::range).collect();
    let free = |range: &Range<usize>| {
        !hunks.iter().any(|hunk| hunk.start < range.end && range.start < hunk.end)
    };
    let copies = blocks(&merge.text).into_iter().filter(|(_, b)| doubled.contains(b.trim_end()));
    let copies: Vec<_> = copies.map(|(at, b)| (b.trim_end(), at..at + b.len())).collect();
    let mut seen: BTreeSet<&str> =
        copies.iter().filter(|(_, range)| !free(range)).map(|(core, _)| *core).collect();
    let mut removed = Vec::new();
    for (core, range) in copies.iter().filter(|(_, range)| free(range)) {
        if !seen.insert(core) {
            removed.push(range.clone());
        }
    }
    for range in removed.into_iter().rev() {
        merge.text.replace_range(range.clone(), "");
        for hunk in merge.hunks.iter_mut().filter(|hunk| hunk.at >= range.end as u64) {
            hunk.at -= range.len() as u64;
        }
    }
    merge
}

fn inserted(aligned: &Aligned<'_>) -> Vec<Range<usize>> {
    let at = &aligned.loser.at;
    let changes = aligned.to_loser.iter().filter(|change| !change.after.is_empty());
    changes.map(|change| at[change.after.start]..at[change.after.end]).collect()
}

/// Tells whether every block that stands in `before` is still in `after`.
pub(super) fn keeps_blocks(before: &str, after: &str) -> bool {
    let kept: BTreeSet<&str> = blocks(after).into_iter().map(|(_, b)| b.trim_end()).collect();
    blocks(before).into_iter().all(|(_, block)| kept.contains(block.trim_end()))
}

fn blocks(text: &str) -> Vec<(usize, &str)> {
    let mut at = 0;
    let with_offset = |block: &'_ str| {
        at += block.len();
        at - block.len()
    };
    let list = split(text);
    let offsets: Vec<usize> = list.iter().copied().map(with_offset).collect();
    offsets.into_iter().zip(list).collect()
}

/// Tells whether a block at an offset, the blank lines below it aside, lies in one of the ranges.
fn is_within(at: usize, block: &str, ranges: &[Range<usize>]) -> bool {
    let end = at + block.len() - blank_tail(block);
    let next = ranges.partition_point(|range| range.end < end);
    ranges.get(next).is_some_and(|range| range.start <= at && end <= range.end)
}

/// Tells whether a block says enough that nobody writes it twice: lines of lists and tables and
/// headings may well stand in two places.
fn is_worth(core: &str) -> bool {
    core.len() >= DOUBLED_BYTES_MIN && !Look::at(core).heading && !is_tight(core)
}
