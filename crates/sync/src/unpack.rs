//! A parcel back into versions and contents, verified before anything is staged for good.
//!
//! Invariant: no bytes are staged under a hash they do not have, no version whose content is not
//! here (or about to come as a blob, where the caller allows it), no version that breaks a rule of
//! the model against a parent that is known.

use std::sync::Arc;

use crucible_core::hash::ContentHash;
use crucible_core::id::{NoteId, VaultId, VersionId};
use crucible_core::limits::NOTE_BYTES_MAX;
use crucible_core::vault_path::VaultPath;
use crucible_core::version::{
    Author, DecodeVersionError, KeyStamps, Kind, Live, State, TagDots, Version,
};
use crucible_core::version_vector::{Dot, VersionVector};
use crucible_proto::limits::PACK_RAW_MAX;
use crucible_proto::parcel::{Bytes, Content, Group, PackFrame, Parcel, Prefix, Record};
use crucible_proto::zip;

use crate::pack::{Event, derive_folder, digest, edited, folder_at, is_inline};
use crate::repo::{Body, Pack, Repo, Seq};
use crate::staged::{EngineError, Staged};

/// Whether blobs have to be here before the versions that name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blobs {
    /// A side that others read from: no version is visible before its bytes.
    First,
    /// A device: it fetches them before it places the file.
    Later,
}

