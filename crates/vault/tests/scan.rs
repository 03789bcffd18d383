//! The scan against disks and people that misbehave: what is there is found, what cannot be seen
//! is unknown, and nothing but a removal is a removal.

#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected has failed")]

use std::collections::HashMap;
use std::num::NonZero;

use crucible_core::hash::ContentHash;
use crucible_core::limits::NOTE_BYTES_MAX;
use crucible_core::vault_path::{PathError, VaultPath};
use crucible_core::version::Kind;
use crucible_testkit::fake_fs::{FakeFs, Fault, Op, Variant};
use crucible_vault::foreign::Tool;
use crucible_vault::fs::{FileSystem, Stat};
use crucible_vault::scan::{
    Absence, Cached, Request, Root, Scan, SkipReason, UnknownReason, escaped, scan, scan_parallel,
};
use crucible_vault::write::{
    Expected, Placed, Source, Touched, UniqueName, place, settle, stage, sync_staged,
};
use std::io::ErrorKind;

fn path(text: &str) -> VaultPath {
    VaultPath::new(text).unwrap()
}

fn vault(variant: Variant) -> FakeFs {
    let fs = FakeFs::new(variant);
    fs.disk().user_make_dir(".crucible").unwrap();
    fs
}

fn with(files: &[(&str, &str)]) -> FakeFs {
    let fs = vault(Variant::Linux);
    for (at, text) in files {
        fs.disk().user_write(at, text.as_bytes()).unwrap();
    }
    fs
}

/// A cache as sync.db keeps it, and the mounts of the last scan.
#[derive(Default)]
struct Cache {
    files: HashMap<String, Cached>,
    mounts: Vec<String>,
}

impl Cache {
    fn scan(&mut self, fs: &FakeFs) -> Scan {
        let now_ns = fs.clock_ns().unwrap();
        let request = Request {
            cached: |at: &str| self.files.get(at).copied(),
            now_ns,
            known_mounts: &self.mounts,
            covered: &[],
            root: Root::Vault,
        };
        let found = scan(fs, &request);
        for one in &found.files {
            if one.was_hashed {
                let (stat, hash, kind) = (one.stat, one.hash, one.kind);
                let cached = Cached { stat, hash, kind, scanned_at_ns: found.began_ns };
                self.files.insert(one.path.as_str().to_owned(), cached);
            }
        }
        self.mounts.clone_from(&found.mounts);
        found
    }
}

fn scan_once(fs: &FakeFs) -> Scan {
    Cache::default().scan(fs)
}

fn paths(found: &Scan) -> Vec<&str> {
    found.files.iter().map(|one| one.path.as_str()).collect()
}

fn later(fs: &FakeFs) {
    fs.disk().now_ns += 10_000_000_000;
}

#[test]
fn every_file_is_found_as_what_it_is() {
    let fs = with(&[("b.md", "# b\n"), ("a/x.md", "x"), ("a.md", ""), ("pic.png", "png")]);
    fs.disk().user_write("bad.md", b"\xff\xfe").unwrap();
    let large = vec![b'x'; NOTE_BYTES_MAX as usize + 1];
    fs.disk().user_write("large.md", &large).unwrap();
    let found = scan_once(&fs);
    assert_eq!(paths(&found), ["a.md", "a/x.md", "b.md", "bad.md", "large.md", "pic.png"]);
    let of = |at: &str| found.find(&path(at)).unwrap();
    assert_eq!((of("b.md").kind, of("b.md").hash), (Kind::Note, ContentHash::of_text("# b\n")));
    assert_eq!(
        (of("bad.md").kind, of("bad.md").hash),
        (Kind::Asset, ContentHash::of_blob(b"\xff\xfe"))
    );
    assert_eq!(
        (of("large.md").kind, of("large.md").hash),
        (Kind::Asset, ContentHash::of_blob(&large))
    );
    assert_eq!(of("pic.png").hash, ContentHash::of_blob(b"png"));
    assert!(found.is_complete());
    assert!(found.files.iter().all(|one| one.was_hashed));
}

