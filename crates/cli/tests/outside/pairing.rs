//! Join lines: a code works once and for ten minutes, and is all a second device needs.

use crate::kit::{Ran, World, assert_same, settle};

/// The join line in what `cru invite` printed.
#[track_caller]
pub fn link_in(ran: &Ran) -> String {
    link_in_text(ran.text())
}

/// The join line in a text.
#[track_caller]
pub fn link_in_text(text: &str) -> String {
    let begin = text.find("http://").unwrap_or_else(|| panic!("no link in {text:?}"));
    let rest = &text[begin..];
    let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\''));
    let end = end.unwrap_or(rest.len());
    assert!(rest[..end].contains('#'), "the link has no code: {text:?}");
    rest[..end].to_owned()
}

#[test]
fn an_invitation_is_all_a_second_device_needs() {
    let (world, [alice]) = World::with_devices();
    alice.write("a.md", "a\n");
    alice.sync();
    let link = link_in(&alice.cru(&["invite"]).ok());
    let bob = world.device("bob");
    bob.join_by_code(&link).ok();
    assert_same(&[&alice, &bob]);
    bob.write("b.md", "b\n");
    settle(&[&bob, &alice]);
    assert_eq!(alice.read("b.md"), "b\n");
}

#[test]
fn a_code_works_once() {
    let (world, [alice]) = World::with_devices();
    let link = link_in(&alice.cru(&["invite"]).ok());
    world.device("bob").join_by_code(&link).ok();
    let mallory = world.device("mallory");
    mallory.join_by_code(&link).code(12);
    assert!(mallory.tree().is_empty());
}

#[test]
fn a_code_that_nobody_gave_exits_12() {
    let (world, [alice]) = World::with_devices();
    alice.sync();
    let mallory = world.device("mallory");
    mallory.join_by_code(&format!("{}#7KQ2-M4XD", world.link("notes"))).code(12);
}

#[test]
fn a_mistyped_vault_is_not_made_unasked_and_one_that_is_made_is_told_of() {
    let (world, [alice]) = World::with_devices();
    alice.write("a.md", "a\n");
    alice.sync();
    let bob = world.device("bob");
    let join = |vault: &str, more: &[&str]| {
        let mut join = bob.command();
        join.env("CRU_TOKEN", &world.token).args(["join", &world.link(vault)]);
        crate::kit::run(join.arg(&bob.dir).args(more))
    };
    join("nots", &[]).code(16).says("no vault nots").says("did you mean 'notes'?").says("--yes");
    assert!(!bob.dir.exists());
    join("Recipes", &[]).code(16).says("it has notes");
    join("nots", &["--yes"]).ok().says("made the vault nots").says("did you mean 'notes'?");
    let carol = world.device("carol");
    let mut join = carol.command();
    join.env("CRU_TOKEN", &world.token).args(["join", &world.link("notess"), "--yes", "--json"]);
    let made = crate::kit::run(join.arg(&carol.dir)).ok().objects().remove(0);
    assert_eq!((&made["type"], &made["vault"]), (&"vault_made".into(), &"notess".into()), "{made}");
    assert!(made["hint"].as_str().unwrap().contains("'notes'"), "{made}");
}

#[test]
fn the_first_vault_of_a_server_is_made_without_a_question() {
    let world = World::new();
    let alice = world.device("alice");
    let mut join = alice.command();
    join.env("CRU_TOKEN", &world.token).args(["join", &world.link("notes")]);
    crate::kit::run(join.arg(&alice.dir)).ok().says("made the vault notes");
}

#[test]
fn a_code_ends_after_ten_minutes() {
    let (mut world, [alice]) = World::with_devices();
    let link = link_in(&alice.cru(&["invite"]).ok());
    world.stop_server();
    world.start_server_with(11 * 60 * 1000, &[]);
    world.device("bob").join_by_code(&link).code(12);
}

#[test]
fn devices_of_one_name_are_told_apart_and_revoked_by_the_beginning_of_an_id() {
    let (world, [alice]) = World::with_devices();
    let (bob, carol) = (world.joined("bob"), world.joined("carol"));
    // All three are called like this machine.
    let devices = alice.cru(&["auth", "devices", "--json"]).ok().objects();
    let own = |device: &crate::kit::Device| {
        let me = device.cru(&["auth", "whoami", "--json"]).ok().last();
        me["device"].as_str().unwrap().to_owned()
    };
    let (out, stays) = (own(&bob), own(&carol));
    for device in [&alice, &bob, &carol] {
        device.write(&format!("{}.md", device.name), format!("# {}\n", device.name));
        device.sync();
    }
    let listed = alice.cru(&["auth", "devices"]).ok();
    let log = alice.cru(&["log"]).ok();
    for id in [&out, &stays] {
        let line = listed.text().lines().find(|line| line.contains(&id[..10]));
        let line = line.unwrap_or_else(|| panic!("{id} is not listed\n{}", listed.told()));
        assert!(line.contains("since 20") && line.contains("last seen 20"), "{line}");
        assert!(log.text().contains(&format!("({})", &id[..8])), "{}", log.told());
    }
    let others = |digits: &str| {
        let ids = devices.iter().filter_map(|device| device["id"].as_str());
        ids.filter(|id| id.starts_with(digits)).count()
    };
    let shortest = (1..=out.len()).map(|len| &out[..len]).find(|digits| others(digits) == 1);
    let ended = alice.cru(&["auth", "revoke", shortest.unwrap()]).ok();
    assert!(ended.text().contains(&out[..10]), "{}", ended.told());
    alice.cru(&["auth", "revoke", "zz"]).code(1).says("auth devices");
    bob.try_sync().code(12);
    carol.sync();
}

#[test]
fn a_join_that_nobody_agreed_to_goes_on_without_its_code() {
    let (world, [alice]) = World::with_devices();
    alice.write("same.md", "the same\n");
    alice.write("both.md", "here\n");
    alice.sync();
    let link = link_in(&alice.cru(&["invite"]).ok());
    let bob = world.device("bob");
    bob.write("same.md", "the same\n");
    bob.write("both.md", "there\n");
    for at in 0..25 {
        bob.write(&format!("note-{at}.md"), format!("note {at}\n"));
    }
    let join = |link: &str, more: &[&str]| {
        crate::kit::run(bob.command().args(["join", link]).arg(&bob.dir).args(more))
    };
    let refused = join(&link, &[]).code(16).says("without the code");
    for part in ["1 on both sides, to be merged, 25 new there", "merge  both.md", "and 15 more"] {
        assert!(refused.text().contains(part), "{part}\n{}", refused.told());
    }
    assert!(!refused.text().contains("same.md"), "{}", refused.told());
    assert_eq!(bob.read("both.md"), "there\n");
    join(world.link("notes").as_str(), &["--yes"]).code_in(&[0, 3]);
    settle(&[&bob, &alice]);
}
