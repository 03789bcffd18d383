//! [`Scribe`]: batches that a store has to take, made step by step from small numbers.
//!
//! Invariant: every batch keeps the contract of `sync::repo` for the store it was made for, and
//! the same steps give the same batches. Ends of histories are nasty on purpose: versions taken
//! back, unknown parents, several heads, contents that come twice, packs half used.
#![expect(clippy::unwrap_used, reason = "a batch that cannot be made fails the test it is for")]

use std::sync::Arc;

use crucible_core::conflict::{Clash, Conflict};
use crucible_core::hash::ContentHash;
use crucible_core::id::{ConflictId, NoteId, ReplicaId, VaultId, VersionId};
use crucible_core::text_merge::Overlap;
use crucible_core::timestamp::Stamp;
use crucible_core::vault_path::VaultPath;
use crucible_core::version::{Author, Kind, Live, State, Version};
use crucible_core::version_vector::{Dot, VersionVector};
use crucible_proto::zip;
use crucible_sync::replica::{Displaced, FileRow, FileStat, Placing, ReplicaBatch, ReplicaMeta};
use crucible_sync::repo::{Batch, Body, Pack, Repo, Seq};
use crucible_sync::staged::Staged;

use crate::memory_store::MemoryStore;

/// What to do next, as numbers that shrink well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Which kind of change.
    pub op: u8,
    /// To which note, version or record.
    pub pick: u16,
    /// In which way.
    pub how: u16,
}

/// Writes batches for one vault.
#[derive(Debug, Clone)]
pub struct Scribe {
    vault: VaultId,
    counters: [u64; REPLICAS],
    ticks: u64,
    rounds: u64,
    last: Batch,
}

const REPLICAS: usize = 3;
const PATHS: u16 = 12;

impl Scribe {
    /// Begins a vault.
    pub fn new(vault: VaultId) -> Self {
        let (ticks, last) = (1_700_000_000_000 << 16, Batch::default());
        Self { vault, counters: [0; REPLICAS], ticks, rounds: 0, last }
    }

    /// Facts of a device to begin with.
    pub fn meta(vault: VaultId) -> ReplicaMeta {
        ReplicaMeta::new(vault, replica(0))
    }

    /// The next batch for `store`.
    pub fn batch(&mut self, store: &MemoryStore, step: Step) -> Batch {
        let batch = match step.op % 14 {
            0..=2 => self.edit(store, step, From::Heads),
            3 => self.create(store, step),
            4 => self.edit(store, step, From::Older),
            5 => self.edit(store, step, From::Renamed),
            6 => self.delete(store, step),
            7 => Self::merge(store, step),
            8 => self.many(store, step),
            9 => self.edit(store, step, From::Unknown),
            10 => Self::take_back(store, step),
            11 => Self::conflict(store, step),
            12 => self.again(),
            _ => self.asset(store, step),
        };
        self.last = batch.clone();
        batch
    }

