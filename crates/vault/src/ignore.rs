//! What is left out: built-in names, and `.cruignore` files at any level. Pure.
//!
//! Invariant: the answer depends on the path and on the texts of the `.cruignore` files above it,
//! on nothing else; case counts on every system, so that all replicas leave out the same. As in
//! git, deeper files win over higher ones, later lines over earlier, `!` takes something back in,
//! and nothing below an ignored folder can be taken back. `.crucible` and `.git` never can.

use std::collections::BTreeMap;
use std::sync::Arc;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::fs::{STATE_DIR, TMP_PREFIX, UNDO_PREFIX, file_name, is_within, join, parent};

/// The name of a file of rules; it is synced itself.
pub const RULES_FILE: &str = ".cruignore";
/// The largest file of rules that is read.
pub const RULES_BYTES_MAX: u64 = 1 << 20;

/// Whether a path is a folder's: rules that end in `/` are for folders alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathKind {
    /// A file's.
    File,
    /// A folder's.
    Dir,
}

/// A line that is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}, line {line}: {problem}")]
pub struct RuleError {
    /// The path of the file of rules.
    pub file: String,
    /// Which line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: String,
}

/// All rules of a vault, by the folder they are in.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    by_dir: BTreeMap<String, Arc<Gitignore>>,
}

impl Rules {
    /// The built-in names alone.
    pub fn builtin() -> Self {
        Self::default()
    }

    /// The rules of these files, each given as the folder it is in (`""` for the root) and its
    /// text. Lines that are no rules are reported and the others hold.
    pub fn from_files<'a>(
        files: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> (Self, Vec<RuleError>) {
        let mut rules = Self::default();
        let mut errors = Vec::new();
        for (dir, text) in files {
            let (matcher, wrong) = compile(dir, text);
            errors.extend(wrong);
            rules.insert(dir, matcher);
        }
        (rules, errors)
    }

    /// Whether a path, or a folder it is in, is left out.
    pub fn is_ignored(&self, path: &str, kind: PathKind) -> bool {
        let dir = parent(path);
        if !dir.is_empty() && self.is_ignored(dir, PathKind::Dir) {
            return true;
        }
        let mut chain = Chain::default();
        for (dir, matcher) in &self.by_dir {
            if is_within(path, dir) {
                chain.push(dir, Arc::clone(matcher));
            }
        }
        chain.ignores(path, kind)
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.by_dir.extend(other.by_dir);
    }

    pub(crate) fn insert(&mut self, dir: &str, matcher: Arc<Gitignore>) {
        self.by_dir.insert(dir.to_owned(), matcher);
    }
}

/// The rules that hold in one folder, highest first: what a walk carries downwards.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chain(Vec<(String, Arc<Gitignore>)>);

impl Chain {
    pub(crate) fn push(&mut self, dir: &str, matcher: Arc<Gitignore>) {
        self.0.push((dir.to_owned(), matcher));
    }

    /// Whether an entry is left out, given that the folder it is in is not.
    pub(crate) fn ignores(&self, path: &str, kind: PathKind) -> bool {
        if is_ours(file_name(path)) {
            return true;
        }
        for (dir, matcher) in self.0.iter().rev() {
            let below = path.get(dir.len()..).unwrap_or_default().trim_start_matches('/');
            match matcher.matched(below, kind == PathKind::Dir) {
                Match::Ignore(_) => return true,
                Match::Whitelist(_) => return false,
                Match::None => {}
            }
        }
        is_builtin(path)
    }
}

/// Compiles one file of rules.
pub(crate) fn compile(dir: &str, text: &str) -> (Arc<Gitignore>, Vec<RuleError>) {
    let mut builder = GitignoreBuilder::new("");
    let mut errors = Vec::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut wrong = |line: usize, error: &ignore::Error| {
        let file = join(dir, RULES_FILE);
        errors.push(RuleError { file, line, problem: error.to_string() });
    };
    for (index, line) in text.lines().enumerate() {
        if let Err(error) = builder.add_line(None, line) {
            wrong(index + 1, &error);
        }
    }
    let matcher = builder.build().unwrap_or_else(|error| {
        // Each line compiled alone; together they are beyond what the matcher can hold.
        wrong(text.lines().count(), &error);
        Gitignore::empty()
    });
    (Arc::new(matcher), errors)
}

/// Names that can never be taken back in: no vault path can spell the first two.
fn is_ours(name: &str) -> bool {
    name == STATE_DIR
        || name == ".git"
        || name.starts_with(TMP_PREFIX)
        || name.starts_with(UNDO_PREFIX)
}

/// What no vault wants, unless a rule takes it back.
fn is_builtin(path: &str) -> bool {
    let name = file_name(path);
    // Most names are a note's, and nothing below ends in `.md` that does not begin like this.
    if name.ends_with(".md") && !name.starts_with(['.', '#', '~', 'w']) {
        return false;
    }
    is_system_name(name) || is_unfinished(name) || is_workspace(path)
}

