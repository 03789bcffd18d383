//! A proof says what a lookup says, and no other bytes prove anything.

use crucible_core::block::split;
use crucible_core::hash::ContentHash;
use crucible_core::id::RootHash;
use crucible_core::merkle::block_proof::{BlockProof, prove_block, verify_block};
use crucible_core::merkle::proof::{Proof, ProofError, prove_path, prove_tombstone};
use crucible_core::merkle::{MemoryTree, Place, folder_root, lookup, lookup_tombstone};
use crucible_core::vault_path::VaultPath;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::world::{World, build, gone, head, live, note, path, world};

const PATHS: [&str; 9] =
    ["n1", "n2", "n7", "b/c", "b/c/n3", "b/c/d/e/f/claimed.md", "z/k/n9", "claimed.md", "no/such"];

fn flip(bytes: &[u8], bit: prop::sample::Index) -> Vec<u8> {
    let mut broken = bytes.to_vec();
    let bit = bit.index(8 * bytes.len());
    broken[bit / 8] ^= 1 << (bit % 8);
    broken
}

proptest! {
    #[test]
    fn a_proof_of_a_path_says_what_is_there(world in world(200)) {
        let (tree, root) = build(&world);
        let live = world.values().filter_map(|leaf| match &leaf.place {
            Place::Live(path) => Some(path.clone()),
            Place::Tombstone => None,
        });
        for at in live.take(20).chain(PATHS.map(path)) {
            let proof = prove_path(&tree, &root, &at).unwrap();
            prop_assert_eq!(Proof::decode(&proof.encode()).unwrap(), proof.clone());
            let found = proof.verify_path(&root, &at).unwrap();
            prop_assert_eq!(&found, &lookup(&tree, &root, &at).unwrap());
            let folder = folder_root(&tree, &root, &at).unwrap();
            prop_assert_eq!(folder.is_some_and(|root| found.is_folder(&root)), folder.is_some());
            let there = world.iter().filter(|(_, leaf)| leaf.place == Place::Live(at.clone()));
            prop_assert_eq!(there.count(), found.notes.len());
        }
    }

    #[test]
    fn a_proof_of_a_tombstone_says_whether_there_is_one(world in world(200)) {
        let (tree, root) = build(&world);
        for note in world.keys().copied().take(20).chain([note(1_000)]) {
            let proof = prove_tombstone(&tree, &root, &note).unwrap();
            prop_assert_eq!(Proof::decode(&proof.encode()).unwrap(), proof.clone());
            let found = proof.verify_tombstone(&root, &note).unwrap();
            prop_assert_eq!(found, lookup_tombstone(&tree, &root, &note).unwrap());
            let there = world.get(&note).filter(|leaf| leaf.place == Place::Tombstone);
            prop_assert_eq!(found, there.map(|leaf| leaf.hash));
        }
    }

    #[test]
    fn a_proof_with_a_flipped_bit_proves_nothing(
        world in world(200),
        at in prop::sample::select(PATHS.to_vec()),
        bits in vec(any::<prop::sample::Index>(), 20),
    ) {
        let (tree, root) = build(&world);
        let bytes = prove_path(&tree, &root, &path(at)).unwrap().encode();
        for bit in bits {
            if let Ok(proof) = Proof::decode(&flip(&bytes, bit)) {
                prop_assert!(proof.verify_path(&root, &path(at)).is_err());
            }
        }
    }

    #[test]
    fn a_proof_proves_nothing_about_another_root_or_path(world in world(200), extra in 0..40_u32) {
        let (tree, root) = build(&world);
        let proof = prove_path(&tree, &root, &path("n1")).unwrap();
        let mut other = world;
        other.insert(note(9_999), live(9_999, &format!("n{extra}"), 0).1);
        let (_, other) = build(&other);
        prop_assert!(proof.verify_path(&other, &path("n1")).is_err());
    }

    #[test]
    fn no_bytes_make_decoding_a_proof_panic(bytes in vec(any::<u8>(), 0..300), root in any::<[u8; 32]>()) {
        let bytes = [vec![1], bytes].concat();
        if let Ok(proof) = Proof::decode(&bytes) {
            prop_assert!(proof.verify_path(&RootHash::from_bytes(root), &path("n1")).is_err());
        }
        if let Ok(proof) = BlockProof::decode(&bytes) {
            prop_assert_eq!(proof.encode(), bytes);
        }
    }

    #[test]
    fn every_block_of_a_note_is_proven_at_its_index(
        paragraphs in prop_oneof![vec("[a-d]{0,3}", 0..20), vec("[a-d]{0,3}", 250..300)],
        every in 1..40_usize,
        bits in vec(any::<prop::sample::Index>(), 8),
    ) {
        let text = paragraphs.join("\n\n");
        let content = ContentHash::of_text(&text);
        let blocks = split(&text);
        for (index, block) in blocks.iter().enumerate().step_by(every) {
            let proof = prove_block(&text, index).unwrap();
            let bytes = proof.encode();
            prop_assert_eq!(BlockProof::decode(&bytes).unwrap(), proof.clone());
            prop_assert_eq!(verify_block(&content, block, &proof), Some(index));
            prop_assert_eq!(verify_block(&content, &format!("{block}x"), &proof), None);
            let other = ContentHash::of_text(&format!("{text}x"));
            prop_assert_eq!(verify_block(&other, block, &proof), None);
            for bit in &bits {
                if let Ok(broken) = BlockProof::decode(&flip(&bytes, *bit)) {
                    let proven = verify_block(&content, block, &broken);
                    // Equal blocks side by side prove each other.
                    prop_assert!(proven.is_none_or(|at| at != index && blocks[at] == *block));
                }
            }
        }
        prop_assert_eq!(prove_block(&text, blocks.len()), None);
    }
}

