//! What a round brings over, merges, refuses and finds again.

use crucible_core::hash::ContentHash;
use crucible_core::id::VersionId;
use crucible_core::vault_path::VaultPath;
use crucible_node::error::{Direction, SyncError};
use crucible_node::link::{BlobSink, Link, LinkError, OpenBlob, Traffic};
use crucible_node::replica::{Options, Replica, Settings, scan_here};
use crucible_sync::replica::ReplicaStore;
use crucible_sync::repo::Repo;
use crucible_testkit::fake_fs::{FakeFs, Variant};
use crucible_testkit::server_link::{Server, ServerLink};

use crate::kit::{Device, VAULT, in_step, pair};

/// Brings requests over and loses the answers to rounds, but for the first few.
struct Deaf(ServerLink, usize);

impl Link for Deaf {
    fn round(&mut self, body: &[u8]) -> Result<Vec<u8>, LinkError> {
        let answer = self.0.round(body)?;
        if let Some(left) = self.1.checked_sub(1) {
            self.1 = left;
            return Ok(answer);
        }
        let (place, reason) = ("the server".to_owned(), "lost".to_owned());
        Err(LinkError::Unreachable { place, reason })
    }
    fn walk(&mut self, body: &[u8]) -> Result<Vec<u8>, LinkError> {
        self.0.walk(body)
    }
    fn missing_blobs(&mut self, hashes: &[ContentHash]) -> Result<Vec<ContentHash>, LinkError> {
        self.0.missing_blobs(hashes)
    }
    fn missing_versions(&mut self, versions: &[VersionId]) -> Result<Vec<VersionId>, LinkError> {
        self.0.missing_versions(versions)
    }
    fn put_blob(
        &mut self,
        hash: &ContentHash,
        bytes: u64,
        open: OpenBlob<'_>,
    ) -> Result<(), LinkError> {
        self.0.put_blob(hash, bytes, open)
    }
    fn get_blob(
        &mut self,
        hash: &ContentHash,
        offset: u64,
        sink: BlobSink<'_>,
    ) -> Result<(), LinkError> {
        self.0.get_blob(hash, offset, sink)
    }
    fn traffic(&self) -> Traffic {
        self.0.traffic()
    }
}

#[test]
fn notes_go_over_and_edits_apart_come_together() {
    let (mut a, mut b) = pair();
    a.write("Daily/one.md", "# One\n\nFirst sentence.\n\nSecond sentence.\n");
    a.write("pic.png", "\u{1}binary");
    a.sync();
    b.sync();
    in_step(&a, &b);
    a.write("Daily/one.md", "# One\n\nFirst good sentence.\n\nSecond sentence.\n");
    b.write("Daily/one.md", "# One\n\nFirst sentence.\n\nSecond fine sentence.\n");
    a.sync();
    let report = b.sync();
    assert_eq!((report.merged, report.conflicts.len()), (1, 0));
    a.sync();
    in_step(&a, &b);
    let merged = "# One\n\nFirst good sentence.\n\nSecond fine sentence.\n";
    assert_eq!(a.read("Daily/one.md").as_deref(), Some(merged));
}

#[test]
fn a_second_round_sends_nothing_and_touches_nothing() {
    let (mut a, mut b) = pair();
    a.write("a.md", "x\n");
    a.sync();
    b.sync();
    for device in [&mut a, &mut b] {
        let before = device.replica.fs().disk().image();
        let report = device.sync();
        assert_eq!((report.pushed, report.pulled, report.merged), (0, 0, 0));
        let after = device.replica.fs().disk();
        assert_eq!(FakeFs::from_image(&before).disk().visible(), after.visible());
    }
}

#[test]
fn a_rename_here_and_an_edit_there_merge_without_a_trace() {
    let (mut a, mut b) = pair();
    a.write("old/note.md", "# Title\n\nSome text that is here.\n");
    a.sync();
    b.sync();
    a.rename("old/note.md", "note.md");
    b.write("old/note.md", "# Title\n\nSome more text that is here.\n");
    a.sync();
    b.sync();
    a.sync();
    in_step(&a, &b);
    assert_eq!(a.files(), ["note.md"]);
    assert_eq!(a.read("note.md").as_deref(), Some("# Title\n\nSome more text that is here.\n"));
}

