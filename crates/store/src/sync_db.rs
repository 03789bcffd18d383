//! [`SyncDb`]: a device's store, `.crucible/sync.db` and `.crucible/blobs` beside it.
//!
//! Invariant: what a round needs after a crash is in the same transaction as what it describes;
//! `synchronous=FULL` makes every commit durable before it returns, so that a request that was
//! sent and a file that was touched always have their row. Reads of the vault's part are in
//! `vault_db`, its writes in `write_batch`.

use std::path::Path;
use std::sync::Arc;

use crucible_core::conflict::Conflict;
use crucible_core::hash::ContentHash;
use crucible_core::id::{ConflictId, NoteId, ReplicaId, RootHash, VaultId, VersionId};
use crucible_core::vault_path::VaultPath;
use crucible_core::version::Kind;
use crucible_sync::replica::{
    Displaced, FileRow, FileStat, Placing, ReplicaBatch, ReplicaMeta, ReplicaStore,
};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Params, Row};

use crate::blob_store::{BlobStore, FileBlobs};
use crate::error::{Fault, OpenError, StoreError};
use crate::schema::{self, PREFIX, REPLICA_TABLES, VAULT_TABLES};
use crate::server_vault::BLOBS;
use crate::vault_db::VaultDb;
use crate::write_batch::{self, decode_conflict};

/// A device's store, open. Has one writer at a time (the vault's lock); others may read.
#[derive(Debug)]
pub struct SyncDb {
    pub(crate) db: VaultDb,
}

