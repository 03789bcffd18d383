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

/// What `cru undo --json` says of each note, by its path.
fn undone(device: &crate::kit::Device, exit: i32) -> Vec<(String, String)> {
    let said = device.cru(&["undo", "--json"]).code(exit).last();
    let notes = said["notes"].as_array().unwrap();
    let word = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    notes.iter().map(|note| (word(&note["path"]), word(&note["what"]))).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[test]
fn undo_names_each_note_and_touches_no_other() {
    let (_world, [alice, bob]) = World::with_devices();
    for name in ["edited", "deleted", "old name", "bobs"] {
        alice.write(&format!("{name}.md"), format!("# {name}\n\nThe text of {name}.\n"));
    }
    settle(&[&alice, &bob]);
    let before = bob.tree();
    alice.replace("edited.md", "text", "new text");
    alice.remove("deleted.md");
    alice.rename("old name.md", "new name.md");
    alice.write("created.md", "something else altogether\n");
    alice.sync();
    bob.write("bobs.md", "bob's own edit, made before the round\n");
    bob.sync();
    let told = undone(&bob, 0);
    let expected = [
        ("created.md", "removed"),
        ("deleted.md", "brought_back"),
        ("edited.md", "restored"),
        ("new name.md", "restored"),
    ];
    assert_eq!(told, pairs(&expected));
    let mut wanted = before;
    wanted.insert("bobs.md".to_owned(), b"bob's own edit, made before the round\n".to_vec());
    assert_eq!(bob.tree(), wanted);
    settle(&[&bob, &alice]);
    assert_eq!(alice.tree(), wanted);
    bob.cru(&["undelete", "created.md"]).ok();
    assert_eq!(bob.read("created.md"), "something else altogether\n");
}

#[test]
fn undo_keeps_words_that_were_written_since() {
    let (_world, [alice, bob]) = World::with_devices();
    let text = "---\ntags: [one]\n---\n# Plan\n\nFirst paragraph.\n\nSecond paragraph.\n";
    alice.write("Plan.md", text);
    settle(&[&alice, &bob]);
    alice.replace("Plan.md", "First", "The very first");
    alice.replace("Plan.md", "[one]", "[one, two]");
    alice.sync();
    bob.sync();
    bob.replace("Plan.md", "Second paragraph.", "Second paragraph, by Bob.");
    assert_eq!(undone(&bob, 0), pairs(&[("Plan.md", "merged")]));
    assert_eq!(
        bob.read("Plan.md"),
        text.replace("paragraph.\n\nSecond paragraph.", "paragraph.\n\nSecond paragraph, by Bob.")
    );
}

#[test]
fn undo_leaves_a_note_that_was_edited_at_the_same_place_and_says_how_to_restore_it() {
    let (_world, [alice, bob]) = World::with_devices();
    alice.write("a.md", "We meet on Friday.\n");
    alice.write("other.md", "Another note.\n");
    settle(&[&alice, &bob]);
    alice.write("a.md", "We meet on Saturday.\n");
    alice.write("new.md", "A note of its own kind.\n");
    alice.write("other.md", "Another note, edited.\n");
    alice.sync();
    bob.sync();
    bob.write("a.md", "We meet on Sunday.\n");
    bob.write("new.md", "A note of its own kind, and what Bob made of it.\n");
    let ran = bob.cru(&["undo"]).code(3);
    for line in ["a.md: left as it is", "new.md: left as it is", "other.md: as it was before"] {
        assert!(ran.text().contains(line), "{line}\n{}", ran.told());
    }
    assert_eq!(bob.read("a.md"), "We meet on Sunday.\n");
    assert_eq!(bob.read("new.md"), "A note of its own kind, and what Bob made of it.\n");
    assert_eq!(bob.read("other.md"), "Another note.\n");
    let (_, command) = ran.text().split_once("`cru restore '").unwrap();
    let what = command.split('\'').next().unwrap();
    bob.cru(&["restore", what]).ok();
    assert_eq!(bob.read("a.md"), "We meet on Friday.\n");
}

#[test]
fn undo_leaves_alone_what_was_deleted_or_named_otherwise_since() {
    let (_world, [alice, bob]) = World::with_devices();
    alice.write("a.md", "# A\n\nThe text of a.\n");
    alice.write("b.md", "# B\n\nQuite another one.\n");
    alice.write("c.md", "# C\n\nThe third of them.\n");
    settle(&[&alice, &bob]);
    alice.replace("a.md", "text", "new text");
    alice.rename("b.md", "b2.md");
    alice.replace("c.md", "third", "last");
    alice.sync();
    bob.sync();
    bob.remove("a.md");
    bob.write("b.md", "something of Bob's under the name that is free now\n");
    bob.rename("c.md", "Bob's c.md");
    let expected = [("Bob's c.md", "merged"), ("a.md", "left"), ("b.md", "left")];
    assert_eq!(undone(&bob, 3), pairs(&expected));
    assert!(!bob.has("a.md"));
    assert_eq!(bob.read("b.md"), "something of Bob's under the name that is free now\n");
    assert_eq!(bob.read("b2.md"), "# B\n\nQuite another one.\n");
    assert_eq!(bob.read("Bob's c.md"), "# C\n\nThe third of them.\n");
    settle(&[&bob, &alice]);
}

#[test]
fn undo_after_undo_takes_back_the_round_before_and_then_nothing() {
    let (_world, [alice, bob]) = World::with_devices();
    alice.write("a.md", "one\n");
    alice.write("b.md", "one\n");
    settle(&[&alice, &bob]);
    alice.write("a.md", "two\n");
    alice.sync();
    bob.sync();
    alice.write("b.md", "two\n");
    alice.sync();
    bob.sync();
    assert_eq!(undone(&bob, 0), pairs(&[("b.md", "restored")]));
    assert_eq!(undone(&bob, 0), pairs(&[("a.md", "restored")]));
    assert_eq!((bob.read("a.md"), bob.read("b.md")), ("one\n".to_owned(), "one\n".to_owned()));
    // The round that brought both.
    assert_eq!(undone(&bob, 0), pairs(&[("a.md", "removed"), ("b.md", "removed")]));
    bob.cru(&["undo"]).code(1).says("nothing to undo");
}

#[test]
fn undo_asks_before_it_removes_most_notes_and_takes_no_rescue_back() {
    let (_world, [alice, bob]) = World::with_devices();
    let names = ["a.md", "b.md", "c.md", "d.md", "e.md", "f.md"];
    for name in names {
        alice.write(name, format!("The text of {name}.\n"));
    }
    settle(&[&alice, &bob]);
    for name in names {
        alice.remove(name);
    }
    alice.try_sync().code(16);
    alice.cru(&["sync", "--restore-missing"]).ok();
    alice.cru(&["undo"]).code(1).says("nothing to undo");
    assert_eq!(alice.tree().len(), 6);
    // The round that brought all of them to the other device is one to take back, if it is meant.
    bob.cru(&["undo"]).code(16).says("removes 6 of 6 notes; nothing was changed");
    assert_eq!(bob.tree().len(), 6);
    bob.cru(&["undo", "--allow-mass-delete"]).ok();
    assert_eq!(bob.tree().len(), 0);
}

#[test]
fn a_renamed_note_is_not_brought_back_as_if_it_were_deleted() {
    let (_world, [alice]) = World::with_devices();
    alice.write("1.md", "# One\n\nThe text of one, in words enough.\n");
    alice.write("d/2.md", "# Two\n\nThe text of two, in other words.\n");
    alice.sync();
    alice.rename("1.md", "Plan.md");
    alice.rename("d/2.md", "e/2.md");
    for _ in ["before a round", "after it"] {
        let before = alice.tree();
        alice.cru(&["undelete", "1.md"]).code(1).says("1.md is not deleted: it is called Plan.md");
        alice.cru(&["undelete", "d"]).code(1).says("d/2.md is not deleted: it is called e/2.md");
        assert_eq!(alice.tree(), before);
        alice.sync();
    }
    alice.remove("Plan.md");
    alice.remove("e/2.md");
    alice.cru(&["undelete", "Plan.md"]).ok();
    alice.cru(&["undelete", "e"]).ok();
    assert_eq!(alice.tree().len(), 2);
    alice.cru(&["undelete", "Plam.md"]).code(1).says("did you mean 'Plan.md'");
}

#[test]
fn names_that_changed_places_change_back() {
    let (_world, [alice, bob]) = World::with_devices();
    alice.write("a.md", "# A\n\nThe text of a.\n");
    alice.write("b.md", "# B\n\nQuite another one.\n");
    settle(&[&alice, &bob]);
    let before = bob.tree();
    alice.rename("a.md", "x.md");
    alice.rename("b.md", "a.md");
    alice.rename("x.md", "b.md");
    alice.sync();
    bob.sync();
    assert_ne!(bob.tree(), before);
    assert_eq!(undone(&bob, 0).len(), 2);
    assert_eq!(bob.tree(), before);
    settle(&[&bob, &alice]);
    assert_eq!(alice.tree(), before);
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

#[test]
fn what_was_sent_is_not_called_unsent_while_the_server_is_away() {
    let (mut world, [alice]) = World::with_devices();
    alice.write("a.md", "a\n");
    alice.sync();
    world.stop_server();
    let told = alice.cru(&["log", "a.md"]).ok();
    assert!(!told.text().contains("not sent yet"), "{}", told.told());
    alice.write("a.md", "a, edited\n");
    alice.try_sync().code(13);
    let told = alice.cru(&["log", "a.md"]).ok();
    assert_eq!(told.text().matches("not sent yet").count(), 1, "{}", told.told());
}

#[test]
fn a_name_with_an_at_is_a_name_and_what_is_no_version_is_said() {
    let (_world, [alice]) = World::with_devices();
    alice.write("a.md", "a\n");
    alice.write("b@abcdef12", "b\n");
    alice.sync();
    assert_eq!(alice.cru(&["show", "b@abcdef12"]).ok().text(), "b\n");
    alice.cru(&["show", "a.md@ZZZZ"]).code(2).says("no version").says("cru log 'a.md'");
}

#[test]
fn a_folder_of_the_vault_is_not_imported_into_it() {
    let (_world, [alice]) = World::with_devices();
    alice.write("sub/a.md", "a\n");
    for from in [".", "sub", ".."] {
        alice.cru(&["import", from]).code(16).says("the vault");
    }
    assert_eq!(alice.tree().len(), 1);
}

#[test]
fn a_folder_has_a_history_and_what_was_deleted_below_it_comes_back() {
    let (_world, [alice, bob]) = World::with_devices();
    for name in ["old/a.md", "old/deep/b.md", "older.md", "old/stays.md", "old/moved.md"] {
        alice.write(name, format!("{name}\n"));
    }
    settle(&[&alice, &bob]);
    alice.remove("old/a.md");
    alice.rename("old/moved.md", "moved.md");
    settle(&[&alice, &bob]);
    alice.remove("old/deep/b.md");
    alice.remove("older.md");
    settle(&[&alice, &bob]);
    let log = alice.cru(&["log", "old"]).ok();
    for part in ["old/a.md", "old/deep/b.md", "old/stays.md", "moved.md"] {
        assert!(log.text().contains(part), "{part}\n{}", log.told());
    }
    assert!(!log.text().contains("older.md"), "{}", log.told());
    bob.cru(&["undelete", "old"]).ok();
    settle(&[&bob, &alice]);
    let names: Vec<String> = alice.tree().into_keys().collect();
    assert_eq!(names, ["moved.md", "old/a.md", "old/deep/b.md", "old/stays.md"]);
    assert_eq!(alice.read("old/deep/b.md"), "old/deep/b.md\n");
}
