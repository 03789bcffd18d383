//! [`MemoryStore`]: the store of a device or of a server in plain maps.
//!
//! Invariant: it does what `crucible_store` does on SQLite, call by call (held by
//! `crates/store/tests/conformance.rs`). A clone shares every table until one side writes to it,
//! so a snapshot for a crash or an old backup costs a few reference counts. A refused batch
//! changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use crucible_core::conflict::Conflict;
use crucible_core::hash::ContentHash;
use crucible_core::id::{ConflictId, NodeHash, NoteId, ReplicaId, RootHash, VersionId};
use crucible_core::vault_path::VaultPath;
use crucible_core::version::Version;
use crucible_proto::zip::{self, UnzipError};
use crucible_store::server_repo::{Origin, Revision, derive_op};
use crucible_sync::replica::{Displaced, FileRow, FileStat, Placing, ReplicaBatch, ReplicaMeta};
use crucible_sync::repo::{Batch, Body, ConflictEvent, ConflictState, Repo, Seq};

use crate::fake_fs::Power;
use crate::simulation::Plant;

mod contract;

/// Why a [`MemoryStore`] refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// The test said so, see [`MemoryStore::set_full`].
    #[error("the disk is full")]
    Full,
    /// A batch breaks a rule of the contract; the text names it.
    #[error("a batch breaks the rule: {0}")]
    Rule(&'static str),
    /// A frame does not decode.
    #[error("content {0} does not decode")]
    Damaged(ContentHash),
    /// The machine it is in has stopped.
    #[error("the machine has crashed")]
    Crashed,
    /// A replica's method on a server's store.
    #[error("this store belongs to no replica")]
    NoReplica,
}

type Result<T> = std::result::Result<T, MemoryError>;

/// A store in memory; a device's when it was made with facts of a replica.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    versions: Arc<BTreeMap<VersionId, (u64, Arc<Version>)>>,
    positions: Arc<BTreeMap<u64, VersionId>>,
    notes: Arc<BTreeMap<NoteId, Note>>,
    newest: Arc<BTreeMap<u64, NoteId>>,
    contents: Arc<BTreeMap<ContentHash, Arc<Stored>>>,
    blobs: Arc<BTreeMap<ContentHash, Arc<[u8]>>>,
    nodes: Arc<BTreeMap<NodeHash, Arc<[u8]>>>,
    roots: Arc<BTreeMap<RootHash, u64>>,
    counters: Arc<BTreeMap<ReplicaId, u64>>,
    conflicts: Arc<BTreeMap<u64, (Arc<Conflict>, ConflictState)>>,
    conflict_positions: Arc<BTreeMap<ConflictId, u64>>,
    origins: Arc<BTreeMap<u64, Origin>>,
    names: Arc<BTreeSet<(VaultPath, NoteId)>>,
    root: Option<RootHash>,
    seq: u64,
    conflict_seq: u64,
    live: u64,
    meta: Option<ReplicaMeta>,
    files: Arc<BTreeMap<VaultPath, FileRow>>,
    file_of: Arc<BTreeMap<NoteId, VaultPath>>,
    unsent: Arc<BTreeSet<VersionId>>,
    /// With the order in which they became so.
    unsettled: Arc<BTreeMap<NoteId, u64>>,
    placing: Arc<BTreeMap<VaultPath, Placing>>,
    displaced: Arc<BTreeMap<String, Displaced>>,
    closed_unsent: Arc<BTreeSet<ConflictId>>,
    power: Power,
    full: bool,
    commits_left: Option<u32>,
    plant: Option<Plant>,
}

/// What is known of one note; `seqs` rises and is never empty.
#[derive(Debug, Clone, Default)]
struct Note {
    heads: Vec<VersionId>,
    seqs: Vec<u64>,
    live: bool,
}

/// The versions there will be once a batch is applied.
struct After<'a> {
    store: &'a MemoryStore,
    new: BTreeMap<&'a VersionId, &'a Arc<Version>>,
    dropped: BTreeSet<&'a VersionId>,
}

