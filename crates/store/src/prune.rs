//! What a device may forget once the other side keeps it.
//!
//! Invariant: in local mode nothing is forgotten. Elsewhere only versions go that are older than
//! every root named, have been acknowledged, and are none of: a head, a note's newest version, a
//! note's version at the oldest root, the version of a file, of displaced bytes or of an
//! intention, one side of an open conflict, a parent of an unsent version, or any version of a
//! note with several heads. When in doubt a version stays.

use std::collections::HashSet;

use crucible_core::id::{RootHash, VersionId};
use crucible_sync::replica::ReplicaStore;
use crucible_sync::repo::Repo;
use rusqlite::{Connection, OptionalExtension};

use crate::error::{Fault, StoreError};
use crate::gc::{Swept, sweep};
use crate::schema::PREFIX;
use crate::sync_db::SyncDb;
use crate::version_row::{self, Parent};
use crate::write_batch::{decode_conflict, decode_heads, forget_version};

/// What was forgotten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Versions.
    pub versions: u64,
    /// Contents and the rest.
    pub swept: Swept,
}

impl SyncDb {
    /// Forgets what neither this device nor a round needs: everything before the last common
    /// root and before each of `keep_roots`, see the module. Does nothing when there is no common
    /// root (local mode), or when this store does not know one of the roots.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is forgotten then.
    pub fn prune(&mut self, keep_roots: &[RootHash]) -> Result<Pruned, StoreError> {
        let Some(common) = self.meta()?.common_root else { return Ok(Pruned::default()) };
        let mut oldest = u64::MAX;
        for root in keep_roots.iter().chain([&common]) {
            match self.seq_of_root(root)? {
                Some(seq) => oldest = oldest.min(seq.0),
                None => return Ok(Pruned::default()),
            }
        }
        let root = self.root()?;
        let pruned = self.db.write(|tx| {
            let keep = kept(tx, oldest)?;
            let versions = forget_others(tx, oldest, &keep)?;
            tx.execute("DELETE FROM roots WHERE seq < ?1", [oldest as i64])?;
            tx.execute("UPDATE vault SET forgotten = max(forgotten, ?1)", [oldest as i64])?;
            Ok(Pruned { versions, swept: sweep(tx, root.as_ref())? })
        })?;
        self.db.seen.borrow_mut().clear();
        Ok(pruned)
    }
}

/// The positions up to `oldest` that have to stay.
fn kept(conn: &Connection, oldest: u64) -> Result<HashSet<u64>, Fault> {
    let mut keep = HashSet::new();
    let mut select = conn.prepare("SELECT k, newest, heads FROM notes WHERE newest IS NOT NULL")?;
    let mut at_root = conn.prepare(
        "SELECT seq FROM versions WHERE note = ?1 AND seq <= ?2 ORDER BY seq DESC LIMIT 1",
    )?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let k: i64 = row.get(0)?;
        keep.insert(row.get::<_, i64>(1)? as u64);
        let heads = decode_heads(row.get(2)?)?;
        if heads.len() > 1 {
            keep.extend(positions(conn, "SELECT seq FROM versions WHERE note = ?1", [k])?);
        }
        keep.extend(heads);
        let seq: Option<i64> =
            at_root.query_row([k, oldest as i64], |row| row.get(0)).optional()?;
        keep.extend(seq.map(|seq| seq as u64));
    }
    for seq in positions(conn, "SELECT seq FROM unsent", [])? {
        keep.insert(seq);
        keep.extend(parents(conn, seq)?);
    }
    for sql in [
        "SELECT version FROM files",
        "SELECT version FROM displaced",
        "SELECT version FROM placing WHERE version IS NOT NULL",
    ] {
        keep.extend(named(conn, sql)?);
    }
    let mut select = conn.prepare("SELECT body FROM conflicts WHERE open = 1")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let conflict = decode_conflict(&row.get::<_, Vec<u8>>(0)?)?;
        let sides = [conflict.merge, conflict.winner, conflict.loser];
        for id in sides.iter().chain(&conflict.base) {
            keep.extend(position_of(conn, id)?);
        }
    }
    Ok(keep)
}

fn forget_others(conn: &Connection, oldest: u64, keep: &HashSet<u64>) -> Result<u64, Fault> {
    let old = positions(
        conn,
        "SELECT seq FROM versions WHERE seq <= ?1 AND rest IS NOT NULL",
        [oldest as i64],
    )?;
    let mut forgotten = 0;
    for seq in old.into_iter().filter(|seq| !keep.contains(seq)) {
        forget_version(conn, seq)?;
        forgotten += 1;
    }
    Ok(forgotten)
}

fn positions(conn: &Connection, sql: &str, key: impl rusqlite::Params) -> Result<Vec<u64>, Fault> {
    let mut select = conn.prepare_cached(sql)?;
    let rows = select.query_map(key, |row| Ok(row.get::<_, i64>(0)? as u64))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn parents(conn: &Connection, seq: u64) -> Result<Vec<u64>, Fault> {
    let mut select = conn.prepare_cached("SELECT rest FROM versions WHERE seq = ?1")?;
    let rest: Option<Vec<u8>> =
        select.query_row([seq as i64], |row| row.get(0)).optional()?.flatten();
    let rest = rest.ok_or(Fault::Damaged("an unsent version is known"))?;
    let parents = version_row::parents(&rest, seq)?.into_iter();
    Ok(parents
        .filter_map(|parent| match parent {
            Parent::Known(seq) => Some(seq),
            Parent::Unknown(_) => None,
        })
        .collect())
}

fn named(conn: &Connection, sql: &str) -> Result<Vec<u64>, Fault> {
    let mut select = conn.prepare_cached(sql)?;
    let mut rows = select.query([])?;
    let mut seqs = Vec::new();
    while let Some(row) = rows.next()? {
        seqs.extend(position_of(conn, &VersionId::from_bytes(row.get(0)?))?);
    }
    Ok(seqs)
}

fn position_of(conn: &Connection, id: &VersionId) -> Result<Option<u64>, Fault> {
    let key = (&id.as_bytes()[..PREFIX], id.as_bytes());
    let sql = "SELECT seq FROM versions
               WHERE substr(id, 1, 5) = ?1 AND id = ?2 AND rest IS NOT NULL";
    Ok(positions(conn, sql, key)?.first().copied())
}
