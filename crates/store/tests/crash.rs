//! Stops a store at its n-th system call, for every n: by killing the process, and by failing
//! the call. Whatever was reported as done is there afterwards, and nothing is half there.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
#![cfg(target_os = "linux")]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

use crucible_core::hash::ContentHash;
use crucible_core::id::{DeviceId, UserId, VaultId};
use crucible_store::blob_store::{BlobStore, FileBlobs};
use crucible_store::error::{OpenError, StoreError};
use crucible_store::server_repo::{Origin, ServerRepo, Vaults};
use crucible_store::server_vault::ServerVaults;
use crucible_store::sync_db::SyncDb;
use crucible_sync::replica::{ReplicaBatch, ReplicaStore};
use crucible_sync::repo::{Batch, Repo};
use crucible_testkit::memory_store::MemoryStore;
use crucible_testkit::scribe::{Scribe, Step};

const VAULT: VaultId = VaultId::from_bytes([7; 16]);
const FOLDER: &str = "CRUCIBLE_CRASH_FOLDER";
const STORY: &str = "CRUCIBLE_CRASH_STORY";
/// One call, by its names on different processors.
const RENAME: &str = "?rename,?renameat,?renameat2";
const SYNC: &str = "fsync,fdatasync";
const MKDIR: &str = "?mkdir,?mkdirat";

/// What the child does, one after the other.
const STEPS: [Step; 5] = [
    Step { op: 8, pick: 1, how: 9 },
    Step { op: 0, pick: 2, how: 13 },
    Step { op: 4, pick: 2, how: 21 },
    Step { op: 7, pick: 0, how: 2 },
    Step { op: 10, pick: 1, how: 0 },
];

fn device_batches() -> Vec<(ReplicaBatch, MemoryStore)> {
    let mut memory = MemoryStore::device(Scribe::meta(VAULT));
    let mut scribe = Scribe::new(VAULT);
    let after = |step: &Step| {
        let batch = scribe.replica_batch(&memory, *step);
        memory.commit(&batch).unwrap();
        (batch, memory.clone())
    };
    STEPS.iter().map(after).collect()
}

fn server_batches() -> Vec<(Batch, MemoryStore)> {
    let mut memory = MemoryStore::server();
    let mut scribe = Scribe::new(VAULT);
    let after = |step: &Step| {
        let batch = scribe.batch(&memory, *step);
        memory.commit_from(&batch, &origin()).unwrap();
        (batch, memory.clone())
    };
    STEPS.iter().map(after).collect()
}

fn origin() -> Origin {
    let address = "192.0.2.1:9".to_owned();
    let (user, device) = (UserId::from_bytes([1; 16]), DeviceId::from_bytes([2; 32]));
    Origin { user, device, received_ms: 3, address, others: Vec::new() }
}

fn blobs() -> Vec<Vec<u8>> {
    vec![vec![1; 300_000], vec![2; 10], Vec::new()]
}

/// The process that is stopped: does nothing unless a test asks it to.
#[test]
fn child_that_is_stopped() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let folder = Path::new(&folder);
    match std::env::var(STORY).unwrap().as_str() {
        "device" => tell_device(folder),
        "server" => tell_server(folder),
        "blobs" => tell_blobs(folder),
        story => panic!("no story {story}"),
    }
}

/// Says that something is done; the parent believes it.
fn done() {
    let mut out = std::io::stdout();
    out.write_all(b"DONE\n").and_then(|()| out.flush()).unwrap();
}

/// Tries until it works: a call that fails once must leave everything usable.
fn until_it_works<T, E: std::fmt::Debug>(mut attempt: impl FnMut() -> Result<T, E>) -> T {
    for _ in 0..2 {
        match attempt() {
            Ok(value) => return value,
            Err(error) => {
                let told = format!("FAILED {error:?}\n");
                std::io::stderr().write_all(told.as_bytes()).unwrap();
            }
        }
    }
    attempt().unwrap()
}

fn tell_device(folder: &Path) {
    let path = folder.join("sync.db");
    let mut db = until_it_works(|| SyncDb::create(&path, &Scribe::meta(VAULT)));
    done();
    for (batch, _) in device_batches() {
        until_it_works(|| db.commit(&batch));
        done();
    }
}

