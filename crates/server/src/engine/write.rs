//! Writing on the server: one change becomes a version of the server's own replica, on the version
//! its author had in front of them, and is merged with what came since.
//!
//! Invariant: nobody deletes what they have not seen, and no note takes another's path.

use std::sync::Arc;

use crucible_core::id::{ConflictId, NoteId, ReplicaId, VaultId, VersionId};
use crucible_core::identity::Naming;
use crucible_core::merkle::lookup;
use crucible_core::timestamp::Stamp;
use crucible_core::vault_path::VaultPath;
use crucible_core::version::{Kind, Version};
use crucible_proto::limits::INLINE_BYTES_MAX;
use crucible_store::server_repo::ServerRepo;
use crucible_sync::mint::{Change, Found, Minter};
use crucible_sync::policy::Policies;
use crucible_sync::replica::ReplicaMeta;
use crucible_sync::repo::{Batch, ConflictState, Repo};
use crucible_sync::staged::{Staged, Tree, root_after};
use crucible_sync::take::{Take, TakeError, edit_for};

use super::store;
use crate::rounds::{EngineError, Party, Write, Written};

/// The server's replica as it writes to one vault: its counter is for one event.
pub struct Author {
    /// Which vault.
    pub vault: VaultId,
    /// Its id since the server began.
    pub replica: ReplicaId,
    /// A counter that it has not used.
    pub counter: u64,
}

/// See [`crate::rounds::Rounds::write`].
pub fn write<R: ServerRepo>(
    repo: &mut R,
    author: &Author,
    party: &Party,
    write: &Write,
) -> Result<Written, EngineError> {
    let note = about(&*repo, &write.change)?;
    if let (Change::Deleted { base }, Some(note)) = (&write.change, &note)
        && head_of(&*repo, note)? != Some(*base)
    {
        return Err(EngineError::Changed);
    }
    if let Some(path) = new_path(&write.change) {
        free(&*repo, note.as_ref(), path)?;
    }
    let mut staged = Staged::new(&*repo);
    let id = match says_already(&staged, &write.change)? {
        Some(base) => base,
        None => match under_another_kind(&staged, &write.change)? {
            Some(write) => mint(&mut staged, author, party, &write, note.as_ref())?,
            None => mint(&mut staged, author, party, write, note.as_ref())?,
        },
    };
    let note = staged.known_version(&id).map_err(store)?.note;
    staged.close_conflicts(write.closes.iter().copied());
    commit(repo, staged_batch(staged, &note)?, party, note, Some(id))
}

/// See [`crate::rounds::Rounds::take`].
pub fn take<R: ServerRepo>(
    repo: &mut R,
    author: &Author,
    party: &Party,
    conflict: &ConflictId,
    side: Take,
) -> Result<Written, EngineError> {
    let found = repo.conflict(conflict).map_err(store)?;
    let (record, state) = found.ok_or(EngineError::NoSuchConflict)?;
    if state == ConflictState::Closed {
        return Err(EngineError::Settled);
    }
    let edit = edit_for(&*repo, &record, side, &mut |_| None, &|_| true).map_err(untaken)?;
    let closes = vec![*conflict];
    if let Some((change, bytes)) = edit {
        let change = Write { change, bytes: bytes.map(Into::into), closes };
        return write(repo, author, party, &change);
    }
    let mut staged = Staged::new(&*repo);
    staged.close_conflicts(closes);
    commit(repo, staged_batch(staged, &record.note)?, party, record.note, None)
}

/// Merges what the batch left with several heads, and says what the note is then.
fn staged_batch<R: Repo>(mut staged: Staged<'_, R>, note: &NoteId) -> Result<After, EngineError> {
    let policies = Policies::default();
    let policy = |path: &VaultPath| policies.overlap(path);
    staged.merge_heads(note, &policy).map_err(store)?;
    let (head, version) = newest_head(&staged, note)?.ok_or(EngineError::NoSuchVersion)?;
    let content = match version.live() {
        Some(live) => staged.content(&live.content).map_err(store)?,
        None => None,
    };
    let batch = staged.finish().map_err(store)?;
    Ok(After { batch, head, path: version.path().cloned(), content })
}

struct After {
    batch: Batch,
    head: VersionId,
    path: Option<VaultPath>,
    content: Option<Arc<[u8]>>,
}

fn commit<R: ServerRepo>(
    repo: &mut R,
    after: After,
    party: &Party,
    note: NoteId,
    id: Option<VersionId>,
) -> Result<Written, EngineError> {
    let After { batch, head, path, content } = after;
    let before = head_of(&*repo, &note)?;
    let root = root_after(&*repo, &batch).map_err(store)?;
    if !batch.is_empty() {
        repo.commit_from(&batch, &party.origin).map_err(store)?;
    }
    Ok(Written { note, id: id.unwrap_or(head), before, head, path, content, root })
}

fn untaken<E: std::error::Error + Send + Sync + 'static>(error: TakeError<E>) -> EngineError {
    match error {
        TakeError::EditedSince { path } => EngineError::EditedSince(path),
        TakeError::Deleted { path } => EngineError::DeletedSince(path),
        TakeError::Exists { path } => EngineError::Exists(path),
        TakeError::NoBytes(_) | TakeError::NoVersion(_) => EngineError::NoSuchVersion,
        TakeError::Engine(error) => store(error),
    }
}

