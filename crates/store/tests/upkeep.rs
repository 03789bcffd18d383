//! What an operator runs: check, gc, prune, backup, and opening what is not ours to open.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crucible_core::hash::ContentHash;
use crucible_core::id::{DeviceId, NoteId, ReplicaId, UserId, VaultId, VersionId};
use crucible_core::timestamp::Stamp;
use crucible_core::vault_path::VaultPath;
use crucible_core::version::{Author, Kind, Live, State, Version};
use crucible_core::version_vector::{Dot, VersionVector};
use crucible_proto::zip;
use crucible_store::error::{OpenError, StoreError};
use crucible_store::gc::BLOB_GRACE_MS;
use crucible_store::schema::{FORMAT, Peek, peek};
use crucible_store::server_repo::{Origin, ServerRepo, Vaults};
use crucible_store::server_vault::{ServerVault, ServerVaults};
use crucible_store::sync_db::SyncDb;
use crucible_sync::replica::{FileRow, FileStat, ReplicaBatch, ReplicaMeta, ReplicaStore};
use crucible_sync::repo::{Batch, Body, Pack, Repo};
use crucible_sync::staged::Staged;
use crucible_testkit::scribe::Scribe;
use rusqlite::Connection;

const VAULT: VaultId = VaultId::from_bytes([7; 16]);
const REPLICA: ReplicaId = ReplicaId::from_bytes([1; 16]);

fn path(name: &str) -> VaultPath {
    VaultPath::new(name).unwrap()
}

fn origin() -> Origin {
    let (user, device) = (UserId::from_bytes([1; 16]), DeviceId::from_bytes([2; 32]));
    Origin { user, device, received_ms: 1, address: String::new(), others: Vec::new() }
}

/// A version after the note's heads.
fn version(
    repo: &impl Repo,
    name: &str,
    counter: u64,
    content: ContentHash,
    bytes: u64,
) -> Version {
    let note = NoteId::derive(&VAULT, &path(name), 0);
    let mut clock = VersionVector::new();
    clock.observe(Dot { replica: REPLICA, counter });
    let kind = if name.ends_with(".md") { Kind::Note } else { Kind::Asset };
    let (keys, tags) = Default::default();
    Version {
        note,
        parents: repo.heads(&note).unwrap(),
        clock,
        stamp: Stamp::new(counter, 0, REPLICA),
        author: Author::Replica(REPLICA),
        state: State::Live(Live { path: path(name), kind, content, bytes, keys, tags }),
    }
}

/// A batch that makes `text` the content of `name`, as a delta over what it had.
fn edit<R: Repo>(repo: &R, name: &str, counter: u64, text: &str) -> Batch {
    let hash = ContentHash::of_text(text);
    let version = version(repo, name, counter, hash, text.len() as u64);
    let parent = version.parents.first().map(|id| repo.version(id).unwrap().unwrap());
    let base = parent.and_then(|parent| Some(parent.live()?.content));
    let mut staged = Staged::new(repo);
    staged.put_new_content(hash, text.as_bytes().into(), base.as_ref()).unwrap();
    staged.put_version(version).unwrap();
    staged.finish().unwrap()
}

/// The `n`-th text of a note that grows.
fn text(n: usize) -> String {
    let all = (0..200).map(|line| format!("Line {line}, {}.\n", line * 7919));
    let added = (0..n).map(|line| format!("Added {line}, {}.\n", line * 104_729));
    all.chain(added).collect()
}

fn server(folder: &Path) -> ServerVault {
    ServerVaults::new(folder).create(&VAULT).unwrap()
}

fn tree(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(folder).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap())
    });
    files.collect()
}

