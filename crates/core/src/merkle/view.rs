//! A tree seen at any position, whether or not it has a node exactly there.
//!
//! Invariant: what is at a position depends on the set of leaves below it alone. A bucket seen
//! from deeper down is the bucket of those of its entries that belong there, with the hash that
//! a node of these entries would have.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use crate::id::{NodeHash, Tag};
use crate::limits::FANOUT;
use crate::merkle::TreeRead;
use crate::merkle::node::{Entry, Key, Node, Root};
use crate::merkle::read::{Leaves, Read, ReadError, dir_top, load};
use crate::vault_path::VaultPath;

/// What is at a position.
#[derive(Clone)]
pub(super) enum View {
    /// No leaf is below.
    Absent,
    /// A node of the tree.
    Stored(NodeHash, Arc<Node>),
    /// Some of the entries of a bucket higher up; at least one.
    Part(Vec<Entry>),
}

impl View {
    /// The top of a trie.
    pub(super) fn top<S: TreeRead>(tree: &S, top: Option<NodeHash>) -> Read<Self, S> {
        let Some(hash) = top else { return Ok(Self::Absent) };
        let node = load(tree, &hash)?;
        match *node {
            Node::Root(_) => Err(ReadError::Misplaced(hash)),
            Node::Branch(_) | Node::Bucket(_) => Ok(Self::Stored(hash, node)),
        }
    }

    /// Of a bucket, the part whose keys are like that.
    fn part(&self, belongs: impl Fn(&Key) -> bool) -> Self {
        let entries = self.entries().unwrap_or_default();
        let part: Vec<_> = entries.iter().filter(|entry| belongs(&entry.key())).cloned().collect();
        match part.len() {
            0 => Self::Absent,
            len if len == entries.len() => self.clone(),
            _ => Self::Part(part),
        }
    }

    /// The tags of the children of this view at `depth` (below 64), without reading the
    /// children.
    pub(super) fn child_tags(&self, depth: usize) -> [Option<Tag>; FANOUT] {
        if let Some(children) = self.branch() {
            return children.map(|child| child.map(|hash| hash.tag()));
        }
        let mut parts = [const { Vec::new() }; FANOUT];
        let entries = self.entries().unwrap_or_default();
        for entry in entries {
            parts[entry.key().digit(depth)].push(entry.clone());
        }
        parts.map(|part| match part.len() {
            0 => None,
            len if len == entries.len() => self.tag(),
            _ => Self::Part(part).tag(),
        })
    }

    /// The tag of the node that is here, or would be.
    pub(super) fn tag(&self) -> Option<Tag> {
        match self {
            Self::Absent => None,
            Self::Stored(hash, _) => Some(hash.tag()),
            Self::Part(entries) => Some(Node::Bucket(entries.clone()).hash().tag()),
        }
    }

    /// All entries below in this trie, in [`Entry::order`]; folders among them stay closed.
    pub(super) fn all_entries<S: TreeRead>(&self, tree: &S) -> Read<Vec<Entry>, S> {
        let mut entries = Vec::new();
        let mut pending = vec![self.clone()];
        while let Some(view) = pending.pop() {
            match view.branch() {
                None => entries.extend_from_slice(view.entries().unwrap_or_default()),
                Some(children) => {
                    for &child in children.iter().flatten() {
                        pending.push(Self::top(tree, Some(child))?);
                    }
                }
            }
        }
        entries.sort_unstable_by(|a, b| a.order().cmp(&b.order()));
        Ok(entries)
    }

    /// The children of a branch, `None` for anything else.
    pub(super) fn branch(&self) -> Option<&[Option<NodeHash>; FANOUT]> {
        match self {
            Self::Stored(_, node) => match &**node {
                Node::Branch(children) => Some(children),
                Node::Bucket(_) | Node::Root(_) => None,
            },
            Self::Absent | Self::Part(_) => None,
        }
    }

    /// The entries of a bucket or of nothing, `None` for a branch.
    pub(super) fn entries(&self) -> Option<&[Entry]> {
        match self {
            Self::Absent => Some(&[]),
            Self::Part(entries) => Some(entries),
            Self::Stored(_, node) => match &**node {
                Node::Bucket(entries) => Some(entries),
                Node::Branch(_) | Node::Root(_) => None,
            },
        }
    }

    /// All leaves below.
    pub(super) fn leaves<'t, S: TreeRead>(&self, tree: &'t S, area: &Area) -> Leaves<'t, S> {
        let folder = area.folder();
        match self {
            Self::Absent => Leaves::of_entries(tree, folder, &[]),
            Self::Part(entries) => Leaves::of_entries(tree, folder, entries),
            Self::Stored(hash, _) => Leaves::below(tree, folder.cloned(), Some(*hash)),
        }
    }
}

/// Finds views, and remembers the way to the folders it has been to.
pub(super) struct Finder<'t, S> {
    tree: &'t S,
    root: &'t Root,
    tops: RefCell<HashMap<VaultPath, Option<NodeHash>>>,
}

impl<'t, S: TreeRead> Finder<'t, S> {
    pub(super) fn new(tree: &'t S, root: &'t Root) -> Self {
        Self { tree, root, tops: RefCell::default() }
    }

    pub(super) fn tree(&self) -> &'t S {
        self.tree
    }

    /// What is at `digits` of the trie of `area`.
    pub(super) fn view(&self, area: &Area, digits: &[u8]) -> Read<View, S> {
        let top = match area {
            Area::Tombstones => self.root.tombstones,
            Area::Folder(None) => self.root.live,
            Area::Folder(Some(folder)) => self.folder(folder)?,
        };
        let mut view = View::top(self.tree, top)?;
        for &digit in digits {
            match view.branch() {
                Some(children) => view = View::top(self.tree, children[usize::from(digit)])?,
                None => return Ok(view.part(|key| key.starts_with(digits))),
            }
        }
        Ok(view)
    }

    fn folder(&self, folder: &VaultPath) -> Read<Option<NodeHash>, S> {
        if let Some(top) = self.tops.borrow().get(folder) {
            return Ok(*top);
        }
        let above = match folder.parent() {
            Some(parent) => self.folder(&parent)?,
            None => self.root.live,
        };
        let top = dir_top(self.tree, above, folder.name())?;
        self.tops.borrow_mut().insert(folder.clone(), top);
        Ok(top)
    }
}

/// One trie of a tree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Area {
    /// The trie of a folder, `None` for the vault's own.
    Folder(Option<VaultPath>),
    /// The trie of the tombstones.
    Tombstones,
}

impl Area {
    /// The folder; `None` for the vault's top and for tombstones.
    pub fn folder(&self) -> Option<&VaultPath> {
        match self {
            Self::Folder(folder) => folder.as_ref(),
            Self::Tombstones => None,
        }
    }
}
