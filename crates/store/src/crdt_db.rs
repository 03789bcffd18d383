//! `crdt.db`: what of live sessions outlives the server. [`Stored`] says what it means, row by row.
//!
//! Invariant: after every commit, `load` gives exactly what [`Stored::apply`] would have made of
//! the same writes; a commit is one transaction, over as many sessions as it brings.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crucible_core::hash::ContentHash;
use crucible_core::id::{DeviceId, NoteId, UserId, VaultId, VersionId};
use crucible_live::documents::Version;
use crucible_live::room::{Flushed, Intent, Person, PersonNo, Record, Write};
use crucible_live::stored::Stored;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};

use crate::backup::{BackupError, copy_database};
use crate::error::{Fault, OpenError, StoreError, intact};
use crate::schema::{Brand, damage, make_private, peek_at};
use crate::varint::{Reader, put};

/// "CruL", and the format this release writes.
const BRAND: Brand = Brand { application: 0x4372_754c, format: 1 };
/// How long to wait for another process, in milliseconds.
const BUSY_MS: u64 = 5_000;

const TABLES: &str = "
CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    vault BLOB NOT NULL,
    note BLOB NOT NULL,
    epoch TEXT NOT NULL,
    opened_ms INTEGER NOT NULL,
    base BLOB NOT NULL,
    hash BLOB NOT NULL,
    at BLOB NOT NULL,
    turn INTEGER NOT NULL,
    intent_base BLOB,
    intent_stored BLOB,
    intent_hash BLOB,
    intent_at BLOB,
    intent_turn INTEGER,
    snapshot BLOB NOT NULL,
    snapshot_turn INTEGER NOT NULL,
    editors BLOB NOT NULL
) STRICT;
CREATE TABLE people (
    session TEXT NOT NULL,
    no INTEGER NOT NULL,
    user BLOB NOT NULL,
    device BLOB NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (session, no)
) STRICT, WITHOUT ROWID;
CREATE TABLE authors (
    session TEXT NOT NULL,
    peer INTEGER NOT NULL,
    person INTEGER NOT NULL,
    PRIMARY KEY (session, peer)
) STRICT, WITHOUT ROWID;
CREATE TABLE journal (
    session TEXT NOT NULL,
    turn INTEGER NOT NULL,
    records BLOB NOT NULL,
    PRIMARY KEY (session, turn)
) STRICT;
";

/// A session of a note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The note's vault.
    pub vault: VaultId,
    /// The note.
    pub note: NoteId,
    /// When it began, in milliseconds since 1970.
    pub opened_ms: u64,
    /// The rest.
    pub stored: Stored,
}

/// The sessions of a server.
#[derive(Debug)]
pub struct CrdtDb {
    connection: Connection,
    path: PathBuf,
}

