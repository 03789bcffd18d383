//! The kernel's file system: the same laws as the fake one, on real files in a folder of ours.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected has failed")]

use std::fs;
use std::io::{ErrorKind, Read};
use std::num::NonZero;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use crucible_core::vault_path::VaultPath;
use crucible_vault::content::{Naming, identify};
use crucible_vault::fs::{FileKind, FileSystem, UNDO_DIR};
use crucible_vault::lock::{LockError, VaultLock};
use crucible_vault::real_fs::{OpenError, RealFs};
use crucible_vault::scan::{Absence, Request, Root, Scan, UnknownReason, scan, scan_parallel};
use crucible_vault::trash::TrashPlace;
use crucible_vault::watch::{Debounce, Hint, Watch};
use crucible_vault::write::{
    Displaced, Expected, Known, Placed, Removed, Renamed, Retired, Source, Touched, UniqueName,
    clean_tmp, leftovers, remove, rename, replace, retire, settle,
};
use tempfile::TempDir;

fn path(text: &str) -> VaultPath {
    VaultPath::new(text).unwrap()
}

fn name(text: &str) -> UniqueName {
    UniqueName::new(text).unwrap()
}

fn known(text: &str) -> Known {
    Known { hash: identify(text.as_bytes(), Naming::Markdown).hash, stat: None }
}

fn vault() -> (TempDir, RealFs) {
    let dir = TempDir::new().unwrap();
    let fs = RealFs::open(dir.path(), "probe").unwrap();
    (dir, fs)
}

fn scan_all(fs: &RealFs) -> Scan {
    let now_ns = fs.clock_ns().unwrap();
    scan(
        fs,
        &Request {
            cached: |_: &str| None,
            now_ns,
            known_mounts: &[],
            covered: &[],
            root: Root::Vault,
        },
    )
}

fn put(root: &Path, at: &str, text: &str) {
    let at = root.join(at);
    fs::create_dir_all(at.parent().unwrap()).unwrap();
    fs::write(at, text).unwrap();
}

#[test]
fn opening_a_vault_leaves_only_its_state_folder() {
    let (dir, fs) = vault();
    let names: Vec<_> =
        fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, [".crucible"]);
    assert_eq!(fs.list(".crucible/tmp").unwrap().len(), 0);
    let missing = RealFs::open(&dir.path().join("no"), "probe").unwrap_err();
    assert!(matches!(missing, OpenError::Root { .. }), "{missing:?}");
}

#[test]
fn a_file_is_replaced_and_what_it_held_is_kept_until_retired() {
    let (dir, fs) = vault();
    put(dir.path(), "d/a.md", "old");
    fs::set_permissions(dir.path().join("d/a.md"), fs::Permissions::from_mode(0o640)).unwrap();
    let a = path("d/a.md");
    let expected = Expected::File(known("old"));
    let placed = replace(&fs, &a, &expected, Source::Bytes(b"new"), &name("u1")).unwrap();
    let Placed::Done { stat: Some(stat), displaced: Displaced::Clean(kept), .. } = placed else {
        panic!("{placed:?}");
    };
    assert_eq!(fs::read(dir.path().join("d/a.md")).unwrap(), b"new");
    assert_eq!((stat.mode, stat.size), (0o640, 3));
    assert_eq!(fs::read(dir.path().join(&kept.at)).unwrap(), b"old");
    assert_eq!(leftovers(&fs).unwrap().len(), 1);
    // An editor that had the old file open writes to it once more.
    fs::write(dir.path().join(&kept.at), "old and more").unwrap();
    let retired = retire(&fs, &kept.at, kept.identity.hash, Naming::Markdown).unwrap();
    let Retired::Changed(identity) = retired else { panic!("{retired:?}") };
    assert_eq!(identity.hash, known("old and more").hash);
    let retired = retire(&fs, &kept.at, identity.hash, Naming::Markdown).unwrap();
    assert_eq!(retired, Retired::Done);
    assert!(leftovers(&fs).unwrap().is_empty());
    assert_eq!(clean_tmp(&fs, |_| false).unwrap(), 0);
}

