//! The answering role of a round: a pure function of the store, the request and the time.
//!
//! The caller commits the batch in one transaction and only then sends the answer; an answer that
//! is lost costs nothing, because the same request again finds its versions known and is answered
//! with the same news. The server and a LAN peer both answer with this.

use std::collections::{BTreeMap, BTreeSet};

use crucible_core::id::{NoteId, VaultId, VersionId};
use crucible_core::merkle::walk::{self, WalkAnswer, WalkAsk, WalkError, WalkLimits};
use crucible_core::version::Version;
use crucible_core::version_vector::Dot;
use crucible_core::view::Policy;
use crucible_proto::limits::{CONFLICTS_MAX, PAGE_NOTES_MAX, PAGE_RAW_AIM};
use crucible_proto::message::{Answer, ConflictNews, Cursor, Done, Have, Round};
use crucible_proto::parcel::Parcel;

use crate::ahead::is_refused;
use crate::guard::{Guard, Loss};
use crate::pack::{Packer, Receiver};
use crate::policy::Policies;
use crate::repo::{Batch, ConflictState, Repo, Seq};
use crate::staged::{EngineError, Merging, Staged, Tree, root_after};
use crate::unpack::{Blobs, UnpackError, Unpacker};

/// Whether the caller's capability lets it change the vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It may pull.
    Read,
    /// It may pull and push.
    Write,
}

/// Why a round was refused. Nothing is to be stored then.
#[derive(Debug, thiserror::Error)]
pub enum ServeError<E: std::error::Error + Send + Sync + 'static> {
    /// This side's own store.
    #[error(transparent)]
    Engine(#[from] EngineError<E>),
    /// What was pushed is malformed or breaks a rule.
    #[error(transparent)]
    Unpack(UnpackError<E>),
    /// A push with a capability to read.
    #[error("the capability allows reading only")]
    Forbidden,
    /// A policy's glob is none.
    #[error("the policy {0:?} is not a glob")]
    Policy(String),
    /// The walk it begins is none.
    #[error("{0}")]
    Walk(String),
}

/// What to commit, and what to answer once it is.
#[derive(Debug)]
pub struct Served {
    /// Empty when nothing is to be stored.
    pub batch: Batch,
    /// The answer.
    pub answer: Answer,
}

/// Answers one round.
///
/// # Errors
/// [`ServeError`].
pub fn serve<R: Repo>(
    repo: &R,
    vault: VaultId,
    round: Round,
    now_ms: u64,
    access: Access,
) -> Result<Served, ServeError<R::Error>> {
    if access == Access::Read && !(round.push.is_empty() && round.closed.is_empty()) {
        return Err(ServeError::Forbidden);
    }
    let policies = Policies::new(&round.policies).map_err(ServeError::Policy)?;
    let in_step_at = match in_step_at(repo, &round)? {
        InStep::At(at) => at,
        InStep::Unknown => {
            let walk = round.walk.as_ref().map(|ask| begin_walk(repo, ask)).transpose()?;
            return Ok(refused(Answer::UnknownRoot { walk }));
        }
    };
    let mut serving = Serving { repo, vault, now_ms, in_step_at, round };
    serving.run(&policies)
}

enum InStep {
    At(Seq),
    Unknown,
}

fn begin_walk<R: Repo>(repo: &R, ask: &WalkAsk) -> Result<WalkAnswer, ServeError<R::Error>> {
    let root = repo.root().map_err(EngineError::Repo)?;
    walk::answer(&Tree(repo), root.as_ref(), ask, &WalkLimits::default()).map_err(|error| {
        match error {
            WalkError::Read(error) => ServeError::Engine(error.into()),
            other => ServeError::Walk(other.to_string()),
        }
    })
}

/// The position here at which the asking side was in step.
fn in_step_at<R: Repo>(repo: &R, round: &Round) -> Result<InStep, ServeError<R::Error>> {
    let Some(common) = &round.common else { return Ok(InStep::At(Seq(0))) };
    if let Some(at) = repo.seq_of_root(common).map_err(EngineError::Repo)? {
        return Ok(InStep::At(at));
    }
    // After a walk the differing notes are named one by one and the common root does not matter.
    if round.have.is_empty() { Ok(InStep::Unknown) } else { Ok(InStep::At(Seq(0))) }
}

fn refused(answer: Answer) -> Served {
    Served { batch: Batch::default(), answer }
}

struct Serving<'s, R> {
    repo: &'s R,
    vault: VaultId,
    now_ms: u64,
    in_step_at: Seq,
    round: Round,
}