#[test]
fn reading_the_end_of_a_long_history_stays_cheap() {
    let folder = tempfile::tempdir().unwrap();
    let mut vault = server(folder.path());
    for n in 0..300 {
        let batch = edit(&vault, "a.md", n as u64 + 1, &text(n));
        vault.commit_from(&batch, &origin()).unwrap();
    }
    let conn = Connection::open(vault.path()).unwrap();
    let longest: i64 = conn
        .query_row(
            "WITH RECURSIVE chain (k, links) AS (
                 SELECT k, 0 FROM contents WHERE base IS NULL
                 UNION ALL SELECT c.k, links + 1 FROM contents c JOIN chain ON c.base = chain.k)
             SELECT max(links) FROM chain",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert!((10..=64).contains(&longest), "{longest} links");
    let stored: i64 =
        conn.query_row("SELECT sum(length(frame)) FROM contents", [], |row| row.get(0)).unwrap();
    assert!(stored < 60_000, "{stored} bytes for 300 texts");
    for n in (0..300).rev() {
        let text = text(n);
        let read = vault.content(&ContentHash::of_text(&text)).unwrap();
        assert_eq!(read.as_deref(), Some(text.as_bytes()));
    }
    assert_eq!(vault.check().unwrap().findings, vec![]);
}

#[test]
fn a_delta_that_decodes_to_too_much_is_never_stored_on_a_chain() {
    let folder = tempfile::tempdir().unwrap();
    let mut vault = server(folder.path());
    let large = |n: usize| format!("{}{n}\n", "All work and no play.\n".repeat(100_000));
    for n in 0..8 {
        let batch = edit(&vault, "a.md", n as u64 + 1, &large(n));
        vault.commit_from(&batch, &origin()).unwrap();
    }
    let conn = Connection::open(vault.path()).unwrap();
    let cost: i64 = conn.query_row("SELECT max(cost) FROM contents", [], |row| row.get(0)).unwrap();
    assert!(cost <= 3 * 2200, "{cost} KiB");
    assert_eq!(vault.check().unwrap().findings, vec![]);
}

#[test]
fn check_finds_every_kind_of_damage() {
    let damages = [
        ("UPDATE contents SET bytes = bytes - 1 WHERE k = 1", "content"),
        ("UPDATE contents SET frame = x'00' WHERE frame IS NOT NULL", "content"),
        ("UPDATE contents SET frame = NULL", "missing"),
        ("UPDATE versions SET path = path + 1 WHERE seq = 1", "version"),
        ("UPDATE versions SET rest = x'02' WHERE seq = 1", "version"),
        ("UPDATE versions SET seq = 99 WHERE seq = 3", "count"),
        ("UPDATE notes SET heads = 1 WHERE heads = 2", "note"),
        ("UPDATE notes SET newest = 1 WHERE newest = 2", "note"),
        ("UPDATE notes SET live = 0 WHERE k = 1", "note"),
        ("UPDATE vault SET live = 7", "count"),
        ("UPDATE vault SET root = zeroblob(32)", "tree"),
        ("DELETE FROM nodes WHERE k = (SELECT max(k) FROM nodes)", "tree"),
        ("INSERT INTO nodes (hash, body) VALUES (zeroblob(32), x'00')", "tree"),
        ("DELETE FROM contents_absent", ""),
    ];
    for (sql, word) in damages {
        let folder = tempfile::tempdir().unwrap();
        let mut vault = server(folder.path());
        for (name, n) in [("a.md", 0), ("a.md", 1), ("b.md", 2)] {
            let batch = edit(&vault, name, n as u64 + 1, &text(n));
            vault.commit_from(&batch, &origin()).unwrap();
        }
        let path = vault.path().to_owned();
        assert_eq!(vault.check().unwrap().findings, vec![]);
        drop(vault);
        let done = Connection::open(path).unwrap().execute_batch(sql);
        assert_eq!(done.is_ok(), !word.is_empty(), "{sql}: {done:?}");
        let vault = ServerVaults::new(folder.path()).open(&VAULT).unwrap().unwrap();
        let findings = vault.check().unwrap().findings;
        let told: Vec<_> = findings.iter().map(|finding| finding.to_string()).collect();
        assert!(word.is_empty() || told.iter().any(|line| line.contains(word)), "{sql}: {told:?}");
    }
}

