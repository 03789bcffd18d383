//! Convergence, stability, no resurrection: what holds once rounds were quiet.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::kit::{Device, Dice, World, assert_same, settle};

/// What a file system tells about every file.
fn marks(folder: &Path) -> BTreeMap<String, (u64, i64, i64, u64, u32)> {
    let device = Device::new("eye", folder.to_path_buf(), folder.to_path_buf());
    let marks_of = |path: &String| {
        let about = fs::metadata(folder.join(path)).unwrap();
        (about.ino(), about.mtime(), about.mtime_nsec(), about.size(), about.mode())
    };
    device.tree().keys().map(|path| (path.clone(), marks_of(path))).collect()
}

#[test]
fn a_second_round_sends_nothing_and_touches_nothing() {
    let (_world, [alice, bob]) = World::with_devices();
    alice.write("a.md", "---\ntags: [x]\n---\n\n# A\n\n- one\n- two\n");
    alice.write("folder/b.md", "b\r\n");
    alice.write("folder/picture.png", [0x89, b'P', b'N', b'G', 0, 1, 2]);
    settle(&[&alice, &bob]);
    let before = (marks(&alice.dir), marks(&bob.dir));
    for device in [&alice, &bob, &alice] {
        let done = device.sync();
        for field in ["pushed", "pulled", "merged", "conflicts"] {
            assert_eq!(done[field], 0, "{}: {done}", device.name);
        }
        assert_eq!(done["requests"], 1, "{}: {done}", device.name);
    }
    assert_eq!((marks(&alice.dir), marks(&bob.dir)), before, "a quiet round touched a file");
}

#[test]
fn the_bytes_of_a_quiet_round_are_few() {
    let (_world, [alice, bob]) = World::with_devices();
    for at in 0..300 {
        alice.write(&format!("{}/note-{at}.md", at % 7), format!("# Note {at}\n"));
    }
    settle(&[&alice, &bob]);
    let done = alice.sync();
    let bytes = done["bytes_up"].as_u64().unwrap() + done["bytes_down"].as_u64().unwrap();
    assert!(bytes <= 600, "{bytes} bytes for nothing: {done}");
}

#[test]
fn touching_a_file_is_no_edit() {
    let (_world, [alice, bob]) = World::with_devices();
    alice.write("a.md", "a\n");
    settle(&[&alice, &bob]);
    alice.write("a.md", "a\n");
    let done = alice.sync();
    assert_eq!(done["pushed"], 0, "the same bytes were pushed: {done}");
    assert_eq!(alice.log("a.md").len(), 1);
}

#[test]
fn what_was_deleted_stays_deleted_however_long_a_device_was_away() {
    let (_world, [alice, bob, carol]) = World::with_devices();
    alice.write("gone.md", "gone\n");
    alice.write("kept.md", "kept\n");
    settle(&[&alice, &bob, &carol]);
    alice.remove("gone.md");
    for round in 0..5 {
        alice.write("kept.md", format!("kept {round}\n"));
        alice.sync();
        bob.sync();
    }
    carol.sync();
    settle(&[&carol, &bob, &alice]);
    for device in [&alice, &bob, &carol] {
        assert!(!device.has("gone.md"), "{}: it came back to life", device.name);
        assert_eq!(device.read("kept.md"), "kept 4\n");
    }
}

#[test]
fn a_name_that_was_deleted_can_be_used_again() {
    let (_world, [alice, bob]) = World::with_devices();
    for round in 0..3 {
        alice.write("a.md", format!("life {round}\n"));
        settle(&[&alice, &bob]);
        assert_eq!(bob.read("a.md"), format!("life {round}\n"));
        bob.remove("a.md");
        bob.write("b.md", format!("{round}"));
        settle(&[&bob, &alice]);
        assert!(!alice.has("a.md"));
    }
}

#[test]
fn folders_that_become_empty_go_and_come_back_with_their_files() {
    let (_world, [alice, bob]) = World::with_devices();
    alice.write("one/two/three.md", "3\n");
    alice.write("a.md", "a\n");
    settle(&[&alice, &bob]);
    alice.rename("one/two/three.md", "four.md");
    settle(&[&alice, &bob]);
    assert!(!bob.dir.join("one").exists(), "an empty folder was left behind");
}

#[test]
fn a_note_takes_the_place_of_a_folder_and_a_folder_that_of_a_note() {
    let (_world, [alice, bob]) = World::with_devices();
    alice.write("x.md/inside.md", "in\n");
    alice.write("y.md", "y\n");
    settle(&[&alice, &bob]);
    alice.remove("x.md/inside.md");
    fs::remove_dir(alice.file("x.md")).unwrap();
    alice.write("x.md", "now a note\n");
    alice.remove("y.md");
    alice.write("y.md/inside.md", "now a folder\n");
    settle(&[&alice, &bob]);
    assert_eq!(bob.read("x.md"), "now a note\n");
    assert_eq!(bob.read("y.md/inside.md"), "now a folder\n");
}

#[test]
fn devices_that_join_later_get_everything() {
    let (world, [alice]) = World::with_devices();
    for at in 0..120 {
        alice.write(&format!("{}/{at}.md", at % 11), format!("# {at}\n\nText of {at}.\n"));
    }
    alice.sync();
    let bob = world.joined("bob");
    assert_same(&[&alice, &bob]);
    assert_eq!(bob.tree().len(), 120);
}

/// Three devices, a hundred and twenty random things, rounds in between; then quiet.
#[test]
fn three_devices_that_do_as_they_please_end_up_the_same() {
    for seed in [1, 2, 3] {
        println!("seed {seed}");
        let (_world, devices) = World::with_devices::<3>();
        let mut dice = Dice(seed);
        for step in 0..120 {
            let device = &devices[dice.below(3)];
            if dice.below(4) == 0 {
                device.try_sync().code_in(&[0, 3, 16]);
            } else {
                something(device, step, &mut dice);
            }
        }
        for device in &devices {
            device.cru(&["sync", "--json", "--allow-mass-delete"]).code_in(&[0, 3]);
        }
        for device in &devices {
            device.cru(&["sync", "--json", "--allow-mass-delete"]).code_in(&[0, 3]);
        }
        settle(&[&devices[0], &devices[1], &devices[2]]);
    }
}

fn something(device: &Device, step: usize, dice: &mut Dice) {
    let note = format!("{}/note-{}.md", ["a", "b", "a/deep"][dice.below(3)], dice.below(6));
    let there = device.has(&note);
    match dice.below(10) {
        0 if there => device.remove(&note),
        1 if there => {
            let to = format!("{}/renamed-{step}.md", ["a", "c"][dice.below(2)]);
            device.rename(&note, &to);
        }
        2 => device.write(&format!("pictures/{}.png", dice.below(3)), [0, 159, step as u8]),
        _ if there => {
            let text = device.read(&note);
            let mut lines: Vec<&str> = text.lines().collect();
            let line = format!("Line {step} of {}.", device.name);
            lines.insert(dice.below(lines.len() + 1), &line);
            device.write(&note, format!("{}\n", lines.join("\n")));
        }
        _ => device.write(&note, format!("# Note\n\nBegun by {} at {step}.\n", device.name)),
    }
}
