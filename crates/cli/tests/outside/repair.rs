//! A damaged `sync.db`: `cru doctor` says what to do, and doing it loses and doubles nothing.

use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::kit::{Device, Tree, World, assert_same, settle};

fn database(device: &Device) -> PathBuf {
    device.dir.join(".crucible/sync.db")
}

/// Puts all of the log into the database, as an end in good order does, and takes the log away.
fn without_log(device: &Device) {
    let connection = rusqlite::Connection::open(database(device)).unwrap();
    connection.pragma_update(None, "wal_checkpoint", "truncate").unwrap();
    drop(connection);
    for left in ["sync.db-wal", "sync.db-shm"] {
        // There may be none, and then there is none to remove.
        fs::remove_file(device.dir.join(".crucible").join(left)).ok();
    }
}

fn overwrite(file: &Path, at: u64, bytes: &[u8]) {
    let mut file = OpenOptions::new().write(true).open(file).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(bytes).unwrap();
}

/// Two devices in step; then both edit, and neither syncs.
fn in_the_middle_of_things() -> (World, [Device; 2], Tree) {
    let (world, [alice, bob]) = World::with_devices();
    for at in 0..40 {
        alice.write(&format!("f/note-{at}.md"), format!("# Note {at}\n\nThe text of note {at}.\n"));
    }
    alice.write("p.png", (0..300_000_u32).map(|at| (at * 7 % 251) as u8).collect::<Vec<_>>());
    settle(&[&alice, &bob]);
    alice.replace("f/note-1.md", "text", "text by Alice");
    alice.write("new.md", "Alice's new note.\n");
    bob.replace("f/note-2.md", "text", "text by Bob");
    bob.sync();
    let mut wanted = alice.tree();
    wanted.insert("f/note-2.md".to_owned(), bob.tree()["f/note-2.md"].clone());
    (world, [alice, bob], wanted)
}

/// Every note is there once, as it should be; the one whose edit was not sent may have both texts.
#[track_caller]
fn assert_whole(name: &str, tree: &Tree, wanted: &Tree) {
    assert_eq!(tree.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>(), "{name}");
    for (path, bytes) in wanted {
        let here = String::from_utf8_lossy(&tree[path]);
        match path.as_str() {
            "f/note-1.md" if tree[path] != *bytes => {
                let lines: Vec<&str> = here.lines().filter(|line| !line.is_empty()).collect();
                let [title, one, other] = lines[..] else { panic!("{name}: {here}") };
                assert_eq!(title, "# Note 1", "{name}");
                let both = ["The text by Alice of note 1.", "The text of note 1."];
                assert!([one, other] == both || [other, one] == both, "{name}: {here}");
            }
            _ => assert!(tree[path] == *bytes, "{name}: {path} is {here:.200}"),
        }
    }
}

#[track_caller]
fn repaired(name: &str, damage: impl Fn(&Path)) {
    let (_world, [alice, bob], wanted) = in_the_middle_of_things();
    without_log(&alice);
    damage(&database(&alice));
    let before = alice.tree();
    // Whatever else can be done with it: nothing is lost, and doctor knows.
    alice.try_sync().code_in(&[0, 3, 14]);
    let told = alice.cru(&["doctor"]).code(14);
    assert!(told.text().contains("cru doctor --repair"), "{name}\n{}", told.told());
    assert!(before.keys().all(|path| alice.has(path)), "{name}: a note went");
    let mended = alice.cru(&["doctor", "--repair"]).ok();
    assert!(mended.text().contains("begun anew"), "{name}\n{}", mended.told());
    alice.try_sync().code_in(&[0, 3]);
    settle(&[&alice, &bob]);
    assert_whole(name, &alice.tree(), &wanted);
    assert_same(&[&alice, &bob]);
    alice.cru(&["doctor"]).code_in(&[0, 3]);
    alice.cru(&["log", "f/note-3.md"]).ok();
}

#[test]
fn a_database_of_garbage_is_put_aside_and_begun_anew() {
    repaired("garbage", |file| fs::write(file, vec![0x55; 40_000]).unwrap());
}

#[test]
fn a_database_that_was_cut_is_put_aside_and_begun_anew() {
    repaired("half", |file| {
        let bytes = fs::metadata(file).unwrap().len();
        OpenOptions::new().write(true).open(file).unwrap().set_len(bytes / 2 + 100).unwrap();
    });
    repaired("a page and a bit", |file| {
        OpenOptions::new().write(true).open(file).unwrap().set_len(5000).unwrap();
    });
    repaired("empty", |file| fs::write(file, "").unwrap());
}

