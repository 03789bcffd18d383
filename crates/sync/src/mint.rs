//! New versions from what happened on this device, and the same versions again when the device
//! turns out to be a copy or its clock to be wrong.
//!
//! Law: a minted version's parent is the version its file was last in step with, never just the
//! newest one known: that is what makes the merge three-way.

use std::collections::{BTreeMap, BTreeSet};

use crucible_core::hash::{ContentHash, Domain, keyed};
use crucible_core::id::{NoteId, ReplicaId, VersionId};
use crucible_core::identity::{Identity, Naming, identify};
use crucible_core::note_merge::restamp;
use crucible_core::timestamp::{Hlc, Stamp};
use crucible_core::vault_path::VaultPath;
use crucible_core::version::{Author, KeyStamps, Kind, Live, State, TagDots, Version};
use crucible_core::version_vector::{Dot, VersionVector};
use crucible_core::view::Source;

use crate::ahead::is_ahead;
use crate::pack::Event;
use crate::replica::ReplicaMeta;
use crate::repo::{Repo, Seq};
use crate::staged::{EngineError, Staged};

/// Bytes that a file holds now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Note or asset.
    pub kind: Kind,
    /// Of the bytes.
    pub content: ContentHash,
    /// Size.
    pub bytes: u64,
}

impl Found {
    /// Of bytes at a path.
    pub fn of(bytes: &[u8], path: &VaultPath) -> Self {
        let Identity { kind, hash, bytes } = identify(bytes, Naming::of(path));
        Self { kind, content: hash, bytes }
    }
}

/// What happened to a file since it was last in step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A file that held no note.
    Created {
        /// Where.
        path: VaultPath,
        /// What it holds; its bytes are staged or a blob.
        found: Found,
    },
    /// Other bytes, perhaps also another name.
    Edited {
        /// What the file was in step with.
        base: VersionId,
        /// The note's path now; `None` when it was not renamed.
        path: Option<VaultPath>,
        /// What it holds now.
        found: Found,
    },
    /// Another name.
    Moved {
        /// What the file was in step with.
        base: VersionId,
        /// The note's path now.
        path: VaultPath,
    },
    /// Gone.
    Deleted {
        /// What the file was in step with.
        base: VersionId,
    },
}

type Fallible<T, R> = Result<T, EngineError<<R as Repo>::Error>>;

/// Mints on one replica; keeps its counter and clock in `meta`, which the caller commits.
pub struct Minter<'m> {
    meta: &'m mut ReplicaMeta,
    now_ms: u64,
    /// What the other side's clock showed when it refused stamps as ahead: what follows one of
    /// those is just above it, and does not carry the clock of all other notes along.
    refused_at_ms: Option<u64>,
}

impl<'m> Minter<'m> {
    /// At `now_ms` of the wall clock, uncorrected.
    pub fn new(meta: &'m mut ReplicaMeta, now_ms: u64) -> Self {
        let now_ms = now_ms.saturating_add_signed(meta.clock_correction_ms);
        Self { meta, now_ms, refused_at_ms: None }
    }

    /// The next event of this replica on `note`, by somebody who had seen `past`, and later than
    /// `after`.
    ///
    /// A replica's events are one after another, and clocks say so: whoever knows its fifth is
    /// taken to know its fourth. What was made from an older version than this replica's last word
    /// on the note (displaced bytes, an edit of a file that is not settled) is beside that, not
    /// after it; so it counts as the first event of a replica of its own.
    pub fn event<R: Repo>(
        &mut self,
        staged: &Staged<'_, R>,
        note: &NoteId,
        past: &VersionVector,
        after: Option<Stamp>,
    ) -> Fallible<Event, R> {
        self.meta.counter += 1;
        let mut dot = Dot { replica: self.meta.replica, counter: self.meta.counter };
        for head in staged.heads(note)? {
            let known = &staged.known_version(&head)?.clock;
            if known.get(&self.meta.replica) > past.get(&self.meta.replica) {
                dot = Dot { replica: aside(&dot), counter: 1 };
                break;
            }
        }
        let is_refused = |stamp: &Stamp| self.refused_at_ms.is_some_and(|at| is_ahead(*stamp, at));
        let ahead = after.filter(is_refused);
        let mut clock = Hlc::new(ahead.map_or(self.meta.ticks, |stamp| stamp.ticks()));
        if let Some(stamp) = after {
            clock.observe(stamp);
        }
        let stamp = clock.tick(self.now_ms, dot.replica);
        if ahead.is_none() {
            self.meta.ticks = clock.last_ticks();
        }
        Ok(Event { dot, ticks: stamp.ticks() })
    }

