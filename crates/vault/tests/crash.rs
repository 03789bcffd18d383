//! Every procedure of `write`, stopped at every call, with an edit before every call, and with an
//! error at every call: nothing anybody wrote is lost, and no reader ever sees half a file.

#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as _;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crucible_core::hash::ContentHash;
use crucible_core::vault_path::VaultPath;
use crucible_testkit::fake_fs::{Disk, FakeFs, Fault, Op, Variant, is_crash};
use crucible_vault::content::{Naming, identify};
use crucible_vault::fs::{FileSystem, TRASH_DIR, UNDO_DIR, UNDO_PREFIX};
use crucible_vault::trash::TrashPlace;
use crucible_vault::write::{
    Displaced, Expected, Known, Lift, Lifted, Placed, Removed, Renamed, Source, Touched,
    UniqueName, WriteError, clean_tmp, leftovers, lift, lower, place, put_back, remove, rename,
    replace, settle, stage, sync_staged,
};

const OLD: &[u8] = b"old words\n";
const NEW: &[u8] = b"new words\n";
const USER: &[u8] = b"words of a user\n";

fn path(text: &str) -> VaultPath {
    VaultPath::new(text).unwrap()
}

fn name(text: &str) -> UniqueName {
    UniqueName::new(text).unwrap()
}

fn hash(bytes: &[u8]) -> ContentHash {
    identify(bytes, Naming::Markdown).hash
}

fn known(bytes: &[u8]) -> Known {
    Known { hash: hash(bytes), stat: None }
}

fn trash() -> TrashPlace {
    TrashPlace::new(1_795_442_000_000, &name("round-1"))
}

/// One procedure under test, and what may be visible at `dir/a.md` and `dir/b.md` around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Replace,
    Create,
    Remove,
    Rename,
    /// The same on a mount inside the vault.
    ReplaceBeside,
    CreateBeside,
    RemoveBeside,
    /// From a mount to the vault.
    RenameAcross,
    MoveBlob,
    Many,
    /// Below its own name.
    Nest,
    NestBeside,
    /// From there to a name that an empty folder has.
    Unnest,
}

const STEPS: [Step; 13] = [
    Step::Replace,
    Step::Create,
    Step::Remove,
    Step::Rename,
    Step::ReplaceBeside,
    Step::CreateBeside,
    Step::RemoveBeside,
    Step::RenameAcross,
    Step::MoveBlob,
    Step::Many,
    Step::Nest,
    Step::NestBeside,
    Step::Unnest,
];

const BLOB: &str = ".crucible/blobs/x";

fn disk_for(step: Step) -> FakeFs {
    let fs = FakeFs::new(Variant::Linux);
    let mut disk = fs.disk();
    match step {
        Step::ReplaceBeside
        | Step::CreateBeside
        | Step::RemoveBeside
        | Step::RenameAcross
        | Step::NestBeside => {
            disk.user_mount("dir", 7).unwrap();
        }
        Step::Unnest => disk.user_make_dir("far/off/b.md/empty").unwrap(),
        _ => {}
    }
    if !matches!(step, Step::Create | Step::CreateBeside) {
        disk.user_write("dir/a.md", OLD).unwrap();
    }
    if step == Step::MoveBlob {
        disk.user_write(BLOB, NEW).unwrap();
    }
    drop(disk);
    fs
}

