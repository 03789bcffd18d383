//! One value of every kind, always the same: the source of `vectors/` and the seeds of hostile
//! bytes. The versions are a real little history, so that records can be checked by deriving them.

use std::collections::{BTreeMap, BTreeSet};

use crucible_core::conflict::{Clash, Conflict, Hunk, Kept};
use crucible_core::hash::{ContentHash, Domain, hex, keyed};
use crucible_core::id::{NoteId, ReplicaId, RootHash, VaultId, VersionId};
use crucible_core::merkle::walk::{self, WalkAnswer, WalkAsk};
use crucible_core::timestamp::Stamp;
use crucible_core::vault_path::{FoldKey, VaultPath};
use crucible_core::version::{Author, Kind, Live, State, Version};
use crucible_core::version_vector::{Dot, VersionVector};
use crucible_proto::message::{self, Answer, ConflictNews, Cursor, Done, Have, PolicyRule, Round};
use crucible_proto::parcel::{Bytes, Content, Group, PackFrame, Parcel, Prefix, Record};
use crucible_proto::wire;

/// Something with bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sample {
    /// A canonical encoding.
    Version(Version),
    /// A bare value.
    Parcel(Parcel),
    /// A body.
    Round(Round),
    /// A body.
    Answer(Answer),
}

impl Sample {
    /// The bytes on the wire.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Version(version) => version.encode(),
            Self::Parcel(parcel) => wire::encode(parcel),
            Self::Round(round) => message::body(round),
            Self::Answer(answer) => message::body(answer),
        }
    }

    /// Reads bytes as the kind this one is of.
    pub fn decode_like(&self, bytes: &[u8]) -> Result<Self, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        match self {
            Self::Version(_) => Version::decode(bytes).map(Self::Version).map_err(|e| text(&e)),
            Self::Parcel(_) => wire::decode(bytes).map(Self::Parcel).map_err(|e| text(&e)),
            Self::Round(_) => message::parse(bytes).map(Self::Round).map_err(|e| text(&e)),
            Self::Answer(_) => message::parse(bytes).map(Self::Answer).map_err(|e| text(&e)),
        }
    }
}

const VAULT: VaultId = VaultId::from_bytes([0xaa; 16]);
const ALICE: ReplicaId = ReplicaId::from_bytes([0x01; 16]);
const BOB: ReplicaId = ReplicaId::from_bytes([0x02; 16]);
/// 2026-11-23 12:00:00 UTC.
const NOON_MS: u64 = 1_795_435_200_000;

const BORN: &str = "---\ntags: [a]\n---\n# Title\n\nOne.\n";
const EDITED: &str = "---\nstatus: done\ntags: [a, b]\n---\n# Title\n\nOne.\n\nTwo.\n";
const OTHER: &str = "---\ntags: [a]\n---\n# Title\n\nOne!\n";
const MERGED: &str = "---\nstatus: done\ntags: [a, b]\n---\n# Title\n\nOne!\n\nTwo.\n";

fn path(path: &str) -> VaultPath {
    VaultPath::new(path).expect("sample paths are vault paths")
}

fn stamp(replica: ReplicaId, after_ms: u64) -> Stamp {
    Stamp::new(NOON_MS + after_ms, 0, replica)
}

fn live(text: &str, at: &str) -> Live {
    Live {
        path: path(at),
        kind: Kind::Note,
        content: ContentHash::of_text(text),
        bytes: text.len() as u64,
        keys: BTreeMap::new(),
        tags: BTreeMap::new(),
    }
}

/// A note is born, edited by Alice, edited by Bob meanwhile, merged, moved, deleted.
pub struct History {
    /// Alice's first version.
    pub born: Version,
    /// Alice adds a key, a tag and a paragraph.
    pub edited: Version,
    /// Bob changes a word of what was born.
    pub other: Version,
    /// Both edits together.
    pub merged: Version,
    /// Alice renames it.
    pub moved: Version,
    /// Bob deletes it.
    pub deleted: Version,
}

