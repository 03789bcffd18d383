//! No vault inside a vault, and nothing written into one that is not meant to be synced.

use std::fs;

use crate::kit::{Device, World, run, settle};
use crate::pairing::link_in;

/// `cru -C FOLDER …` of a device.
fn cru_in(device: &Device, folder: &str, arguments: &[&str]) -> crate::kit::Ran {
    let mut command = device.command();
    command.arg("-C").arg(device.dir.join(folder)).args(arguments);
    run(&mut command)
}

#[test]
fn no_vault_is_made_inside_a_vault() {
    let (world, [alice]) = World::with_devices();
    alice.write("Folder/a.md", "a\n");
    alice.sync();
    let inner = alice.dir.join("Folder/inner");
    let inner = inner.to_str().unwrap();
    let other = world.link("other");
    for arguments in
        [&["init", inner][..], &["init"], &["join", &other], &["join", &other, inner], &["up"]]
    {
        let refused = cru_in(&alice, "Folder", arguments).code(16).says("inside the vault notes");
        assert!(refused.err.contains("outside of it"), "{}", refused.told());
    }
    assert_eq!(fs::read_dir(alice.dir.join("Folder")).unwrap().count(), 1, "something was made");
}

#[test]
fn no_vault_is_made_around_a_vault() {
    let (world, [alice]) = World::with_devices();
    let around = alice.dir.parent().unwrap().to_str().unwrap().to_owned();
    let other = world.link("other");
    for arguments in [&["init", &around][..], &["join", &other, &around, "--yes"], &["up", &around]]
    {
        let mut command = alice.command();
        run(command.args(arguments)).code(16).says("has a vault in it").says("alice");
    }
    assert!(!world.path(".crucible").exists(), "something was made");
}

#[test]
fn a_refused_folder_does_not_use_up_the_code() {
    let (world, [alice]) = World::with_devices();
    let link = link_in(&alice.cru(&["invite"]).ok());
    let bob = world.joined("bob");
    let inside = bob.dir.join("inside");
    run(bob.command().args(["join", &link]).arg(&inside)).code(16);
    world.device("carol").join_by_code(&link).ok();
}

#[test]
fn a_device_that_is_out_joins_again_in_its_folder_as_it_is_told_to() {
    let (_world, [alice, bob]) = World::with_devices();
    let devices = bob.cru(&["auth", "devices", "--json"]).ok().objects();
    let own = devices.iter().find(|device| device["current"] == true).unwrap();
    alice.cru(&["auth", "revoke", own["id"].as_str().unwrap()]).ok();
    bob.write("Folder/b.md", "b\n");
    bob.try_sync().code(12).says("in this folder");
    let link = link_in(&alice.cru(&["invite"]).ok());
    cru_in(&bob, "Folder", &["join", &link]).ok().says("is a copy of notes already");
    assert!(!bob.dir.join("Folder/notes").exists(), "a vault inside the vault");
    settle(&[&bob, &alice]);
    assert_eq!(alice.read("Folder/b.md"), "b\n");
}

#[test]
fn joining_what_has_joined_says_that_a_round_is_enough() {
    let (world, [alice]) = World::with_devices();
    alice.cru(&["join", &world.link("notes")]).ok().says("`cru sync` is all it needs");
}

#[test]
fn an_export_into_a_vault_is_refused_and_a_relative_name_counts_from_the_vault() {
    let (world, [alice, bob]) = World::with_devices();
    alice.write("a.md", "a\n");
    settle(&[&alice, &bob]);
    let inside_bob = bob.file("copy");
    for arguments in [
        &["export", "copy"][..],
        &["export", "--git", "copy"],
        &["export", "./"],
        &["export", "--git", inside_bob.to_str().unwrap()],
    ] {
        alice
            .cru(arguments)
            .code(16)
            .says("inside the vault notes")
            .says("what is there is synced");
    }
    alice.cru(&["export", "copy"]).code(16).says("-C");
    assert_eq!(alice.tree().len(), 1, "{:?}", alice.tree().keys());
    assert_eq!(bob.tree().len(), 1, "{:?}", bob.tree().keys());
    alice.cru(&["export", "../copy"]).ok();
    alice.cru(&["export", "--git", "../history"]).ok();
    assert!(world.path("copy/a.md").is_file() && world.path("history/a.md").is_file());
}

#[test]
fn a_servers_data_is_not_kept_where_it_would_be_synced() {
    let (world, [alice]) = World::with_devices();
    let inside = alice.dir.join("srv");
    let inside = inside.to_str().unwrap();
    let data = world.path("server");
    alice.cru(&["serve", "--listen", "127.0.0.1:0", "--data", inside]).code(16).says("keys");
    let backup = ["server", "backup", inside, "--data", data.to_str().unwrap()];
    alice.cru(&backup).code(16).says("nothing was changed");
    assert!(!alice.has("srv"));
}
