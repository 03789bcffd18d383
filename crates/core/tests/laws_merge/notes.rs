//! The merge of whole notes: symmetric, key by key, loses nothing.

use std::collections::BTreeSet;

use crucible_core::conflict::{Clash, Hunk};
use crucible_core::frontmatter::Frontmatter;
use crucible_core::id::{ReplicaId, VersionId};
use crucible_core::note_merge::{NoteMerge, NoteSide, merge_note, restamp};
use crucible_core::text_merge::Overlap;
use crucible_core::timestamp::Stamp;
use crucible_core::version::{KeyStamps, TagDots};
use crucible_core::version_vector::Dot;
use proptest::prelude::*;
use proptest::sample::select;
use yaml_edit::YamlFile;

use super::world::{edited, edits, text, words};

const ENTRIES: &[&str] = &[
    "title: A title\n",
    "title: 'Another: one'  # why\n",
    "# above\ndate: 2026-11-23\n",
    "tags: [a, b]\n",
    "tags: [b, c]\n",
    "tags:\n  - a\n  - d\n",
    "tags: []\n",
    "tags:\n",
    "list:\n- x\n- y\n",
    "list: [x, \"z, z\"]\n",
    "nested:\n  deep:\n    - 1\n",
    "text: |\n  one\n\n  two\n",
    "empty:\n\n",
];

const BROKEN: &[&str] = &["a: b: c\n", "x: [1\n", "\tkey: 1\n", "title: twice\n", "<% no %>\n"];

fn head() -> impl Strategy<Value = String> {
    let good = prop::collection::vec(select(ENTRIES), 0..5).prop_map(|entries| {
        let mut keys = BTreeSet::new();
        let name = |entry: &str| entry.split(':').next().map(str::to_owned);
        entries.into_iter().filter(|entry| keys.insert(name(entry))).collect::<String>()
    });
    let bad = (good.clone(), select(BROKEN)).prop_map(|(good, bad)| good + bad);
    prop_oneof![
        6 => good.prop_map(|entries| format!("---\n{entries}---\n")),
        1 => bad.prop_map(|entries| format!("---\n{entries}---\n")),
        1 => Just(String::new()),
    ]
}

fn stamp(ms: u64) -> Stamp {
    Stamp::new(ms, 0, ReplicaId::from_bytes([3; 16]))
}

#[derive(Clone, Debug)]
struct Minted {
    text: String,
    keys: KeyStamps,
    tags: TagDots,
    ms: u64,
}

impl Minted {
    fn new(parent: Option<&Self>, text: String, ms: u64) -> Self {
        let dot = Dot { replica: ReplicaId::from_bytes([3; 16]), counter: ms };
        let parent = parent.map(|parent| (parent.text.as_str(), &parent.keys, &parent.tags));
        let (keys, tags) = restamp(parent, &text, stamp(ms), dot);
        Self { text, keys, tags, ms }
    }

    fn side(&self) -> NoteSide<'_> {
        let id = VersionId::from_bytes([0; VersionId::LEN]);
        NoteSide {
            text: &self.text,
            keys: &self.keys,
            tags: &self.tags,
            rank: (stamp(self.ms), id),
        }
    }
}

/// A first head and four later ones, each anything at all or the first with one key more.
fn heads() -> impl Strategy<Value = Vec<String>> {
    let later = prop::collection::vec((any::<bool>(), head()), 4);
    (head(), later).prop_map(|(first, later)| {
        let mut heads = vec![first.clone()];
        for (n, (unlike, other)) in later.into_iter().enumerate() {
            let grown = first.strip_suffix("---\n").map(|open| format!("{open}new{n}: 1\n---\n"));
            heads.push(if unlike { other } else { grown.unwrap_or_default() });
        }
        heads
    })
}

/// A note and two lines of two edits each that follow from it.
fn minted() -> impl Strategy<Value = [Minted; 3]> {
    let heads = heads();
    let bodies = (text(), edits("ours"), edits("theirs"));
    (heads, bodies, any::<bool>()).prop_map(|(heads, (body, ours, theirs), first)| {
        let [ours, theirs] = [edited(&body, &ours), edited(&body, &theirs)];
        let base = Minted::new(None, format!("{}{body}", heads[0]), 1);
        let stamps = if first { [2, 4, 3, 5] } else { [3, 5, 2, 4] };
        let a = Minted::new(Some(&base), format!("{}{body}", heads[1]), stamps[0]);
        let a = Minted::new(Some(&a), format!("{}{ours}", heads[2]), stamps[1]);
        let b = Minted::new(Some(&base), format!("{}{body}", heads[3]), stamps[2]);
        let b = Minted::new(Some(&b), format!("{}{theirs}", heads[4]), stamps[3]);
        [base, a, b]
    })
}