/// The history all samples speak of.
pub fn history() -> History {
    let note = NoteId::derive(&VAULT, &path("Daily/one.md"), 0);
    let by = |replica, counter, after_ms, parents: &[&Version], state| {
        let none = VersionVector::new();
        let mut clock = parents.iter().fold(none, |clock, parent| clock.join(&parent.clock));
        clock.observe(Dot { replica, counter });
        Version {
            note,
            parents: parents.iter().map(|parent| parent.id()).collect(),
            clock,
            stamp: stamp(replica, after_ms),
            author: Author::Replica(replica),
            state,
        }
    };
    let born = by(ALICE, 1, 0, &[], State::Live(live(BORN, "Daily/one.md")));
    let mut changed = live(EDITED, "Daily/one.md");
    changed.keys = ["status", "tags"].map(|key| (key.into(), stamp(ALICE, 1_000))).into();
    let dot = Dot { replica: ALICE, counter: 2 };
    changed.tags = BTreeMap::from([("b".into(), BTreeSet::from([dot]))]);
    let edited = by(ALICE, 2, 1_000, &[&born], State::Live(changed.clone()));
    let other = by(BOB, 1, 2_000, &[&born], State::Live(live(OTHER, "Daily/one.md")));
    let mut parents = vec![edited.id(), other.id()];
    parents.sort_unstable();
    let together = live(MERGED, "Daily/one.md");
    let state = State::Live(Live { keys: changed.keys, tags: changed.tags, ..together });
    let merged = Version {
        note,
        parents,
        clock: edited.clock.join(&other.clock),
        stamp: other.stamp.just_above(),
        author: Author::Merge(1),
        state,
    };
    let there = Live { path: path("Archive/one.md"), ..merged.live().expect("alive").clone() };
    let moved = by(ALICE, 3, 3_000, &[&merged], State::Live(there));
    let deleted = by(BOB, 2, 4_000, &[&moved], State::Deleted);
    History { born, edited, other, merged, moved, deleted }
}

fn content(version: &Version, source: Bytes) -> Content {
    let live = version.live().expect("only live versions have content");
    Content { hash: live.content, bytes: live.bytes, source }
}

/// Zstandard frame with one raw block: the same bytes from every compressor.
fn raw_frame(raw: &[u8]) -> Vec<u8> {
    let size = (raw.len() as u32) << 3 | 1;
    // Frame header without content size, window of 1 KiB; one last raw block.
    [&[0x00, 0x00][..], &size.to_le_bytes()[..3], raw].concat()
}

fn group(replica: ReplicaId, first: &Version, records: Vec<Record>) -> Group {
    let counter = first.clock.get(&replica);
    Group { replica, ticks: first.stamp.ticks(), counter, records }
}

fn parcel(groups: Vec<Group>) -> Parcel {
    Parcel { packs: Vec::new(), groups }
}

fn ticks(from: &Version, to: &Version) -> u64 {
    to.stamp.ticks() - from.stamp.ticks()
}

fn parcels() -> Vec<(&'static str, Parcel)> {
    let h = history();
    let create = Record::Create {
        ticks: 0,
        counter: 0,
        path: path("Daily/one.md"),
        generation: 0,
        kind: Kind::Note,
        content: content(&h.born, Bytes::Packed(0)),
    };
    let edit = |ticks, counter| Record::Edit {
        ticks,
        counter,
        parent: Prefix::of(&h.born.id()),
        content: content(&h.edited, Bytes::Delta(raw_frame(EDITED.as_bytes()))),
        keys: vec!["status".into(), "tags".into()],
        tags: vec!["b".into()],
    };
    let pack = PackFrame { raw_bytes: BORN.len() as u32, frame: raw_frame(BORN.as_bytes()) };
    // A pack that is passed on as it is, with something in front that no record needs.
    let before = "no longer needed\n";
    let kept = [before, BORN].concat();
    let stored = PackFrame { raw_bytes: kept.len() as u32, frame: raw_frame(kept.as_bytes()) };
    let create_from_stored = Record::Create {
        ticks: 0,
        counter: 0,
        path: path("Daily/one.md"),
        generation: 0,
        kind: Kind::Note,
        content: content(&h.born, Bytes::PackedAt(0, before.len() as u32)),
    };
    let rename = Record::Move {
        ticks: 0,
        counter: 0,
        parent: Prefix::of(&h.merged.id()),
        path: path("Archive/one.md"),
    };
    let folder = Record::FolderMove {
        ticks: 0,
        counter: 0,
        from: path("Daily"),
        to: path("Archive"),
        count: 1,
        digest: keyed(Domain::Batch, &[h.moved.id().as_bytes()]),
    };
    let delete = Record::Delete { ticks: 0, counter: 0, parent: Prefix::of(&h.moved.id()) };
    let full = Record::Full {
        version: h.merged.encode(),
        source: Some(Bytes::DeltaTo(
            h.edited.live().expect("alive").content,
            raw_frame(MERGED.as_bytes()),
        )),
    };
    let gone = Record::Full { version: h.deleted.encode(), source: None };
    let nobody = |records| Group { replica: ReplicaId::NOBODY, ticks: 0, counter: 0, records };
    vec![
        ("parcel-empty", Parcel::default()),
        (
            "parcel-create-and-edit",
            Parcel {
                packs: vec![pack],
                groups: vec![group(
                    ALICE,
                    &h.born,
                    vec![create, edit(ticks(&h.born, &h.edited), 1)],
                )],
            },
        ),
        ("parcel-edit", parcel(vec![group(ALICE, &h.edited, vec![edit(0, 0)])])),
        ("parcel-move", parcel(vec![group(ALICE, &h.moved, vec![rename])])),
        ("parcel-folder-move", parcel(vec![group(ALICE, &h.moved, vec![folder])])),
        ("parcel-delete", parcel(vec![group(BOB, &h.deleted, vec![delete])])),
        (
            "parcel-stored-pack",
            Parcel {
                packs: vec![stored],
                groups: vec![group(ALICE, &h.born, vec![create_from_stored])],
            },
        ),
        ("parcel-full", parcel(vec![nobody(vec![full, gone])])),
    ]
}

