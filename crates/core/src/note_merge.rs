//! Three-way merge of notes: the head key by key, tags as an OR-Set, the body as text.
//!
//! Invariant: symmetric in its two sides; every entry and every word a side added is in the result
//! or in a conflict; a head that is not plainly YAML on any side, or that stands as plain lines in
//! another text, is merged as text. The table of what wins is docs/merge.md. Start reading at [`merge_note`].

mod stray_head;

use std::collections::{BTreeMap, BTreeSet};

use crate::conflict::{Clash, Hunk, Kept};
use crate::frontmatter::{Entry, Frontmatter, Head};
use crate::id::VersionId;
use crate::limits::{KEY_BYTES_MAX, STAMPED_KEYS_MAX};
use crate::lines::{lines, without_end};
use crate::list_value::{List, merge_lists};
use crate::tags::{TAGS_KEY, Tagged, bounded, merge_tags};
use crate::text_merge::{
    AsHunk, LineEnds, Overlap, Side, TextMerge, merge_opened, merge_opened_unrelated,
};
use crate::timestamp::Stamp;
use crate::version::{KeyStamps, TagDots};
use crate::version_vector::Dot;
use stray_head::has_stray_head;

/// One version of a note, as far as merging goes.
#[derive(Clone, Copy, Debug)]
pub struct NoteSide<'n> {
    /// Its text.
    pub text: &'n str,
    /// See [`KeyStamps`].
    pub keys: &'n KeyStamps,
    /// See [`TagDots`].
    pub tags: &'n TagDots,
    /// Decides where a choice must be made: the larger wins.
    pub rank: (Stamp, VersionId),
}

/// The merge of two versions of a note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteMerge {
    /// The merged text.
    pub text: String,
    /// Its key stamps.
    pub keys: KeyStamps,
    /// Its tag dots.
    pub tags: TagDots,
    /// Where it had to choose, and whose version won there (`Ours` is the first argument), in the
    /// order of the text.
    pub conflicts: Vec<(Side, Clash)>,
}

/// Merges two versions of a note that were both made from `base`, or from nothing.
///
/// Law: swapping `a` and `b` swaps the sides in `conflicts` and changes nothing else.
pub fn merge_note(
    base: Option<&NoteSide<'_>>,
    a: &NoteSide<'_>,
    b: &NoteSide<'_>,
    overlap: Overlap,
) -> NoteMerge {
    let (won, winner, loser) =
        if a.rank >= b.rank { (Side::Ours, a, b) } else { (Side::Theirs, b, a) };
    let base_text = base.map_or("", |base| base.text);
    let ends = LineEnds::of(base_text, winner.text, loser.text);
    let (base_text, winner_text) = (ends.open(base_text), ends.open(winner.text));
    let loser_text = ends.open(loser.text);
    let mut merger = Merger {
        overlap,
        related: base.is_some(),
        won,
        winner: Version { text: &winner_text, keys: winner.keys, tags: winner.tags },
        loser: Version { text: &loser_text, keys: loser.keys, tags: loser.tags },
        base: Version {
            text: &base_text,
            keys: base.map_or(&NO_STAMPS, |base| base.keys),
            tags: base.map_or(&NO_DOTS, |base| base.tags),
        },
        merge: NoteMerge {
            text: String::with_capacity(winner_text.len()),
            keys: KeyStamps::new(),
            tags: TagDots::new(),
            conflicts: Vec::new(),
        },
    };
    merger.merge();
    let mut merge = merger.merge;
    ends.close(&mut merge.text, &mut merge.conflicts);
    merge
}

