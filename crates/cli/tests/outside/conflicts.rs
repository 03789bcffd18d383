//! Conflicts as people call them: by a number that stays, or by the beginning of an id.

use serde_json::Value;

use crate::kit::{Device, World, settle};

/// Makes one conflict in each of these notes, in this order.
fn conflict_in(alice: &Device, bob: &Device, names: &[&str]) {
    for name in names {
        alice.write(name, format!("We meet on Friday, says {name}.\n"));
        settle(&[alice, bob]);
        alice.replace(name, "Friday", "Saturday");
        bob.replace(name, "Friday", "Sunday");
        alice.sync();
        bob.sync();
    }
    settle(&[alice, bob]);
}

fn numbers(device: &Device) -> Vec<(u64, String)> {
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    let listed = device.conflicts();
    listed.iter().map(|c| (c["number"].as_u64().unwrap(), word(&c["path"]))).collect()
}

fn shown(device: &Device, which: &str) -> Value {
    device.cru(&["conflicts", "show", which, "--json"]).ok().last()
}

#[test]
fn a_number_means_the_same_conflict_whatever_else_is_taken() {
    let (_world, [alice, bob]) = World::with_devices();
    conflict_in(&alice, &bob, &["a.md", "b.md", "c.md"]);
    let named = |list: &[(u64, &str)]| -> Vec<(u64, String)> {
        list.iter().map(|(number, path)| (*number, (*path).to_owned())).collect()
    };
    assert_eq!(numbers(&bob), named(&[(1, "a.md"), (2, "b.md"), (3, "c.md")]));
    let before = [shown(&bob, "2"), shown(&bob, "3")];
    bob.cru(&["conflicts", "take", "1", "theirs"]).ok();
    assert_eq!([shown(&bob, "2"), shown(&bob, "3")], before);
    assert_eq!(numbers(&bob), named(&[(2, "b.md"), (3, "c.md")]));
    bob.cru(&["conflicts", "take", "1", "theirs"]).code(1).says("a.md, was settled already");
    bob.cru(&["conflicts", "show", "1"]).code(1).says("settled already");
    settle(&[&bob, &alice]);
    conflict_in(&alice, &bob, &["d.md"]);
    assert_eq!(numbers(&bob), named(&[(2, "b.md"), (3, "c.md"), (4, "d.md")]));
    bob.cru(&["conflicts", "take", "3", "ours"]).ok();
    bob.cru(&["conflicts", "take", "4", "ours"]).ok();
    settle(&[&bob, &alice]);
    conflict_in(&alice, &bob, &["e.md"]);
    assert_eq!(numbers(&bob), named(&[(2, "b.md"), (5, "e.md")]), "a number was used again");
}

#[test]
fn taking_a_picture_that_only_the_server_has_says_that_the_server_is_away() {
    let (mut world, [alice, bob]) = World::with_devices();
    let picture = |fill: u8| vec![fill; 300_000];
    alice.write("p.png", picture(0));
    settle(&[&alice, &bob]);
    alice.write("p.png", picture(1));
    bob.write("p.png", picture(2));
    alice.sync();
    settle(&[&bob, &alice]);
    world.stop_server();
    let before = bob.tree();
    let ran = bob.cru(&["conflicts", "take", "1", "theirs"]).code(13).says("cannot be reached");
    ran.says(&world.address().to_string());
    assert!(bob.tree() == before);
    world.start_server();
    bob.cru(&["conflicts", "take", "1", "theirs"]).ok();
    settle(&[&bob, &alice]);
    assert_eq!(alice.tree()["p.png"], picture(1));
}

#[test]
fn an_id_means_the_same_conflict_on_every_device() {
    let (_world, [alice, bob]) = World::with_devices();
    conflict_in(&alice, &bob, &["a.md", "b.md"]);
    for conflict in bob.conflicts() {
        let id = conflict["id"].as_str().unwrap();
        for device in [&alice, &bob] {
            for which in [id, &id[..12]] {
                assert_eq!(shown(device, which)["path"], conflict["path"]);
            }
        }
    }
    let told = bob.cru(&["conflicts", "show", "2"]).ok();
    let id = shown(&bob, "2")["id"].as_str().unwrap().to_owned();
    assert!(told.text().contains(&format!("conflict 2, id {id}")), "{}", told.told());
    bob.cru(&["conflicts", "show", "99"]).code(1).says("no conflict");
    bob.cru(&["conflicts", "show", "0"]).code(1);
}

#[test]
fn texts_of_a_first_meeting_that_both_stand_in_the_note_are_shown_so() {
    let (world, [alice]) = World::with_devices();
    alice.write("a.md", "Written on the laptop.\n");
    alice.sync();
    let bob = world.device("bob");
    bob.write("a.md", "Something else, from the phone.\n");
    bob.join(&world.link("notes"), &world.token).code_in(&[0, 3]);
    let note = bob.read("a.md");
    assert!(note.contains("laptop") && note.contains("phone"), "{note}");
    let shown = bob.cru(&["conflicts", "show", "1"]).ok();
    for part in ["both texts stand in the note", "stands in the note too (theirs):"] {
        assert!(shown.text().contains(part), "{part}\n{}", shown.told());
    }
    for wrong in ["set aside", "both began with", "(nothing)"] {
        assert!(!shown.text().contains(wrong), "{wrong}\n{}", shown.told());
    }
}
