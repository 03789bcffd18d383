//! Going back: diff, restore, undelete, undo.

use crate::kit::{World, settle};

#[test]
fn a_restored_version_is_a_new_version_and_travels() {
    let (_world, [alice, bob]) = World::with_devices();
    for text in ["one\n", "two\n", "three\n"] {
        alice.write("a.md", text);
        alice.sync();
    }
    let first = alice.version_of("a.md", "one\n").unwrap();
    alice.cru(&["restore", &format!("a.md@{first}")]).ok();
    assert_eq!(alice.read("a.md"), "one\n");
    settle(&[&alice, &bob]);
    assert_eq!(bob.read("a.md"), "one\n");
    assert_eq!(bob.log("a.md").len(), 4, "the way there is kept");
}

#[test]
fn a_deleted_note_is_undeleted_everywhere() {
    let (_world, [alice, bob]) = World::with_devices();
    alice.write("a.md", "text\n");
    alice.write("b.md", "b\n");
    settle(&[&alice, &bob]);
    alice.remove("a.md");
    settle(&[&alice, &bob]);
    assert!(!bob.has("a.md"));
    bob.cru(&["undelete", "a.md"]).ok();
    assert_eq!(bob.read("a.md"), "text\n");
    settle(&[&bob, &alice]);
    assert_eq!(alice.read("a.md"), "text\n");
}

#[test]
fn undo_takes_the_last_round_back() {
    let (_world, [alice, bob]) = World::with_devices();
    alice.write("a.md", "before\n");
    settle(&[&alice, &bob]);
    alice.write("a.md", "after\n");
    alice.sync();
    bob.sync();
    assert_eq!(bob.read("a.md"), "after\n");
    bob.cru(&["undo"]).code_in(&[0, 3]);
    assert_eq!(bob.read("a.md"), "before\n");
    settle(&[&bob, &alice]);
    assert_eq!(alice.read("a.md"), "before\n");
}

#[test]
fn diff_shows_what_changed_since_the_last_round_and_between_versions() {
    let (_world, [alice]) = World::with_devices();
    alice.write("a.md", "same\nold\n");
    alice.sync();
    alice.write("a.md", "same\nnew\n");
    let now = alice.cru(&["diff", "a.md"]).code_in(&[0, 1, 3]);
    for line in ["-old", "+new"] {
        assert!(now.text().contains(line), "{line:?} is missing\n{}", now.told());
    }
    alice.sync();
    let old = alice.version_of("a.md", "same\nold\n").unwrap();
    let since = alice.cru(&["diff", &format!("a.md@{old}")]).code_in(&[0, 1, 3]);
    assert!(since.text().contains("-old") && since.text().contains("+new"), "{}", since.told());
}

#[test]
fn the_log_of_the_whole_vault_names_every_note() {
    let (_world, [alice, bob]) = World::with_devices();
    alice.write("a.md", "# Apples\n\nGrown on the south wall.\n");
    bob.write("folder/b.md", "b\n");
    settle(&[&alice, &bob]);
    alice.remove("a.md");
    alice.write("c.md", "- quite another thing altogether\n");
    settle(&[&alice, &bob]);
    let ran = bob.cru(&["log", "--json"]).ok();
    for name in ["a.md", "folder/b.md", "c.md"] {
        assert!(ran.text().contains(name), "{name} is not in the log\n{}", ran.told());
    }
    assert!(ran.objects().len() >= 4, "{}", ran.told());
}

#[test]
fn the_log_follows_a_rename() {
    let (_world, [alice, bob]) = World::with_devices();
    alice.write("old.md", "one\n");
    settle(&[&alice, &bob]);
    alice.rename("old.md", "new.md");
    settle(&[&alice, &bob]);
    alice.write("new.md", "one\ntwo\n");
    settle(&[&alice, &bob]);
    assert_eq!(bob.log("new.md").len(), 3, "creation, rename, edit: {:?}", bob.log("new.md"));
    assert!(bob.version_of("new.md", "one\n").is_some());
}

#[test]
fn a_file_that_vanished_by_a_round_is_in_the_trash() {
    let (_world, [alice, bob]) = World::with_devices();
    alice.write("a.md", "text of the vanished\n");
    alice.write("b.md", "b\n");
    settle(&[&alice, &bob]);
    alice.remove("a.md");
    settle(&[&alice, &bob]);
    let trash = crate::kit::Device::new("trash", bob.home.clone(), bob.dir.join(".crucible/trash"));
    let kept: Vec<Vec<u8>> = trash.tree().into_values().collect();
    assert!(kept.contains(&b"text of the vanished\n".to_vec()), "{:?}", trash.tree().keys());
}
