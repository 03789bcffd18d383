//! Talking to the other side until both have the same root, or it is clear why not.
//!
//! Every answer that has stored nothing (a wrong clock, a copied folder, missing blobs, records
//! that do not resolve) is mended here and asked again; each of these can happen only so often.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};

use crucible_core::hash::ContentHash;
use crucible_core::id::{LeafHash, NoteId, VersionId};
use crucible_core::limits::CLOCK_AHEAD_MAX_MS;
use crucible_core::merkle::walk::{Walk, WalkAnswer, WalkAsk, WalkError, WalkLimits};
use crucible_core::merkle::{Difference, Sighting};
use crucible_core::vault_path::VaultPath;
use crucible_core::version::{Kind, Version};
use crucible_proto::limits::{HAVE_MAX, INLINE_BYTES_MAX};
use crucible_proto::message::{self, Answer, Cursor, Done};
use crucible_sync::ahead;
use crucible_sync::ask::{self, Asking, Losses, Request};
use crucible_sync::mint::{self, Again};
use crucible_sync::replica::{
    Displaced, FileRow, Placing, ReplicaBatch, ReplicaMeta, ReplicaStore,
};
use crucible_sync::staged::{EngineError, Staged, Tree};
use crucible_sync::unpack::UnpackError;
use crucible_vault::fs::{FileSystem, Stat};

use crate::error::{Direction, SyncError};
use crate::link::{Link, LinkError};
use crate::replica::{Fallible, Replica, Round, to_file_stat};
use crate::report::{Notice, Progress};

/// Answers without progress after which a round gives up.
const MENDS_MAX: u32 = 12;
/// Bytes that a round may carry in case a walk is needed: the top of a trie of any size.
const OPENING_BYTES_MAX: usize = 384;
/// Notes told in one request after a walk: few enough for their texts to make one page.
const HAVE_PAGE: usize = if HAVE_MAX < 512 { HAVE_MAX } else { 512 };

/// Versions looked at below one to find the other side's head, before that side is asked.
const ANCESTORS_MAX: usize = 64;

/// What an answer came to.
enum Heard {
    /// Stored; whether both sides are in step, and where the pull goes on.
    Done { in_step: bool, next: Option<Cursor> },
    /// Ask again as it is now.
    Again,
    /// Ask again with whole records.
    AgainWhole,
    /// Ask again about only so many of the oldest unsent versions, then about as many more.
    AgainInParts(usize),
    /// Ask again about all of them.
    AgainAll,
    /// No common root is known there; its answer to the walk that the round began.
    Walk(Option<WalkAnswer>),
}

impl<F: FileSystem, S: ReplicaStore> Replica<F, S> {
    /// Sends what is unsent (unless `pull_only`) and pulls what is new; whether both are in step.
    pub(crate) fn exchange(
        &mut self,
        link: &mut dyn Link,
        round: &mut Round<'_>,
        pull_only: bool,
    ) -> Fallible<bool, S> {
        let pulled = self.meta()?.pulled;
        let mut asking = Asking {
            policies: self.settings.policies.clone(),
            allow_mass_delete: round.options.allow_mass_delete,
            whole: false,
            at_most: None,
            cursor: pulled.map(|after| Cursor { after }),
            pull_only,
        };
        let (mut mends, mut walked) = (0, false);
        let mut opening = self.opening(link)?;
        round.undid_losses = false;
        while mends < MENDS_MAX {
            asking.allow_mass_delete |= round.undoes_losses;
            let mut request = self.store.reading(|| ask::request(&self.store, &asking))?;
            let opened = opening.take();
            request.round.walk = opened.as_ref().map(|(_, first)| first.clone());
            match self.ask_as_allowed(link, round, &mut asking, &request)? {
                Heard::Done { in_step: true, .. } => return Ok(true),
                Heard::Done { next: Some(next), .. } => asking.cursor = Some(next),
                Heard::Done { next: None, .. } if request.round.more => asking.cursor = None,
                Heard::Done { next: None, .. } => {
                    // What was brought back is to be sent before the roots can be equal.
                    if walked || round.undid_losses {
                        return Ok(false);
                    }
                    walked = true;
                    let differing = self.find_differences(link, None)?;
                    let notes: Vec<NoteId> = ask::notes(&differing).collect();
                    if self.tell_of(link, round, &mut asking, &notes)? {
                        return Ok(true);
                    }
                    asking.cursor = None;
                }
                Heard::Walk(answer) => {
                    walked = true;
                    mends += 1;
                    let begun = opened.map(|(walk, _)| walk).zip(answer);
                    let differing = self.find_differences(link, begun)?;
                    let notes = self.expect_little(link, &differing, round)?;
                    if self.tell_of(link, round, &mut asking, &notes)? {
                        return Ok(true);
                    }
                    asking.cursor = None;
                }
                Heard::Again => mends += 1,
                Heard::AgainWhole => {
                    mends += 1;
                    asking.whole = true;
                }
                Heard::AgainInParts(at_most) => {
                    mends += 1;
                    asking.at_most = Some(at_most);
                }
                Heard::AgainAll => {
                    mends += 1;
                    asking.at_most = None;
                }
            }
        }
        Ok(false)
    }