#[test]
fn a_database_with_overwritten_pages_is_put_aside_and_begun_anew() {
    repaired("all pages but the first", |file| {
        let bytes = fs::metadata(file).unwrap().len();
        overwrite(file, 4096, &vec![0xa5; usize::try_from(bytes).unwrap() - 4096]);
    });
    repaired("the table of tables", |file| overwrite(file, 100, &[0; 3000]));
}

#[test]
fn an_edit_that_was_not_sent_is_one_edit_where_the_database_still_tells_of_what() {
    let (_world, [alice, bob], wanted) = in_the_middle_of_things();
    without_log(&alice);
    let connection = rusqlite::Connection::open(database(&alice)).unwrap();
    let root: u64 = connection
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'versions'", [], |row| {
            row.get::<_, i64>(0)
        })
        .unwrap()
        .try_into()
        .unwrap();
    drop(connection);
    without_log(&alice);
    overwrite(&database(&alice), (root - 1) * 4096, &[0xa7; 4096]);
    alice.cru(&["doctor", "--repair"]).ok();
    let done = alice.try_sync().ok().last();
    assert_eq!(done["conflicts"], 0, "{done}");
    settle(&[&alice, &bob]);
    assert!(alice.tree() == wanted, "{:?}", alice.read("f/note-1.md"));
    assert!(!alice.dir.join(".crucible/salvaged.json").exists());
}

#[test]
fn a_database_that_is_gone_is_begun_anew() {
    repaired("gone", |file| fs::remove_file(file).unwrap());
}

#[test]
fn whatever_page_is_overwritten_no_command_loses_anything_and_repair_mends_it() {
    let (_world, [alice, bob], wanted) = in_the_middle_of_things();
    without_log(&alice);
    let whole = fs::read(database(&alice)).unwrap();
    let files = alice.tree();
    for at in (1..whole.len() / 4096).step_by(3) {
        for left in ["sync.db-wal", "sync.db-shm"] {
            // There may be none, and then there is none to remove.
            fs::remove_file(alice.dir.join(".crucible").join(left)).ok();
        }
        let mut damaged = whole.clone();
        damaged[at * 4096..(at + 1) * 4096].fill(0x5a);
        fs::write(database(&alice), &damaged).unwrap();
        alice.cru(&["status"]).code_in(&[0, 3, 14]);
        alice.cru(&["sync", "--dry-run"]).code_in(&[0, 3, 14, 16]);
        assert_eq!(alice.tree(), files, "page {at}: looking changed something");
        let told = alice.cru(&["doctor"]).code_in(&[0, 3, 14]);
        if told.code == Some(14) {
            assert!(told.text().contains("--repair"), "page {at}\n{}", told.told());
        }
    }
    alice.cru(&["doctor", "--repair"]).code_in(&[0, 3]);
    alice.try_sync().code_in(&[0, 3]);
    settle(&[&alice, &bob]);
    assert_whole("pages", &alice.tree(), &wanted);
}

#[test]
fn a_newer_database_is_not_repaired() {
    let (_world, [alice]) = World::with_devices();
    alice.write("a.md", "a\n");
    alice.sync();
    without_log(&alice);
    overwrite(&database(&alice), 60, &7_u32.to_be_bytes());
    let before = fs::read(database(&alice)).unwrap();
    let told = alice.cru(&["doctor", "--repair"]).code(15);
    assert!(told.text().contains("update `cru`"), "{}", told.told());
    assert!(fs::read(database(&alice)).unwrap() == before, "it was touched");
}

#[test]
fn repairing_what_is_whole_changes_nothing() {
    let (_world, [alice]) = World::with_devices();
    alice.write("a.md", "a\n");
    alice.sync();
    alice.cru(&["doctor", "--repair"]).ok();
    assert_eq!(alice.log("a.md").len(), 1);
    let entries = fs::read_dir(alice.dir.join(".crucible")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(!names.into_iter().any(|name| name.starts_with("damaged")), "something was put aside");
}

#[test]
fn a_vault_without_a_server_is_repaired_only_when_that_is_meant() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let device = Device::new("alone", home, folder.path().join("Diary"));
    device.write("a.md", "a\n");
    device.cru(&["init"]).ok();
    without_log(&device);
    fs::write(database(&device), "nonsense").unwrap();
    device.cru(&["doctor", "--repair"]).code(16).says("--yes");
    assert_eq!(fs::read(database(&device)).unwrap(), b"nonsense");
    device.cru(&["doctor", "--repair", "--yes"]).ok();
    device.cru(&["sync"]).ok();
    assert_eq!((device.read("a.md").as_str(), device.log("a.md").len()), ("a\n", 1));
}
