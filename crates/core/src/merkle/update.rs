//! Changing a tree: a batch of changes in, the nodes that come and go out.
//!
//! Law: the root of `update(tree, root, changes)` is the root of the changed set built from
//! nothing, whatever the batches and their order. Each node on the way is written once.

use std::collections::{BTreeMap, HashSet};
use std::error::Error;

use crate::id::{LeafHash, NodeHash, NoteId, RootHash};
use crate::limits::FANOUT;
use crate::merkle::node::{self, Entry, KEY_DIGITS, Key, Node, Root, is_bucket};
use crate::merkle::read::{ReadError, load, root_of};
use crate::merkle::{Leaf, Place, TreeRead};

/// One note's leaf before and after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which note.
    pub note: NoteId,
    /// The leaf it has in the tree; must be given if it has one.
    pub old: Option<Leaf>,
    /// The leaf it is to have.
    pub new: Option<Leaf>,
}

/// A new tree, as what it differs in from the old one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Updated {
    /// The new root; its own node is among `added` unless it is the old root.
    pub root: RootHash,
    /// Encoded nodes that the old tree had not.
    pub added: Vec<(NodeHash, Vec<u8>)>,
    /// Nodes of the old tree that the new one has not.
    pub removed: Vec<NodeHash>,
}

/// Why a tree cannot be changed as asked; nothing is changed then.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError<E: Error + 'static> {
    /// The old tree cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError<E>),
    /// The tree has not the leaf that the change says it has.
    #[error("the tree has another leaf for note {0} than the change to it assumes")]
    Stale(NoteId),
    /// Two changes are about one note.
    #[error("two changes of one batch are about note {0}")]
    Twice(NoteId),
}

/// Applies `changes` to the tree under `root` (`None`: the empty tree).
///
/// # Errors
/// [`UpdateError`]; a change whose `old` is not what the tree holds is refused.
pub fn update<S: TreeRead>(
    tree: &S,
    root: Option<&RootHash>,
    changes: &[Change],
) -> Result<Updated, UpdateError<S::Error>> {
    let mut seen = HashSet::with_capacity(changes.len());
    if let Some(twice) = changes.iter().find(|change| !seen.insert(change.note)) {
        return Err(UpdateError::Twice(twice.note));
    }
    let mut writer = Writer { tree, added: Vec::new(), removed: Vec::new() };
    let mut top = match root {
        Some(root) => {
            writer.removed.push(root.node());
            root_of(tree, root)?
        }
        None => Root::default(),
    };
    let mut edits = ByPlace::of(changes);
    top.live = writer.folder(top.live, &edits.live)?;
    top.tombstones = writer.trie(top.tombstones, &mut edits.gone)?;
    recount(&mut top, changes)?;
    let root = writer.write(&Node::Root(top));
    Ok(writer.finish(RootHash::from_bytes(*root.as_bytes())))
}

/// One thing to do to one entry.
#[derive(Clone, Copy)]
enum Edit<'c> {
    Folder { name: &'c str, folder: &'c Folder<'c> },
    Note { name: &'c str, leaf: LeafEdit },
    Gone { leaf: LeafEdit },
}

/// At least one of old and new is there, and they differ.
#[derive(Clone, Copy)]
struct LeafEdit {
    note: NoteId,
    old: Option<LeafHash>,
    new: Option<LeafHash>,
}

/// What to do below one folder.
#[derive(Default)]
struct Folder<'c> {
    notes: Vec<(&'c str, LeafEdit)>,
    folders: BTreeMap<&'c str, Folder<'c>>,
}

impl<'c> Folder<'c> {
    fn add(&mut self, path: &'c str, leaf: LeafEdit) {
        match path.split_once('/') {
            Some((name, rest)) => self.folders.entry(name).or_default().add(rest, leaf),
            None => self.notes.push((path, leaf)),
        }
    }

    fn edits(&self) -> Vec<(Key, Edit<'_>)> {
        let notes = self.notes.iter().map(|&(name, leaf)| Edit::Note { name, leaf });
        let folders = self.folders.iter().map(|(&name, folder)| Edit::Folder { name, folder });
        notes.chain(folders).map(|edit| (edit.key(), edit)).collect()
    }
}

impl Edit<'_> {
    fn key(&self) -> Key {
        match self {
            Self::Folder { name, .. } | Self::Note { name, .. } => Key::of_name(name),
            Self::Gone { leaf } => Key::of_tombstone(&leaf.note),
        }
    }

    fn may_remove(&self) -> bool {
        match self {
            Self::Folder { .. } => true,
            Self::Note { leaf, .. } | Self::Gone { leaf } => leaf.new.is_none(),
        }
    }
}

