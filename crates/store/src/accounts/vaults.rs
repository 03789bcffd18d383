//! Vaults and their members.

use crucible_core::id::{UserId, VaultId};
use crucible_trust::name::VaultName;
use crucible_trust::rights::Access;
use rusqlite::params;

use super::{Accounts, Member, Vault, rows};
use crate::error::StoreError;

/// Why no vault is created.
#[derive(Debug, thiserror::Error)]
pub enum CreateVaultError {
    /// There is one of this name or id; it may be somebody else's.
    #[error("there is such a vault already")]
    Taken,
    /// The database.
    #[error(transparent)]
    Accounts(#[from] StoreError),
}

impl Accounts {
    /// Creates a vault with its owner as its first member. `id` is drawn at random, here or on
    /// the device where the vault began.
    ///
    /// # Errors
    /// [`CreateVaultError`]
    pub fn create_vault(
        &self,
        id: VaultId,
        name: &VaultName,
        owner: UserId,
        now_ms: u64,
    ) -> Result<Vault, CreateVaultError> {
        let created = self.write(|tx| {
            let sql = "INSERT INTO vaults (vault, name, owner, created_ms)
                       VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
            let row = params![id.as_bytes(), name.as_str(), owner.as_bytes(), rows::ms(now_ms)];
            if tx.execute(sql, row)? == 0 {
                return Ok(false);
            }
            let sql = "INSERT INTO members (vault, user, access) VALUES (?1, ?2, ?3)";
            let access = rows::access_code(Access::Write);
            tx.execute(sql, params![id.as_bytes(), owner.as_bytes(), access])?;
            Ok(true)
        })?;
        if !created {
            return Err(CreateVaultError::Taken);
        }
        Ok(Vault { id, name: name.clone(), owner, created_ms: now_ms })
    }

    /// A vault by its name.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn vault(&self, name: &VaultName) -> Result<Option<Vault>, StoreError> {
        let sql = "SELECT * FROM vaults WHERE name = ?1";
        self.read(|db| rows::one(db, sql, params![name.as_str()], rows::vault))
    }

    /// A vault by its id.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn vault_by_id(&self, id: &VaultId) -> Result<Option<Vault>, StoreError> {
        let sql = "SELECT * FROM vaults WHERE vault = ?1";
        self.read(|db| rows::one(db, sql, params![id.as_bytes()], rows::vault))
    }

    /// All vaults in the order of their names, those after `after`; at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn vaults(&self, after: Option<&VaultName>, limit: u32) -> Result<Vec<Vault>, StoreError> {
        let sql = "SELECT * FROM vaults WHERE name > ?1 ORDER BY name LIMIT ?2";
        let after = after.map_or("", VaultName::as_str);
        self.read(|db| rows::all(db, sql, params![after, limit], rows::vault))
    }

    /// The vaults a user is a member of, in the order of their names, those after `after`, and
    /// how far each membership reaches; at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn vaults_of(
        &self,
        user: UserId,
        after: Option<&VaultName>,
        limit: u32,
    ) -> Result<Vec<(Vault, Access)>, StoreError> {
        let sql = "SELECT vaults.*, members.access FROM members JOIN vaults USING (vault)
                   WHERE members.user = ?1 AND name > ?2 ORDER BY name LIMIT ?3";
        let after = after.map_or("", VaultName::as_str);
        self.read(|db| {
            rows::all(db, sql, params![user.as_bytes(), after, limit], |row| {
                Ok((rows::vault(row)?, rows::access(row)?))
            })
        })
    }

    /// How far the membership of a user in a vault reaches; `None` when there is none.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn membership(&self, vault: VaultId, user: UserId) -> Result<Option<Access>, StoreError> {
        let sql = "SELECT access FROM members WHERE vault = ?1 AND user = ?2";
        let key = params![vault.as_bytes(), user.as_bytes()];
        self.read(|db| rows::one(db, sql, key, rows::access))
    }

    /// The members of a vault in the order of their ids, those after `after`; at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn members(
        &self,
        vault: VaultId,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<Vec<Member>, StoreError> {
        let sql = "SELECT users.*, members.access FROM members JOIN users USING (user)
                   WHERE members.vault = ?1 AND user > ?2 ORDER BY user LIMIT ?3";
        let after = after.map_or(vec![], |id| id.as_bytes().to_vec());
        self.read(|db| {
            rows::all(db, sql, params![vault.as_bytes(), after, limit], |row| {
                Ok(Member { user: rows::user(row)?, access: rows::access(row)? })
            })
        })
    }

    /// Makes a user a member, or changes how far their membership reaches.
    ///
    /// # Errors
    /// [`StoreError`]; a vault or user that is not there breaks a foreign key.
    pub fn set_member(
        &self,
        vault: VaultId,
        user: UserId,
        access: Access,
    ) -> Result<(), StoreError> {
        self.write(|tx| {
            let sql = "INSERT INTO members (vault, user, access) VALUES (?1, ?2, ?3)
                       ON CONFLICT (vault, user) DO UPDATE SET access = excluded.access";
            let access = rows::access_code(access);
            tx.execute(sql, params![vault.as_bytes(), user.as_bytes(), access])?;
            Ok(())
        })
    }

    /// Ends a membership; tells whether there was one.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn remove_member(&self, vault: VaultId, user: UserId) -> Result<bool, StoreError> {
        self.write(|tx| {
            let sql = "DELETE FROM members WHERE vault = ?1 AND user = ?2";
            Ok(tx.execute(sql, params![vault.as_bytes(), user.as_bytes()])? > 0)
        })
    }
}