impl SyncDb {
    /// Opens the store of a folder that is a vault.
    ///
    /// # Errors
    /// [`OpenError`]; a file that is refused is left as it was.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Ok(Self::new(schema::open(path)?, path))
    }

    /// Creates the store of a folder; one that is there already keeps its facts and must be of
    /// the same vault.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn create(path: &Path, meta: &ReplicaMeta) -> Result<Self, OpenError> {
        let tables = [VAULT_TABLES, REPLICA_TABLES].concat();
        let conn = schema::create(path, &meta.vault, &tables, |conn| write_meta(conn, meta))?;
        Ok(Self::new(conn, path))
    }

    fn new(conn: Connection, path: &Path) -> Self {
        let folder = path.parent().unwrap_or(Path::new("."));
        let blobs: Arc<dyn BlobStore> = Arc::new(FileBlobs::new(folder.join(BLOBS)));
        Self { db: VaultDb::new(conn, path, blobs) }
    }

    /// Which version each file was last in step with, as far as a damaged database still tells.
    ///
    /// Nothing is changed by looking. Whoever uses it asks the versions themselves.
    pub fn salvaged_bases(path: &Path) -> Vec<(VaultPath, VersionId)> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut bases = Vec::new();
        // What cannot be read is what is damaged: the rows up to there are what there is.
        let Ok(conn) = Connection::open_with_flags(path, flags) else { return bases };
        let Ok(mut select) = conn.prepare("SELECT disk_path, version FROM files") else {
            return bases;
        };
        let Ok(mut rows) = select.query([]) else { return bases };
        while let Ok(Some(row)) = rows.next() {
            let (Ok(at), Ok(id)) = (row.get::<_, String>(0), row.get(1)) else { continue };
            bases.extend(VaultPath::new(&at).ok().map(|at| (at, VersionId::from_bytes(id))));
        }
        bases
    }

    /// Where the database is.
    pub fn path(&self) -> &Path {
        self.db.path()
    }

    /// The large assets beside it.
    pub fn blobs(&self) -> &Arc<dyn BlobStore> {
        self.db.blobs()
    }

    /// The open conflicts with the numbers that people call them by, lowest first; at most `limit`.
    ///
    /// A number is given once, when the conflict is first open here, and never to another one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn numbered_conflicts(&self, limit: usize) -> Result<Vec<(u64, Conflict)>, StoreError> {
        self.list(
            &format!(
                "SELECT n.number, c.body FROM conflict_numbers n JOIN conflicts c ON c.id = n.id
                 WHERE c.open = 1 ORDER BY n.number LIMIT {limit}"
            ),
            |row| Ok((row.get::<_, i64>(0)? as u64, decode_conflict(&row.get::<_, Vec<u8>>(1)?)?)),
        )
    }

    /// The conflict, open or closed, that has this number.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn conflict_of_number(&self, number: u64) -> Result<Option<ConflictId>, StoreError> {
        // A number beyond what SQLite counts to is nobody's.
        let number = i64::try_from(number).unwrap_or(0);
        self.one_of_conflict("SELECT id FROM conflict_numbers WHERE number = ?1", [number], |row| {
            Ok(ConflictId::from_bytes(row.get(0)?))
        })
    }

    /// The number of a conflict; `None` when it was never open here.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn number_of_conflict(&self, id: &ConflictId) -> Result<Option<u64>, StoreError> {
        let sql = "SELECT number FROM conflict_numbers WHERE id = ?1";
        self.one_of_conflict(sql, [id.as_bytes()], |row| Ok(row.get::<_, i64>(0)? as u64))
    }

    fn one_of_conflict<T>(
        &self,
        sql: &str,
        key: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, StoreError> {
        self.db.read(|conn, _| Ok(conn.prepare_cached(sql)?.query_row(key, read).optional()?))
    }

    fn list<T>(
        &self,
        sql: &str,
        mut read: impl FnMut(&Row<'_>) -> Result<T, Fault>,
    ) -> Result<Vec<T>, StoreError> {
        self.db.read(|conn, _| {
            let mut select = conn.prepare_cached(sql)?;
            let mut rows = select.query([])?;
            let mut list = Vec::new();
            while let Some(row) = rows.next()? {
                list.push(read(row)?);
            }
            Ok(list)
        })
    }
}

delegate_repo!(SyncDb, db);

impl ReplicaStore for SyncDb {
    fn meta(&self) -> Result<ReplicaMeta, StoreError> {
        self.db.read(|conn, _| read_meta(conn))
    }

    fn files(&self) -> Result<Vec<FileRow>, StoreError> {
        self.list(&format!("SELECT {FILE_COLUMNS} FROM files ORDER BY disk_path"), file_row)
    }

    fn file_of(&self, note: &NoteId) -> Result<Option<FileRow>, StoreError> {
        self.db.read(|conn, _| {
            let mut select = conn.prepare_cached(&format!(
                "SELECT {FILE_COLUMNS} FROM files WHERE substr(note, 1, 5) = ?1 AND note = ?2"
            ))?;
            let mut rows = select.query((&note.as_bytes()[..PREFIX], note.as_bytes()))?;
            rows.next()?.map(file_row).transpose()
        })
    }

    fn unsent(&self) -> Result<Vec<VersionId>, StoreError> {
        self.list(
            "SELECT v.id FROM unsent u JOIN versions v ON v.seq = u.seq ORDER BY u.seq",
            |row| Ok(VersionId::from_bytes(row.get(0)?)),
        )
    }

    fn unsettled(&self) -> Result<Vec<NoteId>, StoreError> {
        self.list("SELECT note FROM unsettled ORDER BY k", |row| {
            Ok(NoteId::from_bytes(row.get(0)?))
        })
    }

    fn placing(&self) -> Result<Vec<Placing>, StoreError> {
        self.list(
            "SELECT disk_path, note, version, origin, undo FROM placing ORDER BY disk_path",
            |row| {
                let from = row.get_ref(3)?.as_str_or_null().map_err(rusqlite::Error::from)?;
                Ok(Placing {
                    disk_path: path(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?)?,
                    note: NoteId::from_bytes(row.get(1)?),
                    version: row.get::<_, Option<[u8; 32]>>(2)?.map(VersionId::from_bytes),
                    from: from.map(path).transpose()?,
                    undo: row.get(4)?,
                })
            },
        )
    }

    fn displaced(&self) -> Result<Vec<Displaced>, StoreError> {
        self.list(
            "SELECT undo, note, version, content, round FROM displaced ORDER BY undo",
            |row| {
                Ok(Displaced {
                    undo: row.get(0)?,
                    note: NoteId::from_bytes(row.get(1)?),
                    version: VersionId::from_bytes(row.get(2)?),
                    content: ContentHash::from_bytes(row.get(3)?),
                    round: row.get::<_, i64>(4)? as u64,
                })
            },
        )
    }

    fn closed_unsent(&self) -> Result<Vec<ConflictId>, StoreError> {
        self.list("SELECT id FROM closed_unsent ORDER BY id", |row| {
            Ok(ConflictId::from_bytes(row.get(0)?))
        })
    }

    fn commit(&mut self, batch: &ReplicaBatch) -> Result<(), StoreError> {
        let applied = self.db.write(|tx| {
            let applied = write_batch::apply(tx, &batch.repo)?;
            for seq in &applied.dropped {
                run(tx, "DELETE FROM unsent WHERE seq = ?1", [*seq as i64])?;
            }
            number_conflicts(tx, batch)?;
            write_sending(tx, batch)?;
            write_files(tx, batch)?;
            write_journal(tx, batch)?;
            Ok(applied)
        })?;
        self.db.remember(&batch.repo, &applied);
        Ok(())
    }
}

/// Gives a number to what is open here for the first time.
fn number_conflicts(conn: &Connection, batch: &ReplicaBatch) -> Result<(), Fault> {
    for conflict in &batch.repo.conflicts {
        run(
            conn,
            "INSERT OR IGNORE INTO conflict_numbers (id)
             SELECT id FROM conflicts WHERE id = ?1 AND open = 1",
            [conflict.id.as_bytes()],
        )?;
    }
    Ok(())
}

fn write_sending(conn: &Connection, batch: &ReplicaBatch) -> Result<(), Fault> {
    if let Some(meta) = &batch.meta {
        write_meta(conn, meta)?;
    }
    for id in &batch.unsent {
        let seq = seq_of(conn, id)?.ok_or(Fault::Rule("an unsent version is known"))?;
        run(conn, "INSERT OR IGNORE INTO unsent VALUES (?1)", [seq])?;
    }
    for id in &batch.acked {
        if let Some(seq) = seq_of(conn, id)? {
            run(conn, "DELETE FROM unsent WHERE seq = ?1", [seq])?;
        }
    }
    for note in batch.repo.heads.iter().map(|(note, _)| note).chain(&batch.unsettled) {
        run(conn, "INSERT OR IGNORE INTO unsettled (note) VALUES (?1)", [note.as_bytes()])?;
    }
    for note in &batch.settled {
        run(conn, "DELETE FROM unsettled WHERE note = ?1", [note.as_bytes()])?;
    }
    for id in &batch.closed_unsent {
        run(conn, "INSERT OR IGNORE INTO closed_unsent VALUES (?1)", [id.as_bytes()])?;
    }
    for id in &batch.closed_acked {
        run(conn, "DELETE FROM closed_unsent WHERE id = ?1", [id.as_bytes()])?;
    }
    Ok(())
}

fn write_files(conn: &Connection, batch: &ReplicaBatch) -> Result<(), Fault> {
    for path in &batch.files_gone {
        run(conn, "DELETE FROM files WHERE disk_path = ?1", [path.as_str()])?;
    }
    for row in &batch.files {
        let note = row.note.as_bytes();
        let key = (&note[..PREFIX], note, row.disk_path.as_str());
        run(
            conn,
            "DELETE FROM files WHERE substr(note, 1, 5) = ?1 AND note = ?2 AND disk_path <> ?3",
            key,
        )?;
        run(
            conn,
            "INSERT OR REPLACE INTO files VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            (
                row.disk_path.as_str(),
                note,
                row.version.as_bytes(),
                row.content.as_bytes(),
                i64::from(row.kind == Kind::Asset),
                row.stat.bytes as i64,
                row.stat.mtime_ns,
                row.stat.ctime_ns,
                row.stat.inode as i64,
                row.stat.device as i64,
                row.seen_ns,
            ),
        )?;
    }
    Ok(())
}