/// What to do in each area.
#[derive(Default)]
struct ByPlace<'c> {
    live: Folder<'c>,
    gone: Vec<(Key, Edit<'c>)>,
}

impl<'c> ByPlace<'c> {
    fn of(changes: &'c [Change]) -> Self {
        let mut by_place = Self::default();
        for Change { note, old, new } in changes {
            let (note, old, new) = (*note, old.as_ref(), new.as_ref());
            let one_place = old.map(|leaf| &leaf.place) == new.map(|leaf| &leaf.place);
            let [old_hash, new_hash] = [old, new].map(|leaf| leaf.map(|leaf| leaf.hash));
            match (old, new) {
                (Some(old), _) if one_place && old_hash != new_hash => {
                    by_place.put(&old.place, LeafEdit { note, old: old_hash, new: new_hash });
                }
                _ if one_place => {}
                _ => {
                    if let Some(old) = old {
                        by_place.put(&old.place, LeafEdit { note, old: old_hash, new: None });
                    }
                    if let Some(new) = new {
                        by_place.put(&new.place, LeafEdit { note, old: None, new: new_hash });
                    }
                }
            }
        }
        by_place
    }

    fn put(&mut self, place: &'c Place, leaf: LeafEdit) {
        match place {
            Place::Live(path) => self.live.add(path.as_str(), leaf),
            Place::Tombstone => {
                self.gone.push((Key::of_tombstone(&leaf.note), Edit::Gone { leaf }));
            }
        }
    }
}

fn recount<E: Error>(top: &mut Root, changes: &[Change]) -> Result<(), UpdateError<E>> {
    for change in changes {
        for (leaf, comes) in [(&change.new, true), (&change.old, false)] {
            let count = match leaf.as_ref().map(|leaf| &leaf.place) {
                Some(Place::Live(_)) => &mut top.live_count,
                Some(Place::Tombstone) => &mut top.tombstone_count,
                None => continue,
            };
            let counted = if comes { count.checked_add(1) } else { count.checked_sub(1) };
            *count = counted.ok_or(UpdateError::Stale(change.note))?;
        }
    }
    Ok(())
}

/// A trie node that is not written yet, because its parent may swallow it.
enum Fresh {
    Empty,
    Bucket(Vec<Entry>),
    Branch(Box<[Option<NodeHash>; FANOUT]>),
}

/// Where the entry is among the old ones, and what is to be there.
type Outcome = (Option<usize>, Option<Entry>);

struct Writer<'t, S> {
    tree: &'t S,
    added: Vec<(NodeHash, Vec<u8>)>,
    removed: Vec<NodeHash>,
}