impl<'a> After<'a> {
    fn new(store: &'a MemoryStore, batch: &'a Batch) -> Self {
        let new = batch.versions.iter().map(|(id, version)| (id, version)).collect();
        Self { store, new, dropped: batch.dropped.iter().collect() }
    }

    fn version(&self, id: &VersionId) -> Option<&'a Arc<Version>> {
        if self.dropped.contains(id) {
            return None;
        }
        let known = self.store.versions.get(id).map(|(_, version)| version);
        known.or_else(|| self.new.get(id).copied())
    }

    fn has_no_version_of(&self, note: &NoteId) -> bool {
        let old = self.store.notes.get(note).map_or(&[][..], |note| &note.seqs);
        old.iter().all(|seq| self.dropped.contains(&self.store.positions[seq]))
            && self.new.iter().all(|(id, v)| v.note != *note || self.dropped.contains(id))
    }
}

fn add_then_remove<'a, T: Copy + Ord + 'a>(
    set: &mut Arc<BTreeSet<T>>,
    added: impl ExactSizeIterator<Item = &'a T>,
    removed: &[T],
) {
    if added.len() > 0 || !removed.is_empty() {
        let set = Arc::make_mut(set);
        set.extend(added);
        for value in removed {
            set.remove(value);
        }
    }
}

fn rule(holds: bool, text: &'static str) -> Result<()> {
    if holds { Ok(()) } else { Err(MemoryError::Rule(text)) }
}

/// Content as it came, decoded when it is first read.
#[derive(Debug)]
struct Stored {
    bytes: usize,
    form: Form,
    raw: OnceLock<Arc<[u8]>>,
}

#[derive(Debug)]
enum Form {
    Packed { pack: Arc<PackRaw>, offset: usize },
    Delta { base: ContentHash, frame: Vec<u8> },
    Whole(Vec<u8>),
}

impl Stored {
    /// Decodes what rests on nothing else.
    fn decode_alone(&self) -> std::result::Result<Arc<[u8]>, UnzipError> {
        if let Some(raw) = self.raw.get() {
            return Ok(Arc::clone(raw));
        }
        let raw: Arc<[u8]> = match &self.form {
            Form::Whole(frame) => zip::unzip(frame, self.bytes)?.into(),
            Form::Packed { pack, offset } => {
                let end = offset.saturating_add(self.bytes);
                let part = pack.decode()?.get(*offset..end);
                part.ok_or(UnzipError { expected: self.bytes })?.into()
            }
            Form::Delta { .. } => unreachable!("a delta is decoded by its chain"),
        };
        Ok(Arc::clone(self.raw.get_or_init(|| raw)))
    }
}

#[derive(Debug)]
struct PackRaw {
    bytes: usize,
    frame: Vec<u8>,
    raw: OnceLock<Vec<u8>>,
}

impl PackRaw {
    fn decode(&self) -> std::result::Result<&[u8], UnzipError> {
        if let Some(raw) = self.raw.get() {
            return Ok(raw);
        }
        let raw = zip::unzip(&self.frame, self.bytes)?;
        Ok(self.raw.get_or_init(|| raw))
    }
}

impl MemoryStore {
    /// An empty store of a server.
    pub fn server() -> Self {
        Self::default()
    }

    /// An empty store of a device.
    pub fn device(meta: ReplicaMeta) -> Self {
        Self { meta: Some(meta), ..Self::default() }
    }

    /// Puts it into the machine of a disk: it commits nothing once that has stopped.
    pub fn set_power(&mut self, power: Power) {
        self.power = power;
    }

    /// Makes every commit fail until it is set back, as a full disk does.
    pub fn set_full(&mut self, full: bool) {
        self.full = full;
    }

    /// Makes every commit fail after this many more, until [`Self::set_space`].
    pub fn set_full_after(&mut self, commits: u32) {
        self.commits_left = Some(commits);
    }

    /// There is space again.
    pub fn set_space(&mut self) {
        self.full = false;
        self.commits_left = None;
    }

    /// Whether commits fail, or will.
    pub fn is_full(&self) -> bool {
        self.full || self.commits_left.is_some()
    }

    /// Puts a bug in on purpose.
    pub fn plant(&mut self, plant: Option<Plant>) {
        self.plant = plant;
    }

