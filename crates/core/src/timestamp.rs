//! Hybrid logical clocks (Kulkarni et al. 2014): wall time that never goes backwards.
//!
//! A [`Stamp`] chooses between concurrent versions; it never says who saw what. Rule of validity:
//! a version's stamp is greater than every parent's, so `max (stamp, id)` extends causal order.

use std::fmt;

use crate::id::ReplicaId;

/// 48-bit milliseconds since 1970, a 16-bit count within the millisecond, then the replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// Milliseconds and count packed as `ms << 16 | count`.
    ticks: u64,
    /// Who; breaks ties.
    pub replica: ReplicaId,
}

impl Stamp {
    /// The largest count of milliseconds a stamp can hold.
    pub const MS_MAX: u64 = (1 << 48) - 1;

    /// Builds a stamp; `ms` beyond [`Self::MS_MAX`] is cut to it.
    pub fn new(ms: u64, count: u16, replica: ReplicaId) -> Self {
        Self { ticks: ms.min(Self::MS_MAX) << 16 | u64::from(count), replica }
    }

    /// Builds a stamp from its packed form, see [`Self::ticks`].
    pub const fn from_ticks(ticks: u64, replica: ReplicaId) -> Self {
        Self { ticks, replica }
    }

    /// `ms << 16 | count`: consecutive stamps of one clock differ by one here.
    pub const fn ticks(&self) -> u64 {
        self.ticks
    }

    /// Milliseconds since 1970.
    pub const fn ms(&self) -> u64 {
        self.ticks >> 16
    }

    /// The count within the millisecond.
    pub const fn count(&self) -> u16 {
        (self.ticks & 0xffff) as u16
    }

    /// The stamp of a merge version over parents of which `self` is the largest.
    #[must_use]
    pub fn just_above(&self) -> Self {
        Self { ticks: self.ticks.saturating_add(1), replica: ReplicaId::NOBODY }
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}@{}", self.ms(), self.count(), self.replica.short())
    }
}

/// The clock of one replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hlc {
    last_ticks: u64,
}

impl Hlc {
    /// A clock that has told and seen everything up to `last_ticks`.
    pub const fn new(last_ticks: u64) -> Self {
        Self { last_ticks }
    }

    /// The last ticks told or seen; what has to be kept over a restart.
    pub const fn last_ticks(&self) -> u64 {
        self.last_ticks
    }

    /// Tells a stamp greater than all told or seen, and at least `now_ms`.
    pub fn tick(&mut self, now_ms: u64, replica: ReplicaId) -> Stamp {
        let wall = now_ms.min(Stamp::MS_MAX) << 16;
        self.last_ticks = wall.max(self.last_ticks.saturating_add(1));
        Stamp::from_ticks(self.last_ticks, replica)
    }

    /// Sees somebody's stamp: what is told later is greater.
    pub fn observe(&mut self, stamp: Stamp) {
        self.last_ticks = self.last_ticks.max(stamp.ticks());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_back_still_tells_rising_stamps() {
        let replica = ReplicaId::from_bytes([1; 16]);
        let mut clock = Hlc::new(0);
        let mut last = clock.tick(5_000, replica);
        for now_ms in [5_000, 4_000, 0, 5_001, 5_001] {
            let next = clock.tick(now_ms, replica);
            assert!(next > last, "{next} after {last}");
            last = next;
        }
        assert_eq!(last.ms(), 5_001);
    }

    #[test]
    fn what_is_told_after_seeing_a_stamp_is_greater_than_it() {
        let mut clock = Hlc::new(0);
        let seen = Stamp::new(9_000, u16::MAX, ReplicaId::from_bytes([9; 16]));
        clock.observe(seen);
        let told = clock.tick(1, ReplicaId::from_bytes([1; 16]));
        assert!(told > seen);
        assert_eq!((told.ms(), told.count()), (9_001, 0));
    }
}