fn run(fs: &FakeFs, step: Step) -> Result<(), WriteError> {
    let a = path("dir/a.md");
    let old = Expected::File(known(OLD));
    let mut touched = Touched::new();
    match step {
        Step::Replace | Step::ReplaceBeside => {
            replace(fs, &a, &old, Source::Bytes(NEW), &name("u1")).map(drop)
        }
        Step::MoveBlob => replace(fs, &a, &old, Source::Move(BLOB), &name("u1")).map(drop),
        Step::Create | Step::CreateBeside => {
            replace(fs, &a, &Expected::Nothing, Source::Bytes(NEW), &name("u1")).map(drop)
        }
        Step::Remove | Step::RemoveBeside => {
            remove(fs, &a, &known(OLD), &trash(), &name("u1"), &mut touched)?;
            settle(fs, &mut touched)
        }
        Step::Rename => {
            rename(fs, &a, &path("far/off/b.md"), &known(OLD), &name("u1"), &mut touched)?;
            settle(fs, &mut touched)
        }
        Step::RenameAcross => {
            rename(fs, &a, &path("b.md"), &known(OLD), &name("u1"), &mut touched)?;
            settle(fs, &mut touched)
        }
        Step::Nest | Step::NestBeside => nest(fs, &path("dir/a.md/in.md")),
        Step::Unnest => nest(fs, &path("far/off/b.md")),
        Step::Many => {
            let mut staged = Vec::new();
            for n in 0..3 {
                let to = path(&format!("many/{n}.md"));
                staged.push(stage(fs, &to, Source::Bytes(NEW), &name(&format!("m{n}")))?);
            }
            staged.push(stage(fs, &a, Source::Bytes(NEW), &name("u1"))?);
            sync_staged(fs, &mut staged)
                .map_err(|source| WriteError::Io { path: "many".into(), source })?;
            for (n, one) in staged.into_iter().enumerate() {
                let (to, expected) = match n {
                    3 => (a.clone(), old),
                    _ => (path(&format!("many/{n}.md")), Expected::Nothing),
                };
                place(fs, &to, &expected, one, &mut touched)?;
            }
            settle(fs, &mut touched)
        }
    }
}

fn is_nest(step: Step) -> bool {
    matches!(step, Step::Nest | Step::NestBeside | Step::Unnest)
}

fn nest(fs: &FakeFs, to: &VaultPath) -> Result<(), WriteError> {
    let (a, mut touched) = (path("dir/a.md"), Touched::new());
    let lifted = match lift(fs, &a, &known(OLD), &name("u1"), &mut touched)? {
        Lift::Done(lifted) => lifted,
        Lift::Changed | Lift::Gone | Lift::Displaced(_) => return Ok(()),
    };
    let lowered = lower(fs, lifted, to, &known(OLD), &mut touched);
    settle(fs, &mut touched)?;
    lowered.map(drop)
}

fn calls_of(step: Step) -> u64 {
    let fs = disk_for(step);
    run(&fs, step).unwrap();
    fs.disk().calls()
}

/// Every byte string anywhere on the disk that is not a temporary file of ours.
fn words(fs: &FakeFs) -> BTreeSet<Vec<u8>> {
    let files = fs.disk().everything();
    files.into_iter().filter(|(at, _)| !at.contains("tmp")).map(|(_, bytes)| bytes).collect()
}

fn assert_whole(fs: &FakeFs, context: &str) {
    for (at, bytes) in fs.disk().visible() {
        let whole = [OLD, NEW, USER].contains(&&bytes[..]);
        assert!(whole, "{context}: {at} holds {:?}", String::from_utf8_lossy(&bytes));
    }
}

/// After a crash: what is in undo beside visible files is still there to be merged.
fn assert_recoverable(fs: &FakeFs, context: &str) {
    for leftover in leftovers(fs).unwrap() {
        let bytes = fs.disk().user_read(&leftover.at).unwrap();
        assert!(
            [OLD, NEW, USER].contains(&&bytes[..]),
            "{context}: {} was torn, {:?}",
            leftover.at,
            String::from_utf8_lossy(&bytes)
        );
    }
    clean_tmp(fs, |_| false).unwrap();
}

#[test]
fn a_crash_at_any_call_leaves_every_file_whole_and_every_word_on_disk() {
    for step in STEPS {
        for number in 1..=calls_of(step) {
            for fault in [Fault::CrashBefore, Fault::CrashAfter] {
                for seed in 0..40 {
                    let context = format!("{step:?} {fault:?} at {number}, seed {seed}");
                    let fs = disk_for(step);
                    fs.disk().fault_at(number, fault);
                    match run(&fs, step) {
                        Err(error) => assert!(is_crash(&error), "{context}: {error}"),
                        // What cannot be lifted nor put back is no error, but told with its place.
                        Ok(()) => assert!(is_nest(step) && fs.disk().is_crashed(), "{context}"),
                    }
                    fs.reboot(seed);
                    assert_whole(&fs, &context);
                    assert_recoverable(&fs, &context);
                    if !matches!(step, Step::Create | Step::CreateBeside) {
                        assert!(words(&fs).contains(OLD), "{context}: the old text is gone");
                    }
                    assert_never_absent(&fs, step, &context);
                    assert_goes_on(&fs, step, &context);
                }
            }
        }
    }
}

