//! Sessions in a world of their own: real rooms and real documents, clients with real CRDT
//! documents, a network that delays and cuts, a disk that forgets what it was not told to keep, a
//! Layer 1 that merges, and a process with the documents that dies. All from a seed.

#![allow(clippy::unwrap_used)]

mod stories;
mod world;

use world::World;

/// Many worlds in which everything happens, and in the end everything that was acknowledged stands
/// once in the note.
#[test]
fn nothing_acknowledged_is_lost_or_doubled() {
    let seeds = std::env::var("ROOM_SEEDS").ok().and_then(|text| text.parse().ok());
    let first = std::env::var("ROOM_FIRST").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    for seed in first..seeds.unwrap_or(400_u64) {
        let mut world = World::new(seed, "# Note\n\nfirst line\nsecond line\nthird line\n");
        for _ in 0..250 {
            world.step();
        }
        world.settle();
        world.check();
    }
}
