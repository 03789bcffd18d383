//! `heads::add`: the same heads whatever the order, and nothing authored lost.

use std::collections::BTreeSet;

use crucible_core::heads::add;
use crucible_core::id::VersionId;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::dag::{History, Versions, actions};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn any_order_with_repetitions_gives_the_heads_of_the_definition(
        actions in actions(),
        swaps in prop::collection::vec(any::<(Index, Index)>(), 0..40),
        again in prop::collection::vec(any::<Index>(), 0..20),
    ) {
        let history = History::of(&actions);
        prop_assume!(!history.order.is_empty());
        let mut order = history.order.clone();
        for (one, other) in &swaps {
            order.swap(one.index(history.order.len()), other.index(history.order.len()));
        }
        order.extend(again.iter().map(|index| *index.get(&history.order)));
        let heads = added(&history.versions, &order);
        let all: BTreeSet<VersionId> = history.order.iter().copied().collect();
        prop_assert_eq!(heads, history.heads_of(&all));
    }

    #[test]
    fn a_reader_that_grows_parents_first_is_right_at_every_step(actions in actions()) {
        let history = History::of(&actions);
        let mut known = Versions::new();
        let mut heads = Vec::new();
        for id in &history.order {
            known.insert(*id, history.versions[id].clone());
            let Ok(next) = add(&known, &heads, *id);
            heads = next;
            let so_far: BTreeSet<VersionId> = known.keys().copied().collect();
            prop_assert_eq!(&heads, &history.heads_of(&so_far));
        }
    }

    #[test]
    fn an_authored_version_goes_only_for_a_descendant(
        actions in actions(),
        kept in prop::collection::vec(any::<bool>(), 40),
    ) {
        // A device that joined late: a part of the past, in the order it happened.
        let history = History::of(&actions);
        let part = history.part(|at, _| kept[at % kept.len()]);
        let order: Vec<_> = history.order.iter().filter(|id| part.contains_key(*id)).copied().collect();
        let heads = added(&part, &order);
        for id in order.iter().filter(|id| !part[*id].is_merge()) {
            let covered = heads.iter().any(|head| history.within(id, head));
            prop_assert!(covered, "{id:?} is in no head of {heads:?}");
        }
        for (at, one) in heads.iter().enumerate() {
            for other in &heads[at + 1..] {
                prop_assert!(!history.within(one, other) && !history.within(other, one));
            }
        }
    }

    #[test]
    fn a_merge_that_brings_nothing_is_no_head(actions in actions()) {
        let history = History::of(&actions);
        let all: BTreeSet<VersionId> = history.order.iter().copied().collect();
        let heads = added(&history.versions, &history.order);
        for merge in heads.iter().filter(|id| history.versions[*id].is_merge()) {
            let parents = &history.versions[merge].parents;
            for head in heads.iter().filter(|head| *head != merge) {
                let held = parents.iter().all(|parent| history.within(parent, head));
                prop_assert!(!held, "{merge:?} is redundant beside {head:?}");
            }
        }
        prop_assert!(heads.is_empty() == all.is_empty());
    }
}

fn added(read: &Versions, order: &[VersionId]) -> Vec<VersionId> {
    order.iter().fold(Vec::new(), |heads, id| {
        let Ok(heads) = add(read, &heads, *id);
        heads
    })
}