impl CrdtDb {
    /// Opens the database at `path`, or creates it.
    ///
    /// # Errors
    /// [`OpenError`]; a file of a newer format, or of something else, is not touched.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        peek_at(path, &BRAND)?;
        let open = || -> Result<Connection, Fault> {
            let mut connection = Connection::open(path)?;
            connection.busy_timeout(Duration::from_millis(BUSY_MS))?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let format: u32 = tx.pragma_query_value(None, "user_version", |row| row.get(0))?;
            if format == 0 {
                tx.execute_batch(TABLES)?;
                tx.pragma_update(None, "application_id", BRAND.application)?;
                tx.pragma_update(None, "user_version", BRAND.format)?;
            }
            tx.commit()?;
            Ok(connection)
        };
        let connection = open().map_err(|fault| OpenError::Store(fault.at(path)))?;
        Ok(Self { connection, path: path.to_owned() })
    }

    /// Adds a session.
    ///
    /// # Errors
    /// [`StoreError`]; then it is not there.
    pub fn create(&mut self, session: &Session) -> Result<(), StoreError> {
        self.write(|tx| insert(tx, session))
    }

    /// Takes writes of any number of sessions: all of them, or none. Those of sessions that are
    /// not there are passed over.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn commit(&mut self, writes: &[(String, Write)]) -> Result<(), StoreError> {
        self.write(|tx| writes.iter().try_for_each(|(session, write)| apply(tx, session, write)))
    }

    /// A session as it is.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn load(&self, session: &str) -> Result<Option<Session>, StoreError> {
        load(&self.connection, session).map_err(|fault| fault.at(&self.path))
    }

    /// The names of all sessions, in order.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn all(&self) -> Result<Vec<String>, StoreError> {
        let all = || -> Result<Vec<String>, Fault> {
            let mut select = self.connection.prepare("SELECT id FROM sessions ORDER BY id")?;
            let rows = select.query_map([], |row| row.get(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        };
        all().map_err(|fault| fault.at(&self.path))
    }

    /// What is wrong with the database, in words; nothing, when it is as it should be.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn check(&self) -> Result<Vec<String>, StoreError> {
        let damage = damage(&self.connection, "integrity_check");
        let mut found = damage.map_err(|fault| fault.at(&self.path))?;
        if found.is_empty() {
            for id in self.all()? {
                if let Err(error) = self.load(&id) {
                    found.push(format!("the session {id} cannot be read: {error}"));
                }
            }
        }
        Ok(found)
    }

    /// Copies it to a file that is not there, while it is in use.
    ///
    /// # Errors
    /// [`BackupError`]
    pub fn backup(&self, to: &Path) -> Result<(), BackupError> {
        copy_database(&self.connection, &self.path, to)?;
        make_private(to).map_err(|source| BackupError::Io { path: to.to_owned(), source })
    }

    fn write(
        &mut self,
        change: impl FnOnce(&Transaction<'_>) -> Result<(), Fault>,
    ) -> Result<(), StoreError> {
        let connection = &mut self.connection;
        let run = || -> Result<(), Fault> {
            let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            change(&tx)?;
            Ok(tx.commit()?)
        };
        run().map_err(|fault| fault.at(&self.path))
    }
}

fn insert(tx: &Transaction<'_>, session: &Session) -> Result<(), Fault> {
    let Session { vault, note, opened_ms, stored } = session;
    let flushed = &stored.flushed;
    tx.prepare_cached(
        "INSERT INTO sessions (id, vault, note, epoch, opened_ms, base, hash, at, turn,
                               snapshot, snapshot_turn, editors)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )?
    .execute(params![
        stored.id,
        vault.as_bytes(),
        note.as_bytes(),
        stored.epoch,
        number(*opened_ms),
        flushed.base.as_bytes(),
        flushed.hash.as_bytes(),
        flushed.at.0,
        number(flushed.turn),
        stored.snapshot,
        number(stored.snapshot_turn),
        put_people(&stored.editors),
    ])?;
    let rest = Write {
        people: stored.people.iter().cloned().enumerate().map(|(no, p)| (no as u32, p)).collect(),
        authors: stored.authors.iter().map(|(peer, person)| (*peer, *person)).collect(),
        intent: stored.intent.clone(),
        ..Write::default()
    };
    apply(tx, &stored.id, &rest)?;
    for (turn, records) in &stored.turns {
        let write = Write { turn: Some((*turn, records.clone())), ..Write::default() };
        apply(tx, &stored.id, &write)?;
    }
    Ok(())
}

