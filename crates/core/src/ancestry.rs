//! Who descends from whom. Ancestry by hash is the truth; clocks fill in where it is not known.
//!
//! Every walk is bounded by the rule `stamp > every parent's stamp`: an ancestor of `x` cannot have
//! a larger stamp than `x`, so nothing below the stamp that is looked for is ever visited. A device
//! knows only part of the past (a first sync brings heads, not history); where a parent is missing
//! the version vectors decide, which only copied folders can make wrong, and those are caught
//! when they speak (`sync::serve` refuses a reused counter).

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

use crate::id::VersionId;
use crate::timestamp::Stamp;
use crate::version::Version;
use crate::version_vector::VersionVector;

/// Versions by id.
pub trait VersionRead {
    /// What reading can fail with.
    type Error;
    /// The version, `None` where it is not known here.
    fn version(&self, id: &VersionId) -> Result<Option<Arc<Version>>, Self::Error>;
}

impl VersionRead for BTreeMap<VersionId, Arc<Version>> {
    type Error = std::convert::Infallible;
    fn version(&self, id: &VersionId) -> Result<Option<Arc<Version>>, Self::Error> {
        Ok(self.get(id).cloned())
    }
}

/// Whether `older` is a proper ancestor of `newer`, as far as is known.
///
/// # Errors
/// Those of the reader.
pub fn is_ancestor<R: VersionRead>(
    read: &R,
    older: &VersionId,
    newer: &VersionId,
) -> Result<bool, R::Error> {
    if older == newer {
        return Ok(false);
    }
    let (Some(target), Some(from)) = (read.version(older)?, read.version(newer)?) else {
        return Ok(false);
    };
    if from.stamp <= target.stamp || from.note != target.note {
        return Ok(false);
    }
    let mut seen = BTreeSet::new();
    let mut open = from.parents.clone();
    let mut complete = true;
    while let Some(id) = open.pop() {
        if id == *older {
            return Ok(true);
        }
        if !seen.insert(id) {
            continue;
        }
        match read.version(&id)? {
            Some(version) if version.stamp > target.stamp => open.extend(&version.parents),
            Some(_) => {}
            None => complete = false,
        }
    }
    // Equal clocks are two merges of one set, or a copied folder: neither descends from the other.
    let dominated = from.clock.dominates(&target.clock) && from.clock != target.clock;
    Ok(!complete && dominated)
}

/// Which sides reach a version: bit 0 and 1 the two sides, bit 2 below a common ancestor.
type Reach = u8;
const BOTH: Reach = 0b011;
const STALE: Reach = 0b100;

/// The nearest common ancestors of two sides, each given by some versions; a version that is on
/// both sides, or an ancestor of the other side, is its own nearest one. Sorted by id; none of
/// them descends from another. Empty when the two have nothing in common.
///
/// # Errors
/// Those of the reader.
pub fn merge_bases<R: VersionRead>(
    read: &R,
    ours: &[VersionId],
    theirs: &[VersionId],
) -> Result<Vec<VersionId>, R::Error> {
    let mut walk = Walk::from(read, ours, theirs)?;
    let mut bases = std::mem::take(&mut walk.bases);
    if walk.is_incomplete() {
        bases = bases_by_clock(read, &walk, ours, theirs)?;
    }
    bases.sort_unstable();
    Ok(bases)
}

/// Whether [`merge_bases`] may have found nothing only because the versions in between are not
/// known here: parents are missing, and the two sides know events of one replica.
///
/// # Errors
/// Those of the reader.
pub fn is_cut_short<R: VersionRead>(
    read: &R,
    ours: &[VersionId],
    theirs: &[VersionId],
) -> Result<bool, R::Error> {
    let walk = Walk::from(read, ours, theirs)?;
    let known = |ids: &[VersionId]| {
        let clocks = ids.iter().filter_map(|id| walk.versions.get(id));
        clocks.fold(VersionVector::new(), |joined, version| joined.join(&version.clock))
    };
    let (ours, theirs) = (known(ours), known(theirs));
    let shared = ours.dots().any(|dot| theirs.get(&dot.replica) > 0);
    Ok(walk.is_incomplete() && shared)
}