    /// Lets blobs look as if they were here, or not any more.
    pub(crate) fn pretend_blobs(&mut self, hashes: &[ContentHash], here: bool) {
        let blobs = Arc::make_mut(&mut self.blobs);
        for hash in hashes {
            if here {
                blobs.insert(*hash, Arc::default());
            } else {
                blobs.remove(hash);
            }
        }
    }

    /// The newest head in place of what the file was in step with, where that is planted.
    fn row(&self, row: &FileRow) -> FileRow {
        let mut row = row.clone();
        if self.plant == Some(Plant::ParentNewestHead)
            && let Some(note) = self.notes.get(&row.note)
            && let [head] = note.heads.as_slice()
            && self.versions[head].1.live().is_some()
        {
            row.version = *head;
        }
        row
    }

    fn break_as_planted(&mut self, batch: &ReplicaBatch, rounds: u64, ticks: u64) {
        match self.plant {
            Some(Plant::BaseBeforeFile) => {
                for intention in &batch.placing {
                    let version = intention.version.map(|id| self.versions[&id].1.clone());
                    let Some(live) = version.as_ref().and_then(|version| version.live()) else {
                        continue;
                    };
                    self.set_file(&FileRow {
                        disk_path: intention.disk_path.clone(),
                        note: intention.note,
                        version: intention.version.expect("it is live"),
                        content: live.content,
                        kind: live.kind,
                        stat: FileStat::default(),
                        seen_ns: 0,
                    });
                }
            }
            Some(Plant::UnsentForgotten)
                if batch.meta.as_ref().is_some_and(|meta| meta.rounds > rounds) =>
            {
                self.unsent = Arc::default();
            }
            Some(Plant::StampNotObserved) => {
                let is_own = |version: &Version| !version.is_merge();
                let mints = !batch.unsent.is_empty()
                    && batch.repo.versions.iter().any(|(_, version)| is_own(version));
                if let (Some(meta), false) = (&mut self.meta, mints) {
                    meta.ticks = ticks;
                }
            }
            Some(Plant::TombstoneDropped) => {
                let versions = self.versions.clone();
                Arc::make_mut(&mut self.unsent).retain(|id| versions[id].1.live().is_some());
            }
            _ => {}
        }
    }

    /// In place of a merge only the newest of what it merged is the head, where that is planted.
    fn drop_heads(&mut self, batch: &Batch) {
        for (_, merge) in batch.versions.iter().filter(|(_, version)| version.is_merge()) {
            let newest =
                merge.parents.iter().max_by_key(|id| self.versions.get(id).map(|v| v.1.stamp));
            if let Some(newest) = newest.copied().filter(|id| self.versions.contains_key(id)) {
                self.set_heads(&merge.note, &[newest]);
            }
        }
    }

    /// Keeps the bytes of a large asset.
    pub fn add_blob(&mut self, bytes: Arc<[u8]>) -> ContentHash {
        let hash = ContentHash::of_blob(&bytes);
        Arc::make_mut(&mut self.blobs).insert(hash, bytes);
        hash
    }

    /// The bytes of a large asset.
    pub fn blob(&self, hash: &ContentHash) -> Option<Arc<[u8]>> {
        self.blobs.get(hash).cloned()
    }

    /// Every version with its position, oldest first: for oracles.
    pub fn all_versions(&self) -> impl Iterator<Item = (Seq, VersionId, &Arc<Version>)> {
        self.positions.iter().map(|(&seq, id)| (Seq(seq), *id, &self.versions[id].1))
    }

    /// Every content hash that is stored, as content or as a blob: for oracles.
    pub fn all_contents(&self) -> impl Iterator<Item = &ContentHash> {
        self.contents.keys().chain(self.blobs.keys())
    }

    /// The hashes of all nodes kept: for oracles.
    pub fn all_nodes(&self) -> impl Iterator<Item = &NodeHash> {
        self.nodes.keys()
    }

