//! Who is known to a server: users, devices, tokens, pairing codes, vaults and their members.
//!
//! Kept in a database of its own (`accounts.db`, SQLite, mode 0600), which several processes may
//! have open: `cru auth add-user` works while the server runs. Invariants: the root key never
//! leaves this type, so every token in circulation was recorded before anybody saw it; a pairing
//! code is marked as used in the same transaction that records what it opened. Read `schema`
//! first, then [`Accounts`].

mod email;
mod pairing;
mod rows;
mod schema;
mod tokens;
mod vaults;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use crate::backup::{BackupError, copy_database};
use crucible_core::id::{DeviceId, UserId, VaultId};
use crucible_trust::capability::TokenId;
use crucible_trust::key::{PublicKey, SecretKey};
use crucible_trust::name::VaultName;
use crucible_trust::rights::{Access, Rights};
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior, params};

pub use email::{Email, EmailError};
pub use pairing::{Invite, Joiner, Paired, RedeemFailure};
pub use tokens::{MintError, Standing};
pub use vaults::CreateVaultError;

/// How long an operation waits for another process that is writing, in milliseconds.
const BUSY_MS: u64 = 15_000;
/// Longest name of a device in characters; what is longer is cut.
pub const DEVICE_NAME_CHARS_MAX: usize = 80;
/// Most tokens listed with one device, newest first.
pub const TOKENS_LISTED_MAX: u32 = 16;

/// Why the accounts cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenAccountsError {
    /// The file cannot be created with the right mode.
    #[error("cannot create the accounts database")]
    Create(#[source] std::io::Error),
    /// SQLite cannot open or prepare it.
    #[error("cannot open the accounts database")]
    Sqlite(#[from] rusqlite::Error),
    /// Written by a newer release; nothing was touched.
    #[error("the accounts database has format {found}, this release knows {known}")]
    TooNew {
        /// The format of the file.
        found: u32,
        /// The newest format this release reads.
        known: u32,
    },
    /// It is a database of something else.
    #[error("this is not an accounts database")]
    Foreign,
    /// What is inside breaks its own rules.
    #[error(transparent)]
    Accounts(#[from] AccountsError),
}

/// Why the accounts cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum AccountsError {
    /// No room left on the disk.
    #[error("the disk that holds the accounts is full")]
    Full,
    /// Another process kept the database locked for longer than we wait.
    #[error("the accounts are in use by another process")]
    Busy,
    /// Anything else SQLite reports.
    #[error("the accounts database failed")]
    Sqlite(#[source] rusqlite::Error),
    /// A row holds what this release never writes.
    #[error("the accounts database holds a malformed {0}")]
    Corrupt(&'static str),
}

impl From<rusqlite::Error> for AccountsError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy,
            _ => Self::Sqlite(error),
        }
    }
}

/// Why a user is not added.
#[derive(Debug, thiserror::Error)]
pub enum AddUserError {
    /// Somebody has this address.
    #[error("there is a user with this email already")]
    Taken,
    /// See [`AccountsError`].
    #[error(transparent)]
    Accounts(#[from] AccountsError),
}

/// A person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Drawn at random when added.
    pub id: UserId,
    /// Unique on this server, in any case of its letters.
    pub email: Email,
    /// When added, in milliseconds since 1970.
    pub created_ms: u64,
}

/// Something that holds tokens of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The public key it came with, or random bytes it was given.
    pub id: DeviceId,
    /// What it calls itself.
    pub name: String,
    /// When it was first seen.
    pub created_ms: u64,
    /// When it last made a request; kept to the minute or so.
    pub seen_ms: Option<u64>,
    /// When it was revoked.
    pub revoked_ms: Option<u64>,
    /// The newest tokens issued to it, at most [`TOKENS_LISTED_MAX`], newest first.
    pub tokens: Vec<IssuedToken>,
}

/// A token as the server remembers it: its name and what it allows, never the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedToken {
    /// Its name.
    pub id: TokenId,
    /// What it allows at most.
    pub rights: Rights,
    /// When it was issued.
    pub issued_ms: u64,
    /// When it was revoked.
    pub revoked_ms: Option<u64>,
}

/// A vault on this server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vault {
    /// Drawn at random when created.
    pub id: VaultId,
    /// Unique on this server, in any case of its letters.
    pub name: VaultName,
    /// Who created it, and alone may change who its members are.
    pub owner: UserId,
    /// When.
    pub created_ms: u64,
}

