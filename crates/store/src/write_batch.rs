//! Writes a [`Batch`] into the tables that device and server share, inside one transaction.
//!
//! Invariant: every rule of the contract that a wrong batch could break is checked here, and a
//! broken one rolls the whole transaction back. Read `Writer::apply` first.

use std::collections::{BTreeMap, HashMap, HashSet};

use crucible_core::conflict::Conflict;
use crucible_core::id::{ConflictId, NodeHash, NoteId, ReplicaId, RootHash, VaultId, VersionId};
use crucible_core::vault_path::VaultPath;
use crucible_core::version::{Live, Version};
use crucible_proto::{wire, zip};
use crucible_sync::repo::Batch;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row};

use crate::contents::Incoming;
use crate::error::{Fault, intact, rule};
use crate::interned::Interner;
use crate::schema::PREFIX;
use crate::varint::{Reader, put};
use crate::version_row::{self, Intern, Parent};

/// What an applied batch did that the caller records further.
pub(crate) struct Applied {
    /// The positions of new versions: from here…
    pub(crate) first: u64,
    /// …up to here; smaller than `first` when there are none.
    pub(crate) last: u64,
    /// Versions that are gone, with their positions.
    pub(crate) dropped: Vec<u64>,
}

/// Writes `batch`; the caller holds the transaction.
pub(crate) fn apply(conn: &Connection, batch: &Batch) -> Result<Applied, Fault> {
    let mut writer = Writer::new(conn, batch)?;
    writer.apply(batch)
}

struct Writer<'c> {
    conn: &'c Connection,
    vault: VaultId,
    interner: Interner<'c>,
    contents: Incoming<'c>,
    notes: HashMap<NoteId, Note>,
    new: HashMap<VersionId, NewVersion>,
    facts: Facts,
    last_note: Option<i64>,
}

/// The row of `vault`, without what never changes.
#[derive(Clone, PartialEq, Eq)]
struct Facts {
    root: Option<Vec<u8>>,
    seq: u64,
    conflict_seq: u64,
    live: u64,
}

/// A row of `notes` while it changes.
#[derive(Clone)]
struct Note {
    k: i64,
    newest: Option<u64>,
    heads: Vec<u64>,
    live: bool,
    stored: bool,
    changed: bool,
}

/// A version of this batch.
#[derive(Clone, Copy)]
struct NewVersion {
    seq: u64,
    note: NoteId,
    live: bool,
    path: Option<i64>,
    front: Option<i64>,
}

/// A stored version, as far as writing its children needs it.
struct Ancestor {
    seq: u64,
    path: Option<i64>,
    front: Option<i64>,
}

impl Intern for Interner<'_> {
    fn replica(&mut self, replica: &ReplicaId, counter: u64) -> Result<u64, Fault> {
        self.replica_at(replica, counter)
    }
}

impl<'c> Writer<'c> {
    fn new(conn: &'c Connection, batch: &'c Batch) -> Result<Self, Fault> {
        let mut select =
            conn.prepare_cached("SELECT root, seq, conflict_seq, live, id FROM vault")?;
        let (facts, vault) = select.query_row([], |row| {
            let facts = Facts {
                root: row.get(0)?,
                seq: row.get::<_, i64>(1)? as u64,
                conflict_seq: row.get::<_, i64>(2)? as u64,
                live: row.get::<_, i64>(3)? as u64,
            };
            Ok((facts, VaultId::from_bytes(row.get(4)?)))
        })?;
        Ok(Self {
            conn,
            vault,
            interner: Interner::new(conn),
            contents: Incoming::new(conn, &batch.packs),
            notes: HashMap::new(),
            new: HashMap::new(),
            facts,
            last_note: None,
        })
    }