#[test]
fn a_deletion_goes_over_and_an_edit_beats_it() {
    let (mut a, mut b) = pair();
    a.write("gone.md", "one\n");
    a.write("kept.md", "two\n");
    a.sync();
    b.sync();
    a.remove("gone.md");
    a.remove("kept.md");
    b.write("kept.md", "two and more\n");
    a.sync();
    let report = b.sync();
    assert_eq!(report.conflicts.len(), 1);
    a.sync();
    in_step(&a, &b);
    assert_eq!(b.files(), ["kept.md"]);
}

#[test]
fn two_names_change_places() {
    let (mut a, mut b) = pair();
    a.write("a.md", "This is the first of the two notes.\n");
    a.write("b.md", "And that one would be the other one.\n");
    a.sync();
    b.sync();
    a.rename("a.md", "c.md");
    a.rename("b.md", "a.md");
    a.rename("c.md", "b.md");
    a.sync();
    b.sync();
    in_step(&a, &b);
    assert_eq!(b.read("a.md").as_deref(), Some("And that one would be the other one.\n"));
}

#[test]
fn filled_folders_meet() {
    let (mut a, mut b) = pair();
    for device in [&mut a, &mut b] {
        device.write("same.md", "equal\n");
    }
    a.write("daily.md", "# Day\n\nfrom a\n");
    b.write("daily.md", "# Day\n\nfrom b\n");
    b.write("only-b.md", "b\n");
    a.sync();
    b.sync();
    a.sync();
    in_step(&a, &b);
    let daily = a.read("daily.md").unwrap();
    assert!(daily.contains("from a") && daily.contains("from b"), "{daily}");
    assert_eq!(a.files(), ["daily.md", "only-b.md", "same.md"]);
}

#[test]
fn a_large_blob_goes_over_and_both_sides_replacing_it_keep_one_and_record_the_other() {
    let (mut a, mut b) = pair();
    let bytes = |c: &str| c.repeat(300_000);
    a.write("film.bin", &bytes("x"));
    a.sync();
    b.sync();
    in_step(&a, &b);
    a.write("film.bin", &bytes("y"));
    b.write("film.bin", &bytes("z"));
    a.sync();
    let report = b.sync();
    assert_eq!(report.conflicts.len(), 1);
    a.sync();
    in_step(&a, &b);
}

#[test]
fn an_emptied_folder_stops_the_round_and_comes_back_when_asked() {
    let (mut a, mut b) = pair();
    for i in 0..8 {
        a.write(&format!("n{i}.md"), &format!("note {i}\n"));
    }
    a.sync();
    b.sync();
    for i in 0..8 {
        b.remove(&format!("n{i}.md"));
    }
    let error = b.try_sync(Options::default()).unwrap_err();
    let SyncError::Guard { lost: 8, of: 8, direction: Direction::Outgoing } = error else {
        panic!("{error}");
    };
    assert_eq!(a.sync().pulled, 0);
    b.try_sync(Options { restore_missing: true, ..Options::default() }).unwrap();
    in_step(&a, &b);
    assert_eq!(b.files().len(), 8);
    for i in 0..8 {
        b.remove(&format!("n{i}.md"));
    }
    b.try_sync(Options { allow_mass_delete: true, ..Options::default() }).unwrap();
    let error = a.try_sync(Options::default()).unwrap_err();
    let SyncError::Guard { direction: Direction::Incoming, .. } = error else { panic!("{error}") };
    assert_eq!(a.files().len(), 8);
    a.try_sync(Options { allow_mass_delete: true, ..Options::default() }).unwrap();
    in_step(&a, &b);
    assert!(a.files().is_empty());
}

#[test]
fn what_was_taken_away_elsewhere_stays_here_when_asked_and_comes_back_there() {
    let (mut a, mut b) = pair();
    for i in 0..8 {
        a.write(&format!("n{i}.md"), &format!("note {i}\n"));
    }
    a.write("picture.png", &"p".repeat(300_000));
    a.sync();
    b.sync();
    for i in 0..7 {
        b.remove(&format!("n{i}.md"));
    }
    b.write("n7.md", "");
    b.remove("picture.png");
    b.try_sync(Options { allow_mass_delete: true, ..Options::default() }).unwrap();
    a.write("n0.md", "note 0, edited meanwhile\n");
    a.try_sync(Options::default()).unwrap_err();
    let report = a.try_sync(Options { restore_missing: true, ..Options::default() }).unwrap();
    assert_eq!(report.brought_back.len(), 8, "seven that only went, and the picture");
    b.sync();
    in_step(&a, &b);
    let read = |path: &str| b.read(path).unwrap();
    assert_eq!(read("n0.md"), "note 0, edited meanwhile\n");
    assert_eq!((&*read("n7.md"), &*read("n3.md")), ("note 7\n", "note 3\n"));
    assert_eq!(b.files().len(), 9);
    assert_eq!((a.sync().pulled, b.sync().pushed), (0, 0));
}

