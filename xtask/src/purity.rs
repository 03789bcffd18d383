//! The pure crates name no disk, network, clock, environment, thread or randomness.
//!
//! A source scan, not a proof: it reads paths such as `std::fs` and grouped imports out of the
//! code (comments, strings and a trailing `mod tests` aside) and holds them against a list.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::edges::PURE;
use crate::workspace::root;

/// Paths (or beginnings of paths) that a pure crate must not name.
const FORBIDDEN: &[&str] = &[
    "getrandom",
    "println",
    "rand",
    "std::env",
    "std::fs",
    "std::io::stderr",
    "std::io::stdin",
    "std::io::stdout",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::time::UNIX_EPOCH",
    "tokio",
];

/// Every forbidden path named in the pure crates, as a sentence each.
pub fn violations() -> Result<Vec<String>> {
    let mut found = Vec::new();
    for name in PURE {
        let source = root().join("crates").join(name).join("src");
        for file in rust_files(&source)? {
            let text = fs::read_to_string(&file)
                .with_context(|| format!("{} could not be read", file.display()))?;
            let shown = file.strip_prefix(root()).unwrap_or(&file).display().to_string();
            found.extend(
                impure_paths(&text).into_iter().map(|path| format!("{shown} names {path}")),
            );
        }
    }
    Ok(found)
}

fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder)
            .with_context(|| format!("{} could not be listed", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// The forbidden paths in one file.
fn impure_paths(text: &str) -> Vec<String> {
    let code = without_comments_and_strings(before_tests(text));
    let tokens = tokens(&code);
    let mut found: Vec<String> =
        paths(&tokens).into_iter().filter(|path| forbidden(path)).collect();
    found.sort();
    found.dedup();
    found
}

fn forbidden(path: &str) -> bool {
    FORBIDDEN
        .iter()
        .any(|f| path == *f || path.strip_prefix(f).is_some_and(|r| r.starts_with("::")))
}

/// Tests may do what they like, and stand last in a file.
fn before_tests(text: &str) -> &str {
    text.find("#[cfg(test)]\nmod tests {").map_or(text, |at| &text[..at])
}

/// The code with comments and the contents of strings left out.
fn without_comments_and_strings(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    for line in text.lines() {
        let mut in_string = false;
        let mut chars = line.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '\\' if in_string => {
                    chars.next();
                }
                '"' => in_string = !in_string,
                '/' if !in_string && chars.peek() == Some(&'/') => break,
                _ if in_string => {}
                _ => code.push(c),
            }
        }
        code.push('\n');
    }
    code
}

fn tokens(code: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut word = String::new();
    for c in code.chars() {
        if c.is_alphanumeric() || c == '_' {
            word.push(c);
            continue;
        }
        if !word.is_empty() {
            tokens.push(std::mem::take(&mut word));
        }
        if !c.is_whitespace() {
            tokens.push(c.to_string());
        }
    }
    tokens
}

/// Every path in the code, grouped imports written out: `std::{fs, time::Instant}` is two.
fn paths(tokens: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if is_word(&tokens[at]) {
            at = path(tokens, at, "", &mut found);
        } else {
            at += 1;
        }
    }
    found
}

/// Reads one path that begins at `at`, and gives the place behind it.
fn path(tokens: &[String], mut at: usize, prefix: &str, found: &mut Vec<String>) -> usize {
    let mut name = prefix.to_owned();
    loop {
        match tokens.get(at).map(String::as_str) {
            Some(word) if is_word(word) => {
                name = if name.is_empty() { word.to_owned() } else { format!("{name}::{word}") };
                at += 1;
            }
            Some("{") if !name.is_empty() => return group(tokens, at + 1, &name, found),
            _ => break,
        }
        let more = tokens.get(at..at + 2).is_some_and(|next| next[0] == ":" && next[1] == ":");
        if !more {
            break;
        }
        at += 2;
    }
    found.push(name);
    at.max(1)
}

fn group(tokens: &[String], mut at: usize, prefix: &str, found: &mut Vec<String>) -> usize {
    while let Some(token) = tokens.get(at) {
        match token.as_str() {
            "}" => return at + 1,
            word if is_word(word) => at = path(tokens, at, prefix, found),
            _ => at += 1,
        }
    }
    at
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::{impure_paths, violations};

    #[test]
    fn our_pure_crates_are_pure() {
        let found = violations().unwrap();
        assert!(found.is_empty(), "{found:#?}");
    }

    #[test]
    fn a_plain_import_is_found() {
        assert_eq!(impure_paths("use std::fs;\nfn f() {}"), ["std::fs"]);
    }

    #[test]
    fn a_grouped_import_is_found() {
        let text = "use std::{collections::BTreeMap, time::{Duration, Instant}, fs::File};";
        assert_eq!(impure_paths(text), ["std::fs::File", "std::time::Instant"]);
    }

    #[test]
    fn a_path_inside_an_expression_is_found() {
        assert_eq!(
            impure_paths("fn now() -> u64 { std::time::SystemTime::now().into() }"),
            ["std::time::SystemTime::now"],
        );
    }

    #[test]
    fn durations_comments_strings_and_tests_are_fine() {
        let text = "//! Not std::fs.\nuse std::time::Duration; // std::net\n\
                    const A: &str = \"std::env\";\n#[cfg(test)]\nmod tests {\nuse std::fs;\n}";
        assert!(impure_paths(text).is_empty());
    }
}
