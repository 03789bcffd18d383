//! What each fuzz target does with its bytes. One file for both drivers: `fuzz/fuzz_targets/` under
//! cargo-fuzz, and `crates/proto/tests/wire/fuzz.rs` for a moment in every `cargo test`.
//!
//! A body panics when a law is broken and returns for everything else; bytes that are refused are
//! fine. Adding a decoder: add its body to [`TARGETS`], a target file and a few seeds.

use crucible_core::block::{self, BLOCK_BYTES_MAX};
use crucible_core::conflict::Kept;
use crucible_core::frontmatter::Frontmatter;
use crucible_core::hash::ContentHash;
use crucible_core::merkle::block_proof::BlockProof;
use crucible_core::merkle::node::Node;
use crucible_core::merkle::proof::Proof;
use crucible_core::merkle::walk::{WalkAnswer, WalkAsk};
use crucible_core::text_merge::{Overlap, Side, merge, merge_unrelated};
use crucible_core::vault_path::{FoldKey, VaultPath};
use crucible_core::version::Version;
use crucible_proto::message::{self, Answer, Round};
use crucible_proto::parcel::Parcel;
use crucible_proto::wire::{self, Wire};
use crucible_proto::zip;

/// A target: does something with any bytes.
pub type Body = fn(&[u8]);

/// Every target by its name, which is that of its file and its corpus folder.
pub const TARGETS: &[(&str, Body)] = &[
    ("version", version),
    ("round", round),
    ("answer", answer),
    ("parcel", parcel),
    ("unzip", unzip),
    ("vault_path", vault_path),
    ("split", split),
    ("frontmatter", frontmatter),
    ("text_merge", text_merge),
    ("merkle_node", merkle_node),
    ("walk_ask", walk_ask),
    ("walk_answer", walk_answer),
    ("proof", proof),
    ("block_proof", block_proof),
];

/// Versions: one encoding per value.
pub fn version(bytes: &[u8]) {
    if let Ok(version) = Version::decode(bytes) {
        assert_eq!(version.encode(), bytes, "an accepted version has one encoding");
        assert!(version.check().is_ok());
    }
}

/// Requests.
pub fn round(bytes: &[u8]) {
    if let Ok(value) = message::parse::<Round>(bytes) {
        reads_back(&value);
    }
}

/// Answers.
pub fn answer(bytes: &[u8]) {
    if let Ok(value) = message::parse::<Answer>(bytes) {
        reads_back(&value);
    }
}

/// Parcels alone, so that a mutation is more likely to reach the records.
pub fn parcel(bytes: &[u8]) {
    if let Ok(value) = wire::decode::<Parcel>(bytes) {
        reads_back(&value);
    }
}

fn reads_back<T: Wire + PartialEq + std::fmt::Debug>(value: &T) {
    let again = wire::decode::<T>(&wire::encode(value)).expect("what was read can be written");
    assert_eq!(&again, value);
}

/// Frames; the first two bytes are the announced size, the next is where a base ends.
pub fn unzip(bytes: &[u8]) {
    let [high, low, base, rest @ ..] = bytes else { return };
    let announced = usize::from(u16::from_be_bytes([*high, *low]));
    let (base, frame) = rest.split_at(usize::from(*base).min(rest.len()));
    for raw in [zip::unzip(frame, announced), zip::undelta(base, frame, announced)] {
        let Ok(raw) = raw else { continue };
        assert_eq!(raw.len(), announced, "a frame holds what it announces");
        assert_eq!(zip::unzip(&zip::zip(&raw), announced), Ok(raw));
    }
    let delta = zip::delta(base, frame);
    assert_eq!(zip::undelta(base, &delta, frame.len()).as_deref(), Ok(frame));
}

/// Paths: whatever is accepted is inside, and is made of accepted parts.
pub fn vault_path(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let folded = FoldKey::new(text);
    assert_eq!(FoldKey::new(folded.as_str()), folded, "folding is idempotent");
    let Ok(path) = VaultPath::new(text) else { return };
    assert_eq!(path.as_str(), text);
    for component in std::path::Path::new(text).components() {
        assert!(matches!(component, std::path::Component::Normal(_)));
    }
    if let Some(folder) = path.parent() {
        assert_eq!(folder.join(path.name()), Ok(path));
    }
}

/// Blocks: nothing lost, nothing unbounded, and a hash for every text.
pub fn split(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let blocks = block::split(&text);
    assert_eq!(blocks.concat(), text);
    assert!(blocks.iter().all(|block| (1..=BLOCK_BYTES_MAX).contains(&block.len())));
    assert_eq!(ContentHash::of_text(&text), ContentHash::of_text(&blocks.concat()));
}

/// Heads: every byte is in an entry, in the frame around them, or in the body.
pub fn frontmatter(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = Frontmatter::of(&text);
    let mut joined = String::new();
    if let Frontmatter::Keys(head) = &head {
        joined.push_str(head.open);
        for entry in &head.entries {
            assert_eq!(head.get(&entry.key), Some(entry), "no key is there twice");
            assert!(entry.text.ends_with(entry.value()));
            joined.push_str(entry.lead);
            joined.push_str(entry.text);
        }
        joined.push_str(head.tail);
    }
    joined.push_str(body);
    assert_eq!(joined, text);
}

/// Merges of three texts that 0xff separates: symmetric, and hunks lie where they say.
pub fn text_merge(bytes: &[u8]) {
    let texts: Vec<_> = bytes.split(|byte| *byte == 0xff).map(String::from_utf8_lossy).collect();
    let [base, ours, theirs] = texts.as_slice() else { return };
    for overlap in [Overlap::Lww, Overlap::Both] {
        let merged = merge(base, ours, theirs, Side::Ours, overlap);
        assert_eq!(merged, merge(base, theirs, ours, Side::Theirs, overlap), "symmetric");
        for hunk in &merged.hunks {
            let here = merged.text.get(hunk.range()).expect("a hunk lies in the text");
            assert!(hunk.kept == Kept::Both || here == hunk.winner, "the winner's text is there");
        }
    }
    assert_eq!(merge(base, base, theirs, Side::Ours, Overlap::Lww).text, **theirs);
    assert_eq!(
        merge_unrelated(ours, theirs, Side::Ours),
        merge_unrelated(theirs, ours, Side::Theirs)
    );
}

/// Nodes of the tree: one encoding per value.
pub fn merkle_node(bytes: &[u8]) {
    if let Ok(node) = Node::decode(bytes) {
        assert_eq!(node.encode(), bytes, "an accepted node has one encoding");
    }
}

/// Requests of a walk: one encoding per value.
pub fn walk_ask(bytes: &[u8]) {
    if let Ok(ask) = WalkAsk::decode(bytes) {
        assert_eq!(ask.encode(), bytes, "an accepted request has one encoding");
    }
}

/// Answers of a walk: one encoding per value.
pub fn walk_answer(bytes: &[u8]) {
    if let Ok(answer) = WalkAnswer::decode(bytes) {
        assert_eq!(answer.encode(), bytes, "an accepted answer has one encoding");
    }
}

/// Proofs over the tree: one encoding per value.
pub fn proof(bytes: &[u8]) {
    if let Ok(proof) = Proof::decode(bytes) {
        assert_eq!(proof.encode(), bytes, "an accepted proof has one encoding");
    }
}

/// Proofs of one block: one encoding per value.
pub fn block_proof(bytes: &[u8]) {
    if let Ok(proof) = BlockProof::decode(bytes) {
        assert_eq!(proof.encode(), bytes, "an accepted proof has one encoding");
    }
}
