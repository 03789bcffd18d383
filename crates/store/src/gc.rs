//! Throws away what nothing refers to: contents, packs, ids, tree nodes, blobs.
//!
//! Invariant: nothing that a known version names is ever thrown away, and a delta whose base goes
//! is kept over another base first. With the default policy ("keep all") a server's history never
//! loses a version, so only leftovers go here; what a device may forget is decided in `prune`.

use std::collections::{HashMap, HashSet};

use crucible_core::hash::ContentHash;
use crucible_core::id::{NodeHash, RootHash};
use crucible_core::merkle::node::{Entry, Node};
use crucible_proto::zip;
use crucible_sync::repo::{Pack, Repo};
use rusqlite::{Connection, OptionalExtension, Row, Transaction};

use crate::contents::{self, Content, Decoded, Form};
use crate::error::{Fault, StoreError};
use crate::server_vault::ServerVault;
use crate::sync_db::SyncDb;
use crate::vault_db::VaultDb;
use crate::version_row::{self, Parent};

/// What was thrown away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Contents.
    pub contents: u64,
    /// Deltas kept over another base.
    pub rebased: u64,
    /// Packs, and packs written anew without what went.
    pub packs: u64,
    /// Ids of forgotten versions that no other version names.
    pub ids: u64,
    /// Nodes of no tree.
    pub nodes: u64,
    /// Large assets.
    pub blobs: u64,
    /// Bytes of those.
    pub blob_bytes: u64,
    /// Blobs that began to arrive and never did.
    pub partial_blobs: u64,
}

/// How old a blob without a version has to be: it may have arrived for a version on its way.
pub const BLOB_GRACE_MS: u64 = 24 * 60 * 60 * 1000;

impl ServerVault {
    /// Throws away what nothing refers to, gathers texts that came one at a time into packs,
    /// compresses packs anew that are still as they travelled, and writes the database anew without gaps. Needs as much room again as the
    /// database has, and keeps other writers waiting meanwhile.
    ///
    /// # Errors
    /// [`StoreError`]; the database then holds what it held, and some blobs may be gone already.
    pub fn gc(&mut self, now_ms: u64) -> Result<Swept, StoreError> {
        let swept = self.db.gc(now_ms)?;
        self.db.gather()?;
        while self.db.write(tighten_one)? {}
        self.db.read(|conn, _| {
            conn.execute_batch("VACUUM")?;
            Ok(conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)
        })?;
        Ok(swept)
    }
}

impl SyncDb {
    /// Throws away what nothing refers to; `prune` also forgets what the other side keeps.
    ///
    /// # Errors
    /// [`StoreError`]; the database is then as it was, and some blobs may be gone already.
    pub fn gc(&mut self, now_ms: u64) -> Result<Swept, StoreError> {
        self.db.gc(now_ms)
    }
}

impl VaultDb {
    pub(crate) fn gc(&mut self, now_ms: u64) -> Result<Swept, StoreError> {
        let root = self.root()?;
        let mut swept = self.write(|tx| sweep(tx, root.as_ref()))?;
        self.seen.borrow_mut().clear();
        self.sweep_blobs(now_ms.saturating_sub(BLOB_GRACE_MS), &mut swept)?;
        Ok(swept)
    }

    fn sweep_blobs(&self, before_ms: u64, swept: &mut Swept) -> Result<(), StoreError> {
        swept.partial_blobs = self.blobs.abandon_older(before_ms)?;
        let mut after: Option<ContentHash> = None;
        loop {
            let page = self.blobs.list(after.as_ref(), BLOBS_AT_A_TIME)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.hash);
            for blob in page.iter().filter(|blob| blob.stored_ms < before_ms) {
                let named = self.read(|conn, _| Ok(contents::find(conn, &blob.hash)?.is_some()))?;
                if !named {
                    self.blobs.remove(&blob.hash)?;
                    swept.blobs += 1;
                    swept.blob_bytes += blob.bytes;
                }
            }
        }
    }
}

const BLOBS_AT_A_TIME: usize = 1000;

