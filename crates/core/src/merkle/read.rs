//! Reading a tree: one name, one folder, everything below.
//!
//! Invariant: a question about one path reads only the nodes on the way to it, and in an order
//! that depends on the answer alone; proofs rest on that.

use std::error::Error;
use std::sync::Arc;

use crate::hash::{Domain, keyed};
use crate::id::{FolderRoot, LeafHash, NodeHash, NoteId, RootHash};
use crate::merkle::node::{Entry, KEY_DIGITS, Key, Node, Root};
use crate::merkle::{Leaf, Place, TreeRead};
use crate::vault_path::{PathError, VaultPath};

/// Why a tree cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError<E: Error + 'static> {
    /// The store failed.
    #[error("the tree's store failed")]
    Store(#[source] E),
    /// The store lacks a node of the tree.
    #[error("the tree's node {0} is missing")]
    Missing(NodeHash),
    /// A node is of a kind that cannot be where it is, or holds what does not belong there.
    #[error("the tree's node {0} does not belong where it is")]
    Misplaced(NodeHash),
    /// A note has two leaves.
    #[error("the tree holds note {0} in two places")]
    Twice(NoteId),
    /// A name in the tree is none a vault can hold.
    #[error("the tree holds a name that {0}")]
    Path(#[from] PathError),
}

pub(super) type Read<T, S> = Result<T, ReadError<<S as TreeRead>::Error>>;

impl Root {
    /// The root of the vault's top folder.
    pub fn folder_root(&self) -> FolderRoot {
        folder_root_of(self.live)
    }
}

impl RootHash {
    /// The root of a vault in which there never was a note.
    pub fn empty() -> Self {
        Self::from_bytes(*Node::Root(Root::default()).hash().as_bytes())
    }

    /// The hash under which the root's node is stored.
    pub const fn node(&self) -> NodeHash {
        NodeHash::from_bytes(*self.as_bytes())
    }
}

fn folder_root_of(top: Option<NodeHash>) -> FolderRoot {
    let top = top.map_or([0; 32], |hash| *hash.as_bytes());
    FolderRoot::from_bytes(keyed(Domain::Directory, &[&top]))
}

/// What is under `root`: the tops of the two tries and how many leaves there are. The root of
/// nothing needs no node.
///
/// # Errors
/// [`ReadError`].
pub fn root_of<S: TreeRead>(tree: &S, root: &RootHash) -> Read<Root, S> {
    if *root == RootHash::empty() {
        return Ok(Root::default());
    }
    let hash = root.node();
    match &*load(tree, &hash)? {
        Node::Root(root) => Ok(root.clone()),
        Node::Branch(_) | Node::Bucket(_) => Err(ReadError::Misplaced(hash)),
    }
}

/// The same for a vault that may not have a root yet.
pub(super) fn top_of<S: TreeRead>(tree: &S, root: Option<&RootHash>) -> Read<Root, S> {
    root.map_or_else(|| Ok(Root::default()), |root| root_of(tree, root))
}

pub(super) fn load<S: TreeRead>(tree: &S, hash: &NodeHash) -> Read<Arc<Node>, S> {
    tree.node(hash).map_err(ReadError::Store)?.ok_or(ReadError::Missing(*hash))
}

/// What is at one path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The root of the folder there, `None` if there is none.
    pub folder: Option<FolderRoot>,
    /// The notes there, by id: one, or none, or several that claim the path.
    pub notes: Vec<(NoteId, LeafHash)>,
}

/// Looks up what is at `path`.
///
/// # Errors
/// [`ReadError`].
pub fn lookup<S: TreeRead>(tree: &S, root: &RootHash, path: &VaultPath) -> Read<Found, S> {
    let top = folder_top(tree, root_of(tree, root)?.live, path.parent().as_ref())?;
    let mut found = Found::default();
    let bucket = bucket_of(tree, top, &Key::of_name(path.name()))?;
    for entry in entries_of(bucket.as_deref()) {
        match entry {
            Entry::Dir { name, top } if **name == *path.name() => {
                found.folder = Some(folder_root_of(Some(*top)));
            }
            Entry::Note { name, note, leaf } if **name == *path.name() => {
                found.notes.push((*note, *leaf));
            }
            Entry::Dir { .. } | Entry::Note { .. } | Entry::Gone { .. } => {}
        }
    }
    Ok(found)
}

/// Looks up the tombstone of `note`.
///
/// # Errors
/// [`ReadError`].
pub fn lookup_tombstone<S: TreeRead>(
    tree: &S,
    root: &RootHash,
    note: &NoteId,
) -> Read<Option<LeafHash>, S> {
    let top = root_of(tree, root)?.tombstones;
    let bucket = bucket_of(tree, top, &Key::of_tombstone(note))?;
    Ok(entries_of(bucket.as_deref()).iter().find_map(|entry| match entry {
        Entry::Gone { note: gone, leaf } if gone == note => Some(*leaf),
        Entry::Gone { .. } | Entry::Dir { .. } | Entry::Note { .. } => None,
    }))
}

/// The root of the folder at `path`, `None` if there is no such folder.
///
/// # Errors
/// [`ReadError`].
pub fn folder_root<S: TreeRead>(
    tree: &S,
    root: &RootHash,
    path: &VaultPath,
) -> Read<Option<FolderRoot>, S> {
    Ok(lookup(tree, root, path)?.folder)
}

