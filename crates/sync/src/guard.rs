//! The guard against wiping: a round that would delete or empty most notes stops and asks.
//!
//! Counted after rename detection, so that moving everything elsewhere is no deletion.

use std::borrow::Borrow;

use crucible_core::version::Version;

/// A round that takes more notes than this away asks, however many there are.
pub const DELETIONS_MAX: u64 = 1_000;
/// A round that takes at most this many away never asks.
pub const DELETIONS_FREE: u64 = 3;

/// What became of a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Still there, or not there before either.
    None,
    /// It was live and is deleted.
    Deleted,
    /// It had bytes and has none.
    Emptied,
}

impl Loss {
    /// Compares a note's heads before and after.
    pub fn between<V: Borrow<Version>>(before: &[V], after: &[V]) -> Self {
        let live = |versions: &[V]| -> Option<u64> {
            versions.iter().filter_map(|v| v.borrow().live()).map(|live| live.bytes).max()
        };
        match (live(before), live(after)) {
            (Some(_), None) => Self::Deleted,
            (Some(bytes), Some(0)) if bytes > 0 => Self::Emptied,
            _ => Self::None,
        }
    }
}

/// Counts what a round would take away.
#[derive(Debug, Clone, Copy)]
pub struct Guard {
    remaining: u64,
    deleted: u64,
    emptied: u64,
}

impl Guard {
    /// With the number of notes that are live after the round.
    pub fn new(remaining: u64) -> Self {
        Self { remaining, deleted: 0, emptied: 0 }
    }

    /// Counts one note.
    pub fn count(&mut self, loss: Loss) {
        match loss {
            Loss::None => {}
            Loss::Deleted => self.deleted += 1,
            Loss::Emptied => self.emptied += 1,
        }
    }

    /// How many notes would be lost of how many, when that is too many to go on unasked.
    pub fn trips(&self) -> Option<(u64, u64)> {
        let lost = self.deleted + self.emptied;
        let of = self.remaining + self.deleted;
        let most = lost > DELETIONS_FREE && lost * 2 > of;
        (most || lost > DELETIONS_MAX).then_some((lost, of))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(deleted: u64, remaining: u64) -> Option<(u64, u64)> {
        let mut guard = Guard::new(remaining);
        for _ in 0..deleted {
            guard.count(Loss::Deleted);
        }
        guard.trips()
    }

    #[test]
    fn three_notes_may_always_go_and_half_of_more_may_not() {
        assert_eq!(lost(3, 0), None);
        assert_eq!(lost(4, 0), Some((4, 4)));
        assert_eq!(lost(4, 4), None);
        assert_eq!(lost(5, 4), Some((5, 9)));
    }

    #[test]
    fn a_thousand_notes_may_go_from_a_large_vault_and_not_one_more() {
        assert_eq!(lost(1_000, 100_000), None);
        assert_eq!(lost(1_001, 100_000), Some((1_001, 101_001)));
    }
}
