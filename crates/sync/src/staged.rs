//! A store as it will be once a batch is committed: reads see through to the store, writes
//! gather in the batch. Both roles of a round work on this.
//!
//! Invariant: heads follow from versions by `core::heads`, the tree from heads; nobody sets them.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crucible_core::ancestry::VersionRead;
use crucible_core::conflict::Conflict;
use crucible_core::hash::ContentHash;
use crucible_core::heads;
use crucible_core::id::{ConflictId, NodeHash, NoteId, RootHash, VersionId};
use crucible_core::merkle::node::Node;
use crucible_core::merkle::{Change, Leaf, ReadError, TreeRead, UpdateError, update};
use crucible_core::timestamp::Stamp;
use crucible_core::vault_path::VaultPath;
use crucible_core::version::{State, Version};
use crucible_core::view::{self, Outcome, Policy, Source};
use crucible_proto::zip;

use crate::repo::{Batch, Body, NewContent, Pack, PackPlace, Repo};

/// Why the engine could not go on. All of it is about this side's own store.
#[derive(Debug, thiserror::Error)]
pub enum EngineError<E: std::error::Error + Send + Sync + 'static> {
    /// The store could not be read.
    #[error(transparent)]
    Repo(E),
    /// The tree in the store is damaged.
    #[error("the tree of the vault is damaged: {0}")]
    Tree(String),
    /// A version that a head, file or parent names is not in the store.
    #[error("version {0} is missing from the store")]
    Dangling(VersionId),
    /// Content that a head, file or unsent version names is not in the store.
    #[error("the content {0} is missing from the store")]
    Bytes(ContentHash),
}

impl<E: std::error::Error + Send + Sync + 'static> From<UpdateError<TreeError<E>>>
    for EngineError<E>
{
    fn from(error: UpdateError<TreeError<E>>) -> Self {
        match error {
            UpdateError::Read(ReadError::Store(TreeError::Repo(error))) => Self::Repo(error),
            other => Self::Tree(other.to_string()),
        }
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<ReadError<TreeError<E>>>
    for EngineError<E>
{
    fn from(error: ReadError<TreeError<E>>) -> Self {
        match error {
            ReadError::Store(TreeError::Repo(error)) => Self::Repo(error),
            other => Self::Tree(other.to_string()),
        }
    }
}

/// Why a node could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TreeError<E: std::error::Error + Send + Sync + 'static> {
    /// The store could not be read.
    #[error(transparent)]
    Repo(E),
    /// The bytes are no node, or not the one that was asked for.
    #[error("node {0} is damaged")]
    Damaged(NodeHash),
}

/// The tree in a store.
pub struct Tree<'r, R>(pub &'r R);

impl<R: Repo> TreeRead for Tree<'_, R> {
    type Error = TreeError<R::Error>;
    fn node(&self, hash: &NodeHash) -> Result<Option<Arc<Node>>, Self::Error> {
        let Some(bytes) = self.0.node(hash).map_err(TreeError::Repo)? else { return Ok(None) };
        let node = Node::decode(&bytes).map_err(|_| TreeError::Damaged(*hash))?;
        if node.hash() != *hash {
            return Err(TreeError::Damaged(*hash));
        }
        Ok(Some(Arc::new(node)))
    }
}

/// The tree in a store that does not change meanwhile: each node is read and checked once, which
/// is what makes looking up every note of a first sync affordable.
pub struct StillTree<'r, R> {
    tree: Tree<'r, R>,
    seen: RefCell<HashMap<NodeHash, Arc<Node>>>,
}

impl<'r, R: Repo> StillTree<'r, R> {
    /// The tree as it is now.
    pub fn new(repo: &'r R) -> Self {
        Self { tree: Tree(repo), seen: RefCell::default() }
    }
}

impl<R: Repo> TreeRead for StillTree<'_, R> {
    type Error = TreeError<R::Error>;
    fn node(&self, hash: &NodeHash) -> Result<Option<Arc<Node>>, Self::Error> {
        if let Some(node) = self.seen.borrow().get(hash) {
            return Ok(Some(node.clone()));
        }
        let node = self.tree.node(hash)?;
        if let Some(node) = &node {
            self.seen.borrow_mut().insert(*hash, node.clone());
        }
        Ok(node)
    }
}

/// What merging a note's heads came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merging {
    /// There was one head already, or none.
    Nothing,
    /// A merge version is the head now; this many conflicts were recorded.
    Merged(usize),
    /// Something the merge needs is not here: the other side merges.
    Deferred,
}