fn write_journal(conn: &Connection, batch: &ReplicaBatch) -> Result<(), Fault> {
    for path in &batch.placed {
        run(conn, "DELETE FROM placing WHERE disk_path = ?1", [path.as_str()])?;
    }
    for row in &batch.placing {
        run(
            conn,
            "INSERT OR REPLACE INTO placing VALUES (?1, ?2, ?3, ?4, ?5)",
            (
                row.disk_path.as_str(),
                row.note.as_bytes(),
                row.version.as_ref().map(VersionId::as_bytes),
                row.from.as_ref().map(VaultPath::as_str),
                &row.undo,
            ),
        )?;
    }
    for undo in &batch.retired {
        run(conn, "DELETE FROM displaced WHERE undo = ?1", [undo])?;
    }
    for row in &batch.displaced {
        run(
            conn,
            "INSERT OR REPLACE INTO displaced VALUES (?1, ?2, ?3, ?4, ?5)",
            (
                &row.undo,
                row.note.as_bytes(),
                row.version.as_bytes(),
                row.content.as_bytes(),
                row.round as i64,
            ),
        )?;
    }
    Ok(())
}

fn run(conn: &Connection, sql: &str, values: impl Params) -> Result<(), Fault> {
    conn.prepare_cached(sql)?.execute(values)?;
    Ok(())
}

