//! Why a round did not come to its end. Whatever it is, nothing written is lost, and the next
//! round begins where this one stopped.

use std::io;

use crucible_core::vault_path::VaultPath;
use crucible_sync::staged::EngineError;
use crucible_sync::unpack::UnpackError;
use crucible_vault::write::WriteError;

use crate::link::LinkError;

/// Which side a guarded round would have wiped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Deletions here would have gone to the other side.
    Outgoing,
    /// Deletions there would have come here.
    Incoming,
}

/// Why a round did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum SyncError<E: std::error::Error + Send + Sync + 'static> {
    /// The store, or something in it.
    #[error(transparent)]
    Engine(#[from] EngineError<E>),
    /// The other side sent something that is not to be believed; nothing of it was stored.
    #[error("the other side sent something wrong: {0}")]
    Received(UnpackError<E>),
    /// The other side did not answer as asked.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The folder could not be read.
    #[error("the folder cannot be read: {0}")]
    Folder(#[source] io::Error),
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The round would delete or empty most notes; nothing was changed on either side.
    #[error("this would delete or empty {lost} of {of} notes")]
    Guard {
        /// How many.
        lost: u64,
        /// Of how many.
        of: u64,
        /// Which side would lose them.
        direction: Direction,
    },
    /// A file went away or changed while it was sent; the next round sends what is there then.
    #[error("{path} changed while it was being sent")]
    ChangedMeanwhile {
        /// Which.
        path: VaultPath,
    },
    /// The two sides still differ after as many rounds as ever should be needed: a bug.
    #[error("the two sides still differ after {rounds} rounds; please report this as a bug")]
    NotConverged {
        /// How many rounds were tried.
        rounds: u32,
    },
}
