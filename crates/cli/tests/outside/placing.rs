//! Something stands where a note should: the note comes all the same, and what stood there stays.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::kit::{Device, World, settle};

/// The one file that stands aside from `name`.
fn aside(device: &Device, stem: &str) -> String {
    let begins = format!("{stem} (conflict ");
    let found: Vec<_> =
        device.tree().into_keys().filter(|name| name.starts_with(&begins)).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

#[test]
fn an_empty_folder_gives_way_to_a_note_of_its_name() {
    let (_world, [alice, bob]) = World::with_devices();
    fs::create_dir_all(bob.file("x.md/deep/er")).unwrap();
    alice.write("x.md", "a note\n");
    alice.sync();
    let done = bob.try_sync().ok().last();
    assert_eq!(done["unplaced"], 0, "{done}");
    assert_eq!(bob.read("x.md"), "a note\n");
    settle(&[&alice, &bob]);
}

#[test]
fn what_is_never_synced_keeps_its_name_and_is_told_of() {
    for shape in ["a folder of git", "ignored", "a pipe"] {
        let (_world, [alice, bob]) = World::with_devices();
        match shape {
            "a folder of git" => bob.write("x.md/.git/config", "of bob alone\n"),
            "ignored" => {
                bob.write("x.md/own.log", "of bob alone\n");
                bob.write(".cruignore", "*.log\n");
            }
            _ => {
                let made = Command::new("mkfifo").arg(bob.file("x.md")).status().unwrap();
                assert!(made.success());
            }
        }
        alice.write("x.md", "a note\n");
        alice.sync();
        let told = bob.cru(&["sync"]).code_in(&[0, 3]).told();
        assert!(told.contains("x.md stands here as"), "{told}");
        assert!(told.contains("move that away"), "{told}");
        let name = aside(&bob, "x");
        assert_eq!(bob.read(&name), "a note\n", "{shape}");
        // Nothing of it is asked or sent again, and every command says where the note is.
        let done = bob.sync();
        assert_eq!((&done["requests"], &done["unplaced"]), (&1.into(), &0.into()), "{done}");
        for command in ["status", "doctor"] {
            let told = bob.cru(&[command]).code_in(&[0, 3]).told();
            assert!(told.contains(&name), "{told}");
        }
        bob.replace(&name, "a note", "a better note");
        bob.sync();
        alice.sync();
        assert_eq!(alice.read("x.md"), "a better note\n", "{shape}");
        match shape {
            "a folder of git" => assert_eq!(bob.read("x.md/.git/config"), "of bob alone\n"),
            "ignored" => assert_eq!(bob.read("x.md/own.log"), "of bob alone\n"),
            _ => assert!(!bob.file("x.md").is_file()),
        }
        // What stood there is gone: the note comes to its name.
        match shape {
            "a pipe" => bob.remove("x.md"),
            _ => fs::remove_dir_all(bob.file("x.md")).unwrap(),
        }
        settle(&[&bob, &alice]);
        assert_eq!(bob.read("x.md"), "a better note\n", "{shape}");
    }
}

#[test]
fn a_note_moved_below_its_own_former_name_arrives_and_comes_back() {
    let (_world, [alice, bob]) = World::with_devices();
    alice.write("a.md", "a note\n");
    settle(&[&alice, &bob]);
    alice.rename("a.md", "t");
    alice.rename("t", "a.md/b.md");
    alice.sync();
    bob.try_sync().ok();
    assert_eq!(bob.tree().into_keys().collect::<Vec<_>>(), ["a.md/b.md"]);
    settle(&[&alice, &bob]);
    bob.rename("a.md/b.md", "t");
    fs::remove_dir(bob.file("a.md")).unwrap();
    bob.rename("t", "a.md");
    bob.sync();
    alice.try_sync().ok();
    assert_eq!(alice.tree().into_keys().collect::<Vec<_>>(), ["a.md"]);
    settle(&[&alice, &bob]);
    assert_eq!(alice.log("a.md").iter().filter(|line| line["op"] == "delete").count(), 0);
}

#[test]
fn a_file_that_cannot_be_written_is_counted_and_costs_one_request() {
    let (_world, [alice, bob]) = World::with_devices();
    alice.write("a.md", "one\n");
    settle(&[&alice, &bob]);
    fs::set_permissions(bob.file("a.md"), fs::Permissions::from_mode(0o444)).unwrap();
    alice.write("a.md", "two\n");
    alice.sync();
    for _ in 0..3 {
        let done = bob.try_sync().code(3).last();
        assert_eq!((&done["requests"], &done["unplaced"]), (&1.into(), &1.into()), "{done}");
        assert_eq!(done["root"], done["server_root"], "{done}");
    }
    bob.cru(&["sync"]).code(3).says("a.md").says("make it writable");
    let told = bob.cru(&["status"]).code(3).told();
    assert!(told.contains("1 file is not yet as the vault has it"), "{told}");
    fs::set_permissions(bob.file("a.md"), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(bob.try_sync().ok().last()["unplaced"], 0);
    settle(&[&alice, &bob]);
}
