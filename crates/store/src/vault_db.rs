//! [`VaultDb`]: the part of a vault's database that device and server share, read.
//!
//! Invariant: only immutable facts are remembered between calls (a version by its id, bytes by
//! their hash); heads, root and positions are read from the database each time, so that another
//! process may have changed them.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crucible_core::conflict::Conflict;
use crucible_core::hash::ContentHash;
use crucible_core::id::{ConflictId, NodeHash, NoteId, ReplicaId, RootHash, VaultId, VersionId};
use crucible_core::version::{KeyStamps, Live, State, TagDots, Version};
use crucible_sync::repo::{Batch, ConflictEvent, ConflictState, Pack, PackPlace, Repo, Seq};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior};

use crate::blob_store::BlobStore;
use crate::contents::{self, Decoded};
use crate::error::{Fault, StoreError};
use crate::interned::Names;
use crate::recent::Recent;
use crate::schema::PREFIX;
use crate::version_row;
use crate::write_batch::{Applied, decode_conflict, decode_heads, root_key};

/// Versions remembered.
const VERSIONS_MAX: usize = 8 << 10;

/// An open database of a vault, with the blobs beside it.
pub struct VaultDb {
    pub(crate) conn: Connection,
    pub(crate) path: PathBuf,
    pub(crate) blobs: Arc<dyn BlobStore>,
    pub(crate) seen: RefCell<Seen>,
}

/// What was read lately and cannot change.
pub(crate) struct Seen {
    pub(crate) names: Names,
    pub(crate) versions: Recent<VersionId, Arc<Version>>,
    pub(crate) decoded: Decoded,
}

impl Seen {
    fn new() -> Self {
        let versions = Recent::new(VERSIONS_MAX);
        Self { names: Names::default(), versions, decoded: Decoded::default() }
    }

    /// Remembers nothing of versions: for reading all of them once.
    pub(crate) fn uncached() -> Self {
        Self { versions: Recent::new(0), ..Self::new() }
    }

    /// After anything was forgotten.
    pub(crate) fn clear(&mut self) {
        self.versions.clear();
        self.decoded.clear();
    }
}

impl std::fmt::Debug for VaultDb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VaultDb").field("path", &self.path).finish_non_exhaustive()
    }
}

impl VaultDb {
    pub(crate) fn new(conn: Connection, path: &Path, blobs: Arc<dyn BlobStore>) -> Self {
        Self { conn, path: path.to_owned(), blobs, seen: RefCell::new(Seen::new()) }
    }

    /// Where the database is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The large assets beside it.
    pub fn blobs(&self) -> &Arc<dyn BlobStore> {
        &self.blobs
    }

