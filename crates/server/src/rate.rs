//! Token buckets, pure: whether somebody may go on, given what they did and what time it is.
//!
//! Invariant: the memory of a [`Gate`] is bounded whoever knocks; forgetting errs towards letting
//! in somebody who has been quiet, never towards shutting out.

use std::collections::HashMap;
use std::hash::Hash;

/// How much is allowed: so many at once, and one more every so often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Largest number at once.
    pub burst: u32,
    /// Milliseconds until one more.
    pub refill_ms: u64,
}

/// What one key has left. Counted in milliseconds, so that nothing is rounded away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bucket {
    /// When the bucket is full again.
    full_at_ms: u64,
}

impl Bucket {
    fn take(self, rate: Rate, now_ms: u64) -> Result<Self, u64> {
        let depth_ms = u64::from(rate.burst).saturating_mul(rate.refill_ms);
        // It is never further from full than when it is empty, unless the clock was set back: then
        // it begins anew, or nobody would come in until the old time is reached.
        let empty_ms = now_ms.saturating_add(depth_ms);
        let before_ms = if self.full_at_ms > empty_ms { now_ms } else { self.full_at_ms };
        let full_at_ms = before_ms.max(now_ms).saturating_add(rate.refill_ms);
        match full_at_ms.checked_sub(now_ms.saturating_add(depth_ms)) {
            None | Some(0) => Ok(Self { full_at_ms }),
            Some(wait_ms) => Err(wait_ms),
        }
    }
}

/// One bucket per key, for at most so many keys.
#[derive(Debug)]
pub struct Gate<K> {
    rate: Rate,
    keys_max: usize,
    buckets: HashMap<K, Bucket>,
}

impl<K: Hash + Eq + Clone> Gate<K> {
    /// A gate that remembers at most `keys_max` keys.
    pub fn new(rate: Rate, keys_max: usize) -> Self {
        assert!(keys_max > 0, "a gate remembers at least one key");
        Self { rate, keys_max, buckets: HashMap::new() }
    }

    /// Lets one through, or tells in how many milliseconds the next one may.
    pub fn enter(&mut self, key: &K, now_ms: u64) -> Result<(), u64> {
        let bucket = self.buckets.get(key).copied().unwrap_or(Bucket { full_at_ms: now_ms });
        let bucket = bucket.take(self.rate, now_ms)?;
        if self.buckets.len() >= self.keys_max && !self.buckets.contains_key(key) {
            self.forget(now_ms);
        }
        self.buckets.insert(key.clone(), bucket);
        Ok(())
    }

    /// Takes back that one was let through.
    pub fn give_back(&mut self, key: &K) {
        if let Some(bucket) = self.buckets.get_mut(key) {
            bucket.full_at_ms = bucket.full_at_ms.saturating_sub(self.rate.refill_ms);
        }
    }

    /// Whether the next one would be let through, without counting one.
    pub fn is_open(&self, key: &K, now_ms: u64) -> Result<(), u64> {
        match self.buckets.get(key) {
            None => Ok(()),
            Some(bucket) => bucket.take(self.rate, now_ms).map(drop),
        }
    }

    /// Drops the keys that are full again; if none is, the half that will be soonest.
    fn forget(&mut self, now_ms: u64) {
        self.buckets.retain(|_, bucket| bucket.full_at_ms > now_ms);
        if self.buckets.len() < self.keys_max {
            return;
        }
        let mut times: Vec<u64> = self.buckets.values().map(|b| b.full_at_ms).collect();
        let middle = times.len() / 2;
        let (_, &mut median, _) = times.select_nth_unstable(middle);
        self.buckets.retain(|_, bucket| bucket.full_at_ms > median);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { burst: 3, refill_ms: 1_000 };

    fn admitted(gate: &mut Gate<u32>, key: u32, now_ms: u64, tries: usize) -> usize {
        (0..tries).filter(|_| gate.enter(&key, now_ms).is_ok()).count()
    }

    #[test]
    fn a_burst_goes_through_and_then_one_per_refill() {
        let mut gate = Gate::new(RATE, 9);
        assert_eq!(admitted(&mut gate, 1, 50_000, 10), 3);
        assert_eq!(gate.enter(&1, 50_000), Err(1_000));
        assert_eq!(gate.is_open(&1, 50_999), Err(1));
        assert_eq!(admitted(&mut gate, 1, 51_000, 10), 1);
        assert_eq!(admitted(&mut gate, 1, 90_000, 10), 3);
    }

    #[test]
    fn a_clock_set_back_shuts_nobody_out() {
        let mut gate = Gate::new(RATE, 9);
        assert_eq!(admitted(&mut gate, 1, 5_000_000, 10), 3);
        assert_eq!(admitted(&mut gate, 1, 1_400_000, 10), 3);
        assert_eq!(admitted(&mut gate, 1, 1_401_000, 10), 1);
    }

    #[test]
    fn what_is_given_back_was_never_taken() {
        let mut gate = Gate::new(RATE, 9);
        assert_eq!(admitted(&mut gate, 1, 50_000, 2), 2);
        for _ in 0..9 {
            gate.enter(&1, 50_000).unwrap();
            gate.give_back(&1);
        }
        gate.give_back(&2);
        assert_eq!(admitted(&mut gate, 1, 50_000, 10), 1);
        assert_eq!(admitted(&mut gate, 2, 50_000, 10), 3);
    }

    #[test]
    fn one_key_does_not_pay_for_another() {
        let mut gate = Gate::new(RATE, 9);
        assert_eq!(admitted(&mut gate, 1, 0, 10), 3);
        assert_eq!(admitted(&mut gate, 2, 0, 10), 3);
    }

    #[test]
    fn being_refused_costs_nothing_and_a_clock_that_jumps_back_does_not_lock_out() {
        let mut gate = Gate::new(RATE, 9);
        assert_eq!(admitted(&mut gate, 1, 10_000, 1_000), 3);
        assert_eq!(admitted(&mut gate, 1, 13_000, 10), 3);
        let mut gate = Gate::new(RATE, 9);
        gate.enter(&1, 5_000).unwrap();
        assert!(gate.enter(&1, 4_000).is_ok());
    }

    #[test]
    fn however_many_knock_the_gate_remembers_a_bounded_number() {
        let mut gate = Gate::new(RATE, 100);
        for key in 0..10_000_u32 {
            assert_eq!(gate.enter(&key, u64::from(key / 1_000)), Ok(()));
            assert!(gate.buckets.len() <= 100);
        }
        // Somebody who hammers is not forgotten for the sake of those who knock once.
        let mut gate = Gate::new(RATE, 100);
        assert_eq!(admitted(&mut gate, 7, 0, 10), 3);
        for key in 1_000..1_060 {
            gate.enter(&key, 0).unwrap();
        }
        assert!(gate.enter(&7, 0).is_err());
    }
}
