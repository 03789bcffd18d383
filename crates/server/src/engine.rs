//! The engine behind the shell: `sync::serve` and `merkle::walk` over the vaults of a store.
//!
//! Invariant: an answer leaves only after its batch is committed. Opened vaults are kept, each
//! behind a lock of its own; rounds of one vault come one at a time, walks between them.

mod write;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crucible_core::id::{ConflictId, ReplicaId, RootHash, VaultId, VersionId};
use crucible_core::merkle::walk::{self, WalkAsk, WalkError, WalkLimits};
use crucible_core::timestamp::Hlc;
use crucible_core::vault_path::VaultPath;
use crucible_core::version::{Live, State, Version};
use crucible_core::version_vector::Dot;
use crucible_proto::message::{self, Answer, Round};
use crucible_store::server_repo::{ServerRepo, Vaults};
use crucible_sync::pack::Event;
use crucible_sync::policy::Policies;
use crucible_sync::repo::Repo;
use crucible_sync::serve::{Access as RoundAccess, ServeError, serve};
use crucible_sync::staged::{Staged, Tree, root_after};
use crucible_sync::take::Take;
use crucible_sync::unpack::UnpackError;
use crucible_trust::rights::Access;

use crate::rounds::{EngineError, Party, RoundAnswer, Rounds, Tally, Write, Written};

/// Vaults kept open at once; one more closes those that nobody uses.
const OPEN_MAX: usize = 256;

type Opened<V> = Arc<Mutex<<V as Vaults>::Vault>>;

/// Rounds over all vaults of a store.
pub struct Engine<V: Vaults> {
    vaults: V,
    open: Mutex<HashMap<VaultId, Opened<V>>>,
    /// The author of what is written and restored here; drawn at every start, because counters of a server
    /// that was set back to a backup would be used again.
    replica: ReplicaId,
    counter: Mutex<u64>,
}

impl<V: Vaults> Engine<V> {
    /// Over these vaults; `replica` is random.
    pub fn new(vaults: V, replica: ReplicaId) -> Self {
        Self { vaults, open: Mutex::default(), replica, counter: Mutex::default() }
    }

    /// The vaults themselves.
    pub fn vaults(&self) -> &V {
        &self.vaults
    }

    fn opened(&self, id: &VaultId) -> Result<Opened<V>, EngineError> {
        let mut open = locked(&self.open);
        if let Some(vault) = open.get(id) {
            return Ok(vault.clone());
        }
        if open.len() >= OPEN_MAX {
            open.retain(|_, vault| Arc::strong_count(vault) > 1);
        }
        let vault = match self.vaults.open(id).map_err(store)? {
            Some(vault) => vault,
            // The accounts know it, so it was created and nothing was ever stored in it.
            None => self.vaults.create(id).map_err(store)?,
        };
        let vault = Arc::new(Mutex::new(vault));
        open.insert(*id, vault.clone());
        Ok(vault)
    }

    fn author(&self, vault: &VaultId) -> write::Author {
        let counter = self.next_counter();
        write::Author { vault: *vault, replica: self.replica, counter }
    }

    fn next_counter(&self) -> u64 {
        let mut counter = locked(&self.counter);
        *counter += 1;
        *counter
    }
}

