//! `cru` killed at the n-th system call, then asked to go on as if nothing had happened.
//!
//! strace counts each kind of call of each thread by itself, so for each kind n grows until a run
//! is no longer killed. Everything either device wrote must be there after the next rounds.

use std::process::Command;

use crate::kit::{Device, Ran, World, alone, assert_same, cru_binary, have, run, settle};

/// Calls that change something outside the process.
const DEVICE_CALLS: &[&str] = &[
    "write",
    "pwrite64",
    "fsync,fdatasync",
    "rename,renameat,renameat2",
    "unlink,unlinkat",
    "openat",
    "ftruncate,fallocate",
    "mkdir,mkdirat",
    "sendto,sendmsg,writev",
];

/// How strace is told to kill at the n-th of some calls. With `-D` the child of the test is the
/// program itself, so that signals reach it and not the tracer.
fn killing(calls: &str, nth: usize) -> Vec<String> {
    let words = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e"];
    let mut words: Vec<String> = words.into_iter().map(str::to_owned).collect();
    // A call that this system does not have is left out rather than refused.
    let calls: String =
        calls.split(',').map(|call| format!("?{call}")).collect::<Vec<_>>().join(",");
    words.push(format!("trace={calls}"));
    words.push("-e".to_owned());
    words.push(format!("inject={calls}:signal=KILL:when={nth}"));
    words
}

fn sync_killed(device: &Device, calls: &str, nth: usize) -> Ran {
    let words = killing(calls, nth);
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).arg(cru_binary());
    alone(&mut command, &device.home);
    command.arg("-C").arg(&device.dir).args(["sync", "--json"]);
    run(&mut command)
}

/// 1, 2, 3, then ever larger steps: the first calls of a kind matter most.
fn next(nth: usize) -> usize {
    nth + 1 + nth / 6
}

/// Whether strace may trace here; some containers forbid it.
fn can_trace() -> bool {
    if !have("strace") {
        return false;
    }
    let works = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status();
    let works = works.is_ok_and(|status| status.success());
    if !works {
        eprintln!("strace may not trace here, so this test shows nothing");
    }
    works
}

/// What both did in one turn, to be found again in both folders.
fn edit(alice: &Device, bob: &Device, turn: usize) {
    alice.replace("note.md", &format!("first {}.", turn - 1), &format!("first {turn}."));
    bob.replace("note.md", &format!("last {}.", turn - 1), &format!("last {turn}."));
    alice.write(&format!("alice/{turn}.md"), format!("alice wrote {turn}\n"));
    bob.write(&format!("bob/{turn}.md"), format!("bob wrote {turn}\n"));
    if turn > 1 {
        alice.rename(&format!("alice/{}.md", turn - 1), &format!("moved/{}.md", turn - 1));
        bob.remove(&format!("bob/{}.md", turn - 1));
    }
}

#[track_caller]
fn check(alice: &Device, bob: &Device, turn: usize, what: &str) {
    assert_same(&[alice, bob]);
    let text = alice.read("note.md");
    assert_eq!(text, format!("first {turn}.\n\nmiddle.\n\nlast {turn}.\n"), "{what}");
    assert_eq!(bob.read(&format!("alice/{turn}.md")), format!("alice wrote {turn}\n"), "{what}");
    assert_eq!(alice.read(&format!("bob/{turn}.md")), format!("bob wrote {turn}\n"), "{what}");
    if turn > 1 {
        assert!(!alice.has(&format!("bob/{}.md", turn - 1)), "{what}: a deletion was undone");
        assert!(bob.has(&format!("moved/{}.md", turn - 1)), "{what}: a rename was lost");
        assert!(!bob.has(&format!("alice/{}.md", turn - 1)), "{what}: a rename left a copy");
    }
    for device in [alice, bob] {
        assert!(device.conflicts().is_empty(), "{what}: a conflict that nobody made");
    }
}

fn two_devices() -> (World, [Device; 2]) {
    let (world, [alice, bob]) = World::with_devices();
    alice.write("note.md", "first 0.\n\nmiddle.\n\nlast 0.\n");
    settle(&[&alice, &bob]);
    (world, [alice, bob])
}

