//! Cut, chopped and silent connections.

use crate::kit::{Cut, World, assert_same, settle};

#[test]
fn a_connection_that_delivers_single_bytes_is_slow_and_nothing_else() {
    let (world, [alice, bob]) = World::with_devices();
    alice.write("a.md", "a\n".repeat(2000));
    alice.sync();
    world.wire().set(Cut::IntoBytes);
    bob.sync();
    bob.write("a.md", "b\n".repeat(2000));
    bob.sync();
    world.wire().set(Cut::Nothing);
    alice.sync();
    assert_same(&[&alice, &bob]);
}

/// Both devices edit; the connection is cut at a byte; after it heals nothing is missing.
fn cut_and_heal(cut_at: impl Fn(u64) -> Cut, way: impl Fn((u64, u64)) -> u64) {
    let (world, [alice, bob]) = World::with_devices();
    alice.write("note.md", "First.\n\nMiddle.\n\nLast.\n");
    settle(&[&alice, &bob]);
    // How much passes in a round like the ones below.
    world.wire().set(Cut::Nothing);
    alice.write("note.md", "First, 0.\n\nMiddle.\n\nLast.\n");
    alice.write("new-0.md", "new 0\n");
    alice.sync();
    let whole = way(world.wire().passed());
    settle(&[&bob, &alice]);
    let steps = 12;
    for step in 1..=steps {
        let (old, at) = (step - 1, whole * step / steps);
        alice.replace("note.md", &format!("First, {old}."), &format!("First, {step}."));
        alice.write(&format!("new-{step}.md"), format!("new {step}\n"));
        bob.write("note.md", bob.read("note.md").replace("Last", "Last and"));
        bob.sync();
        world.wire().set(cut_at(at));
        let ran = alice.try_sync().code_in(&[0, 1, 3, 13]);
        world.wire().set(Cut::Nothing);
        alice.sync();
        bob.sync();
        assert_same(&[&alice, &bob]);
        let text = alice.read("note.md");
        assert!(text.contains(&format!("First, {step}.")), "step {step}: {text}\n{}", ran.told());
        assert_eq!(text.matches("and").count() as u64, step, "step {step}: {text}");
        assert!(bob.has(&format!("new-{step}.md")), "step {step}\n{}", ran.told());
        assert!(alice.conflicts().is_empty(), "step {step}: a conflict with oneself");
    }
    let versions = alice.log("new-3.md");
    assert_eq!(versions.len(), 1, "a repeated push made versions: {versions:?}");
}

#[test]
fn a_request_that_is_cut_anywhere_heals() {
    cut_and_heal(Cut::Up, |(up, _)| up);
}

#[test]
fn an_answer_that_is_cut_anywhere_heals() {
    cut_and_heal(Cut::Down, |(_, down)| down);
}

#[test]
fn a_first_round_that_is_cut_goes_on_where_it_was() {
    let (world, [alice]) = World::with_devices();
    for at in 0..400 {
        alice.write(&format!("{}/{at}.md", at % 9), format!("# {at}\n\n{}\n", "word ".repeat(at)));
    }
    alice.write(
        "picture.png",
        (0..3_000_000_u32).map(|at| (at.wrapping_mul(at) >> 7) as u8).collect::<Vec<u8>>(),
    );
    alice.sync();
    let bob = world.device("bob");
    world.wire().set(Cut::Down(900_000));
    bob.join(&world.link("notes"), &world.token).code_in(&[1, 13]);
    world.wire().set(Cut::Nothing);
    bob.join(&world.link("notes"), &world.token).ok();
    let (_, down) = world.wire().passed();
    bob.sync();
    assert_same(&[&alice, &bob]);
    assert!(down < 3_000_000, "{down} bytes came again although 900 000 had arrived");
}

#[test]
fn a_server_that_dies_while_it_answers_loses_nothing() {
    let (mut world, [alice, bob]) = World::with_devices();
    alice.write("a.md", "a\n");
    settle(&[&alice, &bob]);
    alice.write("a.md", "a, edited\n");
    world.wire().set(Cut::Stall);
    let child = alice.spawn(&["sync", "--json"]);
    world.wire().wait_for_stall();
    world.kill_server();
    world.wire().set(Cut::Down(0));
    crate::kit::finish(child, "cru sync, server killed".to_owned()).code_in(&[1, 13]);
    world.start_server();
    world.wire().set(Cut::Nothing);
    settle(&[&alice, &bob]);
    assert_eq!(bob.read("a.md"), "a, edited\n");
    assert_eq!(alice.log("a.md").len(), 2, "the repeated push made a version");
}