/// The top node of the trie of `folder`, which `None` means the whole vault.
pub(super) fn folder_top<S: TreeRead>(
    tree: &S,
    live: Option<NodeHash>,
    folder: Option<&VaultPath>,
) -> Read<Option<NodeHash>, S> {
    let mut top = live;
    for component in folder.iter().flat_map(|folder| folder.components()) {
        top = dir_top(tree, top, component)?;
    }
    Ok(top)
}

/// The top node of the folder `name` in the trie under `top`.
pub(super) fn dir_top<S: TreeRead>(
    tree: &S,
    top: Option<NodeHash>,
    name: &str,
) -> Read<Option<NodeHash>, S> {
    let bucket = bucket_of(tree, top, &Key::of_name(name))?;
    Ok(entries_of(bucket.as_deref()).iter().find_map(|entry| match entry {
        Entry::Dir { name: dir, top } if **dir == *name => Some(*top),
        Entry::Dir { .. } | Entry::Note { .. } | Entry::Gone { .. } => None,
    }))
}

/// The bucket that `key` leads to, if it leads anywhere.
fn bucket_of<S: TreeRead>(
    tree: &S,
    top: Option<NodeHash>,
    key: &Key,
) -> Read<Option<Arc<Node>>, S> {
    let mut next = top;
    for depth in 0..=KEY_DIGITS {
        let Some(hash) = next else { return Ok(None) };
        let node = load(tree, &hash)?;
        match &*node {
            Node::Branch(children) if depth < KEY_DIGITS => next = children[key.digit(depth)],
            Node::Bucket(_) => return Ok(Some(node)),
            Node::Branch(_) | Node::Root(_) => return Err(ReadError::Misplaced(hash)),
        }
    }
    Ok(None)
}

fn entries_of(bucket: Option<&Node>) -> &[Entry] {
    match bucket {
        Some(Node::Bucket(entries)) => entries,
        Some(Node::Branch(_) | Node::Root(_)) | None => &[],
    }
}

/// All live leaves below `folder` (`None`: of the vault), in the order of the trie.
///
/// # Errors
/// [`ReadError`], here or as an item.
pub fn iter_live<'t, S: TreeRead>(
    tree: &'t S,
    root: &RootHash,
    folder: Option<&VaultPath>,
) -> Read<Leaves<'t, S>, S> {
    let top = folder_top(tree, root_of(tree, root)?.live, folder)?;
    Ok(Leaves::below(tree, folder.cloned(), top))
}

/// All tombstones, in the order of the trie.
///
/// # Errors
/// [`ReadError`], here or as an item.
pub fn iter_tombstones<'t, S: TreeRead>(tree: &'t S, root: &RootHash) -> Read<Leaves<'t, S>, S> {
    Ok(Leaves::below(tree, None, root_of(tree, root)?.tombstones))
}

/// Iterates over leaves; reads nodes as it goes.
pub struct Leaves<'t, S> {
    tree: &'t S,
    pending: Vec<Pending>,
}

enum Pending {
    Node(Option<VaultPath>, NodeHash),
    Entry(Option<VaultPath>, Entry),
}

impl<'t, S: TreeRead> Leaves<'t, S> {
    pub(super) fn below(tree: &'t S, folder: Option<VaultPath>, top: Option<NodeHash>) -> Self {
        let pending = top.map(|hash| Pending::Node(folder, hash)).into_iter().collect();
        Self { tree, pending }
    }

    pub(super) fn of_entries<'e>(
        tree: &'t S,
        folder: Option<&VaultPath>,
        entries: impl IntoIterator<Item = &'e Entry>,
    ) -> Self {
        let entries = entries.into_iter();
        let pending = entries.map(|entry| Pending::Entry(folder.cloned(), entry.clone()));
        Self { tree, pending: pending.collect() }
    }

    fn open(&mut self, folder: Option<VaultPath>, hash: NodeHash) -> Read<(), S> {
        match &*load(self.tree, &hash)? {
            Node::Root(_) => return Err(ReadError::Misplaced(hash)),
            Node::Branch(children) => {
                let children = children.iter().rev().flatten();
                self.pending.extend(children.map(|&child| Pending::Node(folder.clone(), child)));
            }
            Node::Bucket(entries) => {
                let entries = entries.iter().rev().cloned();
                self.pending.extend(entries.map(|entry| Pending::Entry(folder.clone(), entry)));
            }
        }
        Ok(())
    }
}

impl<S: TreeRead> Iterator for Leaves<'_, S> {
    type Item = Read<(NoteId, Leaf), S>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let opened = match self.pending.pop()? {
                Pending::Node(folder, hash) => self.open(folder, hash),
                Pending::Entry(folder, Entry::Dir { name, top }) => child(folder.as_ref(), &name)
                    .map(|folder| self.pending.push(Pending::Node(Some(folder), top)))
                    .map_err(ReadError::Path),
                Pending::Entry(folder, Entry::Note { name, note, leaf }) => {
                    let path = child(folder.as_ref(), &name).map_err(ReadError::Path);
                    return Some(
                        path.map(|path| (note, Leaf { place: Place::Live(path), hash: leaf })),
                    );
                }
                Pending::Entry(_, Entry::Gone { note, leaf }) => {
                    return Some(Ok((note, Leaf { place: Place::Tombstone, hash: leaf })));
                }
            };
            if let Err(error) = opened {
                return Some(Err(error));
            }
        }
    }
}

/// The path of `name` in `folder`.
pub(super) fn child(folder: Option<&VaultPath>, name: &str) -> Result<VaultPath, PathError> {
    match folder {
        Some(folder) => folder.join(name),
        None => VaultPath::new(name),
    }
}