impl<S: TreeRead> Writer<'_, S> {
    fn folder(
        &mut self,
        top: Option<NodeHash>,
        folder: &Folder<'_>,
    ) -> Result<Option<NodeHash>, UpdateError<S::Error>> {
        self.trie(top, &mut folder.edits())
    }

    fn trie(
        &mut self,
        top: Option<NodeHash>,
        edits: &mut [(Key, Edit<'_>)],
    ) -> Result<Option<NodeHash>, UpdateError<S::Error>> {
        if edits.is_empty() {
            return Ok(top);
        }
        edits.sort_unstable_by_key(|(key, _)| *key);
        let fresh = self.apply(top, 0, edits)?;
        Ok(self.seal(fresh))
    }

    /// The node at `depth` after `edits`, which are sorted by key and not empty.
    fn apply(
        &mut self,
        old: Option<NodeHash>,
        depth: usize,
        edits: &[(Key, Edit<'_>)],
    ) -> Result<Fresh, UpdateError<S::Error>> {
        let Some(hash) = old else {
            let entries = self.apply_to_entries(&[], edits)?;
            return Ok(self.build(entries, depth));
        };
        self.removed.push(hash);
        match &*load(self.tree, &hash)? {
            Node::Bucket(entries) => {
                let entries = self.apply_to_entries(entries, edits)?;
                Ok(self.build(entries, depth))
            }
            Node::Branch(children) if depth < KEY_DIGITS => {
                let mut fresh = [const { None }; FANOUT];
                for group in edits.chunk_by(|a, b| a.0.digit(depth) == b.0.digit(depth)) {
                    let digit = group[0].0.digit(depth);
                    fresh[digit] = Some(self.apply(children[digit], depth + 1, group)?);
                }
                let shrank = edits.iter().any(|(_, edit)| edit.may_remove());
                self.join(children, fresh, shrank)
            }
            Node::Branch(_) | Node::Root(_) => Err(ReadError::Misplaced(hash).into()),
        }
    }

    /// A branch of the old children, with the fresh ones in their places; or the one bucket they
    /// have become.
    fn join(
        &mut self,
        old: &[Option<NodeHash>; FANOUT],
        mut fresh: [Option<Fresh>; FANOUT],
        shrank: bool,
    ) -> Result<Fresh, UpdateError<S::Error>> {
        if shrank && let Some(entries) = self.collapse(old, &mut fresh)? {
            return Ok(if entries.is_empty() { Fresh::Empty } else { Fresh::Bucket(entries) });
        }
        let mut children = Box::new(*old);
        for (slot, fresh) in children.iter_mut().zip(fresh) {
            if let Some(fresh) = fresh {
                *slot = self.seal(fresh);
            }
        }
        Ok(Fresh::Branch(children))
    }

    /// All entries below, if they fit in one bucket; `fresh` is emptied then.
    fn collapse(
        &mut self,
        old: &[Option<NodeHash>; FANOUT],
        fresh: &mut [Option<Fresh>; FANOUT],
    ) -> Result<Option<Vec<Entry>>, UpdateError<S::Error>> {
        let mut entries: Vec<Entry> = Vec::new();
        for fresh in fresh.iter().flatten() {
            match fresh {
                Fresh::Empty => {}
                Fresh::Bucket(more) => entries.extend_from_slice(more),
                Fresh::Branch(_) => return Ok(None),
            }
        }
        let mut swallowed = Vec::new();
        let untouched = old.iter().zip(fresh.iter()).filter(|(_, fresh)| fresh.is_none());
        for hash in untouched.filter_map(|(&hash, _)| hash) {
            if !fits(&entries) {
                return Ok(None);
            }
            match &*load(self.tree, &hash)? {
                Node::Bucket(more) => entries.extend_from_slice(more),
                Node::Branch(_) => return Ok(None),
                Node::Root(_) => return Err(ReadError::Misplaced(hash).into()),
            }
            swallowed.push(hash);
        }
        if !fits(&entries) {
            return Ok(None);
        }
        self.removed.append(&mut swallowed);
        Ok(Some(entries))
    }

    fn apply_to_entries(
        &mut self,
        old: &[Entry],
        edits: &[(Key, Edit<'_>)],
    ) -> Result<Vec<Entry>, UpdateError<S::Error>> {
        let mut kept: Vec<Option<Entry>> = old.iter().cloned().map(Some).collect();
        let mut come = Vec::with_capacity(edits.len());
        for &(_, edit) in edits {
            let (found, entry) = match edit {
                Edit::Folder { name, folder } => self.apply_to_folder(old, name, folder)?,
                Edit::Note { name, leaf } => {
                    let make =
                        |hash| Entry::Note { name: name.into(), note: leaf.note, leaf: hash };
                    apply_to_leaf(old, leaf, make)?
                }
                Edit::Gone { leaf } => {
                    apply_to_leaf(old, leaf, |hash| Entry::Gone { note: leaf.note, leaf: hash })?
                }
            };
            match found {
                Some(at) => kept[at] = entry,
                None => come.extend(entry),
            }
        }
        Ok(kept.into_iter().flatten().chain(come).collect())
    }

    fn apply_to_folder(
        &mut self,
        old: &[Entry],
        name: &str,
        folder: &Folder<'_>,
    ) -> Result<Outcome, UpdateError<S::Error>> {
        let dir = |top| Entry::Dir { name: name.into(), top };
        let probe = dir(NodeHash::from_bytes([0; 32]));
        let found = place_of(old, &probe);
        let top = found.and_then(|at| match old[at] {
            Entry::Dir { top, .. } => Some(top),
            Entry::Note { .. } | Entry::Gone { .. } => None,
        });
        Ok((found, self.folder(top, folder)?.map(dir)))
    }

    /// A node of entries in any order.
    fn build(&mut self, entries: Vec<Entry>, depth: usize) -> Fresh {
        if entries.is_empty() {
            return Fresh::Empty;
        }
        if entries.len() <= FANOUT {
            return Fresh::Bucket(entries);
        }
        let keyed: Vec<_> = entries.into_iter().map(|entry| (entry.key(), entry)).collect();
        self.build_keyed(keyed, depth)
    }

    fn build_keyed(&mut self, entries: Vec<(Key, Entry)>, depth: usize) -> Fresh {
        if is_bucket(entries.len(), entries.iter().map(|(key, _)| *key)) {
            return Fresh::Bucket(entries.into_iter().map(|(_, entry)| entry).collect());
        }
        let mut groups = [const { Vec::new() }; FANOUT];
        for entry in entries {
            groups[entry.0.digit(depth)].push(entry);
        }
        let mut children = Box::new([None; FANOUT]);
        for (slot, group) in children.iter_mut().zip(groups) {
            if !group.is_empty() {
                let fresh = self.build_keyed(group, depth + 1);
                *slot = self.seal(fresh);
            }
        }
        Fresh::Branch(children)
    }

    fn seal(&mut self, fresh: Fresh) -> Option<NodeHash> {
        let node = match fresh {
            Fresh::Empty => return None,
            Fresh::Bucket(mut entries) => {
                entries.sort_unstable_by(|a, b| a.order().cmp(&b.order()));
                Node::Bucket(entries)
            }
            Fresh::Branch(children) => Node::Branch(children),
        };
        Some(self.write(&node))
    }

    fn write(&mut self, node: &Node) -> NodeHash {
        let bytes = node.encode();
        let hash = node::hash_encoded(&bytes);
        self.added.push((hash, bytes));
        hash
    }

    /// A node that went in one place and came in another (a renamed folder) did neither.
    fn finish(self, root: RootHash) -> Updated {
        let Self { mut added, mut removed, .. } = self;
        let old: HashSet<NodeHash> = removed.iter().copied().collect();
        let new: HashSet<NodeHash> =
            added.iter().map(|(hash, _)| *hash).filter(|hash| old.contains(hash)).collect();
        added.retain(|(hash, _)| !new.contains(hash));
        removed.retain(|hash| !new.contains(hash));
        Updated { root, added, removed }
    }
}

/// Where the entry of this name is, if it is there. The search's error only says where it would go,
/// which is of no use: what is new is put in order afterwards.
fn place_of(entries: &[Entry], probe: &Entry) -> Option<usize> {
    entries.binary_search_by(|entry| entry.order().cmp(&probe.order())).ok()
}

fn fits(entries: &[Entry]) -> bool {
    is_bucket(entries.len(), entries.iter().map(Entry::key))
}

fn apply_to_leaf<E: Error>(
    old: &[Entry],
    edit: LeafEdit,
    make: impl Fn(LeafHash) -> Entry,
) -> Result<Outcome, UpdateError<E>> {
    let probe = make(LeafHash::from_bytes([0; 32]));
    let found = place_of(old, &probe);
    let present = found.and_then(|at| match old[at] {
        Entry::Note { leaf, .. } | Entry::Gone { leaf, .. } => Some(leaf),
        Entry::Dir { .. } => None,
    });
    if present != edit.old {
        return Err(UpdateError::Stale(edit.note));
    }
    Ok((found, edit.new.map(make)))
}
