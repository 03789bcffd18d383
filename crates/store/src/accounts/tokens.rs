//! Devices and their tokens: minted, listed, revoked.

use crucible_core::id::{DeviceId, UserId};
use crucible_core::vault_path::VaultPath;
use crucible_trust::capability::{Capability, Subject, Token, TokenId};
use crucible_trust::name::VaultName;
use crucible_trust::rights::Rights;
use rusqlite::{Connection, Row, params};

use super::{Accounts, DEVICE_NAME_CHARS_MAX, Device, IssuedToken, Stop, TOKENS_LISTED_MAX, rows};
use crate::error::{Fault, StoreError};

/// Why no token is minted.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// There is no such user.
    #[error("there is no such user")]
    NoSuchUser,
    /// Another user's device has this id.
    #[error("this device belongs to another user")]
    DeviceOfAnother,
    /// The database.
    #[error(transparent)]
    Accounts(#[from] StoreError),
}

/// What the server knows about a token that verifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing against it.
    Good,
    /// It, an attenuation of it, or its device was revoked.
    Revoked,
    /// Its user is not known here, for instance since the server was restored from a backup.
    NoSuchUser,
}

impl Accounts {
    /// Issues a token to a device of a user, and remembers it. A device that was revoked is
    /// welcome again; its old tokens stay revoked. `seed` is 32 random bytes, never used twice.
    ///
    /// # Errors
    /// [`MintError`]
    pub fn mint(
        &self,
        subject: Subject,
        device_name: &str,
        rights: &Rights,
        seed: [u8; 32],
        now_ms: u64,
    ) -> Result<Token, MintError> {
        let capability = Capability::issue(&self.root, subject, rights, seed);
        self.transact(|tx| record(tx, &capability, device_name, now_ms))?;
        Ok(capability.token())
    }

    /// Whether a token that verifies may be used, by the ids of [`Capability::ids`].
    ///
    /// A token nobody remembers is good as long as its user is known: the signature says that it
    /// was issued here, and a server restored from an old backup does not lock its devices out.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn standing(&self, capability: &Capability) -> Result<Standing, StoreError> {
        let subject = capability.subject();
        self.read(|db| {
            let sql = "SELECT 1 FROM users WHERE user = ?1";
            if rows::one(db, sql, params![subject.user.as_bytes()], |_| Ok(()))?.is_none() {
                return Ok(Standing::NoSuchUser);
            }
            let sql = "SELECT 1 FROM tokens WHERE token = ?1 AND revoked_ms IS NOT NULL";
            for id in capability.ids() {
                if rows::one(db, sql, params![id.as_bytes()], |_| Ok(()))?.is_some() {
                    return Ok(Standing::Revoked);
                }
            }
            let sql = "SELECT 1 FROM devices
                       WHERE device = ?1 AND (revoked_ms IS NOT NULL OR user <> ?2)";
            let key = params![subject.device.as_bytes(), subject.user.as_bytes()];
            let revoked = rows::one(db, sql, key, |_| Ok(()))?.is_some();
            Ok(if revoked { Standing::Revoked } else { Standing::Good })
        })
    }

    /// Notes that a device made a request.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn seen(&self, device: DeviceId, now_ms: u64) -> Result<(), StoreError> {
        self.write(|tx| {
            let sql = "UPDATE devices SET seen_ms = max(coalesce(seen_ms, 0), ?2)
                       WHERE device = ?1";
            tx.execute(sql, params![device.as_bytes(), rows::ms(now_ms)])?;
            Ok(())
        })
    }

    /// The devices of a user in the order of their ids, those after `after`; at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn devices(
        &self,
        user: UserId,
        after: Option<DeviceId>,
        limit: u32,
    ) -> Result<Vec<Device>, StoreError> {
        let sql = "SELECT * FROM devices WHERE user = ?1 AND device > ?2
                   ORDER BY device LIMIT ?3";
        let after = after.map_or(vec![], |id| id.as_bytes().to_vec());
        let key = params![user.as_bytes(), after, limit];
        self.read(|db| rows::all(db, sql, key, |row| device_of(db, row)))
    }

    /// A device by id, whoever's it is.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn device(&self, id: DeviceId) -> Result<Option<Device>, StoreError> {
        let sql = "SELECT * FROM devices WHERE device = ?1";
        self.read(|db| rows::one(db, sql, params![id.as_bytes()], |row| device_of(db, row)))
    }

    /// What the tokens of a device allow that are neither revoked nor over.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn live_rights(&self, id: DeviceId, now_ms: u64) -> Result<Vec<Rights>, StoreError> {
        let sql = "SELECT * FROM tokens WHERE device = ?1 AND revoked_ms IS NULL
                   AND (expires_ms IS NULL OR expires_ms > ?2)";
        let key = params![id.as_bytes(), rows::ms(now_ms)];
        self.read(|db| rows::all(db, sql, key, |row| rows::rights(row, "expires_ms")))
    }

    /// Devices of a user whose id in hex begins with `prefix`; at most two, so that a prefix can
    /// be told to be ambiguous.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn devices_by_prefix(
        &self,
        user: UserId,
        prefix: &str,
    ) -> Result<Vec<DeviceId>, StoreError> {
        let sql = "SELECT device FROM devices
                   WHERE user = ?1 AND substr(hex(device), 1, length(?2)) = upper(?2) LIMIT 2";
        self.read(|db| {
            rows::all(db, sql, params![user.as_bytes(), prefix], |row| {
                rows::id(row, "device", DeviceId::from_bytes)
            })
        })
    }

    /// Revokes a device of a user and every token it has; at once, for every process. Tells
    /// whether there was such a device, revoked before or not.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn revoke_device(
        &self,
        user: UserId,
        device: DeviceId,
        now_ms: u64,
    ) -> Result<bool, StoreError> {
        self.write(|tx| {
            let now = rows::ms(now_ms);
            let sql = "UPDATE devices SET revoked_ms = coalesce(revoked_ms, ?3)
                       WHERE device = ?1 AND user = ?2";
            if tx.execute(sql, params![device.as_bytes(), user.as_bytes(), now])? == 0 {
                return Ok(false);
            }
            let sql = "UPDATE tokens SET revoked_ms = coalesce(revoked_ms, ?2) WHERE device = ?1";
            tx.execute(sql, params![device.as_bytes(), now])?;
            Ok(true)
        })
    }
}

