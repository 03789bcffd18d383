//! Versions into a parcel, in as few bytes as what the receiver has allows.
//!
//! Law: a receiver that has what `knows` says unpacks exactly the versions that were packed
//! (`unpack` is the inverse). Whatever cannot be said relative to a known parent goes whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crucible_core::hash::{ContentHash, Domain, keyed};
use crucible_core::id::{NoteId, ReplicaId, VaultId, VersionId};
use crucible_core::merkle::{Place, iter_live};
use crucible_core::timestamp::Stamp;
use crucible_core::vault_path::VaultPath;
use crucible_core::version::{Author, Kind, Live, State, TagDots, Version};
use crucible_core::version_vector::Dot;
use crucible_proto::limits::{
    INLINE_BYTES_MAX, MOVED_MAX, NAMES_MAX, PACK_RAW_AIM, PAGE_NOTES_MAX, PAGE_RAW_AIM,
};
use crucible_proto::parcel::{Bytes, Content, Group, Parcel, Prefix, Record};
use crucible_proto::zip;

use crate::packs::{Loose, Packs};
use crate::repo::{Repo, Seq};
use crate::staged::{EngineError, Staged};

/// What the receiver of a parcel has.
pub trait Receiver {
    /// Whether the receiver has this version and its content.
    fn knows(&self, version: &VersionId) -> bool;
    /// The position at which the receiver's tree was last known here, for renamed folders.
    fn in_step_at(&self) -> Option<Seq>;
    /// Whether relative records failed before: everything goes whole.
    fn wants_whole(&self) -> bool;
}

/// Whether an asset of this size travels in packs rather than as a blob of its own.
pub fn is_inline(live: &Live) -> bool {
    live.kind == Kind::Note || live.bytes <= INLINE_BYTES_MAX
}

/// A parcel being filled.
pub struct Packer<'p, 'r, R: Repo> {
    staged: &'p Staged<'r, R>,
    vault: VaultId,
    receiver: &'p dyn Receiver,
    parcel: Parcel,
    /// Versions in the parcel, which the receiver will know.
    packed: BTreeSet<VersionId>,
    contents: BTreeSet<ContentHash>,
    /// What goes into packs, in the order of the records that name it.
    loose: Vec<Loose>,
    /// The last of them is followed by more in its stored pack, which is best sent at one go.
    inside_pack: bool,
    raw_total: usize,
    records: usize,
    /// Keys and tags named so far; half the bound leaves room for one more version's.
    names: usize,
    last: Option<(u64, u64)>,
}

type Fallible<T, R> = Result<T, EngineError<<R as Repo>::Error>>;

impl<'p, 'r, R: Repo> Packer<'p, 'r, R> {
    /// An empty parcel for `receiver`.
    pub fn new(staged: &'p Staged<'r, R>, vault: VaultId, receiver: &'p dyn Receiver) -> Self {
        Self {
            staged,
            vault,
            receiver,
            parcel: Parcel::default(),
            packed: BTreeSet::new(),
            contents: BTreeSet::new(),
            loose: Vec::new(),
            inside_pack: false,
            raw_total: 0,
            records: 0,
            names: 0,
            last: None,
        }
    }

    /// Whether the parcel is a full page.
    pub fn is_full(&self) -> bool {
        let aim = if self.inside_pack { PAGE_RAW_AIM + PACK_RAW_AIM } else { PAGE_RAW_AIM };
        self.raw_total >= aim || self.records >= PAGE_NOTES_MAX || self.names >= NAMES_MAX / 2
    }

    /// Packs versions in this order, parents before children, until the page is full; returns
    /// how many were taken. A folder's rename is taken whole or version by version.
    pub fn push_all(&mut self, versions: &[VersionId]) -> Fallible<usize, R> {
        let folders =
            if self.receiver.wants_whole() { Vec::new() } else { self.folder_moves(versions)? };
        let mut at = 0;
        while at < versions.len() && !self.is_full() {
            if let Some(folder) = folders.iter().find(|folder| folder.at == at) {
                let first = self.staged.known_version(&versions[at])?;
                self.push_folder(folder, &first, &versions[at..at + folder.count]);
                at += folder.count;
                continue;
            }
            self.push(&versions[at])?;
            at += 1;
        }
        Ok(at)
    }