    /// Asks, and keeps to pulling once a push was not allowed: a token says nothing of what it
    /// is good for.
    fn ask_as_allowed(
        &mut self,
        link: &mut dyn Link,
        round: &mut Round<'_>,
        asking: &mut Asking,
        request: &Request,
    ) -> Fallible<Heard, S> {
        let pushes = !request.sent.is_empty() || !request.round.closed.is_empty();
        match self.ask(link, round, request) {
            Err(SyncError::Link(LinkError::Forbidden { .. })) if pushes && !asking.pull_only => {
                asking.pull_only = true;
                self.settings.read_only = true;
                Ok(Heard::Again)
            }
            heard => heard,
        }
    }

    fn ask(
        &mut self,
        link: &mut dyn Link,
        round: &mut Round<'_>,
        request: &Request,
    ) -> Fallible<Heard, S> {
        if !self.send_blobs(link, round, &request.blobs)? {
            return Ok(Heard::Again);
        }
        (round.progress)(Progress::Sending { left: request.sent.len() as u64 });
        let body = link.round(&message::body(&request.round))?;
        let malformed = |error: crucible_proto::wire::DecodeError| LinkError::Malformed {
            place: "the other side".to_owned(),
            reason: error.to_string(),
        };
        match message::parse::<Answer>(&body).map_err(malformed)? {
            Answer::Done(done) => self.absorb(round, request, *done),
            Answer::UnknownRoot { walk } => Ok(Heard::Walk(walk)),
            // An answer that was lost may have stored some of them; minted again those would be
            // edits made twice. Asked about one, the answer is about that one.
            Answer::ClockAhead { now_ms } if request.sent.len() > 1 => {
                let staged = Staged::new(&self.store);
                let refused = ahead::refused(&staged, &request.sent, now_ms)?;
                let first = request.sent.iter().position(|id| refused.first() == Some(id));
                Ok(Heard::AgainInParts(first.unwrap_or(0).max(1)))
            }
            Answer::ClockAhead { now_ms } => {
                self.correct_clock(round, now_ms)?;
                Ok(Heard::AgainAll)
            }
            Answer::Cloned { .. } if request.sent.len() > 1 => Ok(Heard::AgainInParts(1)),
            Answer::Cloned { .. } => {
                round.report.notice(Notice::Cloned);
                let unsent = self.store.unsent().map_err(EngineError::Repo)?;
                self.take_another_id(&unsent, round)?;
                Ok(Heard::AgainAll)
            }
            Answer::Guard { .. } if round.options.restore_missing && !round.undoes_losses => {
                round.undoes_losses = true;
                Ok(Heard::Again)
            }
            Answer::Guard { deletions: lost, of } => {
                Err(SyncError::Guard { lost, of, direction: Direction::Incoming })
            }
            Answer::Missing(hashes) => {
                let missing = request.blobs.iter().filter(|(hash, _)| hashes.contains(hash));
                let missing: Vec<_> = missing.copied().collect();
                // Whether or not all could be sent, the request is made anew.
                self.send_blobs(link, round, &missing)?;
                Ok(Heard::Again)
            }
            Answer::Unresolved => Ok(Heard::AgainWhole),
        }
    }

