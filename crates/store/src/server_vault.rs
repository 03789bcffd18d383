//! A server's vaults: `DATA/vaults/<id>/vault.db` and `blobs/` beside it.
//!
//! Invariant: heads, history, blob references and who sent them are one transaction; no live head
//! is committed before its bytes are stored.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crucible_core::id::VaultId;
use crucible_sync::repo::{Batch, Repo};
use rusqlite::{Connection, OptionalExtension};

use crate::blob_store::{BlobStore, FileBlobs};
use crate::error::{Fault, OpenError, StoreError};
use crate::schema::{self, VAULT_TABLES};
use crate::search_index::INDEX_DB;
use crate::server_repo::{ADDRESS_BYTES_MAX, Origin, ServerRepo, Vaults};
use crate::vault_db::VaultDb;
use crate::write_batch;

/// The database in a vault's folder.
pub const VAULT_DB: &str = "vault.db";
/// The folder of blobs in a vault's folder.
pub const BLOBS: &str = "blobs";

/// Vaults as folders below one.
#[derive(Debug, Clone)]
pub struct ServerVaults {
    folder: PathBuf,
}

/// One vault of a server, open. Has one owner at a time; a second process may read it.
#[derive(Debug)]
pub struct ServerVault {
    pub(crate) db: VaultDb,
}

impl ServerVaults {
    /// Keeps vaults below `folder` (`DATA/vaults`), which is made with the first one.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The folder of one vault.
    pub fn folder(&self, vault: &VaultId) -> PathBuf {
        self.folder.join(vault.to_string())
    }
}

impl Vaults for ServerVaults {
    type Vault = ServerVault;
    type Error = OpenError;

    fn create(&self, vault: &VaultId) -> Result<ServerVault, OpenError> {
        let folder = self.folder(vault);
        fs::create_dir_all(&folder).map_err(OpenError::io(&folder))?;
        sync_folder(&self.folder)?;
        let path = folder.join(VAULT_DB);
        let conn = schema::create(&path, vault, VAULT_TABLES, |_| Ok(()))?;
        Ok(ServerVault::new(conn, &path))
    }

    fn open(&self, vault: &VaultId) -> Result<Option<ServerVault>, OpenError> {
        let path = self.folder(vault).join(VAULT_DB);
        let opened = match schema::open(&path) {
            Ok(conn) => ServerVault::new(conn, &path),
            Err(OpenError::Missing { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        if opened.db.vault()? != *vault {
            return Err(OpenError::OtherVault { path });
        }
        Ok(Some(opened))
    }

    fn index_place(&self, vault: &VaultId) -> Option<PathBuf> {
        Some(self.folder(vault).join(INDEX_DB))
    }

    fn list(&self) -> Result<Vec<VaultId>, OpenError> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(OpenError::io(&self.folder)(error)),
        };
        let mut vaults = Vec::new();
        for entry in entries {
            let name = entry.map_err(OpenError::io(&self.folder))?.file_name();
            vaults.extend(name.to_str().and_then(|name| name.parse::<VaultId>().ok()));
        }
        vaults.sort_unstable();
        Ok(vaults)
    }
}

fn sync_folder(folder: &Path) -> Result<(), OpenError> {
    fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(OpenError::io(folder))
}

impl ServerVault {
    fn new(conn: Connection, path: &Path) -> Self {
        let folder = path.parent().expect("the database lies in a folder");
        let blobs: Arc<dyn BlobStore> = Arc::new(FileBlobs::new(folder.join(BLOBS)));
        Self { db: VaultDb::new(conn, path, blobs) }
    }

    /// Where the database is.
    pub fn path(&self) -> &Path {
        self.db.path()
    }

    /// The vault's large assets; shared, so that they can arrive while rounds go on.
    pub fn blobs(&self) -> &Arc<dyn BlobStore> {
        self.db.blobs()
    }

    fn check_bytes(&self, batch: &Batch) -> Result<(), StoreError> {
        let new: HashMap<_, _> = batch.versions.iter().map(|(id, v)| (id, v)).collect();
        let coming: HashSet<_> = batch.contents.iter().map(|content| content.hash).collect();
        for head in batch.heads.iter().flat_map(|(_, heads)| heads) {
            let known;
            let version = match new.get(head) {
                Some(version) => version,
                None => match self.db.version(head)? {
                    Some(version) => {
                        known = version;
                        &known
                    }
                    None => continue,
                },
            };
            let Some(live) = version.live() else { continue };
            if !coming.contains(&live.content) && !self.db.has_content(&live.content)? {
                return Err(StoreError::Rule("the bytes of a live head are stored"));
            }
        }
        Ok(())
    }
}

impl ServerRepo for ServerVault {
    fn commit_from(&mut self, batch: &Batch, origin: &Origin) -> Result<(), StoreError> {
        self.check_bytes(batch)?;
        let applied = self.db.write(|tx| {
            let applied = write_batch::apply(tx, batch)?;
            if applied.first <= applied.last {
                record_origin(tx, applied.first, origin)?;
            }
            Ok(applied)
        })?;
        self.db.remember(batch, &applied);
        Ok(())
    }
}

fn record_origin(conn: &Connection, first: u64, origin: &Origin) -> Result<(), Fault> {
    let mut end = origin.address.len().min(ADDRESS_BYTES_MAX);
    while !origin.address.is_char_boundary(end) {
        end -= 1;
    }
    let address = &origin.address[..end];
    let key = (origin.user.as_bytes(), origin.device.as_bytes(), address);
    let mut select = conn
        .prepare_cached("SELECT k FROM origins WHERE user = ?1 AND device = ?2 AND address = ?3")?;
    let k: i64 = match select.query_row(key, |row| row.get(0)).optional()? {
        Some(k) => k,
        None => {
            let mut insert = conn.prepare_cached(
                "INSERT INTO origins (user, device, address) VALUES (?1, ?2, ?3)",
            )?;
            insert.insert(key)?
        }
    };
    let mut insert = conn.prepare_cached("INSERT INTO commits VALUES (?1, ?2, ?3)")?;
    insert.execute((first as i64, k, origin.received_ms as i64))?;
    for (place, (user, device)) in origin.others.iter().enumerate() {
        let mut insert = conn.prepare_cached("INSERT INTO co_authors VALUES (?1, ?2, ?3, ?4)")?;
        insert.execute((first as i64, place as i64, user.as_bytes(), device.as_bytes()))?;
    }
    Ok(())
}

delegate_repo!(ServerVault, db);