fn merged(base: Option<&Minted>, a: &Minted, b: &Minted) -> NoteMerge {
    let base = base.map(Minted::side);
    merge_note(base.as_ref(), &a.side(), &b.side(), Overlap::Lww)
}

fn hunks(merge: &NoteMerge) -> impl Iterator<Item = &Hunk> {
    merge.conflicts.iter().filter_map(|(_, clash)| match clash {
        Clash::Body(hunk) | Clash::Key { hunk, .. } | Clash::FirstContact(hunk) => Some(hunk),
        Clash::EditOverDelete | Clash::Path { .. } | Clash::Content => None,
    })
}

/// The keys of a head that is understood, each once.
fn keys(text: &str) -> Option<Vec<String>> {
    match Frontmatter::of(text).0 {
        Frontmatter::Keys(head) => Some(head.entries.into_iter().map(|entry| entry.key).collect()),
        Frontmatter::Absent => Some(Vec::new()),
        Frontmatter::Opaque => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn who_merges_does_not_matter([base, a, b] in minted(), related in any::<bool>()) {
        let base = related.then_some(&base);
        let ours = merged(base, &a, &b);
        let mut theirs = merged(base, &b, &a);
        for (side, _) in &mut theirs.conflicts {
            *side = side.other();
        }
        prop_assert_eq!(ours, theirs);
    }

    #[test]
    fn what_only_one_side_changed_is_taken([base, a, _] in minted()) {
        let same = Minted { ms: 9, ..base.clone() };
        for merge in [merged(Some(&base), &a, &same), merged(Some(&base), &a, &a)] {
            prop_assert_eq!(&merge.text, &a.text);
            prop_assert!(merge.conflicts.is_empty());
        }
    }

    #[test]
    fn no_word_that_a_side_added_is_missing([base, a, b] in minted(), related in any::<bool>()) {
        let merge = merged(related.then_some(&base), &a, &b);
        let kept: BTreeSet<&str> =
            words(&merge.text).chain(hunks(&merge).flat_map(|hunk| words(&hunk.loser))).collect();
        let had: BTreeSet<&str> = words(&base.text).collect();
        for word in words(&a.text).chain(words(&b.text)).filter(|word| !had.contains(word)) {
            // A tag that the side itself took away again later may be gone.
            prop_assert!(kept.contains(word), "{word} is gone from {merge:#?}");
        }
    }

    #[test]
    fn a_merged_head_is_yaml_with_every_key_once([base, a, b] in minted()) {
        let is_understood = |side: &Minted| {
            matches!(Frontmatter::of(&side.text).0, Frontmatter::Keys(_))
        };
        let understood = [&base, &a, &b].into_iter().all(is_understood);
        if !understood {
            return Ok(());
        }
        let merge = merged(Some(&base), &a, &b);
        let found = keys(&merge.text);
        prop_assert!(found.is_some(), "no longer understood: {}", merge.text);
        if let (Frontmatter::Keys(_), body) = Frontmatter::of(&merge.text) {
            let yaml = merge.text[..merge.text.len() - body.len()].trim_start_matches('\u{feff}');
            prop_assert!(yaml.parse::<YamlFile>().is_ok(), "no YAML: {yaml}");
        }
    }

    #[test]
    fn entries_that_nobody_touched_keep_their_bytes([base, a, b] in minted()) {
        let merge = merged(Some(&base), &a, &b);
        let entries = |text: &str| match Frontmatter::of(text).0 {
            Frontmatter::Keys(head) => {
                head.entries.iter().map(|entry| entry.text.to_owned()).collect::<BTreeSet<_>>()
            }
            Frontmatter::Absent | Frontmatter::Opaque => BTreeSet::new(),
        };
        let in_all = [&base, &a, &b].map(|side| entries(&side.text));
        let merged = entries(&merge.text);
        // Tags are an OR-Set: equal texts may stand for different histories.
        let mut untouched = in_all[0].iter().filter(|entry| {
            in_all.iter().all(|side| side.contains(*entry)) && !entry.starts_with("tags")
        });
        prop_assert!(keys(&merge.text).is_none() || untouched.all(|entry| merged.contains(entry)));
    }

    #[test]
    fn hunks_are_where_they_say([base, a, b] in minted(), related in any::<bool>()) {
        let merge = merged(related.then_some(&base), &a, &b);
        for hunk in hunks(&merge) {
            let place = merge.text.get(hunk.range());
            prop_assert!(place.is_some());
            if hunk.kept == crucible_core::conflict::Kept::Winner {
                prop_assert_eq!(place, Some(hunk.winner.as_str()));
            }
        }
    }
}
