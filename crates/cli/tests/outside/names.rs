//! Names: odd ones travel, impossible ones are told of, dangerous ones lead nowhere.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use crate::kit::{World, assert_same, settle};

#[test]
fn odd_names_travel() {
    let (_world, [alice, bob]) = World::with_devices();
    let names = [
        "with space.md",
        "-dash.md",
        "--help.md",
        ".hidden.md",
        "#hash?query&.md",
        "100%.md",
        "a@b.md",
        "quote'\".md",
        "日本語/ノート.md",
        "🦀/🦀.md",
        "e\u{301}tude nfd.md",
        "\u{e9}tude nfc.md",
        "dots...md.md",
        "trailing space .md",
        "UPPER.MD",
        "folder.md/inside.md",
        "two\u{a0}words.md",
        "rtl \u{627}\u{644}.md",
        "semi;colon.md",
        "$HOME.md",
        "~tilde.md",
        "COM1.md",
        "aux.txt",
        "ends with dot./x.md",
        "a:b.md",
        "back\\slash.md",
        "star*.md",
        "x/conflict (conflict 1a2b3c).md",
    ];
    for name in names {
        alice.write(name, format!("this is {name}\n"));
    }
    alice.write(&format!("{}.md", "n".repeat(252)), "a name of 255 bytes\n");
    alice.write(&vec!["deep"; 40].join("/"), "forty folders down\n");
    settle(&[&alice, &bob]);
    let tree = bob.tree();
    for name in names {
        let text = tree.get(name).unwrap_or_else(|| panic!("{name:?}: {:?}", tree.keys()));
        assert_eq!(text.as_slice(), format!("this is {name}\n").as_bytes());
    }
    assert_eq!(tree.len(), names.len() + 2);
}

#[test]
fn names_that_differ_in_case_or_spelling_alone_are_all_kept() {
    let (_world, [alice, bob]) = World::with_devices();
    let names = ["Note.md", "note.md", "NOTE.md", "caf\u{e9}.md", "cafe\u{301}.md"];
    for name in names {
        alice.write(name, format!("this is {name}, {}\n", name.escape_unicode()));
    }
    alice.try_sync().code_in(&[0, 3]);
    bob.try_sync().code_in(&[0, 3]);
    settle(&[&alice, &bob]);
    let texts: Vec<Vec<u8>> = bob.tree().into_values().collect();
    for name in names {
        let text = format!("this is {name}, {}\n", name.escape_unicode()).into_bytes();
        assert!(texts.contains(&text), "{name:?} was dropped: {:?}", bob.tree().keys());
    }
}

#[test]
fn a_change_of_case_alone_is_a_rename() {
    let (_world, [alice, bob]) = World::with_devices();
    alice.write("readme.md", "text\n");
    settle(&[&alice, &bob]);
    alice.rename("readme.md", "README.md");
    settle(&[&alice, &bob]);
    assert_eq!(bob.tree().into_keys().collect::<Vec<_>>(), ["README.md"]);
}

#[test]
fn a_name_that_cannot_travel_is_told_of_and_never_a_deletion() {
    let (_world, [alice, bob]) = World::with_devices();
    alice.write("good.md", "good\n");
    settle(&[&alice, &bob]);
    let odd = OsStr::from_bytes(b"caf\xe9.md");
    fs::write(alice.dir.join(odd), "latin\n").unwrap();
    alice.write("line\nbreak.md", "a control character\n");
    alice.write("good.md", "good, edited\n");
    let ran = alice.try_sync().code(3);
    assert_eq!(ran.last()["pushed"], 1, "{}", ran.told());
    let status = alice.cru(&["status", "--json"]).code_in(&[0, 3]);
    assert!(status.text().contains("caf"), "not told of\n{}", status.told());
    assert!(status.text().contains("break.md"), "not told of\n{}", status.told());
    bob.sync();
    assert_eq!(bob.tree().len(), 1, "{:?}", bob.tree().keys());
    assert_eq!(bob.read("good.md"), "good, edited\n");
    assert_eq!(fs::read(alice.dir.join(odd)).unwrap(), b"latin\n");
}

#[test]
fn what_is_ignored_stays_where_it_is_on_both_sides() {
    let (_world, [alice, bob]) = World::with_devices();
    alice.write("a.md", "a\n");
    for name in
        [".git/config", "sub/.git/HEAD", ".DS_Store", "Thumbs.db", ".obsidian/workspace.json"]
    {
        alice.write(name, "not ours\n");
    }
    alice.write("sub/.crucible/sync.db", "not ours either\n");
    alice.write(".obsidian/app.json", "{}\n");
    settle_quietly(&alice, &bob);
    let names: Vec<String> = bob.tree().into_keys().collect();
    assert_eq!(names, [".obsidian/app.json", "a.md"]);
    assert!(alice.has(".git/config") && alice.has("sub/.git/HEAD"));
}

