//! Durable state: the SQLite databases and the blob files of a device and of a server.
//!
//! Invariant: what a commit returned `Ok` for survives a power cut, and what it did not is not
//! half there. Blocking, no async. In reading order: [`server_repo`] says what the server asks
//! beyond `sync::repo`, [`accounts`] who may ask; [`schema`] lists the tables; [`vault_db`] reads
//! and `write_batch` writes the part that device and server share; [`sync_db`] is a device's
//! store, [`server_vault`] a server's; [`blob_store`] keeps large assets, [`search_index`] words and links
//! of what is there now. [`check`], [`gc`],
//! [`prune`] and [`backup`] are what an operator runs. `docs/storage.md` is the format, table by
//! table.

#[macro_use]
mod delegate;

pub mod accounts;
pub mod backup;
pub mod blob_store;
pub mod check;
mod contents;
pub mod crdt_db;
pub mod error;
mod file_blobs;
mod gather;
pub mod gc;
mod history;
mod interned;
pub mod migrate;
pub mod prune;
mod recent;
pub mod schema;
pub mod search_index;
pub mod server_repo;
pub mod server_vault;
pub mod sync_db;
mod varint;
pub mod vault_db;
mod version_row;
mod write_batch;
