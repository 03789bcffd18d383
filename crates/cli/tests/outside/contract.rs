//! The contract for scripts, line by line.

use serde_json::Value;

use crate::kit::{Device, Server, World, assert_same, run, settle};

#[test]
fn serve_says_where_it_listens_and_sigterm_ends_it_cleanly() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"), &folder.path().join("home"));
    assert!(server.address.ip().is_loopback());
    assert_ne!(server.address.port(), 0, "port 0 asks for a free one");
    let status = server.terminate();
    assert!(status.success(), "SIGTERM: ended with {status}");
}

#[test]
fn add_user_prints_one_object_with_a_token_while_the_server_runs() {
    let world = World::new();
    assert!(world.token.len() >= 16, "a short token: {}", world.token);
    let device = world.joined("alice");
    assert!(device.dir.is_dir());
}

#[test]
fn add_user_prints_one_object_with_a_token_while_the_server_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let (data, home) = (folder.path().join("data"), folder.path().join("home"));
    let mut command = crate::kit::cru(&home);
    command.args(["auth", "add-user", "--email", "a@example.org", "--json", "--data"]).arg(&data);
    let ran = run(&mut command).ok();
    assert_eq!(ran.objects().len(), 1, "{}", ran.told());
    let token = ran.last()["token"].as_str().unwrap().to_owned();
    let server = Server::start(&data, &home);
    let device = Device::new("alice", folder.path().join("home-a"), folder.path().join("a"));
    device.join(&server.link("notes"), &token).ok();
}

#[test]
fn join_makes_a_vault_creates_it_on_the_server_and_does_the_first_round() {
    let world = World::new();
    let alice = world.device("alice");
    alice.write("Welcome.md", "# Welcome\n");
    alice.join(&world.link("notes"), &world.token).ok();
    assert!(alice.dir.join(".crucible").is_dir());
    let bob = world.joined("bob");
    assert_eq!(bob.read("Welcome.md"), "# Welcome\n");
}

#[test]
fn join_twice_is_no_harm() {
    let (world, [alice]) = World::with_devices();
    alice.write("a.md", "a\n");
    alice.sync();
    alice.join(&world.link("notes"), &world.token).code_in(&[0, 2]);
    assert_eq!(alice.read("a.md"), "a\n");
    alice.sync();
}

#[test]
fn a_round_ends_with_one_line_that_says_what_was_done() {
    let (_world, [alice, bob]) = World::with_devices();
    alice.write("a.md", "one\n");
    alice.write("b.md", "two\n");
    let done = alice.sync();
    for field in [
        "pushed",
        "pulled",
        "merged",
        "conflicts",
        "requests",
        "bytes_up",
        "bytes_down",
        "ms",
        "unplaced",
    ] {
        assert!(done[field].is_u64(), "`{field}` is no number in {done}");
    }
    for field in ["root", "server_root"] {
        assert!(done[field].as_str().is_some_and(|root| root.len() >= 32), "{field}: {done}");
    }
    assert_eq!((done["pushed"].as_u64(), done["pulled"].as_u64()), (Some(2), Some(0)), "{done}");
    assert!(done["bytes_up"].as_u64() > Some(0), "{done}");
    let done = bob.sync();
    assert_eq!((done["pushed"].as_u64(), done["pulled"].as_u64()), (Some(0), Some(2)), "{done}");
}

#[test]
fn one_edit_takes_one_request() {
    let (_world, [alice, bob]) = World::with_devices();
    alice.write("a.md", "one\n");
    alice.sync();
    bob.sync();
    alice.sync();
    alice.write("a.md", "one, two\n");
    let done = alice.sync();
    assert_eq!(done["requests"], 1, "{done}");
    assert_eq!(bob.sync()["requests"], 1);
    assert_eq!(bob.sync()["requests"], 1);
    assert_same(&[&alice, &bob]);
}

#[test]
fn a_round_that_recorded_a_conflict_exits_3() {
    let (_world, [alice, bob]) = World::with_devices();
    alice.write("a.md", "The sky is blue.\n");
    settle(&[&alice, &bob]);
    alice.replace("a.md", "blue", "green");
    bob.replace("a.md", "blue", "red");
    alice.try_sync().ok();
    let done = bob.try_sync().code(3).last();
    assert_eq!(done["conflicts"], 1, "{done}");
    bob.try_sync().ok();
}

#[test]
fn log_prints_one_object_a_line() {
    let (_world, [alice, bob]) = World::with_devices();
    alice.write("a.md", "one\n");
    settle(&[&alice, &bob]);
    bob.write("a.md", "one\ntwo\n");
    settle(&[&bob, &alice]);
    let ran = alice.cru(&["log", "a.md", "--json"]).ok();
    let lines: Vec<Value> =
        ran.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{}", ran.told());
    for line in &lines {
        for field in ["version", "stamp", "op", "author", "user", "device"] {
            assert!(line.get(field).is_some(), "`{field}` is missing in {line}");
        }
    }
    assert_ne!(lines[0]["version"], lines[1]["version"]);
    assert_ne!(lines[0]["device"], lines[1]["device"], "two devices wrote");
    assert_eq!(lines[0]["user"], lines[1]["user"], "one user wrote");
}