/// A store and a batch on top.
pub struct Staged<'r, R: Repo> {
    repo: &'r R,
    versions: BTreeMap<VersionId, Arc<Version>>,
    contents: BTreeMap<ContentHash, Arc<[u8]>>,
    heads: BTreeMap<NoteId, Vec<VersionId>>,
    batch: Batch,
    has_open_pack: bool,
}

type Fallible<T, R> = Result<T, EngineError<<R as Repo>::Error>>;

impl<'r, R: Repo> Staged<'r, R> {
    /// With an empty batch.
    pub fn new(repo: &'r R) -> Self {
        Self {
            repo,
            versions: BTreeMap::new(),
            contents: BTreeMap::new(),
            heads: BTreeMap::new(),
            batch: Batch::default(),
            has_open_pack: false,
        }
    }

    /// The store below.
    pub fn repo(&self) -> &'r R {
        self.repo
    }

    /// A version, staged or stored.
    pub fn version(&self, id: &VersionId) -> Fallible<Option<Arc<Version>>, R> {
        match self.versions.get(id) {
            Some(version) => Ok(Some(version.clone())),
            None => self.repo.version(id).map_err(EngineError::Repo),
        }
    }

    /// A version that must be there.
    pub fn known_version(&self, id: &VersionId) -> Fallible<Arc<Version>, R> {
        self.version(id)?.ok_or(EngineError::Dangling(*id))
    }

    /// Content, staged or stored.
    pub fn content(&self, hash: &ContentHash) -> Fallible<Option<Arc<[u8]>>, R> {
        match self.contents.get(hash) {
            Some(bytes) => Ok(Some(bytes.clone())),
            None => self.repo.content(hash).map_err(EngineError::Repo),
        }
    }

    /// Where stored content lies in a pack; what is only staged lies in none yet.
    pub fn pack_place(&self, hash: &ContentHash) -> Fallible<Option<PackPlace>, R> {
        self.repo.pack_place(hash).map_err(EngineError::Repo)
    }

    /// Whether content is staged or stored, also as a blob.
    pub fn has_content(&self, hash: &ContentHash) -> Fallible<bool, R> {
        if self.contents.contains_key(hash) {
            return Ok(true);
        }
        self.repo.has_content(hash).map_err(EngineError::Repo)
    }

    /// Whether content that is no blob is staged or stored.
    pub fn has_inline(&self, hash: &ContentHash) -> Fallible<bool, R> {
        if self.contents.contains_key(hash) {
            return Ok(true);
        }
        self.repo.has_inline(hash).map_err(EngineError::Repo)
    }

    /// The heads of a note, staged or stored; sorted.
    pub fn heads(&self, note: &NoteId) -> Fallible<Vec<VersionId>, R> {
        match self.heads.get(note) {
            Some(heads) => Ok(heads.clone()),
            None => self.repo.heads(note).map_err(EngineError::Repo),
        }
    }

    /// The staged versions whose id begins with `prefix`, then the stored ones; at most two.
    pub fn versions_by_prefix(&self, prefix: &[u8; 8]) -> Fallible<Vec<VersionId>, R> {
        let mut low = [0; 32];
        low[..8].copy_from_slice(prefix);
        let mut high = [0xff; 32];
        high[..8].copy_from_slice(prefix);
        let range = VersionId::from_bytes(low)..=VersionId::from_bytes(high);
        let mut found: Vec<_> = self.versions.range(range).map(|(id, _)| *id).take(2).collect();
        found.extend(self.repo.versions_by_prefix(prefix).map_err(EngineError::Repo)?);
        found.sort_unstable();
        found.dedup();
        found.truncate(2);
        Ok(found)
    }

    /// Stages a pack; its number goes into [`Body::Packed`].
    pub fn put_pack(&mut self, pack: Pack) -> usize {
        self.batch.packs.push(pack);
        self.batch.packs.len() - 1
    }

    /// The number of the pack being filled; opens one when there is none.
    pub fn open_pack(&mut self) -> usize {
        if !self.has_open_pack {
            self.has_open_pack = true;
            self.batch.packs.push(Pack { raw_bytes: 0, frame: Vec::new() });
        }
        self.batch.packs.len() - 1
    }

    /// Closes the pack that [`Self::open_pack`] opened, with what it came to hold.
    ///
    /// # Panics
    /// When none is open.
    pub fn close_pack(&mut self, pack: Pack) {
        assert!(self.has_open_pack, "only an open pack can be closed");
        self.has_open_pack = false;
        *self.batch.packs.last_mut().expect("an open pack is in the batch") = pack;
    }

    /// Whether a pack is open.
    pub fn has_open_pack(&self) -> bool {
        self.has_open_pack
    }

    /// Stages bytes whose hash the caller has verified; known content stays as it is.
    pub fn put_content(
        &mut self,
        hash: ContentHash,
        bytes: Arc<[u8]>,
        body: Body,
    ) -> Fallible<(), R> {
        if self.contents.contains_key(&hash) {
            return Ok(());
        }
        if !self.repo.has_inline(&hash).map_err(EngineError::Repo)? {
            let size = u32::try_from(bytes.len()).expect("inline content is bounded");
            self.batch.contents.push(NewContent { hash, bytes: size, body });
        }
        self.contents.insert(hash, bytes);
        Ok(())
    }

    /// Stages bytes made here: as a delta to `base` where that is known and pays, else whole.
    pub fn put_new_content(
        &mut self,
        hash: ContentHash,
        bytes: Arc<[u8]>,
        base: Option<&ContentHash>,
    ) -> Fallible<(), R> {
        if self.has_inline(&hash)? {
            return Ok(());
        }
        if let Some(base) = base
            && let Some(old) = self.content(base)?
        {
            let frame = zip::delta(&old, &bytes);
            if frame.len() * 2 < bytes.len() {
                return self.put_content(hash, bytes, Body::Delta { base: *base, frame });
            }
        }
        let frame = zip::zip(&bytes);
        self.put_content(hash, bytes, Body::Whole(frame))
    }

    /// Stages a version and moves the heads of its note. `false` when it was known already.
    pub fn put_version(&mut self, version: Version) -> Fallible<(VersionId, bool), R> {
        let id = version.id();
        if self.version(&id)?.is_some() {
            return Ok((id, false));
        }
        let note = version.note;
        let before = self.heads(&note)?;
        let version = Arc::new(version);
        self.versions.insert(id, version.clone());
        self.batch.versions.push((id, version));
        let after = heads::add(self, &before, id)?;
        self.heads.insert(note, after);
        Ok((id, true))
    }

    /// Takes back stored versions that nobody else has, and works out their notes' heads anew
    /// from what remains. Their parents must be known: what they replaced is found through those;
    /// but a merge that one of them made redundant need not be among these.
    pub fn drop_versions(&mut self, dropped: &[VersionId]) -> Fallible<(), R> {
        let mut notes: BTreeMap<NoteId, Vec<VersionId>> = BTreeMap::new();
        for id in dropped {
            let version = self.known_version(id)?;
            let candidates = notes.entry(version.note).or_default();
            candidates.extend(&version.parents);
        }
        for (note, mut candidates) in notes {
            candidates.extend(self.heads(&note)?);
            candidates.extend(self.merges_of(&note)?);
            candidates.retain(|id| !dropped.contains(id));
            let mut rebuilt = Vec::new();
            for id in candidates {
                if self.version(&id)?.is_some() {
                    rebuilt = heads::add(self, &rebuilt, id)?;
                }
            }
            self.heads.insert(note, rebuilt);
        }
        self.batch.dropped.extend(dropped);
        Ok(())
    }

    fn merges_of(&self, note: &NoteId) -> Fallible<Vec<VersionId>, R> {
        let mut merges = Vec::new();
        for id in self.repo.versions_of(note).map_err(EngineError::Repo)? {
            if self.version(&id)?.is_some_and(|version| version.is_merge()) {
                merges.push(id);
            }
        }
        Ok(merges)
    }

    /// Opens conflict records.
    pub fn put_conflicts(&mut self, conflicts: impl IntoIterator<Item = Conflict>) {
        self.batch.conflicts.extend(conflicts);
    }

    /// Closes conflict records.
    pub fn close_conflicts(&mut self, ids: impl IntoIterator<Item = ConflictId>) {
        self.batch.closed.extend(ids);
    }

    /// Commits the view over a note's heads as a merge version, where it has several.
    pub fn merge_heads(&mut self, note: &NoteId, policy: Policy<'_>) -> Fallible<Merging, R> {
        let mut conflicts = 0;
        let mut merged = false;
        loop {
            let mut heads = self.heads(note)?;
            if heads.len() < 2 {
                return Ok(if merged { Merging::Merged(conflicts) } else { Merging::Nothing });
            }
            heads.truncate(crucible_core::limits::PARENTS_MAX);
            let Outcome::Made(view) = view::view(self, &heads, policy)? else {
                return Ok(Merging::Deferred);
            };
            let Some(version) = view::merge_version(self, &heads, view.state.clone())? else {
                return Ok(Merging::Deferred);
            };
            if let (Some(text), Some(live)) = (&view.text, view.state.live()) {
                let base = self.content_of_newest(&heads)?;
                self.put_new_content(live.content, text.as_bytes().into(), base.as_ref())?;
            }
            let records = view::conflicts(&version.id(), &version, &view.choices);
            conflicts += records.len();
            self.put_version(version)?;
            self.put_conflicts(records);
            merged = true;
        }
    }

    /// Opens the records of a merge version that another side made: what it chose follows from its
    /// parents, so that a merge made on a device tells of its losers everywhere.
    pub fn record_choices(&mut self, id: &VersionId, policy: Policy<'_>) -> Fallible<(), R> {
        let version = self.known_version(id)?;
        if !version.is_merge() {
            return Ok(());
        }
        for parent in &version.parents {
            if self.version(parent)?.is_none() {
                return Ok(());
            }
        }
        if let Outcome::Made(view) = view::view(self, &version.parents, policy)? {
            self.put_conflicts(view::conflicts(id, &version, &view.choices));
        }
        Ok(())
    }

    fn content_of_newest(&self, heads: &[VersionId]) -> Fallible<Option<ContentHash>, R> {
        let mut newest: Option<(Stamp, ContentHash)> = None;
        for id in heads {
            let version = self.known_version(id)?;
            if let Some(live) = version.live() {
                newest = newest.max(Some((version.stamp, live.content)));
            }
        }
        Ok(newest.map(|(_, content)| content))
    }

    /// The notes whose heads this batch moves.
    pub fn touched(&self) -> Vec<NoteId> {
        self.heads.keys().copied().collect()
    }

    /// The new tree and the finished batch. Heads that ended where they began are left out.
    ///
    /// # Panics
    /// When a pack is still open.
    pub fn finish(mut self) -> Fallible<Batch, R> {
        assert!(!self.has_open_pack, "packs are closed before they are stored");
        let mut changes = Vec::with_capacity(self.heads.len());
        let heads = std::mem::take(&mut self.heads);
        for (note, after) in heads {
            let before = self.repo.heads(&note).map_err(EngineError::Repo)?;
            if before == after {
                continue;
            }
            let old = leaf(&self, &note, &before)?;
            let new = leaf(&self, &note, &after)?;
            changes.push(Change { note, old, new });
            self.batch.heads.push((note, after));
        }
        let root = self.repo.root().map_err(EngineError::Repo)?;
        if !changes.is_empty() {
            let updated = update(&Tree(self.repo), root.as_ref(), &changes)?;
            self.batch.nodes_added = updated.added;
            self.batch.nodes_removed = updated.removed;
            self.batch.root = Some(updated.root);
        }
        Ok(self.batch)
    }
}

