//! The tables of `vault.db` and `sync.db`, and how either file is opened.
//!
//! Invariant: a file of a newer format, or one that is not ours, is not touched: its header and
//! its log are read as plain bytes before SQLite sees it. `docs/storage.md` explains the columns.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crucible_core::id::VaultId;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::error::{Fault, OpenError};
use crate::migrate;

/// The newest format this release reads and the one it writes (`PRAGMA user_version`).
pub const FORMAT: u32 = 3;
/// Marks a file as ours (`PRAGMA application_id`): "CRUC".
pub const APPLICATION_ID: u32 = 0x4352_5543;
/// How long to wait for another process before [`crate::error::StoreError::Busy`].
pub const BUSY_WAIT_MS: u64 = 5_000;

/// Bytes of an id or hash in an index: 40 bits find one row of a million; the row has them all.
/// Every index on an id is on `substr(id, 1, 5)`.
pub(crate) const PREFIX: usize = 5;

/// What the header of a file of ours says, and the newest format known of it.
pub(crate) struct Brand {
    pub(crate) application: u32,
    pub(crate) format: u32,
}

const BRAND: Brand = Brand { application: APPLICATION_ID, format: FORMAT };

/// What device and server share.
pub(crate) const VAULT_TABLES: &str = "
CREATE TABLE vault (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    id BLOB NOT NULL,
    root BLOB,
    seq INTEGER NOT NULL,
    conflict_seq INTEGER NOT NULL,
    live INTEGER NOT NULL,
    forgotten INTEGER NOT NULL
) STRICT;
CREATE TABLE replicas (
    k INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    counter INTEGER NOT NULL
) STRICT;
CREATE TABLE paths (
    k INTEGER PRIMARY KEY,
    folder INTEGER NOT NULL,
    name TEXT NOT NULL,
    mark INTEGER NOT NULL
) STRICT;
CREATE INDEX paths_by_mark ON paths (mark);
CREATE TABLE fronts (k INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;
CREATE TABLE notes (
    k INTEGER PRIMARY KEY,
    id BLOB NOT NULL,
    newest INTEGER,
    heads ANY,
    live INTEGER NOT NULL
) STRICT;
CREATE INDEX notes_by_id ON notes (substr(id, 1, 5));
CREATE INDEX notes_by_newest ON notes (newest) WHERE newest IS NOT NULL;
CREATE TABLE names (
    path INTEGER NOT NULL,
    note INTEGER NOT NULL,
    PRIMARY KEY (path, note)
) STRICT, WITHOUT ROWID;
CREATE TABLE packs (
    k INTEGER PRIMARY KEY AUTOINCREMENT,
    bytes INTEGER NOT NULL,
    tight INTEGER NOT NULL,
    frame BLOB NOT NULL,
    sum BLOB NOT NULL
) STRICT;
CREATE TABLE contents (
    k INTEGER PRIMARY KEY,
    hash BLOB NOT NULL,
    bytes INTEGER NOT NULL,
    cost INTEGER NOT NULL,
    pack INTEGER,
    at INTEGER,
    base INTEGER,
    frame BLOB
) STRICT;
CREATE INDEX contents_by_hash ON contents (substr(hash, 1, 5));
CREATE TABLE versions (
    seq INTEGER PRIMARY KEY,
    id BLOB NOT NULL,
    note INTEGER,
    path INTEGER,
    content INTEGER,
    front INTEGER,
    rest BLOB
) STRICT;
CREATE INDEX versions_by_id ON versions (substr(id, 1, 5));
CREATE INDEX versions_by_note ON versions (note) WHERE note IS NOT NULL;
CREATE INDEX versions_by_content ON versions (content, note) WHERE content IS NOT NULL;
CREATE TABLE nodes (k INTEGER PRIMARY KEY, hash BLOB NOT NULL, body BLOB NOT NULL) STRICT;
CREATE INDEX nodes_by_hash ON nodes (substr(hash, 1, 5));
CREATE TABLE roots (key BLOB PRIMARY KEY, seq INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE origins (
    k INTEGER PRIMARY KEY,
    user BLOB NOT NULL,
    device BLOB NOT NULL,
    address TEXT NOT NULL,
    UNIQUE (user, device, address)
) STRICT;
CREATE TABLE commits (
    first INTEGER PRIMARY KEY,
    origin INTEGER NOT NULL,
    received_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE co_authors (
    first INTEGER NOT NULL,
    place INTEGER NOT NULL,
    user BLOB NOT NULL,
    device BLOB NOT NULL,
    PRIMARY KEY (first, place)
) STRICT, WITHOUT ROWID;
CREATE TABLE conflicts (
    position INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    open INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX conflicts_open ON conflicts (position) WHERE open = 1;
";

/// What a device keeps besides.
pub(crate) const REPLICA_TABLES: &str = "
CREATE TABLE replica (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    id BLOB NOT NULL,
    counter INTEGER NOT NULL,
    acked_counter INTEGER NOT NULL,
    ticks INTEGER NOT NULL,
    clock_correction_ms INTEGER NOT NULL,
    common_root BLOB,
    pulled INTEGER,
    conflicts_seen INTEGER NOT NULL,
    rounds INTEGER NOT NULL,
    names INTEGER NOT NULL,
    joined INTEGER NOT NULL
) STRICT;
CREATE TABLE files (
    disk_path TEXT PRIMARY KEY,
    note BLOB NOT NULL,
    version BLOB NOT NULL,
    content BLOB NOT NULL,
    kind INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    device INTEGER NOT NULL,
    seen_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX files_by_note ON files (substr(note, 1, 5));
CREATE TABLE unsent (seq INTEGER PRIMARY KEY) STRICT;
CREATE TABLE unsettled (k INTEGER PRIMARY KEY, note BLOB NOT NULL UNIQUE) STRICT;
CREATE TABLE placing (
    disk_path TEXT PRIMARY KEY,
    note BLOB NOT NULL,
    version BLOB,
    origin TEXT,
    undo TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE displaced (
    undo TEXT PRIMARY KEY,
    note BLOB NOT NULL,
    version BLOB NOT NULL,
    content BLOB NOT NULL,
    round INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE closed_unsent (id BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE conflict_numbers (number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE) STRICT;
";

/// What lies at a path, seen without touching it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peek {
    /// Nothing.
    Absent,
    /// A database that is ours or still empty, of a format this release knows.
    Known,
}

/// Looks at the database at `path` without opening it: its header, and the first page in its log.
///
/// # Errors
/// [`OpenError::TooNew`], [`OpenError::NotOurs`], or the system's reason.
pub fn peek(path: &Path) -> Result<Peek, OpenError> {
    peek_at(path, &BRAND)
}

/// [`peek`] for any of our databases.
pub(crate) fn peek_at(path: &Path, brand: &Brand) -> Result<Peek, OpenError> {
    let mut header = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(100).read_to_end(&mut header).map_err(OpenError::io(path))?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Peek::Absent),
        Err(error) => return Err(OpenError::io(path)(error)),
    };
    if header.is_empty() {
        // SQLite makes the file before it writes to it.
        return Ok(Peek::Known);
    }
    check_first_page(path, &header, brand)?;
    let mut log = Vec::new();
    if let Ok(file) = File::open(log_of(path)) {
        file.take(LOG_BYTES_MAX).read_to_end(&mut log).map_err(OpenError::io(path))?;
    }
    for page in first_pages(&log) {
        check_first_page(path, page, brand)?;
    }
    Ok(Peek::Known)
}

/// A log is kept below 4 MiB by checkpoints; a first sync may stretch it.
const LOG_BYTES_MAX: u64 = 64 << 20;

fn log_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

/// The bytes of page 1 wherever the log holds it: SQLite's file format, §4.1. Frames of an
/// earlier use of the log carry other salts and are passed over.
fn first_pages(log: &[u8]) -> impl Iterator<Item = &[u8]> {
    let page_bytes = log.get(8..12).map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
    let frame_bytes = 24 + page_bytes as usize;
    let salts = log.get(16..24).unwrap_or_default();
    let frames = log.get(32..).unwrap_or_default().chunks_exact(frame_bytes.max(512));
    frames
        .filter(move |frame| frame[..4] == [0, 0, 0, 1] && frame[8..16] == *salts)
        .map(|frame| &frame[24..])
}

fn check_first_page(path: &Path, page: &[u8], brand: &Brand) -> Result<(), OpenError> {
    let number =
        |at: usize| page.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
    let path = || path.to_owned();
    let (Some(pages), Some(format), Some(application)) = (number(28), number(60), number(68))
    else {
        return Err(OpenError::NotOurs { path: path() });
    };
    // Not made to its end: a table has a page of its own.
    let empty = format == 0 && application == 0 && pages <= 1;
    if !page.starts_with(b"SQLite format 3\0") || application != brand.application && !empty {
        return Err(OpenError::NotOurs { path: path() });
    }
    if format > brand.format {
        return Err(OpenError::TooNew { path: path(), found: format, known: brand.format });
    }
    Ok(())
}

/// Opens the database at `path`, which must be there, and brings it to [`FORMAT`].
///
/// # Errors
/// [`OpenError`]; a file that is refused is left as it was.
pub(crate) fn open(path: &Path) -> Result<Connection, OpenError> {
    let missing = || OpenError::Missing { path: path.to_owned() };
    if peek(path)? == Peek::Absent {
        return Err(missing());
    }
    let mut conn = connect(path, OpenFlags::empty())?;
    let found = format_of(&conn).map_err(|fault| fault.at(path))?;
    if found == 0 {
        return Err(missing());
    }
    migrate::upgrade(&mut conn, path, found)?;
    Ok(conn)
}

/// Creates the database at `path`; one that is there already must be of the same vault.
///
/// # Errors
/// [`OpenError`].
pub(crate) fn create(
    path: &Path,
    vault: &VaultId,
    tables: &str,
    fill: impl FnOnce(&Connection) -> Result<(), Fault>,
) -> Result<Connection, OpenError> {
    peek(path)?;
    let mut conn = connect(path, OpenFlags::SQLITE_OPEN_CREATE)?;
    let make = || -> Result<u32, Fault> {
        // Another process may be creating it at the same moment: look again under the lock.
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let found = format_of(&tx)?;
        if found == 0 {
            tx.execute_batch(tables)?;
            tx.execute("INSERT INTO vault VALUES (1, ?1, NULL, 0, 0, 0, 0)", [vault.as_bytes()])?;
            fill(&tx)?;
            tx.pragma_update(None, "application_id", APPLICATION_ID)?;
            tx.pragma_update(None, "user_version", FORMAT)?;
        }
        tx.commit()?;
        Ok(found)
    };
    let found = make().map_err(|fault| fault.at(path))?;
    if found != 0 {
        migrate::upgrade(&mut conn, path, found)?;
    }
    let id: Vec<u8> = conn
        .query_row("SELECT id FROM vault", [], |row| row.get(0))
        .map_err(|error| Fault::from(error).at(path))?;
    if id != vault.as_bytes() {
        return Err(OpenError::OtherVault { path: path.to_owned() });
    }
    sync_folder(path)?;
    Ok(conn)
}

/// The name of a new file is durable only once its folder is.
fn sync_folder(path: &Path) -> Result<(), OpenError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(OpenError::io(folder))
}

fn connect(path: &Path, create: OpenFlags) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | create;
    let open = || -> Result<Connection, Fault> {
        let conn = Connection::open_with_flags(path, flags)?;
        configure(&conn)?;
        Ok(conn)
    };
    open().map_err(|fault| OpenError::Store(fault.at(path)))
}

fn configure(conn: &Connection) -> Result<(), Fault> {
    conn.busy_timeout(Duration::from_millis(BUSY_WAIT_MS))?;
    // Before the mode: where there can be no write-ahead log (network file systems), EXTRA also
    // makes the end of the rollback journal durable; with a log it is FULL. FULL on both sides: a
    // device may only say "sent" or touch a file, and a server only answer, after the row that
    // says so has reached the disk.
    conn.pragma_update(None, "synchronous", "extra")?;
    let mode: String =
        conn.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    if mode != "wal" {
        tracing::warn!(mode, "no write-ahead log here: readers wait for writers");
    }
    conn.pragma_update(None, "temp_store", "memory")?;
    conn.pragma_update(None, "cache_size", -CACHE_KIB)?;
    conn.pragma_update(None, "journal_size_limit", LOG_KEPT_BYTES)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    // Without it SQLite prepares some statements anew for every value bound to them.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// Pages kept in memory by one connection.
const CACHE_KIB: i64 = 8 << 10;
/// A log that grew beyond this is cut back after its checkpoint.
const LOG_KEPT_BYTES: i64 = 8 << 20;
/// More than the crate has statements.
const STATEMENTS_MAX: usize = 160;

/// Lets nobody else read a file.
pub(crate) fn make_private(path: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(path, mode)?;
    }
    Ok(())
}

/// What SQLite's own check (`quick_check` or `integrity_check`) finds, a line each.
pub(crate) fn damage(connection: &Connection, check: &str) -> Result<Vec<String>, Fault> {
    let mut select = connection.prepare(&format!("PRAGMA {check}"))?;
    let lines = select.query_map([], |row| row.get::<_, String>(0))?;
    let lines: Vec<String> = lines.collect::<Result<_, _>>()?;
    Ok(lines.into_iter().filter(|line| line != "ok").collect())
}

fn format_of(conn: &Connection) -> Result<u32, Fault> {
    Ok(conn.pragma_query_value(None, "user_version", |row| row.get(0))?)
}