    /// The next batch for a device's `store`.
    pub fn replica_batch(&mut self, store: &MemoryStore, step: Step) -> ReplicaBatch {
        let repo = self.batch(store, step);
        let mut batch = ReplicaBatch::default();
        self.rounds += 1;
        let known: Vec<_> = store.all_versions().map(|(_, id, v)| (id, Arc::clone(v))).collect();
        let known = known.iter().chain(&repo.versions);
        let known: Vec<_> = known.filter(|(id, _)| !repo.dropped.contains(id)).collect();
        let chosen = known.iter().skip(usize::from(step.pick) % 3).step_by(3);
        for (i, (id, version)) in chosen.enumerate() {
            let path = path(step.how.wrapping_add(i as u16));
            match (usize::from(step.how) + i) % 8 {
                0 => batch.unsent.push(*id),
                1 => batch.acked.push(*id),
                2 => batch.files.extend(file(path, *id, version, step)),
                3 => batch.files_gone.push(path),
                4 => batch.placing.push(Placing {
                    disk_path: path.clone(),
                    note: version.note,
                    version: version.live().map(|_| *id),
                    from: step.how.is_multiple_of(2).then(|| path.clone()),
                    undo: format!("undo-{}", step.how),
                }),
                5 => batch.placed.push(path),
                6 if step.pick.is_multiple_of(2) => batch.unsettled.push(version.note),
                6 => batch.displaced.push(Displaced {
                    undo: format!("undo-{}", step.pick % 5),
                    note: version.note,
                    version: *id,
                    content: ContentHash::of_text("displaced"),
                    round: self.rounds,
                }),
                _ => batch.settled.push(version.note),
            }
        }
        batch.retired.extend(step.how.is_multiple_of(4).then(|| format!("undo-{}", step.pick % 7)));
        let closing = conflict_id(step.pick);
        match step.how % 5 {
            0 => batch.closed_unsent.push(closing),
            1 => batch.closed_acked.push(closing),
            2 => {
                batch.meta = Some(ReplicaMeta {
                    counter: u64::from(step.pick),
                    common_root: repo.root,
                    pulled: step.how.is_multiple_of(2).then_some(7),
                    rounds: self.rounds,
                    clock_correction_ms: -5,
                    joined: true,
                    ..Self::meta(self.vault)
                });
            }
            _ => {}
        }
        batch.repo = repo;
        batch
    }

    fn stamp(&mut self, by: usize) -> (Stamp, Dot) {
        self.ticks += 1 << 15;
        self.counters[by] += 1;
        let dot = Dot { replica: replica(by), counter: self.counters[by] };
        (Stamp::from_ticks(self.ticks, replica(by)), dot)
    }

    fn version(
        &mut self,
        store: &MemoryStore,
        note: NoteId,
        parents: Vec<VersionId>,
        by: usize,
        state: State,
    ) -> Version {
        let (stamp, dot) = self.stamp(by);
        let mut clock = VersionVector::new();
        for parent in &parents {
            if let Some(parent) = store.version(parent).unwrap() {
                clock = clock.join(&parent.clock);
            }
        }
        clock.observe(dot);
        Version { note, parents, clock, stamp, author: Author::Replica(dot.replica), state }
    }

    fn create(&mut self, store: &MemoryStore, step: Step) -> Batch {
        let path = path(step.pick);
        let note = NoteId::derive(&self.vault, &path, u32::from(step.how % 2));
        let text = text(step);
        let state = live(path, &text, step);
        let parents = store.heads(&note).unwrap();
        let version = self.version(store, note, parents, usize::from(step.how) % REPLICAS, state);
        let mut staged = Staged::new(store);
        put_text(&mut staged, &text, None, step.how);
        staged.put_version(version).unwrap();
        staged.finish().unwrap()
    }

    fn edit(&mut self, store: &MemoryStore, step: Step, from: From) -> Batch {
        let Some((note, heads)) = pick_note(store, step) else { return self.create(store, step) };
        let by = usize::from(step.how) % REPLICAS;
        let newest = store.version(heads.last().expect("a note has a head")).unwrap().unwrap();
        let parents = match from {
            // Known ones alone: who writes on top of a version has it, and only then is what one
            // replica's clock says about two of its versions what their ancestry says.
            From::Older => {
                let known = |id: &VersionId| store.version(id).unwrap().is_some();
                newest.parents.iter().copied().filter(known).collect()
            }
            From::Unknown => {
                let unknown = VersionId::from_bytes([step.pick as u8; 32]);
                let mut parents = [heads.clone(), vec![unknown]].concat();
                parents.sort_unstable();
                parents.dedup();
                parents
            }
            From::Heads | From::Renamed => heads.clone(),
        };
        let old = newest.live().cloned();
        let base = old.as_ref().map(|live| live.content);
        let old_text = base.and_then(|base| store.content(&base).unwrap());
        let old_text = old_text.and_then(|text| String::from_utf8(text.to_vec()).ok());
        let new_text = match (from, old_text) {
            (From::Renamed, Some(old)) => old,
            (_, Some(old)) => format!("{old}\nLine {} by {by}.\n", step.how),
            (_, None) => text(step),
        };
        let place = match (from, &old) {
            (From::Renamed, _) | (_, None) => path(step.how),
            (_, Some(live)) => live.path.clone(),
        };
        let version = self.version(store, note, parents, by, live(place, &new_text, step));
        let mut staged = Staged::new(store);
        put_text(&mut staged, &new_text, base.as_ref(), step.how);
        staged.put_version(version).unwrap();
        staged.finish().unwrap()
    }