#[test]
fn a_note_emptied_here_and_deleted_elsewhere_comes_back_with_its_words_when_asked() {
    let (mut a, mut b) = pair();
    for i in 0..8 {
        a.write(&format!("n{i}.md"), &format!("note {i}\n"));
    }
    a.sync();
    b.sync();
    for i in 0..8 {
        b.remove(&format!("n{i}.md"));
    }
    b.try_sync(Options { allow_mass_delete: true, ..Options::default() }).unwrap();
    a.write("n0.md", "");
    a.try_sync(Options { restore_missing: true, ..Options::default() }).unwrap();
    b.sync();
    in_step(&a, &b);
    assert_eq!((a.files().len(), a.read("n0.md").as_deref()), (8, Some("note 0\n")));
}

#[test]
fn a_few_deletions_made_elsewhere_are_not_undone_by_restoring_what_is_missing_here() {
    let (mut a, mut b) = pair();
    for i in 0..8 {
        a.write(&format!("n{i}.md"), &format!("note {i}\n"));
    }
    a.sync();
    b.sync();
    b.remove("n0.md");
    b.sync();
    a.remove("n1.md");
    let report = a.try_sync(Options { restore_missing: true, ..Options::default() }).unwrap();
    assert_eq!(report.brought_back.len(), 1);
    in_step(&a, &b);
    assert_eq!(a.files().len(), 7);
    assert_eq!(a.read("n1.md").unwrap(), "note 1\n");
}

#[test]
fn two_notes_that_claim_one_name_both_stay() {
    let (mut a, mut b) = pair();
    a.write("x.md", "The words of the first note.\n");
    a.write("y.md", "Entirely different words of the other.\n");
    a.sync();
    b.sync();
    a.rename("x.md", "z.md");
    b.rename("y.md", "z.md");
    a.sync();
    b.sync();
    a.sync();
    b.sync();
    in_step(&a, &b);
    assert_eq!(a.files().len(), 2, "{:?}", a.files());
    assert!(a.files().iter().any(|path| path.contains("(conflict ")), "{:?}", a.files());
}

#[test]
fn a_lost_database_keeps_every_word() {
    let (mut a, b) = pair();
    a.write("a.md", "one\n");
    a.sync();
    let mut again = Device::new(9, &b.link);
    again.write("a.md", "one\n");
    again.sync();
    assert!(VaultPath::new("a.md").is_ok());
    in_step(&a, &again);
    assert!(again.replica.store().unsent().unwrap().is_empty());
}

#[test]
fn one_edit_of_a_large_flat_folder_takes_three_requests_when_the_server_forgot_the_common_root() {
    let link = ServerLink::new(Server::new(VAULT, 1_000_000));
    let mut a = Device::new(1, &link);
    for i in 0..20_000 {
        a.write(&format!("note {i}.md"), &format!("words of note {i}\n"));
    }
    a.sync();
    let backup = link.server().store.clone();
    a.write("note 7.md", "words that the server loses\n");
    a.sync();
    link.server().store = backup;
    a.write("note 8.md", "words it never had\n");
    a.link = link.another();
    let report = a.sync();
    assert_eq!(report.traffic.requests, 3);
    assert_eq!(report.root, report.server_root);
    assert_eq!(a.replica.store().root().unwrap(), link.server().store.root().unwrap());
}

#[test]
fn what_a_restored_server_stored_before_its_answer_was_lost_is_not_made_twice() {
    let (mut a, mut b) = pair();
    a.write("n.md", "one\n");
    a.sync();
    b.sync();
    let backup = a.link.server().store.clone();
    a.write("x.md", "what the server loses\n");
    a.sync();
    a.link.server().store = backup;
    a.write("n.md", "one\n\ntwo\n");
    // It hears that the root is unknown, walks, tells, and does not hear what came of it.
    let mut deaf = Deaf(a.link.another(), 1);
    a.replica.sync(&mut deaf, &mut a.world, Options::default(), &mut |_| {}).unwrap_err();
    b.sync();
    assert_eq!(b.read("n.md").unwrap(), "one\n\ntwo\n");
    b.write("n.md", "one\n\ntwo\n\nthree\n");
    b.sync();
    a.link = a.link.another();
    a.sync();
    b.sync();
    in_step(&a, &b);
    assert_eq!(b.read("x.md").unwrap(), "what the server loses\n");
    let server = a.link.server();
    let of_n = server
        .store
        .all_versions()
        .filter(|(_, _, version)| version.path().is_some_and(|path| path.as_str() == "n.md"));
    assert_eq!(of_n.count(), 3, "each edit is one version");
}

