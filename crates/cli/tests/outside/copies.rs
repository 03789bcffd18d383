//! Backups put back and folders copied: clocks go backwards, nothing gets lost.

use std::path::Path;
use std::process::Command;

use crate::kit::{Device, World, cru, run, settle};

fn copy(from: &Path, to: &Path) {
    if to.exists() {
        std::fs::remove_dir_all(to).unwrap();
    }
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(done.success());
}

#[test]
fn a_server_put_back_from_an_old_backup_gets_everything_again() {
    let (mut world, [alice, bob]) = World::with_devices();
    alice.write("a.md", "old\n");
    settle(&[&alice, &bob]);
    world.stop_server();
    copy(&world.path("server"), &world.path("backup"));
    world.start_server();
    alice.write("a.md", "old\nnew from alice\n");
    alice.write("b.md", "made after the backup\n");
    settle(&[&alice, &bob]);
    bob.remove("b.md");
    bob.write("c.md", "made by bob\n");
    settle(&[&bob, &alice]);
    world.stop_server();
    copy(&world.path("backup"), &world.path("server"));
    world.start_server();
    settle(&[&alice, &bob]);
    assert_eq!(alice.read("a.md"), "old\nnew from alice\n");
    assert_eq!(alice.read("c.md"), "made by bob\n");
    assert!(!alice.has("b.md"), "a deletion was forgotten with the backup");
    let carol = world.joined("carol");
    settle(&[&alice, &bob, &carol]);
    assert_eq!(carol.read("c.md"), "made by bob\n");
}

#[test]
fn a_device_put_back_from_an_old_backup_catches_up_and_keeps_its_edits() {
    let (world, [alice, bob]) = World::with_devices();
    alice.write("a.md", "one\n\ntwo\n\nthree\n");
    alice.write("gone.md", "deleted later\n");
    settle(&[&alice, &bob]);
    copy(&alice.dir, &world.path("backup"));
    alice.write("a.md", "one, after the backup\n\ntwo\n\nthree\n");
    alice.remove("gone.md");
    settle(&[&alice, &bob]);
    bob.write("a.md", "one, after the backup\n\ntwo\n\nthree, by bob\n");
    settle(&[&bob, &alice]);
    copy(&world.path("backup"), &alice.dir);
    alice.write("a.md", "one\n\ntwo, on the old copy\n\nthree\n");
    alice.sync();
    settle(&[&alice, &bob]);
    let text = bob.read("a.md");
    for part in ["one, after the backup", "two, on the old copy", "three, by bob"] {
        assert!(text.contains(part), "{part:?} is lost: {text}");
    }
    assert!(!alice.has("gone.md"), "it came back to life");
    let versions = alice.log("a.md");
    assert!(versions.len() >= 4, "{versions:?}");
}

#[test]
fn a_folder_copied_with_its_crucible_becomes_a_replica_of_its_own() {
    let (world, [alice, bob]) = World::with_devices();
    alice.write("a.md", "one\n\ntwo\n\nthree\n");
    settle(&[&alice, &bob]);
    let copied = Device::new("copy", alice.home.clone(), world.path("copy"));
    copy(&alice.dir, &copied.dir);
    for round in 0..3 {
        alice.write(&format!("alice-{round}.md"), "made here\n");
        copied.write(&format!("copy-{round}.md"), "made there\n");
        alice.replace("a.md", "one", "one!");
        copied.replace("a.md", "three", "three!");
        alice.sync();
        copied.sync();
        settle(&[&alice, &copied, &bob]);
    }
    assert_eq!(bob.read("a.md"), "one!!!\n\ntwo\n\nthree!!!\n");
    assert_eq!(bob.tree().len(), 7, "{:?}", bob.tree().keys());
    assert!(bob.conflicts().is_empty());
}

#[test]
fn a_vault_without_its_crucible_joins_again_without_a_duplicate() {
    let (world, [alice, bob]) = World::with_devices();
    for at in 0..20 {
        alice.write(&format!("{at}.md"), format!("# {at}\n"));
    }
    settle(&[&alice, &bob]);
    std::fs::remove_dir_all(bob.dir.join(".crucible")).unwrap();
    bob.join(&world.link("notes"), &world.token).ok();
    settle(&[&alice, &bob]);
    assert_eq!(bob.tree().len(), 20);
    assert_eq!(alice.log("3.md").len(), 1);
}

#[test]
fn a_backup_of_a_running_server_is_a_whole_server() {
    let (mut world, [alice, bob]) = World::with_devices();
    alice.write("a.md", "a\n");
    alice.write("p.png", (0..200_000_u32).map(|at| (at % 251) as u8).collect::<Vec<u8>>());
    settle(&[&alice, &bob]);
    let (data, backup) = (world.path("server"), world.path("backup"));
    let server = |arguments: &[&str]| {
        let mut command = cru(&world.path("home-server"));
        command.arg("server").args(arguments);
        run(&mut command)
    };
    let (data_shown, backup_shown) = (data.to_str().unwrap(), backup.to_str().unwrap());
    server(&["backup", backup_shown, "--data", data_shown]).ok();
    server(&["check", "--data", backup_shown]).ok();
    server(&["backup", backup_shown, "--data", data_shown]).code_in(&[1, 2, 16]);
    world.stop_server();
    copy(&backup, &data);
    world.start_server();
    settle(&[&alice, &bob]);
    let carol = world.joined("carol");
    assert_eq!(carol.tree(), alice.tree());
}

#[test]
fn cleaning_up_a_server_takes_nothing_that_is_needed() {
    let (mut world, [alice, bob]) = World::with_devices();
    for round in 0..3_u32 {
        alice.write("a.md", format!("round {round}\n"));
        alice.write(
            "p.png",
            (0..200_000_u32).map(|at| (at % (251 - round)) as u8).collect::<Vec<_>>(),
        );
        settle(&[&alice, &bob]);
    }
    world.stop_server();
    let mut command = cru(&world.path("home-server"));
    command.args(["server", "gc", "--data"]).arg(world.path("server"));
    run(&mut command).ok();
    world.start_server();
    settle(&[&alice, &bob]);
    assert!(alice.version_of("a.md", "round 0\n").is_some());
    let pictures = bob.log("p.png");
    for version in &pictures {
        let id = version["version"].as_str().unwrap();
        assert_eq!(bob.cru(&["show", &format!("p.png@{id}")]).ok().out.len(), 200_000);
    }
    assert_eq!(pictures.len(), 3);
}
