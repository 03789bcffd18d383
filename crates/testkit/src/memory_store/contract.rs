//! The traits of `crucible_store` and `crucible_sync`, answered from the maps.

use std::sync::Arc;

use crucible_core::conflict::Conflict;
use crucible_core::hash::ContentHash;
use crucible_core::id::{ConflictId, NodeHash, NoteId, ReplicaId, RootHash, VersionId};
use crucible_core::vault_path::VaultPath;
use crucible_core::version::Version;
use crucible_store::server_repo::{
    Gone, History, Origin, REVISIONS_MAX, Revision, RevisionQuery, Scope, ServerRepo,
};
use crucible_sync::replica::{
    Displaced, FileRow, Placing, ReplicaBatch, ReplicaMeta, ReplicaStore,
};
use crucible_sync::repo::{Batch, ConflictEvent, ConflictState, Pack, PackPlace, Repo, Seq};

use super::{After, MemoryError, MemoryStore, Result, rule};
use crate::simulation::Plant;

impl Repo for MemoryStore {
    type Error = MemoryError;

    fn root(&self) -> Result<Option<RootHash>> {
        Ok(self.root.filter(|root| *root != RootHash::empty()))
    }

    fn seq(&self) -> Result<Seq> {
        Ok(Seq(self.seq))
    }

    fn version(&self, id: &VersionId) -> Result<Option<Arc<Version>>> {
        Ok(self.versions.get(id).map(|(_, version)| Arc::clone(version)))
    }

    fn heads(&self, note: &NoteId) -> Result<Vec<VersionId>> {
        Ok(self.notes.get(note).map(|note| note.heads.clone()).unwrap_or_default())
    }

    fn content(&self, hash: &ContentHash) -> Result<Option<Arc<[u8]>>> {
        self.decode(hash)
    }

    fn pack_place(&self, hash: &ContentHash) -> Result<Option<PackPlace>> {
        Ok(self.packed(hash).map(|(pack, offset)| PackPlace {
            // Kept alive by what lies in it, so nobody else has its address.
            pack: Arc::as_ptr(pack).addr() as u64,
            offset: offset as u32,
            raw_bytes: pack.bytes as u32,
        }))
    }

    fn pack_of(&self, hash: &ContentHash) -> Result<Option<(PackPlace, Pack)>> {
        let Some(place) = self.pack_place(hash)? else { return Ok(None) };
        let pack = self.packed(hash).map(|(pack, _)| pack);
        let pack = pack.map(|pack| Pack { raw_bytes: place.raw_bytes, frame: pack.frame.clone() });
        Ok(pack.map(|pack| (place, pack)))
    }

    fn has_inline(&self, hash: &ContentHash) -> Result<bool> {
        Ok(self.contents.contains_key(hash))
    }

    fn has_content(&self, hash: &ContentHash) -> Result<bool> {
        Ok(self.contents.contains_key(hash) || self.blobs.contains_key(hash))
    }

    fn node(&self, hash: &NodeHash) -> Result<Option<Vec<u8>>> {
        Ok(self.nodes.get(hash).map(|node| node.to_vec()))
    }

    fn seq_of_root(&self, root: &RootHash) -> Result<Option<Seq>> {
        Ok(self.roots.get(root).map(|&seq| Seq(seq)))
    }

    fn changed(&self, after: Seq, until: Seq, limit: usize) -> Result<Vec<(Seq, NoteId)>> {
        if after >= until {
            return Ok(Vec::new());
        }
        let range = self.newest.range(after.0 + 1..=until.0).take(limit);
        Ok(range.map(|(&seq, &note)| (Seq(seq), note)).collect())
    }

    fn newest_at(&self, note: &NoteId, at: Seq) -> Result<Option<VersionId>> {
        let Some(note) = self.notes.get(note) else { return Ok(None) };
        let until = note.seqs.partition_point(|&seq| seq <= at.0);
        Ok(note.seqs[..until].last().map(|seq| self.positions[seq]))
    }