fn seq_of(conn: &Connection, id: &VersionId) -> Result<Option<i64>, Fault> {
    let mut select = conn.prepare_cached(
        "SELECT seq FROM versions WHERE substr(id, 1, 5) = ?1 AND id = ?2 AND rest IS NOT NULL",
    )?;
    let key = (&id.as_bytes()[..PREFIX], id.as_bytes());
    Ok(select.query_row(key, |row| row.get(0)).optional()?)
}

const FILE_COLUMNS: &str = "disk_path, note, version, content, kind, bytes, mtime_ns, ctime_ns, \
                            inode, device, seen_ns";

fn file_row(row: &Row<'_>) -> Result<FileRow, Fault> {
    Ok(FileRow {
        disk_path: path(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?)?,
        note: NoteId::from_bytes(row.get(1)?),
        version: VersionId::from_bytes(row.get(2)?),
        content: ContentHash::from_bytes(row.get(3)?),
        kind: if row.get(4)? { Kind::Asset } else { Kind::Note },
        stat: FileStat {
            bytes: row.get::<_, i64>(5)? as u64,
            mtime_ns: row.get(6)?,
            ctime_ns: row.get(7)?,
            inode: row.get::<_, i64>(8)? as u64,
            device: row.get::<_, i64>(9)? as u64,
        },
        seen_ns: row.get(10)?,
    })
}

fn path(text: &str) -> Result<VaultPath, Fault> {
    VaultPath::new(text).map_err(|_| Fault::Damaged("paths are vault paths"))
}

fn read_meta(conn: &Connection) -> Result<ReplicaMeta, Fault> {
    let mut select = conn.prepare_cached(
        "SELECT v.id, r.id, r.counter, r.acked_counter, r.ticks, r.clock_correction_ms,
                r.common_root, r.pulled, r.conflicts_seen, r.rounds, r.names, r.joined
         FROM replica r JOIN vault v",
    )?;
    let meta = select.query_row([], |row| {
        let count = |column: usize| row.get::<_, i64>(column).map(|value| value as u64);
        Ok(ReplicaMeta {
            vault: VaultId::from_bytes(row.get(0)?),
            replica: ReplicaId::from_bytes(row.get(1)?),
            counter: count(2)?,
            acked_counter: count(3)?,
            ticks: count(4)?,
            clock_correction_ms: row.get(5)?,
            common_root: row.get::<_, Option<[u8; 32]>>(6)?.map(RootHash::from_bytes),
            pulled: row.get::<_, Option<i64>>(7)?.map(|position| position as u64),
            conflicts_seen: count(8)?,
            rounds: count(9)?,
            names: count(10)?,
            joined: row.get(11)?,
        })
    })?;
    Ok(meta)
}

fn write_meta(conn: &Connection, meta: &ReplicaMeta) -> Result<(), Fault> {
    run(conn, "UPDATE vault SET id = ?1 WHERE id <> ?1", [meta.vault.as_bytes()])?;
    run(
        conn,
        "INSERT OR REPLACE INTO replica
         VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        (
            meta.replica.as_bytes(),
            meta.counter as i64,
            meta.acked_counter as i64,
            meta.ticks as i64,
            meta.clock_correction_ms,
            meta.common_root.as_ref().map(RootHash::as_bytes),
            meta.pulled.map(|position| position as i64),
            meta.conflicts_seen as i64,
            meta.rounds as i64,
            meta.names as i64,
            meta.joined,
        ),
    )
}
