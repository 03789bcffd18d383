//! No wiping: a round that would delete or empty too much stops and asks, whichever way it goes.

use std::fs;

use crate::kit::{Device, World, assert_same, settle};

fn filled(count: usize) -> (World, [Device; 2]) {
    let (world, [alice, bob]) = World::with_devices();
    for at in 0..count {
        alice.write(&format!("note-{at}.md"), format!("text of note {at}\n"));
    }
    settle(&[&alice, &bob]);
    (world, [alice, bob])
}

#[test]
fn an_emptied_folder_deletes_nothing_and_exits_16() {
    let (_world, [alice, bob]) = filled(8);
    for at in 0..8 {
        alice.remove(&format!("note-{at}.md"));
    }
    let before = alice.tree();
    alice.try_sync().code(16).says("allow-mass-delete").says("restore-missing");
    assert_eq!(alice.tree(), before, "a refused round changed the folder");
    bob.sync();
    assert_eq!(bob.tree().len(), 8, "a refused round deleted on the other side");
}

#[test]
fn notes_that_were_emptied_count_as_deleted() {
    let (_world, [alice, bob]) = filled(8);
    for at in 0..8 {
        alice.write(&format!("note-{at}.md"), "");
    }
    alice.try_sync().code(16);
    bob.sync();
    assert_eq!(bob.read("note-3.md"), "text of note 3\n");
}

#[test]
fn allow_mass_delete_goes_through_with_it() {
    let (_world, [alice, bob]) = filled(8);
    for at in 0..7 {
        alice.remove(&format!("note-{at}.md"));
    }
    alice.try_sync().code(16);
    alice.cru(&["sync", "--json", "--allow-mass-delete"]).ok();
    // The other side is asked as well: to it, it is a round that deletes almost everything.
    bob.try_sync().code(16);
    assert_eq!(bob.tree().len(), 8);
    bob.cru(&["sync", "--json", "--allow-mass-delete"]).ok();
    assert_same(&[&alice, &bob]);
    assert_eq!(alice.tree().len(), 1);
}

#[test]
fn restore_missing_brings_the_files_back() {
    let (_world, [alice, bob]) = filled(8);
    let before = alice.tree();
    for at in 0..8 {
        alice.remove(&format!("note-{at}.md"));
    }
    alice.write("new.md", "new\n");
    alice.try_sync().code(16);
    alice.cru(&["sync", "--json", "--restore-missing"]).code_in(&[0, 3]);
    for (path, bytes) in &before {
        assert_eq!(alice.tree().get(path), Some(bytes), "{path} did not come back");
    }
    settle(&[&alice, &bob]);
    assert_eq!(bob.read("new.md"), "new\n");
}

#[test]
fn restore_missing_brings_emptied_notes_back() {
    let (_world, [alice, bob]) = filled(8);
    for at in 0..8 {
        alice.write(&format!("note-{at}.md"), "");
    }
    alice.try_sync().code(16);
    alice.cru(&["sync", "--json", "--restore-missing"]).code_in(&[0, 3]);
    settle(&[&alice, &bob]);
    assert_eq!(bob.read("note-3.md"), "text of note 3\n");
}

#[test]
fn what_was_deleted_elsewhere_stays_when_asked_and_comes_back_there() {
    let (_world, [alice, bob]) = filled(8);
    for at in 0..8 {
        alice.remove(&format!("note-{at}.md"));
    }
    alice.cru(&["sync", "--json", "--allow-mass-delete"]).ok();
    bob.try_sync().code(16).says("allow-mass-delete").says("restore-missing");
    assert_eq!(bob.tree().len(), 8, "a refused round changed the folder");
    let before = bob.tree();
    bob.cru(&["sync", "--json", "--restore-missing"]).ok();
    assert_eq!(bob.tree(), before, "a file left the folder or changed");
    settle(&[&alice, &bob]);
    assert_eq!(alice.tree(), before, "what was deleted there did not come back");
}