    fn versions_of(&self, note: &NoteId) -> Result<Vec<VersionId>> {
        let Some(note) = self.notes.get(note) else { return Ok(Vec::new()) };
        Ok(note.seqs.iter().map(|seq| self.positions[seq]).collect())
    }

    fn versions_with_content(
        &self,
        note: &NoteId,
        content: &ContentHash,
    ) -> Result<Vec<VersionId>> {
        let Some(note) = self.notes.get(note) else { return Ok(Vec::new()) };
        let ids = note.seqs.iter().rev().map(|seq| self.positions[seq]);
        let has = |id: &VersionId| {
            self.versions[id].1.live().is_some_and(|live| live.content == *content)
        };
        Ok(ids.filter(has).take(16).collect())
    }

    fn versions_by_prefix(&self, prefix: &[u8]) -> Result<Vec<VersionId>> {
        if prefix.len() < 4 || prefix.len() > VersionId::LEN {
            return Ok(Vec::new());
        }
        let mut first = [0; VersionId::LEN];
        first[..prefix.len()].copy_from_slice(prefix);
        let from = self.versions.range(VersionId::from_bytes(first)..);
        let ids = from.map(|(id, _)| *id).take_while(|id| id.as_bytes().starts_with(prefix));
        Ok(ids.take(2).collect())
    }

    fn counter(&self, replica: &ReplicaId) -> Result<u64> {
        Ok(self.counter_of(replica))
    }

    fn live_notes(&self) -> Result<u64> {
        Ok(self.live)
    }

    fn conflict(&self, id: &ConflictId) -> Result<Option<(Conflict, ConflictState)>> {
        let position = self.conflict_positions.get(id);
        Ok(position.map(|&position| {
            let event = self.event(position);
            (event.conflict, event.state)
        }))
    }

    fn conflicts_after(&self, after: u64, limit: usize) -> Result<Vec<ConflictEvent>> {
        let Some(first) = after.checked_add(1) else { return Ok(Vec::new()) };
        let positions = self.conflicts.range(first..).take(limit);
        Ok(positions.map(|(&position, _)| self.event(position)).collect())
    }

    fn open_conflicts(&self, limit: usize) -> Result<Vec<Conflict>> {
        let open = self.conflicts.values().filter(|(_, state)| *state == ConflictState::Open);
        Ok(open.take(limit).map(|(conflict, _)| Conflict::clone(conflict)).collect())
    }
}

impl ServerRepo for MemoryStore {
    fn commit_from(&mut self, batch: &Batch, origin: &Origin) -> Result<()> {
        if self.full {
            return Err(MemoryError::Full);
        }
        self.check_batch(batch)?;
        self.check_bytes(batch)?;
        let first = self.seq + 1;
        self.apply(batch);
        if self.plant == Some(Plant::HeadDropped) {
            self.drop_heads(batch);
        }
        if self.seq >= first {
            Arc::make_mut(&mut self.origins).insert(first, origin.clone());
        }
        Ok(())
    }
}

impl History for MemoryStore {
    fn revisions(&self, query: &RevisionQuery) -> Result<Vec<Revision>> {
        let before = query.before.map_or(u64::MAX, |seq| seq.0);
        let notes = match &query.scope {
            Scope::Vault => None,
            Scope::Note(note) => Some(vec![*note]),
            Scope::Path(path) => Some(self.notes_at(path)?),
        };
        let wanted = |seq: &u64| {
            let (_, version) = &self.versions[&self.positions[seq]];
            notes.as_ref().is_none_or(|notes| notes.contains(&version.note))
        };
        let seqs = self.positions.range(..before).rev().map(|(&seq, _)| seq).filter(wanted);
        let limit = query.limit.min(REVISIONS_MAX);
        Ok(seqs.take(limit).map(|seq| self.revision_at(seq)).collect())
    }

