//! `index.db`: words and links of a vault's notes as they are now, beside its database.
//!
//! Invariant: derived. Nothing is in it that could not be made again, so it is in no backup, and
//! it is thrown away when it is damaged, of another format, or of another past than the vault's.
//! It follows the vault by position: each question first takes in a bounded part of what came
//! since, in one transaction, and says whether there is more.

mod ask;
mod follow;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crucible_core::vault_path::VaultPath;
use crucible_sync::repo::Repo;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::error::{Fault, StoreError};

/// The database in a vault's folder.
pub const INDEX_DB: &str = "index.db";
/// Largest note whose text is indexed, in bytes; of larger ones only the name is.
pub const TEXT_BYTES_MAX: u64 = 1 << 20;
/// Most hits of one question.
pub const HITS_MAX: usize = 100;
/// Most links of one note, in either direction.
pub const LINKS_MAX: usize = 1000;

/// Another number, and the index is made again.
const FORMAT: u32 = 1;
/// "CRUI".
const APPLICATION_ID: u32 = 0x4352_5549;
/// How long a question waits for one that is taking something in; it does without then.
const BUSY_WAIT_MS: u64 = 100;

const TABLES: &str = "
CREATE TABLE follows (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    position INTEGER NOT NULL,
    root BLOB
) STRICT;
INSERT INTO follows VALUES (1, 0, NULL);
CREATE TABLE notes (
    k INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    path TEXT NOT NULL,
    key TEXT NOT NULL,
    content BLOB NOT NULL
) STRICT;
CREATE INDEX notes_by_path ON notes (path);
CREATE INDEX notes_by_key ON notes (key);
CREATE TABLE links (
    k INTEGER PRIMARY KEY,
    source INTEGER NOT NULL,
    key TEXT NOT NULL,
    style INTEGER NOT NULL,
    target TEXT NOT NULL,
    line INTEGER NOT NULL,
    text TEXT NOT NULL
) STRICT;
CREATE INDEX links_by_source ON links (source);
CREATE INDEX links_by_key ON links (key);
CREATE VIRTUAL TABLE words USING fts5(
    title, folder, body, content = '', contentless_delete = 1,
    tokenize = 'unicode61 remove_diacritics 2', prefix = '2 3'
);
";

/// A note that answers a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// Where.
    pub path: VaultPath,
    /// A piece of its text around what was asked for.
    pub parts: Vec<Part>,
}

/// A piece of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The piece.
    pub text: String,
    /// Whether it is one of the words asked for.
    pub is_hit: bool,
}

/// What a question found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found<T> {
    /// The answer, from what the index knows.
    pub answer: T,
    /// Whether the index has not caught up with the vault.
    pub is_behind: bool,
}

/// The links of one note.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NoteLinks {
    /// Those that mean it, by path and line; at most [`LINKS_MAX`].
    pub back: Vec<Backlink>,
    /// Those in it, in order: what they say, and the note they mean if there is one.
    pub outgoing: Vec<(String, Option<VaultPath>)>,
}

/// A link from another note.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Backlink {
    /// Where it stands.
    pub path: VaultPath,
    /// In which line, from 1.
    pub line: u64,
    /// The line, cut.
    pub text: String,
}

/// Why the index gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum IndexError<E: std::error::Error + Send + Sync + 'static> {
    /// The vault's store.
    #[error(transparent)]
    Repo(E),
    /// The index itself.
    #[error(transparent)]
    Index(StoreError),
}

/// Why an attempt failed, before the file's name is added.
enum Failed<E> {
    Repo(E),
    Index(Fault),
}

impl<E> From<Fault> for Failed<E> {
    fn from(fault: Fault) -> Self {
        Self::Index(fault)
    }
}

impl<E> From<rusqlite::Error> for Failed<E> {
    fn from(error: rusqlite::Error) -> Self {
        Self::Index(error.into())
    }
}

type Attempt<T, R> = Result<T, Failed<<R as Repo>::Error>>;
type Answered<T, R> = Result<Found<T>, IndexError<<R as Repo>::Error>>;

