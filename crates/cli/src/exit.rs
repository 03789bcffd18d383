//! How the program ends: exit codes, and failures that say what happened and what to do next.
//!
//! The table of DESIGN §7. Every error type of the crates below is turned into a [`Failure`]
//! here or in `exit/`, in one place each.

mod mapping;

use std::fmt;

pub use mapping::{guard, not_a_vault, of_server_data, of_vault};

/// What the program ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Ok,
    /// Failed, for a reason of its own.
    Failed,
    /// The command line is wrong.
    Usage,
    /// Done, but conflicts or skipped files want a look.
    Attention,
    /// The folder is not a vault.
    NotAVault,
    /// Another process works in the vault.
    Locked,
    /// No token, a wrong one, or one that does not allow this.
    NotAllowed,
    /// The other side does not answer.
    Unreachable,
    /// Something is not what its hash or its rules say.
    Integrity,
    /// Made by a newer release.
    TooNew,
    /// A guard stopped it; nothing was changed.
    Refused,
    /// Ctrl-C.
    Interrupted,
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Attention => 3,
            Self::NotAVault => 10,
            Self::Locked => 11,
            Self::NotAllowed => 12,
            Self::Unreachable => 13,
            Self::Integrity => 14,
            Self::TooNew => 15,
            Self::Refused => 16,
            Self::Interrupted => 130,
        }
    }

    /// The word that `--json` says.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Attention => "attention",
            Self::NotAVault => "not_a_vault",
            Self::Locked => "locked",
            Self::NotAllowed => "not_allowed",
            Self::Unreachable => "unreachable",
            Self::Integrity => "integrity",
            Self::TooNew => "too_new",
            Self::Refused => "refused",
            Self::Interrupted => "interrupted",
        }
    }
}

/// Why a command did not do what it was asked: what happened, to what, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What the program ends with.
    pub exit: Exit,
    /// What happened; begins in lower case, like a clause.
    pub message: String,
    /// What to do next; empty when nobody can say.
    pub hint: String,
}

impl Failure {
    /// A failure without advice.
    pub fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, message: message.to_string(), hint: String::new() }
    }

    /// Ends with exit 1.
    pub fn failed(message: impl fmt::Display) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// The same with advice.
    #[must_use]
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = hint.to_string();
        self
    }
}

/// What a command comes to.
pub type Outcome<T = Exit> = Result<T, Failure>;

/// Puts what was being done before what went wrong.
pub trait During<T> {
    /// A failure (exit 1) that says `what` could not be done, and why.
    ///
    /// # Errors
    /// The failure.
    fn during(self, what: impl fmt::Display) -> Outcome<T>;
}

impl<T, E: std::error::Error + 'static> During<T> for Result<T, E> {
    fn during(self, what: impl fmt::Display) -> Outcome<T> {
        self.map_err(|error| mapping::world(&error, &what))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const ALL: [Exit; 12] = [
        Exit::Ok,
        Exit::Failed,
        Exit::Usage,
        Exit::Attention,
        Exit::NotAVault,
        Exit::Locked,
        Exit::NotAllowed,
        Exit::Unreachable,
        Exit::Integrity,
        Exit::TooNew,
        Exit::Refused,
        Exit::Interrupted,
    ];

    #[test]
    fn codes_and_words_are_unique() {
        let codes: BTreeSet<u8> = ALL.iter().map(|exit| exit.code()).collect();
        let words: BTreeSet<&str> = ALL.iter().map(|exit| exit.word()).collect();
        assert_eq!((codes.len(), words.len()), (ALL.len(), ALL.len()));
    }
}