#[test]
fn an_unchanged_file_is_not_opened_again() {
    let fs = with(&[("a.md", "a"), ("d/b.md", "b")]);
    let mut cache = Cache::default();
    later(&fs);
    let first = cache.scan(&fs);
    later(&fs);
    fs.disk().set_hook(|_, call| {
        assert!(!matches!(call.op, Op::Read | Op::Open | Op::Stat) || call.path.is_empty());
    });
    let second = cache.scan(&fs);
    assert_eq!(paths(&first), paths(&second));
    assert!(second.files.iter().all(|one| !one.was_hashed));
    fs.disk().clear_hook();
    fs.disk().user_write("a.md", b"A").unwrap();
    let third = cache.scan(&fs);
    let hashed: Vec<_> = third.files.iter().filter(|one| one.was_hashed).collect();
    assert_eq!(hashed.len(), 1);
    assert_eq!(hashed[0].hash, ContentHash::of_text("A"));
}

#[test]
fn a_change_within_the_grain_of_the_clock_is_seen() {
    for variant in [Variant::Linux, Variant::HfsPlus, Variant::Fat] {
        let fs = vault(variant);
        fs.disk().tick_ns = 0;
        fs.disk().user_write("a.md", b"one").unwrap();
        let mut cache = Cache::default();
        cache.scan(&fs);
        // Same size, same inode, same times: only its bytes tell.
        fs.disk().user_write("a.md", b"two").unwrap();
        let found = cache.scan(&fs);
        assert_eq!(found.files[0].hash, ContentHash::of_text("two"), "{variant:?}");
        later(&fs);
        assert!(cache.scan(&fs).files[0].was_hashed, "{variant:?}: once more after the grain");
        assert!(!cache.scan(&fs).files[0].was_hashed, "{variant:?}: and then it is settled");
    }
}

#[test]
fn a_file_that_changes_while_it_is_read_is_read_again_and_then_unknown() {
    let fs = with(&[("a.md", "a"), ("b.md", "b")]);
    let mut left = 2;
    fs.disk().set_hook(move |disk, call| {
        if call.op == Op::Read && call.path == "a.md" && left > 0 {
            left -= 1;
            disk.now_ns += 1_000_000_000;
            disk.user_write("a.md", format!("half {left}").as_bytes()).unwrap();
        }
    });
    let found = scan_once(&fs);
    assert_eq!(found.find(&path("a.md")).unwrap().hash, ContentHash::of_text("half 0"));

    let mut count = 0;
    fs.disk().set_hook(move |disk, call| {
        if call.op == Op::Stat && call.path == "a.md" {
            count += 1;
            disk.now_ns += 1_000_000_000;
            disk.user_write("a.md", format!("half {count}").as_bytes()).unwrap();
        }
    });
    let found = scan_once(&fs);
    assert_eq!(paths(&found), ["b.md"]);
    assert_eq!(found.unknown[0].reason, UnknownReason::ChangedWhileRead);
    assert_eq!(found.absence(&path("a.md")), Absence::Unknown);
}

#[test]
fn an_asset_that_grows_while_it_is_streamed_is_never_given_a_torn_hash() {
    let fs = vault(Variant::Linux);
    let half = vec![b'x'; 300 << 10];
    let handle = fs.disk().user_open("v.bin").unwrap();
    fs.disk().user_append(handle, &half).unwrap();
    let mut left = 1;
    fs.disk().set_hook(move |disk, call| {
        if call.op == Op::ReadOn && left > 0 {
            left -= 1;
            disk.user_append(handle, b"more").unwrap();
        }
    });
    let found = scan_once(&fs);
    let whole = [&half[..], b"more"].concat();
    assert_eq!(found.files[0].hash, ContentHash::of_blob(&whole));
    assert_eq!(found.files[0].stat.size, whole.len() as u64);
}

#[test]
fn what_cannot_be_read_or_listed_is_unknown_and_never_gone() {
    let fs = with(&[("a.md", "a"), ("dir/b.md", "b"), ("dir/sub/c.md", "c"), ("d.md", "d")]);
    fs.disk().user_set_mode("a.md", 0).unwrap();
    fs.disk().user_set_mode("dir", 0).unwrap();
    let found = scan_once(&fs);
    assert_eq!(paths(&found), ["d.md"]);
    let denied = UnknownReason::Unreadable(ErrorKind::PermissionDenied);
    let unknown: Vec<_> = found.unknown.iter().map(|one| (one.path.as_str(), one.reason)).collect();
    assert_eq!(unknown, [("a.md", denied), ("dir", denied)]);
    for at in ["a.md", "dir/b.md", "dir/sub/c.md", "dir/never.md"] {
        assert_eq!(found.absence(&path(at)), Absence::Unknown, "{at}");
    }
    assert_eq!(found.absence(&path("d.md")), Absence::Present);
    assert_eq!(found.absence(&path("e.md")), Absence::Gone);
    assert_eq!(found.absence(&path("dirt.md")), Absence::Gone);
}

