//! What storing can fail with.
//!
//! Every error names the file a person has to look at. `Fault` is the inside's form, before the
//! file's name is added.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{ErrorCode, ffi};

use crate::blob_store::BlobError;

/// An I/O error on a disk with less room than this is one of a full disk: what SQLite writes at
/// once (a page, a piece of the index of its log) is smaller.
const ROOM_BYTES_MIN: u64 = 256 << 10;

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
            Self::Sqlite(source) => reported(path, source),
        }
    }

    /// Whether this is about what is stored, not about the disk or another process: a check goes
    /// on after it.
    pub(crate) fn is_damage(&self, path: &Path) -> bool {
        match self {
            Self::Damaged(_) => true,
            Self::Sqlite(error) => damage(error).is_some() && !has_no_room(path),
            Self::Rule(_) | Self::Blob(_) => false,
        }
    }
}

/// What SQLite's codes mean.
fn reported(path: PathBuf, source: rusqlite::Error) -> StoreError {
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            return StoreError::Busy { path };
        }
        Some(ErrorCode::DiskFull) => return StoreError::Full { path },
        // Of the calls that fail on a full disk SQLite has a name for writing pages alone: making
        // its log's index longer, say, is just an I/O error.
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) if has_no_room(&path) => {
            return StoreError::Full { path };
        }
        _ => {}
    }
    match damage(&source) {
        Some(what) => StoreError::Damaged { path, what },
        None => StoreError::Sqlite { path, source },
    }
}

/// Which rule a damaged file breaks, if that is what SQLite met.
fn damage(error: &rusqlite::Error) -> Option<&'static str> {
    let extended = error.sqlite_error().map(|error| error.extended_code);
    match error.sqlite_error_code()? {
        ErrorCode::DatabaseCorrupt => Some("SQLite finds its pages in order"),
        ErrorCode::NotADatabase => Some("it begins as SQLite's files do"),
        ErrorCode::SystemIoFailure
            if matches!(
                extended,
                Some(ffi::SQLITE_IOERR_SHORT_READ | ffi::SQLITE_IOERR_CORRUPTFS)
            ) =>
        {
            Some("it is as long as it says")
        }
        // Our statements are tested over our tables: one that does not fit has other tables.
        ErrorCode::Unknown if error.to_string().contains("no such ") => {
            Some("its tables are there")
        }
        _ => None,
    }
}

fn has_no_room(path: &Path) -> bool {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    // A disk that does not even say how full it is has another trouble.
    rustix::fs::statvfs(folder.unwrap_or(Path::new("."))).is_ok_and(|disk| {
        disk.f_bavail.saturating_mul(disk.f_frsize) < ROOM_BYTES_MIN || disk.f_favail == 0
    })
}

/// Holds a rule of the format while reading.
pub(crate) fn intact(holds: bool, rule: &'static str) -> Result<(), Fault> {
    if holds { Ok(()) } else { Err(Fault::Damaged(rule)) }
}

/// Holds a rule of the contract while writing.
pub(crate) fn rule(holds: bool, text: &'static str) -> Result<(), Fault> {
    if holds { Ok(()) } else { Err(Fault::Rule(text)) }
}
