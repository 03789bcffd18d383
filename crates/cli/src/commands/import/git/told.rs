//! What is told of a history that came in.

use serde_json::Value;

use crate::output::{Output, count, plain};

/// What came of a repository, in numbers.
#[derive(Debug, Default)]
pub struct History {
    /// Commits that came in.
    pub commits: u64,
    /// Commits before them that had come in before.
    pub known: u64,
    /// Commits whose versions could not have their date.
    pub late: u64,
    /// Files that came in and are in the vault now.
    pub here: u64,
    /// Files that came in and were deleted or renamed by a later commit.
    pub gone: u64,
    /// Files of the working tree that no commit has as they are.
    pub uncommitted: Vec<String>,
    /// Notes that stand for a file which `git lfs` keeps elsewhere.
    pub pointers: u64,
    /// Whether it begins in the middle.
    pub is_shallow: bool,
}

impl History {
    /// For scripts.
    pub fn add_to(&self, told: &mut Value) {
        told["commits"] = self.commits.into();
        told["known_commits"] = self.known.into();
        told["late_commits"] = self.late.into();
        told["here"] = self.here.into();
        told["gone"] = self.gone.into();
        told["uncommitted"] = self.uncommitted.len().into();
    }

    /// In a line.
    pub fn summary(&self) -> String {
        let known = match self.known {
            0 => String::new(),
            known => format!("{} imported before", count(known, "commit was", "commits were")),
        };
        if self.commits == 0 {
            return format!("{known}: nothing is new");
        }
        let commits = count(self.commits, "commit", "commits");
        let here = count(self.here, "file is", "files are");
        let gone = match self.gone {
            0 => String::new(),
            1 => ", 1 that was deleted or renamed since is in its history".to_owned(),
            gone => format!(", {gone} that were deleted or renamed since are in its history"),
        };
        let known = if known.is_empty() { known } else { format!("; {known}") };
        format!("{commits} imported: {here} here now{gone}{known}")
    }

    /// What somebody would not expect of it.
    pub fn warn(&self, output: &Output) {
        if !self.uncommitted.is_empty() {
            const SHOWN: usize = 5;
            let (files, have) = match self.uncommitted.len() {
                1 => ("1 file".to_owned(), "stayed as its last commit has it, or outside"),
                more => {
                    (format!("{more} files"), "stayed as their last commit has them, or outside")
                }
            };
            let names = self.uncommitted.iter().take(SHOWN).map(|name| plain(name));
            let names = names.collect::<Vec<_>>().join(", ");
            let rest = self.uncommitted.len().saturating_sub(SHOWN);
            let rest = if rest == 0 { String::new() } else { format!(" and {rest} more") };
            output.warn(format!("{files} not committed {have}: {names}{rest}"));
            output.note("commit them and import again: only what is new comes in then");
        }
        if self.late > 0 {
            output.warn(format!(
                "{} older than versions that are here: theirs have the next possible date, in the \
                 order of the commits",
                count(self.late, "commit is", "commits are")
            ));
        }
        if self.pointers > 0 {
            output.warn(format!(
                "{} a pointer of git lfs in place of the file; `git lfs checkout` and copying them \
                 into the vault brings the files themselves",
                count(self.pointers, "file has", "files have")
            ));
        }
        if self.is_shallow {
            output
                .warn("the repository is a shallow clone: commits before its first are not in it");
        }
    }
}