/// The notes that hold all words of `question`, or words that begin so; those with them in their
/// name first. Words in double quotes are a phrase. At most `limit`, cut to [`HITS_MAX`].
///
/// # Errors
/// [`IndexError`].
pub fn search<R: Repo>(
    place: Option<&Path>,
    repo: &R,
    question: &str,
    limit: usize,
) -> Answered<Vec<Hit>, R> {
    let Some(terms) = ask::terms(question) else {
        return Ok(Found { answer: Vec::new(), is_behind: false });
    };
    let limit = limit.min(HITS_MAX);
    answered(place, repo, |conn| ask::hits(conn, repo, &terms, limit))
}

/// The links to and from the note at `path`; none when no note is there.
///
/// # Errors
/// [`IndexError`].
pub fn links<R: Repo>(place: Option<&Path>, repo: &R, path: &VaultPath) -> Answered<NoteLinks, R> {
    answered(place, repo, |conn| ask::links(conn, path).map_err(Failed::Index))
}

/// Asks the index at `place` (`None`: one in memory) once it has come nearer to the vault. One
/// that cannot be used is thrown away and begun again.
fn answered<R: Repo, T>(
    place: Option<&Path>,
    repo: &R,
    ask: impl Fn(&Connection) -> Attempt<T, R>,
) -> Answered<T, R> {
    let named = |failed| match failed {
        Failed::Repo(error) => IndexError::Repo(error),
        Failed::Index(fault) => IndexError::Index(fault.at(place.unwrap_or(Path::new(INDEX_DB)))),
    };
    let attempt = || -> Attempt<Found<T>, R> {
        let mut conn = open(place)?;
        let is_behind = !follow::step(&mut conn, repo)?;
        Ok(Found { answer: ask(&conn)?, is_behind })
    };
    match (attempt(), place) {
        (Err(Failed::Index(fault)), Some(place)) if is_unusable(&fault) => {
            tracing::warn!(file = %place.display(), "the search index is made again");
            throw_away(place).map_err(|fault| named(Failed::Index(fault)))?;
            attempt().map_err(named)
        }
        (other, _) => other.map_err(named),
    }
}

fn open(place: Option<&Path>) -> Result<Connection, Fault> {
    let mut conn = match place {
        None => Connection::open_in_memory()?,
        Some(place) => {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
                | OpenFlags::SQLITE_OPEN_CREATE
                | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            Connection::open_with_flags(place, flags)?
        }
    };
    conn.busy_timeout(Duration::from_millis(BUSY_WAIT_MS))?;
    // After a power cut it may be older than it was, never broken.
    conn.pragma_update(None, "synchronous", "normal")?;
    conn.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    let number = |conn: &Connection, name| -> Result<u32, Fault> {
        Ok(conn.pragma_query_value(None, name, |row| row.get(0))?)
    };
    let is_new = |conn: &Connection| -> Result<bool, Fault> {
        Ok(!conn.prepare("SELECT 1 FROM sqlite_master")?.exists([])?)
    };
    if is_new(&conn)? {
        let tx = conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        // Another request may have been quicker.
        if is_new(&tx)? {
            tx.execute_batch(TABLES)?;
            tx.pragma_update(None, "application_id", APPLICATION_ID)?;
            tx.pragma_update(None, "user_version", FORMAT)?;
        }
        tx.commit()?;
    }
    let found = (number(&conn, "application_id")?, number(&conn, "user_version")?);
    if found != (APPLICATION_ID, FORMAT) {
        return Err(Fault::Damaged("the search index is of this format"));
    }
    Ok(conn)
}

/// Whether a new index would do what this one does not.
fn is_unusable(fault: &Fault) -> bool {
    match fault {
        Fault::Damaged(_) => true,
        Fault::Rule(_) | Fault::Blob(_) => false,
        Fault::Sqlite(error) => match error.sqlite_error_code() {
            Some(
                ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::DiskFull
                | ErrorCode::CannotOpen
                | ErrorCode::PermissionDenied
                | ErrorCode::ReadOnly
                | ErrorCode::OutOfMemory,
            ) => false,
            // Also a table that is missing or has other columns.
            _ => true,
        },
    }
}

fn throw_away(place: &Path) -> Result<(), Fault> {
    for end in ["", "-wal", "-shm"] {
        let mut file = place.as_os_str().to_owned();
        file.push(end);
        match fs::remove_file(PathBuf::from(file)) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                tracing::error!(%error, file = %place.display(), "cannot remove the search index");
                return Err(Fault::Damaged("a damaged search index can be removed"));
            }
        }
    }
    Ok(())
}
