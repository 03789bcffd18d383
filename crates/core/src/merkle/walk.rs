//! Finding what two replicas differ in, over a wire, when they know no common root.
//!
//! The asking side shows what it has at positions known to differ; the answering side compares,
//! and shows what it has one level further down; the asking side compares, and goes on one level
//! below that: two levels a request. Positions, not hashes, say what is spoken of, so the two
//! trees may be split differently, and the answering side keeps no state.
//!
//! Law: the result is the difference of the two sets of leaves, as [`diff()`](super::diff()) gives
//! it. Tags are halves of hashes: 128 bits. Who could find two nodes with one tag could hide a
//! difference from a walk, and no more: a round ends with a comparison of whole roots.
//!
//! Bounds: a message gathers about [`WalkLimits::message_bytes`], goes on where it was cut, and a
//! walk ends with an error after [`WalkLimits::requests_max`]. Every position asked about lies
//! deeper than the one that led to it, whatever the other side says.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;

mod answer;
mod compare;
mod message;
mod show;

pub use answer::answer;
pub use message::{
    Area, Content, DecodeWalkError, ITEMS_MAX, Item, MESSAGE_BYTES_MAX, Position, Summary,
    WalkAnswer, WalkAsk,
};

use crate::id::{NoteId, RootHash, Tag};
use crate::merkle::diff::{Differences, Side};
use crate::merkle::node::{KEY_DIGITS, Key};
use crate::merkle::read::{ReadError, child, root_of};
use crate::merkle::view::Finder;
use crate::merkle::{Difference, Place, Sighting, TreeRead};
use compare::{Finding, compare, leaf_of};
use show::Shown;

/// Bounds of a walk; both sides may have their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalkLimits {
    /// A message is sent once it has gathered this many bytes.
    pub message_bytes: usize,
    /// A request this small shows more than it must.
    pub ask_inline_bytes: usize,
    /// An answer this small shows more than it must: the sixteenth of a flat folder's notes that
    /// a branch's buckets hold, so that the notes are known one request earlier.
    pub answer_inline_bytes: usize,
    /// Requests after which a walk gives up.
    pub requests_max: u32,
    /// Differences after which a walk gives up: a bound on memory.
    pub differences_max: usize,
}

impl Default for WalkLimits {
    fn default() -> Self {
        Self {
            message_bytes: 256 << 10,
            ask_inline_bytes: 1 << 10,
            answer_inline_bytes: 3 << 10,
            requests_max: 1 << 14,
            differences_max: 1 << 22,
        }
    }
}

/// How a message breaks the rules of the walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// It speaks of something that was not asked about.
    #[error("speaks of what was not asked")]
    Unasked,
    /// It answers none of what was asked, or more.
    #[error("covers another number of positions than were asked about")]
    Covered,
    /// It leads to a path, or to a depth of a trie, that no vault can have.
    #[error("leads to where no vault can have anything")]
    Path,
    /// It shows one note in two places.
    #[error("shows a note in two places")]
    Twice,
    /// Its positions are not in order.
    #[error("has positions out of order")]
    Order,
}

