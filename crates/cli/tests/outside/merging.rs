//! Edits made apart: what merges without a trace, what is recorded, and that nothing is lost.

use std::fs;
use std::io::Write;

use crate::kit::{Cut, Device, World, assert_same, finish, settle};

fn apart(base: &str, ours: &str, theirs: &str) -> (World, [Device; 2]) {
    let (world, [alice, bob]) = World::with_devices();
    alice.write("note.md", base);
    settle(&[&alice, &bob]);
    alice.write("note.md", ours);
    bob.write("note.md", theirs);
    (world, [alice, bob])
}

/// Both sides edit, both sync; the merge is clean and reads so on both.
#[track_caller]
fn clean(base: &str, ours: &str, theirs: &str, merged: &str) {
    let (_world, [alice, bob]) = apart(base, ours, theirs);
    alice.try_sync().ok();
    let done = bob.try_sync().ok().last();
    assert_eq!(done["conflicts"], 0, "{done}");
    alice.try_sync().ok();
    assert_eq!(alice.read("note.md"), merged);
    assert_same(&[&alice, &bob]);
    settle(&[&alice, &bob]);
    assert!(alice.conflicts().is_empty());
}

#[test]
fn different_sentences_of_one_paragraph_merge() {
    clean(
        "The fox runs. The dog sleeps. The cat waits.\n",
        "The red fox runs. The dog sleeps. The cat waits.\n",
        "The fox runs. The dog sleeps. The cat waits no longer.\n",
        "The red fox runs. The dog sleeps. The cat waits no longer.\n",
    );
}

#[test]
fn different_keys_of_one_head_merge() {
    clean(
        "---\ntitle: A\nmood: good\n---\n\nText.\n",
        "---\ntitle: B\nmood: good\n---\n\nText.\n",
        "---\ntitle: A\nmood: bad\n---\n\nText.\n",
        "---\ntitle: B\nmood: bad\n---\n\nText.\n",
    );
}

#[test]
fn tags_added_on_both_sides_are_both_there() {
    let (_world, [alice, bob]) = apart(
        "---\ntags: [one, two]\n---\n\nText.\n",
        "---\ntags: [one, two, three]\n---\n\nText.\n",
        "---\ntags: [one, four]\n---\n\nText.\n",
    );
    alice.sync();
    bob.try_sync().ok();
    alice.sync();
    assert_same(&[&alice, &bob]);
    let text = alice.read("note.md");
    for tag in ["one", "three", "four"] {
        assert!(text.contains(tag), "{tag} is lost: {text}");
    }
    assert!(!text.contains("two"), "a tag nobody kept: {text}");
}

#[test]
fn lines_added_next_to_each_other_in_a_list_merge() {
    let (_world, [alice, bob]) =
        apart("- one\n- two\n", "- one\n- two\n- three\n", "- zero\n- one\n- two\n");
    alice.sync();
    bob.try_sync().ok();
    alice.sync();
    assert_eq!(bob.read("note.md"), "- zero\n- one\n- two\n- three\n");
    assert_same(&[&alice, &bob]);
}

#[test]
fn a_rename_and_an_edit_merge_without_a_trace() {
    let (_world, [alice, bob]) = World::with_devices();
    alice.write("old.md", "# Title\n\nSome text.\n");
    settle(&[&alice, &bob]);
    alice.rename("old.md", "folder/new.md");
    bob.write("old.md", "# Title\n\nSome text, edited.\n");
    alice.try_sync().ok();
    bob.try_sync().ok();
    alice.try_sync().ok();
    assert_same(&[&alice, &bob]);
    assert_eq!(alice.read("folder/new.md"), "# Title\n\nSome text, edited.\n");
    assert_eq!(alice.tree().len(), 1, "{:?}", alice.tree().keys());
}

#[test]
fn a_renamed_folder_and_an_edit_inside_it_merge_without_a_trace() {
    let (_world, [alice, bob]) = World::with_devices();
    for at in 0..20 {
        alice.write(&format!("old/{at}.md"), format!("Text of {at}.\n"));
    }
    settle(&[&alice, &bob]);
    alice.rename("old", "new");
    bob.write("old/3.md", "Text of 3, edited.\n");
    bob.write("old/added.md", "Added.\n");
    alice.sync();
    bob.sync();
    settle(&[&alice, &bob]);
    assert_eq!(alice.read("new/3.md"), "Text of 3, edited.\n");
    let texts: Vec<Vec<u8>> = alice.tree().into_values().collect();
    assert_eq!(texts.len(), 21, "{:?}", alice.tree().keys());
    assert!(texts.contains(&b"Added.\n".to_vec()));
}