    fn revision(&self, id: &VersionId) -> Result<Option<Revision>> {
        Ok(self.versions.get(id).map(|(seq, _)| self.revision_at(*seq)))
    }

    fn notes_at(&self, path: &VaultPath) -> Result<Vec<NoteId>> {
        let first = (path.clone(), NoteId::from_bytes([0; 32]));
        let names = self.names.range(first..).take_while(|(name, _)| name == path);
        Ok(names.map(|(_, note)| *note).filter(|note| self.notes.contains_key(note)).collect())
    }

    fn deleted(&self, before: Option<Seq>, limit: usize) -> Result<Vec<Gone>> {
        let before = before.map_or(u64::MAX, |seq| seq.0);
        let mut gone = Vec::new();
        for (&seq, note) in self.newest.range(..before).rev() {
            let heads = self.heads(note)?;
            let is_live =
                |id: &VersionId| self.versions.get(id).is_some_and(|(_, v)| v.live().is_some());
            if gone.len() == limit.min(REVISIONS_MAX) || heads.iter().any(is_live) {
                continue;
            }
            let of_note = |id: &&VersionId| self.versions[*id].1.note == *note && is_live(id);
            let last = self.positions.values().rev().find(of_note);
            let last = last.map(|id| (*id, self.versions[id].1.clone()));
            let origin = self.revision_at(seq).origin;
            gone.push(Gone { seq: Seq(seq), note: *note, last, origin });
        }
        Ok(gone)
    }
}

impl ReplicaStore for MemoryStore {
    fn meta(&self) -> Result<ReplicaMeta> {
        self.meta.clone().ok_or(MemoryError::NoReplica)
    }

    fn files(&self) -> Result<Vec<FileRow>> {
        Ok(self.files.values().map(|row| self.row(row)).collect())
    }

    fn file_of(&self, note: &NoteId) -> Result<Option<FileRow>> {
        Ok(self.file_of.get(note).map(|path| self.row(&self.files[path])))
    }

    fn unsent(&self) -> Result<Vec<VersionId>> {
        let mut ids: Vec<_> = self.unsent.iter().copied().collect();
        ids.sort_by_key(|id| self.versions[id].0);
        Ok(ids)
    }

    fn unsettled(&self) -> Result<Vec<NoteId>> {
        let mut notes: Vec<_> = self.unsettled.iter().collect();
        notes.sort_by_key(|(_, order)| **order);
        Ok(notes.into_iter().map(|(note, _)| *note).collect())
    }

    fn placing(&self) -> Result<Vec<Placing>> {
        Ok(self.placing.values().cloned().collect())
    }

    fn displaced(&self) -> Result<Vec<Displaced>> {
        Ok(self.displaced.values().cloned().collect())
    }

    fn closed_unsent(&self) -> Result<Vec<ConflictId>> {
        Ok(self.closed_unsent.iter().copied().collect())
    }

    fn commit(&mut self, batch: &ReplicaBatch) -> Result<()> {
        if self.power.is_off() {
            return Err(MemoryError::Crashed);
        }
        match &mut self.commits_left {
            Some(0) => return Err(MemoryError::Full),
            Some(left) => *left -= 1,
            None if self.full => return Err(MemoryError::Full),
            None => {}
        }
        if self.meta.is_none() {
            return Err(MemoryError::NoReplica);
        }
        self.check_batch(&batch.repo)?;
        let after = After::new(self, &batch.repo);
        for id in &batch.unsent {
            rule(after.version(id).is_some(), "an unsent version is known")?;
        }
        let (rounds, ticks) = self.meta.as_ref().map_or((0, 0), |meta| (meta.rounds, meta.ticks));
        self.apply(&batch.repo);
        self.apply_replica(batch);
        if self.plant.is_some() {
            self.break_as_planted(batch, rounds, ticks);
        }
        Ok(())
    }
}