#[test]
fn check_finds_a_damaged_blob() {
    let folder = tempfile::tempdir().unwrap();
    let mut vault = server(folder.path());
    let bytes = vec![5; 200_000];
    let hash = ContentHash::of_blob(&bytes);
    let staged_version = version(&vault, "a.png", 1, hash, 200_000);
    let mut staged = Staged::new(&vault);
    staged.put_version(staged_version).unwrap();
    let batch = staged.finish().unwrap();
    let early = vault.commit_from(&batch, &origin());
    assert!(matches!(early, Err(StoreError::Rule(_))), "a version before its blob: {early:?}");
    vault.blobs().put(&hash, &mut &bytes[..]).unwrap();
    vault.commit_from(&batch, &origin()).unwrap();
    assert!(vault.has_content(&hash).unwrap());
    assert_eq!(vault.content(&hash).unwrap(), None);
    assert_eq!(vault.check().unwrap().findings, vec![]);
    let file = ServerVaults::new(folder.path()).folder(&VAULT).join("blobs");
    let file = file.join(&hash.to_string()[..2]).join(hash.to_string());
    fs::write(&file, b"other").unwrap();
    assert_eq!(vault.check().unwrap().findings.len(), 1);
    fs::remove_file(file).unwrap();
    assert_eq!(vault.check().unwrap().findings.len(), 1);
}

#[test]
fn gc_takes_leftovers_and_leaves_what_versions_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut vault = server(folder.path());
    for n in 0..4 {
        let batch = edit(&vault, "a.md", n as u64 + 1, &text(n));
        vault.commit_from(&batch, &origin()).unwrap();
    }
    let (kept, left) = (vec![1; 200_000], vec![2; 200_000]);
    let kept_hash = ContentHash::of_blob(&kept);
    for bytes in [&kept, &left] {
        vault.blobs().put(&ContentHash::of_blob(bytes), &mut &bytes[..]).unwrap();
    }
    let asset = version(&vault, "a.png", 9, kept_hash, 200_000);
    let mut staged = Staged::new(&vault);
    staged.put_version(asset).unwrap();
    let batch = staged.finish().unwrap();
    vault.commit_from(&batch, &origin()).unwrap();
    let young = vault.gc(0).unwrap();
    assert_eq!((young.blobs, young.contents, young.nodes), (0, 0, 0));
    let old = vault.gc(u64::MAX - BLOB_GRACE_MS).unwrap();
    assert_eq!((old.blobs, old.blob_bytes, old.contents), (1, 200_000, 0));
    assert!(vault.has_content(&kept_hash).unwrap());
    assert!(!vault.has_content(&ContentHash::of_blob(&left)).unwrap());
    assert_eq!(vault.check().unwrap().findings, vec![]);
}

#[test]
fn gc_gathers_texts_that_came_alone_and_keeps_every_byte_of_their_histories() {
    let folder = tempfile::tempdir().unwrap();
    let mut vault = server(folder.path());
    let notes: Vec<String> = (0..60).map(|n| format!("note {n}.md")).collect();
    let text_of = |note: usize, n: usize| format!("# Note {note}\n\n{}", text(n));
    // One with a chain so long that it may not cost a pack more to read.
    let edits = |note: usize| if note == 0 { 63 } else { 3 };
    let mut counter = 0;
    for (at, name) in notes.iter().enumerate() {
        for n in 0..edits(at) {
            counter += 1;
            let batch = edit(&vault, name, counter, &text_of(at, n));
            vault.commit_from(&batch, &origin()).unwrap();
        }
    }
    let database = ServerVaults::new(folder.path()).folder(&VAULT).join("vault.db");
    let conn = Connection::open(&database).unwrap();
    let count = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    const ALONE: &str = "SELECT count(*) FROM contents WHERE frame IS NOT NULL AND base IS NULL";
    const SIZE: &str = "SELECT (SELECT coalesce(sum(length(frame)), 0) FROM contents)
                             + (SELECT coalesce(sum(length(frame)), 0) FROM packs)";
    let before = count(SIZE);
    assert_eq!(count(ALONE), 60);
    vault.gc(0).unwrap();
    assert_eq!(count(ALONE), 1, "the one with the long chain");
    assert!(count(SIZE) * 2 < before, "{} of {before}", count(SIZE));
    assert_eq!(vault.check().unwrap().findings, vec![]);
    for (at, _) in notes.iter().enumerate() {
        for n in 0..edits(at) {
            let text = text_of(at, n);
            let read = vault.content(&ContentHash::of_text(&text)).unwrap().unwrap();
            assert_eq!(&*read, text.as_bytes());
        }
    }
    // Edits go on over what was gathered.
    let batch = edit(&vault, &notes[7], counter + 1, &text_of(7, 3));
    vault.commit_from(&batch, &origin()).unwrap();
    let packs = count("SELECT count(*) FROM packs");
    vault.gc(0).unwrap();
    assert_eq!(count("SELECT count(*) FROM packs"), packs, "what is gathered stays");
    assert_eq!(vault.check().unwrap().findings, vec![]);
}