    /// Stages the version that `change` makes. Bytes of notes must be staged before.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn mint<R: Repo>(
        &mut self,
        staged: &mut Staged<'_, R>,
        change: &Change,
    ) -> Fallible<VersionId, R> {
        let version = match change {
            Change::Created { path, found } => self.created(staged, path, *found)?,
            Change::Edited { base, path, found } => {
                self.edited(staged, *base, path.as_ref(), *found)?
            }
            Change::Moved { base, path } => {
                let parent = staged.known_version(base)?;
                let live = parent.live().ok_or(EngineError::Dangling(*base))?;
                let state = State::Live(Live { path: path.clone(), ..live.clone() });
                self.event_on(staged, &parent)?.version(*base, &parent, state)
            }
            Change::Deleted { base } => {
                let parent = staged.known_version(base)?;
                self.event_on(staged, &parent)?.version(*base, &parent, State::Deleted)
            }
        };
        Ok(staged.put_version(version)?.0)
    }

    /// Stages a version that brings a note back, on top of the one that took it away, to what it
    /// was.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn mint_back<R: Repo>(
        &mut self,
        staged: &mut Staged<'_, R>,
        taken_away: VersionId,
        was: Live,
    ) -> Fallible<VersionId, R> {
        let parent = staged.known_version(&taken_away)?;
        let event = self.event_on(staged, &parent)?;
        Ok(staged.put_version(event.version(taken_away, &parent, State::Live(was)))?.0)
    }

    fn event_on<R: Repo>(
        &mut self,
        staged: &Staged<'_, R>,
        parent: &Version,
    ) -> Fallible<Event, R> {
        self.event(staged, &parent.note, &parent.clock, Some(parent.stamp))
    }

    fn edited<R: Repo>(
        &mut self,
        staged: &Staged<'_, R>,
        base: VersionId,
        path: Option<&VaultPath>,
        found: Found,
    ) -> Fallible<Version, R> {
        let parent = staged.known_version(&base)?;
        let event = self.event_on(staged, &parent)?;
        let old = parent.live();
        let path = path.or(old.map(|old| &old.path)).ok_or(EngineError::Dangling(base))?;
        let (keys, tags) = match (old, found.kind) {
            (Some(old), Kind::Note) if old.kind == Kind::Note => {
                match (staged.text(&old.content)?, staged.text(&found.content)?) {
                    (Some(before), Some(after)) => {
                        let (stamp, dot) = (event.stamp(), event.dot);
                        restamp(Some((&before, &old.keys, &old.tags)), &after, stamp, dot)
                    }
                    _ => (old.keys.clone(), old.tags.clone()),
                }
            }
            _ => (KeyStamps::new(), TagDots::new()),
        };
        let Found { kind, content, bytes } = found;
        let live = Live { path: path.clone(), kind, content, bytes, keys, tags };
        Ok(event.version(base, &parent, State::Live(live)))
    }

    /// A file nobody knew. A note deleted at this path lives on; one that lives elsewhere now
    /// leaves the path to the next generation; one that is live at this very path, but not
    /// placed here yet, meets this file as a second first version, and the two merge.
    fn created<R: Repo>(
        &mut self,
        staged: &Staged<'_, R>,
        path: &VaultPath,
        found: Found,
    ) -> Fallible<Version, R> {
        let (note, parents) = self.birth(staged, path)?;
        let mut clock = VersionVector::new();
        let mut newest = None;
        for id in &parents {
            let parent = staged.known_version(id)?;
            clock = clock.join(&parent.clock);
            newest = newest.max(Some(parent.stamp));
        }
        let event = self.event(staged, &note, &clock, newest)?;
        clock.observe(event.dot);
        let Found { kind, content, bytes } = found;
        let (keys, tags) = (KeyStamps::new(), TagDots::new());
        let state = State::Live(Live { path: path.clone(), kind, content, bytes, keys, tags });
        let author = Author::Replica(event.dot.replica);
        Ok(Version { note, parents, clock, stamp: event.stamp(), author, state })
    }

    fn birth<R: Repo>(
        &self,
        staged: &Staged<'_, R>,
        path: &VaultPath,
    ) -> Fallible<(NoteId, Vec<VersionId>), R> {
        let mut generation = 0;
        loop {
            let note = NoteId::derive(&self.meta.vault, path, generation);
            let heads = staged.heads(&note)?;
            let mut here = false;
            let mut elsewhere = false;
            for head in &heads {
                match staged.known_version(head)?.path() {
                    Some(live) if live == path => here = true,
                    Some(_) => elsewhere = true,
                    None => {}
                }
            }
            if here {
                return Ok((note, Vec::new()));
            }
            if !elsewhere {
                return Ok((note, heads));
            }
            generation += 1;
        }
    }
}