/// Why a walk ends without a result.
#[derive(Debug, thiserror::Error)]
pub enum WalkError<E: Error + 'static> {
    /// The tree of this side cannot be read (a store that keeps one tree has moved on).
    #[error(transparent)]
    Read(#[from] ReadError<E>),
    /// The tree of the other side has changed: begin again.
    #[error("the other side's tree has changed during the walk")]
    Restart(RootHash),
    /// The other side does not keep to the protocol.
    #[error("the other side's message {0}")]
    Broken(#[from] Broken),
    /// [`WalkLimits::requests_max`].
    #[error("the walk has not ended after {0} requests")]
    TooManyRequests(u32),
    /// [`WalkLimits::differences_max`].
    #[error("the two sides differ in more than {0} notes")]
    TooManyDifferences(usize),
}

/// The asking side of a walk.
#[derive(Debug, Clone)]
pub struct Walk {
    mine: RootHash,
    theirs: Option<RootHash>,
    limits: WalkLimits,
    /// Known to differ, and not asked about yet.
    open: BTreeSet<Position>,
    /// The positions of the last request until its answer comes; in order.
    asked: Vec<Position>,
    found: Differences,
    requests: u32,
}

impl Walk {
    /// Begins a walk of the tree under `mine` (`None`: the empty tree).
    pub fn new(mine: Option<&RootHash>, limits: WalkLimits) -> Self {
        let tops = [Area::Folder(None), Area::Tombstones].map(Position::top);
        Self {
            mine: mine.copied().unwrap_or_else(RootHash::empty),
            theirs: None,
            limits,
            open: tops.into(),
            asked: Vec::new(),
            found: Differences::default(),
            requests: 0,
        }
    }

    /// The next request; `None` when everything is known. Called again before an answer was
    /// taken in, it asks the same again.
    ///
    /// # Errors
    /// [`WalkError::Read`], [`WalkError::TooManyRequests`].
    pub fn ask<S: TreeRead>(&mut self, tree: &S) -> Result<Option<WalkAsk>, WalkError<S::Error>> {
        self.open.extend(self.asked.drain(..));
        if self.open.is_empty() {
            return Ok(None);
        }
        if self.requests >= self.limits.requests_max {
            return Err(WalkError::TooManyRequests(self.requests));
        }
        self.requests += 1;
        let root = root_of(tree, &self.mine)?;
        let mut shown = Shown::new(tree, &root);
        let mut level = Vec::new();
        while (level.is_empty() || shown.bytes() < self.limits.message_bytes)
            && shown.len() < ITEMS_MAX / 16
            && let Some(at) = self.open.pop_first()
        {
            let view = shown.view(&at)?;
            shown.put(at.clone(), Content::from(&view));
            level.push((at, view));
        }
        shown.deepen(level, self.limits.ask_inline_bytes)?;
        let items = shown.into_items();
        self.asked = items.iter().map(|item| item.at.clone()).collect();
        Ok(Some(WalkAsk { mine: self.mine, theirs: self.theirs, items }))
    }

    /// Takes in the answer to the last request.
    ///
    /// # Errors
    /// [`WalkError`]; the walk is over then.
    pub fn take<S: TreeRead>(
        &mut self,
        tree: &S,
        answer: &WalkAnswer,
    ) -> Result<(), WalkError<S::Error>> {
        let (root, covered, items) = match answer {
            WalkAnswer::Restart { root } => return Err(WalkError::Restart(*root)),
            WalkAnswer::Contents { root, covered, items } => (*root, *covered, items),
        };
        if self.theirs.is_some_and(|theirs| theirs != root) {
            return Err(WalkError::Restart(root));
        }
        self.theirs = Some(root);
        if covered > self.asked.len() || (covered == 0 && !self.asked.is_empty()) {
            return Err(Broken::Covered.into());
        }
        if !items.is_sorted_by(|a, b| a.at < b.at) {
            return Err(Broken::Order.into());
        }
        self.open.extend(self.asked.drain(covered..));
        let asked: BTreeSet<Position> = self.asked.drain(..).collect();
        let items: BTreeMap<&Position, &Content> =
            items.iter().map(|item| (&item.at, &item.content)).collect();
        let top = root_of(tree, &self.mine)?;
        let mut reading = Reading { finder: Finder::new(tree, &top), walk: self, items: &items };
        for (&at, &content) in &items {
            if !is_expected(at, &asked, &items) {
                return Err(Broken::Unasked.into());
            }
            reading.item(at, content)?;
        }
        Ok(())
    }

    /// How many requests were made.
    pub fn requests(&self) -> u32 {
        self.requests
    }

    /// The answering side's root, once it has answered.
    pub fn their_root(&self) -> Option<RootHash> {
        self.theirs
    }

    /// All notes that differ, by note id. Complete once [`Self::ask`] has given `None`.
    pub fn into_differences(self) -> Vec<Difference> {
        self.found.into_vec()
    }
}

/// Whether `at` was asked about, or is right below what was, or what the answer shows has it.
fn is_expected(
    at: &Position,
    asked: &BTreeSet<Position>,
    items: &BTreeMap<&Position, &Content>,
) -> bool {
    asked.contains(at)
        || parents(at).any(|(parent, name)| {
            let shown = items.get(&parent).is_some_and(|content| announces(content, at, name));
            shown || asked.contains(&parent)
        })
}

/// The positions that `at` can be right below, and its name if it is a folder.
fn parents(at: &Position) -> impl Iterator<Item = (Position, Option<&str>)> {
    let above = at
        .digits
        .split_last()
        .map(|(_, above)| (Position { area: at.area.clone(), digits: above.into() }, None));
    let folder = if at.digits.is_empty() { at.area.folder() } else { None };
    let in_folder = folder.into_iter().flat_map(|folder| {
        let key = Key::of_name(folder.name());
        let area = Area::Folder(folder.parent());
        (0..=KEY_DIGITS).map(move |depth| {
            let digits = (0..depth).map(|depth| key.digit(depth) as u8).collect();
            (Position { area: area.clone(), digits }, Some(folder.name()))
        })
    });
    above.into_iter().chain(in_folder)
}

/// Whether what is shown at a position has `at` right below it.
fn announces(content: &Content, at: &Position, name: Option<&str>) -> bool {
    match (content, name) {
        (Content::Branch(children), None) => {
            at.digits.last().is_some_and(|&digit| children[usize::from(digit)].is_some())
        }
        (Content::Bucket(entries), Some(name)) => {
            let dir =
                |entry: &Summary| matches!(entry, Summary::Dir { name: n, .. } if **n == *name);
            entries.iter().any(dir)
        }
        (Content::Absent | Content::Branch(_) | Content::Edits { .. }, Some(_)) => false,
        (Content::Absent | Content::Bucket(_) | Content::Edits { .. }, None) => false,
    }
}

/// An answer being taken in.
struct Reading<'r, S> {
    finder: Finder<'r, S>,
    walk: &'r mut Walk,
    items: &'r BTreeMap<&'r Position, &'r Content>,
}

