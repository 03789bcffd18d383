//! Small nasty vaults, and slow obvious twins of what the tree does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use crucible_core::hash::{Domain, keyed};
use crucible_core::id::{LeafHash, NoteId, RootHash, VersionId};
use crucible_core::merkle::{Change, Difference, Leaf, MemoryTree, Place, Sighting, update};
use crucible_core::vault_path::VaultPath;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

/// The leaves of a vault: what a tree is a function of.
pub type World = BTreeMap<NoteId, Leaf>;

pub fn note(index: u32) -> NoteId {
    NoteId::from_bytes(*blake3::hash(&index.to_be_bytes()).as_bytes())
}

pub fn head(index: u32) -> VersionId {
    VersionId::from_bytes([index as u8; 32])
}

pub fn path(text: &str) -> VaultPath {
    VaultPath::new(text).unwrap()
}

pub fn live(index: u32, at: &str, heads: u32) -> (NoteId, Leaf) {
    (note(index), Leaf::live(path(at), &note(index), &[head(heads)]))
}

pub fn gone(index: u32, heads: u32) -> (NoteId, Leaf) {
    (note(index), Leaf::tombstone(&note(index), &[head(heads)]))
}

/// Names that agree in the first three digits of their keys: a trie of them is deep and thin.
static NEIGHBOURS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let names = (0..).map(|n| format!("k{n}"));
    names
        .filter(|name| blake3::hash(name.as_bytes()).to_hex().starts_with("5eb"))
        .take(20)
        .collect()
});

const FOLDERS: [&str; 8] = ["", "", "n1/", "n1/n2/", "b/", "b/c/d/e/f/", "b/c/", "z/k/"];

fn name(index: usize) -> String {
    match index {
        0..40 => format!("n{index}"),
        40..60 => NEIGHBOURS[index - 40].clone(),
        // Many notes claim this one path.
        _ => "claimed.md".to_owned(),
    }
}

fn leaf_of(index: u32) -> impl Strategy<Value = Leaf> {
    let live = (0..FOLDERS.len(), 0..64_usize, 0..3_u32);
    prop_oneof![
        4 => live.prop_map(move |(folder, at, heads)| {
            self::live(index, &format!("{}{}", FOLDERS[folder], name(at)), heads).1
        }),
        1 => (0..3_u32).prop_map(move |heads| gone(index, heads).1),
    ]
}

fn leaf() -> impl Strategy<Value = (u32, Leaf)> {
    (0..400_u32).prop_flat_map(|index| (Just(index), leaf_of(index)))
}

/// Any vault of at most `size` notes.
pub fn world(size: usize) -> impl Strategy<Value = World> {
    prop_oneof![
        3 => vec(leaf(), 0..size).prop_map(collect),
        1 => vec(leaf(), 0..20).prop_map(collect),
    ]
}

/// Two vaults with something in common.
pub fn pair() -> impl Strategy<Value = (World, World)> {
    let edits = prop_oneof![vec(edit(), 0..4), vec(edit(), 0..60)];
    prop_oneof![
        5 => (world(250), edits).prop_map(|(mine, edits)| {
            let theirs = edits.iter().fold(mine.clone(), |mut world, batch| {
                apply(&mut world, batch);
                world
            });
            (mine, theirs)
        }),
        1 => (world(100), world(100)),
    ]
}

/// What becomes of some notes.
pub type Batch = BTreeMap<NoteId, Option<Leaf>>;

pub fn edit() -> impl Strategy<Value = Batch> {
    btree_map(0..400_u32, any::<bool>(), 1..8).prop_flat_map(|notes| {
        let edits = notes.into_iter().map(|(index, stays)| {
            let leaf = leaf_of(index).prop_map(move |leaf| stays.then_some(leaf));
            (Just(note(index)), leaf)
        });
        edits.collect::<Vec<_>>().prop_map(|edits| edits.into_iter().collect())
    })
}

fn collect(leaves: Vec<(u32, Leaf)>) -> World {
    leaves.into_iter().map(|(index, leaf)| (note(index), leaf)).collect()
}

pub fn apply(world: &mut World, batch: &Batch) -> Vec<Change> {
    let changes = batch.iter().map(|(&note, new)| {
        let old = match new {
            Some(leaf) => world.insert(note, leaf.clone()),
            None => world.remove(&note),
        };
        Change { note, old, new: new.clone() }
    });
    changes.collect()
}

