//! CRU_TOKEN wins over whatever token a device has kept.

use crate::kit::{Device, Ran, World, run, settle};
use crate::pairing::link_in;

/// `cru -C DIR …` with CRU_TOKEN set.
fn with_token(device: &Device, token: &str, arguments: &[&str]) -> Ran {
    let mut command = device.command();
    command.env("CRU_TOKEN", token).arg("-C").arg(&device.dir).args(arguments);
    run(&mut command)
}

/// The token that a device has kept.
fn kept(device: &Device) -> String {
    let text = std::fs::read_to_string(device.home.join("auth.toml")).unwrap();
    let (_, rest) = text.split_once("token = \"").unwrap();
    rest.split('"').next().unwrap().to_owned()
}

/// Takes a device's own token away from it on the server.
fn revoke(by: &Device, name: &str) {
    let devices = by.cru(&["auth", "devices", "--json"]).ok().objects();
    let of = devices.iter().find(|device| device["name"] == name).unwrap();
    by.cru(&["auth", "revoke", of["id"].as_str().unwrap()]).ok();
}

#[test]
fn a_wrong_cru_token_is_refused_though_a_good_one_is_kept() {
    let (world, [alice]) = World::with_devices();
    let server = format!("http://{}", world.address());
    for arguments in [
        &["sync"][..],
        &["sync", "--dry-run"],
        &["sync", "config", "server", &server],
        &["invite"],
        &["auth", "whoami"],
        &["auth", "whoami", &server],
        &["auth", "devices"],
        &["log"],
    ] {
        with_token(&alice, "nonsense", arguments).code(12);
        with_token(&alice, "", arguments).code(12).says("CRU_TOKEN");
        alice.cru(arguments).ok();
    }
}

#[test]
fn a_good_cru_token_works_where_the_kept_one_does_not_any_more() {
    let (world, [alice]) = World::with_devices();
    let bob = world.device("bob");
    let link = link_in(&alice.cru(&["invite"]).ok());
    let mut join = bob.command();
    run(join.args(["join", &link, "--device-name", "bob"]).arg(&bob.dir)).ok();
    revoke(&alice, "bob");
    bob.write("b.md", "b\n");
    bob.try_sync().code(12);
    with_token(&bob, &world.token, &["sync"]).ok();
    with_token(&bob, &world.token, &["invite"]).ok();
    alice.sync();
    assert_eq!(alice.read("b.md"), "b\n");
}

#[test]
fn joining_with_a_cru_token_replaces_the_token_that_was_kept() {
    let (world, [alice]) = World::with_devices();
    let bob = world.device("bob");
    bob.join_by_code(&link_in(&alice.cru(&["invite", "--read-only"]).ok())).ok();
    bob.write("b.md", "b\n");
    bob.try_sync().code(12);
    bob.join(&world.link("notes"), &world.token).ok().says("copy of notes already");
    bob.write("b.md", "b, edited\n");
    settle(&[&bob, &alice]);
    assert_eq!(alice.read("b.md"), "b, edited\n");
    assert_ne!(kept(&bob), world.token, "a device has a token of its own");
}

#[test]
fn a_cru_token_that_only_reads_keeps_edits_here() {
    let (world, [alice]) = World::with_devices();
    let reader = world.device("reader");
    reader.join_by_code(&link_in(&alice.cru(&["invite", "--read-only"]).ok())).ok();
    let read_only = kept(&reader);
    alice.write("a.md", "a\n");
    with_token(&alice, &read_only, &["sync"]).code(12).says("may read this vault, not change it");
    reader.sync();
    assert!(!reader.has("a.md"), "a token that only reads has written");
    alice.sync();
    reader.sync();
    assert_eq!(reader.read("a.md"), "a\n");
}
