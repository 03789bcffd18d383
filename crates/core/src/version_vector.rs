//! Version vectors: the index of causal order (Parker et al. 1983).
//!
//! Ancestry by hash is the truth; a clock is cheap to compare and is only believed where
//! ancestry is not known. Law: `join` is commutative, associative, idempotent, and an upper bound.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::id::ReplicaId;

/// One event: the `counter`-th thing `replica` did. Counters start at 1 and are per replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    /// Who.
    pub replica: ReplicaId,
    /// Its how-manieth event, from 1.
    pub counter: u64,
}

/// How two clocks stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Causality {
    /// The same events.
    Equal,
    /// The left knows strictly less.
    Before,
    /// The left knows strictly more.
    After,
    /// Each knows something the other does not.
    Concurrent,
}

/// For each replica the highest counter known; an absent replica counts as 0.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VersionVector(BTreeMap<ReplicaId, u64>);

impl VersionVector {
    /// The vector that knows nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The highest counter known of `replica`, 0 for none.
    pub fn get(&self, replica: &ReplicaId) -> u64 {
        self.0.get(replica).copied().unwrap_or(0)
    }

    /// Learns one event and all before it.
    pub fn observe(&mut self, dot: Dot) {
        if dot.counter == 0 {
            return;
        }
        match self.0.entry(dot.replica) {
            Entry::Vacant(entry) => {
                entry.insert(dot.counter);
            }
            Entry::Occupied(mut entry) => {
                let known = entry.get_mut();
                *known = dot.counter.max(*known);
            }
        }
    }

    /// The least vector that knows what either knows.
    #[must_use]
    pub fn join(&self, other: &Self) -> Self {
        let mut joined = self.clone();
        for dot in other.dots() {
            joined.observe(dot);
        }
        joined
    }

    /// Whether everything `other` knows is known here.
    pub fn dominates(&self, other: &Self) -> bool {
        other.dots().all(|dot| self.get(&dot.replica) >= dot.counter)
    }

    /// Compares causally.
    pub fn compare(&self, other: &Self) -> Causality {
        match (self.dominates(other), other.dominates(self)) {
            (true, true) => Causality::Equal,
            (true, false) => Causality::After,
            (false, true) => Causality::Before,
            (false, false) => Causality::Concurrent,
        }
    }

    /// The highest known event of each replica, in replica order.
    pub fn dots(&self) -> impl ExactSizeIterator<Item = Dot> + '_ {
        self.0.iter().map(|(&replica, &counter)| Dot { replica, counter })
    }

    /// How many replicas are known.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Dot> for VersionVector {
    fn from_iter<I: IntoIterator<Item = Dot>>(dots: I) -> Self {
        let mut vector = Self::new();
        for dot in dots {
            vector.observe(dot);
        }
        vector
    }
}