/// Why a parcel was not taken. Nothing is stored then.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError<E: std::error::Error + Send + Sync + 'static> {
    /// This side's own store.
    #[error(transparent)]
    Engine(#[from] EngineError<E>),
    /// A relative record names what is not here: to be sent again whole.
    #[error("a record cannot be resolved here")]
    Unresolved,
    /// These contents have to be here first.
    #[error("{} contents are not here yet", .0.len())]
    Missing(Vec<ContentHash>),
    /// The bytes of a file are not those its version names.
    #[error("the bytes of {path} do not have the hash its version names")]
    Mismatch {
        /// Which file.
        path: VaultPath,
    },
    /// A version is malformed or breaks a rule.
    #[error(transparent)]
    Version(#[from] DecodeVersionError),
    /// A record breaks a rule.
    #[error("a record breaks the rule: {0}")]
    Rule(&'static str),
}

/// Where a parcel is unpacked to.
pub struct Unpacker<'u, 'r, R: Repo> {
    /// Receives versions and contents.
    pub staged: &'u mut Staged<'r, R>,
    /// Of this vault.
    pub vault: VaultId,
    /// The position here at which the sender was in step, for renamed folders.
    pub in_step_at: Option<Seq>,
    /// See [`Blobs`].
    pub blobs: Blobs,
}

struct OpenPack {
    raw: Arc<[u8]>,
    /// Where the next content begins, if its record does not say.
    offset: usize,
    /// Raw bytes that records may still take.
    left: usize,
    frame: Option<PackFrame>,
    staged_as: Option<usize>,
}

type Fallible<T, R> = Result<T, UnpackError<<R as Repo>::Error>>;

fn rule<E: std::error::Error + Send + Sync + 'static>(
    holds: bool,
    text: &'static str,
) -> Result<(), UnpackError<E>> {
    if holds { Ok(()) } else { Err(UnpackError::Rule(text)) }
}

impl<R: Repo> Unpacker<'_, '_, R> {
    /// Stages everything in the parcel; returns the versions in its order, known ones included.
    ///
    /// # Errors
    /// [`UnpackError`]; the staged batch must be thrown away then.
    pub fn unpack(&mut self, parcel: Parcel) -> Fallible<Vec<VersionId>, R> {
        let mut packs = Vec::with_capacity(parcel.packs.len());
        for pack in parcel.packs {
            packs.push(open_pack(pack)?);
        }
        let mut received = Vec::new();
        let mut missing = Vec::new();
        for group in parcel.groups {
            self.group(group, &mut packs, &mut received, &mut missing)?;
        }
        if !missing.is_empty() {
            missing.sort_unstable();
            missing.dedup();
            return Err(UnpackError::Missing(missing));
        }
        Ok(received)
    }

    fn group(
        &mut self,
        group: Group,
        packs: &mut [OpenPack],
        received: &mut Vec<VersionId>,
        missing: &mut Vec<ContentHash>,
    ) -> Fallible<(), R> {
        let (mut ticks, mut counter) = (group.ticks, group.counter);
        for record in group.records {
            let (advance, count) = advance_of(&record);
            ticks = ticks.checked_add(advance.0).ok_or(UnpackError::Rule("ticks are bounded"))?;
            counter =
                counter.checked_add(advance.1).ok_or(UnpackError::Rule("counters are bounded"))?;
            let dot = Dot { replica: group.replica, counter };
            let event = Event { dot, ticks };
            self.record(record, event, packs, received, missing)?;
            ticks = ticks.saturating_add(count - 1);
            counter = counter.saturating_add(count - 1);
        }
        Ok(())
    }

    fn record(
        &mut self,
        record: Record,
        event: Event,
        packs: &mut [OpenPack],
        received: &mut Vec<VersionId>,
        missing: &mut Vec<ContentHash>,
    ) -> Fallible<(), R> {
        let version = match record {
            Record::Full { version, source } => {
                let version = Version::decode(&version)?;
                if let Some(live) = version.live() {
                    let source = source.ok_or(UnpackError::Rule("live versions have content"))?;
                    self.bytes(live, source, None, packs, missing)?;
                }
                self.check_against_parents(&version)?;
                version
            }
            Record::Create { path, generation, kind, content, .. } => {
                rule(event.dot.counter > 0, "counters start at 1")?;
                let live = Live {
                    path,
                    kind,
                    content: content.hash,
                    bytes: content.bytes,
                    keys: KeyStamps::new(),
                    tags: TagDots::new(),
                };
                self.bytes(&live, content.source, None, packs, missing)?;
                creation(&self.vault, generation, event, live)
            }
            Record::Edit { parent, content, keys, tags, .. } => {
                self.edit(event, parent, content, (&keys, &tags), packs, missing)?
            }
            Record::Move { parent, path, .. } => {
                let (id, parent) = self.parent(parent, event)?;
                let live = parent.live().ok_or(UnpackError::Unresolved)?;
                event.version(id, &parent, State::Live(Live { path, ..live.clone() }))
            }
            Record::Delete { parent, .. } => {
                let (id, parent) = self.parent(parent, event)?;
                event.version(id, &parent, State::Deleted)
            }
            Record::FolderMove { from, to, count, digest: expected, .. } => {
                let at = self.in_step_at.ok_or(UnpackError::Unresolved)?;
                let members = folder_at(self.staged, at, &from)?;
                rule(count > 0, "a folder's rename moves something")?;
                let derived = derive_folder(&members, &from, &to, event)
                    .filter(|derived| derived.len() == count as usize)
                    .ok_or(UnpackError::Unresolved)?;
                let ids: Vec<VersionId> = derived.iter().map(Version::id).collect();
                if digest(&ids) != expected {
                    return Err(UnpackError::Unresolved);
                }
                for version in derived {
                    version.check()?;
                    self.check_against_parents(&version)?;
                    received.push(self.staged.put_version(version)?.0);
                }
                return Ok(());
            }
        };
        // Derived versions have not been through `Version::decode`.
        version.check()?;
        received.push(self.staged.put_version(version)?.0);
        Ok(())
    }

    fn edit(
        &mut self,
        event: Event,
        parent: Prefix,
        content: Content,
        (keys, tags): (&[String], &[String]),
        packs: &mut [OpenPack],
        missing: &mut Vec<ContentHash>,
    ) -> Fallible<Version, R> {
        let (id, parent) = self.parent(parent, event)?;
        let old = parent.live().ok_or(UnpackError::Unresolved)?;
        let plain = old.kind == Kind::Note || keys.is_empty() && tags.is_empty();
        rule(plain, "assets have no keys or tags")?;
        let live = edited(old, event, (content.hash, content.bytes), keys, tags);
        self.bytes(&live, content.source, Some(old.content), packs, missing)?;
        Ok(event.version(id, &parent, State::Live(live)))
    }

    fn parent(&mut self, prefix: Prefix, event: Event) -> Fallible<(VersionId, Arc<Version>), R> {
        let found = self.staged.versions_by_prefix(&prefix.0)?;
        let [id] = found.as_slice() else { return Err(UnpackError::Unresolved) };
        let parent = self.staged.known_version(id)?;
        rule(event.stamp() > parent.stamp, "a stamp is greater than every parent's")?;
        rule(
            event.dot.counter > parent.clock.get(&event.dot.replica),
            "a counter is greater than the parents know",
        )?;
        Ok((*id, parent))
    }

    /// The rules of a whole version, as far as its parents are known here.
    fn check_against_parents(&self, version: &Version) -> Fallible<(), R> {
        let mut joined = VersionVector::new();
        let mut all_known = true;
        for id in &version.parents {
            let Some(parent) = self.staged.version(id)? else {
                all_known = false;
                continue;
            };
            rule(parent.note == version.note, "parents are of the same note")?;
            rule(version.stamp > parent.stamp, "a stamp is greater than every parent's")?;
            rule(version.clock.dominates(&parent.clock), "a clock knows its parents' events")?;
            joined = joined.join(&parent.clock);
        }
        if all_known && !version.parents.is_empty() {
            let expected = match version.author {
                Author::Merge(_) => joined,
                Author::Replica(replica) => {
                    let counter = version.clock.get(&replica);
                    rule(counter > joined.get(&replica), "an author counts on")?;
                    joined.observe(Dot { replica, counter });
                    joined
                }
            };
            rule(version.clock == expected, "a clock is its parents' and its author's event")?;
        }
        Ok(())
    }

    fn bytes(
        &mut self,
        live: &Live,
        source: Bytes,
        parent: Option<ContentHash>,
        packs: &mut [OpenPack],
        missing: &mut Vec<ContentHash>,
    ) -> Fallible<(), R> {
        let (base, frame) = match source {
            Bytes::Elsewhere if is_inline(live) => {
                // A size that is not the content's would stop everybody who pulls the version.
                let raw = self.staged.content(&live.content)?.ok_or(UnpackError::Unresolved)?;
                return rule(raw.len() as u64 == live.bytes, "a version says its content's size");
            }
            Bytes::Elsewhere => {
                let here = self.staged.has_content(&live.content)?;
                if !here && self.blobs == Blobs::First {
                    missing.push(live.content);
                }
                return Ok(());
            }
            Bytes::Packed(number) => return self.packed(live, number as usize, None, packs),
            Bytes::PackedAt(number, at) => {
                return self.packed(live, number as usize, Some(at as usize), packs);
            }
            Bytes::Delta(frame) => (parent.ok_or(UnpackError::Unresolved)?, frame),
            Bytes::DeltaTo(base, frame) => (base, frame),
        };
        rule(is_inline(live) && live.bytes <= NOTE_BYTES_MAX, "deltas are of inline content")?;
        let old = self.staged.content(&base)?.ok_or(UnpackError::Unresolved)?;
        let raw = zip::undelta(&old, &frame, live.bytes as usize)
            .map_err(|_| UnpackError::Mismatch { path: live.path.clone() })?;
        verify(live, &raw)?;
        self.staged.put_content(live.content, raw.into(), Body::Delta { base, frame })?;
        Ok(())
    }

    fn packed(
        &mut self,
        live: &Live,
        number: usize,
        at: Option<usize>,
        packs: &mut [OpenPack],
    ) -> Fallible<(), R> {
        let pack = packs.get_mut(number).ok_or(UnpackError::Rule("a record's pack is there"))?;
        rule(live.bytes <= PACK_RAW_MAX as u64, "packed content is within its bound")?;
        let bytes = live.bytes as usize;
        let offset = at.unwrap_or(pack.offset);
        let raw = pack.raw.get(offset..offset.saturating_add(bytes));
        let raw = raw.ok_or(UnpackError::Rule("a pack holds its records"))?;
        // Else a small parcel could have the same bytes hashed again and again.
        let left = pack.left.checked_sub(bytes);
        pack.left = left.ok_or(UnpackError::Rule("the records take a pack's bytes once"))?;
        verify(live, raw)?;
        pack.offset = offset + bytes;
        if self.staged.has_inline(&live.content)? {
            return Ok(());
        }
        let raw = raw.into();
        let staged_as = match (pack.staged_as, pack.frame.take()) {
            (Some(index), _) => index,
            (None, Some(PackFrame { raw_bytes, frame })) => {
                self.staged.put_pack(Pack { raw_bytes, frame })
            }
            (None, None) => return Err(UnpackError::Rule("a pack is staged once")),
        };
        pack.staged_as = Some(staged_as);
        let body = Body::Packed { pack: staged_as, offset: offset as u32 };
        self.staged.put_content(live.content, raw, body)?;
        Ok(())
    }
}

fn open_pack<E: std::error::Error + Send + Sync + 'static>(
    pack: PackFrame,
) -> Result<OpenPack, UnpackError<E>> {
    let raw = zip::unzip(&pack.frame, pack.raw_bytes as usize)
        .map_err(|_| UnpackError::Rule("a pack decodes to its announced size"))?;
    // It is kept and sent on as it came.
    rule(pack.frame.len() <= zip::bound(raw.len()), "a frame is hardly larger than its content")?;
    let left = raw.len();
    Ok(OpenPack { raw: raw.into(), offset: 0, left, frame: Some(pack), staged_as: None })
}