fn tell_server(folder: &Path) {
    let vaults = ServerVaults::new(folder);
    let mut vault = until_it_works(|| vaults.create(&VAULT));
    done();
    for (batch, _) in server_batches() {
        until_it_works(|| vault.commit_from(&batch, &origin()));
        done();
    }
}

fn tell_blobs(folder: &Path) {
    let store = FileBlobs::new(folder.join("blobs"));
    for bytes in blobs() {
        until_it_works(|| store.put(&ContentHash::of_blob(&bytes), &mut &bytes[..]));
        done();
    }
}

/// Runs a story with `inject` at the `n`-th `call`; how many times it said DONE, and whether it
/// came to its end.
fn run(story: &str, folder: &Path, call: &str, inject: &str, n: u32) -> (usize, Output) {
    let output = Command::new("strace")
        // Not with --seccomp-bpf: strace 6.1 then forgets all but the first kill.
        .args(["-f", "-qqq", "-o", "/dev/null"])
        .arg(format!("-etrace={call}"))
        .arg(format!("-einject={call}:{inject}:when={n}"))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_is_stopped", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .env(STORY, story)
        .output()
        .expect("strace is needed for this test: install the package strace");
    let done = String::from_utf8_lossy(&output.stdout).matches("DONE").count();
    (done, output)
}

/// Kills `story` at each of `calls` and checks what is left with `check(folder, done)`; tells how
/// often.
fn stop_everywhere(story: &str, calls: &[&str], steps: usize, check: fn(&Path, usize)) -> u32 {
    let mut stops = 0;
    for call in calls {
        let before = stops;
        for n in 1.. {
            let folder = tempfile::tempdir().unwrap();
            let (done, output) = run(story, folder.path(), call, "signal=KILL", n);
            check(folder.path(), done);
            if output.status.success() {
                assert_eq!(done, steps, "{story} ended early: {output:?}");
                break;
            }
            stops += 1;
        }
        assert!(stops > before, "{story} never calls {call}");
    }
    stops
}

/// Fails every call once; the story must come to its end all the same.
fn fail_everywhere(story: &str, faults: &[(&str, &str)], steps: usize, check: fn(&Path, usize)) {
    for (call, error) in faults {
        let mut failures = 0;
        for n in 1.. {
            let folder = tempfile::tempdir().unwrap();
            let inject = format!("error={error}");
            let (done, output) = run(story, folder.path(), call, &inject, n);
            check(folder.path(), done);
            let noticed = String::from_utf8_lossy(&output.stderr).contains("FAILED");
            failures += u32::from(noticed);
            if *call == "write" && !output.status.success() {
                // A line of the child's own could not be written, perhaps besides.
                continue;
            }
            assert!(output.status.success(), "{call} {n} {error}: {output:?}");
            assert_eq!(done, steps, "{call} {n} {error}: {output:?}");
            // The store may shrug off some failures; past its last call there are none.
            if !noticed && past_the_end(story, call, n) {
                break;
            }
        }
        assert!(failures > 0, "{story} never noticed that {call} failed");
    }
}

/// Whether `story` makes fewer than `n` such calls.
fn past_the_end(story: &str, call: &str, n: u32) -> bool {
    let folder = tempfile::tempdir().unwrap();
    run(story, folder.path(), call, "signal=KILL", n).1.status.success()
}

fn same_state(found: &impl Repo, expected: &MemoryStore) -> bool {
    found.root().unwrap() == expected.root().unwrap()
        && found.seq().unwrap() == expected.seq().unwrap()
        && expected.all_versions().all(|(_, id, version)| {
            let heads = expected.heads(&version.note).unwrap();
            found.version(&id).unwrap().as_ref() == Some(version)
                && found.heads(&version.note).unwrap() == heads
        })
        && expected
            .all_contents()
            .all(|hash| found.content(hash).unwrap() == expected.content(hash).unwrap())
}

