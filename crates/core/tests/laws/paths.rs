//! Whatever `VaultPath` accepts stays inside, and its fold key is a fixed point.

use std::path::{Component, Path};

use crucible_core::limits::{COMPONENT_BYTES_MAX, PATH_BYTES_MAX, PATH_DEPTH_MAX};
use crucible_core::vault_path::{FoldKey, PathError, VaultPath};
use proptest::prelude::*;

/// Texts made of the pieces that escapes are made of.
fn nasty() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "/", "/", "/", ".", "..", "\\", ":", "~1", "~", " ", "git", ".git", ".GIT",
            ".crucible", "crucib~1", "GIT~1", "a", "b.md", "\0", "\n", "\u{7f}", "\u{85}",
            "\u{200c}", "\u{feff}", "\u{ad}", "\u{2028}", "\u{301}", "\u{130}", "ß", "ſ", "K",
            "::$DATA", "C:", "//", "\u{345}", "ᾳ", "ΐ", "\u{1f80}", "é", "e\u{301}",
        ]).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
        1 => "[a-z]{1,300}",
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn an_accepted_path_joined_to_a_root_stays_below_it(text in nasty()) {
        let Ok(path) = VaultPath::new(&text) else { return Ok(()) };
        prop_assert_eq!(path.as_str(), &text);
        let joined = Path::new("/vault").join(path.as_str());
        prop_assert!(joined.starts_with("/vault"));
        // Component by component, as a directory handle would open it.
        let inside = Path::new(path.as_str());
        for component in inside.components() {
            prop_assert!(matches!(component, Component::Normal(_)), "{component:?}");
        }
        prop_assert_eq!(inside.components().count(), path.components().count());
        for component in path.components() {
            prop_assert!((1..=COMPONENT_BYTES_MAX).contains(&component.len()));
            prop_assert!(component != "." && component != "..");
            prop_assert!(!component.contains(['/', '\0', '\n', '\r']));
        }
        prop_assert!(path.as_str().len() <= PATH_BYTES_MAX);
        prop_assert!(path.components().count() <= PATH_DEPTH_MAX);
    }

    #[test]
    fn no_spelling_of_a_reserved_name_is_accepted(
        name in prop::sample::select(vec![".git", ".crucible", "git~1", "crucib~7", "GIT~12"]),
        upper in any::<u16>(),
        noise in prop::collection::vec((0usize..10, prop::sample::select(vec![
            '\u{200c}', '\u{200f}', '\u{202e}', '\u{206a}', '\u{feff}',
        ])), 0..3),
        tail in prop::sample::select(vec!["", ".", " ", ". .", "::$INDEX_ALLOCATION", "\\x", ":"]),
        folder in prop::sample::select(vec!["", "a/", "a/b/"]),
        below in prop::sample::select(vec!["", "/config", "/hooks/post-checkout"]),
    ) {
        let mut spelled: Vec<char> = name.chars().enumerate().map(|(at, c)| {
            if upper >> at & 1 == 1 { c.to_ascii_uppercase() } else { c }
        }).collect();
        for (at, c) in noise {
            spelled.insert(at.min(spelled.len()), c);
        }
        let spelled: String = spelled.into_iter().collect();
        let path = format!("{folder}{spelled}{tail}{below}");
        prop_assert_eq!(VaultPath::new(&path), Err(PathError::Reserved), "{:?}", path);
    }

    #[test]
    fn folding_twice_is_folding_once_and_ignores_case(text in nasty()) {
        let once = FoldKey::new(&text);
        prop_assert_eq!(FoldKey::new(once.as_str()), once.clone());
        prop_assert_eq!(FoldKey::new(&text.to_ascii_uppercase()), once);
    }

    #[test]
    fn the_parts_of_a_path_make_the_path(text in nasty()) {
        let Ok(path) = VaultPath::new(&text) else { return Ok(()) };
        let again = match path.parent() {
            Some(folder) => {
                prop_assert!(path.starts_with(&folder));
                prop_assert_eq!(path.below(&folder), Some(path.name()));
                // A part of a path keeps every rule of the whole.
                prop_assert_eq!(VaultPath::new(folder.as_str()), Ok(folder.clone()));
                folder.join(path.name())
            }
            None => VaultPath::new(path.name()),
        };
        prop_assert_eq!(again, Ok(path.clone()));
        prop_assert_eq!(path.with_name(path.name()), Ok(path));
    }
}