    fn check_batch(&self, batch: &Batch) -> Result<()> {
        let mut earlier = BTreeSet::new();
        for content in &batch.contents {
            match &content.body {
                Body::Packed { pack, .. } => {
                    rule(*pack < batch.packs.len(), "a pack is in the batch")?;
                }
                Body::Delta { base, .. } => {
                    let here = earlier.contains(base) || self.contents.contains_key(base);
                    rule(here, "a delta's base is stored before it")?;
                }
                Body::Whole(_) => {}
            }
            earlier.insert(content.hash);
        }
        let after = After::new(self, batch);
        for id in &batch.dropped {
            let Some((_, version)) = self.versions.get(id) else { continue };
            let is_head = self.notes[&version.note].heads.contains(id);
            let replaced = || batch.heads.iter().any(|(note, _)| *note == version.note);
            rule(!is_head || replaced(), "the note of a dropped head gets new heads")?;
        }
        for (note, heads) in &batch.heads {
            rule(heads.is_sorted_by(|a, b| a < b), "heads are sorted and unique")?;
            for head in heads {
                let known = after.version(head).is_some_and(|version| version.note == *note);
                rule(known, "a head is a known version of its note")?;
            }
            let forgets = !heads.is_empty() || after.has_no_version_of(note);
            rule(forgets, "only a note without versions has no heads")?;
        }
        Ok(())
    }

    fn check_bytes(&self, batch: &Batch) -> Result<()> {
        let after = After::new(self, batch);
        let coming: BTreeSet<_> = batch.contents.iter().map(|content| content.hash).collect();
        for head in batch.heads.iter().flat_map(|(_, heads)| heads) {
            let Some(live) = after.version(head).and_then(|version| version.live()) else {
                continue;
            };
            let stored = coming.contains(&live.content) || self.has_content(&live.content)?;
            rule(stored, "the bytes of a live head are stored")?;
        }
        Ok(())
    }

    fn apply(&mut self, batch: &Batch) {
        self.add_contents(batch);
        for (id, version) in &batch.versions {
            self.add_version(*id, version);
        }
        for id in &batch.dropped {
            self.drop_version(id);
        }
        for (note, heads) in &batch.heads {
            self.set_heads(note, heads);
        }
        if !batch.nodes_added.is_empty() || !batch.nodes_removed.is_empty() {
            let nodes = Arc::make_mut(&mut self.nodes);
            for hash in &batch.nodes_removed {
                nodes.remove(hash);
            }
            let empty = RootHash::empty().node();
            for (hash, node) in batch.nodes_added.iter().filter(|(hash, _)| *hash != empty) {
                nodes.insert(*hash, node.as_slice().into());
            }
        }
        if let Some(root) = batch.root {
            self.root = Some(root);
            Arc::make_mut(&mut self.roots).insert(root, self.seq);
        }
        for conflict in &batch.conflicts {
            if !self.conflict_positions.contains_key(&conflict.id) {
                self.log_conflict(Arc::new(conflict.clone()), ConflictState::Open);
            }
        }
        for id in &batch.closed {
            self.close_conflict(id);
        }
    }

    fn add_contents(&mut self, batch: &Batch) {
        if batch.contents.is_empty() {
            return;
        }
        let packs: Vec<_> = batch
            .packs
            .iter()
            .map(|pack| {
                let (bytes, frame) = (pack.raw_bytes as usize, pack.frame.clone());
                Arc::new(PackRaw { bytes, frame, raw: OnceLock::new() })
            })
            .collect();
        let contents = Arc::make_mut(&mut self.contents);
        for content in &batch.contents {
            let form = match &content.body {
                Body::Packed { pack, offset } => {
                    Form::Packed { pack: Arc::clone(&packs[*pack]), offset: *offset as usize }
                }
                Body::Delta { base, frame } => Form::Delta { base: *base, frame: frame.clone() },
                Body::Whole(frame) => Form::Whole(frame.clone()),
            };
            let bytes = content.bytes as usize;
            contents
                .entry(content.hash)
                .or_insert_with(|| Arc::new(Stored { bytes, form, raw: OnceLock::new() }));
        }
    }