#[test]
fn a_backup_is_one_moment_of_a_store_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let mut vault = server(&folder.path().join("vaults"));
    let blob = vec![3; 150_000];
    let hash = ContentHash::of_blob(&blob);
    vault.blobs().put(&hash, &mut &blob[..]).unwrap();
    let batch = edit(&vault, "a.md", 1, &text(1));
    vault.commit_from(&batch, &origin()).unwrap();
    let root = vault.root().unwrap();
    let copies = ServerVaults::new(folder.path().join("copy"));
    let backed_up = vault.backup(&copies.folder(&VAULT)).unwrap();
    assert_eq!(backed_up.blobs, 1);
    assert!(vault.backup(&copies.folder(&VAULT)).is_err(), "a backup is never overwritten");
    let batch = edit(&vault, "a.md", 2, &text(2));
    vault.commit_from(&batch, &origin()).unwrap();
    let mut copy = copies.open(&VAULT).unwrap().unwrap();
    assert_eq!(copy.root().unwrap(), root);
    assert_eq!(copy.check().unwrap().findings, vec![]);
    assert!(copy.has_content(&hash).unwrap());
    copy.commit_from(&batch, &origin()).unwrap();
    assert_eq!(copy.root().unwrap(), vault.root().unwrap());
}

#[test]
fn check_finds_nothing_wrong_in_a_store_that_is_written_to_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = server(folder.path());
    writer.commit_from(&edit(&writer, "a.md", 1, "first\n"), &origin()).unwrap();
    let reader = server(folder.path());
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut writer = writer;
            for counter in 2..400 {
                let batch = edit(&writer, "a.md", counter, &text(counter as usize));
                writer.commit_from(&batch, &origin()).unwrap();
            }
            done.store(true, std::sync::atomic::Ordering::SeqCst);
        });
        while !done.load(std::sync::atomic::Ordering::SeqCst) {
            let findings = reader.check().unwrap().findings;
            assert!(findings.is_empty(), "{findings:?}");
        }
    });
}

fn device(path: &Path) -> SyncDb {
    SyncDb::create(path, &Scribe::meta(VAULT)).unwrap()
}

fn device_edit(db: &mut SyncDb, name: &str, counter: u64, text: &str) -> VersionId {
    let repo = edit(db, name, counter, text);
    let id = repo.versions[0].0;
    db.commit(&ReplicaBatch { repo, ..ReplicaBatch::default() }).unwrap();
    id
}

fn set_common_root(db: &mut SyncDb) {
    let meta = ReplicaMeta { common_root: db.root().unwrap(), ..db.meta().unwrap() };
    db.commit(&ReplicaBatch { meta: Some(meta), ..ReplicaBatch::default() }).unwrap();
}