    /// Packs one version.
    pub fn push(&mut self, id: &VersionId) -> Fallible<(), R> {
        if self.packed.contains(id) {
            return Ok(());
        }
        let version = self.staged.known_version(id)?;
        let record = match self.relative(&version)? {
            Some(record) => record,
            None => self.full(&version)?,
        };
        self.add(&version, record, 1);
        self.packed.insert(*id);
        if let Some(live) = version.live() {
            self.contents.insert(live.content);
        }
        Ok(())
    }

    /// The finished parcel.
    pub fn finish(mut self) -> Fallible<Parcel, R> {
        let mut packs = Packs::new(self.staged, &self.loose);
        let mut loose = self.loose.iter();
        for record in self.parcel.groups.iter_mut().flat_map(|group| &mut group.records) {
            if let Some(source @ Bytes::Packed(_)) = source_of(record) {
                *source = packs.put(loose.next().expect("each packed source has its content"))?;
            }
        }
        self.parcel.packs = packs.finish();
        Ok(self.parcel)
    }

    fn add(&mut self, version: &Version, record: Record, count: u64) {
        let (replica, ticks, counter) = match (&record, version.dot()) {
            (Record::Full { .. }, _) | (_, None) => (ReplicaId::NOBODY, 0, 0),
            (_, Some(dot)) => (dot.replica, version.stamp.ticks(), dot.counter),
        };
        let is_full = matches!(record, Record::Full { .. });
        let continues = self.parcel.groups.last().is_some_and(|group| {
            group.replica == replica
                && self.last.is_none_or(|(t, c)| is_full || ticks >= t && counter >= c)
        });
        if !continues {
            self.parcel.groups.push(Group { replica, ticks, counter, records: Vec::new() });
            self.last = (!is_full).then_some((ticks, counter));
        }
        let (from_ticks, from_counter) = self.last.unwrap_or((ticks, counter));
        let advance = (ticks - from_ticks, counter - from_counter);
        if !is_full {
            self.last = Some((ticks + count - 1, counter + count - 1));
        }
        let group = self.parcel.groups.last_mut().expect("a group was just made sure of");
        group.records.push(advanced(record, advance));
        self.records += 1;
        if let Some(Record::Edit { keys, tags, .. }) = group.records.last() {
            self.names += keys.len() + tags.len();
        }
    }

    fn knows(&self, id: &VersionId) -> bool {
        self.packed.contains(id) || self.receiver.knows(id)
    }

    /// The record relative to what the receiver has, `None` where there is none.
    fn relative(&mut self, version: &Version) -> Fallible<Option<Record>, R> {
        if self.receiver.wants_whole() {
            return Ok(None);
        }
        let Some(dot) = version.dot() else { return Ok(None) };
        if version.parents.is_empty() {
            return self.creation(version, dot);
        }
        let [parent_id] = version.parents.as_slice() else { return Ok(None) };
        if !self.knows(parent_id) {
            return Ok(None);
        }
        let parent = self.staged.known_version(parent_id)?;
        let mut clock = parent.clock.clone();
        clock.observe(dot);
        if clock != version.clock {
            return Ok(None);
        }
        let parent_prefix = Prefix::of(parent_id);
        let Some(live) = version.live() else {
            return Ok(Some(Record::Delete { ticks: 0, counter: 0, parent: parent_prefix }));
        };
        let Some(old) = parent.live() else { return Ok(None) };
        if (Live { path: live.path.clone(), ..old.clone() }) == *live {
            let path = live.path.clone();
            let record = Record::Move { ticks: 0, counter: 0, parent: parent_prefix, path };
            return Ok(Some(record));
        }
        let keys = stamped_here(version, live, old);
        let tags = dotted_here(dot, live, old);
        let event = Event { dot, ticks: version.stamp.ticks() };
        let derived = edited(old, event, (live.content, live.bytes), &keys, &tags);
        if derived != *live {
            return Ok(None);
        }
        let source = self.bytes(live, Some(old))?;
        let content = Content { hash: live.content, bytes: live.bytes, source };
        let record =
            Record::Edit { ticks: 0, counter: 0, parent: parent_prefix, content, keys, tags };
        Ok(Some(record))
    }