/// Remembers a token and its device, in the caller's transaction.
pub(super) fn record(
    tx: &Connection,
    capability: &Capability,
    device_name: &str,
    now_ms: u64,
) -> Result<(), Stop<MintError>> {
    let Subject { user, device } = capability.subject();
    let sql = "SELECT 1 FROM users WHERE user = ?1";
    if rows::one(tx, sql, params![user.as_bytes()], |_| Ok(()))?.is_none() {
        return Err(Stop::Refused(MintError::NoSuchUser));
    }
    let sql = "INSERT INTO devices (device, user, name, created_ms) VALUES (?1, ?2, ?3, ?4)
               ON CONFLICT (device) DO UPDATE SET name = excluded.name, revoked_ms = NULL
               WHERE user = excluded.user";
    let name: String = device_name.chars().filter(|c| !c.is_control()).collect();
    let name: String = name.chars().take(DEVICE_NAME_CHARS_MAX).collect();
    let row = params![device.as_bytes(), user.as_bytes(), name, rows::ms(now_ms)];
    if tx.execute(sql, row)? == 0 {
        return Err(Stop::Refused(MintError::DeviceOfAnother));
    }
    let rights = capability.rights();
    let sql = "INSERT INTO tokens
               (token, device, access, may_create, vaults, folders, expires_ms, issued_ms)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let id = capability.id();
    let row = params![
        id.as_bytes(),
        device.as_bytes(),
        rows::access_code(rights.access),
        rights.create,
        rows::lines(&rights.vaults, VaultName::folded),
        rows::lines(&rights.folders, VaultPath::to_string),
        rights.expires_ms.map(rows::ms),
        rows::ms(now_ms),
    ];
    tx.execute(sql, row)?;
    Ok(())
}

fn device_of(db: &Connection, row: &Row<'_>) -> Result<Device, Fault> {
    let id = rows::id(row, "device", DeviceId::from_bytes)?;
    Ok(Device {
        id,
        name: row.get("name")?,
        created_ms: rows::time(row, "created_ms")?,
        seen_ms: rows::time_if(row, "seen_ms")?,
        revoked_ms: rows::time_if(row, "revoked_ms")?,
        tokens: tokens_of(db, id)?,
    })
}

fn tokens_of(db: &Connection, device: DeviceId) -> Result<Vec<IssuedToken>, Fault> {
    let sql = "SELECT * FROM tokens WHERE device = ?1 ORDER BY issued_ms DESC, token LIMIT ?2";
    rows::all(db, sql, params![device.as_bytes(), TOKENS_LISTED_MAX], |row| {
        Ok(IssuedToken {
            id: rows::id(row, "token", TokenId::from_bytes)?,
            rights: rows::rights(row, "expires_ms")?,
            issued_ms: rows::time(row, "issued_ms")?,
            revoked_ms: rows::time_if(row, "revoked_ms")?,
        })
    })
}