#[test]
fn what_was_let_go_on_the_way_in_can_be_brought_back() {
    let (_world, [alice, bob]) = filled(8);
    for at in 0..8 {
        alice.remove(&format!("note-{at}.md"));
    }
    alice.cru(&["sync", "--json", "--allow-mass-delete"]).ok();
    bob.cru(&["sync", "--json", "--allow-mass-delete"]).code_in(&[0, 3]);
    bob.cru(&["undelete", "note-3.md"]).ok();
    settle(&[&bob, &alice]);
    assert_eq!(alice.read("note-3.md"), "text of note 3\n");
}

#[test]
fn an_edit_made_meanwhile_still_travels_after_a_refusal() {
    let (_world, [alice, bob]) = filled(8);
    for at in 0..7 {
        alice.remove(&format!("note-{at}.md"));
    }
    alice.write("note-7.md", "text of note 7, edited\n");
    alice.try_sync().code(16);
    alice.cru(&["sync", "--json", "--restore-missing"]).code_in(&[0, 3]);
    settle(&[&alice, &bob]);
    assert_eq!(bob.read("note-7.md"), "text of note 7, edited\n");
}

#[test]
fn a_folder_that_is_gone_deletes_nothing() {
    let (world, [alice, bob]) = filled(8);
    let aside = world.path("aside");
    fs::rename(&alice.dir, &aside).unwrap();
    alice.try_sync().code_in(&[10, 16]);
    fs::create_dir(&alice.dir).unwrap();
    alice.try_sync().code(10);
    bob.sync();
    assert_eq!(bob.tree().len(), 8);
    fs::remove_dir(&alice.dir).unwrap();
    fs::rename(&aside, &alice.dir).unwrap();
    settle(&[&alice, &bob]);
}

#[test]
fn renaming_everything_is_no_deletion() {
    let (_world, [alice, bob]) = filled(8);
    for at in 0..8 {
        alice.rename(&format!("note-{at}.md"), &format!("Folder/Note {at}.md"));
    }
    alice.try_sync().ok();
    bob.try_sync().ok();
    assert_same(&[&alice, &bob]);
    assert_eq!(bob.read("Folder/Note 5.md"), "text of note 5\n");
}

#[test]
fn ignoring_everything_is_no_deletion() {
    let (_world, [alice, bob]) = filled(8);
    alice.write(".cruignore", "*.md\n");
    alice.try_sync().code_in(&[0, 3]);
    bob.try_sync().code_in(&[0, 3]);
    assert_eq!(bob.tree().len(), 9, "the notes and the rules: {:?}", bob.tree().keys());
    assert_eq!(alice.tree().len(), 9);
}

#[test]
fn a_few_deletions_go_through_unasked() {
    let (_world, [alice, bob]) = filled(8);
    for at in 0..3 {
        alice.remove(&format!("note-{at}.md"));
    }
    alice.try_sync().ok();
    bob.try_sync().ok();
    assert_same(&[&alice, &bob]);
    assert_eq!(bob.tree().len(), 5);
}

#[test]
fn a_dry_run_and_status_say_that_a_round_would_be_refused() {
    let (_world, [alice, bob]) = filled(30);
    for at in 0..30 {
        alice.remove(&format!("note-{at}.md"));
    }
    let planned = alice.cru(&["sync", "--dry-run"]).ok();
    for part in
        ["would be refused: 30 of 30 notes", "--restore-missing", "30 deleted there", "and 20"]
    {
        assert!(planned.text().contains(part), "{part}\n{}", planned.told());
    }
    assert_eq!(planned.text().matches("note-").count(), 10, "{}", planned.told());
    let json = alice.cru(&["sync", "--dry-run", "--json"]).ok();
    assert_eq!(json.text().lines().count(), 31, "{}", json.told());
    let said = json.last()["refused"]["message"].to_string();
    assert!(said.contains("30 of 30 notes"), "{said}");
    let status = alice.cru(&["status"]).code(3);
    assert!(status.text().contains("would be refused: 30 of 30"), "{}", status.told());
    assert!(!status.err.contains("sends what is marked"), "{}", status.told());
    alice.cru(&["sync", "--json", "--allow-mass-delete"]).ok();
    let planned = bob.cru(&["sync", "--dry-run"]).ok();
    assert!(planned.text().contains("would be refused: 30 of 30"), "{}", planned.told());
    let meant = bob.cru(&["sync", "--dry-run", "--allow-mass-delete"]).ok();
    assert!(!meant.text().contains("refused"), "{}", meant.told());
}