/// A new name that makes a note an asset or an asset a note is an edit: the hash is another.
fn under_another_kind<R: Repo>(
    staged: &Staged<'_, R>,
    change: &Change,
) -> Result<Option<Write>, EngineError> {
    let Change::Moved { base, path } = change else { return Ok(None) };
    let version = staged.known_version(base).map_err(store)?;
    let Some(live) = version.live() else { return Ok(None) };
    if Naming::of(path) == Naming::of(&live.path) {
        return Ok(None);
    }
    // Of a blob, which is no note by its size in nearly every case, only the name changes.
    let Some(bytes) = staged.content(&live.content).map_err(store)? else { return Ok(None) };
    let found = Found::of(&bytes, path);
    let change = Change::Edited { base: *base, path: Some(path.clone()), found };
    Ok(Some(Write { change, bytes: Some(bytes), closes: Vec::new() }))
}

/// The note that a change is about, as its base says; `None` for one that is created.
fn about<R: Repo>(repo: &R, change: &Change) -> Result<Option<NoteId>, EngineError> {
    let base = match change {
        Change::Created { .. } => return Ok(None),
        Change::Edited { base, .. } | Change::Moved { base, .. } | Change::Deleted { base } => base,
    };
    let base = repo.version(base).map_err(store)?.ok_or(EngineError::NoSuchVersion)?;
    let lives_on = matches!(change, Change::Edited { path: Some(_), .. });
    if base.live().is_none() && !lives_on {
        return Err(EngineError::NoSuchVersion);
    }
    Ok(Some(base.note))
}

fn new_path(change: &Change) -> Option<&VaultPath> {
    match change {
        Change::Created { path, .. } | Change::Moved { path, .. } => Some(path),
        Change::Edited { path, .. } => path.as_ref(),
        Change::Deleted { .. } => None,
    }
}

/// Refuses a path that another note has, or a folder, or one below a note.
pub(super) fn free<R: Repo>(
    repo: &R,
    note: Option<&NoteId>,
    path: &VaultPath,
) -> Result<(), EngineError> {
    let Some(root) = repo.root().map_err(store)? else { return Ok(()) };
    let at = lookup(&Tree(repo), &root, path).map_err(store)?;
    if at.folder.is_some() || at.notes.iter().any(|(other, _)| Some(other) != note) {
        return Err(EngineError::Exists(path.clone()));
    }
    let above = std::iter::successors(path.parent(), VaultPath::parent);
    for folder in above {
        let at = lookup(&Tree(repo), &root, &folder).map_err(store)?;
        if at.notes.iter().any(|(other, _)| Some(other) != note) {
            return Err(EngineError::Exists(folder));
        }
        if at.folder.is_some() {
            break;
        }
    }
    Ok(())
}

/// The base, where the change says nothing that it does not.
fn says_already<R: Repo>(
    staged: &Staged<'_, R>,
    change: &Change,
) -> Result<Option<VersionId>, EngineError> {
    let (base, new_path, found) = match change {
        Change::Created { .. } | Change::Deleted { .. } => return Ok(None),
        Change::Edited { base, path, found } => (base, path.as_ref(), Some(found)),
        Change::Moved { base, path } => (base, Some(path), None),
    };
    let version = staged.known_version(base).map_err(store)?;
    let Some(live) = version.live() else { return Ok(None) };
    let same_path = new_path.is_none_or(|path| *path == live.path);
    let same = |found: &Found| found.content == live.content && found.kind == live.kind;
    Ok((same_path && found.is_none_or(same)).then_some(*base))
}

fn mint<R: Repo>(
    staged: &mut Staged<'_, R>,
    author: &Author,
    party: &Party,
    write: &Write,
    note: Option<&NoteId>,
) -> Result<VersionId, EngineError> {
    let mut meta = ReplicaMeta::new(author.vault, author.replica);
    // Minting counts up from the last one used.
    meta.counter = author.counter - 1;
    if let Some(note) = note {
        // Later than all that this server has seen of the note, as a device's clock would say.
        let newest = newest_head(staged, note)?;
        meta.ticks = newest.map_or(0, |(_, version)| version.stamp.ticks());
    }
    if let (Some(bytes), Some(found)) = (&write.bytes, found_in(&write.change)) {
        if found.kind == Kind::Asset && found.bytes > INLINE_BYTES_MAX {
            return Err(EngineError::TooLarge);
        }
        let old = match &write.change {
            Change::Edited { base, .. } => {
                let base = staged.known_version(base).map_err(store)?;
                base.live().map(|live| live.content)
            }
            Change::Created { .. } | Change::Moved { .. } | Change::Deleted { .. } => None,
        };
        staged.put_new_content(found.content, bytes.clone(), old.as_ref()).map_err(store)?;
    }
    let mut minter = Minter::new(&mut meta, party.origin.received_ms);
    minter.mint(staged, &write.change).map_err(store)
}

fn found_in(change: &Change) -> Option<Found> {
    match change {
        Change::Created { found, .. } | Change::Edited { found, .. } => Some(*found),
        Change::Moved { .. } | Change::Deleted { .. } => None,
    }
}

/// The head of a note; of several that wait for bytes to be merged, the newest.
fn newest_head<R: Repo>(
    staged: &Staged<'_, R>,
    note: &NoteId,
) -> Result<Option<(VersionId, Arc<Version>)>, EngineError> {
    let mut newest: Option<((Stamp, VersionId), Arc<Version>)> = None;
    for id in staged.heads(note).map_err(store)? {
        let version = staged.known_version(&id).map_err(store)?;
        let rank = (version.stamp, id);
        if newest.as_ref().is_none_or(|(best, _)| rank > *best) {
            newest = Some((rank, version));
        }
    }
    Ok(newest.map(|((_, id), version)| (id, version)))
}

/// The same of what is stored.
fn head_of<R: Repo>(repo: &R, note: &NoteId) -> Result<Option<VersionId>, EngineError> {
    Ok(newest_head(&Staged::new(repo), note)?.map(|(id, _)| id))
}
