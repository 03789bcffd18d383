//! Integers for what repeats: replicas and paths.
//!
//! Rows of `replicas` and `paths` are never changed or reused, so what was read of them once
//! stays true. A path is a chain of names: a folder of a thousand notes is spelled once.

use std::collections::HashMap;

use crucible_core::id::ReplicaId;
use crucible_core::vault_path::VaultPath;
use rusqlite::{Connection, OptionalExtension};

use crate::error::{Fault, intact};
use crate::recent::Recent;

/// The folder of names at the top of the vault.
const TOP: i64 = 0;
/// Paths remembered by a reader.
const PATHS_MAX: usize = 16 << 10;

/// Reads interned values back, remembering them.
pub(crate) struct Names {
    replicas: HashMap<u64, ReplicaId>,
    paths: Recent<i64, VaultPath>,
}

impl Default for Names {
    fn default() -> Self {
        Self { replicas: HashMap::new(), paths: Recent::new(PATHS_MAX) }
    }
}

impl Names {
    pub(crate) fn replica(&mut self, conn: &Connection, k: u64) -> Result<ReplicaId, Fault> {
        if let Some(id) = self.replicas.get(&k) {
            return Ok(*id);
        }
        let mut find = conn.prepare_cached("SELECT id FROM replicas WHERE k = ?1")?;
        let id: Option<[u8; 16]> = find.query_row([k as i64], |row| row.get(0)).optional()?;
        let id = id.ok_or(Fault::Damaged("rows name replicas that are there"))?;
        let id = ReplicaId::from_bytes(id);
        self.replicas.insert(k, id);
        Ok(id)
    }

    pub(crate) fn path(&mut self, conn: &Connection, k: i64) -> Result<VaultPath, Fault> {
        if let Some(path) = self.paths.get(&k, |_| 1) {
            return Ok(path);
        }
        let mut find = conn.prepare_cached("SELECT folder, name FROM paths WHERE k = ?1")?;
        let mut names: Vec<String> = Vec::new();
        let mut at = k;
        while at != TOP {
            let row = find.query_row([at], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
            let (folder, name) = row.ok_or(Fault::Damaged("rows name paths that are there"))?;
            // A folder is older than what is in it, which also bounds the loop.
            intact(folder < at, "a folder is older than its names")?;
            names.push(name);
            at = folder;
        }
        names.reverse();
        let path = VaultPath::new(&names.join("/"))
            .map_err(|_| Fault::Damaged("paths are vault paths"))?;
        self.paths.put(k, path.clone(), 1);
        Ok(path)
    }
}

/// The integer of a path, `None` when it was never used.
pub(crate) fn find_path(conn: &Connection, path: &VaultPath) -> Result<Option<i64>, Fault> {
    let mut at = TOP;
    for name in path.components() {
        match find_name(conn, at, name)? {
            Some(k) => at = k,
            None => return Ok(None),
        }
    }
    Ok(Some(at))
}

fn find_name(conn: &Connection, folder: i64, name: &str) -> Result<Option<i64>, Fault> {
    let mut find =
        conn.prepare_cached("SELECT k FROM paths WHERE mark = ?1 AND folder = ?2 AND name = ?3")?;
    Ok(find.query_row((mark(folder, name), folder, name), |row| row.get(0)).optional()?)
}

/// What an index holds of a name: 31 bits of a hash (FNV-1a) tell apart almost all names of a
/// vault, in a quarter of the room the names would take.
fn mark(folder: i64, name: &str) -> i64 {
    let bytes = folder.to_le_bytes().into_iter().chain(name.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash >> 33) as i64
}

/// Gives integers to new values, within one transaction.
pub(crate) struct Interner<'c> {
    conn: &'c Connection,
    replicas: HashMap<ReplicaId, Replica>,
    folders: HashMap<String, i64>,
}

struct Replica {
    k: u64,
    stored: u64,
    counter: u64,
}

impl<'c> Interner<'c> {
    pub(crate) fn new(conn: &'c Connection) -> Self {
        Self { conn, replicas: HashMap::new(), folders: HashMap::new() }
    }

    /// The integer of a replica of which `counter` is known; [`Self::flush`] stores the highest.
    pub(crate) fn replica_at(&mut self, id: &ReplicaId, counter: u64) -> Result<u64, Fault> {
        if let Some(replica) = self.replicas.get_mut(id) {
            replica.counter = replica.counter.max(counter);
            return Ok(replica.k);
        }
        let mut find = self.conn.prepare_cached("SELECT k, counter FROM replicas WHERE id = ?1")?;
        let found = find
            .query_row([id.as_bytes()], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))
            .optional()?;
        let (k, stored) = match found {
            Some((k, stored)) => (k as u64, stored as u64),
            None => {
                let mut insert = self
                    .conn
                    .prepare_cached("INSERT INTO replicas (id, counter) VALUES (?1, 0)")?;
                (insert.insert([id.as_bytes()])? as u64, 0)
            }
        };
        self.replicas.insert(*id, Replica { k, stored, counter: counter.max(stored) });
        Ok(k)
    }

    /// The integer of a path.
    pub(crate) fn path(&mut self, path: &VaultPath) -> Result<i64, Fault> {
        match path.as_str().rsplit_once('/') {
            None => self.name(TOP, path.as_str()),
            Some((folder, name)) => {
                let folder = self.folder(folder)?;
                self.name(folder, name)
            }
        }
    }

    fn folder(&mut self, folder: &str) -> Result<i64, Fault> {
        if let Some(&k) = self.folders.get(folder) {
            return Ok(k);
        }
        let mut at = TOP;
        for name in folder.split('/') {
            at = self.name(at, name)?;
        }
        self.folders.insert(folder.to_owned(), at);
        Ok(at)
    }

    fn name(&self, folder: i64, name: &str) -> Result<i64, Fault> {
        if let Some(k) = find_name(self.conn, folder, name)? {
            return Ok(k);
        }
        let mut insert = self
            .conn
            .prepare_cached("INSERT INTO paths (folder, name, mark) VALUES (?1, ?2, ?3)")?;
        Ok(insert.insert((folder, name, mark(folder, name)))?)
    }

    /// Stores the counters that rose.
    pub(crate) fn flush(&mut self) -> Result<(), Fault> {
        let mut update =
            self.conn.prepare_cached("UPDATE replicas SET counter = ?2 WHERE k = ?1")?;
        for replica in self.replicas.values_mut().filter(|r| r.counter > r.stored) {
            update.execute([replica.k as i64, replica.counter as i64])?;
            replica.stored = replica.counter;
        }
        Ok(())
    }
}