    fn apply(&mut self, batch: &Batch) -> Result<Applied, Fault> {
        let before = self.facts.clone();
        for content in &batch.contents {
            self.contents.add(content)?;
        }
        for (id, version) in &batch.versions {
            self.add_version(id, version)?;
        }
        let dropped = self.drop_versions(&batch.dropped)?;
        self.set_heads(batch)?;
        self.check_dropped_heads(&dropped)?;
        self.write_nodes(batch)?;
        if let Some(root) = batch.root {
            self.facts.root = Some(root.as_bytes().to_vec());
            let mut insert =
                self.conn.prepare_cached("INSERT OR REPLACE INTO roots VALUES (?1, ?2)")?;
            insert.execute((root_key(root.as_bytes()), self.facts.seq as i64))?;
        }
        for conflict in &batch.conflicts {
            self.open_conflict(conflict)?;
        }
        for id in &batch.closed {
            self.close_conflict(id)?;
        }
        self.interner.flush()?;
        self.write_notes()?;
        if self.facts != before {
            self.write_facts()?;
        }
        Ok(Applied { first: before.seq + 1, last: self.facts.seq, dropped })
    }

    fn add_version(&mut self, id: &VersionId, version: &Version) -> Result<(), Fault> {
        if self.new.contains_key(id) || self.facts.seq > 0 && self.is_known(id)? {
            return Ok(());
        }
        let seq = self.facts.seq + 1;
        let (parents, first) = self.parents(version)?;
        let rest = version_row::encode(version, seq, &parents, &mut self.interner)?;
        let note = self.note(&version.note)?.k;
        let (mut path, mut content, mut front) = (None, None, None);
        if let Some(live) = version.live() {
            let k = self.interner.path(&live.path)?;
            let former = first.as_ref().and_then(|parent| parent.path);
            if former != Some(k) && !is_birth_path(&self.vault, &version.note, &live.path) {
                let mut insert =
                    self.conn.prepare_cached("INSERT OR IGNORE INTO names VALUES (?1, ?2)")?;
                insert.execute([k, note])?;
            }
            path = Some(k);
            content = Some(self.contents.intern(&live.content, live.bytes)?);
            front = self.front(live, first.and_then(|parent| parent.front))?;
        }
        let mut insert = self.conn.prepare_cached(
            "INSERT INTO versions (seq, id, note, path, content, front, rest)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?;
        insert.execute((seq as i64, id.as_bytes(), note, path, content, front, rest))?;
        self.facts.seq = seq;
        let note = self.notes.get_mut(&version.note).expect("the note was looked up above");
        note.newest = Some(seq);
        note.changed = true;
        let live = path.is_some();
        self.new.insert(*id, NewVersion { seq, note: version.note, live, path, front });
        Ok(())
    }

    fn is_known(&self, id: &VersionId) -> Result<bool, Fault> {
        let mut select = self.conn.prepare_cached(
            "SELECT 1 FROM versions
             WHERE substr(id, 1, 5) = ?1 AND id = ?2 AND rest IS NOT NULL",
        )?;
        Ok(select.exists((&id.as_bytes()[..PREFIX], id.as_bytes()))?)
    }

    /// The parents by position where they are known, and the first of those.
    fn parents(&self, version: &Version) -> Result<(Vec<Parent>, Option<Ancestor>), Fault> {
        let mut parents = Vec::with_capacity(version.parents.len());
        let mut first = None;
        for id in &version.parents {
            match self.ancestor(id)? {
                Some(ancestor) => {
                    parents.push(Parent::Known(ancestor.seq));
                    first = first.or(Some(ancestor));
                }
                None => parents.push(Parent::Unknown(*id)),
            }
        }
        Ok((parents, first))
    }

    /// A version whose id is known, forgotten ones too.
    fn ancestor(&self, id: &VersionId) -> Result<Option<Ancestor>, Fault> {
        if let Some(new) = self.new.get(id) {
            return Ok(Some(Ancestor { seq: new.seq, path: new.path, front: new.front }));
        }
        let mut select = self.conn.prepare_cached(
            "SELECT seq, path, front FROM versions
             WHERE substr(id, 1, 5) = ?1 AND id = ?2 ORDER BY seq DESC",
        )?;
        let row = |row: &Row<'_>| {
            Ok(Ancestor {
                seq: row.get::<_, i64>(0)? as u64,
                path: row.get(1)?,
                front: row.get(2)?,
            })
        };
        Ok(select.query_row((&id.as_bytes()[..PREFIX], id.as_bytes()), row).optional()?)
    }