/// The same as [`Stored::apply`], in the same order.
fn apply(tx: &Transaction<'_>, session: &str, write: &Write) -> Result<(), Fault> {
    if write.over {
        for (table, key) in [
            ("sessions", "id"),
            ("people", "session"),
            ("authors", "session"),
            ("journal", "session"),
        ] {
            tx.prepare_cached(&format!("DELETE FROM {table} WHERE {key} = ?1"))?
                .execute([session])?;
        }
        return Ok(());
    }
    let is_there = tx.prepare_cached("SELECT 1 FROM sessions WHERE id = ?1")?.exists([session])?;
    if !is_there {
        return Ok(());
    }
    for (no, person) in &write.people {
        tx.prepare_cached("INSERT INTO people VALUES (?1, ?2, ?3, ?4, ?5)")?.execute(params![
            session,
            no,
            person.user.as_bytes(),
            person.device.as_bytes(),
            person.name,
        ])?;
    }
    for (peer, person) in &write.authors {
        // Peers use all 64 bits.
        tx.prepare_cached("INSERT OR REPLACE INTO authors VALUES (?1, ?2, ?3)")?
            .execute(params![session, peer.cast_signed(), person])?;
    }
    if let Some((turn, records)) = &write.turn {
        tx.prepare_cached("INSERT OR REPLACE INTO journal VALUES (?1, ?2, ?3)")?
            .execute(params![session, number(*turn), put_records(records)])?;
    }
    if let Some(flushed) = &write.flushed {
        flush(tx, session, flushed)?;
    }
    if let Some(intent) = &write.intent {
        tx.prepare_cached(
            "UPDATE sessions SET intent_base = ?2, intent_stored = ?3, intent_hash = ?4,
                                 intent_at = ?5, intent_turn = ?6 WHERE id = ?1",
        )?
        .execute(params![
            session,
            intent.base.as_bytes(),
            intent.stored.as_bytes(),
            intent.hash.as_bytes(),
            intent.at.0,
            number(intent.turn),
        ])?;
    }
    if let Some((turn, snapshot)) = &write.snapshot {
        compact(tx, session, *turn, snapshot)?;
    }
    Ok(())
}

fn flush(tx: &Transaction<'_>, session: &str, flushed: &Flushed) -> Result<(), Fault> {
    tx.prepare_cached(
        "UPDATE sessions SET base = ?2, hash = ?3, at = ?4, turn = ?5, intent_base = NULL,
                intent_stored = NULL, intent_hash = NULL, intent_at = NULL, intent_turn = NULL,
                editors = iif(?5 >= snapshot_turn, x'', editors)
         WHERE id = ?1",
    )?
    .execute(params![
        session,
        flushed.base.as_bytes(),
        flushed.hash.as_bytes(),
        flushed.at.0,
        number(flushed.turn),
    ])?;
    Ok(())
}

fn compact(tx: &Transaction<'_>, session: &str, turn: u64, snapshot: &[u8]) -> Result<(), Fault> {
    let Some(before) = load(tx, session)? else { return Ok(()) };
    tx.prepare_cached(
        "UPDATE sessions SET snapshot = ?2, snapshot_turn = ?3, editors = ?4 WHERE id = ?1",
    )?
    .execute(params![
        session,
        snapshot,
        number(turn),
        put_people(&before.stored.editors())
    ])?;
    tx.prepare_cached("DELETE FROM journal WHERE session = ?1 AND turn <= ?2")?
        .execute(params![session, number(turn)])?;
    Ok(())
}

fn load(db: &Connection, id: &str) -> Result<Option<Session>, Fault> {
    let mut select = db.prepare_cached("SELECT * FROM sessions WHERE id = ?1")?;
    let Some(read) = select.query_row([id], |row| Ok(session(row))).optional()? else {
        return Ok(None);
    };
    let mut session = read?;
    let stored = &mut session.stored;
    let mut select = db.prepare_cached("SELECT * FROM people WHERE session = ?1 ORDER BY no")?;
    let mut rows = select.query([id])?;
    while let Some(row) = rows.next()? {
        let no: u32 = row.get("no")?;
        intact(no as usize == stored.people.len(), "the people of a session are counted")?;
        stored.people.push(Person {
            user: id_of(row, "user", UserId::from_slice)?,
            device: id_of(row, "device", DeviceId::from_slice)?,
            name: row.get("name")?,
        });
    }
    let mut select = db.prepare_cached("SELECT peer, person FROM authors WHERE session = ?1")?;
    let mut rows = select.query([id])?;
    while let Some(row) = rows.next()? {
        stored.authors.insert(row.get::<_, i64>(0)?.cast_unsigned(), row.get(1)?);
    }
    let mut select =
        db.prepare_cached("SELECT turn, records FROM journal WHERE session = ?1 ORDER BY turn")?;
    let mut rows = select.query([id])?;
    while let Some(row) = rows.next()? {
        let records: Vec<u8> = row.get(1)?;
        stored.turns.insert(unsigned(row, "turn")?, get_records(&records)?);
    }
    Ok(Some(session))
}

