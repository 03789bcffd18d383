//! Why the last round did not come to its end, kept for `cru status` until one does.
//!
//! One small file in `.crucible`. Nothing depends on it: without it only `status` says less.

use std::fs;
use std::path::{Path, PathBuf};

use crucible_node::config;
use serde::{Deserialize, Serialize};

use crate::exit::{Exit, Failure, Outcome};
use crate::salvage;
use crate::world;

const FILE: &str = "last-failure.json";

/// What ended a round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastFailure {
    /// When.
    pub at_ms: u64,
    /// The exit code.
    pub exit: u8,
    /// Its word.
    pub code: String,
    /// What happened.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl LastFailure {
    /// What was noted of the vault at `root`; `None` when its last round went well.
    pub fn of(root: &Path) -> Option<Self> {
        // What is not there, or not whole, says nothing.
        serde_json::from_slice(&fs::read(file(root)).ok()?).ok()
    }

    /// Whether a person has to do something before a round can go through.
    pub fn wants_attention(&self) -> bool {
        [Exit::Refused, Exit::NotAllowed, Exit::Integrity].iter().any(|e| e.code() == self.exit)
    }

    /// Whether a guard stopped it.
    pub fn was_refused(&self) -> bool {
        self.exit == Exit::Refused.code()
    }
}

/// Makes a round and notes how it ended.
///
/// # Errors
/// What the round says.
pub fn noting<T>(root: &Path, round: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    let outcome = round();
    if outcome.is_ok() {
        // Whatever a repair left for the first contact has done its work.
        salvage::forget(root);
    }
    // A file that cannot be written or removed makes `status` say too little or too much, once.
    let _ = match &outcome {
        Ok(_) => fs::remove_file(file(root)),
        Err(failure) => write(root, failure),
    };
    outcome
}

fn write(root: &Path, failure: &Failure) -> std::io::Result<()> {
    if failure.message.is_empty() || matches!(failure.exit, Exit::Locked | Exit::Interrupted) {
        return Ok(());
    }
    let noted = LastFailure {
        at_ms: world::now_ms(),
        exit: failure.exit.code(),
        code: failure.exit.word().to_owned(),
        message: failure.message.clone(),
        hint: failure.hint.clone(),
    };
    let path = file(root);
    let whole = path.with_extension(format!("tmp-{}", std::process::id()));
    fs::write(&whole, serde_json::to_vec(&noted)?)?;
    fs::rename(whole, path)
}

fn file(root: &Path) -> PathBuf {
    root.join(config::FOLDER).join(FILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_remembered_until_a_round_goes_through() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir(root.join(config::FOLDER)).unwrap();
        let fail = |exit| noting::<()>(root, || Err(Failure::new(exit, "why").hint("what to do")));
        fail(Exit::Refused).unwrap_err();
        fail(Exit::Locked).unwrap_err();
        let last = LastFailure::of(root).unwrap();
        assert_eq!((last.message.as_str(), last.hint.as_str()), ("why", "what to do"));
        assert!(last.was_refused() && last.wants_attention());
        fail(Exit::Unreachable).unwrap_err();
        assert!(!LastFailure::of(root).unwrap().wants_attention());
        noting(root, || Ok(())).unwrap();
        assert_eq!(LastFailure::of(root), None);
    }
}