impl<S: TreeRead> Reading<'_, S> {
    fn item(&mut self, at: &Position, content: &Content) -> Result<(), WalkError<S::Error>> {
        let view = self.finder.view(&at.area, &at.digits)?;
        for finding in compare(self.finder.tree(), at, &view, content)? {
            match finding {
                Finding::Deeper(below) => {
                    if !self.items.contains_key(&below) {
                        self.walk.open.insert(below);
                    }
                }
                Finding::MineOnly(below) => self.mine_only(&below)?,
                Finding::Leaf { mine, theirs } => {
                    let folder = at.area.folder();
                    if let Some((note, leaf)) = mine.as_ref().and_then(leaf_of) {
                        let name = mine.as_ref().map_or("", |entry| entry.order().0);
                        self.see(Side::Mine, note, place(&at.area, folder, name)?, leaf.tag())?;
                    }
                    if let Some(summary) = theirs
                        && let (name, _, Some(&note)) = summary.order()
                    {
                        let place = place(&at.area, folder, name)?;
                        self.see(Side::Theirs, note, place, summary.tag())?;
                    }
                }
            }
        }
        Ok(())
    }

    fn mine_only(&mut self, below: &Position) -> Result<(), WalkError<S::Error>> {
        let view = self.finder.view(&below.area, &below.digits)?;
        for leaf in view.leaves(self.finder.tree(), &below.area) {
            let (note, leaf) = leaf?;
            let Sighting { place, tag } = leaf.sighting();
            self.see(Side::Mine, note, place, tag)?;
        }
        Ok(())
    }

    fn see(
        &mut self,
        side: Side,
        note: NoteId,
        place: Place,
        tag: Tag,
    ) -> Result<(), WalkError<S::Error>> {
        let once = self.walk.found.see(side, note, Sighting { place, tag });
        match side {
            _ if once => {}
            Side::Mine => return Err(ReadError::Twice(note).into()),
            Side::Theirs => return Err(Broken::Twice.into()),
        }
        let max = self.walk.limits.differences_max;
        if self.walk.found.len() > max {
            return Err(WalkError::TooManyDifferences(max));
        }
        Ok(())
    }
}

fn place(
    area: &Area,
    folder: Option<&crate::vault_path::VaultPath>,
    name: &str,
) -> Result<Place, Broken> {
    match area {
        Area::Tombstones => Ok(Place::Tombstone),
        Area::Folder(_) => child(folder, name).map(Place::Live).map_err(|_| Broken::Path),
    }
}