    fn creation(&mut self, version: &Version, dot: Dot) -> Fallible<Option<Record>, R> {
        let Some(live) = version.live() else { return Ok(None) };
        let plain = version.clock.len() == 1 && live.keys.is_empty() && live.tags.is_empty();
        let generation = (0..4).find(|generation| {
            NoteId::derive(&self.vault, &live.path, *generation) == version.note
        });
        let (true, Some(generation)) = (plain && dot.counter > 0, generation) else {
            return Ok(None);
        };
        let source = self.bytes(live, None)?;
        Ok(Some(Record::Create {
            ticks: 0,
            counter: 0,
            path: live.path.clone(),
            generation,
            kind: live.kind,
            content: Content { hash: live.content, bytes: live.bytes, source },
        }))
    }

    fn full(&mut self, version: &Version) -> Fallible<Record, R> {
        let source = match version.live() {
            None => None,
            Some(live) => Some(self.full_bytes(version, live)?),
        };
        Ok(Record::Full { version: version.encode(), source })
    }

    /// Content of a whole record: against a parent's that the receiver has, where there is one.
    fn full_bytes(&mut self, version: &Version, live: &Live) -> Fallible<Bytes, R> {
        if self.receiver.wants_whole() {
            return self.packed_bytes(live);
        }
        for parent_id in version.parents.iter().filter(|id| self.knows(id)) {
            let parent = self.staged.known_version(parent_id)?;
            let Some(old) = parent.live() else { continue };
            if old.content == live.content {
                return Ok(Bytes::Elsewhere);
            }
            if let Some(frame) = self.delta(live, old)? {
                return Ok(Bytes::DeltaTo(old.content, frame));
            }
        }
        self.packed_bytes(live)
    }

    fn bytes(&mut self, live: &Live, parent: Option<&Live>) -> Fallible<Bytes, R> {
        if let Some(old) = parent
            && let Some(frame) = self.delta(live, old)?
        {
            return Ok(Bytes::Delta(frame));
        }
        self.packed_bytes(live)
    }

    /// The frame against older content, where it is at most half the size of the bytes.
    fn delta(&self, live: &Live, old: &Live) -> Fallible<Option<Vec<u8>>, R> {
        let apart = !self.contents.contains(&live.content);
        if !(apart && is_inline(live) && is_inline(old)) {
            return Ok(None);
        }
        let Some(base) = self.staged.content(&old.content)? else { return Ok(None) };
        let raw = self.raw_of(live)?;
        let frame = zip::delta(&base, &raw);
        Ok((frame.len() * 2 < raw.len()).then_some(frame))
    }

    fn raw_of(&self, live: &Live) -> Fallible<Arc<[u8]>, R> {
        self.staged.content(&live.content)?.ok_or(EngineError::Bytes(live.content))
    }

    fn packed_bytes(&mut self, live: &Live) -> Fallible<Bytes, R> {
        if !is_inline(live) || self.contents.contains(&live.content) {
            return Ok(Bytes::Elsewhere);
        }
        let stored = self.staged.pack_place(&live.content)?;
        self.inside_pack = stored
            .is_some_and(|place| u64::from(place.offset) + live.bytes < u64::from(place.raw_bytes));
        self.raw_total += live.bytes as usize;
        self.loose.push(Loose { hash: live.content, bytes: live.bytes, stored });
        // Which pack it is is said when all are known.
        Ok(Bytes::Packed(0))
    }

    fn push_folder(&mut self, folder: &FolderRun, first: &Version, ids: &[VersionId]) {
        let record = Record::FolderMove {
            ticks: 0,
            counter: 0,
            from: folder.from.clone(),
            to: folder.to.clone(),
            count: folder.count as u32,
            digest: digest(ids),
        };
        self.add(first, record, folder.count as u64);
        self.packed.extend(ids);
    }