/// Makes the key stamps and tag dots of a version that a device mints from an edited file.
///
/// `parent` is the version the edit was made from, if any. A key whose entry changed (its line ends
/// aside) gets `stamp`, a tag that was not there gets `dot`; everything else keeps what it had.
/// Keys and tags that are too long or too many for a version go without.
pub fn restamp(
    parent: Option<(&str, &KeyStamps, &TagDots)>,
    text: &str,
    stamp: Stamp,
    dot: Dot,
) -> (KeyStamps, TagDots) {
    let (mut keys, mut tags) = (KeyStamps::new(), TagDots::new());
    let (Some((old_text, old_keys, old_tags)), (Frontmatter::Keys(head), _)) =
        (parent, Frontmatter::of(text))
    else {
        return (keys, tags);
    };
    let old_head = head_of(old_text);
    for entry in head.entries.iter().filter(|entry| entry.key.len() <= KEY_BYTES_MAX) {
        let same = old_head.get(&entry.key).is_some_and(|old| is_same(old.text, entry.text));
        let kept = if same { old_keys.get(&entry.key).copied() } else { Some(stamp) };
        if let Some(kept) = kept.filter(|_| keys.len() < STAMPED_KEYS_MAX) {
            keys.insert(entry.key.clone(), kept);
        }
    }
    let had: BTreeSet<String> = crate::tags::tags(&old_head).into_iter().collect();
    for tag in crate::tags::tags(&head).into_iter().filter(|tag| tag.len() <= KEY_BYTES_MAX) {
        let kept = match had.contains(&tag) {
            true => old_tags.get(&tag).cloned(),
            false => Some(BTreeSet::from([dot])),
        };
        if let Some(kept) = kept.filter(|_| tags.len() < STAMPED_KEYS_MAX) {
            tags.insert(tag, kept);
        }
    }
    (keys, tags)
}

static NO_STAMPS: KeyStamps = KeyStamps::new();
static NO_DOTS: TagDots = TagDots::new();

impl AsHunk for (Side, Clash) {
    fn as_hunk(&mut self) -> Option<&mut Hunk> {
        match &mut self.1 {
            Clash::Body(hunk) | Clash::Key { hunk, .. } | Clash::FirstContact(hunk) => Some(hunk),
            Clash::EditOverDelete | Clash::Path { .. } | Clash::Content => None,
        }
    }
}

fn head_of(text: &str) -> Head<'_> {
    match Frontmatter::of(text).0 {
        Frontmatter::Keys(head) => head,
        Frontmatter::Absent | Frontmatter::Opaque => Head::default(),
    }
}

fn is_same(a: &str, b: &str) -> bool {
    a == b || lines(a).map(without_end).eq(lines(b).map(without_end))
}

/// Takes what changed; the winner's if both did.
fn pick<'t>(base: &str, winner: &'t str, loser: &'t str) -> &'t str {
    if winner == base { loser } else { winner }
}

#[derive(Clone, Copy)]
struct Version<'n> {
    text: &'n str,
    keys: &'n KeyStamps,
    tags: &'n TagDots,
}

struct Merger<'n> {
    overlap: Overlap,
    related: bool,
    /// Which argument the winner is.
    won: Side,
    base: Version<'n>,
    winner: Version<'n>,
    loser: Version<'n>,
    merge: NoteMerge,
}

/// The heads of the three versions; empty where there is none.
struct Heads<'n> {
    base: Head<'n>,
    winner: Head<'n>,
    loser: Head<'n>,
}

/// One key on the three versions.
struct Key<'h, 'n> {
    name: &'h str,
    base: Option<&'h Entry<'n>>,
    winner: Option<&'h Entry<'n>>,
    loser: Option<&'h Entry<'n>>,
}

impl<'n> Merger<'n> {
    fn merge(&mut self) {
        let heads = [self.base, self.winner, self.loser].map(|side| Frontmatter::of(side.text));
        let [base, winner, loser] = heads.each_ref().map(|(head, body)| (head, *body));
        let base = self.related.then_some(base);
        if heads.iter().any(|(head, _)| *head == Frontmatter::Opaque)
            || has_stray_head(base, winner, loser)
        {
            self.merge_text(self.base.text, self.winner.text, self.loser.text);
            self.join_stamps_and_dots();
            return;
        }
        let [(base, base_body), (winner, winner_body), (loser, loser_body)] = heads;
        let known = |head| if let Frontmatter::Keys(head) = head { head } else { Head::default() };
        self.merge_heads(&Heads { base: known(base), winner: known(winner), loser: known(loser) });
        self.merge_text(base_body, winner_body, loser_body);
    }