/// The same folder and store after a restart.
fn restarted(device: Device) -> Device {
    let Device { replica, link, world } = device;
    let (fs, store) = replica.into_parts();
    let replica = Replica::new(fs, store, Settings::default(), scan_here).unwrap();
    Device { replica, link, world }
}

#[test]
fn files_of_a_disk_that_is_not_mounted_are_not_deleted_and_come_back_when_asked_for() {
    let (mut one, mut two) = pair();
    one.replica.fs().disk().user_mount("m", 7).unwrap();
    one.write("m/a.md", "on the other disk\n");
    one.write("b.md", "b\n");
    one.sync();
    two.sync();
    {
        let mut disk = one.replica.fs().disk();
        disk.user_remove_all("m").unwrap();
        disk.user_make_dir("m").unwrap();
        disk.user_write("m/below.md", b"hidden while it was mounted\n").unwrap();
    }
    let mut one = restarted(one);
    for _ in 0..2 {
        let report = one.sync();
        assert!(report.notices.iter().any(|notice| format!("{notice:?}").contains("MountGone")));
    }
    two.sync();
    assert_eq!(two.read("m/a.md").as_deref(), Some("on the other disk\n"));
    assert_eq!(two.read("m/below.md"), None, "what the mount hid is not of the vault");
    one.try_sync(Options { restore_missing: true, ..Options::default() }).unwrap();
    assert_eq!(one.read("m/a.md").as_deref(), Some("on the other disk\n"));
    let mut one = restarted(one);
    one.replica.fs().disk().user_remove_all("m/a.md").unwrap();
    assert!(one.sync().notices.is_empty(), "the mount is not expected any more");
    two.sync();
    assert_eq!(two.read("m/a.md"), None);
}

#[test]
fn files_below_a_new_mount_are_not_deleted() {
    let (mut one, mut two) = pair();
    one.write("m/a.md", "a\n");
    one.write("b.md", "b\n");
    one.sync();
    two.sync();
    {
        let mut disk = one.replica.fs().disk();
        disk.user_remove_all("m").unwrap();
        disk.user_mount("m", 7).unwrap();
        disk.user_write("m/other.md", b"another disk's\n").unwrap();
    }
    let mut one = restarted(one);
    let report = one.sync();
    assert!(report.notices.iter().any(|notice| format!("{notice:?}").contains("Covered")));
    two.sync();
    assert_eq!(two.read("m/a.md").as_deref(), Some("a\n"));
    assert_eq!(two.read("m/other.md"), None);
    // The disk is meant: what is missing on it comes back, and all of it is of the vault.
    one.try_sync(Options { restore_missing: true, ..Options::default() }).unwrap();
    one.sync();
    two.sync();
    assert_eq!(one.read("m/a.md").as_deref(), Some("a\n"));
    assert_eq!(two.read("m/other.md").as_deref(), Some("another disk's\n"));
}

#[test]
fn large_files_with_the_same_bytes_all_arrive_in_one_round() {
    let (mut a, mut b) = pair();
    a.sync();
    b.sync();
    for name in ["one.png", "two.png", "deep/three.png"] {
        a.write(name, &"p".repeat(300_000));
    }
    a.sync();
    b.sync();
    in_step(&a, &b);
    assert_eq!(b.files().len(), 3);
}

