//! The fuzz targets, for a moment: every seed of the corpus, then random changes of seeds.
//!
//! The same bodies run without end, and guided by coverage, under cargo-fuzz (see `fuzz/`).

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

use crate::bodies::{Body, TARGETS};

/// Changed seeds tried for each target; `PROPTEST_CASES` can ask for more.
const CASES: u32 = 2_000;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let read = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{} has no seeds: {error}", folder.display()));
    let mut files: Vec<PathBuf> = read.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// One small change, of the kind fuzzers make.
#[derive(Debug, Clone)]
enum Change {
    Set(Index, u8),
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    Cut(Index, Index),
    Double(Index, Index),
    End(Index),
    /// A number of eight bytes at its edges.
    Edge(Index, u64),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        (at(), 0u8..8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        (at(), prop::collection::vec(any::<u8>(), 1..12)).prop_map(|(a, b)| Change::Insert(a, b)),
        (at(), at()).prop_map(|(one, other)| Change::Cut(one, other)),
        (at(), at()).prop_map(|(one, other)| Change::Double(one, other)),
        at().prop_map(Change::End),
        (at(), prop::sample::select(vec![0, 1, u64::MAX, 1 << 63, 1 << 32, u64::MAX - 1]))
            .prop_map(|(at, number)| Change::Edge(at, number)),
    ]
}

fn changed(mut bytes: Vec<u8>, change: &Change) -> Vec<u8> {
    let length = bytes.len() + 1;
    let range = |one: &Index, other: &Index| {
        let (one, other) = (one.index(length), other.index(length));
        one.min(other)..one.max(other)
    };
    match change {
        Change::Set(at, to) => {
            if let Some(byte) = bytes.get_mut(at.index(length)) {
                *byte = *to;
            }
        }
        Change::Flip(at, bit) => {
            if let Some(byte) = bytes.get_mut(at.index(length)) {
                *byte ^= 1 << bit;
            }
        }
        Change::Insert(at, more) => {
            let at = at.index(length);
            bytes.splice(at..at, more.iter().copied());
        }
        Change::Cut(one, other) => {
            bytes.drain(range(one, other));
        }
        Change::Double(one, other) => {
            let range = range(one, other);
            let piece = bytes[range.clone()].to_vec();
            bytes.splice(range.end..range.end, piece);
        }
        Change::End(at) => bytes.truncate(at.index(length)),
        Change::Edge(at, number) => {
            let at = at.index(length);
            let end = (at + 8).min(bytes.len());
            bytes.splice(at..end, number.to_be_bytes());
        }
    }
    bytes
}

fn run(target: &str, body: Body) {
    let seeds = corpus(target);
    assert!(!seeds.is_empty(), "{target} has no seeds");
    for seed in &seeds {
        body(seed);
    }
    let random = prop::collection::vec(any::<u8>(), 0..300);
    let mutated = (any::<Index>(), prop::collection::vec(change(), 1..6))
        .prop_map(|(seed, changes)| changes.iter().fold(seed.get(&seeds).clone(), changed));
    let config = Config::default();
    let cases = config.cases.max(CASES);
    let config = Config { cases, failure_persistence: None, ..config };
    let bytes = prop_oneof![1 => random, 6 => mutated];
    let ran = TestRunner::new(config).run(&bytes, |bytes| {
        body(&bytes);
        Ok(())
    });
    ran.unwrap_or_else(|error| panic!("{target}: {error}"));
}

macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            let name = stringify!($name);
            let (_, body) = TARGETS.iter().find(|(target, _)| *target == name).unwrap();
            run(name, *body);
        })*

        #[test]
        fn every_target_is_run() {
            let names: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

targets!(
    version,
    round,
    answer,
    parcel,
    unzip,
    vault_path,
    split,
    frontmatter,
    text_merge,
    merkle_node,
    walk_ask,
    walk_answer,
    proof,
    block_proof,
);
