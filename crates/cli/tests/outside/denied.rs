//! Wrong, revoked and read-only tokens.

use crate::kit::{World, settle};

#[test]
fn a_wrong_token_exits_12_and_makes_no_vault() {
    let world = World::new();
    for token in ["", "nonsense", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
        let device = world.device("mallory");
        device.join(&world.link("notes"), token).code(12);
        assert!(!device.dir.join(".crucible/sync.db").exists(), "a vault in spite of a refusal");
    }
}

#[test]
fn a_token_of_another_server_exits_12() {
    let (world, other) = (World::new(), World::new());
    let device = world.device("mallory");
    device.join(&world.link("notes"), &other.token).code(12);
}

#[test]
fn a_token_that_was_changed_exits_12() {
    let world = World::new();
    let middle = world.token.len() / 2;
    let old = world.token.as_bytes()[middle];
    let new = if old == b'A' { "B" } else { "A" };
    let mut token = world.token.clone();
    token.replace_range(middle..=middle, new);
    world.device("mallory").join(&world.link("notes"), &token).code(12);
}

#[test]
fn another_user_does_not_get_into_a_vault() {
    let (world, [alice]) = World::with_devices();
    alice.write("a.md", "a\n");
    alice.sync();
    let token = world.server().add_user("mallory@example.org");
    let mallory = world.device("mallory");
    mallory.join(&world.link("notes"), &token).code(12);
    assert!(mallory.tree().is_empty(), "{:?}", mallory.tree().keys());
}

#[test]
fn two_users_have_vaults_of_their_own() {
    let (world, [alice]) = World::with_devices();
    alice.write("a.md", "a\n");
    alice.sync();
    let token = world.server().add_user("bob@example.org");
    let bob = world.device("bob");
    bob.write("b.md", "b\n");
    bob.join(&world.link("bobs"), &token).ok();
    bob.sync();
    alice.sync();
    assert!(!alice.has("b.md") && !bob.has("a.md"));
}

#[test]
fn a_revoked_device_exits_12_keeps_its_files_and_loses_nothing() {
    let (world, [alice, bob]) = World::with_devices();
    alice.write("a.md", "a\n");
    settle(&[&alice, &bob]);
    let link = world.link("");
    let listed = alice.cru(&["auth", "devices", "--json"]).ok();
    let devices = listed.objects();
    assert!(devices.len() >= 2, "{link}: two devices have joined\n{}", listed.told());
    let ids: Vec<&str> = devices
        .iter()
        .filter(|device| device["current"] != true)
        .filter_map(|device| ["id", "token", "device"].iter().find_map(|key| device[key].as_str()))
        .collect();
    assert!(!ids.is_empty(), "no ids\n{}", listed.told());
    for id in ids {
        alice.cru(&["auth", "revoke", id]).code_in(&[0, 1]);
    }
    bob.write("b.md", "b\n");
    bob.try_sync().code(12);
    assert_eq!(bob.read("b.md"), "b\n");
    alice.sync();
    assert!(!alice.has("b.md"), "a revoked device was heard");
}

#[test]
fn a_revoked_device_still_lists_what_it_knows_and_says_that_it_is_not_all() {
    let (world, [alice]) = World::with_devices();
    alice.write("a.md", "a\n");
    alice.sync();
    let bob = world.device("bob");
    bob.join_by_code(&crate::pairing::link_in(&alice.cru(&["invite"]).ok())).ok();
    let own = bob.cru(&["auth", "whoami", "--json"]).ok().last();
    alice.cru(&["auth", "revoke", own["device"].as_str().unwrap()]).ok();
    let told = bob.cru(&["log", "a.md"]).ok().says("revoked").says("this device itself knows");
    assert!(told.text().contains("create"), "{}", told.told());
}

#[test]
fn a_read_only_device_reads_and_its_edits_are_refused_with_12() {
    let (world, [alice]) = World::with_devices();
    alice.write("a.md", "a\n");
    alice.sync();
    let invitation = alice.cru(&["invite", "--read-only", "--json"]).ok();
    let link = crate::pairing::link_in(&invitation);
    let reader = world.device("reader");
    reader.join_by_code(&link).ok();
    assert_eq!(reader.read("a.md"), "a\n");
    alice.write("a.md", "a, edited\n");
    alice.sync();
    reader.sync();
    assert_eq!(reader.read("a.md"), "a, edited\n");
    reader.write("b.md", "from a reader\n");
    reader.try_sync().code(12);
    alice.sync();
    assert!(!alice.has("b.md"), "a reader wrote");
    assert_eq!(reader.read("b.md"), "from a reader\n");
}

#[test]
fn a_token_that_has_ended_exits_12_and_the_files_stay() {
    let (mut world, [alice]) = World::with_devices();
    alice.write("a.md", "a\n");
    alice.sync();
    let invitation = alice.cru(&["invite", "--days", "2"]).ok();
    let guest = world.device("guest");
    guest.join_by_code(&crate::pairing::link_in(&invitation)).ok();
    guest.write("b.md", "b\n");
    guest.sync();
    world.stop_server();
    world.start_server_with(3 * 24 * 3_600_000, &[]);
    guest.write("c.md", "c\n");
    guest.try_sync().code(12);
    assert_eq!(guest.tree().len(), 3, "{:?}", guest.tree().keys());
    alice.try_sync().code_in(&[0, 3]);
    assert!(!alice.has("c.md"), "an ended token was heard");
}
