//! A walk over a wire finds what a diff of the two sets finds, whatever the other side says.

use crucible_core::id::{RootHash, Tag};
use crucible_core::merkle::walk::{
    Area, Broken, Content, Item, Position, Summary, Walk, WalkAnswer, WalkAsk, WalkError,
    WalkLimits, answer,
};
use crucible_core::merkle::{Difference, MemoryTree, Place, Sighting};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::world::{World, build, gone, live, naive_diff, note, pair, path, world};

/// What a walk cost.
#[derive(Debug, Default)]
pub struct Cost {
    pub requests: u32,
    pub bytes_asked: usize,
    pub bytes_answered: usize,
}

/// Walks with every message encoded and decoded.
pub fn run(
    (mine, my_root): (&MemoryTree, &RootHash),
    (theirs, their_root): (&MemoryTree, &RootHash),
    limits: WalkLimits,
) -> (Vec<Difference>, Cost) {
    let mut walk = Walk::new(Some(my_root), limits);
    let mut cost = Cost::default();
    while let Some(ask) = walk.ask(mine).unwrap() {
        let bytes = ask.encode();
        cost.requests += 1;
        cost.bytes_asked += bytes.len();
        let heard = WalkAsk::decode(&bytes).unwrap();
        assert_eq!(heard, ask);
        let answer = answer(theirs, Some(their_root), &heard, &limits).unwrap();
        let bytes = answer.encode();
        cost.bytes_answered += bytes.len();
        assert_eq!(WalkAnswer::decode(&bytes).unwrap(), answer);
        walk.take(mine, &answer).unwrap();
    }
    assert_eq!(walk.requests(), cost.requests);
    (walk.into_differences(), cost)
}

fn limits() -> impl Strategy<Value = WalkLimits> {
    let sizes = (1..3000_usize, 0..1000_usize, 0..3000_usize);
    let small = sizes.prop_map(|(message_bytes, ask_inline_bytes, answer_inline_bytes)| {
        WalkLimits { message_bytes, ask_inline_bytes, answer_inline_bytes, ..Default::default() }
    });
    prop_oneof![Just(WalkLimits::default()), small]
}