#[test]
fn an_edit_beats_a_deletion() {
    let (_world, [alice, bob]) = World::with_devices();
    alice.write("a.md", "text\n");
    alice.write("b.md", "text\n");
    alice.write("c.md", "other\n");
    settle(&[&alice, &bob]);
    alice.remove("a.md");
    bob.write("a.md", "text, edited\n");
    alice.write("b.md", "text, edited\n");
    bob.remove("b.md");
    alice.sync();
    bob.sync();
    settle(&[&alice, &bob]);
    assert_eq!(alice.read("a.md"), "text, edited\n");
    assert_eq!(alice.read("b.md"), "text, edited\n");
}

#[test]
fn the_same_new_note_on_both_devices_is_one_note() {
    let (_world, [alice, bob]) = World::with_devices();
    alice.write("Daily/2026-01-01.md", "# Thursday\n\n- from the phone\n");
    bob.write("Daily/2026-01-01.md", "# Thursday\n\n- from the desk\n");
    alice.sync();
    bob.sync();
    settle(&[&alice, &bob]);
    assert_eq!(alice.tree().len(), 1, "{:?}", alice.tree().keys());
    let text = alice.read("Daily/2026-01-01.md");
    assert_eq!(text.matches("# Thursday").count(), 1, "a block came twice: {text}");
    for part in ["from the phone", "from the desk"] {
        assert!(text.contains(part), "{part:?} is lost: {text}");
    }
}

#[test]
fn the_same_edit_on_both_devices_is_one_edit() {
    clean("One.\n", "One. Two.\n", "One. Two.\n", "One. Two.\n");
}

#[test]
fn a_replaced_image_keeps_the_later_and_the_history_of_both() {
    let (_world, [mut alice, bob]) = World::with_devices();
    let picture = |seed: u8| vec![0x89, b'P', b'N', b'G', 0, seed, 0xff, seed];
    alice.write("p.png", picture(0));
    settle(&[&alice, &bob]);
    alice.clock_offset_ms = -60_000;
    alice.write("p.png", picture(1));
    bob.write("p.png", picture(2));
    alice.sync();
    bob.try_sync().code(3);
    alice.sync();
    assert_same(&[&alice, &bob]);
    assert_eq!(alice.tree()["p.png"], picture(2));
    let versions = alice.log("p.png");
    let shown = versions.iter().map(|version| {
        let id = version["version"].as_str().unwrap();
        alice.cru(&["show", &format!("p.png@{id}")]).ok().out
    });
    let shown: Vec<Vec<u8>> = shown.collect();
    assert!(shown.contains(&picture(1)), "the losing picture is gone: {versions:?}");
}

/// A conflict over one word; alice is the earlier one and loses.
fn conflict() -> (World, [Device; 2]) {
    let (world, [mut alice, bob]) = World::with_devices();
    alice.write("note.md", "Before.\n\nThe sky is blue.\n\nAfter.\n");
    settle(&[&alice, &bob]);
    alice.clock_offset_ms = -60_000;
    alice.replace("note.md", "blue", "green");
    bob.replace("note.md", "blue", "red");
    alice.sync();
    bob.try_sync().code(3);
    alice.sync();
    assert_same(&[&alice, &bob]);
    assert_eq!(alice.read("note.md"), "Before.\n\nThe sky is red.\n\nAfter.\n");
    alice.clock_offset_ms = 0;
    (world, [alice, bob])
}

#[test]
fn taking_the_other_side_of_a_conflict_brings_the_loser_back_everywhere() {
    let (_world, [alice, bob]) = conflict();
    // `theirs` is the side that lost; the file holds the winner.
    bob.cru(&["conflicts", "take", "1", "theirs"]).ok();
    assert_eq!(bob.read("note.md"), "Before.\n\nThe sky is green.\n\nAfter.\n");
    settle(&[&bob, &alice]);
    assert_eq!(alice.read("note.md"), "Before.\n\nThe sky is green.\n\nAfter.\n");
    assert!(alice.conflicts().is_empty(), "settled on one device, settled on all");
    assert!(bob.conflicts().is_empty());
}

