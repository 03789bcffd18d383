//! The root is a function of the set of leaves; a diff is the difference of two sets.

use crucible_core::id::RootHash;
use crucible_core::merkle::node::Node;
use crucible_core::merkle::{
    Change, Leaf, MemoryTree, Place, ReadError, UpdateError, diff, folder_root, iter_live,
    iter_tombstones, lookup, lookup_tombstone, update,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::world::{
    World, apply, build, edit, gone, live, naive_diff, naive_root, note, pair, path, world,
};

fn leaves_of(tree: &MemoryTree, root: &RootHash) -> World {
    let live = iter_live(tree, root, None).unwrap();
    live.chain(iter_tombstones(tree, root).unwrap()).map(Result::unwrap).collect()
}

proptest! {
    #[test]
    fn the_root_is_the_one_the_specification_gives(world in world(250)) {
        let (tree, root) = build(&world);
        prop_assert_eq!(root, naive_root(&world));
        prop_assert_eq!(leaves_of(&tree, &root), world);
    }

    #[test]
    fn any_way_to_a_set_of_leaves_gives_its_root_and_its_nodes(
        start in world(250),
        batches in vec(edit(), 0..20),
    ) {
        let mut world = start;
        let (mut tree, mut root) = build(&world);
        for batch in &batches {
            let changes = apply(&mut world, batch);
            let updated = update(&tree, Some(&root), &changes).unwrap();
            tree.replace(&updated).unwrap();
            root = updated.root;
            let (fresh, expected) = build(&world);
            prop_assert_eq!(root, expected);
            prop_assert_eq!(tree.len(), fresh.len(), "no node is left over or missing");
            prop_assert_eq!(leaves_of(&tree, &root), world.clone());
        }
    }

    #[test]
    fn taking_everything_out_again_gives_the_empty_root(world in world(120)) {
        let (mut tree, root) = build(&world);
        let changes: Vec<_> = world
            .iter()
            .map(|(&note, leaf)| Change { note, old: Some(leaf.clone()), new: None })
            .collect();
        let updated = update(&tree, Some(&root), &changes).unwrap();
        tree.replace(&updated).unwrap();
        prop_assert_eq!(updated.root, build(&World::new()).1);
        prop_assert_eq!(tree.len(), 1);
    }

    #[test]
    fn a_diff_is_the_difference_of_the_sets((mine, theirs) in pair()) {
        let (my_tree, my_root) = build(&mine);
        let (their_tree, their_root) = build(&theirs);
        let found = diff(&my_tree, Some(&my_root), &their_tree, Some(&their_root)).unwrap();
        prop_assert_eq!(found, naive_diff(&mine, &theirs));
        let all = diff(&my_tree, Some(&my_root), &their_tree, None).unwrap();
        prop_assert_eq!(all, naive_diff(&mine, &World::new()));
    }

    #[test]
    fn old_roots_stay_readable_while_nodes_are_kept(start in world(100), batch in edit()) {
        let (mut tree, before) = build(&start);
        let mut after = start.clone();
        let changes = apply(&mut after, &batch);
        let updated = update(&tree, Some(&before), &changes).unwrap();
        tree.add(&updated).unwrap();
        prop_assert_eq!(leaves_of(&tree, &before), start.clone());
        let found = diff(&tree, Some(&before), &tree, Some(&updated.root)).unwrap();
        prop_assert_eq!(found, naive_diff(&start, &after));
    }

    #[test]
    fn every_leaf_is_found_at_its_place_and_nowhere_else(world in world(150)) {
        let (tree, root) = build(&world);
        for (note, leaf) in &world {
            let tombstone = lookup_tombstone(&tree, &root, note).unwrap();
            match &leaf.place {
                Place::Live(path) => {
                    let found = lookup(&tree, &root, path).unwrap();
                    prop_assert!(found.notes.contains(&(*note, leaf.hash)));
                    prop_assert_eq!(tombstone, None);
                }
                Place::Tombstone => prop_assert_eq!(tombstone, Some(leaf.hash)),
            }
        }
        prop_assert_eq!(lookup(&tree, &root, &path("n1/absent")).unwrap(), Default::default());
    }

    #[test]
    fn a_folder_has_the_root_of_a_vault_that_holds_only_it(world in world(200)) {
        let (tree, root) = build(&world);
        for folder in ["n1", "n1/n2", "b", "b/c"] {
            let below: World = world
                .iter()
                .filter_map(|(note, leaf)| match &leaf.place {
                    Place::Live(at) => {
                        let at = path(at.below(&path(folder))?);
                        Some((*note, Leaf { place: Place::Live(at), hash: leaf.hash }))
                    }
                    Place::Tombstone => None,
                })
                .collect();
            let (alone, alone_root) = build(&below);
            let expected = crucible_core::merkle::root_of(&alone, &alone_root).unwrap();
            let expected = (!below.is_empty()).then(|| expected.folder_root());
            prop_assert_eq!(folder_root(&tree, &root, &path(folder)).unwrap(), expected);
            let listed = iter_live(&tree, &root, Some(&path(folder))).unwrap();
            prop_assert_eq!(listed.map(Result::unwrap).count(), below.len());
        }
    }

    #[test]
    fn a_node_survives_encoding_and_one_bit_changes_its_hash(
        world in world(120),
        at in any::<prop::sample::Index>(),
        bit in any::<prop::sample::Index>(),
    ) {
        let changes: Vec<_> = world
            .iter()
            .map(|(&note, leaf)| Change { note, old: None, new: Some(leaf.clone()) })
            .collect();
        let updated = update(&MemoryTree::new(), None, &changes).unwrap();
        let (hash, bytes) = at.get(&updated.added);
        let node = Node::decode(bytes).unwrap();
        prop_assert_eq!(&node.encode(), bytes);
        prop_assert_eq!(node.hash(), *hash);
        let mut broken = bytes.clone();
        let bit = bit.index(8 * bytes.len());
        broken[bit / 8] ^= 1 << (bit % 8);
        if let Ok(other) = Node::decode(&broken) {
            prop_assert_eq!(other.encode(), broken, "what decodes is canonical");
            prop_assert_ne!(other.hash(), *hash);
        }
    }

    #[test]
    fn no_bytes_make_decoding_a_node_panic(mut bytes in vec(any::<u8>(), 0..300), kind in 0..6_u8) {
        if let Some(first) = bytes.first_mut() {
            *first = kind;
        }
        if let Ok(node) = Node::decode(&bytes) {
            prop_assert_eq!(node.encode(), bytes);
        }
    }
}

#[test]
fn a_renamed_folder_moves_without_writing_what_is_in_it() {
    let place = |folder: &str, n| live(n, &format!("{folder}/n{n}"), 0);
    let world: World = (0..500).map(|n| place("before", n)).collect();
    let (tree, root) = build(&world);
    let changes: Vec<_> = (0..500)
        .map(|n| Change {
            note: note(n),
            old: Some(place("before", n).1),
            new: Some(place("after", n).1),
        })
        .collect();
    let updated = update(&tree, Some(&root), &changes).unwrap();
    assert_eq!(updated.added.len(), 2, "the root and the bucket with the folder");
    assert_eq!(updated.removed.len(), 2);
}

#[test]
fn one_edit_of_many_writes_only_the_nodes_above_it() {
    let world: World = (0..5_000).map(|n| live(n, &format!("n{n}"), 0)).collect();
    let (tree, root) = build(&world);
    let change =
        Change { note: note(7), old: Some(live(7, "n7", 0).1), new: Some(live(7, "n7", 1).1) };
    let updated = update(&tree, Some(&root), &[change]).unwrap();
    assert!(updated.added.len() <= 6, "{} nodes", updated.added.len());
    assert_eq!(updated.added.len(), updated.removed.len());
}

#[test]
fn a_change_that_assumes_another_tree_is_refused() {
    let world: World = [live(1, "a.md", 0), gone(2, 0)].into();
    let (tree, root) = build(&world);
    let refused = |old: Option<Leaf>, new: Option<Leaf>, index| {
        let change = Change { note: note(index), old, new };
        match update(&tree, Some(&root), &[change]) {
            Err(UpdateError::Stale(stale)) => assert_eq!(stale, note(index)),
            other => panic!("{other:?}"),
        }
    };
    refused(Some(live(1, "a.md", 1).1), None, 1);
    refused(Some(live(1, "b.md", 0).1), None, 1);
    refused(None, Some(live(1, "a.md", 1).1), 1);
    refused(Some(live(3, "a.md", 0).1), None, 3);
    refused(Some(gone(1, 0).1), None, 1);
    refused(None, Some(gone(2, 1).1), 2);
    let twice = Change { note: note(1), old: None, new: None };
    let result = update(&tree, Some(&root), &[twice.clone(), twice]);
    assert!(matches!(result, Err(UpdateError::Twice(_))));
}

#[test]
fn a_missing_node_is_a_typed_error() {
    let world: World = (0..40).map(|n| live(n, &format!("n{n}"), 0)).collect();
    let (_, root) = build(&world);
    let error = lookup(&MemoryTree::new(), &root, &path("n1")).unwrap_err();
    assert!(matches!(error, ReadError::Missing(hash) if hash == root.node()));
}

#[test]
fn heads_are_a_set() {
    use crate::world::head;
    let leaf = |heads: &[u32]| {
        let heads: Vec<_> = heads.iter().map(|&n| head(n)).collect();
        Leaf::tombstone(&note(1), &heads).hash
    };
    assert_eq!(leaf(&[2, 1, 2]), leaf(&[1, 2]));
    assert_ne!(leaf(&[1]), leaf(&[1, 2]));
}