    /// Runs of versions that are exactly one folder's rename.
    fn folder_moves(&self, versions: &[VersionId]) -> Fallible<Vec<FolderRun>, R> {
        let Some(at) = self.receiver.in_step_at() else { return Ok(Vec::new()) };
        let mut runs = Vec::new();
        let mut start = 0;
        while start < versions.len() {
            let Some((from, to)) = self.renamed_folder(&versions[start])? else {
                start += 1;
                continue;
            };
            let mut end = start + 1;
            while end < versions.len()
                && self.renamed_folder(&versions[end])?.as_ref()
                    == Some(&(from.clone(), to.clone()))
            {
                end += 1;
            }
            let run = FolderRun { at: start, count: end - start, from, to };
            let derived = match folder_at(self.staged, at, &run.from)? {
                members
                    if members.len() == run.count
                        && (2..=MOVED_MAX).contains(&(run.count as u64)) =>
                {
                    let first = self.staged.known_version(&versions[start])?;
                    let event = Event::of(&first).expect("a rename that was found has an author");
                    derive_folder(&members, &run.from, &run.to, event)
                }
                _ => None,
            };
            let same = derived.is_some_and(|derived| {
                derived.iter().map(Version::id).eq(versions[start..end].iter().copied())
            });
            if same {
                runs.push(run);
            }
            start = end;
        }
        Ok(runs)
    }

    /// The folders a version moves its note between, when it is nothing but such a move.
    fn renamed_folder(&self, id: &VersionId) -> Fallible<Option<(VaultPath, VaultPath)>, R> {
        let version = self.staged.known_version(id)?;
        let (Some(live), [parent_id]) = (version.live(), version.parents.as_slice()) else {
            return Ok(None);
        };
        if version.is_merge() || !self.knows(parent_id) {
            return Ok(None);
        }
        let parent = self.staged.known_version(parent_id)?;
        let Some(old) = parent.live() else { return Ok(None) };
        if (Live { path: live.path.clone(), ..old.clone() }) != *live {
            return Ok(None);
        }
        Ok(differing_folders(&old.path, &live.path))
    }
}

struct FolderRun {
    at: usize,
    count: usize,
    from: VaultPath,
    to: VaultPath,
}

/// The digest over a batch of version ids.
pub fn digest(ids: &[VersionId]) -> [u8; 32] {
    let bytes: Vec<[u8; 32]> = ids.iter().map(|id| *id.as_bytes()).collect();
    keyed(Domain::Batch, &[bytes.as_flattened()])
}

/// Where two paths of one name part: the longest folders that differ while all below agrees.
fn differing_folders(old: &VaultPath, new: &VaultPath) -> Option<(VaultPath, VaultPath)> {
    let mut from: Vec<&str> = old.components().collect();
    let mut to: Vec<&str> = new.components().collect();
    let mut shared = 0;
    while from.len() > 1 && to.len() > 1 && from.last() == to.last() {
        from.pop();
        to.pop();
        shared += 1;
    }
    if shared == 0 {
        return None;
    }
    Some((VaultPath::new(&from.join("/")).ok()?, VaultPath::new(&to.join("/")).ok()?))
}

/// Everything live below `folder` when the store was at `at`, in path order.
pub fn folder_at<R: Repo>(
    staged: &Staged<'_, R>,
    at: Seq,
    folder: &VaultPath,
) -> Fallible<Vec<(VersionId, Arc<Version>)>, R> {
    let repo = staged.repo();
    let mut members: BTreeMap<(VaultPath, NoteId), (VersionId, Arc<Version>)> = BTreeMap::new();
    let now = repo.seq().map_err(EngineError::Repo)?;
    let changed = repo.changed(at, now, usize::MAX).map_err(EngineError::Repo)?;
    let changed: BTreeSet<NoteId> = changed.into_iter().map(|(_, note)| note).collect();
    if let Some(root) = repo.root().map_err(EngineError::Repo)? {
        let tree = crate::staged::Tree(repo);
        for found in iter_live(&tree, &root, Some(folder))? {
            let (note, leaf) = found?;
            let Place::Live(path) = leaf.place else { continue };
            if changed.contains(&note) {
                continue;
            }
            let heads = repo.heads(&note).map_err(EngineError::Repo)?;
            let [head] = heads.as_slice() else { return Ok(Vec::new()) };
            members.insert((path, note), (*head, staged.known_version(head)?));
        }
    }
    for note in &changed {
        let Some(id) = repo.newest_at(note, at).map_err(EngineError::Repo)? else { continue };
        let version = staged.known_version(&id)?;
        if let Some(path) = version.path().filter(|path| path.below(folder).is_some()) {
            members.insert((path.clone(), *note), (id, version));
        }
    }
    Ok(members.into_values().collect())
}