/// The replica of one event that stands aside: no other event of this one has its counter.
fn aside(dot: &Dot) -> ReplicaId {
    let hash = keyed(Domain::Aside, &[dot.replica.as_bytes(), &dot.counter.to_be_bytes()]);
    ReplicaId::from_slice(&hash[..ReplicaId::LEN]).expect("a hash is longer than the id")
}

/// Why versions are minted again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// Their replica id belongs to a copy. The clock goes on.
    OtherId,
    /// The other side, whose clock shows `now_ms`, refused their stamps as ahead. The clock starts
    /// over from what that side believes: the stamps that were wrong must not hold it up. Only
    /// the other side's time decides which those are; the clock here is the one in doubt.
    Ahead {
        /// Of the other side.
        now_ms: u64,
    },
}

/// Old version ids and what they became.
pub type Reminted = BTreeMap<VersionId, VersionId>;

/// Mints `unsent` (oldest first) again under `meta`'s replica and clock, and takes the old ones
/// back. What nobody else has seen may change its name; what they say does not change. Merges of
/// what others have stay as they are.
///
/// # Errors
/// [`EngineError`].
pub fn remint<R: Repo>(
    staged: &mut Staged<'_, R>,
    meta: &mut ReplicaMeta,
    now_ms: u64,
    unsent: &[VersionId],
    again: Again,
) -> Fallible<Reminted, R> {
    let mut olds = Vec::with_capacity(unsent.len());
    let mut affected = Vec::with_capacity(unsent.len());
    for id in unsent {
        let old = staged.known_version(id)?;
        // A merge of what everybody has is the same merge again.
        if old.is_merge() && !old.parents.iter().any(|parent| affected.contains(parent)) {
            continue;
        }
        affected.push(*id);
        olds.push((*id, old));
    }
    staged.drop_versions(&affected)?;
    let refused_at_ms = match again {
        Again::OtherId => None,
        Again::Ahead { now_ms } => {
            meta.ticks = newest_ticks(staged, now_ms)?;
            Some(now_ms)
        }
    };
    let mut reminted = Reminted::new();
    let mut stamps: BTreeMap<NoteId, BTreeMap<Stamp, Stamp>> = BTreeMap::new();
    let mut dots: BTreeMap<Dot, Dot> = BTreeMap::new();
    for (id, old) in olds {
        let mut version = (*old).clone();
        let mut clock = VersionVector::new();
        let mut newest = None;
        for parent in &mut version.parents {
            *parent = reminted.get(parent).copied().unwrap_or(*parent);
            if let Some(parent) = staged.version(parent)? {
                clock = clock.join(&parent.clock);
                newest = newest.max(Some(parent.stamp));
            }
        }
        version.parents.sort_unstable();
        match old.author {
            Author::Merge(_) => version.stamp = newest.unwrap_or(old.stamp).just_above(),
            Author::Replica(_) => {
                let mut minter = Minter { refused_at_ms, ..Minter::new(meta, now_ms) };
                let event = minter.event(staged, &old.note, &clock, newest)?;
                clock.observe(event.dot);
                version.author = Author::Replica(event.dot.replica);
                version.stamp = event.stamp();
                stamps.entry(old.note).or_default().insert(old.stamp, version.stamp);
                dots.extend(old.dot().map(|dot| (dot, event.dot)));
            }
        }
        version.clock = clock;
        if let State::Live(live) = &mut version.state {
            rename_events(live, stamps.entry(old.note).or_default(), &dots);
        }
        reminted.insert(id, staged.put_version(version)?.0);
    }
    Ok(reminted)
}

