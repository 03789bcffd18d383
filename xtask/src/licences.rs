//! Every package we build on has a licence that deny.toml allows.
//!
//! `cargo deny` says the same and more where it is installed; this needs nothing but cargo.

use std::fs;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::workspace::{Depth, Metadata, metadata, root};

#[derive(Deserialize)]
struct DenyFile {
    licenses: Licences,
}

#[derive(Deserialize)]
struct Licences {
    allow: Vec<String>,
}

/// Every package whose licence is not allowed, as a sentence each.
pub fn violations() -> Result<Vec<String>> {
    let text = fs::read_to_string(root().join("deny.toml")).context("deny.toml")?;
    let file: DenyFile = toml::from_str(&text).context("deny.toml")?;
    Ok(not_allowed(&metadata(Depth::All)?, &file.licenses.allow))
}

fn not_allowed(metadata: &Metadata, allow: &[String]) -> Vec<String> {
    let foreign = metadata.packages.iter().filter(|package| package.source.is_some());
    foreign
        .filter(|package| !package.license.as_deref().is_some_and(|l| satisfied(l, allow)))
        .map(|package| {
            let licence = package.license.as_deref().unwrap_or("nothing");
            format!("{} {} is licensed under {licence}", package.name, package.version)
        })
        .collect()
}

/// Whether an SPDX expression can be met with allowed licences alone; `/` is an old `OR`.
fn satisfied(expression: &str, allow: &[String]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let met = any(&words, &mut at, allow);
    met && at == words.len()
}

fn any(words: &[&str], at: &mut usize, allow: &[String]) -> bool {
    let mut met = all(words, at, allow);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        met |= all(words, at, allow);
    }
    met
}

fn all(words: &[&str], at: &mut usize, allow: &[String]) -> bool {
    let mut met = one(words, at, allow);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        met &= one(words, at, allow);
    }
    met
}

fn one(words: &[&str], at: &mut usize, allow: &[String]) -> bool {
    let Some(word) = words.get(*at) else { return false };
    *at += 1;
    if *word == "(" {
        let met = any(words, at, allow);
        *at += 1;
        return met;
    }
    let mut licence = (*word).to_owned();
    if words.get(*at) == Some(&"WITH") {
        licence = format!("{licence} WITH {}", words.get(*at + 1).unwrap_or(&""));
        *at += 2;
    }
    // "Or any later version" can be met with the version that it names.
    let named = licence.strip_suffix('+').unwrap_or(&licence);
    allow.iter().any(|allowed| *allowed == licence || allowed == named)
}

#[cfg(test)]
mod tests {
    use super::{satisfied, violations};

    fn check(expression: &str) -> bool {
        satisfied(expression, &["MIT".to_owned(), "ISC".to_owned(), "A WITH B".to_owned()])
    }

    #[test]
    fn everything_we_build_on_is_allowed() {
        let found = violations().unwrap();
        assert!(found.is_empty(), "{found:#?}");
    }

    #[test]
    fn one_allowed_side_of_an_or_is_enough() {
        assert!(check("GPL-3.0 OR MIT"));
        assert!(check("GPL-3.0/MIT"));
        assert!(!check("GPL-3.0 OR LGPL-3.0"));
    }

    #[test]
    fn a_later_version_may_be_taken_but_need_not() {
        assert!(check("MIT+"));
        assert!(!check("GPL-3.0+"));
    }

    #[test]
    fn both_sides_of_an_and_are_needed() {
        assert!(check("MIT AND ISC"));
        assert!(!check("MIT AND GPL-3.0"));
        assert!(!check("(MIT OR GPL-3.0) AND GPL-3.0"));
        assert!(check("(MIT OR GPL-3.0) AND ISC"));
    }

    #[test]
    fn an_exception_is_part_of_the_name() {
        assert!(check("A WITH B"));
        assert!(!check("MIT WITH B"));
        assert!(!check("(MIT"));
    }
}
