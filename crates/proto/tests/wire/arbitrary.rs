//! Any message there can be.

use crucible_core::conflict::{Clash, Conflict, Hunk, Kept};
use crucible_core::hash::ContentHash;
use crucible_core::id::{ConflictId, NoteId, ReplicaId, RootHash, VersionId};
use crucible_core::merkle::walk::{self, WalkAnswer, WalkAsk};
use crucible_core::timestamp::Stamp;
use crucible_core::vault_path::VaultPath;
use crucible_core::version::Kind;
use crucible_proto::message::{Answer, ConflictNews, Cursor, Done, Have, PolicyRule, Round};
use crucible_proto::parcel::{Bytes, Content, Group, PackFrame, Parcel, Prefix, Record};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..most)
}

fn path() -> impl Strategy<Value = VaultPath> {
    let name =
        prop::sample::select(vec!["a.md", "Daily/2026-11-23.md", "ü/é e\u{301}.md", "x.png"]);
    name.prop_map(|name| VaultPath::new(name).unwrap())
}

fn replica() -> impl Strategy<Value = ReplicaId> {
    any::<[u8; 16]>().prop_map(ReplicaId::from_bytes)
}

fn version() -> impl Strategy<Value = VersionId> {
    any::<[u8; 32]>().prop_map(VersionId::from_bytes)
}

fn hash() -> impl Strategy<Value = ContentHash> {
    any::<[u8; 32]>().prop_map(ContentHash::from_bytes)
}

fn source() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        Just(Bytes::Elsewhere),
        (0u32..64).prop_map(Bytes::Packed),
        (0u32..64, any::<u32>()).prop_map(|(pack, at)| Bytes::PackedAt(pack, at)),
        bytes(40).prop_map(Bytes::Delta),
        (hash(), bytes(40)).prop_map(|(base, frame)| Bytes::DeltaTo(base, frame)),
    ]
}

fn content() -> impl Strategy<Value = Content> {
    (hash(), any::<u64>(), source()).prop_map(|(hash, bytes, source)| Content {
        hash,
        bytes,
        source,
    })
}

fn prefix() -> impl Strategy<Value = Prefix> {
    any::<[u8; 8]>().prop_map(Prefix)
}

fn record() -> impl Strategy<Value = Record> {
    let by = || (any::<u64>(), any::<u64>());
    let kind = prop_oneof![Just(Kind::Note), Just(Kind::Asset)];
    let names = || vec("[a-z ß]{0,20}", 0..4);
    prop_oneof![
        (bytes(60), option::of(source()))
            .prop_map(|(version, source)| Record::Full { version, source }),
        (by(), path(), any::<u32>(), kind, content()).prop_map(
            |((ticks, counter), path, generation, kind, content)| {
                Record::Create { ticks, counter, path, generation, kind, content }
            }
        ),
        (by(), prefix(), content(), names(), names()).prop_map(
            |((ticks, counter), parent, content, keys, tags)| {
                Record::Edit { ticks, counter, parent, content, keys, tags }
            }
        ),
        (by(), prefix(), path()).prop_map(|((ticks, counter), parent, path)| {
            Record::Move { ticks, counter, parent, path }
        }),
        (by(), prefix()).prop_map(|((ticks, counter), parent)| Record::Delete {
            ticks,
            counter,
            parent
        }),
        (by(), path(), path(), 0u32..10_000, any::<[u8; 32]>()).prop_map(
            |((ticks, counter), from, to, count, digest)| {
                Record::FolderMove { ticks, counter, from, to, count, digest }
            }
        ),
    ]
}

pub fn parcel() -> impl Strategy<Value = Parcel> {
    let pack =
        (0u32..1 << 20, bytes(60)).prop_map(|(raw_bytes, frame)| PackFrame { raw_bytes, frame });
    let group = (replica(), any::<u64>(), any::<u64>(), vec(record(), 0..8))
        .prop_map(|(replica, ticks, counter, records)| Group { replica, ticks, counter, records });
    (vec(pack, 0..4), vec(group, 0..4)).prop_map(|(packs, groups)| Parcel { packs, groups })
}

fn cursor() -> impl Strategy<Value = Cursor> {
    any::<u64>().prop_map(|after| Cursor { after })
}

fn root() -> impl Strategy<Value = Option<RootHash>> {
    option::of(any::<[u8; 32]>().prop_map(RootHash::from_bytes))
}

