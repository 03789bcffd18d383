//! What `sync` and `status` say of what is left out, waits, was refused or came back.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use crate::kit::{World, settle};

#[test]
fn a_name_that_cannot_be_synced_is_named_and_exits_3() {
    let (_world, [alice]) = World::with_devices();
    alice.write("a.md", "a\n");
    alice.write("bell\u{7}.md", "x\n");
    fs::write(alice.dir.join(OsStr::from_bytes(b"latin\xe9.md")), "y\n").unwrap();
    let synced = alice.cru(&["sync"]).code(3);
    let status = alice.cru(&["status"]).code(3);
    for ran in [synced, status] {
        for part in ["bell\\x07.md is not synced", "latin\\xe9.md is not synced", "rename it"] {
            assert!(ran.err.contains(part), "{part}\n{}", ran.told());
        }
    }
    let synced = alice.cru(&["sync", "--json"]).code(3);
    let lines = synced.text().lines().map(|line| serde_json::from_str(line).unwrap());
    let events: Vec<serde_json::Value> = lines.collect();
    let [.., skipped, done] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((&skipped["type"], &done["type"]), (&"skipped".into(), &"done".into()));
    let files = skipped["files"].as_array().unwrap();
    let paths: Vec<&str> = files.iter().map(|file| file["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["bell\\x07.md", "latin\\xe9.md"]);
    let status = alice.cru(&["status", "--json"]).code(3).last();
    assert_eq!(status["notices"].as_array().unwrap().len(), 2, "{status}");
    alice.remove("bell\u{7}.md");
    fs::remove_file(alice.dir.join(OsStr::from_bytes(b"latin\xe9.md"))).unwrap();
    alice.cru(&["sync"]).ok();
    alice.cru(&["status"]).ok();
}

#[test]
fn status_says_what_waits_and_why_after_a_refused_round() {
    let (_world, [alice, bob]) = World::with_devices();
    for at in 0..8 {
        alice.write(&format!("note-{at}.md"), format!("text of note {at}\n"));
    }
    settle(&[&alice, &bob]);
    for at in 0..8 {
        alice.remove(&format!("note-{at}.md"));
    }
    alice.try_sync().code(16);
    let told = alice.cru(&["status"]).code(3);
    for part in [
        "was refused: 8 of 8 notes are gone or empty in this folder",
        "--restore-missing",
        "--allow-mass-delete",
        "-> delete note-3.md",
    ] {
        assert!(told.text().contains(part), "{part}\n{}", told.told());
    }
    assert!(!told.err.contains("sends what is marked"), "{}", told.told());
    let json = alice.cru(&["status", "--json"]).code(3).last();
    assert_eq!(json["last_failure"]["code"], "refused", "{json}");
    let back = alice.cru(&["sync", "--restore-missing"]).ok();
    assert!(back.text().contains("8 brought back"), "{}", back.told());
    assert!(back.text().contains("note-3.md: brought back"), "{}", back.told());
    let told = alice.cru(&["status"]).ok();
    assert!(!told.text().contains("refused"), "{}", told.told());
    assert_eq!(
        alice.cru(&["status", "--json"]).ok().last()["last_failure"],
        serde_json::Value::Null
    );
}

#[test]
fn status_says_why_a_round_came_to_no_end() {
    let (mut world, [alice]) = World::with_devices();
    alice.write("a.md", "a\n");
    world.stop_server();
    alice.try_sync().code(13);
    let told = alice.cru(&["status"]).ok();
    assert!(told.text().contains("did not come to its end"), "{}", told.told());
    world.start_server();
    alice.sync();
    let told = alice.cru(&["status"]).ok();
    assert!(!told.text().contains("did not come"), "{}", told.told());
}

#[test]
fn repositories_and_vaults_inside_are_left_out_and_that_is_said() {
    let (_world, [alice, bob]) = World::with_devices();
    alice.write("project/.git/HEAD", "ref: refs/heads/main\n");
    alice.write("project/a.md", "a\n");
    alice.write("old/.crucible/config.toml", "not ours to read\n");
    settle_all(&alice, &bob);
    let told = alice.cru(&["status"]).ok();
    let line = "left out, as everything in a .git or .crucible is: old/.crucible and 1 more";
    assert!(told.err.contains(line), "{}", told.told());
    let json = alice.cru(&["status", "--json"]).ok().last();
    assert_eq!(json["left_out"], serde_json::json!(["old/.crucible", "project/.git"]));
    assert_eq!(bob.tree().into_keys().collect::<Vec<_>>(), ["project/a.md"]);
    assert!(!bob.cru(&["status"]).ok().err.contains("left out"));
}

/// Rounds of both; their folders differ by what is left out.
fn settle_all(alice: &crate::kit::Device, bob: &crate::kit::Device) {
    for device in [alice, bob, alice] {
        device.sync();
    }
}