/// One thing an author did: its dot and the ticks of its stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Which.
    pub dot: Dot,
    /// When, see `Stamp::ticks`.
    pub ticks: u64,
}

impl Event {
    /// The event behind an authored version.
    pub fn of(version: &Version) -> Option<Self> {
        version.dot().map(|dot| Self { dot, ticks: version.stamp.ticks() })
    }

    /// The author's stamp.
    pub fn stamp(&self) -> Stamp {
        Stamp::from_ticks(self.ticks, self.dot.replica)
    }

    /// The `steps`-th event after this one, one tick and one counter apart.
    #[must_use]
    pub fn later(&self, steps: u64) -> Self {
        let dot =
            Dot { replica: self.dot.replica, counter: self.dot.counter.saturating_add(steps) };
        Self { dot, ticks: self.ticks.saturating_add(steps) }
    }

    /// The version this event makes of `parent`.
    pub fn version(&self, parent_id: VersionId, parent: &Version, state: State) -> Version {
        let mut clock = parent.clock.clone();
        clock.observe(self.dot);
        Version {
            note: parent.note,
            parents: vec![parent_id],
            clock,
            stamp: self.stamp(),
            author: Author::Replica(self.dot.replica),
            state,
        }
    }
}

/// The versions that move `members` from below `from` to below `to`: one event each, in the
/// order given. `None` when a new path would be none.
pub fn derive_folder(
    members: &[(VersionId, Arc<Version>)],
    from: &VaultPath,
    to: &VaultPath,
    first: Event,
) -> Option<Vec<Version>> {
    members
        .iter()
        .zip(0..)
        .map(|((id, old), step)| {
            let live = old.live()?;
            let path = VaultPath::new(&format!("{to}/{}", live.path.below(from)?)).ok()?;
            let state = State::Live(Live { path, ..live.clone() });
            Some(first.later(step).version(*id, old, state))
        })
        .collect()
}

/// The live state an edit record derives from its parent's.
pub fn edited(
    old: &Live,
    event: Event,
    (content, bytes): (ContentHash, u64),
    keys: &[String],
    tags: &[String],
) -> Live {
    let mut live = Live { content, bytes, ..old.clone() };
    for key in keys {
        live.keys.insert(key.clone(), event.stamp());
    }
    for tag in tags {
        live.tags.entry(tag.clone()).or_default().insert(event.dot);
    }
    live
}

fn stamped_here(version: &Version, live: &Live, old: &Live) -> Vec<String> {
    let new = |(key, stamp): &(&String, &_)| {
        **stamp == version.stamp && old.keys.get(*key) != Some(stamp)
    };
    live.keys.iter().filter(new).map(|(key, _)| key.clone()).collect()
}

fn dotted_here(dot: Dot, live: &Live, old: &Live) -> Vec<String> {
    let has = |tags: &TagDots, tag: &String| tags.get(tag).is_some_and(|dots| dots.contains(&dot));
    live.tags.keys().filter(|tag| has(&live.tags, tag) && !has(&old.tags, tag)).cloned().collect()
}

fn source_of(record: &mut Record) -> Option<&mut Bytes> {
    match record {
        Record::Full { source, .. } => source.as_mut(),
        Record::Create { content, .. } | Record::Edit { content, .. } => Some(&mut content.source),
        Record::Move { .. } | Record::Delete { .. } | Record::FolderMove { .. } => None,
    }
}

fn advanced(mut record: Record, advance: (u64, u64)) -> Record {
    match &mut record {
        Record::Full { .. } => {}
        Record::Create { ticks, counter, .. }
        | Record::Edit { ticks, counter, .. }
        | Record::Move { ticks, counter, .. }
        | Record::Delete { ticks, counter, .. }
        | Record::FolderMove { ticks, counter, .. } => (*ticks, *counter) = advance,
    }
    record
}