/// The newest stamp of any head, which is what the clock has to be past; those far ahead of
/// `now_ms` concern their own notes alone.
fn newest_ticks<R: Repo>(staged: &Staged<'_, R>, now_ms: u64) -> Fallible<u64, R> {
    let repo = staged.repo();
    let now = repo.seq().map_err(EngineError::Repo)?;
    let notes = repo.changed(Seq(0), now, usize::MAX).map_err(EngineError::Repo)?;
    let mut newest = 0;
    for (_, note) in notes {
        for head in staged.heads(&note)? {
            let stamp = staged.known_version(&head)?.stamp;
            if !is_ahead(stamp, now_ms) {
                newest = newest.max(stamp.ticks());
            }
        }
    }
    Ok(newest)
}

/// What became of versions that were taken back: what stands in the place of each.
pub type Replaced = BTreeMap<VersionId, Vec<VersionId>>;

/// Takes back the versions in `gone`, whose bytes are nowhere any more and which nobody else has.
/// `affected` (oldest first) are these and all that descend from them: the others are minted again
/// on what remains, but for merges, which are made anew, and deletions of what nobody ever saw.
///
/// # Errors
/// [`EngineError`].
pub fn take_back<R: Repo>(
    staged: &mut Staged<'_, R>,
    meta: &mut ReplicaMeta,
    now_ms: u64,
    affected: &[VersionId],
    gone: &BTreeSet<VersionId>,
) -> Fallible<Replaced, R> {
    let mut olds = Vec::with_capacity(affected.len());
    for id in affected {
        olds.push((*id, staged.known_version(id)?));
    }
    staged.drop_versions(affected)?;
    let mut replaced = Replaced::new();
    let mut stamps: BTreeMap<NoteId, BTreeMap<Stamp, Stamp>> = BTreeMap::new();
    let mut dots: BTreeMap<Dot, Dot> = BTreeMap::new();
    for (id, old) in olds {
        let kept = |parent: &VersionId| replaced.get(parent).cloned().unwrap_or(vec![*parent]);
        let mut parents: Vec<VersionId> = old.parents.iter().flat_map(kept).collect();
        parents.sort_unstable();
        parents.dedup();
        let says_nothing = old.live().is_none() && parents.is_empty();
        if gone.contains(&id) || old.is_merge() || says_nothing {
            replaced.insert(id, parents);
            continue;
        }
        let mut version = Version { parents, ..(*old).clone() };
        let mut clock = VersionVector::new();
        let mut newest = None;
        for parent in &version.parents {
            let parent = staged.known_version(parent)?;
            clock = clock.join(&parent.clock);
            newest = newest.max(Some(parent.stamp));
        }
        let event = Minter::new(meta, now_ms).event(staged, &old.note, &clock, newest)?;
        clock.observe(event.dot);
        version.clock = clock;
        version.author = Author::Replica(event.dot.replica);
        version.stamp = event.stamp();
        stamps.entry(old.note).or_default().insert(old.stamp, version.stamp);
        dots.extend(old.dot().map(|dot| (dot, event.dot)));
        if let State::Live(live) = &mut version.state {
            rename_events(live, stamps.entry(old.note).or_default(), &dots);
        }
        replaced.insert(id, vec![staged.put_version(version)?.0]);
    }
    Ok(replaced)
}

/// `stamps` are those of one note: two notes above wrong clocks can share one.
fn rename_events(live: &mut Live, stamps: &BTreeMap<Stamp, Stamp>, dots: &BTreeMap<Dot, Dot>) {
    for stamp in live.keys.values_mut() {
        *stamp = stamps.get(stamp).copied().unwrap_or(*stamp);
    }
    for set in live.tags.values_mut() {
        *set = set.iter().map(|dot| dots.get(dot).copied().unwrap_or(*dot)).collect();
    }
}

/// A replica id for a copy that has found out it is one.
pub fn start_over(meta: &mut ReplicaMeta, replica: ReplicaId) {
    meta.replica = replica;
    meta.counter = 0;
    meta.acked_counter = 0;
}
