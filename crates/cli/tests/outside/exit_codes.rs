//! Exit codes, and that a failure says what happened and what to do.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::kit::{Cut, Device, Ran, World, cru, finish, run, settle};

/// With `--json` an error is the last line on stderr: one object with a stable code.
#[track_caller]
fn told_as_json(ran: &Ran) -> Value {
    let line = ran.err.lines().next_back().unwrap_or_default();
    let said: Value = serde_json::from_str(line)
        .unwrap_or_else(|error| panic!("stderr does not end in JSON ({error})\n{}", ran.told()));
    let inner = if said["error"].is_object() { &said["error"] } else { &said };
    assert!(inner["code"].is_string() || inner["code"].is_u64(), "no code\n{}", ran.told());
    assert!(inner["message"].is_string(), "no message\n{}", ran.told());
    said
}

#[test]
fn a_wrong_command_line_exits_2() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["no-such-verb"][..], &["sync", "--no-such-flag"], &["join"]] {
        run(cru(folder.path()).args(arguments)).code(2);
    }
}

#[test]
fn help_and_version_exit_0_and_are_printed() {
    let folder = tempfile::tempdir().unwrap();
    let help = run(cru(folder.path()).arg("--help")).ok();
    for verb in ["sync", "join", "serve", "conflicts", "log", "export", "doctor"] {
        assert!(help.text().contains(verb), "{verb} is not in the help\n{}", help.told());
    }
    assert!(run(cru(folder.path()).arg("--version")).ok().text().starts_with("cru "));
}

#[test]
fn a_folder_that_is_no_vault_exits_10() {
    let folder = tempfile::tempdir().unwrap();
    let device = Device::new("x", folder.path().join("home"), folder.path().join("plain"));
    fs::create_dir(&device.dir).unwrap();
    for arguments in [&["sync"][..], &["status"], &["log"], &["conflicts"]] {
        device.cru(arguments).code(10);
    }
    told_as_json(&device.cru(&["sync", "--json"]).code(10));
    assert!(!device.dir.join(".crucible").exists(), "a question made a vault");
}

#[test]
fn a_second_cru_in_the_same_folder_exits_11_and_the_first_goes_on() {
    let (world, [alice]) = World::with_devices();
    alice.write("a.md", "a\n");
    world.wire().set(Cut::Stall);
    let first = alice.spawn(&["sync", "--json"]);
    world.wire().wait_for_stall();
    let second = alice.try_sync().code(11);
    told_as_json(&second);
    world.wire().set(Cut::Nothing);
    finish(first, "cru sync (the first)".to_owned()).ok();
    alice.try_sync().ok();
}

#[test]
fn an_unreachable_server_exits_13_and_nothing_is_lost() {
    let (mut world, [alice, bob]) = World::with_devices();
    alice.write("a.md", "a\n");
    settle(&[&alice, &bob]);
    world.stop_server();
    alice.write("a.md", "a, edited\n");
    told_as_json(&alice.try_sync().code(13));
    alice.cru(&["log", "a.md"]).ok();
    world.start_server();
    settle(&[&alice, &bob]);
    assert_eq!(bob.read("a.md"), "a, edited\n");
}

#[test]
fn joining_a_server_that_is_not_there_exits_13() {
    let mut world = World::new();
    let token = world.token.clone();
    world.stop_server();
    world.device("alice").join(&world.link("notes"), &token).code(13);
}

#[test]
fn an_interrupted_round_exits_130_and_the_next_one_works() {
    let (world, [alice, bob]) = World::with_devices();
    alice.write("a.md", "a\n");
    world.wire().set(Cut::Stall);
    let child = alice.spawn(&["sync", "--json"]);
    world.wire().wait_for_stall();
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    finish(child, "cru sync, interrupted".to_owned()).code(130);
    world.wire().set(Cut::Nothing);
    settle(&[&alice, &bob]);
    assert_eq!(bob.read("a.md"), "a\n");
}

#[test]
fn a_damaged_blob_on_the_server_exits_14_in_a_check() {
    let (mut world, [alice]) = World::with_devices();
    let picture: Vec<u8> = (0..300_000_u32).map(|at| (at * 7 % 251) as u8).collect();
    alice.write("p.png", &picture);
    alice.sync();
    world.stop_server();
    let data = world.path("server");
    check(&world).ok();
    let blob = largest_file(&data);
    let mut bytes = fs::read(&blob).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(&blob, bytes).unwrap();
    check(&world).code(14);
}

fn check(world: &World) -> Ran {
    let mut command = cru(&world.path("home-server"));
    command.args(["server", "check", "--data"]).arg(world.path("server"));
    run(&mut command)
}

fn largest_file(folder: &std::path::Path) -> std::path::PathBuf {
    let mut folders = vec![folder.to_path_buf()];
    let mut largest = (0, folder.to_path_buf());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let about = entry.metadata().unwrap();
            let database = entry.file_name().to_string_lossy().contains(".db");
            if about.is_dir() {
                folders.push(entry.path());
            } else if !database && about.len() > largest.0 {
                largest = (about.len(), entry.path());
            }
        }
    }
    largest.1
}