#[test]
fn taking_both_sides_of_a_conflict_keeps_both() {
    let (_world, [alice, bob]) = conflict();
    alice.cru(&["conflicts", "take", "1", "both"]).ok();
    let text = alice.read("note.md");
    assert!(text.contains("green") && text.contains("red"), "{text}");
    assert!(!text.contains("<<<") && !text.contains(">>>"), "a marker in a note: {text}");
    settle(&[&alice, &bob]);
}

#[test]
fn taking_ours_settles_a_conflict_as_it_is() {
    let (_world, [alice, bob]) = conflict();
    alice.cru(&["conflicts", "take", "1", "ours"]).ok();
    assert_eq!(alice.read("note.md"), "Before.\n\nThe sky is red.\n\nAfter.\n");
    settle(&[&alice, &bob]);
    assert!(bob.conflicts().is_empty());
}

#[test]
fn a_loser_can_be_taken_after_the_note_was_edited_elsewhere() {
    let (_world, [alice, bob]) = conflict();
    alice.replace("note.md", "Before.", "Long before.");
    alice.replace("note.md", "After.", "After all.");
    alice.sync();
    alice.cru(&["conflicts", "take", "1", "theirs"]).ok();
    assert_eq!(alice.read("note.md"), "Long before.\n\nThe sky is green.\n\nAfter all.\n");
    settle(&[&alice, &bob]);
}

#[test]
fn nothing_of_ours_is_in_any_note() {
    let (_world, [alice, _bob]) = conflict();
    let text = alice.read("note.md");
    for mark in ["<<<<", "====", ">>>>", "crucible", "conflict"] {
        assert!(!text.to_lowercase().contains(mark), "{mark:?} is in {text}");
    }
    assert_eq!(alice.tree().len(), 1, "{:?}", alice.tree().keys());
}

#[test]
fn three_devices_on_one_word_agree_and_keep_every_loser() {
    let (_world, [alice, bob, carol]) = World::with_devices();
    alice.write("note.md", "The sky is blue.\n");
    settle(&[&alice, &bob, &carol]);
    for (device, colour) in [(&alice, "green"), (&bob, "red"), (&carol, "black")] {
        device.replace("note.md", "blue", colour);
    }
    for device in [&alice, &bob, &carol] {
        device.sync();
    }
    settle(&[&alice, &bob, &carol]);
    let text = alice.read("note.md");
    let told: String = (1..=alice.conflicts().len())
        .map(|at| {
            let shown = alice.cru(&["conflicts", "show", &at.to_string()]).code_in(&[0, 3]);
            shown.text().to_owned()
        })
        .collect();
    for colour in ["green", "red", "black"] {
        let kept = text.contains(colour) || told.contains(colour);
        assert!(kept, "{colour} is neither in the note ({text}) nor in a conflict ({told})");
    }
}

#[test]
fn first_contact_of_two_filled_folders_keeps_both() {
    let world = World::new();
    let (alice, bob) = (world.device("alice"), world.device("bob"));
    for (device, text) in [(&alice, "Alice's text.\n"), (&bob, "Bob's text.\n")] {
        device.write("same.md", "The same on both.\n");
        device.write("differs.md", format!("# Heading\n\n{text}"));
        device.write(&format!("only-{}.md", device.name), text);
    }
    alice.join(&world.link("notes"), &world.token).ok();
    bob.join(&world.link("notes"), &world.token).code_in(&[0, 3]);
    settle(&[&alice, &bob]);
    let names: Vec<String> = alice.tree().into_keys().collect();
    assert_eq!(names, ["differs.md", "only-alice.md", "only-bob.md", "same.md"]);
    let text = alice.read("differs.md");
    assert_eq!(text.matches("# Heading").count(), 1, "{text}");
    for part in ["Alice's text.", "Bob's text."] {
        assert!(text.contains(part), "{part:?} is lost: {text}");
    }
    assert_eq!(alice.log("same.md").len(), 1, "equal bytes are one version");
}