/// Sweeps the database, inside the caller's transaction.
pub(crate) fn sweep(conn: &Connection, root: Option<&RootHash>) -> Result<Swept, Fault> {
    let mut swept = Swept::default();
    let named = integers(conn, "SELECT DISTINCT content FROM versions WHERE content IS NOT NULL")?;
    rebase(conn, &named, &mut swept)?;
    for k in integers(conn, "SELECT k FROM contents")? {
        if !named.contains(&k) {
            conn.prepare_cached("DELETE FROM contents WHERE k = ?1")?.execute([k])?;
            swept.contents += 1;
        }
    }
    sweep_packs(conn, &mut swept)?;
    sweep_ids(conn, &mut swept)?;
    conn.execute_batch(
        "DELETE FROM fronts WHERE k NOT IN (SELECT front FROM versions WHERE front IS NOT NULL)",
    )?;
    sweep_nodes(conn, root, &mut swept)?;
    Ok(swept)
}

fn integers(conn: &Connection, sql: &str) -> Result<HashSet<i64>, Fault> {
    let mut select = conn.prepare(sql)?;
    let rows = select.query_map([], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Keeps every delta that stays over a base that stays.
fn rebase(conn: &Connection, named: &HashSet<i64>, swept: &mut Swept) -> Result<(), Fault> {
    let mut bases: HashMap<i64, i64> = HashMap::new();
    let mut select = conn.prepare("SELECT k, base FROM contents WHERE base IS NOT NULL")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        bases.insert(row.get(0)?, row.get(1)?);
    }
    let mut orphans: Vec<i64> = bases
        .iter()
        .filter(|(k, base)| named.contains(*k) && !named.contains(*base))
        .map(|(k, _)| *k)
        .collect();
    // Oldest first: what comes later may rest on what was settled before.
    orphans.sort_unstable();
    let mut decoded = Decoded::default();
    for k in orphans {
        let row = contents::by_k(conn, k)?;
        let gone = Fault::Damaged("a delta's base is stored");
        let raw = decoded.decode(conn, row)?.ok_or(gone)?;
        let mut base = bases.get(&k).copied();
        while let Some(at) = base.filter(|at| !named.contains(at)) {
            base = bases.get(&at).copied();
        }
        let (cost, form) = match base {
            Some(base) => contents::recode(conn, &mut decoded, contents::by_k(conn, base)?, &raw)?,
            None => (contents::kib(raw.len() as u64), Form::Whole(zip::zip(&raw))),
        };
        contents::rewrite(conn, k, cost, &form)?;
        swept.rebased += 1;
    }
    Ok(())
}

/// Deletes packs that nothing is in, and writes those anew of which less than half is used.
fn sweep_packs(conn: &Connection, swept: &mut Swept) -> Result<(), Fault> {
    let mut used: HashMap<i64, u64> = HashMap::new();
    let mut select = conn.prepare("SELECT pack, bytes FROM contents WHERE pack IS NOT NULL")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        *used.entry(row.get(0)?).or_default() += row.get::<_, i64>(1)? as u64;
    }
    let mut select = conn.prepare("SELECT k, bytes FROM packs")?;
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64)))?;
    let packs: Vec<(i64, u64)> = rows.collect::<Result<_, _>>()?;
    let sparse = |k, bytes| used.get(k).is_none_or(|used| used * 2 < bytes);
    for (k, _) in packs.iter().filter(|(k, bytes)| sparse(k, *bytes)) {
        if used.contains_key(k) {
            rewrite_pack(conn, *k)?;
        }
        conn.prepare_cached("DELETE FROM packs WHERE k = ?1")?.execute([k])?;
        swept.packs += 1;
    }
    Ok(())
}

/// Compresses one pack anew; `false` when all are done. What it holds stays where it is.
fn tighten_one(conn: &Transaction<'_>) -> Result<bool, Fault> {
    let mut select =
        conn.prepare_cached("SELECT k, bytes, frame FROM packs WHERE tight = 0 LIMIT 1")?;
    let row = |row: &Row<'_>| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)? as usize, row.get::<_, Vec<u8>>(2)?))
    };
    let Some((k, bytes, frame)) = select.query_row([], row).optional()? else { return Ok(false) };
    let raw = zip::unzip(&frame, bytes).map_err(|_| Fault::Damaged("frames decode"))?;
    let tight = zip::zip_tight(&raw);
    let smaller = if tight.len() < frame.len() { tight } else { frame };
    let mut update =
        conn.prepare_cached("UPDATE packs SET tight = 1, sum = ?2, frame = ?3 WHERE k = ?1")?;
    update.execute((k, contents::sum(&smaller), smaller))?;
    Ok(true)
}