type Fallible<T, R> = Result<T, ServeError<<R as Repo>::Error>>;

impl<R: Repo> Serving<'_, R> {
    fn run(&mut self, policies: &Policies) -> Fallible<Served, R> {
        let counter = self.repo.counter(&self.round.replica).map_err(EngineError::Repo)?;
        let mut staged = Staged::new(self.repo);
        let pushed = match self.receive(&mut staged) {
            Ok(pushed) => pushed,
            Err(UnpackError::Unresolved) => return Ok(refused(Answer::Unresolved)),
            Err(UnpackError::Missing(hashes)) => return Ok(refused(Answer::Missing(hashes))),
            Err(UnpackError::Engine(error)) => return Err(error.into()),
            Err(other) => return Err(ServeError::Unpack(other)),
        };
        if let Some(answer) = self.distrust(&staged, &pushed)? {
            return Ok(refused(answer));
        }
        let policy = |path: &_| policies.overlap(path);
        for id in &pushed {
            if self.repo.version(id).map_err(EngineError::Repo)?.is_none() {
                staged.record_choices(id, &policy)?;
            }
        }
        self.record_late_choices(&mut staged, &pushed, &policy)?;
        let merged = merge_all(&mut staged, &policy)?;
        staged.close_conflicts(self.round.closed.iter().copied());
        let pushed: BTreeSet<VersionId> = pushed.into_iter().collect();
        let asked = self.news(&staged)?;
        if let Some(answer) = self.guard(&staged, &asked, &pushed)? {
            return Ok(refused(answer));
        }
        let (pull, mut next) = self.pull(&staged, &asked, &pushed)?;
        let batch = staged.finish()?;
        if self.round.more && self.round.have.is_empty() {
            next = Some(self.cursor_after_page(&batch, merged)?);
        }
        let root = root_after(self.repo, &batch).map_err(EngineError::Repo)?;
        let (conflicts, conflicts_seen) = self.conflicts(&batch)?;
        let done = Done {
            root,
            counter,
            now_ms: self.now_ms,
            pull,
            next,
            conflicts,
            conflicts_seen,
            merged,
        };
        Ok(Served { batch, answer: Answer::Done(Box::new(done)) })
    }

    fn receive(
        &mut self,
        staged: &mut Staged<'_, R>,
    ) -> Result<Vec<VersionId>, UnpackError<R::Error>> {
        let push = std::mem::take(&mut self.round.push);
        let in_step_at = self.round.common.is_some().then_some(self.in_step_at);
        let vault = self.vault;
        Unpacker { staged, vault, in_step_at, blobs: Blobs::First }.unpack(push)
    }

    /// Stamps from a wrong clock, and counters that are known already: both are answered before
    /// anything is stored, so that the versions can be minted again.
    fn distrust(
        &self,
        staged: &Staged<'_, R>,
        pushed: &[VersionId],
    ) -> Fallible<Option<Answer>, R> {
        for id in pushed {
            if self.repo.version(id).map_err(EngineError::Repo)?.is_some() {
                continue;
            }
            // After a walk versions come again that a restored server has forgotten: nobody can
            // mint them again.
            if !self.round.have.is_empty() {
                continue;
            }
            let version = staged.known_version(id)?;
            if is_refused(staged, &version, self.now_ms)? {
                return Ok(Some(Answer::ClockAhead { now_ms: self.now_ms }));
            }
            let Some(dot) = version.dot() else { continue };
            let counter = self.repo.counter(&dot.replica).map_err(EngineError::Repo)?;
            if dot.counter <= counter || self.forgets_own(staged, &version, &dot)? {
                return Ok(Some(Answer::Cloned { counter }));
            }
        }
        Ok(None)
    }

    /// Whether a version was made without its author's own last word on the note: a copy that has
    /// counted further than its original. Taken under that id its clock would say that it comes
    /// after what it never saw.
    fn forgets_own(
        &self,
        staged: &Staged<'_, R>,
        version: &Version,
        dot: &Dot,
    ) -> Fallible<bool, R> {
        let mut seen = 0;
        for parent in versions(staged, &version.parents)? {
            seen = seen.max(parent.clock.get(&dot.replica));
        }
        for head in self.repo.heads(&version.note).map_err(EngineError::Repo)? {
            if staged.known_version(&head)?.clock.get(&dot.replica) > seen {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// After a walk a side of a merge can come after the merge, from another device: only now can be
    /// told what that merge chose.
    fn record_late_choices(
        &self,
        staged: &mut Staged<'_, R>,
        pushed: &[VersionId],
        policy: Policy<'_>,
    ) -> Fallible<(), R> {
        if self.round.have.is_empty() {
            return Ok(());
        }
        let mut late = BTreeSet::new();
        let mut open = Vec::new();
        for id in pushed {
            if self.repo.version(id).map_err(EngineError::Repo)?.is_none() {
                late.insert(*id);
                open.extend(staged.heads(&staged.known_version(id)?.note)?);
            }
        }
        let mut seen = BTreeSet::new();
        while let Some(id) = open.pop() {
            let Some(version) = staged.version(&id)?.filter(|_| seen.insert(id)) else { continue };
            if version.parents.iter().any(|parent| late.contains(parent)) {
                staged.record_choices(&id, policy)?;
            }
            open.extend(&version.parents);
        }
        Ok(())
    }

    /// The notes the answer has to speak of, oldest change first.
    fn news(&self, staged: &Staged<'_, R>) -> Fallible<Vec<Asked>, R> {
        if !self.round.have.is_empty() {
            return Ok(self.round.have.iter().cloned().map(Asked::after_walk).collect());
        }
        if self.round.more {
            return Ok(Vec::new());
        }
        let after = self.pulled_to();
        let until = self.repo.seq().map_err(EngineError::Repo)?;
        let limit = usize::MAX;
        let changed = self.repo.changed(after, until, limit).map_err(EngineError::Repo)?;
        let mut asked = Vec::with_capacity(changed.len());
        let mut listed = BTreeSet::new();
        let first_contact = self.round.common.is_none();
        for (seq, note) in changed {
            let had = if first_contact { None } else { self.had(&note)? };
            listed.insert(note);
            asked.push(Asked { seq: Some(seq), note, heads: had.into_iter().collect() });
        }
        for note in staged.touched() {
            if !listed.contains(&note) {
                let had = if first_contact { None } else { self.had(&note)? };
                asked.push(Asked { seq: None, note, heads: had.into_iter().collect() });
            }
        }
        Ok(asked)
    }

    /// What the asking side had of a note when it was in step.
    fn had(&self, note: &NoteId) -> Fallible<Option<VersionId>, R> {
        Ok(self.repo.newest_at(note, self.in_step_at).map_err(EngineError::Repo)?)
    }

    /// Whether the answer would wipe the asking side.
    fn guard(
        &self,
        staged: &Staged<'_, R>,
        asked: &[Asked],
        pushed: &BTreeSet<VersionId>,
    ) -> Fallible<Option<Answer>, R> {
        if self.round.allow_mass_delete || self.round.more {
            return Ok(None);
        }
        let mut guard = Guard::new(self.repo.live_notes().map_err(EngineError::Repo)?);
        // Who has nothing of a note loses nothing; on a first contact that is all of them.
        for asked in asked.iter().filter(|asked| !asked.heads.is_empty()) {
            let heads = staged.heads(&asked.note)?;
            if heads.iter().all(|head| pushed.contains(head)) {
                continue;
            }
            let before = versions(staged, &asked.heads)?;
            let after = versions(staged, &heads)?;
            guard.count(Loss::between(&before, &after));
        }
        Ok(guard.trips().map(|(deletions, of)| Answer::Guard { deletions, of }))
    }

    fn pull(
        &self,
        staged: &Staged<'_, R>,
        asked: &[Asked],
        pushed: &BTreeSet<VersionId>,
    ) -> Fallible<(Parcel, Option<Cursor>), R> {
        let known: BTreeSet<VersionId> =
            asked.iter().flat_map(|asked| &asked.heads).chain(pushed).copied().collect();
        let has_common = self.round.common.is_some() && self.round.have.is_empty();
        let receiver = Asking {
            known: &known,
            in_step_at: has_common.then_some(self.in_step_at),
            whole: self.round.whole,
        };
        let mut packer = Packer::new(staged, self.vault, &receiver);
        let mut at = 0;
        while at < asked.len() && !packer.is_full() {
            let page = &asked[at..asked.len().min(at + PAGE_NOTES_MAX)];
            let (mut lacking, mut ends) = (Vec::new(), Vec::new());
            for asked in page {
                let mut heads = staged.heads(&asked.note)?;
                heads.retain(|head| !known.contains(head));
                // Told whole, so beside others they could be more than a parcel holds.
                let is_heavy = heads.len() > 1 && raw_bytes(staged, &heads)? > PAGE_RAW_AIM as u64;
                if is_heavy && at + ends.len() > 0 {
                    break;
                }
                lacking.extend(heads);
                ends.push(lacking.len());
                if is_heavy {
                    break;
                }
            }
            if ends.is_empty() {
                break;
            }
            let taken = packer.push_all(&lacking)?;
            // A note is told with all its heads or not at all.
            let mut told = ends.partition_point(|end| *end <= taken);
            let began = told.checked_sub(1).map_or(0, |last| ends[last]);
            if taken > began {
                for head in &lacking[taken..ends[told]] {
                    packer.push(head)?;
                }
                told += 1;
            }
            at += told;
        }
        let next = (at < asked.len()).then(|| self.cursor_after(&asked[..at]));
        Ok((packer.finish()?, next))
    }

    fn cursor_after(&self, told: &[Asked]) -> Cursor {
        if !self.round.have.is_empty() {
            return Cursor { after: told.len() as u64 };
        }
        let newest = told.iter().rev().find_map(|asked| asked.seq);
        Cursor { after: newest.unwrap_or_else(|| self.pulled_to()).0 }
    }

    /// Up to where the asking side has pulled, before this round.
    fn pulled_to(&self) -> Seq {
        self.round.cursor.map_or(self.in_step_at, |cursor| Seq(cursor.after))
    }

    /// After one page of a push: how far the asking side is in step. Its own pages need not be
    /// pulled again, unless somebody else's news or a merge lies in between.
    fn cursor_after_page(&self, batch: &Batch, merged: u32) -> Fallible<Cursor, R> {
        let pulled_to = self.pulled_to();
        let now = self.repo.seq().map_err(EngineError::Repo)?;
        let alone = now == pulled_to && merged == 0;
        let own = if alone { batch.versions.len() as u64 } else { 0 };
        Ok(Cursor { after: pulled_to.0 + own })
    }

    fn conflicts(&self, batch: &Batch) -> Fallible<(Vec<ConflictNews>, u64), R> {
        if self.round.more {
            return Ok((Vec::new(), self.round.conflicts_seen));
        }
        let seen = self.round.conflicts_seen;
        let events = self.repo.conflicts_after(seen, CONFLICTS_MAX).map_err(EngineError::Repo)?;
        let position = events.last().map_or(seen, |event| event.position);
        let mut news: BTreeMap<_, ConflictNews> = BTreeMap::new();
        for event in events {
            let closed = event.state == ConflictState::Closed;
            news.insert(event.conflict.id, ConflictNews { conflict: event.conflict, closed });
        }
        // What this round opens is told again next time, harmlessly: its position is not known yet.
        for conflict in batch.conflicts.iter().take(CONFLICTS_MAX - news.len().min(CONFLICTS_MAX)) {
            let entry = ConflictNews { conflict: conflict.clone(), closed: false };
            news.entry(conflict.id).or_insert(entry);
        }
        Ok((news.into_values().collect(), position))
    }
}

/// A note the answer speaks of.
struct Asked {
    /// The position of its newest version in the store; `None` when this round brought it.
    seq: Option<Seq>,
    note: NoteId,
    /// What the asking side has of it.
    heads: Vec<VersionId>,
}

impl Asked {
    fn after_walk(have: Have) -> Self {
        Self { seq: None, note: have.note, heads: have.heads }
    }
}

struct Asking<'a> {
    known: &'a BTreeSet<VersionId>,
    in_step_at: Option<Seq>,
    whole: bool,
}

impl Receiver for Asking<'_> {
    fn knows(&self, version: &VersionId) -> bool {
        self.known.contains(version)
    }
    fn in_step_at(&self) -> Option<Seq> {
        self.in_step_at
    }
    fn wants_whole(&self) -> bool {
        self.whole
    }
}

/// Merges every touched note that has several heads; how many merge versions that made.
fn merge_all<R: Repo>(staged: &mut Staged<'_, R>, policy: Policy<'_>) -> Fallible<u32, R> {
    let mut merged = 0;
    for note in staged.touched() {
        if let Merging::Merged(_) = staged.merge_heads(&note, policy)? {
            merged += 1;
        }
    }
    Ok(merged)
}

/// What the contents of some versions are in all.
fn raw_bytes<R: Repo>(staged: &Staged<'_, R>, ids: &[VersionId]) -> Fallible<u64, R> {
    let found = versions(staged, ids)?;
    Ok(found.iter().filter_map(|version| version.live()).map(|live| live.bytes).sum())
}

fn versions<R: Repo>(
    staged: &Staged<'_, R>,
    ids: &[VersionId],
) -> Fallible<Vec<std::sync::Arc<Version>>, R> {
    let mut found = Vec::with_capacity(ids.len());
    for id in ids {
        found.extend(staged.version(id)?);
    }
    Ok(found)
}
