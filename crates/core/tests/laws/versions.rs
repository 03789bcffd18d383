//! One encoding per version, and nothing else is read as one.

use std::collections::BTreeSet;

use crucible_core::hash::ContentHash;
use crucible_core::id::{NoteId, ReplicaId, VersionId};
use crucible_core::limits::{KEY_BYTES_MAX, PARENTS_MAX, TAG_DOTS_MAX};
use crucible_core::timestamp::Stamp;
use crucible_core::vault_path::VaultPath;
use crucible_core::version::{
    Author, DecodeVersionError, KeyStamps, Kind, Live, State, TagDots, Version,
};
use crucible_core::version_vector::{Dot, VersionVector};
use proptest::prelude::*;

fn replica() -> impl Strategy<Value = ReplicaId> {
    (1u8..9).prop_map(|n| ReplicaId::from_bytes([n; 16]))
}

fn stamp() -> impl Strategy<Value = Stamp> {
    (any::<u64>(), replica()).prop_map(|(ticks, replica)| Stamp::from_ticks(ticks, replica))
}

fn dot() -> impl Strategy<Value = Dot> {
    (replica(), 1u64..u64::MAX).prop_map(|(replica, counter)| Dot { replica, counter })
}

fn state() -> impl Strategy<Value = State> {
    let path = prop::sample::select(vec!["a.md", "x/ü b.md", "deep/er/é.md", "p.png", "CON"]);
    let keys = prop::collection::btree_map("[a-zß ]{0,30}", stamp(), 0..5);
    let tags = prop::collection::btree_map(
        "[a-z/é]{0,30}",
        prop::collection::btree_set(dot(), 0..4),
        0..5,
    );
    let live = (path, any::<bool>(), any::<[u8; 32]>(), any::<u64>(), keys, tags).prop_map(
        |(path, asset, content, bytes, keys, tags)| {
            State::Live(Live {
                path: VaultPath::new(path).unwrap(),
                kind: if asset { Kind::Asset } else { Kind::Note },
                content: ContentHash::from_bytes(content),
                bytes,
                keys: if asset { KeyStamps::new() } else { keys },
                tags: if asset { TagDots::new() } else { tags },
            })
        },
    );
    prop_oneof![1 => Just(State::Deleted), 4 => live]
}