impl<V: Vaults + 'static> Rounds for Engine<V>
where
    V::Vault: Send,
{
    fn create(&self, vault: &VaultId) -> Result<(), EngineError> {
        self.vaults.create(vault).map(drop).map_err(store)
    }

    fn root(&self, vault: &VaultId) -> Result<Option<RootHash>, EngineError> {
        let vault = self.opened(vault)?;
        let root = locked(&vault).root().map_err(store)?;
        Ok(root)
    }

    fn round(
        &self,
        vault: &VaultId,
        party: &Party,
        body: &[u8],
    ) -> Result<RoundAnswer, EngineError> {
        speaks(body)?;
        let round: Round = message::parse(body).map_err(malformed)?;
        let pushed: u64 = round.push.groups.iter().map(|group| group.records.len() as u64).sum();
        let access = match party.access {
            Access::Read => RoundAccess::Read,
            Access::Write => RoundAccess::Write,
        };
        let opened = self.opened(vault)?;
        let mut repo = locked(&opened);
        let now_ms = party.origin.received_ms;
        let served = repo.reading(|| serve(&*repo, *vault, round, now_ms, access));
        let served = served.map_err(refused)?;
        let mut tally =
            Tally { conflicts: served.batch.conflicts.len() as u64, ..Tally::default() };
        if !served.batch.is_empty() {
            repo.commit_from(&served.batch, &party.origin).map_err(store)?;
        }
        if let Answer::Done(done) = &served.answer {
            tally.pushed = pushed;
            tally.merged = u64::from(done.merged);
            let groups = done.pull.groups.iter();
            tally.pulled = groups.map(|group| group.records.len() as u64).sum();
        }
        let root = repo.root().map_err(store)?;
        Ok(RoundAnswer { body: message::body(&served.answer), root, tally })
    }

    fn walk(&self, vault: &VaultId, body: &[u8]) -> Result<Vec<u8>, EngineError> {
        let ask = WalkAsk::decode(body).map_err(malformed)?;
        let opened = self.opened(vault)?;
        let repo = locked(&opened);
        let root = repo.root().map_err(store)?;
        let limits = WalkLimits::default();
        match walk::answer(&Tree(&*repo), root.as_ref(), &ask, &limits) {
            Ok(answer) => Ok(answer.encode()),
            Err(WalkError::Broken(broken)) => Err(malformed(broken)),
            Err(other) => Err(store(other)),
        }
    }

    fn restore(
        &self,
        vault: &VaultId,
        party: &Party,
        version: &VersionId,
    ) -> Result<(VersionId, Option<RootHash>), EngineError> {
        if party.access == Access::Read {
            return Err(EngineError::ReadOnly);
        }
        let opened = self.opened(vault)?;
        let mut repo = locked(&opened);
        let old = repo.version(version).map_err(store)?.ok_or(EngineError::NoSuchVersion)?;
        let heads = repo.heads(&old.note).map_err(store)?;
        let mut staged = Staged::new(&*repo);
        let (mut parents, mut newest) = (Vec::new(), Hlc::new(0));
        for id in &heads {
            let head = staged.known_version(id).map_err(store)?;
            newest.observe(head.stamp);
            parents.push(head);
        }
        let stamp = newest.tick(party.origin.received_ms, self.replica);
        let dot = Dot { replica: self.replica, counter: self.next_counter() };
        let event = Event { dot, ticks: stamp.ticks() };
        let state = restored_state(&*repo, &old, &parents)?;
        let new = restoring(event, &old, &heads, &parents, state);
        let (id, _) = staged.put_version(new).map_err(store)?;
        let policies = Policies::default();
        let policy = |path: &VaultPath| policies.overlap(path);
        staged.merge_heads(&old.note, &policy).map_err(store)?;
        let batch = staged.finish().map_err(store)?;
        let root = root_after(&*repo, &batch).map_err(store)?;
        repo.commit_from(&batch, &party.origin).map_err(store)?;
        Ok((id, root))
    }

    fn write(&self, vault: &VaultId, party: &Party, write: &Write) -> Result<Written, EngineError> {
        if party.access == Access::Read {
            return Err(EngineError::ReadOnly);
        }
        let opened = self.opened(vault)?;
        let mut repo = locked(&opened);
        write::write(&mut *repo, &self.author(vault), party, write)
    }

    fn take(
        &self,
        vault: &VaultId,
        party: &Party,
        conflict: &ConflictId,
        side: Take,
    ) -> Result<Written, EngineError> {
        if party.access == Access::Read {
            return Err(EngineError::ReadOnly);
        }
        let opened = self.opened(vault)?;
        let mut repo = locked(&opened);
        write::take(&mut *repo, &self.author(vault), party, conflict, side)
    }
}

/// The old state at its old path; where another note has that by now, at the path the note has. A
/// deleted note has none: two notes of one name are not made here.
fn restored_state<R: Repo>(
    repo: &R,
    old: &Version,
    heads: &[Arc<Version>],
) -> Result<State, EngineError> {
    let Some(live) = old.live() else { return Ok(State::Deleted) };
    let mut live: Live = live.clone();
    if heads.iter().all(|head| head.path().is_none()) {
        write::free(repo, Some(&old.note), &live.path)?;
        return Ok(State::Live(live));
    }
    if let Some(root) = repo.root().map_err(store)? {
        let at = crucible_core::merkle::lookup(&Tree(repo), &root, &live.path).map_err(store)?;
        let others = at.notes.iter().any(|(note, _)| *note != old.note);
        let here = heads.iter().find_map(|head| head.path());
        if let (true, Some(here)) = (others, here) {
            live.path = here.clone();
        }
    }
    Ok(State::Live(live))
}

fn restoring(
    event: Event,
    old: &Version,
    heads: &[VersionId],
    parents: &[Arc<Version>],
    state: State,
) -> Version {
    let mut version = event.version(old.id(), old, state);
    version.parents = heads.to_vec();
    version.clock = [event.dot].into_iter().collect();
    for parent in parents {
        version.clock = version.clock.join(&parent.clock);
    }
    version
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A store that panicked in one request has rolled its transaction back.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn speaks(body: &[u8]) -> Result<(), EngineError> {
    let ours = message::PROTOCOL;
    match message::protocol_of(body) {
        Some(theirs) if theirs > ours => Err(EngineError::TooNew { theirs, ours }),
        Some(theirs) if theirs < ours => Err(EngineError::TooOld { theirs, ours }),
        _ => Ok(()),
    }
}

fn malformed(error: impl std::error::Error + Send + Sync + 'static) -> EngineError {
    EngineError::Malformed(Box::new(error))
}

fn store(error: impl std::error::Error + Send + Sync + 'static) -> EngineError {
    EngineError::Store(Box::new(error))
}

fn refused<E: std::error::Error + Send + Sync + 'static>(error: ServeError<E>) -> EngineError {
    match error {
        ServeError::Engine(error) => store(error),
        ServeError::Forbidden => EngineError::ReadOnly,
        ServeError::Unpack(UnpackError::Mismatch { path }) => EngineError::Mismatch(path),
        ServeError::Unpack(_) | ServeError::Policy(_) | ServeError::Walk(_) => malformed(error),
    }
}
