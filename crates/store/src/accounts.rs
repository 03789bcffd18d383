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

use crucible_core::id::{DeviceId, UserId, VaultId};
use crucible_trust::capability::TokenId;
use crucible_trust::key::{PublicKey, SecretKey};
use crucible_trust::name::VaultName;
use crucible_trust::rights::{Access, Rights};
use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use crate::backup::{BackupError, copy_database};
use crate::error::{Fault, OpenError, StoreError};

pub use email::{Email, EmailError};
pub use pairing::{Invite, Joiner, Paired, RedeemFailure};
pub use schema::peek;
pub use tokens::{MintError, Standing};
pub use vaults::CreateVaultError;

/// Longest name of a device in characters; what is longer is cut.
pub const DEVICE_NAME_CHARS_MAX: usize = 80;
/// Most tokens listed with one device, newest first.
pub const TOKENS_LISTED_MAX: u32 = 16;

/// Why a user is not added.
#[derive(Debug, thiserror::Error)]
pub enum AddUserError {
    /// Somebody has this address.
    #[error("there is a user with this email already")]
    Taken,
    /// The database.
    #[error(transparent)]
    Accounts(#[from] StoreError),
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
    path: PathBuf,
    root: SecretKey,
}

/// Why a transaction ends: the database fails, or it says no.
enum Stop<E> {
    Fault(Fault),
    Refused(E),
}

impl<E> From<Fault> for Stop<E> {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl<E> From<rusqlite::Error> for Stop<E> {
    fn from(error: rusqlite::Error) -> Self {
        Self::Fault(error.into())
    }
}

impl<E> Stop<E> {
    /// The same for a caller that refuses for more reasons.
    fn widen<F: From<E>>(self) -> Stop<F> {
        match self {
            Self::Fault(fault) => Stop::Fault(fault),
            Self::Refused(refused) => Stop::Refused(refused.into()),
        }
    }
}

impl Accounts {
    /// Opens the database at `path`, or creates it with the root key of `root_seed` (32 random
    /// bytes, ignored when the database exists).
    ///
    /// # Errors
    /// [`OpenError`]; a file of a newer format, or of something else, is not touched, and a
    /// damaged one not written to.
    pub fn open(path: &Path, root_seed: [u8; 32]) -> Result<Self, OpenError> {
        let (connection, seed) = schema::open(path, root_seed)?;
        let root = SecretKey::from_seed(seed);
        Ok(Self { connection: Mutex::new(connection), path: path.to_owned(), root })
    }

    /// What SQLite finds wrong with the file, a line each; nothing for a sound one.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read at all.
    pub fn check(&self) -> Result<Vec<String>, StoreError> {
        self.read(|db| crate::schema::damage(db, "integrity_check"))
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
    /// [`StoreError`]
    pub fn user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        let sql = "SELECT user, email, created_ms FROM users WHERE user = ?1";
        self.read(|db| rows::one(db, sql, params![id.as_bytes()], rows::user))
    }

    /// A person by address.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn user_by_email(&self, email: &Email) -> Result<Option<User>, StoreError> {
        let sql = "SELECT user, email, created_ms FROM users WHERE email = ?1";
        self.read(|db| rows::one(db, sql, params![email.as_str()], rows::user))
    }

    /// People in the order of their ids, those after `after`; at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn users(&self, after: Option<UserId>, limit: u32) -> Result<Vec<User>, StoreError> {
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
        copy_database(&connection, &self.path, to)?;
        crate::schema::make_private(to)
            .map_err(|source| BackupError::Io { path: to.to_owned(), source })
    }

    fn read<T>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        question(&self.connection()).map_err(|fault| fault.at(&self.path))
    }

    fn write<T>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        self.transact(|tx| Ok(change(tx)?))
    }

    /// One transaction that holds the write lock from its beginning.
    fn transact<T, E: From<StoreError>>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> Result<T, Stop<E>>,
    ) -> Result<T, E> {
        let mut connection = self.connection();
        let run = || -> Result<T, Stop<E>> {
            let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = change(&tx)?;
            tx.commit()?;
            Ok(done)
        };
        run().map_err(|stop| match stop {
            Stop::Fault(fault) => fault.at(&self.path).into(),
            Stop::Refused(refused) => refused,
        })
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