#[test]
fn a_device_forgets_only_what_the_other_side_keeps() {
    let folder = tempfile::tempdir().unwrap();
    let mut db = device(&folder.path().join("sync.db"));
    let ids: Vec<_> =
        (0..9).map(|n| device_edit(&mut db, "a.md", n as u64 + 1, &text(n))).collect();
    assert_eq!(db.prune(&[]).unwrap().versions, 0, "local mode forgets nothing");
    // The file is at version 2; version 4 was never sent.
    let file = FileRow {
        disk_path: path("a.md"),
        note: NoteId::derive(&VAULT, &path("a.md"), 0),
        version: ids[2],
        content: ContentHash::of_text(&text(2)),
        kind: Kind::Note,
        stat: FileStat::default(),
        seen_ns: 0,
    };
    let batch = ReplicaBatch { files: vec![file], unsent: vec![ids[4]], ..Default::default() };
    db.commit(&batch).unwrap();
    set_common_root(&mut db);
    let unknown = crucible_core::id::RootHash::from_bytes([9; 32]);
    assert_eq!(db.prune(&[unknown]).unwrap().versions, 0, "an unknown root keeps everything");
    let after = device_edit(&mut db, "a.md", 10, &text(9));

    let pruned = db.prune(&[]).unwrap();
    assert_eq!(pruned.versions, 5);
    let known: Vec<_> = (0..9).filter(|&n| db.version(&ids[n]).unwrap().is_some()).collect();
    assert_eq!(known, [2, 3, 4, 8], "file, parent of unsent, unsent, common root");
    for n in [2, 3, 4, 8, 9] {
        let read = db.content(&ContentHash::of_text(&text(n))).unwrap();
        assert_eq!(read.as_deref(), Some(text(n).as_bytes()), "text {n}");
    }
    assert!(!db.has_content(&ContentHash::of_text(&text(5))).unwrap());
    assert_eq!(db.version(&after).unwrap().unwrap().parents, [ids[8]]);
    assert_eq!(db.version(&ids[4]).unwrap().unwrap().parents, [ids[3]]);
    assert_eq!(db.check().unwrap().findings, vec![]);
    assert_eq!(db.prune(&[]).unwrap().versions, 0);
}

#[test]
fn packs_are_written_anew_when_most_of_them_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let mut db = device(&folder.path().join("sync.db"));
    let names = ["a.md", "b.md", "c.md", "d.md"];
    let texts: Vec<_> = (0..4).map(|n| format!("{n}\n{}", text(n))).collect();
    let raw = texts.concat();
    let versions: Vec<_> = names
        .iter()
        .zip(&texts)
        .zip(1..)
        .map(|((name, text), counter)| {
            version(&db, name, counter, ContentHash::of_text(text), text.len() as u64)
        })
        .collect();
    let mut staged = Staged::new(&db);
    let frame = zip::zip(raw.as_bytes());
    let pack = staged.put_pack(Pack { raw_bytes: raw.len() as u32, frame });
    let mut offset = 0;
    for (text, version) in texts.iter().zip(versions) {
        let (hash, bytes) = (ContentHash::of_text(text), text.as_bytes().into());
        staged.put_content(hash, bytes, Body::Packed { pack, offset }).unwrap();
        staged.put_version(version).unwrap();
        offset += text.len() as u32;
    }
    let repo = staged.finish().unwrap();
    db.commit(&ReplicaBatch { repo, ..ReplicaBatch::default() }).unwrap();
    for (name, counter) in names[1..].iter().zip(10..) {
        device_edit(&mut db, name, counter, "new\n");
    }
    set_common_root(&mut db);
    let pruned = db.prune(&[]).unwrap();
    assert_eq!((pruned.versions, pruned.swept.packs), (3, 1));
    let read = db.content(&ContentHash::of_text(&texts[0])).unwrap();
    assert_eq!(read.as_deref(), Some(texts[0].as_bytes()));
    assert_eq!(db.content(&ContentHash::of_text(&texts[1])).unwrap(), None);
    assert_eq!(db.check().unwrap().findings, vec![]);
}