#[track_caller]
fn settle_quietly(alice: &crate::kit::Device, bob: &crate::kit::Device) {
    for device in [alice, bob, alice, bob] {
        device.try_sync().code_in(&[0, 3]);
    }
}

#[test]
fn cruignore_is_obeyed_and_travels() {
    let (_world, [alice, bob]) = World::with_devices();
    alice.write(".cruignore", "*.bak\n/Private/\n!kept.bak\n");
    alice.write("a.md", "a\n");
    alice.write("a.bak", "no\n");
    alice.write("kept.bak", "yes\n");
    alice.write("Private/secret.md", "no\n");
    alice.write("Shared/Private/open.md", "yes\n");
    settle_quietly(&alice, &bob);
    let names: Vec<String> = bob.tree().into_keys().collect();
    assert_eq!(names, [".cruignore", "Shared/Private/open.md", "a.md", "kept.bak"]);
    bob.write("b.bak", "no\n");
    settle_quietly(&alice, &bob);
    assert!(!alice.has("b.bak"), "the rules did not hold on the other side");
}

#[test]
fn a_symlink_is_not_followed_and_told_of() {
    let (world, [alice, bob]) = World::with_devices();
    let outside = world.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret.md"), "secret\n").unwrap();
    alice.write("a.md", "a\n");
    symlink(outside.join("secret.md"), alice.file("link.md")).unwrap();
    symlink(&outside, alice.file("folder")).unwrap();
    symlink("/nowhere/at/all", alice.file("broken.md")).unwrap();
    let ran = alice.try_sync().code(3);
    let status = alice.cru(&["status", "--json"]).code_in(&[0, 3]);
    assert!(status.text().contains("link.md"), "not told of\n{}\n{}", status.told(), ran.told());
    bob.sync();
    assert_eq!(bob.tree().into_keys().collect::<Vec<_>>(), ["a.md"]);
    assert!(fs::symlink_metadata(alice.file("link.md")).unwrap().is_symlink());
}

#[test]
fn a_note_never_lands_outside_through_a_symlink() {
    let (world, [alice, bob]) = World::with_devices();
    let outside = world.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("b.md"), "not yours\n").unwrap();
    bob.sync();
    symlink(&outside, bob.file("folder")).unwrap();
    symlink(outside.join("b.md"), bob.file("b.md")).unwrap();
    alice.write("folder/a.md", "from alice\n");
    alice.write("b.md", "from alice\n");
    alice.sync();
    bob.try_sync().code_in(&[0, 1, 3]);
    let listed: Vec<_> =
        fs::read_dir(&outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(listed, ["b.md"], "a note landed outside");
    assert_eq!(fs::read(outside.join("b.md")).unwrap(), b"not yours\n");
    fs::remove_file(bob.file("folder")).unwrap();
    fs::remove_file(bob.file("b.md")).unwrap();
    settle(&[&alice, &bob]);
    assert_eq!(bob.read("folder/a.md"), "from alice\n");
}

#[test]
fn a_folder_swapped_for_a_symlink_is_not_a_deletion_of_what_was_in_it() {
    let (world, [alice, bob]) = World::with_devices();
    alice.write("folder/a.md", "a\n");
    alice.write("folder/b.md", "b\n");
    alice.write("c.md", "c\n");
    settle(&[&alice, &bob]);
    let moved = world.path("moved");
    fs::rename(alice.file("folder"), &moved).unwrap();
    symlink(&moved, alice.file("folder")).unwrap();
    alice.try_sync().code_in(&[3, 16]);
    bob.sync();
    assert_eq!(bob.tree().len(), 3, "{:?}", bob.tree().keys());
}

#[test]
fn a_pipe_or_a_socket_in_the_folder_does_not_stop_a_round() {
    let (_world, [alice, bob]) = World::with_devices();
    alice.write("a.md", "a\n");
    let made = std::process::Command::new("mkfifo").arg(alice.file("pipe.md")).status().unwrap();
    assert!(made.success());
    let _socket = std::os::unix::net::UnixListener::bind(alice.file("socket.md")).unwrap();
    alice.try_sync().code_in(&[0, 3]);
    bob.sync();
    assert_eq!(bob.tree().into_keys().collect::<Vec<_>>(), ["a.md"]);
}

#[test]
fn an_empty_folder_and_a_deep_one_do_no_harm() {
    let (_world, [alice, bob]) = World::with_devices();
    fs::create_dir_all(alice.file("empty/er")).unwrap();
    alice.write("a.md", "a\n");
    settle(&[&alice, &bob]);
    assert!(alice.file("empty/er").is_dir(), "an empty folder of a person was removed");
    assert_same(&[&alice, &bob]);
}