fn flat(count: u32) -> (MemoryTree, RootHash) {
    let world: World = (0..count).map(|n| live(n, &format!("notes/n{n}.md"), 0)).collect();
    build(&world)
}

#[test]
fn a_note_is_proven_with_its_heads_and_its_absence_too() {
    let (tree, root) = flat(500);
    let at = path("notes/n7.md");
    let found = prove_path(&tree, &root, &at).unwrap().verify_path(&root, &at).unwrap();
    assert!(found.has(&note(7), &[head(0)]));
    assert!(!found.has(&note(7), &[head(1)]) && !found.has(&note(8), &[head(0)]));
    assert!(!found.is_absent());
    for absent in ["notes/n500.md", "elsewhere/n7.md", "notes/n7.md/x"] {
        let proof = prove_path(&tree, &root, &path(absent)).unwrap();
        assert!(proof.verify_path(&root, &path(absent)).unwrap().is_absent(), "{absent}");
    }
}

#[test]
fn a_proof_with_a_node_too_many_too_few_or_swapped_is_refused() {
    let (tree, root) = flat(500);
    let at = path("notes/n7.md");
    let bytes = prove_path(&tree, &root, &at).unwrap().encode();
    let nodes = nodes_of(&bytes);
    assert!(nodes.len() > 3);
    let verify = |nodes: &[Vec<u8>]| {
        let bytes = encode_nodes(nodes);
        Proof::decode(&bytes).and_then(|proof| proof.verify_path(&root, &at))
    };
    assert!(verify(&nodes).is_ok());
    assert_eq!(verify(&nodes[..nodes.len() - 1]), Err(ProofError::Broken));
    assert_eq!(verify(&nodes[1..]), Err(ProofError::Broken));
    assert_eq!(verify(&[&nodes[..], &nodes[1..2]].concat()), Err(ProofError::Surplus));
    let mut swapped = nodes.clone();
    swapped.swap(1, 2);
    assert_eq!(verify(&swapped), Err(ProofError::Broken));
}

#[test]
fn a_vault_that_never_had_a_note_proves_that_it_has_none() {
    let (tree, root) = (MemoryTree::new(), RootHash::empty());
    let proof = prove_path(&tree, &root, &path("a")).unwrap();
    assert!(proof.verify_path(&root, &path("a")).unwrap().is_absent());
    assert!(proof.verify_path(&flat(1).1, &path("a")).is_err());
    let (tree, root) = build(&[gone(1, 0)].into());
    let proof = prove_tombstone(&tree, &root, &note(1)).unwrap();
    assert!(proof.verify_tombstone(&root, &note(1)).unwrap().is_some());
}

#[test]
fn a_proof_of_one_of_100_000_notes_is_small() {
    let (tree, root) = flat(100_000);
    let sizes = (0..100).map(|n| {
        let at: VaultPath = path(&format!("notes/n{}.md", n * 997));
        prove_path(&tree, &root, &at).unwrap().encode().len()
    });
    assert!(sizes.max().unwrap() < 4096);
}

fn nodes_of(proof: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = &proof[2..];
    let mut nodes = Vec::new();
    while !rest.is_empty() {
        let (len, size) = match rest[0] {
            low if low < 0x80 => (usize::from(low), 1),
            low => (usize::from(low & 0x7f) | usize::from(rest[1]) << 7, 2),
        };
        nodes.push(rest[size..size + len].to_vec());
        rest = &rest[size + len..];
    }
    nodes
}

fn encode_nodes(nodes: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![1, nodes.len() as u8];
    for node in nodes {
        if node.len() >= 0x80 {
            bytes.extend([(node.len() & 0x7f) as u8 | 0x80, (node.len() >> 7) as u8]);
        } else {
            bytes.push(node.len() as u8);
        }
        bytes.extend(node);
    }
    bytes
}