#[test]
fn a_database_of_a_newer_format_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sync.db");
    drop(device(&path));
    let conn = Connection::open(&path).unwrap();
    conn.pragma_update(None, "user_version", FORMAT + 1).unwrap();
    // The new number is only in the log, as after a crash of the newer release.
    let crashed = tempfile::tempdir().unwrap();
    for name in ["sync.db", "sync.db-wal"] {
        fs::copy(folder.path().join(name), crashed.path().join(name)).unwrap();
    }
    drop(conn);
    for folder in [folder.path(), crashed.path()] {
        let before = tree(folder);
        let path = folder.join("sync.db");
        for opened in [SyncDb::open(&path), SyncDb::create(&path, &Scribe::meta(VAULT))] {
            let error = opened.unwrap_err();
            let found = FORMAT + 1;
            assert!(matches!(error, OpenError::TooNew { found: f, .. } if f == found), "{error}");
        }
        assert_eq!(tree(folder), before);
    }
}

#[test]
fn what_is_not_ours_is_refused_and_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sync.db");
    assert!(matches!(SyncDb::open(&path), Err(OpenError::Missing { .. })));
    assert_eq!(peek(&path).unwrap(), Peek::Absent);
    fs::write(&path, "Dear diary,\n".repeat(100)).unwrap();
    let before = tree(folder.path());
    assert!(matches!(SyncDb::open(&path), Err(OpenError::NotOurs { .. })));
    let created = SyncDb::create(&path, &Scribe::meta(VAULT));
    assert!(matches!(created, Err(OpenError::NotOurs { .. })));
    assert_eq!(tree(folder.path()), before);
    fs::remove_file(&path).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE t (a); PRAGMA user_version = 1").unwrap();
    drop(other);
    assert!(matches!(SyncDb::open(&path), Err(OpenError::NotOurs { .. })));
}

#[test]
fn a_store_of_another_vault_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sync.db");
    drop(device(&path));
    let other = Scribe::meta(VaultId::from_bytes([8; 16]));
    assert!(matches!(SyncDb::create(&path, &other), Err(OpenError::OtherVault { .. })));
    let again = device(&path);
    assert_eq!(again.meta().unwrap(), Scribe::meta(VAULT));
}

#[test]
fn a_database_that_another_process_writes_to_is_said_to_be_busy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sync.db");
    let mut db = device(&path);
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let batch = edit(&db, "a.md", 1, "text\n");
    let error = db.commit(&ReplicaBatch { repo: batch.clone(), ..Default::default() }).unwrap_err();
    assert!(matches!(error, StoreError::Busy { .. }), "{error}");
    assert!(error.to_string().contains("sync.db"), "{error}");
    assert_eq!(db.root().unwrap(), None, "reading goes on");
    other.execute_batch("COMMIT").unwrap();
    db.commit(&ReplicaBatch { repo: batch, ..Default::default() }).unwrap();
}

#[test]
fn a_pack_that_the_disk_changed_is_not_sent_on() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("sync.db");
    let mut db = device(&at);
    let text = text(3);
    let hash = ContentHash::of_text(&text);
    let version = version(&db, "a.md", 1, hash, text.len() as u64);
    let mut staged = Staged::new(&db);
    let frame = zip::zip(text.as_bytes());
    let stored = Pack { raw_bytes: text.len() as u32, frame };
    let pack = staged.put_pack(stored.clone());
    let body = Body::Packed { pack, offset: 0 };
    staged.put_content(hash, text.as_bytes().into(), body).unwrap();
    staged.put_version(version).unwrap();
    let repo = staged.finish().unwrap();
    db.commit(&ReplicaBatch { repo, ..ReplicaBatch::default() }).unwrap();
    let place = db.pack_place(&hash).unwrap().unwrap();
    assert_eq!((place.offset, place.raw_bytes), (0, stored.raw_bytes));
    assert_eq!(db.pack_of(&hash).unwrap(), Some((place, stored)));
    let other = Connection::open(&at).unwrap();
    other.execute("UPDATE packs SET frame = zeroblob(length(frame))", []).unwrap();
    let error = db.pack_of(&hash).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
}
