//! What storing can fail with.
//!
//! Every error names the file a person has to look at. `Fault` is the inside's form, before the
//! file's name is added.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use crate::blob_store::BlobError;

/// Why a store could not read or commit; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process kept the database locked for longer than we wait.
    #[error("{} is in use by another process", path.display())]
    Busy {
        /// The database.
        path: PathBuf,
    },
    /// No room left on the disk.
    #[error("the disk that holds {} is full", path.display())]
    Full {
        /// The database.
        path: PathBuf,
    },
    /// What is stored contradicts itself; `cru server check` or `cru doctor` says more.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// Which rule of the format does not hold.
        what: &'static str,
    },
    /// A batch breaks a rule of the contract: a bug of ours, refused before it is stored.
    #[error("a batch breaks the rule: {0}")]
    Rule(&'static str),
    /// A blob beside the database.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// Anything else SQLite reports.
    #[error("{} cannot be read or written", path.display())]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// SQLite's reason.
        #[source]
        source: rusqlite::Error,
    },
}

/// Why a database could not be opened or created; nothing was touched.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is none.
    #[error("there is no database at {}", path.display())]
    Missing {
        /// Where.
        path: PathBuf,
    },
    /// Written by a newer release.
    #[error("{} has format {found}; this release knows formats up to {known}", path.display())]
    TooNew {
        /// The database.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format this release knows.
        known: u32,
    },
    /// Something else lies there.
    #[error("{} is not a database of Crucible", path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
    },
    /// It belongs to another vault than the caller expects.
    #[error("{} belongs to another vault", path.display())]
    OtherVault {
        /// The database.
        path: PathBuf,
    },
    /// The file or its folder cannot be read or made.
    #[error("{} cannot be opened", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// Anything the open database reports.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OpenError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::Io { path, source }
    }
}

/// A failure before the file's name is known.
#[derive(Debug)]
pub(crate) enum Fault {
    Sqlite(rusqlite::Error),
    Damaged(&'static str),
    Rule(&'static str),
    Blob(BlobError),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error;
        match error {
            Error::InvalidColumnType(..)
            | Error::FromSqlConversionFailure(..)
            | Error::IntegralValueOutOfRange(..)
            | Error::QueryReturnedNoRows => Self::Damaged("columns hold what they should"),
            error => Self::Sqlite(error),
        }
    }
}

impl From<BlobError> for Fault {
    fn from(error: BlobError) -> Self {
        Self::Blob(error)
    }
}

impl Fault {
    pub(crate) fn at(self, path: &Path) -> StoreError {
        let path = path.to_owned();
        match self {
            Self::Damaged(what) => StoreError::Damaged { path, what },
            Self::Rule(rule) => StoreError::Rule(rule),
            Self::Blob(error) => StoreError::Blob(error),
            Self::Sqlite(source) => match source.sqlite_error_code() {
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                    StoreError::Busy { path }
                }
                Some(ErrorCode::DiskFull) => StoreError::Full { path },
                Some(ErrorCode::DatabaseCorrupt) => {
                    StoreError::Damaged { path, what: "SQLite finds its pages in order" }
                }
                _ => StoreError::Sqlite { path, source },
            },
        }
    }
}

/// Holds a rule of the format while reading.
pub(crate) fn intact(holds: bool, rule: &'static str) -> Result<(), Fault> {
    if holds { Ok(()) } else { Err(Fault::Damaged(rule)) }
}

/// Holds a rule of the contract while writing.
pub(crate) fn rule(holds: bool, text: &'static str) -> Result<(), Fault> {
    if holds { Ok(()) } else { Err(Fault::Rule(text)) }
}