fn rewrite_pack(conn: &Connection, pack: i64) -> Result<(), Fault> {
    let mut select = conn.prepare_cached(
        "SELECT k, hash, bytes, cost, pack, at, base, frame FROM contents
         WHERE pack = ?1 ORDER BY at",
    )?;
    let rows = select.query_map([pack], contents::from_row)?;
    let members: Vec<Content> = rows.collect::<Result<_, _>>()?;
    let mut decoded = Decoded::default();
    let mut raw = Vec::new();
    let mut places = Vec::with_capacity(members.len());
    for member in members {
        places.push((member.k, raw.len()));
        let gone = Fault::Damaged("packs hold their contents");
        raw.extend_from_slice(&decoded.decode(conn, member)?.ok_or(gone)?);
    }
    let raw_bytes = u32::try_from(raw.len()).map_err(|_| Fault::Damaged("packs are bounded"))?;
    let pack = contents::write_pack(conn, &Pack { raw_bytes, frame: zip::zip(&raw) }, false)?;
    for (k, at) in places {
        let cost = contents::kib(u64::from(raw_bytes));
        contents::rewrite(conn, k, cost, &Form::Packed { pack, at })?;
    }
    Ok(())
}

/// Deletes the ids of forgotten versions that no known version has as a parent.
fn sweep_ids(conn: &Connection, swept: &mut Swept) -> Result<(), Fault> {
    let forgotten = integers(conn, "SELECT seq FROM versions WHERE rest IS NULL")?;
    if forgotten.is_empty() {
        return Ok(());
    }
    let mut named = HashSet::new();
    let mut select = conn.prepare("SELECT seq, rest FROM versions WHERE rest IS NOT NULL")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let rest = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
        for parent in version_row::parents(rest, row.get::<_, i64>(0)? as u64)? {
            if let Parent::Known(seq) = parent {
                named.insert(seq as i64);
            }
        }
    }
    for seq in forgotten.difference(&named) {
        conn.prepare_cached("DELETE FROM versions WHERE seq = ?1")?.execute([seq])?;
        swept.ids += 1;
    }
    Ok(())
}

fn sweep_nodes(conn: &Connection, root: Option<&RootHash>, swept: &mut Swept) -> Result<(), Fault> {
    let mut nodes: HashMap<NodeHash, (i64, Vec<NodeHash>)> = HashMap::new();
    let mut select = conn.prepare("SELECT k, hash, body FROM nodes")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let body = row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?;
        let node = Node::decode(body).map_err(|_| Fault::Damaged("tree nodes decode"))?;
        nodes.insert(NodeHash::from_bytes(row.get(1)?), (row.get(0)?, children(&node)));
    }
    // A tree with a hole is for `check` to report; nothing of it is thrown away.
    let mut reached = HashSet::new();
    let mut pending: Vec<_> = root.map(RootHash::node).into_iter().collect();
    while let Some(hash) = pending.pop() {
        let Some((k, children)) = nodes.get(&hash) else { return Ok(()) };
        if reached.insert(*k) {
            pending.extend(children);
        }
    }
    for (k, _) in nodes.values().filter(|(k, _)| !reached.contains(k)) {
        conn.prepare_cached("DELETE FROM nodes WHERE k = ?1")?.execute([k])?;
        swept.nodes += 1;
    }
    Ok(())
}

/// The nodes a node names.
pub(crate) fn children(node: &Node) -> Vec<NodeHash> {
    match node {
        Node::Root(root) => root.live.into_iter().chain(root.tombstones).collect(),
        Node::Branch(children) => children.iter().flatten().copied().collect(),
        Node::Bucket(entries) => entries
            .iter()
            .filter_map(|entry| match entry {
                Entry::Dir { top, .. } => Some(*top),
                Entry::Note { .. } | Entry::Gone { .. } => None,
            })
            .collect(),
    }
}