#[test]
fn a_server_that_once_believed_a_clock_a_year_ahead_takes_edits_under_the_right_one() {
    const YEAR_MS: u64 = 365 * 24 * 3_600_000;
    let (mut a, mut b) = pair();
    for name in ["one.md", "two.md"] {
        a.write(name, "first words\n");
    }
    a.sync();
    b.sync();
    // One machine with a server and a device on it, and a clock a year ahead.
    a.world.now_ms += YEAR_MS;
    a.link.server().now_ms += YEAR_MS;
    a.write("one.md", "first words\nfrom the future\n");
    a.sync();
    a.world.now_ms -= YEAR_MS;
    a.link.server().now_ms -= YEAR_MS;
    b.sync();
    for (device, line) in [(&mut a, "a"), (&mut b, "b")] {
        for name in ["one.md", "two.md", "new.md"] {
            let old = device.read(name).unwrap_or_default();
            device.write(name, &format!("{old}\nparagraph by {line}\n"));
        }
        device.sync();
    }
    a.sync();
    in_step(&a, &b);
    let one = a.read("one.md").unwrap();
    for words in ["from the future", "by a", "by b"] {
        assert!(one.contains(words), "{one}");
    }
    assert_eq!((a.sync().pushed, b.sync().pushed), (0, 0));
}

#[test]
fn devices_with_the_right_time_sync_with_a_server_that_came_up_ten_days_slow() {
    const SLOW_MS: u64 = 10 * 24 * 3_600_000;
    let (mut a, mut b) = pair();
    for device in [&mut a, &mut b] {
        device.world.now_ms += 2 * SLOW_MS;
    }
    a.link.server().now_ms += 2 * SLOW_MS;
    a.write("one.md", "first words\n");
    a.sync();
    b.sync();
    a.link.server().now_ms -= SLOW_MS;
    for (device, line) in [(&mut a, "a"), (&mut b, "b")] {
        let old = device.read("one.md").unwrap();
        device.write("one.md", &format!("{old}\nparagraph by {line}\n"));
        device.write("new.md", &format!("by {line}\n"));
        device.sync();
    }
    a.sync();
    in_step(&a, &b);
    assert!(a.read("one.md").unwrap().contains("by b"));
}

#[test]
fn what_a_server_stored_before_its_clock_fell_back_is_not_said_twice() {
    const YEAR_MS: u64 = 365 * 24 * 3_600_000;
    let (mut a, mut b) = pair();
    a.world.now_ms += YEAR_MS;
    a.link.server().now_ms += YEAR_MS;
    a.write("one.md", "first\n");
    a.write("two.md", "first\n");
    a.sync();
    b.sync();
    a.write("one.md", "first\nwritten and thought better of\n");
    a.write("new.md", "new\n");
    let mut deaf = Deaf(a.link.another(), 0);
    a.replica.sync(&mut deaf, &mut a.world, Options::default(), &mut |_| {}).unwrap_err();
    a.link.server().now_ms -= YEAR_MS;
    a.write("one.md", "first\n");
    a.write("two.md", "first\nsecond\n");
    a.write("newer.md", "newer\n");
    let report = a.sync();
    assert_eq!((report.merged, report.conflicts.len()), (0, 0));
    b.sync();
    in_step(&a, &b);
    assert_eq!(a.read("one.md").as_deref(), Some("first\n"));
}

#[test]
fn a_name_that_is_too_long_as_a_disk_decomposes_it_goes_over_and_is_edited() {
    let (mut a, _) = pair();
    let mut b = Device::on(2, &a.link, Variant::HfsPlus);
    let name = format!("{}.md", "\u{439}".repeat(100));
    b.write(&name, "one\n");
    b.sync();
    a.sync();
    assert_eq!(a.read(&name).as_deref(), Some("one\n"));
    b.write(&name, "one\ntwo\n");
    b.sync();
    a.write(&name, "zero\none\n");
    a.sync();
    b.sync();
    a.sync();
    assert_eq!(a.read(&name).as_deref(), Some("zero\none\ntwo\n"));
    assert_eq!(b.read(&name), a.read(&name));
}

#[test]
fn a_displaced_file_held_open_is_watched_while_the_clock_is_set_back() {
    const DAY_NS: i64 = 24 * 3_600_000_000_000;
    let (mut a, mut b) = pair();
    a.write("a.md", "one\n");
    a.sync();
    b.sync();
    let editor = a.replica.fs().disk().user_open("a.md").unwrap();
    b.write("a.md", "one\n\ntwo\n");
    b.sync();
    a.sync();
    a.replica.fs().disk().now_ns -= DAY_NS;
    for _ in 0..4 {
        a.sync();
    }
    a.replica.fs().disk().user_append(editor, b"late\n").unwrap();
    a.sync();
    b.sync();
    in_step(&a, &b);
    let text = a.read("a.md").unwrap();
    assert!(text.contains("two\n") && text.contains("late\n"), "{text}");
}