/// The root after `batch` on top of `repo`.
pub fn root_after<R: Repo>(repo: &R, batch: &Batch) -> Result<Option<RootHash>, R::Error> {
    match batch.root {
        Some(root) => Ok(Some(root).filter(|root| *root != RootHash::empty())),
        None => repo.root(),
    }
}

/// The place of a note in the tree: its newest live head's path, whatever it is merged to later.
fn leaf<R: Repo>(
    staged: &Staged<'_, R>,
    note: &NoteId,
    heads: &[VersionId],
) -> Fallible<Option<Leaf>, R> {
    let mut place: Option<(Stamp, VersionId, VaultPath)> = None;
    for id in heads {
        let version = staged.known_version(id)?;
        if let State::Live(live) = &version.state {
            place = place.max(Some((version.stamp, *id, live.path.clone())));
        }
    }
    Ok(match place {
        Some((_, _, path)) => Some(Leaf::live(path, note, heads)),
        None if heads.is_empty() => None,
        None => Some(Leaf::tombstone(note, heads)),
    })
}

impl<R: Repo> VersionRead for Staged<'_, R> {
    type Error = EngineError<R::Error>;
    fn version(&self, id: &VersionId) -> Result<Option<Arc<Version>>, Self::Error> {
        Self::version(self, id)
    }
}

impl<R: Repo> Source for Staged<'_, R> {
    fn text(&self, content: &ContentHash) -> Result<Option<Arc<str>>, Self::Error> {
        let Some(bytes) = self.content(content)? else { return Ok(None) };
        Ok(std::str::from_utf8(&bytes).ok().map(Into::into))
    }

    fn with_content(
        &self,
        note: &NoteId,
        content: &ContentHash,
    ) -> Result<Vec<VersionId>, Self::Error> {
        self.repo.versions_with_content(note, content).map_err(EngineError::Repo)
    }
}