fn version() -> impl Strategy<Value = Version> {
    let parents = prop::collection::btree_set(any::<[u8; 32]>(), 0..6);
    let clock = prop::collection::vec(dot(), 0..6);
    let author = (any::<bool>(), any::<u16>(), dot());
    (any::<[u8; 32]>(), parents, clock, author, any::<u64>(), state()).prop_map(
        |(note, parents, clock, (merge, algorithm, dot), ticks, mut state)| {
            let parents: Vec<_> = parents.into_iter().map(VersionId::from_bytes).collect();
            let mut clock: VersionVector = clock.into_iter().collect();
            let merge = merge && parents.len() >= 2;
            let (author, by) = if merge {
                (Author::Merge(algorithm), ReplicaId::NOBODY)
            } else {
                if parents.is_empty() {
                    clock = VersionVector::new();
                }
                clock.observe(dot);
                (Author::Replica(dot.replica), dot.replica)
            };
            let stamp = Stamp::from_ticks(ticks, by);
            if let State::Live(live) = &mut state {
                live.keys.values_mut().for_each(|key| *key = stamp.min(*key));
            }
            Version { note: NoteId::from_bytes(note), parents, clock, stamp, author, state }
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read_and_the_id_is_that_of_the_bytes(version in version()) {
        let bytes = version.encode();
        let read = Version::decode(&bytes).unwrap();
        prop_assert_eq!(&read, &version);
        prop_assert!(version.check().is_ok());
        prop_assert_eq!(read.id(), version.id());
        let dot = version.dot();
        prop_assert_eq!(dot.is_none(), version.is_merge());
        prop_assert!(dot.is_none_or(|dot| version.clock.get(&dot.replica) == dot.counter));
    }

    #[test]
    fn different_versions_have_different_bytes(a in version(), b in version()) {
        prop_assert_eq!(a == b, a.encode() == b.encode());
    }

    #[test]
    fn every_cut_is_refused_and_so_is_every_tail(version in version(), tail in any::<u8>()) {
        let mut bytes = version.encode();
        for end in 0..bytes.len() {
            prop_assert!(Version::decode(&bytes[..end]).is_err(), "cut at {end}");
        }
        bytes.push(tail);
        prop_assert!(Version::decode(&bytes).is_err());
    }

    #[test]
    fn whatever_is_read_from_damaged_bytes_is_written_as_those_bytes(
        version in version(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = version.encode();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(read) = Version::decode(&bytes) {
            prop_assert_eq!(read.encode(), bytes);
        }
    }

    #[test]
    fn random_bytes_are_refused_without_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        if let Ok(read) = Version::decode(&bytes) {
            prop_assert_eq!(read.encode(), bytes);
        }
    }
}

fn first() -> Version {
    let replica = ReplicaId::from_bytes([1; 16]);
    Version {
        note: NoteId::from_bytes([2; 32]),
        parents: Vec::new(),
        clock: [Dot { replica, counter: 1 }].into_iter().collect(),
        stamp: Stamp::from_ticks(5, replica),
        author: Author::Replica(replica),
        state: State::Live(Live {
            path: VaultPath::new("a.md").unwrap(),
            kind: Kind::Note,
            content: ContentHash::from_bytes([3; 32]),
            bytes: 7,
            keys: KeyStamps::new(),
            tags: TagDots::new(),
        }),
    }
}

fn changed(change: impl FnOnce(&mut Version)) -> Version {
    let mut version = first();
    change(&mut version);
    version
}

fn live(version: &mut Version) -> &mut Live {
    match &mut version.state {
        State::Live(live) => live,
        State::Deleted => panic!("the first version is live"),
    }
}

fn stranger() -> ReplicaId {
    ReplicaId::from_bytes([9; 16])
}

fn dots_of(n: u64) -> BTreeSet<Dot> {
    (1..=n).map(|counter| Dot { replica: stranger(), counter }).collect()
}

#[test]
fn every_rule_of_a_version_is_checked_when_it_is_read() {
    let nobody = ReplicaId::NOBODY;
    let stranger = stranger();
    let dots = dots_of;
    let id = |n| VersionId::from_bytes([n; 32]);
    let name = |n: usize| "k".repeat(n);
    let broken = [
        ("parents out of order", changed(|v| v.parents = vec![id(2), id(1)])),
        ("a parent twice", changed(|v| v.parents = vec![id(1), id(1)])),
        ("too many parents", changed(|v| v.parents = (0..=PARENTS_MAX as u8).map(id).collect())),
        ("an author outside its clock", changed(|v| v.clock = VersionVector::new())),
        ("another's stamp", changed(|v| v.stamp = Stamp::from_ticks(5, stranger))),
        (
            "nobody as author",
            changed(|v| {
                v.clock = [Dot { replica: nobody, counter: 1 }].into_iter().collect();
                v.author = Author::Replica(nobody);
                v.stamp = Stamp::from_ticks(5, nobody);
            }),
        ),
        ("nobody in a clock", changed(|v| v.clock.observe(Dot { replica: nobody, counter: 1 }))),
        (
            "a first version that knows another's event",
            changed(|v| v.clock.observe(Dot { replica: stranger, counter: 1 })),
        ),
        (
            "a merge of one",
            changed(|v| {
                v.parents = vec![id(1)];
                v.author = Author::Merge(1);
                v.stamp = Stamp::from_ticks(5, nobody);
            }),
        ),
        (
            "a merge with an author's stamp",
            changed(|v| {
                v.parents = vec![id(1), id(2)];
                v.author = Author::Merge(1);
            }),
        ),
        (
            "an asset with keys",
            changed(|v| {
                let stamp = v.stamp;
                live(v).kind = Kind::Asset;
                live(v).keys.insert("k".into(), stamp);
            }),
        ),
        (
            "an asset with tags",
            changed(|v| {
                live(v).kind = Kind::Asset;
                live(v).tags.insert("t".into(), dots(1));
            }),
        ),
        (
            "a long key",
            changed(|v| {
                let stamp = v.stamp;
                live(v).keys.insert(name(KEY_BYTES_MAX + 1), stamp);
            }),
        ),
        (
            "a key stamped after its version",
            changed(|v| {
                let later = v.stamp.just_above();
                live(v).keys.insert("k".into(), later);
            }),
        ),
        (
            "a long tag",
            changed(|v| {
                live(v).tags.insert(name(KEY_BYTES_MAX + 1), dots(1));
            }),
        ),
        (
            "too many dots",
            changed(|v| {
                live(v).tags.insert("t".into(), dots(TAG_DOTS_MAX as u64 + 1));
            }),
        ),
        (
            "a dot that counts nothing",
            changed(|v| {
                let zero = Dot { replica: stranger, counter: 0 };
                live(v).tags.insert("t".into(), [zero].into());
            }),
        ),
    ];
    for (rule, version) in broken {
        let read = Version::decode(&version.encode());
        assert!(matches!(read, Err(DecodeVersionError::Rule(_))), "{rule}: {read:?}");
        // A derived version is held to the same rules without being read.
        assert!(version.check().is_err(), "{rule}");
    }
    let at_the_bounds = changed(|v| {
        let stamp = v.stamp;
        v.parents = (0..PARENTS_MAX as u8).map(id).collect();
        live(v).keys.insert(name(KEY_BYTES_MAX), stamp);
        live(v).tags.insert(name(KEY_BYTES_MAX), dots(TAG_DOTS_MAX as u64));
    });
    assert_eq!(Version::decode(&at_the_bounds.encode()).unwrap(), at_the_bounds);
}

#[test]
fn a_newer_format_is_named_as_such_whatever_its_shape() {
    let mut bytes = first().encode();
    bytes[1] = 2;
    assert!(matches!(Version::decode(&bytes), Err(DecodeVersionError::TooNew(2))));
    bytes[0] = 0x89;
    assert!(matches!(Version::decode(&bytes), Err(DecodeVersionError::TooNew(2))));
}

#[test]
fn other_spellings_of_the_same_values_are_refused() {
    let bytes = first().encode();
    assert_eq!(bytes[..4], [0x87, 0x01, 0x58, 0x20]);
    let respelled = [
        // The array, the format and the note's length in longer forms.
        [&[0x98, 0x07][..], &bytes[1..]].concat(),
        [&bytes[..1], &[0x18, 0x01], &bytes[2..]].concat(),
        [&bytes[..2], &[0x59, 0x00, 0x20], &bytes[4..]].concat(),
        // An indefinite array.
        [&[0x9f][..], &bytes[1..], &[0xff]].concat(),
        // A tag around the whole.
        [&[0xc1][..], &bytes[..]].concat(),
    ];
    for bytes in respelled {
        assert!(Version::decode(&bytes).is_err(), "{bytes:02x?}");
    }
}

#[test]
fn lengths_that_are_announced_and_absent_are_refused() {
    let huge = [0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    let head = &first().encode()[..2 + 2 + 32];
    // Parents, then (after no parents) the clock.
    assert!(Version::decode(&[head, &huge].concat()).is_err());
    let clock = [0xbb, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    assert!(Version::decode(&[head, &[0x80], &clock].concat()).is_err());
}

#[test]
fn keys_stand_in_the_order_of_their_encoding_shorter_ones_first() {
    let version = changed(|v| {
        let stamp = v.stamp;
        live(v).keys = [("aa".into(), stamp), ("b".into(), stamp)].into();
        live(v).tags = [("cc".into(), dots_of(1)), ("d".into(), dots_of(1))].into();
    });
    let bytes = version.encode();
    let at = |text: &[u8]| bytes.windows(text.len()).position(|window| window == text).unwrap();
    assert!(at(b"\x61b") < at(b"\x62aa"));
    assert!(at(b"\x61d") < at(b"\x62cc"));
    assert_eq!(Version::decode(&bytes).unwrap(), version);
}
