//! SQLite and memory do the same: any sequence of batches, every read compared after each.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fmt::Debug;
use std::sync::Arc;

use crucible_core::hash::ContentHash;
use crucible_core::id::{
    ConflictId, DeviceId, NodeHash, NoteId, ReplicaId, RootHash, UserId, VaultId, VersionId,
};
use crucible_core::version::Version;
use crucible_store::server_repo::{History, Origin, RevisionQuery, Scope, ServerRepo, Vaults};
use crucible_store::server_vault::ServerVaults;
use crucible_store::sync_db::SyncDb;
use crucible_sync::replica::{ReplicaBatch, ReplicaStore};
use crucible_sync::repo::{Batch, Repo, Seq};
use crucible_testkit::memory_store::MemoryStore;
use crucible_testkit::scribe::{Scribe, Step};
use proptest::prelude::*;

const VAULT: VaultId = VaultId::from_bytes([7; 16]);

/// What to ask about: everything that ever was in a batch, and something that never was.
#[derive(Default)]
struct Asked {
    versions: Vec<(VersionId, Arc<Version>)>,
    contents: Vec<ContentHash>,
    nodes: Vec<NodeHash>,
    roots: Vec<RootHash>,
}

impl Asked {
    fn note(&mut self, batch: &Batch) {
        self.versions.extend(batch.versions.iter().cloned());
        self.contents.extend(batch.contents.iter().map(|content| content.hash));
        self.nodes.extend(batch.nodes_added.iter().map(|(hash, _)| *hash));
        self.nodes.extend(&batch.nodes_removed);
        self.roots.extend(batch.root);
    }
}

fn same<T: PartialEq + Debug, E: Debug, F: Debug>(
    what: &str,
    one: Result<T, E>,
    other: Result<T, F>,
) {
    assert_eq!(one.unwrap(), other.unwrap(), "{what}");
}

fn compare<A: Repo + History, B: Repo + History>(one: &A, other: &B, asked: &Asked) {
    same("root", one.root(), other.root());
    same("seq", one.seq(), other.seq());
    same("live notes", one.live_notes(), other.live_notes());
    let unknown = ContentHash::from_bytes([9; 32]);
    for hash in asked.contents.iter().chain([&unknown]) {
        same("has content", one.has_content(hash), other.has_content(hash));
        same("content", one.content(hash), other.content(hash));
    }
    for hash in &asked.nodes {
        same("node", one.node(hash), other.node(hash));
    }
    for root in asked.roots.iter().chain([&RootHash::from_bytes([9; 32])]) {
        same("seq of root", one.seq_of_root(root), other.seq_of_root(root));
    }
    for replica in 0..5 {
        let replica = ReplicaId::from_bytes([replica; 16]);
        same("counter", one.counter(&replica), other.counter(&replica));
    }
    compare_versions(one, other, asked);
    for (after, until, limit) in [(0, u64::MAX, 99), (3, 9, 99), (2, 30, 2), (9, 3, 5)] {
        let range = (Seq(after), Seq(until));
        same(
            "changed",
            one.changed(range.0, range.1, limit),
            other.changed(range.0, range.1, limit),
        );
    }
    for id in 0..9 {
        let id = ConflictId::from_bytes([id; 16]);
        same("conflict", one.conflict(&id), other.conflict(&id));
    }
    for (after, limit) in [(0, 99), (2, 3), (u64::MAX, 9)] {
        let of = (one.conflicts_after(after, limit), other.conflicts_after(after, limit));
        same("conflicts after", of.0, of.1);
    }
    same("open conflicts", one.open_conflicts(3), other.open_conflicts(3));
}

