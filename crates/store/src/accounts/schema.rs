//! The tables of `accounts.db`, and how the file comes to be.
//!
//! Invariant: the file has mode 0600 before anything is in it; `user_version` is the format.

use std::fs::OpenOptions;
use std::io;
use std::path::Path;

use rusqlite::{Connection, TransactionBehavior, params};

use super::OpenAccountsError;

/// "CruA": tells an accounts database from others.
const APPLICATION_ID: u32 = 0x4372_7541;
/// The format this release writes.
const FORMAT: u32 = 1;

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

/// Lets nobody else read a file.
pub fn make_private(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(path, mode)?;
    }
    Ok(())
}

/// Sets the connection up and creates the tables in a new file.
pub fn prepare(connection: &mut Connection, root_seed: [u8; 32]) -> Result<(), OpenAccountsError> {
    // Asked before anything is written: a newer format stays untouched.
    check(connection)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Asked again under the lock: two processes may be creating it.
    if check(&tx)? == 0 {
        tx.execute_batch(TABLES)?;
        tx.execute("INSERT INTO server (one, root_seed) VALUES (1, ?1)", params![root_seed])?;
        tx.pragma_update(None, "application_id", APPLICATION_ID)?;
        tx.pragma_update(None, "user_version", FORMAT)?;
    }
    tx.commit()?;
    Ok(())
}

/// The format of the file, 0 for an empty one.
fn check(connection: &Connection) -> Result<u32, OpenAccountsError> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, u32>(0));
    let (application, found) = (pragma("application_id")?, pragma("user_version")?);
    if application != APPLICATION_ID {
        let tables: u32 =
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        let empty = application == 0 && found == 0 && tables == 0;
        return if empty { Ok(0) } else { Err(OpenAccountsError::Foreign) };
    }
    if found > FORMAT {
        return Err(OpenAccountsError::TooNew { found, known: FORMAT });
    }
    Ok(found)
}