    fn delete(&mut self, store: &MemoryStore, step: Step) -> Batch {
        let Some((note, heads)) = pick_note(store, step) else { return Batch::default() };
        let by = usize::from(step.how) % REPLICAS;
        let version = self.version(store, note, heads, by, State::Deleted);
        let mut staged = Staged::new(store);
        staged.put_version(version).unwrap();
        staged.finish().unwrap()
    }

    fn merge(store: &MemoryStore, step: Step) -> Batch {
        let several = store.all_versions().map(|(_, _, version)| version.note);
        let several: Vec<_> = several.filter(|note| store.heads(note).unwrap().len() > 1).collect();
        if several.is_empty() {
            return Batch::default();
        }
        let note = several[usize::from(step.pick) % several.len()];
        let mut staged = Staged::new(store);
        staged.merge_heads(&note, &|_| Overlap::Lww).unwrap();
        staged.finish().unwrap()
    }

    /// Several new notes whose texts come in one pack.
    fn many(&mut self, store: &MemoryStore, step: Step) -> Batch {
        let texts: Vec<_> = (0..4 + step.how % 4)
            .map(|i| text(Step { op: 8, pick: step.pick.wrapping_add(i), how: step.how }))
            .collect();
        let raw = texts.concat();
        let mut staged = Staged::new(store);
        let frame = zip::zip(raw.as_bytes());
        let pack = staged.put_pack(Pack { raw_bytes: raw.len() as u32, frame });
        let mut offset = 0;
        for (i, text) in texts.iter().enumerate() {
            let path = path(step.pick.wrapping_add(i as u16 * 5));
            let note = NoteId::derive(&self.vault, &path, 2);
            let parents = staged.heads(&note).unwrap();
            let by = usize::from(step.how) % REPLICAS;
            let version = self.version(store, note, parents, by, live(path, text, step));
            let body = Body::Packed { pack, offset };
            let hash = ContentHash::of_text(text);
            staged.put_content(hash, text.as_bytes().into(), body).unwrap();
            staged.put_version(version).unwrap();
            offset += text.len() as u32;
        }
        staged.finish().unwrap()
    }

    fn asset(&mut self, store: &MemoryStore, step: Step) -> Batch {
        let path = VaultPath::new(&format!("img/{}.bin", step.pick % 4)).unwrap();
        let note = NoteId::derive(&self.vault, &path, 0);
        let bytes = step.how.to_be_bytes().repeat(20);
        let content = ContentHash::of_blob(&bytes);
        let state = State::Live(Live {
            path,
            kind: Kind::Asset,
            content,
            bytes: bytes.len() as u64,
            keys: Default::default(),
            tags: Default::default(),
        });
        let parents = store.heads(&note).unwrap();
        let version = self.version(store, note, parents, 0, state);
        let mut staged = Staged::new(store);
        staged
            .put_content(content, bytes.as_slice().into(), Body::Whole(zip::zip(&bytes)))
            .unwrap();
        staged.put_version(version).unwrap();
        staged.finish().unwrap()
    }

    /// Takes back a version that nothing rests on.
    fn take_back(store: &MemoryStore, step: Step) -> Batch {
        let Some((_, heads)) = pick_note(store, step) else { return Batch::default() };
        let mut staged = Staged::new(store);
        staged.drop_versions(&heads[..1]).unwrap();
        staged.finish().unwrap()
    }