    /// Merges what is text and appends it.
    fn merge_text(&mut self, base: &str, winner: &str, loser: &str) {
        let TextMerge { text, hunks } = if self.related || winner.is_empty() || loser.is_empty() {
            merge_opened(base, winner, loser, self.overlap)
        } else if winner == loser {
            TextMerge { text: winner.to_owned(), hunks: Vec::new() }
        } else {
            merge_opened_unrelated(winner, loser)
        };
        let shift = self.merge.text.len() as u64;
        for mut hunk in hunks {
            hunk.at += shift;
            let clash = if self.related { Clash::Body(hunk) } else { Clash::FirstContact(hunk) };
            self.merge.conflicts.push((self.won, clash));
        }
        self.merge.text.push_str(&text);
    }

    /// Keeps every stamp and dot where the head is text and nobody knows which key is whose.
    fn join_stamps_and_dots(&mut self) {
        for (key, stamp) in self.winner.keys.iter().chain(self.loser.keys) {
            let joined = self.merge.keys.entry(key.clone()).or_insert(*stamp);
            *joined = (*joined).max(*stamp);
        }
        for (tag, dots) in self.winner.tags.iter().chain(self.loser.tags) {
            self.merge.tags.entry(tag.clone()).or_default().extend(dots);
        }
        bound(&mut self.merge.keys);
        bound(&mut self.merge.tags);
        for dots in self.merge.tags.values_mut() {
            *dots = bounded(std::mem::take(dots));
        }
    }

    fn merge_heads(&mut self, heads: &Heads<'n>) {
        let Heads { base, winner, loser } = heads;
        let names = ordered_keys(heads);
        let mut open = pick(base.open, winner.open, loser.open);
        let (base_tail, base_close) = split_tail(base.tail);
        let (winner_tail, winner_close) = split_tail(winner.tail);
        let (loser_tail, loser_close) = split_tail(loser.tail);
        let mut close = pick(base_close, winner_close, loser_close);
        let start = self.merge.text.len();
        let mut entries = 0;
        for name in names {
            let key = Key {
                name,
                base: base.get(name),
                winner: winner.get(name),
                loser: loser.get(name),
            };
            if entries == 0 {
                // Whoever dropped the head while the other changed a key gets the key, in a head.
                let either = |a: &'n str, b: &'n str| if a.is_empty() { b } else { a };
                open = either(open, either(winner.open, loser.open));
                close = either(close, either(winner_close, loser_close));
                self.merge.text.push_str(open);
            }
            if self.merge_key(&key) {
                entries += 1;
            } else if entries == 0 {
                self.merge.text.truncate(start);
                open = pick(base.open, winner.open, loser.open);
                close = pick(base_close, winner_close, loser_close);
            }
        }
        if entries == 0 {
            self.merge.text.push_str(open);
        }
        if !open.is_empty() {
            self.merge_comments(base_tail, winner_tail, loser_tail);
        }
        self.merge.text.push_str(close);
        bound(&mut self.merge.keys);
        bound(&mut self.merge.tags);
    }

    fn merge_comments(&mut self, base: &str, winner: &str, loser: &str) {
        let merged = merge_opened(base, winner, loser, self.overlap);
        let shift = self.merge.text.len() as u64;
        self.merge.text.push_str(&merged.text);
        for mut hunk in merged.hunks {
            hunk.at += shift;
            self.merge.conflicts.push((self.won, Clash::Body(hunk)));
        }
    }