    fn absorb(
        &mut self,
        round: &mut Round<'_>,
        request: &Request,
        done: Done,
    ) -> Fallible<Heard, S> {
        let (next, root, merged, now_ms) = (done.next, done.root, done.merged, done.now_ms);
        let losses = match round.undoes_losses {
            true => Losses::Undone { now_ms: round.world.now_ms() },
            false => Losses::Followed,
        };
        let (store, policies) = (&self.store, &self.policies);
        let absorb = || ask::absorb(store, request, done, policies, losses);
        let absorbed = match store.reading(absorb) {
            Ok(absorbed) => absorbed,
            Err(UnpackError::Unresolved) => return Ok(Heard::AgainWhole),
            Err(UnpackError::Engine(error)) => return Err(error.into()),
            Err(other) => return Err(SyncError::Received(other)),
        };
        self.commit(absorbed.batch)?;
        self.follow_correction(round, now_ms)?;
        let report = &mut round.report;
        report.server_root = root;
        report.pushed += request.sent.len() as u64;
        report.pulled += absorbed.pulled;
        round.undid_losses |= !absorbed.kept.is_empty();
        report.brought_back.extend(absorbed.kept);
        report.merged += u64::from(merged);
        for conflict in absorbed.conflicts {
            if !report.conflicts.iter().any(|known| known.id == conflict.id) {
                report.conflicts.push(conflict);
            }
        }
        (round.progress)(Progress::Receiving { done: round.report.pulled });
        if absorbed.cloned {
            self.count_anew(round)?;
        }
        Ok(Heard::Done { in_step: absorbed.in_step, next })
    }

    /// A clock that was corrected, and has been set right since or was corrected after one that has
    /// been, would now be wrong another way.
    fn follow_correction(&mut self, round: &mut Round<'_>, now_ms: u64) -> Fallible<(), S> {
        let meta = self.meta()?;
        let here = round.world.now_ms();
        let corrected = here.saturating_add_signed(meta.clock_correction_ms);
        let is_near = corrected.abs_diff(now_ms) <= CLOCK_AHEAD_MAX_MS;
        if meta.clock_correction_ms == 0 || is_near {
            return Ok(());
        }
        let meta = ReplicaMeta { clock_correction_ms: correction(here, now_ms), ..meta };
        self.commit(ReplicaBatch { meta: Some(meta), ..ReplicaBatch::default() })
    }

    /// Believes the other side's clock and mints what nobody else has again.
    fn correct_clock(&mut self, round: &mut Round<'_>, now_ms: u64) -> Fallible<(), S> {
        let by_ms = correction(round.world.now_ms(), now_ms);
        if by_ms != 0 {
            round.report.notice(Notice::ClockCorrected { by_ms });
        }
        // What the other side takes may have been stored there already.
        let unsent = self.store.unsent().map_err(EngineError::Repo)?;
        let refused = ahead::refused(&Staged::new(&self.store), &unsent, now_ms)?;
        self.mint_again(&*round.world, &refused, Again::Ahead { now_ms }, |meta| {
            meta.clock_correction_ms = by_ms;
        })
    }

    /// The first request of a walk, to go with the first round of a connection: only then can
    /// the other side be one that was put back to an older backup. A tree that needs many bytes
    /// to show its top does without.
    fn opening(&self, link: &dyn Link) -> Fallible<Option<(Walk, WalkAsk)>, S> {
        if link.traffic().requests > 0 || self.meta()?.common_root.is_none() {
            return Ok(None);
        }
        let mine = self.store.root().map_err(EngineError::Repo)?;
        let limits = WalkLimits { ask_inline_bytes: 0, ..WalkLimits::default() };
        let mut walk = Walk::new(mine.as_ref(), limits);
        let first = match walk.ask(&Tree(&self.store)) {
            Ok(first) => first,
            Err(WalkError::Read(error)) => return Err(EngineError::from(error).into()),
            Err(other) => return Err(malformed(&other).into()),
        };
        let short = first.filter(|first| first.encode().len() <= OPENING_BYTES_MAX);
        Ok(short.map(|first| (walk, first)))
    }

