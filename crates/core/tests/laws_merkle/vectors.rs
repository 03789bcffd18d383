//! The bytes that docs/protocol/merkle.md shows are the ones this release writes.

use crucible_core::hash::hex;
use crucible_core::id::{NoteId, RootHash, VersionId};
use crucible_core::merkle::node::Node;
use crucible_core::merkle::walk::{Walk, WalkLimits, answer};
use crucible_core::merkle::{Change, Leaf, MemoryTree, root_of, update};

use crate::world::path;

const PAGE: &str = include_str!("../../../../docs/protocol/merkle.md");

/// `name = hex` is a line of the page.
fn shown(lines: &[(&str, String)]) {
    let page: Vec<&str> = PAGE.lines().map(str::trim).collect();
    let missing: Vec<String> = lines
        .iter()
        .map(|(name, hex)| format!("{name} = {hex}"))
        .filter(|line| !page.contains(&line.as_str()))
        .collect();
    assert!(missing.is_empty(), "the page lacks:\n{}", missing.join("\n"));
}

fn note(byte: u8) -> NoteId {
    NoteId::from_bytes([byte; 32])
}

fn head(byte: u8) -> VersionId {
    VersionId::from_bytes([byte; 32])
}

/// Three notes: `a.md` with two heads, `b/c.md`, and one that was deleted.
fn build(head_of_c: u8) -> (MemoryTree, RootHash) {
    let leaves = [
        (note(1), Leaf::live(path("a.md"), &note(1), &[head(0xa2), head(0xa1)])),
        (note(2), Leaf::live(path("b/c.md"), &note(2), &[head(head_of_c)])),
        (note(3), Leaf::tombstone(&note(3), &[head(0xc1)])),
    ];
    let change = |(note, leaf)| Change { note, old: None, new: Some(leaf) };
    let updated = update(&MemoryTree::new(), None, &leaves.map(change)).unwrap();
    let mut tree = MemoryTree::new();
    tree.add(&updated).unwrap();
    (tree, updated.root)
}

#[test]
fn the_nodes_of_a_small_vault() {
    use crucible_core::merkle::TreeRead;
    let (tree, root) = build(0xb1);
    let top = root_of(&tree, &root).unwrap();
    let node = |hash| hex(&tree.node(&hash).unwrap().unwrap().encode());
    let folder = crucible_core::merkle::folder_root(&tree, &root, &path("b")).unwrap().unwrap();
    shown(&[
        ("empty root", RootHash::empty().to_string()),
        (
            "leaf of a.md",
            Leaf::live(path("a.md"), &note(1), &[head(0xa1), head(0xa2)]).hash.to_string(),
        ),
        ("top bucket", node(top.live.unwrap())),
        ("top bucket hash", top.live.unwrap().to_string()),
        ("tombstone bucket", node(top.tombstones.unwrap())),
        ("folder root of b", folder.to_string()),
        ("root node", node(root.node())),
        ("root", root.to_string()),
    ]);
}

#[test]
fn a_branch() {
    let notes = (0..17_u8).map(|n| {
        let path = path(&format!("{n}.md"));
        Change { note: note(n), old: None, new: Some(Leaf::live(path, &note(n), &[head(n)])) }
    });
    let updated = update(&MemoryTree::new(), None, &notes.collect::<Vec<_>>()).unwrap();
    let mut tree = MemoryTree::new();
    tree.add(&updated).unwrap();
    let top = root_of(&tree, &updated.root).unwrap().live.unwrap();
    let branch = updated.added.iter().find(|(hash, _)| *hash == top).unwrap();
    assert!(matches!(Node::decode(&branch.1).unwrap(), Node::Branch(_)));
    shown(&[
        ("branch begins", hex(&branch.1[..3])),
        ("branch hash", top.to_string()),
        ("root of seventeen", updated.root.to_string()),
    ]);
}

#[test]
fn a_walk_of_one_request() {
    let ((mine, my_root), (theirs, their_root)) = (build(0xb1), build(0xb2));
    let limits = WalkLimits::default();
    let mut walk = Walk::new(Some(&my_root), limits);
    let ask = walk.ask(&mine).unwrap().unwrap();
    let answer = answer(&theirs, Some(&their_root), &ask, &limits).unwrap();
    walk.take(&mine, &answer).unwrap();
    assert_eq!(walk.ask(&mine).unwrap(), None);
    assert_eq!(walk.into_differences()[0].note, note(2));
    shown(&[("ask", hex(&ask.encode())), ("answer", hex(&answer.encode()))]);
}