    /// Appends the merged entry of a key; `false` if the key is gone.
    fn merge_key(&mut self, key: &Key<'_, 'n>) -> bool {
        let text = |entry: Option<&Entry<'n>>| entry.map(|entry| entry.text);
        let (base, winner, loser) = (text(key.base), text(key.winner), text(key.loser));
        let stamps = [self.winner.keys.get(key.name), self.loser.keys.get(key.name)];
        let newest = stamps.into_iter().flatten().max().copied();
        let one_changed = winner == loser || winner == base || loser == base;
        if key.name == TAGS_KEY
            && let Some(stays) = self.merge_tags_key(key, newest)
        {
            return stays;
        }
        if one_changed {
            let taken = if winner == base { key.loser } else { key.winner };
            let Some(taken) = taken else { return false };
            self.push_lead(key, taken);
            self.merge.text.push_str(taken.text);
            self.keep_stamp(key.name, newest);
            return true;
        }
        if let Some(merged) = self.merge_list(key) {
            self.push_lead(key, key.winner.or(key.loser).expect("one side has the key"));
            self.merge.text.push_str(&merged);
            self.keep_stamp(key.name, newest);
            return true;
        }
        self.choose(key);
        true
    }

    /// Both sides changed the key to something different: the newer stamp wins, a key that one side
    /// removed stays.
    fn choose(&mut self, key: &Key<'_, 'n>) {
        let stamp_of = |side: &Version<'_>| side.keys.get(key.name).copied();
        let (winner_stamp, loser_stamp) = (stamp_of(&self.winner), stamp_of(&self.loser));
        let winner_wins = match (key.winner, key.loser) {
            (Some(_), Some(_)) => winner_stamp >= loser_stamp,
            (winner, _) => winner.is_some(),
        };
        let (won, taken, lost, stamp) = if winner_wins {
            (self.won, key.winner, key.loser, winner_stamp)
        } else {
            (self.won.other(), key.loser, key.winner, loser_stamp)
        };
        let taken = taken.expect("a key that both changed is on one side at least");
        self.push_lead(key, taken);
        let hunk = Hunk {
            base: key.base.map_or_else(String::new, |entry| entry.text.to_owned()),
            winner: taken.text.to_owned(),
            loser: lost.map_or_else(String::new, |entry| entry.text.to_owned()),
            at: self.merge.text.len() as u64,
            len: taken.text.len() as u64,
            kept: Kept::Winner,
        };
        self.merge.text.push_str(taken.text);
        self.merge.conflicts.push((won, Clash::Key { key: key.name.to_owned(), hunk }));
        self.keep_stamp(key.name, stamp);
    }