fn assert_never_absent(fs: &FakeFs, step: Step, context: &str) {
    let files = fs.disk().visible();
    match step {
        Step::Replace | Step::ReplaceBeside | Step::MoveBlob | Step::Many => {
            assert!(files.contains_key("dir/a.md"), "{context}: absent");
        }
        Step::Rename => {
            let there = files.contains_key("dir/a.md") || files.contains_key("far/off/b.md");
            assert!(there, "{context}: absent");
        }
        Step::RenameAcross => {
            let there = files.contains_key("dir/a.md") || files.contains_key("b.md");
            assert!(there, "{context}: absent");
        }
        Step::Nest | Step::NestBeside | Step::Unnest => {
            if let Some(lifted) = Lifted::left(fs, &path("dir/a.md"), "u1") {
                let displaced = put_back(fs, lifted, &known(OLD), &mut Touched::new());
                assert!(displaced.is_none(), "{context}: {displaced:?}");
            }
            assert_eq!(visible_texts(fs), [OLD], "{context}");
        }
        Step::Create | Step::CreateBeside | Step::Remove | Step::RemoveBeside => {}
    }
}

fn visible_texts(fs: &FakeFs) -> Vec<Vec<u8>> {
    fs.disk().visible().into_values().collect()
}

/// The next attempt, under other names, comes to an end.
fn assert_goes_on(fs: &FakeFs, step: Step, context: &str) {
    let visible = fs.disk().visible();
    let Some(bytes) = visible.get("dir/a.md") else { return };
    let expected = Expected::File(known(bytes));
    let source = Source::Bytes(USER);
    match replace(fs, &path("dir/a.md"), &expected, source, &name("again")) {
        Ok(Placed::Done { .. }) => {}
        other => panic!("{context}: {step:?} again gave {other:?}"),
    }
}

#[test]
fn what_returned_before_a_crash_survives_it() {
    for step in STEPS {
        for seed in 0..60 {
            let fs = disk_for(step);
            run(&fs, step).unwrap();
            let before = fs.disk().visible();
            fs.disk().crash();
            fs.reboot(seed);
            assert_eq!(fs.disk().visible(), before, "{step:?} seed {seed}");
        }
    }
}

type Edit = fn(&mut Disk) -> io::Result<()>;

/// What a user may do between two calls; each leaves USER somewhere if it writes at all, which
/// none can at a name that a folder has.
const EDITS: [(&str, Edit); 7] = [
    ("writes in place", |disk| disk.user_write("dir/a.md", USER)),
    ("saves by rename", |disk| disk.user_save_by_rename("dir/a.md", USER)),
    ("writes the new name", |disk| disk.user_write("far/off/b.md", USER)),
    ("saves over b", |disk| disk.user_save_by_rename("b.md", USER)),
    ("writes below the name", |disk| disk.user_write("dir/a.md/new.md", USER)),
    ("renames away", |disk| {
        // Not there at some calls, and then nothing happens.
        let _ = disk.user_rename("dir/a.md", "dir/c.md");
        disk.user_write("dir/c.md", USER)
    }),
    ("removes and writes", |disk| {
        // As above.
        let _ = disk.user_remove("dir/a.md");
        disk.user_write("dir/a.md", USER)
    }),
];

#[test]
fn an_edit_between_any_two_calls_is_never_lost() {
    for step in STEPS {
        for number in 1..=calls_of(step) + 1 {
            for (what, edit) in EDITS {
                let context = format!("{step:?}, a user {what} before call {number}");
                let fs = disk_for(step);
                let edited = Arc::new(AtomicBool::new(false));
                let wrote = edited.clone();
                fs.disk().set_hook(move |disk, call| {
                    if call.number == number {
                        wrote.store(edit(disk).is_ok(), Ordering::Relaxed);
                    }
                });
                let done = run(&fs, step);
                let edited = edited.load(Ordering::Relaxed);
                assert_whole(&fs, &context);
                if edited {
                    assert!(words(&fs).contains(USER), "{context}: lost, {done:?}");
                }
            }
        }
    }
}