fn verify<E: std::error::Error + Send + Sync + 'static>(
    live: &Live,
    raw: &[u8],
) -> Result<(), UnpackError<E>> {
    let hash = match live.kind {
        Kind::Note => std::str::from_utf8(raw).ok().map(ContentHash::of_text),
        Kind::Asset => Some(ContentHash::of_blob(raw)),
    };
    if hash == Some(live.content) && live.bytes == raw.len() as u64 {
        Ok(())
    } else {
        Err(UnpackError::Mismatch { path: live.path.clone() })
    }
}

fn creation(vault: &VaultId, generation: u32, event: Event, live: Live) -> Version {
    Version {
        note: NoteId::derive(vault, &live.path, generation),
        parents: Vec::new(),
        clock: [event.dot].into_iter().collect(),
        stamp: event.stamp(),
        author: Author::Replica(event.dot.replica),
        state: State::Live(live),
    }
}

/// How far a record advances its author's clock, and how many events it is.
fn advance_of(record: &Record) -> ((u64, u64), u64) {
    match record {
        Record::Full { .. } => ((0, 0), 1),
        Record::Create { ticks, counter, .. }
        | Record::Edit { ticks, counter, .. }
        | Record::Move { ticks, counter, .. }
        | Record::Delete { ticks, counter, .. } => ((*ticks, *counter), 1),
        Record::FolderMove { ticks, counter, count, .. } => {
            ((*ticks, *counter), u64::from(*count).max(1))
        }
    }
}