    /// The stamps and dots of a live state: the parent's row when they are the same.
    fn front(&mut self, live: &Live, parent: Option<i64>) -> Result<Option<i64>, Fault> {
        let Some(body) = version_row::encode_front(live, &mut self.interner)? else {
            return Ok(None);
        };
        if let Some(k) = parent {
            let mut select = self.conn.prepare_cached("SELECT body FROM fronts WHERE k = ?1")?;
            if select.query_row([k], |row| row.get::<_, Vec<u8>>(0))? == body {
                return Ok(Some(k));
            }
        }
        let mut insert = self.conn.prepare_cached("INSERT INTO fronts (body) VALUES (?1)")?;
        Ok(Some(insert.insert([body])?))
    }

    fn note(&mut self, id: &NoteId) -> Result<&mut Note, Fault> {
        if !self.notes.contains_key(id) {
            let note = match self.stored_note(id)? {
                Some(note) => note,
                None => Note {
                    k: self.next_note()?,
                    newest: None,
                    heads: Vec::new(),
                    live: false,
                    stored: false,
                    changed: true,
                },
            };
            self.notes.insert(*id, note);
        }
        Ok(self.notes.get_mut(id).expect("it was put there above"))
    }

    fn stored_note(&self, id: &NoteId) -> Result<Option<Note>, Fault> {
        let mut select = self.conn.prepare_cached(
            "SELECT k, newest, heads, live FROM notes WHERE substr(id, 1, 5) = ?1 AND id = ?2",
        )?;
        let mut rows = select.query((&id.as_bytes()[..PREFIX], id.as_bytes()))?;
        let Some(row) = rows.next()? else { return Ok(None) };
        Ok(Some(Note {
            k: row.get(0)?,
            newest: row.get::<_, Option<i64>>(1)?.map(|seq| seq as u64),
            heads: decode_heads(row.get(2)?)?,
            live: row.get(3)?,
            stored: true,
            changed: false,
        }))
    }

    fn next_note(&mut self) -> Result<i64, Fault> {
        let last = match self.last_note {
            Some(last) => last,
            None => {
                let mut select = self.conn.prepare_cached("SELECT max(k) FROM notes")?;
                select.query_row([], |row| row.get::<_, Option<i64>>(0))?.unwrap_or(0)
            }
        };
        self.last_note = Some(last + 1);
        Ok(last + 1)
    }

