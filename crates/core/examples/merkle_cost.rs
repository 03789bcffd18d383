//! Prints what the Merkle tree costs for 100 000 notes: `cargo run --release --example merkle_cost`.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "an example, for people to read")]

use std::time::Instant;

use crucible_core::id::{NoteId, RootHash, VersionId};
use crucible_core::merkle::walk::{Walk, WalkAnswer, WalkAsk, WalkLimits, answer};
use crucible_core::merkle::{Change, Leaf, MemoryTree, diff, update};
use crucible_core::vault_path::VaultPath;

const NOTES: u32 = 100_000;

fn main() {
    shape("flat", |n| format!("note number {n:06}.md"));
    shape("10 wide, 4 deep", |n| deep(n, 10, 4));
    shape("2 wide, 16 deep", |n| deep(n, 2, 16));
}

fn deep(n: u32, wide: u32, levels: u32) -> String {
    let folders = (0..levels).map(|level| format!("folder {}/", n / wide.pow(level) % wide));
    format!("{}note {n:06}.md", folders.collect::<String>())
}

fn leaf(n: u32, at: &str, head: u8) -> Leaf {
    Leaf::live(VaultPath::new(at).unwrap(), &note(n), &[VersionId::from_bytes([head; 32])])
}

fn note(n: u32) -> NoteId {
    NoteId::from_bytes(*blake3::hash(&n.to_be_bytes()).as_bytes())
}

fn shape(name: &str, path: impl Fn(u32) -> String) {
    let mut tree = MemoryTree::new();
    let new = |n: u32, head| Some(leaf(n, &path(n), head));
    let all: Vec<_> =
        (0..NOTES).map(|n| Change { note: note(n), old: None, new: new(n, 0) }).collect();
    let start = Instant::now();
    let built = update(&tree, None, &all).unwrap();
    println!(
        "{name}: {NOTES} notes from nothing in {:?}, {} nodes",
        start.elapsed(),
        built.added.len()
    );
    tree.add(&built).unwrap();
    for count in [1, 100, 10_000, NOTES] {
        let step = (NOTES / count) as usize;
        let some = (0..NOTES).skip(step / 2).step_by(step);
        let edits: Vec<_> =
            some.map(|n| Change { note: note(n), old: new(n, 0), new: new(n, 1) }).collect();
        let start = Instant::now();
        let edited = update(&tree, Some(&built.root), &edits).unwrap();
        let updated_in = start.elapsed();
        let mut theirs = tree.clone();
        theirs.add(&edited).unwrap();
        let start = Instant::now();
        let found = diff(&tree, Some(&built.root), &theirs, Some(&edited.root)).unwrap();
        assert_eq!(found.len(), edits.len());
        println!(
            "  {count} edited: {updated_in:?}, {} nodes written; compared in {:?}",
            edited.added.len(),
            start.elapsed()
        );
        walk(&tree, &built.root, &theirs, &edited.root);
    }
    println!("  nothing there:");
    walk(&MemoryTree::new(), &RootHash::empty(), &tree, &built.root);
}

fn walk(mine: &MemoryTree, my_root: &RootHash, theirs: &MemoryTree, their_root: &RootHash) {
    let limits = WalkLimits::default();
    let (mut asked, mut answered) = (0, 0);
    let start = Instant::now();
    let mut walk = Walk::new(Some(my_root), limits);
    while let Some(ask) = walk.ask(mine).unwrap() {
        let bytes = ask.encode();
        asked += bytes.len();
        let heard = WalkAsk::decode(&bytes).unwrap();
        let bytes = answer(theirs, Some(their_root), &heard, &limits).unwrap().encode();
        answered += bytes.len();
        walk.take(mine, &WalkAnswer::decode(&bytes).unwrap()).unwrap();
    }
    let requests = walk.requests();
    println!(
        "    walk: {} differ, {requests} requests, {asked} bytes asked, {answered} answered, {:?}",
        walk.into_differences().len(),
        start.elapsed()
    );
}
