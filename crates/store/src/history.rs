//! History read from the tables: revisions of the vault, of a note, or of a path.
//!
//! Invariant: a page costs its own size, whatever the history's; what a revision did is derived
//! from its parents, never stored.

use std::sync::Arc;

use crucible_core::id::{DeviceId, NoteId, UserId, VaultId, VersionId};
use crucible_core::vault_path::VaultPath;
use crucible_core::version::Version;
use crucible_sync::repo::Seq;
use rusqlite::{Connection, OptionalExtension, Row};

use crate::error::{Fault, StoreError};
use crate::interned;
use crate::server_repo::{
    Gone, History, Origin, REVISIONS_MAX, Revision, RevisionQuery, Scope, derive_op,
};
use crate::vault_db::{SELECT_VERSION, Seen, Stored, VaultDb, note_k};

impl History for VaultDb {
    fn revisions(&self, query: &RevisionQuery) -> Result<Vec<Revision>, StoreError> {
        let limit = query.limit.min(REVISIONS_MAX);
        let before = query.before.map_or(i64::MAX, |seq| i64::try_from(seq.0).unwrap_or(i64::MAX));
        self.read(|conn, seen| {
            let notes = match &query.scope {
                Scope::Vault => None,
                Scope::Note(note) => Some(note_k(conn, note)?.into_iter().collect()),
                Scope::Path(path) => Some(notes_with_name(conn, path)?),
            };
            let mut found = match notes {
                None => page(conn, seen, "v.seq < ?1 AND ?2 IS NULL", before, None, limit)?,
                Some(notes) => {
                    let mut found = Vec::new();
                    for note in notes {
                        let of_note = "v.seq < ?1 AND v.note = ?2";
                        found.extend(page(conn, seen, of_note, before, Some(note), limit)?);
                    }
                    found
                }
            };
            found.sort_unstable_by_key(|stored| std::cmp::Reverse(stored.seq));
            found.truncate(limit);
            found.into_iter().map(|stored| revision(conn, seen, stored)).collect()
        })
    }

    fn revision(&self, id: &VersionId) -> Result<Option<Revision>, StoreError> {
        self.read(|conn, seen| match seen.find(conn, id)? {
            Some(stored) => revision(conn, seen, stored).map(Some),
            None => Ok(None),
        })
    }

    fn notes_at(&self, path: &VaultPath) -> Result<Vec<NoteId>, StoreError> {
        self.read(|conn, _| {
            let mut select =
                conn.prepare_cached("SELECT id FROM notes WHERE k = ?1 AND newest IS NOT NULL")?;
            let mut notes = Vec::new();
            for k in notes_with_name(conn, path)? {
                let id: Option<[u8; 32]> = select.query_row([k], |row| row.get(0)).optional()?;
                notes.extend(id.map(NoteId::from_bytes));
            }
            notes.sort_unstable();
            Ok(notes)
        })
    }

    fn deleted(&self, before: Option<Seq>, limit: usize) -> Result<Vec<Gone>, StoreError> {
        let limit = limit.min(REVISIONS_MAX);
        let before = before.map_or(i64::MAX, |seq| i64::try_from(seq.0).unwrap_or(i64::MAX));
        self.read(|conn, seen| {
            let mut select = conn.prepare_cached(
                "SELECT newest, k, id FROM notes INDEXED BY notes_by_newest
                 WHERE newest < ?1 AND live = 0 ORDER BY newest DESC LIMIT ?2",
            )?;
            let mut rows = select.query((before, limit as i64))?;
            let mut gone = Vec::new();
            while let Some(row) = rows.next()? {
                let (seq, k) = (row.get::<_, i64>(0)? as u64, row.get(1)?);
                gone.push(Gone {
                    seq: Seq(seq),
                    note: NoteId::from_bytes(row.get(2)?),
                    last: last_live(conn, seen, k)?,
                    origin: origin(conn, seq)?,
                });
            }
            Ok(gone)
        })
    }
}

