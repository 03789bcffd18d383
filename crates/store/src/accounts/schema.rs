//! The tables of `accounts.db`, and how the file comes to be.
//!
//! Invariant: the file has mode 0600 before anything is in it; `user_version` is the format.

use std::fs::OpenOptions;
use std::io;
use std::path::Path;

use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior, params};

use crate::error::{Fault, OpenError};
use crate::schema::{Brand, Peek, peek_at};

/// "CruA", and the format this release writes.
const BRAND: Brand = Brand { application: 0x4372_7541, format: 1 };
/// How long an operation waits for another process that is writing, in milliseconds.
const BUSY_MS: u64 = 15_000;

/// Times are milliseconds since 1970. `vaults` and `folders` of rights are NULL for "all", else
/// one item a line, which no name or path can contain a break of.
const TABLES: &str = "
CREATE TABLE server (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    root_seed BLOB NOT NULL
) STRICT;
CREATE TABLE users (
    user BLOB PRIMARY KEY,
    email TEXT NOT NULL UNIQUE COLLATE NOCASE,
    created_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE devices (
    device BLOB PRIMARY KEY,
    user BLOB NOT NULL REFERENCES users,
    name TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    seen_ms INTEGER,
    revoked_ms INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX devices_of_user ON devices (user, device);
CREATE TABLE tokens (
    token BLOB PRIMARY KEY,
    device BLOB NOT NULL REFERENCES devices,
    access INTEGER NOT NULL,
    may_create INTEGER NOT NULL,
    vaults TEXT,
    folders TEXT,
    expires_ms INTEGER,
    issued_ms INTEGER NOT NULL,
    revoked_ms INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX tokens_of_device ON tokens (device, issued_ms);
CREATE TABLE invitations (
    code BLOB PRIMARY KEY,
    user BLOB NOT NULL REFERENCES users,
    access INTEGER NOT NULL,
    may_create INTEGER NOT NULL,
    vaults TEXT,
    folders TEXT,
    rights_expire_ms INTEGER,
    expires_ms INTEGER NOT NULL,
    used_ms INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX invitations_of_user ON invitations (user, expires_ms);
CREATE TABLE vaults (
    vault BLOB PRIMARY KEY,
    name TEXT NOT NULL UNIQUE COLLATE NOCASE,
    owner BLOB NOT NULL REFERENCES users,
    created_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE members (
    vault BLOB NOT NULL REFERENCES vaults,
    user BLOB NOT NULL REFERENCES users,
    access INTEGER NOT NULL,
    PRIMARY KEY (vault, user)
) STRICT, WITHOUT ROWID;
CREATE INDEX vaults_of_user ON members (user, vault);
";

/// Creates an empty file that only its owner can read; SQLite's own files inherit the mode.
pub fn create_private(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        opened => opened.map(drop),
    }
}

/// Looks at the accounts at `path` without opening them.
///
/// # Errors
/// [`OpenError`].
pub fn peek(path: &Path) -> Result<Peek, OpenError> {
    peek_at(path, &BRAND)
}

/// Opens the accounts at `path`, or creates them around `root_seed`; gives the seed they have.
pub fn open(path: &Path, root_seed: [u8; 32]) -> Result<(Connection, [u8; 32]), OpenError> {
    // Asked before SQLite sees the file: one of a newer format is not touched.
    peek(path)?;
    create_private(path).map_err(OpenError::io(path))?;
    let open = || -> Result<(Connection, [u8; 32]), Fault> {
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_millis(BUSY_MS))?;
        if format_of(&connection)? != 0
            && !crate::schema::damage(&connection, "quick_check")?.is_empty()
        {
            return Err(Fault::Damaged("SQLite finds its pages in order"));
        }
        prepare(&mut connection, root_seed)?;
        let seed: Vec<u8> =
            connection.query_row("SELECT root_seed FROM server", [], |row| row.get(0))?;
        let seed = seed.try_into().map_err(|_| Fault::Damaged("a server has a root key"))?;
        Ok((connection, seed))
    };
    open().map_err(|fault| OpenError::Store(fault.at(path)))
}

/// Sets the connection up and creates the tables in a new file.
fn prepare(connection: &mut Connection, root_seed: [u8; 32]) -> Result<(), Fault> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Asked again under the lock: two processes may be creating it.
    if format_of(&tx)? == 0 {
        tx.execute_batch(TABLES)?;
        tx.execute("INSERT INTO server (one, root_seed) VALUES (1, ?1)", params![root_seed])?;
        tx.pragma_update(None, "application_id", BRAND.application)?;
        tx.pragma_update(None, "user_version", BRAND.format)?;
    }
    tx.commit()?;
    Ok(())
}

/// The format of the file, 0 for an empty one.
fn format_of(connection: &Connection) -> Result<u32, Fault> {
    Ok(connection.pragma_query_value(None, "user_version", |row| row.get(0))?)
}