pub fn round() -> impl Strategy<Value = Round> {
    let have = (any::<[u8; 32]>(), vec(version(), 0..4))
        .prop_map(|(note, heads)| Have { note: NoteId::from_bytes(note), heads });
    let policy = ("[a-z*/]{0,20}", any::<bool>())
        .prop_map(|(glob, keep_both)| PolicyRule { glob, keep_both });
    let closed = any::<[u8; 16]>().prop_map(ConflictId::from_bytes);
    (
        (replica(), root(), option::of(cursor()), parcel(), any::<[bool; 3]>()),
        (
            vec(have, 0..4),
            vec(policy, 0..4),
            any::<u64>(),
            vec(closed, 0..4),
            option::of(walk_ask()),
        ),
    )
        .prop_map(
            |((replica, common, cursor, push, flags), (have, policies, seen, closed, walk))| {
                Round {
                    replica,
                    common,
                    cursor,
                    push,
                    more: flags[0],
                    have,
                    allow_mass_delete: flags[1],
                    whole: flags[2],
                    policies,
                    conflicts_seen: seen,
                    closed,
                    walk,
                }
            },
        )
}

fn walk_ask() -> impl Strategy<Value = WalkAsk> {
    (any::<[u8; 32]>(), vec(0u8..16, 0..4)).prop_map(|(mine, digits)| {
        let at = walk::Position { area: walk::Area::Folder(None), digits: digits.into() };
        let items = vec![walk::Item { at, content: walk::Content::Absent }];
        WalkAsk { mine: RootHash::from_bytes(mine), theirs: None, items }
    })
}

fn walked() -> impl Strategy<Value = WalkAnswer> {
    any::<[u8; 32]>().prop_map(|root| WalkAnswer::Restart { root: RootHash::from_bytes(root) })
}

fn hunk() -> impl Strategy<Value = Hunk> {
    (any::<[String; 3]>(), any::<[u64; 2]>(), any::<bool>()).prop_map(
        |([base, winner, loser], [at, len], both)| {
            let kept = if both { Kept::Both } else { Kept::Winner };
            Hunk { base, winner, loser, at, len, kept }
        },
    )
}

fn conflict() -> impl Strategy<Value = Conflict> {
    let clash = prop_oneof![
        hunk().prop_map(Clash::Body),
        (any::<String>(), hunk()).prop_map(|(key, hunk)| Clash::Key { key, hunk }),
        hunk().prop_map(Clash::FirstContact),
        Just(Clash::EditOverDelete),
        path().prop_map(|loser| Clash::Path { loser }),
        Just(Clash::Content),
    ];
    let ids = (any::<[u8; 16]>(), any::<[u8; 32]>());
    let sides = (version(), option::of(version()), version(), version());
    (ids, path(), sides, any::<u64>(), replica(), clash).prop_map(
        |((id, note), path, (merge, base, winner, loser), ticks, replica, clash)| Conflict {
            id: ConflictId::from_bytes(id),
            note: NoteId::from_bytes(note),
            path,
            merge,
            base,
            winner,
            loser,
            stamp: Stamp::from_ticks(ticks, replica),
            clash,
        },
    )
}

fn done() -> impl Strategy<Value = Done> {
    let news = (conflict(), any::<bool>())
        .prop_map(|(conflict, closed)| ConflictNews { conflict, closed });
    ((root(), any::<[u64; 3]>(), parcel()), (option::of(cursor()), vec(news, 0..4), any::<u32>()))
        .prop_map(|((root, [counter, now_ms, seen], pull), (next, conflicts, merged))| Done {
            root,
            counter,
            now_ms,
            pull,
            next,
            conflicts,
            conflicts_seen: seen,
            merged,
        })
}

pub fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        4 => done().prop_map(|done| Answer::Done(Box::new(done))),
        1 => option::of(walked()).prop_map(|walk| Answer::UnknownRoot { walk }),
        1 => any::<u64>().prop_map(|now_ms| Answer::ClockAhead { now_ms }),
        1 => any::<u64>().prop_map(|counter| Answer::Cloned { counter }),
        1 => any::<[u64; 2]>().prop_map(|[deletions, of]| Answer::Guard { deletions, of }),
        1 => vec(hash(), 0..4).prop_map(Answer::Missing),
        1 => Just(Answer::Unresolved),
    ]
}