#[test]
fn what_somebody_adds_to_a_new_file_survives_a_power_cut() {
    for step in [Step::Create, Step::CreateBeside, Step::Many] {
        for (number, later) in (1..=calls_of(step)).flat_map(|n| [(n, 0), (n, 1), (n, 3)]) {
            for seed in 0..40 {
                let fs = disk_for(step);
                let written = Arc::new(AtomicBool::new(false));
                let wrote = written.clone();
                fs.disk().fault_at(number + later, Fault::CrashAfter);
                fs.disk().set_hook(move |disk, call| {
                    let at = if step == Step::Many { "many/1.md" } else { "dir/a.md" };
                    if call.number == number && disk.user_read(at).is_some() {
                        disk.user_write(at, USER).unwrap();
                        wrote.store(true, Ordering::Relaxed);
                    }
                });
                let done = run(&fs, step);
                fs.reboot(seed);
                let is_kept = !written.load(Ordering::Relaxed) || words(&fs).contains(USER);
                assert!(is_kept, "{step:?} at {number} and {later} later, seed {seed}: {done:?}");
            }
        }
    }
}

#[test]
fn an_editor_that_holds_the_old_file_open_writes_to_what_is_kept() {
    for step in STEPS {
        if matches!(step, Step::Create | Step::CreateBeside) {
            continue;
        }
        for number in 1..=calls_of(step) + 1 {
            let fs = disk_for(step);
            let handle = fs.disk().user_open("dir/a.md").unwrap();
            fs.disk().set_hook(move |disk, call| {
                if call.number == number {
                    disk.user_truncate(handle);
                    disk.user_append(handle, USER).unwrap();
                }
            });
            let done = run(&fs, step);
            fs.disk().clear_hook();
            if fs.disk().calls() < number {
                fs.disk().user_truncate(handle);
                fs.disk().user_append(handle, USER).unwrap();
            }
            assert!(words(&fs).contains(USER), "{step:?} at {number}: lost, {done:?}");
        }
    }
}

#[test]
fn an_edit_that_slips_in_before_the_swap_is_reported_with_its_bytes() {
    // With a stat that still fits, the first look is the stat alone; then comes the swap.
    for (beside, dir) in [(false, UNDO_DIR.to_owned()), (true, format!("dir/{UNDO_PREFIX}"))] {
        let step = if beside { Step::ReplaceBeside } else { Step::Replace };
        let fs = disk_for(step);
        let stat = fs.stat("dir/a.md").unwrap();
        fs.disk().set_hook(move |disk, call| {
            if call.op == Op::Exchange {
                disk.user_write("dir/a.md", USER).unwrap();
            }
        });
        let expected = Expected::File(Known { hash: hash(OLD), stat: Some(stat) });
        let placed =
            replace(&fs, &path("dir/a.md"), &expected, Source::Bytes(NEW), &name("u1")).unwrap();
        let Placed::Done { stat: Some(_), displaced: Displaced::Edited(kept), .. } = placed else {
            panic!("{placed:?}");
        };
        assert_eq!(kept.identity.hash, hash(USER));
        assert!(kept.at.starts_with(&dir), "{}", kept.at);
        assert_eq!(fs.disk().user_read(&kept.at).unwrap(), USER);
        assert_eq!(fs.disk().user_read("dir/a.md").unwrap(), NEW);
    }
}

#[test]
fn a_file_edited_since_is_left_alone() {
    let fs = disk_for(Step::Replace);
    fs.disk().user_write("dir/a.md", USER).unwrap();
    let a = path("dir/a.md");
    let expected = Expected::File(known(OLD));
    let placed = replace(&fs, &a, &expected, Source::Bytes(NEW), &name("u1")).unwrap();
    assert!(matches!(placed, Placed::Changed), "{placed:?}");
    let mut touched = Touched::new();
    let removed = remove(&fs, &a, &known(OLD), &trash(), &name("u2"), &mut touched).unwrap();
    assert!(matches!(removed, Removed::Changed), "{removed:?}");
    let renamed = rename(&fs, &a, &path("b.md"), &known(OLD), &name("u3"), &mut touched).unwrap();
    assert!(matches!(renamed, Renamed::Changed), "{renamed:?}");
    assert_eq!(fs.disk().everything(), BTreeMap::from([("dir/a.md".into(), USER.to_vec())]));
}