#[test]
fn files_are_made_renamed_and_removed_to_the_trash() {
    let (dir, fs) = vault();
    let (a, b) = (path("x/y/a.md"), path("z/b.md"));
    let mut touched = Touched::new();
    let placed = replace(&fs, &a, &Expected::Nothing, Source::Bytes(b"one"), &name("u1")).unwrap();
    assert!(matches!(placed, Placed::Done { .. }), "{placed:?}");
    let again = replace(&fs, &a, &Expected::Nothing, Source::Bytes(b"two"), &name("u2")).unwrap();
    assert!(matches!(again, Placed::Occupied), "{again:?}");
    let inode = fs::metadata(dir.path().join("x/y/a.md")).unwrap().ino();
    let renamed = rename(&fs, &a, &b, &known("one"), &name("u3"), &mut touched).unwrap();
    assert!(matches!(renamed, Renamed::Done { edited: None, kept: None, .. }), "{renamed:?}");
    assert_eq!(fs::metadata(dir.path().join("z/b.md")).unwrap().ino(), inode);
    crucible_vault::write::prune(&fs, "x/y", |_| true, &mut touched).unwrap();
    assert!(!dir.path().join("x").exists());
    let trash = TrashPlace::new(1_795_442_000_000, &name("batch"));
    let removed = remove(&fs, &b, &known("one"), &trash, &name("u4"), &mut touched).unwrap();
    let Removed::Done { at, kept: None } = removed else { panic!("{removed:?}") };
    settle(&fs, &mut touched).unwrap();
    assert_eq!(fs::read(dir.path().join(at)).unwrap(), b"one");
    assert!(!dir.path().join("z/b.md").exists());
    assert!(leftovers(&fs).unwrap().is_empty());
}

#[test]
fn nothing_is_read_or_written_through_a_symlink() {
    let (dir, fs) = vault();
    let outside = TempDir::new().unwrap();
    put(outside.path(), "secret.md", "secret");
    put(dir.path(), "in/a.md", "inside");
    symlink(outside.path(), dir.path().join("out")).unwrap();
    symlink("in", dir.path().join("alias")).unwrap();
    symlink(outside.path().join("secret.md"), dir.path().join("link.md")).unwrap();
    for at in ["out/secret.md", "alias/a.md", "link.md"] {
        assert!(fs.read(at, 100).is_err(), "{at}");
        assert!(fs.open(at).is_err(), "{at}");
        assert!(fs.append(at, b"x").is_err(), "{at}");
        assert!(fs.set_mode(at, 0).is_err(), "{at}");
    }
    for dir in ["out", "alias"] {
        assert!(fs.list(dir).is_err(), "{dir}");
        let at = format!("{dir}/new.md");
        assert!(fs.create(&at, b"x").is_err(), "{at}");
        assert!(fs.make_dir(&at).is_err(), "{at}");
        assert!(fs.rename_new("in/a.md", &at).is_err(), "{at}");
        let new = path(&at);
        let source = Source::Bytes(b"x");
        assert!(replace(&fs, &new, &Expected::Nothing, source, &name("u1")).is_err());
    }
    for at in ["../x", "/etc/passwd", "in/../../x", "", "in//a.md", "./in/a.md"] {
        assert!(fs.read(at, 100).is_err(), "{at}");
        assert!(fs.create(at, b"x").is_err(), "{at}");
    }
    assert_eq!(fs.stat("link.md").unwrap().kind, FileKind::Symlink);
    let replaced =
        replace(&fs, &path("link.md"), &Expected::Nothing, Source::Bytes(b"x"), &name("u2"));
    assert!(matches!(replaced, Ok(Placed::Occupied)), "{replaced:?}");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    assert_eq!(fs::read(outside.path().join("secret.md")).unwrap(), b"secret");
    let found = scan_all(&fs);
    assert_eq!((found.files.len(), found.skipped.len()), (1, 3));
}

#[test]
fn the_calls_keep_their_laws() {
    let (dir, fs) = vault();
    assert!(fs.facts().exchanges && !fs.facts().folds_case && !fs.facts().windows_names);
    put(dir.path(), "a", "1");
    put(dir.path(), "b", "2");
    let kind = |result: std::io::Result<()>| result.unwrap_err().kind();
    assert_eq!(kind(fs.rename_new("a", "b")), ErrorKind::AlreadyExists);
    assert_eq!(kind(fs.rename_new("c", "d")), ErrorKind::NotFound);
    assert_eq!(kind(fs.exchange("a", "c")), ErrorKind::NotFound);
    assert_eq!(kind(fs.create("a", b"")), ErrorKind::AlreadyExists);
    assert_eq!(kind(fs.read("a", 0).map(drop)), ErrorKind::FileTooLarge);
    fs.exchange("a", "b").unwrap();
    assert_eq!(fs.read("a", 1).unwrap(), b"2");
    fs.append("a", b"3").unwrap();
    let mut text = String::new();
    fs.open("a").unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "23");
    fs.make_dir("d").unwrap();
    fs.rename_new("a", "d/a").unwrap();
    assert_eq!(kind(fs.remove_dir("d")), ErrorKind::DirectoryNotEmpty);
    assert_eq!(kind(fs.list("b").map(drop)), ErrorKind::NotADirectory);
    fs.sync_file("d/a").unwrap();
    fs.sync_dir("d").unwrap();
    fs.sync_dir("").unwrap();
    fs.sync_all().unwrap();
    let names: Vec<_> =
        fs.list("").unwrap().into_iter().map(|entry| entry.name.into_string().unwrap()).collect();
    assert_eq!(names, [".crucible", "b", "d"]);
}

