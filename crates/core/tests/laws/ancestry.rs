//! `is_ancestor` and `merge_bases` against the closed parent relation.

use std::collections::BTreeSet;

use crucible_core::ancestry::{is_ancestor, is_cut_short, merge_bases};
use crucible_core::id::VersionId;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::dag::{Action, History, Versions, actions};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn an_ancestor_is_whatever_the_parents_lead_to(actions in actions()) {
        let history = History::of(&actions);
        for older in &history.order {
            for newer in &history.order {
                let Ok(found) = is_ancestor(&history.versions, older, newer);
                prop_assert_eq!(found, history.ancestors(newer).contains(older));
            }
        }
    }

    #[test]
    fn the_parts_of_a_history_that_no_copy_broke_tell_authored_ancestors_from_the_clock(
        actions in actions(),
        kept in prop::collection::vec(any::<bool>(), 40),
    ) {
        let history = History::of(&actions);
        let part = history.part(|at, _| kept[at % kept.len()]);
        for (older, version) in &part {
            for newer in part.keys() {
                let Ok(found) = is_ancestor(&part, older, newer);
                let truth = history.ancestors(newer).contains(older);
                if version.is_merge() {
                    // A merge has no dot: two of them can stand for the same edits.
                    prop_assert!(found || !truth, "an ancestor is never denied");
                    let held = history.authored(older).is_subset(&history.authored(newer));
                    prop_assert!(!found || held, "it brings nothing that {newer} has not");
                } else {
                    prop_assert_eq!(found, truth);
                }
            }
        }
    }

    #[test]
    fn merge_bases_are_the_nearest_of_all_common_ancestors(
        actions in actions(),
        ours in prop::collection::vec(any::<Index>(), 1..3),
        theirs in prop::collection::vec(any::<Index>(), 1..3),
    ) {
        let history = History::of(&actions);
        prop_assume!(!history.order.is_empty());
        let (ours, theirs) = (pick(&history, &ours), pick(&history, &theirs));
        let Ok(found) = merge_bases(&history.versions, &ours, &theirs);
        let nearest = history.maximal(&history.common(&ours, &theirs));
        prop_assert_eq!(&found, &nearest);
        let Ok(mirrored) = merge_bases(&history.versions, &theirs, &ours);
        prop_assert_eq!(mirrored, found);
    }

    #[test]
    fn no_base_is_told_from_a_base_that_is_not_known_here(
        actions in actions(),
        kept in prop::collection::vec(any::<bool>(), 40),
        ours in any::<Index>(),
        theirs in any::<Index>(),
    ) {
        let history = History::of(&actions);
        prop_assume!(!history.order.is_empty());
        let (ours, theirs) = (*ours.get(&history.order), *theirs.get(&history.order));
        let part = history.part(|at, id| {
            kept[at % kept.len()] || *id == ours || *id == theirs
        });
        let Ok(found) = merge_bases(&part, &[ours], &[theirs]);
        let Ok(cut) = is_cut_short(&part, &[ours], &[theirs]);
        let common = history.common(&[ours], &[theirs]);
        prop_assert!(!found.is_empty() || cut != common.is_empty(), "{found:?} {common:?}");
        let Ok(cut) = is_cut_short(&history.versions, &[ours], &[theirs]);
        prop_assert!(!cut, "a whole history is never cut short");
    }

    #[test]
    fn with_missing_parents_a_merge_base_is_still_common_and_none_known_is_nearer(
        actions in actions(),
        kept in prop::collection::vec(any::<bool>(), 40),
        ours in any::<Index>(),
        theirs in any::<Index>(),
    ) {
        let history = History::of(&actions);
        prop_assume!(!history.order.is_empty());
        let (ours, theirs) = (*ours.get(&history.order), *theirs.get(&history.order));
        let part = history.part(|at, id| {
            kept[at % kept.len()] || *id == ours || *id == theirs
        });
        let Ok(found) = merge_bases(&part, &[ours], &[theirs]);
        let both = |id: &VersionId| {
            [ours, theirs].iter().all(|side| {
                history.authored(id).is_subset(&history.authored(side))
            })
        };
        let Ok(mirrored) = merge_bases(&part, &[theirs], &[ours]);
        prop_assert_eq!(&mirrored, &found);
        let mut common = history.common(&[ours], &[theirs]).into_iter();
        let known = common.find(|id| {
            let seen = [ours, theirs].iter().any(|side| reaches(&part, id, side));
            seen && part.contains_key(id)
        });
        prop_assert!(known.is_none() || !found.is_empty(), "{known:?} is common");
        for base in &found {
            prop_assert!(both(base), "a base holds only what both sides have");
            prop_assert!(!found.iter().any(|other| history.ancestors(other).contains(base)));
            // Only what known versions lead to from a side can have been seen.
            let nearer = history.common(&[ours], &[theirs]).into_iter().find(|id| {
                let seen = [ours, theirs].iter().any(|side| reaches(&part, id, side));
                seen && part.contains_key(id) && history.ancestors(id).contains(base)
            });
            prop_assert_eq!(nearer, None, "nearer than {}", base);
        }
    }
}

#[test]
fn what_two_copies_of_a_folder_call_by_one_dot_is_not_one_history() {
    // A folder was copied: both copies count on from 1 under one replica id, and each edits twice.
    let edits = |copy: u64| {
        let edit = |at| Action::Edit { replica: 0, now_ms: 1_000 + copy * 100 + at, skipped: 0 };
        History::of(&[edit(0), edit(1)])
    };
    let (one, other) = (edits(0), edits(1));
    let (a, b) = (one.order[1], other.order[1]);
    assert_eq!(one.versions[&a].clock, other.versions[&b].clock);
    let mut part = one.part(|at, _| at == 1);
    part.extend(other.part(|at, _| at == 1));
    for (older, newer) in [(a, b), (b, a)] {
        let Ok(found) = is_ancestor(&part, &older, &newer);
        assert!(!found, "equal clocks say nothing about before and after");
        let Ok(bases) = merge_bases(&part, &[older], &[newer]);
        assert_eq!(bases, []);
    }
}

fn pick(history: &History, indices: &[Index]) -> Vec<VersionId> {
    indices.iter().map(|index| *index.get(&history.order)).collect()
}

/// Whether known versions alone lead from `newer` up to `older`.
fn reaches(part: &Versions, older: &VersionId, newer: &VersionId) -> bool {
    let mut open = vec![*newer];
    let mut seen = BTreeSet::new();
    while let Some(id) = open.pop() {
        if id == *older {
            return true;
        }
        if seen.insert(id) {
            open.extend(part.get(&id).iter().flat_map(|version| version.parents.iter().copied()));
        }
    }
    false
}