    fn add_version(&mut self, id: VersionId, version: &Arc<Version>) {
        if self.versions.contains_key(&id) {
            return;
        }
        self.seq += 1;
        Arc::make_mut(&mut self.versions).insert(id, (self.seq, Arc::clone(version)));
        Arc::make_mut(&mut self.positions).insert(self.seq, id);
        let note = Arc::make_mut(&mut self.notes).entry(version.note).or_default();
        let newest = Arc::make_mut(&mut self.newest);
        if let Some(last) = note.seqs.last() {
            newest.remove(last);
        }
        note.seqs.push(self.seq);
        newest.insert(self.seq, version.note);
        for dot in version.clock.dots() {
            if self.counter_of(&dot.replica) < dot.counter {
                Arc::make_mut(&mut self.counters).insert(dot.replica, dot.counter);
            }
        }
        if let Some(path) = version.path() {
            let name = (path.clone(), version.note);
            if !self.names.contains(&name) {
                Arc::make_mut(&mut self.names).insert(name);
            }
        }
    }

    fn drop_version(&mut self, id: &VersionId) {
        let Some((seq, version)) = Arc::make_mut(&mut self.versions).remove(id) else { return };
        Arc::make_mut(&mut self.positions).remove(&seq);
        if self.unsent.contains(id) {
            Arc::make_mut(&mut self.unsent).remove(id);
        }
        let note = Arc::make_mut(&mut self.notes)
            .get_mut(&version.note)
            .expect("a version's note is known");
        note.seqs.retain(|&other| other != seq);
        let newest = Arc::make_mut(&mut self.newest);
        if newest.remove(&seq).is_some()
            && let Some(&last) = note.seqs.last()
        {
            newest.insert(last, version.note);
        }
    }

    fn set_heads(&mut self, note: &NoteId, heads: &[VersionId]) {
        let is_live = |id| self.versions.get(id).is_some_and(|(_, v)| v.live().is_some());
        let live = heads.iter().any(is_live);
        let notes = Arc::make_mut(&mut self.notes);
        let known = notes.entry(*note).or_default();
        self.live = self.live + u64::from(live) - u64::from(known.live);
        known.live = live;
        known.heads = heads.to_vec();
        if known.seqs.is_empty() {
            notes.remove(note);
        }
    }