fn killed_at_every(calls: &[&str]) {
    if !can_trace() {
        return;
    }
    let (_world, [alice, bob]) = two_devices();
    let (mut turn, mut killed) = (0, 0);
    for calls in calls {
        let mut nth = 1;
        loop {
            turn += 1;
            edit(&alice, &bob, turn);
            bob.sync();
            let ran = sync_killed(&alice, calls, nth);
            let what = format!("turn {turn}: killed at {calls} number {nth}");
            let survived = matches!(ran.code, Some(0 | 3));
            killed += usize::from(!survived);
            let healed = alice.try_sync();
            assert!(matches!(healed.code, Some(0 | 3)), "{what}\n{}", healed.told());
            settle(&[&bob, &alice]);
            check(&alice, &bob, turn, &what);
            if survived {
                break;
            }
            nth = next(nth);
        }
    }
    println!("killed {killed} times in {turn} turns");
    assert!(killed > 0, "strace never killed, so nothing was shown");
}

#[test]
fn a_sync_killed_at_any_write_heals() {
    killed_at_every(&DEVICE_CALLS[..2]);
}

#[test]
fn a_sync_killed_at_any_flush_or_rename_or_removal_heals() {
    killed_at_every(&DEVICE_CALLS[2..5]);
}

#[test]
fn a_sync_killed_at_any_opening_heals() {
    killed_at_every(&DEVICE_CALLS[5..6]);
}

#[test]
fn a_sync_killed_at_any_other_change_heals() {
    killed_at_every(&DEVICE_CALLS[6..]);
}

#[test]
fn a_server_killed_at_any_call_heals() {
    if !can_trace() {
        return;
    }
    let (mut world, [alice, bob]) = two_devices();
    let (mut turn, mut killed) = (0, 0);
    for calls in ["pwrite64,write", "fsync,fdatasync", "openat", "rename,renameat2,unlink,unlinkat"]
    {
        let mut nth = 1;
        for _ in 0..10 {
            turn += 1;
            edit(&alice, &bob, turn);
            world.stop_server();
            let up = world.try_start_server(0, &killing(calls, nth));
            let what = format!("turn {turn}: server killed at {calls} number {nth}");
            if up {
                alice.try_sync().code_in(&[0, 1, 3, 13]);
                bob.try_sync().code_in(&[0, 1, 3, 13]);
            }
            killed += usize::from(!world.end_server());
            world.start_server();
            settle(&[&alice, &bob]);
            check(&alice, &bob, turn, &what);
            nth = next(nth) + nth / 2;
        }
    }
    println!("killed {killed} times in {turn} turns");
    assert!(killed > 0, "strace never killed, so nothing was shown");
}

#[test]
fn a_join_killed_at_any_call_can_be_done_again() {
    if !can_trace() {
        return;
    }
    let mut killed = 0;
    for calls in ["pwrite64", "write", "rename,renameat,renameat2", "openat", "mkdir,mkdirat"] {
        let mut nth = 1;
        loop {
            // A world each: a server lets only a few strangers in within a minute.
            let (world, [alice]) = World::with_devices();
            for at in 0..12 {
                alice.write(&format!("{}/{at}.md", at % 3), format!("text {at}\n"));
            }
            alice.sync();
            let bob = world.device("bob");
            bob.write("1/1.md", "text 1\n");
            bob.write("own.md", "bob's own\n");
            let words = killing(calls, nth);
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]).arg(cru_binary());
            alone(&mut command, &bob.home);
            command.env("CRU_TOKEN", &world.token).args(["join", &world.link("notes")]);
            let ran = run(command.arg(&bob.dir).arg("--yes"));
            let survived = matches!(ran.code, Some(0 | 3));
            killed += usize::from(!survived);
            let again = bob.join(&world.link("notes"), &world.token);
            let what = format!("killed at {calls} number {nth}");
            assert!(matches!(again.code, Some(0 | 3)), "{what}\n{}", again.told());
            settle(&[&alice, &bob]);
            assert_eq!(alice.tree().len(), 13, "{what}: {:?}", alice.tree().keys());
            if survived {
                break;
            }
            nth = next(nth) + nth / 2;
        }
    }
    assert!(killed > 0, "strace never killed, so nothing was shown");
}