    /// Which vault this is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn vault(&self) -> Result<VaultId, StoreError> {
        self.read(|conn, _| {
            let id = conn.query_row("SELECT id FROM vault", [], |row| row.get(0))?;
            Ok(VaultId::from_bytes(id))
        })
    }

    /// Runs `read` on the database and names the file in its failure.
    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&Connection, &mut Seen) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        read(&self.conn, &mut self.seen.borrow_mut()).map_err(|fault| fault.at(&self.path))
    }

    /// Runs `write` in one transaction: all of it or nothing.
    pub(crate) fn write<T>(
        &mut self,
        write: impl FnOnce(&Transaction<'_>) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        let run = || {
            let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = write(&tx)?;
            tx.commit()?;
            Ok(done)
        };
        run().map_err(|fault: Fault| fault.at(&self.path))
    }

    /// After a batch was committed: what it wrote is asked for next.
    pub(crate) fn remember(&self, batch: &Batch, applied: &Applied) {
        let mut seen = self.seen.borrow_mut();
        if !applied.dropped.is_empty() {
            seen.clear();
            return;
        }
        for (id, version) in &batch.versions {
            seen.versions.put(*id, Arc::clone(version), 1);
        }
    }

    fn one<T>(
        &self,
        sql: &str,
        key: impl rusqlite::Params,
        row: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, StoreError> {
        self.read(|conn, _| Ok(conn.prepare_cached(sql)?.query_row(key, row).optional()?))
    }

    fn list<T>(
        &self,
        sql: &str,
        key: impl rusqlite::Params,
        row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        self.read(|conn, _| {
            let mut statement = conn.prepare_cached(sql)?;
            let rows = statement.query_map(key, row)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }
}

/// A row of `versions`, put together.
pub(crate) struct Stored {
    pub(crate) seq: u64,
    pub(crate) id: VersionId,
    pub(crate) version: Arc<Version>,
}

/// Reads versions from their rows: `WHERE` follows, on `v`.
pub(crate) const SELECT_VERSION: &str = "
SELECT v.seq, v.id, n.id, v.path, c.hash, v.front, v.rest
FROM versions v JOIN notes n ON n.k = v.note LEFT JOIN contents c ON c.k = v.content ";

impl Seen {
    /// Puts a row of [`SELECT_VERSION`] together.
    pub(crate) fn version(&mut self, conn: &Connection, row: &Row<'_>) -> Result<Stored, Fault> {
        let seq = row.get::<_, i64>(0)? as u64;
        let id = VersionId::from_bytes(row.get(1)?);
        if let Some(version) = self.versions.get(&id, |_| 1) {
            return Ok(Stored { seq, id, version });
        }
        let names = RefCell::new(&mut self.names);
        let replica = |k| names.borrow_mut().replica(conn, k);
        let parent = |seq: u64| id_at(conn, seq);
        let rest = version_row::decode(
            row.get_ref(6)?.as_blob().map_err(rusqlite::Error::from)?,
            seq,
            replica,
            parent,
        )?;
        let state = match rest.live {
            None => State::Deleted,
            Some((kind, bytes)) => {
                let path = row.get::<_, Option<i64>>(3)?;
                let path = path.ok_or(Fault::Damaged("a live version has a path"))?;
                let content = row.get::<_, Option<[u8; 32]>>(4)?;
                let content = content.ok_or(Fault::Damaged("a live version has content"))?;
                let (keys, tags) = front(conn, row.get(5)?, replica)?;
                State::Live(Live {
                    path: names.borrow_mut().path(conn, path)?,
                    kind,
                    content: ContentHash::from_bytes(content),
                    bytes,
                    keys,
                    tags,
                })
            }
        };
        let version = Arc::new(Version {
            note: NoteId::from_bytes(row.get(2)?),
            parents: rest.parents,
            clock: rest.clock,
            stamp: rest.stamp,
            author: rest.author,
            state,
        });
        self.versions.put(id, Arc::clone(&version), 1);
        Ok(Stored { seq, id, version })
    }

    /// The known version with this id.
    pub(crate) fn find(
        &mut self,
        conn: &Connection,
        id: &VersionId,
    ) -> Result<Option<Stored>, Fault> {
        let mut select = conn.prepare_cached(&format!(
            "{SELECT_VERSION} WHERE substr(v.id, 1, 5) = ?1 AND v.id = ?2 AND v.rest IS NOT NULL"
        ))?;
        let mut rows = select.query((&id.as_bytes()[..PREFIX], id.as_bytes()))?;
        match rows.next()? {
            Some(row) => self.version(conn, row).map(Some),
            None => Ok(None),
        }
    }
}

fn front(
    conn: &Connection,
    k: Option<i64>,
    replica: impl FnMut(u64) -> Result<ReplicaId, Fault>,
) -> Result<(KeyStamps, TagDots), Fault> {
    let Some(k) = k else { return Ok(Default::default()) };
    let mut select = conn.prepare_cached("SELECT body FROM fronts WHERE k = ?1")?;
    let body: Option<Vec<u8>> = select.query_row([k], |row| row.get(0)).optional()?;
    let body = body.ok_or(Fault::Damaged("versions name frontmatter that is there"))?;
    version_row::decode_front(&body, replica)
}

/// The id at a position, of forgotten versions too.
pub(crate) fn id_at(conn: &Connection, seq: u64) -> Result<VersionId, Fault> {
    let mut select = conn.prepare_cached("SELECT id FROM versions WHERE seq = ?1")?;
    let id: Option<[u8; 32]> = select.query_row([seq as i64], |row| row.get(0)).optional()?;
    let id = id.ok_or(Fault::Damaged("rows name versions that are there"))?;
    Ok(VersionId::from_bytes(id))
}

/// The integer of a note that has versions.
pub(crate) fn note_k(conn: &Connection, note: &NoteId) -> Result<Option<i64>, Fault> {
    let mut select = conn.prepare_cached(
        "SELECT k FROM notes
         WHERE substr(id, 1, 5) = ?1 AND id = ?2 AND newest IS NOT NULL",
    )?;
    let key = (&note.as_bytes()[..PREFIX], note.as_bytes());
    Ok(select.query_row(key, |row| row.get(0)).optional()?)
}

fn version_id(row: &Row<'_>) -> rusqlite::Result<VersionId> {
    Ok(VersionId::from_bytes(row.get(0)?))
}

/// A position as SQLite holds it; positions beyond are none we gave.
fn position(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn at_most(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn state(open: bool) -> ConflictState {
    if open { ConflictState::Open } else { ConflictState::Closed }
}

/// An open read transaction; ends when dropped, which changes nothing.
struct Reading<'c>(&'c Connection);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.execute_batch("ROLLBACK") {
            debug_assert!(self.0.is_autocommit(), "a read transaction ends: {error}");
        }
    }
}

impl Repo for VaultDb {
    type Error = StoreError;

    fn reading<T>(&self, read: impl FnOnce() -> T) -> T {
        // Inside another one it adds nothing, and one that cannot begin costs nothing but time.
        let begins = self.conn.is_autocommit() && self.conn.execute_batch("BEGIN").is_ok();
        let _reading = begins.then(|| Reading(&self.conn));
        read()
    }

    fn root(&self) -> Result<Option<RootHash>, StoreError> {
        let root = self.one("SELECT root FROM vault", [], |row| row.get(0))?;
        let root = root.flatten().map(RootHash::from_bytes);
        // A tree whose last note was taken back is as one that never had any.
        Ok(root.filter(|root| *root != RootHash::empty()))
    }

    fn seq(&self) -> Result<Seq, StoreError> {
        let seq: Option<i64> = self.one("SELECT seq FROM vault", [], |row| row.get(0))?;
        Ok(Seq(seq.unwrap_or(0) as u64))
    }

    fn version(&self, id: &VersionId) -> Result<Option<Arc<Version>>, StoreError> {
        self.read(|conn, seen| {
            if let Some(version) = seen.versions.get(id, |_| 1) {
                return Ok(Some(version));
            }
            Ok(seen.find(conn, id)?.map(|stored| stored.version))
        })
    }

    fn heads(&self, note: &NoteId) -> Result<Vec<VersionId>, StoreError> {
        self.read(|conn, _| {
            let mut select = conn.prepare_cached(
                "SELECT heads FROM notes WHERE substr(id, 1, 5) = ?1 AND id = ?2",
            )?;
            let key = (&note.as_bytes()[..PREFIX], note.as_bytes());
            let heads: Option<Value> = select.query_row(key, |row| row.get(0)).optional()?;
            let seqs = decode_heads(heads.unwrap_or(Value::Null))?;
            let mut heads = Vec::with_capacity(seqs.len());
            for seq in seqs {
                heads.push(id_at(conn, seq)?);
            }
            heads.sort_unstable();
            Ok(heads)
        })
    }

    fn content(&self, hash: &ContentHash) -> Result<Option<Arc<[u8]>>, StoreError> {
        self.read(|conn, seen| seen.decoded.read(conn, hash))
    }

    fn pack_place(&self, hash: &ContentHash) -> Result<Option<PackPlace>, StoreError> {
        self.read(|conn, _| contents::pack_place(conn, hash))
    }

    fn pack_of(&self, hash: &ContentHash) -> Result<Option<(PackPlace, Pack)>, StoreError> {
        self.read(|conn, _| contents::pack_of(conn, hash))
    }

    fn has_inline(&self, hash: &ContentHash) -> Result<bool, StoreError> {
        self.read(|conn, _| contents::is_here(conn, hash))
    }

    fn has_content(&self, hash: &ContentHash) -> Result<bool, StoreError> {
        self.read(|conn, _| Ok(contents::is_here(conn, hash)? || self.blobs.size(hash)?.is_some()))
    }

    fn node(&self, hash: &NodeHash) -> Result<Option<Vec<u8>>, StoreError> {
        self.one(
            "SELECT body FROM nodes WHERE substr(hash, 1, 5) = ?1 AND hash = ?2",
            (&hash.as_bytes()[..PREFIX], hash.as_bytes()),
            |row| row.get(0),
        )
    }

    fn seq_of_root(&self, root: &RootHash) -> Result<Option<Seq>, StoreError> {
        let seq: Option<i64> =
            self.one("SELECT seq FROM roots WHERE key = ?1", [root_key(root.as_bytes())], |row| {
                row.get(0)
            })?;
        Ok(seq.map(|seq| Seq(seq as u64)))
    }

    fn changed(
        &self,
        after: Seq,
        until: Seq,
        limit: usize,
    ) -> Result<Vec<(Seq, NoteId)>, StoreError> {
        self.list(
            "SELECT newest, id FROM notes WHERE newest > ?1 AND newest <= ?2
             ORDER BY newest LIMIT ?3",
            (position(after.0), position(until.0), at_most(limit)),
            |row| Ok((Seq(row.get::<_, i64>(0)? as u64), NoteId::from_bytes(row.get(1)?))),
        )
    }

    fn newest_at(&self, note: &NoteId, at: Seq) -> Result<Option<VersionId>, StoreError> {
        let Some(k) = self.read(|conn, _| note_k(conn, note))? else { return Ok(None) };
        self.one(
            "SELECT id FROM versions WHERE note = ?1 AND seq <= ?2 ORDER BY seq DESC LIMIT 1",
            (k, position(at.0)),
            version_id,
        )
    }

    fn versions_of(&self, note: &NoteId) -> Result<Vec<VersionId>, StoreError> {
        let Some(k) = self.read(|conn, _| note_k(conn, note))? else { return Ok(Vec::new()) };
        self.list("SELECT id FROM versions WHERE note = ?1 ORDER BY seq", [k], version_id)
    }

    fn versions_with_content(
        &self,
        note: &NoteId,
        content: &ContentHash,
    ) -> Result<Vec<VersionId>, StoreError> {
        let Some(k) = self.read(|conn, _| note_k(conn, note))? else { return Ok(Vec::new()) };
        self.list(
            "SELECT id FROM versions INDEXED BY versions_by_content
             WHERE content = (SELECT k FROM contents
                              WHERE substr(hash, 1, 5) = ?2 AND hash = ?3)
               AND note = ?1
             ORDER BY seq DESC LIMIT 16",
            (k, &content.as_bytes()[..PREFIX], content.as_bytes()),
            version_id,
        )
    }

    fn versions_by_prefix(&self, prefix: &[u8]) -> Result<Vec<VersionId>, StoreError> {
        if prefix.len() < 4 || prefix.len() > VersionId::LEN {
            return Ok(Vec::new());
        }
        let mut last = [0xff; VersionId::LEN];
        last[..prefix.len()].copy_from_slice(prefix);
        let mut first = [0; VersionId::LEN];
        first[..prefix.len()].copy_from_slice(prefix);
        self.list(
            "SELECT id FROM versions
             WHERE substr(id, 1, 5) BETWEEN ?1 AND ?2 AND id BETWEEN ?3 AND ?4
               AND rest IS NOT NULL
             ORDER BY id LIMIT 2",
            (&first[..PREFIX], &last[..PREFIX], first, last),
            version_id,
        )
    }

    fn counter(&self, replica: &ReplicaId) -> Result<u64, StoreError> {
        let counter: Option<i64> =
            self.one("SELECT counter FROM replicas WHERE id = ?1", [replica.as_bytes()], |row| {
                row.get(0)
            })?;
        Ok(counter.unwrap_or(0) as u64)
    }

    fn live_notes(&self) -> Result<u64, StoreError> {
        let live: Option<i64> = self.one("SELECT live FROM vault", [], |row| row.get(0))?;
        Ok(live.unwrap_or(0) as u64)
    }

    fn conflict(&self, id: &ConflictId) -> Result<Option<(Conflict, ConflictState)>, StoreError> {
        self.read(|conn, _| {
            let mut select =
                conn.prepare_cached("SELECT open, body FROM conflicts WHERE id = ?1")?;
            let mut rows = select.query([id.as_bytes()])?;
            let Some(row) = rows.next()? else { return Ok(None) };
            Ok(Some((decode_conflict(&row.get::<_, Vec<u8>>(1)?)?, state(row.get(0)?))))
        })
    }

    fn conflicts_after(&self, after: u64, limit: usize) -> Result<Vec<ConflictEvent>, StoreError> {
        self.read(|conn, _| {
            let mut select = conn.prepare_cached(
                "SELECT position, open, body FROM conflicts WHERE position > ?1
                 ORDER BY position LIMIT ?2",
            )?;
            let mut rows = select.query((position(after), at_most(limit)))?;
            let mut events = Vec::new();
            while let Some(row) = rows.next()? {
                let conflict = decode_conflict(&row.get::<_, Vec<u8>>(2)?)?;
                let position = row.get::<_, i64>(0)? as u64;
                events.push(ConflictEvent { position, conflict, state: state(row.get(1)?) });
            }
            Ok(events)
        })
    }

    fn open_conflicts(&self, limit: usize) -> Result<Vec<Conflict>, StoreError> {
        self.read(|conn, _| {
            let mut select = conn.prepare_cached(
                "SELECT body FROM conflicts WHERE open = 1 ORDER BY position LIMIT ?1",
            )?;
            let mut rows = select.query([at_most(limit)])?;
            let mut open = Vec::new();
            while let Some(row) = rows.next()? {
                open.push(decode_conflict(&row.get::<_, Vec<u8>>(0)?)?);
            }
            Ok(open)
        })
    }
}