    /// Tells and asks about just these notes, in which the two sides differ. Whether both are in
    /// step then.
    fn tell_of(
        &mut self,
        link: &mut dyn Link,
        round: &mut Round<'_>,
        asking: &mut Asking,
        notes: &[NoteId],
    ) -> Fallible<bool, S> {
        let mut at = 0;
        let mut mends = 0;
        let mut in_step = false;
        while at < notes.len() && mends < MENDS_MAX {
            let page = &notes[at..notes.len().min(at + HAVE_PAGE)];
            asking.allow_mass_delete |= round.undoes_losses;
            let request = ask::request_for(&self.store, asking, page)?;
            match self.ask_as_allowed(link, round, asking, &request)? {
                Heard::Done { next: Some(next), .. } if next.after > 0 => {
                    at += usize::try_from(next.after).unwrap_or(page.len()).min(page.len());
                }
                Heard::Done { in_step: equal, .. } => {
                    at += page.len();
                    in_step = equal;
                }
                Heard::Again
                | Heard::AgainWhole
                | Heard::AgainInParts(_)
                | Heard::AgainAll
                | Heard::Walk(_) => mends += 1,
            }
        }
        Ok(in_step && at >= notes.len())
    }

    /// The other side knows no common root; the notes to tell it of. It may have forgotten how far
    /// this replica has counted, and a copy of this folder may come to it first, so what is
    /// unsent and not there is minted again, which makes its notes differ as well; and its log of
    /// conflicts may be another one than it was. Where nothing differs, its root is ours.
    fn expect_little(
        &mut self,
        link: &mut dyn Link,
        differing: &[Difference],
        round: &mut Round<'_>,
    ) -> Fallible<Vec<NoteId>, S> {
        let meta = self.meta()?;
        let common_root = match differing.is_empty() {
            true => self.store.root().map_err(EngineError::Repo)?,
            false => meta.common_root,
        };
        let meta = ReplicaMeta { common_root, pulled: None, conflicts_seen: 0, ..meta };
        self.commit(ReplicaBatch { meta: Some(meta), ..ReplicaBatch::default() })?;
        let unsent = self.unknown_there(link, differing)?;
        if !unsent.is_empty() {
            self.take_another_id(&unsent, round)?;
        }
        let mut notes: BTreeSet<NoteId> = ask::notes(differing).collect();
        for id in self.store.unsent().map_err(EngineError::Repo)? {
            notes.insert(self.known_version(&id)?.note);
        }
        // It may have forgotten the losing side of a merge that another device brought back.
        let displaced = self.store.displaced().map_err(EngineError::Repo)?;
        notes.extend(displaced.iter().map(|displaced| displaced.note));
        Ok(notes.into_iter().collect())
    }

    /// What is unsent and not known on the other side, oldest first. An answer that was lost may
    /// have stored some of it: then it is the other side's head of its note, or below a head that
    /// is not known here, and only the other side can tell.
    fn unknown_there(
        &self,
        link: &mut dyn Link,
        differing: &[Difference],
    ) -> Fallible<Vec<VersionId>, S> {
        let theirs: BTreeMap<NoteId, Option<&Sighting>> =
            differing.iter().map(|one| (one.note, one.theirs.as_ref())).collect();
        let unsent = self.store.unsent().map_err(EngineError::Repo)?;
        let (mut known, mut unclear) = (BTreeSet::new(), Vec::new());
        for id in unsent.iter().rev() {
            let version = self.known_version(id)?;
            let is_head = match theirs.get(&version.note) {
                None => true,
                Some(None) => false,
                Some(Some(seen)) => LeafHash::of(&version.note, &[*id]).tag() == seen.tag,
            };
            if is_head || known.contains(id) {
                known.insert(*id);
                known.extend(&version.parents);
            } else if let Some(Some(seen)) = theirs.get(&version.note)
                && !self.is_above(&version, seen)?
            {
                unclear.push(*id);
            }
        }
        if !unclear.is_empty() {
            let absent = link.missing_versions(&unclear)?;
            known.extend(unclear.into_iter().filter(|id| !absent.contains(id)));
        }
        Ok(unsent.into_iter().filter(|id| !known.contains(id)).collect())
    }

    /// Whether the other side's head of the note is one that a version was made from, not long
    /// before it: then the version is new there.
    fn is_above(&self, version: &Version, seen: &Sighting) -> Fallible<bool, S> {
        let mut below: Vec<VersionId> = version.parents.clone();
        let mut at = 0;
        while let Some(id) = below.get(at).filter(|_| at < ANCESTORS_MAX) {
            if LeafHash::of(&version.note, &[*id]).tag() == seen.tag {
                return Ok(true);
            }
            let parent = self.store.version(id).map_err(EngineError::Repo)?;
            below.extend(parent.iter().flat_map(|parent| parent.parents.iter().copied()));
            at += 1;
        }
        Ok(false)
    }