    fn drop_versions(&mut self, ids: &[VersionId]) -> Result<Vec<u64>, Fault> {
        let mut dropped = Vec::new();
        for id in ids {
            self.new.remove(id);
            let mut select = self.conn.prepare_cached(
                "SELECT v.seq, n.id FROM versions v JOIN notes n ON n.k = v.note
                 WHERE substr(v.id, 1, 5) = ?1 AND v.id = ?2 AND v.rest IS NOT NULL",
            )?;
            let key = (&id.as_bytes()[..PREFIX], id.as_bytes());
            let row = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, [u8; 32]>(1)?));
            let Some((seq, note)) = select.query_row(key, row).optional()? else { continue };
            forget_version(self.conn, seq as u64)?;
            dropped.push(seq as u64);
            let k = self.note(&NoteId::from_bytes(note))?.k;
            let mut newest =
                self.conn.prepare_cached("SELECT max(seq) FROM versions WHERE note = ?1")?;
            let newest: Option<i64> = newest.query_row([k], |row| row.get(0))?;
            let note = self.note(&NoteId::from_bytes(note))?;
            note.newest = newest.map(|seq| seq as u64);
            note.changed = true;
        }
        Ok(dropped)
    }

    fn set_heads(&mut self, batch: &Batch) -> Result<(), Fault> {
        for (id, heads) in &batch.heads {
            rule(heads.is_sorted_by(|a, b| a < b), "heads are sorted and unique")?;
            let mut seqs = Vec::with_capacity(heads.len());
            let mut any_live = false;
            for head in heads {
                let (seq, live) = self.head(id, head)?;
                any_live |= live;
                seqs.push(seq);
            }
            let note = self.note(id)?;
            let forgets = !heads.is_empty() || note.newest.is_none();
            rule(forgets, "only a note without versions has no heads")?;
            let before = note.live;
            note.heads = seqs;
            note.live = any_live;
            note.changed = true;
            self.facts.live = self.facts.live + u64::from(any_live) - u64::from(before);
        }
        Ok(())
    }

    fn head(&self, note: &NoteId, head: &VersionId) -> Result<(u64, bool), Fault> {
        const RULE: &str = "a head is a known version of its note";
        if let Some(new) = self.new.get(head) {
            rule(new.note == *note, RULE)?;
            return Ok((new.seq, new.live));
        }
        let mut select = self.conn.prepare_cached(
            "SELECT v.seq, v.path IS NOT NULL, n.id FROM versions v JOIN notes n ON n.k = v.note
             WHERE substr(v.id, 1, 5) = ?1 AND v.id = ?2 AND v.rest IS NOT NULL",
        )?;
        let key = (&head.as_bytes()[..PREFIX], head.as_bytes());
        let row = |row: &Row<'_>| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?, row.get::<_, [u8; 32]>(2)?))
        };
        let found = select.query_row(key, row).optional()?;
        let (seq, live, of) = found.ok_or(Fault::Rule(RULE))?;
        rule(of == *note.as_bytes(), RULE)?;
        Ok((seq as u64, live))
    }

    fn check_dropped_heads(&self, dropped: &[u64]) -> Result<(), Fault> {
        if dropped.is_empty() {
            return Ok(());
        }
        let dropped: HashSet<_> = dropped.iter().collect();
        let stale = self.notes.values().flat_map(|note| &note.heads).any(|s| dropped.contains(s));
        rule(!stale, "the note of a dropped head gets new heads")
    }

    /// New nodes take the rows of those that go: the table stays dense however often the tree
    /// changes.
    fn write_nodes(&self, batch: &Batch) -> Result<(), Fault> {
        let mut select = self
            .conn
            .prepare_cached("SELECT k FROM nodes WHERE substr(hash, 1, 5) = ?1 AND hash = ?2")?;
        let mut find = |hash: &NodeHash| {
            let key = (&hash.as_bytes()[..PREFIX], hash.as_bytes());
            select.query_row(key, |row| row.get::<_, i64>(0)).optional()
        };
        let added: HashSet<_> = batch.nodes_added.iter().map(|(hash, _)| hash).collect();
        let mut free = Vec::new();
        for hash in batch.nodes_removed.iter().filter(|hash| !added.contains(hash)) {
            free.extend(find(hash)?);
        }
        let mut insert =
            self.conn.prepare_cached("INSERT INTO nodes (hash, body) VALUES (?1, ?2)")?;
        let mut replace =
            self.conn.prepare_cached("UPDATE nodes SET hash = ?2, body = ?3 WHERE k = ?1")?;
        let mut free = free.into_iter();
        let empty = RootHash::empty().node();
        for (hash, body) in &batch.nodes_added {
            // The root of nothing is no root (`Repo::root`), so nobody would remove it again.
            if *hash == empty || find(hash)?.is_some() {
                continue;
            }
            match free.next() {
                Some(k) => replace.execute((k, hash.as_bytes(), body))?,
                None => insert.execute((hash.as_bytes(), body))?,
            };
        }
        let mut delete = self.conn.prepare_cached("DELETE FROM nodes WHERE k = ?1")?;
        for k in free {
            delete.execute([k])?;
        }
        Ok(())
    }

    fn open_conflict(&mut self, conflict: &Conflict) -> Result<(), Fault> {
        let mut insert = self.conn.prepare_cached(
            "INSERT OR IGNORE INTO conflicts (position, id, open, body) VALUES (?1, ?2, 1, ?3)",
        )?;
        let position = self.facts.conflict_seq + 1;
        let row = (position as i64, conflict.id.as_bytes(), encode_conflict(conflict));
        if insert.execute(row)? == 1 {
            self.facts.conflict_seq = position;
        }
        Ok(())
    }

    fn close_conflict(&mut self, id: &ConflictId) -> Result<(), Fault> {
        let mut update = self.conn.prepare_cached(
            "UPDATE conflicts SET open = 0, position = ?2 WHERE id = ?1 AND open = 1",
        )?;
        let position = self.facts.conflict_seq + 1;
        if update.execute((id.as_bytes(), position as i64))? == 1 {
            self.facts.conflict_seq = position;
        }
        Ok(())
    }

    fn write_notes(&mut self) -> Result<(), Fault> {
        let mut insert = self.conn.prepare_cached(
            "INSERT INTO notes (k, id, newest, heads, live) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        let mut update = self
            .conn
            .prepare_cached("UPDATE notes SET newest = ?2, heads = ?3, live = ?4 WHERE k = ?1")?;
        let changed = self.notes.iter().filter(|(_, note)| note.changed);
        let in_order: BTreeMap<_, _> = changed.map(|(id, note)| (note.k, (id, note))).collect();
        for (k, (id, note)) in in_order {
            let newest = note.newest.map(|seq| seq as i64);
            let heads = encode_heads(&note.heads);
            if note.stored {
                update.execute((k, newest, heads, note.live))?;
            } else if newest.is_some() {
                insert.execute((k, id.as_bytes(), newest, heads, note.live))?;
            }
        }
        Ok(())
    }

    fn write_facts(&self) -> Result<(), Fault> {
        let mut update = self
            .conn
            .prepare_cached("UPDATE vault SET root = ?1, seq = ?2, conflict_seq = ?3, live = ?4")?;
        let Facts { root, seq, conflict_seq, live } = &self.facts;
        update.execute((root, *seq as i64, *conflict_seq as i64, *live as i64))?;
        Ok(())
    }
}