#[derive(Default)]
struct Walk {
    queue: BinaryHeap<(Stamp, VersionId)>,
    reached: BTreeMap<VersionId, Reach>,
    versions: BTreeMap<VersionId, Arc<Version>>,
    /// Parents that are not known here.
    missing: BTreeMap<VersionId, Reach>,
    /// Common ancestors that none of the others descends from.
    bases: Vec<VersionId>,
}

impl Walk {
    fn from<R: VersionRead>(
        read: &R,
        ours: &[VersionId],
        theirs: &[VersionId],
    ) -> Result<Self, R::Error> {
        let mut walk = Self::default();
        for id in ours {
            walk.reach(read, *id, 0b01)?;
        }
        for id in theirs {
            walk.reach(read, *id, 0b10)?;
        }
        // Largest stamp first: whoever is popped has been reached by all its descendants already.
        while let Some((_, id)) = walk.queue.pop() {
            let reach = walk.reached[&id];
            let mut passed_on = reach;
            if reach & BOTH == BOTH {
                if reach & STALE == 0 {
                    walk.bases.push(id);
                }
                passed_on |= STALE;
            }
            let version = walk.versions[&id].clone();
            for parent in &version.parents {
                walk.reach(read, *parent, passed_on)?;
            }
            if walk.only_stale_left() {
                break;
            }
        }
        Ok(walk)
    }

    fn reach<R: VersionRead>(
        &mut self,
        read: &R,
        id: VersionId,
        by: Reach,
    ) -> Result<(), R::Error> {
        if let Some(reach) = self.reached.get_mut(&id) {
            *reach |= by;
            return Ok(());
        }
        let Some(version) = read.version(&id)? else {
            *self.missing.entry(id).or_default() |= by;
            return Ok(());
        };
        self.reached.insert(id, by);
        self.queue.push((version.stamp, id));
        self.versions.insert(id, version);
        Ok(())
    }

    fn only_stale_left(&self) -> bool {
        self.queue.iter().all(|(_, id)| self.reached[id] & STALE != 0)
    }

    /// Whether something nearer may lie behind a missing parent; nothing below a common ancestor
    /// is nearer than it.
    fn is_incomplete(&self) -> bool {
        self.missing.values().any(|reach| reach & STALE == 0)
    }
}

/// Where the walk ended at missing parents: of the versions it saw, those that both sides reach or
/// that one side reaches and the other side's clock has seen, without the ancestors of others.
fn bases_by_clock<R: VersionRead>(
    read: &R,
    walk: &Walk,
    ours: &[VersionId],
    theirs: &[VersionId],
) -> Result<Vec<VersionId>, R::Error> {
    let seen_by = |version: &Version, side: &[VersionId]| {
        side.iter().filter_map(|id| walk.versions.get(id)).any(|head| {
            head.clock.dominates(&version.clock)
                && head.clock != version.clock
                && head.stamp > version.stamp
        })
    };
    let mut common: Vec<(Stamp, VersionId)> = walk
        .versions
        .iter()
        .filter(|(id, version)| match walk.reached[*id] & BOTH {
            0b01 => seen_by(version, theirs),
            0b10 => seen_by(version, ours),
            _ => walk.reached[*id] & STALE == 0,
        })
        .map(|(id, version)| (version.stamp, *id))
        .collect();
    common.sort_unstable_by(|one, other| other.cmp(one));
    let mut bases: Vec<VersionId> = Vec::new();
    'common: for (_, id) in common {
        for base in &bases {
            if is_ancestor(read, &id, base)? {
                continue 'common;
            }
        }
        bases.push(id);
    }
    Ok(bases)
}
