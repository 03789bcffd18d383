//! A server's data directory: `accounts.db`, and the vaults with their blobs under `vaults/`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crucible_core::id::ReplicaId;
use crucible_store::accounts::{Accounts, OpenAccountsError};
use crucible_store::server_vault::ServerVaults;

use crate::engine::Engine;
use crate::state::Backends;

/// The accounts in a data directory.
pub const ACCOUNTS_DB: &str = "accounts.db";
/// The folder of vaults in a data directory.
pub const VAULTS: &str = "vaults";

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenDataError {
    /// It cannot be made.
    #[error("cannot make the data directory {}", path.display())]
    Folder {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The accounts in it cannot be opened.
    #[error(transparent)]
    Accounts(#[from] OpenAccountsError),
    /// The system has no random bytes.
    #[error("the system gives no random bytes")]
    Random(#[source] getrandom::Error),
}

/// Opens the accounts in a data directory, made with mode 0700 if it is not there.
///
/// # Errors
/// [`OpenDataError`]; what is there is not changed.
pub fn accounts(data: &Path) -> Result<Accounts, OpenDataError> {
    let mut folder = fs::DirBuilder::new();
    folder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut folder, 0o700);
    folder
        .create(data)
        .map_err(|source| OpenDataError::Folder { path: data.to_owned(), source })?;
    Ok(Accounts::open(&data.join(ACCOUNTS_DB), random()?)?)
}

/// Everything behind a server, in files below `data`.
///
/// # Errors
/// [`OpenDataError`]; what is there is not changed.
pub fn backends(data: &Path) -> Result<Backends, OpenDataError> {
    let accounts = accounts(data)?;
    let vaults = ServerVaults::new(data.join(VAULTS));
    let engine = Engine::new(vaults.clone(), ReplicaId::from_bytes(random()?));
    Ok(Backends {
        accounts,
        rounds: Arc::new(engine),
        archive: Arc::new(vaults.clone()),
        blobs: Arc::new(vaults),
    })
}

fn random<const N: usize>() -> Result<[u8; N], OpenDataError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(OpenDataError::Random)?;
    Ok(bytes)
}