#[test]
fn an_error_at_any_call_of_a_scan_never_makes_a_file_gone() {
    let files = [(".cruignore", "*.log\n"), ("a.md", "a"), ("d/b.md", "b"), ("d/e/c.bin", "c")];
    let calls = {
        let fs = with(&files);
        scan_once(&fs);
        fs.disk().calls()
    };
    for number in 2..=calls {
        for kind in [ErrorKind::PermissionDenied, ErrorKind::Other, ErrorKind::TimedOut] {
            let fs = with(&files);
            fs.disk().fault_at(number, Fault::Error(kind));
            let found = scan_once(&fs);
            for (at, _) in files {
                assert_ne!(found.absence(&path(at)), Absence::Gone, "{at}, {kind} at {number}");
            }
        }
    }
}

#[test]
fn links_pipes_and_names_nobody_can_spell_are_reported_and_not_followed() {
    let fs = with(&[("a.md", "a")]);
    let mut disk = fs.disk();
    disk.user_symlink("out", "/etc").unwrap();
    disk.user_symlink("link.md", "a.md").unwrap();
    disk.user_special("pipe").unwrap();
    disk.user_raw_name("", b"\xff.md", b"words").unwrap();
    disk.user_raw_name("", b"line\nbreak.md", b"words").unwrap();
    disk.user_write("GIT~1/config", b"x").unwrap();
    drop(disk);
    let found = scan_once(&fs);
    assert_eq!(paths(&found), ["a.md"]);
    let skipped: Vec<_> = found.skipped.iter().map(|one| (one.path.as_str(), one.reason)).collect();
    assert_eq!(
        skipped,
        [
            ("GIT~1", SkipReason::Path(PathError::Reserved)),
            ("\\xff.md", SkipReason::NotUtf8),
            ("line\\x0abreak.md", SkipReason::Path(PathError::Control)),
            ("link.md", SkipReason::Symlink),
            ("out", SkipReason::Symlink),
            ("pipe", SkipReason::Special),
        ]
    );
    // A note that somebody replaced by a link is not a removed note.
    assert_eq!(found.absence(&path("link.md")), Absence::Unknown);
    assert_eq!(found.absence(&path("out/passwd")), Absence::Unknown);
}

#[test]
fn ignored_files_are_left_out_and_are_no_removals() {
    let fs = with(&[
        ("a.md", "a"),
        ("b.log", "b"),
        ("keep/c.log", "c"),
        ("keep/.cruignore", "!c.log\nd.md\n"),
        ("keep/d.md", "d"),
        (".cruignore", "*.log\nprivate/\n"),
        ("private/e.md", "e"),
        (".git/config", "git"),
        (".obsidian/workspace.json", "{}"),
        (".obsidian/app.json", "{}"),
    ]);
    let found = scan_once(&fs);
    let there = [".cruignore", ".obsidian/app.json", "a.md", "keep/.cruignore", "keep/c.log"];
    assert_eq!(paths(&found), there);
    let ignored = [".git", ".obsidian/workspace.json", "b.log", "keep/d.md", "private"];
    assert_eq!(found.ignored, ignored);
    for at in ["b.log", "not/there.log", "private/e.md", "keep/d.md", "private/x/y.md"] {
        assert_eq!(found.absence(&path(at)), Absence::Ignored, "{at}");
    }
    assert_eq!(found.absence(&path("keep/gone.md")), Absence::Gone);
}

#[test]
fn where_the_rules_cannot_be_read_nothing_is_known() {
    for spoil in 0..3 {
        let fs = with(&[("a.md", "a"), ("in/b.md", "b"), ("in/.cruignore", "secret.md\n")]);
        let mut disk = fs.disk();
        match spoil {
            0 => disk.user_set_mode("in/.cruignore", 0).unwrap(),
            1 => disk.user_write("in/.cruignore", &vec![b'#'; (1 << 20) + 1]).unwrap(),
            _ => {
                disk.user_remove("in/.cruignore").unwrap();
                disk.user_symlink("in/.cruignore", "../a.md").unwrap();
            }
        }
        drop(disk);
        let found = scan_once(&fs);
        assert_eq!(paths(&found), ["a.md"], "{spoil}");
        assert_eq!(found.unknown[0].reason, UnknownReason::RulesUnreadable);
        assert_eq!(found.absence(&path("in/b.md")), Absence::Unknown);
    }
}