/// Whether the note's id says by itself that it was born at `path`: most notes never had another
/// name, and need no row in `names`.
pub(crate) fn is_birth_path(vault: &VaultId, note: &NoteId, path: &VaultPath) -> bool {
    NoteId::derive(vault, path, 0) == *note
}

/// Forgets a version but not its id: others name it as their parent by its position.
pub(crate) fn forget_version(conn: &Connection, seq: u64) -> Result<(), Fault> {
    let mut update = conn.prepare_cached(
        "UPDATE versions SET note = NULL, path = NULL, content = NULL, front = NULL, rest = NULL
         WHERE seq = ?1",
    )?;
    update.execute([seq as i64])?;
    Ok(())
}

/// Roots are found by half of their hash: 128 bits tell apart all the roots a vault will have.
pub(crate) fn root_key(root: &[u8; 32]) -> &[u8] {
    &root[..16]
}

/// One head is an integer, several are a blob of integers.
fn encode_heads(seqs: &[u64]) -> Value {
    match seqs {
        [] => Value::Null,
        [only] => Value::Integer(*only as i64),
        several => {
            let mut row = Vec::new();
            for seq in several {
                put(&mut row, *seq);
            }
            Value::Blob(row)
        }
    }
}

/// The positions of a note's heads.
pub(crate) fn decode_heads(heads: Value) -> Result<Vec<u64>, Fault> {
    match heads {
        Value::Null => Ok(Vec::new()),
        Value::Integer(only) => Ok(vec![only as u64]),
        Value::Blob(row) => {
            let mut reader = Reader(&row);
            let mut seqs = Vec::new();
            while !reader.0.is_empty() {
                seqs.push(reader.int()?);
            }
            Ok(seqs)
        }
        _ => Err(Fault::Damaged("heads are positions")),
    }
}

/// A conflict record is kept as protocol 1 writes it, compressed.
const CONFLICT_ENCODING: u8 = 1;

fn encode_conflict(conflict: &Conflict) -> Vec<u8> {
    let raw = wire::encode(conflict);
    let mut body = vec![CONFLICT_ENCODING];
    put(&mut body, raw.len() as u64);
    body.extend_from_slice(&zip::zip(&raw));
    body
}

/// Reads a conflict record.
pub(crate) fn decode_conflict(body: &[u8]) -> Result<Conflict, Fault> {
    const RULE: &str = "conflict records decode";
    let mut reader = Reader(body);
    intact(reader.bytes(1)? == [CONFLICT_ENCODING], RULE)?;
    let bytes = reader.int()?;
    intact(bytes <= CONFLICT_BYTES_MAX, RULE)?;
    let raw = zip::unzip(reader.0, bytes as usize).map_err(|_| Fault::Damaged(RULE))?;
    wire::decode(&raw).map_err(|_| Fault::Damaged(RULE))
}

/// Three texts of the greatest size and their names.
const CONFLICT_BYTES_MAX: u64 = 4 * crucible_core::limits::NOTE_BYTES_MAX;