fn conflict() -> Conflict {
    let h = history();
    let merge = h.merged.id();
    Conflict {
        id: Conflict::derive_id(&merge, 0),
        note: h.merged.note,
        path: path("Daily/one.md"),
        merge,
        base: Some(h.born.id()),
        winner: h.other.id(),
        loser: h.edited.id(),
        stamp: h.merged.stamp,
        clash: Clash::Body(Hunk {
            base: "One.".into(),
            winner: "One!".into(),
            loser: "One?".into(),
            at: MERGED.find("One!").expect("it is there") as u64,
            len: 4,
            kept: Kept::Winner,
        }),
    }
}

fn clashes() -> Vec<ConflictNews> {
    let first = conflict();
    let Clash::Body(hunk) = first.clash.clone() else { unreachable!("it is of a body") };
    let both = Hunk { kept: Kept::Both, ..hunk.clone() };
    let others = [
        Clash::Key { key: "status".into(), hunk },
        Clash::FirstContact(both),
        Clash::EditOverDelete,
        Clash::Path { loser: path("Elsewhere/one.md") },
        Clash::Content,
    ];
    let more = others.into_iter().zip(1..).map(|(clash, index)| ConflictNews {
        conflict: Conflict { id: Conflict::derive_id(&first.merge, index), clash, ..first.clone() },
        closed: index == 5,
    });
    let mut news = vec![ConflictNews { conflict: first.clone(), closed: false }];
    news.extend(more);
    news
}

fn rounds() -> Vec<(&'static str, Round)> {
    let h = history();
    let nothing_new = Round {
        replica: ALICE,
        common: Some(RootHash::from_bytes([0xcc; 32])),
        cursor: None,
        push: Parcel::default(),
        more: false,
        have: Vec::new(),
        allow_mass_delete: false,
        whole: false,
        policies: Vec::new(),
        conflicts_seen: 0,
        closed: Vec::new(),
        walk: None,
    };
    let (_, push) = parcels().swap_remove(2);
    let one_edit = Round { push, ..nothing_new.clone() };
    let first = Round { common: None, ..nothing_new.clone() };
    let everything = Round {
        cursor: Some(Cursor { after: 300 }),
        more: true,
        have: vec![Have { note: h.born.note, heads: vec![h.edited.id()] }],
        allow_mass_delete: true,
        whole: true,
        policies: vec![PolicyRule { glob: "Daily/**".into(), keep_both: true }],
        conflicts_seen: 7,
        closed: vec![conflict().id],
        ..nothing_new.clone()
    };
    let at = walk::Position::top(walk::Area::Folder(None));
    let item = walk::Item { at, content: walk::Content::Absent };
    let mine = RootHash::from_bytes([0xee; 32]);
    let walk = Some(WalkAsk { mine, theirs: None, items: vec![item] });
    let ready_to_walk = Round { walk, ..nothing_new.clone() };
    vec![
        ("round-nothing-new", nothing_new),
        ("round-one-edit", one_edit),
        ("round-first", first),
        ("round-everything", everything),
        ("round-ready-to-walk", ready_to_walk),
    ]
}