/// What systems and other sync tools keep for themselves.
fn is_system_name(name: &str) -> bool {
    matches!(
        name,
        ".DS_Store"
            | ".Spotlight-V100"
            | ".Trashes"
            | ".TemporaryItems"
            | ".fseventsd"
            | "Thumbs.db"
            | "ehthumbs.db"
            | "desktop.ini"
            | "Desktop.ini"
            | "$RECYCLE.BIN"
            | "System Volume Information"
            | "lost+found"
            | ".trash"
            | ".stfolder"
            | ".stversions"
            | ".dropbox"
            | ".dropbox.attr"
            | ".dropbox.cache"
    ) || name.starts_with("._")
        || name.starts_with(".Trash-")
        || name.starts_with(".nfs0")
        || name.starts_with(".fuse_hidden")
}

/// Swap files, locks and half-written files of editors and tools.
fn is_unfinished(name: &str) -> bool {
    // Vim tries out what a folder can do with a file of this name.
    if name == "4913" {
        return true;
    }
    let ends = [".tmp", ".temp", ".part", ".partial", ".crdownload", ".swp", ".swo", ".swx"];
    let starts = [".#", ".~lock.", "~$", ".goutputstream-", "~syncthing~", ".syncthing."];
    ends.iter().any(|end| name.len() > end.len() && name.ends_with(end))
        || ends[5..].contains(&name)
        || starts.iter().any(|start| name.starts_with(start))
        || name.len() > 1 && name.ends_with('~')
        || name.len() > 2 && name.starts_with('#') && name.ends_with('#')
}

/// Which panes are open on this device.
fn is_workspace(path: &str) -> bool {
    file_name(path).starts_with("workspace") && file_name(parent(path)) == ".obsidian"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)], left_out: &[&str], kept: &[&str]) {
        let (rules, errors) = Rules::from_files(files.iter().copied());
        assert_eq!(errors, []);
        for path in left_out {
            assert!(rules.is_ignored(path, PathKind::File), "{path} with {files:?}");
        }
        for path in kept {
            assert!(!rules.is_ignored(path, PathKind::File), "{path} with {files:?}");
        }
    }

    #[test]
    fn what_systems_and_editors_leave_behind_is_left_out_without_a_rule() {
        check(
            &[],
            &[
                ".git/config",
                "sub/.git/config",
                ".crucible/sync.db",
                ".DS_Store",
                "a/Thumbs.db",
                ".obsidian/workspace.json",
                "x/.obsidian/workspace-mobile.json",
                ".trash/old.md",
                "note.md~",
                ".note.md.swp",
                ".swp",
                ".#note.md",
                "#note.md#",
                "4913",
                ".~lock.table.ods#",
                "~$letter.docx",
                "a.md.tmp",
                "a/.crucible-tmp-1",
                ".crucible-undo-1",
                "._note.md",
                ".stversions/a.md",
            ],
            &[
                "note.md",
                ".obsidian/app.json",
                "workspace.md",
                ".gitignore",
                "tmp",
                ".tmp",
                "~",
                "#",
                "49130",
                "swp",
                "a.sync-conflict-20261123-101010-ABCDEFG.md",
            ],
        );
    }

    #[test]
    fn rules_hold_below_their_folder_and_deeper_ones_win() {
        check(
            &[("", "*.log\n/private/\n# words\n"), ("logs", "!keep.log\n")],
            &["a.log", "x/y.log", "private/a.md", "logs/other.log"],
            &["logs/keep.log", "logs/deep/keep.log", "x/private/a.md", "# words"],
        );
    }

    #[test]
    fn nothing_below_an_ignored_folder_comes_back() {
        check(&[("", "secret/\n!secret/a.md\n")], &["secret/a.md", "x/secret/b"], &["secret"]);
        check(&[("", "secret/\n"), ("secret", "!a.md\n")], &["secret/a.md"], &[]);
    }

    #[test]
    fn a_rule_takes_built_in_names_back_but_never_ours() {
        check(
            &[("", "!*.tmp\n!.git\n!.crucible\n!.crucible-tmp-*\n")],
            &[".git/x", ".crucible/x", ".crucible-tmp-1"],
            &["a.tmp"],
        );
    }

    #[test]
    fn case_counts_and_a_byte_order_mark_does_not() {
        check(&[("", "\u{feff}Draft.md\r\n")], &["Draft.md", "a/Draft.md"], &["draft.md"]);
    }

    #[test]
    fn a_line_that_is_no_rule_is_reported_and_the_others_hold() {
        let (rules, errors) = Rules::from_files([("a", "x.md\n[z-a]\ny.md\n")]);
        assert_eq!((errors[0].file.as_str(), errors[0].line), ("a/.cruignore", 2));
        assert!(rules.is_ignored("a/x.md", PathKind::File));
        assert!(rules.is_ignored("a/b/y.md", PathKind::File));
        assert!(!rules.is_ignored("x.md", PathKind::File));
    }
}
