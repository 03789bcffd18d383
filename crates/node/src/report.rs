//! What a round did, as values: shells render them, nothing here prints.

use std::collections::BTreeSet;

use crucible_core::conflict::Conflict;
use crucible_core::id::RootHash;
use crucible_core::vault_path::VaultPath;
use crucible_vault::name::Why;
use crucible_vault::scan::{SkipReason, UnknownReason};

use crate::link::Traffic;

/// What a person should hear of that is no error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Something in the folder is not synced.
    Skipped {
        /// Where.
        path: String,
        /// Why.
        reason: SkipReason,
    },
    /// Nobody can say what is in this part of the folder; nothing in it counts as deleted.
    Unknown {
        /// Where; empty for the whole folder.
        path: String,
        /// Why.
        reason: UnknownReason,
    },
    /// A note stands under another name than its own.
    Renamed {
        /// Its own path.
        path: String,
        /// Where it is on this disk.
        disk_path: String,
        /// Why.
        why: Why,
    },
    /// Another tool's conflict copy is synced as an ordinary file.
    ForeignCopy {
        /// Where.
        path: String,
    },
    /// A line of a rules file is no rule.
    BadRule {
        /// Which file.
        file: String,
        /// Which line, from 1.
        line: usize,
    },
    /// This folder is a copy of another one: it goes on under a new replica id.
    Cloned,
    /// The clock of this machine is wrong by this much; stamps are corrected.
    ClockCorrected {
        /// Milliseconds added.
        by_ms: i64,
    },
    /// A file could not be written or fetched; the note is stored.
    NotPlaced {
        /// Where.
        path: String,
        /// Why, with what to do.
        reason: String,
    },
    /// Edits stay here because the token allows reading only.
    ReadOnly {
        /// How many versions wait.
        unsent: usize,
    },
    /// Bytes in the undo folder that belong to nothing known; they are kept.
    Unclaimed {
        /// Where they lie.
        at: String,
    },
}

/// What a round did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The root here.
    pub root: Option<RootHash>,
    /// The root there; equal after a round.
    pub server_root: Option<RootHash>,
    /// Versions the other side has now and had not.
    pub pushed: u64,
    /// Versions that are new here.
    pub pulled: u64,
    /// Notes brought back that were missing or emptied, here or on the other side.
    pub brought_back: BTreeSet<VaultPath>,
    /// Merge versions that came out of this round.
    pub merged: u64,
    /// Conflict records that are new here.
    pub conflicts: Vec<Conflict>,
    /// What a person should hear of.
    pub notices: Vec<Notice>,
    /// Notes that are stored and not in the folder as they should be; 0 unless a notice says why.
    pub unplaced: u64,
    /// What went over the link.
    pub traffic: Traffic,
}

impl Report {
    /// Adds a notice unless it is there already.
    pub(crate) fn notice(&mut self, notice: Notice) {
        if !self.notices.contains(&notice) {
            self.notices.push(notice);
        }
    }

    /// Whether a person should look: conflicts, or files that are not in step.
    pub fn wants_attention(&self) -> bool {
        let serious = |notice: &Notice| {
            matches!(
                notice,
                Notice::Unknown { .. } | Notice::NotPlaced { .. } | Notice::ReadOnly { .. }
            )
        };
        !self.conflicts.is_empty() || self.notices.iter().any(serious)
    }
}

/// Where a long round stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Looking through the folder.
    Scanning,
    /// Versioning what changed.
    Recording {
        /// Files done.
        done: u64,
        /// Of how many.
        of: u64,
    },
    /// Sending.
    Sending {
        /// Versions still to go.
        left: u64,
    },
    /// Sending or fetching a blob.
    Blob {
        /// Its size.
        bytes: u64,
    },
    /// Receiving.
    Receiving {
        /// Versions received so far.
        done: u64,
    },
    /// Writing files.
    Placing {
        /// Files done.
        done: u64,
        /// Of how many.
        of: u64,
    },
}
