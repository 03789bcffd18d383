//! Pairing codes at rest: opened by a device that is in, used once by one that joins.

use crucible_core::id::{DeviceId, UserId};
use crucible_core::vault_path::VaultPath;
use crucible_trust::capability::{Capability, Subject, Token};
use crucible_trust::name::VaultName;
use crucible_trust::pairing::{CodeHash, Invitation, PairingCode, RedeemError};
use crucible_trust::rights::Rights;
use rusqlite::{Transaction, params};

use super::{Accounts, MintError, Stop, rows, tokens};
use crate::error::{Fault, StoreError};

/// What a pairing code opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invite {
    /// Whose device the joiner becomes.
    pub user: UserId,
    /// What its token will allow.
    pub rights: Rights,
}

/// A device that presents a code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joiner {
    /// Its public key, or random bytes it has drawn.
    pub device: DeviceId,
    /// What it calls itself.
    pub name: String,
}

/// What a code was exchanged for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paired {
    /// For the joiner alone.
    pub token: Token,
    /// What the code opened.
    pub invite: Invite,
}

/// Why a code opens nothing.
#[derive(Debug, thiserror::Error)]
pub enum RedeemFailure {
    /// The code itself.
    #[error(transparent)]
    Code(#[from] RedeemError),
    /// The code is good, and stays so, but this device cannot have a token.
    #[error(transparent)]
    Mint(#[from] MintError),
    /// The database.
    #[error(transparent)]
    Accounts(#[from] StoreError),
}

impl Accounts {
    /// Opens a door for `code`. Codes that are over are swept out on the way.
    ///
    /// # Errors
    /// [`StoreError`]; a user that is not there breaks a foreign key.
    pub fn open_invitation(
        &self,
        code: &PairingCode,
        invite: &Invite,
        now_ms: u64,
    ) -> Result<Invitation, StoreError> {
        let door = Invitation::open(code, now_ms);
        self.write(|tx| {
            let sql = "DELETE FROM invitations WHERE expires_ms <= ?1";
            tx.execute(sql, params![rows::ms(now_ms)])?;
            let sql = "INSERT INTO invitations (code, user, access, may_create, vaults, folders,
                       rights_expire_ms, expires_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
            let rights = &invite.rights;
            let row = params![
                door.code.as_bytes(),
                invite.user.as_bytes(),
                rows::access_code(rights.access),
                rights.create,
                rows::lines(&rights.vaults, VaultName::folded),
                rows::lines(&rights.folders, VaultPath::to_string),
                rights.expires_ms.map(rows::ms),
                rows::ms(door.expires_ms),
            ];
            tx.execute(sql, row)?;
            Ok(door)
        })
    }

    /// How many codes of a user are still good.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn open_invitations(&self, user: UserId, now_ms: u64) -> Result<u32, StoreError> {
        let sql = "SELECT count(*) AS n FROM invitations
                   WHERE user = ?1 AND used_ms IS NULL AND expires_ms > ?2";
        let key = params![user.as_bytes(), rows::ms(now_ms)];
        let count = self.read(|db| rows::one(db, sql, key, |row| Ok(row.get("n")?)))?;
        Ok(count.unwrap_or(0))
    }

    /// Exchanges a code for a token: used, minted and remembered in one transaction, so that of
    /// two devices with one code exactly one gets in. `seed` is 32 random bytes.
    ///
    /// # Errors
    /// [`RedeemFailure`]; after any of them the code is as it was.
    pub fn redeem(
        &self,
        code: &PairingCode,
        joiner: &Joiner,
        seed: [u8; 32],
        now_ms: u64,
    ) -> Result<Paired, RedeemFailure> {
        self.transact(|tx| {
            let (door, invite) =
                find(tx, &code.hash())?.ok_or_else(|| refused(RedeemError::Wrong))?;
            let used = door.redeem(code, now_ms).map_err(refused)?;
            let sql = "UPDATE invitations SET used_ms = ?2 WHERE code = ?1 AND used_ms IS NULL";
            let key = params![used.code.as_bytes(), used.used_ms.map(rows::ms)];
            if tx.execute(sql, key)? != 1 {
                return Err(refused(RedeemError::Used));
            }
            let subject = Subject { user: invite.user, device: joiner.device };
            let capability = Capability::issue(&self.root, subject, &invite.rights, seed);
            tokens::record(tx, &capability, &joiner.name, now_ms).map_err(Stop::widen)?;
            Ok(Paired { token: capability.token(), invite })
        })
    }
}

fn refused(why: RedeemError) -> Stop<RedeemFailure> {
    Stop::Refused(why.into())
}

fn find(tx: &Transaction<'_>, code: &CodeHash) -> Result<Option<(Invitation, Invite)>, Fault> {
    let sql = "SELECT * FROM invitations WHERE code = ?1";
    rows::one(tx, sql, params![code.as_bytes()], |row| {
        let door = Invitation {
            code: rows::id(row, "code", CodeHash::from_bytes)?,
            expires_ms: rows::time(row, "expires_ms")?,
            used_ms: rows::time_if(row, "used_ms")?,
        };
        let invite = Invite {
            user: rows::id(row, "user", UserId::from_bytes)?,
            rights: rows::rights(row, "rights_expire_ms")?,
        };
        Ok((door, invite))
    })
}