#[test]
fn a_folder_without_its_state_is_not_taken_for_an_emptied_vault() {
    let fs = with(&[("a.md", "a")]);
    fs.disk().user_remove_all(".crucible").unwrap();
    fs.disk().user_remove_all("a.md").unwrap();
    let found = scan_once(&fs);
    assert_eq!(found.unknown[0].reason, UnknownReason::NotTheVault);
    assert_eq!(found.absence(&path("a.md")), Absence::Unknown);
    let request = Request {
        cached: |_: &str| None,
        now_ns: 0,
        known_mounts: &[],
        covered: &[],
        root: Root::PlainFolder,
    };
    assert!(scan(&fs, &request).is_complete());
}

#[test]
fn a_mount_that_vanished_makes_its_files_unknown() {
    for remove_folder in [false, true] {
        let fs = with(&[("a.md", "a"), ("m/b.md", "b")]);
        fs.disk().user_mount("m", 7).unwrap();
        let mut cache = Cache::default();
        let found = cache.scan(&fs);
        assert_eq!(found.mounts, ["m"]);
        assert_eq!(found.absence(&path("m/b.md")), Absence::Present);
        let mut disk = fs.disk();
        disk.user_remove_all("m/b.md").unwrap();
        disk.user_mount("m", 1).unwrap();
        disk.user_write("m/hidden-below.md", b"not of this vault").unwrap();
        if remove_folder {
            disk.user_remove_all("m").unwrap();
        }
        drop(disk);
        let found = cache.scan(&fs);
        assert_eq!(found.unknown[0].reason, UnknownReason::MountGone);
        assert_eq!(paths(&found), ["a.md"], "what the mount hid is not the vault's");
        assert_eq!(found.absence(&path("m/b.md")), Absence::Unknown);
        assert_eq!(found.absence(&path("b.md")), Absence::Gone);
    }
}

#[test]
fn what_another_disk_covers_is_unknown_and_not_of_the_vault() {
    let fs = with(&[("a.md", "a"), ("m/b.md", "b")]);
    fs.disk().user_mount("m", 7).unwrap();
    let covered = ["m".to_owned()];
    let request = Request {
        cached: |_: &str| None,
        now_ns: 1,
        known_mounts: &[],
        covered: &covered,
        root: Root::Vault,
    };
    let found = scan(&fs, &request);
    assert_eq!(paths(&found), ["a.md"]);
    assert_eq!(found.unknown[0].reason, UnknownReason::Covered);
    assert_eq!(found.absence(&path("m/c.md")), Absence::Unknown);
    assert!(found.mounts.is_empty());
}

#[test]
fn names_are_told_so_that_their_bytes_can_be_had_again() {
    for (name, told) in [
        (&b"plain \xc3\xa9.md"[..], "plain \u{e9}.md"),
        (b"back\\slash.md", "back\\slash.md"),
        (b"a\xffb.md", "a\\xffb.md"),
        (b"a\\\xff.md", "a\\\\\\xff.md"),
        (b"two\nlines\x1b[2J.md", "two\\x0alines\\x1b[2J.md"),
        (b"\xc2\x85.md", "\\xc2\\x85.md"),
    ] {
        assert_eq!(escaped(name), told);
    }
}

#[test]
fn a_file_spelled_otherwise_is_there_where_the_disk_folds_names() {
    for variant in [Variant::MacOs, Variant::HfsPlus, Variant::Windows] {
        let fs = vault(variant);
        fs.disk().user_write("Notes/\u{c9}t\u{e9}.md", b"x").unwrap();
        let found = scan_once(&fs);
        assert_eq!(found.absence(&path("notes/\u{e9}t\u{c9}.md")), Absence::Present, "{variant:?}");
        assert_eq!(found.absence(&path("notes/other.md")), Absence::Gone);
    }
    let found = scan_once(&with(&[("Notes/a.md", "x")]));
    assert_eq!(found.absence(&path("notes/a.md")), Absence::Gone);
}

#[test]
fn conflict_copies_of_other_tools_are_synced_and_pointed_out() {
    let copy = "a.sync-conflict-20261123-101010-ABCDEFG.md";
    let found = scan_once(&with(&[("a.md", "a"), (copy, "b")]));
    assert_eq!(found.files.len(), 2);
    assert_eq!(found.foreign_copies[0].path.as_str(), copy);
    assert_eq!(found.foreign_copies[0].tool, Tool::Syncthing);
}