#[test]
fn a_name_taken_meanwhile_is_left_alone() {
    let fs = disk_for(Step::Replace);
    fs.disk().user_write("b.md", USER).unwrap();
    let b = path("b.md");
    let placed = replace(&fs, &b, &Expected::Nothing, Source::Bytes(NEW), &name("u1")).unwrap();
    assert!(matches!(placed, Placed::Occupied), "{placed:?}");
    let mut touched = Touched::new();
    let renamed =
        rename(&fs, &path("dir/a.md"), &b, &known(OLD), &name("u2"), &mut touched).unwrap();
    assert!(matches!(renamed, Renamed::Occupied), "{renamed:?}");
    let gone = Expected::File(known(OLD));
    let placed = replace(&fs, &path("no.md"), &gone, Source::Bytes(NEW), &name("u3")).unwrap();
    assert!(matches!(placed, Placed::Gone), "{placed:?}");
    assert_eq!(fs.disk().everything().len(), 2);
}

#[test]
fn an_error_at_any_call_loses_nothing_and_leaves_no_litter() {
    for kind in [ErrorKind::StorageFull, ErrorKind::PermissionDenied, ErrorKind::Other] {
        for (step, fault) in STEPS.iter().flat_map(|&step| {
            [Fault::Error(kind), Fault::ErrorAfter(kind)].map(|fault| (step, fault))
        }) {
            for number in 1..=calls_of(step) {
                let context = format!("{step:?} {fault:?} at {number}");
                let fs = disk_for(step);
                fs.disk().fault_at(number, fault);
                let done = run(&fs, step);
                assert_whole(&fs, &context);
                if !matches!(step, Step::Create | Step::CreateBeside) {
                    assert!(words(&fs).contains(OLD), "{context}: lost, {done:?}");
                }
                if is_nest(step) {
                    assert_eq!(visible_texts(&fs), [OLD], "{context}: {done:?}");
                }
                if let Err(error) = done {
                    let cause = error.source().map(ToString::to_string).unwrap_or_default();
                    assert!(!error.to_string().is_empty() && !cause.is_empty(), "{context}");
                }
                assert_recoverable(&fs, &context);
            }
        }
    }
}

#[test]
fn a_full_disk_is_named_as_such_and_nothing_is_lost() {
    for bytes in 0..NEW.len() as u64 {
        let fs = disk_for(Step::Replace);
        // The state folder is there already in a vault.
        fs.disk().user_make_dir(".crucible/tmp").unwrap();
        fs.disk().user_make_dir(UNDO_DIR).unwrap();
        fs.disk().space_left = Some(bytes);
        let error = run(&fs, Step::Replace).unwrap_err();
        assert!(matches!(error, WriteError::NoSpace { .. }), "{error:?}");
        assert_eq!(error.to_string(), "no space left on the disk to write dir/a.md");
        assert_eq!(fs.disk().everything(), BTreeMap::from([("dir/a.md".into(), OLD.to_vec())]));
    }
}

#[test]
fn a_read_only_file_and_what_is_no_file_are_refused() {
    let fs = disk_for(Step::Replace);
    fs.disk().user_set_mode("dir/a.md", 0o444).unwrap();
    for step in [Step::Replace, Step::Remove, Step::Rename] {
        let error = run(&fs, step).unwrap_err();
        assert!(matches!(error, WriteError::ReadOnly { .. }), "{error:?}");
    }
    assert_eq!(words(&fs), BTreeSet::from([OLD.to_vec()]));

    let fs = FakeFs::new(Variant::Linux);
    fs.disk().user_symlink("dir/a.md", "/etc/passwd").unwrap();
    fs.disk().user_symlink("out", "/etc").unwrap();
    fs.disk().user_write("file.md", OLD).unwrap();
    let error = run(&fs, Step::Replace).unwrap_err();
    assert!(matches!(error, WriteError::NotAFile { .. }), "{error:?}");
    for below in ["out/x.md", "file.md/x.md"] {
        let source = Source::Bytes(NEW);
        let error =
            replace(&fs, &path(below), &Expected::Nothing, source, &name("u1")).unwrap_err();
        assert!(matches!(error, WriteError::Blocked { .. }), "{below}: {error:?}");
    }
    assert_eq!(fs.disk().visible().len(), 1);
}