#[test]
fn a_device_store_of_a_newer_format_exits_15_and_nothing_is_touched() {
    let (_world, [alice, bob]) = World::with_devices();
    alice.write("a.md", "a\n");
    settle(&[&alice, &bob]);
    make_newer(&alice.dir.join(".crucible/sync.db"));
    alice.write("a.md", "a, edited\n");
    let before = alice.tree();
    told_as_json(&alice.try_sync().code(15));
    alice.cru(&["status"]).code(15);
    assert_eq!(alice.tree(), before);
    bob.sync();
    assert_eq!(bob.read("a.md"), "a\n");
}

#[test]
fn a_server_store_of_a_newer_format_exits_15() {
    let (mut world, [alice]) = World::with_devices();
    alice.write("a.md", "a\n");
    alice.sync();
    world.stop_server();
    let data = world.path("server");
    let databases = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path());
    let databases: Vec<_> =
        databases.filter(|path| path.to_string_lossy().ends_with(".db")).collect();
    assert!(!databases.is_empty(), "no database in the server's folder");
    for database in databases {
        make_newer(&database);
    }
    let mut command = cru(&world.path("home-server"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&data);
    run(&mut command).code(15);
}

/// Raises the number that SQLite keeps for the format of whoever uses it.
fn make_newer(database: &std::path::Path) {
    assert!(database.is_file(), "{} is not there", database.display());
    let connection = rusqlite::Connection::open(database).unwrap();
    connection.pragma_update(None, "user_version", 1_000_000).unwrap();
}

#[test]
fn a_store_that_is_damaged_beyond_reading_is_told_of_and_the_notes_stay() {
    let (_world, [alice, bob]) = World::with_devices();
    alice.write("a.md", "a\n");
    settle(&[&alice, &bob]);
    fs::write(alice.dir.join(".crucible/sync.db"), vec![0x55; 40_000]).unwrap();
    for left in ["sync.db-wal", "sync.db-shm"] {
        // There may be none, and then there is none to remove.
        fs::remove_file(alice.dir.join(".crucible").join(left)).ok();
    }
    alice.try_sync().code_in(&[0, 3, 14]);
    assert_eq!(alice.read("a.md"), "a\n");
    bob.sync();
    assert_eq!(bob.read("a.md"), "a\n");
}

#[test]
fn doctor_finds_nothing_wrong_with_a_healthy_vault() {
    let (_world, [alice]) = World::with_devices();
    alice.write("a.md", "a\n");
    alice.sync();
    alice.cru(&["doctor"]).ok();
    alice.cru(&["doctor", "--json"]).ok().objects();
}

#[test]
fn completions_are_printed_for_the_usual_shells() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let ran = run(cru(folder.path()).args(["completions", shell])).ok();
        assert!(ran.text().contains("cru"), "{}", ran.told());
    }
}

#[test]
fn nothing_but_results_is_on_stdout_and_no_colour_where_nobody_looks() {
    let (_world, [alice]) = World::with_devices();
    alice.write("a.md", "a\n");
    let ran = alice.try_sync().ok();
    for line in ran.text().lines() {
        serde_json::from_str::<Value>(line)
            .unwrap_or_else(|error| panic!("{line:?} is no JSON ({error})\n{}", ran.told()));
    }
    let plain = alice.cru(&["status"]).code_in(&[0, 3]);
    assert!(!plain.text().contains('\u{1b}') && !plain.err.contains('\u{1b}'), "{}", plain.told());
}

#[test]
fn a_token_is_never_on_the_command_line_nor_in_any_output() {
    let (world, [alice]) = World::with_devices();
    alice.write("a.md", "a\n");
    let token = world.token.as_str();
    for arguments in [&["sync", "--json"][..], &["status", "--json"], &["doctor", "--json"]] {
        let ran = alice.cru(arguments).code_in(&[0, 3]);
        assert!(!ran.told().contains(token), "`{}` prints the token", ran.line);
    }
    assert!(!world.server().log().contains(token), "the server's log has the token");
    let mut command = alice.command();
    command.args(["join", &world.link("notes")]).arg(&alice.dir).args(["--token", token, "--yes"]);
    run(&mut command).code(2);
}

#[test]
fn help_is_a_command_too() {
    let home = tempfile::tempdir().unwrap();
    let told = crate::kit::run(crate::kit::cru(home.path()).arg("help")).ok();
    assert!(told.text().contains("First five minutes"), "{}", told.told());
    let take = ["help", "conflicts", "take"];
    let told = crate::kit::run(crate::kit::cru(home.path()).args(take)).ok();
    assert!(told.text().contains("<N> <ours|theirs|both>"), "{}", told.told());
}

#[test]
fn a_policy_for_what_is_no_pattern_is_a_wrong_argument() {
    let (_world, [alice]) = World::with_devices();
    alice.cru(&["sync", "config", "policy", "x[", "both"]).code(2).says("\"x[\" is no pattern");
    alice.cru(&["sync", "config", "policy", "Daily/**", "both"]).ok();
}
