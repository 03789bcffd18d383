//! Comparing two trees that are both at hand.
//!
//! Law: the result is the difference of the two sets of leaves, and only nodes on the way to a
//! difference are read. Work is in proportion to what differs: where one side has a bucket and
//! the other a branch, all but sixteen of the branch's entries are differences themselves.

use std::collections::BTreeMap;
use std::error::Error;

use crate::id::{NodeHash, NoteId, RootHash};
use crate::merkle::node::{Entry, Root};
use crate::merkle::read::{Leaves, ReadError, child, top_of};
use crate::merkle::view::{Area, View};
use crate::merkle::{Difference, Leaf, Sighting, TreeRead};

/// Why two trees cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum DiffError<A: Error + 'static, B: Error + 'static> {
    /// The left tree cannot be read.
    #[error("the first tree cannot be read: {0}")]
    Mine(#[source] ReadError<A>),
    /// The right tree cannot be read.
    #[error("the second tree cannot be read: {0}")]
    Theirs(#[source] ReadError<B>),
}

/// All notes whose leaves differ between `mine` and `theirs`, by note id; no root is no leaves.
///
/// # Errors
/// [`DiffError`].
pub fn diff<A: TreeRead, B: TreeRead>(
    mine: &A,
    my_root: Option<&RootHash>,
    theirs: &B,
    their_root: Option<&RootHash>,
) -> Result<Vec<Difference>, DiffError<A::Error, B::Error>> {
    if my_root == their_root {
        return Ok(Vec::new());
    }
    let my_top = top_of(mine, my_root).map_err(DiffError::Mine)?;
    let their_top = top_of(theirs, their_root).map_err(DiffError::Theirs)?;
    let mut comparison = Comparison { mine, theirs, found: Differences::default() };
    comparison.roots(&my_top, &their_top)?;
    Ok(comparison.found.into_vec())
}

/// Differences as they are found: a moved note is seen here in one place and there in another.
#[derive(Debug, Clone, Default)]
pub(super) struct Differences(BTreeMap<NoteId, Difference>);

/// Which side saw a leaf.
#[derive(Debug, Clone, Copy)]
pub(super) enum Side {
    Mine,
    Theirs,
}

impl Differences {
    /// Notes a sighting; false if that side has seen the note in another state or place.
    pub(super) fn see(&mut self, side: Side, note: NoteId, sighting: Sighting) -> bool {
        let entry = self.0.entry(note);
        let found = entry.or_insert(Difference { note, mine: None, theirs: None });
        let slot = match side {
            Side::Mine => &mut found.mine,
            Side::Theirs => &mut found.theirs,
        };
        *slot.get_or_insert_with(|| sighting.clone()) == sighting
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn into_vec(self) -> Vec<Difference> {
        self.0.into_values().collect()
    }
}

impl Leaf {
    /// The leaf as a comparison reports it.
    pub fn sighting(self) -> Sighting {
        Sighting { place: self.place, tag: self.hash.tag() }
    }
}

struct Comparison<'t, A, B> {
    mine: &'t A,
    theirs: &'t B,
    found: Differences,
}

type Compared<A, B> = Result<(), DiffError<<A as TreeRead>::Error, <B as TreeRead>::Error>>;

impl<A: TreeRead, B: TreeRead> Comparison<'_, A, B> {
    fn roots(&mut self, mine: &Root, theirs: &Root) -> Compared<A, B> {
        self.tries(&Area::Folder(None), mine.live, theirs.live)?;
        self.tries(&Area::Tombstones, mine.tombstones, theirs.tombstones)
    }

    fn tries(
        &mut self,
        area: &Area,
        mine: Option<NodeHash>,
        theirs: Option<NodeHash>,
    ) -> Compared<A, B> {
        if mine == theirs {
            return Ok(());
        }
        let my_view = View::top(self.mine, mine).map_err(DiffError::Mine)?;
        let their_view = View::top(self.theirs, theirs).map_err(DiffError::Theirs)?;
        match (my_view.branch(), their_view.branch()) {
            (Some(mine), Some(theirs)) => {
                mine.iter().zip(theirs).try_for_each(|(m, t)| self.tries(area, *m, *t))
            }
            _ => {
                let mine = my_view.all_entries(self.mine).map_err(DiffError::Mine)?;
                let theirs = their_view.all_entries(self.theirs).map_err(DiffError::Theirs)?;
                self.entries(area, &mine, &theirs)
            }
        }
    }

    fn entries(&mut self, area: &Area, mine: &[Entry], theirs: &[Entry]) -> Compared<A, B> {
        for pair in pairs(mine, theirs, Entry::order, Entry::order) {
            if let (Some(Entry::Dir { name, top: mine }), Some(Entry::Dir { top: theirs, .. })) =
                pair
            {
                let folder = child(area.folder(), name);
                let folder = folder.map_err(|error| DiffError::Mine(error.into()))?;
                self.tries(&Area::Folder(Some(folder)), Some(*mine), Some(*theirs))?;
            } else if pair.0 != pair.1 {
                let leaves = Leaves::of_entries(self.mine, area.folder(), pair.0);
                self.found.see_all(Side::Mine, leaves).map_err(DiffError::Mine)?;
                let leaves = Leaves::of_entries(self.theirs, area.folder(), pair.1);
                self.found.see_all(Side::Theirs, leaves).map_err(DiffError::Theirs)?;
            }
        }
        Ok(())
    }
}

impl Differences {
    /// Notes all leaves as seen by one side.
    pub(super) fn see_all<S: TreeRead>(
        &mut self,
        side: Side,
        leaves: Leaves<'_, S>,
    ) -> Result<(), ReadError<S::Error>> {
        for leaf in leaves {
            let (note, leaf) = leaf?;
            if !self.see(side, note, leaf.sighting()) {
                return Err(ReadError::Twice(note));
            }
        }
        Ok(())
    }
}

/// Pairs up two lists that are sorted and unique by the same order.
pub(super) fn pairs<'l, L, R, K: Ord>(
    left: &'l [L],
    right: &'l [R],
    left_key: impl Fn(&'l L) -> K,
    right_key: impl Fn(&'l R) -> K,
) -> Vec<(Option<&'l L>, Option<&'l R>)> {
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    let mut pairs = Vec::with_capacity(left.len().max(right.len()));
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return pairs,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(l), Some(r)) => left_key(l).cmp(&right_key(r)),
        };
        pairs.push((
            if order.is_le() { left.next() } else { None },
            if order.is_ge() { right.next() } else { None },
        ));
    }
}