#[test]
fn a_folder_that_takes_the_name_in_the_last_moment_gets_it_back() {
    let fs = disk_for(Step::Replace);
    let mut is_first = true;
    fs.disk().set_hook(move |disk, call| {
        if call.op == Op::Exchange && std::mem::take(&mut is_first) {
            disk.user_remove("dir/a.md").unwrap();
            disk.user_write("dir/a.md/in.md", USER).unwrap();
        }
    });
    let error = run(&fs, Step::Replace).unwrap_err();
    assert!(matches!(error, WriteError::NotAFile { .. }), "{error:?}");
    assert_eq!(fs.disk().everything(), BTreeMap::from([("dir/a.md/in.md".into(), USER.to_vec())]));
}

#[test]
fn a_replaced_file_keeps_its_permission_bits() {
    for step in [Step::Replace, Step::ReplaceBeside, Step::MoveBlob] {
        let fs = disk_for(step);
        fs.disk().user_set_mode("dir/a.md", 0o600).unwrap();
        run(&fs, step).unwrap();
        assert_eq!(fs.stat("dir/a.md").unwrap().mode, 0o600, "{step:?}");
    }
}

#[test]
fn removed_files_lie_in_the_trash_under_their_path() {
    for step in [Step::Remove, Step::RemoveBeside] {
        let fs = disk_for(step);
        run(&fs, step).unwrap();
        let at = format!("{TRASH_DIR}/2026-11-23/round-1/dir/a.md");
        assert_eq!(fs.disk().user_read(&at).unwrap(), OLD, "{step:?}");
        // Again in the same round, and a file where the first had a folder.
        fs.disk().user_write("dir/a.md", OLD).unwrap();
        let mut touched = Touched::new();
        let a = path("dir/a.md");
        let again = remove(&fs, &a, &known(OLD), &trash(), &name("u2"), &mut touched).unwrap();
        let Removed::Done { at, .. } = again else { panic!("{again:?}") };
        assert_eq!(at, format!("{TRASH_DIR}/2026-11-23/round-1.2/dir/a.md"));
        assert_eq!(fs.disk().visible().len(), 0);
        assert_eq!(crucible_vault::trash::list(&fs).unwrap().len(), 2);
        let later = |days: u64| 1_795_442_000_000 + days * 86_400_000;
        assert!(crucible_vault::trash::expire(&fs, later(30), |_| false).unwrap().is_empty());
        let watched = crucible_vault::trash::expire(&fs, later(31), |dir| at.starts_with(dir));
        assert!(watched.unwrap().is_empty());
        assert_eq!(
            crucible_vault::trash::expire(&fs, later(31), |_| false).unwrap(),
            ["2026-11-23"]
        );
        assert!(crucible_vault::trash::list(&fs).unwrap().is_empty());
    }
}

#[test]
fn a_change_of_case_alone_is_a_rename_where_case_is_folded() {
    for variant in [Variant::Linux, Variant::MacOs, Variant::Windows, Variant::HfsPlus] {
        let fs = FakeFs::new(variant);
        fs.disk().user_write("note.md", OLD).unwrap();
        let mut touched = Touched::new();
        let to = path("Note.md");
        let renamed =
            rename(&fs, &path("note.md"), &to, &known(OLD), &name("u1"), &mut touched).unwrap();
        assert!(matches!(renamed, Renamed::Done { edited: None, .. }), "{variant:?} {renamed:?}");
        assert_eq!(fs.disk().visible().into_keys().collect::<Vec<_>>(), ["Note.md"]);
    }
}