#[test]
fn a_pipe_does_not_stop_the_scan() {
    let (dir, fs) = vault();
    let pipe = dir.path().join("pipe.md");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    assert!(fs.read("pipe.md", 100).is_err());
    assert_eq!(scan_all(&fs).skipped.len(), 1);
}

#[test]
fn a_vault_that_was_moved_away_or_replaced_is_unknown() {
    let dir = TempDir::new().unwrap();
    let place = dir.path().join("vault");
    fs::create_dir(&place).unwrap();
    put(&place, "a.md", "a");
    let fs = RealFs::open(&place, "probe").unwrap();
    assert_eq!(scan_all(&fs).absence(&path("b.md")), Absence::Gone);
    fs::rename(&place, dir.path().join("elsewhere")).unwrap();
    assert_eq!(scan_all(&fs).absence(&path("a.md")), Absence::Unknown);
    fs::create_dir_all(place.join(".crucible")).unwrap();
    let found = scan_all(&fs);
    assert_eq!(found.absence(&path("a.md")), Absence::Unknown);
    let reason = UnknownReason::Unreadable(ErrorKind::NotFound);
    assert_eq!((found.unknown[0].path.as_str(), found.unknown[0].reason), ("", reason));
    assert!(!fs.is_in_place());
}

#[test]
fn several_threads_find_what_one_finds() {
    let (dir, fs) = vault();
    for n in 0..200 {
        put(dir.path(), &format!("d{}/e{}/{n}.md", n % 7, n % 3), &n.to_string());
    }
    let request = Request {
        cached: |_: &str| None,
        now_ns: 0,
        known_mounts: &[],
        covered: &[],
        root: Root::Vault,
    };
    let many = scan_parallel(&fs, &request, NonZero::new(4).unwrap());
    assert_eq!(many.files, scan(&fs, &request).files);
    assert_eq!(many.files.len(), 200);
}

#[test]
fn a_second_process_is_kept_out_and_told_whom_by() {
    let (dir, fs) = vault();
    let lock = VaultLock::acquire(&fs, 4711).unwrap();
    let other = RealFs::open(dir.path(), "other").unwrap();
    let error = VaultLock::acquire(&other, 4712).unwrap_err();
    assert!(matches!(error, LockError::Held { pid: Some(4711) }), "{error:?}");
    assert_eq!(error.to_string(), "the vault is in use by another process (process 4711)");
    drop(lock);
    VaultLock::acquire(&other, 4712).unwrap();
}

#[test]
fn the_watcher_hints_at_changes_and_survives_that_its_folder_is_made_anew() {
    let dir = TempDir::new().unwrap();
    let place = dir.path().join("vault");
    fs::create_dir_all(place.join("d")).unwrap();
    let (sender, hints) = mpsc::channel();
    let debounce = Debounce {
        quiet: Duration::from_millis(20),
        at_most: Duration::from_millis(200),
        check: Duration::from_millis(50),
    };
    let watch = Watch::start(&place, debounce, sender).unwrap();
    let next = || hints.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(next(), Hint::Everything);
    put(&place, "d/a.md", "a");
    let Hint::Below(paths) = next() else { panic!("a hint where") };
    assert!(paths.contains("d/a.md"), "{paths:?}");
    fs::remove_dir_all(&place).unwrap();
    fs::create_dir_all(place.join("new")).unwrap();
    let until = |wanted: &dyn Fn(&Hint) -> bool| while !wanted(&next()) {};
    until(&|hint| *hint == Hint::Everything);
    // It may have been told of the removal alone; then the next check finds the new folder.
    let mut count = 0;
    while hints.recv_timeout(Duration::from_millis(500)).is_ok() {}
    loop {
        put(&place, "new/b.md", &count.to_string());
        count += 1;
        match hints.recv_timeout(Duration::from_secs(1)) {
            Ok(Hint::Below(paths)) if paths.contains("new/b.md") => break,
            Ok(_) | Err(_) if count < 20 => {}
            other => panic!("{other:?}"),
        }
    }
    drop(watch);
    assert!(hints.recv_timeout(Duration::from_secs(20)).is_err());
}

#[test]
fn undo_names_never_collide_with_an_earlier_use() {
    let (dir, fs) = vault();
    put(dir.path(), "a.md", "one");
    put(dir.path(), &format!("{UNDO_DIR}/u1"), "kept words");
    let expected = Expected::File(known("one"));
    let done = replace(&fs, &path("a.md"), &expected, Source::Bytes(b"two"), &name("u1"));
    assert!(done.is_err(), "{done:?}");
    assert_eq!(fs::read(dir.path().join(UNDO_DIR).join("u1")).unwrap(), b"kept words");
    assert_eq!(fs::read(dir.path().join("a.md")).unwrap(), b"one");
    assert_eq!(fs.list(".crucible/tmp").unwrap().len(), 0);
}