    fn conflict(store: &MemoryStore, step: Step) -> Batch {
        let Some((note, heads)) = pick_note(store, step) else { return Batch::default() };
        let conflict = Conflict {
            id: conflict_id(step.pick),
            note,
            path: path(step.how),
            merge: heads[0],
            base: step.how.is_multiple_of(2).then(|| heads[0]),
            winner: heads[0],
            loser: heads[0],
            stamp: Stamp::new(u64::from(step.how), 0, ReplicaId::NOBODY),
            clash: Clash::EditOverDelete,
        };
        let mut staged = Staged::new(store);
        staged.put_conflicts([conflict]);
        if step.how.is_multiple_of(3) {
            staged.close_conflicts([conflict_id(step.pick ^ 1), conflict_id(step.how)]);
        }
        staged.finish().unwrap()
    }

    /// What a peer sends whose answer was lost.
    fn again(&self) -> Batch {
        let Batch { packs, contents, versions, dropped, conflicts, .. } = self.last.clone();
        if !dropped.is_empty() {
            return Batch::default();
        }
        Batch { packs, contents, versions, conflicts, ..Batch::default() }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    Heads,
    Older,
    Renamed,
    Unknown,
}

fn replica(index: usize) -> ReplicaId {
    ReplicaId::from_bytes([index as u8 + 1; 16])
}

fn conflict_id(pick: u16) -> ConflictId {
    ConflictId::from_bytes([(pick % 8) as u8; 16])
}

fn path(pick: u16) -> VaultPath {
    let folder = ["", "Daily/", "Work/Plans/"][usize::from(pick % 3)];
    VaultPath::new(&format!("{folder}note {}.md", pick % PATHS)).unwrap()
}

fn text(step: Step) -> String {
    let lines = 3 + step.how % 40;
    (0..lines).map(|line| format!("Line {line} of {}.\n\n", step.pick)).collect()
}

fn live(path: VaultPath, text: &str, step: Step) -> State {
    let mut live = Live {
        path,
        kind: Kind::Note,
        content: ContentHash::of_text(text),
        bytes: text.len() as u64,
        keys: Default::default(),
        tags: Default::default(),
    };
    if step.how % 4 == 1 {
        let stamp = Stamp::new(1 << 40, step.how % 3, replica(1));
        live.keys.insert(format!("key {}", step.how % 2), stamp);
        let dot = Dot { replica: replica(2), counter: u64::from(step.how) + 1 };
        live.tags.entry("tag".to_owned()).or_default().insert(dot);
    }
    State::Live(live)
}

fn put_text(
    staged: &mut Staged<'_, MemoryStore>,
    text: &str,
    base: Option<&ContentHash>,
    how: u16,
) {
    let base = base.filter(|_| !how.is_multiple_of(5));
    staged.put_new_content(ContentHash::of_text(text), text.as_bytes().into(), base).unwrap();
}

fn pick_note(store: &MemoryStore, step: Step) -> Option<(NoteId, Vec<VersionId>)> {
    let notes = store.changed(Seq(0), Seq(u64::MAX), usize::MAX).unwrap();
    let (_, note) = notes.get(usize::from(step.pick) % notes.len().max(1))?;
    let heads = store.heads(note).unwrap();
    (!heads.is_empty()).then_some((*note, heads))
}

fn file(path: VaultPath, id: VersionId, version: &Version, step: Step) -> Option<FileRow> {
    let live = version.live()?;
    Some(FileRow {
        disk_path: path,
        note: version.note,
        version: id,
        content: live.content,
        kind: live.kind,
        stat: FileStat {
            bytes: live.bytes,
            mtime_ns: -i64::from(step.how),
            ctime_ns: i64::from(step.pick),
            inode: u64::MAX - u64::from(step.pick),
            device: 1,
        },
        seen_ns: 1,
    })
}