fn answers() -> Vec<(&'static str, Answer)> {
    let root = Some(RootHash::from_bytes([0xdd; 32]));
    let in_step = Done {
        root,
        counter: 1,
        now_ms: NOON_MS,
        pull: Parcel::default(),
        next: None,
        conflicts: Vec::new(),
        conflicts_seen: 0,
        merged: 0,
    };
    let walk = Some(WalkAnswer::Restart { root: RootHash::from_bytes([0xdd; 32]) });
    let (_, pull) = parcels().pop().expect("there are parcels");
    let merged = Done {
        pull,
        next: Some(Cursor { after: 512 }),
        conflicts: clashes(),
        conflicts_seen: 8,
        merged: 1,
        ..in_step.clone()
    };
    vec![
        ("answer-done-in-step", Answer::Done(Box::new(in_step))),
        ("answer-done-merged", Answer::Done(Box::new(merged))),
        ("answer-unknown-root", Answer::UnknownRoot { walk: None }),
        ("answer-unknown-root-walked", Answer::UnknownRoot { walk }),
        ("answer-clock-ahead", Answer::ClockAhead { now_ms: NOON_MS }),
        ("answer-cloned", Answer::Cloned { counter: 42 }),
        ("answer-guard", Answer::Guard { deletions: 900, of: 1_000 }),
        ("answer-missing", Answer::Missing(vec![ContentHash::of_blob(b"an image")])),
        ("answer-unresolved", Answer::Unresolved),
    ]
}

/// Every sample by the name of its vector.
pub fn samples() -> Vec<(&'static str, Sample)> {
    let h = history();
    let versions = [
        ("version-born", h.born),
        ("version-edited", h.edited),
        ("version-other", h.other),
        ("version-merged", h.merged),
        ("version-moved", h.moved),
        ("version-deleted", h.deleted),
    ];
    let mut all: Vec<_> = versions.map(|(name, v)| (name, Sample::Version(v))).into();
    all.extend(parcels().into_iter().map(|(name, parcel)| (name, Sample::Parcel(parcel))));
    all.extend(rounds().into_iter().map(|(name, round)| (name, Sample::Round(round))));
    all.extend(answers().into_iter().map(|(name, answer)| (name, Sample::Answer(answer))));
    all
}

/// What is derived by hashing, as `name value` lines.
pub fn derived() -> String {
    let h = history();
    let mut lines = Vec::new();
    let mut say = |name: &str, value: String| lines.push(format!("{name} {value}"));
    for (name, text) in [
        ("content.text.empty", ""),
        ("content.text.a-lf", "a\n"),
        ("content.text.born", BORN),
        ("content.text.edited", EDITED),
        ("content.text.20-headings", &"# h\n".repeat(20)),
    ] {
        say(name, ContentHash::of_text(text).to_string());
    }
    say("content.blob.empty", ContentHash::of_blob(b"").to_string());
    say("content.blob.a-lf", ContentHash::of_blob(b"a\n").to_string());
    say("note.generation-0", h.born.note.to_string());
    say("note.generation-1", NoteId::derive(&VAULT, &path("Daily/one.md"), 1).to_string());
    let versions: [(&str, &Version); 6] = [
        ("version.born", &h.born),
        ("version.edited", &h.edited),
        ("version.other", &h.other),
        ("version.merged", &h.merged),
        ("version.moved", &h.moved),
        ("version.deleted", &h.deleted),
    ];
    for (name, version) in versions {
        say(name, version.id().to_string());
    }
    let ids: Vec<VersionId> = vec![h.moved.id(), h.deleted.id()];
    let bytes: Vec<u8> = ids.iter().flat_map(|id| *id.as_bytes()).collect();
    say("batch.moved-deleted", hex(&keyed(Domain::Batch, &[&bytes])));
    say("conflict.merged-0", Conflict::derive_id(&h.merged.id(), 0).to_string());
    say("fold.Ä.md", FoldKey::new("Ä.md").as_str().to_owned());
    say("fold.STRASSE", FoldKey::new("straße").as_str().to_owned());
    lines.join("\n") + "\n"
}

/// A vector's file: lines of 40 bytes in hex.
pub fn vector_file(sample: &Sample) -> String {
    let bytes = sample.encode();
    bytes.chunks(40).map(|line| hex(line) + "\n").collect()
}
