//! The database against the values it stands for.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn version(n: u8) -> Version {
    Version(vec![n; usize::from(n) % 5])
}

fn session(id: &str) -> Session {
    let stored = Stored {
        id: id.to_owned(),
        epoch: format!("epoch of {id}"),
        flushed: flushed(0, 0),
        intent: None,
        snapshot: vec![1, 2, 3],
        snapshot_turn: 0,
        turns: BTreeMap::new(),
        people: Vec::new(),
        authors: BTreeMap::new(),
        editors: Vec::new(),
    };
    let (vault, note) = (VaultId::from_bytes([7; 16]), NoteId::from_bytes([8; 32]));
    Session { vault, note, opened_ms: 1_700_000_000_000, stored }
}

fn flushed(n: u8, turn: u64) -> Flushed {
    let hash = ContentHash::of_blob(&[n]);
    Flushed { base: VersionId::from_bytes([n; 32]), hash, at: version(n), turn }
}

/// What a room may write next, given what is stored.
fn write(stored: &Stored, kind: u8, n: u8, peer: u64) -> Write {
    let turn = stored.turn();
    let people = stored.people.len() as PersonNo;
    let mut write = Write::default();
    if kind & 1 != 0 {
        let record = |person| Record { person, update: vec![n; usize::from(n)] };
        let mine = (people > 0).then(|| u32::from(n) % people.max(1));
        write.turn = Some((turn + 1, vec![record(mine), record(None)]));
        write.authors = mine.map(|no| (peer, no)).into_iter().collect();
    }
    if kind & 2 != 0 {
        let (user, device) = (UserId::from_bytes([n; 16]), DeviceId::from_bytes([n; 32]));
        write.people = vec![(people, Person { user, device, name: format!("p{n}") })];
    }
    if kind & 4 != 0 {
        write.flushed = Some(flushed(n, turn.saturating_sub(u64::from(n) % 3)));
    }
    if kind & 8 != 0 {
        let Flushed { base, hash, at, turn } = flushed(n, turn);
        let stored = ContentHash::of_blob(&[n, n]);
        write.intent = Some(Intent { base, stored, hash, at, turn });
    }
    if kind & 16 != 0 {
        write.snapshot = Some((turn, vec![n; 9]));
    }
    write
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn it_keeps_what_the_values_say(
        steps in prop::collection::vec((any::<bool>(), 0..32_u8, any::<u8>(), any::<u64>()), 1..24),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("crdt.db");
        let mut db = CrdtDb::open(&path).unwrap();
        let mut models = [session("a"), session("b")];
        for model in &models {
            db.create(model).unwrap();
        }
        for (which, kind, n, peer) in steps {
            let model = &mut models[usize::from(which)].stored;
            let write = write(model, kind, n, peer);
            db.commit(&[(model.id.clone(), write.clone())]).unwrap();
            model.apply(write);
            prop_assert_eq!(&db.load(&model.id).unwrap().unwrap().stored, &*model);
        }
        drop(db);
        let mut db = CrdtDb::open(&path).unwrap();
        for model in &models {
            prop_assert_eq!(db.load(&model.stored.id).unwrap(), Some(model.clone()));
        }
        let over = Write { over: true, ..Write::default() };
        db.commit(&[("a".to_owned(), over)]).unwrap();
        prop_assert_eq!(db.load("a").unwrap(), None);
        prop_assert_eq!(db.load("b").unwrap(), Some(models[1].clone()));
        prop_assert_eq!(db.all().unwrap(), ["b".to_owned()]);
    }
}

#[test]
fn a_session_is_created_with_all_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let mut db = CrdtDb::open(&folder.path().join("crdt.db")).unwrap();
    let mut whole = session("whole");
    for (kind, n) in [(2, 1), (1, 2), (8, 3), (1, 4)] {
        let write = write(&whole.stored, kind, n, u64::MAX - 3);
        whole.stored.apply(write);
    }
    db.create(&whole).unwrap();
    assert_eq!(db.load("whole").unwrap(), Some(whole));
}

#[test]
fn of_a_commit_all_is_there_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut db = CrdtDb::open(&folder.path().join("crdt.db")).unwrap();
    let before = session("a");
    db.create(&before).unwrap();
    let good = write(&before.stored, 1, 5, 9);
    let twice = write(&before.stored, 2, 5, 9);
    let writes = [good, twice.clone(), twice].map(|write| ("a".to_owned(), write));
    assert!(db.commit(&writes).is_err(), "one person is counted twice");
    assert_eq!(db.load("a").unwrap(), Some(before));
}

#[test]
fn what_is_not_ours_or_newer_or_damaged_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("crdt.db");
    drop(CrdtDb::open(&path).unwrap());
    let newer = Connection::open(&path).unwrap();
    newer.pragma_update(None, "user_version", 99).unwrap();
    drop(newer);
    assert!(matches!(CrdtDb::open(&path), Err(OpenError::TooNew { found: 99, .. })));
    std::fs::write(&path, vec![b'x'; 8_192]).unwrap();
    assert!(matches!(CrdtDb::open(&path), Err(OpenError::NotOurs { .. })));
    let path = folder.path().join("torn.db");
    let mut db = CrdtDb::open(&path).unwrap();
    db.create(&session("a")).unwrap();
    db.connection.execute("UPDATE sessions SET editors = x'80'", []).unwrap();
    assert!(matches!(db.load("a"), Err(StoreError::Damaged { .. })));
}