fn check_device(folder: &Path, done: usize) {
    let db = match SyncDb::open(&folder.join("sync.db")) {
        Err(OpenError::Missing { .. }) if done == 0 => return,
        opened => opened.unwrap(),
    };
    assert_eq!(db.check().unwrap().findings, vec![]);
    let begin = MemoryStore::device(Scribe::meta(VAULT));
    let states: Vec<_> =
        [begin].into_iter().chain(device_batches().into_iter().map(|(_, state)| state)).collect();
    let reached = states.iter().enumerate().filter(|(_, state)| {
        same_state(&db, state)
            && db.files().unwrap() == state.files().unwrap()
            && db.unsent().unwrap() == state.unsent().unwrap()
            && db.placing().unwrap() == state.placing().unwrap()
            && db.meta().unwrap() == state.meta().unwrap()
    });
    // The commit that was stopped may be there as a whole, though nobody was told.
    let commits = done.saturating_sub(1);
    let reached: Vec<_> = reached.map(|(i, _)| i).collect();
    assert!(reached.iter().any(|i| (commits..=commits + 1).contains(i)), "{reached:?} of {done}");
}

fn check_server(folder: &Path, done: usize) {
    let vault = match ServerVaults::new(folder).open(&VAULT).unwrap() {
        None if done == 0 => return,
        opened => opened.unwrap(),
    };
    assert_eq!(vault.check().unwrap().findings, vec![]);
    let states: Vec<_> = [MemoryStore::server()]
        .into_iter()
        .chain(server_batches().into_iter().map(|(_, state)| state))
        .collect();
    let commits = done.saturating_sub(1);
    let reached: Vec<_> =
        states.iter().enumerate().filter(|(_, s)| same_state(&vault, s)).map(|(i, _)| i).collect();
    assert!(reached.iter().any(|i| (commits..=commits + 1).contains(i)), "{reached:?} of {done}");
}

fn check_blobs(folder: &Path, done: usize) {
    let store = FileBlobs::new(folder.join("blobs"));
    for blob in store.list(None, usize::MAX).unwrap() {
        assert!(store.verify(&blob.hash).unwrap(), "{} is visible and damaged", blob.hash);
    }
    for bytes in &blobs()[..done] {
        assert!(store.verify(&ContentHash::of_blob(bytes)).unwrap());
    }
    for bytes in blobs() {
        let hash = ContentHash::of_blob(&bytes);
        store.put(&hash, &mut &bytes[..]).unwrap();
        assert_eq!(store.read(&hash, 0, usize::MAX).unwrap(), bytes);
    }
}

#[test]
fn a_device_killed_at_any_call_holds_every_commit_it_reported() {
    let calls = ["pwrite64", SYNC, "unlink", "ftruncate"];
    let stops = stop_everywhere("device", &calls, 6, check_device);
    assert!(stops > 200, "{stops} stops: strace did not do its part");
}

#[test]
fn a_server_killed_at_any_call_holds_every_commit_it_reported() {
    let stops = stop_everywhere("server", &["pwrite64", SYNC, MKDIR], 6, check_server);
    assert!(stops > 200, "{stops} stops: strace did not do its part");
}

#[test]
fn blobs_killed_at_any_call_are_whole_or_not_there() {
    let calls = ["write", "fsync", RENAME, MKDIR, "openat"];
    let stops = stop_everywhere("blobs", &calls, 3, check_blobs);
    assert!(stops > 30, "{stops} stops: strace did not do its part");
}

#[test]
fn a_full_disk_fails_one_commit_and_the_next_one_works() {
    fail_everywhere("device", &[("pwrite64", "ENOSPC"), (SYNC, "EIO")], 6, check_device);
}

#[test]
fn a_full_disk_fails_one_blob_and_the_next_attempt_works() {
    let faults = [("write", "ENOSPC"), ("fsync", "EIO"), (RENAME, "EIO")];
    fail_everywhere("blobs", &faults, 3, check_blobs);
}

#[test]
fn a_full_disk_is_told_as_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    // Some write in the midst of the story.
    let (_, output) = run("device", folder.path(), "pwrite64", "error=ENOSPC", 120);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("FAILED Full {"), "{told}");
    let shown = StoreError::Full { path: "vault/sync.db".into() }.to_string();
    assert_eq!(shown, "the disk that holds vault/sync.db is full");
}