#[test]
fn first_contact_with_an_older_copy_is_fast_forwarded() {
    let (world, [alice]) = World::with_devices();
    alice.write("a.md", "first\n");
    alice.sync();
    alice.write("a.md", "first\nsecond\n");
    alice.sync();
    let bob = world.device("bob");
    bob.write("a.md", "first\n");
    bob.join(&world.link("notes"), &world.token).ok();
    settle(&[&alice, &bob]);
    assert_eq!(bob.read("a.md"), "first\nsecond\n");
    assert!(bob.conflicts().is_empty());
}

#[test]
fn two_notes_that_claim_one_name_are_both_kept() {
    let (_world, [alice, bob]) = World::with_devices();
    alice.write("x.md", "the text of x, long enough to be itself\n");
    alice.write("y.md", "the words of y, quite different from the other\n");
    settle(&[&alice, &bob]);
    alice.rename("x.md", "z.md");
    bob.rename("y.md", "z.md");
    alice.sync();
    bob.try_sync().code_in(&[0, 3]);
    settle(&[&alice, &bob]);
    let texts: Vec<String> =
        alice.tree().into_values().map(|bytes| String::from_utf8(bytes).unwrap()).collect();
    assert_eq!(texts.len(), 2, "{:?}", alice.tree().keys());
    assert!(texts.iter().any(|text| text.contains("the text of x")));
    assert!(texts.iter().any(|text| text.contains("the words of y")));
    assert!(alice.has("z.md"));
}

#[test]
fn an_edit_made_while_a_round_is_under_way_is_kept() {
    let (world, [alice, bob]) = World::with_devices();
    alice.write("note.md", "First.\n\nMiddle.\n\nLast.\n");
    alice.write("gone.md", "to be deleted\n");
    alice.write("other.md", "other\n");
    settle(&[&alice, &bob]);
    bob.replace("note.md", "Last.", "Last, by bob.");
    bob.remove("gone.md");
    bob.write("new.md", "new by bob\n");
    bob.sync();
    world.wire().set(Cut::Stall);
    let round = alice.spawn(&["sync", "--json"]);
    world.wire().wait_for_stall();
    alice.replace("note.md", "First.", "First, by alice.");
    alice.write("gone.md", "to be deleted, or not\n");
    alice.write("new.md", "new by alice\n");
    world.wire().set(Cut::Nothing);
    finish(round, "cru sync, edited meanwhile".to_owned()).code_in(&[0, 3]);
    settle(&[&alice, &bob]);
    assert_eq!(bob.read("note.md"), "First, by alice.\n\nMiddle.\n\nLast, by bob.\n");
    assert_eq!(bob.read("gone.md"), "to be deleted, or not\n");
    let new = bob.read("new.md");
    assert!(new.contains("by alice") && new.contains("by bob"), "{new}");
}

#[test]
fn what_an_editor_writes_into_the_file_it_held_open_is_kept() {
    let (_world, [alice, bob]) = World::with_devices();
    alice.write("note.md", "First.\n\nLast.\n");
    settle(&[&alice, &bob]);
    let mut held = fs::OpenOptions::new().append(true).open(bob.file("note.md")).unwrap();
    alice.replace("note.md", "First.", "First, by alice.");
    alice.sync();
    // A watched folder has a round a second: how many there were says nothing.
    for _ in 0..4 {
        bob.sync();
    }
    held.write_all(b"\nWritten late.\n").unwrap();
    drop(held);
    settle(&[&bob, &alice]);
    let text = alice.read("note.md");
    assert!(text.contains("Written late.") && text.contains("First, by alice."), "{text}");
}

#[test]
fn an_editor_that_saves_by_rename_makes_an_edit_and_nothing_else() {
    let (_world, [alice, bob]) = World::with_devices();
    alice.write("note.md", "one\n");
    settle(&[&alice, &bob]);
    for round in 0..3 {
        alice.write(".note.md.swp~", "the editor's own\n");
        alice.write("note.md.tmp-4711", format!("one\n{round}\n"));
        alice.rename("note.md.tmp-4711", "note.md");
        alice.remove(".note.md.swp~");
        bob.sync();
        settle(&[&alice, &bob]);
    }
    assert_eq!(bob.read("note.md"), "one\n2\n");
    assert_eq!(bob.log("note.md").len(), 4);
}