fn compare_versions<A: Repo + History, B: Repo + History>(one: &A, other: &B, asked: &Asked) {
    let page = |scope, before, limit| RevisionQuery { scope, before, limit };
    let nobody = NoteId::from_bytes([9; 32]);
    let mut notes: Vec<_> = asked.versions.iter().map(|(_, version)| version.note).collect();
    notes.push(nobody);
    notes.sort_unstable();
    notes.dedup();
    for note in notes {
        same("heads", one.heads(&note), other.heads(&note));
        same("versions of", one.versions_of(&note), other.versions_of(&note));
        for at in [0, 3, 7, 20, u64::MAX] {
            same("newest at", one.newest_at(&note, Seq(at)), other.newest_at(&note, Seq(at)));
        }
        let query = page(Scope::Note(note), Some(Seq(15)), 3);
        same("revisions of a note", one.revisions(&query), other.revisions(&query));
    }
    for (id, version) in &asked.versions {
        same("version", one.version(id), other.version(id));
        same("revision", one.revision(id), other.revision(id));
        for length in [3, 4, 5, 6, 32] {
            let prefix = &id.as_bytes()[..length];
            same("prefix", one.versions_by_prefix(prefix), other.versions_by_prefix(prefix));
        }
        let Some(live) = version.live() else { continue };
        let of = (&version.note, &live.content);
        let found =
            (one.versions_with_content(of.0, of.1), other.versions_with_content(of.0, of.1));
        same("versions with content", found.0, found.1);
        same("notes at", one.notes_at(&live.path), other.notes_at(&live.path));
        let query = page(Scope::Path(live.path.clone()), None, 5);
        same("revisions at a path", one.revisions(&query), other.revisions(&query));
    }
    for before in [None, Some(Seq(8))] {
        same("deleted", one.deleted(before, 5), other.deleted(before, 5));
        let query = page(Scope::Vault, before, 40);
        same("revisions", one.revisions(&query), other.revisions(&query));
    }
}

fn compare_replicas(one: &SyncDb, other: &MemoryStore, asked: &Asked) {
    compare(one, other, asked);
    same("meta", one.meta(), other.meta());
    same("files", one.files(), other.files());
    for (_, version) in &asked.versions {
        same("file of", one.file_of(&version.note), other.file_of(&version.note));
    }
    same("unsent", one.unsent(), other.unsent());
    same("unsettled", one.unsettled(), other.unsettled());
    same("placing", one.placing(), other.placing());
    same("displaced", one.displaced(), other.displaced());
    same("closed unsent", one.closed_unsent(), other.closed_unsent());
}

fn origin(step: Step) -> Origin {
    Origin {
        user: UserId::from_bytes([(step.pick % 2) as u8; 16]),
        device: DeviceId::from_bytes([(step.how % 3) as u8; 32]),
        received_ms: u64::from(step.how),
        address: format!("192.0.2.{}:443", step.pick % 2),
        others: Vec::new(),
    }
}

