//! Version vectors form a join-semilattice; stamps are one total order that extends causality.

use crucible_core::id::ReplicaId;
use crucible_core::timestamp::{Hlc, Stamp};
use crucible_core::version_vector::{Causality, Dot, VersionVector};
use proptest::prelude::*;

use crate::dag::{History, actions};

fn replica() -> impl Strategy<Value = ReplicaId> {
    (1u8..6).prop_map(|n| ReplicaId::from_bytes([n; 16]))
}

fn vector() -> impl Strategy<Value = VersionVector> {
    let dot = (replica(), 0u64..5).prop_map(|(replica, counter)| Dot { replica, counter });
    prop::collection::vec(dot, 0..6).prop_map(|dots| dots.into_iter().collect())
}

fn stamp() -> impl Strategy<Value = Stamp> {
    (0u64..3, 0u16..3, replica()).prop_map(|(ms, count, replica)| Stamp::new(ms, count, replica))
}

proptest! {
    #[test]
    fn join_is_commutative_associative_idempotent_and_the_least_upper_bound(
        a in vector(), b in vector(), c in vector(),
    ) {
        prop_assert_eq!(a.join(&b), b.join(&a));
        prop_assert_eq!(a.join(&b).join(&c), a.join(&b.join(&c)));
        prop_assert_eq!(a.join(&a), a.clone());
        prop_assert_eq!(a.join(&VersionVector::new()), a.clone());
        let joined = a.join(&b);
        prop_assert!(joined.dominates(&a) && joined.dominates(&b));
        prop_assert!(!(c.dominates(&a) && c.dominates(&b)) || c.dominates(&joined));
    }

    #[test]
    fn comparing_the_other_way_gives_the_mirror_image(a in vector(), b in vector()) {
        let mirror = match a.compare(&b) {
            Causality::Before => Causality::After,
            Causality::After => Causality::Before,
            same => same,
        };
        prop_assert_eq!(b.compare(&a), mirror);
        prop_assert_eq!(a.compare(&b) == Causality::Equal, a == b);
        prop_assert_eq!(a.dominates(&b), a.join(&b) == a);
    }

    #[test]
    fn domination_is_transitive(a in vector(), b in vector(), c in vector()) {
        prop_assert!(!(a.dominates(&b) && b.dominates(&c)) || a.dominates(&c));
    }

    #[test]
    fn an_observed_event_is_known_and_nothing_else_is(
        a in vector(), replica in replica(), counter in 0u64..8,
    ) {
        let mut b = a.clone();
        b.observe(Dot { replica, counter });
        prop_assert_eq!(b.get(&replica), a.get(&replica).max(counter));
        prop_assert!(b.dominates(&a));
        prop_assert!(b.dots().filter(|dot| dot.replica != replica).eq(
            a.dots().filter(|dot| dot.replica != replica)
        ));
        prop_assert!(b.dots().all(|dot| dot.counter > 0));
    }

    #[test]
    fn stamps_compare_by_milliseconds_then_count_then_replica(a in stamp(), b in stamp()) {
        let key = |s: &Stamp| (s.ms(), s.count(), s.replica);
        prop_assert_eq!(a.cmp(&b), key(&a).cmp(&key(&b)));
        prop_assert_eq!(Stamp::from_ticks(a.ticks(), a.replica), a);
        prop_assert!(a.just_above() > a);
    }

    #[test]
    fn a_clock_tells_more_than_all_it_told_or_saw_and_never_less_than_the_wall(
        steps in prop::collection::vec((any::<bool>(), 0u64..50, stamp()), 1..40),
        replica in replica(),
    ) {
        let mut clock = Hlc::new(0);
        let mut largest: Option<Stamp> = None;
        for (sees, now_ms, seen) in steps {
            if sees {
                clock.observe(seen);
                largest = largest.max(Some(seen));
            } else {
                let told = clock.tick(now_ms, replica);
                prop_assert!(Some(told) > largest);
                prop_assert!(told.ms() >= now_ms);
                largest = Some(told);
            }
        }
    }

    #[test]
    fn a_kept_clock_goes_on_where_it_was(ticks in 0u64..1 << 60, now_ms in 0u64..1 << 40) {
        let mut clock = Hlc::new(ticks);
        let told = clock.tick(now_ms, ReplicaId::from_bytes([1; 16]));
        let mut restarted = Hlc::new(clock.last_ticks());
        prop_assert!(restarted.tick(now_ms, ReplicaId::from_bytes([1; 16])) > told);
    }

    #[test]
    fn in_every_history_stamps_extend_ancestry_and_clocks_follow_it(actions in actions()) {
        let history = History::of(&actions);
        for (id, version) in &history.versions {
            for older in history.ancestors(id) {
                let older = &history.versions[older];
                prop_assert!(version.stamp > older.stamp);
                prop_assert!(version.clock.dominates(&older.clock));
                // The dot of an edit is what the past cannot have known.
                prop_assert!(version.is_merge() || version.clock != older.clock);
            }
        }
    }
}

#[test]
fn the_greatest_wall_clock_still_gives_stamps_that_fit() {
    let replica = ReplicaId::from_bytes([1; 16]);
    let told = Hlc::new(0).tick(u64::MAX, replica);
    assert_eq!(told.ms(), Stamp::MS_MAX);
    assert_eq!(Stamp::new(u64::MAX, 0, replica), told);
}