/// The newest live version of a note; a few steps back, for deletions do not follow each other.
fn last_live(
    conn: &Connection,
    seen: &mut Seen,
    note: i64,
) -> Result<Option<(VersionId, Arc<Version>)>, Fault> {
    let mut select = conn.prepare_cached(&format!(
        "{SELECT_VERSION} WHERE v.note = ?1 AND v.path IS NOT NULL AND v.rest IS NOT NULL
         ORDER BY v.seq DESC LIMIT 1"
    ))?;
    let mut rows = select.query([note])?;
    match rows.next()? {
        Some(row) => seen.version(conn, row).map(|stored| Some((stored.id, stored.version))),
        None => Ok(None),
    }
}

/// The notes that ever had a name: those with a row that says so, and the one born there.
fn notes_with_name(conn: &Connection, path: &VaultPath) -> Result<Vec<i64>, Fault> {
    let Some(k) = interned::find_path(conn, path)? else { return Ok(Vec::new()) };
    let mut select = conn.prepare_cached("SELECT note FROM names WHERE path = ?1")?;
    let notes = select.query_map([k], |row| row.get(0))?;
    let mut notes: Vec<i64> = notes.collect::<Result<_, _>>()?;
    let vault = conn.query_row("SELECT id FROM vault", [], |row| row.get(0))?;
    let born = NoteId::derive(&VaultId::from_bytes(vault), path, 0);
    notes.extend(note_k(conn, &born)?);
    Ok(notes)
}

fn page(
    conn: &Connection,
    seen: &mut Seen,
    condition: &str,
    before: i64,
    note: Option<i64>,
    limit: usize,
) -> Result<Vec<Stored>, Fault> {
    let mut select = conn.prepare_cached(&format!(
        "{SELECT_VERSION} WHERE {condition} AND v.rest IS NOT NULL ORDER BY v.seq DESC LIMIT ?3"
    ))?;
    let mut rows = select.query((before, note, limit as i64))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(seen.version(conn, row)?);
    }
    Ok(found)
}

fn revision(conn: &Connection, seen: &mut Seen, stored: Stored) -> Result<Revision, Fault> {
    let Stored { seq, id, version } = stored;
    let mut parents = Vec::with_capacity(version.parents.len());
    for parent in &version.parents {
        parents.extend(seen.find(conn, parent)?.map(|parent| parent.version));
    }
    let earlier = match version.live() {
        Some(_) => had_before(conn, seq)?,
        None => false,
    };
    let (op, from) = derive_op(&version, &parents, || earlier);
    Ok(Revision { seq: Seq(seq), id, version, op, from, origin: origin(conn, seq)? })
}

/// Whether the note had the content of the version at `seq` before.
fn had_before(conn: &Connection, seq: u64) -> Result<bool, Fault> {
    let mut select = conn.prepare_cached(
        "SELECT 1 FROM versions v JOIN versions e INDEXED BY versions_by_content
            ON e.content = v.content AND e.note = v.note AND e.seq < v.seq
         WHERE v.seq = ?1 LIMIT 1",
    )?;
    Ok(select.exists([seq as i64])?)
}

fn origin(conn: &Connection, seq: u64) -> Result<Option<Origin>, Fault> {
    let mut select = conn.prepare_cached(
        "SELECT o.user, o.device, c.received_ms, o.address, c.first
         FROM commits c JOIN origins o ON o.k = c.origin
         WHERE c.first <= ?1 ORDER BY c.first DESC LIMIT 1",
    )?;
    let row = |row: &Row<'_>| {
        let origin = Origin {
            user: UserId::from_bytes(row.get(0)?),
            device: DeviceId::from_bytes(row.get(1)?),
            received_ms: row.get::<_, i64>(2)? as u64,
            address: row.get(3)?,
            others: Vec::new(),
        };
        Ok((origin, row.get::<_, i64>(4)?))
    };
    let Some((mut origin, first)) = select.query_row([seq as i64], row).optional()? else {
        return Ok(None);
    };
    let mut select =
        conn.prepare_cached("SELECT user, device FROM co_authors WHERE first = ?1 ORDER BY place")?;
    let other =
        |row: &Row<'_>| Ok((UserId::from_bytes(row.get(0)?), DeviceId::from_bytes(row.get(1)?)));
    origin.others = select.query_map([first], other)?.collect::<Result<_, _>>()?;
    Ok(Some(origin))
}