fn session(row: &Row<'_>) -> Result<Session, Fault> {
    let intent = match row.get::<_, Option<Vec<u8>>>("intent_base")? {
        None => None,
        Some(_) => Some(Intent {
            base: id_of(row, "intent_base", VersionId::from_slice)?,
            stored: id_of(row, "intent_stored", ContentHash::from_slice)?,
            hash: id_of(row, "intent_hash", ContentHash::from_slice)?,
            at: Version(row.get("intent_at")?),
            turn: unsigned(row, "intent_turn")?,
        }),
    };
    let editors: Vec<u8> = row.get("editors")?;
    let stored = Stored {
        id: row.get("id")?,
        epoch: row.get("epoch")?,
        flushed: Flushed {
            base: id_of(row, "base", VersionId::from_slice)?,
            hash: id_of(row, "hash", ContentHash::from_slice)?,
            at: Version(row.get("at")?),
            turn: unsigned(row, "turn")?,
        },
        intent,
        snapshot: row.get("snapshot")?,
        snapshot_turn: unsigned(row, "snapshot_turn")?,
        turns: Default::default(),
        people: Vec::new(),
        authors: Default::default(),
        editors: get_people(&editors)?,
    };
    Ok(Session {
        vault: id_of(row, "vault", VaultId::from_slice)?,
        note: id_of(row, "note", NoteId::from_slice)?,
        opened_ms: unsigned(row, "opened_ms")?,
        stored,
    })
}

fn id_of<T>(row: &Row<'_>, column: &str, read: fn(&[u8]) -> Option<T>) -> Result<T, Fault> {
    let bytes: Vec<u8> = row.get(column)?;
    read(&bytes).ok_or(Fault::Damaged("ids have their length"))
}

fn unsigned(row: &Row<'_>, column: &str) -> Result<u64, Fault> {
    u64::try_from(row.get::<_, i64>(column)?).map_err(|_| Fault::Damaged("numbers are positive"))
}

/// Turns and times are far below 2^63.
fn number(value: u64) -> i64 {
    value.cast_signed()
}

fn put_people(people: &[PersonNo]) -> Vec<u8> {
    let mut bytes = Vec::new();
    people.iter().for_each(|no| put(&mut bytes, u64::from(*no)));
    bytes
}

fn get_people(bytes: &[u8]) -> Result<Vec<PersonNo>, Fault> {
    let mut reader = Reader(bytes);
    let mut people = Vec::new();
    while !reader.0.is_empty() {
        people.push(person(reader.int()?)?);
    }
    Ok(people)
}

fn person(no: u64) -> Result<PersonNo, Fault> {
    PersonNo::try_from(no).map_err(|_| Fault::Damaged("the people of a session are counted"))
}

/// Each record: 0 for an edit from outside, else one more than the person's number; the length;
/// the update.
fn put_records(records: &[Record]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for Record { person, update } in records {
        put(&mut bytes, person.map_or(0, |no| u64::from(no) + 1));
        put(&mut bytes, update.len() as u64);
        bytes.extend(update);
    }
    bytes
}

fn get_records(bytes: &[u8]) -> Result<Vec<Record>, Fault> {
    let mut reader = Reader(bytes);
    let mut records = Vec::new();
    while !reader.0.is_empty() {
        let by = reader.int()?.checked_sub(1).map(person).transpose()?;
        let length = usize::try_from(reader.int()?).unwrap_or(usize::MAX);
        records.push(Record { person: by, update: reader.bytes(length)?.to_vec() });
    }
    Ok(records)
}

#[cfg(test)]
mod tests;