    /// Merges the tags by their dots, whatever the texts say; `None` if they are not a plain list
    /// on every side that has them, `Some(false)` if the key is gone.
    fn merge_tags_key(&mut self, key: &Key<'_, 'n>, newest: Option<Stamp>) -> Option<bool> {
        let read = |entry: Option<&Entry<'n>>| match entry {
            Some(entry) => List::of(entry).map(Some),
            None => Some(None),
        };
        let (base, winner, loser) = (read(key.base)?, read(key.winner)?, read(key.loser)?);
        let merged = merge_tags(
            Tagged { list: base.as_ref(), dots: self.base.tags },
            Tagged { list: winner.as_ref(), dots: self.winner.tags },
            Tagged { list: loser.as_ref(), dots: self.loser.tags },
        );
        let text = |entry: Option<&Entry<'n>>| entry.map(|entry| entry.text);
        let unchanged = text(key.winner) == text(key.base);
        let (taken, list) = if unchanged { (key.loser, &loser) } else { (key.winner, &winner) };
        let says = |list: &List<'_>| list.values().map(str::to_owned).collect::<BTreeSet<_>>();
        let settled =
            unchanged || text(key.loser) == text(key.base) || text(key.loser) == text(key.winner);
        let agrees = list.as_ref().map(says).unwrap_or_default() == merged.tags;
        if settled && agrees && taken.is_none() {
            return Some(false);
        }
        let both = winner.as_ref().or(loser.as_ref()).zip(loser.as_ref().or(winner.as_ref()));
        let (winner_list, loser_list) = both?;
        let written = match taken.filter(|_| settled && agrees) {
            Some(taken) => taken.text.to_owned(),
            None => merge_lists(base.as_ref(), winner_list, loser_list, |tag| {
                merged.tags.contains(tag)
            })?,
        };
        let removed = key.base.is_some() && (key.winner.is_none() || key.loser.is_none());
        if merged.tags.is_empty() && removed {
            return Some(false);
        }
        self.push_lead(key, key.winner.or(key.loser).expect("one side has the key"));
        self.merge.text.push_str(&written);
        self.merge.tags = merged.dots;
        self.keep_stamp(key.name, newest);
        Some(true)
    }

    /// Merges a key that is a list on all sides that have it, as a set.
    fn merge_list(&mut self, key: &Key<'_, 'n>) -> Option<String> {
        let winner = List::of(key.winner?)?;
        let loser = List::of(key.loser?)?;
        let base = match key.base {
            Some(entry) => Some(List::of(entry)?),
            None => None,
        };
        let set = |list: &List<'_>| list.values().map(str::to_owned).collect::<BTreeSet<_>>();
        let (in_winner, in_loser) = (set(&winner), set(&loser));
        let in_base = base.as_ref().map(set).unwrap_or_default();
        let keeps = |value: &str| {
            let both = in_winner.contains(value) && in_loser.contains(value);
            both || !in_base.contains(value)
        };
        merge_lists(base.as_ref(), &winner, &loser, keeps)
    }

    /// Appends the comments above a key.
    fn push_lead(&mut self, key: &Key<'_, 'n>, taken: &Entry<'n>) {
        match (key.winner, key.loser) {
            (Some(winner), Some(loser)) => {
                let base = key.base.map_or("", |entry| entry.lead);
                self.merge_comments(base, winner.lead, loser.lead);
            }
            _ => self.merge.text.push_str(taken.lead),
        }
    }

    fn keep_stamp(&mut self, name: &str, stamp: Option<Stamp>) {
        if let Some(stamp) = stamp {
            self.merge.keys.insert(name.to_owned(), stamp);
        }
    }
}

/// Drops entries that a version may not hold; only a file with a thousand keys has them.
fn bound<V>(map: &mut BTreeMap<String, V>) {
    while map.len() > STAMPED_KEYS_MAX {
        map.pop_last();
    }
}

/// Splits the end of a head into comments and the closing line.
fn split_tail(tail: &str) -> (&str, &str) {
    let close = lines(tail).last().map_or(0, str::len);
    tail.split_at(tail.len() - close)
}

/// Lists the keys of both sides in the order of the side that reordered them, the winner if both
/// did; a key that only the other side has follows the key it follows there.
fn ordered_keys<'h>(heads: &'h Heads<'_>) -> Vec<&'h str> {
    let names =
        |head: &'h Head<'_>| head.entries.iter().map(|e| e.key.as_str()).collect::<Vec<_>>();
    let (base, winner, loser) = (names(&heads.base), names(&heads.winner), names(&heads.loser));
    let common = |side: &[&'h str], other: &[&'h str]| {
        let other: BTreeSet<&str> = other.iter().copied().collect();
        side.iter().copied().filter(|name| other.contains(name)).collect::<Vec<_>>()
    };
    let keeps_order = |side: &[&'h str]| common(side, &base) == common(&base, side);
    let (first, second) = if keeps_order(&winner) && !keeps_order(&loser) {
        (loser, winner)
    } else {
        (winner, loser)
    };
    let own: BTreeSet<&str> = first.iter().copied().collect();
    // What follows each key of the first side; `None` is the front.
    let mut after: BTreeMap<Option<&str>, Vec<&str>> = BTreeMap::new();
    let mut previous = None;
    for name in second {
        if own.contains(name) {
            previous = Some(name);
        } else {
            after.entry(previous).or_default().push(name);
        }
    }
    let mut ordered = after.remove(&None).unwrap_or_default();
    for name in first {
        ordered.push(name);
        ordered.extend(after.remove(&Some(name)).unwrap_or_default());
    }
    ordered
}

#[cfg(test)]
mod tests;