    /// Walks the two trees; what differs.
    fn find_differences(
        &self,
        link: &mut dyn Link,
        mut begun: Option<(Walk, WalkAnswer)>,
    ) -> Fallible<Vec<Difference>, S> {
        const RESTARTS_MAX: u32 = 5;
        for _ in 0..RESTARTS_MAX {
            let mine = self.store.root().map_err(EngineError::Repo)?;
            let tree = Tree(&self.store);
            let new = || (Walk::new(mine.as_ref(), WalkLimits::default()), None);
            let (mut walk, mut answered) =
                begun.take().map_or_else(new, |(walk, answer)| (walk, Some(answer)));
            let result = loop {
                if let Some(answer) = answered.take()
                    && let Err(error) = walk.take(&tree, &answer)
                {
                    break Err(error);
                }
                let ask = match walk.ask(&tree) {
                    Ok(Some(ask)) => ask,
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error),
                };
                let body = link.walk(&ask.encode())?;
                answered = Some(WalkAnswer::decode(&body).map_err(|error| malformed(&error))?);
            };
            match result {
                Ok(()) => return Ok(walk.into_differences()),
                Err(WalkError::Restart(_)) => {}
                Err(WalkError::Read(error)) => return Err(EngineError::from(error).into()),
                Err(other) => return Err(malformed(&other).into()),
            }
        }
        Err(malformed(&"its tree changed again and again during a walk").into())
    }

    /// Brings blobs over that the other side has not. `false`: some are nowhere any more, and the
    /// versions that named them were taken back.
    fn send_blobs(
        &mut self,
        link: &mut dyn Link,
        round: &mut Round<'_>,
        blobs: &[(ContentHash, VersionId)],
    ) -> Fallible<bool, S> {
        if blobs.is_empty() {
            return Ok(true);
        }
        let hashes: Vec<ContentHash> = blobs.iter().map(|(hash, _)| *hash).collect();
        let missing = link.missing_blobs(&hashes)?;
        let mut nowhere = BTreeSet::new();
        let mut unsendable = None;
        for (hash, id) in blobs.iter().filter(|(hash, _)| missing.contains(hash)) {
            let version = self.store.version(id).map_err(EngineError::Repo)?;
            let version = version.ok_or(EngineError::Dangling(*id))?;
            let Some(live) = version.live() else { continue };
            let Some(at) = self.where_is(&version.note, hash)? else {
                nowhere.insert(*id);
                unsendable = Some(live.path.clone());
                continue;
            };
            (round.progress)(Progress::Blob { bytes: live.bytes });
            let fs = &self.fs;
            link.put_blob(hash, live.bytes, &mut |offset| open_at(fs, &at, offset))?;
        }
        let Some(path) = unsendable else { return Ok(true) };
        if self.take_back(&nowhere, round)? {
            return Ok(false);
        }
        Err(SyncError::ChangedMeanwhile { path })
    }

    /// The file that has these bytes of a note: its own, or one that was displaced.
    fn where_is(&self, note: &NoteId, content: &ContentHash) -> Fallible<Option<String>, S> {
        let row = self.store.file_of(note).map_err(EngineError::Repo)?;
        if let Some(row) = row.filter(|row| row.content == *content) {
            return Ok(Some(row.disk_path.as_str().to_owned()));
        }
        let mut displaced = self.store.displaced().map_err(EngineError::Repo)?.into_iter();
        let found = displaced.find(|one| one.note == *note && one.content == *content);
        Ok(found.map(|displaced| displaced.undo))
    }

    /// Sends the large assets here that the other side has versions of and no bytes any more: its
    /// disk lost or changed them. Tells which those were.
    ///
    /// # Errors
    /// What the link and the folder say.
    pub fn send_lost_blobs(&mut self, link: &mut dyn Link) -> Fallible<Vec<VaultPath>, S> {
        let unsent = self.store.unsent().map_err(EngineError::Repo)?;
        let mut rows = self.store.files().map_err(EngineError::Repo)?;
        rows.retain(|row| {
            let is_blob = row.kind == Kind::Asset && row.stat.bytes > INLINE_BYTES_MAX;
            is_blob && !unsent.contains(&row.version)
        });
        let hashes: Vec<ContentHash> = rows.iter().map(|row| row.content).collect();
        if hashes.is_empty() {
            return Ok(Vec::new());
        }
        let missing = link.missing_blobs(&hashes)?;
        let mut sent = Vec::new();
        for row in rows.into_iter().filter(|row| missing.contains(&row.content)) {
            let at = row.disk_path;
            // Edited since: its new bytes travel with their own version.
            let as_known = |stat: &Stat| to_file_stat(stat) == row.stat;
            if !self.fs.stat(at.as_str()).is_ok_and(|stat| as_known(&stat)) {
                continue;
            }
            let fs = &self.fs;
            let open = &mut |offset| open_at(fs, at.as_str(), offset);
            link.put_blob(&row.content, row.stat.bytes, open)?;
            sent.push(at);
        }
        Ok(sent)
    }

    /// Takes back versions of large assets that were edited again, moved or removed before they
    /// were sent: no version is stored there before its blob, so nobody else has them. `false`
    /// when one of them is not waiting to be sent.
    fn take_back(
        &mut self,
        gone: &BTreeSet<VersionId>,
        round: &mut Round<'_>,
    ) -> Fallible<bool, S> {
        let unsent = self.store.unsent().map_err(EngineError::Repo)?;
        if !gone.iter().all(|id| unsent.contains(id)) {
            return Ok(false);
        }
        let mut staged = Staged::new(&self.store);
        let mut affected = Vec::new();
        for id in unsent {
            let version = staged.known_version(&id)?;
            let descends = version.parents.iter().any(|parent| affected.contains(parent));
            if gone.contains(&id) || descends {
                affected.push(id);
            }
        }
        let mut meta = self.meta()?;
        let now_ms = round.world.now_ms();
        let replaced = mint::take_back(&mut staged, &mut meta, now_ms, &affected, gone)?;
        let mut batch = ReplicaBatch::default();
        for new in replaced.values().flatten().filter(|id| !affected.contains(id)) {
            if self.store.version(new).map_err(EngineError::Repo)?.is_none() {
                batch.unsent.push(*new);
            }
        }
        let instead = |id: &VersionId| replaced.get(id).map(|list| list.last().copied());
        for row in self.store.files().map_err(EngineError::Repo)? {
            match instead(&row.version) {
                Some(Some(version)) => batch.files.push(FileRow { version, ..row }),
                Some(None) => batch.files_gone.push(row.disk_path),
                None => {}
            }
        }
        for row in self.store.displaced().map_err(EngineError::Repo)? {
            match instead(&row.version) {
                Some(Some(version)) => batch.displaced.push(Displaced { version, ..row }),
                // Nobody watches them any more; they stay, and the next start tells of them.
                Some(None) => batch.retired.push(row.undo),
                None => {}
            }
        }
        for intention in self.store.placing().map_err(EngineError::Repo)? {
            match intention.version.as_ref().and_then(instead) {
                Some(Some(version)) => {
                    batch.placing.push(Placing { version: Some(version), ..intention });
                }
                Some(None) => batch.placed.push(intention.disk_path),
                None => {}
            }
        }
        batch.repo = staged.finish()?;
        batch.meta = Some(meta);
        self.commit(batch)?;
        Ok(true)
    }
}

/// What makes the clock here show what the other side's does; none where they are as far apart as
/// clocks are: one that is right by now made its stamps when it was wrong.
fn correction(here_ms: u64, there_ms: u64) -> i64 {
    let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    let by_ms = signed(there_ms) - signed(here_ms);
    if by_ms.unsigned_abs() > CLOCK_AHEAD_MAX_MS { by_ms } else { 0 }
}

fn open_at<F: FileSystem>(fs: &F, at: &str, offset: u64) -> io::Result<Box<dyn Read>> {
    let mut reader = fs.open(at)?;
    io::copy(&mut reader.by_ref().take(offset), &mut io::sink())?;
    Ok(Box::new(reader))
}

fn malformed(reason: &dyn std::fmt::Display) -> LinkError {
    LinkError::Malformed { place: "the other side".to_owned(), reason: reason.to_string() }
}