/// Batches that break a rule, made of a good one.
fn broken(batch: &Batch, store: &MemoryStore) -> Vec<Batch> {
    let mut broken = Vec::new();
    if let Some((note, heads)) = batch.heads.iter().find(|(_, heads)| !heads.is_empty()) {
        let mut other = batch.clone();
        other.heads = vec![(*note, vec![VersionId::from_bytes([0xee; 32])])];
        broken.push(other);
        let mut other = batch.clone();
        other.heads = vec![(NoteId::from_bytes([0xee; 32]), heads.clone())];
        broken.push(other);
        let mut other = batch.clone();
        other.heads = vec![(*note, [heads.clone(), heads.clone()].concat())];
        broken.push(other);
    }
    if let Some((_, note)) = store.changed(Seq(0), Seq(u64::MAX), 1).unwrap().first() {
        broken.push(Batch { heads: vec![(*note, Vec::new())], ..Batch::default() });
        let dropped = store.heads(note).unwrap();
        broken.push(Batch { dropped, ..Batch::default() });
    }
    broken
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (any::<u8>(), any::<u16>(), any::<u16>());
    let step = step.prop_map(|(op, pick, how)| Step { op, pick, how });
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_device_on_sqlite_does_what_one_in_memory_does(steps in steps()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sync.db");
        let meta = Scribe::meta(VAULT);
        let mut sqlite = SyncDb::create(&path, &meta).unwrap();
        let mut memory = MemoryStore::device(meta);
        let mut scribe = Scribe::new(VAULT);
        let mut asked = Asked::default();
        for (i, step) in steps.iter().enumerate() {
            let batch = scribe.replica_batch(&memory, *step);
            for wrong in broken(&batch.repo, &memory) {
                let wrong = ReplicaBatch { repo: wrong, ..Default::default() };
                prop_assert!(memory.commit(&wrong).is_err(), "memory took {wrong:?}");
                prop_assert!(sqlite.commit(&wrong).is_err(), "SQLite took {wrong:?}");
            }
            asked.note(&batch.repo);
            memory.commit(&batch).unwrap();
            sqlite.commit(&batch).unwrap();
            if i % 8 == 7 {
                sqlite = SyncDb::open(&path).unwrap();
            }
            compare_replicas(&sqlite, &memory, &asked);
        }
        prop_assert_eq!(sqlite.check().unwrap().findings, vec![]);
    }

    #[test]
    fn a_server_on_sqlite_does_what_one_in_memory_does(steps in steps()) {
        let folder = tempfile::tempdir().unwrap();
        let mut sqlite = ServerVaults::new(folder.path()).create(&VAULT).unwrap();
        let mut memory = MemoryStore::server();
        let mut scribe = Scribe::new(VAULT);
        let mut asked = Asked::default();
        for step in &steps {
            let batch = scribe.batch(&memory, *step);
            asked.note(&batch);
            memory.commit_from(&batch, &origin(*step)).unwrap();
            sqlite.commit_from(&batch, &origin(*step)).unwrap();
        }
        compare(&sqlite, &memory, &asked);
        let snapshot = memory.clone();
        sqlite.gc(u64::MAX).unwrap();
        compare(&sqlite, &snapshot, &asked_of_known(&asked, &snapshot));
        prop_assert_eq!(sqlite.check().unwrap().findings, vec![]);
    }
}

#[test]
fn a_merge_is_a_head_again_once_what_hid_it_is_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let meta = Scribe::meta(VAULT);
    let mut sqlite = SyncDb::create(&folder.path().join("sync.db"), &meta).unwrap();
    let mut memory = MemoryStore::device(meta);
    let mut scribe = Scribe::new(VAULT);
    let (create, beside, merge, take_back) = (3, 4, 7, 10);
    let mut heads = Vec::new();
    // Two versions, their merge, and an edit that was made on both and not on the merge.
    for (how, op) in (0..).zip([create, beside, merge, beside, take_back]) {
        let batch = scribe.replica_batch(&memory, Step { op, pick: 0, how });
        memory.commit(&batch).unwrap();
        sqlite.commit(&batch).unwrap();
        let (_, note) = memory.changed(Seq(0), Seq(u64::MAX), 1).unwrap()[0];
        heads.push(memory.heads(&note).unwrap());
    }
    assert_eq!(heads.iter().map(Vec::len).collect::<Vec<_>>(), [1, 2, 1, 1, 1]);
    assert_eq!(heads[4], heads[2], "the merge is the head again");
    assert_eq!(sqlite.check().unwrap().findings, vec![]);
}

/// What is left to ask about after a collection: contents of known versions.
fn asked_of_known(asked: &Asked, store: &MemoryStore) -> Asked {
    let versions: Vec<_> =
        store.all_versions().map(|(_, id, version)| (id, Arc::clone(version))).collect();
    let contents = versions.iter().filter_map(|(_, version)| Some(version.live()?.content));
    Asked {
        contents: contents.collect(),
        versions: versions.clone(),
        nodes: asked.nodes.clone(),
        roots: asked.roots.clone(),
    }
}
