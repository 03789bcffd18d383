//! What a walk costs: one note of 100 000, and nothing shared but the notes.

use crucible_core::merkle::walk::WalkLimits;
use crucible_core::merkle::{Change, diff, update};

use crate::walk::{Cost, run};
use crate::world::{World, build, live, note};

/// Edits one note at a time, each in another place, and gives the cost of finding it.
fn costs(paths: impl Fn(u32) -> String) -> Vec<Cost> {
    let world: World = (0..100_000).map(|n| live(n, &paths(n), 0)).collect();
    // One store holds the nodes of all these vaults.
    let (mut tree, root) = build(&world);
    let walk = |n| {
        let (_, new) = live(n, &paths(n), 1);
        let change = Change { note: note(n), old: Some(world[&note(n)].clone()), new: Some(new) };
        let updated = update(&tree, Some(&root), &[change]).unwrap();
        tree.add(&updated).unwrap();
        let (found, cost) = run((&tree, &root), (&tree, &updated.root), WalkLimits::default());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].note, note(n));
        assert_eq!(found, diff(&tree, Some(&root), &tree, Some(&updated.root)).unwrap());
        cost
    };
    (0..25).map(|n| n * 3_896 + 11).map(walk).collect()
}

fn report(name: &str, costs: &[Cost]) -> (usize, usize, u32, u32) {
    let mut bytes: Vec<_> =
        costs.iter().map(|cost| cost.bytes_asked + cost.bytes_answered).collect();
    let mut requests: Vec<_> = costs.iter().map(|cost| cost.requests).collect();
    bytes.sort_unstable();
    requests.sort_unstable();
    let middle = costs.len() / 2;
    let (max, max_requests) = (bytes[costs.len() - 1], requests[costs.len() - 1]);
    println!(
        "{name}: median {} bytes in {} requests, at most {max} bytes, at most {max_requests} requests",
        bytes[middle], requests[middle]
    );
    (bytes[middle], max, requests[middle], max_requests)
}

#[test]
fn one_of_100_000_flat_notes_is_found_in_two_requests_and_4_kilobytes() {
    let costs = costs(|n| format!("note number {n:06}.md"));
    let (_, bytes, requests, most) = report("flat", &costs);
    assert!(bytes <= 4096 && requests <= 2 && most <= 3, "{bytes} {requests} {most}");
}

#[test]
fn one_of_100_000_deep_notes_is_found_in_five_requests() {
    let shapes: [(&str, u32, u32); 3] = [("10 wide", 10, 4), ("4 wide", 4, 8), ("2 wide", 2, 16)];
    for (name, wide, deep) in shapes {
        let path = |n: u32| {
            let mut folders = String::new();
            let mut rest = n;
            for level in 0..deep {
                folders.push_str(&format!("folder {level} {}/", rest % wide));
                rest /= wide;
            }
            format!("{folders}note {n:06}.md")
        };
        let (_, _, _, most) = report(name, &costs(path));
        assert!(most <= 5);
    }
}