proptest! {
    #[test]
    fn a_walk_finds_the_difference_of_the_sets((mine, theirs) in pair(), limits in limits()) {
        let ((my_tree, my_root), (their_tree, their_root)) = (build(&mine), build(&theirs));
        let (found, _) = run((&my_tree, &my_root), (&their_tree, &their_root), limits);
        prop_assert_eq!(found, naive_diff(&mine, &theirs));
        let (found, _) = run((&their_tree, &their_root), (&my_tree, &my_root), limits);
        prop_assert_eq!(found, naive_diff(&theirs, &mine));
    }

    #[test]
    fn a_lost_answer_is_asked_for_again((mine, theirs) in pair(), lost in vec(any::<bool>(), 40)) {
        let ((my_tree, my_root), (their_tree, their_root)) = (build(&mine), build(&theirs));
        let limits = WalkLimits { message_bytes: 500, ..Default::default() };
        let mut walk = Walk::new(Some(&my_root), limits);
        let mut lost = lost.into_iter();
        while let Some(ask) = walk.ask(&my_tree).unwrap() {
            if lost.next() != Some(true) {
                let answer = answer(&their_tree, Some(&their_root), &ask, &limits).unwrap();
                walk.take(&my_tree, &answer).unwrap();
            }
        }
        prop_assert_eq!(walk.into_differences(), naive_diff(&mine, &theirs));
    }

    #[test]
    fn a_side_without_any_note_walks_too(theirs in world(60)) {
        let (tree, root) = build(&theirs);
        let (nothing, limits) = (MemoryTree::new(), WalkLimits::default());
        let mut walk = Walk::new(None, limits);
        while let Some(ask) = walk.ask(&nothing).unwrap() {
            walk.take(&nothing, &answer(&tree, Some(&root), &ask, &limits).unwrap()).unwrap();
        }
        prop_assert_eq!(walk.into_differences(), naive_diff(&World::new(), &theirs));
        let mut walk = Walk::new(Some(&root), limits);
        while let Some(ask) = walk.ask(&tree).unwrap() {
            walk.take(&tree, &answer(&nothing, None, &ask, &limits).unwrap()).unwrap();
        }
        prop_assert_eq!(walk.into_differences(), naive_diff(&theirs, &World::new()));
    }

    #[test]
    fn broken_answers_end_the_walk_or_are_just_claims(
        (mine, theirs) in pair(),
        (other, flips) in (world(100), vec(any::<(prop::sample::Index, u8)>(), 0..4)),
        turn in 0..4_u32,
    ) {
        let ((my_tree, my_root), (their_tree, their_root)) = (build(&mine), build(&theirs));
        let (other_tree, other_root) = build(&other);
        let limits = WalkLimits { message_bytes: 700, requests_max: 3_000, ..Default::default() };
        let mut walk = Walk::new(Some(&my_root), limits);
        // The liar: another tree under the root it began with, and bits that are flipped.
        while let Ok(Some(mut ask)) = walk.ask(&my_tree) {
            let turned = walk.requests() > turn;
            let answer = if turned {
                ask.theirs = None;
                answer(&other_tree, Some(&other_root), &ask, &limits).unwrap()
            } else {
                answer(&their_tree, Some(&their_root), &ask, &limits).unwrap()
            };
            let answer = match answer {
                WalkAnswer::Contents { covered, items, .. } => {
                    WalkAnswer::Contents { root: their_root, covered, items }
                }
                WalkAnswer::Restart { .. } => unreachable!("the root was taken from the request"),
            };
            let mut bytes = answer.encode();
            if turned {
                for (at, byte) in &flips {
                    let at = at.index(bytes.len());
                    bytes[at] = *byte;
                }
            }
            let Ok(answer) = WalkAnswer::decode(&bytes) else { break };
            prop_assert_eq!(answer.encode(), bytes, "what decodes is canonical");
            if walk.take(&my_tree, &answer).is_err() {
                break;
            }
        }
        prop_assert!(walk.requests() < 3_000, "a walk goes down, so it ends");
    }

    #[test]
    fn no_request_makes_the_answering_side_panic(
        (mine, theirs) in pair(),
        flips in vec(any::<(prop::sample::Index, u8)>(), 1..6),
    ) {
        let ((my_tree, my_root), (their_tree, their_root)) = (build(&mine), build(&theirs));
        let limits = WalkLimits::default();
        let mut walk = Walk::new(Some(&my_root), limits);
        while let Some(ask) = walk.ask(&my_tree).unwrap() {
            let mut bytes = ask.encode();
            for (at, byte) in &flips {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            if let Ok(broken) = WalkAsk::decode(&bytes) {
                prop_assert_eq!(broken.encode(), bytes, "what decodes is canonical");
                if let Ok(answer) = answer(&their_tree, Some(&their_root), &broken, &limits) {
                    let bytes = answer.encode();
                    prop_assert_eq!(WalkAnswer::decode(&bytes).unwrap(), answer);
                }
            }
            walk.take(&my_tree, &answer(&their_tree, Some(&their_root), &ask, &limits).unwrap())
                .unwrap();
        }
    }

    #[test]
    fn no_bytes_make_decoding_panic(bytes in vec(any::<u8>(), 0..200), format in 0..3_u8) {
        let bytes = [vec![format], bytes].concat();
        if let Ok(ask) = WalkAsk::decode(&bytes) {
            prop_assert_eq!(ask.encode(), &bytes[..]);
        }
        if let Ok(answer) = WalkAnswer::decode(&bytes) {
            prop_assert_eq!(answer.encode(), &bytes[..]);
        }
    }
}

#[test]
fn a_moved_note_is_one_difference_with_two_places() {
    let mine: World = [live(1, "a/x.md", 0), live(2, "y.md", 0)].into();
    let theirs: World = [live(1, "b/x.md", 1), gone(2, 1)].into();
    let ((my_tree, my_root), (their_tree, their_root)) = (build(&mine), build(&theirs));
    let limits = WalkLimits::default();
    let (mut found, cost) = run((&my_tree, &my_root), (&their_tree, &their_root), limits);
    found.sort_by_key(|difference| difference.mine.clone());
    let places: Vec<_> = found
        .iter()
        .map(|found| [&found.mine, &found.theirs].map(|seen| seen.clone().unwrap().place))
        .collect();
    assert_eq!(
        places,
        [
            [Place::Live(path("a/x.md")), Place::Live(path("b/x.md"))],
            [Place::Live(path("y.md")), Place::Tombstone],
        ]
    );
    assert_eq!(cost.requests, 1);
}

#[test]
fn equal_trees_are_done_after_one_request_without_contents() {
    let world: World = (0..100).map(|n| live(n, &format!("n{n}"), 0)).collect();
    let (tree, root) = build(&world);
    let (found, cost) = run((&tree, &root), (&tree, &root), WalkLimits::default());
    assert_eq!((found.len(), cost.requests, cost.bytes_answered), (0, 1, 36));
}

#[test]
fn a_tree_that_changes_during_the_walk_asks_for_a_restart() {
    let world = |edits: &[u32]| -> World {
        (0..3_000).map(|n| live(n, &format!("n{n}"), u32::from(edits.contains(&n)))).collect()
    };
    let (mine, my_root) = build(&world(&[]));
    let (theirs, their_root) = build(&world(&[7]));
    let (moved, moved_root) = build(&world(&[7, 8]));
    let limits = WalkLimits { answer_inline_bytes: 0, ..Default::default() };
    let mut walk = Walk::new(Some(&my_root), limits);
    let ask = walk.ask(&mine).unwrap().unwrap();
    walk.take(&mine, &answer(&theirs, Some(&their_root), &ask, &limits).unwrap()).unwrap();
    assert_eq!(walk.their_root(), Some(their_root));
    let ask = walk.ask(&mine).unwrap().unwrap();
    let restart = answer(&moved, Some(&moved_root), &ask, &limits).unwrap();
    assert_eq!(restart, WalkAnswer::Restart { root: moved_root });
    assert_eq!(WalkAnswer::decode(&restart.encode()).unwrap(), restart);
    let covered = ask.items.len();
    let other = WalkAnswer::Contents { root: moved_root, covered, items: Vec::new() };
    let result = walk.clone().take(&mine, &other);
    assert!(matches!(result, Err(WalkError::Restart(root)) if root == moved_root));
    let result = walk.take(&mine, &restart);
    assert!(matches!(result, Err(WalkError::Restart(root)) if root == moved_root));
}

fn first_answer(
    covered: usize,
    items: Vec<Item>,
) -> Result<(), WalkError<std::convert::Infallible>> {
    let world: World = (0..40).map(|n| live(n, &format!("n{n}"), 0)).collect();
    let (tree, root) = build(&world);
    let mut walk = Walk::new(Some(&root), WalkLimits::default());
    walk.ask(&tree).unwrap().unwrap();
    let root = RootHash::from_bytes([9; 32]);
    walk.take(&tree, &WalkAnswer::Contents { root, covered, items })
}

#[test]
fn answers_to_what_was_not_asked_are_refused() {
    let top = || Position::top(Area::Folder(None));
    let tag = Tag::from_bytes([1; 16]);
    let item = |at, content| Item { at, content };
    let broken = |covered, items| match first_answer(covered, items) {
        Err(WalkError::Broken(broken)) => broken,
        other => panic!("{other:?}"),
    };
    assert!(first_answer(2, Vec::new()).is_ok());
    assert_eq!(broken(0, Vec::new()), Broken::Covered);
    assert_eq!(broken(3, Vec::new()), Broken::Covered);
    let grandchild = item(top().child(1).child(2), Content::Absent);
    assert_eq!(broken(2, vec![grandchild]), Broken::Unasked);
    let elsewhere = Position::top(Area::Folder(Some(path("x/y"))));
    assert_eq!(broken(2, vec![item(elsewhere, Content::Absent)]), Broken::Unasked);
    let twice = vec![item(top().child(1), Content::Absent), item(top(), Content::Absent)];
    assert_eq!(broken(2, twice), Broken::Order);
    let below_nothing = [top().child(1), top().child(1).child(2)];
    let below_nothing = below_nothing.map(|at| item(at, Content::Absent)).to_vec();
    assert_eq!(broken(2, below_nothing), Broken::Unasked);
    let edits = Content::Edits { entries: Vec::new(), lacking: vec![note(77)] };
    assert_eq!(broken(2, vec![item(top(), edits)]), Broken::Unasked);
    let note = |name: &str, tag| Summary::Note { name: name.into(), note: note(50), tag };
    let twice = Content::Bucket(vec![note("m", tag), note("n", tag)]);
    assert_eq!(broken(2, vec![item(top(), twice)]), Broken::Twice);
    let dir = Summary::Dir { name: ".git".into(), tag };
    assert_eq!(broken(2, vec![item(top(), Content::Bucket(vec![dir]))]), Broken::Path);
}

#[test]
fn a_walk_that_never_ends_or_finds_too_much_is_given_up() {
    let world: World = (0..40).map(|n| live(n, &format!("n{n}"), 0)).collect();
    let (tree, root) = build(&world);
    let limits = WalkLimits { differences_max: 39, ..Default::default() };
    let mut walk = Walk::new(Some(&root), limits);
    let ask = walk.ask(&tree).unwrap().unwrap();
    let answer = answer(&MemoryTree::new(), None, &ask, &limits).unwrap();
    let result = walk.take(&tree, &answer);
    assert!(matches!(result, Err(WalkError::TooManyDifferences(39))));
    let limits = WalkLimits { requests_max: 2, ..Default::default() };
    let mut walk = Walk::new(Some(&root), limits);
    assert!(walk.ask(&tree).is_ok());
    assert!(walk.ask(&tree).is_ok());
    assert!(matches!(walk.ask(&tree), Err(WalkError::TooManyRequests(2))));
}

#[test]
fn many_notes_that_claim_one_path_are_walked() {
    let claims = |heads: u32| -> World {
        let claims = (0..300).map(|n| live(n, "inbox/claimed.md", u32::from(n == 5) * heads));
        claims.chain([live(999, "inbox/claimed.md/below.md", heads)]).collect()
    };
    let (mine, theirs) = (claims(0), claims(1));
    let ((my_tree, my_root), (their_tree, their_root)) = (build(&mine), build(&theirs));
    let limits = WalkLimits { message_bytes: 100, ..Default::default() };
    let (found, _) = run((&my_tree, &my_root), (&their_tree, &their_root), limits);
    assert_eq!(found, naive_diff(&mine, &theirs));
    let seen: Vec<&Sighting> = found.iter().filter_map(|found| found.theirs.as_ref()).collect();
    assert_eq!(seen.len(), 2);
}

#[test]
fn what_does_not_belong_at_a_position_is_refused() {
    let tag = Tag::from_bytes([1; 16]);
    let note = |name: &str, index| Summary::Note { name: name.into(), note: note(index), tag };
    let key = |name: &str| blake3::hash(name.as_bytes()).as_bytes()[0] >> 4;
    let decode = |digits: &[u8], content: Content| {
        let at = Position { area: Area::Folder(None), digits: digits.into() };
        let root = RootHash::empty();
        let items = vec![Item { at, content }];
        WalkAsk::decode(&WalkAsk { mine: root, theirs: None, items }.encode())
    };
    let here = Content::Bucket(vec![note("a.md", 1)]);
    assert!(decode(&[key("a.md")], here.clone()).is_ok());
    assert!(decode(&[key("a.md") ^ 1], here).is_err(), "another digit");
    let unsorted = Content::Bucket(vec![note("b.md", 1), note("a.md", 1)]);
    assert!(decode(&[], unsorted).is_err());
    let crowded = (10..27).map(|n| note(&format!("n{n}"), n)).collect();
    assert!(decode(&[], Content::Bucket(crowded)).is_err(), "seventeen names are a branch");
    let claimed = (10..27).map(|n| note("claimed.md", n)).collect::<Vec<_>>();
    let mut claimed = claimed;
    claimed.sort_by(|a, b| a.order().cmp(&b.order()));
    assert!(decode(&[], Content::Bucket(claimed)).is_ok());
    assert!(decode(&[0; 64], Content::Branch(Box::new([Some(tag); 16]))).is_err(), "too deep");
    let edits = Content::Edits { entries: vec![note("a.md", 1)], lacking: Vec::new() };
    assert!(decode(&[], edits).is_err(), "only answers have edits");
}
