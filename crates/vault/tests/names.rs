//! The laws of `name`: total, injective, symmetric, unchanged where possible, local.

#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected has failed")]

use std::collections::{BTreeMap, BTreeSet};

use crucible_core::id::{NoteId, ReplicaId, VersionId};
use crucible_core::timestamp::Stamp;
use crucible_core::vault_path::VaultPath;
use crucible_vault::fs::{Facts, parent};
use crucible_vault::name::{
    Claim, ClaimTable, DiskKey, Place, Why, affected, disk_path, model_path, place_all, place_at,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

const FOLDING: Facts = Facts { folds_case: true, normalises: true, ..Facts::LINUX };
const WINDOWS: Facts = Facts { folds_case: true, windows_names: true, ..Facts::LINUX };
const TIGHT: Facts = Facts { name_bytes_max: 143, ..WINDOWS };
const FACTS: [Facts; 4] = [Facts::LINUX, FOLDING, WINDOWS, TIGHT];

fn claim(note: u8, rank: u64, path: &str) -> Claim {
    let replica = ReplicaId::from_bytes([1; 16]);
    // Two notes whose ids begin alike, now and then.
    let mut id = [note / 2; 32];
    id[31] = note;
    Claim {
        note: NoteId::from_bytes(id),
        rank: (Stamp::new(rank, 0, replica), VersionId::from_bytes([note; 32])),
        path: VaultPath::new(path).unwrap(),
    }
}

fn names() -> impl Strategy<Value = String> {
    let plain = ["a", "A", "b", "a.md", "A.md", "\u{e9}.md", "e\u{301}.md", "CON", "con", "x:y.md"];
    let nasty = [
        "a%3Ab.md",
        "x%3Ay.md",
        "a.",
        "a ",
        "%43ON",
        "a (conflict 000000).md",
        "a (conflict 010101).md",
        "A (Conflict 010101).md",
        "a (conflict 000000000000).md",
        "stra\u{df}e",
        "STRASSE",
        "...",
    ];
    let long = "x".repeat(250);
    prop_oneof![
        6 => select(plain.to_vec()).prop_map(str::to_owned),
        4 => select(nasty.to_vec()).prop_map(str::to_owned),
        1 => select(vec![format!("{long}.md"), format!("{}.md", long.to_uppercase())]),
        1 => "[a-zA-Z%:. \u{e0}-\u{e9}?*]{1,12}".prop_filter("a name", |name| {
            VaultPath::new(name).is_ok()
        }),
    ]
}

fn paths() -> impl Strategy<Value = String> {
    prop_oneof![
        9 => vec(names(), 1..4).prop_map(|names| names.join("/")),
        1 => (vec(names(), 1..4), 200..900_usize).prop_map(|(names, deep)| {
            let long = vec!["y".repeat(200); deep / 100].join("/");
            format!("{long}/{}", names.join("/"))
        }),
    ]
    .prop_filter("a path", |path| VaultPath::new(path).is_ok())
}

fn claims() -> impl Strategy<Value = Vec<Claim>> {
    vec((0..3_u64, paths()), 0..14).prop_map(|claims| {
        let numbered = claims.into_iter().zip(0..);
        numbered.map(|((rank, path), note)| claim(note, rank, &path)).collect()
    })
}

fn check_places(claims: &[Claim], places: &[Place], facts: &Facts) {
    assert_eq!(places.len(), claims.len(), "total");
    let key = |path: &str| DiskKey::of(path, facts);
    let files: BTreeSet<_> = places.iter().map(|place| key(place.path.as_str())).collect();
    assert_eq!(files.len(), places.len(), "no two on one name: {places:?}");
    for place in places {
        let mut dir = parent(place.path.as_str());
        while !dir.is_empty() {
            assert!(!files.contains(&key(dir)), "{dir} is a file and a folder: {places:?}");
            dir = parent(dir);
        }
        for name in place.path.components() {
            assert!(name.len() <= facts.name_bytes_max, "{name} is too long");
            if facts.windows_names {
                let refused = name.contains(['<', '>', ':', '"', '|', '?', '*', '\\']);
                assert!(!refused && !name.ends_with(['.', ' ']), "{name:?} on Windows");
                let stem = name.split('.').next().unwrap().trim_end();
                assert!(!["con", "nul"].contains(&stem.to_lowercase().as_str()), "{name:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn every_note_gets_a_place_of_its_own(claims in claims(), which in 0..4_usize) {
        let facts = FACTS[which];
        let places = place_all(claims.clone(), &facts);
        check_places(&claims, &places, &facts);
        for place in &places {
            let claim = claims.iter().find(|claim| claim.note == place.note).unwrap();
            prop_assert_eq!(place.why == Why::AsIs, place.path == claim.path);
        }
        // Among those who want one name the best keeps it, unless a folder needs it.
        let table = ClaimTable::new(claims.clone(), &facts);
        for claim in &claims {
            let wanted = DiskKey::of(disk_path(&claim.path, &facts).as_str(), &facts);
            let is_best = claims.iter().all(|other| {
                let other_key = DiskKey::of(disk_path(&other.path, &facts).as_str(), &facts);
                other_key != wanted || (other.rank, other.note) <= (claim.rank, claim.note)
            });
            let is_folder = crucible_vault::name::Claims::is_folder(&table, &wanted);
            let place = places.iter().find(|place| place.note == claim.note).unwrap();
            prop_assert_eq!(place.why != Why::Conflict, is_best && !is_folder);
        }
    }

    #[test]
    fn places_do_not_depend_on_the_order_of_claims(
        (claims, shuffled) in claims().prop_flat_map(|claims| {
            (Just(claims.clone()), Just(claims).prop_shuffle())
        }),
        which in 0..4_usize,
    ) {
        prop_assert_eq!(place_all(claims, &FACTS[which]), place_all(shuffled, &FACTS[which]));
    }

    #[test]
    fn a_claim_changes_only_the_places_it_affects(
        claims in claims(), which in 0..4_usize, more in paths(), rank in 0..3_u64,
    ) {
        let facts = FACTS[which];
        let mut table = ClaimTable::new(claims.clone(), &facts);
        let mut places: BTreeMap<_, _> =
            place_all(claims.clone(), &facts).into_iter().map(|p| (p.note, p)).collect();
        let before = places.clone();
        let new = claim(200, rank, &more);
        table.insert(new.clone(), &facts);
        for key in affected(&new.path, &facts) {
            places.extend(place_at(&table, &key, &facts).into_iter().map(|p| (p.note, p)));
        }
        let all = place_all(claims.iter().cloned().chain([new.clone()]), &facts);
        prop_assert_eq!(places.values().cloned().collect::<Vec<_>>(), all);
        table.remove(new.note, &new.path, &facts);
        places.remove(&new.note);
        for key in affected(&new.path, &facts) {
            places.extend(place_at(&table, &key, &facts).into_iter().map(|p| (p.note, p)));
        }
        prop_assert_eq!(places, before);
    }

    #[test]
    fn an_escaped_path_reads_back(path in paths()) {
        let path = VaultPath::new(&path).unwrap();
        let placed = disk_path(&path, &WINDOWS);
        let is_short = placed.components().any(|name| name.contains('~'));
        if !is_short {
            prop_assert_eq!(model_path(&placed, &WINDOWS), path);
        }
        prop_assert_eq!(disk_path(&placed, &Facts::LINUX), placed);
    }
}

#[test]
fn two_notes_of_one_name_are_told_apart_by_their_ids() {
    let places = place_all([claim(2, 1, "d/a.md"), claim(8, 2, "d/a.md")], &Facts::LINUX);
    let named: Vec<_> = places.iter().map(|place| (place.path.as_str(), place.why)).collect();
    assert_eq!(named, [("d/a (conflict 010101).md", Why::Conflict), ("d/a.md", Why::AsIs)]);
}

#[test]
fn a_folder_wins_over_a_file() {
    let places = place_all([claim(2, 9, "a"), claim(8, 1, "a/b.md")], &Facts::LINUX);
    let named: Vec<_> = places.iter().map(|place| place.path.as_str()).collect();
    assert_eq!(named, ["a (conflict 010101)", "a/b.md"]);
}

#[test]
fn names_that_differ_by_case_alone_live_side_by_side_where_they_can() {
    let claims = [claim(2, 1, "a.md"), claim(8, 2, "A.md")];
    let named = |facts: &Facts| -> Vec<String> {
        let places = place_all(claims.clone(), facts);
        places.into_iter().map(|place| place.path.to_string()).collect()
    };
    assert_eq!(named(&Facts::LINUX), ["a.md", "A.md"]);
    assert_eq!(named(&FOLDING), ["a (conflict 010101).md", "A.md"]);
}