/// Everything comes at once into an empty tree.
pub fn build(world: &World) -> (MemoryTree, RootHash) {
    let mut tree = MemoryTree::new();
    let changes: Vec<_> = world
        .iter()
        .map(|(&note, leaf)| Change { note, old: None, new: Some(leaf.clone()) })
        .collect();
    let updated = update(&tree, None, &changes).unwrap();
    assert!(updated.removed.is_empty());
    tree.add(&updated).unwrap();
    (tree, updated.root)
}

pub fn naive_diff(mine: &World, theirs: &World) -> Vec<Difference> {
    let notes: BTreeSet<_> = mine.keys().chain(theirs.keys()).collect();
    let see = |world: &World, note| {
        world.get(note).map(|leaf| Sighting { place: leaf.place.clone(), tag: leaf.hash.tag() })
    };
    let differ = notes.into_iter().filter(|note| mine.get(note) != theirs.get(note));
    differ
        .map(|note| Difference { note: *note, mine: see(mine, note), theirs: see(theirs, note) })
        .collect()
}

/// The root as the specification puts it, without a tree.
pub fn naive_root(world: &World) -> RootHash {
    let mut notes: Vec<(Vec<&str>, NoteId, LeafHash)> = Vec::new();
    let mut tombstones: Vec<Flat> = Vec::new();
    for (note, leaf) in world {
        match &leaf.place {
            Place::Live(path) => notes.push((path.components().collect(), *note, leaf.hash)),
            Place::Tombstone => tombstones.push((
                blake3::hash(note.as_bytes()).to_hex().to_string(),
                (Vec::new(), 1, note.as_bytes().to_vec()),
                [&note.as_bytes()[..], leaf.hash.as_bytes()].concat(),
            )),
        }
    }
    let mut bytes = vec![1];
    bytes.extend(naive_folder(&notes));
    bytes.extend(naive_trie(&tombstones, 0, 4));
    bytes.extend((notes.len() as u64).to_be_bytes());
    bytes.extend((tombstones.len() as u64).to_be_bytes());
    RootHash::from_bytes(keyed(Domain::Root, &[&bytes]))
}

/// Key in hex, order within a bucket, encoding.
type Flat = (String, (Vec<u8>, u8, Vec<u8>), Vec<u8>);

fn naive_folder(notes: &[(Vec<&str>, NoteId, LeafHash)]) -> [u8; 32] {
    let mut entries: Vec<Flat> = Vec::new();
    let mut folders: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for (path, note, leaf) in notes {
        let name = path[0];
        if path.len() > 1 {
            folders.entry(name).or_default().push((path[1..].to_vec(), *note, *leaf));
            continue;
        }
        let mut bytes = vec![1, name.len() as u8];
        bytes.extend([name.as_bytes(), note.as_bytes(), leaf.as_bytes()].concat());
        let order = (name.as_bytes().to_vec(), 1, note.as_bytes().to_vec());
        entries.push((blake3::hash(name.as_bytes()).to_hex().to_string(), order, bytes));
    }
    for (name, notes) in folders {
        let mut bytes = vec![0, name.len() as u8];
        bytes.extend([name.as_bytes(), &naive_folder(&notes)[..]].concat());
        let order = (name.as_bytes().to_vec(), 0, Vec::new());
        entries.push((blake3::hash(name.as_bytes()).to_hex().to_string(), order, bytes));
    }
    naive_trie(&entries, 0, 3)
}

fn naive_trie(entries: &[Flat], depth: usize, bucket: u8) -> [u8; 32] {
    if entries.is_empty() {
        return [0; 32];
    }
    let keys: BTreeSet<_> = entries.iter().map(|entry| &entry.0).collect();
    if entries.len() <= 16 || keys.len() == 1 {
        let mut sorted = entries.to_vec();
        sorted.sort_by(|a, b| a.1.cmp(&b.1));
        let bytes: Vec<u8> = sorted.into_iter().flat_map(|entry| entry.2).collect();
        return keyed(Domain::TrieLeaf, &[&[bucket], &bytes]);
    }
    let mut bitmap = 0_u16;
    let mut hashes = Vec::new();
    for (bit, digit) in "0123456789abcdef".chars().enumerate() {
        let below: Vec<Flat> = entries
            .iter()
            .filter(|entry| entry.0.chars().nth(depth) == Some(digit))
            .cloned()
            .collect();
        if !below.is_empty() {
            bitmap |= 1 << bit;
            hashes.extend(naive_trie(&below, depth + 1, bucket));
        }
    }
    keyed(Domain::TrieNode, &[&[2], &bitmap.to_be_bytes(), &hashes])
}