/// A person in a vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub user: User,
    /// How far their tokens reach at most.
    pub access: Access,
}

/// The accounts of one server; safe to share between threads and between processes.
pub struct Accounts {
    connection: Mutex<Connection>,
    root: SecretKey,
}

impl Accounts {
    /// Opens the database at `path`, or creates it with the root key of `root_seed` (32 random
    /// bytes, ignored when the database exists).
    ///
    /// # Errors
    /// [`OpenAccountsError`]; a database of a newer format is not touched.
    pub fn open(path: &Path, root_seed: [u8; 32]) -> Result<Self, OpenAccountsError> {
        schema::create_private(path).map_err(OpenAccountsError::Create)?;
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_millis(BUSY_MS))?;
        schema::prepare(&mut connection, root_seed)?;
        let seed: Vec<u8> =
            connection.query_row("SELECT root_seed FROM server", [], |row| row.get(0))?;
        let seed = seed.try_into().map_err(|_| AccountsError::Corrupt("root key"))?;
        Ok(Self { connection: Mutex::new(connection), root: SecretKey::from_seed(seed) })
    }

    /// The key that verifies every token of this server.
    pub fn root(&self) -> PublicKey {
        self.root.public()
    }

    /// Adds a person.
    ///
    /// # Errors
    /// [`AddUserError`]
    pub fn add_user(&self, id: UserId, email: &Email, now_ms: u64) -> Result<User, AddUserError> {
        let added = self.write(|tx| {
            let sql = "INSERT INTO users (user, email, created_ms) VALUES (?1, ?2, ?3)
                           ON CONFLICT (email) DO NOTHING";
            Ok(tx.execute(sql, params![id.as_bytes(), email.as_str(), rows::ms(now_ms)])?)
        })?;
        if added == 0 {
            return Err(AddUserError::Taken);
        }
        Ok(User { id, email: email.clone(), created_ms: now_ms })
    }

    /// A person by id.
    ///
    /// # Errors
    /// [`AccountsError`]
    pub fn user(&self, id: UserId) -> Result<Option<User>, AccountsError> {
        let sql = "SELECT user, email, created_ms FROM users WHERE user = ?1";
        self.read(|db| rows::one(db, sql, params![id.as_bytes()], rows::user))
    }

    /// A person by address.
    ///
    /// # Errors
    /// [`AccountsError`]
    pub fn user_by_email(&self, email: &Email) -> Result<Option<User>, AccountsError> {
        let sql = "SELECT user, email, created_ms FROM users WHERE email = ?1";
        self.read(|db| rows::one(db, sql, params![email.as_str()], rows::user))
    }

    /// People in the order of their ids, those after `after`; at most `limit`.
    ///
    /// # Errors
    /// [`AccountsError`]
    pub fn users(&self, after: Option<UserId>, limit: u32) -> Result<Vec<User>, AccountsError> {
        let sql = "SELECT user, email, created_ms FROM users WHERE user > ?1
                   ORDER BY user LIMIT ?2";
        let after = after.map_or(vec![], |id| id.as_bytes().to_vec());
        self.read(|db| rows::all(db, sql, params![after, limit], rows::user))
    }

    /// Copies the accounts to a file that must not be there, while they are in use: keys, tokens'
    /// names and all. Put it into a folder that nobody else may enter.
    ///
    /// # Errors
    /// [`BackupError`]
    pub fn backup(&self, to: &Path) -> Result<(), BackupError> {
        let connection = self.connection();
        let from = PathBuf::from(connection.path().unwrap_or_default());
        copy_database(&connection, &from, to)?;
        schema::make_private(to).map_err(|source| BackupError::Io { path: to.to_owned(), source })
    }

    fn read<T>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T, AccountsError>,
    ) -> Result<T, AccountsError> {
        question(&self.connection())
    }

    fn write<T>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> Result<T, AccountsError>,
    ) -> Result<T, AccountsError> {
        self.transact(change)
    }

    /// One transaction that holds the write lock from its beginning.
    fn transact<T, E: From<AccountsError>>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut connection = self.connection();
        let begun = connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let tx = begun.map_err(AccountsError::from)?;
        let done = change(&tx)?;
        tx.commit().map_err(AccountsError::from)?;
        Ok(done)
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // A panic between begin and commit rolled back when its transaction was dropped.
        self.connection.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Accounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Accounts").field("root", &self.root.public()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