#[test]
fn show_prints_the_bytes_of_any_version_exactly() {
    let (_world, [alice]) = World::with_devices();
    let texts = ["\u{feff}first\r\n", "second, no end of line", "third\n\n\n"];
    for text in texts {
        alice.write("a.md", text);
        alice.sync();
    }
    for text in texts {
        assert!(alice.version_of("a.md", text).is_some(), "no version shows {text:?}");
    }
    let current = alice.cru(&["show", "a.md"]).ok();
    assert_eq!(current.out, texts[2].as_bytes());
}

#[test]
fn show_prints_a_deleted_note() {
    let (_world, [alice, bob]) = World::with_devices();
    alice.write("gone.md", "worth keeping\n");
    settle(&[&alice, &bob]);
    alice.remove("gone.md");
    alice.write("other.md", "other\n");
    settle(&[&alice, &bob]);
    for device in [&alice, &bob] {
        assert!(!device.has("gone.md"));
        let found = device.version_of("gone.md", "worth keeping\n");
        assert!(found.is_some(), "{}: no version shows the deleted text", device.name);
    }
}

#[test]
fn show_says_so_when_there_is_no_such_note_or_version() {
    let (_world, [alice]) = World::with_devices();
    alice.write("a.md", "a\n");
    alice.sync();
    alice.cru(&["show", "b.md"]).code(1).says("b.md");
    alice.cru(&["show", "a.md@00000000"]).code(1);
}

#[test]
fn conflicts_lists_what_a_merge_chose_against() {
    let (_world, [mut alice, bob]) = World::with_devices();
    alice.write("a.md", "Before.\n\nThe sky is blue.\n\nAfter.\n");
    settle(&[&alice, &bob]);
    assert!(alice.conflicts().is_empty());
    alice.clock_offset_ms = -60_000;
    alice.replace("a.md", "blue", "green");
    alice.sync();
    bob.replace("a.md", "blue", "red");
    bob.sync();
    alice.sync();
    assert_eq!(bob.read("a.md"), "Before.\n\nThe sky is red.\n\nAfter.\n");
    assert_same(&[&alice, &bob]);
    for device in [&alice, &bob] {
        let conflicts = device.conflicts();
        assert_eq!(conflicts.len(), 1, "{}: {conflicts:?}", device.name);
        let text = conflicts[0].to_string();
        assert!(text.contains("a.md"), "{}: {text}", device.name);
        let shown = device.cru(&["conflicts", "show", "1"]).code_in(&[0, 3]);
        assert!(shown.text().contains("green"), "the loser is not shown\n{}", shown.told());
    }
}

#[test]
fn status_and_dry_run_say_what_a_round_would_do_and_do_nothing() {
    let (_world, [alice, bob]) = World::with_devices();
    alice.write("a.md", "a\n");
    settle(&[&alice, &bob]);
    alice.write("new.md", "new\n");
    bob.write("a.md", "a, changed\n");
    bob.sync();
    let before = alice.tree();
    let status = alice.cru(&["status", "--json"]).code_in(&[0, 3]);
    assert!(status.text().contains("new.md"), "{}", status.told());
    status.objects();
    let dry = alice.cru(&["sync", "--dry-run", "--json"]).code_in(&[0, 3]);
    assert!(dry.text().contains("new.md"), "{}", dry.told());
    assert!(dry.text().contains("a.md"), "{}", dry.told());
    dry.objects();
    assert_eq!(alice.tree(), before, "a dry run changed the folder");
    let bobs = bob.sync();
    assert_eq!(bobs["pulled"], 0, "a dry run pushed: {bobs}");
    settle(&[&alice, &bob]);
}

#[test]
fn the_clock_offset_shifts_who_is_the_later_one() {
    let (_world, [mut alice, mut bob]) = World::with_devices();
    alice.write("a.md", "The sky is blue.\n");
    alice.write("b.md", "The sky is blue.\n");
    settle(&[&alice, &bob]);
    for (note, offsets, winner) in
        [("a.md", (-300_000, 0), "red"), ("b.md", (0, -300_000), "green")]
    {
        (alice.clock_offset_ms, bob.clock_offset_ms) = offsets;
        alice.replace(note, "blue", "green");
        bob.replace(note, "blue", "red");
        alice.sync();
        bob.sync();
        alice.sync();
        assert_eq!(alice.read(note), format!("The sky is {winner}.\n"));
        assert_same(&[&alice, &bob]);
    }
}

#[test]
fn a_clock_that_is_hours_ahead_is_not_believed() {
    let (_world, [alice, mut bob]) = World::with_devices();
    alice.write("a.md", "The sky is blue.\n");
    settle(&[&alice, &bob]);
    bob.clock_offset_ms = 5 * 3_600_000;
    bob.replace("a.md", "blue", "red");
    bob.sync();
    alice.sync();
    // The later edit, by an honest clock, follows the one from the future.
    alice.replace("a.md", "red", "grey");
    settle(&[&alice, &bob]);
    assert_eq!(bob.read("a.md"), "The sky is grey.\n");
    bob.clock_offset_ms = 0;
    bob.replace("a.md", "grey", "black");
    settle(&[&bob, &alice]);
    assert_eq!(alice.read("a.md"), "The sky is black.\n");
}

#[test]
fn the_folder_is_given_by_c_or_is_where_one_stands() {
    let (_world, [alice]) = World::with_devices();
    alice.write("deep/er/a.md", "a\n");
    let mut command = alice.command();
    command.current_dir(alice.file("deep/er")).args(["sync", "--json"]);
    let done = run(&mut command).ok().last();
    assert_eq!(done["pushed"], 1, "{done}");
}