    fn unsettle<'a>(&mut self, added: impl Iterator<Item = &'a NoteId>, settled: &[NoteId]) {
        let mut added = added.peekable();
        if added.peek().is_none() && settled.is_empty() {
            return;
        }
        let unsettled = Arc::make_mut(&mut self.unsettled);
        let next = unsettled.values().max().map_or(0, |last| last + 1);
        for (order, note) in (next..).zip(added) {
            unsettled.entry(*note).or_insert(order);
        }
        for note in settled {
            unsettled.remove(note);
        }
    }

    /// What gets a row and loses it in one batch: files and intentions stand, the rest is gone.
    fn apply_replica(&mut self, batch: &ReplicaBatch) {
        if let Some(meta) = &batch.meta {
            self.meta = Some(meta.clone());
        }
        add_then_remove(&mut self.unsent, batch.unsent.iter(), &batch.acked);
        let changed = batch.repo.heads.iter().map(|(note, _)| note);
        self.unsettle(changed.chain(&batch.unsettled), &batch.settled);
        add_then_remove(&mut self.closed_unsent, batch.closed_unsent.iter(), &batch.closed_acked);
        for path in &batch.files_gone {
            self.forget_file(path);
        }
        for row in &batch.files {
            self.set_file(row);
        }
        if !batch.placed.is_empty() || !batch.placing.is_empty() {
            let placing = Arc::make_mut(&mut self.placing);
            for path in &batch.placed {
                placing.remove(path);
            }
            for intention in &batch.placing {
                placing.insert(intention.disk_path.clone(), intention.clone());
            }
        }
        if !batch.retired.is_empty() || !batch.displaced.is_empty() {
            let displaced = Arc::make_mut(&mut self.displaced);
            for undo in &batch.retired {
                displaced.remove(undo);
            }
            for row in &batch.displaced {
                displaced.insert(row.undo.clone(), row.clone());
            }
        }
    }

    fn forget_file(&mut self, path: &VaultPath) {
        if let Some(row) = Arc::make_mut(&mut self.files).remove(path) {
            Arc::make_mut(&mut self.file_of).remove(&row.note);
        }
    }

    fn set_file(&mut self, row: &FileRow) {
        if let Some(path) = self.file_of.get(&row.note).filter(|path| **path != row.disk_path) {
            self.forget_file(&path.clone());
        }
        let old = Arc::make_mut(&mut self.files).insert(row.disk_path.clone(), row.clone());
        let file_of = Arc::make_mut(&mut self.file_of);
        if let Some(old) = old {
            file_of.remove(&old.note);
        }
        file_of.insert(row.note, row.disk_path.clone());
    }

    fn log_conflict(&mut self, conflict: Arc<Conflict>, state: ConflictState) {
        self.conflict_seq += 1;
        Arc::make_mut(&mut self.conflict_positions).insert(conflict.id, self.conflict_seq);
        Arc::make_mut(&mut self.conflicts).insert(self.conflict_seq, (conflict, state));
    }

    fn close_conflict(&mut self, id: &ConflictId) {
        let Some(&position) = self.conflict_positions.get(id) else { return };
        if self.conflicts[&position].1 == ConflictState::Closed {
            return;
        }
        let moved = Arc::make_mut(&mut self.conflicts).remove(&position);
        let (conflict, _) = moved.expect("every position is in the log");
        self.log_conflict(conflict, ConflictState::Closed);
    }

    fn counter_of(&self, replica: &ReplicaId) -> u64 {
        if self.plant == Some(Plant::CounterReused) {
            return 0;
        }
        self.counters.get(replica).copied().unwrap_or(0)
    }

    fn event(&self, position: u64) -> ConflictEvent {
        let (conflict, state) = &self.conflicts[&position];
        ConflictEvent { position, conflict: Conflict::clone(conflict), state: *state }
    }

    /// The pack that holds a content, and where in it.
    fn packed(&self, hash: &ContentHash) -> Option<(&Arc<PackRaw>, usize)> {
        match &self.contents.get(hash)?.form {
            Form::Packed { pack, offset } => Some((pack, *offset)),
            Form::Delta { .. } | Form::Whole(_) => None,
        }
    }

    /// Decodes the chain of deltas below `hash` from its first decoded member up.
    fn decode(&self, hash: &ContentHash) -> Result<Option<Arc<[u8]>>> {
        let Some(mut stored) = self.contents.get(hash) else { return Ok(None) };
        let mut chain = Vec::new();
        while let (None, Form::Delta { base, .. }) = (stored.raw.get(), &stored.form) {
            chain.push(stored);
            stored = self.contents.get(base).ok_or(MemoryError::Damaged(*hash))?;
        }
        let damaged = |_| MemoryError::Damaged(*hash);
        let mut raw = stored.decode_alone().map_err(damaged)?;
        while let Some(stored) = chain.pop() {
            let Form::Delta { frame, .. } = &stored.form else {
                unreachable!("only deltas are in the chain")
            };
            let next = zip::undelta(&raw, frame, stored.bytes).map_err(damaged)?;
            raw = Arc::clone(stored.raw.get_or_init(|| next.into()));
        }
        Ok(Some(raw))
    }

    fn revision_at(&self, seq: u64) -> Revision {
        let id = self.positions[&seq];
        let version = &self.versions[&id].1;
        let parents: Vec<_> = version
            .parents
            .iter()
            .filter_map(|parent| self.versions.get(parent))
            .map(|(_, parent)| Arc::clone(parent))
            .collect();
        let content = version.live().map(|live| live.content);
        let had_before = || {
            let same = |earlier: &u64| {
                let (_, version) = &self.versions[&self.positions[earlier]];
                version.live().map(|live| live.content) == content
            };
            self.notes[&version.note].seqs.iter().take_while(|&&s| s < seq).any(same)
        };
        let (op, from) = derive_op(version, &parents, had_before);
        let origin = self.origins.range(..=seq).next_back().map(|(_, origin)| origin.clone());
        Revision { seq: Seq(seq), id, version: Arc::clone(version), op, from, origin }
    }
}