#[test]
fn our_own_files_beside_others_are_reported_and_never_synced() {
    let fs = with(&[("d/a.md", "a"), ("d/.crucible-undo-u1", "old"), ("d/.crucible-tmp-u2", "x")]);
    let found = scan_once(&fs);
    assert_eq!(paths(&found), ["d/a.md"]);
    assert_eq!(
        (found.leftovers[0].at.as_str(), found.leftovers[0].name.as_str()),
        ("d/.crucible-undo-u1", "u1")
    );
    assert_eq!(found.stale_tmp, ["d/.crucible-tmp-u2"]);
}

#[test]
fn several_threads_find_what_one_finds() {
    let fs = vault(Variant::Linux);
    for n in 0..300 {
        let at = format!("d{}/e{}/{n}.md", n % 7, n % 3);
        fs.disk().user_write(&at, n.to_string().as_bytes()).unwrap();
    }
    fs.disk().user_set_mode("d3", 0).unwrap();
    fs.disk().user_write("d1/.cruignore", b"1*.md\n").unwrap();
    let request = Request {
        cached: |_: &str| None,
        now_ns: 1,
        known_mounts: &[],
        covered: &[],
        root: Root::Vault,
    };
    let one = scan(&fs, &request);
    let many = scan_parallel(&fs, &request, NonZero::new(4).unwrap());
    assert_eq!(one.files, many.files);
    assert_eq!((one.unknown, one.ignored), (many.unknown, many.ignored));
}

/// Places `text` as `a.md`, which gets its name this long after its bytes were written.
fn place_after(fs: &FakeFs, text: &str, wait_ns: i64) -> (Stat, bool) {
    let a = path("a.md");
    let unique = UniqueName::new("one").unwrap();
    let staged = stage(fs, &a, Source::Bytes(text.as_bytes()), &unique).unwrap();
    let mut staged = [staged];
    sync_staged(fs, &mut staged).unwrap();
    fs.disk().now_ns += wait_ns;
    let [staged] = staged;
    let mut touched = Touched::new();
    let placed = place(fs, &a, &Expected::Nothing, staged, &mut touched).unwrap();
    settle(fs, &mut touched).unwrap();
    let Placed::Done { stat: Some(stat), tells_edits, .. } = placed else { panic!("{placed:?}") };
    (stat, tells_edits)
}

#[test]
fn a_file_placed_well_after_it_was_written_tells_every_edit() {
    let fs = vault(Variant::Linux);
    fs.disk().tick_ns = 0;
    let grain_ns = fs.facts().time_grain_ns;
    let (stat, tells_edits) = place_after(&fs, "one", 4 * grain_ns);
    assert!(tells_edits);
    let mut cache = Cache::default();
    let scanned_at_ns = stat.ctime_ns + grain_ns + 1;
    let hash = ContentHash::of_text("one");
    let cached = Cached { stat, hash, kind: Kind::Note, scanned_at_ns };
    cache.files.insert("a.md".to_owned(), cached);
    assert!(!cache.scan(&fs).files[0].was_hashed, "its bytes are known");
    // In the very tick in which it got its name, of the same size.
    fs.disk().user_write("a.md", b"two").unwrap();
    assert_eq!(cache.scan(&fs).files[0].hash, ContentHash::of_text("two"));
    // Later, with its time set back to what it was.
    cache.files.insert("a.md".to_owned(), cached);
    fs.disk().now_ns += 2 * grain_ns;
    fs.disk().user_write("a.md", b"six").unwrap();
    fs.disk().user_set_mtime("a.md", stat.mtime_ns).unwrap();
    assert_eq!(cache.scan(&fs).files[0].hash, ContentHash::of_text("six"));
}

#[test]
fn a_clock_of_whole_seconds_tells_nothing_of_a_file_just_placed() {
    for variant in [Variant::HfsPlus, Variant::Fat] {
        let fs = vault(variant);
        fs.disk().tick_ns = 0;
        let grain_ns = fs.facts().time_grain_ns;
        assert!(!place_after(&fs, "one", 4 * grain_ns).1, "{variant:?}");
    }
}

#[test]
fn a_file_placed_as_it_was_written_is_looked_at_once_more() {
    let fs = vault(Variant::Linux);
    fs.disk().tick_ns = 0;
    assert!(!place_after(&fs, "one", 0).1);
}
