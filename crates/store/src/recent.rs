//! A cache that forgets what was not used lately, bounded by weight.
//!
//! Two generations: what is found in the old one moves to the young one; when the young one is
//! full it becomes the old one. Every operation is O(1) and the weight never exceeds the bound
//! by more than one entry.

use std::collections::HashMap;
use std::hash::Hash;

/// Keeps at least the last `weight_max / 2` worth of entries used.
pub(crate) struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    young_weight: usize,
    weight_max: usize,
}

impl<K: Eq + Hash + Clone, V: Clone> Recent<K, V> {
    pub(crate) fn new(weight_max: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), young_weight: 0, weight_max }
    }

    /// Finds `key`; `weigh` is what its entry counts.
    pub(crate) fn get(&mut self, key: &K, weigh: impl Fn(&V) -> usize) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.old.remove_entry(key)?;
        self.put(key, value.clone(), weigh(&value));
        Some(value)
    }

    pub(crate) fn put(&mut self, key: K, value: V, weight: usize) {
        if self.young_weight + weight > self.weight_max / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_weight = 0;
        }
        if weight <= self.weight_max / 2 {
            self.young_weight += weight;
            self.young.insert(key, value);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
        self.young_weight = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_goes() {
        let mut cache = Recent::new(8);
        for key in 0..100 {
            cache.put(key, key, 1);
            assert_eq!(cache.get(&0, |_| 1), Some(0), "after {key}");
            assert!(cache.young.len() + cache.old.len() <= 8);
        }
        assert_eq!(cache.get(&50, |_| 1), None);
    }

    #[test]
    fn an_entry_beyond_the_bound_is_not_kept() {
        let mut cache = Recent::new(8);
        cache.put("large", 0, 5);
        assert_eq!(cache.get(&"large", |_| 5), None);
    }
}
